"""Config models refuse what no run could use, before torch is imported."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from scorefold.config import ProcessConfig, TrainingConfig

process = TypeAdapter(ProcessConfig)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "ve", "sigma_min": 5, "sigma_max": 1}, "sigma_max is 1; expected more than sigma_min, 5"),
        ({"name": "ve", "sigma_min": 1, "sigma_max": 1}, "expected more than sigma_min"),
        ({"name": "vp", "beta_min": 3, "beta_max": 1}, "beta_max is 1; expected at least beta_min, 3"),
        ({"name": "subvp", "beta_min": 3, "beta_max": 1}, "beta_max is 1"),
        ({"name": "edm", "sigma_min": 3, "sigma_max": 1}, "sigma_max is 1; expected more than sigma_min, 3"),
        ({"name": "cosine", "lam_min": 10}, "lam_max is 10; expected more than lam_min, 10"),
        ({"name": "log-snr", "lam_max": -11}, "lam_max is -11; expected more than lam_min, -10"),
        ({"name": "ve", "sigma_max": math.inf}, "finite"),
        ({"name": "vp", "beta_max": math.nan}, "finite"),
        ("veep", "veep"),
    ],
)
def test_a_process_that_cannot_be_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        process.validate_python(given)


def test_a_bare_name_is_a_process_with_its_defaults() -> None:
    assert process.validate_python("vp") == process.validate_python({"name": "vp"})


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        TrainingConfig(weight_decay=value)
