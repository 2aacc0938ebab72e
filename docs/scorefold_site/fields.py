"""Tables of fields: of configs, of the options of verbs, of plugins' settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from scorefold_registry.components.fields import describe_fields
from scorefold_site.markdown import code, prose, table


def field_table(model: type[BaseModel]) -> str:
    """Every field with its type and range, its default and what it means; a line that says so where there is none."""
    rows = [
        (code(field["name"]), field["type"], _default(field), prose(field["description"]))
        for field in describe_fields(model)
    ]
    return table(("field", "value", "default", "meaning"), rows) or "There is nothing to set."


def _default(field: Mapping[str, Any]) -> str:
    if field["required"]:
        return "required"
    value = field["default"]
    if isinstance(value, dict):
        # A whole model: its own fields have lines of their own.
        named = value.get("use") or value.get("name")
        return code(named) if named else ""
    return code(json.dumps(value, ensure_ascii=False))
