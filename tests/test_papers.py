"""Every run file of a paper starts on tiny data in the format that it names, with two steps and small networks, and
says what it is and what it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scorefold_registry import run_file
from scorefold_registry.host import Host

ROOT = Path(__file__).parent.parent
PAPERS = ROOT / "examples/papers"
FILES = sorted(PAPERS.glob("*/*.yaml"))
TRAINING = ("steps=2", "batch_size=4", "validate_every=2", "checkpoint_every=2")


@pytest.fixture(scope="module")
def host() -> Host:
    return Host.discover()


def idx_files(folder: Path, count: int = 100) -> Path:
    """MNIST's four files, of blurred noise."""
    draws = np.random.default_rng(0)
    for name in ("train", "t10k"):
        images = np.kron(draws.integers(0, 256, (count, 7, 7)), np.ones((4, 4))).astype(np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + values.tobytes())
    return folder


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


TINY: dict[str, Callable[[str, Path], list[str]]] = {"dimension": dimension, "pullback": pullback}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_starts(host: Host, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Figures are most of what a small run costs.
    monkeypatch.setattr("scorefold_registry.run.stage_folder.draw", lambda target, shown, folder: [])
    sets = TINY[path.parent.name](path.stem, tmp_path)
    result = run_file(host, path, sets=sets, runs=tmp_path / "runs", cache=tmp_path / "cache")
    assert len(result.stages) > 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_says_what_it_is_and_is_listed(path: Path) -> None:
    lines = path.read_text().splitlines()
    said = " ".join(line.removeprefix("# ") for line in lines[1:] if line.startswith("#")).lower()
    assert "table" in said or "figure" in said or "abstract" in said
    assert any(word in said for word in ("gpu", "cpu", "hardware"))
    assert f"`{path.parent.name}/{path.name}`" in (PAPERS / "README.md").read_text()
