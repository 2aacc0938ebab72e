"""Score models: the gradient of the log-density of noised data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, ConditionSpec, map_condition
from scorefold.diffusion.likelihood import probability_flow_log_prob
from scorefold.diffusion.process import DiffusionProcess
from scorefold.diffusion.samplers import Sampler, resolve_sampler, time_grid
from scorefold.errors import ShapeError

BoundScore = Callable[[Tensor, Tensor], Tensor]
"""(x (B, *E), t (B,)) -> score (B, *E): a score model with its condition fixed."""


class ScoreModel(nn.Module, ABC):
    """A model of grad log p_t(x | condition) for t in [t_min, t_max] of its process; t = 0 is data.

    Must: set ``process``, ``event_shape`` and ``condition_spec`` by this constructor, and implement ``score``. Given,
    override for speed or meaning: ``noise``, ``denoise``, ``bind``, ``sample``, ``log_prob``. No global random state is
    touched: pass a generator.
    """

    process: DiffusionProcess
    event_shape: tuple[int, ...]
    condition_spec: ConditionSpec | None

    def __init__(
        self,
        process: DiffusionProcess,
        event_shape: tuple[int, ...],
        condition_spec: ConditionSpec | None = None,
    ) -> None:
        super().__init__()
        self.process = process
        self.event_shape = tuple(event_shape)
        self.condition_spec = condition_spec

    @abstractmethod
    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """grad_x log p_t(x | condition) at x (B, *E), t (B,), with the condition as it stands at time t: (B, *E)."""

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """The expected noise eps-hat = -scale(t)^T score, (B, *E)."""
        return self.process.noise_from_score(self.score(x, t, condition), x, t)

    def denoise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """The expected datum E[x_0 | x_t = x], (B, *E), by Tweedie's formula."""
        return self.process.denoised_from_score(self.score(x, t, condition), x, t)

    def bind(
        self,
        condition: Condition | None = None,
        *,
        generator: torch.Generator | None = None,
        guidance: float = 1.0,
        **options: Any,
    ) -> BoundScore:
        """The score as a function of (x, t) alone, which is all that samplers and ``sample`` use.

        ``guidance`` w other than 1 mixes the conditional and the unconditional score, w s(x, t, c) + (1 - w) s(x, t), and
        needs a model that can be called without a condition. Subclasses put fresh condition noise and data
        consistency here.
        """
        if options:
            raise TypeError(f"{type(self).__name__}.bind knows no option {', '.join(options)}")
        if condition is None or guidance == 1.0:
            return lambda x, t: self.score(x, t, condition)
        return lambda x, t: guidance * self.score(x, t, condition) + (1 - guidance) * self.score(x, t, None)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Condition | None = None,
        *,
        steps: int = 100,
        sampler: str | Sampler = "dpmpp-2m",
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Tensor:
        """n draws (n, *E), or n for each of C conditions (n, C, *E).

        ``steps`` counts the sampler's steps from t_max to t_min; ``sampler`` is a name or a function of
        ``scorefold.diffusion.samplers``.
        """
        count, lead = n, (n,)
        if condition is not None:
            rows = len(condition) if isinstance(condition, Tensor) else len(next(iter(condition.values())))
            condition = map_condition(condition, lambda c: c.repeat(n, *[1] * (c.dim() - 1)))
            count, lead = n * rows, (n, rows)
        reference = self._reference()
        x = self.process.sample_prior((count, *self.event_shape), generator=generator, like=reference)
        times = time_grid(self.process, steps).to(reference.device)
        bound = self.bind(condition, generator=generator, guidance=guidance, **options)
        x, _ = resolve_sampler(sampler)(bound, self.process, x, times, generator=generator)
        return x.reshape(*lead, *self.event_shape)

    def log_prob(
        self,
        x: Tensor,
        condition: Condition | None = None,
        *,
        trace: str = "exact",
        probes: int = 1,
        generator: torch.Generator | None = None,
        rtol: float = 1e-5,
        atol: float = 1e-5,
    ) -> Tensor:
        """log p(x | condition) in nats, (B,), by the probability-flow ODE from t_min.

        ``trace`` is ``exact`` (D Jacobian-vector products a step) or ``hutchinson`` (``probes`` Rademacher vectors).
        """
        self.check_events(x)
        return probability_flow_log_prob(
            self.bind(condition), self.process, x, trace=trace, probes=probes, generator=generator, rtol=rtol, atol=atol
        )

    def check_events(self, x: Tensor) -> None:
        """Raises ``ShapeError`` unless x is (B, *event_shape)."""
        if tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(f"x has shape {tuple(x.shape)}; this model takes (B, {', '.join(map(str, self.event_shape))})")

    def _reference(self) -> Tensor:
        """A tensor with the device and dtype of the model's parameters or buffers."""
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                return tensor
        return torch.empty((), dtype=torch.get_default_dtype())
