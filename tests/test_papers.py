"""Every run file of a paper starts on tiny data in the format that it names, with two steps and small networks, and
says what it is and what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import PAPER_FILES, PAPERS, settings_of

from scorefold_registry import run_file
from scorefold_registry.host import Host
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("path", PAPER_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_starts(host: Host, tmp_path: Path, path: Path) -> None:
    sets = settings_of(path, tmp_path)
    result = run_file(host, path, sets=sets, runs=tmp_path / "runs", cache=tmp_path / "cache")
    assert len(result.stages) > 1


@pytest.mark.parametrize("path", PAPER_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_valid(host: Host, path: Path) -> None:
    assert make_plan(host.catalogue, read(path)).stages


@pytest.mark.parametrize("path", PAPER_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_says_what_it_is_and_is_listed(path: Path) -> None:
    lines = path.read_text().splitlines()
    said = " ".join(line.removeprefix("# ") for line in lines[1:] if line.startswith("#")).lower()
    assert "table" in said or "figure" in said or "abstract" in said
    assert any(word in said for word in ("gpu", "cpu", "hardware"))
    assert f"`{path.parent.name}/{path.name}`" in (PAPERS / "README.md").read_text()
