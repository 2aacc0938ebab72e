"""LIDL with flows whose fit is a closed form, where slopes are known, and with trained ones."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.config import TrainingConfig
from scorefold.data import Condition, Dataset, EventScale
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import Flow, Loss, Progress, TensorSource, Trainable
from scorefold.results import Estimate
from scorefold.stage import Executor, job_function
from scorefold_iddiff.estimators.config import LIDLConfig
from scorefold_iddiff.estimators.lidl import LIDL, NoisedFlow
from scorefold_iddiff.pointwise.answers import lidl_figures as draw
from scorefold_registry import Host, run_file
from scorefold_toolkit.nn import StandardNormal

MakeFrame = Callable[..., Tensor]


class GaussianFlow(Flow, Trainable):
    """z = L^-1 (x - m) with m and L L^T the mean and covariance of the data: its best fit in no steps."""

    mean: Tensor
    root: Tensor

    def __init__(self, ambient: int, event_scale: EventScale | None = None) -> None:
        super().__init__((ambient,), StandardNormal(), event_scale=event_scale)
        self.training_config = TrainingConfig(steps=0)
        self.register_buffer("mean", torch.zeros(ambient, dtype=torch.float64))
        self.register_buffer("root", torch.eye(ambient, dtype=torch.float64))

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        self.mean.copy_(dataset.x.mean(0))
        self.root.copy_(torch.linalg.cholesky(dataset.x.T.cov()))

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        raise AssertionError("no step is trained")

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        z = torch.linalg.solve_triangular(self.root, (x - self.mean).T, upper=False).T
        return z, -self.root.diagonal().log().sum().expand(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return z @ self.root.T + self.mean, self.root.diagonal().log().sum().expand(len(z))


class StillFlow(GaussianFlow, Trainable):
    """One whose fit is the same at all noise levels."""

    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        pass


class Packing(Executor):
    """Sends items and answers through pickle, as processes do."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def map(self, target: str, items: Iterable[Any], key: str) -> list[Any]:
        packed = [pickle.dumps(item) for item in items]
        self.asked.append((target, len(packed)))
        return [job_function(target)(pickle.loads(item)) for item in packed]


def estimate(flow: Flow, x: Tensor, seed: int = 0, data: Any = None, executor: Any = None, **config: Any) -> Estimate:
    estimator = LIDL(LIDLConfig.model_validate(config), flow=flow, data=data, executor=executor)
    return estimator.estimate(x, generator=torch.Generator().manual_seed(seed))


