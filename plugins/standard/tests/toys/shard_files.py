"""Points and images in several files, and trainings on them that are killed.

Run as a program it trains a case and ends by SIGKILL, so that a test can call the same again to go on.
"""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image
from torch import nn

from scorefold.config import TrainingConfig
from scorefold.interfaces import DataSource
from scorefold_registry import Host
from scorefold_standard.data.array import ArrayFile
from scorefold_standard.data.config import ArrayConfig, ImagesConfig
from scorefold_standard.data.images import ImageFolder
from scorefold_toolkit.training import fit

COUNT = 300
CUTS = [90, 100, 240]
"""The rows at which the points are cut into files."""


def points() -> pd.DataFrame:
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(draws.normal(5.0, 2.0, (COUNT, 3)), columns=["a", "b", "c"])
    return frame.assign(angle=draws.uniform(size=COUNT), kind=draws.choice(["cat", "dog", "eel"], COUNT))


def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (COUNT, 4, 4, 3), dtype=np.uint8)


def write_npy(folder: Path) -> None:
    for number, part in enumerate(np.split(points()[["a", "b", "c"]].to_numpy(), CUTS)):
        np.save(folder / f"part-{number}.npy", part)


def write_parquet(folder: Path) -> None:
    for number, part in enumerate(np.split(np.arange(COUNT), CUTS)):
        points().iloc[part].to_parquet(folder / f"part-{number}.parquet", row_group_size=25, index=False)


def write_tar(path: Path, samples: Sequence[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in samples:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def png(image: np.ndarray) -> bytes:
    raw = io.BytesIO()
    Image.fromarray(image).save(raw, "png")
    return raw.getvalue()


def write_tars(folder: Path) -> None:
    images = pixels()
    for number, part in enumerate(np.split(np.arange(COUNT), CUTS)):
        samples = []
        for row in part.tolist():
            label, facts = str(row % 4).encode(), json.dumps({"row": row}).encode()
            samples += [(f"{row:04d}.cls", label), (f"{row:04d}.png", png(images[row])), (f"{row:04d}.json", facts)]
        write_tar(folder / f"part-{number}.tar", samples)


def save_dataset(folder: Path, columns: Mapping[str, Sequence[object]], features: Mapping[str, object]) -> None:
    """A folder as ``datasets.Dataset.save_to_disk`` of Hugging Face writes it, in two files of batches of 40 rows."""
    folder.mkdir()
    table = pa.table(dict(columns))
    names = [f"data-{number:05d}-of-00002.arrow" for number in range(2)]
    half = len(table) // 2
    for name, part in zip(names, (table.slice(0, half), table.slice(half)), strict=True):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(part, max_chunksize=40)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": dict(features)}))


def opened(case: str, folder: Path) -> DataSource:
    """The streamed source of a case, whose files are in a folder."""
    if case == "tar":
        return ImageFolder(ImagesConfig(root=str(folder / "part-*.tar"), memory=0))
    columns = ("a", "b", "c") if case == "parquet" else None
    return ArrayFile(ArrayConfig(path=str(folder / f"part-*.{case}"), columns=columns, memory=0))


def train(case: str, folder: Path, kept: Path | None, *, killed: bool = False) -> nn.Module:
    """A short training on the files of a case; ``killed`` ends the process after the 18th step, whose last checkpoint
    is of the 14th."""
    source = opened(case, folder)
    network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = Host.discover().create("score:denoising", {"network": network}, data=source)

    def watch(step: int, values: Mapping[str, float]) -> None:
        if killed and step == 18:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = TrainingConfig(steps=40, batch_size=16, log_every=1, checkpoint_every=7, warmup=5)
    fit(model, source.load("train"), settings, seed=3, checkpoint_dir=kept, metrics=watch)
    return model
