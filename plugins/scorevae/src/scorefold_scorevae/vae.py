"""The kind ``autoencoder``, and the variational auto-encoder with a Gaussian decoder, a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Dataset, EventScale
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import DataSource, Encodes, Loss, Progress, Shown, Trainable, as_network
from scorefold.random import draw_normal
from scorefold_scorevae.config import VAEConfig
from scorefold_scorevae.scorevae.encoder import leave_saddle, normal_kl, warmed_up
from scorefold_toolkit.training.validation import LossReference


class Autoencoder(Shown, nn.Module, Encodes):
    """An encoder and a decoder of events (B, *E), with codes (B, *latent_shape).

    Must: set ``event_shape``, ``latent_shape`` and ``event_scale`` (the units of events) by this constructor, and
    implement ``encode``, ``encode_distribution`` and ``decode``. May: ``draw_codes``. Given: ``reconstruct`` and the
    checks of what goes in. No global random state is touched: pass a generator.
    """

    event_shape: tuple[int, ...]
    event_scale: EventScale

    def __init__(
        self, event_shape: tuple[int, ...], latent_shape: tuple[int, ...], event_scale: EventScale | None = None
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.latent_shape = tuple(latent_shape)
        self.event_scale = event_scale or EventScale()

    def check_events(self, x: Tensor) -> None:
        """Raises ``ShapeError`` unless x is (B, *event_shape), in the dtype of the model and on its device."""
        self._check("x", x, self.event_shape)

    def check_codes(self, z: Tensor) -> None:
        """Raises ``ShapeError`` unless z is (B, *latent_shape), in the dtype of the model and on its device."""
        self._check("z", z, self.latent_shape)

    def _check(self, name: str, value: Tensor, shape: tuple[int, ...]) -> None:
        if value.dim() != len(shape) + 1 or tuple(value.shape[1:]) != shape:
            expected = ", ".join(["B", *map(str, shape)])
            raise ShapeError(f"{name} has shape {tuple(value.shape)}; this auto-encoder takes ({expected})")
        own = next((t for t in (*self.parameters(), *self.buffers()) if t.is_floating_point()), value)
        if (value.device, value.dtype) != (own.device, own.dtype):
            raise ShapeError(
                f"{name} is {value.dtype} on {value.device}; this auto-encoder is {own.dtype} on {own.device}",
                hint=f"move one of them: {name}.to(device, dtype) or model.to(device, dtype)",
            )


_RESIDUAL_RATE = 0.01
_BETA_RATE = 0.02
_SILENT = 0.05  # nats


class VAE(Autoencoder, Trainable):
    """q(z | x) = N(mean(x), diag exp(lv(x))), p(x | z) = N(D(z), sigma^2 I) and p(z) = N(0, I).

    The networks see events and give reconstructions of mean 0 and deviation 1; the loss is in the data's own units:

    - ``squared``: E 1/2 ||x - D(z)||^2 + beta KL(q(z | x) || p(z)), summed over coordinates;
    - ``norm``: E ||x - D(z)|| + beta KL, the distance itself.

    sigma is no part of either: ``residual_std`` keeps the root mean square of x - D(z) a coordinate over the last
    hundred or so steps, with z drawn, which is the sigma of the largest likelihood. ``beta`` is what it was at the end
    of training, moved where the configuration has a ``target_kl``. Raises ``ConfigError`` for networks that are not
    built or give other shapes, and for bounds that the data do not have.

    >>> from scorefold_registry import Host
    >>> network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    >>> config = {"latent": 2, "encoder": network, "decoder": network}
    >>> sphere = {"use": "data:sphere", "config": {"dimension": 2, "ambient": 4, "points": 100}}
    >>> vae = Host.discover().create("autoencoder:vae", config, data=sphere)
    >>> vae.encode(torch.zeros(3, 4)).shape, vae.reconstruct(torch.zeros(3, 4)).shape
    (torch.Size([3, 2]), torch.Size([3, 4]))
    """

    residual_std: Tensor
    beta: Tensor

    def __init__(self, config: VAEConfig, *, data: DataSource) -> None:
        super().__init__(data.event_shape, (config.latent,), data.event_scale)
        self.config = config
        self.training_config = config.training
        if config.output == "bounded" and (self.event_scale.low is None or self.event_scale.high is None):
            raise ConfigError(
                "output: bounded keeps reconstructions between the data's bounds, and these data have none",
                hint="output: linear",
            )
        codes = (config.latent,)
        self.encoder = leave_saddle(_built("encoder", config.encoder, self.event_shape, (2 * config.latent,)))
        self.decoder = _built("decoder", config.decoder, codes, self.event_shape)
        self.register_buffer("residual_std", torch.tensor(self.event_scale.std))
        self.register_buffer("beta", torch.tensor(config.beta))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code of x (B, *E), each (B, k)."""
        self.check_events(x)
        answer = self.encoder((x - self.event_scale.middle(x)) / self.event_scale.std)
        mean, log_variance = answer.to(x.dtype).chunk(2, dim=1)
        return mean, log_variance

    def encode(self, x: Tensor) -> Tensor:
        """The mean of the code of x (B, *E), (B, k)."""
        return self.posterior(x)[0]

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.posterior(x)
        return mean, (log_variance / 2).exp()

    def decoded_mean(self, z: Tensor) -> Tensor:
        """D(z), (B, *E), of codes (B, k)."""
        self.check_codes(z)
        answer: Tensor = self.decoder(z).to(z.dtype)
        low, high = self.event_scale.low, self.event_scale.high
        if self.config.output == "bounded" and low is not None and high is not None:
            return low + (high - low) * answer.sigmoid()
        return self.event_scale.middle(answer) + self.event_scale.std * answer

    def decode(
        self,
        z: Tensor,
        *,
        generator: torch.Generator | None = None,
        noise_scale: float | None = None,
        **options: Any,
    ) -> Tensor:
        """D(z) + noise_scale sigma N(0, I), (B, *E): the mean with 0, a draw of p(x | z) with 1.

        ``noise_scale`` is what the configuration's ``residual`` says unless given. Raises ``ConfigError`` for other
        options.
        """
        if options:
            raise ConfigError(
                f"{type(self).__name__} knows no option {', '.join(options)} of decoding", hint="it knows noise_scale"
            )
        if noise_scale is None:
            noise_scale = 1.0 if self.config.residual == "isotropic" else 0.0
        mean = self.decoded_mean(z)
        if noise_scale == 0:
            return mean
        return mean + noise_scale * self.residual_std * draw_normal(tuple(mean.shape), generator=generator, like=mean)

    def draw_codes(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Codes (n, k) from N(0, I)."""
        return draw_normal((n, *self.latent_shape), generator=generator, like=self.residual_std)

    @torch.no_grad()
    def elbo(self, x: Tensor, *, generator: torch.Generator | None = None, draws: int = 1) -> Tensor:
        """The evidence lower bound E ln p(x | z) - KL of each event x (B, *E), in nats (B,), by the mean of ``draws``.

        It is of the density of the data as they are, in their units; rounding to levels is not taken out. Raises
        ``ConfigError`` for fewer than one draw.
        """
        if draws < 1:
            raise ConfigError(f"{draws} draws were asked for; expected at least 1")
        mean, log_variance = self.posterior(x)
        total = x.new_zeros(len(x))
        for _ in range(draws):
            z = _drawn(mean, log_variance, generator)
            total = total + (self.decoded_mean(z) - x).flatten(1).square().sum(1)
        variance = self.residual_std.square()
        constant = math.prod(self.event_shape) * (2 * math.pi * variance).log() / 2
        return -total / draws / (2 * variance) - constant - normal_kl(mean, log_variance).sum(1)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        mean, log_variance = self.posterior(batch.x)
        error = (self.decoded_mean(_drawn(mean, log_variance, generator)) - batch.x).flatten(1)
        if self.config.loss == "squared":
            misfit = (error.square().sum(1) / 2).mean()
        else:
            misfit = torch.linalg.vector_norm(error, dim=1).mean()
        kl = normal_kl(mean, log_variance).sum(1).mean()
        beta = warmed_up(self.config.beta_warmup, progress, training=self.training) * self.beta
        if self.training:
            self._keep(error.detach(), kl.detach(), progress)
        parts = {"reconstruction": misfit.detach(), "kl": kl.detach(), "beta": beta.detach()}
        return Loss(misfit + beta * kl, parts)

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference:
        """The loss of decoding every code to the mean of the points."""
        x = points.tensor().flatten(1)
        error = x - x.mean(0)
        squared = self.config.loss == "squared"
        each = error.square().sum(1) / 2 if squared else torch.linalg.vector_norm(error, dim=1)
        return LossReference(float(each.mean()), "the mean of the data")

    def diagnose_codes(
        self, x: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, float], Sequence[str], dict[str, Tensor]]:
        """beta as training left it, sigma, and the evidence lower bound."""
        numbers = {"beta": float(self.beta), "residual standard deviation": float(self.residual_std)}
        if len(x):
            numbers["evidence lower bound (nats)"] = float(self.elbo(x, generator=generator, draws=4).mean())
        return numbers, (), {}

    @torch.no_grad()
    def training_warnings(self, dataset: Dataset) -> Sequence[str]:
        kl = float(normal_kl(*self.posterior(dataset.x)).sum(1).mean())
        beta = float(self.beta)
        if kl < _SILENT:
            return [
                f"the code says next to nothing of events (posterior collapse): its KL divergence from N(0, I) is "
                f"{kl:.2g} nats at beta {beta:.3g}; lower beta, let it rise for longer (beta_warmup), or set target_kl"
            ]
        target = self.config.target_kl
        if target is not None and abs(kl / target - 1) > 0.1:
            return [
                f"the KL divergence is {kl:.3g} nats and was to be {target:g} (target_kl); beta ended at {beta:.3g}: "
                "train for longer, start beta nearer to it, or use a larger network or latent"
            ]
        return ()

    @torch.no_grad()
    def _keep(self, error: Tensor, kl: Tensor, progress: Progress) -> None:
        """Takes a step's errors (B, D) into sigma, and moves beta by the distance of the KL divergence from its target.

        beta changes by up to 2 per cent a step, and less and less towards the end, when the weights stand still too.
        """
        rate = max(_RESIDUAL_RATE, 1 / (progress.step + 1))
        variance = (1 - rate) * self.residual_std.square() + rate * error.square().mean()
        self.residual_std.copy_(variance.sqrt())
        if self.config.target_kl is not None:
            left = 1 - progress.step / progress.total
            miss = (kl / self.config.target_kl - 1).clamp(-1, 1)
            self.beta.mul_((_BETA_RATE * left * miss).exp())


def _drawn(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
    """Codes (B, k), one an event."""
    return mean + (log_variance / 2).exp() * draw_normal(tuple(mean.shape), generator=generator, like=mean)


def _built(name: str, network: object, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
    """A network's module, tried once. Raises ``ConfigError`` where there is none, or it gives another shape."""
    module = as_network(network, f"the {name} of autoencoder:vae").build(in_shape, out_shape).eval()
    with torch.no_grad():
        answer = module(torch.zeros(2, *in_shape))
    if tuple(answer.shape[1:]) != out_shape:
        expected, given = (", ".join(["B", *map(str, shape)]) for shape in (out_shape, answer.shape[1:]))
        raise ConfigError(
            f"the {name} of autoencoder:vae gives ({given}) and has to give ({expected})",
            hint=f"{name}: {{use: network:mlp}}",
        )
    return module.train()
