"""Broken flows and geometries."""

from __future__ import annotations

from typing import Any

import torch
from broken_fakes import breaks, changed
from good_fakes import SinhGeometry, SmallFlow
from torch import Tensor

from scorefold.interfaces import Flow, Geometry

FORWARD, INVERSE = SmallFlow.forward, SmallFlow.inverse
METRIC, EXP, LOG = SinhGeometry.metric, SinhGeometry.exp, SinhGeometry.log


def mapping(base: Any, change: Any) -> Any:
    """``forward`` or ``inverse`` changed by ``change(out, log_det, x, condition)``."""

    def call(self: Any, x: Tensor, c: Any = None) -> tuple[Tensor, Tensor]:
        out, log_det = base(self, x, c)
        found: tuple[Tensor, Tensor] = change(out, log_det, x, c)
        return found

    return call


def lone(x: Tensor, c: Any) -> bool:
    """Whether one event, or one class, is to serve for several."""
    return c is not None and len(c) != len(x)


breaks("flow-shapes", SmallFlow, forward=mapping(FORWARD, lambda z, d, x, c: (z.repeat(1 + (len(x) == 1), 1), d)))
breaks("flow-shapes", SmallFlow, forward=mapping(FORWARD, lambda z, d, x, c: (z, d.repeat(1 + (len(x) == 1)))))
breaks("flow-shapes", SmallFlow, log_prob=changed(Flow, "log_prob", lambda found, *_: found[:, None]))
breaks("flow-shapes", SmallFlow, log_prob=changed(Flow, "log_prob", lambda found, *_: found.tolist()))
breaks("flow-refuses-other-shapes", SmallFlow, forward=lambda self, x, c=None: (x, x.new_zeros(len(x))))
breaks("flow-refuses-other-shapes", SmallFlow, inverse=lambda self, z, c=None: (z, z.new_zeros(len(z))))
breaks("invertible", SmallFlow, inverse=mapping(INVERSE, lambda x, d, z, c: (x + 1e-4, d)))


def tires(self: Any, x: Tensor, c: Any = None) -> tuple[Tensor, Tensor]:
    """Right at the first call."""
    z, log_det = FORWARD(self, x, c)
    self.asked = getattr(self, "asked", -1) + 1
    return z + 1e-3 * self.asked, log_det


breaks("invertible", SmallFlow, inverse=mapping(INVERSE, lambda x, d, z, c: (x, 1.01 * d)))
breaks("invertible", SmallFlow, forward=tires)
breaks("invertible-given-class", SmallFlow, parts=lambda self, first, c: SmallFlow.parts(self, first, None))
breaks(
    "invertible-given-class",
    SmallFlow,
    forward=mapping(FORWARD, lambda z, d, x, c: (z + (lone(x, c) and len(c) == 1), d)),
)
breaks(
    "invertible-given-class",
    SmallFlow,
    forward=mapping(FORWARD, lambda z, d, x, c: (z + (lone(x, c) and len(x) == 1), d)),
)
breaks(
    "invertible-given-class",
    SmallFlow,
    forward=mapping(FORWARD, lambda z, d, x, c: (z, d + (lone(x, c) and len(x) == 1))),
)
breaks("log-det-forward", SmallFlow, forward=mapping(FORWARD, lambda z, d, x, c: (z, 1.01 * d)))
breaks("log-det-inverse", SmallFlow, inverse=mapping(INVERSE, lambda x, d, z, c: (x, 1.01 * d)))


