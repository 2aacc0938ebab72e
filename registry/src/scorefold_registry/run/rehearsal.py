"""What a run will need, tried before its first long stage: every later stage is built, and nothing is computed.

A file that is missing, a size that does not divide or data of another shape is found in seconds, and not after a
training of two days.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from scorefold.errors import PluginError, ScorefoldError, ShapeError
from scorefold_registry.components.parts import names_in
from scorefold_registry.plugins.process_guard import guarded
from scorefold_registry.run.stage_builder import StageBuilder
from scorefold_registry.runfile.plan import Plan, PlannedStage

_READ_EVENTS = ("evaluate", "outliers", "assess", "interpolate")
"""Verbs of scores, flows and geometries that read events of the shape that these are for."""


class _UnknownError(Exception):
    """What an input would be is known only once its stage is done."""


def rehearse(
    builder: StageBuilder, plan: Plan, done: Callable[[str], Any], stages: Sequence[PlannedStage]
) -> list[ScorefoldError]:
    """What is wrong with stages that have not begun, each error with its place in the file.

    ``done`` gives the value of a stage before them, a copy of its own, or raises ``KeyError``. Components are built as
    they will be, on the CPU. An error counts where nothing that is still to be computed is plugged in: what a component
    makes of a model that is not trained yet says nothing. Other faults of a plugin's code are left for the stage
    itself.
    """
    on_cpu, built, problems = replace(builder, device="cpu"), dict[str, Any](), list[ScorefoldError]()
    to_come = {planned.name for planned in stages if planned.registered.component.kind != "data"}

    def value(name: str) -> Any:
        if name not in built:
            try:
                built[name] = done(name)
            except KeyError:
                raise _UnknownError(name) from None
        return built[name]

    with guarded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for planned in stages:
            try:
                _build(on_cpu, planned, value, built)
            except ScorefoldError as error:
                ours = not isinstance(error, PluginError) or isinstance(error.__cause__, ScorefoldError)
                if ours and not to_come.intersection(names_in(list(planned.inputs.values()))):
                    problems.append(error.at(planned.file or plan.run.path, planned.line, planned.column))
                continue
            except Exception:
                continue
            try:
                _check_shapes(planned, value)
            except ShapeError as error:
                problems.append(error.at(planned.file or plan.run.path, planned.line, planned.column))
            except Exception:
                continue
    return problems


def _build(builder: StageBuilder, planned: PlannedStage, value: Callable[[str], Any], built: dict[str, Any]) -> None:
    """Build a stage's component, and note it as what the stage hands on where that is so."""
    if planned.source is not None:
        return
    if planned.registered.component.kind == "data" and planned.artefact is None:
        component = builder.source(planned, value)
    else:
        component = builder.component(planned, value, value)
    if isinstance(component, nn.Module):
        component.eval()  # as training would leave it
    if planned.verb.gives == planned.registered.component.kind:
        built[planned.name] = component


def _check_shapes(planned: PlannedStage, value: Callable[[str], Any]) -> None:
    """Raises ``ShapeError`` where a verb would read events of another shape than its model is for."""
    component, name = planned.registered.component, planned.inputs.get("data")
    if (
        planned.source is None
        or component.kind not in ("score", "flow", "geometry")
        or planned.verb.name not in _READ_EVENTS
    ):
        return
    model, data = value(planned.source), value(name) if isinstance(name, str) else None
    wanted, shape = getattr(model, "event_shape", None), getattr(data, "event_shape", None)
    if wanted is not None and shape is not None and tuple(shape) != tuple(wanted):
        raise ShapeError(
            f"stage {planned.name!r} would {planned.verb.name} data of shape {tuple(shape)} with a {component.kind} "
            f"for events of shape {tuple(wanted)}",
            hint="give it data of the kind that it is made for",
        )
