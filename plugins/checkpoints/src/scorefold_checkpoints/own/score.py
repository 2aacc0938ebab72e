"""A network of one's own as a score model."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, DataSpec, EventScale, TensorSpec
from scorefold.diffusion import IsotropicProcess, Schedule
from scorefold.diffusion.processes import process_of
from scorefold.errors import ConfigError, ScorefoldError, ShapeError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold_checkpoints.config import CallableConfig, DDPMConfig, ExportedConfig, FlowConfig
from scorefold_checkpoints.own.modules import archived, as_module, network_of
from scorefold_checkpoints.parametrisations import PARAMETRISATIONS, DiscreteVP, Family
from scorefold_toolkit.score_matching.losses import Rectified

_ROWS = (2, 3)


class NetworkScore(ScoreModel):
    """The score of a network with its parametrisation and its schedule: network(x, time), or network(x, time, label).

    x (B, *E) is a noised event as the schedule has it, time (B,), label (B,); the answer is (B, *E). The network is
    named by a module, read from an archive, or handed over as ``network``. Events have the shape and the units of
    ``data``, where data are given. The network is called once when the score is built. Raises ``ConfigError`` where
    this call fails or ignores the time, ``ShapeError`` for an answer of another shape, and the errors of loading.

    >>> config = CallableConfig(parametrisation="epsilon", schedule="flow", event_shape=(2,))
    >>> normal = NetworkScore(config, network=lambda x, t: x * (t / ((1 - t) ** 2 + t**2))[:, None])
    >>> round(float(normal.log_prob(torch.zeros(1, 2))), 2)  # of N(0, 1): -log(2 pi)
    -1.84
    """

    divergence_mode = "reverse"

    def __init__(
        self,
        config: CallableConfig | ExportedConfig,
        *,
        data: DataSource | DataSpec | None = None,
        network: nn.Module | Any | None = None,
    ) -> None:
        shape = config.event_shape or (None if data is None else data.event_shape)
        if shape is None:
            raise ConfigError(
                "the shape of an event is not known", hint="set event_shape, such as [2], or plug in data"
            )
        if data is not None and data.event_shape != shape:
            raise ShapeError(f"event_shape is {list(shape)} and events of the data have {list(data.event_shape)}")
        scale = EventScale() if data is None else data.event_scale
        process = _process(config, scale, shape)
        spec = None if config.classes is None else TensorSpec((), config.classes)
        super().__init__(process, shape, spec, scale)
        if network is not None:
            self.network = as_module(network, "network")
        else:
            self.network = (
                archived(config.path) if isinstance(config, ExportedConfig) else network_of(config, "score:callable")
            )
        with suppress(NotImplementedError):  # what torch.export gives is for one of both
            self.network.eval()
        self.config = config
        self.family = Family(
            process.schedule,
            PARAMETRISATIONS[config.parametrisation],
            self._time,
            scale=scale,  # type: ignore[arg-type]
        )
        self._try_out()

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        return self.process.score_from_noise(self.noise(x, t, condition), x, t)

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        if self.condition_spec is not None and condition is None:
            raise ConfigError("this network takes the class of an event; pass the labels (B,) as its condition")
        return self.family.expected_noise(self._answer, self.process, x, t, condition)

    def _time(self, t: Tensor, sigma: Tensor) -> Tensor:
        shown = {"t": t, "sigma": sigma, "log-sigma": sigma.log()}.get(self.config.time, t)
        return self.config.time_factor * shown

    def _answer(self, x: Tensor, time: Tensor, condition: Condition | None) -> Tensor:
        if len(x) == 0:
            return torch.empty_like(x)
        given = [x] if self.config.time == "none" else [x, time]
        answer = self.network(*given) if condition is None else self.network(*given, condition)
        if not isinstance(answer, Tensor) or answer.shape != x.shape:
            what = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            raise ShapeError(
                f"the network answered {what} to events {tuple(x.shape)}; expected a tensor of their shape",
                hint="wrap it in a function that takes (x, time) and gives that tensor",
            )
        return answer

    @torch.no_grad()
    def _try_out(self) -> None:
        """Asks the network at two times, in two batches. Raises as the constructor says."""
        like = self._reference()
        generator = torch.Generator().manual_seed(0)
        times = self.process.t_min + (self.process.t_max - self.process.t_min) * torch.tensor([0.3, 0.7])
        answers = []
        for rows in _ROWS:
            x = torch.randn(rows, *self.event_shape, generator=generator).to(like)
            labels = None if self.condition_spec is None else torch.zeros(rows, dtype=torch.long, device=like.device)
            for t in times.to(like):
                a, b = self.process.coefficients(x, t.expand(rows))
                time = self._time(t.expand(rows), (b / a).reshape(-1))
                answers.append(self._tried(x, time, labels))
        if not all(bool(answer.isfinite().all()) for answer in answers):
            raise ConfigError("the network's answer to standard normal events is not finite")
        if self.config.time != "none" and torch.equal(answers[0], answers[1]):
            raise ConfigError(
                "the network answers the same at two times: it ignores the time that it is shown",
                hint="set time: none for a network of x alone; otherwise check that it uses its second argument",
            )

    def _tried(self, x: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
        """The answer, or the network's own error as a ``ConfigError``."""
        try:
            return self._answer(x, time, labels)
        except ScorefoldError:
            raise
        except Exception as error:  # of the network
            timed, labelled = self.config.time != "none", labels is not None
            call = f"network(x{', time' if timed else ''}{', label' if labelled else ''})"
            raise ConfigError(
                f"the network failed, called as {call} with x {tuple(x.shape)}: {type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}",
                hint=f"it takes {call}, each with one row an event; an archive of torch.export takes a batch of any "
                "size (dynamic_shapes)",
            ) from error


def _process(config: CallableConfig | ExportedConfig, scale: EventScale, shape: tuple[int, ...]) -> IsotropicProcess:
    chosen = config.schedule
    if isinstance(chosen, FlowConfig):
        schedule: Schedule = Rectified(t_min=chosen.t_min, t_end=chosen.t_max)
    elif isinstance(chosen, DDPMConfig):
        schedule = DiscreteVP((1 - _betas(chosen)).cumprod(0))
    else:
        return process_of(chosen, scale, shape)
    return IsotropicProcess(schedule, scale.middle(torch.zeros((), dtype=torch.float64)))


def _betas(config: DDPMConfig) -> Tensor:
    """(steps,), as Ho et al. (2020), Rombach et al. (2022) and Nichol and Dhariwal (2021) have them."""
    if config.betas == "cosine":
        angle = (torch.arange(config.steps + 1, dtype=torch.float64) / config.steps + 0.008) / 1.008 * math.pi / 2
        kept = angle.cos() ** 2
        return (1 - kept[1:] / kept[:-1]).clamp_max(0.999)
    root = 0.5 if config.betas == "scaled-linear" else 1.0
    start, end = config.beta_start**root, config.beta_end**root
    betas: Tensor = torch.linspace(start, end, config.steps, dtype=torch.float64) ** (1 / root)
    return betas
