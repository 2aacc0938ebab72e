"""Whether data are in the units of a model, and whether a model's noise is of the size of its data."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.diffusion.process import DiffusionProcess, Isotropic
from scorefold.errors import ConfigError

APART = 3.0
"""The ratio of spreads, or the distance of means in deviations, from which data are not those of training."""

SMALL = 0.5
"""The largest noise over the data's spread below which samples do not start from the data's noise."""

_FEW = 10
_NAMED = 3


def unit_warnings(trained: EventScale, x: Tensor) -> list[str]:
    """Warnings where events x (N, *E), in a model's units, are not of the size or at the place of its training data.

    Deviations are those of the training data, one number for all coordinates; the numbers reported are in the units
    that the data were read in.
    """
    if len(x) == 0:
        return []
    own = EventScale.of(x)
    flat = x.double().flatten(1)
    found = []
    ratio = own.std / trained.std
    constant = bool((flat == flat[0]).all())
    if len(x) >= _FEW and not constant and not 1 / APART <= ratio <= APART:
        found.append(
            f"the data are spread {ratio:.3g} times as widely as those that the model was trained on: check that they "
            "are in the same units"
        )
    means, middle = flat.mean(0), trained.middle(flat)
    off = (means - middle) / trained.std
    far = (off.abs() > APART).nonzero().flatten().tolist()
    if far and len(means) == x.shape[-1] and x.dim() == 2:
        raw = trained.to_raw(means)
        raw_middle = trained.to_raw(means * 0 + middle)
        far.sort(key=lambda column: -abs(float(off[column])))
        named = ", ".join(
            f"column {column} has mean {float(raw[column]):.4g} for {float(raw_middle[column]):.4g}"
            for column in far[:_NAMED]
        )
        more = f" and {len(far) - _NAMED} more columns" if len(far) > _NAMED else ""
        found.append(f"the data lie away from those that the model was trained on: {named}{more} (columns from 0)")
    elif abs(own.mean - trained.mean) > APART * trained.std:
        found.append(
            f"the data have mean {own.mean:.4g} and those that the model was trained on {trained.mean:.4g}, in the "
            "model's units"
        )
    return found


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
