"""Published models: tiny networks saved in diffusers' own format, read back and held to direct calls and to the
scheduler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import SHAPE, saved, write_samples
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    ScoreSdeVeScheduler,
    UNet1DModel,
    UNet2DModel,
)
from safetensors.torch import load_file, save_file
from tiny_unets import tiny_unet
from torch import Tensor

import scorefold_checkpoints
from scorefold.diffusion import IsotropicProcess
from scorefold.errors import ArtefactError, ConfigError, ShapeError
from scorefold_checkpoints.config import DiffusersConfig
from scorefold_checkpoints.diffusers.score import DiffusersScore
from scorefold_checkpoints.parametrisations import DiscreteVP
from scorefold_registry import Host

SAMPLES = Path(scorefold_checkpoints.__file__).parent / "samples"


def load(folder: Path, **config: Any) -> DiffusersScore:
    return DiffusersScore(DiffusersConfig(path=str(folder), **config))


def direct(unet: UNet2DModel, x: Tensor, t: Tensor) -> Tensor:
    with torch.no_grad():
        answer: Tensor = unet(x, t, return_dict=False)[0]
    return answer


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_index_map_is_exact_at_every_integer(beta_schedule: str) -> None:
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule=beta_schedule)
    schedule = DiscreteVP(scheduler.alphas_cumprod)
    t = torch.arange(1000, dtype=torch.float64)
    signal, scale = schedule.signal_scale(t)
    torch.testing.assert_close(signal**2, scheduler.alphas_cumprod.double(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(signal**2 + scale**2, torch.ones(1000, dtype=torch.float64))
    torch.testing.assert_close(schedule.time_at(scale / signal), t, rtol=0, atol=1e-6)
    single, _ = schedule.signal_scale(t.float())
    torch.testing.assert_close(single**2, scheduler.alphas_cumprod, rtol=1e-6, atol=1e-8)


def test_between_integers_the_schedule_is_a_diffusion() -> None:
    """log-SNR falls, inverts, and the rates belong to dx = a x dt + g dw with this signal and scale."""
    schedule = DiscreteVP(DDPMScheduler(num_train_timesteps=50).alphas_cumprod)
    t = torch.linspace(0.013, 48.987, 200, dtype=torch.float64)
    log_snr = schedule.log_snr(t)
    assert bool((log_snr[1:] < log_snr[:-1]).all())
    torch.testing.assert_close(schedule.time_at((-log_snr / 2).exp()), t, rtol=0, atol=1e-9)
    step = 1e-6
    later, earlier = schedule.signal_scale(t + step), schedule.signal_scale(t - step)
    drift, dispersion = schedule.rates(t)
    torch.testing.assert_close(drift, (later[0].log() - earlier[0].log()) / (2 * step), rtol=1e-5, atol=1e-8)
    _, scale = schedule.signal_scale(t)
    variance_rate = (later[1] ** 2 - earlier[1] ** 2) / (2 * step)
    torch.testing.assert_close(dispersion**2, variance_rate - 2 * drift * scale**2, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_the_score_is_that_of_a_direct_call(prediction: str, tmp_path: Path) -> None:
    scheduler = DDPMScheduler(num_train_timesteps=100, prediction_type=prediction, clip_sample=False)
    unet = saved(tmp_path, scheduler)
    model = load(tmp_path)
    assert model.event_shape == SHAPE
    assert (model.process.t_min, model.process.t_max) == (0, 99)
    x, t = torch.randn(4, *SHAPE), torch.tensor([0, 17, 50, 99])
    answer, alpha = direct(unet, x, t), scheduler.alphas_cumprod[t].reshape(-1, 1, 1, 1)
    noise = {
        "epsilon": answer,
        "sample": (x - alpha.sqrt() * answer) / (1 - alpha).sqrt(),
        "v_prediction": alpha.sqrt() * answer + (1 - alpha).sqrt() * x,
    }[prediction]
    torch.testing.assert_close(model.noise(x, t.float()), noise, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.score(x, t.float()), -noise / (1 - alpha).sqrt(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_the_denoised_image_is_the_schedulers_own(prediction: str, tmp_path: Path) -> None:
    scheduler = DDIMScheduler(num_train_timesteps=100, prediction_type=prediction, clip_sample=False)
    unet = saved(tmp_path, scheduler)
    model, x = load(tmp_path), torch.randn(1, *SHAPE)
    scheduler.set_timesteps(100)
    step = scheduler.step(direct(unet, x, torch.tensor([40])), 40, x)
    torch.testing.assert_close(model.denoise(x, torch.tensor([40.0])), step.pred_original_sample, rtol=1e-4, atol=1e-5)


def test_a_pipeline_saved_by_diffusers_is_read_and_samples(tmp_path: Path, generator: torch.Generator) -> None:
    DDPMPipeline(tiny_unet(), DDPMScheduler(num_train_timesteps=100)).save_pretrained(tmp_path)
    model = load(tmp_path)
    draws = model.sample(2, steps=4, generator=generator)
    assert draws.shape == (2, *SHAPE)
    assert bool(draws.isfinite().all())
    assert model.score(draws[:0], torch.zeros(0)).shape == (0, *SHAPE)


def test_a_network_and_a_scheduler_in_folders_of_their_own(tmp_path: Path) -> None:
    tiny_unet().save_pretrained(tmp_path / "network")
    DDPMScheduler(num_train_timesteps=20).save_pretrained(tmp_path / "noise")
    model = load(tmp_path / "network", scheduler=str(tmp_path / "noise"))
    assert model.process.t_max == 19
    with pytest.raises(ConfigError, match=r"scheduler_config\.json"):
        load(tmp_path / "network")


def test_variances_are_left_out_and_classes_are_the_condition(tmp_path: Path) -> None:
    unet = saved(tmp_path, DDPMScheduler(num_train_timesteps=20), out_channels=4, num_class_embeds=3)
    model, x = load(tmp_path), torch.randn(2, *SHAPE)
    with torch.no_grad():
        answer = unet(x, torch.tensor([3, 3]), class_labels=torch.tensor([0, 2]), return_dict=False)[0]
    torch.testing.assert_close(model.noise(x, torch.tensor([3.0]), torch.tensor([0, 2])), answer[:, :2])
    assert model.score(x, torch.tensor([3.0]), torch.tensor([0, 2])).shape == (2, *SHAPE)
    other = model.score(x, torch.tensor([3.0]), torch.tensor([1, 2]))
    changed = (other != model.score(x, torch.tensor([3.0]), torch.tensor([0, 2]))).flatten(1).any(1)
    assert changed.tolist() == [True, False]
    with pytest.raises(ConfigError, match="labels"):
        model.score(x, torch.tensor([3.0]))


def test_a_variance_exploding_model_answers_with_the_score(tmp_path: Path) -> None:
    scheduler = ScoreSdeVeScheduler(num_train_timesteps=50, sigma_min=0.01, sigma_max=30.0)
    unet = saved(tmp_path, scheduler, time_embedding_type="fourier")
    model, x = load(tmp_path), torch.randn(3, *SHAPE)
    scheduler.set_sigmas(50)
    sigma = scheduler.discrete_sigmas[torch.tensor([0, 20, 49])]
    assert isinstance(model.process, IsotropicProcess)
    t = model.process.time_at(sigma)
    torch.testing.assert_close(model.score(x, t), direct(unet, x, sigma), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.noise(x, t), -sigma.reshape(-1, 1, 1, 1) * model.score(x, t), rtol=1e-4, atol=1e-5)


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"none of unet/config\.json, transformer/config\.json and config\.json"):
        load(tmp_path)
    saved(tmp_path, DDPMScheduler())
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtefactError, match="can't be loaded"):
        load(tmp_path)
    weights.rename(tmp_path / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ConfigError, match="pickle"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ("unet/config.json", {"sample_size": None}, "sample_size"),
        ("unet/config.json", {"sample_size": [8, 8, 8]}, "expected one number or two"),
        ("scheduler/scheduler_config.json", {"_class_name": "UNet2DModel"}, "names the scheduler 'UNet2DModel'"),
        ("scheduler/scheduler_config.json", {"_class_name": "utils"}, "names the scheduler 'utils'"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
            "timestep_type: continuous",
        ),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True},
            "use_flow_sigmas: True",
        ),
        ("scheduler/scheduler_config.json", {"_class_name": "NoSuchScheduler"}, "NoSuchScheduler"),
        ("scheduler/scheduler_config.json", {"prediction_type": "noise"}, "prediction_type"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True, "beta_end": 0.9}, "log-SNR"),
    ],
)
def test_settings_that_can_not_be_read_are_said(
    file: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    saved(tmp_path, DDPMScheduler())
    place = tmp_path / file
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("unet/config.json", {"block_out_channels": "ab"}),
        ("unet/config.json", {"norm_num_groups": 0}),
        ("scheduler/scheduler_config.json", {"beta_schedule": "straight"}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "many"}),
    ],
)
def test_settings_that_diffusers_cannot_use_are_said(file: str, change: dict[str, Any], tmp_path: Path) -> None:
    saved(tmp_path, DDPMScheduler())
    place = tmp_path / file
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(ArtefactError, match="can't be loaded"):
        load(tmp_path)


@pytest.mark.parametrize(("change", "message"), [("drop", "lacks the weights conv_out"), ("add", "no use for")])
def test_weights_of_another_network_are_refused_and_never_drawn(change: str, message: str, tmp_path: Path) -> None:
    saved(tmp_path, DDPMScheduler())
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    if change == "drop":
        weights = {name: value for name, value in weights.items() if "conv_out" not in name}
    else:
        weights["another"] = torch.zeros(1)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match=message):
        load(tmp_path)


def test_attention_weights_by_their_older_names_are_read(tmp_path: Path) -> None:
    """As in checkpoints published before diffusers renamed them."""
    unet = saved(tmp_path, DDPMScheduler(), down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=4)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(file)
    for new, old in older.items():
        weights = {name.replace(f".{new}.", f".{old}."): value for name, value in weights.items()}
    assert any(".query." in name for name in weights)
    save_file(weights, file, metadata={"format": "pt"})
    x, t = torch.randn(1, *SHAPE), torch.tensor([5.0])
    torch.testing.assert_close(load(tmp_path).noise(x, t), direct(unet, x, t))


@pytest.mark.filterwarnings("ignore:`torch.jit.s")
def test_the_samples_are_what_their_readme_says(tmp_path: Path) -> None:
    write_samples(tmp_path)
    for fresh in tmp_path.rglob("*.safetensors"):
        torch.testing.assert_close(load_file(SAMPLES / fresh.relative_to(tmp_path)), load_file(fresh))
    model = load(SAMPLES / "diffusers")
    assert (model.event_shape, model.process.t_max) == ((1, 8, 8), 999)
    assert load(SAMPLES / "latent", space="latent").event_shape == (2, 4, 4)
    assert sum(file.stat().st_size for file in SAMPLES.rglob("*") if file.is_file()) < 90_000


def test_a_file_that_is_not_json_is_said(tmp_path: Path) -> None:
    saved(tmp_path, DDPMScheduler())
    (tmp_path / "unet" / "config.json").write_text("{")
    with pytest.raises(ArtefactError, match="JSON"):
        load(tmp_path)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, DDPMScheduler())
    with pytest.raises(ShapeError, match="takes"):
        load(tmp_path).score(torch.randn(1, 2, 16, 16), torch.tensor([1.0]))


def test_half_precision_stays_in_the_network(host: Host, tmp_path: Path) -> None:
    """Runs make models float32: the events, not a network whose precision was chosen."""
    saved(tmp_path, DDPMScheduler())
    model = host.create("score:diffusers", {"path": str(tmp_path), "precision": "float16"}, dtype=torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    x = torch.randn(1, *SHAPE)
    assert model.log_prob(x, trace="hutchinson", rtol=0.1, atol=0.1).dtype == torch.float32


def test_sequences_have_one_side(tmp_path: Path) -> None:
    network = UNet1DModel(
        sample_size=64,
        in_channels=2,
        out_channels=2,
        extra_in_channels=64,
        block_out_channels=(32, 32, 64),
        layers_per_block=1,
    ).eval()
    network.save_pretrained(tmp_path / "unet")
    DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    model = load(tmp_path)
    assert model.event_shape == (2, 64)
    assert not model.event_scale.bounded
    x, t = torch.randn(2, 2, 64), torch.tensor([3.0, 400.0])
    with torch.no_grad():
        torch.testing.assert_close(model.noise(x, t), network(x, t, return_dict=False)[0])
