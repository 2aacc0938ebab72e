"""Data in other units than in training, on both sides of where a warning begins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold_registry.run.applying import unit_warnings

TRAINED = EventScale(shift=(10.0, -5.0), factor=(2.0, 100.0))
X = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).repeat(10, 1)
IMAGES = EventScale(low=0.0, high=1.0, mean=0.5, std=0.2)
PIXELS = torch.tensor([0.3, 0.7]).repeat(4)[:, None, None, None].expand(-1, 1, 2, 2)


@pytest.mark.parametrize(
    ("trained", "x", "said"),
    [
        (TRAINED, X, []),
        (TRAINED, X[:0], []),
        (TRAINED, 2.9 * X, []),
        (TRAINED, 3.1 * X, ["the data is 3.1 times"]),
        (TRAINED, X / 2.9, []),
        (TRAINED, X / 3.1, ["the data is 0.323 times"]),
        (TRAINED, 3.1 * X[:8], []),
        (TRAINED, torch.ones(20, 2), []),
        (TRAINED, X + torch.tensor([0.0, 2.9]), []),
        (TRAINED, X + torch.tensor([0.0, 3.1]), ["column 1 has mean 305 for -5 (columns from 0)"]),
        (TRAINED, X - torch.tensor([4.0, 5.0]), ["column 1 has mean -505 for -5, column 0 has mean 2 for 10"]),
        (EventScale(), X.repeat(1, 3) + 9, ["column 2 has mean 9 for 0 and 3 more columns"]),
        (IMAGES, PIXELS, []),
        (IMAGES, PIXELS + 0.59, []),
        (IMAGES, PIXELS + 0.61, ["have mean 1.11 and the model's training data 0.5"]),
    ],
)
def test_data_are_warned_of(trained: EventScale, x: Tensor, said: list[str]) -> None:
    found = unit_warnings(trained, x)
    assert len(found) == len(said), found
    assert all(part in text for part, text in zip(said, found, strict=True))
