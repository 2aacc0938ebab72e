"""What a stage does, on models so small that every answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_toys import Quadratic, points

from scorefold import verbs
from scorefold.artefacts import json_text
from scorefold.data import Condition, ConditionSpec, Dataset, EventScale, StreamedDataset, TensorSpec
from scorefold.diffusion import VP
from scorefold.errors import ConfigError, DataError, SplitError, TrainingError
from scorefold.interfaces import Allocator, DataSource, Encodes, Estimator, Flow, Geometry, ScoreModel, TensorSource
from scorefold.nn import StandardNormal
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold.stage import EventGroups, Outcome, StageContext
from scorefold.verb_options import (
    AllocateOptions,
    EncodeOptions,
    EstimateOptions,
    InterpolateOptions,
    LikelihoodOptions,
    SampleOptions,
)

UNIT = EventScale(low=0.0, high=1.0, levels=5)


class Source(DataSource):
    """Splits as given: a data set, or an error that ``load`` raises; what is not given is not there."""

    def __init__(self, scale: EventScale | None = None, **splits: Dataset | DataError) -> None:
        self.splits = splits
        self.event_shape = next(split.event_shape for split in splits.values() if isinstance(split, Dataset))
        self.event_scale = scale or EventScale()

    def load(self, split: str) -> Dataset:
        found = self.splits.get(split, SplitError(f"there is no {split} split"))
        if isinstance(found, DataError):
            raise found
        return found


def rows(count: int, size: int = 2, **columns: Any) -> Dataset:
    return Dataset(torch.arange(float(count))[:, None].expand(count, size).contiguous(), **columns)


class Shifted(Flow):
    """z = x - 1 - condition: the law N(1 + condition, 1)."""

    def __init__(
        self, size: int = 2, *, scale: EventScale | None = None, spec: ConditionSpec | None = None, offset: float = 1.0
    ) -> None:
        super().__init__((size,), StandardNormal(), condition_spec=spec, event_scale=scale)
        self.offset = nn.Parameter(torch.tensor(offset))

    def _shift(self, condition: Condition | None) -> Tensor:
        return self.offset if condition is None else self.offset + condition[:, None]

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return x - self._shift(condition), x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return z + self._shift(condition), z.new_zeros(len(z))


class Normal(ScoreModel):
    """N(0, 1) in each component, noised or not."""

    def __init__(self) -> None:
        super().__init__(VP(), (2,))

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        return -x


def context(**values: Any) -> StageContext:
    return StageContext("here", **values)


def checked(outcome: Outcome) -> dict[str, Any]:
    """The metrics of an outcome whose result is JSON, flat, and made of numbers."""
    assert json_text(outcome.result)
    metrics: dict[str, Any] = outcome.result["metrics"]
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values())
    return metrics


def test_load_reports_what_there_is() -> None:
    truth = {"dimension": 2, "law": "line", "pointwise": torch.ones(3)}
    source = Source(UNIT, train=rows(8), test=rows(3, truth=truth))
    outcome = verbs.load(source, {}, None, context())
    assert outcome.value is source
    assert outcome.drawn is source
    assert checked(outcome) == {"train points": 8, "test points": 3}
    assert outcome.result["truth"] == {"dimension": 2, "law": "line"}
    assert outcome.result["event_shape"] == [2]
    assert outcome.result["event_scale"] == {"low": 0.0, "high": 1.0, "levels": 5, "mean": 0.0, "std": 1.0}


def test_load_needs_a_test_split_and_hides_no_bad_data() -> None:
    with pytest.raises(SplitError, match="no test split"):
        verbs.load(Source(train=rows(2)), {}, None, context())
    for split in ("train", "validation", "test"):
        splits = {"train": rows(2), "test": rows(2), split: DataError("row 3 holds NaN")}
        with pytest.raises(DataError, match="row 3 holds NaN"):
            verbs.load(Source(**splits), {}, None, context())


def test_fit_trains_and_hands_the_model_on(tmp_path: Path) -> None:
    model = Quadratic()
    seen: list[Mapping[str, float]] = []
    bars: list[tuple[int, int, str]] = []
    here = context(
        checkpoint_dir=tmp_path,
        metrics=lambda step, values: seen.append(values),
        progress=lambda done, total, text: bars.append((done, total, text)),
    )
    outcome = verbs.fit(model, {"data": Source(train=points(), validation=points(20))}, None, here)
    assert outcome.value is model
    assert outcome.drawn.history == outcome.result["history"]
    assert outcome.result["trained"]
    metrics = checked(outcome)
    assert metrics["steps"] == 40
    assert metrics["best validation"] == outcome.drawn.best_validation
    assert any("validation" in values for values in seen)
    assert bars[-1][:2] == (40, 40)
    assert list(tmp_path.iterdir())
    assert float(model.centre.detach().norm()) > 0


def test_fit_takes_its_seed_and_dtype_from_the_stage() -> None:
    source = {"data": Source(train=points())}

    def centre(**values: Any) -> Tensor:
        model = Quadratic()
        verbs.fit(model, source, None, context(**values))
        return model.centre.detach()

    assert torch.equal(centre(), centre())
    assert not torch.equal(centre(), centre(seed_root=1))
    wide = Quadratic().double()
    verbs.fit(wide, source, None, context(dtype=torch.float64))
    torch.testing.assert_close(wide.centre.detach().float(), centre(), rtol=1e-3, atol=1e-5)


def test_fit_trains_in_the_precision_of_the_stage() -> None:
    with pytest.raises(TrainingError, match="precision is 'half'"):
        verbs.fit(Quadratic(), {"data": Source(train=points())}, None, context(precision="half"))


def test_fit_passes_over_what_has_nothing_to_train() -> None:
    model = Normal()
    outcome = verbs.fit(model, {}, None, context())
    assert outcome.value is model
    assert outcome.result == {"trained": False}
    assert outcome.drawn == {}


def test_fit_does_without_a_validation_split_but_hides_no_bad_data() -> None:
    for absent in (Source(train=points()), Source(train=points(), validation=points(0))):
        assert "best validation" not in verbs.fit(Quadratic(), {"data": absent}, None, context()).result["metrics"]
    bad = Source(train=points(), validation=DataError("row 3 holds NaN"))
    with pytest.raises(DataError, match="row 3 holds NaN"):
        verbs.fit(Quadratic(), {"data": bad}, None, context())
    with pytest.raises(DataError, match="training split is empty"):
        verbs.fit(Quadratic(), {"data": Source(train=points(0))}, None, context())
    with pytest.raises(SplitError, match="no train split"):
        verbs.fit(Quadratic(), {"data": Source(test=points())}, None, context())


@pytest.mark.parametrize("model", [Shifted(offset=0.0), Normal()])
def test_samples_are_a_source_in_the_units_of_the_model(model: Flow | ScoreModel) -> None:
    outcome = verbs.sample(model, {}, SampleOptions(n=4000, steps=20), context())
    x = outcome.value.load("test").x
    assert x.shape == (4000, 2)
    assert outcome.arrays["samples"] is x
    assert outcome.value.event_scale is model.event_scale
    metrics = checked(outcome)
    assert metrics == {
        "samples": 4000,
        "mean": pytest.approx(float(x.mean())),
        "std": pytest.approx(float(x.std(correction=0))),
    }
    assert metrics["mean"] == pytest.approx(0, abs=0.05)
    assert metrics["std"] == pytest.approx(1, abs=0.05)
    again = verbs.sample(model, {}, SampleOptions(n=4000, steps=20), context())
    assert torch.equal(again.value.load("test").x, x)
    for elsewhere in (context(seed_root=1), StageContext("there")):
        other = verbs.sample(model, {}, SampleOptions(n=4000, steps=20), elsewhere)
        assert not torch.equal(other.value.load("test").x, x)


def test_shown_samples_are_clipped_and_the_samples_are_not() -> None:
    outcome = verbs.sample(Shifted(scale=UNIT), {}, SampleOptions(n=50), context())
    raw = outcome.arrays["samples"]
    assert float(raw.max()) > 1
    assert torch.equal(outcome.drawn, raw.clamp(0, 1))
    above = verbs.sample(Shifted(scale=EventScale(high=1.0)), {}, SampleOptions(n=50), context())
    assert torch.equal(above.drawn, above.arrays["samples"].clamp(max=1))
    cold = verbs.sample(Shifted(), {}, SampleOptions(n=3, temperature=0.0), context())
    assert torch.equal(cold.arrays["samples"], torch.ones(3, 2))


def test_conditions_come_from_the_data_and_their_draws_stay_together() -> None:
    model = Shifted(spec=TensorSpec(()))
    source = Source(
        test=rows(5, condition=torch.tensor([0.0, 100.0, 200.0, 300.0, 400.0])),
        train=rows(2, condition=torch.tensor([-100.0, -200.0])),
    )
    outcome = verbs.sample(model, {"data": source}, SampleOptions(n=30, conditions=3), context())
    x = outcome.arrays["samples"]
    assert x.shape == (90, 2)
    means = x.reshape(3, 30, 2).mean((1, 2))
    torch.testing.assert_close(means, torch.tensor([1.0, 101.0, 201.0]), atol=0.6, rtol=0)
    assert isinstance(outcome.drawn, EventGroups)
    assert torch.equal(outcome.drawn.x.flatten(0, 1), x)
    assert not outcome.drawn.path
    elsewhere = verbs.sample(model, {"data": source}, SampleOptions(n=2), context(split="train"))
    assert elsewhere.arrays["samples"].reshape(2, 2, 2).mean((1, 2)).tolist() == pytest.approx([-99, -199], abs=3)


def test_sampling_says_what_is_missing() -> None:
    model, options = Shifted(spec=TensorSpec(())), SampleOptions(n=2)
    with pytest.raises(ConfigError, match="add 'data: <a data stage>'"):
        verbs.sample(model, {}, options, context())
    with pytest.raises(ConfigError, match="the data given have none"):
        verbs.sample(model, {"data": Source(test=rows(3))}, options, context())
    with pytest.raises(DataError, match="test split has no points"):
        verbs.sample(model, {"data": Source(test=rows(0, condition=torch.zeros(0)))}, options, context())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="samples are not finite"):
        verbs.sample(Shifted(offset=value), {}, SampleOptions(n=2), context())


def test_likelihoods_of_a_flow_are_its_density() -> None:
    x = torch.tensor([[0.0, 1.0], [3.0, -1.0], [2.0, 2.0]])
    outcome = verbs.evaluate_likelihood(
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
    outcome = verbs.evaluate_likelihood(flow, {"data": Source(test=dataset)}, LikelihoodOptions(), context())
    bits = flow.bits_per_dim(dataset.x, generator=context().generator("evaluate")).detach()
    assert checked(outcome)["bits per dimension"] == pytest.approx(float(bits.mean()))
    assert not torch.allclose(bits, flow.bits_per_dim(dataset.x).detach())


def test_likelihoods_of_a_score_model_by_its_flow() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    seen: list[tuple[int, int, str]] = []
    here = context(progress=lambda done, total, text: seen.append((done, total, text)))
    options = LikelihoodOptions(batch_size=1)
    metrics = checked(verbs.evaluate_likelihood(Normal(), {"data": Source(test=Dataset(x))}, options, here))
    expected = float(torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1).mean())
    assert metrics["log-likelihood (nats)"] == pytest.approx(expected, abs=1e-2)
    assert "bits per dimension" not in metrics
    assert [row[:2] for row in seen] == [(1, 2), (2, 2)]


def test_likelihoods_given_conditions_and_of_one_point() -> None:
    conditions = torch.tensor([10.0])
    source = Source(test=Dataset(torch.full((1, 2), 11.0), condition=conditions))
    outcome = verbs.evaluate_likelihood(
        Shifted(spec=TensorSpec(())), {"data": source}, LikelihoodOptions(), context(split="test")
    )
    metrics = checked(outcome)
    assert metrics["log-likelihood (nats)"] == pytest.approx(-math.log(2 * math.pi), rel=1e-6)
    assert "standard error (nats)" not in metrics
    # A model without conditions is not handed those of the data.
    plain = verbs.evaluate_likelihood(Shifted(), {"data": source}, LikelihoodOptions(), context())
    assert checked(plain)["log-likelihood (nats)"] == pytest.approx(-math.log(2 * math.pi) - 100, rel=1e-6)


def test_likelihoods_that_cannot_be_told() -> None:
    with pytest.raises(DataError, match="test split has no points"):
        verbs.evaluate_likelihood(Shifted(), {"data": Source(test=rows(0))}, LikelihoodOptions(), context())
    spoilt = Dataset(torch.tensor([[0.0, 1.0], [math.nan, 1.0], [math.inf, 0.0]]))
    with pytest.raises(DataError, match="2 of 3 log-likelihoods are not finite"):
        verbs.evaluate_likelihood(Shifted(), {"data": Source(test=spoilt)}, LikelihoodOptions(), context())


class Halves(nn.Module, Encodes):
    latent_shape = (1,)

    def encode(self, x: Tensor) -> Tensor:
        return x[:, :1] / 2

    def decode(self, z: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        raise AssertionError("encoding decodes nothing")

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("encoding asks for codes alone")


def test_codes_are_a_source() -> None:
    outcome = verbs.encode(Halves(), {"data": Source(test=rows(7))}, EncodeOptions(limit=5, batch_size=2), context())
    assert outcome.arrays["codes"].flatten().tolist() == [0, 0.5, 1, 1.5, 2]
    assert torch.equal(outcome.value.load("test").x, outcome.arrays["codes"])
    assert outcome.drawn is outcome.arrays["codes"]
    assert checked(outcome) == {"points": 5, "latent dimension": 1}
    with pytest.raises(DataError, match="test split has no points"):
        verbs.encode(Halves(), {"data": Source(test=rows(0))}, EncodeOptions(), context())
    with pytest.raises(ConfigError, match="Normal has no latent space"):
        verbs.encode(Normal(), {"data": Source(test=rows(3))}, EncodeOptions(), context())


def test_points_come_in_the_dtype_of_the_stage() -> None:
    source = {"data": Source(test=rows(6))}
    wide = context(dtype=torch.float64)
    assert verbs.encode(Halves(), source, EncodeOptions(), wide).arrays["codes"].dtype == torch.float64
    assert verbs.estimate(Mean(), source, EstimateOptions(), wide).arrays["pointwise"].dtype == torch.float64
    paths = verbs.interpolate(Flat(), source, InterpolateOptions(pairs=2), wide).arrays["geodesics"]
    assert paths.dtype == torch.float64
    likelihood = verbs.evaluate_likelihood(Shifted().double(), source, LikelihoodOptions(), wide)
    assert checked(likelihood)["log-likelihood (nats)"] < 0


def test_streamed_points_are_encoded_batch_by_batch() -> None:
    held, sizes = rows(7), []

    def fetch(index: Tensor) -> Dataset:
        sizes.append(len(index))
        return held.take(index)

    stream = StreamedDataset(x=held.x[:0], fetch=fetch, size=7)
    outcome = verbs.encode(Halves(), {"data": Source(test=stream)}, EncodeOptions(batch_size=3), context())
    assert outcome.arrays["codes"].flatten().tolist() == [place / 2 for place in range(7)]
    assert sizes == [3, 3, 1]


class Flat(Geometry):
    """Euclidean space, stretched twice."""

    event_shape = (2,)

    def metric(self, x: Tensor) -> Tensor:
        return 4 * torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x


def test_a_geometry_is_handed_on_with_or_without_data() -> None:
    space = Flat()
    bare = verbs.build(space, {}, None, context())
    assert bare.value is space
    assert bare.drawn == {}
    outcome = verbs.build(space, {"data": Source(test=rows(3))}, None, context())
    root = 2 * math.sqrt(2)
    torch.testing.assert_close(outcome.arrays["distances"], root * torch.tensor([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]]))
    assert outcome.value is space
    assert outcome.drawn is outcome.arrays["distances"]
    assert checked(outcome) == {"points": 3, "mean distance": pytest.approx(root * 4 / 3)}
    assert checked(verbs.build(space, {"data": Source(test=rows(1))}, None, context())) == {"points": 1}
    assert verbs.build(space, {"data": Source(test=rows(90))}, None, context()).arrays["distances"].shape == (64, 64)
    with pytest.raises(DataError, match="test split has no points"):
        verbs.build(space, {"data": Source(test=rows(0))}, None, context())


def test_geodesics_between_pairs_that_share_no_point() -> None:
    source = Source(UNIT, test=rows(6))
    options = InterpolateOptions(pairs=3, times=5)
    outcome = verbs.interpolate(Flat(), {"data": source}, options, context())
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
        verbs.interpolate(Flat(), {"data": source}, InterpolateOptions(pairs=4), context())
    assert "at most 3" in str(caught.value)


class Mean(Estimator):
    def __init__(
        self, quantity: str = "intrinsic dimension", interval: tuple[float, float] | None = (0.5, 2.5)
    ) -> None:
        self.quantity, self.interval = quantity, interval

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        assert isinstance(data, Dataset)
        assert generator is not None
        return Estimate(self.quantity, float(data.x.mean()), self.interval, pointwise=data.x[:, 0])


def test_an_estimate_is_held_to_the_truth() -> None:
    source = Source(train=rows(9), test=rows(5, truth={"dimension": 3}))
    outcome = verbs.estimate(Mean(), {"data": source}, EstimateOptions(limit=3), context())
    assert checked(outcome) == {
        "intrinsic dimension": 1.0,
        "intrinsic dimension, lower": 0.5,
        "intrinsic dimension, upper": 2.5,
        "truth": 3,
        "error": -2.0,
    }
    assert outcome.result["estimate"] == outcome.value.summary()
    assert outcome.arrays["pointwise"].tolist() == [0, 1, 2]
    whole = verbs.estimate(Mean(), {"data": source}, EstimateOptions(), context(split="train"))
    assert checked(whole)["intrinsic dimension"] == 4
    assert "truth" not in whole.result["metrics"]
    other = verbs.estimate(Mean("entropy", None), {"data": source}, EstimateOptions(), context())
    assert checked(other) == {"entropy": 2.0}
    with pytest.raises(DataError, match="test split has no points"):
        verbs.estimate(Mean(), {"data": Source(test=rows(0))}, EstimateOptions(), context())


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
    outcome = verbs.allocate(Spender(0.5), {}, options, context())
    assert checked(outcome) == {"tasks": 6, "leftover": 1, "predicted loss": 0.5}
    assert outcome.result["allocation"] == outcome.value.summary()
    assert outcome.result["text"] == outcome.value.text()
    assert "predicted loss" not in verbs.allocate(Spender(), {}, options, context()).result["metrics"]


def test_no_verb_touches_the_global_generator() -> None:
    before = torch.get_rng_state()
    source = {"data": Source(UNIT, train=rows(4), test=rows(4))}
    verbs.sample(Normal(), {}, SampleOptions(n=2, steps=3, sampler="euler-maruyama"), context())
    verbs.sample(Shifted(), {}, SampleOptions(n=2), context())
    verbs.evaluate_likelihood(Normal(), source, LikelihoodOptions(), context())
    verbs.evaluate_likelihood(Shifted(scale=UNIT), source, LikelihoodOptions(), context())
    verbs.interpolate(Flat(), source, InterpolateOptions(pairs=2), context())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tensor_source_says_which_splits_it_has() -> None:
    with pytest.raises(SplitError, match="no 'train' split here; there is test"):
        TensorSource(torch.zeros(2, 2)).load("train")
