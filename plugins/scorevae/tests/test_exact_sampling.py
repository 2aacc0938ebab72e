"""Samplers with an exact score given the code: each is an affine map of the noise, so two starts give its
distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from vae_gaussians import GaussianScore, LinearEncoder, auto_encoder, real, worked_decoder

from scorefold.diffusion import EDM, VE, VP, Cosine, IsotropicProcess, SubVP, euler_maruyama, heun
from scorefold.interfaces.score import BoundScore
from scorefold_checkpoints.parametrisations import DiscreteVP
from scorefold_scorevae.scorevae.model import ScoreVAE

ONE = real([[1.0]])
SIGNAL_AT_END = 0.0065718  # of VP(0.1, 20) at t = 1


@pytest.fixture
def scalar() -> ScoreVAE:
    """x ~ N(0, 1), z = x + N(0, 1/4): p(x | z = 1) = N(0.8, 0.2)."""
    prior = GaussianScore(real([0.0]), ONE)
    return auto_encoder(prior, 1, LinearEncoder(prior, ONE, real([0.0]), 0.25 * ONE))


def karras_times(count: int) -> Tensor:
    """The VP times of ``count`` noise levels of Karras et al. (2022, eq. 5) in [0.002, 80], rho = 7."""
    share = torch.arange(count, dtype=torch.float64) / (count - 1)
    sigma = (80 ** (1 / 7) + share * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    low, rise = 0.1, 19.9
    return (-low + (low**2 + 2 * rise * torch.log1p(sigma**2)).sqrt()) / rise


@torch.no_grad()
def karras_heun(score: BoundScore, model: ScoreVAE, x: Tensor, count: int) -> Tensor:
    """Heun in t along ``count`` noise levels, and an Euler step from the last of them to t = 0."""
    times = karras_times(count)
    x, _ = heun(score, model.process, x, times)
    t = times[-1].expand(len(x))
    velocity = model.process.drift(x, t) - model.process.dispersion(x, t) ** 2 * score(x, t) / 2
    return x - times[-1] * velocity


def flow(model: ScoreVAE, guidance: float = 1.0) -> tuple[float, float, float]:
    """Mean and variance of what the exact flow makes of N(0, 1), and its mean from the mean of x at t = 1."""
    starts = real([[0.0], [1.0], [0.8 * SIGNAL_AT_END]])
    at_zero, at_one, matched = model.decode(ONE, noise=starts, steps=1500, spacing="log-snr", guidance=guidance)
    return float(at_zero), float(at_one - at_zero) ** 2, float(matched)


def test_the_grid_is_the_published_one() -> None:
    times = karras_times(128)
    assert float(times[0]) == pytest.approx(0.9335, abs=5e-5)
    assert float(times[-1]) == pytest.approx(3.98e-5, abs=5e-8)


@pytest.mark.parametrize(
    ("count", "mean", "variance"), [(8, 0.74860, 0.217899), (128, 0.79537, 0.200108), (1024, 0.79553, 0.2000)]
)
def test_heun_along_karras_times(scalar: ScoreVAE, count: int, mean: float, variance: float) -> None:
    at_zero, at_one = karras_heun(scalar.bind(ONE), scalar, real([[0.0], [1.0]]), count)
    assert float(at_zero) == pytest.approx(mean, abs=6e-6)
    assert float(at_one - at_zero) ** 2 == pytest.approx(variance, abs=6e-7 if count < 1000 else 5e-5)


@pytest.mark.parametrize(
    ("process", "usual"),
    [(IsotropicProcess(EDM()), "edm"), (VE(), "edm"), (VP(), "heun")],
    ids=["edm", "ve", "vp"],
)
def test_the_usual_sampler_is_the_one_that_errs_less(process: IsotropicProcess, usual: str) -> None:
    """x ~ N(0, 1), z = x + N(0, 0.01), 16 steps: p(x | z) has the variance 0.0099. Draws are affine in their noise, and
    noise that is given comes back by heun, as encode_noise takes it."""
    prior = GaussianScore(real([0.0]), ONE, process=process)
    model = auto_encoder(prior, 1, LinearEncoder(prior, ONE, real([0.0]), 0.01 * ONE))
    variance = {}
    for name in (None, "edm", "heun"):
        options = {} if name is None else {"sampler": name}
        draws = model.decode(ONE.expand(2, 1), generator=torch.Generator().manual_seed(0), steps=16, **options)
        starts = process.sample_prior((2, 1), generator=torch.Generator().manual_seed(0), like=draws)
        variance[name] = float(((draws[1] - draws[0]) / (starts[1] - starts[0])) ** 2)
        variance[name] *= float(process.coefficients(real([1.0]), real([process.t_max]))[1]) ** 2
    assert variance[None] == variance[usual]
    errors = {name: abs(value / 0.0099 - 1) for name, value in variance.items()}
    assert errors[None] == min(errors.values())
    assert max(errors.values()) > 2 * errors[None]
    back = model.decode(ONE, noise=model.encode_noise(ONE, ONE, steps=16), steps=16)
    torch.testing.assert_close(back, ONE, atol=0.02, rtol=0)


def test_the_exact_flow_from_the_end_misses_the_mean_by_what_is_left_of_the_signal(scalar: ScoreVAE) -> None:
    found, spread, matched = flow(scalar)
    assert found == pytest.approx(0.79765, abs=6e-6)
    assert spread == pytest.approx(0.2, abs=2e-5)
    assert 0.8 - found == pytest.approx(SIGNAL_AT_END * 0.8 * math.sqrt(0.2), rel=2e-3)
    assert matched == pytest.approx(0.8, abs=3e-6)


def test_thousand_steps_of_euler_maruyama(scalar: ScoreVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step returns its mean. Draw j replaced by 1 in row j alone: rows then hold the gains of all draws."""
    steps, drawn = 1000, 0

    def impulse(shape: tuple[int, ...], *, generator: object, like: Tensor) -> Tensor:
        nonlocal drawn
        out = torch.zeros(shape, dtype=like.dtype)
        out[drawn + 1] = 1
        drawn += 1
        return out

    monkeypatch.setattr("scorefold.diffusion.samplers.draw_normal", impulse)
    start = torch.zeros(steps + 1, 1, dtype=torch.float64)
    start[-1] = 1
    scalar.process.t_min = 1e-3
    times = torch.linspace(1, 1e-3, steps + 1, dtype=torch.float64)
    with torch.no_grad():
        out, _ = euler_maruyama(scalar.bind(ONE), scalar.process, start, times)
    assert drawn == steps - 1
    assert float(out[0]) == pytest.approx(0.80040, abs=6e-6)
    assert float((out[1:] - out[0]).square().sum()) == pytest.approx(0.20024, abs=6e-6)


