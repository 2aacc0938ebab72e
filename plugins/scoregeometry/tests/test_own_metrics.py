"""Functions of a user's own: derivatives that torch does not see, errors inside them, and honest ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError
from scorefold_scoregeometry.config import MetricConfig
from scorefold_scoregeometry.own import MetricGeometry


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def own(function: Callable[[Tensor], Any], **config: Any) -> MetricGeometry:
    return MetricGeometry(MetricConfig(dimension=2, **config), function=function)


def conformal(factor: Tensor) -> Tensor:
    return factor[:, None, None] * torch.eye(2, dtype=torch.float64)


def sphere(x: Tensor) -> Tensor:
    return conformal(4 / (1 + x.square().sum(1)) ** 2)


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return sphere(x)


def through_numpy(x: Tensor) -> Tensor:
    return conformal(torch.from_numpy(4 / (1 + (x.detach().numpy() ** 2).sum(1)) ** 2))


def half_detached(x: Tensor) -> Tensor:
    """Half of the factor is seen by torch, and half is not."""
    return sphere(x) / 2 + sphere(x.detach()) / 2


def unseen_density(x: Tensor) -> Tensor:
    return -x.detach().square().sum(1) / 2


QUESTIONS: dict[str, Callable[[MetricGeometry], object]] = {
    "metric": lambda space: space.metric(row(1, 0.2)),
    "curvature": lambda space: space.curvature(row(0.3, 0.2), row(1, 0), row(0, 1)),
    "exp": lambda space: space.exp(row(0.3, 0.2), row(0.5, 0.5)),
    "distance": lambda space: space.distance(row(0, 0), row(-0.5, 0.5)),
    "distance from a mode": lambda space: space.distance(row(0, 0), row(0, 0)),
    "mean": lambda space: space.mean(torch.cat([row(0.3, 0.2), row(-0.5, 0.5)])),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("function", [without_gradient, through_numpy, half_detached, unseen_density])
def test_values_whose_derivative_torch_does_not_see_are_refused(
    function: Callable[[Tensor], Tensor], question: str
) -> None:
    space = own(function, returns="log_prob" if function is unseen_density else "matrix")
    with pytest.raises(ConfigError, match="its derivative by torch does not follow them") as caught:
        QUESTIONS[question](space)
    assert "without no_grad, detach" in str(caught.value.hint)


def wall(x: Tensor) -> Tensor:
    return conformal(1 + 100 * torch.exp(-(x[:, 0] ** 2) / 1e-4))


HONEST: dict[str, Callable[[Tensor], Tensor]] = {
    "sphere": sphere,
    "constant": lambda x: conformal(torch.full_like(x[:, 0], 4.0)),
    "in float32": lambda x: sphere(x.float()).double(),
    "a step": lambda x: conformal(torch.where(x[:, 0] < 0.1, 1.0, 3.0).double()),
    "a kink": lambda x: conformal(1 + (x[:, 0] - 0.3).relu() + x[:, 1].abs()),
    "a thin wall": wall,
    "in place": lambda x: x.new_zeros(len(x), 2, 2).index_put(
        (torch.arange(len(x))[:, None], *torch.eye(2).nonzero().T), 1 + x.square()
    ),
    "small units": lambda x: sphere(1e9 * x),
    "far from 0": lambda x: sphere(x - 1e4),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_functions_pass(name: str) -> None:
    points = torch.tensor([[0.3, 0.2], [0.301, 0.0], [0.1, -0.4], [0.0, 0.0], [0.02, 1.0]], dtype=torch.float64)
    points = {"small units": 1e-9 * points, "far from 0": 1e4 + points}.get(name, points)
    assert own(HONEST[name]).metric(points).shape == (5, 2, 2)
    for point in points:
        assert own(HONEST[name]).metric(point[None]).shape == (1, 2, 2)


def test_an_error_of_ones_own_function_is_reported_with_its_line() -> None:
    def broken(x: Tensor) -> Tensor:
        raise ValueError("no such place")

    line = broken.__code__.co_firstlineno + 1
    with pytest.raises(DataError, match=rf"the function failed for 1 points, at test_own_metrics.py:{line}: ValueErr"):
        own(broken).metric(row(1, 2))


def test_a_function_that_fails_outside_its_domain_is_tried_inside_it() -> None:
    def ball(x: Tensor) -> Tensor:
        if bool((x.norm(dim=1) > 1).any()):
            raise ValueError("outside the ball")
        return sphere(x)

    assert float(own(ball).metric(row(1, 0))[0, 0, 0]) == pytest.approx(1)


def bumps(x: Tensor) -> Tensor:
    middles = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return conformal((1 + 3 * torch.exp(-(x[:, None] - middles).square().sum(2) / (2 * 0.15**2)).sum(1)) ** 2)


@pytest.mark.filterwarnings("ignore:.*logarithms were not corrected")  # between so many bumps
def test_other_minima_are_reported_once_a_call() -> None:
    """Starts of the first pair agree, and starts of the second do not."""
    x, y = torch.cat([row(-2, 0), row(0, -2)]), row(0, 2)
    for call in (
        lambda: own(bumps).distance(x, y),
        lambda: own(bumps).log(x, y),
        lambda: own(bumps).geodesic(x, y, torch.tensor([0.5])),
        lambda: own(bumps).distance_matrix(torch.cat([x[1:], y])),
    ):
        with pytest.warns(
            UserWarning, match=r"1 of [12] geodesics are the shortest of several .* 1 of 2 starts"
        ) as seen:
            call()
        assert all(one.filename == __file__ for one in seen)
        assert sum("shortest of several" in str(one.message) for one in seen) == 1
    own(bumps).distance(x[:1], y)
