"""Samplers against exact Gaussian distributions: with an exact score every step is affine, so moments propagate
exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from scorefold.batching import in_calls
from scorefold.diffusion import (
    SAMPLERS,
    VE,
    VP,
    DiffusionProcess,
    IsotropicProcess,
    LinearLogSNR,
    LinearVP,
    PerComponent,
    SubVP,
    ddim,
    dpm_solver_pp_2m,
    euler_maruyama,
    heun,
    predictor_corrector,
    resolve_sampler,
    samplers,
    time_grid,
)
from scorefold.diffusion.process import SdeStep, each_step, tabulated
from scorefold.errors import ConfigError, ShapeError
from scorefold_toolkit.matrix_process import MatrixProcess

F64 = torch.float64
SIGMA = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=F64)


def marginal_covariance(process: DiffusionProcess, sigma: Tensor, t: Tensor) -> Tensor:
    """The covariance of x_t for x_0 ~ N(0, sigma), (D, D), at one time t (1,)."""
    eye = torch.eye(len(sigma), dtype=F64)
    zeros = torch.zeros_like(eye)
    signal = process.perturb(eye, t.expand(len(eye)), zeros)  # rows: signal e_i
    scale = process.perturb(zeros, t.expand(len(eye)), eye)
    return signal.T @ sigma @ signal + scale.T @ scale


def gaussian_score(process: DiffusionProcess, sigma: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    def score(x: Tensor, t: Tensor) -> Tensor:
        return -torch.linalg.solve(marginal_covariance(process, sigma, t[:1]), x.T).T

    return score


def end_covariance(sampler, process, sigma, times, monkeypatch, start=None) -> Tensor:
    """The covariance of the sampler's output, exactly: each step is applied to basis vectors of x and of each noise."""
    size = len(sigma)
    score = gaussian_score(process, sigma)
    covariance = marginal_covariance(process, sigma, times[:1]) if start is None else start
    eye, zeros = torch.eye(size, dtype=F64), torch.zeros(size, size, dtype=F64)
    if sampler in (ddim, heun, dpm_solver_pp_2m):
        whole, _ = sampler(score, process, eye, times)
        return whole.T @ covariance @ whole
    for k in range(len(times) - 1):
        draws = 0

        def draw(shape, *, generator, like):
            nonlocal draws
            draws += 1
            blocks = [zeros, *(eye if index == draws else zeros for index in (1, 2))]
            return torch.cat(blocks)

        monkeypatch.setattr(samplers, "draw_normal", draw)
        step, _ = sampler(score, process, torch.cat([eye, zeros, zeros]), times[k : k + 2])
        move, *noises = step.split(size)
        covariance = move.T @ covariance @ move + sum(noise.T @ noise for noise in noises)
    return covariance


def flow_map(process: DiffusionProcess, sigma: Tensor, times: Tensor) -> Tensor:
    """The probability flow's exact map from times[0] to times[-1] for an isotropic process."""
    values, vectors = torch.linalg.eigh(sigma)
    x = torch.ones(1, 1, dtype=F64)

    def spread(t: Tensor) -> Tensor:
        signal, scale = process.coefficients(x, t)
        return (signal[0] ** 2 * values + scale[0] ** 2).sqrt()

    return vectors @ torch.diag(spread(times[-1:]) / spread(times[:1])) @ vectors.T


def orders(errors: list[float]) -> list[float]:
    return [math.log2(one / two) for one, two in pairwise(errors)]


@pytest.mark.parametrize("process", [VE(), VP(), SubVP()], ids=["ve", "vp", "subvp"])
@pytest.mark.parametrize("sigma", [torch.tensor([[0.25]], dtype=F64), SIGMA], ids=["one", "joint"])
@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (heun, 2), (dpm_solver_pp_2m, 2)])
def test_deterministic_samplers_converge_at_their_order(process, sigma, sampler, order) -> None:
    """The error of the map from noise to data, against the exact flow map, as the steps double (uniform log-SNR)."""
    errors = []
    for steps in (100, 200, 400):
        times = time_grid(process, steps, "log-snr")
        final, _ = sampler(gaussian_score(process, sigma), process, torch.eye(len(sigma), dtype=F64), times)
        exact = flow_map(process, sigma, times)
        errors.append(float((final.T - exact).norm() / exact.norm()))
    assert orders(errors) == pytest.approx([order, order], abs=0.25)


