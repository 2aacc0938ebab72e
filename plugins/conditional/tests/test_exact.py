"""Closed forms of the paper's estimators on Gaussian pairs, at every speed of the condition, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.config import VEConfig
from scorefold.diffusion import expand
from scorefold_conditional.conditional.model import Conditional
from scorefold_conditional.conditional.objective import ConditionBlock, joint_loss

Build = Callable[..., Conditional]
WIDE = {"name": "ve", "sigma_min": 0.01, "sigma_max": 50.0}
PROCESSES = ["ve", "vp", "subvp", "cosine", "log-snr", "edm"]


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def speed_for(sigma_y: float) -> dict[str, Any]:
    """The settings at which sigma_y is reached at t = 1/2, where sigma_x = 1/2, by sigma from 0.05 to 5."""
    process = VEConfig(sigma_min=0.05, sigma_max=5)
    if sigma_y == 0:
        return {"process": process, "estimator": "cde"}
    speed = (sigma_y / 0.05) ** 2 * 0.05 / 5
    return {"process": process, "estimator": "cdiffe" if speed == 1 else "cmde", "condition_speed": speed}


@pytest.mark.parametrize(
    ("sigma_y", "gain", "variance", "score", "noise", "loss", "gap"),
    [
        (0.0, 0.9, 0.44, -1.25, 0.0, 0.431818, 0.0),
        (0.1, 0.891089, 0.448020, -1.237569, 0.039559, 0.441989, 0.040683),
        (0.5, 0.720000, 0.602000, -1.063123, 0.357612, 0.584718, 0.611598),
    ],
)
def test_the_score_at_each_speed(
    exact: Build, sigma_y: float, gain: float, variance: float, score: float, noise: float, loss: float, gap: float
) -> None:
    """A = B = 1, C = 0.9, sigma_x = 0.5, at x_t = 1 and y_t = 0.5."""
    model = exact(0.9, **speed_for(sigma_y))
    t = row(0.5)[0]

    def at(x: float, y: float) -> float:
        return float(model.score(row(x), t, row(y)))

    assert at(1, 0.5) == pytest.approx(score, abs=1e-6)
    assert -1 / at(1, 0) == pytest.approx(variance, abs=1e-6)
    assert -at(0, 1) / at(1, 0) == pytest.approx(gain, abs=1e-6)
    assert (sigma_y * at(0, 1)) ** 2 == pytest.approx(noise, abs=1e-6)
    assert 1 + 0.25 * at(1, 0) == pytest.approx(loss, abs=1e-6)
    assert 1 / 0.44 + at(1, 0) == pytest.approx(gap, abs=1e-6)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("estimator", ["cde", "cmde", "cdiffe"])
def test_the_event_part_of_the_joint_score_is_the_conditional_score(exact: Build, process: str, estimator: str) -> None:
    """-V^-1 (x_t - K y_t) is the first block of -(joint covariance at t)^-1 z_t, for a random covariance."""
    root = torch.randn(5, 5, dtype=torch.float64)
    sigma = root @ root.mT + 0.1 * torch.eye(5, dtype=torch.float64)
    model = exact((sigma[:3, :3], sigma[3:, 3:], sigma[:3, 3:]), process=process, estimator=estimator)
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    found = model.score(x, t, y)
    for i in range(7):
        ax, sx = model.event_schedule.signal_scale(t[i])
        if estimator == "cde":
            ay, sy = torch.ones_like(ax), torch.zeros_like(ax)
        else:
            ay, sy = model.schedule_of().signal_scale(t[i])
        signal = torch.cat([ax.expand(3), ay.expand(2)])
        noise = torch.cat([sx.expand(3), sy.expand(2)]) ** 2
        joint = signal[:, None] * sigma * signal + noise.diag()
        expected = -torch.linalg.solve(joint, torch.cat([x[i], y[i]]))[:3]
        torch.testing.assert_close(found[i], expected, rtol=1e-8, atol=1e-10)


CLOSED = [(0.5, 0.2679, 0.8240), (0.9, 0.6268, 0.3108), (0.99, 0.8676, 0.0532)]


@pytest.mark.parametrize(("rho", "gain", "variance"), CLOSED)
def test_the_bias_of_one_speed_for_all_is_its_closed_form(
    exact: Build, posterior_of: Any, rho: float, gain: float, variance: float
) -> None:
    """CDiffE samples the gain (1 - sqrt(1 - rho^2)) / rho instead of rho, whatever its score knows."""
    assert (1 - math.sqrt(1 - rho**2)) / rho == pytest.approx(gain, abs=1e-4)
    assert (1 - rho**2) / (2 * rho) * math.log((1 + rho) / (1 - rho)) == pytest.approx(variance, abs=1e-4)
    found = in_the_limit(posterior_of, exact(rho, process=WIDE, estimator="cdiffe"))
    assert found == pytest.approx((gain, variance), abs=1e-3)


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.99])
def test_a_clean_condition_is_sampled_without_bias(exact: Build, posterior_of: Any, rho: float) -> None:
    found = in_the_limit(posterior_of, exact(rho, process=WIDE, estimator="cde"))
    assert found == pytest.approx((rho, 1 - rho**2), abs=5e-4)


def in_the_limit(posterior_of: Any, model: Conditional) -> tuple[float, float]:
    """Gain and variance for many steps: extrapolated from 500 and 1000, whose errors are of first order."""
    coarse, fine = posterior_of(model, 500), posterior_of(model, 1000)
    return 2 * fine[0] - coarse[0], 2 * fine[1] - coarse[1]


@pytest.mark.parametrize(
    ("sigma_max_y", "gain", "variance"),
    [
        (0.0101, 0.8998, 0.1901),
        (0.1, 0.8991, 0.1905),
        (1, 0.8912, 0.1938),
        (5, 0.8535, 0.2064),
        (50, 0.6266, 0.3109),
    ],
)
def test_the_bias_grows_with_the_speed(
    exact: Build, posterior_of: Any, sigma_max_y: float, gain: float, variance: float
) -> None:
    estimator = "cdiffe" if sigma_max_y == 50 else "cmde"
    model = exact(0.9, process=WIDE, estimator=estimator, condition_speed=sigma_max_y / 50)
    assert in_the_limit(posterior_of, model) == pytest.approx((gain, variance), abs=5e-4)


@pytest.mark.parametrize(
    ("estimator", "sigma_max_y", "steps", "noise", "gain", "variance"),
    [
        ("cde", 0, 1000, "fresh", 0.8999, 0.1915),
        ("cmde", 1, 1000, "fresh", 0.8911, 0.1954),
        ("cdiffe", 50, 1000, "fresh", 0.6255, 0.3145),
        ("cde", 0, 100, "fresh", 0.8999, 0.2072),
        ("cmde", 1, 100, "fresh", 0.8908, 0.2117),
        ("cdiffe", 50, 100, "fresh", 0.6134, 0.3515),
        ("cmde", 1, 1000, "path", 0.8911, 0.1991),
        ("cdiffe", 50, 1000, "path", 0.6255, 0.3605),
    ],
)
def test_finitely_many_steps(
    exact: Build,
    posterior_of: Any,
    estimator: str,
    sigma_max_y: float,
    steps: int,
    noise: str,
    gain: float,
    variance: float,
) -> None:
    model = exact(0.9, process=WIDE, estimator=estimator, condition_speed=sigma_max_y / 50, condition_noise=noise)
    found = posterior_of(model, steps)
    assert found[0] == pytest.approx(gain, abs=2e-4)
    assert found[1] == pytest.approx(variance, abs=4e-4)


def expected_loss(model: Conditional, rho: float, t: Tensor) -> dict[str, Tensor]:
    """E of the likelihood loss over (x_0, y_0, z, z') at times (T,), exactly: residuals are linear in these four."""
    schedule = model.schedule_of()
    ax, sx = model.event_schedule.signal_scale(t)
    ay, sy = schedule.signal_scale(t)
    total: dict[str, Tensor] = {}
    for x0, y0, z, w in [(1, rho, 0, 0), (0, math.sqrt(1 - rho**2), 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]:
        x, y = (ax * x0 + sx * z)[:, None], (ay * y0 + sy * w)[:, None]
        found, others = model._noises(x, t, model._standard({"": y}, t, schedule), schedule)
        blocks = {"x": ConditionBlock(found - z, model.event_schedule), "y": ConditionBlock(others[""] - w, schedule)}
        for name, value in joint_loss(blocks, t, "likelihood").items():
            total[name] = total.get(name, 0) + value
    return total


@pytest.mark.parametrize("sigma_max_y", [50, 1, 0.1])
@pytest.mark.parametrize(("wrong", "kl"), [(0.8, 0.09719), (0.0, 0.82986)])
def test_the_likelihood_weighting_bounds_the_likelihood(
    exact: Build, sigma_max_y: float, wrong: float, kl: float
) -> None:
    """The loss of the score of another Gaussian over the loss of the right one, integrated over time, is their KL."""
    estimator = "cdiffe" if sigma_max_y == 50 else "cmde"
    settings = {"process": WIDE, "estimator": estimator, "condition_speed": sigma_max_y / 50}
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    right, other = (expected_loss(exact(rho, **settings), 0.9, t) for rho in (0.9, wrong))
    excess = sum(other.values()) - sum(right.values())
    assert float(torch.trapezoid(excess, t)) == pytest.approx(kl, abs=2e-5 if wrong else 1e-4)


def test_another_weighting_is_no_bound(exact: Build) -> None:
    """Weighted by the event's dispersion in both blocks, the excess is no longer the same at every speed."""
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    found = []
    for sigma_max_y in (1, 0.1):
        settings = {"process": WIDE, "estimator": "cmde", "condition_speed": sigma_max_y / 50}
        right, other = (expected_loss(exact(rho, **settings), 0.9, t)["x"] for rho in (0.9, 0.8))
        found.append(float(torch.trapezoid(other - right, t)))
    assert abs(found[0] - found[1]) > 1e-3


@pytest.mark.parametrize(
    ("sigma_max", "slow", "event", "condition"),
    [(277.13, 0.5, 21.85, 9.21), (221.70, 1.0, 21.40, 10.60), (110.85, 1.0, 20.01, 10.60)],
)
def test_the_weights_of_the_published_tasks(
    build: Build, sigma_max: float, slow: float, event: float, condition: float
) -> None:
    """By the likelihood weighting the squared noise errors of both parts have weights that do not change with time."""
    process = VEConfig(sigma_min=5e-3, sigma_max=sigma_max)
    model = build(process=process, condition_speed=slow / sigma_max).double()
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    one = torch.ones(11, 1, dtype=torch.float64)
    blocks = {"x": ConditionBlock(one, model.event_schedule), "y": ConditionBlock(one, model.schedule_of())}
    found = joint_loss(blocks, t, "likelihood")
    torch.testing.assert_close(2 * found["x"], torch.full_like(t, event), atol=6e-3, rtol=0)
    torch.testing.assert_close(2 * found["y"], torch.full_like(t, condition), atol=6e-3, rtol=0)


class MixturePair(torch.nn.Module):
    """The network that is right for a mixture of Gaussian pairs of scalars, giving the event's eps alone."""

    WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
    MEANS = torch.tensor([[-1.0, -1.5], [1.0, 0.8]], dtype=torch.float64)
    COVARIANCES = torch.tensor([[[0.3, 0.2], [0.2, 0.4]], [[0.5, -0.3], [-0.3, 0.6]]], dtype=torch.float64)

    def __init__(self, model: Conditional) -> None:
        super().__init__()
        self.event = model.event_schedule
        self.slow = model.schedule_of() if model.layout.diffusing else None

    def forward(self, shown: Tensor, level: Tensor, condition: Any = None) -> Tensor:
        t = self.event.time_at(level.exp())
        sx = level.exp()
        sy = torch.zeros_like(sx) if self.slow is None else self.slow.signal_scale(t)[1]
        x, y = shown[:, 0] * (1 + sx**2).sqrt(), shown[:, 1] * (1 + sy**2).sqrt()
        logs, scores = [], []
        for weight, mean, covariance in zip(self.WEIGHTS, self.MEANS, self.COVARIANCES, strict=True):
            yy = covariance[1, 1] + sy**2
            gain = covariance[0, 1] / yy
            v = covariance[0, 0] + sx**2 - gain * covariance[0, 1]
            off = x - mean[0] - gain * (y - mean[1])
            logs.append(weight.log() - (off**2 / v + v.log() + (y - mean[1]) ** 2 / yy + yy.log()) / 2)
            scores.append(-off / v)
        part = torch.softmax(torch.stack(logs), 0)
        return -(sx * (part * torch.stack(scores)).sum(0))[:, None]


@pytest.mark.parametrize(("sigma_y", "gap"), [(0.1, 0.012), (0.5, 0.217)])
def test_a_noisy_condition_costs_its_fisher_information(build: Build, sigma_y: float, gap: float) -> None:
    """E |grad log p(x_t|y) - grad log p(x_t|y_t)|^2 = I(x_t|y) - I(x_t|y_t), on a Gaussian mixture by quadrature."""
    clean, noisy = (build(prediction="eps", joint=False, **speed_for(sigma)).double() for sigma in (0, sigma_y))
    for model in (clean, noisy):
        model.network = MixturePair(model)
    t = torch.tensor([0.5], dtype=torch.float64)
    grid_x = torch.linspace(-6, 6, 161, dtype=torch.float64)
    grid_y = torch.linspace(-6, 6, 121, dtype=torch.float64)
    grid_z = torch.linspace(-6 - 4 * sigma_y, 6 + 4 * sigma_y, 161, dtype=torch.float64)

    def scores(model: Conditional, ys: Tensor) -> Tensor:
        x, y = torch.meshgrid(grid_x, ys, indexing="ij")
        return model.score(x.reshape(-1, 1), t, y.reshape(-1, 1)).reshape(x.shape)

    density = pair_density(grid_x, grid_y, 0.5)
    noise = torch.exp(-((grid_z[None] - grid_y[:, None]) ** 2) / (2 * sigma_y**2)) / (sigma_y * math.sqrt(2 * math.pi))
    dx, dy, dz = (float(grid[1] - grid[0]) for grid in (grid_x, grid_y, grid_z))
    s0, s = scores(clean, grid_y), scores(noisy, grid_z)
    joint = density @ noise * dy  # of (x_t, y_t)
    cross = (density * s0) @ noise * dy
    fisher_clean = float((density * s0**2).sum()) * dx * dy
    fisher_noisy = float((joint * s**2).sum()) * dx * dz
    distance = fisher_clean + fisher_noisy - 2 * float((cross * s).sum()) * dx * dz
    assert float(joint.sum()) * dx * dz == pytest.approx(1, abs=1e-4)
    assert distance == pytest.approx(fisher_clean - fisher_noisy, abs=1e-4)
    assert distance == pytest.approx(gap, rel=0.06)


def pair_density(grid_x: Tensor, grid_y: Tensor, sigma_x: float) -> Tensor:
    """The density of (x_t, y) of the mixture on a grid."""
    total = torch.zeros(len(grid_x), len(grid_y), dtype=torch.float64)
    parts = zip(MixturePair.WEIGHTS, MixturePair.MEANS, MixturePair.COVARIANCES, strict=True)
    for weight, mean, covariance in parts:
        wide = covariance + torch.diag(torch.tensor([sigma_x**2, 0.0], dtype=torch.float64))
        off = torch.stack(torch.meshgrid(grid_x - mean[0], grid_y - mean[1], indexing="ij"), -1)
        square = (off @ torch.linalg.inv(wide) * off).sum(-1)
        total += weight * torch.exp(-square / 2) / (2 * math.pi * torch.linalg.det(wide).sqrt())
    return total


def test_the_likelihood_given_a_clean_condition_is_exact(exact: Build) -> None:
    process = VEConfig(sigma_min=0.01, sigma_max=5000)  # so far that the prior is the distribution at the end
    model = exact(0.9, process=process, estimator="cde")
    x, y = row(0.3, -1.0, 2.0).mT, row(1.0, 0.2, 1.5).mT
    variance = 0.19 + 0.01**2
    expected = -((x - 0.9 * y) ** 2 / variance + math.log(2 * math.pi * variance))[:, 0] / 2
    torch.testing.assert_close(model.log_prob(x, y, rtol=1e-7, atol=1e-7), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("estimator", ["cmde", "cdiffe"])
def test_the_likelihood_given_a_noisy_condition_is_the_density_of_one_draws_flow(exact: Build, estimator: str) -> None:
    model = exact(0.9, process=WIDE, estimator=estimator)
    grid = torch.linspace(-4, 5, 91, dtype=torch.float64)[:, None]
    y = torch.ones(1, 1, dtype=torch.float64)
    first, again, other = (density_given(model, grid, y, seed) for seed in (0, 0, 1))
    assert float(first.sum()) * 0.1 == pytest.approx(1, abs=1e-3)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    bound = model.bind(y, generator=torch.Generator().manual_seed(0), condition_noise="frozen")
    prior = model.process.sample_prior((20_001, 1), generator=torch.Generator().manual_seed(5), like=grid)
    assert bound(prior, torch.ones(1, dtype=torch.float64)).shape == prior.shape


def density_given(model: Conditional, grid: Tensor, y: Tensor, seed: int) -> Tensor:
    """exp(log_prob) at each point of a grid with the same draw of the condition's noise."""
    noise = torch.randn(1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "scorefold_conditional.conditional.objective.draw_normal",
            lambda shape, generator, like: noise.expand(shape).clone(),
        )
        return model.log_prob(grid, y.expand(len(grid), 1), rtol=1e-6, atol=1e-6).exp()


def test_the_bound_score_is_the_score_of_the_noised_condition(build: Build) -> None:
    model = build((3,), joint=True).double()
    torch.nn.init.normal_(model.network.last.weight)
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64)
    t = torch.full((4,), 0.7, dtype=torch.float64)
    bound = model.bind(y, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(4, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    signal, scale = model.schedule_of().signal_scale(t)
    y_t = expand(signal, y) * y + expand(scale, y) * noise
    torch.testing.assert_close(bound(x, t), model.score(x, t, y_t))
    assert not torch.allclose(bound(x, t), bound(x, t)), "the next call has noise of its own"


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_a_deterministic_sampler_errs_more_than_a_random_one(exact: Build, posterior_of: Any, rho: float) -> None:
    """Along the probability flow the mean of CDiffE solves dm/du = (m - K y) / 2V in u = sigma^2, which gives the gain
    1/2 rho q^(1/4) int_0^inf (u^2 + 2u + q)^(-5/4) du with q = 1 - rho^2: less than the reverse SDE's."""
    q = 1 - rho**2
    v = torch.linspace(-30, 30, 200_001, dtype=torch.float64)  # u = e^v
    u = v.exp()
    integral = float(torch.trapezoid(u * (u**2 + 2 * u + q) ** -1.25, v))
    expected = 0.5 * rho * q**0.25 * integral
    assert expected < (1 - math.sqrt(q)) / rho
    far = {"name": "ve", "sigma_min": 0.01, "sigma_max": 5000.0}  # the flow remembers its start
    for noise in ("fresh", "path", "frozen"):
        model = exact(rho, process=far, estimator="cdiffe", condition_noise=noise)
        assert posterior_of(model, 100, "heun")[0] == pytest.approx(expected, abs=2e-3)
