"""Loading, training and drawing, on models so small that every answer is known."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from training_toys import Quadratic, points
from verb_toys import UNIT, Flat, Normal, Shifted, Source, checked, context, rows

from scorefold.config import TrainingConfig
from scorefold.data import Condition, Dataset, EventScale, TensorSpec
from scorefold.diffusion import VE
from scorefold.diffusion.process import DiffusionProcess
from scorefold.errors import ConfigError, DataError, PluginError, SplitError, TrainingError
from scorefold.interfaces import Flow, Loss, Progress, ScoreModel, TensorSource, Trainable
from scorefold.results import Estimate
from scorefold.stage import StageContext
from scorefold_registry.run.units import unit_warnings
from scorefold_toolkit.figures import EventGroups
from scorefold_verbs.assess import assess
from scorefold_verbs.config import (
    AssessOptions,
    InterpolateOptions,
    LikelihoodOptions,
    SampleOptions,
)
from scorefold_verbs.fit import fit as verb_fit
from scorefold_verbs.geometry import interpolate as verb_interpolate
from scorefold_verbs.likelihoods import evaluate_likelihood
from scorefold_verbs.load import data as data_figures
from scorefold_verbs.load import load as verb_load
from scorefold_verbs.sample import sample as verb_sample


def test_load_reports_what_there_is() -> None:
    truth = {"dimension": 2, "distribution": "line", "pointwise": torch.ones(3)}
    source = Source(UNIT, train=rows(8), test=rows(3, truth=truth))
    outcome = verb_load(source, {}, None, context())
    assert outcome.value is source
    assert outcome.drawn is source
    assert checked(outcome) == {"train points": 8, "test points": 3}
    assert outcome.result["truth"] == {"dimension": 2, "distribution": "line"}
    assert outcome.result["event_shape"] == [2]
    assert outcome.result["event_scale"] == {"low": 0.0, "high": 1.0, "levels": 5, "mean": 0.0, "std": 1.0}


def test_load_needs_some_split_and_hides_no_bad_data() -> None:
    loaded = verb_load(Source(train=rows(2)), {}, None, context())
    assert loaded.result["metrics"] == {"train points": 2}
    (figure,) = data_figures(loaded.value).values()
    assert figure.axes[0].get_title() == "All points"
    (figure,) = data_figures(Source(train=rows(4), test=rows(3))).values()
    assert figure.axes[0].get_title() == "The test split"
    (figure,) = data_figures(Source(train=rows(0), validation=rows(0), test=rows(3))).values()
    assert figure.axes[0].get_title() == "All points"
    with pytest.raises(SplitError, match="no test split"):
        verb_load(Source(train=SplitError("there is no train split"), x=rows(2)), {}, None, context())
    for split in ("train", "validation", "test"):
        splits = {"train": rows(2), "test": rows(2), split: DataError("row 3 holds NaN")}
        with pytest.raises(DataError, match="row 3 holds NaN"):
            verb_load(Source(**splits), {}, None, context())


def test_sources_that_break_their_contract_are_named() -> None:
    class Bare(Source):
        def load(self, split: str) -> Dataset:
            return torch.ones(3, 2)  # type: ignore[return-value]

    with pytest.raises(PluginError, match=r"load of .*Bare returned a Tensor in stage '.*'; expected a Dataset"):
        verb_load(Bare(train=rows(2)), {}, None, context())
    source = Source(train=rows(2))
    source.event_shape = (3,)
    with pytest.raises(PluginError, match=r"declares the event_shape \(3,\), and load\('train'\) gives events \(2,\)"):
        verb_load(source, {}, None, context())
    del source.event_scale
    with pytest.raises(PluginError, match="Source has no event_scale; expected an EventScale"):
        verb_load(source, {}, None, context())


def test_models_that_break_the_contract_of_trainings_are_named() -> None:
    class Plain(Quadratic):
        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            return super().loss(batch, progress=progress, generator=generator).value  # type: ignore[return-value]

    given = {"data": Source(train=points(8))}
    with pytest.raises(PluginError, match=r"loss of .*Plain returned a Tensor; expected a Loss") as caught:
        verb_fit(Plain(), given, None, context())
    assert "with 'return Loss(...)'" in str(caught.value.hint)
    model = Quadratic()
    del model.training_config
    with pytest.raises(PluginError, match="Quadratic is Trainable and has no training_config"):
        verb_fit(model, given, None, context())


def test_fit_trains_and_hands_the_model_on(tmp_path: Path) -> None:
    model = Quadratic()
    seen: list[Mapping[str, float]] = []
    bars: list[tuple[int, int, str]] = []
    here = context(
        checkpoint_dir=tmp_path,
        metrics=lambda step, values: seen.append(values),
        progress=lambda done, total, text: bars.append((done, total, text)),
    )
    outcome = verb_fit(model, {"data": Source(train=points(), validation=points(20))}, None, here)
    assert outcome.value is model
    assert outcome.drawn.model is model
    assert outcome.drawn.events.shape == (64, *points().event_shape)
    assert outcome.drawn.report.history == outcome.result["history"]
    assert outcome.result["trained"]
    metrics = checked(outcome)
    assert metrics["steps"] == 40
    assert metrics["best validation"] == outcome.drawn.report.best_validation
    assert any("validation" in values for values in seen)
    assert bars[-1][:2] == (40, 40)
    assert list(tmp_path.iterdir())
    assert float(model.centre.detach().norm()) > 0


def test_figures_of_a_training_get_events_with_their_conditions() -> None:
    few = Dataset(points().x, condition={"place": torch.arange(100.0)[:, None]})
    shown = verb_fit(Quadratic(), {"data": Source(train=few)}, None, context()).drawn
    assert torch.equal(shown.events, few.x[:64])
    assert torch.equal(shown.condition["place"][:, 0], torch.arange(64.0))
    assert verb_fit(Quadratic(), {"data": Source(train=points())}, None, context()).drawn.condition is None


def test_fit_takes_its_seed_and_dtype_from_the_stage() -> None:
    source = {"data": Source(train=points())}

    def centre(**values: Any) -> Tensor:
        model = Quadratic()
        verb_fit(model, source, None, context(**values))
        return model.centre.detach()

    assert torch.equal(centre(), centre())
    assert not torch.equal(centre(), centre(seed_root=1))
    wide = Quadratic().double()
    verb_fit(wide, source, None, context(dtype=torch.float64))
    torch.testing.assert_close(wide.centre.detach().float(), centre(), rtol=1e-3, atol=1e-5)


def test_fit_trains_in_the_precision_of_the_stage() -> None:
    with pytest.raises(TrainingError, match="precision is 'half'"):
        verb_fit(Quadratic(), {"data": Source(train=points())}, None, context(precision="half"))


def test_fit_passes_over_what_has_nothing_to_train() -> None:
    model = Normal()
    outcome = verb_fit(model, {}, None, context())
    assert outcome.value is model
    assert outcome.result == {"trained": False}
    assert outcome.drawn == {}


def test_fit_does_without_a_validation_split_but_hides_no_bad_data() -> None:
    for absent in (Source(train=points()), Source(train=points(), validation=points(0))):
        assert "best validation" not in verb_fit(Quadratic(), {"data": absent}, None, context()).result["metrics"]
    bad = Source(train=points(), validation=DataError("row 3 holds NaN"))
    with pytest.raises(DataError, match="row 3 holds NaN"):
        verb_fit(Quadratic(), {"data": bad}, None, context())
    with pytest.raises(DataError, match="training split is empty"):
        verb_fit(Quadratic(), {"data": Source(train=points(0))}, None, context())
    with pytest.raises(SplitError, match="no train split"):
        verb_fit(Quadratic(), {"data": Source(test=points())}, None, context())


@pytest.mark.parametrize("model", [Shifted(offset=0.0), Normal()])
def test_samples_are_a_source_in_the_units_of_the_model(model: Flow | ScoreModel) -> None:
    outcome = verb_sample(model, {}, SampleOptions(n=4000, steps=20), context())
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
    assert metrics["mean"] == pytest.approx(0, abs=0.06)
    assert metrics["std"] == pytest.approx(1, abs=0.05)
    again = verb_sample(model, {}, SampleOptions(n=4000, steps=20), context())
    assert torch.equal(again.value.load("test").x, x)
    for elsewhere in (context(seed_root=1), StageContext("there")):
        other = verb_sample(model, {}, SampleOptions(n=4000, steps=20), elsewhere)
        assert not torch.equal(other.value.load("test").x, x)


def test_draws_for_one_condition_are_answered_in_the_units_of_the_file() -> None:
    """N(1 + 4, 1) in the model's units, times 10 and 50 more: 100 and 10."""
    model = Shifted(spec=TensorSpec(()), scale=EventScale(shift=50.0, factor=10.0))

    def answer(conditions: Tensor) -> Any:
        source = Source(test=Dataset(torch.zeros(len(conditions), 2), condition=conditions))
        return verb_sample(model, {"data": source}, SampleOptions(n=4000), context()).result.get("answer")

    found = answer(torch.tensor([4.0]))
    assert found["value"] == pytest.approx(100, abs=0.6)
    text = re.fullmatch(r"Mean and deviation of 4,000 samples, by number: (.*) ± (.*), (.*) ± (.*)\.", found["verdict"])
    assert text is not None
    assert [float(each) for each in text.groups()] == pytest.approx([100, 10, 100, 10], abs=0.6)
    assert answer(torch.tensor([4.0, 5.0, 6.0, 7.0])) is None