@pytest.mark.parametrize(("process", "order"), [(VP(), 1), (SubVP(), 1), (VE(), 2)], ids=["vp", "subvp", "ve"])
def test_euler_maruyama_has_weak_order_one(process, order, monkeypatch) -> None:
    """On geometric VE the first-order term of a Gaussian's variance V vanishes, and order 2 shows.

    With u = sigma^2 and steps h in ln u it is h V^2 int (u / (u + V)^3 - 1 / (2 (u + V)^2)) du = 0 over u in (0, inf).
    """
    errors = []
    for steps in (100, 200, 400):
        times = time_grid(process, steps, "log-snr")
        covariance = end_covariance(euler_maruyama, process, SIGMA, times, monkeypatch)
        exact = marginal_covariance(process, SIGMA, times[-1:])
        errors.append(float((covariance - exact).norm() / exact.norm()))
    assert orders(errors) == pytest.approx([order, order], abs=0.25)
    assert errors[-1] < 0.05


def test_the_predictor_has_weak_order_one_and_the_corrector_helps(monkeypatch) -> None:
    """Langevin steps lessen the predictor's error, up to their own bias: at most snr^2 of the noise's variance."""
    process = VE()

    def predictor(*arguments, **options):
        return predictor_corrector(*arguments, corrector_steps=0, **options)

    errors = []
    for steps in (100, 200, 400):
        times = time_grid(process, steps)
        exact = marginal_covariance(process, SIGMA, times[-1:])
        covariance = end_covariance(predictor, process, SIGMA, times, monkeypatch)
        errors.append(float((covariance - exact).norm() / exact.norm()))
    assert orders(errors) == pytest.approx([1, 1], abs=0.25)
    corrected = end_covariance(predictor_corrector, process, SIGMA, times, monkeypatch)
    assert float((corrected - exact).norm() / exact.norm()) < errors[-1]


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_exact_moments_of_their_recursion(name, monkeypatch) -> None:
    """20,000 draws of a one-dimensional distribution with a mean, against the affine recursion, within 5 standard
    errors."""
    process, count, mean = VP(), 20000, 1.5
    sigma = torch.tensor([[0.25]], dtype=F64)
    times = time_grid(process, 30)
    centred = gaussian_score(process, sigma)

    def score(x: Tensor, t: Tensor) -> Tensor:
        return centred(x - process.coefficients(x, t[:1])[0] * mean, t)

    with monkeypatch.context() as patch:
        expected = end_covariance(SAMPLERS[name], process, sigma, times, patch, start=torch.eye(1, dtype=F64))
        patch.setattr(samplers, "draw_normal", lambda shape, *, generator, like: torch.zeros(shape, dtype=F64))
        centre, _ = SAMPLERS[name](score, process, torch.zeros(1, 1, dtype=F64), times)
    generator = torch.Generator().manual_seed(1)
    x = process.sample_prior((count, 1), generator=generator, like=times)
    x, _ = SAMPLERS[name](score, process, x, times, generator=generator)
    std = float(expected) ** 0.5
    assert float(x.mean()) == pytest.approx(float(centre), abs=5 * std / math.sqrt(count))
    assert float(x.var()) == pytest.approx(float(expected), abs=5 * std**2 * math.sqrt(2 / count))
    assert float(centre) == pytest.approx(mean, abs=0.05)
    assert float(expected) == pytest.approx(0.25, rel=0.25)


def langevin_process() -> MatrixProcess:
    """Critically damped Langevin diffusion of (x, v) (Dockhorn et al. 2022): noise enters through v alone."""
    drift = torch.tensor([[0.0, 1.0], [-1.0, -2.0]], dtype=F64)
    dispersion = torch.tensor([[0.0, 0.0], [0.0, 2.0]], dtype=F64)
    return MatrixProcess(drift, dispersion, t_min=0.02, speed=(1.0, 8.0), start=0.25 * torch.eye(2, dtype=F64))


@pytest.mark.parametrize(("sampler", "order"), [(euler_maruyama, 1), (predictor_corrector, 1), (heun, 2)])
def test_matrix_processes(sampler, order, monkeypatch) -> None:
    process = langevin_process()
    sigma = torch.tensor([[0.6, 0.1], [0.1, 1.0]], dtype=F64)
    if sampler is predictor_corrector:

        def sampler(*arguments, **options):
            return predictor_corrector(*arguments, corrector_steps=0, **options)

    errors = []
    for steps in (50, 100, 200):
        times = time_grid(process, steps)
        covariance = end_covariance(sampler, process, sigma, times, monkeypatch)
        exact = marginal_covariance(process, sigma, times[-1:])
        errors.append(float((covariance - exact).norm() / exact.norm()))
    assert min(orders(errors)) > order - 0.25
    assert errors[-1] < 0.06


