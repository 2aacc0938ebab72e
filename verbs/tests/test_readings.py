"""What the number of a stage is compared with."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from verb_toys import Normal, Posterior, Shifted, Source, context

from scorefold.data import ConditionSpec, Dataset, TensorSpec
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Metric, Units
from scorefold_verbs.assess import assess
from scorefold_verbs.config import AssessOptions, LikelihoodOptions, OutlierOptions, SampleOptions
from scorefold_verbs.likelihoods import evaluate_likelihood, outliers
from scorefold_verbs.references import distinct_training_points, energy_distances, gaussian_log_density
from scorefold_verbs.sample import sample
from scorefold_verbs.verdicts import of_path


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shifted(**splits: int) -> Source:
    """Points of the distribution of ``Shifted``: normal about 1, in the plane."""
    return Source(**{name: Dataset(1 + normal(count, 2, seed=count)) for name, count in splits.items()})


def test_the_density_of_a_normal_distribution_is_its_own() -> None:
    """The mean log-density of N(m, S) under itself is -(D log 2 pi e + log det S) / 2."""
    factor = torch.tensor([[1.0, 0.0], [3.0, 0.5]], dtype=torch.float64)
    points = [Dataset(7 + normal(20_000, 2, seed=seed) @ factor.T) for seed in (1, 2)]
    found = gaussian_log_density(Source(train=points[0], test=points[1]), points[1], context())
    assert found == pytest.approx(-math.log(2 * math.pi * math.e) - math.log(0.5), abs=0.04)


def test_no_normal_distribution_of_too_few_or_flat_points() -> None:
    test = Dataset(normal(5, 3, seed=1))
    assert gaussian_log_density(Source(train=Dataset(normal(5, 3, seed=2)), test=test), test, context()) is None
    flat = normal(50, 3, seed=2) * torch.tensor([1.0, 1.0, 0.0])
    assert gaussian_log_density(Source(train=Dataset(flat), test=test), test, context()) is None
    assert gaussian_log_density(Source(test=test), test, context()) is None


def test_training_points_are_different_ones_and_not_those_that_are_read() -> None:
    source = Source(train=Dataset(torch.arange(5.0)[:, None]), test=Dataset(torch.zeros(1, 1)))
    for count in (4, 12):
        found = distinct_training_points(source, count, context())
        assert found is not None
        assert len(found.tensor().unique()) == len(found) == min(count, 5)
    assert distinct_training_points(source, 4, replace(context(), split="train")) is None
    assert distinct_training_points(Source(test=Dataset(torch.zeros(1, 1))), 4, context()) is None


def test_a_likelihood_is_compared_with_a_normal_distribution() -> None:
    source = shifted(train=4000, test=400)
    options = LikelihoodOptions(limit=400)
    answer = evaluate_likelihood(Shifted().double(), {"data": source}, options, context()).result["answer"]
    normal_one = answer["baselines"]["normal distribution"]
    assert normal_one == pytest.approx(answer["value"], abs=0.01), "it is the distribution of the model"
    assert answer["verdict"].startswith("The model is no better than a normal distribution")
    alone = evaluate_likelihood(Shifted().double(), {"data": shifted(test=40)}, LikelihoodOptions(), context())
    assert "baselines" not in alone.result["answer"]


def test_samples_are_compared_with_training_points() -> None:
    source = shifted(train=501, test=500)
    right = sample(Shifted().double(), {"data": source}, SampleOptions(n=500), context()).result
    assert right["answer"]["quantity"] == "energy distance from the test points"
    assert abs(right["answer"]["value"]) < 0.03
    assert (
        right["answer"]["baselines"]["training points"]
        == right["metrics"]["energy distance of training points from them"]
    )
    among = sample(Shifted().double(), {"data": source}, SampleOptions(n=30), context()).shown.among
    assert len(among) == 30
    assert bool((among[:, None] == source.load("test").tensor()).all(2).any(1).all()), "held-out points stand behind"
    wrong = sample(Normal().double(), {"data": source}, SampleOptions(n=500, steps=10), context()).result
    assert wrong["answer"]["value"] > 0.1
    assert wrong["answer"]["verdict"].startswith("Samples lie farther from the test points than training points do")
    unlike = Source(train=Dataset(normal(9, 2, seed=1))), Source(test=Dataset(normal(9, 3, seed=1)))
    for other in ({}, *({"data": source} for source in unlike)):
        assert "answer" not in sample(Shifted().double(), other, SampleOptions(n=5), context()).result


def test_few_training_points_are_not_counted_twice() -> None:
    """Copies of a point are no distance apart, which would make training points look far from the data."""
    answers = {
        count: sample(
            Shifted().double(), {"data": shifted(train=count, test=320)}, SampleOptions(n=300), context()
        ).result["answer"]
        for count in (9, 12)
    }
    assert "baselines" not in answers[9]
    assert abs(answers[12]["baselines"]["training points"]) < 0.4


def test_wide_events_are_compared_in_seconds() -> None:
    wide = Source(train=Dataset(torch.randn(400, 3, 64, 64)), test=Dataset(torch.randn(400, 3, 64, 64)))
    began = time.process_time()
    assert energy_distances(torch.randn(400, 3, 64, 64), wide, context()) is not None
    assert time.process_time() - began < 30


@pytest.mark.parametrize("conditional", [True, False])
def test_an_assessment_is_compared_with_training_points(conditional: bool) -> None:
    condition = normal(900, 2, seed=1)
    x = condition + normal(900, 2, seed=2)
    train, test = (Dataset(x[part], condition=condition[part]) for part in (slice(300, 900), slice(0, 300)))
    model: Any = Posterior(spec=TensorSpec((2,))) if conditional else Posterior()
    source = Source(train=train, test=test)
    options = AssessOptions(n=5, conditions=300, steps=20, batch_size=400)
    answer = assess(model.double(), {"data": source}, options, context()).result["answer"]
    value = answer["baselines"]["training points"]
    if conditional:
        assert answer["quantity"] == "energy score"
        assert value > answer["value"] + 0.2, "points that know nothing of the condition are worse"
        assert answer["verdict"].startswith("Samples are closer to the truth than random training points")
    else:
        assert answer["quantity"] == "energy distance"
        assert abs(value) < 0.05


def test_training_points_reach_only_the_measure_that_gives_the_answer() -> None:
    seen: list[int] = []

    class Counts(Measure):
        def add(self, batch: EvaluationBatch) -> None:
            seen.append(len(batch.draws.flatten(0, 1)))

        def metrics(self) -> dict[str, float]:
            return {}

    class Counting(Metric):
        def start(self, units: Units, event_shape: tuple[int, ...], condition_spec: ConditionSpec | None) -> Measure:
            return Counts()

    source = Source(train=Dataset(normal(90, 2, seed=1)), test=Dataset(normal(30, 2, seed=2)))
    options = AssessOptions(n=5, conditions=30, steps=2)
    outcome = assess(Posterior().double(), {"data": source, "metrics": [Counting()]}, options, context())
    assert "training points" in outcome.result["answer"]["baselines"]
    assert sum(seen) == 5 * 30, "a metric that gives no answer is shown each draw once, and no training point"


def test_unusual_points_are_compared_with_chance() -> None:
    found = outliers(
        Shifted().double(),
        {"data": shifted(test=100), "unusual": Source(test=Dataset(9 + normal(100, 2, seed=5)))},
        OutlierOptions(),
        context(),
    )
    assert found.result["answer"]["quantity"] == "AUROC by cost"
    assert found.result["answer"]["value"] > 0.99
    assert found.result["answer"]["verdict"].startswith("Unusual points are separated from usual ones")
    assert found.result["answer"]["interval"][0] > 0.95
    assert "100 of 100 cost more than all but 1% of usual points: row 0, row 1, " in found.result["answer"]["verdict"]
    alone = outliers(Shifted().double(), {"data": shifted(test=100)}, OutlierOptions(), context()).result["answer"]
    assert alone["value"] == pytest.approx(float(found.arrays["cost"].max()))
    assert alone["verdict"].startswith("A point that costs more than ")


def test_points_are_compared_with_the_limit_of_others() -> None:
    model, usual = Shifted().double(), shifted(test=200)
    limit = outliers(model, {"data": usual}, OutlierOptions(), context()).result["answer"]["value"]
    mixed = torch.cat([usual.load("test").x[:40], 9 + normal(10, 2, seed=5)])
    given = {"data": Source(test=Dataset(mixed))}
    found = outliers(model, given, OutlierOptions(above=limit), context()).result
    assert found["answer"]["quantity"] == "share of points unlike the data"
    assert found["answer"]["value"] == pytest.approx(10 / 50, abs=1 / 50)
    assert "row 40, row 41" in found["answer"]["verdict"]
    assert found["metrics"]["limit of the cost (bits a dimension)"] == limit


def test_straight_lines_across_a_circle_leave_the_data() -> None:
    angle = torch.linspace(0, 2 * math.pi, 400, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    noise = normal(100, 2, seed=1) * 0.01
    source = Source(train=Dataset(circle))
    start = circle[:50] + noise[:50]
    found, result, warnings = of_path(start, start, -start, source, what="decoded")
    assert warnings == []
    assert found["middles from the data"] == result["answer"]["value"] == pytest.approx(1, abs=0.3)
    low, high = result["answer"]["interval"]
    assert low < high
    assert (low + high) / 2 == pytest.approx(result["answer"]["value"])
    assert result["answer"]["baselines"]["straight"] > 20
    assert result["answer"]["verdict"].startswith("Decoded paths stay closer to the data than straight lines")


def test_paths_that_are_lost_have_no_answer() -> None:
    """Three times as far from the data as straight lines is the limit."""
    points = normal(200, 2, seed=1)
    source = Source(train=Dataset(points))
    start, end = normal(50, 2, seed=2), normal(50, 2, seed=3)
    for far in (0.0, 1000.0, math.nan):
        found, result, warnings = of_path(start + far, start, end, source, what="decoded")
        assert (result["answer"]["value"] is None) == (far != 0)
        assert (result["answer"]["interval"] is None) == (far != 0)
        assert len(warnings) == (far != 0)
        if far:
            assert "the model has not learned these data" in warnings[0]
            assert result["answer"]["verdict"].startswith("No answer: the middles of the paths lie at")
            assert found == {}
        else:
            assert found["middles from the data"] == result["answer"]["value"]
    _, straight, _ = of_path((start + end) / 2, start, end, source, what="decoded")
    assert straight["answer"]["verdict"].startswith("These paths are straight lines")
    _, bent, _ = of_path((start + end) / 2 + 0.01 * (end - start), start, end, source, what="decoded")
    assert not bent["answer"]["verdict"].startswith("These paths are straight lines")
    at = float(straight["answer"]["value"])
    usual = torch.cdist(torch.cat([start, end]), points).amin(1).mean()
    for times, withheld in ((2.9, False), (3.1, True)):
        apart = times * max(1.0, at) * float(usual)
        away = points[points[:, 0].argmax()] + torch.tensor([apart, 0.0])
        found, result, _ = of_path(away.expand(50, 2), start, end, source, what="decoded")
        assert (result["answer"]["value"] is None) == withheld
        if not withheld:
            assert found["middles from the data"] == pytest.approx(times * max(1.0, at), rel=1e-6)
