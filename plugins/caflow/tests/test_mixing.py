"""A normalisation and a mixing as one product are the two layers one after the other."""

from __future__ import annotations

import pytest
import torch
from caflow_models import draws, perturb

from scorefold_caflow.layers import AffineInjector, Mixing, Steps, channels_last
from scorefold_toolkit.nn import Chain, ConvConditioner, Householder, LULinear


@pytest.mark.parametrize("kind", [LULinear, Householder])
def test_both_at_once_are_one_after_the_other(kind: type[LULinear | Householder]) -> None:
    mixing = Mixing(4, kind(4)).double()
    perturb(mixing, 0.3)
    apart = Chain([mixing.norm, mixing.linear])
    x = draws(3, 4, 2, 6)
    for way in ("forward", "inverse"):
        found, truth = getattr(mixing, way)(x), getattr(apart, way)(x)
        torch.testing.assert_close(found, truth)
        gradients = [
            torch.autograd.grad(z.square().sum() + log_det, mixing.parameters()) for z, log_det in (found, truth)
        ]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("kind", [LULinear, Householder])
def test_steps_are_their_layers_one_after_the_other(kind: type[LULinear | Householder]) -> None:
    torch.manual_seed(0)
    injector = AffineInjector(ConvConditioner(3, 8, 6))
    steps = Steps([Mixing(4, kind(4)), Mixing(4, kind(4)), injector, Mixing(4, kind(4))]).double()
    perturb(steps, 0.3)
    plain = Chain(steps)
    x, condition = draws(3, 4, 2, 6).requires_grad_(), draws(3, 3, 2, 6, seed=4)
    for way in ("forward", "inverse"):
        found, truth = getattr(steps, way)(x, condition), getattr(plain, way)(x, condition)
        torch.testing.assert_close(found, truth)
        wanted = (x, *steps.parameters())
        gradients = [
            torch.autograd.grad((z.square().sum() + log_det.sum()), wanted, allow_unused=True)
            for z, log_det in (found, truth)
        ]
        torch.testing.assert_close(*gradients)


def test_it_starts_from_the_batch_that_it_is_given() -> None:
    mixing = Mixing(4, LULinear(4)).double()
    x = 3 + 2 * draws(50, 4, 2, 2)
    z = mixing.initialise(x)
    rotated = torch.linalg.solve(mixing.linear.matrix(), z.transpose(0, 1).flatten(1))
    torch.testing.assert_close(rotated.mean(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(rotated.std(1, correction=0), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-6)
    assert bool(mixing.norm.initialised)
    assert torch.equal(mixing.initialise(x + 1), mixing(x + 1)[0])


def test_channels_last_is_another_layout_of_the_same_images() -> None:
    x = draws(2, 3, 4, 5)
    last = channels_last(x)
    assert torch.equal(last, x)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.vmap(channels_last)(x[None])[0], x)
