"""Checkpoints of a phase: one folder each, complete or absent, the newest kept."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from scorefold.artefacts import PARTIAL, json_text, load_state, save_state
from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import ArtefactError, TrainingError

_FREE = frozenset({"log_every", "checkpoint_every"})
_SAMPLE = 16


class Checkpoints:
    """The checkpoints of one phase in a folder, numbered in the order of writing.

    ``identity`` says which training they belong to. A checkpoint of another one is refused, never overwritten; a
    damaged one is set aside, and ``warnings`` says so.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self._identity = json.loads(json_text(identity))
        self.warnings: list[str] = []

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the facts of the newest checkpoint that is whole, or None.

        Raises ``TrainingError`` where it belongs to another training.
        """
        for number in reversed(self._numbers()):
            newest = self.folder / str(number)
            try:
                tensors, facts = load_state(newest)
            except ArtefactError as error:
                self._set_aside(newest, error)
                continue
            self._refuse_another(newest, facts.pop("identity", {}))
            return tensors, facts
        return None

    def _set_aside(self, folder: Path, error: ArtefactError) -> None:
        place = folder.with_name(f"damaged-{folder.name}-{secrets.token_hex(4)}")
        with suppress(OSError):  # another process of the same training has done it
            folder.rename(place)
        self.warnings.append(
            f"a checkpoint was damaged ({error.message}): it is now {place.name}, and the training went on from the "
            "one before it, or from the start"
        )

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """A checkpoint newer than all others, which go when it is complete."""
        _clear_partials(self.folder)
        older = self._numbers()
        # A number of its own, not the step's: a resumed run may write at the same step again, and would have to remove
        # what it goes on from.
        target = self.folder / str(older[-1] + 1 if older else 1)
        save_state(target, tensors, {**facts, "identity": self._identity})
        for number in older:
            shutil.rmtree(self.folder / str(number))

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def _refuse_another(self, folder: Path, found: Mapping[str, Any]) -> None:
        names = [name for name in {**self._identity, **found} if self._identity.get(name) != found.get(name)]
        if names:
            changes = "; ".join(f"{name} was {found.get(name)} and is {self._identity.get(name)}" for name in names)
            raise TrainingError(
                f"the checkpoint in {folder} is of another training: {changes}",
                hint=f"train as before to go on from it, or remove {self.folder} to start again",
            )


def training_identity(
    config: TrainingConfig, state: Mapping[str, Tensor], train: Dataset, validation: Dataset | None
) -> dict[str, Any]:
    """What must agree for a checkpoint to be gone on from, as JSON.

    The training's configuration (but for how often it logs and writes checkpoints), the names, shapes and dtypes of the
    model's state, and the data by their number and a sample.
    """
    settings = {f"training.{name}": value for name, value in config.model_dump().items() if name not in _FREE}
    entries = {name: [list(tensor.shape), str(tensor.dtype)] for name, tensor in state.items()}
    return {
        **settings,
        "model state": hashlib.sha256(json_text(entries).encode()).hexdigest()[:16],
        "training data": _describe(train),
        "validation data": None if validation is None else _describe(validation),
    }


def _describe(dataset: Dataset) -> str:
    points = len(dataset)
    if points == 0:
        return "no points"
    sample = dataset.take(torch.linspace(0, points - 1, min(points, _SAMPLE)).long()).x
    digest = hashlib.sha256(save({"x": sample.detach().cpu().contiguous()})).hexdigest()[:16]
    return f"{points} points {digest}"


def _clear_partials(folder: Path) -> None:
    """Removes what killed writers left in a folder, where nobody else writes."""
    for leftover in folder.glob(f".*{PARTIAL}"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
