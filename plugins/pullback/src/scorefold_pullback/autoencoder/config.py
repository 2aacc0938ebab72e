"""The config of ``estimator:riemannian-autoencoder``. No torch here."""

from __future__ import annotations

from pydantic import Field, model_validator

from scorefold.config import Config


class RiemannianAutoencoderConfig(Config):
    """Number of latent coordinates to keep: by the share of the variance that may be lost, or by number."""

    unexplained: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest share of the base's variance that the dropped coordinates may hold; null for 0.1, as in "
        "the paper, unless a dimension is given",
    )
    dimension: int | None = Field(None, ge=1, description="Number of coordinates to keep; null to go by unexplained")
    batch_size: int = Field(256, ge=1, description="Points encoded at once")
    curve_points: int = Field(
        500, ge=2, description="Points, the first of the data, that the reconstruction curves are measured on"
    )
    bound_points: int = Field(
        128, ge=1, description="Points, the first of the data, that the constants of the error bound are taken over"
    )

    @model_validator(mode="after")
    def _one_rule(self) -> RiemannianAutoencoderConfig:
        if self.unexplained is not None and self.dimension is not None:
            raise ValueError(
                f"unexplained is {self.unexplained:g} and dimension is {self.dimension}; expected one of them"
            )
        return self

    @property
    def share(self) -> float:
        """The share that ``unexplained`` comes to."""
        return 0.1 if self.unexplained is None else self.unexplained
