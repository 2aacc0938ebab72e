"""Matrix processes whose F and G change with time, against their equations, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torchdiffeq import odeint

from scorefold.diffusion import (
    GeometricVE,
    LinearVP,
    PerComponent,
    euler_maruyama,
    predictor_corrector,
    probability_flow_log_prob,
    samplers,
)
from scorefold.diffusion.samplers import time_grid
from scorefold.errors import ConfigError, ShapeError
from scorefold_toolkit.matrix_process import MatrixProcess

F64 = torch.float64
KNOTS = [0.0, 0.2, 0.7, 1.0]
EYE = torch.eye(3, dtype=F64)
TIMES = torch.tensor([0.1, 0.2, 0.55, 0.7, 0.93, 1.0], dtype=F64)


def tables() -> tuple[Tensor, Tensor]:
    """Three F that do not commute and three G, of which the last alone reaches only one direction."""
    generator = torch.Generator().manual_seed(0)
    drift = torch.randn(3, 3, 3, generator=generator, dtype=F64) - EYE
    dispersion = torch.randn(3, 3, 3, generator=generator, dtype=F64)
    dispersion[2] = torch.diag(torch.tensor([1.0, 0.0, 0.0], dtype=F64))
    return drift, dispersion


def stepwise(**options) -> MatrixProcess:
    return MatrixProcess(*tables(), knots=KNOTS, **options)


def turning(t: float) -> Tensor:
    """F(t): a rotation that speeds up, a damping that slows down, and a coupling that comes and goes."""
    return torch.tensor([[-1.0 + t, 3 * t, 0.5], [-3 * t, -1.0, math.sin(5 * t)], [0.0, -0.8, -0.3 - t**2]], dtype=F64)


def spreading(t: float) -> Tensor:
    return torch.tensor([[1.0 + t, 0.0, 0.2], [0.4 * math.cos(3 * t), 0.6, 0.0], [0.0, t, 0.5]], dtype=F64)


def integrated(
    drift: Callable[[float], Tensor], dispersion: Callable[[float], Tensor], pieces: list[float], start: Tensor
) -> tuple[Tensor, Tensor]:
    """Psi and P at the ends of the pieces by an adaptive solver: dPsi/dt = F Psi, dP/dt = F P + P F^T + G G^T."""

    def rates(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        f, g = drift(float(t)), dispersion(float(t))
        return f @ state[0], f @ state[1] + state[1] @ f.T + g @ g.T

    state, found = (torch.eye(len(start), dtype=F64), start), []
    for first, last in pairwise(pieces):
        # Within a piece the matrices may be a table's: its ends are left out of what the solver sees.
        inside = torch.tensor([first + 1e-12, last - 1e-12], dtype=F64)
        path = odeint(rates, state, inside, rtol=1e-11, atol=1e-12, method="dopri5", options={"step_t": inside[1:]})
        state = (path[0][-1], path[1][-1])
        found.append(state)
    return torch.stack([psi for psi, _ in found]), torch.stack([p for _, p in found])


@pytest.mark.parametrize("speed", [(1.0, 1.0), (0.3, 4.0)], ids=str)
@pytest.mark.parametrize("start", [0.0, 0.3])
def test_tables_solve_the_moment_equations(speed, start) -> None:
    """Exact between knots and across them, with the clock running evenly or not."""
    drift, dispersion = tables()

    def rate(t: float) -> float:
        return speed[0] + (speed[1] - speed[0]) * t

    def row(t: float) -> int:
        return sum(t > knot for knot in KNOTS[1:-1])

    times = TIMES.tolist()
    psi, covariance = integrated(
        lambda t: rate(t) * drift[row(t)],
        lambda t: math.sqrt(rate(t)) * dispersion[row(t)],
        [0.0, *times],
        start * EYE,
    )
    process = stepwise(speed=speed, start=start * EYE)
    torch.testing.assert_close(process.propagator(TIMES), psi, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(process.covariance(TIMES), covariance, rtol=1e-8, atol=1e-9)
    log_signal = torch.linalg.slogdet(psi).logabsdet
    expected = (2 * log_signal - torch.logdet(covariance)) / 3
    torch.testing.assert_close(process.log_snr(TIMES), expected, rtol=1e-8, atol=1e-8)


def test_functions_of_time_converge_at_order_two() -> None:
    """From values in the middle of n intervals, kernels, drift and dispersion have errors that fall as n^-2."""
    pieces = [0.0, 0.25, 0.5, 1.0]
    exact = integrated(turning, spreading, pieces, torch.zeros(3, 3, dtype=F64))
    times, errors = torch.tensor(pieces[1:], dtype=F64), []
    for intervals in (64, 128, 256):
        process = MatrixProcess.sampled(turning, spreading, intervals)
        found = process.propagator(times), process.covariance(times)
        errors.append(max(float((a - b).abs().max()) for a, b in zip(found, exact, strict=True)))
        x, inner = EYE[:2], torch.tensor([0.25, 0.5], dtype=F64)
        drift = torch.stack([turning(t) @ row for t, row in zip(inner.tolist(), x, strict=True)])
        dispersion = torch.stack([spreading(t) @ row for t, row in zip(inner.tolist(), x, strict=True)])
        assert float((process.drift(x, inner) - drift).abs().max()) < 4 / intervals**2
        assert float((process.dispersion(x, inner).apply(x) - dispersion).abs().max()) < 4 / intervals**2
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([4, 4], rel=0.02)
    assert errors[-1] < 2e-5


def test_diagonal_matrices_are_per_component_processes() -> None:
    """VP at two speeds, linear in time: exact at the ends of intervals, since only int beta counts. VE to order two."""
    high, low = torch.tensor([20.0, 5.0], dtype=F64), torch.tensor([0.1, 0.3], dtype=F64)
    vp = PerComponent((2,), LinearVP(low, high))

    def beta(t: float) -> Tensor:
        return low + t * (high - low)

    eye = torch.eye(2, dtype=F64)
    process = MatrixProcess.sampled(
        lambda t: torch.diag(-beta(t) / 2), lambda t: torch.diag(beta(t).sqrt()), 16, prior_covariance=eye
    )
    x, noise = torch.randn(4, 2, dtype=F64), torch.randn(4, 2, dtype=F64)
    t = torch.tensor([0.125, 0.25, 0.5, 1.0], dtype=F64)
    torch.testing.assert_close(process.perturb(x, t, noise), vp.perturb(x, t, noise))
    torch.testing.assert_close(process.denoised_from_score(noise, x, t), vp.denoised_from_score(noise, x, t))
    torch.testing.assert_close(process.log_snr(t), vp.log_snr(t).mean(1))
    torch.testing.assert_close(process.prior_log_prob(x), vp.prior_log_prob(x))
    a, q = process.transition(x, t / 2, t)
    expected_a, expected_q = vp.transition(x, t / 2, t)
    torch.testing.assert_close(a.apply(x), expected_a * x)
    torch.testing.assert_close(q.apply(x), expected_q * x)

    ve = PerComponent((2,), GeometricVE(0.1, torch.tensor([3.0, 1.0], dtype=F64)))

    def dispersion(t: float) -> Tensor:
        return torch.diag(ve.dispersion(eye[:1], torch.tensor([t], dtype=F64))[0])

    errors = []
    for intervals in (32, 64):
        fine = MatrixProcess.sampled(lambda t: torch.zeros_like(eye), dispersion, intervals, start=0.01 * eye)
        scale = fine.covariance(t).diagonal(dim1=1, dim2=2).sqrt()
        errors.append(float((scale - ve.coefficients(x, t)[1]).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)


def test_equal_rows_are_the_constant_process() -> None:
    drift, dispersion = (table[0] for table in tables())
    constant = MatrixProcess(drift, dispersion, speed=(1.0, 3.0))
    same = MatrixProcess(drift.expand(3, 3, 3), dispersion.expand(3, 3, 3), knots=KNOTS, speed=(1.0, 3.0))
    x, noise = torch.randn(6, 3, dtype=F64), torch.randn(6, 3, dtype=F64)
    for function in ("perturb", "transition", "log_snr", "drift"):
        arguments = {
            "perturb": (x, TIMES, noise),
            "transition": (x, TIMES / 3, TIMES),
            "log_snr": (TIMES,),
            "drift": (x, TIMES),
        }[function]
        first, second = getattr(constant, function)(*arguments), getattr(same, function)(*arguments)
        if function == "transition":
            first, second = (torch.stack([part.apply(noise) for part in pair]) for pair in (first, second))
        torch.testing.assert_close(first, second)


def matrices(x: Tensor, pair: tuple) -> tuple[Tensor, Tensor]:
    """The matrices (B, D, D) of a pair of maps."""
    first, second = (
        torch.stack([part.apply(column.expand(len(x), -1)) for column in torch.eye(3, dtype=F64)], -1) for part in pair
    )
    return first, second


def test_transitions_compose() -> None:
    """From 0 through s to t is the kernel at t; from r through s to t is from r to t (Chapman and Kolmogorov)."""
    process = stepwise(speed=(0.5, 2.0))
    x = torch.ones(4, 3, dtype=F64)
    r = torch.tensor([0.05, 0.1, 0.2, 0.75], dtype=F64)
    s = torch.tensor([0.2, 0.3, 0.65, 0.8], dtype=F64)
    t = torch.tensor([0.4, 0.95, 0.7, 0.9], dtype=F64)
    a, q = matrices(x, process.transition(x, s, t))
    torch.testing.assert_close(a @ process.propagator(s), process.propagator(t))
    torch.testing.assert_close(a @ process.covariance(s) @ a.mT + q @ q.mT, process.covariance(t))
    first_a, first_q = matrices(x, process.transition(x, r, s))
    whole_a, whole_q = matrices(x, process.transition(x, r, t))
    torch.testing.assert_close(a @ first_a, whole_a)
    torch.testing.assert_close(a @ first_q @ first_q.mT @ a.mT + q @ q.mT, whole_q @ whole_q.mT)
    once = s[:1].expand(4), t[:1].expand(4)  # as samplers give them
    torch.testing.assert_close(matrices(x, process.transition(x, *once))[0][0], a[0])


def test_rates_are_those_of_the_interval_that_a_knot_ends() -> None:
    """Samplers go from late to early: at a knot they take the step that lies before it."""
    drift, dispersion = tables()
    process, x = stepwise(), torch.randn(3, 3, dtype=F64)
    t = torch.tensor([0.2, 0.7, 1.0], dtype=F64)
    torch.testing.assert_close(process.drift(x, t), torch.einsum("bij,bj->bi", drift, x))
    torch.testing.assert_close(process.dispersion(x, t).apply(x), torch.einsum("bij,bj->bi", dispersion, x))


def gaussian_score(process: MatrixProcess, sigma: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    def score(x: Tensor, t: Tensor) -> Tensor:
        psi = process.propagator(t[:1])[0]
        return -torch.linalg.solve(psi @ sigma @ psi.T + process.covariance(t[:1])[0], x.T).T

    return score


SIGMA = torch.tensor([[1.0, 0.6, -0.2], [0.6, 0.8, 0.1], [-0.2, 0.1, 0.5]], dtype=F64)


def distribution_at(process: MatrixProcess, t: float) -> Tensor:
    """The covariance of x_t for data of N(0, SIGMA)."""
    times = torch.tensor([t], dtype=F64)
    psi = process.propagator(times)[0]
    return psi @ SIGMA @ psi.T + process.covariance(times)[0]


def smooth(**options) -> MatrixProcess:
    return MatrixProcess.sampled(turning, spreading, 256, **options)


@pytest.mark.parametrize(("make", "accuracy"), [(stepwise, 1e-5), (smooth, 1e-4)])
def test_likelihood_of_a_gaussian(make, accuracy) -> None:
    """The probability flow of the exact score, with x_1's distribution as prior, ends in the data's distribution: to
    the solver's tolerance for tables, to the error of 256 intervals for functions of time."""
    options = {"t_min": 0.05, "start": 0.2 * EYE}
    process = make(**options, prior_covariance=distribution_at(make(**options), 1.0))
    x = torch.randn(5, 3, dtype=F64)
    found = probability_flow_log_prob(gaussian_score(process, SIGMA), process, x, rtol=1e-8, atol=1e-8)
    distribution = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=F64), distribution_at(process, 0.05))
    torch.testing.assert_close(found, distribution.log_prob(x), rtol=0, atol=accuracy)


