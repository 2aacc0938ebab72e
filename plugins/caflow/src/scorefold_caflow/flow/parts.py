"""Parts of an image flow: the encoding of its condition, and the map from events to latents given this encoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from scorefold.data import ConditionSpec
from scorefold_caflow.config import CAFLOWConfig, CINNConfig, LatentTranslationConfig
from scorefold_caflow.flow.inputs import SplitCondition
from scorefold_caflow.flow.translation import Encoder, Latents, LatentTranslation, Shape, latent_shapes
from scorefold_caflow.layers import FlowBlock
from scorefold_toolkit.nn import StandardNormal, check_divisible


@dataclass(frozen=True)
class Given:
    """An encoded condition: ``latents`` or features of its image, coarsest first, and ``constant`` (B, width) that
    joins them at every pixel; ``log_prob`` (B,) of the image where it has a density, in the flow's units."""

    latents: Latents = field(default_factory=list)
    constant: Tensor | None = None
    log_prob: Tensor | None = None

    def repeat(self, count: int) -> Given:
        """The same ``count`` times, one after another."""

        def times(x: Tensor) -> Tensor:
            return x.repeat(count, *[1] * (x.dim() - 1))

        constant = None if self.constant is None else times(self.constant)
        return replace(self, latents=[times(x) for x in self.latents], constant=constant, log_prob=None)


class ImageFlowParts(nn.Module, ABC):
    """Events (B, C, H, W) to latents, given an encoded condition, and back."""

    latent_shapes: tuple[Shape, ...]
    scale_of: tuple[int, ...]
    """The scale that each latent belongs to, 0 the coarsest."""

    @abstractmethod
    def given(self, image: Tensor | None, vector: Tensor | None) -> Given:
        """The condition, encoded: what all draws for it share."""

    @abstractmethod
    def forward(self, w: Tensor, given: Given) -> tuple[list[Tensor], Tensor]:
        """Latents in the order of ``latent_shapes``, and log |det|."""

    @abstractmethod
    def inverse(self, z: Sequence[Tensor], given: Given) -> tuple[Tensor, Tensor]:
        """The events of latents, and log |det| of this direction."""

    @abstractmethod
    def initialise(self, w: Tensor, image: Tensor | None, vector: Tensor | None) -> None:
        """Sets what starts from data by a batch."""


class TwoEncoders(ImageFlowParts):
    """CAFLOW and Dual-Glow: an encoder each of event and condition, and a distribution of the one's latents given the
    other's.

    Raises ``ConfigError`` for images whose height or width the scales can't halve.
    """

    def __init__(
        self, config: LatentTranslationConfig, event_shape: tuple[int, ...], condition: SplitCondition
    ) -> None:
        super().__init__()
        scales = config.scales
        factor = 2 ** (scales + 1)
        what = f"scales: {scales} with the one halving more of this flow"
        check_divisible(event_shape, factor, what, _fix(event_shape, condition, more=1))
        built = {"squeeze": config.squeeze, "recompute": config.recompute}
        self.event_encoder = Encoder(event_shape, scales, config.encoder, **built)
        shapes = latent_shapes(event_shape, scales)
        image = condition.image_shape
        if image is not None:
            fix = "set condition_size: event, which brings the condition to the event's size, or crop or pad its images"
            check_divisible(image, factor, f"scales: {scales} on the condition", fix)
            self.condition_encoder: Encoder | None = Encoder(image, scales, config.encoder, **built)
            given = latent_shapes(image, scales)
        else:
            self.condition_encoder, given = None, ()
        self.translation = LatentTranslation(
            shapes,
            given,
            config.translation,
            constant=condition.width,
            coarser=config.coarser if isinstance(config, CAFLOWConfig) else "none",
            shared=isinstance(config, CAFLOWConfig) and config.shared,
            adapter=config.adapter,
            recompute=config.recompute,
        )
        self.latent_shapes = self.translation.latent_shapes
        self.scale_of = tuple(i for i, _ in self.translation.order())
        self.base = StandardNormal()

    def given(self, image: Tensor | None, vector: Tensor | None) -> Given:
        if image is None or self.condition_encoder is None:
            return Given(constant=vector)
        latents, log_det = self.condition_encoder(image)
        return Given(latents, vector, log_det + sum(self.base.log_prob(latent) for latent in latents))

    def forward(self, w: Tensor, given: Given) -> tuple[list[Tensor], Tensor]:
        latents, encoded = self.event_encoder(w)
        z, translated = self.translation(latents, given.latents, given.constant)
        return z, encoded + translated

    def inverse(self, z: Sequence[Tensor], given: Given) -> tuple[Tensor, Tensor]:
        latents, translated = self.translation.inverse(z, given.latents, given.constant)
        w, encoded = self.event_encoder.inverse(latents)
        return w, translated + encoded

    def initialise(self, w: Tensor, image: Tensor | None, vector: Tensor | None) -> None:
        latents = self.event_encoder.initialise(w)
        given = [] if image is None or self.condition_encoder is None else self.condition_encoder.initialise(image)
        self.translation.initialise(latents, given, vector)


