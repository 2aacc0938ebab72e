"""Processes against the equations that define them, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.config import CosineConfig, EDMConfig, LogSNRConfig, SubVPConfig, VEConfig, VPConfig
from scorefold.data import EventScale
from scorefold.diffusion import (
    EDM,
    VE,
    VP,
    Cosine,
    DiffusionProcess,
    GeometricVE,
    IsotropicProcess,
    LinearLogSNR,
    LinearSubVP,
    LinearVP,
    PerComponent,
    SubVP,
    build_schedule,
    process_of,
)
from scorefold.diffusion.schedules import Schedule
from scorefold.errors import ConfigError, ShapeError
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.rotated import Stretched

F64 = torch.float64
ISOTROPIC = [
    VE(),
    VP(),
    SubVP(),
    IsotropicProcess(LinearLogSNR()),
    IsotropicProcess(Cosine()),
    IsotropicProcess(EDM()),
    IsotropicProcess(EDM(rho=1.0)),
    IsotropicProcess(Stretched(LinearVP(), 1.0)),
]
F = torch.tensor([[0.0, 1.0, 0.0], [-1.0, -2.0, 0.3], [0.0, 0.4, -0.7]], dtype=F64)
G = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.1, 0.0, 0.5]], dtype=F64)


def two_speeds() -> PerComponent:
    ends = torch.tensor([1 / 3, 2 / 3, 1.0], dtype=F64)
    return PerComponent((3,), LinearLogSNR(t_end=ends))


def mixed_families() -> PerComponent:
    mask = torch.tensor([[True, False], [False, False]])
    blocks = [
        (mask, GeometricVE(0.02, 8.0)),
        ((0, 1), LinearVP()),
        ((1, slice(None)), LinearLogSNR(t_end=0.5)),
    ]
    return PerComponent((2, 2), blocks)


def stretched() -> PerComponent:
    """Every family, each stretched to end at a time of its own."""
    schedules = [GeometricVE(0.02, 8.0), LinearVP(), LinearSubVP(), Cosine(), EDM(0.01, 5.0), LinearLogSNR()]
    return PerComponent((6,), [(k, Stretched(each, (k + 1) / 6)) for k, each in enumerate(schedules)])


def three_blocks() -> PerComponent:
    ends = torch.tensor([1 / 3, 2 / 3, 1.0], dtype=F64)
    return PerComponent((2, 2), LinearLogSNR(t_end=ends), blocks=torch.tensor([[2, 1], [1, 0]]))


def finite_difference(function, t: Tensor, step: float = 1e-5) -> Tensor:
    return (function(t + step) - function(t - step)) / (2 * step)


@pytest.mark.parametrize("process", [*ISOTROPIC, two_speeds(), mixed_families(), stretched(), three_blocks()])
def test_kernels_solve_the_moment_equations(process: DiffusionProcess) -> None:
    """d signal = a signal dt and d scale^2 = (2 a scale^2 + g^2) dt, before and after the ends of components."""
    shape = getattr(process, "event_shape", (3,))
    x = torch.ones(6, *shape, dtype=F64)
    t = torch.linspace(0.05, 0.95, 6, dtype=F64)
    rate, dispersion = process.drift(x, t), process.dispersion(x, t)
    signal, scale = process.coefficients(x, t)
    d_signal = finite_difference(lambda u: process.coefficients(x, u)[0].expand_as(x), t)
    d_variance = finite_difference(lambda u: process.coefficients(x, u)[1].expand_as(x) ** 2, t)
    torch.testing.assert_close(d_signal, rate * signal, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(d_variance, 2 * rate * scale**2 + dispersion**2, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("process", [*ISOTROPIC, two_speeds(), mixed_families(), stretched(), three_blocks()])
def test_log_snr_is_that_of_the_coefficients(process: DiffusionProcess) -> None:
    shape = getattr(process, "event_shape", (3,))
    x, t = torch.ones(5, *shape, dtype=F64), torch.linspace(0.01, 1.0, 5, dtype=F64)
    signal, scale = process.coefficients(x, t)
    torch.testing.assert_close((signal / scale).log().squeeze(), process.log_snr(t).squeeze() / 2)


@pytest.mark.parametrize("process", [*ISOTROPIC, two_speeds()])
def test_transition_composes_with_the_kernel(process: DiffusionProcess) -> None:
    """x_t from x_0 by way of x_s has the kernel of x_t."""
    x = torch.ones(3, 3, dtype=F64)
    s, t = torch.tensor([0.1, 0.2, 0.7], dtype=F64), torch.tensor([0.3, 0.9, 0.8], dtype=F64)
    (signal_s, scale_s), (signal_t, scale_t) = process.coefficients(x, s), process.coefficients(x, t)
    a, q = process.transition(x, s, t)
    torch.testing.assert_close(a * signal_s, signal_t)
    torch.testing.assert_close((a * scale_s) ** 2 + q**2, scale_t**2)


@pytest.mark.parametrize("process", ISOTROPIC)
def test_time_at_inverts_the_noise_to_signal_ratio(process: IsotropicProcess) -> None:
    t = torch.linspace(process.t_min, process.t_max, 11, dtype=F64)
    ratio = process.noise_to_signal(t)
    torch.testing.assert_close(process.time_at(ratio), t, rtol=1e-9, atol=1e-12)
    assert bool((ratio.diff() > 0).all())
    rounded = process.time_at(ratio.float().double())
    torch.testing.assert_close(process.noise_to_signal(rounded), ratio, rtol=1e-5, atol=0)
    with pytest.raises(ConfigError, match="noise-to-signal"):
        process.time_at(ratio[-1:] * 1.01)


def test_published_constants() -> None:
    """At T_i signal = scale(eps) = 1 / sqrt(1 + e^10), published as e^-5; VE's g^2 / sigma^2 = 2 ln(s_max / s_min)."""
    process = IsotropicProcess(LinearLogSNR())
    x = torch.ones(2, 1, dtype=F64)
    signal, scale = process.coefficients(x, torch.tensor([1.0, 1e-3], dtype=F64))
    assert float(signal[0]) == pytest.approx(0.0067379, abs=2e-7)
    assert float(scale[1]) == pytest.approx(float(signal[0]), rel=1e-9)
    for sigma_min, sigma_max, constant in ((5e-3, 277.13, 21.85), (5e-3, 0.5, 9.21), (5e-3, 110.85, 20.01)):
        ve = VE(sigma_min, sigma_max)
        t = torch.tensor([0.3], dtype=F64)
        g, sigma = ve.dispersion(x[:1], t), ve.coefficients(x[:1], t)[1]
        assert float(g / sigma) ** 2 == pytest.approx(constant, abs=0.01)


