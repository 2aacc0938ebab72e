"""Files on disk: safetensors and JSON only, each complete or absent.

Everything is written under a temporary name beside its place, flushed to the disk and then renamed, so that a reader
(or a resumed run) never sees half a file. Loading runs no code. torch is imported only where tensors are.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from scorefold.errors import ArtefactError, printable

if TYPE_CHECKING:
    from torch import Tensor

STATE_FILE = "state.safetensors"
MANIFEST_FILE = "manifest.json"
DIGEST_KEY = "files"
"""The entry of a manifest that holds the digests of the files beside it; ``load_state`` checks and drops it."""

LARGEST_JSON = 2**28
"""Bytes of a JSON file that is read; what is larger belongs into a safetensors file."""

PARTIAL = ".partial"


def save_state(folder: Path, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
    """Tensors and the facts about them as ``state.safetensors`` and ``manifest.json`` in a folder.

    A folder that does not exist appears complete. In one that does, the two files are replaced, the manifest last; it
    holds the digests of both, so ``load_state`` refuses a pair that does not belong together. Other files in the folder
    stay. Raises ``ArtefactError`` for what JSON or safetensors can't hold and for a disk that can't be written.
    """
    if DIGEST_KEY in manifest:
        raise ArtefactError(f"a manifest has the entry {DIGEST_KEY!r}, which is reserved for digests")
    facts = json.loads(json_text(manifest))
    with nullcontext(folder) if folder.exists() else new_folder(folder) as place:
        save_arrays(place / STATE_FILE, tensors)
        digests = {STATE_FILE: digest_file(place / STATE_FILE), MANIFEST_FILE: _digest_of(facts)}
        write_json(place / MANIFEST_FILE, {**facts, DIGEST_KEY: digests})


def _digest_of(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the manifest that ``save_state`` wrote. Raises ``ArtefactError`` where either is
    missing, truncated, or changed since it was saved.
    """
    facts, digests = _read_manifest(folder)
    if digest_file(folder / STATE_FILE) != digests[STATE_FILE]:
        raise _changed(folder / STATE_FILE)
    return load_arrays(folder / STATE_FILE), facts


def load_facts(folder: Path) -> dict[str, Any]:
    """The manifest that ``save_state`` wrote, its tensors unread. Raises ``ArtefactError`` as ``load_state`` does."""
    return _read_manifest(folder)[0]


