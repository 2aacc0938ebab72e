"""Run files: what a person writes, read into stages with the place of every field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from scorefold.config import Config
from scorefold.errors import ConfigError, ScorefoldError
from scorefold_registry.components.messages import config_problems, dotted, quoted
from scorefold_registry.components.paths import LONGEST_NAME, file_name, name_fault
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.runfile.extending import KEY as EXTENDS
from scorefold_registry.runfile.extending import extended
from scorefold_registry.runfile.yaml_reader import (
    DataPath,
    Place,
    Positioned,
    parse,
    parse_value,
    read_text,
    without_credentials,
)

VERSION = 1
TOP_KEYS = ("version", "name", "seed", "runtime", "plugins", "environments", "stages")
STAGE_KEYS = ("use", "load", "do", "inputs", "config", "options", "split")
KEY_CODES = ("unknown-field", "missing-field", "unknown-port")
"""Codes of problems that are the fault of a key and not of its value."""
MOST_STAGES = 500
LONGEST_OPTION = 100
SPLITS = ("train", "validation", "test")

ENVIRONMENTS = "environments"
"""Folder of a run with the locks of environments that it used, so that no stage has this name."""
STAGE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")

MOST_THREADS = 1024
"""Threads, or processes, that a run file may ask for: where torch can't start them, it ends the process."""

_LISTED = 30
"""Number of names in an error."""


class Runtime(Config):
    """Device, precision and threads of a run."""

    device: str = Field(
        "auto",
        description="auto, cpu, cuda, cuda:N, mps, or simulated; auto takes a GPU where there is one, and simulated "
        "finds errors of devices without one",
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="Floating-point type of models and data")
    threads: int | None = Field(None, ge=1, le=MOST_THREADS, description="CPU threads, or null for torch's default")
    precision: Literal["no", "bf16", "fp16"] = Field("no", description="Mixed precision of trainings and samples")
    parallel: Literal["ddp", "fsdp2"] = Field(
        "ddp",
        description="How processes that torchrun started train together: ddp, each with a copy of the model, or fsdp2, "
        "which divides weights, averages and the optimiser's state",
    )
    workers: int = Field(
        1,
        ge=1,
        le=MOST_THREADS,
        description="Processes that share the jobs inside a stage; results do not depend on it",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Events in one call of a network by samplers, estimators and evaluation; null measures each "
        "network and takes as many as it is fast with. Results do not depend on it",
    )

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?|simulated(:[01])?", value):
            raise ValueError(f"{value!r} is not a device; expected auto, cpu, cuda, cuda:N, mps or simulated")
        return value


class RunFileError(ConfigError):
    """Everything that is wrong with a run file, in the order of its lines. ``problems`` are the single errors."""

    def __init__(self, problems: Sequence[ScorefoldError]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.message, hint=first.hint, file=first.file, line=first.line, column=first.column)
        self.code = first.code

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    def as_json(self) -> dict[str, object]:
        """The first problem, with all of them under ``problems``."""
        return {**super().as_json(), "problems": [problem.as_json() for problem in self.problems]}


@dataclass(frozen=True)
class StageSpec:
    """A stage as it is written: ``use`` names a component or an earlier stage, or ``load`` the folder of a state.

    One that is not written itself ``repeats`` another, and has its place.
    """

    name: str
    use: str = ""
    load: str | None = None
    do: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    repeats: str | None = None

    @property
    def path(self) -> DataPath:
        return ("stages", self.repeats or self.name)

    @property
    def uses_stage(self) -> bool:
        return self.load is None and ":" not in self.use


