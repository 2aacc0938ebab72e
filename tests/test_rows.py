"""Rows of what the user gave are found again: in every kind of file, in any order, with rows left out."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from latent_toys import Noisy
from numpy.typing import NDArray
from PIL import Image
from shard_files import png, save_dataset
from verb_toys import Posterior

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource, TensorSource
from scorefold.stage import StageContext
from scorefold_audit.audit import audit
from scorefold_audit.config import AuditOptions
from scorefold_iddiff.pointwise.probe import take
from scorefold_registry import Host
from scorefold_registry.cli.main import main
from scorefold_registry.components.values import load_value, save_value
from scorefold_registry.python import estimate, load_data
from scorefold_toolkit.data.splits import row_text
from scorefold_verbs.assess import assess
from scorefold_verbs.config import AssessOptions, EditOptions, InterpolateOptions, ReconstructOptions, TraverseOptions
from scorefold_verbs.inputs import ends_of
from scorefold_verbs.latents.reconstruct import reconstruct
from scorefold_verbs.latents.traverse import edit, traverse

pytestmark = pytest.mark.usefixtures("undrawn")

Points = NDArray[np.float64]
NAMED = [f"patient {number}" for number in range(48)]


def points() -> Points:
    return np.random.default_rng(0).standard_normal((48, 3)).round(6)


def numpy_file(folder: Path, x: Points) -> dict[str, Any]:
    np.save(folder / "x.npy", x)
    return {"path": folder / "x.npy"}


def archive(folder: Path, x: Points) -> dict[str, Any]:
    np.savez(folder / "x.npz", x=x)
    return {"path": folder / "x.npz"}


def table(folder: Path, x: Points) -> dict[str, Any]:
    pd.DataFrame(x, columns=list("abc")).to_csv(folder / "x.csv", index=False)
    return {"path": folder / "x.csv"}


def shards(folder: Path, x: Points) -> dict[str, Any]:
    for number, part in enumerate(np.split(x, [11, 30])):
        np.save(folder / f"{number}.npy", part)
    return {"path": folder / "*.npy"}


def streamed(folder: Path, x: Points) -> dict[str, Any]:
    return {**shards(folder, x), "memory": 0}


def tabs(folder: Path, x: Points) -> dict[str, Any]:
    pd.DataFrame(x, columns=list("abc")).to_csv(folder / "x.tsv", index=False, sep="\t")
    return {"path": folder / "x.tsv"}


def parquet(folder: Path, x: Points) -> dict[str, Any]:
    pd.DataFrame(x, columns=list("abc")).to_parquet(folder / "x.parquet", index=False)
    return {"path": folder / "x.parquet"}


def streamed_parquet(folder: Path, x: Points) -> dict[str, Any]:
    for number, part in enumerate(np.split(x, [11, 30])):
        frame = pd.DataFrame(part, columns=list("abc"))
        frame.to_parquet(folder / f"{number}.parquet", index=False, row_group_size=7)
    return {"path": folder / "*.parquet", "memory": 0}


def saved_dataset(folder: Path, x: Points) -> dict[str, Any]:
    save_dataset(folder / "saved", dict(zip("abc", x.T, strict=True)), {})
    return {"path": folder / "saved"}


def zarr_array(folder: Path, x: Points) -> dict[str, Any]:
    import zarr

    zarr.create_array(str(folder / "x.zarr"), data=x, chunks=(7, 3))
    return {"path": folder / "x.zarr", "memory": 0}


KINDS: dict[str, Callable[[Path, Points], dict[str, Any]]] = {
    made.__name__: made
    for made in (
        *(numpy_file, archive, table, tabs, shards, streamed),
        *(parquet, streamed_parquet, saved_dataset, zarr_array),
    )
}
SEVERAL_FILES = ("shards", "streamed", "streamed_parquet")
every_kind = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.needs("zarr") if "zarr" in kind else ()) for kind in KINDS]
)


@every_kind
def test_an_answer_for_each_row_stands_in_its_row(tmp_path: Path, kind: str) -> None:
    x, order = points(), np.random.default_rng(1).permutation(48)
    expected = estimate("estimator:mle", x, n_neighbors=6, progress=False).value.pointwise
    assert expected.shape == (48,)
    (tmp_path / "other").mkdir()
    read = KINDS[kind](tmp_path / "other", x[order])
    source = load_data(str(read.pop("path")), splits=(0, 0, 1), progress=False, **read)
    found = estimate("estimator:mle", source, n_neighbors=6, progress=False).value.pointwise
    assert torch.allclose(found, expected[torch.from_numpy(order)])


def test_rows_of_other_splits_and_rows_that_were_left_out_have_no_answer() -> None:
    x = points()
    x[[3, 40], [0, 2]] = np.nan
    stage = load_data(x, missing="drop", splits=(0.5, 0, 0.5), progress=False)
    found = estimate("estimator:mle", stage, n_neighbors=6, progress=False).value
    test = stage.value.load("test").index
    assert found.pointwise.shape == (48,)
    assert sorted(test.tolist()) == found.pointwise.isfinite().nonzero()[:, 0].tolist()
    assert torch.equal(found.diagnostics["row"], test)
    assert not torch.isin(torch.tensor([3, 40]), test).any()
    whole = estimate("estimator:mle", x[test.numpy()], n_neighbors=6, progress=False).value.pointwise
    assert torch.allclose(found.pointwise[test], whole)


def test_an_index_of_pandas_names_the_rows() -> None:
    frame = pd.DataFrame(points(), columns=list("abc"), index=NAMED)
    source = load_data(frame.iloc[::-1], progress=False).value
    assert list(source.rows) == NAMED[::-1]
    assert source.event_shape == (3,)
    frame.index = pd.MultiIndex.from_product([range(24), ["a", "b"]])
    assert list(load_data(frame, progress=False).value.rows)[:3] == ["0 a", "0 b", "1 a"]
    assert load_data(frame["a"], progress=False).value.event_shape == (1,)
    named = load_data(frame.assign(who=NAMED), names="who", progress=False).value
    assert (list(named.rows), named.event_shape) == (NAMED, (3,))


def test_a_column_names_the_rows_of_a_table(host: Host, tmp_path: Path) -> None:
    frame = pd.DataFrame(points(), columns=list("abc")).assign(who=NAMED)
    frame.to_csv(tmp_path / "x.csv", index=False)
    source = host.create("data:array", {"path": tmp_path / "x.csv", "names": "who"})
    assert (list(source.rows), source.event_shape) == (NAMED, (3,))
    assert {column.name: column.use for column in source.summary().columns}["who"] == "names of the rows"
    with pytest.raises(DataError, match="no column 'whom'"):
        host.create("data:array", {"path": tmp_path / "x.csv", "names": "whom"})


def test_rows_of_several_files_are_named_by_their_file(host: Host, tmp_path: Path) -> None:
    source = host.create("data:array", {**streamed(tmp_path, points()), "fractions": [0, 0, 1]})
    assert source.rows[12] == f"row 1 of {tmp_path / '1.npy'}"
    dataset = source.load("test")
    assert sorted(dataset.index.tolist()) == list(range(48))
    few = torch.tensor([5, 0, 47])
    assert torch.equal(dataset.take(few).index, dataset.index[few])


def pictures(folder: Path, order: NDArray[np.int64]) -> None:
    """Images of one shade each, called so that their order by name is ``order``."""
    for place, shade in enumerate(order.tolist()):
        path = folder / f"{place % 2}" / f"{place:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), color=5 * shade).save(path)


def test_images_are_named_by_their_paths(host: Host, tmp_path: Path) -> None:
    pictures(tmp_path, np.arange(48))
    source = host.create("data:images", {"root": tmp_path, "grey": True, "range": [0, 255]})
    train = source.load("train")
    for row, image in zip(train.index.tolist(), train.x, strict=True):
        assert int(image[0, 0, 0]) == 5 * int(Path(source.rows[row]).stem)
    ends = ends_of(train, source, InterpolateOptions(between=(("1/07.png", 0), ("0/40.png", "1/07.png"))), context())
    assert ends.x[:, 0, 0, 0].tolist() == [35, 200, 0, 35]
    with pytest.raises(DataError, match=r"names row '2/1.png'; the data have the rows 0 to 47, the first of them 0/00"):
        ends_of(train, source, InterpolateOptions(between=(("2/1.png", 0),)), context())


def test_images_of_tar_files_are_named_by_their_samples(host: Host, tmp_path: Path) -> None:
    for name, shades in (("a.tar", range(20)), ("b.tar", range(20, 48))):
        with tarfile.open(tmp_path / name, "w") as tar:
            for shade in shades:
                content = io.BytesIO()
                Image.new("L", (4, 4), color=5 * shade).save(content, "PNG")
                member = tarfile.TarInfo(f"{shade:02d}.png")
                member.size = len(content.getvalue())
                content.seek(0)
                tar.addfile(member, content)
    source = host.create("data:images", {"root": tmp_path / "*.tar", "grey": True, "memory": 0})
    assert (source.rows[0], source.rows[20]) == ("00.png of a.tar", "20.png of b.tar")
    test = source.load("test")
    shades = test.take(torch.arange(len(test))).x.mean((1, 2, 3)) * 255 / 5
    assert torch.equal(shades.round().long(), test.index)


def flat(shade: int) -> NDArray[np.uint8]:
    return np.full((4, 4), 5 * shade, dtype=np.uint8)


def halves(folder: Path, order: NDArray[np.int64]) -> dict[str, Any]:
    for place, shade in enumerate(order.tolist()):
        both = np.concatenate([flat(shade) // 2, flat(shade)], 1)
        Image.fromarray(both).save(folder / f"{place:02d}.png")
    return {"use": "data:image-pairs", "root": folder}


def partners(folder: Path, order: NDArray[np.int64]) -> dict[str, Any]:
    for place, shade in enumerate(order.tolist()):
        for side, image in (("A", flat(shade) // 2), ("B", flat(shade))):
            (folder / side).mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / side / f"{place:02d}.png")
    return {"use": "data:image-pairs", "root": folder, "layout": "folders"}


def saved_images(folder: Path, order: NDArray[np.int64]) -> dict[str, Any]:
    encoded = [{"bytes": png(flat(shade)), "path": None} for shade in order.tolist()]
    save_dataset(folder / "saved", {"image": encoded}, {"image": {"_type": "Image"}})
    return {"use": "data:images", "root": folder / "saved"}


def damaged(folder: Path, order: NDArray[np.int64]) -> dict[str, Any]:
    """Images of which two can't be read and a part is used."""
    pictures(folder, order)
    for place in (4, 31):
        (folder / f"{place % 2}" / f"{place:02d}.png").write_bytes(b"damaged")
    return {"use": "data:images", "root": folder, "damaged": "skip", "limit": 40}


