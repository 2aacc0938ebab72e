"""Config models shared by all components. No torch here: run files are checked before it is imported.

>>> class Sketch(Config):
...     network: Inline("network") = Use(use="network:mlp")
...     training: TrainingConfig = TrainingConfig(steps=500, plateau=PlateauConfig(factor=0.25))
>>> Sketch(training={"steps": 20}).training.steps
20
>>> [process().name for process in (VEConfig, VPConfig, SubVPConfig, LogSNRConfig, CosineConfig, EDMConfig)]
['ve', 'vp', 'subvp', 'log-snr', 'cosine', 'edm']
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Config(BaseModel):
    """The base of every component's config: unknown fields and numbers that aren't finite are errors; immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Use(Config):
    """A component named inline: ``{use: kind:name, config: {...}, inputs: {...}}``."""

    use: str = Field(description="The component, as kind:name, kind:name@revision or distribution/kind:name")
    config: dict[str, Any] = Field(default_factory=dict, description="The component's own configuration")
    inputs: dict[str, Any] = Field(default_factory=dict, description="Components for its ports")


INLINE_MARK = "x-scorefold-inline"
"""The key that stands in a config's JSON Schema for a component named inline."""


class InlineKind:
    """Marks a config field as an inline component of a kind: ``network: Inline("network")``.

    >>> mark = Inline("network", needs=("Trainable",)).__metadata__[-1]
    >>> isinstance(mark, InlineKind), mark.kind, mark.needs
    (True, 'network', ('Trainable',))
    """

    def __init__(self, kind: str, needs: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.needs = needs

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        """A mark in place of a schema: what may stand here depends on what is installed."""
        return {INLINE_MARK: {"kind": self.kind, "needs": list(self.needs)}}


def _as_use(value: Any) -> Any:
    """A mapping or a bare name becomes a ``Use``; an object that is already built passes (for use from Python)."""
    if isinstance(value, str):
        return Use(use=value)
    if isinstance(value, dict):
        return Use.model_validate(value)
    return value


def Inline(kind: str, needs: tuple[str, ...] = ()) -> Any:  # noqa: N802 - reads as a type in a config model
    """The type of a config field that names a component inline; the host replaces it by the built object.

    ``network: Inline("network") = Use(use="network:mlp")``
    """
    return Annotated[Any, BeforeValidator(_as_use), InlineKind(kind, needs)]


def _in_order(low: str, high: str, *, equal: bool = False) -> Any:
    """The check that one field lies below another, or is equal to it where that is allowed."""

    def checked(config: Any) -> Any:
        least, most = getattr(config, low), getattr(config, high)
        if not (least < most or (equal and least == most)):
            expected = "at least" if equal else "more than"
            raise ValueError(f"{high} is {most:g}; expected {expected} {low}, {least:g}")
        return config

    return model_validator(mode="after")(checked)


class VEConfig(Config):
    """Variance exploding: x_t = x_0 + sigma(t) z with sigma geometric in t on [0, 1]."""

    name: Literal["ve"] = "ve"
    sigma_min: float = Field(0.01, gt=0, description="Noise at t = 0, in units of the data")
    sigma_max: float = Field(50.0, gt=0, description="Noise at t = 1, in units of the data")
    relative: bool = Field(
        False,
        description="sigma_min and sigma_max are in units of the data's spread: a coordinate's standard deviation "
        "times the root of their number. One setting then fits data of any units",
    )

    _grows = _in_order("sigma_min", "sigma_max")


class VPConfig(Config):
    """Variance preserving with beta linear in t on [0, 1]."""

    name: Literal["vp"] = "vp"
    beta_min: float = Field(0.1, gt=0, description="beta at t = 0")
    beta_max: float = Field(20.0, gt=0, description="beta at t = 1")
    t_min: float = Field(1e-5, gt=0, lt=1, description="The smallest time for training and sampling")

    _grows = _in_order("beta_min", "beta_max", equal=True)


class SubVPConfig(Config):
    """Sub-VP (Song et al. 2021): the mean of VP and the smaller scale 1 - exp(-int beta)."""

    name: Literal["subvp"] = "subvp"
    beta_min: float = Field(0.1, gt=0, description="beta at t = 0")
    beta_max: float = Field(20.0, gt=0, description="beta at t = 1")
    t_min: float = Field(1e-3, gt=0, lt=1, description="The smallest time for training and sampling")

    _grows = _in_order("beta_min", "beta_max", equal=True)


class _LogSNRRange(Config):
    """The log signal-to-noise ratio at both ends, for variance-preserving processes."""

    lam_max: float = Field(10.0, description="log(signal^2 / noise^2) at the smallest time")
    lam_min: float = Field(-10.0, description="log(signal^2 / noise^2) at the last time")

    _falls = _in_order("lam_min", "lam_max")


class LogSNRConfig(_LogSNRRange):
    """Variance preserving with a log-SNR that is linear in t (Batzolis et al. 2022)."""

    name: Literal["log-snr"] = "log-snr"
    t_min: float = Field(1e-3, ge=0, lt=1, description="The smallest time for training and sampling")


class CosineConfig(_LogSNRRange):
    """Variance preserving with the cosine schedule (Nichol and Dhariwal 2021), cut at a log-SNR at either end."""

    name: Literal["cosine"] = "cosine"


class EDMConfig(Config):
    """Variance exploding with sigma^(1/rho) linear in t (Karras et al. 2022): uniform steps in t are theirs."""

    name: Literal["edm"] = "edm"
    sigma_min: float = Field(0.002, gt=0, description="Noise at t = 0, in units of the data")
    sigma_max: float = Field(80.0, gt=0, description="Noise at t = 1, in units of the data")
    rho: float = Field(7.0, gt=0, description="Concentration of steps at small noise; 1 is sigma linear in t")
    sigma_data: float | None = Field(
        None,
        gt=0,
        description="The standard deviation of data that sigma_min and sigma_max are meant for; they are scaled to "
        "the data at hand. null takes them as they are",
    )

    _grows = _in_order("sigma_min", "sigma_max")


def _as_process(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Process = Annotated[
    VEConfig | VPConfig | SubVPConfig | LogSNRConfig | CosineConfig | EDMConfig, Field(discriminator="name")
]
_ProcessName = Literal["ve", "vp", "subvp", "log-snr", "cosine", "edm"]
ProcessConfig = Annotated[_Process, BeforeValidator(_as_process, json_schema_input_type=_Process | _ProcessName)]
"""A process in a run file: ``process: {name: ve, sigma_min: 0.01, sigma_max: 50}``, or just ``process: ve``."""


_STEPS = 4000

UNTRAINED = "SCOREFOLD_UNTRAINED"
"""The environment variable that makes every training take no step; it names a file that gets a line for each."""


class PlateauConfig(Config):
    """A learning rate that falls where a validation loss has stopped falling."""

    factor: float = Field(0.1, gt=0, lt=1, description="Factor of the learning rate at a fall")
    patience: int = Field(10, ge=0, description="Checks in a row without a gain; the next such check is a fall")
    least: float = Field(0.0, ge=0, description="Smallest learning rate")
    gain: float = Field(1e-4, ge=0, description="Smallest gain, as a share of the best value")


class TrainingConfig(Config):
    """Settings of ``scorefold_toolkit.training.fit``."""

    steps: int = Field(_STEPS, ge=0, description="Optimiser steps, over all phases")
    minutes: float | None = Field(
        None,
        gt=0,
        description="Minutes to train for, in place of steps: steps are timed, and resolved.yaml gets the number of "
        "those taken; null for steps",
    )
    batch_size: int = Field(256, ge=1, description="Points per step (over all processes)")
    accumulate: int = Field(1, ge=1, description="Parts into which a batch is divided before a step, to save memory")
    flip: float = Field(
        0.0, ge=0, le=1, description="Probability of mirroring an image left to right, with the images of its condition"
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate")
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adam", description="Optimiser; fused where torch has it")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="Decay rates of Adam's averages per step: of gradients, of their squares"
    )
    weight_decay: float = Field(0.0, ge=0, description="Weight decay")
    warmup: int = Field(100, ge=0, description="Steps of linear warm-up")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="Learning rate after warm-up")
    drops: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Steps at which the learning rate is divided by 10"
    )
    plateau: PlateauConfig | None = Field(
        None, description="Falls of the learning rate by the validation loss, or null"
    )
    clip: float | None = Field(1.0, gt=0, description="Largest gradient norm, or null for no clipping")
    ema: float | None = Field(0.999, gt=0, lt=1, description="Decay of the averaged weights for evaluation, or null")
    patience: int | None = Field(None, ge=1, description="Validations without a better loss before stopping, or null")
    validate_every: int = Field(500, ge=1, description="Steps between validations")
    checkpoint_every: int = Field(500, ge=1, description="Steps between checkpoints")
    log_every: int = Field(50, ge=1, description="Steps between reported metrics")
    compile: bool = Field(False, description="Use torch.compile (needs a compiler)")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.minutes is not None and self.steps != _STEPS:
            raise ValueError(f"steps is {self.steps} and minutes {self.minutes:g}; set one of them")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate is {self.accumulate} and batch_size {self.batch_size}; a part needs a point")
        return self
