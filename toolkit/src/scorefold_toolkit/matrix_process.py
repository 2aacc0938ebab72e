"""Matrix processes: components that drive one another, with Gaussian kernels by the matrix exponential."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.diffusion.process import DiffusionProcess, LinearMap
from scorefold.errors import ConfigError, ShapeError
from scorefold.random import draw_normal


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
    """dx = F x dtau + G dw(tau) with the clock tau(t) = int_0^t speed, speed linear in t.

    ``drift_matrix`` F and ``dispersion_matrix`` G are (D, D), constant, or (K, D, D), constant between ``knots``
    (K + 1,), which run from 0 to t_max (evenly unless given); row k holds for knots[k] < t <= knots[k + 1].
    D = prod(event_shape). ``sampled`` makes such tables of functions of t. The kernel is exact (Sarkka and Solin 2019,
    sec. 6.2): x_t = Psi x_0 + L z with dPsi = F Psi dtau, Psi(0) = 1, and L L^T = P, dP = (F P + P F^T + G G^T) dtau,
    P(0) = ``start`` (0 unless given; a small sigma^2 I gives the convention of VE). ``speed`` is its value at 0 and at
    t_max. The prior is N(0, ``prior_covariance``), P(t_max) unless given. A sampler's step may cross knots, at a loss
    of accuracy: a time grid that holds them has none.

    Raises ``ShapeError`` for matrices that do not fit, ``ConfigError`` for knots that do not run from 0 to t_max, and
    where P(t_min) is not positive definite, that is where the noise does not reach every component.

    >>> process = MatrixProcess(-torch.eye(2) / 2, torch.eye(2), speed=(0.1, 20.0))  # VP, as a matrix
    >>> process.coefficients(torch.zeros(1, 2), torch.ones(1))[1].apply(torch.ones(1, 2)).round(decimals=3)
    tensor([[1., 1.]])
    """

    drift_matrix: Tensor
    dispersion_matrix: Tensor
    knots: Tensor
    propagators: Tensor
    covariances: Tensor
    log_signals: Tensor
    prior_factor: Tensor

    def __init__(
        self,
        drift_matrix: Tensor,
        dispersion_matrix: Tensor,
        event_shape: Sequence[int] | None = None,
        *,
        knots: Sequence[float] | None = None,
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
            table = matrix.dim() == 3 and name != "P(0)"
            if matrix.shape[int(table) :] != (size, size) or size != math.prod(self.event_shape):
                raise ShapeError(
                    f"{name} has shape {tuple(matrix.shape)}; events of shape {self.event_shape} need (D, D) "
                    f"with D = {math.prod(self.event_shape)}, or K of them"
                )
        if not 0 <= t_min < t_max or min(speed) <= 0:
            raise ConfigError(
                f"t_min = {t_min}, t_max = {t_max}, speed = {speed}; expected 0 <= t_min < t_max, speeds above 0"
            )
        self.t_min, self.t_max, self.speed = t_min, t_max, speed
        self.interpolates = False
        self.register_buffer("drift_matrix", drift_matrix)
        self.register_buffer("dispersion_matrix", dispersion_matrix)
        self.register_buffer("knots", _knots(knots, t_max, drift_matrix, dispersion_matrix))
        self._keep_knots(start)
        ends = drift_matrix.new_tensor([t_min, t_max])
        factors = _cholesky(self.covariance(ends), t_min)
        prior = factors[1] if prior_covariance is None else _cholesky(prior_covariance, t_max)
        self.register_buffer("prior_factor", prior)

    @classmethod
    def sampled(
        cls,
        drift: Callable[[float], Tensor],
        dispersion: Callable[[float], Tensor],
        intervals: int = 256,
        event_shape: Sequence[int] | None = None,
        *,
        t_max: float = 1.0,
        **options: Any,
    ) -> MatrixProcess:
        """The process of matrices F(t) and G(t), (D, D), from their values in the middle of equal intervals.

        Kernels take the matrices as constant on each interval (the exponential midpoint rule). Drift and dispersion
        interpolate between the middles, so that a solver meets no jumps. The errors of the kernels, the drift and the
        dispersion are O(intervals^-2). ``options`` are the keywords of the class, without ``knots``. Raises as the
        class does.
        """
        if intervals < 1 or "knots" in options:
            raise ConfigError(
                f"{intervals} intervals were asked for; expected at least 1, of equal length, without knots"
            )
        middles = [(k + 0.5) * t_max / intervals for k in range(intervals)]
        tables = [torch.stack([matrix(t) for t in middles]) for matrix in (drift, dispersion)]
        process = cls(tables[0], tables[1], event_shape, t_max=t_max, **options)
        process.interpolates = True
        return process

    def clock(self, t: Tensor) -> Tensor:
        """tau(t), (B,)."""
        first, last = self.speed
        return first * t + (last - first) * t**2 / (2 * self.t_max)

    def propagator(self, t: Tensor) -> Tensor:
        """Psi(t), (B, D, D)."""
        row, elapsed = self._since_knot(t)
        psi: Tensor = self._step(row, elapsed) @ self.propagators[row]
        return psi

    def covariance(self, t: Tensor) -> Tensor:
        """P(t), the covariance of x_t given x_0, (B, D, D)."""
        row, elapsed = self._since_knot(t)
        return _carried(self._step(row, elapsed), self.covariances[row]) + self._noise_between(row, elapsed)

    def coefficients(self, x: Tensor, t: Tensor) -> tuple[LinearMap, LinearMap]:  # type: ignore[override]
        """(Psi(t), L(t)) as linear maps; times that are one value broadcast are computed once."""
        t = _distinct(t)
        return DenseMap(self.propagator(t)), self._scale(t)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        t = _distinct(t)
        return DenseMap(self._row(self.drift_matrix, t) * self._speed(t).reshape(-1, 1, 1)).apply(x)

    def dispersion(self, x: Tensor, t: Tensor) -> LinearMap:
        t = _distinct(t)
        return DenseMap(self._row(self.dispersion_matrix, t) * self._speed(t).sqrt().reshape(-1, 1, 1))

    def log_snr(self, t: Tensor) -> Tensor:
        """The mean over directions, (log det Psi Psi^T - log det P) / D: (B,)."""
        t = t.to(self.drift_matrix)  # time grids are in float64, and the matrices in the model's dtype
        row, elapsed = self._since_knot(t)
        log_signal = self.log_signals[row] + _rows(self.drift_matrix)[row].diagonal(dim1=-2, dim2=-1).sum(-1) * elapsed
        return 2 * (log_signal - self._scale(t).log_det()) / self.drift_matrix.shape[-1]

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
        """x_t = a x_s + q z, exact: a = Psi_t Psi_s^-1, q the Cholesky factor of the noise gathered between.

        Raises ``ConfigError`` where that noise is singular.
        """
        if s.stride() == (0,) and t.stride() == (0,):
            s, t = s[:1], t[:1]
        knots = self.knots.to(t)
        first, last = int(self._interval(s).min()), int(self._interval(t).max())
        a = torch.eye(self.drift_matrix.shape[-1]).to(self.drift_matrix)
        covariance = torch.zeros_like(a)
        for k in range(first, last + 1):
            elapsed = self.clock(t.clamp(knots[k], knots[k + 1])) - self.clock(s.clamp(knots[k], knots[k + 1]))
            row = torch.full_like(elapsed, k, dtype=torch.long)
            step = self._step(row, elapsed)
            a, covariance = step @ a, _carried(step, covariance) + self._noise_between(row, elapsed)
        return DenseMap(a), DenseMap(_cholesky(covariance, float(s.min())), triangular=True)

    def _keep_knots(self, start: Tensor) -> None:
        """Psi, P and log det Psi at the beginning of each interval, as buffers."""
        widths = self.clock(self.knots).diff()
        eye = torch.eye(len(start), dtype=start.dtype, device=start.device)
        psi, covariance, traces = [eye], [start], [start.new_zeros(())]
        for k in range(len(widths) - 1):
            row, width = torch.tensor([k], device=start.device), widths[k : k + 1]
            step = self._step(row, width)[0]
            psi.append(step @ psi[-1])
            covariance.append(_carried(step, covariance[-1]) + self._noise_between(row, width)[0])
            traces.append(traces[-1] + _rows(self.drift_matrix)[k].trace() * width[0])
        self.register_buffer("propagators", torch.stack(psi))
        self.register_buffer("covariances", torch.stack(covariance))
        self.register_buffer("log_signals", torch.stack(traces))

    def _interval(self, t: Tensor) -> Tensor:
        """The interval of each time, (B,) integers: one that ends at t where t is a knot."""
        return torch.searchsorted(self.knots[1:-1].to(t), t.contiguous())

    def _since_knot(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The interval of each time, and what the clock has run since it began, (B,) each."""
        row = self._interval(t)
        return row, self.clock(t) - self.clock(self.knots.to(t)[row])

    def _row(self, table: Tensor, t: Tensor) -> Tensor:
        """F or G at times t, (B, D, D) or (D, D)."""
        if table.dim() == 2:
            return table
        if not self.interpolates:
            return table[self._interval(t)]
        place = (t * (len(table) / self.t_max) - 0.5).clamp(0, len(table) - 1)
        before = place.floor().long()
        after = (before + 1).clamp_max(len(table) - 1)
        return torch.lerp(table[before], table[after], (place - before).reshape(-1, 1, 1))

    def _step(self, row: Tensor, elapsed: Tensor) -> Tensor:
        """exp(F elapsed) with F of the intervals ``row``, (B, D, D)."""
        step: Tensor = torch.matrix_exp(_rows(self.drift_matrix)[row] * elapsed.reshape(-1, 1, 1))
        return step

    def _speed(self, t: Tensor) -> Tensor:
        first, last = self.speed
        return first + (last - first) * t / self.t_max

    def _scale(self, t: Tensor) -> DenseMap:
        return DenseMap(_cholesky(self.covariance(t), self.t_min), triangular=True)

    def _prior(self, like: Tensor) -> DenseMap:
        return DenseMap(self.prior_factor.to(like)[None], triangular=True)

    def _noise_between(self, row: Tensor, elapsed: Tensor) -> Tensor:
        """int_0^elapsed e^{F s} G G^T e^{F^T s} ds by Van Loan's block exponential, (B, D, D).

        The block matrix holds e^{-F s}, which overflows for long times: it is used on a step halved until |F s| <= 1,
        and P(2s) = P(s) + e^{Fs} P(s) e^{F^T s} doubles the step again.
        """
        drift, dispersion = _rows(self.drift_matrix)[row], _rows(self.dispersion_matrix)[row]
        size = drift.shape[-1]
        reach = (elapsed.abs() * torch.linalg.matrix_norm(drift, 1)).amax() if len(elapsed) else 0.0
        doublings = math.ceil(math.log2(max(float(reach), 1.0)))
        step = (elapsed / 2**doublings).reshape(-1, 1, 1)
        noise = dispersion @ dispersion.mT
        top = torch.cat([-drift, noise], dim=-1)
        block = torch.cat([top, torch.cat([torch.zeros_like(drift), drift.mT], dim=-1)], dim=-2)
        exponential = torch.matrix_exp(block * step)
        psi = exponential[:, size:, size:].mT
        covariance = psi @ exponential[:, :size, size:]
        for _ in range(doublings):
            covariance = covariance + psi @ covariance @ psi.mT
            psi = psi @ psi
        return (covariance + covariance.mT) / 2


