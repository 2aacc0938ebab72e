"""``scorefold audit MODEL``: whether a model copies its training data, from a stage or a file of samples."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scorefold.errors import ConfigError, PluginError, printable
from scorefold_registry.cli.commands.recommend import data_name, data_stage, with_fields, write_run_file
from scorefold_registry.cli.commands.run import INTERRUPTED, add_run_options, print_answers, run_plan_of
from scorefold_registry.cli.options import Parser, print_answer

FOLDER = Path(".scorefold") / "audit"
"""Folder of the run files that this command writes."""

STAGE = "audit"
NAMES = (
    *("copies", "memorisation", "membership", "likelihood-gap", "off-the-data", "misses-data", "different"),
    *("overlap", "duplicates"),
)
"""The verdicts that ``--fail-on`` takes, as the verb names them."""


def run(arguments: list[str]) -> int:
    """Write a run file with the model, its data and the verb ``audit``, run it and print the verdicts.

    The status is 0, 1 where a verdict that ``--fail-on`` names was found, 130 after Ctrl-C. Raises ``ConfigError`` for
    what is no model, no samples or no data.
    """
    given = _parser().parse_args(arguments)
    fail_on = _names(given.fail_on)
    if given.train and ":" in given.train and (place := _trained_on(Path(given.model))) is not None:
        note = f"{given.train} may put other points into its splits than in training; without --train {place} is read"
        print(printable(f"note: {note}"), file=sys.stderr)
    stages, reading = _stages(given)
    file = write_run_file(FOLDER, f"audit-{data_name(given.model)}", stages)
    result = run_plan_of(file, given, command=["scorefold", "audit", *arguments])
    if result is None:
        return INTERRUPTED
    from scorefold_registry.components.stage_files import read_result

    found = read_result(result.folder / STAGE)
    audit = found["audit"]
    failed = sorted({verdict["name"] for verdict in audit["verdicts"] if verdict["found"]} & fail_on)
    # What could not be tested must not pass for what was tested and not found.
    untested = sorted(fail_on - {verdict["name"] for verdict in audit["verdicts"]})
    if given.json:
        from scorefold.artefacts import json_text
        from scorefold_registry.run.verdicts import answers

        answer = answers(result.folder, result.as_json()["stages"])[0].as_json()
        places = {"answer": answer, "run": str(result.folder), "report": str(result.report), "run_file": str(file)}
        said = {"metrics": found["metrics"], "warnings": found["warnings"], **audit, "failed": failed}
        print_answer(json_text({**said, "untested": untested, "reading": reading, **places}, indent=2))
    else:
        for name, reasons in reading.items():
            for field, text in reasons.items():
                print(printable(f"{name}: {field}: {text}"))
        print_answers(result, as_json=False)
        _print_rest(audit)
        print(printable(f"run file: {file}"))
    for name in untested:
        print(printable(f"{name} was not tested, so nothing is said of it"), file=sys.stderr)
    return 1 if failed or untested else 0


def _parser() -> Parser:
    parser = Parser(
        "audit",
        "Audit a model: copies of its training data, and quality of its samples.",
        "audit samples.npy --train train.npy --held-out rest.npy",
        "audit runs/faces/latest/score --fail-on copies,memorisation",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="the folder of a stage or of a saved component; a file of samples (npy, npz, csv, parquet); or a folder "
        "of sampled images",
    )
    parser.add_argument(
        "--train",
        metavar="DATA",
        help="what it was trained on: the folder of a data stage (RUN/data), a file, a folder of images or data:NAME "
        "(default: the data stage that the stage names)",
    )
    parser.add_argument("--held-out", metavar="DATA", help="the held-out data (default: the test split of --train)")
    parser.add_argument("--points", metavar="DATA", help="points to test: is each unlike the training data?")
    parser.add_list("--fail-on", "NAME,...", f"end with status 1: {', '.join(NAMES)}")
    parser.add_list("--option", "NAME=VALUE", "of the verb audit", dest="options")
    parser.add_list("--data-option", "FIELD=VALUE", "a field of the data components that have it")
    add_run_options(parser)
    return parser


def _names(given: Sequence[str]) -> set[str]:
    from scorefold_registry.runfile.reader import near

    names = {name.strip() for text in given for name in text.split(",") if name.strip()}
    if given and not names:
        raise ConfigError("--fail-on needs the name of a verdict", hint="for example --fail-on copies,memorisation")
    for name in sorted(names):
        if name not in NAMES:
            raise ConfigError(f"--fail-on {name}: there is no such verdict", hint=near(name, list(NAMES)))
    return names


def _stages(given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """The stages of the run file: training data, held-out data, the model or its samples, and the audit.

    With them, by the names of the files, how columns and rows of a table are read, and why.
    """
    reading: dict[str, dict[str, str]] = {}
    # Samples alone are read as the data are; a saved model is loaded.
    train = given.train or _trained_on(Path(given.model))
    stages = {} if train is None else {"train": _data(train, given.data_option, [1, 0, 0], reading)}
    chosen = [str(name) for stage in stages.values() for name in stage.get("config", {}).get("columns") or ()]
    left_out = [name[1:] for name in chosen if name.startswith("-")]
    model = _data(given.model, given.data_option, [0, 0, 1], reading, left_out)
    if train is None:
        raise ConfigError(
            f"{given.model} does not name its training data",
            hint="add --train with them: a file, a folder of images, the folder of a data stage or data:NAME",
        )
    held_out = None if given.held_out == train else given.held_out
    inputs = {"data": "train"}
    if held_out is not None:
        stages["held_out"] = _data(held_out, given.data_option, [0, 0, 1], reading, left_out)
        inputs["held_out"] = "held_out"
    elif given.held_out is not None and "fractions" in stages["train"].get("config", {}):
        raise ConfigError(
            f"all points of {train} are training points, and there are no others to compare with",
            hint="add --held-out with points of the same kind that the model was not trained on, or leave it out: then "
            "there are raw numbers and no verdict",
        )
    if given.points is not None:
        stages["points"] = _data(given.points, given.data_option, [0, 0, 1], reading, left_out)
        inputs["points"] = "points"
    stages["model"] = model
    _check_read(given.data_option, stages)
    asked: dict[str, Any] = {"use": "model", "do": "audit", "inputs": inputs}
    options = with_fields({}, given.options, "--option", "n=2000")
    return {**stages, STAGE: {**asked, "options": options} if options else asked}, reading


def _data(
    text: str, read: list[str], fractions: list[int], reading: dict[str, dict[str, str]], left_out: Sequence[str] = ()
) -> dict[str, Any]:
    """The stage that loads a saved state, or reads every point of a file into one split; a component stays as it is.
    ``reading`` takes how a table is read, and why; columns ``left_out`` of the training data are left out."""
    from scorefold_registry.cli.options import discover_host
    from scorefold_registry.components.manifest import has_state
    from scorefold_registry.components.stage_files import STAGE_FILE
    from scorefold_registry.python.reading import table_reading

    path = Path(text).expanduser()
    # A run or a stage without a state is no folder of images either: what loads it says what there is.
    if path.is_dir() and (has_state(path) or any((path / name).is_file() for name in (STAGE_FILE, "run.yaml"))):
        return {"load": str(path.absolute())}
    use, config = data_stage(text)
    config = {} if ":" in text and not path.exists() else {**config, "fractions": fractions}
    fitting = [field for field in read if field.partition("=")[0].strip().partition(".")[0] in _fields(use)]
    if use == "data:array":
        asked = with_fields({}, fitting, "--data-option", "columns=[a, b]")
        taken, why = table_reading(discover_host(), path, asked, left_out)
        config = {**config, **taken, "scale": "none"}  # columns are scaled by the verb, and only there
        reading |= {text: why} if why else {}
    config = with_fields(config, fitting, "--data-option", "columns=[a, b]")
    return _as_seen_from_here({"use": use, "config": config} if config else {"use": use})


def _as_seen_from_here(stage: dict[str, Any]) -> dict[str, Any]:
    """The stage with the paths that were typed, which start at the working folder and not at the written file."""
    from scorefold_registry.cli.options import discover_host
    from scorefold_registry.components.parts import anchored_use
    from scorefold_registry.components.paths import from_here

    return dict(anchored_use(discover_host().catalogue, stage, from_here))


def _fields(use: str) -> set[str]:
    """The fields of the configuration of a data component; none of one that is not installed, as the plan says."""
    from scorefold_registry.components.parts import config_model
    from scorefold_registry.host import Host

    try:
        return set(config_model(Host.discover().catalogue.resolve(use)).model_fields)
    except PluginError:
        return set()


def _check_read(read: list[str], stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ``ConfigError`` for a field that none of the data that are read has."""
    from scorefold_registry.runfile.reader import near

    known = {field for stage in stages.values() if "use" in stage for field in _fields(stage["use"])}
    for text in read:
        name = text.partition("=")[0].strip().partition(".")[0]
        if name not in known:
            raise ConfigError(
                f"--data-option {text}: none of the data has a field {name!r}", hint=near(name, sorted(known))
            )


