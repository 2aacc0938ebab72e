"""Make what the package brings: its models from seeds, and its thousand images. ``make models`` runs this.

The images come from Debian's package dataset-fashion-mnist. A training goes on where it was interrupted, and stages
that are done are used again (``.scorefold/cache``). Weights are kept in half precision.
"""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from scorefold_models.plugin import scorefold_models
from scorefold_models.thousand import ACROSS, EACH, FOLDER, LABELS, PICTURE, SIDE
from scorefold_registry import Host
from scorefold_registry.python import run
from scorefold_registry.sharing.transfer import push

HERE = Path(__file__).parent
FASHION = Path("/usr/share/datasets/fashion-mnist")
LICENCES = {"licence": "mit", "data_licence": "mit"}
LARGEST = 12e6
"""The most bytes of all models together."""


def images() -> None:
    """The first images of the training and the test set as one picture, and their labels as digits."""
    parts, labels = [], ""
    for name in ("train", "t10k"):
        pixels = np.frombuffer(
            gzip.decompress((FASHION / f"{name}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
        )
        digits = np.frombuffer(
            gzip.decompress((FASHION / f"{name}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
        )
        parts.append(pixels.reshape(-1, SIDE, SIDE)[:EACH])
        labels += "".join(map(str, digits[:EACH]))
    grid = np.concatenate(parts).reshape(-1, ACROSS, SIDE, SIDE).transpose(0, 2, 1, 3).reshape(-1, ACROSS * SIDE)
    FOLDER.mkdir(exist_ok=True)
    Image.fromarray(grid).save(PICTURE, optimize=True)
    LABELS.write_text(labels + "\n", "ascii")


def main() -> int:
    images()
    host, folder = Host.discover(), FOLDER.parent
    total = 0
    for model in scorefold_models():
        found = run(HERE / f"{model.name}.yaml", host=host)
        stage = model.name.partition("-")[2]
        place = folder / model.folder
        shutil.rmtree(place, ignore_errors=True)
        pushed = push(host, found.folder / stage, place, **LICENCES, half=True)
        print(pushed.place, *pushed.notes, sep="\n  ")
        total += sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    print(f"{total / 1e6:.2f} MB of models, {PICTURE.stat().st_size / 1e6:.2f} MB of images")
    return int(total > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
