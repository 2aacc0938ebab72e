"""Messages between the host and a worker: one JSON object a line, and tensors in a file that both have mapped.

Nothing is pickled in either direction. A value that is no plain JSON is a mapping with the key ``$``, which names one
of a fixed list of types; decoding a message runs no code that it names.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from scorefold import diffusion
from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.errors import PluginError, ScorefoldError, SplitError
from scorefold.interfaces import DataSource, TensorSource
from scorefold.interfaces.data import SPLITS
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold.summary import ColumnSummary, DataSummary

LONGEST = 2**20
"""Bytes of one message: tensors do not count, for they lie in the arena."""

LARGEST = 2**31
"""Bytes of the tensors of one message."""

_ALIGNED = 64
_KEPT = 2**26
_DTYPES = {
    name: getattr(torch, name)
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
}
_RECORDS = {
    kind.__name__: kind
    for kind in (Dataset, DataSpec, DataSummary, ColumnSummary, EventScale, TensorSpec, Estimate, Allocation, PlanRow)
}
_PROCESSES = {
    kind.__name__: kind
    for kind in vars(diffusion).values()
    if isinstance(kind, type) and issubclass(kind, diffusion.DiffusionProcess | diffusion.Schedule)
}
"""The processes that can cross: the processes of core, and their schedules."""


class WireError(PluginError):
    """A message that can't be written, or that is not as the other side has to write it."""


class Arena:
    """A file without a name, mapped by both sides, for the tensors of the message that is under way.

    One side makes it and gives its descriptor to the other. Only one side writes, from the start of the file at each
    message; the other copies what it keeps. It grows and never shrinks.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _new_file() if descriptor is None else descriptor
        self._map: mmap.mmap | None = None

    def close(self) -> None:
        """Give the file back to the system."""
        self._map = None
        os.close(self.descriptor)

    def release(self) -> None:
        """Gives the memory of a large message back to the system (Linux), once both sides have copied it."""
        if self._map is not None and len(self._map) > _KEPT and hasattr(mmap, "MADV_REMOVE"):
            self._map.madvise(mmap.MADV_REMOVE)

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        return self._map

    def put(self, tensors: list[Tensor]) -> list[int]:
        """Copies tensors into the file and returns the place of each, in bytes."""
        places, end = [], 0
        for tensor in tensors:
            places.append(end)
            end += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
        if end > LARGEST:
            _refuse(end)
        if os.fstat(self.descriptor).st_size < end:
            os.ftruncate(self.descriptor, max(2 * end, 2**20))
        for place, tensor in zip(places, tensors, strict=True):
            if tensor.numel():
                target = torch.frombuffer(self._mapped(end), dtype=tensor.dtype, count=tensor.numel(), offset=place)
                target.copy_(tensor.reshape(-1))
        return places

    def get(self, place: Any, dtype: Any, shape: Any) -> Tensor:
        """A copy of the tensor at a place. Raises ``WireError`` for one that does not lie in the file."""
        whole = [number for number in (place, *shape) if type(number) is int and 0 <= number <= LARGEST]
        if dtype not in _DTYPES or len(whole) != 1 + len(shape) or place % _ALIGNED:
            raise WireError(f"a tensor at {place!r:.40} of shape {shape!r:.60} and type {dtype!r:.40} was announced")
        count = math.prod(shape)
        end = place + count * _DTYPES[dtype].itemsize
        if end > min(LARGEST, os.fstat(self.descriptor).st_size):
            raise WireError(f"a tensor of {count} numbers at {place} was announced, which is beyond what was written")
        if not count:
            return torch.empty(shape, dtype=_DTYPES[dtype])
        flat = torch.frombuffer(self._mapped(end), dtype=_DTYPES[dtype], count=count, offset=place)
        return flat.clone().reshape(shape)


def _refuse(size: int) -> NoReturn:
    raise WireError(
        f"{size / 1e9:.1f} GB of data are too many for a separate process; {LARGEST / 1e9:.1f} GB are the maximum",
        hint="give it fewer points (limit), or install the plugin in this environment",
    )


def _new_file() -> int:
    """The descriptor of a file without a name, in memory where the system has that; nobody can make it shorter."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("scorefold-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return number
    with tempfile.TemporaryFile(prefix="scorefold-") as file:
        return os.dup(file.fileno())


