"""The files of a published model: a folder, or a name in the Hugging Face cache, and what of it is read. No torch here.

Weights are safetensors, whole or in shards; pickles and code of the model's own are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorefold.artefacts import digest_file
from scorefold.errors import ArtefactError, ConfigError, ScorefoldError
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


def hub_cache() -> Path:
    """Download folder of the library huggingface_hub: HF_HUB_CACHE, or hub in HF_HOME."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or os.path.join(base, "huggingface")).expanduser() / "hub"


def find_snapshot(name: str, revision: str | None) -> Path | None:
    """The folder of a model in the cache at a branch, a tag or a commit (the branch main for None); None where it is
    not there. The folder is called as its commit."""
    model, revision = hub_cache() / f"models--{name.replace('/', '--')}", revision or "main"
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


def download_model(name: str, revision: str | None, variant: str | None) -> Path:
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
            f"to {hub_cache()}: {command(name, revision)}",
        ) from error


_STEM = "diffusion_pytorch_model"
_LAYOUT = "a diffusers pipeline (unet/ or transformer/, and scheduler/) or one network (config.json and its weights)"
_NETWORKS = ("unet", "transformer")
_AUTOENCODERS = ("vae", "vqvae")


@dataclass(frozen=True)
class Source:
    """A folder with a model; ``name`` is what the user wrote, ``again`` the line that fetches its missing files."""

    folder: Path
    name: str
    again: str | None = None


def find_source(path: Path | str, revision: str | None, fetch: bool, variant: str | None) -> Source:
    """The folder of a model: a path as it is, a name from the cache, downloaded where ``fetch`` says so. Raises
    ``ConfigError`` where there is none."""
    if isinstance(path, str):
        folder = find_snapshot(path, revision)
        if fetch and (folder is None or _lacking(Source(folder, path), variant)):
            folder = download_model(path, revision, variant)
        again = f"{command(path, revision)}, or set download: true"
        if folder is None:
            raise ConfigError(
                f"{path} at the revision {revision or 'main'} is not in the Hugging Face cache {hub_cache()}: "
                "model_index.json or config.json is missing",
                hint=again,
            )
        return Source(folder, path, again)
    if not path.is_dir():
        name = "/".join(path.parts[-2:])
        if is_name(name) and not path.parent.exists():
            raise ConfigError(
                f"there is no folder {path}, and no {name} in the Hugging Face cache {hub_cache()}",
                hint=f"{command(name, None)}, or set download: true",
            )
        raise ConfigError(f"there is no folder {path}; expected {_LAYOUT}", hint="check the path")
    return Source(path, str(path))


def _lacking(source: Source, variant: str | None) -> bool:
    """True if a file of a model in the cache is missing."""
    parts = [source.folder / part for part in (*_NETWORKS, *_AUTOENCODERS)]
    try:
        scheduler_folder(source, None)
        for part in {network_folder(source), *(part for part in parts if part.is_dir())}:
            weight_files(part, source, variant)
    except ScorefoldError:
        return True
    return False


def network_folder(source: Source) -> Path:
    """The folder of the network. Raises ``ConfigError`` where there is none."""
    for folder in (*(source.folder / part for part in _NETWORKS), source.folder):
        if (folder / "config.json").is_file():
            return folder
    raise ConfigError(
        f"{source.name} holds none of unet/config.json, transformer/config.json and config.json; expected {_LAYOUT}",
        hint=source.again,
    )


def autoencoder_folder(source: Source) -> Path | None:
    """The folder of the autoencoder whose latents a model is of; None for a model of pixels."""
    folders = [source.folder / part for part in _AUTOENCODERS]
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def scheduler_folder(source: Source, given: Path | None) -> Path:
    """The folder with the scheduler. Raises ``ConfigError`` where there is none."""
    folder = source.folder
    places = [given] if given is not None else [folder / "scheduler", folder, folder.parent / "scheduler"]
    place = next((each for each in places if (each / "scheduler_config.json").is_file()), None)
    if place is None:
        raise ConfigError(
            f"there is no scheduler_config.json in {' or '.join(map(str, places))}",
            hint=source.again or "set scheduler: to the folder that holds it",
        )
    return place


def read_diffusers_json(file: Path) -> dict[str, Any]:
    """The JSON object that diffusers writes. Raises ``ArtefactError`` for anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{file} is not the JSON that diffusers writes: {error}") from error
    if not isinstance(found, dict):
        raise ArtefactError(f"{file} is not the JSON that diffusers writes: it holds a {type(found).__name__}")
    return found


def weight_files(folder: Path, source: Source, variant: str | None) -> list[Path]:
    """The safetensors files of one network, in order. Raises ``ConfigError`` for pickles, missing files and variants,
    ``ArtefactError`` for an index that is none."""
    stem = _stem(variant)
    whole = folder / f"{stem}.safetensors"
    index = folder / f"{_STEM}.safetensors.index.{f'{variant}.' if variant else ''}json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise _no_weights(folder, source, whole.name)
    shards = read_diffusers_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) and "/" not in name for name in shards.values()):
        raise ArtefactError(f"{index} has no weight_map from weights to files beside it")
    files = [folder / name for name in sorted(set(shards.values()))]
    missing = [file.name for file in files if not file.is_file() or file.suffix != ".safetensors"]
    if missing:
        raise ConfigError(
            f"{folder} lacks {', '.join(missing)}, which {index.name} names", hint=source.again or "download them again"
        )
    return files


def _no_weights(folder: Path, source: Source, expected: str) -> ConfigError:
    others = sorted(re.findall(rf"{_STEM}\.(\w+)[-.]", " ".join(file.name for file in folder.glob("*.safetensors"))))
    others = [each for each in dict.fromkeys(others) if each != "safetensors"]
    pickled = [file.name for suffix in ("bin", "pt", "pth", "ckpt") for file in sorted(folder.glob(f"*.{suffix}"))]
    message, hint, plain = f"{folder} holds no {expected}", source.again, f"{_STEM}.safetensors"
    if expected != plain and (folder / plain).is_file():
        hint = "leave variant out to read the plain weights"
    elif others:
        message, hint = f"{message}; there is {' and '.join(others)}", f"set variant: {others[0]}"
    elif pickled:
        message += f", only the pickle {pickled[0]}, which could run code when it is loaded"
        hint = "save it again with save_pretrained(folder, safe_serialization=True)"
    return ConfigError(message, hint=hint)


def _stem(variant: str | None) -> str:
    return f"{_STEM}.{variant}" if variant else _STEM


def weights_digest(files: list[Path], *, trusting: bool = False) -> str:
    """The SHA-256 of a weights file. Of several files it is the SHA-256 of their digests.

    ``trusting`` takes the digest from the name that the cache gives a file, without reading the file.
    """

    def digest(file: Path) -> str:
        name = file.resolve().name
        return name if trusting and re.fullmatch("[0-9a-f]{64}", name) else digest_file(file)

    digests = [digest(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
