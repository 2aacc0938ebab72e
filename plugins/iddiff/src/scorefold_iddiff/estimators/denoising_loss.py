"""The denoising loss as the dimension: forward passes only.

Yeats et al., arXiv 2510.12975. A denoiser can see the part of the noise that left the manifold and not the part
along it, so the squared error of the guessed noise, summed over coordinates, is the dimension: E |z - eps-hat(signal x
+ scale z)|^2 -> k as the noise becomes small.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset
from scorefold.interfaces import Estimator, ScoreModel
from scorefold.results import Estimate
from scorefold.stage import reported
from scorefold_iddiff.estimators.config import DenoisingLossDimensionConfig
from scorefold_iddiff.pointwise import score_warnings as warn
from scorefold_iddiff.pointwise.answers import (
    curve_rows,
    draws_at,
    look_at,
    memorisation_warnings,
    pointwise_estimate,
    scale_note,
    sweep_levels,
)
from scorefold_iddiff.pointwise.probe import ProbedPoints, ScoreProbe, check_finite


class DenoisingLoss(Estimator):
    """Dimensions at points from the errors of guessed noises.

    A draw's error has a deviation of about sqrt(2 k). What a trained score lacks to the exact one adds to its loss, and
    so to the answer: the bias is the excess loss.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> sphere = host.create("data:sphere", {"dimension": 3, "ambient": 10, "points": 200})
    >>> score = host.create("score:analytic", data=sphere)
    >>> loss = host.create("estimator:denoising-loss", {"draws": 64, "sweep": []}, score=score)
    >>> round(loss.estimate(sphere.load("train"), generator=torch.Generator().manual_seed(0)).value, 1)
    3.0
    """

    def __init__(self, config: DenoisingLossDimensionConfig, *, score: ScoreModel) -> None:
        self.config = config
        self.probe = ScoreProbe(score)

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The intrinsic dimension of data (N, *E), with N at least 2, over up to ``config.points`` of them.

        ``pointwise`` (n,) holds the mean error of each point's draws, at the positions ``diagnostics["index"]``, and
        ``half_width`` (n,) the half width of its interval, 1.96 sd / sqrt(draws) at level 0.95. For the mean over
        points the interval is the same formula over the points' means, which counts both the draws' and the points'
        spread; for other aggregates it is a bootstrap over points. ``bound`` is "upper" for a score that was
        trained. ``slant`` is the mean of g . (g - z) over guesses g of noises z, which is 0 for an exact score. Without
        a generator the seed is 0.

        Raises ``DataError`` for fewer than 2 points, for values or a score that aren't finite, and for coordinates in
        whose rounding the noise is lost; ``ShapeError`` for events of another shape; ``ConfigError`` for a sigma
        outside the process's range.
        """
        config = self.config
        generator = generator or torch.Generator().manual_seed(0)
        dataset = as_dataset(data)
        points = self.probe.points(dataset, config.points, generator)
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        look = look_at(dataset, points, seed)
        sigma, moved = self.probe.sigma(points.x, config.sigma)
        shown = points.part(0, config.shown)
        levels = sweep_levels(self.probe, sigma, config.sweep)
        with self.probe.evaluating():
            losses, slants = guesses(self.probe, points, sigma, config.draws, seed, batch=config.batch)
            curve = [
                losses[: len(shown)]
                if level == sigma
                else point_denoising_losses(self.probe, shown, level, config.draws, seed, batch=config.batch)
                for level in levels
            ]
        values, slant = losses.mean(1), float(slants.mean())
        means = [found.mean(1) for found in curve]
        rows = curve_rows(levels, means, config.aggregate)
        return pointwise_estimate(
            values,
            points,
            config,
            generator,
            interval=mean_interval(values, config.level) if config.aggregate == "mean" else None,
            note=scale_note(sigma, rows, moved),
            warnings=[
                *warn.slant_warnings(slant, float(values.mean())),
                *memorisation_warnings(levels, means, look),
                *warn.of_data(look, sigma, len(points), points.ambient),
            ],
            sigma=sigma,
            bound="" if next(self.probe.score.parameters(), None) is None else "upper",
            draws=config.draws,
            network_calls=config.draws * (len(points) + (len(levels) - 1) * len(shown)),
            curve=rows,
            curve_pointwise=torch.stack(means),
            slant=slant,
            half_width=normal_quantile(config.level) * losses.std(1) / config.draws**0.5,
        )


def point_denoising_losses(
    probe: ScoreProbe, points: ProbedPoints, sigma: float, draws: int, seed: int, *, batch: int | None = None
) -> Tensor:
    """|z - eps-hat|^2 of each draw at each point, (N, draws) in float64 on the CPU.

    Raises ``DataError`` where the score isn't finite.
    """
    return guesses(probe, points, sigma, draws, seed, batch=batch)[0]


def guesses(
    probe: ScoreProbe, points: ProbedPoints, sigma: float, draws: int, seed: int, *, batch: int | None = None
) -> tuple[Tensor, Tensor]:
    """Values |z - g|^2 and g . (g - z) of the guess g of each noise z at each point, (N, draws) each, in float64 on the
    CPU. The exact score's guess is a posterior mean, so the second is 0 on average over data and noise.

    Raises ``DataError`` where the score isn't finite.
    """
    rows = probe.rows(batch, points.ambient)
    guess = probe.expected_noise(points, sigma, rows)
    found = []
    size = max(1, rows // draws)
    for which in reported(torch.arange(len(points)).split(size), len(points), "points", size):
        noise = draws_at(seed, points.part(int(which[0]), int(which[-1]) + 1), draws)
        guessed = guess(which, noise)
        losses, slants = (noise - guessed).square().sum(2), (guessed * (guessed - noise)).sum(2)
        found.append(torch.stack([losses, slants]).double().cpu())
    losses, slants = torch.cat(found, 1)
    check_finite(sigma, losses)
    return losses, slants


def mean_interval(values: Tensor, level: float) -> tuple[float, float]:
    """The normal interval of the mean of values (N,), N at least 2."""
    mean, margin = float(values.mean()), normal_quantile(level) * float(values.std()) / len(values) ** 0.5
    return mean - margin, mean + margin


def normal_quantile(level: float) -> float:
    """Half-width of a normal interval of this level, in standard deviations."""
    return NormalDist().inv_cdf((1 + level) / 2)
