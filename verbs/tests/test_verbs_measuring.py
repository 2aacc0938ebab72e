"""What is measured of a model, a code, a geometry, an estimator and an allocator, where every answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from verb_toys import UNIT, Flat, Normal, Shifted, Source, checked, context, rows

from scorefold.data import Dataset, StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import Allocator, Encodes, Estimator
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold.seeds import derive_generator
from scorefold.stage import showing
from scorefold_toolkit.figures import EventGroups
from scorefold_verbs.config import (
    AllocateOptions,
    EncodeOptions,
    EstimateOptions,
    InterpolateOptions,
    LikelihoodOptions,
)
from scorefold_verbs.estimate import allocate as verb_allocate
from scorefold_verbs.estimate import estimate as verb_estimate
from scorefold_verbs.figures import estimate_figures as estimate_figures
from scorefold_verbs.geometry import build as verb_build
from scorefold_verbs.geometry import interpolate as verb_interpolate
from scorefold_verbs.latents import traverse as latent_verbs
from scorefold_verbs.likelihoods import evaluate_likelihood


def test_likelihoods_of_a_flow_are_its_density() -> None:
    x = torch.tensor([[0.0, 1.0], [3.0, -1.0], [2.0, 2.0]])
    outcome = evaluate_likelihood(
        Shifted(), {"data": Source(test=Dataset(x))}, LikelihoodOptions(limit=2, batch_size=1), context()
    )
    expected = torch.distributions.Normal(1.0, 1.0).log_prob(x[:2]).sum(1).double()
    torch.testing.assert_close(outcome.arrays["log_prob"], expected)
    assert outcome.value["log_prob"] is outcome.arrays["log_prob"]
    assert checked(outcome) == {
        "log-likelihood (nats)": pytest.approx(float(expected.mean())),
        "log-likelihood per dimension (nats)": pytest.approx(float(expected.mean()) / 2),
        "standard error (nats)": pytest.approx(float(expected.std()) / math.sqrt(2)),
    }
    assert outcome.result["points"] == 2


def test_discrete_data_have_bits_per_dimension() -> None:
    """Levels 1/4 apart: -log2 p / D by the flow's own measure, with the same draws of the dequantisation."""
    flow, dataset = Shifted(scale=UNIT), Dataset(torch.tensor([[0.25, 0.5], [1.0, 0.0]]))
    outcome = evaluate_likelihood(flow, {"data": Source(test=dataset)}, LikelihoodOptions(), context())
    noise = derive_generator(context().seed("evaluate"), 0)
    bits = flow.bits_per_dim(dataset.x, generator=noise).detach()
    assert checked(outcome)["bits per dimension"] == pytest.approx(float(bits.mean()))
    assert not torch.allclose(bits, flow.bits_per_dim(dataset.x).detach())


def test_likelihoods_of_a_score_model_by_its_flow() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    seen: list[tuple[int, int, str]] = []
    options = LikelihoodOptions(batch_size=1)
    with showing(lambda done, total, text: seen.append((done, total, text))):
        metrics = checked(evaluate_likelihood(Normal(), {"data": Source(test=Dataset(x))}, options, context()))
    expected = float(torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1).mean())
    assert metrics["log-likelihood (nats)"] == pytest.approx(expected, abs=1e-2)
    assert "bits per dimension" not in metrics
    # The ways of both points to noise, each counted as its share of the whole.
    assert {row[1:] for row in seen} == {(2, "log-likelihoods")}
    assert [row[0] for row in seen] == sorted(row[0] for row in seen)
    assert len(seen) >= 4


def test_likelihoods_given_conditions_and_of_one_point() -> None:
    conditions = torch.tensor([10.0])
    source = Source(test=Dataset(torch.full((1, 2), 11.0), condition=conditions))
    outcome = evaluate_likelihood(
        Shifted(spec=TensorSpec(())), {"data": source}, LikelihoodOptions(), context(split="test")
    )
    metrics = checked(outcome)
    assert metrics["log-likelihood (nats)"] == pytest.approx(-math.log(2 * math.pi), rel=1e-6)
    assert "standard error (nats)" not in metrics
    # A model without conditions is not handed the data's conditions.
    plain = evaluate_likelihood(Shifted(), {"data": source}, LikelihoodOptions(), context())
    assert checked(plain)["log-likelihood (nats)"] == pytest.approx(-math.log(2 * math.pi) - 100, rel=1e-6)


