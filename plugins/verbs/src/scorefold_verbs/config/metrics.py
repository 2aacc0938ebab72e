"""The settings of metrics. No torch here."""

from __future__ import annotations

from pydantic import Field

from scorefold.config import Config


class NeighboursConfig(Config):
    """How many neighbours make the balls."""

    precision_neighbours: int = Field(3, ge=1, description="Of precision and recall (3 in the paper)")
    density_neighbours: int = Field(5, ge=1, description="Of density and coverage (5 in the paper)")
