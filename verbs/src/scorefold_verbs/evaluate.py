"""The verb ``evaluate``: log-likelihoods of held-out points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold.seeds import derive_seed
from scorefold.stage import Executor, Outcome, StageContext, reported
from scorefold_toolkit.data.splits import by_row
from scorefold_toolkit.distributions import log_density
from scorefold_toolkit.drawing import device_of, refuse_codes
from scorefold_toolkit.shards import in_shards
from scorefold_verbs.config import LikelihoodOptions
from scorefold_verbs.inputs import Inputs, points_of
from scorefold_verbs.verdicts import gaussian_log_density, of_likelihood


def evaluate_likelihood(
    component: ScoreModel | Flow, inputs: Inputs, options: LikelihoodOptions, context: StageContext
) -> Outcome:
    """The mean log-likelihood of held-out points, in nats and, for flows of discrete data, in bits per dimension.

    It is that of a density in the model's units; where continuous data were scaled, that in the units they were read
    in is given too, less by the logarithms of the factors.

    It is compared with the exact one where the data know their density, and with a normal distribution fitted to the
    training points where the model takes no condition and there are enough of these. Hands on
    ``{"log_prob": (N,) float64}`` by row, NaN for rows that were not asked about. Raises ``DataError`` for an empty
    split and for values that are not finite, ``ConfigError`` for a model whose condition is a code.
    """
    refuse_codes(component)
    source: DataSource = inputs["data"]
    dataset = points_of(source, options.limit, context)
    seed = context.seed("evaluate")
    log_prob = log_probs(component, dataset, options, seed, executor=context.executor)
    metrics, answer = _likelihood(component, log_prob, _exact_log_prob(component, source, dataset))
    normal = None
    if component.condition_spec is None and component.event_scale.levels is None:
        normal = gaussian_log_density(source, dataset, context)
    if normal is not None:
        normal = -normal / math.prod(component.event_shape)
    answer |= of_likelihood(answer["quantity"], answer["value"], answer.get("interval"), normal, answer.get("truth"))
    scaled = source.event_scale.log_volume(tuple(component.event_shape))
    if scaled != 0 and source.event_scale.levels is None:
        metrics["log-likelihood in the units of the file (nats)"] = float(log_prob.mean()) - scaled
    result = {"metrics": metrics, "points": len(log_prob), "answer": answer}
    log_prob = by_row(log_prob, dataset.index, source.rows)
    return Outcome({"log_prob": log_prob}, result, {"log_prob": log_prob})


def log_probs(
    model: ScoreModel | Flow,
    dataset: Dataset,
    options: LikelihoodOptions,
    seed: int | None,
    *,
    executor: Executor | None = None,
) -> Tensor:
    """log p(x | condition) of points in nats, (N,) in float64.

    ``seed`` gives the probes of traces and the noise of discrete data; with None the latter is the middle of each
    level. A batch has a seed of its own, and is a job where the model is on the CPU and the ``executor`` runs these in
    parallel. Raises ``DataError`` for values that are not finite.
    """
    batches = enumerate(dataset.batches(options.batch_size))
    shards = (
        LikelihoodShard(model, batch, options, None if seed is None else derive_seed(seed, number))
        for number, batch in batches
    )
    sent = executor if device_of(model).type == "cpu" else None
    found = in_shards(f"{__name__}:log_prob_of", shards, sent, "log-likelihoods")
    values = list(reported(found, len(dataset), "log-likelihoods", options.batch_size))
    log_prob = torch.cat(values).double()
    wrong = int((~torch.isfinite(log_prob)).sum())
    if wrong:
        raise DataError(
            f"{wrong} of {len(log_prob)} log-likelihoods are not finite",
            hint="check that the data are those the model was trained for, in its units",
        )
    return log_prob


@dataclass(frozen=True)
class LikelihoodShard:
    """The ``points`` whose log-likelihoods are one job, with the seed of what is random in them."""

    model: ScoreModel | Flow
    points: Dataset
    options: LikelihoodOptions
    seed: int | None


def log_prob_of(shard: LikelihoodShard) -> Tensor:
    """log p(x | condition) of a shard's points in nats, (n,) on the CPU."""
    model, x, options = shard.model, shard.points.x, shard.options
    condition = shard.points.condition if model.condition_spec is not None else None
    generator = None if shard.seed is None else torch.Generator(device_of(model)).manual_seed(shard.seed)
    if isinstance(model, Flow):
        with torch.no_grad():
            found = model.log_prob(x, condition, generator=generator)
    else:
        ends = {"rtol": options.tolerance, "atol": options.tolerance}
        found = model.log_prob(x, condition, trace=options.trace, probes=options.probes, generator=generator, **ends)
    return found.detach().cpu()


def _likelihood(
    component: ScoreModel | Flow, log_prob: Tensor, exact: Tensor | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics and the answer of log-likelihoods (N,), with the exact ones (N,) where they are known."""
    dimension = math.prod(component.event_shape)
    mean = float(log_prob.mean())
    metrics = {"log-likelihood (nats)": mean, "log-likelihood per dimension (nats)": mean / dimension}
    answer: dict[str, Any] = {"quantity": "negative log-likelihood (nats per dimension)"}
    scale = -1 / dimension
    if isinstance(component, Flow) and component.bin_width is not None:
        scale /= math.log(2)
        metrics["bits per dimension"] = scale * mean
        answer["quantity"] = "bits per dimension"
    answer["value"] = scale * mean
    if len(log_prob) > 1:
        error = float(log_prob.std()) / math.sqrt(len(log_prob))
        metrics["standard error (nats)"] = error
        answer["interval"] = [scale * (mean + 1.96 * error), scale * (mean - 1.96 * error)]
    if exact is not None:
        metrics["exact log-likelihood (nats)"] = float(exact.mean())
        answer["truth"] = scale * float(exact.mean())
    return metrics, answer


def _exact_log_prob(component: ScoreModel | Flow, source: DataSource, dataset: Dataset) -> Tensor | None:
    """The log-density of points under the distribution they come from, (N,), where it is known and the model is of that
    distribution."""
    distribution = source.distribution() if isinstance(source, KnowsDistribution) else None
    if distribution is None or component.condition_spec is not None:
        return None
    return log_density(distribution, dataset.tensor().cpu().flatten(1))
