"""A thousand images of Fashion-MNIST, which come with the package as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scorefold.artefacts import digest_file
from scorefold.data import Dataset, EventScale
from scorefold.errors import SplitError
from scorefold.interfaces import DataSource

FOLDER = Path(__file__).parent / "samples"
PICTURE, LABELS = FOLDER / "fashion-thousand.png", FOLDER / "fashion-thousand.txt"
SIDE, ACROSS, EACH, VALIDATION = 28, 40, 500, 100
"""Pixels of a side, images in a row of the picture, images of either published set, and images of ``validation``."""

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class Thousand(DataSource):
    """Images (1, 28, 28) in [0, 1]: the split ``train`` has the first 500 training images of Fashion-MNIST, ``test``
    the first 400 test images, and ``validation`` the next 100 (Xiao et al. 2017, MIT licence).

    >>> from scorefold_registry import Host
    >>> images = Host.discover().create("data:fashion-thousand")
    >>> images.event_shape, len(images.load("train")), images.label_names[images.load("test").label[0]]
    ((1, 28, 28), 500, 'Ankle boot')
    """

    label_names = NAMES

    def __init__(self, config: Any) -> None:
        pixels = torch.from_numpy(np.array(Image.open(PICTURE), dtype=np.float32)) / 255
        rows = pixels.unflatten(0, (-1, SIDE)).unflatten(2, (ACROSS, SIDE))
        x = rows.transpose(1, 2).reshape(-1, 1, SIDE, SIDE)
        label = torch.tensor([int(digit) for digit in LABELS.read_text("ascii").strip()])
        dataset = Dataset(x, label=label, index=torch.arange(len(x)))
        self.rows = range(len(x))
        self.event_shape = (1, SIDE, SIDE)
        sizes = {"train": EACH, "test": EACH - VALIDATION, "validation": VALIDATION}
        parts = zip(sizes, torch.arange(len(x)).split(list(sizes.values())), strict=True)
        self._splits = {split: dataset.take(rows) for split, rows in parts}
        seen = x[:EACH].double()
        mean, std = float(seen.mean()), float(seen.std(correction=0))
        self.event_scale = EventScale(low=0.0, high=1.0, levels=256, mean=mean, std=std, factor=255.0)

    def load(self, split: str) -> Dataset:
        if split not in self._splits:
            raise SplitError(f"data:fashion-thousand has no split {split!r}; it has {', '.join(self._splits)}")
        return self._splits[split]

    def fingerprint(self) -> str:
        return f"{digest_file(PICTURE)} {digest_file(LABELS)}"
