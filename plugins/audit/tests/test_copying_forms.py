"""The formulas of copying by hand: rates and their tests, areas under curves, distances, lists, chances of names."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from scorefold.errors import DataError
from scorefold_audit.audit import raw_numbers
from scorefold_audit.copying import nearest, spaces
from scorefold_audit.copying.nearest import (
    CopyNeighbours,
    CopySearch,
    Near,
    Rates,
    area_interval,
    authentic,
    by_cells,
    closeness,
    dimension_of,
    duplicate_distance,
    fewest_named,
    named_copies,
    nearer_to_training,
    p_values,
    z_of,
)
from scorefold_audit.copying.spaces import Overlap, Space, features_with_conditions, overlap_of
from scorefold_audit.quality.comparison import cost, gap, likelihood_divergence, log_variances, standardised_sets
from scorefold_audit.verdicts import rank_deviation


def line(*places: float) -> np.ndarray:
    return np.array(places, dtype=np.float32)[:, None]


def near_of(distance: list[float], index: list[int] | None = None, ratio: list[float] | None = None) -> Near:
    count = len(distance)
    return Near(np.array(distance), np.array(index or [0] * count), np.array(ratio or [1.0] * count))


# Units.


def test_a_column_of_equal_values_has_the_unit_of_its_others() -> None:
    """Of 20 rows two differ from 3, by 4 and by -2; of another column three do; a third is constant."""
    x = np.full((20, 3), 3.0, dtype=np.float32)
    x[[4, 9], 0] = [7, 1]
    x[[0, 1, 2], 1] = 0
    assert spaces.column_units(x) == pytest.approx([10**0.5, 3 * (0.15 * 0.85) ** 0.5, 1])


def test_small_errors_at_the_edge_of_flattened_images_hide_no_copy() -> None:
    """A copy with an error of a thousandth, where a column has one value of a hundredth among 500 zeros."""
    draws = np.random.default_rng(0)
    training = draws.standard_normal((500, 12)).astype(np.float32)
    training[:, 8:] = 0
    training[[3, 50, 200, 411], [8, 9, 10, 11]] = 0.01
    units = spaces.column_units(training)
    copy = (training[77] + 0.001 * draws.standard_normal(12)) / units
    distances, places = CopySearch(training / units).nearest(copy[None].astype(np.float32), 2)
    assert places[0, 0] == 77
    assert distances[0, 0] < distances[0, 1] / 3


def pixels(draws: np.random.Generator, columns: int = 40) -> np.ndarray:
    """Rows of columns with deviations of 40 to 80, 20 that are 1 in a few rows, and 4 constants."""
    varied = 128 + np.linspace(40, 80, columns) * draws.uniform(-(3**0.5), 3**0.5, (400, columns))
    edge = (draws.uniform(size=(400, 20)) < 0.02).astype(float)
    return np.concatenate([varied, edge, np.zeros((400, 4))], 1).astype(np.float32)


def test_no_pixel_has_a_unit_far_below_the_others() -> None:
    draws = np.random.default_rng(3)
    training = pixels(draws)
    units = spaces.column_units(training)
    deviations = training.std(0, dtype=np.float64)[:40]
    assert units[:40] == pytest.approx(deviations)
    assert units[40:] == pytest.approx(np.full(24, np.median(deviations) / 4))
    # Noise of two grey levels hides no copy, in columns that hardly change or never do.
    copies = training[:50] + 2 * draws.standard_normal((50, 64))
    distances, places = CopySearch(training / units).nearest((copies / units).astype(np.float32), 2)
    assert (places[:, 0] == np.arange(50)).all()
    assert (distances[:, 0] < distances[:, 1] / 3).all()


def test_columns_in_units_of_their_own_and_few_columns_keep_small_units() -> None:
    draws = np.random.default_rng(3)
    mixed = pixels(draws)
    mixed[:, :8] *= 1e-3
    assert (spaces.column_units(mixed)[40:] == 1).all()
    assert (spaces.column_units(pixels(draws, 7)[:, :31])[7:] == 1).all()
    # Two amounts beside many categories are no pixels, and neither are 40 columns beside 50 categories.
    categories = (draws.uniform(size=(400, 70)) < 0.03).astype(np.float32)
    for varied in (3e4 * pixels(draws, 2)[:, :2], pixels(draws)[:, :40]):
        table = np.concatenate([varied, categories], 1).astype(np.float32)
        assert (spaces.column_units(table)[varied.shape[1] :] == 1).all()


def test_nearly_equal_values_of_a_column_are_equal() -> None:
    draws = np.random.default_rng(1)
    plain = np.zeros((200, 1), dtype=np.float32)
    plain[:10] = 2
    noisy = plain + 1e-7 * draws.standard_normal((200, 1)).astype(np.float32)
    assert spaces.column_units(noisy) == pytest.approx(spaces.column_units(plain), rel=1e-5)
    assert spaces.column_units(plain) == pytest.approx([2])


# Rates.


def test_fishers_test_counts_the_ways_to_choose_the_samples() -> None:
    """3 of 4 samples and none of 4 held-out points: of the 70 ways to choose 4 of 8, 5 hold all three."""
    assert Rates(3, 4, 0, 4).p_more() == pytest.approx(5 / 70)
    assert Rates(2, 4, 1, 4).p_more() == pytest.approx(1 / 2)
    assert Rates(0, 4, 3, 4).p_fewer() == pytest.approx(5 / 70)
    assert Rates(1, 4, 2, 4).p_fewer() == pytest.approx(1 / 2)
    assert Rates(1, 2, 0, 3).p_more() == pytest.approx(2 / 5)
    assert Rates(0, 2, 1, 3).p_fewer() == pytest.approx(3 / 5)


def test_an_excess_is_over_what_is_left_above_the_held_out_rate() -> None:
    rates = Rates(6, 10, 1, 5)
    assert (rates.sample_rate, rates.held_out_rate) == (0.6, 0.2)
    assert rates.excess() == pytest.approx(0.5)
    # Where all held-out points are near, nothing is left to say.
    full = Rates(3, 10, 5, 5)
    assert (full.excess(), full.interval()) == (0.0, (0.0, 1.0))
    assert Rates(10, 10, 1, 50).interval()[1] == 1
    assert Rates(10, 10, 1, 50).excess() == pytest.approx(1)


def test_what_would_have_been_found_has_the_power_that_is_asked_for() -> None:
    """A share s of copies makes the rate r + s (1 - r): the least count of samples below the level is reached in 8 of
    10 audits."""
    rates = Rates(40, 400, 30, 300)
    needed = next(count for count in range(401) if Rates(count, 400, 30, 300).p_more() <= 0.01)
    for power in (0.8, 0.5):
        share = rates.detectable(0.01, power)
        assert share is not None
        assert binom.sf(needed - 1, 400, 0.1 + 0.9 * share) == pytest.approx(power, abs=1e-9)
    assert rates.detectable(0.01) == rates.detectable(0.01, 0.8)
    # A p-value at the level itself is found.
    at = Rates(needed, 400, 30, 300).p_more()
    assert rates.detectable(at) == pytest.approx(rates.detectable(0.01))
    assert Rates(2, 3, 0, 3).detectable(0.06) == pytest.approx(0.8 ** (1 / 3))  # all three: 1 of 20 ways


# Areas under curves.


def test_z_counts_pairs_with_ties_half() -> None:
    samples, held_out = np.array([2.0, 5.0]), np.array([1.0, 2.0, 3.0])
    # Above: 1.5 of three, and three. The mean is 3, the deviation sqrt(2 * 3 * 6 / 12).
    assert z_of(samples, held_out) == pytest.approx((4.5 - 3 + 0.5) / math.sqrt(3))
    found = closeness(samples, held_out)
    assert found.area == pytest.approx(1 - 4.5 / 6)
    assert found.z == z_of(samples, held_out)
    assert found.p == pytest.approx(0.5 * math.erfc(-found.z / math.sqrt(2)))


def test_the_interval_of_an_area_is_hanley_and_mcneils() -> None:
    """At 1/2 their variance is the variance of ranks, (m + h + 1) / (12 m h)."""
    for m, h in ((30, 50), (200, 200)):
        error = 1.96 * rank_deviation(m, h)
        assert rank_deviation(m, h) == pytest.approx(math.sqrt((m + h + 1) / (12 * m * h)))
        assert area_interval(0.5, m, h) == pytest.approx((0.5 - error, 0.5 + error))
    # At 0.8: Q1 = 0.8 / 1.2 = 2/3 and Q2 = 1.28 / 1.8 = 0.71111.
    variance = (0.16 + 19 * (2 / 3 - 0.64) + 39 * (1.28 / 1.8 - 0.64)) / 800
    error = 1.96 * math.sqrt(variance)
    assert area_interval(0.8, 20, 40) == pytest.approx((0.8 - error, 0.8 + error))
    assert area_interval(0.02, 3, 3)[0] == 0
    assert area_interval(0.98, 3, 3)[1] == 1
    assert area_interval(1.0, 9, 9) == (1.0, 1.0)


@pytest.mark.filterwarnings("error")
def test_cells_are_no_more_than_the_values_of_training_points() -> None:
    """Images of one pixel that are black or white. All distances are 0."""
    x = np.array([[0.0], [1.0]] * 60)
    near = near_of([0.0] * 120)
    assert by_cells(x, x, x, near, near, 0) == pytest.approx(z_of(near.distance[:60], near.distance[:60]))


def test_cells_count_by_their_share_of_held_out_points() -> None:
    """Three clusters far apart: of the third too few are samples, so the others' weights are 2/3 and 1/3."""
    rng = np.random.default_rng(0)

    def points(*counts: int) -> np.ndarray:
        places = np.repeat([0.0, 100.0, 200.0], counts)
        return (places + rng.normal(size=len(places)))[:, None].astype(np.float32)

    training, samples, held_out = points(50, 50, 50), points(30, 21, 20), points(40, 20, 60)
    q, y = rng.random(71), rng.random(120) + 0.2
    found = by_cells(training, samples, held_out, near_of(list(q)), near_of(list(y)), 0)
    first, second = z_of(q[:30], y[:40]), z_of(q[30:51], y[40:60])
    assert found == pytest.approx((2 * first + second) / 3)
    more = points(30, 21, 25)
    for last, weights in ((0, (40, 20)), (1, (40, 20, 1))):
        parts = [z_of(q[:30], y[:40]), z_of(q[30:51], y[40:60]), *([z_of(q[:25], y[60:61])] if last else [])]
        given = near_of([*q[:51], *q[:25]]), near_of(list(y[: 60 + last]))
        cells = by_cells(training, more, points(40, 20, last), *given, 0)
        assert cells == pytest.approx(sum(w * z for w, z in zip(weights, parts, strict=True)) / sum(weights))
    assert by_cells(training, samples[51:], held_out, near_of(list(q[51:])), near_of(list(y)), 0) is None


