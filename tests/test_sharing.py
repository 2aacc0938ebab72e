"""Push and pull: a stage comes back with the same bits, and a folder that was made to do harm is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from scorefold import __version__
from scorefold.artefacts import load_state, save_state
from scorefold.data import Dataset
from scorefold.errors import ArtefactError, ConfigError, ScorefoldError
from scorefold.interfaces import TensorSource
from scorefold_registry import Host, run_file
from scorefold_registry.cli.main import main
from scorefold_registry.components.manifest import check_names
from scorefold_registry.python import do, estimate, fit, load_data, pull, push
from scorefold_registry.run.result import RunResult
from scorefold_registry.sharing import transfer as pulling
from scorefold_registry.sharing.transfer import pull as fetch
from scorefold_registry.sharing.transfer import push as share
from scorefold_registry.sharing.transfer import repository

pytestmark = pytest.mark.usefixtures("undrawn")

RUN_FILE = """version: 1
name: shared
seed: 3
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:sphere, config: {dimension: 1, ambient: 3, points: 200}}
  flow:
    use: flow:affine-coupling
    do: fit
    inputs: {data: data}
    config: {layers: 2, hidden: [8], training: {steps: 5}}
  score:
    use: score:denoising
    do: fit
    inputs: {data: data}
    config: {network: {use: network:mlp, config: {width: 8}}, training: {steps: 5}}
  vae:
    use: score:scorevae
    do: fit
    inputs: {data: data, prior: score}
    config: {latent: 2, encoder: {use: network:mlp, config: {width: 8}}, training: {steps: 5}}
  quality: {use: flow, do: evaluate, inputs: {data: data}}
  mixture: {use: data:gaussian-mixture, config: {points: 60}}
  analytic: {use: score:analytic, config: {points: true}, inputs: {data: mixture}}
  samples: {use: flow, do: sample, options: {n: 40}}
  drawn: {use: estimator:mle, inputs: {data: samples}, config: {resamples: 0}}
