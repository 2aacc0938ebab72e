"""What a network that predicts gives: the expected noise from its answer, whichever way it is parametrised."""

from __future__ import annotations

from torch import Tensor


def expected_noise(
    answer: Tensor, centred: Tensor, signal: Tensor, scale: Tensor, std: float | Tensor, prediction: str
) -> Tensor:
    """eps-hat (B, *E) from the network's answer F; ``centred`` is x - signal mean, signal and scale broadcast to it.

    ``std`` is the standard deviation s of x_0 a coordinate, m its mean. With x = a x_0 + b z the answer is
    ``eps``: eps-hat itself; ``x0``: (x_0 - m) / s; ``edm``: a correction of unit size to the best linear guess (Karras
    et al. 2022, app. B.6); ``v``: the velocity (a z - b (x_0 - m)) / sqrt(a^2 + b^2) (Salimans and Ho 2022).
    """
    if prediction == "eps":
        return answer
    if prediction == "x0":
        return (centred - signal * std * answer) / scale
    spread = std if prediction == "edm" else 1.0
    square = (signal * spread) ** 2 + scale**2
    return scale / square * centred + signal * spread / square.sqrt() * answer