def test_likelihoods_that_cannot_be_reported() -> None:
    with pytest.raises(DataError, match="test split has no points"):
        evaluate_likelihood(Shifted(), {"data": Source(test=rows(0))}, LikelihoodOptions(), context())
    spoilt = Dataset(torch.tensor([[0.0, 1.0], [math.nan, 1.0], [math.inf, 0.0]]))
    with pytest.raises(DataError, match="1 of 3 log-likelihoods are not numbers"):
        evaluate_likelihood(Shifted(), {"data": Source(test=spoilt)}, LikelihoodOptions(), context())


class Halves(nn.Module, Encodes):
    latent_shape = (1,)

    def encode(self, x: Tensor) -> Tensor:
        return x[:, :1] / 2

    def decode(self, z: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        raise AssertionError("encoding decodes nothing")

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("encoding asks for codes alone")


def test_codes_are_a_source() -> None:
    outcome = latent_verbs.encode(
        Halves(), {"data": Source(test=rows(7))}, EncodeOptions(limit=5, batch_size=2), context()
    )
    assert outcome.arrays["codes"].flatten().tolist() == [0, 0.5, 1, 1.5, 2]
    assert torch.equal(outcome.value.load("test").x, outcome.arrays["codes"])
    assert outcome.drawn is outcome.arrays["codes"]
    assert checked(outcome) == {"points": 5, "latent dimension": 1}
    with pytest.raises(DataError, match="test split has no points"):
        latent_verbs.encode(Halves(), {"data": Source(test=rows(0))}, EncodeOptions(), context())
    with pytest.raises(ConfigError, match="Normal has no latent space"):
        latent_verbs.encode(Normal(), {"data": Source(test=rows(3))}, EncodeOptions(), context())


def test_points_come_in_the_dtype_of_the_stage() -> None:
    source = {"data": Source(test=rows(6))}
    wide = context(dtype=torch.float64)
    assert latent_verbs.encode(Halves(), source, EncodeOptions(), wide).arrays["codes"].dtype == torch.float64
    assert verb_estimate(Mean(), source, EstimateOptions(), wide).arrays["pointwise"].dtype == torch.float64
    paths = verb_interpolate(Flat(), source, InterpolateOptions(pairs=2), wide).arrays["geodesics"]
    assert paths.dtype == torch.float64
    likelihood = evaluate_likelihood(Shifted().double(), source, LikelihoodOptions(), wide)
    assert checked(likelihood)["log-likelihood (nats)"] < 0


def test_streamed_points_are_encoded_batch_by_batch() -> None:
    held, sizes = rows(7), []

    def fetch(index: Tensor) -> Dataset:
        sizes.append(len(index))
        return held.take(index)

    stream = StreamedDataset(x=held.x[:0], fetch=fetch, size=7)
    outcome = latent_verbs.encode(Halves(), {"data": Source(test=stream)}, EncodeOptions(batch_size=3), context())
    assert outcome.arrays["codes"].flatten().tolist() == [place / 2 for place in range(7)]
    assert sizes == [3, 3, 1]


def test_a_geometry_is_handed_on_with_or_without_data() -> None:
    space = Flat()
    bare = verb_build(space, {}, None, context())
    assert bare.value is space
    assert bare.drawn == {}
    outcome = verb_build(space, {"data": Source(test=rows(3))}, None, context())
    root = 2 * math.sqrt(2)
    torch.testing.assert_close(outcome.arrays["distances"], root * torch.tensor([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]]))
    assert outcome.value is space
    assert outcome.drawn is outcome.arrays["distances"]
    assert checked(outcome) == {"points": 3, "mean distance": pytest.approx(root * 4 / 3)}
    assert checked(verb_build(space, {"data": Source(test=rows(1))}, None, context())) == {"points": 1}
    assert verb_build(space, {"data": Source(test=rows(90))}, None, context()).arrays["distances"].shape == (64, 64)
    with pytest.raises(DataError, match="test split has no points"):
        verb_build(space, {"data": Source(test=rows(0))}, None, context())


def test_geodesics_between_pairs_that_share_no_point() -> None:
    source = Source(UNIT, test=rows(6))
    options = InterpolateOptions(pairs=3, times=5)
    outcome = verb_interpolate(Flat(), {"data": source}, options, context())
    paths = outcome.arrays["geodesics"]
    assert paths.shape == (3, 5, 2)
    ends = paths[:, [0, -1], 0]
    assert sorted(ends.flatten().tolist()) == [0, 1, 2, 3, 4, 5]
    torch.testing.assert_close(paths[:, 2], (paths[:, 0] + paths[:, -1]) / 2)
    lengths = 2 * math.sqrt(2) * (ends[:, 1] - ends[:, 0]).abs()
    torch.testing.assert_close(outcome.arrays["lengths"], lengths)
    assert checked(outcome) == {"pairs": 3, "mean length": pytest.approx(float(lengths.mean()))}
    assert torch.equal(outcome.value.load("test").x, paths.flatten(0, 1))
    assert outcome.value.event_scale is source.event_scale
    assert isinstance(outcome.drawn, EventGroups)
    assert outcome.drawn.path
    assert torch.equal(outcome.drawn.x, paths)
    with pytest.raises(DataError, match="4 pairs need 8 points; the split has 6") as caught:
        verb_interpolate(Flat(), {"data": source}, InterpolateOptions(pairs=4), context())
    assert "at most 3" in str(caught.value)


