"""Nearest neighbours: equal to all pairs', to the bit for any number of workers, found once and cut for parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold.stage import Executor
from scorefold_registry.run.executor import LocalExecutor
from scorefold_toolkit import index as indices
from scorefold_toolkit import nearest
from scorefold_toolkit.distances import PointMetric
from scorefold_toolkit.index import Index
from scorefold_toolkit.nearest import Cloud, nearest_neighbours, shared_neighbours, wide


@pytest.fixture(scope="module")
def workers(warm_workers: None) -> Iterator[Executor]:
    executor = LocalExecutor(2, threads=torch.get_num_threads())
    yield executor
    executor.close()


def table(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def all_pairs(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf).sort(dim=1)
    return apart.values[:, :count], apart.indices[:, :count]


@pytest.mark.parametrize("columns", [2, 8, 15, 16, 40])
def test_neighbours_are_those_of_all_pairs(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "SHARD_ROWS", 200)
    x = table(700, columns)
    distances, places = nearest_neighbours(x, 9)
    expected = all_pairs(x, 9)
    assert torch.equal(places, expected[1])
    torch.testing.assert_close(distances, expected[0], rtol=1e-12, atol=0)


def test_pairs_that_are_compared_in_tiles_give_the_neighbours_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 100 points, the last of 37."""
    monkeypatch.setattr(indices, "_PAIRS", 6400)
    x = table(637, 20)
    distances, places = nearest_neighbours(x, 9)
    expected = all_pairs(x, 9)
    assert torch.equal(places, expected[1])
    torch.testing.assert_close(distances, expected[0], rtol=1e-12, atol=0)


def correlated(rows: int, columns: int, offset: float = 0.0) -> Tensor:
    """Points whose variance is mostly along few directions, with copies and near-copies among them."""
    x = table(rows, columns) * 0.8 ** torch.arange(columns) + offset
    x[1], x[2] = x[0], x[0]
    x[3, -1] += 1e-9
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_neighbours_by_few_directions_first_are_those_of_all_pairs(offset: float, dtype: torch.dtype) -> None:
    x = correlated(4200, 64, offset).to(dtype)
    index = Index(x)
    assert index._directions is not None
    assert index._directions.shape == (64, 8)
    distances, places = index.nearest(x[:400], 9)
    expected = torch.cdist(x[:400].double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1)
    torch.testing.assert_close(distances, expected.values[:, :9], rtol=1e-12, atol=0)
    assert torch.equal(places[4:], expected.indices[4:, :9])
    assert distances[0, :3].tolist() == [0, 0, 0]


def test_distances_along_few_directions_are_never_larger() -> None:
    x = correlated(4200, 64)
    index = Index(x)
    moved = index._moved(x[:200])
    reduced = index._reduced(moved)
    bounds, apart = (torch.cdist(y, y, compute_mode="donot_use_mm_for_euclid_dist") for y in (reduced, moved))
    assert bool((bounds <= apart * (1 + 1e-9) + 1e-7).all())  # the rest is a difference: half its digits are lost
    assert float((bounds / apart).nanmedian()) > 0.9


def test_rows_that_few_directions_do_not_settle_are_compared_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points that differ in the other directions alone are as near as each other by the bounds."""
    x = correlated(4200, 64)
    x[:2100] = x[0] + 1e-3 * torch.nn.functional.pad(table(2100, 32, seed=1), (32, 0))
    seen = watched_ways(monkeypatch)
    distances, _ = Index(x).nearest(x[:400], 9)
    expected = torch.cdist(x[:400], x, compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1).values[:, :9]
    torch.testing.assert_close(distances, expected, rtol=1e-12, atol=1e-15)
    assert seen == ["tree", "few", "all", "all"], "a tree and few directions settle none of the first rows"


def watched_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways in which candidates are found from here on, block by block."""
    seen: list[str] = []
    found = Index._bounded

    def watched(self: Index, x: Tensor, way: str, taken: int) -> Any:
        seen.append(way)
        return found(self, x, way, taken)

    monkeypatch.setattr(Index, "_bounded", watched)
    return seen


