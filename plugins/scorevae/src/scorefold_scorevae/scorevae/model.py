"""ScoreVAE: an encoder for a frozen score model, decoded by Bayes' rule for scores.

Batzolis, Stanczuk and Schönlieb, "Variational Diffusion Auto-encoder" (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor, nn

from scorefold.data import Condition, Dataset, TensorSpec, repeat_condition
from scorefold.diffusion import DiffusionProcess, Isotropic
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import DataSource, Loss, Phase, Progress, ScoreModel, Trainable
from scorefold.interfaces.score import BoundScore
from scorefold.random import draw_normal
from scorefold_scorevae.config import ScoreVAEConfig
from scorefold_scorevae.scorevae.decoding import DecodesByScore, check_codes, given_code
from scorefold_scorevae.scorevae.diagnosis import diagnose, evidence_bound, silent_code_warnings
from scorefold_scorevae.scorevae.encoder import (
    built_encoder,
    check_encoder_prior,
    corrector_noise,
    data_term,
    density_gradient,
    diffuse,
    encoded,
    normal_kl,
    prior_condition,
    standardised_events,
    time_level,
    warmed_up,
)
from scorefold_toolkit.training.validation import LossReference, answering_zero, silent_network

Guidance = float | Callable[[Tensor], Tensor]
"""A weight, or a function of t (B,) that gives one for each time, (B,)."""


def guidance_weights(
    guidance: Guidance, interval: Sequence[float] | None, process: DiffusionProcess
) -> Callable[[Tensor], float | Tensor] | None:
    """The weight at t (B,), a number where it is the same at all times; None where it is 0 throughout.

    Raises ``ConfigError`` for a weight below 0 and an interval that is not a part of [t_min, t_max].
    """
    if not callable(guidance) and not (isinstance(guidance, int | float) and 0 <= guidance < math.inf):
        raise ConfigError(f"guidance is {guidance!r}; expected a number from 0 on, or a function of t")
    if interval is None:
        if callable(guidance):
            return guidance
        return None if guidance == 0 else lambda t: guidance
    given = list(interval) if isinstance(interval, list | tuple) else interval
    numbers = isinstance(given, list) and len(given) == 2 and all(isinstance(end, int | float) for end in given)
    if not numbers or not process.t_min <= interval[0] < interval[1] <= process.t_max:
        raise ConfigError(
            f"guidance_interval is {given}; expected [low, high] within [{process.t_min:g}, {process.t_max:g}]"
        )
    low, high = interval

    def within(t: Tensor) -> Tensor:
        weight = guidance(t) if callable(guidance) else torch.full_like(t, guidance)
        return torch.where((t >= low) & (t <= high), weight, 0)

    return within


class ScoreVAE(ScoreModel, Trainable, DecodesByScore):
    """grad ln p_t(x | z) = s(x, t) + grad ln q(z | x, t): the prior's score, and the gradient of the encoder's density.

    The encoder q(z | x_t, t) = N(mean, diag e^lv) sees events at every noise level; at t = 0 it is a VAE's encoder. The
    encoder is trained, with a corrector c(x, t, z) where the configuration has one, by (Batzolis et al. 2023)

        E 1/2 ||eps-hat(x_t, t | z) - eps||^2 + beta KL(q(z | x_0) || N(0, I)),   z ~ q(z | x_0),

    with the noise eps-hat = -scale^T grad ln p_t(x | z); ``weighting: likelihood`` makes it the evidence lower bound.
    The prior stays in evaluation mode and runs without a graph. The code is the condition of this score model: without
    one it is the prior.

    Raises ``ConfigError`` for a prior that is not trained, needs a condition, or was made for other events than the
    data's.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> sphere = host.create("data:sphere", {"dimension": 2, "ambient": 4, "points": 100})
    >>> prior = host.create("score:analytic", {"gaussian": True, "process": "vp"}, data=sphere)
    >>> encoder = {"use": "network:mlp", "config": {"width": 16, "blocks": 1, "activation": "tanh"}}
    >>> model = host.create("score:scorevae", {"latent": 2, "encoder": encoder}, prior=prior, data=sphere)
    >>> model.encode(torch.zeros(3, 4)).shape, [phase.name for phase in model.phases()]
    (torch.Size([3, 2]), ['encoder'])
    """

    divergence_mode = "reverse"

    def __init__(self, config: ScoreVAEConfig, *, prior: ScoreModel, data: DataSource) -> None:
        check_encoder_prior(prior, data, config.prior_class)
        code = TensorSpec((config.latent,))
        super().__init__(prior.process, prior.event_shape, code, prior.event_scale)
        self.config = config
        self.training_config = config.training
        self.decoding = config.decoding
        self.latent_shape = (config.latent,)
        self.prior = prior
        encoder = built_encoder(config.encoder, prior.event_shape, config.latent)
        self.encoder = encoder.to(prior._reference())
        self.corrector: nn.Module | None = None
        if config.corrector is not None:
            shapes = prior.event_shape, self.latent_shape
            corrector = given_code(config.corrector, None, *shapes, "score:scorevae")
            self.corrector = corrector.to(prior._reference())
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.prior.eval()
        return self

    def phases(self) -> Sequence[Phase]:
        return (Phase("encoder", (self.encoder,) if self.corrector is None else (self.encoder, self.corrector)),)

    def posterior(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x_t, t) for x (B, *E) at t (B,): each (B, k).

        Times below t_min, such as 0 for data themselves, are asked as t_min, since the log-SNR of data is infinite.
        """
        x, t, _ = self.match_inputs(x, t)
        t = t.clamp_min(self.process.t_min)
        shown = standardised_events(self.process, self.event_scale, x, t)
        level = time_level(self.process, t, self.config.encoder_time)
        return encoded(self.encoder, shown, level, recompute=self.config.checkpoint and self.encoder.training)

    def correction(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """grad_x ln q(z | x_t, t) and what a corrector adds, (B, *E), for x (B, *E), t (B,) and codes z (B, k)."""
        x, t, code = self.match_inputs(x, t, self._code(z))
        gradient, noise = self._change(x, t, _tensor(code))
        return gradient if noise is None else gradient + self.process.score_from_noise(noise, x, t)

    def _change(self, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradient of the encoder's log-density, and the noise of the corrector, if there is one."""
        gradient = density_gradient(self.posterior, x, t, z, logdet=self.config.logdet)
        if self.corrector is None:
            return gradient, None
        return gradient, corrector_noise(self.corrector, self, x, t, z, self.config.weighting)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, z = self.match_inputs(x, t, self._code(condition))
        prior = self.prior.score(x, t, self._prior_condition(x))
        return prior if z is None else prior + self.correction(x, t, _tensor(z))

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, z = self.match_inputs(x, t, self._code(condition))
        if z is None:
            return self.prior.noise(x, t, self._prior_condition(x))
        return torch.stack(list(self.parts(x, t, _tensor(z)).values())).sum(0)

    def parts(self, x: Tensor, t: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Terms of eps-hat given z (B, k) at x (B, *E) and t (B,), by name: each (B, *E)."""
        x, t, code = self.match_inputs(x, t, self._code(z))
        gradient, noise = self._change(x, t, _tensor(code))
        encoder = self.process.noise_from_score(gradient, x, t)
        found = {"prior": self.prior.noise(x, t, self._prior_condition(x)), "encoder": encoder}
        return found if noise is None else {**found, "corrector": noise}

    def bind(
        self,
        condition: Condition | None = None,
        *,
        generator: torch.Generator | None = None,
        guidance: Guidance = 1.0,
        guidance_interval: Sequence[float] | None = None,
        **options: Any,
    ) -> BoundScore:
        """The score given codes (C, k), or the prior's without any: s + w grad ln q.

        The weight w is ``guidance``, a number or a function of t (B,), and 0 outside ``guidance_interval`` [low, high]
        in t. 1 is Bayes' rule. Another weight does not sample p(x) q(z | x)^w: for Gaussian data a direction of
        variance lam and variance kappa given z gets lam^(1 - w) kappa^w. Raises ``ConfigError`` for values and options
        that do not fit.
        """
        known_options(self, options)
        prior = self._bound_prior(generator)
        return bound_by_code(self, prior, self.correction, condition, guidance, guidance_interval)

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z | x), (B, k)."""
        return self.posterior(x, x.new_zeros(len(x)))[0]

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.posterior(x, x.new_zeros(len(x)))
        return mean, (log_variance / 2).exp()

    def draw_codes(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n codes from N(0, I), (n, k)."""
        return draw_normal((n, *self.latent_shape), generator=generator, like=self._reference())

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        x0 = batch.x
        mean, log_variance = self.posterior(x0, x0.new_zeros(len(x0)))
        z = mean + (log_variance / 2).exp() * draw_normal(tuple(mean.shape), generator=generator, like=mean)
        point = diffuse(self.process, x0, self.config, generator, self.event_scale.std)
        expected = self._prior_noise(point.x, point.t)
        change = self.correction(point.x, point.t, z)
        expected = expected + self.process.noise_from_score(change, point.x, point.t)
        data = data_term(self.process, point, expected, self.config, self.event_scale.std).mean()
        kl = normal_kl(mean, log_variance).sum(1).mean()
        beta = self.config.beta * warmed_up(self.config.beta_warmup, progress, training=self.encoder.training)
        return Loss(data + beta * kl, {"data": data.detach(), "kl": kl.detach()})

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference:
        """The loss where the encoder and the corrector answer 0, so that no code changes the prior's score."""
        silent = nullcontext() if self.corrector is None else answering_zero(self.corrector)
        with silent:
            return silent_network(self.encoder, loss, "the prior alone, without a code")

    def refuses(self, strategy: str) -> str | None:
        return strategy_refusal(strategy)

    def training_warnings(self, dataset: Dataset) -> Sequence[str]:
        return silent_code_warnings(self, dataset.x, self.config.beta, self.config.weighting)

    def diagnose_codes(
        self, x: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, float], list[str], dict[str, Tensor]]:
        """Coverage of the code by q(z | x_t, t), the evidence lower bound, and the parts of the score over time."""
        return diagnose(self, x, generator)

    def elbo(self, x: Tensor, *, generator: torch.Generator | None = None, draws: int = 1) -> Tensor:
        """The evidence lower bound of ln p(x) in nats, (B,): see ``coding.diagnosis.evidence_bound``."""
        self.check_events(x)
        return evidence_bound(self, x, generator, draws)

    @torch.no_grad()
    def _prior_noise(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise that the frozen prior expects, in the dtype of x."""
        half = self.config.prior_precision == "bf16"
        with torch.autocast(x.device.type, dtype=torch.bfloat16) if half else nullcontext():
            noise = self.prior.noise(x, t, self._prior_condition(x))
        return noise.to(x.dtype)

    def _bound_prior(self, generator: torch.Generator | None) -> BoundScore:
        if self.config.prior_class is None:
            return self.prior.bind(generator=generator)
        return lambda x, t: self.prior.score(x, t, self._prior_condition(x))

    def _prior_condition(self, x: Tensor) -> Tensor | None:
        return prior_condition(self.config.prior_class, x)

    def _code(self, condition: Condition | None) -> Tensor | None:
        return checked_code(self, condition)


def bound_by_code(
    model: Any,
    prior: BoundScore,
    change: Callable[[Tensor, Tensor, Tensor], Tensor],
    condition: Condition | None,
    guidance: Guidance,
    interval: Sequence[float] | None,
) -> BoundScore:
    """prior(x, t) + w(t) change(x, t, z) as a function of (x, t): what ``bind`` gives where the condition is a code."""
    weigh = guidance_weights(guidance, interval, model.process)
    codes = checked_code(model, condition)
    if codes is None or weigh is None:
        return prior
    rows = lru_cache(maxsize=1)(lambda count: repeat_condition(codes, count))

    def bound(x: Tensor, t: Tensor) -> Tensor:
        x, t, z = model.match_inputs(x, t, rows(max(len(x), len(t))))
        weight = weigh(t)
        found = prior(x, t)
        if isinstance(weight, Tensor):
            if not bool(weight.any()):
                return found
            weight = weight.reshape(-1, *[1] * (x.dim() - 1))
        changed: Tensor = model.in_calls(change, x, t, _tensor(z))
        return held_in_range(model, found + weight * changed, x, t)

    return bound


def held_in_range(model: ScoreModel, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The score (B, *E), with events that it expects far outside the data's range moved to the nearest ones allowed.

    Allowed is the range, and on each side its width and the noise of x over the signal. A mean of events is within
    the range, so expecting more is an error of a network, and a step by it ends in noise or nan. Data without a range
    and processes with several levels of noise have their score unchanged.
    """
    low, high = model.event_scale.low, model.event_scale.high
    if low is None or high is None or not isinstance(model.process, Isotropic):
        return score
    signal, noise = model.process.coefficients(x, t)
    event, beyond = model.process.denoised_from_score(score, x, t), high - low + noise / signal
    held = torch.maximum(torch.minimum(event, high + beyond), low - beyond)
    far = held != event
    if not bool(far.any()):
        return score
    return torch.where(far, model.process.score_from_noise((x - signal * held) / noise, x, t), score)


def known_options(model: object, options: Mapping[str, object]) -> None:
    """Raises ``ConfigError`` for any option that is left over."""
    if options:
        raise ConfigError(
            f"{type(model).__name__} knows no sampling option {', '.join(options)}",
            hint="it knows guidance and guidance_interval; decode also knows sampler, steps and spacing",
        )


def checked_code(model: Any, condition: Condition | None) -> Tensor | None:
    """The condition of a model whose condition is a code. Raises ``ShapeError`` for anything but (B, k)."""
    if condition is None:
        return None
    if not isinstance(condition, Tensor):
        raise ShapeError(f"codes (B, {model.latent_shape[0]}) are a tensor; named tensors were given")
    check_codes(model, condition)
    return condition


def strategy_refusal(strategy: str) -> str | None:
    """Reason why the loss can't be trained with a strategy: it differentiates a gradient."""
    if strategy == "compile":
        return "its loss holds a gradient, and torch.compile differentiates once only"
    if strategy in ("bf16", "fp16"):
        return "the gradient of the encoder's density needs full precision; prior_precision: bf16 halves the prior's"
    return None


def _tensor(condition: Condition | None) -> Tensor:
    assert isinstance(condition, Tensor)
    return condition
