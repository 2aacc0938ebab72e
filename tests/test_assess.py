"""A run file that asks a trained model for draws and holds them to held-out images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scorefold.artefacts import load_arrays
from scorefold.errors import ConfigError
from scorefold_registry import run_file
from scorefold_registry.host import Host
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import RunFileError, read
from scorefold_toolkit.config.common import DrawingOptions
from scorefold_toolkit.drawing import draw_within

RUN = """
version: 1
name: draws
runtime: {threads: 1}
stages:
  digits: {use: data:digits}
  holes:
    use: data:paired
    inputs: {data: digits}
    config: {operator: {name: mask, region: square, fraction: 0.25, each: true}, mask: true}
  score:
    use: score:denoising
    inputs: {data: holes}
    config:
      process: {name: ve, sigma_max: 8}
      network: {use: network:mlp, config: {width: 128, blocks: 2}}
      training: {steps: 150, batch_size: 128}
  draws: {use: score, do: assess, inputs: {data: holes}, options: {n: 6, conditions: 60, steps: 20}}
  flow:
    use: flow:affine-coupling
    inputs: {data: {use: data:digits, config: {flatten: true}}}
    config: {layers: 2, training: {steps: 20}}
  free:
    use: flow
    do: assess
    inputs: {data: {use: data:digits, config: {flatten: true}}}
    options: {n: 2, conditions: 90}
"""


def test_a_run_assesses_digits_with_holes_of_their_own(host: Host, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    result = run_file(host, tmp_path / "run.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    stages = {stage["name"]: stage for stage in result.as_json()["stages"]}
    metrics = stages["draws"]["metrics"]
    assert (metrics["held-out points"], metrics["draws for each"]) == (60, 6)
    for name in ("PSNR (dB)", "PSNR, hidden part (dB)", "PSNR, known part (dB)", "consistency (dB)"):
        assert 3 < metrics[name] < 60
    assert metrics["best-of-6 PSNR, chosen by the truth (dB)"] > metrics["PSNR (dB)"]
    assert 1 < metrics["diversity (0 to 255)"] < 128
    assert metrics["Frechet features"] == 64
    assert "joint Frechet distance (random-conv)" in metrics
    assert "SSIM" not in metrics  # 8 pixels are too few for its window
    folder = result.folder / "draws"
    said = json.loads((folder / "result.json").read_text())
    assert said["answer"]["quantity"] == "PSNR (dB)"
    assert said["data_range"] == [0.0, 1.0]
    assert any("60 points of 64 features" in warning for warning in said["warnings"])
    assert {path.stem for path in folder.glob("figures/*.png")} == {"draws", "calibration"}
    arrays = load_arrays(folder / "arrays.safetensors")
    assert arrays["draws"].shape == (8, 6, 1, 8, 8)
    levels = 16 * arrays["draws"]
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert 0.7 < float(arrays["places"].isnan().double().mean()) < 0.8  # three quarters of each image were left
    free = stages["free"]["metrics"]
    assert free["energy distance"] > 0
    assert "Frechet distance (coordinates)" in free
    again = run_file(host, tmp_path / "run.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    assert not [stage for stage in again.as_json()["stages"] if not stage["reused"]], stages


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{n: 0}", "at least 1"),
        ("{sampling: {steps: 3}}", "write steps next to sampling"),
        ("{steps: []}", "steps"),
        ("{levels: [1.5]}", "a number below 1"),
        ("{features: inception}", "set both, or neither"),
        ("{feature: pixels}", "did you mean 'features'"),
        ("{lpips: {alexnet: a.pth}}", "heads"),
    ],
)
def test_options_that_do_not_fit_are_named_before_anything_runs(
    host: Host, tmp_path: Path, options: str, said: str
) -> None:
    text = RUN.replace("{n: 6, conditions: 60, steps: 20}", options)
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(RunFileError) as refused:
        make_plan(host.catalogue, read(tmp_path / "run.yaml"))
    assert said in "\n".join(map(str, refused.value.problems))


def test_the_langevin_correction_takes_its_ratio_of_signal_to_noise(host: Host) -> None:
    score = host.create(
        "score:analytic", {"gaussian": True}, data={"use": "data:subspace", "config": {"points": 50, "seed": 0}}
    )

    def drawn(sampler: str = "predictor-corrector", **sampling: float) -> Tensor:
        options = DrawingOptions.model_validate({"sampler": sampler, "steps": 4, "sampling": sampling})
        return draw_within(score, 3, None, options, torch.Generator().manual_seed(0))[0]

    assert torch.equal(drawn(snr=0.16), drawn())
    assert not torch.allclose(drawn(snr=0.3), drawn())
    with pytest.raises(ConfigError, match="knows no sampling option snr"):
        drawn("heun", snr=0.15)
    options = DrawingOptions.model_validate({"sampler": "predictor-corrector", "sampling": {"snr": 0.16}})
    plain = DrawingOptions.model_validate({"sampler": "predictor-corrector"})
    one, two = (draw_within(score, 2, None, each, torch.Generator().manual_seed(0))[0] for each in (options, plain))
    assert torch.equal(one, two)