def test_cells_of_many_columns_are_found_along_their_principal_directions() -> None:
    rng = np.random.default_rng(0)
    centres = np.zeros((3, 80))
    centres[:, 0] = [0, 100, 200]
    training, samples, held_out = (
        (centres.repeat(30, 0) + rng.normal(size=(90, 80))).astype(np.float32) for _ in range(3)
    )
    q, y = rng.random(90), rng.random(90)
    found = by_cells(training, samples, held_out, near_of(list(q)), near_of(list(y)), 0)
    parts = [z_of(q[at : at + 30], y[at : at + 30]) for at in (0, 30, 60)]
    assert found == pytest.approx(sum(parts) / 3)


# Nearest points.


def test_the_next_point_is_the_first_that_is_no_duplicate() -> None:
    search = CopySearch(line(0, 0.5, 4, 9))
    queries = line(0.1, 4.5)
    plain = Near.of(search, CopyNeighbours.of(search, queries))
    assert plain.distance.tolist() == pytest.approx([0.1, 0.5], abs=1e-6)
    assert plain.index.tolist() == [0, 2]
    assert plain.ratio.tolist() == pytest.approx([0.1 / 0.4, 0.5 / 4], rel=1e-5)
    merged = Near.of(search, CopyNeighbours.of(search, queries), 0.6)
    assert merged.ratio.tolist() == pytest.approx([0.1 / 3.9, 0.5 / 4], rel=1e-5)
    alone = Near.of(search, CopyNeighbours.of(search, queries), 100.0)
    assert alone.ratio.tolist() == pytest.approx([0.1 / 8.9, 0.5 / 4.5], rel=1e-5)  # the last of them serves
    twice = CopySearch(line(1, 1))
    assert Near.of(twice, CopyNeighbours.of(twice, line(1))).ratio.tolist() == [0]


