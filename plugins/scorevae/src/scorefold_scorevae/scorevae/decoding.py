"""From code and noise to an event by the score given the code, and back; and a code as a network is given it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import TensorSpec
from scorefold.diffusion import DiffusionProcess, Isotropic, resolve_sampler, time_grid
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import EncodesNoise, Prepares, as_network
from scorefold_scorevae.config import DecodingConfig
from scorefold_toolkit.probability_flow import to_noise

_TUNED = tuple(DecodingConfig.model_fields)
_RANDOM = ("euler-maruyama", "predictor-corrector")


@torch.no_grad()
def decode(
    model: Any, z: Tensor, *, generator: torch.Generator | None = None, noise: Tensor | None = None, **options: Any
) -> Tensor:
    """Draws of p(x | z), one a code: z (B, k) to x (B, *E), from noise (B, *E) at t_max, drawn unless it is given.

    ``options`` are ``sampler`` (a name or a function), ``steps``, ``spacing`` and ``guidance``, the model's own unless
    given; others go to its ``bind``. Where neither names a sampler, it is ``heun``, and ``edm`` for noise that is drawn
    by a process whose signal stays whole, in whose time Heun's method errs more. A batch of one code or one noise
    serves for several of the other. Raises ``ShapeError`` for codes and noise of other shapes, ``ConfigError`` for
    options that do not fit.
    """
    usual = "edm" if noise is None and _keeps_signal(model.process) else "heun"
    settings, sampler, further = _settings(model, options, usual)
    check_codes(model, z)
    if noise is not None:
        model.check_events(noise)
        z, noise = _one_batch(z, noise)
    x = noise
    if x is None:
        x = model.process.sample_prior((len(z), *model.event_shape), generator=generator, like=z)
    bound = model.bind(z, generator=generator, guidance=settings.pop("guidance"), **further)
    drawn: Tensor = sampler(bound, model.process, x, time_grid(model.process, **settings), generator=generator)[0]
    return drawn


@torch.no_grad()
def noise_of_event(model: Any, x: Tensor, z: Tensor, **options: Any) -> Tensor:
    """The noise (B, *E) at t_max from which the probability flow given z (B, k) reaches x (B, *E).

    The noise has an error of second order in the steps; ``heun`` on the same grid brings x back with one of third
    order, since what the two directions err cancels. Options and errors as for ``decode``; the only sampler is
    ``heun``, and a model whose own draws at random is refused unless that is asked for.
    """
    settings, _, further = _settings(model, {**options, "sampler": _only_heun(options, model.decoding.sampler)}, "heun")
    check_codes(model, z)
    model.check_events(x)
    z, x = _one_batch(z, x)
    bound = model.bind(z, guidance=settings.pop("guidance"), **further)
    return to_noise(bound, model.process, x, time_grid(model.process, **settings))


class DecodesByScore(EncodesNoise):
    """A score model that decodes a code by sampling its score given the code, which ``score`` takes as condition."""

    def decode(
        self, z: Tensor, *, generator: torch.Generator | None = None, noise: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Draws of p(x | z), one a code (B, k): see ``scorefold_scorevae.scorevae.decoding.decode``."""
        return decode(self, z, generator=generator, noise=noise, **options)

    def encode_noise(self, x: Tensor, z: Tensor, **options: Any) -> Tensor:
        """The noise that brings x back from z: see ``scorefold_scorevae.scorevae.decoding.noise_of_event``."""
        return noise_of_event(self, x, z, **options)


def check_codes(model: Any, z: Tensor) -> None:
    """Raises ``ShapeError`` unless z is (B, *latent_shape), in the dtype of the model and on its device."""
    if tuple(z.shape[1:]) != tuple(model.latent_shape) or z.dim() != len(model.latent_shape) + 1:
        expected = ", ".join(["B", *map(str, model.latent_shape)])
        raise ShapeError(f"codes of shape {tuple(z.shape)} were given; this model's are ({expected})")
    own = model._reference(z)
    if (z.device, z.dtype) != (own.device, own.dtype):
        raise ShapeError(
            f"the codes are {z.dtype} on {z.device}; this model is {own.dtype} on {own.device}",
            hint="move one of them: z.to(device, dtype) or model.to(device, dtype)",
        )


