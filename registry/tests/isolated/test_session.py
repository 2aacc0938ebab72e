"""A worker that crashes, hangs, floods or lies, from the host's side. It is a stand-in that starts in a moment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from scorefold.errors import DataError, PluginError
from scorefold.stage import showing
from scorefold_registry.plugins.environments import running
from scorefold_registry.plugins.environments import session as sessions
from scorefold_registry.plugins.environments.session import Session
from scorefold_registry.plugins.environments.spec import Spec
from scorefold_registry.run.os_process import cpu_seconds

LAYER = Path(__file__).parent / "toys_layer"

Start = Callable[..., Session]


def members(group: int) -> list[int]:
    """The processes of a group that are not zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def wait_until_gone(group: int, seconds: float = 6.0) -> None:
    limit = time.monotonic() + seconds
    while members(group) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not members(group)


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """``begin(seconds=1.0)`` starts a stand-in; each is gone at the end, and no descriptor of it is left open."""
    monkeypatch.setattr(sessions, "SECONDS_TO_END", 0.5)
    made: list[Session] = []
    before = len(os.listdir("/proc/self/fd"))

    def start(**limits: Any) -> Session:
        spec = Spec("old", tmp_path / "scorefold.toml", interpreter=Path(sys.executable), **limits)
        made.append(Session(spec, Path(sys.executable), LAYER, None))
        return made[-1].ready()

    yield start
    for session in made:
        session.close()
        wait_until_gone(session.pid)
    made.clear()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("do", "words"),
    [
        ("segfault", "the process of the environment 'old' was ended by a segmentation fault while it estimated"),
        ("abort", "the process of the environment 'old' aborted while it estimated"),
        ("exit", "the process of the environment 'old' ended itself with status 3 while it estimated"),
        ("killed", "was killed, as the system does where memory runs out"),
        ("half", "ended itself with status 0"),
        ("closes", "closed its end of the pipe"),
        ("long", "speaks another protocol: its message does not end"),
        ("twice", "speaks another protocol: .* a key stands there twice"),
        ("nan", "speaks another protocol: .* NaN is no JSON"),
        ("other", "speaks another protocol: it answered request 6, and 1 was asked"),
        ("nonsense", "speaks another protocol: it said"),
        ("beyond", "speaks another protocol: .* beyond what was written"),
        ("remarks", "speaks another protocol: it said .*progress"),
    ],
)
def test_what_became_of_a_worker_is_a_sentence(begin: Start, do: str, words: str) -> None:
    session = begin()
    with pytest.raises(PluginError, match=words):
        session.call(do, "it estimated")
    assert not session.alive
    assert begin().call("nothing", "it estimated") is None


def test_the_last_words_are_the_hint(begin: Start) -> None:
    with pytest.raises(PluginError) as caught:
        begin().call("words", "it estimated")
    assert caught.value.hint == "its last words: the last words of a worker"


def test_a_crash_shows_the_stack_of_the_worker(begin: Start) -> None:
    with pytest.raises(PluginError) as caught:
        begin().call("segfault", "it estimated")
    assert "Segmentation fault" in caught.value.__notes__[0]
    assert "main.py" in caught.value.__notes__[0]
    assert re.fullmatch(r'its last words:   File ".*ctypes/__init__.py", line \d+ in string_at', str(caught.value.hint))


def test_a_worker_may_print_as_much_as_it_likes(begin: Start) -> None:
    session = begin()
    assert session.call("print", "it estimated") is None
    assert session.call("nothing", "it estimated") is None


def test_a_call_may_take_so_long(begin: Start) -> None:
    with pytest.raises(PluginError, match=r"took longer than 0.3 seconds while it estimated") as caught:
        begin(seconds=0.3).call("hang", "it estimated")
    assert "[environments.old]" in str(caught.value.hint)


def test_the_time_of_an_answer_of_the_host_is_not_counted(begin: Start) -> None:
    def answer(*_: Any) -> bytes:
        time.sleep(1)
        return b'{"do": "answer"}\n'

    assert begin(seconds=0.5).call("ask", "it estimated", questions=answer) is None


def test_a_worker_that_reads_no_answer_took_too_long(begin: Start) -> None:
    with pytest.raises(PluginError, match=r"took longer than 0.3 seconds while it estimated, and was ended"):
        begin(seconds=0.3).call("deaf", "it estimated", questions=lambda *_: b"x" * 2**20)


def test_ctrl_c_ends_what_does_not_listen(begin: Start) -> None:
    session = begin()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            session.call("hang", "it estimated")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not session.alive


def test_children_of_a_worker_go_with_it(begin: Start) -> None:
    session = begin()
    session.call("child", "it estimated")
    assert len(members(session.pid)) == 3  # the worker, its watch and its child
    session.close()
    wait_until_gone(session.pid)


