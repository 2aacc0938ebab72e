"""Our geometry as a metric of geomstats: its learning algorithms find what our closed forms say. Skipped without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.tangent_pca import geodesic_kmeans

pytestmark = [
    pytest.mark.needs("geomstats"),
    # geomstats 2.8 is imported by a loader of an old kind.
    pytest.mark.filterwarnings("ignore:BackendImporter:ImportWarning"),
]

Make = Callable[..., Pullback]


@pytest.fixture
def banana(make_geometry: Make) -> Pullback:
    return make_geometry("banana", metric="latent")


@pytest.fixture
def space(banana: Pullback) -> Any:
    from scorefold_pullback.geometry.geomstats import geomstats_space

    return geomstats_space(banana)


@pytest.fixture
def x(banana: Pullback, generator: torch.Generator) -> Tensor:
    return banana.flow.inverse(torch.randn(30, 2, generator=generator, dtype=torch.float64) * 1.5)[0]


def own(value: Tensor) -> Any:
    """An array of the backend that geomstats was imported with."""
    import geomstats.backend as gs

    return gs.from_numpy(value.numpy())


def close(got: Any, expected: Tensor, digits: float = 1e-9) -> None:
    torch.testing.assert_close(torch.as_tensor(got), expected.detach(), rtol=digits, atol=digits)


def test_every_map_is_ours(space: Any, banana: Pullback, x: Tensor) -> None:
    a, b = x[:10], x[10:20]
    metric, v = space.metric, x[20:] / 10
    close(metric.metric_matrix(own(a)), banana.metric(a))
    close(metric.metric_matrix(own(a[0])), banana.metric(a[:1])[0])
    close(metric.inner_product(own(v), own(v[0]), own(a)), banana.inner(a, v, v[:1]))
    close(metric.exp(own(v), own(a[0])), banana.exp(a[:1], v))
    close(metric.log(own(b[0]), own(a)), banana.log(a, b[:1]))
    close(metric.dist(own(a), own(b)), banana.distance(a, b))
    close(metric.dist(own(a[0]), own(b[0])), banana.distance(a[:1], b[:1])[0])
    close(metric.dist_pairwise(own(a)), banana.distance_matrix(a))
    close(metric.parallel_transport(own(v), own(a), end_point=own(b)), banana.transport(a, b, v))
    times = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    path = metric.geodesic(initial_point=own(a[0]), end_point=own(b[0]))
    close(path(own(times)), banana.geodesic(a[:1], b[:1], times)[0])
    # Leading dimensions of any number, as geomstats has them.
    close(metric.squared_dist(own(a[:, None]), own(b[None])), banana.distance_matrix(a, b).square())


def test_its_frechet_mean_is_ours(space: Any, banana: Pullback, x: Tensor) -> None:
    from geomstats.learning.frechet_mean import FrechetMean

    close(FrechetMean(space).fit(own(x)).estimate_, banana.mean(x), 1e-6)


@pytest.mark.skipif(os.environ.get("GEOMSTATS_BACKEND") == "pytorch", reason="it hands tensors to scikit-learn")
def test_its_tangent_pca_agrees_with_logarithms(space: Any, banana: Pullback, x: Tensor) -> None:
    from geomstats.learning.pca import TangentPCA

    mean = banana.mean(x)
    # geomstats' PCA weighs tangent vectors by coordinates and not by the metric: its values are plain logs' values.
    logs = banana.log(mean[None], x)
    found = TangentPCA(space).fit(own(x), base_point=own(mean))
    close(found.explained_variance_, torch.linalg.eigvalsh(logs.mT.cov()).flip(0), 1e-6)


def test_with_its_pytorch_backend_gradients_flow() -> None:
    """The backend is chosen when geomstats is imported, so in a process of its own."""
    code = """
import torch
from geomstats.learning.frechet_mean import FrechetMean
from scorefold_pullback.config import PullbackConfig
from scorefold_pullback.flows.config import BananaConfig
from scorefold_pullback.flows.linear import Shear
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.geometry.geomstats import geomstats_space
banana = Pullback(PullbackConfig(), flow=Shear(BananaConfig(), dtype=torch.float64))
x = torch.tensor([[2.0, 4.0], [2.0, -4.0]], dtype=torch.float64, requires_grad=True)
metric = geomstats_space(banana).metric
metric.dist(x[0], x[1]).backward()
assert float(x.grad.abs().sum()) > 0
mean = FrechetMean(geomstats_space(banana)).fit(x.detach()).estimate_
print(bool(torch.allclose(mean, banana.mean(x.detach()))))
"""
    environment = {**os.environ, "GEOMSTATS_BACKEND": "pytorch"}
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert outcome.stdout.split() == ["True"], outcome.stderr


def test_its_kmeans_finds_our_clusters(space: Any, banana: Pullback, generator: torch.Generator) -> None:
    from geomstats.learning.kmeans import RiemannianKMeans

    ends = torch.tensor([-3.0, 3.0], dtype=torch.float64).repeat_interleave(15)
    noise = 0.2 * torch.randn(30, 2, generator=generator, dtype=torch.float64)
    x = banana.flow.inverse(torch.stack([torch.zeros_like(ends), ends], dim=1) + noise)[0]
    theirs = RiemannianKMeans(space, n_clusters=2).fit(own(x))
    ours = geodesic_kmeans(banana, x, 2)
    order = [int(ours.labels[torch.as_tensor(theirs.labels_) == label].unique()) for label in (0, 1)]
    close(theirs.cluster_centers_, ours.centres[order], 1e-4)