"""


@pytest.fixture(scope="module")
def run(host: Host, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "run.yaml").write_text(RUN_FILE)
    return run_file(host, folder / "run.yaml", runs=folder / "runs", cache=folder / "cache")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.parent.relative_to(folder)}/{name}": tensor
        for file in sorted(folder.rglob("manifest.json"))
        for name, tensor in load_state(file.parent)[0].items()
    }


@pytest.mark.parametrize("stage", ["flow", "score", "vae", "analytic"])
def test_a_model_comes_back_with_the_same_bits(host: Host, run: RunResult, stage: str, tmp_path: Path) -> None:
    share(host, run.folder / stage, "./pushed", licence="mit")
    shutil.rmtree(tmp_path / "pulled", ignore_errors=True)
    folder = fetch(Host.discover(), "./pushed", "pulled")
    shutil.rmtree(tmp_path / "pushed")  # it stands on its own
    models = [Host.discover().load(place) for place in (run.folder / stage, folder)]
    one, other = (
        model.sample(8, generator=torch.Generator().manual_seed(5))
        if hasattr(model, "base")
        else model.score(torch.ones(4, *model.event_shape), torch.full((4,), 0.5))
        for model in models
    )
    assert torch.equal(one, other)
    assert {file.suffix for file in folder.rglob("*") if file.is_file()} == {".json", ".safetensors", ".md", ".yaml"}


def test_a_run_file_uses_a_pulled_model_with_the_same_samples(host: Host, run: RunResult, tmp_path: Path) -> None:
    share(host, run.folder / "flow", "./pushed")
    fetch(host, "./pushed", "models/flow")
    text = "version: 1\nseed: 3\nruntime: {device: cpu, threads: 1}\nstages:\n  flow: {load: models/flow}\n"
    (tmp_path / "use.yaml").write_text(text + "  samples: {use: flow, do: sample, options: {n: 40}}\n")
    again = run_file(host, tmp_path / "use.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    first, second = (result.value("samples").load("test").x for result in (run, again))
    assert torch.equal(first, second)
    # What was loaded can be pushed on.
    share(host, again.folder / "flow", "./again")
    assert tensors(tmp_path / "again").keys() == tensors(tmp_path / "models/flow").keys()


def test_the_run_file_of_a_pushed_model_makes_it_again(host: Host, run: RunResult, tmp_path: Path) -> None:
    share(host, run.folder / "vae", "./pushed")
    again = run_file(host, tmp_path / "pushed/run.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    assert [stage.name for stage in again.stages] == ["data", "score", "vae"]
    one, other = (load_state(result.folder / "vae")[0] for result in (run, again))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_estimator_takes_its_score_along(run: RunResult, tmp_path: Path) -> None:
    folder = tmp_path / "python"
    points = load_data("data:sphere", dimension=1, ambient=3, points=200, folder=folder, progress=False)
    network = {"use": "network:mlp", "config": {"width": 8}}
    score = fit("score:denoising", points, network=network, training={"steps": 5}, progress=False)
    found = estimate("estimator:iddiff", points, score=score, progress=False)
    with pytest.warns(UserWarning, match="no licence was named"):
        assert push(found, "./pushed") == str(tmp_path / "pushed")
    again = pull("./pushed", "pulled", folder=folder, progress=False)
    assert (tmp_path / "pulled/ports/score/state.safetensors").is_file()
    # The random numbers of a stage come from its name.
    measured = do("estimate", again, points, name="estimator", progress=False)
    assert measured.value.value == found.value.value
    assert torch.equal(measured.value.pointwise, found.value.pointwise)


def test_the_card_says_what_it_is_and_the_hub_reads_it(host: Host, run: RunResult, tmp_path: Path) -> None:
    share(host, run.folder / "flow", "./pushed", licence="cc-by-4.0")
    card = ModelCard.load(tmp_path / "pushed/README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.tags == ["scorefold", "flow", "affine-coupling"]
    by_task = {(result.task_name, result.dataset_type): result for result in card.data.eval_results or []}
    assert ("evaluate", "sphere") in by_task
    metrics = json.loads((run.folder / "quality/result.json").read_text())["metrics"]
    values = {result.metric_type: result.metric_value for result in card.data.eval_results or []}
    assert metrics.items() <= values.items()
    for part in ("`data:sphere`", "dinh2017density", "{load: pushed}", "`cc-by-4.0`", "| evaluate | data test |"):
        assert part in card.content
    facts = json.loads((run.folder / "flow/stage.json").read_text())
    assert f"seed {facts['seed']}, in {facts['cpu_seconds']:.0f} CPU seconds." in card.content
    assert str(run.folder) not in card.content + (tmp_path / "pushed/run.yaml").read_text()


def test_the_card_of_a_method_with_claims_lists_them(host: Host, run: RunResult, tmp_path: Path) -> None:
    share(host, run.folder / "vae", "./pushed")
    text = (tmp_path / "pushed/README.md").read_text()
    assert "## Claims" in text
    assert "scorefold reproduce scorevae" in text


class Hub:
    """The functions of huggingface_hub that are called, over folders on this disk."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, list[tuple[str, Any]]()

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        self.calls.append(("create_repo", (name, private, exist_ok)))
        return f"https://huggingface.co/{name}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str, delete_patterns: list[str]
    ) -> None:
        # As the Hub's cache has it: links in a snapshot to files beside it.
        blobs, snapshot = self.root / "blobs", self.root / "snapshots/abc"
        blobs.mkdir(parents=True)
        for number, file in enumerate(item for item in sorted(Path(folder_path).rglob("*")) if item.is_file()):
            place = snapshot / file.relative_to(folder_path)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, blobs / str(number))
            place.symlink_to(blobs / str(number))

    def list_repo_files(self, name: str, *, revision: str | None) -> list[str]:
        snapshot = self.root / "snapshots/abc"
        names = [item.relative_to(snapshot).as_posix() for item in snapshot.rglob("*") if item.is_file()]
        return [*names, ".gitattributes"]

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.calls.append(("snapshot_download", (name, revision, sorted(allow_patterns))))
        return str(self.root / "snapshots/abc")


