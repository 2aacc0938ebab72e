"""The points of a sweep: fields with their values or distributions, and the combinations of them. No torch here."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from scorefold.artefacts import json_text
from scorefold.errors import ConfigError
from scorefold.seeds import derive_seed
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.runfile.yaml_reader import parse_value

_DIGITS = 6
"""Significant digits of a drawn number: enough for any setting, and few enough to be read and typed again."""

_BITS = 30
"""Binary digits of a point of a Sobol sequence."""

SEED = "seed"
"""The field over which a sweep gives mean and spread."""

_CALL = re.compile(r"([A-Za-z_]+)\((.*)\)\Z", re.S)


@dataclass(frozen=True)
class Axis:
    """A swept field: either its values, or how one is drawn from a uniform number in [0, 1). ``text`` is the option.

    ``distribution`` is the name of what is drawn from, and ``bounds`` what stands in its brackets.
    """

    field: str
    text: str
    values: tuple[Any, ...] = ()
    draw: Callable[[float], Any] | None = None
    distribution: str = ""
    bounds: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Point:
    """One combination, counted from 1: the value of each field, and the same as ``FIELD=VALUE`` texts."""

    number: int
    values: Mapping[str, Any]
    sets: tuple[str, ...]


def parse_axis(text: str) -> Axis:
    """``FIELD=1,2,3``, values as in YAML, or ``FIELD=uniform(a, b)`` and the like.

    Raises ``ConfigError`` naming the option for what can't be understood.
    """
    field, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not field or not given:
        raise _fault(text, "expected a field, '=' and values", "for example --grid seed=0,1,2")
    call = _CALL.match(given)
    if call is not None:
        draw, bounds = _distribution(text, call[1], call[2])
        return Axis(field, text, draw=draw, distribution=call[1], bounds=bounds)
    return Axis(field, text, _values(text, given))


def axis_of(field: str, values: Iterable[Any], text: str | None = None) -> Axis:
    """A field with its values. Raises ``ConfigError`` where there is none, or one is there twice."""
    values = tuple(values)
    text = f"{field}={','.join(map(json_text, values))}" if text is None else text
    if not values:
        raise _fault(text, "expected at least one value", "for example --grid seed=0,1,2")
    seen: set[str] = set()
    for value in values:
        if (said := json_text(value)) in seen:
            raise _fault(text, f"{said} is there twice", "each value is run once")
        seen.add(said)
    return Axis(field, text, values)


def axes_of(over: Mapping[str, Any]) -> tuple[Axis, ...]:
    """Fields with their values, or with a text such as ``"uniform(0, 1)"``. Raises ``ConfigError`` as both do."""
    return tuple(
        parse_axis(f"{field}={values}") if isinstance(values, str) else axis_of(field, values)
        for field, values in over.items()
    )


def make_points(
    axes: Sequence[Axis], *, in_step: bool = False, random: int | None = None, seed: int = 0
) -> tuple[Point, ...]:
    """All combinations of the values, or the first with the first and so on where ``in_step``.

    With ``random``, that many draws of the fields that are drawn, each with every combination of the others: a Sobol
    sequence, which fills the space of the fields more evenly than draws that know nothing of each other (Sobol' 1967).
    The draws of a field come from ``seed``, its name and its place among those that are drawn, so that more draws begin
    with those there were, and a further field changes none. Raises ``ConfigError`` for axes that don't fit together.
    """
    _check(axes, in_step, random)
    listed = [axis for axis in axes if axis.draw is None]
    drawn = [axis for axis in axes if axis.draw is not None]
    combine: Callable[..., Iterable[tuple[Any, ...]]] = zip if in_step else itertools.product
    rows = [
        dict(zip([axis.field for axis in listed], row, strict=True)) for row in combine(*(a.values for a in listed))
    ]
    draws: list[dict[str, Any]] = [{}]
    if random is not None:
        numbers = sobol([axis.field for axis in drawn], random, seed)
        draws = [{a.field: a.draw(u) for a, u in zip(drawn, row, strict=True) if a.draw is not None} for row in numbers]
    order = [axis.field for axis in axes]
    points: dict[tuple[str, ...], dict[str, Any]] = {}
    for draw, row in itertools.product(draws, rows or [{}]):
        both = {**draw, **row}
        values = {field: both[field] for field in order}
        # What is drawn twice is one point.
        points.setdefault(tuple(f"{field}={json_text(value)}" for field, value in values.items()), values)
    return tuple(Point(number, values, sets) for number, (sets, values) in enumerate(points.items(), start=1))


def sobol(fields: Sequence[str], count: int, seed: int) -> list[list[float]]:
    """``count`` points of a Sobol sequence in [0, 1), with a dimension a field, each shifted by a number of its own.

    The shift is digital: by exclusive or, which keeps the net that the points are (Owen 1995).
    """
    from scipy.stats.qmc import Sobol

    # As many as a power of 2, for which alone the sequence is balanced; scrambling by scipy would hang on all fields.
    points = Sobol(len(fields), scramble=False, bits=_BITS).random_base2((count - 1).bit_length())[:count]
    shifts = [Random(derive_seed(seed, "sweep", field)).getrandbits(_BITS) for field in fields]
    return [
        [(int(value * 2**_BITS) ^ shift) / 2**_BITS for value, shift in zip(row, shifts, strict=True)] for row in points
    ]


def _check(axes: Sequence[Axis], in_step: bool, random: int | None) -> None:
    if not axes:
        raise ConfigError("a sweep needs a field to vary", hint="for example --grid seed=0,1,2")
    fields = [axis.field for axis in axes]
    for axis in axes:
        if fields.count(axis.field) > 1:
            raise _fault(axis.text, f"{axis.field} is swept twice", "give all its values in one --grid")
        if axis.draw is not None and random is None:
            raise _fault(axis.text, "a field that is drawn needs the number of draws", "for example --random 20")
    if random is not None and all(axis.draw is None for axis in axes):
        hint = f"for example --grid {fields[0]}=uniform(0,1), or leave out --random for every combination"
        raise ConfigError("--random has no field with a distribution: every --grid lists its values", hint=hint)
    if random is not None and random < 1:
        raise ConfigError(f"--random {random}: expected a whole number from 1")
    lengths = {axis.field: len(axis.values) for axis in axes if axis.draw is None}
    if in_step and len(set(lengths.values())) > 1:
        counts = ", ".join(f"{field} has {count}" for field, count in lengths.items())
        raise ConfigError(f"--zip takes values in step, but {counts}", hint="give each field as many values")


def _values(text: str, given: str) -> tuple[Any, ...]:
    try:
        values = parse_value(f"[{given}]")
    except ConfigError as error:
        raise _fault(text, f"these are no values: {error.message}", "quote text that holds commas") from None
    found: tuple[Any, ...] = axis_of("", values, text).values
    return found


def _distribution(text: str, name: str, given: str) -> tuple[Callable[[float], Any], tuple[Any, ...]]:
    """Distribution of a value, with its bounds. Raises ``ConfigError`` for a distribution that is not known, or whose
    bounds make none.
    """
    maker = _DISTRIBUTIONS.get(name)
    if maker is None:
        known = f"distributions: {', '.join(f'{known}{form}' for known, (form, _) in _DISTRIBUTIONS.items())}"
        raise _fault(text, f"there is no distribution {name!r}", sentences(did_you_mean(name, _DISTRIBUTIONS), known))
    form, make = maker
    values = _values(text, given)
    try:
        return make(values), values
    except (TypeError, ValueError) as error:
        raise _fault(text, str(error), f"expected {name}{form}") from None


def _bounds(values: Sequence[Any], kind: type | tuple[type, ...]) -> tuple[Any, Any]:
    if len(values) != 2 or any(isinstance(value, bool) or not isinstance(value, kind) for value in values):
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"expected two {what}, the least and the greatest")
    low, high = values
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{low} is not less than {high}")
    return low, high


def rounded(value: float, low: float, high: float) -> float:
    """A drawn number with as many digits as a person types, within its bounds."""
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def _uniform(values: Sequence[Any]) -> Callable[[float], float]:
    low, high = map(float, _bounds(values, (int, float)))
    return lambda u: rounded(low + (high - low) * u, low, high)


def _loguniform(values: Sequence[Any]) -> Callable[[float], float]:
    low, high = map(float, _bounds(values, (int, float)))
    if low <= 0:
        raise ValueError(f"{values[0]} is not above 0")
    return lambda u: rounded(low * (high / low) ** u, low, high)


def _integers(values: Sequence[Any]) -> Callable[[float], int]:
    low, high = _bounds(values, int)
    return lambda u: low + math.floor((high - low + 1) * u)


def _choice(values: Sequence[Any]) -> Callable[[float], Any]:
    return lambda u: values[math.floor(len(values) * u)]


_DISTRIBUTIONS: Mapping[str, tuple[str, Callable[[Sequence[Any]], Callable[[float], Any]]]] = {
    "uniform": ("(a, b)", _uniform),
    "loguniform": ("(a, b)", _loguniform),
    "integers": ("(a, b)", _integers),
    "choice": ("(a, b, ...)", _choice),
}


def point_text(point: Point) -> str:
    """A point in a few words: each field by its last part."""
    short = short_names(list(point.values))
    return " ".join(f"{short[field]}={value_text(value)}" for field, value in point.values.items())


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """The shortest ending of each field that no other field has.

    >>> short_names(["seed", "stages.a.config.steps", "stages.b.config.steps"])
    {'seed': 'seed', 'stages.a.config.steps': 'a.config.steps', 'stages.b.config.steps': 'b.config.steps'}
    """
    found: dict[str, str] = {}
    for field in fields:
        parts = field.split(".")
        endings = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [f".{other}" for other in fields if other != field]
        found[field] = next((end for end in endings if not any(other.endswith(f".{end}") for other in others)), field)
    return found


def value_text(value: Any) -> str:
    """A swept value as a person reads it."""
    return value if isinstance(value, str) else json_text(value)


def _fault(text: str, message: str, hint: str) -> ConfigError:
    return ConfigError(f"--grid {text}: {message}", hint=hint)
