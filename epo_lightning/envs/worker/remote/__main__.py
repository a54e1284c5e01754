"""`python remote SOCKET FILE BY_SIGNAL`: this folder, run by its path, serves a learner.

Its files are called after the simulators that they make. So it leaves the import path before anything is imported, and
is a package under a name that no other package has.
"""

from __future__ import annotations

import importlib.util
import os
import sys

NAME = "_epo_lightning_remote"


def load() -> None:
    """Make the folder the package `NAME`, and search the working folder first for the user's modules."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.getcwd(), *[place for place in sys.path if os.path.abspath(place) != here]]
    file = os.path.join(here, "__init__.py")
    spec = importlib.util.spec_from_file_location(NAME, file, submodule_search_locations=[here])
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load()
    importlib.import_module(NAME + ".main").main()
