"""How sure the dimension at one point is: a bootstrap over its noises, to first order.

Resampling the noises and solving again would break an orthonormal design, and cost a decomposition each time. Instead
the directions found are held and what is read along each is resampled: along v_j the response is (1 - lambda_j) z plus
a remainder, of curvature and of the score's errors, and the remainder is what makes the reading uncertain.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scorefold_iddiff.local.spectra import Moments

Rule = Callable[[Tensor], tuple[Tensor, Tensor]]


def resampled_dimensions(
    moments: Moments, values: Tensor, vectors: Tensor, rule: Rule, spectrum: str, weights: Tensor
) -> Tensor:
    """The dimensions (R, P) by a rule from R resamples of the kept noises.

    ``values`` (P, D) and ``vectors`` (P, D, D) are the whole sample's: eigenvalues of the ``projector``, or singular
    values of ``centred`` or ``uncentred`` expected noises; ``weights`` (R, K) count each noise (of pairs, each pair).
    """
    assert moments.kept is not None
    weights = torch.cat([weights, torch.ones_like(weights[:1])]).to(vectors.dtype)  # the last: the whole sample
    along = vectors.new_zeros(len(vectors), len(weights), vectors.shape[-1])
    noises = torch.zeros_like(along)
    first = 0
    for noise, response, *even in moments.kept:
        part = weights[:, first : first + noise.shape[1]]
        first += noise.shape[1]
        z, e = noise.to(vectors.dtype) @ vectors, response.to(vectors.dtype)
        if spectrum == "projector":
            terms = z * (e @ vectors)
        else:
            if spectrum == "centred" and not moments.paired:
                e = e - (moments.response_sum / moments.count).to(e.dtype)[:, None]
            terms = (e @ vectors).square()
            if spectrum == "uncentred" and even:
                terms = terms + (even[0].to(vectors.dtype) @ vectors).square()
        along += part @ terms
        noises += part @ z.square()
    ratio = along / noises
    drawn, whole = ratio[:, :-1], ratio[:, -1:]
    if spectrum == "projector":
        drawn = values[:, None] - (drawn - whole)
    else:
        drawn = values[:, None] * (drawn / whole.clamp_min(1e-30)).sqrt()
    return rule(drawn.sort(dim=-1, descending=True).values)[0].mT


def resample_weights(resamples: int, noises: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """How often each of K noises is drawn in each of R resamples with replacement, (R, K)."""
    drawn = torch.randint(noises, (resamples, noises), generator=generator, device=generator.device)
    counts = torch.zeros(resamples, noises, dtype=torch.float64, device=generator.device)
    return counts.scatter_add_(1, drawn, torch.ones_like(counts)).to(like.device)
