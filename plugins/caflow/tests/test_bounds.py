"""The bounds of factorisations on Gaussian pairs, and the pairs themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_caflow.config import EncoderConfig, GaussianPairsConfig
from scorefold_caflow.flow.translation import Encoder
from scorefold_caflow.gaussian_pairs import GaussianPairs, gaussian_pair, structural_bounds


def haar(size: int, scales: int) -> Encoder:
    config = EncoderConfig(steps=0, transitions=0)
    return Encoder((1, size, size), scales, config, squeeze="haar", recompute="no").double()


def latents_of(encoder: Encoder):
    return lambda x: encoder(x)[0]


@pytest.mark.parametrize(
    ("config", "scales", "expected"),
    [
        ({"size": 8, "length": 3, "factor": 2}, 2, (0.7498, 0.7498, 0.7948, 1.3677)),
        ({"size": 16, "length": 4, "factor": 4}, 3, (0.9438, 0.9438, 1.0183, 1.1573)),
    ],
)
def test_bounds_with_haar_encoders(config, scales, expected) -> None:
    pair = gaussian_pair(GaussianPairsConfig(**config))
    split = latents_of(haar(config["size"], scales))
    shape = (1, config["size"], config["size"])
    found = structural_bounds(pair, split, split, shape, shape)
    values = (found.true, found.caflow, found.dual_glow, found.unconditional)
    assert values == pytest.approx(expected, abs=5.1e-5)
    assert found.true < found.caflow + 1e-12 < found.dual_glow
    assert found.standard_error(3000) == pytest.approx(1 / (math.log(2) * math.sqrt(2 * found.dimension * 3000)))


def test_bounds_of_a_half_mask_and_of_any_linear_encoder() -> None:
    pair = gaussian_pair(GaussianPairsConfig(size=8, task="inpainting"))
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(64, 64, generator=generator, dtype=torch.float64)

    def mixed(x: Tensor) -> list[Tensor]:
        rows = x.flatten(1) @ mixing.mT
        return [rows[:, :16], rows[:, 16:]]

    shape = (1, 8, 8)
    ours = structural_bounds(pair, latents_of(haar(8, 2)), latents_of(haar(8, 2)), shape, shape)
    other = structural_bounds(pair, mixed, mixed, shape, shape)
    # What is not restricted does not depend on the encoder, whatever its volume.
    assert other.true == pytest.approx(ours.true, abs=1e-9)
    assert other.unconditional == pytest.approx(ours.unconditional, abs=1e-9)
    assert other.true < other.caflow < other.dual_glow


def test_bounds_refuse_what_is_not_linear() -> None:
    pair = gaussian_pair(GaussianPairsConfig(size=8))
    split = latents_of(haar(8, 2))
    with pytest.raises(ConfigError, match="not linear"):
        structural_bounds(pair, lambda x: [x.flatten(1).tanh()], split, (1, 8, 8), (1, 8, 8))
    # Its own negative comes back from no negative, though twice an image gives twice its latents.
    with pytest.raises(ConfigError, match="not linear"):
        structural_bounds(pair, lambda x: [x.flatten(1) + x.flatten(1).relu()], split, (1, 8, 8), (1, 8, 8))
    with pytest.raises(ConfigError, match="as many"):
        structural_bounds(pair, lambda x: [x.flatten(1)], split, (1, 8, 8), (1, 8, 8))
    mean = torch.eye(64, dtype=torch.float64) - 1 / 64  # takes the mean away: singular but for rounding
    for singular in (lambda x: [0 * x], lambda x: [x.flatten(1) @ mean], lambda x: [x.flatten(1)[:, :63]]):
        with pytest.raises(ConfigError, match="not invertible"):
            structural_bounds(pair, singular, lambda x: [x], (1, 8, 8), (1, 8, 8))
    with pytest.raises(ConfigError, match=r"conditions of shape \(1, 4, 4\) .* 64 pixels"):
        structural_bounds(pair, split, split, (1, 8, 8), (1, 4, 4))


def test_pairs_follow_their_distribution() -> None:
    source = GaussianPairs(GaussianPairsConfig(size=4, points=40_000, seed=0))
    data = source.load("train")
    w, y = data.x.flatten(1).double(), data.condition.flatten(1).double()
    covariance = torch.cat((w, y), 1).T.cov()
    assert torch.allclose(covariance, source.pair.joint, atol=0.05)
    mean, rest = source.pair.given(y)
    assert torch.allclose((w - mean).T.cov(), rest, atol=0.02)
    bits = -data.truth["log_density"].mean() / (16 * math.log(2))
    split = latents_of(haar(4, 1))
    bounds = structural_bounds(source.pair, split, split, (1, 4, 4), (1, 4, 4))
    assert float(bits) == pytest.approx(bounds.true, abs=5 * bounds.standard_error(len(w)))


def test_a_factor_divides_the_size() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        GaussianPairsConfig(size=8, factor=3)
