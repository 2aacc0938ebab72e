"""Run files that someone broke: what is done to right ones, and what a person could not make sense of in a refusal."""

from __future__ import annotations

import json
import re
import time
import types
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field
from ruamel.yaml import YAML

from scorefold.config import Config
from scorefold.errors import ScorefoldError
from scorefold.plugin import hookimpl
from scorefold_registry.host import Host
from scorefold_registry.runfile.plan import Plan, make_plan
from scorefold_registry.runfile.reader import read
from scorefold_registry.runfile.schema import run_schema
from scorefold_registry.runfile.yaml_reader import yaml_text

ROOT = Path(__file__).parent.parent.parent
FILES = [*sorted((ROOT / "examples").glob("*.yaml")), ROOT / "registry/src/scorefold_registry/cli/demo.yaml"]
SLOWEST = 5.0
"""CPU seconds that a file may take: ten times what the largest does on a quiet machine."""


class Settings(Config):
    """Settings of a plugin that only watches."""

    port: int = Field(80, ge=1, description="A port")
    tags: dict[str, list[float]] = Field(default_factory=dict, description="Numbers by name")


@cache
def watched_host() -> Host:
    """A host with a plugin that only watches, and has settings."""
    watcher = types.ModuleType("watcher")
    watcher.__plugin_api__ = "1.0"  # type: ignore[attr-defined]
    watcher.scorefold_settings = hookimpl(  # type: ignore[attr-defined]
        _named(lambda: f"{__name__}:Settings", "scorefold_settings")
    )
    return Host.discover(extra_plugins=[watcher])


@cache
def right_texts(host: Host) -> tuple[str, ...]:
    """Files that are right: the examples, and one with a stage of every component with all of its settings."""
    return (*(file.read_text() for file in FILES), yaml_text(everything(host)))


def _named(function: Callable[[], str], name: str) -> Callable[[], str]:
    function.__name__ = name
    return function


def everything(host: Host) -> dict[str, Any]:
    """A run of all components with their settings written out, from the schema of what is installed."""
    schema = run_schema(host.catalogue).schema
    stages: dict[str, Any] = {"points": {"use": "data:sphere"}}
    for item in host.components():
        if not host.catalogue.kinds[item.component.kind].verbs:
            continue
        definition = schema["$defs"][f"config.{item.distribution}.{item.id.replace(':', '.')}"]
        settings = {name: field["default"] for name, field in definition["properties"].items() if "default" in field}
        example = dict(item.component.examples[0])
        inputs = dict(example.get("inputs", {}))
        if item.component.kind in ("score", "flow", "estimator") and item.id != "score:diffusers":
            inputs.setdefault("data", "points")
        if item.component.kind == "learner":
            inputs.setdefault("data", "linear-tasks")
        stage = {"use": item.id, "config": {**settings, **example.get("config", {})}, "inputs": inputs}
        if item.component.kind == "allocator":
            stage["options"] = {"budget": 100}
        stages[item.component.name] = stage
    stages["iddiff"]["inputs"] = {"data": "points", "score": "analytic"}
    plugins = {"watcher": {"port": 8080, "tags": {"a": [1.0, 2.5]}}}
    return {"version": 1, "name": "everything", "seed": 3, "plugins": plugins, "stages": stages}


def try_broken(host: Host, texts: Sequence[str], random: Random, path: Path, sentinel: Path, *, again: bool) -> bool:
    """Break a file and plan it; whether it is still right, and then, ``again``, whether it is so written out.

    Raises ``AssertionError`` for a refusal that a person can't make sense of, for code that ran, and for a long time.
    """
    # The large file is worth ten small ones in time.
    raw, sets = broken(random, random.choice([*texts[:-1], *texts]), sentinel)
    path.write_bytes(raw)
    began = time.process_time()
    plan = None
    try:
        plan = make_plan(host.catalogue, read(path, sets))
    except ScorefoldError as error:
        spent = time.process_time() - began
        for problem in getattr(error, "problems", (error,)):
            fault = what_is_unclear(problem, path, raw)
            assert fault is None, f"{fault}: {problem.as_json()}"
    else:
        spent = time.process_time() - began
    assert spent < SLOWEST, f"{spent:.1f} s for {len(raw)} bytes"
    assert not sentinel.exists(), "code was run"
    if plan is not None and again:
        assert read_again(host, plan, path.with_name("again.yaml")) == plan.as_json(host.catalogue)
    return plan is not None


