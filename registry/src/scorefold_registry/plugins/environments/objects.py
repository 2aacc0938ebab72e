"""Requests about objects, done by the process that has them: a worker, or the host where a worker asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from scorefold import errors
from scorefold.diffusion.divergence import forward_rules
from scorefold.errors import ScorefoldError
from scorefold.interfaces.model import EventModel
from scorefold_registry.plugins.environments.wire import leaves_of, with_leaves

Many = tuple[Tensor, ...]


def get(found: Any, names: Sequence[str]) -> dict[str, Any]:
    """Attributes of an object, those that it has."""
    return {name: attrgetter(name)(found) for name in names if hasattr(found, name.partition(".")[0])}


def call(found: Any, method: str, given: list[Any], named: dict[str, Any]) -> Any:
    """The answer of a method as a whole."""
    if isinstance(found, EventModel):
        given, values = _moved(given, found), _moved(list(named.values()), found)
        named = dict(zip(named, values, strict=True))
    return attrgetter(method)(found)(*given, **named)


def mode_of(model: Any) -> tuple[str, bool]:
    """The precision of a model, and whether it is in training."""
    return str(model._reference().dtype).removeprefix("torch."), model.training


def mapped_rows(
    found: Any,
    method: str,
    given: list[Any],
    derivative: str = "",
    vectors: Sequence[Tensor] = (),
    wanted: Sequence[bool] = (),
    split: bool = False,
) -> Many:
    """The answer of a map of rows, a method or the object itself; with ``derivative`` (``jvp`` or ``vjp``) the products
    of its Jacobian with vectors. With ``split`` the object calls it with a bounded number of rows, which is faster."""
    function = attrgetter(method)(found) if method else found
    if isinstance(found, EventModel):
        given, vectors = _moved(given, found), _moved(vectors, found)

    def called(*arguments: Any) -> Many:
        answer = found.in_calls(function, *arguments) if split else function(*arguments)
        return answer if isinstance(answer, tuple) else (answer,)

    if not derivative:
        with torch.no_grad():
            return called(*given)
    leaves = leaves_of(given)
    asked = [leaf.detach() for leaf, each in zip(leaves, wanted, strict=True) if each]

    def of_asked(*asked: Tensor) -> Many:
        left = iter(asked)
        filled = [next(left) if each else leaf for leaf, each in zip(leaves, wanted, strict=True)]
        return called(*with_leaves(given, filled))

    return (_tangents if derivative == "jvp" else _cotangents)(of_asked, asked, vectors)


def _tangents(function: Callable[..., Any], asked: list[Tensor], vectors: Sequence[Tensor]) -> Many:
    forward_rules()
    with torch.no_grad():
        found: Many = torch.func.jvp(function, tuple(asked), tuple(vectors))[1]
    return found


def _cotangents(function: Callable[..., Any], asked: list[Tensor], vectors: Sequence[Tensor]) -> Many:
    with torch.enable_grad():
        asked = [leaf.requires_grad_() for leaf in asked]
        pairs = [pair for pair in zip(function(*asked), vectors, strict=True) if pair[0].requires_grad]
        if not pairs:
            return tuple(map(torch.zeros_like, asked))
        answers, weights = zip(*pairs, strict=True)
        found = torch.autograd.grad(answers, asked, weights, allow_unused=True)
    return tuple(torch.zeros_like(leaf) if each is None else each for leaf, each in zip(asked, found, strict=True))


def _moved(given: Sequence[Any], model: EventModel) -> list[Any]:
    return with_leaves(given, [leaf.to(model._reference().device) for leaf in leaves_of(given)])


def known_error(said: Mapping[str, Any]) -> ScorefoldError | None:
    """A ``ScorefoldError`` of the other process; None for an exception of another class."""
    kind = getattr(errors, str(said["type"]), None)
    if not (isinstance(kind, type) and issubclass(kind, ScorefoldError)) or kind is errors.WorkerError:
        return None
    found = kind(str(said["message"]), hint=None if said["hint"] is None else str(said["hint"]))
    found.code = str(said["code"])
    return found