def test_the_distance_of_a_point_from_its_own_nearest() -> None:
    search = CopySearch(line(0, 1, 3, 3))
    assert search.own(np.array([0, 1, 2, 3])).tolist() == [1, 1, 0, 0]


def test_the_dimension_of_the_median_ratio() -> None:
    assert dimension_of(np.array([0.0, 0.25, 0.9])) == pytest.approx(0.5)
    assert dimension_of(np.array([0.5**0.2] * 3)) == pytest.approx(5)
    for median in (0.0, 1.0):
        assert dimension_of(np.full(3, median)) == 1


def test_points_are_authentic_where_they_are_farther_than_the_training_point_from_its_own() -> None:
    """Training points at 0, 1 and 5 are 1, 1 and 4 from their own nearest: a distance of 1 is not farther."""
    search = CopySearch(line(0, 1, 5))
    samples, held_out = near_of([1.0, 1.1, 3.9, 4.1], [0, 0, 2, 2]), near_of([0.5, 2.0], [1, 1])
    found = authentic(search, samples, held_out)
    assert found == Rates(2, 4, 1, 2)


def test_the_share_nearer_to_training_has_the_variance_over_all_ways_to_name_points() -> None:
    """Two training and two held-out points: 3, 1, 1 and 0 of five samples are nearest to each. All six ways to name
    two of them training points are counted."""
    near = near_of([1.0, 1.0, 1.0, 9.0, 2.0], [0, 0, 0, 0, 1])
    distance, index = np.array([5.0, 5.0, 5.0, 1.0, 5.0]), np.array([0, 0, 0, 0, 1])
    found = nearer_to_training(near, distance, index, 2, 2)
    weights = np.array([3, 1, 1, 0]) / 5
    shares = [weights[list(pair)].sum() for pair in itertools.combinations(range(4), 2)]
    assert (found.share, found.expected) == (0.8, 0.5)
    z = (0.8 - np.mean(shares)) / np.std(shares)
    assert found.p == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)))
    # Ties count as held-out, and where all points are as often nearest there is nothing to test.
    assert nearer_to_training(near_of([1.0]), np.array([1.0]), np.array([0]), 1, 3).share == 0
    even = nearer_to_training(near_of([1.0, 9.0]), np.array([9.0, 1.0]), np.array([0, 0]), 1, 1)
    assert (even.share, even.expected, even.p) == (0.5, 0.5, 1.0)


