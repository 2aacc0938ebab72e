"""Settings of models of diffusers, and of networks of your own. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationInfo, model_validator

from scorefold.config import Config, CosineConfig, EDMConfig, LogSNRConfig, SubVPConfig, VEConfig, VPConfig
from scorefold.errors import ScorefoldError
from scorefold_checkpoints.diffusers.files import (
    find_snapshot,
    find_source,
    is_name,
    network_folder,
    weight_files,
    weights_digest,
)
from scorefold_toolkit.config.common import FilePath


def _name_or_path(path: Path, info: ValidationInfo) -> Path | str:
    """A path; text for a name in the cache, and for one that a revision or a download is asked of."""
    name = path.as_posix()
    asked = info.data.get("revision") is not None or info.data.get("download", False)
    return name if is_name(name) and asked else path


ModelPath = Annotated[
    Path,
    AfterValidator(_name_or_path),
    PlainSerializer(str, when_used="json"),
    Field(
        description="Folder of a pipeline (unet/ or transformer/, scheduler/, vae/) or of one network, or a name in "
        "the Hugging Face cache, such as google/ddpm-cat-256"
    ),
]


def _pinned(given: Any) -> Any:
    """Settings whose path is a name in the cache and no folder here, with the commit that it stands for there."""
    path = given.get("path") if isinstance(given, Mapping) else None
    if not isinstance(path, str) or not is_name(path):
        return given
    revision = given.get("revision")
    if not isinstance(revision, str | None) or (revision is None and not given.get("download") and Path(path).exists()):
        return given
    folder = find_snapshot(path, revision)
    return given if folder is None else {**given, "revision": folder.name}


class ModelConfig(Config):
    """Place of a published model."""

    revision: str | None = Field(
        None,
        description="Branch, tag or commit of a name in the Hugging Face cache; the commit that is found stands here",
    )
    download: bool = Field(False, description="Download what the cache lacks; otherwise no network is used")
    path: ModelPath
    variant: str | None = Field(
        None, pattern=r"^\w+$", description="Which weights are read where there are several, such as fp16"
    )
    precision: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="What the network computes in; everything else is in float32"
    )

    @model_validator(mode="before")
    @classmethod
    def _pin(cls, given: Any) -> Any:
        return _pinned(given)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if isinstance(self.path, Path) and (self.revision is not None or self.download):
            raise ValueError(
                f"revision and download are for names such as google/ddpm-cat-256; path is the folder {self.path}"
            )
        return self


class DiffusersConfig(ModelConfig):
    """A published diffusers model: a folder, or a name in the local Hugging Face cache."""

    digest: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the network's weights, others are refused; of a name in the cache it is noted here",
    )
    scheduler: Path | None = Field(
        None, description="Folder with scheduler_config.json, where it is not in the model's folder or its scheduler/"
    )
    space: Literal["pixels", "latent"] = Field(
        "pixels", description="What the events are: images, or latents of the model's autoencoder"
    )
    null_class: int | None = Field(
        None,
        ge=0,
        description="The class that stands for none in a network of classes, which guidance needs; null for the "
        "network's own, where it has one",
    )

    @model_validator(mode="before")
    @classmethod
    def _note_digest(cls, given: Any) -> Any:
        found = _pinned(given)
        if found is given or found.get("digest") is not None:
            return found
        with suppress(ScorefoldError):  # what is missing is said when the model is built
            source = find_source(str(found["path"]), found["revision"], False, None)
            files = weight_files(network_folder(source), source, found.get("variant"))
            return {**found, "digest": weights_digest(files, trusting=True)}
        return found


class LatentsConfig(ModelConfig):
    """Images as the latents of a published model's autoencoder."""

    batch_size: int = Field(16, ge=1, description="Images that are encoded at once")


class DecodedConfig(Config):
    """Latents as images."""

    batch_size: int = Field(16, ge=1, description="Latents that are decoded at once")


