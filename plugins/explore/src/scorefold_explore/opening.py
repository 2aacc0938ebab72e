"""A finished run or a file of data as explore opens it, and a second one next to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.artefacts import load_arrays, read_json
from scorefold.data import Condition, Dataset, StreamedDataset
from scorefold.errors import ArtefactError, ConfigError, DataError, ScorefoldError, SplitError
from scorefold.interfaces import DataSource
from scorefold.results import Estimate
from scorefold_explore.explored import LARGEST, Explored, ExploredModel, Group, Known
from scorefold_registry import Host, load_stage
from scorefold_registry.python import load_data

ARRAYS = "arrays.safetensors"
SPLITS = ("train", "validation", "test")
TRAINED = "explored"
"""The folder in a run that holds the runs which the page has trained."""
WORTH = {
    "geodesics": "a stage {use: geometry:pullback, inputs: {flow: flow, data: data}} after a stage of "
    "{use: flow:anisotropic}, or a stage {use: geometry:score, inputs: {score: score, data: data}} after a score",
    "codes": "a stage of {use: score:scorevae}, {use: autoencoder:vae} or {use: estimator:riemannian-autoencoder}",
    "conditional samples": "a stage {use: score:conditional} on {use: data:paired}, or any score model of images",
    "likelihoods": "a stage of {use: flow:anisotropic} or {use: score:denoising}",
    "images": "data of images: {use: data:images, config: {root: FOLDER}}",
}
"""Parts that a run may lack, and the stage that adds each."""


def run_folder(place: Path) -> Path:
    """The run that a folder is or belongs to. Raises ``ArtefactError`` for what is no run."""
    place = place.expanduser().absolute()
    for folder in (place.parent if (place / "stage.json").is_file() else place, place / "latest"):
        if (folder / "status.json").is_file() or any(folder.glob("*/stage.json")):
            return folder.resolve()
    hint = "name a folder such as runs/NAME/TIME-HASH, which scorefold run prints, or a file or folder of data"
    if place.is_dir() and any(place.glob("*/latest/run.yaml")):
        found = ", ".join(sorted(str(item.parent.parent) for item in place.glob("*/latest/run.yaml"))[:5])
        hint = f"the runs there are in {found}"
    raise ArtefactError(f"{place} is not the folder of a run", hint=hint)


def open_run(host: Host, place: Path) -> Explored:
    """Open a run and load its stages one by one, with a note for each stage that can't be loaded.

    Raises ``ArtefactError`` for a folder that is no run, and for a run without any points yet.
    """
    folder = run_folder(place)
    state = _state(folder)
    loaded, notes = _load_all(host, folder)
    if state != "complete":
        going = "is still going on: reload the page for the stages that end meanwhile" if state == "running" else state
        notes.insert(
            0,
            f"this run {going if state == 'running' else 'ended early (' + going + ')'}; shown are "
            f"{len(loaded)} finished stages",
        )
    name, source = _main_source(loaded, folder)
    folders = {stage: folder / stage for stage in loaded}
    for more in sorted(folder.glob(f"{TRAINED}/*/status.json")):
        if not more.parent.is_symlink() and _state(more.parent) == "complete":
            added, said = _load_all(host, more.parent, leave=frozenset(loaded))
            loaded |= added
            notes += said
            folders |= {stage: more.parent / stage for stage in added}
    gathered = _Gathered(name, source)
    gathered.add_source(name, source)
    _add_samples(gathered, loaded, name, folders)
    explored = gathered.explored(title=f"{folder.parent.name}/{folder.name}", place=folder, state=state, notes=notes)
    explored.stages = [
        {"name": stage.name, "component": stage.facts["component"], "verb": stage.facts["verb"]}
        for stage in loaded.values()
    ]
    explored.host, explored.folders = host, folders
    for stage in loaded.values():
        if stage.component is not None and not isinstance(stage.component, DataSource):
            acting = stage.facts["component"].partition("@")[0]
            if stage.facts["source"] is None:
                explored.models[stage.name] = ExploredModel(stage.name, acting, stage.component)
        _add_numbers(explored, stage, folders[stage.name])
    say_what_is_missing(explored)
    return explored


def gathered_points(name: str, source: DataSource, **facts: Any) -> Explored:
    """The points of one source, without anything that was learned. Raises ``DataError`` where there are none."""
    gathered = _Gathered(name, source)
    gathered.add_source(name, source)
    return gathered.explored(**facts)


def say_what_is_missing(explored: Explored) -> None:
    """Notes what the page can't offer, with what would add it."""
    have = {
        # A straight line is no shortest way along the data.
        "geodesics": any(model.component != "geometry:euclidean" for model in explored.of("geometry").values()),
        "codes": bool(explored.of("code")),
        "conditional samples": bool(explored.of("conditional") or explored.of("score")),
        "likelihoods": bool(explored.of("flow") or explored.of("score")),
        "images": explored.image is not None,
    }
    explored.missing.update({name: WORTH[name] for name, there in have.items() if not there})


