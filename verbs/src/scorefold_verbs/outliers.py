"""The verb ``outliers``: likelihoods as scores of how unusual a point is, and how well they separate unusual points.

The likelihood of an image alone is a poor score: smooth images cost few bits wherever they come from (Nalisnick et al.
2019; Kirichenko et al. 2020). With a condition there are two others: what a point costs given its own condition against
what it costs given those of other points, and what the condition itself costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, index_condition
from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold.stage import Executor, Outcome, StageContext
from scorefold_toolkit.data.splits import by_row, row_text
from scorefold_toolkit.drawing import refuse_codes
from scorefold_verbs.config import OutlierOptions
from scorefold_verbs.evaluate import log_probs
from scorefold_verbs.inputs import Inputs, points_of
from scorefold_verbs.verdicts import above_limit, of_auroc, of_costs


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

    The others' conditions are those of the ``others`` points after each, from the start again at the end. ``seed``
    gives the noise of discrete data, the same whatever the condition; None is the middle of each level. Likelihoods are
    jobs as those of ``evaluate``. Raises ``DataError`` for a conditional model and no more points than ``others``.
    """

    def log_prob(given: Dataset) -> Tensor:
        return log_probs(model, given, options, seed, executor=executor)

    unit = math.prod(model.event_shape) * math.log(2)
    own = log_prob(dataset)
    if model.condition_spec is None or dataset.condition is None:
        return OutlierScores(-own / unit, None, None)
    if len(dataset) <= options.others:
        raise DataError(
            f"{len(dataset)} points were given, to be held to the conditions of {options.others} others each",
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
    return OutlierScores(-own / unit, (marginal - own) / unit, _condition_cost(model, dataset, options))


def auroc(unusual: Tensor, usual: Tensor) -> float:
    """The probability that an unusual point scores above a usual one, ties counted half: the area under the ROC curve.

    1/2 is no better than chance.
    """
    ordered = usual.sort().values
    below = torch.searchsorted(ordered, unusual, right=False) + torch.searchsorted(ordered, unusual, right=True)
    return float(below.double().mean() / (2 * len(usual)))


def outliers(component: ScoreModel | Flow, inputs: Inputs, options: OutlierOptions, context: StageContext) -> Outcome:
    """Scores of held-out points, with the cost above which a point is unlike them; and how well the scores separate the
    points of ``unusual`` where these are given.

    Hands on the scores by name, those of each source by row. Raises as ``evaluate``, and ``DataError`` for points
    without the conditions that the model takes.
    """
    refuse_codes(component)
    groups: dict[str, DataSource] = {"usual": inputs["data"]}
    if inputs.get("unusual") is not None:
        groups["unusual"] = inputs["unusual"]
    scores, rows, called = {}, {}, {}
    for name, source in groups.items():
        points = points_of(source, options.limit, context)
        if component.condition_spec is not None and points.condition is None:
            raise DataError(
                f"the {name} points have no conditions, and the model takes one for each",
                hint="give points as the model was trained on: with conditions, such as the conditions of data:paired",
            )
        found = outlier_scores(component, points, options, seed=context.seed("outliers"), executor=context.executor)
        scores[name] = found.named()
        places = range(len(points)) if points.index is None else points.index.tolist()
        called[name] = [row_text(source.rows, place) for place in places]
        rows[name] = {of: by_row(values, points.index, source.rows) for of, values in scores[name].items()}
    metrics: dict[str, float] = {}
    for name, values in scores["usual"].items():
        metrics[f"mean {name} (bits)" if name == "condition cost" else f"mean {name} (bits a dimension)"] = float(
            values.mean()
        )
        if "unusual" in scores:
            metrics[f"AUROC by {name}"] = auroc(scores["unusual"][name], values)
    costs = scores["usual"]["cost"]
    result: dict[str, Any] = {"metrics": metrics, "answer": of_costs(costs, called["usual"])}
    if "unusual" in scores:
        best = max((name for name in metrics if name.startswith("AUROC")), key=metrics.__getitem__)
        name, counts = best.removeprefix("AUROC by "), [len(next(iter(scores[group].values()))) for group in groups]
        verdict = of_auroc(name, metrics[best], unusual=counts[1], usual=counts[0])
        verdict["verdict"] += above_limit(costs, scores["unusual"]["cost"], called["unusual"])
        result["answer"] = {"quantity": best, "value": metrics[best], **verdict}
    flat = {
        (name if group == "usual" else f"unusual {name}"): values
        for group, named in rows.items()
        for name, values in named.items()
    }
    return Outcome(flat, result, flat, shown=scores)


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
