"""Models that come with plugins: named in run files and by pull, listed, and refused where one is not whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from scorefold.artefacts import load_state, save_state
from scorefold.errors import ArtefactError, ConfigError, PluginError
from scorefold_registry import Host, run_file
from scorefold_registry.cli.main import main
from scorefold_registry.python import load, sample
from scorefold_registry.runfile.loaded_stages import find_model
from scorefold_registry.sharing.transfer import pull, push

Install = Callable[..., Path]
Captured = pytest.CaptureFixture[str]

RUN_FILE = """version: 1
name: ball
seed: 3
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:sphere, config: {dimension: 1, ambient: 3, points: 200}}
  score:
    use: score:denoising
    inputs: {data: data}
    config: {network: {use: network:mlp, config: {width: 64, blocks: 1}}, training: {steps: 5}}
"""
OFFERS = """
from scorefold.plugin import Model

@hookimpl
def scorefold_models():
    yield Model({name!r}, "models/{folder}", "A score of points on a circle")
"""


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that scorefold push wrote, in half precision, with both licences on its card."""
    folder = tmp_path_factory.mktemp("pushed")
    (folder / "run.yaml").write_text(RUN_FILE)
    host = Host.discover()
    run = run_file(host, folder / "run.yaml", runs=folder / "runs", cache=folder / "cache")
    push(host, run.folder / "score", folder / "whole", licence="mit", data_licence="cc0-1.0")
    push(host, run.folder / "score", folder / "ball", licence="mit", data_licence="cc0-1.0", half=True)
    return folder / "ball"


@pytest.fixture
def bring(install: Install, pushed: Path) -> Callable[..., Path]:
    """``bring("fake-balls", "ball")`` installs a package with the model; gives the model's folder in it."""

    def make(distribution: str = "fake-balls", name: str = "ball") -> Path:
        folder = install(distribution, OFFERS.format(name=name, folder=name)) / "models" / name
        shutil.copytree(pushed, folder)
        return folder

    return make


def write(text: str, file: str = "use.yaml") -> Path:
    Path(file).write_text(f"version: 1\nseed: 3\nruntime: {{device: cpu, threads: 1}}\nstages:\n{text}")
    return Path(file)


