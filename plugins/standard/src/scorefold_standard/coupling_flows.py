"""Coupling flows: RealNVP, Glow and neural spline flows, by configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from scorefold.data import Condition, Dataset, DataSpec
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import DataSource, Flow, Loss, Progress, Trainable
from scorefold_standard.config import AffineCouplingConfig, SplineCouplingConfig
from scorefold_toolkit.nn import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Box,
    Chain,
    Conditioner,
    ConditionMap,
    ConditionScale,
    ConditionVector,
    ConvConditioner,
    Couplings,
    DiagonalNormal,
    Householder,
    LULinear,
    MultiScale,
    SplineCoupling,
    Squeeze,
    StandardNormal,
    box_ends,
    check_divisible,
    coupling_halves,
    spline_parameters,
)
from scorefold_toolkit.training.validation import LossReference, normal_reference

CouplingFlowConfig = AffineCouplingConfig | SplineCouplingConfig

_ROWS = 65_536
"""Training points that are compared with limits at once."""


class CouplingFlow(Flow, Trainable):
    """Layers of (activation normalisation, invertible linear map, coupling) on standardised events.

    Events are brought to mean 0 and standard deviation 1 by ``event_scale``. Vectors go through one chain of layers
    (Dinh et al. 2017; Durkan et al. 2019). Images go through ``levels`` scales, each a squeeze and a chain whose
    linear maps mix channels and whose conditioners are convolutions; half of the channels leaves after each (Kingma
    and Dhariwal 2018). Conditions enter every conditioner: classes as one-hot codes, tensors as numbers or, beside
    images, as channels. Numbers enter by a ``ConditionScale``. With ``within`` a ``Box`` takes the place of
    the standardisation: every sample lies inside, and the density outside is 0.

    Raises ``ConfigError`` for images that can't be halved ``levels`` times, with the nearest sizes that can, and for
    limits of images, of discrete data, or of another number of coordinates.

    >>> from scorefold_registry import Host
    >>> banana = {"use": "data:banana", "config": {"points": 200}}
    >>> flow = Host.discover().create("flow:affine-coupling", {"layers": 2, "hidden": [8]}, data=banana)
    >>> x = torch.zeros(3, 2)
    >>> torch.allclose(flow.inverse(flow(x)[0])[0], x, atol=1e-5), flow.log_prob(x).shape
    (True, torch.Size([3]))
    """

    _anchor: Tensor

    def __init__(self, config: CouplingFlowConfig, *, data: DataSource | DataSpec) -> None:
        shape = tuple(data.event_shape)
        image = len(shape) == 3 if config.layout == "auto" else config.layout == "image"
        if image and len(shape) != 3:
            raise ConfigError(f"layout image needs events (C, H, W); they have shape {shape}", hint="layout: vector")
        latent = shape if image else (math.prod(shape),)
        super().__init__(
            shape,
            DiagonalNormal(shape) if config.base == "diagonal-normal" else StandardNormal(),
            condition_spec=data.condition_spec,
            event_scale=data.event_scale,
        )
        self.config = config
        self.training_config = config.training
        self._latent = latent
        # The device and dtype of the flow, known without a walk through its modules at every call.
        self.register_buffer("_anchor", torch.empty(0), persistent=False)
        self.box: Box | None = None
        if config.within is not None:
            if image or self.bin_width is not None:
                raise ConfigError("'within' is for vectors of continuous numbers", hint="leave 'within' out")
            self.box = Box(*box_ends(config.within, data.event_scale, math.prod(shape)))
        self.condition_scale = ConditionScale(data.condition_spec)
        self.context: ConditionMap | ConditionVector
        self.layers: MultiScale | Couplings | Chain
        if image:
            check_divisible(latent, 2**config.levels, f"a flow of {config.levels} levels")
            self.context = ConditionMap(data.condition_spec, (latent[1], latent[2]))
            self.layers = self._image_layers(config, latent)
        else:
            self.context = ConditionVector(data.condition_spec)
            self.layers = self._vector_layers(config, latent[0], self.context.width)

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(x)
        x, context = self._with_context(x, self._encoded(condition, x))
        standard, volume = self._standardised(x)
        z, log_det = self.layers(standard, context)
        return (z if z.shape == x.shape else z.reshape(x.shape)), log_det + volume

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(z)
        z, context = self._with_context(z, self._encoded(condition, z))
        standard, log_det = self.layers.inverse(z.reshape(z.shape[0], *self._latent), context)
        if self.box is not None:
            x, volume = self.box.inverse(standard)
            return x.reshape(z.shape), log_det + volume
        x, scale = standard.reshape(z.shape).contiguous(), self.event_scale
        return (x if self._is_standard else x * scale.std + scale.middle(x)), log_det + self._log_volume

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self.layers.latent_shapes) if isinstance(self.layers, MultiScale) else (self.event_shape,)

    @torch.no_grad()
    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """Takes the scales of conditions, and starts the activation normalisations, from up to ``start_points`` points
        of the data, dequantised."""
        order = torch.randperm(len(dataset), generator=generator, device=generator.device).cpu()
        reference = self._reference()
        batch = dataset.take(order[: self.config.start_points]).to(reference.device, reference.dtype)
        condition = None if self.condition_spec is None else batch.condition
        self.condition_scale.prepare(condition)
        x, context = self._with_context(self.dequantise(batch.x, generator), self._encoded(condition, batch.x))
        if self.box is not None:
            for rows in torch.arange(len(dataset)).split(_ROWS):
                self.box.check(dataset.take(rows).x.flatten(1).to(x))
            self.box.prepare(x.flatten(1))
        self.layers.initialise(self._standardised(x)[0], context)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        """The mean negative log-likelihood in nats per coordinate, dequantised where the data are discrete."""
        condition = None if self.condition_spec is None else batch.condition
        if self.box is not None and not torch.is_grad_enabled():
            self.box.check(batch.x.flatten(1))
        value = -self.log_prob(batch.x, condition, generator).mean() / self.dimension
        if self.bin_width is None:
            return Loss(value)
        return Loss(value, {"bits_per_dim": value.detach() / math.log(2)})

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        """The nats a coordinate of a normal distribution of each, which knows no condition."""
        found = normal_reference(points, bin_width=self.bin_width)
        if found is None or self.bin_width is None:
            return found
        return replace(found, value=found.value - math.log(self.bin_width))

    def _reference(self, default: Tensor | None = None) -> Tensor:
        return self._anchor

    @property
    def _log_volume(self) -> float:
        """log |det| of the map from standardised events to events."""
        return self.dimension * math.log(self.event_scale.std)

    @property
    def _is_standard(self) -> bool:
        scale = self.event_scale
        return (scale.mean, scale.std, scale.centre) == (0, 1, None)

    def _standardised(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """Events at mean 0 and standard deviation 1, in the shape that the layers take, and log |det| of this map."""
        if self.box is not None:
            found: tuple[Tensor, Tensor] = self.box(x.reshape(x.shape[0], *self._latent))
            return found
        scale = self.event_scale
        if not self._is_standard:
            x = (x - scale.middle(x)) * (1 / scale.std)
        return x.reshape(x.shape[0], *self._latent), -self._log_volume

    def _encoded(self, condition: Condition | None, like: Tensor) -> Tensor | None:
        encoded: Tensor | None = self.context(self.condition_scale(condition), like)
        return encoded

    def _with_context(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Events and their encoded condition, where one of either serves for all of the other."""
        if context is None or context.shape[0] in (1, x.shape[0]):
            return x, context
        if x.shape[0] != 1:
            raise ShapeError(
                f"{x.shape[0]} events were given with {context.shape[0]} conditions; expected as many, or 1"
            )
        return x.expand(context.shape[0], *self.event_shape), context

    def _vector_layers(self, config: CouplingFlowConfig, features: int, condition: int) -> Couplings | Chain:
        if config.actnorm or config.linear != "none":
            return Chain(self._steps(config, features, condition, image=False))
        swaps = (index % 2 == 1 for index in range(config.layers))
        return Couplings(self._coupling(config, features, condition, swap=swap, image=False) for swap in swaps)

    def _image_layers(self, config: CouplingFlowConfig, shape: tuple[int, ...]) -> MultiScale:
        assert isinstance(self.context, ConditionMap)
        channels, height, width = shape
        kept, condition = channels, self.context.width
        levels: list[Bijection] = []
        for _ in range(config.levels):
            kept = 4 * kept
            condition = 4 * condition if self.context.spatial else condition
            levels.append(Chain([Squeeze(), *self._steps(config, kept, condition, image=True)]))
            kept = kept // 2
        return MultiScale(levels, (channels, height, width))

    def _steps(self, config: CouplingFlowConfig, features: int, condition: int, *, image: bool) -> list[Bijection]:
        steps: list[Bijection] = []
        for index in range(config.layers):
            if config.actnorm:
                steps.append(ActNorm(features))
            if config.linear == "lu":
                # Splines are bent along coordinates, and mixed columns need more of their bins.
                steps.append(LULinear(features, rotated=isinstance(config, AffineCouplingConfig)))
            elif config.linear == "orthogonal":
                steps.append(Householder(features))
            steps.append(self._coupling(config, features, condition, swap=index % 2 == 1, image=image))
        return steps

    def _coupling(
        self, config: CouplingFlowConfig, features: int, condition: int, *, swap: bool, image: bool
    ) -> AffineCoupling | SplineCoupling:
        kept, moved = coupling_halves(features, swap)
        out = moved * (2 if isinstance(config, AffineCouplingConfig) else spline_parameters(config.bins))
        conditioner: nn.Module
        if image:
            assert isinstance(self.context, ConditionMap)
            conditioner = ConvConditioner(
                kept,
                out,
                config.channels,
                condition=condition,
                condition_kernel=3 if self.context.spatial else 1,
                activation=config.activation,
            )
        else:
            conditioner = Conditioner(kept, out, config.hidden, condition=condition, activation=config.activation)
        if isinstance(config, AffineCouplingConfig):
            return AffineCoupling(features, conditioner, swap=swap, bound=config.scale_bound)
        return SplineCoupling(features, conditioner, bins=config.bins, bound=config.bound, swap=swap)
