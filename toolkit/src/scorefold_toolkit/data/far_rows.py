"""Rows that lie so far from all others that they look like errors of measurement or typing. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FAR = 100.0
"""The distance from the median, in quartile ranges of a column, from which a row lies far out."""

NEAR = 20.0
"""The distance within which all other rows lie. Heavy tails, of which few rows are far out too, fill the gap."""

_SHARE = 0.01
_NAMED = 5


def far_rows(x: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The positions (k,) of the rows of points (N, D) that lie far out in a column; none where they are more than 1 %,
    or where other rows stand between them and the rest.

    >>> far_rows([[-1.0], [1.0]] * 100 + [[1e6]]).tolist()
    [200]
    >>> far_rows([[-1.0], [1.0]] * 100).tolist()
    []
    """
    points = np.asarray(x, np.float64)
    points = points.reshape(len(points), -1)
    nothing = np.empty(0, np.int64)
    if len(points) * _SHARE < 1 or not np.isfinite(points).all():
        return nothing
    low, middle, high = np.quantile(points, [0.25, 0.5, 0.75], axis=0)
    varied = high > low
    if not varied.any():
        return nothing
    out = (np.abs(points - middle)[:, varied] / (high - low)[varied]).max(axis=1)
    far = np.flatnonzero(out > FAR)
    few = len(far) <= _SHARE * len(points) and np.delete(out, far).max() <= NEAR
    return far if few else nothing


def rows_far_out(names: Sequence[str]) -> tuple[str, str]:
    """The beginning of a sentence about rows with these names, and the advice to leave them out.

    >>> rows_far_out(["3"])
    ('row 3 (rows count from 0) lies more than 100 quartile ranges out', 'remove it from the data')
    """
    names = sorted(names, key=lambda name: (len(name), name))
    one, numbered = len(names) == 1, all(name.isdigit() for name in names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    counted = " (rows count from 0)" if numbered else ""
    lie, them = ("lies", "it") if one else ("lie", "them")
    listed = f"row{'' if one else 's'} {', '.join(names[:_NAMED])}{more}{counted}"
    return f"{listed} {lie} more than {FAR:g} quartile ranges out", f"remove {them} from the data"
