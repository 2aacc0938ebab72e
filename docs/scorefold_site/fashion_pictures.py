"""Pictures of Fashion-MNIST from one trained score model, for the page of evidence.

``python -m scorefold_site.fashion_pictures SCORE OUT [NAME ...]``, with ``docs`` on the path. SCORE is the folder of
the stage ``score`` of a run of ``benchmarks/score_geometry_images.yaml``, and OUT is ``docs/figures``. A few minutes on
one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image
from torch import Tensor

from scorefold.plotting import ACCENT, INK, new_figure
from scorefold_registry.host import Host
from scorefold_toolkit.figures import labelled_grid

ROOT = "/usr/share/datasets/fashion-mnist"
BOUNDS = {
    **{"T-shirt": 173, "trouser": 114, "pullover": 176, "dress": 150, "coat": 180},
    **{"sandal": 154, "shirt": 208, "sneaker": 143, "bag": 192, "boot": 165},
}
"""The denoising loss of the larger U-Net by class, in the order of the labels: the table of the page."""
SAMPLES, IMAGES, DRAWS, MEAN = 10, 5, 3, 4
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "fashion-inpainting": ("seen", {"name": "mask", "region": "square", "fraction": 0.25, "each": True}),
    "fashion-super-resolution": ("7 x 7", {"name": "box-downsample", "factor": 4}),
}
"""Pictures of inverse problems: the name of what is given, and the operator that made it."""


def draw(folder: Path, out: Path, only: list[str]) -> None:
    """Writes every picture, or those that are named."""
    host = Host.discover()
    data = host.create("data:fashion-mnist", {"root": ROOT, "validation": 0.02})
    score = host.load(folder).eval()
    made: dict[str, Callable[[], Figure]] = {
        "fashion-samples": lambda: samples(score, data),
        "fashion-dimension": lambda: dimension_by_class(data),
        **{name: partial(solved, host, score, data, *task) for name, task in TASKS.items()},
    }
    for name in only or made:
        save(made[name](), out / f"{name}.png")


def save(figure: Figure, out: Path) -> None:
    """Writes a figure in 64 colours."""
    figure.savefig(out, dpi=110)
    Image.open(out).convert("RGB").quantize(64).save(out, optimize=True)


def samples(score: Any, data: Any) -> Figure:
    """Samples, each above its nearest training image: none is a copy."""
    drawn = score.sample(SAMPLES, generator=torch.Generator().manual_seed(1)).clamp(0, 1)
    training = data.load("train").tensor()
    nearest = training[torch.cdist(drawn.flatten(1), training.flatten(1)).argmin(1)]
    rows = ["sample", "nearest training image"]
    return labelled_grid(
        torch.stack([drawn, nearest]), rows, [], "Samples, and the training images nearest to them", (0, 1)
    )


def dimension_by_class(data: Any) -> Figure:
    """The bound of each class's dimension, under an image of the class."""
    test = data.load("test")
    order = sorted(BOUNDS, key=BOUNDS.__getitem__)
    figure, axes = new_figure(8.0, 4.0)
    bars = axes.bar(range(len(order)), [BOUNDS[name] for name in order], color=ACCENT, width=0.7)
    axes.bar_label(bars, fontsize=9, color="white", label_type="center")
    axes.set_xticks(range(len(order)), order, fontsize=9)
    axes.set_ylim(0, 1.3 * max(BOUNDS.values()))
    for place, name in enumerate(order):
        image = test.x[test.label == list(BOUNDS).index(name)][0, 0]
        picture = OffsetImage((1 - image).numpy(), cmap="gray", zoom=1.3)
        axes.add_artist(AnnotationBbox(picture, (place, 1.18 * max(BOUNDS.values())), frameon=False))
    axes.set_ylabel("dimension at most", color=INK)
    axes.set_title("Trousers need the fewest directions, shirts the most", fontsize=11, color=INK)
    return figure


def solved(host: Host, score: Any, data: Any, given: str, operator: dict[str, Any]) -> Figure:
    """The given part, draws by PiGDM on the score, their mean and the truth, a row for each image."""
    masked = operator["name"] == "mask"
    pairs = host.create("data:paired", {"operator": operator, "seed": 0, "mask": masked}, data=data)
    test = pairs.load("test").take(torch.arange(IMAGES))
    model = host.create("score:dps", {"operator": operator, "variant": "pigdm"}, prior=score)
    drawn = model.sample(MEAN, test.condition, steps=40, generator=torch.Generator().manual_seed(0)).clamp(0, 1)
    seen = test.condition["image"] if isinstance(test.condition, dict) else test.condition
    if masked:
        seen = seen.masked_fill(test.condition["mask"] == 0, 0.5)
    else:
        seen = seen.repeat_interleave(operator["factor"], -1).repeat_interleave(operator["factor"], -2)
    columns: list[tuple[str, Tensor]] = [
        (given, seen),
        *((f"draw {place + 1}", drawn[place]) for place in range(DRAWS)),
    ]
    columns += [(f"mean of {MEAN}", drawn.mean(0)), ("truth", test.x)]
    grid = torch.stack([images for _, images in columns], 1)
    return labelled_grid(grid, [""] * IMAGES, [name for name, _ in columns], "", (0, 1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    draw(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
