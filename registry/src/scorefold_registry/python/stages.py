"""Functions of Python that each do one stage: they write the run file and run it."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from scorefold.artefacts import write_text
from scorefold.errors import ConfigError, ScorefoldError
from scorefold.plugin import Port
from scorefold_registry.components.parts import anchored_use, config_model, options_model
from scorefold_registry.components.paths import anchored, free_name, from_here
from scorefold_registry.experiments.compare import compare as run_comparison
from scorefold_registry.experiments.engine import watch_for
from scorefold_registry.experiments.rows import ComparisonResult, SweepResult
from scorefold_registry.experiments.sweep import sweep as run_sweep
from scorefold_registry.host import Host
from scorefold_registry.python.inputs import (
    as_input,
    expect,
    in_python,
    observations,
    points_in,
    refuse_data_fields,
    refuse_objects,
    source_of,
    stages_in,
    without_files,
)
from scorefold_registry.python.stage import RunSetting, Stage
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.progress import OneStage, progress_for
from scorefold_registry.run.result import RunResult
from scorefold_registry.runfile.loaded_stages import PREFIX, find_loaded
from scorefold_registry.runfile.reader import RunFileError
from scorefold_registry.sharing.transfer import pull as fetch
from scorefold_registry.sharing.transfer import push as share

if TYPE_CHECKING:
    from scorefold_registry.plugins.records import Registered


def run(
    file: str | Path,
    *,
    sets: Sequence[str] = (),
    seed: int | None = None,
    folder: str | Path | None = None,
    host: Host | None = None,
    progress: bool = True,
) -> RunResult:
    """Run a run file; see ``scorefold_registry.run_file`` for ``sets``, ``seed`` and the errors.

    Runs and cache stand in ``folder``; without one where the command has them (``runs``, ``.scorefold/cache``).
    """
    runs, cache = (None, None) if folder is None else (Path(folder) / "runs", Path(folder) / "cache")
    bar = progress_for(sys.stdout, not progress)
    return run_file(host or _host(), file, sets=sets, seed=seed, runs=runs, cache=cache, progress=bar)


def compare(kind: str, *, host: Host | None = None, progress: bool = True, **asked: Any) -> ComparisonResult:
    """Put every installed component of a kind on the same cases; see ``scorefold_registry.compare`` for ``asked``."""
    expect("the kind", kind, str, "its name, such as 'estimator'")
    return run_comparison(host or _host(), kind, watch=watch_for(sys.stdout, not progress), **asked)


def sweep(
    what: Stage | str | Path,
    over: Mapping[str, Sequence[Any] | str],
    *,
    host: Host | None = None,
    progress: bool = True,
    **asked: Any,
) -> SweepResult:
    """Run what leads to a stage, or a run file, at many values of some fields.

    ``over`` names fields as in a run file: ``{"stages.flow.config.layers": [2, 4], "seed": [0, 1]}``; a stage's
    ``run_file`` shows them. See ``scorefold_registry.sweep`` for ``asked``. What a stage's run has in common with the
    points is used again, and the sweep stands in its folder.
    """
    expect("over", over, Mapping, "a mapping from fields to their values, such as {'seed': [0, 1]}")
    watch = watch_for(sys.stdout, not progress)
    if not isinstance(what, Stage):
        return run_sweep(host or _host(), what, over, watch=watch, **asked)
    setting = what.setting
    path = _written(setting, what.specs)
    places = {"out": setting.folder / "sweeps" / sha256(f"{path.name}{over}".encode()).hexdigest()[:16]}
    places["cache"] = setting.folder / "cache"
    return run_sweep(setting.host, path, over, watch=watch, **{**places, **asked})


def load_data(
    x: Any,
    *,
    condition: Any = None,
    label: Any = None,
    splits: Sequence[float] | None = None,
    name: str = "data",
    seed: int | None = None,
    runtime: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    host: Host | None = None,
    progress: bool = True,
    **config: Any,
) -> Stage:
    """Data to train on and to ask questions of: the first stage, whose settings the later ones share.

    ``x`` is an array or tensor (N, *E), a pandas or polars table, a path to files or images, or the name of a component
    such as ``data:digits``. ``condition`` and ``label`` (N,) are arrays like it, or names of columns of a table or
    file. ``splits`` are the fractions for training, validation and test. Further keywords are fields of the component's
    config: of ``data:array`` (``scale``, ``low``, ``levels``, ...) for arrays and tables. Of a component that reads
    other data, they are its ports too, as in ``do``. The index of a pandas table names its rows; ``names="column"``
    names them by a column.

    ``seed`` is the root seed (0) and ``runtime`` the runtime of a run file (``{"device": "cpu", "workers": 2}``). Runs,
    cache and data are kept in ``folder``, where later sessions find them again. Without a folder they are deleted when
    Python ends. Raises ``ConfigError`` and ``DataError`` for what does not fit.
    """
    setting = setting_of([], folder, seed, runtime, host)
    use, fields = source_of(x, condition, label, setting.folder, indexed="names" not in config)
    if splits is not None:
        fields["fractions"] = splits
    named = isinstance(x, str) and use == x
    if named and config.keys() & {port.name for port in component_of(setting.host, x).component.requires}:
        where: dict[str, Any] = {"folder": folder, "seed": seed, "runtime": runtime, "host": host}
        own = None if name == "data" else name  # the data that are plugged in have this name
        return do(None, x, name=own, config=fields, progress=progress, **where, **config)
    if twice := sorted(fields.keys() & config.keys()):
        raise ConfigError(f"{twice[0]} is given twice: by the data, and by a keyword", hint=f"leave {twice[0]}= out")
    spec = anchored_use(setting.host.catalogue, {"use": use, "config": {**fields, **config}}, from_here)
    return _done(setting, {}, name, spec, progress)


def load(
    state: str | Path,
    *,
    name: str = "loaded",
    folder: str | Path | None = None,
    seed: int | None = None,
    runtime: Mapping[str, Any] | None = None,
    host: Host | None = None,
    progress: bool = True,
) -> Stage:
    """A stage of an earlier run, or what ``host.save`` wrote, by its folder, or a model that comes with a plugin as
    ``model:NAME``; see ``load_data`` for the other arguments. Samples of a stage become data, in the units of the file.

    Raises ``ConfigError`` for a folder that holds no saved state, or one of what is not installed, and for a name that
    no plugin has.
    """
    setting = setting_of([], folder, seed, runtime, host)
    named = isinstance(state, str) and state.startswith(PREFIX)
    if not named and (drawn := points_in(Path(state))):
        where: dict[str, Any] = {"folder": folder, "seed": seed, "runtime": runtime, "host": host}
        return load_data(**drawn, name=name, progress=progress, **where)
    return _done(setting, {}, name, {"load": state if named else str(Path(state).absolute())}, progress)


def push(
    what: Stage | str | Path,
    to: str | Path,
    *,
    licence: str | None = None,
    data_licence: str | None = None,
    private: bool = True,
    half: bool = False,
    host: Host | None = None,
) -> str:
    """Write a stage's model into a new folder for others (``./name``), or upload it to the Hugging Face Hub.

    ``what`` is a stage, or its folder in an earlier run (with a ``host`` of its own, if any). The answer is the folder
    or the address. See ``scorefold_registry.sharing.transfer.push`` for what is written and for the errors; what a
    person should know of it is a warning.
    """
    if isinstance(what, Stage):
        host, what = what.setting.host, what.folder
    given = {"licence": licence, "data_licence": data_licence}
    pushed = share(host or _host(), what, to, **given, private=private, half=half)
    for note in pushed.notes:
        warnings.warn(note, stacklevel=2)
    return pushed.place


def pull(source: str | Path, to: str | Path | None = None, *, revision: str | None = None, **given: Any) -> Stage:
    """A model that comes with a plugin, or that somebody pushed to a folder or the Hub, copied into ``to``
    (``models/NAME``) and loaded.

    The keywords of ``load`` work here too. No code of the model is run. See
    ``scorefold_registry.sharing.transfer.pull`` for the checks and the errors.
    """
    return load(fetch(given.get("host") or _host(), source, to, revision=revision), **given)


def do(
    verb: str | None,
    what: str | Stage,
    /,
    data: Any = None,
    *,
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    split: str | None = None,
    name: str | None = None,
    folder: str | Path | None = None,
    seed: int | None = None,
    runtime: Mapping[str, Any] | None = None,
    host: Host | None = None,
    progress: bool = True,
    **given: Any,
) -> Stage:
    """A stage: a verb with a component that is named (``score:denoising``) and built, or that an earlier stage gives.

    ``data`` and each keyword that is a port of the component or of the verb is plugged in: a ``Stage``, the name of a
    component, what ``load_data`` takes (for a port of data), an object that the host made, or a list of these. Further
    keywords are options of the verb, or fields of the config where a component is named that has a field so called;
    ``options`` and ``config`` take them as mappings. ``verb`` None is the kind's own. The stage's seeds derive from its
    ``name``. ``folder``, ``seed``, ``runtime`` and ``host`` come from the stages that are given. Where none is given,
    they are arguments.

    Raises ``ConfigError`` with everything that does not fit, before anything is computed, and the error of a stage that
    fails.
    """
    expect("the verb", verb, str | None, "its name, such as 'fit', or None")
    for key, value in (("config", config), ("options", options)):
        expect(key, value, Mapping | None, "a mapping, such as {'n': 100}; each field is a keyword of its own too")
    stages = list(stages_in([what, data, *given.values()]))
    if not isinstance(what, str | Stage):
        hint = "name a component, such as 'score:denoising', or give what fit(...), load(...) or load_data(...) gave"
        raise ConfigError(f"{verb or 'a stage'} is asked of {what!r:.60}; expected a component or a stage", hint=hint)
    setting = setting_of(stages, folder, seed, runtime, host)
    registered = component_of(setting.host, what)
    refuse_data_fields(setting.host, registered, verb, data, given, built=isinstance(what, str))
    found = setting.host.catalogue.verb(registered.component, verb)
    own = registered.component.requires if isinstance(what, str) else ()
    ports = {port.name: port.kinds for port in (*own, *found.takes)}
    inputs = {key: given.pop(key) for key in list(given) if key in ports}
    if data is not None:
        inputs["data"] = data
    if verb == "estimate" and data is not None:
        # A score that nobody trained is trained here, on the data that are asked about.
        for port in own:
            if port.kind == "score" and not port.optional and port.default is None and port.name not in inputs:
                if not isinstance(data, Stage):
                    shared = {"folder": folder, "seed": seed, "runtime": runtime, "host": host} if not stages else {}
                    data = inputs["data"] = _as_stage(data, progress=progress, **shared)
                inputs[port.name] = fit("score:denoising", data, config=SCORE, progress=progress)
                stages = list(stages_in([what, *inputs.values()]))
                setting = setting_of(stages, folder, seed, runtime, host)
    settings = {"config": dict(config or {}), "options": dict(options or {})}
    model = options_model(found)
    known = () if model is None else model.model_fields
    fields = config_model(registered).model_fields if isinstance(what, str) else known
    for key, value in given.items():
        of_component = isinstance(what, str) and (key in fields or key not in known)
        settings["config" if of_component else "options"][key] = value
    refuse_objects({**settings["config"], **settings["options"]})
    specs: dict[str, Mapping[str, Any]] = {}
    for stage in stages:
        _add(specs, stage.specs)
    spec: dict[str, Any] = {"use": what if isinstance(what, str) else what.name}
    if verb is not None:
        spec["do"] = verb
    if inputs:
        whole = verb == "estimate" and split is None and _asks_data_alone(own, inputs)
        spec["inputs"] = {
            key: as_input(value, "data" in ports[key], setting, specs, whole=whole) for key, value in inputs.items()
        }
    spec.update({key: value for key, value in settings.items() if value})
    spec = anchored_use(setting.host.catalogue, spec, from_here)
    if model is not None and "options" in spec:
        with suppress(ValidationError):  # the plan says what is wrong
            spec["options"] = anchored(model.model_validate(spec["options"]), spec["options"], from_here)
    if split is not None:
        spec["split"] = split
    default = registered.component.kind if isinstance(what, str) else verb or "stage"
    return _done(setting, specs, name or free_name(default, specs), spec, progress)


def fit(model: str | Stage, data: Any = None, **given: Any) -> Stage:
    """Train a score, a flow or another model on data; see ``do`` for the arguments. A solver takes a prior and no data.

    >>> import scorefold as sf
    >>> points = sf.load_data("data:sphere", dimension=1, ambient=2, points=200, progress=False)
    >>> flow = sf.fit("flow:affine-coupling", points, layers=2, training={"steps": 5}, progress=False)
    >>> type(flow.value).__name__
    'CouplingFlow'
    """
    return do("fit", model, data, **given)


def sample(model: str | Stage, data: Any = None, **given: Any) -> Stage:
    """Samples of a score or a flow, for the conditions of ``data`` where it takes any; ``n`` is how many. An array
    (N, *S) holds the conditions themselves, such as observations of a solver."""
    return do("sample", model, observations(model, data), **given)


def evaluate(model: str | Stage, data: Any, **given: Any) -> Stage:
    """Log-likelihoods of held-out points; see ``do`` for the arguments."""
    return do("evaluate", model, data, **given)


def assess(model: str | Stage, data: Any, **given: Any) -> Stage:
    """Samples of a model compared with held-out points; see ``do`` for the arguments."""
    return do("assess", model, data, **given)


def interpolate(model: str | Stage, data: Any, **given: Any) -> Stage:
    """Paths between pairs of points; see ``do`` for the arguments."""
    return do("interpolate", model, data, **given)


def estimate(estimator: str | Stage, data: Any, **given: Any) -> Stage:
    """Estimate a property of data, such as their intrinsic dimension; ``score=`` for estimators that use a score."""
    return do("estimate", estimator, data, **given)


def allocate(allocator: str | Stage, **given: Any) -> Stage:
    """A plan for spending a budget of labels; see ``do`` for the arguments."""
    return do("allocate", allocator, **given)


@cache
def _host() -> Host:
    return Host.discover()


@cache
def _temporary() -> Path:
    """A folder that goes when Python ends."""
    folder = tempfile.mkdtemp(prefix="scorefold-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def setting_of(
    stages: Sequence[Stage],
    folder: str | Path | None,
    seed: int | None,
    runtime: Mapping[str, Any] | None,
    host: Host | None,
) -> RunSetting:
    """Common setting of the stages. Raises ``ConfigError`` for stages of two settings, and for a different one."""
    expect("folder", folder, str | Path | None, "the name of a folder")
    expect("host", host, Host | None, "what Host.discover() gives")
    place = None if folder is None else Path(folder).expanduser().absolute()
    if not stages:
        return RunSetting(host or _host(), place or _temporary(), 0 if seed is None else seed, runtime or {})
    setting = stages[0].setting
    asked = {"folder": place, "seed": seed, "runtime": runtime, "host": host}
    for other in (vars(stage.setting) for stage in stages[1:]):
        asked.update({key: value for key, value in other.items() if asked[key] is None})
    for key, value in asked.items():
        if value is not None and value != getattr(setting, key):
            raise ConfigError(
                f"{key} is {value!s:.80} here and {getattr(setting, key)!s:.80} in stage {stages[0].name!r}; expected "
                "one for all stages of a run",
                hint=f"give {key} to the first call, load_data(...), and make the other stages from what it gives",
            )
    return setting


SCORE = {"noise_levels": {"name": "mixture", "low": 0.01, "high": 1}, "training": {"minutes": 3}}
"""Default training of a score for an estimator, as in the examples of dimensions."""


def _as_stage(given: Any, **settings: Any) -> Stage:
    """Data of any form as a stage."""
    if isinstance(given, Mapping):
        return load_data(given["use"], **dict(given.get("config", {})), **settings)
    return load_data(given, **settings)


def _asks_data_alone(ports: Sequence[Port], inputs: Mapping[str, Any]) -> bool:
    """True if nothing is trained on the data: the component reads none itself, and all it needs is given."""
    return all(
        port.name != "data" and (port.optional or port.installed or port.name in inputs or port.default is not None)
        for port in ports
    )


def component_of(host: Host, what: str | Stage) -> Registered:
    """Named component, or the component of the stage."""
    if isinstance(what, str):
        return host.catalogue.resolve(what)
    spec = what.specs[what.name]
    while spec.get("use") in what.specs:
        spec = what.specs[spec["use"]]
    if "load" in spec:
        return find_loaded(host.catalogue, spec["load"], Path()).components[0]
    return host.catalogue.resolve(spec["use"])


def _add(specs: dict[str, Mapping[str, Any]], more: Mapping[str, Mapping[str, Any]]) -> None:
    for name, spec in more.items():
        if specs.setdefault(name, spec) != spec:
            raise ConfigError(
                f"two different stages are called {name!r}", hint=f"give one a name of its own: name='{name}-2'"
            )


def _done(
    setting: RunSetting, specs: Mapping[str, Mapping[str, Any]], name: str, spec: Mapping[str, Any], progress: bool
) -> Stage:
    """Write the run file of these stages and run it. Errors name no place in it: its reader has not written it."""
    if not isinstance(name, str):
        raise ConfigError(f"the name of the stage is {name!r:.60}; expected text", hint="leave name= out")
    if name in specs:
        hint = f"give this one another name: name='{free_name(name, specs)}'"
        raise ConfigError(f"a stage that is given is called {name!r} too", hint=hint)
    every = {**specs, name: spec}
    path = _written(setting, every)
    bar = OneStage(name, progress_for(sys.stdout, not progress))
    try:
        result = run_file(
            setting.host, path, runs=setting.folder / "runs", cache=setting.folder / "cache", progress=bar
        )
    except ScorefoldError as error:
        for problem in error.problems if isinstance(error, RunFileError) else (error,):
            if problem.file == str(path):
                problem.file = problem.line = problem.column = None
            # Nobody has seen the files that hold what was given.
            said = without_files(problem.message, setting.folder)
            if said != problem.message:
                problem.message, problem.hint = said, in_python(problem.hint, spec)
        raise
    return Stage(name, result, setting, every)


def _written(setting: RunSetting, specs: Mapping[str, Mapping[str, Any]]) -> Path:
    """The run file of these stages in their folder, named by what it says."""
    text = setting.run_file(specs)
    path = setting.folder / "files" / f"{sha256(text.encode()).hexdigest()[:16]}.yaml"
    if not path.exists():
        write_text(path, text)
    return path
