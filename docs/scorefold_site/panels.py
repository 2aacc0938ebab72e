"""The picture of the README: the answers of five runs to four questions.

``python -m scorefold_site.panels RUNS OUT.png``, with ``docs`` on the path, where RUNS has the runs of the examples
``digits-dimension``, ``sphere-dimension``, ``banana-geodesics`` and ``digits-inpainting`` and that of the first file of
``docs/audit.md``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from safetensors.torch import load_file
from torch import Tensor

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, tidy
from scorefold_registry.python import load

LINES = 4
"""Number of geodesics in the figure."""


def draw(runs: Path, out: Path) -> None:
    """Writes the picture of four panels."""
    figure = empty_figure(11, 7.6)
    axes = [figure.add_subplot(2, 2, place) for place in range(1, 5)]
    for each in axes:
        tidy(each)
    dimension(axes[0], *(runs / f"{name}-dimension/latest/dimension" for name in ("digits", "sphere")))
    geodesics(axes[1], runs / "banana-geodesics/latest")
    inpainting(axes[2], runs / "digits-inpainting/latest")
    copies(axes[3], runs / "audit/latest/audit")
    figure.savefig(out, dpi=110)


def dimension(axes: Axes, digits: Path, sphere: Path) -> None:
    """The dimension against the scale, with the question and its answer above."""
    by_scale(axes, digits, sphere)
    _title(axes, "What is the dimension?", "digits: 1 to 42, by how closely one looks; a sphere: one plateau, 10")


def by_scale(axes: Axes, digits: Path, sphere: Path) -> None:
    """The directions along which digits and points of a sphere vary, against the noise level."""
    for stage, colour, marker, label in (
        (digits, ACCENT, "o", "handwritten digits: no plateau"),
        (sphere, WARM, "s", "a 10-sphere in 100 coordinates: a plateau"),
    ):
        arrays, curve = load_file(stage / "arrays.safetensors"), _result(stage)["estimate"]["diagnostics"]["curve"]
        scales = [row["sigma"] for row in curve]
        points = arrays["curve_pointwise"].double().T  # points, scales
        axes.fill_between(scales, *_ends(points), color=SOFT, alpha=0.6, linewidth=0)
        axes.plot(scales, points.mean(0), color=colour, marker=marker, markersize=4, label=label)
    axes.set_xscale("log")
    axes.set(xlabel="scale, in units of the data", ylabel="dimension")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 0.3))


def geodesics(axes: Axes, run: Path) -> None:
    """The longest geodesics between held-out points, and straight lines, with the second coordinate across."""
    across, up = load(run / "data", progress=False).value.load("train").x.T.flip(0)
    axes.scatter(across, up, s=2, color=SOFT, linewidths=0)
    paths = load_file(run / "paths/arrays.safetensors")["geodesics"].flip(-1)
    longest = (paths[:, 0] - paths[:, -1]).norm(dim=1).argsort(descending=True)[:LINES]
    for number, path in enumerate(paths[longest]):
        names = ("geodesics", "straight lines") if number == 0 else ("_", "_")
        axes.plot(*path.T, color=ACCENT, linewidth=1.8, label=names[0])
        axes.plot(*path[[0, -1]].T, color=WARM, linewidth=1, linestyle="--", label=names[1])
        axes.plot(*path[[0, -1]].T, "o", color=INK, markersize=4)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    _title(axes, "What lies between two points?", "geodesics follow the data; straight lines cut across")


def inpainting(axes: Axes, run: Path) -> None:
    """Digits with a hole, draws of what may be in it, and the truth."""
    held = load(run / "holes", progress=False).value.load("test")
    arrays = load_file(run / "draws/arrays.safetensors")
    held = held.take(torch.cat([(held.index == row).nonzero()[0] for row in arrays["rows of draws"]]))
    draws = arrays["draws"]
    seen = held.condition["image"].masked_fill(held.condition["mask"] == 0, 0.5)
    rows = [
        torch.cat([_image(seen[row]), *(_image(draw) for draw in draws[row][:6]), _image(held.x[row])], 1)
        for row in range(4)
    ]
    axes.imshow(torch.cat(rows), cmap="gray_r", vmin=0, vmax=1)
    axes.text(0.06, -0.07, "seen", transform=axes.transAxes, ha="center", fontsize=9, color=INK)
    axes.text(0.5, -0.07, "draws", transform=axes.transAxes, ha="center", fontsize=9, color=INK)
    axes.text(0.94, -0.07, "truth", transform=axes.transAxes, ha="center", fontsize=9, color=INK)
    side = rows[0].shape[0]
    for place in range(len(rows) + 1):  # a frame around each image
        axes.axhline(place * side - 0.5, color=SOFT, linewidth=0.8)
    for place in range(rows[0].shape[1] // side + 1):
        axes.axvline(place * side - 0.5, color=SOFT, linewidth=0.8)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    _title(axes, "What is hidden here?", "six draws of what fits")


def copies(axes: Axes, stage: Path) -> None:
    """How near samples are to a training point against the next one, beside held-out points."""
    arrays = load_file(stage / "arrays.safetensors")
    bins = torch.linspace(0, 1, 31).tolist()
    for name, colour, label in (
        ("held-out ratio", SOFT, "held-out points"),
        ("ratio", WARM, "samples of a model that copies"),
    ):
        values = arrays[f"{name} (columns)"]
        axes.hist(values.numpy(), bins=bins, color=colour, alpha=0.8, label=label, density=True)
    axes.set(xlabel="distance to the nearest / to the second nearest training point", yticks=[])
    axes.legend(frameon=False, fontsize=9)
    _title(axes, "Does this model copy its training data?", "500 of 500 samples are copies")


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
