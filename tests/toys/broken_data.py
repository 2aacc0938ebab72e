"""Files of data that someone broke: numpy arrays and archives, tables, images. Refused with a message, or read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from damaged_states import tried

from scorefold_registry.host import Host

CELLS = [
    "", "nan", "inf", "-inf", "NA", "x", "1e400", "9" * 400, "1,5", "1.5.2", "0x10", '"', '"1', "1\0", "\ufeff1",
    "=1+1", "1 2", "1;2", "\u0661", "True", "2024-01-01", "1_000", "--1", "-", "\r", "1" * 200_000,
]  # fmt: skip


def make_data(folder: Path) -> list[Path]:
    """Right files of every format, and a folder of images."""
    import pandas as pd
    from PIL import Image

    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 3)).astype(np.float32)
    names = [folder / f"points.{ending}" for ending in ("npy", "npz", "csv", "parquet")]
    np.save(names[0], x)
    np.savez_compressed(names[1], x=x)
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame.to_csv(names[2], index=False)
    frame.to_parquet(names[3])
    images = folder / "images"
    images.mkdir()
    for number, ending in enumerate(
        ["png", "png", "png", "png", "jpg", "bmp", "png", "png", "png", "png", "png", "png"]
    ):
        pixels = generator.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.{ending}")
    return [*names, images]


def try_data(host: Host, right: list[Path], folder: Path, random: Random) -> bool:
    """Break one of the files and read it; whether that was refused. Raises ``AssertionError`` for any harm."""
    chosen = random.choice(right)
    if chosen.is_dir():
        folder = folder / "images"
        folder.mkdir(exist_ok=True)
        files = sorted(chosen.iterdir())
        for file in files:
            (folder / file.name).write_bytes(file.read_bytes())
        file = random.choice(files)
        (folder / file.name).write_bytes(broken(random, file.read_bytes()))
        data: dict[str, Any] = {"root": str(folder), "memory_mb": random.choice([0, 256])}
        name = "data:images"
    else:
        path = folder / chosen.name
        change = broken_cells if chosen.suffix == ".csv" and random.random() < 0.6 else broken
        path.write_bytes(change(random, chosen.read_bytes()))
        data, name = {"path": str(path)}, "data:array"

    def read() -> torch.Tensor:
        return host.create(name, data).load("train").tensor()

    points, refused = tried(read)
    if refused is None:
        assert points.is_floating_point()
        assert bool(torch.isfinite(points).all()), "numbers that are not finite were read"
    return refused is not None


def broken(random: Random, raw: bytes) -> bytes:
    """Bytes that were cut, changed, repeated or replaced, once or a few times."""
    changes: list[Callable[[int], bytes]] = [
        lambda at: raw[:at],
        lambda at: raw[:at] + bytes([raw[at % len(raw)] ^ (1 << random.randrange(8))]) + raw[at + 1 :],
        lambda at: raw[:at] + random.randbytes(random.choice([1, 4, 50])) + raw[at:],
        lambda at: raw[:at] + raw[at + random.choice([1, 4, 50]) :],
        lambda at: raw[:at] + struct.pack("<q", random.choice([-1, 0, 2**31, 2**62])) + raw[at + 8 :],
        lambda at: raw[:at] + b"\0" * 8 + raw[at + 8 :],
        lambda at: raw + raw,
        lambda at: random.choice([b"", b"\0", b"\xff\xfe" + raw, random.randbytes(300), b"\n" * 1000]),
    ]
    # The start of a file says what it is, and breaks it in more ways than its numbers.
    at = random.randrange(min(len(raw), 150)) if random.random() < 0.5 else random.randrange(len(raw) + 1)
    return random.choice(changes)(at)


def broken_cells(random: Random, raw: bytes) -> bytes:
    """A table as text with other cells, lines or ends of lines."""
    lines = [line.split(",") for line in raw.decode().splitlines()]
    for _ in range(random.choice([1, 1, 3, 20])):
        line = random.choice(lines)
        how = random.randrange(4)
        if how < 2 and line:
            line[random.randrange(len(line))] = random.choice(CELLS)
        elif how == 2:
            line.append(random.choice(CELLS))
        elif line:
            line.pop()
    text = random.choice(["\n", "\n", "\n", "\r\n", "\r", "\n\n"]).join(map(",".join, lines))
    return text.encode(random.choice(["utf-8", "utf-8", "utf-8", "utf-16", "cp1252"]), "replace")
