"""``scorefold run FILE``: run a run file. ``scorefold demo`` runs a packaged one, of a thousand images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from scorefold.errors import printable
from scorefold_registry.cli.options import Parser, discover_host, print_answer, styled, wrapped
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read

if TYPE_CHECKING:
    from scorefold_registry.run.result import RunResult

INTERRUPTED = 130
"""The exit status of a run that Ctrl-C ended, as a shell gives it."""


def run(arguments: list[str]) -> int:
    """Run a file and say what it answered and where the report is. The status is 0, or 130 after Ctrl-C."""
    parser = Parser(
        "run",
        "Run a run file.",
        "run digits.yaml",
        "run digits.yaml --set stages.score.config.training.steps=2000 --seed 1",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the run file")
    parser.add_list("--set", "PATH=VALUE", "set a field", dest="sets")
    add_run_options(parser)
    given = parser.parse_args(arguments)
    return run_and_print(given.file, given, sets=given.sets)


def add_run_options(parser: Parser) -> None:
    """The options that ``run`` and ``demo`` share."""
    parser.add_argument("--seed", type=int, help="the root seed, in place of the file's")
    parser.add_argument(
        "--device", help="where to compute, in place of the file's: auto, cpu, cuda, cuda:N, mps or simulated"
    )
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where run folders go (default: runs)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where stages are kept (default: .scorefold/cache)")
    parser.add_flag("--fresh", "compute every stage anew")
    parser.add_flag("--json", "print the result as JSON")
    parser.add_flag("--quiet", "show no progress")


def run_and_print(
    file: Path,
    given: argparse.Namespace,
    *,
    sets: Sequence[str] = (),
) -> int:
    """Run a file with progress on a terminal, then print the answers, the next command and the report, or JSON."""
    result = run_plan_of(file, given, sets=sets)
    if result is None:
        return INTERRUPTED
    print_answers(result, as_json=given.json, then=next_step(result))
    return 0


def next_step(result: RunResult) -> str:
    """The command that shows most of what a run has learned."""
    folder = result.folder
    with suppress(ValueError, FileNotFoundError):  # it is elsewhere, or the working folder was removed
        folder = folder.relative_to(Path.cwd())
    if find_spec("scorefold_explore"):
        return f"scorefold explore {quote(str(folder))}"
    models = [stage.name for stage in result.stages if stage.component.partition(":")[0] in ("score", "flow")]
    if models:
        return f"scorefold apply {quote(str(folder / models[0]))} --do sample --out samples.npy"
    return f"scorefold runs open {quote(str(folder))}"


def run_plan_of(
    file: Path, given: argparse.Namespace, *, sets: Sequence[str] = (), command: Sequence[str] | None = None
) -> RunResult | None:
    """Run a file with progress on a terminal; None after Ctrl-C. ``command`` is the command line that repeats the run,
    where that isn't ``scorefold run`` and the file."""
    from scorefold_registry.run.progress import progress_for

    host = discover_host()
    # The file is checked before torch is imported.
    placed = [f"runtime.device={given.device}"] if given.device else []
    plan = make_plan(host.catalogue, read(file, [*sets, *placed], given.seed))
    for text in plan.warnings:
        print(printable(f"warning: {text}"), file=sys.stderr)
    try:
        from scorefold_registry.run.pipeline import run_plan

        progress = progress_for(sys.stderr if given.json else sys.stdout, given.quiet)
        return run_plan(
            host,
            plan,
            runs=given.runs,
            cache=given.cache,
            fresh=given.fresh,
            progress=progress,
            command=command,
        )
    except KeyboardInterrupt as interrupt:
        stage = getattr(interrupt, "stage", None)
        where = f" in stage {stage!r}" if stage else ""
        print(f"interrupted{where}; repeat the command to continue", file=sys.stderr)
        return None


