"""Matrix processes: components that drive one another, with exact Gaussian kernels by the matrix exponential."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.diffusion.process import DiffusionProcess, LinearMap
from scorefold.errors import ConfigError, ShapeError
from scorefold.numerics import draw_normal


@dataclass(frozen=True)
class DenseMap:
    """The linear map of matrices (B, D, D) or (1, D, D) on events (B, *E); ``triangular`` says lower triangular."""

    matrix: Tensor
    triangular: bool = False

    def apply(self, v: Tensor) -> Tensor:
        return _on_vectors(lambda columns: self.matrix @ columns, v)

    def apply_transpose(self, v: Tensor) -> Tensor:
        return _on_vectors(lambda columns: self.matrix.mT @ columns, v)

    def solve(self, v: Tensor) -> Tensor:
        """The inverse map applied to v. Raises ``ConfigError`` for a singular matrix."""
        if self.triangular:
            return _on_vectors(lambda columns: _solve_triangular(self.matrix, columns, upper=False), v)
        return _on_vectors(lambda columns: _solve(self.matrix, columns), v)

    def solve_transpose(self, v: Tensor) -> Tensor:
        """The inverse of the transposed map applied to v. Raises ``ConfigError`` for a singular matrix."""
        if self.triangular:
            return _on_vectors(lambda columns: _solve_triangular(self.matrix.mT, columns, upper=True), v)
        return _on_vectors(lambda columns: _solve(self.matrix.mT, columns), v)

    def log_det(self) -> Tensor:
        value: Tensor = torch.linalg.slogdet(self.matrix).logabsdet
        return value


class MatrixProcess(DiffusionProcess):
    """dx = F x dtau + G dw(tau) with constant matrices and the clock tau(t) = int_0^t speed, speed linear in t.

    The kernel is exact (Sarkka and Solin 2019, sec. 6.2): x_t = Psi x_0 + L z with Psi = exp(F tau) and
    L L^T = P(tau), dP/dtau = F P + P F^T + G G^T, P(0) = ``start`` (0 unless given; a small sigma^2 I gives the
    convention of VE). ``drift_matrix`` F and ``dispersion_matrix`` G are (D, D) with D = prod(event_shape); ``speed``
    is its value at 0 and at t_max. The prior is N(0, ``prior_covariance``), P(t_max) unless given.

    Raises ``ShapeError`` for matrices that do not fit, ``ConfigError`` where P(t_min) is not positive definite, that is
    where the noise does not reach every component.
    """

    drift_matrix: Tensor
    dispersion_matrix: Tensor
    start: Tensor
    prior_factor: Tensor

    def __init__(
        self,
        drift_matrix: Tensor,
        dispersion_matrix: Tensor,
        event_shape: Sequence[int] | None = None,
        *,
        t_min: float = 1e-3,
        t_max: float = 1.0,
        speed: tuple[float, float] = (1.0, 1.0),
        start: Tensor | None = None,
        prior_covariance: Tensor | None = None,
    ) -> None:
        super().__init__()
        size = drift_matrix.shape[-1]
        self.event_shape = (size,) if event_shape is None else tuple(event_shape)
        start = drift_matrix.new_zeros(size, size) if start is None else start
        for name, matrix in (("F", drift_matrix), ("G", dispersion_matrix), ("P(0)", start)):
            if matrix.shape != (size, size) or size != math.prod(self.event_shape):
                raise ShapeError(
                    f"{name} has shape {tuple(matrix.shape)}; events of shape {self.event_shape} need (D, D) "
                    f"with D = {math.prod(self.event_shape)}"
                )
        if not 0 <= t_min < t_max or min(speed) <= 0:
            raise ConfigError(
                f"t_min = {t_min}, t_max = {t_max}, speed = {speed}; expected 0 <= t_min < t_max, speeds above 0"
            )
        self.t_min, self.t_max, self.speed = t_min, t_max, speed
        self.register_buffer("drift_matrix", drift_matrix)
        self.register_buffer("dispersion_matrix", dispersion_matrix)
        self.register_buffer("start", start)
        ends = drift_matrix.new_tensor([t_min, t_max])
        factors = _cholesky(self.covariance(ends), t_min)
        prior = factors[1] if prior_covariance is None else _cholesky(prior_covariance, t_max)
        self.register_buffer("prior_factor", prior)

    def clock(self, t: Tensor) -> Tensor:
        """tau(t), (B,)."""
        first, last = self.speed
        return first * t + (last - first) * t**2 / (2 * self.t_max)

    def propagator(self, t: Tensor) -> Tensor:
        """Psi(t) = exp(F tau), (B, D, D)."""
        return torch.matrix_exp(self.drift_matrix * self.clock(t).reshape(-1, 1, 1))

    def covariance(self, t: Tensor) -> Tensor:
        """P(t), the covariance of x_t given x_0, (B, D, D)."""
        psi = self.propagator(t)
        return psi @ self.start @ psi.mT + self._noise_between(self.clock(t))

    def coefficients(self, x: Tensor, t: Tensor) -> tuple[LinearMap, LinearMap]:  # type: ignore[override]
        """(Psi(t), L(t)) as linear maps; times that are one value broadcast are computed once."""
        t = _distinct(t)
        return DenseMap(self.propagator(t)), self._scale(t)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return DenseMap(self.drift_matrix * self._speed(_distinct(t)).reshape(-1, 1, 1)).apply(x)

    def dispersion(self, x: Tensor, t: Tensor) -> LinearMap:
        return DenseMap(self.dispersion_matrix * self._speed(_distinct(t)).sqrt().reshape(-1, 1, 1))

    def log_snr(self, t: Tensor) -> Tensor:
        """The mean over directions, (log det Psi Psi^T - log det P) / D: (B,)."""
        size = self.drift_matrix.shape[-1]
        log_signal = self.drift_matrix.trace() * self.clock(t)
        return 2 * (log_signal - self._scale(t).log_det()) / size

    def sample_prior(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        return self._prior(like).apply(draw_normal(shape, generator=generator, like=like))

    def prior_log_prob(self, x: Tensor) -> Tensor:
        prior = self._prior(x)
        white = prior.solve(x).flatten(1)
        return -(white**2).sum(1) / 2 - prior.log_det() - white.shape[1] * math.log(2 * math.pi) / 2

    def marginal(self, x0: Tensor, t: Tensor) -> tuple[Tensor, LinearMap]:
        signal, scale = self.coefficients(x0, t)
        return signal.apply(x0), scale

    def perturb(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        signal, scale = self.coefficients(x0, t)
        return signal.apply(x0) + scale.apply(noise)

    def noise_from_score(self, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return -self._scale(_distinct(t)).apply_transpose(score)

    def score_from_noise(self, noise: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return -self._scale(_distinct(t)).solve_transpose(noise)

    def denoised_from_score(self, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
        signal, scale = self.coefficients(x, t)
        return signal.solve(x + scale.apply(scale.apply_transpose(score)))

    def transition(self, x: Tensor, s: Tensor, t: Tensor) -> tuple[LinearMap, LinearMap]:
        """x_t = a x_s + q z, exact: a = exp(F (tau_t - tau_s)), q the Cholesky factor of the noise gathered between.

        Raises ``ConfigError`` where that noise is singular.
        """
        elapsed = _distinct(self.clock(t) - self.clock(s))
        a = torch.matrix_exp(self.drift_matrix * elapsed.reshape(-1, 1, 1))
        return DenseMap(a), DenseMap(_cholesky(self._noise_between(elapsed), float(s.min())), triangular=True)

    def _speed(self, t: Tensor) -> Tensor:
        first, last = self.speed
        return first + (last - first) * t / self.t_max

    def _scale(self, t: Tensor) -> DenseMap:
        return DenseMap(_cholesky(self.covariance(t), self.t_min), triangular=True)

    def _prior(self, like: Tensor) -> DenseMap:
        return DenseMap(self.prior_factor.to(like)[None], triangular=True)

    def _noise_between(self, elapsed: Tensor) -> Tensor:
        """int_0^elapsed e^{F s} G G^T e^{F^T s} ds by Van Loan's block exponential, (B, D, D).

        The block matrix holds e^{-F s}, which overflows for long times: it is used on a step halved until |F s| <= 1,
        and P(2s) = P(s) + e^{Fs} P(s) e^{F^T s} doubles the step again.
        """
        size = self.drift_matrix.shape[-1]
        reach = elapsed.abs().amax() * torch.linalg.matrix_norm(self.drift_matrix, 1) if len(elapsed) else 0.0
        doublings = math.ceil(math.log2(max(float(reach), 1.0)))
        step = (elapsed / 2**doublings).reshape(-1, 1, 1)
        noise = self.dispersion_matrix @ self.dispersion_matrix.mT
        block = torch.cat(
            [
                torch.cat([-self.drift_matrix, noise], dim=1),
                torch.cat([torch.zeros_like(noise), self.drift_matrix.mT], dim=1),
            ]
        )
        exponential = torch.matrix_exp(block * step)
        psi = exponential[:, size:, size:].mT
        covariance = psi @ exponential[:, :size, size:]
        for _ in range(doublings):
            covariance = covariance + psi @ covariance @ psi.mT
            psi = psi @ psi
        return (covariance + covariance.mT) / 2


def _distinct(t: Tensor) -> Tensor:
    """One time where times are one number broadcast (stride 0), as samplers give them: it saves B - 1 exponentials."""
    return t[:1] if t.numel() > 1 and t.stride(0) == 0 else t


def _on_vectors(function: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    columns = function(v.reshape(v.shape[0], math.prod(v.shape[1:]), 1))
    return columns.reshape(columns.shape[0], *v.shape[1:])


def _solve(matrix: Tensor, columns: Tensor) -> Tensor:
    solution, info = torch.linalg.solve_ex(matrix, columns)
    if bool(info.any()):
        raise ConfigError("a singular matrix of a diffusion process has no inverse")
    result: Tensor = solution
    return result


def _solve_triangular(matrix: Tensor, columns: Tensor, upper: bool) -> Tensor:
    solution: Tensor = torch.linalg.solve_triangular(matrix, columns, upper=upper)
    return solution


def _cholesky(covariance: Tensor, t: float) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(covariance)
    if bool(info.any()):
        raise ConfigError(
            f"the noise at t = {t:g} is singular: it does not reach every component",
            hint="raise t_min, give a start covariance, or a G (with F) that reaches every component",
        )
    result: Tensor = factor
    return result
