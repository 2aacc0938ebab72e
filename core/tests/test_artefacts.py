"""Artefacts: complete or not there, the same when read back, refused when damaged."""

from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from scorefold import artefacts
from scorefold.artefacts import (
    digest_file,
    digest_folder,
    json_text,
    load_arrays,
    load_facts,
    load_state,
    new_folder,
    read_json,
    save_arrays,
    save_state,
    write_json,
    write_text,
)
from scorefold.config import Use
from scorefold.errors import ArtefactError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tied = torch.randn(3, 4)
    tensors = {
        "weight": tied,
        "tied": tied,
        "transposed": tied.t(),
        "slice": tied[1],
        "scalar": torch.tensor(math.pi, dtype=torch.float64),
        "empty": torch.empty(0, 5),
        "odd": torch.tensor([float("nan"), -0.0, float("inf")]),
        "half": torch.randn(2).bfloat16(),
        "long": torch.tensor([2**62]),
        "flag": torch.tensor([True, False]),
    }
    manifest = {"component": "score:denoising@1", "shape": [3, 4], "config": {"steps": 3, "lr": 1e-3}}
    save_state(tmp_path / "a" / "state", tensors, manifest)
    loaded, read = load_state(tmp_path / "a" / "state")
    assert read == manifest
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(
            loaded[name].contiguous().reshape(-1).view(torch.uint8),
            tensor.contiguous().reshape(-1).view(torch.uint8),
        )
    assert names(tmp_path / "a" / "state") == ["manifest.json", "state.safetensors"]


def test_a_state_without_tensors(tmp_path: Path) -> None:
    save_state(tmp_path / "s", {}, {"component": "geometry:euclidean@1"})
    assert load_state(tmp_path / "s") == ({}, {"component": "geometry:euclidean@1"})


def test_a_state_written_again_replaces_the_pair_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    save_state(folder, {"a": torch.zeros(2)}, {"n": 1})
    (folder / "figure.png").write_bytes(b"x")
    save_state(folder, {"a": torch.ones(2)}, {"n": 2})
    tensors, manifest = load_state(folder)
    assert manifest == {"n": 2}
    assert torch.equal(tensors["a"], torch.ones(2))
    assert names(folder) == ["figure.png", "manifest.json", "state.safetensors"]


def test_a_manifest_that_was_changed_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "s", {"a": torch.zeros(2)}, {"name": "training", "rate": 1e-3, "odd": [math.nan, {"b": "é"}]})
    file = tmp_path / "s" / "manifest.json"
    right = file.read_text()
    for old, new in (("training", "trailing"), ("0.001", "0.003"), ('"rate"', '"race"'), ("NaN", "Nan")):
        assert right.count(old) == 1
        file.write_text(right.replace(old, new))
        for load in (load_state, load_facts):
            with pytest.raises(ArtefactError, match=r"manifest\.json was changed, truncated or copied alone"):
                load(tmp_path / "s")
    file.write_text(right.replace('"manifest.json"', '"manifest.jso"'))
    with pytest.raises(ArtefactError, match="is not the manifest of a saved state"):
        load_facts(tmp_path / "s")


def test_a_manifest_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "s", {"a": torch.zeros(2)}, {"n": 1})
    file = tmp_path / "s" / "manifest.json"
    file.write_text(file.read_text().replace('"n": 1', f'"n": {"[" * 700 + "]" * 700}'))
    with pytest.raises(ArtefactError):
        load_facts(tmp_path / "s")


def test_a_manifest_without_a_digest_of_its_own_is_read(tmp_path: Path) -> None:
    save_state(tmp_path / "s", {"a": torch.zeros(2)}, {"n": 1})
    file = tmp_path / "s" / "manifest.json"
    written = json.loads(file.read_text())
    del written["files"]["manifest.json"]
    file.write_text(json.dumps(written))
    assert load_state(tmp_path / "s")[1] == load_facts(tmp_path / "s") == {"n": 1}


