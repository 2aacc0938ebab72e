"""The broken fakes of networks and of capabilities."""

from __future__ import annotations

from typing import Any

import torch
from broken_fakes import breaks, calls, changed
from good_fakes import GaussianScore, Noisy, Sum, Sums, Toy, Whole
from torch import Tensor, nn

from scorefold.data import Dataset
from scorefold.interfaces import Loss, Phase, Trainable

# Networks.


class Timeless(Sum):
    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(x, None, condition)


class Unconditional(Sum):
    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(x, t)


class Crowded(Sum):
    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(x - x.mean(0), t, condition)


class Idle(Sum):
    def __init__(self, into: int, out: int, condition: Any) -> None:
        super().__init__(into, out, condition)
        self.unused = nn.Linear(1, 1)


class Flat(Sum):
    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(x, t, condition)[:, 0]


class Wild(Sum):
    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        return super().forward(x, t, condition) / 0


class Fixed(Sum):
    def __init__(self, into: int, out: int, condition: Any) -> None:
        super().__init__(into, out, condition)
        self.requires_grad_(False)


class Steep(Sum):
    """Its answers are finite, and the gradient of the square root at 0 is not."""

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        found = super().forward(x, t, condition)
        return found + (found - found.detach()).abs().sqrt()


breaks("network-shapes", Sums, build=lambda self, into, out, **options: "no module" if len(into) == 1 else None)
breaks("network-shapes", Sums, module=Flat)
breaks("network-shapes", Sums, module=Wild)
breaks("network-uses-time", Sums, module=Timeless)
breaks("network-uses-condition", Sums, module=Unconditional)
breaks("network-rows-independent", Sums, module=Crowded)
breaks("network-learns", Sums, module=Idle)
breaks("network-learns", Sums, module=Fixed)
breaks("network-learns", Sums, module=Steep)

# Trainable.


def losing(change: Any) -> Any:
    """``loss`` changed by ``change(loss, self, batch)``."""

    def loss(self: Any, batch: Dataset, *, progress: Any, generator: Any) -> Any:
        return change(GaussianScore.loss(self, batch, progress=progress, generator=generator), self, batch)

    return loss


def unseeded(self: Any, batch: Dataset, *, progress: Any, generator: Any) -> Loss:
    fresh = torch.Generator().manual_seed(next(calls))
    return GaussianScore.loss(self, batch, progress=progress, generator=fresh)


def drifts(found: Loss, self: Any, batch: Dataset) -> Loss:
    self.mean.data.add_(0.1)
    return found


def unsteady(self: Any, data: Any, generator: Any) -> None:
    self.mean.data.add_(1e-3 * next(calls))


def needs_training(found: Loss, self: Any, batch: Dataset) -> Loss:
    return found if self.training else Loss(found.value / 0)


def configured(self: Any, config: Any, *, data: Any) -> None:
    GaussianScore.__init__(self, config, data=data)
    self.training_config = {"steps": 1}


def phased(*phases: dict[str, Any]) -> Any:
    return lambda self: [Phase(**{"name": "fit", "modules": (self,), **phase}) for phase in phases]


class NoModule(Trainable):
    """What can't be trained."""

    def __init__(self, config: Any, *, data: Any) -> None:
        self.event_shape = data.event_shape

    def loss(self, batch: Dataset, *, progress: Any, generator: Any) -> Loss:
        return Loss(batch.x.mean())


