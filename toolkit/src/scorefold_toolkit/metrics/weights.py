"""Published weights of networks, read from files at hand; nothing is downloaded."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from scorefold.artefacts import load_arrays
from scorefold.errors import DataError
from scorefold_toolkit.checks import require_finite


def read_weights(path: str | Path, shapes: Mapping[str, tuple[int, ...]], what: str) -> dict[str, Tensor]:
    """The tensors of these names and shapes from a state dict, a ``.safetensors`` file or one that torch wrote.

    Other tensors in the file are left alone, and no code in it is run. ``what`` says what the file should be. Raises
    ``DataError`` for a file that is missing, can't be read, or lacks a tensor, and ``ArtefactError`` for tensors that
    are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}; expected {what}", hint="weights are read from files, never fetched")
    try:
        state = (
            load_arrays(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        raise DataError(f"{path} can't be read as a state dict: {error}", hint=f"it should be {what}") from error
    if not isinstance(state, Mapping):
        raise DataError(f"{path} holds a {type(state).__name__}; expected a state dict", hint=f"it should be {what}")
    for name, shape in shapes.items():
        found = state.get(name)
        if not isinstance(found, Tensor) or tuple(found.shape) != tuple(shape):
            have = f"of shape {tuple(found.shape)}" if isinstance(found, Tensor) else "missing"
            raise DataError(f"{path}: {name} is {have}; expected {tuple(shape)}", hint=f"it should be {what}")
    found = {name: state[name] for name in shapes}
    require_finite(found, path)
    return found