def _keeps_signal(process: DiffusionProcess) -> bool:
    """True if the signal is 1 at t_max too, so that events stay in their units and noise is added."""
    if not isinstance(process, Isotropic):
        return False
    last = torch.tensor([process.t_max], dtype=torch.float64)
    return bool(torch.isclose(process.coefficients(last, last)[0], torch.ones_like(last)).all())


def _only_heun(options: dict[str, Any], own: str | None) -> str:
    if "sampler" not in options and own in _RANDOM:
        raise ConfigError(
            f"this model decodes by {own}, which draws noise at every step: no noise at the start brings an event back",
            hint="say sampler: heun (decoding: {sampler: heun} in a stage's options) both here and to decode",
        )
    if options.get("sampler", "heun") != "heun":
        raise ConfigError(
            f"noise is encoded by heun, and the sampler {options['sampler']!r} was asked for",
            hint="leave sampler out, and decode with sampler: heun",
        )
    return "heun"


def _settings(model: Any, options: dict[str, Any], usual: str) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """steps, spacing and guidance; the sampler, ``usual`` where none is named; and what is left for ``bind``."""
    own: DecodingConfig = model.decoding
    settings = {name: options.get(name, getattr(own, name)) for name in _TUNED}
    further = {name: value for name, value in options.items() if name not in _TUNED}
    sampler = resolve_sampler(settings.pop("sampler") or usual)
    return settings, sampler, further


def _one_batch(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    if len(z) != len(x) and 1 not in (len(z), len(x)):
        raise ShapeError(f"{len(z)} codes were given with {len(x)} events; expected as many, or one of either")
    count = max(len(z), len(x)) if min(len(z), len(x)) else 0
    return z.expand(count, *z.shape[1:]), x.expand(count, *x.shape[1:])


Shape = tuple[int, ...]


class CodeBeside(nn.Module):
    """(x, t, z) to network(x, t, decoder(z)): codes (B, k) become images of the events' shape, laid beside x.

    >>> import torch
    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> small = {"channels": [4, 8], "blocks": 1, "groups": 2}
    >>> decoder = host.create("network:mirror-decoder", small).build((3,), (1, 8, 8))
    >>> network = host.create("network:unet", {**small, "attention": []})
    >>> network = network.build((1, 8, 8), (1, 8, 8), time=True, condition=TensorSpec((1, 8, 8)))
    >>> CodeBeside(network, decoder)(torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, 3)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, network: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.network, self.decoder = network, decoder

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        answer: Tensor = self.network(x, t, self.decoder(z))
        return answer


def given_code(network: object, decoder: object, event: Shape, code: Shape, what: str) -> nn.Module:
    """A module from noised events, noise levels (B,) and codes (B, k) to events.

    The network is shown the code itself or, with a ``decoder``, the decoder's image of the code. ``what`` names the
    owner in errors. Raises ``ConfigError`` where something can't be built here, and the errors of the networks.
    """
    builder = as_network(network, f"the network of {what}")
    if decoder is None:
        return builder.build(event, event, time=True, condition=TensorSpec(code))
    image = as_network(decoder, f"the code_decoder of {what}").build(code, event)
    shown = builder.build(event, event, time=True, condition=TensorSpec(event))
    for part in (image, shown):
        if isinstance(part, Prepares):
            raise ConfigError(
                f"{type(part).__name__} takes statistics of events alone, and {what} gives it codes or their images",
                hint="network: {use: network:unet}, and code_decoder: {use: network:mirror-decoder}",
            )
    return CodeBeside(shown, image)
