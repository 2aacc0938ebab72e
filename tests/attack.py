"""Attacks: runs killed, signalled, out of disk, with damaged files; broken run files, states and data files.

    python tests/attack.py [--count 100] [--only kill] [--seed 0] [--json]

Nothing may be lost, and no traceback shown. After each attack on a run the same command is given again, and must end
well with the numbers of a run that nobody disturbed. Processes are forked from one that imported everything, so that an
attack takes a second. Broken files, ten for each attack on a run, are read in this process. Nothing leaves the machine.
Progress goes to standard error, and with ``--json`` the counts to standard output. Exit status 1 where anything was
lost.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent / "toys"))  # what the tests of broken files share

from broken_data import make_data, try_data
from broken_run_files import right_texts, try_broken, watched_host
from damaged_states import Workplace, make_states, try_state

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
    cpu_seconds: float = 0.0

    @property
    def row(self) -> dict[str, Any]:
        return {**asdict(self), "failures": len(self.failures), "cpu_seconds": round(self.cpu_seconds, 1)}


@dataclass
class Place:
    """A folder with the run file, its runs and its cache."""

    folder: Path

    def start(self, disturb: Disturb | None = None) -> int:
        """Start the command in a process of its own, which first disturbs itself; its number."""
        number = os.fork()
        if number:
            return number
        status, within = 70, False
        try:
            os.chdir(self.folder)
            printed = os.open("printed.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(printed, 1)
            os.dup2(printed, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if disturb is not None:
                disturb()
            within = True
            status = scorefold(["run", "run.yaml", "--quiet"])
            within = False
        except BaseException as error:
            # Ctrl-C before the command or after it ends a process that has nothing to say yet, or no more.
            if within or not isinstance(error, KeyboardInterrupt):
                traceback.print_exc()
            else:
                status = 130
        finally:
            # What the parent has open and registered is none of the child's business.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def end(self, number: int, allowed: Set[int]) -> int:
        """The status that a command ends with, negative for a signal.

        Raises ``AssertionError`` for one that is not allowed, and for a traceback in what it printed.
        """
        _, ended = os.waitpid(number, 0)
        status, printed = os.waitstatus_to_exitcode(ended), self.printed()
        if "Traceback" in printed:
            raise AssertionError(f"a traceback was shown: {printed[-1500:]}")
        if status not in allowed:
            raise AssertionError(f"it ended with {status}: {printed[-500:]}")
        return status

    def run(self, disturb: Disturb | None = None, allowed: Set[int] = frozenset({0})) -> int:
        """Start the command, disturbed or not, and see it end."""
        return self.end(self.start(disturb), allowed)

    def printed(self) -> str:
        file = self.folder / "printed.txt"
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
        try:
            self._import()
            began = time.monotonic()
            place.run()
        except AssertionError as error:
            raise SystemExit(f"the undisturbed run failed: {error}") from None
        self.seconds = time.monotonic() - began
        self.expected = place.numbers()
        place.forget()
        seen = self._operations()
        self.operations = len(seen)
        self.checkpoints = [number for number, what in enumerate(seen, start=1) if what == "c"]

    def _import(self) -> None:
        """Import here what the command imports, so that no process that is forked later has to."""
        file = self.place.folder / "imported.txt"
        self.place.run(lambda: _note_imports(file))
        self.place.forget()
        for name in file.read_text().split():
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

    def _operations(self) -> str:
        """A letter for each file that the undisturbed run opens to write or renames: ``c`` for one of a checkpoint."""
        file = self.place.folder / "operations.txt"
        self.place.run(lambda: _at_operation(0, lambda: None, count=file))
        self.place.forget()
        return file.read_text()

    def kill(self) -> bool:
        """SIGKILL at a random moment."""
        return self._signal(signal.SIGKILL)

    def signal(self) -> bool:
        """Ctrl-C or SIGTERM at a random moment."""
        return self._signal(self.random.choice((signal.SIGINT, signal.SIGTERM)))

    def _signal(self, which: signal.Signals) -> bool:
        number = self.place.start()
        time.sleep(self.random.uniform(0, 1.1 * self.seconds))
        os.kill(number, which)
        return self.place.end(number, ENDINGS | {-which}) != 0

    def kill_at_operation(self) -> bool:
        """SIGKILL as a file is opened to write or renamed, the N-th of the run."""
        return self._kill_at(self.random.randint(1, self.operations))

    def _kill_at(self, number: int) -> bool:
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        status = self.place.run(lambda: _at_operation(number, kill), ENDINGS | {-signal.SIGKILL})
        return status == -signal.SIGKILL

    def full_disk(self) -> bool:
        """No space left from the N-th file on."""
        number = self.random.randint(1, self.operations)
        return self.place.run(lambda: _at_operation(number, _no_space, for_good=True), ENDINGS) != 0

    def damaged_cache(self) -> bool:
        """A finished run, and then a file of the cache cut, changed, removed or replaced with a folder."""
        self.place.run()
        return self._damage(self.place.kept())

    def damaged_checkpoint(self) -> bool:
        """A training that was killed as it wrote a checkpoint, and a file of its checkpoints damaged."""
        self.place.forget()
        self._kill_at(self.random.choice(self.checkpoints[len(self.checkpoints) // 4 :]))
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
        self.place.run()
        if (found := self.place.numbers()) != self.expected:
            raise AssertionError(f"the next run found {found}; expected {self.expected}")


def _note_imports(file: Path) -> None:
    """Write the name of each module that this process imports from now on, a line each."""
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "import":
            os.write(out, f"{arguments[0]}\n".encode())

    sys.addaudithook(hook)


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
            os.write(out, b"c" if "unfinished" in str(arguments[0]) else b".")
            busy = False
        if done == number or (for_good and done > number > 0):
            act()

    sys.addaudithook(hook)


def _no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Broken:
    """Files that someone broke, read in this process: each is refused with a message, or is as good as before."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed, self.tried = seed, 0
        self.host = watched_host()
        self.texts = right_texts(self.host)
        self.states, self.data, work = folder / "states", folder / "data", folder / "work"
        for made in (self.states, self.data, work, folder / "read"):
            made.mkdir()
        make_states(self.host, self.states)
        self.right = make_data(self.data)
        sys.path.insert(0, str(work))  # where what must not be imported stands
        self.work = Workplace(work, self.states)

    def _random(self, what: str) -> Random:
        self.tried += 1
        return Random(f"{self.seed}:{what}:{self.tried}")

    def run_file(self) -> bool:
        """A run file, planned as ``scorefold validate`` does."""
        folder, random = self.states.parent, self._random("run file")
        again = random.random() < 0.2
        return not try_broken(self.host, self.texts, random, folder / "run.yaml", folder / "ran", again=again)

    def artefact(self) -> bool:
        """A saved state, loaded."""
        random = self._random("artefact")
        name = random.choice(("score", "flow", "reference", "bundle", "analytic", "points"))
        refused = try_state(self.host, self.states, self.work, random, name)
        self.work.check_outside()
        return refused

    def data_file(self) -> bool:
        """A file of points or a folder of images, read."""
        return try_data(self.host, self.right, self.states.parent / "read", self._random("data file"))