class OneFlow(ImageFlowParts):
    """A conditional invertible network: one multi-scale flow whose couplings see features of the condition.

    Features come from a network of convolutions, one more halving a scale, trained with the flow; a condition of
    another size is brought to the event's, see ``conditions.resized_condition``. Ardizzone et al. (2019, 2021).
    """

    def __init__(self, config: CINNConfig, event_shape: tuple[int, ...], condition: SplitCondition) -> None:
        super().__init__()
        what = f"scales: {config.scales}"
        check_divisible(event_shape, 2**config.scales, what, _fix(event_shape, condition, more=0))
        channels = condition.image_shape[0] if condition.image_shape is not None else 0
        self.features = Features(channels, config.features, config.scales) if channels else None
        seen = condition.width + (config.features if channels else 0)
        self.blocks = nn.ModuleList(
            FlowBlock(
                event_shape[0] * 2**scale,
                config.flow,
                condition=seen,
                injector=config.injectors,
                squeeze=config.squeeze,
                recompute=config.recompute,
            )
            for scale in range(config.scales)
        )
        shapes = latent_shapes(event_shape, config.scales)
        self.sizes = [shape[1:] for shape in reversed(shapes)]
        self.latent_shapes = shapes
        self.scale_of = tuple(range(config.scales))

    def given(self, image: Tensor | None, vector: Tensor | None) -> Given:
        if image is None or self.features is None:
            return Given(constant=vector)
        return Given(self.features(image), vector)

    def forward(self, w: Tensor, given: Given) -> tuple[list[Tensor], Tensor]:
        latents, total = [], w.new_zeros(())
        for scale, block in enumerate(self.blocks):
            w, log_det = block(w, self._context(scale, given))
            total = total + log_det
            if scale + 1 < len(self.blocks):
                latent, w = w.chunk(2, 1)
                latents.append(latent)
        return [w, *reversed(latents)], total

    def inverse(self, z: Sequence[Tensor], given: Given) -> tuple[Tensor, Tensor]:
        w, *finer = z
        total = w.new_zeros(())
        for place, scale in enumerate(reversed(range(len(self.blocks)))):
            if place:
                w = torch.cat((finer[place - 1], w), 1)
            block = self.blocks[scale]
            assert isinstance(block, FlowBlock)
            w, log_det = block.inverse(w, self._context(scale, given))
            total = total + log_det
        return w, total

    def initialise(self, w: Tensor, image: Tensor | None, vector: Tensor | None) -> None:
        given = self.given(image, vector)
        for scale, block in enumerate(self.blocks):
            assert isinstance(block, FlowBlock)
            w = block.initialise(w, self._context(scale, given))
            if scale + 1 < len(self.blocks):
                w = w.chunk(2, 1)[1]

    def _context(self, scale: int, given: Given) -> Tensor | None:
        parts = [given.latents[len(self.sizes) - 1 - scale]] if given.latents else []
        if given.constant is not None:
            parts.append(given.constant[:, :, None, None].expand(-1, -1, *self.sizes[scale]))
        return torch.cat(parts, 1) if parts else None


class Features(nn.Module):
    """An image (B, C, H, W) to features (B, width, H / 2^s, W / 2^s) of scales s = 1 .. n, the coarsest first."""

    def __init__(self, channels: int, width: int, scales: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels if scale == 0 else width, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 2, stride=2),
            )
            for scale in range(scales)
        )

    def forward(self, image: Tensor) -> Latents:
        found: Latents = []
        for level in self.levels:
            image = level(image if not found else nn.functional.silu(image))
            found.append(image)
        return found[::-1]


def _fix(shape: tuple[int, ...], condition: SplitCondition, *, more: int) -> str:
    """The hint for events (C, H, W) that can't be halved once per scale, and ``more`` times more."""
    halvings = min((size & -size).bit_length() - 1 for size in shape[1:])
    fewer = f"set scales: {halvings - more}, or " if halvings > more else ""
    part = any(one.shape[1:] != shape[1:] for one in condition.images.values())
    hidden = ", or, where data:paired hides them, set another fraction of the mask" if part else ""
    return f"{fewer}crop or pad the images{hidden}"


def build_parts(
    config: LatentTranslationConfig | CINNConfig, event_shape: tuple[int, ...], spec: ConditionSpec | None
) -> tuple[SplitCondition, ImageFlowParts]:
    """The condition's split and the parts that a config asks for."""
    size = (event_shape[1], event_shape[2])
    if isinstance(config, CINNConfig):
        split = SplitCondition(spec, size)
        return split, OneFlow(config, event_shape, split)
    split = SplitCondition(spec, size if config.condition_size == "event" else None)
    return split, TwoEncoders(config, event_shape, split)
