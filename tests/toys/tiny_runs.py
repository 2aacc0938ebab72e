"""Settings with which every run file of a paper, and every example, runs in seconds on tiny data."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
PAPERS = ROOT / "examples/papers"
PAPER_FILES = sorted(PAPERS.glob("*/*.yaml"))
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
TRAINING = ("steps=2", "batch_size=4", "validate_every=2", "checkpoint_every=2")


def idx_files(folder: Path, count: int = 100) -> Path:
    """MNIST's four files, of blurred noise."""
    draws = np.random.default_rng(0)
    for name in ("train", "t10k"):
        images = np.kron(draws.integers(0, 256, (count, 7, 7)), np.ones((4, 4))).astype(np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + values.tobytes())
    return folder


def faces(folder: Path, count: int = 30) -> Path:
    """CelebA's lists and its images, 178 x 218 pixels."""
    images = folder / "celeba/img_align_celeba"
    images.mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, count + 1)]
    draws = np.random.default_rng(0)
    for name in names:
        pixels = np.kron(draws.integers(0, 256, (109, 89, 3)), np.ones((2, 2, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(images / name)
    lines = "".join(f"{name} " + " ".join(["1", "-1"] * 20) + "\n" for name in names)
    head = f"{count}\n" + " ".join(f"Attribute_{number}" for number in range(40)) + "\n"
    (images.parent / "list_attr_celeba.txt").write_text(head + lines)
    parts = [f"{name} {min(place // 10, 2)}\n" for place, name in enumerate(names)]
    (images.parent / "list_eval_partition.txt").write_text("".join(parts))
    return folder


def pairs(folder: Path, count: int = 30) -> Path:
    """Pairs side by side, 256 x 512 pixels as pix2pix publishes them."""
    draws = np.random.default_rng(0)
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True)
        for number in range(count // 2):
            pixels = np.kron(draws.integers(0, 256, (16, 32, 3)), np.ones((16, 16, 1))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / part / f"{number}_AB.jpg")
    return folder


def lpips(folder: Path) -> str:
    """The two files of LPIPS with AlexNet, of noise."""
    shapes = ((0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3))
    state = {f"features.{place}.weight": 0.01 * torch.randn(out, into, size, size) for place, into, out, size in shapes}
    state |= {f"features.{place}.bias": torch.zeros(out) for place, _, out, _ in shapes}
    torch.save(state, folder / "alexnet.pth")
    heads = {f"lin{number}.model.1.weight": torch.rand(1, row[2], 1, 1) for number, row in enumerate(shapes)}
    torch.save(heads, folder / "alex.pth")
    return f"{{alexnet: {folder / 'alexnet.pth'}, heads: {folder / 'alex.pth'}}}"


def trained(stage: str) -> list[str]:
    return [f"stages.{stage}.config.training.{setting}" for setting in TRAINING]


def dimension(name: str, folder: Path) -> list[str]:
    sets = [*trained("score"), "stages.dimension.config.points=2"]
    if name == "mnist":
        sets += [f"stages.data.config.root={idx_files(folder)}"]
    else:
        sets += ["stages.data.config.points=130"]
    if name.startswith(("sphere", "spaghetti")):
        sets += ["stages.score.config.network.config.width=8", "stages.dimension.config.noises=120"]
        return sets
    pad = ["stages.data.config.pad=0"] if name == "mnist" else []
    small = "{channels: [4, 4], attention: [], groups: 2}"
    sets += [*pad, "stages.data.config.size=8", f"stages.score.config.network={{use: network:unet, config: {small}}}"]
    # There are 62 places for blobs in 8 pixels.
    fewer = ["stages.data.config.blobs=10"] if name == "blobs-100" else []
    return [*sets, *fewer, "stages.dimension.config.noises=80"]


def pullback(name: str, folder: Path) -> list[str]:
    sets = [*trained("flow"), "stages.flow.config.training.patience=null"]
    if name.startswith(("mnist", "blobs")):
        data = f"root={idx_files(folder)}" if name.startswith("mnist") else "points=60"
        glow = ("levels=2", "steps=1", "channels=4", "blocks=1")
        sets += [f"stages.data.config.{data}", *(f"stages.flow.config.map.{setting}" for setting in glow)]
        sets += ["stages.paths.options={pairs: 2, times: 3}"]
        sets += ["stages.data.config.blobs=10"] if name == "blobs-100" else []
        return sets + (["stages.data.config.pad=0"] if name.startswith("mnist") else []) + ["stages.data.config.size=8"]
    sets += ["stages.data.config.points=60", "stages.flow.config.map.width=4", "stages.flow.config.map.layers=2"]
    if name.startswith(("hemisphere", "sinusoid")):
        return [*sets, "stages.data.config.dimension=1", "stages.data.config.ambient=3"]
    return [*sets, "stages.data.config.chain_steps=5", "stages.paths.options={pairs: 2, times: 3}"]


SMALL = "{channels: [4, 4], attention: [], groups: 2, blocks: 1}"
"""A U-Net, or a half of one."""


def scorevae(name: str, folder: Path) -> list[str]:
    if name.startswith("cifar10"):
        root = ROOT / "plugins/standard/src/scorefold_standard/samples/cifar10"
        sets = [f"stages.data.config.root={root}", "stages.data.config.verify=false", "stages.data.config.size=8"]
    else:
        sets = [f"stages.data.config.root={faces(folder)}", "stages.data.config.size=8"]
    models = {
        "cifar10-vae": ("vae",),
        "celeba-vae": ("vae",),
        "cifar10": ("scorevae", "scorevae-plus"),
        "celeba": ("scorevae", "scorevae-plus"),
    }
    for model in models.get(name, ("diff-decoder",)):
        sets += trained(model)
        for part, network in (("encoder", "half-unet"), ("decoder", "mirror-decoder"), ("network", "unet")):
            if part in {"vae": ("encoder", "decoder"), "scorevae": ("encoder",), "scorevae-plus": ("network",)}.get(
                model, ("encoder", "network")
            ):
                sets += [f"stages.{model}.config.{part}={{use: network:{network}, config: {SMALL}}}"]
        if model != "scorevae-plus":
            sets += [f"stages.{model}.config.latent=3"]
        if model != "vae":
            sets += [f"stages.{model}.config.decoding.steps=2"]
    if name in ("cifar10", "celeba"):
        sets += [*trained("prior"), f"stages.prior.config.network={{use: network:unet, config: {SMALL}}}"]
        sets += ["stages.back-plus.options.limit=2"]
    return [*sets, "stages.back.options.limit=2"]


def conditional(name: str, folder: Path) -> list[str]:
    root = pairs(folder / "data") if name.startswith("edges") else faces(folder / "data")
    size = 32 if name.endswith("-cde") else 16
    sets = [f"stages.data.config.root={root}", f"stages.data.config.size={size}", *trained("score")]
    sets += [f"stages.score.config.network={{use: network:unet, config: {SMALL}}}", "stages.assess.options.n=2"]
    sets += ["stages.assess.options.conditions=2", "stages.assess.options.steps=2"]
    return sets + ([f"stages.assess.options.lpips={lpips(folder)}"] if size == 32 else [])


def many(folder: Path, size: int = 40, classes: int = 1, count: int = 30) -> Path:
    """A folder of images in colour, or of folders of them by class."""
    draws = np.random.default_rng(0)
    for number in range(classes):
        place = folder if classes == 1 else folder / f"n{number}"
        place.mkdir(parents=True, exist_ok=True)
        for name in range(count):
            pixels = np.kron(draws.integers(0, 256, (size // 4, size // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{name}.png")
    return folder


def caflow(name: str, folder: Path) -> list[str]:
    if name.startswith("ffhq"):
        root = many(folder / "data", 1024, count=20)
    elif name.startswith("celeba"):
        root = faces(folder / "data")
    else:
        root = pairs(folder / "data") if name.startswith("edges") else many(folder / "data")
    sets = [f"stages.data.config.root={root}", "stages.data.config.size=16", "stages.data.config.limit=null"]
    sets += [*trained("flow"), "stages.flow.config.scales=2", "stages.flow.config.training.drops=[1]"]
    sets += [
        f"stages.flow.config.{part}.{key}" for part in ("encoder", "translation") for key in ("steps=1", "hidden=4")
    ]
    return [*sets, "stages.likelihood.options.limit=2", "stages.assess.options={n: 2, conditions: 2, temperature: 0.9}"]


def nonuniform(name: str, folder: Path) -> list[str]:
    celeba = name.startswith("celeba")
    root = faces(folder / "data") if celeba else many(folder / "data", classes=2, count=10)
    sets = [f"stages.data.config.root={root}", "stages.data.config.size=16", *trained("score")]
    sets += [] if celeba else ["stages.data.config.fractions=[0.8, 0.1, 0.1]"]
    net = f"{{use: network:unet, config: {SMALL}}}"
    if name.endswith("vanilla"):
        sets += [f"stages.score.config.network={net}"]
    else:
        sets += ["stages.score.config.bands.levels=1", f"stages.score.config.networks=[{net}, {net}]"]
    return [*sets, "stages.assess.options.conditions=4", "stages.assess.options.steps=4"]


def allocation(name: str, folder: Path) -> list[str]:
    stage = "loss" if name == "sinusoid" else "accuracy"
    sets = [f"stages.{stage}.config.{setting}" for setting in ("updates=2", "validation.tasks=2", "new_tasks.tasks=2")]
    cell = "{tasks: 3, support: 10, query: 10}"
    hard = name in ("cifar-fs-noisy", "cifar-fs-superclasses")
    plans = f"mixtures: [{{easy: {cell}, hard: {cell}}}]" if hard else f"cells: [{cell}]"
    sets += [f"stages.{stage}.options={{seeds: 1, {plans}}}"]
    if name == "sinusoid":
        return [*sets, "stages.loss.config.new_tasks.support=5", "stages.loss.config.new_tasks.query=5"]
    size = 84 if name == "mini-imagenet" else 32
    images = "images" if name == "mini-imagenet" else "data"
    if name == "cifar-fs-superclasses":
        root = many(folder / images, size, classes=100, count=10)
        return [*sets, f"stages.images.config.root={root}", "stages.accuracy.config.network.channels=4"]
    many(folder / images, size, classes=15, count=12)
    for number, split in enumerate(("train", "val", "test")):
        names = [f"n{kind}" for kind in range(5 * number, 5 * number + 5)]
        rows = [f"{kind}/{image}.png,{kind}" for kind in names for image in range(12)]
        (folder / f"{split}.csv").write_text("\n".join(["filename,label", *rows]) + "\n")
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
    return [*sets, f"stages.tasks.config.root={folder}", "stages.accuracy.config.network.channels=4"]


TINY: dict[str, Callable[[str, Path], list[str]]] = {
    "dimension": dimension,
    "pullback": pullback,
    "scorevae": scorevae,
    "conditional": conditional,
    "caflow": caflow,
    "nonuniform": nonuniform,
    "allocation": allocation,
}


def settings_of(file: Path, folder: Path) -> list[str]:
    """The settings of a run file, after writing the data that it names into a folder."""
    if file in PAPER_FILES:
        return TINY[file.parent.name](file.stem, folder)
    written: dict[str, Callable[[Path], list[str]]] = {"your-array": _array, "your-images": _images}
    written |= {"diffusers-code": partial(_checkpoint, "prior"), "diffusers-samples": partial(_checkpoint, "score")}
    sets = written[file.stem](folder) if file.stem in written else []
    if file.stem == "tracked-training":
        sets = [f"plugins.tracking.tensorboard.directory={folder / 'tensorboard'}"]
    return [*sets, *_EXAMPLE_SETTINGS.get(file.stem, [])]


_EXAMPLE_SETTINGS: dict[str, list[str]] = {
    "allocate-pilot": [
        *(f"stages.plan.inputs.learner.config.{value}" for value in ("updates=3", "new_tasks.tasks=5")),
        *(f"stages.plan.config.pilot.{value}" for value in ("seeds=2", "first_seeds=2", "sizes=3", "budgets=1")),
    ],
    "audit-garments": [f"stages.{stage}.options={{n: 60, permutations: 99}}" for stage in ("audit", "audit-gaussian")],
    "banana-geodesics": [
        *("stages.data.config.points=300", "stages.paths.options.between=[[0, 1], [2, 3]]"),
        "stages.straight.options.between=[[0, 1], [2, 3]]",
    ],
    "diffusers-code": [
        *("stages.data.config.points=40", "stages.code.config.training.steps=3", "stages.code.config.decoding.steps=3"),
        *("stages.back.options={limit: 4, decoding: {steps: 3}}", "stages.between.options={pairs: 2, times: 3}"),
    ],
    "diffusers-samples": ["stages.samples.options={n: 3, steps: 4, sampler: dpmpp-2m}"],
    "fashion-code": [
        "stages.back.options={limit: 8, draws: 2, decoding: {steps: 4}}",
        *(f"stages.{stage}.options.decoding={{steps: 4}}" for stage in ("between", "units")),
        *("stages.between.options.pairs=2", "stages.units.options.count=2"),
    ],
    "fashion-code-geometry": ["stages.vae.config.training.steps=20", "stages.paths.options.pairs=1"],
    "digits-dimension": ["stages.score.config.training.steps=20", "stages.dimension.config={points: 2, levels: 3}"],
    "digits-inpainting": [
        *("stages.score.config.training.steps=3", "stages.draws.options={n: 2, conditions: 4, steps: 4}"),
        "stages.score.config.network.config.channels=[8, 8]",
    ],
    "fashion-dimension": ["stages.at-most.config.points=40"],
    "fashion-geodesics": ["stages.paths.options.pairs=2", "stages.straight.options.pairs=2"],
    "fashion-inpainting": ["stages.draws.options={n: 2, conditions: 2, steps: 2}"],
    "fashion-noise-paths": ["stages.paths.options={pairs: 1, times: 3, decoding: {steps: 2}}"],
    "fashion-samples": [
        "stages.samples.options={n: 2, steps: 2}",
        "stages.likelihood.options={limit: 1, tolerance: 0.1}",
    ],
    "fashion-super-resolution": [
        "stages.flow.config.training.steps=3",
        *(f"stages.{name}.options.conditions=4" for name in ("draws", "draws-cool")),
    ],
    "flow-likelihood": ["stages.flow.config.training.steps=10"],
    "hemisphere-code": ["stages.flow.config.training.steps=10", "stages.data.config.points=500"],
    "learned-geodesics": ["stages.flow.config.training.steps=10"],
    "fashion-multiscale": [
        *("stages.score.config.training.steps=6", "stages.samples.options.n=4"),
        "stages.score.config.network.config.channels=[8, 8]",
    ],
    "signal-gaps": [
        *("stages.beats.config.length=3000", "stages.score.config.training.steps=3", "stages.samples.options.n=4"),
        "stages.filled.options={n: 2, conditions: 3, steps: 4}",
    ],
    "sphere-dimension": ["stages.data.config.points=300"],
    "tracked-training": ["stages.score.config.training.steps=5", "stages.dimension.config={points: 2, levels: 3}"],
    "your-array": ["stages.score.config.training.steps=5", "stages.dimension.config={points: 2, levels: 3}"],
    "your-images": [
        "stages.score.config.training={steps: 2, batch_size: 8}",
        "stages.dimension.config={points: 2, levels: 3, resamples: 0}",
    ],
}


def _array(folder: Path) -> list[str]:
    np.save(folder / "mine.npy", load_digits().data[:400])
    return [f"stages.data.config.path={folder / 'mine.npy'}"]


def _images(folder: Path) -> list[str]:
    place = folder / "images"
    place.mkdir()
    for index, image in enumerate(load_digits().images[:60]):
        Image.fromarray((image * 15).astype("uint8")).save(place / f"{index:03}.png")
    return [f"stages.data.config.root={place}"]


def _checkpoint(stage: str, folder: Path) -> list[str]:
    spec = importlib.util.spec_from_file_location("diffusers_checkpoint", ROOT / "examples/diffusers_checkpoint.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_tiny_pipeline(folder / "pipeline")
    return [f"stages.{stage}.config.path={folder / 'pipeline'}"]
