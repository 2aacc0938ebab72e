"""A geometry beside the true one: how far apart their geodesics are, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scorefold.errors import ConfigError
from scorefold.interfaces import Flow
from scorefold_pullback.config import IsoPullbackConfig, PullbackConfig
from scorefold_pullback.flows.config import IdentityConfig
from scorefold_pullback.flows.linear import IdentityFlow
from scorefold_pullback.geometry.figures import geometry_figures
from scorefold_pullback.geometry.iso import IsoPullback
from scorefold_pullback.geometry.pullback import Pullback

MakeFlow = Callable[..., Flow]


def flat(size: int = 2) -> Pullback:
    return Pullback(PullbackConfig(), flow=IdentityFlow(IdentityConfig(event_shape=(size,)), dtype=torch.float64))


def test_the_error_of_geodesics_is_their_mean_distance_from_the_reference_s(make_flow: MakeFlow) -> None:
    """Between (2, 4) and (2, -4) the banana's geodesic is z^2 / 9 off the axis, and the straight line at 2."""
    truth = Pullback(PullbackConfig(), flow=make_flow("banana"))
    flow = IdentityFlow(IdentityConfig(event_shape=(2,)), dtype=torch.float64)
    points = torch.tensor([[2.0, 4.0], [2.0, -4.0]], dtype=torch.float64)
    numbers, _ = Pullback(PullbackConfig(), flow=flow, reference=truth).diagnose(points)
    along = torch.linspace(4, -4, 33, dtype=torch.float64)
    # phi is 2/9 at both ends.
    expected = float((2 - 2 / 9 - along.square() / 9).abs().mean())
    assert numbers["geodesic_error"] == pytest.approx(expected, rel=1e-12)
    assert numbers["straight_line_error"] == pytest.approx(expected, rel=1e-12)
    numbers, _ = Pullback(PullbackConfig(), flow=make_flow("banana"), reference=truth).diagnose(points)
    assert numbers["geodesic_error"] == 0
    assert numbers["straight_line_error"] == pytest.approx(expected, rel=1e-12)


def test_arc_length_geodesics_are_held_to_their_own_kind(make_flow: MakeFlow) -> None:
    flow = make_flow("banana")
    truth = IsoPullback(IsoPullbackConfig(), flow=flow)
    points = torch.tensor([[2.0, 4.0], [2.0, -4.0]], dtype=torch.float64)
    assert IsoPullback(IsoPullbackConfig(), flow=flow, reference=truth).diagnose(points)[0]["geodesic_error"] == 0
    other = Pullback(PullbackConfig(), flow=flow, reference=truth).diagnose(points)[0]["geodesic_error"]
    assert other > 0.01


def test_without_a_reference_nothing_is_said(make_flow: MakeFlow) -> None:
    points = torch.randn(4, 2, dtype=torch.float64)
    assert "geodesic_error" not in Pullback(PullbackConfig(), flow=make_flow("banana")).diagnose(points)[0]
    truth = Pullback(PullbackConfig(), flow=make_flow("banana"), reference=flat())
    assert "geodesic_error" not in truth.diagnose(points[:1])[0]


def test_a_reference_is_no_part_of_the_state(make_flow: MakeFlow) -> None:
    alone = Pullback(PullbackConfig(), flow=make_flow("banana"))
    assert set(Pullback(PullbackConfig(), flow=make_flow("banana"), reference=flat()).state_dict()) == set(
        alone.state_dict()
    )


def test_a_reference_of_other_events_is_refused(make_flow: MakeFlow) -> None:
    for make, config in ((Pullback, PullbackConfig()), (IsoPullback, IsoPullbackConfig())):
        with pytest.raises(ConfigError, match=r"the reference has events of shape \(3,\), and this geometry \(2,\)"):
            make(config, flow=make_flow("banana"), reference=flat(3))


def test_a_reference_is_drawn_beside(make_flow: MakeFlow) -> None:
    geometry = Pullback(PullbackConfig(), flow=make_flow("river"), reference=flat())
    axes = geometry_figures(geometry)["geodesics"].axes[0]
    dotted = [torch.as_tensor(line.get_xydata()) for line in axes.lines if line.get_linestyle() == ":"]
    assert len(dotted) == 3
    for path in dotted:
        assert torch.allclose(path, torch.lerp(path[:1], path[-1:], torch.linspace(0, 1, len(path))[:, None].double()))
    legend = axes.get_legend()
    assert legend is not None
    assert "true geodesics" in [text.get_text() for text in legend.get_texts()]