RUNS = ("kill", "kill_at_operation", "signal", "full_disk", "damaged_cache", "damaged_checkpoint")
FILES = ("run_file", "artefact", "data_file")
_FILES = 10
"""Broken files for each attack on a run, which takes a hundred times as long."""


def attack(kinds: list[str], count: int, seed: int) -> list[Tally]:
    """Try each kind so many times, and files ten times as many. Half of the attacks on runs find a cache."""
    tallies = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if set(kinds) & set(RUNS):
            place = Place(folder / "place")
            place.folder.mkdir()
            (place.folder / "run.yaml").write_text(RUN)
            attacks = Attacks(place, Random(seed))
        broken = Broken(folder, seed) if set(kinds) & set(FILES) else None
        for kind in kinds:
            tally, began = Tally(kind), _cpu_seconds()
            for number in range(count if kind in RUNS else _FILES * count):
                tally.tried += 1
                try:
                    if kind in FILES:
                        tally.hit += getattr(broken, kind)()
                        continue
                    if number % 2 == 0:
                        place.forget()
                    tally.hit += getattr(attacks, kind)()
                    attacks.after()
                except Exception as error:
                    tally.failures.append(f"{kind} {number}: {type(error).__name__}: {error}")
                    print(tally.failures[-1], file=sys.stderr, flush=True)
                    if kind in RUNS:
                        place.forget()
            tally.cpu_seconds = _cpu_seconds() - began
            tallies.append(tally)
            row = f"{kind:<20}{tally.tried:6} tried {tally.hit:6} hit {len(tally.failures):4} failed"
            print(f"{row} {tally.cpu_seconds:8.1f} CPU seconds", file=sys.stderr, flush=True)
    return tallies


def _cpu_seconds() -> float:
    """Of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> int:
    """Attack; the status is 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--count", type=int, default=100, help="attacks on runs of each kind; ten times as many on files"
    )
    parser.add_argument("--only", choices=RUNS + FILES, action="append", help="this kind only (repeatable)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tallies = attack(given.only or [*RUNS, *FILES], given.count, given.seed)
    failures = [text for tally in tallies for text in tally.failures]
    if given.json:
        print(json.dumps([tally.row for tally in tallies], indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
