"""Tests what a change touches, for at most 90 seconds: ``make quick``.

What changed is what differs from the last commit, or the last commit itself where nothing does. Of a module the tests
of its member that name it are taken, of a test file itself, and always the tests of the house and of words. When time
is over what is left is skipped and counted: ``make test`` is the whole.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS, STARTS = 90, 70
"""How long all of it may take, and after how long no other test is started."""
ALWAYS = ("tests/test_house.py", "tests/test_words.py")


def git(*arguments: str) -> list[str]:
    """The lines that a git command prints."""
    command = ["git", "-c", "safe.directory=*", *arguments]  # the checkout may belong to another user
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.split("\n") if line]


def changed() -> list[Path]:
    """The files that differ from the last commit, new ones too, or the files of the last commit."""
    names = git("diff", "--name-only", "HEAD") + git("ls-files", "--others", "--exclude-standard")
    names = names or git("diff", "--name-only", "HEAD~1", "HEAD")
    return [ROOT / name for name in names if (ROOT / name).exists()]


def tests_of(file: Path) -> list[Path]:
    """The test files that a changed file touches, nearest first."""
    if file.name.startswith("test_") and file.suffix == ".py":
        return [file]
    member = next((folder for folder in file.parents if (folder / "pyproject.toml").exists()), ROOT)
    if file.suffix != ".py" or member == ROOT or "src" not in file.parts:
        return []
    parts = file.relative_to(member / "src").with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    package = module.rpartition(".")[0]
    names = (f"from {module} import", f"import {module}", f"from {package} import {parts[-1]}", f"{module}:")
    own = [test for test in sorted((member / "tests").rglob("test_*.py")) if any(n in test.read_text() for n in names)]
    return own or sorted((member / "tests").glob("test_*.py"))


def main() -> int:
    """Run them; the status is pytest's status."""
    until = time.time() + STARTS
    tests = dict.fromkeys(test for file in changed() for test in tests_of(file))
    chosen = [str(test.relative_to(ROOT)) for test in tests] + [name for name in ALWAYS if ROOT / name not in tests]
    print(f"{len(chosen)} files of tests, {SECONDS} s at most")
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", "-q", "--until", str(until)]
    return subprocess.run([*command, *chosen], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
