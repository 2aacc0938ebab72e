"""What a component is used for: answers to inputs that fit it or, of a plugin's own kind, a stage of the kind."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from scorefold.interfaces.capabilities import Encodes
from scorefold_testing.answers import answers_of, inputs_of, knows
from scorefold_testing.contract import Subject
from scorefold_testing.verb import Plan, numbers, plan_of_component


def use(subject: Subject, obj: Any = None) -> dict[str, Tensor]:
    """What an object answers, by name; without one the example is built.

    Raises ``NotApplicableError`` where the kit knows no use of it.
    """
    obj = subject.build() if obj is None else obj
    if knows(subject, obj):
        return answers_of(subject.component.kind, obj, inputs_of(obj, subject), subject.generator("use"))
    plan = plan_of_component(subject)
    return numbers(plan.done(obj, plan.inputs_of(subject.host)))
