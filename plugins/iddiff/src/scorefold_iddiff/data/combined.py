"""Sets made of other sources, their union and their product; and a cloud of points in three coordinates from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from scorefold.artefacts import digest_file
from scorefold.data import Dataset, EventScale, shuffled
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import DataSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold.interfaces.data import SPLITS
from scorefold.seeds import derive_generator
from scorefold_iddiff.data.config import PointCloudConfig, ProductConfig, UnionConfig
from scorefold_toolkit.data.manifolds import Draw, ambient, isometry, seeded_normal, splits_of
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, random_positions, source_seed
from scorefold_toolkit.distributions import Distribution, Embedded, Mixture, Product, translated


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


class UnionOf(DataSource, KnowsDistribution):
    """The points of several sources as one set, in random order; ``label`` says the part that each came from.

    ``truth`` holds ``dimension``, an int where all parts agree and else one a point, where all parts know theirs. With
    ``weights`` each split holds as many points as the parts have for these shares. Each split is made of the parts'
    splits of that name. Conditions of the parts are dropped. Raises ``ConfigError`` for parts of different shapes or
    another number of weights.

    >>> from scorefold_registry import Host
    >>> parts = [{"use": "data:sphere", "config": {"dimension": d, "ambient": 5, "points": 100}} for d in (1, 3)]
    >>> both = Host.discover().create("data:union", parts=parts).load("train")
    >>> both.truth["dimension"].unique().tolist()
    [1, 3]
    """

    def __init__(
        self, config: UnionConfig, *, parts: Sequence[DataSource], generator: torch.Generator | None = None
    ) -> None:
        _check_parts(parts, "union")
        for i, part in enumerate(parts):
            if part.event_shape != parts[0].event_shape:
                raise ConfigError(
                    f"part {i} of a union has events {part.event_shape} and part 0 has {parts[0].event_shape}",
                    hint="give all parts the same 'ambient', or put them side by side with data:product",
                )
        if config.weights is not None and len(config.weights) != len(parts):
            raise ConfigError(f"{len(config.weights)} weights were given for {len(parts)} parts")
        self._seed = source_seed(config.seed, generator)
        self._parts, self._weights = list(parts), config.weights
        self.event_shape = tuple(parts[0].event_shape)
        self._shifts = [config.separation * self._direction(i) for i in range(len(parts))]
        self._loaded: dict[str, Dataset] = {}
        self.event_scale = _scale(self)

    def load(self, split: str) -> Dataset:
        if split not in self._loaded:
            self._loaded[split] = self._joined(split, [_whole(part, split) for part in self._parts])
        return self._loaded[split]

    def distribution(self) -> Distribution | None:
        distributions = _distributions(self._parts)
        if distributions is None:
            return None
        counts = self._weights or [len(part.load("train")) for part in self._parts]
        weights = torch.tensor(counts, dtype=torch.float64)
        moved = tuple(
            translated(distribution, shift.flatten())
            for distribution, shift in zip(distributions, self._shifts, strict=True)
        )
        return Mixture(weights / weights.sum(), moved)

    def fingerprint(self) -> str | None:
        return _fingerprint(self._parts)

    def data_warnings(self) -> tuple[str, ...]:
        return _warnings(self._parts)

    def _direction(self, part: int) -> Tensor:
        drawn = seeded_normal(self.event_shape, self._seed, "direction", part)
        direction: Tensor = drawn / drawn.norm()
        return direction

    def _joined(self, split: str, parts: list[Dataset]) -> Dataset:
        taken = []
        for i, (part, count) in enumerate(zip(parts, self._counts([len(part) for part in parts]), strict=True)):
            order = shuffled(len(part), derive_generator(self._seed, "part", split, i))
            taken.append(part.take(order[:count]))
        mixed = shuffled(sum(map(len, taken)), derive_generator(self._seed, "order", split))
        moved = [part.x + shift.to(part.x) for part, shift in zip(taken, self._shifts, strict=True)]
        label = torch.cat([torch.full((len(part),), i) for i, part in enumerate(taken)])
        positions = [part.index for part in taken if part.index is not None]
        index = None
        if len(positions) == len(taken):
            index = torch.cat(positions) * len(taken) + label
        truth = {}
        if all("dimension" in part.truth for part in taken):
            truth["dimension"] = _one_or_each([(part.truth["dimension"], len(part)) for part in taken])
        return Dataset(torch.cat(moved), label=label, index=index, truth=truth).take(mixed)

    def _counts(self, sizes: list[int]) -> list[int]:
        """Number of points of each part in a split."""
        if self._weights is None:
            return sizes
        shares = [weight / sum(self._weights) for weight in self._weights]
        total = min(size / share for size, share in zip(sizes, shares, strict=True))
        return [min(size, round(total * share)) for size, share in zip(sizes, shares, strict=True)]


class ProductOf(DataSource, KnowsDistribution):
    """Points of several sources side by side, paired at random: (x_1, ..., x_C), flattened; dimensions add up.

    Each split has as many points as the part with the fewest in it, and each point of a part is in at most one. With
    ``ambient`` all is moved by a random isometry. ``truth`` holds ``dimension`` and ``tangent`` where all parts know
    theirs. Raises ``ConfigError`` where ``ambient`` is too small.

    >>> from scorefold_registry import Host
    >>> circle = {"use": "data:sphere", "config": {"dimension": 1, "ambient": 2, "points": 100}}
    >>> torus = Host.discover().create("data:product", parts=[circle, circle]).load("train")
    >>> torus.x.shape[1], int(torus.truth["dimension"])
    (4, 2)
    """

    def __init__(
        self, config: ProductConfig, *, parts: Sequence[DataSource], generator: torch.Generator | None = None
    ) -> None:
        _check_parts(parts, "product")
        self._seed, self._parts = source_seed(config.seed, generator), list(parts)
        size = sum(torch.Size(part.event_shape).numel() for part in parts)
        wanted = ambient(config.ambient, size, f"a product of {len(parts)} sources")
        self._basis = None if config.ambient is None else isometry(wanted, size, self._seed)
        self.event_shape = (wanted,)
        self._loaded: dict[str, Dataset] = {}
        self.event_scale = _scale(self)

    def load(self, split: str) -> Dataset:
        if split not in self._loaded:
            self._loaded[split] = self._paired(split, [_whole(part, split) for part in self._parts])
        return self._loaded[split]

    def distribution(self) -> Distribution | None:
        distributions = _distributions(self._parts)
        if distributions is None:
            return None
        product = Product(tuple(distributions))
        if self._basis is None:
            return product
        return Embedded(product, torch.zeros(len(self._basis), dtype=torch.float64), self._basis)

    def fingerprint(self) -> str | None:
        return _fingerprint(self._parts)

    def data_warnings(self) -> tuple[str, ...]:
        return _warnings(self._parts)

    def _paired(self, split: str, parts: list[Dataset]) -> Dataset:
        count = min(map(len, parts))
        # Parts of one seed hold the same points in the same order; shuffled apart, they are independent.
        taken = [
            part.take(shuffled(len(part), derive_generator(self._seed, "part", split, i))[:count])
            for i, part in enumerate(parts)
        ]
        x = self._moved(torch.cat([part.x.flatten(1) for part in taken], dim=1))
        truth = {}
        if all("dimension" in part.truth for part in taken):
            truth["dimension"] = sum(part.truth["dimension"] for part in taken)
        if all("tangent" in part.truth for part in taken):
            truth["tangent"] = self._moved(_block_diagonal([part.truth["tangent"] for part in taken]).mT).mT
        return Dataset(x, index=taken[0].index, truth=truth)

    def _moved(self, x: Tensor) -> Tensor:
        return x if self._basis is None else (x.double() @ self._basis.mT).to(x.dtype)


def _check_parts(parts: Sequence[DataSource], what: str) -> None:
    if len(parts) == 0:
        raise ConfigError(f"a {what} of no sources was asked for", hint=f"plug sources into the {what}'s port 'parts'")


def _warnings(parts: Sequence[DataSource]) -> tuple[str, ...]:
    """The warnings of all parts, each once."""
    return tuple(dict.fromkeys(text for part in parts for text in part.data_warnings()))


def _whole(part: DataSource, split: str) -> Dataset:
    """All points of a split in memory."""
    dataset = part.load(split)
    return dataset.take(torch.arange(len(dataset)))


def _scale(source: UnionOf | ProductOf) -> EventScale:
    """The scale of the training points, or of the first split that there is."""
    for split in SPLITS:
        try:
            return plain_scale(source.load(split).x)
        except SplitError:
            continue
    raise DataError("no split is in all parts", hint=f"give each part a share of {', '.join(SPLITS)}")


def _distributions(parts: Sequence[DataSource]) -> list[Distribution] | None:
    distributions = [part.distribution() if isinstance(part, KnowsDistribution) else None for part in parts]
    known = [distribution for distribution in distributions if distribution is not None]
    return known if len(known) == len(distributions) else None


def _one_or_each(dimensions: list[tuple[int | Tensor, int]]) -> int | Tensor:
    """From (dimension, points) of each part: one int where all have it, else the dimension of every point (N,)."""
    first = dimensions[0][0]
    if all(isinstance(value, int) and value == first for value, _ in dimensions):
        return first
    return torch.cat([torch.as_tensor(value).expand(size) for value, size in dimensions])


def _block_diagonal(blocks: list[Tensor]) -> Tensor:
    """(N, sum D, sum k) from (N, D, k) each."""
    joined: Tensor = torch.func.vmap(torch.block_diag)(*blocks)
    return joined


def _fingerprint(parts: Sequence[DataSource]) -> str | None:
    marks = [part.fingerprint() for part in parts]
    return hashlib.sha256(repr(marks).encode()).hexdigest() if any(marks) else None
