"""Settings of networks, score models, flows, series and baselines. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scorefold.config import Config, EDMConfig, Inline, ProcessConfig, TrainingConfig, Use, VEConfig
from scorefold_standard.data.config import TableConfig
from scorefold_toolkit.config.common import FRACTIONS, DenoisingLossConfig, Fractions, Limits, Noise, Seed


class EuclideanConfig(Config):
    """Euclidean space."""

    event_shape: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None,
        min_length=1,
        description="The shape of an event, such as [3] or [1, 8, 8]; null takes it from the data plugged in",
    )


class UniformConfig(Config):
    """The same number of labels for every task."""

    task_types: tuple[str, ...] = Field(("task",), min_length=1, description="The types of task that share the budget")
    support: int = Field(5, ge=1, description="Support examples a task")
    query: int = Field(5, ge=0, description="Query examples a task")

    @model_validator(mode="after")
    def _distinct(self) -> UniformConfig:
        if len(set(self.task_types)) != len(self.task_types):
            raise ValueError("task_types names a type twice")
        return self


class MLPConfig(Config):
    """A residual multi-layer perceptron on flattened events."""

    width: int = Field(512, ge=1, description="Units a hidden layer")
    blocks: int = Field(3, ge=0, le=1000, description="Residual blocks, each of two layers")
    activation: Literal["silu", "gelu", "relu", "elu", "tanh"] = Field("silu", description="Activation")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of units dropped in each block while training")


class AutoConfig(Config):
    """The network that fits the events: network:conv-unet for images of 8 x 8 and more, network:signal-unet for signals
    (C, L) of 16 values and more, network:mlp otherwise, each with its default settings. To set them, name the
    network."""


class _LevelsConfig(Config):
    """Common settings of U-Nets."""

    channels: tuple[int, ...] = Field(
        (32, 64, 64), min_length=1, description="Channels a level; each level halves the size"
    )
    blocks: int = Field(1, ge=1, le=100, description="Residual blocks a level")
    groups: int = Field(8, ge=1, description="Groups of the group normalisation; divides every number of channels")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of features dropped in each block while training")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        wrong = [channels for channels in self.channels if channels < 1 or channels % self.groups]
        if wrong:
            raise ValueError(f"channels {wrong} are no multiples of groups = {self.groups}")
        return self


class ConvUNetConfig(_LevelsConfig):
    """A small U-Net in plain torch on images (C, H, W) or (H, W) of any size."""

    channels: tuple[int, ...] = Field(
        (32, 64, 128), min_length=1, description="Channels a level; each level halves the size"
    )
    attention: bool = Field(True, description="Self-attention at the coarsest level")


class SignalUNetConfig(_LevelsConfig):
    """A small U-Net in plain torch on signals (C, L) or (L,) of any length."""

    channels: tuple[int, ...] = Field(
        (16, 32, 64, 64, 64), min_length=1, description="Channels a level; each level halves the length"
    )
    attention: bool = Field(True, description="Self-attention at the coarsest level")


PlainUNetConfig = ConvUNetConfig | SignalUNetConfig


class SignalConvConfig(Config):
    """Residual blocks of dilated convolutions on signals (C, L) or (L,) of any length."""

    channels: int = Field(64, ge=1, description="Channels of every block")
    blocks: int = Field(5, ge=1, le=20, description="Residual blocks; each reads values twice as far apart as the last")
    groups: int = Field(8, ge=1, description="Groups of the group normalisation; divides channels")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of features dropped in each block while training")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.channels % self.groups:
            raise ValueError(f"channels is {self.channels}; expected a multiple of groups, {self.groups}")
        return self


class UNetConfig(_LevelsConfig):
    """diffusers' UNet2DModel on images (C, H, W) or (H, W) of any size."""

    attention: tuple[int, ...] = Field((), description="Levels with self-attention, counted from 0, the finest")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unknown = [level for level in self.attention if not 0 <= level < len(self.channels)]
        if unknown:
            raise ValueError(f"attention names levels {unknown}; there are levels 0 to {len(self.channels) - 1}")
        return self


