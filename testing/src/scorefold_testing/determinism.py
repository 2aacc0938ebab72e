"""Checks of every kind about randomness, and about what using a component leaves as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from scorefold.data import Dataset
from scorefold.seeds import derive_seed
from scorefold_testing.answers import answers_of, inputs_of, use
from scorefold_testing.contents import changed_parts, contents
from scorefold_testing.contract import (
    UNDIFFERENTIATED,
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_close,
    require_same,
)
from scorefold_testing.process import GENERATORS, SETTINGS, renewed, require_unchanged, settings_in

THREADS = 1e-6


@check("same-generator-same-result", level="determinism")
def same_generator(subject: Subject) -> str:
    """Built and used twice from generators of one seed, it answers the same to the last bit."""
    first, second = (use(subject) for _ in range(2))
    for name, value in first.items():
        require_same(f"{name}, in two runs from one seed,", second[name], value)
    return f"bit-equal: {', '.join(first)}"


@check("thread-count", "data", "score", "flow", "geometry", "estimator", "network", level="determinism")
def thread_count(subject: Subject) -> str:
    """On two threads it answers as on one, to the bit where it declares ``any_threads``, and else to 1e-6 but for
    samples, which add up what rounding differs by."""
    exact = subject.component.any_threads
    if subject.component.kind == "data" and not exact:
        raise NotApplicableError("it does not declare any_threads")
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(use(subject))
    finally:
        torch.set_num_threads(threads)
    names = [name for name in found[0] if exact or name != "sample"]
    if exact:
        for name in names:
            require_same(f"{name}, on two threads,", found[1][name], found[0][name])
        return f"bit-equal: {', '.join(names)}"
    return "; ".join(require_close(name, found[1][name], found[0][name], THREADS) for name in names)


@check("inputs-unchanged", level="contract")
def inputs_unchanged(subject: Subject) -> str:
    """Inputs are not changed; an estimator gets a data set, too."""
    obj = subject.build()
    inputs = dict(inputs_of(obj, subject))
    if not inputs:
        raise NotApplicableError("nothing of this kind is given tensors")
    given = contents(inputs, "input")
    answers_of(subject.component.kind, obj, inputs, subject.generator("use"))
    changed = changed_parts(given, contents(inputs, "input"))
    if subject.component.kind == "estimator":
        x = inputs["data"].clone()
        rows = torch.arange(len(x))
        data = Dataset(x, label=rows % 2, index=rows, truth={"dimension": torch.full((len(x),), 2)})
        given = contents(data, "data set")
        obj.estimate(data, generator=subject.generator("use"))
        changed += changed_parts(given, contents(data, "data set"))
    require(not changed, f"after use {', '.join(changed)} is another", "what was given")
    return f"unchanged: {', '.join(inputs)}"


@check("ports-unchanged", level="contract")
def ports_unchanged(subject: Subject) -> str:
    """Plugged models and data keep their content during use, and models keep their mode."""
    ports = _ports_of(subject)
    if not ports:
        raise NotApplicableError("its example plugs nothing in")
    models = [port for port in ports.values() if isinstance(port, nn.Module)]
    for model in models:
        model.train()
    before = contents(ports, "port")
    obj = subject.build(ports=ports)
    for model in models:
        model.train()
    use(subject, obj)
    changed = changed_parts(before, contents(ports, "port"))
    require(not changed, f"after use {', '.join(changed)} is another", "what was plugged in")
    return f"unchanged: {', '.join(ports)}"


@check("global-random-state", level="determinism")
def global_random_state(subject: Subject) -> str:
    """Built and used with generators, it neither draws from nor seeds what torch, numpy and Python share."""
    use(subject)
    moved = set(GENERATORS)
    for _ in range(2):  # a thread of somebody else may draw in between; a component does it again
        with renewed(subject.seed, gradients=torch.is_grad_enabled()) as changes:
            use(subject)
            found = changes()
        moved &= set(found)
        if not moved:
            break
    require_unchanged({name: found[name] for name in GENERATORS if name in moved})
    return f"left alone: {', '.join(GENERATORS)}"


@check("global-settings", level="determinism")
def global_settings(subject: Subject) -> str:
    """Built and used, it leaves the default dtype, gradient mode, threads, environment and working folder as they were,
    whatever they are."""
    use(subject)  # what it imports may set variables
    gradients = subject.component.kind not in UNDIFFERENTIATED
    for opposite in (False, True):
        with renewed(subject.seed, gradients=gradients, opposite=opposite) as changes:
            use(subject)
            require_unchanged(settings_in(changes()))
    return f"left alone: {', '.join(SETTINGS)}"


@check("use-repeats", level="determinism")
def use_repeats(subject: Subject) -> str:
    """Used again, an object answers as it did, whatever it was asked in between."""
    obj = subject.build()
    if isinstance(obj, nn.Module):
        obj.eval()
    first = use(subject, obj)
    use(replace(subject, seed=derive_seed(subject.seed, "other")), obj)
    again = use(subject, obj)
    for name, value in first.items():
        require_same(f"{name}, of an object used before,", again[name], value)
    return f"bit-equal: {', '.join(first)}"


def _ports_of(subject: Subject) -> dict[str, Any]:
    """Components at the ports of the example, built one by one."""
    found = {}
    for name, value in subject.example.get("inputs", {}).items():
        if isinstance(value, Mapping):
            inputs, generator = value.get("inputs", {}), subject.generator(f"port {name}")
            found[name] = subject.host.create(
                value["use"], value.get("config"), generator=generator, dtype=torch.float64, **inputs
            )
    return found


CHECKS: tuple[Check, ...] = (
    same_generator,
    use_repeats,
    thread_count,
    inputs_unchanged,
    ports_unchanged,
    global_random_state,
    global_settings,
)
