"""Attacks on commands that lose something, and on readers that let harm through: what is reported, as JSON.

``python attacked.py``. The times and operations of attacks are those in the middle, so that each hits.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

import attack

from scorefold.data import Dataset
from scorefold.errors import ConfigError
from scorefold.interfaces import TensorSource
from scorefold_registry.host import Host

STEPS = 20


class Middle(Random):
    def uniform(self, a: float, b: float) -> float:
        return min((a + b) / 2, 0.1)  # a run takes 0.2 seconds or more

    def randint(self, a: int, b: int) -> int:
        return (a + b) // 2


def forgetful(arguments: list[str]) -> int:
    """A command that goes on from where it was stopped, and has forgotten what it had counted by then."""
    return _count(remembers=False)


def trusting(arguments: list[str]) -> int:
    """A command that goes on as it should, and takes what it kept as right whatever became of it."""
    return _count(remembers=True)


def _count(*, remembers: bool) -> int:
    cache = Path(".scorefold/cache")
    kept, answer = cache / "unfinished" / "steps", cache / "answer"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if answer.exists():
            _, total = map(int, answer.read_text().split())
        else:
            done, total = map(int, kept.read_text().split()) if kept.exists() else (0, 0)
            total = total if remembers else 0
            for step in range(done, STEPS):
                time.sleep(0.01)
                total += 1
                _write(kept, f"{step + 1} {total}")
            _write(answer, f"{STEPS} {total}")
        result = Path("runs/attacked/latest/count/result.json")
        result.parent.mkdir(parents=True, exist_ok=True)
        _write(result, json.dumps({"metrics": {"total": total}}))
    except OSError:
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _write(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    part.write_text(text)
    part.rename(file)


def _printed(arguments: list[str]) -> int:
    os.write(2, b"Traceback (most recent call last)")
    return 0


def _killed(arguments: list[str]) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


ENDINGS: dict[str, Callable[[list[str]], Any]] = {
    "refused": lambda arguments: 2,
    "another status": lambda arguments: 3,
    "killed": _killed,
    "traceback": _printed,
    "error": lambda arguments: 1 / 0,
}


def ending(name: str) -> str:
    """What is reported of a command that ends in some way, where only success and a refusal are allowed."""
    with tempfile.TemporaryDirectory() as folder, patch("attack.scorefold", ENDINGS[name]):
        try:
            attack.Place(Path(folder)).run(allowed={0, 2})
        except AssertionError as error:
            return str(error)
    return ""


def _unclear(*given: Any) -> Any:
    raise ConfigError("Traceback: pydantic was not pleased")


def _unknown(*given: Any) -> Any:
    raise KeyError("weights")


def _secret(host: Host, folder: Path) -> Any:
    return _load(host, _states(folder) / "secret" if "work" in folder.parts else folder)


def _runs(host: Host, folder: Path) -> Any:
    (_states(folder).parent / "work" / "ran").touch()
    raise ConfigError("it is refused")


def _writes(host: Host, folder: Path) -> Any:
    (_states(folder) / "new").touch()
    raise ConfigError("it is refused")


def _states(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.name == "work").parent / "states"


def _not_finite(host: Host, name: str, *given: Any, **named: Any) -> Any:
    if name in ("data:array", "data:images"):
        return TensorSource({"train": Dataset(torch.tensor([[float("nan")]]))})
    return _create(host, name, *given, **named)


_load, _create = Host.load, Host.create
HARMS: list[tuple[str, str, str, Callable[..., Any]]] = [
    ("run_file", "unclear", "broken_run_files.make_plan", _unclear),
    ("run_file", "unknown", "broken_run_files.make_plan", _unknown),
    ("artefact", "secret", "scorefold_registry.host.Host.load", _secret),
    ("artefact", "runs", "scorefold_registry.host.Host.load", _runs),
    ("artefact", "writes", "scorefold_registry.host.Host.load", _writes),
    ("artefact", "unknown", "scorefold_registry.host.Host.load", _unknown),
    ("data_file", "not finite", "scorefold_registry.host.Host.create", _not_finite),
]


def reported(kind: str, target: str, act: Callable[..., Any]) -> list[str]:
    """What is reported of a reader that does harm with every file."""
    with patch(target, act):
        (tally,) = attack.attack([kind], 1, 0)
    return tally.failures


def lost(command: Callable[[list[str]], int]) -> dict[str, list[str]]:
    """What is reported of a command, by kind of attack."""
    with patch("attack.scorefold", command), patch("attack.Random", Middle):
        return {tally.attack: tally.failures for tally in attack.attack(list(attack.RUNS), 6, 0)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    answer = {
        "endings": {name: ending(name) for name in ENDINGS},
        "forgetful": lost(forgetful),
        "trusting": lost(trusting),
        "harms": {f"{kind} {name}": reported(kind, target, act) for kind, name, target, act in HARMS},
    }
    print(json.dumps(answer))
