"""Attacks on the worker of a plugin's own environment: killed at random moments and at each message, and resumed.

    python tests/attack_workers.py [--kills 200] [--resumes 50] [--seed 0] [--json]

A run loads data, estimates, trains and samples in a worker. The worker is killed four times a round. Each command must
end with a sentence about the environment and a status above 0, and leave no process, temporary file or shared memory. A
worker that is killed between two messages may be replaced, and then the command ends well. The last command of a round
is not disturbed: its results must be equal to the bit to the results of a run that nobody killed. Where a kill left a
checkpoint, this is a resumed training. Exit status 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "registry/tests/isolated"))  # where its toy plugin stands

from attack import Place
from conftest import write_toy, write_venv

from scorefold_registry.plugins.environments.environment import describe_environment
from scorefold_registry.plugins.environments.session import Session
from scorefold_registry.plugins.environments.spec import environments_in
from scorefold_registry.plugins.environments.store import VARIABLE
from scorefold_registry.plugins.settings import read_settings

RUN = """version: 1
name: attacked
stages:
  points: {use: one/data:toy-points, config: {points: 80}}
  mean: {use: one/estimator:toy-mean, inputs: {data: points}}
  model:
    use: one/score:toy-trained
    inputs: {data: points}
    config: {pause: 0.03, training: {steps: 60, batch_size: 16, log_every: 5, checkpoint_every: 5}}
  draws: {use: model, do: sample, options: {n: 5}}
"""
KILLS_OF_A_ROUND = 4
SECONDS_TO_GO = 6.0


class Workers:
    """Runs whose worker is killed, on one place with one environment."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.random, self.folder = random, folder
        self.place = Place(folder / "place")
        self.temporary = folder / "temporary"
        for made in (self.place.folder, self.temporary, folder / "site"):
            made.mkdir()
        (self.place.folder / "run.yaml").write_text(RUN)
        interpreter = write_venv(folder / "venv", write_toy(folder / "site", "1.0"))
        (self.place.folder / "scorefold.toml").write_text(f'[environments.one]\ninterpreter = "{interpreter}"\n')
        os.environ[VARIABLE] = str(folder / "environments")
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.temporary)
        (spec,) = environments_in(read_settings(self.place.folder / "scorefold.toml"))
        describe_environment(spec)
        self.killed = folder / "killed"
        self.kinds, self.seconds = self._messages()
        self.expected = self.results()
        self.forget()

    def _messages(self) -> tuple[Counter[str], float]:
        """The number of messages of each kind in an undisturbed run, and its seconds."""
        file, began = self.folder / "messages.txt", time.monotonic()
        self.place.run(lambda: _at_message("", 0, file, count_all=True))
        return Counter(file.read_text().split("\n")[:-1]), time.monotonic() - began

    def forget(self) -> None:
        """Removes the runs, what is kept of them, and the answers about configs."""
        self.place.forget()
        for folder in (self.folder / "environments").glob("one-*/checked"):
            shutil.rmtree(folder)

    def results(self) -> dict[str, Any]:
        """The metrics of the newest run, and the digest of each of its files of tensors."""
        files = sorted((self.place.folder / "runs/attacked/latest").glob("*/*.safetensors"))
        digests = {f"{file.parent.name}/{file.name}": sha256(file.read_bytes()).hexdigest() for file in files}
        return {**self.place.numbers(), **digests}

    def check(self) -> None:
        """Raises ``AssertionError`` unless the newest run has the results of a run that nobody killed."""
        if (found := self.results()) != self.expected:
            raise AssertionError(f"it found {found}; expected {self.expected}")

    def kill_at_moment(self) -> tuple[str, int]:
        """SIGKILL at a random moment of the worker's life."""
        number = self.place.start()
        worker = _worker_of(number)
        time.sleep(self.random.uniform(0, self.seconds))
        if worker is not None:
            _kill(worker, self.killed)
        return "at a random moment", self._ended(number)

    def kill_at_message(self, kind: str = "", count: int = 0) -> tuple[str, int]:
        """SIGKILL as a message is sent or has come; each kind as often as the others."""
        kind = kind or self.random.choice(sorted(self.kinds))
        count = count or self.random.randint(1, min(self.kinds[kind], 20))
        return kind, self._ended(self.place.start(lambda: _at_message(kind, count, self.killed)))

    def _ended(self, number: int) -> int:
        """The status of a command whose worker was killed. Raises ``AssertionError`` for another end."""
        status = self.place.end(number, {0, 1, 2})
        if status == 0:
            self.check()
        elif "environment 'one'" not in self.place.printed():
            raise AssertionError(f"it ended with {status} and no word of the environment: {self.place.printed()}")
        limit = time.monotonic() + SECONDS_TO_GO
        while (left := self._left()) and time.monotonic() < limit:
            time.sleep(0.02)
        if left:
            raise AssertionError(f"it left {left}")
        return status

    def _left(self) -> list[str]:
        """Processes with this folder in their command, temporary files, and shared memory."""
        processes = [text for number, text in _processes() if number != os.getpid() and str(self.folder) in text]
        shared = [path.name for path in Path("/dev/shm").glob("scorefold*")]
        return [*processes, *(path.name for path in self.temporary.iterdir()), *shared]

    def resumes(self) -> bool:
        """True if there is a checkpoint, so that the next command resumes a training."""
        return any("unfinished" in path.parts and path.suffix == ".safetensors" for path in self.place.kept())