@dataclass
class RunFile:
    """A run file: its text as given, its data with places, and its stages in the order they are written.

    ``plugins`` are the settings of plugins by their names, as they are written. Paths start at ``folder``; ``of_base``
    has those that start at a base in another folder, as they are written from ``folder``.
    """

    path: Path
    text: str
    source: Positioned
    name: str
    seed: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    stages: dict[str, StageSpec] = field(default_factory=dict)
    plugins: Mapping[str, Any] = field(default_factory=dict)
    sets: tuple[str, ...] = ()
    problems: list[ScorefoldError] = field(default_factory=list)
    folder: Path = Path()
    of_base: dict[DataPath, str] = field(default_factory=dict)


def read(
    path: str | Path,
    sets: Sequence[str] = (),
    seed: int | None = None,
    *,
    swept: Sequence[str] = (),
    folder: str | Path | None = None,
) -> RunFile:
    """The run file with ``--set`` values put in, then the values of a sweep, and its root seed replaced with ``seed``.

    ``folder`` is where its paths start, if not where it stands (it is a copy).
    Its ``problems`` hold what is wrong with its form; ``make_plan`` adds what is wrong with its meaning, and raises.

    Raises ``ConfigError`` for a file that can't be read as text, and ``RunFileError`` where nothing is left to check
    (an empty file, broken YAML, a list at the top).
    """
    path = Path(path)
    text = read_text(path)
    source = parse(text, str(path))
    if source.data is None:
        if not source.problems:
            hint = "begin with 'version: 1', a name and the stages"
            source.problems.append(ConfigError("the run file is empty", hint=hint, file=path, line=1, column=1))
        raise RunFileError(source.problems)
    if not isinstance(source.data, dict):
        raise RunFileError(
            [*source.problems, source.error(f"a run file is a mapping; this is {yaml_type(source.data)}", ())]
        )
    start = path.parent if folder is None else Path(folder)
    before = len(source.problems)
    if EXTENDS in source.data:
        text = extended(source, start) or text
    if len(source.problems) > before:
        raise RunFileError(source.problems)
    problems = list(source.problems)
    for option, texts in (("--set", sets), ("--grid", swept)):
        for text_of_set in texts:
            _apply_set(source, option, text_of_set, problems)
    # The stem of "...yaml" is ".." only before Python 3.14.
    name = file_name(path.name.rpartition(".")[0] or path.name, default="run")
    run = RunFile(path, text, source, name=name, sets=(*sets, *swept), problems=problems)
    run.folder = start
    _check_head(run)
    if seed is not None:
        if not 0 <= seed < 2**63:
            run.problems.append(ConfigError(f"--seed {seed}: expected a whole number from 0 to 2^63 - 1"))
        run.seed = seed
    _read_stages(run)
    return run


def yaml_type(value: Any) -> str:
    """Type of a YAML value, as text."""
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "a truth value",
        int: "a whole number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def near(name: str, allowed: Sequence[str]) -> str:
    """A hint: the near misses of a name, and what is allowed."""
    few = ", ".join(allowed[:_LISTED])
    more = f" and {len(allowed) - _LISTED} more" if len(allowed) > _LISTED else ""
    listing = f"allowed here: {few}{more}" if allowed else "nothing is allowed here"
    return sentences(did_you_mean(name, allowed), listing)


def _apply_set(source: Positioned, name: str, text: str, problems: list[ScorefoldError]) -> None:
    """Put ``a.b.c=value`` into the data, remembering the option as the place of what it sets."""
    shown = without_credentials(text)
    option = f"{name} {shown if len(shown) <= LONGEST_OPTION else shown[:LONGEST_OPTION] + '...'}"
    dotted, equals, value_text = text.partition("=")
    parts = [part.strip() for part in dotted.split(".")]
    if not equals or not all(parts):
        hint = f"for example {name} stages.score.config.training.steps=100"
        problems.append(ConfigError(f"{option}: expected a path, '=' and a value", hint=hint))
        return
    try:
        _put(source, parts, parse_value(value_text), option)
    except ConfigError as error:
        problems.append(ConfigError(f"in {option}: {without_credentials(error.message)}", hint=error.hint))


