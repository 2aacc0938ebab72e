"""Geometries of data points alone, without a model: LAND and RBF, as their published codes have them."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from scipy.optimize import nnls
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource
from scorefold_scoregeometry.config import LandConfig, RbfConfig
from scorefold_scoregeometry.density import held_out, training_rows
from scorefold_toolkit.config.common import SolvedConfig
from scorefold_toolkit.geodesics import Conformal, Diagonal, Field, GeodesicMetric
from scorefold_toolkit.geodesics.geometry import SolvedGeometry

_NEIGHBOUR = 10
_ROUNDS = 50
_AT_ONCE = 2**20


class FromPoints(SolvedGeometry):
    """A geometry made of training points alone."""

    def __init__(self, config: SolvedConfig, *, data: DataSource) -> None:
        super().__init__(config, _shape(data))
        self.data = data

    def some_points(self, count: int) -> Tensor:
        """Held-out points."""
        answer: Tensor = held_out(self.data, count).to(torch.get_default_dtype()).unflatten(1, self.event_shape)
        return answer


class LandGeometry(FromPoints):
    """LAND: G(x) = diag(sum_n w_n (x_n - x)^2 + eps)^-power, w_n = exp(-|x - x_n|^2 / (2 gamma^2)).

    A coordinate is short where the training points near x vary in it. Far from all points the metric is constant, so a
    straight line through the void is a geodesic: ``diagnose`` reports points without neighbours.
    Source: Arvanitidis, Hansen and Hauberg 2016, with the weights of Kapusniak et al. 2024 (arXiv 2405.14780).

    >>> from scorefold_registry import Host
    >>> sphere = {"use": "data:sphere", "config": {"dimension": 1, "ambient": 2, "points": 400}}
    >>> bent = Host.discover().create("geometry:land", {"gamma": 0.3}, data=sphere)
    >>> middle = bent.geodesic(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.5]))
    >>> float(middle.norm()) > 0.72  # outside the straight line's middle, towards the circle
    True
    """

    config: LandConfig

    @cached_property
    def points(self) -> Tensor:
        """The training points, (N, D)."""
        return training_rows(self.data, self.config.limit)

    @cached_property
    def gamma(self) -> float:
        """The width of the weights."""
        if self.config.gamma is not None:
            return self.config.gamma
        count = min(_NEIGHBOUR, len(self.points) - 1)
        return float(torch.cdist(self.points, self.points).kthvalue(count + 1, dim=1).values.median()) or 1.0

    def path_metric(self) -> GeodesicMetric:
        """The diagonal metric."""
        return Diagonal(self._values)

    def own_diagnosis(self, points: Tensor) -> tuple[dict[str, float], list[str]]:
        """The width, and the share of points that no training point is near."""
        nearest = torch.cdist(points, self.points).amin(1)
        empty = float((nearest > 3 * self.gamma).double().mean()) if len(points) else 0.0
        numbers = {"gamma": self.gamma, "share of points without neighbours": empty}
        text = (
            f"{empty:.0%} of these points have no training point within 3 gamma = {3 * self.gamma:.3g}: the "
            "metric is flat there and has no information; set a larger gamma"
        )
        return numbers, [text] if empty > 0.1 else []

    def _values(self, x: Tensor) -> Tensor:
        rows = max(1, _AT_ONCE // max(1, len(self.points)))
        return torch.cat([self._some(part) for part in x.split(rows)]) if len(x) else x

    def _some(self, x: Tensor) -> Tensor:
        weights = (-squared_distances(x, self.points) / (2 * self.gamma**2)).exp()
        middle = self.points.mean(0)
        known, x = self.points - middle, x - middle
        # sum_n w_n (x_n - x)^2, expanded so that it is two products of matrices.
        variances = weights @ known.square() - 2 * x * (weights @ known) + x.square() * weights.sum(1, keepdim=True)
        return (variances.clamp_min(0) + self.config.eps) ** -self.config.power


class RbfGeometry(FromPoints):
    """RBF: G(x) = (h(x) + eps)^-power I, h = sum_k W_k exp(-l_k |x - c_k|^2 / 2) with h near 1 on the training points.

    k-means gives the centres c_k. l_k = 0.5 / (kappa sig_k)^2 with sig_k the deviation of a coordinate in cluster k,
    and W >= 0 by least squares. Far from all points the metric is constant. Source: Arvanitidis et al. 2021 (AISTATS),
    with the widths of Kapusniak et al. 2024 (arXiv 2405.14780).

    >>> from scorefold_registry import Host
    >>> sphere = {"use": "data:sphere", "config": {"dimension": 1, "ambient": 2, "points": 400}}
    >>> bent = Host.discover().create("geometry:rbf", {"centres": 20}, data=sphere)
    >>> middle = bent.geodesic(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.5]))
    >>> float(middle.norm()) > 0.72  # outside the straight line's middle, towards the circle
    True
    """

    config: RbfConfig

    @cached_property
    def functions(self) -> tuple[Tensor, Tensor, Tensor]:
        """The centres (K, D), the rates l_k (K,) and the weights W (K,), fitted at the first use."""
        points = training_rows(self.data, self.config.limit)
        centres, own = clusters(points, min(self.config.centres, len(points)))
        whole = float((points - points.mean(0)).square().mean().sqrt()) or 1.0
        widths = points.new_full((len(centres),), whole)
        for k, centre in enumerate(centres):
            if int((own == k).sum()) > 1:
                widths[k] = (points[own == k] - centre).square().mean().sqrt().clamp_min(1e-3 * whole)
        rates = 0.5 / (self.config.kappa * widths) ** 2
        weights = nonnegative_least_squares(radial(points, centres, rates), points.new_ones(len(points)))
        return centres, rates, weights

    def path_metric(self) -> GeodesicMetric:
        """The conformal metric, with log h in the place of a log-density."""
        power, eps = self.config.power, self.config.eps

        def shape(f: Tensor) -> tuple[Tensor, Tensor]:
            h = f.exp()
            return -0.5 * power * (h + eps).log(), -0.5 * power * h / (h + eps)

        return Conformal(Field(self._slope, lambda x: self._sum(x).log()), shape)

    def own_diagnosis(self, points: Tensor) -> tuple[dict[str, float], list[str]]:
        """The share of points where h is below a tenth: there the metric is nearly constant."""
        empty = float((self._sum(points) < 0.1).double().mean()) if len(points) else 0.0
        text = f"{empty:.0%} of these points lie outside the data: the metric is flat there and has no information"
        return {"share of points outside the data": empty}, [text] if empty > 0.1 else []

    def _sum(self, x: Tensor) -> Tensor:
        centres, rates, weights = self.functions
        return (radial(x, centres, rates) @ weights).clamp_min(1e-300)

    def _slope(self, x: Tensor) -> Tensor:
        centres, rates, weights = self.functions
        pulls = radial(x, centres, rates) * weights * rates
        found: Tensor = (pulls @ centres - pulls.sum(1, keepdim=True) * x) / self._sum(x)[:, None]
        return found


def radial(x: Tensor, centres: Tensor, rates: Tensor) -> Tensor:
    """exp(-l_k |x - c_k|^2 / 2) of rows (R, D), (R, K)."""
    found: Tensor = (-0.5 * rates * squared_distances(x, centres)).exp()
    return found


def squared_distances(x: Tensor, known: Tensor) -> Tensor:
    """|x - y|^2 of rows x (R, D) and y (N, D), (R, N): by a product of matrices, about the mean of y."""
    middle = known.mean(0)
    x, known = x - middle, known - middle
    found: Tensor = (x.square().sum(1, keepdim=True) - 2 * x @ known.T + known.square().sum(1)).clamp_min(0)
    return found


def clusters(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Centres (count, D) of k-means (Lloyd, from k-means++ with a fixed seed) and the cluster of each point (N,)."""
    generator = torch.Generator().manual_seed(0)
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    for _ in range(count - 1):
        nearest = torch.cdist(points, centres).amin(1).square()
        if float(nearest.sum()) == 0:
            break
        centres = torch.cat([centres, points[torch.multinomial(nearest, 1, generator=generator)]])
    own = torch.cdist(points, centres).argmin(1)
    for _ in range(_ROUNDS):
        sums = torch.zeros_like(centres).index_add_(0, own, points)
        sizes = torch.bincount(own, minlength=len(centres))[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
        before, own = own, torch.cdist(points, centres).argmin(1)
        if torch.equal(before, own):
            break
    return centres, own


def nonnegative_least_squares(matrix: Tensor, goal: Tensor) -> Tensor:
    """w >= 0 (K,) with the least |matrix w - goal| (N,), by the active set of Lawson and Hanson (scipy)."""
    return torch.from_numpy(nnls(matrix.numpy(), goal.numpy(), maxiter=100 * matrix.shape[1])[0])


def _shape(data: DataSource) -> tuple[int, ...]:
    if not isinstance(data, DataSource):
        raise ConfigError(
            f"this geometry is made of training points, and got a {type(data).__name__}",
            hint="plug a data source into inputs: data",
        )
    shape = tuple(data.event_shape)
    if math.prod(shape) == 0:
        raise ConfigError("this geometry takes events with a coordinate at least")
    return shape