def test_a_failed_write_leaves_the_old_state(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    save_state(folder, {"a": torch.zeros(2)}, {"n": 1})
    before = digest_folder(folder)
    with pytest.raises(ArtefactError, match="JSON can't hold the object"):
        save_state(folder, {"a": torch.ones(2)}, {"n": object()})
    with pytest.raises(ArtefactError, match="expected a dense tensor"):
        save_state(folder, {"a": torch.eye(2).to_sparse()}, {"n": 2})
    with pytest.raises(ArtefactError, match="'a' is of type list"):
        save_state(folder, {"a": [1]}, {"n": 2})  # type: ignore[dict-item]
    assert digest_folder(folder) == before
    with pytest.raises(ArtefactError):
        save_state(tmp_path / "new", {"a": torch.ones(2)}, {"n": object()})
    assert names(tmp_path) == ["s"]


def test_damage_is_refused(tmp_path: Path) -> None:
    def fresh(name: str) -> Path:
        save_state(tmp_path / name, {"a": torch.arange(100.0)}, {"n": 1})
        return tmp_path / name

    with pytest.raises(ArtefactError, match=r"there is no file .*manifest\.json"):
        load_state(tmp_path / "nothing")

    no_state = fresh("no-state")
    (no_state / "state.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"there is no file .*state\.safetensors"):
        load_state(no_state)

    truncated = fresh("truncated")
    state = truncated / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-20])
    with pytest.raises(ArtefactError, match="changed, truncated"):
        load_state(truncated)
    with pytest.raises(ArtefactError, match="not a complete safetensors file"):
        load_arrays(state)

    changed = fresh("changed")
    state = changed / "state.safetensors"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match="changed, truncated"):
        load_state(changed)

    mixed = fresh("mixed")
    save_arrays(mixed / "state.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(ArtefactError, match="changed, truncated"):
        load_state(mixed)

    foreign = fresh("foreign")
    write_json(foreign / "manifest.json", {"n": 1})
    with pytest.raises(ArtefactError, match="not the manifest of a saved state"):
        load_state(foreign)

    broken = fresh("broken")
    (broken / "manifest.json").write_text('{\n  "n": ,\n}')
    with pytest.raises(ArtefactError) as caught:
        load_state(broken)
    assert (caught.value.line, caught.value.column) == (2, 8)

    (tmp_path / "latin.json").write_bytes('{"a": "\xe9"}'.encode("latin-1"))
    with pytest.raises(ArtefactError, match="not UTF-8"):
        read_json(tmp_path / "latin.json")
    with pytest.raises(ArtefactError, match="reserved for digests"):
        save_state(tmp_path / "reserved", {}, {"files": {}})


@dataclass
class Point:
    x: float
    path: Path


def test_json_holds_what_we_measure_and_stays_standard(tmp_path: Path) -> None:
    given = {
        "none": None,
        "flag": True,
        "tuple": (1, 2.5),
        "nan": float("nan"),
        "inf": [float("inf"), -float("inf")],
        "numpy": np.float32(0.5),
        "numpy int": np.int64(3),
        "numpy nan": np.float64("nan"),
        "tensor": torch.tensor(2.0),
        "bool tensor": torch.tensor(True),
        "point": Point(1.0, Path("a/b")),
        "config": Use(use="network:mlp"),
        "text": "Fréchet",
        5: "five",
    }
    write_json(tmp_path / "x.json", given)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not standard JSON")

    assert json.loads(text, parse_constant=refuse) == read_json(tmp_path / "x.json")
    read = read_json(tmp_path / "x.json")
    assert read == {
        "none": None,
        "flag": True,
        "tuple": [1, 2.5],
        "nan": "NaN",
        "inf": ["Infinity", "-Infinity"],
        "numpy": 0.5,
        "numpy int": 3,
        "numpy nan": "NaN",
        "tensor": 2.0,
        "bool tensor": True,
        "point": {"x": 1.0, "path": "a/b"},
        "config": Use(use="network:mlp").model_dump(),
        "text": "Fréchet",
        "5": "five",
    }
    assert math.isnan(float(read["nan"]))
    assert float(read["inf"][1]) == -math.inf
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [0, {1}]}, r"set at \$\.a\[1\]"),
        ({(1, 2): 0}, r"key \(1, 2\) at \$"),
        (torch.zeros(2), "Tensor at"),
    ],
)
def test_json_names_what_it_cannot_hold(value: object, place: str) -> None:
    with pytest.raises(ArtefactError, match=place):
        json_text(value)


def test_a_new_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "one"
    with new_folder(target) as partial:
        (partial / "sub").mkdir()
        write_text(partial / "sub" / "a.txt", "a")
        assert partial.parent == target.parent
        assert not target.exists()
    assert (target / "sub" / "a.txt").read_text() == "a"

    with pytest.raises(ArtefactError, match="exists already"), new_folder(target):
        pass

    def interrupted() -> None:
        with new_folder(tmp_path / "runs" / "two") as partial:
            (partial / "a").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(ValueError, match="mine"), new_folder(target, replace=True):
        raise ValueError("mine")
    assert (target / "sub" / "a.txt").exists()
    with new_folder(target, replace=True) as partial:
        (partial / "b").write_text("b")
    assert names(target) == ["b"]
    assert names(target.parent) == ["one"]


