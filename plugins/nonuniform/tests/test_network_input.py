"""What networks of bands see, answer and are trained at, against the formulas written out number by number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from scorefold.data import TensorSpec
from scorefold.diffusion import LinearLogSNR, PerComponent
from scorefold.errors import ConfigError
from scorefold_nonuniform.bands.network_input import (
    LEVELS,
    Noised,
    bound_in_coefficients,
    condition_at,
    condition_with_levels,
    network_view,
    noise_from_answer,
    spec_at,
    spec_with_levels,
    training_levels,
    weighted_losses,
)
from scorefold_nonuniform.config import NonUniformConfig
from scorefold_toolkit.config.common import LogUniformLevels, WeightingConfig

F64 = torch.float64
FIRST, LAST, START = 8.0, -6.0, 0.1
ENDS = (0.4, 0.7, 1.0)
"""Three bands whose log-SNR falls from 8 at time 0.1 to -6 at the end of each."""


def log_snr(band: int, t: float) -> float:
    """The straight line from (START, FIRST) to (ENDS[band], LAST), and LAST from there on."""
    return FIRST + (LAST - FIRST) * (min(t, ENDS[band]) - START) / (ENDS[band] - START)


def signal_of(lam: float) -> float:
    return math.sqrt(1 / (1 + math.exp(-lam)))


def scale_of(lam: float) -> float:
    return math.sqrt(1 / (1 + math.exp(lam)))


def process() -> PerComponent:
    schedule = LinearLogSNR(FIRST, LAST, torch.tensor(ENDS, dtype=F64), t_min=START)
    return PerComponent((4,), schedule, blocks=torch.tensor([0, 1, 1, 2]))


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def test_coefficients_are_noised_as_their_bands_are() -> None:
    """A view of the bands 1 and 2: one coefficient of the second, two of the first, at two times."""
    noised = Noised.at(process(), numbers(0.2, 0.85), torch.tensor([2, 1, 1]), first=1)
    for row, t in enumerate((0.2, 0.85)):
        lam = [log_snr(band, t) for band in range(3)]
        signal, scale = ([of(lam[band]) for band in (2, 1, 1)] for of in (signal_of, scale_of))
        assert noised.signal[row].tolist() == pytest.approx(signal)
        assert noised.scale[row].tolist() == pytest.approx(scale)
        assert noised.levels[row].tolist() == pytest.approx(lam[1:])
        assert float(noised.time[row]) == pytest.approx(-(lam[1] + lam[2]) / 4)


def test_bands_are_shown_with_unit_size_and_answers_correct_the_linear_guess() -> None:
    """With a = 0.8, b = 0.6, m = 2, s = 3, r^2 = 2.4^2 + 0.6^2: (v - 1.6) / r and 0.6 / r^2 (v - 1.6) + 2.4 / r F."""
    noised = Noised(numbers(0.8)[None], numbers(0.6)[None], numbers(0.0)[None])
    mean, deviation, v, answer = numbers(2.0), numbers(3.0), numbers(7.0)[None], numbers(0.5)[None]
    size = math.sqrt(2.4**2 + 0.6**2)
    assert float(network_view(v, noised, mean, deviation)) == pytest.approx((7 - 1.6) / size)
    noise = float(noise_from_answer(answer, v, noised, mean, deviation))
    assert noise == pytest.approx(0.6 / size**2 * 5.4 + 2.4 / size * 0.5)


def test_the_guess_of_an_answer_of_zero_is_the_expected_noise_of_a_normal_band() -> None:
    """v = a z + b eps with z ~ N(m, s^2): E[eps | v] = b (v - a m) / (a^2 s^2 + b^2), and the network has F = 0."""
    noised = Noised(numbers(0.6, 0.5)[None], numbers(0.8, 2.0)[None], numbers(0.0)[None])
    mean, deviation, v = numbers(-1.0, 4.0), numbers(0.5, 3.0), numbers(0.3, -2.0)[None]
    covariance, variance = numbers(0.8, 2.0), numbers(0.6**2 * 0.25 + 0.64, 0.25 * 9 + 4)
    expected = covariance * (v - numbers(-0.6, 2.0)) / variance
    assert torch.allclose(noise_from_answer(torch.zeros_like(v), v, noised, mean, deviation), expected)


DEVIATIONS = (0.5, 2.0, 4.0)


@pytest.mark.parametrize(("index", "first"), [([0, 1, 1, 2], 0), ([1, 1, 2], 1), ([2], 2)])
def test_training_levels_are_mean_noise_over_the_deviation_of_each_band(index: list[int], first: int) -> None:
    """u(t) = mean over coefficients of ln(scale / signal) - ln(deviation), with scale / signal = exp(-log-SNR / 2)."""
    config = NonUniformConfig(noise_levels=LogUniformLevels())
    levels = training_levels(process(), config, numbers(*DEVIATIONS), torch.tensor(index), first=first)
    assert levels.level is not None
    for t in (0.15, 0.3, 0.6, 0.9):
        each = [-log_snr(band, t) / 2 - math.log(DEVIATIONS[band]) for band in index]
        assert float(levels.level(numbers(t))) == pytest.approx(sum(each) / len(each))


def test_levels_of_a_part_of_the_time_stay_in_it() -> None:
    config = NonUniformConfig(noise_levels=LogUniformLevels())
    band = torch.tensor([2])
    levels = training_levels(process(), config, numbers(*DEVIATIONS), band, first=2, interval=(0.7, 0.9))
    times = levels.times(50, like=numbers(), generator=torch.Generator().manual_seed(0))
    assert 0.7 <= float(times.min()) < 0.71
    assert 0.89 < float(times.max()) <= 0.9


RESIDUAL, SIGNAL, SCALE = ((1.0, 2.0), (0.5, -1.0)), ((0.8, 0.6), (0.5, 0.3)), ((0.6, 0.8), (1.0, 2.0))
DEVIATION, DISPERSION = (2.0, 5.0), ((1.5, 0.5), (2.0, 3.0))


@pytest.mark.parametrize(
    ("name", "factor", "join"),
    [
        ("likelihood", lambda a, b, s, g: (g / b) ** 2 / 2, sum),
        ("sigma2", lambda a, b, s, g: 1, sum),
        ("simple", lambda a, b, s, g: 1, lambda squares: sum(squares) / 2),
        ("edm", lambda a, b, s, g: 1 + (b / (a * s)) ** 2, lambda squares: sum(squares) / 2),
        ("flow", lambda a, b, s, g: (1 + b / (a * s)) ** 2, lambda squares: sum(squares) / 2),
    ],
)
def test_errors_weigh_by_the_noise_of_their_band(name, factor, join) -> None:
    noised = Noised(torch.tensor(SIGNAL), torch.tensor(SCALE), torch.zeros(2, 1))
    weighting = WeightingConfig(name=name)
    found = weighted_losses(
        torch.tensor(RESIDUAL), noised, torch.tensor(DEVIATION), torch.tensor(DISPERSION), weighting
    )
    expected = [
        join([factor(a, b, s, g) * r**2 for a, b, s, g, r in zip(*row, strict=True)])
        for row in zip(SIGNAL, SCALE, (DEVIATION, DEVIATION), DISPERSION, RESIDUAL, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected)


class Turned(nn.Module):
    """A quarter turn, (x, y) to (-y, x), and back."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([-x[:, 1], x[:, 0]], 1)

    def inverse(self, z: Tensor) -> Tensor:
        return torch.stack([z[:, 1], -z[:, 0]], 1)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_guidance_goes_from_the_score_without_a_condition_past_the_one_with_it(guidance: float) -> None:
    """w s(z | c) + (1 - w) s(z), with s(z | c) = c - z and s(z) = -z: turned back, w times c turned back, less x. Both
    scores are asked for where both count."""
    asked = []

    def score(z: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        asked.append(condition is None)
        return -z if condition is None else condition - z

    bound = bound_in_coefficients(score, Turned(), numbers(3.0, 7.0)[None], guidance)
    x, t = torch.stack([numbers(1.0, 5.0), numbers(0.0, -2.0)]), numbers(0.5, 0.5)
    assert torch.allclose(bound(x, t), guidance * numbers(7.0, -3.0) - x)
    assert asked == ([False] if guidance == 1 else [False, True])
    assert torch.allclose(bound_in_coefficients(score, Turned(), None, guidance)(x, t), -x)


def test_networks_get_log_snrs_as_quarters_beside_the_condition() -> None:
    noised = Noised(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([[8.0, -6.0]]))
    label = torch.tensor([4])
    for given, names in ((None, {LEVELS}), (label, {"condition", LEVELS}), ({"kind": label}, {"kind", LEVELS})):
        condition = condition_with_levels(given, noised)
        assert set(condition) == names
        assert condition[LEVELS].tolist() == [[2.0, -1.5]]
    spec = spec_with_levels(TensorSpec((), classes=5), 3)
    assert {name: part.shape for name, part in spec.items()} == {"condition": (), LEVELS: (3,)}
    with pytest.raises(ConfigError, match="called 'levels'"):
        spec_with_levels({LEVELS: TensorSpec((3,))}, 2)


def test_images_of_a_condition_shrink_with_the_event_and_nothing_else_does() -> None:
    """Box means: 4 x 6 pixels to 2 x 3, with a channel or without one; classes and vectors stay as they are."""
    pixels = torch.arange(24, dtype=F64).reshape(4, 6)
    means = [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]
    like = torch.zeros(1, 3, 2, 3, dtype=F64)
    for image in (pixels[None], pixels[None, None]):
        spec = TensorSpec(tuple(image.shape[1:]))
        assert spec_at(spec, (3, 4, 6), (3, 2, 3)) == TensorSpec((*image.shape[1:-2], 2, 3))
        small = condition_at(image, spec, (3, 4, 6), like)
        assert isinstance(small, Tensor)
        assert small.reshape(2, 3).tolist() == means
        assert small.shape == (1, *image.shape[1:-2], 2, 3)
        assert spec_at(spec, (3, 8, 6), (3, 2, 3)) == spec, "an image of another size than the event"
    for spec in (TensorSpec((4,)), TensorSpec((4, 4), classes=3)):
        value = torch.ones(1, *spec.shape, dtype=torch.long if spec.classes else F64)
        assert spec_at(spec, (4, 4), (2, 2)) == spec
        assert torch.equal(condition_at(value, spec, (4, 4), torch.zeros(1, 2, 2)), value)
    assert spec_at(None, (3, 4, 6), (3, 2, 3)) is None
    assert condition_at(None, None, (3, 4, 6), like) is None
