"""Intrinsic dimension by principal geodesics, and statistics of points in a geometry: mean, variance, tangent PCA,
geodesic regression and k-means.

A pullback geometry is flat: in the coordinates w = F(x) it is Euclidean space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import Estimator, Geometry
from scorefold.interfaces.geometry import barycentre_weights
from scorefold.results import Estimate
from scorefold_pullback.config import TangentPCAConfig
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_toolkit.numerics import bootstrap_interval, gram_spectrum

_BY_SCORE = (
    "variances in the metric score, where steps off the data are the longest. The directions of the least variance "
    "count most; metric latent weighs directions as a PCA does"
)


class TangentPCAEstimator(Estimator):
    """The principal geodesics through the mean that are needed for all but a share of the Fréchet variance.

    ``spectrum`` (1, D) holds the variances, largest first; the diagnostics the ``mean``, the ``directions`` that are
    kept, as tangent vectors at it, the ``squared_distances`` to it and their mean, the ``frechet_variance``. The
    interval is the bootstrap's over points, widened to hold the value.

    >>> from scorefold_registry import Host
    >>> flat = {"use": "geometry:euclidean", "config": {"event_shape": [3]}}
    >>> pca = Host.discover().create("estimator:tangent-pca", {"resamples": 20}, geometry=flat)
    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.01])
    >>> pca.estimate(x).value
    2.0
    """

    def __init__(self, config: TangentPCAConfig, *, geometry: Geometry) -> None:
        self.config, self.geometry = config, geometry

    @torch.no_grad()
    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """Raises ``DataError`` for fewer than 3 points."""
        x = as_dataset(data).tensor()
        if len(x) < 3:
            raise DataError(f"principal geodesics need at least 3 points; {len(x)} were given", hint="give more points")
        pca = tangent_pca(self.geometry, x)
        rank = significant_components(pca.variances, self.config.unexplained)
        z = pca.encode(x)
        squared = z.square().sum(1)
        diagnostics = {
            "points": len(x),
            "frechet_variance": float(squared.mean()),
            "mean": pca.mean,
            "directions": pca.directions()[:rank],
            "squared_distances": squared,
        }
        if isinstance(self.geometry, Pullback) and self.geometry.config.metric == "score":
            diagnostics["note"] = _BY_SCORE
        return Estimate(
            quantity="intrinsic dimension",
            value=float(rank),
            interval=self._interval(z, rank, generator),
            level=self.config.level,
            spectrum=pca.variances[None],
            diagnostics=diagnostics,
        )

    def _interval(self, rows: Tensor, rank: int, generator: torch.Generator | None) -> tuple[float, float] | None:
        """The bootstrap interval of the rank, of coordinates (N, D) in the tangent space of the mean of all."""
        if self.config.resamples == 0:
            return None

        def ranks(draws: Tensor) -> Tensor:
            return torch.tensor([rank_of(rows[chosen]) for chosen in draws.long()])

        def rank_of(chosen: Tensor) -> int:
            return significant_components(gram_spectrum(chosen - chosen.mean(0)).square(), self.config.unexplained)

        low, high = bootstrap_interval(
            torch.arange(len(rows), device=rows.device),
            ranks,
            self.config.level,
            torch.Generator().manual_seed(0) if generator is None else generator,
            resamples=self.config.resamples,
        )
        return min(low, rank), max(high, rank)


def frechet_variance(geometry: Geometry, x: Tensor, weights: Tensor | None = None) -> Tensor:
    """The least of sum_i w_i d(m, x_i)^2 over m, which the mean attains: a number (), for weights that sum to 1.

    Raises ``ShapeError`` for no points and weights that are none.
    """
    shares = barycentre_weights(x, weights)
    return (shares * geometry.distance(geometry.mean(x, weights)[None], x).square()).sum()


def tangent_coordinates(geometry: Geometry, mean: Tensor, x: Tensor) -> Tensor:
    """The logarithms at a point (*E) of points (N, *E), in an orthonormal frame of its tangent space: (N, D)."""
    if isinstance(geometry, Pullback):
        return (geometry.chart(x) - geometry.chart(mean[None])).flatten(1)
    return geometry.log(mean[None].expand_as(x), x).flatten(1) @ _frame(geometry, mean)


def from_tangent_coordinates(geometry: Geometry, mean: Tensor, coordinates: Tensor) -> Tensor:
    """The points (N, *E) with such coordinates (N, D)."""
    shaped = coordinates.reshape(-1, *mean.shape)
    if isinstance(geometry, Pullback):
        return geometry.chart_inverse(geometry.chart(mean[None]) + shaped)
    v = torch.linalg.solve_triangular(_frame(geometry, mean), coordinates, upper=False, left=False)
    return geometry.exp(mean[None].expand_as(shaped), v.reshape(shaped.shape))


def _frame(geometry: Geometry, mean: Tensor) -> Tensor:
    """L (D, D) with G = L L^T: v L are orthonormal coordinates of tangent vectors v (N, D)."""
    factor: Tensor = torch.linalg.cholesky(geometry.metric(mean[None])[0])
    return factor


@dataclass(frozen=True, eq=False)
class TangentPCA:
    """Principal geodesics through the mean (*E) of points.

    ``axes`` (k, D) are orthonormal coordinates in its tangent space, ``variances`` (D,) all of the variances, largest
    first; their sum is the Fréchet variance where the geometry is flat.
    """

    geometry: Geometry
    mean: Tensor
    axes: Tensor
    variances: Tensor

    def encode(self, x: Tensor) -> Tensor:
        """The coordinates (N, k) of points (N, *E) along the axes."""
        return tangent_coordinates(self.geometry, self.mean, x) @ self.axes.mT

    def decode(self, z: Tensor) -> Tensor:
        """The points (N, *E) of coordinates (N, k): the exponential at the mean."""
        return from_tangent_coordinates(self.geometry, self.mean, z @ self.axes)

    def directions(self) -> Tensor:
        """The axes as tangent vectors at the mean, (k, *E), orthonormal in the metric."""
        shaped = self.axes.reshape(-1, *self.mean.shape)
        if isinstance(self.geometry, Pullback):
            return self.geometry.push_inverse(self.geometry.chart(self.mean[None]).expand_as(shaped), shaped)[1]
        frame = _frame(self.geometry, self.mean)
        vectors: Tensor = torch.linalg.solve_triangular(frame, self.axes, upper=False, left=False)
        return vectors.reshape(shaped.shape)


def tangent_pca(geometry: Geometry, x: Tensor, rank: int | None = None, weights: Tensor | None = None) -> TangentPCA:
    """The PCA of the logarithms of points (N, *E) at their mean (Fletcher et al. 2004); all axes without a rank.

    Raises ``ConfigError`` for a rank that is not in 1..D, ``ShapeError`` for no points.
    """
    shares = barycentre_weights(x, weights)
    mean = geometry.mean(x, weights)
    if rank is not None and not 1 <= rank <= mean.numel():
        raise ConfigError(f"a PCA of rank {rank} was asked for; points have {mean.numel()} coordinates")
    rows = shares.sqrt()[:, None] * tangent_coordinates(geometry, mean, x)
    # All D axes are wanted, and of many points no N x N matrix beside them.
    _, values, axes = torch.linalg.svd(rows, full_matrices=len(rows) < mean.numel())
    variances = torch.zeros(mean.numel(), dtype=x.dtype, device=x.device)
    variances[: len(values)] = values.detach().square()
    return TangentPCA(geometry, mean, axes[:rank], variances)


def low_rank(geometry: Geometry, x: Tensor, rank: int) -> Tensor:
    """Points (N, *E) brought onto the first ``rank`` principal geodesics through their mean."""
    pca = tangent_pca(geometry, x, rank)
    return pca.decode(pca.encode(x))


@dataclass(frozen=True, eq=False)
class GeodesicRegression:
    """The geodesic exp(start, t velocity) nearest to points at known times, in squared distance.

    ``start`` and ``velocity`` are (*E); ``r_squared`` is the share of the Fréchet variance that it explains.
    """

    geometry: Pullback
    start: Tensor
    velocity: Tensor
    r_squared: float

    def predict(self, times: Tensor) -> Tensor:
        """The points (T, *E) at times (T,)."""
        speed = times.reshape(-1, *[1] * self.velocity.dim()) * self.velocity
        return self.geometry.exp(self.start[None], speed)


def geodesic_regression(geometry: Pullback, times: Tensor, x: Tensor) -> GeodesicRegression:
    """Least squares over geodesics (Fletcher 2013): exact, as a line fitted to F(x).

    Takes times (N,) and points (N, *E). Raises ``ShapeError`` where they differ in number and ``DataError`` where all
    times are the same.
    """
    if times.dim() != 1 or len(times) != len(x):
        raise ShapeError(f"times have shape {tuple(times.shape)}; expected ({len(x)},), one for each point")
    w = geometry.chart(*geometry.rows(points=x))
    centred = times - times.mean()
    spread = centred.square().sum()
    if len(times) < 2 or not bool(spread > 0):
        raise DataError(f"{len(times)} points at one time alone lie on any geodesic; expected two times at least")
    slope = torch.tensordot(centred, w, dims=1) / spread
    intercept = w.mean(0) - times.mean() * slope
    start, velocity = geometry.push_inverse(intercept[None], slope[None])
    residual = w - intercept - times.reshape(-1, *[1] * slope.dim()) * slope
    total = float((w - w.mean(0)).detach().square().sum())
    unexplained = float(residual.detach().square().sum())
    return GeodesicRegression(geometry, start[0], velocity[0], 1 - unexplained / total if total > 0 else 1.0)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Points in groups: ``labels`` (N,), ``centres`` (k, *E), and the sum of squared distances to them."""

    labels: Tensor
    centres: Tensor
    inertia: float


