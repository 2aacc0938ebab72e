"""Tables that others published, beside our components on draws of our own: a file each, of a plugin or of a user."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError, model_validator

from scorefold.artefacts import write_text
from scorefold.config import Config
from scorefold.errors import ConfigError, DataError
from scorefold.seeds import derive_seed
from scorefold_registry.components.messages import config_error, config_problems
from scorefold_registry.components.parts import anchored_use
from scorefold_registry.components.paths import from_here
from scorefold_registry.components.stage_files import read_result
from scorefold_registry.experiments.engine import Experiment, TaskResult
from scorefold_registry.experiments.row_file import run_text
from scorefold_registry.host import Host
from scorefold_registry.plugins.loading import code_digest
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.run.keys import packages_of
from scorefold_registry.run.pipeline import run_plan
from scorefold_registry.run.progress import Silent
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read

FOLDER = "published"
"""Folder of tables in a plugin's package."""


class PublishedMethod(Config):
    """A component that is measured."""

    use: str = Field(description="The component: an estimator, or a model where the file has a metric")
    config: dict[str, Any] = Field(default_factory=dict, description="Its settings")
    by_set: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Further settings of it by set")
    ours: bool = Field(False, description="Whether it is what the table is to be beaten with; others are peers")


class PublishedMetric(Config):
    """The number that is measured of a model: a metric of the verb ``assess`` on the draws of a trained model."""

    use: str = Field(description="The metric")
    config: dict[str, Any] = Field(default_factory=dict, description="Its settings")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the verb assess")
    options_by_set: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Further options by set")
    reads: str = Field(description="The name of the number among the metrics of the stage")


class PublishedTable(Config):
    """One table: how its data are drawn, and the numbers that were published."""

    words: str = Field(description="The table in words")
    config: dict[str, Any] = Field(default_factory=dict, description="Settings of the data of every set")
    draws: int = Field(ge=1, description="The number of draws behind the published numbers")
    published: dict[str, float] = Field(description="The published mean error of each column")
    over: str = Field("", description="What the published means are over, where it is not the sets of this file")
    columns: list[str] = Field(default_factory=list, description="The columns of rows")
    rows: dict[str, list[float]] = Field(default_factory=dict, description="Published values by set; all sets if empty")

    @model_validator(mode="after")
    def _cells(self) -> PublishedTable:
        for name, cells in self.rows.items():
            if len(cells) != len(self.columns):
                raise ValueError(f"the row {name!r} has {len(cells)} values; expected one per column, {self.columns}")
        return self


class PublishedFile(Config):
    """A file of published tables."""

    title: str
    source: str = Field(description="The publication, and the file in it")
    date: datetime.date = Field(description="The day on which the numbers were copied")
    protocol: str = Field(description="How the numbers came about, and in which way ours differ")
    use: str = Field(description="The data component")
    split: str = Field("test", description="The split that is read")
    error: Literal["relative-rounded", "relative", "absolute", "value"] = Field(
        description="The error of an estimate: of the rounded one over the truth, over the truth, the difference, or "
        "the metric's value itself"
    )
    metric: PublishedMetric | None = Field(None, description="The metric of models; null for estimators")
    asks: dict[str, str] = Field(
        default_factory=dict, description="Settings of the data that --data-option gives, and what each is"
    )
    withheld: float = Field(1.0, ge=0, description="The error of an answer that is withheld")
    methods: dict[str, PublishedMethod]
    sets: dict[str, dict[str, Any]] = Field(description="Settings of the data by set")
    tables: dict[str, PublishedTable]

    @model_validator(mode="after")
    def _known(self) -> PublishedFile:
        if (self.error == "value") != (self.metric is not None):
            raise ValueError("the error 'value' needs a metric: set both of error: value and metric, or neither")
        asked = {f"the method {name!r} has settings": method.by_set for name, method in self.methods.items()}
        if self.metric is not None:
            asked["the metric has options"] = self.metric.options_by_set
        for words, by_set in asked.items():
            if unknown := [name for name in by_set if name not in self.sets]:
                hint = did_you_mean(unknown[0], list(self.sets))
                raise ValueError(sentences(f"{words} of {unknown[0]!r}, which is no set", hint))
        for name, table in self.tables.items():
            if unknown := [row for row in table.rows if row not in self.sets]:
                hint = did_you_mean(unknown[0], list(self.sets))
                raise ValueError(sentences(f"the table {name!r} has a row {unknown[0]!r}, which is no set", hint))
        return self


