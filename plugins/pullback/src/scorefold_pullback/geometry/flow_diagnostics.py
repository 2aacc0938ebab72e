"""Reliability of a flow as the chart of a geometry, measured on held-out points."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold.interfaces import Flow
from scorefold_pullback.flows.objective import Isometry, unit_vectors, with_cotangents
from scorefold_pullback.geometry.chart import row_lengths

_FULL_UP_TO = 64
_SLICE = 16
_MOST_UNEVEN = 10


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis of a flow phi with Jacobian J on held-out points.

    ``isometry`` is the mean of |J J^T - I|_F^2 / D, 0 for an isometry, or of slices of K = 16 directions that of
    |Q^T J J^T Q - I|_F^2 / K for more than 64 coordinates; ``smallest_stretch`` and ``largest_stretch`` are
    the factors by which lengths change in the most and least stretched 1 % of (point, direction), singular values of J,
    or of these slices, which see less of the ends; ``volume`` is the mean and ``volume_spread`` the standard
    deviation of log |det J| / D; ``inversion`` is the largest |phi^-1(phi(x)) - x| over the spread of the points, or of
    the flow's data where there is one point; ``nll`` is the mean negative log-density in nats. ``excess`` is how much
    less likely the points' latents are under the base than its own draws, in nats a coordinate: for a normal base
    (m - 1) / 2 with m the mean square of whitened latents, below 0 where the base is wider than they are.
    """

    points: int
    isometry: float
    smallest_stretch: float
    largest_stretch: float
    volume: float
    volume_spread: float
    inversion: float
    nll: float
    excess: float

    def numbers(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)

    def warnings(self, *, of_the_distribution: bool = True) -> list[str]:
        """Reasons not to trust geodesics, distances and dimensions in this geometry; none is best.

        Without ``of_the_distribution`` not that the points are none of the flow's: for who looks closer at that.
        """
        found = []
        if not self.inversion < 1e-3:
            found.append(
                f"the flow does not invert: a point comes back off by {self.inversion:.2g} of the data's spread; use "
                "float64, or a map that bends less (a smaller scale bound, a higher isometry_weight)"
            )
        if not self.largest_stretch < _MOST_UNEVEN * self.smallest_stretch:
            found.append(
                "the flow is far from an isometry on these points: it changes lengths by factors from "
                f"{self.smallest_stretch:.2g} to {self.largest_stretch:.2g}. Variances of its base differ from the "
                "data's, and small changes of a point can move a geodesic much; train longer or with a "
                "higher isometry_weight"
            )
        if not self.volume_spread < 0.5:
            found.append(
                f"log |det J| differs by {self.volume_spread:.2g} a coordinate from point to point, so that geodesics "
                "do not follow the flow's own density; train with a higher volume_weight"
            )
        if of_the_distribution and not self.excess < 0.5:
            found.append(
                f"these points are far from the flow's distribution: their latents are {self.excess:.2g} nats a "
                "coordinate less likely than its own draws; train on data like these, on more of them, or with a "
                "higher variance_floor"
            )
        return found


def diagnose_flow(flow: Flow, x: Tensor, *, batch_size: int = 256) -> Diagnosis:
    """The figures for points x (N, *E); random slices of the Jacobian are the same at every call.

    Raises ``DataError`` for no points, and where the flow's derivatives are not finite.
    """
    if len(x) == 0:
        raise DataError("a flow is diagnosed on held-out points, and there are none")
    generator = torch.Generator(x.device).manual_seed(0)
    kind: Isometry = "full" if flow.dimension <= _FULL_UP_TO else "sliced"
    grams, volumes, densities, latent, worst = [], [], [], [], 0.0
    for part in x.split(batch_size):
        directions = unit_vectors(kind, part, _SLICE, generator)
        z, log_det, products = with_cotangents(flow, part, directions)
        rows = products.detach().flatten(2).transpose(0, 1).double()
        grams.append(rows @ rows.mT)
        with torch.no_grad():
            volumes.append(log_det.detach().double() / flow.dimension)
            latent.append(flow.base.log_prob(z.detach()).double())
            densities.append(latent[-1] + log_det.detach().double())
            worst = max(worst, float(row_lengths((flow.inverse(z.detach())[0] - part).double()).max()))
    gram = torch.cat(grams)
    wrong = int((~gram.isfinite()).flatten(1).any(1).sum())
    if wrong:
        raise DataError(f"derivatives of the flow are not finite at {wrong} of {len(x)} points, or too large to square")
    stretch = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    ends = torch.quantile(stretch[:, 0], 0.01), torch.quantile(stretch[:, -1], 0.99)
    volume = torch.cat(volumes)
    spread = float((x - x.mean(0)).double().flatten(1).square().sum(1).mean().sqrt())
    spread = spread or flow.event_scale.spread(flow.event_shape)
    with torch.no_grad():
        own = flow.base.log_prob(flow.base.sample(tuple(x.shape), generator=generator, like=x)).double()
    unit = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    return Diagnosis(
        points=len(x),
        isometry=float((gram - unit).square().sum((1, 2)).mean()) / gram.shape[1],
        smallest_stretch=float(ends[0]),
        largest_stretch=float(ends[1]),
        volume=float(volume.mean()),
        volume_spread=float(volume.std(correction=0)),
        inversion=worst / spread,
        nll=-float(torch.cat(densities).mean()),
        excess=float(own.mean() - torch.cat(latent).mean()) / flow.dimension,
    )
