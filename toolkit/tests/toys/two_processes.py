"""One of several processes that train together: writes its weights and what it reported into a folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from training_toys import Denoiser, Quadratic, config, points

from scorefold.artefacts import save_arrays, write_json
from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Loss
from scorefold_toolkit.training import fit
from scorefold_toolkit.training.optimiser import Adam

RANK = int(os.environ["RANK"])


class Stopped(Denoiser):
    """Its training is interrupted in the middle of step 13."""

    def loss(self, batch: Dataset, **given: Any) -> Loss:
        if given["progress"].step == 13:
            raise KeyboardInterrupt
        return super().loss(batch, **given)


class Scaled(Denoiser):
    """Has a parameter that is a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))


def refusal_of(model: nn.Module, settings: TrainingConfig, parallel: str) -> str:
    try:
        fit(model, points(), settings, parallel=parallel)
    except TrainingError as error:
        return error.message
    return ""


def held(folder: Path, parallel: str) -> list[int]:
    """The numbers of the head's weights, and of all that an optimiser has for them, that stand in this process."""
    seen: list[int] = []
    step = Adam.step

    def watched(self: Adam) -> None:
        step(self)
        weights = next(item for item in self.param_groups[0]["params"] if item.shape == (4, 16))
        averages = [self.state_of(weights)[name] for name in ("exp_avg", "exp_avg_sq")]
        local = [getattr(item, "to_local", lambda item=item: item)().numel() for item in (weights, *averages)]
        seen[:] = [local[0], sum(local)]

    Adam.step = watched  # type: ignore[method-assign]
    fit(Denoiser(), points(), config(steps=2), parallel=parallel)
    Adam.step = step  # type: ignore[method-assign]
    return seen


def train(folder: Path, parallel: str) -> None:
    settings = config(steps=20, ema=0.9, checkpoint_every=8, validate_every=10)
    rows: list[object] = []
    # A loss without noise: the same as in one process. Clipped, so that the averaging must come before.
    exact, held_out = Quadratic(), points(30)
    fit(
        exact,
        points(),
        settings,
        validation=held_out,
        parallel=parallel,
        metrics=lambda step, values: rows.append([step, values]),
    )

    def noisy(name: str, made: type[Denoiser] = Denoiser) -> Denoiser:
        # Each process starts from its own weights: the first one's must win.
        model = made(seed=RANK)
        settings = config(steps=20, checkpoint_every=8, validate_every=5, patience=9)
        fit(model, points(), settings, validation=held_out, checkpoint_dir=folder / name, parallel=parallel)
        return model

    whole = noisy(f"whole-{parallel}")
    again = noisy(f"whole-{parallel}")
    try:
        noisy(f"stopped-{parallel}", Stopped)
    except KeyboardInterrupt:
        torch.distributed.barrier()
    resumed = noisy(f"stopped-{parallel}")
    # Only the first process sees a checkpoint, as on a disk that machines do not share.
    own = f"own-{RANK}-{parallel}"
    if RANK == 0:
        shutil.copytree(folder / f"whole-{parallel}", folder / own)
    different = ""
    try:
        noisy(own)
    except TrainingError as error:
        different = error.message
    parts = Quadratic()
    fit(parts, points(), config(steps=20, optimiser="sgd", accumulate=4), parallel=parallel)
    facts = {
        "rows": rows,
        "different": different,
        "refusal": refusal_of(Quadratic(), config(batch_size=15), parallel),
        "single": refusal_of(Scaled(), config(), parallel) if parallel == "fsdp2" else "",
        "held": held(folder, parallel),
    }
    states: dict[str, nn.Module] = {"exact": exact, "whole": whole, "again": again, "resumed": resumed, "parts": parts}
    tensors = {f"{name}.{key}": value for name, model in states.items() for key, value in model.state_dict().items()}
    save_arrays(folder / f"{RANK}-{parallel}.safetensors", tensors)
    write_json(folder / f"{RANK}-{parallel}.json", facts)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for way in ("ddp", "fsdp2"):
        train(Path(sys.argv[1]), way)
    torch.distributed.destroy_process_group()
