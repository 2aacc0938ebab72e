"""``scorefold demo``: four questions of a thousand images, from data to report."""

from __future__ import annotations

from importlib.resources import as_file, files

from scorefold_registry.cli.commands.run import (
    INTERRUPTED,
    add_run_options,
    print_answers,
    print_failures,
    print_sentences,
    run_plan_of,
)
from scorefold_registry.cli.options import Parser, styled, wrapped

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


def run(arguments: list[str]) -> int:
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
