"""``scorefold recommend DATA``: which estimate of dimension to believe for these data, from file to answer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

from scorefold.errors import ArtefactError, ConfigError, DataError, PluginError, printable
from scorefold_registry.cli.commands.run import (
    INTERRUPTED,
    add_run_options,
    next_step,
    print_end,
    print_sentences,
    run_plan_of,
)
from scorefold_registry.cli.options import Parser, pairs, print_answer

if TYPE_CHECKING:
    from scorefold_registry.run.result import RunResult

TABLES = (".npy", ".npz", ".csv", ".tsv", ".parquet")
"""The endings of files of points, as data:array reads them."""

FOLDER = Path(".scorefold") / "recommend"
"""Folder of the run files that this command writes."""

STAGE = "dimension"

QUICK = ("mle", "twonn")
"""The estimators whose readings stand first, within a second or two."""


def run(arguments: list[str]) -> int:
    """Write a run file with the data, two quick estimators and ``estimator:calibrated``, run it and print the answer
    with its table; with ``--quick`` the two alone.

    Quick estimators that can't read the data are left out. The status is 0 where there is a dimension, 1 where no
    estimator can be trusted, 130 after Ctrl-C. Raises ``ConfigError`` for what is no file of points, folder of images
    or data component.
    """
    given = _parser().parse_args(arguments)
    stages, reading = _stages(given)
    # A run folder is named after the run, and the file stays where errors point to.
    name = f"recommend-{data_name(given.data)}"
    file = write_run_file(FOLDER, name, stages)
    command = ["scorefold", "recommend", *arguments]
    try:
        result = run_plan_of(file, given, command=command)
    except DataError as first:
        if given.quick:
            raise
        # The check leaves out an estimator that can't read the data, and says what it needs itself.
        file = write_run_file(FOLDER, name, {key: stages[key] for key in ("data", STAGE)})
        try:
            result = run_plan_of(file, given, command=command)
        except DataError as error:
            if error.message == first.message:  # the quick estimators stand before the check, and have read the data
                error.hint = "; or ".join(filter(None, [error.hint, "--quick reads them without the check"]))
            raise
    if result is None:
        return INTERRUPTED
    estimate = _unchecked(result) if given.quick else _estimate(result, STAGE)
    if given.json:
        _print_json(result, file, estimate, reading)
    else:
        for name, text in reading.items():
            print(printable(f"{name}: {text}"))
        print()
        print_sentences(result, () if given.quick else (STAGE,))
        if given.quick:
            for text in (estimate["headline"], *(f"warning: {said}" for said in estimate["diagnostics"]["warnings"])):
                print(printable(text))
        else:
            _print_table(estimate["diagnostics"]["table"])
        again = join(word for word in command if word not in ("--quick", "--quiet"))
        print_end(result, again if given.quick else next_step(result))
        print(printable(f"run file: {file}"))
    return 0 if given.quick or estimate["value"] is not None else 1


def _parser() -> Parser:
    parser = Parser(
        "recommend",
        "Recommend an estimate of the intrinsic dimension of data.",
        "recommend points.csv",
        "recommend points.csv --quick",
        "recommend faces/ --data-option grey=true --data-option size=16",
    )
    parser.add_argument(
        "data", metavar="DATA", help="an npy, npz, csv or parquet file, a folder of images, or a component data:NAME"
    )
    parser.add_list("--data-option", "FIELD=VALUE", "how the data are read", dest="fields")
    parser.add_list("--set", "calibrated.FIELD=VALUE", "a setting of estimator:calibrated", dest="settings")
    parser.add_list("--only", "NAME,...", "check only these estimators (default: all)")
    parser.add_flag(
        "--quick",
        "only two estimators from neighbours, in seconds (default: also all estimators, checked on surrogates)",
    )
    add_run_options(parser)
    return parser


def _stages(given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """The two stages of the run file: the data, of which every point is read, and the estimator.

    With them, by the fields of the data, how columns and rows of a table are read, and why.
    """
    use, config = data_stage(given.data)
    config = with_fields(config, given.fields, "--data-option", "label=species")
    rows, reading = _rows_and_columns(given)
    config = {**rows, **config}
    stage: dict[str, Any] = {"use": "estimator:calibrated", "inputs": {"data": "data"}}
    names = [name.strip() for text in given.only for name in text.split(",") if name.strip()]
    if given.only and not names:
        raise ConfigError("--only needs the name of an estimator", hint="for example --only mle,twonn")
    if names:
        stage["inputs"]["estimators"] = [name if ":" in name else f"estimator:{name}" for name in names]
    settings = with_fields({}, _of_calibrated(given.settings), "--set", "calibrated.surrogates=80")
    if settings:
        stage["config"] = settings
    from scorefold_registry.cli.options import discover_host
    from scorefold_registry.components.parts import anchored_use
    from scorefold_registry.components.paths import from_here

    # The file stands in a folder of its own, and what was typed is seen from here.
    data = anchored_use(discover_host().catalogue, {"use": use, "config": config}, from_here)
    quick = {f"unchecked-{name}": {"use": f"estimator:{name}", "inputs": {"data": "data"}} for name in QUICK}
    return {"data": data, **quick, **({} if given.quick else {STAGE: stage})}, reading


def _of_calibrated(given: list[str]) -> list[str]:
    """``calibrated.FIELD=VALUE`` without the component. Raises ``ConfigError`` for a field of something else."""
    for text in given:
        if not text.startswith("calibrated."):
            raise ConfigError(
                f"--set {text}: expected a field of the estimator, for example calibrated.surrogates=80",
                hint=f"for settings of the data: --data-option {text}",
            )
    return [text.removeprefix("calibrated.") for text in given]


def _rows_and_columns(given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """Choices for reading a table that ``--data-option`` leaves open, with reasons; nothing for other data."""
    path = Path(given.data).expanduser()
    if not path.exists():
        return {}, {}
    from scorefold_registry.cli.options import discover_host
    from scorefold_registry.python.reading import as_points
    from scorefold_registry.run.data_summary import loader_of

    if loader_of(path)[0] != "data:array":
        return {}, {}

    # Classes mean nothing to the estimator, and a point without one is a point.
    fields = {"label": None, **with_fields({}, given.fields, "--data-option", "label=species")}
    return as_points(discover_host(), path, fields)


def with_fields(config: Mapping[str, Any], given: list[str], option: str, example: str) -> dict[str, Any]:
    """A configuration with the fields of an option put in."""
    from scorefold_registry.experiments.row_file import with_field

    changed = dict(config)
    for name, value in pairs(given, option, example).items():
        changed = with_field(changed, name.split("."), value)
    return changed


def data_stage(text: str) -> tuple[str, dict[str, Any]]:
    """The component that reads what was named, and its configuration: every point of a file is in one split."""
    path = Path(text).expanduser()
    everything = {"fractions": [0, 0, 1]}
    if path.exists() or path.suffix.lower() in TABLES:
        if not path.exists() and not set("*{") & set(text):  # the component names what is wrong with a pattern
            raise ConfigError(f"given {text}, which does not exist; expected a file of points", hint="check the path")
        from scorefold_registry.run.data_summary import loader_of

        use, name = loader_of(path)
        return use, {name: str(path.absolute()), **everything}
    if (text.partition(":")[0] == "data" and ":" in text) or "/data:" in text:
        return text, _every_point(text, everything)
    raise ConfigError(
        f"given {text!r}; expected a file that ends with {', '.join(TABLES)}, a folder of images, or a component",
        hint="for example points.csv, or data:digits",
    )


def _every_point(use: str, everything: dict[str, Any]) -> dict[str, Any]:
    """The configuration by which a component puts every point into one split, where it has such a field."""
    from scorefold_registry.components.parts import config_model
    from scorefold_registry.host import Host

    try:
        fields = config_model(Host.discover().catalogue.resolve(use)).model_fields
    except PluginError:
        return {}  # the plan says what is wrong, and where
    return everything if everything.keys() <= fields.keys() else {}


def data_name(text: str) -> str:
    """A name for data that were named on the command line: the name of the file, the folder or the component."""
    from scorefold_registry.components.paths import file_name

    return file_name(Path(text).stem if ":" not in text else text.partition(":")[2], "data")


def write_run_file(folder: Path, name: str, stages: Mapping[str, Any]) -> Path:
    """The run file of these stages, written into a folder. Raises ``ArtefactError`` where that may not be written."""
    from scorefold.artefacts import write_text
    from scorefold_registry.runfile.example import as_run_file
    from scorefold_registry.runfile.yaml_reader import yaml_text

    run = as_run_file(name, stages)
    file = folder / f"{run['name']}.yaml"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, yaml_text(run))
    except (OSError, ArtefactError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtefactError(
            f"{file.absolute()} can't be written, and runs are kept here: {reason}",
            hint="change to a folder that can be written, and give the full path of the data",
        ) from None
    return file


def _estimate(result: RunResult, stage: str) -> Mapping[str, Any]:
    from scorefold_registry.components.stage_files import read_result

    found: Mapping[str, Any] = read_result(result.folder / stage)["estimate"]
    return found


def _unchecked(result: RunResult) -> Mapping[str, Any]:
    """The readings of the quick estimators as an estimate without a value: nothing says yet which to believe."""
    found = {name: _estimate(result, f"unchecked-{name}") for name in QUICK}
    row = {"corrected": None, "error": None, "used": False, "why": "not checked on surrogates (--quick)"}
    read = ", ".join(
        f"{name} {'has no reading' if each['value'] is None else 'reads ' + format(each['value'], '.3g')}"
        for name, each in found.items()
    )
    facts = {
        "note": "estimates from neighbours are too low for many dimensions and few points",
        "warnings": list(dict.fromkeys(text for each in found.values() for text in _warnings(each))),
        "table": [{"estimator": name, "reading": each["value"], **row} for name, each in found.items()],
    }
    headline = f"unchecked: {read}; {facts['note']}; without --quick they are checked and corrected"
    return {**found[QUICK[0]], "value": None, "interval": None, "headline": headline, "diagnostics": facts}


def _warnings(estimate: Mapping[str, Any]) -> list[str]:
    """The warnings of an estimate, after the reason for which it has no value."""
    why = [estimate["headline"]] if estimate["value"] is None else []
    return [*why, *estimate["diagnostics"].get("warnings", ())]


def _print_table(table: list[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from scorefold_registry.run.progress import number_text

    shown = Table(box=None, pad_edge=False)
    for name in ("estimator", "raw", "corrected", "error", "used"):
        shown.add_column(name, justify="left" if name in ("estimator", "used") else "right")
    for row in table:
        error = "" if row["error"] is None else f"{row['error']:.0%}"
        numbers = ["" if row[key] is None else number_text(row[key]) for key in ("reading", "corrected")]
        used = ("yes" if row["used"] else "no") + (f": {row['why']}" if row["why"] else "")
        shown.add_row(*(Text(printable(text)) for text in (row["estimator"], *numbers, error, used)))
    console = Console(file=sys.stdout)
    with console.capture() as text:  # rich ends the process where a reader such as head goes away; print does not
        console.print(shown)
    print(text.get(), end="")


def _print_json(result: RunResult, file: Path, estimate: Mapping[str, Any], reading: Mapping[str, str]) -> None:
    from scorefold.artefacts import json_text
    from scorefold_registry.run.verdicts import answers

    facts = estimate["diagnostics"]
    said = {
        **{name: estimate[name] for name in ("quantity", "value", "interval", "level", "headline")},
        "answer": answers(result.folder, result.as_json()["stages"])[0].as_json(),
        "note": facts["note"],
        "warnings": facts["warnings"],
        "table": facts["table"],
        "reading": dict(reading),
        "run": str(result.folder),
        "report": str(result.report),
        "run_file": str(file),
    }
    print_answer(json_text(said, indent=2))