class Doubled(torch.autograd.Function):
    """A function whose forward mode, by a rule of its own, is not its reverse mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return 3 * tangent


breaks("forward-mode", SmallFlow, forward=lambda self, x, c=None: FORWARD(self, Doubled.apply(x), c))


def once(self: Any, x: Tensor, c: Any = None, generator: Any = None) -> Tensor:
    """The right value and gradient, whose own gradient is lost."""
    value = Flow.log_prob(self, x, c, generator)
    if not x.requires_grad:
        return value
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach() + (gradient * (x - x.detach())).sum(1) + 0 * x.square().sum(1)


breaks("twice-differentiable", SmallFlow, log_prob=once)
breaks("flow-rows-independent", SmallFlow, forward=mapping(FORWARD, lambda z, d, x, c: (z - 0.1 * z.mean(0), d)))
breaks("latents", SmallFlow, latent_shapes=property(lambda self: ((2,), (1,))))
breaks("latents", SmallFlow, unpack=changed(Flow, "unpack", lambda found, *_: found[:1]))
breaks("latents", SmallFlow, unpack=changed(Flow, "unpack", lambda found, *_: [part.flatten(1) for part in found]))
breaks("latents", SmallFlow, unpack=changed(Flow, "unpack", lambda found, *_: [part.flip(1) for part in found]))
breaks("density", SmallFlow, log_prob=changed(Flow, "log_prob", lambda found, *_: found + 1e-3))
breaks("density", SmallFlow, bits_per_dim=lambda self, x, c=None, generator=None: x.sum(1))


def no_bin(self: Any, x: Tensor, c: Any = None, generator: Any = None) -> Tensor:
    z, log_det = self(self.dequantise(x, generator), c)
    density: Tensor = self.base.log_prob(z) + log_det
    return density


breaks("discrete-levels", SmallFlow, log_prob=no_bin)
breaks("discrete-levels", SmallFlow, dequantise=lambda self, x, generator=None: x)
breaks("discrete-levels", SmallFlow, bits_per_dim=lambda self, x, c=None, generator=None: -self.log_prob(x, c) / 4)


def tempered(change: Any) -> Any:
    """``sample`` with the temperature changed before it is used."""

    def sample(self: Any, n: int, c: Any = None, temperature: Any = 1.0, generator: Any = None) -> Tensor:
        found: Tensor = Flow.sample(self, n, c, change(temperature), generator)
        return found

    return sample


breaks("temperature", SmallFlow, sample=tempered(lambda given: 1.0))
breaks("temperature", SmallFlow, sample=tempered(lambda given: abs(given) if isinstance(given, float) else given))
breaks("temperature", SmallFlow, sample=tempered(lambda given: given if isinstance(given, float) else given[:2]))

# Geometries: the methods that others are made of are changed together with these, or not at all.


def answering(method: str, change: Any) -> dict[str, Any]:
    """A method of the geometry with its answer changed by ``change(answer, *arguments)``."""
    return {method: changed(SinhGeometry, method, change)}


breaks("geometry-shapes", SinhGeometry, **answering("metric", lambda g, x: g.diagonal(dim1=1, dim2=2)))
breaks("geometry-shapes", SinhGeometry, **answering("log", lambda v, x, y: v[:, :2]))
breaks("geometry-shapes", SinhGeometry, **answering("exp", lambda y, x, v: y[:, :2]))
breaks("geometry-shapes", SinhGeometry, **answering("distance", lambda d, x, y: d[:, None]))
breaks("geometry-shapes", SinhGeometry, **answering("geodesic", lambda path, x, y, s: path.transpose(0, 1)))
breaks("geometry-shapes", SinhGeometry, **answering("distance_matrix", lambda d, x, y=None: d.mT))
breaks("geometry-shapes", SinhGeometry, **answering("mean", lambda mean, *_: mean[None]))
breaks("geometry-batch-of-one", SinhGeometry, **answering("log", lambda v, x, y: v * (1 if len(x) == len(y) else 0.5)))
breaks("geometry-batch-of-one", SinhGeometry, **answering("exp", lambda y, x, v: y * (1 if len(x) == len(v) else 0.5)))
breaks(
    "geometry-batch-of-one", SinhGeometry, **answering("inner", lambda i, x, v, w: i * (1 if len(x) == len(v) else 2))
)
breaks(
    "geometry-refuses",
    SinhGeometry,
    mean=lambda self, points, weights=None: (
        Geometry.mean(self, points, weights) if len(points) else points.new_zeros(3)
    ),
)
breaks("geometry-refuses", SinhGeometry, mean=lambda self, points, weights=None: Geometry.mean(self, points))
breaks("geometry-refuses", SinhGeometry, geodesic=lambda self, x, y, s: Geometry.geodesic(self, x, y, s.flatten()))
breaks("metric-spd", SinhGeometry, **answering("metric", lambda g, x: g + torch.ones_like(g).triu(1)))
breaks("metric-spd", SinhGeometry, **answering("metric", lambda g, x: -g))
breaks("inner-of-metric", SinhGeometry, inner=lambda self, x, v, w: (v * w).sum(1))
breaks("inner-of-metric", SinhGeometry, **answering("inner", lambda i, x, v, w: i[:, None]))
breaks("inner-of-metric", SinhGeometry, norm=lambda self, x, v: v.norm(dim=1))
breaks("exp-log", SinhGeometry, exp=lambda self, x, v: x + v)


def short_log(v: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Wrong for points that are near, which none of the pairs (x, y) is."""
    near = (x - y).norm(dim=1, keepdim=True) < 0.5
    return torch.where(near, 2 * v, v)


