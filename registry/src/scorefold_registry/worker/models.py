"""Score models and flows of a worker: evaluated, differentiated, and asked for whole verbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.artefacts import json_text
from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.diffusion.divergence import forward_rules
from scorefold.errors import ArtefactError
from scorefold.interfaces.model import EventModel, evaluations
from scorefold_registry.components.building import Builder
from scorefold_registry.components.saving import own_tensors
from scorefold_registry.plugins.environments.wire import Reader, leaves_of, with_leaves


def found_in(objects: Mapping[str, Any], message: Mapping[str, Any]) -> Any:
    """The object that a request names, in the precision and the mode of the other side's proxy."""
    found = objects[message["name"]]
    if isinstance(found, nn.Module):
        found.to(dtype=getattr(torch, message["mode"]["dtype"]))
        found.train(message["mode"]["training"])
    return found


def rows(objects: Mapping[str, Any], message: Mapping[str, Any], reader: Reader) -> tuple[Tensor, ...]:
    """The answer of a map of rows; with ``derivative`` the products of its Jacobian with vectors."""
    found = found_in(objects, message)
    function = attrgetter(message["method"])(found) if message["method"] else found
    like = found._reference() if isinstance(found, EventModel) else torch.empty(())
    given, vectors = _moved(reader.value(message["given"]), like), _moved(reader.value(message["vectors"]), like)

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


def verb(objects: Mapping[str, Any], message: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """The answer of a method of a model, and the number of events at which the model was evaluated."""
    found = found_in(objects, message)
    like = found._reference()
    given, named = _moved(reader.value(message["given"]), like), reader.value(message["named"])
    named = dict(zip(named, _moved(list(named.values()), like), strict=True))
    with evaluations([found]) as counted:
        answer = attrgetter(message["method"])(found)(*given, **named)
    return {"answer": answer, "points": counted.points}


def put_state(builder: Builder, found: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Puts saved tensors into a model, in their precision. Raises ``ArtefactError`` where they are not the model's."""
    dtypes = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        found.to(dtype=dtypes.pop())
    try:
        missing, unexpected = found.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ArtefactError(f"the saved state does not fit the model: {error}") from error
    if wrong := [*unexpected, *(own_tensors(builder, found).keys() & set(missing))]:
        raise ArtefactError(f"the saved state does not fit the model: it differs in {', '.join(sorted(wrong))}")


def fit(
    objects: Mapping[str, Any],
    builder: Builder,
    message: Mapping[str, Any],
    reader: Reader,
    metrics: Any,
    progress: Any,
) -> dict[str, Any]:
    """A training by the function that the request names: its report as JSON, and the model's own tensors."""
    found = found_in(objects, message)
    module, _, name = message["target"].partition(":")
    settings, folder = reader.value(message["settings"]), message["checkpoint_dir"]
    like, data = found._reference(), reader.value(message["train"])
    if isinstance(settings["validation"], Dataset):
        settings["validation"] = settings["validation"].to(device=like.device)
    report = getattr(import_module(module), name)(
        found,
        data.to(device=like.device),
        TrainingConfig.model_validate_json(message["config"]),
        checkpoint_dir=None if folder is None else Path(folder),
        metrics=metrics,
        progress=progress,
        **settings,
    )
    text = json_text(report.facts()).encode()
    return {
        "report": torch.frombuffer(bytearray(text), dtype=torch.uint8),
        "state": {name: tensor.detach().cpu() for name, tensor in own_tensors(builder, found).items()},
    }
