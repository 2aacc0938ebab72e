"""Configurations of the tiny components."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from scorefold.config import Config, Inline, TrainingConfig, Use


class PointsConfig(Config):
    points: int = Field(60, ge=3, description="Points in all")
    path: Path | None = Field(None, description="A file whose first number shifts the points")


class NetConfig(Config):
    table: Path | None = Field(None, description="A file that the network is made from")
    width: int = Field(4, ge=1, description="Hidden units")


class ModelConfig(Config):
    net: Inline("network") = Use(use="network:tiny")  # type: ignore[valid-type]
    pause: float = Field(0.0, ge=0, description="Seconds that each step takes longer")
    training: TrainingConfig = Field(
        default_factory=lambda: TrainingConfig(steps=20, batch_size=8, checkpoint_every=5, log_every=5, warmup=0),
        description="How it is trained",
    )


class MeanConfig(Config):
    table: Path | None = Field(None, description="A file that the answer is made from")
    scale: float = Field(1.0, gt=0, description="Multiplies the answer")


class FaultConfig(Config):
    kind: str = Field(
        "value", description="What goes wrong: data, value, figures, exit, end, odd, nothing, text, halves"
    )
