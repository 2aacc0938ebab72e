"""Pages that can be run: the files they show are written, their commands run, and what these print is compared.

A block with a title (``yaml title="mine.yaml"``) is a file; a ``console`` block holds commands, each after ``$ ``, with
what they print below, and before the first word the variables that it gets (``NAME=value``); a ``pycon`` block is
Python as in a doctest. In what is printed ``...`` stands for anything, folders of runs and times are not compared, and
numbers with a point may differ a little from one machine to the next.
``^C`` in what a command prints says that it is interrupted there, once it has something to go on from. What a page
installs goes into a folder of its own, ``INSTALLED``, so that the environment stays as it was.
"""

from __future__ import annotations

import contextlib
import doctest
import glob
import io
import itertools
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from scorefold_registry.cli.main import main

_BLOCK = re.compile(r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.M | re.S)
_CHANGING = (
    (re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}"), "RUN"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "WHEN"),
    (re.compile(r"\b\d+(\.\d+)? (s|min)\b"), "SECONDS"),
)
_VARIABLE = re.compile(r"[A-Z_]+=")
_DECIMAL = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
INSTALLED = ".installed"
CLOSE, NEAR = 0.1, 0.02
"""Relative and absolute difference of two numbers that are taken for the same."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(found["language"], found["title"] or "", found["text"]) for found in _BLOCK.finditer(page)]


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a ``console`` block, each with what the page says it prints."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def differences(page: str, folder: Path) -> list[str]:
    """Runs a page in a folder, which is the current one, and says what came out otherwise than the page has it."""
    found: list[str] = []
    namespace: dict[str, object] = {}
    for block in blocks(page):
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for command, expected in commands(block.text):
                got = run(command, folder, interrupted="^C" in expected)
                if not same(expected.replace("^C", ""), got):
                    found.append(f"$ {command}\nexpected:\n{expected}\ngot:\n{got}")
        elif block.language == "pycon":
            found += _doctest(block.text, namespace)
    return found


def run(command: str, folder: Path, *, interrupted: bool = False) -> str:
    """What a command prints in a folder, on both streams. Ours run in this process, which has torch already."""
    words = [name for word in shlex.split(command) for name in _expanded(word, folder)]
    given = dict(word.split("=", 1) for word in itertools.takewhile(_VARIABLE.match, words))
    with patch.dict(os.environ, given):
        return _run(words[len(given) :], folder, interrupted)


def _run(words: list[str], folder: Path, interrupted: bool) -> str:
    if interrupted:
        return _interrupted(words, folder)
    installed = folder / INSTALLED
    if words[0] == "scorefold" and not installed.exists():
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            main(words[1:])
        return stream.getvalue()
    if words[0] == "pip":
        where = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(installed)]
        words = [sys.executable, "-m", "pip", "install", *where, str(folder / words[-1])]
    elif words[0] in _PROGRAMS:
        words[:1] = [sys.executable, *_PROGRAMS[words[0]]]
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    if words[0] == "ls":
        # Each language has an order of its own.
        environment["LC_ALL"] = "C"
    done = subprocess.run(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


_PROGRAMS = {
    "python": (),
    "scorefold": ("-m", "scorefold_registry.cli"),
    "torchrun": ("-m", "torch.distributed.run"),
}


def _expanded(word: str, folder: Path) -> list[str]:
    """A word with ``*`` as a shell gives it."""
    return sorted(glob.glob(word, root_dir=folder)) if "*" in word and "{" not in word else [word]


def _interrupted(words: list[str], folder: Path) -> str:
    """What a run prints that Ctrl-C ends after its first checkpoint."""
    command = [sys.executable, "-m", "scorefold_registry.cli", *words[1:]]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(path.is_file() for path in folder.glob(".scorefold/cache/unfinished/*/**/*")):
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.05)
    return process.communicate(timeout=60)[0]


def same(expected: str, got: str) -> bool:
    """Whether two outputs agree, but for what changes from run to run."""
    pattern, numbers = _pattern(expected.strip())
    found = re.fullmatch(pattern, _steady(got.strip()))
    if found is None:
        return False
    return all(
        math.isclose(float(one), float(other), rel_tol=CLOSE, abs_tol=NEAR)
        for one, other in zip(numbers, found.groups(), strict=True)
    )


def _steady(text: str) -> str:
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _pattern(expected: str) -> tuple[str, list[str]]:
    """A pattern for what a page shows, and the numbers in it that are compared by value."""
    steady = _steady(expected)
    numbers = _DECIMAL.findall(steady)
    return rf"({_DECIMAL.pattern})".join(_words(part) for part in _DECIMAL.split(steady)), numbers


def _words(text: str) -> str:
    """A pattern for text in which a line of ``...`` stands for any number of lines, and ``...`` in a line for words."""
    lines = [r"[\s\S]*?".join(map(re.escape, part.split("..."))) for part in re.split(r"^\.\.\.\n", text, flags=re.M)]
    return r"(?:.*\n)*?".join(lines)


def _doctest(text: str, namespace: dict[str, object]) -> list[str]:
    test = doctest.DocTestParser().get_doctest(text, namespace, "page", None, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append, clear_globs=False)
    namespace.update(test.globs)
    return said if runner.failures else []
