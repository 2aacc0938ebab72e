"""The expected noise at clean points and its derivatives there.

At a point x the score is read at signal x, without noise. With e = -scale score the expected noise, the Jacobian of the
denoiser is P = I - scale grad e = I + scale^2 grad score: near the data the projector on the tangent space. VE and VP
agree in it at equal noise-to-signal ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from scorefold.data import index_condition
from scorefold.diffusion.divergence import divergence
from scorefold.errors import ConfigError
from scorefold.stage import reported
from scorefold_iddiff.pointwise.probe import ProbedPoints, ScoreProbe, check_finite
from scorefold_toolkit.numerics import pushforward

Field = Callable[[Tensor], Tensor]

_NO_FORWARD_MODE = ("forward AD", "forward-mode", "forward mode", "jvp", "vmap")


def noise_field(probe: ScoreProbe, points: ProbedPoints, sigma: float, which: Tensor) -> tuple[Field, Tensor, Tensor]:
    """(e, signal x, scale) at one noise level, with e: (R, *E) -> (R, *E) for the rows ``which`` (R,) of the points."""
    time, signal, scale = probe.coefficients(points.x, sigma)
    condition = index_condition(points.condition, which)

    def field(y: Tensor) -> Tensor:
        return probe.score.noise(y, time.expand(len(y)), condition)

    return field, signal * points.x[which.to(points.x.device)], scale


def noise_and_trace(
    probe: ScoreProbe,
    points: ProbedPoints,
    sigma: float,
    *,
    vectors: Tensor | None,
    rows: int,
    mode: Literal["forward", "reverse"],
) -> tuple[Tensor, Tensor]:
    """|e|^2 and tr P at each point, (N,) each, with about ``rows`` derivatives held at once.

    ``vectors`` (N, n, D) make it a Hutchinson trace, the mean of v^T P v; without them it is exact, by D derivatives.
    Raises ``DataError`` where the score isn't finite, and ``ConfigError`` where the network can't be differentiated.
    """
    width = points.ambient if vectors is None else vectors.shape[1]
    squares, traces = [], []
    each = max(1, rows // width)
    for which in reported(torch.arange(len(points)).split(each), len(points), "points", each):
        field, clean, scale = noise_field(probe, points, sigma, which)
        given, size = None, torch.full((len(which),), float(points.ambient), dtype=clean.dtype, device=clean.device)
        if vectors is not None:
            chosen = vectors[which.to(vectors.device)].transpose(0, 1)
            given = chosen.unflatten(2, clean.shape[1:])
            # v^T P v from |v|^2 - scale v^T grad e v, and not from D: the variance of Gaussian vectors is then that of
            # the k tangent directions instead of the D - k normal ones.
            size = chosen.square().sum(2).mean(0)
        with differentiable(mode):
            noise, trace = divergence(
                field,
                clean,
                trace="exact" if given is None else "hutchinson",
                noise=given,
                mode=mode,
                chunk=None if width <= rows else rows,
            )
        squares.append(noise.flatten(1).square().sum(1))
        traces.append(size - scale * trace)
    square, total = torch.cat(squares), torch.cat(traces)
    check_finite(sigma, square, total)
    return square, total


def squared_noise(probe: ScoreProbe, points: ProbedPoints, sigma: float, rows: int) -> Tensor:
    """|e|^2 at each point, (N,) in float64 on the CPU, ``rows`` points a call: 0 where the data are flat and the score
    is exact. Raises ``DataError`` where the score isn't finite."""
    found = []
    for which in reported(torch.arange(len(points)).split(rows), len(points), "points", rows):
        field, clean, _ = noise_field(probe, points, sigma, which)
        found.append(field(clean).double().flatten(1).square().sum(1))
    squares = torch.cat(found).cpu()
    check_finite(sigma, squares)
    return squares


def projected(
    field: Field, clean: Tensor, scale: Tensor, v: Tensor, *, product: Literal["forward", "differences"]
) -> Tensor:
    """P v at clean points (R, *E) for vectors (R, D): (R, D), by a forward-mode derivative or by central differences.

    Differences step by the noise itself, over which e is smooth: (e(x + scale v/|v|) - e(x - scale v/|v|)) |v| / 2 is
    scale grad e v up to the curvature of e over one deviation of the noise.
    """
    direction = v.reshape(clean.shape)
    if product == "forward":
        with differentiable("forward"):
            _, change = pushforward(field, clean, direction)
        return v - scale * change.flatten(1)
    size = v.norm(dim=1).clamp_min(torch.finfo(v.dtype).tiny)
    step = scale * direction / size.reshape(-1, *[1] * (direction.dim() - 1))
    ahead, behind = field(torch.cat([clean + step, clean - step])).chunk(2)
    image: Tensor = v - (ahead - behind).flatten(1) * size[:, None] / 2
    return image


@contextmanager
def differentiable(mode: str) -> Iterator[None]:
    """Replace torch's error for operations without forward-mode derivatives with a ``ConfigError`` and its fix."""
    try:
        yield
    except (NotImplementedError, RuntimeError) as error:
        text = str(error).partition("\n")[0]
        if mode != "forward" or not any(words in text for words in _NO_FORWARD_MODE):
            raise
        raise ConfigError(
            f"the score's network can't be differentiated in forward mode: {text}",
            hint="set derivatives: reverse (estimator:flipd) or product: differences (estimator:spectral-lanczos)",
        ) from error
