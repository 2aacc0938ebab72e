"""Log-likelihoods by the probability flow against closed forms, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefold.diffusion import (
    VE,
    VP,
    DiffusionProcess,
    GeometricVE,
    LinearLogSNR,
    LinearVP,
    PerComponent,
    SubVP,
    probability_flow_log_prob,
)
from scorefold.errors import ConfigError, DataError
from scorefold.stage import showing
from scorefold_toolkit.matrix_process import MatrixProcess

F64 = torch.float64
SIGMA = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, 0.1], [0.2, 0.1, 0.3]], dtype=F64)
ENDS = torch.tensor([0.4, 0.7, 1.0], dtype=F64)
PROCESSES = {
    "ve": VE(0.01, 50.0),
    "vp": VP(),
    "subvp": SubVP(),
    "two families": PerComponent((3,), [(slice(2), LinearVP(t_min=1e-3)), (2, LinearLogSNR())]),
    "speeds": PerComponent((3,), GeometricVE(0.01, torch.tensor([50.0, 20.0, 30.0], dtype=F64))),
    "ends": PerComponent((3,), LinearLogSNR(12.0, -12.0, t_end=ENDS)),
    "matrix": MatrixProcess(
        torch.tensor([[-1.0, 1.0, 0.0], [-1.0, -2.0, 0.5], [0.0, -0.5, -1.0]], dtype=F64),
        torch.eye(3, dtype=F64),
        speed=(0.1, 12.0),
        t_min=1e-3,
    ),
}


def noised(process: DiffusionProcess, t: Tensor) -> Tensor:
    """The covariance of x_t for x_0 ~ N(0, SIGMA), (3, 3)."""
    eye = torch.eye(3, dtype=F64)
    signal = process.perturb(eye, t.expand(3), eye * 0)
    scale = process.perturb(eye * 0, t.expand(3), eye)
    return signal.T @ SIGMA @ signal + scale.T @ scale


def score_of(process: DiffusionProcess):
    def score(x: Tensor, t: Tensor) -> Tensor:
        return -torch.linalg.solve(noised(process, t[:1]), x.mT).mT

    return score


def marginal_distribution(process: DiffusionProcess, t: float) -> torch.distributions.MultivariateNormal:
    covariance = noised(process, torch.tensor([t], dtype=F64))
    return torch.distributions.MultivariateNormal(torch.zeros(3, dtype=F64), covariance)


@pytest.fixture
def points() -> Tensor:
    return torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", PROCESSES)
def test_gaussian_log_likelihood(name, points, monkeypatch) -> None:
    """log N(x; 0, P(t_min)) to the solver's tolerance where the prior is the last marginal; near it with the prior."""
    process = PROCESSES[name]
    exact = marginal_distribution(process, process.t_min).log_prob(points)
    got = probability_flow_log_prob(score_of(process), process, points)
    # At the end of "speeds" a variance exceeds the prior's by 1/400, which changes z^2 / 2 by z^2 / 800: |z| < 5.
    torch.testing.assert_close(got, exact, rtol=0, atol=25 / 800 if name == "speeds" else 5e-3)
    monkeypatch.setattr(process, "prior_log_prob", marginal_distribution(process, process.t_max).log_prob)
    got = probability_flow_log_prob(score_of(process), process, points, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-5)


