"""Check of the units of data against the units of a model."""

from __future__ import annotations

from torch import Tensor

from scorefold.data import EventScale

APART = 3.0
"""The ratio of spreads, or the distance of means in deviations, from which data are not those of training."""

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
            f"the spread of the data is {ratio:.3g} times the spread of the model's training data: check that both "
            "have the same units"
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
        found.append(f"the data lie away from the model's training data: {named}{more} (columns from 0)")
    elif abs(own.mean - trained.mean) > APART * trained.std:
        found.append(
            f"the data have mean {own.mean:.4g} and the model's training data {trained.mean:.4g}, in the model's units"
        )
    return found
