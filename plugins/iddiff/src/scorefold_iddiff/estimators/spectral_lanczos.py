"""Near-zero eigenvalues of the log-density's Hessian, counted by stochastic Lanczos quadrature.

Osada, "Local Hessian Spectral Filtering for Robust Intrinsic Dimension Estimation" (arXiv 2605.01221): normal
directions have eigenvalues near -1 / sigma^2 and tangent ones near 0, and counting the latter with a spectral cut-off
keeps the errors of many normal directions out, which a trace adds up. Its cost is linear in D.

The source leaves some choices open, which are made as follows. The Hessian is taken of the score's log-density at the
clean point, as in FLIPD. The projector is P = I + sigma^2 Hessian (``jacobians``). An eigenvalue h is counted where
1 + sigma^2 h is above 1 - cutoff, which for the default is the projector rule's 1/2. The count is the trace of this
step function f of P. For a vector v of random signs, v^T f(P) v is |v|^2 times a weight. It is the weight that Lanczos'
matrix puts on eigenvalues above the cut (Ubaru, Chen and Saad 2017). Lanczos vectors are orthogonalised against all
earlier ones. A learned score's Jacobian is not quite symmetric: the recursion takes its diagonal and sub-diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset
from scorefold.interfaces import Estimator, ScoreModel
from scorefold.results import Estimate
from scorefold.stage import reported
from scorefold_iddiff.estimators.config import LanczosConfig
from scorefold_iddiff.pointwise import score_warnings as warn
from scorefold_iddiff.pointwise.answers import (
    curve_rows,
    draws_at,
    look_at,
    memorisation_warnings,
    pointwise_estimate,
    scale_note,
    sweep_levels,
)
from scorefold_iddiff.pointwise.probe import (
    ProbedPoints,
    ScoreProbe,
    check_finite,
    noise_field,
    projected,
    squared_noise,
)
from scorefold_iddiff.pointwise.support import relative_gap

_ENDED = 1e-5
"""Norm of a new Lanczos vector before scaling, beside unit vectors, below which it is rounding and no direction."""


class SpectralLanczos(Estimator):
    """Dimensions at points as traces of a step function of the score's Jacobian, from products with it alone.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> sphere = host.create("data:sphere", {"dimension": 3, "ambient": 10, "points": 200})
    >>> score = host.create("score:analytic", data=sphere)
    >>> lanczos = host.create("estimator:spectral-lanczos", {"points": 8}, score=score)
    >>> round(lanczos.estimate(sphere.load("train")).value, 1)
    3.0
    """

    def __init__(self, config: LanczosConfig, *, score: ScoreModel) -> None:
        self.config = config
        self.probe = ScoreProbe(score)

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The intrinsic dimension of data (N, *E), with N at least 2, over up to ``config.points`` of them.

        ``pointwise`` (n,) holds the count at each point, a real number where the vectors are random, at the positions
        ``diagnostics["index"]``. ``standard_error`` (n,) is the standard error over the vectors, nan for one vector.
        With as many vectors as coordinates they are the coordinate vectors, and the count is exact. ``network_calls``
        counts two for a forward-mode product, two for a difference, and one for each point. This last call gives the
        guessed noise, which is compared with the dimension (``warnings``). The interval is a bootstrap over points.
        Without a generator the seed is 0.

        Raises ``DataError`` for fewer than 2 points, for values or a score that aren't finite, and for coordinates in
        whose rounding the noise is lost; ``ShapeError`` for events of another shape; ``ConfigError`` for a sigma
        outside the process's range and a network that can't be differentiated as asked.
        """
        config = self.config
        generator = generator or torch.Generator().manual_seed(0)
        dataset = as_dataset(data)
        points = self.probe.points(dataset, config.points, generator)
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        look = look_at(dataset, points, seed)
        sigma, moved = self.probe.sigma(points.x, config.sigma)
        shown = points.part(0, config.shown)
        levels = sweep_levels(self.probe, sigma, config.sweep)
        with self.probe.evaluating():
            counts, products = self._counts(points, sigma, seed)
            curve = []
            for level in levels:
                found, more = (counts[: len(shown)], 0) if level == sigma else self._counts(shown, level, seed)
                curve.append(found)
                products += more
            squares = squared_noise(self.probe, points, sigma, self.probe.rows(config.batch, points.ambient))
        summed = points.ambient <= config.probes
        values = [found.sum(1) if summed else found.mean(1) for found in (counts, *curve)]
        rows = curve_rows(levels, values[1:], config.aggregate)
        spread = torch.zeros(len(points), dtype=torch.float64) if summed else counts.std(1) / config.probes**0.5
        return pointwise_estimate(
            values[0],
            points,
            config,
            generator,
            note=scale_note(sigma, rows, moved),
            warnings=[
                *warn.bent_by(relative_gap(values[0] + squares, values[0])),
                *memorisation_warnings(levels, values[1:], look),
                *warn.of_data(look, sigma, len(points), points.ambient),
            ],
            sigma=sigma,
            probes=min(config.probes, points.ambient),
            network_calls=2 * products + len(points),
            curve=rows,
            curve_pointwise=torch.stack(values[1:]),
            standard_error=spread,
        )

    def _counts(self, points: ProbedPoints, sigma: float, seed: int) -> tuple[Tensor, int]:
        """|v|^2 times the weight above the cut for each vector at each point, (N, probes) in float64 on the CPU, and
        the products with the Jacobian that it took."""
        config, ambient = self.config, points.ambient
        exact = ambient <= config.probes
        width = ambient if exact else config.probes
        found, products = [], 0
        size = max(1, self.probe.rows(config.batch, ambient) // width)
        for which in reported(torch.arange(len(points)).split(size), len(points), "points", size):
            if exact:
                eye = torch.eye(ambient, dtype=points.x.dtype, device=points.x.device)
                vectors = eye.repeat(len(which), 1)
            else:
                chosen = points.part(int(which[0]), int(which[-1]) + 1)
                vectors = draws_at(seed, chosen, width, "rademacher").flatten(0, 1)
            field, clean, scale = noise_field(self.probe, points, sigma, which.repeat_interleave(width))
            product = partial(projected, field, clean, scale, product=config.product)
            weight, used = weight_above(product, vectors, config.steps, 1 - config.cutoff)
            check_finite(sigma, weight)
            found.append((weight * vectors.square().sum(1)).unflatten(0, (-1, width)).double().cpu())
            products += used
        return torch.cat(found), products


def weight_above(product: Callable[[Tensor], Tensor], v: Tensor, steps: int, cut: float) -> tuple[Tensor, int]:
    """The share (R,) of each vector v (R, D) in the eigenspaces above ``cut`` of symmetric operators, by Lanczos, and
    the number of products with a row.

    ``product`` applies row r's operator to row r. The share is exact where there are as many steps as distinct
    eigenvalues whose eigenspaces v has a part in. With fewer steps it is approximated by Gauss quadrature.
    """
    diagonal, beside = lanczos(product, v, min(steps, v.shape[1]))
    tridiagonal = torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    weight: Tensor = (vectors[:, 0].square() * (values > cut)).sum(1)
    return weight, diagonal.numel()


def lanczos(product: Callable[[Tensor], Tensor], v: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The tridiagonal matrices of operators on the Krylov spaces of v (R, D): their diagonals (R, s) and
    sub-diagonals (R, s - 1) in float64, with s at most ``steps``, and fewer where all spaces are used up.

    A row whose space is used up before goes on with zero vectors: its further entries are 0, and have no part in the
    first coordinate, which quadrature reads.
    """
    basis = [v / v.norm(dim=1, keepdim=True)]
    diagonal: list[Tensor] = []
    beside = [v.new_zeros(len(v), 0, dtype=torch.float64)]
    while True:
        image = product(basis[-1])
        diagonal.append((basis[-1] * image).sum(1).double())
        held = torch.stack(basis, dim=1)
        for _ in range(2):  # one pass leaves rounding behind
            image = image - torch.einsum("rsd,rs->rd", held, torch.einsum("rsd,rd->rs", held, image))
        size = image.norm(dim=1)
        alive = size > _ENDED
        if len(diagonal) == steps or not bool(alive.any()):
            return torch.stack(diagonal, 1), torch.cat(beside, 1)
        beside.append(torch.where(alive, size, 0.0).double()[:, None])
        basis.append(torch.where(alive[:, None], image / size.clamp_min(_ENDED)[:, None], 0.0))
