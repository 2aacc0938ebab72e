"""Checks of capabilities (``scorefold.interfaces.capabilities``), whatever the kind.

``Trainable`` has a module of its own; what is ``ClosedFormGeodesics`` or ``Transports`` is a geometry, see there.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError
from scorefold_testing.answers import ROWS
from scorefold_testing.contract import (
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_close,
    require_same,
    require_shape,
)


def _encoding(subject: Subject) -> tuple[Any, Tensor]:
    obj = subject.stirred()
    return obj, subject.points(ROWS, obj.event_shape, getattr(obj, "event_scale", None))


@check("encodes-shapes", level="contract", capability="Encodes")
def encodes_shapes(subject: Subject) -> str:
    """encode gives (B, *latent_shape), decode (B, *E), encode_distribution a mean and a standard deviation >= 0."""
    obj, x = _encoding(subject)
    with torch.no_grad():
        z = obj.encode(x)
        require_shape("encode", z, (ROWS, *obj.latent_shape))
        require_shape("decode", obj.decode(z, generator=subject.generator("decode")), tuple(x.shape))
        mean, std = obj.encode_distribution(x)
    require_shape("the mean of the code", mean, tuple(z.shape))
    require_shape("the standard deviation of the code", std, tuple(z.shape))
    require(float(std.min()) >= 0, f"the least standard deviation is {float(std.min()):.3g}", "0 or more")
    return f"codes {tuple(obj.latent_shape)}"


@check("decode-follows-generator", level="determinism", capability="Encodes")
def decode_follows_generator(subject: Subject) -> str:
    """Decoded twice with generators of one seed, a code gives the same to the last bit."""
    obj, x = _encoding(subject)
    with torch.no_grad():
        z = obj.encode(x)
        first, again = (obj.decode(z, generator=subject.generator("decode")) for _ in range(2))
    require_same("a code decoded again from one seed", again, first)
    return "bit-equal from one seed"


@check("draw-codes", level="determinism", capability="Encodes")
def draw_codes(subject: Subject) -> str:
    """draw_codes gives (n, *latent_shape), the same from one seed and other codes from another, or ``ConfigError``."""
    obj = subject.stirred()
    with torch.no_grad():
        try:
            first = obj.draw_codes(ROWS, generator=subject.generator("codes"))
        except ConfigError as error:
            return f"no distribution of codes: {error.message}"
        again, other = (obj.draw_codes(ROWS, generator=subject.generator(name)) for name in ("codes", "other"))
    require_shape("draw_codes", first, (ROWS, *obj.latent_shape))
    require_same("codes drawn again from one seed", again, first)
    gap = float((first - other).abs().max())
    require(gap > 0, f"codes from two seeds differ by up to {gap:.2g}", "more than 0")
    return "bit-equal from one seed, different from two"


@check("noise-brings-back", level="numerics", capability="EncodesNoise")
def noise_brings_back(subject: Subject) -> str:
    """decode with the noise of encode_noise gives events back, to 5% of the largest coordinate.

    The noise may come from a solver with the component's own number of steps, hence the tolerance.
    """
    obj, x = _encoding(subject)
    with torch.no_grad():
        z = obj.encode(x)
        noise = obj.encode_noise(x, z)
        require_shape("encode_noise", noise, tuple(x.shape))
        back = obj.decode(z, generator=subject.generator("decode"), noise=noise)
    return require_close("decoded with its noise", back, x, 5e-2)


@check("code-of-distribution", level="numerics", capability="Encodes")
def code_of_distribution(subject: Subject) -> str:
    """encode gives the mean of the code, or within ten standard deviations of it."""
    obj, x = _encoding(subject)
    with torch.no_grad():
        mean, std = obj.encode_distribution(x)
        excess = ((obj.encode(x) - mean).abs() - 10 * std).clamp_min(0)
    return require_close("beyond ten deviations of the mean", excess, torch.zeros_like(excess), 1e-7)


@check("reconstructs", level="numerics", capability="Encodes")
def reconstructs(subject: Subject) -> str:
    """A deterministic code of as many coordinates as the event gives the event back, to 1e-4."""
    obj, x = _encoding(subject)
    with torch.no_grad():
        _, std = obj.encode_distribution(x)
        if math.prod(obj.latent_shape) < x[0].numel() or float(std.max()) > 0:
            raise NotApplicableError("its code is shorter than the event, or drawn: how near it comes is for training")
        return require_close("decoded", obj.decode(obj.encode(x), generator=subject.generator("decode")), x, 1e-4)


@check("potential-derivatives", level="numerics", capability="Potential", gradients=True)
def potential_derivatives(subject: Subject) -> str:
    """grad and hessian_product are the derivatives of value by autograd, grad_inverse inverts grad, value is convex."""
    obj = subject.stirred()
    shape = (3,) if obj.event_shape is None else obj.event_shape
    x = subject.normal(ROWS, *shape).requires_grad_()
    v = subject.normal(*x.shape, purpose="v")
    value = obj.value(x)
    require_shape("value", value, (ROWS,))
    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (product,) = torch.autograd.grad((gradient * v).sum(), x)
    point: Tensor = x.detach()
    texts = [
        require_close("grad", obj.grad(point), gradient, 1e-7),
        require_close("hessian_product", obj.hessian_product(point, v), product, 1e-7),
        require_close("grad_inverse of grad", obj.grad_inverse(obj.grad(point)), point, 1e-6),
    ]
    curvature = float((product * v).flatten(1).sum(1).min())
    require(curvature > 0, f"the least curvature along a direction is {curvature:.3g}", "more than 0")
    return "; ".join(texts)


@check("tasks-as-asked", level="contract", capability="TaskSource")
def tasks_as_asked(subject: Subject) -> str:
    """tasks gives so many pairs of a support and a query set of the sizes asked for, which share no point."""
    tasks = list(subject.build().tasks(4, 3, 2, subject.generator("tasks")))
    sizes = [(len(support), len(query)) for support, query in tasks]
    require(sizes == [(3, 2)] * 4, f"4 tasks of 3 and 2 examples were asked for; they have {sizes}", "[(3, 2)] * 4")
    for support, query in tasks:
        shared = int((support.tensor()[:, None] == query.tensor()[None]).flatten(2).all(2).sum())
        require(shared == 0, f"a support and a query set share {shared} points", "0")
    return "4 tasks of 3 and 2 examples"


@check("tasks-follow-generator", level="determinism", capability="TaskSource")
def tasks_follow_generator(subject: Subject) -> str:
    """A generator's tasks are the same again, and another generator's are others."""
    obj = subject.build()
    first, again, other = (_points(obj.tasks(4, 3, 2, subject.generator(name))) for name in ("one", "one", "other"))
    require_same("tasks drawn again from one seed", again, first)
    gap = float((first - other).abs().max())
    require(gap > 0, f"tasks from two seeds differ by up to {gap:.2g}", "more than 0")
    return "bit-equal from one seed, different from two"


def _points(tasks: Any) -> Tensor:
    both: list[Dataset] = [part for pair in tasks for part in pair]
    return torch.cat([part.tensor() for part in both])


CHECKS: tuple[Check, ...] = (
    encodes_shapes,
    decode_follows_generator,
    draw_codes,
    noise_brings_back,
    code_of_distribution,
    reconstructs,
    potential_derivatives,
    tasks_as_asked,
    tasks_follow_generator,
)
