"""Warnings that verbs add to a result and those that they pass on: where they hold, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from latent_toys import Linear, events, normal
from torch import Tensor, nn
from verb_toys import context, rows

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, EventScale
from scorefold.diffusion import VE
from scorefold.errors import PluginError
from scorefold.interfaces import Allocator, DataSource, Estimator, Loss, Progress, TensorSource, Trainable
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold_registry.host import Host
from scorefold_toolkit.metrics.measure import EvaluationBatch, Units
from scorefold_toolkit.training import fit as train
from scorefold_verbs.config import AllocateOptions, EstimateOptions, GenerateOptions, SampleOptions
from scorefold_verbs.estimate import allocate, estimate, over_trainings
from scorefold_verbs.fit import fit, noise_warnings
from scorefold_verbs.inputs import groups_of, with_labels
from scorefold_verbs.latents.measures import FrechetBesideFloor
from scorefold_verbs.latents.reconstruct import generate, quick_error, reconstruction_warnings
from scorefold_verbs.load import load
from scorefold_verbs.measures import features_of
from scorefold_verbs.sample import far_samples, sample, training_points


@pytest.mark.parametrize(
    ("error", "certain", "said"),
    [
        (1.0, True, []),
        (1.01, True, ["1.01 times as far"]),
        (1.41, False, []),
        (1.42, False, ["1.42 times as far"]),
    ],
)
def test_reconstructions_are_warned_of_from_what_a_code_of_nothing_gives(
    error: float, certain: bool, said: list[str]
) -> None:
    found = reconstruction_warnings(error, certain=certain)
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("x", "answered"),
    [(normal(40, 6, seed=0), True), (torch.ones(40, 6).double(), False)],
)
def test_a_quick_error_of_points_that_are_one_is_no_warning(x: Tensor, answered: bool) -> None:
    model = Linear((6,), (0.9, 0.6), (0.1, 0.1))
    error, found = quick_error(model, x, torch.Generator().manual_seed(0))
    assert (error is not None, found) == (answered, [])


@pytest.mark.parametrize(("points", "said"), [(1, []), (8, ["8 points of 8 features"]), (9, [])])
def test_a_covariance_beside_a_floor(points: int, said: list[str]) -> None:
    measure = FrechetBesideFloor("coordinates", features_of("pixels", (8,), None, Units(0, 1)), Units(0, 1), None)
    assert measure.warnings() == []
    measure.add(EvaluationBatch(normal(points, 8, seed=0), normal(points, 8, seed=1)[None]))
    found = measure.warnings()
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("codes", "points", "said"), [("gaussian", 6, ["6 points of 6 features"]), ("mixture", 60, [])]
)
def test_generated_events_beside_few_points(codes: Any, points: int, said: list[str]) -> None:
    options = GenerateOptions(codes=codes, n=60, components=1)
    model = Linear((6,), (0.9, 0.6), (0.1, 0.1))
    found = generate(model, {"data": events((6,), test=points)}, options, context(dtype=torch.float64)).result
    assert len(found.get("warnings", ())) == len(said)
    assert all(part in text for part, text in zip(said, found.get("warnings", ()), strict=True))


@pytest.mark.parametrize(("greatest", "said"), [(0.49, ["noise of the process is 0.49"]), (0.51, [])])
def test_noise_of_half_the_spread_covers_the_data(greatest: float, said: list[str]) -> None:
    source = TensorSource(torch.tensor([[-1.0], [1.0]]).repeat(20, 1))
    assert source.event_scale.spread((1,)) == pytest.approx(1)
    found = noise_warnings(VE(0.01, greatest), source.event_scale, (1,))
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


class Trained(nn.Module, Trainable):
    """One parameter, and some words at the end of a training."""

    event_shape = (2,)

    def __init__(self, *said: str) -> None:
        super().__init__()
        self.weight, self.said = nn.Parameter(torch.zeros(())), said
        self.training_config = TrainingConfig(steps=2, warmup=0, checkpoint_every=1)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        return Loss(self.weight.square())

    def training_warnings(self, dataset: Dataset) -> Sequence[str]:
        return self.said


@pytest.mark.parametrize("said", [(), ("the code says nothing",)])
def test_a_training_passes_on_what_its_component_warns_of(said: tuple[str, ...]) -> None:
    result = fit(Trained(*said), {"data": TensorSource({"train": rows(40)})}, None, context()).result
    assert result.get("warnings", []) == list(said)


def test_a_training_passes_on_that_a_checkpoint_was_damaged(tmp_path: Path) -> None:
    data = {"data": TensorSource({"train": rows(40)})}
    kept = context(checkpoint_dir=tmp_path)
    assert "warnings" not in fit(Trained(), data, None, kept).result
    for state in tmp_path.rglob("state.safetensors"):
        state.write_bytes(b"")
    found = fit(Trained("last"), data, None, kept).result["warnings"]
    assert found[0].startswith("a checkpoint was damaged")
    assert found[-1] == "last"


class Known(Estimator):
    """The estimate 1, with a warning of its own where it has one."""

    def __init__(self, *said: str) -> None:
        self.said = said

    def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> Estimate:
        return Estimate("k", 1.0, diagnostics={"warnings": list(self.said)} if self.said else {})


@pytest.mark.parametrize("own", [(), ("the score is coarse",)])
@pytest.mark.parametrize("of_data", [(), ("uneven columns", "copies")])
@pytest.mark.parametrize(("offset", "lost"), [(0.0, 0), (1e7, 1)])
def test_an_estimate_has_the_warnings_of_its_data_rounding_and_estimator(
    offset: float, lost: int, of_data: tuple[str, ...], own: tuple[str, ...]
) -> None:
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) + offset
    source = TensorSource({"test": Dataset(x)}, warnings=of_data)
    found = list(
        estimate(Known(*own), {"data": source}, EstimateOptions(), context()).value.diagnostics.get("warnings", ())
    )
    assert found[: len(of_data)] == list(of_data)
    assert found[len(of_data) + lost :] == list(own)
    assert all("where float32 numbers lie 1 apart" in text for text in found[len(of_data) : len(of_data) + lost])


@pytest.mark.parametrize(
    ("quantity", "neighbours", "named", "warned"),
    [
        ("intrinsic dimension", True, True, True),
        ("intrinsic dimension", False, True, False),
        ("intrinsic dimension", True, False, False),
        ("k", True, True, False),
    ],
)
def test_rows_that_follow_each_other_are_named_where_neighbours_are_read(
    quantity: str, neighbours: bool, named: bool, warned: bool
) -> None:
    class Reader(Estimator):
        reads_neighbours = neighbours

        def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> Estimate:
            return Estimate(quantity, 1.0)

    walk = torch.arange(500.0)[:, None] + torch.zeros(1, 3)
    source = TensorSource({"test": Dataset(walk, index=torch.arange(500))}, rows=range(500) if named else None)
    found = estimate(Reader(), {"data": source}, EstimateOptions(), context()).value.diagnostics.get("warnings", ())
    assert [("before and after a row" in text) for text in found] == [True] * warned


@pytest.mark.parametrize("said", [(), ("uneven columns",)])
def test_loaded_data_have_their_own_warnings(said: tuple[str, ...]) -> None:
    source: DataSource = TensorSource({"train": rows(40)}, warnings=said)
    assert load(source, {}, None, context()).result.get("warnings", []) == list(said)


class Spender(Allocator):
    def __init__(self, *said: str) -> None:
        self.said = said

    def allocate(
        self,
        budget: int,
        *,
        pilot: Any = None,
        constraints: Mapping[str, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Allocation:
        return Allocation("feasible", (PlanRow("a", budget, 1, 0),), 0, warnings=self.said)


@pytest.mark.parametrize("said", [(), ("a trial failed",)])
def test_a_plan_has_its_own_warnings(said: tuple[str, ...]) -> None:
    found = allocate(Spender(*said), {}, AllocateOptions(budget=9), context())
    assert found.result.get("warnings", []) == list(said)


@pytest.mark.parametrize(
    ("status", "diagnostics", "words"),
    [
        ("optimal", {}, "costs 10 for a budget of 9"),
        ("optimal", {"spent": 9.5}, r"costs 9\.5 for a budget of 9"),
        ("optimal", {"spent": 5.0}, None),  # half of the labels are owned
        ("ok", {"spent": 5.0}, "has the status 'ok'; expected optimal, feasible"),
    ],
)
def test_a_plan_over_the_budget_is_refused(status: str, diagnostics: dict[str, Any], words: str | None) -> None:
    plan = Allocation(status, (PlanRow("a", 5, 1, 1),), 0, diagnostics=diagnostics)

    class Made(Spender):
        def allocate(self, budget: int, **_: Any) -> Allocation:
            return plan

    if words is None:
        assert allocate(Made(), {}, AllocateOptions(budget=9), context()).value is plan
    else:
        with pytest.raises(PluginError, match=f"the plan of .*Made.* {words}"):
            allocate(Made(), {}, AllocateOptions(budget=9), context())


@pytest.mark.parametrize(
    ("each", "said"),
    [
        (((), (), ()), []),
        ((("coarse",), (), ()), ["coarse"]),
        (((), ("coarse",), ("coarse", "bent")), ["coarse", "bent"]),
    ],
)
def test_several_trainings_have_the_warnings_of_all(each: tuple[tuple[str, ...], ...], said: list[str]) -> None:
    found = over_trainings([Known(*own).estimate(None) for own in each])
    assert found.diagnostics.get("warnings", []) == said


@pytest.mark.parametrize(
    ("own", "count", "said"),
    [([], 10, []), ([], 9, ["label 1 (b) is left out: 9 points"]), (["c"], 9, ["c", "label 1 (b) is left out: 9"])],
)
def test_labels_of_few_points_are_named_after_other_warnings(own: list[str], count: int, said: list[str]) -> None:
    groups, left_out = groups_of(torch.tensor([0] * 12 + [1] * count), ["a", "b"])
    assert set(groups) == ({0, 1} if count == 10 else {0})
    found = with_labels({"warnings": own} if own else {}, [], left_out).get("warnings", [])
    assert len(found) == len(said)
    assert all(text.startswith(part) for part, text in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("flow:spline-coupling", {"layers": 1, "hidden": [4]}),
        ("score:flow-matching", {}),
        ("score:conditional", {}),
        ("score:conditional", {"estimator": "cde", "condition_dropout": 0.2}),
        ("score:denoising", {}),
    ],
)
def test_samples_far_from_the_conditions_of_training_are_warned_of(
    host: Host, name: str, config: dict[str, Any]
) -> None:
    seed = torch.Generator().manual_seed(0)
    y = torch.rand(200, 2, generator=seed)
    points = Dataset(y + 0.1 * torch.randn(200, 2, generator=seed), condition=y)
    network = {"network": {"use": "network:mlp", "config": {"width": 8, "blocks": 1}}}
    config = config if name.startswith("flow:") else {**config, **network}
    data = TensorSource({"train": points})
    model = host.create(name, {**config, "training": {"steps": 1}}, data=data)
    train(model, points, model.training_config)
    options = (
        SampleOptions(n=2, conditions=4) if name.startswith("flow:") else SampleOptions(n=2, conditions=4, steps=2)
    )
    near = TensorSource({"test": points.take(torch.arange(4))})
    far = TensorSource({"test": Dataset(points.x[:4], condition=y[:4] + torch.tensor([[0.0], [0.0], [0.0], [9.0]]))})
    assert "warnings" not in sample(model, {"data": near}, options, context()).result
    (said,) = sample(model, {"data": far}, options, context()).result["warnings"]
    assert said.startswith("1 of 4 conditions lies outside the range of the training data")
    older = {key: value for key, value in model.state_dict().items() if "low_" not in key and "high_" not in key}
    again = host.create(name, {**config, "training": {"steps": 0}}, data=data)
    again.load_state_dict(older)
    assert "warnings" not in sample(again, {"data": far}, options, context()).result


def test_samples_from_a_noise_below_their_data_are_warned_of(host: Host) -> None:
    """Noise that ends at s gives Gaussian data of deviation s samples of deviation s / sqrt 2."""
    points = 50 * torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    data = TensorSource({"train": Dataset(points), "test": Dataset(points[:500])}, EventScale.of(points))
    options = SampleOptions(n=400, steps=40)
    found = {}
    for relative in (False, True):
        config = {"gaussian": True, "process": {"name": "ve", "relative": relative}}
        score = host.create("score:analytic", config, data=data)
        result = sample(score, {"data": data}, options, context()).result
        found[relative] = score.remarks, result["answer"].get("advice"), result["metrics"]["std"]
    ((said,), advice, std), (nothing, _, covered) = found[False], found[True]
    assert said.startswith("the noise of this score ends at 50, and its data lie 200 from their mean: samples may be")
    assert advice == "set process: {name: ve, relative: true}, or scale the data"
    assert std == pytest.approx(50 / 2**0.5, rel=0.05)
    assert nothing == ()
    assert covered == pytest.approx(50, rel=0.05)


def test_samples_far_from_the_others_for_their_condition_are_warned_of() -> None:
    draws, scale = normal(2, 500, 16, seed=0).float(), EventScale(std=2.0)
    assert far_samples(draws, scale) == far_samples(draws[:, :0], scale) == ""
    draws[1, :3] *= 30
    assert far_samples(draws, scale).startswith("3 of 1,000 samples lie far from the others for their condition")
    assert "solver_steps: 1" in far_samples(draws, scale)
    assert far_samples(draws[:, :19], scale) == ""
    assert far_samples(draws, EventScale(std=30.0)) == "", "within the data"
    draws[:, :100] += 30
    assert far_samples(draws, scale) == "", "another mode"


def test_far_samples_are_judged_in_the_unit_of_each_number() -> None:
    """Units of 1 and 1000, and a constant number, among data with exponential tails."""
    generator, units = torch.Generator().manual_seed(0), torch.tensor([0.0, 1.0, 1000.0])
    points = 3 + units * torch.empty(5000, 3).exponential_(generator=generator)
    draws = 3 + units * torch.empty(2, 500, 3).exponential_(generator=generator)
    scale = EventScale.of(points)
    assert far_samples(draws, scale) != "", "the reach of the data is not known"
    assert far_samples(draws, scale, points) == ""
    data = TensorSource({"train": Dataset(points)}, scale)
    assert far_samples(draws, scale, training_points(data, scale)) == ""
    draws[1, :2, 1] = 3 + 25
    assert far_samples(draws, scale, points).startswith("2 of 1,000 samples lie far")
    assert training_points(data, replace(scale, factor=2.0)) is None, "other data say nothing"


def test_noise_of_a_constant_number_hides_no_far_sample() -> None:
    points = normal(2000, 2, seed=0).float() * torch.tensor([1.0, 1e-6])
    draws = normal(1, 500, 2, seed=1).float() * torch.tensor([1.0, 0.01])
    draws[0, 3, 0] = 100
    assert far_samples(draws, EventScale.of(points), points).startswith("1 of 500 samples lies far")


def test_without_points_the_widest_number_is_not_far_for_its_unit() -> None:
    """Exponential posteriors of deviation 1,000 about means of deviation 3,000, beside nine numbers of unit 1."""
    generator, units = torch.Generator().manual_seed(0), torch.tensor([1000.0] + 9 * [1.0])
    draws = torch.empty(8, 500, 10).exponential_(generator=generator)
    draws = units * (draws - 1 + 3 * normal(8, 1, 10, seed=0).float())
    assert far_samples(draws, EventScale(std=1000.0)) == ""
    draws[0, :20, 0] += 40_000
    assert far_samples(draws, EventScale(std=1000.0)).startswith("20 of 4,000")


def test_tails_and_modes_of_fair_posteriors_are_not_far_where_the_data_reach_them() -> None:
    """An exponential posterior of deviation 1 under data of deviation 3; and a mode of 5 %, of the data themselves."""
    generator = torch.Generator().manual_seed(0)
    tails = torch.empty(1, 1000, 1).exponential_(generator=generator)
    assert far_samples(tails, EventScale(std=3.0)) == ""
    assert "The data have a long tail" in far_samples(tails, EventScale(mean=1.0))
    shifted, centre = tails + torch.tensor([100.0, -100.0]), (100.0, -100.0)
    assert far_samples(shifted, EventScale(std=3.0, centre=centre)) == "", "each number has its own mean"
    assert far_samples(shifted, EventScale(std=3.0)) != ""
    modes = normal(1, 1000, 1, seed=0).float()
    modes[0, ::20] += 40
    assert far_samples(modes, EventScale()).startswith("50 of 1,000 samples lie far")
    assert far_samples(modes, EventScale.of(modes[0])) == ""
