"""LIDL: intrinsic dimension from densities at several noise levels, by a flow trained at each.

Tempczyk et al., "LIDL: Local Intrinsic Dimension Estimation Using Approximate Likelihood", ICML 2022 (arXiv
2206.14882). The log-density of data with noise of deviation delta falls as (k - D) log delta on a k-manifold in R^D, so
its slope against log delta, plus D, is k (``regression``). FLIPD's mode ``regression`` is the same with a single score
model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Dataset, as_dataset, index_condition
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource, Estimator, Flow, Loss, Phase, Progress, Trainable
from scorefold.random import draw_normal
from scorefold.results import Estimate
from scorefold.seeds import derive_generator, derive_seed
from scorefold.stage import Executor, reported
from scorefold_iddiff.estimators.config import LIDLConfig
from scorefold_iddiff.pointwise import score_warnings as warn
from scorefold_iddiff.pointwise.answers import look_at, pointwise_estimate, slope_in_log_noise, spaced_levels
from scorefold_iddiff.pointwise.probe import ProbedPoints, check_resolution, order, rows_a_call, spread_of, take
from scorefold_iddiff.pointwise.support import looked_at
from scorefold_toolkit.training import fit
from scorefold_toolkit.training.validation import HasLossReference, LossReference

_START_POINTS = 10_000


@dataclass(frozen=True)
class LevelFit:
    """One training: a copy of ``flow`` is fitted to ``train`` with noise of deviation ``level``, from ``seed``, and its
    log-density read at ``points``, at most ``rows`` at once.
    """

    flow: Flow
    train: Dataset
    points: ProbedPoints
    level: float
    seed: int
    rows: int


class LIDL(Estimator):
    """Dimensions at points from the slope of log-densities over noise levels.

    ``flow`` is what each level's model starts as: a copy of it is trained for every level by its own training settings,
    and it stays as it was. ``data``, where it is plugged in, gives the training points, its train split; otherwise the
    models are trained on the points of the estimate. Trainings are jobs for the ``executor`` where there is one.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> data = host.create("data:sphere", {"dimension": 2, "ambient": 4, "points": 200})
    >>> training = {"steps": 10, "warmup": 1}  # far too few for a dimension
    >>> flow = host.create("flow:affine-coupling", {"layers": 2, "hidden": [8], "training": training}, data=data)
    >>> lidl = host.create("estimator:lidl", {"levels": [0.05, 0.2], "points": 8}, flow=flow)
    >>> lidl.estimate(data.load("train")).pointwise.shape
    torch.Size([8])
    """

    def __init__(
        self, config: LIDLConfig, *, flow: Flow, data: DataSource | None = None, executor: Executor | None = None
    ) -> None:
        """Raises ``ConfigError`` for a flow that can't be trained, and for one of discrete data."""
        if not isinstance(flow, Trainable):
            raise ConfigError(
                f"LIDL trains a flow at each noise level, and {type(flow).__name__} can't be trained",
                hint="plug in one that provides Trainable",
            )
        if flow.bin_width is not None:
            raise ConfigError(
                f"the flow is one of data with {flow.event_scale.levels} levels, and spreads each over its bin: noise "
                "finer than that is lost",
                hint="read the data as numbers, such as by data:array, or use estimator:flipd",
            )
        self.config = config
        self.flow = flow
        self.data = data
        self.executor = executor

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The intrinsic dimension of data (N, *E), with N at least 2, over up to ``config.points`` of them.

        ``pointwise`` (n,) holds the dimension at each point taken, at the positions ``diagnostics["index"]``;
        ``log_density`` (L, n) what its slope was taken of, and ``residual`` (n,) how far it is from a line. The
        interval is a bootstrap over points, and does not include the scatter over trainings. Without a generator the
        seed is 0.

        Raises ``DataError`` for fewer than 2 points, for values or densities that aren't finite, and for coordinates in
        whose rounding the noise is lost; ``ShapeError`` for events of another shape; ``TrainingError`` as training
        does.
        """
        generator = generator or torch.Generator().manual_seed(0)
        dataset = as_dataset(data)
        points = take(self.flow, dataset, order(dataset, self.config.points, generator))
        train = (dataset if self.data is None else self.data.load("train")).to(points.x.device, points.x.dtype)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        look = look_at(dataset, points, seed)
        if self.data is not None:
            looked_at(train, derive_generator(seed, "train"))  # else training fails, in other words
        levels = self._levels(train)
        check_resolution(points.x, levels[0])
        rows = rows_a_call(self.flow, self.config.batch, points.ambient)
        jobs = [
            LevelFit(self.flow, train, points, level, derive_seed(seed, "level", place), rows)
            for place, level in enumerate(levels)
        ]
        log_density = torch.stack(self._done(jobs))
        if not bool(log_density.isfinite().all()):
            bad = [level for level, found in zip(levels, log_density, strict=True) if not bool(found.isfinite().all())]
            raise DataError(
                f"the log-density of the flow trained at noise {bad[0]:.3g} is not finite at some points",
                hint="train with a lower learning rate, more steps, or larger levels",
            )
        slope, residual = slope_in_log_noise(log_density, levels)
        return pointwise_estimate(
            points.ambient + slope,
            points,
            self.config,
            generator,
            note=f"the slope of log-densities over {len(levels)} flows, noise {levels[0]:.3g} to {levels[-1]:.3g}"
            + (f"; {float(residual.mean()):.2g} nats off a line on average" if len(levels) > 2 else ""),
            warnings=warn.of_data(look, levels[0], len(points), points.ambient),
            network_calls=len(levels) * len(points),
            ambient=points.ambient,
            levels=levels,
            log_density=log_density,
            residual=residual,
        )

    def _levels(self, train: Dataset) -> list[float]:
        if self.config.levels is not None:
            return sorted(set(self.config.levels))
        spread = spread_of(train.tensor(limit=10_000))
        if not spread > 0:
            raise DataError("all training points are equal, so there is no scale for the noise", hint="name levels")
        return spaced_levels(0.01 * spread, 0.1 * spread, 8)

    def _done(self, jobs: list[LevelFit]) -> list[Tensor]:
        if self.executor is None:
            return [density_at_level(job) for job in reported(jobs, len(jobs), "lidl levels")]
        return self.executor.map("scorefold_iddiff.estimators.lidl:density_at_level", jobs, "lidl levels")


def density_at_level(job: LevelFit) -> Tensor:
    """The log-density of noised data at the job's points, (N,) in float64 on the CPU, by a flow trained for it."""
    noised = NoisedFlow(copy.deepcopy(job.flow), job.level)
    fit(noised, job.train, noised.training_config, seed=job.seed)
    x, condition = job.points.x, job.points.condition
    with torch.no_grad():
        parts = [
            noised.flow.log_prob(x[which.to(x.device)], index_condition(condition, which))
            for which in torch.arange(len(x)).split(job.rows)
        ]
    return torch.cat(parts).double().cpu()


