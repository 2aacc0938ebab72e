"""The device and the libraries that a run computes with, and the processes that torchrun started together."""

from __future__ import annotations

import os
import pickle
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import FrameType
from typing import Any

import importlib_metadata
import torch
import torch.distributed as dist

from scorefold.errors import WorkerError
from scorefold.stage import pack, perform, unpack
from scorefold_registry.runfile.reader import Runtime

_LIBRARIES = ("torch", "numpy", "safetensors", "pydantic", "torchdiffeq", "matplotlib")


def set_up(runtime: Runtime) -> tuple[str, Any]:
    """Set torch's threads and the size of network calls as the run file says, and give the device and the dtype.

    Raises ``ConfigError`` for a device that is not here.
    """
    import torch

    from scorefold.batching import set_call_rows
    from scorefold.errors import ConfigError

    set_call_rows(runtime.batch_size)
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    dtype = getattr(torch, runtime.dtype)
    device = runtime.device
    if device == "auto":
        return ("cuda" if torch.cuda.is_available() else "cpu"), dtype
    if device.startswith("cuda"):
        count = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= count:
            raise ConfigError(
                f"the device {device} is not available; torch sees {count} GPUs", hint="runtime: {device: auto}"
            )
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("the device mps is not available", hint="runtime: {device: auto}")
    if device.startswith("simulated"):
        _simulate(runtime.precision)
    return device, dtype


def _simulate(precision: str) -> None:
    """Give this process the simulated device. Raises ``ConfigError`` where there is none, and for half precision."""
    from scorefold.errors import ConfigError

    if precision != "no":
        raise ConfigError(f"the simulated device has no {precision}", hint='runtime: {precision: "no"}')
    try:
        import_module("scorefold_testing.simulated").activate()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the simulated device is not available: {error}", hint="pip install scorefold-testing"
        ) from None
    except RuntimeError as error:
        raise ConfigError(f"the simulated device is not available: {error}", hint="pip install -U torch") from None


def set_up_device(device: str) -> str:
    """The device that ``--device`` of a command names. Raises ``ConfigError`` for one that is unknown or not here."""
    from pydantic import ValidationError

    from scorefold.errors import ConfigError
    from scorefold_registry.components.messages import config_error, config_problems

    try:
        return set_up(Runtime(device=device))[0]
    except ValidationError as error:
        raise config_error("--device", config_problems(Runtime, error)) from None
    except ConfigError as error:
        raise ConfigError(error.message, hint="--device auto uses an available device") from None


@cache
def _version(distribution: str) -> str:
    """An installed version, read once: a process keeps what it has imported."""
    return importlib_metadata.version(distribution)


def environment_contents(plugins: list[Any], device: str, seed: int, processes: int = 1) -> dict[str, Any]:
    """The contents of ``environment.json``: machine, versions, threads, processes that train, device, seed."""
    import torch

    versions = {name: _version(name) for name in _LIBRARIES}
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "device": device,
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "seed": seed,
        "versions": versions,
        "scorefold": {
            name: _version(name)
            for name in ("scorefold-core", "scorefold-toolkit", "scorefold-registry")
            if find_spec(name.removesuffix("-core").replace("-", "_")) is not None
        },
        "plugins": [
            {"name": record.name, "distribution": record.distribution, "version": record.version, "state": record.state}
            for record in plugins
        ],
        "command": sys.argv,
    }


_FAILED = "scorefold-failed"
"""The key under which the process that fails first leaves its error for the first process."""

_STAGES_TAKE = timedelta(days=365)
"""Time that the other processes wait for the next training: as long as other stages may take."""

_SECONDS_TO_SAY = 3

Group = Any


class Team:
    """The processes, seen from the first of ``count``."""

    def __init__(self, group: Group) -> None:
        self.count = dist.get_world_size()
        self._group = group
        self._whole = True

    @contextmanager
    def job(self, target: str, item: Any) -> Iterator[None]:
        """``target`` (``module:function``) on an item in all other processes, while this one does its own part.

        Raises ``JobError`` for an item that can't be sent, this process's own error, and where another process is the
        one that failed that one's, or ``WorkerError`` where it ended without a word. After an error the others end.
        """
        _pass_on(
            self._group, pickle.dumps((sys.path, target, torch.get_num_threads(), pack(item, f"what {target} takes")))
        )
        try:
            yield
            dist.barrier(self._group)
        except BaseException as error:
            self._whole = False
            # torchrun, which sees another process end, ends this one too: it is about to end, and says why.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise _cause(error) from error

    def end(self) -> None:
        """Lets the others end."""
        if self._whole:
            with suppress(RuntimeError):  # they have ended
                _pass_on(self._group, b"")


_team: Team | None = None


def current_team() -> Team | None:
    """The team that this process leads, or None."""
    return _team


def process_count() -> int:
    """Number of processes that train together."""
    return 1 if _team is None else _team.count


def lead(command: Callable[[], int]) -> int:
    """Runs a command in the first process, with the others at hand. Its status."""
    global _team
    with _joined() as group:
        before = signal.signal(signal.SIGTERM, _on_terminate)
        _team = Team(group)
        try:
            return command()
        finally:
            _team.end()
            _team = None
            signal.signal(signal.SIGTERM, before)


def follow_first_process() -> int:
    """Trains with the first process whenever it does, without a word, until it ends. 0, or 2 after an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process says what Ctrl-C means
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open for as long as the process
    with _joined() as group:
        try:
            while packed := _pass_on(group):
                # Modules of plugins under development are found where the first process finds them.
                sys.path[:], target, threads, item = pickle.loads(packed)
                perform(target, item, threads)
                dist.barrier(group)
        except BaseException as error:
            with suppress(RuntimeError):  # the first process is gone, and the store with it
                _store().compare_set(_FAILED, "", pickle.dumps(error).hex())
            return 2
    return 0


@contextmanager
def _joined() -> Iterator[Group]:
    """The processes as a group that waits without end. What is started from here is not part of it."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    group = dist.new_group(backend="gloo", timeout=_STAGES_TAKE)
    size = os.environ.pop("WORLD_SIZE")
    try:
        yield group
    finally:
        os.environ["WORLD_SIZE"] = size
        dist.destroy_process_group()


def _pass_on(group: Group, packed: bytes | None = None) -> bytes:
    """The first process's bytes, in every process."""
    size = torch.tensor([len(packed or b"")])
    dist.broadcast(size, 0, group=group)
    content = torch.empty(int(size), dtype=torch.uint8)
    if packed:
        content = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
    if len(content):
        dist.broadcast(content, 0, group=group)
    return content.numpy().tobytes()


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()


def _on_terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _lost("this one got SIGTERM")


def _lost(why: str) -> WorkerError:
    return WorkerError(
        f"a process of the joint training has ended: {why}",
        item=0,
        hint="one may have run out of memory, or been stopped; repeat the command to continue from the last checkpoint",
    )


def _cause(error: BaseException) -> BaseException:
    """The error to show. It is another process's error, where this process's error only follows from it."""
    follows = isinstance(error, WorkerError | dist.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error))
    )
    if not follows:
        return error
    try:
        _store().wait([_FAILED], timedelta(seconds=_SECONDS_TO_SAY))
        found: BaseException = unpack(bytes.fromhex(_store().get(_FAILED).decode()))
        return found
    except RuntimeError:
        return error if isinstance(error, WorkerError) else _lost(str(error).splitlines()[0])
