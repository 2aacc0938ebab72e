"""The formulas of membership, quality, odd points and verdicts by hand, on normal distributions and tiny sets."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from torch import Tensor

from scorefold.data import Condition, Dataset, EventScale
from scorefold.diffusion import VP
from scorefold.errors import DataError
from scorefold.interfaces import ScoreModel
from scorefold_audit import sets, verdicts
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.nearest import Closeness, CopySearch, Near, Nearer, Rates
from scorefold_audit.copying.spaces import Copying, Overlap
from scorefold_audit.membership import measures
from scorefold_audit.membership.losses import (
    Gap,
    Membership,
    denoising_losses,
    likelihood_gap,
    membership,
    proximal_errors,
    step_errors,
    time_at,
)
from scorefold_audit.membership.measures import Measuring, noise_of, share_below
from scorefold_audit.quality import comparison
from scorefold_audit.quality.comparison import Permuted, frechet, kernel_distance_test, neighbourhoods
from scorefold_audit.quality.measures import cosine_distance, memorisation_informed, relative_vendi, vendi
from scorefold_audit.report import AuditReport
from scorefold_audit.sets import Sets
from scorefold_audit.unusual import (
    atypical,
    atypical_set,
    combined_p_values,
    high,
    low,
    training_lists,
    unlikely_or_flat,
)
from scorefold_toolkit.metrics.distances import neighbour_measures

Z_80 = 0.8416212


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=gen(seed), dtype=torch.float64)


# Membership.


class Standard(ScoreModel):
    """N(0, I), whose noised score is -x at every time of a process that keeps the variance."""

    def __init__(self) -> None:
        super().__init__(VP(), (3,))

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        return -x


MODEL, X = Standard(), normal(5, 3)


def coefficients(t: Tensor) -> tuple[float, float]:
    signal, scale = MODEL.process.coefficients(X[:1], t)
    return float(signal), float(scale)


def test_the_loss_of_a_normal_distribution() -> None:
    """eps-hat = b (a x + b eps), so eps - eps-hat = a (a eps - b x), squared and in the mean over coordinates."""
    t = torch.tensor([0.3], dtype=torch.float64)
    a, b = coefficients(t)
    found = denoising_losses(MODEL, Dataset(X), t, 4, 2, 7)
    noises = torch.randn(4, 3, generator=gen(7)).double()
    expected = (a**2 * (a * noises[:, None] - b * X).square()).mean((0, 2))
    assert found == pytest.approx(expected.numpy())


def test_the_attack_without_noise_of_a_normal_distribution() -> None:
    """eps(x, 0) = b_0 x stands in for the noise: the error is the error of eps(a x + b b_0 x, t) = b (a + b b_0) x."""
    t = torch.tensor([0.3], dtype=torch.float64)
    a, b = coefficients(t)
    _, first = coefficients(torch.tensor([MODEL.process.t_min], dtype=torch.float64))
    expected = ((first - b * (a + b * first)) ** 4 * X.pow(4)).sum(1)
    assert proximal_errors(MODEL, Dataset(X), t, 2, 0) == pytest.approx(expected.numpy())


def test_steps_without_noise_turn_a_normal_distribution() -> None:
    """With a = cos u and b = sin u a step from u to v takes x to x cos(v - u). Of ten steps and one more, there and
    back, the last loses sin^2 of its angle."""
    t = torch.tensor([0.3], dtype=torch.float64)
    low = MODEL.process.t_min
    times = [low + (0.3 - low) * step / 10 for step in range(12)]
    angles = [math.atan2(*reversed(coefficients(torch.tensor([time], dtype=torch.float64)))) for time in times]
    steps = np.diff(angles)
    lost = np.cos(steps[:-1]).prod() * math.sin(steps[-1]) ** 2
    expected = X.square().sum(1) * lost**2
    assert step_errors(MODEL, Dataset(X), t, 2, 0) == pytest.approx(expected.numpy(), rel=1e-6)
    # At the end of the process nothing is farther, and nothing is lost.
    end = torch.tensor([MODEL.process.t_max], dtype=torch.float64)
    assert step_errors(MODEL, Dataset(X), end, 2, 0) == pytest.approx(np.zeros(5), abs=1e-20)


@pytest.mark.parametrize("noise", [0.05, 1.0, 7.0])
def test_the_time_of_a_noise_has_this_ratio_to_the_signal(noise: float) -> None:
    a, b = coefficients(time_at(MODEL, noise, X))
    assert b / a == pytest.approx(noise, rel=1e-9)


def test_a_time_beyond_the_process_is_its_end() -> None:
    assert float(time_at(MODEL, 1e-9, X)) == pytest.approx(MODEL.process.t_min)
    assert float(time_at(MODEL, 1e9, X)) == pytest.approx(MODEL.process.t_max)


def test_training_points_are_found_below_all_but_one_in_a_hundred_held_out_points() -> None:
    """Of losses 0 to 199 two are a hundredth, so the bound is 2, and 2 itself is not below."""
    held_out = np.random.default_rng(0).permutation(200).astype(float)
    training = np.array([0.5, 1.5, 1.9, 2.0] + [3.0] * 16)
    found = membership(training, held_out)
    assert found.found == 3 / 20
    # Below in 199, 198, 198, 197.5 and 16 x 196.5 of 200 pairs each.
    assert found.apart.area == pytest.approx((199 + 198 + 198 + 197.5 + 16 * 196.5) / (20 * 200))
    assert membership(training, held_out[:100]).found is not None
    assert membership(training, held_out[:99]).found is None
    assert membership(training, held_out[:20]).found is None
    for sizes in ((19, 20), (20, 19)):
        with pytest.raises(DataError, match="at least 20"):
            membership(*(np.zeros(size) for size in sizes))


def test_the_gap_of_likelihoods_is_welchs_test() -> None:
    x, y = np.linspace(1, 4, 25), np.linspace(0, 1, 40) ** 2
    found = likelihood_gap(x, y)
    parts = x.var(ddof=1) / 25, y.var(ddof=1) / 40
    error, freedom = math.sqrt(sum(parts)), sum(parts) ** 2 / (parts[0] ** 2 / 24 + parts[1] ** 2 / 39)
    difference = x.mean() - y.mean()
    margin = float(student.ppf(0.975, freedom)) * error
    assert (found.training, found.held_out) == (pytest.approx(x.mean()), pytest.approx(y.mean()))
    assert found.difference == pytest.approx(difference)
    assert found.interval == pytest.approx((difference - margin, difference + margin))
    assert found.p == pytest.approx(float(student.sf(difference / error, freedom)))
    assert likelihood_gap(y, x).p == pytest.approx(1 - found.p)
    with pytest.raises(DataError, match="from 20 of each on; 19 and 40"):
        likelihood_gap(x[:19], y)


@pytest.mark.parametrize(
    ("distance", "ratio", "share"),
    [
        (0.8, 0.5 ** (1 / 4), 0.8 / 2 / 2),  # over the spread, and the root of the dimension
        (0.8, 0.5**2, 0.8 / 2),  # of one dimension at least
        (9.0, 0.5, 0.5),
        (1e-9, 0.5, 1e-3),
    ],
)
def test_the_noise_of_losses_is_how_far_held_out_points_are_in_deviations(
    distance: float, ratio: float, share: float
) -> None:
    """Points of the model have the deviation sqrt((4 + 16) / 2), and of the space 2."""
    points = Dataset(torch.tensor([[2.0, 4.0], [-2.0, -4.0]]))
    near = Near(np.array([distance, distance, 50.0]), np.zeros(3, dtype=int), np.array([ratio, ratio, 1.0]))
    space: Any = SimpleNamespace(spread=2.0)
    assert noise_of(points, space, near) == pytest.approx(share * math.sqrt(10))
    same = Dataset(torch.ones(4, 2))
    assert noise_of(same, space, near) == pytest.approx(share)


def test_samples_are_of_a_lower_dimension_by_a_tenth_of_one() -> None:
    """An exact score gives 2 everywhere but for rounding: nothing is then below. A copier's samples have 0."""
    held_out = 2 + 1e-9 * np.random.default_rng(0).normal(size=400)
    assert share_below(held_out - 1e-6, held_out) == 0
    assert share_below(np.full(30, 0.01), held_out) == 1
    assert share_below(np.array([1.89, 1.91]), held_out) == 0.5
    # Where dimensions scatter, one in a hundred of a right model's samples is below.
    rng = np.random.default_rng(1)
    assert share_below(rng.normal(50, 5, 100_000), rng.normal(50, 5, 100_000)) == pytest.approx(0.0095, abs=0.002)