def find_published(records: Sequence[PluginRecord], name: str) -> PublishedFile:
    """The file of tables of that name in the plugins' packages, or at that path where it ends with .toml.

    Raises ``ConfigError`` for a name that no plugin has, and for a file with something wrong, by its field.
    """
    import tomllib

    known: dict[str, Path] = {}
    for record in records:
        spec = find_spec(record.package)
        for folder in (spec and spec.submodule_search_locations) or ():
            known |= {file.stem: file for file in sorted(Path(folder, FOLDER).glob("*.toml"))}
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None:
        there = f"there are {', '.join(known)}" if known else "these plugins have none"
        hint = sentences(did_you_mean(name, list(known)), f"{there}; a file of your own ends with .toml")
        raise ConfigError(f"no published table is called {name!r}", hint=hint)
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    try:
        return PublishedFile.model_validate(raw)
    except ValidationError as error:
        raise config_error(str(path), config_problems(PublishedFile, error, raw)) from None


@dataclass(frozen=True)
class PublishedCell:
    """A method on a draw of a set of a table."""

    table: str
    set: str
    method: str
    draw: int


@dataclass(frozen=True)
class PublishedRow:
    """An estimate beside the truth; ``value`` is None where it is withheld, and ``reason`` says why."""

    table: str
    set: str
    method: str
    draw: int
    truth: float
    value: float | None
    loss: float
    reason: str
    cpu_seconds: float
    error: str | None = None
    """Reason why nothing could be measured."""

    def __str__(self) -> str:
        withheld = f"withheld ({self.reason})" if self.reason else "withheld"
        came = self.error or (withheld if self.value is None else f"{self.value:.4g}")
        truth = "" if math.isnan(self.truth) else f"; truth {self.truth:g}"
        return f"{self.table}, {self.set}, {self.method}, draw {self.draw}: {came}{truth}"


