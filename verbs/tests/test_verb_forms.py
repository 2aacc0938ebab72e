"""The formulas of verbs that measure, by hand: draws of a few numbers, tests of a few places, paths of a few points."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor
from verb_toys import Source, context

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import DataError
from scorefold.seeds import derive_generator
from scorefold_toolkit.metrics import energy_distance, joint_uniformity, sharpness
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Units
from scorefold_toolkit.operators import Mask, Separable, box_matrix
from scorefold_verbs import assess as assessing
from scorefold_verbs import measures, posterior, references
from scorefold_verbs.config import LC2STConfig, ReconstructOptions, TARPConfig
from scorefold_verbs.latents.measures import Errors, FrechetBesideFloor, ReconstructionErrors, SharpnessRatio, realism
from scorefold_verbs.likelihoods import auroc
from scorefold_verbs.measures import Calibration, Consistency, Diversity, Energy, Fidelity, Frechet, features_of
from scorefold_verbs.posterior import LC2ST, TARP
from scorefold_verbs.references import energy_distances, gaussian_log_density, speckle_ratio
from scorefold_verbs.verdicts import of_path


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def off(*errors: float) -> Tensor:
    """Images (C, 1, 2, 2) of one constant each."""
    return numbers(*errors).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)


# Fidelity, consistency, diversity.


def test_fidelity_by_hand() -> None:
    """Draws 0.1 and 0.01 off the first truth, and right twice for the second, in the range 2: 20 log10 of 20 and 200.
    An exact match counts as 100 dB."""
    measure = Fidelity(Units(-1.0, 1.0))
    measure.add(EvaluationBatch(off(0, 0), torch.stack([off(0.1, 0), off(0.01, 0)])))
    near, far = 20 * math.log10(20), 20 * math.log10(200)
    found = measure.metrics()
    assert found["PSNR (dB)"] == pytest.approx(((near + far) / 2 + 100) / 2)
    assert found["best-of-2 PSNR, chosen by the truth (dB)"] == pytest.approx((far + 100) / 2)
    mean = 20 * math.log10(2 / 0.055)
    assert found["PSNR of the draws' mean (dB)"] == pytest.approx((mean + 100) / 2)
    assert "SSIM" not in found
    assert measure.arrays()["PSNR (dB)"].tolist() == pytest.approx([(near + far) / 2, 100])


@pytest.mark.parametrize(("pixels", "found"), [(10, False), (11, True)])
def test_structure_is_compared_from_eleven_pixels_on(pixels: int, found: bool) -> None:
    measure = Fidelity(Units(0.0, 1.0))
    measure.add(EvaluationBatch(torch.zeros(1, 1, pixels, 20), torch.zeros(2, 1, 1, pixels, 20)))
    assert measure.metrics().get("SSIM") == (1.0 if found else None)


def test_parts_that_a_mask_kept_and_hid_by_hand() -> None:
    keep = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    x = numbers(0.1, 0.1, 0.5, 0.5).reshape(1, 1, 1, 2, 2)
    measure = Fidelity(Units(0.0, 1.0))
    measure.add(EvaluationBatch(torch.zeros(1, 1, 2, 2).double(), x, operator=Mask(keep, (1, 2, 2))))
    found = measure.metrics()
    assert found["PSNR, known part (dB)"] == pytest.approx(20)
    assert found["PSNR, hidden part (dB)"] == pytest.approx(20 * math.log10(2))


def test_consistency_and_diversity_by_hand() -> None:
    """The mean of all pixels of a constant image is the constant: its error is the image's."""
    means = Separable(box_matrix(2, 2), box_matrix(2, 2), (1, 2, 2))
    batch = EvaluationBatch(off(0, 0), torch.stack([off(0.1, 0.01), off(0.1, 0.1)]), operator=means)
    consistent, diverse = Consistency(Units(0.0, 1.0)), Diversity(Units(0.0, 0.5))
    for measure in (consistent, diverse):
        measure.add(batch)
    assert consistent.metrics()["consistency (dB)"] == pytest.approx((20 + 30) / 2)
    spread = 0.09 / math.sqrt(2)
    assert diverse.metrics()["diversity (0 to 255)"] == pytest.approx(255 / 0.5 * (0 + spread) / 2)


