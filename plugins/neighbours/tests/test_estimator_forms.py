"""The formulas of the baseline estimators by hand: ratios of distances, halves, principal components, settings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold_neighbours import config as configs
from scorefold_neighbours.estimators import estimator as estimators
from scorefold_neighbours.estimators import pairs, pca
from scorefold_neighbours.estimators.danco import divergences
from scorefold_neighbours.estimators.formulas import geomle, log_log, mean_log_log, mle, two_nn
from scorefold_neighbours.estimators.patches import _skewnesses
from scorefold_neighbours.estimators.pca import (
    PCAEstimator,
    component_variances,
    count_components,
    variances_by_batches,
)
from scorefold_neighbours.estimators.points import interval_by_halves
from scorefold_toolkit.nearest import Cloud, nearest_neighbours


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=gen(seed), dtype=torch.float64)


# Ratios of distances.


def test_maximum_likelihood_by_hand() -> None:
    """Logarithms of r_4 / r_j are 3, 2, 1 and 0: 3 of them over their sum, 6; without bias 2."""
    distances = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 1.0, 1.0]]).exp()
    assert mle(configs.MLEConfig(), distances).tolist() == pytest.approx([3 / 6, 3 / 1])
    assert mle(configs.MLEConfig(unbiased=True), distances).tolist() == pytest.approx([2 / 6, 2 / 1])


def ratios(*logs: float) -> Tensor:
    return torch.tensor([[0.0, log] for log in logs], dtype=torch.float64).exp()


def test_two_neighbours_by_hand() -> None:
    """Logarithms 1, 2, 3 and 9, of which a quarter is left out: shares are 1/4, 2/4 and 3/4 of all."""
    distances = ratios(9, 2, 1, 3)
    linear = two_nn(configs.TwoNNConfig(discard=0.25, method="linear"), distances)
    heights = [math.log(4 / 3), math.log(2), math.log(4)]
    assert linear == pytest.approx((heights[0] + 2 * heights[1] + 3 * heights[2]) / (1 + 4 + 9))
    # Censored: the one that is left out is at least as large as the largest that is kept.
    assert two_nn(configs.TwoNNConfig(discard=0.25, method="mle"), distances) == pytest.approx(2 / (6 + 3))
    # Without any left out the last share is 1, which has no logarithm.
    every = two_nn(configs.TwoNNConfig(discard=0.0, method="linear"), distances)
    assert every == pytest.approx(linear)
    assert two_nn(configs.TwoNNConfig(discard=0.0, method="mle"), distances) == pytest.approx(3 / 15)
    for method in ("linear", "mle"):
        config: Any = configs.TwoNNConfig(discard=0.4, method=method)
        assert math.isnan(two_nn(config, ratios(1, 2, 3)[:2]))  # one is left
        assert not math.isnan(two_nn(config, ratios(1, 2, 3, 4)))  # two
    assert two_nn(configs.TwoNNConfig(method="linear"), ratios(*[0.0] * 5)) == 0
    # A tenth of the logarithms is ten times the dimension.
    tenth = two_nn(configs.TwoNNConfig(discard=0.25, method="linear"), ratios(0.9, 0.2, 0.1, 0.3))
    assert tenth == pytest.approx(10 * linear)


# Halves.


def test_an_interval_is_students_of_the_differences_of_halves() -> None:
    """Halves that hold the first point say 5 and the others 3: each pair gives (5 - 3)^2 / 4 = 1. Of 10 pairs the
    quantile is 2.228139, of two 4.302653."""

    def fit(half: Tensor) -> float:
        assert len(half) == 10
        assert half.tolist() == sorted(half.tolist())
        return 5.0 if 0 in half else 3.0

    for resamples, margin in ((20, 2.228139), (21, 2.228139), (4, 4.302653)):
        found = interval_by_halves(fit, 20, resamples, 0.95, 4.0, gen())
        assert found == pytest.approx((max(0, 4 - margin), 4 + margin), abs=1e-5)
    assert interval_by_halves(fit, 20, 0, 0.95, 4.0, gen()) is None
    narrow = interval_by_halves(fit, 20, 20, 0.5, 4.0, gen())
    assert narrow == pytest.approx((4 - 0.699812, 4 + 0.699812), abs=1e-5)


def test_halves_part_the_points() -> None:
    halves: list[list[int]] = []

    def fit(half: Tensor) -> float:
        halves.append(half.tolist())
        return float(len(halves) % 2)  # 1 and 0: the mean of the squares is 1 / 4

    found = interval_by_halves(fit, 7, 6, 0.95, 9.0, gen())
    for one, other in zip(halves[::2], halves[1::2], strict=True):
        assert (len(one), len(other)) == (3, 4)
        assert sorted(one + other) == list(range(7))
    assert found == pytest.approx((9 - 3.182446 / 2, 9 + 3.182446 / 2), abs=1e-5)


# Principal components.


def test_variances_of_components_are_without_bias_and_rounding_is_0() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]], dtype=torch.float64) + 7
    assert component_variances(x).tolist() == pytest.approx([8 / 3, 2 / 3])
    assert component_variances(torch.cat([x, x], 1)).tolist() == pytest.approx([16 / 3, 4 / 3, 0, 0])
    assert int(component_variances(torch.cat([x, x], 1)).count_nonzero()) == 2
    # Singular values count from the larger number of rows or columns times the precision on.
    wide = torch.zeros(4, 50, dtype=torch.float64)
    wide[:2, 0], wide[2:, 0] = 1, -1
    for times, kept in ((0.9, 1), (1.1, 2)):
        wide[::2, 1], wide[1::2, 1] = (50 * times * torch.finfo(torch.float64).eps,) * 2
        wide[1::2, 1] *= -1
        assert int(component_variances(wide).count_nonzero()) == kept


@pytest.mark.parametrize("batch", [3, 7, 50])
def test_variances_by_batches_are_those_of_all_points(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca, "_BATCH", batch * 4)
    x = normal(25, 4) @ normal(4, 4, seed=1) + 1000
    found = variances_by_batches(Dataset(x), torch.arange(25))
    assert found.tolist() == pytest.approx(np.linalg.eigvalsh(np.cov(x.numpy().T))[::-1].tolist(), rel=1e-9)
    # What is left below 1e-14 D of the largest is rounding.
    flat = torch.stack([x[:, 0], torch.zeros(25), 3e-8 * x[:, 1], 1e-7 * x[:, 2]], 1) - x.mean()
    variances = variances_by_batches(Dataset(flat), torch.arange(25))
    largest = float(variances[0])
    assert all(value == 0 or value > 4e-14 * largest for value in variances.tolist())


@pytest.mark.parametrize(
    ("rule", "settings", "variances", "count"),
    [
        ("ratio", {"ratio": 0.9}, [5.0, 4.0, 1.0], 2),  # 0.9 is held
        ("ratio", {"ratio": 0.91}, [5.0, 4.0, 1.0], 3),
        ("ratio", {"ratio": 0.5}, [5.0, 4.0, 1.0], 1),
        ("fukunaga-olsen", {"share": 0.2}, [5.0, 1.01, 1.0, 0.1], 2),
        ("participation", {}, [3.0, 1.0], 16 / 10),
        ("gap", {}, [8.0, 4.0, 1.0, 0.5], 2),
        ("gap", {}, [8.0, 1.0, 0.5], 1),
        ("gap", {}, [8.0, 4.0, 3.9, 0.0], 3),
        ("gap", {}, [8.0], 1),
        ("gap", {}, [0.0, 0.0], 0),
    ],
)
def test_components_are_counted_by_each_rule(
    rule: str, settings: dict[str, float], variances: list[float], count: float
) -> None:
    config = configs.PCAConfig.model_validate({"rule": rule, **settings})
    assert count_components(torch.tensor(variances, dtype=torch.float64), config) == pytest.approx(count)


def test_the_interval_of_components_is_the_percentiles_of_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts 1, 2, ..., 41 of resamples: at a level of one half their quartiles are 11 and 31; the value is inside."""
    for value, expected in ((20.0, (11.0, 31.0)), (40.0, (11.0, 40.0)), (5.0, (5.0, 31.0))):
        counts = iter([value, *map(float, range(1, 42))])
        monkeypatch.setattr(pca, "count_components", lambda variances, config, counts=counts: next(counts))
        found = PCAEstimator(configs.PCAConfig(resamples=41, level=0.5)).estimate(normal(30, 2))
        assert (found.value, found.interval) == (value, expected)


