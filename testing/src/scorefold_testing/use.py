"""Use of a component: answers to inputs that fit it or, for a plugin's own kind, a stage of the kind."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from scorefold_testing.answers import answers_of, inputs_of, knows
from scorefold_testing.contract import Subject
from scorefold_testing.verb import answers_in, plan_of_component


def use(subject: Subject, obj: Any = None) -> dict[str, Tensor]:
    """Answers of an object, by name; without an object the example is built.

    Raises ``NotApplicableError`` where the kit knows no use of it.
    """
    obj = subject.build() if obj is None else obj
    if knows(subject, obj):
        return answers_of(subject.component.kind, obj, inputs_of(obj, subject), subject.generator("use"))
    return answers_in(plan_of_component(subject), subject.host, obj)
