"""The conditions of points in the shape that a model takes, and draws whose second half has opposite noise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.random import draw_normal, draw_uniform
from scorefold_toolkit.drawing import condition_of, draw_opposite


def test_columns_get_the_shape_of_the_condition() -> None:
    model: Any = SimpleNamespace(condition_spec=TensorSpec((2, 3)))
    columns = torch.arange(12.0).reshape(2, 6)
    given = condition_of(model, Dataset(torch.zeros(2, 1), columns))
    assert torch.equal(given, columns.reshape(2, 2, 3))
    with pytest.raises(DataError, match=r"has 5 numbers; the model takes 6, of shape \(2, 3\)") as found:
        condition_of(model, Dataset(torch.zeros(2, 1), columns[:, :5]))
    assert "condition: [...]" in str(found.value.hint)
    with pytest.raises(ConfigError, match="trained with conditions") as absent:
        condition_of(model, Dataset(torch.zeros(2, 1)))
    assert "any numbers can stand" in str(absent.value.hint)


LIKE = torch.zeros((), dtype=torch.float64)


def curved(generator: torch.Generator) -> torch.Tensor:
    """An odd and an even function of the noise, and what is uniform: (3, 5)."""
    z = draw_normal((5,), generator=generator, like=LIKE)
    return torch.stack([z + z**3, z**2, draw_uniform((5,), generator=generator, like=LIKE)])


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_the_second_half_of_draws_has_the_opposite_noise_of_the_first(n: int) -> None:
    generator, fresh = (torch.Generator().manual_seed(4) for _ in range(2))
    found = draw_opposite(curved, n, generator)
    first = n - n // 2
    assert torch.equal(found[:first], torch.stack([curved(fresh) for _ in range(first)]))
    expected = found[: n // 2] * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)[:, None]
    assert torch.equal(found[first:], expected)
    assert torch.equal(generator.get_state(), fresh.get_state())  # what is drawn next is as after the first half


def test_draws_that_have_no_sign_are_independent() -> None:
    """Such as draws of a third party by ``torch.randn``: a second one from the same noise would say nothing new."""

    def draw(generator: torch.Generator) -> torch.Tensor:
        return torch.randn(3, generator=generator)

    generator, fresh = (torch.Generator().manual_seed(4) for _ in range(2))
    assert torch.equal(draw_opposite(draw, 5, generator), torch.stack([draw(fresh) for _ in range(5)]))
    sure = draw_opposite(lambda source: torch.ones(2), 4, generator)
    assert torch.equal(sure, torch.ones(4, 2))
