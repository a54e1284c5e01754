"""Code in backticks leads to the reference: `algorithm.losses.hybrid_loss` on a page is a link."""

import pkgutil
import re
from functools import cache
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

_DOTTED = re.compile(r"(?:epo_lightning\.)?([a-z]\w*(?:\.\w+)+)(?:\(\))?")
_WORD = re.compile(r"(<span class=\"pre\">)([^<]+)</span>")
_NO_BASE = re.compile(r"<p>Bases: <code[^>]*><span class=\"pre\">object</span></code></p>")
_DASH = re.compile(r"(</strong>|</em>\)|</a>) -- ")
_SEAM = re.compile(r"(?<=[\w:][._/:])(?=[a-zA-Z])")
_FILE = re.compile(r"epo_lightning/([\w/]+)\.py")


def link_code(app: Sphinx, doctree: nodes.document) -> None:
    """Turn literals that name a module, a class or a function of the package into links."""
    if app.env.docname.startswith("api/"):
        return
    for literal in [*doctree.findall(nodes.literal)]:
        if isinstance(literal.parent, nodes.reference | addnodes.pending_xref | nodes.title):
            continue
        target = documented(literal.astext())
        if target is not None:
            link = addnodes.pending_xref(
                "", refdomain="py", reftype="obj", reftarget=target, refdoc=app.env.docname, refwarn=False
            )
            literal.replace_self(link)
            link += literal


def finish(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Let a browser end the line inside long names, behind a dot, a slash or an underscore; copies stay whole.

    That a class has no base but `object` is not said.
    """
    if "body" in context:
        body = _DASH.sub("\\1 \N{EN DASH} ", _NO_BASE.sub("", context["body"]))
        context["body"] = _WORD.sub(lambda word: f"{word[1]}{_SEAM.sub('<wbr>', word[2])}</span>", body)


@cache
def documented(text: str) -> str | None:
    """The full name under which the reference has what `text` names; None where it is something else."""
    name = _FILE.fullmatch(text) or _DOTTED.fullmatch(text)
    if name is None:
        return None
    dotted = name[1].replace("/", ".").removesuffix(".__init__")
    try:
        found = pkgutil.resolve_name(f"epo_lightning.{dotted}")
    except (ImportError, AttributeError, ValueError):
        return None
    module, inner = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if isinstance(module, str) and isinstance(inner, str) and module.startswith("epo_lightning"):
        return f"{module}.{inner}"
    if not isinstance(found, ModuleType) or not text.startswith("epo_lightning"):
        return None  # a value, or somebody's variable that is called like a folder: `run.folder`
    return found.__name__
