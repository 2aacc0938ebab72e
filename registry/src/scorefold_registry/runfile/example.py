"""A run file for a component, from the example that it declares."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib import import_module
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from scorefold.plugin import Component, Port, Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.paths import file_name, free_name
from scorefold_registry.runfile.reader import STAGE_NAME, VERSION
from scorefold_registry.runfile.stage_parts import inline_use

OWN_DATA = {"use": "data:array", "config": {"path": "FILE"}}
"""The data of a run file for whoever has some, where the component's example names none."""

WIDTH = 100
"""Characters of a line of a run file that is written with comments."""


def example_run(
    catalogue: Catalogue,
    component: Component,
    example: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] = OWN_DATA,
) -> dict[str, Any] | None:
    """A run file, as a mapping, whose last stage does the component's own verb; None for a kind without verbs.

    What is plugged into its ports becomes stages before it, with the small configurations of the ``example``, or of the
    component's first one. A port of the verb takes a stage that fits, and ``own`` data where none does. Options without
    a default are copied from the verb's own example.
    """
    if not catalogue.kinds[component.kind].default:
        return None
    verb = catalogue.verb(component, None)
    stages: dict[str, dict[str, Any]] = {}
    if example is None:
        example = component.examples[0] if component.examples else {}
    last = _written(catalogue, {"use": f"{component.kind}:{component.name}", **example}, stages)
    inputs = {**last.get("inputs", {}), **_of_verb(catalogue, component, verb, last.get("inputs", {}), stages, own)}
    if inputs:
        last["inputs"] = inputs
    if options := _required_options(verb):
        last["options"] = options
    name = component.name if STAGE_NAME.match(component.name) else component.kind
    stages[free_name(name, stages)] = last
    return as_run_file(component.name, stages)


def as_run_file(name: str, stages: Mapping[str, Any]) -> dict[str, Any]:
    """Stages as a run file, a mapping, whose run is called as near to a name as a folder can be."""
    return {"version": VERSION, "name": file_name(name, default="run"), "stages": stages}


def commented_text(run: Mapping[str, Any], heading: Sequence[str], comments: Mapping[tuple[str, ...], str]) -> str:
    """A run file as text: a heading, and above a field the comment that stands for its path, such as
    ``("stages", "data", "config", "scale")``."""
    writer: Any = YAML()
    writer.width = WIDTH
    # ruamel's own way to write null is nothing at all.
    writer.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )

    def styled(value: Any, place: tuple[str, ...]) -> Any:
        if isinstance(value, list | tuple):
            listed: Any = CommentedSeq(value)
            listed.fa.set_flow_style()
            return listed
        if not isinstance(value, Mapping):
            return value
        found: Any = CommentedMap()
        for key, item in value.items():
            found[key] = styled(item, (*place, key))
            if text := comments.get((*place, key)):
                indent = 2 * len(place)
                lines = textwrap.wrap(text, WIDTH - indent - 2, break_long_words=False, break_on_hyphens=False)
                found.yaml_set_comment_before_after_key(key, before="\n".join(lines), indent=indent)
        return found

    stream = io.StringIO()
    writer.dump(styled(run, ()), stream)
    said = "".join(f"# {line}".rstrip() + "\n" for line in heading)
    return said + stream.getvalue()


def _written(catalogue: Catalogue, use: Mapping[str, Any], stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A stage as a run file has it; what it needs is added to ``stages``."""
    written: dict[str, Any] = {"use": use["use"]}
    if use.get("inputs"):
        written["inputs"] = {name: _named(catalogue, value, stages) for name, value in dict(use["inputs"]).items()}
    if use.get("config"):
        written["config"] = deepcopy(dict(use["config"]))
    return written


def _named(catalogue: Catalogue, value: Any, stages: dict[str, dict[str, Any]]) -> Any:
    """The name of the stage that a component named inline becomes; itself where no stage gives such a component."""
    if isinstance(value, list | tuple):
        return [_named(catalogue, item, stages) for item in value]
    inline = inline_use(value)
    if inline is None:
        return value
    component = catalogue.resolve(inline["use"]).component
    if not catalogue.kinds[component.kind].default or catalogue.verb(component, None).gives != component.kind:
        return value
    stage = _written(catalogue, inline, stages)
    same = next((name for name, other in stages.items() if other == stage), None)
    if same is not None:
        return same
    name = free_name(component.kind, stages)
    stages[name] = stage
    return name


def _of_verb(
    catalogue: Catalogue,
    component: Component,
    verb: Verb,
    given: Mapping[str, Any],
    stages: dict[str, dict[str, Any]],
    own: Mapping[str, Any],
) -> dict[str, Any]:
    """Inputs for the verb's own required ports."""
    found: dict[str, Any] = {}
    for port in verb.takes:
        needed = not port.optional or (port.name == "data" and "Trainable" in component.provides)
        if port.name in given or port.default is not None or not needed:
            continue
        fitting = [name for name, stage in stages.items() if _fits(catalogue, stage["use"], port)]
        if fitting:
            found[port.name] = fitting[0]
        elif "data" in port.kinds and not port.needs:
            found[port.name] = _named(catalogue, own, stages)
        else:
            others = [f"{item.component.kind}:{item.component.name}" for item in catalogue.components]
            use = next((name for name in others if _fits(catalogue, name, port)), None)
            if use is not None:
                example = catalogue.resolve(use).component.examples[0]
                found[port.name] = _named(catalogue, {"use": use, **example}, stages)
    return found


def _fits(catalogue: Catalogue, use: str, port: Port) -> bool:
    component = catalogue.resolve(use).component
    return component.kind in port.kinds and set(port.needs) <= set(component.provides)


def _required_options(verb: Verb) -> dict[str, Any]:
    """The options of a verb that have no default, as its own example sets them."""
    if verb.options is None:
        return {}
    module, _, name = verb.options.partition(":")
    fields = getattr(import_module(module), name).model_fields
    example = next((dict(example["options"]) for example in verb.examples if example.get("options")), {})
    return {name: example[name] for name, field in fields.items() if field.is_required() and name in example}
