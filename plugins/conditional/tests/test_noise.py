"""The condition's own diffusion: its speed in each family, its annealing, and its noise while sampling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.config import CosineConfig, EDMConfig, LogSNRConfig, SubVPConfig, VEConfig, VPConfig
from scorefold.diffusion import GeometricVE, LinearSubVP, LinearVP, build_schedule
from scorefold.errors import ConfigError
from scorefold_conditional.conditional.layout import annealed_speed, condition_schedule
from scorefold_conditional.conditional.objective import ConditionNoise

CONFIGS = [VEConfig(), VPConfig(), SubVPConfig(), CosineConfig(), LogSNRConfig(), EDMConfig()]
TIMES = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)


def named(config: Any) -> str:
    return str(config.name)


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_the_full_speed_is_the_events(config: Any) -> None:
    event = build_schedule(config)
    slow = condition_schedule(event, 1.0)
    for found, expected in zip(slow.signal_scale(TIMES), event.signal_scale(TIMES), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(slow.log_snr(TIMES), event.log_snr(TIMES), rtol=1e-9, atol=1e-9)
    for found, expected in zip(slow.rates(TIMES), event.rates(TIMES), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("speed", [0.03, 0.4])
@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_a_slower_schedule_is_a_diffusion(config: Any, speed: float) -> None:
    """Its rates follow from its signal and scale: signal' = a signal, (scale^2)' = 2 a scale^2 + g^2."""
    slow = condition_schedule(build_schedule(config), speed)
    h = 1e-6
    (signal, scale), (a, g) = slow.signal_scale(TIMES), slow.rates(TIMES)
    (more, rough), (less, smooth) = slow.signal_scale(TIMES + h), slow.signal_scale(TIMES - h)
    torch.testing.assert_close((more - less) / (2 * h), a * signal, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close((rough**2 - smooth**2) / (2 * h), 2 * a * scale**2 + g**2, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(slow.log_snr(TIMES), 2 * (signal / scale).log())
    torch.testing.assert_close(slow.time_at(scale / signal), TIMES)


def test_what_the_speed_is_in_each_family() -> None:
    t = TIMES
    slow = condition_schedule(GeometricVE(0.01, 50), 0.1)
    torch.testing.assert_close(slow.signal_scale(t)[1], 0.01 * 500.0**t)
    for family in (LinearVP, LinearSubVP):
        found = condition_schedule(family(0.1, 20), 0.3).signal_scale(t)
        expected = family(0.03, 6).signal_scale(t)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    signal = build_schedule(CosineConfig()).signal_scale(t)[0]
    slow = condition_schedule(build_schedule(CosineConfig()), 0.3)
    torch.testing.assert_close(slow.signal_scale(t)[0], signal**0.3)
    edm = condition_schedule(build_schedule(EDMConfig(sigma_min=0.002, sigma_max=80)), 0.1)
    ends = edm.signal_scale(torch.tensor([0.0, 1.0], dtype=torch.float64))[1]
    torch.testing.assert_close(ends, torch.tensor([0.002, 8.0], dtype=torch.float64))


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_points_may_have_speeds_of_their_own(config: Any) -> None:
    event = build_schedule(config)
    speeds = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    found = condition_schedule(event, speeds).signal_scale(TIMES)[1]
    expected = torch.cat(
        [condition_schedule(event, float(r)).signal_scale(TIMES[i : i + 1])[1] for i, r in enumerate(speeds)]
    )
    torch.testing.assert_close(found, expected)


def test_a_speed_that_goes_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="no further than it starts") as caught:
        condition_schedule(GeometricVE(0.01, 50), 0.0002)
    assert caught.value.hint is not None
    assert "cde" in caught.value.hint


@pytest.mark.parametrize(
    ("step", "sigma"), [(0, 277.1), (1_000, 86.3), (10_000, 11.98), (50_000, 2.48), (125_000, 0.998), (250_000, 0.5)]
)
def test_the_speed_falls_as_published(step: int, sigma: float) -> None:
    assert 277.1 * annealed_speed(0.5 / 277.1, step, 250_000) == pytest.approx(sigma, rel=2e-3)


def test_the_speed_stays_at_its_target() -> None:
    assert annealed_speed(0.01, 300, 200) == 0.01


def trajectory(impulses: Any, name: str, schedule: Any, times: list[float]) -> Tensor:
    """y_t - a(t) y at each time as a linear map of independent draws: (times, draws)."""
    noise, impulses.count = ConditionNoise(name, None), 0  # type: ignore[arg-type]
    y = torch.full((len(times) + 1, 1), 0.7, dtype=torch.float64)
    found = [noise.at(y, torch.full((len(y),), t, dtype=torch.float64), schedule)[:, 0] for t in times]
    signals = [schedule.signal_scale(torch.tensor([t], dtype=torch.float64))[0] for t in times]
    return torch.stack([y_t - 0.7 * signal for y_t, signal in zip(found, signals, strict=True)])


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_a_path_has_the_covariance_of_the_diffusion(config: Any, impulses: Any) -> None:
    """cov(y_s, y_t | y) = signal_t / signal_s scale_s^2 for s <= t: backwards, twice at one time, and forwards."""
    schedule = condition_schedule(build_schedule(config), 0.2)
    times = [0.9, 0.6, 0.6, 0.3, 0.1]
    found = trajectory(impulses, "path", schedule, times)
    covariance = found @ found.mT
    signal, scale = schedule.signal_scale(torch.tensor(times, dtype=torch.float64))
    for i, j in itertools.combinations_with_replacement(range(5), 2):
        expected = float(signal[i] / signal[j] * scale[j] ** 2)  # times fall
        assert float(covariance[i, j]) == pytest.approx(expected, rel=1e-9)
    assert torch.equal(found[1], found[2])
    ahead = trajectory(impulses, "path", schedule, [0.2, 0.8])
    a, q = build_transition(schedule, 0.2, 0.8)
    torch.testing.assert_close(ahead[1, 0], a * ahead[0, 0])
    assert float(ahead[1, 1] ** 2) == pytest.approx(q**2, rel=1e-9)


def build_transition(schedule: Any, s: float, t: float) -> tuple[Tensor, float]:
    """(a, q) of y_t = a y_s + q z."""
    (signal_s, signal_t), (scale_s, scale_t) = schedule.signal_scale(torch.tensor([s, t], dtype=torch.float64))
    a = signal_t / signal_s
    return a, math.sqrt(float(scale_t**2 - (a * scale_s) ** 2))


def test_a_path_is_the_published_bridge(impulses: Any) -> None:
    """p(y_t | y, y_t') = N(w y + (1 - w) y_t', sigma_t^2 w) with w = 1 - sigma_t^2 / sigma_t'^2, for VE."""
    schedule = GeometricVE(0.01, 1.0)
    found = trajectory(impulses, "path", schedule, [0.8, 0.5])
    sigma, sigma_t = (float(schedule.signal_scale(torch.tensor([t]).double())[1]) for t in (0.8, 0.5))
    w = 1 - sigma_t**2 / sigma**2
    assert float(found[1, 0]) == pytest.approx((1 - w) * float(found[0, 0]))
    assert float(found[1, 1] ** 2) == pytest.approx(sigma_t**2 * w)