def one_class(folder: Path, order: NDArray[np.int64]) -> dict[str, Any]:
    pictures(folder, order)
    return {"use": "data:images", "root": folder, "classes": ["1"]}


def published(folder: Path, order: NDArray[np.int64]) -> dict[str, Any]:
    """MNIST's files: 40 images for training and 8 for tests."""
    for name, part in (("train", order[:40]), ("t10k", order[40:])):
        shades = np.repeat(5 * part, 28 * 28).astype(np.uint8)
        for kind, shape, values in (
            ("images-idx3", (len(part), 28, 28), shades),
            ("labels-idx1", (len(part),), part % 10),
        ):
            head = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + values.astype(np.uint8).tobytes())
    return {"use": "data:mnist", "root": folder}


@pytest.mark.parametrize("memory", [0, 1024])
@pytest.mark.parametrize("made", [halves, partners, saved_images, damaged, one_class, published])
def test_rows_of_images_are_those_of_their_files(
    host: Host, tmp_path: Path, made: Callable[[Path, NDArray[np.int64]], dict[str, Any]], memory: float
) -> None:
    order = np.random.default_rng(6).permutation(48)
    fields = made(tmp_path, order)
    use, size = fields.pop("use"), {} if made in (saved_images, published) else {"size": 4}
    streams = {} if made is published else {"grey": True, "memory": memory}
    source = host.create(use, {**fields, **size, **streams, "range": [0, 255]})
    seen = 0
    for split in ("train", "validation", "test"):
        events = source.load(split)
        events = events.take(torch.arange(len(events)))
        names = [source.rows[row] for row in events.index.tolist()]
        # A folder's name ends in the place of its file; other kinds count their images.
        places = [int(Path(name).stem) if isinstance(name, str) else int(name) for name in names]
        if made is one_class:
            assert {Path(name).parent.name for name in names} == {"1"}
        assert (events.x.mean((1, 2, 3)) / 5).round().tolist() == order[places].tolist()
        seen += len(names)
    assert seen == {damaged: 40, one_class: 24}.get(made, 48)