def test_an_error_is_the_first_one_where_the_folder_is_gone_too(tmp_path: Path) -> None:
    def gone() -> None:
        with new_folder(tmp_path / "a") as partial:
            partial.rmdir()
            raise KeyError

    with pytest.raises(KeyError):
        gone()


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    def race() -> None:
        with new_folder(tmp_path / "x") as mine:
            (mine / "a").write_text("mine")
            with new_folder(tmp_path / "x") as other:
                (other / "a").write_text("other")

    with pytest.raises(ArtefactError, match="can't be written"):
        race()
    assert (tmp_path / "x" / "a").read_text() == "other"
    assert names(tmp_path) == ["x"]


def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"n": 1})
    script = (
        "import os, signal, sys; from pathlib import Path; from scorefold import artefacts\n"
        "artefacts._flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "artefacts.write_json(Path(sys.argv[1]), {'n': 2})\n"
    )
    code = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.json")], check=False).returncode
    assert code == -9
    assert read_json(tmp_path / "a.json") == {"n": 1}
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".partial"]


def test_what_is_written_is_flushed_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves a whole file or none: contents first, then the name, then the folder that holds the name."""
    file, folder = tmp_path / "a.json", tmp_path / "folder"
    flushed: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append((os.fstat(handle).st_ino, named.exists())))
    named = file
    write_json(file, {"n": 1})
    assert flushed == [(file.stat().st_ino, False), (tmp_path.stat().st_ino, True)]
    flushed.clear()
    named = folder
    with new_folder(folder) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "b").write_text("b")
    inside = {path.stat().st_ino for path in (folder / "inner" / "b", folder / "inner", folder)}
    assert {number for number, there in flushed if not there} == inside
    assert flushed[-1] == (tmp_path.stat().st_ino, True)


def test_a_file_is_replaced_and_never_written_into(tmp_path: Path) -> None:
    """Whoever reads the old file goes on reading it: a second name of it keeps what it held."""
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    write_text(path, "old")
    os.link(path, other)
    write_text(path, "new")
    assert (path.read_text(), other.read_text()) == ("new", "old")


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_bytes(b"abc")
    published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_file(tmp_path / "f" / "a") == published
    first = digest_folder(tmp_path / "f")
    assert digest_folder(tmp_path / "f") == first
    (tmp_path / "f" / "a").rename(tmp_path / "f" / "b")
    renamed = digest_folder(tmp_path / "f")
    (tmp_path / "f" / "b").write_bytes(b"abd")
    assert len({first, renamed, digest_folder(tmp_path / "f")}) == 3
    with pytest.raises(ArtefactError, match="no folder"):
        digest_folder(tmp_path / "none")
    with pytest.raises(ArtefactError, match="can't be read"):
        digest_file(tmp_path / "f")


def test_files_get_the_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "a.json", {})
    save_arrays(tmp_path / "a.safetensors", {"a": torch.zeros(1)})
    modes = {stat.S_IMODE(os.stat(path).st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="can't be written"):
        write_json(tmp_path / "file" / "a.json", {})
    with pytest.raises(ArtefactError, match="can't be written"), new_folder(tmp_path / "file" / "folder"):
        pass


def test_json_needs_no_torch() -> None:
    script = "import sys, scorefold.artefacts as a; a.json_text({'a': 1}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert artefacts.STATE_FILE == "state.safetensors"


def test_a_link_to_itself_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    before = digest_folder(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert digest_folder(tmp_path) == before


def test_half_a_character_is_written_as_its_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "caf\udce9 \ud800 caf\u00e9")
    assert (tmp_path / "a.txt").read_bytes() == b"caf\\udce9 \\ud800 caf\xc3\xa9"


def test_a_folder_with_names_of_other_bytes_has_a_digest(tmp_path: Path) -> None:
    found = set()
    for name in (b"caf\xe9", b"caf\xc3\xa9", b"caf\xe8"):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        (folder / os.fsdecode(name)).write_text("a")
        found.add(digest_folder(folder))
    assert len(found) == 3
