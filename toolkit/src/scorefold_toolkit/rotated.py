"""Processes made from others: by coefficients in an orthonormal basis (bands, rings, principal axes), or stretched.

>>> from scorefold.diffusion import VE, Cosine
>>> class Flipped(Orthonormal):
...     def forward(self, x):
...         return x.flip(1)
...     inverse = forward
>>> flipped = Flipped((2,))
>>> process = Rotated(VE(), flipped)
>>> isinstance(process.dispersion(torch.zeros(1, 2), torch.tensor([0.5])), RotatedMap)
True
>>> round(float(Stretched(Cosine(), 2.0).log_snr(torch.tensor(0.4))), 1)
2.2
>>> score = CoefficientScore(lambda z, t: -z, flipped)  # computed where components diffuse alone
>>> score(torch.tensor([[1.0, 2.0]]), torch.tensor([0.5]))
tensor([[-1., -2.]])
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.diffusion.process import DiffusionProcess, LinearMap, Orthonormal, ScoreFunction, couples
from scorefold.diffusion.schedules import Schedule
from scorefold.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class RotatedMap:
    """The symmetric linear map W^T diag(d) W on events, with d broadcastable to coefficients (B, *E)."""

    transform: Orthonormal
    diagonal: Tensor

    def apply(self, v: Tensor) -> Tensor:
        return self.transform.inverse(self.diagonal * self.transform(v))

    apply_transpose = apply

    def solve(self, v: Tensor) -> Tensor:
        return self.transform.inverse(self.transform(v) / self.diagonal)

    def log_det(self) -> Tensor:
        diagonal = self.diagonal.expand(len(self.diagonal), *self.transform.event_shape)
        return diagonal.abs().log().flatten(1).sum(1)


class Rotated(DiffusionProcess):
    """Events x whose coefficients z = W x diffuse by ``inner``, component by component.

    Signal, scale, dispersion and transitions are ``RotatedMap``s. ``log_snr`` is the log signal-to-noise ratio of the
    coefficients. Samplers and ``probability_flow_log_prob`` work in the coefficients. Raises ``ConfigError`` for an
    inner process that couples its components, and ``ShapeError`` where its event shape is not the transform's.
    """

    def __init__(self, inner: DiffusionProcess, transform: Orthonormal) -> None:
        super().__init__()
        shape = getattr(inner, "event_shape", transform.event_shape)
        if tuple(shape) != transform.event_shape:
            raise ShapeError(f"coefficients have shape {tuple(shape)}; the transform is for {transform.event_shape}")
        device = next((buffer.device for buffer in inner.buffers()), None)
        probe = torch.zeros(1, *transform.event_shape, device=device)
        if couples(inner, probe, probe.new_tensor([inner.t_max])):
            raise ConfigError(
                f"{type(inner).__name__} couples the components; a rotated process takes one that does not"
            )
        self.inner, self.transform = inner, transform
        self.t_min, self.t_max = inner.t_min, inner.t_max

    @property
    def basis(self) -> Orthonormal:
        return self.transform

    def of_coefficients(self, score: ScoreFunction) -> tuple[ScoreFunction, DiffusionProcess]:
        transform = self.transform
        if isinstance(score, CoefficientScore) and score.transform is transform:
            return score.of_coefficients, self.inner
        return lambda z, t: transform(score(transform.inverse(z), t)), self.inner

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return self.inner.breakpoints

    def coefficients(self, x: Tensor, t: Tensor) -> tuple[LinearMap, LinearMap]:  # type: ignore[override]
        signal, scale = self.inner.coefficients(x, t)
        return RotatedMap(self.transform, signal), RotatedMap(self.transform, scale)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return self.transform.inverse(self.inner.drift(self.transform(x), t))

    def dispersion(self, x: Tensor, t: Tensor) -> LinearMap:
        dispersion = self.inner.dispersion(x, t)
        assert isinstance(dispersion, Tensor)
        return RotatedMap(self.transform, dispersion)

    def log_snr(self, t: Tensor) -> Tensor:
        return self.inner.log_snr(t)

    def sample_prior(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        return self.transform.inverse(self.inner.sample_prior(shape, generator=generator, like=like))

    def prior_log_prob(self, x: Tensor) -> Tensor:
        return self.inner.prior_log_prob(self.transform(x))

    def marginal(self, x0: Tensor, t: Tensor) -> tuple[Tensor, LinearMap]:
        signal, scale = self.coefficients(x0, t)
        return signal.apply(x0), scale

    def perturb(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t for standard normal ``noise`` (B, *E), whose coefficients are what is scaled."""
        signal, scale = self.inner.coefficients(x0, t)
        return self.transform.inverse(signal * self.transform(x0) + scale * self.transform(noise))

    def noise_from_score(self, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return -self.coefficients(x, t)[1].apply(score)

    def score_from_noise(self, noise: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return -self.coefficients(x, t)[1].solve(noise)

    def denoised_from_score(self, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
        score, z = self.transform(score), self.transform(x)
        return self.transform.inverse(self.inner.denoised_from_score(score, z, t))

    def transition(self, x: Tensor, s: Tensor, t: Tensor) -> tuple[LinearMap, LinearMap]:
        a, q = self.inner.transition(x, s, t)
        assert isinstance(a, Tensor)
        assert isinstance(q, Tensor)
        return RotatedMap(self.transform, a), RotatedMap(self.transform, q)


@dataclass(frozen=True)
class CoefficientScore:
    """A score of events, (x (B, *E), t (B,)) -> (B, *E), that is computed in the coefficients: there it costs no
    transform."""

    of_coefficients: ScoreFunction
    transform: Orthonormal

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.transform.inverse(self.of_coefficients(self.transform(x), t))


class Stretched(Schedule):
    """Another schedule run from start to finish until ``t_end``: the same noise, at another speed.

    t_min is stretched with it. Raises ``ConfigError`` for a ``t_end`` not above 0, or for a schedule of several ends.
    """

    t_end: float

    def __init__(self, schedule: Schedule, t_end: float) -> None:
        super().__init__()
        if t_end <= 0 or isinstance(schedule.t_end, Tensor):
            raise ConfigError(
                f"a schedule was to be stretched to end at {t_end}, and ends at {schedule.t_end} itself; expected two "
                "numbers above 0"
            )
        self.schedule = schedule
        self.speed = schedule.t_end / t_end
        self.t_min, self.t_end, self.prior_scale = schedule.t_min / self.speed, t_end, schedule.prior_scale

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.schedule.signal_scale(self._own(t))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        rate, dispersion = self.schedule.rates(self._own(t))
        return self.speed * rate, self.speed**0.5 * dispersion

    def log_snr(self, t: Tensor) -> Tensor:
        return self.schedule.log_snr(self._own(t))

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        return self.schedule.time_at(noise_to_signal) / self.speed

    def _own(self, t: Tensor) -> Tensor:
        return self.speed * self.held(t)