def test_matrix_form_of_an_isotropic_process_samples_the_same(generator) -> None:
    vp = VP()
    eye = torch.eye(3, dtype=F64)
    process = MatrixProcess(-eye / 2, eye, speed=(0.1, 20.0), t_min=1e-5, prior_covariance=eye)
    x, times = torch.randn(4, 3, dtype=F64), time_grid(vp, 10)
    for sampler in (euler_maruyama, predictor_corrector, heun):
        one, _ = sampler(lambda x, t: -x, vp, x, times, generator=generator.manual_seed(3))
        two, _ = sampler(lambda x, t: -x, process, x, times, generator=generator.manual_seed(3))
        torch.testing.assert_close(one, two)
    for sampler in (ddim, dpm_solver_pp_2m):
        with pytest.raises(ConfigError, match="component by component"):
            sampler(lambda x, t: -x, process, x, times)


def three_speeds() -> PerComponent:
    return PerComponent((3,), LinearLogSNR(t_end=torch.tensor([1 / 3, 2 / 3, 1.0], dtype=F64)))


@pytest.mark.parametrize("name", SAMPLERS)
def test_components_stand_still_until_their_time(name, generator) -> None:
    process = three_speeds()
    x, times = torch.randn(5, 3, dtype=F64), time_grid(process, 12)
    reached, _ = SAMPLERS[name](lambda x, t: -2 * x, process, x, times[:5], generator=generator)
    assert torch.equal(reached[:, :2], x[:, :2])
    assert not torch.equal(reached[:, 2], x[:, 2])
    reached, _ = SAMPLERS[name](lambda x, t: -2 * x, process, x, times[:6], generator=generator)
    assert torch.equal(reached[:, 0], x[:, 0])
    assert bool((reached[:, 1:] != x[:, 1:]).all())


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_component_that_enters_late_moves_as_it_would_alone(name) -> None:
    """Its first step is of first order: the 2/3-speed component of a joint run equals a run of that component alone."""
    process, alone = three_speeds(), IsotropicProcess(LinearLogSNR(t_end=2 / 3))
    x, times = torch.randn(5, 3, dtype=F64), time_grid(process, 12)
    options = {"corrector_steps": 0} if name == "predictor-corrector" else {}
    draws = torch.randn(12, 5, 3, dtype=F64)

    def run(process, x, times, first, column):
        step = first

        def draw(shape, *, generator, like):
            nonlocal step
            step += 1
            return draws[step - 1][:, column]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(samplers, "draw_normal", draw)
            return SAMPLERS[name](lambda x, t: -1.3 * x, process, x, times, **options)[0]

    joint = run(process, x, times, 0, slice(None))
    single = run(alone, x[:, 1:2], times[4:], 4, slice(1, 2))
    torch.testing.assert_close(joint[:, 1:2], single)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_grid_walked_in_pieces_gives_the_same(name, generator) -> None:
    """The state carries the multistep history, and only the end of the whole run drops its noise."""
    process = three_speeds()
    x, times = torch.randn(5, 3, dtype=F64), time_grid(process, 12)
    whole, _ = SAMPLERS[name](lambda x, t: -x / 2, process, x, times, generator=generator.manual_seed(5))
    state = None
    generator.manual_seed(5)
    for start in (0, 4, 8):
        x, state = SAMPLERS[name](
            lambda x, t: -x / 2, process, x, times[start : start + 5], generator=generator, state=state
        )
    torch.testing.assert_close(x, whole, rtol=1e-11, atol=0)  # a table of another length may round otherwise
    assert (state is not None) == (name == "dpmpp-2m")


