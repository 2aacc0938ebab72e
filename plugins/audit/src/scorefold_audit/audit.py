"""The verb ``audit``: does a model copy its training data, and how good is it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Estimator, Flow, ScoreModel
from scorefold.stage import Outcome, StageContext
from scorefold_audit import copies, quality, verdicts
from scorefold_audit.config import AuditOptions
from scorefold_audit.membership import denoising_losses, likelihood_gap, log_likelihoods, membership
from scorefold_audit.nearest import Near, Neighbours, dimension_of
from scorefold_audit.sets import Sets, read_sets, to_model
from scorefold_audit.spaces import Copying, Overlap, Space, copying, overlap_of, spaces_of
from scorefold_audit.verdicts import Finding

T = TypeVar("T")

LISTED = 50
"""How many samples are listed next to their nearest training points."""


@dataclass(frozen=True)
class Audited:
    """What figures show: what was measured of copying in each space, and for the most copied samples (k, *E) their
    nearest training points (k, *E) with the ratio (k,) of each and whether it was named (k,)."""

    copying: tuple[Copying, ...]
    samples: Tensor
    training: Tensor
    ratio: Tensor
    named: Tensor
    limits: tuple[float | None, float | None]


@dataclass
class Report:
    """What an audit has found so far."""

    metrics: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    withheld: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def attempt(self, part: str, measure: Callable[[], T]) -> T | None:
        """What is measured, or None where there are too few points for it: then the reason is noted."""
        try:
            return measure()
        except DataError as error:
            self.withheld.append({"part": part, "reason": error.message})
            return None


def audit(
    component: ScoreModel | Flow | DataSource, inputs: Mapping[str, Any], options: AuditOptions, context: StageContext
) -> Outcome:
    """Compare samples with the points that a model was trained on and with held-out points.

    Copying is tested against held-out points, which a right model's samples are as near to training points as. Tests
    are corrected for how many there are, and each that finds nothing says what it would have found. What points or the
    model don't allow is withheld, with the reason. Raises as ``read_sets``, and ``DataError`` where held-out points are
    training points.
    """
    sets = read_sets(component, inputs, options, context)
    report = Report(warnings=list(sets.warnings))
    spaces = spaces_of(sets, options, context)
    neighbours = Neighbours.of(spaces[0].search, spaces[0].held_out)
    overlap = overlap_of(spaces[0], neighbours, context.seed("duplicates") % 2**32)
    _note_sizes(report, sets, overlap)
    if overlap.leaked:
        sets = sets.without(torch.from_numpy(overlap.rows))
        spaces = [space.without(overlap.rows) for space in spaces]
        neighbours = neighbours.take(~overlap.rows)
    measured, seed = [], context.seed("cells") % 2**32
    for number, space in enumerate(spaces):
        context.progress(number, len(spaces), f"copies by {space.name}")
        known = neighbours if number == 0 else None
        found = report.attempt(f"copies ({space.name})", partial(copying, space, known, options.listed, seed))
        if found is not None:
            measured.append(found)
            _note_copying(report, found, options)
    _membership(report, component, sets, spaces[0], Near.of(spaces[0].search, neighbours), options, context)
    _quality(report, spaces[-1], options, context)
    _dimensions(report, inputs.get("estimator"), sets, context)
    return _outcome(report, sets, overlap, tuple(measured), options)


def _note_sizes(report: Report, sets: Sets, overlap: Overlap) -> None:
    shared = int(overlap.rows.sum())
    report.metrics |= {
        "samples": len(sets.samples),
        "training points": len(sets.training),
        "held-out points": len(sets.held_out),
        "held-out points that are training points": shared,
        "near-duplicates among training points": overlap.duplicates / overlap.searched,
    }
    if overlap.leaked:
        report.warnings.append(
            f"{shared} of {len(overlap.rows)} held-out points are training points or near-duplicates of some, more "
            "than there are among training points: they would hide copying and are left out"
        )
    if overlap.duplicated:
        report.warnings.append(
            f"{overlap.duplicates} of {overlap.searched} training points are near-duplicates of others: models copy "
            "such points first"
        )


def _note_copying(report: Report, found: Copying, options: AuditOptions) -> None:
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
    if fewest > 1:
        reason = (
            f"copies are named one by one where there are at least {fewest} of them, with {found.rates.of_held_out} "
            "held-out points; more held-out points name fewer"
        )
        report.withheld.append({"part": f"names of fewer copies ({where})", "reason": reason})


def _membership(
    report: Report,
    component: ScoreModel | Flow | DataSource,
    sets: Sets,
    space: Space,
    near: Near,
    options: AuditOptions,
    context: StageContext,
) -> None:
    """Losses, and likelihoods where they are asked for or come without an ODE."""
    if isinstance(component, DataSource):
        report.withheld.append({"part": "membership", "reason": "samples alone have no loss and no likelihood"})
        return
    generator, size = context.generator("membership"), options.membership_points
    count = min(size, len(sets.training), len(sets.held_out))
    both = [
        to_model(points.take(torch.randperm(len(points), generator=generator)[:count]), component, sets.scale, context)
        for points in (sets.training, sets.held_out)
    ]
    seed, found = context.seed("losses"), None
    if isinstance(component, ScoreModel):
        noise = options.noise or _noise(component, both[0], space, near)
        report.metrics["noise of the losses"] = noise
        arguments = (noise, options.loss_draws, options.batch_size, seed)
        found = report.attempt(
            "membership", lambda: membership(*(denoising_losses(component, points, *arguments) for points in both))
        )
        both = [points.take(torch.arange(min(len(points), options.likelihood))) for points in both]
        if options.likelihood == 0:
            reason = "a score model's is an ODE for each point, which is slow; options: {likelihood: 100}"
            report.withheld.append({"part": "likelihood", "reason": reason})
    if isinstance(component, Flow) or options.likelihood > 0:
        values = [log_likelihoods(component, points, options.batch_size, seed) for points in both]
        if isinstance(component, Flow):
            found = report.attempt("membership", lambda: membership(*(-value for value in values)))
        gap = report.attempt("likelihood", lambda: likelihood_gap(*values))
        if gap is not None:
            report.findings.append(verdicts.of_likelihoods(gap))
            report.metrics["log-likelihood of training points (nats)"] = gap.training
            report.metrics["log-likelihood of held-out points (nats)"] = gap.held_out
    if found is not None:
        report.findings.append(verdicts.of_membership(found, count))
        report.metrics["training points with less loss than held-out points"] = found.apart.area
        if found.found is not None:
            report.metrics["training points found at 1% false alarms"] = found.found


def _noise(model: ScoreModel, points: Dataset, space: Space, near: Near) -> float:
    """How far held-out points are from training points over the root of the dimension, in deviations of the data, half
    of one at most; in the units of the model."""
    deviation = float(points.x.flatten(1).double().var(0, correction=0).mean().sqrt())
    dimension = dimension_of(near.ratio)
    share = float(np.median(near.distance)) / max(space.spread, 1e-30) / max(dimension, 1.0) ** 0.5
    return float(max(min(share, 0.5), 1e-3) * (deviation or 1.0))


def _quality(report: Report, space: Space, options: AuditOptions, context: StageContext) -> None:
    """Precision, recall, density, coverage, the kernel and the Frechet distance, of sets of one size."""
    generator = context.generator("quality")
    training, held_out, samples = (
        torch.from_numpy(x).double() for x in (space.training, space.held_out, space.samples)
    )
    count = min(options.quality_points, len(samples), len(held_out))
    q, y = (quality.some(x, count, generator) for x in (samples, held_out))
    context.progress(0, 1, "quality")
    near = report.attempt("precision and recall", lambda: quality.neighbourhoods(q, y, options.permutations, generator))
    if near is not None:
        report.findings += [
            verdicts.of_precision(near["precision"], space.name),
            verdicts.of_recall(near["recall"], space.name),
        ]
        report.metrics |= {name: permuted.value for name, permuted in near.items()}
        report.metrics |= {f"{name} of equal distributions": permuted.mean for name, permuted in near.items()}
    kernel = report.attempt("kernel distance", lambda: quality.kernel_distance(q, y, options.permutations, generator))
    if kernel is not None:
        report.findings.append(verdicts.of_kernel(kernel, space.name))
        report.metrics["kernel distance"] = kernel.value
    count = min(len(samples), len(held_out))
    q, y = (quality.some(x, count, generator) for x in (samples, held_out))
    frechet = report.attempt("Frechet distance", lambda: quality.frechet(q, y, training, generator))
    if frechet is not None:
        report.metrics["Frechet distance"] = frechet.value
        report.metrics["Frechet points"] = frechet.points
        if frechet.training is not None:
            report.metrics["Frechet distance of as many training points"] = frechet.training
        if frechet.limit is not None:
            report.metrics["Frechet distance, of ever more samples"] = frechet.limit


def _dimensions(report: Report, estimator: Estimator | None, sets: Sets, context: StageContext) -> None:
    """The dimension of samples and of held-out points, by one estimator from as many points of each."""
    if estimator is None:
        report.withheld.append({"part": "dimension", "reason": "no estimator was plugged in"})
        return
    # Repeated points have no dimension, and a copier's samples repeat.
    samples, held_out = (torch.unique(x, dim=0) for x in (sets.samples, sets.held_out.x))
    count = min(len(samples), len(held_out))
    for name, points in (("samples", samples), ("held-out points", held_out)):
        chosen = quality.some(points, count, context.generator("dimension"))
        generator = context.generator("estimate")
        found = report.attempt(f"dimension of {name}", partial(_dimension, estimator, chosen, generator))
        if found is not None:
            report.metrics[f"dimension of {name}"] = found


def _dimension(estimator: Estimator, points: Tensor, generator: torch.Generator) -> float:
    return estimator.point_estimate(points, generator=generator).number()


def _outcome(
    report: Report, sets: Sets, overlap: Overlap, measured: tuple[Copying, ...], options: AuditOptions
) -> Outcome:
    judged = verdicts.judge(report.findings, options.level)
    facts = verdicts.facts(overlap)
    warnings = [*report.warnings, *(verdict["text"] for verdict in judged if verdict["found"])]
    result: dict[str, Any] = {
        "metrics": report.metrics,
        "warnings": warnings,
        "audit": {
            "level": options.level,
            "verdicts": [*judged, *facts],
            "copies": [_listed(found) for found in measured],
            "withheld": report.withheld,
        },
    }
    if not measured:
        return Outcome(report.metrics, result)
    first = measured[0]
    result["answer"] = {
        "quantity": f"copied share of the samples ({first.space})",
        "value": first.rates.excess(),
        "interval": list(first.rates.interval()),
        "reading": verdicts.summary(judged),
    }
    arrays = {}
    for found in measured:
        arrays[f"distance ({found.space})"] = torch.from_numpy(found.near.distance)
        arrays[f"ratio ({found.space})"] = torch.from_numpy(found.near.ratio)
        arrays[f"nearest training point ({found.space})"] = torch.from_numpy(found.near.index)
        arrays[f"held-out distance ({found.space})"] = torch.from_numpy(found.near_held_out.distance)
        arrays[f"held-out ratio ({found.space})"] = torch.from_numpy(found.near_held_out.ratio)
    order = np.argsort(first.near.ratio, kind="stable")[:LISTED]
    shown = Audited(
        measured,
        sets.samples[torch.from_numpy(order)],
        sets.training.take(torch.from_numpy(first.near.index[order])).x,
        torch.from_numpy(first.near.ratio[order]),
        torch.from_numpy(np.isin(order, first.named)),
        (sets.scale.low, sets.scale.high),
    )
    # What may have been drawn for this audit alone, in the units that the data were read in.
    arrays["most like copies"] = sets.scale.to_raw(shown.samples)
    arrays["their nearest training points"] = sets.scale.to_raw(shown.training)
    return Outcome(report.metrics, result, arrays, shown=shown)


def _listed(found: Copying) -> dict[str, Any]:
    """The samples that are nearest to a training point, against the next one, as JSON; the surest first."""
    order = np.argsort(found.near.ratio, kind="stable")[:LISTED]
    chosen = set(found.named.tolist())
    rows = [
        {
            "sample": int(place),
            "training": int(found.near.index[place]),
            "distance": float(found.near.distance[place]),
            "ratio": float(found.near.ratio[place]),
            "p": float(found.p[place]),
            "named": int(place) in chosen,
        }
        for place in order
    ]
    return {"space": found.space, "named": len(found.named), "nearest": rows}