class Writer:
    """Values as JSON, their tensors in an arena.

    ``handle`` gives an object that the other side has, or may ask about, as a message names it; None for other values.
    ``generators`` are those that were written, in order, whose states the other side sends back.
    """

    def __init__(self, arena: Arena, handle: Callable[[Any], dict[str, Any] | None] = lambda value: None) -> None:
        self._arena, self._handle = arena, handle
        self._tensors: list[tuple[dict[str, Any], Tensor]] = []
        self.generators: list[torch.Generator] = []

    def line(self, message: Mapping[str, Any], values: Mapping[str, Any]) -> bytes:
        """A message as a line, with values of any known type beside its plain words.

        Raises ``WireError`` for a value of another type, and for a message that is too long.
        """
        said = {**message, **{name: self._plain(value) for name, value in values.items()}}
        places = self._arena.put([tensor for _, tensor in self._tensors])
        for (slot, _), place in zip(self._tensors, places, strict=True):
            slot["at"] = place
        text = json.dumps(said, allow_nan=False).encode() + b"\n"
        if len(text) > LONGEST:
            raise WireError(
                f"a message of {len(text):,} bytes beside its tensors would go to a process of its own; {LONGEST:,} "
                "at most do",
                hint="pass numbers as tensors, and not as lists",
            )
        return text

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | str) or type(value) is int:
            return value
        if (named := self._handle(value)) is not None:
            return named
        if isinstance(value, Tensor):
            return self._tensor(value)
        if type(value).__name__ in _RECORDS and is_dataclass(value):
            return self._record(value)
        if isinstance(value, diffusion.DiffusionProcess | diffusion.Schedule):
            return self._process(value)
        if isinstance(value, DataSource):
            return self._source(value)
        if isinstance(value, Dataset):  # one that is decoded as it is read
            size = len(value) * value.x.element_size() * math.prod(value.event_shape)
            return self._plain(value.take(torch.arange(len(value)))) if size <= LARGEST else _refuse(size)
        if isinstance(value, torch.Generator):
            self.generators.append(value)
            return {"$": "generator", "device": str(value.device), "state": self._tensor(value.get_state())}
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {"$": "mapping", "items": {key: self._plain(item) for key, item in value.items()}}
        if isinstance(value, list):
            return [self._plain(item) for item in value]
        if isinstance(value, tuple | range):
            return {"$": "tuple", "items": [self._plain(item) for item in value]}
        if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a number of numpy's
            return self._plain(value.item())
        if isinstance(value, int | float):
            return self._number(value)
        if type(value).__module__ == "numpy":
            return {"$": "array", "tensor": self._tensor(torch.from_numpy(value.copy()))}
        raise WireError(
            f"a value of the type {type(value).__name__} can't go to another process; numbers, text, tensors, lists, "
            "mappings, data sets, estimates and allocations can"
        )

    @staticmethod
    def _number(value: float) -> Any:
        return float(value) if math.isfinite(value) else {"$": "number", "is": str(float(value))}

    def _tensor(self, value: Tensor) -> dict[str, Any]:
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in _DTYPES or value.layout is not torch.strided:
            raise WireError(f"a tensor of type {dtype} ({value.layout}) can't go to another process")
        slot = {"$": "tensor", "dtype": dtype, "shape": list(value.shape)}
        self._tensors.append((slot, value.detach().cpu().contiguous()))
        return slot

    def _record(self, value: Any) -> dict[str, Any]:
        names = [field.name for field in fields(_RECORDS[type(value).__name__]) if field.init]
        return {"$": type(value).__name__, "fields": {name: self._plain(getattr(value, name)) for name in names}}

    def _process(self, value: nn.Module) -> dict[str, Any]:
        """A process of core as its numbers, its tensors and its schedules."""
        name = type(value).__name__
        if _PROCESSES.get(name) is not type(value):
            raise WireError(
                f"the process {name} can't go to another process; the processes of scorefold.diffusion can",
                hint="install the plugin in this environment",
            )
        found = {key: item for key, item in vars(value).items() if not key.startswith("_") and key != "training"}
        parts = {key: list(item) if isinstance(item, nn.ModuleList) else item for key, item in value._modules.items()}
        return {"$": "process", "name": name, "fields": self._plain(found | value._buffers | parts)}

    def _source(self, source: DataSource) -> dict[str, Any]:
        """A source as its points: all splits that it has, with what is known of them."""
        splits, rows = {}, source.rows
        for split in SPLITS:
            with suppress(SplitError):
                splits[split] = source.load(split)
        numbered = rows is not None and all(name == number for number, name in enumerate(rows))
        facts = {
            "splits": splits,
            "event_scale": source.event_scale,
            "condition_spec": source.condition_spec,
            "label_names": None if source.label_names is None else list(map(str, source.label_names)),
            "rows": None if rows is None else len(rows) if numbered else list(map(str, rows)),
            "warnings": list(source.data_warnings()),
        }
        return {"$": "source", "facts": self._plain(facts)}