@pytest.mark.parametrize("name", SAMPLERS)
def test_factors_tabulated_some_steps_at_a_time_are_the_same(name, generator, monkeypatch) -> None:
    """Tables of 5 steps for 12; a table of another length may round otherwise."""
    process = three_speeds()
    x, times = torch.randn(5, 3, dtype=F64), time_grid(process, 12)
    whole, _ = SAMPLERS[name](lambda x, t: -x / 2, process, x, times, generator=generator.manual_seed(5))
    monkeypatch.setattr("scorefold.diffusion.process._CHUNK", 15)
    parts, _ = SAMPLERS[name](lambda x, t: -x / 2, process, x, times, generator=generator.manual_seed(5))
    torch.testing.assert_close(parts, whole, rtol=1e-11, atol=0)


def test_a_step_knows_its_times_and_whether_it_ends_the_run() -> None:
    process, x = VP(), torch.zeros(4, 2)
    times = time_grid(process, 3)
    walked = [step for step, _ in each_step(process, x, times, SdeStep.of)]
    assert [step.last for step in walked] == [False, False, True]
    assert [step.t.tolist() for step in walked] == [[float(t)] * 4 for t in times[:-1].float()]
    assert [step.h for step in walked] == (times[:-1] - times[1:]).tolist()
    assert not any(step.last for step, _ in each_step(process, x, times[:-1], SdeStep.of))


def test_what_depends_on_the_time_alone_is_computed_once_a_run() -> None:
    """Also where a call of the network gets some of the events only."""
    made: list[Tensor] = []

    def table(times: Tensor) -> list[float]:
        made.append(times)
        return (-times).tolist()

    def of_rows(x: Tensor, t: Tensor, condition: None) -> Tensor:
        entry = tabulated(t, "negative", table)
        assert entry == pytest.approx(-float(t[0]))
        return entry * x

    x, times = torch.ones(5, 2), time_grid(VP(), 6)
    for runs in (1, 2):
        heun(lambda x, t: in_calls(2, of_rows, x, t, condition=None), VP(), x, times)
        assert [len(each) for each in made] == [7] * runs
    assert tabulated(torch.ones(5), "negative", table) is None


@pytest.mark.parametrize("name", SAMPLERS)
def test_dtype_batches_and_seeds(name, generator) -> None:
    process = three_speeds().to(torch.float32)
    x = torch.randn(4, 3)
    times = time_grid(process, 9).to(torch.float32)  # rounded times still meet the components' ends
    seen: list[torch.Size] = []

    def score(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t.shape)
        assert t.dtype == x.dtype == torch.float32
        return -x

    before = x.clone()
    one, _ = SAMPLERS[name](score, process, x, times, generator=generator.manual_seed(2))
    two, _ = SAMPLERS[name](score, process, x, times, generator=generator.manual_seed(2))
    assert one.dtype == torch.float32
    assert torch.equal(one, two)
    assert torch.equal(x, before)
    assert set(seen) == {torch.Size([4])}
    empty, _ = SAMPLERS[name](lambda x, t: -x, process, x[:0], times, generator=generator)
    assert empty.shape == (0, 3)


