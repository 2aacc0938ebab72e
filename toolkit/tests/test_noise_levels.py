"""Noise levels and weightings against the closed forms of their distributions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from scorefold.diffusion import EDM, VE, VP, Cosine, IsotropicProcess
from scorefold.diffusion.schedules import GeometricVE, LinearLogSNR, LinearSubVP, LinearVP
from scorefold.errors import ConfigError
from scorefold_toolkit.config.common import (
    CosineLevels,
    DenoisingLossConfig,
    LevelsConfig,
    LogitNormalLevels,
    LogNormalLevels,
    LogUniformLevels,
    MixtureLevels,
    TimeLevels,
    WeightingConfig,
)
from scorefold_toolkit.nn import LossUncertainty
from scorefold_toolkit.score_matching.losses import Rectified, noise_weight
from scorefold_toolkit.score_matching.noise_levels import NoiseLevels

F64 = torch.float64
WIDE = VE(1e-6, 1e6)
COUNT = 20_000
LIKE = torch.zeros((), dtype=F64)

# Mean and deviation of u, P(sigma / s < .05) and P(sigma / s > 5).
DISTRIBUTIONS = [
    (LogNormalLevels(), -0.5069, 1.2, 0.0190, 0.0389),
    (LogNormalLevels(mean=-0.8 + math.log(2), std=1.6), -0.1069, 1.6, 0.0355, 0.1417),
    (LogUniformLevels(low=0.004, high=160), -0.2231, 3.059, 0.2384, 0.3271),
    (CosineLevels(), 0.0, math.pi / 2, 0.0318, 0.1257),
    (LogitNormalLevels(), 0.0, 1.0, 0.0014, 0.0538),
]


def levels_of(config: Any, process: Any = WIDE, *, spread: float = 1.0, seed: int = 0, count: int = COUNT) -> Any:
    """u = ln(sigma / spread) at times that are distributed as the config says."""
    levels = NoiseLevels(process, config, spread)
    t = levels.times(count, like=LIKE, generator=torch.Generator().manual_seed(seed))
    return t, process.noise_to_signal(t).log() - math.log(spread)


@pytest.mark.parametrize(("config", "mean", "std", "low", "high"), DISTRIBUTIONS, ids=lambda value: str(value)[:24])
def test_levels_have_their_distribution(config: Any, mean: float, std: float, low: float, high: float) -> None:
    _, u = levels_of(config)
    assert float(u.mean()) == pytest.approx(mean, abs=2e-3)
    assert float(u.std()) == pytest.approx(std, rel=2e-3)
    assert float((u < math.log(0.05)).double().mean()) == pytest.approx(low, abs=2e-4)
    assert float((u > math.log(5)).double().mean()) == pytest.approx(high, abs=2e-4)


def test_uniform_times_of_vp_have_the_levels_of_the_table() -> None:
    _, u = levels_of(TimeLevels(), VP())
    assert float(u.mean()) == pytest.approx(1.3389, abs=2e-3)
    assert float(u.std()) == pytest.approx(1.932, rel=2e-3)


@pytest.mark.parametrize("process", [VE(0.01, 50), VP()], ids=["ve", "vp"])
@pytest.mark.parametrize("config", [each[0] for each in DISTRIBUTIONS], ids=lambda config: config.name)
def test_levels_follow_the_data_and_stay_within_the_process(config: Any, process: Any) -> None:
    """Data of half the deviation are trained at half the noise, and none is beyond what the process has."""
    t, u = levels_of(config, process, spread=0.5)
    assert float(t.min()) >= process.t_min
    assert float(t.max()) <= process.t_max
    ends = process.noise_to_signal(torch.tensor([process.t_min, process.t_max], dtype=F64)).log() - math.log(0.5)
    inside = levels_of(config)[1]
    inside = inside[(inside > ends[0]) & (inside < ends[1])]
    if not isinstance(config, LogUniformLevels):
        assert float(u.mean()) == pytest.approx(float(inside.mean()), abs=0.01)
        assert float(u.std()) == pytest.approx(float(inside.std()), rel=0.01)


@pytest.mark.parametrize(
    "config", [LogNormalLevels(std=2.0), CosineLevels(), MixtureLevels(share=0.3), LogUniformLevels()], ids=str
)
def test_importance_makes_a_mean_over_uniform_times(config: Any) -> None:
    """The integral of a function of t in [0, 1], whichever levels it is taken at."""
    process = VE(0.05, 5)
    t, _ = levels_of(config, process)
    weights = NoiseLevels(process, config).importance(t)
    for function, exact in ((torch.ones_like, 1.0), (torch.square, 1 / 3), (torch.exp, math.e - 1)):
        assert float((weights * function(t)).mean()) == pytest.approx(exact, rel=3e-3)


def test_importance_on_an_interval_makes_a_mean_over_its_times() -> None:
    """The mean of t^2 over [0.5, 0.8] is (0.8^3 - 0.5^3) / 0.9."""
    levels = NoiseLevels(VE(0.05, 5), LogNormalLevels(std=2.0), interval=(0.5, 0.8))
    t = levels.times(COUNT, like=LIKE, generator=torch.Generator().manual_seed(0))
    weights = levels.importance(t)
    assert float(weights.mean()) == pytest.approx(1, rel=3e-3)
    assert float((weights * t.square()).mean()) == pytest.approx((0.8**3 - 0.5**3) / 0.9, rel=3e-3)


def test_a_mixture_keeps_its_share_of_low_noise() -> None:
    """Shares of W below .05, .05 to .5, .5 to 5 and above, as the sheet gives them for the dimension's mixture."""
    _, u = levels_of(MixtureLevels(share=0.5, low=0.004, high=1.0))
    edges = torch.tensor([0.05, 0.5, 5.0], dtype=F64).log()
    shares = torch.bincount(torch.bucketize(u, edges), minlength=4) / COUNT
    torch.testing.assert_close(shares, torch.tensor([0.238, 0.418, 0.324, 0.019]), atol=2e-3, rtol=0)


