"""Values that stages pass on. Every stage and every hook gets its own objects, so that none can change another's.

Models and results are read from the folders of their stages. Data are written once, and each reader maps them
copy-on-write. The folders themselves are watched: a file that somebody changes is put back from the cache.
"""

from __future__ import annotations

import copy
import copyreg
import io
import itertools
import os
import pickle
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import FunctionType, MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Dataset, StreamedDataset
from scorefold.errors import ArtefactError, DataError, ScorefoldError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold.stage import Executor, Outcome
from scorefold_registry.components.manifest import has_state
from scorefold_registry.components.stage_files import STAGE_FILE
from scorefold_registry.run.folders import Cache, remove
from scorefold_registry.run.stage_folder import load_stage, load_stage_value

if TYPE_CHECKING:
    from scorefold_registry.host import Host

FileStates = dict[str, tuple[int, ...]]
"""The size, the times of the last changes of content and of all else, and the inode of each file in a folder, by its
relative path; whether the folder is a link, by the path of nothing."""


@dataclass
class StageValues:
    """The values of a run's stages, by their ``names``. Models are loaded to ``device``, and do their jobs by
    ``executor``."""

    host: Host
    folder: Path
    device: str
    cache: Cache
    names: tuple[str, ...] = ()
    executor: Executor | None = None
    _data: dict[str, KeptData] = field(default_factory=dict)
    _files: dict[str, tuple[FileStates, str | None]] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The value of a stage, as an object that nobody else has."""
        if name not in self._data:
            value = load_stage_value(self.host, self.folder / name, self.device, self.executor)
            if not isinstance(value, DataSource):
                return value
            self._data[name] = KeptData(self.host, value, self.folder / name)
        return self._data[name].copy()

    def component(self, name: str) -> Any:
        """The component that verbs of later stages act on: a stage's value where it is one, or else what made it."""
        loaded = load_stage(self.host, self.folder / name, self.device, self.executor)
        gives, kind = loaded.facts["gives"], loaded.facts["component"].partition(":")[0]
        return loaded.component if gives != kind and loaded.component is not None else loaded.value

    def on_cpu(self, name: str) -> Any:
        """The value of a finished stage with models on the CPU. Raises ``KeyError`` for other stages."""
        folder = self.folder / name
        if not (folder / STAGE_FILE).is_file():
            raise KeyError(name)
        return self.value(name) if name in self._data else load_stage_value(self.host, folder, "cpu")

    def moved(self, folder: Path) -> None:
        """The run has a folder of another name."""
        self.folder = folder
        for name, kept in self._data.items():
            kept.moved(folder / name)

    def data_copies(self) -> dict[str, Any]:
        """A copy of each source that was read in this run."""
        return {name: kept.copy() for name, kept in self._data.items() if kept.was_read}

    def after_the_run(self, folder: Path) -> Callable[[str], Any]:
        """Function that returns the value of a stage after the run; unread data are as built."""
        unread = {name: kept for name, kept in self._data.items() if not kept.was_read}
        host, device = self.host, self.device
        return lambda name: unread[name].copy() if name in unread else load_stage_value(host, folder / name, device)

    def changed_by(self, stage: str, given: Mapping[str, list[Any]], digests: Mapping[str, str | None]) -> list[str]:
        """Names of the stages whose data a stage changed in place, in the copies that it was ``given``.

        ``digests`` are the digests of files before the run read them. Data in memory were read then; streamed data are
        read during the stage. Raises ``DataError`` where streamed data changed while the stage read them, since its
        result would mix old and new data.
        """
        for name in given:
            if name not in self._data or name not in digests:
                continue
            source = self._data[name].copy()
            if _streams(source) and source.fingerprint() != digests[name]:
                raise changed_files(name, stage)
        return [
            name
            for name, copies in given.items()
            if name in self._data and any(not self._data[name].equals(each) for each in copies)
        ]

    def written(self, name: str, key: str | None, data: DataSource | None = None) -> None:
        """Watch the files of a finished stage. ``key`` is the stage's in the cache, None where it is not kept.

        ``data`` is the source that it gives, which nobody else has any more. Only copies of it are given out.
        """
        self._files[name] = _states(self.folder / name), key
        if data is not None:
            self._data[name] = KeptData(self.host, data, self.folder / name)

    def key_of(self, name: str) -> str | None:
        """The key of a finished stage in the cache, None where it is not kept."""
        return self._files[name][1]

    def put_files_back(self) -> list[str]:
        """Restore the folders of finished stages whose files have changed, from the cache, and name the changes. What
        stands where another stage is to come is removed. Raises ``ArtefactError`` where there is no copy."""
        changed, lost = [], []
        for name in self.names:
            if name not in self._files and os.path.lexists(self.folder / name):
                remove(self.folder / name)
                changed.append(f"the place where stage {name!r} is to come, which was emptied")
        for name, (before, key) in self._files.items():
            now = _states(self.folder / name)
            if all(now.get(file) == state for file, state in before.items()):
                continue
            spare = self.folder / f".{name}.again"
            if key is not None and self.cache.fetch(key, spare):
                remove(self.folder / name)
                spare.rename(self.folder / name)
                changed.append(f"the files of stage {name!r}, which were put back")
                now = _states(self.folder / name)
            else:
                lost.append(repr(name))
            self._files[name] = now, key  # what is lost is said once
        if lost:
            raise ArtefactError(
                f"somebody changed the files of {'stages' if lost[1:] else 'stage'} {', '.join(lost)}, and there is no "
                "copy to put back",
                hint="run again, and let only one program write into the folders of runs and of the cache",
            )
        return changed


