"""Laws of every kind: the declaration, randomness, dtypes, saved states."""

from __future__ import annotations

import inspect
import random
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from scorefold.interfaces.capabilities import CAPABILITIES
from scorefold.kinds import CORE_KINDS
from scorefold.testing.answers import answers_of, inputs_of
from scorefold.testing.contract import (
    Law,
    NotApplicableError,
    Subject,
    law,
    require,
    require_close,
    require_shape,
    resolve,
    stir,
)
from scorefold.testing.fresh import fresh_answers

HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "pandas", "diffusers", "torchvision")
BUILD_SECONDS = 5.0
_INTERFACES = {kind.name: kind.interface for kind in CORE_KINDS}


@law("declared-examples", once=True)
def declared_examples(subject: Subject) -> str:
    """There is an example to try the other laws on."""
    count = len(subject.component.examples)
    require(count > 0, "no example is declared, so that nothing else can be tried")
    return f"{count} examples"


@law("documented", once=True)
def documented(subject: Subject) -> str:
    """A summary, a description of every config field at any depth, and the file that ``cite`` names."""
    component = subject.component
    require(bool(component.summary.strip()), "the summary is empty")
    bare = _undescribed(subject.config_model)
    require(not bare, f"config fields without a description: {', '.join(bare)}")
    if component.cite is not None:
        package = component.target.partition(":")[0].partition(".")[0]
        require((files(package) / component.cite).is_file(), f"cite names {component.cite}, which {package} lacks")
    return "summary, config fields and citation"


@law("lazy-declaration", once=True)
def lazy_declaration(subject: Subject) -> str:
    """The config model's module, and the module that declares the component, import nothing heavy."""
    modules = [subject.component.config.partition(":")[0]]
    if subject.plugin is not None:
        modules.append(subject.plugin.partition(":")[0])
    for module in modules:
        heavy = heavy_imports(module)
        require(not heavy, f"importing {module} imports {', '.join(heavy)}")
    return f"imported alone: {', '.join(modules)}"


