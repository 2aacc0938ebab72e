"""Quality: every number of samples next to held-out points, of sets of one size, into the report."""

from __future__ import annotations

import torch

from scorefold.errors import DataError
from scorefold.stage import StageContext
from scorefold_audit import verdicts
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.likelihood import divergence
from scorefold_audit.copying.spaces import Space
from scorefold_audit.quality import comparison
from scorefold_audit.quality.comparison import some
from scorefold_audit.quality.diversity import memorisation_informed, relative_vendi
from scorefold_audit.report import Report


def measure_quality(report: Report, space: Space, options: AuditOptions, context: StageContext) -> None:
    """Precision, recall, density, coverage, the kernel distance, Vendi scores, Frechet distances and FLD."""
    generator = context.generator("quality")
    sets = (space.samples, space.held_out, space.training)
    samples, held_out, training = (torch.from_numpy(x).double() for x in sets)
    count = min(options.quality_points, len(samples), len(held_out))
    rows, others = (torch.randperm(len(x), generator=generator)[:count] for x in (samples, held_out))
    q, y = samples[rows], held_out[others]
    within = torch.from_numpy(space.within("samples"))[rows], torch.from_numpy(space.within("held_out"))[others]
    groups = None
    if space.groups is not None:
        groups = torch.from_numpy(space.groups[2])[rows], torch.from_numpy(space.groups[1])[others]
    context.progress(0, 1, "quality")
    permutations = options.permutations
    near = report.attempt("precision and recall", lambda: comparison.neighbourhoods(*within, permutations, generator))
    if near is not None:
        report.findings += [
            verdicts.of_precision(near["precision"], space.name),
            verdicts.of_recall(near["recall"], space.name),
        ]
        report.metrics |= {name: permuted.value for name, permuted in near.items()}
        report.metrics |= {f"{name} of equal distributions": permuted.mean for name, permuted in near.items()}
    kernel = report.attempt(
        "kernel distance", lambda: comparison.kernel_distance(q, y, permutations, generator, groups)
    )
    if kernel is not None:
        report.findings.append(verdicts.of_kernel(kernel, space.name))
        report.metrics["kernel distance"] = kernel.value
        report.metrics["Vendi score over that of held-out points"] = relative_vendi(q, y)
    _frechet(report, samples, held_out, training, generator)
    some_training = some(training, count, context.generator("divergence"))
    found = report.attempt(
        "likelihood divergence", lambda: divergence(q, some_training, y, context.generator("divergence splits"))
    )
    if found is not None:
        report.metrics["likelihood divergence (FLD)"] = found.fld
        report.metrics["FLD gap"] = found.gap
        report.metrics["FLD gap of held-out points"] = found.gap_of_held_out


def _frechet(
    report: Report, samples: torch.Tensor, held_out: torch.Tensor, training: torch.Tensor, generator: torch.Generator
) -> None:
    count = min(len(samples), len(held_out))
    q, y = (some(x, count, generator) for x in (samples, held_out))
    found = report.attempt("Frechet distance", lambda: comparison.frechet(q, y, training, generator))
    if found is None:
        return
    report.metrics["Frechet distance"] = found.value
    report.metrics["Frechet points"] = found.points
    if found.training is not None:
        report.metrics["Frechet distance of as many training points"] = found.training
    if found.limit is not None:
        report.metrics["Frechet distance, of ever more samples"] = found.limit
    informed = report.attempt("memorisation-informed Frechet distance", lambda: _informed(found.value, q, training))
    if informed is not None:
        report.metrics["memorisation-informed Frechet distance (MiFID)"] = informed


def _informed(frechet: float, samples: torch.Tensor, training: torch.Tensor) -> float:
    value = memorisation_informed(frechet, samples, training)
    if value == float("inf"):
        raise DataError("all samples lie in the directions of training points, so it has no bound")
    return value
