"""Flow matching with independent noise: a network that gives velocities, and the score that follows from them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset
from scorefold.diffusion import IsotropicProcess
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource, Loss, Progress, ScoreModel, Trainable, as_network
from scorefold.random import draw_normal
from scorefold_flowmatching.config import FlowMatchingConfig
from scorefold_toolkit.nn.conditions import ConditionScale, drop_condition, null_condition, with_null_class
from scorefold_toolkit.score_matching.losses import Rectified
from scorefold_toolkit.score_matching.noise_levels import NoiseLevels
from scorefold_toolkit.training.validation import LossReference, silent_network


class FlowMatching(ScoreModel, Trainable):
    """The velocity of the straight paths from data to noise (Lipman et al. 2023; Liu et al. 2023).

    With data of mean m and standard deviation s a coordinate, u_0 = (x_0 - m) / s and standard normal z, the network F
    sees u = (1 - t) u_0 + t z and log(t / (1 - t)), and learns E[z - u_0 | u]. Noise and datum are independent, so that
    F gives the expected noise, u + (1 - t) F, and with it the score: everything that works on score models works on
    this one. The condition is the data's own, its numbers shown by a ``ConditionScale``. With
    ``condition_dropout`` the model can be guided.

    >>> from scorefold_registry import Host
    >>> network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    >>> circle = {"use": "data:sphere", "config": {"dimension": 1, "ambient": 2, "points": 100}}
    >>> flow = Host.discover().create("score:flow-matching", {"network": network}, data=circle)
    >>> x, t = torch.ones(4, 2), torch.full((4,), 0.5)
    >>> drift, dispersion = flow.process.drift(x, t), flow.process.dispersion(x, t)
    >>> torch.allclose(flow.velocity(x, t), drift - dispersion**2 * flow.score(x, t) / 2, atol=1e-5)
    True
    """

    def __init__(self, config: FlowMatchingConfig, *, data: DataSource) -> None:
        units, spec = data.event_scale, data.condition_spec
        path = Rectified(units.std, t_min=config.t_min, t_end=config.t_max)
        middle = units.middle(torch.zeros((), dtype=torch.float64))
        super().__init__(IsotropicProcess(path, middle), data.event_shape, spec, units)
        self.config = config
        self.training_config = config.training
        self.drops = spec is not None and config.condition_dropout > 0
        shown = with_null_class(spec) if self.drops and spec is not None else spec
        self.condition_scale = ConditionScale(spec)
        network = as_network(config.network, "the network of score:flow-matching")
        self.network = network.build(self.event_shape, self.event_shape, time=True, condition=shown)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """dx/dt of the flow at x (B, *E), t (B,), in units of the data: (B, *E)."""
        x, t, condition = self.match_inputs(x, t, condition)
        return self.event_scale.std * self._answer(self._standard(x, t), t, condition) - self.event_scale.middle(x)

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        u = self._standard(x, t)
        return u + self._as_event(1 - t) * self._answer(u, t, condition)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        return self.process.score_from_noise(self.noise(x, t, condition), x, t)

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """Takes the scales of the numbers of conditions from up to 2,048 points."""
        if self.condition_scale.places:
            order = torch.randperm(len(dataset), generator=generator, device=generator.device).cpu()
            self.condition_scale.prepare(dataset.take(order[:2048]).condition)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        """The mean squared error of the velocity, in standard deviations of the data; about 2 for an answer of 0."""
        condition = batch.condition if self.condition_spec is not None else None
        if self.drops and condition is not None and self.condition_spec is not None:
            condition = drop_condition(condition, self.condition_spec, self.config.condition_dropout, generator)
        levels = NoiseLevels(self.process, self.config.noise_levels, self.event_scale.std)
        t = levels.times(len(batch.x), like=batch.x, generator=generator)
        noise = draw_normal(tuple(batch.x.shape), generator=generator, like=batch.x)
        data = (batch.x - self.event_scale.middle(batch.x)) / self.event_scale.std
        share = self._as_event(t)
        answer = self._answer((1 - share) * data + share * noise, t, condition)
        return Loss(((answer - (noise - data)) ** 2).mean())

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference:
        """The loss where the network answers 0: about 2, the mean square of z - u_0."""
        return silent_network(self.network, loss)

    def _standard(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t in units of the data's deviation, about its mean: u."""
        return (x - self._as_event(1 - t) * self.event_scale.middle(x)) / self.event_scale.std

    def _answer(self, u: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        if condition is None and self.condition_spec is not None:
            if not self.drops:
                raise ConfigError(
                    "this flow was trained with a condition and got none",
                    hint="pass the condition, or train with condition_dropout above 0 for a flow without one",
                )
            condition = null_condition(self.condition_spec, u)
        answer: Tensor = self.network(u, torch.logit(t), self.condition_scale(condition))
        return answer

    def _as_event(self, t: Tensor) -> Tensor:
        return t.reshape(-1, *[1] * len(self.event_shape))