def _knots(knots: Sequence[float] | None, t_max: float, *tables: Tensor) -> Tensor:
    """The ends (K + 1,) of the intervals of tables (K, D, D), in their dtype."""
    counts = {len(table) for table in tables if table.dim() == 3}
    if len(counts) > 1:
        raise ShapeError(f"F and G have {' and '.join(map(str, sorted(counts)))} matrices; expected as many of each")
    count = counts.pop() if counts else 1
    if knots is None:
        return torch.linspace(0, t_max, count + 1, dtype=tables[0].dtype, device=tables[0].device)
    given = tables[0].new_tensor(list(knots))
    spans = len(given) == count + 1 and knots[0] == 0 and abs(knots[-1] - t_max) <= 1e-9 * t_max
    if not spans or bool((given.diff() <= 0).any()):
        raise ConfigError(
            f"the knots are {list(knots)}; expected {count + 1} increasing times from 0 to t_max = {t_max:g}"
        )
    return given


def _rows(table: Tensor) -> Tensor:
    """(K, D, D), K = 1 for a constant matrix (D, D)."""
    return table if table.dim() == 3 else table[None].expand(1, -1, -1)


def _carried(step: Tensor, covariance: Tensor) -> Tensor:
    """The covariance of A x where x has this one, for A = ``step``."""
    carried: Tensor = step @ covariance @ step.mT
    return carried


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
