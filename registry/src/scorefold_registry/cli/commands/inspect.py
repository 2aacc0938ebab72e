"""``scorefold inspect FILE``: what a file of data holds, a line a column, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from scorefold_registry.cli.options import Parser, discover_host, print_answer


def run(arguments: list[str]) -> int:
    """Print the summary of a file. The status is 0, with warnings too."""
    parser = Parser(
        "inspect",
        "Show the content of a data file, one line per column, with warnings.",
        "inspect patients.csv",
        "inspect faces/ --data-option size=32",
    )
    parser.add_argument("data", type=Path, metavar="FILE", help="an npy, npz, csv or parquet file, or image folder")
    parser.add_list("--data-option", "FIELD=VALUE", "how the data are read")
    parser.add_flag("--json", "print the summary as JSON")
    given = parser.parse_args(arguments)
    host = discover_host()

    from scorefold.artefacts import json_text
    from scorefold.errors import DataError
    from scorefold_registry.run.data_summary import inspect_data, read_fields, summary_text, with_option

    try:
        summary = inspect_data(host, given.data, read_fields(given.data_option, "--data-option"))
    except DataError as error:
        raise with_option(error) from None
    if given.json:
        print_answer(json_text({"file": str(given.data), **summary.as_json()}, indent=2))
    else:
        print_answer(summary_text(summary))
    return 0
