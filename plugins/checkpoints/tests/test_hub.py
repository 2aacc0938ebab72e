"""Names in the Hugging Face cache, the files of a model, and what of them is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from checkpoint_files import saved, saved_latent
from diffusers import DDPMScheduler
from pydantic import ValidationError
from ruamel.yaml import YAML
from safetensors.torch import load_file
from tiny_unets import tiny_unet

from scorefold.errors import ArtefactError, ConfigError
from scorefold_checkpoints.config import DiffusersConfig
from scorefold_checkpoints.diffusers import files
from scorefold_checkpoints.diffusers.score import DiffusersScore
from scorefold_registry import Host
from scorefold_registry.run.pipeline import run_file

COMMIT, LATER = "1" * 40, "2" * 40
NAME = "someone/tiny"
Put = Callable[..., Path]


def load(**config: Any) -> DiffusersScore:
    return DiffusersScore(DiffusersConfig(**config))


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Puts a pipeline into a cache of its own, laid out as huggingface_hub does: links to files called by digest."""
    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))

    def put(name: str = NAME, commit: str = COMMIT, branch: str = "main", seed: int = 1) -> Path:
        model = cache / f"models--{name.replace('/', '--')}"
        made = tmp_path / "made" / commit
        unet = tiny_unet()
        torch.manual_seed(seed)
        torch.nn.init.normal_(unet.conv_out.weight)
        unet.save_pretrained(made / "unet")
        DDPMScheduler().save_pretrained(made / "scheduler")
        (model / "refs").mkdir(parents=True, exist_ok=True)
        (model / "refs" / branch).write_text(commit)
        (model / "blobs").mkdir(exist_ok=True)
        for file in (file for file in made.rglob("*") if file.is_file()):
            blob = model / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            shutil.copy(file, blob)
            link = model / "snapshots" / commit / file.relative_to(made)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
        return model / "snapshots" / commit

    return put


def test_the_cache_is_where_huggingface_hub_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert files.hub_cache() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("HF_HOME", "/somewhere")
    assert files.hub_cache() == Path("/somewhere/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/other")
    assert files.hub_cache() == Path("/other")


