"""Networks of diffusers with a score: for images, or for images and their class."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import TensorSpec
from scorefold.errors import ArtefactError, ConfigError, DataError
from scorefold_checkpoints.diffusers.files import Source, read_diffusers_json, weight_files
from scorefold_toolkit.checks import require_finite
from scorefold_toolkit.libraries import library

_CAN_BE_READ = "UNet2DModel and DiTTransformer2DModel can be read, and what is called as they are"
_ARGUMENTS = {"self", "sample", "hidden_states", "timestep", "class_labels", "return_dict"}
"""Arguments that the call of a network may take, in addition to arguments called ``..._kwargs``."""


def load_network(folder: Path, source: Source, variant: str | None, precision: str) -> nn.Module:
    """The network of a folder in a precision (float32, float16, bfloat16), to evaluate. Raises ``ConfigError`` and
    ``ArtefactError`` for networks that take more than an image, a time and a class, and as ``load_part``."""
    name, kind = _kind(folder)
    arguments = set(inspect.signature(kind.forward).parameters)
    others = sorted(each for each in arguments - _ARGUMENTS if not each.endswith("_kwargs"))
    if others:
        text = any("encoder_hidden_states" in each or "text" in each or "prompt" in each for each in others)
        what = "the embeddings of a text, which data and run files don't give" if text else "which nothing here gives"
        raise ConfigError(f"{folder} holds a {name}, which takes {', '.join(others)} too: {what}", hint=_CAN_BE_READ)
    if "timestep" not in arguments:
        raise ConfigError(f"{folder} holds a {name}, which has no time input, so it is no network for noised data")
    return load_part(folder, source, variant, precision)


def load_part(folder: Path, source: Source, variant: str | None, precision: str) -> nn.Module:
    """A network or an autoencoder of diffusers from a folder, from safetensors alone, every weight of it. Raises
    ``ConfigError`` where files are missing, ``ArtefactError`` where they don't fit together or are not finite."""
    _, kind = _kind(folder)
    weight_files(folder, source, variant)
    from diffusers.utils import is_accelerate_available

    try:
        model, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            torch_dtype=getattr(torch, precision),
            output_loading_info=True,
            # diffusers warns of each part where accelerate is missing, unless it is asked to do without.
            low_cpu_mem_usage=is_accelerate_available(),
        )
    except Exception as error:  # the constructor of a network raises anything for settings it was not made for
        raise ArtefactError(f"the network in {folder} can't be loaded: {error}") from error
    # diffusers only warns of these, and draws the weights that are missing.
    for what, names in (("lacks", info["missing_keys"]), ("has no use for", info["unexpected_keys"])):
        if names:
            raise ArtefactError(
                f"the network in {folder} {what} the weights {', '.join(sorted(names)[:3])}"
                + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
                hint="its config.json and its weights are not of one model: download both again",
            )
    if info["mismatched_keys"]:
        raise ArtefactError(f"the network in {folder} has weights of other shapes: {info['mismatched_keys'][0][0]}")
    loaded: nn.Module = model.eval()
    require_finite(dict(loaded.named_parameters()), folder)
    return loaded


def _kind(folder: Path) -> tuple[str, Any]:
    """The class of diffusers that a folder's config.json names, with its name."""
    settings = read_diffusers_json(folder / "config.json")
    name = str(settings.get("_class_name"))
    if name == "Transformer2DModel" and settings.get("norm_type") == "ada_norm_zero":
        name = "DiTTransformer2DModel"  # as it was called before diffusers 0.29
    with library("score:diffusers", "scorefold-checkpoints[diffusers]"):
        import diffusers  # five seconds, so only where a model is loaded
    kind: Any = getattr(diffusers, name, None)
    if "auto_map" in settings or not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise ConfigError(
            f"{folder} holds a {name}, which diffusers {diffusers.__version__} doesn't have: code that comes with a "
            "model is not run",
            hint=f"{_CAN_BE_READ}; of others see score:callable",
        )
    return name, kind


def network_event_shape(network: Any, folder: Path) -> tuple[int, ...]:
    """(C, H, W), or (C, L), from the settings of a network. Raises ``ConfigError`` where they don't say it."""
    file, size = folder / "config.json", network.config.get("sample_size")
    if size is None:
        raise ConfigError(f"{file} has no sample_size, so the shape of an image is not known")
    if not isinstance(size, int) and not (isinstance(size, list | tuple) and len(size) == 2):
        raise ConfigError(f"{file} has sample_size {size!r}; expected one number or two")
    one = type(network).__name__.endswith("1DModel")
    sides = (size,) if isinstance(size, int) and one else (size, size) if isinstance(size, int) else tuple(size)
    channels = network.config.in_channels
    answers = network.config.get("out_channels") or channels
    if answers not in (channels, 2 * channels):
        raise ConfigError(
            f"the network takes {channels} channels and gives {answers}; expected as many, or twice as many"
        )
    return (channels, *sides)


def class_spec(network: Any) -> tuple[TensorSpec | None, int | None]:
    """The classes that a network takes, and the one that stands for none where it has one. Raises ``ConfigError`` for
    other conditions."""
    if network.config.get("class_embed_type") is not None:
        raise ConfigError(
            f"the network embeds its condition by {network.config.class_embed_type!r}; classes can be read"
        )
    labelled = "class_labels" in inspect.signature(network.forward).parameters
    classes = network.config.get("num_class_embeds") if labelled else None
    null = None
    if labelled and classes is None and (classes := network.config.get("num_embeds_ada_norm")) is not None:
        null = classes  # DiT has one row more than classes, for none of them
    return (None if classes is None else TensorSpec((), classes)), null


def attends(network: nn.Module) -> bool:
    """True if a network attends, for which torch has reverse-mode derivatives alone."""
    return any("Attention" in type(module).__name__ for module in network.modules())


def call_network(network: Any, x: Tensor, time: Tensor, labels: Tensor | None, rows: int) -> Tensor:
    """The answer of a network at x (B, C, ...), its time (B,) and labels (B,), which lie below ``rows``, where it takes
    any, in the dtype of x; variances that it predicts too are left out. Raises ``DataError`` for other labels."""
    if len(x) == 0:
        return torch.empty_like(x)
    own = next(network.parameters()).dtype
    given = {}
    if labels is not None:
        if bool(((labels < 0) | (labels >= rows)).any()):
            raise DataError(
                f"labels from {int(labels.min())} to {int(labels.max())} were given; expected 0 to {rows - 1}"
            )
        given["class_labels"] = labels
    answer: Tensor = network(x.to(own), time, return_dict=False, **given)[0]
    return answer[:, : x.shape[1]].to(x.dtype)
