"""Trainings that are killed: run as a program, which forks one process a case and has it end by SIGKILL.

Each case is a function of a checkpoint folder, so that a test can call the same again to go on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn
from training_toys import Denoiser, TwoPhase, config, points, streamed

from scorefold import artefacts
from scorefold.config import TrainingConfig
from scorefold_toolkit.training import FitReport, fit

Result = tuple[nn.Module, FitReport]
OFTEN = {"checkpoint_every": 7, "validate_every": 5, "log_every": 4}


def train(model: nn.Module, settings: TrainingConfig, folder: Path | None, *, stream: bool = False) -> Result:
    data, held_out = points(), points(30, seed=1)
    if stream:
        return model, fit(model, streamed(data), settings, validation=streamed(held_out), checkpoint_dir=folder)
    return model, fit(model, data, settings, validation=held_out, checkpoint_dir=folder)


CASES: Mapping[str, Callable[[Path | None], Result]] = {
    "plain": lambda folder: train(Denoiser(), config(**OFTEN), folder),
    "stopping": lambda folder: train(Denoiser(), config(**OFTEN, patience=3, ema=0.9), folder),
    "plateau": lambda folder: train(
        Denoiser(), config(**OFTEN, plateau={"factor": 0.5, "patience": 0, "gain": 0.5}), folder
    ),
    "streamed": lambda folder: train(Denoiser(), config(**OFTEN), folder, stream=True),
    "phases": lambda folder: train(TwoPhase(), config(**OFTEN), folder),
    "sgd": lambda folder: train(Denoiser(), config(**OFTEN, optimiser="sgd", ema=None), folder),
    "writing": lambda folder: train(Denoiser(), config(**OFTEN), folder),
}
"""A case by name, each a training of 40 steps."""

KILLED_AT = {"plain": 17, "stopping": 23, "plateau": 23, "streamed": 17, "phases": 50, "sgd": 30}
"""The call of the loss, counted from 1, in whose middle the process dies; validations count too."""


def die(*arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_killed(case: str, folder: Path) -> None:
    """Runs a case up to its end by SIGKILL."""
    if case == "writing":
        written = artefacts.save_arrays

        def die_at_the_third(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
            written(path, tensors)
            if any(other.name == "2" for other in path.parent.parent.iterdir()):
                die()

        artefacts.save_arrays = die_at_the_third
    else:
        left = KILLED_AT[case]
        forward = nn.SiLU.forward

        def die_in_the_middle(self: nn.SiLU, input: torch.Tensor) -> torch.Tensor:
            nonlocal left
            left -= 1
            if left == 0:
                die()
            return forward(self, input)

        nn.SiLU.forward = die_in_the_middle  # type: ignore[method-assign, assignment]
    CASES[case](folder)


def main(folder: Path) -> None:
    # As many threads as the test has, which goes on with the training to the same bits.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for case in CASES:
        child = os.fork()
        if child == 0:
            run_killed(case, folder / case)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(case, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