@pytest.mark.parametrize(("sampler", "options"), [(euler_maruyama, {}), (predictor_corrector, {"corrector_steps": 0})])
def test_samplers_reach_the_distribution(sampler, options, monkeypatch) -> None:
    """The covariance of the output, propagated exactly, goes to the distribution's at order one where knots are on the
    grid."""
    errors = []
    process = stepwise(t_min=0.02, start=0.3 * EYE)
    last, target = distribution_at(process, 1.0), distribution_at(process, 0.02)
    zeros, score = torch.zeros_like(EYE), gaussian_score(process, SIGMA)
    monkeypatch.setattr(samplers, "draw_normal", lambda shape, *, generator, like: torch.cat([zeros, EYE]))
    ends = [1.0, 0.7, 0.2, 0.02]
    for steps in (40, 80):
        pieces = [torch.linspace(late, early, steps + 1, dtype=F64)[:-1] for late, early in pairwise(ends)]
        times, covariance = torch.cat([*pieces, torch.tensor([0.02], dtype=F64)]), last
        for k in range(len(times) - 1):
            moved, _ = sampler(score, process, torch.cat([EYE, zeros]), times[k : k + 2], **options)
            move, noise = moved.split(3)
            covariance = move.T @ covariance @ move + noise.T @ noise
        errors.append(float((covariance - target).norm() / target.norm()))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
    assert errors[1] < 0.05