def context(split: str | None = None) -> StageContext:
    return StageContext("rows", split=split)


def test_paths_go_between_rows_of_any_split() -> None:
    x = points()
    source = load_data(x, splits=(0.5, 0, 0.5), progress=False).value
    test = source.load("test")
    ends = ends_of(test, source, InterpolateOptions(between=((7, 12), (30, 7))), context())
    assert ends.index.tolist() == [7, 30, 12, 7]
    assert np.allclose(ends.x.numpy(), x[[7, 30, 12, 7]], atol=1e-6)
    x[7] = np.nan
    source = load_data(x, missing="drop", progress=False).value
    with pytest.raises(DataError, match="row 7, which was left out"):
        ends_of(source.load("test"), source, InterpolateOptions(between=((7, 12),)), context())


def test_pairs_of_equal_points_alone_are_refused_before_they_are_solved() -> None:
    x = points()
    x[9] = x[7]
    source = load_data(x, splits=(0.5, 0, 0.5), progress=False).value
    test = source.load("test")
    for between, given in ((((7, 7),), r"\[7, 7\]"), (((7, 9), (12, 12)), r"\[7, 9\], \[12, 12\]")):
        with pytest.raises(ConfigError, match=f"between names {given}; expected a pair of two different points"):
            ends_of(test, source, InterpolateOptions(between=between), context())
    ends = ends_of(test, source, InterpolateOptions(between=((7, 7), (7, 12))), context())
    assert ends.index.tolist() == [7, 7, 7, 12]


