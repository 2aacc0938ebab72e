"""The folder of a stage and its figures: written when the stage is done, read by later stages and later runs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import read_json, save_arrays, write_json, write_text
from scorefold.errors import ArtefactError
from scorefold.stage import Executor, Fitted, Outcome, reported
from scorefold_registry.components.manifest import REFERENCE_FILE, has_state
from scorefold_registry.components.paths import file_name, free_name
from scorefold_registry.components.saving import load_object, port_objects, relative
from scorefold_registry.components.stage_files import RESULT_FILE, STAGE_FILE, read_result, read_stage, stages_near
from scorefold_registry.components.values import load_value, save_value
from scorefold_registry.plugins.loading import describe, own_frame
from scorefold_registry.runfile.plan import PlannedStage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scorefold_registry.host import Host

ARRAYS_FILE = "arrays.safetensors"
CAPTIONS = "figures.json"
DPI = 160


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
    component = load_object(host.builder, folder, device, executor) if has_state(folder) else None
    value = load_value(folder, component)
    return LoadedStage(facts["name"], component, value, facts, read_result(folder))


def load_stage_value(host: Host, folder: Path, device: str, executor: Executor | None = None) -> Any:
    """The value of a stage of a run folder. What made it is loaded only where it is the value."""
    value = load_value(folder, _COMPONENT)
    return load_object(host.builder, folder, device, executor) if value is _COMPONENT else value


_COMPONENT = object()


def write_stage(
    host: Host,
    planned: PlannedStage,
    component: Any,
    outcome: Outcome,
    folder: Path,
    facts: Any,
    *,
    later: bool = False,
) -> None:
    """The folder of a finished stage: manifest and state, value, result, arrays, figures, and what made it.

    ``later`` leaves out figures that the value gives at any time, which are then due.
    """
    created = component is not None and planned.source is None
    origin = {}
    if planned.artefact is not None:
        origin = {"loaded": planned.artefact.place, "digest": planned.artefact.digest}
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
    again = outcome.shown is None
    failure = None if later and again else _draw(host, planned, outcome, folder)
    about = {"figure_failure": failure, "figures_of_value": again, "figures_due": later and again}
    write_json(folder / STAGE_FILE, {**facts, **about})


def draw_again(host: Host, planned: PlannedStage, folder: Path, value: Any) -> str | None:
    """Draw the figures of a stage that are due, or that could not be drawn, from its value; what went wrong now, None
    where nothing.

    Figures of what is not kept, such as the course of a training, need the stage to be computed anew.
    """
    facts = read_stage(folder)
    if not facts.get("figures_of_value"):
        return f"{facts['figure_failure']}; with --fresh the stage is computed again, and they are drawn"
    found = _draw(host, planned, Outcome(value), folder)
    write_json(folder / STAGE_FILE, {**facts, "figure_failure": found, "figures_due": False})
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


def draw(target: str, shown: Any, folder: Path, *, math: bool = True) -> list[str]:
    """Call ``module:function`` on what is shown and write ``figures/<name>.png`` and ``.svg``; the names drawn.

    A figure is captioned with its label (``figure.set_label``), where that says more than the titles in the figure.
    Without ``math``, dollars in its texts are dollars: for names that anybody may have given.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": math}):
        return _drawn(target, shown, folder)


def _drawn(target: str, shown: Any, folder: Path) -> list[str]:
    module, _, function = target.partition(":")
    figures: Mapping[str, Figure] = getattr(import_module(module), function)(shown) or {}
    captions: dict[str, dict[str, str]] = {}
    for name, figure in reported(figures.items(), len(figures), "figures"):
        stem = free_name(file_name(name), captions)
        _write_figure(figure, folder / "figures", stem)
        captions[stem] = {"name": name, **_words(figure, name)}
    if captions:
        write_json(folder / "figures" / CAPTIONS, captions)
    return list(captions)


def erase(folder: Path) -> None:
    """Remove the figures that ``draw`` wrote into a folder, and nothing else that stands beside them."""
    captions = folder / "figures" / CAPTIONS
    if not captions.exists():
        return
    found = read_json(captions)
    for stem in found if isinstance(found, dict) else ():
        if file_name(stem) == stem:
            for ending in (".svg", ".png"):
                captions.with_name(stem + ending).unlink(missing_ok=True)
    captions.unlink()


def _write_figure(figure: Figure, folder: Path, stem: str) -> None:
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    # A fixed salt and no date: the same figure gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": stem}), warnings.catch_warnings():
        # A name may be in any script, and the font has few.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(folder / f"{stem}.svg", format="svg", metadata={"Date": None})
        # Laid out by now: doing it again would cost as much as the drawing.
        figure.set_layout_engine(None)
        # A seventh larger than by the default level, and drawn in three quarters of the time.
        figure.savefig(folder / f"{stem}.png", format="png", dpi=DPI, pil_kwargs={"compress_level": 3})


def _words(figure: Figure, name: str) -> dict[str, str]:
    """The caption of a figure, empty where there is none, and a title for those who can't see it."""
    label = str(figure.get_label() or "")
    titles = [title for title in (figure.get_suptitle(), *(str(axes.get_title()) for axes in figure.axes)) if title]
    title = label or (titles[0] if titles else name.replace("-", " ").capitalize())
    return {"title": title, "caption": "" if label in titles else label}
