"""Own networks from a module, a file, an archive and Python: exact where the answer is, refused where it is wrong."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

import scorefold_checkpoints
from scorefold.data import DataSpec, EventScale
from scorefold.errors import ArtefactError, ConfigError, ScorefoldError, ShapeError
from scorefold_checkpoints.config import CallableConfig, ExportedConfig
from scorefold_checkpoints.own.example import NormalVelocity
from scorefold_checkpoints.own.score import NetworkScore
from scorefold_registry import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_toolkit.checks import VARIABLE

C, M = 0.5, 0.2
SAMPLE = Path(scorefold_checkpoints.__file__).parent / "samples/normal.pt"
EXAMPLE = "scorefold_checkpoints.own.example:NormalVelocity"
FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 2)
    def forward(self, x, t):
        return self.line(torch.cat([x, t[:, None]], 1))

def build():
    return Net()

def direct(x, t):
    return x * t[:, None]

def broken():
    raise RuntimeError("no such weights")

number = 3
"""


def score_of(network: Any = None, **config: Any) -> NetworkScore:
    settings = {"parametrisation": "velocity", "schedule": "flow", "event_shape": (2,), **config}
    return NetworkScore(CallableConfig(**settings), network=network)


SCHEDULES = ["ve", "vp", "subvp", "log-snr", "cosine", "edm", "flow", "ddpm", {"name": "ddpm", "betas": "cosine"}]


