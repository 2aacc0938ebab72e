"""The state of the process that results depend on: recorded before a plugin's code runs, and put back after it."""

from __future__ import annotations

import locale
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass(frozen=True)
class Setting:
    """A setting of the process: its name for messages, what reads it, and what sets it.

    ``harms`` is True of a value before and a value now that is to be put back; without it every other value is.
    """

    what: str
    read: Callable[[], Any]
    put: Callable[[Any], object]
    harms: Callable[[Any, Any], bool] = lambda before, now: bool(now != before)


@dataclass(frozen=True)
class Surroundings:
    """Everything of ``SETTINGS`` and, once they are imported, of ``NUMPY`` and ``TORCH``, with torch's modes.

    What is not imported yet has the state that it starts with. What is added to ``sys.path`` and to the environment
    stays, and so do filters of single warnings: libraries add them on purpose.
    """

    values: dict[str, Any]
    modes: dict[str, Any]

    @classmethod
    def now(cls) -> Surroundings:
        """The state as it is."""
        return cls({each.what: each.read() for each in _settings()}, _first_modes() if _has_torch() else {})

    def put_back(self) -> list[str]:
        """Put everything back as it was, and say what had changed, such as "torch's default dtype"."""
        # A profile that somebody left would hide the modes.
        changed = _put_back(SETTINGS, self.values)
        changed += _end_modes(self.modes, self.values.get(_DEVICE))
        if "numpy" in sys.modules:
            changed += _put_back(NUMPY, _NUMPY_STARTS | self.values)
        return changed + (_put_torch_back(_TORCH_STARTS | self.values) if _has_torch() else [])


def _put_back(settings: Iterable[Setting], before: dict[str, Any]) -> list[str]:
    changed = []
    for each in settings:
        if each.what in before and each.harms(before[each.what], each.read()):
            with suppress(Exception):  # a folder may be gone
                each.put(before[each.what])
            changed.append(each.what)
    return changed


def _settings() -> Iterator[Setting]:
    yield from SETTINGS
    if hasattr(sys.modules.get("numpy"), "geterr"):
        yield from NUMPY
    if _has_torch():
        yield from TORCH


def _folder() -> str | None:
    with suppress(FileNotFoundError):
        return os.getcwd()
    return None


def _filters() -> tuple[Any, ...]:
    """The filters for every warning, whatever its text, its category and its module, and for all errors of a sort."""
    return tuple(
        each
        for each in warnings.filters
        if each[1] is None and each[3] is None and each[4] == 0 and (each[2] is Warning or each[0] == "error")
    )


def _remove_filters(before: tuple[Any, ...]) -> None:
    added = [each for each in _filters() if each not in before]
    warnings.filters[:] = [each for each in warnings.filters if each not in added]  # type: ignore[index]


def _mode_of_files() -> int:
    os.umask(mode := os.umask(0o77))
    return mode


def _temporary() -> str | None:
    return getattr(sys.modules.get("tempfile"), "tempdir", None)


def _set_temporary(folder: str | None) -> None:
    sys.modules["tempfile"].tempdir = folder  # type: ignore[attr-defined]


_NAMES = ("SIGINT", "SIGTERM", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGHUP")
_SIGNALS = tuple(int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name))


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _set_handlers(before: dict[int, Any]) -> None:
    for number, now in _handlers().items():
        if now is not before[number] and before[number] is not None:
            signal.signal(number, before[number])


def _others(before: dict[int, Any], now: dict[int, Any]) -> bool:
    """True if a handler is another one, in the thread that may set it again."""
    own = threading.current_thread() is threading.main_thread()
    return own and any(now[number] is not one for number, one in before.items() if one is not None)


def _timer() -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0] if hasattr(signal, "getitimer") else 0.0


def _variables() -> dict[str, str]:
    return dict(os.environ)


def _taken(before: dict[str, str], now: dict[str, str]) -> bool:
    """True if a variable has gone or has another value, or one of ours has come."""
    added = any(name.startswith("SCOREFOLD_") for name in now.keys() - before.keys())
    return added or any(now.get(name) != value for name, value in before.items())


def _set_variables(before: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("SCOREFOLD_") and name not in before]:
        del os.environ[name]
    os.environ.update(before)


def _list(what: str, name: str) -> Setting:
    """A list of ``sys``: what is taken out of it comes back, and what is added stays."""

    def put(before: list[Any]) -> None:
        items = getattr(sys, name)
        items[:] = [*before, *(each for each in items if each not in before)]

    def gone(before: list[Any], now: list[Any]) -> bool:
        return any(each not in now for each in before)

    return Setting(what, lambda: list(getattr(sys, name)), put, gone)


