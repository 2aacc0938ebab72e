"""Coordinates of a geometry: a map to Euclidean space and back with derivatives along vectors, and its diagnosis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import Flow, Geometry
from scorefold_pullback.flows.objective import Isometry, unit_vectors, with_cotangents
from scorefold_toolkit.numerics import pushforward

Map = Callable[[Tensor], Tensor]

BLOCK = 2**19
"""Numbers that go through a map at once: of 784 coordinates 668 rows."""

BLOCK_ROWS_ON_CPU = 2048
"""Rows that go through a map at once on a CPU, where more are no faster."""


@dataclass(frozen=True)
class Chart:
    """``into`` takes events (B, *E) to coordinates (B, *E), and ``back`` takes them back.

    Rows go through in blocks, so that the memory of an answer without gradients does not grow with what a network
    keeps a row. No Jacobian is formed.
    """

    into: Map
    back: Map

    def __call__(self, x: Tensor) -> Tensor:
        """The coordinates of x, (B, *E)."""
        return _in_blocks(lambda part: (self.into(part),), x)[0]

    def inverse(self, w: Tensor) -> Tensor:
        """The events of coordinates w, (B, *E)."""
        return _in_blocks(lambda part: (self.back(part),), w)[0]

    def push(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """The coordinates of x and their derivative along v (B, *E), each (B, *E)."""
        return _in_blocks(lambda at, along: pushforward(self.into, at, along, mode="reverse"), x, v)

    def push_inverse(self, w: Tensor, u: Tensor) -> tuple[Tensor, ...]:
        """The events of coordinates w and their derivative along u (B, *E), each (B, *E)."""
        return _in_blocks(lambda at, along: pushforward(self.back, at, along, mode="reverse"), w, u)


def _in_blocks(function: Callable[..., tuple[Tensor, ...]], *given: Tensor) -> tuple[Tensor, ...]:
    """A function of batches of one length, called on some of the rows at a time."""
    first = given[0]
    rows = max(BLOCK // max(math.prod(first.shape[1:]), 1), 1)
    rows = min(rows, BLOCK_ROWS_ON_CPU) if first.device.type == "cpu" else rows
    if len(first) <= rows:
        return function(*given)
    answers = [function(*parts) for parts in zip(*(value.split(rows) for value in given), strict=True)]
    return tuple(torch.cat(parts) for parts in zip(*answers, strict=True))


def check_rows(name: str, value: Tensor, shape: tuple[int, ...], taker: str) -> None:
    """Raises ``ShapeError`` unless a value is a tensor (B, *shape), and ``DataError`` for numbers that are not finite.

    ``taker`` says what takes it.
    """
    if not isinstance(value, Tensor):
        raise ShapeError(f"{name} is a {type(value).__name__}; expected a tensor", hint="torch.as_tensor(...)")
    if value.dim() == 0 or tuple(value.shape[1:]) != shape:
        expected = ", ".join(map(str, shape))
        raise ShapeError(f"{name} has shape {tuple(value.shape)}; {taker} takes (B, {expected})")
    # A sum is the cheaper look: it is finite where all are, but for sums that overflow.
    if not value.is_meta and not bool(value.detach().sum().isfinite()):
        wrong = int((~value.isfinite()).flatten(1).any(1).sum())
        if wrong:
            raise DataError(f"{name} holds NaN or infinite numbers in {wrong} of {len(value)} rows")


def row_lengths(v: Tensor) -> Tensor:
    """The Euclidean length of each row of v (B, *E), (B,), whose gradient at 0 is 0."""
    found: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return found


_TIMES = 33


@dataclass(frozen=True)
class ReferenceGeometry:
    """Reference with which a geometry is compared, if any. It is not a module, and so no part of the state of who holds
    it.
    """

    to: Geometry | None

    @torch.no_grad()
    def errors(self, geometry: Geometry, points: Tensor) -> dict[str, float]:
        """Distances of geodesics between the first and the second half of points (N, *E) from the reference's.

        ``geodesic_error`` is the mean over pairs and times, in units of the data, and ``straight_line_error`` the
        error of straight lines (Diepeveen, Batzolis et al., ICML 2025, their metric). Empty without reference or pair.
        """
        half = len(points) // 2
        if self.to is None or half == 0:
            return {}
        x, y = points[:half], points[half : 2 * half]
        times = torch.linspace(0, 1, _TIMES, dtype=x.dtype, device=x.device)
        true = self.to.geodesic(x, y, times)
        straight = torch.lerp(x[:, None], y[:, None], times.reshape(1, -1, *[1] * (x.dim() - 1)))
        return {
            "geodesic_error": float(curves_apart(geometry.geodesic(x, y, times), true).mean()),
            "straight_line_error": float(curves_apart(straight, true).mean()),
        }


def compared_with(reference: Geometry | None, geometry: Geometry) -> ReferenceGeometry:
    """The reference of a geometry. Raises ``ConfigError`` for one with events of another shape."""
    if reference is not None and tuple(reference.event_shape) != tuple(geometry.event_shape):
        raise ConfigError(
            f"the reference has events of shape {tuple(reference.event_shape)}, and this geometry "
            f"{tuple(geometry.event_shape)}",
            hint="plug in a geometry of the same data, or none",
        )
    return ReferenceGeometry(reference)


def curves_apart(a: Tensor, b: Tensor) -> Tensor:
    """The mean distance of curves a and b, each (B, T, *E), at equal times: (B,)."""
    return (a - b).flatten(2).square().sum(2).sqrt().mean(1)


_FULL_UP_TO = 64
_SLICE = 16
_MOST_UNEVEN = 10


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis of a flow phi with Jacobian J on held-out points.

    ``isometry`` is the mean of |J J^T - I|_F^2 / D, 0 for an isometry. For more than 64 coordinates it is the mean of
    |Q^T J J^T Q - I|_F^2 / K over slices Q of K = 16 directions. ``smallest_stretch`` and ``largest_stretch`` are the
    factors by which lengths change in the least and most stretched 1 % of (point, direction). They are singular values
    of J, or of these slices, which see less of the ends. ``volume`` is the mean and ``volume_spread`` the standard
    deviation of log |det J| / D. ``inversion`` is the largest |phi^-1(phi(x)) - x| divided by the spread of the points,
    or of the flow's data where there is one point. ``nll`` is the mean negative log-density in nats. ``excess`` is how
    much less likely the points' latents are under the base than the base's own draws, in nats a coordinate. For a
    normal base it is (m - 1) / 2 with m the mean square of whitened latents, below 0 where the base is wider.
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
