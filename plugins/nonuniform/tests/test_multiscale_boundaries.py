"""Where bands end and enter: what a boundary costs, what a budget sets, and the moments that bands have there."""

from __future__ import annotations

import math

import pytest
import torch
from multiscale_toys import F64, field, model

from scorefold.data import Dataset, DataSpec, EventScale
from scorefold.diffusion import time_grid
from scorefold.errors import ConfigError, DataError
from scorefold_nonuniform.bands.coefficients import build_bands
from scorefold_nonuniform.bands.speeds import boundary_cost, noisiest
from scorefold_nonuniform.config import MultiScaleConfig
from scorefold_nonuniform.gaussian_field import coefficient_moments


@pytest.mark.parametrize("matched", [True, False])
def test_the_cost_of_a_boundary_is_bounded(matched: bool) -> None:
    """Against the exact KL of the Gaussian field, correlations across bands and all; it falls like e^lam."""
    source, bands = field(), build_bands(MultiScaleConfig().bands, (1, 8, 8)).double()
    _, sigma = coefficient_moments(source.distribution(), bands)
    first = (bands.index == 0).flatten()
    energy, costs = sigma.diagonal()[first], []
    for lam in (-4.0, -6.0, -8.0, -10.0):
        levels = torch.tensor([lam, lam + 20 / 3, lam + 40 / 3], dtype=F64)[bands.index].flatten()
        signal, noise = torch.sigmoid(levels).sqrt(), torch.sigmoid(-levels)
        noised = signal[:, None] * sigma * signal + torch.diag(noise)
        prior = signal[first] ** 2 * energy + noise[first] if matched else torch.ones(int(first.sum()), dtype=F64)
        split = noised.clone()
        split[first], split[:, first] = 0, 0
        split[first, first] = prior
        difference = torch.linalg.solve(split, noised)
        kl = (difference.trace() - 64 - torch.linalg.slogdet(difference).logabsdet) / 2
        bound = boundary_cost(torch.tensor(lam, dtype=F64), energy, matched=matched)
        assert 0 < float(kl) <= float(bound)
        costs.append(float(bound))
    torch.testing.assert_close(torch.tensor(costs[2]) / costs[3], torch.tensor(math.e**2), rtol=0.05, atol=0)
    lam = noisiest(energy, 0.01, matched=matched)
    assert float(boundary_cost(torch.tensor(lam, dtype=F64), energy, matched=matched)) == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize("sets", ["noise", "ends"])
@pytest.mark.parametrize("boundary", ["matched", "normal"])
def test_a_budget_sets_noise_or_ends(sets: str, boundary: str) -> None:
    source = field()
    built = model(source, boundary=boundary, boundary_kl=0.3, budget_sets=sets)
    plain = model(source, boundary=boundary)
    built.prepare(source.load("train"), torch.Generator())
    z = torch.zeros(1, 1, 8, 8)
    ends = built.ends.tolist()
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(1)
    assert (ends == plain.ends.tolist()) == (sets == "noise")
    total = 0.0
    for band, end in enumerate(ends):
        lam = built.coefficients.levels(torch.tensor([end]))[0, band].double()
        energy = built.moments.variance + (0 if boundary == "matched" else built.moments.mean**2)
        total += float(boundary_cost(lam, energy[built.bands.index == band].double(), matched=boundary == "matched"))
    assert total <= 0.3 * (1 + 1e-4)
    if sets == "noise":
        assert total == pytest.approx(0.3, rel=1e-4)
    assert len(time_grid(built.process, 9)) == 10
    assert torch.isfinite(built.score(z, torch.tensor([0.5]))).all()


def test_matched_boundaries_have_the_data_s_moments() -> None:
    source = field()
    built = model(source)
    built.prepare(source.load("train"), torch.Generator())
    z0 = built.bands.transform(source.load("train").x)
    signal, scale = built.coefficients.coefficients(z0[:1], torch.ones(1))
    mean, deviation = built.coefficients.prior(z0)
    torch.testing.assert_close(mean, signal[0] * z0.mean(0))
    torch.testing.assert_close(deviation**2, signal[0] ** 2 * z0.var(0, correction=0) + scale[0] ** 2)


def test_noise_relative_to_the_data_is_so_in_either_construction() -> None:
    source = DataSpec((1, 8, 8), EventScale(std=0.1))
    relative = {"name": "ve", "relative": True, "sigma_min": 0.01, "sigma_max": 2.0}
    for settings in ({}, {"construction": "published", "boundary": "normal"}):
        _, scale = model(source, process=relative, **settings).coefficients.block_coefficients(torch.ones(1))
        torch.testing.assert_close(scale, torch.full((1, 3), 2.0 * 0.1 * 8))


def test_a_band_that_never_changes_is_refused() -> None:
    built = model()
    with pytest.raises(DataError, match="the band d1 is the same in all 20 training points"):
        built.prepare(Dataset(torch.randn(20, 1, 1, 1).expand(20, 1, 8, 8).contiguous()), torch.Generator())


def test_a_band_of_nothing_but_rounding_is_refused() -> None:
    """20 points have 19 principal axes; the others are 0 to rounding."""
    built = model(bands={"name": "pca", "groups": 3})
    with pytest.raises(DataError, match="the band g1 is the same in all 20 training points"):
        built.prepare(Dataset(torch.randn(20, 1, 8, 8)), torch.Generator())


def test_a_budget_that_leaves_nothing_to_learn_is_refused() -> None:
    source = field()
    built = model(source, boundary_kl=1e6)
    with pytest.raises(ConfigError, match="lower boundary_kl"):
        built.prepare(source.load("train"), torch.Generator())
