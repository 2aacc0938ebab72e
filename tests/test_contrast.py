"""Contrast of text by the formula of WCAG 2: at least 4.5, in the light and in the dark, on all pages of ours.

https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAST = 4.5
REPORT = ROOT / "registry/src/scorefold_registry/run/templates/page.css"
EXPLORER = ROOT / "plugins/explore/src/scorefold_explore/page/style.css"
SITE = ROOT / "docs/assets/site.css"
COLOUR = r"#[0-9a-fA-F]{3,6}\b"
TEXTS = {
    REPORT: (("ink", "soft", "accent", "warn"), ("page", "card", "wash", "code", "warn-wash")),
    EXPLORER: (("ink", "soft", "accent", "second"), ("paper", "sheet")),
}
"""Colours of text of each page, and the grounds that they may stand on."""


def luminance(colour: str) -> float:
    """Relative luminance of a colour such as ``#1b2430`` or ``#fff``."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes(file: Path) -> list[dict[str, str]]:
    """The colours by name of each block of ``:root``: the first one, and the others over it."""
    found: list[dict[str, str]] = []
    for block in re.findall(r":root[^{]*\{([^}]*)\}", file.read_text(encoding="utf-8")):
        if own := dict(re.findall(rf"--([\w-]+):\s*({COLOUR})", block)):
            found.append({**(found[0] if found else {}), **own})
    return found


def test_the_formula_has_its_known_values() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.478, abs=1e-3)
    assert contrast("#888", "#efefef") == pytest.approx(3.08, abs=0.01)


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.name)
def test_every_text_can_be_read_on_every_ground(file: Path) -> None:
    texts, grounds = TEXTS[file]
    found = themes(file)
    assert len(found) == 3, "light, dark, and print or the choice of dark"
    for theme, text, ground in product(found, texts, grounds):
        assert contrast(theme[text], theme[ground]) >= LEAST, (text, ground, theme)


@pytest.mark.parametrize("file", [REPORT, EXPLORER, SITE], ids=lambda file: file.name)
def test_no_rule_has_a_colour_of_text_of_its_own(file: Path) -> None:
    """Only names have colours, so that a text which is readable in the light has a colour for the dark too."""
    css = re.sub(r":root[^{]*\{[^}]*\}", "", file.read_text(encoding="utf-8"))
    assert re.findall(rf"(?<![\w-])color:\s*(?:{COLOUR}|white|black)", css) == []


def test_text_on_a_coloured_ground_has_the_colour_of_the_page() -> None:
    """Two rules of the explorer. Reports have no such ground."""
    coloured = r"\{([^{}]*background: var\(--(accent|second|warn)\)[^{}]*)\}"
    explorer, report = (re.findall(coloured, file.read_text(encoding="utf-8")) for file in (EXPLORER, REPORT))
    assert (len(explorer), len(report)) == (2, 0)
    for rule, ground in explorer:
        text = re.search(r"(?<![\w-])color: var\(--([\w-]+)\)", rule)
        assert text is not None, rule
        for theme in themes(EXPLORER):
            assert contrast(theme[text[1]], theme[ground]) >= LEAST, (rule, theme)


def test_code_and_text_of_the_site_can_be_read() -> None:
    """Text of furo, which ``site.css`` leaves alone, and the two styles of code that ``conf.py`` names."""
    from pygments.styles import get_style_by_name

    found = find_spec("furo")  # its import takes a second
    assert found is not None
    assert found.origin is not None
    css = (Path(found.origin).parent / "theme/furo/static/styles/furo.css").read_text(encoding="utf-8")
    own = SITE.read_text(encoding="utf-8")
    for dark, style in enumerate(re.findall(r'^pygments_(?:dark_)?style = "(.+?)"', conf(), flags=re.MULTILINE)):

        def colour(name: str, place: int = -dark) -> str:
            rule = re.findall(rf"--color-{name}: *({COLOUR})", own) or re.findall(rf"--color-{name}: *({COLOUR})", css)
            return str(rule[place])

        texts = ("foreground-primary", "foreground-secondary", "foreground-muted", "brand-content", "brand-visited")
        for text, ground in product(texts, ("background-primary", "background-secondary")):
            assert contrast(colour(text), colour(ground)) >= LEAST, (text, ground, dark)
        code = get_style_by_name(style)
        for token, look in code:
            if look["color"] and str(token) != "Token.Generic.Output":
                assert contrast(look["color"], code.background_color) >= LEAST, (style, token)
        # What a command prints, and notes of hooks.
        for text in texts[:2]:
            assert contrast(colour(text), code.background_color) >= LEAST


def conf() -> str:
    """The settings of Sphinx as text."""
    return (ROOT / "docs/conf.py").read_text(encoding="utf-8")
