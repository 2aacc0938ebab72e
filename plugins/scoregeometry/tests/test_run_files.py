"""Geodesics by one run file: of published checkpoints, of pixels and of latents, and of flows of another library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import saved, saved_latent
from diffusers import DDIMScheduler, DDPMScheduler
from safetensors.torch import load_file

from scorefold.errors import ScorefoldError
from scorefold_registry import Host
from scorefold_registry.run.pipeline import run_file


def run(host: Host, folder: Path, stages: str) -> Any:
    file = folder / "run.yaml"
    file.write_text(f"version: 1\nname: paths\nstages:\n{stages}")
    return run_file(host, file)


@torch.no_grad()
def weakened(network: Any, folder: Path, name: str) -> None:
    """Saves a network again with little of what it says: with velocities its score is nearly N(0, I)'s, as a trained
    one's is smooth."""
    getattr(network, name).weight *= 0.02
    getattr(network, name).bias *= 0
    network.save_pretrained(folder)


PIXELS = """
  data: {use: data:digits, config: {range: [-1, 1], limit: 200, fractions: [0.5, 0, 0.5]}}
  model: {use: score:diffusers, config: {path: model}, inputs: {data: data}}
  samples: {use: model, do: sample, options: {n: 8}}
  geometry: {use: geometry:score, inputs: {score: model, data: samples}, config: {noise: 0.5}}
  paths: {use: geometry, do: interpolate, inputs: {data: samples}, options: {pairs: 3, times: 5}}
"""


@pytest.mark.usefixtures("undrawn")
def test_a_geodesic_between_samples_of_a_checkpoint(host: Host, tmp_path: Path) -> None:
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    unet = saved(tmp_path / "model", scheduler, in_channels=1, out_channels=1)
    weakened(unet, tmp_path / "model/unet", "conv_out")
    result = run(host, tmp_path, PIXELS)
    found = load_file(result.folder / "paths/arrays.safetensors")
    given = ~found["lengths"].isnan()
    paths, lengths = found["geodesics"][given], found["lengths"][given]
    assert len(paths) >= 2  # of eight samples the least likely one counts as outside the others' support
    samples = result.value("samples").load("test").x.flatten(1)
    ends = paths[:, [0, -1]].flatten(0, 1).flatten(1)
    assert float(torch.cdist(ends, samples).amin(1).max()) < 1e-5
    assert bool((lengths >= (paths[:, -1] - paths[:, 0]).flatten(1).norm(dim=1)).all())
    scale = result.value("model").event_scale
    assert scale.std == pytest.approx(result.value("data").event_scale.std)


LATENTS = """
  images: {use: data:digits, config: {limit: 20, condition: label, fractions: [0.5, 0, 0.5]}}
  latents: {use: data:latents, config: {path: model}, inputs: {data: images}}
  model: {use: score:diffusers, config: {path: model, space: latent}, inputs: {data: latents}}
  geometry: {use: geometry:score, inputs: {score: model, data: latents}, config: {noise: 0.5, condition: 3}}
  paths: {use: geometry, do: interpolate, inputs: {data: latents}, options: {pairs: 2, times: 5}}
  pictures: {use: data:decoded, inputs: {model: model, latents: paths}}
"""


@pytest.mark.usefixtures("undrawn")
def test_a_geodesic_between_latents_of_images_is_decoded(host: Host, tmp_path: Path) -> None:
    transformer, _ = saved_latent(tmp_path / "model", DDIMScheduler(prediction_type="v_prediction"))
    weakened(transformer, tmp_path / "model/transformer", "proj_out_2")
    result = run(host, tmp_path, LATENTS)
    assert result.value("paths").load("test").x.shape == (10, 2, 4, 4)
    pictures = result.value("pictures").load("test").x
    assert pictures.shape == (10, 1, 8, 8)
    assert float(pictures.abs().max()) <= 1


@pytest.mark.parametrize(
    ("config", "said"),
    [("range: [0, 1]", r"range: \[-1, 1\]"), ("flatten: true, range: [-1, 1]", r"a model of \(1, 8, 8\)")],
)
def test_a_checkpoint_refuses_data_of_other_images(host: Host, config: str, said: str, tmp_path: Path) -> None:
    saved(tmp_path / "model", DDPMScheduler(), in_channels=1, out_channels=1)
    data = f"  data: {{use: data:digits, config: {{{config}}}}}\n"
    with pytest.raises(ScorefoldError, match=rf"run\.yaml:5:\d+: (.|\n)*{said}"):
        run(host, tmp_path, data + "\n".join(PIXELS.splitlines()[2:]))


FLOW = """
  data: {use: data:banana, config: {points: 400}}
  flow: {use: flow:anisotropic, inputs: {data: data}, config: {map: {name: zuko, flow: NICE}, training: {steps: 20}}}
  geometry: {use: geometry:score, inputs: {flow: flow, data: data}}
  paths: {use: geometry, do: interpolate, inputs: {data: data}, options: {pairs: 2}}
"""


@pytest.mark.needs("zuko")
@pytest.mark.usefixtures("undrawn")
def test_a_geodesic_of_a_flow_of_zuko(host: Host, tmp_path: Path) -> None:
    lengths = load_file(run(host, tmp_path, FLOW).folder / "paths/arrays.safetensors")["lengths"]
    assert bool((lengths > 0).all())
