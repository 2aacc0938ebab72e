"""Limits of events: the map from inside them to all numbers, and draws that are made again until they lie inside."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from scorefold.data import EventScale, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import Flow
from scorefold_toolkit.config.common import DrawingOptions
from scorefold_toolkit.drawing import draw_within
from scorefold_toolkit.nn import Box, StandardNormal, box_ends

INF = math.inf


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box(dtype: torch.dtype = torch.float64) -> Box:
    """Two ends, a lower one, an upper one, and none."""
    low, high = torch.tensor([[-1.0, 2.0, -INF, -INF], [3.0, INF, 5.0, INF]], dtype=dtype)
    made = Box(low, high)
    made.mean += torch.tensor([0.3, -0.2, 1.0, 2.0])
    made.std *= torch.tensor([0.5, 2.0, 3.0, 4.0])
    return made.to(dtype)


def points(n: int = 200) -> Tensor:
    u = torch.rand(n, 4, generator=generator(), dtype=torch.float64)
    return torch.stack([4 * u[:, 0] - 1, 2 + 9 * u[:, 1], 5 - 9 * u[:, 2], 20 * u[:, 3] - 10], 1)


def test_the_determinant_is_the_jacobian_and_the_inverse_goes_back() -> None:
    x, made = points(20), box()
    z, log_det = made(x)
    back, back_log_det = made.inverse(z)
    assert torch.allclose(back, x, atol=1e-9)
    assert torch.allclose(back_log_det, -log_det, atol=1e-9)
    for row in range(len(x)):
        jacobian = torch.func.jacrev(lambda one: made(one[None])[0][0])(x[row])
        assert float(jacobian.det().abs().log()) == pytest.approx(float(log_det[row]), abs=1e-9)
    tangent = torch.func.jvp(lambda rows: made(rows)[0], (x,), (torch.ones_like(x),))[1]
    assert bool(tangent.isfinite().all())


def test_a_uniform_point_becomes_a_standard_normal_one_and_a_share_near_an_end_keeps_its_digits() -> None:
    made = Box(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    probabilities = torch.tensor([[0.5], [0.84134474606854], [0.15865525393146], [1e-9]], dtype=torch.float64)
    assert made(probabilities)[0].flatten().tolist() == pytest.approx([0, 1, -1, -5.997807015], abs=1e-8)
    z = torch.linspace(-4.5, 4.5, 9)[:, None]
    single = Box(torch.full((1,), -3.0), torch.full((1,), 3.0))
    x = single.inverse(z)[0]
    assert torch.allclose(single(x)[0], z, atol=5e-2), "float32 rounds the last 3e-6 of a width by 1e-7"
    assert bool(((x >= -3) & (x <= 3)).all())


def test_z_scores_are_of_training_points_after_the_map() -> None:
    x, made = points().float(), box(torch.float32)
    made.mean.zero_()
    made.std.fill_(1)
    made.prepare(x)
    z = made(x)[0]
    assert torch.allclose(z.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(z.std(0, correction=0), torch.ones(4), atol=1e-5)


def test_there_is_no_density_outside_and_training_points_there_are_refused() -> None:
    x = points(4)
    x[1, 0], x[2, 1] = 3.001, 1.999
    z, log_det = box()(x)
    assert log_det.isinf().tolist() == [False, True, True, False]
    assert bool(z.isfinite().all())
    with pytest.raises(DataError, match=r"2 of 4 points are outside 'within', .* number 1 is 3\.001"):
        box().check(x)
    on_ends = torch.tensor([[-1.0, 3.0, 0.0, 0.0], [0.0, 2.0, 5.0, 0.0]], dtype=torch.float64)
    box().check(on_ends[:1])
    with pytest.raises(DataError, match="1 of 2 points are outside 'within', or on a lone end"):
        box().check(on_ends)


def test_limits_are_in_the_units_of_the_file() -> None:
    scale = EventScale(shift=(100.0, 0.0), factor=(50.0, 2.0))
    low, high = box_ends(((0.0, 200.0), (None, 4.0)), scale, 2)
    assert (low.tolist(), high.tolist()) == ([-2.0, -INF], [2.0, 2.0])
    low, high = box_ends((0.0, None), EventScale(shift=1.0, factor=0.5), 3)
    assert (low.tolist(), high.tolist()) == ([-2.0] * 3, [INF] * 3)
    with pytest.raises(ConfigError, match="equal in single precision"):
        box_ends((1e8, 1e8 + 1), EventScale(), 1)
    with pytest.raises(ConfigError, match="has 2 pairs of ends, and an event has 3 numbers"):
        box_ends(((0.0, 1.0), (0.0, 1.0)), EventScale(), 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1, -1], "the lower one first"),
        ([0, 1, 2], "expected two ends"),
        ([[0, 1], [0]], "expected two ends"),
        ([0, "one"], "expected two ends"),
        ([math.inf, 0], "expected two ends"),
        ([0, -math.inf], "expected two ends"),
        ([0, math.nan], "expected two ends"),
        ([True, 2], "expected two ends"),
        ([], "expected two ends"),
        (3, "expected two ends"),
    ],
)
def test_limits_that_are_none_are_refused(given: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DrawingOptions.model_validate({"within": given})


def test_an_infinite_end_is_none() -> None:
    """TOML has no null."""
    for given, meant in (([0, math.inf], (0, None)), ([[-math.inf, 1], [None, 2]], ((None, 1), (None, 2)))):
        assert DrawingOptions.model_validate({"within": given}).within == meant


class Shift(Flow):
    """x = z + the condition, which is twice as far for the second number."""

    def __init__(self, spec: TensorSpec | None = None) -> None:
        super().__init__((2,), StandardNormal(), condition_spec=spec)
        self.rows: list[int] = []

    def forward(self, x: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        return x - (0 if condition is None else condition), x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        self.rows.append(len(z))
        return z + (0 if condition is None else condition), z.new_zeros(len(z))


def test_draws_outside_are_drawn_again_for_their_own_condition() -> None:
    """P(0 <= z + c <= 2) for both numbers, with c = 0 and 1: 0.2278 and 0.4661, and the mean of what is left."""
    conditions = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    options = DrawingOptions(within=(0.0, 2.0))
    x, counts = draw_within(Shift(TensorSpec((2,))), 4000, conditions, options, generator())
    assert x.shape == (4000, 2, 2)
    assert bool(((x >= 0) & (x <= 2)).all())
    # 4,000 of each condition, or more of the second, of 17,560 and of 8,582 draws or more.
    assert 8000 <= counts.inside < 11_000
    assert 0.2278 < counts.inside / counts.all < 0.4661
    assert counts.all > 25_000
    # The mean of a normal distribution cut to [0, 2] is (phi(0) - phi(2)) / (Phi(2) - 1/2); the other one is symmetric.
    assert x.mean((0, 2)).tolist() == pytest.approx([0.7228, 1.0], abs=0.03)


def test_without_limits_nothing_is_drawn_again_and_without_a_condition_it_works_alike() -> None:
    flow = Shift()
    plain = draw_within(flow, 50, None, DrawingOptions(), generator())[0]
    assert draw_within(flow, 50, None, DrawingOptions(), generator())[1] == (50, 50)
    everywhere = draw_within(flow, 50, None, DrawingOptions(within=(-9.0, None)), generator())[0]
    assert torch.equal(plain, everywhere)
    x, (inside, tried) = draw_within(flow, 500, None, DrawingOptions(within=((0.0, None), (None, None))), generator())
    assert x.shape == (500, 2)
    assert bool((x[:, 0] >= 0).all())
    assert inside / tried == pytest.approx(0.5, abs=0.06)
    assert bool((x[:, 1] < 0).any())


def test_a_model_that_is_nearly_never_inside_is_named() -> None:
    with pytest.raises(DataError, match=r"0 of \d,\d+ samples lie within .*1 in 100") as refused:
        draw_within(Shift(), 10, None, DrawingOptions(within=(6.0, 7.0)), generator())
    assert "coupling flow with a 'within' of its own" in str(refused.value.hint)