class FlowConfig(Config):
    """The straight paths of flow matching: signal 1 - t, scale t."""

    name: Literal["flow"] = "flow"
    t_min: float = Field(1e-3, gt=0, lt=0.5, description="Least time: the data with this share of noise")
    t_max: float = Field(0.999, gt=0.5, lt=1, description="Greatest time, from which sampling starts")


class DDPMConfig(Config):
    """Betas at timesteps from 0 on; signal^2 is the product of all 1 - beta so far (Ho et al. 2020)."""

    name: Literal["ddpm"] = "ddpm"
    betas: Literal["linear", "scaled-linear", "cosine"] = Field(
        "linear", description="How beta rises: itself, its root, or by a cosine (Nichol and Dhariwal 2021)"
    )
    steps: int = Field(1000, ge=2, description="Number of timesteps")
    beta_start: float = Field(1e-4, gt=0, lt=1, description="First beta; not of cosine")
    beta_end: float = Field(0.02, gt=0, lt=1, description="Last beta; not of cosine")


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Schedule = Annotated[
    VEConfig | VPConfig | SubVPConfig | LogSNRConfig | CosineConfig | EDMConfig | FlowConfig | DDPMConfig,
    Field(discriminator="name"),
]
_Name = Literal["ve", "vp", "subvp", "log-snr", "cosine", "edm", "flow", "ddpm"]


class NetworkConfig(Config):
    """Prediction of a network, and the noise of its training."""

    parametrisation: Literal["epsilon", "x0", "v", "score", "velocity"] = Field(
        description="What it answers at x = a x_0 + b z: the noise z, the datum x_0, v = a z - b x_0, the score, or "
        "the velocity z - x_0"
    )
    schedule: Annotated[_Schedule, BeforeValidator(_named, json_schema_input_type=_Schedule | _Name)] = Field(
        description="The noise that it was trained on, by name or with its settings"
    )
    time: Literal["t", "sigma", "log-sigma", "none"] = Field(
        "t",
        description="What it is shown next to x: the schedule's own time, sigma = b / a or its logarithm, times "
        "time_factor; none for a network of x alone",
    )
    time_factor: float = Field(1.0, gt=0, description="What that is multiplied by, such as 1000 or 0.25")
    event_shape: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, min_length=1, description="Shape of an event, such as [1, 28, 28]; null for the shape of the data"
    )
    classes: int | None = Field(
        None, ge=1, description="Number of classes, whose label it takes as third argument; null for none"
    )


def _module_and_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        raise ValueError(f"the network is {value!r}; expected module:name, such as my_net:Net")
    return value


class ModuleConfig(Config):
    """A torch module that a Python module makes."""

    network: Annotated[str, AfterValidator(_module_and_name)] | None = Field(
        None,
        description="module:function, which makes the network or is it; null where Python hands it over",
    )
    file: FilePath | None = Field(None, description="The module's file, where the module is not installed")
    weights: FilePath | None = Field(None, description="A safetensors file with its state dict; null for its own")


class CallableConfig(NetworkConfig, ModuleConfig):
    """A network that a Python module makes."""


class ActivationsConfig(ModuleConfig):
    """A layer of a network, and what is kept of its output."""

    layer: str = Field(description="The layer by its name among named_modules(), such as encoder.layer.3")
    keep: Literal["all", "pixel-mean", "token-mean", "first-token"] = Field(
        "all",
        description="all: the whole output; pixel-mean: of (C, H, W) the mean of each channel; token-mean and "
        "first-token: of (T, C) the mean over tokens, or the first one",
    )
    integers: bool = Field(False, description="Whether the network takes whole numbers, such as tokens or classes")
    batch_size: int = Field(256, ge=1, description="Events that go through the network at once")


class ExportedConfig(NetworkConfig):
    """A network in an archive of TorchScript or torch.export."""

    path: FilePath = Field(description="The archive, such as network.pt2 (torch.export) or network.pt (TorchScript)")