def _state(folder: Path) -> str:
    with suppress(ArtefactError, AttributeError):
        state = str(read_json(folder / "status.json").get("state", "interrupted"))
        return "running" if folder.name.endswith(".partial") and state == "running" else state
    return "running" if folder.name.endswith(".partial") else "interrupted"


def _computed(file: Path) -> float:
    """The time at which a stage was computed; a file may be written again later, as with figures that are redrawn."""
    with suppress(ArtefactError, AttributeError, TypeError, ValueError):
        return float(read_json(file).get("computed"))
    return file.stat().st_mtime


def _load_all(host: Host, folder: Path, leave: frozenset[str] = frozenset()) -> tuple[dict[str, Any], list[str]]:
    """The stages of a run, but for those to ``leave`` out, and notes about them."""
    loaded, notes = {}, []
    files = sorted(folder.glob("*/stage.json"), key=_computed)
    for file in files:
        if file.parent.name in leave:
            continue
        try:
            stage = load_stage(host, file.parent)
        except ScorefoldError as error:
            notes.append(f"the stage {file.parent.name} can't be read: {error}")
            continue
        loaded[stage.name] = stage
        notes += [f"{stage.name}: {text}" for text in stage.result.get("warnings", ())]
    return loaded, notes


def _main_source(loaded: Mapping[str, Any], folder: Path) -> tuple[str, DataSource]:
    """The data that the last model or estimate of the run reads; the first data stage where none does."""
    sources = {name: stage.value for name, stage in loaded.items() if isinstance(stage.value, DataSource)}
    for stage in reversed(list(loaded.values())):
        named = stage.facts["resolved"].get("inputs", {}).get("data")
        if named in sources and stage.facts["verb"] != "sample":
            return named, sources[named]
    for name, source in sources.items():
        return name, source
    if loaded:
        raise ArtefactError(f"no stage of {folder} holds points", hint="add a stage {use: data:...} to its run file")
    raise ArtefactError(
        f"no stage of {folder} is finished yet", hint="wait for its data stage, or look with: scorefold runs list"
    )


class _Gathered:
    """Points of several sources, one group after another."""

    def __init__(self, name: str, source: DataSource) -> None:
        self.name, self.source = name, source
        self.parts: list[Dataset] = []
        self.groups: list[Group] = []
        self.left_out = 0

    def add_source(self, name: str, source: DataSource, *, samples: bool = False) -> None:
        """The splits of a source, as many points as there is room for."""
        for split in SPLITS:
            with suppress(SplitError):
                dataset = source.load(split)
                own = name if samples else (split if name == self.name else f"{name}: {split}")
                self.add(own, dataset, name, None if samples else split, source.rows)

    def add(
        self, group: str, dataset: Dataset, stage: str, split: str | None, rows: Sequence[object] | None = None
    ) -> None:
        start = sum(len(part) for part in self.parts)
        room = min(len(dataset), LARGEST - start)
        self.left_out += len(dataset) - room
        if room > 0:
            whole = room == len(dataset) and not isinstance(dataset, StreamedDataset)
            part = dataset if whole else dataset.take(torch.arange(room))
            self.parts.append(part)
            index = None if rows is None or part.index is None else part.index.cpu()
            self.groups.append(Group(group, start, start + room, stage, split, index, rows))

    def explored(self, **facts: Any) -> Explored:
        """All of it. Raises ``DataError`` where there are no points, or none that are numbers."""
        if not self.parts:
            raise DataError(f"the stage {self.name!r} has no points to show")
        points = torch.cat([part.x.detach().cpu().float() for part in self.parts])
        names = self.source.label_names or ()
        explored = Explored(
            points=points,
            scale=self.source.event_scale,
            groups=tuple(self.groups),
            labels=_labels(self.parts),
            label_names=tuple(map(str, names)),
            columns=columns_of(self.source, math.prod(points.shape[1:])),
            condition=_conditions(self.parts),
            data_stage=self.name,
            **facts,
        )
        if self.left_out:
            explored.notes.append(f"{self.left_out:,} points are left out: the page shows {LARGEST:,} at most")
        return explored


def columns_of(source: DataSource, width: int) -> tuple[str, ...]:
    """The names of the columns of vectors, where they have as many."""
    if len(source.event_shape) != 1 or width > 200:
        return ()
    with suppress(ScorefoldError, NotImplementedError):
        names = tuple(column.name for column in source.summary().columns if column.use == "coordinate")
        if len(names) == width:
            return names
    return tuple(f"column {number}" for number in range(1, width + 1))


