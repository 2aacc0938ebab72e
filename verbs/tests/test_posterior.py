"""TARP and LC2ST on a linear Gaussian model, whose posterior is exact: right draws pass, wrong ones do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from scorefold.data import TensorSpec
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.stage import showing
from scorefold_toolkit.metrics import tarp, uniformity
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Units
from scorefold_verbs.config import LC2STConfig, TARPConfig
from scorefold_verbs.posterior import LC2ST, TARP, local_statistics

UNITS = Units(low=-1.0, high=1.0)
SPEC = TensorSpec((2,))


def problem(kind: str, seed: int, count: int = 400, n: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Draws (n, C, 2), truths x ~ N(0, I) (C, 2) and conditions y = x + N(0, 1/4): the posterior is N(0.8 y, 0.2)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = normal(count, 2)
    y = x + 0.5 * normal(count, 2)
    mean, std, z = 0.8 * y, 0.2**0.5, normal(n, count, 2)
    if kind == "narrow":
        std *= 0.7
    elif kind == "wide":
        std *= 1.4
    elif kind == "biased":
        mean = mean + 0.25
    elif kind == "prior":
        return z, x, y
    elif kind == "joined":  # right in each coordinate, wrong together
        z = torch.stack([z[..., 0], 0.8 * z[..., 0] + 0.6 * z[..., 1]], -1)
    return mean + std * z, x, y


def measured(measure: Measure, kind: str, seed: int, count: int = 400) -> Measure:
    draws, truth, condition = problem(kind, seed, count)
    for rows in torch.arange(count).split(150):
        measure.add(EvaluationBatch(truth[rows], draws[:, rows], condition[rows]))
    return measure


def likely(hits: int, tries: int, chance: float) -> bool:
    """Return True where so many hits have a chance above 1e-6."""
    low, high = binom.interval(1 - 1e-6, tries, chance)
    return bool(low <= hits <= high)


def tarp_measure(seed: int = 0) -> Measure:
    return TARP(TARPConfig(seed=seed)).start(UNITS, (2,), SPEC)


def test_tarp_alarms_for_exact_draws_as_often_as_it_says() -> None:
    values = torch.tensor(
        [
            uniformity(tarp(*problem("exact", seed)[:2], torch.Generator().manual_seed(10**6 + seed)))[1]
            for seed in range(300)
        ]
    )
    for level in (0.05, 0.2, 0.5):
        assert likely(int((values <= level).sum()), 300, level), level
    least = [measured(tarp_measure(seed), "exact", seed).metrics()["TARP p-value"] <= 0.05 for seed in range(100)]
    assert sum(least) <= binom.isf(1e-6, 100, 0.05)


@pytest.mark.parametrize(
    ("kind", "power"), [("narrow", 1.0), ("wide", 1.0), ("prior", 1.0), ("biased", 0.7), ("joined", 0.7)]
)
def test_tarp_finds_draws_that_are_wrong(kind: str, power: float) -> None:
    found = [measured(tarp_measure(7), kind, seed).metrics() for seed in range(10)]
    assert sum(one["TARP p-value"] < 0.05 for one in found) >= 10 * power


def test_tarp_warns_and_gives_the_places() -> None:
    measure = measured(tarp_measure(), "narrow", 0)
    places = measure.arrays()["TARP places"].T
    assert places.shape == (8, 400)
    assert 0 < float(places.min()) <= float(places.max()) < 1
    (warning,) = measure.warnings()
    assert "by TARP the draws are not from the posterior" in warning
    gap = measure.metrics()["TARP, largest gap of the expected coverage"]
    level = torch.linspace(0, 1, 1001, dtype=torch.float64)
    coverage = (places[..., None] <= level).double().mean(1)
    values = [uniformity(row)[1] for row in places]
    assert gap == pytest.approx(float((coverage - level).abs().amax(1)[values.index(min(values))]), abs=5e-3)
    assert measure.metrics()["TARP p-value"] == pytest.approx(8 * min(values))
    assert measured(tarp_measure(), "exact", 0).warnings() == []


def test_tarp_without_a_condition_takes_the_prior_for_the_posterior() -> None:
    """The prior is right on the mean over conditions, and only points that follow the condition see it."""
    measure = TARP(TARPConfig()).start(UNITS, (2,), None)
    draws, truth, _ = problem("prior", 0)
    measure.add(EvaluationBatch(truth, draws))
    assert measure.metrics()["TARP p-value"] > 1e-6


def test_tarp_refuses_what_does_not_fit() -> None:
    generator = torch.Generator()
    with pytest.raises(ShapeError, match=r"expected \(n, C, \*E\)"):
        tarp(torch.zeros(3, 4, 2), torch.zeros(5, 2), generator)
    with pytest.raises(DataError, match="at least 8"):
        measured(tarp_measure(), "exact", 0, 7).metrics()


def lc2st(**settings: Any) -> Measure:
    return LC2ST(LC2STConfig(**{"exchanges": 19, **settings})).start(UNITS, (2,), SPEC)


def test_lc2st_alarms_for_exact_draws_as_often_as_it_says() -> None:
    """Truth and draw are exchangeable then, so that the p-value of 19 exchanges is 1/20, ..., 1 with equal chances."""
    found = [measured(lc2st(seed=seed), "exact", seed, 100) for seed in range(60)]
    values = torch.tensor([one.metrics()["LC2ST p-value"] for one in found])
    for level in (0.05, 0.25, 0.5):
        assert likely(int((values <= level + 1e-9).sum()), 60, level), level
    local = torch.cat([one.arrays()["LC2ST p-values"] for one in found])
    assert local.isnan().reshape(60, 100).sum(1).tolist() == [50] * 60
    local = local[local.isfinite()]
    assert float((local <= 0.05 + 1e-9).double().mean()) == pytest.approx(0.05, abs=0.05)


def test_the_statistic_of_lc2st_is_the_mean_square_over_the_draws_of_a_condition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a classifier that looks at one number of the event and one of the condition, in the units of its half."""
    draws, truth, condition = problem("biased", 0, 40, 10)
    condition, learned = 3 + 5 * condition, []

    def classified(x: Tensor, asked: Tensor, config: LC2STConfig) -> Tensor:
        learned.append(x)
        return (asked[:, 0] + asked[:, 3]).sigmoid()

    monkeypatch.setattr("scorefold_verbs.posterior._classified", classified)
    found, null = local_statistics(draws, truth, condition, LC2STConfig(exchanges=19))
    pairs = torch.cat([torch.cat([truth[:20], draws[0, :20]]), condition[:20].repeat(2, 1)], 1)
    mean, std = pairs.mean(0), pairs.std(0)
    asked = (torch.cat([draws[:, 20:], condition[20:].expand(10, -1, -1)], 2) - mean) / std
    expected = ((asked[..., 0] + asked[..., 3]).sigmoid() - 0.5).square().mean(0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(null, expected.expand(19, -1))
    first, second = ((pairs - mean) / std).chunk(2)
    torch.testing.assert_close(learned[0], torch.cat([first, second]))
    ones, others = torch.stack(learned[1:]).chunk(2, 1)
    kept = torch.isclose(ones, first).all(2, keepdim=True)
    torch.testing.assert_close(ones, torch.where(kept, first, second))
    torch.testing.assert_close(others, torch.where(kept, second, first))
    assert likely(int(kept.sum()), 19 * 20, 0.5)


@pytest.mark.parametrize("kind", ["narrow", "wide", "biased", "joined", "prior"])
def test_lc2st_finds_draws_that_are_wrong(kind: str) -> None:
    found = [measured(lc2st(), kind, seed, 1000).metrics() for seed in range(3)]
    assert sum(one["LC2ST p-value"] <= 0.05 for one in found) >= 2
    assert all(one["LC2ST conditions"] == 500 for one in found)


def test_lc2st_names_the_conditions_at_which_draws_are_wrong() -> None:
    """The draws are off by a multiple of the condition's first number, so they are right where that is near 0."""
    draws, truth, condition = problem("exact", 3, 1000)
    measure = lc2st(exchanges=39)
    measure.add(EvaluationBatch(truth, draws + 0.4 * condition[:, :1], condition))
    values, off = measure.arrays()["LC2ST p-values"], condition[:, 0].abs()
    assert values.shape == (1000,)
    values, off = values[values.isfinite()], off[values.isfinite()]
    shares = [float((values[at] <= 0.05).double().mean()) for at in (off > 1, off < 0.2)]
    assert shares[0] > 0.9
    assert shares[1] < 0.75
    (warning,) = measure.warnings()
    assert "p = 0.025 of at least 0.025" in warning


def test_lc2st_reads_sorted_conditions_as_others() -> None:
    """Draws are off where the condition is positive: sorted conditions are learned from at both signs too."""
    draws, truth, condition = problem("exact", 3, 400)
    draws = draws + (condition[:, :1] > 0)
    for order in (torch.arange(400), condition[:, 0].argsort(), condition[:, 0].argsort(descending=True)):
        measure = lc2st()
        measure.add(EvaluationBatch(truth[order], draws[:, order], condition[order]))
        assert measure.metrics()["LC2ST p-value"] == 0.05


def test_lc2st_by_a_network() -> None:
    measure = measured(lc2st(classifier="mlp", width=16, iterations=60), "biased", 0, 200)
    shown: list[tuple[int, int, str]] = []
    with showing(lambda *said: shown.append(said)):
        assert measure.metrics()["LC2ST p-value"] == pytest.approx(0.05)
    assert shown[-1] == (19, 19, "exchanges of LC2ST")


def test_lc2st_refuses_what_it_can_not_test() -> None:
    with pytest.raises(ConfigError, match="this model takes none"):
        LC2ST(LC2STConfig()).start(UNITS, (2,), None)
    with pytest.raises(ConfigError, match="have 6146 numbers; LC2ST takes 4096"):
        LC2ST(LC2STConfig()).start(UNITS, (3, 32, 64), SPEC)
    with pytest.raises(DataError, match="got 10; at least 16 are needed"):
        measured(lc2st(), "exact", 0, 10).metrics()


def test_classes_of_a_condition_count_as_codes() -> None:
    measure = LC2ST(LC2STConfig(exchanges=19)).start(UNITS, (2,), TensorSpec((), classes=3))
    draws, truth, _ = problem("exact", 0, 60)
    measure.add(EvaluationBatch(truth, draws, torch.arange(60) % 3))
    assert 0.05 <= measure.metrics()["LC2ST p-value"] <= 1