def test_draws_for_a_few_conditions_are_answered_row_by_row_with_the_names_of_their_columns() -> None:
    """N(1 + 4, 1) and N(1 - 4, 1), each for itself: pooled they have the deviation 4.1."""
    model, given = Shifted(spec=TensorSpec(())), torch.tensor([4.0, -4.0])

    def result(names: tuple[str, ...], index: Tensor | None = None) -> Any:
        source = Source(test=Dataset(torch.zeros(2, 2), condition=given, index=index))
        source.column_names, source.rows = names, None if index is None else ["", "mean", "", "odd"]  # type: ignore[attr-defined]
        return verb_sample(model, {"data": source}, SampleOptions(n=4000, conditions=2), context()).result

    found = result(("mass", "spin"), torch.tensor([3, 1]))
    form = r"mass (.*) ± (.*), spin (.*) ± (.*) for mean; mass (.*) ± (.*), spin (.*) ± (.*) for odd\."
    text = re.fullmatch(rf"Mean and deviation of 4,000 samples each: {form}", found["answer"]["verdict"])
    assert text is not None
    assert [float(each) for each in text.groups()] == pytest.approx([-3, 1, -3, 1, 5, 1, 5, 1], abs=0.06)
    assert found["answer"]["quantity"] == "mean of mass for mean"
    assert found["metrics"]["std of spin over 2 conditions"] == pytest.approx(math.sqrt(17), abs=0.05)
    plain = result(("of", "another", "table"))
    assert "mean of number 2 over 2 conditions" in plain["metrics"]
    assert plain["answer"]["verdict"].startswith("Mean and deviation of 4,000 samples each, by number: 5")
    assert "for condition 1; -3" in plain["answer"]["verdict"]