def test_isotropic_priors() -> None:
    """The prior's log-density is the normal one, and its draws have its spread."""
    x = torch.randn(5, 2, 3, dtype=F64)
    for process, scale in ((VE(0.01, 7.0), 7.0), (VP(), 1.0), (SubVP(), 1.0)):
        expected = torch.distributions.Normal(0.0, scale).log_prob(x).sum((1, 2))
        torch.testing.assert_close(process.prior_log_prob(x), expected)
        draws = process.sample_prior((4000, 3), generator=torch.Generator().manual_seed(0), like=x)
        assert draws.dtype == F64
        assert float(draws.std()) == pytest.approx(scale, rel=5 / math.sqrt(2 * draws.numel()))


def test_a_finished_component_stands_still() -> None:
    process = two_speeds()
    x, t = torch.ones(1, 3, dtype=F64), torch.tensor([0.5], dtype=F64)
    assert process.drift(x, t)[0, 0] == 0 == process.dispersion(x, t)[0, 0]
    assert bool((process.dispersion(x, t)[0, 1:] > 0).all())
    late = process.coefficients(x, torch.tensor([1.0], dtype=F64))
    torch.testing.assert_close(torch.stack(process.coefficients(x, t))[:, 0, 0], torch.stack(late)[:, 0, 0])
    a, q = process.transition(x, torch.tensor([0.4], dtype=F64), t)
    assert a[0, 0] == 1
    assert q[0, 0] == 0
    assert process.breakpoints == pytest.approx((1 / 3, 2 / 3))


def test_log_snr_at_the_ends_of_four_scales() -> None:
    """Four scales and lam = +-10: the log-SNR that coarser bands have reached when a finer one enters."""
    process = PerComponent((4,), LinearLogSNR(t_end=torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=F64)))
    lam = process.log_snr(torch.tensor([0.75, 0.5, 0.25], dtype=F64))
    expected = torch.tensor([[-10, -10, -10, -4.99], [-10, -10, -3.32, 0.01], [-10, 0.02, 3.35, 5.01]], dtype=F64)
    torch.testing.assert_close(lam, expected, atol=6e-3, rtol=0)


