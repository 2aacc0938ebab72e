"""Findings of an audit, and their use: the result, its arrays and the content of the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold.stage import Outcome
from scorefold_audit import verdicts
from scorefold_audit.copying import answers
from scorefold_audit.copying.equal import EqualPoints
from scorefold_audit.copying.spaces import Copying, SpaceMatches
from scorefold_audit.sets import Sets
from scorefold_audit.verdicts import Finding
from scorefold_toolkit.data.splits import by_row

T = TypeVar("T")

LISTED = 50
"""Maximum of rows in a list: samples next to their nearest training points, points, outliers."""


@dataclass(frozen=True)
class Audited:
    """Content of the figures: the measures of copying in each space, and for the most copied samples (k, *E) their
    nearest training points (k, *E) with the ratio (k,) of each, whether it was named (k,) and what both are called.
    """

    copying: tuple[Copying, ...]
    samples: Tensor
    training: Tensor
    ratio: Tensor
    named: Tensor
    limits: tuple[float | None, float | None]
    names: tuple[tuple[str, str], ...]


@dataclass
class AuditReport:
    """Numbers by name, tests before they are corrected, what was found without a test, what was withheld and why, and
    lists of single points by what they are of. ``further`` are sets of points with missing values, or of rows that are
    equal but for a column, and their comparisons. ``equal`` are samples that equal a training point, of which pairs are
    listed where no test found copies."""

    metrics: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    withheld: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lists: dict[str, Any] = field(default_factory=dict)
    further: list[tuple[Sets, SpaceMatches]] = field(default_factory=list)
    equal: EqualPoints | None = None

    def attempt(self, part: str, measure: Callable[[], T]) -> T | None:
        """Measure something, or return None and note the reason if there are too few points."""
        try:
            return measure()
        except DataError as error:
            self.withhold(part, error.message)
            return None

    def withhold(self, part: str, reason: str) -> None:
        """Note what is not given, and why."""
        self.withheld.append({"part": part, "reason": reason})

    def outcome(self, sets: Sets, measured: tuple[Copying, ...], level: float, false_share: float) -> Outcome:
        """The result of the stage: verdicts at a level, lists, and what is withheld; ``false_share`` is the expected
        share of false ones among the copies that are named."""
        judged = verdicts.judge(self.findings, level)
        warnings = [*self.warnings, *(verdict["text"] for verdict in judged if verdict["found"])]
        found = [*((sets, one) for one in measured), *self.further]
        listed = [_listed(*each, false_share) for each in found]
        reported = answers.reported_copies(judged)
        first_space = answers.most_named(listed) if reported is None else reported["where"]
        for one in listed:
            one["reported"] = one["space"] == first_space or all(one["space"] != each.space for each in measured)
        equal = self.equal if not measured or reported is None else None
        result: dict[str, Any] = {
            "metrics": self.metrics,
            "warnings": warnings,
            "audit": {
                "level": level,
                "verdicts": [*judged, *self.facts],
                "copies": listed,
                "equal": None if equal is None else equal_pairs(sets, equal),
                "training": self.lists.get("training"),
                "points": self.lists.get("points"),
                "withheld": self.withheld,
            },
        }
        if not found:
            result["answer"] = answers.of_nothing(self.withheld, self.warnings)
            return Outcome(self.metrics, result)
        first = found[0][1]
        samples = "samples" if measured else "samples with missing values"
        result["answer"] = {
            "quantity": f"copied share of the {samples} ({first.space})",
            "value": first.rates.excess(),
            "interval": list(first.rates.interval()),
            **answers.answer_entries(judged, self.warnings, listed, sets.unlike, self.equal),
        }
        if not measured:
            return Outcome(self.metrics, result)
        named = next((one for one in measured if one.space == first_space), measured[0])
        shown = _shown(sets, measured, named)
        return Outcome(self.metrics, result, _arrays(sets, measured, shown), shown=shown)


def equal_pairs(sets: Sets, equal: EqualPoints) -> list[dict[str, Any]]:
    """Samples and the training points that they equal, as JSON with the user's rows."""
    return [_pair(sets, int(place), int(of)) for place, of in zip(equal.samples, equal.training, strict=True)]


def _pair(sets: Sets, place: int, of: int) -> dict[str, Any]:
    return {
        "sample": sets.row("samples", place),
        "sample_name": sets.called("samples", place),
        "training": sets.row("training", of),
        "training_name": sets.called("training", of),
    }


def _shown(sets: Sets, measured: tuple[Copying, ...], first: Copying) -> Audited:
    order = np.argsort(first.near.ratio, kind="stable")[:LISTED]
    return Audited(
        measured,
        sets.samples.x[torch.from_numpy(order)],
        sets.training.take(torch.from_numpy(first.near.index[order])).x,
        torch.from_numpy(first.near.ratio[order]),
        torch.from_numpy(np.isin(order, first.named)),
        (sets.scale.low, sets.scale.high),
        tuple(
            (sets.called("samples", int(place)), sets.called("training", int(first.near.index[place])))
            for place in order
        ),
    )


def _arrays(sets: Sets, measured: tuple[Copying, ...], shown: Audited) -> dict[str, Tensor]:
    arrays = {}
    rows, training = sets.rows.get("samples"), sets.training.index
    for found in measured:
        nearest = torch.from_numpy(found.near.index)
        of_samples = {
            "distance": torch.from_numpy(found.near.distance),
            "ratio": torch.from_numpy(found.near.ratio),
            "nearest training point": nearest if training is None else training[nearest],
        }
        for name, values in of_samples.items():
            arrays[f"{name} ({found.space})"] = by_row(values, sets.samples.index, rows)
        arrays[f"held-out distance ({found.space})"] = torch.from_numpy(found.near_held_out.distance)
        arrays[f"held-out ratio ({found.space})"] = torch.from_numpy(found.near_held_out.ratio)
    if sets.held_out.index is not None:
        arrays["rows of held-out points"] = sets.held_out.index
    # What may have been drawn for this audit alone, in the units that the data were read in.
    arrays["most like copies"] = sets.scale.to_raw(shown.samples)
    arrays["their nearest training points"] = sets.scale.to_raw(shown.training)
    return arrays


def _listed(sets: Sets, found: SpaceMatches, false_share: float) -> dict[str, Any]:
    """The samples that are nearest to a training point, against the next one, as JSON with the user's rows: all that
    are named, the surest first."""
    order = np.argsort(found.near.ratio, kind="stable")[: max(LISTED, len(found.named))]
    order = order[np.isfinite(found.near.ratio[order])]
    chosen = set(found.named.tolist())
    rows = [
        {
            **_pair(sets, int(place), int(found.near.index[place])),
            "distance": float(found.near.distance[place]),
            "ratio": float(found.near.ratio[place]),
            "p": float(found.p[place]),
            "named": int(place) in chosen,
        }
        for place in order
    ]
    return {
        "space": found.space,
        "samples": found.rates.of_samples,
        "named": len(found.named),
        "false_share": false_share,
        "nearest": rows,
    }
