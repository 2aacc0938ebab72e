"""Saved states: own parameters only, ports by reference or copy, rebuilt without the data, no code run from files."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scorefold.artefacts import load_state, save_state
from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.errors import ArtefactError
from scorefold.interfaces import TensorSource
from scorefold_registry.host import Host

Install = Callable[..., Path]


@pytest.fixture
def host(fake_one: Path) -> Host:
    return Host.discover()


@pytest.fixture
def score(host: Host, generator: torch.Generator) -> Any:
    return host.create("score:learnt", data=host.create("data:points"), generator=generator)


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def same(one: Any, other: Any) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


class TestOneObject:
    def test_comes_back_as_it_was(self, host: Host, score: Any, tmp_path: Path) -> None:
        host.save(score, tmp_path / "score")
        loaded = Host.discover().load(tmp_path / "score")
        assert same(score, loaded)
        assert loaded.mean == 0.5
        assert not loaded.training

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_weights_that_are_not_finite_are_refused(
        self, host: Host, score: Any, tmp_path: Path, value: float
    ) -> None:
        name, weights = next(iter(score.named_parameters()))
        with torch.no_grad():
            weights.view(-1)[0] = value
        host.save(score, tmp_path / "score")
        message = rf"state\.safetensors holds weights that are not finite: {name}"
        with pytest.raises(ArtefactError, match=message) as refused:
            Host.discover().load(tmp_path / "score")
        assert "smaller training.learning_rate" in str(refused.value)

    def test_the_manifest_says_what_is_needed_to_rebuild(self, host: Host, score: Any, tmp_path: Path) -> None:
        host.save(score, tmp_path / "score")
        found = manifest(tmp_path / "score")
        assert found["component"] == "score:learnt@1"
        assert (found["distribution"], found["version"]) == ("fake-one", "1.0")
        network = {"use": "fake-one/network:linear@1", "config": {"scale": 1.0}, "inputs": {}}
        assert found["config"]["network"] == network
        spec = found["ports"]["data"]["spec"]
        assert spec["event_shape"] == [3]
        assert spec["event_scale"]["std"] == 2.0
        assert sorted(item.name for item in (tmp_path / "score").iterdir()) == ["manifest.json", "state.safetensors"]

    def test_a_part_whose_bare_name_is_nobodys_is_still_found(
        self, install: Install, fake_one: Path, tmp_path: Path, component: Callable[..., str]
    ) -> None:
        host = Host.discover()
        config = {"network": {"use": "network:linear", "config": {"scale": 3.0}}}
        score = host.create("score:learnt", config, data=host.create("data:points"))
        host.save(score, tmp_path / "score")
        install("fake-two", component("network", "linear"))
        assert same(score, Host.discover().load(tmp_path / "score"))

    def test_precision_is_kept(self, host: Host, score: Any, tmp_path: Path) -> None:
        host.save(score.double(), tmp_path / "score")
        assert same(score, host.load(tmp_path / "score"))

    def test_conditions_of_the_data_are_kept(self, host: Host, tmp_path: Path) -> None:
        conditions = {"image": TensorSpec((1, 4, 4)), "digit": TensorSpec((), classes=10)}
        spec = DataSpec((3,), EventScale(low=0.0, high=1.0, levels=256), conditions)
        host.save(host.create("score:learnt", data=spec), tmp_path / "score")
        loaded = host.load(tmp_path / "score")
        assert loaded.condition_spec == conditions
        assert host.builder.memory.of(loaded).ports["data"] == spec

    def test_units_of_each_column_are_kept(self, host: Host, tmp_path: Path) -> None:
        spec = DataSpec((3,), EventScale(shift=(2026.0, 0.0, -1.0), factor=(1e-3, 2.0, 7.0), centre=(0.0, 9.0, 0.0)))
        host.save(host.create("score:learnt", data=spec), tmp_path / "score")
        assert host.builder.memory.of(host.load(tmp_path / "score")).ports["data"] == spec
        tensors, facts = load_state(tmp_path / "score")
        text = json.dumps(facts)
        assert text.count("2026.0,") == 1
        save_state(tmp_path / "score", tensors, json.loads(text.replace("2026.0,", "2026.0, 2026.0,")))
        with pytest.raises(ArtefactError, match="units of 4 coordinates"):
            host.load(tmp_path / "score")

    def test_units_of_each_channel_of_a_signal_are_kept(self, host: Host, tmp_path: Path) -> None:
        spec = DataSpec((2, 3), EventScale(shift=(1.0,) * 3 + (2.0,) * 3, factor=(4.0,) * 3 + (5.0,) * 3))
        host.save(host.create("score:learnt", data=spec), tmp_path / "score")
        assert host.builder.memory.of(host.load(tmp_path / "score")).ports["data"] == spec
        tensors, facts = load_state(tmp_path / "score")
        save_state(tmp_path / "score", tensors, json.loads(json.dumps(facts).replace("[4.0,", "[4.0, 4.0,")))
        with pytest.raises(ArtefactError, match="units of 7 coordinates"):
            host.load(tmp_path / "score")

    def test_a_loaded_object_can_be_saved_again(self, host: Host, score: Any, tmp_path: Path) -> None:
        host.save(score, tmp_path / "one")
        host.save(host.load(tmp_path / "one"), tmp_path / "two")
        assert same(score, host.load(tmp_path / "two"))
        assert manifest(tmp_path / "one") == manifest(tmp_path / "two")

    def test_saving_into_a_folder_that_exists_keeps_what_else_is_there(
        self, host: Host, score: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "score").mkdir()
        (tmp_path / "score" / "notes.txt").write_text("mine")
        host.save(score, tmp_path / "score")
        assert same(score, host.load(tmp_path / "score"))
        assert (tmp_path / "score" / "notes.txt").read_text() == "mine"

    def test_a_data_source_gives_the_same_points_again(
        self, host: Host, tmp_path: Path, generator: torch.Generator
    ) -> None:
        source = host.create("data:points", generator=generator)
        host.save(source, tmp_path / "data")
        assert torch.equal(host.load(tmp_path / "data").load("train").x, source.load("train").x)

    def test_a_relative_path(self, host: Host, score: Any) -> None:
        host.save(score, "here/score")
        assert same(score, host.load("here/score"))

    def test_what_the_host_did_not_make_is_refused(self, host: Host, tmp_path: Path) -> None:
        with pytest.raises(ArtefactError, match="it is a Linear that this host did not make") as caught:
            host.save(torch.nn.Linear(1, 1), tmp_path / "linear")
        assert "host.create" in (caught.value.hint or "")
        assert not (tmp_path / "linear").exists()

    def test_in_a_fresh_process_without_the_data(self, host: Host, score: Any, tmp_path: Path, fake_one: Path) -> None:
        host.save(score, tmp_path / "score")
        script = """