def test_blocks_are_their_schedules() -> None:
    """Each block of a mixed process has the coefficients and the prior of an isotropic process of its family."""
    process = mixed_families()
    x, t = torch.ones(2, 2, 2, dtype=F64), torch.tensor([0.2, 0.6], dtype=F64)
    signal, scale = process.coefficients(x, t)
    for place, single in (((0, 0), VE(0.02, 8.0)), ((0, 1), VP()), ((1, 1), IsotropicProcess(LinearLogSNR(t_end=0.5)))):
        one, two = single.coefficients(x[:, :1, 0], t)
        torch.testing.assert_close(signal[:, place[0], place[1]], one[:, 0])
        torch.testing.assert_close(scale[:, place[0], place[1]], two[:, 0])
    prior = torch.distributions.Normal(0.0, torch.tensor([[8.0, 1.0], [1.0, 1.0]], dtype=F64))
    torch.testing.assert_close(process.prior_log_prob(x), prior.log_prob(x).sum((1, 2)))
    assert process.t_min == 1e-3
    assert process.breakpoints == (0.5,)


def test_dtype_follows_the_module() -> None:
    process = two_speeds().to(torch.float32)
    x, t = torch.ones(2, 3), torch.tensor([1 / 3, 0.9])
    assert process.coefficients(x, t)[0].dtype == torch.float32
    assert process.dispersion(x, t)[0, 0] > 0  # an end in float32 is still the component's end


def matrix_process(**options) -> MatrixProcess:
    return MatrixProcess(F, G, **options)


def test_matrix_kernel_solves_the_lyapunov_equation() -> None:
    """dPsi = F Psi dtau and dP = (F P + P F^T + G G^T) dtau, with a clock that speeds up, over many doublings too."""
    for speed in ((1.0, 1.0), (0.1, 20.0)):
        process = matrix_process(speed=speed, t_min=0.05)
        t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
        rate = finite_difference(process.clock, t).reshape(-1, 1, 1)
        psi, covariance = process.propagator(t), process.covariance(t)
        torch.testing.assert_close(finite_difference(process.propagator, t), rate * (F @ psi), rtol=1e-6, atol=1e-7)
        expected = rate * (F @ covariance + covariance @ F.T + G @ G.T)
        torch.testing.assert_close(finite_difference(process.covariance, t), expected, rtol=1e-6, atol=1e-7)


def test_matrix_kernel_by_integration() -> None:
    """P(1) by fourth-order Runge-Kutta over 400 steps."""

    def flow(p: Tensor) -> Tensor:
        return F @ p + p @ F.T + G @ G.T

    p, h = torch.zeros(3, 3, dtype=F64), 1 / 400
    for _ in range(400):
        k1 = flow(p)
        k2 = flow(p + h / 2 * k1)
        k3 = flow(p + h / 2 * k2)
        p = p + h / 6 * (k1 + 2 * k2 + 2 * k3 + flow(p + h * k3))
    torch.testing.assert_close(matrix_process().covariance(torch.ones(1, dtype=F64))[0], p, rtol=1e-9, atol=1e-10)


def test_scalar_matrices_are_the_vp_process() -> None:
    """F = -I/2 and G = I under VP's clock give VP in every method."""
    vp = VP()
    eye = torch.eye(4, dtype=F64)
    process = MatrixProcess(-eye / 2, eye, (2, 2), speed=(0.1, 20.0), t_min=1e-5, prior_covariance=eye)
    x, v = torch.randn(3, 2, 2, dtype=F64), torch.randn(3, 2, 2, dtype=F64)
    t = torch.tensor([0.01, 0.4, 1.0], dtype=F64)
    torch.testing.assert_close(process.log_snr(t), vp.log_snr(t))
    torch.testing.assert_close(process.drift(x, t), vp.drift(x, t))
    torch.testing.assert_close(process.dispersion(x, t).apply(v), vp.dispersion(x, t) * v)
    torch.testing.assert_close(process.perturb(x, t, v), vp.perturb(x, t, v))
    torch.testing.assert_close(process.marginal(x, t)[0], vp.marginal(x, t)[0])
    torch.testing.assert_close(process.denoised_from_score(v, x, t), vp.denoised_from_score(v, x, t))
    torch.testing.assert_close(process.noise_from_score(v, x, t), vp.noise_from_score(v, x, t))
    torch.testing.assert_close(process.score_from_noise(v, x, t), vp.score_from_noise(v, x, t))
    torch.testing.assert_close(process.prior_log_prob(x), vp.prior_log_prob(x))


