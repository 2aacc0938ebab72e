"""Names of models in the local Hugging Face cache. No torch here, and no network but in ``download``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from scorefold.errors import ConfigError
from scorefold_toolkit.libraries import library

PARTS = ("unet", "transformer", "vae", "vqvae", "scheduler")
"""The folders of a pipeline that are read."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_name(text: str) -> bool:
    """True if a text can be the name of a model, ``owner/name``.

    >>> is_name("google/ddpm-cat-256"), is_name("./models/ddpm"), is_name("/models/ddpm")
    (True, False, False)
    """
    return _NAME.fullmatch(text) is not None and ".." not in text


def cache_folder() -> Path:
    """Download folder of the library huggingface_hub: HF_HUB_CACHE, or hub in HF_HOME."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or os.path.join(base, "huggingface")).expanduser() / "hub"


def find_snapshot(name: str, revision: str | None) -> Path | None:
    """The folder of a model in the cache at a branch, a tag or a commit (the branch main for None); None where it is
    not there. The folder is called as its commit."""
    model, revision = cache_folder() / f"models--{name.replace('/', '--')}", revision or "main"
    if not _COMMIT.fullmatch(revision):
        reference = model / "refs" / revision
        if ".." in revision or not reference.is_file():
            return None
        revision = reference.read_text(encoding="utf-8").strip()
    found = model / "snapshots" / revision
    return found if _COMMIT.fullmatch(revision) and found.is_dir() else None


def command(name: str, revision: str | None) -> str:
    """The command that downloads a model into the cache."""
    return f"hf download {name}" + (f" --revision {revision}" if revision else "")


def download(name: str, revision: str | None, variant: str | None) -> Path:
    """The files of a model that are read here, downloaded with huggingface_hub's progress bar: their folder in the
    cache. No pickle and no code is fetched. Raises ``ConfigError`` where it fails."""
    with library("a download", "scorefold-checkpoints[diffusers]"):
        from huggingface_hub import snapshot_download
    stem = f"diffusion_pytorch_model.{variant}" if variant else "diffusion_pytorch_model"
    weights = (f"{stem}.safetensors", f"{stem}-*.safetensors")
    wanted = [f"{folder}{file}" for folder in ("", *(f"{part}/" for part in PARTS)) for file in (*weights, "*.json")]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except Exception as error:  # of the network, the disk, the name or the permission: the library has many
        raise ConfigError(
            f"{name} can't be downloaded: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            hint="check the name and the network, and that HF_HUB_OFFLINE is not 1; or copy another machine's cache "
            f"to {cache_folder()}: {command(name, revision)}",
        ) from error
