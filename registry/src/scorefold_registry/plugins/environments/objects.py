"""Requests about objects, done by the process that has them: a worker, or the host where a worker asks.

Arguments are read before the object is used. A question that the object asks writes over their tensors.
"""

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
from scorefold_registry.plugins.environments.wire import Reader, leaves_of, with_leaves


def get(found: Any, names: Sequence[str]) -> dict[str, Any]:
    """Attributes of an object, those that it has."""
    return {name: attrgetter(name)(found) for name in names if hasattr(found, name.partition(".")[0])}


def call(found: Any, message: Mapping[str, Any], reader: Reader) -> Any:
    """The answer of a method."""
    given, named = reader.value(message["given"]), reader.value(message["named"])
    return attrgetter(message["method"])(found)(*given, **named)


def mapped_rows(found: Any, message: Mapping[str, Any], reader: Reader) -> tuple[Tensor, ...]:
    """The answer of a map of rows; with ``derivative`` the products of its Jacobian with vectors."""
    given, vectors = reader.value(message["given"]), reader.value(message["vectors"])
    like = found._reference() if isinstance(found, EventModel) else torch.empty(())
    given, vectors = _moved(given, like), _moved(vectors, like)
    function = attrgetter(message["method"])(found) if message["method"] else found

    def called(*arguments: Any) -> tuple[Tensor, ...]:
        answer = found.in_calls(function, *arguments) if message["split"] else function(*arguments)
        return answer if isinstance(answer, tuple) else (answer,)

    if not message["derivative"]:
        with torch.no_grad():
            return called(*given)
    leaves, wanted = leaves_of(given), message["wanted"]
    asked = [leaf.detach() for leaf, each in zip(leaves, wanted, strict=True) if each]

    def of_asked(*asked: Tensor) -> tuple[Tensor, ...]:
        left = iter(asked)
        filled = [next(left) if each else leaf for leaf, each in zip(leaves, wanted, strict=True)]
        return called(*with_leaves(given, filled))

    products = _tangents if message["derivative"] == "jvp" else _cotangents
    return products(of_asked, asked, vectors)


def _tangents(function: Callable[..., Any], asked: list[Tensor], vectors: list[Tensor]) -> tuple[Tensor, ...]:
    forward_rules()
    with torch.no_grad():
        found: tuple[Tensor, ...] = torch.func.jvp(function, tuple(asked), tuple(vectors))[1]
    return found


def _cotangents(function: Callable[..., Any], asked: list[Tensor], vectors: list[Tensor]) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        asked = [leaf.requires_grad_() for leaf in asked]
        pairs = [pair for pair in zip(function(*asked), vectors, strict=True) if pair[0].requires_grad]
        if not pairs:
            return tuple(map(torch.zeros_like, asked))
        answers, weights = zip(*pairs, strict=True)
        found = torch.autograd.grad(answers, asked, weights, allow_unused=True)
    return tuple(torch.zeros_like(leaf) if each is None else each for leaf, each in zip(asked, found, strict=True))


def _moved(given: list[Any], like: Tensor) -> list[Any]:
    return with_leaves(given, [leaf.to(like.device) for leaf in leaves_of(given)])


def verb(found: Any, message: Mapping[str, Any], reader: Reader) -> Any:
    """The answer of a method of a model as a whole."""
    given, named = reader.value(message["given"]), reader.value(message["named"])
    like = found._reference()
    given = _moved(given, like)
    named = dict(zip(named, _moved(list(named.values()), like), strict=True))
    return attrgetter(message["method"])(found)(*given, **named)


def known_error(said: Mapping[str, Any]) -> ScorefoldError | None:
    """A ``ScorefoldError`` of the other process; None for an exception of another class."""
    kind = getattr(errors, str(said["type"]), None)
    if not (isinstance(kind, type) and issubclass(kind, ScorefoldError)) or kind is errors.WorkerError:
        return None
    found = kind(str(said["message"]), hint=None if said["hint"] is None else str(said["hint"]))
    found.code = str(said["code"])
    return found
