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
from typing import Any, NoReturn


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


_held: list[Any] = []
"""Guards that put a mode of torch back for as long as they live, and modes that were ended."""


@dataclass(frozen=True)
class Surroundings:
    """The working folder, the locale, filters of warnings that catch everything, numpy's handling of floating-point
    errors, and torch's default dtype and device, gradient and inference mode and function and dispatch modes.

    What is not imported yet has the state that it starts with. ``sys.path``, environment variables, threads and filters
    of single warnings are not looked at: libraries set them on purpose.
    """

    folder: str | None
    locale: str
    filters: tuple[Any, ...]
    numpy: dict[str, Any] | None
    torch: dict[str, Any] | None
    modes: dict[str, Any]

    @classmethod
    def now(cls) -> Surroundings:
        """The state as it is."""
        numpy = sys.modules.get("numpy")
        return cls(
            folder=_folder(),
            locale=locale.setlocale(locale.LC_ALL),
            filters=_catching_all(),
            numpy=None if not hasattr(numpy, "geterr") else dict(numpy.geterr()),  # type: ignore[union-attr]
            torch=_torch_state() if _has_torch() else None,
            modes=_first_modes() if _has_torch() else {},
        )

    def put_back(self) -> list[str]:
        """Put everything back as it was, and say what had changed, such as "torch's default dtype"."""
        changed = _end_modes(self.modes, (self.torch or {}).get("device"))
        now = Surroundings.now()
        if self.folder is not None and now.folder != self.folder:
            os.chdir(self.folder)
            changed.append("the working folder")
        if now.locale != self.locale:
            locale.setlocale(locale.LC_ALL, self.locale)
            changed.append("the locale")
        if now.filters != self.filters:
            added = [each for each in now.filters if each not in self.filters]
            warnings.filters[:] = [each for each in warnings.filters if each not in added]  # type: ignore[index]
            changed.append("how all warnings are treated")
        if now.numpy is not None and now.numpy != (self.numpy or _NUMPY_STARTS):
            import numpy as np

            np.seterr(**(self.numpy or _NUMPY_STARTS))
            changed.append("numpy's handling of floating-point errors")
        if now.torch is not None:
            changed += _put_torch_back(self.torch or _torch_starts(), now.torch)
        return changed


_SEES = {"__torch_function__": "functions", "__torch_dispatch__": "operations"}
_NUMPY_STARTS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


@contextmanager
def unchanged() -> Iterator[list[str]]:
    """Runs code, puts its surroundings back, and fills the list with what it had changed."""
    before = Surroundings.now()
    changed: list[str] = []
    try:
        yield changed
    finally:
        changed += before.put_back()


def _folder() -> str | None:
    with suppress(FileNotFoundError):
        return os.getcwd()
    return None


def _catching_all() -> tuple[Any, ...]:
    """The filters for every warning, whatever its text, its category and its module."""
    return tuple(
        each for each in warnings.filters if each[1] is None and each[2] is Warning and each[3] is None and each[4] == 0
    )


def _has_torch() -> bool:
    """True if torch is imported, and to its end."""
    return hasattr(sys.modules.get("torch"), "inference_mode")


def _torch_state() -> dict[str, Any]:
    import torch

    device = torch.get_default_device()
    return {
        "dtype": torch.get_default_dtype(),
        "device": None if device.type == "cpu" else device,
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _torch_starts() -> dict[str, Any]:
    import torch

    state = {"dtype": torch.float32, "device": None, "gradients": True, "inference": False}
    return state | {"precision": "highest", "deterministic": False}


def _first_modes() -> dict[str, Any]:
    """The modes that see a function and an operation of torch first, by their methods; those that there are.

    They are found by the calls of these methods, so that no private name of torch is needed, and not while somebody
    profiles.
    """
    import torch

    found: dict[str, Any] = {}

    def look(frame: FrameType, event: str, argument: Any) -> None:
        method = frame.f_code.co_name
        if event == "call" and method in _SEES and method not in found:
            found[method] = frame.f_locals[frame.f_code.co_varnames[0]]

    if sys.getprofile() is None:
        sys.setprofile(look)
        try:
            with suppress(Exception):  # a mode may refuse any operation
                torch.zeros(())
        finally:
            sys.setprofile(None)
    return found


def _end_modes(before: dict[str, Any], device: Any) -> list[str]:
    """End the modes that were entered above those of before, the last one first, and say which; with the default device
    that was."""
    changed: list[str] = []
    if not _has_torch():
        return changed
    import torch

    for method, what in _SEES.items():
        last = before.get(method)
        while (mode := _first_modes().get(method)) is not None and mode is not before.get(method) and mode is not last:
            last = mode
            _held.extend((mode, mode))  # before 2.8 torch lets go of a mode once too often as it ends
            if of_device := isinstance(getattr(mode, "device", None), torch.device):
                mode.device.__exit__(None, None, None)
                torch.set_default_device(device)
            else:
                mode.__exit__(None, None, None)
            changed.append("torch's default device" if of_device else f"the modes that see torch's {what}")
    return list(dict.fromkeys(changed))


def _put_torch_back(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    import torch

    changed = []
    for name, put, text in (
        ("device", torch.set_default_device, "torch's default device"),
        ("dtype", torch.set_default_dtype, "torch's default dtype"),
        ("precision", torch.set_float32_matmul_precision, "torch's precision of products of matrices"),
        ("deterministic", torch.use_deterministic_algorithms, "torch's choice of deterministic algorithms"),
    ):
        if now[name] != before[name]:
            put(before[name])
            changed.append(text)
    if now["inference"] != before["inference"]:
        guard = torch.inference_mode(before["inference"])
        guard.__enter__()
        _held.append(guard)
        changed.append("torch's inference mode")
    if torch.is_grad_enabled() != before["gradients"]:
        torch.set_grad_enabled(before["gradients"])
        if now["inference"] == before["inference"]:
            changed.append("torch's gradient mode")
    return changed


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
