"""Flows of images given images, classes and vectors: CAFLOW, Dual-Glow, and a conditional invertible network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.batching import FEW, in_calls
from scorefold.data import Condition, Dataset, map_condition, measured_rows
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import DataSource, Flow, Loss, Phase, Progress, Trainable
from scorefold.random import draw_uniform
from scorefold_caflow.config import CINNConfig, LatentTranslationConfig
from scorefold_caflow.flow.inputs import Dequantiser, preprocessing
from scorefold_caflow.flow.parts import Given, TwoEncoders, build_parts
from scorefold_toolkit.captions import captioned
from scorefold_toolkit.figures import as_images, strips, training
from scorefold_toolkit.nn import StandardNormal
from scorefold_toolkit.training.validation import LossReference, normal_reference

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_START = 256  # images that normalisations start from
_ROUND_TRIP = 1e-3  # how far, in deviations of the data, an event may come back
_FINEST = 1 / 256  # the noise of a condition beside continuous events, in deviations


class ImageFlow(Flow, Trainable):
    """log p(w | y) of images w (C, H, W) given a condition y: images of any size, classes, vectors, or several of them.

    z packs the latents of ``latent_shapes``, flattened in order, into the shape of the event. A temperature is one
    number, one a latent, or one a scale from the coarsest on. The loss is -log p(w | y) - lambda log p(y) in bits a
    dimension of w, where the condition has a density of its own (lambda is ``condition_weight``); y is then taken with
    uniform noise as wide as the data's levels, or 1/256 of its deviation for continuous data, and as it is everywhere
    else.

    Raises ``ConfigError`` for events that are no images, and for sizes that the scales can't halve.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> digits = {"use": "data:digits", "config": {"limit": 60}}
    >>> pairs = host.create("data:paired", {"operator": {"name": "mask"}}, data=digits)
    >>> small = {"steps": 1, "hidden": 8}
    >>> flow = host.create("flow:caflow", {"encoder": small, "translation": small}, data=pairs)
    >>> flow.sample(2, condition=pairs.load("test").condition[:3]).shape
    torch.Size([2, 3, 1, 8, 8])
    """

    def __init__(self, config: LatentTranslationConfig | CINNConfig, *, data: DataSource) -> None:
        if len(data.event_shape) != 3:
            raise ConfigError(
                f"events of shape {tuple(data.event_shape)} were given; image flows take (C, H, W)",
                hint="flow:affine-coupling takes vectors",
            )
        super().__init__(
            data.event_shape,
            StandardNormal(),
            condition_spec=data.condition_spec,
            event_scale=data.event_scale,
        )
        self.config = config
        self.training_config = config.training
        self.preprocess = preprocessing(config.preprocess, self.event_scale, config.logit_margin)
        self.split, self.parts = build_parts(config, self.event_shape, data.condition_spec)
        variational = config.dequantisation == "variational"
        if variational and self.bin_width is None:
            raise ConfigError(
                "dequantisation: variational takes discrete data, and these have no levels",
                hint="dequantisation: uniform leaves continuous data as they are",
            )
        self.dequantiser = Dequantiser(self.event_shape, 32) if variational else None

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.parts.latent_shapes

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(x)
        given = self._given(condition, x)
        x, given = _one_batch(x, given)
        w, scaled = self.preprocess(x)
        z, log_det = self.parts(w, given)
        return self._packed(z), (scaled + log_det).expand(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(z)
        given = self._given(condition, z)
        z, given = _one_batch(z, given)
        w, log_det = self.parts.inverse(self.unpack(z), given)
        x, scaled = self.preprocess.inverse(w)
        return x, (log_det + scaled).expand(len(z))

    def invert_draws(self, z: Tensor, condition: Condition | None) -> Tensor:
        """The events of latents (n, C, *E) given C conditions, each encoded once; of (n, *E) without any."""
        if condition is None:
            return super().invert_draws(z, condition)
        count = z.shape[0] * z.shape[1]
        rows = FEW if count <= FEW else self.call_rows()

        def inverted(z: Tensor, condition: Condition) -> Tensor:
            """Latents (C, n, *E) of some conditions, as many draws a call as there is room for."""
            encoded = self._given(condition, z)
            return torch.cat(
                [self._inverted(part, encoded) for part in z.split(max(1, rows // max(1, len(z))), dim=1)], 1
            )

        x: Tensor = in_calls(rows, inverted, z.transpose(0, 1), condition=condition)
        return x.transpose(0, 1)

    def _inverted(self, z: Tensor, encoded: Given) -> Tensor:
        draws = z.transpose(0, 1)
        w, _ = self.parts.inverse(self.unpack(draws.flatten(0, 1)), encoded.repeat(len(draws)))
        x, _ = self.preprocess.inverse(w)
        return x.reshape(draws.shape).transpose(0, 1)

    def log_prob(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """As of any flow; with variational noise one draw of a bound too, but without a generator, at u = 1/2, neither
        a bound nor an estimate without bias."""
        if self.dequantiser is None:
            return super().log_prob(x, condition, generator)
        self.check_events(x)
        continuous, gained = self._continuous(x, generator)
        z, log_det = self(continuous, condition)
        density: Tensor = self.base.log_prob(z) + log_det + gained
        return density

    def condition_log_prob(self, condition: Condition) -> Tensor | None:
        """log p(y) of the condition's image, (B,), in nats and its own units: how usual the image is.

        Where ``SplitCondition`` encodes the image at another size, y is the image at that size. Returns None for
        ``flow:cinn``, and where no part of the condition is an image.
        """
        given = self._given(condition, self._reference())
        if given.log_prob is None:
            return None
        assert self.split.image_shape is not None
        pixels = math.prod(self.split.image_shape[1:])
        own: Tensor = given.log_prob - pixels * self.split.std.log().sum()
        return own

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """Takes the units of the condition's image from the data, and starts the normalisations from a batch."""
        few = dataset.take(torch.arange(measured_rows(len(dataset), self.event_shape)))
        with torch.no_grad():
            self.split.measure(few.condition if self.condition_spec is not None else None, few.x)
            order = torch.randperm(len(few), generator=generator, device=generator.device)[:_START]
            batch = few.take(order)
            image, vector = self.split(batch.condition if self.condition_spec is not None else None, batch.x)
            self.parts.initialise(self.preprocess(self.dequantise(batch.x, generator))[0], image, vector)

    def phases(self) -> Sequence[Phase]:
        config, parts = self.config, self.parts
        if isinstance(config, CINNConfig) or config.order == "joint" or not isinstance(parts, TwoEncoders):
            return (Phase("joint", (self,)),)
        rest = (parts.translation,) if self.dequantiser is None else (parts.translation, self.dequantiser)
        modules: dict[str, tuple[nn.Module, ...]] = {"event-encoder": (parts.event_encoder,)}
        if parts.condition_encoder is not None:
            modules["condition-encoder"] = (parts.condition_encoder,)
        modules["translation"] = rest
        if config.order == "staged-joint":
            modules["joint"] = (self,)
        # Encoders of no steps have nothing to train.
        names = [name for name, those in modules.items() if any(list(one.parameters()) for one in those)]
        return tuple(
            Phase(name, modules[name], after=before) for name, before in zip(names, [None, *names], strict=False)
        )

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        condition = batch.condition if self.condition_spec is not None else None
        image, vector = self.split(condition, batch.x)
        if progress.phase == "condition-encoder":
            given = self.parts.given(self._noised(image, generator), vector)
            assert given.log_prob is not None
            assert image is not None
            return Loss(-given.log_prob.mean() / (image[0].numel() * math.log(2)))
        x, gained = self._continuous(batch.x, generator)
        w, scaled = self.preprocess(x)
        if progress.phase == "event-encoder":
            assert isinstance(self.parts, TwoEncoders)
            latents, log_det = self.parts.event_encoder(w)
            density = log_det + torch.stack([self.parts.base.log_prob(latent) for latent in latents]).sum(0)
            return Loss(self._bits(density + scaled + gained))
        given = self.parts.given(self._noised(image, generator), vector)
        z, log_det = self.parts(w, given)
        density = self.base.log_prob(self._packed(z)) + log_det + scaled + gained
        bits = self._bits(density)
        weight = 0.0 if isinstance(self.config, CINNConfig) else self.config.condition_weight
        if given.log_prob is None or weight == 0:
            return Loss(bits)
        own = -given.log_prob.mean() / (self.dimension * math.log(2))
        return Loss(bits + weight * own, {"bits": bits.detach(), "bits of the condition": own.detach()})

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        """The bits a dimension of a normal distribution of each coordinate, which knows no condition."""
        found = None if phase == "condition-encoder" else normal_reference(points, bin_width=self.bin_width)
        if found is None:
            return None
        nats = found.value - (0.0 if self.bin_width is None else math.log(self.bin_width))
        return LossReference(nats / math.log(2), found.of)

    def refuses(self, strategy: str) -> str | None:
        if strategy == "compile" and self.config.recompute != "no":
            return "what is recomputed in the backward pass can't be compiled; set recompute: no"
        if strategy in ("bf16", "fp16"):
            return "a flow has to be inverted in full precision; set runtime.precision to no"
        return None

    @torch.no_grad()
    def training_warnings(self, dataset: Dataset) -> Sequence[str]:
        """Check that the inverse still undoes the map, and that samples are finite: rounding grows as training moves
        the maps.
        """
        condition = dataset.condition if self.condition_spec is not None else None
        back, _ = self.inverse(self(dataset.x, condition)[0], condition)
        error = float((back - dataset.x).abs().max()) / self.event_scale.std
        draws = self.sample(1 if condition is not None else 64, condition, generator=torch.Generator(back.device))
        wrong = int((~draws.isfinite().flatten(-3).all(-1)).sum())
        fix = "set linear: orthogonal, lower bound, or take dtype: float64"
        found = [*self._noise_warnings(dataset)]
        if not error < _ROUND_TRIP:
            found.append(
                f"the inverse brings events back only to {error:.2g} of the data's deviation, "
                f"{_ROUND_TRIP:g} expected: {fix}"
            )
        if wrong:
            found.append(f"{wrong} of {draws[..., 0, 0, 0].numel()} draws are not finite: {fix}")
        return found

    def _noise_warnings(self, dataset: Dataset) -> Iterator[str]:
        """Check that the condition's noise in training does not hide it: its width is a level's, in the units of the
        events.
        """
        image = None if self.condition_spec is None else self.split(dataset.condition, dataset.x)[0]
        if image is None or self.bin_width is None or isinstance(self.config, CINNConfig):
            return
        span = (image.amax((0, 2, 3)) - image.amin((0, 2, 3))) * self.split.std.flatten()
        narrow = span[(span > 0) & (span < 0.99 * self.bin_width)]
        if len(narrow):
            yield (
                f"{len(narrow)} of {len(span)} channels of the condition span as little as {float(narrow.min()):.2g}, "
                f"and training adds noise as wide as a level of the events, {self.bin_width:.2g}: bring the condition "
                "to the units of the events"
            )

    def _bits(self, density: Tensor) -> Tensor:
        return -density.mean() / (self.dimension * math.log(2))

    def _continuous(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor | float]:
        """Events with noise u within a level, 1/2 without a generator, and what a level's log-probability gains beside
        the density there: D log bin - log q(u | x), (B,). Continuous data as they are, and 0."""
        if self.bin_width is None:
            return x, 0.0
        offset = self.dimension * math.log(self.bin_width)
        if self.dequantiser is None:
            return self.dequantise(x, generator), offset
        shown = (x - self.event_scale.mean) / self.event_scale.std
        if generator is None:
            return x, offset - self.dequantiser.log_prob(torch.full_like(x, 0.5), shown)
        noise, log_noise = self.dequantiser.draw(shown, generator)
        return x + (noise - 0.5) * self.bin_width, offset - log_noise

    def _noised(self, image: Tensor | None, generator: torch.Generator) -> Tensor | None:
        """The condition's image with uniform noise as wide as the data's levels: without it, what has levels or is
        the same everywhere (a mask, hidden pixels) has a density without bound, and lambda would pay for it."""
        if image is None or isinstance(self.config, CINNConfig):
            return image
        width = _FINEST if self.bin_width is None else self.bin_width / self.split.std
        u = draw_uniform(tuple(image.shape), generator=generator, like=image)
        return image + (u - 0.5) * width

    def _given(self, condition: Condition | None, like: Tensor) -> Given:
        image, vector = self.split(condition, like)
        return self.parts.given(image, vector)

    def _packed(self, z: Sequence[Tensor]) -> Tensor:
        flat = torch.cat([latent.flatten(1) for latent in z], 1)
        return flat.reshape(len(flat), *self.event_shape)

    def _temperatures(self, temperature: float | Sequence[float], z: Tensor) -> Tensor | float:
        if not isinstance(temperature, int | float):
            each = list(temperature)
            scales = max(self.parts.scale_of) + 1
            if len(each) == scales != len(self.latent_shapes):
                temperature = [each[scale] for scale in self.parts.scale_of]
            elif len(each) not in (scales, len(self.latent_shapes)):
                latents = len(self.latent_shapes)
                more = "" if scales == latents else f", or {latents}, one a latent"
                raise ShapeError(
                    f"a list of {len(each)} temperatures was given; expected one of {scales}, one a scale from the "
                    f"coarsest on{more}",
                    hint="one number is the temperature of all latents",
                )
        return super()._temperatures(temperature, z)


