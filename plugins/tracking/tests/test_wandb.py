"""Weights & Biases: what a stand-in for its client is given, and what the client writes offline where it is there."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from scorefold_tracking import config as tracking_config


class StandIn(ModuleType):
    """The part of wandb's documented API that is called, which notes the calls."""

    def __init__(self, key: str | None = "key", fails: str = "") -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []
        self.api = SimpleNamespace(api_key=key)
        self._fails = fails

    def Settings(self, **settings: Any) -> dict[str, Any]:  # noqa: N802 - as wandb calls it
        return settings

    def Image(self, path: str) -> str:  # noqa: N802
        assert Path(path).read_bytes().startswith(b"\x89PNG")
        return f"image {Path(path).stem}"

    def Artifact(self, name: str, type: str) -> Any:  # noqa: N802
        self.calls.append(("Artifact", (name, type)))
        return SimpleNamespace(add_file=lambda path, name: self.calls.append(("add_file", name)))

    def init(self, **given: Any) -> Any:
        self.calls.append(("init", given))
        if self._fails == "init":
            raise RuntimeError("no such project at https://me:secret@api.wandb.ai")
        run = SimpleNamespace(
            offline=given["mode"] == "offline",
            url="https://wandb.ai/x/y",
            settings=SimpleNamespace(sync_dir="here"),
            summary=SimpleNamespace(update=lambda values: self.calls.append(("summary", values))),
        )
        for name in ("define_metric", "log", "log_artifact", "finish"):
            setattr(run, name, self._noted(name))
        return run

    def _noted(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> None:
            if self._fails == name:
                raise RuntimeError(f"{name} failed")
            self.calls.append((name, given[0] if given else named))

        return call

    def of(self, name: str) -> list[Any]:
        return [given for called, given in self.calls if called == name]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put a stand-in where wandb would be."""

    def make(**options: Any) -> StandIn:
        module = StandIn(**options)
        monkeypatch.setitem(sys.modules, "wandb", module)
        found = tracking_config.find_spec
        monkeypatch.setattr(tracking_config, "find_spec", lambda name: module if name == "wandb" else found(name))
        return module

    monkeypatch.delenv("WANDB_MODE", raising=False)
    sys.modules.pop("scorefold_tracking.wandb_run", None)
    yield make
    sys.modules.pop("scorefold_tracking.wandb_run", None)


def test_a_run_is_sent(stand_in: Any, run: Any, reported: Any) -> None:
    wandb = stand_in()
    result = run({"wandb": {"project": "dimensions of spheres", "tags": ["a"], "group": "g"}})
    assert result.failures == ()
    (opened,) = wandb.of("init")
    assert (opened["project"], opened["name"]) == ("dimensions-of-spheres", result.folder.name)
    assert (opened["mode"], opened["tags"], opened["group"]) == ("online", ["a"], "g")
    assert opened["config"]["stages"]["score"]["config"]["training"]["steps"] == 40
    assert opened["config"]["scorefold.seed"] == "3"
    assert "plugins" not in opened["config"]
    assert opened["settings"]["save_code"] is False
    logged = [row for row in wandb.of("log") if "score/loss" in row]
    assert [(row["score/step"], row["score/loss"]) for row in logged] == reported(result, "score", "loss")
    finals = {name: value for row in wandb.of("summary") for name, value in row.items()}
    assert finals["final/score/steps"] == 40
    assert any(value == "image training" for row in wandb.of("log") for value in row.values())
    assert {"report.html", "score/result.json"} <= set(wandb.of("add_file"))
    assert wandb.calls[-1] == ("finish", {"exit_code": 0})
    assert "https://wandb.ai/x/y" in result.report.read_text()


def test_a_run_that_fails_says_so(stand_in: Any, run: Any, broken: str) -> None:
    from scorefold.errors import ScorefoldError

    wandb = stand_in()
    with pytest.raises(ScorefoldError):
        run({"wandb": {}}, stages=broken)
    assert wandb.calls[-1] == ("finish", {"exit_code": 1})
    assert "error.txt" in wandb.of("add_file")


def test_reused_stages_are_reported_too(stand_in: Any, run: Any) -> None:
    wandb = stand_in()
    run({"wandb": {"artefacts": False, "figures": False}})
    wandb.calls.clear()
    run({"wandb": {"artefacts": False, "figures": False}})
    finals = {name: value for row in wandb.of("summary") for name, value in row.items()}
    assert finals["final/score/steps"] == 40
    assert not wandb.of("add_file")
    assert not wandb.of("log")


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_what_fails_there_does_not_fail_the_run(stand_in: Any, run: Any, fails: str) -> None:
    stand_in(fails=fails)
    result = run({"wandb": {}})
    assert [failure.plugin for failure in result.failures]
    said = " ".join(failure.text() for failure in result.failures)
    assert "no longer tracked in Weights & Biases" in said
    assert "secret" not in said


def test_nobody_is_asked_to_log_in(stand_in: Any, run: Any) -> None:
    wandb = stand_in(key=None)
    result = run({"wandb": {}})
    assert "nobody is logged in" in " ".join(failure.text() for failure in result.failures)
    assert not wandb.of("init")
    assert run({"wandb": {"mode": "offline"}}).failures == ()


@pytest.mark.needs("wandb")
def test_the_client_itself_writes_offline(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = run({"wandb": {"directory": "tracked"}})
    assert result.failures == ()
    (folder,) = (tmp_path / "tracked" / "wandb").glob("offline-run-*")
    assert f"wandb sync {folder}" in result.report.read_text()
    (file,) = folder.glob("run-*.wandb")
    # Its own process writes it, and may be at work for a moment longer.
    end = time.monotonic() + 20
    while b"final/score/steps" not in (written := file.read_bytes()) and time.monotonic() < end:
        time.sleep(0.1)
    for name in (b"score/loss", b"score/step", b"final/score/steps", result.folder.name.encode()):
        assert name in written
    assert list(folder.glob("files/media/images/**/*.png"))
