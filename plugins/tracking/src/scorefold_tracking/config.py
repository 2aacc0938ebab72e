"""Settings of tracking, as a run file gives them under ``plugins: {tracking: ...}``."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from scorefold.config import Config

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""Stores that the small distribution ``mlflow-skinny``, which speaks to servers, can't open."""


def _installed(module: str, product: str) -> None:
    """A library that is missing is reported before hours of training, and not after."""
    if find_spec(module) is None:
        raise ValueError(f"{product} is not installed: pip install 'scorefold-tracking[{module}]'")


class TensorBoardConfig(Config):
    """Content and folder of TensorBoard's event files."""

    directory: Path | None = Field(
        None,
        description="Folder of event files, seen from the run file: a run writes to "
        "DIRECTORY/NAME/TIME-HASH, so that runs stand side by side. Null takes the folder tensorboard of the run",
    )
    figures: bool = Field(True, description="Show the figures of stages as images")


class MLflowConfig(Config):
    """Content for an MLflow server or a local store, and its names there."""

    uri: str | None = Field(
        None,
        min_length=1,
        description="Server or store, as MLflow writes it; null takes MLFLOW_TRACKING_URI, or else a local store",
    )
    experiment: str | None = Field(None, min_length=1, description="Experiment; null takes the name of the run file")
    run_name: str | None = Field(None, min_length=1, description="Run; null takes the name of the run's folder")
    tags: dict[str, str] = Field(default_factory=dict, description="Tags next to the versions, folder and seed")
    artefacts: bool = Field(True, description="Upload the report, and each stage's result.json and figures")
    interval: float = Field(10.0, gt=0, description="Seconds between two batches of metrics")
    timeout: float = Field(
        20.0,
        gt=0,
        description="Seconds that a run waits for the server at its start and at its end; in between it never waits",
    )

    @field_validator("uri")
    @classmethod
    def _reachable(cls, uri: str | None) -> str | None:
        if uri is not None and urlsplit(uri).password is not None:
            raise ValueError(
                "a password does not belong into a run file, which every report repeats: set MLFLOW_TRACKING_USERNAME "
                "and MLFLOW_TRACKING_PASSWORD, or for a database MLFLOW_TRACKING_URI"
            )
        store = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite"
        if store.startswith(_DATABASES) and find_spec("sqlalchemy") is None:
            raise ValueError(
                "a local store needs all of MLflow: pip install 'scorefold-tracking[mlflow-store]', or name a server"
            )
        return uri


class WandbConfig(Config):
    """Content for Weights & Biases, and its names there."""

    project: str | None = Field(None, min_length=1, description="Project; null takes the name of the run file")
    entity: str | None = Field(None, min_length=1, description="User or team; null takes the one that is logged in")
    run_name: str | None = Field(None, min_length=1, description="Run; null takes the name of the run's folder")
    group: str | None = Field(None, min_length=1, description="Runs of one group are shown together")
    tags: tuple[str, ...] = Field((), description="Tags of the run")
    mode: Literal["online", "offline"] | None = Field(
        None, description="offline writes files, which 'wandb sync' sends later; null takes WANDB_MODE, or else online"
    )
    directory: Path | None = Field(
        None, description="Where its folder 'wandb' is made; null takes WANDB_DIR, or else the working folder"
    )
    figures: bool = Field(True, description="Show the figures of stages as images")
    artefacts: bool = Field(True, description="Upload the report, and each stage's result.json")
    timeout: float = Field(
        60.0, gt=0, description="Seconds that a run waits for the server at its start and at its end"
    )

    def is_offline(self) -> bool:
        """True if nothing is sent."""
        return (self.mode or os.environ.get("WANDB_MODE", "online")) == "offline"


class TrackingConfig(Config):
    """Trackers of runs: TensorBoard, MLflow, Weights & Biases or several of them."""

    tensorboard: TensorBoardConfig | None = Field(None, description="TensorBoard; {} takes every default, null none")
    mlflow: MLflowConfig | None = Field(None, description="MLflow; {} takes every default, null none")
    wandb: WandbConfig | None = Field(None, description="Weights & Biases; {} takes every default, null none")

    @field_validator("tensorboard")
    @classmethod
    def _has_tensorboard(cls, value: TensorBoardConfig | None) -> TensorBoardConfig | None:
        if value is not None:
            _installed("tensorboard", "TensorBoard")
        return value

    @field_validator("mlflow", mode="before")
    @classmethod
    def _has_mlflow(cls, value: object) -> object:
        if value is not None:
            _installed("mlflow", "MLflow")
        return value

    @field_validator("wandb")
    @classmethod
    def _has_wandb(cls, value: WandbConfig | None) -> WandbConfig | None:
        if value is not None:
            _installed("wandb", "Weights & Biases")
        return value

    @model_validator(mode="after")
    def _somewhere(self) -> TrackingConfig:
        if self.tensorboard is None and self.mlflow is None and self.wandb is None:
            raise ValueError("nothing is tracked: expected tensorboard: {}, mlflow: {}, wandb: {} or several")
        return self