def _one_batch(x: Tensor, given: Given) -> tuple[Tensor, Given]:
    """Events and an encoded condition with one number of rows: a batch of 1 serves for several of the other."""
    first = next(iter([*given.latents, *([] if given.constant is None else [given.constant])]), None)
    if first is None or len(first) == len(x):
        return x, given
    if len(first) == 1:
        return x, given.repeat(len(x))
    if len(x) == 1:
        return x.expand(len(first), *x.shape[1:]), given
    raise ShapeError(f"{len(x)} events were given with {len(first)} conditions; expected as many, or one of either")


TEMPERATURES = (0.0, 0.5, 0.8, 1.0)
_SHOWN, _DRAWS = 7, 32


@captioned(
    {
        "temperatures": (
            "Samples at rising temperature T from the same noise, next to the truth. Colder samples differ less; "
            "std is their spread at T = 1."
        ),
    }
)
def image_flow_figures(drawn: Any) -> Mapping[str, Figure]:
    """The losses of a ``Fitted`` flow, and its draws for some of what it was trained on."""
    found = dict(training(drawn))
    model = getattr(drawn, "model", None)
    if not isinstance(model, ImageFlow) or not len(drawn.events):
        return found
    given = drawn.condition if model.condition_spec is not None else None
    first = map_condition(given, lambda one: one[:_SHOWN])
    return {**found, "temperatures": temperatures(model, drawn.events[:_SHOWN], first)}


