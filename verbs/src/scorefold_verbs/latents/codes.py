"""Codes of data, and events decoded from codes. Analyses of codes: distributions, paths between them, a linear probe.

Codes are flattened, k units each.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError, ShapeError, SplitError
from scorefold.interfaces import DataSource, Encodes, EncodesNoise
from scorefold.random import draw_normal
from scorefold.stage import StageContext
from scorefold_toolkit.drawing import device_of
from scorefold_toolkit.libraries import library
from scorefold_toolkit.numerics import symmetric_sqrt
from scorefold_verbs.config import PathOptions
from scorefold_verbs.inputs import on_device

LARGEST = 4096
"""The largest number of units whose covariance is computed."""

_PARALLEL = 1e-6  # the least sine of an angle that a great circle is unique for


@dataclass(frozen=True)
class CodeDistributions:
    """The distributions N(mean, std^2) of the codes of N points: ``mean`` and ``std`` (N, k), std 0 where nothing is
    drawn."""

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        if self.mean.dim() != 2 or self.mean.shape != self.std.shape:
            raise ShapeError(
                f"codes have means {tuple(self.mean.shape)} and deviations {tuple(self.std.shape)}; expected (N, k)"
            )

    @property
    def deterministic(self) -> bool:
        """True if a unit is a function of the event without randomness, whose divergence from N(0, 1) is infinite."""
        return bool((self.std <= 0).any())

    def kl(self) -> Tensor:
        """KL(N(mean, std^2) || N(0, 1)) in nats, (N, k) in float64; inf where std is 0."""
        mean, std = self.mean.double(), self.std.double()
        return (mean.square() + std.square() - 1) / 2 - std.log()

    def spread(self) -> Tensor:
        """The variance over points of each unit's mean, (k,) in float64. Raises ``DataError`` for one point."""
        _check_count(self.mean)
        return self.mean.double().var(0)

    def aggregate(self) -> NormalDistribution:
        """The normal distribution with the moments of the aggregate posterior, which is the mixture of all points'
        distributions.

        Raises ``DataError`` for one point, ``ConfigError`` for more units than ``LARGEST``.
        """
        _check_count(self.mean)
        units = self.mean.shape[1]
        if units > LARGEST:
            raise ConfigError(
                f"codes have {units} units; their covariance is computed up to {LARGEST}",
                hint="codes as large are events: a score model or a flow of them gives their distribution",
            )
        mean = self.mean.double()
        centre = mean.mean(0)
        covariance = (mean - centre).T @ (mean - centre) / (len(mean) - 1)
        return NormalDistribution(centre, covariance + self.std.double().square().mean(0).diag())

    def draw(self, generator: torch.Generator) -> Tensor:
        """A code of each point, (N, k) in float64."""
        mean = self.mean.double()
        return mean + self.std.double() * draw_normal(tuple(mean.shape), generator=generator, like=mean)


def _check_count(codes: Tensor) -> None:
    if len(codes) < 2:
        raise DataError(
            f"the distribution of codes needs at least 2 points; {len(codes)} were given", hint="give more points"
        )


