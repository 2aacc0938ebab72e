"""Checks that several methods use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from scorefold.errors import ArtefactError, ConfigError, DataError, PluginError, ShapeError
from scorefold.interfaces.capabilities import Trainable

T = TypeVar("T")


def answer_of(method: Callable[..., Any], expected: type[T], *given: Any, stage: str | None = None, **named: Any) -> T:
    """The answer of a component's method to arguments.

    Raises ``PluginError`` for one of another type, such as None, and for a method that does not take the arguments,
    with the component's class, the method and its line. A component in a process of its own, which has ``elsewhere``,
    is named as it shows itself.
    """
    try:
        answer = method(*given, **named)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # the method was called
        taken = ", ".join(["self", *("value" for _ in given), *(["*", *named] if named else [])])
        name, of, place = _named(method)
        hint = f"begin {name}{place} with 'def {name}({taken})'"
        raise PluginError(f"{name} of {of} can't be called{_in(stage)}: {error}", hint=hint) from error
    if isinstance(answer, expected):
        return answer
    raise wrong_answer(method, answer, expected, stage)


def values_of(method: Callable[..., Any], rows: int, *given: Any, **named: Any) -> Tensor:
    """The values (rows,) of a component's method at so many points. Raises ``PluginError`` for another answer."""
    found = answer_of(method, Tensor, *given, **named)
    if tuple(found.shape) != (rows,):
        name, of, place = _named(method)
        raise PluginError(
            f"{name} of {of} returned the shape {tuple(found.shape)} for {rows} points; expected ({rows},)",
            hint=f"return a number for each point from {name}{place}",
        )
    return found


def wrong_answer(method: Callable[..., Any], answer: object, expected: type, stage: str | None = None) -> PluginError:
    """The error of an answer of a component's method that is of another type than ``expected``."""
    (name, of, place), kind = _named(method), expected.__name__
    said = "None" if answer is None else f"a {type(answer).__name__}"
    article = "an" if kind[0] in "AEIOU" else "a"
    return PluginError(
        f"{name} of {of} returned {said}{_in(stage)}; expected {article} {kind}",
        hint=f"end {name}{place} with 'return {kind}(...)', from {expected.__module__}",
    )


def _in(stage: str | None) -> str:
    return "" if stage is None else f" in stage {stage!r}"


def _named(method: Callable[..., Any]) -> tuple[str, str, str]:
    """The name of a component's method, of its class, and its place."""
    owner, code = getattr(method, "__self__", method), getattr(method, "__code__", None)
    of = f"{type(owner).__module__}:{type(owner).__qualname__}"
    if getattr(owner, "elsewhere", False):
        of, code = repr(owner), None
    place = "" if code is None else f" at {code.co_filename}:{code.co_firstlineno}"
    return getattr(method, "__name__", "its call"), of, place


def check_trained(part: object, name: str, user: str) -> None:
    """Raises ``ConfigError`` where ``part``, which ``user`` takes as its input ``name``, should have been trained and
    wasn't.

    A module is in training mode as it is built; training ends, and a loaded state starts, in evaluation mode. One whose
    training has no steps is meant as it was built.
    """
    if not (isinstance(part, nn.Module) and isinstance(part, Trainable)):
        return
    if part.training and part.training_config.steps > 0:
        raise ConfigError(
            f"{name}, a {type(part).__name__}, was never trained, and {user} would take it as it was built",
            hint=f"make it a stage of its own, which trains it, and name that stage under inputs.{name}; "
            f"a model that you trained by hand is ready after {name}.eval()",
        )


def require_finite(weights: Mapping[str, Tensor], where: object) -> None:
    """Raises ``ArtefactError`` for weights with numbers that are not finite, naming the first and ``where`` it is."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ArtefactError(
                f"the weights {name} in {where} hold {int((~tensor.isfinite()).sum())} numbers that are not finite",
                hint="copy the file again, or take the weights of a training that did not diverge",
            )


def require_budget(budget: object) -> None:
    """Raises ``ConfigError`` for a budget that isn't a whole number of at least 0."""
    if _is_not_whole(budget, 0):
        raise ConfigError(f"the budget is {budget!r}; expected a whole number of at least 0")


