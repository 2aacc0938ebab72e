"""A training that the page began: its process, its progress, and what is open afterwards."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from scorefold.artefacts import write_text
from scorefold.errors import ConfigError, ScorefoldError
from scorefold.stage import report
from scorefold_explore.explored import Explored
from scorefold_explore.opening import TRAINED, open_run, put_beside
from scorefold_explore.recipes import run_file_text
from scorefold_explore.training.missing import plan, with_minutes

POLLED = 0.2
"""Seconds after which a training without news is asked whether it was stopped."""

PATIENCE = 15.0
"""Seconds that a training has to write its checkpoint and end, before it is killed."""


def train_missing(explored: Explored, wanted: str, minutes: float, scale: str) -> dict[str, Any]:
    """Train what is missing, each model for ``minutes``, and open it in place of what was open.

    The run is kept in the folder of the open run, or, where data are open, under ``runs``. Returns its ``folder`` and
    the answers that it ``adds``. Raises ``ConfigError`` as ``plan`` does, and for a run that fails.
    """
    explored.training = True
    try:
        return _train(explored, wanted, minutes, scale)
    finally:
        explored.training = False


def _train(explored: Explored, wanted: str, minutes: float, scale: str) -> dict[str, Any]:
    chosen = plan(explored, wanted, scale)
    of_data = explored.data_use is not None
    name = f"explored-{_word(explored.title)}" if of_data else TRAINED
    with tempfile.TemporaryDirectory(prefix="scorefold-", ignore_cleanup_errors=True) as place:
        file = Path(place, "run.yaml")
        write_text(file, run_file_text(name, with_minutes(chosen, minutes)))
        folder = _run(file, Path("runs").absolute() if of_data else explored.place)
    report(1, 1, "opening what was trained")
    opened = open_run(explored.host, folder if of_data else explored.place)
    if explored.second is not None:
        put_beside(opened, explored.second)
    explored.renew(opened, keep_title=of_data)
    return {"folder": str(folder), "adds": list(chosen.adds), "without": chosen.without}


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40] or "data"


def _run(file: Path, runs: Path) -> Path:
    """The folder of the run of a file, done in a process that ends when this function does."""
    command = [sys.executable, "-m", "scorefold_explore.training.child", str(file), str(runs)]
    errors = file.with_name("errors.txt")
    with (
        errors.open("wb") as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as child,
    ):
        lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
        try:
            found = _followed(lines)
        finally:
            _end(child)
    if "folder" in found:
        return Path(found["folder"])
    if "error" in found:
        raise ConfigError(f"the training failed: {found['error']['message']}", hint=found["error"].get("hint"))
    last = errors.read_text(errors="replace").strip().splitlines()[-1:]
    raise ScorefoldError("the process that trains has ended" + "".join(f": {line:.300}" for line in last))


def _read(stream: Any, lines: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Put the objects that a process prints into a queue, None at the end; other lines are passed over."""
    for line in stream:
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                lines.put(found)
    lines.put(None)


def _followed(lines: queue.SimpleQueue[dict[str, Any] | None]) -> dict[str, Any]:
    """Report what comes in, until there is a folder, an error or the end. A report raises where it was stopped."""
    done, total, text = 0, 0, "starting"
    while True:
        try:
            news = lines.get(timeout=POLLED)
        except queue.Empty:
            report(done, total, text)
            continue
        if news is None:
            return {}
        if "stage" not in news:
            return news
        done, total = int(news["done"]), int(news["total"])
        rest = f", {news['text']}" if news["text"] else ""
        text = f"stage {news['number']} of {news['count']}: {news['stage']}{rest}"
        report(done, total, text)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process: its input is closed, which it takes as Ctrl-C; one that goes on is killed."""
    assert child.stdin is not None
    with suppress(OSError):
        child.stdin.close()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
