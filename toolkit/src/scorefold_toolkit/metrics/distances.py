"""Distances between two samples, with precision, recall, density and coverage."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold.errors import DataError, ShapeError
from scorefold_toolkit.numerics import symmetric_sqrt


def _check_samples(x: Tensor, y: Tensor) -> None:
    if x.dim() < 2 or x.shape[1:] != y.shape[1:]:
        raise ShapeError(
            f"samples of shapes {tuple(x.shape)} and {tuple(y.shape)} were compared; expected (N, *E), (M, *E)"
        )


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """The squared Frechet distance of two samples of features, (N, D) and (M, D), in float64.

    |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)) with unbiased covariances (Dowson and Landau 1982; "FID" where
    the features come from Inception). It is biased upwards in small samples: compare equal sizes only. Raises
    ``DataError`` for fewer than two points.
    """
    _check_samples(x, y)
    moments = (Moments(), Moments())
    for sample, one in zip((x, y), moments, strict=True):
        one.add(sample)
    return moments[0].frechet(moments[1])


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """The squared kernel distance of two samples of features, (N, D) and (M, D), without bias, in float64.

    E k(x, x') + E k(y, y') - 2 E k(x, y) over different points, with k(a, b) = (a.b / D + 1)^3 (Binkowski et al. 2018,
    eq. 3; "KID" where the features come from Inception). It may be below 0. Raises ``DataError`` for fewer than two
    points.

    >>> kernel_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]]))  # 1 + 8 - 2 (1 + 27) / 2
    -19.0
    """
    _check_samples(x, y)
    x, y = x.flatten(1).double(), y.flatten(1).double()
    if min(len(x), len(y)) < 2:
        raise DataError(f"a kernel distance is between samples of two points and more; given {len(x)} and {len(y)}")

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT / a.shape[1] + 1) ** 3

    within = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    return float(within[0] + within[1] - 2 * kernel(x, y).mean())


def frechet_from_moments(mean_x: Tensor, covariance_x: Tensor, mean_y: Tensor, covariance_y: Tensor) -> float:
    """The squared Frechet distance of two Gaussians from means (D,) and covariances (D, D), in float64.

    (S_x S_y)^(1/2) has the trace of the symmetric (S_x^(1/2) S_y S_x^(1/2))^(1/2), so eigenvalues of
    symmetric matrices serve and singular covariances need no offset.
    """
    mean_x, mean_y = mean_x.double(), mean_y.double()
    covariance_x, covariance_y = covariance_x.double(), covariance_y.double()
    root = symmetric_sqrt(covariance_x)
    cross = torch.linalg.eigvalsh(root @ covariance_y @ root).clamp_min(0).sqrt().sum()
    distance = (mean_x - mean_y).square().sum() + covariance_x.trace() + covariance_y.trace() - 2 * cross
    return max(float(distance), 0.0)


class Moments:
    """The mean and the unbiased covariance of features that come in batches, in float64 on the CPU.

    ``count`` (N), ``mean`` (D,) and ``covariance`` (D, D). As long as there are no more points than features the points
    themselves are kept, which takes less room and less work; then they are folded in as Chan, Golub and LeVeque 1979
    do.

    >>> moments = Moments()
    >>> for batch in torch.tensor([[[1.0], [3.0]], [[5.0], [7.0]]]):
    ...     moments.add(batch)
    >>> moments.mean, moments.covariance
    (tensor([4.], dtype=torch.float64), tensor([[6.6667]], dtype=torch.float64))
    """

    def __init__(self) -> None:
        self.count = 0
        self._points: list[Tensor] | None = []
        self._mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Features (B, D) more."""
        batch = features.detach().flatten(1).cpu().double()
        if len(batch) == 0:
            return
        if self._points is not None:
            self.count += len(batch)
            self._points.append(batch)
            if self.count <= batch.shape[1]:
                return
            batch, self._points, self.count = torch.cat(self._points), None, 0
            self._mean, self._scatter = batch.new_zeros(batch.shape[1]), batch.new_zeros(batch.shape[1], batch.shape[1])
        mean = batch.mean(0)
        centred = batch - mean
        total = self.count + len(batch)
        step = mean - self._mean
        self._scatter += centred.T @ centred + torch.outer(step, step) * (self.count * len(batch) / total)
        self._mean += step * (len(batch) / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """(D,)."""
        return self._mean if self._points is None else torch.cat(self._points).mean(0)

    @property
    def covariance(self) -> Tensor:
        """(D, D). Raises ``DataError`` for fewer than two points."""
        if self._points is None:
            return self._scatter / (self.count - 1)
        centred = self._centred()
        return centred.T @ centred / (self.count - 1)

    def frechet(self, other: Moments) -> float:
        """The squared Frechet distance to other features. Raises ``DataError`` for fewer than two points.

        Of samples X and Y with fewer points than features, centred, the trace of (S_x S_y)^(1/2) is the sum of the
        singular values of X Y^T, over the root of (N - 1)(M - 1).
        """
        if self._points is None or other._points is None:
            return frechet_from_moments(self.mean, self.covariance, other.mean, other.covariance)
        x, y = self._centred(), other._centred()
        n, m = self.count - 1, other.count - 1
        cross = torch.linalg.svdvals(x @ y.T).sum() / math.sqrt(n * m)
        apart = (self.mean - other.mean).square().sum()
        return max(float(apart + x.square().sum() / n + y.square().sum() / m - 2 * cross), 0.0)

    def _centred(self) -> Tensor:
        """The points that are kept less their mean, (N, D)."""
        if self.count < 2 or self._points is None:
            raise DataError(f"a Frechet distance needs at least 2 points in each sample; {self.count} were given")
        points = torch.cat(self._points)
        return points - points.mean(0)


def energy_score(draws: Tensor, truth: Tensor) -> Tensor:
    """E|X - y| - E|X - X'| / 2 for each condition, of draws (n, C, *E) and truths (C, *E): (C,) in float64.

    A strictly proper score (Gneiting and Raftery 2007): in the mean over truths it is least for draws from the
    distribution that the truths come from. Raises ``DataError`` for fewer than 2 draws, ``ShapeError`` for shapes that
    do not fit.
    """
    if draws.dim() < 3 or draws.shape[1:] != truth.shape:
        raise ShapeError(f"draws {tuple(draws.shape)} were held to truths {tuple(truth.shape)}; expected (n, C, *E)")
    n = len(draws)
    if n < 2:
        raise DataError(f"an energy score needs at least 2 draws for each condition; {n} were given")
    x = draws.detach().flatten(2).double().transpose(0, 1)
    y = truth.detach().flatten(1).double()[:, None]
    mode = "donot_use_mm_for_euclid_dist"
    spread = torch.cdist(x, x, compute_mode=mode).sum((1, 2)) / (n * (n - 1))
    return torch.cdist(x, y, compute_mode=mode).mean((1, 2)) - spread / 2


def energy_distance(
    x: Tensor, y: Tensor, *, unbiased: bool = True, groups: tuple[Tensor, Tensor] | None = None, chunk: int = 1024
) -> float:
    """The energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of samples (N, *E) and (M, *E), in float64.

    Szekely and Rizzo 2013 (some texts take its square root). ``unbiased`` leaves a point's distance to itself out
    of the means, so the expectation is 0 for equal distributions and values may fall below 0; otherwise it is a
    V-statistic, never negative. ``groups`` (N,) and (M,), integers, leave out all pairs of one group, as draws for one
    condition and its truth are, which are not independent of each other. ``chunk`` rows are compared at once. Raises
    ``DataError`` for fewer than two points, or groups.
    """
    _check_samples(x, y)
    if min(len(x), len(y)) < 2:
        raise DataError(f"an energy distance needs at least 2 points in each sample; {len(x)} and {len(y)} were given")
    x, y = x.detach().flatten(1).double(), y.detach().flatten(1).double()
    of_x, of_y = groups or (None, None)

    def mean(a: Tensor, b: Tensor, of_a: Tensor | None, of_b: Tensor | None) -> float:
        # Distances by differences: the matrix-product form loses half the digits of close pairs.
        mode = "donot_use_mm_for_euclid_dist"
        sums, count = [], 0
        for start in range(0, len(a), chunk):
            distances = torch.cdist(a[start : start + chunk], b, compute_mode=mode)
            if of_a is not None and of_b is not None:
                apart = of_a[start : start + chunk, None] != of_b
                distances, count = distances * apart, count + int(apart.sum())
            sums.append(float(distances.sum()))
        if of_a is None:
            count = len(a) * (len(b) - (a is b and unbiased))
        if count == 0:
            raise DataError("an energy distance needs points of at least 2 groups in each sample; all are of one")
        return math.fsum(sums) / count

    return 2 * mean(x, y, of_x, of_y) - mean(x, x, of_x, of_x) - mean(y, y, of_y, of_y)


def neighbour_measures(
    apart: Tensor, truths: Tensor, samples: Tensor, precision_neighbours: int = 3, density_neighbours: int = 5
) -> dict[str, float]:
    """Precision, recall, density and coverage of m samples next to h truths, by name.

    ``apart`` (m, h) are the distances between them, ``truths`` (h, h) and ``samples`` (m, m) those within each set. A
    ball around a point reaches to its k-th nearest neighbour in its own set: with k ``precision_neighbours`` for
    precision and recall (Kynkaanniemi et al. 2019), ``density_neighbours`` for density and coverage (Naeem et al.
    2020). Each set needs more points than neighbours.

    >>> x = torch.arange(10.0)[:, None]
    >>> neighbour_measures(torch.cdist(x, x), torch.cdist(x, x), torch.cdist(x, x), 1, 1)["precision"]
    1.0
    """
    own, few, many = (
        _radii(samples, precision_neighbours),
        _radii(truths, precision_neighbours),
        _radii(truths, density_neighbours),
    )
    inside = apart <= many
    return {
        "precision": float((apart <= few).any(1).double().mean()),
        "recall": float((apart <= own[:, None]).any(0).double().mean()),
        "density": float(inside.sum(1).double().mean()) / density_neighbours,
        "coverage": float(inside.any(0).double().mean()),
    }


def _radii(within: Tensor, neighbours: int) -> Tensor:
    """The distances (N,) of points from their k-th nearest other point, of the distances (N, N) within their set."""
    # The nearest of all is the point itself.
    others = within + torch.diag(torch.full((len(within),), torch.inf, dtype=within.dtype))
    return others.kthvalue(neighbours, dim=1).values
