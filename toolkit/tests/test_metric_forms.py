"""The formulas of metrics by hand: places and their tests, distances of a few points, images of a few pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_toolkit.metrics import (
    Moments,
    coverage,
    diversity,
    energy_distance,
    energy_score,
    frechet_distance,
    frechet_from_moments,
    joint_uniformity,
    kernel_distance,
    pit,
    psnr,
    psnr_within,
    round_to_levels,
    sharpness,
    speckle,
    ssim,
    tarp,
    uniformity,
)
from scorefold_toolkit.metrics.distances import neighbour_measures
from scorefold_toolkit.metrics.features import LARGEST, feature_network
from scorefold_toolkit.metrics.measure import EvaluationBatch, PointwiseMeasure, Units


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=gen(seed), dtype=torch.float64)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Places.


def test_a_place_is_a_rank_with_a_uniform_number_among_ties() -> None:
    """Of four draws two are below and one is at the truth: the place is (2 + 2 v) / 5."""
    draws = numbers(1, 2, 2.5, 4).reshape(4, 1, 1)
    v = float(torch.rand((1, 1), generator=gen(3), dtype=torch.float64))
    assert float(pit(draws, numbers(2.5)[None], gen(3))) == pytest.approx((2 + 2 * v) / 5)
    assert float(pit(draws, numbers(9)[None], gen(3))) == pytest.approx((4 + v) / 5)
    assert float(pit(draws[:1], numbers(0)[None], gen(3))) == pytest.approx(v / 2)
    for wrong in (draws[:0], draws[:, 0, 0]):
        with pytest.raises(ShapeError):
            pit(wrong, numbers(1)[None] if wrong.dim() > 1 else numbers(1)[0], gen())


def test_places_by_random_points_without_a_condition_and_of_a_constant_coordinate() -> None:
    """The second coordinate is always 3: its deviation counts as 1."""
    draws = torch.stack([numbers(0, 1, 5, 9).reshape(4, 1), torch.full((4, 1), 3.0).double()], 2)
    truth = numbers(2, 3)[None]
    generator = gen(5)
    share = torch.rand((1, 2), generator=generator, dtype=torch.float64)
    v = float(torch.rand((1, 1), generator=generator, dtype=torch.float64))
    reference = 9 * float(share[0, 0])
    nearer = sum(abs(value - reference) < abs(2 - reference) for value in (0, 1, 5, 9))
    assert float(tarp(draws, truth, gen(5))[0]) == pytest.approx((nearer + v) / 5)


def test_distances_from_random_points_are_in_deviations_of_the_draws() -> None:
    """Coordinates of deviations far below 1, one of them three times the other's."""
    draws, truth = 0.01 * normal(6, 1, 2) * numbers(1, 3), 0.01 * normal(1, 2, seed=1) * numbers(1, 3)
    generator = gen(2)
    share = torch.rand((1, 2), generator=generator, dtype=torch.float64)[0]
    v = float(torch.rand((1, 1), generator=generator, dtype=torch.float64))
    x, y = draws[:, 0].numpy(), truth[0].numpy()
    reference = x.min(0) + (x.max(0) - x.min(0)) * share.numpy()
    own, others = (np.linalg.norm((point - reference) / x.std(0), axis=-1) for point in (y, x))
    assert float(tarp(draws, truth, gen(2))[0]) == pytest.approx(((others < own).sum() + v) / 7)


def test_coverage_counts_both_ends_of_the_interval() -> None:
    places = numbers(0.25, 0.75, 0.2499, 0.7501)[None]
    assert coverage(places, 0.5).tolist() == [0.5]
    for level in (0.0, 1.0, -0.1):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            coverage(places, level)


def test_kuipers_statistic_is_the_largest_distance_above_and_below() -> None:
    """Eight numbers: above is 4/8 - 0.1 at the fourth, below 0.95 - 5/8 at the sixth."""
    places = numbers(0.02, 0.05, 0.06, 0.1, 0.6, 0.95, 0.96, 0.97)
    statistic, _ = uniformity(places[[3, 1, 7, 0, 2, 6, 5, 4]])
    assert statistic == pytest.approx((4 / 8 - 0.1) + (0.95 - 5 / 8))
    with pytest.raises(DataError, match="at least 8 numbers; 7"):
        uniformity(places[:7])


