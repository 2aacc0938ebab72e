"""Measures of decoded events next to real ones, batch by batch, for the verbs of latent codes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError, DataError
from scorefold_toolkit.metrics import LPIPS, Moments, psnr, sharpness, ssim
from scorefold_toolkit.metrics.features import LARGEST
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, PointwiseMeasure, Units
from scorefold_verbs.config import FeatureOptions, ReconstructOptions
from scorefold_verbs.measures import HIGHEST_PSNR, feature_name, features_of, read_lpips

_SSIM_WINDOW = 11
_FRECHET_DRAWS = 5


RELATIVE_ERROR = "relative reconstruction error"


class Errors(Measure):
    """Squared errors of decoded events over all points, of one draw (the mean over draws) and of the mean of several.

    The relative error is the root of the mean squared distance between points and one draw of them, over that between
    points and their mean: 0 is perfect, and 1 no better than the mean.
    """

    def __init__(self, draws: int) -> None:
        self.certain = draws > 1
        """Whether all draws of each event have been the same, where there are several."""
        self._each, self._spread, self._count = 0.0, 0.0, 0
        self._total = torch.zeros((), dtype=torch.float64)
        self._squared = torch.zeros(draws, dtype=torch.float64)  # of the mean of the first 1, 2, ... draws

    def add(self, batch: EvaluationBatch) -> None:
        draws, truth = batch.draws.double(), batch.truth.double()
        self._each += float((draws - truth).square().sum()) / len(draws)
        numbers = torch.arange(1, len(draws) + 1, device=draws.device).reshape(-1, *[1] * truth.dim())
        self._squared += (draws.cumsum(0) / numbers - truth).square().flatten(1).sum(1).cpu()
        self._spread += float(truth.square().sum())
        self._total = self._total + truth.sum(0).cpu()
        self._count += len(truth)
        self.certain = self.certain and bool((draws == draws[:1]).all())

    def relative(self) -> float:
        """The relative error. Raises ``DataError`` for points that are all the same."""
        spread = self._spread - float(self._total.square().sum()) / self._count
        if not spread > 0:
            raise DataError("all points are equal, so there is no spread to compare the error with")
        return math.sqrt(self._each / spread)

    def by_draws(self) -> Tensor:
        """The root-mean-square distance of the mean of 1, 2, ... draws, (N,)."""
        return (self._squared / self._count).sqrt()

    def metrics(self) -> dict[str, float]:
        found = {RELATIVE_ERROR: self.relative(), "root-mean-square distance": math.sqrt(self._each / self._count)}
        n = len(self._squared)
        if n > 1:
            found[f"root-mean-square distance of the mean of {n} draws"] = float(self.by_draws()[-1])
        return found


class ReconstructionErrors(PointwiseMeasure):
    """Distances of decoded events from their originals, for one sample (the mean over samples) and the mean of all
    samples.

    L2 is the length of the difference, not squared, in the units of events and before anything is clipped; of images
    also the PSNR, the SSIM from 11 pixels a side, and LPIPS.
    """

    def __init__(self, units: Units, shape: tuple[int, ...], lpips: LPIPS | None = None) -> None:
        super().__init__()
        self.units, self.lpips, self.image = units, lpips, len(shape) == 3

    def add(self, batch: EvaluationBatch) -> None:
        n, count = batch.draws.shape[:2]
        rows = [("", *batch.pairs)]
        if n > 1:
            rows.append((f" of the mean of {n} draws", batch.draws.mean(0), batch.truth))
        for suffix, x, truth in rows:
            self._note(f"L2{suffix}", (x - truth).double().flatten(1).norm(dim=1), count)
            if not self.image:
                continue
            x = self.units.round(x)
            decibels = psnr(x, truth, self.units.range).clamp_max(HIGHEST_PSNR)
            self._note(f"PSNR{suffix} (dB)", decibels, count)
            seen = self.units.unit(x), self.units.unit(truth)
            if min(truth.shape[-2:]) >= _SSIM_WINDOW:
                self._note(f"SSIM{suffix}", ssim(*seen), count)
            if self.lpips is not None:
                self._note(f"LPIPS{suffix} ({self.lpips.network})", self.lpips(*seen), count)

    def _note(self, name: str, values: Tensor, count: int) -> None:
        self.note(name, values.reshape(-1, count).mean(0))


class SharpnessRatio(Measure):
    """Mean sharpness of decoded images divided by the sharpness of real ones: below 1 is blurred, above is noisy."""

    def __init__(self, units: Units) -> None:
        self.units = units
        self._real: list[Tensor] = []
        self._decoded: dict[str, list[Tensor]] = {}

    def add(self, batch: EvaluationBatch) -> None:
        n = len(batch.draws)
        self._real.append(sharpness(batch.truth.double()))
        self._note("sharpness relative to the originals", batch.draws.flatten(0, 1))
        if n > 1:
            self._note(f"sharpness of the mean of {n} draws relative to the originals", batch.draws.mean(0))

    def _note(self, name: str, x: Tensor) -> None:
        self._decoded.setdefault(name, []).append(sharpness(self.units.round(x).double()))

    def metrics(self) -> dict[str, float]:
        real = float(torch.cat(self._real).mean())
        return {name: float(torch.cat(parts).mean()) / real for name, parts in self._decoded.items()} if real else {}


class FrechetBesideFloor(Measure):
    """The Frechet distance of decoded events from real events, with the Frechet distance of other real events.

    ``others`` gives the other real events in batches, as many as there are decoded events if the data have so many.
    Where it is None, the two halves of the real events are compared with each other. Only the size of the sample makes
    the second distance, the floor: a distance near the floor can't be separated from 0.
    """

    def __init__(self, name: str, network: nn.Module, units: Units, others: Iterable[Tensor] | None) -> None:
        self.name, self.network, self.units, self.others = name, network, units, others
        self._real, self._mean, self._other = Moments(), Moments(), Moments()
        self._halves = (Moments(), Moments())
        self._draws: list[Moments] = []
        self._count = 1

    def add(self, batch: EvaluationBatch) -> None:
        used = batch.draws[:_FRECHET_DRAWS]
        self._count = len(batch.draws)
        self._draws = self._draws or [Moments() for _ in used]
        real = self._features(batch.truth)
        self._real.add(real)
        for x, moments in zip(used, self._draws, strict=True):
            moments.add(self._features(self.units.round(x)))
        if self._count > 1:
            self._mean.add(self._features(self.units.round(batch.draws.mean(0))))
        if self.others is None:
            for number, half in enumerate(self._halves):
                half.add(real[number::2])

    def _features(self, x: Tensor) -> Tensor:
        found: Tensor = self.network(x)
        return found.flatten(1).double().cpu()

    def metrics(self) -> dict[str, float]:
        if self._real.count < 2:
            return {}
        distances = [moments.frechet(self._real) for moments in self._draws]
        found: dict[str, float] = {f"Frechet distance ({self.name})": math.fsum(distances) / len(distances)}
        if self._count > 1:
            name = f"Frechet distance of the mean of {self._count} draws ({self.name})"
            found[name] = self._mean.frechet(self._real)
        floor, points = self._floor()
        if floor is not None:
            found[f"Frechet distance of other real events ({self.name})"] = floor
            found["Frechet points, other real events"] = points
        return {**found, "Frechet points": self._real.count, "Frechet features": len(self._real.mean)}

    def _floor(self) -> tuple[float | None, int]:
        """The distance between real events and others, and the number of the others; None where there are too few."""
        if self.others is None:
            first, second = self._halves
        else:
            for x in self.others:
                self._other.add(self._features(x))
            self.others = ()
            first, second = self._other, self._real
        if min(first.count, second.count) < 2:
            return None, 0
        return first.frechet(second), first.count

    def warnings(self) -> list[str]:
        count, features = self._real.count, len(self._real.mean) if self._real.count else 0
        if not 2 <= count <= features:
            return []
        return [
            f"the Frechet distance is over {count} points of {features} features: too few for their covariance, so it "
            "is biased upwards; compare it with the distance of other real events, and compare equal numbers only"
        ]


def realism(
    options: FeatureOptions,
    shape: tuple[int, ...],
    units: Units,
    others: Iterable[Tensor] | None,
    device: torch.device,
) -> list[Measure]:
    """The measures of how events (*E) look beside real ones: sharpness (images) and Frechet distances.

    Raises ``ConfigError`` for features that are not of such events.
    """
    image = len(shape) == 3
    name = feature_name(options.features, shape)
    measures: list[Measure] = []
    if image and min(shape[1:]) >= 3:
        measures.append(SharpnessRatio(units))
    if image or math.prod(shape) <= LARGEST:
        network = features_of(name, shape, options.inception, units).to(device)
        measures.append(FrechetBesideFloor(name if image else "coordinates", network, units, others))
    return measures


def lpips_of(options: ReconstructOptions, shape: tuple[int, ...], device: torch.device) -> LPIPS | None:
    """LPIPS from the files that options name. Raises ``ConfigError`` for events that are not images."""
    if options.lpips is None:
        return None
    if len(shape) != 3:
        raise ConfigError(f"LPIPS compares images (C, H, W); events have shape {shape}", hint="leave lpips out")
    return read_lpips(options.lpips).to(device)