# What the methods share.


def test_local_estimates_are_combined_as_asked() -> None:
    estimates = torch.tensor([1.0, 2.0, 4.0, 4.0], dtype=torch.float64)
    assert estimators._combined(estimates, "mean") == pytest.approx(11 / 4)
    assert estimators._combined(estimates, "median") == pytest.approx(3)
    assert estimators._combined(estimates, "hmean") == pytest.approx(4 / (1 + 1 / 2 + 1 / 4 + 1 / 4))
    assert math.isnan(estimators._combined(estimates[:0], "mean"))


@pytest.mark.parametrize(
    ("config", "least", "neighbours"),
    [
        (configs.MLEConfig(n_neighbors=7), 8, 7),
        (configs.TwoNNConfig(discard=0.1), 10, 2),
        (configs.TwoNNConfig(discard=0.75), 12, 2),  # three that are kept
        (configs.TwoNNConfig(discard=0.78), 14, 2),
        (configs.LPCAConfig(n_neighbors=7), 8, 7),
        (configs.CorrIntConfig(near=3, far=9), 10, 9),
        (configs.DANCoConfig(version="DANCo", n_neighbors=6), 20, 7),
        (configs.DANCoConfig(version="DANCo", n_neighbors=19, max_dimension=4), 21, 20),
        (configs.KNNConfig(n_neighbors=2, sizes=3, repeats=4), 20, 0),
        (configs.KNNConfig(n_neighbors=8), 40, 0),
        (configs.MiNDMLConfig(n_neighbors=9), 12, 10),
        (configs.GRIDEConfig(near=2, far=12), 13, 12),
        (configs.GRIDEConfig(near=1, far=2), 10, 2),
    ],
)
def test_methods_ask_for_enough_points_and_neighbours(config: Any, least: int, neighbours: int) -> None:
    method = estimators.METHODS[type(config)]
    assert (method.least(config), method.neighbours(config)) == (least, neighbours)


