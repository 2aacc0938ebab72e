"""Denoising score matching: the exact meaning of each weighting, and the draw of times."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.diffusion import VE, VP, DiffusionProcess, GeometricVE, LinearLogSNR, PerComponent, SubVP
from scorefold.errors import ConfigError, ShapeError
from scorefold.random import draw_normal
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.score_matching.losses import (
    Rectified,
    Standardised,
    denoising_score_matching,
    draw_times,
    weighted_square,
)

F64 = torch.float64
EYE = torch.eye(2, dtype=F64)
TWO_SPEEDS = PerComponent((2,), GeometricVE(0.01, torch.tensor([50.0, 1.0], dtype=F64)))
STOPPING = PerComponent((2,), LinearLogSNR(t_end=torch.tensor([0.5, 1.0], dtype=F64)))
COUPLED = MatrixProcess(torch.tensor([[0.0, 1.0], [-1.0, -2.0]], dtype=F64), 2 * EYE, t_min=0.01)


def wrong(x: Tensor, t: Tensor, condition: None) -> Tensor:
    """A noise estimate that is off by something of order 1."""
    return torch.tanh(x) + t[:, None]


def loss_and_noise(process: DiffusionProcess, x0: Tensor, **options) -> tuple[Tensor, Tensor, Tensor]:
    """The loss at given times, and the noise and residual that it saw."""
    times = torch.linspace(process.t_min, process.t_max, len(x0), dtype=F64)
    loss = denoising_score_matching(
        wrong, process, x0, times=times, generator=torch.Generator().manual_seed(4), **options
    )
    noise = draw_normal(tuple(x0.shape), generator=torch.Generator().manual_seed(4), like=x0)
    return loss, noise, wrong(process.perturb(x0, times, noise), times, None) - noise


@pytest.mark.parametrize("process", [VE(), VP(), SubVP(), TWO_SPEEDS, STOPPING, COUPLED])
def test_weightings_by_their_definitions(process) -> None:
    x0 = torch.randn(6, 2, dtype=F64)
    times = torch.linspace(process.t_min, process.t_max, 6, dtype=F64)
    loss, noise, residual = loss_and_noise(process, x0, weighting="sigma2")
    torch.testing.assert_close(loss, (residual**2).sum(1))
    loss, _, _ = loss_and_noise(process, x0, weighting="simple")
    torch.testing.assert_close(loss, (residual**2).mean(1))
    loss, _, _ = loss_and_noise(process, x0, weighting="likelihood")
    x = process.perturb(x0, times, noise)
    gap = process.score_from_noise(residual + noise, x, times) - process.score_from_noise(noise, x, times)
    dispersion = process.dispersion(x, times)
    seen = dispersion * gap if isinstance(dispersion, Tensor) else dispersion.apply_transpose(gap)
    torch.testing.assert_close(loss, (seen**2).sum(1) / 2)


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_weights_count_noise_in_deviations_of_the_data(spread: float) -> None:
    """Of ``edm`` the factor is 1 + r^2, with r = sigma / (s spread)."""
    process, t = VP(), torch.tensor([0.2, 0.7], dtype=torch.float64)
    x, residual = torch.zeros(2, 3, dtype=torch.float64), torch.full((2, 3), 2.0, dtype=torch.float64)
    signal, scale = process.coefficients(x, t)
    expected = 4 * (1 + (scale / (signal * spread)) ** 2)
    found = weighted_square(process, residual, x, t, "edm", spread=spread)
    torch.testing.assert_close(found, expected.flatten(1).mean(1))


def test_likelihood_weighting_of_geometric_ve_is_a_constant() -> None:
    """1/2 g^2 ||s + z/sigma||^2 = ln(s_max / s_min) ||eps-hat - z||^2 at every time, and so for each of two speeds."""
    x0 = torch.randn(6, 2, dtype=F64)
    loss, _, residual = loss_and_noise(VE(0.01, 4.0), x0)
    torch.testing.assert_close(loss, math.log(400) * (residual**2).sum(1))
    loss, _, residual = loss_and_noise(TWO_SPEEDS, x0)
    torch.testing.assert_close(loss, math.log(5000) * residual[:, 0] ** 2 + math.log(100) * residual[:, 1] ** 2)


def test_likelihood_weighting_of_linear_log_snr_is_a_constant() -> None:
    """R / 2 ||r||^2 with R = 20 / (T - eps), published as 80.3, 40.1, 26.7, 20.0; 0 once a component has ended."""
    for end, rate in ((0.25, 80.3), (0.5, 40.1), (0.75, 26.7), (1.0, 20.0)):
        process = PerComponent((2,), LinearLogSNR(t_end=end))
        loss, _, residual = loss_and_noise(process, torch.randn(5, 2, dtype=F64))
        torch.testing.assert_close(loss, rate / 2 * (residual**2).sum(1), rtol=2e-3, atol=0)
    loss, _, residual = loss_and_noise(STOPPING, torch.randn(5, 2, dtype=F64))
    torch.testing.assert_close(loss[3:], 20 / 0.999 / 2 * residual[3:, 1] ** 2)


def test_score_and_noise_models_have_the_same_loss() -> None:
    for process in (VE(), TWO_SPEEDS, COUPLED):
        x0 = torch.randn(6, 2, dtype=F64)
        for weighting in ("likelihood", "simple", "sigma2"):
            options = {"weighting": weighting, "times": draw_times(process, 6, like=x0, generator=None)}
            one = denoising_score_matching(wrong, process, x0, generator=torch.Generator().manual_seed(0), **options)
            two = denoising_score_matching(
                lambda x, t, c, process=process: process.score_from_noise(wrong(x, t, c), x, t),
                process,
                x0,
                predicts="score",
                generator=torch.Generator().manual_seed(0),
                **options,
            )
            torch.testing.assert_close(one, two)


def test_one_call_with_the_condition_and_gradients() -> None:
    weight = torch.ones((), dtype=F64, requires_grad=True)
    seen = []

    def model(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        seen.append(condition)
        return weight * x

    x0, condition = torch.randn(6, 2, dtype=F64), torch.arange(6)
    loss = denoising_score_matching(model, VP(), x0, condition=condition)
    assert loss.shape == (6,)
    loss.mean().backward()
    assert weight.grad is not None
    assert len(seen) == 1
    assert seen[0] is condition
    assert denoising_score_matching(wrong, VP(), x0[:0]).shape == (0,)


def test_draws_of_times(generator) -> None:
    """Uniform on the interval; stratified times leave no gap longer than 1 / B, and the seed decides."""
    like = torch.empty((), dtype=F64)
    plain = draw_times(VP(), 4000, like=like, generator=generator)
    assert plain.dtype == F64
    assert float(plain.mean()) == pytest.approx(0.5, abs=5 / math.sqrt(12 * 4000))
    even = draw_times(VE(), 100, like=like, generator=generator.manual_seed(1), stratified=True).sort().values
    torch.testing.assert_close(even.diff(), torch.full((99,), 0.01, dtype=F64))
    part = draw_times(VE(), 100, like=like, generator=generator, interval=(0.25, 0.5))
    assert bool(((part >= 0.25) & (part <= 0.5)).all())
    again = draw_times(VE(), 100, like=like, generator=generator.manual_seed(1), stratified=True).sort().values
    assert torch.equal(even, again)
    firsts = torch.stack([draw_times(VE(), 3, like=like, generator=generator, stratified=True)[2] for _ in range(2000)])
    assert float(firsts.mean()) == pytest.approx(0.5, abs=5 / math.sqrt(12 * 2000))


def test_stratified_times_lessen_the_variance(generator) -> None:
    x0 = torch.zeros(64, 2, dtype=F64)

    def spread(stratified: bool) -> float:
        options = {"weighting": "sigma2", "stratified": stratified, "generator": generator}
        means = [
            denoising_score_matching(lambda x, t, c: 9 * t[:, None] + x * 0, VE(), x0, **options).mean()
            for _ in range(200)
        ]
        return float(torch.stack(means).std())

    assert spread(True) < spread(False) / 2


def test_what_does_not_fit_is_refused() -> None:
    x0 = torch.zeros(3, 2)
    with pytest.raises(ConfigError, match="did you mean likelihood"):
        denoising_score_matching(wrong, VE(), x0, weighting="likelyhood")
    with pytest.raises(ConfigError, match="predicts"):
        denoising_score_matching(wrong, VE(), x0, predicts="x0")
    with pytest.raises(ShapeError, match="one for each point"):
        denoising_score_matching(wrong, VE(), x0, times=torch.zeros(2))
    with pytest.raises(ShapeError, match="answered"):
        denoising_score_matching(lambda x, t, c: x[:, :1], VE(), x0)
    with pytest.raises(ConfigError, match="part of"):
        draw_times(VE(), 3, like=x0, interval=(0.5, 1.5))


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_answers_are_what_predictions_say_they_are(kind) -> None:
    """From one noised datum x = a x_0 + b z with a = 0.6, b = 1.5 and data of mean 2 and deviation 3."""
    a, b, s, middle = 0.6, 1.5, 3.0, 2.0
    x0 = middle + s * torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    z = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    centred, square = a * (x0 - middle) + b * z, (a * s) ** 2 + b**2
    shown = Standardised.of(centred, kind(a), kind(b), kind(s))
    torch.testing.assert_close(shown.input, centred / math.sqrt(square))
    answers = {
        "eps": z,
        "x0": (x0 - middle) / s,
        "v": (a * z - b * (x0 - middle)) / math.hypot(a, b),
        "edm": (z - b * centred / square) * math.sqrt(square) / (a * s),
    }
    for prediction, answer in answers.items():
        torch.testing.assert_close(shown.expected_noise(answer, prediction), z, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(shown.score(answer, prediction), -z / b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("process", [VE(0.01, 100.0), TWO_SPEEDS])
def test_events_are_standardised_by_their_moments_and_noise(process: DiffusionProcess) -> None:
    """The level is log(scale / signal), the mean over components where these diffuse at several speeds."""
    x = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=F64)
    signal, scale = (value.expand(3, 2) for value in process.coefficients(x, t))
    shown, level = Standardised.at(process, EventScale(mean=2.0, std=3.0), x, t)
    torch.testing.assert_close(level, (scale / signal).log().mean(1))
    torch.testing.assert_close(shown.input, (x - 2 * signal) / (9 * signal**2 + scale**2).sqrt())


def test_the_straight_path_is_a_diffusion_with_its_marginals() -> None:
    """Drift f = d log a / dt and squared dispersion d(b^2) / dt - 2 f b^2, of a = 1 - t and b = 2 t."""
    path = Rectified(2.0, t_min=0.1, t_end=0.6)
    t = torch.linspace(0.1, 0.6, 7, dtype=F64)
    drift, dispersion = path.rates(t)
    torch.testing.assert_close(drift, -1 / (1 - t))
    torch.testing.assert_close(dispersion**2, 8 * t + 2 / (1 - t) * 4 * t**2)
    torch.testing.assert_close(path.log_snr(t), ((1 - t) / (2 * t)).log() * 2)
    torch.testing.assert_close(path.time_at(2 * t / (1 - t)), t)
    assert path.prior_scale == pytest.approx(math.hypot(2 * 0.6, 0.4 * 2))
    assert (path.t_min, path.t_end) == (0.1, 0.6)
