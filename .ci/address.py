"""Write the project's address into every member, as the index shows it: python .ci/address.py https://HOST/OWNER/NAME

The repository names no address, since a copy of it may stand anywhere: the release workflow writes its own before it
builds.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def urls(address: str, place: str) -> str:
    """The table of addresses of the member in the folder ``place``, from the address of the repository. Reports of runs
    link to its documentation. Raises ``SystemExit`` for what is no address."""
    if not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", address):
        sys.exit(f"given {address!r}; expected the repository's address, such as https://HOST/OWNER/NAME")
    pages = {
        "Homepage": address,
        "Documentation": f"{address}/tree/main/{place if place != '.' else 'docs'}",
        "Changelog": f"{address}/blob/main/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    return "[project.urls]\n" + "".join(f'{name} = "{page}"\n' for name, page in pages.items())


def write(address: str, root: Path = ROOT) -> list[Path]:
    """Write the addresses into each member's ``pyproject.toml``, in the place of those that are there; the files."""
    files = [file for pattern in ("", "*/", "plugins/*/") for file in sorted(root.glob(f"{pattern}pyproject.toml"))]
    for file in files:
        text = re.sub(r"\n\[project\.urls\]\n(?:.+\n)*", "", file.read_text())
        head, section, rest = text.partition("\n[tool.")
        table = urls(address, file.parent.relative_to(root).as_posix())
        file.write_text(f"{head}\n{table}{section}{rest}")
    return files


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{len(write(sys.argv[1]))} members have the address {sys.argv[1]}")