breaks("exp-log", SinhGeometry, **answering("log", short_log))
breaks("distance", SinhGeometry, distance=lambda self, x, y: LOG(self, x, y).norm(dim=1))
breaks("distance", SinhGeometry, **answering("distance", lambda d, x, y: d + 0.1))
breaks("distance", SinhGeometry, **answering("distance", lambda d, x, y: 2 * d))
breaks(
    "distance",
    SinhGeometry,
    distance=lambda self, x, y: x.new_zeros(len(x)),
    log=lambda self, x, y: torch.zeros_like(x),
)
breaks("short-distances", SinhGeometry, distance=lambda self, x, y: (x - y).norm(dim=1))
breaks("triangle", SinhGeometry, **answering("distance", lambda d, x, y: d**2))
breaks("distance-matrix", SinhGeometry, distance_matrix=lambda self, x, y=None: torch.cdist(x, x if y is None else y))
breaks(
    "distance-matrix",
    SinhGeometry,
    distance_matrix=lambda self, x, y=None: (
        x.new_zeros(len(x), len(x)) if y is None else Geometry.distance_matrix(self, x, y)
    ),
)
breaks("constant-speed", SinhGeometry, **answering("geodesic", lambda path, x, y, s: path.flip(1)))
breaks("constant-speed", SinhGeometry, geodesic=lambda self, x, y, s: Geometry.geodesic(self, x, y, s**2))
breaks("mean-balances", SinhGeometry, mean=lambda self, points, weights=None: points.mean(0))
breaks("transport-isometric", SinhGeometry, transport=lambda self, x, y, v: v)
breaks("transport-isometric", SinhGeometry, **answering("transport", lambda w, x, y, v: -w))
breaks("transport-inverts", SinhGeometry, **answering("transport", lambda w, x, y, v: w * w.norm(dim=1, keepdim=True)))
breaks("transport-inverts", SinhGeometry, **answering("transport", lambda w, x, y, v: -w))
breaks(
    "transport-inverts",
    SinhGeometry,
    **answering("transport", lambda w, x, y, v: w.roll(1, 1) if bool((x != y).any()) else w),
)
breaks("closed-form-geodesics", SinhGeometry, geodesic=lambda self, x, y, s: Geometry.geodesic(self, x, y, s**2))
breaks("closed-form-geodesics", SinhGeometry, **answering("log", short_log))


def long_way(self: Any, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    """Right at the first of two times, and elsewhere at the second."""
    path = Geometry.geodesic(self, x, y, s)
    return path + 0.1 * (torch.arange(len(s)) == 1)[:, None]


breaks("closed-form-geodesics", SinhGeometry, geodesic=long_way)
