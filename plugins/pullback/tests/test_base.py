"""The base distribution of anisotropic flows: a normal distribution, its potential, and its variances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from scorefold_pullback.flows.mixture import AnisotropicNormal

VARIANCES = torch.tensor([[4.0, 0.25], [0.01, 1.0]], dtype=torch.float64)
FLOOR = 0.005


def distribution(learned: bool = True) -> AnisotropicNormal:
    made = AnisotropicNormal((2, 2), start=1.0, floor=FLOOR, learned=learned).double()
    made.set_variances(VARIANCES)
    return made


def points(rows: int = 7) -> Tensor:
    return torch.randn(rows, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_it_is_the_normal_distribution_with_its_variances() -> None:
    z = points()
    true = MultivariateNormal(torch.zeros(4).double(), VARIANCES.flatten().diag())
    torch.testing.assert_close(distribution().log_prob(z), true.log_prob(z.flatten(1)))
    drawn = distribution().sample((40_000, 2, 2), generator=torch.Generator().manual_seed(1), like=z)
    torch.testing.assert_close(drawn.square().mean(0), VARIANCES, rtol=0.05, atol=0)


def test_its_potential_is_the_negative_log_density_up_to_a_constant() -> None:
    base, z, v = distribution(), points().requires_grad_(), points().flip(0)
    (score,) = torch.autograd.grad(base.log_prob(z).sum(), z)
    with torch.no_grad():
        torch.testing.assert_close(base.grad(z), -score)
        torch.testing.assert_close(base.grad_inverse(base.grad(z)), z)
        torch.testing.assert_close(base.hessian_product(z, v), base.grad(v))
        torch.testing.assert_close(base.unwhiten(base.whiten(z)), z)
        torch.testing.assert_close(base.value(z) - base.value(z[:1]), base.log_prob(z[:1]) - base.log_prob(z))


@pytest.mark.parametrize("learned", [True, False])
def test_variances_that_are_set_are_those_it_has(learned: bool) -> None:
    base = distribution(learned)
    torch.testing.assert_close(base.variances.detach(), VARIANCES)
    base.set_variances(torch.full((2, 2), FLOOR / 2).double())
    assert bool(((base.variances > FLOOR) & (base.variances < 1.01 * FLOOR)).all())
    assert len(list(base.parameters())) == learned


def test_followed_variances_go_a_share_of_the_way() -> None:
    base = distribution(learned=False)
    base.follow(torch.full((3, 2, 2), math.sqrt(2)).double(), share=0.25)
    torch.testing.assert_close(base.variances, 0.75 * VARIANCES + 0.5)
