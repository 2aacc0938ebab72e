"""The best linear denoiser of a data set: the error that a trained score has to be below."""

from __future__ import annotations

import torch
from torch import Tensor

_HOLLOW = 0.1
"""The share of the variance of squared lengths that normal rows have, below which rows lie near an ellipsoid. Uniform
ones in a cube have 0.4."""


class LinearDenoiser:
    """x-hat(y) = mu + C (C + sigma^2)^-1 (y - mu), with mean mu and covariance C of the rows (R, D) of a data set.

    With the exact moments its expected error in units of the noise, E |z - eps-hat|^2, is B = sum lambda_i / (lambda_i
    + sigma^2) over eigenvalues lambda_i of C. Here the moments are those of other rows than the points at which errors
    are read, so that a denoiser with these errors exists and B is a valid bound of the least error, however few the
    rows. Directions that the rows do not span get one variance, that of the points there.

    Raises ``ValueError`` for fewer than 2 rows.
    """

    def __init__(self, rows: Tensor, points: Tensor) -> None:
        if len(rows) < 2:
            raise ValueError(f"given {len(rows)} rows; expected at least 2")
        rows, points = rows.double(), points.flatten(1).double().cpu()
        mean = rows.mean(0)
        centred = (rows - mean) / len(rows) ** 0.5
        self._rows = centred
        if len(rows) > rows.shape[1]:
            variances, basis = torch.linalg.eigh(centred.mT @ centred)
        else:
            _, singular, transposed = torch.linalg.svd(centred, full_matrices=False)
            variances, basis = singular.square(), transposed.mT
        kept = variances > 1e-14 * variances.max()
        self.variances, basis = variances[kept], basis[:, kept]
        self._basis = basis
        along = (points - mean) @ basis
        self.squares = along.square()
        self.outside = rows.shape[1] - len(self.variances)
        self.outside_squares = ((points - mean).square().sum(1) - self.squares.sum(1)).clamp_min(0)
        self.outside_variance = float(self.outside_squares.mean()) / max(1, self.outside)

    @property
    def extent(self) -> float:
        """The standard deviation along the direction in which the rows vary most."""
        return float(self.variances.max().sqrt()) if len(self.variances) else 0.0

    def directions(self, sigma: float) -> int:
        """The number of principal directions in which the data vary by more than sigma."""
        return int((self.variances > sigma**2).sum()) + self.outside * (self.outside_variance > sigma**2)

    def hollow(self, sigma: float) -> bool:
        """True where the rows lie near an ellipsoid in these directions, and have at least one dimension fewer.

        Their squared lengths in units of each variance, whose mean is the number k of directions, have a variance of 2k
        where rows are normal, and of 0 on an ellipsoid. False for fewer rows than 5 a direction.
        """
        wide = self.variances > sigma**2
        count = int(wide.sum())
        if count < 2 or len(self._rows) < 5 * count:
            return False
        along = (self._rows @ self._basis[:, wide]).square() * len(self._rows) / self.variances[wide]
        return float(along.sum(1).var()) < _HOLLOW * 2 * count

    def errors(self, sigma: float) -> Tensor:
        """E |z - eps-hat(x + sigma z)|^2 over noises z at each point, (M,); nowhere more on average than D, the error
        of guessing no noise."""
        inside = (self.variances / (self.variances + sigma**2)).square().sum()
        inside = inside + (self.squares * (sigma / (self.variances + sigma**2)) ** 2).sum(1)
        gain, shrink = self.outside_variance, self.outside_variance + sigma**2
        errors = inside + self.outside * (gain / shrink) ** 2 + self.outside_squares * (sigma / shrink) ** 2
        ambient = float(len(self.variances) + self.outside)
        return errors if float(errors.mean()) < ambient else torch.full_like(errors, ambient)
