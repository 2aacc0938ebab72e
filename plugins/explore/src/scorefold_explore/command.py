"""The command ``scorefold explore``."""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from scorefold.artefacts import write_text
from scorefold.errors import ArtefactError, ConfigError, printable
from scorefold.stage import showing
from scorefold_explore import bundle
from scorefold_registry import Host

ADDRESS = "127.0.0.1"
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".tar"})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if "--read" in message.replace("=", " ").split():
            raise ConfigError("--read has another name now", hint="write --data-option FIELD=VALUE")
        raise ConfigError(message, hint=" ".join(self.format_usage().split()))


def run(arguments: list[str]) -> int:
    """Open a run, an audit or data, and serve the page until Ctrl-C; with ``--export`` write the still page instead.
    A second run on the same points is put beside the first.

    Raises ``ArtefactError`` for a folder that is no run, ``DataError`` for what is no data, and ``ConfigError`` for
    options that don't fit.
    """
    given = _parser().parse_args(arguments)
    bundle.check_built()
    host = Host.discover()
    explored = open_place(host, given.place, _fields(given.data_option))
    if given.second is not None:
        from scorefold_explore.opening import put_beside

        put_beside(explored, open_place(host, given.second, {}))
    for note in explored.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    if given.run_file is not None:
        return _write_run_file(explored, given.run_file)
    if given.export is not None:
        return _write_page(explored, given.export)
    return _serve(explored, given.port, given.browser)


def open_place(host: Host, text: str, read: dict[str, Any]) -> Any:
    """Open a run if the folder is a run, and data otherwise."""
    from scorefold_explore.opening import open_data, open_run, run_folder

    place = Path(text).expanduser()
    try:
        run_folder(place)
    except ArtefactError as error:
        if place.is_dir() and not _may_hold_data(place):
            raise error from None
        return open_data(host, place, read)
    if read:
        raise ConfigError(
            f"--data-option {next(iter(read))} is for data, and {text} is a run", hint="leave --data-option out"
        )
    return open_run(host, place)


def _may_hold_data(folder: Path) -> bool:
    """True if a folder, or one in it, holds images or arrays: else it is no data either, and no run."""
    if any((folder / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup", "dataset_info.json")):
        return True
    runs = any(next(folder.glob(form), None) for form in ("*/run.yaml", "*/*/run.yaml", "stage.json"))
    files = itertools.chain(folder.glob("*.*"), folder.glob("*/*.*"))
    return not runs and any(file.suffix.lower() in IMAGES for file in itertools.islice(files, 20_000))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("scorefold explore", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.description = "Open a run, an audit or data in the browser, and click on what was learned."
    examples = ("runs/digits", "mine.csv", "data:digits --export digits.html")
    parser.epilog = "\n".join(["examples:", *(f"  scorefold explore {example}" for example in examples)])
    parser.add_argument(
        "place",
        metavar="RUN",
        help="a run's folder (runs/NAME, runs/NAME/TIME-HASH), a file of data (npy, npz, csv, parquet), a folder of "
        "images, or data:NAME",
    )
    parser.add_argument("second", metavar="RUN2", nargs="?", help="a second run on the same points, to compare")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write a still page of one file, and end")
    parser.add_argument("--run-file", type=Path, metavar="FILE", help="write a run file that would add more, and end")
    parser.add_argument(
        "--data-option", action="append", default=[], metavar="FIELD=VALUE", help="a field of what reads data"
    )
    parser.add_argument("--port", type=int, default=0, metavar="PORT", help="the port (default: a free one)")
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="print the address alone")
    return parser


def _fields(given: list[str]) -> dict[str, Any]:
    """``FIELD=VALUE`` with the value in JSON, or as text where it is none."""
    import json

    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ConfigError(
                f"--data-option {text}: expected a name, '=' and a value",
                hint="for example --data-option label=species",
            )
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def _write_run_file(explored: Any, file: Path) -> int:
    from scorefold_explore.recipes import recipe

    if file.exists():
        raise ConfigError(f"{file} is there already", hint="name a file that is not")
    write_text(file, recipe(explored, "more", {})["run_file"] or "")
    print(printable(f"written: {file}; scorefold run {file}"))
    return 0


def _write_page(explored: Any, file: Path) -> int:
    from scorefold_explore.bundle import still_page, usual_answers, with_recipes

    with showing(_line_of_progress()):
        answers = usual_answers(explored)
    write_text(file, still_page(explored.title, with_recipes(explored, answers)).decode())
    print(printable(f"written: {file} ({file.stat().st_size / 2**20:.1f} MB), which opens from disk"))
    return 0


def _line_of_progress() -> Callable[[int, int, str], None]:
    def show(done: int, total: int, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text}: {done} of {total}   ", end="" if done < total else "\n", file=sys.stderr, flush=True)

    return show


def _serve(explored: Any, port: int, browser: bool) -> int:
    import uvicorn

    from scorefold_explore.server import make_app

    # With its protocol named, asyncio sends answers at once; else each waits 40 ms for the browser to acknowledge.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((ADDRESS, port))
            listening.listen()  # before the address is printed: who opens it at once waits, and is not refused
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"the port {port} can't be used: {error}", hint="leave --port out for a free one"
            ) from error
        number, token = listening.getsockname()[1], secrets.token_urlsafe(24)
        address = f"http://{ADDRESS}:{number}/{token}/"
        with ExitStack() as left:
            file = left.enter_context(redirect_file(address)) if browser else None
            opened = (lambda: None) if file is None else partial(file.unlink, missing_ok=True)
            app, worker = make_app(explored, number, token, opened)
            print(f"{address}\nopen it in a browser on this machine; Ctrl-C ends it", flush=True)
            if file is not None:
                # In a thread: a browser that runs in the terminal would have to end before the server begins.
                threading.Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()
            try:
                uvicorn.Server(server_config(app)).run(sockets=[listening])
            except KeyboardInterrupt:
                print()
            finally:
                worker.close()
    return 0


def server_config(app: Any) -> Any:
    """Serve the page by uvicorn. Malformed requests, and clients that hang up, print nothing."""
    import uvicorn

    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )


@contextmanager
def redirect_file(address: str) -> Iterator[Path]:
    """A page that leads to an address, which only this account can read, in a folder that is removed afterwards.

    Every account of a machine can read the arguments of a browser, and the address holds the token.
    """
    with tempfile.TemporaryDirectory(prefix="scorefold-", ignore_cleanup_errors=True) as folder:
        file = Path(folder, "open.html")
        text = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">'
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
            opened.write(f'{text}<title>Scorefold explore</title><a href="{address}">Open the page</a>\n')
        yield file
