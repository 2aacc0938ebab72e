"""The start of a published site, on which each version of the documentation has a folder of its own.

``python -m scorefold_site.versions FOLDER`` writes ``index.html``, which opens the newest release, and
``versions.html``, the list of all, from the folders that are there: ``0.2.0`` and the like, and ``dev`` for what is not
released.
"""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.version import Version

PAGE = "versions.html"
UNRELEASED = "dev"

_HEAD = '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">'


def write(folder: Path) -> list[str]:
    """Writes both pages; gives the versions, the newest release first and ``dev`` last.

    Raises ``SystemExit`` where no folder holds a site, ``InvalidVersion`` for one whose name is no version.
    """
    names = {site.parent.name for site in folder.glob("*/index.html")}
    found = sorted(names - {UNRELEASED}, key=Version, reverse=True) + sorted(names & {UNRELEASED})
    if not found:
        sys.exit(f"no site in {folder}: given none; expected folders such as {folder}/0.2.0 with an index.html")
    rows = "\n".join(f'<li><a href="{name}/index.html">{_title(name)}</a></li>' for name in found)
    (folder / PAGE).write_text(
        f"{_HEAD}\n<title>Versions of Scorefold</title>\n<h1>Versions of Scorefold</h1>\n<ul>\n{rows}\n</ul>\n"
    )
    (folder / "index.html").write_text(
        f'{_HEAD}\n<meta http-equiv="refresh" content="0; url={found[0]}/index.html">\n<title>Scorefold</title>\n'
        f'<p>The documentation of <a href="{found[0]}/index.html">{_title(found[0])}</a>.\n'
    )
    return found


def _title(name: str) -> str:
    return "Not released yet" if name == UNRELEASED else f"Scorefold {name}"


if __name__ == "__main__":
    print("versions:", ", ".join(write(Path(sys.argv[1]))))
