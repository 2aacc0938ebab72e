"""Multi-scale sampling as a pipeline of diffusers: the images of our own sampler, saved and loaded whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DiffusionPipeline, UNet2DModel
from torch import Tensor

from scorefold.data import EventScale
from scorefold.diffusion import ddim, time_grid
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import TensorSource
from scorefold_nonuniform.diffusers.pipeline import MultiScalePipeline, ScaleUNets, ScoreUNet
from scorefold_nonuniform.diffusers.scheduler import NonUniformScheduler
from scorefold_registry import Host

SHAPE = (3, 16, 16)
BLOCK: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (8,),
    "down_block_types": ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "add_attention": False,
}


def networks(sizes: tuple[int, ...] = (16, 8, 4)) -> ScaleUNets:
    torch.manual_seed(0)
    return ScaleUNets.of([UNet2DModel(sample_size=size, **BLOCK) for size in sizes]).eval()


def scheduler(**settings: Any) -> NonUniformScheduler:
    described: dict[str, Any] = {"process": "log-snr", "bands": {"name": "haar", "levels": 2}, "event_shape": SHAPE}
    return NonUniformScheduler(**{**described, "clip_sample": True, "sampler": "ddim", **settings})


def pipeline(**settings: Any) -> MultiScalePipeline:
    built = MultiScalePipeline(networks(), scheduler(**settings))
    built.set_progress_bar_config(disable=True)
    return built


def drawn(pipe: Any, steps: Any = 9, count: int = 2) -> Tensor:
    images: Tensor = pipe(
        count, generator=torch.Generator().manual_seed(3), num_inference_steps=steps, output_type="pt"
    ).images
    return images


@pytest.mark.parametrize("bands", ["haar", "dct"])
def test_each_network_works_in_its_own_stretch_of_time(bands: str) -> None:
    """Calls and sizes by scale, and the images that our sampler draws from the networks' noise."""
    pipe = pipeline(bands={"name": bands, "levels": 2}, clip_sample=False)
    calls: list[tuple[int, ...]] = []
    for unet in pipe.networks.unets:
        unet.register_forward_hook(lambda module, inputs, output: calls.append(tuple(inputs[0].shape[1:])))
    images = drawn(pipe, [2, 3, 4])
    assert calls == [(3, 4, 4)] * 2 + [(3, 8, 8)] * 3 + [(3, 16, 16)] * 4

    process, parts = pipe.scheduler.process, pipe.scheduler.bands
    x = process.sample_prior((2, *SHAPE), generator=torch.Generator().manual_seed(3), like=torch.zeros(()))
    unit = process.t_max / 999
    for scale, (start, end) in zip((2, 1, 0), ((0, 3), (2, 6), (5, 10)), strict=True):
        times = time_grid(process, [2, 3, 4])[start:end]

        def score(x: Tensor, t: Tensor, scale: int = scale) -> Tensor:
            z = parts.transform(x)
            answer = pipe.networks(parts.synthesise(parts.take(z, scale), scale), t[0].double() / unit, scale)
            noise = parts.put(parts.analyse(answer, scale), scale, torch.zeros_like(z))
            return process.score_from_noise(parts.transform.inverse(noise), x, t)

        with torch.no_grad():
            x, _ = ddim(score, process, x, times)
    torch.testing.assert_close(images, (x / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-2)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m", "ancestral"])
def test_a_pipeline_is_saved_and_loaded_whole(sampler: str, tmp_path: Path) -> None:
    pipe = pipeline(sampler=sampler)
    pipe.save_pretrained(tmp_path)
    loaded = MultiScalePipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert [dict(unet.config)["sample_size"] for unet in loaded.networks.unets] == [16, 8, 4]
    for own, other in zip(pipe.networks.parameters(), loaded.networks.parameters(), strict=True):
        assert torch.equal(own, other)
    # The same weights at other addresses give other last digits.
    torch.testing.assert_close(drawn(loaded), drawn(pipe), rtol=0, atol=1e-3)
    assert (tmp_path / "networks" / "diffusion_pytorch_model.safetensors").is_file()


def test_images_come_as_asked_for() -> None:
    pipe = pipeline()
    assert pipe(2, num_inference_steps=3).images[1].size == (16, 16)
    (array,) = pipe(1, num_inference_steps=3, output_type="np", return_dict=False)
    assert array.shape == (1, 16, 16, 3)
    assert 0 <= array.min() <= array.max() <= 1


def test_a_model_of_ours_runs_in_a_stock_pipeline(host: Host) -> None:
    """score:multiscale behind ScoreUNet, with its own process: the images of its own ``sample``."""
    small = {"use": "network:mlp", "config": {"width": 8, "blocks": 1}}
    data = TensorSource(torch.rand(6, *SHAPE))
    model = host.create("score:multiscale", {"network": small}, data=data).eval()
    x = model.process.sample_prior((2, *SHAPE), generator=torch.Generator().manual_seed(3), like=torch.zeros(()))
    ours = NonUniformScheduler(model.process)
    ours.set_timesteps(9)
    unet = ScoreUNet(model)
    start = x
    with torch.no_grad():
        for t in ours.timesteps:
            x = ours.step(unet(x, t).sample, t, x).prev_sample
    options = {"sampler": "dpmpp-2m", "spacing": "uniform", "to_zero": False}
    expected = model.sample(2, steps=9, generator=torch.Generator().manual_seed(3), **options)
    assert float((x - start).abs().mean()) > 0.1
    torch.testing.assert_close(x, expected, rtol=1e-3, atol=1e-3)
    stock = DDPMPipeline(unet=unet, scheduler=ours)
    stock.set_progress_bar_config(disable=True)
    assert drawn(stock).shape == (2, *SHAPE)


def published(**settings: Any) -> Any:
    """score:multiscale of the published construction, untrained, with answers that are not 0."""
    network = {"use": "network:unet", "config": {"channels": [8, 16], "groups": 4}}
    config = {"construction": "published", "boundary": "normal", "network": network, "ends": [0.3, 0.6, 1.0]}
    data = TensorSource(torch.rand(6, *SHAPE), EventScale(low=0.0, high=1.0))
    torch.manual_seed(0)
    model = Host.discover().create("score:multiscale", {**config, **settings}, data=data).eval()
    for each in model.networks:
        for parameter in each.network.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def test_a_trained_model_of_ours_becomes_a_pipeline_of_theirs(tmp_path: Path) -> None:
    """Saved, loaded without us naming a network, and the images equal its own ``sample``."""
    model = published()
    pipe = MultiScalePipeline.of_score(model, sampler="ddim")
    pipe.save_pretrained(tmp_path)
    loaded = MultiScalePipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert (loaded.config.low, loaded.config.high) == (0, 1)
    loaded.scheduler.set_timesteps(9)
    times = loaded.scheduler._times[: len(loaded.scheduler.timesteps)]
    torch.testing.assert_close(loaded.scheduler.timesteps.double(), 1000 * times.double())
    options = {"sampler": "ddim", "spacing": "uniform", "to_zero": False}
    samples = model.sample(2, steps=9, generator=torch.Generator().manual_seed(3), **options)
    assert float(samples.clamp(0, 1).std()) > 0.02
    torch.testing.assert_close(drawn(loaded), samples.clamp(0, 1), rtol=0, atol=2e-3)


def test_only_models_that_diffusers_can_hold_become_pipelines() -> None:
    for settings in ({"construction": "ours"}, {"network": {"use": "network:mlp", "config": {"width": 8}}}):
        with pytest.raises(ConfigError, match=r"take one number|no UNet2DModel"):
            MultiScalePipeline.of_score(published(**settings))
    uneven = {"use": "network:unet", "config": {"channels": [4, 4, 4, 4], "groups": 4}}
    with pytest.raises(ConfigError, match=r"shape \(3, 4, 4\)"):
        MultiScalePipeline.of_score(published(network=uneven))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="no networks were given"):
        ScaleUNets([])
    with pytest.raises(ConfigError, match="names no bands") as refused:
        MultiScalePipeline(networks(), NonUniformScheduler("vp"))
    assert "'levels': 2" in str(refused.value.hint)
    with pytest.raises(ConfigError, match="end together"):
        MultiScalePipeline(networks(), scheduler(ends=[1, 1, 1]))
    with pytest.raises(ShapeError, match="the scheduler's scales have"):
        MultiScalePipeline(networks((16, 8, 8)), scheduler())
    with pytest.raises(ShapeError, match="no sample_size"):
        MultiScalePipeline(ScaleUNets.of([UNet2DModel(**BLOCK)]), scheduler())
    assert issubclass(MultiScalePipeline, DiffusionPipeline)
