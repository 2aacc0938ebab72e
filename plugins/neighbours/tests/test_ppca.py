"""Probabilistic PCA by its evidence: the published answers on spheres, subspaces with and without noise, refusals."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import t
from sklearn.decomposition import PCA
from torch import Tensor

from scorefold.errors import DataError
from scorefold.results import Estimate
from scorefold_neighbours.config import PPCAConfig
from scorefold_neighbours.estimators.pca import PPCAEstimator


def drawn(points: int, width: int, ambient: int) -> Tensor:
    """Normal points on a random subspace, in float64."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(ambient, width, dtype=torch.float64, generator=generator)).Q
    x: Tensor = torch.randn(points, width, dtype=torch.float64, generator=generator) @ basis.T
    return x


def estimate(x: Tensor, resamples: int = 4) -> Estimate:
    return PPCAEstimator(PPCAConfig(resamples=resamples)).estimate(x, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("k", [10, 50])
def test_a_k_sphere_in_a_hundred_dimensions_gives_k_plus_one(k: int) -> None:
    """As the table of Stanczuk et al. has it: 11 and 51."""
    found = estimate(torch.nn.functional.normalize(drawn(2000, k + 1, 100), dim=1))
    assert (found.value, found.interval) == (k + 1, (k + 1, k + 1))


def test_subspaces_with_and_without_noise() -> None:
    x = drawn(500, 4, 9)
    noise = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for points in (x, x + 0.05 * noise, 100 * x + 3, x.reshape(-1, 3, 3)):
        assert estimate(points).value == 4
    spectrum = estimate(x).spectrum
    assert spectrum is not None
    torch.testing.assert_close(spectrum[0], torch.linalg.eigvalsh(x.T.cov()).flip(0), atol=1e-9, rtol=1e-9)


def test_it_is_scikit_learns_answer_where_the_directions_fade() -> None:
    fading = drawn(400, 8, 8) * torch.logspace(0, -3, 8, dtype=torch.float64)
    x = fading + 0.03 * torch.randn(fading.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    theirs, ours = PCA(n_components="mle", svd_solver="full").fit(x.numpy()), estimate(x)
    assert ours.value == theirs.n_components_
    assert 1 < ours.value < 7
    assert ours.spectrum is not None
    kept = torch.from_numpy(theirs.explained_variance_)
    torch.testing.assert_close(ours.spectrum[0, : len(kept)], kept)


def test_the_interval_is_that_of_its_level_and_the_limit_bounds_the_points() -> None:
    x = drawn(400, 8, 8) * torch.logspace(0, -3, 8, dtype=torch.float64)
    x = x + 0.03 * torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    margins = []
    for level in (0.5, 0.95):
        config = PPCAConfig(resamples=20, level=level, limit=200)
        found = PPCAEstimator(config).estimate(x, generator=torch.Generator().manual_seed(1))
        assert (found.level, found.diagnostics["points"]) == (level, 200)
        assert found.interval is not None
        margins.append(found.interval[1] - found.value)
    # Student's t of 10 pairs of halves.
    assert margins[1] / margins[0] == pytest.approx(t.ppf(0.975, 10) / t.ppf(0.75, 10))


def test_the_interval_is_none_where_a_half_is_too_small() -> None:
    assert estimate(drawn(12, 2, 9)).interval is None
    assert estimate(drawn(40, 2, 9), resamples=0).interval is None


def test_faults_are_reported() -> None:
    with pytest.raises(DataError, match="as many points as coordinates, 9; 5 were given"):
        estimate(drawn(5, 2, 9))
    with pytest.raises(DataError, match="at least 3 points"):
        estimate(drawn(2, 2, 9))
    with pytest.raises(DataError, match="points are equal"):
        estimate(torch.ones(20, 3))
