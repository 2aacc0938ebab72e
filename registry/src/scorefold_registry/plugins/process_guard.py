"""Guards around the code of plugins: what it changes in this process is put back, and what it imports is seen."""

from __future__ import annotations

import builtins
import locale
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple, NoReturn


@contextmanager
def isolated(warn: Callable[[str], None]) -> Iterator[None]:
    """Runs a plugin's code, and warns of what it changed, which is changed back.

    A ``KeyboardInterrupt`` that the code raises itself comes out as a ``RuntimeError``, so that it stays that plugin's
    fault; only Ctrl-C ends the command. So does a call of ``os._exit``, which would end it without a word. Who handles
    Ctrl-C is put back too, and the ``Surroundings``.
    """
    try:
        with guarded() as changed, _only_true_interrupts():
            yield
    finally:
        for what in changed:
            warn(f"it changes {what} while it is imported, which was changed back")


@contextmanager
def guarded() -> Iterator[list[str]]:
    """Runs a plugin's code: what it changes of the ``Surroundings`` is put back and listed, ``os._exit`` is refused."""
    with unchanged() as changed, _no_exit():
        yield changed


@contextmanager
def _only_true_interrupts() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        assert callable(before)
        before(number, frame)

    # Only the main thread gets the signal, and only it may say who handles it.
    watched = callable(before) and threading.current_thread() is threading.main_thread()
    if watched:
        signal.signal(signal.SIGINT, handle)
    try:
        yield
    except KeyboardInterrupt as error:
        if pressed:
            raise
        raise RuntimeError("it raised KeyboardInterrupt, as if by Ctrl-C").with_traceback(error.__traceback__) from None
    finally:
        if watched:
            signal.signal(signal.SIGINT, before)


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


@contextmanager
def _no_exit() -> Iterator[None]:
    """``os._exit`` raises a ``RuntimeError``; in a process that was forked meanwhile it ends that process, and who kept
    it can use it afterwards."""
    end, process, guarded = os._exit, os.getpid(), True

    def refuse(status: int) -> NoReturn:
        if not guarded or os.getpid() != process:
            end(status)
        raise RuntimeError(f"it called os._exit({status}), which would have ended the command")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        guarded = False
        os._exit = end


class _Setting(NamedTuple):
    """A setting of the process: whose it is, how it is read and put back, and the value that it starts with."""

    what: str
    module: str | None
    read: Callable[[], Any]
    put: Callable[[Any], object]
    start: Any = None

    @property
    def there(self) -> bool:
        """True if the module of the setting is imported, and to its end."""
        last = {"torch": "inference_mode", "numpy": "geterr"}
        return self.module is None or hasattr(sys.modules.get(self.module), last[self.module])


@dataclass(frozen=True)
class Surroundings:
    """The settings of the process that ``SETTINGS`` lists.

    ``sys.path``, environment variables, threads, filters of single warnings and modes that see torch's functions are
    not looked at: libraries set them on purpose, or a plugin that leaves them behind needs an environment of its own.
    """

    values: dict[str, Any]

    @classmethod
    def now(cls) -> Surroundings:
        """The state as it is."""
        return cls({each.what: each.read() for each in SETTINGS if each.there})

    def put_back(self) -> list[str]:
        """Put everything back as it was, and say what had changed, such as "torch's default dtype"."""
        changed = []
        for each in SETTINGS:
            # What was not imported had the state that it starts with.
            if each.there and each.read() != (before := self.values.get(each.what, each.start)):
                each.put(before)
                changed.append(each.what)
        return changed


def _folder() -> str | None:
    with suppress(FileNotFoundError):
        return os.getcwd()
    return None


def _catching_all() -> tuple[Any, ...]:
    """The filters for every warning, whatever its text, its category and its module."""
    return tuple(
        each for each in warnings.filters if each[1] is None and each[2] is Warning and each[3] is None and each[4] == 0
    )


def _catch_again(before: tuple[Any, ...]) -> None:
    added = [each for each in _catching_all() if each not in before]
    warnings.filters[:] = [each for each in warnings.filters if each not in added]  # type: ignore[index]


