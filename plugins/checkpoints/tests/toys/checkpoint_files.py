"""Tiny checkpoints in diffusers' own format, and the samples that the plugin ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, DiTTransformer2DModel, UNet2DModel
from tiny_unets import tiny_unet

from scorefold_checkpoints.own.example import NormalVelocity

SHAPE = (2, 8, 8)


def saved(folder: Path, scheduler: Any, **changes: Any) -> UNet2DModel:
    """A pipeline folder as published; the network that is in it."""
    unet = tiny_unet(**changes)
    unet.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    return unet


def saved_latent(folder: Path, scheduler: Any = None, **vae: Any) -> tuple[DiTTransformer2DModel, AutoencoderKL]:
    """A latent model of classes as published: a transformer that predicts variances too, an autoencoder."""
    torch.manual_seed(2)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=2,
        out_channels=4,
        num_layers=1,
        sample_size=4,
        patch_size=2,
        num_embeds_ada_norm=10,
    ).eval()
    # As they are made, its blocks answer alike to everything: a trained one does not.
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    settings = {
        "in_channels": 1,
        "out_channels": 1,
        "latent_channels": 2,
        "block_out_channels": (4, 4),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "sample_size": 8,
        "scaling_factor": 0.5,
    }
    autoencoder = AutoencoderKL(**{**settings, **vae}).eval()
    transformer.save_pretrained(folder / "transformer")
    autoencoder.save_pretrained(folder / "vae")
    (scheduler or DDIMScheduler()).save_pretrained(folder / "scheduler")
    return transformer, autoencoder


def write_samples(folder: Path) -> None:
    """The folders and the archive that the plugin ships under samples/ for its examples."""
    down, up = ("DownBlock2D",), ("UpBlock2D",)
    small = {"block_out_channels": (4,), "down_block_types": down, "up_block_types": up}
    saved(folder / "diffusers", DDPMScheduler(), in_channels=1, out_channels=1, **small)
    saved_latent(folder / "latent")
    torch.jit.script(NormalVelocity()).save(str(folder / "normal.pt"))