def test_samples_without_a_deviation_have_no_answer_of_it() -> None:
    """One sample has no deviation, and samples of a signal (1, 2) without a condition are not for one condition."""
    given = Source(test=Dataset(torch.zeros(1, 2), condition=torch.tensor([4.0])))
    one = verb_sample(Shifted(spec=TensorSpec(())), {"data": given}, SampleOptions(n=1), context())
    signal = Normal()
    signal.event_shape = torch.Size((1, 2))
    signals = verb_sample(signal, {}, SampleOptions(n=50), context())
    assert "answer" not in one.result
    assert "answer" not in signals.result


def test_shown_samples_are_clipped_and_the_samples_are_not() -> None:
    outcome = verb_sample(Shifted(scale=UNIT), {}, SampleOptions(n=50), context())
    raw = outcome.arrays["samples"]
    assert float(raw.max()) > 1
    assert torch.equal(outcome.drawn, raw.clamp(0, 1))
    above = verb_sample(Shifted(scale=EventScale(high=1.0)), {}, SampleOptions(n=50), context())
    assert torch.equal(above.drawn, above.arrays["samples"].clamp(max=1))
    cold = verb_sample(Shifted(), {}, SampleOptions(n=3, temperature=0.0), context())
    assert torch.equal(cold.arrays["samples"], torch.ones(3, 2))


