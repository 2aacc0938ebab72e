"""Digits, image folders, photographs and pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image

from scorefold.data import Dataset, StreamedDataset, TensorSpec
from scorefold.errors import ArtefactError, ConfigError, DataError
from scorefold_standard.data.config import DigitsConfig, ImagePairsConfig, ImagesConfig, PairedConfig, PhotographsConfig
from scorefold_standard.data.images import ImageFolder
from scorefold_standard.data.paired import ImagePairs, Paired
from scorefold_standard.data.pixels import Digits, Photographs, bands, read_photographs
from scorefold_toolkit.data.splits import moments
from scorefold_toolkit.operators import HasOperator

SPLITS = ("train", "validation", "test")


def write_image(path: Path, seed: int) -> None:
    Image.fromarray(pixels(seed, 6, 8).numpy()).save(path)


def pixels(seed: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(20):
        place = tmp_path / "animals" / ("cats" if i % 2 else "dogs")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i, 6, 8).numpy()).save(place / f"{i:02d}.png")
    return tmp_path / "animals"


def test_digits_are_all_there_once() -> None:
    source = Digits(DigitsConfig())
    parts = [source.load(split) for split in SPLITS]
    assert [len(part) for part in parts] == [1437, 180, 180]
    index = torch.cat([part.index for part in parts])  # type: ignore[misc]
    assert sorted(index.tolist()) == list(range(1797))
    scale = source.event_scale
    assert (scale.low, scale.high, scale.levels, source.event_shape) == (0.0, 1.0, 17, (1, 8, 8))
    train = parts[0].x.double()
    assert (scale.mean, scale.std) == pytest.approx((float(train.mean()), float(train.std(correction=0))))
    raw = scale.to_raw(parts[0].x)
    assert torch.equal(raw, raw.round())
    assert (float(raw.min()), float(raw.max())) == (0.0, 16.0)


def test_digits_as_vectors_in_another_range_of_chosen_classes() -> None:
    source = Digits(DigitsConfig(flatten=True, range=(-1.0, 1.0), digits=(3, 7), condition="label", limit=100))
    train = source.load("train")
    assert source.event_shape == (64,)
    assert train.label is not None
    assert set(train.label.tolist()) == {3, 7}
    assert source.condition_spec == TensorSpec((), classes=10)
    assert torch.equal(train.condition, train.label)  # type: ignore[arg-type]
    assert sum(len(source.load(split)) for split in SPLITS) == 100
    assert (float(train.x.min()), float(train.x.max())) == (-1.0, 1.0)
    raw = source.event_scale.to_raw(train.x)
    torch.testing.assert_close(raw, raw.round(), atol=1e-5, rtol=0)
    assert float(raw.max()) == pytest.approx(16)


def test_folder_of_some_classes_keeps_its_numbers(folder: Path) -> None:
    whole = ImageFolder(ImagesConfig(root=str(folder)))
    assert list(whole.label_names or ()) == ["cats", "dogs"]
    for wanted in (1, "dogs"):
        source = ImageFolder(ImagesConfig(root=str(folder), classes=(wanted,), condition="label"))
        parts = [source.load(split) for split in SPLITS]
        assert sorted(torch.cat([part.index for part in parts]).tolist()) == list(range(10, 20))  # type: ignore[misc]
        assert {number for part in parts for number in part.label.tolist()} == {1}  # type: ignore[union-attr]
        assert source.condition_spec == TensorSpec((), classes=2)
    with pytest.raises(ConfigError, match=r"(?s)no class 'dog'; expected one of cats, dogs.*mean 'dogs'"):
        ImageFolder(ImagesConfig(root=str(folder), classes=("dog",)))
    with pytest.raises(ConfigError, match=r"classes are chosen, and .*cats has none"):
        ImageFolder(ImagesConfig(root=str(folder / "cats"), classes=("dogs",)))


def test_folder_reads_its_pixels_and_classes(folder: Path) -> None:
    source = ImageFolder(ImagesConfig(root=str(folder), condition="label"))
    assert source.event_shape == (3, 6, 8)
    assert source.condition_spec == TensorSpec((), classes=2)
    for split in SPLITS:
        part = source.load(split)
        assert part.label is not None
        assert part.index is not None
        for x, label, index in zip(part.x, part.label.tolist(), part.index.tolist(), strict=True):
            # Files are numbered cats first: odd numbers, then the even ones.
            number = 2 * index + 1 if index < 10 else 2 * (index - 10)
            assert label == (0 if index < 10 else 1)
            torch.testing.assert_close(x * 255, pixels(number, 6, 8).permute(2, 0, 1).float())
    assert source.load("train").index.unique().numel() == 16  # type: ignore[union-attr]


def test_streamed_folder_is_the_held_one(folder: Path) -> None:
    held = ImageFolder(ImagesConfig(root=str(folder), size=4, grey=True))
    streamed = ImageFolder(ImagesConfig(root=str(folder), size=4, grey=True, memory=0.0))
    assert held.event_shape == (1, 4, 4)
    train = streamed.load("train")
    assert isinstance(train, StreamedDataset)
    assert torch.equal(train.tensor(), held.load("train").x)
    assert streamed.event_scale == held.event_scale
    batches = list(train.batches(5, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == sorted(held.load("train").index.tolist())  # type: ignore[misc, union-attr]
    first = batches[0]
    assert first.index is not None
    assert first.label is not None
    assert torch.equal(first.label, (first.index >= 10).long())


def test_crop_keeps_the_centre_and_squeeze_keeps_all(tmp_path: Path) -> None:
    image = torch.zeros(8, 16, 3, dtype=torch.uint8)
    image[:, 4:12] = 255
    for i in range(3):
        Image.fromarray(image.numpy()).save(tmp_path / f"{i}.png")
    third = (1 / 3, 1 / 3, 1 / 3)
    cropped = ImageFolder(ImagesConfig(root=str(tmp_path), size=8, fractions=third)).load("test").x
    squeezed = ImageFolder(ImagesConfig(root=str(tmp_path), size=8, crop=False, fractions=third)).load("test").x
    assert float(cropped.min()) == 1.0
    assert float(squeezed[..., 0].max()) == 0.0
    assert float(squeezed[..., 4].min()) == 1.0


def test_folder_fingerprint_follows_its_content(folder: Path) -> None:
    before = ImageFolder(ImagesConfig(root=str(folder))).fingerprint()
    Image.fromarray(pixels(99, 6, 8).numpy()).save(folder / "cats" / "01.png")
    assert ImageFolder(ImagesConfig(root=str(folder))).fingerprint() != before


def test_bad_folders_say_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    def refuse(message: str, root: Path = folder, **fields: object) -> None:
        with pytest.raises(DataError, match=message):
            ImageFolder(ImagesConfig.model_validate({"root": str(root), **fields}))

    refuse("isn't a folder", root=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    refuse("holds no images", root=tmp_path / "empty")
    (tmp_path / "empty" / "b.csv").write_text("1,2\n")
    refuse("give a file, such as .*b.csv", root=tmp_path / "empty")
    for name in "ab":
        (tmp_path / "empty" / f"{name}.npy").touch()
    refuse(r"give them by a pattern, '.*empty/\*.npy'", root=tmp_path / "empty")
    (tmp_path / "halves" / "train").mkdir(parents=True)
    (tmp_path / "halves" / "test").mkdir()
    for half in ("train", "test"):
        Image.fromarray(pixels(0, 4, 4).numpy()).save(tmp_path / "halves" / half / "0.png")
    refuse("which are splits and not classes", root=tmp_path / "halves")
    Image.fromarray(pixels(0, 4, 4).numpy()).save(tmp_path / "halves" / "loose.png")
    refuse("one or the other", root=tmp_path / "halves")
    refuse("no classes", root=_flat(tmp_path / "flat"), condition="label")
    deep = tmp_path / "deep"
    deep.mkdir()
    Image.fromarray(torch.zeros(4, 4, dtype=torch.uint16).numpy()).save(deep / "0.png")
    refuse("more than 8 bits", root=deep)
    Image.fromarray(pixels(0, 5, 5).numpy()).save(folder / "dogs" / "odd.png")
    refuse(r"odd.png has 5 x 5 pixels \(height x width\) and 01.png 6 x 8")
    whole = (folder / "dogs" / "02.png").read_bytes()
    (folder / "dogs" / "02.png").write_bytes(whole[: len(whole) // 2])
    refuse(r"02.png can't be read as an image", size=4)


def test_names_in_other_bytes_are_read_and_refused_by_name(folder: Path) -> None:
    cats = folder / "cats"
    (folder / os.fsdecode(b"ch\xe8vres")).mkdir()
    for i in range(4):
        Image.fromarray(pixels(i, 6, 8).numpy()).save(folder / os.fsdecode(b"ch\xe8vres/\xff%d.png" % i))
    source = ImageFolder(ImagesConfig(root=folder))
    assert source.label_names == ["cats", "ch\udce8vres", "dogs"]
    assert "ch\udce8vres/\udcff0.png" in list(source.rows or ())
    assert len(source.fingerprint()) == 64
    (cats / os.fsdecode(b"dam\xff.png")).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"dam\\udcff\.png can't be read as an image"):
        ImageFolder(ImagesConfig(root=folder))


def _flat(root: Path) -> Path:
    root.mkdir()
    for i in range(5):
        Image.fromarray(pixels(i, 4, 4).numpy()).save(root / f"{i}.png")
    return root


@pytest.mark.parametrize("grey", [False, True])
def test_patches_are_the_photographs_and_splits_share_no_pixel(grey: bool) -> None:
    config = PhotographsConfig(size=24, points=1000, grey=grey)
    source = Photographs(config)
    pictures = read_photographs(grey)
    owner = torch.full(pictures.shape[:1] + pictures.shape[2:], -1)
    for number, split in enumerate(SPLITS):
        part = source.load(split)
        raw = source.event_scale.to_raw(part.x).round().to(torch.uint8)
        assert part.label is not None
        for patch, picture, (top, left) in zip(raw, part.label, part.truth["corner"], strict=True):
            region = (int(picture), slice(top, top + 24), slice(left, left + 24))
            assert torch.equal(patch, pictures[region[0], :, region[1], region[2]])
            assert bool(((owner[region] == -1) | (owner[region] == number)).all())
            owner[region] = number
    assert [len(source.load(split)) for split in SPLITS] == [700, 150, 150]
    assert source.event_scale.levels == 256
    index = torch.cat([source.load(split).index for split in SPLITS])  # type: ignore[misc]
    assert index.tolist() == list(range(1000))


def test_bands_cover_the_width_and_patches_must_fit() -> None:
    assert bands(640, (0.7, 0.15, 0.15)) == [(0, 448), (448, 544), (544, 640)]
    with pytest.raises(ConfigError, match="don't fit the validation band"):
        Photographs(PhotographsConfig(size=100))
    without = Photographs(PhotographsConfig(size=100, points=50, fractions=(0.5, 0.0, 0.5)))
    assert len(without.load("train")) == 25
    with pytest.raises(DataError, match="validation split is empty"):
        without.load("validation")


def block_means(x: torch.Tensor) -> torch.Tensor:
    return x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))


def test_pairs_are_an_image_and_its_degraded_version() -> None:
    digits = Digits(DigitsConfig(limit=100))
    source = Paired(PairedConfig(), data=digits)
    train = source.load("train")
    assert torch.equal(train.x, digits.load("train").x)
    assert isinstance(train.condition, torch.Tensor)
    torch.testing.assert_close(train.condition, block_means(train.x))
    assert source.condition_spec == TensorSpec((1, 4, 4))
    assert (source.event_shape, source.event_scale) == (digits.event_shape, digits.event_scale)
    assert torch.equal(train.label, digits.load("train").label)  # type: ignore[arg-type]


def test_noise_of_a_pair_belongs_to_the_point(folder: Path) -> None:
    config = PairedConfig.model_validate({"operator": "box-downsample", "noise_std": 0.5, "seed": 3})
    held = Paired(config, data=ImageFolder(ImagesConfig(root=str(folder), size=4)))
    streamed = Paired(config, data=ImageFolder(ImagesConfig(root=str(folder), size=4, memory=0.0)))
    train, lazy = held.load("train"), streamed.load("train")
    assert isinstance(lazy, StreamedDataset)
    batches = list(lazy.batches(5))
    assert torch.equal(torch.cat([b.condition for b in batches]), train.condition)  # type: ignore[misc, arg-type]
    assert isinstance(train.condition, torch.Tensor)
    assert torch.equal(held.load("train").condition, train.condition)  # type: ignore[arg-type]
    noise = train.condition - block_means(train.x)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.15)
    other = Paired(config.model_copy(update={"seed": 4}), data=ImageFolder(ImagesConfig(root=str(folder), size=4)))
    assert not torch.equal(other.load("train").condition, train.condition)  # type: ignore[arg-type]


@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_noise_that_hides_the_observations_is_warned_of(folder: Path, memory: float) -> None:
    images = ImageFolder(ImagesConfig(root=str(folder), size=4, memory=memory))
    spread = float(block_means(images.load("train").tensor(100)).flatten(1).var(0, correction=0).mean().sqrt())
    for times, count in ((0.0, 0), (4.5, 0), (5.5, 1)):
        said = Paired(PairedConfig(noise_std=times * spread), data=images).data_warnings()[
            len(images.data_warnings()) :
        ]
        assert len(said) == count
    assert "in the units of scaled data, not of the file" in said[0]


def test_every_image_may_have_a_hole_of_its_own_and_give_its_mask(folder: Path) -> None:
    operator = {"name": "mask", "region": "square", "each": True, "seed": 5}
    config = PairedConfig.model_validate({"operator": operator, "mask": True})
    held = Paired(config, data=ImageFolder(ImagesConfig(root=str(folder), size=8)))
    streamed = Paired(config, data=ImageFolder(ImagesConfig(root=str(folder), size=8, memory=0.0)))
    train = held.load("train")
    assert isinstance(train.condition, Mapping)
    image, mask = train.condition["image"], train.condition["mask"]
    assert mask.shape == (len(train), 1, 8, 8)
    assert held.condition_spec == {"image": TensorSpec((3, 8, 8)), "mask": TensorSpec((1, 8, 8))}
    assert torch.equal(image, train.x * mask)
    assert (1 - mask).sum((1, 2, 3)).tolist() == [16] * len(train)
    assert len(mask.flatten(1).unique(dim=0)) > 5
    batches = [b.condition["mask"] for b in streamed.load("train").batches(3)]  # type: ignore[index, call-overload]
    assert torch.equal(torch.cat(batches), mask)
    assert isinstance(held, HasOperator)
    assert torch.equal(held.operator.at(train.index)(train.x), image)
    one = Paired(PairedConfig.model_validate({"operator": "mask", "mask": True}), data=Digits(DigitsConfig(limit=50)))
    both = one.load("train").condition
    assert isinstance(both, Mapping)
    assert both["mask"].shape == (40, 1, 8, 8)
    with pytest.raises(ConfigError, match="the operator is none"):
        Paired(PairedConfig(mask=True), data=Digits(DigitsConfig(limit=50)))


def test_the_hidden_part_may_be_the_event(folder: Path) -> None:
    operator = {"name": "mask", "region": "right", "fraction": 0.5}
    config = PairedConfig.model_validate({"operator": operator, "hidden": True, "mask": True})
    whole = ImageFolder(ImagesConfig(root=str(folder), size=8))
    held = Paired(config, data=whole)
    streamed = Paired(config, data=ImageFolder(ImagesConfig(root=str(folder), size=8, memory=0.0)))
    train, full = held.load("train"), whole.load("train").x
    assert held.event_shape == streamed.event_shape == train.event_shape == (3, 8, 4)
    assert torch.equal(train.x, full[..., 4:])
    assert isinstance(train.condition, Mapping)
    assert torch.equal(train.condition["image"], torch.cat((full[..., :4], 0 * full[..., 4:]), -1))
    assert train.condition["mask"].shape == (len(train), 1, 8, 8)
    scale = held.event_scale
    assert (scale.low, scale.high, scale.levels) == (0.0, 1.0, 256)
    assert (scale.mean, scale.std) == pytest.approx(moments(train.x), abs=1e-5)
    assert streamed.event_scale.mean == pytest.approx(scale.mean, abs=1e-5)
    lazy = streamed.load("train")
    assert lazy.event_shape == (3, 8, 4)
    assert torch.equal(torch.cat([batch.x for batch in lazy.batches(3)]), train.x)
    assert held.operator is None
    for wrong in ("box-downsample", {**operator, "region": "square", "each": True}):
        with pytest.raises(ConfigError, match="hides no part"):
            Paired(PairedConfig.model_validate({"operator": wrong, "hidden": True}), data=whole)
    pixels = {"operator": {**operator, "region": "pixels"}, "hidden": True}
    with pytest.raises(ConfigError, match="has gaps"):
        Paired(PairedConfig.model_validate(pixels), data=whole)


def test_photons_are_counted_by_poissons_distribution_and_belong_to_the_point() -> None:
    digits = Digits(DigitsConfig())
    config = PairedConfig.model_validate({"operator": "box-downsample", "poisson_peak": 20.0, "seed": 1})
    source = Paired(config, data=digits)
    train = source.load("train")
    assert isinstance(train.condition, torch.Tensor)
    clean = block_means(train.x)
    counts = 20 * train.condition
    torch.testing.assert_close(counts, counts.round(), atol=1e-4, rtol=0)
    assert not train.condition[clean == 0].any()
    lit = clean > 0.1
    scatter = ((train.condition - clean).square() * 20 / clean)[lit]
    assert float(scatter.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(source.load("train").condition, train.condition)  # type: ignore[arg-type]
    both = Paired(config.model_copy(update={"noise_std": 0.1}), data=digits).load("train").condition
    assert isinstance(both, torch.Tensor)
    assert float((both - train.condition).std()) == pytest.approx(0.1, rel=0.05)
    with pytest.raises(ConfigError, match="from 0 up to a bound"):
        Paired(config, data=Digits(DigitsConfig(range=(-1.0, 1.0))))
    for operator in ("haar", ["gaussian-blur", ["haar"]]):
        with pytest.raises(ConfigError, match="differences of either sign"):
            Paired(PairedConfig.model_validate({"operator": operator, "poisson_peak": 20.0}), data=digits)


def test_edges_of_digits_are_a_condition() -> None:
    source = Paired(PairedConfig.model_validate({"operator": "edges"}), data=Digits(DigitsConfig(range=(-1.0, 1.0))))
    condition = source.load("test").condition
    assert isinstance(condition, torch.Tensor)
    assert condition.shape == (180, 1, 8, 8)
    assert set(condition.unique().tolist()) == {0.0, 1.0}


def test_pairs_refuse_what_the_operator_cannot_serve() -> None:
    with pytest.raises(ConfigError, match="multiples of 3"):
        Paired(
            PairedConfig.model_validate({"operator": {"name": "box-downsample", "factor": 3}}),
            data=Digits(DigitsConfig()),
        )


def test_batches_hold_what_load_holds() -> None:
    train = Digits(DigitsConfig(limit=50, condition="label")).load("train")
    batches: list[Dataset] = list(train.batches(16, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == sorted(train.index.tolist())  # type: ignore[misc, union-attr]


def test_a_crop_is_announced(folder: Path, tmp_path: Path) -> None:
    """The folder's images are 8 pixels wide and 6 high."""
    (said,) = ImageFolder(ImagesConfig(root=str(folder), size=4)).data_warnings()
    assert said.startswith("the images have the size 8 x 6: each is cut to its centred square, then resized to 4 x 4")
    assert "crop: false" in said
    halves = PairedConfig.model_validate({"operator": {"name": "box-downsample", "factor": 2}})
    for size, expected in ((4, (said,)), (None, ())):
        source = ImageFolder(ImagesConfig(root=str(folder), size=size))
        assert Paired(halves, data=source).data_warnings() == expected
    (said,) = ImageFolder(ImagesConfig(root=str(folder), size=4, crop=False)).data_warnings()
    assert "distorts" in said
    assert ImageFolder(ImagesConfig(root=str(folder))).data_warnings() == ()
    Image.fromarray(pixels(0, 9, 9).numpy()).save(folder / "cats" / "99.png")
    (said,) = ImageFolder(ImagesConfig(root=str(folder), size=4)).data_warnings()
    assert "2 sizes from 8 x 6 to 9 x 9" in said
    square = tmp_path / "square"
    square.mkdir()
    for i in range(4):
        Image.fromarray(pixels(i, 9, 9).numpy()).save(square / f"{i}.png")
    assert ImageFolder(ImagesConfig(root=str(square), size=4)).data_warnings() == ()


