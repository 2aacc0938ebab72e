"""A process in another basis: the distributions of its coefficients, and every sampler of core on it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefold.diffusion import (
    SAMPLERS,
    DiffusionProcess,
    IsotropicProcess,
    LinearLogSNR,
    LinearVP,
    Orthonormal,
    PerComponent,
    dpm_solver_pp_2m,
    probability_flow_log_prob,
    time_grid,
)
from scorefold.diffusion.samplers import default_sampler, default_steps
from scorefold.errors import ConfigError, ShapeError
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.rotated import Rotated, RotatedMap, Stretched
from scorefold_toolkit.score_matching.losses import denoising_score_matching

F64 = torch.float64
BLOCKS = torch.tensor([[0, 0, 1], [1, 2, 2]])


class Turned(Orthonormal):
    """A random rotation of the flattened event."""

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__((2, 3))
        generator = torch.Generator().manual_seed(3)
        self.register_buffer("matrix", torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=F64)).Q)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix.T).reshape(x.shape)

    def inverse(self, z: Tensor) -> Tensor:
        return (z.flatten(1) @ self.matrix).reshape(z.shape)


def inner() -> PerComponent:
    return PerComponent((2, 3), LinearLogSNR(t_end=torch.tensor([1 / 3, 2 / 3, 1.0], dtype=F64)), blocks=BLOCKS)


def rotated() -> Rotated:
    return Rotated(inner(), Turned())


def covariance() -> Tensor:
    factor = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=F64)
    return factor @ factor.T / 6 + 0.1 * torch.eye(6, dtype=F64)


def event(count: int = 4) -> Tensor:
    return torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(0), dtype=F64)


def exact_score(process: DiffusionProcess, sigma: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The score of N(0, sigma) data under a Rotated process, by dense matrices of its maps."""
    units = torch.eye(6, dtype=F64).reshape(6, 2, 3)
    signal, scale = process.coefficients(x[:1], t[:1])
    a, s = (torch.stack([each.apply(u[None]).flatten() for u in units], 1) for each in (signal, scale))
    noised = a @ sigma @ a.T + s @ s.T
    return -torch.linalg.solve(noised, x.flatten(1).T).T.reshape(x.shape)


def test_maps_are_symmetric_invertible_and_have_their_determinant() -> None:
    x, v = event(), event().flip(0)
    d = torch.rand(1, 2, 3, dtype=F64) + 0.2
    linear = RotatedMap(Turned(), d)
    torch.testing.assert_close(linear.solve(linear.apply(x)), x)
    torch.testing.assert_close((linear.apply(x) * v).sum(), (x * linear.apply_transpose(v)).sum())
    matrix = torch.stack([linear.apply(u[None]).flatten() for u in torch.eye(6, dtype=F64).reshape(6, 2, 3)], 1)
    torch.testing.assert_close(linear.log_det()[0], torch.linalg.slogdet(matrix).logabsdet)


def test_everything_is_that_of_the_coefficients() -> None:
    process, basis = rotated(), Turned()
    x, noise, t = event(), event().flip(0), torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=F64)
    z, coefficients = basis(x), inner()
    signal, scale = coefficients.coefficients(z, t)
    torch.testing.assert_close(process.perturb(x, t, noise), basis.inverse(signal * z + scale * basis(noise)))
    torch.testing.assert_close(process.marginal(x, t)[0], basis.inverse(signal * z))
    torch.testing.assert_close(process.drift(x, t), basis.inverse(coefficients.drift(z, t)))
    torch.testing.assert_close(process.log_snr(t), coefficients.log_snr(t))
    torch.testing.assert_close(process.score_from_noise(process.noise_from_score(noise, x, t), x, t), noise)
    torch.testing.assert_close(process.prior_log_prob(x), coefficients.prior_log_prob(z))
    denoised = process.denoised_from_score(noise, x, t)
    torch.testing.assert_close(basis(denoised), coefficients.denoised_from_score(basis(noise), z, t))
    s = t / 2 + 1e-3
    a, q = process.transition(x, s, t)
    a_z, q_z = coefficients.transition(z, s, t)
    torch.testing.assert_close(basis(a.apply(x)), a_z * z)
    torch.testing.assert_close(basis(q.apply(x)), q_z * z)
    torch.testing.assert_close(basis(process.dispersion(x, t).apply(x)), coefficients.dispersion(z, t) * z)
    assert (process.breakpoints, process.t_min, process.t_max) == (
        coefficients.breakpoints,
        coefficients.t_min,
        coefficients.t_max,
    )


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_samplers_take_the_steps_of_the_coefficients(name: str) -> None:
    """One sampler in the basis and one on the coefficients with the turned score: the same path, to the last draw."""
    process, basis, sigma = rotated(), Turned(), covariance()
    times, start = time_grid(process, 9), event()
    options = {"generator": torch.Generator().manual_seed(5)}
    x, _ = SAMPLERS[name](lambda u, t: exact_score(process, sigma, u, t), process, start, times, **options)
    turned = basis.matrix @ sigma @ basis.matrix.T

    def score(z: Tensor, t: Tensor) -> Tensor:
        signal, scale = process.inner.coefficients(z[:1], t[:1])
        d, s = signal.flatten(), scale.flatten()
        noised = d[:, None] * turned * d + torch.diag(s**2)
        return -torch.linalg.solve(noised, z.flatten(1).T).T.reshape(z.shape)

    options = {"generator": torch.Generator().manual_seed(5)}
    z, _ = SAMPLERS[name](score, process.inner, basis(start), times, **options)
    torch.testing.assert_close(basis(x), z, rtol=1e-8, atol=1e-8)


