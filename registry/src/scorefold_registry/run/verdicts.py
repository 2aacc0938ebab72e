"""The verdict of each stage of a run: one answer in plain sentences, how sure it is, its caveats and what to do next.

The terminal, the report, the gallery, ``runs list``, JSON and Python print what ``answers`` gives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

from scorefold.errors import printable
from scorefold_registry.components.stage_files import (
    STAGE_FILE,
    AllocationFacts,
    AnswerFacts,
    EstimateFacts,
    read_answer,
    read_result,
    read_stage,
    read_value,
)
from scorefold_registry.run.progress import number_text

CLEAR, CAUTION, WITHHELD = "clear", "with caution", "withheld"
"""Certainty of a verdict: no caveat, some caveats, or no answer."""


_END = re.compile(r"(?<!\b[A-Z])(?<!\b[A-Z][a-z])(?<!\b[A-Z][a-z]{2})\. (?=[A-Z])")


def first_sentence(text: str) -> tuple[str, str]:
    """The first sentence of a text, and the rest. A point after a name's short word ends no sentence.

    >>> first_sentence("It is highest for St. Gallen (5.0). The true value is 3.")
    ('It is highest for St. Gallen (5.0).', 'The true value is 3.')
    """
    found = _END.search(text)
    return (text, "") if found is None else (text[: found.start() + 1], text[found.end() :])


@dataclass(frozen=True)
class LabelAnswer:
    """The answer for the points of one label, as text."""

    label: str
    quantity: str
    value: str
    interval: str
    points: str

    def text(self) -> str:
        """``12.3 (11.0 to 13.6), 1,000 points``."""
        interval = f" ({self.interval})" if self.interval else ""
        return f"{self.value}{interval}, {self.points} points"


@dataclass(frozen=True)
class Answer:
    """Answer of a stage: a ``verdict`` in sentences, its certainty ``sure``, ``warnings`` and ``advice`` on the next
    step.

    ``number`` and ``between`` are the value and its interval, None where there are none. ``scale`` says at which scale
    the data were read. ``stage`` is empty where several stages are compared, which are the ``parts``.
    """

    stage: str
    component: str
    quantity: str
    verdict: str
    sure: str = CLEAR
    number: float | None = None
    between: tuple[float, float] | None = None
    note: str = ""
    scale: str = ""
    warnings: tuple[str, ...] = ()
    advice: str = ""
    by_label: tuple[LabelAnswer, ...] = ()
    parts: tuple[str, ...] = ()

    def sentence(self) -> str:
        """The verdict after the name of its stage: ``dimension: The intrinsic dimension is 3.``"""
        return f"{printable(self.stage)}: {self.said()}" if self.stage else self.said()

    def headline(self) -> str:
        """The first sentence of the verdict after the name of its stage, and whether to read it with caution."""
        first = first_sentence(self.verdict)[0].removesuffix(".")
        end = " (with caution)." if self.sure == CAUTION else "."
        return printable(f"{self.stage}: {first}{end}" if self.stage else f"{first}{end}")

    def said(self) -> str:
        """The verdict, and that it is to be read with caution where it is."""
        return printable(self.verdict + (" Read it with caution." if self.sure == CAUTION else ""))

    def value_text(self) -> str:
        """The value as text, to the decimals that its interval has."""
        return number_text(self.number) if self.between is None else alike(self.number or 0.0, *self.between)[0]

    def details(self) -> list[tuple[str, str]]:
        """Lines after the verdict, as (type, line): its note, labels, warnings and advice."""
        lines = [("note", self.note)] if self.note else []
        lines += [
            ("label", f"label {row.label}: {'' if row.quantity == self.quantity else row.quantity + ' '}{row.text()}")
            for row in self.by_label
        ]
        lines += [("caution", f"caution: {text}") for text in self.warnings]
        lines += [("advice", f"advice: {self.advice}")] if self.advice else []
        return [(kind, printable(line)) for kind, line in lines]

    def text(self) -> str:
        """The verdict and its details, a line each, the latter indented."""
        return "\n".join([self.sentence(), *(f"  {line}" for _, line in self.details())])

    def as_json(self) -> dict[str, Any]:
        """The answer as JSON, as ``--json`` prints it."""
        return {
            "stage": self.stage or None,
            "component": self.component or None,
            "quantity": self.quantity,
            "verdict": self.verdict,
            "sure": self.sure,
            "value": self.number,
            "interval": None if self.between is None else list(self.between),
            "warnings": list(self.warnings),
            "advice": self.advice,
        }


UNCHECKED = "unchecked"  # begins the names of quick estimates, which a checked one replaces


def answers(folder: Path, stages: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """The answers of a run's stages, most important first; else the last stage's minor answer, or its metrics.

    Several estimates of one quantity from one data stage begin with their comparison. An estimate that has checked
    others, with a ``table`` in its diagnostics, stands for the comparison, and for the quick estimates of its data that
    this table holds: stages whose names begin with ``unchecked``. Repeats of an estimate are part of its own answer.
    """
    part_of_others = {name for stage in stages for name in _repeats(folder / stage["name"])}
    stages = [stage for stage in stages if stage["name"] not in part_of_others]
    every = [(stage, _answer(folder / stage["name"], stage)) for stage in stages]
    found = [(stage, answer) for stage, (answer, minor) in every if answer is not None and not minor]
    if found:
        tables = {answer.stage: _checked_by(folder / answer.stage) for _, answer in found}
        checked = [answer for _, answer in found if tables[answer.stage]]

        def inside(answer: Answer) -> bool:
            of = (folder / stage for stage, names in tables.items() if answer.component in names)
            return answer.stage.startswith(UNCHECKED) and any(
                _data_of(stage) == _data_of(folder / answer.stage) for stage in of
            )

        rest = [answer for _, answer in found if answer not in checked and not inside(answer)]
        compared = [] if checked else _comparisons(folder, [answer for _, answer in found])
        # Each comparison stands above its parts.
        below = [answer for one in compared for answer in (one, *(each for each in rest if each.stage in one.parts))]
        return [*checked, *below, *(answer for answer in rest if answer not in below)]
    if not stages:
        return []
    last, (answer, _) = every[-1]
    return [answer or _measured(folder / last["name"], last)]


def stage_warnings(folder: Path, stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(stage, warning) for what stages say against what they did, in the order of the run."""
    return [(stage["name"], text) for stage in stages for text in _warnings(read_result(folder / stage["name"]))]


