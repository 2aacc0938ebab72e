"""Two thousand folders of states, stages and runs that someone broke: refused with a message, or as good as before.

Nothing a folder says is run or imported, and nothing outside it is used, but the states that a reference names together
with their digests, which is what a reference is for."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from broken_folders import break_file, break_folder
from torch import nn

from scorefold.artefacts import digest_folder
from scorefold.data import Dataset
from scorefold.errors import ScorefoldError
from scorefold.interfaces import TensorSource
from scorefold_registry.host import Host
from scorefold_registry.run.applying import apply_stage
from scorefold_registry.run.cache import Cache
from scorefold_registry.run.folders import list_runs
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.report import write_report
from scorefold_registry.run.stage_folder import load_stage

Cases = Callable[[int], Iterator[Random]]

ALONE = "SCOREFOLD_FUZZ" in os.environ
"""Whether one case is tried again, of which no share can be asked."""

SLOWEST = 2.0
"""CPU seconds that a folder may take."""

SECRET = 777.125
"""The weights of a state that stands outside, which must not turn up inside."""

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
def host() -> Host:
    return Host.discover()


@pytest.fixture(scope="module")
def states(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of saved states: alone, with references, with copies inside, and with points inside."""
    folder = tmp_path_factory.mktemp("states")
    sphere = host.create("data:sphere", {"points": 30, "ambient": 3})
    network = {"use": "network:mlp", "config": {"width": 4, "blocks": 1}}
    score = host.create("score:denoising", {"network": network}, data=sphere)
    flow = host.create("flow:affine-coupling", {"layers": 2, "hidden": [4]}, data=sphere)
    points = TensorSource({"train": Dataset(torch.randn(6, 3), label=torch.arange(6), truth={"dimension": 2})})
    host.save(score, folder / "score")
    host.save(flow, folder / "flow")
    host.save(host.create("estimator:iddiff", score=score), folder / "reference")
    host.save(host.create("estimator:iddiff", score=score), folder / "bundle", bundle=True)
    host.save(host.create("score:analytic", data=sphere), folder / "analytic")
    host.save(host.create("score:analytic", data=points), folder / "points")
    host.save(host.create("allocator:uniform"), folder / "allocator")
    secret = host.create("score:denoising", {"network": network}, data=sphere)
    with torch.no_grad():
        for parameter in secret.parameters():
            parameter.fill_(SECRET)
    host.save(secret, folder / "secret")
    far = TensorSource({"train": Dataset(torch.tensor([[0.0, 0.0, 1.0], [SECRET, SECRET, SECRET]]))})
    host.save(host.create("score:analytic", data=far), folder / "secret-points")
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


class Workplace:
    """Where a copy of a folder is broken, with what must not be touched around it."""

    def __init__(self, root: Path, outside: Path) -> None:
        self.root, self.outside, self.sentinel = root, outside, root / "ran"
        (root / "evil_module.py").write_text(f"open({str(self.sentinel)!r}, 'w').close()\nclass Target: ...\n")
        self.before = digest_folder(outside)
        self.memory = peak_memory()

    def copy(self, folder: Path) -> Path:
        place = self.root / "copy"
        if place.is_symlink() or place.is_file():
            place.unlink()
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        return place

    def check(self) -> None:
        assert not self.sentinel.exists(), "code was run"
        assert "evil_module" not in sys.modules, "code was imported"
        assert peak_memory() - self.memory < 400, "memory was taken"
        left = sorted(item.name for item in self.root.iterdir())
        assert left in (["copy", "evil_module.py"], ["copy", "evil_module.py", "out.json"], ["evil_module.py"]), left

    def check_outside(self) -> None:
        assert digest_folder(self.outside) == self.before, "something outside was written"


def peak_memory() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture
def workplace(tmp_path: Path, states: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.syspath_prepend(tmp_path)
    return Workplace(tmp_path, states)


MACHINE_TALK = re.compile(r"Traceback|\[type=|Input should|<[\w.]+ (object )?at 0x|pydantic|KeyError|AttributeError")


def tried(act: Callable[[], Any]) -> tuple[Any, ScorefoldError | None]:
    """What an act gave, or how it was refused, as text."""
    began = time.process_time()
    given, refused = None, None
    try:
        given = act()
    except ScorefoldError as error:
        refused = error
    if refused is not None:
        said = str(refused)
        assert not MACHINE_TALK.search(said), said
        assert str(SECRET) not in said
        # The fields of a component, with their words, for each that is unknown.
        assert len(refused.message) < 20_000, said
    assert time.process_time() - began < SLOWEST
    return given, refused


@pytest.mark.parametrize(
    ("name", "count"),
    [("score", 250), ("flow", 150), ("reference", 150), ("bundle", 250), ("analytic", 150), ("points", 200)],
)
def test_a_broken_state_is_refused_or_as_good_as_before(
    host: Host, states: Path, workplace: Workplace, cases: Cases, name: str, count: int
) -> None:
    # A manifest may name another component, and where its state fits that one, so be it.
    classes = tuple(type(host.load(states / other)) for other in (name, "score", "flow", "allocator"))
    refusals = 0
    for random in cases(count):
        folder = workplace.copy(states / name)
        if name == "reference":
            # What it refers to stands beside it, as in a run.
            shutil.copytree(states / "score", folder / "score")
            shutil.move(folder, workplace.root / "moved")
            folder.mkdir()
            (workplace.root / "moved" / "score").rename(folder / "score")
            folder = (workplace.root / "moved").rename(folder / "reference")
        break_folder(random, folder, states, workplace.sentinel)
        loaded, refused = tried(partial(host.load, folder))
        refusals += refused is not None
        if refused is None:
            assert isinstance(loaded, classes)
            assert not holds_secret(host, loaded)
        workplace.check()
    workplace.check_outside()
    assert ALONE or 0.5 < refusals / count < 1


def holds_secret(host: Host, loaded: Any) -> bool:
    """Whether the weights or the points of a state outside have turned up in an object or its ports."""
    made = host.builder.memory.of(loaded)
    parts = [loaded, *(made.ports.values() if made is not None else ())]
    for part in parts:
        if isinstance(part, nn.Module) and any(bool((value == SECRET).any()) for value in part.state_dict().values()):
            return True
        if isinstance(part, TensorSource) and any(
            bool((part.load(split).tensor() == SECRET).any()) for split in part._splits
        ):
            return True
    return False


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