# Calibration.


def calibration(places: Tensor, *levels: float) -> Calibration:
    """Of places (C, D) that are given."""
    measure = Calibration(levels, torch.Generator())
    measure._places.append(places)
    return measure


def test_coverage_and_its_error_are_over_conditions() -> None:
    """Both coordinates of the first truth are inside, one of the second, none of the third; the fourth counts not."""
    places = torch.tensor([[0.5, 0.4], [0.5, 0.9], [0.1, 0.9], [math.nan, math.nan]])
    measure = calibration(places, 0.5)
    share, error = measure.shares(0.5)
    assert share == pytest.approx(0.5)
    assert error == pytest.approx(0.5 / math.sqrt(3))
    assert measure.metrics() == pytest.approx(
        {"coverage of 50% intervals": 0.5, "coverage of 50% intervals, standard error": 0.5 / math.sqrt(3)}
    )
    one = calibration(places[:1], 0.5)
    assert math.isnan(one.shares(0.5)[1])
    assert one.metrics() == {"coverage of 50% intervals": 1.0}


@pytest.mark.parametrize(("off_by", "said"), [(2.9, False), (3.1, True)])
def test_coverage_is_warned_of_from_three_errors_on(off_by: float, said: bool) -> None:
    """A share p of 400 truths inside has the error sqrt(p (1 - p) / 399)."""
    inside = next(n for n in range(200, 400) if (n / 400 - 0.5) / math.sqrt(n / 400 * (1 - n / 400) / 399) > off_by)
    places = torch.tensor([0.5] * inside + [0.01] * (400 - inside))[:, None]
    warned = [text for text in calibration(places, 0.5).warnings() if "too wide" in text]
    assert bool(warned) == said


@pytest.mark.parametrize(("count", "said"), [(27, False), (28, True), (9, False)])
def test_truths_that_are_all_inside_have_the_error_of_calibrated_draws(count: int, said: bool) -> None:
    """1 - 3/4 against three times sqrt(3/4 1/4 / n): from n = 27 on, where both are equal."""
    places = torch.full((count, 1), 0.5) + torch.linspace(-0.3, 0.3, count)[:, None]
    warned = [text for text in calibration(places, 0.75).warnings() if "too wide" in text]
    assert bool(warned) == said


def test_places_are_tested_from_eight_truths_on() -> None:
    places = torch.linspace(0.2, 0.6, 8)[:, None]
    name = "uniform places, p-value"
    assert calibration(places).metrics()[name] == pytest.approx(joint_uniformity(places))
    assert calibration(places[:7]).metrics() == {}
    short = torch.cat([places, places], 1)
    short[0, 0] = math.nan
    assert calibration(short).metrics()[name] == pytest.approx(joint_uniformity(places))


# Energies.


def test_energies_of_two_conditions_by_hand() -> None:
    """Draws 0 and 2 for the truth 1, and 5 and 5 for 8: pairs of two conditions alone count."""
    measure = Energy(TensorSpec((1,)))
    condition = numbers(0, 10)[:, None]
    draws = numbers(0, 5, 2, 5).reshape(2, 2, 1)
    for row in (0, 1):
        measure.add(
            EvaluationBatch(numbers(1, 8)[row : row + 1, None], draws[:, row : row + 1], condition[row : row + 1])
        )
    found = measure.metrics()
    across = (8 + 6 + 4 + 4) / 4
    assert found["energy distance"] == pytest.approx(2 * across - (5 + 5 + 3 + 3) / 4 - 7)
    joined = [math.hypot(10, apart) for apart in (8, 6, 4, 4, 5, 5, 3, 3, 7)]
    assert found["joint energy distance"] == pytest.approx(2 * sum(joined[:4]) / 4 - sum(joined[4:8]) / 4 - joined[8])
    assert (found["energy distance, draws"], found["energy distance, truths"]) == (4, 2)
    assert measure.arrays()["energy score"].tolist() == pytest.approx([1 - 1, 3])
    assert found["energy score"] == pytest.approx(1.5)
    alone = Energy(None)
    alone.add(EvaluationBatch(numbers(1, 8)[:, None], draws))
    assert alone.metrics()["energy distance"] == pytest.approx(
        energy_distance(draws.flatten(0, 1), numbers(1, 8)[:, None])
    )
    assert alone.arrays() == {}