@dataclass
class Publication(Experiment[PublishedCell, float, PublishedRow]):
    """The methods of a file on every set of its tables. With ``keep``, a folder, values are kept there. ``given`` are
    further settings of the data.

    Raises ``ConfigError`` where the file asks for a setting that is not given, and what the data raise for a given one.
    """

    host: Host
    file: PublishedFile
    tasks: Sequence[PublishedCell]
    keep: Path | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        for name, words in self.file.asks.items():
            if self.tasks and name not in self.given:
                raise ConfigError(f"{self.file.title}: {name} is missing, {words}", hint=f"--data-option {name}=...")
        if self.tasks and self.given:  # a wrong setting would be an error of every cell
            self.host.create(self.file.use, self._settings(self.tasks[0]))
        self._drawn: tuple[Any, Any] = (None, None)
        self._withheld: dict[PublishedCell, str] = {}

    def label(self, task: PublishedCell) -> str:
        return f"{task.method} on {task.set}"

    def data(self, task: PublishedCell) -> Any:
        """The points of a draw. The points of the last draw are kept."""
        key = (task.table, task.set, task.draw)
        if self._drawn[0] != key:
            seed = derive_seed(task.draw, task.table, task.set) % 2**31
            config = {**self._settings(task), "seed": seed}
            self._drawn = key, self.host.create(self.file.use, config).load(self.file.split)
        return self._drawn[1]

    def _settings(self, task: PublishedCell) -> dict[str, Any]:
        return {**self.file.tables[task.table].config, **self.file.sets[task.set], **self.given}

    def run(self, task: PublishedCell, seed: int, shown: Silent | None) -> float:
        """The estimate, minus infinity where it is withheld; of a model its metric."""
        if self.file.metric is not None:
            return self._assessed(task, self.file.metric, shown)
        points, method = self.data(task), self.file.methods[task.method]
        estimator = self.host.create(method.use, {**method.config, **method.by_set.get(task.set, {})})
        try:
            return float(estimator.estimate(points, generator=torch.Generator().manual_seed(task.draw)).number())
        except DataError as error:
            self._withheld[task] = error.message
            return -math.inf

    def _assessed(self, task: PublishedCell, metric: PublishedMetric, shown: Silent | None) -> float:
        """The metric of a model that a run trains and assesses, minus infinity if the metric has a warning. Trainings
        stay in the cache of runs."""
        method = self.file.methods[task.method]
        config = {**method.config, **method.by_set.get(task.set, {})}
        stages = {
            "data": {"use": self.file.use, "config": self._settings(task)},
            "model": {"use": method.use, "config": config, "inputs": {"data": "data"}},
            "measured": {
                "use": "model",
                "do": "assess",
                "inputs": {"data": "data", "metrics": [{"use": metric.use, "config": metric.config}]},
                "options": {**metric.options, **metric.options_by_set.get(task.set, {})},
                "split": self.file.split,
            },
        }
        stages = {name: anchored_use(self.host.catalogue, stage, from_here) for name, stage in stages.items()}
        with TemporaryDirectory() as folder:
            path = Path(folder, "published.yaml")
            write_text(path, run_text("published", task.draw, torch.get_num_threads(), stages))
            plan = make_plan(self.host.catalogue, read(path))
            result = run_plan(self.host, plan, runs=Path(folder, "runs"), progress=shown, page=False)
            found = read_result(result.folder / "measured")
        metrics = found["metrics"]
        if warned := [text for text in found.get("warnings", ()) if text.startswith(metric.reads)]:
            self._withheld[task] = warned[0]
            return -math.inf
        if metric.reads not in metrics:
            known = ", ".join(metrics)
            raise ConfigError(f"{metric.use} gives no number {metric.reads!r}; there are {known}")
        return float(metrics[metric.reads])

    def kept_in(self, task: PublishedCell, seed: int) -> Path | None:
        if self.keep is None:
            return None
        method, table = self.file.methods[task.method], self.file.tables[task.table]
        records = [item for item in self.host.plugins if item.components]
        packages = packages_of([f"{item.package}:" for item in records], [item.distribution for item in records])
        code = [torch.__version__, *(code_digest(package) for package in packages)]
        data = [self.file.use, self.file.split, table.config, self.file.sets[task.set]]
        if self.file.metric is not None:
            data += [self.file.metric.model_dump(), dict(self.given)]
        config = {**method.config, **method.by_set.get(task.set, {})}
        facts = [task.table, task.set, task.draw, method.use, config, *data, *code]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.keep / f"published-{digest[:32]}.json"

    def row(self, task: PublishedCell, answers: Sequence[TaskResult[float]]) -> PublishedRow:
        answer = answers[-1]
        value = None if answer.value is None or math.isinf(answer.value) else answer.value
        truth = math.nan if answer.error or self.file.metric else float(self.data(task).truth["dimension"])
        return PublishedRow(
            **asdict(task),
            truth=truth,
            value=value,
            loss=self.file.withheld if value is None else loss(self.file.error, value, truth),
            reason=self._withheld.pop(task, ""),
            cpu_seconds=answer.cpu_seconds,
            error=None if answer.error is None else answer.error.message,
        )


def loss(kind: str, value: float, truth: float) -> float:
    """The error of an estimate.

    >>> loss("relative-rounded", 2.6, 2), loss("absolute", 2.5, 2)
    (0.5, 0.5)
    """
    if kind == "value":
        return value
    if kind == "absolute":
        return abs(value - truth)
    # Python rounds half to even, as numpy does.
    return abs((round(value) if kind == "relative-rounded" else value) - truth) / truth