def test_multistep_history_is_carried_from_piece_to_piece() -> None:
    process, sigma, times = rotated(), covariance(), time_grid(rotated(), 12)

    def score(x: Tensor, t: Tensor) -> Tensor:
        return exact_score(process, sigma, x, t)

    whole, _ = dpm_solver_pp_2m(score, process, event(), times)
    half, state = dpm_solver_pp_2m(score, process, event(), times[:6])
    pieces, _ = dpm_solver_pp_2m(score, process, half, times[5:], state=state)
    torch.testing.assert_close(pieces, whole, rtol=1e-10, atol=1e-12)


def test_the_likelihood_of_gaussian_data_is_exact() -> None:
    process, sigma = rotated(), covariance()
    x = event()
    found = probability_flow_log_prob(lambda u, t: exact_score(process, sigma, u, t), process, x, rtol=1e-9, atol=1e-9)
    at_start = torch.full((1,), process.t_min, dtype=F64)
    units = torch.eye(6, dtype=F64).reshape(6, 2, 3)
    a, s = (
        torch.stack([each.apply(u[None]).flatten() for u in units], 1) for each in process.coefficients(x, at_start)
    )
    distribution = torch.distributions.MultivariateNormal(torch.zeros(6, dtype=F64), a @ sigma @ a.T + s @ s.T)
    # The prior is the distribution of no signal at all; e^-10 of the variance is left.
    torch.testing.assert_close(found, distribution.log_prob(x.flatten(1)), rtol=0, atol=2e-3)


@pytest.mark.parametrize("weighting", ["likelihood", "sigma2", "simple"])
def test_the_loss_is_that_of_the_coefficients(weighting: str) -> None:
    """White noise is white in every basis: with the same noise both losses agree point by point."""
    process, basis, x0 = rotated(), Turned(), event()
    t = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=F64)
    noise = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(9), dtype=F64)
    options = {"weighting": weighting, "times": t, "generator": torch.Generator().manual_seed(9)}
    here = denoising_score_matching(lambda x, t, c: 0.3 * x, process, x0, **options)
    x = basis(process.perturb(x0, t, noise))
    residual = 0.3 * x - basis(noise)
    squares = residual**2
    if weighting == "likelihood":
        scale = process.inner.coefficients(x, t)[1]
        squares = (process.inner.dispersion(x, t) * residual / scale) ** 2 / 2
    total = squares.flatten(1).sum(1)
    torch.testing.assert_close(here, total / 6 if weighting == "simple" else total)


def test_a_process_on_another_device_is_turned_there() -> None:
    process = Rotated(inner().to("meta"), Turned().to("meta"))
    x, t = torch.zeros(2, 2, 3, dtype=F64, device="meta"), torch.zeros(2, dtype=F64, device="meta")
    assert process.drift(x, t).device.type == "meta"


def test_processes_that_cannot_be_turned_are_refused() -> None:
    with pytest.raises(ShapeError, match="coefficients have shape"):
        Rotated(PerComponent((6,), LinearLogSNR()), Turned())
    coupled = MatrixProcess(-torch.eye(6), torch.eye(6), (2, 3))
    with pytest.raises(ConfigError, match="couples the components"):
        Rotated(coupled, Turned())
    assert Rotated(IsotropicProcess(LinearVP()), Turned()).breakpoints == ()


def test_the_default_sampler_is_that_of_the_process_and_its_steps_take_36_calls() -> None:
    x = torch.zeros(1, 2, 3, dtype=F64)
    coupled = MatrixProcess(-torch.eye(6, dtype=F64) / 2, torch.eye(6, dtype=F64), t_min=1e-3)
    assert default_sampler(IsotropicProcess(LinearVP()), x) == "edm"
    assert default_sampler(rotated(), x) == "dpmpp-2m"
    assert default_sampler(coupled, x.flatten(1)) == "heun"
    for name, sampler in SAMPLERS.items():
        calls: list[int] = []

        def score(x: Tensor, t: Tensor, calls: list[int] = calls) -> Tensor:
            calls.append(len(x))
            return -x

        process = IsotropicProcess(LinearVP())
        assert default_steps(name) == default_steps(sampler)
        times = time_grid(process, default_steps(name))
        sampler(score, process, x, times, generator=torch.Generator().manual_seed(0))
        assert len(calls) == 36, name


@pytest.mark.parametrize("end", [0.5, 1.0, 4.0])
def test_a_stretched_schedule_has_the_noise_of_another_time(end: float) -> None:
    schedule, times = LinearVP(), torch.tensor([0.1, 0.5, 1.0], dtype=F64)
    for found, expected in zip(
        Stretched(schedule, end).signal_scale(end * times), schedule.signal_scale(times), strict=True
    ):
        torch.testing.assert_close(found, expected)
    with pytest.raises(ConfigError, match="expected two numbers above 0"):
        Stretched(schedule, 0)
