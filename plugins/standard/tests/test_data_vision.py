"""MNIST, CIFAR-10 and CelebA from tiny files in their published formats, read as torchvision reads them."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from pydantic import ValidationError

from scorefold.data import StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold_standard.data.config import CelebAConfig, CIFAR10Config, FashionMNISTConfig, MNISTConfig
from scorefold_standard.data.vision import CIFAR10, MNIST, CelebA

SPLITS = ("train", "validation", "test")
ATTRIBUTES = [f"Attribute_{i}" for i in range(38)] + ["Smiling", "Young"]


def write_idx(path: Path, values: np.ndarray) -> None:
    """The idx format: two zeros, the type (8 for bytes), the number of dimensions, the sizes big-endian, the bytes."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    data = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def write_mnist(folder: Path, *, suffix: str = "", train: int = 20, test: int = 6) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    for name, count in (("train", train), ("t10k", test)):
        write_idx(folder / f"{name}-images-idx3-ubyte{suffix}", draws.integers(0, 256, (count, 28, 28)))
        write_idx(folder / f"{name}-labels-idx1-ubyte{suffix}", np.arange(count) % 10)


def write_cifar(root: Path, each: int = 4) -> None:
    """CIFAR-10's python version: pickled dictionaries of rows (red, green, blue planes) and labels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        batch: dict[str, Any] = {
            "data": draws.integers(0, 256, (each, 3072), dtype=np.uint8),
            "labels": [(i + j) % 10 for j in range(each)],
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"label_names": [f"class {i}" for i in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def write_celeba(root: Path, count: int = 12) -> None:
    """CelebA's lists, with one line of counts and one of names, and its folder of jpg files."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    names = [f"{i + 1:06d}.jpg" for i in range(count)]
    attributes = draws.choice([-1, 1], (count, 40))
    lines = [f"{name} {' '.join(f'{v:2d}' for v in row)}" for name, row in zip(names, attributes, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(count), " ".join(ATTRIBUTES) + " ", *lines]) + "\n")
    parts = [0] * (count - 5) + [1] * 2 + [2] * 3
    _write_rows(folder / "list_eval_partition.txt", names, [[part] for part in parts])
    for i, name in enumerate(names):
        picture = np.full((218, 178, 3), 20 * i, dtype=np.uint8)
        Image.fromarray(picture).save(folder / "img_align_celeba" / name, quality=95)


def _write_rows(path: Path, names: list[str], rows: list[list[int]]) -> None:
    path.write_text("".join(f"{name} {' '.join(map(str, row))}\n" for name, row in zip(names, rows, strict=True)))


def everything(source: MNIST | CIFAR10 | CelebA) -> tuple[torch.Tensor, torch.Tensor]:
    """All raw images and labels in the order of ``index``."""
    parts = [next(source.load(split).batches(1000)) for split in SPLITS]
    order = torch.cat([part.index for part in parts]).argsort()  # type: ignore[misc]
    raw = source.event_scale.to_raw(torch.cat([part.x for part in parts])[order]).round().to(torch.uint8)
    return raw, torch.cat([part.label for part in parts])[order]  # type: ignore[misc]


@pytest.mark.parametrize(("place", "suffix"), [("MNIST/raw", ""), ("raw", ".gz"), (".", ".gz"), (".", "")])
def test_mnist_is_what_torchvision_reads(place: str, suffix: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / place, suffix=suffix)
    write_mnist(tmp_path / "reference" / "MNIST" / "raw")
    raw, label = everything(MNIST(MNISTConfig(root=str(tmp_path))))
    published = [torchvision.datasets.MNIST(str(tmp_path / "reference"), train=train) for train in (True, False)]
    assert torch.equal(raw[:, 0], torch.cat([p.data for p in published]))
    assert torch.equal(label, torch.cat([p.targets for p in published]))


