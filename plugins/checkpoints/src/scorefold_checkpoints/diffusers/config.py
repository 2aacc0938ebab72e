"""Settings of published diffusers models. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, ValidationInfo, model_validator

from scorefold.config import Config
from scorefold.errors import ScorefoldError
from scorefold_checkpoints.diffusers.files import (
    find_snapshot,
    find_source,
    is_name,
    network_folder,
    weight_files,
    weights_digest,
)


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
        description="The class that stands for none in a network of classes, which guidance needs; null for that of "
        "the network, where it has one",
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