@pytest.mark.parametrize("dimension_noise", [None, 0.3])
def test_local_dimensions_of_a_normal_distribution_at_a_tenth_of_the_noise(dimension_noise: float | None) -> None:
    """D - D s^2 / (1 + s^2) + s^2 |x|^2 / (1 + s^2)^2 at noise s."""
    options = AuditOptions(dimension_noise=dimension_noise, dimension_points=3)
    parts = [Dataset(part) for part in (X, 2 * X, 3 * X)]
    report = AuditReport()
    measures._dimensions(report, Measuring(MODEL, parts[0], parts[1], parts[2], options, 0), 0.5)
    s = dimension_noise or 0.05
    assert report.metrics["noise of the local dimension"] == pytest.approx(s, rel=1e-6)
    for name, factor in (("training points", 1), ("held-out points", 2), ("samples", 3)):
        squares = (factor * X[:3]).square().sum(1)
        expected = 3 - 3 * s**2 / (1 + s**2) + s**2 * squares / (1 + s**2) ** 2
        found = report.metrics[f"local dimension of {name} (median)"]
        assert found == pytest.approx(float(expected.median()), abs=1e-6)


# Quality.


def test_a_number_stands_among_its_permutations() -> None:
    found = Permuted.of(3.0, torch.tensor([1.0, 2.0, 3.0 + 1e-13, 6.0], dtype=torch.float64))
    assert (found.p_low, found.p_high, found.least_p) == (4 / 5, 3 / 5, 1 / 5)
    assert found.mean == pytest.approx(3)
    assert found.deviation == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3))
    # Rounding is a share of the value.
    large = Permuted.of(1e6, torch.tensor([1e6 + 1e-7, 1e6 - 1e-7], dtype=torch.float64))
    assert (large.p_low, large.p_high) == (1, 1)