def published_cells(
    file: PublishedFile, tables: Sequence[str], methods: Sequence[str], draws: int, sets: Sequence[str] = ()
) -> list[PublishedCell]:
    """Measurements: all methods, or those named, on all sets of the named tables, or of all tables, ``draws`` times.

    Raises ``ConfigError`` with near misses for a table, method or set that the file does not have.
    """
    asked_of = (("table", tables, file.tables), ("method", methods, file.methods), ("set", sets, file.sets))
    for what, asked, known in asked_of:
        for name in asked:
            if name not in known:
                hint = sentences(did_you_mean(name, list(known)), f"the {what}s are {', '.join(known)}")
                raise ConfigError(f"no {what} is called {name!r}", hint=hint)
    return [
        PublishedCell(table, each, method, draw)
        for table in tables or file.tables
        for each in file.tables[table].rows or file.sets
        if not sets or each in sets
        for draw in range(draws)
        for method in methods or file.methods
    ]


def as_markdown(file: PublishedFile, rows: Sequence[PublishedRow]) -> str:
    """The tables as a page shows them: the mean errors of methods and published columns, then the sets."""
    parts = [f"# {file.title}", f"Source: {file.source}. Copied on {file.date}.", file.protocol]
    for name in dict.fromkeys(row.table for row in rows):
        table, own = file.tables[name], [row for row in rows if row.table == name]
        sets = list(dict.fromkeys(row.set for row in own))
        draws = len({row.draw for row in own})
        parts += [f"## {name}: {table.words}", f"{len(sets)} sets, {draws} of our draws, {table.draws} published."]
        parts += [_errors(file, table, own), _by_set(table, sets, own)]
    return "\n\n".join(parts)


def _errors(file: PublishedFile, table: PublishedTable, rows: Sequence[PublishedRow]) -> str:
    """A line for each method, then for each published column that no method measures again."""
    over = f"published, over {table.over}" if table.over else "published"
    measured_as = "mean error" if file.metric is None else f"mean {file.metric.reads}"
    lines = [["method", "basis", measured_as, "standard error", "withheld", "CPU s", over]]
    published = dict(table.published)
    if file.metric is not None:  # over the sets that were measured
        found = [table.rows[each] for each in dict.fromkeys(row.set for row in rows) if each in table.rows]
        published |= dict(zip(table.columns, map(statistics.fmean, zip(*found, strict=True)), strict=False))
    measured = list(dict.fromkeys(row.method for row in rows))
    for name in measured:
        own = [row for row in rows if row.method == name]
        losses = [row.loss for row in own]
        spread = f"{statistics.stdev(losses) / len(losses) ** 0.5:.3f}" if len(losses) > 1 else ""
        withheld = f"{sum(row.value is None for row in own)} of {len(own)}"
        theirs = f"{published[name]:.3f}" if name in published else ""
        basis = "ours" if file.methods[name].ours else "peer, on the same draws"
        cpu = f"{sum(row.cpu_seconds for row in own):.1f}"
        lines.append([name, basis, f"{statistics.fmean(losses):.3f}", spread, withheld, cpu, theirs])
    lines += [
        [name, "published", "", "", "", "", f"{value:.3f}"] for name, value in published.items() if name not in measured
    ]
    return _pipes(lines)


def _by_set(table: PublishedTable, sets: Sequence[str], rows: Sequence[PublishedRow]) -> str:
    """A line for each set: the truth where there is one, the mean of each method's values, and the published ones."""
    methods = list(dict.fromkeys(row.method for row in rows))
    truth = any(not math.isnan(row.truth) for row in rows)
    lines = [["set", *["truth"] * truth, *methods, *(f"{column}, published" for column in table.columns)]]
    for name in sets:
        own = [row for row in rows if row.set == name]
        line = [name, *[f"{own[0].truth:g}"] * truth]
        for method in methods:
            values = [row.value for row in own if row.method == method and row.value is not None]
            line.append(f"{statistics.fmean(values):.{2 if truth else 3}f}" if values else "withheld")
        lines.append([*line, *(f"{value:g}" for value in table.rows.get(name, ()))])
    return _pipes(lines)


def _pipes(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (padded[0], rule, *padded[1:]))


def as_json(file: PublishedFile, rows: Sequence[PublishedRow]) -> Mapping[str, Any]:
    """The object of ``reproduce --published NAME --json``: the file's facts, and every row."""
    tables = {row.table: file.tables[row.table].published for row in rows}
    facts = {"title": file.title, "source": file.source, "date": str(file.date), "published": tables}
    return {**facts, "rows": [asdict(row) for row in rows]}
