"""Settings of the geometries. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorefold.config import Config

Metric = Literal["score", "whitened", "latent"]


class PullbackConfig(Config):
    """Score-based pullback geometry."""

    metric: Metric = Field(
        "score",
        description="What Euclidean space is pulled back through: grad psi of the flow (score; A^-1 phi), the flow "
        "over the deviations of a quadratic psi (whitened; A^-1/2 phi), or the flow alone (latent; phi). With a "
        "quadratic psi geodesics, transport and means are the same in all three, distances are not",
    )


class IsoPullbackConfig(PullbackConfig):
    """Iso-Riemannian geometry: the curves of a pullback geometry, at constant Euclidean speed."""

    panels: int = Field(8, ge=1, description="Pieces of a curve on which its length is integrated")
    nodes: int = Field(8, ge=2, le=64, description="Gauss-Legendre nodes in each piece")
    iterations: int = Field(100, ge=1, description="Most steps towards a barycentre")
