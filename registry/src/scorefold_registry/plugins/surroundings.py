"""The state of the process that results depend on: recorded before other people's code runs, put back after it."""

from __future__ import annotations

import locale
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from scorefold.errors import DataError, ScorefoldError

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
    }


def _torch_starts() -> dict[str, Any]:
    import torch

    return {"dtype": torch.float32, "device": None, "gradients": True, "inference": False}


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
    if now["device"] != before["device"]:
        torch.set_default_device(before["device"])
        changed.append("torch's default device")
    if now["dtype"] != before["dtype"]:
        torch.set_default_dtype(before["dtype"])
        changed.append("torch's default dtype")
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


class Marks:
    """What stages' values hold: the events of data that are in memory, and the weights of models."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._sums = {name: _sums(value) for name, value in values.items()}

    def changed(self) -> list[str]:
        """The stages whose values were changed in place since."""
        return [name for name, value in self._values.items() if _sums(value) != self._sums[name]]


def _sums(value: Any) -> list[tuple[Any, ...]]:
    """The shape and the sum of bits of each tensor of a value. One copy from a device has all sums."""
    import torch

    found = [(tuple(tensor.shape), _sum(tensor)) for tensor in _tensors(value)]
    sums = torch.stack([each.to(found[0][1].device) for _, each in found]).tolist() if found else []
    return [(shape, each) for (shape, _), each in zip(found, sums, strict=True)]


def _tensors(value: Any) -> Iterator[Any]:
    from torch import nn

    from scorefold.interfaces import DataSource

    if isinstance(value, nn.Module):
        yield from value.parameters()
    elif isinstance(value, DataSource):
        for dataset, streamed in _splits(value):
            if not streamed:
                yield from (part for part in (dataset.x, dataset.label) if part is not None)


def _sum(tensor: Any) -> Any:
    import torch

    bits = tensor.detach().contiguous()
    bits = torch.view_as_real(bits) if bits.is_complex() else bits
    whole = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}[bits.element_size()]
    return bits.view(whole).sum(dtype=torch.int64)


def refuse_changed_files(stage: str, read: Mapping[str, Any], fingerprints: Mapping[str, str | None]) -> None:
    """Raises ``DataError`` where files changed while a stage read them: its result would be of neither.

    ``read`` are the values of stages by name, this one's own data among them, and ``fingerprints`` those of the data as
    their stages began. Data in memory were read then, and streamed ones are read all along.
    """
    for name, source in read.items():
        if name in fingerprints and (name == stage or _streams(source)) and source.fingerprint() != fingerprints[name]:
            raise DataError(
                f"the files of stage {name!r} changed while stage {stage!r} read them, so its result is of neither and "
                "is not kept",
                hint="run again when they stay as they are",
            )


def _streams(source: Any) -> bool:
    """Whether a source reads its files as its points are asked for."""
    return any(streamed for _, streamed in _splits(source))


def _splits(source: Any) -> Iterator[tuple[Any, bool]]:
    """The splits of a source that there are, and whether each is streamed."""
    from scorefold.data import StreamedDataset
    from scorefold.interfaces.data import SPLITS

    for split in SPLITS:
        with suppress(ScorefoldError):
            dataset = source.load(split)
            yield dataset, isinstance(dataset, StreamedDataset)
