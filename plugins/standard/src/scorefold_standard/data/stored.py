"""Points that stay in their files, in one or several: their digest, and the blocks that are read are in memory."""

from __future__ import annotations

import copy
import glob
import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from scorefold.artefacts import digest_file
from scorefold.errors import DataError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAGIC = re.compile(r"[*?[]")


def matching_files(pattern: str, what: str) -> list[Path]:
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


def unchanged_files(files: Collection[Path]) -> Callable[[Path], None]:
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


Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StoredBlock:
    """Rows of a file that are read at once: ``rows`` of them from row ``start`` on; ``place`` is where the format
    finds them, such as the number of a row group."""

    path: Path
    start: int
    rows: int
    place: int = 0


class StoredPoints:
    """Points (N, *E) in blocks, indexed by slices and by integers (n,) from 0 on.

    ``read`` gives the points of a block, an array (rows, *E) of one dtype, the same at every call and from any thread.
    As many blocks stay in memory as fit into ``memory`` MiB, two at least; ``shuffle`` mixes half of them at a time.
    Raises ``DataError`` where a file is another one than in the beginning.

    Example:
        >>> import numpy as np
        >>> read = lambda block: np.arange(block.start, block.start + block.rows)[:, None]
        >>> points = StoredPoints(read, [StoredBlock(Path("a"), 0, 3), StoredBlock(Path("a"), 3, 2)], memory=1)
        >>> points.shape, points[[4, 0]].tolist()
        ((5, 1), [[4], [0]])
    """

    def __init__(self, read: Callable[[StoredBlock], Array], blocks: Sequence[StoredBlock], memory: float) -> None:
        self._read, self._blocks = read, blocks
        self._starts = np.concatenate([[0], np.cumsum([block.rows for block in blocks])])
        self._files = {block.path for block in blocks}
        self._check = unchanged_files(self._files)
        first = read(blocks[0])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *first.shape[1:])
        self.dtype = first.dtype
        self.block_bytes = max(block.rows for block in blocks) * max(1, first[:1].nbytes)
        self._together = max(1, int(memory * 2**19 // self.block_bytes))
        self._kept: OrderedDict[int, Future[Array]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of numbers."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: int) -> StoredPoints:
        """The same points as (N, *E'), with as many coordinates."""
        other = copy.copy(self)
        other.shape = shape
        return other

    def shuffle(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Positions of rows (n,) in a random order that reads each block once.

        The blocks come in a random order, and the rows of each window of them are mixed. With the blocks of a window
        and of the next in memory, none is read again.
        """
        import torch

        from scorefold.data import shuffled

        order = shuffled(len(rows), generator).cpu()
        window = shuffled(len(self._blocks), generator).cpu() // self._together
        blocks = torch.from_numpy(self._block_of(rows[order].numpy()))
        return order[window[blocks].argsort(stable=True)]

    def _block_of(self, rows: Array) -> Array:
        """The number of the block that holds each of some rows (n,)."""
        return np.searchsorted(self._starts, rows, side="right") - 1

    def where(self, row: int) -> str:
        """A row for an error: its number, and where there are several files, which of them and its number there."""
        return str(row) if len(self._files) == 1 else f"{row} ({self._in_file(row)})"

    @property
    def rows(self) -> Sequence[object]:
        """Names of the rows: the number, or the file and the number in it."""
        return range(len(self)) if len(self._files) == 1 else NamedRows(len(self), self._in_file)

    def _in_file(self, row: int) -> str:
        number = int(self._block_of(np.asarray(row)))
        block = self._blocks[number]
        return f"row {row - int(self._starts[number]) + block.start} of {block.path}"

    def forget(self) -> None:
        """Keep no block in memory any longer; they are read again where they are needed."""
        with self._lock:
            self._kept.clear()

    def __getitem__(self, rows: slice | Iterable[int] | Array) -> Array:
        places = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        number = self._block_of(places)
        order = np.argsort(number, kind="stable")
        each, begins = np.unique(number[order], return_index=True)
        for block, mine in zip(each.tolist(), np.split(order, begins[1:]), strict=False):
            inside = places[mine] - self._starts[block]
            found[mine] = (
                self._block(block)[inside].reshape(len(mine), *self.shape[1:]).astype(self.dtype, casting="safe")
            )
        return found

    def _block(self, number: int) -> Array:
        """A block, read by the first thread that needs it; the others wait."""
        block = self._blocks[number]
        self._check(block.path)  # reading a mapped file beyond an end that has moved would end the process
        with self._lock:
            future = self._kept.get(number)
            mine = future is None
            if future is None:
                future = self._kept[number] = Future()
                while len(self._kept) > 2 * self._together:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(number)
        if mine:
            try:
                future.set_result(self._read(block))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(number, None)
                future.set_exception(error)
        return future.result()


@dataclass(frozen=True)
class NamedRows(Sequence[object]):
    """``length`` rows, each called ``name(row)``: names that are made when they are asked for.

    >>> list(NamedRows(2, "row {}".format))
    ['row 0', 'row 1']
    """

    length: int
    name: Callable[[int], object]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, row: int) -> object: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[object]: ...
    def __getitem__(self, row: int | slice) -> object:
        found = range(self.length)[row]
        return self.name(found) if isinstance(found, int) else [self.name(each) for each in found]
