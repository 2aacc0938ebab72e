"""Geometries of a score model or a flow: the score metric and its family, and conformal metrics of the density."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold_scoregeometry.config import DensityConfig, DensityMetricConfig, FermatConfig, ScoreGeometryConfig
from scorefold_scoregeometry.density import Density, cached_until_changed, climbed, held_out
from scorefold_scoregeometry.diagnosis import OUTSIDE, about_density, about_paths, curl_of
from scorefold_scoregeometry.starts import NeighbourGraph, noise_path
from scorefold_toolkit.geodesics import (
    Affine,
    Conformal,
    Denoises,
    FisherChord,
    GeodesicMetric,
    Geodesics,
    GraphChord,
    GraphMidpoint,
    MapChord,
)
from scorefold_toolkit.geodesics.geometry import SolvedGeometry
from scorefold_toolkit.geodesics.thorough import beside_copies, beside_the_graph

_TURNING = 0.05
"""The curl of a score at held-out points above which energies take exact gradients."""

_CLIMBERS = 8
"""Held-out points from which the highest log p is looked for."""

_AWAY = 0.25
"""The least energy of held-out points, over the largest, above which none is near the mode."""

_LEAST = 1e-8
"""The least ratio of the median |s|^2 to a Gaussian's from which lambda is read."""


