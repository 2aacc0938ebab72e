"""Peak memory and speed of a training on shards that are larger than it may keep in memory.

    python benchmarks/streaming.py [--mib N] [--memory M] [--format F ...]

Writes N MiB of points as npy and parquet shards and images as tar files into a temporary folder, and trains a small
model on each with ``memory: M``, and once with all of it in memory, each in a process of its own. Peaks are above what
the process had after its imports and a training on 1 MiB. Exit status 1 where streaming peaks above half of what the
same training takes in memory. Linux only, whose /proc knows peaks.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import closing
from pathlib import Path

COLUMNS, SIDE, BATCH, STEPS, SHARDS = 64, 32, 256, 400, 8
FORMATS = ("npy", "parquet", "tar")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=100)
    parser.add_argument("--memory", type=float, default=16)
    parser.add_argument("--format", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        format_, folder, memory = options.measure
        print(json.dumps(measure(format_, Path(folder), float(memory))))
        return 0
    high = []
    print(f"{options.mib} MiB in {SHARDS} shards; batches of {BATCH}; peaks in MiB above the base")
    print(
        f"{'format':8} {'memory':>7} {'opened, s':>10} {'peak, open':>11} {'peak':>6} {'batches/s':>10} {'steps/s':>8}"
    )
    for format_ in options.format:
        with tempfile.TemporaryDirectory() as folder:
            write(format_, Path(folder) / "tiny", 1)
            write(format_, Path(folder) / "large", options.mib)
            peaks = []
            for memory in (options.memory, 16 * options.mib):
                command = [sys.executable, __file__, "--measure", format_, folder, str(memory)]
                row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(
                    f"{format_:8} {memory:7g} {row['opened']:10.1f} {row['open_peak']:11.0f} {row['peak']:6.0f} "
                    f"{row['batches']:10.0f} {row['steps']:8.0f}",
                    flush=True,
                )
                peaks.append(row["peak"])
            if peaks[0] > peaks[1] / 2:
                high.append(format_)
    if high:
        print(f"streaming {', '.join(high)} took more than half the memory of a training in memory")
    return int(bool(high))


def write(format_: str, folder: Path, mib: int) -> None:
    """Shards of so many MiB in all."""
    import numpy as np

    folder.mkdir()
    draws = np.random.default_rng(0)
    for shard in range(SHARDS):
        path = folder / f"part-{shard:02d}.{format_}"
        if format_ == "tar":
            _write_tar(path, mib * 2**20 // SHARDS, draws)
            continue
        points = draws.normal(size=(mib * 2**20 // SHARDS // COLUMNS // 4, COLUMNS)).astype("float32")
        if format_ == "npy":
            np.save(path, points)
        else:
            import pandas as pd

            frame = pd.DataFrame(points, columns=[f"x{i}" for i in range(COLUMNS)])
            frame.to_parquet(path, row_group_size=4096)


def _write_tar(path: Path, size: int, draws: object) -> None:
    import numpy as np
    from PIL import Image

    assert isinstance(draws, np.random.Generator)
    with tarfile.open(path, "w") as tar:
        written = number = 0
        while written < size:
            raw = io.BytesIO()
            Image.fromarray(draws.integers(0, 256, (SIDE, SIDE, 3), dtype="uint8")).save(raw, "png")
            for kind, content in (("png", raw.getvalue()), ("cls", str(number % 10).encode())):
                member = tarfile.TarInfo(f"{number:07d}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            written, number = written + len(raw.getvalue()), number + 1


def peak() -> float:
    """The peak of this process's memory so far, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(format_: str, folder: Path, memory: float) -> dict[str, float]:
    import torch

    from scorefold.config import TrainingConfig
    from scorefold.interfaces import DataSource
    from scorefold_registry import Host
    from scorefold_standard.data.array import ArrayFile
    from scorefold_standard.data.config import ArrayConfig, ImagesConfig
    from scorefold_standard.data.images import ImageFolder
    from scorefold_toolkit.training import fit
    from scorefold_toolkit.training.validation import batch_positions

    torch.set_num_threads(1)
    pattern = f"part-*.{format_}"

    def opened(name: str) -> DataSource:
        path = str(folder / name / pattern)
        if format_ == "tar":
            return ImageFolder(ImagesConfig(root=path, memory=memory))
        return ArrayFile(ArrayConfig(path=path, memory=memory))

    host = Host.discover()

    def trained(source: DataSource) -> float:
        """Steps of a training a second."""
        network = {"use": "network:mlp", "config": {"width": 64, "blocks": 1}}
        model = host.create("score:denoising", {"network": network}, data=source)
        start = time.perf_counter()
        fit(model, source.load("train"), TrainingConfig(steps=STEPS, batch_size=BATCH))
        return STEPS / (time.perf_counter() - start)

    trained(opened("tiny"))
    base = peak()
    start = time.perf_counter()
    source = opened("large")
    seconds, open_peak = time.perf_counter() - start, peak() - base
    steps = trained(source)
    train = source.load("train")
    positions = batch_positions(train, BATCH, seed=1, phase="fit", start=0, rank=0, processes=1)
    start, number = time.perf_counter(), 0
    with closing(train.takes(positions)) as reader:
        for _ in reader:
            number += 1
            if number == STEPS or time.perf_counter() - start > 30:
                break
    batches = number / (time.perf_counter() - start)
    return {"opened": seconds, "open_peak": open_peak, "peak": peak() - base, "batches": batches, "steps": steps}


if __name__ == "__main__":
    sys.exit(main())
