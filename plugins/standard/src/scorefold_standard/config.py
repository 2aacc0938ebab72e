"""Configs of the simplest geometry and allocator. No torch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from scorefold.config import Config


class EuclideanConfig(Config):
    """Euclidean space."""

    event_shape: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None,
        min_length=1,
        description="The shape of an event, such as [3] or [1, 8, 8]; null takes it from the data plugged in",
    )


class UniformConfig(Config):
    """The same number of labels for every task."""

    task_types: tuple[str, ...] = Field(("task",), min_length=1, description="The types of task that share the budget")
    support: int = Field(5, ge=1, description="Support examples a task")
    query: int = Field(5, ge=0, description="Query examples a task")

    @model_validator(mode="after")
    def _distinct(self) -> UniformConfig:
        if len(set(self.task_types)) != len(self.task_types):
            raise ValueError("task_types names a type twice")
        return self