def test_levels_are_those_of_their_generator() -> None:
    for config in (TimeLevels(), LogNormalLevels(), MixtureLevels()):
        first, again, other = (levels_of(config, seed=seed, count=8)[0] for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


# w c_out^2, what a preconditioned network feels, at sigma / s = .01, .1, 1, 10.
FELT = [
    ("edm", [1, 1, 1, 1]),
    ("simple", [0.9999, 0.9901, 0.5, 0.0099]),
    ("flow", [1.02, 1.198, 2, 1.198]),
    ("min-snr", [0.0005, 0.0495, 0.5, 0.0099]),
    ("soft-min-snr", [0.0004, 0.0381, 0.4, 0.0099]),
    ("p2", [0.0100, 0.0985, 0.3536, 0.0099]),
]


@pytest.mark.parametrize(("name", "felt"), FELT, ids=[name for name, _ in FELT])
def test_weightings_are_those_of_the_table(name: Any, felt: list[float]) -> None:
    ratio = torch.tensor([0.01, 0.1, 1.0, 10.0], dtype=F64)
    found = noise_weight(WeightingConfig(name=name), ratio) / (1 + ratio**2)
    torch.testing.assert_close(found, torch.tensor(felt, dtype=F64), atol=6e-5, rtol=1e-3)


def test_losses_with_an_uncertainty_are_divided_by_its_exponential_and_pay_for_it() -> None:
    """losses e^-v + v, with v a function of log(scale / signal): here v = u / 2."""
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    losses = torch.arange(1, 6, dtype=torch.float64)
    levels = NoiseLevels(IsotropicProcess(GeometricVE(0.01, 100.0)), MixtureLevels())
    found = levels.reweigh(losses, t, WeightingConfig(name="uncertainty"), lambda u: u / 2)
    v = (0.01 * 10 ** (4 * t)).log() / 2
    torch.testing.assert_close(found, losses / v.exp() + v)


def test_uncertainty_is_edm_over_the_loss_expected_at_a_level(generator: torch.Generator) -> None:
    """With losses of expectation e^(u / 2) and gamma noise, v(u) is u / 2, and every level has the loss 1 + u / 2."""
    levels = NoiseLevels(WIDE, LogNormalLevels())
    weighting = WeightingConfig(name="uncertainty")
    v = LossUncertainty().double()
    optimiser = torch.optim.Adam(v.parameters(), lr=0.02)
    averaged = torch.optim.swa_utils.AveragedModel(v)
    for step in range(600):
        t = levels.times(256, like=LIKE, generator=generator)
        u = WIDE.noise_to_signal(t).log()
        noise = torch.randn(256, 4, generator=generator, dtype=F64).square().mean(1)
        losses = (u / 2).exp() * noise
        trained = levels.reweigh(losses, t, weighting, v)
        if step == 0:
            torch.testing.assert_close(trained, losses)
        optimiser.zero_grad()
        trained.mean().backward()
        optimiser.step()
        if step >= 300:
            averaged.update_parameters(v)
    u = torch.linspace(-2.5, 1.5, 9, dtype=F64)
    torch.testing.assert_close(averaged(u), u / 2, atol=0.08, rtol=0)
    ratio = torch.logspace(-2, 1, 4, dtype=F64)
    torch.testing.assert_close(noise_weight(weighting, ratio), 1 + ratio**2)


def test_soft_min_snr_is_the_sigmoid_of_the_log_snr() -> None:
    ratio = torch.logspace(-2, 2, 9, dtype=F64)
    found = noise_weight(WeightingConfig(name="soft-min-snr", gamma=math.e**2), ratio)
    torch.testing.assert_close(found, torch.sigmoid(2 + 2 * ratio.log()))


def test_levels_that_the_process_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"noise levels from 100 to inf times .*; the process has 0\.01 to 50"):
        levels_of(LogUniformLevels(low=100), VE(0.01, 50))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"noise_levels": "log-normal"}, "does not match any of the expected tags"),
        ({"noise_levels": {"name": "lognormal", "std": 0}}, "greater than 0"),
        ({"noise_levels": {"name": "mixture", "low": 2, "high": 1}}, "expected low below high"),
        ({"noise_levels": {"name": "mixture", "share": 1}}, "less than 1"),
        ({"weighting": "snr"}, "'edm', 'simple'"),
        ({"weighting": {"name": "edm", "gamma": 5}}, "gamma means nothing for edm"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DenoisingLossConfig.model_validate(given)


def test_levels_not_named_follow_the_weighting() -> None:
    assert DenoisingLossConfig().levels == MixtureLevels(share=0.25)
    assert DenoisingLossConfig(weighting="uncertainty").levels == MixtureLevels(share=0.25)  # type: ignore[arg-type]
    assert DenoisingLossConfig(weighting="simple").levels == TimeLevels()  # type: ignore[arg-type]
    named = TypeAdapter(LevelsConfig).validate_python("cosine")
    assert DenoisingLossConfig(noise_levels=named, weighting="simple").levels == CosineLevels()  # type: ignore[arg-type]


def test_a_small_training_by_default_sees_the_noise_where_sampling_starts() -> None:
    """A batch of 64 has 4 or 5 levels above 10 deviations; log-normal levels alone would give 1 in two batches."""
    levels = NoiseLevels(VE(0.004, 160.0), DenoisingLossConfig().levels)
    times = levels.times(64, like=torch.zeros(1), generator=torch.Generator().manual_seed(0))
    above = int((0.004 * 40_000**times > 10).sum())
    assert above in (4, 5)
    plain = NoiseLevels(VE(0.004, 160.0), LogNormalLevels())
    times = plain.times(64, like=torch.zeros(1), generator=torch.Generator().manual_seed(0))
    assert int((0.004 * 40_000**times > 10).sum()) <= 1


SCHEDULES = (GeometricVE(0.01, 50.0), LinearVP(), LinearSubVP(), EDM(), Cosine(), LinearLogSNR(), Rectified(2.5))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_the_closed_form_is_what_bisection_finds(schedule: Any) -> None:
    process = IsotropicProcess(schedule)
    levels = NoiseLevels(process, LogNormalLevels(), spread=2.5)
    by_bisection = NoiseLevels(process, LogNormalLevels(), level=levels._levels)
    first, second = (
        each.times(1000, like=LIKE, generator=torch.Generator().manual_seed(0)) for each in (levels, by_bisection)
    )
    assert torch.allclose(first, second, rtol=0, atol=1e-9)
    assert len(first.unique()) > 900
