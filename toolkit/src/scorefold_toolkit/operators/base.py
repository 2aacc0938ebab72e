"""Operators on events: general maps, and linear maps with their adjoints."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from scorefold.errors import ConfigError, ShapeError

Shape = tuple[int, ...]
_TOLERANCE, _ITERATIONS = 1e-10, 1000


class Operator(ABC):
    """A map A from events of ``in_shape`` to events of ``out_shape``, applied to batches (B, *in_shape).

    Must: ``_apply``. May: ``at``, ``out_range``. Given: ``__call__``, which checks shapes and raises ``ShapeError``.

    >>> class Clip(Operator):
    ...     def _apply(self, x):
    ...         return x.clamp(0, 1)
    >>> Clip((2,), (2,))(torch.tensor([[-1.0, 0.5]]))
    tensor([[0.0000, 0.5000]])
    """

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        self.in_shape: Shape = tuple(in_shape)
        self.out_shape: Shape = tuple(out_shape)

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor:
        """A x, (B, *in_shape) to (B, *out_shape)."""

    def __call__(self, x: Tensor) -> Tensor:
        """A x for x (B, *in_shape): (B, *out_shape)."""
        return self._apply(self._checked(x, self.in_shape))

    def at(self, index: Tensor | None) -> Operator:
        """The operator that the points with these ``index`` (B,) go through: this one, where it is the same for all."""
        return self

    def out_range(self, data_range: float) -> float:
        """high - low of what comes out where events have ``data_range``, the peak of a PSNR: the same by default."""
        return data_range

    def _checked(self, value: Tensor, shape: Shape) -> Tensor:
        if tuple(value.shape[1:]) != shape:
            raise ShapeError(
                f"{type(self).__name__} was given a tensor of shape {tuple(value.shape)}; expected (B, "
                f"{', '.join(map(str, shape))})"
            )
        return value


class LinearOperator(Operator):
    """A linear map with its adjoint A^T and its pseudo-inverse A^+.

    Must: ``_apply``, ``_adjoint``, ``_pseudo_inverse``. Given: ``adjoint`` and ``pseudo_inverse``, which check shapes
    and raise ``ShapeError``.

    >>> from scorefold_toolkit.operators import Mask
    >>> hide = Mask(torch.tensor([1.0, 0.0]), (2,))
    >>> isinstance(hide, LinearOperator), hide.pseudo_inverse(hide(torch.tensor([[3.0, 5.0]])))
    (True, tensor([[3., 0.]]))
    """

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor:
        """A^T y, (B, *out_shape) to (B, *in_shape)."""

    @abstractmethod
    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        """The shortest x among those that bring A x closest to y: (B, *out_shape) to (B, *in_shape)."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y for y (B, *out_shape), so that <A x, y> = <x, A^T y>: (B, *in_shape)."""
        return self._adjoint(self._checked(y, self.out_shape))

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A^+ y for y (B, *out_shape): (B, *in_shape). Box means are replicated, grey becomes equal channels."""
        return self._pseudo_inverse(self._checked(y, self.out_shape))

    def at(self, index: Tensor | None) -> LinearOperator:
        """See ``Operator.at``; linear again."""
        return self


class Matrix(LinearOperator):
    """y = A x for a matrix A (M, D) and the D numbers of an event: (B, *in_shape) to (B, M).

    >>> Matrix(torch.tensor([[1.0, 1.0], [0.0, 2.0]]), (2,))(torch.tensor([[3.0, 4.0]]))
    tensor([[7., 8.]])
    """

    def __init__(self, matrix: Tensor, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, (len(matrix),))
        self.matrix = matrix.double()

    @cached_property
    def _inverse(self) -> Tensor:
        inverse: Tensor = torch.linalg.pinv(self.matrix)
        return inverse

    def _apply(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x).T

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.to(y)).reshape(-1, *self.in_shape)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return (y @ self._inverse.to(y).T).reshape(-1, *self.in_shape)


@runtime_checkable
class HasOperator(Protocol):
    """A data source whose condition is an event that went through ``operator``, with or without noise.

    >>> from types import SimpleNamespace
    >>> from scorefold_toolkit.operators import Mask
    >>> source: HasOperator = SimpleNamespace(operator=Mask(torch.tensor([1.0, 0.0]), (2,)))
    >>> source.operator.in_shape
    (2,)
    """

    operator: Operator


def as_linear(operator: Operator, who: str) -> LinearOperator:
    """An operator that has an adjoint, for ``who`` needs it. Raises ``ConfigError`` for one that has none."""
    if isinstance(operator, LinearOperator):
        return operator
    raise ConfigError(
        f"{who} needs the adjoint of a linear operator, and {type(operator).__name__} is not linear",
        hint="choose a linear operator, such as mask, box-downsample or matrix",
    )


def _check_chain(operators: Sequence[Operator]) -> None:
    for first, second in itertools.pairwise(operators):
        if first.out_shape != second.in_shape:
            raise ShapeError(
                f"{type(first).__name__} gives events of shape {first.out_shape} but "
                f"{type(second).__name__} takes {second.in_shape}"
            )


_Step = TypeVar("_Step", bound=Operator)


class _Steps(Operator, Generic[_Step]):
    """Operators one after the other, the first applied first."""

    def __init__(self, operators: Sequence[_Step]) -> None:
        _check_chain(operators)
        super().__init__(operators[0].in_shape, operators[-1].out_shape)
        self.operators = tuple(operators)

    def _apply(self, x: Tensor) -> Tensor:
        for operator in self.operators:
            x = operator(x)
        return x

    def out_range(self, data_range: float) -> float:
        for operator in self.operators:
            data_range = operator.out_range(data_range)
        return data_range


class OperatorChain(_Steps[Operator]):
    """Operators one after the other, the first applied first; some of them are not linear (see ``Composition``).

    Raises ``ShapeError`` where neighbours do not fit.

    >>> from scorefold_toolkit.operators import Edges, Grey
    >>> edges = OperatorChain([Grey(torch.ones(3) / 3, (3, 8, 8)), Edges((1, 8, 8))])
    >>> edges(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 1, 8, 8])
    """

    def at(self, index: Tensor | None) -> OperatorChain:
        return OperatorChain([operator.at(index) for operator in self.operators])


class Composition(_Steps[LinearOperator], LinearOperator):
    """Operators one after the other, the first applied first.

    Its ``pseudo_inverse`` undoes them one by one, last first, where that gives an x with A x = y for every y = A x. It
    is the shortest such x only where each step's pseudo-inverse keeps to the range of the next one's adjoint, as for
    orthonormal or commuting steps. Where it gives none, as for a mask before block means, the pseudo-inverse is by
    ``least_squares``. Raises ``ShapeError`` where neighbours do not fit.

    >>> from scorefold_toolkit.operators import Grey, Mask
    >>> both = Composition([Grey(torch.tensor([0.5, 0.5]), (2, 1, 2)), Mask(torch.tensor([1.0, 0.0]), (1, 1, 2))])
    >>> y = both(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]))
    >>> y, both.adjoint(y).shape
    (tensor([[[[2., 0.]]]]), torch.Size([1, 2, 1, 2]))
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        super().__init__(operators)
        self._solves: dict[int, bool] = {}

    def _adjoint(self, y: Tensor) -> Tensor:
        for operator in reversed(self.operators):
            y = operator.adjoint(y)
        return y

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return self._one_by_one(y) if self._undone_one_by_one(len(y)) else least_squares(self, y)

    def _one_by_one(self, y: Tensor) -> Tensor:
        for operator in reversed(self.operators):
            y = operator.pseudo_inverse(y)
        return y

    def _undone_one_by_one(self, rows: int) -> bool:
        """True if undoing the steps one by one solves A x = y wherever that can be solved, tried on normal draws."""
        if rows not in self._solves:
            generator = torch.Generator().manual_seed(0)
            y = self(torch.randn((rows, *self.in_shape), generator=generator, dtype=torch.float64, device="cpu"))
            self._solves[rows] = bool((self(self._one_by_one(y)) - y).norm() <= 1e-4 * y.norm())
        return self._solves[rows]

    def at(self, index: Tensor | None) -> Composition:
        return Composition([operator.at(index) for operator in self.operators])


