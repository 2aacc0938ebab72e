"""What a reader of one run would have to read: the functions, files and lines of ours that it executes.

    python benchmarks/walk.py [RUN_FILE] [--json | --write]

Runs the file (the dimension of digits unless one is named) in an empty folder under coverage.py. A function counts
where a line of its body ran, a file where one of its functions did. Lines are those that ran, in functions or not, and
all lines of those files. Below stand the files and lines that each package of this checkout has, and its tests.
``--write`` puts both tables into ``docs/architecture.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MEMBERS = sorted(file.parent for pattern in ("*", "plugins/*") for file in ROOT.glob(f"{pattern}/pyproject.toml"))
SETTINGS = f"--rcfile={ROOT / 'pyproject.toml'}"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- counts, by make counts -->", "<!-- end of the counts -->"
COUNTED = ("functions", "files", "executed lines", "lines of the files")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run_file", nargs="?", type=Path, default=ROOT / "examples" / "digits-dimension.yaml")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/architecture.md anew")
    given = parser.parse_args()
    walked, sizes = walk(given.run_file.resolve()), sizes_of_members()
    if given.json:
        print(json.dumps({"walk": walked, "sizes": sizes}, indent=1))
        return 0
    if given.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_tables(text, tables(walked, sizes)), encoding="utf-8")
        return 0
    print(f"{'package':<34}" + "".join(f"{name:>20}" for name in COUNTED))
    for package, counts in [
        *walked.items(),
        ("all", {name: sum(c[name] for c in walked.values()) for name in COUNTED}),
    ]:
        print(f"{package:<34}" + "".join(f"{counts[name]:>20,}" for name in COUNTED))
    print(f"\n{'folder':<34}{'files':>20}{'lines':>20}")
    for folder, (files, lines) in sizes.items():
        print(f"{folder:<34}{files:>20,}{lines:>20,}")
    return 0


def tables(walked: dict[str, dict[str, int]], sizes: dict[str, tuple[int, int]]) -> str:
    """Both tables in Markdown."""
    total = {name: sum(counts[name] for counts in walked.values()) for name in COUNTED}
    lines = [f"| package | {' | '.join(COUNTED)} |", "|---|" + "---|" * len(COUNTED)]
    for package, counts in [*walked.items(), ("all", total)]:
        lines.append(f"| `{package}` | {' | '.join(f'{counts[name]:,}' for name in COUNTED)} |")
    lines += ["", "| folder | files | lines |", "|---|---|---|"]
    lines += [f"| {folder} | {files:,} | {count:,} |" for folder, (files, count) in sizes.items()]
    return "\n".join(lines).replace("`all`", "all")


def with_tables(page: str, written: str) -> str:
    """A page with these tables between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{written}\n{END}{after}"


def walk(run_file: Path) -> dict[str, dict[str, int]]:
    """What a run of the file executes, by package."""
    with tempfile.TemporaryDirectory() as folder:
        surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(str(member / "src") for member in MEMBERS)}
        for arguments in (
            ["run", SETTINGS, "-m", "scorefold_registry.cli", "run", str(run_file)],
            ["json", SETTINGS, "-q", "-o", "read.json"],
        ):
            command = [sys.executable, "-m", "coverage", *arguments]
            done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        files = json.loads((Path(folder) / "read.json").read_text())["files"]
        found: dict[str, dict[str, int]] = {}
        for name, report in files.items():
            path = (Path(folder) / name).resolve()
            # The lines of a file outside any function are under the empty name.
            ran = sum(bool(one["executed_lines"]) for name, one in report["functions"].items() if name)
            if not ran:
                continue
            package = path.relative_to(ROOT).parts[path.relative_to(ROOT).parts.index("src") + 1]
            counts = found.setdefault(package, dict.fromkeys(COUNTED, 0))
            whole = len(path.read_text().splitlines())
            for what, count in zip(COUNTED, (ran, 1, len(report["executed_lines"]), whole), strict=True):
                counts[what] += count
    return dict(sorted(found.items()))


def sizes_of_members() -> dict[str, tuple[int, int]]:
    """Files of Python and their lines: of each member's code, room by room for the registry, and of all tests."""
    sizes = {}
    for member in MEMBERS:
        sizes[str(member.relative_to(ROOT))] = _size(member / "src")
        if member.name == "registry":
            rooms = [path for path in sorted((member / "src" / "scorefold_registry").iterdir()) if _size(path)[0]]
            sizes |= {f"registry: {room.name}": _size(room) for room in rooms if room.is_dir()}
    tests = [_size(folder) for folder in (ROOT / "tests", *(member / "tests" for member in MEMBERS))]
    sizes["tests of all"] = (sum(files for files, _ in tests), sum(lines for _, lines in tests))
    return sizes


def _size(folder: Path) -> tuple[int, int]:
    files = list(folder.rglob("*.py"))
    return len(files), sum(len(file.read_text().splitlines()) for file in files)


if __name__ == "__main__":
    sys.exit(main())
