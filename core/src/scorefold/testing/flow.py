"""Laws of flows (``scorefold.interfaces.Flow``)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp

from scorefold.data import DataSpec, EventScale
from scorefold.errors import ConfigError, ScorefoldError, ShapeError
from scorefold.testing.answers import ROWS
from scorefold.testing.contract import (
    Law,
    NotApplicableError,
    Subject,
    law,
    require,
    require_close,
    require_refusal,
    require_shape,
)

EXACT = 1e-9
LEVELS = 16


def _flow(subject: Subject) -> tuple[Any, Tensor]:
    """A flow without a condition, and continuous events for it."""
    flow = subject.stirred()
    if flow.condition_spec is not None:
        raise NotApplicableError("the example is conditional, and a flow need not work without its condition")
    # A little off the data, which may lie on a grid where a spline has its knots.
    x = subject.points(ROWS, flow.event_shape, flow.event_scale)
    return flow, x + 0.1 * flow.event_scale.std * subject.normal(*x.shape, purpose="off the grid")


@law("flow-shapes", "flow")
def flow_shapes(subject: Subject) -> str:
    """forward, inverse and log_prob keep (B, *E) and give (B,) for B = 3, 1 and 0."""
    flow, x = _flow(subject)
    for rows in (ROWS, 1, 0):
        for name, call in (("forward", flow), ("inverse", flow.inverse)):
            out, log_det = call(x[:rows])
            require_shape(f"{name} of {rows} events", out, (rows, *flow.event_shape))
            require_shape(f"log_det of {name} of {rows} events", log_det, (rows,))
        require_shape(f"log_prob of {rows} events", flow.log_prob(x[:rows]), (rows,))
    return "batches of 3, 1 and 0"


@law("flow-refuses-other-shapes", "flow")
def flow_refuses(subject: Subject) -> str:
    """Events of another shape are refused by a ShapeError in both directions."""
    flow, x = _flow(subject)
    wrong = x.new_zeros(len(x), *(size + 1 for size in flow.event_shape))
    require_refusal("forward of another shape", ShapeError, lambda: flow(wrong))
    return require_refusal("inverse of another shape", ShapeError, lambda: flow.inverse(wrong))


@law("invertible", "flow")
def invertible(subject: Subject) -> str:
    """inverse(forward(x)) = x, forward(inverse(z)) = z, and the two log-determinants cancel."""
    flow, x = _flow(subject)
    z0 = subject.normal(*x.shape, purpose="z")
    with torch.no_grad():
        z, log_det = flow(x)
        back, inverse_log_det = flow.inverse(z)
        there, _ = flow(flow.inverse(z0)[0])
    texts = [
        require_close("inverse of forward", back, x, 1e-7),
        require_close("forward of inverse", there, z0, 1e-7),
        require_close("log-determinants", inverse_log_det, -log_det, 1e-7),
    ]
    return "; ".join(texts)


@law("log-det-forward", "flow")
def log_det_forward(subject: Subject) -> str:
    """The log-determinant of forward is that of its Jacobian by autograd."""
    flow, x = _flow(subject)
    return _against_jacobian("forward", flow, x)


@law("log-det-inverse", "flow")
def log_det_inverse(subject: Subject) -> str:
    """The log-determinant of inverse is that of its Jacobian by autograd."""
    flow, x = _flow(subject)
    return _against_jacobian("inverse", flow.inverse, subject.normal(*x.shape, purpose="z"))


def _against_jacobian(name: str, call: Any, x: Tensor) -> str:
    if x[0].numel() > 256:
        raise NotApplicableError("the Jacobian takes too long for events of over 256 coordinates")
    expected = []
    for row in x:
        full = torch.autograd.functional.jacobian(lambda one: call(one[None])[0][0], row)
        expected.append(torch.linalg.slogdet(full.reshape(row.numel(), row.numel()))[1])
    with torch.no_grad():
        return require_close(f"log_det of {name}", call(x)[1], torch.stack(expected), 1e-7)


@law("forward-mode", "flow")
def forward_mode(subject: Subject) -> str:
    """Both directions work under torch.func.jvp, and agree with reverse mode."""
    flow, x = _flow(subject)
    v, w = subject.normal(*x.shape, purpose="v"), subject.normal(*x.shape, purpose="w")
    texts = []
    for name, call in (("forward", flow), ("inverse", flow.inverse)):
        tangent = jvp(lambda y, call=call: call(y)[0], (x,), (v,))[1]
        y = x.detach().requires_grad_()
        (pulled,) = torch.autograd.grad((call(y)[0] * w).sum(), y)
        texts.append(require_close(f"w J v of {name}", (tangent * w).sum(), (pulled * v).sum(), 1e-7))
    return "; ".join(texts)


@law("twice-differentiable", "flow")
def twice_differentiable(subject: Subject) -> str:
    """The gradient of log_prob can be differentiated again, and agrees with its difference quotient to 1e-4."""
    flow, x = _flow(subject)
    v, step = subject.normal(*x.shape, purpose="v"), 1e-5 * flow.event_scale.std

    def gradient(y: Tensor) -> Tensor:
        y = y if y.requires_grad else y.detach().requires_grad_()
        (found,) = torch.autograd.grad(flow.log_prob(y).sum(), y, create_graph=True)
        return found

    y = x.detach().requires_grad_()
    (product,) = torch.autograd.grad((gradient(y) * v).sum(), y)
    quotient = (gradient(x + step * v) - gradient(x - step * v)) / (2 * step)
    return require_close("Hessian times v", product, quotient, 1e-4)


@law("flow-rows-independent", "flow")
def flow_rows(subject: Subject) -> str:
    """What becomes of an event does not depend on what else is in the batch."""
    flow, x = _flow(subject)
    with torch.no_grad():
        alone = torch.cat([flow(x[i : i + 1])[0] for i in range(len(x))])
        return require_close("row by row", flow(x)[0], alone, EXACT)


@law("latents", "flow")
def latents(subject: Subject) -> str:
    """unpack gives one tensor for each of latent_shapes, which hold all of z in order."""
    flow, x = _flow(subject)
    sizes = [math.prod(shape) for shape in flow.latent_shapes]
    require(sum(sizes) == flow.dimension, f"latent_shapes hold {sum(sizes)} numbers; z has {flow.dimension}")
    parts = flow.unpack(x)
    require(len(parts) == len(sizes), f"unpack gives {len(parts)} latents; latent_shapes has {len(sizes)}")
    for index, (part, shape) in enumerate(zip(parts, flow.latent_shapes, strict=True)):
        require_shape(f"latent {index}", part, (ROWS, *shape))
    return require_close("latents in order", torch.cat([part.flatten(1) for part in parts], dim=1), x.flatten(1), 0.0)


@law("density", "flow")
def density(subject: Subject) -> str:
    """For continuous data log_prob is base.log_prob(z) + log_det, and bits per dimension are refused."""
    flow, x = _flow(subject)
    if flow.bin_width is not None:
        raise NotApplicableError("the data are discrete; see discrete-levels")
    require_refusal("bits_per_dim of continuous data", ConfigError, lambda: flow.bits_per_dim(x))
    with torch.no_grad():
        z, log_det = flow(x)
        return require_close("log_prob", flow.log_prob(x), flow.base.log_prob(z) + log_det, EXACT)


@law("discrete-levels", "flow")
def discrete_levels(subject: Subject) -> str:
    """For data of 16 levels on [0, 1], log_prob is a log-probability.

    That is the log-density at x + (u - 1/2) bin plus D log bin, with u = 1/2 without a generator and uniform draws
    with one; bits per dimension are -log_prob / (D log 2).
    """
    if not any(port.name == "data" and not port.whole for port in subject.component.requires):
        raise NotApplicableError("it takes no data whose scale could be set")
    scale = EventScale(low=0.0, high=1.0, levels=LEVELS, mean=0.5, std=0.3)
    try:
        flow = subject.stirred(ports={"data": DataSpec(subject.build().event_shape, scale)})
    except ScorefoldError as error:
        raise NotApplicableError(f"it takes no discrete data: {error.message}") from error
    width = 1 / (LEVELS - 1)
    x = (subject.normal(ROWS, *flow.event_shape).abs() * 4).floor().clamp(0, LEVELS - 1) * width
    with torch.no_grad():
        noisy = flow.dequantise(x, subject.generator("u"))
        moved = (noisy - x).abs().max()
        require(float(moved) > 0 and float(moved) <= width / 2 + 1e-12, f"dequantise moves x by up to {moved:.3g}")
        texts = []
        for name, generator, y in (("u = 1/2", None, x), ("u drawn", subject.generator("u"), noisy)):
            z, log_det = flow(y)
            expected = flow.base.log_prob(z) + log_det + flow.dimension * math.log(width)
            texts.append(require_close(f"log_prob with {name}", flow.log_prob(x, generator=generator), expected, EXACT))
        bits = -flow.log_prob(x) / (flow.dimension * math.log(2))
        texts.append(require_close("bits_per_dim", flow.bits_per_dim(x), bits, EXACT))
    return "; ".join(texts)


@law("temperature", "flow")
def temperature(subject: Subject) -> str:
    """At temperature 0 all draws are the image of the base's centre, by one number or one per latent.

    A negative temperature and another number of temperatures than of latents are refused.
    """
    flow, x = _flow(subject)
    count = len(flow.latent_shapes)
    centre = torch.as_tensor(flow.base.centre, dtype=x.dtype).expand(1, *flow.event_shape)
    with torch.no_grad():
        expected = flow.inverse(centre.contiguous())[0].expand(2, *flow.event_shape)
    cold = flow.sample(2, temperature=0.0, generator=subject.generator("sample"))
    each = flow.sample(2, temperature=[0.0] * count, generator=subject.generator("sample"))
    texts = [require_close("one number", cold, expected, EXACT), require_close("one per latent", each, expected, EXACT)]
    require_refusal("a negative temperature", ConfigError, lambda: flow.sample(1, temperature=-1.0))
    require_refusal("too many temperatures", ShapeError, lambda: flow.sample(1, temperature=[1.0] * (count + 1)))
    return "; ".join(texts)


LAWS: tuple[Law, ...] = (
    flow_shapes,
    flow_refuses,
    invertible,
    log_det_forward,
    log_det_inverse,
    forward_mode,
    twice_differentiable,
    flow_rows,
    latents,
    density,
    discrete_levels,
    temperature,
)
