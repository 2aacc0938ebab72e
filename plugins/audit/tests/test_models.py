"""Models: exact scores that memorise and that don't, flows with and without a training, conditions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, TensorSpec
from scorefold.diffusion import VP
from scorefold.errors import DataError
from scorefold.interfaces import ScoreModel, TensorSource
from scorefold.stage import Executor, StageContext, job_function
from scorefold_audit.audit import audit
from scorefold_audit.claims.controls import found, ring_points, sphere_points
from scorefold_audit.config import AuditOptions
from scorefold_audit.membership.losses import denoising_losses, likelihood_gap, membership, time_at
from scorefold_audit.sets import read_sets
from scorefold_registry import Host

QUICK = {"permutations": 99, "quality_points": 100, "n": 200, "steps": 12}


def audited(model: object, data: TensorSource, **options: object) -> dict:
    asked = AuditOptions.model_validate({**QUICK, **options})
    return audit(model, {"data": data}, asked, StageContext("audit")).result


def mixture(host: Host, **config: object) -> tuple[object, TensorSource]:
    """An exact score of a mixture of Gaussians, or of its training points, and the data."""
    data = host.create("data:gaussian-mixture", {"points": 600, "fractions": [0.5, 0, 0.5], "seed": 0})
    return host.create("score:analytic", config, data=data), data


def test_a_score_of_its_training_points_is_caught_by_samples_and_by_losses(host: Host) -> None:
    result = audited(*mixture(host, points=True))
    assert {"copies", "memorisation", "membership"} <= found(result)
    assert result["metrics"]["training points with less loss than held-out points"] > 0.8
    assert {row["part"] for row in result["audit"]["withheld"]} >= {"likelihood"}


def test_a_score_of_the_distribution_gives_nothing_away(host: Host) -> None:
    result = audited(*mixture(host), likelihood=30)
    assert not found(result) & {"copies", "memorisation", "membership", "likelihood-gap"}
    assert "log-likelihood of held-out points (nats)" in result["metrics"]


def test_losses_at_the_nearest_time_are_as_in_the_closed_form(host: Host) -> None:
    """A memoriser's loss is far below 1 on its points: at noise below their distances it knows the noise exactly."""
    model, data = mixture(host, points=True)
    training, held_out = data.load("train"), data.load("test")
    time = time_at(model, 0.05, training.x)
    assert float(model.process.log_snr(time)) == pytest.approx(-2 * np.log(0.05), abs=1e-3)
    known, other = (denoising_losses(model, points, time, 4, 100, 0) for points in (training, held_out))
    assert membership(known, other).apart.area > 0.9
    assert np.median(known) < 0.1 * np.median(other)


def test_membership_needs_points_and_is_chance_for_equal_losses() -> None:
    losses = np.random.default_rng(0).normal(size=400)
    result = membership(losses[:200], losses[200:])
    assert result.apart.p > 0.01
    assert result.found is not None
    assert result.found < 0.06
    assert membership(losses[:30], losses[200:230]).found is None
    with pytest.raises(DataError, match="at least 20 held-out points; 19"):
        membership(losses, losses[:19])
    gap = likelihood_gap(losses[:200] + 1, losses[200:])
    assert gap.interval[0] < gap.difference < gap.interval[1]
    assert gap.p < 1e-6
    assert gap.difference == pytest.approx(1, abs=0.3)


def test_a_flow_has_its_likelihood_without_asking(host: Host) -> None:
    data = host.create("data:gaussian-mixture", {"points": 600, "fractions": [0.5, 0, 0.5], "seed": 0})
    flow = host.create("flow:affine-coupling", {"layers": 2, "training": {"steps": 0}}, data=data).eval()
    result = audited(flow, data)
    assert {"membership", "likelihood-gap"} <= {verdict["name"] for verdict in result["audit"]["verdicts"]}
    assert not found(result) & {"copies", "membership", "likelihood-gap"}


def test_samples_are_drawn_in_jobs_with_the_same_bits(host: Host) -> None:
    model, data = mixture(host)

    class Apart(Executor):
        """Jobs one after another, as another process would get them."""

        keys: ClassVar[list[str]] = []

        def map(self, target: str, items: Iterable[Any], key: str) -> list[Any]:
            self.keys.append(key)
            return [job_function(target)(item) for item in items]

    options = AuditOptions.model_validate({**QUICK, "batch_size": 50})
    one, other = (
        read_sets(model, {"data": data}, options, StageContext("audit", executor=executor)).samples.x
        for executor in (None, Apart())
    )
    assert Apart.keys == ["samples"]
    assert torch.equal(one, other)


class Shifted(ScoreModel):
    """N(condition, 1) in each of two components."""

    def __init__(self) -> None:
        super().__init__(VP(), (2,), condition_spec=TensorSpec((2,)))

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        signal, noise = self.process.coefficients(x, t)
        return -(x - signal * condition) / (signal**2 + noise**2)


def test_a_conditional_model_gets_the_conditions_of_held_out_points() -> None:
    generator = torch.Generator().manual_seed(0)

    def points() -> Dataset:
        condition = 10 * torch.randn(200, 2, generator=generator)
        return Dataset(condition + torch.randn(200, 2, generator=generator), condition)

    result = audited(Shifted(), TensorSource({"train": points(), "test": points()}), membership_points=50)
    assert not found(result)
    assert "too many different values" in result["warnings"][0]


def test_the_dimension_of_samples_is_compared(host: Host) -> None:
    generator = torch.Generator().manual_seed(0)
    data = TensorSource(
        {"train": Dataset(sphere_points(300, generator)), "test": Dataset(sphere_points(300, generator))}
    )
    flat = TensorSource({"test": Dataset(torch.cat([ring_points(300, generator), torch.zeros(300, 48)], 1) * 0.2)})
    options = AuditOptions.model_validate({**QUICK, "n": 300})
    estimator = host.create("estimator:mle", {"resamples": 0})
    metrics = audit(flat, {"data": data, "estimator": estimator}, options, StageContext("a")).result["metrics"]
    assert metrics["dimension of samples"] == pytest.approx(2, abs=0.4)
    assert metrics["dimension of held-out points"] == pytest.approx(9, abs=2)
