"""DiffDecoder: a score given a code, trained from scratch together with the encoder of the code.

The baseline of Batzolis, Stanczuk and Schönlieb (2023) for what a frozen score model is worth; without a KL divergence
it is the auto-encoder of Preechakul et al. (2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, TensorSpec, measured_rows
from scorefold.diffusion import Isotropic, process_of
from scorefold.errors import ConfigError
from scorefold.interfaces import (
    DataSource,
    Loss,
    Prepares,
    Progress,
    ScoreModel,
    Trainable,
    as_network,
)
from scorefold.random import draw_normal, draw_uniform
from scorefold_scorevae.config import DiffDecoderConfig
from scorefold_scorevae.scorevae.decoding import DecodesByScore, given_code
from scorefold_scorevae.scorevae.diagnosis import evidence_bound, silent_code_warnings
from scorefold_scorevae.scorevae.encoder import data_term, diffuse, leave_saddle, normal_kl, warmed_up
from scorefold_scorevae.scorevae.model import checked_code
from scorefold_toolkit.score_matching.losses import Standardised
from scorefold_toolkit.training.validation import LossReference, answering_zero, silent_network


class DiffDecoder(ScoreModel, Trainable, DecodesByScore):
    """grad ln p_t(x | z) from a network that is shown the noised event, its noise level and the code.

    Network and encoder, which sees clean events alone, are trained together by

        E 1/2 ||eps-hat(x_t, t, z) - eps||^2 + beta KL(q(z | x_0) || N(0, I)),   z ~ q(z | x_0),

    the loss of ``score:scorevae`` for another model, so that one beta weighs the same. With beta 0 the code is
    z = mean(x_0); the network sees it less ``code_mean`` and over ``code_std``, which training takes once, so that it
    starts at unit size. With ``condition_dropout`` the network also sees events without their code, marked
    as such and not as the code 0, and gives the score without a condition for them.

    Raises ``ConfigError`` for networks that are not built or do not fit.

    >>> from scorefold_registry import Host
    >>> network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    >>> config = {"latent": 2, "encoder": network, "network": network}
    >>> sphere = {"use": "data:sphere", "config": {"dimension": 2, "ambient": 4, "points": 100}}
    >>> model = Host.discover().create("score:diff-decoder", config, data=sphere)
    >>> model.encode(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    code_mean: Tensor
    code_std: Tensor

    def __init__(self, config: DiffDecoderConfig, *, data: DataSource) -> None:
        process = process_of(config.process, data.event_scale, data.event_shape)
        super().__init__(process, data.event_shape, TensorSpec((config.latent,)), data.event_scale)
        self.config = config
        self.training_config = config.training
        self.decoding = config.decoding
        self.latent_shape = (config.latent,)
        self.drops = config.condition_dropout > 0
        outputs = config.latent * (2 if config.beta > 0 else 1)
        encoder = as_network(config.encoder, "the encoder of score:diff-decoder")
        self.encoder = leave_saddle(encoder.build(self.event_shape, (outputs,)))
        self.network = given_code(
            config.network,
            config.code_decoder,
            self.event_shape,
            (config.latent + self.drops,),
            "score:diff-decoder",
        )
        if isinstance(self.network, Prepares):
            raise ConfigError(
                f"{type(self.network).__name__} takes statistics of events alone, and is shown a code beside them",
                hint="network: {use: network:mlp} or {use: network:unet}",
            )
        self.register_buffer("code_mean", torch.zeros(config.latent))
        self.register_buffer("code_std", torch.ones(config.latent))

    @torch.no_grad()
    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """Takes the moments of a deterministic code as it starts: of the first points (``measured_rows``)."""
        if self.config.beta == 0:
            codes = self.encode(dataset.tensor(measured_rows(len(dataset), self.event_shape)))
            std, mean = torch.std_mean(codes, 0, correction=0)
            self.code_mean.copy_(mean)
            self.code_std.copy_(torch.where(std > 0, std, 1))

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        return self.process.score_from_noise(self.noise(x, t, condition), x, t)

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, z = self.match_inputs(x, t, checked_code(self, condition))
        if z is None and not self.drops:
            raise ConfigError(
                "this score was trained with a code and got none",
                hint="pass the code as its condition, or train with condition_dropout above 0 for a score without one",
            )
        assert z is None or isinstance(z, Tensor)
        return self._expected_noise(x, t, z, None)

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z | x), or the deterministic code, (B, k)."""
        return self._posterior(x)[0]

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self._posterior(x)
        return mean, torch.zeros_like(mean) if log_variance is None else (log_variance / 2).exp()

    def draw_codes(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n codes from N(0, I), (n, k). Raises ``ConfigError`` for deterministic codes, which are held to no
        distribution."""
        if self.config.beta == 0:
            return super().draw_codes(n, generator=generator)
        return draw_normal((n, *self.latent_shape), generator=generator, like=self.code_mean)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        mean, log_variance = self._posterior(batch.x)
        z = mean
        if log_variance is not None:
            z = z + (log_variance / 2).exp() * draw_normal(tuple(z.shape), generator=generator, like=z)
        known = None
        if self.drops:
            drawn = draw_uniform((len(z),), generator=generator, like=z)
            known = (drawn >= self.config.condition_dropout).to(z.dtype)
        point = diffuse(self.process, batch.x, self.config, generator, self.event_scale.std)
        data = data_term(
            self.process, point, self._expected_noise(point.x, point.t, z, known), self.config, self.event_scale.std
        ).mean()
        if log_variance is None:
            return Loss(data, {"data": data.detach()})
        kl = normal_kl(mean, log_variance).sum(1).mean()
        beta = self.config.beta * warmed_up(self.config.beta_warmup, progress, training=self.training)
        return Loss(data + beta * kl, {"data": data.detach(), "kl": kl.detach()})

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference:
        """The loss where encoder and network answer 0: the best linear guess, without a code."""
        with answering_zero(self.encoder):
            return silent_network(self.network, loss, "networks that answer 0")

    def elbo(self, x: Tensor, *, generator: torch.Generator | None = None, draws: int = 1) -> Tensor:
        """The evidence lower bound of ln p(x) in nats, (B,): see ``coding.diagnosis.evidence_bound``.

        Raises ``ConfigError`` for a deterministic code, whose divergence from any density is infinite.
        """
        self.check_events(x)
        if self.config.beta == 0:
            raise ConfigError(
                "a deterministic code bounds no likelihood: its divergence from N(0, I) is infinite",
                hint="train with beta above 0",
            )
        return evidence_bound(self, x, generator, draws)

    def diagnose_codes(
        self, x: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, float], Sequence[str], dict[str, Tensor]]:
        """The evidence lower bound, where the code has a distribution and the process one noise level."""
        if self.config.beta == 0 or not isinstance(self.process, Isotropic) or not len(x):
            return {}, (), {}
        return {"evidence lower bound (nats)": float(self.elbo(x, generator=generator, draws=4).mean())}, (), {}

    def training_warnings(self, dataset: Dataset) -> Sequence[str]:
        return (
            ()
            if self.config.beta == 0
            else silent_code_warnings(self, dataset.x, self.config.beta, self.config.weighting)
        )

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance of q(z | x), each (B, k); the latter None where the code is deterministic."""
        self.check_events(x)
        answer: Tensor = self.encoder((x - self.event_scale.middle(x)) / self.event_scale.std).to(x.dtype)
        if self.config.beta == 0:
            return answer, None
        mean, log_variance = answer.chunk(2, dim=1)
        return mean, log_variance

    def _expected_noise(self, x: Tensor, t: Tensor, z: Tensor | None, known: Tensor | None) -> Tensor:
        """eps-hat (B, *E) given codes z (B, k), of which ``known`` (B,), 0 or 1, are shown to the network; all by
        default."""
        code = x.new_zeros(len(x), *self.latent_shape) if z is None else (z - self.code_mean) / self.code_std
        if self.drops:
            if known is None:
                known = x.new_full((len(x),), 0.0 if z is None else 1.0)
            code = torch.cat([known[:, None] * code, known[:, None]], 1)
        shown, level = Standardised.at(self.process, self.event_scale, x, t)
        answer: Tensor = self.network(shown.input, level, code).to(x.dtype)
        return shown.expected_noise(answer, self.config.prediction)