def _trained_on(model: Path) -> str | None:
    """The folder of the data stage that a stage's component was made with, where it stands beside it."""
    from scorefold_registry.components.stage_files import STAGE_FILE, read_stage

    if not (model / STAGE_FILE).is_file():
        return None
    named = read_stage(model)["resolved"].get("inputs", {}).get("data")
    place = model.absolute().parent / named if isinstance(named, str) else None
    return str(place) if place is not None and place.is_dir() else None


PRINTED = 20
"""The most copies that the terminal names; the report and --json name all."""


def _print_rest(audit: Mapping[str, Any]) -> None:
    """The copies by their names, what was found by which test, what was not found, and what was withheld."""
    equal = audit.get("equal") or ()
    for row in equal[:PRINTED]:
        print(printable(f"equal: {_of_samples(row)} and {row['training_name']} of the training data"))
    if len(equal) > PRINTED:
        print(f"and {len(equal) - PRINTED:,} more equal ones: see the report, or --json")
    found = {verdict["where"] for verdict in audit["verdicts"] if verdict["found"] and verdict["name"] == "copies"}
    printed = set[tuple[int, int]]()  # a pair may stand in several lists
    for listed in audit["copies"]:
        pairs = {(row["sample"], row["training"]): row for row in listed["nearest"] if row["named"]}
        named = [row for pair, row in pairs.items() if pair not in printed]
        if not listed["reported"]:
            if named:
                more = "1 more is" if len(named) == 1 else f"{len(named)} more are"
                print(printable(f"{more} named ({listed['space']}): see the report, or --json"))
            continue
        printed |= set(pairs)
        for row in named[:PRINTED]:
            said = f"{_of_samples(row)} copies {row['training_name']} of the training data"
            print(printable(f"copy: {said} ({listed['space']}, d1/d2 = {row['ratio']:.2g})"))
        if len(named) > PRINTED:
            print(f"and {len(named) - PRINTED} more copies ({listed['space']}): see the report, or --json")
        if not pairs and listed["space"] in found:  # a share that is no chance, without sure names
            for row in [row for row in listed["nearest"] if row["ratio"] == 0][:PRINTED]:
                said = f"{_of_samples(row)} is like {row['training_name']} of the training data"
                print(printable(f"perhaps a copy: {said} ({listed['space']})"))
        if named:
            of = f"of the {len(pairs)} that are named ({listed['space']})"
            print(printable(f"{of}, at most {listed['false_share']:.0%} are expected to be no copies"))
    for verdict in sorted(audit["verdicts"], key=lambda verdict: not verdict["found"]):
        print(printable(f"{'found' if verdict['found'] else 'not found'}: {verdict['name']}: {verdict['text']}"))
    for point in audit["points"] or ():
        if point["unlike"]:
            print(printable(f"unlike the training data: {point['name']}: {point['why']} (p = {point['p']:.2g})"))
    for row in audit["withheld"]:
        print(printable(f"withheld: {row['part']}: {row['reason']}"))


def _of_samples(row: Mapping[str, Any]) -> str:
    """Name of a sample among other points: ``row 7 of the samples``, or ``sample 7`` of a model's draws."""
    name: str = row["sample_name"]
    return name if name.startswith("sample ") else f"{name} of the samples"
