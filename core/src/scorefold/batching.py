"""Number of events per call of a network, chosen so that its tensors stay in the processor's cache.

What a call costs an event depends on the largest tensor that it makes: below a few MiB a call is the cheaper the more
events it has, and from some tens of MiB on tensors leave the cache, and the allocator fetches them from the system and
gives them back every time (``benchmarks/batches.py``). So the number of coordinates says little: a U-Net makes a
hundred numbers of each pixel, a perceptron on few coordinates only its width. The largest tensor is measured once a
model, by a call with 1 event and one with 3. Answers do not depend on it: all random numbers are drawn for the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scorefold.data import Condition, ConditionSpec, TensorSpec, map_condition

CPU_BYTES = 2**24
"""The largest tensor of a call on a CPU, in bytes."""

DEVICE_BYTES = 2**28
"""The same on a GPU, which is the faster the more there is to do; not measured."""

MOST = 2**16
"""The most events of a call."""

FEW = 16
"""So many events are one call, whatever the network."""

_NUMBERS = 256  # a coordinate, where a model can't be measured

_chosen: int | None = None
_measured: WeakKeyDictionary[nn.Module, tuple[torch.device, torch.dtype, int]] = WeakKeyDictionary()


def set_call_rows(rows: int | None) -> None:
    """Fix the number of events in one call of a network, for this process; None measures each network."""
    global _chosen
    _chosen = rows


def call_rows(
    model: nn.Module, like: Tensor, spec: ConditionSpec | None, call: Callable[[Tensor, Condition | None], object]
) -> int:
    """Events in one call of a model: ``call(x, condition)`` makes one with copies of the event ``like`` (1, *E) and
    conditions of no meaning. Where that call fails, a network of 256 numbers a coordinate is assumed.
    """
    if _chosen is not None:
        return _chosen
    known = _measured.get(model)
    if known is None or known[:2] != (like.device, like.dtype):
        each = _bytes_an_event(model, like, spec, call) or _NUMBERS * like[0].numel() * like.element_size()
        limit = CPU_BYTES if like.device.type == "cpu" else DEVICE_BYTES
        known = _measured[model] = (like.device, like.dtype, max(1, min(MOST, limit // each)))
    return known[2]


def in_calls(rows: int, function: Callable[..., Any], x: Tensor, *others: Tensor, condition: Condition | None) -> Any:
    """``function(x, *others, condition)`` in calls of ``rows`` events, put together again. x is (B, *E); others and
    conditions have B rows, or 1 for all. What the function gives is a tensor or a tuple of tensors with B rows.
    """
    if len(x) <= rows:
        return function(x, *others, condition)
    answers = []
    for start in range(0, len(x), rows):
        part = slice(start, min(start + rows, len(x)))
        cut = [value if len(value) == 1 else value[part] for value in others]
        for one, value in zip(cut, others, strict=True):
            vars(one).update(vars(value))  # rows of a sampler's time are that time too, for ``tabulated``
        given = map_condition(condition, lambda value, part=part: value if len(value) == 1 else value[part])  # type: ignore[misc]
        answers.append(function(x[part], *cut, given))
    if isinstance(answers[0], tuple):
        return tuple(map(torch.cat, zip(*answers, strict=True)))
    return torch.cat(answers)


def blank_condition(spec: ConditionSpec | None, rows: int, like: Tensor) -> Condition | None:
    """A condition of zeros that fits, with so many rows."""

    def blank(one: TensorSpec) -> Tensor:
        dtype = like.dtype if one.classes is None else torch.long
        return torch.zeros(rows, *one.shape, dtype=dtype, device=like.device)

    if spec is None or isinstance(spec, TensorSpec):
        return None if spec is None else blank(spec)
    return {name: blank(one) for name, one in spec.items()}


class _Sizes(TorchFunctionMode):
    """Notes the bytes of tensors from torch's functions, without expanded axes. Lower, a mode loads the compiler."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        for value in filter(torch.is_tensor, given if isinstance(given, tuple | list) else (given,)):
            own = (n for n, step in zip(value.shape, value.stride(), strict=True) if step)
            self.found.append(value.itemsize * math.prod(own))
        return given


def _bytes_an_event(
    model: nn.Module, like: Tensor, spec: ConditionSpec | None, call: Callable[[Tensor, Condition | None], object]
) -> int | None:
    """The largest tensor of a call, a further event; None where it can't be measured."""
    modes = {module: module.training for module in model.modules()}
    model.eval()  # dropout would take global random numbers
    try:
        seen = []
        for rows in (1, 3):
            with torch.no_grad(), _Sizes() as noted:
                call(like.repeat(rows, *[1] * (like.dim() - 1)), blank_condition(spec, rows, like))
            seen.append(noted.found)
    except Exception:  # events of no meaning may be refused; the real ones that follow get the model's own answer
        return None
    finally:
        for module, mode in modes.items():  # a part may have been trained while the whole is new
            module.training = mode
    grown = [(b - a) // 2 for a, b in zip(*seen, strict=True)] if len({*map(len, seen)}) == 1 else [max(seen[1]) // 3]
    return max(grown, default=0) or None
