"""Components that keep every check, as small as can be. The broken ones differ from these in one thing each."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from light_config import BatchConfig, FileConfig, PlainConfig
from matplotlib.figure import Figure
from torch import Tensor, nn

from scorefold.artefacts import digest_file
from scorefold.config import TrainingConfig
from scorefold.data import Condition, Dataset, EventScale, TensorSpec, as_dataset
from scorefold.diffusion import VE
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import (
    Allocator,
    ClosedFormGeodesics,
    DataSource,
    Encodes,
    EncodesNoise,
    Estimator,
    Flow,
    Geometry,
    Loss,
    Network,
    Progress,
    ScoreModel,
    Trainable,
    Transports,
)
from scorefold.random import draw_normal
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold.stage import Outcome, StageContext
from scorefold_allocation.data.batch import TaskSource
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Metric, Units
from scorefold_toolkit.nn.bijection import StandardNormal
from scorefold_toolkit.potential import Potential


class Points(DataSource):
    """90 normal points in R^4, in three splits."""

    levels: int | None = None

    def __init__(self, config: PlainConfig, *, generator: torch.Generator | None = None) -> None:
        self.event_shape = (4,)
        draws = generator or torch.Generator().manual_seed(0)
        x = self.draw(draws)
        condition = None if self.condition_spec is None else torch.arange(90) % 3
        self.all = Dataset(x=x, condition=condition, index=torch.arange(90), truth={"dimension": 4})
        self.splits = {"train": slice(0, 60), "validation": slice(60, 75), "test": slice(75, 90)}
        train = x[:60]
        bounds: dict[str, Any] = {} if self.levels is None else {"low": 0.0, "high": 1.0, "levels": self.levels}
        self.event_scale = replace(EventScale.of(train), **bounds)

    def draw(self, generator: torch.Generator) -> Tensor:
        return torch.randn(90, 4, generator=generator, dtype=torch.float32)

    def load(self, split: str) -> Dataset:
        if split not in self.splits:
            raise DataError(f"there is no {split!r} split")
        return self.all.take(torch.arange(90)[self.splits[split]])


class Pixels(Points):
    """Five levels and three classes."""

    levels = 5
    condition_spec = TensorSpec((), classes=3)

    def draw(self, generator: torch.Generator) -> Tensor:
        return torch.randint(5, (90, 4), generator=generator).float() / 4


class Filed(Points):
    """As many points as a file says."""

    def __init__(self, config: FileConfig, *, generator: torch.Generator | None = None) -> None:
        self.path = Path(config.path)
        assert int(self.path.read_text()) == 90
        super().__init__(config, generator=generator)

    def fingerprint(self) -> str | None:
        return digest_file(self.path)


class GaussianScore(ScoreModel, Trainable):
    """The score of a Gaussian with a learnt mean and width, and a learnt shift for each class."""

    def __init__(self, config: PlainConfig, *, data: Any) -> None:
        super().__init__(VE(sigma_max=5.0), data.event_shape, data.condition_spec, data.event_scale)
        self.training_config = TrainingConfig(steps=1)
        self.mean = nn.Parameter(torch.zeros(data.event_shape))
        self.log_std = nn.Parameter(torch.zeros(()))
        self.shift = nn.Embedding(3, 4) if data.condition_spec is not None else None

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        mean = self.mean
        if self.shift is not None and condition is not None:
            mean = mean + self.shift(condition)
        return (mean - x) / self.variance(x, t)

    def variance(self, x: Tensor, t: Tensor) -> Tensor:
        scale = self.process.coefficients(x, t)[1]
        return (2 * self.log_std).exp() + scale**2

    def noised_log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        variance = self.variance(x, t).expand_as(x)
        return -0.5 * ((x - self.mean) ** 2 / variance + (2 * math.pi * variance).log()).sum(1)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        t = torch.rand(len(batch), generator=generator, dtype=batch.x.dtype)
        noise = draw_normal(tuple(batch.x.shape), generator=generator, like=batch.x)
        noised = self.process.perturb(batch.x, t, noise)
        value = (self.noise(noised, t) - noise).square().mean()
        return Loss(value, {"error": value.detach()})


class SmallFlow(Flow, Trainable):
    """One affine coupling of two halves, with a learnt shift for each class; two latents."""

    def __init__(self, config: PlainConfig, *, data: Any) -> None:
        super().__init__(
            data.event_shape, StandardNormal(), condition_spec=data.condition_spec, event_scale=data.event_scale
        )
        self.training_config = TrainingConfig(steps=1)
        self.log_scale = nn.Parameter(torch.full((2,), 0.3))
        self.weight = nn.Parameter(0.5 * torch.eye(2))
        self.shift = nn.Embedding(3, 2) if data.condition_spec is not None else None

    def halves(self, x: Tensor, condition: Condition | None) -> tuple[Tensor, ...]:
        self.check_events(x)
        rows = len(condition) if isinstance(condition, Tensor) and len(x) == 1 else len(x)
        return x.expand(rows, 4).chunk(2, dim=1)

    def parts(self, first: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
        shift = torch.sin(first @ self.weight)
        if self.shift is not None and condition is not None:
            shift = shift + self.shift(condition)
        return torch.tanh(first @ self.weight), shift

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        first, second = self.halves(x, condition)
        log_scale, shift = self.parts(first, condition)
        z = torch.cat([first * self.log_scale.exp(), second * log_scale.exp() + shift], dim=1)
        return z, log_scale.sum(1) + self.log_scale.sum()

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        first, second = self.halves(z, condition)
        first = first * (-self.log_scale).exp()
        log_scale, shift = self.parts(first, condition)
        x = torch.cat([first, (second - shift) * (-log_scale).exp()], dim=1)
        return x, -log_scale.sum(1) - self.log_scale.sum()

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((2,), (2, 1))

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        return Loss(-self.log_prob(batch.x, None, generator).mean())


class SinhGeometry(Geometry, Transports, ClosedFormGeodesics):
    """R^3 pulled back by sinh of each coordinate."""

    def __init__(self, config: PlainConfig) -> None:
        self.event_shape = (3,)

    def metric(self, x: Tensor) -> Tensor:
        return torch.diag_embed(x.cosh() ** 2)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return torch.asinh(x.sinh() + x.cosh() * v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return (y.sinh() - x.sinh()) / x.cosh()

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v * x.cosh() / y.cosh()


class Neighbours(Estimator):
    """Levina and Bickel's maximum likelihood from ten neighbours."""

    def __init__(self, config: BatchConfig) -> None:
        self.config = config

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        x = as_dataset(data).tensor().double()
        if len(x) < 12:
            raise DataError(f"at least 12 points are needed; {len(x)} were given")
        nearest = torch.cdist(x, x).topk(11, largest=False).values[:, 1:]
        inverse = (nearest[:, -1:] / nearest[:, :-1]).log().mean(1)
        value = float(1 / inverse.mean())
        spectrum = torch.linalg.eigvalsh(torch.cov(x.mT))[None]
        return Estimate(
            "intrinsic dimension", value, (0.9 * value, 1.1 * value), pointwise=1 / inverse, spectrum=spectrum
        )


