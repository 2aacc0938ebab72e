"""MLE, TwoNN and scikit-dimension's estimators behind one adapter (Bac et al. 2021)."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

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
from scorefold_neighbours.estimators.formulas import mle, two_nn
from scorefold_neighbours.estimators.neighbours import nearest_neighbours, sample_size
from scorefold_neighbours.estimators.points import QUANTITY, interval_by_halves, noted, points_of, seeded
from scorefold_toolkit.libraries import library

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """One class of ``skdim.id``: its arguments from (config, points, coordinates), and the fewest points it can take.

    ``local`` methods estimate at every point from ``config.n_neighbors`` neighbours; ``patched`` ones are global but
    applied to the neighbourhood of every point; the others give one number of the points. ``random`` methods take a
    seed. A ``formula`` stands for the class: it makes estimates of the distances (N, k) to the nearest neighbours,
    ``neighbours`` of them, and needs no library.
    """

    name: str
    least: Callable[[Any], int]
    arguments: Callable[[Any, int, int], dict[str, Any]] = lambda c, n, d: {}
    local: bool = False
    patched: bool = False
    random: bool = False
    formula: Callable[[Any, Array], Array | float] | None = None
    neighbours: Callable[[Any], int] = lambda c: int(c.n_neighbors)


def _sizes(config: configs.KNNConfig, n: int) -> npt.NDArray[np.int64]:
    smallest = max(config.n_neighbors + 1, n // 20)
    return np.unique(np.linspace(smallest, max(smallest + 1, n // 4), config.sizes).astype(np.int64))


def _lpca(config: configs.LPCAConfig, n: int, d: int) -> dict[str, Any]:
    # scikit-dimension's alphaRatio is the share of the variance to hold, ours the share to leave out.
    return {"ver": config.rule, "alphaFO": config.share, "alphaRatio": 1 - config.share}


def _neighbours(config: Any) -> int:
    return int(config.n_neighbors) + 1


METHODS: Mapping[type[Config], Method] = {
    configs.MLEConfig: Method("MLE", _neighbours, local=True, formula=mle),
    configs.TwoNNConfig: Method(
        "TwoNN", lambda c: max(10, math.ceil(3 / (1 - c.discard))), formula=two_nn, neighbours=lambda c: 2
    ),
    configs.LPCAConfig: Method("lPCA", _neighbours, _lpca, patched=True),
    configs.CorrIntConfig: Method("CorrInt", lambda c: int(c.far) + 1, lambda c, n, d: {"k1": c.near, "k2": c.far}),
    configs.DANCoConfig: Method(
        "DANCo",
        lambda c: max(20, c.n_neighbors + 2),
        lambda c, n, d: {"k": c.n_neighbors, "D": min(d, c.max_dimension or 100), "ver": c.version},
        random=True,
    ),
    configs.FisherSConfig: Method("FisherS", lambda c: 10, lambda c, n, d: {"conditional_number": c.condition}),
    configs.ESSConfig: Method("ESS", _neighbours, lambda c, n, d: {"ver": c.version}, local=True, random=True),
    configs.TLEConfig: Method("TLE", _neighbours, local=True),
    configs.MADAConfig: Method("MADA", _neighbours, local=True),
    configs.MOMConfig: Method("MOM", _neighbours, local=True),
    configs.KNNConfig: Method(
        "KNN",
        lambda c: max(20, 4 * (c.n_neighbors + 2)),
        # gamma = 1 is the edge length itself, which is below the dimension for every curve and surface.
        lambda c, n, d: {"k": c.n_neighbors, "ps": _sizes(c, n), "M": c.repeats, "gamma": 1},
        random=True,
    ),
    configs.MiNDMLConfig: Method(
        "MiND_ML",
        lambda c: int(c.n_neighbors) + 3,
        lambda c, n, d: {"k": c.n_neighbors, "D": c.max_dimension or d, "ver": c.version},
    ),
    configs.GRIDEConfig: Method("GRIDE", lambda c: max(10, c.far + 1), lambda c, n, d: {"n1": c.near, "n2": c.far}),
    configs.PHConfig: Method(
        "PH",
        lambda c: 20,
        lambda c, n, d: {"alpha": c.power, "nsteps": c.sizes, "subsamples": c.repeats},
        random=True,
    ),
}


FAR_ABOVE = 1.5
"""The multiple of the number of coordinates from which on the points are not what a method assumes."""


def ended_at(found: Estimate, coordinates: int) -> Estimate:
    """An estimate that is at most the number of coordinates, with a note of what was read where that is more.

    One that is far above it stays as it is: its own note says that the method does not fit.
    """
    value, interval = found.number(), found.interval
    if value > FAR_ABOVE * coordinates or max([value, *(interval or ())]) <= coordinates:
        return found
    facts = dict(found.diagnostics)
    if value > coordinates:
        facts["reading"] = value
        said = f"it reads {value:.3g}, above the number of coordinates"
        facts["note"] = "; ".join(filter(None, [said, str(facts.get("note", ""))]))
    within = interval and (min(interval[0], coordinates), min(interval[1], coordinates))
    return replace(found, value=float(min(value, coordinates)), interval=within, diagnostics=facts)


class SkdimEstimator(Estimator):
    """Intrinsic dimension by a closed form or a method of scikit-dimension; the type of the config says which.

    Raises ``ConfigError`` for a method of scikit-dimension where this is not installed.

    Events are flattened; exact duplicates count once, since neighbour distances of 0 have no logarithm. Local methods
    give ``pointwise``, which is not finite at points where the method has no answer: the value leaves these out, and
    ``diagnostics`` counts them as ``points_left_out``. The interval is over random halves of the points; it is None
    where a half has too few or the method gives no number for one. ``diagnostics`` also says how many points were
    used, how many were duplicates, and what scikit-dimension warned of.

    Of a table larger than ``config.limit`` a sample is read, which the note then says. MLE, TwoNN and all local methods
    find neighbours by ``nearest_neighbours``, in shards that are jobs where the ``executor`` runs these in parallel;
    the answer does not depend on it.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> sphere = host.create("data:sphere", {"dimension": 2, "ambient": 5, "points": 1000})
    >>> print(host.create("estimator:mle").estimate(sphere.load("train")).text())
    intrinsic dimension 2.021 (95% interval 1.99 to 2.052)
    """

    def __init__(self, config: Config, *, executor: Executor | None = None) -> None:
        self.config: Any = config
        self.executor = executor
        self._methods()

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
        draws = seeded(generator)
        least = method.least(config)
        dataset = as_dataset(data)
        limit = sample_size(config.limit, math.prod(dataset.event_shape))
        x, positions = points_of(dataset, limit, draws, least=least, who=method.name, why=self._why())
        seed = int(torch.randint(0, 2**31 - 1, (), generator=draws))
        distinct, place = torch.unique(x, dim=0, return_inverse=True)
        if len(distinct) < least:
            raise DataError(
                f"{method.name} needs at least {least} distinct points{self._why()}; of {len(x)}, {len(distinct)} are"
            )
        heard: list[str] = []
        report(0, 1, f"{method.name} of all {len(distinct):,} points")  # one call, which doesn't say how far it is
        value, pointwise = self._fit(distinct, seed, heard)
        if not (math.isfinite(value) and value >= 0):
            raise DataError(
                f"{method.name} gives {value:.3g} for these points, which is no dimension",
                hint="; ".join(sorted(set(heard))) or "give it more points, or use another estimator",
            )
        halves = resamples if len(distinct) // 2 >= least else 0
        interval = interval_by_halves(
            lambda half: self._of_half(distinct[half], seed), len(distinct), halves, config.level, value, draws
        )
        if interval is None and halves:
            heard.append("no interval: the method gives no number for some halves of the points")
        elif resamples and not halves:
            heard.append(
                f"{len(distinct)} points are few for {method.name}{self._why()}, and give no interval: half of them "
                f"are less than the {least} that it needs"
            )
        diagnostics: dict[str, Any] = {"method": method.name, "points": len(x), "duplicates": len(x) - len(distinct)}
        if len(positions) < len(dataset):
            diagnostics["index"] = positions
        pointwise = None if pointwise is None else pointwise[place]
        if pointwise is not None and (left_out := int((~pointwise.isfinite()).sum())):
            diagnostics["points_left_out"] = left_out
        if heard:
            diagnostics["warnings"] = sorted(set(heard))
        above = f"more than the {x.shape[1]} coordinates of the points, so these are not what {method.name} assumes"
        diagnostics |= noted(len(x), len(dataset), above if value > FAR_ABOVE * x.shape[1] else "")
        return Estimate(
            quantity=QUANTITY,
            value=value,
            interval=interval,
            level=config.level,
            pointwise=pointwise,
            diagnostics=diagnostics,
        )

    def _of_half(self, x: Tensor, seed: int) -> float:
        """The estimate from half of the points, nan where the method can't take them."""
        try:
            return self._fit(x, seed, [])[0]
        except DataError:
            return math.nan

    def _methods(self) -> Any:
        """The library's methods, where one is asked: ``skdim.id``."""
        if self.method.formula is not None:
            return None
        # Its first import switches all warnings off, which must neither last nor hide the next ones.
        with warnings.catch_warnings(), library(self.method.name, "scorefold-neighbours[dimension]"):
            import skdim
        return skdim.id

    def _why(self) -> str:
        count = getattr(self.config, "n_neighbors", None)
        return "" if count is None else f" with n_neighbors: {count}"

    def _fit(self, x: Tensor, seed: int, heard: list[str]) -> tuple[float, Tensor | None]:
        """The estimate from distinct points (n, D), with the estimates at the points for local methods."""
        points = x.numpy()
        # scikit-dimension asks for two coordinates; one more that is 0 changes no distance.
        if points.shape[1] == 1:
            points = np.hstack([points, np.zeros_like(points)])
        methods, printed = self._methods(), io.StringIO()
        with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"), redirect_stdout(printed):
            warnings.simplefilter("always")
            value, pointwise = self._fitted(methods, points, seed)
        heard.extend(str(warning.message) for warning in caught)
        heard.extend(printed.getvalue().splitlines())
        return value, pointwise

    def _fitted(self, methods: Any, points: Array, seed: int) -> tuple[float, Tensor | None]:
        config, method = self.config, self.method
        if method.formula is not None:
            distances, _ = nearest_neighbours(points, method.neighbours(config), self.executor)
            return self._answer(method.formula(config, distances))
        arguments = method.arguments(config, *points.shape)
        if method.random:
            arguments["random_state"] = seed
        model = getattr(methods, method.name)(**arguments)
        try:
            if method.local:
                found = nearest_neighbours(points, config.n_neighbors, self.executor)
                model.fit(points, n_neighbors=config.n_neighbors, precomputed_knn_arrays=found)
                estimates = model.dimension_pw_
            elif method.patched:
                _, places = nearest_neighbours(points, config.n_neighbors, self.executor)
                estimates = model.fit_transform_pw(points, n_neighbors=config.n_neighbors, precomputed_knn=places)
            else:
                estimates = float(model.fit(points).dimension_)
        except Exception as error:  # scikit-dimension raises anything for points its methods were not made for
            raise DataError(f"{method.name} can't estimate from these points: {error}") from error
        return self._answer(estimates)

    def _answer(self, estimates: Array | float) -> tuple[float, Tensor | None]:
        if isinstance(estimates, float):
            return estimates, None
        pointwise = torch.from_numpy(np.asarray(estimates, dtype=np.float64))
        return _combined(pointwise[torch.isfinite(pointwise)], self.config.combine), pointwise


def _combined(estimates: Tensor, how: str) -> float:
    if len(estimates) == 0:
        return math.nan
    if how == "median":
        return float(estimates.quantile(0.5))
    return float(estimates.mean()) if how == "mean" else 1 / float((1 / estimates).mean())
