"""The kit proves itself: each bug that is planted in a copy of a small plugin is found by the check that is named."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from scorefold_testing import LEVELS, CheckResult, Item, check_components, kind_items, observer_items, verb_item
from scorefold_testing.contract import FAILED, PASSED, SKIPPED

FOLDER = Path(__file__).parent / "planted"
TOY = (FOLDER / "toy_plugin.py").read_text(encoding="utf-8")
USING = ("same-generator-same-result", "use-repeats", "inputs-unchanged", "ports-unchanged", "score-shape")
"""Checks among those that use a score."""
ORIGIN = "planted_host:make_host"


class Bug(NamedTuple):
    """A text of the plugin that a bug replaces by another; ``item`` is what it is a bug of, ``check`` what finds it."""

    item: str
    check: str
    old: str
    new: str


SCORE = "        scale = self.process.coefficients(x, t)[1]\n"
FORWARD = "        return x * self.log_scale.exp(), self.log_scale.sum().expand(len(x))\n"
LOSS = "        x = batch.x\n"
ESTIMATE = "        x = data.tensor().double()\n"
TASKS = "        tasks, left = divmod(budget, self.size)\n"
GAPS = "    def __init__(self) -> None:\n        self.gaps: list[Tensor] = []\n"
ADD = "        draws = batch.draws\n"
LOAD = "        if split not in self.rows:\n"
THIN = '    data = inputs["data"]\n'
COUNT = '    points = inputs["data"].load("train").x\n'
BEFORE = '    seen = inputs["data"].load("train").x\n'


def at(place: str, line: str) -> tuple[str, str]:
    """A line planted before another, with its indentation."""
    indent = place[: len(place) - len(place.lstrip())]
    return place, "".join(f"{indent}{part}\n" for part in line.splitlines()) + place


BUGS = {
    # score
    "score-seeds-torch": Bug("score", "global-random-state", *at(SCORE, "torch.manual_seed(0)")),
    "score-draws-numpy": Bug("score", "global-random-state", *at(SCORE, "np.random.rand()")),
    "score-seeds-python": Bug("score", "global-random-state", *at(SCORE, "random.seed(0)")),
    "score-dtype": Bug("score", "global-settings", *at(SCORE, "torch.set_default_dtype(torch.float64)")),
    "score-dtype-32": Bug("score", "global-settings", *at(SCORE, "torch.set_default_dtype(torch.float32)")),
    "score-threads": Bug("score", "global-settings", *at(SCORE, "torch.set_num_threads(1)")),
    "score-gradients-off": Bug("score", "global-settings", *at(SCORE, "torch.set_grad_enabled(False)")),
    "score-gradients-on": Bug("score", "global-settings", *at(SCORE, "torch.set_grad_enabled(True)")),
    "score-folder": Bug("score", "global-settings", *at(SCORE, 'os.chdir("/")')),
    "score-file": Bug("score", "global-settings", *at(SCORE, 'Path("log.txt").write_text("seen")')),
    "score-environment": Bug("score", "global-settings", *at(SCORE, 'os.environ["MINE"] = "1"')),
    "score-products": Bug("score", "global-settings", *at(SCORE, 'torch.set_float32_matmul_precision("medium")')),
    "score-errors": Bug("score", "global-settings", *at(SCORE, 'np.seterr(all="raise")')),
    "score-writes-x": Bug("score", "inputs-unchanged", *at(SCORE, "x.add_(0.1)")),
    "score-mixes-rows": Bug("score", "score-rows-independent", *at(SCORE, "x = x - x.mean(0)")),
    "score-counts": Bug("score", "use-repeats", *at(SCORE, "self.seen = self.seen + 1e-3")),
    "score-nan": Bug("score", "score-finite", *at(SCORE, "x = x / (t[:, None] - self.process.t_min)")),
    "score-learns": Bug("score", "trained-state", *at(LOSS, "self.seen = self.seen + float(batch.x.mean())")),
    "score-keeps-batch": Bug("score", "trained-state", LOSS, f"{LOSS}        self.seen = x.mean(0).detach()\n"),
    "score-sorts-data": Bug(
        "score",
        "ports-unchanged",
        "        self.seen = 0.0\n",
        "        self.seen = 0.0\n        data.all.x.copy_(data.all.x.sort(0).values)\n",
    ),
    "loss-counts": Bug(
        "score",
        "learned-state",
        "        return Loss(value)\n",
        "        self.steps = getattr(self, 'steps', 0) + 1\n        return Loss(value * self.steps)\n",
    ),
    "loss-without-gradient": Bug("score", "loss-trains", "return Loss(value)", "return Loss(value.detach())"),
    "loss-unseeded": Bug(
        "score",
        "loss-follows-generator",
        "noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)",
        "noise = torch.randn(x.shape, dtype=x.dtype)",
    ),
    "score-seeds-its-weights": Bug(
        "score",
        "same-generator-same-result",
        *at("        self.mean = nn.Parameter(torch.zeros(data.event_shape))\n", "torch.manual_seed(0)"),
    ),
    # flow
    "flow-inverse": Bug("flow", "invertible", "z * (-self.log_scale).exp()", "z * self.log_scale.exp()"),
    "flow-log-det": Bug("flow", "log-det-forward", FORWARD, FORWARD.replace(".sum()", ".mean()")),
    "flow-dtype": Bug("flow", "global-settings", *at(FORWARD, "torch.set_default_dtype(torch.float64)")),
    "flow-rows": Bug("flow", "flow-rows-independent", *at(FORWARD, "x = x - x.mean(0)")),
    "flow-in-float32": Bug(
        "flow", "dtype-kept", "z * (-self.log_scale).exp()", "(z + 1e6 - 1e6) * (-self.log_scale).exp()"
    ),
    "flow-writes-x": Bug("flow", "inputs-unchanged", *at(FORWARD, "x.data.mul_(1.1)")),
    # geometry
    "geometry-exp": Bug("geometry", "exp-log", "        return x + v\n", "        return x + 2 * v\n"),
    "geometry-metric": Bug("geometry", "metric-spd", "torch.arange(1, 4,", "torch.arange(0, 3,"),
    "geometry-log": Bug("geometry", "exp-log", "        return y - x\n", "        return x - y\n"),
    "geometry-one-way": Bug(
        "geometry",
        "distance",
        "        return y - x\n",
        "        return y - x\n\n"
        "    def distance(self, x: Tensor, y: Tensor) -> Tensor:\n"
        "        there = super().distance(x, y)\n"
        "        return there + 0.1 * (y - x).sum(1).clamp_min(0)\n",
    ),
    "geometry-mode": Bug(
        "geometry", "global-settings", *at("        return x + v\n", "torch.use_deterministic_algorithms(True)")
    ),
    # estimator
    "estimator-shuffles": Bug(
        "estimator", "inputs-unchanged", *at(ESTIMATE, "np.random.default_rng(0).shuffle(data.x.numpy())")
    ),
    "estimator-labels": Bug(
        "estimator", "inputs-unchanged", *at(ESTIMATE, "if data.label is not None:\n    data.label.zero_()")
    ),
    "estimator-seeds": Bug("estimator", "global-random-state", *at(ESTIMATE, "np.random.seed(0)")),
    "estimator-environment": Bug("estimator", "global-settings", *at(ESTIMATE, 'os.environ.pop("HOME", None)')),
    "estimator-remembers": Bug(
        "estimator",
        "use-repeats",
        ESTIMATE,
        "        self.x = getattr(self, 'x', data.x)[:-1]\n        x = self.x.double()\n",
    ),
    "estimator-biased": Bug("estimator", "right-on-sphere", "float(1 / inverse.mean())", "float(2 / inverse.mean())"),
    "estimator-few": Bug("estimator", "refuses-too-few-points", "if len(x) < self.size + 2:", "if len(x) < 1:"),
    "estimator-interval": Bug(
        "estimator", "interval-holds-value", "(0.9 * value, 1.1 * value)", "(1.1 * value, 1.2 * value)"
    ),
    "estimator-half": Bug("estimator", "reads-both-halves", *at("        nearest = torch", "x = x[: len(x) // 2]")),
    "estimator-last-half": Bug(
        "estimator", "reads-both-halves", *at("        nearest = torch", "x = x[len(x) // 2 :]")
    ),
    "estimator-odd-rows": Bug("estimator", "reads-both-halves", *at("        nearest = torch", "x = x[1::2]")),
    "estimator-every-other": Bug("estimator", "reads-both-halves", *at("        nearest = torch", "x = x[::2]")),
    # allocator
    "allocator-spends": Bug(
        "allocator", "within-budget", "divmod(budget, self.size)", "divmod(budget + 19, self.size)"
    ),
    "allocator-spends-at-some": Bug(
        "allocator",
        "within-budget",
        "divmod(budget, self.size)",
        "divmod(budget + self.size * (budget % 7 == 3), self.size)",
    ),
    "allocator-negative": Bug("allocator", "refuses-bad-budgets", "if budget < 0 or constraints:", "if constraints:"),
    "allocator-draws": Bug("allocator", "global-random-state", *at(TASKS, "random.random()")),
    "allocator-threads": Bug("allocator", "global-settings", *at(TASKS, "torch.set_num_threads(2)")),
    # data
    "data-overlaps": Bug("data", "splits-disjoint", "range(60, 75)", "range(50, 75)"),
    "data-jitters": Bug("data", "load-repeats", *at(LOAD, "self.all.x.add_(0.01)")),
    "data-scale": Bug("data", "event-scale", "EventScale.of(x[:60])", "EventScale.of(3 * x[:60])"),
    "data-seeds": Bug("data", "global-random-state", *at(LOAD, "random.seed(1)")),
    "data-any-split": Bug(
        "data", "unknown-split-refused", *at(LOAD, 'split = split if split in self.rows else "test"')
    ),
    # metric
    "metric-writes": Bug("metric", "metric-keeps-events", *at(ADD, "batch.draws.clamp_(0, 0.5)")),
    "metric-shares": Bug(
        "metric", "use-repeats", GAPS, GAPS.replace("self)", "self, gaps=[])").replace("[]\n", "gaps\n")
    ),
    "metric-seeds": Bug("metric", "global-random-state", *at(ADD, "torch.manual_seed(0)")),
    "metric-dtype": Bug("metric", "global-settings", *at(ADD, "torch.set_default_dtype(torch.float64)")),
    "metric-batches": Bug(
        "metric", "metric-batches", "torch.cat(self.gaps).mean(0).norm()", "self.gaps[-1].mean(0).norm()"
    ),
    "metric-half": Bug(
        "metric",
        "metric-any-order",
        "(draws.mean(0) - batch.truth)",
        "(draws.mean(0) - batch.truth)[: len(batch.truth) // 2]",
    ),
    "metric-weighs-rows": Bug(
        "metric",
        "metric-any-order",
        "torch.cat(self.gaps).mean(0)",
        "(torch.cat(self.gaps) * torch.linspace(0, 2, sum(map(len, self.gaps)))[:, None]).mean(0)",
    ),
    "metric-blind": Bug(
        "metric", "metric-sees-samples", "        draws = batch.draws\n", "        draws = batch.truth[None]\n"
    ),
    # a verb
    "verb-sorts": Bug(
        "verb", "verb-leaves-inputs", *at(THIN, 'inputs["data"].all.x.copy_(inputs["data"].all.x.sort(0).values)')
    ),
    "verb-index": Bug(
        "verb", "verb-leaves-inputs", *at(THIN, 'inputs["data"].all.index.copy_(inputs["data"].all.index.flip(0))')
    ),
    "verb-scale": Bug("verb", "verb-leaves-inputs", *at(THIN, 'inputs["data"].event_scale = EventScale(std=9.0)')),
    "verb-labels": Bug("verb", "verb-leaves-inputs", *at(THIN, 'inputs["data"].all.label.zero_()')),
    "verb-adds-input": Bug("verb", "verb-leaves-inputs", *at(THIN, 'inputs["data"] = TensorSource(torch.ones(60, 3))')),
    "verb-dtype": Bug("verb", "verb-settings", *at(THIN, "torch.set_default_dtype(torch.float64)")),
    "verb-environment": Bug("verb", "verb-settings", *at(THIN, 'os.environ["MINE"] = "1"')),
    "verb-folder": Bug("verb", "verb-settings", *at(THIN, 'os.chdir("/")')),
    "verb-gives-mapping": Bug("verb", "verb-gives", "return Outcome(chosen,", 'return Outcome({"points": chosen},'),
    "verb-gives-data": Bug("verb", "verb-gives", '        gives="data",\n', '        gives="metrics",\n'),
    "verb-seeds": Bug("verb", "verb-random-state", *at(THIN, "torch.manual_seed(0)")),
    "verb-draws-numpy": Bug("verb", "verb-random-state", *at(THIN, "np.random.rand()")),
    "verb-trains": Bug("verb", "verb-leaves-component", *at(THIN, "component.mean.data.add_(1)")),
    "verb-unseeded": Bug(
        "verb",
        "verb-repeats",
        'generator=context.generator("rows")',
        "generator=torch.Generator().manual_seed(int.from_bytes(os.urandom(4)))",
    ),
    # hooks
    "hook-sorts": Bug("observer", "observer-leaves-run", *at(BEFORE, 'inputs["data"].load("train").x.zero_()')),
    "hook-scale": Bug(
        "observer", "observer-leaves-run", *at(BEFORE, 'inputs["data"].event_scale = EventScale(std=9.0)')
    ),
    "hook-takes-input": Bug("observer", "observer-leaves-run", *at(BEFORE, 'inputs.pop("list")')),
    "hook-result": Bug(
        "observer",
        "observer-leaves-run",
        *at("    found = dict(outputs.result)\n", 'outputs.result["metrics"]["points"] = 0'),
    ),
    "hook-config": Bug("observer", "observer-leaves-run", *at("    seen = inputs", "run.config['seed'] = 1")),
    "hook-metrics": Bug("observer", "observer-leaves-run", *at("    shown = dict(metrics)\n", "metrics['loss'] = 0.0")),
    "hook-file": Bug(
        "observer",
        "observer-leaves-run",
        *at("    stages = [stage", '(run.folder / "data" / "result.json").write_text("{}")'),
    ),
    "hook-dtype": Bug("observer", "observer-settings", *at(BEFORE, "torch.set_default_dtype(torch.float64)")),
    "hook-environment": Bug("observer", "observer-settings", *at(BEFORE, 'os.environ["MINE"] = "1"')),
    "hook-seeds": Bug("observer", "observer-settings", *at(BEFORE, "torch.manual_seed(0)")),
    "hook-section": Bug(
        "observer", "observer-answers", 'return [("Toy", f"<p>{run.name}</p>")]', 'return [f"<p>{run.name}</p>"]'
    ),
    "hook-outcome": Bug("observer", "observer-answers", "    return None\n", '    return {"metrics": {}}\n'),
    # a kind of its own
    "kind-lists-no-verb": Bug("kind", "kind-verbs", 'verb_names=("count",)', 'verb_names=("count", "weigh")'),
    "kind-compared-by-none": Bug("kind", "kind-comparison", 'Comparison(("count",)', 'Comparison(("weigh",)'),
    "kind-interface": Bug("kind", "kind-interface", '    """What counts points."""\n', "    pass\n"),
    "kind-verb-writes": Bug("kind-verb", "verb-leaves-inputs", *at(COUNT, 'inputs["data"].all.x.zero_()')),
    "kind-verb-dtype": Bug("kind-verb", "verb-settings", *at(COUNT, "torch.set_default_dtype(torch.float64)")),
    "kind-verb-gives": Bug("kind-verb", "verb-gives", 'Outcome({"points": number}', 'Outcome(inputs["data"]'),
    "kind-verb-sets-size": Bug("kind-verb", "verb-leaves-component", *at(COUNT, "component.size = 99")),
    "kind-verb-threads": Bug("kind-verb", "verb-settings", *at(COUNT, "torch.set_num_threads(3)")),
    "own-seeds": Bug("own", "global-random-state", *at("        return len(x) + self.size\n", "torch.manual_seed(0)")),
    "own-dtype": Bug(
        "own", "global-settings", *at("        return len(x) + self.size\n", "torch.set_default_dtype(torch.float64)")
    ),
    "own-environment": Bug(
        "own", "global-settings", *at("        return len(x) + self.size\n", 'os.environ["MINE"] = "1"')
    ),
    "own-counts": Bug("own", "use-repeats", *at("        return len(x) + self.size\n", "self.size += 1")),
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A host of the plugin and of its copies, one for each bug."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "toy_plugin.py").write_text(TOY, encoding="utf-8")
    for name, bug in BUGS.items():
        assert TOY.count(bug.old) == 1, f"the text of {name} stands there {TOY.count(bug.old)} times"
        (folder / f"{module(name)}.py").write_text(TOY.replace(bug.old, bug.new), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOREFOLD_PLANTED", str(folder))
        patch.setattr(sys, "path", [str(folder), str(FOLDER), *sys.path])
        from planted_host import make_host

        yield make_host()


def module(name: str) -> str:
    return f"toy_{name.replace('-', '_')}"


def items_of(host: Any, module: str) -> dict[str, Item]:
    """All that a copy of the plugin offers, by the words of the table."""
    (record,) = [record for record in host.plugins if record.value == module]
    assert record.state != "broken", record.cause
    found = {item.kind: Item(item, item.id, module) for item in record.components}
    (kind,) = record.kinds
    found["own"] = found.pop(kind.name)
    found["kind"], found["kind-verb"] = kind_items(kind, module)
    (found["verb"],) = [verb_item(verb, module) for verb in record.verbs]
    (found["observer"],) = observer_items(record.name, module)
    return found


def checked(host: Any, item: Item, *only: str) -> list[CheckResult]:
    return list(check_components([item], host, only=only, origin=ORIGIN))


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str, host: Any) -> None:
    """By the check that is named, alone."""
    bug = BUGS[name]
    (found,) = checked(host, items_of(host, module(name))[bug.item], bug.check)
    assert found.result == FAILED, found
    assert f"--only {bug.check}" in found.detail


def test_the_plugin_itself_passes(host: Any) -> None:
    """All checks of all that it offers but the checks of laziness, which hold no file that is declaration and code."""
    levels = [level for level in LEVELS if level != "laziness"]
    for name, item in items_of(host, "toy_plugin").items():
        found = list(check_components([item], host, levels=levels, origin=ORIGIN))
        assert not [check for check in found if check.result not in (PASSED, SKIPPED)], name
        assert sum(check.result == PASSED for check in found) >= 2


@pytest.mark.parametrize("name", ["score-seeds-torch", "score-draws-numpy", "score-seeds-python", "score-folder"])
def test_a_leak_is_named_by_every_check_that_uses_the_component(name: str, host: Any) -> None:
    """No check hides it from the next: each that failed names the component, and what was changed."""
    found = list(check_components([items_of(host, module(name))["score"]], host, levels=["contract", "determinism"]))
    failed = {check.check: check for check in found if check.result == FAILED}
    assert set(failed) >= {"global-random-state" if name != "score-folder" else "global-settings", *USING}
    for check in failed.values():
        assert check.component == f"score:{module(name).replace('_', '-')}"
        assert "after the check" in check.detail or "after use" in check.detail


def test_a_leak_does_not_reach_the_next_component(host: Any) -> None:
    leaking, sound = (items_of(host, name)["score"] for name in ("toy_score_dtype", "toy_plugin"))
    before = torch.get_default_dtype(), torch.get_rng_state(), os.getcwd()
    found = list(check_components([leaking, sound], host, levels=["contract", "determinism"]))
    assert {check.component for check in found if check.result == FAILED} == {"score:toy-score-dtype"}
    after = torch.get_default_dtype(), torch.get_rng_state(), os.getcwd()
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])
    assert before[2] == after[2]


def test_there_is_a_bug_of_every_kind() -> None:
    kinds = {"score", "flow", "geometry", "estimator", "allocator", "data", "metric", "verb", "observer", "kind"}
    assert {bug.item for bug in BUGS.values()} == {*kinds, "kind-verb", "own"}
    assert len(BUGS) >= 40


def test_our_own_hooks_and_kinds_pass() -> None:
    """Components of ours and their verbs are held to the checks beside their own tests."""
    from scorefold_registry import Host

    ours = Host.discover()
    items = [item for record in ours.plugins for kind in record.kinds for item in kind_items(kind, record.value)]
    items += [item for r in ours.plugins for item in observer_items(r.name, r.value, r.settings)]
    assert {item.component.kind for item in items} == {"kind", "observer", "verb"}
    found = list(check_components(items, ours))
    assert not [check for check in found if check.result == FAILED]
