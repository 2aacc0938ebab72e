"""Every example is valid, runs as a newcomer would run it (with less training), and answers what it says it answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from scorefold_registry import run_file
from scorefold_registry.host import Host
from scorefold_registry.runfile.citations import citation, citations
from scorefold_registry.runfile.example import example_run
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read
from scorefold_registry.runfile.yaml_reader import yaml_text

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def run(host: Host, tmp_path: Path, name: str, *sets: str) -> tuple[dict[str, dict[str, Any]], Path]:
    """The metrics of each stage, and the run's folder."""
    result = run_file(host, ROOT / "examples" / name, sets=sets, runs=tmp_path / "runs", cache=tmp_path / "cache")
    for file in result.folder.glob("*/figures/figures.json"):
        for about in json.loads(file.read_text()).values():
            assert about["caption"].endswith("."), (file, about)
    return {stage["name"]: stage["metrics"] for stage in result.as_json()["stages"]}, result.folder


def test_the_run_file_that_every_component_is_shown_with_is_valid(host: Host, tmp_path: Path) -> None:
    shown = {item.id: example_run(host.catalogue, item.component) for item in host.components()}
    for name, example in shown.items():
        kind = host.catalogue.kinds[name.partition(":")[0]]
        assert (example is None) == (not kind.default), name
        if example is not None:
            (tmp_path / "run.yaml").write_text(yaml_text(example))
            assert make_plan(host.catalogue, read(tmp_path / "run.yaml")).stages[-1].registered.id == name
    (tmp_path / "run.yaml").write_text(yaml_text(shown["estimator:iddiff"]))
    result = run_file(host, tmp_path / "run.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    assert [stage.name for stage in result.stages] == ["data", "score", "iddiff"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid_and_listed(host: Host, path: Path) -> None:
    plan = make_plan(host.catalogue, read(path))
    assert plan.stages
    assert f"`{path.name}`" in (ROOT / "examples" / "README.md").read_text()


def withheld(folder: Path) -> bool:
    """Whether the dimension has a range in place of a value, as it should where a score was hardly trained."""
    answer = json.loads((folder / "dimension" / "result.json").read_text())["answer"]
    return answer["value"] is None and answer["headline"].endswith("no single dimension")


def test_a_known_dimension_is_found(host: Host, tmp_path: Path) -> None:
    metrics, folder = run(host, tmp_path, "sphere-dimension.yaml")
    assert metrics["dimension"]["intrinsic dimension"] == 10
    assert metrics["dimension"]["error"] == 0
    assert "intrinsic dimension" in (folder / "report.html").read_text()


def test_digits_by_neighbours(host: Host, tmp_path: Path) -> None:
    metrics, _ = run(host, tmp_path, "digits-dimension-mle.yaml")
    assert 5 < metrics["dimension"]["intrinsic dimension"] < 20


def test_digits_by_scores_and_the_swap_of_one_word(host: Host, tmp_path: Path) -> None:
    steps = "stages.score.config.training.steps=60"
    metrics, folder = run(host, tmp_path, "digits-dimension.yaml", steps)
    assert metrics["dimension"] == {}
    assert withheld(folder)
    assert list((folder / "dimension").glob("figures/*.png"))
    assert list((folder / "dimension").glob("figures/*.svg"))
    swapped, folder = run(host, tmp_path, "digits-dimension.yaml", steps, "stages.dimension.use=estimator:mle")
    assert "intrinsic dimension, upper" in swapped["dimension"]
    assert list((folder / "dimension").glob("figures/*.png"))
    manifest = json.loads((folder / "score" / "manifest.json").read_text())
    assert manifest["component"].startswith("score:denoising@")


def test_clothes_class_by_class(host: Host, tmp_path: Path) -> None:
    metrics, folder = run(host, tmp_path, "fashion-dimension.yaml", "stages.at-most.config.points=100")
    assert 0 < metrics["mle"]["intrinsic dimension"] < metrics["at-most"]["intrinsic dimension"] < 784
    rows = json.loads((folder / "at-most" / "result.json").read_text())["by_label"]
    least = min(rows, key=lambda row: row["value"])
    assert least["name"] == "Trouser"
    assert "by-label" in {path.stem for path in (folder / "at-most").glob("figures/*.png")}


def test_your_own_array(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "mine.npy"
    np.save(path, load_digits().data[:400])
    sets = (f"stages.data.config.path={path}", "stages.score.config.training.steps=40")
    metrics, folder = run(host, tmp_path, "your-array.yaml", *sets)
    assert metrics["data"]["train points"] == 320
    assert withheld(folder)


def test_your_own_images(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index, image in enumerate(load_digits().images[:60]):
        Image.fromarray((image * 15).astype("uint8")).save(folder / f"{index:03}.png")
    sets = (
        f"stages.data.config.root={folder}",
        "stages.score.config.training.minutes=0.02",
        "stages.dimension.config={points: 2, levels: 3, resamples: 0}",
    )
    metrics, run_folder = run(host, tmp_path, "your-images.yaml", *sets)
    assert metrics["data"]["test points"] == 6
    assert withheld(run_folder)


def test_samples_and_likelihood_of_a_model_that_comes_along(host: Host, tmp_path: Path) -> None:
    sets = ("stages.samples.options={n: 4, steps: 4}", "stages.likelihood.options.limit=1")
    metrics, folder = run(host, tmp_path, "fashion-samples.yaml", *sets)
    assert metrics["samples"]["samples"] == 4
    assert np.isfinite(metrics["likelihood"]["log-likelihood (nats)"])
    assert list((folder / "samples").glob("figures/*.png"))


def test_gaps_in_signals(host: Host, tmp_path: Path) -> None:
    sets = (
        "stages.beats.config.length=3000",
        "stages.score.config.training.steps=20",
        "stages.samples.options.n=4",
        "stages.filled.options={n: 2, conditions: 3, steps: 4}",
    )
    metrics, folder = run(host, tmp_path, "signal-gaps.yaml", *sets)
    assert metrics["beats"]["train points"] == 143
    assert metrics["samples"]["samples"] == 4
    assert metrics["filled"]["held-out points"] == 3
    drawn = {path.stem for path in (folder / "filled").glob("figures/*.png")}
    assert drawn == {"draws", "calibration"}
    x = load_file(folder / "filled" / "arrays.safetensors")["draws"]
    assert x.shape[2:] == (1, 128)


def test_scales_of_garments(host: Host, tmp_path: Path) -> None:
    sets = ("stages.score.config.training.steps=9", "stages.samples.options.n=4")
    metrics, folder = run(host, tmp_path, "fashion-multiscale.yaml", *sets)
    assert metrics["score"]["steps"] == 9
    assert metrics["samples"]["samples"] == 4
    drawn = {path.stem for path in (folder / "score").glob("figures/*.png")}
    assert drawn == {"training", "speeds", "bands-over-time", "samples-at-every-scale", "cost"}


def test_a_code_of_garments_that_comes_along(host: Host, tmp_path: Path) -> None:
    sets = (
        "stages.back.options={limit: 12, draws: 2}",
        "stages.between.options.pairs=2",
        "stages.units.options.count=2",
    )
    metrics, folder = run(host, tmp_path, "fashion-code.yaml", *sets)
    assert metrics["back"]["points"] == 12
    assert metrics["back"]["relative reconstruction error"] < 0.75
    assert metrics["between"]["pairs"] == metrics["units"]["rows"] == 2
    assert metrics["held"]["latent dimension"] == 16
    for stage in ("back", "between", "units", "held"):
        assert list((folder / stage).glob("figures/*.png")), stage


def test_garments_with_twice_the_pixels(host: Host, tmp_path: Path) -> None:
    draws = ("draws", "draws-cool")
    sets = ("stages.flow.config.training.steps=20", *(f"stages.{name}.options.conditions=8" for name in draws))
    metrics, folder = run(host, tmp_path, "fashion-super-resolution.yaml", *sets)
    assert np.isfinite(metrics["bits"]["bits per dimension"])
    spread = [metrics[name]["diversity (0 to 255)"] for name in draws]
    assert spread == sorted(spread, reverse=True)
    assert {path.stem for path in (folder / "flow").glob("figures/*.png")} == {"training", "temperatures"}


def test_labels_per_task_by_theory(host: Host, tmp_path: Path) -> None:
    metrics, folder = run(host, tmp_path, "allocate-labels.yaml")
    assert metrics["plan"]["tasks"] > 30 * metrics["tied"]["tasks"]  # the way to adapt decides
    plan = json.loads((folder / "plan" / "result.json").read_text())["allocation"]
    assert plan["diagnostics"]["buy"][0]["new_tasks"] < metrics["plan"]["tasks"]  # 30 are there already
    assert plan["diagnostics"]["regret"]["median"] > 0
    assert {path.stem for path in (folder / "plan").glob("figures/*.png")} == {
        "allocation",
        "labels-per-task",
        "budget",
    }
    assert (folder / "plan" / "curve.csv").read_text().startswith("budget,labels_per_task,tasks,loss,low,high")


def test_labels_per_task_by_trying(host: Host, tmp_path: Path) -> None:
    sets = (
        *(f"stages.plan.inputs.learner.config.{value}" for value in ("updates=3", "new_tasks.tasks=5")),
        *(f"stages.plan.config.pilot.{value}" for value in ("seeds=2", "first_seeds=2", "sizes=3", "budgets=1")),
    )
    metrics, folder = run(host, tmp_path, "allocate-pilot.yaml", *sets)
    assert metrics["plan"]["predicted loss"] > 0
    plan = json.loads((folder / "plan" / "result.json").read_text())["allocation"]
    spent = sum(row["tasks"] * (row["support"] + row["query"]) for row in plan["plan"])
    assert spent + plan["leftover"] == 4000
    assert "labels-per-task" in {path.stem for path in (folder / "plan").glob("figures/*.png")}


def test_flow_likelihood(host: Host, tmp_path: Path) -> None:
    metrics, _ = run(host, tmp_path, "flow-likelihood.yaml", "stages.flow.config.training.steps=40")
    assert np.isfinite(metrics["likelihood"]["log-likelihood (nats)"])
    assert metrics["samples"]["samples"] == 1000


def test_learned_geodesics(host: Host, tmp_path: Path) -> None:
    metrics, folder = run(host, tmp_path, "learned-geodesics.yaml", "stages.flow.config.training.steps=300")
    assert metrics["paths"]["middles from the data"] < 0.7 * metrics["straight"]["middles from the data"]
    assert metrics["code"]["intrinsic dimension"] == 1
    assert {path.stem for path in (folder / "geometry").glob("figures/*.png")} == {"geodesics", "chart"}
    paths, straight = (load_file(folder / name / "arrays.safetensors")["geodesics"] for name in ("paths", "straight"))
    assert torch.allclose(paths[:, [0, -1]], straight[:, [0, -1]], atol=1e-4)  # the baseline is of the same pairs
    diagnostics = json.loads((folder / "geometry" / "result.json").read_text())["diagnostics"]
    assert diagnostics["geodesic_error"] < diagnostics["straight_line_error"]


def test_a_code_of_a_bent_surface(host: Host, tmp_path: Path) -> None:
    sets = ("stages.flow.config.training.steps=100", "stages.data.config.points=2000")
    metrics, folder = run(host, tmp_path, "hemisphere-code.yaml", *sets)
    assert metrics["codes"]["latent dimension"] == metrics["autoencoder"]["intrinsic dimension"]
    assert metrics["back"]["relative reconstruction error"] < 0.2
    assert {path.stem for path in (folder / "autoencoder").glob("figures/*.png")} >= {"spectrum", "reconstruction"}


def test_geodesics_between_garments_of_a_flow_that_comes_along(host: Host, tmp_path: Path) -> None:
    metrics, folder = run(host, tmp_path, "fashion-geodesics.yaml")
    assert metrics["paths"]["pairs"] == metrics["straight"]["pairs"] == 100
    assert metrics["paths"]["middles from the data"] < 0.97 * metrics["straight"]["middles from the data"]
    assert {path.stem for path in (folder / "geometry").glob("figures/*.png")} >= {"geodesics"}


def test_paths_through_the_noise_of_a_model_that_comes_along(host: Host, tmp_path: Path) -> None:
    metrics, folder = run(host, tmp_path, "fashion-noise-paths.yaml", "stages.paths.options.pairs=1")
    assert metrics["paths"]["round-trip error of the ends"] < 0.05
    assert {path.stem for path in (folder / "paths").glob("figures/*.png")} == {"rows"}


def test_geodesics_between_codes_of_garments(host: Host, tmp_path: Path) -> None:
    sets = ("stages.vae.config.training.steps=200", "stages.paths.options.pairs=2")
    metrics, folder = run(host, tmp_path, "fashion-code-geometry.yaml", *sets)
    assert metrics["paths"]["mean length"] > 0
    assert {path.stem for path in (folder / "space").glob("figures/*.png")} == {"geodesics", "decoded"}


@pytest.fixture(scope="module")
def checkpoint() -> ModuleType:
    """The script of that name."""
    spec = importlib.util.spec_from_file_location("diffusers_checkpoint", ROOT / "examples" / "diffusers_checkpoint.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_diffusers_pipeline_draws_with_our_samplers(host: Host, checkpoint: ModuleType, tmp_path: Path) -> None:
    checkpoint.main(["--write", str(tmp_path / "pipeline")])
    sets = (f"stages.score.config.path={tmp_path / 'pipeline'}", "stages.samples.options.n=3")
    metrics, folder = run(host, tmp_path, "diffusers-samples.yaml", *sets)
    assert metrics["samples"]["samples"] == 3
    assert list((folder / "samples").glob("figures/*.png"))


def test_a_diffusers_pipeline_becomes_an_auto_encoder(host: Host, checkpoint: ModuleType, tmp_path: Path) -> None:
    checkpoint.main(["--write", str(tmp_path / "pipeline")])
    sets = (
        f"stages.prior.config.path={tmp_path / 'pipeline'}",
        "stages.data.config.points=40",
        "stages.code.config.training.steps=3",
        "stages.code.config.decoding.steps=3",
        "stages.back.options.limit=4",
        "stages.back.options.decoding.steps=3",
        "stages.between.options.pairs=2",
        "stages.between.options.decoding.steps=3",
    )
    metrics, _ = run(host, tmp_path, "diffusers-code.yaml", *sets)
    assert metrics["code"]["steps"] == 3
    assert np.isfinite(metrics["back"]["L2"])
    assert metrics["between"]["pairs"] == 2
    assert metrics["between"]["mean distance of codes"] > 0  # untrained: its paths are lost, and not drawn


def test_a_checkpoint_is_the_case_of_equal_speeds(
    host: Host, checkpoint: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint.write_tiny_pipeline(tmp_path / "pipeline")
    score = host.create("score:diffusers", {"path": folder}).eval()
    assert checkpoint.equal_speeds(score) < 1e-3
    images = checkpoint.our_scheduler_in_their_pipeline(folder, score)
    assert images.shape == (checkpoint.IMAGES, 3, 16, 16)
    assert images.std() > 0.1
    checkpoint.main([str(folder)])
    assert "our scheduler in diffusers: the same images" in capsys.readouterr().out


def test_what_lies_under_a_hole(host: Host, tmp_path: Path) -> None:
    sets = ("stages.score.config.training.steps=5", "stages.draws.options.conditions=6", "stages.draws.options.steps=4")
    metrics, folder = run(host, tmp_path, "digits-inpainting.yaml", *sets)
    assert any("consistency" in name for name in metrics["draws"])
    assert any("hid" in name for name in metrics["draws"])
    assert list((folder / "draws").glob("figures/*.png"))


def test_a_trained_model_fills_a_hole(host: Host, tmp_path: Path) -> None:
    metrics, folder = run(
        host, tmp_path, "fashion-inpainting.yaml", "stages.draws.options={n: 2, conditions: 3, steps: 20}"
    )
    assert metrics["draws"]["PSNR (dB)"] > 13  # random training images have 8
    assert metrics["draws"]["PSNR, known part (dB)"] > 40
    assert list((folder / "draws").glob("figures/draws.png"))


def test_spending_labels(host: Host, tmp_path: Path) -> None:
    metrics, _ = run(host, tmp_path, "spend-labels.yaml")
    assert metrics["plan"]["tasks"] == 500
    assert metrics["plan"]["leftover"] == 0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_an_example_uses_can_be_cited(host: Host, path: Path) -> None:
    found = citations(host.catalogue, make_plan(host.catalogue, read(path)))
    assert not found.notes
    assert found.entries or path.stem in ("spend-labels", "diffusers-samples")


def test_every_citation_of_ours_is_read(host: Host) -> None:
    cited = [item for item in host.components() if item.component.cite]
    assert len(cited) > 15
    for item in cited:
        assert list(citation(item)), item.id


def test_an_audit_separates_a_copier_from_a_model_that_is_too_wide(host: Host, tmp_path: Path) -> None:
    sets = [f"stages.{stage}.options.permutations=199" for stage in ("audit", "audit-gaussian")]
    sets += [f"stages.{stage}.options.n=200" for stage in ("audit", "audit-gaussian")]
    _, folder = run(host, tmp_path, "audit-garments.yaml", *sets)
    found = {
        stage: {
            verdict["name"]
            for verdict in json.loads((folder / stage / "result.json").read_text())["audit"]["verdicts"]
            if verdict["found"]
        }
        for stage in ("audit", "audit-gaussian")
    }
    assert {"copies", "memorisation", "membership"} <= found["audit"]
    assert "off-the-data" in found["audit-gaussian"]
    assert not found["audit-gaussian"] & {"copies", "memorisation"}
