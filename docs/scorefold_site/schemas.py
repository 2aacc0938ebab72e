"""The JSON that commands print, by its schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from scorefold_site.markdown import code, fence, folded, page, prose, table


def schemas() -> dict[str, dict[str, Any]]:
    """Every schema that core ships, by name."""
    folder = files("scorefold") / "schemas"
    found = sorted((item for item in folder.iterdir() if item.name.endswith(".json")), key=lambda item: item.name)
    return {item.name.removesuffix(".json"): json.loads(item.read_text(encoding="utf-8")) for item in found}


def schema_page() -> str:
    """Every schema with its fields, and the whole of it folded away."""
    parts = [
        "# JSON",
        "What commands print under `--json` is kept stable. Each output has a JSON Schema in `scorefold/schemas/` of "
        "the distribution `scorefold-core`, and the tests hold the commands to it. The schema of run files is another "
        "matter: `scorefold schema` writes it for what is installed.",
    ]
    for name, schema in schemas().items():
        text = json.dumps(schema, indent=2, ensure_ascii=False)
        parts += [
            f"## {name}",
            f"{prose(schema['title'])}.",
            table(("field", "type", "meaning"), _rows(schema, schema)),
            folded(f"{name}.json", fence(text, "json")),
        ]
    return page(*parts)


def _rows(part: Mapping[str, Any], root: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """The fields of a schema, those inside them after them."""
    part = _resolved(part, root)
    for name, field in part.get("properties", {}).items():
        field = _resolved(field, root)
        path = f"{prefix}{name}"
        yield code(path), _type(field), prose(field.get("description", ""))
        yield from _rows(field, root, f"{path}.")
        if isinstance(field.get("items"), dict):
            yield from _rows(field["items"], root, f"{path}[].")


def _resolved(part: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part with what it refers to in it."""
    merged = dict(part)
    for other in (part, *part.get("allOf", ()), *part.get("oneOf", ()), *part.get("anyOf", ())):
        if "$ref" in other:
            merged = {**_resolved(root["$defs"][other["$ref"].rpartition("/")[2]], root), **merged}
        elif other is not part and "properties" in other:
            merged["properties"] = {**merged.get("properties", {}), **other["properties"]}
    return merged


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(code(json.dumps(value)) for value in field["enum"])
    if "const" in field:
        return code(json.dumps(field["const"]))
    if "type" not in field:
        return " or ".join(dict.fromkeys(_type(part) for part in (*field.get("oneOf", ()), *field.get("anyOf", ()))))
    kinds = field["type"]
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)
