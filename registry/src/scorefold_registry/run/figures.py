"""Figures of a stage, drawn by the functions that components and verbs name, as PNG and SVG."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import read_json, write_json
from scorefold.stage import reported
from scorefold_registry.components.file_names import file_name, free_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTIONS = "figures.json"
DPI = 160


def draw(target: str, shown: Any, folder: Path, *, math: bool = True) -> list[str]:
    """Call ``module:function`` on what is shown and write ``figures/<name>.png`` and ``.svg``; the names drawn.

    A figure is captioned with its label (``figure.set_label``), where that says more than the titles in the figure.
    Without ``math``, dollars in its texts are dollars: for names that anybody may have given.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": math}):
        return _draw(target, shown, folder)


def _draw(target: str, shown: Any, folder: Path) -> list[str]:
    module, _, function = target.partition(":")
    figures: Mapping[str, Figure] = getattr(import_module(module), function)(shown) or {}
    captions: dict[str, dict[str, str]] = {}
    for name, figure in reported(figures.items(), len(figures), "figures"):
        stem = free_name(file_name(name), captions)
        _write(figure, folder / "figures", stem)
        captions[stem] = {"name": name, **_words(figure, name)}
    if captions:
        write_json(folder / "figures" / CAPTIONS, captions)
    return list(captions)


def erase(folder: Path) -> None:
    """Remove the figures that ``draw`` wrote into a folder, and nothing else that stands beside them."""
    captions = folder / "figures" / CAPTIONS
    if not captions.exists():
        return
    found = read_json(captions)
    for stem in found if isinstance(found, dict) else ():
        if file_name(stem) == stem:
            for ending in (".svg", ".png"):
                captions.with_name(stem + ending).unlink(missing_ok=True)
    captions.unlink()


def _write(figure: Figure, folder: Path, stem: str) -> None:
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    # A fixed salt and no date: the same figure gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": stem}), warnings.catch_warnings():
        # A name may be in any script, and the font has few.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(folder / f"{stem}.svg", format="svg", metadata={"Date": None})
        # Laid out by now: doing it again would cost as much as the drawing.
        figure.set_layout_engine(None)
        figure.savefig(folder / f"{stem}.png", format="png", dpi=DPI)


def _words(figure: Figure, name: str) -> dict[str, str]:
    """The caption of a figure, empty where there is none, and a title for those who can't see it."""
    label = str(figure.get_label() or "")
    titles = [title for title in (figure.get_suptitle(), *(str(axes.get_title()) for axes in figure.axes)) if title]
    title = label or (titles[0] if titles else name.replace("-", " ").capitalize())
    return {"title": title, "caption": "" if label in titles else label}