def label_answers(result: Mapping[str, Any]) -> tuple[LabelAnswer, ...]:
    """The answers for each label that a result holds."""
    found = []
    for row in result.get("by_label", ()):
        value, interval = row["value"], row["interval"]
        said, between = "no value" if value is None else number_text(value), ""
        if interval is not None and value is not None:
            said, low, high = alike(value, *interval)
            between = f"{low} to {high}"
        name = str(row["label"]) if row["name"] is None else f"{row['label']} ({row['name']})"
        found.append(LabelAnswer(name, row["quantity"], said, between, f"{row['points']:,}"))
    return tuple(found)


def alike(value: float, low: float, high: float) -> tuple[str, str, str]:
    """A value and the ends of its interval, all to the decimals that give the interval's width two digits."""
    width = high - low
    if not (math.isfinite(width) and width > 0 and math.isfinite(value)):
        return number_text(value), number_text(low), number_text(high)
    decimals = 1 - math.floor(math.log10(width))
    if not 0 <= decimals <= 6:
        return number_text(value), number_text(low), number_text(high)
    said = [f"{number:z.{decimals}f}" for number in (value, low, high)]
    return said[0], said[1], said[2]


def stage_answer(folder: Path, stage: Mapping[str, Any]) -> Answer | None:
    """The answer of one stage, a minor one too; None where it has none."""
    return _answer(folder, stage)[0]


