"""Generators of the simulated device: they draw as the CPU's do, and are refused where another device's are."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

_Plain = torch.Generator
_FUNCTIONS = ("bernoulli", "multinomial", "normal", "poisson", "rand", "randint", "randn", "randperm")
_METHODS = ("bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_", "uniform_")
_devices: dict[int, torch.device] = {}
"""Of generators of the simulated device, by their address: operators get a generator without its Python class."""


class _AnyGenerator(type(_Plain)):  # type: ignore[misc]
    """Generators from before, and torch's own, are of the class too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Plain)


class Generator(_Plain, metaclass=_AnyGenerator):  # type: ignore[misc, valid-type, unused-ignore]
    """``torch.Generator`` of any device: of the simulated one, a generator of the CPU that says so."""

    def __new__(cls, device: torch.device | str = "cpu") -> Generator:
        place = torch.device(device)
        simulated = place.type not in ("cpu", "cuda", "mps", "xpu")
        made: Generator = super().__new__(cls, device="cpu" if simulated else device)  # type: ignore[call-arg]
        if simulated:
            address = made._cdata  # type: ignore[attr-defined, unused-ignore]
            _devices[address] = torch.device(place.type, place.index or 0)
            weakref.finalize(made, _devices.pop, address, None)
        return made

    def __init__(self, device: torch.device | str = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:  # type: ignore[override, unused-ignore]
        """The device of its draws."""
        return generator_device(self)


def generator_device(generator: Any) -> torch.device:
    """The device of a generator."""
    found: torch.device = _devices.get(generator._cdata) or _Plain.device.__get__(generator)
    return found


def refuse_other_generator(generator: Any, device: str) -> None:
    """Raises ``RuntimeError`` where a generator is of another device than what it draws."""
    expected, found = torch.device(device), generator_device(generator)
    if (found.type, found.index or 0) != (expected.type, expected.index or 0):
        raise RuntimeError(f"Expected a '{expected}' device type for generator but found '{found}'")


def replace_generators() -> None:
    """``torch.Generator`` and the functions that draw, for the rest of this process."""
    torch.Generator = Generator  # type: ignore[misc, assignment]
    for place, names in ((torch, _FUNCTIONS), (Tensor, (*_METHODS, "bernoulli", "multinomial"))):
        for name in names:
            setattr(place, name, _checked(getattr(place, name)))


def _checked(draws: Callable[..., Any]) -> Callable[..., Any]:
    """A function that draws; on the CPU it never reaches the kernel of the simulated device, so it is compared here."""

    @wraps(draws)
    def call(*args: Any, **options: Any) -> Any:
        drawn = draws(*args, **options)
        generator = options.get("generator")
        if generator is not None and isinstance(drawn, Tensor) and drawn.device.type == "cpu":
            refuse_other_generator(generator, "cpu")
        return drawn

    return call
