"""Settings of ``data:sbibm``. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorefold.config import Config
from scorefold_toolkit.config.common import FilePath, Seed


class SbibmConfig(Config):
    """Simulations of a task of sbibm, and the ten observations that its authors published."""

    task: Literal[
        "two-moons", "gaussian-mixture", "gaussian-linear", "gaussian-linear-uniform", "slcp", "bernoulli-glm"
    ] = Field(description="The simulator and its prior")
    simulations: int = Field(10_000, ge=10, description="Simulations to learn from, those for validation included")
    validation: float = Field(0.1, gt=0, lt=1, description="Share of the simulations for validation")
    wheel: FilePath | None = Field(
        None,
        description="The wheel of sbibm (pip download --no-deps sbibm==1.1.0), or a folder with its content; the test "
        "split is then the ten published observations with reference draws of their posteriors. null takes 1,000 "
        "further simulations for the test split",
    )
    seed: Seed = None
