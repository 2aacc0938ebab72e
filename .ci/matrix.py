"""Run `make test` in an environment of its own for every Python that is installed, or with the lowest versions named.

    python .ci/matrix.py                   each of 3.11 to 3.14 that is found, with the newest torch that pip finds
    python .ci/matrix.py 3.13              this one
    python .ci/matrix.py --lowest          Python 3.11 with the lowest version of every requirement

Prints a line for each environment: versions, counts and minutes. Environments stand in .venvs/ and are kept.
Exits with 1 where a run failed, or where no Python was found.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACE = ROOT / ".venvs"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SHOWN = ("torch", "torchvision", "numpy", "pydantic", "scikit-learn", "pytest")
_VERSIONS = f"from importlib.metadata import version; print(', '.join(f'{{n}} {{version(n)}}' for n in {SHOWN!r}))"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pythons", nargs="*", metavar="VERSION", help="such as 3.13; all that are found by default")
    parser.add_argument("--lowest", action="store_true", help="install the lowest version of every requirement")
    options = parser.parse_args()
    lines, failed = [], False
    for version in options.pythons or (PYTHONS[:1] if options.lowest else PYTHONS):
        python = find(version)
        if python is None:
            lines.append(f"Python {version}: not found, not tested")
            failed |= bool(options.pythons)
            continue
        line, status = tested(version, python, lowest=options.lowest)
        lines.append(line)
        failed |= status != 0
    print(*lines, sep="\n")
    return int(failed or all("not tested" in line for line in lines))


def find(version: str) -> str | None:
    """The first Python of this version that runs, from the PATH or pyenv."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for file in [*(folder / f"python{version}" for folder in folders), *sorted(pyenv.glob(f"{version}.*/bin/python"))]:
        if file.is_file() and subprocess.run([file, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return str(file)
    return None


def tested(version: str, python: str, *, lowest: bool) -> tuple[str, int]:
    """The line of an environment, and the exit status of its `make test`."""
    PLACE.mkdir(exist_ok=True)
    name = f"{version}-lowest" if lowest else version
    venv, environment = PLACE / name, dict(os.environ)
    if lowest:
        constraints = PLACE / "lowest.txt"
        constraints.write_text("".join(f"{requirement}=={floor}\n" for requirement, floor in floors()))
        environment["PIP_CONSTRAINT"] = str(constraints)
    make = ["make", f"PYTHON={python}", f"VENV={venv}"]
    print(f"== {name}: installing into {venv.relative_to(ROOT)}", flush=True)
    installed = subprocess.run([*make, f"{venv}/installed-test"], cwd=ROOT, env=environment)
    if installed.returncode != 0:
        return f"Python {name}: the installation failed", installed.returncode
    start = time.monotonic()
    log = PLACE / f"{name}.log"
    with log.open("w") as out:
        status = subprocess.run([*make, "test"], cwd=ROOT, env=environment, stdout=out, stderr=out).returncode
    minutes = (time.monotonic() - start) / 60
    counts = re.findall(r"^=*\s?(\d+ (?:passed|failed|errors?|skipped)\b.*?)(?: in [\d.]+s.*)?$", log.read_text(), re.M)
    versions = subprocess.run([venv / "bin/python", "-c", _VERSIONS], capture_output=True, text=True).stdout.strip()
    result = counts[-1] if counts else f"no summary, exit status {status}"
    return f"Python {name}: {versions}: {result}; {minutes:.1f} min (log: {log.relative_to(ROOT)})", status


def floors() -> Iterator[tuple[str, str]]:
    """Each requirement of the workspace with the highest of the lowest versions that its members name."""
    lowest: dict[str, str] = {}
    for file in [ROOT / "pyproject.toml", *ROOT.glob("*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")]:
        project = tomllib.loads(file.read_text())["project"]
        extras = project.get("optional-dependencies", {})
        for requirement in [*project.get("dependencies", []), *(each for extra in extras.values() for each in extra)]:
            if found := re.match(r"([\w.-]+)(?:\[.*?\])?>=([\d.]+)", requirement):
                name = re.sub("[-_.]+", "-", found[1]).lower()
                lowest[name] = max(lowest.get(name, "0"), found[2], key=lambda v: [int(part) for part in v.split(".")])
    yield from sorted(lowest.items())


if __name__ == "__main__":
    sys.exit(main())
