"""Data in several files: which files a pattern names, in which order, and the digest of them all."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from scorefold.artefacts import digest_file
from scorefold.errors import DataError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAGIC = re.compile(r"[*?[]")


def files_of(pattern: str, what: str) -> list[Path]:
    """The files that a path names, in the order of their names as text: part-10 comes before part-2.

    ``*``, ``?`` and ``[...]`` stand for any characters of one name, and ``{000..011}`` for each of the numbers, all of
    which have to be there; a path that exists is that file. ``what`` says what the files hold, for errors. Raises
    ``DataError`` where there is no such file, where one is a folder or a link to nothing, where two names lead to one
    file, and where the files end differently.
    """
    path = Path(pattern).expanduser()
    names = [str(path)] if path.exists() else _numbered(str(path))
    found = sorted(file for each in names for file in _matching(each, what))
    own: dict[tuple[int, int], Path] = {}
    for file in found:
        facts = file.stat()
        first = own.setdefault((facts.st_dev, facts.st_ino), file)
        if first is not file:
            raise DataError(
                f"{first} and {file} are one file under two names, whose rows would count twice",
                hint="remove one of them, or choose a pattern that leaves one out",
            )
        if file.suffix.lower() != found[0].suffix.lower():
            raise DataError(
                f"{pattern} names files of several formats, {found[0].name} and {file.name}; expected one",
                hint=f"end the pattern with {found[0].suffix or file.suffix}",
            )
    return found


def digest_files(files: Sequence[Path]) -> str:
    """The SHA-256 of files in their order: of the name and the content of each."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(f"{file.name}:{digest_file(file)}\n"))
    return digest.hexdigest()


def unchanged(files: Collection[Path]) -> Callable[[Path], None]:
    """A check that raises ``DataError`` where one of these files is another one, or gone, since it was opened."""

    def facts(file: Path) -> tuple[int, int] | None:
        try:
            found = file.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    before = {file: facts(file) for file in files}

    def check(file: Path) -> None:
        if (now := facts(file)) != before[file]:
            what = "is gone" if now is None else "was written to"
            raise DataError(
                f"{file} {what} since it was opened; expected files that do not change while they are read",
                hint="wait until the files are complete, and run again",
            )

    return check


def _numbered(pattern: str) -> Iterator[str]:
    """A pattern with each ``{000..011}`` replaced with its numbers, as wide as the first is written."""
    range_ = _RANGE.search(pattern)
    if range_ is None:
        yield pattern
        return
    first, last = range_.groups()
    if int(first) > int(last):
        raise DataError(f"{range_.group()} in {pattern} counts no numbers", hint=f"{{{last}..{first}}}")
    before, after = pattern[: range_.start()], pattern[range_.end() :]
    for number in range(int(first), int(last) + 1):
        yield from _numbered(f"{before}{number:0{len(first)}d}{after}")


def _matching(pattern: str, what: str) -> list[Path]:
    """The files that a pattern without numbers names; all of them are files."""
    files = [Path(name) for name in _names(pattern, what)]
    for file in files:
        if not file.is_file():
            folder = file.is_dir()
            kind = "is a folder" if folder else "is a link to nothing" if file.is_symlink() else "does not exist"
            raise DataError(
                f"{file} {kind}; expected a file of {what}",
                hint=f"name the files in it, such as {file}/*.npy"
                if folder and what == "points"
                else "a relative path starts at the run file, elsewhere at the working folder",
            )
    return files


def _names(pattern: str, what: str) -> list[str]:
    if not _MAGIC.search(pattern) or Path(pattern).exists():
        return [pattern]
    if "**" in pattern:
        raise DataError(
            f"** in {pattern} would look in all folders below, through links too; expected one * for each folder",
            hint=pattern.replace("**", "*"),
        )
    found = glob.glob(pattern)
    if not found:
        raise DataError(
            f"no file is called {pattern}; expected files of {what}",
            hint="a relative path starts at the run file, elsewhere at the working folder; * stands for any characters "
            "of one name",
        )
    return found
