"""The line by which ``repr`` shows a component in a Python session, ``scorefold.interfaces.Shown``: its origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from scorefold.config import Use
from scorefold.interfaces import Shown
from scorefold.interfaces.model import MADE_FROM

_FIELDS, _LONGEST = 6, 40


def show_by_origin(obj: Any, name: str, config: BaseModel, ports: Mapping[str, Any]) -> None:
    """Have an object shown as ``<flow:affine-coupling layers=2, data=<data:digits ...>>``."""
    if not isinstance(obj, Shown):
        return
    plugged = {port: _part(value) for port, value in ports.items()}
    given = {field: _text(getattr(config, field)) for field in type(config).model_fields if _is_set(config, field)}
    few = [f"{key}={value}" for key, value in [*given.items(), *plugged.items()]]
    more = [f"{len(few) - _FIELDS} more"] if len(few) > _FIELDS else []
    vars(obj)[MADE_FROM] = " ".join([name, ", ".join(few[:_FIELDS] + more)]).strip()


def _is_set(config: BaseModel, field: str) -> bool:
    """True if a field is not as it is by default."""
    return bool(getattr(config, field) != type(config).model_fields[field].get_default(call_default_factory=True))


def _part(value: Any) -> str:
    """Component at a port."""
    if isinstance(value, list | tuple):
        return f"[{len(value)}]"
    origin = vars(value).get(MADE_FROM) if hasattr(value, "__dict__") else None
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