class Fed(Neighbours):
    """The same, and a look at what a score says of the points."""

    def __init__(self, config: BatchConfig, *, score: ScoreModel) -> None:
        super().__init__(config)
        self.score = score

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        x = as_dataset(data).tensor()[:3]
        x = x.to(next((value.dtype for value in self.score.state_dict().values()), x.dtype))
        self.score.score(x, x.new_full((1,), self.score.process.t_max))
        return super().estimate(data, generator=generator)


class Tens(Allocator):
    """Tasks of ten labels."""

    def __init__(self, config: PlainConfig) -> None:
        self.config = config

    def allocate(
        self,
        budget: int,
        *,
        pilot: Any = None,
        constraints: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Allocation:
        if budget < 0 or constraints:
            raise ConfigError(f"a budget of {budget} with {constraints}")
        tasks, left = divmod(budget, 10)
        if tasks == 0:
            return Allocation("infeasible", (), budget)
        return Allocation("feasible", (PlanRow("task", tasks, 5, 5),), left)


class Renewed(Tens):
    """Its second revision, which takes over the states of the first."""

    @classmethod
    def migrate(cls, state: Mapping[str, Any], from_revision: int) -> Mapping[str, Any]:
        return state


class Searching(Tens):
    """The best of equal tasks, by asking what each size comes to."""

    def allocate(self, budget: int, *, pilot: Any = None, **options: Any) -> Allocation:
        plan = super().allocate(budget, **options)
        if budget < 10:
            return plan
        losses = {n: self.loss(pilot, budget, n) for n in range(2, min(400, budget), 2)}
        n = min(losses, key=lambda size: losses[size])
        tasks, left = divmod(budget, n)
        row = PlanRow("task", tasks, n // 2, n // 2)
        return Allocation("optimal", (row,), left, losses[n], (0.9 * losses[n], 1.1 * losses[n]))

    def loss(self, pilot: Any, budget: int, n: int) -> float:
        return 1 / n + n / budget if pilot is None else float(pilot(budget // n, n // 2, n // 2))


class Sum(nn.Module):
    """tanh of the sum of linear maps of input, time and condition."""

    def __init__(self, into: int, out: int, condition: TensorSpec | None) -> None:
        super().__init__()
        self.x = nn.Linear(into, out)
        self.time = nn.Linear(1, out)
        self.classes = None if condition is None else condition.classes
        width = 0 if condition is None else self.classes or math.prod(condition.shape)
        self.condition = nn.Linear(width, out) if width else None

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        total = self.x(x)
        if t is not None:
            total = total + self.time(t[:, None] / 10)
        if self.condition is not None and condition is not None:
            code = condition if self.classes is None else nn.functional.one_hot(condition, self.classes).to(x.dtype)
            total = total + self.condition(code)
        return torch.tanh(total)


class Sums(Network):
    """Builds them, for vectors."""

    module: type[nn.Module] = Sum

    def __init__(self, config: PlainConfig) -> None:
        self.config = config

    def build(self, in_shape: Any, out_shape: Any, *, time: bool = False, condition: Any = None) -> nn.Module:
        if len(in_shape) != 1:
            raise ConfigError("only vectors are served")
        return self.module(in_shape[0], out_shape[0], condition)


class MeanGap(Metric):
    """The distance of the mean of samples from the mean of the held-out points, of vectors."""

    def __init__(self, config: PlainConfig) -> None:
        self.config = config

    def start(self, units: Units, event_shape: tuple[int, ...], condition_spec: Any) -> Measure:
        if len(event_shape) != 1:
            raise ConfigError("only vectors are measured")
        return Gap()


class Gap(Measure):
    def __init__(self) -> None:
        self.total, self.count = torch.zeros(()), 0

    def add(self, batch: EvaluationBatch) -> None:
        self.total = self.total + (batch.draws.mean(0) - batch.truth).sum(0)
        self.count += len(batch.truth)

    def metrics(self) -> dict[str, float]:
        return {"gap of means": float((self.total / self.count).norm())}


class Toy(nn.Module, Encodes, Potential, TaskSource):
    """A component of a kind that core does not know, with three capabilities."""

    latent_shape = (2,)

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.event_shape = (4,)

    def encode(self, x: Tensor) -> Tensor:
        return x[:, :2]

    def decode(self, z: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        return torch.cat([z, z], dim=1)

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :2], torch.zeros_like(x[:, :2])

    def value(self, x: Tensor) -> Tensor:
        return x.cosh().sum(1)

    def grad(self, x: Tensor) -> Tensor:
        return x.sinh()

    def grad_inverse(self, y: Tensor) -> Tensor:
        return y.asinh()

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        return x.cosh() * v

    def tasks(
        self, m: int, support: int, query: int, generator: torch.Generator, split: str = "train"
    ) -> Iterator[tuple[Dataset, Dataset]]:
        for _ in range(m):
            x = torch.randn(support + query, 4, generator=generator)
            yield Dataset(x[:support]), Dataset(x[support:])


class Noisy(Toy, EncodesNoise):
    """A code beside which a noise keeps the rest."""

    def decode(
        self, z: Tensor, *, generator: torch.Generator | None = None, noise: Tensor | None = None, **options: Any
    ) -> Tensor:
        mean = torch.cat([z, z], dim=1)
        return mean + (draw_normal(tuple(mean.shape), generator=generator, like=z) if noise is None else noise)

    def encode_noise(self, x: Tensor, z: Tensor, **options: Any) -> Tensor:
        return x - torch.cat([z, z], dim=1)

    def draw_codes(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(n, 2, generator=generator, dtype=torch.float64)


class Whole(Toy):
    """A code that keeps everything."""

    latent_shape = (4,)

    def encode(self, x: Tensor) -> Tensor:
        return 2 * x

    def decode(self, z: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        return z / 2

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * x, torch.zeros_like(x)


def draw(value: Any) -> dict[str, Any]:
    """No figures."""
    return {}


def count(component: Any, inputs: Any, options: Any, context: StageContext) -> Outcome:
    """How many points there are, one of them, and how long it took to count."""
    x = inputs["data"].load("train").tensor()
    chosen = int(torch.randint(len(x), (), generator=context.generator("choose")))
    metrics = {"points": len(x) * len(inputs["more"]), "chosen": chosen, "seconds": time.perf_counter()}
    answer = {"quantity": "points", "value": float(len(x))}
    return Outcome({"points": len(x)}, {"metrics": metrics, "answer": answer, "list": [1]}, {"x": x[chosen]})


def warm(component: Any, inputs: Any, options: None, context: StageContext) -> Outcome:
    """Hands a component on."""
    return Outcome(component)


def picture(value: Any) -> dict[str, Any]:
    """One figure without anything in it."""
    return {"picture": Figure()}
