"""One of several processes that train together: writes its weights and what it reported into a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import nn
from training_toys import Denoiser, Quadratic, config, points

from scorefold.artefacts import save_arrays, write_json
from scorefold.errors import TrainingError
from scorefold_toolkit.training import fit


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = os.environ["RANK"]
    settings = config(steps=20, ema=0.9, checkpoint_every=8, validate_every=10)
    rows: list[object] = []
    # A loss without noise: the same as in one process. Clipped, so that the averaging must come before.
    exact = Quadratic()
    fit(exact, points(), settings, validation=points(30), metrics=lambda step, values: rows.append([step, values]))

    def noisy(steps: int, name: str) -> Denoiser:
        # Each process starts from its own weights: those of the first must win.
        model = Denoiser(seed=int(rank))
        fit(model, points(), config(steps=steps, checkpoint_every=8), checkpoint_dir=folder / name)
        return model

    whole = noisy(20, "whole")
    again = noisy(20, "whole")
    try:
        fit(Quadratic(), points(), config(batch_size=15))
        refusal = ""
    except TrainingError as error:
        refusal = error.message
    states: dict[str, nn.Module] = {"exact": exact, "whole": whole, "again": again}
    tensors = {f"{name}.{key}": value for name, model in states.items() for key, value in model.state_dict().items()}
    save_arrays(folder / f"{rank}.safetensors", tensors)
    write_json(folder / f"{rank}.json", {"rows": rows, "refusal": refusal})
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
