"""The configs of the plugin for tests."""

from __future__ import annotations

from pydantic import Field

from scorefold.config import Config, Inline, TrainingConfig, Use


class Empty(Config):
    pass


class PointsConfig(Config):
    count: int = Field(10, ge=1)
    dimension: int = 3
    seed: int | None = None


class LinearConfig(Config):
    scale: float = 1.0


class LearntConfig(Config):
    network: Inline("network") = Use(use="network:linear")
    training: TrainingConfig = TrainingConfig(steps=1)


class HoldingConfig(Config):
    score: Inline("score") = Use(use="score:learnt")
    others: list[Inline("score", needs=("Trainable",))] = Field(())