class KeptData:
    """A data source as its stage left it. It is read and written when a copy is first asked for."""

    def __init__(self, host: Host, source: DataSource, folder: Path) -> None:
        self._host, self._folder = host, folder
        self._source: DataSource | None = source
        self._made = host.builder.memory.of(source)
        self._image: _Image | None = None
        self._comparable = True
        self.moved(folder)

    @property
    def was_read(self) -> bool:
        return self._source is None

    def moved(self, folder: Path) -> None:
        """The stage has a folder of another name."""
        self._folder = folder
        if self._made is not None and has_state(folder):
            self._made.saved = folder.absolute()

    def copy(self) -> DataSource:
        """The source as an object of its own."""
        source = self._read()
        if self._made is not None:
            self._host.builder.memory.keep(source, replace(self._made))
        return source

    def equals(self, source: DataSource) -> bool:
        """True if the events of a copy, and all that is known of them, are still as they were given."""
        if not self._comparable:
            return True
        kept = self._read()  # what fails here is no change of anybody's
        try:
            return _equal(kept, source)
        except MemoryError:
            raise
        except Exception:  # whoever changed it may have left nothing that can be read
            return False

    def _read(self) -> DataSource:
        if self._source is not None:
            with suppress(Exception):  # whatever is read when it is first asked for is in the image
                for _ in _splits(self._source):
                    pass
            with suppress(Exception):  # some objects can't be written
                image = _Image(self._source)
                # Mostly one comparison: each copy that is looked at counts as memory of its own.
                alike = _equal(image.read(), self._source)
                self._comparable = alike or _equal(image.read(), image.read())
                self._image = image if alike or not self._comparable else None
            self._source = None
        if self._image is None:
            return load_stage_value(self._host, self._folder, "cpu")  # type: ignore[no-any-return]
        return self._image.read()  # type: ignore[no-any-return]


class _Image:
    """An object written by ``torch.save`` and read as often as asked: tensors and arrays are mapped copy-on-write."""

    def __init__(self, obj: Any) -> None:
        number = None
        if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
            number = os.memfd_create("scorefold-data", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            weakref.finalize(self, os.close, number)
            self._path = f"/proc/self/fd/{number}"
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="scorefold-", ignore_cleanup_errors=True)
            self._path = str(Path(self._folder.name) / "data.pt")
        key = next(_NUMBERS)
        weakref.finalize(self, _SHARED.pop, key, None)
        shared = _SHARED[key] = []

        class Pickler(pickle.Pickler):
            def reducer_override(self, obj: Any) -> Any:
                return _reduced(obj, key, shared)

        with open(self._path, "wb") as file:
            torch.save(obj, file, pickle_module=SimpleNamespace(__name__="pickle", Pickler=Pickler))
        if number is not None:
            _seal(number)

    def read(self) -> Any:
        return torch.load(self._path, mmap=True, weights_only=False)


def _seal(number: int) -> None:
    """Nobody can write into a file in memory from now on; who reads it may still map it copy-on-write."""
    import fcntl

    fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)


_NUMBERS = itertools.count()
_SHARED: dict[int, list[Any]] = {}
"""Objects that belong to this process: functions without a module, locks, open and mapped files."""

_OPEN = (type(threading.Lock()), type(threading.RLock()), Future, io.IOBase, np.memmap)


