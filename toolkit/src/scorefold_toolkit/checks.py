"""What several methods refuse alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from scorefold.errors import ConfigError
from scorefold.interfaces.capabilities import Trainable


def check_trained(part: object, name: str, user: str) -> None:
    """Raises ``ConfigError`` where ``part``, which ``user`` takes as its input ``name``, should have been trained and
    wasn't.

    A module is in training mode as it is built; training ends, and a loaded state starts, in evaluation mode. One whose
    training has no steps is meant as it was built.
    """
    if not (isinstance(part, nn.Module) and isinstance(part, Trainable)):
        return
    if part.training and part.training_config.steps > 0:
        raise ConfigError(
            f"{name}, a {type(part).__name__}, was never trained, and {user} would take it as it was built",
            hint=f"make it a stage of its own, which trains it, and name that stage under inputs.{name}; "
            f"a model that you trained by hand is ready after {name}.eval()",
        )


def require_budget(budget: object) -> None:
    """Raises ``ConfigError`` for a budget that isn't a whole number of at least 0."""
    if _is_not_whole(budget, 0):
        raise ConfigError(f"the budget is {budget!r}; expected a whole number of at least 0")


def require_constraints(constraints: Mapping[str, Any], least: Mapping[str, int]) -> None:
    """Raises ``ConfigError`` for a constraint that ``least`` does not name, and for one that isn't a whole number of at
    least what it says."""
    for name, value in constraints.items():
        if name not in least:
            raise ConfigError(f"there is no constraint {name!r}; there are {', '.join(least)}")
        if _is_not_whole(value, least[name]):
            raise ConfigError(f"constraint {name!r} is {value!r}; expected a whole number of at least {least[name]}")


def _is_not_whole(value: object, least: int) -> bool:
    return isinstance(value, bool) or not isinstance(value, int) or value < least
