"""Tasks from folders of images: both published forms, and what is refused of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scorefold.data import StreamedDataset
from scorefold.errors import DataError
from scorefold.interfaces.data import SPLITS
from scorefold_allocation.data.config import FewShotFoldersConfig
from scorefold_allocation.data.folders import FewShotFolders

SAMPLES = Path(__file__).parent.parent / "src/scorefold_allocation/samples/few-shot"


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def as_lists(tmp_path: Path) -> Path:
    """The sample in the form of CIFAR-FS: folders of classes and lists of their names."""
    for split in ("train", "val", "test"):
        rows = [line.split(",") for line in (SAMPLES / f"{split}.csv").read_text().splitlines()[1:]]
        for name, label in rows:
            place = tmp_path / "data" / label / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((SAMPLES / "images" / name).read_bytes())
        lists = tmp_path / "splits" / "published"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(dict.fromkeys(label for _, label in rows)) + "\n")
    return tmp_path


def test_both_forms_of_folders_hold_the_same(as_lists: Path) -> None:
    lists, table = (FewShotFolders(FewShotFoldersConfig(root=str(root), ways=2)) for root in (as_lists, SAMPLES))
    for split in SPLITS:
        one, other = lists.load(split), table.load(split)
        assert torch.equal(one.x, other.x)
        assert torch.equal(torch.as_tensor(one.label), torch.as_tensor(other.label))
    x, _ = lists.batch(3, 5, generator()).tensors()
    assert torch.equal(x, table.batch(3, 5, generator()).tensors()[0])


def test_images_that_do_not_fit_are_decoded_as_they_are_read() -> None:
    config = FewShotFoldersConfig(root=str(SAMPLES), ways=2, size=6, grey=True)
    held, lazy = (FewShotFolders(c) for c in (config, config.model_copy(update={"memory": 0.0})))
    assert isinstance(lazy.load("train"), StreamedDataset)
    assert held.event_shape == lazy.event_shape == (1, 6, 6)
    batches = (source.batch(3, 5, generator()).tensors() for source in (held, lazy))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one, other)
    assert held.fingerprint() == lazy.fingerprint()


def test_folders_that_are_not_as_published_are_refused(as_lists: Path, tmp_path: Path) -> None:
    def refused(said: str, root: Path = as_lists, **settings: Any) -> None:
        with pytest.raises(DataError, match=said):
            FewShotFolders(FewShotFoldersConfig(root=str(root), ways=2, **settings))

    lists = as_lists / "splits" / "published"
    refused("isn't a folder", tmp_path / "none")
    refused("neither train.csv nor train.txt", as_lists / "data")
    (lists / "val.txt").write_text("bar\n")
    refused("train and validation share 1 classes, bar")
    (lists / "val.txt").write_text("absent\n")
    refused("lists the class absent")
    (lists / "val.txt").write_text("stripe\nstripe\n")
    refused("val.txt lists .*stripe0.png 2 times")
    (as_lists / "data" / "hollow").mkdir()
    (lists / "val.txt").write_text("hollow\n")
    refused("hollow has no images")
    (as_lists / "train.txt").write_text("bar\nring\n")
    refused("has 2 lists of training classes")
    (as_lists / "train.txt").unlink()
    (lists / "val.txt").unlink()
    assert len(FewShotFolders(FewShotFoldersConfig(root=str(as_lists), ways=2)).load("test")) == 8
    Image.new("RGB", (8, 4)).save(as_lists / "data" / "bar" / "bar2.png")
    refused(r"bar2.png has the shape \(3, 4, 8\), and the first image \(3, 8, 8\)")
    assert FewShotFolders(FewShotFoldersConfig(root=str(as_lists), ways=2, size=8)).event_shape == (3, 8, 8)
    (as_lists / "data" / "bar" / "bar0.png").write_bytes(b"no image")
    refused("bar0.png can't be read as an image")
    (lists / "test.txt").unlink()
    refused("test.txt is missing")


def test_lists_as_other_programs_save_them(as_lists: Path) -> None:
    lists = as_lists / "splits" / "published"
    (lists / "train.txt").write_bytes(b"\xef\xbb\xbf" + (lists / "train.txt").read_bytes().replace(b"\n", b"\r\n"))
    (lists / "val.txt").rename(lists / "validation.txt")
    (as_lists / "data" / "bar" / "._bar0.png").write_bytes(b"what macOS leaves beside files")
    source = FewShotFolders(FewShotFoldersConfig(root=str(as_lists), ways=2))
    assert [len(source.load(split)) for split in SPLITS] == [8, 8, 8]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"), None),
        (lambda text: text.replace(b"filename,label", b"Filename, Label") + b"\n", None),
        (lambda text: text.replace(b",", b";"), "train.csv begins with filename;label; expected filename,label"),
        (lambda text: text + b"bar0.png\n", "line 10 of .*train.csv is bar0.png; expected a file and its label"),
        (lambda text: text + b"bar0.png,\n", "line 10 of .*train.csv is bar0.png,; expected a file and its label"),
        (lambda text: text + b"bar0.png,bar\n", "train.csv lists .*bar0.png 2 times; expected once"),
        (lambda text: text + b"b\xe4r0.png,bar\n", "train.csv isn't text in UTF-8"),
        (lambda text: text + b"disc0.png,bar\n", "train and (validation|test) share 1 images, .*disc0.png"),
        (lambda text: b"", "train.csv begins with nothing"),
    ],
)
def test_tables_as_other_programs_save_them(change: Any, said: str | None, tmp_path: Path) -> None:
    root = tmp_path / "few-shot"
    shutil.copytree(SAMPLES, root, copy_function=shutil.copyfile)
    (root / "train.csv").write_bytes(change((root / "train.csv").read_bytes()))
    config = FewShotFoldersConfig(root=str(root), ways=2)
    if said is None:
        assert len(FewShotFolders(config).load("train")) == 8
    else:
        with pytest.raises(DataError, match=said):
            FewShotFolders(config)


def test_images_of_sixteen_bits_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "few-shot"
    shutil.copytree(SAMPLES, root, copy_function=shutil.copyfile)
    deep = np.full((8, 8), 30_000, dtype=np.uint16)
    Image.fromarray(deep).save(root / "images" / "bar0.png")
    with pytest.raises(DataError, match=r"bar0\.png has more than 8 bits a channel"):
        FewShotFolders(FewShotFoldersConfig(root=str(root), ways=2))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (-0.5, 4.5)])
def test_the_scale_of_images_takes_their_range_to_256_levels(low: float, high: float) -> None:
    """``low`` is level 0 and ``high`` level 255."""
    scale = FewShotFolders(FewShotFoldersConfig(root=str(SAMPLES), ways=2, range=(low, high))).event_scale
    assert (scale.low, scale.high, scale.levels) == (low, high, 256)
    assert scale.factor * low + scale.shift == pytest.approx(0)
    assert scale.factor * high + scale.shift == pytest.approx(255)