def test_a_state_that_is_loaded_brings_its_tables() -> None:
    process, other = stepwise(), MatrixProcess(*(2 * table for table in tables()), knots=KNOTS)
    other.load_state_dict(process.state_dict())
    torch.testing.assert_close(other.covariance(TIMES), process.covariance(TIMES))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda f, g: MatrixProcess(f, g[:2], knots=KNOTS), ShapeError, "2 and 3 matrices"),
        (lambda f, g: MatrixProcess(f, g[:, :2], knots=KNOTS), ShapeError, "G has shape"),
        (lambda f, g: MatrixProcess(f, g, start=f), ShapeError, r"P\(0\) has shape"),
        (lambda f, g: MatrixProcess(f, g, knots=[0.0, 1.0]), ConfigError, "4 increasing times"),
        (lambda f, g: MatrixProcess(f, g, knots=[0.1, 0.2, 0.7, 1.0]), ConfigError, "from 0 to t_max = 1"),
        (lambda f, g: MatrixProcess(f, g, knots=[0.0, 0.2, 0.7, 0.9]), ConfigError, "from 0 to t_max = 1"),
        (lambda f, g: MatrixProcess(f, g, knots=[0.0, 0.7, 0.2, 1.0]), ConfigError, "increasing"),
        (lambda f, g: MatrixProcess(f, g.flip(0) * (EYE > 2), knots=KNOTS), ConfigError, "does not reach"),
        (lambda f, g: MatrixProcess(f, g, knots=KNOTS, speed=(0.0, 1.0)), ConfigError, "speeds above 0"),
        (lambda f, g: MatrixProcess.sampled(turning, spreading, 0), ConfigError, "at least 1"),
        (lambda f, g: MatrixProcess.sampled(turning, spreading, 3, knots=KNOTS), ConfigError, "equal length"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, match) -> None:
    with pytest.raises(error, match=match):
        make(*tables())


