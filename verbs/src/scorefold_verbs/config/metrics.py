"""The settings of metrics. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config


class NeighboursConfig(Config):
    """Number of neighbours of the balls."""

    precision_neighbours: int = Field(3, ge=1, description="Of precision and recall (3 in the paper)")
    density_neighbours: int = Field(5, ge=1, description="Of density and coverage (5 in the paper)")


class TARPConfig(Config):
    """The random points of TARP."""

    references: int = Field(8, ge=1, description="Random points for each truth, each a test of its own")
    seed: int = Field(0, ge=0, description="Seed of the random points, and of ties")
    warns_below: float = Field(1e-3, gt=0, lt=1, description="The p-value below which there is a warning")


class LC2STConfig(Config):
    """The classifier of LC2ST, and how often truth and draw are exchanged."""

    exchanges: int = Field(
        100, ge=19, description="Trainings with truth and draw exchanged at random; the least p-value is 1 over 1 more"
    )
    classifier: Literal["quadratic", "mlp"] | None = Field(
        None,
        description="Logistic regression on numbers, their squares and products (quadratic), or a network (mlp); null "
        "is quadratic up to 40 numbers of event and condition together",
    )
    width: int = Field(32, ge=1, description="Units in each of the network's two hidden layers (mlp)")
    iterations: int = Field(100, ge=1, description="Passes over the pairs, at most (mlp)")
    seed: int = Field(0, ge=0, description="Seed of the classifier and of the exchanges")
    warns_below: float = Field(0.01, gt=0, lt=1, description="The p-value below which there is a warning")


class C2STConfig(Config):
    """Samples for the classifier: their number and choice."""

    draws: int = Field(
        10_000, ge=50, description="Draws of the model and of the reference for each condition (10,000 as published)"
    )
    within: tuple[float, float] | None = Field(
        None,
        description="The ends of a prior that is uniform in each coordinate, such as [-1, 1]: draws outside are left "
        "out; ask for more draws than are compared (n of assess)",
    )
    seed: int = Field(1, ge=0, description="Seed of the classifier and of the five parts (1 as published)")

    @model_validator(mode="after")
    def _in_order(self) -> C2STConfig:
        if self.within is not None and self.within[0] >= self.within[1]:
            raise ValueError(f"within is {list(self.within)}; expected two ends, the lower first, such as [-1, 1]")
        return self