# Lists.


def test_p_values_count_the_sample_itself_and_ties() -> None:
    held_out = np.array([0.1, 0.2, 0.2, 0.4])
    assert p_values(np.array([0.05, 0.2, 0.3, 0.5]), held_out).tolist() == pytest.approx([1 / 5, 4 / 5, 4 / 5, 1])


def test_benjamini_and_hochbergs_list_by_hand() -> None:
    """The bound of the k-th smallest of 5 p-values is k / 5 of the share: 0.02, 0.04, 0.06, 0.08 and 0.1."""
    p = np.array([0.055, 0.5, 0.01, 0.045, 0.2])
    assert named_copies(p, 0.1).tolist() == [2, 3, 0]
    assert named_copies(p, 0.04).tolist() == []
    assert named_copies(np.array([0.02, 0.5]), 0.04).tolist() == [0]


def test_the_fewest_that_can_be_named_have_the_least_p_value() -> None:
    """The p-value of each of k copies among m samples is 1 / (h + 1), and its bound is k share / m."""
    for m, h, share in ((100, 49, 0.1), (100, 50, 0.1), (7, 99, 0.25), (10, 1000, 0.1), (100, 9, 0.5)):
        k = fewest_named(m, h, share)
        for count in (k - 1, k):
            p = np.array([1 / (h + 1)] * count + [1.0] * (m - count))
            assert len(named_copies(p, share)) == (count if count == k else 0)


