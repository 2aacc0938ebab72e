"""Attacks on runs: killed, signalled, out of disk, with damaged files. Nothing may be lost, and no traceback shown.

    python tests/attack.py [--count 100] [--only kill] [--seed 0] [--json]

``make attack`` runs it together with the fuzzed run files and artefacts. After each attack the same command is given
again, and must end well with the numbers of a run that nobody disturbed. Processes are forked from one that imported
everything, so that an attack takes half a second; nothing leaves the machine. Exit status 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch

from scorefold_registry.cli.main import main as scorefold

RUN = """version: 1
name: attacked
stages:
  data: {use: data:sphere, config: {points: 400, dimension: 2, ambient: 3}}
  score:
    use: score:denoising
    inputs: {data: data}
    config:
      network: {use: network:mlp, config: {width: 16, blocks: 1}}
      training: {steps: 40, batch_size: 16, checkpoint_every: 5, validate_every: 20}
  draws: {use: score, do: sample, options: {n: 10, steps: 3}}
  size: {use: estimator:mle, inputs: {data: data}}
"""
ENDINGS = {0, 1, 2, 130, 143}
"""Statuses with which a disturbed command may end by itself: done, refused, Ctrl-C, terminated."""
Disturb = Callable[[], None]


@dataclass
class Tally:
    """What came of one kind of attack: how often it was tried, and hit before the command had ended by itself."""

    attack: str
    tried: int = 0
    hit: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def row(self) -> dict[str, Any]:
        return {**asdict(self), "failures": len(self.failures), "seconds": round(self.seconds, 1)}


@dataclass
class Place:
    """A folder with the run file, its runs and its cache."""

    folder: Path

    def child(self, disturb: Disturb | None = None) -> int:
        """Start the command in a process of its own, which first disturbs itself; its number."""
        number = os.fork()
        if number:
            return number
        status = 70
        try:
            os.chdir(self.folder)
            told = os.open("told.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(told, 1)
            os.dup2(told, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if disturb is not None:
                disturb()
            status = scorefold(["run", "run.yaml", "--quiet"])
        finally:
            # What the parent has open and registered is none of the child's business.
            os._exit(status)

    def run(self, disturb: Disturb | None = None) -> tuple[int, str]:
        """The status of the command (negative for a signal) and all that it printed."""
        _, ended = os.waitpid(self.child(disturb), 0)
        return os.waitstatus_to_exitcode(ended), self.told()

    def told(self) -> str:
        file = self.folder / "told.txt"
        return file.read_text(errors="replace") if file.exists() else ""

    def numbers(self) -> dict[str, Any]:
        """The metrics of the newest complete run, but for seconds."""
        results = sorted((self.folder / "runs/attacked/latest").glob("*/result.json"))
        found = {file.parent.name: json.loads(file.read_text())["metrics"] for file in results}
        return {
            stage: {name: value for name, value in metrics.items() if "second" not in name}
            for stage, metrics in found.items()
        }

    def forget(self) -> None:
        """Remove the runs and what is kept."""
        for name in ("runs", ".scorefold"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def kept(self) -> list[Path]:
        """The files of the cache, checkpoints too."""
        return sorted(path for path in (self.folder / ".scorefold/cache").rglob("*") if path.is_file())


class Attacks:
    """All kinds, on one place, with choices from one generator."""

    def __init__(self, place: Place, random: Random) -> None:
        self.place, self.random = place, random
        began = time.monotonic()
        status, told = place.run()
        if status != 0:
            raise SystemExit(f"the undisturbed run ended with {status}:\n{told}")
        self.seconds = time.monotonic() - began
        self.expected = place.numbers()
        place.forget()
        self.operations = self._count_operations()

    def _count_operations(self) -> int:
        """How many files the undisturbed run opens to write, or renames."""
        file = self.place.folder / "operations.txt"
        self.place.run(lambda: _at_operation(0, lambda: None, count=file))
        self.place.forget()
        return len(file.read_text())

    def kill(self) -> bool:
        """SIGKILL at a random moment."""
        return self._signal(signal.SIGKILL)

    def signal(self) -> bool:
        """Ctrl-C or SIGTERM at a random moment."""
        return self._signal(self.random.choice((signal.SIGINT, signal.SIGTERM)))

    def _signal(self, which: signal.Signals) -> bool:
        number = self.place.child()
        time.sleep(self.random.uniform(0, 1.1 * self.seconds))
        os.kill(number, which)
        _, ended = os.waitpid(number, 0)
        status = os.waitstatus_to_exitcode(ended)
        if status not in ENDINGS | {-which}:
            raise AssertionError(f"it ended with {status}: {self.place.told()[-300:]}")
        return status != 0

    def kill_at_operation(self) -> bool:
        """SIGKILL as a file is opened to write or renamed, the N-th of the run."""
        number = self.random.randint(1, self.operations)
        status, _ = self.place.run(lambda: _at_operation(number, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        return status == -signal.SIGKILL

    def full_disk(self) -> bool:
        """No space left from the N-th file on."""
        number = self.random.randint(1, self.operations)
        status, told = self.place.run(lambda: _at_operation(number, _no_space, for_good=True))
        if status not in ENDINGS:
            raise AssertionError(f"it ended with {status}: {told[-300:]}")
        return status != 0

    def damaged_cache(self) -> bool:
        """A finished run, and then a file of the cache cut, changed, removed or replaced with a folder."""
        self.place.run()
        return self._damage(self.place.kept())

    def damaged_checkpoint(self) -> bool:
        """A training that was killed, and one of its checkpoints damaged."""
        self.kill_at_operation()
        return self._damage([path for path in self.place.kept() if "unfinished" in path.parts])

    def _damage(self, files: list[Path]) -> bool:
        files = [path for path in files if path.suffix != ".lock"]
        if not files:
            return False
        file, how = self.random.choice(files), self.random.choice(("cut", "change", "remove", "folder"))
        data = file.read_bytes()
        if how == "cut":
            file.write_bytes(data[: self.random.randint(0, max(0, len(data) - 1))])
        elif how == "change" and data:
            place = self.random.randrange(len(data))
            file.write_bytes(data[:place] + bytes([data[place] ^ (1 << self.random.randrange(8))]) + data[place + 1 :])
        else:
            file.unlink()
            if how == "folder":
                file.mkdir()
        return True

    def after(self) -> None:
        """Raises ``AssertionError`` unless the same command now ends well, with the numbers of an undisturbed run."""
        disturbed = self.place.told()
        status, told = self.place.run()
        for text in (disturbed, told):
            if "Traceback" in text:
                raise AssertionError(f"a traceback was shown: {text[-500:]}")
        if status != 0:
            raise AssertionError(f"the next run ended with {status}: {told[-500:]}")
        if (found := self.place.numbers()) != self.expected:
            raise AssertionError(f"the next run found {found}; expected {self.expected}")


def _at_operation(number: int, act: Disturb, *, count: Path | None = None, for_good: bool = False) -> None:
    """Act as a file is opened to write, or renamed, for the ``number``-th time in this process, or from then on."""
    done = 0
    out = None if count is None else os.open(count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    busy = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done, busy
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if busy or not (writes or event in ("os.rename", "os.mkdir")):
            return
        done += 1
        if out is not None:
            busy = True
            os.write(out, b".")
            busy = False
        if done == number or (for_good and done > number > 0):
            act()

    sys.addaudithook(hook)


def _no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


KINDS = ("kill", "kill_at_operation", "signal", "full_disk", "damaged_cache", "damaged_checkpoint")


def attack(kinds: list[str], count: int, seed: int) -> list[Tally]:
    """Try each kind so many times. Half of the attacks find a cache, half find none."""
    tallies = []
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        (place.folder / "run.yaml").write_text(RUN)
        attacks = Attacks(place, Random(seed))
        for kind in kinds:
            tally, began = Tally(kind), time.monotonic()
            for number in range(count):
                if number % 2 == 0:
                    place.forget()
                tally.tried += 1
                try:
                    tally.hit += getattr(attacks, kind)()
                    attacks.after()
                except AssertionError as error:
                    tally.failures.append(f"{kind} {number}: {error}")
                    place.forget()
            tally.seconds = time.monotonic() - began
            tallies.append(tally)
            print(f"{kind:<20}{tally.tried:6} tried {tally.hit:6} hit {len(tally.failures):4} failed", flush=True)
    return tallies


def main() -> int:
    """Attack; the status is 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="attacks of each kind")
    parser.add_argument("--only", choices=KINDS, action="append", help="this kind only (repeatable)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tallies = attack(given.only or list(KINDS), given.count, given.seed)
    failures = [text for tally in tallies for text in tally.failures]
    for text in failures:
        print(text, file=sys.stderr)
    if given.json:
        print(json.dumps([tally.row for tally in tallies], indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
