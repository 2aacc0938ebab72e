"""The measures of ``assess`` one by one, on draws made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefold.data import EventScale, TensorSpec
from scorefold_toolkit.metrics import energy_distance, feature_network, frechet_distance, kernel_distance
from scorefold_toolkit.metrics.measure import EvaluationBatch, Units
from scorefold_verbs.assess import Assessed
from scorefold_verbs.figures import assessment
from scorefold_verbs.measures import Calibration, Energy, Fidelity, Frechet, condition_networks, features_of


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_bounds_are_those_of_the_data_or_of_the_truths() -> None:
    x = torch.tensor([[-3.0, 1.0], [2.0, 5.0]])
    own = Units.of(EventScale(low=-1.0, high=3.0, levels=5), x, "levels")
    assert (own.range, own.levels, own.clipped) == (4.0, 5, True)
    assert own.round(x).tolist() == [[-1.0, 1.0], [2.0, 3.0]]
    assert own.unit(torch.tensor([-1.0, 1.0, 3.0])).tolist() == [0.0, 0.5, 1.0]
    free = Units.of(EventScale(low=0.0), x, "levels")
    assert (free.low, free.high, free.levels) == (-3.0, 5.0, None)
    assert torch.equal(free.round(2 * x), 2 * x)
    assert Units.of(EventScale(), torch.ones(3, 2), "none").range == 1.0


def test_a_frechet_distance_is_the_mean_over_the_first_five_draws() -> None:
    draws, truth = normal(7, 40, 3, seed=0) * torch.arange(1.0, 8)[:, None, None], normal(40, 3, seed=1)
    measure = Frechet("coordinates", features_of("pixels", (3,), None, Units(0, 1)), {})
    for part in range(0, 40, 16):
        measure.add(EvaluationBatch(truth[part : part + 16], draws[:, part : part + 16]))
    expected = sum(frechet_distance(draws[i], truth) for i in range(5)) / 5
    metrics = measure.metrics()
    assert metrics.pop("Frechet distance (coordinates)") == pytest.approx(expected)
    assert metrics == {"Frechet features": 3, "Frechet points": 40}
    assert not measure.warnings()


def test_joint_features_stand_beside_those_of_the_condition_in_the_units_of_the_data() -> None:
    units = Units(-1.0, 3.0)
    truth, draws = normal(30, 1, 4, 4, seed=0), normal(2, 30, 1, 4, 4, seed=1)
    condition = {"image": normal(30, 2, 4, 4, seed=2), "kind": torch.arange(30) % 3, "size": normal(30, seed=3)}
    spec = {"image": TensorSpec((2, 4, 4)), "kind": TensorSpec((), classes=3), "size": TensorSpec(())}
    network = features_of("random-conv", (1, 4, 4), None, units)
    measure = Frechet("random-conv", network, condition_networks("random-conv", spec, None, units))
    measure.add(EvaluationBatch(truth, draws, condition))
    one, two = feature_network("random-conv", 1), feature_network("random-conv", 2)
    beside = [two((condition["image"] + 1) / 4), torch.eye(3)[condition["kind"]], condition["size"][:, None]]

    def joint(x: Tensor) -> Tensor:
        return torch.cat([*beside, one((x + 1) / 4)], 1)

    metrics = measure.metrics()
    expected = sum(frechet_distance(joint(x), joint(truth)) for x in draws) / 2
    assert metrics["joint Frechet distance (random-conv)"] == pytest.approx(expected, rel=1e-5)
    alone = sum(frechet_distance(one((x + 1) / 4), one((truth + 1) / 4)) for x in draws) / 2
    assert metrics["Frechet distance (random-conv)"] == pytest.approx(alone, rel=1e-5)
    assert [words.split(" is over")[0] for words in measure.warnings()] == [
        "the Frechet distance",
        "the joint Frechet distance",
    ]


def test_the_kernel_distance_stands_beside_the_frechet_distance_of_inceptions_features() -> None:
    network = features_of("random-conv", (1, 4, 4), None, Units(0, 1))
    measure = Frechet("published-inception", network, {})
    truth, draws = normal(30, 1, 4, 4, seed=0), normal(2, 30, 1, 4, 4, seed=1)
    for rows in (slice(0, 20), slice(20, 30)):
        measure.add(EvaluationBatch(truth[rows], draws[:, rows]))
    expected = kernel_distance(network(draws[0]), network(truth))
    assert measure.metrics()["kernel distance (published-inception)"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("inside", "said"), [(70, "too wide"), (58, None), (42, None), (30, "too narrow")])
def test_coverage_is_warned_of_from_three_standard_errors_on(inside: int, said: str | None) -> None:
    draws = torch.arange(-9.0, 10)[:, None, None].expand(19, 100, 1)
    truth = torch.where(torch.arange(100) < inside, 0.1, 20.0)[:, None]
    measure = Calibration((0.5,), torch.Generator().manual_seed(0))
    measure.add(EvaluationBatch(truth, draws))
    share, error = measure.shares(0.5)
    assert share == inside / 100
    assert error == pytest.approx((share * (1 - share) / 99) ** 0.5)
    about = [words for words in measure.warnings() if "too" in words]
    assert bool(about) == (said is not None)
    assert said is None or said in about[0]


@pytest.mark.parametrize(
    ("points", "inside", "said"),
    [
        (10, True, None),
        (80, True, None),
        (82, True, "90% intervals hold 100.0%"),
        (2, False, "hold 0.0% of the truths"),
    ],
)
def test_truths_that_are_all_inside_are_no_proof_of_wide_draws_where_they_are_few(
    points: int, inside: bool, said: str | None
) -> None:
    """Of calibrated draws, 10 of 10 truths lie in the 90% interval one time in three; 82 of 82, once in 5700 times."""
    draws = torch.arange(-9.0, 10)[:, None, None].expand(19, points, 1)
    measure = Calibration((0.9,), torch.Generator().manual_seed(0))
    measure.add(EvaluationBatch(torch.full((points, 1), 0.1 if inside else 20.0), draws))
    assert measure.shares(0.9) == (float(inside), 0.0)
    about = [words for words in measure.warnings() if "too" in words]
    assert about == [] if said is None else said in about[0]


@pytest.mark.parametrize(("points", "features", "said"), [(9, 8, []), (8, 8, ["8 points of 8 features"])])
def test_a_covariance_of_as_many_features_as_points_is_warned_of(points: int, features: int, said: list[str]) -> None:
    measure = Frechet("coordinates", features_of("pixels", (features,), None, Units(0, 1)), {})
    measure.add(EvaluationBatch(normal(points, features, seed=0), normal(1, points, features, seed=1)))
    found = measure.warnings()
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


@pytest.mark.parametrize(("points", "said"), [(7, False), (100, True)])
def test_places_that_are_not_uniform_are_warned_of(points: int, said: bool) -> None:
    draws = torch.arange(-9.0, 10)[:, None, None].expand(19, points, 1)
    measure = Calibration((), torch.Generator().manual_seed(0))
    measure.add(EvaluationBatch(torch.full((points, 1), 0.1), draws))
    assert [("not uniform (p = " in text) for text in measure.warnings()] == [True] * said
    even = Calibration((), torch.Generator().manual_seed(0))
    even.add(EvaluationBatch(torch.linspace(-9.4, 9.4, points)[:, None], draws))
    assert even.warnings() == []


def test_every_point_is_there_in_an_energy_distance_of_many_draws() -> None:
    truth = torch.arange(1000.0)[:, None]
    draws = truth.expand(6, 1000, 1) + normal(6, 1000, 1, seed=0)
    measure = Energy(None)
    for part in range(0, 1000, 300):
        measure.add(EvaluationBatch(truth[part : part + 300], draws[:, part : part + 300]))
    metrics = measure.metrics()
    assert metrics["energy distance"] == pytest.approx(energy_distance(draws[:4].flatten(0, 1), truth))
    assert (metrics["energy distance, draws"], metrics["energy distance, truths"]) == (4000, 1000)


def test_draws_from_the_posterior_are_at_no_energy_distance() -> None:
    """x = c + z given c, of 12 conditions at a time: counted, the closer pairs of one condition bring it below 0."""
    found = []
    for seed in range(200):
        c = 2 * normal(12, 2, seed=seed)
        truth, draws = c + normal(12, 2, seed=1000 + seed), c + normal(3, 12, 2, seed=2000 + seed)
        measure = Energy(TensorSpec((2,)))
        measure.add(EvaluationBatch(truth[:5], draws[:, :5], c[:5]))
        measure.add(EvaluationBatch(truth[5:], draws[:, 5:], c[5:]))
        metrics = measure.metrics()
        found.append([metrics["energy distance"], metrics["joint energy distance"]])
    values = torch.tensor(found)
    assert bool((values.mean(0).abs() < 4 * values.std(0) / 200**0.5).all())
    alone = energy_distance(draws.flatten(0, 1), truth)
    assert alone < metrics["energy distance"]


def test_places_of_many_coordinates_are_not_written() -> None:
    measure = Calibration((0.5,), torch.Generator().manual_seed(0))
    measure.add(EvaluationBatch(torch.zeros(3, 4), torch.zeros(2, 3, 4)))
    assert set(measure.arrays()) == {"places"}
    measure.add(EvaluationBatch(torch.zeros(1, 4).expand(2**20, 4), torch.zeros(1, 1, 4).expand(1, 2**20, 4)))
    assert measure.arrays() == {}


def test_fidelity_does_not_depend_on_the_bounds_of_the_data() -> None:
    """Images in [-1, 1] are as alike as the same images in [0, 1]."""
    truth = torch.rand(3, 1, 12, 12, dtype=torch.float64)
    draws = (truth + 0.1 * normal(2, 3, 1, 12, 12, seed=0)).clamp(0, 1)
    found = []
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        measure = Fidelity(Units(low, high))
        measure.add(EvaluationBatch(low + (high - low) * truth, low + (high - low) * draws))
        found.append(measure.metrics())
    assert "SSIM" in found[0]
    assert found[1] == pytest.approx(found[0])


def test_events_in_a_plane_without_channels_are_shown_with_their_spread() -> None:
    draws, truth = normal(4, 9, 5, 6, seed=0), normal(9, 5, 6, seed=1)
    calibration = Calibration((0.5,), torch.Generator().manual_seed(0))
    calibration.add(EvaluationBatch(truth, draws))
    figures = assessment(Assessed(truth, None, draws.transpose(0, 1), Units(-3, 3), calibration))
    spread = figures["draws"].axes[6].images[0].get_array()  # after the truth, four draws and their mean
    assert spread is not None
    torch.testing.assert_close(torch.tensor(spread[:5].data), draws[:, 0].float().std(0))