@dataclass(frozen=True)
class NormalDistribution:
    """N(mean, covariance): ``mean`` (k,), ``covariance`` (k, k), float64."""

    mean: Tensor
    covariance: Tensor

    def kl(self) -> float:
        """KL(N(mean, covariance) || N(0, I)) in nats; inf for a singular covariance."""
        eigenvalues = torch.linalg.eigvalsh(self.covariance)
        if float(eigenvalues[0]) <= 1e-12 * float(eigenvalues[-1]):
            return math.inf
        return float((eigenvalues - 1 - eigenvalues.log()).sum() + self.mean.square().sum()) / 2

    def deviations(self, axes: Tensor) -> Tensor:
        """The standard deviation along unit vectors (n, k): (n,)."""
        return ((axes @ self.covariance) * axes).sum(1).clamp_min(0).sqrt()

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws, (n, k)."""
        normal = draw_normal((n, len(self.mean)), generator=generator, like=self.mean)
        return self.mean + normal @ symmetric_sqrt(self.covariance)


@dataclass(frozen=True)
class MixtureDistribution:
    """A mixture of normal distributions with ``weights`` (c,) float64 that sum to 1; ``converged`` says whether its fit
    did."""

    weights: Tensor
    parts: tuple[NormalDistribution, ...]
    converged: bool = True

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws, (n, k)."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        drawn = torch.stack([part.draw(n, generator) for part in self.parts])
        return drawn[which, torch.arange(n)]


def fit_mixture(codes: Tensor, components: int, seed: int) -> MixtureDistribution:
    """A mixture of normal distributions with full covariances, fitted to codes (N, k) by scikit-learn.

    Raises ``ConfigError`` without scikit-learn, and for more components than codes.
    """
    with library("a mixture of codes", "scorefold-verbs[mixtures]"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    if components > len(codes):
        raise ConfigError(
            f"a mixture of {components} components was asked for, of {len(codes)} codes",
            hint=f"set components to at most {len(codes)}",
        )
    model = GaussianMixture(components, covariance_type="full", random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported by ``converged``
        model.fit(codes.double().cpu().numpy())
    means, covariances = torch.from_numpy(model.means_), torch.from_numpy(model.covariances_)
    parts = tuple(NormalDistribution(mean, covariance) for mean, covariance in zip(means, covariances, strict=True))
    return MixtureDistribution(torch.from_numpy(model.weights_), parts, bool(model.converged_))


def lerp(start: Tensor, end: Tensor, times: Tensor) -> Tensor:
    """(1 - t) start + t end for ``start`` and ``end`` (B, *S) at times (T,): (B, T, *S)."""
    t = times.to(start).reshape(-1, *[1] * (start.dim() - 1))
    return (1 - t) * start[:, None] + t * end[:, None]


def slerp(start: Tensor, end: Tensor, times: Tensor) -> Tensor:
    """Spherical interpolation of ``start`` and ``end`` (B, *S), each flattened, at times (T,): (B, T, *S).

    The direction is (sin((1 - t) w) u + sin(t w) v) / sin w for unit vectors u and v with the angle w between them
    (Shoemake 1985), and the length goes linearly from one to the other: of vectors with unequal lengths the same sum
    grows without bound as w nears pi. The ends themselves at 0 and 1; the straight line where the sine of the angle is
    below 1e-6, or one of them is 0.
    """
    a, b = start.flatten(1).double(), end.flatten(1).double()
    lengths = torch.stack([a.norm(dim=1), b.norm(dim=1)])
    u, v = a / lengths[0, :, None], b / lengths[1, :, None]
    # Accurate at any angle, where the arc cosine loses half the digits of small ones.
    angle = 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))
    straight = ~(angle.sin() >= _PARALLEL)[:, None, None]
    t, w = times.to(a)[None, :, None], angle[:, None, None]
    first, last = lengths[:, :, None, None]
    length = (1 - t) * first + t * last
    parts = ((1 - t) * w).sin() * (length / first) * a[:, None] + (t * w).sin() * (length / last) * b[:, None]
    on_circle = (parts / w.sin()).to(start)
    line = lerp(start.flatten(1), end.flatten(1), times)
    return torch.where(straight, line, on_circle).reshape(len(a), -1, *start.shape[1:])


@dataclass(frozen=True)
class Probe:
    """A linear classifier of codes: it says yes where ``weight`` . (z - mean) / scale + bias is above 0.

    ``weight``, ``mean`` and ``scale`` (k,), float64.
    """

    weight: Tensor
    bias: float
    mean: Tensor
    scale: Tensor

    def logits(self, codes: Tensor) -> Tensor:
        """The log-odds (N,) of yes at codes (N, k)."""
        found: Tensor = ((codes.double() - self.mean) / self.scale) @ self.weight + self.bias
        return found

    def moved(self, codes: Tensor, strength: float) -> Tensor:
        """Codes (N, k) moved by ``strength`` sqrt(k) along the unit normal of the boundary, in standardised units.

        Preechakul, Chatthee, Wizadwongsa and Suwajanakorn 2022 (diffusion auto-encoders) edit attributes so.
        """
        step = strength * math.sqrt(len(self.weight)) * self.weight / self.weight.norm()
        moved: Tensor = codes.double() + self.scale * step
        return moved.to(codes)


def fit_probe(codes: Tensor, positive: Tensor, penalty: float = 1.0) -> Probe:
    """Logistic regression of ``positive`` (N,) on standardised codes (N, k): sum of losses + penalty/2 |weight|^2.

    The classes count as often as they come. Raises ``DataError`` where all points are of one class, and for codes
    that don't separate the classes at all.
    """
    if bool(positive.all()) or not bool(positive.any()):
        share = "all" if bool(positive.all()) else "none"
        raise DataError(f"{share} of the {len(positive)} points have the attribute; a probe needs both kinds")
    z = codes.double()
    mean, scale = z.mean(0), z.std(0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    z, target = (z - mean) / scale, positive.to(z)
    weight, bias = z.new_zeros(z.shape[1], requires_grad=True), z.new_zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = z @ weight + bias
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        value = (value + penalty / 2 * weight.square().sum()) / len(z)
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    found = weight.detach()
    if not float(found.norm()) > 0:
        raise DataError("the codes are all the same, and show no attribute", hint="see what 'do: latents' says of them")
    return Probe(found, float(bias.detach()), mean, scale)


HeldNoise = Literal["own", "shared", "drawn"]


def encoder_of(component: Any, doing: str) -> Encodes:
    """The component as one that encodes. Raises ``ConfigError`` where it doesn't."""
    if not isinstance(component, Encodes):
        raise ConfigError(f"{type(component).__name__} has no latent space: it can't {doing}")
    return component


