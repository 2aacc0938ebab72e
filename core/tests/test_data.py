"""Data sets: rows stay together, batches are exact, and streamed data equal the same data in memory."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale, StreamedDataset, as_dataset, index_condition, measured_rows
from scorefold.errors import DataError, ShapeError


def table(count: int = 10) -> Dataset:
    """Points whose every column says which point it is."""
    rows = torch.arange(count)
    return Dataset(
        x=rows[:, None, None].float().expand(count, 2, 3).contiguous(),
        condition={"class": rows % 3, "image": rows[:, None].double() * torch.ones(4)},
        label=rows + 100,
        index=rows + 1000,
        truth={"dimension": 2, "pointwise": rows.float(), "name": "line"},
    )


def streamed(source: Dataset, workers: int = 0, fetch: Callable[[Tensor], Dataset] | None = None) -> StreamedDataset:
    empty = torch.empty(0, *source.event_shape)
    return StreamedDataset(x=empty, fetch=fetch or source.take, size=len(source), workers=workers)


def assert_same(left: Dataset, right: Dataset) -> None:
    assert torch.equal(left.x, right.x)
    assert isinstance(left.condition, dict)
    assert isinstance(right.condition, dict)
    for name, value in left.condition.items():
        assert torch.equal(value, right.condition[name])
    assert left.label is not None
    assert right.label is not None
    assert torch.equal(left.label, right.label)
    assert left.index is not None
    assert right.index is not None
    assert torch.equal(left.index, right.index)
    assert torch.equal(left.truth["pointwise"], right.truth["pointwise"])


def test_take_keeps_the_rows_together() -> None:
    taken = table().take(torch.tensor([7, 0, 7]))
    assert taken.x[:, 0, 0].tolist() == [7, 0, 7]
    assert isinstance(taken.condition, dict)
    assert taken.condition["class"].tolist() == [1, 0, 1]
    assert taken.condition["image"][:, 2].tolist() == [7, 0, 7]
    assert taken.label is not None
    assert taken.label.tolist() == [107, 100, 107]
    assert taken.index is not None
    assert taken.index.tolist() == [1007, 1000, 1007]
    assert taken.truth["pointwise"].tolist() == [7, 0, 7]
    assert (taken.truth["dimension"], taken.truth["name"]) == (2, "line")
    assert taken.event_shape == (2, 3)


def test_the_index_of_a_set_that_has_none_is_the_position() -> None:
    taken = Dataset(x=torch.randn(5, 2)).take(torch.tensor([4, 1]))
    assert taken.index is not None
    assert taken.index.tolist() == [4, 1]


def test_no_points() -> None:
    none = table().take(torch.empty(0, dtype=torch.long))
    assert len(none) == 0
    assert none.x.shape == (0, 2, 3)
    assert list(none.batches(4)) == []
    assert list(none.batches(4, torch.Generator())) == []


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size", [1, 3, 5, 10, 40])
def test_streamed_batches_equal_those_in_memory(workers: int, drop_last: bool, shuffle: bool, size: int) -> None:
    def batches(dataset: Dataset) -> Iterator[Dataset]:
        return dataset.batches(size, torch.Generator().manual_seed(3) if shuffle else None, drop_last=drop_last)

    expected = list(batches(table()))
    got = list(batches(streamed(table(), workers)))
    assert len(got) == len(expected) == (10 // size if drop_last else -(-10 // size))
    for left, right in zip(expected, got, strict=True):
        assert_same(left, right)
    seen = [int(row) for batch in expected for row in batch.x[:, 0, 0]]
    assert all(len(batch) == size for batch in expected[: 10 // size])
    if not drop_last:
        assert sorted(seen) == list(range(10))
    assert (seen == sorted(seen)) != (shuffle and len(seen) > 0)


def test_a_shuffle_is_the_generators() -> None:
    def order(seed: int) -> list[float]:
        batches = table().batches(4, torch.Generator().manual_seed(seed))
        return [float(row) for batch in batches for row in batch.x[:, 0, 0]]

    assert order(1) == order(1) != order(2)


def test_takes_may_be_endless_and_decodes_only_a_little_ahead() -> None:
    decoded: list[int] = []
    source = table()

    def fetch(index: Tensor) -> Dataset:
        decoded.append(int(index[0]))
        return source.take(index)

    def endless() -> Iterator[Tensor]:
        position = 0
        while True:
            yield torch.tensor([position % 10])
            position += 1

    reader = streamed(source, workers=2, fetch=fetch).takes(endless())
    assert [int(next(reader).x[0, 0, 0]) for _ in range(13)] == [*range(10), 0, 1, 2]
    reader.close()  # type: ignore[attr-defined]
    assert len(decoded) <= 13 + 2 * 2 + 1


def test_a_reader_that_stops_early_does_not_wait() -> None:
    source, started = table(), []

    def slow(index: Tensor) -> Dataset:
        started.append(int(index[0]))
        time.sleep(0.1)
        return source.take(index)

    reader = streamed(source, workers=1, fetch=slow).batches(1)
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    assert len(started) <= 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPool")]


def test_an_error_while_decoding_reaches_the_reader() -> None:
    def broken(index: Tensor) -> Dataset:
        raise DataError(f"image {int(index[0])} can't be read")

    for workers in (0, 2):
        with pytest.raises(DataError, match="image 0 can't be read"):
            list(streamed(table(), workers, broken).batches(2))
    with pytest.raises(DataError, match="2 points were asked for and the source decoded 10"):
        streamed(table(), fetch=lambda index: table()).take(torch.tensor([0, 1]))


@pytest.mark.parametrize("dataset", [table(), streamed(table())])
def test_to_changes_the_floating_point_columns_only(dataset: Dataset) -> None:
    moved = dataset.to("cpu", torch.float64)
    batch = moved.take(torch.tensor([3, 4]))
    assert batch.x.dtype == torch.float64
    assert moved.tensor().dtype == torch.float64
    assert isinstance(batch.condition, dict)
    assert batch.condition["class"].dtype == torch.int64
    assert batch.condition["image"].dtype == torch.float64
    assert batch.truth["pointwise"].dtype == torch.float32
    assert batch.x[:, 0, 0].tolist() == [3, 4]
    assert len(moved) == 10
    assert dataset.x.dtype == torch.float32


def test_to_moves_every_column() -> None:
    moved = table().to("meta")
    assert moved.label is not None
    assert moved.index is not None
    assert isinstance(moved.condition, dict)
    columns = [moved.x, moved.label, moved.index, *moved.condition.values(), moved.truth["pointwise"]]
    assert {value.device.type for value in columns} == {"meta"}


@pytest.mark.parametrize("dataset", [table(), streamed(table(), workers=2)])
def test_tensor_with_and_without_a_limit(dataset: Dataset) -> None:
    assert dataset.tensor()[:, 0, 0].tolist() == list(range(10))
    assert dataset.tensor(3)[:, 0, 0].tolist() == [0, 1, 2]
    assert dataset.tensor(30).shape == (10, 2, 3)


def test_rows_that_do_not_agree_are_refused() -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(ShapeError, match=r"label has shape \(3,\); expected 4 rows"):
        Dataset(x=x, label=torch.zeros(3))
    with pytest.raises(ShapeError, match="condition has shape"):
        Dataset(x=x, condition=torch.zeros(()))
    with pytest.raises(ShapeError, match="condition 'b' has shape"):
        Dataset(x=x, condition={"a": torch.zeros(4), "b": torch.zeros(5, 4)})
    with pytest.raises(ShapeError, match="index has shape"):
        Dataset(x=x, index=torch.arange(5))
    for dataset in (table(), streamed(table(), workers=1)):
        with pytest.raises(DataError, match="a batch size of 0"):
            dataset.batches(0)


def test_as_dataset() -> None:
    dataset = table()
    assert as_dataset(dataset) is dataset
    made = as_dataset(torch.zeros(3, 2))
    assert made.index is not None
    assert made.index.tolist() == [0, 1, 2]
    with pytest.raises(ShapeError, match="at least one event dimension") as caught:
        as_dataset(torch.zeros(3))
    assert caught.value.hint is not None
    assert "data[:, None]" in caught.value.hint
    with pytest.raises(DataError, match="data is a list"):
        as_dataset([1.0])  # type: ignore[arg-type]


def test_raw_units_undo_the_standardisation_and_clip() -> None:
    raw = torch.tensor([0.0, 127.0, 255.0])
    scale = EventScale(low=-1.0, high=1.0, levels=256, shift=127.5, factor=127.5)
    assert torch.allclose(scale.to_raw((raw - scale.shift) / scale.factor), raw)
    assert scale.to_raw(torch.tensor([-3.0, 3.0])).tolist() == [0.0, 255.0]
    assert EventScale(shift=1.0, factor=2.0).to_raw(torch.tensor([5.0])).tolist() == [11.0]
    assert EventScale(low=0.0).to_raw(torch.tensor([-5.0, 5.0])).tolist() == [0.0, 5.0]


def test_the_spread_is_the_distance_from_the_mean_and_zero_coordinates_leave_it() -> None:
    x = torch.randn(1000, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(0)
    for points in (x, torch.cat([x, torch.zeros(1000, 2, 5)], 2)):
        scale = EventScale(std=float(points.std(correction=0)))
        assert scale.spread(tuple(points.shape[1:])) == pytest.approx(float(x.square().sum((1, 2)).mean().sqrt()))


def test_one_level_is_no_scale() -> None:
    with pytest.raises(DataError, match="1 levels"):
        EventScale(low=0.0, high=1.0, levels=1)


def test_rows_of_a_condition() -> None:
    rows = torch.tensor([1, 0])
    assert index_condition(None, rows) is None
    tensor = index_condition(torch.tensor([[1.0], [2.0]]), rows)
    assert isinstance(tensor, Tensor)
    assert tensor.tolist() == [[2.0], [1.0]]


def test_the_scale_of_data_stays_when_they_are_shifted_or_rotated() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    shift = torch.tensor([1000.0, 0.0, -4.0, 0.0, 0.0], dtype=torch.float64)
    std = EventScale.of(x).std
    assert std == pytest.approx(float((x - x.mean(0)).square().mean().sqrt()))
    assert EventScale.of(x + shift).std == pytest.approx(std)
    assert EventScale.of(x @ turn).std == pytest.approx(std)
    assert EventScale.of((x + shift).reshape(200, 1, 5, 1)).std == pytest.approx(std)


def test_vectors_are_centred_by_coordinate_where_one_mean_will_not_do() -> None:
    x = torch.tensor([[0.0, 1000.0], [2.0, 1002.0]])
    scale = EventScale.of(x)
    assert (scale.mean, scale.std, scale.centre) == (501.0, 1.0, (1.0, 1001.0))
    assert torch.equal(x - scale.middle(x), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    near = EventScale.of(x / 1000 + torch.tensor([[0.0, 0.0], [5.0, 5.0]]))
    assert near.centre is None
    assert near.middle(x) == near.mean
    assert EventScale.of(x.reshape(2, 1, 2)).centre is None
    assert EventScale.of(torch.ones(3, 2)).std == 1.0
    assert EventScale.of(torch.ones(0, 2)) == EventScale()


def test_units_of_each_channel_of_a_signal() -> None:
    """Events (2, 3) with the units of two channels, as a batch, with another axis in front, and flattened."""
    scale = EventScale(shift=(5.0,) * 3 + (-1.0,) * 3, factor=(2.0,) * 3 + (0.5,) * 3)
    x = torch.randn(4, 7, 2, 3, dtype=torch.float64)
    expected = x * torch.tensor([2.0, 0.5])[:, None] + torch.tensor([5.0, -1.0])[:, None]
    assert torch.allclose(scale.to_raw(x), expected)
    assert torch.allclose(scale.to_raw(x.flatten(2)), expected.flatten(2))
    assert torch.allclose(scale.from_raw(scale.to_raw(x[0])), x[0])
    assert scale.log_volume((2, 3)) == pytest.approx(0.0)


def test_units_of_each_coordinate_come_back_in_double_precision() -> None:
    scale = EventScale(shift=(2026.0, -1e6), factor=(1e-3, 250.0))
    raw = torch.tensor([[2026.0001, -1e6 + 1], [2025.9993, 3.0]], dtype=torch.float64)
    x = scale.from_raw(raw)
    assert x[0, 0] == pytest.approx(0.1)
    assert scale.to_raw(x.float()).dtype == torch.float64
    assert torch.allclose(scale.to_raw(x), raw, rtol=1e-14)
    assert scale.log_volume((2,)) == pytest.approx(math.log(1e-3) + math.log(250))
    assert EventScale(factor=2.0).log_volume((2, 3)) == pytest.approx(6 * math.log(2))
    with pytest.raises(DataError, match="bounds and a unit for each coordinate"):
        EventScale(low=0.0, factor=(1.0, 2.0))


def test_streamed_points_may_have_an_order_of_their_own() -> None:
    source = table(60)

    def shuffle(generator: torch.Generator) -> Tensor:
        return 10 * torch.randperm(6, generator=generator).repeat_interleave(10) + torch.arange(60) % 10

    data = StreamedDataset(x=source.x[:0], fetch=source.take, size=60, shuffle=shuffle)
    expected = shuffle(torch.Generator().manual_seed(1))
    assert torch.equal(data.order(torch.Generator().manual_seed(1)), expected)
    batches = data.batches(7, torch.Generator().manual_seed(1))
    assert [int(row) for batch in batches for row in batch.x[:, 0, 0]] == expected.tolist()
    free = replace(data, shuffle=None).order(torch.Generator().manual_seed(1))
    assert torch.equal(free, source.order(torch.Generator().manual_seed(1)))


def test_a_model_measures_the_points_of_two_to_the_25_numbers() -> None:
    assert measured_rows(10**9, (10, 100)) == 2**25 // 1000
    assert measured_rows(10**9, ()) == 2**25
    assert measured_rows(5, (3,)) == 5
    assert measured_rows(9, (2**26,)) == 1
