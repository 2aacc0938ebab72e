"""Objects of the main process that are plugged into objects of a worker, which asks them."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.errors import PluginError, ShapeError
from scorefold.interfaces import Estimator
from scorefold.interfaces.model import evaluations
from scorefold.results import Estimate
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments.questions import DEEPEST, MOST, Questions
from scorefold_registry.plugins.environments.wire import Arena, Reader, Writer, read_line
from scorefold_registry.plugins.records import environments_of
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.worker import main as worker_main

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
Local = Callable[[], Host]


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(one: Estimate, other: Estimate) -> None:
    assert one.value == other.value
    assert torch.equal(torch.as_tensor(one.pointwise), torch.as_tensor(other.pointwise))
    for name, value in one.diagnostics.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other.diagnostics[name])), name


@pytest.mark.parametrize("name", ["toy-score", "toy-bound"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_estimator_there_asks_a_score_here(world: Any, local: Local, name: str, dtype: torch.dtype) -> None:
    mine = local()
    score = mine.create(f"score:{name}", generator=generator(5)).to(dtype)
    here = mine.create("estimator:toy-asks", score=score)
    there = world.host().create("one/estimator:toy-asks", score=score)
    answers, states, counts = [], [], []
    for each in (here, there):
        draws = generator()
        with evaluations([score]) as counted:
            answers.append(each.estimate(X.to(dtype), generator=draws))
        states.append(draws.get_state())
        counts.append(counted.points)
    same(*answers)
    assert torch.equal(*states)
    assert counts[0] == counts[1] > 0
    assert (there.event_shape, there.reads_counts, there.reads_neighbours) == ((3,), True, False)
    assert not hasattr(there, "event_scale")


def test_a_score_of_one_environment_is_asked_by_another(world: Any) -> None:
    host = world.host()
    score = host.create("two/score:toy-score", generator=generator(5))
    answers = [
        host.create(f"{place}/estimator:toy-asks", score=score).estimate(X, generator=generator())
        for place in ("one", "two")
    ]
    same(*answers)
    assert all(each.runs for each in environments_of(host.plugins))


def nested(host: Host, count: int) -> Any:
    found = host.create("two/estimator:toy-mean")
    for number in range(count):
        found = host.create(f"{('one', 'two')[number % 2]}/estimator:toy-port", reference=found)
    return found


def test_questions_inside_each_other_have_a_limit(world: Any) -> None:
    host = world.host()
    plain = nested(host, 0).estimate(X, generator=generator())
    assert nested(host, DEEPEST).estimate(X, generator=generator()).value == plain.value
    with pytest.raises(PluginError, match="ask each other by way of the main process, 4 deep") as caught:
        nested(host, DEEPEST + 1).estimate(X, generator=generator())
    assert caught.value.hint == "plug in components of one environment"
    assert nested(host, 1).estimate(X, generator=generator()).value == plain.value


class Mine(Estimator):
    """An estimator of the main process with an answer of the test's."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self.do = do

    def estimate(self, data: Any, *, generator: Any = None) -> Estimate:
        return self.do() or Estimate("mean", 1.0)


def fail(error: BaseException) -> Any:
    raise error


def test_an_error_here_is_raised_there_and_comes_back(world: Any) -> None:
    host = world.host()
    for error, kind, words in (
        (ShapeError("x has shape 3", hint="give it 2"), ShapeError, "x has shape 3"),
        (ZeroDivisionError("by zero"), PluginError, "ZeroDivisionError: by zero"),
    ):
        asks = host.create("one/estimator:toy-port", reference=Mine(lambda error=error: fail(error)))
        with pytest.raises(kind, match=words) as caught:
            asks.estimate(X)
        assert getattr(error, "hint", None) == caught.value.hint
    assert host.create("one/estimator:toy-port", reference=Mine(lambda: None)).estimate(X).value == 1


def test_an_answer_to_a_constructor_leaves_the_weights_as_they_are(world: Any, local: Local) -> None:
    answer = Estimate("mean", 1.0, pointwise=torch.full((1000,), 7.0))
    here = local().create("score:toy-trained", generator=generator()).eval()
    there = world.host().create("one/score:toy-asking", reference=Mine(lambda: answer)).eval()
    assert there.remarks == ("it has seen 0 points",)
    here.seen.fill_(9)
    there.load_state_dict(here.state_dict())
    assert there.remarks == ("it has seen 9 points",)
    t = torch.full((6,), 0.5)
    assert torch.equal(there.score(X, t), here.score(X, t))


def test_the_events_of_a_question_are_limited(local: Local) -> None:
    questions, score = Questions(), local().create("score:toy-score")
    verb = {"ask": "call", "name": questions.offer(score)["name"], "method": "sample"}
    verb["mode"] = ("float32", score.training)
    assert ask(questions, verb, given=[2], named={"steps": 2})["answer"].shape == (2, 3)
    whole = torch.tensor(10**10)
    for given, named in (
        *(([10**10], {}), ([2], {"steps": 10**10}), ([], {"n": 10**10})),
        *(([whole], {}), ([whole.numpy()], {}), ([2], {"steps": whole[None]})),
    ):
        said = ask(questions, verb, given=given, named=named)
        assert "has 10,000,000,000 events or steps; expected at most" in said
        assert f"at most {MOST:,}" in said
    flow = local().create("flow:toy-flow")
    verb |= {"name": questions.offer(flow)["name"], "method": "base.sample"}
    for shape in ((10**8, 10**4), [10**8, 10**4], (True, 10**8, 10**4), (torch.tensor(10**8), 10**4)):
        said = ask(questions, verb, given=[shape], named={"generator": None, "like": X})
        assert "has 500,000,000,000 events" in said


