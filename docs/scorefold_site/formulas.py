"""Formulas as pictures of lines (SVG), drawn as the site is built: a page needs no script and no font for them."""

from __future__ import annotations

import re
import warnings
from typing import Any
from xml.etree.ElementTree import tostring

from docutils import nodes
from sphinx.application import Sphinx

with warnings.catch_warnings():  # it finds its font by a function that Python deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import ziamath

_SIZE = 16
"""The height of the letters' square that formulas are drawn for; a page scales it to its own letters."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds the renderer, which ``html_math_renderer`` of the settings takes."""
    app.add_html_math_renderer("svg", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def drawn(formula: str, *, inline: bool) -> str:
    """A formula of LaTeX as SVG in the colour of the text, on its line, read out as its LaTeX.

    Raises ``ValueError`` for sizes of delimiters that are commands themselves: they would be drawn as text.
    """
    if wrong := re.search(r"\\[bB]ig+[lr]?\\\w+", formula):
        raise ValueError(
            f"{wrong[0]} can't be drawn; write the delimiter alone, it grows with what it holds: {formula}"
        )
    made = ziamath.Latex(formula, size=_SIZE, color="currentColor", inline=inline)
    picture = made.svgxml()
    width, height = (float(picture.get(side)) / _SIZE for side in ("width", "height"))
    picture.set("style", f"width:{width:.3f}em;height:{height:.3f}em;vertical-align:{made.getyofst() / _SIZE:.3f}em")
    picture.set("role", "img")
    picture.set("aria-label", formula)
    return tostring(picture, encoding="unicode")


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(drawn(node.astext(), inline=True))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{drawn(node.astext(), inline=False)}</div>')
    raise nodes.SkipNode