@pytest.mark.parametrize(("scaled", "chance"), [(1.620, 0.1), (1.747, 0.05), (2.001, 0.01)])
@pytest.mark.parametrize("count", [8, 100])
def test_stephens_critical_values_have_their_chances(scaled: float, chance: float, count: int) -> None:
    """V (sqrt N + 0.155 + 0.24 / sqrt N) above these is as rare as said (Stephens 1970, table 1)."""
    statistic = scaled / (math.sqrt(count) + 0.155 + 0.24 / math.sqrt(count))
    # Equal steps up to 1 - V lie nowhere above their rank, and V below it at the end.
    found, value = uniformity(torch.linspace(0, 1 - statistic, count, dtype=torch.float64))
    assert found == pytest.approx(statistic)
    assert value == pytest.approx(chance, rel=0.01)
    near = 0.75 / scaled * statistic
    series = sum((8 * (j * 0.75) ** 2 - 2) * math.exp(-2 * (j * 0.75) ** 2) for j in range(1, 30))
    assert uniformity(torch.linspace(0, 1 - near, count, dtype=torch.float64))[1] == pytest.approx(series)
    assert 0.98 < series < 1


def test_all_coordinates_together_are_bonferronis() -> None:
    """Two columns of eight, and one of seven numbers that does not count."""
    one, two = torch.linspace(0.01, 0.99, 8).double(), torch.linspace(0.3, 0.5, 8).double()
    three = torch.linspace(0.5, 0.51, 8).double()
    three[2] = math.nan
    places = torch.stack([one, two, three], 1)
    assert joint_uniformity(places) == pytest.approx(2 * uniformity(two)[1])
    assert joint_uniformity(one[:, None].repeat(1, 4)) == 1.0
    longer = torch.cat([two, numbers(math.nan)])[:, None]
    assert joint_uniformity(longer) == pytest.approx(uniformity(two)[1])


# Distances.


def test_frechet_distances_by_hand() -> None:
    """Means 1 and 4, variances 2 and 8: 9 + (sqrt 2 - sqrt 8)^2."""
    x, y = numbers(0, 2)[:, None], numbers(2, 6)[:, None]
    assert frechet_distance(x, y) == pytest.approx(9 + 2)
    mean, covariance = numbers(1, 0), torch.tensor([[2.0, 1.0], [1.0, 2.0]])  # of eigenvalues 3 and 1
    turned = torch.tensor([[2.0, -1.0], [-1.0, 2.0]])
    # The product of both is 3 times the identity.
    assert frechet_from_moments(mean, covariance, 0 * mean, turned) == pytest.approx(1 + 8 - 4 * math.sqrt(3))
    assert frechet_from_moments(mean, covariance, mean, covariance) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("sizes", [(3, 3), (1, 5), (2, 1, 1, 1, 1), (6,)])
def test_moments_are_kept_and_then_folded_in(sizes: tuple[int, ...]) -> None:
    x = normal(6, 3) + 5
    moments = Moments()
    for count, batch in enumerate(x.split(list(sizes))):
        moments.add(batch)
        assert moments.count == sum(sizes[: count + 1])
    torch.testing.assert_close(moments.mean, x.sum(0) / 6)
    torch.testing.assert_close(moments.covariance, (x - x.mean(0)).T @ (x - x.mean(0)) / 5)
    two = Moments()
    two.add(x[:2])  # no more than features
    torch.testing.assert_close(two.covariance, torch.outer(x[0] - x[1], x[0] - x[1]) / 2)
    assert two.frechet(moments) == pytest.approx(
        frechet_from_moments(two.mean, two.covariance, moments.mean, moments.covariance)
    )
    other = Moments()
    other.add(normal(3, 3, seed=1))
    expected = frechet_from_moments(two.mean, two.covariance, other.mean, other.covariance)
    assert two.frechet(other) == pytest.approx(expected)