def print_answers(
    result: RunResult, *, as_json: bool, only: Collection[str] | None = None, then: str | None = None
) -> None:
    """Print what a run answered, or some of its stages, the command to type ``then`` and where its report is; failing
    observers go to standard error."""
    from scorefold.artefacts import json_text
    from scorefold_registry.run.verdicts import answers

    if as_json:
        facts = result.as_json()
        given = [answer for answer in answers(result.folder, facts["stages"]) if only is None or answer.stage in only]
        print_answer(json_text({**facts, "verdicts": [answer.as_json() for answer in given]}, indent=2))
        print_failures(result)
    else:
        print()
        print_sentences(result, only)
        print_end(result, then)


def print_end(result: RunResult, then: str | None) -> None:
    """Print the last lines: the command to type ``then`` and where the report of a run is. Failing observers go to
    standard error."""
    if then is not None:
        print(printable(f"next: {then}"))
    print(f"report: {result.report}")
    print_failures(result)


def print_sentences(result: RunResult, only: Collection[str] | None = None, *, others: bool = True) -> None:
    """Print the answers of a run, or of some of its stages, with their cautions, and the answers of ``others``."""
    from scorefold_registry.run.verdicts import answers, stage_warnings

    facts = result.as_json()
    given = [answer for answer in answers(result.folder, facts["stages"]) if only is None or answer.stage in only]
    shown: set[str] = set()
    for answer in given:
        print(styled(wrapped(answer.sentence(), 2), "answer"))
        for kind, line in answer.details():
            text = wrapped(f"  {line}", 4)
            print(styled(text, "warning") if kind == "caution" else text)
        shown.update(answer.warnings)
    answered = {answer.stage for answer in given}
    for stage, warning in stage_warnings(result.folder, facts["stages"]):
        # An estimate repeats the warnings of its data.
        if others and stage not in answered and warning not in shown:
            print(styled(wrapped(printable(f"{stage}: caution: {warning}"), 2), "warning"))


def print_failures(result: RunResult) -> None:
    """Print what observers of a run failed in, to standard error."""
    for failure in result.failures:
        print(printable(failure.text()), file=sys.stderr)


QUESTIONS = {
    "What is the dimension of images of clothes?": (
        ("dimension", "at-most"),
        "Neighbouring images differ in shape, which takes few numbers. The trained model also sees fine detail, "
        "and gives an upper bound for it (at-most).",
    ),
    "What lies between two of them?": (
        ("between",),
        "A straight line overlays two images. A path of the model turns one garment into the other.",
    ),
    "What do samples of a model look like?": (
        ("samples", "small-samples"),
        "samples: the trained model. small-samples: a model that the demo trains for some seconds.",
    ),
    "Does the trained model copy its training images?": (
        ("copies",),
        "A copy is much closer to one training image than to all others. Images that the model has not seen are not.",
    ),
}
"""The questions, each with the stages of ``demo.yaml`` that answer it and how to read the answer."""


def demo_command(arguments: list[str]) -> int:
    """Run the packaged demonstration and print its answers. The last lines name the report and the next command.

    The status is 0, or 130 after Ctrl-C.
    """
    about = (
        "Answer four questions about Fashion-MNIST: dimension, paths between two images, samples of a model, copies."
    )
    parser = Parser("demo", about, "demo", "demo --seed 1")
    add_run_options(parser)
    given = parser.parse_args(arguments)
    with as_file(files("scorefold_registry.cli") / "demo.yaml") as file:
        if not given.json:
            print(
                "Four questions about a thousand images of clothes (Fashion-MNIST), and a model trained on such images"
            )
        seed = [] if given.seed is None else ["--seed", str(given.seed)]
        result = run_plan_of(file, given, command=["scorefold", "demo", *seed])
    if result is None:
        return INTERRUPTED
    if given.json:
        print_answers(result, as_json=True)
        return 0
    for question, (stages, reading) in QUESTIONS.items():
        print(styled(f"\n{question}", "heading"))
        print(wrapped(reading, 0))
        print_sentences(result, stages, others=False)
    print_failures(result)
    print(f"\nreport, with the pictures: {result.report}\nnext, with your own data: scorefold start mine.csv")
    return 0
