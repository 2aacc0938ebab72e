"""Build every distribution into dist/, check them, and try them in an empty environment outside the repository.

    python .ci/dist.py            build, check, install, the demo, a third party's plugin
    python .ci/dist.py --build    build and check alone

Each step prints what it found; the first that fails ends it with exit status 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
LARGEST = 1200  # MB of an environment with scorefold and its plugins on CPU torch, after the demo

EXTRAS = {
    "images": ("score: {use: score:denoising, inputs: {data: data}}", "scorefold-standard[images]"),
    "parquet": ("table: {use: data:array, config: {path: rows.parquet}}", "scorefold-standard[parquet]"),
}
"""A stage that needs an extra, and the extra that its error has to name."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", action="store_true", help="build and check, and install nothing")
    options = parser.parse_args()
    build()
    if not options.build:
        with tempfile.TemporaryDirectory(prefix="scorefold-dist-") as folder:
            try_out(Path(folder))
    return 0


def build() -> None:
    """A wheel and a source archive of every member and of the whole, as the index takes them."""
    shutil.rmtree(DIST, ignore_errors=True)
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    members = [path.parent for each in workspace["members"] for path in sorted(ROOT.glob(f"{each}/pyproject.toml"))]
    for member in [*members, ROOT]:
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST, member])
    wheels, archives = sorted(DIST.glob("*.whl")), sorted(DIST.glob("*.tar.gz"))
    if not len(wheels) == len(archives) == len(members) + 1:
        sys.exit(f"{len(wheels)} wheels and {len(archives)} source archives of {len(members) + 1} distributions")
    run([sys.executable, "-m", "twine", "check", "--strict", *wheels, *archives])
    # The whole has no code of its own, which W007 and W008 would report.
    run([sys.executable, "-m", "check_wheel_contents", "--ignore", "W007,W008", *wheels])
    print(f"built and checked {len(wheels)} wheels and as many source archives in {DIST.relative_to(ROOT)}")


def try_out(folder: Path) -> None:
    """Install the wheels into an empty environment, and use them there as a newcomer would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SCOREFOLD"))}
    run([sys.executable, "-m", "venv", folder / "venv"])
    scripts = folder / "venv/bin"
    pip = [scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    pip += ["--find-links", DIST]
    run([*pip, "scorefold"], folder, environment)
    scorefold = scripts / "scorefold"
    run([scorefold, "plugins", "doctor"], folder, environment)
    start = time.monotonic()
    answer = run([scorefold, "demo", "--quiet"], folder, environment)
    print(f"scorefold demo: {time.monotonic() - start:.0f} s\n{answer.strip()}")
    size = sum(file.stat().st_blocks * 512 for file in (folder / "venv").rglob("*") if not file.is_symlink()) // 2**20
    print(f"the environment: {size} MB")
    if size > LARGEST:
        sys.exit(f"an environment of {size} MB; expected {LARGEST} at most")
    (folder / "rows.csv").write_text("x,y,z\n" + "".join(f"{i % 17},{i % 13},{i}\n" for i in range(200)))
    run([scorefold, "inspect", "rows.csv"], folder, environment)
    (folder / "rows.parquet").write_bytes(b"PAR1")
    for extra, (stage, named) in EXTRAS.items():
        text = f"version: 1\nname: extra\nstages:\n  data: {{use: data:digits}}\n  {stage}\n"
        (folder / "extra.yaml").write_text(text)
        said = run([scorefold, "run", "extra.yaml", "--quiet"], folder, environment, status=2)
        if f"pip install '{named}'" not in said:
            sys.exit(f"without the extra {extra}, {stage} ends without naming {named}:\n{said}")
    print(f"errors name the extras {', '.join(EXTRAS)}")
    run([scorefold, "new", "my-ratio", "--kind", "estimator"], folder, environment)
    run([*pip, folder / "scorefold-my-ratio"], folder, environment)
    checked = run([scorefold, "plugins", "check", "my-ratio"], folder, environment)
    print("a third party's plugin:", re.sub(r"\s+", " ", checked.strip().splitlines()[-1]))


def run(
    command: Sequence[str | Path], cwd: Path = ROOT, environment: dict[str, str] | None = None, status: int = 0
) -> str:
    """What a command prints; ends this one where it has another exit status."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode != status:
        words = " ".join(Path(part).name if isinstance(part, Path) else part for part in command)
        sys.exit(f"{words} ended with {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