# Frechet distances.


def test_five_draws_at_most_make_a_frechet_distance_by_hand() -> None:
    """Draws are the truths moved by 1, 2, ...: distances of 1, 4, 9, 16 and 25, of which the mean is 11."""
    truth = normal(9, 1)
    draws = torch.stack([truth + moved for moved in range(1, 8)])
    measure = Frechet("coordinates", features_of("pixels", (1,), None, Units(0, 1)), {})
    measure.add(EvaluationBatch(truth, draws))
    assert measure.metrics()["Frechet distance (coordinates)"] == pytest.approx(11)
    assert not measure.too_few
    beside = FrechetBesideFloor("coordinates", features_of("pixels", (1,), None, Units(0, 1)), Units(0, 1), [truth + 6])
    beside.add(EvaluationBatch(truth, draws))
    found = beside.metrics()
    assert found["Frechet distance (coordinates)"] == pytest.approx(11)
    assert found["Frechet distance of the mean of 7 draws (coordinates)"] == pytest.approx(16)
    assert found["Frechet distance of other real events (coordinates)"] == pytest.approx(36)
    assert (found["Frechet points"], found["Frechet points, other real events"]) == (9, 9)
    assert beside.warnings() == []
    two = FrechetBesideFloor("coordinates", features_of("pixels", (1,), None, Units(0, 1)), Units(0, 1), None)
    two.add(EvaluationBatch(truth[:2], draws[:1, :2]))
    assert two.metrics()["Frechet distance (coordinates)"] == pytest.approx(1)
    assert features_of("pixels", (2, 2, 2), None, Units(0, 1))(torch.zeros(1, 2, 2, 2)).shape == (1, 8)
    for points, said in ((1, 0), (2, 1), (3, 1), (4, 0)):
        few = FrechetBesideFloor("coordinates", features_of("pixels", (3,), None, Units(0, 1)), Units(0, 1), None)
        few.add(EvaluationBatch(normal(points, 3), normal(1, points, 3)))
        assert len(few.warnings()) == said


def test_kernel_distances_are_of_the_first_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_KERNEL_POINTS", 5)
    truth, draws = normal(9, 2), normal(2, 9, 2, seed=1)
    measure = Frechet("inception", features_of("pixels", (2,), None, Units(0, 1)), {})
    for rows in (slice(0, 3), slice(3, 6), slice(6, 9)):
        measure.add(EvaluationBatch(truth[rows], draws[:, rows]))
    expected = measures.kernel_distance(draws[0, :5], truth[:5])
    assert measure.metrics()["kernel distance (inception)"] == pytest.approx(expected)


# Reconstructions.