def test_neighbourhoods_of_many_points_and_of_duplicates() -> None:
    """More than the 64 nearest neighbours, and points that repeat more often than that."""
    x, y = normal(100, 2), 1.2 * normal(90, 2, seed=1)
    x[:80] = x[0]
    found = neighbourhoods(x, y, 99, gen())
    expected = neighbour_measures(torch.cdist(x, y), torch.cdist(y, y), torch.cdist(x, x))
    assert {name: permuted.value for name, permuted in found.items()} == pytest.approx(expected)
    with pytest.raises(DataError, match="at least 20"):
        neighbourhoods(x, y[:19], 99, gen())


def test_the_kernel_distance_compares_within_conditions() -> None:
    """Pair by pair, with (x.y / D + 1)^3, and 0 between points of different conditions."""
    x, y = normal(20, 2), normal(25, 2, seed=1) + 1
    groups = torch.arange(20) % 3, torch.arange(25) % 2
    kernels = []
    for a, of_a, b, of_b in ((x, 0, x, 0), (y, 1, y, 1), (x, 0, y, 1)):
        total = 0.0
        for i, j in np.ndindex(len(a), len(b)):
            if groups[of_a][i] == groups[of_b][j] and not (of_a == of_b and i == j):
                total += (float(a[i] @ b[j]) / 2 + 1) ** 3
        kernels.append(total / (len(a) * (len(b) - (of_a == of_b))))
    found = kernel_distance_test(x, y, 99, gen(), groups)
    assert found.value == pytest.approx(kernels[0] + kernels[1] - 2 * kernels[2])
    assert found.least_p == 1 / 100