def _put(source: Positioned, parts: Sequence[str], value: Any, option: str) -> None:
    """Set one value, making the mappings on the way to it. Raises ``ConfigError`` where the path leads nowhere."""
    data: Any = source.data
    path: DataPath = ()
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if isinstance(data, list):
            if not re.fullmatch("[0-9]{1,9}", part) or int(part) >= len(data):
                raise ConfigError(f"{dotted(path)} is a list of {len(data)}, which has no entry {quoted(part)}")
            key: str | int = int(part)
        elif isinstance(data, dict):
            key = part
        else:
            raise ConfigError(f"{dotted(path)} is {yaml_type(data)}, which has no field {quoted(part)}")
        path = (*path, key)
        if last:
            data[key] = value
            _remember(source, path, option)
        elif isinstance(data, dict) and data.get(key) is None:
            data[key] = {}
            _remember(source, path, option)
        data = data[key]


def _remember(source: Positioned, path: DataPath, option: str) -> None:
    for table in (source.keys, source.values):
        for known in [known for known in table if known[: len(path)] == path]:
            del table[known]
        table[path] = Place(None, None, option)


def _check_head(run: RunFile) -> None:
    source, data = run.source, run.source.data
    for key in data:
        if key not in TOP_KEYS:
            run.problems.append(
                source.error(
                    f"{key!r} is not a field of a run file",
                    (key,),
                    key=True,
                    hint="write it into the file" if key == EXTENDS else near(key, (*TOP_KEYS, EXTENDS)),
                )
            )
    if "version" not in data:
        run.problems.append(
            source.error("the field 'version' is missing", (), hint=f"add 'version: {VERSION}' at the top")
        )
    elif data["version"] != VERSION or isinstance(data["version"], bool):
        run.problems.append(
            source.error(
                f"version {quoted(data['version'])} is not supported",
                ("version",),
                hint=f"this release reads version {VERSION}",
            )
        )
    if "name" in data:
        name = data["name"]
        is_name = isinstance(name, str) and RUN_NAME.match(name)
        fault = name_fault(name) if is_name else "letters, digits, '.', '_' and '-'; it names the folder of the run"
        if fault is None:
            run.name = name
        else:
            run.problems.append(source.error(f"{quoted(name)} can't name a run", ("name",), hint=fault))
    seed = data.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        run.problems.append(
            source.error(f"the seed is {quoted(seed)}; expected a whole number from 0 to 2^63 - 1", ("seed",))
        )
    else:
        run.seed = seed
    _read_runtime(run)
    _read_plugins(run)


def _read_runtime(run: RunFile) -> None:
    raw = run.source.data.get("runtime")
    if raw is None:
        return
    if not isinstance(raw, dict):
        run.problems.append(run.source.error(f"runtime is {yaml_type(raw)}; expected a mapping", ("runtime",)))
        return
    try:
        run.runtime = Runtime.model_validate(raw)
    except ValidationError as error:
        for problem in config_problems(Runtime, error, raw):
            path = ("runtime", *problem.path)
            run.problems.append(
                run.source.error(problem.message, path, key=problem.code in KEY_CODES, hint=problem.hint)
            )


def _read_plugins(run: RunFile) -> None:
    raw = run.source.data.get("plugins")
    if raw is None:
        return
    if isinstance(raw, dict):
        run.plugins = raw
        return
    hint = "settings by the names of plugins, for example 'plugins: {tracking: {tensorboard: {}}}'"
    run.problems.append(run.source.error(f"plugins: {yaml_type(raw)}; expected a mapping", ("plugins",), hint=hint))