class Mean(Estimator):
    def __init__(
        self, quantity: str = "intrinsic dimension", interval: tuple[float, float] | None = (0.5, 2.5)
    ) -> None:
        self.quantity, self.interval = quantity, interval

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        assert isinstance(data, Dataset)
        assert generator is not None
        x = data.tensor()
        return Estimate(self.quantity, float(x.mean()), self.interval, pointwise=x[:, 0])


class Near(Mean):
    reads_neighbours = True


class Timed(Source):
    correlation = 30


def test_the_dimension_of_a_series_is_withheld_where_neighbours_are_read() -> None:
    line = Dataset(torch.arange(500.0)[:, None], index=torch.arange(500))
    near, mean = (
        verb_estimate(each, {"data": Timed(test=line)}, EstimateOptions(), context()) for each in (Near(), Mean())
    )
    assert near.value.value is None
    assert near.value.headline.startswith("withheld: 100% of the nearest neighbours start fewer than 30 rows apart")
    assert checked(near) == {}
    assert checked(mean)["intrinsic dimension"] == 249.5
    apart = Timed(test=Dataset(line.x, index=30 * torch.arange(500)))
    assert checked(verb_estimate(Near(), {"data": apart}, EstimateOptions(), context()))["intrinsic dimension"] == 249.5
    entropy = verb_estimate(Near("entropy", None), {"data": Timed(test=line)}, EstimateOptions(), context())
    assert checked(entropy) == {"entropy": 249.5}


class Counting(Near):
    reads_counts = True


def test_the_dimension_of_counts_is_withheld_where_neighbours_are_read() -> None:
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(500, 2, generator=generator) @ torch.randn(2, 6, generator=generator)
    data = Source(test=Dataset(torch.poisson(10 * (latent / 2).exp(), generator=generator)))
    near, mean, counting = (
        verb_estimate(each, {"data": data}, EstimateOptions(), context()) for each in (Near(), Mean(), Counting())
    )
    assert near.value.value is None
    assert near.value.headline.startswith("withheld: the noise of counting counts as dimensions: 6 columns")
    assert "warnings" not in near.value.diagnostics
    for outcome in (mean, counting):
        assert "intrinsic dimension" in checked(outcome)
        assert outcome.value.diagnostics["warnings"][-1].startswith("the noise of counting counts as dimensions")
    entropy = verb_estimate(Near("entropy", None), {"data": data}, EstimateOptions(), context())
    assert "warnings" not in entropy.value.diagnostics
    assert "entropy" in checked(entropy)


def test_an_estimate_is_held_to_the_truth() -> None:
    source = Source(train=rows(9), test=rows(5, truth={"dimension": 3}))
    outcome = verb_estimate(Mean(), {"data": source}, EstimateOptions(limit=3), context())
    assert checked(outcome) == {
        "intrinsic dimension": 1.0,
        "intrinsic dimension, lower": 0.5,
        "intrinsic dimension, upper": 2.5,
        "truth": 3,
        "error": -2.0,
    }
    assert outcome.result["estimate"] == outcome.value.summary()
    assert outcome.arrays["pointwise"].tolist() == [0, 1, 2]
    whole = verb_estimate(Mean(), {"data": source}, EstimateOptions(), context(split="train"))
    assert checked(whole)["intrinsic dimension"] == 4
    assert "truth" not in whole.result["metrics"]
    other = verb_estimate(Mean("entropy", None), {"data": source}, EstimateOptions(), context())
    assert checked(other) == {"entropy": 2.0}
    with pytest.raises(DataError, match="test split has no points"):
        verb_estimate(Mean(), {"data": Source(test=rows(0))}, EstimateOptions(), context())