def test_network_calls_per_step() -> None:
    calls = {}
    for name, sampler in SAMPLERS.items():
        count = 0

        def score(x: Tensor, t: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return -x

        sampler(score, VP(), torch.ones(1, 1), time_grid(VP(), 7))
        calls[name] = count / 7
    assert calls == {"euler-maruyama": 1, "predictor-corrector": 2, "heun": 2, "edm": 2, "ddim": 1, "dpmpp-2m": 1}


@pytest.mark.parametrize(
    ("spacing", "sampler", "calls", "errors"),
    [
        ("karras", "edm", (9, 18, 40), (0.2313, 0.0447, 0.0079)),
        ("karras", "dpmpp-2m", (17, 35, 79), (0.0583, 0.0112, 0.0019)),
        ("karras", "ddim", (17, 35, 79), (-0.1486, -0.0730, -0.0325)),
        ("log-snr", "edm", (9, 18, 40), (0.3133, 0.0573, 0.0098)),
        ("log-snr", "dpmpp-2m", (17, 35, 79), (0.0227, 0.0058, 0.0011)),
    ],
)
def test_errors_of_samplers_to_zero_noise(
    spacing: str, sampler: str, calls: tuple[int, ...], errors: tuple[float, ...]
) -> None:
    """The deviation of samples of N(0, 1) by its exact score, less 1: levels from 80 to .002, then 0."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        return -x / (1 + process.coefficients(x, t)[1] ** 2)

    process = VE(0.002, 80)
    end = torch.tensor([process.t_min], dtype=F64)
    for levels, error in zip(calls, errors, strict=True):
        start = torch.full((1, 1), 80.0, dtype=F64)
        x, _ = SAMPLERS[sampler](score, process, start, time_grid(process, levels - 1, spacing))
        last = process.denoised_from_score(score(x, end), x, end)
        assert float(last) - 1 == pytest.approx(error, abs=6e-5)


def test_a_long_last_step_falls_back_to_first_order() -> None:
    """VP's last step of a uniform grid spans many times the log-SNR of the one before: extrapolation would explode."""
    process, sigma = VP(), SIGMA
    times = time_grid(process, 20)
    final, _ = dpm_solver_pp_2m(gaussian_score(process, sigma), process, torch.eye(2, dtype=F64), times)
    exact = flow_map(process, sigma, times)
    assert float((final - exact).norm() / exact.norm()) < 0.05


@pytest.mark.parametrize("name", SAMPLERS)
def test_components_of_one_speed_are_the_isotropic_process(name, generator) -> None:
    """On a grid whose last step must fall back to first order, component by component."""
    process, alike = VP(), PerComponent((3,), [(slice(3), LinearVP())])
    x, times = torch.randn(4, 3, dtype=F64), time_grid(process, 20)
    score = gaussian_score(process, torch.diag(torch.tensor([0.25, 1.0, 4.0], dtype=F64)))
    one, _ = SAMPLERS[name](score, process, x, times, generator=generator.manual_seed(3))
    two, _ = SAMPLERS[name](score, alike, x, times, generator=generator.manual_seed(3))
    torch.testing.assert_close(one, two)


def test_equal_intervals_get_their_steps_in_grid_order() -> None:
    """In floating point 0.8 - 0.7 is the longest of three tenths; that must not decide."""
    process = PerComponent((4,), LinearLogSNR(t_end=torch.tensor([0.7, 0.8, 0.9, 1.0], dtype=F64)))
    times = time_grid(process, 9)
    assert torch.equal(times[[0, 2, 4, 5, 9]], torch.tensor([1.0, 0.9, 0.8, 0.7, 1e-3], dtype=F64))


def test_time_grids() -> None:
    times = time_grid(VP(), 10)
    torch.testing.assert_close(times, torch.linspace(1.0, 1e-5, 11, dtype=F64))
    for process in (VE(), VP(), three_speeds(), langevin_process()):
        times = time_grid(process, 12, "log-snr")
        assert len(times) == 13
        assert bool((times.diff() < 0).all())
        assert (float(times[0]), float(times[-1])) == (process.t_max, process.t_min)
        assert all(bool((times == mark).any()) for mark in process.breakpoints)
    steps = VP().log_snr(time_grid(VP(), 10, "log-snr")).diff()
    torch.testing.assert_close(steps, steps.mean().expand(10))
    process = three_speeds()
    assert torch.equal(time_grid(process, 12)[[0, 4, 8, 12]], torch.tensor([1.0, 2 / 3, 1 / 3, 1e-3], dtype=F64))
    chosen = time_grid(process, [2, 3, 7])
    assert torch.equal(chosen[[0, 2, 5, 12]], torch.tensor([1.0, 2 / 3, 1 / 3, 1e-3], dtype=F64))


def test_names_and_errors() -> None:
    assert resolve_sampler("heun") is heun
    assert resolve_sampler(ddim) is ddim
    with pytest.raises(ConfigError, match="did you mean dpmpp-2m"):
        resolve_sampler("dpm_pp_2m")
    with pytest.raises(ConfigError, match="did you mean log-snr"):
        time_grid(VP(), 3, "logsnr")
    with pytest.raises(ConfigError, match="at least 1"):
        time_grid(VP(), 0)
    with pytest.raises(ConfigError, match="set steps to 3 or more"):
        time_grid(three_speeds(), 2)
    with pytest.raises(ConfigError, match="3 intervals"):
        time_grid(three_speeds(), [4, 4])
    x = torch.zeros(1, 3)
    for times, error, match in (
        (torch.ones(1), ShapeError, "steps"),
        (torch.tensor([0.1, 0.9]), ConfigError, "decreasing"),
        (torch.tensor([1.5, 0.9]), ConfigError, "within"),
        (torch.tensor([1.0, 0.5]), ConfigError, "not on the time grid"),
    ):
        with pytest.raises(error, match=match):
            euler_maruyama(lambda x, t: -x, three_speeds(), x, times)
