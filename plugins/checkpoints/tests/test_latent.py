"""Latent models: their autoencoder's units, classes and guidance, and images of their samples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import saved, saved_latent
from diffusers import DDPMScheduler, VQModel

import scorefold_checkpoints
from scorefold.data import Dataset, EventScale
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import TensorSource
from scorefold_checkpoints.config import DiffusersConfig, LatentsConfig
from scorefold_checkpoints.diffusers.files import Source
from scorefold_checkpoints.diffusers.latent import LatentAutoencoder, Latents
from scorefold_checkpoints.diffusers.score import DiffusersScore
from scorefold_registry import Host
from scorefold_registry.run.pipeline import run_file

SAMPLE = Path(scorefold_checkpoints.__file__).parent / "samples/latent"


def load(folder: Path, **config: Any) -> DiffusersScore:
    return DiffusersScore(DiffusersConfig(path=folder, space="latent", **config))


def images(low: float = -1.0, high: float = 1.0, count: int = 12) -> TensorSource:
    x = low + (high - low) * torch.rand(count, 1, 8, 8)
    splits = {"train": Dataset(x, condition=torch.arange(count) % 10), "test": Dataset(x[:3], torch.arange(3))}
    return TensorSource(splits, EventScale(low=low, high=high))


def test_latents_are_in_the_units_of_the_model(tmp_path: Path) -> None:
    _, vae = saved_latent(tmp_path, scaling_factor=0.18215, shift_factor=0.1)
    autoencoder = LatentAutoencoder(Source(tmp_path, "it"), None, "float32")
    x = 2 * torch.rand(2, 1, 8, 8) - 1
    with torch.no_grad():
        raw = vae.encode(x).latent_dist.mode()
        z = autoencoder.encode(x)
        torch.testing.assert_close(z, (raw - 0.1) * 0.18215)
        torch.testing.assert_close(autoencoder.decode(z), vae.decode(raw).sample.clamp(-1, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(autoencoder.units().to_raw(z), raw)


def test_latents_without_units_in_their_settings_are_raw(tmp_path: Path) -> None:
    saved_latent(tmp_path)
    file = tmp_path / "vae" / "config.json"
    settings = {name: value for name, value in json.loads(file.read_text()).items() if "factor" not in name}
    file.write_text(json.dumps(settings))
    assert LatentAutoencoder(Source(tmp_path, "it"), None, "float32").units() == EventScale(shift=0.0, factor=1.0)


@pytest.mark.parametrize(
    ("scale", "shape", "nats"), [(0.18215, (4, 64, 64), -27900.719), (1.5305, (16, 128, 128), 111567.039)]
)
def test_likelihoods_of_raw_latents(scale: float, shape: tuple[int, ...], nats: float, tmp_path: Path) -> None:
    """log p(raw) = log p(z) + dim ln scale: Stable Diffusion 1's and 3's."""
    saved_latent(tmp_path, scaling_factor=scale, shift_factor=0.0609)
    units = LatentAutoencoder(Source(tmp_path, "it"), None, "float32").units()
    assert -units.log_volume(shape) == pytest.approx(nats, abs=2e-3)


def test_units_of_each_channel(tmp_path: Path) -> None:
    _, vae = saved_latent(tmp_path, latents_mean=[0.5, -1.0], latents_std=[2.0, 4.0])
    autoencoder = LatentAutoencoder(Source(tmp_path, "it"), None, "float32")
    x = 2 * torch.rand(2, 1, 8, 8) - 1
    with torch.no_grad():
        raw = vae.encode(x).latent_dist.mode()
    mean, std = torch.tensor([0.5, -1.0]).reshape(-1, 1, 1), torch.tensor([2.0, 4.0]).reshape(-1, 1, 1)
    torch.testing.assert_close(autoencoder.encode(x), (raw - mean) * 0.5 / std)
    assert autoencoder.units() == EventScale()


def test_a_codebook_is_an_autoencoder_too(tmp_path: Path) -> None:
    saved(tmp_path, DDPMScheduler(), sample_size=4)
    vq = VQModel(
        in_channels=1, out_channels=1, latent_channels=2, block_out_channels=(4, 4), norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, num_vq_embeddings=8,
    ).eval()  # fmt: skip
    vq.save_pretrained(tmp_path / "vqvae")
    model = load(tmp_path)
    assert model.autoencoder is not None
    z = model.autoencoder.encode(2 * torch.rand(2, 1, 8, 8) - 1)
    assert z.shape == (2, 2, 4, 4)
    assert model.decode(z).shape == (2, 1, 8, 8)


def test_classes_none_and_guidance(tmp_path: Path) -> None:
    """Class 10 of a transformer for 10 classes is none; guidance mixes both, and a likelihood takes none of it."""
    transformer, _ = saved_latent(tmp_path)
    model = load(tmp_path)
    x, t = torch.randn(2, 2, 4, 4), torch.tensor([10.0, 500.0])
    with torch.no_grad():
        answer = {
            label: transformer(x, t, class_labels=torch.full((2,), label), return_dict=False)[0][:, :2]
            for label in (3, 10)
        }
    labels = torch.tensor([3, 3])
    torch.testing.assert_close(model.noise(x, t, labels), answer[3])
    torch.testing.assert_close(model.noise(x, t), answer[10])
    scale = model.process.coefficients(x, t)[1]
    guided = model.bind(labels, guidance=4.0)(x, t)
    torch.testing.assert_close(guided, -(4 * answer[3] - 3 * answer[10]) / scale, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.bind(labels)(x, t), -answer[3] / scale, rtol=1e-4, atol=1e-4)
    assert model.sample(2, labels[:1], steps=3, guidance=4.0).shape == (2, 1, 2, 4, 4)
    for wrong in (11, -1):
        with pytest.raises(DataError, match="expected 0 to 10"):
            model.score(x, t, torch.full((2,), wrong))


def test_a_network_of_classes_may_say_which_is_none(tmp_path: Path) -> None:
    saved(tmp_path, DDPMScheduler(), num_class_embeds=3)
    x, t = torch.randn(2, 2, 8, 8), torch.tensor([5.0])
    with pytest.raises(ConfigError, match="null_class"):
        DiffusersScore(DiffusersConfig(path=tmp_path)).score(x, t)
    model = DiffusersScore(DiffusersConfig(path=tmp_path, null_class=2))
    torch.testing.assert_close(model.score(x, t), model.score(x, t, torch.tensor([2, 2])))
    with pytest.raises(ConfigError, match="null_class is 3; this network has 3 classes"):
        DiffusersScore(DiffusersConfig(path=tmp_path, null_class=3))


def test_likelihoods_say_what_they_mean(tmp_path: Path) -> None:
    saved_latent(tmp_path)
    model = load(tmp_path)
    assert "likelihoods of latents" in model.remarks[0]
    found = model.log_prob(torch.randn(1, 2, 4, 4), torch.tensor([1]), trace="hutchinson", rtol=1e-2, atol=1e-2)
    assert bool(found.isfinite().all())


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_images_of_any_range_have_the_same_latents(low: float, high: float) -> None:
    torch.manual_seed(3)
    source = Latents(LatentsConfig(path=SAMPLE, batch_size=5), data=images(low, high))
    torch.manual_seed(3)
    plain = Latents(LatentsConfig(path=SAMPLE), data=images())
    torch.testing.assert_close(source.load("train").x, plain.load("train").x, rtol=1e-4, atol=1e-4)
    assert isinstance(source.load("train").condition, torch.Tensor)
    assert source.fingerprint() == plain.fingerprint()


def test_what_an_encoder_can_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes images"):
        Latents(LatentsConfig(path=SAMPLE), data=TensorSource({"train": Dataset(torch.randn(4, 3))}))
    three = TensorSource({"train": Dataset(torch.rand(4, 3, 8, 8))}, EventScale(low=0.0, high=1.0))
    with pytest.raises(ShapeError, match=r"can't take images \(3, 8, 8\)"):
        Latents(LatentsConfig(path=SAMPLE), data=three)
    with pytest.raises(ConfigError, match="has no latents"):
        Latents(LatentsConfig(path=SAMPLE.parent / "diffusers"), data=images())


def test_a_model_of_pixels_decodes_nothing() -> None:
    model = DiffusersScore(DiffusersConfig(path=SAMPLE.parent / "diffusers"))
    with pytest.raises(ConfigError, match="nothing to decode"):
        model.decode(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ShapeError, match="this model takes"):
        load(SAMPLE).decode(torch.zeros(1, 1, 8, 8))


def test_a_run_samples_decodes_and_audits_after_decoding(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_text(f"""
version: 1
name: latent
stages:
  digits: {{use: data:digits, config: {{limit: 300, condition: label, fractions: [0.5, 0, 0.5]}}}}
  latents: {{use: data:latents, config: {{path: {SAMPLE}}}, inputs: {{data: digits}}}}
  model: {{use: score:diffusers, config: {{path: {SAMPLE}, space: latent}}}}
  samples: {{use: model, do: sample, inputs: {{data: latents}}, options: {{n: 6, conditions: 10, guidance: 2}}}}
  pictures: {{use: data:decoded, inputs: {{model: model, latents: samples}}}}
  restored: {{use: data:decoded, inputs: {{model: model, latents: latents}}}}
  audit: {{use: pictures, do: audit, inputs: {{data: restored}}}}
  likelihood: {{use: model, do: evaluate, inputs: {{data: latents}}, options: {{limit: 2, tolerance: 0.05}}}}
""")
    result = run_file(host, file)
    stages = {stage.name: stage for stage in result.stages}
    assert result.value("pictures").load("test").x.shape == (60, 1, 8, 8)
    assert len(result.value("restored").load("test").x) == 150
    assert "copied share (pixels)" in stages["audit"].metrics
    facts = json.loads((result.folder / "likelihood/result.json").read_text())
    assert any("likelihoods of latents" in text for text in facts["warnings"])
    assert list((result.folder / "pictures/figures").iterdir())
    assert all(math.isfinite(value) for value in stages["likelihood"].metrics.values())


def test_decoded_images_are_in_the_range_of_their_decoder() -> None:
    host = Host.discover()
    digits = {"use": "data:digits", "config": {"limit": 20}}
    latents = host.create("data:latents", {"path": str(SAMPLE)}, data=digits)
    model = host.create("score:diffusers", {"path": str(SAMPLE), "space": "latent"})
    scale = host.create("data:decoded", {}, model=model, latents=latents).event_scale
    assert (scale.low, scale.high) == (-1.0, 1.0)
