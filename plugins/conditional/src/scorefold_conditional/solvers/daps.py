"""DAPS (Zhang et al. 2025): at each noise level an event is drawn given x_t and y, and noised anew for the next level.

With p(x_0 | x_t) taken for N(m, C), C the covariance of ``isotropic`` in ``dps.py`` and m the end of the
probability-flow ODE from x_t, an event given y = A x_0 + noise_std n too is drawn exactly: m + C^(1/2) z is corrected
by C A^T (A C A^T + noise_std^2)^-1 (y + noise_std n - A (m + C^(1/2) z)). Consecutive x_t share no noise, so an error
at one level does not pass on. m must therefore be good by itself: too few ODE steps are the trap.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, condition_rows, map_condition
from scorefold.diffusion import SAMPLERS, time_grid
from scorefold.diffusion.process import Isotropic
from scorefold.diffusion.samplers import Sampler
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.random import draw_normal
from scorefold_conditional.config import DAPSConfig
from scorefold_conditional.inverse import solve_semidefinite
from scorefold_conditional.solvers.dps import _STEPS, DPS
from scorefold_toolkit.operators import LinearOperator

_NOISY = ("euler-maruyama", "predictor-corrector")


class DAPS(DPS):
    """An unconditional prior whose draws are given y = A x + noise_std n (B, *out_shape) level by level.

    ``score`` is PiGDM's, with the same Gaussian in place of p(x_0 | x_t); ``sample`` is the paper's algorithm. Raises
    ``ConfigError`` as ``DPS``.

    >>> from scorefold_registry import Host
    >>> digits = {"use": "data:digits", "config": {"limit": 100}}
    >>> prior = {"use": "score:analytic", "config": {"gaussian": True, "process": "vp"}, "inputs": {"data": digits}}
    >>> daps = Host.discover().create("score:daps", {"operator": {"name": "box-downsample", "factor": 2}}, prior=prior)
    >>> daps.sample(3, condition=torch.zeros(1, 1, 4, 4), steps=4).shape
    torch.Size([3, 1, 1, 8, 8])
    """

    config: DAPSConfig
    prior: ScoreModel

    def __init__(self, config: DAPSConfig, *, prior: ScoreModel, data: DataSource | None = None) -> None:
        super().__init__(config, prior=prior, data=data)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Condition | None = None,
        *,
        steps: Any = 50,
        sampler: str | Sampler | None = None,
        spacing: str = "karras",
        to_zero: bool = True,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Tensor:
        """n samples for each of C observations, (n, C, *E), by ``steps`` levels; without one, n of the prior.

        ``sampler`` solves the ODE at each level, ``ddim`` by default. The last event is drawn at t_min; without
        ``to_zero`` it is noised to t_min. Raises ``ConfigError`` for a guidance other than 1 and for a sampler that
        adds noise.
        """
        condition = self.as_tensors(condition)
        if sampler in _NOISY and condition is not None:
            raise ConfigError(
                f"the sampler {sampler} was asked of score:daps, which solves an ODE at each noise level; expected "
                "ddim, heun, edm or dpmpp-2m",
                hint="leave sampler out, or take score:dps",
            )
        if guidance != 1.0:
            raise ConfigError(
                f"guidance = {guidance} was asked of score:daps, which draws given the observation; expected 1",
                hint="score:dps weighs the observation by guidance",
            )
        if n < 0:
            raise ConfigError(f"{n} draws were asked for; expected 0 or more")
        if condition is None:
            asked = {"steps": steps, "sampler": sampler, "spacing": spacing, "to_zero": to_zero}
            return super().sample(n, generator=generator, **asked, **options)
        self.bind(condition, generator=generator, **options)  # refuses what it doesn't know
        count = condition_rows(condition)
        repeated = map_condition(condition, lambda c: c.repeat(n, *[1] * (c.dim() - 1)))
        assert repeated is not None
        operator, y = self.observations.read(repeated)
        x = self.process.sample_prior((n * count, *self.event_shape), generator=generator, like=self._reference())
        times = time_grid(self.process, steps, spacing).to(x)
        for time, following in pairwise(times):
            drawn = self._drawn(x, time.expand(len(x)), operator, y, sampler or "ddim", generator)
            x = self._noised(drawn, following.expand(len(x)), generator)
        drawn = self._drawn(x, times[-1].expand(len(x)), operator, y, sampler or "ddim", generator)
        x = drawn if to_zero else self._noised(drawn, times[-1].expand(len(x)), generator)
        return x.reshape(n, count, *self.event_shape)

    def _noised(self, x: Tensor, t: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.process.perturb(x, t, draw_normal(tuple(x.shape), generator=generator, like=x))

    def _drawn(
        self,
        x: Tensor,
        t: Tensor,
        operator: LinearOperator,
        y: Tensor,
        sampler: str | Sampler,
        generator: torch.Generator | None,
    ) -> Tensor:
        """An event for each x (B, *E) at times t (B,) and its observation."""
        covariance = self._isotropic(x, t)
        noise = draw_normal(tuple(x.shape), generator=generator, like=x)
        guess = self._centre(x, t, sampler, generator) + self._isotropic(x, t, 0.5)(noise)
        std = self.noise_std
        seen = y + std * draw_normal(tuple(y.shape), generator=generator, like=y) if std else y

        def spread(v: Tensor) -> Tensor:
            return operator(covariance(operator.adjoint(v))) + std**2 * v

        weighed = solve_semidefinite(spread, seen - operator(guess), _STEPS)
        drawn: Tensor = guess + covariance(operator.adjoint(weighed))
        return drawn

    def _centre(self, x: Tensor, t: Tensor, sampler: str | Sampler, generator: torch.Generator | None) -> Tensor:
        """The denoised estimate of x (B, *E), after the ODE where there are steps for it."""
        process = self.process
        steps = self.config.ode_steps
        if steps and len(t) and float(t[0]) > process.t_min:
            times = torch.linspace(float(t[0]), process.t_min, steps + 1, dtype=torch.float64)
            if isinstance(process, Isotropic):  # at levels in one ratio
                first, last = map(float, process.noise_to_signal(times[[0, -1]]).log())
                times = process.time_at(torch.linspace(first, last, steps + 1, dtype=torch.float64).exp())
            walk = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
            x, _ = walk(self.prior.bind(generator=generator), process, x, times, generator=generator)
            t = t.new_full((len(x),), process.t_min)
        return self.prior.denoise(x, t)