# Spaces, near-duplicates and leaks.


def space(training: np.ndarray, held_out: np.ndarray, samples: np.ndarray | None = None) -> Space:
    drawn = held_out if samples is None else samples
    return Space("columns", training, held_out, drawn, drawn[:0], None, CopySearch(training))


def test_the_spread_of_a_space_is_the_root_mean_square_deviation_of_a_coordinate() -> None:
    training = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 6.0], [2.0, 6.0]], dtype=np.float32)
    assert space(training, training).spread == pytest.approx(math.sqrt((1 + 9) / 2))


def test_conditions_are_ten_times_the_reach_of_the_training_points_apart() -> None:
    training = line(0, 2, 4)
    found = features_with_conditions(line(1, 1), np.array([0, 1]), 2, training)
    assert found.tolist() == [[1, 20, 0], [1, 0, 20]]
    assert features_with_conditions(line(3), np.array([0]), 1, line(3, 3)).tolist() == [[3, 10]]


def test_points_of_other_conditions_are_kept_apart_and_left_out_by_a_mask() -> None:
    """Three conditions, of which the last is among training points alone: a column for each."""
    training, held_out = line(0, 2, 4), line(1, 3)
    groups = np.array([0, 1, 2]), np.array([1, 0]), np.array([0])
    made = replace(space(training, held_out, line(2)), groups=groups)
    assert made.within("held_out").tolist() == [[1, 0, 20, 0], [3, 20, 0, 0]]
    assert made.within("training")[2].tolist() == [4, 0, 0, 20]
    left = made.without(np.array([True, False]))
    assert left.held_out.tolist() == [[3]]
    assert left.groups is not None
    assert [each.tolist() for each in left.groups] == [[0, 1, 2], [0], [0]]


def test_two_held_out_points_that_are_others_are_needed() -> None:
    training = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    for others in (1, 2):
        held_out = np.concatenate([training[: 30 - others], 50 + 9 * training[:others]])
        one = space(training, held_out)
        neighbours = CopyNeighbours.of(one.search, held_out)
        if others == 1:
            with pytest.raises(DataError, match="29 of 30 held-out points are training points"):
                overlap_of(one, neighbours, 0)
        else:
            assert int(overlap_of(one, neighbours, 0).rows.sum()) == 28


def overlap(own: list[float], near: float) -> Overlap:
    return Overlap(np.zeros(3, dtype=bool), near, np.arange(len(own)), np.array(own), False)


def test_training_points_are_duplicated_where_pairs_are_more_than_chance_gives() -> None:
    """Chance puts one of 10,000 so near, and each pair counts once: of 100 points 2 pairs have a chance of 4.9e-5."""
    for duplicates, found in ((0, False), (1, False), (2, False), (3, True)):
        one = overlap([0.5] * duplicates + [2.0] * (100 - duplicates), 0.5)
        assert (one.duplicates, one.searched) == (duplicates, 100)
        pairs = (duplicates + 1) // 2
        chance = 1 - sum(math.comb(100, k) * 1e-4**k * (1 - 1e-4) ** (100 - k) for k in range(pairs))
        assert one.duplicated == found == (chance < 1e-3)


@pytest.mark.parametrize("scale", [1.0, 2.0**-20, 2.0**20])
def test_held_out_points_leak_by_fishers_test_at_five_per_cent(scale: float) -> None:
    """None of 200 training points has a near-duplicate: of 50 held-out points 2 have a chance of 3.9 %, and 1 one of
    a fifth, in any units."""
    rng = np.random.default_rng(0)
    training = rng.normal(size=(200, 3)).astype(np.float32)
    for shared, leaked in ((1, False), (2, True)):
        held_out = rng.normal(size=(50, 3)).astype(np.float32)
        held_out[:shared] = training[:shared]
        one = space(scale * training, scale * held_out)
        found = overlap_of(one, CopyNeighbours.of(one.search, scale * held_out), 0)
        assert found.rows.tolist() == [True] * shared + [False] * (50 - shared)
        assert found.duplicates == 0
        assert found.leaked == leaked
        assert (Rates(shared, 50, 0, 200).p_more() < 0.05) == leaked