def test_errors_of_reconstructions_by_hand() -> None:
    """Truths 0 and 4, draws 1 and 3 for the first, 4 and 6 for the second. In the mean over draws the squares are
    (1 + 9) / 2 and (0 + 4) / 2; the means of both draws are 2 and 1 off; points are 2 from their mean."""
    truth, draws = numbers(0, 4)[:, None], numbers(1, 4, 3, 6).reshape(2, 2, 1)
    measure, whole = Errors(2), Errors(2)
    for rows in (slice(0, 1), slice(1, 2)):
        measure.add(EvaluationBatch(truth[rows], draws[:, rows]))
    whole.add(EvaluationBatch(truth, draws))
    found = measure.metrics()
    assert whole.metrics() == pytest.approx(found)
    assert found["relative reconstruction error"] == pytest.approx(math.sqrt(7 / 8))
    assert found["root-mean-square distance"] == pytest.approx(math.sqrt(7 / 2))
    assert found["root-mean-square distance of the mean of 2 draws"] == pytest.approx(math.sqrt((4 + 1) / 2))
    assert measure.by_draws().tolist() == pytest.approx([math.sqrt((1 + 0) / 2), math.sqrt(5 / 2)])
    assert not measure.certain
    same = Errors(1)
    same.add(EvaluationBatch(torch.ones(3, 2), torch.zeros(1, 3, 2)))
    with pytest.raises(DataError, match="points are equal"):
        same.relative()


def test_distances_of_reconstructions_by_hand() -> None:
    """Lengths are in the units of events; decibels of what is clipped to [0, 1]."""
    measure = ReconstructionErrors(Units(0.0, 1.0, clipped=True), (1, 2, 2))
    measure.add(EvaluationBatch(off(0.9, 0.5), torch.stack([off(1.4, 0.5), off(0.9, 0.7)])))
    found = measure.arrays()
    assert found["L2"].tolist() == pytest.approx([(1.0 + 0) / 2, (0 + 0.4) / 2])
    assert found["L2 of the mean of 2 draws"].tolist() == pytest.approx([0.5, 0.2])
    assert found["PSNR (dB)"].tolist() == pytest.approx([(20 + 100) / 2, (100 + 20 * math.log10(5)) / 2])
    assert found["PSNR of the mean of 2 draws (dB)"].tolist() == pytest.approx([20, 20])
    single = ReconstructionErrors(Units(0.0, 1.0), (2,))
    single.add(EvaluationBatch(numbers(3, 4)[None], numbers(0, 0).reshape(1, 1, 2)))
    assert single.metrics() == {"L2": 5.0}


def test_sharpness_is_over_that_of_the_originals() -> None:
    """Half the contrast has a quarter of the sharpness, and the mean of a half and nothing a sixteenth."""
    truth = normal(3, 1, 4, 4)
    measure = SharpnessRatio(Units(-9.0, 9.0))
    measure.add(EvaluationBatch(truth, torch.stack([truth / 2, 0 * truth])))
    assert measure.metrics() == pytest.approx(
        {
            "sharpness relative to the originals": 0.125,
            "sharpness of the mean of 2 draws relative to the originals": 0.0625,
        }
    )
    single = SharpnessRatio(Units(-9.0, 9.0))
    single.add(EvaluationBatch(truth, truth[None] / 2))
    assert single.metrics() == {"sharpness relative to the originals": pytest.approx(0.25)}


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        ((1, 2, 9), [FrechetBesideFloor]),
        ((1, 3, 3), [SharpnessRatio, FrechetBesideFloor]),
        ((4096,), [FrechetBesideFloor]),
        ((4097,), []),
    ],
)
def test_realism_is_what_events_of_a_shape_allow(shape: tuple[int, ...], kinds: list[type]) -> None:
    found = realism(ReconstructOptions(), shape, Units(0.0, 1.0), None, torch.device("cpu"))
    assert [type(measure) for measure in found] == kinds


# Tests of posteriors.


