"""Points in several files: streamed by blocks they are as in one file, and what is wrong with a file names it."""

from __future__ import annotations

import json
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shard_files
import torch
from shard_files import COUNT, points, save_dataset, write_npy, write_parquet, write_tars
from warm_commands import FORKS

from scorefold.data import StreamedDataset
from scorefold.errors import ConfigError, DataError, ScorefoldError
from scorefold.interfaces import DataSource
from scorefold_standard.data.array import ArrayFile
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.stored import StoredBlock, StoredPoints, matching_files
from scorefold_toolkit.training.validation import batch_positions

SPLITS = ("train", "validation", "test")
COLUMNS = {"columns": ["a", "b", "c"]}


def source(path: Path, **fields: Any) -> ArrayFile:
    return ArrayFile(ArrayConfig.model_validate({"path": str(path), **fields}))


def everything(data: DataSource) -> dict[str, torch.Tensor]:
    """All points with their labels and conditions, in the order of the files."""
    parts = [next(data.load(split).batches(1000)) for split in SPLITS]
    order = torch.cat([part.index for part in parts]).argsort()  # type: ignore[misc]
    found = {"x": torch.cat([part.x for part in parts])}
    if parts[0].label is not None:
        found["label"] = torch.cat([part.label for part in parts])  # type: ignore[misc]
    if parts[0].condition is not None:
        found["condition"] = torch.cat([part.condition for part in parts])  # type: ignore[misc]
    return {name: value[order] for name, value in found.items()}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_npy(tmp_path)
    write_parquet(tmp_path)
    return tmp_path


@pytest.mark.parametrize("scale", [None, "table", "columns", "robust"])
@pytest.mark.parametrize("pattern", ["part-*.npy", "part-{0..3}.npy", "part-?.parquet"])
@pytest.mark.parametrize("memory", [0, 1024])
def test_shards_hold_the_points_splits_and_units_of_one_file(
    scale: str | None, pattern: str, memory: float, shards: Path
) -> None:
    np.save(shards / "whole.npy", points()[["a", "b", "c"]].to_numpy())
    whole = source(shards / "whole.npy", scale=scale)
    fields = COLUMNS if pattern.endswith("parquet") else {}
    data = source(shards / pattern, scale=scale, memory=memory, **fields)
    assert isinstance(data.load("train"), StreamedDataset) == (memory == 0)
    assert torch.equal(everything(data)["x"], everything(whole)["x"])
    for split in SPLITS:
        own, other = (next(each.load(split).batches(1000)).index for each in (data, whole))
        assert own is not None
        assert other is not None
        assert own.tolist() == other.tolist() if memory else sorted(own.tolist()) == sorted(other.tolist())
    assert data.event_scale.factor == pytest.approx(whole.event_scale.factor, rel=1e-12)
    assert data.event_scale.shift == pytest.approx(whole.event_scale.shift, rel=1e-12)


@pytest.mark.parametrize("memory", [0, 1024])
def test_labels_and_conditions_of_parquet_shards(memory: float, shards: Path) -> None:
    data = source(shards / "part-*.parquet", label="kind", condition=["angle"], memory=memory)
    found, frame = everything(data), points()
    assert data.event_shape == (3,)
    assert found["label"].tolist() == pd.Categorical(frame["kind"]).codes.tolist()
    assert torch.equal(found["condition"][:, 0], torch.tensor(frame["angle"].to_numpy()).float())
    assert torch.equal(found["x"], torch.tensor(frame[["a", "b", "c"]].to_numpy()).float())


