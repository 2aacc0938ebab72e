"""Input that fits nothing is refused by an error that names it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.config import TrainingConfig
from scorefold.data import DataSpec, TensorSpec
from scorefold.errors import ConfigError, DataError, ShapeError, UntrainedWarning
from scorefold.interfaces import Flow
from scorefold_pullback.config import CoshConfig, IsoPullbackConfig, PullbackConfig, QuadraticConfig
from scorefold_pullback.geometry.iso import IsoPullback
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.potentials import Cosh, QuadraticPotential
from scorefold_standard.config import AffineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow
from scorefold_toolkit.training import fit

Make = Callable[..., Pullback]
X = torch.zeros(2, 2, dtype=torch.float64)


@pytest.fixture
def banana(make_geometry: Make) -> Pullback:
    return make_geometry("banana")


CALLS: dict[str, Callable[[Pullback, Tensor], Tensor]] = {
    "x of metric": lambda space, wrong: space.metric(wrong),
    "x of exp": lambda space, wrong: space.exp(wrong, X),
    "v of exp": lambda space, wrong: space.exp(X, wrong),
    "y of log": lambda space, wrong: space.log(X, wrong),
    "y of distance": lambda space, wrong: space.distance(X, wrong),
    "y of distance_matrix": lambda space, wrong: space.distance_matrix(X, wrong),
    "w of inner": lambda space, wrong: space.inner(X, X, wrong),
    "v of norm": lambda space, wrong: space.norm(X, wrong),
    "y of geodesic": lambda space, wrong: space.geodesic(X, wrong, X[0]),
    "v of transport": lambda space, wrong: space.transport(X, X, wrong),
    "points of mean": lambda space, wrong: space.mean(wrong),
}


def test_coordinates_that_overflow(banana: Pullback) -> None:
    far = torch.tensor([[0.0, 1e200], [0.0, 1.0]], dtype=torch.float64)
    for answer in (banana.distance, banana.distance_matrix):
        with pytest.raises(DataError, match=r"F\(x\) holds NaN or infinite numbers in 1 of 2 rows"):
            answer(far, X)


@pytest.mark.parametrize("what", CALLS)
def test_shapes_and_nan(banana: Pullback, what: str) -> None:
    name = what.partition(" ")[0]
    with pytest.raises(ShapeError, match=rf"{name} has shape \(2, 3\); this geometry takes \(B, 2\)"):
        CALLS[what](banana, torch.zeros(2, 3, dtype=torch.float64))
    for number in (float("nan"), float("inf")):
        wrong = X.clone()
        wrong[1, 0] = number
        with pytest.raises(DataError, match=f"{name} holds NaN or infinite numbers in 1 of 2 rows"):
            CALLS[what](banana, wrong)


def test_batches_dtypes_and_times(banana: Pullback) -> None:
    with pytest.raises(ShapeError, match=r"different lengths were given \(x 2, v 3\)"):
        banana.exp(X, torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match="expected one dtype"):
        banana.exp(X, X.float())
    with pytest.raises(ShapeError, match=r"x is torch\.float32"):
        banana.distance(X.float(), X.float())
    with pytest.raises(ShapeError, match=r"different lengths were given \(x 2, y 3\)"):
        banana.distance(X, torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"expected \(T,\)"):
        banana.geodesic(X, X, torch.tensor(0.5))
    with pytest.raises(DataError, match="s holds NaN"):
        banana.geodesic(X, X, torch.tensor([float("nan")]))
    with pytest.raises(DataError, match=r"F\(y\) holds NaN or infinite numbers in 2 of 2 rows"):
        Pullback(PullbackConfig(), flow=banana.flow, psi=Cosh(CoshConfig())).distance(X, X + 1000)
    with pytest.raises(ShapeError, match="mean of no points"):
        banana.mean(X[:0])
    with pytest.raises(ShapeError, match="not all 0"):
        banana.mean(X, torch.zeros(2, dtype=torch.float64))


def test_a_flow_that_was_not_trained_is_reported(make_geometry: Make) -> None:
    flow = make_geometry("coupling").flow.train()
    x = torch.zeros(2, 4, dtype=torch.float64)
    spread = x + torch.arange(2.0)[:, None]
    message = r"flow, a CouplingFlow, is in training mode.* call flow\.eval\(\)"
    calls: list[Callable[[Pullback], object]] = [
        lambda space: space.exp(x, x),
        lambda space: space.distance(x, x),
        lambda space: space.metric(x),
        lambda space: IsoPullback(IsoPullbackConfig(), flow=space.flow).log(x, x + 1),
    ]
    for call in calls:
        with pytest.warns(UntrainedWarning, match=message) as caught:
            call(make_geometry(flow))
        assert len(caught) == 1
    untrained = make_geometry(flow)
    with pytest.warns(UntrainedWarning, match=message):
        untrained.exp(x, x)
    untrained.log(x, spread)  # it is reported once
    assert "is in training mode" in untrained.diagnose(spread)[1][0]
    fit(untrained.flow, spread, TrainingConfig(steps=1, batch_size=2))
    assert not any("training mode" in warning for warning in untrained.diagnose(spread)[1])
    closed_form = make_geometry("banana")  # there is nothing to train in it
    closed_form.flow.train()
    closed_form.exp(X, X)


def test_empty_batches_are_answered(banana: Pullback) -> None:
    none = X[:0]
    assert banana.exp(none, none).shape == (0, 2)
    assert banana.log(X[:1], none).shape == (0, 2)
    assert banana.metric(none).shape == (0, 2, 2)
    assert banana.geodesic(X, X, X[0, :0]).shape == (2, 0, 2)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="'score', 'whitened' or 'latent'"):
        PullbackConfig.model_validate({"metric": "fisher"})


def test_a_flow_and_a_psi_that_do_not_go_together(make_flow: Callable[..., Flow]) -> None:
    banana = make_flow("banana")
    config = PullbackConfig()
    with pytest.raises(ConfigError, match=r"psi is for events \(3,\)"):
        Pullback(config, flow=banana, psi=QuadraticPotential(QuadraticConfig(variances=(1.0, 1.0, 1.0))))
    with pytest.raises(ConfigError, match="whitened needs a quadratic psi; this is a Cosh"):
        Pullback(PullbackConfig(metric="whitened"), flow=banana, psi=Cosh(CoshConfig()))
    with pytest.raises(ConfigError, match="the flow's base, a Uniform, is no potential"):
        Pullback(config, flow=make_flow("without a potential"))
    latent = Pullback(PullbackConfig(metric="latent"), flow=make_flow("without a potential"))
    assert latent.psi is None
    torch.testing.assert_close(latent.exp(X, latent.log(X, X + 1)), X + 1)
    torch.testing.assert_close(latent.distance(X, X + 1), torch.full((2,), 2 * math.sqrt(2)).double())
    classes = DataSpec((2,), condition_spec=TensorSpec((), classes=3))
    with pytest.raises(ConfigError, match="this flow takes conditions"):
        Pullback(config, flow=CouplingFlow(AffineCouplingConfig(), data=classes))


@pytest.mark.parametrize("wrong", [None, [[2.0, 4.0]], 0.5], ids=str)
def test_what_is_no_tensor_is_named(make_geometry: Callable[..., Pullback], wrong: object) -> None:
    space, x = make_geometry("banana"), torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ShapeError, match=rf"y is a {type(wrong).__name__}; expected a tensor"):
        space.log(x, wrong)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=rf"s is a {type(wrong).__name__}; expected a tensor of times"):
        space.geodesic(x, x, wrong)  # type: ignore[arg-type]