def test_matrix_maps_are_the_matrices() -> None:
    """The maps agree with P = L L^T and with each other; a time that is broadcast agrees with copies of it."""
    process = matrix_process(t_min=0.05)
    v, t = torch.randn(2, 3, dtype=F64), torch.tensor([0.3, 0.8], dtype=F64)
    signal, scale = process.coefficients(v, t)
    squared = torch.stack([scale.apply(scale.apply_transpose(e.expand(2, 3))) for e in torch.eye(3, dtype=F64)], -1)
    torch.testing.assert_close(squared, process.covariance(t))
    torch.testing.assert_close(scale.solve(scale.apply(v)), v)
    torch.testing.assert_close(signal.solve(signal.apply(v)), v)
    torch.testing.assert_close(2 * scale.log_det(), torch.logdet(process.covariance(t)))
    torch.testing.assert_close(process.noise_from_score(process.score_from_noise(v, v, t), v, t), v)
    copied, broadcast = torch.full((2,), 0.5, dtype=F64), torch.tensor([0.5], dtype=F64).expand(2)
    torch.testing.assert_close(process.perturb(v, copied, v), process.perturb(v, broadcast, v))
    a, q = process.transition(v, t - 0.1, t)
    before = process.covariance(t - 0.1)
    moved = torch.stack([a.apply(column) for column in before.unbind(-1)], -1)
    moved = torch.stack([a.apply(column) for column in moved.unbind(-2)], -2)
    gathered = torch.stack([q.apply(q.apply_transpose(e.expand(2, 3))) for e in torch.eye(3, dtype=F64)], -1)
    torch.testing.assert_close(moved + gathered, process.covariance(t))
    with pytest.raises(ConfigError, match="singular"):
        process.dispersion(v, t).solve(v)


def test_matrix_prior_is_the_last_marginal() -> None:
    process = matrix_process()
    x = torch.randn(4, 3, dtype=F64)
    covariance = process.covariance(torch.ones(1, dtype=F64))[0]
    distribution = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=F64), covariance)
    torch.testing.assert_close(process.prior_log_prob(x), distribution.log_prob(x))
    draws = process.sample_prior((20000, 3), generator=torch.Generator().manual_seed(0), like=x)
    error = 3 * covariance.diagonal() * math.sqrt(2 / 20000)
    assert bool(((draws.var(0) - covariance.diagonal()).abs() < error).all())


@pytest.mark.parametrize("mean", [0.3, torch.linspace(-0.5, 0.5, 400, dtype=F64)], ids=["one", "of each coordinate"])
def test_the_prior_has_the_mean_of_the_data(mean: Any) -> None:
    """For N(m, s^2) data in D = 400 coordinates, x(T) is N(m, s^2 + sigma_max^2): a prior about 0 is
    |m| / sigma_max off, in its own deviations."""
    process = IsotropicProcess(EDM(0.01, 10.0, 7.0), mean)
    like, generator = torch.zeros((), dtype=F64), torch.Generator().manual_seed(0)
    x = process.sample_prior((20_000, 400), generator=generator, like=like)
    middle = torch.as_tensor(mean, dtype=F64).expand(400)
    along = (x.mean(0) - middle) @ middle / middle.norm() / 10
    assert abs(float(along)) < 4 / 20_000**0.5 < float(middle.norm()) / 10 / 10
    expected = torch.distributions.Normal(middle, 10.0).log_prob(x[:5]).sum(1)
    torch.testing.assert_close(process.prior_log_prob(x[:5]), expected)


def test_a_process_is_made_for_data_of_a_scale() -> None:
    scale = EventScale(mean=2.0, std=0.5)
    built = process_of(VEConfig(relative=True, sigma_min=0.01, sigma_max=2.0), scale, (3, 4))
    assert built.prior_scale == pytest.approx(2 * 0.5 * 12**0.5)
    assert built.prior_mean == 2.0
    assert process_of(VPConfig(), scale, (3,)).prior_mean == pytest.approx(2 * math.exp(-10.05 / 2))
    each = EventScale(mean=0.0, std=1.0, centre=(1.0, -1.0))
    torch.testing.assert_close(process_of(VEConfig(), each, (2,)).prior_mean, torch.tensor([1.0, -1.0], dtype=F64))


