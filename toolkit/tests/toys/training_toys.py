"""Small trainable modules for the tests of training, importable from a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, StreamedDataset
from scorefold.interfaces.capabilities import Loss, Phase, Progress, Trainable


def config(**values: object) -> TrainingConfig:
    """A short training: 40 steps in batches of 16."""
    return TrainingConfig.model_validate({"steps": 40, "batch_size": 16, "warmup": 5, "log_every": 10, **values})


def points(count: int = 100, size: int = 4, seed: int = 0) -> Dataset:
    x = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    return Dataset(x=x, index=torch.arange(count))


def streamed(source: Dataset, workers: int = 2) -> StreamedDataset:
    return StreamedDataset(x=torch.empty(0, *source.event_shape), fetch=source.take, size=len(source), workers=workers)


class Denoiser(nn.Module, Trainable):
    """Finds the noise that its generator added, with dropout and batch statistics to make resuming hard."""

    def __init__(self, size: int = 4, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        self.training_config = config()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.inner = nn.Linear(size, 16)
            self.statistics = nn.BatchNorm1d(16)
            self.body = nn.Sequential(self.inner, self.statistics, nn.SiLU(), nn.Dropout(dropout))
            self.head = nn.Linear(16, size)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        noise = torch.randn(batch.x.shape, generator=generator, dtype=batch.x.dtype)
        error = self.head(self.body(batch.x + noise)) - noise
        fit = error.square().mean()
        size = self.head.weight.square().mean()
        return Loss(fit + 0.01 * size, {"fit": fit.detach(), "size": size.detach()})


class TwoPhase(Denoiser):
    """The body first, then the head at a learning rate of its own, with what it saw of its own modes written down."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[tuple[str, bool, bool, bool, bool]] = []

    def phases(self) -> Sequence[Phase]:
        return (Phase("head", (self.head,), after="body"), Phase("body", (self.body,), steps=25))

    def parameter_groups(self, phase: Phase) -> list[dict[str, object]]:
        if phase.name == "body":
            return [{"params": list(self.body.parameters())}]
        return [
            {"params": [self.head.weight], "lr": 0.1},
            {"params": [self.head.bias], "lr": 1e-6, "weight_decay": 0.1},
        ]

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        body, head = self.inner.weight, self.head.weight
        self.modes.append(
            (progress.phase, self.body.training, self.head.training, body.requires_grad, head.requires_grad)
        )
        return super().loss(batch, progress=progress, generator=generator)


class Quadratic(nn.Module, Trainable):
    """mean |x - centre|^2, whose minimum is the mean of the points: no noise, no dropout."""

    def __init__(self, size: int = 4, factor: float = 1.0) -> None:
        super().__init__()
        self.training_config = config()
        self.centre = nn.Parameter(torch.zeros(size))
        self.factor = factor

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        return Loss(self.factor * (batch.x - self.centre).square().sum(1).mean())


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def differing(left: nn.Module, right: nn.Module) -> list[str]:
    """The names of the entries of two states that are not equal to the bit."""
    theirs = right.state_dict()
    return [name for name, value in left.state_dict().items() if not torch.equal(value, theirs[name])]