def test_mnist_keeps_the_published_test_split(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    source = MNIST(MNISTConfig(root=str(tmp_path), validation=0.25, pad=2, condition="label", range=(-1.0, 1.0)))
    assert [len(source.load(split)) for split in SPLITS] == [15, 5, 6]
    assert sorted(source.load("test").index.tolist()) == list(range(20, 26))  # type: ignore[union-attr]
    assert source.event_shape == (1, 32, 32)
    assert source.condition_spec == TensorSpec((), classes=10)
    x = source.load("train").x
    assert bool((x[:, :, :2] == -1).all())
    assert bool((x[..., -2:] == -1).all())
    assert (source.event_scale.low, source.event_scale.high, source.event_scale.levels) == (-1.0, 1.0, 256)
    limited = MNIST(MNISTConfig(root=str(tmp_path), limit=4))
    assert [len(limited.load(split)) for split in SPLITS] == [3, 1, 4]


def test_images_of_a_size_are_those_that_pillow_makes(tmp_path: Path) -> None:
    """Bicubic and antialiased, as of image files; a blank edge stays black, and padding comes after."""
    write_mnist(tmp_path)
    whole, label = everything(MNIST(MNISTConfig(root=str(tmp_path))))
    small = MNIST(MNISTConfig(root=str(tmp_path), size=12, pad=2))
    assert small.event_shape == (1, 16, 16)
    raw, small_label = everything(small)
    assert torch.equal(label, small_label)
    assert bool((raw[:, :, :2] == 0).all())
    for image, one in zip(whole, raw, strict=True):
        expected = Image.fromarray(image[0].numpy()).resize((12, 12), Image.Resampling.BICUBIC)
        difference = torch.from_numpy(np.asarray(expected).copy()).int() - one[0, 2:-2, 2:-2].int()
        assert int(difference.abs().max()) <= 1
    streamed = MNIST(MNISTConfig(root=str(tmp_path), size=12, pad=2, memory=0.0))
    assert torch.equal(streamed.load("test").tensor(), small.load("test").x)
    write_cifar(tmp_path)
    colour = CIFAR10(CIFAR10Config(root=str(tmp_path), verify=False, size=40))
    assert colour.event_shape == colour.load("train").event_shape == (3, 40, 40)


def test_only_some_classes_keep_their_numbers(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw", train=60, test=20)
    config = FashionMNISTConfig(root=str(tmp_path), classes=(8, "Trouser"), condition="label", validation=0.25)
    source = MNIST(config)
    whole = MNIST(FashionMNISTConfig(root=str(tmp_path)))
    assert [len(source.load(split)) for split in SPLITS] == [9, 3, 4]
    raw, label = everything(whole)
    for split in SPLITS:
        part = source.load(split)
        assert set(part.label.tolist()) == {1, 8}  # type: ignore[union-attr]
        assert torch.equal(part.label, label[part.index])  # type: ignore[index, arg-type]
        assert torch.equal((part.x * 255).round().to(torch.uint8), raw[part.index])  # type: ignore[index]
    assert source.condition_spec == TensorSpec((), classes=10)
    assert source.label_names is not None
    assert source.label_names[8] == "Bag"
    limited = MNIST(config.model_copy(update={"limit": 4}))
    assert [len(limited.load(split)) for split in SPLITS] == [3, 1, 4]
    write_cifar(tmp_path)
    cifar = CIFAR10(CIFAR10Config(root=str(tmp_path), verify=False, classes=("horse", 5)))
    assert set(cifar.load("test").label.tolist()) <= {5, 7}  # type: ignore[union-attr]


def test_classes_that_there_are_not_are_named(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=20)
    for wanted, said in (
        ((11,), "there is no class 11; expected one of 0, 1, 2"),
        (("sneakers",), "(?s)no class 'sneakers'; expected one of T-shirt/top, Trouser.*did you mean 'Sneaker'"),
        ((1, "Trouser"), r"class 1 \(Trouser\) is listed twice"),
    ):
        with pytest.raises(ConfigError, match=said):
            MNIST(FashionMNISTConfig(root=str(tmp_path), classes=wanted))
    write_mnist(tmp_path, train=4, test=4)
    with pytest.raises(DataError, match=r"no point is of class 7 \(7\)"):
        MNIST(MNISTConfig(root=str(tmp_path), classes=(1, 7)))
    for refused in ({"classes": ()}, {"classes": (3, 3)}, {"classes": (-1,)}, {"size": 0}):
        with pytest.raises(ValidationError):
            MNISTConfig(root=str(tmp_path), **refused)
    with pytest.raises(ValidationError, match="classes needs label"):
        CelebAConfig(root=str(tmp_path), classes=(1,))


def test_fashion_mnist_has_its_own_folder(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw", suffix=".gz")
    source = MNIST(FashionMNISTConfig(root=str(tmp_path), memory=0.0))
    train = source.load("train")
    assert isinstance(train, StreamedDataset)
    assert train.take(torch.tensor([0, 1])).x.shape == (2, 1, 28, 28)
    with pytest.raises(DataError, match="MNIST isn't at"):
        MNIST(MNISTConfig(root=str(tmp_path)))


def test_mnist_names_what_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"isn't at .*/MNIST/raw.*missing train-images-idx3-ubyte\[.gz\]") as caught:
        MNIST(MNISTConfig(root=str(tmp_path)))
    assert "nothing is downloaded" in str(caught.value)
    write_mnist(tmp_path, suffix=".gz")
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    whole = labels.read_bytes()
    labels.unlink()
    with pytest.raises(DataError, match=r"missing t10k-labels-idx1-ubyte\[.gz\]"):
        MNIST(MNISTConfig(root=str(tmp_path)))
    for damaged in (
        whole[:12] + bytes([255] * 8) + whole[20:],
        gzip.compress(b"\0\0\x63\x01abcdefgh"),
        gzip.compress(b""),
    ):
        labels.write_bytes(damaged)
        with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz isn't a complete idx file"):
            MNIST(MNISTConfig(root=str(tmp_path)))
    labels.write_bytes(whole[:10])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz isn't a complete idx file"):
        MNIST(MNISTConfig(root=str(tmp_path)))
    labels.unlink()
    plain = labels.with_suffix("")
    plain.write_bytes(gzip.decompress(whole)[:-2])
    with pytest.raises(DataError, match="isn't a complete idx file"):
        MNIST(MNISTConfig(root=str(tmp_path)))
    write_idx(plain, np.arange(4))
    with pytest.raises(DataError, match=r"test files .* images \(6, 28, 28\) and labels \(4,\)"):
        MNIST(MNISTConfig(root=str(tmp_path)))


def test_fingerprints_follow_the_files(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    before = MNIST(MNISTConfig(root=str(tmp_path))).fingerprint()
    assert MNIST(MNISTConfig(root=str(tmp_path))).fingerprint() == before
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.zeros(6))
    assert MNIST(MNISTConfig(root=str(tmp_path))).fingerprint() != before


@pytest.mark.parametrize("inside", [False, True])
def test_cifar_is_what_its_batches_hold(inside: bool, tmp_path: Path) -> None:
    write_cifar(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    source = CIFAR10(CIFAR10Config(root=str(folder if inside else tmp_path), verify=False, validation=0.2))
    assert [len(source.load(split)) for split in SPLITS] == [16, 4, 4]
    raw, label = everything(source)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    batches = [pickle.loads((folder / name).read_bytes()) for name in names]
    assert torch.equal(raw, torch.from_numpy(np.concatenate([b["data"] for b in batches])).reshape(-1, 3, 32, 32))
    assert label.tolist() == [value for b in batches for value in b["labels"]]
    assert source.fingerprint() == CIFAR10(CIFAR10Config(root=str(tmp_path), verify=False)).fingerprint()


def test_cifar_runs_nothing_that_a_pickle_names(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "trapped",))

    write_cifar(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({"data": Trap(), "labels": []}))
    with pytest.raises(DataError, match="data_batch_3 can't be read: it names pathlib"):
        CIFAR10(CIFAR10Config(root=str(tmp_path), verify=False))
    assert not (tmp_path / "trapped").exists()


def test_cifar_opens_no_pickle_that_is_not_the_published_one(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    with pytest.raises(DataError, match="data_batch_1 isn't the published file") as caught:
        CIFAR10(CIFAR10Config(root=str(tmp_path)))
    assert "verify: false" in str(caught.value)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"not a pickle")
    with pytest.raises(DataError, match="can't be read"):
        CIFAR10(CIFAR10Config(root=str(tmp_path), verify=False))
    (tmp_path / "cifar-10-batches-py" / "batches.meta").unlink()
    with pytest.raises(DataError, match=r"missing batches.meta"):
        CIFAR10(CIFAR10Config(root=str(tmp_path), verify=False))


def test_celeba_reads_faces_attributes_and_splits(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    source = CelebA(CelebAConfig(root=str(tmp_path), size=16, label="Smiling", condition="attributes"))
    assert [len(source.load(split)) for split in SPLITS] == [7, 2, 3]
    assert sorted(source.load("validation").index.tolist()) == [7, 8]  # type: ignore[union-attr]
    assert source.event_shape == (3, 16, 16)
    assert source.condition_spec == TensorSpec((40,))
    lines = (tmp_path / "celeba" / "list_attr_celeba.txt").read_text().splitlines()[2:]
    values = torch.tensor([[int(v) for v in line.split()[1:]] for line in lines])
    for split in SPLITS:
        part = source.load(split)
        assert part.index is not None
        assert isinstance(part.condition, torch.Tensor)
        assert torch.equal(part.condition, (values[part.index] == 1).float())
        assert torch.equal(part.label, (values[part.index, 38] == 1).long())  # type: ignore[arg-type]
        brightness = (part.x * 255).mean((1, 2, 3))
        torch.testing.assert_close(brightness, 20.0 * part.index, atol=1.0, rtol=0)


def test_faces_are_chosen_by_the_attribute_that_is_their_label(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    whole = CelebA(CelebAConfig(root=str(tmp_path), size=8, label="Smiling"))
    for wanted in (1, "Smiling"):
        some = CelebA(CelebAConfig(root=str(tmp_path), size=8, label="Smiling", classes=(wanted,)))
        part, all_of_them = some.load("train"), whole.load("train")
        assert sorted(part.index.tolist()) == sorted(all_of_them.index[all_of_them.label == 1].tolist())  # type: ignore[union-attr, index]
    assert whole.label_names == ("not Smiling", "Smiling")


def test_celeba_is_streamed_and_limited(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    held = CelebA(CelebAConfig(root=str(tmp_path), size=8, grey=True, limit=2))
    streamed = CelebA(CelebAConfig(root=str(tmp_path), size=8, grey=True, limit=2, memory=0.0))
    assert [len(held.load(split)) for split in SPLITS] == [2, 2, 2]
    assert torch.equal(streamed.load("train").tensor(), held.load("train").x)
    assert streamed.fingerprint() == held.fingerprint()
    before = streamed.fingerprint()
    (tmp_path / "celeba" / "img_align_celeba" / "000012.jpg").write_bytes(b"broken")
    assert streamed.fingerprint() != before


def test_celeba_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing list_attr_celeba.txt, list_eval_partition.txt, img_align_celeba/"):
        CelebA(CelebAConfig(root=str(tmp_path)))
    write_celeba(tmp_path)
    with pytest.raises(ConfigError, match="no attribute 'Smilng'; it has Attribute_0"):
        CelebA(CelebAConfig(root=str(tmp_path), label="Smilng"))
    (tmp_path / "celeba" / "img_align_celeba" / "000012.jpg").unlink()
    with pytest.raises(DataError, match=r"000012.jpg can't be read"):
        CelebA(CelebAConfig(root=str(tmp_path), size=8))
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(DataError, match="aren't CelebA's"):
        CelebA(CelebAConfig(root=str(tmp_path), size=8))
