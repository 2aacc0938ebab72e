"""Guidance by the misfit of the denoised estimate: DPS (Chung et al. 2023), PiGDM (Song et al. 2023), DiffPIR (Zhu et
al. 2023), TMPD (Boys et al. 2024) and MMPS (Rozet et al. 2024).

With x0-hat(x_t) = E[x_0 | x_t] of the prior, its Jacobian J and r = y - A x0-hat, the score given y is the prior's plus

- ``dps``: (scale scale^T)^-1 signal times a shift of x0-hat against grad |r|. The paper moves x by zeta grad |r| after
  each of 1,000 ancestral steps. Here the move is part of the score, so that every sampler can take it and its length
  depends neither on the number of steps nor on the process: the shift of x0-hat is
  step (sqrt(m) std / |A|^2) signal^T J^T A^T r / |r|, m numbers in y, std the deviation of the prior's data.
- ``pigdm``: J^T A^T (A C A^T + noise_std^2)^-1 r, the score of N(y; A x0-hat, A C A^T + noise_std^2) with C held fixed,
  C the covariance of x_0 given x_t. ``isotropic`` takes C as for data N(., std^2): diagonal with
  std^2 b^2 / (a^2 std^2 + b^2) (their r_t^2, in units of the data). ``tweedie`` takes signal^-1 scale scale^T J^T,
  which holds for every prior (Boys et al. 2024), applied by vector-Jacobian products (Rozet et al. 2024: MMPS).
  ``row-sums`` puts the row sums of A C A^T with this C on a diagonal (TMPD), which is exact where the matrix is
  diagonal; a sum below 0, which no variance is, counts as 0. All leave out the papers' extra weights on the guidance.
- ``diffpir``: x0-hat becomes argmin |y - A x|^2 / noise_std^2 + (signal / scale)^2 |x - x0-hat|^2, the proximal step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition
from scorefold.diffusion import DiffusionProcess
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold_conditional.config import DPSConfig
from scorefold_conditional.inverse import largest_singular, project, shift_denoised, solve_semidefinite
from scorefold_conditional.solvers.prior import InverseSolver, Observations, check_prior
from scorefold_toolkit.rotated import Rotated, RotatedMap

_STEPS = 50

EXACT = "noise_std is not given, so y is taken as exact. Set it to the deviation of the noise, or to 0"
"""The remark of solvers that were given neither a noise nor data with one."""


class DPS(InverseSolver):
    """The score of an unconditional prior, guided by an observation y (B, *out_shape) of the operator; without an
    observation it is the prior's. Nothing is trained. ``score:diffpir``, ``score:tmpd`` and ``score:mmps`` are this
    class with some settings fixed. Without ``operator`` and ``noise_std`` in the config they are the data's.

    Raises ``ConfigError`` for a conditional or an untrained prior, for events that the operator can't serve, and for
    ``covariance: isotropic`` under a process that couples components.

    >>> from scorefold_registry import Host
    >>> digits = {"use": "data:digits", "config": {"limit": 100}}
    >>> prior = {"use": "score:analytic", "config": {"gaussian": True, "process": "vp"}, "inputs": {"data": digits}}
    >>> dps = Host.discover().create("score:dps", {"operator": {"name": "box-downsample", "factor": 2}}, prior=prior)
    >>> dps.sample(3, condition=torch.zeros(1, 1, 4, 4), steps=4).shape
    torch.Size([3, 1, 1, 8, 8])
    """

    def __init__(self, config: DPSConfig, *, prior: ScoreModel, data: DataSource | None = None) -> None:
        name = f"score:{type(config).__name__.removesuffix('Config').lower()}"
        check_prior(prior, name)
        observations = Observations(config.operator, prior, name, data, config.y_units)
        super().__init__(prior, observations)
        self.config = config
        self.noise_std = 0.0 if config.variant == "dps" else observations.deviation(config.noise_std)
        if config.variant != "dps" and config.noise_std is None and data is None:
            self.remarks += (EXACT,)
        if config.variant == "pigdm" and config.covariance == "isotropic" and self._couples():
            raise ConfigError(
                f"covariance: isotropic is a variance a component, and {type(prior.process).__name__} couples them",
                hint="set covariance: tweedie",
            )
        operator = observations.example()
        size = math.sqrt(math.prod(operator.out_shape)) * prior.event_scale.std
        self.length = config.step * size / largest_singular(operator) ** 2

    def remove_noise(self, bound: BoundScore, x: Tensor) -> Tensor:
        """As ``ScoreModel.remove_noise``, by the prior: a move of ``dps`` keeps its length at the end, too."""
        t = x.new_full((len(x),), self.process.t_min)
        return self.prior.denoise(x, t)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        if condition is None:
            return self.prior.score(x, t)
        operator, y = self.observations.read(condition)
        if self.config.variant == "diffpir":
            moved = project(self.prior.score, self.process, operator, y, noise_std=self.noise_std)
            return moved(x, t)

        def estimate(point: Tensor) -> tuple[Tensor, Tensor]:
            score = self.prior.score(point, t)
            return self.process.denoised_from_score(score, point, t), score

        vjp: Any = torch.func.vjp  # typed without has_aux
        denoised, pull, score = vjp(estimate, x, has_aux=True)

        def gradient(v: Tensor) -> Tensor:
            """J^T v."""
            result: Tensor = pull(v)[0]
            return result

        misfit = y - operator(denoised)
        if self.config.variant == "dps":
            towards = gradient(operator.adjoint(_unit(misfit)))
            signal, _ = self.process.coefficients(x, t)
            shift = signal * towards if isinstance(signal, Tensor) else signal.apply_transpose(towards)
            return shift_denoised(self.process, score, x, t, self.length * shift)
        isotropic = self.config.covariance == "isotropic"
        covariance = self._isotropic(x, t) if isotropic else tweedie_covariance(self.process, gradient, x, t)
        variance = self.noise_std**2
        if self.config.covariance == "row-sums":
            sums = operator(covariance(operator.adjoint(torch.ones_like(misfit)))).clamp_min(0) + variance
            # Without noise, what x_t leaves open can be 0: nothing is to be weighed there.
            weighed = torch.where(sums > 0, misfit / sums.where(sums > 0, torch.ones_like(sums)), 0)
            by_sums: Tensor = score + gradient(operator.adjoint(weighed))
            return by_sums

        def spread(v: Tensor) -> Tensor:
            return operator(covariance(operator.adjoint(v))) + variance * v

        weighed = solve_semidefinite(spread, misfit, _STEPS if isotropic else self.config.solver_steps)
        guided: Tensor = score + gradient(operator.adjoint(weighed))
        return guided

    def _isotropic(self, x: Tensor, t: Tensor, power: float = 1.0) -> Callable[[Tensor], Tensor]:
        """v to C^power v."""
        process = self.process
        signal, scale = (process.inner if isinstance(process, Rotated) else process).coefficients(x, t)
        data = self.event_scale.std**2
        variance = (data * scale**2 / (signal**2 * data + scale**2)) ** power
        # Data of one variance have it in every orthonormal basis.
        if isinstance(process, Rotated):
            return RotatedMap(process.transform, variance).apply
        return lambda v: variance * v

    def _couples(self) -> bool:
        if isinstance(self.process, Rotated):
            return False
        like = self._reference().new_zeros((1, *self.event_shape))
        return not isinstance(self.process.coefficients(like, like.new_full((1,), self.process.t_max))[1], Tensor)


def tweedie_covariance(
    process: DiffusionProcess, gradient: Callable[[Tensor], Tensor], x: Tensor, t: Tensor
) -> Callable[[Tensor], Tensor]:
    """v to C v, C = signal^-1 scale scale^T J^T the covariance of x_0 given x_t; ``gradient`` maps v to J^T v, J the
    Jacobian of the denoised estimate."""
    signal, scale = process.coefficients(x, t)
    if isinstance(scale, Tensor):
        return lambda v: scale**2 / signal * gradient(v)
    return lambda v: signal.solve(scale.apply(scale.apply_transpose(gradient(v))))


def _unit(v: Tensor) -> Tensor:
    """Each row over its length; 0 stays 0."""
    size = torch.linalg.vector_norm(v.flatten(1), dim=1).reshape(-1, *[1] * (v.dim() - 1))
    unit: Tensor = v / size.clamp_min(torch.finfo(v.dtype).tiny)
    return unit
