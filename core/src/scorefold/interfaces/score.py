"""Score models: the gradient of the log-density of noised data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from scorefold.batching import FEW, in_calls
from scorefold.data import Condition, ConditionSpec, EventScale, condition_rows, repeat_condition
from scorefold.diffusion.likelihood import probability_flow_log_prob
from scorefold.diffusion.process import DiffusionProcess
from scorefold.diffusion.samplers import Sampler, default_sampler, default_steps, resolve_sampler, time_grid
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces.model import EventModel

BoundScore = Callable[[Tensor, Tensor], Tensor]
"""(x (B, *E), t (B,)) -> score (B, *E): a score model with its condition fixed."""


class ScoreModel(EventModel):
    """A model of grad log p_t(x | condition) for t in [t_min, t_max] of its process; t = 0 is data.

    Must: set ``process``, ``event_shape``, ``condition_spec`` and ``event_scale`` (the units of its samples) by this
    constructor, and implement ``score``. Given, override for speed or meaning: ``noise``, ``denoise``, ``bind``,
    ``sample``, ``remove_noise``, ``log_prob``. No global random state is touched: pass a generator.

    >>> from scorefold.diffusion import VE
    >>> class Gaussian(ScoreModel):  # of standard normal data, whose variance with noise is 1 + sigma(t)^2
    ...     def score(self, x, t, condition=None):
    ...         return -x / (1 + self.process.coefficients(x, t)[1] ** 2)
    >>> round(float(Gaussian(VE(), (2,)).log_prob(torch.zeros(1, 2))), 2)  # -log(2 pi)
    -1.84
    """

    process: DiffusionProcess
    evaluating = ("score", "noise", "denoise")
    divergence_mode: Literal["forward", "reverse"] = "forward"
    """Mode in which ``log_prob`` differentiates the score; a score that is a gradient may support only reverse mode."""
    remarks: tuple[str, ...] = ()
    """Warnings for every result that this score is part of, a sentence each: stages report them."""

    def __init__(
        self,
        process: DiffusionProcess,
        event_shape: tuple[int, ...],
        condition_spec: ConditionSpec | None = None,
        event_scale: EventScale | None = None,
    ) -> None:
        super().__init__(event_shape, condition_spec, event_scale)
        self.process = process

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

        x holds one event for each of the C rows of the condition, or k C events with the rows in turn (see
        ``repeat_condition``), so that a model can encode each condition once for all its draws. ``guidance`` w other
        than 1 mixes the conditional and the unconditional score, w s(x, t, c) + (1 - w) s(x, t), and needs a model that
        can be called without a condition (Ho and Salimans 2022). Subclasses put fresh condition noise, drawn from
        ``generator``, and data consistency here, and say which ``options`` they know; others raise ``ConfigError``.
        """
        if options:
            raise ConfigError(f"{type(self).__name__} knows no sampling option {', '.join(options)}")
        rows, called = lru_cache(1)(partial(repeat_condition, condition)), partial(self.in_calls, self.score)
        if condition is None or guidance == 1.0:
            return lambda x, t: called(x, t, rows(len(x)))
        return lambda x, t: guidance * called(x, t, rows(len(x))) + (1 - guidance) * called(x, t, None)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Condition | None = None,
        *,
        steps: int | Sequence[int] | None = None,
        sampler: str | Sampler | None = None,
        spacing: str = "karras",
        to_zero: bool = True,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Tensor:
        """n samples (n, *E), or n for each of C conditions (n, C, *E), on the device and in the dtype of the model.

        ``steps`` and ``spacing`` make the time grid from t_max to t_min (see ``scorefold.diffusion.time_grid``), by
        default as many steps as take 36 calls; ``sampler`` is a name or a function of ``scorefold.diffusion.samplers``,
        by default what ``default_sampler`` says; ``to_zero`` takes the noise that is left at t_min away by one more
        call, x = E[x_0 | x] (Karras et al. 2022, algorithm 1); ``guidance`` and further options go to ``bind``. Raises
        ``ConfigError`` for values that do not fit.
        """
        if isinstance(n, float) or n < 0:
            raise ConfigError(f"{n} draws were asked for; expected a whole number, 0 or more")
        lead = (n,) if condition is None else (n, condition_rows(condition))
        shape = (torch.Size(lead).numel(), *self.event_shape)
        x = self.process.sample_prior(shape, generator=generator, like=self._reference())
        bound = self.bind(condition, generator=generator, guidance=guidance, **options)
        sampler = sampler or default_sampler(self.process, x)
        times = time_grid(self.process, default_steps(sampler) if steps is None else steps, spacing)
        x, _ = resolve_sampler(sampler)(bound, self.process, x, times, generator=generator)
        if to_zero:
            x = self.remove_noise(bound, x)
        return x.reshape(*lead, *self.event_shape)

    def remove_noise(self, bound: BoundScore, x: Tensor) -> Tensor:
        """The end of ``sample``: x (B, *E) at t_min without its noise, E[x_0 | x], by the score that sampled it. A
        model whose bound score is more than a score, such as one with moves towards an observation, overrides this.
        """
        t = x.new_full((len(x),), self.process.t_min)
        return self.process.denoised_from_score(bound(x, t), x, t)

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
        """log p(x | condition) in nats, (B,), by the probability-flow ODE from t_min; no gradient flows through it.

        ``trace`` is ``exact`` (D Jacobian-vector products a step) or ``hutchinson`` (``probes`` Rademacher vectors from
        ``generator``, which ``bind`` gets too). Raises as ``scorefold.diffusion.probability_flow_log_prob``.
        """
        self.check_events(x)
        bound = self.bind(condition, generator=generator)
        return probability_flow_log_prob(
            bound,
            self.process,
            x,
            trace=trace,
            probes=probes,
            generator=generator,
            rtol=rtol,
            atol=atol,
            mode=self.divergence_mode,
        )

    def in_calls(
        self, score: Callable[[Tensor, Tensor, Any], Tensor], x: Tensor, t: Tensor, condition: Any = None
    ) -> Tensor:
        """``score(x, t, condition)`` in calls of at most ``call_rows`` events, put together again: what a ``bind`` of
        a subclass calls its network by. Tensors have B rows, or 1 for all."""
        rows = len(x) if len(x) <= FEW else self.call_rows()
        found: Tensor = in_calls(rows, score, x, t, condition=condition)
        return found

    def _one_call(self, x: Tensor, condition: Condition | None) -> object:
        middle = (self.process.t_min + self.process.t_max) / 2
        return self.score(x, x.new_full((len(x),), middle), condition)

    def match_inputs(
        self, x: Tensor, t: Tensor, condition: Condition | None = None
    ) -> tuple[Tensor, Tensor, Condition | None]:
        """x (B, *E), t (B,) and the condition with one batch size, a batch of 1 broadcast: what ``score`` begins with.

        Raises ``ShapeError`` for batches, shapes, dtypes or devices that do not fit, and for a condition that the model
        does not take.
        """
        self.check_events(x)
        if condition is not None and self.condition_spec is None:
            raise ShapeError(f"{type(self).__name__} was given a condition; it takes none")
        rows = 1 if condition is None else condition_rows(condition)
        sizes = {len(x), t.numel(), rows} - {1}
        if t.dim() != 1 or len(sizes) > 1:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}, t {tuple(t.shape)}, the condition {rows} rows; expected one batch size"
            )
        if (t.device, t.dtype) != (x.device, x.dtype):
            raise ShapeError(f"t is {t.dtype} on {t.device} and x {x.dtype} on {x.device}; expected the same")
        size = sizes.pop() if sizes else 1
        t = t if len(t) == size else t.expand(size)
        return x.expand(size, *self.event_shape), t, repeat_condition(condition, size)
