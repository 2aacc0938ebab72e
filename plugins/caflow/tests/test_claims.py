"""Claims measured: those with a closed form as they are, those that train by few steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from claim_values import measured

from scorefold.data import Dataset
from scorefold_caflow.claims import exact as claims_exact
from scorefold_caflow.claims import exact as claims_factorisation
from scorefold_caflow.claims import tasks as claims_tasks
from scorefold_caflow.claims import tasks as claims_training
from scorefold_caflow.plugin import scorefold_claims
from scorefold_registry import Host
from scorefold_registry.experiments.claims import within

CLAIMS = {claim.name: claim for claim in scorefold_claims() if "real" not in claim.profiles}
COUNTED = [name for name in CLAIMS if name.startswith(("bound-", "start-", "one-encoding"))]
SIZES = [name for name in CLAIMS if name.endswith("-parameters")]
CACHED = [
    value
    for module in (claims_exact, claims_factorisation, claims_tasks)
    for value in vars(module).values()
    if hasattr(value, "cache_clear")
]


@pytest.mark.parametrize("name", COUNTED + SIZES)
def test_what_takes_no_training_holds(host: Host, name: str) -> None:
    claim = CLAIMS[name]
    assert within(claim, measured(host, claim, "quick"))


def test_bounds_are_separated_from_one_another(host: Host) -> None:
    value = measured(host, CLAIMS["bound-8x8-dual-glow"], "smoke")
    assert not within(CLAIMS["bound-8x8-caflow"], value)
    assert within(CLAIMS["factorisation-dual-glow"], value)
    assert not within(CLAIMS["factorisation-caflow"], value)


def test_a_density_of_uniform_images_has_the_mass_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert within(CLAIMS["whole-mass"], measured(host, CLAIMS["whole-mass"], "smoke"))
    assert within(CLAIMS["uniform-levels"], measured(host, CLAIMS["uniform-levels"], "smoke"))
    flow = claims_exact._uniform(host, 0)
    exact = type(flow).forward

    def wrong(self, x, condition=None):
        z, log_det = exact(self, x, condition)
        return z, log_det + 0.1

    monkeypatch.setattr(type(flow), "forward", wrong)
    assert not within(CLAIMS["whole-mass"], measured(host, CLAIMS["whole-mass"], "smoke"))


def test_the_start_does_see_a_condition_once_it_is_moved(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    create = host.create

    def moved(name, config=None, **ports):
        made = create(name, config, **ports)
        if isinstance(made, torch.nn.Module):
            with torch.no_grad():
                for parameter in made.parameters():
                    parameter += 0.01 * torch.ones_like(parameter)
        return made

    monkeypatch.setattr(host, "create", moved)
    for model in claims_tasks.MODELS:
        assert claims_exact.cost_at_start(host, "smoke", 0, model=model) > 1e-4


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A few steps of one training each, and few images."""
    monkeypatch.setattr(claims_factorisation, "STEPS", {"8x8": 2, "16x16": 2})
    monkeypatch.setattr(claims_factorisation, "TEST", {"8x8": 100, "16x16": 50})
    monkeypatch.setattr(claims_tasks, "SEEDS", {"quick": 1})
    monkeypatch.setattr(claims_tasks, "MORE", {"quick": 0.001})
    monkeypatch.setattr(claims_tasks, "IMAGES", 5)
    monkeypatch.setattr(claims_tasks, "DRAWS", 2)
    monkeypatch.setattr(claims_tasks, "MANY", 60)
    small = {name: replace(task, config={**task.config, "points": 400}) for name, task in claims_tasks.TASKS.items()}
    monkeypatch.setattr(claims_tasks, "TASKS", small)
    for function in CACHED:
        function.cache_clear()
    yield
    for function in CACHED:
        function.cache_clear()


def test_what_is_trained_can_be_measured(host: Host, hasty: None) -> None:
    trained = [name for name in CLAIMS if name not in COUNTED + SIZES and "exact" not in CLAIMS[name].target]
    assert len(trained) > 60
    for name in trained:
        value = measured(host, CLAIMS[name], "quick")
        assert value == value, name


def test_rows_are_means_over_seeds_and_differences_are_paired(
    host: Host, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_tasks, "SEEDS", {"quick": 2})
    rows = {
        model: claims_tasks._over_seeds(host, "quick", 0, "inpainting", model, "bits") for model in ("caflow", "cinn")
    }
    options = {"task": "inpainting", "model": "cinn"}
    assert rows["cinn"][0] != rows["cinn"][1]
    assert claims_tasks.task_measure(host, "quick", 0, measure="bits", **options) == pytest.approx(
        sum(rows["cinn"]) / 2
    )
    differences = torch.tensor(rows["cinn"]) - torch.tensor(rows["caflow"])
    found = claims_tasks.above(host, "quick", 0, other="caflow", **options)
    assert found == pytest.approx(float(differences.mean()), abs=1e-5)
    error = claims_tasks.above_error(host, "quick", 0, other="caflow", **options)
    assert error == pytest.approx(float(differences.std()) / 2**0.5, rel=1e-3, abs=1e-6)


def test_costs_are_bits_of_every_image_with_one_noise_for_all_models(host: Host) -> None:
    data = claims_tasks.task_source(host, "inpainting")
    few = data.load("test").take(torch.arange(6))
    model = host.create("flow:cinn", claims_tasks.model_settings("inpainting", "cinn", 1), data=data).eval()
    found = claims_training.costs(model, few, 0, draws=2)
    assert found.shape == (6,)
    assert torch.equal(found, claims_training.costs(model, few, 0, draws=2))
    assert not torch.equal(found, claims_training.costs(model, few, 1, draws=2))
    one = claims_training.costs(model, Dataset(x=few.x[:1], condition=few.condition[:1]), 0)
    assert one.shape == (1,)


def test_what_conditions_are_shuffled_to(host: Host) -> None:
    test = claims_tasks.task_source(host, "inpainting").load("test")
    shuffled = claims_tasks._shuffled(test)
    assert torch.equal(shuffled.x, test.x)
    assert not (shuffled.condition == test.condition).flatten(1).all(1).any()


def test_a_difference_counts_for_a_flow_that_uses_its_condition(
    host: Host, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"caflow": {"bits": 2.0, "shuffled": 2.0}, "cinn": {"bits": 2.5, "shuffled": 9.0}}
    monkeypatch.setattr(claims_tasks, "SEEDS", {"real": 1})
    monkeypatch.setattr(claims_tasks, "_measured", lambda host, profile, task, run, model: found[model])
    options = {"task": "photographs-colourisation", "model": "cinn"}
    assert claims_tasks.headline_above(host, "real", 0, **options) == 0.0
    found["caflow"]["shuffled"] = 9.0
    assert claims_tasks.headline_above(host, "real", 0, **options) == pytest.approx(0.5)
