"""Numbers that a run measured: the metrics of its stages by name, and the answer of a verb."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationError

from scorefold.errors import ConfigError, DataError
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.runfile.plan import Plan
from scorefold_registry.runfile.reader import near

Stages = Sequence[Mapping[str, Any]]
"""The stages of a run, as ``scorefold run --json`` lists them."""


@dataclass(frozen=True)
class StageMetric:
    """A metric of a stage; the first that is a number where ``metric`` is None."""

    stage: str
    metric: str | None = None

    @property
    def label(self) -> str:
        """Name of the measure in options, ``STAGE.METRIC``."""
        return self.stage if self.metric is None else f"{self.stage}.{self.metric}"


def parse_measures(texts: Sequence[str], stages: Sequence[str]) -> tuple[StageMetric, ...]:
    """``STAGE.METRIC,STAGE,...``: metrics, or the first of a stage. A metric's own name may hold commas and dots.

    Raises ``ConfigError`` with near misses for a stage that is not there.
    """
    found: dict[StageMetric, None] = {}
    for text in texts:
        pieces: list[str] = []
        for piece in text.split(","):
            # A comma begins another measure where a stage, or what could be meant for one, follows.
            starts = not pieces or piece.strip() in stages or re.match(r"\s*[A-Za-z][\w-]*\.", piece)
            pieces = [*pieces, piece.strip()] if starts else [*pieces[:-1], f"{pieces[-1]},{piece}"]
        for piece in pieces:
            stage, _, metric = piece.partition(".")
            if stage not in stages:
                hint = near(stage, stages)
                raise ConfigError(f"{piece!r} measures no stage: there is no stage {stage!r}", hint=hint)
            found[StageMetric(stage, metric.strip() or None)] = None
    return tuple(found)


def choose_measures(
    plan: Plan, asked: Sequence[str], best: str | None
) -> tuple[tuple[StageMetric, ...], tuple[str, StageMetric] | None]:
    """Measures of a run, by default the first metric of each stage that no other stage uses; and the goal with its
    measure.

    Raises ``ConfigError`` for a stage that is not there, and a goal that is none.
    """
    stages = [stage.name for stage in plan.stages]
    used = {name for stage in plan.stages for name in stage.after}
    measures = parse_measures(asked, stages) or tuple(StageMetric(name) for name in stages if name not in used)
    if best is None:
        return measures, None
    goal, colon, rest = best.partition(":")
    if goal not in ("min", "max") or not colon or not rest.strip():
        raise ConfigError(f"--best {best}: expected min:STAGE.METRIC or max:STAGE.METRIC")
    found = parse_measures([rest], stages)
    if len(found) > 1:
        raise ConfigError(f"--best {best}: expected one measure, and these are {len(found)}")
    return (measures if found[0] in measures else (*measures, found[0])), (goal, found[0])


def as_number(value: Any) -> float | None:
    """A metric as a number, those included that JSON gives as words; None for what is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return float(value) if value in ("NaN", "Infinity", "-Infinity") else None
    return float(value) if isinstance(value, int | float) else None


def metric_of(measure: StageMetric, stages: Stages) -> tuple[str, float] | None:
    """The name and value of a measure among the stages of a run; None where it is not there.

    Names are compared as ``named_number`` does.
    """
    metrics: Mapping[str, Any] = next((stage["metrics"] for stage in stages if stage["name"] == measure.stage), {})
    numbers = numbers_of(metrics)
    if measure.metric is None:
        return next(iter(numbers.items()), None)
    return named_number(measure.metric, numbers)


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are numbers."""
    return {name: number for name, value in metrics.items() if (number := as_number(value)) is not None}


def named_number(wanted: str, numbers: Mapping[str, float]) -> tuple[str, float] | None:
    """The name and value of a metric, found without regard to case, to ``-`` for spaces and to a unit in brackets."""
    exact = wanted if wanted in numbers else None
    names = list(numbers)[::-1]  # the first of several stays
    plain = {_plain(name): name for name in names}
    short = {_plain(name.partition(" (")[0]): name for name in names}
    name = exact or plain.get(_plain(wanted)) or short.get(_plain(wanted))
    return None if name is None else (name, numbers[name])


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def measure_labels(measures: Sequence[StageMetric], runs: Sequence[Stages]) -> dict[StageMetric, str]:
    """The label of each measure, with the metric's own name from the first run that has it.

    Raises ``ConfigError`` with near misses for a metric that no run has, though its stage was run.
    """
    labels: dict[StageMetric, str] = {}
    for measure in measures:
        found = next((hit for stages in runs if (hit := metric_of(measure, stages)) is not None), None)
        labels[measure] = measure.label if found is None else StageMetric(measure.stage, found[0]).label
        ran = [stage["metrics"] for stages in runs for stage in stages if stage["name"] == measure.stage]
        if found is None and ran:
            names = list(numbers_of(ran[0]))
            has = f"it has {'; '.join(names)}" if names else "it has none"
            again = "all results are stored: repeat the command with another --measure"
            raise ConfigError(
                f"stage {measure.stage!r} has no metric {measure.metric or 'that is a number'!r}",
                hint=sentences(did_you_mean(measure.metric or "", names), has, again),
            )
    return labels


def _number(value: Any) -> float:
    number = as_number(value)
    if number is None:
        raise ValueError(f"{value!r} is not a number")
    return number


_Number = Annotated[float, BeforeValidator(_number)]


class _Answer(BaseModel):
    """Answer of a verb, in its results."""

    quantity: str
    value: _Number | None
    interval: tuple[_Number, _Number] | None = None
    truth: _Number | None = None
    baselines: dict[str, _Number] = {}
    headline: Annotated[str | None, BeforeValidator(lambda text: str(text) if text else None)] = None


def verb_answer(verb: str, answer: Any, truth: float | None) -> dict[str, Any] | None:
    """Answer of a verb: ``quantity``, ``value``, ``interval``, ``truth``, the ``difference`` from it, ``headline``, and
    the values of ``baselines`` by name.

    ``truth`` is what the answer should be, where it is not for the verb to say. Each is None where it is not known, the
    whole where the verb gave nothing. Raises ``DataError`` for what is no answer.
    """
    if answer is None:
        return None
    try:
        found = _Answer.model_validate(answer)
    except ValidationError:
        raise DataError(
            f"the verb {verb!r} answered {answer!r:.200}; expected a mapping with a quantity as text, a value and, "
            "where they are known, an interval of two numbers and the truth"
        ) from None
    truth = found.truth if truth is None else truth
    difference = None if found.value is None or truth is None else found.value - truth
    return {**vars(found), "truth": truth, "difference": difference}