def test_the_hub_by_its_functions(host: Host, run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    pushed = share(host, run.folder / "vae", "ada/rings")
    assert pushed.place == "https://huggingface.co/ada/rings"
    folder = fetch(host, "ada/rings", revision="main")
    assert folder == tmp_path / "models/rings"
    assert hub.calls[0] == ("create_repo", ("ada/rings", True, True))
    assert hub.calls[1][1][:2] == ("ada/rings", "main")
    assert not any(file.is_symlink() for file in folder.rglob("*"))
    assert push(run.folder / "vae", "./same", licence="mit") == str(tmp_path / "same")
    assert (folder / "manifest.json").read_bytes() == (tmp_path / "same/manifest.json").read_bytes()
    (hub.root / "snapshots/abc/state.safetensors").unlink()
    (hub.root / "snapshots/abc/state.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(ArtefactError, match="a link that leads out"):
        fetch(host, "ada/rings", "other")


def test_a_failure_of_the_hub_is_an_error_for_people(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails() -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi", fails)
    with pytest.raises(ScorefoldError, match="did not serve ada/rings: OSError: no route"):
        fetch(host, "ada/rings")


def test_a_folder_or_the_hub_is_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert repository(Path("out/x")) is repository("./out/x") is repository("~/x") is repository("x") is None
    assert repository("a/b/c") is None
    with pytest.raises(ConfigError, match="out is a folder") as refused:
        repository("out/x")
    assert "write ./out/x for the folder, or hf://out/x for the Hub" in str(refused.value)
    with pytest.raises(ConfigError, match="is not a repository"):
        repository("hf://x")


@pytest.fixture
def pushed(host: Host, run: RunResult, tmp_path: Path) -> Path:
    share(host, run.folder / "vae", tmp_path / "pushed")
    return tmp_path / "pushed"


def changed(folder: Path, how: Callable[[dict[str, Any]], object]) -> None:
    state, facts = load_state(folder)
    how(facts)
    save_state(folder, state, facts)


def refused(host: Host, folder: Path) -> str:
    with pytest.raises(ScorefoldError) as caught:
        fetch(host, folder, folder.parent / "pulled")
    assert not (folder.parent / "pulled").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["model.pkl", "pytorch_model.bin", "handler.py", "ports/prior/x.pt", "ports/a/b/c.json"]
)
def test_pickles_code_and_strangers_are_refused_by_name(host: Host, pushed: Path, name: str) -> None:
    (pushed / name).parent.mkdir(parents=True, exist_ok=True)
    (pushed / name).write_bytes(b"\x80\x04.")
    assert repr(name) in refused(host, pushed)


def test_names_from_the_hub_that_lead_out_are_refused() -> None:
    for name in (
        "../manifest.json",
        "/etc/manifest.json",
        "ports/../manifest.json",
        "ports/a\\..\\b/manifest.json",
        "ports/a/" * 9 + "manifest.json",
        "",
    ):
        with pytest.raises(ArtefactError, match="not belong to a pushed model"):
            check_names([name], "it")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda facts: facts.update(component="flow:nowhere@1"), "flow:nowhere@1 of scorefold-scorevae"),
        (lambda facts: facts.update(distribution="nobodys-plugin"), f"pip install nobodys-plugin=={__version__}"),
        (lambda facts: facts.update(component="score:scorevae@9"), "is older"),
        (lambda facts: facts.update(format=2), "is of format 2"),
        (lambda facts: facts["ports"]["prior"].update(state="../../outside"), "leads out"),
        (lambda facts: facts["ports"]["prior"].update(state="../outside", copy=False), "a state outside it"),
        (lambda facts: facts["config"].update(latent=1 << 60), "can't be rebuilt"),
    ],
)
def test_what_a_manifest_may_not_say(host: Host, pushed: Path, how: Any, message: str) -> None:
    changed(pushed, how)
    assert message in refused(host, pushed)


