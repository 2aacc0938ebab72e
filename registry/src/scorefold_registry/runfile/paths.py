"""Where the paths of a run file start: at the file that they stand in, or, given as options, at the working folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from scorefold.errors import ConfigError
from scorefold_registry.components.messages import RawPath
from scorefold_registry.components.paths import Anchor, absolute, replaced
from scorefold_registry.runfile.reader import RunFile
from scorefold_registry.runfile.yaml_reader import DataPath, parse, yaml_text


def folder_of(run: RunFile, place: DataPath) -> Path:
    """The folder that a relative path at a place starts at: that of the file it is written in, of the run file or of
    its base; the working folder for what an option such as ``--set`` says."""
    written = run.source.place(place)
    if written.option is not None:
        return Path.cwd()
    return run.folder if written.file is None else Path(written.file).parent


def from_file(run: RunFile, base: DataPath, found: set[str]) -> Anchor:
    """Makes the paths of a mapping absolute, which stands at ``base`` in the run file; ``found`` gets each.

    A path that leads to nothing from its file, and to something from the working folder, becomes a problem of the file.
    """

    def anchor(place: RawPath, path: Path) -> str:
        where = (*base, *place)
        folder = folder_of(run, where)
        full = absolute(path, folder)
        here = absolute(path, Path.cwd())
        if full != here and _leads_somewhere(here) and not _leads_somewhere(full):
            problem: ConfigError = run.source.error(
                f"{path} starts at the folder of the run file, and there is no {full}",
                where,
                hint=f"it is in the working folder: write {os.path.relpath(here, folder)}",
            )
            problem.code = "path"
            run.problems.append(problem)
        found.add(full)
        note_base(run, where, full)
        return full

    return anchor


def note_base(run: RunFile, place: DataPath, full: str) -> None:
    """Notes how a path that starts at the file's base is written from the file itself."""
    written = run.source.place(place)
    if written.option is None and written.file is not None and Path(written.file).parent != run.folder:
        run.of_base[place] = os.path.relpath(full, run.folder)


def put_together(run: RunFile) -> None:
    """Writes the paths of the base into the text of a file that extends one in another folder, from the file itself."""
    if not run.of_base:
        return
    comment, _, text = run.text.partition("\n")
    data = parse(text, str(run.path)).data
    for place, path in run.of_base.items():
        data = replaced(data, place, path)
    run.text = f"{comment}\n{yaml_text(data)}"


def _leads_somewhere(path: str) -> bool:
    """Whether there is such a file or folder, or one that a pattern names."""
    return os.path.exists(path) or any(_matches(path))


def _matches(path: str) -> Iterator[Path]:
    with suppress(OSError, ValueError, NotImplementedError):
        yield from Path(path).parent.glob(Path(path).name.partition("{")[0] + "*" * ("{" in path))
