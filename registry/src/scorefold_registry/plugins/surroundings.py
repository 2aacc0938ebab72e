"""The state of the process that results depend on: recorded before other people's code runs, put back after it."""

from __future__ import annotations

import locale
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

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
    modes: dict[str, int]

    @classmethod
    def now(cls) -> Surroundings:
        """The state as it is."""
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        return cls(
            folder=_folder(),
            locale=locale.setlocale(locale.LC_ALL),
            filters=_catching_all(),
            numpy=None if not hasattr(numpy, "geterr") else dict(numpy.geterr()),  # type: ignore[union-attr]
            torch=None if not hasattr(torch, "inference_mode") else _torch_state(),
            modes=_modes(),
        )

    def put_back(self) -> list[str]:
        """Put everything back as it was, and say what had changed, such as "torch's default dtype"."""
        changed = _end_modes(self.modes)
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


def _torch_state() -> dict[str, Any]:
    import torch
    import torch.utils._device as devices

    return {
        "dtype": torch.get_default_dtype(),
        "device": devices.CURRENT_DEVICE,
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _torch_starts() -> dict[str, Any]:
    import torch

    state = {"dtype": torch.float32, "device": None, "gradients": True, "inference": False}
    return state | {"precision": "highest", "deterministic": False}


def _modes() -> dict[str, int]:
    """How many modes see torch's functions, apart from that of the default device, and its operations."""
    if not hasattr(sys.modules.get("torch"), "inference_mode"):
        return {"functions": 0, "operations": 0}
    import torch
    import torch.utils._device as devices

    functions = torch._C._len_torch_function_stack() - (devices.CURRENT_DEVICE is not None)
    return {"functions": functions, "operations": torch._C._len_torch_dispatch_stack()}


def _end_modes(before: dict[str, int]) -> list[str]:
    """End the modes above those of before, which would see whatever else is put back."""
    now = _modes()
    changed = [f"the modes that see torch's {name}" for name in now if now[name] > before[name]]
    if changed:
        import torch
        from torch import overrides
        from torch.utils import _python_dispatch as operations

        for _ in range(now["functions"] - before["functions"]):
            _held.append(overrides._pop_mode())
        # Before 2.8 torch gives a mode away without counting that, so it is taken twice and never let go.
        for place in reversed(range(before["operations"], now["operations"])):
            _held.extend((torch._C._get_dispatch_stack_at(place), operations._pop_mode()))
    return changed


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
