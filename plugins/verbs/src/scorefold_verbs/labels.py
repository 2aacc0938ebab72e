"""An answer for each label of the data, next to the one over all of them: the option ``by: label`` of verbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

FEWEST = 10
"""The fewest points that a label has an answer for."""


def groups_of(label: Tensor, names: Sequence[str] | None, fewest: int = FEWEST) -> tuple[dict[int, Tensor], list[str]]:
    """The positions of the points of each label, for labels of at least ``fewest`` points, in order; and a warning that
    names each label that is left out."""
    groups: dict[int, Tensor] = {}
    left_out = []
    for number in label.unique().tolist():
        rows = (label == number).nonzero()[:, 0]
        if len(rows) >= fewest:
            groups[number] = rows
        else:
            left_out.append(left_out_for(number, names, f"{len(rows)} points, fewer than {fewest}"))
    return groups, left_out


def left_out_for(number: int, names: Sequence[str] | None, reason: str) -> str:
    """The warning that a label has no answer, and why."""
    return f"label {label_text(number, name_of(number, names))} is left out: {reason}"


def row_of(
    number: int,
    names: Sequence[str] | None,
    points: int,
    quantity: str,
    value: float | None,
    interval: Sequence[float] | None,
) -> dict[str, Any]:
    """The answer for one label, as JSON."""
    return {
        "label": number,
        "name": name_of(number, names),
        "points": points,
        "quantity": quantity,
        "value": value,
        "interval": None if interval is None else list(interval),
    }


def name_of(number: int, names: Sequence[str] | None) -> str | None:
    """Name of a label, if its source has one and it is not the number."""
    name = names[number] if names is not None and 0 <= number < len(names) else None
    return None if name == str(number) else name


def label_text(number: int, name: str | None) -> str:
    """``7 (Sneaker)``, or ``7`` for a label without a name."""
    return str(number) if name is None else f"{number} ({name})"


def with_labels(
    result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], left_out: Sequence[str]
) -> dict[str, Any]:
    """A result with the answers for labels, and with what was left out among its warnings."""
    warnings = [*result.get("warnings", ()), *left_out]
    return {**result, "by_label": list(rows), **({"warnings": warnings} if warnings else {})}
