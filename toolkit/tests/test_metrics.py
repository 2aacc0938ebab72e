"""Metrics against closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.stats
import torch

from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_toolkit.metrics import energy_distance, frechet_distance, frechet_from_moments, psnr, sharpness, ssim


def test_psnr_of_a_constant_error() -> None:
    x = torch.rand(3, 2, 4, 4, dtype=torch.float64)
    assert psnr(x, x + 0.1).tolist() == pytest.approx([20.0] * 3)
    assert psnr(255 * x, 255 * x + 5.1, data_range=255).tolist() == pytest.approx([20 * math.log10(50)] * 3)
    assert psnr(x, x).tolist() == [math.inf] * 3


def _ssim_with_scipy(x: np.ndarray, y: np.ndarray, data_range: float) -> float:
    def smooth(image: np.ndarray) -> np.ndarray:
        # truncate chosen so that scipy's radius is 5 pixels: the 11 x 11 window.
        return scipy.ndimage.gaussian_filter(image, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    mx, my = smooth(x), smooth(y)
    vx, vy, cxy = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return float(np.mean((2 * mx * my + c1) * (2 * cxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))))


def test_ssim_agrees_with_scipy_filters() -> None:
    x = torch.rand(2, 3, 16, 20, dtype=torch.float64) * 255
    y = (x + 30 * torch.randn_like(x)).clamp(0, 255)
    expected = [np.mean([_ssim_with_scipy(x[i, c].numpy(), y[i, c].numpy(), 255) for c in range(3)]) for i in range(2)]
    assert ssim(x, y, 255).tolist() == pytest.approx(expected, abs=1e-10)
    assert ssim(x.float(), y.float(), 255).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_of_equal_and_of_shifted_constant_images() -> None:
    x = torch.rand(2, 1, 12, 12, dtype=torch.float64)
    assert ssim(x, x).tolist() == pytest.approx([1.0, 1.0])
    low, high = torch.full((1, 1, 11, 11), 0.2).double(), torch.full((1, 1, 11, 11), 0.6).double()
    assert ssim(low, high).item() == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))
    assert ssim(x[:0], x[:0]).shape == (0,)


def test_frechet_of_gaussians_in_closed_form() -> None:
    mean = torch.tensor([1.0, -2.0])
    # Diagonal covariances commute: the distance is |m|^2 + sum (s_x - s_y)^2 over standard deviations.
    wide, narrow = torch.diag(torch.tensor([4.0, 9.0])), torch.diag(torch.tensor([1.0, 0.0]))
    distance = frechet_from_moments(mean, wide, 0 * mean, narrow)
    assert distance == pytest.approx(5 + 1 + 9)


def test_frechet_agrees_with_scipy_sqrtm() -> None:
    x, y = torch.randn(40, 5).double() @ torch.randn(5, 5).double(), torch.randn(60, 5).double() + 0.3
    sx, sy = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root = scipy.linalg.sqrtm(sx @ sy).real
    expected = np.sum((x.mean(0) - y.mean(0)).numpy() ** 2) + np.trace(sx + sy - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_fewer_points_than_features() -> None:
    x = torch.randn(10, 30)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2) == pytest.approx(30 * 4, rel=1e-6)


def test_energy_distance_agrees_with_scipy_in_one_dimension() -> None:
    x, y = torch.randn(50, 1).double(), torch.randn(70, 1).double() * 2
    expected = scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    for chunk in (7, 1024):
        assert energy_distance(x, y, unbiased=False, chunk=chunk) == pytest.approx(expected, rel=1e-10)


def test_energy_distance_of_four_points_by_hand() -> None:
    x, y = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert energy_distance(x, y, unbiased=False) == pytest.approx(2 * 2.5 - 2.5 - 0)
    assert energy_distance(x, y) == pytest.approx(2 * 2.5 - 5 - 0)
    apart, same = torch.tensor([0, 1]), torch.tensor([0, 0])
    assert energy_distance(x, y, groups=(apart, apart)) == pytest.approx(energy_distance(y, x, groups=(apart, apart)))
    assert energy_distance(x, y, groups=(apart, apart + 2)) == pytest.approx(energy_distance(x, y))
    with pytest.raises(DataError, match="at least 2 groups"):
        energy_distance(x, y, groups=(same, apart))


def test_unbiased_energy_distance_of_equal_distributions_is_zero_in_the_mean(generator: torch.Generator) -> None:
    draws = [
        energy_distance(torch.randn(20, 2, generator=generator), torch.randn(20, 2, generator=generator))
        for _ in range(200)
    ]
    mean, error = float(np.mean(draws)), float(np.std(draws)) / math.sqrt(len(draws))
    assert abs(mean) < 5 * error
    assert error < 0.01


def test_misuse_is_named() -> None:
    with pytest.raises(ShapeError):
        psnr(torch.rand(2, 3), torch.rand(2, 4))
    with pytest.raises(ConfigError):
        psnr(torch.rand(2, 3), torch.rand(2, 3), data_range=0)
    with pytest.raises(ShapeError, match="at least 11"):
        ssim(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8))
    with pytest.raises(DataError):
        frechet_distance(torch.rand(1, 3), torch.rand(5, 3))
    with pytest.raises(DataError):
        energy_distance(torch.rand(1, 3), torch.rand(5, 3))
    with pytest.raises(ShapeError):
        energy_distance(torch.rand(4, 3), torch.rand(5, 2))


def test_sharpness_is_the_mean_square_of_the_laplacian() -> None:
    board = torch.ones(1, 1, 6, 6, dtype=torch.float64)
    board[..., ::2, 1::2] = board[..., 1::2, ::2] = -1
    assert sharpness(torch.cat([board, 0 * board, board / 2])).tolist() == [64, 0, 16]
    assert sharpness(board[:, 0]).tolist() == [64]
    with pytest.raises(ShapeError, match="at least 3"):
        sharpness(board[..., :2])
