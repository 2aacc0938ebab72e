"""Content of values, by name and as text. Comparing it before and after a call shows changes in place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scorefold.data import Dataset
from scorefold.errors import ScorefoldError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS

Contents = Mapping[str, str]
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_ROWS = 2000
_DEEPEST = 8


def contents(value: Any, name: str = "") -> Contents:
    """Content of a value: the splits of data, the state and modes of a model, and of other objects the attributes that
    are tensors or plain.
    """
    return dict(_parts(value, name, 0))


def changed_parts(before: Contents, after: Contents) -> list[str]:
    """The names whose contents are others now, or gone."""
    return [name for name in before if after.get(name) != before[name]]


def _parts(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Tensor | np.ndarray):
        yield name, _text(value)
    elif isinstance(value, (*_PLAIN, Path, torch.dtype, torch.device)):
        yield name, repr(value)
    elif depth == _DEEPEST:
        return
    elif isinstance(value, Mapping):
        yield f"the names of {name}", ", ".join(map(str, value))
        for key, item in value.items():
            yield from _parts(item, f"{name} {key}".strip(), depth + 1)
    elif isinstance(value, Sequence | set | frozenset):
        yield f"the length of {name}", str(len(value))
        for number, item in enumerate(value if isinstance(value, Sequence) else sorted(value, key=repr)):
            yield from _parts(item, f"{name}[{number}]", depth + 1)
    elif isinstance(value, nn.Module):
        yield from _of_module(value, name)
    elif isinstance(value, DataSource):
        yield from _of_data(value, name, depth)
    elif isinstance(value, Dataset):
        columns = {each.name: getattr(value, each.name) for each in fields(value)}
        yield from _parts({key: column for key, column in columns.items() if column is not None}, name, depth + 1)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _parts(getattr(value, field.name), f"{name} {field.name}", depth + 1)
    else:
        for key, item in getattr(value, "__dict__", {}).items():
            # None may wait for what is computed once.
            if item is not None and isinstance(item, (Tensor, np.ndarray, *_PLAIN)):
                yield from _parts(item, f"{name} {key}", depth + 1)


def _of_module(module: nn.Module, name: str) -> Iterator[tuple[str, str]]:
    for key, value in module.state_dict().items():
        if isinstance(value, Tensor):
            yield f"{name} {key}", _text(value)
    yield f"the modes of {name}", "".join("te"[not part.training] for part in module.modules())


def _of_data(source: DataSource, name: str, depth: int) -> Iterator[tuple[str, str]]:
    yield from _parts((tuple(source.event_shape), source.event_scale), f"the events of {name}", depth + 1)
    for split in SPLITS:
        with suppress(ScorefoldError):
            dataset = source.load(split)
            rows = torch.arange(min(_ROWS, len(dataset)))
            yield from _parts(dataset.take(rows), f"{name} {split}", depth + 1)


def _text(value: Tensor | np.ndarray[Any, Any]) -> str:
    if isinstance(value, Tensor):
        if value.device.type == "meta":
            return f"{value.dtype} {tuple(value.shape)}"
        value = value.detach().cpu().contiguous().resolve_conj()
        value = value.float() if value.dtype == torch.bfloat16 else value
        content = value.numpy()
    else:
        content = value
    digest = hashlib.sha256(np.ascontiguousarray(content).tobytes()).hexdigest()
    return f"{content.dtype} {content.shape} {digest}"