def compose(operators: Sequence[Operator]) -> Operator:
    """Operators one after the other: a ``Composition`` where all are linear, else a ``OperatorChain``."""
    linear = [operator for operator in operators if isinstance(operator, LinearOperator)]
    return Composition(linear) if len(linear) == len(operators) else OperatorChain(operators)


def least_squares(operator: LinearOperator, y: Tensor) -> Tensor:
    """The shortest x (B, *in_shape) among those that bring A x closest to y (B, *out_shape), row by row.

    By conjugate gradients on the normal equations from 0 (CGLS, Hestenes and Stiefel 1952) in float64, until their
    residual has fallen by 1e-10, or 1000 iterations.
    """
    residual = y.double()
    gradient = operator.adjoint(residual)
    x, step, norm = torch.zeros_like(gradient), gradient, _squared(gradient)
    end = _TOLERANCE**2 * norm
    for _ in range(_ITERATIONS):
        going = norm > end
        if not bool(going.any()):
            break
        ahead = operator(step)
        size = torch.where(going, norm / _squared(ahead).clamp_min(1e-300), 0.0)
        x, residual = x + _rows(size, x) * step, residual - _rows(size, residual) * ahead
        gradient = operator.adjoint(residual)
        before, norm = norm, torch.where(going, _squared(gradient), norm)
        step = gradient + _rows(torch.where(going, norm / before.clamp_min(1e-300), 0.0), gradient) * step
    return x.to(y)


def _squared(v: Tensor) -> Tensor:
    """The squared length of each row, (B,)."""
    return v.flatten(1).square().sum(1)


def _rows(numbers: Tensor, like: Tensor) -> Tensor:
    """A number for each row (B,), to multiply rows by."""
    return numbers.reshape(-1, *[1] * (like.dim() - 1))