def test_tarp_reports_the_least_of_its_tests_times_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places up to 0.4 leave a gap of 0.6 at the end; even ones have the chance 1."""
    measure = TARP(TARPConfig(references=2)).start(Units(0, 1), (1,), None)
    even, low = torch.linspace(0.05, 0.95, 10).double(), torch.linspace(0.04, 0.4, 10).double()
    monkeypatch.setattr(measure, "places", lambda: torch.stack([even, low]))
    chance = joint_uniformity(low[:, None])
    found = measure.metrics()
    assert found["TARP p-value"] == pytest.approx(2 * chance)
    assert found["TARP, largest gap of the expected coverage"] == pytest.approx(0.6)
    monkeypatch.setattr(measure, "places", lambda: torch.stack([even, even + 0.01]))
    assert measure.metrics()["TARP p-value"] == 1.0


@pytest.mark.parametrize(("below", "said"), [(0.999, False), (1.001, True)])
def test_tarp_warns_below_a_chance(below: float, said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    low = torch.linspace(0.04, 0.5, 10).double()
    measure = TARP(TARPConfig(references=1, warns_below=below * joint_uniformity(low[:, None]))).start(
        Units(0, 1), (1,), None
    )
    monkeypatch.setattr(measure, "places", lambda: low[None])
    assert bool(measure.warnings()) == said


def local(monkeypatch: pytest.MonkeyPatch, statistics: Tensor, null: Tensor, **settings: Any) -> Measure:
    monkeypatch.setattr(posterior, "local_statistics", lambda *given: (statistics, null))
    measure = LC2ST(LC2STConfig(**settings)).start(Units(0, 1), (1,), TensorSpec((1,)))
    measure.add(EvaluationBatch(torch.zeros(16, 1), torch.zeros(2, 16, 1), torch.zeros(16, 1)))
    return measure


def test_lc2st_counts_exchanges_that_are_no_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nineteen exchanges 0, 1, ..., 18 at each of two conditions: one is no smaller than 18, three than 16.2."""
    null = torch.arange(19.0).double()[:, None].expand(19, 2)
    found = local(monkeypatch, numbers(18, 18.5), null, exchanges=19)
    values = found.arrays()["LC2ST p-values"]
    order = torch.randperm(16, generator=derive_generator(0, "lc2st", "halves"))
    assert bool(values[order[:14]].isnan().all())  # of the conditions that the classifier has learned from
    assert values[order[14:]].tolist() == pytest.approx([2 / 20, 1 / 20])
    metrics = found.metrics()
    assert metrics["LC2ST p-value"] == pytest.approx(1 / 20)  # none is as large as the mean, 18.25
    assert metrics["LC2ST statistic"] == pytest.approx(18.25)
    assert metrics["LC2ST conditions"] == 2
    assert metrics["LC2ST, share of conditions below 5%"] == 0.5
    assert local(monkeypatch, numbers(16.2, 16.2), null, exchanges=19).metrics()["LC2ST p-value"] == 3 / 20


