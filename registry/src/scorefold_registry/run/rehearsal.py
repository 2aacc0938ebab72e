"""What a run will need, tried before its first long stage: every later stage is built, and nothing is computed.

A file that is missing, a size that does not divide or data of another shape is found in seconds, and not after a
training of two days.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from scorefold.errors import ScorefoldError, ShapeError
from scorefold_registry.run.stage_folder import Workshop
from scorefold_registry.runfile.plan import Plan, PlannedStage

_ON_EVENTS = ("score", "flow")
"""Kinds whose verbs read data of the shape that the component was made for."""


class _UnknownError(Exception):
    """What an input would be is known only once its stage is done."""


def rehearse(
    workshop: Workshop, plan: Plan, done: Mapping[str, Any], stages: Sequence[PlannedStage]
) -> list[ScorefoldError]:
    """What is wrong with stages that have not begun, each error with its place in the file.

    ``done`` has the values of the stages before them. Components are built as they will be, from components that are
    not trained yet, on the CPU; what only a value that is still to be computed can tell is passed over. Faults that are
    no ``ScorefoldError`` are left for the stage itself: what was not trained may be at fault.
    """
    on_cpu, known, problems = replace(workshop, device="cpu"), dict(done), list[ScorefoldError]()

    def value(name: str) -> Any:
        if name not in known:
            raise _UnknownError(name)
        return known[name]

    for planned in stages:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _rehearse_stage(on_cpu, planned, value, known)
        except ScorefoldError as error:
            problems.append(error.at(plan.run.path, planned.line, planned.column))
        except Exception:
            continue
    return problems


def _rehearse_stage(workshop: Workshop, planned: PlannedStage, value: Any, known: dict[str, Any]) -> None:
    """Build a stage's component and its inputs, and note what it will hand on as far as that is known."""
    if planned.artefact is not None:
        component: Any = workshop.host.load(planned.artefact.folder, device="cpu")
    elif planned.source is not None:
        component = value(planned.source)
    elif planned.registered.component.kind == "data":
        component = workshop.source(planned, value)
        component.fingerprint()
    else:
        component = workshop.component(planned, value, value)
    if isinstance(component, nn.Module):
        component.eval()  # as training would leave it
    inputs = workshop.inputs(planned, component, value)
    if planned.registered.component.kind in _ON_EVENTS:
        _check_shapes(planned, component, inputs)
    if planned.verb.gives == planned.registered.component.kind:
        known[planned.name] = component


def _check_shapes(planned: PlannedStage, component: Any, inputs: Mapping[str, Any]) -> None:
    """Raises ``ShapeError`` where a verb would read data of another shape than its model is for."""
    wanted = getattr(component, "event_shape", None)
    for name, given in inputs.items():
        shape = getattr(given, "event_shape", None)
        if wanted is not None and shape is not None and tuple(shape) != tuple(wanted):
            raise ShapeError(
                f"stage {planned.name!r} would {planned.verb.name} data of shape {tuple(shape)} (port {name!r}) with a "
                f"{planned.registered.component.kind} for events of shape {tuple(wanted)}",
                hint="give it data of the kind that the model is made for",
            )
