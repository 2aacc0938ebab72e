"""Bands at speeds of their own, in every family and every transform: kernels, drifts, dispersions, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefold.diffusion import PerComponent, ddim, heun, time_grid
from scorefold_nonuniform.bands.coefficients import Bands, build_bands
from scorefold_nonuniform.bands.speeds import banded_process
from scorefold_nonuniform.config import GaussianFieldConfig, NonUniformConfig
from scorefold_nonuniform.gaussian_field import GaussianField, gaussian_score
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.rotated import CoefficientScore, Rotated

F64 = torch.float64
FAMILIES = [
    {"name": "ve", "sigma_min": 0.05, "sigma_max": 20.0},
    "vp",
    "subvp",
    "log-snr",
    "cosine",
    {"name": "edm", "sigma_min": 0.05, "sigma_max": 20.0},
]
TRANSFORMS = [
    {"name": "haar", "levels": 2},
    {"name": "wavelet", "wavelet": "db2", "levels": 2},
    {"name": "dct", "levels": 2},
    {"name": "fourier", "rings": [2.0, 1.0]},
    {"name": "pca", "groups": [8, 4, 4]},
    {"name": "learned", "groups": [8, 4, 4]},
    {"name": "pixels", "groups": [8, 4, 4]},
]
SHAPE = (1, 4, 4)


@pytest.fixture(scope="module")
def field() -> GaussianField:
    return GaussianField(GaussianFieldConfig(size=4, points=400, seed=0))


def setting(field: GaussianField, bands, process, ends=(0.5, 0.7, 1.0)) -> tuple[Bands, Rotated, PerComponent]:
    """Three bands that end at different times, in double precision; a learned matrix has left its start."""
    config = NonUniformConfig(bands=bands, process=process, ends=ends)
    built = build_bands(config.bands, SHAPE).double()
    built.prepare(field.load("train").x.double())
    with torch.no_grad():
        for vectors in built.parameters():
            vectors.add_(0.3 * torch.randn_like(vectors))
    rotated = banded_process(config, built, deviation=1.0).double()
    assert isinstance(rotated.inner, PerComponent)
    return built, rotated, rotated.inner


@pytest.mark.parametrize("deviation", [0.3, 1.0, 5.0])
def test_log_snrs_of_bands_are_of_data_of_their_deviation(field: GaussianField, deviation: float) -> None:
    """d^2 a^2 / b^2 is e^lam_max where every band begins, and e^lam_min where it ends."""
    process = {"name": "log-snr", "lam_max": 4.0, "lam_min": -3.0}
    config = NonUniformConfig(bands={"name": "haar", "levels": 2}, process=process, ends=(0.5, 0.7, 1.0))
    built = build_bands(config.bands, SHAPE).double()
    inner = banded_process(config, built, deviation=deviation).double().inner
    assert isinstance(inner, PerComponent)
    x = torch.zeros(1, *SHAPE, dtype=F64)
    for band, end in enumerate((0.5, 0.7, 1.0)):
        for time, lam in ((inner.t_min, 4.0), (end, -3.0)):
            signal, noise = inner.coefficients(x, torch.tensor([time], dtype=F64))
            ratio = (deviation * signal / noise).expand_as(x)[0][built.index == band]
            torch.testing.assert_close(2 * ratio.log(), torch.full_like(ratio, lam), rtol=0, atol=1e-6)


def images(rows: Tensor) -> Tensor:
    return rows.reshape(-1, *SHAPE)


def matrix(function) -> Tensor:
    """A linear map of images as a matrix (16, 16)."""
    with torch.no_grad():
        return function(images(torch.eye(16, dtype=F64))).flatten(1).T


def distribution_at(field: GaussianField, process: Rotated, t: Tensor) -> Tensor:
    """The covariance of images at a time, (16, 16), from the kernel's maps."""
    distribution = field.distribution()
    data = distribution.basis @ distribution.variances.diag() @ distribution.basis.mT
    signal, scale = process.coefficients(images(torch.eye(16, dtype=F64)), t.expand(16))
    a, b = matrix(signal.apply), matrix(scale.apply)
    return a @ data @ a.T + b @ b.T


