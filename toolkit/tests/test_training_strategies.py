"""Several processes, mixed precision and compilation give what plain training gives, within what they promise."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest
import torch
from training_toys import Denoiser, Quadratic, TwoPhase, config, differing, points
from warm_commands import Command

from scorefold.artefacts import load_arrays, read_json
from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Loss, Progress
from scorefold_toolkit.training import fit


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote that trained together on the CPU."""
    folder = tmp_path_factory.mktemp("together")
    script = Path(__file__).parent / "toys" / "two_processes.py"
    common = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    children = [
        Command((str(folder),), folder, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, script)
        for rank in range(2)
    ]
    errors = [child.communicate(timeout=120)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], errors
    return folder


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_processes_end_with_equal_weights(together: Path, parallel: str) -> None:
    first, second = (load_arrays(together / f"{rank}-{parallel}.safetensors") for rank in range(2))
    assert set(first) == set(second)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    # Completed once, the second call takes what the first left; interrupted, it goes on as if it had not been.
    for name, value in first.items():
        for other in ("again", "resumed"):
            assert torch.equal(value, first[name.replace(other, "whole")]), name


def test_dividing_the_weights_gives_what_copies_of_them_give(together: Path) -> None:
    copies, divided = (load_arrays(together / f"0-{parallel}.safetensors") for parallel in ("ddp", "fsdp2"))
    assert copies.keys() == divided.keys()
    for name, value in copies.items():
        # A bias before batch statistics has a gradient that is rounding alone, which Adam makes whole steps of.
        if "weight" in name:
            torch.testing.assert_close(divided[name], value, rtol=1e-4, atol=1e-5)
    for rank in range(2):
        facts = read_json(together / f"{rank}-fsdp2.json")
        assert facts["held"] == [32, 96], "each process holds half of a matrix of 64 and of its two Adam averages"
        assert "fsdp2 can't divide scale, which is a single number" in facts["single"]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_processes_take_the_steps_of_one(together: Path, parallel: str) -> None:
    alone = Quadratic()
    rows: list[list[object]] = []
    settings = config(steps=20, ema=0.9, checkpoint_every=8, validate_every=10)
    fit(alone, points(), settings, validation=points(30), metrics=lambda step, values: rows.append([step, values]))
    weights = load_arrays(together / f"0-{parallel}.safetensors")
    torch.testing.assert_close(weights["exact.centre"], alone.centre.detach(), rtol=1e-5, atol=1e-7)
    theirs = read_json(together / f"0-{parallel}.json")["rows"]
    for (step, values), (their_step, their_values) in zip(rows, theirs, strict=True):
        assert step == their_step
        assert isinstance(values, dict)
        for name in values.keys() - {"steps_per_second"}:
            assert their_values[name] == pytest.approx(values[name], rel=1e-5)
    # In four parts for each step, by an optimiser that torch does not fuse for divided weights.
    parts = Quadratic()
    fit(parts, points(), config(steps=20, optimiser="sgd", accumulate=4))
    torch.testing.assert_close(weights["parts.centre"], parts.centre.detach(), rtol=1e-5, atol=1e-7)
    # Only the first process reports.
    assert read_json(together / f"1-{parallel}.json")["rows"] == []


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_processes_that_find_different_checkpoints_are_refused(together: Path, parallel: str) -> None:
    for rank in range(2):
        message = read_json(together / f"{rank}-{parallel}.json")["different"]
        assert message == "the processes that train together found different checkpoints: step 20, none"


def test_processes_that_cannot_share_a_batch_out_are_refused(together: Path) -> None:
    for rank in range(2):
        assert (
            "a batch of 15 points can't be shared out equally over 2"
            in read_json(together / f"{rank}-ddp.json")["refusal"]
        )


def test_mixed_precision_learns_the_same_within_its_rounding(tmp_path: Path) -> None:
    plain, mixed = Denoiser(dropout=0.0), Denoiser(dropout=0.0)
    expected = fit(plain, points(), config(), validation=points(20))
    report = fit(mixed, points(), config(), validation=points(20), precision="bf16", checkpoint_dir=tmp_path)
    assert differing(plain, mixed) != []
    assert all(parameter.dtype == torch.float32 for parameter in mixed.parameters())
    assert report.best_validation == pytest.approx(expected.best_validation, rel=0.02)
    again = Denoiser(dropout=0.0)
    fit(again, points(), config(), validation=points(20), precision="bf16", checkpoint_dir=tmp_path)
    assert differing(mixed, again) == []
    with pytest.raises(TrainingError, match="precision was bf16 and is no"):
        fit(Denoiser(dropout=0.0), points(), config(), validation=points(20), checkpoint_dir=tmp_path)


def test_a_loss_in_low_precision_is_reported_in_single_precision() -> None:
    class Rounded(Quadratic):
        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            return Loss((batch.x.mean() + self.centre.sum() * 0).bfloat16())

    report = fit(Rounded(), points(), config(steps=10, log_every=10), precision="bf16")
    mean = report.history[-1]["loss"]
    assert mean != pytest.approx(float(torch.tensor(mean).bfloat16()), rel=1e-6), "it is a mean of ten, not rounded"


def test_mixed_precision_keeps_phases_apart() -> None:
    model = TwoPhase()
    fit(model, points(), config(), precision="bf16")
    assert [mode[0] for mode in model.modes] == ["body"] * 25 + ["head"] * 15
    assert not model.training


@pytest.mark.skipif(which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.skipif(
    os.environ.get("ATEN_CPU_CAPABILITY") == "default", reason="torch.compile's code needs vector instructions"
)
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
def test_compiled_training_is_plain_training_within_rounding() -> None:
    plain, fast = Denoiser(dropout=0.0), Denoiser(dropout=0.0)
    expected = fit(plain, points(), config(), validation=points(20))
    report = fit(fast, points(), config(compile=True), validation=points(20))
    assert report.best_validation == pytest.approx(expected.best_validation, rel=1e-5)
    # The bias before the batch statistics is left out: its gradient is rounding alone, which Adam makes whole steps of.
    for name, value in plain.state_dict().items():
        if "weight" in name:
            torch.testing.assert_close(fast.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_compiling_without_a_compiler_says_so(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from training_toys import *; from scorefold_toolkit.training import fit\n"
        "from scorefold.errors import TrainingError\n"
        "try:\n    fit(Denoiser(), points(), config(compile=True))\n"
        "except TrainingError as error:\n    print(error)"
    )
    environment = {**os.environ, "CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    toys = Path(__file__).parent / "toys"
    done = subprocess.run(
        [sys.executable, "-c", script, toys], env=environment, capture_output=True, text=True, check=True
    )
    assert "torch.compile failed" in done.stdout
    assert "C++ compiler" in done.stdout
    assert "set training.compile to false" in done.stdout
