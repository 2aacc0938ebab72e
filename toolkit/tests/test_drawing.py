"""The conditions of points in the shape that a model takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold_toolkit.drawing import condition_of


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
