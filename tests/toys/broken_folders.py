"""What is done to a folder of ours to break it: bytes, JSON, tensors, links, digests made to fit."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from scorefold.artefacts import LARGEST_JSON, digest_file, digest_folder, read_json
from scorefold.errors import ScorefoldError


class Trap:
    """Something that makes a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.sentinel,))


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

    Not files of references and links to what stands outside, which whoever knows the digest may use.
    """
    for path in sorted(folder.rglob("manifest.json"), key=lambda path: -len(path.parts)):
        if path.is_symlink() or path.with_name("state.safetensors").is_symlink():
            continue
        with suppress(ScorefoldError, OSError, ValueError, KeyError, TypeError, AttributeError):
            facts = read_json(path)
            files = {**facts.pop("files"), "state.safetensors": digest_file(path.with_name("state.safetensors"))}
            for entry in facts["ports"].values():
                for part in entry if isinstance(entry, list) else [entry]:
                    place = path.parent / (part.get("state") or part.get("value") or ".")
                    if "value" in part:
                        part["digest"] = digest_folder(place)
                    elif "state" in part and (part.get("copy") or place.name == "score"):
                        part["digest"] = digest_file(place / "manifest.json")
            if "manifest.json" in files:
                files["manifest.json"] = sha256(json.dumps(facts).encode()).hexdigest()
            path.write_text(json.dumps({**facts, "files": files}))


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
