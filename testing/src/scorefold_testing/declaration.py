"""Checks of every kind about what a component declares: its config, its ports, its documentation, what it imports."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from scorefold.config import Config
from scorefold.plugin import RESERVED_PORTS
from scorefold_testing.contract import Check, NotApplicableError, Subject, check, require, require_refusal, resolve

HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "pandas", "diffusers", "torchvision")
BUILD_SECONDS = 5.0


@check("declared-examples", level="contract", once=True, verbs=True)
def declared_examples(subject: Subject) -> str:
    """There is an example to try the other checks on."""
    count = len(subject.component.examples)
    require(count > 0, "no example is declared, so that nothing else can be tried", "one or more")
    return f"{count} examples"


@check("constructor", level="contract", once=True)
def constructor(subject: Subject) -> str:
    """The class is called as ``Target(config, **ports)``, with a keyword for each declared port and no other."""
    parameters = inspect.signature(subject.target).parameters
    first = next(iter(parameters), None)
    require(first == "config", f"its first argument is {first}", "config")
    ports = {port.name: port for port in subject.component.requires}
    varies = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    missing = sorted(set(ports) - set(parameters))
    require(varies or not missing, f"declared ports without an argument: {', '.join(missing)}", "one for each")
    named = {name: p for name, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    undeclared = sorted(n for n, p in named.items() if n not in RESERVED_PORTS | set(ports) and p.default is p.empty)
    require(not undeclared, f"arguments that no port fills: {', '.join(undeclared)}", "a declared port for each")
    return f"config and {len(ports)} ports"


@check("config-strict", level="contract", verbs=True)
def config_strict(subject: Subject) -> str:
    """The config is a ``Config``, takes the example, refuses a field it does not know, and survives JSON."""
    model = subject.config_model
    require(issubclass(model, Config), f"{model.__name__} derives from {model.__mro__[1].__name__}", "Config")
    given = dict(subject.example.get("config", {}))
    require_refusal("an unknown field", ValidationError, lambda: model.model_validate({**given, "no_such_field_": 1}))
    config = model.model_validate(given)
    again = model.model_validate_json(config.model_dump_json())
    lost = [name for name in model.model_fields if getattr(again, name) != getattr(config, name)]
    require(not lost, f"written as JSON and read again, these fields differ: {', '.join(lost)}", "no difference")
    return f"{len(model.model_fields)} fields"


@check("provides", level="contract")
def provides(subject: Subject) -> str:
    """The object is of its kind, and has the capabilities that it declares and no other."""
    obj = subject.build()
    interface = subject.host.interface(subject.component.kind)
    require(isinstance(obj, interface), f"it is a {type(obj).__name__}", interface.__name__)
    has = {name for name, capability in subject.host.capabilities().items() if isinstance(obj, capability)}
    require(has == set(subject.component.provides), f"it has {sorted(has)}", str(sorted(subject.component.provides)))
    return f"provides {', '.join(sorted(has)) or 'nothing more'}"


@check("builds-in-time", level="contract")
def builds_in_time(subject: Subject) -> str:
    """The example is built within five CPU seconds."""
    subject.target  # noqa: B018 - imported first: what an import costs is not what building costs
    start = time.process_time()
    subject.build()
    seconds = time.process_time() - start
    require(seconds <= BUILD_SECONDS, f"built in {seconds:.2f} CPU seconds", f"{BUILD_SECONDS:g} or less")
    return f"built in {seconds:.2f} CPU seconds, allowed {BUILD_SECONDS:g}"


@check("figures-resolve", level="contract", once=True, verbs=True)
def figures_resolve(subject: Subject) -> str:
    """The target of ``figures`` is a function of one value."""
    if subject.component.figures is None:
        raise NotApplicableError("it draws as its kind does")
    found = resolve(subject.component.figures)
    takes = len(inspect.signature(found).parameters) if callable(found) else 0
    require(takes == 1, f"{subject.component.figures} is a {type(found).__name__} of {takes} arguments", "1")
    return subject.component.figures


@check("documented", level="documentation", once=True, verbs=True)
def documented(subject: Subject) -> str:
    """A summary in a line, a docstring of the class, and a description of every config field at any depth."""
    summary, target = subject.component.summary, subject.target
    require(len(summary.strip().splitlines()) == 1, f"the summary is {summary!r}", "one line")
    said = vars(target).get("__doc__") if isinstance(target, type) else target.__doc__
    require(bool((said or "").strip()), f"{target.__name__} has no docstring", "one")
    bare = _undescribed(subject.config_model)
    require(not bare, f"config fields without a description: {', '.join(bare)}", "a description of each")
    return "summary, class and config fields"


@check("cited", level="documentation", once=True)
def cited(subject: Subject) -> str:
    """The file that ``cite`` names is in the package and holds BibTeX."""
    component = subject.component
    if component.cite is None:
        raise NotApplicableError("it cites nothing")
    package = component.target.partition(":")[0].partition(".")[0]
    file = files(package) / component.cite
    require(file.is_file(), f"cite names {component.cite}, which {package} lacks", "a file of the package")
    entries = sum(line.lstrip().startswith("@") for line in file.read_text(encoding="utf-8").splitlines())
    require(entries > 0, f"{component.cite} holds {entries} entries of BibTeX", "one or more")
    return f"{entries} entries in {component.cite}"


@check("lazy-declaration", level="laziness", once=True, verbs=True)
def lazy_declaration(subject: Subject) -> str:
    """The module that declares the component imports nothing heavy, and no pydantic either."""
    if subject.plugin is None:
        raise NotApplicableError("the kit does not know which module declares it")
    module = subject.plugin.partition(":")[0]
    _require_light(module, _loaded(module, "", ()), (*HEAVY, "pydantic"))
    return f"imported alone: {module}"


@check("lazy-config", level="laziness", once=True, verbs=True)
def lazy_config(subject: Subject) -> str:
    """The config model's module imports nothing heavy, and neither does checking the examples' configs."""
    module, _, name = subject.component.config.partition(":")
    _require_light(module, _loaded(module, "", ()), HEAVY)
    given = tuple(json.dumps(example.get("config", {})) for example in subject.component.examples)
    _require_light(f"{name}.model_validate", _loaded(module, name, given), HEAVY)
    return f"imported and used alone: {subject.component.config}"


def _require_light(what: str, loaded: frozenset[str], heavy: Sequence[str]) -> None:
    found = [name for name in heavy if name in loaded]
    require(not found, f"{what} alone imports {', '.join(found)}", f"none of {', '.join(heavy)}")


@lru_cache
def _loaded(module: str, model: str, configs: tuple[str, ...]) -> frozenset[str]:
    """The modules that importing one, and checking configs (JSON) by a model of it, brings into a process."""
    paths = [path for path in sys.path if path]
    code = (
        f"import sys, json; sys.path[:0] = {paths!r}; import {module} as found; "
        f"[found.{model or 'none'}.model_validate(json.loads(text)) for text in {configs!r}]; print(*sys.modules)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    cause = (outcome.stderr.strip().splitlines() or ["no message"])[-1]
    require(outcome.returncode == 0, f"in a process of its own {module} ends in {cause}", "no error")
    return frozenset(outcome.stdout.split())


def _undescribed(model: type[BaseModel], prefix: str = "", within: tuple[type[BaseModel], ...] = ()) -> list[str]:
    """Fields without a description, nested models' too. The ``name`` that separates models of a union needs none."""
    bare = []
    for name, field in model.model_fields.items():
        nested = _models(field.annotation)
        if not field.description and name != "name":
            bare.append(prefix + name)
        for inner in nested:
            # A config may nest itself, as an operator made of operators does.
            if inner not in (*within, model):
                bare += _undescribed(inner, f"{prefix}{name}.", (*within, model))
    return bare


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


CHECKS: tuple[Check, ...] = (
    declared_examples,
    constructor,
    config_strict,
    provides,
    builds_in_time,
    figures_resolve,
    documented,
    cited,
    lazy_declaration,
    lazy_config,
)
