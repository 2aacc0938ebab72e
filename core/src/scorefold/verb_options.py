"""The options of core's verbs, as a run file writes them under ``options``. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from scorefold.config import Config


class SampleOptions(Config):
    """How many samples to draw, and how."""

    n: int = Field(64, ge=1, description="Draws; for each condition where conditions are given")
    steps: int = Field(100, ge=1, description="Steps of the sampler (score models)")
    sampler: Literal["euler-maruyama", "predictor-corrector", "heun", "ddim", "dpmpp-2m"] = Field(
        "dpmpp-2m", description="Sampler (score models)"
    )
    guidance: float = Field(1.0, ge=0, description="Weight of the conditional score against the unconditional one")
    temperature: float = Field(1.0, ge=0, description="Scale of the base's deviations (flows)")
    conditions: int = Field(8, ge=1, description="How many conditions of the condition data to draw for")


class LikelihoodOptions(Config):
    """How to evaluate log-likelihoods."""

    limit: int = Field(256, ge=1, description="Largest number of points to evaluate")
    batch_size: int = Field(128, ge=1, description="Points evaluated at once")
    trace: Literal["exact", "hutchinson"] = Field("hutchinson", description="Trace of the Jacobian (score models)")
    probes: int = Field(4, ge=1, description="Probe vectors of the Hutchinson trace")
    tolerance: float = Field(1e-4, gt=0, description="Relative and absolute tolerance of the ODE solver")


class InterpolateOptions(Config):
    """Geodesics between pairs of data points."""

    pairs: int = Field(8, ge=1, description="Pairs of points, drawn from the data without replacement")
    times: int = Field(9, ge=2, description="Points on each geodesic, its ends included")


class EstimateOptions(Config):
    """Which points to estimate from."""

    limit: int | None = Field(None, ge=1, description="Largest number of points, the first of the split; null for all")


class EncodeOptions(Config):
    """Which points to encode."""

    limit: int | None = Field(None, ge=1, description="Largest number of points, the first of the split; null for all")
    batch_size: int = Field(256, ge=1, description="Points encoded at once")


class AllocateOptions(Config):
    """What may be spent, and under which constraints."""

    budget: int = Field(ge=0, description="Labels to spend")
    constraints: dict[str, Any] = Field(default_factory=dict, description="Bounds, by the allocator's names")