def answer(capsys: Captured, *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    word = "-".join(arguments[: 2 if arguments[0] == "plugins" else 1])
    jsonschema.validate(found, json.loads((files("scorefold") / "schemas" / f"{word}.json").read_text()))
    return found


def test_a_run_file_loads_the_model_of_a_package(bring: Callable[..., Path]) -> None:
    folder = bring()
    host = Host.discover()
    run = run_file(host, write("  score: {load: model:ball}\n  samples: {use: score, do: sample, options: {n: 4}}\n"))
    assert "load: model:ball" in (run.folder / "resolved.yaml").read_text()
    model, kept = run.value("score"), load_state(folder)[0]
    assert all(torch.equal(value, kept[name].float()) for name, value in model.state_dict().items() if name in kept)
    loaded = load("model:ball", host=host, progress=False)
    assert sample(loaded, n=2, progress=False).value.load("test").x.shape == (2, 3)
    model = loaded.value
    assert model.score(torch.ones(2, 3), torch.full((2,), 0.5)).dtype == torch.float32
    # The name stands for what it holds: another model under it is another stage.
    shutil.rmtree(folder)
    with pytest.raises(ConfigError, match=r"use\.yaml:5:17: model:ball of fake-balls can't be used: there is no manif"):
        run_file(host, Path("use.yaml"))


def test_half_precision_is_half_the_size_and_computes_as_before(pushed: Path) -> None:
    sizes = [(folder / "state.safetensors").stat().st_size for folder in (pushed, pushed.parent / "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    half, whole = (Host.discover().load(folder) for folder in (pushed, pushed.parent / "whole"))
    x, t = torch.randn(8, 3), torch.full((8,), 0.5)
    assert half.score(x, t).dtype == torch.float32
    torch.testing.assert_close(half.score(x, t), whole.score(x, t), rtol=0.01, atol=0.01)
    assert not torch.equal(half.score(x, t), whole.score(x, t))


def test_weights_too_large_for_half_precision_are_refused(tmp_path: Path) -> None:
    host = Host.discover()
    data = host.create("data:sphere", {"points": 20})
    model = host.create("score:denoising", {"network": {"use": "network:mlp", "config": {"width": 4}}}, data=data)
    with torch.no_grad():
        model.network.first.weight[0, 0] = 1e5
    with pytest.raises(ArtefactError, match=r"network\.first\.weight holds weights too large for half precision"):
        host.save(model, tmp_path / "model", half=True)
    host.save(model, tmp_path / "model")


def test_pull_by_name_shows_the_licences(bring: Callable[..., Path], capsys: Captured, tmp_path: Path) -> None:
    folder = bring()
    assert main(["pull", "ball"]) == 0
    said = capsys.readouterr().out
    assert "licence: mit; of its data: cc0-1.0\n" in said
    assert (Path("models/ball") / "state.safetensors").read_bytes() == (folder / "state.safetensors").read_bytes()
    found = answer(capsys, "pull", "model:fake-balls/ball", "again")
    assert (found["licence"], found["data_licence"]) == ("mit", "cc0-1.0")
    Path("ball").mkdir()
    with pytest.raises(ConfigError, match=r"write \./ball for the folder, or model:ball for the plugin's model"):
        pull(Host.discover(), "ball", "third")
    assert pull(Host.discover(), "model:ball", "third") == tmp_path / "work/third"


def test_plugins_list_and_show_name_it(bring: Callable[..., Path], capsys: Captured) -> None:
    folder = bring()
    listed = {plugin["distribution"]: plugin for plugin in answer(capsys, "plugins", "list")["plugins"]}
    assert listed["fake-balls"]["models"] == ["ball"]
    (shown,) = answer(capsys, "plugins", "show", "balls")["plugins"][0]["models"]
    assert (shown["component"], shown["licence"], shown["data_licence"]) == ("score:denoising@1", "mit", "cc0-1.0")
    assert shown["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    assert main(["plugins", "show", "balls"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "model ball: A score of points on a circle (score:denoising@1, 0.0 MB, licence mit, of its data" in text
    assert answer(capsys, "plugins", "show", "model:ball") == shown
    assert main(["plugins", "show", "model:ball"]) == 0
    assert "; load: model:ball\n" in capsys.readouterr().out
    with pytest.raises(PluginError, match=r"is loaded, by {load: model:NAME} or sf\.load\('model:NAME'\)"):
        sample("model:ball", progress=False)
    assert main(["plugins", "doctor"]) == 0
    (folder / "README.md").unlink()
    capsys.readouterr()
    assert main(["plugins", "doctor"]) == 1
    assert "has no README.md" in capsys.readouterr().out
    assert main(["plugins", "show", "balls"]) == 0
    assert "has no README.md" in " ".join(capsys.readouterr().out.split())


def unlicensed(folder: Path, key: str) -> None:
    card = folder / "README.md"
    lines = [line for line in card.read_text().splitlines() if not line.startswith(f"{key}:")]
    card.write_text("\n".join(lines) + "\n")


def damaged(folder: Path) -> None:
    state = folder / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"x")


def function_in_config(folder: Path) -> None:
    state, facts = load_state(folder)
    facts["config"]["network"] = {"use": "learner:callable", "config": {"target": "this:that"}}
    save_state(folder, state, facts)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (damaged, "state.safetensors was changed, truncated or"),
        (function_in_config, "names 'this:that'"),
        (lambda folder: (folder / "run.yaml").unlink(), "has no run.yaml"),
        (lambda folder: (folder / "README.md").write_text("no header"), "its card names no licence of the weights"),
        (lambda folder: unlicensed(folder, "license"), "its card names no licence of the weights"),
        (lambda folder: unlicensed(folder, "data_license"), "its card names no licence of the data"),
        (lambda folder: (folder / "model.pkl").write_bytes(b"\x80\x04."), "which could run code when it is loaded"),
        (lambda folder: (folder / "notes.txt").symlink_to("/etc/hostname"), "does not belong to a pushed model"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(bring: Callable[..., Path], how: Any, said: str) -> None:
    how(bring())
    with pytest.raises((ArtefactError, ConfigError)) as loaded:
        run_file(Host.discover(), write("  score: {load: model:ball}\n"))
    assert said in str(loaded.value)
    with pytest.raises(ArtefactError) as pulled:
        pull(Host.discover(), "ball")
    assert said in str(pulled.value)
    assert not Path("models/ball").exists()


def test_names_that_no_plugin_has(bring: Callable[..., Path], capsys: Captured) -> None:
    bring()
    assert main(["validate", str(write("  score: {load: model:bal}\n"))]) == 1
    said = capsys.readouterr().err
    assert "5:17: no plugin brings a model called 'bal'" in said
    assert "did you mean 'ball'?" in said
    with pytest.raises(PluginError, match="no plugin brings a model called 'nowhere'"):
        pull(Host.discover(), "nowhere")
    with pytest.raises(PluginError, match="no plugin brings a model called 'others/ball'"):
        find_model(Host.discover().plugins, "model:others/ball")


def test_a_name_that_two_plugins_have_is_nobody_s(bring: Callable[..., Path]) -> None:
    bring()
    bring("other-balls")
    plugins = Host.discover().plugins
    with pytest.raises(PluginError, match="write model:fake-balls/ball or model:other-balls/ball"):
        find_model(plugins, "model:ball")
    assert find_model(plugins, "model:Other_Balls/ball").record.distribution == "other-balls"


def test_what_a_hook_may_not_offer(install: Install) -> None:
    install("fake-wrong", OFFERS.format(name="No Name", folder="x"))
    (record,) = [record for record in Host.discover().plugins if record.distribution == "fake-wrong"]
    assert record.state == "broken"
    assert "a model is called 'No Name'" in str(record.cause)
