"""Capabilities: what some components can do beyond their kind. Types here, strings in a component's ``provides``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset


@dataclass(frozen=True)
class Phase:
    """A phase of training: the modules it trains, the phase it comes after, and a key that names its checkpoints."""

    name: str
    modules: tuple[nn.Module, ...]
    after: str | None = None
    resume_key: str | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Progress:
    """Where training stands: ``step`` of ``total`` in ``phase``, counting from 0."""

    step: int
    total: int
    phase: str


@dataclass(frozen=True)
class Loss:
    """A loss: ``value`` is a scalar to minimise, ``parts`` its named pieces, detached, for the log."""

    value: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Trainable(ABC):
    """A module that ``scorefold.training.fit`` can train. It must be an ``nn.Module`` and carry ``training_config``.

    Modules outside the running phase stay in evaluation mode and get no gradients.
    """

    training_config: TrainingConfig

    @abstractmethod
    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        """The loss of a batch; all randomness comes from ``generator``."""

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:  # noqa: B027 - optional on purpose
        """Called once, before the optimiser and the averaged weights exist (actnorm statistics, a PCA start)."""

    def phases(self) -> Sequence[Phase]:
        """The phases in order; by default one that trains the whole module."""
        assert isinstance(self, nn.Module)
        return (Phase("fit", (self,)),)

    def parameter_groups(self, phase: Phase) -> Iterable[dict[str, Any]]:
        """Parameter groups for the optimiser; a group may carry its own ``lr`` (and other optimiser settings)."""
        seen: dict[int, nn.Parameter] = {}
        for module in phase.modules:
            for parameter in module.parameters():
                seen.setdefault(id(parameter), parameter)
        return [{"params": list(seen.values())}]


class Encodes(ABC):
    """A component with a latent space."""

    latent_shape: tuple[int, ...]

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """x (B, *E) to z (B, *latent_shape)."""

    @abstractmethod
    def decode(self, z: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        """z (B, *latent_shape) to x (B, *E)."""

    @abstractmethod
    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and standard deviation of z given x, each (B, *latent_shape); std is 0 for a deterministic code."""


class Transports(ABC):
    """A geometry with parallel transport."""

    @abstractmethod
    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """The tangent vector v (B, *E) at x moved along the geodesic to y; a tangent vector at y."""


class ClosedFormGeodesics(ABC):  # noqa: B024 - a marker: geodesics cost no solver
    """A geometry whose geodesics, exponential and logarithm are closed forms."""


class Potential(ABC):
    """A strongly convex function psi on events: what a geometry may be pulled back from."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """psi(x), (B,)."""

    @abstractmethod
    def grad(self, x: Tensor) -> Tensor:
        """The gradient at x, (B, *E)."""

    @abstractmethod
    def grad_inverse(self, y: Tensor) -> Tensor:
        """The x whose gradient is y, (B, *E)."""

    @abstractmethod
    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        """The Hessian at x times v, (B, *E)."""


class TaskSource(ABC):
    """A source of learning tasks."""

    @abstractmethod
    def tasks(
        self, m: int, support: int, query: int, generator: torch.Generator
    ) -> Iterator[tuple[Dataset, Dataset]]:
        """m tasks, each a support set and a query set of the sizes asked for."""


CAPABILITIES: Mapping[str, type] = {
    cls.__name__: cls for cls in (Trainable, Encodes, Transports, ClosedFormGeodesics, Potential, TaskSource)
}
"""Capabilities by the name that ``provides`` and ``needs`` use."""
