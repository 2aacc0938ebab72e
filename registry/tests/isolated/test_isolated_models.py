"""Score models and flows in environments of their own, against the same plugin in this process."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.artefacts import load_arrays
from scorefold.data import Dataset
from scorefold.diffusion import SAMPLERS, probability_flow_log_prob
from scorefold.diffusion.divergence import divergence
from scorefold.errors import ArtefactError, PluginError, ScorefoldError, ShapeError
from scorefold.interfaces import TensorSource
from scorefold.interfaces.model import evaluations
from scorefold_registry.host import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_testing.contract import stir
from scorefold_toolkit.numerics import pushforward

Local = Callable[[], Host]
X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
T = torch.linspace(0.1, 0.9, 40)


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def both(world: Any, local: Local, name: str, **config: Any) -> tuple[Any, Any]:
    """A component here and there, with equal weights."""
    here = local().create(name, config, generator=generator(1))
    there = world.host().create(f"one/{name}", config, generator=generator(1))
    return here.eval(), there.eval()


@pytest.mark.parametrize("config", [{}, {"process": "vp"}, {"conditional": True}])
def test_a_score_answers_and_samples_as_here(world: Any, local: Local, config: dict[str, Any]) -> None:
    here, there = both(world, local, "score:toy-score", **config)
    condition = torch.randn(4, 3, generator=generator(7)) if config.get("conditional") else None
    rows = None if condition is None else condition.repeat(10, 1)
    for name in ("score", "noise", "denoise"):
        assert torch.equal(getattr(here, name)(X, T, rows), getattr(there, name)(X, T, rows))
    facts = ("event_shape", "condition_spec", "event_scale", "remarks", "divergence_mode")
    assert [getattr(here, name) for name in facts] == [getattr(there, name) for name in facts]
    assert torch.equal(here.process.log_snr(T), there.process.log_snr(T))
    for options in ({}, {"sampler": "heun", "steps": 5}, {"guidance": 1.5 if rows is not None else 1.0}):
        draws = [model.sample(6, condition, generator=generator(), **options) for model in (here, there)]
        assert torch.equal(*draws)
    found = [model.log_prob(X[:8], None if rows is None else rows[:8]) for model in (here, there)]
    assert torch.equal(*found)
    noise = [model.log_prob(X[:8], trace="hutchinson", generator=generator()) for model in (here, there)]
    assert torch.equal(*noise)
    assert torch.equal(here.double().score(X.double(), T.double()), there.double().score(X.double(), T.double()))
    with pytest.raises(ShapeError, match="x has shape"):
        there.score(X[:, :2].double(), T.double())


def test_derivatives_cross(world: Any, local: Local) -> None:
    here, there = both(world, local, "score:toy-score", conditional=True)
    condition = torch.randn(1, 3, generator=generator(7))
    grads = []
    for model in (here, there):
        given = [value.clone().requires_grad_() for value in (X, T, condition)]
        grads.append(torch.autograd.grad(model.score(*given).square().sum(), given))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
    for mode in ("forward", "reverse"):
        (value, trace), (far, far_trace) = (
            divergence(lambda x, model=model: model.score(x, T), X, mode=mode) for model in (here, there)
        )
        assert torch.equal(value, far)
        torch.testing.assert_close(trace, far_trace)
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        found = [
            torch.func.vmap(jacobian(lambda x, t, model=model: model.score(x[None], t[None])[0]))(X[:5], T[:5])
            for model in (here, there)
        ]
        torch.testing.assert_close(*found)
    for mode in ("forward", "reverse"):  # the second takes the derivative of a product by its vector
        along = [
            pushforward(lambda x, model=model: model.score(x, T), X, X.flip(0), mode=mode) for model in (here, there)
        ]
        torch.testing.assert_close(*along)
    point = X.clone().requires_grad_()
    (first,) = torch.autograd.grad(there.score(point, T).sum(), point, create_graph=True)
    with pytest.raises(PluginError, match="second derivatives of a model in an environment"):
        first.sum().backward()


def test_samplers_and_likelihoods_here_work_on_a_score_there(world: Any, local: Local) -> None:
    here, there = both(world, local, "score:toy-score")
    for name, sampler in SAMPLERS.items():
        draws = here.sample(5, sampler=name, steps=4, generator=generator())
        assert torch.equal(draws, there.sample(5, sampler=name, steps=4, generator=generator()))
        assert torch.equal(draws, there.sample(5, sampler=sampler, steps=4, generator=generator()))
    for mode in ("forward", "reverse"):
        for trace in ("exact", "hutchinson"):
            found = [
                probability_flow_log_prob(
                    model.bind(), model.process, X[:4], trace=trace, generator=generator(), mode=mode
                )
                for model in (here, there)
            ]
            torch.testing.assert_close(*found)
    data = TensorSource({"train": Dataset(X)})
    for name, config in (("estimator:iddiff", {"points": 3}), ("estimator:flipd", {})):
        values = [
            host.create(name, config, score=model, generator=generator()).estimate(data.load("train").x).value
            for host, model in ((world.hosts[-1], here), (world.hosts[-1], there))
        ]
        assert values[0] == pytest.approx(values[1])


def test_a_bound_score_stays_in_the_worker(world: Any, local: Local) -> None:
    here, there = both(world, local, "score:toy-bound")
    states, answers = [], []
    for model in (here, there):
        draws = generator()
        bound = model.bind(generator=draws)
        answers.append([bound(X, T)])
        states.append(draws.get_state())
        if model is there:
            there._ask_remote().environment.close()
        answers[-1].append(bound(X, T))
    assert torch.equal(*states)
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)
    draws = [model.sample(6, sampler="heun", generator=generator()) for model in (here, there)]
    assert torch.equal(*draws)


def test_evaluations_in_the_worker_count(world: Any, local: Local) -> None:
    here, there = both(world, local, "score:toy-score")
    counts = []
    for model in (here, there):
        with evaluations([model]) as counted:
            model.sample(6, generator=generator())
            model.score(X, T)
        counts.append(counted.points)
    assert counts[0] == counts[1] > 40


@pytest.mark.parametrize(
    ("answer", "words"),
    [("wide", r"\(40, 6\) for 40 events; expected \(40, 3\)"), ("double", "in torch.float64")],
    ids=["wide", "double"],
)
def test_answers_of_another_shape_are_refused(world: Any, answer: str, words: str) -> None:
    score = world.host().create("one/score:toy-score", {"answer": answer})
    with pytest.raises(PluginError, match=words):
        score.score(X, T)


def test_a_process_of_the_plugin_is_named(world: Any) -> None:
    score = world.host().create("one/score:toy-score", {"process": "other"})
    with pytest.raises(PluginError, match="the process Other can't go to another process"):
        score.sample(2, sampler=lambda *given, **named: None)


def test_a_flow_maps_and_samples_as_here(world: Any, local: Local) -> None:
    here, there = both(world, local, "flow:toy-flow")
    x = X[:, :2]
    for one, other in zip((*here(x), *here.inverse(x)), (*there(x), *there.inverse(x)), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(here.log_prob(x), there.log_prob(x))
    assert torch.equal(here.base.log_prob(x), there.base.log_prob(x))
    assert (there.base.centre, there.latent_shapes) == (0.0, ((2,),))
    for temperature in (1.0, 0.5):
        draws = [model.sample(6, None, temperature, generator()) for model in (here, there)]
        assert torch.equal(*draws)
    grads = []
    for model in (here, there):
        point = x.clone().requires_grad_()
        grads.append(torch.autograd.grad(model.log_prob(point).sum(), point)[0])
    torch.testing.assert_close(*grads)
    with pytest.raises(PluginError, match="gives no derivatives of 'invert_draws'"):
        there.invert_draws(x.clone().requires_grad_(), None)


def test_objects_that_nobody_holds_are_forgotten(world: Any) -> None:
    host = world.host()
    score = host.create("one/score:toy-score")
    environment = score._ask_remote().environment
    score.score(X, T)
    del score
    assert environment.gone
    with pytest.raises(PluginError, match=r"can't go to another process"):
        environment.call("call", "it was asked", {"value": object()})
    assert environment.gone, "nothing was sent"
    other = host.create("one/score:toy-score")
    other.score(X, T)
    assert not environment.gone


def states(folder: Path) -> dict[str, torch.Tensor]:
    return load_arrays(folder / "state.safetensors")


FIT = """
version: 1
name: trained
stages:
  points: {use: data:sphere, config: {dimension: 2, ambient: 3, points: 80}}
  model:  {use: PLACEscore:toy-trained, config: {pause: PAUSE}, inputs: {data: points}}
  draws:  {use: model, do: sample, options: {n: 5}}