def test_gaps_in_an_array_are_refused_with_the_call_that_leaves_them_out() -> None:
    x = points()
    x[7] = np.nan
    with pytest.raises(DataError, match="the array holds NaN") as refused:
        estimate("estimator:mle", x, progress=False)
    assert str(refused.value.hint).endswith("(in Python: load_data(data, missing='drop', splits=(0, 0, 1)))")
    with pytest.raises(DataError, match="the array holds NaN") as refused:
        load_data(x, progress=False)
    assert str(refused.value.hint).endswith("(in Python: load_data(data, missing='drop'))")


def labelled(order: NDArray[np.int64]) -> tuple[Points, DataSource]:
    """Points that are split by the seed, of two classes and with names, in an order; row 5 is left out."""
    x = points()
    classes = (x[:, 0] > 0).astype(int)
    x[5] = np.nan
    frame = pd.DataFrame(x, columns=list("abc"), index=NAMED).assign(kind=classes, d=x[:, 0], e=x[:, 1], f=x[:, 2])
    frame = frame.iloc[order]
    given = {"columns": list("abc"), "condition": list("def"), "label": "kind", "missing": "drop"}
    source = load_data(frame, splits=(0.5, 0, 0.5), progress=False, **given).value
    return frame[list("abc")].to_numpy(), source


CODE = Noisy((3,), (1.0, 1.0, 1.0), (1e-3, 1e-3, 1e-3))


@pytest.mark.parametrize("seed", [0, 1])
def test_decoded_events_stand_in_the_order_of_the_rows(seed: int) -> None:
    x, source = labelled(np.random.default_rng(seed).permutation(48))
    given, double = {"data": source}, StageContext("rows", dtype=torch.float64)
    test = source.load("test").index
    known = torch.tensor(x)
    arrays = reconstruct(CODE, given, ReconstructOptions(), double).arrays
    assert torch.equal(arrays["rows"], test.sort().values)
    assert len(arrays["L2"]) == len(test)
    assert float((arrays["reconstructions"] - known[arrays["rows"]]).abs().max()) < 0.05
    few = traverse(CODE, given, TraverseOptions(rows="points", count=6, times=3), double)
    assert torch.equal(few.arrays["rows"], test[:6].sort().values)
    assert torch.allclose(few.drawn.before, known[few.arrays["rows"]])
    names = list(source.rows)
    assert few.drawn.rows == tuple(names[row] for row in few.arrays["rows"].tolist())
    changed = edit(CODE, given, EditOptions(label=1, points=8, strengths=(0.0,)), double)
    edited = changed.arrays["rows"]
    assert torch.equal(edited, edited.sort().values)
    assert torch.allclose(changed.arrays["edits"][:, 0], known[edited])
    sides = ["1" if first > 0 else "not 1" for first in known[edited, 0].tolist()]
    assert changed.drawn.rows == tuple(
        f"{names[row]}: {side}" for row, side in zip(edited.tolist(), sides, strict=True)
    )


