"""The estimators from neighbours and pairs behind one class; the type of the config says which."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorefold.config import Config
from scorefold.data import Dataset, as_dataset
from scorefold.errors import DataError
from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from scorefold.stage import Executor, report
from scorefold_neighbours import config as configs
from scorefold_neighbours.estimators import discrete, formulas, pairs, patches
from scorefold_neighbours.estimators.danco import danco
from scorefold_neighbours.estimators.formulas import geomle, list_length
from scorefold_neighbours.estimators.points import (
    QUANTITY,
    estimate_generator,
    first_of,
    given_distances,
    groups_of_copies,
    interval_by_halves,
    points_and_positions,
    sample_note,
    scale_of,
)
from scorefold_toolkit.distances import TREE_COLUMNS, Name, PointMetric
from scorefold_toolkit.nearest import Cloud, wide


@dataclass(frozen=True)
class MethodInput:
    """Input of a method: its config, the points with their neighbours, a seed, and a receiver of warnings."""

    config: Any
    cloud: Cloud
    seed: int
    say: Callable[[str], None]

    def distances(self, count: int) -> Tensor:
        return self.cloud.neighbours(count)[0]

    def in_patches(self, formula: Callable[..., Tensor]) -> Tensor:
        """A formula of the config and neighbourhoods (b, k, D), at every point (n,)."""
        found = [formula(self.config, points) for _, points in self.cloud.patches(self.config.n_neighbors)]
        return torch.cat(found)


@dataclass(frozen=True)
class Method:
    """A method: its name, the fewest points it can take, how many neighbours it asks for, and what it finds of points.

    ``find`` gives one number of the points, or one at each of them (n,). Copies of a point count if ``copies``. If
    ``high``, the method reads many dimensions of few points without much bias, and otherwise it reads too few.
    """

    name: str
    least: Callable[[Any], int]
    neighbours: Callable[[Any], int]
    find: Callable[[MethodInput], Tensor | float]
    copies: bool = False
    high: bool = False


def _neighbours(config: Any) -> int:
    return int(config.n_neighbors)


def _one_more(config: Any) -> int:
    return int(config.n_neighbors) + 1


def _far(config: Any) -> int:
    return int(config.far)


def _none(config: Any) -> int:
    return 0


def _sizes(config: configs.KNNConfig, n: int) -> npt.NDArray[np.int64]:
    smallest = max(config.n_neighbors + 1, n // 20)
    return np.unique(np.linspace(smallest, max(smallest + 1, n // 4), config.sizes).astype(np.int64))


def _tight(asked: MethodInput) -> Tensor:
    distances = asked.distances(asked.config.n_neighbors)
    blocks = asked.cloud.patches(asked.config.n_neighbors)
    return torch.cat([patches.tight_dimensions(points, distances[rows]) for rows, points in blocks])


def _mind_ml(asked: MethodInput) -> float:
    distances = asked.distances(min(asked.config.n_neighbors + 1, len(asked.cloud) - 1))
    largest = asked.config.max_dimension or max(2, asked.cloud.points.shape[1])
    return formulas.mind_ml(asked.config, distances, largest)


METHODS: Mapping[type[Config], Method] = {
    configs.MLEConfig: Method(
        "MLE", _one_more, _neighbours, lambda a: formulas.mle(a.config, a.distances(a.config.n_neighbors))
    ),
    configs.TwoNNConfig: Method(
        "TwoNN",
        lambda c: max(10, math.ceil(3 / (1 - c.discard))),
        lambda c: 2,
        lambda a: formulas.two_nn(a.config, a.distances(2)),
    ),
    configs.LPCAConfig: Method("lPCA", _one_more, _neighbours, lambda a: a.in_patches(patches.local_pca), high=True),
    configs.CorrIntConfig: Method(
        "CorrInt", lambda c: int(c.far) + 1, _far, lambda a: pairs.correlation(a.config, a.cloud)
    ),
    configs.DANCoConfig: Method(
        "DANCo", lambda c: max(20, c.n_neighbors + 2), _one_more, lambda a: danco(a.config, a.cloud, a.seed), high=True
    ),
    configs.FisherSConfig: Method(
        "FisherS", lambda c: 10, _none, lambda a: pairs.separability(a.config, a.cloud, a.say), high=True
    ),
    configs.ESSConfig: Method(
        "ESS", _one_more, _neighbours, lambda a: a.in_patches(patches.simplex_skewness), high=True
    ),
    configs.TLEConfig: Method("TLE", _one_more, _neighbours, _tight),
    configs.MADAConfig: Method(
        "MADA", _one_more, _neighbours, lambda a: formulas.manifold_adaptive(a.distances(a.config.n_neighbors))
    ),
    configs.MOMConfig: Method(
        "MOM", _one_more, _neighbours, lambda a: formulas.moment_dimension(a.distances(a.config.n_neighbors))
    ),
    configs.KNNConfig: Method(
        "KNN",
        lambda c: max(20, 4 * (c.n_neighbors + 2)),
        _none,
        lambda a: pairs.graph_growth(a.config, a.cloud, a.seed, _sizes(a.config, len(a.cloud))),
    ),
    configs.MiNDMLConfig: Method("MiND_ML", lambda c: int(c.n_neighbors) + 3, _one_more, _mind_ml),
    configs.GRIDEConfig: Method(
        "GRIDE",
        lambda c: max(10, c.far + 1),
        _far,
        lambda a: formulas.gride(a.config, a.distances(a.config.far), a.say),
    ),
    configs.LogLogConfig: Method(
        "log-log",
        lambda c: max(10, c.far + 1),
        _far,
        lambda a: formulas.log_log(a.config, a.distances(a.config.far), a.say),
    ),
    configs.GeoMLEConfig: Method(
        "GeoMLE",
        lambda c: math.ceil(2.5 * c.far),
        lambda c: list_length(c.far),
        lambda a: geomle(a.config, a.cloud, a.seed),
        high=True,
    ),
    configs.PHConfig: Method("PH", lambda c: 20, _none, lambda a: pairs.tree_growth(a.config, a.cloud, a.seed)),
    configs.I3DConfig: Method(
        "I3D", lambda c: 20, _none, lambda a: discrete.i3d(a.config, a.cloud.points, a.say), copies=True
    ),
}


FAR_ABOVE, ABOVE = 1.5, 1.25
"""The multiples of the number of coordinates above which a value, and a whole interval, are not what a method assumes.
"""

FAR_BELOW, NOTHING = 0.5, 0.05
"""The value below which points on a lattice, and all points, are not what a method assumes."""


def ended_at(found: Estimate, coordinates: int) -> Estimate:
    """An estimate that is at most the number of coordinates, with a note of what was read where that is more.

    One that is far above it is withheld, and one near 0, or far below 1 where neighbours are at one distance.
    """
    value, interval = found.number(), found.interval
    lattice = any(AT_ONE_DISTANCE in str(text) for text in found.diagnostics.get("warnings", ()))
    least = FAR_BELOW if lattice else NOTHING
    if value >= least and max([value, *(interval or ())]) <= coordinates:
        return found
    facts = dict(found.diagnostics)
    above = value > FAR_ABOVE * coordinates or (interval is not None and interval[0] > ABOVE * coordinates)
    if value < least or above:
        why = f"{value:.3g} in {coordinates} coordinates, so the points are not what {facts['method']} assumes"
        facts["reading"] = value
        return replace(found, value=None, interval=None, headline=f"it reads {why}", diagnostics=facts)
    if value > coordinates:
        facts["reading"] = value
    if f"{value:.3g}" != f"{min(value, coordinates):.3g}":
        said = f"it reads {value:.3g}, above the number of coordinates"
        facts["note"] = "; ".join(filter(None, [said, str(facts.get("note", ""))]))
    within = interval and (min(interval[0], coordinates), min(interval[1], coordinates))
    return replace(found, value=float(min(value, coordinates)), interval=within, diagnostics=facts)


def sample_size(limit: int | Literal["auto"] | None, columns: int) -> int | None:
    """The largest number of points for a ``limit`` of the config: ``auto`` is 100,000 up to 15 columns, where a tree
    finds neighbours, and 10,000 of more."""
    if limit == "auto":
        return 100_000 if columns <= TREE_COLUMNS else 10_000
    return limit


def point_metric(config: Any, columns: int) -> PointMetric:
    """The metric that a config names, for points of so many columns."""
    name: Name = getattr(config, "metric", "euclidean")
    if name != "periodic":
        return PointMetric(name)
    each = config.period if isinstance(config.period, tuple) else (config.period,) * columns
    return PointMetric("periodic", each)


def reaches_round(metric: PointMetric, x: Tensor) -> bool:
    """True if two values of a coordinate, as they were given, are more than half of its period apart."""
    spans = (x.amax(0) - x.amin(0)).tolist()
    return any(period and span > period / 2 for span, period in zip(spans, metric.periods, strict=True))


def bias_warning(low: float, points: int, columns: int) -> str:
    """A warning of a dimension from distances of too few points, by the ``low`` end of its spread; empty for enough.

    n points have pairs over a factor of ten of distances only where the dimension is at most 2 log10 n (Eckmann and
    Ruelle 1992).

    >>> bias_warning(5.2, 1000, 20), bias_warning(8.0, 1000, 8)
    ('', '')
    """
    most = 2 * math.log10(points)
    if not most < low < columns:
        return ""
    return (
        f"the reading is probably too low: distances of {points:,} points show up to {most:.2g} dimensions without "
        "much bias (2 log10 n)"
    )


AT_ONE_DISTANCE = "have two nearest neighbours at one distance"

TIES = 0.2
"""The share of points with two nearest neighbours at one distance from which on the points are a lattice's."""