"""


def written(folder: Path, place: str, pause: float = 0.0) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "run.yaml").write_text(FIT.replace("PLACE", place).replace("PAUSE", str(pause)))
    return folder / "run.yaml"


def test_weights_are_moved_as_here(world: Any, local: Local) -> None:
    states, answers = [], []
    for host, place in ((local(), ""), (world.host(), "one/")):
        model = host.create(f"{place}score:toy-trained").double()
        before = model.score(X.double(), T.double())
        stir(model, torch.Generator().manual_seed(3))
        states.append(dict(model.state_dict()))
        answers.append(model.score(X.double(), T.double()))
        assert not torch.equal(before, answers[-1])
    assert states[0].keys() == states[1].keys() >= {"seen"}
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(*answers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights * math.nan, "the saved state holds weights that are not finite"),
        (lambda weights: weights[:1], "the saved state does not fit what its manifest describes: .*size mismatch"),
        (lambda weights: weights.long(), "the saved state does not fit .* is int64; expected float32"),
    ],
    ids=["nan", "shape", "type"],
)
def test_weights_are_checked_as_here(world: Any, change: Callable[..., torch.Tensor], words: str) -> None:
    model = world.host().create("one/score:toy-trained")
    tensors, (name, *_) = model.weights()
    model.load_state_dict(tensors | {name: change(tensors[name])})
    with pytest.raises(ArtefactError, match=f"(?s){words}"):
        model.score(X, T)


def test_a_training_is_equal_to_the_one_here(world: Any, local: Local, tmp_path: Path) -> None:
    done = []
    for host, place in ((local(), ""), (world.host(), "one/")):
        file = written(tmp_path / f"run-{len(done)}", place)
        done.append(run_file(host, file, runs=tmp_path / "runs", cache=tmp_path / f"cache-{len(done)}"))
    here, there = done
    one, other = states(here.folder / "model"), states(there.folder / "model")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    rows = [json.loads((run.folder / "model" / "result.json").read_text())["history"] for run in done]
    losses = [[row["loss"] for row in history if "loss" in row] for history in rows]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 8
    assert torch.equal(*(run.value("draws").load("test").x for run in done))
    # Another process loads the state into a worker of its own.
    world.close()
    model = world.host().load(there.folder / "model")
    local_model = local().load(here.folder / "model")
    assert torch.equal(model.score(X, T), local_model.score(X, T))
    again = run_file(world.host(), tmp_path / "run-1" / "run.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache-1")
    assert all(stage.reused for stage in again.stages)


def test_a_training_that_was_killed_goes_on(world: Any, local: Local, tmp_path: Path) -> None:
    whole = run_file(local(), written(tmp_path / "whole", ""), runs=tmp_path / "runs", cache=tmp_path / "cache-0")
    file, cache = written(tmp_path / "killed", "one/", 0.05), tmp_path / "cache-1"
    host = world.host()
    (environment,) = {id(r.environment): r.environment for r in host.plugins if r.distribution == "one"}.values()

    def kill_after_a_checkpoint() -> None:
        while not any(path.is_file() for path in cache.glob("unfinished/*/**/*")):
            time.sleep(0.01)
        os.kill(environment.session().pid, signal.SIGKILL)

    watch = threading.Thread(target=kill_after_a_checkpoint, daemon=True)
    watch.start()
    with pytest.raises(ScorefoldError, match=r"was killed, .* while it did 'fit' of score:toy-trained"):
        run_file(host, file, runs=tmp_path / "runs", cache=cache)
    watch.join(10)
    assert any(path.is_file() for path in cache.glob("unfinished/*/**/*"))
    resumed = run_file(world.host(), file, runs=tmp_path / "runs", cache=cache)
    one, other = states(whole.folder / "model"), states(resumed.folder / "model")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_geometry_answers_as_here(world: Any, local: Local) -> None:
    here, there = local().create("geometry:toy-geometry"), world.host().create("one/geometry:toy-geometry")
    x, y = X[:, :2], X[:, 1:]
    assert here.event_shape == there.event_shape == (2,)
    for name, given in (
        *(("metric", [x]), ("exp", [x, y]), ("log", [x, y]), ("inner", [x, y, y]), ("norm", [x, y])),
        *(("distance", [x, y]), ("distance_matrix", [x]), ("mean", [x]), ("exp", [x[:1], y])),
        ("geodesic", [x, y, torch.linspace(0, 1, 3)]),
    ):
        assert torch.equal(getattr(here, name)(*given), getattr(there, name)(*given)), name
    assert there.diagnose(x) == ({"points": float(len(x))}, ["it is wide"])
    with pytest.raises(PluginError, match=r"answered 'norm' with \[\(3, 1\)\]; expected \[\(3,\)\]"):
        there.norm(torch.full((3, 2), 9.0), y[:3])
    with pytest.raises(PluginError, match="gives no derivatives of 'metric'"):
        there.metric(x.clone().requires_grad_())
    assert torch.equal(here.transport(x, y, y), there.transport(x, y, y))
    with pytest.raises(PluginError, match="gives no derivatives of 'transport'"):
        there.transport(x, y, y.clone().requires_grad_())