def test_a_row_of_any_split_is_moved_along_the_axes_of_a_code() -> None:
    x, source = labelled(np.arange(48))
    double = StageContext("rows", dtype=torch.float64)
    train, first = source.load("train").index.tolist(), int(source.load("test").index[0])
    for asked, row in ((train[0], train[0]), (NAMED[train[1]], train[1]), (None, first)):
        moved = traverse(CODE, {"data": source}, TraverseOptions(point=asked, times=3), double)
        assert moved.arrays["rows"].tolist() == [row] * 3
        assert np.allclose(moved.drawn.before.numpy(), x[[row] * 3])
    with pytest.raises(DataError, match="point names patient 5, which was left out"):
        traverse(CODE, {"data": source}, TraverseOptions(point=5), double)


def test_draws_stand_in_the_order_of_the_rows() -> None:
    x, source = labelled(np.random.default_rng(2).permutation(48))
    model = Posterior((3,), width=0.05, spec=TensorSpec((3,))).double()
    options = AssessOptions(n=2, steps=40, shown=7)
    found = assess(model, {"data": source}, options, StageContext("rows", dtype=torch.float64)).arrays
    test = source.load("test").index
    assert torch.equal(found["rows"], test.sort().values)
    assert len(found["places"]) == len(found["energy score"]) == len(test)
    assert torch.equal(found["rows of draws"], test[:7].sort().values)
    assert np.allclose(found["draws"].mean(1).numpy(), x[found["rows of draws"].numpy()], atol=0.5)


def test_values_that_are_not_finite_are_named_by_their_row(host: Host) -> None:
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[11, 1] = torch.inf
    shuffled = Dataset(x, index=torch.arange(40) + 200)
    with pytest.raises(DataError, match="NaN or infinite, the first in row 211"):
        host.create("estimator:mle").estimate(shuffled)
    with pytest.raises(DataError, match="not finite, the first in row 211"):
        take(Posterior((3,)).double(), shuffled, torch.arange(40))


QUICK = AuditOptions(permutations=99, quality_points=20, membership_points=20, n=200)