def test_the_fingerprint_is_of_the_images_behind_links(tmp_path: Path) -> None:
    """A class that is a link: its images are read, and the fingerprint changes with them."""
    root, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    for folder in (root / "cat", elsewhere / "deep"):
        folder.mkdir(parents=True)
    write_image(root / "cat" / "1.png", 10)
    write_image(elsewhere / "deep" / "2.png", 20)
    (root / "dog").symlink_to(elsewhere, target_is_directory=True)
    source = ImageFolder(ImagesConfig(root=str(root), fractions=(1, 0, 0)))
    assert (len(source.load("train")), source.label_names) == (2, ["cat", "dog"])
    before = source.fingerprint()
    write_image(elsewhere / "deep" / "2.png", 30)
    assert source.fingerprint() != before


def test_a_folder_is_read_once_and_a_link_back_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    write_image(tmp_path / "cat" / "1.png", 10)
    (tmp_path / "again").symlink_to(tmp_path / "cat", target_is_directory=True)
    source = ImageFolder(ImagesConfig(root=str(tmp_path), fractions=(1, 0, 0)))
    assert (len(source.load("train")), source.label_names) == (1, ["cat"])
    (tmp_path / "cat" / "up").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ArtefactError, match=r"cat/up is a link to a folder that holds it"):
        ImageFolder(ImagesConfig(root=str(tmp_path)))


