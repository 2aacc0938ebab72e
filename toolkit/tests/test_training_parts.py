"""The parts of training, each against its own formula."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_toys import Quadratic, config, points, streamed

from scorefold.artefacts import read_json, write_json
from scorefold.config import PlateauConfig
from scorefold.data import Dataset, StreamedDataset
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Loss, Phase, Progress
from scorefold_toolkit.training import fit
from scorefold_toolkit.training.optimiser import AveragedWeights, Plateau, clip_gradients, learning_rate_factor
from scorefold_toolkit.training.phases import ordered_phases, share_steps
from scorefold_toolkit.training.validation import batch_positions, batch_size


def phase(name: str, after: str | None = None, steps: int | None = None) -> Phase:
    return Phase(name, (nn.Identity(),), after=after, steps=steps)


def test_the_learning_rate_rises_and_falls() -> None:
    factors = [learning_rate_factor(step, 100, 20, "cosine") for step in range(100)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[20] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert factors[99] == pytest.approx((1 + math.cos(math.pi * 79 / 80)) / 2)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[20:]))
    constant = [learning_rate_factor(step, 100, 20, "constant") for step in range(100)]
    assert constant == [*factors[:20], *[1.0] * 80]


def test_the_learning_rate_falls_to_a_tenth_at_each_drop() -> None:
    dropped = [learning_rate_factor(step, 100, 10, "constant", (50, 80)) for step in range(100)]
    assert dropped[4] == 0.5
    assert dropped[49] == 1.0
    assert dropped[50:] == pytest.approx([0.1] * 30 + [0.01] * 20)
    both = [learning_rate_factor(step, 100, 10, "cosine", (50,)) for step in (49, 60)]
    plain = [learning_rate_factor(step, 100, 10, "cosine") for step in (49, 60)]
    assert both == pytest.approx([plain[0], plain[1] / 10])


def test_a_warmup_longer_than_the_phase_leaves_half_of_it() -> None:
    factors = [learning_rate_factor(step, 10, 100, "cosine") for step in range(10)]
    assert factors[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert learning_rate_factor(0, 1, 100, "cosine") == 1.0
    assert learning_rate_factor(0, 10, 0, "cosine") == 1.0


@pytest.mark.parametrize("patience", [0, 2])
def test_rates_fall_on_a_plateau_as_torch_has_them(patience: int) -> None:
    config = PlateauConfig(factor=0.25, patience=patience, least=0.01)
    ours = Plateau(config, [1.0, 0.1])
    weights = [torch.zeros(1), torch.zeros(1)]
    optimiser = torch.optim.SGD([{"params": [weights[0]], "lr": 1.0}, {"params": [weights[1]], "lr": 0.1}])
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.25, patience=patience, min_lr=0.01)
    falls = 0
    for loss in (1 + torch.rand(60, generator=torch.Generator().manual_seed(0))).tolist():
        before = ours.rates
        ours.take(loss)
        theirs.step(loss)
        falls += ours.rates != before
        assert ours.rates == [group["lr"] for group in optimiser.param_groups]
    assert ours.rates == [0.01, 0.01]
    assert ours.drops == falls > 3


def test_losses_below_zero_fall_as_those_above() -> None:
    above, below = (Plateau(PlateauConfig(factor=0.5, patience=1, gain=0.1), [1.0]) for _ in range(2))
    for loss in (2.0, 1.7, 1.6, 1.6, 1.6, 1.0):
        above.take(loss)
    # Each is a twentieth of the best above it, which is no gain of a tenth; torch would count the rise as one.
    for loss in (-2.0, -1.9, -1.8, -2.1):
        below.take(loss)
    assert (above.drops, below.drops) == (1, 1)


def test_a_plateau_goes_on_from_its_facts_and_from_losses_that_are_not_finite(tmp_path: Path) -> None:
    config = PlateauConfig(factor=0.5, patience=2)
    losses = (math.nan, math.inf, 3.0, 2.0, math.nan, 2.5, 2.5, 1.0, 1.0, 1.0, 1.0)
    for split in range(len(losses)):
        whole, first, second = (Plateau(config, [0.3]) for _ in range(3))
        for place, loss in enumerate(losses):
            whole.take(loss)
            if place == split:
                write_json(tmp_path / "facts.json", first.facts())
                second.load(read_json(tmp_path / "facts.json"))
            (first if place < split else second).take(loss)
        assert second.facts() == whole.facts()
    assert whole.drops == 2
    assert whole.rates == [0.075]


def test_the_average_follows_its_recursion_and_steps_aside() -> None:
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    average = AveragedWeights([weight], 0.7)
    expected = 0.0
    for step in range(30):
        with torch.no_grad():
            weight.fill_(float(step + 1))
        average.update(step)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    torch.testing.assert_close(average.averages[0], torch.full((3,), expected, dtype=torch.float64))
    with average.applied():
        assert torch.equal(weight.detach(), average.averages[0])
    assert torch.equal(weight.detach(), torch.full((3,), 30.0, dtype=torch.float64))
    with pytest.raises(ValueError, match="mine"), average.applied():
        raise ValueError("mine")
    assert float(weight[0].detach()) == 30.0


@pytest.mark.parametrize("limit", [0.1, 5.0, 1e6])
def test_clipping_is_torchs_own(limit: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mine, theirs = ([nn.Parameter(torch.zeros(n)) for n in (3, 50, 1)] for _ in range(2))
    for left, right in zip(mine[:2], theirs[:2], strict=True):
        left.grad = torch.randn(left.shape, generator=generator)
        right.grad = left.grad.clone()
    clip_gradients(mine, limit)
    nn.utils.clip_grad_norm_(theirs, limit)
    for left, right in zip(mine[:2], theirs[:2], strict=True):
        torch.testing.assert_close(left.grad, right.grad)
    assert mine[2].grad is None
    clip_gradients([mine[2]], limit)


def test_phases_come_in_the_order_they_ask_for() -> None:
    given = [phase("c", after="b"), phase("a"), phase("d"), phase("b", after="d")]
    assert [part.name for part in ordered_phases(given)] == ["a", "d", "b", "c"]
    assert ordered_phases([]) == []


@pytest.mark.parametrize(
    ("stated", "steps", "shares"),
    [
        ([None], 40, [40]),
        ([None, None, None], 40, [14, 13, 13]),
        ([25, None], 40, [25, 15]),
        ([None, 40], 40, [0, 40]),
        ([10, 10], 40, [10, 10]),
        ([30, None], 0, [0, 0]),
    ],
)
def test_steps_are_shared_out(stated: list[int | None], steps: int, shares: list[int]) -> None:
    phases = [phase(str(place), steps=own) for place, own in enumerate(stated)]
    assert share_steps(phases, steps) == shares


@pytest.mark.parametrize("start", [0, 1, 5, 6, 7, 23])
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("shuffle", [None, lambda generator: torch.randperm(50, generator=generator).sort(dim=0)[1]])
def test_positions_from_any_step_on_and_in_any_parts(
    start: int, processes: int, shuffle: Callable[[torch.Generator], Tensor] | None
) -> None:
    data = replace(streamed(points(50)), shuffle=shuffle)

    def positions(start: int, rank: int, processes: int) -> list[Tensor]:
        endless = batch_positions(data, 8, seed=1, phase="fit", start=start, rank=rank, processes=processes)
        return list(itertools.islice(endless, 30 - start))

    whole = positions(0, 0, 1)
    parts = [positions(start, rank, processes) for rank in range(processes)]
    assert [torch.cat(rows).tolist() for rows in zip(*parts, strict=True)] == [row.tolist() for row in whole[start:]]
    for epoch in range(5):
        drawn = torch.cat(whole[6 * epoch : 6 * epoch + 6]).tolist()
        assert len(set(drawn)) == 48


def test_batches_are_equal_parts() -> None:
    assert batch_size(100, 16, 1) == 16
    assert batch_size(10, 16, 1) == 10
    assert batch_size(11, 16, 4) == 8
    with pytest.raises(TrainingError, match=r"set training\.batch_size to a multiple of 3"):
        batch_size(100, 16, 3)
    with pytest.raises(TrainingError, match="3 training points for 4 processes"):
        batch_size(3, 16, 4)


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPool")]


def test_no_thread_and_no_batch_outlives_a_training() -> None:
    decoded: list[int] = []

    source = points()

    def counting(index: Tensor) -> Dataset:
        decoded.append(len(index))
        return source.take(index)

    data = StreamedDataset(x=source.x[:0], fetch=counting, size=len(source), workers=3)
    fit(Quadratic(), data, config(steps=7))
    assert decoded == [16] * 7
    assert decoders() == []

    class Broken(Quadratic):
        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fit(Broken(), data, config())
    assert decoders() == []
    with closing(data.takes([torch.arange(3)] * 20)) as reader:
        assert len(next(reader)) == 3
    assert decoders() == []


def test_small_learning_rates_fall_too() -> None:
    plateau = Plateau(PlateauConfig(factor=0.5, patience=0), [1e-8])
    for _ in range(3):
        plateau.take(1.0)
    assert plateau.rates == [2.5e-9]
    assert plateau.drops == 2
