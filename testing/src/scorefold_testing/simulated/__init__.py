"""A simulated accelerator: device errors found on a machine without one, and synchronisations counted by line.

Tensors on ``simulated`` keep their numbers in CPU memory, and everything else about them is an accelerator's: mixing
them with CPU tensors is an error, as on CUDA, and so are ``numpy()`` and a generator of another device. Answers are the
CPU's to the bit, except where torch picks a kernel by device (attention in place of the CPU's fused form).

What it can't show: memory, speed, kernels that CUDA lacks or rounds differently, asynchronous errors and autocast.
``torch.save`` does not take its tensors, and TorchScript models can't be moved there.

>>> import torch
>>> from scorefold_testing.simulated import activate, counted
>>> activate()                                                                            # doctest: +SKIP
>>> with counted() as counts:                                                             # doctest: +SKIP
...     torch.ones(3, device="simulated").sum().item()
3.0
>>> counts.operators, counts.waits                                                        # doctest: +SKIP
(3, 1)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, wraps
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from scorefold_testing.contract import ViolationError
from scorefold_testing.simulated.backend import NAME, register
from scorefold_testing.simulated.counts import Counts, counted
from scorefold_testing.simulated.randomness import replace_generators

__all__ = ["NAME", "Counts", "activate", "compared", "counted", "possible", "same_bits"]

DEVICES = 2
"""The number of devices: ``simulated:0`` and ``simulated:1``."""


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equality of two CPU tensors in shape, dtype and every bit, so that NaN equals NaN and -0 differs from 0."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (each.detach().contiguous().flatten().view(torch.uint8) for each in (one, other))
    return torch.equal(first, second)


def compared(found: Mapping[str, Tensor], on_cpu: Mapping[str, Tensor], counts: Counts) -> str:
    """The lines that wait for the device, in one text.

    Raises ``ViolationError`` where answers of the device, by name, differ from the CPU's in any bit.
    """
    differ = [name for name, value in on_cpu.items() if name not in found or not same_bits(value, found[name])]
    if differ:
        raise ViolationError(f"{', '.join(differ)} on the device; expected the CPU's numbers to the bit")
    return "; ".join(["the CPU's numbers", *counts.lines()])


def possible() -> bool:
    """Return False for releases of torch before 2.10, which let no device be defined in Python."""
    return hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend")


@cache
def activate() -> list[torch.library.Library]:
    """The device for the rest of this process: torch can't take one back.

    ``torch.Generator`` and functions that draw are replaced with forms that compare devices. Raises ``RuntimeError``
    where this torch has no devices from Python.
    """
    if not possible():
        raise RuntimeError(f"torch {torch.__version__} can't define a device in Python; expected 2.10 or later")
    torch.utils.backend_registration._setup_privateuseone_for_python_backend(NAME, _module())
    replace_generators()
    _differentiate_here()
    return register()


def _differentiate_here() -> None:
    """Derivatives in the thread that requires them: autograd's own has no line of ours above it, may outlive the
    interpreter, and serves one device. ``torch.inference_mode(False)`` turns autograd's threads on again."""
    run = torch.autograd._engine_run_backward  # type: ignore[attr-defined]

    @wraps(run)
    def run_here(*args: Any, **options: Any) -> Any:
        with torch.autograd.set_multithreading_enabled(False):
            return run(*args, **options)

    torch.autograd._engine_run_backward = run_here  # type: ignore[attr-defined]


def _module() -> ModuleType:
    """``torch.simulated``, with what ``torch.cuda`` has of the functions that are called by any device's name."""
    module, current = ModuleType(f"torch.{NAME}"), [0]

    def set_device(device: Any) -> None:
        current[0] = torch.device(device).index or 0 if not isinstance(device, int) else device

    def set_rng_state(state: Tensor, device: Any = NAME) -> None:
        torch.set_rng_state(state)

    def manual_seed(seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    functions: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: DEVICES,
        "current_device": lambda: current[0],
        "set_device": set_device,
        "get_device_name": lambda device=NAME: "simulated accelerator",
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "manual_seed": manual_seed,
        "manual_seed_all": lambda seed: None,  # torch.manual_seed has seeded the CPU's generator, which draws here too
        "get_rng_state": lambda device=NAME: torch.get_rng_state(),
        "set_rng_state": set_rng_state,
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16],
    }
    for name, function in functions.items():
        setattr(module, name, function)
    return module
