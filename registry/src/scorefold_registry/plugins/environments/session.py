"""A worker from the host's side: started, called, interrupted and ended, and what became of one that is gone."""

from __future__ import annotations

import builtins
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scorefold import errors
from scorefold.errors import PluginError, ScorefoldError, printable
from scorefold.stage import report
from scorefold_registry.plugins.environments import ENDED, running
from scorefold_registry.plugins.environments.objects import known_error
from scorefold_registry.plugins.environments.spec import Spec
from scorefold_registry.plugins.environments.wire import LONGEST, Arena, Reader, WireError, Writer, read_line

Answer = Callable[[Mapping[str, Any], Reader, Writer], bytes]
"""The answer to a question of the worker, from the question and its values."""

Metrics = Callable[[int, Mapping[str, float]], None]

SECONDS_TO_START = 120.0
SECONDS_TO_END = 5.0
"""Time for a worker to end cleanly."""

_BOOT = """
import json, sys
facts = json.loads(sys.argv[1])
sys.path[:0] = [facts["layer"]]
if sys.implementation.cache_tag == facts["tag"]:  # compiled parts fit one version of Python
    sys.path += facts["lent"]
from scorefold_registry.worker.main import main
if __name__ == "__main__":
    main(facts)
"""
_PASSED = (
    *("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
    *("LANG", "LC_ALL", "LC_CTYPE", "LOCPATH"),  # the encoding in which Python reads the paths of an environment
)
_PREFIXES = ("OMP_", "MKL_", "ATEN_", "ONEDNN_", "OPENBLAS_", "NPY_")
"""Variables of threads and instructions, which change the last bits of results."""
_KEPT_OUTPUT = 2**20
_LAST_LINES = 20
_LOOK = 0.5
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
"""Errors of reading a message that no worker of ours writes."""
_ENDS = {
    signal.SIGSEGV: "was ended by a segmentation fault",
    signal.SIGABRT: "aborted",
    signal.SIGILL: "was ended by an illegal instruction",
    signal.SIGBUS: "was ended by a bus error",
    signal.SIGKILL: "was killed, as the system does where memory runs out",
}


class Session:
    """A worker process of one environment. It starts at once and is waited for when it is first called.

    The worker and all that it starts are one group of processes, which ends with this object, with ``close``, and with
    this process however that ends.
    """

    def __init__(self, spec: Spec, python: Path, layer: Path, lent: Path | None, wrapping: Sequence[str] = ()) -> None:
        self.spec = spec
        self.hello: dict[str, Any] = {}
        self._owner = os.getpid()
        self._count, self._buffer, self._most_memory = 0, b"", 0.0
        self._busy = threading.RLock()
        self._output: deque[bytes] = deque()
        self._there, self._back = Arena(), Arena()
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        leash, self._leash = os.pipe()
        ours = (self._requests, self._answers, self._leash, self._there, self._back)
        theirs = [requests, answers, leash, self._there.descriptor, self._back.descriptor]
        facts = {
            "descriptors": theirs,
            "layer": str(layer),
            "lent": [] if lent is None else [str(lent)],
            "tag": sys.implementation.cache_tag,
            "memory": spec.memory,
        }
        command = [*wrapping, str(python), "-I", "-X", "faulthandler", "-c", _BOOT, json.dumps(facts)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=theirs,
                start_new_session=True,
                env=_variables(spec),
            )
        except OSError as error:
            _close(ours)
            raise PluginError(
                f"the interpreter of the environment {spec.name!r} can't be started: {error}", hint=spec.install
            ) from error
        finally:
            _close((requests, answers, leash))
        os.set_blocking(self._requests, False)
        self._ended = weakref.finalize(self, _end, self._process, ours, self._owner)
        self._draining = threading.Thread(target=_drain, args=(self._process, self._output), daemon=True)
        self._draining.start()

    @property
    def alive(self) -> bool:
        """True if the worker runs, and was started by this process."""
        return self._owner == os.getpid() and self._ended.alive and not _reap(self._process, 0)

    @property
    def pid(self) -> int:
        """The number of the worker's process, which is the number of its group too."""
        return self._process.pid

    def ready(self) -> Session:
        """Waits until the worker has said hello. Raises ``PluginError`` where it does not, or speaks otherwise."""
        with self._busy:
            if not self.hello:
                said = self._next("it started", time.monotonic() + SECONDS_TO_START)
                if said.get("hello") != 1:
                    raise self._strange(f"it said {str(said)[:200]}")
                self.hello = said
                self._note_cpu(said)
        return self

    def call(
        self,
        do: str,
        what: str,
        values: Mapping[str, Any] | None = None,
        *,
        gone: Sequence[str] = (),
        handle: Callable[[Any], dict[str, Any] | None] = lambda value: None,
        blame: Callable[[Mapping[str, Any]], ScorefoldError] | None = None,
        metrics: Metrics | None = None,
        questions: Answer | None = None,
    ) -> Any:
        """The answer to one request; ``what`` is what the worker does, for messages.

        States of generators among the values come back advanced. ``gone`` are names of objects to let go of. A
        ``ScorefoldError`` of the worker is raised here as it is there; ``blame`` makes the error of another exception.
        ``metrics`` gets the numbers that the worker sends on the way, and ``questions`` answers what it asks.
        Raises ``PluginError`` where the worker ends, takes too long, or speaks another protocol.
        """
        with self._busy:
            self.ready()
            self._count += 1
            number, writer = self._count, Writer(self._there, handle)
            dtype = str(torch.get_default_dtype()).removeprefix("torch.")
            head = {"id": number, "do": do, "threads": torch.get_num_threads(), "dtype": dtype, "gone": list(gone)}
            line = writer.line(head, {"values": dict(values or {})})
            limit = None if self.spec.seconds is None else time.monotonic() + self.spec.seconds
            try:
                self._send(line, what, limit)
                said = self._answer(number, what, limit, metrics, questions)
            except BaseException:
                self._interrupt(number, what)
                raise
            if "error" in said:
                raise self._error(said["error"], blame)
            reader = Reader(self._back)
            try:
                states = [reader.value(state) for state in said["generators"]]
                for generator, state in zip(writer.generators, states, strict=True):
                    generator.set_state(state)
                return reader.value(said["done"])
            except (WireError, *_MALFORMED) as error:
                raise self._strange(str(error)) from error
            finally:
                self._there.release()
                self._back.release()

    def close(self) -> None:
        """Ends the worker and what it started: it has a moment to end by itself."""
        if self.alive:
            with suppress(OSError, PluginError):
                self._send(b'{"do": "bye"}\n', "it ended", time.monotonic() + 1)
            _reap(self._process, SECONDS_TO_END if self.hello else 0)
        self._ended()

    def _answer(
        self,
        number: int,
        what: str,
        limit: float | None,
        metrics: Metrics | None,
        questions: Answer | None,
    ) -> dict[str, Any]:
        """The last message about the request that is under way; progress and warnings are passed on before it."""
        while True:
            said = self._next(what, limit)
            if said.get("id") != number:
                raise self._strange(f"it answered request {said.get('id')!s:.40}, and {number} was asked")
            if "ask" in said and questions is not None:
                begun = time.monotonic()
                line = questions(said, Reader(self._back), Writer(self._there))
                # The time of the answer is the host's own.
                limit = None if limit is None else limit + time.monotonic() - begun
                self._send(line, what, limit)
            elif "done" in said or "error" in said:
                self._note_cpu(said)
                return said
            else:
                try:
                    pass_on = _remark(said, metrics)
                except _MALFORMED as error:
                    raise self._strange(f"it said {str(said)[:200]}") from error
                pass_on()

    def _note_cpu(self, said: Mapping[str, Any]) -> None:
        spent = said.get("cpu")
        if isinstance(spent, float) and running.get(self.pid, 0.0) <= spent < math.inf:
            running[self.pid] = spent

    def _next(self, what: str, limit: float | None) -> dict[str, Any]:
        """The next message. Raises ``PluginError`` where there will be none."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST:
                raise self._strange("its message does not end")
            left = _LOOK if limit is None else min(_LOOK, limit - time.monotonic())
            if left <= 0:
                raise self._late(what)
            if not select.select([self._answers], [], [], left)[0]:
                self._most_memory = max(self._most_memory, _memory(self.pid))
                continue
            read = os.read(self._answers, 2**16)
            if not read:
                raise self._gone(what)
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return read_line(line)
        except WireError as error:
            raise self._strange(error.message) from error

    def _send(self, line: bytes, what: str, limit: float | None) -> None:
        left = memoryview(line)
        while left:
            if limit is not None and time.monotonic() > limit:
                raise self._late(what)
            if select.select([], [self._requests], [], _LOOK)[1]:
                try:
                    left = left[os.write(self._requests, left) :]
                except BrokenPipeError:
                    raise self._gone(what) from None

    def _interrupt(self, number: int, what: str) -> None:
        """Has the worker stop request ``number`` as Ctrl-C would, and ends it after ``SECONDS_TO_END`` without answer.

        The answer is read: the next request would take it for its own.
        """
        if not self.alive:
            return
        limit = time.monotonic() + SECONDS_TO_END
        try:
            self._send(b'{"do": "cancel", "id": %d}\n' % number, what, limit)
            while time.monotonic() < limit:
                said = self._next(what, limit)
                if said.get("id") == number and ("done" in said or "error" in said):
                    return
        except (PluginError, KeyboardInterrupt):
            pass
        self._ended()

    def _error(
        self, said: Any, blame: Callable[[Mapping[str, Any]], ScorefoldError] | None
    ) -> ScorefoldError | KeyboardInterrupt:
        """The error of the worker as one of this process; its own traceback is a note of it."""
        try:
            if said["type"] == "KeyboardInterrupt" and said["cancelled"]:
                return KeyboardInterrupt()
            found = known_error(said)
            if found is None:
                words = f"the process of the environment {self.spec.name!r}: {said['type']}: {said['message']}"
                found = PluginError(words) if blame is None else blame(said)
            elif found.hint:
                found.hint = self.spec.own_fix(found.hint)
            if said["memory"] and self.spec.memory is not None:
                found.hint = f"its environment may use {self.spec.memory / 1e9:g} GB: raise memory in {self.spec.table}"
            found.add_note(f"In the environment {self.spec.name!r}:\n{printable(str(said['traceback']))}")
            return found
        except _MALFORMED as error:
            return self._strange(f"its error is not as it has to be: {error}")

    def _lost(self, words: str, hint: str | None, last: str = "") -> PluginError:
        """The error of a worker that is of no use any more."""
        error = PluginError(f"the process of the environment {self.spec.name!r} {words}", hint=hint)
        if last:
            error.add_note(f"Its last lines:\n{last}")
        return error

    def _strange(self, why: str) -> PluginError:
        """The error of a worker that says what no worker of ours says; it is ended."""
        hint = f"make it anew: {self.spec.install}"
        return self._lost(f"speaks another protocol: {printable(why)}", hint, self._last_words())

    def _late(self, what: str) -> PluginError:
        """The error of a worker that took too long; it is ended."""
        seconds = (self.spec.seconds or SECONDS_TO_END) if self.hello else SECONDS_TO_START
        self._ended()
        words = f"took longer than {seconds:g} seconds while {what}, and was ended"
        return self._lost(words, f"increase seconds in {self.spec.table}, or reduce its work")

    def _gone(self, what: str) -> PluginError:
        """The error of a worker that ended while ``what`` went on."""
        _reap(self._process, SECONDS_TO_END)
        status = self._process.returncode
        last = self._last_words()
        if self.spec.sandbox and status is not None and status > 128:
            status = 128 - status  # how bubblewrap says that a signal ended the worker
        if status is None:
            how = "closed its end of the pipe"
        elif status < 0:
            how = _ENDS.get(signal.Signals(-status), f"was ended by {signal.Signals(-status).name}")
        else:
            how = f"ended itself with status {status}"
        if status == -signal.SIGKILL and self._most_memory:
            how += f"; it held {self._most_memory / 1e9:.1f} GB"
        words = [line for line in last.splitlines() if line.strip()]
        stack = [number for number, line in enumerate(words) if line.endswith("(most recent call first):")]
        words = words[: stack[-1] + 2] if stack else words  # the innermost line of a stack is its first
        return self._lost(f"{how} while {what}", f"its last words: {words[-1][:200]}" if words else None, last)

    def _last_words(self) -> str:
        """The last lines of the worker, which is ended with all that might print any more."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._draining.join(SECONDS_TO_END)
        self._ended()
        text = b"".join(self._output).decode(errors="replace")
        return printable("\n".join(text.splitlines()[-_LAST_LINES:]))


def _variables(spec: Spec) -> dict[str, str]:
    """The environment variables of a worker: none that might hold a secret, unless the table passes it."""
    names = [name for name in os.environ if name in (*_PASSED, *spec.passed) or name.startswith(_PREFIXES)]
    return {name: os.environ[name] for name in names} | {"OMP_NUM_THREADS": str(torch.get_num_threads())}


def _drain(process: subprocess.Popen[bytes], output: deque[bytes]) -> None:
    """Reads what a worker prints, so that it never waits, and keeps the last of it."""
    held = 0
    assert process.stdout is not None
    with suppress(OSError, ValueError):
        while chunk := os.read(process.stdout.fileno(), 2**16):
            output.append(chunk)
            held += len(chunk)
            while held > _KEPT_OUTPUT:
                held -= len(output.popleft())


def _end(process: subprocess.Popen[bytes], ours: tuple[Any, ...], owner: int) -> None:
    """Ends a worker with all that it started, and closes what this process has open of it.

    A process that was forked from the one that started it leaves it alone.
    """
    if os.getpid() != owner:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        process.kill()
    _reap(process)
    _close(ours)
    if process.stdout is not None:
        with suppress(OSError):
            process.stdout.close()


def _reap(process: subprocess.Popen[bytes], seconds: float | None = None) -> bool:
    """Waits for a worker to end, and keeps the CPU seconds that the system does not count for this process.

    The system counts a process with its parent. A sandbox that is killed has not waited for the worker inside it.
    """
    if process.returncode is None:
        before = os.times()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            after, spent = os.times(), running.pop(process.pid, 0.0)
            system = after.children_user - before.children_user + after.children_system - before.children_system
            running[ENDED] = running.get(ENDED, 0.0) + max(0.0, spent - system)
    return process.returncode is not None


def _close(ours: Sequence[Any]) -> None:
    """Closes descriptors and arenas."""
    for item in ours:
        os.close(item) if isinstance(item, int) else item.close()


def _remark(said: Mapping[str, Any], metrics: Metrics | None) -> Callable[[], Any]:
    """A message on the way to an answer, as a function that passes it on here: progress, numbers or a warning."""
    if "progress" in said:
        done, total, text = said["progress"]
        return partial(report, int(done), int(total), printable(str(text)))
    if "metrics" in said:
        step, numbers = said["metrics"]
        found = {str(name): float(value) for name, value in numbers.items()}
        return partial(metrics or (lambda step, numbers: None), int(step), found)
    warning = said["warning"]
    text, kind, place, line = (str(warning[name]) for name in ("text", "category", "file", "line"))
    category = getattr(builtins, kind, None) or getattr(errors, kind, None)
    if not (isinstance(category, type) and issubclass(category, Warning)):
        category = UserWarning
    return partial(warnings.warn_explicit, printable(text), category, place, int(line))


def _memory(pid: int) -> float:
    """The most memory that a process or one that it started has held, in bytes; 0 where the system does not say."""
    most = 0.0
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                most = 1024.0 * float(line.split()[1])
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            most = max(most, _memory(int(child)))
    return most