def test_a_pass_over_a_split_reads_each_block_once_or_twice(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what the order by blocks is for: in a free order nearly every batch would read nearly every block."""
    train = source(shards / "part-*.parquet", memory=0, workers=0, **COLUMNS).load("train")
    assert isinstance(train, StreamedDataset)
    reads: list[StoredBlock] = []
    load = StoredPoints._block

    def counting(self: StoredPoints, number: int) -> Any:
        if number not in self._kept:
            reads.append(self._blocks[number])
        return load(self, number)

    monkeypatch.setattr(StoredPoints, "_block", counting)
    blocks = 4 + 1 + 6 + 3  # of 25 rows in files of 90, 10, 140 and 60
    for seed in range(3):
        reads.clear()
        rows = [batch.index for batch in train.batches(7, torch.Generator().manual_seed(seed))]
        assert torch.cat(rows).unique().numel() == len(train)  # type: ignore[arg-type]
        assert len(reads) <= blocks + 1
    reads.clear()
    free = replace(train, shuffle=None)
    assert len(list(free.batches(7, torch.Generator().manual_seed(0)))) == 35
    assert len(reads) > 5 * blocks


@pytest.mark.parametrize("together", [1, 2, 5, 9])
def test_rows_of_some_blocks_at_a_time_come_together(together: int) -> None:
    blocks = [StoredBlock(Path("x"), start, 10) for start in range(0, 60, 10)]
    stored = StoredPoints(lambda block: np.zeros((block.rows, 1)), blocks, together * 80 / 2**19)
    rows = torch.arange(60) * 7 % 60
    orders = [stored.shuffle(rows, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert orders[0].sort().values.tolist() == list(range(60))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    for order in orders:
        found = [sorted(set((part // 10).tolist())) for part in rows[order].split(10 * together)]
        assert [len(part) for part in found] == [min(together, 6 - first) for first in range(0, 6, together)]
        assert sorted(number for part in found for number in part) == list(range(6))
    if together > 1:  # within a window the rows of its blocks are mixed
        assert len(set((rows[orders[0]][:10] // 10).tolist())) > 1
    assert stored.shuffle(rows[:0], torch.Generator()).tolist() == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_depend_on_seed_and_step_alone(workers: int, shards: Path) -> None:
    def batches(start: int, workers: int, seed: int = 5) -> list[torch.Tensor]:
        train = source(shards / "part-*.parquet", memory=0, workers=workers, **COLUMNS).load("train")
        rows = batch_positions(train, 16, seed=seed, phase="fit", start=start, rank=0, processes=1)
        return [batch.x for batch, _ in zip(train.takes(rows), range(start, 40), strict=False)]

    whole = batches(0, 0)
    for start in (0, 17, 31):
        assert all(map(torch.equal, batches(start, workers), whole[start:]))
    assert not torch.equal(batches(0, workers, seed=6)[0], whole[0])


@pytest.mark.parametrize("case", ["npy", "parquet", "tar"])
def test_a_killed_training_on_shards_goes_on_to_the_same_bits(case: str, tmp_path: Path) -> None:
    {"npy": write_npy, "parquet": write_parquet, "tar": write_tars}[case](tmp_path)
    kept = tmp_path / "kept"
    process = FORKS.Process(target=shard_files.train, args=(case, tmp_path, kept), kwargs={"killed": True})
    process.start()
    process.join()
    assert process.exitcode == -9
    assert [path.name for path in (kept / "fit").iterdir()] == ["2"]  # the second checkpoint, of step 14
    resumed = shard_files.train(case, tmp_path, kept).state_dict()
    whole = shard_files.train(case, tmp_path, None).state_dict()
    assert {name for name, value in whole.items() if not torch.equal(value, resumed[name])} == set()


def test_the_fingerprint_follows_each_shard_and_not_its_time(shards: Path) -> None:
    def mark() -> str:
        return source(shards / "part-*.npy").fingerprint()

    before = mark()
    (shards / "part-2.npy").touch()
    assert mark() == before
    values = np.load(shards / "part-2.npy")
    values[7, 1] += 1
    np.save(shards / "part-2.npy", values)
    assert (changed := mark()) != before
    (shards / "part-2.npy").rename(shards / "part-5.npy")
    assert mark() not in (before, changed)


def test_the_order_is_that_of_names_as_text(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        np.save(tmp_path / f"part-{number}.npy", np.full((20, 2), float(number)))
    x = everything(source(tmp_path / "part-*.npy"))["x"]
    assert x[::20, 0].tolist() == [1.0, 10.0, 2.0]
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "link.npy").symlink_to(tmp_path / "part-2.npy")
    assert [file.name for file in matching_files(str(tmp_path / "*" / "*.npy"), "points")] == ["link.npy"]
    assert everything(source(tmp_path / "below" / "*.npy"))["x"].unique().tolist() == [2.0]


def refuse(path: Path, message: str, error: type[ScorefoldError] = DataError, **fields: Any) -> None:
    with pytest.raises(error, match=message):
        source(path, **fields)


def test_files_that_are_missing_or_there_twice_are_named(shards: Path) -> None:
    refuse(shards / "other-*.npy", r"no file is called .*other-\*\.npy")
    refuse(shards / "part-{0..5}.npy", r"part-4\.npy does not exist")
    refuse(shards / "part-{5..2}.npy", "counts no numbers")
    refuse(shards / "part-{0..999999999999}.npy", r"part-4\.npy does not exist")
    refuse(shards, "is a folder; expected a file of points")
    refuse(shards / "**" / "*.npy", r"\*\* in .* would look in all folders below")
    refuse(shards / "part-*", r"files of several formats, part-0\.npy and part-0\.parquet")
    pd.DataFrame({"a": [1.0] * 20}).to_csv(shards / "x-1.csv", index=False)
    pd.DataFrame({"a": [1.0] * 20}).to_csv(shards / "x-2.csv", index=False)
    refuse(shards / "x-*.csv", r"names 2 \.csv files, of which each is read as a whole")
    (shards / "part-6.npy").symlink_to(shards / "part-6.npy")
    refuse(shards / "part-*.npy", r"part-6\.npy is a link to nothing")
    (shards / "part-6.npy").unlink()
    (shards / "part-6.npy").symlink_to(shards / "part-1.npy")
    refuse(shards / "part-*.npy", r"part-1\.npy and .*part-6\.npy are one file under two names")
    (shards / "part-6.npy").unlink()
    (shards / "part-6.npy").mkdir()
    refuse(shards / "part-*.npy", r"part-6\.npy is a folder")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((9, 4)), r"part-7\.npy holds an array of float64 of shape \(9, 4\); expected float64 .*\(N, 3\)"),
        (np.zeros((9, 3), np.float32), r"part-7\.npy holds an array of float32 of shape"),
        (np.zeros((0, 3)), r"part-7\.npy holds an array of float64 of shape \(0, 3\)"),
        (np.full((9, 3), np.nan), r"in rows 300 \(row 0 of .*part-7\.npy\), 301 \(row 1 "),
    ],
)
def test_an_npy_shard_unlike_the_first_is_named(value: np.ndarray, message: str, shards: Path) -> None:
    np.save(shards / "part-7.npy", value)
    refuse(shards / "part-*.npy", message)


def test_a_first_npy_shard_without_rows_is_named(shards: Path) -> None:
    for value in (np.zeros((0, 3)), np.zeros(())):
        np.save(shards / "part-.npy", value)
        refuse(shards / "part-*.npy", r"part-\.npy holds an array of float64 of shape .*; expected .* with rows")


def test_shards_that_are_cut_off_or_damaged_are_named(shards: Path) -> None:
    for name in ("part-2.npy", "part-2.parquet"):
        file = shards / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        fields = COLUMNS if name.endswith("parquet") else {}
        refuse(shards / f"part-*{file.suffix}", rf"part-2\{file.suffix} can't be read as", **fields)
        file.write_bytes(whole)
    file = shards / "part-1.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:4] + bytes(200) + whole[204:])  # a row group that its footer still names
    refuse(shards / "part-*.parquet", r"part-1\.parquet can't be read as a table", **COLUMNS)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (points().drop(columns="b"), r"part-8\.parquet has other columns than .*part-0\.parquet: no b"),
        (points().assign(b=1), "other columns than .*: b of int64, where that has b of double"),
        (points().assign(z=1.0), "other columns than .*: z of double, where that has no z"),
        (points()[["b", "a", "c", "angle", "kind"]], "has the columns of .* in another order"),
    ],
)
def test_a_parquet_shard_of_other_columns_is_named(frame: pd.DataFrame, message: str, shards: Path) -> None:
    frame.to_parquet(shards / "part-8.parquet", index=False)
    refuse(shards / "part-*.parquet", message, **COLUMNS)


def test_columns_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    column = pa.array([1.0] * 20)
    parquet.write_table(pa.table([column, column], names=["a", "a"]), tmp_path / "twice.parquet")
    refuse(tmp_path / "twice.parquet", "has 2 columns called 'a'; expected a name for each")
    lists = pa.table({"a": column, "kind": [[1.0]] * 20})
    parquet.write_table(lists, tmp_path / "lists.parquet")
    refuse(tmp_path / "lists.parquet", "column 'kind' of .* holds list.*; expected one number or text", label="kind")
    own = lists.select(["a"]).cast(pa.schema([pa.field("a", pa.float64(), nullable=False)]))
    parquet.write_table(own, tmp_path / "part-0.parquet")
    parquet.write_table(lists.select(["a"]), tmp_path / "part-1.parquet")  # which differs in what it allows alone
    assert len(everything(source(tmp_path / "part-*.parquet"))["x"]) == 40


def test_columns_of_long_texts_are_not_read_whole(tmp_path: Path) -> None:
    frame = points().assign(text="a" * 10_000)
    frame.to_parquet(tmp_path / "x.parquet", index=False)
    summary = source(tmp_path / "x.parquet", memory=1, columns=["a", "b", "c"]).summary()
    assert [column.name for column in summary.columns] == ["a", "b", "c"]
    summary = source(tmp_path / "x.parquet", columns=["a", "b", "c"]).summary()
    assert [column.name for column in summary.columns] == ["a", "b", "c", "angle", "kind", "text"]


def test_a_shard_that_changes_after_it_was_opened_is_named(shards: Path) -> None:
    train = source(shards / "part-*.npy", memory=0, workers=0).load("train")
    values = np.load(shards / "part-3.npy")
    for written in (np.zeros((5, 3)), values + 1):
        np.save(shards / "part-3.npy", written)
        with pytest.raises(DataError, match=r"part-3\.npy was written to since it was opened"):
            list(train.batches(10))
    (shards / "part-3.npy").unlink()
    with pytest.raises(DataError, match=r"part-3\.npy is gone since it was opened"):
        list(train.batches(10))


def test_row_groups_larger_than_memory_are_a_warning(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(200_000, 8)), columns=list("abcdefgh"))
    frame.to_parquet(tmp_path / "x.parquet")
    (warning, *_) = source(tmp_path / "x.parquet", memory=4).data_warnings()
    assert "blocks of 12 MiB, two of them at once" in warning
    assert "set memory: 25" in warning
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=10_000)
    assert not any("blocks of" in text for text in source(tmp_path / "x.parquet", memory=4).data_warnings())


def test_a_saved_dataset_is_read_by_its_batches(tmp_path: Path) -> None:
    frame = points()
    save_dataset(tmp_path / "saved", {name: frame[name].tolist() for name in frame}, {})
    data = source(tmp_path / "saved", label="kind", condition=["angle"], memory=0)
    found = everything(data)
    assert torch.equal(found["x"], torch.tensor(frame[["a", "b", "c"]].to_numpy()).float())
    assert found["label"].tolist() == pd.Categorical(frame["kind"]).codes.tolist()
    assert isinstance(data.load("train"), StreamedDataset)
    mark = data.fingerprint()
    (tmp_path / "saved" / "cache-1.arrow").touch()  # which datasets leaves there
    assert data.fingerprint() == mark

    events = np.random.default_rng(0).integers(0, 9, (60, 2, 3))
    save_dataset(tmp_path / "nested", {"events": events.tolist(), "label": list(range(60))}, {})
    nested = source(tmp_path / "nested", label="label")
    assert nested.event_shape == (2, 3)
    assert torch.equal(everything(nested)["x"], torch.tensor(events).float())


def test_saved_datasets_that_are_not_whole_are_named(tmp_path: Path) -> None:
    save_dataset(tmp_path / "saved", {"a": [0.0, 1.0] * 30, "b": [[1.0] * (1 + row % 2) for row in range(60)]}, {})
    refuse(tmp_path / "saved", "column 'b' .* holds lists of the lengths 1, 2", columns=["b"])
    refuse(tmp_path / "saved", "column 'b' .* isn't numeric", columns=["a", "b"])
    refuse(tmp_path / "saved", "'key' means nothing for a datasets folder", ConfigError, key="a")
    second = tmp_path / "saved" / "data-00001-of-00002.arrow"
    whole = second.read_bytes()
    for cut in (8, len(whole) // 2):
        second.write_bytes(whole[:-cut])
        refuse(tmp_path / "saved", r"data-00001-of-00002\.arrow can't be read as a table", columns=["a"])
    second.unlink()
    refuse(tmp_path / "saved", r"data-00001-of-00002\.arrow is missing; .*state\.json names it")
    for damaged in ("{}", "[]", '{"_data_files": [3]}'):
        (tmp_path / "saved" / "state.json").write_text(damaged)
        refuse(tmp_path / "saved", r"state\.json lists no files")
    for name in ("train", "test"):
        (tmp_path / "many" / name).mkdir(parents=True)
        (tmp_path / "many" / name / "state.json").touch()
    (tmp_path / "many" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    refuse(tmp_path / "many", "holds the splits test, train, each in a folder of its own")


@pytest.mark.needs("zarr")
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((10**9, 10**9), (5, 4)),
        ((10**17, 10), (5, 10)),
        ((10**18, 1), (10**18, 1)),
        ((3, 10**17), (1, 10**17)),
        ((10**16, 100), (10**10, 100)),
        ((10**9, 4), (5, 4)),
        ((10**8, 4), (5, 4)),
    ],
)
def test_a_zarr_array_of_a_size_that_can_not_be_is_refused(tmp_path: Path, shape: Any, chunks: Any) -> None:
    import zarr

    folder = tmp_path / "x.zarr"
    zarr.open_array(folder, mode="w", shape=(10, 4), chunks=(5, 4), dtype="f4")[:] = 1.0
    facts = json.loads((folder / "zarr.json").read_text())
    facts["shape"], facts["chunk_grid"]["configuration"]["chunk_shape"] = shape, chunks
    (folder / "zarr.json").write_text(json.dumps(facts))
    refuse(folder, rf"x\.zarr claims an array of the shape {re.escape(str(shape))} in [0-9,]+ chunks of")


@pytest.mark.needs("zarr")
def test_zarr_arrays_and_groups(tmp_path: Path) -> None:
    import zarr

    x = points()[["a", "b", "c"]].to_numpy()
    zarr.open_array(tmp_path / "x.zarr", mode="w", shape=x.shape, chunks=(25, 2), dtype="f8")[:] = x
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("x", data=x, chunks=(25, 3))
    group.create_array("y", data=np.arange(COUNT) % 4)
    for memory in (0, 1024):
        assert torch.equal(everything(source(tmp_path / "x.zarr", memory=memory))["x"], torch.tensor(x).float())
        found = everything(source(tmp_path / "g.zarr", key="x", label="y", memory=memory))
        assert torch.equal(found["x"], torch.tensor(x).float())
        assert found["label"].tolist() == [row % 4 for row in range(COUNT)]
    refuse(tmp_path / "g.zarr", "holds the arrays .*; say which to read")
    refuse(tmp_path / "g.zarr", "has no array 'q'", key="q")
    refuse(tmp_path / "x.zarr", "'label' names an array of a Zarr group", ConfigError, label="y")
    data = source(tmp_path / "x.zarr")
    mark = data.fingerprint()
    (tmp_path / "x.zarr" / "c" / "3" / "0").unlink()
    assert data.fingerprint() != mark
    assert "1 of 24 chunks of" in source(tmp_path / "x.zarr").data_warnings()[0]
    for name, key in (("y", "label"), ("x", "rows 0 to ")):
        chunk = next(path for path in (tmp_path / "g.zarr" / name / "c").rglob("*") if path.is_file())
        chunk.write_bytes(b"damaged")
        refuse(tmp_path / "g.zarr", rf"{'' if name == 'y' else key}.*g\.zarr/{name} can't be read", key="x", label="y")
        chunk.unlink()


def test_zarr_without_its_package_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "zarr.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ScorefoldError, match=r"pip install 'scorefold-standard\[zarr\]'"):
        source(tmp_path / "x.zarr")


@pytest.mark.parametrize("pattern", ["part-*.npy", "part-*.parquet"])
@pytest.mark.parametrize("memory", [0.0, 1024.0])
def test_a_source_that_is_sent_opens_its_files_again(memory: float, pattern: str, shards: Path) -> None:
    """As to the processes of torchrun, with the splits of the one that sends it."""
    config = ArrayConfig(path=str(shards / pattern), memory=memory, **(COLUMNS if "parquet" in pattern else {}))
    made = ArrayFile(config, generator=torch.Generator().manual_seed(7))
    sent = pickle.loads(pickle.dumps(made))
    for split in ("train", "test"):
        assert torch.equal(made.load(split).tensor(), sent.load(split).tensor())
    assert sent.event_scale == made.event_scale


@pytest.mark.parametrize("kind", ["int64", "uint8", "bool"])
def test_a_missing_number_in_a_list_is_missing_wherever_it_stands(kind: str, tmp_path: Path) -> None:
    rows = [[n % 2, 1, 0] for n in range(200)]
    rows[150][1] = None  # type: ignore[call-overload]
    type_ = pa.list_(pa.bool_() if kind == "bool" else getattr(pa, kind)())
    rows_given = [[None if v is None else bool(v) for v in row] for row in rows] if kind == "bool" else rows
    pq.write_table(pa.table({"x": pa.array(rows_given, type_)}), tmp_path / "x.parquet", row_group_size=100)
    config = {"path": str(tmp_path / "x.parquet"), "fractions": (0, 0, 1)}
    with pytest.raises(DataError, match="row 150"):
        ArrayFile(ArrayConfig.model_validate(config))
    test = ArrayFile(ArrayConfig.model_validate({**config, "missing": "drop"})).load("test")
    assert len(test) == 199
    assert set(test.tensor().unique().tolist()) == {0.0, 1.0}