def test_an_estimate_by_label_answers_for_each_label_too() -> None:
    label = torch.tensor([4] * 12 + [0] * 10 + [2] * 3)
    data = Source(test=rows(25, label=label))
    data.label_names = ("zero", "one", "two", "3", "4")
    outcome = verb_estimate(Mean(), {"data": data}, EstimateOptions(by="label"), context())
    plain = verb_estimate(Mean(), {"data": data}, EstimateOptions(), context())
    assert checked(outcome) == checked(plain)
    assert "by_label" not in plain.result
    first, second = outcome.result["by_label"]
    assert first == {
        "label": 0,
        "name": "zero",
        "points": 10,
        "quantity": "intrinsic dimension",
        "value": 16.5,
        "interval": [0.5, 2.5],
    }
    assert (second["label"], second["name"], second["points"], second["value"]) == (4, None, 12, 5.5)
    assert outcome.result["warnings"] == ["label 2 (two) is left out: 3 points, fewer than 10"]
    (axes,) = estimate_figures(outcome.drawn)["by-label"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["4", "zero"], "the smallest first"
    assert [text.get_text() for text in axes.texts] == ["5.5", "16.5"]
    assert "by-label" not in estimate_figures(plain.drawn)
    whole = rows(25, label=label)
    stream = StreamedDataset(x=whole.x[:0], fetch=whole.take, size=25)
    streamed = verb_estimate(Mean(), {"data": Source(test=stream)}, EstimateOptions(by="label"), context())
    assert [row["value"] for row in streamed.result["by_label"]] == [16.5, 5.5]


def test_labels_that_an_estimator_can_not_answer_for_are_named() -> None:
    class Picky(Mean):
        def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> Estimate:
            if len(data) < 20:
                raise DataError(f"20 points are needed; given {len(data)}")
            return super().estimate(data, generator=generator)

    label = torch.tensor([0] * 15 + [1] * 20)
    outcome = verb_estimate(
        Picky(), {"data": Source(test=rows(35, label=label))}, EstimateOptions(by="label"), context()
    )
    assert [row["label"] for row in outcome.result["by_label"]] == [1]
    assert outcome.result["warnings"] == ["label 0 is left out: 20 points are needed; given 15"]
    with pytest.raises(DataError, match="these data have no labels"):
        verb_estimate(Mean(), {"data": Source(test=rows(35))}, EstimateOptions(by="label"), context())
    with pytest.raises(ValidationError):
        EstimateOptions.model_validate({"by": "class"})


class Unsure(Estimator):
    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        return Estimate("intrinsic dimension", None, headline="1 to 3, depending on the scale; no single dimension")


def test_an_estimate_without_a_value_has_no_metrics_and_answers_with_its_headline() -> None:
    source = Source(train=rows(9), test=rows(5, truth={"dimension": 3}))
    outcome = verb_estimate(Unsure(), {"data": source}, EstimateOptions(), context())
    assert checked(outcome) == {}
    assert outcome.result["answer"] == {
        "quantity": "intrinsic dimension",
        "value": None,
        "interval": None,
        "headline": "1 to 3, depending on the scale; no single dimension",
        "truth": 3,
    }


class Spender(Allocator):
    def __init__(self, loss: float | None = None) -> None:
        self.loss = loss

    def allocate(
        self,
        budget: int,
        *,
        pilot: Any = None,
        constraints: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Allocation:
        assert pilot is None
        assert generator is not None
        shots = dict(constraints or {}).get("shots", 1)
        plan = (PlanRow("a", budget // (2 * shots), shots, 0), PlanRow("b", 1, shots, 0))
        return Allocation("feasible", plan, budget % (2 * shots), predicted_loss=self.loss)


def test_an_allocation_is_reported() -> None:
    options = AllocateOptions(budget=31, constraints={"shots": 3})
    outcome = verb_allocate(Spender(0.5), {}, options, context())
    assert checked(outcome) == {"tasks": 6, "leftover": 1, "predicted loss": 0.5}
    assert outcome.result["allocation"] == outcome.value.summary()
    assert outcome.result["text"] == outcome.value.text()
    assert "predicted loss" not in verb_allocate(Spender(), {}, options, context()).result["metrics"]


class Warned(Flat):
    """Flat, and unsure of itself."""

    def diagnose(self, points: Tensor) -> tuple[dict[str, float], list[str]]:
        return {"points": float(len(points))}, ["it was drawn up for a test"]


def test_what_a_geometry_says_against_itself_is_in_the_result() -> None:
    source = {"data": Source(UNIT, test=rows(600))}
    for outcome in (
        verb_build(Warned(), source, None, context()),
        verb_interpolate(Warned(), source, InterpolateOptions(pairs=2), context()),
    ):
        checked(outcome)
        assert outcome.result["diagnostics"] == {"points": 512}
        assert outcome.result["warnings"] == ["it was drawn up for a test"]
    sure = verb_build(Flat(), source, None, context()).result
    assert "diagnostics" not in sure
    assert "warnings" not in sure
