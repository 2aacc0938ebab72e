"""A linear physics of deepinv as an operator."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_toolkit.libraries import library
from scorefold_toolkit.operators.base import LinearOperator, least_squares

EXTRA = "scorefold-toolkit[deepinv]"

_ADJOINT = 1e-4


class Physics(LinearOperator):
    """``physics.A`` with ``physics.A_adjoint``, in float64 where the physics knows it, else in float32, without noise.

    The pseudo-inverse is by ``least_squares``. Raises ``ConfigError`` for what is no linear physics, for one that does
    not take events of ``in_shape`` or gives anything but real tensors, and for an adjoint that is none.
    """

    def __init__(self, physics: Any, in_shape: Sequence[int]) -> None:
        name = type(physics).__name__
        if not (hasattr(physics, "A") and hasattr(physics, "A_adjoint")):
            raise ConfigError(
                f"{name} has no A and A_adjoint: expected a linear physics of deepinv",
                hint="such as deepinv.physics.Inpainting; nonlinear ones have no adjoint",
            )
        super().__init__(in_shape, ())
        self.physics = physics
        x = torch.randn(1, *in_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for self.dtype in (torch.float64, torch.float32):  # not every physics knows float64
            try:
                y = self._given(physics.A, x)
                back = self._given(physics.A_adjoint, y) if isinstance(y, Tensor) and not y.is_complex() else None
                break
            except Exception as error:
                fault = error
        else:
            raise ConfigError(f"deepinv's {name} does not take events of shape {tuple(in_shape)}: {fault}") from fault
        if back is None:
            raise ConfigError(f"deepinv's {name} gives {_kind(y)}; expected a real tensor")
        self.out_shape = tuple(y.shape[1:])
        size = float(y.double().square().sum())
        off = abs(float((x * back).sum()) - size) / max(1e-300, size)
        if not off < _ADJOINT:
            raise ConfigError(
                f"A_adjoint of deepinv's {name} is no adjoint of its A: <x, A^T A x> and |A x|^2 differ by {off:.2g}",
                hint="for Tomography adjoint_via_backprop: true gives the exact one",
            )

    def _given(self, function: Callable[[Tensor], Any], x: Tensor) -> Any:
        """Output of a method of the physics, in its dtype, on the device of x."""
        self.physics.to(x.device, self.dtype)
        return function(x.to(self.dtype))

    def _apply(self, x: Tensor) -> Tensor:
        found: Tensor = self._given(self.physics.A, x)
        return found.to(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        found: Tensor = self._given(self.physics.A_adjoint, y)
        return found.to(y)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return least_squares(self, y)


def build_physics(name: str, options: Mapping[str, Any], seed: int, in_shape: Sequence[int]) -> Physics:
    """``deepinv.physics.NAME(**options)`` on events of ``in_shape``.

    Sizes that the class asks for and ``options`` leave out (img_size, channels, img_width) are those of the events, and
    what it draws follows ``seed``. Raises ``ConfigError`` without deepinv, for a name that it does not have, and for
    options that do not fit.
    """
    with library("the operator deepinv", EXTRA):
        from deepinv import physics
    known = [key for key, value in vars(physics).items() if inspect.isclass(value) and hasattr(value, "A_adjoint")]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
        raise ConfigError(
            f"deepinv has no linear physics {name!r}",
            hint=f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(sorted(known))}",
        )
    made = getattr(physics, name)
    taken = inspect.signature(made.__init__).parameters
    sizes: dict[str, Any] = {"img_size": tuple(in_shape), "channels": in_shape[0], "img_width": in_shape[-1]}
    sizes["rng"] = torch.Generator().manual_seed(seed)
    given = {key: value for key, value in sizes.items() if key in taken} | dict(options)
    try:
        built = made(**given)
    except Exception as error:
        raise ConfigError(
            f"deepinv's {name} does not take {', '.join(given) or 'no options'}: {error}",
            hint=f"its options are {', '.join(key for key in taken if key not in ('self', 'kwargs', 'device'))}",
        ) from error
    return Physics(built, in_shape)


def _kind(y: Any) -> str:
    return "complex numbers" if isinstance(y, Tensor) else f"a {type(y).__name__}"
