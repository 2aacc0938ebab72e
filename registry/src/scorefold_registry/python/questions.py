"""The shortest questions: how many dimensions data have, whether a model copies, and what lies between two points."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scorefold.errors import ConfigError, DataError, ScorefoldError
from scorefold_registry.components.manifest import has_state
from scorefold_registry.components.parts import config_model
from scorefold_registry.components.paths import free_name
from scorefold_registry.host import Host
from scorefold_registry.python.inputs import refuse_data_fields, source_of, stages_in, without_files
from scorefold_registry.python.reading import as_points, table_reading
from scorefold_registry.python.stage import RunSetting, Stage
from scorefold_registry.python.stages import component_of, do, estimate, fit, interpolate, load, load_data, setting_of

TRAIN, TEST = (1, 0, 0), (0, 0, 1)
"""The shares of splits that put every row into one of them."""

_TEXT = re.compile(r"column ('.*') of the table isn't numeric")


def dimension(
    x: Any,
    *,
    folder: str | Path | None = None,
    seed: int | None = None,
    runtime: Mapping[str, Any] | None = None,
    host: Host | None = None,
    progress: bool = True,
    **config: Any,
) -> Stage:
    """The intrinsic dimension of data, as ``scorefold recommend`` gives it: ``estimator:calibrated`` on every row.

    ``x`` is an array or tensor (N, *E), a table, a path, the name of a data component, or a data stage or its folder.
    Of a stage the training split is read where no other ``split`` is named. Columns of a table that hold no
    measurements are left out, and units that differ are scaled; ``notes`` of the answer say how. Further keywords are
    fields of the data's config, such as ``scale="none"``. ``value.value`` of the answer is the dimension, or None where
    no estimator can be trusted; ``value.interval`` is its interval of 95 %.

    Raises ``ConfigError`` and ``DataError`` for data that don't fit, and where the answer depends on units that the
    data don't settle.

    >>> import scorefold as sf
    >>> sphere = sf.load_data("data:sphere", dimension=2, ambient=4, points=300, progress=False)
    >>> sf.dimension(sphere.value.load("train").x, progress=False).value.quantity
    'intrinsic dimension'
    """
    _refuse("dimension", config, data="the data come first: dimension(x)", estimator="estimate('mle', x) asks another")
    if _is_state(x):
        x = load(x, name="data", folder=folder, seed=seed, runtime=runtime, host=host, progress=progress)
    if isinstance(x, Stage):
        setting_of([x], folder, seed, runtime, host)
        asked = {"split": "train", "name": free_name("dimension", x.specs), **config}
        return estimate("estimator:calibrated", x, progress=progress, **asked)
    split = "dimension(...) reads every row; dimension(load_data(...)) asks about a split"
    _refuse("dimension", config, name=split, splits=split)
    setting = setting_of([], folder, seed, runtime, host)
    columns = config.get("condition"), config.get("label")
    use, fields = source_of(x, *columns, setting.folder, indexed="names" not in config)
    settled = {name: value for name, value in {"label": None, **config, **fields}.items() if name != "path"}
    array = use == "data:array"
    try:
        taken, notes = as_points(setting.host, Path(fields["path"]), settled) if array else (dict[str, Any](), {})
    except ScorefoldError as error:
        error.message = without_files(error.message, setting.folder)
        raise
    points = _loaded(x, TEST, setting, {**taken, **config}, progress)
    # The name gives the seeds. With this name they are the same as for recommend.
    answer = estimate("estimator:calibrated", points, name="dimension", progress=progress)
    return replace(answer, notes=tuple(f"{name}: {text}" for name, text in notes.items()))


def audit(
    model: Any,
    train: Any = None,
    held_out: Any = None,
    *,
    points: Any = None,
    folder: str | Path | None = None,
    seed: int | None = None,
    runtime: Mapping[str, Any] | None = None,
    host: Host | None = None,
    progress: bool = True,
    **options: Any,
) -> Stage:
    """Audit a model for copies of its training data, and measure its quality, like ``scorefold audit``.

    ``model`` is a stage that gives a model or samples, or samples themselves (N, *E): an array, a table, a path.
    ``train`` and ``held_out`` are the data that it was and was not trained on, in any of these forms; ``train`` is by
    default what the model's stage was trained on, and ``held_out`` its test split. Whether each of ``points`` is unlike
    the training data is asked too. Further keywords are options of the verb, such as ``n=500``. ``notes`` of the answer
    say which columns of text and rows with missing values were left out.

    Raises ``ConfigError`` for samples without training data, and what ``do`` raises.

    >>> import numpy as np
    >>> import scorefold as sf
    >>> rows = np.random.default_rng(0).normal(size=(600, 3))
    >>> found = sf.audit(rows[:200], rows[:400], rows[400:], progress=False)
    >>> [verdict["name"] for verdict in found.result["audit"]["verdicts"] if verdict["found"]]
    ['copies', 'memorisation']
    """
    _refuse("audit", options, data="the data are train, held_out and points: audit(samples, train, held_out)")
    if model is None:
        raise ConfigError("audit(...) needs a model or samples", hint="audit(samples, train, held_out)")
    if train is None and isinstance(model, Stage):
        train = _trained_on(model)
    if train is None:
        raise ConfigError(
            "audit(...) needs data to compare the samples with",
            hint="add the training data: audit(samples, train), or audit(samples, train, held_out)",
        )
    setting = setting_of(list(stages_in([model, train, held_out, points])), folder, seed, runtime, host)
    splits = {"model": TEST, "train": TRAIN, "held_out": TEST, "points": TEST}
    given = {"model": model, "train": train, "held_out": held_out, "points": points}
    for part in given.values():
        refuse_data_fields(setting.host, component_of(setting.host, "data:array"), "audit", part, options, built=False)
    try:
        loaded: dict[str, Any] = {
            name: part if isinstance(part, Stage) else _loaded(part, splits[name], setting, {}, progress, name)
            for name, part in given.items()
            if part is not None
        }
    except DataError as error:
        if (text := _TEXT.search(error.message)) is not None:
            error.hint = f"drop it from each table: table.drop(columns={text[1]})"
        raise
    read = {name: () if part is given[name] else part.notes for name, part in loaded.items()}
    asked, known = loaded.pop("model"), loaded.pop("train")
    answer = do("audit", asked, known, progress=progress, **loaded, **options)
    called = {"model": "samples", "held_out": "held-out points"}
    return replace(
        answer, notes=tuple(f"{called.get(name, name)}: {note}" for name, notes in read.items() for note in notes)
    )


def geodesics(model: str | Stage, data: Any, *, progress: bool = True, **given: Any) -> Stage:
    """Shortest paths between pairs of points in the geometry of a model, with what they pass.

    ``model`` is a stage that gives a score, a flow or a geometry, or the name of one; a score or a flow by name is
    first trained on ``data``. ``geometry:score`` gives the geometry of a score, ``geometry:pullback`` of a flow. The
    keywords of ``interpolate`` work here too. ``metrics`` of the answer compare the paths with straight lines.

    Raises ``ConfigError`` for a model that has no geometry, and what ``do`` raises.

    >>> import scorefold as sf
    >>> rows = sf.load_data("data:sphere", dimension=1, ambient=2, points=200, progress=False)
    >>> sf.geodesics("geometry:euclidean", rows, pairs=3, times=4, progress=False).value.load("test").x.shape
    torch.Size([12, 2])
    """
    shared: dict[str, Any] = {key: given.get(key) for key in ("folder", "seed", "runtime", "host")}
    if not isinstance(model, str | Stage):
        return interpolate(model, data, progress=progress, **given)  # which says what it expects
    setting = setting_of(list(stages_in([model, data])), **shared)
    kind = component_of(setting.host, model).component.kind
    if kind == "geometry":
        return interpolate(model, data, progress=progress, **given)
    if kind not in GEOMETRIES:
        raise ConfigError(
            f"geodesics(...) is asked of {model if isinstance(model, str) else model.name!r}, which is of the kind "
            f"{kind!r}; expected a score, a flow or a geometry",
            hint="name one, such as 'score:denoising', or give what fit(...) gave",
        )
    if isinstance(model, str):
        if not isinstance(data, Stage):
            given = {key: value for key, value in given.items() if key not in shared}
            geometry = component_of(setting.host, GEOMETRIES[kind])
            refuse_data_fields(setting.host, geometry, "interpolate", data, given)
            data = load_data(data, progress=progress, **shared)
        model = fit(model, data, progress=progress)
    return interpolate(GEOMETRIES[kind], data, progress=progress, **{kind: model}, **given)


GEOMETRIES = {"score": "geometry:score", "flow": "geometry:pullback"}
"""The geometry by which a model of a kind is asked."""


def _loaded(
    x: Any, splits: Sequence[float], setting: RunSetting, config: Mapping[str, Any], progress: bool, name: str = "data"
) -> Stage:
    """A data stage with every row in one split, where its component has splits, in units as given; or an earlier stage
    by its folder. Without a config a table is read as well as it can be, without columns of text, and ``notes`` say
    how."""
    shared: dict[str, Any] = {key: getattr(setting, key) for key in ("folder", "seed", "runtime", "host")}
    if _is_state(x):
        return load(x, name=name, progress=progress, **shared)
    why: Mapping[str, str] = {}
    use, fields = source_of(x, None, None, setting.folder, indexed="names" not in config)
    known = config_model(setting.host.catalogue.resolve(use)).model_fields
    if use == "data:array":
        taken, why = ({}, {}) if config else table_reading(setting.host, Path(fields["path"]), {})
        config = {"scale": "none", **taken, **config}
    whole = splits if "path" in fields or "root" in fields or "fractions" in known else None
    loaded = load_data(x, splits=whole, name=name, progress=progress, **shared, **config)
    return replace(loaded, notes=tuple(f"{field}: {text}" for field, text in why.items()))


def _refuse(function: str, given: Mapping[str, Any], /, **hints: str) -> None:
    """Raises ``ConfigError`` for keywords that a function does not pass on, with what to write in their place."""
    for name in sorted(hints.keys() & given.keys()):
        raise ConfigError(f"{function}(...) takes no {name}=", hint=hints[name])


def _is_state(x: Any) -> bool:
    """True if it is the folder of an earlier stage."""
    return isinstance(x, str | Path) and Path(x).is_dir() and has_state(Path(x))


def _trained_on(stage: Stage) -> Stage | None:
    """The data stage that the model of a stage was made with, where its run has it."""
    spec = stage.specs[stage.name]
    while (used := str(spec.get("use"))) in stage.specs:
        spec = stage.specs[used]
    named: Any = spec.get("inputs", {}).get("data")
    if named not in stage.specs:
        return None
    names = list(stage.specs)[: list(stage.specs).index(named) + 1]
    return replace(stage, name=named, specs={name: stage.specs[name] for name in names}, notes=())
