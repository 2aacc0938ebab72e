"""A diffusers pipeline on disk as the special case of equal speeds, and a scheduler of ours inside diffusers.

python examples/diffusers_checkpoint.py [FOLDER]            any DDPM pipeline's folder; a tiny one by default
python examples/diffusers_checkpoint.py --write my-pipeline writes the tiny one (random weights) and ends
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import Tensor

from scorefold.diffusion import PerComponent, dpm_solver_pp_2m, time_grid
from scorefold.interfaces import ScoreModel
from scorefold_nonuniform.bands.coefficients import build_bands
from scorefold_nonuniform.config import HaarBandsConfig
from scorefold_nonuniform.diffusers.scheduler import NonUniformScheduler
from scorefold_registry import Host
from scorefold_toolkit.rotated import Rotated

IMAGES, STEPS = 4, 20


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    given = parser.parse_args(arguments)
    if given.write:
        write_tiny_pipeline(given.write)
        print(f"a pipeline with random weights is in {given.write}")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or write_tiny_pipeline(Path(temporary) / "pipeline")
        score = Host.discover().create("score:diffusers", {"path": folder}).eval()
        equal_speeds(score)
        our_scheduler_in_their_pipeline(folder, score)


def write_tiny_pipeline(folder: Path) -> Path:
    """What a published checkpoint looks like on disk: unet/, scheduler/ and model_index.json."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
    )
    DDPMPipeline(unet=unet, scheduler=DDPMScheduler()).save_pretrained(folder)
    return folder


@torch.no_grad()
def equal_speeds(score: ScoreModel) -> float:
    """The same samples by the checkpoint's own process, by one with a (equal) speed for each pixel, and by one with a
    speed for each band of a wavelet: the largest relative difference of images."""
    schedule, shape = score.process.schedule, score.event_shape
    by_pixel = PerComponent(shape, schedule)
    by_band = Rotated(PerComponent(shape, schedule), build_bands(HaarBandsConfig(levels=2), shape).transform)
    noise = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    drawn = [
        dpm_solver_pp_2m(score.score, process, noise, time_grid(process, STEPS))[0]
        for process in (score.process, by_pixel, by_band)
    ]
    difference = max(float((images - drawn[0]).norm() / drawn[0].norm()) for images in drawn)
    print(f"equal speeds: {IMAGES} images of shape {shape}, the same to {difference:.1e} by pixels and by bands")
    return difference


@torch.no_grad()
def our_scheduler_in_their_pipeline(folder: Path, score: ScoreModel) -> Tensor:
    """diffusers' own pipeline and network, with our process and DPM-Solver++(2M) in place of its scheduler."""
    pipeline = DDPMPipeline.from_pretrained(folder)
    theirs = pipeline.scheduler.config
    pipeline.scheduler = NonUniformScheduler(
        score.process, num_train_timesteps=theirs.num_train_timesteps, prediction_type=theirs.prediction_type
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    images = pipeline(IMAGES, generator, num_inference_steps=STEPS, output_type="pt").images
    noise = torch.randn(IMAGES, *score.event_shape, generator=torch.Generator().manual_seed(0))
    ours, _ = dpm_solver_pp_2m(score.score, score.process, noise, time_grid(score.process, STEPS))
    difference = float((images - (ours / 2 + 0.5).clamp(0, 1)).abs().max())
    print(f"our scheduler in diffusers: the same images as our sampler's to {difference:.1e}")
    return images


if __name__ == "__main__":
    main()
