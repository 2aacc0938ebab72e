"""``scorefold start DATA``: look at data, ask what is wanted of them, and write a run file that answers it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.errors import ConfigError, ScorefoldError
from scorefold_registry.cli.options import Parser, discover_host, pairs, print_answer
from scorefold_registry.components.messages import RawPath
from scorefold_registry.components.parts import anchored_use

if TYPE_CHECKING:
    from scorefold_registry.cli.starting import Question
    from scorefold_registry.host import Host
    from scorefold_registry.python.reading import Reading

TEXTS = {
    "dimension": "what is its intrinsic dimension?",
    "samples": "what do new samples like it look like?",
    "between": "what lies between two of its points?",
    "unlike": "is a point unlike the data?",
    "likelihood": "how likely is a point?",
}
"""The questions by the word that ``--question`` takes."""


def run(arguments: list[str]) -> int:
    """Write a run file for data and a question, say what was seen in the data, and check the file as a run would.

    The question is asked on a terminal where it is not given. Raises ``ConfigError`` where nobody can be asked and for
    a file that is there already, and what is wrong with the data as an error that says what fixes it.
    """
    given = _parser().parse_args(arguments)
    asked = given.question or _ask()
    host = discover_host()

    from scorefold_registry.cli.commands.recommend import data_name
    from scorefold_registry.cli.starting import QUESTIONS
    from scorefold_registry.python.reading import read_data
    from scorefold_registry.runfile.loaded_stages import is_checkpoint

    question = QUESTIONS[asked]
    if is_checkpoint(Path(given.data)):
        return _start_checkpoint(host, given, asked, arguments)
    out = given.out or Path(f"{data_name(given.data)}-{asked}.yaml")
    _check_free(out)
    reading = read_data(host, given.data, pairs(given.fields, "--data-option", "label=species"), question.side)
    reading = replace(reading, config=_seen_from(host, reading, out.parent))
    text = _text(reading, question, TEXTS[asked], out, arguments)
    _write(host, out, text)
    steps = [f"scorefold run {out}", f"scorefold validate {out}", f"scorefold plugins show {reading.use}"]
    for name, stage in question.further(reading).items():
        steps.append(f"scorefold run {out} --set {shlex.quote(f'stages.{name}={_flow_text(stage)}')}")
    if given.json:
        facts = {"run_file": str(out), "question": asked, "seen": reading.seen.as_json(), "next": steps}
        print_answer(json.dumps({**facts, "config": dict(reading.config)}, indent=2))
    else:
        _print(reading, out, steps)
    return 0


def _start_checkpoint(host: Host, given: Any, asked: str, arguments: list[str]) -> int:
    """Write a run file with paths between two samples of a checkpoint of diffusers."""
    from scorefold_registry.cli.commands.recommend import data_name
    from scorefold_registry.cli.starting import between_samples
    from scorefold_registry.runfile.example import as_run_file, commented_text

    folder = Path(given.data)
    if asked != "between":
        raise ConfigError(
            f"{folder} is a checkpoint of diffusers: what can be asked of it alone is what lies between two samples",
            hint="--question between, or plug it into a run file with data: {use: score:diffusers, config: "
            f"{{path: {folder}}}}}",
        )
    latent = any((folder / name / "config.json").is_file() for name in ("vae", "vqvae"))
    config = {"path": str(folder), **({"space": "latent"} if latent else {})}
    if host.create("score:diffusers", config).condition_spec is not None:  # type: ignore[attr-defined]
        raise ConfigError(
            f"{folder} is a model of classes, and nothing here says which class the samples have",
            hint="write a run file with data of that class, and condition: CLASS of geometry:score",
        )
    out = given.out or Path(f"{data_name(given.data)}-{asked}.yaml")
    _check_free(out)
    if not folder.expanduser().is_absolute():
        config["path"] = os.path.relpath(folder, out.parent)
    stages, comments = between_samples(config)
    heading = [*_heading("what lies between two of its samples?", out, arguments), f"Seen: a checkpoint in {folder}."]
    said = {("stages", *place): text for place, text in comments.items()}
    _write(host, out, commented_text({**as_run_file(out.stem, stages), "stages": stages}, heading, said))
    steps = [f"scorefold run {out}", f"scorefold validate {out}", "scorefold plugins show score:diffusers"]
    if given.json:
        print_answer(json.dumps({"run_file": str(out), "question": asked, "config": config, "next": steps}, indent=2))
    else:
        print_answer("\n".join([f"{out} is written, and checked; next:", *(f"  {step}" for step in steps)]))
    return 0


def _check_free(out: Path) -> None:
    if out.exists():
        raise ConfigError(f"{out} is there already", hint="--out FILE names another; a run file is never written over")


def _flow_text(value: Any) -> str:
    """A stage in one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow_text(one)}" for name, one in value.items()) + "}"
    return str(value)


