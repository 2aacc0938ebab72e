"""Our scheduler in diffusers' pipelines, and what is saved with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
)
from scheduler_toys import (
    PROCESSES,
    SCHEDULERS,
    SHAPE,
    GaussianScore,
    driven,
    network,
    quiet,
    speeds,
    start,
)

from scorefold.diffusion import SAMPLERS, IsotropicProcess, LinearLogSNR, PerComponent, time_grid
from scorefold.errors import ConfigError
from scorefold_nonuniform.bands.coefficients import build_bands
from scorefold_nonuniform.config import HaarBandsConfig
from scorefold_nonuniform.diffusers.pipeline import ScoreUNet
from scorefold_nonuniform.diffusers.scheduler import NonUniformScheduler
from scorefold_toolkit.rotated import Rotated


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m", "ancestral"])
def test_stock_pipelines_run_with_our_scheduler(name: str, sampler: str) -> None:
    scheduler = NonUniformScheduler(**SCHEDULERS[name], sampler=sampler)
    assert scheduler.init_noise_sigma == 1
    pipeline = quiet(DDPMPipeline(unet=network(), scheduler=scheduler))
    first, again = (
        pipeline(2, torch.Generator().manual_seed(0), num_inference_steps=7, output_type="pt").images for _ in range(2)
    )
    assert first.shape == (2, 3, 8, 8)
    assert torch.equal(first, again)
    assert float(first.std()) > 0
    picture = pipeline(1, torch.Generator().manual_seed(0), num_inference_steps=3).images[0]
    assert picture.size == (8, 8)


def test_their_ddim_pipeline_takes_our_scheduler_once_it_is_built() -> None:
    """Its constructor turns any scheduler into its own, so ours is set afterwards."""
    pipeline = quiet(DDIMPipeline(unet=network(), scheduler=DDIMScheduler()))
    pipeline.scheduler = NonUniformScheduler(**SCHEDULERS["haar"], sampler="ddim")
    images = pipeline(2, torch.Generator().manual_seed(0), num_inference_steps=6, output_type="pt").images
    other = quiet(DDPMPipeline(unet=network(), scheduler=NonUniformScheduler(**SCHEDULERS["haar"], sampler="ddim")))
    expected = other(2, torch.Generator().manual_seed(0), num_inference_steps=6, output_type="pt").images
    assert torch.equal(images, expected)
    noisy = pipeline(2, torch.Generator().manual_seed(0), eta=0.5, num_inference_steps=6, output_type="pt").images
    assert not torch.equal(noisy, images)
    pipeline.scheduler = NonUniformScheduler("vp")
    with pytest.raises(ConfigError, match=r"eta is 0\.5, and the sampler 'dpmpp-2m' has none"):
        pipeline(1, eta=0.5, num_inference_steps=6)


@pytest.mark.parametrize("name", ["vp", "speeds", "bands"])
def test_a_score_of_ours_is_a_network_of_their_pipelines(name: str) -> None:
    """It gives the images that our sampler draws from the same noise."""
    process = PROCESSES[name]()
    model = GaussianScore(process).double()
    scheduler = NonUniformScheduler(process, num_train_timesteps=200)
    pipeline = quiet(DDPMPipeline(unet=ScoreUNet(model, 200), scheduler=scheduler))
    images = pipeline(3, torch.Generator().manual_seed(5), num_inference_steps=10, output_type="pt").images
    noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected, _ = SAMPLERS["dpmpp-2m"](model.score, process, noise, time_grid(process, 10))
    torch.testing.assert_close(images, (expected / 2 + 0.5).clamp(0, 1), rtol=1e-8, atol=1e-8)
    assert (pipeline.unet.dtype, pipeline.unet.device.type) == (torch.float64, "cpu")


def test_equal_speeds_are_the_uniform_process() -> None:
    """One speed for all bands of a transform gives the samples of the isotropic process."""
    one = PerComponent(SHAPE, LinearLogSNR(10.0, -10.0))
    turned = Rotated(PerComponent(SHAPE, LinearLogSNR(10.0, -10.0)), build_bands(HaarBandsConfig(), SHAPE).transform)
    uniform = IsotropicProcess(LinearLogSNR(10.0, -10.0))
    x = start(uniform).float()
    unet = network(in_channels=2, out_channels=2)
    ends = []
    with torch.no_grad():
        for process in (uniform, one, turned):
            ends.append(driven(NonUniformScheduler(process), lambda x, t: unet(x, t).sample, x, 8))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ends[2], ends[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_is_described_is_saved(name: str, tmp_path: Path) -> None:
    scheduler = NonUniformScheduler(**SCHEDULERS[name], sampler="ddim", prediction_type="v_prediction")
    scheduler.save_pretrained(tmp_path)
    loaded = NonUniformScheduler.from_pretrained(tmp_path)
    assert {k: v for k, v in loaded.config.items() if k[0] != "_"} == {
        k: v for k, v in scheduler.config.items() if k[0] != "_"
    }
    x = torch.randn(2, 3, 8, 8)
    for each in (scheduler, loaded):
        each.set_timesteps(6)
    assert torch.equal(loaded.timesteps, scheduler.timesteps)
    taken = [each.step(x / 2, each.timesteps[0], x).prev_sample for each in (scheduler, loaded)]
    assert torch.equal(*taken)
    faster = NonUniformScheduler.from_config(loaded.config, sampler="dpmpp-2m")
    assert (faster.config.sampler, faster.config.prediction_type) == ("dpmpp-2m", "v_prediction")


def test_a_process_made_in_python_is_given_again(tmp_path: Path) -> None:
    scheduler = NonUniformScheduler(speeds(), num_train_timesteps=77)
    assert "speeds" not in repr(scheduler)
    scheduler.save_config(tmp_path)
    config = NonUniformScheduler.load_config(tmp_path)
    with pytest.raises(ConfigError, match="this config holds none") as refused:
        NonUniformScheduler.from_config(config)
    assert "from_config(config, process=...)" in str(refused.value.hint)
    assert len(NonUniformScheduler.from_config(config, process=speeds())) == 77


def test_a_pipeline_is_saved_with_our_scheduler(tmp_path: Path) -> None:
    pipeline = quiet(DDPMPipeline(unet=network(), scheduler=NonUniformScheduler(**SCHEDULERS["fourier"])))
    pipeline.save_pretrained(tmp_path)
    loaded = quiet(DDPMPipeline.from_pretrained(tmp_path))
    assert isinstance(loaded.scheduler, NonUniformScheduler)
    images = [
        each(1, torch.Generator().manual_seed(0), num_inference_steps=5, output_type="pt").images
        for each in (pipeline, loaded)
    ]
    # The same weights at other addresses give other last digits.
    torch.testing.assert_close(*images, rtol=0, atol=1e-3)
