"""Citations as a person reads them."""

from __future__ import annotations

from functools import cache

from pybtex.backends.markdown import Backend
from pybtex.database.input.bibtex import Parser
from pybtex.style.formatting.plain import Style


@cache
def _style() -> Style:
    """Made once, for it looks for its parts among all that is installed."""
    return Style()


def reference(entry: str) -> str:
    """One BibTeX entry in Markdown, in the plain style."""
    (formatted,) = _style().format_bibliography(Parser().parse_string(entry))
    return " ".join(str(formatted.text.render(Backend())).split())
