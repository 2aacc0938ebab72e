"""The caution about neighbours at nearly one distance, as windows of a periodic series without noise have."""

from __future__ import annotations

import pytest
import torch

from scorefold.data import Dataset
from scorefold_registry import Host

WINDOW = 8


def said(host: Host, x: torch.Tensor) -> bool:
    answer = host.create("estimator:mle").estimate(Dataset(x))
    return any("two neighbours at nearly one distance" in text for text in answer.diagnostics.get("warnings", ()))


@pytest.mark.parametrize(("noise", "warned"), [(0.0, True), (0.1, False)])
def test_windows_of_a_sine_without_noise_are_warned_of(host: Host, noise: float, warned: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    times = 0.1234567 * torch.arange(1500, dtype=torch.float64)
    series = times.sin() + noise * torch.randn(1500, generator=generator, dtype=torch.float64)
    assert said(host, series.unfold(0, WINDOW, 1)) == warned


@pytest.mark.parametrize("small", [1, 2])
def test_parts_of_unlike_dimension_and_near_copies_are_not_warned_of(host: Host, small: int) -> None:
    x = torch.rand(2000, 10, generator=torch.Generator().manual_seed(small), dtype=torch.float64)
    x[:5] = x[5:10] + 1e-7
    assert not said(host, x)
    x[::2, small:] = 0
    assert not said(host, x)


@pytest.mark.parametrize("size", [1, 2, 10])
def test_cubes_are_not_warned_of(host: Host, size: int) -> None:
    for seed in range(3):
        assert not said(host, torch.rand(500, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
