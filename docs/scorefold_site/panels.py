"""The picture of the README: the answers of five runs to four questions.

``python -m scorefold_site.panels RUNS OUT.png``, with ``docs`` on the path, where RUNS has the runs of the examples
``digits-dimension``, ``sphere-dimension``, ``fashion-noise-paths``, ``fashion-inpainting`` and ``audit-garments``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from safetensors.torch import load_file
from torch import Tensor

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, tidy
from scorefold_registry.python import load

PAIRS = (0, 5)
"""Pairs of the run between which paths are shown: the first and the last of six."""
DRAWS, HOLES, ACROSS = 5, 4, 7
"""Draws for each garment with a hole, garments with one, and images in a row of the other panels."""


def draw(runs: Path, out: Path) -> None:
    """Writes the picture of four panels."""
    figure = empty_figure(11, 7.6)
    axes = [figure.add_subplot(2, 2, place) for place in range(1, 5)]
    for each in axes:
        tidy(each)
    dimension(axes[0], *(runs / f"{name}-dimension/latest/dimension" for name in ("digits", "sphere")))
    between(axes[1], runs / "fashion-noise-paths/latest")
    inpainting(axes[2], runs / "fashion-inpainting/latest")
    copies(axes[3], runs / "audit-garments/latest/audit")
    figure.savefig(out, dpi=110)


def dimension(axes: Axes, digits: Path, sphere: Path) -> None:
    """The dimension against the scale, with the question and its answer above."""
    by_scale(axes, digits, sphere)
    _title(axes, "What is the dimension?", "digits: 1 to 42, by how closely one looks; a sphere: one plateau, 10")


def by_scale(axes: Axes, digits: Path, sphere: Path) -> None:
    """The directions along which digits and points of a sphere vary, against the noise level."""
    for stage, colour, marker, label in (
        (digits, ACCENT, "o", "handwritten digits: no plateau"),
        (sphere, WARM, "s", "a 10-sphere in R^100: a plateau"),
    ):
        arrays, curve = load_file(stage / "arrays.safetensors"), _result(stage)["estimate"]["diagnostics"]["curve"]
        scales = [row["sigma"] for row in curve]
        points = arrays["curve_pointwise"].double().T  # points, scales
        axes.fill_between(scales, *_ends(points), color=SOFT, alpha=0.6, linewidth=0)
        axes.plot(scales, points.mean(0), color=colour, marker=marker, markersize=4, label=label)
    axes.set_xscale("log")
    axes.set(xlabel="scale, in units of the data", ylabel="dimension")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 0.3))


def between(axes: Axes, run: Path) -> None:
    """Paths through a model's noise between pairs of held-out garments, each above the straight line."""
    paths = load_file(run / "paths/arrays.safetensors")["interpolations"]  # pairs, times, C, H, W
    ends = load(run / "data", progress=False).value.load("test")
    rows = load_file(run / "paths/arrays.safetensors")["rows"]
    paths = paths[:, torch.linspace(0, paths.shape[1] - 1, ACROSS).round().long()]
    along = torch.linspace(0, 1, ACROSS).view(-1, 1, 1, 1)
    shown: list[Tensor] = []
    for pair in PAIRS:
        start, end = (ends.x[ends.index == row] for row in rows[pair])
        shown += [paths[pair], torch.lerp(start, end, along)]
    _grid(axes, shown)
    _row_names(axes, ("by the model", "straight") * len(PAIRS))
    _title(axes, "What lies between two images?", "a garment at each step; straight lines show two at once")


def inpainting(axes: Axes, run: Path) -> None:
    """Garments with a hole, draws of what may be in it, and the truth."""
    held = load(run / "holes", progress=False).value.load("test")
    arrays = load_file(run / "draws/arrays.safetensors")
    held = held.take(torch.cat([(held.index == row).nonzero()[0] for row in arrays["rows of draws"]]))
    hidden = ~arrays["places"].isnan().view(held.x.shape)
    seen = held.x.masked_fill(hidden, 0.35)
    rows = [torch.cat([seen[row, None], arrays["draws"][row][:DRAWS], held.x[row, None]]) for row in range(HOLES)]
    _grid(axes, rows)
    for place, name in ((0.5 / (DRAWS + 2), "seen"), (0.5, "draws"), (1 - 0.5 / (DRAWS + 2), "truth")):
        axes.text(place, -0.07, name, transform=axes.transAxes, ha="center", fontsize=9, color=INK)
    _title(axes, "What is hidden here?", f"{DRAWS} draws of what fits")


def _grid(axes: Axes, rows: list[Tensor]) -> None:
    """Rows of images (N, C, H, W) of equal length, with a frame around each image."""
    grid = torch.cat([torch.cat([_image(event) for event in row], 1) for row in rows])
    axes.imshow(grid.numpy(), cmap="gray_r", vmin=0, vmax=1)
    side = _image(rows[0][0]).shape[0]
    for place in range(len(rows) + 1):
        axes.axhline(place * side - 0.5, color=SOFT, linewidth=0.8)
    for place in range(len(rows[0]) + 1):
        axes.axvline(place * side - 0.5, color=SOFT, linewidth=0.8)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def copies(axes: Axes, stage: Path) -> None:
    """Samples, each above the training image that it repeats."""
    arrays = load_file(stage / "arrays.safetensors")
    white = 255  # they are kept in grey levels
    samples, training = arrays["most like copies"] / white, arrays["their nearest training points"] / white
    seen, different = set(), []
    for number, event in enumerate(training):
        if (said := event.numpy().tobytes()) not in seen:
            seen.add(said)
            different.append(number)
    shown = torch.tensor(different[: 2 * ACROSS]).view(2, ACROSS)
    _grid(axes, [events[row] for row in shown for events in (samples, training)])
    _row_names(axes, ("sample", "training") * 2)
    share = _result(stage)["answer"]["value"]
    _title(axes, "Does this model copy its training data?", f"{share:.0%} of its samples are copies")


def _row_names(axes: Axes, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        height = 1 - (number + 0.5) / len(names)
        axes.text(-0.015, height, name, transform=axes.transAxes, ha="right", va="center", fontsize=9, color=INK)


def _title(axes: Axes, question: str, answer: str) -> None:
    axes.set_title(f"{question}\n", fontsize=12, color=INK, loc="left", fontweight="bold")
    axes.text(0, 1.02, answer, transform=axes.transAxes, fontsize=10, color=INK, va="bottom")


def _ends(points: Tensor) -> tuple[Tensor, Tensor]:
    return points.min(0).values, points.max(0).values


def _image(event: Tensor) -> Tensor:
    """An image (C, H, W) as its first channel, with a border."""
    return torch.nn.functional.pad(event[0].double().clamp(0, 1), (1, 1, 1, 1))


def _result(stage: Path) -> Any:
    return json.loads((stage / "result.json").read_text())


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