import sys
from scorefold_registry import Host
score = Host.discover().load(sys.argv[1])
print(score.state_dict()["network.weight"].sum().item())
"""
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "score")],
            env={"PYTHONPATH": str(fake_one.parent)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert float(done.stdout) == score.network.weight.sum().item(), done.stderr


class TestPorts:
    def test_a_saved_port_is_referred_to(self, host: Host, score: Any, tmp_path: Path) -> None:
        flow = host.create("flow:wrapping", score=score, data=host.create("data:points"))
        host.save(score, tmp_path / "run" / "score")
        host.save(flow, tmp_path / "run" / "flow")
        assert list(load_file(tmp_path / "run" / "flow" / "state.safetensors")) == ["shift"]
        assert manifest(tmp_path / "run" / "flow")["ports"]["score"]["state"] == "../score"
        loaded = Host.discover().load(tmp_path / "run" / "flow")
        assert same(flow, loaded)
        # The whole run may be put elsewhere.
        shutil.move(tmp_path / "run", tmp_path / "elsewhere")
        assert same(flow, Host.discover().load(tmp_path / "elsewhere" / "flow"))

    def test_a_port_without_a_saved_state_is_an_error(self, host: Host, score: Any, tmp_path: Path) -> None:
        estimator = host.create("estimator:plain", score=score)
        with pytest.raises(ArtefactError, match="is plugged to score:learnt, which has no saved state") as caught:
            host.save(estimator, tmp_path / "estimator")
        assert "bundle=True" in (caught.value.hint or "")
        assert not (tmp_path / "estimator").exists()

    def test_a_bundle_holds_copies(self, host: Host, score: Any, tmp_path: Path) -> None:
        flow = host.create("flow:wrapping", score=score, data=host.create("data:points"))
        host.save(flow, tmp_path / "bundle", bundle=True)
        shutil.move(tmp_path / "bundle", tmp_path / "sent")
        assert same(flow, Host.discover().load(tmp_path / "sent"))
        assert (tmp_path / "sent" / "ports" / "score" / "state.safetensors").is_file()

    def test_a_bundle_holds_one_copy_of_what_is_plugged_in_twice(self, host: Host, score: Any, tmp_path: Path) -> None:
        several = host.create("estimator:several", scores=[score, score])
        host.save(several, tmp_path / "bundle", bundle=True)
        assert [item.name for item in (tmp_path / "bundle" / "ports").iterdir()] == ["scores-0"]
        first, second = host.load(tmp_path / "bundle").scores
        assert first is second

    def test_two_states_that_share_a_port_share_it_once_loaded(self, host: Host, score: Any, tmp_path: Path) -> None:
        flow = host.create("flow:wrapping", score=score, data=host.create("data:points"))
        host.save(score, tmp_path / "score")
        host.save(flow, tmp_path / "flow")
        host.save(host.create("estimator:several", scores=[score, score]), tmp_path / "several")
        first, second = host.load(tmp_path / "several").scores
        assert first is second

    def test_what_was_built_along_is_kept_inside(self, host: Host, tmp_path: Path, generator: torch.Generator) -> None:
        points = host.create("data:points")
        made = host.create("estimator:by-default", data=points, generator=generator)
        with torch.no_grad():
            made.score.network.weight.fill_(7.0)
        host.save(made, tmp_path / "made")
        assert host.load(tmp_path / "made").score.network.weight.unique().tolist() == [7.0]

    def test_a_port_that_changed_since_it_was_saved_is_an_error(self, host: Host, score: Any, tmp_path: Path) -> None:
        host.save(score, tmp_path / "score")
        with torch.no_grad():
            score.network.weight.add_(1)
        estimator = host.create("estimator:plain", score=score)
        with pytest.raises(ArtefactError, match="has changed since it was saved") as caught:
            host.save(estimator, tmp_path / "estimator")
        score_of, plain_of = (host.catalogue.resolve(name).record.label for name in ("score:learnt", "estimator:plain"))
        assert caught.value.message == (
            f"score:learnt ({score_of}) at port 'score' of estimator:plain ({plain_of}) has changed since it was saved "
            f"to {tmp_path / 'score'}: network.weight"
        )
        host.save(score, tmp_path / "score")
        host.save(estimator, tmp_path / "estimator")
        assert same(score, host.load(tmp_path / "estimator").score)

    def test_a_reference_is_checked_when_it_is_loaded(self, host: Host, score: Any, tmp_path: Path) -> None:
        host.save(score, tmp_path / "score")
        host.save(host.create("estimator:plain", score=score), tmp_path / "estimator")
        with torch.no_grad():
            score.network.weight.add_(1)
        host.save(score, tmp_path / "score")
        with pytest.raises(ArtefactError, match="which has changed since"):
            host.load(tmp_path / "estimator")
        shutil.rmtree(tmp_path / "score")
        with pytest.raises(ArtefactError, match="which is not there"):
            host.load(tmp_path / "estimator")

    def test_a_folder_that_was_renamed(self, host: Host, score: Any, tmp_path: Path) -> None:
        host.save(score, tmp_path / "partial")
        (tmp_path / "partial").rename(tmp_path / "score")
        host.moved(score, tmp_path / "score")
        host.save(host.create("estimator:plain", score=score), tmp_path / "estimator")
        assert manifest(tmp_path / "estimator")["ports"]["score"]["state"] == "../score"
        with pytest.raises(ArtefactError, match="holds no state"):
            host.moved(score, tmp_path / "nowhere")

    def test_data_that_are_read_are_rebuilt(self, host: Host, tmp_path: Path, generator: torch.Generator) -> None:
        whole = host.create("score:whole", data=host.create("data:points", {"count": 4}, generator=generator))
        host.save(whole, tmp_path / "whole")
        assert torch.equal(host.load(tmp_path / "whole").points, whole.points)

    def test_points_in_memory_that_are_read_are_kept(self, host: Host, tmp_path: Path) -> None:
        x = torch.randn(5, 3)
        source = TensorSource({"train": Dataset(x, label=torch.arange(5))})
        host.save(host.create("score:whole", data=source), tmp_path / "whole")
        assert torch.equal(host.load(tmp_path / "whole").points, x)
        (tmp_path / "whole" / "ports" / "data" / "value.json").unlink()
        with pytest.raises(ArtefactError, match="gone or changed"):
            host.load(tmp_path / "whole")

    def test_a_component_in_a_config_that_was_built_before(self, host: Host, tmp_path: Path) -> None:
        network = host.create("network:linear", {"scale": 2.0})
        score = host.create("score:learnt", {"network": network}, data=host.create("data:points"))
        host.save(score, tmp_path / "score")
        assert manifest(tmp_path / "score")["config"]["network"]["config"] == {"scale": 2.0}
        assert same(score, host.load(tmp_path / "score"))


class TestDamage:
    @pytest.fixture
    def folder(self, host: Host, score: Any, tmp_path: Path) -> Path:
        host.save(score, tmp_path / "score")
        return tmp_path / "score"

    def test_nothing_there(self, host: Host, tmp_path: Path) -> None:
        with pytest.raises(ArtefactError, match="there is no file"):
            host.load(tmp_path / "nothing")

    def test_a_state_of_other_bytes(self, host: Host, folder: Path) -> None:
        (folder / "state.safetensors").write_bytes(b"\0" * 64)
        with pytest.raises(ArtefactError, match="changed, truncated or copied alone"):
            host.load(folder)

    def test_a_pickle_is_never_read(self, host: Host, folder: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (folder / "trapped",))

        (folder / "state.safetensors").write_bytes(pickle.dumps(Trap()))
        with pytest.raises(ArtefactError):
            host.load(folder)
        assert not (folder / "trapped").exists()

    def test_tensors_that_do_not_fit_the_manifest(self, host: Host, folder: Path) -> None:
        self.rewrite(folder, lambda facts: facts["ports"]["data"]["spec"].update(event_shape=[4]))
        with pytest.raises(ArtefactError, match="does not fit what its manifest describes"):
            host.load(folder)

    def test_a_spec_that_is_none(self, host: Host, folder: Path) -> None:
        self.rewrite(folder, lambda facts: facts["ports"].update(data={"spec": {"event_shape": "round"}}))
        with pytest.raises(ArtefactError, match="does not describe the data of port 'data'"):
            host.load(folder)

    def test_a_later_format(self, host: Host, folder: Path) -> None:
        self.rewrite(folder, lambda facts: facts.update(format=2))
        with pytest.raises(ArtefactError, match="is of format 2; this release reads 1"):
            host.load(folder)

    def test_a_manifest_that_lacks_something(self, host: Host, folder: Path) -> None:
        self.rewrite(folder, lambda facts: [facts.pop(name) for name in ("config", "seed")])
        with pytest.raises(ArtefactError, match="lacks config, seed"):
            host.load(folder)

    def test_a_plugin_that_is_gone(self, folder: Path) -> None:
        with pytest.raises(ArtefactError, match=r"holds the state of score:learnt@1 of fake-one 1\.0") as caught:
            Host.discover(deny=["fake-one"]).load(folder)
        assert caught.value.hint == "pip install fake-one==1.0"

    @staticmethod
    def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
        tensors, facts = load_state(folder)
        change(facts)
        save_state(folder, tensors, facts)


class TestRevisions:
    """A state of an older revision loads through ``migrate`` or is refused."""

    @pytest.fixture
    def folder(self, host: Host, score: Any, tmp_path: Path) -> Path:
        host.save(score, tmp_path / "score")
        return tmp_path / "score"

    def upgraded(self, fake_one: Path, migrate: str) -> Host:
        """A host in a state where the plugin has moved to revision 2."""
        for module in [name for name in sys.modules if name.startswith("fake_one")]:
            del sys.modules[module]
        plugin, impl = fake_one / "plugin.py", fake_one / "impl.py"
        plugin.write_text(
            plugin.read_text().replace('"Learnt", "LearntConfig",', '"Learnt", "LearntConfig", revision=2,')
        )
        text = impl.read_text().replace("self.network =", "self.net =").replace("self.network(", "self.net(")
        impl.write_text(text.replace("    def loss(", f"{migrate}\n    def loss("))
        return Host.discover()

    MIGRATE = """
    @classmethod
    def migrate(cls, state, from_revision):
        assert from_revision == 1
        tensors = {name.replace("network.", "net."): value for name, value in state["tensors"].items()}
        return {"config": {**state["config"], "training": {"steps": 9}}, "tensors": tensors}
"""

    def test_an_older_one_is_taken_over(self, fake_one: Path, folder: Path, score: Any) -> None:
        loaded = self.upgraded(fake_one, self.MIGRATE).load(folder)
        assert torch.equal(loaded.net.weight, score.network.weight)
        assert loaded.training_config.steps == 9

    def test_an_older_one_is_refused_without_migrate(self, fake_one: Path, folder: Path) -> None:
        with pytest.raises(ArtefactError, match="installed is revision 2, which can't take over an older state"):
            self.upgraded(fake_one, "").load(folder)

    def test_a_migration_that_fails_is_named(self, fake_one: Path, folder: Path) -> None:
        broken = self.MIGRATE.replace("== 1", "== 0")
        with pytest.raises(ArtefactError, match="to revision 2 failed: AssertionError"):
            self.upgraded(fake_one, broken).load(folder)

    def test_a_newer_one_is_refused(self, host: Host, folder: Path) -> None:
        TestDamage.rewrite(folder, lambda facts: facts.update(component="score:learnt@3"))
        with pytest.raises(ArtefactError, match="installed is revision 1, which is older"):
            host.load(folder)