def _reduced(obj: Any, key: int, shared: list[Any]) -> Any:
    """Reduction of an object that ``pickle`` does not write as needed."""
    if isinstance(obj, DataSource):  # as it is, and not as a class may have it read its files again elsewhere
        return copyreg.__newobj__, (type(obj),), vars(obj)  # type: ignore[attr-defined]
    if type(obj) is np.ndarray and obj.dtype.kind in "bif" and obj.dtype.isnative:
        return _as_array, (torch.from_numpy(obj if obj.flags.writeable else obj.copy()),)
    if _is_open(obj):
        shared.append(obj)
        return _shared, (key, len(shared) - 1)
    return NotImplemented


def _is_open(obj: Any) -> bool:
    """True if an object belongs to this process: a file or a lock, or a function that no module names."""
    return isinstance(obj, _OPEN) or (isinstance(obj, FunctionType) and "<" in obj.__qualname__)


def _as_array(tensor: Tensor) -> Any:
    return tensor.numpy()


def _shared(key: int, number: int) -> Any:
    return _SHARED[key][number]


class Inputs(Mapping[str, Any]):
    """The inputs of a stage by name, each read when it is first asked for. ``compute`` does the stage here."""

    def __init__(
        self, names: tuple[str, ...], read: Callable[[str], Any], compute: Callable[[], Outcome] | None = None
    ) -> None:
        self._names, self._read, self._got = names, read, dict[str, Any]()
        self.compute = compute

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._got:
            self._got[name] = self._read(name)
        return self._got[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class SeenOutcome(Outcome):
    """An outcome as one hook sees it: what the stage gave, in objects of the hook's own."""

    def __init__(self, outcome: Outcome, value: Callable[[], Any]) -> None:
        self._outcome, self._value = outcome, value
        self.result, self.texts = copy.deepcopy(outcome.result), dict(outcome.texts)

    @cached_property
    def value(self) -> Any:  # type: ignore[override]
        return self._value()

    @cached_property
    def arrays(self) -> dict[str, Tensor]:  # type: ignore[override]
        return {name: each.detach().clone() for name, each in self._outcome.arrays.items()}

    @cached_property
    def shown(self) -> Any:  # type: ignore[override]
        return copy.deepcopy(self._outcome.shown)


def frozen(value: Any) -> Any:
    """A view of nested mappings and lists, in a copy that can't be changed."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def changed_files(name: str, stage: str) -> DataError:
    """The error of a stage that read the files of another, or its own, while they changed."""
    return DataError(
        f"the files of stage {name!r} changed while stage {stage!r} read them, so its result is of neither and is not "
        "kept",
        hint="run again when nothing else writes to them",
    )


def _streams(source: DataSource) -> bool:
    """True if a source reads its files as its points are asked for."""
    return any(isinstance(dataset, StreamedDataset) for _, dataset in _splits(source))


def _splits(source: DataSource) -> Iterator[tuple[str, Dataset]]:
    for split in SPLITS:
        with suppress(ScorefoldError):
            yield split, source.load(split)


def _equal(first: DataSource, second: DataSource) -> bool:
    """True if two sources have the same units and the same points, bit by bit."""
    one, other = dict(_splits(first)), dict(_splits(second))
    return (
        one.keys() == other.keys()
        and first.event_scale == second.event_scale
        and all(_same(_known(one[split]), _known(other[split])) for split in one)
    )


def _known(dataset: Dataset) -> list[Any]:
    points = [] if isinstance(dataset, StreamedDataset) else [dataset.x]
    return [*points, dataset.label, dataset.index, dataset.condition, dataset.truth]


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(_bits(one), _bits(other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    # Whatever else the truth holds, such as a density, has no equality that can be relied on.
    return not isinstance(one, bool | int | float | str) or one == other or one != one


def _bits(tensor: Tensor) -> Tensor:
    """A tensor as integers, which compare bit by bit: NaN equals itself."""
    whole = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}
    plain = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    return plain if not plain.is_floating_point() else plain.contiguous().view(whole[plain.element_size()])


def _states(folder: Path) -> FileStates:
    found: FileStates = {"": (int(folder.is_symlink()),)}
    for place, _, files in os.walk(folder):
        for name in files:
            about = os.lstat(os.path.join(place, name))
            relative = os.path.relpath(os.path.join(place, name), folder)
            # Anybody may set the time of the content; nobody sets the other one.
            found[relative] = about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino
    return found
