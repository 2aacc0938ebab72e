"""Two thousand folders of states, stages and runs that someone broke: refused in words, or as good as before.

Nothing a folder says is run or imported, and nothing outside it is used, but the states that a reference names together
with their digests, which is what a reference is for.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from scorefold.artefacts import LARGEST_JSON, digest_file, digest_folder, read_json
from scorefold.data import Dataset
from scorefold.errors import ScorefoldError
from scorefold.interfaces import TensorSource
from scorefold_registry.applying import apply_stage
from scorefold_registry.cache import Cache
from scorefold_registry.host import Host
from scorefold_registry.pipeline import run_file
from scorefold_registry.report import write_report
from scorefold_registry.runs import list_runs
from scorefold_registry.stages import load_stage

Cases = Callable[[int], Iterator[Random]]

ALONE = "SCOREFOLD_FUZZ" in os.environ
"""Whether one case is tried again, of which no share can be asked."""

SLOWEST = 2.0
"""CPU seconds that a folder may take."""

SECRET = 777.125
"""The weights of a state that stands outside, which must not turn up inside."""

RUN = """
version: 1
name: small
stages:
  data: {use: data:sphere, config: {points: 200, ambient: 3}}
  score:
    use: score:denoising
    inputs: {data: data}
    config: {network: {use: network:mlp, config: {width: 4, blocks: 1}}, training: {steps: 2, batch_size: 4}}
  dimension: {use: estimator:twonn, inputs: {data: data}, config: {resamples: 2}}
  plan: {use: allocator:uniform, options: {budget: 40}}
"""


@pytest.fixture(scope="module")
def host() -> Host:
    return Host.discover()


@pytest.fixture(scope="module")
def states(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of saved states: alone, with references, with copies inside, and with points inside."""
    folder = tmp_path_factory.mktemp("states")
    sphere = host.create("data:sphere", {"points": 30, "ambient": 3})
    network = {"use": "network:mlp", "config": {"width": 4, "blocks": 1}}
    score = host.create("score:denoising", {"network": network}, data=sphere)
    flow = host.create("flow:affine-coupling", {"layers": 2, "hidden": [4]}, data=sphere)
    points = TensorSource({"train": Dataset(torch.randn(6, 3), label=torch.arange(6), truth={"dimension": 2})})
    host.save(score, folder / "score")
    host.save(flow, folder / "flow")
    host.save(host.create("estimator:iddiff", score=score), folder / "reference")
    host.save(host.create("estimator:iddiff", score=score), folder / "bundle", bundle=True)
    host.save(host.create("score:analytic", data=sphere), folder / "analytic")
    host.save(host.create("score:analytic", data=points), folder / "points")
    host.save(host.create("allocator:uniform"), folder / "allocator")
    secret = host.create("score:denoising", {"network": network}, data=sphere)
    with torch.no_grad():
        for parameter in secret.parameters():
            parameter.fill_(SECRET)
    host.save(secret, folder / "secret")
    far = TensorSource({"train": Dataset(torch.tensor([[0.0, 0.0, 1.0], [SECRET, SECRET, SECRET]]))})
    host.save(host.create("score:analytic", data=far), folder / "secret-points")
    return folder


@pytest.fixture(scope="module")
def finished(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run under ``runs`` and its stages under ``cache``."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "run.yaml").write_text(RUN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scorefold_registry.stages.draw", lambda target, shown, into: [])
        run_file(host, folder / "run.yaml", runs=folder / "runs", cache=folder / "cache")
    return folder