def test_fresh_noise_is_new_and_frozen_noise_is_one_draw(impulses: Any) -> None:
    schedule = GeometricVE(0.01, 1.0)
    fresh = trajectory(impulses, "fresh", schedule, [0.8, 0.8, 0.5])
    covariance = fresh @ fresh.mT
    assert torch.equal(covariance, covariance.diag().diag())
    frozen = trajectory(impulses, "frozen", schedule, [0.8, 0.5, 0.9])
    assert torch.equal(frozen[:, 1:], torch.zeros_like(frozen[:, 1:]))
    scale = schedule.signal_scale(torch.tensor([0.8, 0.5, 0.9], dtype=torch.float64))[1]
    torch.testing.assert_close(frozen[:, 0], scale)


def test_rows_may_be_at_times_of_their_own() -> None:
    """On a path, each event's noise moves as far as its own time did."""
    noise = ConditionNoise("path", torch.Generator().manual_seed(0))
    y, schedule = torch.zeros(2, 1, dtype=torch.float64), GeometricVE(0.01, 1.0)
    first = noise.at(y, torch.tensor([0.8, 0.8]).double(), schedule)
    second = noise.at(y, torch.tensor([0.8, 0.3]).double(), schedule)
    assert float(second[0]) == float(first[0])
    assert float(second[1]) != float(first[1])


Build = Callable[..., Any]


def test_a_sampler_with_a_path_calls_one_time_with_one_condition(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heun asks twice at each inner time; with a path both answers are of the same noised condition."""
    model = build(condition_noise="path").double()
    seen: list[tuple[float, Tensor]] = []
    inner = model.layout.__class__.stack

    def stack(self: Any, x: Tensor, parts: Any, extra: Any) -> Tensor:
        seen.append((float(parts[""][0, 0]), parts[""]))
        return inner(self, x, parts, extra)

    monkeypatch.setattr(model.layout.__class__, "stack", stack)
    model.sample(
        2, torch.ones(1, 1).double(), steps=4, sampler="heun", to_zero=False, generator=torch.Generator().manual_seed(0)
    )
    assert len(seen) == 8
    for after, before in ((1, 2), (3, 4), (5, 6)):
        assert torch.equal(seen[after][1], seen[before][1])
    assert not torch.equal(seen[0][1], seen[1][1])