def plane(k: int, ambient: int, points: int, make_frame: MakeFrame) -> Tensor:
    along = torch.randn(points, k, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return along @ make_frame(ambient, k).T


@pytest.mark.parametrize("k", [1, 3, 5])
def test_gaussians_on_subspaces_have_their_dimension(k: int, make_frame: MakeFrame) -> None:
    """To the sampling error of covariances, over levels where lambda = 1 exceeds the noise by far.

    Half the logarithm of the determinant of noise in 6 - k directions deviates by sqrt((6 - k) / 2 N) at each level,
    and the slope by that over sqrt(2.65), the sum of squares of the three log levels: 0.0077 for 16,000 points.
    """
    x = plane(k, 6, 16_000, make_frame)
    found = estimate(GaussianFlow(6), x, levels=(0.001, 0.003, 0.01))
    assert found.value == pytest.approx(k, abs=0.04)
    assert found.pointwise is not None
    assert found.pointwise.tolist() == pytest.approx([k] * 256, abs=0.3)


def test_slopes_are_those_of_the_exact_density(make_frame: MakeFrame) -> None:
    """At noise of the size of the data too, where the distribution is no plane: D + d log rho / d log delta at every
    point."""
    x = plane(2, 4, 20_000, make_frame)
    levels = (0.2, 0.3, 0.5)
    found = estimate(GaussianFlow(4), x, levels=levels, points=50)
    place = found.diagnostics["index"]
    noise = torch.tensor(levels, dtype=torch.float64)
    squares = x[place].square().sum(1)
    density = -(1 + noise[:, None] ** 2).log() - 2 * noise[:, None].log() - squares / (2 * (1 + noise[:, None] ** 2))
    centred = noise.log() - noise.log().mean()
    slope = (centred[:, None] * density).sum(0) / centred.square().sum()
    assert found.pointwise is not None
    torch.testing.assert_close(found.pointwise, 4 + slope, atol=0.2, rtol=0)
    assert found.diagnostics["log_density"].shape == (3, 50)


def test_the_default_levels_are_eight_in_units_of_the_data(make_frame: MakeFrame) -> None:
    x = 40 * plane(2, 4, 500, make_frame)
    found = estimate(GaussianFlow(4), x)
    spread = float((x - x.mean(0)).square().sum(1).mean().sqrt())
    assert found.diagnostics["levels"] == pytest.approx([0.01 * spread * 10 ** (step / 7) for step in range(8)])
    assert found.value == pytest.approx(2, abs=0.1)
    assert found.diagnostics["network_calls"] == 8 * 256
    assert set(draw(found)) == {"estimate", "densities"}


def test_trainings_are_jobs_that_give_the_same(make_frame: MakeFrame) -> None:
    x = plane(2, 4, 300, make_frame)
    flow, executor = GaussianFlow(4), Packing()
    here = estimate(flow, x)
    there = estimate(flow, x, executor=executor)
    torch.testing.assert_close(there.pointwise, here.pointwise, atol=0, rtol=0)
    assert executor.asked == [("scorefold_iddiff.estimators.lidl:density_at_level", 8)]
    assert torch.equal(flow.root, torch.eye(4, dtype=torch.float64)), "the flow that was plugged in stays as it was"


def test_it_trains_on_the_training_split_of_data_that_are_plugged_in(make_frame: MakeFrame) -> None:
    """On a line there the same points of a plane are far off, and their densities say so."""
    line = plane(1, 4, 8000, make_frame)
    source = TensorSource({"train": Dataset(line), "test": Dataset(line[:10])})
    found = estimate(GaussianFlow(4), line[:10], data=source, levels=(0.01, 0.03))
    # Noise in 3 directions, two levels: the slope deviates by sqrt(2 * 3 / (2 * 8000)) / log(3) = 0.018.
    assert found.value == pytest.approx(1, abs=0.09)
    elsewhere = estimate(GaussianFlow(4), plane(2, 4, 10, make_frame), data=source, levels=(0.01, 0.03))
    assert elsewhere.value is None, "four coordinates can't have it"
    assert elsewhere.pointwise is not None
    assert float(elsewhere.pointwise.mean()) > 10


def test_training_points_that_are_not_finite_are_refused(make_frame: MakeFrame) -> None:
    x = plane(2, 4, 50, make_frame)
    spoiled = x.clone()
    spoiled[7, 2] = torch.nan
    source = TensorSource({"train": Dataset(spoiled), "test": Dataset(x)}, event_scale=EventScale())
    with pytest.raises(DataError, match="1 coordinate of the data is not finite, the first in row 7"):
        estimate(GaussianFlow(4), x, data=source)


def test_flows_that_are_trained_find_a_line_and_a_plane(host: Host) -> None:
    """Affine couplings, 300 steps at each of three levels (8 CPU seconds for both): within 0.3."""
    for k in (1, 2):
        data = {"use": "data:subspace", "config": {"dimension": k, "ambient": 3, "points": 2000}}
        config = {
            "layers": 4,
            "hidden": [32],
            "training": {"steps": 300, "warmup": 20, "learning_rate": 0.01, "batch_size": 256},
        }
        source = host.create(data["use"], data["config"])  # type: ignore[arg-type]
        flow = {"use": "flow:affine-coupling", "config": config}
        estimator = host.create("estimator:lidl", {"levels": [0.1, 0.2, 0.4]}, flow=flow, data=source)
        assert estimator.estimate(source.load("test")).value == pytest.approx(k, abs=0.3)


RUN = """\
version: 1
name: slope
stages:
  data: {use: data:subspace, config: {dimension: 1, ambient: 2, points: 400}}
  dimension:
    use: estimator:lidl
    inputs:
      data: data
      flow: {use: flow:affine-coupling, inputs: {data: data}, config: {layers: 2, hidden: [8], training: {steps: 5}}}
    config: {levels: [0.1, 0.3]}
"""


@pytest.mark.usefixtures("undrawn")
def test_a_run_file_names_the_flow_inline(host: Host, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    result = run_file(host, tmp_path / "run.yaml", runs=tmp_path / "kept", cache=tmp_path / "cache")
    assert "intrinsic dimension" in result.stages[-1].metrics


def test_faults_are_reported(make_frame: MakeFrame) -> None:
    x = plane(2, 4, 50, make_frame)
    with pytest.raises(DataError, match="at least 2"):
        estimate(GaussianFlow(4), x[:1])
    with pytest.raises(DataError, match="training points are equal"):
        estimate(GaussianFlow(4), torch.ones(5, 4, dtype=torch.float64))
    with pytest.raises(DataError, match="not finite"):
        estimate(GaussianFlow(4), x * float("inf"))
    with pytest.raises(ConfigError, match="4 levels"):
        LIDL(LIDLConfig(), flow=GaussianFlow(4, EventScale(low=0, high=1, levels=4)))
    with pytest.raises(ConfigError, match="can't be trained"):
        LIDL(LIDLConfig(), flow=_untrainable())
    broken = StillFlow(4)
    broken.root.mul_(float("nan"))
    with pytest.raises(DataError, match="log-density"):
        estimate(broken, x)


def _untrainable() -> Flow:
    class Identity(Flow):
        def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
            return x, x.new_zeros(len(x))

        def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
            return z, z.new_zeros(len(z))

    return Identity((4,), StandardNormal())


def test_the_reference_of_a_noised_flow_is_that_of_noised_points(host: Host) -> None:
    x = 2 * torch.randn(20_000, 3, generator=torch.Generator().manual_seed(1))
    flow: Any = host.create("flow:affine-coupling", data=TensorSource(x))
    found = NoisedFlow(flow, 0.5).loss_reference(Dataset(x), lambda: 0.0, "fit")
    assert found is not None
    assert found.value == pytest.approx(0.5 * math.log(2 * math.pi * math.e * (4 + 0.25)), abs=0.02)
    assert NoisedFlow(GaussianFlow(3), 0.5).loss_reference(Dataset(x), lambda: 0.0, "fit") is None