@law("constructor", once=True)
def constructor(subject: Subject) -> str:
    """The class is called as ``Target(config, **ports)``, with a keyword for each declared port and no other."""
    parameters = inspect.signature(subject.target).parameters
    first = next(iter(parameters.values()), None)
    require(first is not None and first.name == "config", f"its first argument is {first}; expected config")
    reserved = {"config", "generator", "executor", "device", "dtype"}
    ports = {port.name: port for port in subject.component.requires}
    varies = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    missing = sorted(set(ports) - set(parameters))
    require(varies or not missing, f"declared ports without an argument: {', '.join(missing)}")
    named = {name: p for name, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    undeclared = sorted(n for n, p in named.items() if n not in reserved | set(ports) and p.default is p.empty)
    require(not undeclared, f"arguments that no port fills: {', '.join(undeclared)}")
    return f"config and {len(ports)} ports"


@law("provides")
def provides(subject: Subject) -> str:
    """The object is of its kind, and has the capabilities that it declares and no other."""
    obj = subject.build()
    interface = _INTERFACES.get(subject.component.kind)
    if interface is not None:
        require(isinstance(obj, resolve(interface)), f"{type(obj).__name__} is no {interface.partition(':')[2]}")
    has = {name for name, capability in CAPABILITIES.items() if isinstance(obj, capability)}
    says = set(subject.component.provides)
    require(has == says, f"it declares {sorted(says)} and has {sorted(has)}")
    return f"provides {', '.join(sorted(says)) or 'nothing more'}"


@law("builds-in-time")
def builds_in_time(subject: Subject) -> str:
    """The example is built within five CPU seconds."""
    subject.target  # noqa: B018 - imported first: what an import costs is not what building costs
    start = time.process_time()
    subject.build()
    seconds = time.process_time() - start
    text = f"built in {seconds:.2f} CPU seconds, allowed {BUILD_SECONDS:g}"
    require(seconds <= BUILD_SECONDS, text)
    return text


@law("same-generator-same-result")
def same_generator(subject: Subject) -> str:
    """Built and used twice from generators of one seed, it answers the same to the last bit."""
    first, second = (_use(subject, subject.build()) for _ in range(2))
    for name, value in first.items():
        require_same(f"{name}, in two runs from one seed,", second[name], value)
    return f"bit-equal: {', '.join(first)}"


@law("inputs-unchanged")
def inputs_unchanged(subject: Subject) -> str:
    """What it is given is not written to."""
    obj = subject.build()
    inputs = inputs_of(obj, subject)
    if not inputs:
        raise NotApplicableError(f"a {subject.component.kind} is given no tensors")
    copies = {name: value.clone() for name, value in inputs.items()}
    answers_of(subject.component.kind, obj, inputs, subject.generator("use"))
    changed = [name for name, value in inputs.items() if not torch.equal(value, copies[name])]
    require(not changed, f"it wrote to its input: {', '.join(changed)}")
    return f"unchanged: {', '.join(inputs)}"


@law("global-random-state")
def global_random_state(subject: Subject) -> str:
    """Built and used with generators, it neither draws from nor seeds the global random state of torch and Python."""
    before, python = torch.get_rng_state(), random.getstate()
    _use(subject, subject.build())
    require(torch.equal(before, torch.get_rng_state()), "torch's global random state has changed")
    require(python == random.getstate(), "the global random state of Python's random has changed")
    return "torch's and Python's left alone"


@law("dtype-kept", "score", "flow", "geometry", "estimator", "network")
def dtype_kept(subject: Subject) -> str:
    """float32 gives float32 and float64 gives float64, and the two agree to 1e-3; an estimator takes both."""
    kind = subject.component.kind
    found: dict[torch.dtype, dict[str, Tensor]] = {}
    for dtype in (torch.float32, torch.float64):
        obj = subject.build(dtype=dtype)
        inputs = inputs_of(obj, subject, dtype)
        found[dtype] = answers_of(kind, obj, inputs, subject.generator("use"))
        wrong = [f"{name} is {value.dtype}" for name, value in found[dtype].items() if value.dtype != dtype]
        require(kind == "estimator" or not wrong, f"given {dtype}, {', '.join(wrong)}")
        placed = [f"{name} is on {value.device}" for name, value in found[dtype].items() if value.device.type != "cpu"]
        require(not placed, f"given tensors on the CPU, {', '.join(placed)}")
    if kind == "estimator":
        return "takes float32 and float64"
    # Draws of one generator differ between dtypes, so samples are left out.
    names = [name for name in found[torch.float32] if name != "sample"]
    texts = [require_close(name, found[torch.float32][name], found[torch.float64][name], 1e-3) for name in names]
    return "; ".join(texts)


@law("saved-state")
def saved_state(subject: Subject) -> str:
    """Saved here, and loaded and used in a fresh process, it answers the same to the last bit."""
    kind = subject.component.kind
    if subject.origin is None:
        raise NotApplicableError("the kit was not told how to make a host in another process")
    if kind not in ("score", "flow", "geometry", "estimator", "allocator"):
        raise NotApplicableError(f"a {kind} is rebuilt from its config")
    obj = subject.build(dtype=None)
    dtype = _dtype(obj)
    if isinstance(obj, nn.Module):
        stir(obj, subject.generator("stir"))
        obj.eval()
    inputs = inputs_of(obj, subject, dtype)
    here = answers_of(kind, obj, inputs, subject.generator("use"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        subject.host.save(obj, path, bundle=True)
        there = fresh_answers(subject.origin, path, kind, inputs, subject.generator("use").initial_seed())
    require(set(there) == set(here), f"it answers {sorted(there)} after loading, {sorted(here)} before")
    for name, value in here.items():
        require_same(f"{name}, after loading in a fresh process,", there[name], value)
    return f"bit-equal in a fresh process: {', '.join(here)}"


def _dtype(obj: Any) -> torch.dtype:
    tensors = [*obj.parameters(), *obj.buffers()] if isinstance(obj, nn.Module) else []
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)


def _use(subject: Subject, obj: Any) -> dict[str, Tensor]:
    return answers_of(subject.component.kind, obj, inputs_of(obj, subject), subject.generator("use"))


def require_same(what: str, got: Tensor, expected: Tensor) -> None:
    """Raises ``ViolationError`` with the gap unless two tensors are equal to the last bit (NaN to NaN)."""
    require_shape(what, got, tuple(expected.shape))
    same = torch.equal(got.isnan(), expected.isnan()) and torch.equal(got.nan_to_num(), expected.nan_to_num())
    gap = float((got.double() - expected.double()).abs().nan_to_num().max()) if got.numel() else 0.0
    require(same, f"{what} differs by up to {gap:.2e}, tolerance 0")


def _undescribed(model: type[BaseModel], prefix: str = "", within: tuple[type[BaseModel], ...] = ()) -> list[str]:
    """Fields without a description, nested models' too. The ``name`` that tells models of a union apart needs none."""
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


@lru_cache
def heavy_imports(module: str) -> tuple[str, ...]:
    """The heavy top-level packages that importing a module alone brings in, found in a process of its own."""
    code = f"import sys; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    paths = repr([path for path in sys.path if path])
    outcome = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths}; {code}"], capture_output=True, text=True
    )
    require(outcome.returncode == 0, f"{module} can't be imported alone: {outcome.stderr.strip().splitlines()[-1:]}")
    loaded = set(outcome.stdout.split())
    return tuple(name for name in HEAVY if name in loaded)


LAWS: tuple[Law, ...] = (
    declared_examples,
    documented,
    lazy_declaration,
    constructor,
    provides,
    builds_in_time,
    same_generator,
    inputs_unchanged,
    global_random_state,
    dtype_kept,
    saved_state,
)