def test_bound_scores_go_with_the_worker(world: Any, local: Local) -> None:
    host = world.host()
    score = local().create("score:toy-bound")
    asks = host.create("one/estimator:toy-asks", score=score)
    asks.estimate(X, generator=generator())
    environment = asks._ask_remote().environment
    assert environment.questions._bound
    environment.close()
    assert not environment.questions._bound


def test_ctrl_c_in_a_call_inside_a_question_keeps_the_worker(world: Any, tmp_path: Path) -> None:
    host, begun = world.host(), tmp_path / "begun"
    loops = host.create("one/estimator:toy-misdeed", {"do": "loop", "kept": str(begun)})
    asks = host.create("one/estimator:toy-port", reference=Mine(lambda: loops.estimate(X)))
    pid = asks._ask_remote().environment.session().pid

    def interrupt() -> None:
        while not begun.exists():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            asks.estimate(X)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert host.create("one/estimator:toy-port", reference=Mine(lambda: None)).estimate(X).value == 1
    assert asks._ask_remote().environment.session().pid == pid


def test_a_cancel_between_two_calls_stops_its_own_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "scorefold.toml").touch()
    there, back, said = Arena(), Arena(), (tmp_path / "answers").open("wb")
    monkeypatch.setattr(worker_main.os, "_exit", lambda status: None)
    worker = worker_main.Worker(there, back, said.fileno(), tmp_path)
    worker.id = 3
    lines = [
        {"do": "cancel", "id": 4},
        {"do": "answer", "error": {"type": "PluginError", "message": "no", "hint": None, "code": "plugin"}},
    ]
    for each in ([*lines], [*lines[:1], {"do": "cancel", "id": 3}]):
        requests = tmp_path / "requests"
        requests.write_text("".join(f"{json.dumps(line)}\n" for line in each))
        worker_main._read(os.open(requests, os.O_RDONLY), worker)
        assert not worker.cancelled
        with pytest.raises(PluginError if each == lines else KeyboardInterrupt):
            worker._ask("get", {})
    assert worker.cancelled
    for arena in (there, back, said):
        arena.close()


def test_ctrl_c_while_the_host_answers(world: Any) -> None:
    host = world.host()
    asks = host.create("one/estimator:toy-port", reference=Mine(lambda: fail(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        asks.estimate(X)
    again = host.create("one/estimator:toy-port", reference=Mine(lambda: None))
    assert again.estimate(X).value == 1


def ask(questions: Questions, said: dict[str, Any], **values: Any) -> Any:
    """The answer to a question, as the worker gets it."""
    there, back = Arena(), Arena()
    values |= {"gone": [], **said}
    try:
        question = read_line(Writer(back).line({"ask": values.pop("ask")}, {"values": values}))
        answer = read_line(questions.answer(question, Reader(back), Writer(there)))
        return answer["error"]["message"] if "error" in answer else Reader(there).value(answer["done"])
    finally:
        there.close()
        back.close()


def test_a_worker_asks_nothing_but_what_was_plugged_in(world: Any, local: Local) -> None:
    questions, score = Questions(), local().create("score:toy-score")
    name = questions.offer(score)["name"]
    assert questions.offer(score)["name"] == name
    mode = ("float32", score.training)
    rows = {
        "ask": "rows",
        "name": name,
        "method": "score",
        "mode": mode,
        "derivative": "",
        "wanted": [],
        "split": False,
    }
    given = {"given": [X, torch.full((6,), 0.5), None], "vectors": []}
    assert torch.equal(ask(questions, rows, **given)[0], score.score(X, torch.full((6,), 0.5)))
    for changed, words in (
        ({"name": "h9"}, "there is no plugged-in object 'h9'"),
        ({"method": "net.0.weight.zero_"}, "has no 'net.0.weight.zero_'"),
        ({"method": "load_state_dict"}, "has no 'load_state_dict'"),
        ({"method": "__class__.__init__.__globals__.clear"}, "has no '__class__"),
        ({"mode": ("float64", score.training)}, "it can't be changed to"),
        ({"ask": "fit"}, "asked for 'fit', which is no question"),
    ):
        assert words in ask(questions, {**rows, **changed}, **given)
    was = [part.training for part in score.modules()]
    other = ("float32", not score.training)
    assert torch.equal(ask(questions, {**rows, "mode": other}, **given)[0], score.score(X, torch.full((6,), 0.5)))
    assert [part.training for part in score.modules()] == was
    assert "has no 'net'" in ask(questions, {"ask": "get", "name": name, "names": ["net"]})
    assert score.net[0].weight.dtype == torch.float32
    del score
    gc.collect()
    assert "there is no plugged-in object" in ask(questions, rows, **given)


RUN = """
version: 1
name: asks
stages:
  points: {use: one/data:toy-points, config: {points: 40}}
  score:  {use: score:denoising, config: {training: {steps: 2}}, inputs: {data: points}}
  sum:    {use: one/estimator:toy-asks, inputs: {score: score, data: points}}
"""


def test_a_run_file_plugs_a_score_here_into_an_estimator_there(world: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(RUN)
    first, again = (run_file(world.host(), file, runs=tmp_path / "runs", cache=tmp_path / "cache") for _ in range(2))
    assert first.value("sum").pointwise.shape == (20,)
    assert [stage.reused for stage in again.stages] == [True, True, True]
