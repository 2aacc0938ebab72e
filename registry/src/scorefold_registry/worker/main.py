"""The main loop of a worker: requests are read from a pipe, done one at a time, and answered on another.

A worker has a host of its own, which finds the plugins of its environment, builds their components and keeps them by
name for the other side. It prints nothing that anybody reads: stdout and stderr belong to libraries.
"""

from __future__ import annotations

import json
import math
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from scorefold.errors import PluginError, ScorefoldError
from scorefold.interfaces.model import evaluations
from scorefold.stage import showing
from scorefold_registry.components.building import Placement
from scorefold_registry.components.parts import read_config
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments import objects
from scorefold_registry.plugins.environments.wire import LONGEST, PROTOCOL, Arena, Reader, Writer
from scorefold_registry.plugins.loading import describe, own_frame
from scorefold_registry.worker import answers
from scorefold_registry.worker.answers import Asking, describe_host, distributions

_PROGRESS_EVERY = 0.1
_LONGEST_TRACEBACK = 20_000
_STOP = "read line; kill -9 0"
"""A shell that waits for the host to let go of the leash, and then ends the worker's whole group."""


def main(facts: Mapping[str, Any]) -> None:
    """Works until the host says bye or lets go. ``facts`` are as ``Session`` writes them."""
    requests, answers, leash, there, back = facts["descriptors"]
    subprocess.Popen(["/bin/sh", "-c", _STOP], stdin=leash, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(leash)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    worker = Worker(Arena(there), Arena(back), answers, Path(facts["layer"]))
    threading.Thread(target=_read, args=(requests, worker), daemon=True).start()
    if facts["memory"] is not None:
        _limit(facts["memory"])
    worker.say({"hello": 1, "protocol": PROTOCOL, **distributions(), "cpu": _cpu()})
    while True:
        with suppress(KeyboardInterrupt):
            message = worker.inbox.get()
            if message["do"] == "bye":
                break
            worker.answer(message)


def _read(requests: int, worker: Worker) -> None:
    """Reads requests; a cancel interrupts the one that is being done, and the end of the pipe ends the process."""
    with open(requests, "rb") as lines:
        for line in lines:
            message = json.loads(line)
            if message["do"] != "cancel":
                worker.inbox.put(message)
            elif worker.working:
                worker.cancelled = True
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    os._exit(0)


def _limit(memory: int) -> None:
    """Limits what this process and its children may allocate, beyond what is allocated by now."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        lines = Path("/proc/self/status").read_text().splitlines()
        now = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (now + memory, now + memory))


class Worker:
    """The objects of a worker by name, and the answers to requests."""

    def __init__(self, there: Arena, back: Arena, answers: int, layer: Path) -> None:
        self._there, self._back, self._answers = there, back, answers
        # A settings file of somebody's may stand above any folder; this one is empty.
        self.host = Host.discover(toml=layer / "scorefold.toml")
        self.inbox: queue.Queue[dict[str, Any]] = queue.Queue()
        self._objects: dict[str, Any] = {}
        self._host_objects = Asking(self._ask)
        self._id, self._shown = 0, 0.0
        self.working = self.cancelled = False

    def say(self, message: Mapping[str, Any]) -> None:
        """Sends a message of plain JSON."""
        self._write(json.dumps(message).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(self._answers, left) :]

    def answer(self, message: Mapping[str, Any]) -> None:
        """Does a request and sends its answer, or the error that it raised."""
        self._id, self.cancelled = message["id"], False
        self.working = True
        try:
            try:
                line = self._done(message)
            finally:
                self.working = False
        except BaseException as error:
            self.say({"id": self._id, "cpu": _cpu(), "error": self._error(error)})
            return
        self._write(line)

    def _done(self, message: Mapping[str, Any]) -> bytes:
        _seed(message.get("seed", 0))
        torch.set_default_dtype(getattr(torch, message["dtype"]))
        if message["threads"] != torch.get_num_threads():
            torch.set_num_threads(message["threads"])
        reader = Reader(self._there, self._objects.__getitem__, self._of_host)
        writer = Writer(self._back)
        with showing(self._progress), warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = self._warning  # type: ignore[assignment]
            done = getattr(self, f"_do_{message['do'].replace('-', '_')}")(message, reader)
        states = [generator.get_state() for generator in reader.generators]
        return writer.line({"id": self._id, "cpu": _cpu()}, {"done": done, "generators": states})

    def _of_host(self, said: Mapping[str, Any]) -> Any:
        """A proxy of an object of the host, which is plugged into one of this process."""
        return self._host_objects.proxy(said)

    def _ask(self, plain: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        """The host's answer to a question. What the host asks before it answers is done first."""
        number, writer = self._id, Writer(self._back, self._host_objects.handle)
        self._write(writer.line({"id": number, **plain}, values))
        while (message := self.inbox.get())["do"] != "answer":
            self.answer(message)
            self._id, self.working = number, True
        if "error" in message:
            raise objects.known_error(message["error"]) or PluginError(message["error"]["message"])
        reader = Reader(self._there, self._objects.__getitem__, self._of_host)
        for generator, state in zip(writer.generators, message["generators"], strict=True):
            generator.set_state(reader.value(state))
        return reader.value(message["done"])

    def _do_describe(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """The description as JSON, in a tensor of bytes, since it may be long."""
        text = json.dumps(describe_host(self.host)).encode()
        return torch.frombuffer(bytearray(text), dtype=torch.uint8)

    def _do_check(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """The resolved config of a component, or what is wrong with it."""
        registered = self.host.catalogue.resolve(message["use"])
        read = read_config(self.host.catalogue, registered, reader.value(message["config"]))
        if read.config is None or read.problems:
            problems = [[list(one.path), one.message, one.hint, one.code] for one in read.problems]
            return {"problems": problems}
        return {"config": json.loads(read.config.model_dump_json(fallback=lambda value: None))}

    def _do_create(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """A component built and kept under a name."""
        # All is read before anything is built: an answer of the host to a constructor takes the place of these tensors.
        config, ports, state = (reader.value(message[name]) for name in ("config", "ports", "state"))
        place = message["place"]
        dtype = None if place["dtype"] is None else getattr(torch, place["dtype"])
        registered = self.host.catalogue.resolve(message["use"])
        placement = Placement(place["seed"], place["device"], dtype)
        found = self.host.builder.build(registered, config, ports, placement)
        if state is not None:
            answers.put_state(self.host.builder, found, state)
        self._objects[message["name"]] = found

    def _do_call(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """The answer of a method."""
        return objects.call(self._objects[message["name"]], message, reader)

    def _do_get(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """Attributes of an object, those that it has."""
        return objects.get(self._objects[message["name"]], message["names"])

    def _do_rows(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """The answer of a map of rows, or products with its Jacobian."""
        return objects.mapped_rows(self._model(message), message, reader)

    def _do_verb(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """The answer of a method of a model, and the number of events at which it was evaluated."""
        model = self._model(message)
        with evaluations([model]) as counted:
            answer = objects.verb(model, message, reader)
        return {"answer": answer, "points": counted.points}

    def _do_fit(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """A training: its report as JSON, in a tensor of bytes, and the model's tensors."""
        model = self._model(message)
        return answers.answer_training(model, self.host.builder, message, reader, self._metrics, self._progress)

    def _do_bind(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """A bound score, kept under a name."""
        self._objects[message["kept"]] = self._model(message).bind(**reader.value(message["named"]))

    def _model(self, message: Mapping[str, Any]) -> Any:
        return answers.in_mode(self._objects[message["name"]], message["mode"])

    def _do_points(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """A data source as its points."""
        source = self._objects[message["name"]]
        return {"source": source, "summary": source.summary()}

    def _do_forget(self, message: Mapping[str, Any], reader: Reader) -> Any:
        """Objects that nobody asks for any more."""
        for name in message["names"]:
            self._objects.pop(name, None)

    def _progress(self, done: int, total: int, text: str) -> None:
        if done >= total or time.monotonic() > self._shown + _PROGRESS_EVERY:
            self._shown = time.monotonic()
            self.say({"id": self._id, "progress": [done, total, text[:200]]})

    def _metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        said = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        self.say({"id": self._id, "metrics": [step, said]})

    def _warning(self, message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        said = {"text": str(message)[:10_000], "category": category.__name__, "file": filename, "line": lineno}
        self.say({"id": self._id, "warning": said})

    def _error(self, error: BaseException) -> dict[str, Any]:
        """An exception as data: its class, words, hint, the line of the plugin's own, and its traceback."""
        packages = {record.package for record in self.host.plugins}
        message = error.message if isinstance(error, ScorefoldError) else describe(error).partition(": ")[2]
        text = "".join(traceback.format_exception(error))
        said = {
            "type": type(error).__name__,
            "code": getattr(error, "code", "error") if isinstance(error, ScorefoldError) else "error",
            "message": message[: LONGEST // 8],
            "hint": str(error.hint)[:10_000] if isinstance(error, ScorefoldError) and error.hint else None,
            "frame": own_frame(error, packages),
            "memory": isinstance(error, MemoryError) or "can't allocate memory" in str(error),
            "system": isinstance(error, OSError | ImportError),
            "cancelled": self.cancelled,
            "traceback": text[-_LONGEST_TRACEBACK:],
        }
        # What went wrong holds frames, and these hold what was given: it is let go.
        traceback.clear_frames(error.__traceback__)
        return said


def _cpu() -> float:
    """CPU seconds of this process and of those it has waited for."""
    return sum(os.times()[:4])


def _seed(seed: int) -> None:
    """Seeds the global generators, so that a plugin that draws from them is at least repeatable."""
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
