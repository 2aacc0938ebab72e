"""Estimates by distances other than Euclid's: what they must be equal to, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold import Host
from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError, ScorefoldError
from scorefold.results import Estimate

BY_DISTANCE = ("mle", "twonn", "corrint", "mada", "mom", "knn", "mind-ml", "gride", "log-log", "ph")


def estimated(host: Host, name: str, x: Tensor | Dataset, **config: Any) -> Estimate:
    return host.create(f"estimator:{name}", {"resamples": 4, **config}).estimate(x)


def uniform(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_given_distances_give_the_answer_of_the_points(host: Host, name: str) -> None:
    x = uniform(300, 3)
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    by_points = host.create(f"estimator:{name}").point_estimate(x)
    # It looks for dimensions up to the number of columns, which a matrix does not say.
    most = {"max_dimension": 3} if name == "mind-ml" else {}
    by_matrix = host.create(f"estimator:{name}", {"metric": "precomputed", **most}).point_estimate(apart)
    # Distinct points come in another order, in which the draws of trees differ.
    assert by_matrix.value == pytest.approx(by_points.value, rel=0.2 if name == "ph" else 1e-9)
    if by_points.pointwise is not None:
        torch.testing.assert_close(by_matrix.pointwise, by_points.pointwise)


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_where_a_period_begins_changes_nothing(host: Host, name: str) -> None:
    """A flat torus looks alike from everywhere; as points of a cube it does not."""
    x = uniform(300, 2)
    moved = (x + torch.tensor([0.3, 0.55])).remainder(1)
    around, again = (estimated(host, name, points, metric="periodic", period=1.0) for points in (x, moved))
    assert again.value == pytest.approx(around.value, rel=1e-6)
    assert (
        estimated(host, name, moved).value != pytest.approx(estimated(host, name, x).value, rel=1e-6) or name == "knn"
    )


def test_a_torus_has_no_edge(host: Host) -> None:
    """Neighbours across the edge bring the estimate nearer to the truth, 6."""
    x = uniform(2000, 6)
    flat, around = (estimated(host, "mle", x, **more) for more in ({}, {"metric": "periodic", "period": 1.0}))
    assert abs(around.value - 6) < 0.3 < abs(flat.value - 6)


@pytest.mark.parametrize("name", ["mle", "twonn", "gride"])
def test_angles_do_not_depend_on_lengths(host: Host, name: str) -> None:
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    lengths = 0.1 + uniform(500, 1)
    short, long = (estimated(host, name, points, metric="angle") for points in (x, x * lengths))
    assert long.value == pytest.approx(short.value, rel=1e-9)
    assert short.value == pytest.approx(3, rel=0.15)  # directions in four coordinates


def test_copies_of_given_points_count_once(host: Host) -> None:
    x = uniform(200, 2)
    x = torch.cat([x, x[:20]])
    by_points = estimated(host, "mle", x)
    by_matrix = estimated(
        host, "mle", torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist"), metric="precomputed"
    )
    assert by_matrix.diagnostics["duplicates"] == by_points.diagnostics["duplicates"] == 20
    assert by_matrix.value == pytest.approx(by_points.value, rel=1e-9)


@pytest.mark.parametrize("metric", ["angle", "periodic", "precomputed"])
def test_copies_that_differ_in_their_last_bits_count_once(host: Host, metric: str) -> None:
    """Multiples of a direction, values a period apart, and distances that were computed twice."""
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    config: dict[str, Any] = {"metric": metric}
    if metric == "angle":
        more = torch.cat([x, 3 * x[:200], x[:200] / 7])
    elif metric == "periodic":
        config["period"] = [1.7, 2.3, 0.0]
        turns = torch.tensor([[1.7, -4.6, 0.0], [-5.1, 0.0, 0.0]], dtype=torch.float64)
        more = torch.cat([x, x[:200] + turns[0], x[:200] + turns[1]])
    else:
        rows = torch.cat([torch.arange(300), torch.arange(200), torch.arange(200)])
        x = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        more = x[rows][:, rows]
        scatter = 1 + 1e-15 * torch.randn(more.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        more = more * (scatter.triu() + scatter.triu(1).T)
    few, many = (host.create("estimator:mle", config).point_estimate(points) for points in (x, more))
    assert many.diagnostics["duplicates"] == 400
    assert many.value == pytest.approx(few.value, rel=1e-6)


def test_near_copies_are_named(host: Host) -> None:
    """Copies that were rounded to float32 are no copies to the bit, and the reading is theirs."""
    x = uniform(300, 3)
    for count, named in ((5, False), (20, True)):
        found = estimated(host, "mle", torch.cat([x, x[:count] * (1 + 1e-8)]))
        assert ("another one at less than a millionth" in str(found.diagnostics.get("warnings"))) == named


def test_rows_of_a_matrix_find_their_columns(host: Host) -> None:
    """A split has some rows of the file, with the distances from all points of the file."""
    x = uniform(200, 2)
    rows = torch.randperm(200, generator=torch.Generator().manual_seed(3))[:150]
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    by_points = estimated(host, "mle", Dataset(x[rows]))
    by_matrix = estimated(host, "mle", Dataset(apart[rows], index=rows), metric="precomputed")
    assert by_matrix.value == pytest.approx(by_points.value, rel=1e-9)


def _square(change: Any) -> Tensor:
    x = uniform(50, 2)
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    change(apart)
    return apart


REFUSED = {
    "not square": (lambda: _square(lambda a: None)[:, :30], "row 49 of the data has 30 columns"),
    "one way": (lambda: _square(lambda a: a[3].mul_(2)), "another distance in one direction .* first in row 0"),
    "below 0": (lambda: _square(lambda a: a.sub_(0.1).fill_diagonal_(0)), "a distance below 0"),
    "not 0 to itself": (lambda: _square(lambda a: a[7, 7].add_(1)), "from itself that is not 0, first in row 7"),
    "similarities": (lambda: _square(lambda a: a.neg_().exp_()), "from itself that is not 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_holds_no_distances_is_refused(host: Host, case: str) -> None:
    make, said = REFUSED[case]
    with pytest.raises(DataError, match=said):
        estimated(host, "mle", make(), metric="precomputed")


def test_settings_that_contradict_each_other_are_refused(host: Host) -> None:
    for config, said in (
        ({"metric": "periodic"}, "metric: periodic is given with no period"),
        ({"period": 1.0}, "metric: euclidean is given with period 1.0"),
        ({"metric": "periodic", "period": -1.0}, "period"),
        ({"metric": "cosine"}, "metric"),
    ):
        with pytest.raises(ScorefoldError, match=said):
            host.create("estimator:mle", config)
    with pytest.raises(DataError, match="2 periods for 3 coordinates"):
        estimated(host, "mle", uniform(50, 3), metric="periodic", period=[1.0, 2.0])
    with pytest.raises(ScorefoldError, match="metric"):
        host.create("estimator:lpca", {"metric": "angle"})  # it needs coordinates
    with pytest.raises(ConfigError, match="an estimator with metric: angle is plugged in"):
        host.create("estimator:calibrated", {}, estimators=[host.create("estimator:mle", {"metric": "angle"})])


def test_a_period_in_other_units_is_named(host: Host) -> None:
    x = uniform(100, 2) * 2 * math.pi
    inside = estimated(host, "mle", x - math.pi, metric="periodic", period=[2 * math.pi, 0.0])
    outside = estimated(host, "mle", x, metric="periodic", period=360.0)
    assert "warnings" not in inside.diagnostics
    (said,) = outside.diagnostics["warnings"]
    assert "no coordinate spans more than half of its period" in said