class Reader:
    """Values from JSON, their tensors copied out of an arena.

    ``named`` gives the object of this side that has a name, and ``asked`` a proxy of one of the other side.
    """

    def __init__(
        self,
        arena: Arena,
        named: Callable[[str], Any] | None = None,
        asked: Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> None:
        self._arena, self._named, self._asked, self._bytes = arena, named, asked, 0
        self.generators: list[torch.Generator] = []

    def value(self, said: Any) -> Any:
        """The value that was written. Raises ``WireError`` for what no ``Writer`` writes."""
        try:
            return self._value(said)
        except WireError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError, ScorefoldError) as error:
            raise WireError(f"a message is not as it has to be: {type(error).__name__}: {error!s:.200}") from error

    def _value(self, said: Any) -> Any:
        if isinstance(said, list):
            return [self._value(item) for item in said]
        if not isinstance(said, dict):
            return said
        kind = said["$"]
        if kind == "tensor":
            found = self._arena.get(said["at"], said["dtype"], said["shape"])
            self._bytes += found.nbytes
            return found if self._bytes <= LARGEST else _refuse(self._bytes)  # one place may be announced many times
        if kind == "array":
            return self._value(said["tensor"]).numpy()
        if kind == "mapping":
            return {key: self._value(item) for key, item in said["items"].items()}
        if kind == "tuple":
            return tuple(self._value(item) for item in said["items"])
        if kind == "number":
            return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[said["is"]]
        if kind in _RECORDS:
            return _RECORDS[kind](**{name: self._value(item) for name, item in said["fields"].items()})
        if kind == "process":
            return _process(_PROCESSES[said["name"]], self._value(said["fields"]))
        if kind == "generator":
            self.generators.append(generator := torch.Generator(said["device"]))
            generator.set_state(self._value(said["state"]))
            return generator
        if kind == "source":
            return _source(**self._value(said["facts"]))
        if kind == "object" and self._named is not None:
            return self._named(said["name"])
        if kind == "asked" and self._asked is not None:
            return self._asked(said)
        raise WireError(f"a message holds a value of the kind {kind!r:.60}, which is unknown")


def _source(label_names: Any, rows: Any, **facts: Any) -> TensorSource:
    source = TensorSource(**facts, rows=range(rows) if isinstance(rows, int) else rows)
    source.label_names = label_names
    return source


def _process(kind: type[nn.Module], fields: Mapping[str, Any]) -> nn.Module:
    """A process of core with these fields. Raises ``WireError`` for a field that would stand for a method."""
    found = kind.__new__(kind)
    nn.Module.__init__(found)
    for name, value in fields.items():
        if name.startswith("_") or hasattr(kind, name) or (callable(value) and not isinstance(value, nn.Module)):
            raise WireError(f"a process has the field {name!r:.60}")
        if isinstance(value, Tensor):
            found.register_buffer(name, value)
        else:
            setattr(found, name, nn.ModuleList(value) if isinstance(value, list) else value)
    return found


def leaves_of(given: Any) -> list[Tensor]:
    """The tensors among arguments, with those in conditions, which are mappings of tensors."""
    flat = [part for value in given for part in (value.values() if isinstance(value, Mapping) else (value,))]
    return [part for part in flat if isinstance(part, Tensor)]


def with_leaves(given: Any, leaves: list[Tensor]) -> list[Any]:
    """Arguments with other tensors in place of theirs, in the order of ``leaves_of``."""
    left = iter(leaves)

    def fill(value: Any) -> Any:
        return next(left) if isinstance(value, Tensor) else value

    return [
        {key: fill(item) for key, item in value.items()} if isinstance(value, Mapping) else fill(value)
        for value in given
    ]


def read_line(line: bytes) -> dict[str, Any]:
    """The message in a line. Raises ``WireError`` for one that no worker of this protocol writes."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands there twice")
        return found

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    try:
        said = json.loads(line, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{line[:60]!r} is no message: {error}") from error
    if not isinstance(said, dict):
        raise WireError(f"{line[:60]!r} is no message")
    return said
