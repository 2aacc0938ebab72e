"""One fake for each law of the kit, broken in just the way that the law is there to find."""

from __future__ import annotations

import time
from typing import Any

import torch
from good_fakes import (
    TRAINED,
    GaussianScore,
    Neighbours,
    Pixels,
    Points,
    SinhGeometry,
    SmallFlow,
    Sums,
    Tens,
    Toy,
    declare,
)
from torch import Tensor

from scorefold.interfaces import Geometry, ScoreModel
from scorefold.plugin import Component

BREAKS: dict[str, str] = {}
"""The component that breaks each law."""
COMPONENTS: list[Component] = []

_DECLARED: dict[type, tuple[str, dict[str, Any]]] = {
    Points: ("data", {}),
    Pixels: ("data", {}),
    GaussianScore: ("score", dict(TRAINED)),
    SmallFlow: ("flow", dict(TRAINED)),
    SinhGeometry: ("geometry", {"provides": ("Transports", "ClosedFormGeodesics")}),
    Neighbours: ("estimator", {}),
    Tens: ("allocator", {}),
    Sums: ("network", {}),
    Toy: ("toy", {"provides": ("Encodes", "Potential", "TaskSource")}),
}


def breaks(law: str, base: type, /, declared: dict[str, Any] | None = None, **methods: Any) -> None:
    """Registers a component that is ``base`` but for some methods or some of its declaration."""
    kind, more = _DECLARED[base]
    name = "Breaks" + "".join(word.capitalize() for word in law.split("-"))
    globals()[name] = type(name, (base,), {"__module__": __name__, **methods})
    component = declare(kind, f"breaks-{law}", f"broken_fakes:{name}", **{**more, **(declared or {})})
    COMPONENTS.append(component)
    BREAKS[law] = component.id


# The declaration.

breaks("declared-examples", Tens, {"examples": ()})
breaks("documented", Tens, {"config": "light_config:UndescribedConfig"})
breaks("lazy-declaration", Tens, {"config": "heavy_config:HeavyConfig"})
breaks("constructor", Tens, __init__=lambda self, settings: None)
breaks("provides", Tens, {"provides": ("Potential",)})


def slow_start(self: Any, config: Any) -> None:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass


breaks("builds-in-time", Tens, __init__=slow_start)

# Randomness, dtypes, state.

calls = iter(range(10**9))
breaks(
    "same-generator-same-result",
    SinhGeometry,
    distance=lambda self, x, y: SinhGeometry.distance(self, x, y) + 1e-3 * next(calls),
)
breaks("inputs-unchanged", GaussianScore, score=lambda self, x, t, c=None: GaussianScore.score(self, x.mul_(1.1), t, c))


def draws_globally(self: Any, x: Tensor, v: Tensor) -> Tensor:
    return SinhGeometry.exp(self, x, v) + 0 * torch.rand(1)


breaks("global-random-state", SinhGeometry, exp=draws_globally)
breaks("dtype-kept", SinhGeometry, exp=lambda self, x, v: SinhGeometry.exp(self, x, v).double())


def keeps_a_secret(self: Any, config: Any, *, data: Any) -> None:
    GaussianScore.__init__(self, config, data=data)
    # A random number in a plain attribute: no state holds it.
    self.secret = float(torch.rand(()))


breaks(
    "saved-state",
    GaussianScore,
    __init__=keeps_a_secret,
    score=lambda self, x, t, c=None: self.secret * GaussianScore.score(self, x, t, c),
)

# Scores.

breaks("score-shape", GaussianScore, score=lambda self, x, t, c=None: GaussianScore.score(self, x, t, c)[:, :2])


def ignores_one(self: Any, x: Tensor, t: Tensor, c: Any = None) -> Tensor:
    return torch.zeros_like(x) if len(t) == 1 and len(x) > 1 else GaussianScore.score(self, x, t, c)


breaks("score-batch-of-one", GaussianScore, score=ignores_one)


def centred(self: Any, x: Tensor, t: Tensor, c: Any = None) -> Tensor:
    score = GaussianScore.score(self, x, t, c)
    return score - score.mean(0)


breaks("score-rows-independent", GaussianScore, score=centred)
breaks("score-refuses-other-shapes", GaussianScore, score=lambda self, x, t, c=None: -x)
breaks("score-of-density", GaussianScore, score=lambda self, x, t, c=None: 1.01 * GaussianScore.score(self, x, t, c))
breaks("noise-of-score", GaussianScore, noise=lambda self, x, t, c=None: -ScoreModel.noise(self, x, t, c))
breaks("denoise-by-tweedie", GaussianScore, denoise=lambda self, x, t, c=None: x)
breaks("bind-is-score", GaussianScore, bind=lambda self, c=None, **options: lambda x, t: 2 * self.score(x, t, c))
breaks(
    "sample-shape",
    GaussianScore,
    sample=lambda self, n, c=None, **options: torch.zeros(max(n, 0), 1, *self.event_shape),
)
breaks(
    "sample-follows-generator",
    SmallFlow,
    sample=lambda self, n, c=None, temperature=1.0, generator=None: torch.zeros(n, *self.event_shape),
)


