"""JSON Schema of run files for exactly what is installed, for editors with a YAML language server. No torch here.

The schema says what ``scorefold validate`` says, as far as JSON Schema can: it does not follow the names of stages, so
whether a stage fits the port it is plugged into is left to ``validate``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from scorefold.config import INLINE_MARK
from scorefold.errors import PluginError
from scorefold.plugin import Port, Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.manifest import LOCK_DIGEST
from scorefold_registry.components.parts import config_model
from scorefold_registry.plugins.loading import describe
from scorefold_registry.plugins.names import normalise
from scorefold_registry.plugins.records import PluginRecord, Registered
from scorefold_registry.runfile.plugin_settings import settings_model
from scorefold_registry.runfile.reader import RUN_NAME, SPLITS, STAGE_NAME, VERSION, Runtime


def model_schema(model: type[BaseModel], key: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A model's schema, to stand under ``key`` in the definitions of a larger schema, and the schemas of inner models.

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


# JSON Schema's patterns are searched for, and have no \\Z.
_STAGE = f"^{STAGE_NAME.pattern}".replace(r"\Z", "$")
_RUN = f"^{RUN_NAME.pattern}".replace(r"\Z", "$")

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_MADE: Schema = {"anyOf": [{"required": ["use"]}, {"required": ["load"]}]}
_WHOLE: Schema = {"required": ["stages"], "properties": {"stages": {"additionalProperties": _MADE}}}
"""A file that extends none has stages, and each says what it is made of."""


@dataclass(frozen=True)
class RunSchema:
    """The schema, and ``notes`` on what it had to leave open because a plugin could not deliver it."""

    schema: Schema
    notes: tuple[str, ...] = ()


def run_schema(catalogue: Catalogue) -> RunSchema:
    """The schema of run files for the components of a catalogue.

    Imports config models, so a plugin may fail here; its settings are then left open, with a note.
    """
    writer = _Writer(catalogue)
    schema: Schema = {
        "$schema": DIALECT,
        "title": "A Scorefold run file",
        "type": "object",
        "required": ["version"],
        "anyOf": [{"required": ["extends"]}, _WHOLE],
        "additionalProperties": False,
        "properties": {
            "version": {"const": VERSION, "description": "The version of the format"},
            "name": {"type": "string", "pattern": _RUN, "description": "The folder under runs/"},
            "extends": {
                "type": "string",
                "minLength": 1,
                "description": "A run file, by its path from this file, with the fields that this file does not set",
            },
            "seed": {
                "type": "integer",
                "minimum": 0,
                "exclusiveMaximum": 2**63,
                "default": 0,
                "description": "Root seed of all random numbers",
            },
            "runtime": writer.model(Runtime, "runtime"),
            "plugins": writer.plugins(),
            "environments": {
                "type": "object",
                "description": "Locks that environments of plugins must have, by their names",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["lock"],
                    "properties": {"lock": {"type": "string", "pattern": LOCK_DIGEST}},
                },
            },
            "stages": {
                "type": "object",
                "minProperties": 1,
                "description": "Stages by name; each runs after the stages that it needs",
                "propertyNames": {"pattern": _STAGE},
                "additionalProperties": {"$ref": "#/$defs/stage"},
            },
        },
    }
    writer.definitions["stage"] = writer.stage()
    schema["$defs"] = dict(sorted(writer.definitions.items()))
    return RunSchema(schema, tuple(dict.fromkeys(writer.notes)))


@dataclass
class _Writer:
    catalogue: Catalogue
    definitions: dict[str, Schema] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        named = [(item, _names(self.catalogue, item)) for item in self.catalogue.components]
        self.components = [item for item, names in named if names]
        self.names = {id(item): names for item, names in named}

    def plugins(self) -> Schema:
        """The settings of each plugin that has any."""
        able = [record for record in self.catalogue.plugins if record.settings is not None]
        names = [record.name for record in able]
        return {
            "type": "object",
            "description": "Settings of plugins, by their names",
            "additionalProperties": False,
            "properties": {record.name: self._settings(record) for record in able if names.count(record.name) == 1},
        }

    def _settings(self, record: PluginRecord) -> Schema:
        key = f"settings.{normalise(record.distribution)}.{record.name}"
        model = self._guarded(f"the settings of {record.name!r}", lambda: self.model(settings_model(record), key))
        return {"anyOf": [model, {"type": "null"}]}

    def stage(self) -> Schema:
        """A stage: the same keys for all, and below them what each component and each verb adds."""
        usable = [item for item in self.components if self.catalogue.kinds[item.component.kind].verbs]
        verbs = dict.fromkeys(verb.name for kind in self.catalogue.kinds.values() for verb in kind.verbs)
        properties: Schema = {
            "use": {
                "description": "A component, kind:name; or the name of an earlier stage",
                "anyOf": [
                    *(self._suggestion(item) for item in usable),
                    {"pattern": self._any_name(usable, bare=False), "type": "string"},
                    {"pattern": _STAGE, "type": "string", "description": "An earlier stage"},
                ],
            },
            "load": {"type": "string", "minLength": 1, "description": "The folder of a saved state to load"},
            "do": {"enum": list(verbs), "description": "The verb; by default the first verb of the kind"},
            "inputs": {"type": "object", "description": "Components for the ports"},
            "config": {"type": "object", "description": "The component's settings"},
            "options": {"type": "object", "description": "The verb's settings"},
            "split": {"enum": list(SPLITS), "description": "The part of the data that the verb uses"},
        }
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": properties,
            "allOf": [
                *(self._of_component(item) for item in usable),
                self._of_earlier_stage(),
                _when({"required": ["load"]}, {"maxProperties": 1}),
            ],
        }

    def _of_component(self, item: Registered) -> Schema:
        """Fields of a stage that creates this component."""
        component, kind = item.component, self.catalogue.kinds[item.component.kind]
        able = self.catalogue.able(component)
        config = self.config(item)
        needs_config = _requires(self.definitions, config)
        branches = [
            _when(
                _verb_is(verb, verb.name == kind.default),
                self._of_verb([(*component.requires, *verb.takes)], component.provides, [verb]),
            )
            for verb in able
        ]
        then: Schema = {
            "properties": {
                "do": {"enum": [verb.name for verb in able], "default": kind.default},
                "config": config,
            },
            "allOf": branches,
        }
        needs_verb = kind.verb() not in able
        if needs_verb or needs_config:
            then["required"] = [*(["do"] if needs_verb else []), *(["config"] if needs_config else [])]
        return _when({"required": ["use"], "properties": {"use": {"pattern": self._name(item, bare=False)}}}, then)

    def _of_earlier_stage(self) -> Schema:
        """Fields of a stage that uses an earlier one. A schema can't know its kind, so the fields of all kinds are
        allowed.
        """
        by_verb: dict[str, list[Verb]] = {}
        for kind in self.catalogue.kinds.values():
            for verb in kind.verbs:
                by_verb.setdefault(verb.name, []).append(verb)
        branches = [
            _when(_verb_is(verbs[0], default=False), self._of_verb([verb.takes for verb in verbs], (), verbs))
            for verbs in by_verb.values()
        ]
        settled = "The settings belong to the stage that creates the component; a verb's settings are 'options'"
        then = {"properties": {"config": {"type": "object", "maxProperties": 0, "description": settled}}}
        return _when({"required": ["use"], "properties": {"use": {"pattern": _STAGE}}}, {**then, "allOf": branches})

    def _of_verb(self, takes: Sequence[Sequence[Port]], provides: Sequence[str], verbs: Sequence[Verb]) -> Schema:
        """Inputs, options and split of a verb; where several verbs have its name, of any of them."""
        inputs = [self._inputs(ports, provides, outer=False) for ports in takes]
        options = [self._options(verb) for verb in verbs]
        then: Schema = {"properties": {"inputs": _any_of(inputs), "options": _any_of(options)}}
        required = [
            name
            for name, found in (("inputs", inputs), ("options", options))
            if all(_requires(self.definitions, schema) for schema in found)
        ]
        if required:
            then["required"] = required
        reads = [verb for verb in verbs if verb.name != "fit" and any("data" in port.kinds for port in verb.takes)]
        if not reads:
            then["not"] = {"required": ["split"]}
        return then

    def _options(self, verb: Verb) -> Schema:
        if verb.options is None:
            return {"type": "object", "maxProperties": 0, "description": f"The verb {verb.name} takes no options"}
        module, _, name = verb.options.partition(":")
        return self._guarded(
            f"the options of the verb {verb.name!r}",
            lambda: self.model(getattr(import_module(module), name), f"options.{module}.{name}"),
        )

    def config(self, item: Registered) -> Schema:
        """The settings of a component, as a reference."""
        return self._guarded(
            f"the config of {item.qualified}",
            lambda: self.model(
                config_model(item), f"config.{normalise(item.distribution)}.{item.id.replace(':', '.')}"
            ),
        )

    def _guarded(self, what: str, make: Callable[[], Schema]) -> Schema:
        """A schema that a plugin's model gives; any mapping, and a note, where it gives none."""
        try:
            return make()
        except PluginError as error:
            self.notes.append(f"{what} is left open: {error.message}")
        except Exception as error:
            self.notes.append(f"{what} is left open: {describe(error)}")
        return {"type": "object"}

    def model(self, model: type[Any], key: str) -> Schema:
        """The schema of a pydantic model under a key of the definitions, as a reference."""
        if key not in self.definitions:
            schema, inner = model_schema(model, key)
            found = {key: schema, **inner}
            self.definitions.update({name: self._with_inlines(part) for name, part in found.items()})
        return {"$ref": f"#/$defs/{key}"}

    def _with_inlines(self, schema: Any) -> Any:
        """A schema with the marks of inline components replaced by references."""
        if isinstance(schema, list):
            return [self._with_inlines(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        replaced = {name: self._with_inlines(part) for name, part in schema.items() if name != INLINE_MARK}
        if INLINE_MARK in schema:
            mark = schema[INLINE_MARK]
            replaced |= self._inline([mark["kind"]], mark["needs"], outer=True)
        return replaced

    def _inputs(self, ports: Sequence[Port], provides: Sequence[str], *, outer: bool) -> Schema:
        """A mapping of ports. One that a component around this one may fill (``outer``) is never required."""
        by_name: dict[str, list[Port]] = {}
        for port in ports:
            by_name.setdefault(port.name, []).append(port)
        required = [
            name
            for name, wanted in by_name.items()
            if not outer and any(_is_required(port, provides) for port in wanted)
        ]
        schema: Schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: self._port(wanted) for name, wanted in by_name.items()},
        }
        return {**schema, "required": required} if required else schema

    def _port(self, wanted: Sequence[Port]) -> Schema:
        """Values of a port: a stage, an inline component, or a list if it takes many.

        A constructor and a verb may both have a port of one name; what is plugged in must then fit both.
        """
        kinds = [kind for kind in wanted[0].kinds if all(kind in port.kinds for port in wanted)]
        needs = list(dict.fromkeys(need for port in wanted for need in port.needs))
        inline = self._inline(kinds, needs, outer=False)
        words = " or ".join(kinds) + (f" that provides {' and '.join(needs)}" if needs else "")
        stage = {"type": "string", "pattern": _STAGE, "description": f"An earlier stage that gives {words}"}
        one: Schema = {"anyOf": [stage, inline]}
        if all(port.many for port in wanted):
            one["anyOf"].append({"type": "array", "items": {"anyOf": [stage, inline]}})
        return {**one, "description": words}

    def _inline(self, kinds: Sequence[str], needs: Sequence[str], *, outer: bool) -> Schema:
        """A component named inline, as a reference: its name alone, or ``{use, config, inputs}``.

        ``outer``: it stands in a config, where the ports of the component around it fill its own.
        """
        key = ".".join(["inside" if outer else "plugged", "-or-".join(kinds) or "nothing", *needs])
        if key not in self.definitions:
            self.definitions[key] = {}  # Held while it is written, because components may name each other.
            fitting = [
                item
                for item in self.components
                if item.component.kind in kinds and set(needs) <= set(item.component.provides)
            ]
            self.definitions[key].update(self._choice(fitting, outer))
        return {"$ref": f"#/$defs/{key}"}

    def _choice(self, fitting: Sequence[Registered], outer: bool) -> Schema:
        if not fitting:
            return {"not": {}, "description": "No component that is installed fits here"}
        name: Schema = {
            "description": "The component, kind:name",
            "anyOf": [
                *(self._suggestion(item) for item in fitting),
                {"type": "string", "pattern": self._any_name(fitting, bare=outer)},
            ],
        }
        branches = []
        for item in fitting:
            config = self.config(item)
            inputs = self._inputs(item.component.requires, item.component.provides, outer=outer)
            then: Schema = {"properties": {"config": config, "inputs": inputs}}
            required = [
                name for name, part in (("config", config), ("inputs", inputs)) if _requires(self.definitions, part)
            ]
            if required:
                then["required"] = required
            pattern = self._name(item, bare=outer)
            branches.append(_when({"required": ["use"], "properties": {"use": {"pattern": pattern}}}, then))
        mapping = {
            "type": "object",
            "required": ["use"],
            "additionalProperties": False,
            "properties": {"use": name, "config": {"type": "object"}, "inputs": {"type": "object"}},
            "allOf": branches,
        }
        return {"anyOf": [name, mapping]}

    def _suggestion(self, item: Registered) -> Schema:
        names = self.names[id(item)]
        text = item.id if item.id in names else item.qualified
        return {"const": text, "description": item.component.summary}

    def _name(self, item: Registered, *, bare: bool) -> str:
        return self._any_name([item], bare=bare)

    def _any_name(self, items: Iterable[Registered], *, bare: bool) -> str:
        """A pattern of every way to write these components' names; with ``bare``, without their kind too."""
        ways = [
            f"(?:{'|'.join(written)})(?:@{item.component.revision})?"
            for item in items
            if (written := [re.escape(name) for name in self.names[id(item)] if bare or ":" in name])
        ]
        return f"^(?:{'|'.join(ways)})$".replace(r"\-", "-")


