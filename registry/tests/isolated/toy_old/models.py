"""Score models and a flow of the plugin, with random weights."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from scorefold.config import Config, TrainingConfig
from scorefold.data import ConditionSpec, Dataset, EventScale, TensorSpec
from scorefold.diffusion import VE, IsotropicProcess, LinearVP
from scorefold.diffusion.divergence import divergence
from scorefold.interfaces import Estimator, Flow, Geometry, ScoreModel, Trainable
from scorefold.interfaces.capabilities import Loss, Progress, Transports
from scorefold.results import Estimate


class ModelConfig(Config):
    answer: str = Field("right", description="How the score answers")
    conditional: bool = Field(False, description="Whether it takes a condition")
    process: str = Field("ve", description="Its process")


class Other(IsotropicProcess):
    pass


class Score(ScoreModel):
    remarks = ("its weights are random",)

    def __init__(self, config: ModelConfig) -> None:
        spec: ConditionSpec | None = TensorSpec((3,)) if config.conditional else None
        process = {"ve": VE, "vp": lambda: IsotropicProcess(LinearVP()), "other": lambda: Other(LinearVP())}
        super().__init__(process[config.process](), (3,), spec, EventScale(std=2.0))
        self.answer = config.answer
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.0), nn.Linear(16, 3))

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        found = self.net(torch.cat([x, t[:, None]], 1)) - x / (1 + self.process.coefficients(x, t)[1] ** 2)
        if self.answer == "wide":
            return torch.cat([found, found], 1)
        if self.answer == "double":
            return found.double()
        return found if condition is None else found + condition.sin()


class Asks(Estimator):
    reads_counts = True

    def __init__(self, config: Config, score: ScoreModel) -> None:
        self.score, self.event_shape = score, score.event_shape

    def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> Estimate:
        data = data.tensor() if isinstance(data, Dataset) else data
        t = torch.linspace(0.2, 0.8, len(data)).to(data)
        bound = self.score.bind(generator=generator)
        value, trace = divergence(lambda x: bound(x, t), data)
        point = data.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self.score.score(point, t).square().sum(), point)
        drawn = self.score.sample(4, sampler="heun", steps=3, generator=generator)
        found = {
            "value": value.detach(),
            "slope": slope,
            "drawn": drawn,
            "density": self.score.log_prob(data[:2], generator=generator),
        }
        found["scale"] = self.score.event_scale.std
        return Estimate("sum", float(trace.detach().sum()), pointwise=trace.detach(), diagnostics=found)


class Bound(Score):
    def bind(self, condition: Any = None, *, generator: Any = None, guidance: float = 1.0, **options: Any) -> Any:
        drawn = torch.randn(3, generator=generator)
        return lambda x, t: self.score(x, t) + drawn


class TrainedConfig(ModelConfig):
    training: TrainingConfig = TrainingConfig(steps=40, batch_size=16, log_every=5, checkpoint_every=5)
    pause: float = Field(0.0, description="Seconds to wait in each step")


class Trained(Score, Trainable):
    def __init__(self, config: TrainedConfig) -> None:
        super().__init__(config)
        self.training_config, self.pause = config.training, config.pause
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        time.sleep(self.pause)
        self.seen += len(batch)
        t = torch.rand(len(batch), generator=generator)
        noise = torch.randn(batch.x.shape, generator=generator)
        x = self.process.perturb(batch.x, t, noise)
        return Loss((self.score(x, t) * self.process.coefficients(x, t)[1] + noise).square().mean())


class Asking(Trained):
    """A score whose constructor asks an estimator."""

    def __init__(self, config: TrainedConfig, reference: Estimator) -> None:
        super().__init__(config)
        self.mean = reference.estimate(torch.ones(4, 3)).value

    @property
    def remarks(self) -> tuple[str, ...]:  # type: ignore[override]
        return (f"it has seen {int(self.seen)} points",)


class Wide(Geometry, Transports):
    """Twice as far along the first coordinate; ``norm`` has another shape where all numbers of x are 9."""

    event_shape = (2,)

    def __init__(self, config: Config) -> None:
        pass

    def metric(self, x: Tensor) -> Tensor:
        return torch.diag(torch.tensor([4.0, 1.0])).expand(len(x), 2, 2)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x

    def norm(self, x: Tensor, v: Tensor) -> Tensor:
        found = super().norm(x, v)
        return found[:, None] if bool((x == 9).all()) else found

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v

    def diagnose(self, points: Tensor) -> tuple[dict[str, float], list[str]]:
        return {"points": float(len(points))}, ["it is wide"]


class _Normal:
    centre = 0.0

    def log_prob(self, z: Tensor) -> Tensor:
        return -(z.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2

    def sample(self, shape: Any, *, generator: Any, like: Tensor) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


class Shear(Flow):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__((2,), _Normal())
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        first, second = x[:, :1], x[:, 1:]
        scale = self.net(first)
        return torch.cat([first, second * scale.exp()], 1), scale[:, 0]

    def inverse(self, z: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        first, second = z[:, :1], z[:, 1:]
        scale = self.net(first)
        return torch.cat([first, second * (-scale).exp()], 1), -scale[:, 0]
