"""The verb ``sample`` of scores and flows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale, map_condition
from scorefold.errors import SplitError
from scorefold.interfaces import (
    DataSource,
    Flow,
    ScoreModel,
    TensorSource,
)
from scorefold.stage import Outcome, StageContext
from scorefold_toolkit.data.splits import HasColumns, row_text
from scorefold_toolkit.drawing import device_of, draw_within
from scorefold_toolkit.figures import EventGroups
from scorefold_toolkit.nn.conditions import far_conditions
from scorefold_toolkit.score_matching.noise_levels import COVERING, short_noise
from scorefold_verbs.config import (
    SampleOptions,
)
from scorefold_verbs.inputs import Inputs, conditions_of, points_of
from scorefold_verbs.references import energy_distances, share_within, speckle_ratio
from scorefold_verbs.verdicts import of_samples


@torch.no_grad()
def sample(component: ScoreModel | Flow, inputs: Inputs, options: SampleOptions, context: StageContext) -> Outcome:
    """Draw samples, n for each of some conditions taken from the data where the model has any.

    They are handed on as (N, *E), all draws for one condition after those for another, each with its condition, and
    ``rows`` (N,) holds the rows of the data that these are from. With data, for a model without conditions, their
    energy distance from held-out points is reported, next to the distance of as many training points. Images have their
    speckle compared too. Raises ``ConfigError`` where a condition is needed and there is none, ``DataError`` for
    samples that are not finite.
    """
    generator = context.generator("sample", device=device_of(component))
    condition, rows, total = conditions_of(component, inputs.get("data"), options.conditions, context)
    x, counts = draw_within(component, options.n, condition, options, generator, context.precision)
    draws = x if condition is None else x.transpose(0, 1)
    flat = draws.reshape(-1, *component.event_shape).cpu()
    scale = component.event_scale
    bounded = scale.low is not None or scale.high is not None
    seen = draws.cpu().clamp(scale.low, scale.high) if bounded else draws.cpu()
    shown: Any = seen if condition is None else EventGroups(seen, "one condition")
    source: DataSource | None = inputs.get("data")
    names = source.column_names if isinstance(source, HasColumns) and x.dim() == 2 + (condition is not None) else ()
    named = names if len(names) == x.shape[-1] else ()
    metrics: dict[str, Any] = {"samples": len(flat), **_moments(draws.cpu(), scale, condition is not None, named)}
    if condition is not None:
        metrics |= {"conditions": x.shape[1], "conditions of the data": total}
    result: dict[str, Any] = {"metrics": metrics}
    found_within, few = share_within([counts], options.within)
    metrics |= found_within
    far = ""
    if condition is not None and isinstance(component, ScoreModel):
        far = far_samples(draws, scale, training_points(source, scale))
    if warnings := [each for each in (far_conditions(component, condition), far, *few) if each]:
        result["warnings"] = warnings
    if condition is not None and len(draws) <= _ROWS and options.n > 1 and x.dim() == 3 and x.shape[2] <= _SAID:
        known = None if source is None else source.rows
        places = [f"condition {place + 1}" for place in range(len(draws))]
        places = places if rows is None else [row_text(known, row) for row in rows.tolist()]
        result["answer"] = _said(draws.cpu(), scale, named, places)
    found = None if source is None or condition is not None else energy_distances(flat, source, context)
    if source is not None and found is not None:
        split = context.split or "test"
        quantity = f"energy distance from the {split} points"
        metrics[quantity] = found.samples
        if found.training is not None:
            metrics["energy distance of training points from them"] = found.training
        verdict = of_samples(found, split, speckle_ratio(seen, source, context))
        if (
            "advice" in verdict
            and isinstance(component, ScoreModel)
            and short_noise(component.process, scale, component.event_shape)
        ):
            verdict["advice"] = COVERING
        result["answer"] = {"quantity": quantity, "value": found.samples, **verdict}
        if len(component.event_shape) == 1:
            shown = EventGroups(seen[None], "samples", among=points_of(source, len(seen), context).tensor().cpu())
    given = map_condition(condition, lambda value: value.repeat_interleave(options.n, dim=0).cpu())
    handed = Dataset(flat, given, index=torch.arange(len(flat)))
    drawn = TensorSource({"test": handed}, scale, component.condition_spec)
    numbered = {} if rows is None else {"rows": rows.repeat_interleave(options.n)}
    return Outcome(drawn, result, {"samples": flat} | numbered, shown=shown)


def far_samples(draws: Tensor, scale: EventScale, points: Tensor | None = None) -> str:
    """The warning that some of n samples (C, n, *E) lie far from the others for their condition, and from all data;
    empty without, for fewer than 20 samples, and where they are more than 1 in 20.

    Far is a distance from the median more than 8 robust deviations (1.48 MAD) above the median distance, with a number
    more than 5 deviations from its mean over the data of this ``scale``. A tail or a rare mode of the posterior that
    the data reach is not far. Draws of data that have such a tail themselves can be. ``points`` (N, D) of the data give
    each number its own mean and deviation, and numbers within twice the reach of the data are not far.

    >>> draws = torch.randn(1, 100, 3, generator=torch.Generator().manual_seed(0))
    >>> far_samples(draws, EventScale())
    ''
    >>> draws[0, 7] = 50
    >>> far_samples(draws, EventScale())[:53]
    '1 of 100 samples lies far from the others for its con'
    """
    if not draws.numel() or draws.shape[1] < _FEWEST:
        return ""
    centre, deviation, reach = _units(draws, scale, points)
    flat = ((draws - centre) / deviation).double().flatten(2)
    distance = torch.linalg.vector_norm(flat - flat.median(1, keepdim=True).values, dim=2)
    gap = distance - distance.median(1, keepdim=True).values
    mad = 1.4826 * gap.abs().median(1, keepdim=True).values
    beyond = (flat.abs() > reach).any(2)
    far, count = int(((gap > _FAR * mad) & (mad > 0) & beyond).sum()), distance.numel()
    if not 0 < far <= _RARE * count:
        return ""
    lie = "lies far from the others for its" if far == 1 else "lie far from the others for their"
    return (
        f"{far:,} of {count:,} samples {lie} condition, more than {_BEYOND:.0f} deviations from the mean of the data. "
        "The data have a long tail, or the sampler has diverged. With score:mmps, compare solver_steps: 1"
    )


def training_points(source: DataSource | None, scale: EventScale) -> Tensor | None:
    """Training points (N, D) of a source of vectors, 10^7 numbers at most; None without, and of other data than the
    data of this ``scale``."""
    if source is None or len(source.event_shape) != 1 or source.event_scale != scale:
        return None
    with suppress(SplitError):
        return source.load("train").tensor(limit=max(1, 10**7 // source.event_shape[0]))
    return None


def _units(draws: Tensor, scale: EventScale, points: Tensor | None) -> tuple[Any, Any, Any]:
    """Mean and deviation of the numbers of draws (C, n, *E) over the data, and the deviations that data reach.

    Points (N, D) give these for each number, and a number that varies more over the draws gets their deviation.
    Without, the deviation of ``scale`` serves all numbers. The numbers of a vector that vary most over the draws get
    more.
    """
    if draws.dim() != 3:
        return scale.middle(draws), scale.std, _BEYOND
    rows = draws.flatten(0, 1)
    spread = (rows - rows.median(0).values).abs().median(0).values
    if points is not None and len(points):
        std, mean = (one.to(draws) for one in torch.std_mean(points.double(), 0, correction=0))
        std = std.maximum(1.4826 * spread)
        std = std.where(std > 0, scale.std)
        return mean, std, (2 * ((points.to(draws) - mean) / std).abs().amax(0)).clamp(min=_BEYOND)
    wider = (spread / spread.square().mean().sqrt()).nan_to_num(1.0).clamp(min=1.0)
    return scale.middle(draws), scale.std * wider, _BEYOND


def _said(draws: Tensor, scale: EventScale, names: Sequence[str], places: Sequence[str]) -> dict[str, Any]:
    """The answer of draws (C, n, D) for a few conditions: the mean and the deviation of each number, by its name where
    there are ``names`` (D,), in the units of the file. ``places`` (C,) name the conditions.

    >>> draws = torch.tensor([[[0.0, 10.0], [2.0, 30.0]], [[4.0, 10.0], [8.0, 10.0]]])
    >>> _said(draws[:1], EventScale(), (), ["row 0"])["verdict"]
    'Mean and deviation of 2 samples, by number: 1 ± 1, 20 ± 10.'
    >>> _said(draws, EventScale(), ("mass", "spin"), ["row 0", "row 1"])["verdict"]
    'Mean and deviation of 2 samples each: mass 1 ± 1, spin 20 ± 10 for row 0; mass 6 ± 2, spin 10 ± 0 for row 1.'
    """
    stds, means = torch.std_mean(scale.to_raw(draws).double(), 1, correction=0)
    parts = []
    for std, mean, place in zip(stds, means, places, strict=True):
        pairs = [f"{float(m):.4g} ± {float(s):.3g}" for m, s in zip(mean, std, strict=True)]
        each = ", ".join([f"{name} {pair}" for name, pair in zip(names, pairs, strict=True)] if names else pairs)
        parts.append(each if len(places) == 1 else f"{each} for {place}")
    counted = f"{draws.shape[1]:,} samples{' each' if len(places) > 1 else ''}{'' if names else ', by number'}"
    quantity = f"mean of {names[0] if names else 'number 1'}" + (f" for {places[0]}" if len(places) > 1 else "")
    verdict = f"Mean and deviation of {counted}: {'; '.join(parts)}."
    return {"quantity": quantity, "value": float(means[0, 0]), "verdict": verdict}


_SAID, _ROWS = 6, 3
"""The most numbers of an event, and the most conditions, whose means and deviations are a sentence."""

_FEWEST, _FAR, _BEYOND, _RARE = 20, 8.0, 5.0, 0.05

_NUMBERS = 32
"""The most numbers of an event whose means and deviations are shown one by one."""


def _moments(draws: Tensor, scale: EventScale, given: bool, names: Sequence[str]) -> dict[str, float]:
    """The mean and the deviation of draws (..., *E) in the units of the file: over all numbers, or of each number of a
    vector that is drawn given a condition or has units of its own. Draws for several conditions (C, n, D) are one set,
    which the names of the numbers say."""
    raw, vector = scale.to_raw(draws).double(), draws.dim() == 2 + given and draws.shape[-1] <= _NUMBERS
    if not vector or not (given or scale.per_coordinate):
        return {"mean": float(raw.mean()), "std": float(raw.std(correction=0))}
    std, mean = torch.std_mean(raw.flatten(0, -2), 0, correction=0)
    over = f" over {len(draws)} conditions" if given and len(draws) > 1 else ""
    return {
        f"{what} of {names[number] if names else f'number {number + 1}'}{over}": float(value)
        for number in range(len(mean))
        for what, value in (("mean", mean[number]), ("std", std[number]))
    }
