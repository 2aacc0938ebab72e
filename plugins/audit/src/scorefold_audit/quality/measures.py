"""Quality: every number of samples next to held-out points, their variety, and the spread of draws for a condition."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from scorefold.data import index_condition
from scorefold.errors import DataError, ScorefoldError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold.stage import StageContext
from scorefold_audit import verdicts
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.spaces import Space
from scorefold_audit.quality import comparison
from scorefold_audit.quality.comparison import likelihood_divergence, some
from scorefold_audit.report import AuditReport
from scorefold_audit.sets import Sets
from scorefold_toolkit.metrics.measure import EvaluationBatch, Metric, Units

COPIED = 0.1
"""A mean cosine distance to training points below this counts as copying in MiFID."""


def vendi(points: Tensor, width: float) -> float:
    """The Vendi score of points (N, D): how many points that are all unlike each other would be as varied, 1 to N.

    exp of the entropy of the eigenvalues of K / N, K = exp(-r^2 / 2 width^2) (Friedman and Dieng 2023). A cosine kernel
    would see no more than D.

    >>> round(vendi(100 * torch.eye(5), 1.0), 6), round(vendi(torch.zeros(5, 2), 1.0), 6)
    (5.0, 1.0)
    """
    x = points.double()
    kernel = torch.exp(-torch.cdist(x, x).square() / (2 * width**2)) / len(x)
    values = torch.linalg.eigvalsh(kernel).clamp_min(0)
    return float(torch.special.entr(values).sum().exp())


def relative_vendi(samples: Tensor, held_out: Tensor) -> float:
    """The Vendi score of samples divided by the score of as many held-out points.

    The width is the median distance of held-out points. 1 for equal distributions, below 1 where modes are missing;
    noise raises it.
    """
    apart = torch.pdist(held_out.double())
    width = float(apart.median()) or 1.0
    return vendi(samples, width) / vendi(held_out, width)


def cosine_distance(samples: Tensor, training: Tensor) -> float:
    """The mean over samples (m, D) of 1 - |cos| to the training point (n, D) that is nearest by it."""
    q, y = normalize(samples.double(), dim=1), normalize(training.double(), dim=1)
    nearest = torch.cat([(1 - (part @ y.T).abs()).amin(1) for part in q.split(256)])
    return float(nearest.mean())


def memorisation_informed(frechet: float, samples: Tensor, training: Tensor) -> float:
    """MiFID: a Frechet distance over the mean cosine distance of samples to training points, where that is below 0.1.

    The mean is over samples, as by its authors (Bai et al. 2021): over training points, one copied point would count
    once, however often it is sampled.
    """
    apart = cosine_distance(samples, training)
    return frechet / (apart if apart < COPIED else 1.0) if apart > 0 else float("inf")


def measure_calibration(
    report: AuditReport, component: ScoreModel | Flow | DataSource, metric: Metric | None, sets: Sets
) -> None:
    """Values of a metric for one sample and each held-out point of one condition.

    Nothing for a model without conditions. Samples of a file say nothing of which condition each was drawn for.
    """
    if isinstance(component, DataSource) or component.condition_spec is None:
        return
    if metric is None:
        reason = "no metric was plugged in; inputs: {calibration: {use: metric:lc2st}} does so"
        return report.withhold("calibration", reason)
    count = min(len(sets.samples), len(sets.held_out))
    condition = index_condition(sets.held_out.condition, torch.arange(count))
    pairs = EvaluationBatch(sets.held_out.x[:count], sets.samples.x[None, :count], condition)
    try:
        units = Units.of(sets.scale, sets.training.x, "levels")
        measure = metric.start(units, tuple(sets.training.x.shape[1:]), component.condition_spec)
        measure.add(pairs)
        report.metrics |= measure.metrics()
        report.warnings += measure.warnings()
    except ScorefoldError as error:  # one that does not fit these events, such as too many numbers
        report.withhold("calibration", error.message)


def measure_quality(report: AuditReport, space: Space, options: AuditOptions, context: StageContext) -> None:
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
        "kernel distance", lambda: comparison.kernel_distance_test(q, y, permutations, generator, groups)
    )
    if kernel is not None:
        report.findings.append(verdicts.of_kernel(kernel, space.name))
        report.metrics["kernel distance"] = kernel.value
        report.metrics["Vendi score relative to held-out points"] = relative_vendi(q, y)
    _frechet(report, samples, held_out, training, generator)
    some_training = some(training, count, context.generator("divergence"))
    found = report.attempt(
        "likelihood divergence",
        lambda: likelihood_divergence(q, some_training, y, context.generator("divergence splits")),
    )
    if found is not None:
        report.metrics["likelihood divergence (FLD)"] = found.fld
        report.metrics["FLD gap"] = found.gap
        report.metrics["FLD gap of held-out points"] = found.gap_of_held_out


def _frechet(
    report: AuditReport,
    samples: torch.Tensor,
    held_out: torch.Tensor,
    training: torch.Tensor,
    generator: torch.Generator,
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
