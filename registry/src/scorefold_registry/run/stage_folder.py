"""The folder of a stage: written when the stage is done, read by later stages and later runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import save_arrays, write_json, write_text
from scorefold.errors import ArtefactError
from scorefold.stage import Executor, Fitted, Outcome
from scorefold_registry.components.manifest import REFERENCE_FILE, has_state
from scorefold_registry.components.saving import load, port_objects, relative
from scorefold_registry.components.stage_files import RESULT_FILE, STAGE_FILE, read_result, read_stage, stages_near
from scorefold_registry.components.values import load_value, save_value
from scorefold_registry.plugins.loading import describe, own_frame
from scorefold_registry.run.figures import draw
from scorefold_registry.runfile.plan import PlannedStage

if TYPE_CHECKING:
    from scorefold_registry.host import Host

ARRAYS_FILE = "arrays.safetensors"


@dataclass(frozen=True)
class LoadedStage:
    """A stage read from its folder. ``component`` is what verbs act on; ``value`` what later stages receive."""

    name: str
    component: Any
    value: Any
    facts: Mapping[str, Any]
    result: Mapping[str, Any]


def load_stage(
    host: Host, folder: Path | str, device: str | None = None, executor: Executor | None = None
) -> LoadedStage:
    """A stage of a run folder, rebuilt: the component by the host, the value from its files.

    Raises ``ArtefactError`` for a folder that isn't a finished stage.
    """
    folder = Path(folder)
    if not (folder / STAGE_FILE).is_file():
        raise ArtefactError(f"{folder} is not a finished stage", hint=stages_near(folder))
    facts = read_stage(folder)
    component = load(host.builder, folder, device, executor) if has_state(folder) else None
    value = load_value(folder, component)
    return LoadedStage(facts["name"], component, value, facts, read_result(folder))


def load_stage_value(host: Host, folder: Path, device: str, executor: Executor | None = None) -> Any:
    """The value of a stage of a run folder. What made it is loaded only where it is the value."""
    value = load_value(folder, _COMPONENT)
    return load(host.builder, folder, device, executor) if value is _COMPONENT else value


_COMPONENT = object()


def write_stage(host: Host, planned: PlannedStage, component: Any, outcome: Outcome, folder: Path, facts: Any) -> None:
    """The folder of a finished stage: manifest and state, value, result, arrays, figures, and what made it."""
    created = component is not None and planned.source is None
    origin = {}
    if planned.artefact is not None:
        origin = {"loaded": str(planned.artefact.folder), "digest": planned.artefact.digest}
        reference = {"state": relative(planned.artefact.folder, folder), "digest": planned.artefact.digest}
        write_json(folder / REFERENCE_FILE, reference)
    elif created or outcome.value is component:
        host.save(component, folder)
    save_value(outcome.value, component, folder)
    remarks = {"warnings": remarked} if (remarked := _remarks(host, component, outcome)) else {}
    write_json(folder / RESULT_FILE, {"metrics": {}, **origin, **outcome.result, **remarks})
    if outcome.arrays:
        save_arrays(folder / ARRAYS_FILE, outcome.arrays)
    for name, text in outcome.texts.items():
        if Path(name).name != name or (folder / name).exists():
            raise ArtefactError(
                f"stage {planned.name!r} gave the text {name!r}; expected the name of a file of its own"
            )
        write_text(folder / name, text)
    failure = _draw(host, planned, outcome, folder)
    again = outcome.shown is None
    write_json(folder / STAGE_FILE, {**facts, "figure_failure": failure, "figures_of_value": again})


def draw_again(host: Host, planned: PlannedStage, folder: Path) -> str | None:
    """Draw the figures of a reused stage whose figures could not be drawn; what went wrong now, None where nothing.

    Figures of what is not kept, such as the course of a training, need the stage to be computed anew.
    """
    facts = read_stage(folder)
    failure: str = facts["figure_failure"]
    if not facts.get("figures_of_value"):
        return f"{failure}; with --fresh the stage is computed again, and they are drawn"
    found = _draw(host, planned, Outcome(load_stage(host, folder).value), folder)
    write_json(folder / STAGE_FILE, {**facts, "figure_failure": found})
    return found


def _remarks(host: Host, component: Any, outcome: Outcome) -> list[str]:
    """The warnings of a result, with the remarks of the component and of all that is plugged into it."""
    parts = [component, *port_objects(host.builder, component)]
    said = [text for part in parts for text in getattr(part, "remarks", ())]
    return list(dict.fromkeys([*outcome.result.get("warnings", ()), *said]))


def _draw(host: Host, planned: PlannedStage, outcome: Outcome, folder: Path) -> str | None:
    """Draw a stage's figures; what went wrong: a figure that fails must not cost the result."""
    component, verb = planned.registered.component, planned.verb
    target, shown = verb.figures, outcome.drawn
    if component.figures is not None and verb == host.catalogue.kind(component.kind).verb():
        target, shown = component.figures, shown if isinstance(shown, Fitted) else outcome.value
    if target is None:
        return None
    try:
        draw(target, shown, folder)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        frame = own_frame(error, {target.partition(".")[0]})
        return f"the figures of stage {planned.name!r} ({target}) failed: {describe(error)} at {frame}"
    return None
