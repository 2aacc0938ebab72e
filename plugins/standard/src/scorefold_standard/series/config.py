"""Settings of time series. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_standard.data.config import TableConfig
from scorefold_toolkit.config.common import FRACTIONS, Fractions, Noise, Seed

Window = Annotated[
    int | None, Field(ge=2, description="Rows of a window, the event (C, window) of C columns; null for no windows")
]
Stride = Annotated[
    int,
    Field(ge=1, description="Rows from the start of an event to the next; larger ones keep neighbours apart in time"),
]
Dimension = Annotated[
    int | None,
    Field(
        ge=2,
        description="Numbers of each column in a delay vector, the event (C x dimension,); null for no delay vectors",
    ),
]
Delay = Annotated[
    int | None,
    Field(
        ge=1,
        description="Rows between the numbers of a delay vector; null for the lag at which the autocorrelation is 1/e",
    ),
]
Blocks = Annotated[
    Fractions, Field(description="Shares of the rows for training, validation and test, which are blocks in this order")
]
Length = Annotated[int, Field(ge=2, description="Rows of the series")]


class CutConfig(Config):
    """Settings that cut a series into events: windows, delay vectors, or its rows."""

    window: Window = None
    stride: Stride = 1
    dimension: Dimension = None
    delay: Delay = None
    scale: Literal["columns", "none"] = Field(
        "columns",
        description="columns subtracts each column's mean and divides it by its deviation, both of the training block",
    )
    fractions: Blocks = FRACTIONS

    @model_validator(mode="after")
    def _one_cut(self) -> Self:
        if self.window is not None and self.dimension is not None:
            raise ValueError(
                f"window is {self.window} and dimension {self.dimension}: events are windows or delay vectors; leave "
                "one of them out"
            )
        if self.delay is not None and self.dimension is None:
            raise ValueError(f"delay is {self.delay}, which is for delay vectors: set dimension, such as dimension: 3")
        return self


class SeriesConfig(TableConfig, CutConfig):
    """A time series in a file, one row a time step."""

    time: str | None = Field(
        None, description="csv, parquet and saved datasets: the column of times, which names rows in answers"
    )


class LorenzConfig(CutConfig):
    """Lorenz's system x' = sigma (y - x), y' = x (rho - z) - y, z' = x y - beta z (Lorenz 1963)."""

    columns: Annotated[tuple[Literal["x", "y", "z"], ...], Field(min_length=1)] = Field(
        ("x", "y", "z"), description="The coordinates that are observed"
    )
    length: Length = 20_000
    step: float = Field(0.02, gt=0, le=1, description="Time from one row to the next")
    sigma: float = Field(10.0, gt=0, description="Prandtl's number")
    rho: float = Field(28.0, gt=0, description="Rayleigh's number over its critical value")
    beta: float = Field(8 / 3, gt=0, description="Geometry of the convection cells")
    noise_std: Noise = 0.0
    seed: Seed = None

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns is {list(self.columns)}; expected every coordinate once")
        return self


class PulsesConfig(CutConfig):
    """Beats of varying length, each of five bumps, as an electrocardiogram has them."""

    window: Window = 128
    stride: Stride = 4
    length: Length = 20_000
    beat: float = Field(64.0, ge=16, description="Mean rows of a beat")
    variability: float = Field(0.08, ge=0, le=0.2, description="Deviation of the lengths of beats, as a share of beat")
    noise_std: Noise = 0.02
    seed: Seed = None
