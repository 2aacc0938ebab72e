"""Checks of flows (``scorefold.interfaces.Flow``)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp

from scorefold.data import Condition, DataSpec, EventScale
from scorefold.diffusion.divergence import forward_rules
from scorefold.errors import ConfigError, ScorefoldError, ShapeError
from scorefold_testing.answers import ROWS, draw_condition
from scorefold_testing.contract import (
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_close,
    require_refusal,
    require_shape,
)
from scorefold_testing.score import CLASSES, model_of_classes, rows_of_condition

forward_rules()  # whatever a plugin asks of forward mode, torch's warning at its first use is over

EXACT = 1e-9
LEVELS = 16


def _flow(subject: Subject) -> tuple[Any, Tensor, Condition | None]:
    """A flow, continuous events for it and, where it takes one, a condition."""
    flow = subject.stirred()
    x = subject.points(ROWS, flow.event_shape, flow.event_scale)
    # A little off the data, which may lie on a grid where a spline has its knots.
    x = x + 0.1 * flow.event_scale.std * subject.normal(*x.shape, purpose="off the grid")
    return flow, x, draw_condition(flow.condition_spec, ROWS, subject, torch.float64)


@check("flow-shapes", "flow", level="contract")
def flow_shapes(subject: Subject) -> str:
    """forward, inverse and log_prob keep (B, *E) and give (B,) for B = 3, 1 and 0."""
    flow, x, condition = _flow(subject)
    for rows in (ROWS, 1, 0):
        c = rows_of_condition(condition, slice(rows))
        for name, call in (("forward", flow), ("inverse", flow.inverse)):
            out, log_det = call(x[:rows], c)
            require_shape(f"{name} of {rows} events", out, (rows, *flow.event_shape))
            require_shape(f"log_det of {name} of {rows} events", log_det, (rows,))
        require_shape(f"log_prob of {rows} events", flow.log_prob(x[:rows], c), (rows,))
    return "batches of 3, 1 and 0"


@check("flow-refuses-other-shapes", "flow", level="contract")
def flow_refuses(subject: Subject) -> str:
    """Events of another shape are refused by a ShapeError in both directions."""
    flow, x, condition = _flow(subject)
    wrong = x.new_zeros(len(x), *(size + 1 for size in flow.event_shape))
    require_refusal("forward of another shape", ShapeError, lambda: flow(wrong, condition))
    return require_refusal("inverse of another shape", ShapeError, lambda: flow.inverse(wrong, condition))


@check("invertible", "flow", level="numerics")
def invertible(subject: Subject) -> str:
    """inverse(forward(x)) = x, forward(inverse(z)) = z, and the two log-determinants cancel."""
    flow, x, condition = _flow(subject)
    return _inverts(flow, x, subject.normal(*x.shape, purpose="z"), condition)


@check("invertible-given-class", "flow", level="numerics")
def invertible_given_class(subject: Subject) -> str:
    """Built for data with classes, it is invertible given them, depends on them, and broadcasts one event or class."""
    flow = model_of_classes(subject)
    x = subject.points(CLASSES, flow.event_shape, flow.event_scale)
    z, classes = subject.normal(*x.shape, purpose="z"), torch.arange(CLASSES)
    with torch.no_grad():
        change = float((flow(x, classes)[0] - flow(x, classes.roll(1))[0]).abs().max())
        require(change > 0, f"with the classes exchanged z changes by {change:.2g}", "more than 0")
        one_class = flow(x, classes[:1].expand(CLASSES))
        one_event = flow(x[:1].expand_as(x).contiguous(), classes)
        texts = [
            require_close("one class", flow(x, classes[:1])[0], one_class[0], EXACT),
            require_close("one event", flow(x[:1], classes)[0], one_event[0], EXACT),
            require_close("log_det of one event", flow(x[:1], classes)[1], one_event[1], EXACT),
        ]
    return "; ".join([_inverts(flow, x, z, classes), *texts])


def _inverts(flow: Any, x: Tensor, z0: Tensor, condition: Condition | None) -> str:
    with torch.no_grad():
        z, log_det = flow(x, condition)
        back, inverse_log_det = flow.inverse(z, condition)
        there, _ = flow(flow.inverse(z0, condition)[0], condition)
    texts = [
        require_close("inverse of forward", back, x, 1e-7),
        require_close("forward of inverse", there, z0, 1e-7),
        require_close("log-determinants", inverse_log_det, -log_det, 1e-7),
    ]
    return "; ".join(texts)


@check("log-det-forward", "flow", level="numerics", gradients=True)
def log_det_forward(subject: Subject) -> str:
    """The log-determinant of forward equals the log-determinant of its Jacobian by autograd."""
    flow, x, condition = _flow(subject)
    return _against_jacobian("forward", flow, x, condition)


@check("log-det-inverse", "flow", level="numerics", gradients=True)
def log_det_inverse(subject: Subject) -> str:
    """The log-determinant of inverse equals the log-determinant of its Jacobian by autograd."""
    flow, x, condition = _flow(subject)
    return _against_jacobian("inverse", flow.inverse, subject.normal(*x.shape, purpose="z"), condition)


def _against_jacobian(name: str, call: Any, x: Tensor, condition: Condition | None) -> str:
    if x[0].numel() > 256:
        raise NotApplicableError("the Jacobian takes too long for events of over 256 coordinates")
    expected = []
    for i, row in enumerate(x):
        c = rows_of_condition(condition, slice(i, i + 1))
        full = torch.autograd.functional.jacobian(lambda one, c=c: call(one[None], c)[0][0], row)
        expected.append(torch.linalg.slogdet(full.reshape(row.numel(), row.numel()))[1])
    with torch.no_grad():
        return require_close(f"log_det of {name}", call(x, condition)[1], torch.stack(expected), 1e-7)


@check("forward-mode", "flow", level="numerics", gradients=True)
def forward_mode(subject: Subject) -> str:
    """Both directions work under torch.func.jvp, and agree with reverse mode."""
    flow, x, condition = _flow(subject)
    v, w = subject.normal(*x.shape, purpose="v"), subject.normal(*x.shape, purpose="w")
    texts = []
    for name, call in (("forward", flow), ("inverse", flow.inverse)):
        tangent = jvp(lambda y, call=call: call(y, condition)[0], (x,), (v,))[1]
        y = x.detach().requires_grad_()
        (pulled,) = torch.autograd.grad((call(y, condition)[0] * w).sum(), y)
        texts.append(require_close(f"w J v of {name}", (tangent * w).sum(), (pulled * v).sum(), 1e-7))
    return "; ".join(texts)


@check("twice-differentiable", "flow", level="numerics", gradients=True)
def twice_differentiable(subject: Subject) -> str:
    """The gradient of log_prob can be differentiated again, and agrees with its difference quotient to 1e-4."""
    flow, x, condition = _flow(subject)
    v, step = subject.normal(*x.shape, purpose="v"), 1e-5 * flow.event_scale.std

    def gradient(y: Tensor) -> Tensor:
        y = y if y.requires_grad else y.detach().requires_grad_()
        (found,) = torch.autograd.grad(flow.log_prob(y, condition).sum(), y, create_graph=True)
        return found

    y = x.detach().requires_grad_()
    (product,) = torch.autograd.grad((gradient(y) * v).sum(), y)
    quotient = (gradient(x + step * v) - gradient(x - step * v)) / (2 * step)
    return require_close("Hessian times v", product, quotient, 1e-4)


@check("flow-rows-independent", "flow", level="numerics")
def flow_rows(subject: Subject) -> str:
    """The result for an event does not depend on the other events of the batch."""
    flow, x, condition = _flow(subject)
    rows = [slice(i, i + 1) for i in range(len(x))]
    with torch.no_grad():
        alone = torch.cat([flow(x[row], rows_of_condition(condition, row))[0] for row in rows])
        return require_close("row by row", flow(x, condition)[0], alone, EXACT)


@check("latents", "flow", level="contract")
def unpack_gives_latents(subject: Subject) -> str:
    """unpack gives one tensor for each of latent_shapes, which hold all of z in order."""
    flow, x, _ = _flow(subject)
    sizes = [math.prod(shape) for shape in flow.latent_shapes]
    require(sum(sizes) == flow.dimension, f"latent_shapes hold {sum(sizes)} numbers", f"{flow.dimension}, as z does")
    parts = flow.unpack(x)
    require(len(parts) == len(sizes), f"unpack gives {len(parts)} latents", f"{len(sizes)}, as latent_shapes has")
    for index, (part, shape) in enumerate(zip(parts, flow.latent_shapes, strict=True)):
        require_shape(f"latent {index}", part, (ROWS, *shape))
    return require_close("latents in order", torch.cat([part.flatten(1) for part in parts], dim=1), x.flatten(1), 0.0)


@check("density", "flow", level="numerics")
def density(subject: Subject) -> str:
    """For continuous data log_prob is base.log_prob(z) + log_det, and bits per dimension are refused."""
    flow, x, condition = _flow(subject)
    if flow.bin_width is not None:
        raise NotApplicableError("the data are discrete; see discrete-levels")
    require_refusal("bits_per_dim of continuous data", ConfigError, lambda: flow.bits_per_dim(x, condition))
    with torch.no_grad():
        z, log_det = flow(x, condition)
        return require_close("log_prob", flow.log_prob(x, condition), flow.base.log_prob(z) + log_det, EXACT)


@check("discrete-levels", "flow", level="numerics")
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
        moved = float((noisy - x).abs().max())
        text = f"dequantise moves x by up to {moved:.3g}"
        require(0 < moved <= width / 2 + 1e-12, text, f"more than 0, at most {width / 2:.3g}")
        texts = []
        for name, generator, y in (("u = 1/2", None, x), ("u drawn", subject.generator("u"), noisy)):
            z, log_det = flow(y)
            expected = flow.base.log_prob(z) + log_det + flow.dimension * math.log(width)
            texts.append(require_close(f"log_prob with {name}", flow.log_prob(x, generator=generator), expected, EXACT))
        bits = -flow.log_prob(x) / (flow.dimension * math.log(2))
        texts.append(require_close("bits_per_dim", flow.bits_per_dim(x), bits, EXACT))
    return "; ".join(texts)


@check("temperature", "flow", level="numerics")
def temperature(subject: Subject) -> str:
    """At temperature 0 all draws are the image of the base's centre, by one number or one per latent.

    A negative temperature and another number of temperatures than of latents are refused.
    """
    flow, x, condition = _flow(subject)
    count, generator = len(flow.latent_shapes), subject.generator("sample")
    rows = 1 if condition is None else ROWS
    centre = torch.as_tensor(flow.base.centre, dtype=x.dtype).expand(rows, *flow.event_shape)
    with torch.no_grad():
        expected = flow.inverse(centre.contiguous(), condition)[0]
    for name, cold in (("one number", 0.0), ("one per latent", [0.0] * count)):
        draws = flow.sample(2, condition, temperature=cold, generator=generator)
        require_close(f"cold draws by {name}", draws.reshape(2, *expected.shape)[1], expected, EXACT)
    ask = partial(flow.sample, 1, condition, generator=generator)
    require_refusal("a negative temperature", ConfigError, partial(ask, temperature=-1.0))
    several = [1.0] * (count + 1)
    return require_refusal("too many temperatures", ShapeError, partial(ask, temperature=several))


CHECKS: tuple[Check, ...] = (
    flow_shapes,
    flow_refuses,
    invertible,
    invertible_given_class,
    log_det_forward,
    log_det_inverse,
    forward_mode,
    twice_differentiable,
    flow_rows,
    unpack_gives_latents,
    density,
    discrete_levels,
    temperature,
)
