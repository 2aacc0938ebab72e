"""What a network that predicts is shown and gives: standardised events, and the expected noise from its answer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Standardised:
    """Noised events x = a x_0 + b z (B, *E) as a network is shown them; a coordinate of x_0 has mean m and deviation s.

    ``centred`` x - a m, ``signal`` a, ``scale`` b, ``spread`` a s, ``square`` (a s)^2 + b^2 and ``size``, its root,
    broadcast to one another. Each is computed once, for what the network is shown and for its answer.

    >>> import torch
    >>> one = Standardised.of(torch.tensor([[5.0]]), torch.tensor(1.0), torch.tensor(4.0), 3.0)
    >>> one.input, one.expected_noise(torch.tensor([[0.0]]), "edm")
    (tensor([[1.]]), tensor([[0.8000]]))
    """

    centred: Tensor
    signal: Tensor
    scale: Tensor
    spread: Tensor
    square: Tensor
    size: Tensor

    @classmethod
    def of(cls, centred: Tensor, signal: Tensor, scale: Tensor, std: float | Tensor) -> Standardised:
        """The standardised events of ``centred`` ones, by the standard deviation ``std`` of x_0 a coordinate."""
        spread = signal * std
        square = spread**2 + scale**2
        return cls(centred, signal, scale, spread, square, square.sqrt())

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
        if prediction == "edm":
            return self.scale / self.square * self.centred + self.spread / self.size * answer
        square = self.signal**2 + self.scale**2
        return self.scale / square * self.centred + self.signal / square.sqrt() * answer
