"""From events to noise and back: for normal data the flow is linear, and every answer is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.data import Condition, EventScale, TensorSpec
from scorefold.diffusion import EDM, VE, VP, DiffusionProcess, IsotropicProcess
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import Flow, ScoreModel
from scorefold.stage import showing
from scorefold_toolkit.nn import DiagonalNormal, StandardNormal
from scorefold_toolkit.probability_flow import decode_noise, encode_noise, standardised_noise, unstandardised_noise

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
BASIS = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q
VARIANCES = torch.tensor([4.0, 1.0, 0.04], dtype=torch.float64)


class Gaussian(ScoreModel):
    """N(mean + condition, BASIS diag(VARIANCES) BASIS^T) with noise."""

    def __init__(self, process: DiffusionProcess, conditional: bool = False) -> None:
        super().__init__(process, (3,), TensorSpec((3,)) if conditional else None, EventScale(mean=0.0))

    def moments(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal, and the deviations along the columns of BASIS, at t."""
        signal, scale = self.process.coefficients(x, t)
        return signal, (signal**2 * VARIANCES + scale**2).sqrt()

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        signal, deviations = self.moments(x, t)
        mean = MEAN if condition is None else MEAN + condition
        return -((x - signal * mean) @ BASIS / deviations**2) @ BASIS.T

    def exact_noise(self, x: Tensor, mean: Tensor = MEAN) -> Tensor:
        """signal(1) m + U diag(d(1) / d(0)) U^T (x - signal(0) m): the flow keeps whitened coordinates."""
        ends = (self.moments(x, x.new_tensor([t])) for t in (self.process.t_min, self.process.t_max))
        (signal, start), (signal_end, end) = ends
        return signal_end * mean + ((x - signal * mean) @ BASIS * (end / start)) @ BASIS.T


PROCESSES = {"vp": VP(), "ve": VE(0.01, 50.0), "edm": IsotropicProcess(EDM(0.002, 80.0, 7.0))}


def points(count: int = 40) -> Tensor:
    z = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return MEAN + (z * VARIANCES.sqrt()) @ BASIS.T


def far(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("name", PROCESSES)
def test_the_flow_of_normal_data_is_the_linear_map_between_its_marginals(name: str) -> None:
    score, x = Gaussian(PROCESSES[name]), points()
    exact = score.exact_noise(x)
    errors = [far(encode_noise(score, x, steps=steps), exact) for steps in (100, 200, 800)]
    assert errors[2] < 1e-4
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)  # second order
    assert far(decode_noise(score, exact, steps=800), x) < 1e-4


@pytest.mark.parametrize("name", PROCESSES)
def test_the_way_back_errs_by_an_order_less(name: str) -> None:
    score, x = Gaussian(PROCESSES[name]), points()
    errors = [far(decode_noise(score, encode_noise(score, x, steps=steps), steps=steps), x) for steps in (64, 128, 256)]
    assert errors[0] < 2e-3
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.25)


def test_paths_through_the_noise_of_normal_data_are_paths_of_their_whitened_coordinates() -> None:
    score, x = Gaussian(VP()), points(2)
    noise = encode_noise(score, x, steps=800)
    middle = noise.mean(0, keepdim=True)
    torch.testing.assert_close(decode_noise(score, middle, steps=800), x.mean(0, keepdim=True), atol=1e-4, rtol=0)


def test_events_are_encoded_by_their_own_conditions() -> None:
    score, x = Gaussian(VP(), conditional=True), points(4)
    condition = torch.arange(12.0, dtype=torch.float64).reshape(4, 3)
    exact = torch.cat([score.exact_noise(row[None], MEAN + own) for row, own in zip(x, condition, strict=True)])
    noise = encode_noise(score, x, condition, steps=400)
    assert far(noise, exact) < 1e-3
    torch.testing.assert_close(decode_noise(score, noise, condition, steps=400), x, atol=1e-4, rtol=0)


def test_noise_of_a_score_stands_about_the_mean_of_the_data() -> None:
    score = Gaussian(IsotropicProcess(EDM(0.002, 80.0, 7.0), 5.0))
    score.event_scale = EventScale(mean=5.0)
    noise = torch.full((2, 3), 5.0, dtype=torch.float64)
    assert torch.equal(standardised_noise(score, noise), torch.zeros(2, 3, dtype=torch.float64))
    assert torch.equal(unstandardised_noise(score, standardised_noise(score, noise)), noise)


class Halved(Flow):
    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return x / 2, x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return 2 * z, z.new_zeros(len(z))


def test_the_code_of_a_flow_is_its_map_and_stands_in_deviations_of_its_base() -> None:
    flow = Halved((2,), DiagonalNormal((2,), torch.tensor([4.0, 1.0])))
    x = torch.tensor([[8.0, 2.0]])
    noise = encode_noise(flow, x)
    assert torch.equal(noise, x / 2)
    assert torch.equal(decode_noise(flow, noise), x)
    torch.testing.assert_close(standardised_noise(flow, noise), torch.tensor([[2.0, 1.0]]))
    torch.testing.assert_close(unstandardised_noise(flow, standardised_noise(flow, noise)), noise)


class Shifted(nn.Module):
    """A base about 3 that is not normal."""

    centre = 3.0


def test_the_code_of_a_flow_stands_about_the_centre_of_another_base() -> None:
    flow = Halved((2,), DiagonalNormal((2,), torch.ones(2)))
    flow.base = Shifted()
    noise = torch.tensor([[8.0, 2.0]])
    assert torch.equal(standardised_noise(flow, noise), torch.tensor([[5.0, -1.0]]))
    assert torch.equal(unstandardised_noise(flow, standardised_noise(flow, noise)), noise)


def test_draws_without_spread_are_the_centre_of_the_base() -> None:
    flow = Halved((2,), StandardNormal())
    found = flow.sample(3, generator=torch.Generator().manual_seed(0), temperature=1e-20)
    assert float(found.abs().max()) < 1e-18


@pytest.mark.parametrize("given", [{"steps": 8}, {"spacing": "uniform"}, {"guidance": 2.0}])
def test_a_flow_takes_no_steps(given: dict[str, Any]) -> None:
    flow = Halved((2,), DiagonalNormal((2,)))
    with pytest.raises(ConfigError, match=f"{next(iter(given))} was given, and Halved"):
        encode_noise(flow, torch.zeros(1, 2), **given)


def test_wrong_input_is_named() -> None:
    score = Gaussian(VP())
    with pytest.raises(ShapeError, match=r"\(2,\)|\(1, 2\)"):
        encode_noise(score, torch.zeros(1, 2, dtype=torch.float64))
    with pytest.raises(ConfigError, match="knows no sampling option step"):
        encode_noise(score, points(1), step=3)
    with pytest.raises(ConfigError, match="0 steps"):
        decode_noise(score, points(1), steps=0)


def test_each_step_is_reported_after_it_is_done() -> None:
    shown: list[tuple[int, int]] = []
    calls: list[int] = []

    class Counted(Gaussian):
        def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
            calls.append(len(shown))
            return super().score(x, t, condition)

    with showing(lambda done, total, text: shown.append((done, total))):
        encode_noise(Counted(VP()), points(1), steps=4)
    assert shown[-1] == (4, 4)
    assert len(set(calls)) >= 4  # between calls of the score something was shown