def test_build_schedule() -> None:
    t = torch.tensor([0.3], dtype=F64)
    for config, process in (
        (VEConfig(sigma_max=9), VE(0.01, 9)),
        (VPConfig(), VP()),
        (SubVPConfig(), SubVP()),
        (LogSNRConfig(lam_min=-8), IsotropicProcess(LinearLogSNR(10.0, -8.0))),
        (CosineConfig(lam_max=9), IsotropicProcess(Cosine(9.0, -10.0))),
        (EDMConfig(rho=3), IsotropicProcess(EDM(0.002, 80.0, 3.0))),
    ):
        built = IsotropicProcess(build_schedule(config))
        assert (built.t_min, built.t_max) == (process.t_min, process.t_max)
        torch.testing.assert_close(built.log_snr(t), process.log_snr(t))


def test_relative_noise_is_in_units_of_the_datas_spread() -> None:
    config = VEConfig(sigma_min=0.01, sigma_max=2, relative=True)
    built, t = IsotropicProcess(build_schedule(config, spread=5.0)), torch.tensor([0.3], dtype=F64)
    torch.testing.assert_close(built.log_snr(t), VE(0.05, 10).log_snr(t))
    absolute = IsotropicProcess(build_schedule(config.model_copy(update={"relative": False}), spread=5.0))
    torch.testing.assert_close(absolute.log_snr(t), VE(0.01, 2).log_snr(t))


@pytest.mark.parametrize(("spread", "what"), [(None, "is not known"), (0.0, "is 0")])
def test_relative_noise_needs_a_spread(spread: float | None, what: str) -> None:
    with pytest.raises(ConfigError, match=f"the spread of the data, which {what}") as caught:
        IsotropicProcess(build_schedule(VEConfig(relative=True), spread=spread))
    assert caught.value.hint is not None
    assert "process.relative" in caught.value.hint


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: VE(0.5, 0.1), ConfigError, "sigma_min"),
        (lambda: VP(-1.0, 20.0), ConfigError, "beta_min"),
        (lambda: LinearSubVP(0.1, 0.0), ConfigError, "beta_min"),
        (lambda: LinearLogSNR(-1.0, 1.0), ConfigError, "lam_min"),
        (lambda: LinearLogSNR(t_end=torch.tensor([0.5, 1e-4])), ConfigError, "t_end"),
        (lambda: IsotropicProcess(GeometricVE(0.01, torch.tensor([1.0, 2.0]))), ConfigError, "PerComponent"),
        (lambda: PerComponent((3,), GeometricVE(0.01, torch.tensor([1.0, 2.0]))), ShapeError, "parameters have shape"),
        (lambda: PerComponent((2,), [(slice(1), LinearVP())]), ShapeError, "leave 1 out"),
        (lambda: PerComponent((2,), [(slice(2), LinearVP()), (0, LinearVP())]), ShapeError, "1 components twice"),
        (lambda: PerComponent((2,), [(torch.ones(3, dtype=torch.bool), LinearVP())]), ShapeError, "block 0"),
        (lambda: PerComponent((1,), [(0, GeometricVE(0.1, torch.ones(2)))]), ShapeError, "takes numbers"),
        (lambda: MatrixProcess(F, G[:2]), ShapeError, "G has shape"),
        (lambda: MatrixProcess(F, G, (2,)), ShapeError, "F has shape"),
        (lambda: MatrixProcess(F, G, t_min=2.0), ConfigError, "t_min"),
        (lambda: MatrixProcess(F.diag().diag(), G * 0), ConfigError, "does not reach"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, match) -> None:
    with pytest.raises(error, match=match):
        make()


