"""The line that shows a component, the base of score models and flows, which counts their evaluations, and networks.

>>> class Shift(EventModel):
...     evaluating = ("moved",)
...     def moved(self, x):
...         return x + 1
>>> with evaluations([shift := Shift((2,), None, None)]) as counted:
...     shifted = shift.moved(torch.zeros(5, 2))
>>> counted == Evaluations((Shift,), points=5)
True
"""

from __future__ import annotations

import functools
import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from scorefold.batching import call_rows
from scorefold.data import Condition, ConditionSpec, EventScale
from scorefold.errors import ConfigError, PluginError, ShapeError

MADE_FROM = "_scorefold_made_from"
"""The attribute that holds what the host made an object from, as one line."""


class Shown:
    """An object that is shown by what the host made it from, and as Python or torch show it where no host made it.

    >>> line = type("Line", (Shown,), {"event_shape": (2,)})()
    >>> line._scorefold_made_from = "data:line points=3"
    >>> line
    <data:line points=3; events (2,)>
    """

    def __repr__(self) -> str:
        origin, shape = vars(self).get(MADE_FROM), getattr(self, "event_shape", None)
        if origin is None:
            return super().__repr__()
        parts = [origin] if shape is None else [origin, f"events {tuple(shape)}"]
        if isinstance(self, nn.Module):
            parts.append(f"{sum(parameter.numel() for parameter in self.parameters()):,} parameters")
        return f"<{'; '.join(parts)}>"

    def __str__(self) -> str:
        layers = isinstance(self, nn.Module) and type(self).__repr__ is Shown.__repr__
        return super().__repr__() if layers else repr(self)


@dataclass
class Evaluations:
    """Events that models of some classes were evaluated at; ``points`` is None where there is no model."""

    kinds: tuple[type, ...]
    points: int | None


_nothing = Evaluations((), None)
_counter: ContextVar[Evaluations | None] = ContextVar("counter", default=None)
_counting: list[Evaluations] = []


@contextmanager
def evaluations(models: Sequence[object]) -> Iterator[Evaluations]:
    """Count the events at which models of these models' classes are evaluated: B for a call on B rows, whatever
    derivatives are carried along. Calls inside a call do not count, nor other threads' while two threads count."""
    token = _counter.set(counter := Evaluations(tuple(map(type, models)), 0) if models else _nothing)
    _counting.extend([counter] if models else [])
    try:
        yield counter
    finally:
        _counter.reset(token)
        _counting[:] = [other for other in _counting if other is not counter]