def test_conditions_come_from_the_data_and_their_draws_stay_together() -> None:
    model = Shifted(spec=TensorSpec(()))
    source = Source(
        test=rows(5, condition=torch.tensor([0.0, 100.0, 200.0, 300.0, 400.0])),
        train=rows(2, condition=torch.tensor([-100.0, -200.0])),
    )
    outcome = verb_sample(model, {"data": source}, SampleOptions(n=30, conditions=3), context())
    x = outcome.arrays["samples"]
    assert x.shape == (90, 2)
    means = x.reshape(3, 30, 2).mean((1, 2))
    torch.testing.assert_close(means, torch.tensor([1.0, 101.0, 201.0]), atol=0.7, rtol=0)
    assert outcome.value.condition_spec == TensorSpec(())
    given = outcome.value.load("test").condition
    assert torch.equal(given, torch.tensor([0.0, 100.0, 200.0]).repeat_interleave(30))
    assert isinstance(outcome.drawn, EventGroups)
    assert torch.equal(outcome.drawn.x.flatten(0, 1), x)
    assert not outcome.drawn.path
    elsewhere = verb_sample(model, {"data": source}, SampleOptions(n=2), context(split="train"))
    assert elsewhere.arrays["samples"].reshape(2, 2, 2).mean((1, 2)).tolist() == pytest.approx([-99, -199], abs=3)


def test_conditions_are_taken_in_the_order_of_the_rows() -> None:
    shuffled = torch.tensor([3, 0, 4, 2, 1])
    source = Source(test=rows(5, condition=100.0 * shuffled, index=shuffled))
    model = Shifted(spec=TensorSpec(()))
    outcome = verb_sample(model, {"data": source}, SampleOptions(n=2, conditions=3), context())
    assert outcome.value.load("test").condition.tolist() == [0, 0, 100, 100, 200, 200]
    assert outcome.arrays["rows"].tolist() == [0, 0, 1, 1, 2, 2]
    metrics = outcome.result["metrics"]
    assert (metrics["conditions"], metrics["conditions of the data"]) == (3, 5)
    every = verb_sample(model, {"data": source}, SampleOptions(n=2, conditions=5), context())
    assert every.arrays["rows"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_sampling_says_what_is_missing() -> None:
    model, options = Shifted(spec=TensorSpec(())), SampleOptions(n=2)
    with pytest.raises(ConfigError, match="add 'data: <a data stage>'"):
        verb_sample(model, {}, options, context())
    with pytest.raises(ConfigError, match="the data given have none"):
        verb_sample(model, {"data": Source(test=rows(3))}, options, context())
    with pytest.raises(DataError, match="test split has no points"):
        verb_sample(model, {"data": Source(test=rows(0, condition=torch.zeros(0)))}, options, context())


class Recorded(Normal):
    """Notes the options of its sampling."""

    def bind(self, condition: Any = None, *, generator: Any = None, guidance: float = 1.0, **options: Any) -> Any:
        self.options = options
        return super().bind(condition, generator=generator, guidance=guidance)


def test_further_options_of_sampling_reach_the_model() -> None:
    model = Recorded()
    options = SampleOptions(n=2, steps=(3,), spacing="log-snr", sampling={"condition_noise": "path"})
    verb_sample(model, {}, options, context())
    assert model.options == {"condition_noise": "path"}
    with pytest.raises(ConfigError, match="knows no sampling option condition_noise"):
        verb_sample(Normal(), {}, SampleOptions(n=2, sampling={"condition_noise": "path"}), context())
    with pytest.raises(ConfigError, match="flows know no sampling option condition_noise"):
        verb_sample(Shifted(), {}, SampleOptions(n=2, sampling={"condition_noise": "path"}), context())
    with pytest.raises(ConfigError, match="has 1 intervals"):
        verb_sample(Normal(), {}, SampleOptions(n=2, steps=(3, 4)), context())
    for name, value in (("guidance", 2.0), ("spacing", "log-snr")):
        with pytest.raises(ValidationError, match=f"write {name} next to sampling"):
            SampleOptions(sampling={name: value})
    for steps in (0, (), (3, 0)):
        with pytest.raises(ValidationError):
            SampleOptions.model_validate({"steps": steps})
    cold = verb_sample(Shifted(), {}, SampleOptions(n=3, temperature=(0.0,)), context())
    assert torch.equal(cold.arrays["samples"], torch.ones(3, 2))


class Linear(Normal, Trainable):
    """The score -x by a network, which notes the types of its answers; a product beside it is the solver's."""

    training_config = TrainingConfig(steps=1)

    def __init__(self, refusal: str | None = None) -> None:
        super().__init__()
        self.refusal, self.types, self.network = refusal, set[torch.dtype](), nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.network.weight)
        self.network.forward = self._noted  # type: ignore[method-assign]

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        assert (x @ torch.eye(2)).dtype == torch.float32, "only networks compute in mixed precision"
        return -self.network(x)

    def _noted(self, x: Tensor) -> Tensor:
        found = nn.functional.linear(x, self.network.weight)
        self.types.add(found.dtype)
        return found

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        raise NotImplementedError

    def refuses(self, strategy: str) -> str | None:
        return self.refusal