def plane(rows: int, columns: int, dimension: int, noise: float, offset: float = 0.0) -> Tensor:
    """Points of a plane with noise, with copies and near-copies among them."""
    across = torch.linalg.qr(table(columns, dimension)).Q
    x = table(rows, dimension, seed=1) @ across.T + noise * table(rows, columns, seed=2) + offset
    x[1], x[2] = x[0], x[0]
    x[3, -1] += 1e-9
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("columns", "offset"), [(16, 0.0), (90, 300.0)])
def test_a_tree_along_few_directions_finds_the_neighbours_of_all_pairs(
    columns: int, offset: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = plane(4200, columns, 3, 0.001, offset).to(dtype)
    seen = watched_ways(monkeypatch)
    index = Index(x)
    distances, places = index.nearest(x[:500], 9)
    expected = torch.cdist(x[:500].double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1)
    torch.testing.assert_close(distances, expected.values[:, :9], rtol=1e-12, atol=0)
    assert torch.equal(places[4:], expected.indices[4:, :9])
    assert distances[0, :3].tolist() == [0, 0, 0]
    assert set(seen) == {"tree"}
    assert index._short_tree[0].shape == (columns, 3)


def test_a_tree_bounds_distances_where_half_of_the_digits_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty points in one place of a plane, a billionth of their size apart. Rests along the tree are rounding."""
    x = (1e3 * plane(105, 20, 2, 0.0)).repeat_interleave(40, 0) + 1e-6 * table(4200, 20, seed=3)
    index = Index(x)
    moved = index._moved(x[:300])
    along = index._short_tree[1].query(indices._along(moved, index._short_tree[0]).numpy(), range(1, 22))[0]
    least, candidates = index._bounded(moved, "tree", 21)
    apart = torch.cdist(moved, index._moved(x), compute_mode="donot_use_mm_for_euclid_dist")
    others = apart.scatter(1, candidates, torch.inf).amin(1)
    assert bool((torch.from_numpy(along[:, -1]) > others).any()), "without an allowance a bound would be too large"
    assert bool((least <= others.square()).all())
    distances, _ = index.nearest(x[:300], 9)
    torch.testing.assert_close(distances, apart.sort(1).values[:, :9], rtol=1e-9, atol=1e-12)


def test_directions_of_a_tree_are_as_few_as_hold_the_variance() -> None:
    """At most half as many as the doublings that make so many points."""
    assert Index(plane(4200, 30, 4, 0.001))._short_tree[0].shape == (30, 4)
    assert Index(table(4200, 30))._short_tree[0].shape == (30, 6)
    assert Index(table(1000, 30))._short_tree[0].shape == (30, 4)
    assert Index(torch.ones(4200, 80))._short_tree[0].shape == (80, 1)


def test_a_way_that_settles_too_few_rows_is_left_out_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indices, "_PAIRS", 4200 * 64)
    seen = watched_ways(monkeypatch)
    x = table(4200, 20)
    nearest_neighbours(x, 5)
    assert seen.count("tree") == 1
    assert seen.count("all") > 20


def test_directions_are_chosen_where_they_pay_and_hold_the_variance() -> None:
    """32 times 8 rows for 4,096 points at most, in 64 columns or more, and 32 times 15 in fewer."""
    index = Index(correlated(4200, 64))
    assert index._ways(-(-32 * 8 * 4096 // 4200) - 1) == ["all"]
    assert index._ways(-(-32 * 8 * 4096 // 4200)) == ["tree", "few", "all"]
    fewer = Index(correlated(4200, 63))
    assert fewer._ways(-(-32 * 15 * 4096 // 4200) - 1) == ["all"]
    assert fewer._ways(-(-32 * 15 * 4096 // 4200)) == ["tree", "all"]
    assert Index(table(4200, 80))._directions is None
    assert Index(torch.ones(4200, 80))._directions is None


def test_directions_of_wide_events_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indices, "_MOST", 6)
    directions = Index(correlated(300, 64))._directions
    assert directions is not None
    torch.testing.assert_close(directions.T @ directions, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)


def test_rows_of_a_small_table_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of 6400 // 64 = 100 rows. The first has 64."""
    seen: list[int] = []
    compared = Index._compared
    monkeypatch.setattr(indices, "_PAIRS", 6400)
    monkeypatch.setattr(
        Index, "_compared", lambda self, rows, *rest: seen.append(len(rows)) or compared(self, rows, *rest)
    )
    Index(table(64, 20)).nearest(table(184, 20), 5)
    assert seen == [64, 100, 20]


def test_candidates_are_measured_again_in_blocks_that_fit_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 numbers are four rows with two candidates in five columns: ten rows are measured in 4, 4 and 2."""
    seen: list[int] = []
    measured = indices._measured_rows
    monkeypatch.setattr(indices, "CACHED", 40)
    monkeypatch.setattr(
        indices, "_measured_rows", lambda points, rows, *rest: seen.append(len(rows)) or measured(points, rows, *rest)
    )
    points, rows, places = table(30, 5), table(10, 5), torch.arange(20).view(10, 2)
    squares, ordered = indices.measured_again(points, rows, places)
    assert seen == [4, 4, 2]
    apart = (points[ordered] - rows[:, None]).square().sum(2)
    torch.testing.assert_close(squares, apart, rtol=1e-12, atol=0)
    assert bool((squares[:, 0] <= squares[:, 1]).all())
    assert torch.equal(ordered.sort(dim=1).values, places)


@pytest.mark.parametrize("columns", [8, 20])
def test_neighbours_of_points_far_from_0_are_those_of_points_near_it(columns: int) -> None:
    x = table(400, columns)
    near, far = (nearest_neighbours(x + offset, 5) for offset in (0.0, 1e6))
    assert torch.equal(near[1], far[1])
    torch.testing.assert_close(near[0], far[0], rtol=1e-8, atol=0)


def test_a_tree_and_all_pairs_find_the_same_above_ten_thousand_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = table(12_000, 6)
    by_tree = nearest_neighbours(x, 5)
    monkeypatch.setattr(indices, "TREE_COLUMNS", 0)
    by_pairs = nearest_neighbours(x, 5)
    assert torch.equal(by_tree[1], by_pairs[1])
    torch.testing.assert_close(by_tree[0], by_pairs[0], rtol=1e-12, atol=0)


def test_points_that_float32_can_not_separate_are_measured_again() -> None:
    """Two clouds ten thousand times their width apart: within one, float32 sees no differences of squares."""
    x = 1e-4 * table(600, 20)
    x[300:] += 1.0
    distances, places = nearest_neighbours(x, 3)
    expected = all_pairs(x, 3)
    assert torch.equal(places, expected[1])
    torch.testing.assert_close(distances, expected[0], rtol=1e-10, atol=0)


@pytest.mark.parametrize("scale", [1e-25, 1e-20, 1e19, 1e25])
def test_squares_beyond_the_range_of_float32_do_not_matter(scale: float) -> None:
    """Points of all sizes up to the scale, whose squares overflow in float32 or are 0 there."""
    x = scale * table(700, 20) * torch.logspace(-5, 0, 700, dtype=torch.float64)[:, None].flip(0)
    distances, places = nearest_neighbours(x, 5)
    expected = all_pairs(x, 5)
    assert torch.equal(places, expected[1])
    torch.testing.assert_close(distances, expected[0], rtol=1e-9, atol=0)
    assert torch.equal(nearest_neighbours(scale * table(700, 20), 5)[1], all_pairs(table(700, 20), 5)[1])


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_pairs_are_exact_whatever_torch_may_round(precision: str) -> None:
    x, before = table(900, 30), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = nearest_neighbours(x.float(), 4)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found[1], all_pairs(x.float().double(), 4)[1])


def test_any_rows_have_their_nearest_points() -> None:
    for columns in (3, 30):
        points, rows = table(500, columns), table(40, columns, seed=1)
        distances, places = Index(points.float()).nearest(rows, 500)
        apart = torch.cdist(rows, points.float().double(), compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1)
        assert torch.equal(places, apart.indices)
        torch.testing.assert_close(distances, apart.values, rtol=1e-12, atol=0)


def test_a_row_is_never_its_own_neighbour() -> None:
    """Where a row and its copies are at the distance 0, any may come first."""
    for columns in (2, 20):
        x = table(30, columns).repeat_interleave(3, dim=0)
        distances, places = nearest_neighbours(x, 2)
        assert not bool(distances.any())
        assert not bool((places == torch.arange(90)[:, None]).any())
        assert bool((places // 3 == torch.arange(90)[:, None] // 3).all())


@pytest.mark.parametrize("columns", [6, 20])
def test_neighbours_have_the_same_bits_for_any_number_of_workers(columns: int, workers: Executor) -> None:
    x = table(2 * nearest.SHARD_ROWS + 100, columns)
    alone, shared = (nearest_neighbours(x, 4, executor) for executor in (None, workers))
    assert torch.equal(alone[0], shared[0])
    assert torch.equal(alone[1], shared[1])


def test_shards_are_jobs_and_a_table_too_large_to_send_is_searched_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    class Counting(LocalExecutor):
        def map(self, target: str, items: Any, key: str) -> list[Any]:
            asked.append((key, len(items)))
            return super().map(target, items, key)

    executor = Counting()
    executor.parallel = True
    x = table(1000, 3)
    monkeypatch.setattr(nearest, "SHARD_ROWS", 90)
    here = nearest_neighbours(x, 3)
    assert torch.equal(nearest_neighbours(x, 3, executor)[0], here[0])
    assert asked == [("nearest neighbours", 8), ("nearest neighbours", 4)]
    monkeypatch.setattr(nearest, "MOST_SENT", 2999)
    assert torch.equal(nearest_neighbours(x, 3, executor)[0], here[0])
    assert len(asked) == 2


@pytest.mark.parametrize("columns", [3, 20])
@pytest.mark.parametrize("count", [2, 20])
def test_lists_of_parts_are_those_that_a_search_finds(columns: int, count: int) -> None:
    cloud = Cloud(table(300, columns))
    cloud.neighbours(wide(count))
    rows = torch.randperm(300, generator=torch.Generator().manual_seed(1))[:150].sort().values
    for part in (rows, torch.arange(60)):  # of a fifth of the points most lists hold too few
        cut, found = cloud.part(part).neighbours(count), nearest_neighbours(cloud.points[part], count)
        assert torch.equal(cut[1], found[1])
        torch.testing.assert_close(cut[0], found[0], rtol=1e-12, atol=0)


def test_halves_of_lists_seldom_hold_too_few() -> None:
    """A neighbour is in a random half by a coin: fewer than k of the list are heads in one of a thousand lists."""
    from scipy.stats import binom

    for count in (2, 10, 20, 50, 100):
        assert 1e-7 < binom.cdf(count - 1, wide(count), 0.5) < 2e-3


def test_patches_are_the_neighbours_in_their_order() -> None:
    cloud = Cloud(table(100, 4))
    blocks = list(cloud.patches(5, block=1000))
    assert len(blocks) == 3
    together = torch.cat([points for _, points in blocks])
    assert torch.equal(together, cloud.points[cloud.neighbours(5)[1]])


def test_equal_points_are_searched_once_where_neighbours_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    x, searched = table(200, 3), []

    def watched(points: Tensor, count: int, *others: Any) -> Any:
        searched.append(count)
        return nearest_neighbours(points, count, *others)

    monkeypatch.setattr(nearest, "nearest_neighbours", watched)
    with shared_neighbours():
        found = [Cloud(x.clone()).neighbours(count)[0] for count in (3, 20)]
        assert searched == [nearest.LISTED]
        assert torch.equal(found[0], found[1][:, :3])
        Cloud(x + 1).neighbours(3)
        Cloud(x).neighbours(100)
        assert searched == [64, 64, 100]
        Cloud(x, metric=PointMetric("angle")).neighbours(3)  # by another distance
        assert searched == [64, 64, 100, 64]
    Cloud(x).neighbours(3)
    assert searched == [64, 64, 100, 64, 3]
    assert np.allclose(found[0], nearest_neighbours(x, 3)[0])


@pytest.mark.parametrize("n", [3, 10, 63, 64, 65, 511, 5003])
@pytest.mark.parametrize("count", [1, 3, 17])
def test_the_lowest_values_are_those_of_a_sort(n: int, count: int) -> None:
    """Rows of random values, and rows whose lowest values are all in one group or at the end."""
    values = torch.randn(5, n, generator=torch.Generator().manual_seed(n))
    values[1] = torch.arange(n)
    values[2] = -torch.arange(n)
    values[3] = torch.arange(n) % max(1, n // 8)
    values[4] = 0
    found, places = indices._lowest(values, count)
    assert torch.equal(found, values.gather(1, places))
    assert torch.equal(found.sort(1).values, values.sort(1).values[:, :count])
    assert all(len(set(row)) == min(count, n) for row in places.tolist())
