"""Push and pull: a stage as a folder for others, on disk or on the Hugging Face Hub, and a checked copy of such a
folder."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from scorefold.artefacts import files_in, new_folder, write_text
from scorefold.errors import ArtefactError, ConfigError, ScorefoldError
from scorefold_registry.components.manifest import (
    CARD,
    RUN_FILE,
    UNKNOWN,
    check_file,
    check_names,
    folder_files,
)
from scorefold_registry.components.stage_files import STAGE_FILE, VALUE_FILE, read_stage, stages_near
from scorefold_registry.host import Host
from scorefold_registry.run.stage_builder import check_states
from scorefold_registry.runfile.loaded_stages import PREFIX, Shipped, find_artefact, find_model, shipped_models
from scorefold_registry.runfile.yaml_reader import parse_value, yaml_text
from scorefold_registry.sharing.card import Card, check_licence

HUB = "hf://"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def repository(text: str | Path) -> str | None:
    """The repository ``org/name`` that a text names; None for a folder.

    ``hf://org/name`` is always the Hub, and what begins with ``.``, ``/`` or ``~`` or is a ``Path`` always a folder.
    Raises ``ConfigError`` where ``org/name`` could be either, and for a name that the Hub does not take.

    >>> repository("ada/rings"), repository("./ada/rings"), repository("hf://ada/rings")
    ('ada/rings', None, 'ada/rings')
    """
    if isinstance(text, Path):
        return None
    name = text.removeprefix(HUB)
    fits = _REPOSITORY.fullmatch(name) is not None and ".." not in name and "--" not in name
    if text.startswith(HUB):
        if not fits:
            raise ConfigError(f"{text} is not a repository of the Hub", hint=f"expected {HUB}org/name")
        return name
    if not fits:
        return None
    if Path(name).parent.is_dir():
        raise ConfigError(
            f"{name} may be a folder here, or a model of the Hub: {Path(name).parent} is a folder",
            hint=f"write ./{name} for the folder, or {HUB}{name} for the Hub",
        )
    return name


def upload(folder: Path, name: str, *, private: bool) -> str:
    """Put a folder's files into a repository, which is made where it is not there; the address of the model.

    Files of an earlier upload that the folder does not have are removed. Raises ``ConfigError`` without
    huggingface_hub, ``ScorefoldError`` for what the Hub refuses.
    """
    with _hub(name):
        from huggingface_hub import HfApi

        api = HfApi()
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message="Push a model of Scorefold",
            delete_patterns=["*.json", "*.safetensors"],
        )
    return str(address)


def files_of(name: str, revision: str | None) -> list[str]:
    """The names of the files of a repository; see ``upload`` for the errors."""
    with _hub(name):
        from huggingface_hub import HfApi

        return list(HfApi().list_repo_files(name, revision=revision))


def download(name: str, revision: str | None, files: list[str]) -> Path:
    """The folder of these files of a repository in the Hub's own cache; see ``upload`` for the errors."""
    with _hub(name):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision, allow_patterns=files))


@contextmanager
def _hub(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"the Hub needs a library that can't be imported: {error}",
            hint="pip install 'scorefold-registry[hub]', or name a folder: ./" + name,
        ) from error
    except ScorefoldError:
        raise
    except Exception as error:  # of the network, of the Hub, of the login: all of them of the library's own classes
        raise ScorefoldError(
            f"the Hub did not serve {name}: {type(error).__name__}: {error}",
            hint="check the name, the network and the login (hf auth login)",
        ) from error


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


MODELS = Path("models")
"""Default folder of pulled models."""


def pull(host: Host, source: Path | str, to: Path | str | None = None, *, revision: str | None = None) -> Path:
    """Copy a pushed model, from a plugin, a folder or the Hub (``org/name``), into a new folder, once it was checked.

    A model that comes with a plugin is called by its name, or ``model:NAME`` where a folder here is called so too.

    Without ``to`` it is ``models/NAME`` in the working folder. The answer is the new folder, absolute.

    Nothing in it is run: it is safetensors and JSON, what is plugged in stands inside, and it is rebuilt by plugins
    that are installed here. ``revision`` is a branch, a tag or a commit of the repository. Raises ``ArtefactError`` for
    a folder that holds anything else, is damaged, or was made by plugins that are not installed or older than it;
    ``ConfigError`` for a revision of a folder, and for a name of a model that a folder here has too; and as
    ``runfile.loaded_stages.find_model`` and ``places.upload``.
    """
    shipped = _of_plugin(host, source)
    source = source if shipped is None else shipped.checked()
    name = repository(source)
    called = shipped.model.name if shipped is not None else Path(name or source).name
    to = Path(MODELS / called if to is None else to).expanduser().absolute()
    if to.exists():
        hint = f"choose another folder, remove this one, or use it as it is: load: {to}"
        raise ArtefactError(f"{to} exists already", hint=hint)
    if name is not None:
        kept = check_names(files_of(name, revision), f"{name} on the Hub")
        folder = download(name, revision, kept)
        # The Hub's cache keeps the files themselves in a folder beside the snapshots, and links to them.
        root = folder.parent.parent
    else:
        if revision is not None:
            raise ConfigError(f"revision {revision!r:.60} of a folder; only the Hub has revisions", hint="leave it out")
        folder = root = Path(source).expanduser().absolute()
        kept = check_names(folder_files(folder), str(folder))
    for file in kept:
        check_file(folder, file, root)
    check_states(host.builder, folder)
    host.load(folder)  # the weights must fit what the manifest describes
    _copy(folder, kept, to)
    return to


def _of_plugin(host: Host, source: Path | str) -> Shipped | None:
    """The model of a plugin that the source names; None for a folder and for a repository."""
    if isinstance(source, Path):
        return None
    known = {item.model.name for item in shipped_models(host.plugins)}
    if source in known and Path(source).exists():
        raise ConfigError(
            f"{source} may be a folder here, or a model of a plugin",
            hint=f"write ./{source} for the folder, or {PREFIX}{source} for the plugin's model",
        )
    named = source.startswith(PREFIX) or not (Path(source).exists() or set(source) & set("./~\\:"))
    return find_model(host.plugins, source) if named else None


def _copy(folder: Path, files: Sequence[str], to: Path) -> None:
    with new_folder(to) as partial:
        for file in files:
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, partial / file)