class Trap:
    """Something that makes a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.sentinel,))


class Workplace:
    """Where a copy of a folder is broken, with what must not be touched around it."""

    def __init__(self, root: Path, outside: Path) -> None:
        self.root, self.outside, self.sentinel = root, outside, root / "ran"
        (root / "evil_module.py").write_text(f"open({str(self.sentinel)!r}, 'w').close()\nclass Target: ...\n")
        self.before = digest_folder(outside)
        self.memory = peak_memory()

    def copy(self, folder: Path) -> Path:
        place = self.root / "copy"
        if place.is_symlink() or place.is_file():
            place.unlink()
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        return place

    def check(self) -> None:
        assert not self.sentinel.exists(), "code was run"
        assert "evil_module" not in sys.modules, "code was imported"
        assert peak_memory() - self.memory < 400, "memory was taken"
        left = sorted(item.name for item in self.root.iterdir())
        assert left in (["copy", "evil_module.py"], ["copy", "evil_module.py", "out.json"], ["evil_module.py"]), left

    def check_outside(self) -> None:
        assert digest_folder(self.outside) == self.before, "something outside was written"


def peak_memory() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture
def workplace(tmp_path: Path, states: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.syspath_prepend(tmp_path)
    return Workplace(tmp_path, states)


MACHINE_TALK = re.compile(r"Traceback|\[type=|Input should|<[\w.]+ (object )?at 0x|pydantic|KeyError|AttributeError")


def tried(act: Callable[[], Any]) -> tuple[Any, ScorefoldError | None]:
    """What an act gave, or how it was refused, in words."""
    began = time.process_time()
    given, refused = None, None
    try:
        given = act()
    except ScorefoldError as error:
        refused = error
    if refused is not None:
        said = str(refused)
        assert not MACHINE_TALK.search(said), said
        assert str(SECRET) not in said
        # The fields of a component, with their words, for each that is unknown.
        assert len(refused.message) < 20_000, said
    assert time.process_time() - began < SLOWEST
    return given, refused


@pytest.mark.parametrize(
    ("name", "count"),
    [("score", 250), ("flow", 150), ("reference", 150), ("bundle", 250), ("analytic", 150), ("points", 200)],
)
def test_a_broken_state_is_refused_or_as_good_as_before(
    host: Host, states: Path, workplace: Workplace, cases: Cases, name: str, count: int
) -> None:
    # A manifest may name another component, and where its state fits that one, so be it.
    classes = tuple(type(host.load(states / other)) for other in (name, "score", "flow", "allocator"))
    refusals = 0
    for random in cases(count):
        folder = workplace.copy(states / name)
        if name == "reference":
            # What it refers to stands beside it, as in a run.
            shutil.copytree(states / "score", folder / "score")
            shutil.move(folder, workplace.root / "moved")
            folder.mkdir()
            (workplace.root / "moved" / "score").rename(folder / "score")
            folder = (workplace.root / "moved").rename(folder / "reference")
        break_folder(random, folder, states, workplace.sentinel)
        loaded, refused = tried(partial(host.load, folder))
        refusals += refused is not None
        if refused is None:
            assert isinstance(loaded, classes)
            assert not holds_secret(host, loaded)
        workplace.check()
    workplace.check_outside()
    assert ALONE or 0.5 < refusals / count < 1


def holds_secret(host: Host, loaded: Any) -> bool:
    """Whether the weights or the points of a state outside have turned up in an object or its ports."""
    made = host.builder.memory.of(loaded)
    parts = [loaded, *(made.ports.values() if made is not None else ())]
    for part in parts:
        if isinstance(part, nn.Module) and any(bool((value == SECRET).any()) for value in part.state_dict().values()):
            return True
        if isinstance(part, TensorSource) and any(
            bool((part.load(split).tensor() == SECRET).any()) for split in part._splits
        ):
            return True
    return False


def test_a_broken_stage_is_refused_or_as_good_as_before(
    host: Host, states: Path, finished: Path, workplace: Workplace, cases: Cases
) -> None:
    (run,) = (finished / "runs" / "small").iterdir()
    refusals = 0
    for number, random in enumerate(cases(450), start=1):
        folder = workplace.copy(run)
        stage = folder / random.choice(["data", "score", "score", "dimension", "plan"])
        break_folder(random, stage, states, workplace.sentinel)
        out = workplace.root / "out.json"
        _, refused = tried(partial(load_stage, host, stage))
        if stage.name == "score":
            sample = partial(apply_stage, host, stage, verb="sample", data=None, options=("n=2", "steps=2"))
            _, refused_too = tried(partial(sample, out=out))
            assert (refused is None) or (refused_too is not None)
        if number % 3 == 0:
            tried(partial(write_report, folder, [], []))
        refusals += refused is not None
        workplace.check()
    workplace.check_outside()
    assert ALONE or 0.4 < refusals / number < 1


def test_a_broken_stage_that_is_kept_is_made_again(
    host: Host, states: Path, finished: Path, workplace: Workplace, cases: Cases
) -> None:
    kept = [entry for entry in (finished / "cache").iterdir() if len(entry.name) == 40]
    whole = {entry.name: digest_folder(entry) for entry in kept}
    hits = 0
    for random in cases(250):
        entry = random.choice(kept)
        folder = workplace.copy(finished / "cache") / entry.name
        break_folder(random, folder, states, workplace.sentinel)
        cache, target = Cache(folder.parent), folder.parent / "target"
        digest = folder.parent / "digests" / entry.name
        agreed = random.random() < 0.3 and not any(item.is_symlink() for item in folder.rglob("*"))
        if agreed:
            digest.write_text(digest_folder(folder))
        elif random.random() < 0.2:
            digest.write_bytes(random.choice([b"", b"\xff\xfe", b"x" * 100_000, b"../../secret"]))
        hit, refused = tried(partial(cache.fetch, entry.name, target))
        assert refused is None
        if hit:
            hits += 1
            assert agreed or digest_folder(target) == whole[entry.name]
            tried(partial(load_stage, host, target))
        else:
            assert not target.exists()
            assert not os.path.lexists(folder)
        workplace.check()
    workplace.check_outside()
    assert ALONE or 0 < hits / 250 < 0.5


def test_broken_runs_are_listed(finished: Path, states: Path, workplace: Workplace, cases: Cases) -> None:
    for random in cases(150):
        area = workplace.copy(finished / "runs")
        (run,) = (area / "small").iterdir()
        for name in ("status.json", "environment.json", "data/stage.json"):
            break_file(random, run / name, states, workplace.sentinel)
        entries, refused = tried(partial(list_runs, area))
        assert refused is None
        assert json.dumps([entry.as_json() for entry in entries], allow_nan=False)
        assert all(entry.state in ("running", "complete", "interrupted", "failed") for entry in entries)
        workplace.check()
    workplace.check_outside()


# What is done to a folder.

WORDS = [
    "", "x", "..", "../secret", "../../secret", "/etc", "\x00", "\x1b[2J", "<script>", "NaN", "Infinity", "1",
    "a" * 5000, "evil_module:Target", "os:system", "score:denoising", "score:denoising@1", "score:denoising@9",
    "flow:affine-coupling@1", "scorefold-standard/data:sphere", "evil", "pip; touch ran", "component", "data",
    "estimate", "mapping", "none", "float64", "load", "nn", "float8_e4m3fn", "bfloat16", "file:///etc/passwd",
    "network:mlp@1", "data:array@1", "\ud800", "\u202e",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 7, 2.5, 2**50, 2**63, 10**400, -(2**63), 1e308, [], {}, [[]], [None], [1, 2],
    {"": {}}, {"use": "evil_module:Target"}, {"use": "network:mlp", "config": {"width": 8}},
    {"state": "../secret", "digest": "x"},
]  # fmt: skip


def break_folder(random: Random, folder: Path, outside: Path, sentinel: Path) -> None:
    """One or two changes of a folder, and, in most cases, the digests that make them look right."""
    for _ in range(random.choice([1, 1, 1, 2])):
        files = sorted(item for item in folder.rglob("*") if item.is_file() and not item.is_symlink())
        manifests = [file for file in files if file.name == "manifest.json"]
        if manifests and random.random() < 0.25:
            with suppress(ScorefoldError, TypeError, AttributeError):
                redirect(random, random.choice(manifests), outside)
        elif files:
            break_file(random, random.choice(files), outside, sentinel)
    if random.random() < 0.75:
        sign(folder)


def sign(folder: Path) -> None:
    """Puts right the digests that manifests hold, from the innermost outwards.

    Not those of references and links to what stands outside, which whoever knows the digest may use.
    """
    for path in sorted(folder.rglob("manifest.json"), key=lambda path: -len(path.parts)):
        if path.is_symlink() or path.with_name("state.safetensors").is_symlink():
            continue
        with suppress(ScorefoldError, OSError, ValueError, KeyError, TypeError, AttributeError):
            facts = read_json(path)
            facts["files"]["state.safetensors"] = digest_file(path.with_name("state.safetensors"))
            for entry in facts["ports"].values():
                for part in entry if isinstance(entry, list) else [entry]:
                    place = path.parent / (part.get("state") or part.get("value") or ".")
                    if "value" in part:
                        part["digest"] = digest_folder(place)
                    elif "state" in part and (part.get("copy") or place.name == "score"):
                        part["digest"] = digest_file(place / "manifest.json")
            path.write_text(json.dumps(facts))


def redirect(random: Random, path: Path, outside: Path) -> None:
    """References that lead elsewhere, each to something that is there, with its digest."""
    facts = read_json(path)
    up = os.path.relpath(outside, path.parent)
    link = path.parent / "link"
    if not link.exists():
        link.symlink_to(outside)
    states = ["link/secret", f"{up}/secret", str(outside / "secret"), f"ports/../{up}/secret", f".//{up}//secret"]
    values = [
        f"{up}/secret-points/ports/data",
        "link/secret-points/ports/data",
        str(outside / "secret-points/ports/data"),
    ]
    odd = [".", "..", "ports", "", "\x00", "C:\\x", "\\\\host\\x", "~", "a" * 3000, "ports/data\n", "/dev/zero"]
    entry: dict[str, Any]
    how = random.randrange(3)
    if how == 0:
        entry = {"state": random.choice(states), "copy": True}
    elif how == 1:
        entry = {"value": random.choice(values)}
    else:
        entry = {random.choice(["state", "value"]): random.choice(odd), "copy": random.choice([True, False])}
    ports = facts.get("ports") or {"data": {}}
    name = random.choice([*ports, "data", "score"])
    ports[name] = {**entry, "digest": ""}
    path.write_text(json.dumps({**facts, "ports": ports}))


def break_file(random: Random, path: Path, outside: Path, sentinel: Path) -> None:
    how, raw = random.random(), path.read_bytes() if path.stat().st_size < 10**6 else b""
    if how < 0.55:
        # What an earlier change has broken already is no JSON, or no tensors, to change.
        with suppress(ValueError, RecursionError, struct.error, TypeError, AttributeError):
            path.write_bytes((broken_json if path.suffix == ".json" else broken_tensors)(random, raw))
    elif how < 0.85:
        path.write_bytes(broken_bytes(random, raw, sentinel))
    else:
        replace_file(random, path, outside)


def broken_bytes(random: Random, raw: bytes, sentinel: Path) -> bytes:
    at = random.randrange(len(raw) + 1)
    bomb = Trap(sentinel)
    state = {"weight": bomb}
    return random.choice(
        [
            raw[:at],
            raw[:at] + bytes([random.randrange(256)]) + raw[at + 1 :],
            raw[:at] + bytes([random.randrange(256)]) + raw[at:],
            raw + b"\0",
            raw + raw,
            b"",
            b"\xff\xfe" + raw,
            b"\xef\xbb\xbf" + raw,
            random.randbytes(200),
            pickle.dumps(state),
            pickle.dumps(bomb, protocol=2),
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b"1" * 10_000,
            b"NaN",
            b"null",
        ]
    )


def replace_file(random: Random, path: Path, outside: Path) -> None:
    path.unlink()
    how = random.randrange(6)
    if how == 1:
        path.mkdir()
    elif how == 2:
        os.mkfifo(path)
    elif how == 3:
        path.symlink_to(random.choice([outside / "secret" / path.name, Path("/etc/passwd"), path, Path("/dev/zero")]))
    elif how == 4:
        with path.open("wb") as file:
            file.truncate(LARGEST_JSON + 1)
    elif how == 5:
        (path.parent / "away").mkdir(exist_ok=True)
        path.symlink_to("away")


def broken_json(random: Random, raw: bytes) -> bytes:
    data = json.loads(raw)
    if random.random() < 0.15:
        text = raw.decode()
        keys = re.findall(r'"(\w+)":', text)
        key = random.choice(keys) if keys else "x"
        changes = [
            text.replace("{", f'{{"{key}": 1, "{key}": 2, ', 1),
            re.sub(
                r": \d+",
                random.choice([": NaN", ": Infinity", ": -Infinity", ": 1e999", f": {'9' * 5000}"]),
                text,
                count=1,
            ),
            text + text,
            text.rstrip()[:-1] + ",}",
        ]
        return random.choice(changes).encode()
    for _ in range(random.choice([1, 1, 1, 3])):
        places = list(places_in(data))
        if not places:
            break
        *above, key = random.choice(places)
        holder: Any = data
        for part in above:
            holder = holder[part]
        how = random.random()
        if how < 0.6:
            holder[key] = random.choice([random.choice(WORDS), random.choice(VALUES)])
        elif how < 0.8:
            del holder[key]
        elif isinstance(holder, dict):
            holder[random.choice(["x", "..", "", "path", "use", f"{key}s"])] = random.choice(VALUES)
        else:
            holder.append(random.choice(VALUES))
    return json.dumps(data).encode()


def places_in(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield (*path, key)
        yield from places_in(data[key], (*path, key))


def broken_tensors(random: Random, raw: bytes) -> bytes:
    """A safetensors file whose header says something else, or that holds other tensors."""
    size = struct.unpack("<Q", raw[:8])[0]
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    names = [name for name in header if name != "__metadata__"]
    how = random.randrange(8)
    if how == 0:
        return struct.pack("<Q", random.choice([0, 1, size - 1, size + 1, 2**30, 2**40, 2**64 - 1])) + raw[8:]
    if how == 1 or not names:
        header["__metadata__"] = random.choice([{}, {"a": 1}, [], {"format": "pt" * 1000}, {"format": "../x"}])
    else:
        name = random.choice(names)
        about = header[name]
        if how == 2:
            about["dtype"] = random.choice(["F64", "I64", "F16", "BF16", "BOOL", "F8_E4M3", "C64", "F4", "X", 3, ""])
        elif how == 3:
            about["shape"] = random.choice(
                [[], [0], [2**40], [2**62, 4], [-1], [1, *about["shape"]], [2.5], "x", [2**32, 0]]
            )
        elif how == 4:
            about["data_offsets"] = random.choice(
                [[0, 0], [0, 2**40], [8, 4], [-1, 4], [0], [2**63, 2**64], "x", [0, len(body)]]
            )
        elif how == 5:
            header[random.choice(["x", "../x", "", "weight", name + ".weight", "\x1b[2J"])] = header.pop(name)
        elif how == 6:
            body = random.choice([struct.pack("<f", number) for number in (float("nan"), float("inf"), 1e30)]) * (
                len(body) // 4
            )
        else:
            header["more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(body), len(body) + 4]}
            body += b"\0\0\0\0"
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body