@pytest.mark.parametrize(("refusal", "used"), [(None, torch.bfloat16), ("it needs digits", torch.float32)])
def test_networks_that_may_draw_in_the_precision_of_the_stage(refusal: str | None, used: torch.dtype) -> None:
    drawn = {}
    for precision in ("no", "bf16"):
        model = Linear(refusal)
        outcome = verb_sample(model, {}, SampleOptions(n=200, steps=10), context(precision=precision))
        drawn[precision] = outcome.arrays["samples"]
        assert model.types == {torch.float32 if precision == "no" else used}
        assert model.network.forward == model._noted
        assert drawn[precision].dtype == torch.float32
    torch.testing.assert_close(drawn["no"], drawn["bf16"], rtol=0.05, atol=0.05)
    assert torch.equal(drawn["no"], drawn["bf16"]) == (refusal is not None)
    with pytest.raises(ConfigError, match="float16 needs a GPU"):
        verb_sample(Linear(), {}, SampleOptions(n=2, steps=3), context(precision="fp16"))


def test_draws_that_are_assessed_are_in_the_precision_of_the_stage() -> None:
    model, held_out = Linear(), Source(test=rows(8))
    options = AssessOptions(conditions=4, n=2, steps=3)
    assess(model, {"data": held_out}, options, context(precision="bf16"))
    assert model.types == {torch.bfloat16}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="samples are not finite"):
        verb_sample(Shifted(offset=value), {}, SampleOptions(n=2), context())


def test_no_verb_touches_the_global_generator() -> None:
    before = torch.get_rng_state()
    source = {"data": Source(UNIT, train=rows(4), test=rows(4))}
    verb_sample(Normal(), {}, SampleOptions(n=2, steps=3, sampler="euler-maruyama"), context())
    verb_sample(Shifted(), {}, SampleOptions(n=2), context())
    evaluate_likelihood(Normal(), source, LikelihoodOptions(), context())
    evaluate_likelihood(Shifted(scale=UNIT), source, LikelihoodOptions(), context())
    verb_interpolate(Flat(), source, InterpolateOptions(pairs=2), context())
    assert torch.equal(torch.get_rng_state(), before)


def test_interpolation_goes_between_the_points_that_are_named() -> None:
    x = torch.arange(8.0).reshape(4, 2)
    source = {"data": Source(UNIT, train=rows(4), test=Dataset(x))}
    outcome = verb_interpolate(Flat(), source, InterpolateOptions(between=((3, 0), (1, 1)), times=3), context())
    paths = outcome.value.load("test").x.reshape(2, 3, 2)
    assert torch.equal(paths[0], torch.stack([x[3], (x[3] + x[0]) / 2, x[0]]))
    assert torch.equal(paths[1], x[1].expand(3, 2))
    assert outcome.result["metrics"]["pairs"] == 2
    for between, said in (((), "names no pair"), (((0, 4),), "the data have the rows 0 to 3")):
        with pytest.raises(DataError, match=said):
            verb_interpolate(Flat(), source, InterpolateOptions(between=between), context())


