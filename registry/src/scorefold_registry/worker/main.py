"""The main loop of a worker: requests are read from a pipe, done one at a time, and answered on another.

A worker has a host of its own, which finds the plugins of its environment, builds their components and keeps them by
name for the other side. It prints nothing that anybody reads: stdout and stderr belong to libraries.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import subprocess
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
from scorefold.interfaces.model import EventModel, evaluations
from scorefold.stage import showing
from scorefold_registry.components.building import Placement
from scorefold_registry.components.parts import read_config
from scorefold_registry.components.saving import fill_weights
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments import objects
from scorefold_registry.plugins.environments.wire import LONGEST, Arena, Reader, Writer
from scorefold_registry.plugins.loading import describe, own_frame
from scorefold_registry.plugins.process_guard import seed_generators
from scorefold_registry.worker import answers
from scorefold_registry.worker.answers import Asking, describe_host, distributions, in_mode

_ACCELERATED = any(part.device_count() for part in (torch.cuda, torch.mps, torch.xpu))
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
    worker.say({"hello": 1, **distributions(), "cpu": _cpu()})
    while True:
        with suppress(KeyboardInterrupt):
            message = worker.inbox.get()
            if message["do"] == "bye":
                break
            if message["do"] != "cancel":  # the request was answered before the cancel came
                worker.answer(message)


def _read(requests: int, worker: Worker) -> None:
    """Reads requests; a cancel interrupts the one that is being done, and the end of the pipe ends the process."""
    with open(requests, "rb") as lines:
        for line in lines:
            message = json.loads(line)
            if message["do"] != "cancel" or not worker.working or message["id"] != worker.id:
                worker.inbox.put(message)
            else:
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
        self.id, self._shown = 0, 0.0
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
        self.id, self.cancelled = message["id"], False
        self.working = True
        try:
            try:
                line = self._done(message)
            finally:
                self.working = False
        except BaseException as error:
            self.say({"id": self.id, "cpu": _cpu(), "error": self._error(error)})
            return
        self._write(line)

    def _done(self, message: Mapping[str, Any]) -> bytes:
        torch.set_default_dtype(getattr(torch, message["dtype"]))
        if message["threads"] != torch.get_num_threads():
            torch.set_num_threads(message["threads"])
        for name in message["gone"]:
            self._objects.pop(name, None)
        reader, writer = self._reader(), Writer(self._back)
        # All is read before anything is done: an answer of the host to a question takes the place of these tensors.
        values = reader.value(message["values"])
        # A plugin that draws from global generators is at least repeatable.
        seed = values.pop("seed", 0)
        seed_generators(seed)
        if _ACCELERATED:
            torch.manual_seed(seed)
        with showing(self._progress), warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = self._warning  # type: ignore[assignment]
            done = getattr(self, f"_do_{message['do']}")(**values)
        states = [generator.get_state() for generator in reader.generators]
        return writer.line({"id": self.id, "cpu": _cpu()}, {"done": done, "generators": states})

    def _reader(self) -> Reader:
        return Reader(self._there, self._objects.__getitem__, self._host_objects.proxy)

    def _ask(self, do: str, values: Mapping[str, Any]) -> Any:
        """The host's answer to a question. What the host asks before it answers is done first."""
        number, writer = self.id, Writer(self._back)
        self._write(writer.line({"id": number, "ask": do}, {"values": dict(values)}))
        while (message := self.inbox.get())["do"] != "answer":
            if message["do"] != "cancel":
                self.answer(message)
                self.id, self.working = number, True
            elif message["id"] == number:
                self.cancelled = True
                raise KeyboardInterrupt
        if "error" in message:
            raise objects.known_error(message["error"]) or PluginError(message["error"]["message"])
        reader = self._reader()
        for generator, state in zip(writer.generators, message["generators"], strict=True):
            generator.set_state(reader.value(state))
        return reader.value(message["done"])

    def _do_describe(self) -> Any:
        """The description as JSON."""
        return answers.json_bytes(json.dumps(describe_host(self.host)))

    def _do_check(self, use: str, config: Any) -> Any:
        """The resolved config of a component, or what is wrong with it."""
        read = read_config(self.host.catalogue, self.host.catalogue.resolve(use), config)
        if read.config is None or read.problems:
            problems = [[list(one.path), one.message, one.hint, one.code] for one in read.problems]
            return {"problems": problems}
        return {"config": json.loads(read.config.model_dump_json(fallback=lambda value: None))}

    def _do_create(
        self, name: str, use: str, config: Any, ports: Any, state: Any, of: Any, device: Any, dtype: Any
    ) -> None:
        """A component built from the seed ``of`` and kept under a name."""
        placement = Placement(of, device, None if dtype is None else getattr(torch, dtype))
        found = self.host.builder.build(self.host.catalogue.resolve(use), config, ports, placement)
        if state is not None:
            fill_weights(self.host.builder, found, state, "the saved state")
        self._objects[name] = found

    def _do_call(
        self, name: str, method: str, given: list[Any], named: Any, mode: Any = None, keep: str | None = None
    ) -> Any:
        """The answer of a method, or None where it is kept under a name; and the events at which a model was
        evaluated."""
        found = in_mode(self._objects[name], mode)
        with evaluations([found] if mode is not None else ()) as counted:
            answer = objects.call(found, method, given, named)
        if keep is not None:
            self._objects[keep], answer = answer, None
        return {"answer": answer, "points": counted.points or 0}

    def _do_get(self, name: str, names: list[str]) -> Any:
        """Attributes of an object, those that it has."""
        return objects.get(self._objects[name], names)

    def _do_rows(self, name: str, mode: Any, **values: Any) -> Any:
        """The answer of a map of rows, or products with its Jacobian. A bound score is in the mode it was bound in."""
        found = self._objects[name]
        return objects.mapped_rows(in_mode(found, mode) if isinstance(found, EventModel) else found, **values)

    def _do_fit(self, name: str, method: str, mode: Any, settings: dict[str, Any], **values: Any) -> Any:
        """A training: its report and the model's tensors."""
        settings |= {"metrics": self._metrics, "progress": self._progress}
        found = in_mode(self._objects[name], mode)
        return answers.train(found, self.host.builder, settings=settings, **values)

    def _do_weights(self, name: str, mode: Any) -> dict[str, Any]:
        """The tensors of a model, without the tensors of its ports, and the names of the trained ones."""
        found = in_mode(self._objects[name], mode)
        tensors = answers.tensors_of(self.host.builder, found)
        return {
            "tensors": tensors,
            "trained": [n for n, p in found.named_parameters() if p.requires_grad and n in tensors],
        }

    def _do_points(self, name: str) -> Any:
        """A data source, which crosses as its points."""
        return self._objects[name]

    def _progress(self, done: int, total: int, text: str) -> None:
        if done >= total or time.monotonic() > self._shown + _PROGRESS_EVERY:
            self._shown = time.monotonic()
            self.say({"id": self.id, "progress": [done, total, text[:200]]})

    def _metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        said = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        self.say({"id": self.id, "metrics": [step, said]})

    def _warning(self, message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        said = {"text": str(message)[:10_000], "category": category.__name__, "file": filename, "line": lineno}
        self.say({"id": self.id, "warning": said})

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
