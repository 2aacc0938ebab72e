"""Capabilities: what some components can do beyond their kind. Types here, strings in a component's ``provides``.

>>> class Halves(Encodes):
...     latent_shape = (1,)
...     def encode(self, x):
...         return x.mean(1, keepdim=True)
...     def decode(self, z, *, generator=None, **options):
...         return z.expand(-1, 2)
...     def encode_distribution(self, x):
...         return self.encode(x), torch.zeros(len(x), 1)
>>> Halves().reconstruct(torch.tensor([[1.0, 3.0]]))
tensor([[2., 2.]])
>>> class Exact(Halves, EncodesNoise):
...     def decode(self, z, *, generator=None, noise=0.0):
...         return z + noise
...     def encode_noise(self, x, z, **options):
...         return x - z
>>> x = torch.tensor([[1.0, 3.0]])
>>> Exact().decode(Exact().encode(x), noise=Exact().encode_noise(x, Exact().encode(x)))
tensor([[1., 3.]])
>>> class Flat(ClosedFormGeodesics, Transports):
...     def transport(self, x, y, v):
...         return v
>>> class Point(KnowsDistribution):
...     def distribution(self):
...         return None
>>> heads = Phase("heads", (nn.Linear(2, 2),), after="body")
>>> Progress(step=10, total=100, phase=heads.name)
Progress(step=10, total=100, phase='heads')
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import ConfigError


@dataclass(frozen=True)
class Phase:
    """A phase of training: the ``modules`` it trains, and the phase it comes ``after``.

    ``resume_key`` names the folder of its checkpoints (its ``name`` does by default): a component whose phase depends
    on settings of its own puts them into the key, so that other settings start afresh and the same ones go on.
    ``steps`` is its own number of optimiser steps; phases that state none share out what is left of
    ``TrainingConfig.steps``. An ``independent`` phase draws by its own name, and trains nothing that another one sees
    change: it comes out the same alone, in any order, and in another process.
    """

    name: str
    modules: tuple[nn.Module, ...]
    after: str | None = None
    resume_key: str | None = None
    steps: int | None = None
    independent: bool = False


@dataclass(frozen=True)
class Progress:
    """Progress of a training: ``step`` of ``total`` in ``phase``, counting from 0."""

    step: int
    total: int
    phase: str


@dataclass(frozen=True)
class Loss:
    """A loss: ``value`` is a scalar to minimise, ``parts`` its named pieces, scalars without gradients, for the log."""

    value: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Trainable(ABC):
    """A module that can be trained: an ``nn.Module`` that carries ``training_config``.

    Must: ``loss``. May: ``prepare``, ``phases``, ``parameter_groups``, ``refuses``. Modules outside the running phase
    stay in evaluation mode and get no gradients. What training changes must be parameters or buffers: that is all that
    checkpoints hold.

    >>> class Line(nn.Linear, Trainable):
    ...     training_config = TrainingConfig(steps=100)
    ...     def loss(self, batch, *, progress, generator):
    ...         return Loss((self(batch.x) - 2 * batch.x).square().mean())
    >>> [phase.name for phase in Line(1, 1).phases()]
    ['fit']
    """

    training_config: TrainingConfig

    @abstractmethod
    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        """The mean loss of a batch's points; all randomness comes from ``generator``, on the model's device.

        Validation calls it too, in evaluation mode and without gradients: a loss that differentiates inside turns them
        on itself (``torch.enable_grad``).
        """

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:  # noqa: B027 - optional on purpose
        """A start from the data (actnorm statistics, a PCA): called once, before optimiser and averaged weights exist.
        A training that goes on from a checkpoint calls it as well, and then loads what the checkpoint holds.
        """

    def phases(self) -> Sequence[Phase]:
        """The phases; by default one, named ``fit``, that trains the whole module."""
        assert isinstance(self, nn.Module)
        return (Phase("fit", (self,)),)

    def parameter_groups(self, phase: Phase) -> Iterable[dict[str, Any]]:
        """Parameter groups for the optimiser; a group may carry its own ``lr`` (and other optimiser settings). Only
        parameters in a group are trained, and of those only the ones that ask for gradients.
        """
        seen: dict[int, nn.Parameter] = {}
        for module in phase.modules:
            for parameter in module.parameters():
                seen.setdefault(id(parameter), parameter)
        return [{"params": list(seen.values())}]

    def refuses(self, strategy: str) -> str | None:
        """Reason why this component can't be trained with a strategy, or None if it can. Strategies are ``distributed``
        (several processes), ``bf16``, ``fp16`` and ``compile``.
        """
        return None

    def training_warnings(self, dataset: Dataset) -> Sequence[str]:
        """Warnings about a training that has ended, by some points; nothing by default."""
        return ()


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

    def reconstruct(self, x: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        """x (B, *E) decoded from its code, (B, *E); ``options`` are the options of ``decode``."""
        return self.decode(self.encode(x), generator=generator, **options)

    def generate(self, n: int, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        """n events (n, *E), decoded from codes of ``draw_codes``; ``options`` are the options of ``decode``."""
        return self.decode(self.draw_codes(n, generator=generator), generator=generator, **options)

    def draw_codes(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Codes (n, *latent_shape) from the distribution that training held them to, on the component's device. Raises
        ``ConfigError`` where there is no such distribution.
        """
        raise ConfigError(
            f"{type(self).__name__} has no distribution of codes to sample from",
            hint="codes: gaussian fits a normal distribution to the codes of data",
        )

    def diagnose_codes(
        self, x: Tensor, generator: torch.Generator
    ) -> tuple[Mapping[str, float], Sequence[str], Mapping[str, Tensor]]:
        """Diagnose the codes of events x (N, *E) for the verb ``latents``.

        Numbers by name, finite, which stand in the result's ``diagnostics``; warnings about the codes; arrays by name.
        All that is drawn comes from ``generator``, on the component's device. Nothing by default.
        """
        return {}, (), {}


class EncodesNoise(Encodes):
    """A component whose code leaves out what the noise of a draw decides, so that code and noise give an event back.

    ``decode`` takes that noise as its option ``noise``, (B, *E), drawn where it is not given.
    """

    @abstractmethod
    def encode_noise(self, x: Tensor, z: Tensor, **options: Any) -> Tensor:
        """The noise (B, *E) with which ``decode`` brings x (B, *E) back from its code z (B, *latent_shape). ``options``
        are the options of ``decode``.
        """


class Transports(ABC):
    """A geometry with parallel transport."""

    @abstractmethod
    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """The tangent vector v (B, *E) at x moved along the geodesic to y; a tangent vector at y."""


class ClosedFormGeodesics(ABC):  # noqa: B024 - a marker: geodesics cost no solver
    """A geometry whose geodesics, exponential and logarithm are closed forms."""


class KnowsDistribution(ABC):
    """A data source whose points follow a distribution with a closed form, or one made of sources that may."""

    @abstractmethod
    def distribution(self) -> Any:
        """The distribution of the points, a ``scorefold_toolkit.distributions.Distribution`` over flattened events
        (D,). None where a source that this one is made of has none.
        """
