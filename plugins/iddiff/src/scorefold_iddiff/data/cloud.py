"""A cloud of points in three coordinates from a file: the paper's mammoth, which is not ours to ship."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from scorefold.artefacts import digest_file
from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold_iddiff.data.config import PointCloudConfig
from scorefold_toolkit.data.manifolds import Draw, ambient, isometry, splits_of
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, random_positions, source_seed


class PointCloud(DataSource):
    """The points of a JSON file, centred, divided by the largest range of a coordinate, moved by an isometry.

    ``index`` is the row in the file, from 0. Raises ``DataError`` for a file that is missing or doesn't hold a list of
    [x, y, z], and for points that are all one.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> path = str(files("scorefold_iddiff") / "samples/cloud.json")
    >>> Host.discover().create("data:point-cloud", {"path": path, "ambient": 10}).event_shape
    (10,)
    """

    def __init__(self, config: PointCloudConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        self._path = config.path.expanduser()
        raw = read_cloud(self._path)
        self.rows = range(len(raw))
        rows = random_positions(len(raw), config.limit, seed).sort().values
        centred = raw - raw.mean(0)
        extent = (raw.amax(0) - raw.amin(0)).amax()
        if extent == 0:
            raise DataError(f"all points of {self._path} are equal")
        size = ambient(config.ambient, 3, "a cloud of points")
        basis = isometry(size, 3, seed, published=config.isometry)
        drawn = Draw((centred / extent)[rows] @ basis.mT, config.dimension)
        splits = splits_of(drawn, noise_std=config.noise_std, fractions=config.fractions, seed=seed)
        self._splits = {name: _numbered(dataset, rows) for name, dataset in splits.items()}
        self.event_shape = (size,)
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def fingerprint(self) -> str:
        return digest_file(self._path)


def read_cloud(path: Path) -> Tensor:
    """The points (N, 3) of a file in float64. Raises ``DataError``."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(
            f"{path} {what}; expected a JSON file with a list of [x, y, z]",
            hint="a relative path starts at the run file, elsewhere at the working folder",
        )
    try:
        points = torch.tensor(json.loads(path.read_text(encoding="utf-8")), dtype=torch.float64)
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise DataError(f"{path} can't be read as a list of [x, y, z]: {error}") from error
    if points.dim() != 2 or points.shape[1] != 3 or len(points) == 0:
        raise DataError(f"{path} holds numbers of shape {tuple(points.shape)}; expected (N, 3), a list of [x, y, z]")
    wrong = (~points.isfinite()).any(1).nonzero()[:, 0]
    if len(wrong):
        raise DataError(f"{path} holds NaN or infinity in row {int(wrong[0])} (rows count from 0)")
    return points


def _numbered(dataset: Dataset, rows: Tensor) -> Dataset:
    assert dataset.index is not None
    return Dataset(dataset.x, index=rows[dataset.index], truth=dataset.truth)
