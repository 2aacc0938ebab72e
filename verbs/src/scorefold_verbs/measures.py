"""Measurements of the verb ``assess``, batch by batch: of draws for held-out points, and of the points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec
from scorefold.errors import ConfigError
from scorefold_toolkit.metrics import (
    LPIPS,
    Moments,
    consistency,
    coverage,
    diversity,
    energy_distance,
    energy_score,
    feature_network,
    joint_uniformity,
    kernel_distance,
    pit,
    psnr,
    psnr_within,
    ssim,
)
from scorefold_toolkit.metrics.features import FeatureName
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, PointwiseMeasure, Units
from scorefold_toolkit.nn import named_specs
from scorefold_toolkit.operators import Mask
from scorefold_verbs.config import LpipsOptions

HIGHEST_PSNR = 100.0
"""What an exact match counts as, in decibels, in a mean."""

_SSIM_WINDOW = 11
_FRECHET_DRAWS = 5
_KERNEL_POINTS = 5000
_ENERGY_POINTS = 4000
_LEAST_P = 1e-3
_KEPT = 2**22  # numbers in an array that is written beside the result


def read_lpips(options: LpipsOptions) -> LPIPS:
    """LPIPS from the files that options name. Raises ``DataError`` for files that are something else."""
    if options.vgg16 is not None:
        return LPIPS(options.vgg16, options.heads, "VGG-16")
    assert options.alexnet is not None
    return LPIPS(options.alexnet, options.heads)


class Fidelity(PointwiseMeasure):
    """The errors of draws, per image and of all together; also of the parts that a mask kept and hid."""

    def __init__(self, units: Units, lpips: LPIPS | None = None) -> None:
        super().__init__()
        self.units, self.lpips = units, lpips

    def add(self, batch: EvaluationBatch) -> None:
        (n, count), (x, truth) = batch.draws.shape[:2], batch.pairs
        each = _decibels(psnr(x, truth, self.units.range)).reshape(n, count)
        self.note("PSNR (dB)", each.mean(0))
        self.note(f"best-of-{n} PSNR, chosen by the truth (dB)", each.amax(0))
        self.note("PSNR of the draws' mean (dB)", _decibels(psnr(batch.draws.mean(0), batch.truth, self.units.range)))
        if min(x.shape[-2:]) >= _SSIM_WINDOW:
            # Its term of luminance needs black at 0, wherever the data have it.
            self.note("SSIM", ssim(self.units.unit(x), self.units.unit(truth)).reshape(n, count).mean(0))
        if self.lpips is not None:
            distance = self.lpips(self.units.unit(x), self.units.unit(truth))
            self.note(f"LPIPS ({self.lpips.network})", distance.reshape(n, count).mean(0))
        if isinstance(batch.operator, Mask):
            kept = batch.operator.mask.to(x).expand_as(batch.truth).repeat(n, *[1] * (x.dim() - 1))
            for name, part in (("hidden", 1 - kept), ("known", kept)):
                inside = _decibels(psnr_within(x, truth, part, self.units.range)).reshape(n, count)
                self.note(f"PSNR, {name} part (dB)", inside.mean(0))


class Consistency(PointwiseMeasure):
    """The PSNR between A(draw) and A(truth), with the operator that each point's condition came from."""

    def __init__(self, units: Units) -> None:
        super().__init__()
        self.units = units

    def add(self, batch: EvaluationBatch) -> None:
        assert batch.operator is not None
        x, truth = batch.pairs
        each = _decibels(consistency(batch.operator, x, truth, self.units.range))
        self.note("consistency (dB)", each.reshape(len(batch.draws), -1).mean(0))


class Diversity(PointwiseMeasure):
    """The spread of draws for one condition, with 255 for the range of the data."""

    def __init__(self, units: Units) -> None:
        super().__init__()
        self.units = units

    def add(self, batch: EvaluationBatch) -> None:
        self.note("diversity (0 to 255)", diversity(batch.draws, self.units.range))


