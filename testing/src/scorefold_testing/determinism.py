"""Checks of every kind about randomness, and about what using a component leaves as it was."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scorefold_testing.answers import answers_of, inputs_of
from scorefold_testing.contract import Check, Subject, check
from scorefold_testing.require import NotApplicableError, require, require_close, require_same

THREADS = 1e-6


@check("same-generator-same-result", level="determinism")
def same_generator(subject: Subject) -> str:
    """Built and used twice from generators of one seed, it answers the same to the last bit."""
    first, second = (_use(subject, subject.build()) for _ in range(2))
    for name, value in first.items():
        require_same(f"{name}, in two runs from one seed,", second[name], value)
    return f"bit-equal: {', '.join(first)}"


@check("thread-count", "score", "flow", "geometry", "estimator", "network", level="determinism")
def thread_count(subject: Subject) -> str:
    """On two threads it answers as on one, to 1e-6; samples, which add up what rounding differs by, are left out."""
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(_use(subject, subject.build()))
    finally:
        torch.set_num_threads(threads)
    names = [name for name in found[0] if name != "sample"]
    return "; ".join(require_close(name, found[1][name], found[0][name], THREADS) for name in names)


@check("inputs-unchanged", level="contract")
def inputs_unchanged(subject: Subject) -> str:
    """What it is given is not written to."""
    obj = subject.build()
    inputs = inputs_of(obj, subject)
    if not inputs:
        raise NotApplicableError("nothing of this kind is given tensors")
    copies = {name: value.clone() for name, value in inputs.items()}
    answers_of(subject.component.kind, obj, inputs, subject.generator("use"))
    for name, value in inputs.items():
        require_same(f"its input {name}, after use,", value, copies[name])
    return f"unchanged: {', '.join(inputs)}"


@check("ports-unchanged", level="contract")
def ports_unchanged(subject: Subject) -> str:
    """The models that it is plugged to keep their parameters, buffers and mode while it is used."""
    ports = _models_of(subject)
    if not ports:
        raise NotApplicableError("its example plugs no model in")
    before = {name: {key: value.clone() for key, value in port.state_dict().items()} for name, port in ports.items()}
    obj = subject.build(ports=ports)
    for name, port in ports.items():
        port.train()
        _use(subject, obj)
        require(port.training, f"the model in port {name!r} is left in evaluation mode", "the mode it was in")
        for key, value in port.state_dict().items():
            require_same(f"{key} of the model in port {name!r}, after use,", value, before[name][key])
    return f"unchanged: {', '.join(ports)}"


@check("global-random-state", level="determinism")
def global_random_state(subject: Subject) -> str:
    """Built and used with generators, it neither draws from nor seeds what torch, numpy and Python share."""
    before = _random_state()
    _use(subject, subject.build())
    changed = [name for name, state in _random_state().items() if state != before[name]]
    require(not changed, f"the global random state of {', '.join(changed)} has changed", "no change")
    return "torch's, numpy's and Python's left alone"


@check("global-settings", level="determinism")
def global_settings(subject: Subject) -> str:
    """Built and used, it leaves torch's default dtype, gradient mode, threads and deterministic mode as they were."""
    before = _settings()
    try:
        _use(subject, subject.build())
        changed = [f"{name} is {value}" for name, value in _settings().items() if value != before[name]]
    finally:
        torch.set_default_dtype(before["the default dtype"])
        torch.set_grad_enabled(before["the gradient mode"])
        torch.set_num_threads(before["the number of threads"])
        torch.use_deterministic_algorithms(before["the deterministic mode"])
    require(not changed, f"after use {', '.join(changed)}", "no change")
    return ", ".join(before)


def _use(subject: Subject, obj: Any) -> dict[str, Tensor]:
    return answers_of(subject.component.kind, obj, inputs_of(obj, subject), subject.generator("use"))


def _models_of(subject: Subject) -> dict[str, nn.Module]:
    """The models among the example's ports, built one by one."""
    found = {}
    for name, use in subject.example.get("inputs", {}).items():
        if isinstance(use, Mapping):
            inputs, generator = use.get("inputs", {}), subject.generator(f"port {name}")
            port = subject.host.create(
                use["use"], use.get("config"), generator=generator, dtype=torch.float64, **inputs
            )
            if isinstance(port, nn.Module):
                found[name] = port
    return found


def _random_state() -> dict[str, Any]:
    state = {"torch": torch.get_rng_state().tolist(), "Python": random.getstate()}
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        name, keys, *rest = numpy.get_state()
        state["numpy"] = (name, keys.tolist(), rest)
    return state


def _settings() -> dict[str, Any]:
    return {
        "the default dtype": torch.get_default_dtype(),
        "the gradient mode": torch.is_grad_enabled(),
        "the number of threads": torch.get_num_threads(),
        "the deterministic mode": torch.are_deterministic_algorithms_enabled(),
    }


CHECKS: tuple[Check, ...] = (
    same_generator,
    thread_count,
    inputs_unchanged,
    ports_unchanged,
    global_random_state,
    global_settings,
)
