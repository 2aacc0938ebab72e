"""Activations of a layer as data: the right ones, in the order of the events, and refusals that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError, ScorefoldError
from scorefold.interfaces import DataSource
from scorefold_checkpoints.config import ActivationsConfig
from scorefold_checkpoints.own.activations import Activations
from scorefold_registry import Host
from scorefold_registry.python import load_data
from scorefold_registry.run.pipeline import run_file
from scorefold_toolkit.checks import VARIABLE


@pytest.fixture(scope="module")
def digits() -> DataSource:
    return Host.discover().create("data:digits", {"limit": 60})


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))


def activations(data: DataSource, network: Any, **config: Any) -> Activations:
    return Activations(ActivationsConfig.model_validate(config), data=data, network=network)


@pytest.mark.parametrize(("keep", "shape"), [("all", (4, 6, 6)), ("pixel-mean", (4,))])
def test_events_are_what_the_layer_answers(digits: DataSource, keep: str, shape: tuple[int, ...]) -> None:
    """In evaluation mode, in batches, with labels and rows; the network is left as it was."""
    network = convolution().train()
    network[3].eval()
    found = activations(digits, network, layer="1", keep=keep, batch_size=7)
    train, events = found.load("train"), digits.load("train")
    with torch.no_grad():
        expected = network[0](events.tensor())
    torch.testing.assert_close(train.x, expected if keep == "all" else expected.mean((2, 3)))
    assert found.event_shape == shape
    assert train.label is not None
    assert events.label is not None
    assert train.label.equal(events.label)
    assert [module.training for module in network] == [True, True, True, False]
    assert found.event_scale.std == pytest.approx(float(train.x.flatten(1).var(0).mean().sqrt()), rel=0.05)


class Transformer(nn.Module):
    """A layer that answers a tuple, as layers of transformers do, to whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(32, 5)
        self.block = nn.Identity()
        self.never = nn.Identity()

    def forward(self, x: Tensor) -> Any:
        return self.block((self.words(x.flatten(1)), "cache"))


@pytest.mark.parametrize("keep", ["token-mean", "first-token"])
def test_tokens_are_whole_numbers(digits: DataSource, keep: str) -> None:
    network = Transformer()
    whole = DigitSums(digits)
    found = activations(whole, network, layer="block", keep=keep, integers=True).load("test").x
    with torch.no_grad():
        tokens = network.words(whole.load("test").tensor().long().flatten(1))
    torch.testing.assert_close(found, tokens.mean(1) if keep == "token-mean" else tokens[:, 0])


class DigitSums(DataSource):
    """The row sums of digits, whole numbers."""

    def __init__(self, data: DataSource) -> None:
        self._data = data
        self.event_shape, self.event_scale = (8,), data.event_scale

    def load(self, split: str) -> Any:
        events = self._data.load(split)
        return type(events)((events.tensor().sum((1, 2)) / 8).round().clamp(0, 31).float())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"layer": "fc"}, "it has 0, 1, 2, 3"),
        ({"layer": "3", "keep": "pixel-mean"}, "(C, H, W)"),
        ({"layer": "0", "keep": "token-mean"}, "(T, C)"),
        ({"layer": "0", "integers": True}, "leave integers out, where it takes real numbers"),
    ],
)
def test_what_does_not_fit_is_refused(digits: DataSource, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ScorefoldError) as refused:
        activations(digits, convolution(), **config)
    assert said in f"{refused.value.message} {refused.value.hint}"


def test_a_layer_that_is_never_called_is_named(digits: DataSource) -> None:
    with pytest.raises(ConfigError, match="never calls its layer 'never'"):
        activations(DigitSums(digits), Transformer(), layer="never", integers=True)


def test_other_weights_have_another_fingerprint(digits: DataSource) -> None:
    network = convolution()
    one = activations(digits, network, layer="0").fingerprint()
    assert activations(digits, network, layer="0").fingerprint() == one
    with torch.no_grad():
        network[3].bias += 1e-3
    assert activations(digits, network, layer="0").fingerprint() != one


def test_a_run_file_names_the_network_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = tmp_path / "net.py"
    net.write_text("from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))\n")
    config = f"{{network: 'net:net', file: {net}, layer: '1'}}"
    (tmp_path / "run.yaml").write_text(
        f"""
version: 1
name: layers
stages:
  data: {{use: data:digits, config: {{limit: 60}}}}
  hidden: {{use: data:activations, config: {config}, inputs: {{data: data}}}}
  dimension: {{use: estimator:pca, inputs: {{data: hidden}}}}
"""
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="only with your permission"):
        run_file(Host.discover(), tmp_path / "run.yaml")
    monkeypatch.setenv(VARIABLE, str(net))
    found = run_file(Host.discover(), tmp_path / "run.yaml")
    assert 1 <= found.value("dimension").number() <= 5
    assert found.value("hidden").event_shape == (5,)


def test_a_layer_that_writes_into_the_answer_changes_nothing(digits: DataSource) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    found = activations(digits, network, layer="1").load("train").x
    with torch.no_grad():
        torch.testing.assert_close(found, network[1](digits.load("train").tensor().flatten(1)))
    assert (found < 0).any()


def test_a_layer_that_is_called_twice_is_read_at_the_end_and_said(digits: DataSource) -> None:
    twice = nn.Linear(64, 64)
    found = activations(digits, nn.Sequential(nn.Flatten(), twice, nn.Tanh(), twice), layer="1")
    x = digits.load("train").tensor().flatten(1)
    with torch.no_grad():
        torch.testing.assert_close(found.load("train").x, twice(twice(x).tanh()))
    assert found.data_warnings()[-1] == "the network calls its layer '1' 2 times: the last answer is read"
    once = activations(digits, nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), layer="1")
    assert once.data_warnings() == digits.data_warnings()


def test_python_plugs_in_the_data_of_a_stage_or_by_name(tmp_path: Path) -> None:
    digits = load_data("data:digits", limit=60, folder=tmp_path, progress=False)
    asked: dict[str, Any] = {"network": "scorefold_checkpoints.own.example:small_classifier", "layer": "2"}
    hidden = load_data("data:activations", data=digits, progress=False, **asked)
    assert (hidden.name, hidden.value.event_shape) == ("data-2", (32,))
    few = {"use": "data:digits", "config": {"limit": 60}}
    named = load_data("data:activations", data=few, name="data-2", folder=tmp_path, progress=False, **asked)
    # Weights and splits are drawn by a seed of each stage.
    for stage in (named, hidden):
        assert stage.value.load("train").x.shape == (48, 32)
        assert (stage.value.load("train").x >= 0).all(), "it ends with a ReLU"
    with pytest.raises(ConfigError, match="seed is 3 here and 0 in stage 'data'"):
        load_data("data:activations", data=digits, seed=3, progress=False, **asked)
    assert "inputs: {data: data}" in hidden.run_file
