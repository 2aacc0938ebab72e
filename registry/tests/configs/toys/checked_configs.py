"""A plugin with a config of every sort, and what is wrong with one of them."""

from __future__ import annotations

from typing import Any

from scorefold_registry.components.messages import Problem
from scorefold_registry.components.parts import check_config
from scorefold_registry.host import Host

PLUGIN = """
def fake(kind, name, config="Empty", **more):
    return Component(
        kind=kind, name=name, target="fake_one.impl:Thing", config=f"fake_one.config:{config}", summary="", **more
    )

@hookimpl
def scorefold_components():
    yield fake("network", "plain", "Plain")
    yield fake("network", "trained", "Plain", provides=("Trainable",))
    yield fake("network", "nesting", "Nesting")
    yield fake("score", "full", "Full", requires=(Port("data", kind="data"),), provides=("Trainable",))
    yield fake("score", "exact", requires=(Port("data", kind="data"),))
    trained = Port("score", kind="score", needs=("Trainable",))
    yield fake("flow", "wrapped", requires=(trained, Port("data", kind="data")))
    yield fake("flow", "holder", "Holder", requires=(Port("data", kind="data"),))
    yield fake("estimator", "many", requires=(
        Port("models", kind=("score", "flow"), many=True), Port("extra", kind="data", optional=True),
        Port("network", kind="network", default={"use": "network:plain"}),
    ))
    yield fake("estimator", "no-config", "Missing")
    yield fake("estimator", "wrong-config", "NotAConfig")
"""

CONFIG = """
from pathlib import Path
from typing import Any, Literal
from pydantic import Field, field_validator, model_validator
from scorefold.config import Config, Inline, ProcessConfig, TrainingConfig, Use, VEConfig
from scorefold.errors import ConfigError

class Empty(Config):
    pass

class Plain(Config):
    width: int = Field(8, ge=1, le=64, description="Hidden units")
    kind: Literal["relu", "silu"] = Field("relu", description="Activation")

class Nesting(Config):
    inner: Inline("network") = Use(use="network:plain")

class Part(Config):
    size: float = Field(1.0, gt=0, description="How large")
    part: Inline("network") | None = None

class Full(Config):
    network: Inline("network") = Use(use="network:plain")
    trained: Inline("network", needs=("Trainable",)) | None = None
    several: list[Inline("network")] = []
    named: dict[str, Inline("network")] = {}
    process: ProcessConfig = VEConfig()
    training: TrainingConfig = TrainingConfig()
    parts: list[Part] = Field((), max_length=3, description="The parts")
    auto: int | Literal["auto"] = Field("auto", description="A number, or chosen from the data")
    path: Path | None = None
    shape: tuple[int, ...] = ()
    odd: int = Field(1, description="Any odd number")

    @field_validator("odd")
    @classmethod
    def _is_odd(cls, value):
        if value == 13:
            raise RuntimeError("a validator that fails")
        if value == 17:
            raise SystemExit(0)
        if value == 15:
            raise ConfigError("not fifteen", hint="sixteen is not odd either")
        if value % 2 == 0:
            raise ValueError("even numbers have no middle")
        return value

    @model_validator(mode="after")
    def _agree(self):
        if self.odd == 9 and self.auto == 9:
            raise ValueError("odd and auto can't both be 9")
        return self

class Holder(Config):
    score: Inline("score") = Use(use="score:exact")

class NotAConfig:
    pass
"""


def problems(host: Host, raw: Any, name: str = "score:full") -> list[Problem]:
    return check_config(host.catalogue, host.catalogue.resolve(name), raw)[1]


def problem(host: Host, raw: Any, name: str = "score:full") -> Problem:
    (found,) = problems(host, raw, name)
    return found
