"""Properties of the data that surrogates match: the spectrum, the noise, the grid and the tails."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_neighbours.estimators.pca import component_variances
from scorefold_toolkit.nearest import nearest_neighbours

LEAST = 30
"""The fewest distinct points that surrogates can be matched to."""

ROUNDING = 1e-12
"""The share of the largest variance below which an axis is left out, as the rounding of single precision."""

NEGLIGIBLE = 0.25
"""No estimator can see a direction along which points differ by less than this share of what neighbours differ by."""


GAP = 4.0
"""Least ratio of the variances on both sides of a gap, of which the smaller ones belong to noise."""

UNCLEAR = 1.5
"""Least ratio, beyond its scatter, of which the smaller ones may belong to noise."""

FEW = 100
"""The number of points below which they are measured on their own axes."""

FOLDS = 5
"""The parts of the points of which each is measured on the axes of the others."""

NOISY_SHARE = 0.2
"""By how much variances of noise may differ beyond their scatter, as a share."""

FEWEST_NOISY = 2
"""The fewest axes of one variance that count as noise."""

BESIDE = 0.5
"""Largest deviation of noise along an axis, as a share of what tenth neighbours differ by along one axis before the
gap."""

ALONE = 0.9
"""The least squared difference of neighbours along axes that hold noise alone, as a share of the squared difference of
any two points."""

NORMAL = 0.4
"""Largest difference between the variance of squared lengths of noise and its value for normal noise, as a share."""


@dataclass(frozen=True)
class Facts:
    """Measurements of data (n, D), in the data's units.

    ``axes`` (D, r) are the principal axes that the data fill and ``variances`` (r,) their variances, largest first;
    ``seen`` counts the axes whose deviation matters at the distance of neighbours; ``noise`` is the largest deviation
    of isotropic noise that the data allow; ``steps`` (D,) are the steps of the grid that the columns lie on, 0 where
    there is none; ``marginals`` (n, seen) holds the sorted, standardised coordinates along the axes that are seen;
    ``norms`` (n,) the sorted distances from the mean.
    """

    count: int
    axes: Tensor
    variances: Tensor
    seen: int
    neighbour: float
    noise: float
    steps: Tensor
    marginals: Tensor
    norms: Tensor

    @property
    def on_grid(self) -> bool:
        return bool((self.steps > 0).any())


def measure(x: Tensor) -> Facts:
    """The facts of distinct, centred points (n, D) in float64. Raises ``DataError`` where all points are the same."""
    variances = component_variances(x)
    rank = int((variances > ROUNDING * variances[0]).sum())
    if rank == 0:
        raise DataError("all points are equal: they have no dimension to estimate")
    axes = torch.linalg.svd(x, full_matrices=False).Vh[:rank].T
    # A sign that turns with the data: the longer tail is on the positive side.
    axes = axes * torch.where(((x @ axes) ** 3).sum(0) < 0, -1.0, 1.0)
    variances = variances[:rank]
    y = x @ axes
    distances, neighbours = nearest_neighbours(y, max(10, min(len(y) - 1, 2 * rank, 30)))
    # Of d directions, each makes up about a d-th of the squared distance between neighbours.
    logs = distances.log()
    local = float((logs[:, 9:10] - logs[:, :9]).mean()) ** -1
    nearest = float(distances[:, 0].median())
    seen = int((2 * variances > NEGLIGIBLE**2 * nearest**2 / local).sum())
    seen = max(1, min(seen, len(x) // 3))
    shown = y[:, :seen] / variances[:seen].sqrt()
    return Facts(
        count=len(x),
        axes=axes,
        variances=variances,
        seen=seen,
        neighbour=nearest,
        noise=_noise(y, variances, neighbours),
        steps=grid_steps(x),
        marginals=shown.sort(dim=0).values,
        norms=y.norm(dim=1).sort().values,
    )


@dataclass(frozen=True)
class NoiseAxes:
    """The principal ``axes`` (D, s) before a gap of the variances, and the ``count`` of those behind it, which hold
    noise. Where the gap is not ``clear``, the latter may also be dimensions of their own."""

    axes: Tensor
    count: int
    clear: bool


def axes_above_noise(x: Tensor) -> NoiseAxes | None:
    """The principal axes of centred points (n, D) before a gap behind which all others hold noise of one size; None
    where there is no such gap.

    Axes behind it hold noise alone if they have one variance, up to the scatter of variances of normal points
    (Marchenko and Pastur 1967); if their points have the lengths of normal points; and if neighbours along the axes
    before the gap differ along them as any two points do. Coordinates of a manifold that is thin in many directions
    depend on its others. Noise is small beside what neighbours differ by along one of the axes before the gap: larger
    coordinates that depend on nothing are dimensions of their own.
    """
    count = len(x)
    _, singular, right = torch.linalg.svd(x, full_matrices=False)
    filled = singular > ROUNDING**0.5 * singular[0]
    variances, y = singular[filled].square() / count, x @ right[filled].T
    if len(variances) <= FEWEST_NOISY:
        return None
    # On the axes of few other points variances scatter more than on their own.
    others = variances if count < FEW else held_out_variances(y)
    ratios = others[:-1] / others[1:]
    gap, kept = float(ratios.max()), int(ratios.argmax()) + 1
    rest = variances[kept:]
    scatter = (len(rest) / count) ** 0.5
    one_size = float(rest[0] / rest[-1]) < (1 + NOISY_SHARE) * ((1 + scatter) / (1 - scatter)) ** 2
    # The logarithm of the ratio of two variances of n normal points has the deviation 2 / sqrt(n).
    least = GAP if count < FEW else min(GAP, UNCLEAR * math.exp(6 / count**0.5))
    if gap < least or len(rest) < FEWEST_NOISY or not one_size:
        return None
    before, behind = y[:, :kept], y[:, kept:]
    # The squared lengths of k normal coordinates of variance 1 have the variance 2k.
    lengths = float((behind.square() / rest).sum(1).var()) / (2 * len(rest))
    distances, places = nearest_neighbours(before, min(10, count - 1))
    small = float(rest.mean().sqrt()) < BESIDE * float(distances[:, -1].median()) / kept**0.5
    apart = float((behind - behind[places[:, 0]]).square().sum(1).mean() / (2 * rest.sum()))
    if not small or abs(lengths - 1) >= NORMAL or apart <= ALONE:
        return None
    return NoiseAxes(right[:kept].T, len(rest), gap >= GAP)


def held_out_variances(x: Tensor) -> Tensor:
    """Variances (D,) of centred points (n, D) along the principal axes of others, in the order of theirs.

    Each fifth of the points is measured on the axes of the rest. Along axes of one variance their own points vary
    unequally, the more the more axes there are, which narrows a gap; points that had no part in the axes do not.
    """
    products = x.mT @ x
    found = x.new_zeros(x.shape[1])
    for start in range(FOLDS):
        part = x[start::FOLDS]
        axes = torch.linalg.eigh(products - part.mT @ part).eigenvectors.flip(1)
        found += (part @ axes).square().sum(0) / len(x)
    return found


def _noise(y: Tensor, variances: Tensor, neighbours: Tensor) -> float:
    """The largest deviation of isotropic noise that points (n, r) allow.

    No direction varies less than the noise: neither over all points nor, where the neighbourhoods are large enough for
    it, within them. The smallest variance of m points in r directions is about (1 - sqrt(r / m))^2 of the true one.
    """
    count, rank = neighbours.shape[1], y.shape[1]
    least = float(variances[-1]) / max(0.1, 1 - (rank / len(y)) ** 0.5) ** 2
    if count >= 2 * rank:
        around = y[neighbours]
        spectra = torch.linalg.svdvals(around - around.mean(1, keepdim=True)) ** 2 / (count - 1)
        # What m points in r directions lose of the smallest variance.
        least = min(least, float(spectra[:, -1].median()) / (1 - (rank / count) ** 0.5) ** 2)
    return float(least**0.5)


def local_range(x: Tensor) -> tuple[float, float]:
    """The dimension around points (n, D) in float64 where it is low and where it is high: the 5 % and 95 % quantiles.

    Around a point it is of maximum likelihood (Levina and Bickel 2004), averaged over its neighbours as MacKay and
    Ghahramani (2005) average over all points. At least ``AROUND`` + 1 points, none equal.

    >>> line = torch.linspace(0, 1, 500, dtype=torch.float64)[:, None]
    >>> low, high = local_range(line)
    >>> 0.8 < low < high < 1.3
    True
    """
    distances, neighbours = nearest_neighbours(x, AROUND)
    growth = (distances[:, -1:].log() - distances[:, :-1].log()).mean(1)
    around = torch.cat([growth[:, None], growth[neighbours]], 1).mean(1).clamp_min(1 / len(x))
    low, high = torch.quantile(1 / around, torch.tensor([0.05, 0.95], dtype=x.dtype)).tolist()
    return low, high


AROUND = 20
"""Neighbours that the dimension around a point is estimated from."""


def grid_steps(x: Tensor) -> Tensor:
    """The step (D,) of the grid that each column of points (n, D) lies on; 0 where the values show none."""
    steps = x.new_zeros(x.shape[1])
    for column in range(x.shape[1]):
        gaps = x[:, column].unique().diff()
        spread = float(x[:, column].max() - x[:, column].min())
        gaps = gaps[gaps > 1e-9 * spread]
        if len(gaps) == 0 or len(gaps) > len(x) // 2:
            continue
        step = float(gaps.min())
        multiples = gaps / step
        if float((multiples - multiples.round()).abs().max()) < 0.01:
            steps[column] = step
    return steps


def rounding_reach(x: Tensor, facts: Facts) -> float:
    """The distance by which rounding moves two points (n, D), as a share of the distance of nearest neighbours.

    A value that is rounded to a step is off by a twelfth of its square in the mean of squares. Columns of two values
    are classes, and not rounded.
    """
    steps = torch.stack([s if len(column.unique()) > 2 else 0 * s for s, column in zip(facts.steps, x.T, strict=True)])
    return float((2 * steps.square().sum() / 12).sqrt()) / facts.neighbour