@pytest.mark.parametrize("bands", TRANSFORMS, ids=lambda config: config["name"])
@pytest.mark.parametrize("process", FAMILIES, ids=lambda config: config if isinstance(config, str) else config["name"])
def test_images_solve_the_moment_equation(field, bands, process) -> None:
    """dC/dt = F C + C F^T + G G^T for the covariance C of images, before, between and after the ends of bands."""
    _, rotated, _ = setting(field, bands, process)
    step = torch.tensor([1e-5], dtype=F64)
    for time in (0.2, 0.45, 0.6, 0.85):
        t = torch.tensor([time], dtype=F64)
        rate = (distribution_at(field, rotated, t + step) - distribution_at(field, rotated, t - step)) / (2 * step)
        drift = matrix(lambda x, t=t: rotated.drift(x, t.expand(len(x))))
        dispersion = matrix(rotated.dispersion(images(torch.eye(16, dtype=F64)), t.expand(16)).apply)
        covariance = distribution_at(field, rotated, t)
        expected = drift @ covariance + covariance @ drift.T + dispersion @ dispersion.T
        torch.testing.assert_close(rate, expected, rtol=1e-5, atol=1e-6 * float(covariance.abs().max()))


@pytest.mark.parametrize("bands", TRANSFORMS, ids=lambda config: config["name"])
def test_speeds_of_bands_are_a_matrix_process(field, bands) -> None:
    """F = W^T diag(a) W and G = W^T diag(g) W as functions of time, by the exponential midpoint rule: the same kernels
    to its order, VP being exact where its intervals end."""
    built, rotated, inner = setting(field, bands, "vp", ends=(0.5, 0.75, 1.0))
    t = torch.tensor([0.25, 0.5, 1.0], dtype=F64)
    w = matrix(built.transform)

    def turned(diagonal: Tensor) -> Tensor:
        return w.T @ torch.diag(diagonal.flatten()) @ w

    one = torch.ones(1, *SHAPE, dtype=F64)
    process = MatrixProcess.sampled(
        lambda time: turned(inner.drift(one, torch.tensor([time], dtype=F64))[0]),
        lambda time: turned(inner.dispersion(one, torch.tensor([time], dtype=F64))[0]),
        64,
        SHAPE,
    )
    x = torch.randn(3, *SHAPE, dtype=F64)
    torch.testing.assert_close(process.marginal(x, t)[0], rotated.marginal(x, t)[0].detach(), rtol=0, atol=1e-8)
    kernel = process.covariance(t)
    for k in range(3):
        scale = rotated.coefficients(x[:1], t[k : k + 1])[1]
        b = matrix(lambda v, scale=scale: scale.apply(v))
        torch.testing.assert_close(kernel[k], b @ b.T, rtol=0, atol=1e-8)


@pytest.mark.parametrize("process", FAMILIES, ids=lambda config: config if isinstance(config, str) else config["name"])
@pytest.mark.parametrize("bands", [TRANSFORMS[0], TRANSFORMS[4]], ids=lambda config: config["name"])
def test_exact_scores_sample_the_field(field, bands, process) -> None:
    """From the distribution at t_max every family comes back to that at t_min: by DDIM to first order, by Heun
    nearer."""
    built, rotated, inner = setting(field, bands, process, ends=(1.0, 1.0, 1.0))
    score = CoefficientScore(gaussian_score(field.distribution(), built, inner), built.transform)
    first, last = (
        distribution_at(field, rotated, torch.tensor([t], dtype=F64)) for t in (rotated.t_min, rotated.t_max)
    )
    start = images(torch.linalg.cholesky(last).T.contiguous())
    errors = []
    for sampler, steps in ((ddim, 200), (ddim, 400), (heun, 400)):
        rows = sampler(score, rotated, start, time_grid(rotated, steps, "log-snr"))[0].flatten(1).detach()
        errors.append(float((rows.T @ rows - first).norm() / first.norm()))
    assert errors[1] < 0.04
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[2] < errors[1]