def _answer(folder: Path, stage: Mapping[str, Any]) -> tuple[Answer | None, bool]:
    """The answer of a stage, None for none, and whether it matters only where no other stage answers."""
    value, found, result = read_value(folder), read_answer(folder), read_result(folder)
    component = stage["component"].partition("@")[0]
    warnings, rows = tuple(_warnings(result)), label_answers(result)
    if isinstance(value, EstimateFacts):
        # An answer without a value has no metrics.
        truth = stage["metrics"].get("truth", None if found is None else found.truth)
        answer = _of_estimate(stage["name"], component, value, truth, warnings)
        ranked = "" if value.value is None else _among_labels(result, value.quantity)
        return replace(answer, verdict=answer.verdict + ranked, by_label=rows), False
    if isinstance(value, AllocationFacts):
        text = str(result.get("text") or value.status)
        withheld = value.status in ("infeasible", "refused")
        sure = WITHHELD if withheld else CAUTION if warnings else CLEAR
        said = text if withheld else f"The plan is {text[:1].lower()}{text[1:]}"
        number, between = value.predicted_loss, value.interval
        return Answer(stage["name"], component, "plan", said, sure, number, between, warnings=warnings), False
    if found is None or (found.value is None and not found.reading and not found.verdict):
        return None, False
    if found.caveats is not None:
        warnings = tuple(found.caveats)
    sure = found.sure or (WITHHELD if found.value is None else CAUTION if warnings else CLEAR)
    verdict = found.verdict or _sentence(found.quantity, found.value, found.interval, "95% interval", found)
    advice = found.advice
    return (
        Answer(
            *(stage["name"], component, found.quantity, verdict, sure, found.value, found.interval),
            warnings=warnings,
            advice=advice,
            by_label=rows,
        ),
        found.minor,
    )


def _of_estimate(name: str, component: str, value: EstimateFacts, truth: Any, others: Sequence[str]) -> Answer:
    facts = value.diagnostics
    listed = facts.get("warnings", ())
    own = [str(text) for text in listed] if isinstance(listed, list | tuple) else []
    warnings = tuple(dict.fromkeys([*own, *others]))
    sure = WITHHELD if value.value is None else CAUTION if warnings else CLEAR
    if value.value is None:
        verdict = f"{_capital(value.quantity)}: {value.headline.rstrip('.')}."
        if truth is not None:
            verdict += f" The true value is {number_text(truth)}."
    else:
        given = f"{value.level:.0%} " + (f"spread over {value.covers}" if value.covers else "interval")
        compared = AnswerFacts(quantity=value.quantity, truth=truth)
        most = facts.get("bound") == "upper"
        verdict = _sentence(value.quantity, value.value, value.interval, given, compared, most=most)
    scale, advice, note = (str(facts.get(key) or "") for key in ("scale", "advice", "note"))
    number, between = value.value, value.interval
    return Answer(name, component, value.quantity, verdict, sure, number, between, note, scale, warnings, advice)


def _among_labels(result: Mapping[str, Any], quantity: str) -> str:
    """The labels with the highest and the lowest value as a sentence, where chance does not explain the difference.

    Of K equal values some pair differs in one of twenty results at most: intervals of 95 % may not overlap, and of many
    labels wider ones (Bonferroni's correction for all pairs).
    """
    rows = [row for row in result.get("by_label", ()) if row["quantity"] == quantity and row["value"] is not None]
    rows = sorted((row for row in rows if row["interval"] is not None), key=lambda row: row["value"])
    if len(rows) < 2:
        return ""
    z = NormalDist().inv_cdf(1 - 0.025 / math.comb(len(rows), 2))
    wider = max(1.0, z / (math.sqrt(2) * 1.96))
    least, greatest = rows[0], rows[-1]
    above = least["value"] + wider * (least["interval"][1] - least["value"])
    if above >= greatest["value"] - wider * (greatest["value"] - greatest["interval"][0]):
        return ""
    low, high = (
        f"{row['label'] if row['name'] is None else row['name']} ({alike(row['value'], *row['interval'])[0]})"
        for row in (least, greatest)
    )
    return f" By label, the {quantity} is highest for {high} and lowest for {low}."