breaks("loss-trains", GaussianScore, {"target": "broken_abilities:NoModule"})
breaks("phases-cover", GaussianScore, phases=phased())
breaks("loss-trains", GaussianScore, loss=losing(lambda found, *_: found.value))
breaks("loss-trains", GaussianScore, __init__=configured)
breaks("loss-trains", GaussianScore, loss=losing(lambda found, *_: Loss(found.value[None])))
breaks("loss-trains", GaussianScore, loss=losing(lambda found, *_: Loss(found.value / 0)))
breaks("loss-trains", GaussianScore, loss=losing(lambda found, *_: Loss(found.value, {"error": found.value})))
breaks("loss-trains", GaussianScore, loss=losing(lambda found, *_: Loss(found.value.detach())))
breaks("loss-trains", GaussianScore, loss=losing(lambda found, *_: Loss(0 * found.value)))
breaks(
    "loss-falls",
    GaussianScore,
    loss=losing(lambda found, *_: Loss(2 * found.value.detach() - found.value)),
)
breaks("loss-follows-generator", GaussianScore, loss=unseeded)
breaks("loss-follows-generator", GaussianScore, prepare=unsteady)
breaks("loss-validates", GaussianScore, loss=losing(needs_training))
breaks("loss-validates", GaussianScore, loss=losing(drifts))
breaks("phases-cover", GaussianScore, phases=phased({}, {}))
breaks("phases-cover", GaussianScore, phases=phased({"after": "start"}))
breaks("phases-cover", GaussianScore, phases=phased({"name": "the first"}))
breaks("phases-cover", GaussianScore, phases=phased({}, {"name": "idle", "modules": (nn.Identity(),)}))
breaks("phases-cover", GaussianScore, parameter_groups=lambda self, phase: [{"params": [self.mean, self.mean]}])
breaks(
    "phases-cover",
    GaussianScore,
    parameter_groups=lambda self, phase: [{"params": [*self.parameters(), nn.Parameter(torch.zeros(1))]}],
)
breaks("phases-cover", GaussianScore, parameter_groups=lambda self, phase: [{"params": [self.mean]}])
breaks("strategies-told", GaussianScore, refuses=lambda self, strategy: True)

# Other capabilities.


def wide(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = Toy.encode_distribution(self, x)
    return mean[:, :1], std


breaks("encodes-shapes", Toy, encode=lambda self, x: x[:, :3])
breaks("encodes-shapes", Toy, decode=lambda self, z, **options: z)
breaks("encodes-shapes", Toy, encode_distribution=wide)
breaks("encodes-shapes", Toy, encode_distribution=lambda self, x: (x[:, :2], x.new_zeros(len(x))))
breaks("encodes-shapes", Toy, encode_distribution=lambda self, x: (x[:, :2], -torch.ones_like(x[:, :2])))
breaks("decode-follows-generator", Toy, decode=changed(Toy, "decode", lambda found, *_: found + 1e-9 * next(calls)))
breaks("draw-codes", Noisy, draw_codes=lambda self, n, generator: torch.randn(n, generator=generator))
breaks("draw-codes", Noisy, draw_codes=lambda self, n, generator: torch.full((n, 2), float(next(calls))))
breaks("draw-codes", Noisy, draw_codes=lambda self, n, generator: torch.zeros(n, 2))
breaks("noise-brings-back", Noisy, encode_noise=lambda self, x, z: x)
breaks("noise-brings-back", Noisy, encode_noise=lambda self, x, z: x[:, :2])
breaks("code-of-distribution", Toy, encode=lambda self, x: x[:, 2:])
breaks("reconstructs", Whole, decode=lambda self, z, **options: z)
breaks("potential-derivatives", Toy, value=lambda self, x: x.cosh())
breaks("potential-derivatives", Toy, grad=lambda self, x: x)
breaks("potential-derivatives", Toy, hessian_product=lambda self, x, v: v)
breaks("potential-derivatives", Toy, grad_inverse=lambda self, y: y)
breaks(
    "potential-derivatives",
    Toy,
    value=lambda self, x: -Toy.value(self, x),
    grad=lambda self, x: -x.sinh(),
    grad_inverse=lambda self, y: -y.asinh(),
    hessian_product=lambda self, x, v: -x.cosh() * v,
)


def tasks(change: Any) -> Any:
    """``tasks`` with each pair changed by ``change(support, query)``."""

    def call(self: Any, m: int, support: int, query: int, generator: Any) -> Any:
        return (change(*pair) for pair in Toy.tasks(self, m, support, query, generator))

    return call


breaks("tasks-as-asked", Toy, tasks=tasks(lambda support, query: (query, support)))
breaks("tasks-as-asked", Toy, tasks=tasks(lambda support, query: (support, support.take(torch.arange(2)))))
breaks(
    "tasks-follow-generator", Toy, tasks=tasks(lambda support, query: (Dataset(support.x + 1e-3 * next(calls)), query))
)
breaks(
    "tasks-follow-generator",
    Toy,
    tasks=lambda self, m, support, query, generator: Toy.tasks(
        self, m, support, query, torch.Generator().manual_seed(0)
    ),
)
