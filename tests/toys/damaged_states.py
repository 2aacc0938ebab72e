"""Saved states to break, a place to break copies of them in, and what must not come of it."""

from __future__ import annotations

import re
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from broken_folders import break_folder
from torch import nn

from scorefold.artefacts import digest_folder
from scorefold.data import Dataset
from scorefold.errors import ScorefoldError
from scorefold.interfaces import TensorSource
from scorefold_registry.host import Host

SLOWEST = 2.0
"""CPU seconds that a folder may take."""

SECRET = 777.125
"""The weights of a state that stands outside, which must not turn up inside."""


def make_states(host: Host, folder: Path) -> None:
    """A folder of saved states: alone, with references, with copies inside, and with points inside."""
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


def try_state(host: Host, states: Path, workplace: Workplace, random: Random, name: str) -> bool:
    """Break a copy of a state and load it; whether that was refused. Raises ``AssertionError`` for any harm."""
    folder = workplace.copy(states / name)
    if name == "reference":
        # What it refers to stands beside it, as in a run.
        shutil.copytree(states / "score", folder / "score")
        shutil.move(folder, workplace.root / "moved")
        folder.mkdir()
        (workplace.root / "moved" / "score").rename(folder / "score")
        folder = (workplace.root / "moved").rename(folder / "reference")
    break_folder(random, folder, states, workplace.sentinel)
    loaded, refused = tried(lambda: host.load(folder))
    if refused is None:
        # A manifest may name another component, and where its state fits that one, so be it.
        classes = tuple(type(host.load(states / other)) for other in (name, "score", "flow", "allocator"))
        assert isinstance(loaded, classes)
        assert not holds_secret(host, loaded), "what stands outside was used"
    workplace.check()
    return refused is not None


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
