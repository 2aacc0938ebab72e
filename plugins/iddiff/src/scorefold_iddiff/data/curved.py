"""Curved sets: the paper's non-uniform sphere and spaghetti line, the squiggly planes and the lollipop of FLIPD."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold.seeds import derive_generator
from scorefold_iddiff.config.data import LollipopConfig, NonUniformSphereConfig, SpaghettiConfig, SquigglyConfig
from scorefold_toolkit.data.manifolds import Draw, ambient, isometry, normal, sphere_tangent, uniform
from scorefold_toolkit.distributions import Points


def non_uniform_sphere(config: NonUniformSphereConfig, seed: int) -> Draw:
    """x_i = cos a_i prod_{j<i} sin a_j for i up to k, and x_{k+1} = prod_j sin a_j, with angles a ~ N(0, angle_std^2).

    Coordinates shrink geometrically, so that at a given noise only the first few directions can be seen. Stanczuk et
    al. 2024, the non-uniform k-spheres.
    """
    k = config.dimension
    size = ambient(config.ambient, k + 1, f"a {k}-sphere")
    basis = isometry(size, k + 1, seed, published=config.isometry)
    angle = config.angle_std * normal((config.points, k), seed, "points")
    ones = torch.ones(config.points, 1, dtype=torch.float64)
    u = torch.cat([ones, angle.sin().cumprod(1)], dim=1) * torch.cat([angle.cos(), ones], dim=1)
    tangent = basis @ sphere_tangent(u) if config.tangents else None
    return Draw(u @ basis.mT, k, tangent)


def spaghetti(config: SpaghettiConfig, seed: int) -> Draw:
    """x_j = sin(j t), j = 1..D, t uniform on [0, 1] (Stanczuk et al. 2024, the spaghetti line).

    The distribution is a sum over midpoints of the curve: for noise from their spacing on, it differs from the integral
    by less than 1e-8 of its value.
    """
    frequency = torch.arange(1, config.ambient + 1, dtype=torch.float64)

    def at(t: Tensor) -> Tensor:
        return (t[:, None] * frequency).sin()

    t = uniform((config.points,), seed, "points")
    tangent = None
    if config.tangents:
        velocity = frequency * (t[:, None] * frequency).cos()
        tangent = (velocity / velocity.norm(dim=1, keepdim=True))[..., None]
    middles = (torch.arange(config.nodes, dtype=torch.float64) + 0.5) / config.nodes
    return Draw(at(t), 1, tangent, distribution=Points(at(middles)))


def squiggly(config: SquigglyConfig, seed: int) -> Draw:
    """A standard normal distribution on a random k-plane, then ``repeats`` times: on half of the coordinates, drawn at
    random, x + sin(f x) / 2f; random signs; a random rotation.

    The slope of a bend is between 1/2 and 3/2, so the map is a diffeomorphism and the dimension stays. Kamkari et al.
    2024 (FLIPD), the squiggly manifolds of their benchmark; they leave open how many coordinates are bent.
    """
    k, f = config.dimension, config.frequency
    size = ambient(config.ambient, k, f"a {k}-dimensional plane")
    basis = isometry(size, k, seed)
    x = normal((config.points, k), seed, "points") @ basis.mT
    along = basis.expand(config.points, -1, -1) if config.tangents else None
    for step in range(config.repeats):
        bent = uniform((size,), seed, "bent", step) < 0.5
        turn = isometry(size, size, seed, step) * (2.0 * (uniform((size,), seed, "sign", step) < 0.5) - 1)
        if along is not None:
            slope = torch.where(bent, 1 + 0.5 * (f * x).cos(), 1.0)
            along = turn @ (slope[..., None] * along)
        x = torch.where(bent, x + (f * x).sin() / (2 * f), x) @ turn.mT
    return Draw(x, k, None if along is None else torch.linalg.qr(along).Q)


def lollipop(config: LollipopConfig, seed: int) -> Draw:
    """A disk of radius 1 around (3, 3), a stick from its rim to (1.5, 1.5), a dot at (0, 0): dimensions 2, 1 and 0.

    Uniform by area and by length; ``label`` 0, 1, 2 in this order. Kamkari et al. 2024 (FLIPD).
    """
    basis = isometry(ambient(config.ambient, 2, "a lollipop"), 2, seed)
    weights = torch.tensor(config.weights, dtype=torch.float64)
    label = torch.multinomial(weights, config.points, replacement=True, generator=derive_generator(seed, "label"))
    along, angle = uniform((2, config.points), seed, "points")
    angle = 2 * math.pi * angle
    disk = 3 + along.sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    rim = 3 - 1 / math.sqrt(2)
    stick = (1.5 + (rim - 1.5) * along)[:, None].expand(-1, 2)
    x = torch.stack([disk, stick, torch.zeros_like(disk)])[label, torch.arange(config.points)]
    return Draw(x @ basis.mT, 2 - label, label=label)
