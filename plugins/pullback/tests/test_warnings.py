"""Warnings about an auto-encoder's dimension and bound, by numbers on both sides of where each begins."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scorefold_pullback.autoencoder.bound import ErrorBound, warnings_of_bound, warnings_of_variances

OTHERS = "the points are not of the flow's distribution"


@pytest.mark.parametrize(
    ("variances", "measured", "rank", "share", "said"),
    [
        ((1.0, 0.8, 0.02), (1.0, 0.8, 0.02), 2, 0.1, []),
        ((0.5, 0.5), (9.0, 0.1), 2, 0.1, ["all variances of the flow's base are equal"]),
        ((0.5,), (0.5,), 1, 0.1, []),
        ((1.0, 0.2), (1.9, 0.38), 2, 0.1, []),
        ((1.0, 0.2), (2.1, 0.4), 2, 0.1, [f"{OTHERS}: their latent variance is 2.08 times"]),
        ((1.0, 0.2), (0.52, 0.1), 2, 0.1, []),
        ((1.0, 0.2), (0.48, 0.1), 2, 0.1, [f"{OTHERS}: their latent variance is 0.483 times"]),
        ((1.0, 0.02), (1.0, 0.058), 1, 0.1, []),
        ((1.0, 0.02), (1.0, 0.062), 1, 0.1, ["1.04 times the base's in all, and 2.05 times on average"]),
        ((1.0, 0.8, 0.02), (1.5, 0.4, 0.02), 1, 0.1, ["2 would be kept, and not 1"]),
        ((1.0, 0.8, 0.02), (1.5, 0.05, 0.02), 2, 0.1, ["1 would be kept, and not 2"]),
        ((1.0, 0.8, 0.02), (1.5, 0.184, 0.02), 2, 0.1, []),
        ((1.0, 0.8, 0.02), (1.5, 0.4, 0.02), 1, None, []),
        ((1.0, 0.8, 0.02), (4.5, 0.4, 0.02), 1, None, [OTHERS]),
    ],
)
def test_variances_of_points(
    variances: tuple[float, ...], measured: tuple[float, ...], rank: int, share: float | None, said: list[str]
) -> None:
    found = warnings_of_variances(torch.tensor(variances).double(), torch.tensor(measured).double(), rank, share)
    assert len(found) == len(said), found
    assert all(part in text for part, text in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("error", "changes", "said"),
    [
        (1.29, {}, []),
        (1.31, {}, ["the mean squared error, 1.31, is above the bound, 1. "]),
        (1.31, {"theorem": 2.0}, []),
        (1.31, {"theorem": None}, []),
        (2.31, {"theorem": None}, ["is above the bound, 2. "]),
        (1.31, {"theorem": 0.0}, []),
        (0.5, {"volume_spread": 0.51}, ["log |det J| differs by 0.51 from point to point"]),
        (0.5, {"volume_spread": 0.51, "log_constant": None}, []),
    ],
)
def test_errors_beside_their_bound(error: float, changes: dict[str, Any], said: list[str]) -> None:
    """The standard error is 0.1, so that a mean may be 0.3 above the bound."""
    given: dict[str, Any] = {"theorem": 1.0, "corollary": 2.0, "log_constant": 0.0, "volume_spread": 0.49, **changes}
    found = warnings_of_bound(error, 0.1, ErrorBound(9, beta=0.1, lipschitz=1.0, **given))
    assert len(found) == len(said), found
    assert all(part in text for part, text in zip(said, found, strict=True))