def test_kernel_distances_by_hand() -> None:
    """(x . y / 2 + 1)^3 of (0, 0) and (2, 2), and of two points (1, 1): 1, then 8, then 1 and 27."""
    x, y = torch.tensor([[0.0, 0.0], [2.0, 2.0]]), torch.ones(2, 2)
    assert kernel_distance(x, y) == pytest.approx(1 + 8 - 2 * (1 + 27) / 2)
    for few in ((x[:1], y), (x, y[:1])):
        with pytest.raises(DataError, match="two points and more"):
            kernel_distance(*few)


def test_energy_scores_by_hand() -> None:
    """Draws 0 and 4 for the truth 1, and 1, 1 for 3: (1 + 3) / 2 - 4 / 2, and 2 - 0."""
    draws = torch.tensor([[[0.0], [1.0]], [[4.0], [1.0]]])
    assert energy_score(draws, torch.tensor([[1.0], [3.0]])).tolist() == [0.0, 2.0]
    three = numbers(0, 1, 5).reshape(3, 1, 1)
    assert energy_score(three, numbers(0)[None]).tolist() == pytest.approx([2 - (1 + 5 + 4) / 3 / 2])


def test_energy_distances_of_groups_by_hand() -> None:
    """Pairs of one group do not count: 0 | 2 and 10 of x against 1 | 4 of y, of the groups 0 | 1."""
    x, y = numbers(0, 2, 10)[:, None], numbers(1, 4)[:, None]
    groups = torch.tensor([0, 1, 1]), torch.tensor([0, 1])
    expected = 2 * (4 + 1 + 9) / 3 - (2 + 10) / 2 - 3
    for chunk in (1, 2, 100):
        assert energy_distance(x, y, groups=groups, chunk=chunk) == pytest.approx(expected)
    assert energy_distance(x, y, chunk=1) == pytest.approx(
        2 * (1 + 4 + 1 + 2 + 9 + 6) / 6 - 2 * (2 + 10 + 8) / 6 - 2 * 3 / 2
    )
    assert energy_distance(x, y, unbiased=False) == pytest.approx(
        2 * (1 + 4 + 1 + 2 + 9 + 6) / 6 - 2 * (2 + 10 + 8) / 9 - 2 * 3 / 4
    )


def test_balls_by_hand() -> None:
    """Truths 0, 1, 3, 7 reach to their second neighbours at 3, 2, 3, 6; samples 2, 8, 20 to theirs at 18, 12, 18."""
    truths, samples = numbers(0, 1, 3, 7)[:, None], numbers(2, 8, 20)[:, None]
    apart, own, other = torch.cdist(samples, truths), torch.cdist(truths, truths), torch.cdist(samples, samples)
    # Density by first neighbours: they reach 1, 1, 2 and 4. 2 is within the balls of 1 and 3, 8 within the ball of 7.
    assert neighbour_measures(apart, own, other, 2, 1) == {
        "precision": 2 / 3,
        "recall": 1.0,
        "density": 1.0,
        "coverage": 3 / 4,
    }
    # By first neighbours samples reach 6, 6 and 12: every truth is within 6 of 2.
    assert neighbour_measures(apart, own, other, 1, 2)["recall"] == 1.0
    # Density by second ones: 2 is within 0, 1, 3 and 7 (5 of 6), 8 within 7.
    assert neighbour_measures(apart, own, other, 1, 2)["density"] == pytest.approx((4 + 1 + 0) / 3 / 2)
    edge = neighbour_measures(
        numbers(1, 2)[:, None], numbers(0, 1, 1, 0).reshape(2, 2), numbers(0, 2, 2, 0).reshape(2, 2), 1, 1
    )
    assert edge["precision"] == 0.5  # a point on the edge is inside
    edge = neighbour_measures(numbers(1, 9)[:, None], torch.zeros(2, 2), numbers(0, 1, 1, 0).reshape(2, 2), 1, 1)
    assert edge["recall"] == 1