def test_what_is_near_to_a_training_point_is_found_by_the_distance_of_duplicates() -> None:
    """Held-out points whose distances are 1 and whose ratios are 1/2 are of one dimension: near is 1.44e-4."""
    training = np.concatenate([line(*range(0, 300, 3)), line(*range(2, 300, 3))])
    held_out = line(*(place + 1.0 - 1e-6 for place in range(0, 300, 3)), 3 + 1e-4, 6 + 2e-4)
    one = space(training, held_out)
    found = overlap_of(one, CopyNeighbours.of(one.search, held_out), 0)
    near = Near.of(one.search, CopyNeighbours.of(one.search, held_out))
    assert found.near == pytest.approx(duplicate_distance(near.distance, near.ratio))
    assert found.rows.tolist() == (near.distance < found.near).tolist()


def test_a_named_sample_is_nearer_than_a_share_of_held_out_points() -> None:
    near, other = near_of([1.0] * 3, ratio=[0.1, 0.3, 0.2]), near_of([1.0] * 4, ratio=[0.05, 0.3, 0.4, 0.5])
    rates = Rates(1, 3, 1, 4)
    found = spaces.Copying(
        "columns",
        near,
        other,
        rates,
        np.ones(3),
        np.array([0, 1]),
        closeness(near.distance, other.distance),
        None,
        rates,
        nearer_to_training(near_of([1.0]), np.array([1.0]), np.array([0]), 1, 3),
    )
    assert found.held_out_above() == 0.5


def test_near_copies_are_three_times_nearer_than_the_next() -> None:
    """Half of 40 samples are at a third and less of the distance to the next point, and 3 of 30 held-out points."""
    training = line(*(10.0 * place for place in range(60)))
    near, far = 10 / 4 - 0.01, 10 / 4 + 0.01
    samples = line(*(10.0 * place + (near if place % 2 else far) for place in range(40)))
    held_out = line(*(10.0 * place + (near if place < 3 else far) for place in range(5, 5 + 30)))
    held_out[3:6] = line(*(10.0 * place + near for place in (41, 42, 43)))
    held_out[:3] = line(*(10.0 * place + far for place in (41, 42, 43)))
    found = spaces.copying(space(training, held_out, samples), None, 0.1, 0)
    assert found.rates == Rates(20, 40, 3, 30)
    assert found.nearer.expected == pytest.approx(60 / 90)


def test_raw_numbers_without_held_out_points_are_what_they_say() -> None:
    """Training points at 0, 1, 3, 6, ..., 210 lie k from the one before. Samples lie 1 after the fourth and all later
    ones, so at 1/3, 1/4, ..., 1/20 of the next distance, and two 20 and 25 after the last, which is 20 from its own."""
    places = [k * (k + 1) / 2 for k in range(21)]
    training = line(*places)
    samples = line(*(place + 1 for place in places[3:]), 230, 235)
    numbers = raw_numbers(space(training, training[:0], samples), 500, torch.Generator().manual_seed(0))
    assert numbers["near-copies among samples (columns)"] == 17 / 20
    assert numbers["authentic samples (columns)"] == 1 / 20
    # The median of 3, 4, ..., 20, 20 and 20 is 12.5.
    apart = "distance of samples from training points over theirs (median) (columns)"
    assert numbers[apart] == pytest.approx(1 / 12.5)
    twice = np.concatenate([training, training])
    assert raw_numbers(space(twice, training[:0], samples), 500, torch.Generator())[apart] == 1
    for few in ((training, samples[:19]), (training[:19], samples)):
        assert raw_numbers(space(few[0], training[:0], few[1]), 500, torch.Generator()) == {}


# The likelihood divergence.


def test_points_are_standardised_by_the_last_set() -> None:
    x, y = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[0.0, 2.0], [4.0, 2.0]])
    first, _, last = standardised_sets(x, 9 * x, y)
    deviation = math.sqrt(8)  # without bias
    assert first.tolist() == [[pytest.approx(-1 / deviation), 3.0], [pytest.approx(1 / deviation), 3.0]]
    assert last.tolist() == [[pytest.approx(-2 / deviation), 0.0], [pytest.approx(2 / deviation), 0.0]]


