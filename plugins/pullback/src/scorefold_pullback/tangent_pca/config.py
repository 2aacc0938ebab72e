"""The config of ``estimator:tangent-pca``. No torch here."""

from __future__ import annotations

from pydantic import Field

from scorefold.config import Config


class TangentPCAConfig(Config):
    """Dimension by principal geodesics."""

    unexplained: float = Field(
        0.05, ge=0, le=1, description="Largest share of the Fréchet variance that the dropped directions may hold"
    )
    resamples: int = Field(100, ge=0, description="Bootstrap resamples of the points for the interval; 0 for none")
    level: float = Field(0.95, gt=0, lt=1, description="Mass of the interval")