class NoisedFlow(nn.Module, Trainable):
    """A flow that is trained on data with noise of one deviation, drawn anew for every batch."""

    flow: Flow

    def __init__(self, flow: Flow, level: float) -> None:
        super().__init__()
        self.flow = flow
        self.level = level
        self.training_config = self._trainable.training_config

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        return self._trainable.loss(self._noised(batch, generator), progress=progress, generator=generator)

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        """The flow's own reference, on noised points."""
        if not isinstance(self.flow, HasLossReference):
            return None
        noised = self._noised(points.take(torch.arange(len(points))), torch.Generator(points.x.device).manual_seed(0))
        return self.flow.loss_reference(noised, loss, phase)

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """The flow's own start, from up to 10,000 noised points."""
        chosen = torch.randperm(len(dataset), generator=generator, device=generator.device)[:_START_POINTS]
        self._trainable.prepare(self._noised(dataset.take(chosen.cpu()), generator), generator)

    def phases(self) -> Sequence[Phase]:
        return self._trainable.phases()

    def parameter_groups(self, phase: Phase) -> Iterable[dict[str, Any]]:
        return self._trainable.parameter_groups(phase)

    def refuses(self, strategy: str) -> str | None:
        return self._trainable.refuses(strategy)

    @property
    def _trainable(self) -> Trainable:
        assert isinstance(self.flow, Trainable)
        return self.flow

    def _noised(self, data: Dataset, generator: torch.Generator) -> Dataset:
        noise = draw_normal(tuple(data.x.shape), generator=generator, like=data.x)
        return replace(data, x=data.x + self.level * noise)