def test_defaults_are_three_neighbours_for_precision_and_five_for_density() -> None:
    x, y = normal(30, 2), normal(25, 2, seed=1) + 0.5
    apart, own, other = torch.cdist(x, y), torch.cdist(y, y), torch.cdist(x, x)

    def reach(within: Tensor, k: int) -> np.ndarray:
        return np.sort(within.numpy(), axis=1)[:, k]

    inside, few = apart.numpy() <= reach(own, 5), apart.numpy() <= reach(own, 3)
    assert neighbour_measures(apart, own, other) == pytest.approx(
        {
            "precision": few.any(1).mean(),
            "recall": (apart.numpy() <= reach(other, 3)[:, None]).any(0).mean(),
            "density": inside.sum() / 5 / 30,
            "coverage": inside.any(0).mean(),
        }
    )


# Images.


def test_decibels_by_hand() -> None:
    """An error of 0.2 in one of four pixels of the range 2: 10 log10(4 / 0.01)."""
    x = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    y = x.clone()
    y[..., 0, 0] = 0.2
    assert float(psnr(x, y, 2.0)) == pytest.approx(10 * math.log10(400))
    where = torch.zeros(1, 1, 2, 2)
    where[..., 0, :] = 1
    assert float(psnr_within(x, y, where, 2.0)) == pytest.approx(10 * math.log10(4 / 0.02))
    with pytest.raises(ConfigError, match="above 0"):
        psnr(x, y, 0.0)


def test_the_laplacian_of_one_pixel() -> None:
    """One pixel of 1 in the middle of 4 x 5 inner pixels: 4 there, and -1 at its four neighbours, squared 16 + 4."""
    x = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    x[..., 3, 3] = 1
    assert float(sharpness(x)) == pytest.approx(20 / 25)
    ramp = torch.arange(3.0)[:, None] + 2 * torch.arange(3.0)
    assert float(sharpness(ramp[None])) == 0
    bowl = torch.arange(5.0).square()[:, None] + torch.zeros(4)
    assert float(sharpness(bowl[None])) == 4  # (-2)^2


def test_speckle_is_the_height_of_pixels_that_stand_alone() -> None:
    x = torch.zeros(2, 1, 8, 8)
    x[0, 0, :, 4:] = 0.7  # a straight edge has none
    x[1, 0, 2, 2], x[1, 0, 6, 5] = 1.0, 0.5
    assert speckle(x).tolist() == pytest.approx([0.0, 1.5 / 64])


def test_levels_are_equal_steps_from_low_to_high() -> None:
    x = numbers(-2, -1, -0.51, -0.49, 0.24, 0.26, 3)
    assert round_to_levels(x, -1.0, 1.0, 5).tolist() == [-1, -1, -0.5, -0.5, 0, 0.5, 1]


def test_diversity_is_an_unbiased_deviation() -> None:
    draws = numbers(0, 1).reshape(2, 1, 1)
    assert float(diversity(draws, 0.5)) == pytest.approx(510 * math.sqrt(0.5))
    assert float(diversity(draws)) == pytest.approx(255 * math.sqrt(0.5))


def test_structural_similarity_by_hand() -> None:
    """In a window of 3 pixels and deviation 2 weights fall off as 1, exp(-1/8); of an image and its negative about 0
    the covariance is minus the variance."""
    w = math.exp(-1 / 8)
    weights = np.outer([w, 1, w], [w, 1, w]) / (1 + 2 * w) ** 2
    x = normal(1, 1, 3, 3)
    mean = float((x[0, 0].numpy() * weights).sum())
    variance = float((x[0, 0].numpy() ** 2 * weights).sum()) - mean**2
    c1, c2 = (0.01 * 4) ** 2, (0.03 * 4) ** 2
    expected = (c1 - 2 * mean**2) / (c1 + 2 * mean**2) * (c2 - 2 * variance) / (c2 + 2 * variance)
    assert float(ssim(x, -x, 4.0, window=3, sigma=2.0)) == pytest.approx(expected)
    default = ssim(normal(1, 1, 12, 12), normal(1, 1, 12, 12, seed=1))
    assert torch.equal(default, ssim(normal(1, 1, 12, 12), normal(1, 1, 12, 12, seed=1), 1.0, window=11, sigma=1.5))


