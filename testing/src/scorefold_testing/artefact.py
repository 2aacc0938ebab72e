"""Checks of saved states: safetensors and JSON only, the same after loading anywhere, refused where damaged."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.artefacts import (
    MANIFEST_FILE,
    STATE_FILE,
    digest_file,
    load_arrays,
    load_state,
    read_json,
    save_state,
)
from scorefold.errors import ArtefactError
from scorefold_testing.answers import answers_of, inputs_of, knows
from scorefold_testing.contract import (
    CORE,
    OWN,
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_refusal,
    require_same,
    stir,
)
from scorefold_testing.fresh import fresh_answers
from scorefold_testing.trainable import learn
from scorefold_testing.verb import answers_in, plan_of_component

_DAMAGES: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
    (STATE_FILE, "truncated", lambda content: content[: len(content) // 2]),
    (STATE_FILE, "altered in a byte", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    (MANIFEST_FILE, "truncated", lambda content: content[: len(content) // 2]),
    (MANIFEST_FILE, "altered in a letter", lambda content: content.replace(b"e", b"d", 1)),
)

HELD = (*CORE, OWN)


@contextmanager
def _saved(subject: Subject, prepare: Callable[[Any], Any] | None = None) -> Iterator[tuple[Any, Path]]:
    """The example, stirred or else prepared, and the folder that holds its bundled state."""
    obj = subject.build(dtype=None)
    if prepare is not None:
        prepare(obj)
    elif isinstance(obj, nn.Module):
        stir(obj, subject.generator("stir"))
    if isinstance(obj, nn.Module):
        obj.eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        subject.host.save(obj, path, bundle=True)
        yield obj, path


@check("saved-state", *HELD, level="artefact")
def saved_state(subject: Subject) -> str:
    """Saved here, and loaded and used in a fresh process, it answers the same to the last bit."""
    with _saved(subject) as (obj, path):
        return _same_in_a_fresh_process(subject, obj, path)


@check("trained-state", level="artefact", capability="Trainable", gradients=True)
def trained_state(subject: Subject) -> str:
    """Trained for some steps, saved, and loaded in a fresh process, it answers the same to the last bit."""
    with _saved(subject, lambda obj: learn(obj, subject)) as (obj, path):
        return _same_in_a_fresh_process(subject, obj, path)


@check("bundle-stands-alone", *HELD, level="artefact")
def bundle_stands_alone(subject: Subject) -> str:
    """A bundle works where it is moved to, without the files that the example's config named; data are their files."""
    files = {name: Path(value) for name, value in _paths(subject.example.get("config", {})).items()}
    if subject.component.kind == "data" and files:
        raise NotApplicableError("a source reads its files wherever it is")
    with tempfile.TemporaryDirectory() as folder:
        copies = {name: _copied(file, Path(folder) / name) for name, file in files.items()}
        config = {**subject.example.get("config", {}), **{name: str(copy) for name, copy in copies.items()}}
        moved = replace(subject, example={**subject.example, "config": config})
        with _saved(moved) as (obj, path):
            for name in copies:
                shutil.rmtree(Path(folder) / name)
            return _same_in_a_fresh_process(moved, obj, path.rename(path.with_name("elsewhere")))


def _same_in_a_fresh_process(subject: Subject, obj: Any, path: Path) -> str:
    if subject.origin is None:
        raise NotApplicableError("the kit does not know how to make a host in another process")
    kind, generator, plan = subject.component.kind, subject.generator("use"), None
    if knows(subject, obj):
        inputs = inputs_of(obj, subject, _dtype(obj))
        here = answers_of(kind, obj, inputs, generator)
    else:
        plan, inputs = plan_of_component(subject), {}
        here = answers_in(plan, subject.host, obj)
    there = fresh_answers(subject.origin, path, kind, inputs, generator.initial_seed(), plan)
    require(set(there) == set(here), f"after loading it answers {sorted(there)}", str(sorted(here)))
    for name, value in here.items():
        require_same(f"{name}, after loading in a fresh process,", there[name], value)
    return f"bit-equal in a fresh process: {', '.join(here)}"


@check("state-of-tensors", *HELD, level="artefact")
def state_of_tensors(subject: Subject) -> str:
    """Its state is tensors, and what is saved is safetensors and JSON that can be read: no code."""
    obj = subject.build(dtype=None)
    held = obj.state_dict() if isinstance(obj, nn.Module) else {}
    other = [f"{name} ({type(value).__name__})" for name, value in held.items() if not isinstance(value, Tensor)]
    require(not other, f"its state holds {', '.join(other)}", "tensors only")
    with _saved(subject) as (_, path):
        files = [file for file in path.rglob("*") if file.is_file() and not _is_lock(file)]
        readers = {".json": read_json, ".safetensors": load_arrays}
        foreign = sorted(file.name for file in files if file.suffix not in readers)
        require(not foreign, f"its saved state holds {', '.join(foreign)}", "safetensors and JSON only")
        for file in files:
            readers[file.suffix](file)
    return f"{len(files)} files, {len(held)} tensors"


