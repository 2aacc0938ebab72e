"""Images in tar files and in saved datasets are the images of a folder; what is wrong with a file names it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shard_files import COUNT, pixels, png, save_dataset, write_tar, write_tars

from scorefold.data import StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold_standard.data.config import ImagesConfig
from scorefold_standard.data.images import ImageFolder
from scorefold_standard.data.pixels import PixelUnits, image_splits

SPLITS = ("train", "validation", "test")
NAMES = ["ant", "bee", "cat", "dog"]
FEATURES = {"image": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": NAMES}}


def source(root: Path, **fields: Any) -> ImageFolder:
    return ImageFolder(ImagesConfig.model_validate({"root": str(root), **fields}))


def encoded() -> list[dict[str, object]]:
    return [{"bytes": png(image), "path": None} for image in pixels()]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The same images in tar files, in a saved dataset and in a folder."""
    write_tars(tmp_path)
    save_dataset(tmp_path / "saved", {"image": encoded(), "kind": [row % 4 for row in range(COUNT)]}, FEATURES)
    for row, image in enumerate(pixels()):
        place = tmp_path / "folder" / NAMES[row % 4]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row:04d}.png").write_bytes(png(image))
    return tmp_path


@pytest.mark.parametrize("memory", [0, 1024])
@pytest.mark.parametrize(("root", "names"), [("part-*.tar", list("0123")), ("part-{0..3}.tar", None), ("saved", NAMES)])
def test_images_and_classes_are_those_that_were_written(
    root: str, names: list[str] | None, memory: float, files: Path
) -> None:
    data = source(files / root, memory=memory, condition="label")
    assert data.event_shape == (3, 4, 4)
    assert data.condition_spec == TensorSpec((), classes=4)
    assert data.label_names == (names or list("0123"))
    rows = []
    for split in SPLITS:
        held = data.load(split)
        assert isinstance(held, StreamedDataset) == (memory == 0)
        batch = next(held.batches(1000))
        assert batch.index is not None
        assert batch.label is not None
        raw = data.event_scale.to_raw(batch.x).round().byte().permute(0, 2, 3, 1)
        assert torch.equal(raw, torch.from_numpy(pixels())[batch.index])
        assert torch.equal(batch.label, batch.index % 4)
        assert isinstance(batch.condition, torch.Tensor)
        assert torch.equal(batch.condition, batch.label)
        rows += batch.index.tolist()
    assert sorted(rows) == list(range(COUNT))
    (few,) = {len(source(files / root, classes=[1, 3], memory=memory).load(split)) for split in ("test",)}
    assert few == COUNT // 2 // 10


@pytest.mark.parametrize("root", ["part-*.tar", "saved", "folder"])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_that_decode_ahead_change_neither_order_nor_bits(root: str, workers: int, files: Path) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        train = source(files / root, memory=0, workers=workers, size=3).load("train")
        return [batch.x for batch in train.batches(7, torch.Generator().manual_seed(2))]

    alone = batches(0)
    assert len(alone) == 35
    assert all(map(torch.equal, batches(workers), alone))


@pytest.mark.parametrize(("root", "file"), [("part-*.tar", "part-2.tar"), ("saved", "saved/data-00001-of-00002.arrow")])
def test_the_fingerprint_follows_every_file(root: str, file: str, files: Path) -> None:
    before = source(files / root).fingerprint()
    content = bytearray((files / file).read_bytes())
    (files / file).write_bytes(content)
    assert source(files / root).fingerprint() == before
    place = content.index(b"IDAT") + 4
    content[place + 2] ^= 1
    (files / file).write_bytes(content)
    assert source(files / root, memory=0, fractions=[1, 0, 0], limit=1).fingerprint() != before


def refuse(root: Path, message: str, error: type[DataError | ConfigError] = DataError, **fields: Any) -> None:
    with pytest.raises(error, match=message):
        source(root, **fields)


