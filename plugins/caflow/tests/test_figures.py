"""Figures of trained image flows, whatever their condition is."""

from __future__ import annotations

import pytest
import torch
from caflow_models import draws, image_flow, levels, perturb

from scorefold.data import TensorSpec
from scorefold.stage import Fitted
from scorefold_caflow.flow.model import TEMPERATURES, image_flow_figures
from scorefold_toolkit.training import FitReport

REPORT = FitReport(history=[{"step": 1, "phase": "joint", "loss": 1.0}])


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


DRAWN = [f"T = {temperature:g}" for temperature in TEMPERATURES]


@pytest.mark.parametrize(
    ("spec", "condition", "expected"),
    [
        (None, None, DRAWN),
        (TensorSpec((1, 8, 8)), draws(9, 1, 8, 8), ["condition", *DRAWN, "truth", "std"]),
        (TensorSpec((3, 4, 4)), draws(9, 3, 4, 4), ["condition", *DRAWN, "truth", "std"]),
        (TensorSpec((), classes=3), torch.arange(9) % 3, [*DRAWN, "truth", "std"]),
        (
            {"image": TensorSpec((1, 8, 8)), "kind": TensorSpec((), classes=3)},
            {"image": draws(9, 1, 8, 8), "kind": torch.arange(9) % 3},
            ["condition", *DRAWN, "truth", "std"],
        ),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_draws_at_rising_temperatures(spec, condition, expected, channels) -> None:
    flow = image_flow(
        event=(channels, 8, 8), condition=spec, condition_size="event", scale=levels(16), scales=2 if spec else 1
    )
    events = torch.randint(16, (9, channels, 8, 8)).double()
    figures = image_flow_figures(Fitted(REPORT, flow, events, condition))
    assert set(figures) == {"training", "temperatures"}
    assert titles(figures["temperatures"]) == expected


def test_data_without_bounds_have_figures_too() -> None:
    flow = image_flow()  # of continuous data
    figures = image_flow_figures(Fitted(REPORT, flow, draws(9, 1, 8, 8), draws(9, 1, 8, 8, seed=4)))
    assert titles(figures["temperatures"]) == ["condition", *DRAWN, "truth", "std"]


def test_columns_are_what_they_say() -> None:
    flow = perturb(image_flow("cinn", scale=levels(16)), 0.2)
    events, condition = torch.randint(16, (2, 1, 8, 8)).double(), draws(2, 1, 8, 8)
    figure = image_flow_figures(Fitted(REPORT, flow, events, condition))["temperatures"]
    shown = {axes.get_title(): torch.as_tensor(axes.images[0].get_array()) for axes in figure.axes if axes.images}
    truth = torch.cat((events[0, 0], torch.full((1, 8), 15.0), events[1, 0])) / 15
    assert torch.allclose(shown["truth"].double(), truth)
    cold = flow.sample(1, condition, 0.0)[0].clamp(0, 15) / 15
    assert torch.allclose(shown["T = 0"][:8].double(), cold[0, 0], atol=1e-6)
    assert not torch.allclose(shown["T = 1"][:8], shown["T = 0"][:8])


def test_events_alone_are_enough_for_other_models() -> None:
    assert set(image_flow_figures(Fitted(REPORT, torch.nn.Identity(), draws(2, 1, 8, 8)))) == {"training"}
    assert image_flow_figures({}) == {}
