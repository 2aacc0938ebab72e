"""A finished stage used on new data, in the units the data were read in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from scorefold.config import Config
from scorefold.data import Dataset, DataSpec
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import DataSource, TensorSource
from scorefold.interfaces.data import SPLITS
from scorefold.plugin import Verb
from scorefold.stage import Outcome, StageContext
from scorefold_registry.components.messages import config_error, config_problems
from scorefold_registry.components.parts import config_model
from scorefold_registry.components.ports import PortOffer, check_inputs
from scorefold_registry.components.stage_files import STAGE_FILE, read_result, read_stage
from scorefold_registry.plugins.names import with_article
from scorefold_registry.plugins.records import Registered
from scorefold_registry.run.data_summary import inspect_data, loader_of, read_fields, with_option
from scorefold_registry.run.environment import set_up_device
from scorefold_registry.run.output import write_output, writer_for
from scorefold_registry.run.stage_folder import LoadedStage, load_stage
from scorefold_registry.run.units import observed, spec_of, unit_warnings
from scorefold_registry.runfile.plan import condition_columns, other_conditions
from scorefold_registry.runfile.reader import near

if TYPE_CHECKING:
    from scorefold_registry.host import Host


def apply_stage(
    host: Host,
    folder: Path,
    *,
    verb: str | None,
    data: Path | None,
    out: Path,
    options: Sequence[str] = (),
    read: Sequence[str] = (),
    device: str = "auto",
    seed: int = 0,
) -> Outcome:
    """Do a verb with a stage's component on the data of a file, and write what comes out to ``out``.

    Data are read as the stage's own data were (``read`` sets fields of their loader) and brought to the model's units;
    events that come out are written in the units of the file. Raises ``ArtefactError`` for a folder that isn't a stage,
    ``ConfigError`` for a verb or option that does not fit, and ``DataError`` for data that do not.
    """
    writer_for(out)
    place = set_up_device(device)
    stage = load_stage(host, folder, place)
    component, registered = _acting(host, stage)
    chosen = _verb(host, registered, verb)
    given = {} if data is None else {"data": PortOffer("data", (), str(data))}
    bare = Registered(replace(registered.component, requires=()), registered.record)
    problems = check_inputs(host.catalogue, bare, chosen, given)
    if problems:
        raise config_error(f"{chosen.name} with {registered.id}", problems)
    spec = spec_of(host.builder.memory, component)
    dtype = _dtype_of(component)
    warnings: list[str] = []
    inputs: dict[str, Any] = {}
    columns = _trained_coordinates(folder) if chosen.name == "sample" else []
    if data is not None:
        reading = _Reading(host, folder, data, read)
        if chosen.name == "sample" and observed(component) is not None and reading.numbers:
            inputs["data"] = reading.observations(component, dtype, columns)
        else:
            source = inputs["data"] = reading.points(spec, dtype)
            if spec is not None:
                warnings = unit_warnings(spec.event_scale, source.load("test").x)
    context = StageContext(stage="apply", seed_root=seed, split="test", device=place, dtype=dtype, executor=None)
    module, _, function = chosen.target.partition(":")
    asked, absent = _recalled(_options(chosen, options), folder, stage.name, chosen.name)
    warnings += [f"{name} comes from the given data: the run has no stage that gives it" for name in absent]
    outcome: Outcome = getattr(import_module(module), function)(component, inputs, asked, context)
    if data is not None and asked is not None and hasattr(asked, "limit"):
        count = len(inputs["data"].load("test"))
        # A verb whose limit depends on the component says how many points it read.
        limit = asked.limit or outcome.result.get("points", count)
        if limit < count:
            warnings.append(f"{limit:,} of {count:,} points are read: --option limit={count} reads all")
    if warnings:
        outcome.result["warnings"] = [*warnings, *outcome.result.get("warnings", [])]
    if data is None and spec is not None and isinstance(outcome.value, DataSource):
        # Drawn from the model alone, so in the units of the data it was trained on.
        drawn = outcome.value
        outcome.value = TensorSource({"test": drawn.load("test")}, spec.event_scale, drawn.condition_spec)
    if columns:
        outcome.result["columns"] = columns
    write_output(outcome, out)
    return outcome


def _acting(host: Host, stage: LoadedStage) -> tuple[Any, Registered]:
    """Component for a verb, with its declaration."""
    if stage.component is None:
        source = stage.facts["source"]
        hint = f"apply stage {source!r} of the same run" if source else None
        raise ConfigError(f"stage {stage.name!r} holds {stage.facts['gives']}, which no verb uses", hint=hint)
    name = f"{stage.facts['distribution']}/{stage.facts['component']}"
    return stage.component, host.catalogue.resolve(name, any_revision=True)


def _verb(host: Host, registered: Registered, name: str | None) -> Verb:
    kind = host.catalogue.kind(registered.component.kind)
    able = [verb.name for verb in host.catalogue.able(registered.component)]
    useful = [name for name in able if name not in ("fit", "load")]
    verb = kind.verb(name)
    if not useful:
        raise ConfigError(f"{registered.id} has no verb for new data; {with_article(kind.name)} can't be applied")
    if verb is None or verb.name not in useful:
        asked = f"{registered.id} can't {name!r} new data" if name else "say what to do: --do VERB"
        raise ConfigError(asked, hint=near(name or "", useful))
    return verb


def _options(verb: Verb, given: Sequence[str]) -> Config | None:
    raw = read_fields(given, "--option")
    if verb.options is None:
        if raw:
            raise ConfigError(f"the verb {verb.name!r} takes no options; --option {given[0]} was given")
        return None
    module, _, name = verb.options.partition(":")
    model: type[Config] = getattr(import_module(module), name)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise config_error(f"the options of {verb.name}", config_problems(model, error, raw)) from None


def _recalled(options: Config | None, folder: Path, name: str, verb: str) -> tuple[Config | None, list[str]]:
    """Options whose fields marked ``metric_of_run`` are filled from a stage of the run that did the verb with the stage
    called ``name`` and held-out points; and the metrics that no such stage has."""
    if options is None:
        return None, []
    marks = {field: info.json_schema_extra for field, info in type(options).model_fields.items()}
    wanted = {
        field: str(mark["metric_of_run"])
        for field, mark in marks.items()
        if isinstance(mark, dict) and mark.get("metric_of_run")
    }
    wanted = {field: metric for field, metric in wanted.items() if getattr(options, field) is None}
    known: dict[str, Any] = {}
    for file in sorted(folder.absolute().parent.glob(f"*/{STAGE_FILE}")):
        facts = read_stage(file.parent)
        if (facts["verb"], facts["source"]) == (verb, name) and facts["resolved"].get("split") != "train":
            known |= read_result(file.parent)["metrics"]
    found = {field: known[metric] for field, metric in wanted.items() if metric in known}
    return options.model_copy(update=found), sorted({wanted[field] for field in wanted.keys() - found.keys()})


_WHOLE: Mapping[str, Any] = {"fractions": [0.0, 0.0, 1.0], "limit": None}
"""All points, whose scale is then measured on all: the model's own units come later, from its saved scale."""