@pytest.mark.parametrize("parametrisation", ["epsilon", "x0", "v", "score", "velocity"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_exact_answer_of_a_gaussian_gives_its_score(parametrisation: str, schedule: Any) -> None:
    """N(M, C^2), whatever the network answers and on whatever noise; it is shown sigma = b / a."""
    process = score_of(lambda x, t: x * t[:, None], schedule=schedule).process

    def answer(x: Tensor, t: Tensor) -> Tensor:
        a, b = process.coefficients(x, t)
        x0 = M + a * C**2 / ((a * C) ** 2 + b**2) * (x - a * M)
        noise = (x - a * x0) / b
        return {"epsilon": noise, "x0": x0, "v": a * noise - b * x0, "score": -noise / b, "velocity": noise - x0}[
            parametrisation
        ]

    model = score_of(answer, schedule=schedule, parametrisation=parametrisation)
    share = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    t = process.t_min + share * (process.t_max - process.t_min)
    x = torch.randn(9, 2, dtype=torch.float64)
    a, b = process.coefficients(x, t)
    exact = -(x - a * M) / ((a * C) ** 2 + b**2)
    noise = model.family.expected_noise(lambda x, t, _: answer(x, t), process, x, t, None)
    torch.testing.assert_close(process.score_from_noise(noise, x, t), exact, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(model.score(x.float(), t.float()), exact.float(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("time", "factor", "expected"), [("t", 1000.0, 300.0), ("sigma", 1.0, 3 / 7), ("log-sigma", 0.25, None)]
)
def test_what_the_network_is_shown(time: str, factor: float, expected: float | None) -> None:
    seen = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(t[0]))
        return x * t[:, None]

    score_of(network, time=time, time_factor=factor).score(torch.ones(1, 2), torch.tensor([0.3]))
    assert seen[-1] == pytest.approx(torch.tensor(3 / 7).log().item() / 4 if expected is None else expected, rel=1e-5)


def test_betas_are_diffusers_own() -> None:
    for ours, theirs in (("linear", "linear"), ("scaled-linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")):
        model = score_of(lambda x, t: x * t[:, None], schedule={"name": "ddpm", "betas": ours, "steps": 100})
        signal, _ = model.process.coefficients(torch.zeros(100, 2), torch.arange(100.0))
        expected = DDPMScheduler(num_train_timesteps=100, beta_schedule=theirs).alphas_cumprod
        torch.testing.assert_close(signal[:, 0] ** 2, expected, rtol=1e-4, atol=1e-8)


def test_a_torch_module_from_python_has_likelihoods_and_a_dimension() -> None:
    model = score_of(NormalVelocity(), event_shape=(3,))
    x = torch.randn(5, 3)
    exact = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    torch.testing.assert_close(model.log_prob(x), exact, atol=0.02, rtol=0)
    found = Host.discover().create("estimator:iddiff", score=model).estimate(x)
    assert found.value == 3


def test_data_give_the_shape_and_the_units() -> None:
    config = CallableConfig(parametrisation="velocity", schedule="flow", network=EXAMPLE)
    data = DataSpec((4,), EventScale(mean=1.0, std=2.0))
    model = NetworkScore(config, data=data)
    assert (model.event_shape, model.event_scale.std) == ((4,), 2.0)
    with pytest.raises(ConfigError, match="shape of an event is not known"):
        NetworkScore(config)
    with pytest.raises(ShapeError, match=r"event_shape is \[2\] and events of the data have \[4\]"):
        NetworkScore(config.model_copy(update={"event_shape": (2,)}), data=data)


def test_labels_are_the_third_argument() -> None:
    class OfClass(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
            return x * t[:, None] + label[:, None]

    model = score_of(OfClass(), classes=3, parametrisation="epsilon")
    x, t = torch.zeros(2, 2), torch.tensor([0.5])
    torch.testing.assert_close(model.noise(x, t, torch.tensor([0, 2])), torch.tensor([[0.0, 0.0], [2.0, 2.0]]))
    with pytest.raises(ConfigError, match="pass the labels"):
        model.noise(x, t)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x, t: x[:, :1], r"answered shape \(2, 1\) to events \(2, 2\)"),
        (lambda x, t: (x, t), "answered a tuple"),
        (lambda x: x, r"called as network\(x, time\) with x \(2, 2\): TypeError"),
        (lambda x, t: 2 * x, "ignores the time"),
        (lambda x, t: x / 0 * t[:, None], "is not finite"),
        (lambda x, t: x.reshape(4) * t, "called as network"),
        (3, "is a int; expected a function"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_at_once(network: Any, message: str) -> None:
    with pytest.raises(ScorefoldError, match=message):
        score_of(network)


def test_a_network_of_x_alone_says_so() -> None:
    model = score_of(lambda x: 2 * x, time="none", parametrisation="epsilon")
    assert float(model.noise(torch.ones(1, 2), torch.tensor([0.5]))[0, 0]) == 2


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "my_net.py"
    place.write_text(FILE)
    monkeypatch.setenv(VARIABLE, str(place))
    return place


def named(network: str, file: Path | None = None, **config: Any) -> NetworkScore:
    settings = {"parametrisation": "epsilon", "schedule": "vp", "event_shape": (2,), **config}
    return NetworkScore(CallableConfig(network=network, file=file, **settings))


@pytest.mark.parametrize("name", ["build", "Net", "direct"])
def test_a_file_gives_a_network_or_is_one(name: str, file: Path) -> None:
    assert named(f"my_net:{name}", file).noise(torch.zeros(1, 2), torch.tensor([0.5])).shape == (1, 2)


def test_a_file_may_seed_torch_as_scripts_do(file: Path) -> None:
    """The host refuses components whose constructor seeds torch; a user's own file is no component."""
    seeded = FILE.replace("class Net", "torch.manual_seed(0)\n\nclass Net").replace(
        "return Net()", "torch.manual_seed(1); return Net()"
    )
    file.write_text(seeded)
    config = {
        "network": "my_net:build",
        "file": str(file),
        "event_shape": [2],
        "parametrisation": "epsilon",
        "schedule": "edm",
    }
    before = torch.get_rng_state()
    assert Host.discover().create("score:callable", config).noise(torch.zeros(1, 2), torch.ones(1)).shape == (1, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_of_a_network_are_its_own_or_refused(file: Path, tmp_path: Path) -> None:
    weights = {"line.weight": torch.ones(2, 3), "line.bias": torch.zeros(2)}
    save_file(weights, tmp_path / "net.safetensors")
    model = named("my_net:build", file, weights=tmp_path / "net.safetensors")
    torch.testing.assert_close(model.noise(torch.ones(1, 2), torch.tensor([0.5])), torch.full((1, 2), 2.5))
    save_file({"line.weight": torch.ones(2, 4)}, tmp_path / "other.safetensors")
    with pytest.raises(ArtefactError, match="do not fit the network"):
        named("my_net:build", file, weights=tmp_path / "other.safetensors")
    save_file({**weights, "line.bias": torch.tensor([0.0, torch.nan])}, tmp_path / "diverged.safetensors")
    with pytest.raises(
        ArtefactError, match=r"line\.bias in .*diverged\.safetensors hold 1 numbers that are not finite"
    ):
        named("my_net:build", file, weights=tmp_path / "diverged.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_net:buidl", "my_net has no buidl; it has torch, nn, Net, build"),
        ("my_net:broken", "my_net:broken failed: RuntimeError: no such weights"),
        ("my_net:number", "my_net:number is a int; expected a function"),
    ],
)
def test_names_that_are_wrong_are_said(name: str, message: str, file: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        named(name, file)


def test_modules_and_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"absent_module, {tmp_path / 'bad.py'}")
    with pytest.raises(ConfigError, match="absent_module can't be imported: ModuleNotFoundError"):
        named("absent_module:net")
    with pytest.raises(ConfigError, match="there is no file"):
        named("net:net", tmp_path / "bad.py")
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match="can't be imported: ZeroDivisionError"):
        named("net:net", tmp_path / "bad.py")
    with pytest.raises(ValidationError, match="expected module:name"):
        named("no colon")
    with pytest.raises(ConfigError, match="has no network"):
        score_of()


def test_code_runs_with_permission_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run file or a saved state names no module and no archive whose code would run unasked."""
    monkeypatch.delenv(VARIABLE, raising=False)
    ran = tmp_path / "ran"
    place = tmp_path / "evil.py"
    place.write_text(f"open({str(ran)!r}, 'w')")
    archive = tmp_path / "evil.pt"
    archive.write_bytes(SAMPLE.read_bytes())
    flow = {"parametrisation": "velocity", "schedule": "flow", "event_shape": (2,)}
    for build in (
        lambda: named("evil:net", place),
        lambda: named("os:getcwd"),
        lambda: named("torch.nn:Identity"),
        lambda: NetworkScore(ExportedConfig(path=archive, **flow)),
    ):
        with pytest.raises(ConfigError, match="only with your permission") as found:
            build()
        assert f"export {VARIABLE}=" in str(found.value)
    assert not ran.exists()
    monkeypatch.setenv(VARIABLE, "torch")
    assert named("torch.nn:Identity", time="none").event_shape == (2,)
    monkeypatch.setenv(VARIABLE, f"x, {archive}")
    assert NetworkScore(ExportedConfig(path=archive, **flow)).event_shape == (2,)


def exported(path: Path, module: nn.Module, rows: Any) -> None:
    example = (torch.zeros(4, 2), torch.full((4,), 0.5))
    program = torch.export.export(module.eval(), example, dynamic_shapes={"x": {0: rows}, "t": {0: rows}})
    torch.export.save(program, path)


def own(path: Path, **config: Any) -> NetworkScore:
    settings = {"parametrisation": "velocity", "schedule": "flow", "event_shape": (2,), **config}
    return NetworkScore(ExportedConfig(path=path, **settings))


@pytest.mark.filterwarnings("ignore")
def test_archives_of_torch_export_and_torchscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, fixed = tmp_path / "net.pt2", tmp_path / "fixed.pt2"
    monkeypatch.setenv(VARIABLE, f"{program},{fixed}")
    exported(program, NormalVelocity(), torch.export.Dim("rows", min=1))
    x, t = torch.randn(3, 2), torch.tensor([0.1, 0.5, 0.9])
    expected = score_of(NormalVelocity()).score(x, t)
    for path in (program, SAMPLE):
        model = own(path)
        torch.testing.assert_close(model.score(x, t), expected)
        torch.testing.assert_close(model.log_prob(torch.zeros(1, 2)), torch.tensor([-1.8379]), atol=0.01, rtol=0)
        assert model.sample(4, steps=3).shape == (4, 2)
    exported(fixed, NormalVelocity(), None)
    with pytest.raises(ConfigError, match="dynamic_shapes"):
        own(fixed)


@pytest.mark.filterwarnings("ignore")
def test_archives_that_are_none_or_hold_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pickled, other = (tmp_path / name for name in ("text.pt2", "pickled.pt2", "other.pt2"))
    monkeypatch.setenv(VARIABLE, f"{path},{pickled},{other}")
    with pytest.raises(ConfigError, match="there is no file"):
        own(path)
    path.write_text("no archive")
    with pytest.raises(ArtefactError, match="is no archive"):
        own(path)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "nothing")
    with pytest.raises(ArtefactError, match=r"can't be read as torch\.export"):
        own(other)
    exported(pickled, NormalVelocity(), torch.export.Dim("rows", min=1))
    with zipfile.ZipFile(pickled) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (config,) = (name for name in parts if name.endswith("weights_config.json"))
    with zipfile.ZipFile(pickled, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(b'"use_pickle": false', b'"use_pickle": true'))
    assert b'"use_pickle": false' in parts[config]
    with pytest.raises(ArtefactError, match="pickled tensors"):
        own(pickled)


def test_a_run_file_names_a_file_next_to_it(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content is part of the stage's key."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run.yaml"
    run.write_text(
        "version: 1\nname: own\nstages:\n"
        "  score: {use: score:callable, config: {network: 'my_net:direct', file: my_net.py, event_shape: [2], "
        "parametrisation: x0, schedule: edm, time: sigma}}\n"
        "  samples: {use: score, do: sample, options: {n: 4, steps: 3}}\n"
    )
    assert [stage.reused for stage in run_file(Host.discover(), run).stages] == [False, False]
    assert [stage.reused for stage in run_file(Host.discover(), run).stages] == [True, True]
    file.write_text(FILE.replace("x * t[:, None]", "x * t[:, None] / 2"))
    assert [stage.reused for stage in run_file(Host.discover(), run).stages] == [False, False]
