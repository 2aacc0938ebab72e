"""How varied samples are next to held-out points, and a Frechet distance that copies make worse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

COPIED = 0.1
"""A mean cosine distance to training points below this counts as copying in MiFID."""


def vendi(points: Tensor, width: float) -> float:
    """The Vendi score of points (N, D): how many points that are all unlike each other would be as varied, 1 to N.

    exp of the entropy of the eigenvalues of K / N, K = exp(-r^2 / 2 width^2) (Friedman and Dieng 2023). A cosine kernel
    would see no more than D.

    >>> round(vendi(100 * torch.eye(5), 1.0), 6), round(vendi(torch.zeros(5, 2), 1.0), 6)
    (5.0, 1.0)
    """
    x = points.double()
    kernel = torch.exp(-torch.cdist(x, x).square() / (2 * width**2)) / len(x)
    values = torch.linalg.eigvalsh(kernel).clamp_min(0)
    return float(torch.special.entr(values).sum().exp())


def relative_vendi(samples: Tensor, held_out: Tensor) -> float:
    """The Vendi score of samples over that of as many held-out points, with these points' median distance as width.

    1 for equal distributions, below 1 where modes are missing; noise raises it.
    """
    apart = torch.pdist(held_out.double())
    width = float(apart.median()) or 1.0
    return vendi(samples, width) / vendi(held_out, width)


def cosine_distance(samples: Tensor, training: Tensor) -> float:
    """The mean over samples (m, D) of 1 - |cos| to the training point (n, D) that is nearest by it."""
    q, y = normalize(samples.double(), dim=1), normalize(training.double(), dim=1)
    nearest = torch.cat([(1 - (part @ y.T).abs()).amin(1) for part in q.split(256)])
    return float(nearest.mean())


def memorisation_informed(frechet: float, samples: Tensor, training: Tensor) -> float:
    """MiFID: a Frechet distance over the mean cosine distance of samples to training points, where that is below 0.1.

    The mean is over samples, as by its authors (Bai et al. 2021): over training points, one copied point would count
    once, however often it is sampled.
    """
    apart = cosine_distance(samples, training)
    return frechet / (apart if apart < COPIED else 1.0) if apart > 0 else float("inf")