def _labels(parts: Iterable[Dataset]) -> Tensor | None:
    found = [part.label.cpu().long() if part.label is not None else torch.full((len(part),), -1) for part in parts]
    labels = torch.cat(found)
    return labels if bool((labels >= 0).any()) else None


def _conditions(parts: list[Dataset]) -> Condition | None:
    """The conditions of the first parts that have one; other groups have none of their own."""
    given = [part.condition for part in parts if part.condition is not None]
    if not given or parts[0].condition is None:
        return None
    if isinstance(given[0], Tensor):
        return torch.cat([one for one in given if isinstance(one, Tensor)])
    return {name: torch.cat([one[name] for one in given if isinstance(one, Mapping)]) for name in given[0]}


def _add_samples(gathered: _Gathered, loaded: Mapping[str, Any], main: str, folders: Mapping[str, Path]) -> None:
    """Samples and other data of the same shape: of stages that sample, and what an audit found most like copies."""
    shape = gathered.source.event_shape
    for name, stage in loaded.items():
        value = stage.value
        if isinstance(value, DataSource) and name != main and tuple(value.event_shape) == tuple(shape):
            derived = stage.facts["resolved"].get("inputs", {}).get("data") is not None
            if stage.facts["source"] is not None or stage.facts["verb"] != "load":
                gathered.add_source(name, value, samples=True)
            elif not derived and _main_is_not_made_of(loaded[main], name):
                gathered.add_source(name, value)
        if stage.facts["verb"] == "audit":
            _add_copies(gathered, name, folders[name] / ARRAYS)


def _main_is_not_made_of(main: Any, name: str) -> bool:
    return bool(main.facts["resolved"].get("inputs", {}).get("data") != name)


def _add_copies(gathered: _Gathered, name: str, file: Path) -> None:
    value = load_arrays(file).get("most like copies") if file.is_file() else None
    if value is not None and tuple(value.shape[1:]) == tuple(gathered.source.event_shape):
        x = gathered.source.event_scale.from_raw(value).float()
        gathered.add(f"most like copies ({name})", Dataset(x), name, None)


def _add_numbers(explored: Explored, stage: Any, folder: Path) -> None:
    """Numbers of single points that a stage found, on the points of the page."""
    split = str(stage.facts["resolved"].get("split") or "test")
    if isinstance(stage.value, Estimate):
        _add_estimate(explored, stage.name, stage.value, split)
        return
    file = folder / ARRAYS
    if stage.facts["verb"] == "outliers" and file.is_file():
        for name, values in load_arrays(file).items():
            if not name.startswith("unusual"):
                title = f"outlier score: {name} ({stage.name})"
                _place(explored, title, values, None, split, stage.name, torch.arange(len(values)))
    if stage.facts["verb"] == "audit" and file.is_file():
        _add_ratios(explored, stage.name, load_arrays(file))


def _add_ratios(explored: Explored, name: str, arrays: Mapping[str, Tensor]) -> None:
    """Add the nearness of samples to training points: of the samples on the page, or of the most likely copies."""
    for group in explored.groups:
        for key, values in arrays.items():
            if not key.startswith("ratio (") or not group.samples:
                continue
            size = group.stop - group.start
            own: Tensor | None = None
            if group.index is not None and len(values) > int(group.index.max()):
                own = values[group.index]
            elif len(values) == size or group.stage == name:
                own = values if len(values) == size else values.sort().values[:size]
            if own is not None:
                known = torch.full((len(explored.points),), math.nan)
                known[group.start : group.stop] = own.float()
                explored.known[f"nearness to training points: {key} ({name})"] = Known(known, key, name)


def _add_estimate(explored: Explored, name: str, estimate: Estimate, split: str) -> None:
    index, row = estimate.diagnostics.get("index"), estimate.diagnostics.get("row")
    if estimate.pointwise is not None and estimate.pointwise.dim() == 1:
        values = estimate.pointwise if row is None else estimate.pointwise[row]
        places = index if isinstance(index, Tensor) and len(index) == len(values) else None
        rows = _place(explored, f"{estimate.quantity} ({name})", values, places, split, name, row)
        if estimate.spectrum is not None:
            for row, spectrum in zip(rows.tolist(), estimate.spectrum, strict=False):
                if row >= 0:
                    explored.spectra[row] = (f"of the score, by the stage {name}", spectrum.double().cpu())
    curve = estimate.diagnostics.get("curve")
    if isinstance(curve, list) and curve and isinstance(curve[0], Mapping):
        explored.curves[name] = [dict(row) for row in curve]


