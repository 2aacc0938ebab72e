"""Components in a Python session: a short line that says what each was made from.

``repr`` of an object finds its method on the class. So the class of what the host makes gets one, unless it has its
own; objects that the host did not make are shown as before, and ``str`` of a torch module is still its layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from torch import nn

from scorefold.config import Use

_ORIGIN = "_scorefold_made_from"
_FIELDS, _LONGEST = 6, 40


def show_by_origin(obj: Any, name: str, config: BaseModel, ports: Mapping[str, Any]) -> None:
    """Have an object shown as ``<flow:affine-coupling layers=2, data=<data:digits ...>>``."""
    kind: Any = type(obj)
    if not hasattr(obj, "__dict__") or kind.__repr__ not in (object.__repr__, nn.Module.__repr__, _shown):
        return
    if kind.__repr__ is not _shown:
        if kind.__str__ is object.__str__ and issubclass(kind, nn.Module):
            type.__setattr__(kind, "__str__", nn.Module.__repr__)
        type.__setattr__(kind, "__repr__", _shown)
    plugged = {port: _part(value) for port, value in ports.items()}
    given = {field: _text(getattr(config, field)) for field in type(config).model_fields if _is_set(config, field)}
    few = [f"{key}={value}" for key, value in [*given.items(), *plugged.items()]]
    more = [f"{len(few) - _FIELDS} more"] if len(few) > _FIELDS else []
    obj.__dict__[_ORIGIN] = " ".join([name, ", ".join(few[:_FIELDS] + more)]).strip()


def _shown(self: Any) -> str:
    origin = self.__dict__.get(_ORIGIN)
    if origin is None:
        return nn.Module.__repr__(self) if isinstance(self, nn.Module) else object.__repr__(self)
    parts = [origin]
    if (shape := getattr(self, "event_shape", None)) is not None:
        parts.append(f"events {tuple(shape)}")
    if isinstance(self, nn.Module):
        parts.append(f"{sum(parameter.numel() for parameter in self.parameters()):,} parameters")
    return f"<{'; '.join(parts)}>"


def _is_set(config: BaseModel, field: str) -> bool:
    """Whether a field is not as it is by default."""
    return bool(getattr(config, field) != type(config).model_fields[field].get_default(call_default_factory=True))


def _part(value: Any) -> str:
    """What is plugged into a port, by its component."""
    if isinstance(value, list | tuple):
        return f"[{len(value)}]"
    origin = getattr(value, "__dict__", {}).get(_ORIGIN)
    return type(value).__name__ if origin is None else str(origin).partition(" ")[0]


def _text(value: Any) -> str:
    """A value of a config as a run file has it, and not longer than a few words."""
    if isinstance(value, Use):
        return value.use
    if isinstance(value, BaseModel):
        named = getattr(value, "name", None)
        set_here = [
            f"{field}: {_text(getattr(value, field))}" for field in type(value).model_fields if _is_set(value, field)
        ]
        text = str(named) if named is not None and len(set_here) < 2 else "{" + ", ".join(set_here) + "}"
    else:
        text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
