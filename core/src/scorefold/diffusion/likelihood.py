"""Log-likelihoods by the probability-flow ODE."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from scorefold.diffusion.divergence import divergence
from scorefold.diffusion.process import DiffusionProcess, ScoreFunction, square
from scorefold.errors import ConfigError, DataError
from scorefold.random import draw_signs
from scorefold.stage import report

_CHUNK = 2**24  # numbers in the tangents of one pass of the exact trace


@torch.no_grad()
def probability_flow_log_prob(
    score: ScoreFunction,
    process: DiffusionProcess,
    x: Tensor,
    *,
    trace: str = "exact",
    probes: int = 1,
    generator: torch.Generator | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    mode: Literal["forward", "reverse"] = "forward",
) -> Tensor:
    """log p_{t_min}(x) in nats, (B,), for the distribution whose score (x (B, *E), t (B,)) -> (B, *E) is given.

    Integrates dx/dt = v = f - 1/2 G G^T score and d log p / dt = -div v from t_min to t_max by dopri5 and adds the
    prior's log-density (Song et al. 2021, sec. 4.3 and app. D.2). ``trace`` is ``exact`` (D tangents a step, many at
    once; as many as there are components that still move) or ``hutchinson``, unbiased, with ``probes`` Rademacher
    vectors held fixed along the path. ``mode`` is the differentiation of ``scorefold.diffusion.divergence``. The
    tolerances hold for each point. No gradient flows through the result. Raises ``ConfigError`` for options that do not
    fit, ``DataError`` where the flow does not stay finite.
    """
    if trace not in ("exact", "hutchinson") or probes < 1 or not (rtol > 0 and atol > 0):
        raise ConfigError(
            f"trace = {trace!r}, probes = {probes}, rtol = {rtol}, atol = {atol}; expected trace exact or hutchinson, "
            "at least one probe, tolerances above 0"
        )
    if len(x) == 0:
        return x.new_zeros(0)
    if process.basis is not None:  # orthonormal: |det W| = 1
        x = process.basis(x)
        score, process = process.of_coefficients(score)
    signs = draw_signs((probes, *x.shape), generator=generator, like=x) if trace == "hutchinson" else None
    log_prob = x.new_zeros(len(x))
    # The flow is smooth between the ends of components. Components at rest have neither velocity nor divergence.
    for start, end in pairwise((process.t_min, *process.breakpoints, process.t_max)):
        moving = _moving(process, x, start, end)
        part = x if moving is None else x.flatten(1)[:, moving]
        velocity = partial(_velocity, score, process, x, moving)
        part, gained = _solve(velocity, _trace(part, signs, moving, mode), part, start, end, rtol, atol)
        x = _placed(part, moving, x)
        log_prob = log_prob + gained
    return log_prob + process.prior_log_prob(x)


def _moving(process: DiffusionProcess, x: Tensor, start: float, end: float) -> Tensor | None:
    """The positions of the components of a flattened event that move between two times, or None where all do."""
    levels = process.log_snr(x.new_tensor([start, end]))
    if levels.dim() == 1:
        return None
    moves = (levels[0] != levels[1]).expand(x.shape[1:]).flatten()
    return None if bool(moves.all()) else moves.nonzero().flatten()


def _placed(part: Tensor, moving: Tensor | None, x: Tensor) -> Tensor:
    """Events x with ``part`` in place of the components that move."""
    return part if moving is None else x.flatten(1).index_copy(1, moving, part).reshape(x.shape)


def _trace(
    part: Tensor, signs: Tensor | None, moving: Tensor | None, mode: Literal["forward", "reverse"]
) -> Callable[..., tuple[Tensor, Tensor]]:
    """The divergence of a velocity on the moving part of events."""
    if signs is not None:
        noise = signs if moving is None else signs.flatten(2)[..., moving]
        return partial(divergence, trace="hutchinson", noise=noise, mode=mode)
    tangents = _CHUNK // part.numel()
    return partial(divergence, mode=mode, chunk=None if tangents >= part[0].numel() else max(1, tangents))


def _solve(
    velocity: Callable[[Tensor, Tensor], Tensor],
    take: Callable[..., tuple[Tensor, Tensor]],
    x: Tensor,
    start: float,
    end: float,
    rtol: float,
    atol: float,
) -> tuple[Tensor, Tensor]:
    """x at the end of a piece and the integral of the velocity's divergence along the way, (B,)."""
    from torchdiffeq import odeint  # here: it takes as long to import as all interfaces

    # A component that ends where the piece starts still runs at that very time, but not in this piece.
    opened = start * (1 + 4e-6)

    def derivatives(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        times = t.clamp_min(opened).expand(len(x))
        return take(lambda point: velocity(point, times), state[0])

    derivatives.callback_accept_step = lambda t, _, step: report(  # type: ignore[attr-defined]
        round(100 * float(t + step - start) / (end - start)), 100, "% of the way to noise"
    )
    ends = x.new_tensor([start, end])
    # Without step_t the solver steps past the end, where the process is not defined, and interpolates back.
    options = {"norm": _worst_point, "step_t": ends[1:]}
    try:
        path, gained = odeint(
            derivatives, (x, x.new_zeros(len(x))), ends, rtol=rtol, atol=atol, method="dopri5", options=options
        )
    except AssertionError as error:  # torchdiffeq's own checks: a state that is not finite, a step that vanishes
        raise DataError(
            f"the probability flow could not be solved: {error}",
            hint="check that the score is finite on these points, or loosen rtol and atol",
        ) from error
    return path[-1], gained[-1]


def _velocity(
    score: ScoreFunction, process: DiffusionProcess, x: Tensor, moving: Tensor | None, part: Tensor, t: Tensor
) -> Tensor:
    """f - 1/2 G G^T score of the components (B, K) of events x that move, or of all (B, *E)."""
    x = _placed(part, moving, x)
    velocity = process.drift(x, t) - square(process.dispersion(x, t), score(x, t)) / 2
    return velocity if moving is None else velocity.flatten(1)[:, moving]


def _worst_point(error: tuple[Tensor, Tensor]) -> Tensor:
    """The largest over the batch of a point's relative error, so that no point's accuracy depends on its company."""
    x, log_prob = error
    return torch.maximum((x**2).flatten(1).mean(1).sqrt(), log_prob.abs()).max()
