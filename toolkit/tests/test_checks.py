"""Answers of another type are reported with the component that gave them."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import PluginError
from scorefold.results import Estimate
from scorefold_toolkit.checks import answer_of, values_of


class Here:
    def point_estimate(self) -> float:
        return 3.0


class Elsewhere(Here):
    elsewhere: ClassVar[bool] = True

    def __repr__(self) -> str:
        return "<estimator:mine; in environment old>"


def test_an_answer_of_another_type_names_the_method_and_its_line() -> None:
    with pytest.raises(PluginError) as refused:
        answer_of(Here().point_estimate, Estimate, stage="d")
    assert refused.value.message == (
        f"point_estimate of {__name__}:Here returned a float in stage 'd'; expected an Estimate"
    )
    assert f"{__file__}:{Here.point_estimate.__code__.co_firstlineno}" in str(refused.value.hint)


def test_a_component_of_another_process_has_no_line_here() -> None:
    with pytest.raises(PluginError) as refused:
        answer_of(Elsewhere().point_estimate, Estimate)
    assert refused.value.message == (
        "point_estimate of <estimator:mine; in environment old> returned a float; expected an Estimate"
    )
    assert refused.value.hint == "end point_estimate with 'return Estimate(...)', from scorefold.results"


def test_a_method_that_does_not_take_its_arguments_is_named() -> None:
    class Narrow:
        def estimate(self, data: object) -> Estimate:
            return Estimate("mean", len(data))  # type: ignore[arg-type]

    with pytest.raises(
        PluginError, match=r"estimate of .*Narrow can't be called in stage 'd': .*'generator'"
    ) as caught:
        answer_of(Narrow().estimate, Estimate, [1], generator=None, stage="d")
    assert "with 'def estimate(self, value, *, generator)'" in str(caught.value.hint)
    with pytest.raises(TypeError, match="has no len"):
        answer_of(Narrow().estimate, Estimate, 3)


def test_values_have_one_number_for_each_point() -> None:
    class Model:
        def log_prob(self, x: Tensor) -> Tensor:
            return x.sum(1)

    assert values_of(Model().log_prob, 3, torch.ones(3, 2)).tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(
        PluginError, match=r"log_prob of .*Model returned the shape \(3,\) for 4 points; expected \(4,\)"
    ) as caught:
        values_of(Model().log_prob, 4, torch.ones(3, 2))
    assert f"{__file__}:{Model.log_prob.__code__.co_firstlineno}" in str(caught.value.hint)


def test_a_wrong_answer_names_the_module_of_the_right_one() -> None:
    class Source:
        def load(self, split: str) -> list[float]:
            return [1.0]

    with pytest.raises(PluginError, match="returned a list; expected a Dataset") as caught:
        answer_of(Source().load, Dataset, "test")
    assert "'return Dataset(...)', from scorefold.data" in str(caught.value.hint)
