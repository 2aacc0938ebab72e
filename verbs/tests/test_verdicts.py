"""Verdicts of verbs: who is better, by which baseline, and where nothing can be said."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from scorefold_verbs.references import EnergyDistances
from scorefold_verbs.verdicts import (
    above_limit,
    cost_limit,
    of_assessment,
    of_auroc,
    of_costs,
    of_generated,
    of_lengths,
    of_likelihood,
    of_paths,
    of_reconstruction,
    of_samples,
    sign_flip,
    withheld,
)


def test_the_p_value_of_sign_flips_is_that_of_all_of_them() -> None:
    values = [3.0, -1.0, 4.0, 1.5]
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in itertools.product((1, -1), repeat=4)
    ]
    expected = sum(each >= abs(sum(values)) for each in sums) / 16
    assert sign_flip(torch.tensor(values)) == expected
    assert sign_flip(-torch.tensor(values)) == expected
    assert sign_flip(torch.zeros(8)) == 1.0


def test_random_flips_have_the_level_that_they_are_used_at() -> None:
    generator = torch.Generator().manual_seed(3)
    found = [sign_flip(torch.randn(20, generator=generator)) <= 0.05 for _ in range(400)]
    assert 0.02 < sum(found) / 400 < 0.09
    assert sign_flip(torch.rand(20, generator=generator) + 0.1) < 0.001


def paths(near: float, line: float, count: int = 16, scatter: float = 0.01, **given: Any) -> dict[str, Any]:
    noise = scatter * torch.linspace(-1, 1, count)[torch.randperm(count, generator=torch.Generator().manual_seed(1))]
    return of_paths("geodesic", near + noise, [torch.full((count,), line)], [near, near], straight=False, **given)


def test_paths_are_compared_with_straight_lines_the_right_way_round() -> None:
    closer, farther, alike = paths(0.9, 4.7), paths(4.7, 0.9), paths(0.89, 0.89)
    assert closer["verdict"].startswith("Geodesics stay closer to the data than straight lines. Distance of midpoints")
    assert closer["verdict"].endswith(
        "where a held-out point has 1: geodesics 0.9 (95% interval 0.9 to 0.9), straight lines 4.7."
    )
    assert "sure" not in closer
    assert farther["verdict"].startswith("Geodesics lie farther from the data than straight lines")
    assert farther["sure"] == "with caution"
    assert alike["verdict"].startswith("Geodesics are no better than straight lines here")
    for sharp, said in (((0.98, 0.52), "sharper than straight lines, and as close"), ((0.6, 0.5), "no better than")):
        assert said in paths(0.89, 0.89, sharp=sharp)["verdict"]
    noisy = paths(0.89, 0.89, sharp=(9.0, 0.5))
    assert "as close to the data as straight lines, and sharper than the points, maybe by noise" in noisy["verdict"]
    assert (noisy["sure"], noisy["advice"].partition(",")[0]) == ("with caution", "look at the pictures")
    assert "no better than" in paths(0.89, 0.89, sharp=(1.4, 1.2))["verdict"]
    assert "noise" not in paths(0.89, 0.89, sharp=(1.2, 0.5))["verdict"]


def test_one_far_straight_line_is_no_advantage_and_all_of_them_are() -> None:
    """The mean of the differences is the same, and 7 of 8 geodesics are as close as their lines, or all are closer."""
    count = 8
    one = torch.ones(count)
    one[0] = 9.0
    near = torch.ones(count)
    near[1:] += 0.001 * torch.tensor([1.0, -1, 1, -1, 1, -1, 1])
    verdict = of_paths("geodesic", near, [one], [1, 1], straight=False)["verdict"]
    assert "no better than straight lines" in verdict
    every = of_paths("geodesic", near, [torch.full((count,), 2.0)], [1, 1], straight=False)["verdict"]
    assert "stay closer" in every


@pytest.mark.parametrize("count", [2, 5])
def test_few_pairs_say_nothing(count: int) -> None:
    found = paths(0.9, 4.7, count=count)
    assert found["verdict"].startswith("Too few pairs to compare geodesics with straight lines")
    assert found["sure"] == "with caution"
    assert "stay closer" in paths(0.9, 4.7, count=6)["verdict"]


def test_denoised_straight_lines_are_the_harder_baseline() -> None:
    near, lines = torch.full((16,), 1.0), [torch.full((16,), 3.0), torch.full((16,), 0.7)]
    beaten = of_paths("geodesic", near, lines, [1, 1], straight=False)["verdict"]
    assert "no closer than denoised straight lines (0.7)" in beaten
    beats = of_paths("geodesic", near, [lines[0], torch.full((16,), 2.0)], [1, 1], straight=False)["verdict"]
    assert "closer than denoised straight lines too (2)" in beats
    assert "no closer" not in beats


def test_straight_lines_are_called_so_and_sharpness_belongs_to_its_own() -> None:
    lines = of_paths("geodesic", torch.ones(9), [torch.ones(9)], [1, 1], straight=True)
    assert lines["verdict"].startswith("These paths are straight lines")
    assert lines["minor"], "the answer of other paths has their distance too"
    sharp = paths(0.9, 4.7, sharp=(0.8, 0.54))["verdict"]
    assert sharp.endswith("where a data point has 100%: geodesics 80%, straight lines 54%.")


@pytest.mark.parametrize(("count", "limit"), [(98, None), (99, 99), (198, 198), (199, 198), (1000, 991)])
def test_one_point_in_a_hundred_costs_more_than_the_limit(count: int, limit: float | None) -> None:
    """Of costs 1 to n another one exceeds the k-th with probability (n + 1 - k) / (n + 1)."""
    costs = torch.arange(1.0, count + 1)[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
    assert cost_limit(costs) == limit
    if limit is not None:
        assert (count + 1 - limit) / (count + 1) <= 0.01 < (count + 2 - limit) / (count + 1)


def test_the_costs_of_points_say_which_are_unlike_them() -> None:
    costs, names = torch.linspace(-1, 2, 200), [f"row {place}" for place in range(200)]
    found = of_costs(costs, names, cost_limit(costs), "test")
    assert "sure" not in found
    trained = of_costs(costs, names, cost_limit(costs), "train")
    assert (trained["value"], trained["sure"]) == (found["value"], "with caution")
    assert found["value"] == pytest.approx(float(costs[198]))
    assert found["verdict"] == (
        f"A point that costs more than {found['value']:.3g} bits a dimension is unlike the data. "
        "By chance 1% of points like the data cost as much. Of 200 points row 199 costs the most, 2 bits a dimension."
    )
    few = of_costs(costs[:50], names, cost_limit(costs[:50]), "test")
    assert (few["value"], few["quantity"]) == (float(costs[49]), "largest cost (bits a dimension)")
    assert few["verdict"].endswith("There are too few points for a limit, which needs 99.")
    limit = cost_limit(costs)
    others = torch.tensor([0.0, 5.0, found["value"], 9.0])
    said = above_limit(limit, others, ["a", "b", "c", "d"])
    assert said == " 2 of 4 cost more than all but 1% of usual points: b, d."
    assert above_limit(limit, others - 9, ["a"] * 4) == " 0 of 4 cost more than all but 1% of usual points."
    assert above_limit(limit, torch.full((6,), 9.0), list("abcdef")).endswith(": a, b, c, d, e and 1 more.")
    assert above_limit(None, others, ["a"] * 4) == ""


def test_samples_are_as_close_as_training_points_or_farther() -> None:
    close = of_samples(EnergyDistances(-0.01, 0.02, 0.03), "test")
    assert "as close to the test points as training points" in close["verdict"]
    alike = of_samples(EnergyDistances(0.05, 0.02, 0.03), "test")
    assert "do not differ significantly in distance from the test points" in alike["verdict"]
    farther = of_samples(EnergyDistances(0.051, 0.02, 0.03), "test")
    assert "farther from the test points than training points" in farther["verdict"]
    assert "0.051 vs 0.02; a difference of 0.03 can be chance" in farther["verdict"]
    assert farther["baselines"] == {"training points": 0.02}
    assert "baselines" not in of_samples(EnergyDistances(0.3), "test")
    near = EnergyDistances(0.03, 0.02, 0.03)
    assert of_samples(near, "test", 1.0) == of_samples(near, "test")
    alone = of_samples(near, "test", math.inf)["verdict"]
    assert alone.endswith("stand out: samples have speckle, and the test points have none.")
    for ratio, said in ((1.28, "stand out: samples have 1.3 times"), (0.7, "too smooth: samples have 0.7 times")):
        found = of_samples(near, "test", ratio)
        assert f"{said} the speckle of the test points." in found["verdict"]
        assert (found["sure"], found["advice"][:15]) == ("with caution", "train the model")


@pytest.mark.parametrize(
    ("quantity", "value", "training", "said"),
    [
        ("PSNR (dB)", 14.6, 8.6, "closer to the truth than"),
        ("PSNR (dB)", 8.6, 14.6, "farther from the truth than"),
        ("PSNR (dB)", 8.6, 8.5, "no better than"),
        ("energy score", 0.4, 0.9, "closer to the truth than"),
        ("energy score", 0.9, 0.4, "farther from the truth than"),
        ("energy score", 0.9, 1.0, "no better than"),
        ("Frechet distance (random-conv)", 1.0, 2.0, "as close to held-out points as"),
        ("Frechet distance (random-conv)", 2.1, 2.0, "as close to held-out points as"),
        ("Frechet distance (random-conv)", 2.0, 1.0, "farther from held-out points than"),
    ],
)
def test_more_decibels_and_less_distance_are_better(quantity: str, value: float, training: float, said: str) -> None:
    found = of_assessment(quantity, value, [value - 0.2, value + 0.2], training)
    assert said in found["verdict"]
    assert found["baselines"] == {"training points": training}
    assert (found.get("sure") == "with caution") == (said == "farther from the truth than")


@pytest.mark.parametrize(
    ("normal", "said", "advice"),
    [
        (2.5, "better than a normal", ""),
        (1.2, "worse than a normal", "'patience'"),
        (1.98, "no better than", "'patience'"),
    ],
)
def test_less_negative_log_likelihood_is_better(normal: float, said: str, advice: str) -> None:
    found = of_likelihood("nats", 1.96, [1.9, 2.03], normal, None)
    assert said in found["verdict"]
    assert advice in found.get("advice", "")
    assert ("advice" in found) == bool(advice)


def test_bits_are_compared_with_the_bits_of_a_level() -> None:
    found = of_likelihood("bits per dimension", 3.54, [3.43, 3.65], None, None, levels=256)
    said = "3.54 bits per dimension (95% interval 3.43 to 3.65), where 8 are needed without a model."
    assert found["verdict"] == f"The model stores held-out points in {said}"
    assert (found["baselines"], "sure" in found) == ({"without a model": 8}, False)
    useless = of_likelihood("bits per dimension", 8.2, [8.1, 8.3], None, None, levels=256)
    assert useless["advice"].startswith("train the model longer")
    unknown = of_likelihood("negative log-likelihood (nats per dimension)", 1.5, None, None, None, levels=256)[
        "verdict"
    ]
    assert unknown == "Held-out points have negative log-likelihood 1.5 nats per dimension; lower is better."


def test_lengths_of_geodesics_are_compared_with_straight_lines() -> None:
    shorter = of_lengths(torch.tensor([3.0, 5.0]), torch.tensor([4.0, 6.0]))
    said = "Geodesics are 20% shorter than straight lines by this geometry: mean length of 2 pairs 4 vs 5."
    assert (shorter["verdict"], shorter["value"], shorter["baselines"]) == (said, 4.0, {"straight": 5.0})
    assert "no shorter" in of_lengths(torch.ones(2), torch.ones(2))["verdict"]


@pytest.mark.parametrize(("exact", "said"), [(1.948, "inside"), (1.5, "0.46 lower"), (2.5, "0.54 higher")])
def test_the_exact_likelihood_is_inside_or_on_its_own_side(exact: float, said: str) -> None:
    assert f"The exact value is {exact}, {said}" in of_likelihood("nats", 1.96, [1.9, 2.03], None, exact)["verdict"]


def test_a_score_separates_does_no_better_than_chance_or_is_turned_round() -> None:
    right, chance, wrong = (of_auroc("cost", value, 100, 50) for value in (0.95, 0.52, 0.05))
    assert right["verdict"].startswith("Unusual points are separated from usual ones")
    assert chance["verdict"].startswith("The score is no better than chance")
    assert wrong["verdict"].startswith("Unusual points look more usual than usual ones")
    low, high = right["interval"]
    # Hanley and McNeil: Q1 = A / (2 - A), Q2 = 2 A^2 / (1 + A).
    first, second = 0.95 / 1.05, 2 * 0.95**2 / 1.95
    error = ((0.95 * 0.05 + 99 * (first - 0.95**2) + 49 * (second - 0.95**2)) / 5000) ** 0.5
    assert (low, high) == pytest.approx((0.95 - 1.96 * error, 0.95 + 1.96 * error))
    assert of_auroc("cost", 0.52, 10_000, 10_000)["verdict"].startswith("Unusual points are separated")


def test_reconstructions_and_generated_events_have_their_baselines() -> None:
    closer = of_reconstruction(0.55)["verdict"]
    assert (
        closer
        == "Reconstructions are closer to the data points than the mean of the data is: relative error 0.55 vs 1."
    )
    assert of_reconstruction(1.0)["sure"] == "with caution"
    assert "as close to real events as" in of_generated("energy distance", 0.1, 0.2)["verdict"]
    assert "farther from real events than" in of_generated("energy distance", 0.2, 0.1)["verdict"]


def test_a_withheld_answer_keeps_no_number_and_no_confidence() -> None:
    found = withheld({"quantity": "q", "value": 3.0, "interval": [2, 4], "sure": "with caution"}, "too far", "train")
    assert found == {
        "quantity": "q",
        "value": None,
        "interval": None,
        "verdict": "No answer: too far.",
        "advice": "train",
    }
