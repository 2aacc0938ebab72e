"""The verb ``audit``: does a model copy its training data, and how good is it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, Estimator, Flow, ScoreModel
from scorefold.results import Estimate
from scorefold.stage import Outcome, StageContext
from scorefold_audit import verdicts
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying import answers
from scorefold_audit.copying import nearest as copies
from scorefold_audit.copying.equal import all_but_one, equal_points, equal_to_held_out, equal_to_training
from scorefold_audit.copying.incomplete import (
    IncompletePoints,
    copies_of_gaps,
    gap_copies,
    incomplete_points,
)
from scorefold_audit.copying.nearest import NEIGHBOURS, RATIO, CopyNeighbours, Near
from scorefold_audit.copying.spaces import (
    GAPS,
    Copying,
    Overlap,
    Space,
    SpaceMatches,
    copying,
    overlap_of,
    spaces_of,
)
from scorefold_audit.membership.measures import measure_membership
from scorefold_audit.quality.comparison import some
from scorefold_audit.quality.measures import measure_calibration, measure_quality, relative_vendi
from scorefold_audit.report import LISTED, AuditReport
from scorefold_audit.sets import Sets, read_sets
from scorefold_audit.unusual import measure_points, training_lists
from scorefold_toolkit.checks import answer_of
from scorefold_toolkit.data.splits import HasIncompleteRows


def audit(
    component: ScoreModel | Flow | DataSource, inputs: Mapping[str, Any], options: AuditOptions, context: StageContext
) -> Outcome:
    """Compare samples with the points that a model was trained on and with held-out points.

    Copying is tested against held-out points, which a right model's samples are as near to training points as. Tests
    are corrected for how many there are, and each that finds nothing says what it would have found. What points or the
    model don't allow is withheld, with the reason; without held-out points every verdict is. Raises as ``read_sets``,
    and ``DataError`` where held-out points are training points.
    """
    sets = read_sets(component, inputs, options, context)
    report = AuditReport(warnings=list(sets.warnings))
    if isinstance(component, DataSource):
        left = inputs.get("held_out")
        count = len(left.incomplete_rows()[0]) if isinstance(left, HasIncompleteRows) else 0
        if count:
            report.warnings.append(f"{count:,} held-out points have missing values and were left out")
    spaces = spaces_of(sets, options, context)
    if sets.blind:
        _samples_with_gaps(report, component, sets, options, context)
        if isinstance(component, DataSource):
            _training_with_gaps(report, inputs["data"], component, sets, options, context)
        return _without_held_out(report, sets, spaces, options, context)
    neighbours = CopyNeighbours.of(spaces[0].search, spaces[0].within("held_out"))
    overlap = overlap_of(spaces[0], neighbours, context.seed("duplicates") % 2**32)
    _note_sizes(report, sets, overlap)
    # Before points are left out: a sample stands beside the held-out point whose condition it was drawn for.
    measure_calibration(report, component, inputs.get("calibration"), sets)
    if overlap.leaked:
        sets = sets.without(torch.from_numpy(overlap.rows))
        spaces = [space.without(overlap.rows) for space in spaces]
        neighbours = neighbours.take(~overlap.rows)
    around = overlap.around and overlap.around.without(overlap.chosen)
    measured = _copying(report, spaces, neighbours, around, options, context)
    if measured and around is not None:
        nearest = measured[0].near, measured[0].near_held_out
        report.equal = equal_to_training(spaces[0], *nearest, around, overlap.chosen)
    swapped = equal_to_held_out(spaces[0], measured[0].near, measured[0].near_held_out) if measured else None
    if swapped is not None and swapped.p_more() < 1e-3:
        report.warnings.append(
            f"{swapped.samples:,} of {swapped.of_samples:,} samples equal a held-out point exactly, and no training "
            "point: was the model trained on held-out points, or are both sets swapped?"
        )
    drifted = bool(measured) and measured[0].own is not None
    if drifted:
        report.warnings.append(
            "held-out points have other means or spreads than training points: they may be of another kind or time. "
            "Samples are compared with training points among the others too"
        )
        if measured[0].rates.p_more() < options.level <= measured[0].p_copies():
            sets = replace(
                sets, unlike="held-out points are unlike training points, and copies among these are as usual"
            )
    if spaces[0].name == "columns" and spaces[0].training.shape[1] >= FEWEST_COLUMNS:
        changed = report.attempt("copies (all columns but one)", partial(all_but_one, spaces[0], options.listed))
        if changed is not None:
            report.further.append((sets, changed))
            report.findings.append(verdicts.of_copies(changed))
    near = Near.of(spaces[0].search, neighbours)
    measure_membership(report, component, sets, spaces[0], near, options, context)
    if drifted:
        report.withhold("near-duplicates and quality of samples", "held-out points are unlike training points")
    else:
        measure_quality(report, spaces[-1], options, context)
        report.facts += verdicts.overlap_facts(overlap)
        if overlap.duplicated:
            report.warnings.append(
                f"{overlap.duplicates} of {overlap.searched} training points are near-duplicates of others: models "
                "copy such points first"
            )
    _dimensions(report, inputs.get("estimator"), sets, context)
    _note_training(report, sets, spaces[0], overlap, neighbours, options)
    if len(sets.points):
        context.progress(0, 1, "points")
        measure_points(report, component, sets, spaces[0], options, context)
    _samples_with_gaps(report, component, sets, options, context)
    if isinstance(component, DataSource):
        _training_with_gaps(report, inputs["data"], component, sets, options, context)
    if any(one.space == GAPS for _, one in report.further) and not measured:
        report.warnings.append(
            f"only samples with missing values were tested for copies: {len(sets.samples)} complete ones were given; "
            f"{FEWEST} are needed"
        )
    return report.outcome(sets, measured, options.level, options.listed)


def _without_held_out(
    report: AuditReport, sets: Sets, spaces: list[Space], options: AuditOptions, context: StageContext
) -> Outcome:
    report.withhold("every verdict", sets.blind)
    gaps = report.metrics.get("samples with missing values", 0)
    if gaps:
        report.warnings.append(f"{gaps:,} samples have missing values, and were not compared with training points")
    report.metrics |= {"samples": len(sets.samples), "training points": len(sets.training)}
    for space in spaces:
        report.metrics |= raw_numbers(space, options.quality_points, context.generator("quality"))
    report.warnings.append("without held-out points there is no verdict: its numbers say nothing by themselves")
    if len(sets.samples) and len(sets.training):
        report.equal = equal_points(sets, context.seed("equal points") % 2**32)
    outcome = report.outcome(sets, (), options.level, options.listed)
    if report.equal is not None:
        outcome.result["answer"] = answers.of_equal_points(report.equal, len(sets.samples), report.warnings)
    return outcome


def _copying(
    report: AuditReport,
    spaces: list[Space],
    neighbours: CopyNeighbours,
    around: CopyNeighbours | None,
    options: AuditOptions,
    context: StageContext,
) -> tuple[Copying, ...]:
    measured, seed = [], context.seed("cells") % 2**32
    for number, space in enumerate(spaces):
        context.progress(number, len(spaces), f"copies by {space.name}")
        known = (neighbours, around) if number == 0 else (None, None)
        measure = partial(copying, space, known[0], options.listed, seed, known[1])
        found = report.attempt(f"copies ({space.name})", measure)
        if found is not None:
            measured.append(found)
            _note_copying(report, found, options)
    return tuple(measured)


def _samples_with_gaps(
    report: AuditReport, samples: object, sets: Sets, options: AuditOptions, context: StageContext
) -> None:
    """Samples that were left out for missing values: a copy may hide among them."""
    incomplete = incomplete_points(sets, samples, "samples", context.seed("samples with gaps") % 2**32)
    if incomplete is None:
        return
    report.metrics["samples with missing values"] = incomplete.count
    measure = partial(gap_copies, incomplete.sets, options, context.seed("gaps") % 2**32)
    found = _with_gaps(report, "copies among samples with missing values", incomplete, measure)
    if found is not None:
        report.metrics["copied share (samples with missing values)"] = found.rates.excess()


def _training_with_gaps(
    report: AuditReport, training: object, samples: object, sets: Sets, options: AuditOptions, context: StageContext
) -> None:
    """Training points that were left out for missing values: what made the samples may have seen them."""
    incomplete = incomplete_points(sets, training, "training", context.seed("training points with gaps") % 2**32)
    if incomplete is None:
        return
    compared = [("samples", "copies of training points with missing values", incomplete, "")]
    # The seed of the comparison with complete training points, so that the same samples are drawn.
    drawn = incomplete_points(sets, samples, "samples", context.seed("samples with gaps") % 2**32)
    if drawn is not None:
        of = f"{drawn.count:,} samples with missing values"
        both = replace(incomplete, sets=replace(incomplete.sets, samples=drawn.sets.samples))
        part = "copies with missing values of training points with missing values"
        compared.append((of, part, both, drawn.compared))
    for points, part, each, some_samples in compared:
        if _compared_with_gaps(report, part, each, sets.training, options, context):
            if some_samples:
                report.withhold(f"{part}, of samples not drawn", some_samples)
        else:
            report.warnings.append(
                f"{points} were not compared with {incomplete.count:,} training points with missing values: copies of "
                "them would not be seen"
            )


def _compared_with_gaps(
    report: AuditReport,
    part: str,
    incomplete: IncompletePoints,
    complete: Dataset,
    options: AuditOptions,
    context: StageContext,
) -> bool:
    """Comparison with training points with missing values, among ``complete`` ones; False where it is withheld."""

    def measure() -> SpaceMatches:
        found, repeated = copies_of_gaps(incomplete.sets, complete, options, context.seed("both with gaps") % 2**32)
        if repeated:
            said = f"{repeated:,} of them are repeated by a complete one in the columns that they have"
            report.withhold(f"{part}, of repeated ones", said)
        return found

    found = _with_gaps(report, part, incomplete, measure)
    if found is not None:
        report.metrics[f"copied share ({found.space})"] = found.rates.excess()
    return found is not None


def _with_gaps(
    report: AuditReport, part: str, incomplete: IncompletePoints, measure: Callable[[], SpaceMatches]
) -> SpaceMatches | None:
    """The comparison of points with missing values, and what it leaves out as withheld."""
    if incomplete.sets.blind:
        report.withhold(part, incomplete.sets.blind)
        return None
    if incomplete.few:
        have = "1 of them has" if incomplete.few == 1 else f"{incomplete.few:,} of them have"
        report.withhold(f"{part}, of one value", f"{have} fewer than two values, and one value is no copy")
    if incomplete.few == incomplete.count:
        return None
    if incomplete.compared:
        report.withhold(f"{part}, of those not drawn", incomplete.compared)
    found = report.attempt(part, measure)
    if found is not None:
        report.further.append((incomplete.sets, found))
        report.findings.append(verdicts.of_copies(found, incomplete.compared))
    return found


def _note_sizes(report: AuditReport, sets: Sets, overlap: Overlap) -> None:
    shared = int(overlap.rows.sum())
    report.metrics |= {
        "samples": len(sets.samples),
        "training points": len(sets.training),
        "held-out points": len(sets.held_out),
        "held-out points that are training points": shared,
        "near-duplicates among training points": overlap.duplicates / overlap.searched,
    }
    if sets.groups is not None:
        report.metrics["conditions that points are compared within"] = 1 + int(sets.groups[0].max())
    if overlap.leaked:
        report.warnings.append(
            f"{shared} of {len(overlap.rows)} held-out points are training points or near-duplicates of some, more "
            "than there are among training points: they would hide copying and are left out"
        )


def _note_copying(report: AuditReport, found: Copying, options: AuditOptions) -> None:
    where = found.space
    report.findings += [verdicts.of_copies(found), verdicts.of_closeness(found)]
    numbers = {
        "copied share": found.rates.excess(),
        "near-copies among samples": found.rates.sample_rate,
        "near-copies among held-out points": found.rates.held_out_rate,
        "named copies": len(found.named),
        "samples nearer than held-out points": found.closeness.area,
        "Z_U": found.closeness.z,
        "authentic samples": found.authentic.sample_rate,
        "authentic held-out points": found.authentic.held_out_rate,
        "authentic samples, p-value": found.authentic.p_fewer(),
        "nearer to training than to held-out points": found.nearer.share,
        "nearer to training than to held-out points, expected": found.nearer.expected,
        "nearer to training than to held-out points, p-value": found.nearer.p,
    }
    if found.cells is not None:
        numbers["C_T"] = found.cells
    report.metrics |= {f"{name} ({where})": value for name, value in numbers.items()}
    fewest = copies.fewest_named(found.rates.of_samples, found.rates.of_held_out, options.listed)
    if fewest > 1 and len(found.named) == 0:
        reason = (
            f"copies are named one by one where at least {fewest} of them are nearer than each of the "
            f"{found.rates.of_held_out} held-out points; more held-out points name fewer"
        )
        report.withhold(f"names of fewer copies ({where})", reason)


def _note_training(
    report: AuditReport, sets: Sets, space: Space, overlap: Overlap, neighbours: CopyNeighbours, options: AuditOptions
) -> None:
    """Near-duplicates and outliers among training points, as lists of the user's rows."""
    if len(space.training) <= NEIGHBOURS:
        report.withhold("outliers of the training points", f"they need more than {NEIGHBOURS} training points")
        return
    distances = neighbours.distances[:, -1]
    found = training_lists(space.search, overlap, distances, options.listed, LISTED)
    for pair in found["near_duplicates"]:
        pair["names"] = [sets.called("training", place) for place in pair["points"]]
        pair["points"] = [sets.row("training", place) for place in pair["points"]]
    for point in found["outliers"]:
        point["name"] = sets.called("training", point["point"])
        point["point"] = sets.row("training", point["point"])
    report.lists["training"] = found
    report.metrics["outliers among training points"] = found["outliers_named"]
    fewest = copies.fewest_named(overlap.searched, len(distances), options.listed)
    if fewest > 1 and found["outliers_named"] == 0:
        reason = f"outliers are named where there are at least {fewest} of them; more held-out points name fewer"
        report.withhold("names of fewer outliers", reason)


