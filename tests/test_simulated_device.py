"""Run files, commands and functions on the simulated device have the CPU's numbers to the bit.

Processes of the device do it, since torch can't take one back.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from both_devices import (
    CLOSE,
    answers,
    block_waits,
    components_of,
    gates,
    on_both,
    python_differences,
    resumed,
    sampling_operators,
    sampling_waits,
    started,
    training_waits,
    worker,
)
from tiny_runs import EXAMPLES, PAPER_FILES

from scorefold_testing.simulated import NAME, possible

pytestmark = pytest.mark.skipif(not possible(), reason="this torch can't define a device in Python")

ON_THE_CPU = ("examples/allocate-labels", "examples/spend-labels")
"""Run files that train no network."""
PIXELS = "images of 2 x 2 pixels are convolved by a product of matrices on the CPU"
ROWS = "one call of a network takes more rows on a device"
OWN_PATH = {
    "examples/fashion-super-resolution": PIXELS,
    "examples/fashion-dimension": ROWS,
    "examples/fashion-noise-paths": PIXELS,
    "examples/diffusers-code": ROWS,
    "examples/your-images": ROWS,
}
"""Run files whose numbers may differ by 1 %, with the reason."""


@pytest.fixture(scope="module")
def device() -> Iterator[ProcessPoolExecutor]:
    with worker() as pool:
        yield pool


@pytest.mark.heavy
@pytest.mark.parametrize("file", [*EXAMPLES, *PAPER_FILES], ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_run_file_has_the_cpu_s_numbers(device: ProcessPoolExecutor, tmp_path: Path, file: Path) -> None:
    name = f"{file.parent.name}/{file.stem}"
    found = device.submit(on_both, file, tmp_path).result()
    allowed = CLOSE if name in OWN_PATH else "none"
    assert not [line for line in found.differences if not line.startswith(allowed)]
    assert (found.operators > 0) == (not name.startswith(ON_THE_CPU))


COMMANDS: dict[str, tuple[str, ...]] = {
    "audit": ("audit", "{samples}", "--train", "{train}", "--held-out", "{held_out}"),
    "recommend": ("recommend", "{train}", "--only", "mle,twonn"),
    "apply": ("apply", "{run}/score", "--do", "evaluate", "--data", "{held_out}", "--out", "evaluated.npz"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_answers_as_on_the_cpu(device: ProcessPoolExecutor, tmp_path: Path, name: str) -> None:
    found = [device.submit(answers, COMMANDS[name], place, tmp_path / place).result() for place in ("cpu", NAME)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("question", "model"), [("samples", "score"), ("between", "flow"), ("unlike", "flow"), ("likelihood", "flow")]
)
def test_what_start_writes_answers_as_on_the_cpu(
    device: ProcessPoolExecutor, tmp_path: Path, question: str, model: str
) -> None:
    found = device.submit(started, question, model, tmp_path).result()
    assert not found.differences
    assert found.operators


def test_a_training_that_stops_goes_on(device: ProcessPoolExecutor, tmp_path: Path) -> None:
    whole, resumed_there, on_the_cpu = device.submit(resumed, tmp_path).result()
    assert whole == resumed_there == on_the_cpu


def test_python_functions_answer_as_on_the_cpu(device: ProcessPoolExecutor, tmp_path: Path) -> None:
    assert not device.submit(python_differences, tmp_path).result()


@pytest.mark.parametrize("name", components_of("training"))
def test_no_training_step_waits_for_the_device(device: ProcessPoolExecutor, name: str) -> None:
    few, many = (device.submit(training_waits, name, steps).result() for steps in (4, 24))
    assert many == few


@pytest.mark.parametrize("name", components_of("sampling"))
def test_no_sampler_step_waits_for_the_device(device: ProcessPoolExecutor, name: str) -> None:
    few, many = (device.submit(sampling_waits, name, steps).result() for steps in (4, 24))
    assert many == few
    assert sum(few.values()) <= 8


@pytest.mark.parametrize("sampler", ["edm", "heun"])
def test_a_sampler_step_starts_no_more_operators_than_by_hand(device: ProcessPoolExecutor, sampler: str) -> None:
    ours, by_hand = device.submit(sampling_operators, sampler).result()
    assert ours <= by_hand


def test_a_block_of_points_waits_twice_for_the_device(device: ProcessPoolExecutor) -> None:
    few, many = (device.submit(block_waits, blocks).result() for blocks in (2, 12))
    assert many - few == 2 * (12 - 2)


@pytest.mark.parametrize("plugin", ["flowmatching", "iddiff"])
def test_gates_hold_on_the_device(device: ProcessPoolExecutor, plugin: str) -> None:
    verdicts = device.submit(gates, plugin, NAME).result().values()
    assert "holds" in verdicts
    assert set(verdicts) <= {"holds", "measured"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "plugin", ["allocation", "audit", "caflow", "conditional", "nonuniform", "pullback", "scorevae"]
)
def test_gates_of_all_plugins_hold_on_the_device(device: ProcessPoolExecutor, plugin: str) -> None:
    verdicts = device.submit(gates, plugin, NAME).result().values()
    assert "holds" in verdicts
    assert set(verdicts) <= {"holds", "measured"}
