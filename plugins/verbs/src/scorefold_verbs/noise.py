"""Whether a model's noise is of the size of its data."""

from __future__ import annotations

import torch

from scorefold.data import EventScale
from scorefold.diffusion.process import DiffusionProcess, Isotropic
from scorefold.errors import ConfigError

SMALL = 0.5
"""The largest noise over the data's spread below which samples do not start from the data's noise."""


def noise_warnings(process: DiffusionProcess, scale: EventScale, event_shape: tuple[int, ...]) -> list[str]:
    """Warnings where the largest noise of a process does not cover data of this scale.

    Raises ``ConfigError`` where its least noise is above the whole spread of the data, so that no model of it sees
    more than one point.
    """
    if not isinstance(process, Isotropic):
        return []
    spread = scale.spread(event_shape)
    ends = process.noise_to_signal(torch.tensor([process.t_min, process.t_max], dtype=torch.float64))
    least, greatest = (float(end) for end in ends)
    if least > spread:
        raise ConfigError(
            f"the least noise of the process is {least:.3g}, and the whole spread of the data {spread:.3g} (the root "
            "mean square distance from their mean): nothing of the data is left at any noise level",
            hint=f"set sigma_min to about {_round(0.01 * spread)}, or relative: true with sigma_min: 0.01",
        )
    if greatest < SMALL * spread:
        return [
            f"the largest noise of the process is {greatest:.3g}, and the spread of the data {spread:.3g}: samples and "
            "likelihoods start from noise that does not cover the data. Set sigma_max to about "
            f"{_round(2 * spread)}, or scale the data"
        ]
    return []


def _round(value: float) -> str:
    """One digit of a number, without an exponent where it can be: 300."""
    return f"{float(f'{value:.1g}'):g}"
