"""Checks of a plugin's hooks around runs: what they are handed stays as it was, and their answers are such as are used.

The hooks of a plugin are checked as one component of the kind ``observer``, called in the order of a small run.
"""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from pydantic import ValidationError

from scorefold.artefacts import write_json
from scorefold.data import Dataset
from scorefold.interfaces import TensorSource
from scorefold.plugin import Component
from scorefold.results import Estimate
from scorefold.stage import Executor, Outcome, RunInfo, StageInfo
from scorefold_testing.contents import changed_parts, contents
from scorefold_testing.contract import (
    OBSERVER,
    Check,
    NotApplicableError,
    Subject,
    ViolationError,
    check,
    require,
    resolve,
)
from scorefold_testing.exact import subspace
from scorefold_testing.process import renewed, require_unchanged

ORDER = (
    "scorefold_before_run",
    "scorefold_before_stage",
    "scorefold_run_stage",
    "scorefold_on_metrics",
    "scorefold_after_stage",
    "scorefold_on_stage_error",
    "scorefold_on_run_error",
    "scorefold_report_sections",
    "scorefold_after_run",
)
"""The hooks that see a run, in the order in which they are called here."""
EXECUTOR = "scorefold_executor"


def hooks(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The hooks around runs that a module implements, by name."""
    found = {
        options.get("specname") or name: value
        for name, value in vars(module).items()
        if isinstance(options := getattr(value, "scorefold_impl", None), dict)
    }
    return {name: found[name] for name in (*ORDER, EXECUTOR) if name in found}


def observer_as_component(plugin: str, module: str, settings: str | None = None) -> Component | None:
    """The hooks of a plugin's module as the checks see them; None where it has none. ``settings`` names their model."""
    found = hooks(import_module(module))
    if not found:
        return None
    name = re.sub(r"[^a-z0-9]+", "-", plugin.lower()).strip("-")
    function = next(iter(found.values())).__name__
    example = {"plugin": plugin, "settings": settings}
    return Component(
        OBSERVER, name, f"{module}:{function}", "scorefold.config:Config", f"The hooks of {plugin}", examples=(example,)
    )


@dataclass
class Watched:
    """A small run: what its hooks are handed, by the names of their arguments, and its folder."""

    folder: Path
    given: Mapping[str, Any]

    def contents(self) -> Mapping[str, str]:
        """All that hooks are handed, and the files of stages."""
        files = {f"the file {path.relative_to(self.folder)}": path.read_bytes() for path in self._files}
        handed = {
            name: vars(value) if isinstance(value, BaseException) else value for name, value in self.given.items()
        }
        return contents({**handed, **files})

    @property
    def _files(self) -> list[Path]:
        return [self.folder / name / "result.json" for name in ("data", "count") if (self.folder / name).exists()]


@contextmanager
def _run(subject: Subject, plugins: Mapping[str, Any]) -> Iterator[Watched]:
    """A run of two stages whose second has just ended."""
    x = subspace().points(30, subject.generator("points"))
    rows = torch.arange(30)
    data = TensorSource({"train": Dataset(x, label=rows % 2, index=rows, truth={"dimension": 2})})
    result = {"metrics": {"points": 30}, "answer": {"quantity": "points", "value": 30.0}}
    config = {"seed": 0, "stages": {"data": {"use": "data:points"}, "count": {"use": "estimator:count", "do": "count"}}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stage in config["stages"]:  # type: ignore[attr-defined]
            (folder / stage).mkdir()
            write_json(folder / stage / "result.json", result)
        stages = [
            {"name": stage, "component": "data:points@1", "reused": False, "seconds": 0.1, "metrics": {"points": 30}}
            for stage in ("data", "count")
        ]
        estimate = Estimate("count", 30.0, (29.0, 31.0), pointwise=torch.ones(30))
        yield Watched(
            folder,
            {
                "run": RunInfo("checked", folder, 0, config, plugins),
                "stage": StageInfo("count", "estimator:count@1", "count", "0f3a", {"size": 3}, 3, 5),
                "inputs": {"data": data, "score": subspace().score(), "list": [data]},
                "outputs": Outcome(estimate, dict(result), {"pointwise": torch.ones(30)}, {"curve.csv": "1,2"}),
                "seconds": 0.1,
                "step": 3,
                "metrics": {"loss": 0.5},
                "result": {"run": str(folder), "stages": stages},
                "error": RuntimeError("a stage failed"),
                "state": "failed",
            },
        )


def _settings(subject: Subject) -> list[dict[str, Any]]:
    """Values for ``run.plugins``: nothing, and the plugin's settings if they have defaults."""
    found: list[dict[str, Any]] = [{}]
    if subject.example["settings"] is not None:
        with suppress(ValidationError):
            found.append({subject.example["plugin"]: resolve(subject.example["settings"])()})
    return found


def _hooks(subject: Subject) -> dict[str, Callable[..., Any]]:
    found = hooks(import_module(subject.component.target.partition(":")[0]))
    return {name: hook for name, hook in found.items() if name != EXECUTOR}


def _called(hook: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Answer of a hook, called with its arguments. Generators are exhausted, and wrapped calls have ended."""
    answer = hook(**{name: given[name] for name in inspect.signature(hook).parameters if name in given})
    if not isinstance(answer, Iterator):
        return answer
    options: Any = getattr(hook, "scorefold_impl", {})
    return _wrapped(answer, given["outputs"]) if options.get("wrapper") else list(answer)


def _wrapped(around: Iterator[Any], outcome: Outcome) -> Any:
    """Outcome after a wrapper."""
    assert isinstance(around, Generator)
    next(around)
    try:
        around.send(outcome)
    except StopIteration as end:
        return end.value
    raise ViolationError("a wrapper yields twice; expected one yield")


def _watch(subject: Subject) -> dict[str, list[Any]]:
    """All hooks called on small runs, with the plugin's settings and without: their answers by hook."""
    answers: dict[str, list[Any]] = {}
    for plugins in _settings(subject):
        with _run(subject, plugins) as watched:
            for name, hook in _hooks(subject).items():
                answers.setdefault(name, []).append(_called(hook, watched.given))
    return answers


@check("observer-leaves-run", OBSERVER, level="contract")
def observer_leaves_run(subject: Subject) -> str:
    """Inputs, outputs, configuration, metrics and results that its hooks see stay as they were, and so do files."""
    for plugins in _settings(subject):
        with _run(subject, plugins) as watched:
            for name, hook in _hooks(subject).items():
                before = watched.contents()
                _called(hook, watched.given)
                changed = changed_parts(before, watched.contents())
                require(not changed, f"{name} changed {', '.join(changed)}", "what it is handed as it was")
    return f"unchanged by {', '.join(_hooks(subject)) or 'no hook'}"


@check("observer-settings", OBSERVER, level="determinism")
def observer_settings(subject: Subject) -> str:
    """Its hooks leave shared generators, the default dtype, gradient mode, threads and working folder as they were."""
    _watch(subject)
    for opposite in (False, True):
        with renewed(subject.seed, opposite=opposite) as changes:
            _watch(subject)
            require_unchanged(changes())
    return "left alone"


@check("observer-answers", OBSERVER, level="contract")
def observer_answers(subject: Subject) -> str:
    """Sections of a report are pairs of a title and HTML, and a stage that is run gives an ``Outcome`` or None."""
    answers = _watch(subject)
    for sections in answers.get("scorefold_report_sections", []):
        for section in sections or ():
            pair = isinstance(section, tuple) and len(section) == 2 and all(isinstance(part, str) for part in section)
            require(pair, f"a section of the report is {section!r:.100}", "a pair of a title and an HTML fragment")
    for outcome in answers.get("scorefold_run_stage", []):
        fits = outcome is None or isinstance(outcome, Outcome)
        require(fits, f"scorefold_run_stage answered with a {type(outcome).__name__}", "an Outcome, or None")
    return f"{sum(map(len, answers.values()))} answers"


@check("observer-executor", OBSERVER, level="contract")
def observer_executor(subject: Subject) -> str:
    """An executor that answers without settings gives answers in the order of the items, and can be closed."""
    hook = hooks(import_module(subject.component.target.partition(":")[0])).get(EXECUTOR)
    if hook is None:
        raise NotApplicableError("it has no executor")
    with _run(subject, {}) as watched:
        executor = _called(hook, watched.given)
        if executor is None:
            return "it answers only where a run file names it"
        require(isinstance(executor, Executor), f"it is a {type(executor).__name__}", "a scorefold.stage.Executor")
        try:
            found = executor.map("math:sqrt", [9.0, 4.0, 16.0], "roots")
        finally:
            executor.close()
    require(found == [3.0, 2.0, 4.0], f"the roots of 9, 4 and 16 are {found}", "[3.0, 2.0, 4.0]")
    return "answers in the order of the items"


CHECKS: tuple[Check, ...] = (observer_leaves_run, observer_settings, observer_answers, observer_executor)
