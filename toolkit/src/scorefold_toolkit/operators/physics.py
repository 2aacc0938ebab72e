"""Linear physics: operators of deepinv, and parallel-beam projections (Radon 1917) as a sparse matrix."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
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

    Sizes that the class asks for and ``options`` leave out (img_size, channels, img_width) come from the events. Random
    numbers follow ``seed``. Raises ``ConfigError`` without deepinv, for a name that it does not have, and for
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


class Radon(LinearOperator):
    """Line integrals of every channel of an image (C, H, W) along parallel rays: (C, angles, bins).

    At ``angles`` (n,) in degrees, in [0, 180) for no repeats, the detector lies along (cos, sin) in the plane with x
    to the right and y up, its bins one pixel wide and centred on the image; bin s is the mean over its strip of the
    integrals of the image across it, in units of the data times pixels. Pixels are squares of constant value, whose
    share of a strip is exact, so the sum over bins is the sum over pixels at every angle where ``bins`` reach over the
    image (the default).

    The pseudo-inverse is by ``least_squares``; noise in directions of small singular values swamps it, as it does any
    pseudo-inverse.

    >>> sums = Radon(torch.tensor([0.0, 90.0]), (1, 4, 4))
    >>> sums(torch.ones(1, 1, 4, 4)).shape
    torch.Size([1, 1, 2, 6])
    """

    def __init__(self, angles: Tensor, in_shape: Sequence[int], bins: int | None = None) -> None:
        channels, height, width = in_shape
        self.bins = bins or math.ceil(math.hypot(height, width))
        super().__init__(in_shape, (channels, len(angles), self.bins))
        self.angles = angles.double()
        self.matrix = strip_matrix(self.angles, height, width, self.bins)

    @cached_property
    def _moved(self) -> dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]]:
        return {}

    def _matrices(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """A and A^T where ``like`` is; kept, for a sparse matrix costs more to move than to apply."""
        place = (like.device, like.dtype)
        if place not in self._moved:
            self._moved[place] = (self.matrix.to(like), self.matrix.t().coalesce().to(like))
        return self._moved[place]

    def _apply(self, x: Tensor) -> Tensor:
        return _product(self._matrices(x)[0], x).reshape(len(x), *self.out_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _product(self._matrices(y)[1], y).reshape(len(y), *self.in_shape)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return least_squares(self, y)

    def out_range(self, data_range: float) -> float:
        return data_range * math.hypot(*self.in_shape[1:])  # the longest ray


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """A sparse (M, N) matrix times every channel of x (B, C, ...) of N numbers: (B C, M)."""
    product: Tensor = torch.sparse.mm(matrix, x.flatten(2).flatten(0, 1).T)
    return product.T


def strip_matrix(angles: Tensor, height: int, width: int, bins: int) -> Tensor:
    """The area that each pixel (H W) has in each strip (angles x bins), sparse (A bins, H W) in float64."""
    down, right = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = right.flatten().double() - (width - 1) / 2, (height - 1) / 2 - down.flatten().double()
    entries, values = [], []
    for number, angle in enumerate(torch.deg2rad(angles.double()).tolist()):
        cos, sin = math.cos(angle), math.sin(angle)
        centre = x * cos + y * sin + bins / 2  # in bins from the detector's first edge
        reach = (abs(cos) + abs(sin)) / 2
        first = (centre - reach).floor()
        for strip in (first, first + 1, first + 2):
            area = _shadow(strip + 1 - centre, cos, sin) - _shadow(strip - centre, cos, sin)
            held = (area > 0) & (strip >= 0) & (strip < bins)
            pixel = held.nonzero().squeeze(1)
            entries.append(torch.stack([number * bins + strip[held].long(), pixel]))
            values.append(area[held])
    size = (len(angles) * bins, height * width)
    places = torch.cat(entries, 1) if entries else torch.zeros(2, 0, dtype=torch.long)
    areas = torch.cat(values) if values else torch.zeros(0, dtype=torch.float64)
    return torch.sparse_coo_tensor(places, areas, size, check_invariants=True).coalesce()


def _shadow(u: Tensor, cos: float, sin: float) -> Tensor:
    """The share of a unit square's area whose projection on (cos, sin) lies below u, from its centre.

    The projection's density is the convolution of two boxes as wide as |cos| and |sin|.
    """
    wide, narrow = max(abs(cos), abs(sin)), min(abs(cos), abs(sin))
    if narrow < 1e-7:
        return (u / wide + 0.5).clamp(0, 1)
    ends = [(wide + narrow) / 2, (wide - narrow) / 2, (narrow - wide) / 2, -(wide + narrow) / 2]
    ramp = [(u + end).clamp_min(0).square() / 2 for end in ends]
    return ((ramp[0] - ramp[1] - ramp[2] + ramp[3]) / (wide * narrow)).clamp(0, 1)