@torch.no_grad()
def temperatures(model: ImageFlow, events: Tensor, condition: Condition | None) -> Figure:
    """A row for each of some events (n, C, H, W): its condition where that is an image, one draw for it at rising
    temperatures from the same noise, the truth, and the standard deviation of many draws at temperature 1.

    Without a condition nothing belongs to one event, and the columns are draws alone.
    """
    scale = model.event_scale
    low = float(events.min()) if scale.low is None else scale.low
    high = float(events.max()) if scale.high is None else scale.high
    columns: list[tuple[str, Tensor, tuple[float, float]]] = []
    seen = _picture(condition, events)
    if seen is not None:
        columns.append(("condition", seen, (float(seen.min()), float(seen.max()))))
    count = len(events) if condition is None else 1
    for temperature in TEMPERATURES:
        draw = model.sample(count, condition, temperature, generator=_noise(events)).reshape_as(events)
        columns.append((f"T = {temperature:g}", _shown(draw), (low, high)))
    if condition is None:
        return strips(columns, None)
    columns.append(("truth", _shown(events), (low, high)))
    many = model.sample(_DRAWS, condition, generator=_noise(events))
    if scale.low is not None or scale.high is not None:
        many = many.clamp(scale.low, scale.high)
    return strips(columns, many.std(0).float().cpu())


def _noise(like: Tensor) -> torch.Generator:
    return torch.Generator(like.device).manual_seed(0)


def _shown(x: Tensor) -> Tensor:
    images = as_images(x)
    assert images is not None
    return images.cpu()


def _picture(condition: Condition | None, events: Tensor) -> Tensor | None:
    """The first image among the parts of a condition, in its own proportions and as high as the events."""
    if condition is None:
        return None
    parts = [condition] if isinstance(condition, Tensor) else list(condition.values())
    images = [part for part in parts if part.dim() == 4 and part.is_floating_point()]
    if not images:
        return None
    height, width = images[0].shape[2:]
    size = (events.shape[2], max(1, round(width * events.shape[2] / height)))
    return functional.interpolate(_shown(images[0]), size, mode="nearest")
