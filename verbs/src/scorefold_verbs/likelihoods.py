"""The verbs ``evaluate`` and ``outliers``: log-likelihoods of points, and how unusual points are by them.

The likelihood of an image alone is a poor score: smooth images cost few bits wherever they come from (Nalisnick et al.
2019; Kirichenko et al. 2020). With a condition there are two more scores. One is the cost of a point given its own
condition, less its cost given other points' conditions. The other is the cost of the condition itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, index_condition
from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold.seeds import derive_seed
from scorefold.stage import Executor, Outcome, StageContext, reported
from scorefold_toolkit.checks import values_of
from scorefold_toolkit.data.splits import by_row, row_text
from scorefold_toolkit.distributions import log_density
from scorefold_toolkit.drawing import device_of, refuse_codes
from scorefold_toolkit.shards import in_shards
from scorefold_verbs.config import COST_LIMIT, LikelihoodOptions, OutlierOptions
from scorefold_verbs.inputs import Inputs, points_of
from scorefold_verbs.references import gaussian_log_density
from scorefold_verbs.verdicts import (
    UNLIKE_SHARE,
    above_limit,
    cost_limit,
    of_auroc,
    of_costs,
    of_costs_above,
    of_likelihood,
)


def evaluate_likelihood(
    component: ScoreModel | Flow, inputs: Inputs, options: LikelihoodOptions, context: StageContext
) -> Outcome:
    """The mean log-likelihood of held-out points, in nats and, for flows of discrete data, in bits per dimension.

    The density is in the model's units. Where continuous data were scaled, the log-likelihood in the units of the file
    is reported too. It is lower by the logarithms of the scale factors.

    The log-likelihood is compared with the exact log-likelihood where the data know their density. Where the model
    takes no condition and there are enough training points, it is also compared with a normal distribution fitted to
    them. Hands on ``{"log_prob": (N,) float64}`` by row, NaN for rows that were not asked about. Points of density 0,
    outside the limits of a model, have -inf. The answer is of the others and counts them, and a warning names
    them. Raises ``DataError`` for an empty split and for values that are NaN, ``ConfigError`` for a model whose
    condition is a code.
    """
    refuse_codes(component)
    source: DataSource = inputs["data"]
    dataset = points_of(source, _most(component, options), context)
    seed = context.seed("evaluate")
    every = log_probs(component, dataset, options, seed, executor=context.executor)
    rows, called = dataset.index, _called(source, dataset)
    warnings = _impossible(every, called)
    log_prob, dataset = every[every.isfinite()], dataset.take(every.isfinite().nonzero()[:, 0])
    metrics, answer = _likelihood(component, log_prob, _exact_log_prob(component, source, dataset))
    normal = None
    if component.condition_spec is None and component.event_scale.levels is None:
        normal = gaussian_log_density(source, dataset, context)
    if normal is not None:
        normal = -normal / math.prod(component.event_shape)
    given = (answer["quantity"], answer["value"], answer.get("interval"), normal, answer.get("truth"))
    answer |= of_likelihood(*given, levels=source.event_scale.levels, impossible=_counted(every))
    scaled = source.event_scale.log_volume(tuple(component.event_shape))
    if scaled != 0 and source.event_scale.levels is None:
        metrics["log-likelihood in the units of the file (nats)"] = float(log_prob.mean()) - scaled
    warnings += _alone(every, called, answer)
    result: dict[str, Any] = {"metrics": metrics, "points": len(every), "answer": answer}
    if warnings:
        result["warnings"] = warnings
    every = by_row(every, rows, source.rows)
    return Outcome({"log_prob": every}, result, {"log_prob": every})


def _called(source: DataSource, points: Dataset) -> list[str]:
    """Points in a sentence, by their rows."""
    places = range(len(points)) if points.index is None else points.index.tolist()
    return [row_text(source.rows, place) for place in places]


def _counted(log_prob: Tensor) -> str:
    """The number of points of density 0 as a sentence without its full stop; empty for none."""
    none = int(log_prob.isneginf().sum())
    return f"The model has density 0 at {none:,} of {len(log_prob):,} points" if none else ""


def _impossible(log_prob: Tensor, called: Sequence[str], *, some: bool = True) -> list[str]:
    """The warning of points of density 0. Raises ``DataError`` where all are such points and ``some`` others are
    needed."""
    none = log_prob.isneginf().nonzero()[:, 0].tolist()
    if not none:
        return []
    named = ", ".join(called[place] for place in none[:_NAMED])
    if some and len(none) == len(log_prob):
        raise DataError(
            f"the model has density 0 at all {len(none):,} points, such as {named}: they are outside its limits or far "
            "from its data",
            hint="check the units of the points; 'within' of the model and the results of 'inspect' show both ranges",
        )
    said = f"the model has density 0 at {len(none):,} of {len(log_prob):,} points ({named}), outside its limits or"
    return [f"{said} far from its data: means are of the others"]


def _alone(log_prob: Tensor, called: Sequence[str], answer: Mapping[str, Any]) -> list[str]:
    """The warning of one point with nearly all of the variance, which then makes the interval."""
    known = log_prob.where(log_prob.isfinite(), log_prob[log_prob.isfinite()].mean())
    squares = (known - known.mean()).square()
    place = int(squares.argmax())
    if len(known) < _FEW or not squares[place] > 0.9 * squares.sum():
        return []
    scale = answer["value"] / float(known.mean())
    others = scale * float(torch.cat([known[:place], known[place + 1 :]]).mean())
    own = f"{called[place]} alone has {scale * float(known[place]):.4g}"
    return [f"{own} and makes most of the interval: without it the {answer['quantity']} is {others:.3g}"]


_FEW = 20
"""The points from which on one of them is named that makes the interval."""

_NAMED = 3
"""The most points of density 0 that are named."""

_OF_SCORES = 256
"""The most points that a score evaluates where no limit is given."""


def _most(component: ScoreModel | Flow, options: LikelihoodOptions) -> int | None:
    return _OF_SCORES if options.limit is None and isinstance(component, ScoreModel) else options.limit


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
    parallel. Points of density 0 have -inf. Raises ``DataError`` for values that are NaN or inf.
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
    wrong = int((~(log_prob < math.inf)).sum())
    if wrong:
        raise DataError(
            f"{wrong} of {len(log_prob)} log-likelihoods are not numbers",
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
            found = values_of(model.log_prob, len(x), x, condition, generator=generator)
    else:
        ends = {"rtol": options.tolerance, "atol": options.tolerance}
        how = {"trace": options.trace, "probes": options.probes, "generator": generator}
        found = values_of(model.log_prob, len(x), x, condition, **how, **ends)
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


@dataclass(frozen=True)
class OutlierScores:
    """Scores of points, (N,) each in float64: the higher, the more unusual.

    ``cost`` is -log2 p(x | y) over dim(x), in bits a dimension. ``mismatch`` is log2 of p(x) / p(x | y) over dim(x),
    where p(x) is the mean of p(x | y') over the conditions of other points: below 0 where x and y belong together.
    ``condition_cost`` is -log2 p(y), in bits. None where the model has no condition, or no density of it.
    """

    cost: Tensor
    mismatch: Tensor | None
    condition_cost: Tensor | None

    def named(self) -> dict[str, Tensor]:
        """The scores that were computed, by name."""
        every = {"cost": self.cost, "mismatch": self.mismatch, "condition cost": self.condition_cost}
        return {name: score for name, score in every.items() if score is not None}


def outlier_scores(
    model: ScoreModel | Flow,
    dataset: Dataset,
    options: OutlierOptions = OutlierOptions(),  # noqa: B008 - frozen
    *,
    seed: int | None = None,
    executor: Executor | None = None,
) -> OutlierScores:
    """The scores of points and their conditions.

    A point is compared with the conditions of the ``others`` points that follow it; the first points follow the last.
    ``seed`` gives the noise of discrete data, the same for every condition; with None it is the middle of each level.
    Likelihoods are jobs like the jobs of ``evaluate``. Raises ``DataError`` for a conditional model and no more points
    than ``others``.
    """

    def log_prob(given: Dataset) -> Tensor:
        return log_probs(model, given, options, seed, executor=executor)

    unit = math.prod(model.event_shape) * math.log(2)
    own = log_prob(dataset)
    if model.condition_spec is None or dataset.condition is None:
        return OutlierScores(-own / unit, None, None)
    if len(dataset) <= options.others:
        raise DataError(
            f"{len(dataset)} points were given, too few to compare each with the conditions of {options.others} others",
            hint="give more points" + (f", or set others: {len(dataset) - 1}" if len(dataset) > 1 else ""),
        )
    rows = torch.arange(len(dataset))
    others = torch.stack(
        [
            log_prob(replace(dataset, condition=index_condition(dataset.condition, rows.roll(-shift))))
            for shift in range(1, options.others + 1)
        ]
    )
    marginal = others.logsumexp(0) - math.log(options.others)
    mismatch = ((marginal - own) / unit).where(own.isfinite(), math.inf)
    return OutlierScores(-own / unit, mismatch, _condition_cost(model, dataset, options))


def auroc(unusual: Tensor, usual: Tensor) -> float:
    """The probability that an unusual point scores above a usual one, ties counted half: the area under the ROC curve.

    1/2 is no better than chance.
    """
    ordered = usual.sort().values
    below = torch.searchsorted(ordered, unusual, right=False) + torch.searchsorted(ordered, unusual, right=True)
    return float(below.double().mean() / (2 * len(usual)))


ABOVE = "above the limit"
"""The array that says of each point whether it costs more than the limit."""

_COSTLIEST = 8
"""The most images that a figure shows of those that cost the most."""


def outliers(component: ScoreModel | Flow, inputs: Inputs, options: OutlierOptions, context: StageContext) -> Outcome:
    """Scores of held-out points, with the cost above which a point is unlike them; and how well the scores separate the
    points of ``unusual`` where these are given.

    ``above`` is this cost where other points gave it; the answer is then the share of points that cost more.
    Hands on the scores of each source by name, in the order of its rows, and whether each cost is above the limit: 1 or
    0, NaN for rows that were not asked about. Raises as ``evaluate``, and ``DataError`` for
    points without the conditions that the model takes.
    """
    refuse_codes(component)
    groups: dict[str, DataSource] = {"usual": inputs["data"]}
    if inputs.get("unusual") is not None:
        groups["unusual"] = inputs["unusual"]
    scores, rows, called, warnings = {}, {}, {}, list[str]()
    for name, source in groups.items():
        points = points_of(source, _most(component, options), context)
        if component.condition_spec is not None and points.condition is None:
            raise DataError(
                f"the {name} points have no conditions, and the model takes one for each",
                hint="give points with conditions, as the model was trained on, for example from data:paired",
            )
        found = outlier_scores(component, points, options, seed=context.seed("outliers"), executor=context.executor)
        scores[name] = found.named()
        called[name] = _called(source, points)
        warnings += _impossible(-found.cost, called[name], some=name == "usual" and options.above is None)
        rows[name] = {of: by_row(values, points.index, source.rows) for of, values in scores[name].items()}
    metrics: dict[str, float] = {}
    for of, values in scores["usual"].items():
        unit = "bits" if of == "condition cost" else "bits a dimension"
        if (values < math.inf).any():
            metrics[f"mean {of} ({unit})"] = float(values[values < math.inf].mean())
        if "unusual" in scores:
            metrics[f"AUROC by {of}"] = auroc(scores["unusual"][of], values)
    costs = scores["usual"]["cost"]
    if options.above is None:
        limit = cost_limit(costs)
        answer = of_costs(costs, called["usual"], limit, context.split or "test")
    else:
        limit = options.above
        answer = of_costs_above(limit, costs, called["usual"])
        if counted := _counted(-costs):
            answer["verdict"] = f"{counted}. {answer['verdict']}"
        metrics[UNLIKE_SHARE] = answer["value"]
    if limit is not None:
        metrics[COST_LIMIT] = limit
        for named in rows.values():
            named[ABOVE] = (named["cost"] > limit).double().where(~named["cost"].isnan(), math.nan)
    result: dict[str, Any] = {"metrics": metrics, "points": len(costs), "answer": answer}
    if warnings:
        result["warnings"] = warnings
    if "unusual" in scores:
        best = max((name for name in metrics if name.startswith("AUROC")), key=metrics.__getitem__)
        counts = [len(next(iter(scores[group].values()))) for group in groups]
        verdict = of_auroc(best.removeprefix("AUROC by "), metrics[best], unusual=counts[1], usual=counts[0])
        verdict["verdict"] += above_limit(limit, scores["unusual"]["cost"], called["unusual"])
        if counted := _counted(-costs):
            verdict |= {"verdict": f"{counted} that should be usual. {verdict['verdict']}", "sure": "with caution"}
        result["answer"] = {"quantity": best, "value": metrics[best], **verdict}
    flat = {
        (of if group == "usual" else f"unusual {of}"): values
        for group, named in rows.items()
        for of, values in named.items()
    }
    limits = {} if limit is None else {"limit": {"cost": torch.tensor(limit)}}
    # Of the last group, which are the points that were asked about.
    order = scores[name]["cost"].argsort(descending=True)[:_COSTLIEST].tolist() if len(points.event_shape) == 3 else []
    costliest = {f"{called[name][at][-12:]}\n{float(scores[name]['cost'][at]):.3g}": points.x[at] for at in order}
    return Outcome(flat, result, flat, shown={**scores, **limits, "costliest": costliest})


@torch.no_grad()
def _condition_cost(model: ScoreModel | Flow, dataset: Dataset, options: OutlierOptions) -> Tensor | None:
    if not isinstance(model, Flow):
        return None
    found: list[Tensor] = []
    for batch in dataset.batches(options.batch_size):
        assert batch.condition is not None
        log_prob = model.condition_log_prob(batch.condition)
        if log_prob is None:
            return None
        found.append(-log_prob.double().cpu() / math.log(2))
    return torch.cat(found)
