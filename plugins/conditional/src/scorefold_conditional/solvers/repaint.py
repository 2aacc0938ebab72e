"""RePaint (Lugmayr et al. 2022): what is known of an event is replaced by its noised value at every step.

What y = A x shows of x is its part P x = A^+ y with P = A^+ A, the projection on the range of A^T: the pixels of a
mask, the coarse band of an image where A takes block means. Where signal and scale of the process commute with P, the
known part of x_t given y is signal A^+ y + scale P z, whatever the rest is, so that it can be drawn: all components of
the known part diffuse at one speed, or A picks single components. Under a process with one speed a band in a wavelet
basis, block means clamp the coarse band at its own noise level, which is super-resolution by a multi-scale prior.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, condition_rows, map_condition
from scorefold.diffusion import SAMPLERS, DiffusionProcess, resolve_sampler, time_grid
from scorefold.diffusion.process import LinearMap
from scorefold.diffusion.samplers import Sampler
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold.random import draw_normal
from scorefold_conditional.config import RePaintConfig
from scorefold_conditional.solvers.prior import InverseSolver, Observations, check_prior
from scorefold_toolkit.config.operators import MaskConfig
from scorefold_toolkit.operators import LinearOperator

_ancestral: Sampler = partial(SAMPLERS["predictor-corrector"], corrector_steps=0)  # type: ignore[call-arg]


class RePaint(InverseSolver):
    """An unconditional prior whose draws are made to agree with what is known, y = A x (B, *out_shape) without noise.

    ``sample`` is the paper's algorithm 1: a step of the prior, the known part drawn afresh at the new noise level, and
    after every ``jump_length`` steps the same number back by the forward process, until each was drawn ``resamples``
    times. ``score`` is what remains of it for infinitely small steps, and what other samplers walk: the prior's score
    in the unknown part, the score of the noised known value in the known one.

    Neither is the posterior's, since the prior sees the known part with noise of its own where the posterior knows it
    exactly; resampling makes up for a part of that. Raises ``ConfigError`` for a conditional or an untrained prior,
    and for an operator whose known part does not diffuse by itself under the prior's process.

    >>> from scorefold_registry import Host
    >>> digits = {"use": "data:digits", "config": {"limit": 100}}
    >>> prior = {"use": "score:analytic", "config": {"gaussian": True, "process": "vp"}, "inputs": {"data": digits}}
    >>> repaint = Host.discover().create("score:repaint", {"jump_length": 2, "resamples": 2}, prior=prior)
    >>> repaint.sample(3, condition=torch.zeros(1, 1, 8, 8), steps=4).shape
    torch.Size([3, 1, 1, 8, 8])
    """

    def __init__(self, config: RePaintConfig, *, prior: ScoreModel, data: DataSource | None = None) -> None:
        check_prior(prior, "score:repaint")
        known = MaskConfig() if config.operator is None and data is None else config.operator
        observations = Observations(known, prior, "score:repaint", data, config.y_units)
        super().__init__(prior, observations)
        self.config = config
        if observations.noise:
            warnings.warn(
                f"the observations have noise ({observations.noise}), and score:repaint takes them as exact: its "
                "samples repeat the noise. score:mmps takes observations with Gaussian noise",
                stacklevel=2,
            )
        check_known_part(observations.example(), prior.process, self._reference(), known.name if known else "data")

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        score = self.prior.score(x, t)
        if condition is None:
            return score
        operator, y = self.observations.read(condition)
        there, scale = self.process.marginal(operator.pseudo_inverse(y), t)
        noise = (x - there) / scale if isinstance(scale, Tensor) else scale.solve(x - there)
        return score + known_part(operator, self.process.score_from_noise(noise, x, t) - score)

    def bind(
        self,
        condition: Condition | None = None,
        *,
        generator: torch.Generator | None = None,
        guidance: float = 1.0,
        **options: Any,
    ) -> BoundScore:
        """As ``ScoreModel.bind``; raises ``ConfigError`` for a guidance other than 1: what is known is known."""
        if guidance != 1.0:
            raise ConfigError(
                f"guidance = {guidance} was asked of score:repaint, which replaces what is known; expected 1",
                hint="score:dps weighs the observation by guidance",
            )
        return super().bind(condition, generator=generator, **options)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Condition | None = None,
        *,
        steps: Any = 100,
        sampler: str | Sampler | None = None,
        spacing: str = "karras",
        to_zero: bool = True,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Tensor:
        """n samples for each of C observations, (n, C, *E), by ``calls(steps)`` moves; without one, n of the prior.

        ``sampler`` moves x where the config says ``move: sampler``, ``dpmpp-2m`` by default, one step at a time and so
        without a multistep history. The last replacement is without noise: A x is signal(t_min) y, and y after a last
        call ``to_zero``.
        """
        condition = self.as_tensors(condition)
        if n < 0:
            raise ConfigError(f"{n} draws were asked for; expected 0 or more")
        self.bind(condition, generator=generator, guidance=guidance, **options)  # refuses what it doesn't know
        draw = resolve_sampler(sampler or "dpmpp-2m")
        if condition is None:
            return super().sample(
                n, steps=steps, sampler=sampler, spacing=spacing, to_zero=to_zero, generator=generator
            )
        count = condition_rows(condition)
        repeated = map_condition(condition, lambda c: c.repeat(n, *[1] * (c.dim() - 1)))
        assert repeated is not None
        operator, y = self.observations.read(repeated)
        known = operator.pseudo_inverse(y)
        x = self.process.sample_prior(tuple(known.shape), generator=generator, like=known)
        move = _ancestral if self.config.move == "ancestral" else draw
        score = self.prior.bind(generator=generator)
        times = time_grid(self.process, steps, spacing)
        for start, end in resampled(len(times) - 1, self.config.jump_length, self.config.resamples):
            t = times[end].to(x).expand(len(x))
            if end < start:
                a, q = self.process.transition(x, times[start].to(x).expand(len(x)), t)
                x = _apply(a, x) + _apply(q, draw_normal(tuple(x.shape), generator=generator, like=x))
                continue
            x, _ = move(score, self.process, x, times[start : end + 1], generator=generator)
            noise = (
                torch.zeros_like(x)
                if end == len(times) - 1
                else draw_normal(tuple(x.shape), generator=generator, like=x)
            )
            x = x + known_part(operator, self.process.perturb(known, t, noise) - x)
        if to_zero:
            x = self.remove_noise(score, x)
            x = x + known_part(operator, known - x)
        return x.reshape(n, count, *self.event_shape)

    def calls(self, steps: int) -> int:
        """Number of moves of a sample with so many steps, each with the network calls of one step of its sampler; one
        more call takes the last noise away.
        """
        jumps = resampled(steps, self.config.jump_length, self.config.resamples)
        return sum(end > start for start, end in jumps)


def known_part(operator: LinearOperator, v: Tensor) -> Tensor:
    """P v = A^+ A v, (B, *E)."""
    return operator.pseudo_inverse(operator(v))


def resampled(steps: int, jump_length: int, resamples: int) -> Iterator[tuple[int, int]]:
    """The walk over a time grid 0 (noise) to ``steps`` (data), as pairs of positions: steps on, and jumps back.

    Counted from the data, every ``jump_length`` steps are walked ``resamples`` times before the walk goes on (Lugmayr
    et al. 2022, fig. 8); the steps from pure noise to the first such place are walked once, for a jump back to pure
    noise would forget everything.
    """
    position = 0
    while position < steps:
        yield position, position + 1
        position += 1
        if (steps - position) % jump_length == 0 and position > jump_length:
            back = position - jump_length
            for _ in range(resamples - 1):
                yield position, back
                yield from ((k, k + 1) for k in range(back, position))


def check_known_part(operator: LinearOperator, process: DiffusionProcess, like: Tensor, name: str) -> None:
    """Raises ``ConfigError`` unless A^+ A is an orthogonal projection with a kernel, which commutes with the process at
    all times.

    Tried on fixed normal draws at several times, to the accuracy of the dtype of ``like``; a model on torch's meta
    device has no numbers to try.
    """
    if like.is_meta:
        return
    generator = torch.Generator().manual_seed(0)
    v, w = (torch.randn((1, *operator.in_shape), generator=generator).to(like) for _ in range(2))

    known = partial(known_part, operator)
    tolerance = 1e3 * torch.finfo(like.dtype).eps
    both = torch.cat([v, w])
    if float((known(both) - both).abs().max()) <= 0.01 * float(both.abs().max()):
        raise ConfigError(
            f"the operator {name!r} hides nothing of an event, so there is nothing to sample",
            hint="score:mmps and score:tmpd take any linear operator, with the noise of the observation",
        )
    skew = float((known(v) * w - v * known(w)).sum().abs())
    if skew > tolerance * float(v.norm() * w.norm()):
        raise ConfigError(
            f"what the operator {name!r} shows of an event is no orthogonal part of it, so it can't be replaced",
            hint="RePaint takes masks, and operators one step of which is enough; score:dps takes any",
        )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        t = like.new_full((1,), process.t_min + share * (process.t_max - process.t_min))
        for factor in process.coefficients(v, t):
            moved = _apply(factor, v)
            gap = float((known(moved) - _apply(factor, known(v))).norm())
            if gap > tolerance * float(moved.norm()):
                raise ConfigError(
                    f"what the operator {name!r} shows of an event does not diffuse by itself under this process "
                    f"({type(process).__name__}): its components have several speeds or drive others",
                    hint="take a mask, an operator that picks components of one speed, or a prior of one speed",
                )


def _apply(factor: Tensor | LinearMap, v: Tensor) -> Tensor:
    return factor * v if isinstance(factor, Tensor) else factor.apply(v)