def require_constraints(constraints: Mapping[str, Any], least: Mapping[str, int]) -> None:
    """Raises ``ConfigError`` for a constraint that ``least`` does not name, and for one that isn't a whole number of at
    least what it says."""
    for name, value in constraints.items():
        if name not in least:
            raise ConfigError(f"there is no constraint {name!r}; there are {', '.join(least)}")
        if _is_not_whole(value, least[name]):
            raise ConfigError(f"constraint {name!r} is {value!r}; expected a whole number of at least {least[name]}")


def _is_not_whole(value: object, least: int) -> bool:
    return isinstance(value, bool) or not isinstance(value, int) or value < least


def equal_batches(
    module: nn.Module, name: str, takes: str, event_shape: tuple[int, ...], given: Mapping[str, Tensor]
) -> list[Tensor]:
    """Batches (B, *event_shape) by their names as batches of one length, a batch of 1 repeated.

    ``name`` and ``takes`` are the module's words in errors. Raises ``ShapeError`` for other shapes, dtypes, devices and
    lengths, and ``DataError`` for NaN and infinite numbers.
    """
    for argument, value in given.items():
        if not isinstance(value, Tensor) or value.dim() == 0 or tuple(value.shape[1:]) != event_shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            expected = ", ".join(["B", *map(str, event_shape)])
            raise ShapeError(f"{argument} has shape {shape}; {takes} ({expected})")
        own = next((t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()), value)
        if (value.device, value.dtype) != (own.device, own.dtype):
            raise ShapeError(
                f"{argument} is {value.dtype} on {value.device}; this {name} is {own.dtype} on {own.device}",
                hint=f"move one of them: {argument}.to(device, dtype) or model.to(device, dtype)",
            )
        if not bool(value.isfinite().all()):
            raise DataError(f"{argument} holds NaN or infinite numbers")
        if not value.is_floating_point():
            raise ShapeError(
                f"{argument} is {value.dtype}; expected floating-point numbers", hint=f"{argument}.float()"
            )
    lengths = {len(value) for value in given.values()}
    if len(lengths - {1}) > 1:
        raise ShapeError(f"batches of {sorted(lengths)} rows were given; expected one length, or 1")
    rows = 0 if 0 in lengths else max(lengths)
    return [value.expand(rows, *event_shape) for value in given.values()]


VARIABLE = "SCOREFOLD_ALLOW_CODE"
"""An environment variable: modules and files whose code may be run, separated by commas."""


def check_module(module: str) -> None:
    """Raises ``ConfigError`` for a module that is neither of an installed plugin nor allowed, itself or a package that
    it is in."""
    parents = {module[:end] for end, letter in enumerate(f"{module}.") if letter == "."}
    if module.partition(".")[0] not in _plugin_packages() and not parents & set(_allowed()):
        raise _refusal(f"the module {module}", module)


def check_module_file(file: Path) -> None:
    """Raises ``ConfigError`` for a file that is neither of an installed plugin nor allowed."""
    place = file.resolve()
    folders = [Path(folder) for name in _plugin_packages() for folder in _folders(name)]
    if not any(place.is_relative_to(folder.resolve()) for folder in folders) and place not in {
        Path(each).expanduser().resolve() for each in _allowed()
    }:
        raise _refusal(str(file), str(file))


def _allowed() -> list[str]:
    return [each.strip() for each in os.environ.get(VARIABLE, "").split(",") if each.strip()]


def _plugin_packages() -> set[str]:
    return {point.module.partition(".")[0] for point in entry_points(group="scorefold.plugins")}


def _folders(package: str) -> list[str]:
    spec = find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def _refusal(what: str, name: str) -> ConfigError:
    return ConfigError(
        f"{what} holds code, which a run file or a saved state runs only with your permission",
        hint=f"where you trust it: export {VARIABLE}={name}",
    )
