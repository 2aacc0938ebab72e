"""Linear-Gaussian pairs of event and code, where every field of the model is a closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from vae_gaussians import GaussianScore, LinearEncoder, auto_encoder, conditional_score, real, worked_decoder

from scorefold.diffusion import VE, VP, DiffusionProcess, SubVP

X, Z = real([1.0, -0.5, 0.2, 0.7])[None], real([0.4, -1.0])[None]

WORKED = {
    0.1: {
        "signal": [0.946722],
        "scale": [0.322053],
        "prior": [-2.40019, 3.28939, 1.97511, -3.95187],
        "mean": [0.40243, 0.31359],
        "variance": [0.072236, 0.237479],
        "correction": [-0.01650, -4.45516, -0.01650, -4.45516],
        "total": [-2.41669, -1.16577, 1.95861, -8.40702],
    },
    0.5: {
        "signal": [0.281183],
        "scale": [0.959654],
        "prior": [-0.90488, 0.48590, -0.10002, -0.75181],
        "mean": [0.28256, 0.03738],
        "variance": [0.853887, 0.958976],
        "total": [-0.86914, 0.32807, -0.06429, -0.90963],
    },
}
"""The fields at X and Z, to the digits given."""


@pytest.mark.parametrize("time", WORKED)
def test_the_fields_of_a_linear_decoder(time: float) -> None:
    pair = worked_decoder()
    prior = pair.prior()
    model = auto_encoder(prior, 2, pair.encoder(prior))
    t = real([time])
    mean, log_variance = model.posterior(X, t)
    signal, scale = prior.process.coefficients(X, t)
    found = {
        "signal": signal,
        "scale": scale,
        "prior": model.score(X, t),
        "mean": mean,
        "variance": log_variance.exp(),
        "correction": model.correction(X, t, Z),
        "total": model.score(X, t, Z),
    }
    for name, digits in WORKED[time].items():
        tolerance = 6e-7 if name in ("signal", "scale", "variance") else 6e-6
        assert torch.allclose(found[name][0], real(digits), rtol=0, atol=tolerance), name
    torch.testing.assert_close(model.bind(Z)(X, t), found["total"])
    torch.testing.assert_close(model.noise(X, t, Z), -scale * found["total"])


@pytest.mark.parametrize("time", [1e-5, 0.02, 0.1, 0.5, 1.0])
def test_bayes_rule_gives_the_noised_decoder(time: float, generator: torch.Generator) -> None:
    """grad ln p_t(x) + grad ln q_t(z | x) = grad ln p_t(x | z), with both terms in closed form."""
    pair = worked_decoder()
    prior = pair.prior()
    model = auto_encoder(prior, 2, pair.encoder(prior))
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    z = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    t = real([max(time, 1.0001e-5)]).expand(7)
    signal, scale = prior.process.coefficients(x, t)
    v = signal**2 * pair.r + scale**2
    mean, log_variance = model.posterior(x, t)
    precision = 1 + (signal / v.sqrt()) ** 2 * (pair.W.mT @ pair.W).diagonal()
    torch.testing.assert_close(log_variance, -precision.log())
    torch.testing.assert_close(mean, signal / v * ((x - signal * pair.m) @ pair.W) / precision)
    torch.testing.assert_close(model.correction(x, t, z), signal / v * ((z - mean) @ pair.W.mT))
    torch.testing.assert_close(model.score(x, t, z), -(x - signal * (z @ pair.W.mT + pair.m)) / v)


def encoder_first(process: DiffusionProcess | None = None) -> LinearEncoder:
    """A correlated Gaussian, and an encoder of two units whose codes stay uncorrelated at every noise level."""
    basis = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    prior = GaussianScore(real([0.5, -1.0, 0.2]), basis @ torch.diag(real([2.0, 0.5, 0.1])) @ basis.mT, process=process)
    A = torch.diag(real([0.8, 1.5])) @ basis.mT[:2]
    return LinearEncoder(prior, A, real([0.3, -0.4]), torch.diag(real([0.2, 0.6])))


@pytest.mark.parametrize("process", [VP(), VE(), SubVP()], ids=["vp", "ve", "sub-vp"])
def test_the_decoder_of_a_linear_encoder(process: DiffusionProcess, generator: torch.Generator) -> None:
    encoder = encoder_first(process)
    model = auto_encoder(encoder.prior, 2, encoder)
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    z = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    mean, covariance = encoder.decoded(z)
    for time in (0.01, 0.1, 0.5, 1.0):
        t = real([time]).expand(5)
        expected = conditional_score(encoder.prior.process, mean, covariance, x, t)
        torch.testing.assert_close(model.score(x, t, z), expected)


Change = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

CHANGES: dict[str, Change] = {
    "mean shifted": lambda x, mean, lv: (mean + 0.05, lv),
    "mean shrunk": lambda x, mean, lv: (0.95 * mean, lv),
    "variance raised": lambda x, mean, lv: (mean, lv + 0.1),
    "variance lowered": lambda x, mean, lv: (mean, lv - 0.1),
    "mean bent": lambda x, mean, lv: (mean + 0.1 * x[:, :2].sin(), lv),
    "variance of x": lambda x, mean, lv: (mean, lv + 0.1 * x[:, :2].sin()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("time", [0.05, 0.3])
def test_the_exact_posterior_minimises_the_data_term(time: float, change: str) -> None:
    """At every time by itself, hence for any weight of times: the mean over data, codes and noise by one set of draws.

    The exact field is the mean of -eps / scale given x_t and z, so another field's excess is its mean square distance
    from it, which needs no draw of the noise and has no cancellation.
    """
    encoder = encoder_first()
    prior, generator = encoder.prior, torch.Generator().manual_seed(2)
    model = auto_encoder(prior, 2, encoder)
    draws = torch.randn(20_000, 8, generator=generator, dtype=torch.float64)
    x0 = prior.mean + draws[:, :3] @ torch.linalg.cholesky(prior.covariance).mT
    z = x0 @ encoder.A.mT + encoder.c + draws[:, 3:5] @ encoder.R.sqrt()
    eps, t = draws[:, 5:], real([time]).expand(len(x0))
    x = prior.process.perturb(x0, t, eps)

    def data_term() -> Tensor:
        return (model.noise(x, t, z) - eps).square().sum(1) / 2

    least, exact = data_term(), model.noise(x, t, z)
    model.posterior = lambda x, t: CHANGES[change](x, *encoder(x, t))
    more = data_term() - least
    excess = (model.noise(x, t, z) - exact).square().sum(1) / 2
    assert excess.mean() > 1e-6
    error = (more - excess).std() / len(x0) ** 0.5
    assert abs((more - excess).mean()) < 5 * error
    assert more.mean() > 0