@pytest.mark.parametrize(
    ("points", "neighbours", "sizes"),
    [(400, 2, [20, 60, 100]), (20, 2, [3, 4, 5]), (40, 9, [10, 11]), (24, 9, [10, 11])],
)
def test_sizes_of_subsamples_go_from_a_twentieth_to_a_quarter(points: int, neighbours: int, sizes: list[int]) -> None:
    config = configs.KNNConfig(n_neighbors=neighbours, sizes=3)
    assert estimators._sizes(config, points).tolist() == sizes


def test_neighbours_of_a_line_by_hand() -> None:
    distances, places = nearest_neighbours(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), 2)
    assert distances.tolist() == [[1, 3], [1, 2], [2, 3], [4, 6]]
    assert places.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


@pytest.mark.parametrize(("times", "withheld"), [(1.49, False), (1.51, True)])
def test_a_dimension_above_one_and_a_half_times_the_columns_is_withheld(
    times: float, withheld: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = estimators.NeighbourEstimator(configs.TwoNNConfig(resamples=0))
    monkeypatch.setattr(estimators.NeighbourEstimator, "_fit", lambda self, cloud, seed, heard: (times * 4, None))
    found = estimator.estimate(normal(40, 4))
    assert found.value == (None if withheld else 4)
    said = found.headline if withheld else found.diagnostics["note"]
    assert ("it reads 6.04 in 4 coordinates" if withheld else "it reads 5.96, above") in said


# The log-log of ratios.


@pytest.mark.parametrize(("near", "far"), [(1, 2), (2, 3), (5, 6)])
def test_the_mean_log_log_of_next_neighbours_is_closed(near: int, far: int) -> None:
    """-log of Beta(i, 1) is exponential at rate i: the mean of its logarithm is -gamma - log i."""
    assert mean_log_log(near, far) == pytest.approx(-np.euler_gamma - math.log(near), abs=1e-10)


@pytest.mark.parametrize(("near", "far"), [(1, 3), (2, 4), (3, 9)])
def test_the_mean_log_log_is_of_a_beta(near: int, far: int) -> None:
    """-log of Beta(i, j - i) is a sum of exponentials at rates i to j - 1."""
    rates = torch.arange(near, far, dtype=torch.float64)
    logs = (-torch.rand(200_000, far - near, generator=gen(), dtype=torch.float64).log() / rates).sum(1).log()
    assert mean_log_log(near, far) == pytest.approx(float(logs.mean()), abs=6 * float(logs.std()) / 200_000**0.5)


def test_log_log_by_hand() -> None:
    """Ratios e and e^4: the mean log log is log 2; a tie is left out and said."""
    said: list[str] = []
    found = log_log(configs.LogLogConfig(), ratios(1, 4, 0), said.append)
    assert found == pytest.approx(math.exp(-np.euler_gamma) / 2)
    assert said == ["1 points have two neighbours at one distance, and were left out"]
    assert math.isnan(log_log(configs.LogLogConfig(), ratios(0, 0), said.append))


# GeoMLE.


def test_geomle_is_the_algorithm_of_its_paper() -> None:
    """Point by point, draw by draw and size by size, with a least-squares solver for the regression."""
    x, config = normal(60, 3), configs.GeoMLEConfig(near=5, far=12, bootstraps=6, penalty="published")
    draws, sizes = gen(7), range(config.near, config.far + 1)
    estimates, radii = np.zeros((6, 60, len(sizes))), np.zeros((6, 60, len(sizes)))
    for b in range(6):
        kept = set(torch.randint(60, (60,), generator=draws).tolist())
        for i in range(60):
            near = sorted(float((x[i] - x[j]).norm()) for j in kept - {i})
            for place, k in enumerate(sizes):
                estimates[b, i, place] = (k - 2) / sum(math.log(near[k - 1] / near[j]) for j in range(k - 1))
                radii[b, i, place] = near[k - 1]
    expected = []
    for i in range(60):
        m, r, s = estimates[:, i].mean(0), radii[:, i].mean(0), estimates[:, i].std(0, ddof=1)
        root = s**-0.5
        rows = np.concatenate([np.stack([root, root * r, root * r**2], 1), 0.005**0.5 * np.eye(3)[1:]])
        expected.append(np.linalg.lstsq(rows, np.concatenate([root * m, [0, 0]]), rcond=None)[0][0])
    found = geomle(config, Cloud(x), 7)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_short_lists_of_neighbours_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x, config = normal(80, 2), configs.GeoMLEConfig(near=5, far=10, bootstraps=4)
    expected = geomle(config, Cloud(x), 0)
    monkeypatch.setattr("scorefold_neighbours.estimators.formulas.list_length", lambda far: far + 2)
    torch.testing.assert_close(geomle(config, Cloud(x), 0), expected, rtol=1e-12, atol=0)


def test_the_published_penalty_alone_has_a_unit() -> None:
    x = normal(100, 3)
    for penalty, same in (("scaled", True), ("published", False)):
        config = configs.GeoMLEConfig(near=5, far=15, penalty=penalty)
        there, here = (float(geomle(config, Cloud(factor * x), 0).mean()) for factor in (1, 37))
        assert (here == pytest.approx(there, rel=1e-9)) is same


def test_geomle_reads_what_bent_neighbourhoods_hide() -> None:
    """Of 1,000 points of a 10-sphere maximum likelihood reads 8.8, since neighbourhoods are bent and cut off."""
    z = normal(1000, 11)
    sphere = z / z.norm(dim=1, keepdim=True)
    assert float(geomle(configs.GeoMLEConfig(), Cloud(sphere), 0).mean()) == pytest.approx(10, rel=0.05)
    assert float(mle(configs.MLEConfig(), nearest_neighbours(sphere, 20)[0]).mean()) < 9.3


def test_the_divergence_of_angles_is_that_of_von_mises_distributions() -> None:
    """By a sum over the circle. With one neighbour and equal balls the norms add 1."""
    angles = np.linspace(-np.pi, np.pi, 4001)[:-1]
    logs = [tau * np.cos(angles - nu) for nu, tau in ((0.3, 2.0), (1.1, 4.0))]
    first, second = (log - np.log(np.exp(log).mean()) for log in logs)
    expected = float((np.exp(first) * (first - second)).mean())
    found = divergences(np.array([5.0, 0.3, 2.0]), np.array([[5.0, 1.1, 4.0]]), 1)
    assert found.tolist() == pytest.approx([1 + expected])


def test_the_skewness_of_balls_is_the_mean_sine_of_angles() -> None:
    """A line has none, a plane 2 / pi, a ball pi / 4 (version a of Johnsson et al. 2015)."""
    assert _skewnesses(3, "a").tolist() == pytest.approx([0, 2 / math.pi, math.pi / 4])


@pytest.mark.parametrize(
    ("value", "points", "columns", "warned"),
    [(6.0, 1000, 20, False), (6.01, 1000, 20, True), (8.0, 1000, 8, False), (4.0, 99, 20, True), (4.0, 101, 20, False)],
)
def test_readings_above_two_decades_of_points_are_called_too_low(
    value: float, points: int, columns: int, warned: bool
) -> None:
    """2 log10 n is 6 for 1,000 points and 4 for 100."""
    assert bool(estimators.bias_warning(value, points, columns)) is warned


def test_estimators_that_read_many_dimensions_of_few_points_have_no_such_warning() -> None:
    cloud = torch.cat([normal(200, 12), torch.zeros(200, 12, dtype=torch.float64)], 1)
    warned = {}
    for config, method in estimators.METHODS.items():
        if method.name in ("KNN", "I3D", "GeoMLE", "PH"):  # slow, or for other points
            continue
        found = estimators.NeighbourEstimator(config()).estimate(cloud)
        said = any("probably too low" in text for text in found.diagnostics.get("warnings", ()))
        warned[method.name] = (said, found.number() < 10.8)
        assert found.covers == "points"
    high = {"lPCA", "DANCo", "FisherS", "ESS"}
    assert {name for name, (said, _) in warned.items() if not said} == high
    assert {name for name, (_, low) in warned.items() if not low} == high


@pytest.mark.parametrize("at_once", [50, 350, 2**22])
def test_pairs_are_counted_in_blocks_of_rows(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_AT_ONCE", at_once)
    x = normal(50, 3)
    apart = (x[:, None] - x).norm(dim=2)
    radii = [0.5, 1.5]
    assert pairs._pairs_within(Cloud(x), radii) == [int((apart < radius).sum()) - 50 for radius in radii]


@pytest.mark.parametrize("seed", range(5))
def test_low_dimensions_of_few_points_have_no_warning_of_bias(seed: int) -> None:
    """Readings of TwoNN scatter around 3, some above 2 log10 50 = 3.4."""
    cloud = torch.cat([normal(50, 3, seed=seed), torch.zeros(50, 7, dtype=torch.float64)], 1)
    for config in (configs.TwoNNConfig(), configs.LogLogConfig(), configs.MLEConfig()):
        found = estimators.NeighbourEstimator(config).estimate(cloud)
        assert not any("too low" in text for text in found.diagnostics.get("warnings", ()))
