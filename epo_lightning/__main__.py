"""`python -m epo_lightning`."""

import sys

from epo_lightning.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