# Features and units.


def test_pixels_are_features_up_to_the_largest_number() -> None:
    assert feature_network("pixels", 1)(torch.zeros(2, LARGEST)).shape == (2, LARGEST)
    with pytest.raises(ConfigError, match="4097 pixels"):
        feature_network("pixels", 1)(torch.zeros(2, LARGEST + 1))


def test_random_features_are_three_convolutions_and_four_means() -> None:
    """Weights of variance 2 over the number of inputs, biases of 0.1; pixels from 0 to 1 are seen from -1 to 1."""
    network = feature_network("random-conv", 2)
    for number, inside in enumerate((2, 32, 64)):
        weight, bias = network.get_buffer(f"weight{number}"), network.get_buffer(f"bias{number}")
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / (9 * inside)), rel=0.1)
        assert float(bias.std()) == pytest.approx(0.1, rel=0.5)
    x = torch.rand(1, 2, 3, 3, generator=gen())  # too small for means between

    def activated(x: Tensor, number: int) -> Tensor:
        x = torch.nn.functional.conv2d(
            x, network.get_buffer(f"weight{number}"), network.get_buffer(f"bias{number}"), padding=1
        )
        return torch.where(x > 0, x, 0.2 * x)

    last = activated(activated(activated(2 * x - 1, 0), 1), 2)
    halves = slice(2), slice(1, 3)
    corners = [last[..., rows, columns].mean((2, 3)) for rows in halves for columns in halves]
    torch.testing.assert_close(network(x), torch.stack(corners, 2).flatten(1))


def test_bounds_of_one_number_are_one_apart() -> None:
    units = Units.of(EventScale(), torch.full((3, 2), 5.0), "levels")
    assert (units.low, units.high, units.range) == (5.0, 6.0, 1.0)
    assert units.unit(torch.tensor([5.5])).tolist() == [0.5]
    bounded = Units.of(EventScale(low=-1.0, high=3.0, levels=5), torch.zeros(2, 1), "8-bit")
    assert (bounded.range, bounded.levels) == (4.0, 256)
    assert bounded.unit(torch.tensor([0.0, 3.0])).tolist() == [0.25, 1.0]
    x = torch.tensor([-2.0, 0.1, 9.0])
    assert Units(-1.0, 3.0, True, 5).round(x).tolist() == [-1, 0, 3]
    assert Units(-1.0, 3.0, True).round(x).tolist() == [-1, pytest.approx(0.1), 3]
    assert Units(-1.0, 3.0).round(x).tolist() == x.tolist()
    half = Units.of(EventScale(low=-1.0), torch.tensor([[0.0], [7.0]]), "none")
    assert (half.low, half.high, half.clipped) == (0, 7, False)
    assert Units.of(EventScale(low=-1.0, high=3.0, levels=5), torch.zeros(2, 1), "none").levels is None


def test_pairs_repeat_the_truths_draw_by_draw() -> None:
    truth, draws = torch.arange(3.0)[:, None], torch.arange(6.0).reshape(2, 3, 1)
    x, y = EvaluationBatch(truth, draws).pairs
    assert x.shape == y.shape == (6, 1)
    assert x[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert y[:, 0].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_table_has_means_over_points_that_have_a_number() -> None:
    class Noted(PointwiseMeasure):
        def add(self, batch: EvaluationBatch) -> None:
            self.note("a", batch.truth[:, 0])
            self.note("b", torch.full((len(batch.truth),), math.nan))

    table = Noted()
    for values in ((1.0, math.nan), (4.0, 7.0)):
        table.add(EvaluationBatch(torch.tensor(values)[:, None], torch.zeros(1, 2, 1)))
    assert table.metrics() == {"a": 4.0}
    assert set(table.arrays()) == {"a", "b"}