def test_rows_without_an_end_are_of_equal_length() -> None:
    torch.testing.assert_close(MatrixProcess(*tables()).knots, torch.linspace(0, 1, 4, dtype=F64))


@pytest.mark.parametrize("spacing", ["karras", "log-snr"])
def test_a_time_grid_is_the_same_in_single_precision(spacing: str) -> None:
    matrices = torch.stack([-0.5 * torch.eye(2), -torch.eye(2)]), torch.stack([torch.eye(2), 2 * torch.eye(2)])
    single, double = (
        MatrixProcess(*(matrix.to(dtype) for matrix in matrices), speed=(0.1, 5.0))
        for dtype in (torch.float32, torch.float64)
    )
    times = time_grid(single, 8, spacing)
    assert times.dtype == torch.float64
    torch.testing.assert_close(times, time_grid(double, 8, spacing), atol=1e-4, rtol=0)


def test_sampled_matrices_are_on_lines_between_the_middles_of_intervals() -> None:
    """Of four intervals up to 2 the middles are 0.25, 0.75, 1.25 and 1.75: F(t) = -t is right between them."""
    process = MatrixProcess.sampled(lambda t: -t * EYE, lambda t: (1 + t) * EYE, 4, t_max=2.0)
    x = torch.ones(6, 3, dtype=F64)
    t = torch.tensor([0.1, 0.25, 0.6, 1.0, 1.7, 1.9], dtype=F64)
    between = t.clamp(0.25, 1.75)
    torch.testing.assert_close(process.drift(x, t), -between[:, None] * x)
    torch.testing.assert_close(process.dispersion(x, t).apply(x), (1 + between)[:, None] * x)


def test_the_drift_grows_linearly_with_the_speed() -> None:
    process = MatrixProcess(-torch.eye(3, dtype=F64) / 2, torch.eye(3, dtype=F64), speed=(1.0, 3.0))
    x, times = torch.randn(3, 3, dtype=F64), torch.tensor([0.1, 0.5, 1.0], dtype=F64)
    torch.testing.assert_close(process.drift(x, times), -(1 + 2 * times[:, None]) * x / 2)
