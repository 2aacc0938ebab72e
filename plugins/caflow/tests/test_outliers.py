"""Likelihoods as scores of unusual pairs, against closed forms; and what they can't tell."""

from __future__ import annotations

import math

import pytest
import torch
from caflow_exact import exact_flow
from caflow_models import draws, image_flow, levels
from torch import Tensor

from scorefold.data import TensorSpec
from scorefold.errors import ConfigError
from scorefold_caflow.bounds import GaussianPair
from scorefold_caflow.data_config import GaussianPairsConfig
from scorefold_caflow.outliers import pair_scores
from scorefold_caflow.pairs import gaussian_pair


def told_apart(unusual: Tensor, usual: Tensor) -> float:
    """The probability that an unusual one scores above a usual one (the area under the ROC curve)."""
    return float((unusual[:, None] > usual[None]).double().mean())


def drawn(pair: GaussianPair, count: int, seed: int = 11) -> tuple[Tensor, Tensor]:
    joint = draws(count, 32, seed=seed) @ torch.linalg.cholesky(pair.joint).T
    w, y = (part.reshape(count, 1, 4, 4) for part in joint.split(16, 1))
    return w, y


def test_scores_are_those_of_the_exact_law() -> None:
    pair = gaussian_pair(GaussianPairsConfig(size=4))
    flow = exact_flow(pair)
    w, y = drawn(pair, 200)
    scores = pair_scores(flow, w, y, others=3)
    unit = 16 * math.log(2)
    own = -pair.log_prob(w.flatten(1), y.flatten(1)) / unit
    others = [pair.log_prob(w.flatten(1), y.roll(-shift, 0).flatten(1)) for shift in (1, 2, 3)]
    marginal = (sum(one.exp() for one in others) / 3).log()
    assert torch.allclose(scores.cost, own)
    assert torch.allclose(scores.gain, -marginal / unit - own)
    assert scores.condition_cost is not None
    assert torch.allclose(scores.condition_cost, -flow.condition_log_prob(y) / unit)


def test_gain_tells_pairs_that_do_not_belong_together_and_the_conditions_cost_unusual_conditions() -> None:
    pair = gaussian_pair(GaussianPairsConfig(size=4))
    flow = exact_flow(pair)
    (w, y), (_, other) = drawn(pair, 300), drawn(pair, 300, seed=12)
    usual, mismatched = pair_scores(flow, w, y), pair_scores(flow, w, other)
    assert told_apart(-mismatched.gain, -usual.gain) > 0.97
    loud = pair_scores(flow, w, 2 * y)
    assert usual.condition_cost is not None
    assert loud.condition_cost is not None
    assert told_apart(loud.condition_cost, usual.condition_cost) > 0.8


def test_the_cost_alone_takes_dull_images_for_the_most_usual() -> None:
    """Why the two others are there: the mean given a condition, which no draw looks like, costs less than any draw."""
    pair = gaussian_pair(GaussianPairsConfig(size=4))
    flow = exact_flow(pair)
    w, y = drawn(pair, 200)
    dull = pair.given(y.flatten(1))[0].reshape_as(w)
    assert told_apart(pair_scores(flow, dull, y).cost, pair_scores(flow, w, y).cost) < 0.01


def test_discrete_images_are_scored_with_the_same_noise_for_all_conditions() -> None:
    flow = image_flow(scale=levels(4))
    w = torch.randint(4, (6, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    same = w[:1].expand_as(w)  # one condition for all: nothing is gained by having one's own
    scores = pair_scores(flow, w, same, others=2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(scores.gain, torch.zeros_like(scores.gain), atol=1e-12)
    bits = flow.bits_per_dim(w, same, torch.Generator().manual_seed(1))
    assert torch.allclose(scores.cost, bits)


def test_what_has_no_density_has_no_score_and_few_pairs_are_refused() -> None:
    w, y = draws(4, 1, 8, 8), draws(4, 1, 8, 8, seed=4)
    assert pair_scores(image_flow("cinn"), w, y, others=1).condition_cost is None
    assert pair_scores(image_flow(condition=TensorSpec((2,))), w, draws(4, 2), others=1).condition_cost is None
    for others in (0, 4):
        with pytest.raises(ConfigError, match="4 pairs were given"):
            pair_scores(image_flow(), w, y, others=others)