def test_each_centre_is_as_wide_as_its_points_lie_apart_from_it() -> None:
    """Two centres far from each other, with points at +- r around them: the likeliest variance is r^2."""
    centres = torch.tensor([[-50.0], [50.0]]).double()
    points = torch.tensor([[-50.5], [-49.5], [48.0], [52.0]]).double()
    found = log_variances(centres, points)
    assert found.tolist() == pytest.approx([math.log(0.25), math.log(4)], abs=0.1)
    # In the plane r^2 is shared by two coordinates.
    flat = log_variances(*(torch.cat([x, torch.zeros(len(x), 1).double()], 1) for x in (centres, points)))
    assert flat.tolist() == pytest.approx([math.log(0.125), math.log(2)], abs=0.1)


def test_variances_are_found_along_the_gradient_of_what_points_cost() -> None:
    """With a broad component about the points' mean, of a share of one point for each centre; by torch's own Adam."""
    generator = torch.Generator().manual_seed(0)
    centres, points = (torch.randn(count, 3, generator=generator).double() for count in (5, 9))
    squared = torch.cdist(points, centres).square()
    about_mean = 0.81 * (points - points.mean(0)).square().sum(1)
    found = ((squared.amin(0) + 1e-3) / 3).log().requires_grad_()
    broad = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([found, broad], lr=0.5)
    for _ in range(50):
        optimiser.zero_grad()
        near = -0.5 * (squared / found.exp() + 3 * (found + math.log(2 * math.pi))) - math.log(5)
        far = -0.5 * (about_mean / broad.exp() + 3 * (broad + math.log(2 * math.pi)))
        torch.cat([near, far[:, None]], 1).logsumexp(1).mean().div(-3).backward()
        optimiser.step()
    assert log_variances(centres, points).tolist() == pytest.approx(found.tolist(), rel=1e-6)


def test_the_divergence_is_a_hundred_times_what_samples_cost_more_than_half_of_the_training_points() -> None:
    generator = torch.Generator().manual_seed(0)
    samples, training, held_out = (torch.randn(count, 2, generator=generator) for count in (25, 40, 30))
    found = likelihood_divergence(samples, training, held_out, torch.Generator().manual_seed(3))
    q, y, h = standardised_sets(samples, training, held_out)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    half, other = y[order[:20]], y[order[20:]]
    base = cost(h, half, log_variances(half, other))
    assert found.fld == pytest.approx(100 * (cost(h, q, log_variances(q, y)) - base))
    with pytest.raises(DataError, match="there are 19"):
        likelihood_divergence(samples, training, held_out[:19], generator)


def test_the_gap_is_a_hundred_times_the_difference_of_costs() -> None:
    generator = torch.Generator().manual_seed(0)
    samples, training, held_out = (torch.randn(30, 2, generator=generator).double() for _ in range(3))
    variances = log_variances(samples, training)
    expected = 100 * (cost(training, samples, variances) - cost(held_out, samples, variances))
    assert gap(samples, training, held_out) == pytest.approx(expected)
    # One Gaussian of variance v: (r^2 / v + D log 2 pi v) / 2 D.
    one = cost(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), torch.tensor([math.log(5.0)]))
    assert one == pytest.approx((25 / 5 + 2 * math.log(2 * math.pi * 5)) / 4)


def test_points_are_read_a_few_neighbourhoods_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """24 numbers are four neighbourhoods of two points with three coordinates: ten are read in 4, 4 and 2."""
    points = np.random.default_rng(0).normal(size=(20, 3))
    sizes: list[int] = []

    class Read:
        shape = points.shape

        def __getitem__(self, rows: Any) -> Any:
            sizes.append(len(rows))
            return points[rows]

    monkeypatch.setattr(nearest, "CACHED", 24)
    index = np.arange(20).reshape(10, 2)
    distances = np.tile([1.0, 2.0], (10, 1))
    found = Near.of(SimpleNamespace(points=Read()), CopyNeighbours(distances, index))  # type: ignore[arg-type]
    assert sizes == [4, 4, 2]
    assert found.ratio.tolist() == [0.5] * 10