def _is_lock(file: Path) -> bool:
    """True for the lock of a component in an environment of its own: text for people, which loading does not read."""
    manifest = file.with_name(MANIFEST_FILE)
    return file.name == "lock.txt" and manifest.is_file() and "environment" in read_json(manifest)


@check("saved-again", *HELD, level="artefact")
def saved_again(subject: Subject) -> str:
    """Saved, loaded and saved again, every file is the same to the last byte."""
    with _saved(subject) as (_, path):
        again = path.with_name("again")
        subject.host.save(subject.host.load(path), again, bundle=True)
        first, second = (
            {file.relative_to(folder).as_posix(): digest_file(file) for file in folder.rglob("*") if file.is_file()}
            for folder in (path, again)
        )
    differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    require(not differing, f"saved again, these files differ: {', '.join(differing)}", "no difference")
    return f"{len(first)} files"


@check("damage-refused", *HELD, level="artefact")
def damage_refused(subject: Subject) -> str:
    """A state whose files are truncated, altered, gone or no JSON is refused by an ArtefactError."""
    with _saved(subject) as (_, path):
        for name, what, damage in _DAMAGES:
            content = (path / name).read_bytes()
            (path / name).write_bytes(damage(content))
            require_refusal(f"a {name} {what}", ArtefactError, lambda: subject.host.load(path))
            (path / name).write_bytes(content)
        (path / STATE_FILE).unlink()
        return require_refusal(f"a state without its {STATE_FILE}", ArtefactError, lambda: subject.host.load(path))


@check("other-revisions", *HELD, level="artefact")
def other_revisions(subject: Subject) -> str:
    """The state of a later revision is refused by an ArtefactError; an earlier one's is taken over, or refused too."""
    component = subject.component
    with _saved(subject) as (_, path):
        tensors, facts = load_state(path)
        manifest = json.dumps(facts)
        named = json.dumps(component.versioned_id)

        def as_of(revision: int) -> Any:
            other = json.dumps(f"{component.id}@{revision}")
            save_state(path, tensors, json.loads(manifest.replace(named, other, 1)))
            return subject.host.load(path)

        require(named in manifest, f"its manifest does not name {named}", "the component with its revision")
        require_refusal(f"revision {component.revision + 1}", ArtefactError, lambda: as_of(component.revision + 1))
        if component.revision == 1:
            return "a later revision is refused; there is no earlier one"
        try:
            obj = as_of(component.revision - 1)
        except ArtefactError as error:
            return f"a later revision is refused, the earlier one too: {error.message}"
    require(
        isinstance(obj, subject.target), f"the earlier revision comes back as {type(obj).__name__}", str(subject.target)
    )
    return "a later revision is refused, the earlier one taken over"


@check("fingerprint", "data", level="artefact")
def fingerprint(subject: Subject) -> str:
    """A source that reads files has a fingerprint of them, the same at every call and wherever the files lie."""
    files = {name: Path(value) for name, value in _paths(subject.example.get("config", {})).items()}
    found = subject.build().fingerprint()
    if not files:
        return f"no file is named by its config; {found}"
    require(isinstance(found, str) and len(found) >= 32, f"its fingerprint is {found!r}", "a digest of its files")
    with tempfile.TemporaryDirectory() as folder:
        copies = {name: str(_copied(file, Path(folder) / name)) for name, file in files.items()}
        elsewhere = subject.build(config=copies).fingerprint()
    require(elsewhere == found, f"the same files elsewhere have the fingerprint {elsewhere}", str(found))
    return str(found)


def _paths(config: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a config that name a file or a folder by its whole path."""
    named = {name: value for name, value in config.items() if isinstance(value, str) and Path(value).is_absolute()}
    return {name: value for name, value in named.items() if Path(value).exists()}


def _copied(file: Path, folder: Path) -> Path:
    folder.mkdir()
    copy = folder / file.name
    if file.is_dir():
        shutil.copytree(file, copy)
    else:
        shutil.copy(file, copy)
    return copy


def _dtype(obj: Any) -> torch.dtype:
    """The dtype of a model, and for others the default, in which what is plugged into them was built."""
    tensors = [*obj.parameters(), *obj.buffers()] if isinstance(obj, nn.Module) else []
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.get_default_dtype())


CHECKS: tuple[Check, ...] = (
    saved_state,
    trained_state,
    bundle_stands_alone,
    state_of_tensors,
    saved_again,
    damage_refused,
    other_revisions,
    fingerprint,
)
