"""Failures of a check: the found and the expected value, or the gap and the tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class ViolationError(AssertionError):
    """A check does not hold; the message says what was measured and what was allowed."""


class NotApplicableError(Exception):
    """A check says nothing about this component; the message says why."""


def require(holds: bool, found: str, expected: str) -> None:
    """Raises ``ViolationError`` with what was found and what was expected unless something holds."""
    if not holds:
        raise ViolationError(f"{found}; expected {expected}")


def require_within(what: str, gap: float, tolerance: float) -> str:
    """The gap as text; raises ``ViolationError`` unless it is a number up to the tolerance."""
    text = f"{what}: gap {gap:.2e}, tolerance {tolerance:.0e}"
    if not gap <= tolerance:
        raise ViolationError(text)
    return text


def require_shape(what: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raises ``ViolationError`` unless a value is a tensor of a shape."""
    require(isinstance(value, Tensor), f"{what} is a {type(value).__name__}", "a tensor")
    require(tuple(value.shape) == tuple(shape), f"{what} has shape {tuple(value.shape)}", str(tuple(shape)))


def require_close(what: str, got: Tensor, expected: Tensor, tolerance: float) -> str:
    """The gap max |got - expected| / (1 + max |expected|) as text; raises ``ViolationError`` above the tolerance."""
    require_shape(what, got, tuple(expected.shape))
    if expected.numel() == 0:
        return f"{what}: empty"
    got, expected = got.detach().double(), expected.detach().double()
    return require_within(what, float((got - expected).abs().max() / (1 + expected.abs().max())), tolerance)


def require_same(what: str, got: Tensor, expected: Tensor) -> None:
    """Raises ``ViolationError`` with the gap unless two tensors are equal to the last bit (NaN to NaN)."""
    require_shape(what, got, tuple(expected.shape))
    if got.dtype == expected.dtype and bool(((got == expected) | (got.isnan() & expected.isnan())).all()):
        return
    gap = float((got.double() - expected.double()).abs().nan_to_num(nan=float("inf")).max())
    raise ViolationError(f"{what} is {got.dtype} for {expected.dtype}: gap {gap:.2e}, tolerance 0")


def require_refusal(what: str, errors: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any]) -> str:
    """The message with which a call was refused; raises ``ViolationError`` where it wasn't, or by another error."""
    names = " or ".join(error.__name__ for error in (errors if isinstance(errors, tuple) else (errors,)))
    try:
        call()
    except errors as error:
        return str(error).partition("\n")[0]
    except (Exception, SystemExit) as error:
        raise ViolationError(f"{what} ended in {type(error).__name__}: {error}; expected {names}") from error
    raise ViolationError(f"{what} was accepted; expected {names}")