@pytest.mark.parametrize(("count", "features", "least"), [(80, 3, 20), (60, 20, 22), (45, 2, 11), (24, 2, 10)])
def test_the_limit_of_the_frechet_distance_is_where_its_line_meets_the_axis(
    count: int, features: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distances 3 + 40 / N of N samples are 3 for ever more of them."""
    sizes: list[int] = []

    def distance(samples: Tensor, held_out: Tensor) -> float:
        sizes.append(len(samples))
        return 3 + 40 / len(samples)

    monkeypatch.setattr(comparison, "frechet_distance", distance)
    samples, training = normal(count, features), normal(count + 10, features)
    found = frechet(samples, samples, training, gen())
    assert found.value == pytest.approx(3 + 40 / count)
    assert found.training == pytest.approx(3 + 40 / count)  # of as many training points
    assert found.limit == pytest.approx(3)
    assert found.points == count
    assert (min(sizes), max(sizes)) == (least, count)
    assert len(sizes) == 1 + 15 * 5 + 1
    few = frechet(samples[: features + 2], samples, training[:features], gen())
    assert (few.training, few.limit) == (None, None)
    with pytest.raises(DataError, match=f"at least {features + 2}"):
        frechet(samples[: features + 1], samples, training, gen())


def test_the_vendi_score_of_two_points() -> None:
    """K / 2 has the eigenvalues (1 +- k) / 2 with k = exp(-r^2 / 2 width^2), here exp(-1/2)."""
    k = math.exp(-0.5)
    entropy = -sum(value * math.log(value) for value in ((1 + k) / 2, (1 - k) / 2))
    assert vendi(torch.tensor([[0.0, 0.0], [6.0, 8.0]]), 10.0) == pytest.approx(math.exp(entropy))
    # The held-out points' median distance is the width.
    held_out = torch.tensor([[0.0], [10.0], [11.0]])
    samples = torch.tensor([[0.0], [4.0], [40.0]])
    expected = vendi(samples, 10.0) / vendi(held_out, 10.0)
    assert relative_vendi(samples, held_out) == pytest.approx(expected)
    assert relative_vendi(held_out, torch.ones(3, 1)) == pytest.approx(vendi(held_out, 1.0))


def test_cosine_distances_are_to_the_nearest_direction() -> None:
    training = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    samples = torch.tensor([[3.0, 4.0], [-1.0, 0.0], [2.0, 2.0]])
    expected = (0.2 + 0.0 + (1 - math.sqrt(0.5))) / 3
    assert cosine_distance(samples, training) == pytest.approx(expected)
    assert memorisation_informed(6.0, samples, training) == pytest.approx(6.0)  # 0.16 is no copying
    near = torch.tensor([[1.0, 0.4]])
    apart = 1 - 1 / math.sqrt(1.16)
    assert apart < 0.1
    assert memorisation_informed(6.0, near, training) == pytest.approx(6 / apart)
    assert memorisation_informed(6.0, training[:1], training) == math.inf


# Odd points.


def test_p_values_of_large_small_and_untypical_values() -> None:
    held_out = np.array([1.0, 2.0, 2.0, 5.0])
    values = np.array([0.0, 2.0, 5.0, 6.0])
    assert high(values, held_out).tolist() == pytest.approx([1, 4 / 5, 2 / 5, 1 / 5])
    assert low(values, held_out).tolist() == pytest.approx([1 / 5, 4 / 5, 1, 1])
    # The entropy is -2.5: held-out points are 1.5, 0.5, 0.5 and 2.5 from it.
    assert atypical(np.array([2.5, 1.0, 4.5, 9.0]), held_out).tolist() == pytest.approx([1, 3 / 5, 2 / 5, 1 / 5])
    assert unlikely_or_flat(np.array([0.4, 0.9]), np.array([0.1, 0.8])).tolist() == [0.2, 1.0]


def test_a_set_is_as_untypical_as_sets_of_held_out_points_are_seldom() -> None:
    """Two held-out values, 0 and 2: the mean of two of them is 1 from the entropy half of the time, else 0."""
    held_out = np.array([0.0, 2.0])
    error = 5 * math.sqrt(0.25 / 2000)
    assert atypical_set(np.array([2.0, 2.0]), held_out, 0) == pytest.approx(0.5, abs=error)
    assert atypical_set(np.array([0.5, 1.5]), held_out, 0) == 1
    assert atypical_set(np.array([2.1, 2.1]), held_out, 0) == 1 / 2001


def test_points_are_judged_over_all_tests_at_once() -> None:
    p = {"far": np.array([0.004, 0.6, 0.3]), "rare": np.array([0.3, 0.035, 0.4])}
    found = combined_p_values(p, 0.11)
    assert found.p.tolist() == pytest.approx([0.008, 0.07, 0.6])  # twice the smaller one
    assert found.why == ["far", "rare", "far"]
    assert found.unlike.tolist() == [0, 1]  # 0.07 is below 2 / 3 of 0.11
    assert combined_p_values(p, 0.1).unlike.tolist() == [0]
    assert combined_p_values({"far": np.array([0.9])}, 0.1).p.tolist() == [0.9]
    assert combined_p_values({"far": np.array([0.9]), "rare": np.array([0.6])}, 0.1).p.tolist() == [1.0]


def test_training_points_are_held_to_the_tenth_nearest_distance_of_held_out_points() -> None:
    """Points at whole numbers have their tenth nearest other at 5, those at the ends at 10, and a point apart at 35."""
    points = np.array([*range(40), 64], dtype=np.float32)[:, None]
    search = CopySearch(points)
    own = np.array([1.0] * 40 + [25.0])
    overlap = Overlap(np.zeros(9, dtype=bool), 0.0, np.arange(41), own, False)
    held_out = np.array([5.0] * 90 + [8.0] * 9)
    found = training_lists(search, overlap, held_out, 0.3, 3)
    assert [row["point"] for row in found["outliers"]] == [40, 0, 39]
    assert [row["distance"] for row in found["outliers"]] == [34.0, 10.0, 10.0]
    assert found["outliers"][0]["p"] == 1 / 100
    # The point apart and two at each end, with tenths at 9 and more, have 1 / 100, and the next ones 1 / 10.
    assert found["outliers_named"] == 5
    assert (found["searched"], found["near_duplicates"]) == (41, [])


def test_pairs_of_near_duplicates_are_the_nearest_first() -> None:
    points = np.array([0.0, 10.0, 10.2, 20.0, 20.1, *range(40, 60, 2)], dtype=np.float32)[:, None]
    search = CopySearch(points)
    own = search.own(np.arange(len(points)))
    # The farther pair is as far apart as near-duplicates may be.
    overlap = Overlap(np.zeros(9, dtype=bool), float(own[1]), np.arange(len(points)), own, False)
    found = training_lists(search, overlap, np.full(50, 9.0), 0.1, 50)["near_duplicates"]
    assert [row["points"] for row in found] == [[3, 4], [1, 2]]
    assert [row["distance"] for row in found] == pytest.approx([0.1, 0.2], rel=1e-4)


def test_points_that_are_equal_are_a_pair() -> None:
    points = np.array([0.0, 10.0, 10.0, *range(40, 60, 2)], dtype=np.float32)[:, None]
    search = CopySearch(points)
    own = search.own(np.arange(len(points)))
    overlap = Overlap(np.zeros(9, dtype=bool), 0.0, np.arange(len(points)), own, False)
    found = training_lists(search, overlap, np.full(50, 9.0), 0.1, 50)["near_duplicates"]
    assert found == [{"points": [1, 2], "distance": 0.0}]


# Verdicts.


def test_holm_holds_the_k_th_smallest_to_as_many_as_are_left() -> None:
    assert verdicts.holm([0.02, 0.001, 0.5, 0.02]) == pytest.approx([0.06, 0.004, 0.5, 0.06])
    assert verdicts.holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_smallest_effect_is_a_quantile_of_the_level_and_one_of_the_power() -> None:
    assert verdicts.shift(2.0)(0.025) == pytest.approx(2 * (1.959964 + Z_80), rel=1e-6)


@pytest.mark.parametrize("count", [20, 500])
def test_what_a_test_of_membership_would_have_found_is_over_the_noise_of_ranks(count: int) -> None:
    """Half, and 2.8 deviations sqrt((2 n + 1) / 12 n^2) at a level of 2.5 %; no more than all pairs."""
    found = verdicts.of_membership(Membership(Closeness(0.6, (0.5, 0.7), -2.0), 0.1), count)
    deviation = math.sqrt((2 * count + 1) / (12 * count**2))
    assert found.detectable(0.025) == pytest.approx(0.5 + (1.959964 + Z_80) * deviation, rel=1e-6)
    assert found.detectable(1e-30) == pytest.approx(min(1.0, 0.5 + (11.464 + Z_80) * deviation), rel=1e-3)
    assert (found.value, found.expected, found.interval) == (0.6, 0.5, (0.5, 0.7))
    assert found.p == pytest.approx(0.0227501, rel=1e-5)


def test_what_a_test_of_closeness_would_have_found_has_both_numbers_of_points() -> None:
    rates = Rates(9, 30, 2, 50)
    measured = Copying(
        "columns",
        Near(np.ones(1), np.zeros(1, dtype=int), np.array([0.1])),
        Near(np.ones(4), np.zeros(4, dtype=int), np.array([0.05, 0.3, 0.4, 0.5])),
        rates,
        np.ones(1),
        np.array([0]),
        Closeness(0.6, (0.5, 0.7), -2.0),
        None,
        rates,
        Nearer(0.5, 0.5, 0.5),
    )
    found = verdicts.of_closeness(measured)
    deviation = math.sqrt(81 / (12 * 30 * 50))
    assert found.detectable(0.025) == pytest.approx(0.5 + (1.959964 + Z_80) * deviation, rel=1e-6)
    assert (found.value, found.expected) == (0.6, 0.5)
    copies = verdicts.of_copies(measured)
    assert (copies.value, copies.expected, copies.p) == (rates.excess(), 0.0, rates.p_more())
    assert copies.found.startswith(
        "1 of 30 samples are listed as copies: each is closer to its nearest training point, relative to the second "
        "nearest, than 75% of held-out points are"
    )
    all_below = replace(measured, near_held_out=measured.near)
    assert "than 0% of held-out" in verdicts.of_copies(all_below).found
    far = replace(measured, near=Near(np.ones(1), np.zeros(1, dtype=int), np.array([0.01])))
    assert "relative to the second nearest, than any held-out point is" in verdicts.of_copies(far).found
    none = Rates(0, 30, 2, 50)  # fewer than held-out points: the interval reaches below 0, its sentence not
    low, high = none.interval()
    assert low < 0
    absent = verdicts.of_copies(replace(measured, rates=none))
    assert absent.interval == (low, high)
    assert absent.value < 0
    assert f"the share of samples is 0.0% (95% interval 0.0% to {high:.1%}" in absent.clear


def test_what_a_test_of_likelihoods_would_have_found_is_over_the_error_of_their_interval() -> None:
    found = verdicts.of_likelihoods(Gap(2.0, 1.0, 1.0, (0.02, 1.98), 0.01))
    assert found.detectable(0.025) == pytest.approx(0.5 * (1.959964 + Z_80), rel=1e-6)
    assert (found.value, found.expected, found.p) == (1.0, 0.0, 0.01)


def test_what_tests_of_quality_would_have_found_is_over_the_scatter_of_permutations() -> None:
    made = Permuted(0.7, 0.9, 0.05, 0.02, 0.99, 0.01)
    for found in (verdicts.of_precision(made, "s"), verdicts.of_recall(made, "s")):
        assert found.detectable(0.025) == pytest.approx(0.9 - 0.05 * (1.959964 + Z_80), rel=1e-6)
        assert found.detectable(0.0099) is None  # below the least p-value of so many permutations
        assert found.detectable(0.01) is not None
        assert (found.value, found.expected, found.p) == (0.7, 0.9, 0.02)
    kernel = verdicts.of_kernel(made, "s")
    assert kernel.detectable(0.025) == pytest.approx(0.05 * (1.959964 + Z_80), rel=1e-6)
    assert (kernel.detectable(0.0099), kernel.expected, kernel.p) == (None, 0.0, 0.99)
    assert kernel.detectable(0.01) is not None
    low_mean = verdicts.of_precision(Permuted(0.0, 0.1, 0.5, 0.5, 0.5, 0.01), "s")
    assert low_mean.detectable(0.025) == 0


def test_verdicts_are_corrected_and_say_what_would_have_been_found() -> None:
    def finding(name: str, p: float) -> verdicts.Finding:
        return verdicts.Finding(name, "", "effect", 1.0, 0.0, p, "yes", "no", "{:.3f}", lambda level: 10 * level)

    one, two, three = verdicts.judge([finding("a", 0.02), finding("b", 0.5), finding("c", 1e-6)], 0.06)
    assert (one["p_adjusted"], two["p_adjusted"], three["p_adjusted"]) == pytest.approx((0.04, 0.5, 3e-6))
    assert (one["found"], two["found"], three["found"]) == (True, False, True)
    assert two["smallest_found"] == pytest.approx(0.2)  # at a third of the level
    assert (one["text"], two["text"]) == ("yes (adjusted p = 0.04)", "no (adjusted p = 0.5); 0.200")
    assert three["text"] == "yes (adjusted p < 0.0001)"
    assert verdicts.judge([finding("a", 0.06)], 0.06)[0]["found"]


def test_facts_are_shares() -> None:
    overlap = Overlap(np.array([True, False, False, True]), 0.5, np.arange(5), np.array([0.1, 0.5, 1, 2, 3.0]), True)
    shared, twice = verdicts.overlap_facts(overlap)
    assert (shared["value"], shared["found"], shared["text"]) == (
        0.5,
        True,
        "2 of 4 held-out points are near-duplicates of training points",
    )
    assert twice["value"] == 0.4


# Sets.


def test_points_are_compared_within_conditions_from_twenty_training_points_each() -> None:
    for count, kept in ((60, True), (59, False)):
        training, others = (Dataset(torch.zeros(size, 1), (torch.arange(size) % 3)[:, None]) for size in (count, 12))
        found = sets.condition_groups(training, others, others)
        assert (found is not None) == kept
        if found is not None:
            assert [len(each) for each in found] == [60, 12, 12]
            assert found[1].tolist() == [0, 1, 2] * 4


@pytest.mark.parametrize(
    ("times", "refused"), [(9.9, False), (10.1, True), (0.11, False), (0.09, True), (0.0009, False)]
)
def test_units_are_others_from_ten_times_the_spread_on(times: float, refused: bool) -> None:
    """Points that are all but alike, below a thousandth of the spread, may be in any units."""
    training = normal(50, 3) + 7
    if refused:
        with pytest.raises(DataError, match=f"samples spread {times:.3g} times"):
            sets._check_units({"samples": times * training}, training)
    else:
        sets._check_units({"samples": times * training}, training)


def test_held_out_points_are_left_out_with_their_conditions() -> None:
    def some(count: int) -> Dataset:
        return Dataset(torch.arange(float(count))[:, None])

    groups = (np.arange(5), np.array([7, 8, 9]), np.arange(2))
    sets = Sets(some(5), some(3), some(2), some(0), EventScale(), groups)
    left = sets.without(torch.tensor([False, True, False]))
    assert left.held_out.x.flatten().tolist() == [0, 2]
    assert left.groups is not None
    assert left.groups[1].tolist() == [7, 9]
    assert left.groups[2].tolist() == [0, 1]