def _read_stages(run: RunFile) -> None:
    source = run.source
    stages = source.data.get("stages")
    if not isinstance(stages, dict) or not stages:
        given = "missing" if "stages" not in source.data else "empty" if not stages else yaml_type(stages)
        hint = "for example 'stages: {data: {use: data:digits}}'"
        run.problems.append(
            source.error(f"stages: {given}; expected a mapping of stages by name", ("stages",), hint=hint)
        )
        return
    if len(stages) > MOST_STAGES:
        message = f"{len(stages)} stages; a run file holds at most {MOST_STAGES}"
        run.problems.append(source.error(message, ("stages",), key=True))
        return
    folders: dict[str, str] = {}
    for name, raw in stages.items():
        path = ("stages", name)
        fault = name_fault(name) if STAGE_NAME.match(name) else "a letter, then letters, digits, '_' and '-'"
        if name.lower() == ENVIRONMENTS:
            fault = f"the folder {ENVIRONMENTS} of a run has the locks of environments"
        if fault is None and (other := folders.setdefault(name.lower(), name)) != name:
            fault = f"on some systems it has the same folder as {other!r}"
        if fault is not None:
            run.problems.append(source.error(f"{name!r} can't name a stage", path, key=True, hint=fault))
        if not isinstance(raw, dict):
            use = raw if isinstance(raw, str) and len(raw) <= LONGEST_NAME else "data:digits"
            hint = f"for example '{name}: {{use: {use}}}'"
            run.problems.append(
                source.error(f"stage {name!r} is {yaml_type(raw)}; expected a mapping", path, hint=hint)
            )
            continue
        _read_stage(run, name, raw)


def _read_stage(run: RunFile, name: str, raw: Mapping[str, Any]) -> None:
    source, path = run.source, ("stages", name)
    for key in raw:
        if key not in STAGE_KEYS:
            run.problems.append(
                source.error(f"{key!r} is not a field of a stage", (*path, key), key=True, hint=near(key, STAGE_KEYS))
            )
    if "load" in raw:
        _read_load(run, name, raw)
        return
    fields: dict[str, Any] = {}
    for key in ("inputs", "config", "options"):
        value = raw.get(key)
        if value is not None and not isinstance(value, dict):
            run.problems.append(source.error(f"{key!r} is {yaml_type(value)}; expected a mapping", (*path, key)))
            value = None
        fields[key] = value or {}
    for key in ("use", "do"):
        value = raw.get(key)
        if value is not None and not isinstance(value, str):
            run.problems.append(source.error(f"{key!r} is {yaml_type(value)}; expected a name", (*path, key)))
            return
        fields[key] = value
    split = raw.get("split")
    if split is not None and split not in SPLITS:
        hint = near(quoted(split), SPLITS)
        run.problems.append(source.error(f"{quoted(split)} is not a split", (*path, "split"), hint=hint))
        split = None
    if not fields["use"]:
        others = [other for other in source.data["stages"] if other != name]
        hint = "name a component, such as data:digits, or an earlier stage; or 'load' the folder of a saved one"
        hint = sentences(did_you_mean(name, others), hint)
        run.problems.append(source.error(f"stage {name!r} has no 'use'", path, key=True, hint=hint))
        return
    run.stages[name] = StageSpec(name=name, split=split, **fields)


def _read_load(run: RunFile, name: str, raw: Mapping[str, Any]) -> None:
    """A stage that hands on a saved state as it is, so that nothing else can be said of it."""
    source, path, folder = run.source, ("stages", name), raw["load"]
    for key in raw:
        if key in STAGE_KEYS and key != "load":
            hint = f"leave {key!r} out; a later stage acts on what is loaded: {{use: {name}, do: sample}}"
            message = f"stage {name!r} loads a saved state and takes no {key!r}"
            run.problems.append(source.error(message, (*path, key), key=True, hint=hint))
    if not isinstance(folder, str) or not folder:
        given = "empty" if folder == "" else yaml_type(folder)
        hint = f"for example '{name}: {{load: runs/NAME/TIME-HASH/STAGE}}'"
        run.problems.append(source.error(f"'load' is {given}; expected a folder", (*path, "load"), hint=hint))
        return
    run.stages[name] = StageSpec(name=name, load=folder)
