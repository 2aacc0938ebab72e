"""Scales trained by runs of their own, as on several machines, and joined by a run file that loads them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from scorefold.artefacts import read_json
from scorefold.errors import ConfigError
from scorefold_registry import Host, run_file

HEAD = """version: 1
name: NAME
seed: 4
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:gaussian-field, config: {size: 8, points: 200}}
"""
SCORE = """  score:
    use: score:multiscale
    inputs: {data: data}
    config:
      bands: {name: haar, levels: 1}
      network: {use: network:mlp, config: {width: 16, blocks: 1}}
      training: {steps: 8, batch_size: 16, warmup: 0, validate_every: 4, log_every: 4}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scorefold_registry.run.stage_folder.draw", lambda target, shown, folder: [])
    return tmp_path


def trained(name: str, *sets: str, score: str = SCORE) -> Path:
    """The score of a run on a machine of its own, and brought to this one."""
    path = Path(f"{name}.yaml")
    path.write_text(HEAD.replace("NAME", name) + score)
    result = run_file(Host.discover(), path, sets=sets, runs=f"machine-{name}/runs", cache=f"machine-{name}/cache")
    shutil.copytree(result.folder / "score", f"brought/{name}")
    shutil.rmtree(f"machine-{name}")
    return Path("brought", name)


def joined(*parts: Path, score: str = SCORE) -> Path:
    path = Path("join.yaml")
    loads = "".join(f"  {part.name}: {{load: {part}}}\n" for part in parts)
    names = ", ".join(part.name for part in parts)
    path.write_text(
        HEAD.replace("NAME", "join") + loads + score.replace("{data: data}", f"{{data: data, parts: [{names}]}}")
    )
    return path


def test_parts_of_two_runs_make_the_whole_to_the_bit(here: Path) -> None:
    whole = trained("whole")
    fine, coarse = (trained(name, f"stages.score.config.train=[{n}]") for name, n in (("fine", 1), ("coarse", 2)))
    host = Host.discover()
    result = run_file(host, joined(fine, coarse))
    state, expected = result.value("score").state_dict(), host.load(whole).state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(state[name], value), name
    ports = read_json(result.folder / "score" / "manifest.json")["ports"]["parts"]
    assert [port["state"] for port in ports] == ["../fine", "../coarse"]
    assert torch.equal(
        state["moments.mean"], Host.discover().load(result.folder / "score").state_dict()["moments.mean"]
    )
    assert {stage.name: stage.reused for stage in run_file(host, "join.yaml").stages} == {
        "data": True,
        "fine": False,
        "coarse": False,
        "score": True,
    }


def test_a_scale_that_no_part_has_is_trained_where_they_are_joined(here: Path) -> None:
    whole, coarse = trained("whole"), trained("coarse", "stages.score.config.train=[2]")
    host = Host.discover()
    state = run_file(host, joined(coarse)).value("score").state_dict()
    for name, value in host.load(whole).state_dict().items():
        assert torch.equal(state[name], value), name


def test_parts_that_do_not_belong_together_are_refused(here: Path) -> None:
    fine = trained("fine", "stages.score.config.train=[1]")
    again = trained("again", "stages.score.config.train=[1]")
    with pytest.raises(ConfigError, match="scale 1 was trained by two parts"):
        run_file(Host.discover(), joined(fine, again))
    other = SCORE.replace("levels: 1", "levels: 2")
    with pytest.raises(ConfigError, match="no score:multiscale of this configuration"):
        run_file(Host.discover(), joined(fine, score=other))
