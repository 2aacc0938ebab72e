"""A tiny checkpoint of every family of schedulers, asked everything: samples, dimension, likelihood, paths, audit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import saved
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    SCMScheduler,
    ScoreSdeVeScheduler,
)

from scorefold_registry import Host, compare
from scorefold_registry.run.pipeline import run_file

pytestmark = pytest.mark.usefixtures("undrawn")

RUN = """
version: 1
name: ask
runtime: {threads: 1}
stages:
  data: {use: data:digits, config: {limit: 160, range: RANGE, fractions: [0.5, 0, 0.5]}}
  model: {use: score:diffusers, config: {path: checkpoint}}
  samples: {use: model, do: sample, options: {n: 2, steps: 2}}
  dimension: {use: estimator:iddiff, inputs: {score: model, data: data}, options: {limit: 3}}
  likelihood: {use: model, do: evaluate, inputs: {data: data}, options: {limit: 1, probes: 1, tolerance: 0.2}}
  between: {use: model, do: interpolate, inputs: {data: data}, options: {pairs: 1, times: 3, decoding: {steps: 4}}}
  audit: {use: model, do: audit, inputs: {data: data}, options: {n: 30, steps: 2, permutations: 99}}
"""

SOLVED = "{use: data:paired, inputs: {data: DIGITS}, config: {operator: {name: mask}}, options: {n: 2, conditions: 2}}"

FAMILIES = [
    (DDPMScheduler, {"prediction_type": "epsilon"}),
    (DDIMScheduler, {"prediction_type": "sample"}),
    (DDIMScheduler, {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
    (EDMEulerScheduler, {}),
    (ScoreSdeVeScheduler, {"sigma_max": 20.0}),
    (FlowMatchEulerDiscreteScheduler, {"shift": 3.0}),
    (SCMScheduler, {}),
]


@pytest.mark.parametrize(("kind", "settings"), FAMILIES)
def test_every_family_is_asked_everything(
    host: Host, kind: Any, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exploding = kind is ScoreSdeVeScheduler
    unet = saved(
        tmp_path / "checkpoint",
        kind(**settings),
        in_channels=1,
        out_channels=1,
        time_embedding_type="fourier" if exploding else "positional",
    )
    assert all(bool(parameter.isfinite().all()) for parameter in unet.parameters())
    file = tmp_path / "ask.yaml"
    file.write_text(RUN.replace("RANGE", "[0, 1]" if exploding else "[-1, 1]"))
    result = run_file(host, file)
    metrics = {stage.name: stage.metrics for stage in result.stages}
    assert metrics["samples"]["samples"] == 2
    assert metrics["audit"]["samples"] == 30
    assert all(math.isfinite(value) for value in metrics["likelihood"].values())
    assert math.isfinite(metrics["between"]["round-trip error of the ends"])
    dimension = result.value("dimension").value
    assert dimension is None or 0 <= dimension <= 64
    model = result.value("model")
    x, t = torch.randn(2, 1, 8, 8), torch.full((2,), (model.process.t_min + model.process.t_max) / 2)
    torch.testing.assert_close(model.denoise(x, t), model.process.denoised_from_score(model.score(x, t), x, t))


def test_a_checkpoint_is_the_prior_of_every_solver(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "checkpoint", DDPMScheduler(), in_channels=1, out_channels=1)
    digits = "{use: data:digits, config: {limit: 60, range: [-1, 1]}}"
    Path("cases.yaml").write_text("hole: " + SOLVED.replace("DIGITS", digits))
    found = compare(
        host,
        "SolvesInverse",
        on=["cases.yaml"],
        plugged={"prior": {"use": "score:diffusers", "config": {"path": "checkpoint"}}},
        fields={"repaint.resamples": 1},
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    assert [row.error for row in found.rows] == [None] * 6
    assert {row.uses for row in found.rows} == {("score:diffusers",)}