def test_tar_files_that_are_not_whole_are_named(files: Path) -> None:
    file = files / "part-3.tar"
    whole = file.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for cut in (end // 2, end - 10, end - end % 512 + 512):
        file.write_bytes(whole[:cut])
        refuse(files / "part-*.tar", r"part-3\.tar (is cut off|can't be read as a tar file)")
    import gzip

    file.write_bytes(gzip.compress(whole))
    refuse(files / "part-*.tar", r"part-3\.tar can't be read as a tar file")
    refuse(files / "part-{0..4}.tar", r"part-4\.tar does not exist")
    refuse(files / "none-*.tar", r"no file is called .*none-\*\.tar")
    refuse(files / "part-0.zip", r"isn't a folder and doesn't end with \.tar")


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([("a.txt", b"1")], "hold no images"),
        ([("a.png", png(pixels()[0])), ("a.jpg", b"")], r"a\.png and a\.jpg of one sample; expected one image"),
        ([("a.png", png(pixels()[0])), ("a.cls", b"cat")], r"a\.cls of .*x\.tar holds b'cat'; expected a whole number"),
        ([("a.png", png(pixels()[0])), ("a.cls", b"12345678901")], "expected a whole number from 0 to 999999"),
        (
            [("a.png", png(pixels()[0])), ("a.cls", b"1"), ("d/b.c.png", png(pixels()[1]))],
            r"d/b\.c\.png of .*x\.tar has no class",
        ),
        ([("a.png", png(pixels()[0])), ("b.png", b"broken")] * 1, r"x\.tar/b\.png can't be read as an image"),
        (
            [("a.png", png(pixels()[0])), ("b.png", png(np.zeros((5, 4, 3), np.uint8)))],
            r"x\.tar/[ab]\.png has . x 4 pixels \(height x width\) and [ab]\.png . x 4",
        ),
    ],
)
def test_samples_that_cannot_be_used_are_named(samples: list[tuple[str, bytes]], message: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", samples)
    refuse(tmp_path / "x.tar", message, fractions=[1, 0, 0])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_is_broken_while_they_are_streamed_is_named(workers: int, tmp_path: Path) -> None:
    images = [(f"{row:03d}.png", png(image)) for row, image in enumerate(pixels()[:40])]
    images[23] = ("023.png", images[23][1][:60])
    write_tar(tmp_path / "x.tar", images)
    data = source(tmp_path / "x.tar", memory=0, workers=workers, fractions=[0.5, 0.5, 0], seed=0)
    with pytest.raises(DataError, match=r"x\.tar/023\.png can't be read as an image"):
        [list(data.load(split).batches(3)) for split in SPLITS[:2]]


@pytest.mark.parametrize(("root", "file"), [("part-*.tar", "part-2.tar"), ("saved", "saved/data-00001-of-00002.arrow")])
def test_a_file_that_changes_while_it_is_streamed_is_named(root: str, file: str, files: Path) -> None:
    train = source(files / root, memory=0).load("train")
    (files / file).write_bytes(bytes(len((files / file).read_bytes())))
    with pytest.raises(DataError, match=rf"{Path(file).name} was written to since it was opened"):
        list(train.batches(10))
    (files / file).unlink()
    with pytest.raises(DataError, match=rf"{Path(file).name} is gone since it was opened"):
        list(train.batches(10))


def test_saved_datasets_without_one_column_of_images_are_refused(tmp_path: Path) -> None:
    columns = {"image": encoded()[:20], "kind": [0, 1, 2, 3] * 5}
    save_dataset(tmp_path / "none", columns, {"kind": FEATURES["kind"]})
    refuse(tmp_path / "none", "has 0 columns of images and 1 of classes")
    save_dataset(tmp_path / "two", {**columns, "other": encoded()[:20]}, {**FEATURES, "other": {"_type": "Image"}})
    refuse(tmp_path / "two", "has 2 columns of images")
    save_dataset(tmp_path / "paths", {**columns, "image": [{"bytes": b"", "path": "a.png"}] * 20}, FEATURES)
    refuse(tmp_path / "paths", "holds no image but the path a.png")
    save_dataset(tmp_path / "outside", {**columns, "kind": [0, 1, 2, 4] * 5}, FEATURES)
    refuse(tmp_path / "outside", "column 'kind' .* has classes outside 0 to 3")
    save_dataset(tmp_path / "plain", columns, {"image": FEATURES["image"]})
    assert source(tmp_path / "plain").label_names is None
    refuse(tmp_path / "plain", "classes are chosen, and .* has none", ConfigError, classes=[0])


@pytest.mark.parametrize("root", ["part-*.tar", "saved"])
def test_a_source_that_is_sent_opens_its_files_again(root: str, files: Path) -> None:
    made = ImageFolder(ImagesConfig(root=str(files / root), memory=0), generator=torch.Generator().manual_seed(7))
    sent = pickle.loads(pickle.dumps(made))
    assert torch.equal(made.load("train").tensor(), sent.load("train").tensor())


def test_images_are_held_up_to_the_bytes_of_their_float32() -> None:
    """Ten images of 8 by 8 pixels take 2,560 bytes; the scale is the same whether they are held or streamed."""
    raw = torch.randint(0, 256, (10, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    positions = {"train": torch.arange(8), "validation": torch.tensor([8]), "test": torch.tensor([9])}
    found = [
        image_splits(
            lambda rows: raw[rows], (1, 8, 8), positions, PixelUnits(-1.0, 1.0, 255.0, 256), memory=bytes_ / 2**20
        )
        for bytes_ in (2560, 2559)
    ]
    assert [isinstance(splits["train"], StreamedDataset) for splits, _ in found] == [False, True]
    assert found[0][1] == found[1][1]
    for splits, scale in found:
        x = splits["train"].tensor()
        torch.testing.assert_close(x, raw[:8].float() / 127.5 - 1)
        assert scale.mean == pytest.approx(float(x.mean()), abs=1e-6)
        assert splits["test"].index.tolist() == [9]