def test_a_name_is_read_from_the_cache_and_pinned(put: Put) -> None:
    """Its settings then hold the commit and the digest of the weights, and a later branch changes nothing."""
    folder = put()
    config = DiffusersConfig(path=NAME)
    digest = hashlib.sha256((folder / "unet/diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()
    assert (config.path, config.revision, config.digest) == (NAME, COMMIT, digest)
    first = load(path=NAME)
    again = DiffusersConfig.model_validate_json(config.model_dump_json())
    assert again == config
    put(commit=LATER, seed=5)
    assert DiffusersConfig(path=NAME).revision == LATER
    x, t = torch.randn(1, *first.event_shape), torch.tensor([3.0])
    torch.testing.assert_close(DiffusersScore(again).score(x, t), first.score(x, t))
    assert not torch.equal(load(path=NAME).score(x, t), first.score(x, t))
    assert DiffusersConfig(path=NAME, revision=COMMIT).digest == digest


def test_other_weights_than_those_of_the_digest_are_refused(put: Put) -> None:
    folder = put()
    with pytest.raises(ArtefactError, match=f"expected {'0' * 64}"):
        load(path=NAME, digest="0" * 64)
    config = DiffusersConfig(path=NAME)
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.resolve().write_bytes(content)
    with pytest.raises(ArtefactError, match="have the SHA-256"):
        DiffusersScore(config)


def test_a_folder_of_that_name_comes_first(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put()
    saved(tmp_path / NAME, DDPMScheduler(num_train_timesteps=7))
    monkeypatch.chdir(tmp_path)
    assert load(path=NAME).process.t_max == 6
    assert load(path=NAME, revision="main").process.t_max == 999


def test_what_the_cache_lacks_is_named_with_the_command(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder .*, and no someone/absent in the Hugging Face") as found:
        load(path="someone/absent")
    assert "hf download someone/absent, or set download: true" in str(found.value)
    with pytest.raises(ConfigError, match=r"revision v2 is not in the Hugging Face cache.*model_index") as found:
        load(path="someone/absent", revision="v2")
    assert "hf download someone/absent --revision v2, or set download: true" in str(found.value)
    folder = put()
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"holds no diffusion_pytorch_model\.safetensors") as found:
        load(path=NAME)
    assert f"hf download {NAME} --revision {COMMIT}" in str(found.value)


def test_downloads_only_where_it_is_asked_and_needed(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append(options)
        return str(put(name))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(ConfigError):
        load(path="someone/new", revision="main")
    assert not asked
    model = load(path="someone/new", download=True)
    assert f"set revision: {COMMIT}" in model.remarks[0]
    assert "unet/diffusion_pytorch_model.safetensors" in asked[0]["allow_patterns"]
    assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in asked[0]["allow_patterns"])
    assert not load(path="someone/new", download=True).remarks
    assert len(asked) == 1


def test_a_download_that_fails_says_what_helps(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with pytest.raises(ConfigError, match="someone/new can't be downloaded: OSError: no route") as found:
        load(path="someone/new", download=True)
    assert "hf download someone/new" in str(found.value)


@pytest.mark.parametrize("change", [{"revision": "main"}, {"download": True}])
def test_a_folder_has_no_revision(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="are for names"):
        DiffusersConfig(path="./folder", **change)


@pytest.mark.parametrize("revision", ["../../../etc", "..", "/etc/passwd"])
def test_a_revision_leads_nowhere_else(revision: str, put: Put) -> None:
    put()
    with pytest.raises(ConfigError, match="not in the Hugging Face cache"):
        load(path=NAME, revision=revision)


def test_a_run_pins_the_commit(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_text(
        f"version: 1\nname: ask\nstages:\n  score: {{use: score:diffusers, config: {{path: {NAME}}}}}\n"
        "  samples: {use: score, do: sample, options: {n: 2, steps: 2}}\n"
    )
    result = run_file(Host.discover(), file)
    resolved = (result.folder / "resolved.yaml").read_text()
    config = YAML(typ="safe").load(resolved)["stages"]["score"]["config"]
    assert (config["path"], config["revision"]) == (NAME, COMMIT)
    assert len(config["digest"]) == 64
    reused = run_file(Host.discover(), file)
    assert [stage.reused for stage in reused.stages] == [True, True]
    put(commit=LATER, seed=5)
    changed = run_file(Host.discover(), file)
    assert [stage.reused for stage in changed.stages] == [False, False]


def test_shards_are_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    unet = tiny_unet()
    unet.save_pretrained(tmp_path / "unet", max_shard_size="8KB")
    DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    shards = sorted((tmp_path / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    x, t = torch.randn(1, 2, 8, 8), torch.tensor([3.0])
    with torch.no_grad():
        torch.testing.assert_close(load(path=tmp_path).noise(x, t), unet(x, t, return_dict=False)[0])
    shards[1].unlink()
    with pytest.raises(ConfigError, match=f"lacks {shards[1].name}, which"):
        load(path=tmp_path)


def test_variants_are_named_and_half_precision_computes_in_the_network_alone(tmp_path: Path) -> None:
    unet = saved(tmp_path, DDPMScheduler())
    unet.half().save_pretrained(tmp_path / "unet", variant="fp16")
    x, t = torch.randn(2, 2, 8, 8), torch.tensor([3.0, 400.0])
    exact = load(path=tmp_path).noise(x, t)
    halved = load(path=tmp_path, variant="fp16")
    assert next(halved.network.parameters()).dtype == torch.float32
    torch.testing.assert_close(halved.noise(x, t), exact, rtol=2e-2, atol=2e-2)
    for precision in ("float16", "bfloat16"):
        model = load(path=tmp_path, precision=precision)
        assert next(model.network.parameters()).dtype == getattr(torch, precision)
        noise = model.noise(x, t)
        assert noise.dtype == torch.float32
        torch.testing.assert_close(noise, exact, rtol=5e-2, atol=5e-2)
        assert model.sample(1, steps=2).dtype == torch.float32
    with pytest.raises(ConfigError, match=r"holds no diffusion_pytorch_model\.bf16") as found:
        load(path=tmp_path, variant="bf16")
    assert "leave variant out" in str(found.value)
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"there is fp16") as found:
        load(path=tmp_path)
    assert "set variant: fp16" in str(found.value)


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_code_and_texts_are_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path, DDPMScheduler())
    file = tmp_path / "unet/config.json"
    plain = file.read_text()
    for name, message in (
        ("MyOwnUNet", "MyOwnUNet, which diffusers .* doesn't have: code that comes with a model is not run"),
        ("UNet2DConditionModel", "takes .*encoder_hidden_states.* too: the embeddings of a text"),
        ("FluxTransformer2DModel", "pooled_projections.* too: the embeddings of a text"),
        ("AutoencoderKL", "which nothing here gives"),
    ):
        change(file, _class_name=name)
        with pytest.raises(ConfigError, match=message):
            load(path=tmp_path)
    file.write_text(plain)
    change(file, auto_map={"AutoModel": "mine.Net"})
    with pytest.raises(ConfigError, match="is not run"):
        load(path=tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, DDPMScheduler())
    change(tmp_path / "unet/config.json", block_out_channels=[16, 32])
    with pytest.raises(ArtefactError, match=r"can't be loaded|other shapes"):
        load(path=tmp_path)


def test_a_latent_model_is_not_taken_for_one_of_pixels(tmp_path: Path) -> None:
    saved_latent(tmp_path)
    with pytest.raises(ConfigError, match="model of latents"):
        load(path=tmp_path)
    shutil.rmtree(tmp_path / "vae")
    with pytest.raises(ConfigError, match="it has no latents"):
        load(path=tmp_path, space="latent")


def test_settings_of_older_transformers_are_read(tmp_path: Path) -> None:
    saved_latent(tmp_path)
    change(tmp_path / "transformer/config.json", _class_name="Transformer2DModel")
    assert load(path=tmp_path, space="latent").event_shape == (2, 4, 4)
    assert load_file(tmp_path / "transformer/diffusion_pytorch_model.safetensors")
