"""Observations and reference draws out of the wheel of sbibm, which is read as a zip and never imported."""

from __future__ import annotations

import bz2
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefold.errors import DataError

OBSERVATIONS = 10
DRAWS = 10_000
_FETCH = "pip download --no-deps sbibm==1.1.0"


def published(wheel: Path, task: str, parameters: int, observed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ten published observations of a task: (true parameters (10, P), observations (10, X), reference draws
    (10, 10000, P)), in float32.

    Raises ``DataError`` for a missing file, another file than the wheel, and tables of other sizes.
    """
    if not wheel.exists():
        raise DataError(f"there is no file {wheel}; expected the wheel of sbibm", hint=_FETCH)
    try:
        # A folder with the content serves as well as the zip.
        root = wheel if wheel.is_dir() else zipfile.Path(wheel)
        parts = [_observation(root, wheel, task, number) for number in range(1, OBSERVATIONS + 1)]
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{wheel} can't be read as the wheel of sbibm: {error}", hint=_FETCH) from error
    expected = ((1, parameters), (1, observed), (DRAWS, parameters))
    for number, found in enumerate(parts, 1):
        shapes = tuple(tuple(part.shape) for part in found)
        if shapes != expected:
            raise DataError(
                f"observation {number} of {task} in {wheel} holds tables of shapes {shapes}; expected {expected}",
                hint=_FETCH,
            )
    theta, x, draws = zip(*parts, strict=True)
    return torch.cat(theta), torch.cat(x), torch.stack(draws)


def _observation(root: Path | zipfile.Path, wheel: Path, task: str, number: int) -> tuple[Tensor, Tensor, Tensor]:
    folder = root / "sbibm" / "tasks" / task.replace("-", "_") / "files" / f"num_observation_{number}"
    names = ("true_parameters.csv", "observation.csv", "reference_posterior_samples.csv.bz2")
    found = []
    for name in names:
        file = folder / name
        if not file.is_file():
            raise DataError(f"{wheel} has no {name} of observation {number} of {task}", hint=_FETCH)
        text = file.read_bytes()
        text = bz2.decompress(text) if name.endswith(".bz2") else text
        try:
            rows = np.loadtxt(io.BytesIO(text), delimiter=",", skiprows=1, ndmin=2, dtype=np.float32)
        except ValueError as error:
            raise DataError(f"{name} of observation {number} of {task} in {wheel} is no table: {error}") from error
        found.append(torch.from_numpy(rows))
    return found[0], found[1], found[2]