def test_a_distribution_with_a_mean_and_a_prior_mismatch(points) -> None:
    """x ~ N(m, V) under VE: x_T = m + A (x - m), so log p = log N(x_T; 0, s_max^2) + log |A|, mismatch included."""
    process, mean, variance = VE(0.1, 3.0), 1.7, 0.5
    ratio = math.sqrt((variance + 9) / (variance + 0.01))
    expected = process.prior_log_prob(mean + ratio * (points - mean)) + 3 * math.log(ratio)

    def score(x: Tensor, t: Tensor) -> Tensor:
        return -(x - mean) / (variance + process.coefficients(x, t)[1] ** 2)

    got = probability_flow_log_prob(score, process, points, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_hutchinson_is_unbiased(points) -> None:
    """200 probes average to the exact trace's answer within 5 standard errors; a diagonal Jacobian needs one."""
    process = VP()
    exact = probability_flow_log_prob(score_of(process), process, points[:1])
    many = points[:1].expand(200, 3)
    generator = torch.Generator().manual_seed(0)
    draws = probability_flow_log_prob(score_of(process), process, many, trace="hutchinson", generator=generator)
    assert float(draws.std()) > 0.01
    assert float(draws.mean()) == pytest.approx(float(exact), abs=5 * float(draws.std()) / math.sqrt(200))
    again = probability_flow_log_prob(
        score_of(process), process, many, trace="hutchinson", generator=generator.manual_seed(0)
    )
    assert torch.equal(draws, again)
    fewer = probability_flow_log_prob(
        score_of(process), process, many, trace="hutchinson", probes=8, generator=generator.manual_seed(0)
    )
    assert float(fewer.std()) < float(draws.std()) / 2
    one = probability_flow_log_prob(lambda x, t: -x, process, points, trace="hutchinson", generator=generator)
    torch.testing.assert_close(one, probability_flow_log_prob(lambda x, t: -x, process, points), atol=1e-4, rtol=0)


def test_reverse_mode_chunks_dtypes_and_empty_batches(points, monkeypatch) -> None:
    process = VP()
    exact = probability_flow_log_prob(score_of(process), process, points)
    backward = probability_flow_log_prob(score_of(process), process, points, mode="reverse")
    torch.testing.assert_close(backward, exact)
    monkeypatch.setattr("scorefold.diffusion.likelihood._CHUNK", 12)  # one tangent at a time
    torch.testing.assert_close(probability_flow_log_prob(score_of(process), process, points), exact)
    single = probability_flow_log_prob(lambda x, t: -x, process, points.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(
        single.double(), torch.distributions.Normal(0.0, 1.0).log_prob(points).sum(1), atol=1e-3, rtol=0
    )
    assert probability_flow_log_prob(score_of(process), process, points[:0]).shape == (0,)
    images = points.reshape(2, 2, 3)
    assert probability_flow_log_prob(lambda x, t: -x, process, images).shape == (2,)


def test_a_point_is_solved_as_well_in_company_as_alone() -> None:
    """Points at rest would lower a mean error over the batch, and lengthen the steps of the one that moves."""
    process = VP()

    def score(x: Tensor, t: Tensor) -> Tensor:
        signal, scale = process.coefficients(x, t)
        return -x / (0.01 * signal**2 + scale**2)

    x = torch.zeros(2000, 2, dtype=F64)
    x[0] = torch.tensor([0.3, -0.2])
    alone = probability_flow_log_prob(score, process, x[:1], rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(probability_flow_log_prob(score, process, x, rtol=1e-4, atol=1e-9)[:1], alone)


def test_no_gradient_is_kept(points) -> None:
    weight = torch.ones((), dtype=F64, requires_grad=True)
    got = probability_flow_log_prob(lambda x, t: -weight * x, VP(), points)
    assert not got.requires_grad


def test_progress_is_the_share_of_the_way_to_noise() -> None:
    """Percents of the times from start to end rise to 100, of a process that starts at 0.5 and ends at 1."""
    said = list[int]()
    process = VP(t_min=0.5)
    with showing(lambda done, total, text: said.append(done)):
        probability_flow_log_prob(lambda x, t: -x, process, torch.zeros(1, 2, dtype=F64), rtol=1e-9, atol=1e-9)
    assert said == sorted(said)
    assert said[-1] == 100
    assert said[0] < 50


def test_what_does_not_fit_is_refused(points) -> None:
    for options in ({"trace": "exakt"}, {"trace": "hutchinson", "probes": 0}, {"rtol": 0.0}):
        with pytest.raises(ConfigError, match="expected trace exact or hutchinson"):
            probability_flow_log_prob(lambda x, t: -x, VP(), points, **options)
    with pytest.raises(DataError, match="could not be solved"):
        probability_flow_log_prob(lambda x, t: x / 0, VP(), points)