NEAR_COPIES, COPY = 0.05, 1e-6
"""The share of points from which on it is said that they have a neighbour at this share of the usual distance."""


def odd_neighbours(cloud: Cloud, count: int) -> list[str]:
    """Warnings about points whose ``count`` neighbours are at equal distances or at nearly none; empty for others."""
    distances, said = cloud.neighbours(count)[0], []
    first, second = distances[:, 0], distances[:, 1]
    copies = float((first < COPY * distances[:, -1].median()).double().mean())
    if copies >= NEAR_COPIES:
        said.append(
            f"{copies:.0%} of the points have another one at less than a millionth of the distance of neighbours, as "
            "copies have that were computed: leave such copies out, or round the points"
        )
    ties = float((first * (1 + 1e-9) >= second).double().mean())
    if ties >= TIES:
        advice = "" if cloud.metric.name == "precomputed" else "; estimator:i3d reads such points"
        said.append(f"{ties:.0%} of the points {AT_ONE_DISTANCE}, as counts and categories have{advice}")
    elif nearly_equal(first, second):
        said.append(
            "unusually many points have two neighbours at nearly one distance, as in a periodic series without noise: "
            "the dimension may be far off. Compare neighbours farther away"
        )
    return said


NEARLY, SHARE, DEVIATIONS = 1.05, 1.2, 6.0


