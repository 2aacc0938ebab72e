"""What a network that predicts is shown and gives: standardised events, and the expected noise from its answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.diffusion import DiffusionProcess, Isotropic
from scorefold.diffusion.schedules import Value
from scorefold.diffusion.steps import add, tabulated


@dataclass(frozen=True)
class Standardised:
    """Noised events x = a x_0 + b z (B, *E) as a network is shown them; a coordinate of x_0 has mean m and deviation s.

    ``centred`` x - a m, ``signal`` a, ``scale`` b, ``spread`` a s, ``square`` (a s)^2 + b^2 and ``size``, its root,
    broadcast to one another. Each is computed once, for what the network is shown and for its answer. All but
    ``centred`` are numbers where a sampler gave the time.

    >>> import torch
    >>> one = Standardised.of(torch.tensor([[5.0]]), torch.tensor(1.0), torch.tensor(4.0), 3.0)
    >>> one.input, one.expected_noise(torch.tensor([[0.0]]), "edm"), one.score(torch.tensor([[0.0]]), "edm")
    (tensor([[1.]]), tensor([[0.8000]]), tensor([[-0.2000]]))
    """

    centred: Tensor
    signal: Value
    scale: Value
    spread: Value
    square: Value
    size: Value

    @classmethod
    def of(cls, centred: Tensor, signal: Value, scale: Value, std: Value) -> Standardised:
        """The standardised events of ``centred`` ones, by the standard deviation ``std`` of x_0 a coordinate."""
        spread = signal * std
        square = spread**2 + scale**2
        return cls(centred, signal, scale, spread, square, _root(square))

    @classmethod
    def at(cls, process: DiffusionProcess, events: EventScale, x: Tensor, t: Tensor) -> tuple[Standardised, Tensor]:
        """The standardised events of x (B, *E) at times t (B,), and the level log(scale / signal) (B,) for the network.

        ``events`` has the mean and the deviation of x_0. Of components that diffuse at several speeds the level is the
        mean.
        """
        numbers = partial(_numbers, process, events)
        known = tabulated(t, (cls, process, events), numbers) if isinstance(process, Isotropic) else None
        if known is not None:
            shift, signal, scale, level = known
            return cls.of(x - shift, signal, scale, events.std), level.expand(len(t))
        signal, scale = process.coefficients(x, t)
        centred = x - signal * events.middle(x)
        return cls.of(centred, signal, scale, events.std), _level(process, t)

    @property
    def input(self) -> Tensor:
        """What the network is shown, of unit size: (B, *E)."""
        return self.centred / self.size

    def expected_noise(self, answer: Tensor, prediction: str) -> Tensor:
        """eps-hat (B, *E) from the network's answer F.

        The answer is, by ``prediction``, ``eps``: eps-hat itself; ``x0``: (x_0 - m) / s; ``edm``: a correction of unit
        size to the best linear guess (Karras et al. 2022, app. B.6); ``v``: the velocity (a z - b (x_0 - m)) / sqrt(a^2
        + b^2) (Salimans and Ho 2022).
        """
        if prediction == "eps":
            return answer
        if prediction == "x0":
            return (self.centred - self.spread * answer) / self.scale
        of_centred, of_answer = self._weights(prediction)
        return add(of_centred * self.centred, of_answer, answer)

    def score(self, answer: Tensor, prediction: str) -> Tensor:
        """The score -eps-hat / b (B, *E) from the network's answer."""
        if isinstance(self.scale, Tensor) or prediction in ("eps", "x0"):
            return self.expected_noise(answer, prediction) / -self.scale
        of_centred, of_answer = self._weights(prediction)
        return add(of_centred / -self.scale * self.centred, of_answer / -self.scale, answer)

    def _weights(self, prediction: str) -> tuple[Value, Value]:
        """Those of ``centred`` and of the answer in the expected noise."""
        if prediction == "edm":
            return self.scale / self.square, self.spread / self.size
        square = self.signal**2 + self.scale**2
        return self.scale / square, self.signal / _root(square)


def _root(value: Value) -> Value:
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def _level(process: DiffusionProcess, t: Tensor) -> Tensor:
    log_snr = process.log_snr(t)
    return -0.5 * (log_snr if log_snr.dim() == 1 else log_snr.flatten(1).mean(1))


def _numbers(process: DiffusionProcess, events: EventScale, times: Tensor) -> list[tuple[Value, float, float, Tensor]]:
    """a m, a, b and the level at each of some times: a number, or a tensor where each coordinate has its own mean."""
    signal, scale = process.coefficients(times, times)
    pairs, middle = torch.stack([signal, scale], 1).tolist(), events.middle(times)
    shifts = (signal[:, None] * middle).unbind() if isinstance(middle, Tensor) else [a * middle for a, _ in pairs]
    return [(shift, a, b, level) for shift, (a, b), level in zip(shifts, pairs, _level(process, times), strict=True)]
