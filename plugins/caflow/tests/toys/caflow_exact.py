"""A flow that is the distribution of a Gaussian pair exactly."""

from __future__ import annotations

import torch
from caflow_models import image_flow

from scorefold.data import EventScale, TensorSpec
from scorefold_caflow.flow.model import ImageFlow
from scorefold_caflow.gaussian_pairs import GaussianPair
from scorefold_caflow.layers import AffineInjector
from scorefold_toolkit.nn import LULinear


@torch.no_grad()
def exact_flow(pair: GaussianPair) -> ImageFlow:
    """A flow of 4 x 4 images that is the distribution of a Gaussian pair.

    Both encoders are squeezes alone, so that what is squeezed once more has its 16 pixels as channels. The matrix of
    the only mixing is the precision's factor, and the injector, made linear, moves by the conditional mean.
    """
    flow = image_flow(
        event=(1, 4, 4),
        condition=TensorSpec((1, 4, 4)),
        scales=1,
        perturbed=0.0,
        scale=EventScale(),
        encoder={"steps": 0, "transitions": 0},
        translation={"steps": 1, "transitions": 0, "hidden": 32},
    )
    # The order in which pixels arrive as channels.
    order = (
        flow.parts.translation.entries[0]
        .squeeze(flow.parts.event_encoder(torch.arange(16.0, dtype=torch.float64).reshape(1, 1, 4, 4))[0][0])[0]
        .flatten()
        .long()
    )
    mean, covariance = pair.given(torch.eye(16, dtype=torch.float64))
    gain = mean.T  # E[w | y] = gain y
    white = torch.linalg.inv(torch.linalg.cholesky(covariance))[:, order]  # whitens w, in the order of channels
    mixing = next(one for one in flow.modules() if isinstance(one, LULinear))
    permutation, lower, upper = torch.linalg.lu(white)
    diagonal = upper.diagonal()
    mixing.factors.copy_(lower.tril(-1) + upper.triu(1) + diagonal.abs().log().diag())
    mixing.signs.copy_(diagonal.sign())
    mixing.order.copy_(permutation.argmax(1))
    injector = next(one for one in flow.modules() if isinstance(one, AffineInjector))
    network = injector.conditioner.network
    # silu(a) - silu(-a) = a: two units a channel carry it on, 16 channels by 32 units, through both activations.
    for parameter in network.parameters():
        parameter.zero_()
    unit = torch.eye(16, dtype=torch.float64)
    pairs = torch.cat((unit, -unit))
    network.first.weight[:, :, 1, 1] = pairs
    network.middle.weight[:, :, 0, 0] = pairs @ torch.cat((unit, -unit), 1)
    network.last.weight[16:, :, 1, 1] = -(white @ gain[order][:, order]) @ torch.cat((unit, -unit), 1)
    return flow