def code_distributions(
    component: Encodes, dataset: Dataset, batch_size: int, context: StageContext
) -> CodeDistributions:
    """The distributions of the codes of points, on the CPU."""
    means, deviations = [], []
    for batch in dataset.batches(batch_size):
        mean, std = component.encode_distribution(batch.x)
        means.append(mean.flatten(1).cpu())
        deviations.append(std.flatten(1).cpu())
        context.progress(sum(map(len, means)), len(dataset), "encoded")
    return CodeDistributions(torch.cat(means), torch.cat(deviations))


def first_training_points(source: DataSource, limit: int | None, context: StageContext) -> Dataset:
    """The first points of the training split, all without a limit. Raises ``SplitError`` where there are none."""
    dataset = on_device(context, source.load("train"))
    if len(dataset) == 0:
        raise SplitError("the training split has no points", hint="give it a share of the points")
    return dataset if limit is None or limit >= len(dataset) else dataset.take(torch.arange(limit))


def held_noise(component: Encodes, wanted: HeldNoise | None) -> HeldNoise:
    """The noise along a row. Raises ``ConfigError`` where the noise of a point can't be encoded."""
    if wanted is None:
        return "own" if isinstance(component, EncodesNoise) else "shared"
    if wanted == "own" and not isinstance(component, EncodesNoise):
        raise ConfigError(
            f"{type(component).__name__} encodes no noise, so no event can keep its own",
            hint="noise: shared decodes a whole row with one draw",
        )
    return wanted


def own_noise(component: Encodes, x: Tensor, z: Tensor, options: PathOptions) -> Tensor:
    """The noise (B, *E) with which points x (B, *E) come back from their codes z (B, *L)."""
    assert isinstance(component, EncodesNoise)
    pairs = zip(x.split(options.batch_size), z.split(options.batch_size), strict=True)
    return torch.cat([component.encode_noise(*pair, **options.decoding) for pair in pairs])


def decoded(
    component: Encodes,
    codes: Tensor,
    generator: torch.Generator,
    *,
    batch_size: int,
    decoding: Mapping[str, Any],
    noise: Tensor | None = None,
) -> Tensor:
    """Codes (n, *L) decoded in batches, with a noise (n, *E) where it is given: (n, *E).

    Raises ``DataError`` for events that are not finite.
    """
    parts = []
    noises = [None] * len(codes) if noise is None else noise.split(batch_size)
    for batch, held in zip(codes.split(batch_size), noises, strict=False):
        given = {} if held is None else {"noise": held}
        parts.append(component.decode(batch, generator=generator, **decoding, **given))
        if not bool(torch.isfinite(parts[-1]).all()):
            raise DataError(
                "the decoded events are not finite",
                hint="decode with more steps or a weaker guidance, codes nearer to codes of data, or train longer",
            )
    return torch.cat(parts)


def decoded_rows(
    component: Encodes,
    codes: Tensor,
    held: HeldNoise,
    noise: Tensor | None,
    options: PathOptions,
    context: StageContext,
) -> Tensor:
    """Codes in rows (R, T, *L) decoded to events (R, T, *E) on the CPU; ``noise`` (R, T, *E) where it is a row's own.

    Each column is decoded from the same seed unless noise is drawn afresh, so that whatever the decoder draws is one
    draw along a row.
    """

    def seeded() -> torch.Generator:
        return context.generator("decode", device=device_of(component))

    generator, columns = seeded(), []
    for column in range(codes.shape[1]):
        columns.append(
            decoded(
                component,
                codes[:, column],
                generator if held == "drawn" else seeded(),
                batch_size=options.batch_size,
                decoding=options.decoding,
                noise=None if noise is None else noise[:, column],
            ).cpu()
        )
        context.progress(column + 1, codes.shape[1], "columns of events")
    return torch.stack(columns, 1)


def beside(codes: Tensor, flat: Tensor) -> Tensor:
    """Flattened codes (..., k) in the shape, on the device and in the dtype of codes (n, *L)."""
    return flat.to(codes).reshape(*flat.shape[:-1], *codes.shape[1:])
