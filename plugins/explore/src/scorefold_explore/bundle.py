"""The files of the page, as they stand in the package: built from ``page/`` by ``hatch_build.py`` with esbuild."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scorefold.errors import ScorefoldError

PAGE = Path(__file__).parent / "page"
BUILT = PAGE / "built"


@dataclass(frozen=True)
class PageFile:
    """A file that the server sends, and its media type."""

    path: Path
    media: str

    def read(self) -> bytes:
        """Its content. Raises ``ScorefoldError`` where the page was not built."""
        return self._content

    @cached_property
    def _content(self) -> bytes:
        check_built()
        return self.path.read_bytes()


FILES = {
    "index.html": PageFile(PAGE / "index.html", "text/html"),
    "style.css": PageFile(PAGE / "style.css", "text/css"),
    "explore.js": PageFile(BUILT / "explore.js", "text/javascript"),
    "licences.txt": PageFile(BUILT / "licences.txt", "text/plain"),
}
"""All files that the server sends."""


def check_built() -> None:
    """Raises ``ScorefoldError`` where the bundle is missing: in a checkout whose page was never built."""
    if not (BUILT / "explore.js").is_file():
        raise ScorefoldError(
            "the page of scorefold explore is not built",
            hint="in a checkout, with Node and npm: pip install ./plugins/explore (a published wheel has it)",
        )
