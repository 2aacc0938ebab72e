"""Geometries of a score from Python by name, and handed over to geomstats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold_registry import Host
from scorefold_registry.python import do, fit, geodesics, load_data

PLANE: dict[str, Any] = {"dimension": 2, "ambient": 2, "points": 400}


@pytest.mark.usefixtures("undrawn")
def test_functions_take_a_geometry_of_a_score_by_name(tmp_path: Path) -> None:
    points = load_data("data:subspace", **PLANE, folder=tmp_path, progress=False)
    score = fit("score:analytic", points, gaussian=True, progress=False)
    paths = geodesics(score, points, noise=0.3, pairs=2, times=5, progress=False)
    assert len(paths.value.load("test").x) in (5, 10)  # a pair whose path leaves the support is left out
    space = do("build", "geometry:score", points, score=score, noise=0.3, progress=False).value
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert 1.41 < float(space.distance(a, b)) < 1.58
    assert "use: geometry:score" in paths.run_file


@pytest.mark.needs("geomstats")
@pytest.mark.filterwarnings("ignore:BackendImporter:ImportWarning")
def test_geomstats_takes_a_geometry_of_a_score(host: Host) -> None:
    """Log maps of a whole batch end where they should, and the Frechet mean is ours."""
    import geomstats.backend as gs
    from geomstats.learning.frechet_mean import FrechetMean

    from scorefold_pullback.geometry.geomstats import geomstats_space

    plane = {"use": "data:subspace", "config": PLANE}
    exact = {"use": "score:analytic", "config": {"gaussian": True}, "inputs": {"data": plane}}
    ours = host.create("geometry:score", {"noise": 0.3}, score=exact, data=plane, dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.5, 0.5], [0.3, -0.8]], dtype=torch.float64)
    points, space = gs.from_numpy(x.numpy()), geomstats_space(ours)
    reached = space.metric.exp(space.metric.log(points, points[0]), points[0])
    torch.testing.assert_close(torch.as_tensor(reached), x, atol=1e-3, rtol=0)
    frechet = FrechetMean(space)
    frechet.optimizer.epsilon, frechet.optimizer.max_iter = 1e-8, 200  # its defaults stop .006 before the mean
    mean = torch.as_tensor(frechet.fit(points).estimate_)
    torch.testing.assert_close(mean, ours.mean(x), atol=1e-3, rtol=0)
