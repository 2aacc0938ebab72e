"""Likelihoods of image flows as scores of unusual pairs, against closed forms; and what they can't show."""

from __future__ import annotations

import math

import pytest
import torch
from caflow_exact import exact_flow
from caflow_models import draws, image_flow, levels
from torch import Tensor

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import DataError
from scorefold.interfaces import TensorSource
from scorefold.stage import StageContext
from scorefold_caflow.config import GaussianPairsConfig
from scorefold_caflow.flow.model import ImageFlow
from scorefold_caflow.gaussian_pairs import GaussianPair, GaussianPairs, gaussian_pair
from scorefold_verbs.config import OutlierOptions
from scorefold_verbs.likelihoods import OutlierScores, auroc, outlier_scores, outliers


def scored(flow: ImageFlow, w: Tensor, y: Tensor, *, others: int = 16, seed: int | None = None) -> OutlierScores:
    return outlier_scores(flow, Dataset(x=w, condition=y), OutlierOptions(others=others), seed=seed)


def drawn(pair: GaussianPair, count: int, seed: int = 11) -> tuple[Tensor, Tensor]:
    joint = draws(count, 32, seed=seed) @ torch.linalg.cholesky(pair.joint).T
    w, y = (part.reshape(count, 1, 4, 4) for part in joint.split(16, 1))
    return w, y


def test_scores_are_those_of_the_exact_distribution() -> None:
    pair = gaussian_pair(GaussianPairsConfig(size=4))
    flow = exact_flow(pair)
    w, y = drawn(pair, 200)
    scores = scored(flow, w, y, others=3)
    unit = 16 * math.log(2)
    own = -pair.log_prob(w.flatten(1), y.flatten(1)) / unit
    others = [pair.log_prob(w.flatten(1), y.roll(-shift, 0).flatten(1)) for shift in (1, 2, 3)]
    marginal = torch.stack(others).logsumexp(0) - math.log(3)
    assert torch.allclose(scores.cost, own)
    assert scores.mismatch is not None
    assert torch.allclose(scores.mismatch, marginal / unit + own)
    assert scores.condition_cost is not None
    assert torch.allclose(scores.condition_cost, -flow.condition_log_prob(y) / math.log(2))


def test_mismatch_shows_pairs_that_do_not_belong_together_and_the_conditions_cost_unusual_conditions() -> None:
    pair = gaussian_pair(GaussianPairsConfig(size=4))
    flow = exact_flow(pair)
    (w, y), (_, other) = drawn(pair, 300), drawn(pair, 300, seed=12)
    usual, mismatched, loud = scored(flow, w, y), scored(flow, w, other), scored(flow, w, 2 * y)
    assert usual.mismatch is not None
    assert mismatched.mismatch is not None
    assert auroc(mismatched.mismatch, usual.mismatch) > 0.97
    assert usual.condition_cost is not None
    assert loud.condition_cost is not None
    assert auroc(loud.condition_cost, usual.condition_cost) > 0.8


def test_the_cost_alone_takes_dull_images_for_the_most_usual() -> None:
    """Why the two others are there: the mean given a condition, which no draw looks like, costs less than any draw."""
    pair = gaussian_pair(GaussianPairsConfig(size=4))
    flow = exact_flow(pair)
    w, y = drawn(pair, 200)
    dull = pair.given(y.flatten(1))[0].reshape_as(w)
    assert auroc(scored(flow, dull, y).cost, scored(flow, w, y).cost) < 0.01


def test_discrete_images_are_scored_with_the_same_noise_for_all_conditions() -> None:
    flow = image_flow(scale=levels(4))
    w = torch.randint(4, (6, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    same = w[:1].expand_as(w)  # one condition for all: nothing is gained by having one's own
    scores = scored(flow, w, same, others=2, seed=1)
    assert scores.mismatch is not None
    assert torch.allclose(scores.mismatch, torch.zeros_like(scores.mismatch), atol=1e-12)
    assert not torch.allclose(scores.cost, scored(flow, w, same, others=2, seed=2).cost)
    assert torch.allclose(scored(flow, w, same, others=2).cost, flow.bits_per_dim(w, same))


def test_what_has_no_density_of_its_condition_has_no_score_of_it() -> None:
    w, y = draws(4, 1, 8, 8), draws(4, 1, 8, 8, seed=4)
    assert scored(image_flow("cinn"), w, y, others=1).condition_cost is None
    assert scored(image_flow(condition=TensorSpec((2,))), w, draws(4, 2), others=1).condition_cost is None
    with pytest.raises(DataError, match="conditions of 4 others") as caught:
        scored(image_flow(), w, y, others=4)
    assert "set others: 3" in str(caught.value.hint)
    with pytest.raises(DataError, match="conditions of 1 others") as caught:
        scored(image_flow(), w[:1], y[:1], others=1)
    assert str(caught.value.hint) == "give more points"


def test_unusual_images_without_their_conditions_are_named() -> None:
    pairs = GaussianPairs(GaussianPairsConfig(size=8, points=100))
    alone = TensorSource(draws(20, 1, 8, 8, dtype=torch.float32))
    flow = image_flow(dtype=torch.float32)
    options, context = OutlierOptions(others=2), StageContext("odd")
    with pytest.raises(DataError, match="the unusual points have no conditions") as caught:
        outliers(flow, {"data": pairs, "unusual": alone}, options, context)
    assert "data:paired" in str(caught.value.hint)
    assert len(outliers(flow, {"data": pairs, "unusual": pairs}, options, context).arrays) == 6
