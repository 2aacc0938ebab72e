"""Two thousand folders of states, stages and runs that someone broke: refused with a message, or as good as before.

Nothing a folder says is run or imported, and nothing outside it is used, but the states that a reference names together
with their digests, which is what a reference is for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest
from broken_folders import break_file, break_folder
from damaged_states import Workplace, make_states, tried, try_state

from scorefold.artefacts import digest_folder
from scorefold_registry.host import Host
from scorefold_registry.run.applying import apply_stage
from scorefold_registry.run.folders import Cache, list_runs
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.report import write_report
from scorefold_registry.run.stage_folder import load_stage

Cases = Callable[[int], Iterator[Random]]

ALONE = "SCOREFOLD_FUZZ" in os.environ
"""Whether one case is tried again, of which no share can be asked."""

RUN = """
version: 1
name: small
stages:
  data: {use: data:sphere, config: {points: 200, ambient: 3}}
  score:
    use: score:denoising
    inputs: {data: data}
    config: {network: {use: network:mlp, config: {width: 4, blocks: 1}}, training: {steps: 2, batch_size: 4}}
  dimension: {use: estimator:twonn, inputs: {data: data}, config: {resamples: 2}}
  plan: {use: allocator:uniform, options: {budget: 40}}
"""


@pytest.fixture(scope="module")
def states(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states")
    make_states(host, folder)
    return folder


@pytest.fixture(scope="module")
def finished(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run under ``runs`` and its stages under ``cache``."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "run.yaml").write_text(RUN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scorefold_registry.run.stage_folder.draw", lambda target, shown, into: [])
        run_file(host, folder / "run.yaml", runs=folder / "runs", cache=folder / "cache")
    return folder


@pytest.fixture
def workplace(tmp_path: Path, states: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.syspath_prepend(tmp_path)
    return Workplace(tmp_path, states)


@pytest.mark.parametrize(
    ("name", "count"),
    [("score", 250), ("flow", 150), ("reference", 150), ("bundle", 250), ("analytic", 150), ("points", 200)],
)
def test_a_broken_state_is_refused_or_as_good_as_before(
    host: Host, states: Path, workplace: Workplace, cases: Cases, name: str, count: int
) -> None:
    refusals = sum(try_state(host, states, workplace, random, name) for random in cases(count))
    workplace.check_outside()
    assert ALONE or 0.5 < refusals / count < 1


def test_a_broken_stage_is_refused_or_as_good_as_before(
    host: Host, states: Path, finished: Path, workplace: Workplace, cases: Cases
) -> None:
    (run,) = (finished / "runs" / "small").glob("2*")
    refusals = 0
    for number, random in enumerate(cases(450), start=1):
        folder = workplace.copy(run)
        stage = folder / random.choice(["data", "score", "score", "dimension", "plan"])
        break_folder(random, stage, states, workplace.sentinel)
        out = workplace.root / "out.json"
        _, refused = tried(partial(load_stage, host, stage))
        if stage.name == "score":
            sample = partial(apply_stage, host, stage, verb="sample", data=None, options=("n=2", "steps=2"))
            _, refused_too = tried(partial(sample, out=out))
            assert (refused is None) or (refused_too is not None)
        if number % 3 == 0:
            tried(partial(write_report, folder, [], []))
        refusals += refused is not None
        workplace.check()
    workplace.check_outside()
    assert ALONE or 0.4 < refusals / number < 1


def test_a_broken_stage_that_is_kept_is_made_again(
    host: Host, states: Path, finished: Path, workplace: Workplace, cases: Cases
) -> None:
    kept = [entry for entry in (finished / "cache").iterdir() if len(entry.name) == 40]
    whole = {entry.name: digest_folder(entry) for entry in kept}
    hits = 0
    for random in cases(250):
        entry = random.choice(kept)
        folder = workplace.copy(finished / "cache") / entry.name
        break_folder(random, folder, states, workplace.sentinel)
        cache, target = Cache(folder.parent), folder.parent / "target"
        digest = folder.parent / "digests" / entry.name
        agreed = random.random() < 0.3 and not any(item.is_symlink() for item in folder.rglob("*"))
        if agreed:
            digest.write_text(digest_folder(folder))
        elif random.random() < 0.2:
            digest.write_bytes(random.choice([b"", b"\xff\xfe", b"x" * 100_000, b"../../secret"]))
        hit, refused = tried(partial(cache.fetch, entry.name, target))
        assert refused is None
        if hit:
            hits += 1
            assert agreed or digest_folder(target) == whole[entry.name]
            tried(partial(load_stage, host, target))
        else:
            assert not target.exists()
            assert not os.path.lexists(folder)
        workplace.check()
    workplace.check_outside()
    assert ALONE or 0 < hits / 250 < 0.5


def test_broken_runs_are_listed(finished: Path, states: Path, workplace: Workplace, cases: Cases) -> None:
    for random in cases(150):
        area = workplace.copy(finished / "runs")
        (run,) = (area / "small").glob("2*")
        for name in ("status.json", "environment.json", "data/stage.json"):
            break_file(random, run / name, states, workplace.sentinel)
        entries, refused = tried(partial(list_runs, area))
        assert refused is None
        assert json.dumps([entry.as_json() for entry in entries], allow_nan=False)
        assert all(entry.state in ("running", "complete", "interrupted", "failed") for entry in entries)
        workplace.check()
    workplace.check_outside()