class Frechet(Measure):
    """The Frechet distance between the features of draws and of truths; with conditions, also between pairs.

    The first draw for every point makes one sample, the second draw another, and so on. Each sample is as large as the
    truths. The mean of their distances is reported, over five samples at the most. Inception's features also give the
    kernel distance, over the first draws for the first 5,000 points. A pair's features are the features of the
    condition followed by the features of the event.
    """

    def __init__(self, name: str, network: nn.Module, condition_networks: Mapping[str, nn.Module]) -> None:
        self.name, self.network, self.condition_networks = name, network, condition_networks
        self._truth = (Moments(), Moments())
        self._draws: list[tuple[Moments, Moments]] = []
        self._kept: list[tuple[Tensor, Tensor]] = []

    def add(self, batch: EvaluationBatch) -> None:
        beside = self._of_condition(batch.condition)
        used = batch.draws[:_FRECHET_DRAWS]
        self._draws = self._draws or [(Moments(), Moments()) for _ in used]
        seen: list[Tensor] = []
        for x, (alone, joint) in zip((batch.truth, *used), (self._truth, *self._draws), strict=True):
            features = self.network(x).flatten(1).double().cpu()
            alone.add(features)
            seen.append(features)
            if beside is not None:
                joint.add(torch.cat([beside, features], 1))
        if "inception" in self.name and sum(len(truth) for truth, _ in self._kept) < _KERNEL_POINTS:
            self._kept.append((seen[0], seen[1]))

    def _of_condition(self, condition: Condition | None) -> Tensor | None:
        if condition is None or not self.condition_networks:
            return None
        parts = {"": condition} if isinstance(condition, Tensor) else condition
        found = [network(parts[name]).flatten(1).double().cpu() for name, network in self.condition_networks.items()]
        return torch.cat(found, 1)

    def metrics(self) -> dict[str, float]:
        found = {f"Frechet distance ({self.name})": self._distance(0)}
        if self._truth[1].count:
            found[f"joint Frechet distance ({self.name})"] = self._distance(1)
        if self._kept:
            truths, draws = (torch.cat(parts)[:_KERNEL_POINTS] for parts in zip(*self._kept, strict=True))
            found[f"kernel distance ({self.name})"] = kernel_distance(draws, truths)
        return {**found, "Frechet features": len(self._truth[0].mean), "Frechet points": self._truth[0].count}

    @property
    def too_few(self) -> bool:
        """True if there are no more points than features, of events or of pairs: too few for their covariance."""
        return any(0 < moments.count <= len(moments.mean) for moments in self._truth)

    def _distance(self, which: int) -> float:
        distances = [draws[which].frechet(self._truth[which]) for draws in self._draws]
        return math.fsum(distances) / len(distances)

    def warnings(self) -> list[str]:
        found = []
        for moments, what in zip(self._truth, ("Frechet distance", "joint Frechet distance"), strict=True):
            if 0 < moments.count <= len(moments.mean):
                found.append(
                    f"the {what} is over {moments.count} points of {len(moments.mean)} features: too few for their "
                    "covariance, so it is biased upwards and compares only with distances over as many points"
                )
        return found


class Calibration(Measure):
    """The calibration of draws: coverage of central intervals, and uniformity of the truths' ranks.

    Coordinates that a mask left are not counted: they are known. Each condition counts once in a standard error,
    whatever its number of coordinates.
    """

    def __init__(self, levels: Sequence[float], generator: torch.Generator) -> None:
        self.levels, self.generator = tuple(levels), generator
        self._places: list[Tensor] = []
        self._draws = 0

    def add(self, batch: EvaluationBatch) -> None:
        self._draws = len(batch.draws)
        places = pit(batch.draws, batch.truth, self.generator)
        if isinstance(batch.operator, Mask):
            places = torch.where(batch.operator.mask.cpu() > 0, math.nan, places)
        self._places.append(places.flatten(1).float())

    @property
    def places(self) -> Tensor:
        """The place of each truth's coordinates among the draws, (C, D), nan where it does not count."""
        return torch.cat(self._places)

    def shares(self, level: float) -> tuple[float, float]:
        """The coverage of a level's central intervals, and its standard error over conditions."""
        inside = coverage(self.places, level)
        inside = inside[~inside.isnan()]
        error = float(inside.std()) / math.sqrt(len(inside)) if len(inside) > 1 else math.nan
        return float(inside.mean()), error

    def metrics(self) -> dict[str, float]:
        found = {}
        for level in self.levels:
            share, error = self.shares(level)
            if math.isfinite(share):
                found[f"coverage of {100 * level:g}% intervals"] = share
            if math.isfinite(error):
                found[f"coverage of {100 * level:g}% intervals, standard error"] = error
        value = self._uniform()
        return found if value is None else {**found, "uniform places, p-value": value}

    def _uniform(self) -> float | None:
        enough = int((~self.places.isnan()).sum(0).amax()) >= 8
        return joint_uniformity(self.places) if enough else None

    def warnings(self) -> list[str]:
        found = []
        for level in self.levels:
            share, error = self.shares(level)
            if error == 0:
                # Truths that are all inside, or all outside, don't scatter: what calibrated draws would is known.
                error = math.sqrt(level * (1 - level) / len(self.places))
            if math.isfinite(error) and abs(share - level) > 3 * error:
                found.append(
                    f"the draws are too {'narrow, or off the truth' if share < level else 'wide'}: {100 * level:g}% "
                    f"intervals hold {100 * share:.1f}% of the truths, with a standard error of {100 * error:.1f}%"
                )
        value = self._uniform()
        if value is not None and value < _LEAST_P:
            found.append(
                f"the truths' places among the draws are not uniform (p = {value:.1g}): this is not the posterior of "
                "the truths"
            )
        return found

    def arrays(self) -> dict[str, Tensor]:
        places = self.places
        return {"places": places} if places.numel() <= _KEPT else {}