def _processes() -> Iterator[tuple[int, str]]:
    """The number and command of each process that has a command."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text:
            yield int(folder.name), text


def _worker_of(number: int) -> int | None:
    """The worker of a command, once it has one; None if the command ends without."""
    children = Path(f"/proc/{number}/task/{number}/children")
    while Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        for child in children.read_text().split():
            if any(int(child) == other and "worker.main" in text for other, text in _processes()):
                return int(child)
        time.sleep(0.01)
    return None


def _kill(number: int, killed: Path) -> None:
    """Kills a process, and makes a file if it was still alive."""
    with contextlib.suppress(OSError):
        alive = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        os.kill(number, signal.SIGKILL)
        if alive:
            killed.touch()


def _at_message(kind: str, count: int, file: Path, *, count_all: bool = False) -> None:
    """Kills the worker of this process at the message of this number among its kind, and makes a file as it does.

    With ``count_all``, the kinds of all messages are written into the file instead.
    """
    seen: Counter[str] = Counter()
    send, receive = Session._send, Session._next

    def pass_by(session: Session, what: str) -> None:
        seen[what] += 1
        if count_all:
            with file.open("a") as out:
                out.write(f"{what}\n")
        elif (what, seen[what]) == (kind, count):
            _kill(session.pid, file)

    def sending(session: Session, line: bytes, what: str, limit: float | None) -> None:
        do = json.loads(line).get("do")
        if do != "bye":
            pass_by(session, f"before {do}")
        send(session, line, what, limit)
        if do != "bye":
            pass_by(session, f"after {do}")

    def receiving(session: Session, what: str, limit: float | None) -> dict[str, Any]:
        said = receive(session, what, limit)
        words = ("hello", "ask", "progress", "metrics", "warning", "done", "error")
        pass_by(session, f"{next(word for word in words if word in said)} came")
        return said

    Session._send, Session._next = sending, receiving  # type: ignore[method-assign]


def attack(workers: Workers, kills: int, resumes: int) -> dict[str, Any]:
    """Rounds of kills and one undisturbed command, until there were enough of both: what came of them."""
    found: dict[str, Any] = {"killed": 0, "missed": 0, "sentence": 0, "well": 0, "resumed": 0, "failures": []}
    found["kinds"] = Counter()
    while found["killed"] < kills or found["resumed"] < resumes:
        workers.forget()
        try:
            for number in range(KILLS_OF_A_ROUND):
                workers.killed.unlink(missing_ok=True)
                if number == KILLS_OF_A_ROUND - 1:
                    kind, status = workers.kill_at_message("metrics came", workers.random.randint(2, 5))
                elif number % 2 == 0:
                    kind, status = workers.kill_at_moment()
                else:
                    kind, status = workers.kill_at_message()
                outcome = "sentence" if status else "well" if workers.killed.exists() else "missed"
                found["killed"] += outcome != "missed"
                found[outcome] += 1
                found["kinds"][f"{kind}: {outcome}"] += 1
                if status == 0:
                    workers.forget()  # nothing is left to be killed
            resumed = workers.resumes()
            workers.place.run()
            workers.check()
            found["resumed"] += resumed
        except AssertionError as error:
            found["failures"].append(str(error))
            print(f"failed: {error}", file=sys.stderr, flush=True)
        counts = {name: value for name, value in found.items() if isinstance(value, int)}
        print(f"{counts}, {len(found['failures'])} failed", file=sys.stderr, flush=True)
        if len(found["failures"]) > 20:
            break
    return found


def main() -> int:
    """Attack; the status is 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="kills of a worker, at least")
    parser.add_argument("--resumes", type=int, default=50, help="trainings that are resumed, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        found = attack(Workers(Path(name), Random(given.seed)), given.kills, given.resumes)
    if given.json:
        print(json.dumps(found, indent=1))
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
