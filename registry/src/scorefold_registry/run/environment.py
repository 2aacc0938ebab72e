"""Device and software of a run."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import importlib_metadata

from scorefold_registry.plugins.records import environments_of
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


def describe_environment(plugins: list[Any], device: str, seed: int, processes: int = 1) -> dict[str, Any]:
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
        "environments": {each.spec.name: each.facts() for each in environments_of(plugins) if each.description},
        "command": sys.argv,
    }