def _names(catalogue: Catalogue, item: Registered) -> list[str]:
    """Every way to write a component's name that leads to it, without its revision."""
    component, names = item.component, (item.component.name, *item.component.aliases)
    prefixes = ("", *dict.fromkeys(f"{name}/" for name in (item.distribution, normalise(item.distribution))))
    texts = [f"{prefix}{kind}{name}" for prefix in prefixes for kind in (f"{component.kind}:", "") for name in names]
    return [text for text in texts if _leads_to(catalogue, text, item)]


def _leads_to(catalogue: Catalogue, text: str, item: Registered) -> bool:
    try:
        return catalogue.resolve(text) is item
    except PluginError:
        return False


def _is_required(port: Port, provides: Sequence[str]) -> bool:
    if port.when:
        return port.when in provides
    return not port.optional and port.default is None


def _verb_is(verb: Verb, default: bool) -> Schema:
    """Condition that a stage has this verb; a stage without ``do`` has the default verb."""
    named: Schema = {"properties": {"do": {"const": verb.name}}}
    return named if default else {**named, "required": ["do"]}


def _when(condition: Schema, then: Schema) -> Schema:
    return {"if": condition, "then": then}


def _any_of(schemas: Sequence[Schema]) -> Schema:
    distinct = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def _requires(definitions: Mapping[str, Schema], schema: Schema) -> bool:
    """True if a mapping has a key that must be there, so that it can't be left out."""
    reference = schema.get("$ref", "").removeprefix("#/$defs/")
    return bool((definitions[reference] if reference else schema).get("required"))
