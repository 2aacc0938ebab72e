"""Guards around the code of plugins: what it changes in this process is put back and named, and it has to end.

A plugin that ends the process or changes more than this needs an environment of its own.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple

from scorefold.errors import PluginError


@contextmanager
def isolated(warn: Callable[[str], None]) -> Iterator[None]:
    """Runs a plugin's code while it is imported, and warns of what it changed, which is changed back."""
    changed: list[str] = []
    try:
        with guarded() as changed:
            yield
    finally:
        for what in changed:
            warn(f"it changes {what} while it is imported, which was changed back")


@contextmanager
def guarded() -> Iterator[list[str]]:
    """Runs a plugin's code: what it changes of ``SETTINGS`` is put back, and fills the list.

    Raises ``PluginError`` where the code left a working folder that is gone.
    """
    before = {what: setting.value() for what, setting in SETTINGS.items()}
    changed: list[str] = []
    try:
        yield changed
    finally:
        for what, setting in SETTINGS.items():
            # A working folder that was removed has no value, and no other folder has taken its place.
            if None not in (before[what], now := setting.value()) and now != before[what]:
                changed.append(what)
                setting.put(before[what])


@contextmanager
def seeded(seed: int) -> Iterator[list[str]]:
    """Runs code with the global generators of Python, numpy and torch's CPU seeded, and puts them back.

    The list gets the names of those that were drawn from, by the code or by other threads.
    """
    import numpy.random
    import torch

    before, bits, drawn = generator_states(), numpy.random.mtrand.get_bit_generator(), list[str]()
    seed_generators(seed)
    started = generator_states()
    try:
        yield drawn
    finally:
        drawn += [what for what, state in generator_states().items() if state != started[what]]
        in_python, in_numpy, in_torch = before.values()
        random.setstate(in_python)
        numpy.random.mtrand.set_bit_generator(bits)
        numpy.random.set_state(in_numpy)
        torch.default_generator.set_state(torch.tensor(in_torch, dtype=torch.uint8, device="cpu"))


def generator_states() -> dict[str, Any]:
    """The states of the global generators, by their names."""
    import numpy.random
    import torch
    from numpy import array

    def lists(value: Any) -> Any:
        return {name: lists(part) for name, part in value.items()} if isinstance(value, dict) else array(value).tolist()

    return {
        "Python's global random generator": random.getstate(),
        "numpy's global random generator": lists(numpy.random.get_state(legacy=False)),
        "torch's global random generator": torch.default_generator.get_state().tolist(),
    }


def seed_generators(seed: int) -> None:
    """Seeds the global generators, for torch on the CPU only: ``torch.manual_seed`` takes 200 times as long."""
    import numpy.random
    import torch

    random.seed(seed)
    if not isinstance(
        numpy.random.mtrand.get_bit_generator(), numpy.random.MT19937
    ):  # a plugin's choice, which takes no seed
        numpy.random.mtrand.set_bit_generator(numpy.random.MT19937())
    numpy.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Code that takes longer is ended by a ``TimeoutError``, in the main thread and where the system has the timer.

    Code that computes little in that time, such as an import from a slow disk, has five times as long.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    began, used, done = time.monotonic(), time.process_time(), False

    def end(number: int, frame: FrameType | None) -> None:
        waits = time.process_time() - used < seconds / 2 and time.monotonic() - began < 5 * seconds
        if not (done or waits):
            raise TimeoutError(f"it did not end within {time.monotonic() - began:.3g} seconds")

    handler = signal.signal(signal.SIGALRM, end)
    # Again each second, since the code may go on after the error.
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        done = True
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001), interval)


class _Setting(NamedTuple):
    """A setting of the process: how it is read and put back. None is a value that can't be put back.

    ``start`` is the value of a setting of torch before torch is imported.
    """

    read: Callable[[], Any]
    put: Callable[[Any], object]
    start: Any = None

    def value(self) -> Any:
        is_there = self.start is None or hasattr(sys.modules.get("torch"), "inference_mode")
        return self.read() if is_there else self.start


def _folder() -> str | None:
    with suppress(FileNotFoundError):
        return os.getcwd()
    return None


def _put_folder(before: str) -> None:
    try:
        os.chdir(before)
    except OSError as error:
        raise PluginError(
            f"a plugin left the working folder {before}, which can't be entered again: {error.strerror}",
            hint="repeat the command in a folder that is not removed",
        ) from error


def _torch(name: str) -> Callable[..., Any]:
    """A function of torch, which is imported by the time of the call."""
    return lambda *given: getattr(sys.modules["torch"], name)(*given)


def _put_dtype(before: str) -> None:
    import torch

    torch.set_default_dtype(getattr(torch, before))


_held: list[Any] = []
"""Guards that put a mode of torch back for as long as they live."""


def _put_inference(before: bool) -> None:
    import torch

    guard = torch.inference_mode(before)
    guard.__enter__()
    _held.append(guard)


SETTINGS = {
    # The results of every other plugin would be of another precision, and be kept as if they were not.
    "torch's default dtype": _Setting(
        lambda: str(sys.modules["torch"].get_default_dtype()).removeprefix("torch."), _put_dtype, "float32"
    ),
    "torch's precision of products of matrices": _Setting(
        _torch("get_float32_matmul_precision"), _torch("set_float32_matmul_precision"), "highest"
    ),
    "torch's choice of deterministic algorithms": _Setting(
        _torch("are_deterministic_algorithms_enabled"), _torch("use_deterministic_algorithms"), False
    ),
    # It takes the gradient mode with it, and is put back first.
    "torch's inference mode": _Setting(_torch("is_inference_mode_enabled"), _put_inference, False),
    "torch's gradient mode": _Setting(_torch("is_grad_enabled"), _torch("set_grad_enabled"), True),
    # A path of a command line would name another file. It is put back last, since this may raise.
    "the working folder": _Setting(_folder, _put_folder),
}