def read_again(host: Host, plan: Plan, path: Path) -> dict[str, Any]:
    """A plan written out with every default and read again."""
    path.write_text(yaml_text(plan.as_json(host.catalogue)))
    return make_plan(host.catalogue, read(path)).as_json(host.catalogue)


MACHINE_TALK = re.compile(r"Traceback|\[type=|Input should|<[\w.]+ (object )?at 0x|pydantic|ruamel|File \"")
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def what_is_unclear(problem: ScorefoldError, path: Path, raw: bytes) -> str | None:
    """What a person could not make sense of, or None."""
    said = f"{problem.message}\n{problem.hint or ''}"
    if not problem.message.strip() or len(problem.message) > 1000:
        return f"a message of {len(problem.message)} characters"
    if MACHINE_TALK.search(said):
        return "words of a library"
    for character in str(problem):
        if (unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t") or character in BIDI:
            return f"U+{ord(character):04X} would reach the terminal"
    json.dumps(problem.as_json())
    if "--set" in problem.message:
        return None
    if problem.file != str(path):
        return "no file"
    lines = re.split("\r\n|\r|\n", raw.decode("utf-8-sig", "replace"))
    if problem.line is None or problem.column is None or not 1 <= problem.line <= len(lines):
        return "no place in the file"
    return None if 1 <= problem.column <= len(lines[problem.line - 1]) + 1 else "a column that is not there"


# What is done to a file. Each takes the random choices and the text, and gives the text or the bytes.

SCALARS = [
    "", "~", "null", "true", "yes", "-1", "0", "1", "007", "0o17", "0x1F", "1_000", "9" * 30, "9" * 5000,
    "0x" + "f" * 5000, "-9223372036854775808", "9223372036854775807", "1e400", "-1e400", "1e-400", ".inf", "-.inf",
    ".nan", "1.0", "1e3", "1:30", "2024-01-01", "2024-01-01T00:00:00Z", "'text'", '"\\0"', '"\\e[31mred"',
    '"\\uD800"', '"\\u202Eabc"', '"a\\nb"', "'" + "x" * 300 + "'", "'" + "x" * 20000 + "'", "data:digits", "data",
    "data:digits@9", "data:digits@99999999999999999999", "':'", "'@'", "'/'", "'a/b:c@1'", "'../../etc:passwd'",
    "os:system", "nobody/data:digits", "'data:\u0435xample'", "'d\u0430ta:digits'", "score:denoising", "network:mlp",
    "[]", "{}", "[[]]", "[1, [2, [3]]]", "{a: {b: {c: 1}}}", "[data, data]", "{use: data:digits}", "{use: }",
    "{use: [1]}", "{use: data:sphere, config: {dimension: 2}}", "{use: {use: {use: x}}}", "{'': ''}", "{1: 2}",
    "{null: 1}", "{? [a] : 1}", "{a: 1, a: 2}", "{<<: {a: 1}}", "!!str 5", "!!int x", "!!float [1]", "!!null x",
    "!!binary aGk=", "!!set {a}", "!!omap [a: 1]", "!!python/name:os.system", "!local x", "!<tag:x,2000:y> z",
    "&a x", "*a", "&b [*b]", "*nowhere", "|\n  block", ">-\n  folded", "? a", "- a", "a: b", "'open", '"open', "[open",
    "{open", "%", "@", "`", "#", "\t", "\u00a0", "\ufeff", "\u2028", "\x85", "\x7f", "\x9b31m", "é", "𝒳", "\U0010ffff",
]  # fmt: skip


Change = Callable[[Random, str], str]


def replace_value(random: Random, text: str) -> str:
    places = list(re.finditer(r"(?<=[:\[,] )[^\s\[\]{},][^\n,\[\]{}]*", text))
    if not places:
        return text
    place = random.choice(places)
    return text[: place.start()] + random.choice(SCALARS) + text[place.end() :]


def insert_anywhere(random: Random, text: str) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + random.choice([*SCALARS, "\n", "  ", ": ", "\n- ", "\n---\n", "\n...\n"]) + text[at:]


def delete_span(random: Random, text: str) -> str:
    start = random.randrange(len(text) + 1)
    return text[:start] + text[start + random.choice([1, 2, 5, 20, 200]) :]


def cut_off(random: Random, text: str) -> str:
    return text[: random.randrange(len(text) + 1)]


def move_lines(random: Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    if not lines:
        return text
    line = random.choice(lines)
    if random.random() < 0.5:
        lines.remove(line)
    lines.insert(random.randrange(len(lines) + 1), line)
    return "".join(lines)


def change_indents(random: Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    for number in random.sample(range(len(lines)), min(3, len(lines))):
        lines[number] = random.choice(["\t", " ", "   ", "\u3000"]) + lines[number].lstrip(random.choice([" ", ""]))
    return "".join(lines)


def change_line_ends(random: Random, text: str) -> str:
    return text.replace("\n", random.choice(["\r\n", "\r", "\n\n", "\x85", "\u2028", " # \n"]))


def put_head(random: Random, text: str) -> str:
    heads = [
        "%YAML 1.1\n---\n",
        "%YAML 1.2\n---\n",
        "%YAML 9.9\n---\n",
        "%TAG ! tag:x,2000:\n---\n",
        "%ODD\n---\n",
        "---\n",
    ]
    return random.choice([*heads, "\ufeff", "- a\n", "!!map\n", "&top\n", "#!/bin/sh\n"]) + text


def nest_deeply(random: Random, text: str) -> str:
    depth = random.choice([50, 140, 200, 2000])
    bracket = random.choice(["[", "{a: ", "- ", "[{a: "])
    closing = {"[": "]", "{a: ": "}", "- ": "", "[{a: ": "}]"}[bracket] * depth
    value = bracket * depth + random.choice(["1", ""]) + (closing if random.random() < 0.7 else "")
    return f"{text}\n{random.choice(['deep', 'runtime', 'plugins'])}: {value}\n"


def laugh(random: Random, text: str) -> str:
    """Aliases of aliases, which grow without end when they are written out."""
    width, height = random.choice([(9, 9), (2, 60), (100, 3)])
    lines = ["bomb0: &b0 [ha]"]
    for level in range(1, height):
        lines.append(f"bomb{level}: &b{level} [{', '.join([f'*b{level - 1}'] * width)}]")
    return "\n".join(lines) + "\n" + text


def run_code(random: Random, text: str, sentinel: Path) -> str:
    calls = [
        f"!!python/object/apply:os.system ['touch {sentinel}']",
        f"!!python/object/new:os.system ['touch {sentinel}']",
        f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{sentinel}']]",
        "!!python/module:antigravity",
        "!!python/object:scorefold_registry.host.Host {a: 1}",
        f"${{oc.env:HOME}}{sentinel}",
        f"{{{{ cycler.__init__.__globals__.os.system('touch {sentinel}') }}}}",
    ]
    call = random.choice(calls)
    return f"{text}\n{random.choice(['code', 'name', 'seed', 'runtime', 'plugins'])}: {call}\n"


def many_lines(random: Random, text: str) -> str:
    line = random.choice(
        ["  s{}: {{use: data:sphere}}", "k{}: 1", "  s{}: {{use: s{}, do: load}}", "  s{}: {{use: scor:x}}"]
    )
    more = [line.format(number, number + 1) for number in range(random.choice([50, 499, 2000]))]
    return "version: 1\nstages:\n" + "\n".join(more) + "\n"


TEXT_CHANGES = [
    replace_value, replace_value, replace_value, replace_value, insert_anywhere, insert_anywhere, delete_span,
    delete_span, cut_off, move_lines, change_indents, change_line_ends, put_head, nest_deeply,
]  # fmt: skip


def change_bytes(random: Random, text: str) -> bytes:
    """A file that is not text any more, or another text."""
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    how = random.randrange(5)
    if how == 0:
        for _ in range(random.choice([1, 3, 30])):
            raw[random.randrange(len(raw) or 1) : 0] = bytes([random.randrange(256)])
    elif how == 1:
        raw[random.randrange(len(raw) + 1) : 0] = random.choice(
            [b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5"]
        )
    elif how == 2:
        return text.encode(random.choice(["utf-16", "utf-32", "utf-16-le", "cp1252"]), "replace")
    elif how == 3:
        return random.randbytes(random.choice([1, 10, 3000]))
    else:
        return b"" if random.random() < 0.5 else bytes(raw) + b"\0" * random.choice([1, 5000])
    return bytes(raw)


VALUES: list[Any] = [
    None, True, -1, 0, 1, 2.5, 2**62, float("nan"), float("inf"), "", "x", "data", "data:digits", "../..", "\x1b[2J",
    "\x00", "\u202eabc", "x" * 300, "use", [], {}, [[]], ["data"], {"use": "data:digits"}, {"use": None}, {"": {}},
    [None], {"a": 1}, {"use": "network:mlp", "config": {"width": "wide"}}, {"use": "score:analytic"},
    {"use": "data:paired", "inputs": {"data": 3}}, {"name": "ve", "sigma_min": 9, "sigma_max": 1}, {"name": "odd"},
    "<script>alert(1)</script>", "estimator:mle", "score:analytic",
]  # fmt: skip


def places_in(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield (*path, key)
        yield from places_in(data[key], (*path, key))


def change_data(random: Random, data: dict[str, Any]) -> None:
    """One change of what the file says: a value of another type, a key gone, renamed or new, entries swapped."""
    places = list(places_in(data))
    if not places:
        return
    *above, key = random.choice(places)
    holder: Any = data
    for part in above:
        holder = holder[part]
    how = random.randrange(8)
    if how in (0, 1):
        holder[key] = random.choice(VALUES)
    elif how == 2:
        del holder[key]
    elif how == 3 and isinstance(holder, dict):
        holder[
            random.choice([f"{key}s", str(key).upper(), str(key)[:-1], "use", "\x1b[31m", "<b>", "a.b", "x" * 150])
        ] = holder.pop(key)
    elif how == 4:
        holder[key] = [holder[key]] if random.random() < 0.5 else {"use": holder[key]}
    elif how == 5 and isinstance(holder, dict):
        other = random.choice(list(holder))
        holder[key], holder[other] = holder[other], holder[key]
    elif how == 6:
        nested: Any = random.choice([holder[key], {"use": "data:digits"}, "data:digits", 3])
        for _ in range(random.choice([1, 5, 50])):
            nested = random.choice(
                [
                    {"use": "data:paired", "inputs": {"data": nested}},
                    {"use": "score:denoising", "config": {"network": nested}},
                ]
            )
        holder[key] = nested
    else:
        wire(random, data)


def wire(random: Random, data: dict[str, Any]) -> None:
    """Stages that refer to each other at random: to themselves, to later ones, in circles, to none."""
    stages = data.get("stages")
    if not isinstance(stages, dict):
        return
    names = [*stages, "nowhere"]
    for stage in stages.values():
        if isinstance(stage, dict) and random.random() < 0.7:
            if random.random() < 0.3:
                stage["use"] = random.choice(names)
                stage["do"] = random.choice(["sample", "fit", "load", "evaluate", "", None])
            else:
                stage["inputs"] = {random.choice(["data", "score", "flow", "x"]): random.choice(names)}


@cache
def parsed(text: str) -> Any:
    """What a right file says; there are few of them, and each is broken many times."""
    return YAML(typ="safe", pure=True).load(text)


def broken(random: Random, text: str, sentinel: Path) -> tuple[bytes, list[str]]:
    """A file made of a right one by a few changes, and ``--set`` options for it."""
    sets: list[str] = []
    kind = random.random()
    if kind < 0.45:
        data = deepcopy(parsed(text))
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            change_data(random, data)
        text = yaml_text(data) if random.random() < 0.5 and "\\u0000" not in json.dumps(data) else json.dumps(data)
    elif kind < 0.80:
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            text = random.choice(TEXT_CHANGES)(random, text)
    elif kind < 0.88:
        abuses: list[Change] = [laugh, many_lines, partial(run_code, sentinel=sentinel)]
        text = random.choice(abuses)(random, text)
    elif kind < 0.93:
        return change_bytes(random, text), sets
    else:
        data = deepcopy(parsed(text))
        for _ in range(random.choice([1, 3])):
            path = [str(part) for part in random.choice(list(places_in(data)))]
            if random.random() < 0.4:
                path.insert(
                    random.randrange(len(path) + 1),
                    random.choice(["", "x", "0", "²", "9" * 5000, "\x1b[2J", "stages", "config"]),
                )
            sets.append(f"{'.'.join(path)}{random.choice(['=', '=', '=', '', '=='])}{random.choice(SCALARS)}")
    return text.encode("utf-8", "surrogatepass"), sets
