"""Closed forms: what locally uniform data of a dimension give, ranks, intervals, corrections."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

from scorefold_audit.claims.controls import sphere_points
from scorefold_audit.copying.answers import answer_entries
from scorefold_audit.copying.nearest import (
    BY_CHANCE,
    CopyNeighbours,
    CopySearch,
    Near,
    Rates,
    authentic,
    closeness,
    dimension_of,
    duplicate_distance,
    fewest_named,
    named_copies,
    nearer_to_training,
    p_values,
    z_of,
)
from scorefold_audit.quality.comparison import Permuted, kernel_distance_test, neighbourhoods
from scorefold_audit.verdicts import holm, rank_deviation, shift
from scorefold_toolkit.metrics.distances import neighbour_measures


def uniform(count: int, dimension: int, seed: int) -> np.ndarray:
    """Points on a torus, unwrapped in as many numbers again: no borders."""
    angle = np.random.default_rng(seed).uniform(0, 2 * math.pi, (count, dimension))
    return np.concatenate([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def near(count: int, dimension: int, queries: int, seed: int = 0) -> tuple[CopySearch, Near]:
    search = CopySearch(uniform(count, dimension, seed))
    return search, Near.of(search, CopyNeighbours.of(search, uniform(queries, dimension, seed + 1)))


def test_the_first_sentence_of_an_audit_is_about_copies() -> None:
    """Whatever else was found, and whatever stands before it."""
    copies = {
        "name": "copies",
        "found": False,
        "value": 0.0,
        "interval": [0, 0.01],
        "where": "",
        "smallest_found": 0.02,
    }
    other = {"name": "misses-data", "found": True}
    said = answer_entries([other, copies], [])["verdict"]
    assert said.startswith("No sign of copying.")
    assert said.endswith("Also found: some data lie where there are no samples.")
    said = answer_entries([other, {**copies, "found": True}], [])["verdict"]
    assert said.startswith("This model copies its training data.")


@pytest.mark.parametrize(("dimension", "expected"), [(1, 1 / 3), (2, 1 / 9)])
def test_a_third_of_the_next_distance_is_as_rare_as_volume_says(dimension: int, expected: float) -> None:
    _, found = near(4000, dimension, 4000)
    assert (found.ratio < 1 / 3).mean() == pytest.approx(expected, abs=5 * math.sqrt(expected / 4000))
    assert dimension_of(found.ratio) == pytest.approx(dimension, rel=0.115)


@pytest.mark.parametrize(("dimension", "expected"), [(1, 33.33), (2, 37.85), (3, 40.74)])
def test_authentic_points_of_the_right_distribution_are_not_all(dimension: int, expected: float) -> None:
    rates = []
    for seed in range(0, 8, 2):
        search, found = near(3000, dimension, 3000, seed)
        rates.append(100 * authentic(search, found, found).sample_rate)
    # Over seeds a rate has a deviation of 1.2.
    assert np.mean(rates) == pytest.approx(expected, abs=5 * 1.2 / math.sqrt(4))


def test_near_duplicates_by_chance_are_as_many_as_said() -> None:
    search, found = near(20_000, 2, 20_000)
    own = search.own(np.arange(20_000))
    share = (own < 0.13 * np.median(own)).mean()
    assert share == pytest.approx(0.01165, abs=0.0055)
    assert (own < duplicate_distance(found.distance, found.ratio)).sum() <= 12


@pytest.mark.parametrize(("dimension", "share"), [(1, 1.44277e-4), (2, 0.0120115), (8, 0.13)])
def test_near_duplicates_are_nearer_than_one_in_ten_thousand_is_by_chance(dimension: int, share: float) -> None:
    """1 - 2^(-c^d) is 1 in 10,000 for d = 1 and 2; in 8 dimensions it is for c = 0.33, above 0.13."""
    found = duplicate_distance(np.array([1.0, 2.0, 50.0]), np.full(3, 2 ** (-1 / dimension)))
    assert found == pytest.approx(2 * share, rel=1e-4)


def test_the_least_z_of_500_and_500_and_the_deviation_of_ranks() -> None:
    assert z_of(np.zeros(500), np.arange(1.0, 501)) == pytest.approx(-27.3723, abs=1e-4)
    assert rank_deviation(500, 500) == pytest.approx(0.01827, abs=1e-5)
    same = closeness(np.arange(100.0), np.arange(100.0))
    assert same.area == 0.5
    assert same.interval[0] < 0.5 < same.interval[1]


def test_distances_of_copies_are_exact() -> None:
    points = 1000 + np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32)
    distances, index = CopySearch(points).nearest(points)
    assert (distances == 0).all()
    assert (index[:, 0] == np.arange(300)).all()


@pytest.mark.needs("faiss")
def test_faiss_finds_the_same_points(monkeypatch: pytest.MonkeyPatch) -> None:
    points, queries = (np.random.default_rng(seed).normal(size=(800, 20)).astype(np.float32) for seed in (0, 1))
    plain = CopySearch(points).nearest(queries, 10)
    monkeypatch.setattr("scorefold_audit.copying.nearest.LARGE", 100)
    distances, index = CopySearch(points).nearest(queries, 10)
    assert (index == plain[1]).all()
    assert (distances == plain[0]).all()


def test_a_duplicate_in_training_hides_no_copy() -> None:
    points = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    twice = np.concatenate([points, points[:1] + 1e-6])
    copy = points[:1] + 1e-3
    search = CopySearch(twice)
    plain, merged = (Near.of(search, CopyNeighbours.of(search, copy), apart) for apart in (0.0, 1e-4))
    assert plain.ratio[0] > 0.99
    assert merged.ratio[0] < 0.01


def test_the_share_nearer_to_training_has_the_variance_of_permuted_names() -> None:
    rng = np.random.default_rng(0)
    n, h, m = 60, 90, 200
    points = rng.normal(size=(n + h, 2)).astype(np.float32)
    samples = rng.normal(size=(m, 2)).astype(np.float32)
    nearest = CopySearch(points).nearest(samples)[1][:, 0]
    shares = []
    for _ in range(4000):
        names = rng.permutation(n + h) < n
        shares.append(names[nearest].mean())
    training = CopySearch(points[:n])
    distance, index = CopySearch(points[n:]).nearest(samples)
    found = nearer_to_training(
        Near.of(training, CopyNeighbours.of(training, samples)), distance[:, 0], index[:, 0], n, h
    )
    z = (found.share - np.mean(shares)) / np.std(shares)
    assert found.expected == 0.4 == pytest.approx(np.mean(shares), abs=0.01)
    assert found.p == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)), abs=0.02)


def test_rates_give_a_share_with_an_interval_and_what_would_have_been_found() -> None:
    rates = Rates(60, 500, 50, 500)
    assert rates.excess() == pytest.approx((0.12 - 0.1) / 0.9)
    low, high = rates.interval()
    assert low < 0 < rates.excess() < high
    clear = Rates(0, 500, 0, 500)
    smallest = clear.detectable(0.01)
    assert smallest is not None
    # 7 of 500 against none of 500 is the first count below 1 %: a share that gives 7 or more in 8 of 10 audits.
    assert Rates(7, 500, 0, 500).p_more() < 0.01 < Rates(6, 500, 0, 500).p_more()
    assert binom.sf(6, 500, smallest) == pytest.approx(0.8, abs=1e-6)
    assert clear.interval()[1] < 0.01
    assert Rates(2, 2, 0, 2).detectable(0.01) is None


def test_a_list_of_copies_is_calibrated_and_needs_held_out_points() -> None:
    assert fewest_named(500, 500, 0.1) == 10
    assert fewest_named(1000, 10_000, 0.1) == 1
    held_out = np.linspace(0.05, 1, 1000)
    p = p_values(np.concatenate([np.zeros(20), np.linspace(0.2, 1, 80)]), held_out)
    assert p[0] == pytest.approx(1 / 1001)
    assert set(named_copies(p, 0.1)) == set(range(20))


def test_holm_and_the_smallest_shift() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert shift(2.0)(0.05) == pytest.approx(2 * (1.6449 + 0.8416), abs=1e-3)


def test_precision_to_coverage_are_those_of_the_papers(generator: torch.Generator) -> None:
    x, y = torch.randn(150, 3, generator=generator).double(), 1.3 * torch.randn(130, 3, generator=generator).double()
    found = neighbourhoods(x, y, 99, generator)
    expected = neighbour_measures(torch.cdist(x, y), torch.cdist(y, y), torch.cdist(x, x))
    assert {name: permuted.value for name, permuted in found.items()} == pytest.approx(expected)


def test_quality_of_equal_distributions_is_as_expected(generator: torch.Generator) -> None:
    points = sphere_points(600, generator).double()
    found = neighbourhoods(points[:300], points[300:], 99, generator)
    # Density 1, and coverage 1 - prod_{i<k} (h - 1 - i) / (m + h - 1 - i), whatever the distribution.
    expected = 1 - math.prod((299 - i) / (599 - i) for i in range(5))
    assert found["density"].mean == pytest.approx(1, abs=0.01)
    assert found["coverage"].mean == pytest.approx(expected, abs=0.005)
    kernel = kernel_distance_test(points[:300], points[300:], 99, generator)
    assert kernel.mean == pytest.approx(0, abs=5 * kernel.deviation / math.sqrt(99))
    direct = _kernel_distance(points[:300], points[300:])
    assert kernel.value == pytest.approx(direct, rel=1e-6, abs=1e-12)


def _kernel_distance(x: torch.Tensor, y: torch.Tensor) -> float:
    def mean(a: torch.Tensor, b: torch.Tensor, own: bool) -> float:
        values = (a @ b.T / a.shape[1] + 1) ** 3
        total = values.sum() - (values.diagonal().sum() if own else 0)
        return float(total) / (len(a) * (len(b) - own))

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def test_the_interval_of_an_excess_is_the_published_one() -> None:
    """56 of 70 next to 48 of 80: 0.0524 to 0.3339 for the difference (Newcombe 1998, table II, method 10)."""
    low, high = Rates(56, 70, 48, 80).interval()
    # An excess is the difference over 1 - 48/80.
    assert 0.4 * low == pytest.approx(0.0524, abs=5e-5)
    assert 0.4 * high == pytest.approx(0.3339, abs=5e-5)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_chance_puts_one_point_in_ten_thousand_below_the_distance_of_duplicates(dimension: int) -> None:
    distance, ratio = np.full(9, 5.0), np.full(9, 0.5 ** (1 / dimension))
    share = duplicate_distance(distance, ratio) / 5
    assert 1 - 2 ** -(share**dimension) == pytest.approx(BY_CHANCE, rel=1e-6)


def test_chances_of_permutations_count_the_value_itself() -> None:
    among = Permuted.of(2.0, torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    assert (among.p_low, among.p_high, among.least_p) == (3 / 5, 4 / 5, 1 / 5)
    below = Permuted.of(0.0, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert (below.p_low, below.p_high) == (1 / 4, 1.0)
