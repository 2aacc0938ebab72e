"""Points on manifolds that are known, and draws of densities under a shear, exact or by Langevin steps."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, Flow
from scorefold_pullback.config import (
    BananaDataConfig,
    HemisphereConfig,
    RiverDataConfig,
    SinusoidConfig,
    SqueezedBananaDataConfig,
)
from scorefold_pullback.flows.linear import Shear
from scorefold_toolkit.data.manifolds import Draw, ambient, isometry, seeded_normal, sphere_tangent, splits_of, uniform
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed
from scorefold_toolkit.numerics import pullback
from scorefold_toolkit.potential import Potential


def sinusoid(config: SinusoidConfig, seed: int) -> Draw:
    """x_j = sin(beta_j . z) + noise for j = 1..N-K, then z: z ~ N(0, variance I_K), beta_j ~ U[1, 2]^K drawn once."""
    k = config.dimension
    size = ambient(config.ambient, k + 1, f"a sinusoid of dimension {k}")
    z = math.sqrt(config.variance) * seeded_normal((config.points, k), seed, "points")
    beta = 1 + uniform((size - k, k), seed, "frequencies")
    phase = z @ beta.mT
    sines = phase.sin() + config.noise_std * seeded_normal((config.points, size - k), seed, "noise")
    tangent = None
    if config.tangents:
        flat = torch.eye(k, dtype=torch.float64).expand(config.points, k, k)
        tangent = torch.linalg.qr(torch.cat([phase.cos()[..., None] * beta, flat], dim=1)).Q
    return Draw(torch.cat([sines, z], dim=1), k, tangent)


def hemisphere(config: HemisphereConfig, seed: int) -> Draw:
    """(cos t_1, sin t_1 cos t_2, ..., prod sin t_i), t_1 ~ (pi/2) Beta(5, 5), the other angles uniform on [0, pi].

    Because those end at pi, the last coordinate is not below 0 either: for K = 2 it is a quarter of a sphere.
    """
    k = config.dimension
    size = ambient(config.ambient, k + 1, f"a {k}-sphere")
    basis = isometry(size, k + 1, seed, published=config.isometry)
    # The fifth of nine uniform numbers in order is Beta(5, 5).
    first = 0.5 * math.pi * uniform((config.points, 9), seed, "first angle").sort(1).values[:, 4:5]
    angle = torch.cat([first, math.pi * uniform((config.points, k - 1), seed, "angles")], dim=1)
    ones = torch.ones(config.points, 1, dtype=torch.float64)
    u = torch.cat([ones, angle.sin().cumprod(1)], dim=1) * torch.cat([angle.cos(), ones], dim=1)
    tangent = basis @ sphere_tangent(u) if config.tangents else None
    return Draw(u @ basis.mT, k, tangent)


class ManifoldSource(DataSource):
    """Points of a sinusoid or a hemisphere; ``truth`` holds ``dimension`` and, where asked for, ``tangent``.

    Raises ``ConfigError`` for too few coordinates and ``DataError`` for too few points.

    >>> from scorefold_registry import Host
    >>> cap = Host.discover().create("data:hemisphere", {"points": 200}).load("train")
    >>> cap.x.shape, int(cap.truth["dimension"])
    (torch.Size([160, 3]), 2)
    """

    def __init__(self, config: SinusoidConfig | HemisphereConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        if isinstance(config, SinusoidConfig):
            drawn, noise_std = sinusoid(config, seed), 0.0  # its noise is on the sines alone
        else:
            drawn, noise_std = hemisphere(config, seed), config.noise_std
        self._splits = splits_of(drawn, noise_std=noise_std, fractions=config.fractions, seed=seed)
        self.event_shape = self._splits["train"].event_shape
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


def energy(flow: Flow, psi: Potential, x: Tensor) -> Tensor:
    """psi(phi(x)), (B,): -log p up to a constant."""
    return psi.value(flow(x)[0])


def score(flow: Flow, psi: Potential, x: Tensor) -> Tensor:
    """-J^T grad psi(phi(x)), (B, *E): the gradient of log p.

    It is the gradient of the flow's own log-density where |det J| is constant.
    """
    slope = psi.grad(flow(x)[0])
    return -pullback(lambda y: flow(y)[0], x, slope)[1]


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
        proposal = x + 0.5 * STEP**2 * drift + STEP * seeded_normal(tuple(x.shape), seed, "proposal", step)
        new_drift, new_potential = score(flow, psi, proposal), energy(flow, psi, proposal)
        back = (x - proposal + 0.5 * STEP**2 * new_drift).flatten(1).square().sum(1)
        forth = (proposal - x + 0.5 * STEP**2 * drift).flatten(1).square().sum(1)
        log_ratio = potential - new_potential + (back - forth) / (2 * STEP**2)
        accepted = uniform((points,), seed, "acceptance", step).log() < log_ratio
        x = torch.where(accepted[:, None], proposal, x)
        drift = torch.where(accepted[:, None], new_drift, drift)
        potential = torch.where(accepted, new_potential, potential)
    return x


ShearDataConfig = BananaDataConfig | SqueezedBananaDataConfig | RiverDataConfig


class ShearSource(DataSource):
    """x = phi^-1(z) with z ~ N(0, diag(variances)): exact, or as the published code samples it.

    Events are (2,). ``truth`` holds each point's ``log_density`` under the exact distribution in nats, whichever
    sampler drew it. The distribution fills the plane, thinly across its curve, so that no dimension is called true.

    >>> from scorefold_registry import Host
    >>> banana = Host.discover().create("data:banana", {"points": 200}).load("train")
    >>> banana.x.shape
    torch.Size([160, 2])
    """

    def __init__(self, config: ShearDataConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        flow = Shear(config, dtype=torch.float64)
        if config.sampler == "exact":
            variances = torch.tensor(config.variances, dtype=torch.float64)
            x = flow.inverse(seeded_normal((config.points, 2), seed, "points") * variances.sqrt())[0]
        else:
            x = published_chains(flow, flow.base, config.points, config.chain_steps, seed)
        splits = splits_of(Draw(x, 2), noise_std=0.0, fractions=config.fractions, seed=seed)
        self._splits = {name: _with_density(dataset, flow) for name, dataset in splits.items()}
        self.event_shape = (2,)
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


def _with_density(dataset: Dataset, flow: Shear) -> Dataset:
    return replace(dataset, truth={"log_density": flow.log_prob(dataset.x.double())})
