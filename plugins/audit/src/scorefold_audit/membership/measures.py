"""Membership: attacks, likelihoods and local dimensions of a model, into the report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold.stage import StageContext
from scorefold_audit import verdicts
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.nearest import Near, Numbers, dimension_of
from scorefold_audit.copying.spaces import Space
from scorefold_audit.membership.losses import (
    Membership,
    denoising_losses,
    likelihood_gap,
    local_dimensions,
    log_likelihoods,
    membership,
    proximal_errors,
    step_errors,
    time_at,
)
from scorefold_audit.report import AuditReport
from scorefold_audit.sets import Sets, to_model

_SHARPER = 0.1
"""The noise of local dimensions divided by the noise of losses: copies should look like points, not like neighbours."""

_LOW = 0.01

_MARGIN = 0.1
"""Dimensions that count as a difference: an exact score gives all points the same dimension but for far less."""


@dataclass(frozen=True)
class Measuring:
    """A model, and as many training as held-out points in its units."""

    model: ScoreModel | Flow
    training: Dataset
    held_out: Dataset
    samples: Dataset
    options: AuditOptions
    seed: int


def measure_membership(
    report: AuditReport,
    component: ScoreModel | Flow | DataSource,
    sets: Sets,
    space: Space,
    near: Near,
    options: AuditOptions,
    context: StageContext,
) -> None:
    """Losses, and likelihoods where they are asked for or come without an ODE."""
    if isinstance(component, DataSource):
        report.withhold("membership", "samples alone have no loss and no likelihood")
        return
    generator = context.generator("membership")
    count = min(options.membership_points, len(sets.training), len(sets.held_out))
    training, held_out, samples = (
        to_model(points.take(torch.randperm(len(points), generator=generator)[:count]), component, sets.scale, context)
        for points in (sets.training, sets.held_out, sets.samples)
    )
    measuring = Measuring(component, training, held_out, samples, options, context.seed("losses"))
    if isinstance(component, ScoreModel):
        noise = options.noise or noise_of(training, space, near)
        report.metrics["noise of the losses"] = noise
        _attacks(report, measuring, time_at(component, noise, training.x))
        _dimensions(report, measuring, noise)
        if options.likelihood == 0:
            report.withhold(
                "likelihood", "a score model's is an ODE for each point, which is slow; options: {likelihood: 100}"
            )
    else:
        report.withhold("local dimension", "a flow has no noise; it is measured of score models")
    if isinstance(component, Flow) or options.likelihood > 0:
        _likelihoods(report, measuring)


def _attacks(report: AuditReport, measuring: Measuring, t: Tensor) -> None:
    """The loss attack, which is tested, and two that need no noise."""
    model, options, seed = measuring.model, measuring.options, measuring.seed
    assert isinstance(model, ScoreModel)
    both = measuring.training, measuring.held_out
    size = options.batch_size
    losses = [denoising_losses(model, points, t, options.loss_draws, size, seed) for points in both]
    _tested(report, losses, len(measuring.training))
    for name, attack in (("PIA", proximal_errors), ("SecMI", step_errors)):
        errors = [attack(model, points, t, size, seed) for points in both]
        found = report.attempt(name, lambda errors=errors: membership(*errors))  # type: ignore[misc]
        if found is not None:
            _noted(report, found, f" by {name}")


def _tested(report: AuditReport, losses: list[Numbers], count: int) -> None:
    found = report.attempt("membership", lambda: membership(*losses))
    if found is not None:
        report.findings.append(verdicts.of_membership(found, count))
        _noted(report, found, "")


def _noted(report: AuditReport, found: Membership, by: str) -> None:
    report.metrics[f"training points with less loss than held-out points{by}"] = found.apart.area
    if found.found is not None:
        report.metrics[f"training points found at 1% false alarms{by}"] = found.found


def _likelihoods(report: AuditReport, measuring: Measuring) -> None:
    model, options = measuring.model, measuring.options
    both = measuring.training, measuring.held_out
    if isinstance(model, ScoreModel):
        both = tuple(points.take(torch.arange(min(len(points), options.likelihood))) for points in both)  # type: ignore[assignment]
    values = [log_likelihoods(model, points, options.batch_size, measuring.seed) for points in both]
    if isinstance(model, Flow):
        _tested(report, [-value for value in values], len(measuring.training))
    gap = report.attempt("likelihood", lambda: likelihood_gap(*values))
    if gap is not None:
        report.findings.append(verdicts.of_likelihoods(gap))
        report.metrics["log-likelihood of training points (nats)"] = gap.training
        report.metrics["log-likelihood of held-out points (nats)"] = gap.held_out


def _dimensions(report: AuditReport, measuring: Measuring, noise: float) -> None:
    """Local dimensions at one noise, and the share of samples that are as near to single points as few data are."""
    model, options = measuring.model, measuring.options
    assert isinstance(model, ScoreModel)
    if options.dimension_points == 0:
        report.withhold("local dimension", "options: {dimension_points: 100} measures it, by derivatives of the score")
        return
    noise = options.dimension_noise or _SHARPER * noise
    t = time_at(model, noise, measuring.training.x)
    signal_to_noise = float(model.process.log_snr(t).double().mean())
    report.metrics["noise of the local dimension"] = float(np.exp(-signal_to_noise / 2))
    sets = {"samples": measuring.samples, "training points": measuring.training, "held-out points": measuring.held_out}
    found = {
        name: local_dimensions(
            model,
            points.take(torch.arange(min(len(points), options.dimension_points))),
            t,
            options.batch_size,
            measuring.seed,
        )
        for name, points in sets.items()
    }
    for name, values in found.items():
        report.metrics[f"local dimension of {name} (median)"] = float(np.median(values))
    report.metrics["samples with a local dimension below 99% of held-out points"] = share_below(
        found["samples"], found["held-out points"]
    )


def share_below(samples: Numbers, held_out: Numbers) -> float:
    """The share of samples (m,) that are below 99 % of held-out points (h,) by a tenth of a dimension or more.

    >>> share_below(np.array([0.1, 1.85, 1.95, 2.0]), np.full(100, 2.0))
    0.5
    """
    return float((samples <= np.quantile(held_out, _LOW) - _MARGIN).mean())


def noise_of(points: Dataset, space: Space, near: Near) -> float:
    """Distance of held-out points from training points over the root of the dimension, in the units of the model: at
    most half a deviation of the data."""
    deviation = float(points.x.flatten(1).double().var(0, correction=0).mean().sqrt())
    dimension = dimension_of(near.ratio)
    share = float(np.median(near.distance)) / max(space.spread, 1e-30) / max(dimension, 1.0) ** 0.5
    return float(max(min(share, 0.5), 1e-3) * (deviation or 1.0))