def _counted(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *given: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            return method(self, *given, **named)
        # A thread that a stage starts has no counter of its own.
        counter = _counter.get() or (_counting[0] if len(_counting) == 1 else _nothing)
        if counts := isinstance(self, counter.kinds):
            rows = [len(value) for value in (*given, *named.values()) if isinstance(value, Tensor) and value.dim()]
            counter.points = (counter.points or 0) + max(rows, default=0)  # a batch of 1 broadcasts
        with evaluations(()) if counts else nullcontext():
            found = method(self, *given, **named)
        if not method.__name__.startswith("_"):
            _require_shapes(self, method.__name__, next(iter((*given, *named.values()))), found)
        return found

    return call


def _require_shapes(model: Any, method: str, x: Tensor, found: Any) -> None:
    """Raises ``PluginError`` unless an answer at x (B, *E) is (B, *E), and the log-determinant beside it (B,)."""
    shapes = (model.event_shape, ()) if isinstance(found, tuple) else (model.event_shape,)
    for answer, shape in zip(found if isinstance(found, tuple) else (found,), shapes, strict=False):
        given = tuple(getattr(answer, "shape", ()))
        if not given or given[1:] != shape or len(x) not in (1, given[0]):
            raise PluginError(
                f"{method} of {type(model).__module__}:{type(model).__qualname__} returned the shape {given} for "
                f"{len(x)} events; expected {(len(x), *shape)}",
                hint="return a row for each event",
            )


class EventModel(Shown, nn.Module, ABC):
    """The base of ``ScoreModel`` and ``Flow``. ``evaluations`` counts calls of the methods named in ``evaluating``."""

    evaluating: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in cls.evaluating:
            method = inspect.getattr_static(cls, name)
            if isinstance(method, FunctionType) and method.__code__.co_filename != __file__:
                setattr(cls, name, _counted(method))

    def __init__(
        self, event_shape: Sequence[int], condition_spec: ConditionSpec | None, event_scale: EventScale | None
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.condition_spec = condition_spec
        self.event_scale = event_scale or EventScale()

    def check_events(self, x: Tensor) -> None:
        """Raises ``ShapeError`` unless x is (B, *event_shape), on the device and in the dtype of the model."""
        like = self._reference(x)
        if not isinstance(x, Tensor) or x.dim() == 0 or tuple(x.shape[1:]) != self.event_shape:
            found = f"has shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"is {type(x)}: pass torch.as_tensor(x)"
            raise ShapeError(f"x {found}; this model takes ({', '.join(map(str, ('B', *self.event_shape)))})")
        if (x.device, x.dtype) != (like.device, like.dtype):
            raise ShapeError(
                f"x is {x.dtype} on {x.device}; this model is {like.dtype} on {like.device}",
                hint=f'move one of them: x.to("{like.device}", {like.dtype}), or model.to(device, dtype)',
            )

    def call_rows(self) -> int:
        """The number of events for one call: see ``scorefold.batching``. Calls that measure it are not counted."""
        like = self._reference().new_full((1, *self.event_shape), self.event_scale.mean)
        with evaluations(()):
            return call_rows(self, like, self.condition_spec, self._one_call)

    def _one_call(self, x: Tensor, condition: Condition | None) -> object:
        return self.forward(x, condition)

    def _reference(self, default: Tensor | None = None) -> Tensor:
        """A tensor with the device and dtype of the model's parameters or buffers; of ``default`` where it has none."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        return next((t for t in tensors if t.is_floating_point()), torch.empty(()) if default is None else default)


class Network(Shown, ABC):
    """Builds a torch module of given shapes.

    Must: ``build``. The module's ``forward(x, t=None, condition=None)`` takes x (B, *in_shape), t (B,) where ``time``
    was asked for, and the condition where one was, and returns (B, *out_shape). t is a noise level on a log scale, of
    order -10 to 10; how it is embedded is the network's affair.

    >>> class OneLayer(Network):
    ...     def build(self, in_shape, out_shape, *, time=False, condition=None):
    ...         return nn.Linear(*in_shape, *out_shape)
    >>> as_network(OneLayer(), "the network").build((3,), (2,))(torch.zeros(4, 3)).shape
    torch.Size([4, 2])
    """

    @abstractmethod
    def build(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> nn.Module:
        """A new module. Raises ``ConfigError`` for shapes that this network can't serve."""


def as_network(value: object, what: str) -> Network:
    """A builder of networks, as a config's inline field holds it. Raises ``ConfigError`` for anything else, such as the
    field's name of one: ``what`` is whose it is, as in "the network of score:denoising"."""
    if not isinstance(value, Network):
        raise ConfigError(
            f"{what} is {value!r}, which has not been built",
            hint="create the component through Host.create, or put a Network into the config",
        )
    return value


class Prepares(ABC):
    """Module of a ``Network`` that takes statistics of the data before training.

    Must: ``prepare``, and say its ``prediction``. What it takes must be buffers, so that a saved state holds it.

    >>> class Centred(nn.Linear, Prepares):
    ...     prediction = "eps"
    ...     def prepare(self, x, spread, generator):
    ...         self.register_buffer("mean", x.mean(0))
    >>> network = Centred(2, 2)
    >>> network.prepare(torch.ones(9, 2), 1.0, torch.Generator())
    >>> network.state_dict()["mean"]
    tensor([1., 1.])
    """

    prediction: str
    """Prediction of the network for a score model: ``eps``, the expected noise, or another one that the model knows."""

    @abstractmethod
    def prepare(self, x: Tensor, unit: float, generator: torch.Generator) -> None:
        """Takes what it needs from events without noise, x (N, *in_shape), of mean 0 and deviation 1 over all
        coordinates.

        ``unit`` is the deviation that they were divided by: at a noise level t the network is shown x + exp(t) / unit z
        with z standard normal, over the root of 1 + (exp(t) / unit)^2. Called once, before the optimiser exists, and
        again where a training goes on from a checkpoint.
        """
