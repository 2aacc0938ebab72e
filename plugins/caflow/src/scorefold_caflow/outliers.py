"""Likelihoods as scores of how unusual a pair of image and condition is.

The likelihood of an image alone is a poor one: smooth images cost few bits wherever they come from (Nalisnick et al.
2019; Kirichenko et al. 2020). Two others ask less of it: what an image costs given its own condition against what it
costs given others', and what the condition itself costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Condition, index_condition
from scorefold.errors import ConfigError
from scorefold_caflow.flow import ImageFlow
from scorefold_caflow.parts import TwoEncoders


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs, (B,) each, in bits a dimension.

    ``cost`` is -log2 p(w | y) / dim(w). ``gain`` is log2 of p(w | y) / p(w), over dim(w): what w and y tell of each
    other, small or negative where they do not belong together; p(w) is taken as the mean of p(w | y') over the
    conditions y' of other pairs. ``condition_cost`` is -log2 p(y) / dim(y), high for an unusual condition; None for a
    flow that has no density of it.
    """

    cost: Tensor
    gain: Tensor
    condition_cost: Tensor | None


@torch.no_grad()
def pair_scores(
    flow: ImageFlow,
    x: Tensor,
    condition: Condition,
    *,
    others: int = 16,
    generator: torch.Generator | None = None,
) -> PairScores:
    """The scores of events x (B, C, H, W) and their conditions; the others' are those of the ``others`` rows after
    each, from the start again at the end: more of them tell better, and cost as many likelihoods. ``generator`` draws
    the noise of discrete data, the same for all conditions.

    Raises ``ConfigError`` for fewer than ``others`` + 1 pairs.
    """
    if not 1 <= others < len(x):
        raise ConfigError(
            f"{len(x)} pairs were given and others={others}; expected 1 or more, and more pairs than that",
            hint="give more pairs, or set others to a smaller number",
        )
    state = None if generator is None else generator.get_state()
    rows = torch.arange(len(x), device=x.device)

    def log_prob(given: Condition | None) -> Tensor:
        if generator is not None and state is not None:
            generator.set_state(state)
        return flow.log_prob(x, given, generator)

    own, unit = log_prob(condition), flow.dimension * math.log(2)
    mismatched = [log_prob(index_condition(condition, rows.roll(-shift))) for shift in range(1, others + 1)]
    marginal = torch.stack(mismatched).logsumexp(0) - math.log(others)
    return PairScores(-own / unit, (own - marginal) / unit, _condition_cost(flow, condition))


def _condition_cost(flow: ImageFlow, condition: Condition) -> Tensor | None:
    shape = flow.split.image_shape
    if shape is None or not isinstance(flow.parts, TwoEncoders):
        return None
    return -flow.condition_log_prob(condition) / (math.prod(shape) * math.log(2))
