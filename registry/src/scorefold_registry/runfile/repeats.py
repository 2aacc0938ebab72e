"""Stages that are trained several times: the option ``trainings`` of ``estimate``, written out as stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scorefold.errors import PluginError
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.runfile.reader import RunFile, StageSpec

OPTION, PORT = "trainings", "repeats"


def write_out(catalogue: Catalogue, run: RunFile) -> None:
    """Add the stages of the option to a run file. With ``trainings: 3``, a ``dimension`` that takes ``score`` gets
    ``score-2`` and ``score-3``, whose seeds follow from their names, an estimate from each, and these as its
    ``repeats``. A stage that can't be repeated is a problem of the run file."""
    written = dict(run.stages)
    for name, spec in written.items():
        count = spec.options.get(OPTION, 1)
        if type(count) is not int or not 3 <= count <= 50 or _verb(catalogue, spec) != "estimate":
            continue  # 1, or refused where options are checked
        models = [each for each in _named(spec.inputs) if each in written and _verb(catalogue, written[each]) == "fit"]
        if spec.uses_stage or not models:
            hint = f"train the model in a stage of its own ('do: fit') and name it in the inputs of {spec.name}"
            _refuse(run, spec, f"{OPTION} is {count}, and no stage that trains a model is among the inputs", hint)
            continue
        options = {key: value for key, value in spec.options.items() if key != OPTION}
        for number in range(2, count + 1):
            again = {model: f"{model}-{number}" for model in models}
            copies = {new: replace(written[model], name=new, repeats=model) for model, new in again.items()}
            own = f"{name}-{number}"
            copies[own] = replace(spec, name=own, repeats=name, inputs=_renamed(spec.inputs, again), options=options)
            if taken := sorted(copies.keys() & written.keys()):
                message = f"{OPTION} is {count}, which makes a stage {taken[0]!r}, and there is one already"
                _refuse(run, spec, message, f"give stage {taken[0]!r} another name")
                break
            run.stages.update(copies)
        inputs = {**spec.inputs, PORT: [f"{name}-{number}" for number in range(2, count + 1)]}
        run.stages[name] = replace(spec, inputs=inputs, options=options)


def _verb(catalogue: Catalogue, spec: StageSpec) -> str | None:
    """The verb of a stage that creates a component; None for others, and for one that isn't known."""
    if spec.load is not None or spec.uses_stage:
        return None
    try:
        component = catalogue.resolve(spec.use).component
    except PluginError:
        return None
    verb = catalogue.kinds[component.kind].verb(spec.do)
    return None if verb is None else verb.name


def _named(inputs: Mapping[str, Any]) -> list[str]:
    """The stages named by inputs themselves, without those inside inline components."""
    return [value for value in inputs.values() if isinstance(value, str)]


def _renamed(inputs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {port: names.get(value, value) if isinstance(value, str) else value for port, value in inputs.items()}


def _refuse(run: RunFile, spec: StageSpec, message: str, hint: str) -> None:
    run.problems.append(run.source.error(message, (*spec.path, "options", OPTION), hint=hint))