class AnalyticConfig(Config):
    """The exact score of a known distribution or of finitely many points."""

    process: ProcessConfig = Field(
        VEConfig(sigma_min=1e-3, sigma_max=50.0), description="The diffusion, by name or with its settings"
    )
    points: bool = Field(
        False,
        description="Take the finite set of training points even where the source knows their distribution",
    )
    gaussian: bool = Field(
        False,
        description="Take the Gaussian with the training points' mean and covariance. It is exact for Gaussian data, "
        "and has the right tangent space for data on a plane",
    )
    limit: int | None = Field(
        None, ge=1, description="Where points are taken: the largest number of them, from the first; null for all"
    )

    @model_validator(mode="after")
    def _one_distribution(self) -> AnalyticConfig:
        if self.points and self.gaussian:
            raise ValueError("points and gaussian are two distributions: set one of them")
        return self


class DenoisingConfig(DenoisingLossConfig):
    """A score model trained by denoising score matching (Vincent 2011; Song et al. 2021)."""

    process: ProcessConfig = Field(
        EDMConfig(sigma_data=0.5),
        description="The diffusion, by name or with its settings; by default in the data's units",
    )
    network: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:auto"), description="The network, from noised event to event"
    )
    prediction: Literal["eps", "edm", "x0", "v"] = Field(
        "edm",
        description="Prediction: the noise (eps), a correction of the best linear guess (edm), the datum "
        "(x0), or the velocity (v)",
    )
    unconditional: bool = Field(
        False, description="Learn the score of the events alone, whatever condition the data bring (a prior)"
    )
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training points whose condition is left out; above 0 allows guidance"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="How it is trained")


class CouplingConfig(Config):
    """Common settings of affine and spline couplings."""

    layers: int = Field(8, ge=1, le=1000, description="Coupling layers; for images, in each level")
    layout: Literal["auto", "vector", "image"] = Field(
        "auto", description="Treat events as vectors or as images (C, H, W); auto takes three dimensions for an image"
    )
    hidden: tuple[int, ...] = Field((64, 64), min_length=1, description="Widths of a conditioner's layers, for vectors")
    channels: int = Field(64, ge=1, description="Channels of a conditioner's convolutions, for images")
    levels: int = Field(2, ge=1, le=30, description="Number of scales, each half as high and wide as the scale before")
    linear: Literal["lu", "orthogonal", "none"] = Field(
        "lu", description="Invertible linear layers between couplings: any matrix, rotations, or swapped halves alone"
    )
    actnorm: bool = Field(True, description="Normalise activations, started from data")
    activation: Literal["silu", "relu", "tanh", "gelu"] = Field(
        "silu", description="Nonlinearity of the conditioners; relu leaves the flow without second derivatives"
    )
    base: Literal["normal", "diagonal-normal"] = Field(
        "normal",
        description="Base distribution: standard normal, or normal with a learned mean and variance a coordinate",
    )
    within: Limits | None = Field(
        None,
        description="Limits of events in the units of the file, such as the ends of a uniform prior: [low, high], or "
        "such a pair for each coordinate, with null for no end. The flow has no density outside",
    )
    start_points: int = Field(2048, ge=2, description="Points that the activation normalisation starts from")


class AffineCouplingConfig(CouplingConfig):
    """Affine couplings."""

    transform: Literal["affine"] = Field("affine", description="Fixed by the component")
    scale_bound: float = Field(2.0, gt=0, description="Largest log-scale of a layer, either way")
    training: TrainingConfig = Field(TrainingConfig(), description="How the flow is trained")


class SplineCouplingConfig(CouplingConfig):
    """Monotone rational-quadratic spline couplings."""

    transform: Literal["rational-quadratic"] = Field("rational-quadratic", description="Fixed by the component")
    bins: int = Field(8, ge=2, le=256, description="Bins of a spline")
    bound: float = Field(5.0, gt=0, description="Splines act on [-bound, bound], in standard deviations of the data")
    training: TrainingConfig = Field(TrainingConfig(), description="How the flow is trained")


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