class FromDensity(SolvedGeometry, Denoises):
    """Common parts of geometries of a density: the model, held-out points, and starts of the solver."""

    config: DensityConfig
    varies: tuple[str, ...] = ()
    """The settings besides noise whose halves and doubles ``thorough`` tries."""
    remedy = "set a higher noise or a smaller weight, or more solver.points and solver.steps"
    aim = 1e-5
    bends = "; a higher weight, or another noise, bends them"

    def __init__(
        self, config: DensityConfig, *, data: DataSource, score: ScoreModel | None = None, flow: Flow | None = None
    ) -> None:
        density = Density(config, score, flow, data)
        super().__init__(config, density.event_shape)
        if not isinstance(data, DataSource):
            raise ConfigError(
                f"this geometry reads held-out points of its data, and got a {type(data).__name__}",
                hint="plug a data source into inputs: data",
            )
        self.density, self.data = density, data

    @property
    @cached_until_changed
    def reference(self) -> Tensor:
        """Numbers measured on held-out points, at the first use and again where the model has changed."""
        self.density.check_ready()
        return self._reference(held_out(self.data))

    def _reference(self, points: Tensor) -> Tensor:
        """Measurements on held-out points (N, D)."""
        raise NotImplementedError

    def path_metric(self) -> GeodesicMetric:
        """See ``SolvedGeometry``."""
        self.density.check_ready()
        return self.made_metric()

    def made_metric(self) -> GeodesicMetric:
        """The metric of this geometry."""
        raise NotImplementedError

    def extra_starts(self, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """The path through the noise of both ends, and the shortest path over training points."""
        found = []
        for name in self.config.solver.starts:
            if name == "noise":
                found.append(noise_path(self.density, x, y))
            elif name == "graph":
                found.append(self._graph.paths(x, y))
        return found

    @property
    @cached_until_changed
    def _graph(self) -> NeighbourGraph:
        return NeighbourGraph(self.data, self.made_metric())

    def some_points(self, count: int) -> Tensor:
        """Held-out points."""
        answer: Tensor = held_out(self.data, count).to(self.density.model._reference()).unflatten(1, self.event_shape)
        return answer

    def own_diagnosis(self, points: Tensor) -> tuple[dict[str, float], list[str]]:
        """The noise, the weight, and how far the score is from a gradient."""
        return about_density(self.density, points)

    def path_diagnosis(self, found: Geodesics) -> tuple[dict[str, float], list[str]]:
        """Check that geodesics stay near the data."""
        return about_paths(self.density, found)[:2]

    def thorough_diagnosis(self, found: Geodesics) -> tuple[dict[str, float], list[str]]:
        """Checks for a shorter path over training points, and for paths through copies of them."""
        ends = torch.stack([path[0] for path in found.paths]), torch.stack([path[-1] for path in found.paths])
        numbers, warnings = beside_the_graph(self, found, self._graph.paths(*ends))
        middles = found.at(torch.tensor([0.5], dtype=torch.float64))[:, 0]
        more, texts = beside_copies(middles, self._graph.points, held_out(self.data))
        return numbers | more, [*warnings, *texts]

    def varied(self) -> Sequence[SolvedGeometry]:
        """At half and twice the noise of a score, and its weight, exponent or alpha."""
        settings = {name: getattr(self.config, name) for name in self.varies}
        plugs: dict[str, Any] = {"flow": self.density.model}
        if isinstance(self.density.model, ScoreModel):
            settings["noise"], plugs = self.density.noise, {"score": self.density.model}
        return [
            type(self)(self.config.model_copy(update={name: factor * value}), data=self.data, **plugs)
            for name, value in settings.items()
            for factor in (0.5, 2.0)
        ]

    def path_reasons(self, found: Geodesics) -> list[str]:
        """Reasons for geodesics that leave the support, or that begin or end outside it; empty for the others."""
        return about_paths(self.density, found)[2]

    def _strict(self, found: Geodesics, level: int = 3) -> Geodesics:
        """Geodesics of which none is withheld, with a warning of ends outside the support where log p is known."""
        found = super()._strict(found, level and level + 1)
        if level and self.density.exact and found.paths:
            ends = torch.stack([path[place] for path in found.paths for place in (0, -1)])
            outside = (self.density.log_prob(ends) < self.density.floor).unflatten(0, (-1, 2)).any(1)
            if bool(outside.any()):
                warnings.warn(f"{int(outside.sum())} of {len(outside)} geodesics: {OUTSIDE}", stacklevel=level)
        return found

    def noise_path(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """Paths through the noise of both ends (B, *E) at times s (T,) from 0 to 1, (B, T, *E): no geodesics, to
        compare."""
        a, b = self._rows(x=x, y=y)
        answer: Tensor = noise_path(self.density, a, b, s).to(x).unflatten(2, self.event_shape)
        return answer

    @property
    def sigma(self) -> float:
        """See ``Denoises``; 0 for a flow."""
        return self.density.sigma

    def denoised(self, x: Tensor) -> Tensor:
        """E[x_0 | x] of points (B, *E) at this geometry's noise, (B, *E); x itself for a flow."""
        (rows,) = self._rows(x=x)
        return self._events(self.density.denoised(rows), x)


class ScoreGeometry(FromDensity):
    """The score metric of a score model or a flow, and its family.

    ``graph`` is G = I + lambda s s^T with s = grad log p: the metric of the graph of sqrt(lambda) log p in R^(D + 1).
    It charges for changes of log p, so geodesics keep to a level of the density. lambda is weight^2 D / median |s|^2
    over held-out points to which noise of this level is added, so a change of units moves no geodesic. It is weight^2
    times the variance of a coordinate for a Gaussian. ``residual`` is I + w J^T J with J the Jacobian of the denoising
    residual sig^2 s. ``jacobian`` is the same of the score with w = lambda^2. ``fisher`` is I + w J of the denoised
    point. w is weight^2. A path's energy of the graph form takes forward calls of the score alone. A score with a curl
    above 0.05 is the gradient of no density: its energy takes vector-Jacobian products too.

    Raises ``ConfigError`` as ``Density``, and for ``fisher`` and ``residual`` of a flow, which has no noise. ``weight``
    raises ``DataError`` where the score is 0 or not finite at most held-out points.

    >>> from scorefold_registry import Host
    >>> plane = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 400}}
    >>> score = {"use": "score:analytic", "inputs": {"data": plane}}
    >>> bent = Host.discover().create("geometry:score", {"weight": 2}, score=score, data=plane)
    >>> a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> 2.83 < float(bent.distance(a, b)) < 3.14  # between the straight line and the arc of equal density
    True
    """

    config: ScoreGeometryConfig
    varies = ("weight",)

    def __init__(
        self,
        config: ScoreGeometryConfig,
        *,
        data: DataSource,
        score: ScoreModel | None = None,
        flow: Flow | None = None,
    ) -> None:
        if flow is not None and config.form in ("residual", "fisher"):
            raise ConfigError(
                f"form: {config.form} is of denoised points, and a flow denoises nothing",
                hint="set form: graph or jacobian, or plug in a score",
            )
        super().__init__(config, data=data, score=score, flow=flow)

    @property
    def weight(self) -> float:
        """lambda of the graph form, in squared units of the data."""
        return self.config.weight**2 * float(self.reference[0])

    @property
    @cached_until_changed
    def curl(self) -> float:
        """The curl of the score at held-out points; 0 for a model with a density."""
        if self.density.exact or self.dimension < 2:
            return 0.0
        return curl_of(self.density, held_out(self.data))

    def made_metric(self) -> GeodesicMetric:
        """The metric of the form."""
        field, form = self.density.field, self.config.form
        if form == "graph":
            return GraphMidpoint(field, self.weight) if self.curl > _TURNING else GraphChord(field, self.weight)
        double = self.density.model._reference().dtype == torch.float64
        if form == "jacobian":
            return MapChord(field, (self.config.weight * float(self.reference[0])) ** 2, exact=double)
        if form == "residual":
            return MapChord(Affine(field, 0.0, self.density.sigma**2), self.config.weight**2, exact=double)
        return FisherChord(Affine(field, 1.0, self.density.sigma**2), self.config.weight**2, exact=double)

    def own_diagnosis(self, points: Tensor) -> tuple[dict[str, float], list[str]]:
        """See ``FromDensity``, with lambda where the form has one."""
        numbers, warnings = super().own_diagnosis(points)
        if self.config.form in ("residual", "fisher"):
            return numbers, warnings
        return {"lambda": self.weight, **numbers}, warnings

    def _reference(self, points: Tensor) -> Tensor:
        density = self.density
        middle = density.score(density.noised(points)).square().sum(1).median()
        variance = max(density.spread**2, float((points - points.mean(0)).square().mean()))
        size = float(middle) * (variance + density.sigma**2) / density.dimension  # 1 for a Gaussian
        if not _LEAST < size < float("inf"):
            raise DataError(
                f"the score at held-out points under noise has the median size {float(middle) ** 0.5:.3g}, so weight "
                "has no scale: the points are all alike, or in other units than the model's, or it is not trained",
                hint="set a higher noise, or give data with other points in the test split",
            )
        return (density.dimension / middle)[None]


class ConformalGeometry(FromDensity):
    """A metric e^(2 phi) I with phi a function of log p. Only the score enters its geodesics, and log p at the ends."""

    def made_metric(self) -> GeodesicMetric:
        """The metric, with log p at the ends where the model has no density."""
        return Conformal(self.density.field, self.shape(), at_ends=self.density.log_prob)

    def shape(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """phi and its derivative by log p, as a function of log p."""
        raise NotImplementedError


class FermatGeometry(ConformalGeometry):
    """Fermat's metric p^(-2 beta) I, beta = exponent / D, with p over its mean (of log p) on held-out points.

    Distances are Euclidean at points of that density, and longer where it is lower. Paths go through higher density
    than their ends: in many coordinates that is not where data are.

    >>> from scorefold_registry import Host
    >>> plane = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 400}}
    >>> score = {"use": "score:analytic", "inputs": {"data": plane}}
    >>> bent = Host.discover().create("geometry:fermat", score=score, data=plane)
    >>> a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> middle = bent.geodesic(a, b, torch.tensor([0.5]))
    >>> float(middle.norm()) < 1.41  # inside the straight line's middle
    True
    """

    config: FermatConfig
    varies = ("exponent",)

    def shape(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """phi = -beta (log p - its mean)."""
        beta, middle = self.config.exponent / self.dimension, self.reference[0]
        return lambda f: (-beta * (f - middle), torch.full_like(f, -beta))

    def _reference(self, points: Tensor) -> Tensor:
        return self.density.levels.mean()[None]


class DensityGeometry(ConformalGeometry):
    """Conformal metrics of the density: (alpha E + 1) I with E = log p_max - log p, or I / (p + eps).

    log p_max is the highest log p found by climbing the score from the likeliest held-out points, no further from their
    mean than they are. At points likelier than that the metric falls smoothly, down to I / 2. In many coordinates no
    datum is near a mode, and E is large at all of them. p is over its mean (of log p) on held-out points, and eps the
    quantile ``eps`` of it.

    >>> from scorefold_registry import Host
    >>> plane = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 400}}
    >>> score = {"use": "score:analytic", "inputs": {"data": plane}}
    >>> bent = Host.discover().create("geometry:density", score=score, data=plane)
    >>> a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> float(bent.distance(a, b)) > 2.83  # the straight line's Euclidean length
    True
    """

    config: DensityMetricConfig
    varies = ("alpha",)

    def shape(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """phi of the form."""
        middle, highest, least = self.reference
        alpha = self.config.alpha

        def energy(f: Tensor) -> tuple[Tensor, Tensor]:
            e = alpha * (highest - f)
            above = 1 - 2 * e.clamp_max(0)  # 1 below the highest log p; smooth, and G at least 1/2, above it
            value = 1 + e / above
            return 0.5 * value.log(), -alpha / (2 * value * above.square())

        def inverse(f: Tensor) -> tuple[Tensor, Tensor]:
            total = torch.logaddexp(f - middle, least - middle)
            return -0.5 * total, -0.5 * (f - middle - total).exp()

        return energy if self.config.form == "energy" else inverse

    def _reference(self, points: Tensor) -> Tensor:
        found = self.density.levels
        highest = found.amax() if self.config.form == "inverse" else self._highest(points)
        return torch.stack([found.mean(), highest, torch.quantile(found, self.config.eps)])

    def _highest(self, points: Tensor) -> Tensor:
        """The highest log p found from the likeliest of some points, and of them where the climb fails."""
        levels, middle = self.density.levels, points.mean(0)
        likeliest = points[levels.argsort(descending=True)[:_CLIMBERS]]
        with suppress(DataError):  # a line integral to a mode may not converge
            tops = climbed(self.density, likeliest, middle, float((points - middle).norm(dim=1).amax()))
            found = self.density.log_prob(tops)
            levels = torch.cat([levels, found[found.isfinite()]])
        return levels.amax()

    def own_diagnosis(self, points: Tensor) -> tuple[dict[str, float], list[str]]:
        """See ``FromDensity``, with the energy of held-out points: how far they are from a mode."""
        numbers, warnings = super().own_diagnosis(points)
        if self.config.form == "energy":
            energies = self.reference[1] - self.density.levels
            least, most = float(energies.amin()), float(energies.amax())
            numbers |= {"least energy of held-out points": least, "largest energy of held-out points": most}
            if least > _AWAY * most:
                alpha = self.config.alpha
                warnings.append(
                    f"held-out points have energies from {least:.3g} to {most:.3g} nats, so none is near the mode: the "
                    f"metric varies among them by a factor of {(1 + alpha * most) / (1 + alpha * least):.3g} alone"
                )
        return numbers, warnings