def conditions_first(self: Any, n: int, c: Any = None, **options: Any) -> Tensor:
    draws = ScoreModel.sample(self, n, c, **options)
    return draws if c is None else draws.transpose(0, 1)


breaks("conditional-sample-shape", GaussianScore, sample=conditions_first)
breaks("log-prob-shape", GaussianScore, log_prob=lambda self, x, c=None, **options: torch.zeros(len(x), 1))

# Flows.


def flat_log_det(self: Any, x: Tensor, c: Any = None) -> tuple[Tensor, Tensor]:
    z, log_det = SmallFlow.forward(self, x, c)
    return z, log_det[:, None]


breaks("flow-shapes", SmallFlow, forward=flat_log_det)


def takes_anything(self: Any, z: Tensor, c: Any = None) -> tuple[Tensor, Tensor]:
    return z, z.new_zeros(len(z))


breaks("flow-refuses-other-shapes", SmallFlow, inverse=takes_anything)


def shifted(self: Any, z: Tensor, c: Any = None) -> tuple[Tensor, Tensor]:
    x, log_det = SmallFlow.inverse(self, z, c)
    return x + 1e-4, log_det


breaks("invertible", SmallFlow, inverse=shifted)


def scaled_log_det(direction: str) -> Any:
    def call(self: Any, x: Tensor, c: Any = None) -> tuple[Tensor, Tensor]:
        out, log_det = getattr(SmallFlow, direction)(self, x, c)
        return out, 1.01 * log_det

    return call


breaks("log-det-forward", SmallFlow, forward=scaled_log_det("forward"))
breaks("log-det-inverse", SmallFlow, inverse=scaled_log_det("inverse"))


class Doubled(torch.autograd.Function):
    """A function with a reverse mode only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


breaks("forward-mode", SmallFlow, forward=lambda self, x, c=None: SmallFlow.forward(self, Doubled.apply(x), c))


def once(self: Any, x: Tensor, c: Any = None, generator: Any = None) -> Tensor:
    """The right value and gradient, whose own gradient is lost."""
    value = super(SmallFlow, self).log_prob(x, c, generator)
    if not x.requires_grad:
        return value
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach() + (gradient * (x - x.detach())).sum(1)


breaks("twice-differentiable", SmallFlow, log_prob=once)


def batch_normalised(self: Any, x: Tensor, c: Any = None) -> tuple[Tensor, Tensor]:
    z, log_det = SmallFlow.forward(self, x, c)
    return z - 0.1 * z.mean(0), log_det


breaks("flow-rows-independent", SmallFlow, forward=batch_normalised)
breaks("latents", SmallFlow, latent_shapes=property(lambda self: ((2,), (1,))))
breaks(
    "density",
    SmallFlow,
    log_prob=lambda self, x, c=None, generator=None: super(SmallFlow, self).log_prob(x, c, generator) + 1e-3,
)


def no_bin(self: Any, x: Tensor, c: Any = None, generator: Any = None) -> Tensor:
    z, log_det = self(self.dequantise(x, generator), c)
    density: Tensor = self.base.log_prob(z) + log_det
    return density


breaks("discrete-levels", SmallFlow, log_prob=no_bin)
breaks(
    "temperature",
    SmallFlow,
    sample=lambda self, n, c=None, temperature=1.0, generator=None: super(SmallFlow, self).sample(
        n, c, generator=generator
    ),
)

# Geometries.

breaks("geometry-shapes", SinhGeometry, distance=lambda self, x, y: Geometry.distance(self, x, y)[:, None])
breaks(
    "geometry-batch-of-one",
    SinhGeometry,
    log=lambda self, x, y: SinhGeometry.log(self, x, y) * (1 if len(x) == len(y) else 0.5),
)
breaks("metric-spd", SinhGeometry, metric=lambda self, x: -SinhGeometry.metric(self, x))
breaks("inner-of-metric", SinhGeometry, inner=lambda self, x, v, w: (v * w).sum(1))
breaks("exp-log", SinhGeometry, exp=lambda self, x, v: x + v)
breaks("distance", SinhGeometry, distance=lambda self, x, y: SinhGeometry.log(self, x, y).norm(dim=1))
breaks("distance-matrix", SinhGeometry, distance_matrix=lambda self, x, y=None: torch.cdist(x, x if y is None else y))


def hurried(self: Any, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    return Geometry.geodesic(self, x, y, s**2)


breaks("constant-speed", SinhGeometry, geodesic=hurried)
breaks("mean-balances", SinhGeometry, mean=lambda self, points, weights=None: points.mean(0))
breaks("transport-isometric", SinhGeometry, transport=lambda self, x, y, v: v)