def _sentence(
    quantity: str,
    value: float | None,
    interval: tuple[float, float] | None,
    given: str,
    compared: AnswerFacts,
    *,
    most: bool = False,
) -> str:
    """``The accuracy is 0.9 (95% interval 0.8 to 1.0). The true value, 0.95, is inside the interval.``

    The value is called an upper bound where it is the ``most``.
    """
    reading = f" {_capital(compared.reading)}." if compared.reading else ""
    if value is None:
        return f"The {quantity} has no value.{reading}"
    said, between = number_text(value), ""
    if interval is not None:
        said, low, high = alike(value, *interval)
        between = f" ({given} {low} to {high})"
    verb = "are" if quantity.endswith("s") and quantity[-2:] not in ("as", "is", "os", "ss", "us") else "is"
    truth = _truth(value, interval, compared.truth, "spread" if "spread" in given else "interval")
    return f"The {quantity} {verb} {'at most ' * most}{said}{between}.{truth}{reading}"


def _truth(value: float, interval: tuple[float, float] | None, truth: float | None, called: str) -> str:
    if truth is None:
        return ""
    known = number_text(truth)
    if known == number_text(value):
        return f" The true value is {known} too."
    if interval is not None and interval[0] <= truth <= interval[1]:
        return f" The true value, {known}, is inside the {called}."
    off = f"{number_text(abs(value - truth))} too {'high' if value > truth else 'low'}"
    return f" The true value is {known}, so the answer is {off}."


def _measured(folder: Path, stage: Mapping[str, Any]) -> Answer:
    """Measurement of a stage without an answer, in one sentence."""
    said = "; ".join(f"{name} {number_text(value)}" for name, value in list(stage["metrics"].items())[:3])
    result = read_result(folder)
    verdict = f"Measured: {said}." if said else "Done; nothing was measured."
    component, warnings = stage["component"].partition("@")[0], tuple(_warnings(result))
    sure = CAUTION if warnings else CLEAR
    rows = label_answers(result)
    return Answer(stage["name"], component, "metrics", verdict, sure, warnings=warnings, by_label=rows)


def _repeats(folder: Path) -> list[str]:
    """The stages that a stage takes as its repeats."""
    if not (folder / STAGE_FILE).is_file():
        return []
    named = read_stage(folder)["resolved"].get("inputs", {}).get("repeats", [])
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []


def _checked_by(folder: Path) -> list[str]:
    """The estimators that the table of an estimate holds; none for others."""
    value = read_value(folder)
    rows = value.diagnostics.get("table") if isinstance(value, EstimateFacts) else None
    names = [str(row.get("estimator")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [name if ":" in name else f"estimator:{name}" for name in names]


def _data_of(folder: Path) -> str:
    return str(read_stage(folder)["resolved"].get("inputs", {}).get("data"))


def _comparisons(folder: Path, found: Sequence[Answer]) -> list[Answer]:
    """A comparison for each quantity that several stages estimate from the points of one data stage."""
    groups: dict[tuple[str, str], list[tuple[Answer, EstimateFacts]]] = {}
    for answer in found:
        value = read_value(folder / answer.stage)
        if isinstance(value, EstimateFacts):
            groups.setdefault((value.quantity, _data_of(folder / answer.stage)), []).append((answer, value))
    return [_compared(group) for group in groups.values() if len(group) > 1]


def _compared(group: Sequence[tuple[Answer, EstimateFacts]]) -> Answer:
    """Several estimates of one quantity as one answer, with the scale at which a curve of one passes another."""
    quantity, known = group[0][0].quantity, [answer for answer, _ in group if answer.number is not None]
    count = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}.get(len(group), str(len(group)))
    head = f"{count} estimates of the {quantity}"
    without = [answer.stage for answer, _ in group if answer.number is None]
    ranked = sorted(known, key=lambda answer: answer.number or 0.0)
    ends = [f"{answer.value_text()} ({answer.stage})" for answer in ranked]
    none = f"{_joined(without)} {'gives' if len(without) == 1 else 'give'} no single number" if without else ""
    sure = WITHHELD if len(known) < 2 else CAUTION
    if not known:
        verdict = f"{head} give no number."
    elif len(known) == 1:
        verdict = f"{head} give no common answer: {none}, {ranked[0].stage} gives {ranked[0].value_text()}."
    elif (limits := _limits(group, ranked)) and _overlap(ranked[: -len(limits)]):
        lie = "lies" if len(ranked) - len(limits) == 1 else "lie"
        below, above = (_joined(part) for part in (ends[: -len(limits)], ends[-len(limits) :]))
        verdict = f"{head} do not contradict each other: {below} {lie} below the upper bound {above}."
    elif _overlap(ranked):
        called = "spreads over points" if any(value.covers for _, value in group) else "intervals"
        verdict = f"{head} agree: from {ends[0]} to {ends[-1]}, with {called} that overlap."
        sure = CAUTION if without else CLEAR
    else:
        verdict = f"{head} disagree: the lowest is {ends[0]}, the highest {ends[-1]}."
    if len(known) > 1 and none:
        verdict += f" Here {none}."
    if sure != CLEAR:
        verdict += " Each reads the data at its own scale."
        verdict += "".join(f" {text}" for answer, value in group for text in _crossings(answer.stage, value, known))
    return Answer("", "", quantity, verdict, sure, parts=tuple(answer.stage for answer, _ in group))


def _limits(group: Sequence[tuple[Answer, EstimateFacts]], ranked: Sequence[Answer]) -> list[Answer]:
    """The upper bounds among estimates, where all others are lower; else nothing."""
    stages = {answer.stage for answer, value in group if value.diagnostics.get("bound") == "upper"}
    found = [answer for answer in ranked if answer.stage in stages]
    return found if 0 < len(found) < len(ranked) and list(ranked[-len(found) :]) == found else []


def _overlap(ranked: Sequence[Answer]) -> bool:
    """True if the intervals of estimates have a point in common; a value without an interval is a point."""
    spans = [answer.between or (answer.number or 0.0, answer.number or 0.0) for answer in ranked]
    return max(low for low, _ in spans) <= min(high for _, high in spans)


def _crossings(stage: str, value: EstimateFacts, others: Sequence[Answer]) -> list[str]:
    """At which noise level the curve of an estimate passes the values of others."""
    rows = value.diagnostics.get("curve")
    if not isinstance(rows, list):
        return []
    try:
        curve = [(float(row["sigma"]), float(row["value"])) for row in rows if row.get("supported", True)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []
    found = []
    for other in others:
        at = None if other.stage == stage or other.number is None else crossing(sorted(curve), other.number)
        if at is not None:
            found.append(f"At sigma {at:.2g} {stage} reads {other.value_text()}, as {other.stage} does.")
    return found


def crossing(curve: Sequence[tuple[float, float]], value: float) -> float | None:
    """The scale at which a curve of (scale, reading) first passes a value, between its points by logarithms.

    None where it never does.

    >>> round(crossing([(0.1, 4.0), (10.0, 2.0)], 3.0), 6)
    1.0
    """
    for (low, first), (high, second) in pairwise(curve):
        if first != second and min(first, second) <= value <= max(first, second):
            share = (value - first) / (second - first)
            return float(math.exp((1 - share) * math.log(low) + share * math.log(high)))
    return None


def _warnings(result: Mapping[str, Any]) -> list[str]:
    listed = result.get("warnings", ())
    return [str(text) for text in listed] if isinstance(listed, list | tuple) else []


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
