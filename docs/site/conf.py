"""Sphinx's settings; `build.py` runs it on the tree that `sources.py` and `reference.py` lay out."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import docstrings  # noqa: E402  (on the path since the line above)
import references  # noqa: E402

from epo_lightning import __version__  # noqa: E402

project = "epo_lightning"
author = "The epo_lightning authors"
copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "index"
exclude_patterns = ["**/README.md"]
myst_heading_anchors = 4
highlight_language = "text"  # of drawings; a block of code says what it is
suppress_warnings = [
    "ref.python",  # an annotation whose short name two classes have
    "myst.header",  # a level of headings that is left out
    "misc.highlighting_failure",  # code with an ellipsis, or a magic of notebooks: it stays plain
]
smartquotes = False  # `--flag` is no dash

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "ignore-module-all": True, "show-inheritance": True}
add_module_names = False
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"epo_lightning {__version__}"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_use_index = True
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True


def setup(app: Sphinx) -> None:
    """What of docstrings and code in backticks Sphinx cannot know."""
    app.connect("autodoc-process-docstring", docstrings.tidy, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", docstrings.keep_values, priority=900)  # after it
    app.connect("autodoc-skip-member", docstrings.skip)
    app.connect("doctree-read", references.link_code)
    app.connect("html-page-context", references.finish)