def test_progress_and_warnings_pass_through(begin: Start) -> None:
    seen: list[tuple[int, int, str]] = []
    with showing(lambda *what: seen.append(what)), pytest.warns(RuntimeWarning, match="mind this"):
        begin().call("progress", "it estimated")
    assert seen == [(1, 2, "half\\u001b[2J")]


def test_an_error_on_the_way_leaves_no_answer_behind(begin: Start) -> None:
    """As of a warning that the user has made an error: the next request would take the answer for its own."""
    session = begin()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="mind this"):
            session.call("progress", "it estimated")
    assert session.call("nothing", "it estimated") is None


def test_numbers_on_the_way_pass_through(begin: Start) -> None:
    seen: list[tuple[int, Any]] = []
    begin().call("metrics", "it trained", metrics=lambda step, numbers: seen.append((step, dict(numbers))))
    assert [(step, numbers["loss"], str(numbers["validation"])) for step, numbers in seen] == [(5, 0.5, "nan")]


def test_an_error_of_ours_keeps_its_class(begin: Start) -> None:
    with pytest.raises(DataError) as caught:
        begin().call("error", "it estimated")
    assert (caught.value.message, caught.value.hint, caught.value.code) == ("too few points", "give more", "data")
    assert caught.value.__notes__ == ["In the environment 'old':\nline 1"]


def test_the_time_of_a_worker_counts(begin: Start) -> None:
    session, before = begin(), cpu_seconds()
    session.call("cpu", "it estimated")
    assert 2.5 <= cpu_seconds() - before < 4
    session.call("backwards", "it estimated")
    assert running[session.pid] == 2.5
    session.close()
    assert session.pid not in running
    assert 2.5 <= cpu_seconds() - before < 4  # though the system counted less for the worker


FORK = """
import os, sys
from pathlib import Path
from scorefold_registry.plugins.environments.session import Session
from scorefold_registry.plugins.environments.spec import Spec

python = Path(sys.executable)
session = Session(Spec("old", Path("x"), interpreter=python), python, Path(sys.argv[1]), None).ready()
if (child := os.fork()) == 0:
    assert not session.alive
    session.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert session.call("nothing", "it estimated") is None
session.close()
"""


def test_a_forked_process_leaves_the_worker_alone() -> None:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORK), str(LAYER)]
    assert subprocess.run(command, check=False).returncode == 0


def test_variables_do_not_leak(begin: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "1")
    monkeypatch.setenv("SECRET_WANTED", "1")
    assert begin(passed=("SECRET_WANTED",)).call("variables", "it looked") == ["SECRET_WANTED"]


@pytest.mark.parametrize(
    "names",
    [
        ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE"),
        # Without the locale Python refuses to start where the path of the environment has an umlaut.
        ("LANG", "LC_ALL", "LC_CTYPE", "LOCPATH"),
    ],
    ids=["instructions", "locale"],
)
def test_a_worker_has_the_variables_of_the_main_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    for name in names:
        monkeypatch.setenv(name, "default")
    passed = sessions._variables(Spec("old", tmp_path / "scorefold.toml"))
    assert [passed.get(name) for name in names] == ["default"] * 4


def test_an_interpreter_that_is_none_is_named(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    broken = tmp_path / "python"
    broken.write_text("no program")
    spec = Spec("old", tmp_path / "scorefold.toml", interpreter=broken)
    with pytest.raises(PluginError, match="interpreter of the environment 'old' can't be started") as caught:
        Session(spec, broken, LAYER, None)
    assert caught.value.hint == "scorefold plugins install old"
    assert len(os.listdir("/proc/self/fd")) == before


def call_on(session: Session) -> None:
    while True:
        session.call("nothing", "it estimated")


def test_a_worker_killed_at_any_moment_leaves_nothing(begin: Start) -> None:
    moments = Random(0)
    for _ in range(12):
        session = begin()
        threading.Timer(moments.uniform(0, 0.05), os.kill, [session.pid, signal.SIGKILL]).start()
        with pytest.raises(PluginError, match=r"was killed|can't|ended"):
            call_on(session)
        wait_until_gone(session.pid)


HOST = """
import sys, time
from pathlib import Path
from scorefold_registry.plugins.environments.session import Session
from scorefold_registry.plugins.environments.spec import Spec

python = Path(sys.executable)
session = Session(Spec("old", Path("x"), interpreter=python), python, Path(sys.argv[1]), None)
session.ready().call("child", "it estimated")
print(session.pid, flush=True)
session.call("hang", "it estimated")
"""


def test_nothing_outlives_a_host_that_is_killed() -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOST), str(LAYER)], stdout=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    group = int(host.stdout.readline())
    assert len(members(group)) == 3
    host.kill()
    host.wait()
    host.stdout.close()
    wait_until_gone(group)