def _dimensions(report: AuditReport, estimator: Estimator | None, sets: Sets, context: StageContext) -> None:
    """The dimension of samples and of held-out points, by one estimator from as many points of each."""
    if estimator is None:
        report.withhold("dimension", "no estimator was plugged in")
        return
    # Repeated points have no dimension, and a copier's samples repeat.
    samples, held_out = (torch.unique(points.x, dim=0) for points in (sets.samples, sets.held_out))
    count = min(len(samples), len(held_out))
    for name, points in (("samples", samples), ("held-out points", held_out)):
        chosen = some(points, count, context.generator("dimension"))
        generator = context.generator("estimate")
        found = report.attempt(f"dimension of {name}", partial(_dimension, estimator, chosen, generator))
        if found is not None:
            report.metrics[f"dimension of {name}"] = found


def _dimension(estimator: Estimator, points: Tensor, generator: torch.Generator) -> float:
    return answer_of(estimator.point_estimate, Estimate, points, generator=generator).number()


FEWEST = 20

FEWEST_COLUMNS = 4
"""Columns of a table from which on rows are compared in all columns but one."""


def raw_numbers(space: Space, count: int, generator: torch.Generator) -> dict[str, float]:
    """Numbers of samples next to training points alone, by name: none of them says by itself whether a model copies."""
    if min(len(space.samples), len(space.training)) < FEWEST:
        return {}
    near = Near.of(space.search, CopyNeighbours.of(space.search, space.within("samples")))
    own = space.search.own(near.index)
    numbers = {
        "near-copies among samples": float((near.ratio < RATIO).mean()),
        "authentic samples": float((near.distance > own).mean()),
        "distance of samples from training points over theirs (median)": float(
            np.median(near.distance) / (np.median(own) or 1.0)
        ),
    }
    size = min(count, len(space.samples), len(space.training))
    chosen = (some(torch.from_numpy(x), size, generator) for x in (space.samples, space.training))
    numbers["Vendi score relative to training points"] = relative_vendi(*chosen)
    return {f"{name} ({space.name})": value for name, value in numbers.items()}
