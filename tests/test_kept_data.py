"""Every data source of ours is kept once and copied cheaply: no stage reads its files again, and none can change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from scorefold.data import StreamedDataset
from scorefold.errors import ScorefoldError
from scorefold_registry.host import Host
from scorefold_registry.run import stage_values
from scorefold_registry.run.stage_values import KeptData

HOST = Host.discover()
EXAMPLES = [
    (item.qualified, example) for item in HOST.components("data") for example in item.component.examples if example
]


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_a_source_is_copied_without_being_built_again(name: str, example: Any, tmp_path: Path) -> None:
    try:
        source = HOST.create(name, example.get("config"), **example.get("inputs", {}))
    except ScorefoldError as error:
        pytest.skip(f"needs files or a package: {error.message}")
    kept = KeptData(HOST, source, tmp_path)
    first, second = kept.copy(), kept.copy()
    assert kept._image is not None
    assert first is not source
    assert kept.equals(first)
    made = HOST.builder.memory.of(first)
    assert made is not None
    assert made.registered.qualified == name
    for split in ("train", "validation", "test"):
        try:
            points = first.load(split)
        except ScorefoldError:
            continue
        if not isinstance(points, StreamedDataset):
            points.x.zero_()
    if any(not isinstance(points, StreamedDataset) for _, points in stage_values._splits(first)):
        assert not kept.equals(first) or all(not points.x.any() for _, points in stage_values._splits(second))
    assert kept.equals(second)


@pytest.mark.parametrize("memory", [1024.0, 0.001])
def test_a_table_is_parsed_once(memory: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory and streamed: copies share what reads the file, and have the rest for themselves."""
    path = tmp_path / "table.csv"
    values = np.random.default_rng(0).normal(size=(400, 3))
    pd.DataFrame(values, columns=["a", "b", "c"]).to_csv(path, index=False)
    source = HOST.create("data:array", {"path": str(path), "memory": memory})
    kept = KeptData(HOST, source, tmp_path)
    monkeypatch.setattr(pd, "read_csv", None)  # whoever parses the file again fails
    first, second = kept.copy(), kept.copy()
    streamed = isinstance(first.load("train"), StreamedDataset)
    assert streamed == (memory < 1)
    index = torch.arange(5)
    torch.testing.assert_close(first.load("train").take(index).x, source.load("train").take(index).x)
    assert first.load("train").index is not second.load("train").index
    first.load("train").index.zero_()
    assert kept.equals(second)
    assert not kept.equals(first)