def pair_files(folder: Path, count: int = 20) -> None:
    """Pairs side by side: grey 2 n on the left, and on the right 2 n + 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = Image.new("L", (32, 16), color=2 * number)
        image.paste(2 * number + 1, (16, 0, 32, 16))
        image.save(folder / f"{number:02}.png")


def pairs(root: Path, **config: object) -> ImagePairs:
    settings = {"root": root, "size": 8, "grey": True, "seed": 0, **config}
    return ImagePairs(ImagePairsConfig.model_validate(settings))


@pytest.mark.parametrize("memory", [1024.0, 0.0])
@pytest.mark.parametrize(("direction", "step"), [("a-to-b", 1), ("b-to-a", -1)])
def test_pairs_side_by_side(tmp_path: Path, memory: float, direction: str, step: int) -> None:
    pair_files(tmp_path / "train", 10)
    pair_files(tmp_path / "val", 10)
    source = pairs(tmp_path, memory=memory, direction=direction)
    for split, count in (("train", 16), ("validation", 2), ("test", 2)):
        found = next(source.load(split).batches(16))
        assert len(found) == count
        assert isinstance(found.condition, torch.Tensor)
        assert found.index is not None
        assert torch.allclose(255 * (found.x - found.condition), torch.full_like(found.x, step), atol=1e-4)
        first = 2 * (found.index % 10) + (direction == "a-to-b")
        assert torch.allclose(255 * found.x.mean((1, 2, 3)), first.float(), atol=1e-4)
    assert source.condition_spec == TensorSpec((1, 8, 8))
    events = torch.cat([batch.x for batch in source.load("train").batches(16)])
    assert source.event_scale.std == pytest.approx(float(events.std(correction=0)), rel=0.05)


def test_pairs_in_two_folders(tmp_path: Path) -> None:
    for side, shift in (("A", 0), ("B", 100)):
        (tmp_path / side / "x").mkdir(parents=True)
        for number in range(20):
            Image.new("L", (9, 9), color=number + shift).save(tmp_path / side / "x" / f"{number:02}.png")
    found = pairs(tmp_path, layout="folders").load("train")
    assert isinstance(found.condition, torch.Tensor)
    assert torch.allclose(255 * (found.x - found.condition), torch.full_like(found.x, 100.0), atol=1e-4)
    (tmp_path / "B/x/07.png").rename(tmp_path / "B/x/7.png")
    with pytest.raises(DataError, match=r"x/07 is in .*A only"):
        pairs(tmp_path, layout="folders")


def test_what_are_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="isn't a folder"):
        pairs(tmp_path / "none")
    with pytest.raises(DataError, match="holds no pairs"):
        pairs(tmp_path)
    Image.new("L", (31, 16)).save(tmp_path / "odd.png")
    with pytest.raises(DataError, match="is 31 pixels wide"):
        pairs(tmp_path)


def test_a_box_is_cut_out_before_resizing(tmp_path: Path) -> None:
    for number in range(10):
        image = Image.new("L", (20, 30))
        image.paste(200, (3, 5, 11, 13))
        image.save(tmp_path / f"{number}.png")
    config = {"root": tmp_path, "grey": True, "size": 4, "box": [3, 5, 11, 13], "seed": 0}
    found = ImageFolder(ImagesConfig.model_validate(config)).load("train").x
    assert torch.allclose(255 * found, torch.full_like(found, 200.0), atol=1e-4)
    with pytest.raises(DataError, match=r"20 x 30 pixels, and the box \[3, 5, 21, 13\] reaches beyond"):
        ImageFolder(ImagesConfig.model_validate({**config, "box": [3, 5, 21, 13]}))
    with pytest.raises(ValueError, match="right of left"):
        ImagesConfig.model_validate({**config, "box": [3, 5, 3, 13]})


def create(config: Mapping[str, object]) -> ImageFolder:
    return ImageFolder(ImagesConfig.model_validate(config))


def shades(folder: Path, count: int = 30) -> None:
    for number in range(count):
        Image.new("L", (6, 6), color=number).save(folder / f"{number:02d}.png")


@pytest.mark.parametrize("memory", [1024.0, 0.0])
def test_damaged_images_are_named_all_at_once(tmp_path: Path, memory: float) -> None:
    shades(tmp_path)
    for name in ("04.png", "17.png", "21.png"):
        (tmp_path / name).write_bytes(b"no image")
    config = {"root": tmp_path, "grey": True, "memory": memory}
    with pytest.raises(DataError, match="3 of 30 images can't be read") as caught:
        list(create({**config, "fractions": [1, 0, 0]}).load("train").batches(4))
    assert all(name in str(caught.value) for name in ("04.png", "17.png", "21.png", "damaged: skip"))
    # The fix that is printed is one, and rows are still the rows of the folder.
    source = create({**config, "damaged": "skip", "fractions": [0, 0, 1]})
    test = source.load("test")
    read = test.take(torch.arange(len(test)))
    assert sorted(read.index.tolist()) == sorted(set(range(30)) - {4, 17, 21})
    assert torch.equal((255 * read.x[:, 0, 0, 0]).round().long(), read.index)
    assert source.rows[17] == "17.png"
    assert source.data_warnings() == ("3 images can't be read and are left out: 04.png, 17.png, 21.png",)
    (tmp_path / "04.png").unlink()
    (tmp_path / "17.png").unlink()
    with pytest.raises(DataError, match=r"21.png can't be read as an image") as alone:
        list(create({**config, "fractions": [0, 0, 1]}).load("test").batches(4))
    assert "damaged: skip" in str(alone.value)
    source = create({"root": tmp_path, "grey": True, "damaged": "skip"})
    assert source.data_warnings() == ("1 image can't be read and is left out: 21.png",)


def test_a_folder_without_any_image_that_can_be_read_is_refused(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    for damaged in ("refuse", "skip"):
        with pytest.raises(DataError, match=r"7 of 7 images can't be read: .*and 2 more") as caught:
            create({"root": tmp_path, "damaged": damaged})
        assert caught.value.hint == "give files that programs for images open"


def test_images_of_several_sizes_are_looked_at_without_a_size(tmp_path: Path) -> None:
    for number in range(20):
        Image.new("L", (8 + number % 3, 9), color=number).save(tmp_path / f"{number:02d}.png")
    seen = ImageFolder.inspect(ImagesConfig(root=tmp_path))
    assert (seen.rows, seen.event_shape) == (20, (3, 8, 8))
    assert seen.warnings[0].startswith("the images have 3 sizes from 8 x 9 to 10 x 9: size: 8 makes all of them 8 x 8")
    with pytest.raises(DataError, match="size: 8 resizes"):
        create({"root": tmp_path})
    assert ImageFolder.inspect(ImagesConfig(root=tmp_path, size=4)).event_shape == (3, 4, 4)


def test_classes_of_images_are_named_where_one_looks(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        Image.new("L", (8, 8), color=number).save(folder / f"{number:02d}.png")
    (said,) = ImageFolder.inspect(ImagesConfig(root=tmp_path)).warnings
    assert said.startswith("the images have 2 classes (cat, dog): by: label answers for each, and data:few-shot ")
    assert create({"root": tmp_path}).data_warnings() == ()


@pytest.mark.parametrize(("strange", "side"), [((1, 90), 8), ((3, 5), 3), ((900, 700), 8)])
def test_one_image_of_another_size_does_not_settle_the_size_of_all(
    tmp_path: Path, strange: tuple[int, int], side: int
) -> None:
    for number, size in enumerate([(8, 9), (10, 9), (9, 9), (30, 12), strange]):
        Image.new("L", size, color=number).save(tmp_path / f"{number}.png")
    seen = ImageFolder.inspect(ImagesConfig(root=tmp_path))
    assert seen.event_shape == (3, side, side)
    assert f"size: {side} makes" in seen.warnings[0]
    assert seen.warnings[0].endswith("enlarges the smallest") == (side > min(strange))