GUIDED = {
    0.5: (0.44721, 0.50589),
    1.0: (0.2, 0.80000),
    1.5: (0.08944, 0.96711),
    2.0: (0.04, 1.05719),
    3.0: (0.008, 1.11906),
}
"""Variance and mean by guidance."""


@pytest.mark.parametrize("guidance", GUIDED)
def test_what_guidance_samples(scalar: ScoreVAE, guidance: float) -> None:
    """Variance lam^(1 - w) kappa^w, and not the variance of p(x) q(z | x)^w, which is 1 / (1 + 4 w)."""
    variance, mean = GUIDED[guidance]
    _, spread, matched = flow(scalar, guidance)
    assert spread == pytest.approx(variance, abs=1.5e-5)
    assert spread == pytest.approx(0.2**guidance, abs=1.5e-5)
    assert matched == pytest.approx(mean, abs=6e-6)
    if guidance != 1:
        assert abs(spread - 1 / (1 + 4 * guidance)) > 0.03


PROCESSES = {
    "vp": VP(),
    "ve": VE(),
    "sub-vp": SubVP(t_min=1e-5),
    "cosine": IsotropicProcess(Cosine(lam_max=14.0)),
    "edm": IsotropicProcess(EDM()),
    "ddpm": IsotropicProcess(DiscreteVP((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0))),
}
"""Small noise at the first time, and none of the data left at the last. ``ddpm`` counts to 999, as checkpoints do."""


@pytest.mark.parametrize("sampler", ["heun", "ddim", "dpmpp-2m"])
@pytest.mark.parametrize("name", PROCESSES)
def test_every_process_decodes_to_the_distribution_given_the_code(name: str, sampler: str) -> None:
    """N(0.8, 0.2), up to the noise at the first time, what is left of the signal at the last, and the steps."""
    prior = GaussianScore(real([0.0]), ONE, process=PROCESSES[name])
    model = auto_encoder(prior, 1, LinearEncoder(prior, ONE, real([0.0]), 0.25 * ONE))
    starts = real([[0.0], [prior.process.prior_scale]])
    steps = 500 if sampler == "ddim" else 100
    at_zero, at_one = model.decode(ONE, noise=starts, steps=steps, sampler=sampler)
    assert float(at_zero) == pytest.approx(0.8, abs=0.01)
    assert float(at_one - at_zero) ** 2 == pytest.approx(0.2, abs=0.003)


def test_guidance_over_time_is_the_number_that_it_is_at_each_time(scalar: ScoreVAE) -> None:
    x, t = real([[-0.3], [0.4]]), real([0.2, 0.7])
    ours = scalar.bind(ONE, guidance=lambda t: 1 + t)(x, t)
    for row in range(2):
        expected = scalar.bind(ONE, guidance=1 + float(t[row]))(x[row : row + 1], t[row : row + 1])
        torch.testing.assert_close(ours[row : row + 1], expected)
    inside = scalar.bind(ONE, guidance=2.0, guidance_interval=(0.5, 1.0))(x, t)
    torch.testing.assert_close(inside[0], scalar.score(x, t)[0])
    torch.testing.assert_close(inside[1], scalar.bind(ONE, guidance=2.0)(x, t)[1])


def test_sixty_four_levels_for_the_linear_decoder() -> None:
    pair = worked_decoder()
    prior = pair.prior()
    model = auto_encoder(prior, 2, pair.encoder(prior))
    z = real([[0.4, -1.0]])
    torch.testing.assert_close(pair.encoder(prior).decoded(z)[0], real([[0.7, -0.7, 0.5, -0.5]]))
    out = karras_heun(model.bind(z), model, torch.cat([torch.zeros(1, 4), torch.eye(4)]).double(), 64)
    assert torch.allclose(out[0], real([0.69779, -0.69779, 0.49842, -0.49842]), rtol=0, atol=6e-6)
    gains = out[1:] - out[0]
    assert torch.allclose(gains @ gains.mT, 0.04013 * torch.eye(4).double(), rtol=0, atol=6e-6)