def _place(
    explored: Explored,
    text: str,
    values: Tensor,
    index: Tensor | None,
    split: str,
    source: str,
    row: Tensor | None = None,
) -> Tensor:
    """Puts numbers at the points of a split.

    ``row`` (n,) names the points by the rows of the source, where the source counts them. Else ``index`` (n,) has their
    positions in the split. Without both, the numbers are for the first points.

    Returns the places (n,) of the points on the page, -1 where one is not there.
    """
    own = [group for group in explored.groups if group.stage == explored.data_stage and group.split == split]
    rows = torch.full((len(values),), -1)
    if own and row is not None and own[0].index is not None:
        places = torch.full((1 + int(max(own[0].index.max(), row.max())),), -1)
        places[own[0].index] = torch.arange(own[0].start, own[0].stop)
        rows = places[row]
    elif own:
        rows = own[0].start + (torch.arange(len(values)) if index is None else index.cpu().long())
        rows[rows >= own[0].stop] = -1
    known = torch.full((len(explored.points),), math.nan)
    known[rows[rows >= 0]] = values.cpu().float()[rows >= 0]
    if bool(known.isfinite().any()):
        explored.known[text] = Known(known, text, source)
    return rows


def open_data(host: Host, place: Path, read: Mapping[str, Any]) -> Explored:
    """The points of a file (npy, npz, csv, parquet), a folder of images, or a component such as ``data:digits``.

    ``read`` sets fields of whatever reads them, such as ``{"label": "species"}``. Raises ``DataError`` and
    ``ConfigError`` as the reader does.
    """
    named = str(place)
    component = ":" in named and not place.exists()
    if not component and not place.exists():
        raise DataError(f"{place} is not there", hint="name a run's folder, a file of data or a folder of images")
    stage = load_data(named if component else place, host=host, progress=False, **read)
    notes = [str(text) for text in stage.warnings]
    explored = gathered_points(
        "data", stage.value, title=named.rpartition("/")[2] or named, place=place, state="data", notes=notes
    )
    explored.data_use, explored.host = stage.specs["data"], host
    explored.stages = [{"name": "data", "component": str(explored.data_use["use"]), "verb": "load"}]
    say_what_is_missing(explored)
    return explored


MARK = "second run"


def put_beside(explored: Explored, other: Explored) -> None:
    """Add the models, the numbers and the notes of another run; each is named after its stage, with a mark.

    Raises ``ConfigError`` where the two runs are about other points, or about the points in other units.
    """
    _check_points(explored, other)
    for name, model in other.models.items():
        called = f"{name} ({MARK})"
        explored.models[called] = replace(model, name=called)
        explored.folders[called] = other.folder_of(name)
    # The samples of the second run are not on the page, so only numbers of the data have a place.
    count = _data_count(explored)
    for text, known in other.known.items():
        values = torch.full((len(explored.points),), torch.nan)
        values[:count] = known.values[:count]
        if bool(values.isfinite().any()):
            explored.known[f"{text}, {MARK}"] = replace(known, values=values, text=f"{text}, {MARK}")
    explored.curves |= {f"{name} ({MARK})": rows for name, rows in other.curves.items()}
    explored.stages = [*explored.stages, *({**one, "name": f"{one['name']} ({MARK})"} for one in other.stages)]
    explored.notes = [*explored.notes, *(f"{MARK}: {text}" for text in other.notes)]
    explored.title = f"{explored.title} and {other.title}"
    explored.second = other
    explored.missing.clear()
    say_what_is_missing(explored)


def _data_count(explored: Explored) -> int:
    """Number of points before the first samples."""
    return next((group.start for group in explored.groups if group.samples), len(explored.points))


def _check_points(explored: Explored, other: Explored) -> None:
    hint = "both need a data stage with the same file, splits, seed and scale"
    said = f"{other.title} can't stand beside {explored.title}"
    if explored.event_shape != other.event_shape:
        one, two = (" x ".join(map(str, each.event_shape)) for each in (explored, other))
        raise ConfigError(f"{said}: its points are of {two}, not of {one}", hint=hint)
    counts = _data_count(explored), _data_count(other)
    if counts[0] != counts[1]:
        raise ConfigError(f"{said}: it has {counts[1]:,} points, not {counts[0]:,}", hint=hint)
    near = torch.isclose(explored.points[: counts[0]], other.points[: counts[0]], rtol=1e-4, atol=1e-6, equal_nan=True)
    if not bool(near.all()):
        apart = int((~near.flatten(1).all(1)).sum())
        raise ConfigError(f"{said}: {apart:,} of its {counts[1]:,} points are other ones, or in other units", hint=hint)