class Energy(Measure):
    """Energy distances of all draws from all truths, alone and beside their conditions; the energy score of each.

    Draws for one condition and its truth depend on each other, so the distances are over pairs of two conditions: 0 in
    the mean for draws from the posterior.
    """

    def __init__(self, spec: ConditionSpec | None) -> None:
        parts = named_specs(spec)
        self.spec = parts.get("") if len(parts) == 1 else None
        self._alone: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._joint: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._scores: list[Tensor] = []
        self._conditional = spec is not None

    def add(self, batch: EvaluationBatch) -> None:
        x = batch.draws.transpose(0, 1).flatten(2).cpu()
        truth = batch.truth.flatten(1).cpu()
        self._alone[0].append(x)
        self._alone[1].append(truth)
        if self._conditional and len(batch.draws) > 1:
            self._scores.append(energy_score(x.transpose(0, 1), truth))
        if isinstance(batch.condition, Tensor) and self.spec is not None and self.spec.classes is None:
            beside = batch.condition.reshape(len(truth), -1).cpu().to(truth)
            self._joint[0].append(torch.cat([beside[:, None].expand(-1, x.shape[1], -1), x], 2))
            self._joint[1].append(torch.cat([beside, truth], 1))

    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, (draws, truths) in (("energy distance", self._alone), ("joint energy distance", self._joint)):
            if draws:
                # The first draw for every point before the second one: whatever is left out, every point is there.
                x, y = (
                    torch.cat(draws).transpose(0, 1).flatten(0, 1)[:_ENERGY_POINTS],
                    torch.cat(truths)[:_ENERGY_POINTS],
                )
                of = torch.arange(sum(map(len, truths))).repeat(draws[0].shape[1])
                groups = (of[: len(x)], of[: len(y)]) if self._conditional else None
                found[name] = energy_distance(x, y, groups=groups)
                found["energy distance, draws"], found["energy distance, truths"] = len(x), len(y)
        if self._scores:
            scores = torch.cat(self._scores)
            found["energy score"] = float(scores.mean())
        return found

    def arrays(self) -> dict[str, Tensor]:
        return {"energy score": torch.cat(self._scores)} if self._scores else {}


def _decibels(values: Tensor) -> Tensor:
    return values.clamp_max(HIGHEST_PSNR)


class _Codes(nn.Module):
    """Classes as one-hot codes, (B, *shape) to (B, D)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return functional.one_hot(x.long(), self.classes).flatten(1)


class _InUnits(nn.Module):
    """Features of images in the units of the data."""

    def __init__(self, network: nn.Module, units: Units) -> None:
        super().__init__()
        self.network, self.units = network, units

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.network(self.units.unit(x))
        return found


def feature_name(wanted: FeatureName | None, shape: Sequence[int]) -> FeatureName:
    """The features of events of a shape by name, where none are wanted by theirs: random ones for images, else pixels.

    Raises ``ConfigError`` for features of images wanted of anything else.
    """
    image = len(shape) == 3
    name = wanted or ("random-conv" if image else "pixels")
    if not image and name != "pixels":
        raise ConfigError(
            f"the features {name} are of images (C, H, W); events have shape {tuple(shape)}", hint="leave features out"
        )
    return name


def features_of(name: FeatureName, shape: Sequence[int], weights: Path | None, units: Units) -> nn.Module:
    """The function that gives the features (B, F) of events of a shape: for images by name, for others the numbers.

    Images of other than 1 or 3 channels have the random ones where Inception is asked for, which takes no others.
    """
    if len(shape) != 3:
        return feature_network("pixels", 1)
    known = "random-conv" if "inception" in name and shape[0] not in (1, 3) else name
    return _InUnits(feature_network(known, shape[0], weights=weights), units)


def condition_networks(
    name: FeatureName, spec: ConditionSpec | None, weights: Path | None, units: Units
) -> dict[str, nn.Module]:
    """The functions that give the features of each part of a condition: codes of classes, and features of events."""
    return {
        part: _Codes(one.classes) if one.classes is not None else features_of(name, one.shape, weights, units)
        for part, one in named_specs(spec).items()
    }