def test_a_tensor_source_says_which_splits_it_has() -> None:
    with pytest.raises(SplitError, match="no 'train' split here; there is test"):
        TensorSource(torch.zeros(2, 2)).load("train")


def test_the_likelihood_of_scaled_data_is_given_in_the_units_of_the_file_too() -> None:
    """x is N(1, 1), and the file's columns are 2 x and 1000 x: their density is the density of x over 2000."""
    x = torch.tensor([[0.5, 1.0], [2.0, 1.5]])
    scale = EventScale(shift=(0.0, 0.0), factor=(2.0, 1000.0))
    outcome = evaluate_likelihood(Shifted(), {"data": TensorSource(x, scale)}, LikelihoodOptions(), context())
    metrics = checked(outcome)
    found = metrics["log-likelihood in the units of the file (nats)"]
    assert found == pytest.approx(metrics["log-likelihood (nats)"] - math.log(2000))
    raw = torch.distributions.Normal(torch.tensor([2.0, 1000.0]), torch.tensor([2.0, 1000.0]))
    assert found == pytest.approx(float(raw.log_prob(scale.to_raw(x)).sum(1).mean()), rel=1e-5)
    plain = evaluate_likelihood(Shifted(), {"data": TensorSource(x)}, LikelihoodOptions(), context())
    assert not any("file" in name for name in plain.result["metrics"])


class Pushed(ScoreModel, Trainable):
    """A score with one parameter and nothing to learn."""

    def __init__(self, process: DiffusionProcess) -> None:
        super().__init__(process, (3,))
        self.weight = nn.Parameter(torch.zeros(()))
        self.training_config = TrainingConfig(steps=1, warmup=0)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        return self.weight * x

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        return Loss(self.weight.square())


def test_noise_that_does_not_fit_the_data_is_reported_before_training() -> None:
    x = 255 * torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    data = TensorSource({"train": Dataset(x)})
    spread = data.event_scale.spread((3,))
    said: list[str] = []
    outcome = verb_fit(Pushed(VE(0.01, 50.0)), {"data": data}, None, context(warn=said.append))
    assert outcome.result["warnings"] == said
    assert said[0].startswith(f"the largest noise of the process is 50, and the spread of the data {spread:.3g}")
    assert "Make it about 300 (sigma_max of ve or edm)" in said[0]
    said.clear()
    assert "warnings" not in verb_fit(Pushed(VE(0.01, 300.0)), {"data": data}, None, context(warn=said.append)).result
    assert not said
    with pytest.raises(ConfigError, match="the least noise of the process is 200") as refused:
        verb_fit(Pushed(VE(200.0, 900.0)), {"data": data}, None, context())
    assert "relative: true" in str(refused.value)


def test_warnings_of_the_data_come_before_those_of_an_estimate() -> None:
    own = Estimate("k", 2.0, diagnostics={"note": "at sigma 1", "warnings": ["coarse"], "sigma": 1.0})
    assert own.with_warnings([]) is own
    both = own.with_warnings(["uneven", "copies"])
    assert both.diagnostics == {
        "note": "at sigma 1",
        "warnings": ["uneven", "copies", "coarse"],
        "sigma": 1.0,
    }
    alone = Estimate("k", 2.0).with_warnings(["uneven"])
    assert alone.diagnostics == {"warnings": ["uneven"]}


def test_data_in_other_units_than_those_of_training_are_reported() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, generator=draws)
    trained = EventScale(shift=(2026.0, -5.0), factor=(1e-3, 100.0))
    assert unit_warnings(trained, x) == []
    assert unit_warnings(trained, x[:1]) == []
    (spread,) = unit_warnings(trained, 1000 * (x - x.mean(0)))
    assert "times the spread" in spread
    (place,) = unit_warnings(trained, x + torch.tensor([0.0, 8.0]))
    assert "column 1 has mean 79" in place
    assert place.endswith("for -5 (columns from 0)")
    images = EventScale(low=0.0, high=1.0, mean=0.5, std=0.2)
    assert unit_warnings(images, torch.rand(20, 1, 4, 4, generator=draws)) == []
    assert any("mean 127" in text or "mean 12" in text for text in unit_warnings(images, 255 * torch.rand(20, 1, 4, 4)))
