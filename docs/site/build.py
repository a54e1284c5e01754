"""`python docs/site/build.py [FOLDER]`: the documentation as web pages, without a network; a warning is an error.

The pages are written to FOLDER/html, by default build/docs/html.
"""

import shutil
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main(out: Path) -> int:
    """Lay the pages out, then run Sphinx on them.

    Args:
        out: Made anew.

    Returns:
        Sphinx's exit code.
    """
    sys.path[:0] = [str(HERE), str(ROOT)]
    warnings.filterwarnings("ignore")  # of the libraries that the package imports
    import reference
    import sources
    from sphinx.cmd.build import main as sphinx

    shutil.rmtree(out, ignore_errors=True)
    pages = out / "pages"
    pages.mkdir(parents=True)
    reference.write(pages)
    sources.lay_out(pages)
    html = out / "html"
    code = sphinx(["-q", "-W", "--keep-going", "-c", str(HERE), "-d", str(out / "doctrees"), str(pages), str(html)])
    if not code:
        print(f"Open {html / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"))
