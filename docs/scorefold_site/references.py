"""Citations as a person reads them."""

from __future__ import annotations

from pybtex.database import parse_string
from pybtex.plugin import find_plugin


def reference(entry: str) -> str:
    """One BibTeX entry in Markdown, in the plain style."""
    style = find_plugin("pybtex.style.formatting", "plain")()
    (formatted,) = style.format_bibliography(parse_string(entry, "bibtex"))
    return " ".join(str(formatted.text.render_as("markdown")).split())
