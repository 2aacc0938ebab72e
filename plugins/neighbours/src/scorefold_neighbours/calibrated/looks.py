"""Looks of points at several scales, in a few fast numbers, by which surrogates that resemble the data are chosen."""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = (3, 6, 12, 25, 50)
"""The neighbours whose distances are compared."""

AROUND = 30
"""Neighbours in the local spectra, at up to this many points times four."""

TOUCHING = 1e-4
"""The least distance that counts, as a share of the spread: products of coordinates round to 1e-8 of it."""

EVEN = 1e-3
"""Smallest growth of distances that counts, in logarithms: on a coarse grid many distances are equal."""

SEPARATED = 0.8
"""The share of its own squared norm above which another point's projection counts as near (Albergante et al. 2019)."""


def look(x: Tensor, seen: int) -> Tensor:
    """Numbers (M,) above 0 of points (n, r) on principal axes, of which the first ``seen`` are looked at globally.

    They are: the maximum-likelihood dimension by several numbers of neighbours; distances of neighbours over the
    spread; the slope of the correlation integral, and how unequal distances of neighbours are; the participation ratio
    of local spectra, and how many of their variances are above a twentieth of the largest; the share of pairs that
    hyperplanes don't separate; the tails of distances from the mean and of coordinates.
    """
    n = len(x)
    kept = [count for count in NEIGHBOURS if count < n // 2]
    norms = x.norm(dim=1)
    spread = norms.square().mean().sqrt()
    between = torch.cdist(x, x)
    distances, order = between.topk(kept[-1] + 1, largest=False)
    distances = distances[:, 1:].clamp(min=TOUCHING * float(spread))
    small, large = distances[:, kept[1] - 1].median(), distances[:, kept[-1] - 1].median()
    # A radius is the distance of a pair, which rounding must not put on either side of it.
    counts = [torch.count_nonzero(between < radius * (1 + 1e-6)) - n for radius in (small, large)]
    pairs = [count.clamp(min=1).double() for count in counts]
    dense, sparse = torch.quantile(distances[:, kept[1] - 1], torch.tensor([0.1, 0.9], dtype=x.dtype))
    density = [(pairs[1] / pairs[0]).log() / (large / small).log().clamp(min=EVEN) + 0.01, sparse / dense]
    logs = distances.log()
    slopes = [1 / (logs[:, count - 1] - logs[:, : count - 1].mean(1)).mean().clamp(min=EVEN) for count in kept]
    lengths = [distances[:, count - 1].median() / spread for count in (1, kept[-1])]
    around = x[order[: 4 * AROUND, : min(AROUND, kept[-1]) + 1]]
    centred = around - around.mean(1, keepdim=True)
    # The products of m points are fewer than those of r coordinates where r is large.
    products = centred @ centred.mT if centred.shape[1] < x.shape[1] else centred.mT @ centred
    spectra = torch.linalg.eigvalsh(products).clamp(min=0).flip(1)
    local = [
        (spectra.sum(1).square() / spectra.square().sum(1)).mean(),
        (spectra > 0.05 * spectra[:, :1]).double().sum(1).mean(),
    ]
    y = x[:, :seen] / x[:, :seen].std(0).clamp(min=1e-12 * float(spread))
    unit = y / y.norm(dim=1, keepdim=True).clamp(min=1e-12)
    near = (torch.count_nonzero(unit @ unit.T > SEPARATED).double() - n) / (n * (n - 1)) + 1 / n**2
    tails = [norms.clamp(min=1e-12 * float(spread)).log().std() + 0.01, y.pow(4).mean()]
    return torch.stack([*slopes, *lengths, *density, *local, near, *tails])