_PLAIN = ("missing", "names", "header", "delimiter", "decimal", "thousands", "gaps")
"""The settings of training with which observations are read; the others are about points."""


class _Reading:
    """A file or folder of new data, with the settings that the model's own data had where they mean something for it,
    and with those that are given."""

    def __init__(self, host: Host, folder: Path, data: Path, given: Sequence[str]) -> None:
        self._host, self._folder, self._data = host, folder, data
        self._name, self._field = loader_of(data)
        self._fields = config_model(host.catalogue.resolve(self._name)).model_fields
        self.numbers = "columns" in self._fields
        own = _trained(folder, self._name)
        self._given = read_fields(given, "--data-option")
        trained = condition_columns(own.get("path"), own.get("condition"))
        now = condition_columns(data, self._given.get("condition"))
        if trained and now and trained != now:
            raise with_option(other_conditions(trained, now))
        alike = self._is_table(Path(str(own.get("path")))) == self._is_table(data)
        kept = {
            key: value for key, value in own.items() if self._means(key, data) and (alike or not self._formats(key))
        }
        self._config = {**kept, **self._given}

    def points(self, spec: DataSpec | None, dtype: torch.dtype) -> TensorSource:
        """All points, in their order and in the model's units.

        What was made without data takes them as they were read: columns far from 0 centred, scaled as at training.
        """
        config = self._fitting(_coordinates(self._folder, self._name)) if self.numbers else self._config
        source, dataset = self._read(config)
        x, scale, conditions = dataset.tensor(), source.event_scale, None
        if spec is not None:
            raw, scale = source.event_scale.to_raw(x.double()), spec.event_scale
            x = scale.from_raw(_shaped(raw, spec.event_shape, f"{self._data} holds points")).to(dtype)
            conditions = spec.condition_spec if dataset.condition is not None else None
        test = Dataset(x, dataset.condition, dataset.label, dataset.index)
        return TensorSource({"test": test}, scale, conditions, warnings=source.data_warnings(), rows=source.rows)

    def observations(self, component: Any, dtype: torch.dtype, names: Sequence[str]) -> TensorSource:
        """All rows as conditions, in their order and in the units of the file, with zeros in place of points, whose
        columns have ``names``.

        They are the columns or the array that given ``columns``, ``key`` or ``condition`` name, else the ``condition``
        of training, else all that the file has. Given ``fractions`` leave the largest part.
        """
        chosen = self._given if self._given.keys() & {"columns", "key"} else self._config
        named = list(chosen.get("condition") or ())
        kept = (*_PLAIN, *self._given)
        config = {key: value for key, value in self._config.items() if key in kept and key != "condition"}
        if named and self._is_table(self._data):
            config["columns"] = named
        elif named:
            config["key"] = named[0]
        try:
            source, dataset = self._read(self._without_absent(config))
        except DataError as error:
            if (error.hint or "").startswith("key: "):  # several arrays, of which points need no name here
                error.hint = _NAME_THEM
            raise
        raw = source.event_scale.to_raw(dataset.tensor().double())
        spec = observed(component)
        assert spec is not None
        hint = _NAME_THEM if self._means("condition", self._data) else "give observations of this shape alone"
        condition = _shaped(raw, spec.shape, f"{self._data} holds observations", hint).to(dtype)
        zeros = torch.zeros(len(raw), *component.event_shape, dtype=dtype)
        test = Dataset(zeros, condition, index=dataset.index)
        return _Observations(names, {"test": test}, component.event_scale, spec, rows=source.rows)

    def _read(self, config: Mapping[str, Any]) -> tuple[DataSource, Dataset]:
        whole = {key: value for key, value in _WHOLE.items() if key in self._fields and key not in self._given}
        try:
            source = self._host.create(self._name, {**config, **whole, self._field: str(self._data)})
        except DataError as error:
            raise with_option(error) from None
        return source, _everything(source)

    def _formats(self, field: str) -> Sequence[Any] | None:
        """The formats of files in which a setting means something; None for any."""
        info = self._fields.get(field)
        mark = {} if info is None else info.json_schema_extra
        formats = mark.get("formats") if isinstance(mark, Mapping) else None
        return formats if isinstance(formats, list) else None

    def _means(self, field: str, data: Path) -> bool:
        folder = "datasets" if (data / "dataset_info.json").is_file() else "zarr"
        formats = self._formats(field)
        return formats is None or (folder if data.is_dir() else data.suffix.lower()) in formats

    def _is_table(self, data: Path) -> bool:
        return self._means("columns", data)

    def _without_absent(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings without a label and names of rows that the file lacks, since new points have none."""
        absent = [key for key in ("label", "names") if config.get(key) is not None and key not in self._given]
        there = self._columns() if absent and self._is_table(self._data) else set()
        return {key: value for key, value in config.items() if key not in absent or value in there}

    def _columns(self) -> set[str]:
        whole = {key: value for key, value in self._config.items() if key not in (*_OF_COLUMNS, self._field)}
        return {column.name for column in inspect_data(self._host, self._data, whole).columns}

    def _fitting(self, coordinates: Sequence[str]) -> dict[str, Any]:
        """The config for a new table: with the columns by the names that the ``coordinates`` had in training, in
        whatever order they stand."""
        kept = self._without_absent(self._config)
        named = [name for name in coordinates if name != f"x{coordinates.index(name)}"]
        if not named or "columns" in self._given or not self._is_table(self._data):
            return kept
        there = self._columns()
        if there <= {f"x{place}" for place in range(len(there))}:  # a file without names: its columns are in this order
            return {key: value for key, value in kept.items() if key != "columns"}
        return {**kept, "columns": list(coordinates)}


class _Observations(TensorSource):
    """Points with the names of their columns, for ``scorefold_toolkit.data.splits.HasColumns``."""

    def __init__(self, names: Sequence[str], *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.column_names = tuple(names)


_OF_COLUMNS = ("label", "names", "columns", "condition")

_NAME_THEM = "--data-option 'condition=[NAME]' names the array with the observations, or their columns in order"


def _trained(folder: Path, name: str) -> dict[str, Any]:
    """The settings of the data that a model was trained on, or else of the run's last data with this component."""
    stage = next(reversed(_own_data(folder, name)), None)
    return {} if stage is None else dict(stage["resolved"].get("config", {}))


def _data_stages(folder: Path, name: str) -> list[Mapping[str, Any]]:
    """The data stages, with a component of this name, of the run that a stage belongs to."""
    facts = [read_stage(file.parent) for file in sorted(folder.absolute().parent.glob(f"*/{STAGE_FILE}"))]
    data = [stage for stage in facts if stage["gives"] == "data" and stage["source"] is None]
    return [stage for stage in data if stage["component"].partition("@")[0] == name]


def _own_data(folder: Path, name: str) -> list[Mapping[str, Any]]:
    """The data stage that a model was trained on; all data stages of the run where it is none of them."""
    stages = _data_stages(folder, name)
    own = read_stage(folder)["resolved"].get("inputs", {}).get("data")
    return [stage for stage in stages if stage["name"] == own] or stages


def _coordinates(folder: Path, name: str) -> list[str]:
    """The names of the coordinates in training, of the model's own data or the last; none of images, and of tables so
    wide that the summary names none."""
    columns: list[str] = []
    for stage in _own_data(folder, name):
        seen = read_result(folder.absolute().parent / stage["name"]).get("data", {})
        columns = [column["name"] for column in seen.get("columns", ()) if column["use"] == "coordinate"]
        columns = columns if [len(columns)] == seen.get("event_shape") else []
    return columns


def _trained_coordinates(folder: Path) -> list[str]:
    """The names of the coordinates that a model was trained on, or else the models plugged into it; none where their
    data are of no table."""
    inputs = read_stage(folder)["resolved"].get("inputs", {})
    if "data" in inputs:
        tables = [stage["name"] for stage in _data_stages(folder, "data:array")]
        return _coordinates(folder, "data:array") if str(inputs["data"]) in tables else []
    plugged = [folder.absolute().parent / one for one in inputs.values() if isinstance(one, str) and ":" not in one]
    found = (_trained_coordinates(one) for one in plugged if (one / STAGE_FILE).is_file())
    return next(filter(None, found), [])


def _everything(source: DataSource) -> Dataset:
    """All points of a source, in the order of the file."""
    parts: list[Dataset] = []
    for split in SPLITS:
        try:
            parts.append(source.load(split))
        except SplitError:
            continue  # a source need not have every split
    whole = max(parts, key=len)
    dataset = whole.take(torch.arange(len(whole)))
    return dataset if dataset.index is None else dataset.take(torch.argsort(dataset.index))


def _shaped(x: Tensor, shape: tuple[int, ...], what: str, hint: str | None = None) -> Tensor:
    if x[0].numel() == torch.Size(shape).numel():
        return x.reshape(len(x), *shape)
    raise DataError(f"{what} of shape {tuple(x.shape[1:])}; the model was made for {tuple(shape)}", hint=hint)


def _dtype_of(component: Any) -> torch.dtype:
    if isinstance(component, nn.Module):
        for tensor in (*component.parameters(), *component.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype
    return torch.float32
