"""The sampler of the published code, with its mistake."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.interfaces import Flow
from scorefold_pullback.data.density import energy, score
from scorefold_toolkit.data.manifolds import normal, uniform
from scorefold_toolkit.potential import Potential

STEP = 0.1


def published_chains(flow: Flow, psi: Potential, points: int, steps: int, seed: int) -> Tensor:
    """The last states (points, *E) of as many Langevin chains from the origin, accepted by the published ratio.

    A proposal is x' = x + e^2 s(x) / 2 + e xi, e = 0.1. It is accepted with the ratio p(x') / p(x) times
    exp((|x - x' + e^2 s(x') / 2|^2 - |x' - x + e^2 s(x) / 2|^2) / 2 e^2), in which the means of both proposals and the
    sign of the whole are wrong. Detailed balance then holds for p exp(e^2 |s|^2 / 4) in place of p: too wide across a
    thin curve, and for the squeezed banana no distribution at all.
    """
    x = torch.zeros(points, *flow.event_shape, dtype=torch.float64)
    drift, potential = score(flow, psi, x), energy(flow, psi, x)
    for step in range(steps):
        proposal = x + 0.5 * STEP**2 * drift + STEP * normal(tuple(x.shape), seed, "proposal", step)
        new_drift, new_potential = score(flow, psi, proposal), energy(flow, psi, proposal)
        back = (x - proposal + 0.5 * STEP**2 * new_drift).flatten(1).square().sum(1)
        forth = (proposal - x + 0.5 * STEP**2 * drift).flatten(1).square().sum(1)
        log_ratio = potential - new_potential + (back - forth) / (2 * STEP**2)
        accepted = uniform((points,), seed, "acceptance", step).log() < log_ratio
        x = torch.where(accepted[:, None], proposal, x)
        drift = torch.where(accepted[:, None], new_drift, drift)
        potential = torch.where(accepted, new_potential, potential)
    return x
