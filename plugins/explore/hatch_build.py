"""Builds the page into the package: npm brings the libraries, esbuild makes one file, their licences stand next to it.

A bundle that was built from these very sources is taken as it is, so that a source archive, which holds it, needs no
Node. ``python hatch_build.py`` builds it in a checkout.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
PAGE = ROOT / "src/scorefold_explore/page"
BUILT = PAGE / "built"
NEEDS = "needs Node 20 or later with npm to build its page; install them (apt install npm), or take a published wheel"


def digest() -> str:
    """What the bundle is made from: the page's own scripts, and the versions of the libraries."""
    files = [*sorted(PAGE.glob("*.js")), ROOT / "package.json", ROOT / "package-lock.json"]
    found = hashlib.sha256()
    for file in files:
        found.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()


def is_built() -> bool:
    """True where the bundle was built from these sources."""
    mark = BUILT / "digest.txt"
    return (BUILT / "explore.js").is_file() and mark.is_file() and mark.read_text() == digest()


def build() -> None:
    """Make the bundle where it is not made yet. Ends the build with one line where npm is missing or fails."""
    if is_built():
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(f"scorefold-explore {NEEDS}")
    _run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"])
    BUILT.mkdir(exist_ok=True)
    esbuild = str(ROOT / "node_modules/.bin/esbuild")
    options = [
        "--bundle",
        "--minify",
        "--target=es2022",
        "--legal-comments=none",
        "--charset=utf8",
        "--log-level=error",
    ]
    meta = ROOT / "node_modules/bundle.json"
    _run([esbuild, str(PAGE / "main.js"), *options, f"--outfile={BUILT / 'explore.js'}", f"--metafile={meta}"])
    (BUILT / "licences.txt").write_text(licences(json.loads(meta.read_text())), encoding="utf-8")
    (BUILT / "digest.txt").write_text(digest())


def licences(meta: dict[str, Any]) -> str:
    """The licence of each library that has a byte in the bundle, in full. Raises ``SystemExit`` for one without."""
    names = {found[1] for name in meta["inputs"] if (found := re.search(r"node_modules/((?:@[^/]+/)?[^/]+)/", name))}
    parts = []
    for name in sorted(names):
        folder = ROOT / "node_modules" / name
        facts = json.loads((folder / "package.json").read_text())
        texts = sorted(file for file in folder.iterdir() if re.match(r"licen[cs]e", file.name, re.I) and file.is_file())
        if not texts and facts.get("license") != "MIT":
            sys.exit(f"{name} in the page has no licence file; expected one to hand on")
        text = (
            texts[0].read_text() if texts else f"{facts['license']} licence; {facts.get('homepage') or facts['name']}"
        )
        parts.append(f"{name} {facts['version']} ({facts.get('license')})\n\n{text.strip()}\n")
    return "The page of scorefold explore holds these libraries.\n\n" + f"\n{'-' * 80}\n\n".join(parts)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        name = Path(command[0]).name
        sys.exit(f"scorefold-explore: {name} failed, so its page is not built: {(done.stderr or done.stdout).strip()}")


if __name__ == "__main__":
    build()
else:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class PageHook(BuildHookInterface):  # type: ignore[type-arg]
        """What hatchling calls before it collects files."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            # Tests of everything but the page run from a checkout without it; a wheel always has it.
            if version != "editable" or os.environ.get("SCOREFOLD_EXPLORE_PAGE") != "none":
                build()
