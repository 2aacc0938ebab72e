"""Settings of the geometry of a decoder. No torch here."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from scorefold_toolkit.config.common import SolvedConfig, SolverConfig


class DecoderGeometryConfig(SolvedConfig):
    """Codes measured by what a decoder makes of them."""

    target: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function from codes (B, dimension) to events, in place of a model",
    )
    dimension: int | None = Field(None, ge=1, description="Coordinates of a code, where 'target' is given")
    decoding: dict[str, Any] = Field(
        default_factory=dict, description="Options of the model's 'decode' by the names that it knows, such as steps"
    )

    solver: SolverConfig = Field(SolverConfig(tolerance=1e-10), description="Settings of the solver")

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        for old, new in (("tolerance", "solver: {tolerance: 1e-10}"), ("nodes", "solver: {points: 64}")):
            if isinstance(values, dict) and old in values:
                raise ValueError(f"there is no setting {old!r} any more, since all geometries have one solver; {new}")
        return values

    @model_validator(mode="after")
    def _both(self) -> DecoderGeometryConfig:
        if (self.target is None) != (self.dimension is None):
            raise ValueError("target names a function and dimension the size of its codes: set both, or neither")
        return self
