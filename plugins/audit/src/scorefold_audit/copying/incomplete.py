"""Samples with missing values: an audit leaves them out, and a copy may hide among them."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold_toolkit.data.splits import HasIncompleteRows

_MOST = 500
_FEWEST_PRESENT = 2
_ROUNDING = 4 * torch.finfo(torch.float32).eps


def incomplete_warning(samples: object, training: Tensor, held_out: Tensor, scale: EventScale) -> str:
    """A warning of samples that were left out for missing values, with how many are copies in the columns that they
    have; empty where there are none.

    Training and held-out points (n, D) and (h, D) are in the units of ``scale``. A sample with fewer than two values is
    compared with nothing. Of many samples the first 500 are.
    """
    rows = samples.incomplete_rows() if isinstance(samples, HasIncompleteRows) else torch.empty(0)
    if len(rows) == 0:
        return ""
    some = rows[:_MOST]
    of_training, of_held_out = (
        equal_rows(some, scale.to_raw(each.double().flatten(1))) for each in (training, held_out)
    )
    said = f"{len(rows):,} samples have missing values and are left out of the shares"
    compared = f"{len(some)} of them, " if len(some) < len(rows) else ""
    return (
        f"{said}. In the columns that they have, {compared}{of_training} equal a training point, and {of_held_out} a "
        "held-out one"
    )


def equal_rows(rows: Tensor, points: Tensor) -> int:
    """The number of rows (m, D), NaN where a value is missing, that equal one of the points (n, D) in single precision.

    >>> nan = float("nan")
    >>> equal_rows(torch.tensor([[1.0, 2.0, nan], [1.0, 9.0, nan], [nan, nan, 3.0]]), torch.tensor([[1.0, 2.0, 3.0]]))
    1
    """
    if len(points) == 0:
        return 0
    near = _ROUNDING * points.abs().amax(0)
    found = 0
    for row in rows:
        present = ~row.isnan()
        if int(present.sum()) >= _FEWEST_PRESENT:
            apart = (points[:, present] - row[present]).abs()
            found += bool((apart <= near[present]).all(1).any())
    return found