@pytest.mark.parametrize(("statistic", "said"), [(18.5, True), (17.5, False)])
def test_lc2st_warns_at_the_least_chance_that_it_has(
    statistic: float, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nineteen exchanges 1 / 20 is the least, however little it is asked to warn of."""
    null = torch.arange(19.0).double()[:, None]
    found = local(monkeypatch, numbers(statistic), null, exchanges=19, warns_below=0.001)
    assert bool(found.warnings()) == said
    more = local(monkeypatch, numbers(statistic), null, exchanges=19, warns_below=0.1)
    assert bool(more.warnings())


def test_lc2st_needs_sixteen_conditions() -> None:
    measure = LC2ST(LC2STConfig(exchanges=19)).start(Units(0, 1), (1,), TensorSpec((1,)))
    measure.add(EvaluationBatch(normal(15, 1), normal(2, 15, 1, seed=1), normal(15, 1, seed=2)))
    with pytest.raises(DataError, match="got 15; at least 16"):
        measure.metrics()
    measure.add(EvaluationBatch(normal(1, 1), normal(2, 1, 1), normal(1, 1)))
    assert measure.metrics()["LC2ST conditions"] == 8


@pytest.mark.parametrize(("columns", "network"), [(40, False), (41, True)])
def test_classifiers_are_quadratic_up_to_forty_numbers(
    columns: int, network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network of two hidden layers learns that the second half of its points are of the second kind."""
    used: list[Any] = []

    class Network:
        def __init__(self, layers: tuple[int, ...], **settings: Any) -> None:
            used.append(layers)

        def fit(self, x: np.ndarray, labels: list[int]) -> None:
            used.append(labels)

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return np.stack([np.full(len(x), 0.2), np.full(len(x), 0.8)], 1)

    monkeypatch.setattr("sklearn.neural_network.MLPClassifier", Network)
    shown = torch.cat([normal(6, columns), normal(6, columns) + 5])
    found = posterior._classified(shown, normal(4, columns) + 5, LC2STConfig(width=7))
    assert used == ([(7, 7), [0] * 6 + [1] * 6] if network else [])
    assert bool((found == 0.8).all()) if network else float(found.min()) > 0.9


# Outliers.


def test_the_area_under_a_curve_counts_ties_half() -> None:
    """Of 2 against 1, 2, 2, 3: one below and two ties; of 9 all four."""
    assert auroc(numbers(2, 9), numbers(1, 2, 2, 3)) == pytest.approx((1 + 2 / 2 + 4) / 8)


# Readings.


def test_the_density_of_the_normal_distribution_of_the_training_points() -> None:
    train, test = normal(40, 3) @ normal(3, 3, seed=1) + 5, normal(7, 3, seed=2)
    fitted = multivariate_normal(train.numpy().mean(0), np.cov(train.numpy().T))
    source = Source(train=Dataset(train), test=Dataset(test))
    given = replace(context(), dtype=torch.float64)
    assert gaussian_log_density(source, Dataset(test), given) == pytest.approx(fitted.logpdf(test.numpy()).mean())
    for count, found in ((6, True), (5, False)):  # twice as many points as coordinates
        few = Source(train=Dataset(train[:count]), test=Dataset(test))
        assert (gaussian_log_density(few, Dataset(test), given) is not None) == found
    line = Source(train=Dataset(train[:, :1]), test=Dataset(test[:, :1]))
    single = multivariate_normal(train[:, 0].numpy().mean(), train[:, 0].numpy().var(ddof=1))
    assert gaussian_log_density(line, Dataset(test[:, :1]), given) == pytest.approx(
        single.logpdf(test[:, 0].numpy()).mean()
    )


def test_distances_are_between_as_many_points_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many, and of many coordinates so few that their products stay below the work."""
    train, test, x = normal(60, 2), normal(50, 2, seed=1), normal(40, 2, seed=2)
    source, given = Source(train=Dataset(train), test=Dataset(test)), replace(context(), dtype=torch.float64)
    whole = energy_distances(x, source, given)
    assert whole is not None
    assert whole.samples == pytest.approx(energy_distance(x, test[:40]))
    monkeypatch.setattr(references, "_WORK", 2 * 10.5**2)  # ten points of two coordinates
    ten = energy_distances(x, source, given)
    assert ten is not None
    assert ten.samples == pytest.approx(energy_distance(x[:10], test[:10]))
    monkeypatch.setattr(references, "MOST", 4)
    four = energy_distances(x, source, given)
    assert four is not None
    assert four.samples == pytest.approx(energy_distance(x[:4], test[:4]))
    assert energy_distances(x[:1], source, given) is None
    for count, found in ((1, False), (2, True)):
        few = Source(train=Dataset(train), test=Dataset(test[:count]))
        assert (energy_distances(x, few, given) is not None) == found


def test_samples_and_training_points_are_exchanged_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """By chance alone samples are farther in one of twenty draws. All differences of exchanges of two pairs by hand."""
    given = replace(context(), dtype=torch.float64)
    farther = 0
    for seed in range(100):
        source = Source(train=Dataset(normal(50, 3, seed=3 * seed)), test=Dataset(normal(20, 3, seed=3 * seed + 1)))
        found = energy_distances(normal(40, 3, seed=3 * seed + 2), source, given)
        assert found is not None
        assert found.training is not None
        farther += found.samples > found.training + found.chance
    assert 1 <= farther <= 9
    few = energy_distances(normal(9, 3), source, given)
    assert few is not None
    assert few.training is None, "of two or three samples each difference can be chance"
    monkeypatch.setattr(references, "_FEWEST", 2)
    test, rows = numbers(0, 1, 5).reshape(3, 1), numbers(0, 1, 4, 9).reshape(4, 1)
    found = energy_distances(rows[:2], Source(train=Dataset(rows[2:]), test=Dataset(test)), given)
    assert found is not None
    assert found.samples == pytest.approx(energy_distance(rows[:2], test[:2]))
    assert found.training == pytest.approx(energy_distance(rows[2:], test[:2]))
    pairs = [([0, 1], [2, 3]), ([0, 2], [1, 3]), ([0, 3], [1, 2])]
    gaps = [energy_distance(rows[a], test[:2]) - energy_distance(rows[b], test[:2]) for a, b in pairs]
    assert found.chance == pytest.approx(max(map(abs, gaps)))
    train = rows[2:].clone()
    train[0] = torch.nan
    found = energy_distances(rows[:2], Source(train=Dataset(train), test=Dataset(test)), given)
    assert found is not None
    assert found.training is None


def test_a_difference_that_chance_exceeds_in_one_of_twenty_exchanges() -> None:
    """The observed difference is one of 200: it is greater than the 190th of the others in 10 of 200 places."""
    assert references._exceeded(torch.arange(1.0, 200.0).flip(0), 0.05) == 190


def images_of(heights: Tensor) -> Tensor:
    """Images of a single pixel of these heights."""
    x = torch.zeros(len(heights), 1, 4, 4, dtype=torch.float64)
    x[:, 0, 1, 1] = heights
    return x


def test_images_are_speckled_where_chance_does_not_explain_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speckle of images of a single white pixel is 1/16 of its height; heights vary by a tenth of their mean."""
    given = replace(context(), dtype=torch.float64)
    heights = torch.tensor([0.9, 1.0, 1.1] * 4, dtype=torch.float64)
    source = Source(test=Dataset(images_of(heights)))
    for ratio, said in ((1.3, 1.3), (0.8, 0.8), (1.05, 1.0)):
        found = speckle_ratio(images_of(ratio * heights), source, given)
        assert found == pytest.approx(said, rel=1e-5)
    assert speckle_ratio(images_of(heights[:9]), source, given) is None
    flat = Source(test=Dataset(images_of(heights * 0)))
    assert speckle_ratio(images_of(heights), flat, given) == math.inf
    assert speckle_ratio(images_of(heights * 0), flat, given) == 1.0
    assert speckle_ratio(normal(20, 3), Source(test=Dataset(normal(20, 3))), given) is None
    monkeypatch.setattr(references, "_SPECKLED", 1.4)
    assert speckle_ratio(images_of(1.3 * heights), source, given) == 1.0, "too small to be seen"


def test_speckle_of_textures_that_vary_is_no_finding_by_chance() -> None:
    """One false alarm in a hundred, of ten images and a textured few among them."""
    given = replace(context(), dtype=torch.float64)
    false = 0
    for seed in range(200):
        heights = normal(22, seed=seed).exp()
        source = Source(test=Dataset(images_of(heights[:12])))
        false += speckle_ratio(images_of(heights[12:]), source, given) != 1.0
    assert false <= 7


def test_middles_of_paths_by_hand() -> None:
    """Held-out points are 1 from the training points, the middles 1 and 5, straight lines' middles 0.
    Beyond three times 1 paths are lost."""
    train = numbers(0, 0, 20, 0).reshape(2, 2)
    start, end = numbers(0, 1, 20, 1).reshape(2, 2), numbers(0, -1, 20, -1).reshape(2, 2)
    middles = numbers(0, 1, 20, 5).reshape(2, 2)
    metrics, result, warnings = of_path(middles, start, end, Source(train=Dataset(train)), what="decoded")
    assert metrics == {"middles from the data": pytest.approx(3)}
    error = 1.96 * 2 / math.sqrt(2)
    assert result["answer"]["interval"] == pytest.approx([3 - error, 3 + error])
    assert result["answer"]["baselines"] == {"straight": 0}
    assert warnings == []
    _, lost, said = of_path(middles + 0.1, start, end, Source(train=Dataset(train)), what="decoded")
    assert lost["answer"]["value"] is None
    assert len(said) == 1
    # Where straight lines lie farther than that, paths may lie three times as far as they.
    start, end = numbers(0, 1, 0, -1).reshape(2, 2), numbers(4, 1, 4, -1).reshape(2, 2)
    near = Source(train=Dataset(torch.cat([start, end]) + numbers(0, 0.5)))
    line = float((torch.cdist((start + end) / 2, near.load("train").x)).amin(1).mean()) / 0.5
    assert line > 3
    for times, given in ((2.9, True), (3.1, False)):
        far = numbers(4, 1.5 + times * line * 0.5)[None].expand(2, 2)
        assert (of_path(far, start, end, near, what="decoded")[1]["answer"]["value"] is not None) == given


def test_middles_of_images_have_their_sharpness_beside_straight_lines() -> None:
    """Opposite images have a straight middle of none; the path's middle has half the contrast of both."""
    start = normal(2, 1, 4, 4)
    metrics, result, _ = of_path(start / 2, start, -start, Source(train=Dataset(start + 1)), what="decoded")
    assert metrics["sharpness of the middles relative to the points"] == pytest.approx(0.25)
    assert result["answer"]["verdict"].endswith("where a data point has 100%: decoded paths 25%, straight lines 0%.")
    assert float(sharpness(start / 2).mean() / sharpness(start).mean()) == pytest.approx(0.25)


# Assessment.


def test_an_answer_has_a_standard_error_over_points() -> None:
    values = numbers(1, 2, 3, 6)
    found = assessing._answer({"energy score": 3.0, "energy distance": 9.0}, {"energy score": values})
    error = 1.96 * math.sqrt(14 / 3) / 2
    assert found == {"quantity": "energy score", "value": 3.0, "interval": pytest.approx([3 - error, 3 + error])}
    assert assessing._answer({"x Frechet distance": 1.0}, {}) == {"quantity": "x Frechet distance", "value": 1.0}
    assert assessing._answer({"other": 1.0}, {}) is None


def test_training_points_stand_in_for_samples_each_once() -> None:
    """Seven training points for three held-out ones: two each, and one is left."""
    seen: list[Tensor] = []

    class Noting(Measure):
        def add(self, batch: EvaluationBatch) -> None:
            seen.append(batch.draws)

        def metrics(self) -> dict[str, float]:
            return {}

    source = Source(train=Dataset(torch.arange(7.0)[:, None]))
    batches = [Dataset(torch.zeros(2, 1)), Dataset(torch.zeros(1, 1))]

    def hold(batch: Dataset, x: Tensor) -> EvaluationBatch:
        return EvaluationBatch(batch.x, x)

    assert assessing._add_training_points([Noting()], source, batches, 4, hold, context())
    assert [tuple(draws.shape) for draws in seen] == [(2, 2, 1), (2, 1, 1)]
    assert len(torch.cat([draws.flatten() for draws in seen]).unique()) == 6
    seen.clear()
    assert assessing._add_training_points([Noting()], source, batches, 1, hold, context())
    assert [len(draws) for draws in seen] == [1, 1]
    few = Source(train=Dataset(torch.zeros(2, 1)))
    assert not assessing._add_training_points([Noting()], few, batches, 4, hold, context())
