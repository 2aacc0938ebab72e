"""The pictures of the methods' pages, from runs of the examples.

``python -m scorefold_site.pictures RUNS OUT``, with ``docs`` on the path. RUNS has runs of the examples that ``COPIED``
names, of ``sphere-dimension``, and of ``make demo``. OUT is ``docs/figures``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image

from scorefold.plotting import INK, new_figure
from scorefold_registry.host import Host
from scorefold_site.panels import by_scale

COPIED = {
    "caflow-garments": "fashion-super-resolution/latest/draws/figures/draws.png",
    "banana-geodesics": "banana-geodesics/latest/geometry/figures/geodesics.png",
    "labels-per-task": "allocate-labels/latest/plan/figures/labels-per-task.png",
    "score-geodesics": "score-geodesics/latest/geometry/figures/geodesics.png",
}
"""Figures of runs that are copied, in few colours."""
SPEEDUPS = {32: (2, 3.54, 3.74), 64: (3, 5.32, 5.15), 128: (4, 7.19, 7.03)}
"""Scales, S as counted and S as measured, by pixels: the table of ``docs/evidence/multiscale.md``."""


def draw(runs: Path, out: Path) -> None:
    """Writes every picture."""
    for name, figure in COPIED.items():
        Image.open(runs / figure).convert("RGB").quantize(128).save(out / f"{name}.png", optimize=True)
    dimension_by_scale(runs, out / "dimension-by-scale.png")
    bands_over_time(out / "bands-over-time.png")
    multiscale_cost(out / "multiscale-cost.png")


def multiscale_cost(out: Path) -> None:
    """Cost of a uniform run in multi-scale runs, by resolution."""
    from scorefold_nonuniform.cost import speedup_by_resolution

    rows = {
        pixels: SimpleNamespace(counted=counted, measured=measured, overhead=0, scales=range(scales))
        for pixels, (scales, counted, measured) in SPEEDUPS.items()
    }
    figure = speedup_by_resolution(rows)  # type: ignore[arg-type]
    figure.savefig(out, dpi=110)


def dimension_by_scale(runs: Path, out: Path) -> None:
    """The dimension against the scale, of digits and of a sphere."""
    figure, axes = new_figure(7.0, 4.0)
    by_scale(axes, *(runs / f"{name}/latest/dimension" for name in ("demo", "sphere-dimension")))
    axes.set_title("Dimension against scale", loc="left", fontsize=11, color=INK)
    figure.savefig(out, dpi=110)


def bands_over_time(out: Path) -> None:
    """One patch of a photograph over time, with each of its bands alone: how a multi-scale model sees it."""
    from scorefold_nonuniform.bands.figures import diffusion

    host = Host.discover()
    data = host.create("data:photographs", {"size": 64, "points": 400, "grey": True, "seed": 3})
    config = {
        "bands": {"name": "haar", "levels": 2},
        "network": {"use": "network:unet", "config": {"channels": [8], "blocks": 1}},
    }
    model = host.create("score:multiscale", config, data=data)
    events = data.load("train").tensor()
    busiest = events.flatten(1).std(1).argmax()
    figure = diffusion(model, events[busiest : busiest + 1])["bands over time"]
    figure.savefig(out, dpi=90)
    Image.open(out).convert("L").quantize(64).save(out, optimize=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