def _heading(asked: str, out: Path, arguments: list[str]) -> list[str]:
    return [
        "yaml-language-server: $schema=.scorefold/schema.json",
        f"{asked[0].upper()}{asked[1:]}",
        f"  scorefold run {out}",
        "",
        f"Written by: scorefold start {shlex.join(arguments)}",
    ]


def _parser() -> Parser:
    parser = Parser(
        "start",
        "Write a run file for your data and a question about them.",
        "start patients.csv",
        "start faces/ --question samples --out faces.yaml",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="an npy, npz, csv or parquet file, a folder of images, data:NAME, or a checkpoint of diffusers",
    )
    listed = "; ".join(f"{word}: {text}" for word, text in TEXTS.items())
    parser.add_argument("--question", choices=tuple(TEXTS), help=f"{listed} (asked on a terminal)")
    parser.add_list("--data-option", "FIELD=VALUE", "how the data are read", dest="fields")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the new file (default: DATA-QUESTION.yaml, here)")
    parser.add_flag("--json", "print JSON")
    return parser


def _ask() -> str:
    """The question that somebody at a terminal chooses."""
    if not sys.stdin.isatty():
        raise ConfigError(
            "no question is given, and there is no terminal to ask on",
            hint=f"--question {'|'.join(TEXTS)}",
        )
    for number, (word, text) in enumerate(TEXTS.items(), 1):
        print(f"{number}  {word:<10}  {text}", file=sys.stderr)
    words = list(TEXTS)
    while True:
        print(f"question (1 to {len(words)}): ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise KeyboardInterrupt
        said = line.strip()
        if said in words:
            return said
        if said.isdecimal() and 1 <= int(said) <= len(words):
            return words[int(said) - 1]


def _text(reading: Reading, question: Question, asked: str, out: Path, arguments: list[str]) -> str:
    from scorefold_registry.runfile.example import as_run_file, commented_text

    stages, comments = question.stages(reading)
    config = dict(reading.config)
    why = dict(reading.why)
    shares = question.fractions(reading)
    if shares is not None and "fractions" not in config:
        config["fractions"], why["fractions"] = shares
    data = {"use": reading.use, **({"config": config} if config else {})}
    heading = [
        *_heading(asked, out, arguments),
        f"Seen: {reading.seen.heading()}; {reading.points:,} points are read.",
        "Every field that is not here has its default: scorefold plugins show COMPONENT lists them.",
    ]
    said = {("stages", *place): text for place, text in comments.items()}
    said |= {("stages", "data", "config", name): text for name, text in why.items()}
    run = as_run_file(out.stem, {"data": data, **stages})
    return commented_text({**run, "stages": {"data": data, **stages}}, heading, said)


def _seen_from(host: Host, reading: Reading, folder: Path) -> dict[str, Any]:
    """The data's config with relative paths as they stand in a file in a folder."""

    def anchor(place: RawPath, path: Path) -> str:
        return str(path) if path.expanduser().is_absolute() else os.path.relpath(path, folder)

    given = {"use": reading.use, "config": reading.config}
    config: dict[str, Any] = anchored_use(host.catalogue, given, anchor)["config"]
    return config


def _write(host: Host, out: Path, text: str) -> None:
    """Writes the file, and takes it back where a run of it would fail."""
    from scorefold_registry.cli.commands.run_files import rehearse_all
    from scorefold_registry.runfile.plan import make_plan
    from scorefold_registry.runfile.reader import read

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{out} can't be written: {error.strerror or error}", hint="--out names another") from error
    try:
        rehearse_all(host, make_plan(host.catalogue, read(out)))
    except ScorefoldError:
        out.unlink()
        raise


def _print(reading: Reading, out: Path, steps: list[str]) -> None:
    from scorefold_registry.run.data_summary import summary_text

    lines = [summary_text(reading.seen), ""]
    lines += [f"{name}: {text}" for name, text in reading.reasons.items()]
    lines += [f"{out} is written, and checked with the data; next:", *(f"  {step}" for step in steps)]
    print_answer("\n".join(lines))