@torch.no_grad()
def geodesic_kmeans(geometry: Pullback, x: Tensor, clusters: int, *, seed: int = 0, starts: int = 10) -> Clusters:
    """k-means by geodesic distance: scikit-learn's on F(x), whose centres are means in the geometry.

    Raises ``DataError`` for fewer points (N, *E) than clusters.
    """
    from sklearn.cluster import KMeans

    if not 1 <= clusters <= len(x):
        raise DataError(f"{clusters} clusters of {len(x)} points were asked for; expected 1 to {len(x)}")
    w = geometry.chart(*geometry.rows(points=x)).flatten(1)
    found = KMeans(clusters, n_init=starts, random_state=seed).fit(w.cpu().numpy())
    centres = torch.as_tensor(found.cluster_centers_, dtype=x.dtype, device=x.device)
    labels = torch.as_tensor(found.labels_, device=x.device).long()
    return Clusters(labels, geometry.chart_inverse(centres.reshape(-1, *x.shape[1:])), float(found.inertia_))


def significant_components(variances: Tensor, unexplained: float) -> int:
    """d_eps: the fewest m in 1..D whose tail, the variances after the m largest, is at most a share of all.

    ``variances`` (D,) in any order, none below 0. All are kept where none can be dropped. Diepeveen, Batzolis et al.
    2025, the Riemannian auto-encoder. Raises ``ConfigError`` for a share outside [0, 1].
    """
    if not 0 <= unexplained <= 1:
        raise ConfigError(f"a share of {unexplained} of the variance may be unexplained; expected 0 to 1")
    # Summed from the small end: differences of whole sums would lose the digits of small tails.
    tails = variances.double().sort().values.cumsum(0)
    dropped = int((tails <= unexplained * tails[-1]).sum())
    return max(1, len(variances) - dropped)
