"""Settings of the geometry of a decoder. No torch here."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from scorefold.config import Config


class DecoderGeometryConfig(Config):
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
    tolerance: float = Field(
        1e-5, ge=1e-10, le=1e-2, description="Relative residual of the geodesic equation, at most, along a geodesic"
    )
    nodes: int = Field(1000, ge=10, description="Most points that a geodesic is solved on")

    @model_validator(mode="after")
    def _both(self) -> DecoderGeometryConfig:
        if (self.target is None) != (self.dimension is None):
            raise ValueError("target names a function and dimension the size of its codes: set both, or neither")
        return self
