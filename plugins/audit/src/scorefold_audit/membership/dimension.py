"""The local dimension that a score model gives a point, which is low where the model has it as a single point."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion.divergence import divergence
from scorefold.interfaces import ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold_audit.copying.nearest import Numbers
from scorefold_audit.membership.losses import errors_of

_EXACT = 64
"""Coordinates up to which the trace is exact; above, it is taken from probes."""

_PROBES = 8


def local_dimensions(model: ScoreModel, points: Dataset, t: Tensor, batch_size: int, seed: int) -> Numbers:
    """LID = D + s^2 (tr grad score + |score|^2) of points (N,), with the score of the data with noise s.

    This is D + d ln p_s / d ln s, exact (Kamkari et al. 2024): the dimension of the model's distribution around a point
    as it looks at noise s, 0 for a point that stands alone, and below 0 or far above D far from all data. s is the
    ratio of noise to signal at time ``t`` (1,).
    """

    def dimension(score: BoundScore, x: Tensor) -> Tensor:
        # At signal a and noise b the data with noise b / a stand at a x, and s^2 score^2 is b^2 score_t^2.
        signal, scale = model.process.coefficients(x, t.expand(len(x)))
        generator = torch.Generator(x.device).manual_seed(seed)
        exact = x[0].numel() <= _EXACT

        def scaled(y: Tensor) -> Tensor:
            return -scale * model.process.noise_from_score(score(y, t.expand(len(y))), y, t.expand(len(y)))

        value, trace = divergence(
            scaled,
            signal * x,
            trace="exact" if exact else "hutchinson",
            probes=_PROBES,
            generator=generator,
            mode=model.divergence_mode,
        )
        squared = (value / scale).flatten(1).double().square().sum(1)
        return x[0].numel() + trace.detach().double() + squared

    return errors_of(model, points, batch_size, seed, dimension)
