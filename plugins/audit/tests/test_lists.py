"""Single points and conditions: what is asked about, training points that lie alone or repeat, points of one class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, TensorSpec
from scorefold.diffusion import VP
from scorefold.errors import ShapeError
from scorefold.interfaces import ScoreModel, TensorSource
from scorefold.stage import StageContext
from scorefold_audit.audit import audit
from scorefold_audit.claims.controls import found, ring_points, split_source
from scorefold_audit.config import AuditOptions
from scorefold_audit.sets import condition_groups
from scorefold_registry import Host

QUICK = {"permutations": 99, "quality_points": 100, "scale": "none", "membership_points": 60}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def asked(model: object, inputs: dict[str, Any], **options: object) -> dict[str, Any]:
    result = audit(model, inputs, AuditOptions.model_validate({**QUICK, **options}), StageContext("a")).result
    found: dict[str, Any] = {**result, **result["audit"]}
    return found


def test_points_that_are_asked_about_are_judged_by_their_neighbours() -> None:
    points = torch.cat([ring_points(20, generator(3)), torch.tensor([[0.0, 0.0], [30.0, 0.0]])])
    data = split_source(ring_points(400, generator(0)), ring_points(400, generator(1)))
    result = asked(
        split_source(test=ring_points(100, generator(2))), {"data": data, "points": split_source(test=points)}
    )
    rows = result["points"]
    assert [row["point"] for row in rows if row["unlike"]] == [20, 21]
    assert rows[21]["why"] == "far from training points"
    assert rows[21]["distance"] > 20
    assert "2 of 22 points are unlike the training data" in " ".join(result["warnings"])
    assert {"part": "likelihoods of points"}.items() <= result["withheld"][-1].items()
    with pytest.raises(ShapeError, match=r"points \(3,\)"):
        asked(
            split_source(test=ring_points(100, generator(2))),
            {"data": data, "points": split_source(test=torch.zeros(5, 3))},
        )


def test_points_that_are_asked_about_are_judged_by_a_score_model(host: Host) -> None:
    config = {"points": 400, "fractions": [0.5, 0, 0.5], "seed": 0}
    data = host.create("data:gaussian-mixture", config)
    model = host.create("score:analytic", data=data)
    inputs = {"data": data, "points": split_source(test=torch.tensor([[40.0, 40.0], [0.1, 0.2]]))}
    result = asked(model, inputs, n=60, steps=8, likelihood=40, dimension_points=40)
    first, second = result["points"]
    assert {"log_likelihood", "dimension", "distance"} <= first.keys()
    assert first["unlike"]
    assert first["log_likelihood"] < second["log_likelihood"] - 10
    assert "points as one set, p-value of their likelihoods" in result["metrics"]
    assert 1.9 < result["metrics"]["local dimension of held-out points (median)"] < 2.1


def test_training_points_that_lie_alone_or_repeat_are_listed() -> None:
    training = ring_points(500, generator(0))
    training[7], training[8] = torch.tensor([50.0, 50.0]), torch.tensor([-40.0, 10.0])
    training[100:110] = training[200:210] + 1e-5
    samples = split_source(test=ring_points(60, generator(2)))
    result = asked(samples, {"data": split_source(training, ring_points(500, generator(1)))})
    assert [row["point"] for row in result["training"]["outliers"][:2]] == [7, 8]
    assert result["training"]["outliers"][0]["p"] == 1 / 501
    # With 500 held-out points 10 outliers are the fewest that can be named.
    assert result["training"]["outliers_named"] == 0
    assert "at least 10" in {row["part"]: row["reason"] for row in result["withheld"]}["names of fewer outliers"]
    training[300:315] = 50 + 20 * torch.randn(15, 2, generator=generator(5))
    named = asked(samples, {"data": split_source(training, ring_points(500, generator(1)))})["training"]
    rows = {row["point"] for row in named["outliers"] if row["named"]}
    assert len(rows & {7, 8, *range(300, 315)}) >= 15
    assert named["outliers_named"] < 22
    pairs = {tuple(row["points"]) for row in result["training"]["near_duplicates"]}
    assert {(100 + row, 200 + row) for row in range(10)} <= pairs
    assert len(pairs) < 16
    verdicts = {verdict["name"]: verdict["found"] for verdict in result["verdicts"]}
    assert verdicts["duplicates"]


def test_conditions_are_numbered_where_there_are_few() -> None:
    sets = [Dataset(torch.zeros(60, 2), torch.arange(60)[:, None] % 3) for _ in range(3)]
    groups = condition_groups(*sets)
    assert groups is not None
    assert [int(each.max()) for each in groups] == [2, 2, 2]
    assert condition_groups(*(Dataset(each.x, torch.randn(60, 2)) for each in sets)) is None
    assert condition_groups(sets[0], sets[1], Dataset(torch.zeros(5, 2))) is None


class Swapped(ScoreModel):
    """N(10 c, 1) for the class c, or for the other one: of all classes together both have the right distribution."""

    def __init__(self, swapped: bool) -> None:
        super().__init__(VP(), (2,), condition_spec=TensorSpec((), classes=2))
        self.swapped = swapped

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        assert isinstance(condition, Tensor)
        signal, noise = self.process.coefficients(x, t)
        wanted = (1 - condition if self.swapped else condition).reshape(-1, 1)
        return -(x - 10 * signal * wanted) / (signal**2 + noise**2)


@pytest.mark.parametrize("swapped", [False, True])
def test_points_are_compared_within_conditions(swapped: bool) -> None:
    def points(seed: int) -> Dataset:
        label = torch.randint(2, (200,), generator=generator(seed))
        return Dataset(10 * label[:, None] + torch.randn(200, 2, generator=generator(seed + 10)), label)

    data = TensorSource({"train": points(0), "test": points(1)}, condition_spec=TensorSpec((), classes=2))
    result = asked(Swapped(swapped), {"data": data}, n=200, steps=12, dimension_points=0, permutations=199)
    assert result["metrics"]["conditions that points are compared within"] == 2
    assert found(result) >= {"off-the-data", "misses-data", "different"} if swapped else not found(result)


class Followed(ScoreModel):
    """N(c, (spread / 2)^2) for the condition c: data have the spread 1."""

    def __init__(self, spread: float) -> None:
        super().__init__(VP(), (1,), condition_spec=TensorSpec((1,)))
        self.spread = spread

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        assert isinstance(condition, Tensor)
        signal, noise = self.process.coefficients(x, t)
        return -(x - signal * condition) / (signal**2 * self.spread**2 / 4 + noise**2)


@pytest.mark.parametrize("spread", [0.4, 1.0])
def test_draws_that_are_too_narrow_for_their_condition_are_warned_of(host: Host, spread: float) -> None:
    """The same spread over all conditions hides what a metric of calibration sees at each."""

    def points(seed: int) -> Dataset:
        condition = torch.randn(1000, 1, generator=generator(seed))
        return Dataset(condition + torch.randn(1000, 1, generator=generator(seed + 10)) / 2, condition)

    data = TensorSource({"train": points(0), "test": points(1)}, condition_spec=TensorSpec((1,)))
    metric = host.create("metric:lc2st", {"exchanges": 99})
    quick: dict[str, Any] = {"n": 1000, "steps": 24, "dimension_points": 0}
    result = asked(Followed(spread), {"data": data, "calibration": metric}, **quick)
    warned = [text for text in result["warnings"] if "by LC2ST" in text]
    assert bool(warned) == (spread < 1)
    assert result["metrics"]["LC2ST p-value"] < 0.02 if spread < 1 else result["metrics"]["LC2ST p-value"] > 0.02
    alone = asked(Followed(spread), {"data": data}, **quick)
    assert "metric:lc2st" in next(row["reason"] for row in alone["withheld"] if row["part"] == "calibration")


def test_copies_within_a_condition_are_found() -> None:
    label = torch.arange(400) % 2
    training, held_out = (
        Dataset(10 * label[:, None] + torch.randn(400, 2, generator=generator(seed)), label) for seed in (0, 1)
    )
    other = Dataset(training.x[:200], label[:200])
    spec = TensorSpec((), classes=2)
    data = TensorSource({"train": training, "test": held_out}, condition_spec=spec)
    result = asked(TensorSource({"test": other}, condition_spec=spec), {"data": data})
    assert {"copies", "memorisation"} <= found(result)
    assert np.isclose(result["answer"]["value"], 1.0)