def test_cosine_and_edm_are_the_published_schedules() -> None:
    """Cosine: signal cos(a), log-SNR 10 and -10 at the ends. EDM: steps of Karras et al. 2022, equation 5."""
    t = torch.linspace(0, 1, 19, dtype=F64)
    cosine = Cosine()
    torch.testing.assert_close(cosine.log_snr(t)[[0, -1]], torch.tensor([10.0, -10.0], dtype=F64))
    torch.testing.assert_close(cosine.angle(t).diff(), cosine.angle(t).diff()[:1].expand(18))
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    steps = torch.tensor([(high + i / 18 * (low - high)) ** 7 for i in range(19)], dtype=F64)
    torch.testing.assert_close(EDM().signal_scale(t)[1].flip(0), steps)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Cosine(1.0, 2.0), "lam_min < lam_max"),
        (lambda: EDM(3.0, 1.0), "0 < sigma_min < sigma_max"),
        (lambda: EDM(0.0, 1.0), "0 < sigma_min < sigma_max"),
        (lambda: EDM(rho=0.0), "rho > 0"),
        (lambda: Stretched(LinearVP(), 0.0), "above 0"),
        (lambda: Stretched(LinearLogSNR(t_end=torch.tensor([0.5, 1.0])), 0.5), "two numbers"),
    ],
)
def test_schedules_that_cannot_be_are_refused(build: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build()


@pytest.mark.parametrize(
    "schedule", [GeometricVE(), LinearVP(), LinearSubVP(), LinearLogSNR(), Cosine(), EDM(), Stretched(LinearVP(), 0.7)]
)
def test_a_schedule_stands_still_beyond_its_end(schedule: Schedule) -> None:
    """Beside one that goes on: neither noise nor rates grow on, and no sampler or flow moves it."""
    process = PerComponent((2,), [(slice(0, 1), Stretched(LinearVP(), 2.0)), (slice(1, 2), schedule)]).double()
    t = torch.tensor([float(schedule.t_end), 1.3, 2.0], dtype=F64)
    x = torch.zeros(3, 2, dtype=F64)
    for values in (*process.coefficients(x, t), process.log_snr(t)):
        torch.testing.assert_close(values[:, 1], values[:1, 1].expand(3))
    assert process.dispersion(x, t)[1:, 1].tolist() == [0, 0]
    a, q = process.transition(x[:1], t[:1], t[2:])
    assert (float(a[0, 1]), float(q[0, 1])) == (1, 0)


def test_a_schedule_may_have_blocks_that_none_uses() -> None:
    schedule = GeometricVE(torch.full((5,), 0.01), torch.arange(1.0, 6.0))
    process = PerComponent((4,), schedule, blocks=torch.tensor([0, 1, 2, 2]))
    assert process.prior(torch.zeros(1))[1].tolist() == [1, 2, 3, 3]


def test_blocks_give_levels_and_a_prior_of_their_own() -> None:
    process = three_blocks()
    t = torch.tensor([0.2, 0.9], dtype=F64)
    torch.testing.assert_close(process.levels(t)[:, process.index], process.log_snr(t))
    mean, deviation = torch.randn(2, 2, dtype=F64), torch.rand(2, 2, dtype=F64) + 0.5
    process.set_prior(mean, deviation)
    x = torch.randn(3, 2, 2, dtype=F64)
    expected = torch.distributions.Normal(mean, deviation).log_prob(x).sum((1, 2))
    torch.testing.assert_close(process.prior_log_prob(x), expected)
    draws = process.sample_prior((20000, 2, 2), generator=torch.Generator().manual_seed(0), like=x)
    torch.testing.assert_close(draws.mean(0), mean, rtol=0, atol=0.055)
    torch.testing.assert_close(draws.std(0), deviation, rtol=0.03, atol=0)
    assert set(process.state_dict()) >= {"prior_mean", "prior_deviation", "index"}


@pytest.mark.parametrize(
    ("schedule", "blocks", "words"),
    [
        (LinearLogSNR(t_end=torch.tensor([0.5, 1.0])), torch.tensor([0, 1]), "int64 of shape"),
        (LinearLogSNR(t_end=torch.tensor([0.5, 1.0])), torch.tensor([0.0, 1.0, 1.0]), "float32"),
        (LinearLogSNR(t_end=torch.tensor([0.5, 1.0])), torch.tensor([0, 1, 2]), "numbered 0 to 2"),
        (LinearLogSNR(), torch.tensor([0, 0, 0]), r"shape \(\)"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(schedule: LinearLogSNR, blocks: Tensor, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        PerComponent((3,), schedule, blocks=blocks)


def test_a_prior_or_levels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="a prior of shape"):
        three_blocks().set_prior(torch.zeros(2), torch.ones(2))
    with pytest.raises(ShapeError, match="process with blocks"):
        two_speeds().levels(torch.tensor([0.5]))
