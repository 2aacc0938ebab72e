"""Push: a stage as a folder that others load, on disk or on the Hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from scorefold.artefacts import files_in, new_folder, write_text
from scorefold.errors import ArtefactError, ConfigError
from scorefold_registry.components.manifest import CARD, RUN_FILE, UNKNOWN, check_names
from scorefold_registry.components.shared_states import check_states
from scorefold_registry.components.stage_files import STAGE_FILE, VALUE_FILE, read_stage, stages_near
from scorefold_registry.host import Host
from scorefold_registry.runfile.loaded_stages import find_artefact
from scorefold_registry.runfile.yaml_reader import parse_value, yaml_text
from scorefold_registry.sharing.card import Card, check_licence
from scorefold_registry.sharing.places import repository, upload


@dataclass(frozen=True)
class Pushed:
    """Place of a pushed model, a folder or an address, with notes for a person."""

    place: str
    notes: tuple[str, ...]


def push(
    host: Host,
    stage: Path | str,
    to: Path | str,
    *,
    licence: str | None = None,
    data_licence: str | None = None,
    private: bool = True,
    half: bool = False,
) -> Pushed:
    """Write the model of a finished stage into a new folder, or upload it to the Hub (``org/name``).

    The folder holds the weights and what is plugged in as safetensors and JSON, the run file that leads to the stage
    and a model card. Training data stay where they are. ``licence`` is of the weights, ``data_licence`` of the data
    that they were trained on. ``half`` keeps weights in float16; who loads them computes as before. Raises
    ``ArtefactError`` for a folder that is no stage with a component, or whose component reads files or calls functions
    of this machine, and for a folder that is there already; ``ConfigError`` for a licence that is no identifier; and as
    ``places.upload``.
    """
    stage, licence = Path(stage).absolute(), UNKNOWN if licence is None else check_licence(licence)
    data_licence = None if data_licence is None else check_licence(data_licence)
    write = partial(_write, host, stage, licence=licence, data_licence=data_licence, half=half)
    name = repository(to)
    if name is None:
        place = Path(to).expanduser().absolute()
        notes = write(place, place.name)
        return Pushed(str(place), notes)
    with tempfile.TemporaryDirectory(prefix="scorefold-push-") as parent:
        place = Path(parent) / "model"
        notes = write(place, name.partition("/")[2])
        return Pushed(upload(place, name, private=private), notes)


def _write(
    host: Host, stage: Path, place: Path, name: str, *, licence: str, data_licence: str | None, half: bool
) -> tuple[str, ...]:
    if not (stage / STAGE_FILE).is_file():
        raise ArtefactError(f"{stage} is not a finished stage", hint=stages_near(stage))
    components = find_artefact(host.catalogue, stage).components
    run = _run_of(stage)
    with new_folder(place) as folder:
        model = host.load(stage)
        host.save(model, folder, bundle=True, half=half)
        check_states(host.builder, folder)
        # Points in memory, such as an earlier stage's samples, are copied where a model keeps them.
        notes = [
            f"{value.parent.relative_to(folder).as_posix()} holds points themselves, for everybody who has the folder"
            for value in sorted(folder.rglob(VALUE_FILE))
        ]
        shape = getattr(model, "event_shape", None)
        card = Card(stage, name, licence, data_licence, components, run["stages"], shape, notes)
        write_text(folder / CARD, card.text())
        write_text(folder / RUN_FILE, yaml_text({**run, "name": re.sub(r"[^A-Za-z0-9_-]", "-", name)}))
        check_names((file.relative_to(folder).as_posix() for file in files_in(folder)), str(place))
    if licence == UNKNOWN:
        notes.append("no licence was named, and without one nobody may use the weights; for example cc-by-4.0")
    return tuple(notes)


def _run_of(stage: Path) -> dict[str, Any]:
    """The run file of a stage and of those that lead to it, with every default written out, without folders of this
    machine."""
    file = stage.parent / "resolved.yaml"
    if not file.is_file():
        raise ConfigError(f"{stage} is not in a run: there is no {file}", hint="push a stage in its run's folder")
    run = parse_value(file.read_text("utf-8"))
    wanted, left = set[str](), [read_stage(stage)["name"]]
    while left:
        name = left.pop()
        wanted.add(name)
        spec = run["stages"][name]
        left += [text for text in _texts([spec.get("use"), spec.get("inputs")]) if text in run["stages"]]
    stages = {name: _without_folders(spec) for name, spec in run["stages"].items() if name in wanted}
    return {**{key: run[key] for key in ("version", "name", "seed", "runtime")}, "stages": stages}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
    return value