def nearly_equal(first: Tensor, second: Tensor) -> bool:
    """True if too many second distances (n,) are below 1.05 first ones, by a fifth and by 6 deviations.

    Where the density is constant around each point, a share 1 - 1.05^-D is. D is of the median of these ratios, which
    a few near copies and parts of another dimension change little.
    """
    ratios = (second / first)[first > 0].double()
    middle = float(ratios.log().median()) if len(ratios) else 0.0
    if not 0 < middle < math.inf:
        return False
    expected = 1 - 2 ** (-math.log(NEARLY) / middle)
    above = float((ratios < NEARLY).double().mean()) - expected
    limit = DEVIATIONS * math.sqrt(expected * (1 - expected) / len(ratios))
    return above > max((SHARE - 1) * expected, limit)


class NeighbourEstimator(Estimator):
    """Intrinsic dimension from neighbours and pairs of points; the type of the config says by which method.

    Events are flattened. Copies count once, since neighbour distances of 0 have no logarithm; counts on a lattice keep
    them. Local methods give ``pointwise``, which is not finite at points where the method has no answer: the value
    leaves these out, and ``diagnostics`` counts them as ``points_left_out``. The interval is over random halves of the
    points; it is None where a half has too few or the method gives no number for one. ``diagnostics`` also says how
    many points were used, how many were duplicates, and under ``warnings`` what was odd about them.

    Of a table larger than ``config.limit`` a sample is read, as the note then reports. Neighbours are found once for
    all points, and the lists of halves are cut from the lists of all points. They are found in shards, which are jobs
    where the ``executor`` runs these in parallel. The answer does not depend on it.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> sphere = host.create("data:sphere", {"dimension": 2, "ambient": 5, "points": 1000})
    >>> print(host.create("estimator:mle").estimate(sphere.load("train")).text())
    intrinsic dimension 2.021 (95% spread over points 1.99 to 2.052)
    """

    def __init__(self, config: Config, *, executor: Executor | None = None) -> None:
        self.config: Any = config
        self.executor = executor
        self.reads_neighbours = not isinstance(config, configs.FisherSConfig)  # which separates each point from all
        self.reads_counts = isinstance(config, configs.I3DConfig)

    @property
    def method(self) -> Method:
        """The method that the type of the config names: looked up, so that an estimator can be pickled."""
        return METHODS[type(self.config)]

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """Value and interval end at the number of coordinates, and ``diagnostics`` have a larger ``reading``.

        Raises ``DataError`` for too few (distinct) points and where the method gives no number.
        """
        found = self._estimate(data, generator, self.config.resamples)
        return ended_at(found, math.prod(as_dataset(data).event_shape))

    def point_estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The method's reading as it is, which may be above the number of coordinates."""
        return self._estimate(data, generator, 0)

    def _estimate(self, data: Tensor | Dataset, generator: torch.Generator | None, resamples: int) -> Estimate:
        config, method = self.config, self.method
        draws = estimate_generator(generator)
        least = method.least(config)
        dataset = as_dataset(data)
        limit = sample_size(config.limit, math.prod(dataset.event_shape))
        x, positions = points_and_positions(dataset, limit, draws, least=least, who=method.name, why=self._why())
        seed = int(torch.randint(0, 2**31 - 1, (), generator=draws))
        metric = point_metric(config, x.shape[1])
        rows = positions if dataset.index is None else dataset.index[positions].cpu()
        points, place, copies = self._distinct(x, rows, metric)
        if len(points) < least:
            raise DataError(
                f"{method.name} needs at least {least} distinct points{self._why()}; of {len(x)}, {len(points)} are"
            )
        heard: list[str] = []
        report(0, 1, f"{method.name} of all {len(points):,} points")  # one call, which doesn't say how far it is
        cloud = Cloud(points, self.executor, metric)
        if metric.periods and not reaches_round(metric, x):
            heard.append(
                "no coordinate spans more than half of its period, so the period changes nothing; were the data "
                "scaled (scale: none reads them as they are)?"
            )
        halves = resamples if len(points) // 2 >= least else 0
        asks = method.neighbours(config)
        if halves and asks:
            cloud.neighbours(min(len(points) - 1, wide(asks)))
        heard += odd_neighbours(cloud, asks) if asks > 1 else []
        value, pointwise = self._fit(cloud, seed, heard)
        if not (math.isfinite(value) and value >= 0):
            raise DataError(
                f"{method.name} gives {value:.3g} for these points, which is no dimension",
                hint="; ".join(sorted(set(heard))) or "give it more points, or use another estimator",
            )
        interval = interval_by_halves(
            lambda half: self._fit(cloud.part(half), seed, [])[0], len(points), halves, config.level, value, draws
        )
        if interval is not None and not method.high:
            heard += filter(None, [bias_warning(interval[0], len(points), x.shape[1])])
        if interval is None and halves:
            heard.append("no interval: the method gives no number for some halves of the points")
        elif resamples and not halves:
            heard.append(
                f"{len(points)} points are few for {method.name}{self._why()}, and give no interval: half of them "
                f"are less than the {least} that it needs"
            )
        diagnostics: dict[str, Any] = {"method": method.name, "points": len(x), "duplicates": copies}
        if len(positions) < len(dataset):
            diagnostics["index"] = positions
        pointwise = None if pointwise is None else pointwise[place]
        if pointwise is not None and (left_out := int((~pointwise.isfinite()).sum())):
            diagnostics["points_left_out"] = left_out
        if heard:
            diagnostics["warnings"] = sorted(set(heard))
        if method.copies:
            diagnostics["scale"] = discrete.scale(config, points)
        else:
            diagnostics |= scale_of(cloud, getattr(config, "n_neighbors", None))
        diagnostics["advice"] = "check this estimate on simulated data of known dimension: scorefold recommend"
        diagnostics |= sample_note(len(x), len(dataset))
        return Estimate(
            quantity=QUANTITY,
            value=value,
            interval=interval,
            level=config.level,
            pointwise=pointwise,
            diagnostics=diagnostics,
            covers="points",
        )

    def _distinct(self, x: Tensor, rows: Tensor, metric: PointMetric) -> tuple[Tensor, Tensor, int]:
        """The points that are searched, the place among them of each point (n,), and the number of copies.

        ``rows`` (n,) are the rows of the points in the data.
        """
        if self.method.copies:
            x = x / self.config.step
            return x, torch.arange(len(x)), len(x) - len(torch.unique(x.round(), dim=0))
        points = given_distances(x, rows) if metric.name == "precomputed" else metric.points(x)
        place = groups_of_copies(metric.keys(points))
        distinct = metric.part(points, first_of(place))
        return distinct, place, len(x) - len(distinct)

    def _why(self) -> str:
        count = getattr(self.config, "n_neighbors", None)
        return "" if count is None else f" with n_neighbors: {count}"

    def _fit(self, cloud: Cloud, seed: int, heard: list[str]) -> tuple[float, Tensor | None]:
        """The estimate from distinct points, with the estimates at the points for local methods."""
        found = self.method.find(MethodInput(self.config, cloud, seed, heard.append))
        if not isinstance(found, Tensor):
            return found, None
        pointwise = found.cpu()
        return _combined(pointwise[torch.isfinite(pointwise)], self.config.combine), pointwise


def _combined(estimates: Tensor, how: str) -> float:
    if len(estimates) == 0:
        return math.nan
    if how == "median":
        return float(estimates.quantile(0.5))
    return float(estimates.mean()) if how == "mean" else 1 / float((1 / estimates).mean())