def _of(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported by the time of the call."""
    return lambda *given: getattr(sys.modules[module], name)(*given)


def _device() -> Any:
    import torch

    device = torch.get_default_device()
    return None if device.type == "cpu" else device


def _put_device(before: Any) -> None:
    import torch

    torch.set_default_device(before)
    if _device() != before:  # a context of a device was left open: it is closed
        torch.get_default_device().__exit__(None, None, None)
        torch.set_default_device(before)


def _dtype() -> str:
    import torch

    return str(torch.get_default_dtype()).removeprefix("torch.")


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


def _put_errors(before: dict[str, Any]) -> None:
    import numpy as np

    np.seterr(**before)


def _torch(what: str, read: str, put: str, start: Any) -> _Setting:
    return _Setting(f"torch's {what}", "torch", _of("torch", read), _of("torch", put), start)


_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}

SETTINGS = (
    _Setting("the working folder", None, _folder, lambda before: os.chdir(before or os.curdir)),
    _Setting(
        "the locale",
        None,
        lambda: locale.setlocale(locale.LC_ALL),
        lambda before: locale.setlocale(locale.LC_ALL, before),
    ),
    _Setting("how all warnings are treated", None, _catching_all, _catch_again),
    _Setting("numpy's handling of floating-point errors", "numpy", _of("numpy", "geterr"), _put_errors, _ERRORS),
    _Setting("torch's default device", "torch", _device, _put_device),
    _Setting("torch's default dtype", "torch", _dtype, _put_dtype, "float32"),
    _torch(
        "precision of products of matrices", "get_float32_matmul_precision", "set_float32_matmul_precision", "highest"
    ),
    _torch(
        "choice of deterministic algorithms",
        "are_deterministic_algorithms_enabled",
        "use_deterministic_algorithms",
        False,
    ),
    # It takes the gradient mode with it, and is put back first.
    _Setting("torch's inference mode", "torch", _of("torch", "is_inference_mode_enabled"), _put_inference, False),
    _torch("gradient mode", "is_grad_enabled", "set_grad_enabled", True),
)


@contextmanager
def unchanged() -> Iterator[list[str]]:
    """Runs code, puts its surroundings back, and fills the list with what it had changed."""
    before = Surroundings.now()
    changed: list[str] = []
    try:
        yield changed
    finally:
        changed += before.put_back()


HEAVY = frozenset(
    {
        "accelerate",
        "cv2",
        "diffusers",
        "jax",
        "matplotlib",
        "numpy",
        "pandas",
        "PIL",
        "pyarrow",
        "pydantic",
        "scipy",
        "skdim",
        "sklearn",
        "tensorflow",
        "torch",
        "torchdiffeq",
        "torchvision",
        "transformers",
        # Core's own modules that import one of these.
        "scorefold.config",
        "scorefold.data",
        "scorefold.interfaces",
        "scorefold_toolkit.distributions",
        "scorefold.results",
        "scorefold_toolkit.training",
    }
)


@dataclass(frozen=True)
class HeavyImport:
    """A heavy module that a plugin's own code imported while registering, and the line that did."""

    module: str
    file: str
    line: int

    @property
    def what(self) -> str:
        return f"it imports {self.module} while registering, which slows every command"

    @property
    def at(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def fix(self) -> str:
        return f"let plugin.py hold strings only, and import {self.module} where it is used"

    def __str__(self) -> str:
        return f"{self.what}, at {self.at}; {self.fix}"


@contextmanager
def watch_imports(package: str) -> Iterator[list[HeavyImport]]:
    """Yields a list that fills with the heavy imports of a package's code, one for each line.

    Import statements are watched by wrapping ``__import__``, not by a finder, because a finder is not asked for what
    another plugin has imported already.
    """
    found: dict[tuple[str, int], HeavyImport] = {}
    reports: list[HeavyImport] = []
    thread, original = threading.get_ident(), builtins.__import__

    def watching(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level == 0 and threading.get_ident() == thread:
            heavy = _heavy(name, fromlist or ())
            frame = _frame_in(package, sys._getframe(1)) if heavy else None
            if heavy and frame is not None:
                place = (frame.f_code.co_filename, frame.f_lineno)
                if place not in found:
                    found[place] = HeavyImport(heavy, *place)
                    reports.append(found[place])
        return original(name, globals, locals, fromlist or (), level)

    builtins.__import__ = watching
    try:
        yield reports
    finally:
        builtins.__import__ = original


def _heavy(name: str, fromlist: Sequence[str]) -> str | None:
    parts = name.split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))] + [f"{name}.{item}" for item in fromlist]
    return next((item for item in names if item in HEAVY), None)


def _frame_in(package: str, frame: FrameType | None) -> FrameType | None:
    """The innermost frame at or above ``frame`` whose module belongs to the package."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            return frame
        frame = frame.f_back
    return None
