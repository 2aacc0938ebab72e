"""Score models and flows of a worker: filled with saved tensors, and trained."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.artefacts import json_text
from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import ArtefactError
from scorefold_registry.components.building import Builder
from scorefold_registry.components.saving import own_tensors
from scorefold_registry.plugins.environments.wire import Reader


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


def in_mode(found: Any, mode: Mapping[str, Any]) -> Any:
    """An object in the precision and the mode of the other side's proxy."""
    if isinstance(found, nn.Module):
        found.to(dtype=getattr(torch, mode["dtype"]))
        found.train(mode["training"])
    return found


def answer_training(
    found: Any,
    builder: Builder,
    message: Mapping[str, Any],
    reader: Reader,
    metrics: Any,
    progress: Any,
) -> dict[str, Any]:
    """A training by the function that the request names: its report as JSON, and the model's own tensors."""
    module, _, name = message["target"].partition(":")
    data, settings = reader.value(message["train"]), reader.value(message["settings"])
    like, folder = found._reference(), message["checkpoint_dir"]
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