def test_damage_is_refused_with_the_file(host: Host, pushed: Path) -> None:
    state = pushed / "ports/prior/state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    assert f"{state} was changed, truncated or" in refused(host, pushed)
    state.unlink()
    assert "there is no file" in refused(host, pushed)
    (pushed / "manifest.json").unlink()
    assert "it has no manifest.json" in refused(host, pushed)


def test_a_link_is_refused(host: Host, pushed: Path, tmp_path: Path) -> None:
    shutil.move(pushed / "ports/prior", tmp_path / "elsewhere")
    (pushed / "ports/prior").symlink_to(tmp_path / "elsewhere")
    assert "'ports/prior', which does not belong" in refused(host, pushed)


def test_settings_that_name_files_or_functions_are_refused(host: Host, tmp_path: Path) -> None:
    learner = host.create("learner:callable", {"target": "scorefold_allocation.learners.function:pooled_ridge"})
    host.save(learner, tmp_path / "callable")
    changed(tmp_path / "callable", lambda facts: facts["config"].update(target="this:that"))
    assert "names 'this:that'" in refused(host, tmp_path / "callable")
    (tmp_path / "points.csv").write_text("a,b\n" + "1,2\n3,4\n" * 30)
    host.save(host.create("data:array", {"path": str(tmp_path / "points.csv")}), tmp_path / "array")
    assert "points.csv', which is no part of it" in refused(host, tmp_path / "array")


def test_push_refuses_what_reads_a_file(host: Host, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("a,b\n" + "1,2\n3,4\n" * 30)
    model = do(None, "score:analytic", load_data(tmp_path / "points.csv", progress=False), points=True, progress=False)
    with pytest.raises(ArtefactError, match="reads no file"):
        push(model, "./pushed")
    assert not (tmp_path / "pushed").exists()


def test_points_in_memory_are_named(host: Host, tmp_path: Path) -> None:
    """A model that keeps its points holds the points of an earlier stage, and who pushes it hears so."""
    source = TensorSource({"train": Dataset(torch.randn(30, 2))})
    model = host.create("score:analytic", {"points": True}, data=source)
    host.save(model, tmp_path / "model", bundle=True)
    text = f"version: 1\nstages: {{model: {{load: {tmp_path / 'model'}}}}}\n"
    (tmp_path / "load.yaml").write_text(text)
    loaded = run_file(host, tmp_path / "load.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    pushed = share(host, loaded.folder / "model", "./pushed", licence="mit")
    assert pushed.notes == ("ports/data holds points themselves, for everybody who has the folder",)
    assert "points themselves" in (tmp_path / "pushed/README.md").read_text()
    fetch(host, "./pushed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "RUN/samples", "./x"], "holds the result of a stage (data), and no component"),
        (["push", "RUN", "./x"], "is not a finished stage"),
        (["push", "RUN/flow", "./x", "--licence", "My own"], "expected an identifier as the Hub has them"),
        (["push", "RUN/flow", "./x", "--data-licence", "My own"], "expected an identifier as the Hub has them"),
        (["push", "RUN/flow", "."], "exists already"),
        (["pull", "./nowhere"], "there is no folder"),
        (["pull", "./nowhere", "--revision", "v1"], "only the Hub has revisions"),
    ],
)
def test_what_can_not_be_asked(
    arguments: list[str], message: str, run: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([text.replace("RUN", str(run.folder)) for text in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_the_default_folder_is_named_by_the_source(host: Host, pushed: Path, tmp_path: Path) -> None:
    assert fetch(host, pushed) == tmp_path / pulling.MODELS / "pushed"
    with pytest.raises(ArtefactError, match="exists already") as again:
        fetch(host, pushed)
    assert "load: " in str(again.value)
