"""ScoreVAE+: a trained ScoreVAE and a small network that corrects its score given the code.

The exact q(z | x_t) is a mixture where the encoder's is Gaussian; the corrector learns what lies between (Batzolis,
Stanczuk and Schönlieb 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from scorefold.data import Condition, Dataset
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource, Loss, Phase, Progress, ScoreModel, Trainable
from scorefold.interfaces.score import BoundScore
from scorefold.random import draw_normal
from scorefold_scorevae.config import ScoreVAEPlusConfig
from scorefold_scorevae.scorevae.decoding import DecodesByScore, given_code
from scorefold_scorevae.scorevae.diagnosis import diagnose
from scorefold_scorevae.scorevae.encoder import check_data, corrector_noise, data_term, diffuse
from scorefold_scorevae.scorevae.model import Guidance, ScoreVAE, bound_by_code, checked_code, known_options
from scorefold_toolkit.checks import check_trained
from scorefold_toolkit.training.validation import LossReference, silent_network


class ScoreVAEPlus(ScoreModel, Trainable, DecodesByScore):
    """grad ln p_t(x | z) = s(x, t) + grad ln q(z | x, t) + c(x, t, z), with all but c frozen.

    c = -F / scale with a network F that is 0 at the start, so that training begins at the ScoreVAE; its loss is the
    data term of the ScoreVAE's, whose KL divergence is a constant here. Without ``encoder_term`` the middle term is
    left out and c alone brings the code in. Codes are the ScoreVAE's.

    Raises ``ConfigError`` for a code that is no trained ScoreVAE, and for data in other units than the code's.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> sphere = host.create("data:sphere", {"dimension": 2, "ambient": 4, "points": 100})
    >>> prior = host.create("score:analytic", {"gaussian": True, "process": "vp"}, data=sphere)
    >>> network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1, "activation": "tanh"}}
    >>> code = host.create("score:scorevae", {"latent": 2, "encoder": network}, prior=prior, data=sphere)
    >>> plus = host.create("score:scorevae-plus", {"network": network}, code=code.eval())  # eval: as if trained
    >>> plus.latent_shape, [phase.name for phase in plus.phases()]
    ((2,), ['corrector'])
    """

    divergence_mode = "reverse"
    gate: nn.Parameter | None

    def __init__(self, config: ScoreVAEPlusConfig, *, code: ScoreModel, data: DataSource | None = None) -> None:
        if not isinstance(code, ScoreVAE):
            raise ConfigError(
                f"the code of score:scorevae-plus is a {type(code).__name__}; expected a trained score:scorevae",
                hint="name the stage of a score:scorevae under inputs.code",
            )
        check_trained(code, "code", "score:scorevae-plus")
        if code.corrector is not None:
            raise ConfigError(
                "the code of score:scorevae-plus has a corrector already, which was trained with its encoder",
                hint="leave corrector out of the score:scorevae, or use that stage as it is",
            )
        if data is not None:
            check_data(code, data, "code")
        super().__init__(code.process, code.event_shape, code.condition_spec, code.event_scale)
        self.config = config
        self.training_config = config.training
        self.decoding = config.decoding
        self.latent_shape = code.latent_shape
        self.code = code
        network = given_code(
            config.network, config.code_decoder, code.event_shape, code.latent_shape, "score:scorevae-plus"
        )
        gate = None if _starts_at_zero(network, code) else nn.Parameter(torch.zeros(()).to(code._reference()))
        self.network, self.gate = network.to(code._reference()), gate
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.code.eval()
        return self

    def phases(self) -> Sequence[Phase]:
        return (Phase("corrector", (self,)),)

    def parameter_groups(self, phase: Phase) -> Sequence[dict[str, Any]]:
        """The corrector alone: the code stays as it is."""
        gate = [] if self.gate is None else [self.gate]
        return [{"params": [*self.network.parameters(), *gate]}]

    def corrector(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """F, the noise (B, *E) that the corrector adds to what the ScoreVAE expects."""
        answer = corrector_noise(self.network, self, x, t, z, self.config.weighting)
        return answer if self.gate is None else self.gate * answer

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t, condition)
        return self.bind(condition)(x, t)

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, z = self.match_inputs(x, t, checked_code(self, condition))
        if z is None:
            return self.code.noise(x, t)
        assert isinstance(z, Tensor)
        return torch.stack(list(self.parts(x, t, z).values())).sum(0)

    def parts(self, x: Tensor, t: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Terms of eps-hat given z (B, k) at x (B, *E) and t (B,), by name: each (B, *E)."""
        x, t, code = self.match_inputs(x, t, checked_code(self, z))
        assert isinstance(code, Tensor)
        z = code
        found = self.code.parts(x, t, z) if self.config.encoder_term else {"prior": self.code.noise(x, t)}
        return {**found, "corrector": self.corrector(x, t, z)}

    def posterior(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the ScoreVAE's q(z | x_t, t), each (B, k)."""
        return self.code.posterior(x, t)

    def bind(
        self,
        condition: Condition | None = None,
        *,
        generator: torch.Generator | None = None,
        guidance: Guidance = 1.0,
        guidance_interval: Sequence[float] | None = None,
        **options: Any,
    ) -> BoundScore:
        """As ``ScoreVAE.bind``, where ``guidance`` weighs the encoder's gradient and the corrector together."""
        known_options(self, options)
        prior = self.code.bind(generator=generator)
        return bound_by_code(self, prior, self._change, condition, guidance, guidance_interval)

    def encode(self, x: Tensor) -> Tensor:
        """The ScoreVAE's code, (B, k)."""
        return self.code.encode(x)

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.code.encode_distribution(x)

    def draw_codes(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n codes from N(0, I), (n, k)."""
        return self.code.draw_codes(n, generator=generator)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        with torch.no_grad():
            mean, std = self.code.encode_distribution(batch.x)
            z = mean + std * draw_normal(tuple(mean.shape), generator=generator, like=mean)
            point = diffuse(self.process, batch.x, self.config, generator, self.event_scale.std)
            expected = self.code.noise(point.x, point.t, z if self.config.encoder_term else None)
        expected = expected + self.corrector(point.x, point.t, z)
        return Loss(data_term(self.process, point, expected, self.config, self.event_scale.std).mean())

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference:
        """The loss where the corrector answers 0."""
        return silent_network(self.network, loss, "the ScoreVAE without a corrector")

    def diagnose_codes(
        self, x: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, float], list[str], dict[str, Tensor]]:
        """As of the ScoreVAE, with the corrector among the parts."""
        return diagnose(self, x, generator)

    def _change(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Change of the prior's score by the code."""
        change = self.process.score_from_noise(self.corrector(x, t, z), x, t)
        return change + self.code.correction(x, t, z) if self.config.encoder_term else change


@torch.no_grad()
def _starts_at_zero(network: nn.Module, code: ScoreVAE) -> bool:
    """True if a network as it was built answers 0, by one event of ones. Raises ``ConfigError`` for another shape."""
    event = torch.ones(1, *code.event_shape)
    network.eval()  # a normalisation over the batch can't train on one event
    answer = network(event, event.new_zeros(1), event.new_ones((1, *code.latent_shape)))
    network.train()
    if answer.shape != event.shape:
        raise ConfigError(
            f"the corrector answers an event with shape {tuple(answer.shape)}; expected {tuple(event.shape)}",
            hint="network: {use: network:mlp} or {use: network:unet}",
        )
    return not bool(answer.any())