@every_kind
def test_an_audit_names_the_rows_that_are_copied(host: Host, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(3)
    train, held_out, samples = (rng.standard_normal((160, 3)) for _ in range(3))
    copies = {int(sample): int(row) for sample, row in zip(*(rng.permutation(160)[:40] for _ in "ab"), strict=True)}
    for sample, row in copies.items():
        samples[sample] = train[row]
    sources = {}
    for name, x in (("train", train), ("held-out", held_out), ("samples", samples)):
        (tmp_path / name).mkdir()
        fractions = [1, 0, 0] if name == "train" else [0, 0, 1]
        sources[name] = host.create("data:array", {**KINDS[kind](tmp_path / name, x), "fractions": fractions})
    inputs = {"data": sources["train"], "held_out": sources["held-out"], "points": sources["held-out"]}
    outcome = audit(sources["samples"], inputs, QUICK, context())
    (listed,) = outcome.result["audit"]["copies"]
    found = {row["sample"]: row["training"] for row in listed["nearest"] if row["named"]}
    assert copies.items() <= found.items()
    assert len(found) < 50
    nearest = outcome.arrays["nearest training point (columns)"]
    assert all(nearest[sample] == row for sample, row in copies.items())
    assert float(outcome.arrays["distance (columns)"][list(copies)].max()) == 0
    if kind in SEVERAL_FILES:
        sample, row = next(iter(copies.items()))
        named = next(each for each in listed["nearest"] if each["sample"] == sample)
        assert named["training_name"] == sources["train"].rows[row]
    asked = outcome.result["audit"]["points"]
    assert [row["point"] for row in asked] == list(range(160))


def test_an_audit_names_training_rows_that_repeat_or_lie_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    train, held_out, samples = (rng.standard_normal((200, 3)) for _ in range(3))
    train[[17, 140]] = train[[90, 3]]
    train[[55, 199]] += [[9], [-9]]
    x = pd.DataFrame(train, columns=list("abc"), index=[f"patient {row}" for row in range(200)])
    inputs = {
        "data": load_data(x, splits=(1, 0, 0), duplicates="keep", progress=False).value,
        "held_out": load_data(np.tile(held_out, (5, 1)) + rng.standard_normal((1000, 3)) * 0.2, progress=False).value,
    }
    result = audit(load_data(samples, splits=(0, 0, 1), progress=False).value, inputs, QUICK, context("train")).result
    training = result["audit"]["training"]
    assert sorted(map(sorted, (pair["points"] for pair in training["near_duplicates"]))) == [[3, 140], [17, 90]]
    assert ["patient 17", "patient 90"] in [sorted(pair["names"]) for pair in training["near_duplicates"]]
    assert {55, 199} <= {point["point"] for point in training["outliers"][:2]}
    assert {"patient 55", "patient 199"} == {point["name"] for point in training["outliers"][:2]}


def test_the_command_names_copies_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    train, held_out, samples = (rng.standard_normal((150, 4)) for _ in range(3))
    samples[100:125] = train[25:0:-1]
    for name, x in (("train", train), ("held-out", held_out), ("samples", samples)):
        np.save(f"{name}.npy", x)
    quick = ["--quiet", "--option", "permutations=99", "--option", "quality_points=20", "--option", "n=150"]
    assert main(["audit", "samples.npy", "--train", "train.npy", "--held-out", "held-out.npy", *quick]) == 0
    said = capsys.readouterr().out
    assert said.count("copy: row ") == 20
    assert "more copies (columns): see the report, or --json" in said
    assert "withheld: names of fewer copies" not in said
    assert main(["audit", "samples.npy", "--train", "train.npy", "--held-out", "held-out.npy", *quick, "--json"]) == 0
    printed = capsys.readouterr().out
    listed = json.loads(printed[printed.index("{\n") :])["copies"][0]
    named = {row["sample"]: row["training"] for row in listed["nearest"] if row["named"]}
    assert {100 + step: 25 - step for step in range(25)}.items() <= named.items()


def test_apply_gives_a_row_for_each_row_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = points()
    stage = load_data(x, splits=(0, 0, 1), folder=tmp_path / "python", progress=False)
    flow = estimate("estimator:mle", stage, n_neighbors=6, progress=False)
    x[[2, 9]] = np.nan
    np.save("new.npy", x)
    asked = ["apply", str(flow.folder), "--data", "new.npy", "--data-option", "missing=drop", "--out", "out.npy"]
    assert main(asked) == 0
    found = np.load("out.npy")
    assert found.shape == (48,)
    assert np.flatnonzero(np.isnan(found)).tolist() == [2, 9]


def test_an_estimator_with_a_limit_answers_in_rows_of_a_stream(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((300, 3))
    np.save(tmp_path / "x.npy", x)
    source = load_data(str(tmp_path / "x.npy"), splits=(0, 0, 1), memory=0, progress=False)
    found = estimate("estimator:mle", source, limit=100, n_neighbors=6, progress=False).value
    assert found.pointwise.shape == (300,)
    asked = found.pointwise.isfinite().nonzero()[:, 0]
    assert len(asked) == 100
    few = estimate("estimator:mle", x[asked.numpy()], n_neighbors=6, progress=False).value.pointwise
    assert torch.allclose(found.pointwise[asked], few)


def test_a_split_of_what_is_given_is_read_where_one_is_named() -> None:
    found = estimate("estimator:mle", points(), split="train", n_neighbors=6, progress=False).value
    assert int(found.pointwise.isfinite().sum()) == 38


def test_a_name_of_several_rows_names_none(tmp_path: Path) -> None:
    frame = pd.DataFrame(points(), columns=list("abc"), index=["p"] * 24 + [f"q{row}" for row in range(24)])
    source = load_data(frame, progress=False).value
    with pytest.raises(DataError, match="between names 'p', which 24 rows are called"):
        ends_of(source.load("test"), source, InterpolateOptions(between=(("p", "q3"),)), context())
    numbered = load_data(frame.set_axis(range(1000, 1048)), progress=False).value
    assert row_text(numbered.rows, 39) == "'1039' (row 39)"


def test_data_that_were_kept_know_their_rows(tmp_path: Path) -> None:
    for number, rows in enumerate((range(5), ["a", "b", "c", "d", "e"])):
        index, folder = torch.tensor([3, 1]), tmp_path / str(number)
        folder.mkdir()
        save_value(TensorSource({"test": Dataset(torch.zeros(2, 2), index=index)}, rows=rows), None, folder)
        again = load_value(folder, None)
        assert list(again.rows) == list(rows)
        assert torch.equal(again.load("test").index, index)
