"""References of losses: what something that learned nothing would have."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold.interfaces import Loss, Progress, Trainable
from scorefold_toolkit.figures import training
from scorefold_toolkit.training import FitReport, fit, loop
from scorefold_toolkit.training.validation import LossReference, answering_zero, normal_reference, silent_network


class Squares(nn.Module, Trainable):
    """Guesses the first coordinate from the others: answering 0 it has their mean square."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.network = nn.Linear(2, 1)
        self.training_config = TrainingConfig(steps=steps, log_every=1, validate_every=1, ema=None)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        return Loss((self.network(batch.x[:, 1:])[:, 0] - batch.x[:, 0]).square().mean())

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        return silent_network(self.network, loss)


@pytest.mark.parametrize("held_out", [False, True])
def test_a_training_reports_what_its_loss_is_to_be_compared_with(held_out: bool) -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    model, lines = Squares(3), list[str]()
    report = fit(
        model,
        x[:150],
        model.training_config,
        validation=x[150:] if held_out else None,
        progress=lambda done, total, text: lines.append(text),
    )
    expected = float((x[150:] if held_out else x[:150])[:, 0].square().mean())
    assert report.reference == pytest.approx(expected)
    assert report.summary()["metrics"]["loss of a network that answers 0"] == report.reference
    assert any(f"a network that answers 0, {report.reference:.4g})" in line for line in lines)
    (figure,) = training(report).values()
    assert "a network that answers 0" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("loss", "reference", "said"),
    [
        (0.3, 0.5, "40% below the loss of zero, 0.5"),
        (0.5, 0.5, "no better than zero, 0.5"),
        (0.6, 0.5, "no better than zero, 0.5"),
        # A share of a negative number would have the wrong sign: nats are compared by their difference.
        (-49.28, -27.53, "21.8 below the loss of zero, -27.53"),
        (-20.0, -27.53, "no better than zero, -27.53"),
        (-1.0, 0.5, "1.5 below the loss of zero, 0.5"),
    ],
)
@pytest.mark.parametrize("held_out", [False, True])
def test_a_fit_says_how_far_its_loss_is_below_the_reference(
    loss: float, reference: float, said: str, held_out: bool
) -> None:
    history = [{"step": 9, "loss": 77.0 if held_out else loss}]
    report = FitReport(
        9, held_out=loss if held_out else None, reference=reference, reference_of="zero", history=history
    )
    assert report.against(loss) == said
    answer = report.answer()
    assert answer["value"] == loss
    assert said in answer["verdict"]
    assert ("sure" in answer) == said.startswith("no better")
    assert answer["minor"]


def test_measuring_a_reference_changes_no_training() -> None:
    class Plain(Squares):
        loss_reference = None  # type: ignore[assignment]

    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    weights = []
    for kind in (Squares, Plain):
        torch.manual_seed(0)
        model = kind(5)
        report = fit(model, x, model.training_config, validation=x[:20])
        weights.append(model.network.weight.detach().clone())
    assert torch.equal(*weights)
    assert report.reference is None


def memorised(**settings: Any) -> FitReport:
    """A training whose held-out points have other columns, a hundred times as wide, that say nothing."""
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    train, held_out = torch.stack([0.5 * x[:, 1], x[:, 1], x[:, 2]], 1), x * torch.tensor([1.0, 100.0, 100.0])
    model = Squares(20)
    nn.init.zeros_(model.network.weight)
    nn.init.zeros_(model.network.bias)
    chosen = {"validate_every": 8, "learning_rate": 0.1, "warmup": 0, **settings}
    return fit(model, train, model.training_config.model_copy(update=chosen), validation=held_out)


def test_training_points_that_are_memorised_end_a_training_at_its_second_look() -> None:
    with pytest.raises(TrainingError, match=r"memorises its .* after 2 steps their loss is 0\.\d+") as caught:
        memorised()
    assert "(a network that answers 0: " in caught.value.message
    assert "training.patience: 5" in str(caught.value.hint)


def test_a_training_with_patience_is_compared_with_its_start_instead() -> None:
    with pytest.raises(TrainingError, match=r"was 1\.0\d+ before the training, and .* the training diverged"):
        memorised(patience=2)


@pytest.mark.parametrize(
    ("looks", "refused"),
    [
        ([10.6, 10.6], True),
        ([10.4, 10.4], False),
        ([10.6, 1.0, 10.6, 1.0], False),
        ([math.nan, math.inf], True),
    ],
)
def test_a_look_counts_ten_times_above_the_reference(
    looks: list[float], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([*looks, *[1.0] * 9])
    monkeypatch.setattr(loop, "validation_loss", lambda *given, **settings: next(found))
    monkeypatch.setattr(Squares, "loss_reference", lambda self, points, loss, phase: LossReference(0.5, "zero"))
    with pytest.raises(TrainingError, match="memorises") if refused else nullcontext():
        memorised()


def test_a_network_answers_zero_only_within() -> None:
    network = nn.Linear(2, 2)
    x = torch.ones(3, 2)
    with answering_zero(network):
        assert not network(x).any()
    assert network(x).any()


def test_a_normal_distribution_is_a_closed_form() -> None:
    x = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0])
    found = normal_reference(Dataset(x))
    assert found is not None
    assert found.value == pytest.approx(0.5 * math.log(2 * math.pi * math.e) + math.log(3) / 2, abs=1e-2)
    assert normal_reference(Dataset(torch.zeros(5, 2))) is None


@pytest.mark.parametrize(
    ("loss", "held_out", "memorised"),
    [(-2.4, 3.1, True), (0.85, 1.0, True), (0.95, 1.1, False), (0.9, 0.95, False), (1.1, 1.2, False)],
)
def test_a_model_that_repeats_its_training_points_is_not_advised_to_train_longer(
    loss: float, held_out: float, memorised: bool
) -> None:
    report = FitReport(reference=1.0, reference_of="zero", held_out=held_out)
    report.history = [{"step": 10, "loss": loss}, {"step": 10, "validation": held_out}]
    assert bool(report.memorised()) == memorised
    advice = report.answer()["advice"]
    assert ("give more points" in advice) == memorised
    assert ("train longer" in advice) == (held_out >= 1 and not memorised)


@pytest.mark.parametrize(("held_out", "overfitted"), [(0.96, False), (1.0, False), (1.01, True), (1.26, True)])
def test_a_model_that_was_better_before_the_end_is_advised_to_keep_the_best(held_out: float, overfitted: bool) -> None:
    # A tenth of the gain of .44 is .044.
    report = FitReport(reference=1.4, reference_of="zero", best_validation=0.96, held_out=held_out)
    said = f"was 0.96 at best and is {held_out:.4g} at the end"
    assert (said in report.overfitted()) == overfitted
    answer = report.answer()
    assert (answer["value"], "set 'patience'" in answer["advice"]) == (held_out, overfitted)


@pytest.mark.parametrize(("last", "restored"), [(1.35, False), (3.1, True)])
def test_weights_that_were_put_back_do_not_repeat_training_points(last: float, restored: bool) -> None:
    report = FitReport(reference=1.3, reference_of="zero", best_validation=1.35, held_out=1.35)
    report.history = [{"step": 10, "loss": -0.5}, {"step": 10, "validation": last}]
    assert bool(report.memorised()) == (not restored)
    assert report.overfitted() == ""
    assert ("smaller learning_rate" in report.answer()["advice"]) == restored