def _read_manifest(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    path = folder / MANIFEST_FILE
    facts = read_json(path)
    digests = facts.pop(DIGEST_KEY, None) if isinstance(facts, dict) else None
    if not isinstance(digests, dict) or not {STATE_FILE} <= set(digests) <= {STATE_FILE, MANIFEST_FILE}:
        hint = f"a saved state is a folder with {STATE_FILE} and the {MANIFEST_FILE} written with it"
        raise ArtefactError(f"{path} is not the manifest of a saved state", hint=hint)
    own = _digest_of(facts)
    if digests.get(MANIFEST_FILE, own) != own:  # manifests had no digest of their own at first
        raise _changed(path)
    return facts, digests


def _changed(path: Path) -> ArtefactError:
    return ArtefactError(
        f"{path} was changed, truncated or copied alone after it was saved",
        hint="restore the folder from its source, or run the stage again",
    )


def save_arrays(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Named dense tensors as one safetensors file. Raises ``ArtefactError`` for anything else."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    prepared = _own_storage(tensors)
    with _partial_file(path) as partial:
        try:
            save_file(prepared, partial)
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise ArtefactError(f"{path} can't be written as safetensors: {error}") from error


def _own_storage(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, contiguous on the CPU and without shared memory: safetensors stores no aliases."""
    import torch

    prepared: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            what = tensor.layout if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ArtefactError(f"the array {name!r} is of type {what}; expected a dense tensor")
        value = tensor.detach().cpu().contiguous()
        pointer = value.untyped_storage().data_ptr()
        prepared[name] = value.clone() if pointer in storages else value
        storages.add(pointer)
    return prepared


def load_arrays(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU. Raises ``ArtefactError`` where missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with _reading(path):
        try:
            return load_file(path)
        # torch refuses what the header allows (a dtype it lacks, a shape beyond 64 bits) by errors of its own.
        except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactError(f"{path} is not a complete safetensors file: {error}") from error


def write_json(path: Path, obj: Any) -> None:
    """An object as a JSON file (see ``json_text`` for what it may hold)."""
    write_text(path, json_text(obj, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Text as a UTF-8 file, in which half a character is written as its escape."""
    with _partial_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises ``ArtefactError`` if it is missing, larger than ``LARGEST_JSON`` or, with the place, not JSON. Repeated keys
    and numbers such as NaN are not JSON.
    """
    with _reading(path):
        if (size := path.stat().st_size) > LARGEST_JSON:
            raise ArtefactError(f"{path} has {size} bytes; expected at most {LARGEST_JSON}")
        try:
            return json.loads(path.read_bytes().decode(), object_pairs_hook=_unique, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            raise ArtefactError(
                f"this is not JSON: {error.msg}", file=path, line=error.lineno, column=error.colno
            ) from error
        except UnicodeDecodeError as error:
            raise ArtefactError(f"{path} is not UTF-8 text: {error}") from error
        except RecursionError:
            raise ArtefactError("this JSON is nested too deeply to read", file=path) from None
        except ValueError as error:
            raise ArtefactError(f"this is not JSON: {error}", file=path) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as comma-separated values, a line each."""
    import csv  # here, since lists of plugins import this module and write no table

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def json_text(obj: Any, *, indent: int | None = None) -> str:
    """An object as standard JSON.

    Beside what JSON knows it takes tuples, paths, dataclasses, pydantic models, and numpy's and torch's numbers. JSON
    has no NaN or infinities: they become the strings "NaN", "Infinity" and "-Infinity", which ``float`` and pydantic's
    float fields read back. Raises ``ArtefactError`` naming the place of anything else.
    """
    # Only strings can hold such characters, and there their escapes mean the same.
    return printable(json.dumps(_plain(obj, "$"), indent=indent, ensure_ascii=False, allow_nan=False))


def _plain(obj: Any, place: str) -> Any:
    if obj is None or isinstance(obj, (bool, str)):
        return obj
    if isinstance(obj, int):
        return int(obj)
    if isinstance(obj, float):
        return float(obj) if math.isfinite(obj) else json.dumps(float(obj))
    if isinstance(obj, Mapping):
        for key in obj:
            if not isinstance(key, (str, int)):
                raise ArtefactError(f"JSON can't hold the key {key!r} at {place}; keys are strings")
        return {str(key): _plain(value, f"{place}.{key}") for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [_plain(value, f"{place}[{position}]") for position, value in enumerate(obj)]
    if isinstance(obj, PurePath):
        return str(obj)
    if hasattr(obj, "model_dump"):
        return _plain(obj.model_dump(), place)
    if is_dataclass(obj) and not isinstance(obj, type):
        return _plain(asdict(obj), place)
    # Scalars of numpy and torch are known by their interface, so that neither needs to be imported for it.
    if getattr(obj, "shape", None) == () and hasattr(obj, "item"):
        return _plain(obj.item(), place)
    hint = "save tensors and arrays in a safetensors file (save_arrays)" if hasattr(obj, "shape") else None
    raise ArtefactError(f"JSON can't hold the {type(obj).__name__} at {place}", hint=hint)


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that appears at ``path`` complete, or not at all.

    Yields a temporary folder beside it, which is renamed to ``path`` at the end and removed when an error is
    raised. Raises ``ArtefactError`` where ``path`` exists already, unless ``replace`` (then the old folder
    stands until the new one is complete).
    """
    if path.exists() and not replace:
        raise ArtefactError(f"{path} exists already", hint="choose another folder, or remove this one")
    partial = _partial_name(path)
    with _writing(path):
        partial.mkdir(parents=True)
    try:
        yield partial
        with _writing(path):
            for root, _, files in os.walk(partial):
                for place in [Path(root, name) for name in files] + [Path(root)]:
                    _flush(place)
            old = _partial_name(path) if replace and path.exists() else None
            if old is not None:
                path.rename(old)
            partial.rename(path)
            _flush(path.parent)
            if old is not None:
                shutil.rmtree(old)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def digest_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(path: Path) -> str:
    """The SHA-256 of a folder: of the relative paths and contents of all ``files_in`` it, in order of path. Raises
    ``ArtefactError`` as that does.
    """
    digest = hashlib.sha256()
    for file in files_in(path):
        name = file.relative_to(path).as_posix()
        digest.update(os.fsencode(f"{len(name)}:{name}{digest_file(file)}"))
    return digest.hexdigest()


def files_in(path: Path) -> list[Path]:
    """All files in a folder and the folders in it, in order of their paths below it.

    Links are followed, to each folder once: what two links lead to is found under the first name. Raises
    ``ArtefactError`` where there is no folder, and for a link to a folder that holds it.
    """
    if not path.is_dir():
        raise ArtefactError(f"there is no folder {path}")
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()

    def look(folder: Path, above: tuple[tuple[int, int], ...]) -> None:
        facts = folder.stat()
        own = facts.st_dev, facts.st_ino
        if own in above:
            raise ArtefactError(f"{folder} is a link to a folder that holds it", hint="remove the link")
        if own in seen:
            return
        seen.add(own)
        # Folders that stand here come before links, so that what both lead to keeps its own name.
        with os.scandir(folder) as entries:
            items = sorted(entries, key=lambda item: (item.is_symlink(), item.name))
        for item in map(Path, items):  # where an entry of scandir raises for a link that leads nowhere but to itself
            if item.is_dir():
                look(item, (*above, own))
            elif item.is_file():
                found.append(item)

    look(path, ())
    return sorted(found, key=lambda file: file.relative_to(path).as_posix())


def _partial_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}{PARTIAL}")


@contextmanager
def _partial_file(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place, flushed, when the block ends without error."""
    partial = _partial_name(path)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode
        try:
            yield partial
            # safetensors makes a file of its own, which only its owner could read.
            partial.chmod(mode)
            _flush(partial)
            partial.replace(path)
            _flush(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtefactError(
            f"{path} can't be written: {error.strerror or error}",
            hint="check that the disk has space and that the folder can be written",
        ) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        # A pipe in a file's place would be waited for without end.
        if path.exists() and not path.is_file():
            raise ArtefactError(f"{path} can't be read: it is no file")
        yield
    except FileNotFoundError as error:
        raise ArtefactError(f"there is no file {path}") from error
    except OSError as error:
        raise ArtefactError(f"{path} can't be read: {error.strerror or error}") from error


def _flush(path: Path) -> None:
    """Makes a file's contents, or a folder's entries, survive a power cut."""
    # Windows opens no folders; there the rename alone has to do.
    with suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