def _stream(what: str, name: str) -> Setting:
    return Setting(what, lambda: getattr(sys, name), lambda before: setattr(sys, name, before), _is_other)


def _is_other(before: Any, now: Any) -> bool:
    return now is not before


SETTINGS = (
    Setting("who traces Python", sys.gettrace, sys.settrace, _is_other),
    Setting("who profiles Python", sys.getprofile, sys.setprofile, _is_other),
    Setting(
        "the timer", _timer, lambda before: signal.setitimer(signal.ITIMER_REAL, 0), lambda old, new: new and not old
    ),
    Setting("who handles signals", _handlers, _set_handlers, _others),
    Setting("the working folder", _folder, os.chdir, lambda before, now: before is not None and now != before),
    Setting("the locale", lambda: locale.setlocale(locale.LC_ALL), lambda old: locale.setlocale(locale.LC_ALL, old)),
    Setting("how all warnings are treated", _filters, _remove_filters),
    Setting("how deep calls may go", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("the rights of new files", _mode_of_files, os.umask),
    Setting("where temporary files go", _temporary, _set_temporary, lambda old, new: old is not None and new != old),
    Setting("environment variables", _variables, _set_variables, _taken),
    _stream("standard output", "stdout"),
    _stream("standard error", "stderr"),
    _list("where modules are found", "path"),
    _list("what finds modules", "meta_path"),
    _list("what reads folders of modules", "path_hooks"),
)


def _numpy() -> Any:
    return sys.modules["numpy"]


NUMPY = (
    Setting(
        "numpy's handling of floating-point errors",
        lambda: dict(_numpy().geterr()),
        lambda before: _numpy().seterr(**before),
    ),
)
_NUMPY_STARTS = {NUMPY[0].what: {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}}


def _torch() -> Any:
    return sys.modules["torch"]


def _has_torch() -> bool:
    """True if torch is imported, and to its end."""
    return hasattr(sys.modules.get("torch"), "inference_mode")


def _device() -> Any:
    device = _torch().get_default_device()
    return None if device.type == "cpu" else device


_DEVICE, _GRADIENTS, _INFERENCE = "torch's default device", "torch's gradient mode", "torch's inference mode"
_held: list[Any] = []
"""Guards that put a mode of torch back for as long as they live, and modes that were ended."""


def _set_inference(before: bool) -> None:
    guard = _torch().inference_mode(before)
    guard.__enter__()
    _held.append(guard)


TORCH = (
    Setting(_DEVICE, _device, lambda before: _torch().set_default_device(before)),
    Setting(
        "torch's default dtype",
        lambda: _torch().get_default_dtype(),
        lambda before: _torch().set_default_dtype(before),
    ),
    Setting(
        "torch's precision of products of matrices",
        lambda: _torch().get_float32_matmul_precision(),
        lambda before: _torch().set_float32_matmul_precision(before),
    ),
    Setting(
        "torch's choice of deterministic algorithms",
        lambda: _torch().are_deterministic_algorithms_enabled(),
        lambda before: _torch().use_deterministic_algorithms(before),
    ),
    Setting(
        "torch's number of threads",
        lambda: _torch().get_num_threads(),
        lambda before: _torch().set_num_threads(before),
    ),
    Setting(
        "torch's watch for anomalies",
        lambda: _torch().is_anomaly_enabled(),
        lambda before: _torch().autograd.set_detect_anomaly(before),
    ),
    Setting(
        "torch's use of oneDNN",
        lambda: _torch().backends.mkldnn.enabled,
        lambda before: setattr(_torch().backends.mkldnn, "enabled", before),
    ),
    Setting(_INFERENCE, lambda: _torch().is_inference_mode_enabled(), _set_inference),
    Setting(_GRADIENTS, lambda: _torch().is_grad_enabled(), lambda before: _torch().set_grad_enabled(before)),
)
_TORCH_STARTS = {
    _DEVICE: None,
    "torch's precision of products of matrices": "highest",
    "torch's choice of deterministic algorithms": False,
    "torch's watch for anomalies": False,
    "torch's use of oneDNN": True,
    _INFERENCE: False,
    _GRADIENTS: True,
}
"""The number of threads is the machine's, and not here."""


def _put_torch_back(before: dict[str, Any]) -> list[str]:
    if "torch's default dtype" not in before:
        before["torch's default dtype"] = _torch().float32
    changed = _put_back(TORCH, before)
    # Inference takes gradients with it.
    return [each for each in changed if each != _GRADIENTS or _INFERENCE not in changed]


_SEES = {"__torch_function__": "functions", "__torch_dispatch__": "operations"}


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
