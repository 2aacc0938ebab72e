"""Environments on disk: their folders, our own packages as every worker sees them, and what the host lends."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import importlib_metadata

from scorefold_registry.plugins.environments.spec import Spec
from scorefold_registry.plugins.names import normalise

OURS = ("scorefold-core", "scorefold-toolkit", "scorefold-registry")
"""Packages of Scorefold that a worker uses from the host, and never from the environment."""

LENT = (
    *("torch", "pydantic", "pluggy", "safetensors", "numpy", "importlib-metadata", "packaging", "filelock", "scipy"),
    *("torchdiffeq", "einops"),
)
"""Libraries that the host lends to an environment of the same Python, with their requirements; its own come first."""

COMPLETE, LOCK = "complete", "lock.txt"
VARIABLE = "SCOREFOLD_ENVIRONMENTS"


def cache_folder() -> Path:
    """Folder of the environments: ``SCOREFOLD_ENVIRONMENTS``, or a folder in the user's cache."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).absolute()
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library/Caches/scorefold/environments"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "scorefold" / "environments"


def torch_of(spec: Spec) -> str:
    """Whose torch an environment uses: ``host`` or ``own``."""
    same = spec.python is None or spec.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    return spec.torch or ("host" if same else "own")


@cache
def _file_digest(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of(spec: Spec) -> str:
    """The digest of all that decides what is in an environment, 12 digits. Limits and names are no part of it."""
    facts = {
        "requirements": sorted(spec.requirements),
        "lock": _digest_if_there(spec.lock),
        "interpreter": None if spec.interpreter is None else str(spec.interpreter),
        "projects": [_digest_if_there(folder / "pyproject.toml") for folder in spec.folders],
        "wheels": [_digest_if_there(Path(line)) for line in spec.requirements if line.endswith(".whl")],
        "python": spec.python or platform.python_version(),
        "machine": [sys.platform, platform.machine()],
        "torch": [torch_of(spec), _host_torch() if torch_of(spec) == "host" else None],
        "build": spec.build,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _digest_if_there(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    state = path.stat()
    return _file_digest(path, state.st_size, state.st_mtime_ns)


@cache
def _version(name: str) -> str | None:
    try:
        return importlib_metadata.version(name)
    except importlib_metadata.PackageNotFoundError:
        return None


@cache
def _host_torch() -> str | None:
    """Version of torch here, from its own file: a search of all distributions takes longer than the list of plugins."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    return text.partition("__version__ = ")[2].partition("\n")[0].strip("'\"")


def folder_of(spec: Spec) -> Path:
    """The folder of an environment, which need not be there."""
    return cache_folder() / f"{spec.name}-{digest_of(spec)}"


def python_of(spec: Spec) -> Path:
    """The interpreter of an environment, which need not be there."""
    return spec.interpreter or folder_of(spec) / "venv" / "bin" / "python"


def layer() -> Path:
    """A folder with copies of our packages and their metadata, which stands first on the path of a worker.

    It is named by what the packages hold, so that an edit in the middle of a run changes nothing.
    """
    found = hashlib.sha256()
    packages = []
    for name in OURS:
        package = name.removesuffix("-core").replace("-", "_")
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        root = Path(next(iter(spec.submodule_search_locations)))
        packages.append((name, package, root))
        for file in sorted(root.rglob("*.py")):
            state = file.stat()
            found.update(f"{package}/{file.relative_to(root)} {state.st_size} {state.st_mtime_ns}\n".encode())
    place = cache_folder() / "layers" / found.hexdigest()[:12]
    if not place.is_dir():
        with _made(place) as partial:
            for name, package, root in packages:
                shutil.copytree(root, partial / package, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
                metadata = partial / f"{package}-{_version(name)}.dist-info" / "METADATA"
                metadata.parent.mkdir()
                metadata.write_text(importlib_metadata.distribution(name).read_text("METADATA") or "")
            (partial / "scorefold.toml").touch()
    os.utime(place)
    return place


def lent_libraries() -> Path:
    """A folder of links to the host's torch and to the few libraries that our packages import.

    It stands last on the path of a worker, so that what the environment has of them wins. pip takes what lies there as
    installed, and leaves it as it is.
    """
    names = sorted(_needed(LENT))
    text = json.dumps([[name, _version(name)] for name in names] + [sys.prefix])
    place = cache_folder() / "layers" / f"lent-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not place.is_dir():
        with _made(place) as partial:
            for name in names:
                _link(name, partial)
            for name in OURS:
                if (version := _version(name)) is not None:
                    metadata = partial / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
                    metadata.parent.mkdir()
                    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    os.utime(place)
    return place


@contextmanager
def _made(place: Path) -> Iterator[Path]:
    """A folder that appears complete or not at all; another process may make the same one at the same time."""
    partial = place.with_name(f".{place.name}.{os.urandom(4).hex()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if not place.is_dir():
            partial.rename(place)
    except OSError:
        if not place.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _needed(names: tuple[str, ...]) -> set[str]:
    """Distributions with all that they require, by names that are installed; extras apart."""
    found, left = set[str](), list(names)
    while left:
        name = normalise(left.pop())
        if name in found or _version(name) is None:
            continue
        found.add(name)
        for text in importlib_metadata.requires(name) or ():
            if "extra ==" not in text:
                left.append(re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0])
    return found


def _link(name: str, folder: Path) -> None:
    """Links to the packages, modules and metadata of a distribution."""
    distribution = importlib_metadata.distribution(name)
    for top in sorted({Path(str(file)).parts[0] for file in distribution.files or ()}):
        source = Path(str(distribution.locate_file(top)))
        if top not in ("..", "__pycache__") and source.exists() and not (folder / top).exists():
            (folder / top).symlink_to(source.absolute())


def kept_environments() -> Iterator[tuple[Path, float, int]]:
    """The environments and layers that are kept: the folder, when it was last used, and its bytes."""
    for parent in (cache_folder(), cache_folder() / "layers"):
        for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
            if folder.is_dir() and folder.name != "layers":
                size = sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_symlink())
                yield folder, folder.stat().st_mtime, size
