"""The JSON Schema of one config model, as a run file writes it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


def model_schema(model: type[BaseModel], key: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A model's schema, to stand under ``key`` of a larger schema's definitions, and those of the models inside it.

    Components named inline are left as marks (``scorefold.config.INLINE_MARK``). Raises pydantic's errors for a model
    that JSON Schema can't express.
    """
    schema = model.model_json_schema(ref_template=f"#/$defs/{key}.{{model}}", schema_generator=_Generator)
    inner = schema.pop("$defs", {})
    return schema, {f"{key}.{name}": part for name, part in inner.items()}


class _Generator(GenerateJsonSchema):
    """Without titles that repeat the names of fields, and with the tag of a union required, as its models want it."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as the base declares it

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        written = super().model_schema(schema)
        written.pop("title", None)
        return written

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        written = super().tagged_union_schema(schema)
        # An extension of OpenAPI, whose pointers would have to be kept in step.
        tag = written.pop("discriminator", {}).get("propertyName")
        if tag is not None:
            written["oneOf"] = [{**choice, "required": [tag]} for choice in written["oneOf"]]
        return written
