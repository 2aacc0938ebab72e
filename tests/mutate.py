"""Small wrong changes to formulas, one at a time: the tests must notice each of them (``make mutate``).

    python tests/mutate.py [--count N] [--seed N] [--only TEXT] [--part TEXT] [--written] [--list]
                           [--results FILE] [--tests FILE ...] [--steps N] [--budget SECONDS]

Changes come from ``formula_changes.py``: a sample, and the written ones.
Each is made in a copy of the last commit. Tests of its package that name the module, or a function or class of it, run
once without a change, which shows what every test runs and how long it takes. Those that run the changed lines are then
run until one fails, the quickest first. Where none does, all tests of the package are measured and run in the same way,
and then tests of other packages that name the module.
What survives is in ``survivors.toml`` with the reason why no test can notice it, or it counts as unnoticed.
Heavy and slow tests are left out. Seconds are of the processor.
Each answer is added to the results at once, and a run that was stopped goes on from there. A change is tried again
where its file is another, or where nothing noticed it and the commit is another. ``--tests`` runs these test files
alone, on what nothing has noticed. Progress goes to standard error, the table to standard output, as Markdown.
Exit status 1 where more than 5 % go unnoticed, or any written one.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from formula_changes import Change, sampled, written

ROOT = Path(__file__).parent.parent
BUDGET = 30.0
"""How many seconds of tests a change is given."""
SLOWER = 5
"""A change is noticed where its tests take this many times as long, and half a minute more."""
ALLOWED = 0.05
STEPS = (0, 1, 2)
"""Tests that name what is changed, all of its package, and tests of others; each where the last noticed nothing."""


def member(file: str) -> str:
    """The folder of the package that a file belongs to."""
    return file.partition("/src/")[0]


class Measured:
    """A plugin of pytest that notes which lines of a package each test runs, and how long each test that passes takes.

    Lines that fixtures of wider scope run count for every test of the file.
    """

    def __init__(self, coverage: Any) -> None:
        self._coverage = coverage
        self._test = ""
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._test = nodeid
        self._coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if not report.passed:
            self.failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[Any]:
        began = sum(os.times()[:4])
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = sum(os.times()[:4]) - began

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        if fixturedef.scope != "function":
            self._coverage.switch_context(self._test.partition("::")[0] + "::")
        try:
            return (yield)
        finally:
            self._coverage.switch_context(self._test)


def forked(work: Callable[[], int], limit: float) -> int | None:
    """The exit status of a function in a process of its own, None where it took more than ``limit`` processor seconds.

    A process that only waits is given ten times as long.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), resource.getrlimit(resource.RLIMIT_CPU)[1]))
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    until = time.monotonic() + 10 * limit
    try:
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return None if code == -signal.SIGXCPU else code
            time.sleep(0.02)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def run_tests(root: Path, log: Path, arguments: Sequence[str], plugins: Sequence[Any] = ()) -> int:
    """The exit status of pytest in the copy at ``root``; what it prints goes to ``log``. Only for forked processes."""
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(root)
    # Assertions as they are: pytest can't rewrite assertions of its own plugins that are imported already.
    plain = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain", "--no-header")
    return int(pytest.main([*plain, *arguments], [*plugins]))


def measure(root: Path, folder: Path, files: Sequence[str], tests: Sequence[str]) -> None:
    """Runs tests that may notice a change of ``files``; writes their seconds and the modules that they import."""
    from coverage import Coverage

    coverage = Coverage(str(folder / "coverage"), include=[str(root / file) for file in files], config_file=False)
    measured = Measured(coverage)

    def work() -> int:
        coverage.start()
        status = run_tests(root, folder / "log", tests, [measured])
        coverage.stop()
        coverage.save()
        passed = {name: seconds for name, seconds in measured.seconds.items() if name not in measured.failed}
        (folder / "measured").write_text(json.dumps([passed, sorted(measured.failed), sorted(sys.modules)]))
        return 0 if status < 2 else status

    if forked(work, 3600) != 0:
        raise SystemExit(f"the tests of {member(files[0])} did not run:\n{(folder / 'log').read_text()[-2000:]}")


def tests_of(root: Path, files: Sequence[str], step: int) -> list[str]:
    """The tests of a package that name what is in its changed ``files``, then all of its tests, then tests of others.

    These are files with the name of a module in them, of its own package also with the name of a function or a class.
    """
    folder = root / member(files[0]) / "tests"
    if step == 1:
        return [str(folder.relative_to(root))]
    names = {file.partition("/src/")[2].removesuffix(".py").replace("/", ".") for file in files}
    tests = set(folder.rglob("test_*.py"))
    if step == 0:
        bodies = [node for file in files for node in ast.parse((root / file).read_bytes()).body]
        names |= {node.name for node in bodies if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    else:
        tests = {test for each in ("*", "plugins/*") for test in root.glob(f"{each}/tests/**/test_*.py")} - tests
    named = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names))
    return sorted(str(test.relative_to(root)) for test in tests if named.search(test.read_text()))


def preload(modules: Sequence[str], files: Sequence[str]) -> None:
    """Imports what tests import beside the changed package, so that forked processes need not.

    Nothing else imports a plugin; of ours that may import core or the toolkit nothing is held.
    """
    base = member(files[0])
    ours = {"core": (), "toolkit": ("scorefold",)}.get(base, ("scorefold", "scorefold_toolkit", "scorefold_registry"))
    for name in modules:
        head = name.partition(".")[0]
        if "test" not in name and (head in ours or not head.startswith("scorefold")):
            with contextlib.suppress(BaseException):
                importlib.import_module(name)


def covering(change: Change, root: Path, folder: Path, seconds: dict[str, float], budget: float) -> dict[str, float]:
    """The tests that run a changed line and their seconds, the quickest first, as many as the budget allows.

    A line that only the import runs may matter to each test that runs any line of the file.
    """
    from coverage import CoverageData

    data = CoverageData(str(folder / "coverage"))
    data.read()
    by_line = data.contexts_by_lineno(str(root / change.file))
    ran = {name for line in change.lines for name in by_line.get(line, ()) if name}
    if not ran and any(line in by_line for line in change.lines):
        ran = {name for names in by_line.values() for name in names if name}
    chosen = sorted((s, name) for name, s in seconds.items() if name in ran or name.partition("::")[0] + "::" in ran)
    spent = itertools.accumulate(took for took, _ in chosen)
    return {name: took for (took, name), until in zip(chosen, spent, strict=True) if until < budget}


def noticed(change: Change, root: Path, folder: Path, seconds: dict[str, float]) -> str:
    """The first of the tests that notices a change, empty where none does."""
    if not seconds:
        return ""
    file, log = root / change.file, folder / "log"
    source = file.read_bytes()
    end = change.start + len(change.old.encode())
    file.write_bytes(source[: change.start] + change.new.encode() + source[end:])
    limit = 30 + SLOWER * sum(seconds.values())
    try:
        status = forked(lambda: run_tests(root, log, ["-x", *seconds]), limit)
    finally:
        file.write_bytes(source)
    if status == 0:
        return ""
    if status is None:
        return "(time)"
    lines = [line for line in log.read_text().split("\n") if line.startswith(("FAILED", "ERROR"))]
    if status != 1 and not lines:
        raise SystemExit(f"{change.name}: the tests did not run:\n{log.read_text()[-2000:]}")
    return lines[0].split(" ")[1].rpartition("/")[2] if lines else "(import)"


def try_member(
    chosen: Sequence[Change], root: Path, folder: Path, results: Results, step: int, given: argparse.Namespace
) -> int:
    """Tries the changes of one package, in a process that has imported what its tests import."""
    files = sorted({change.file for change in chosen})
    seconds: dict[str, float] = {}
    if asked := given.tests or tests_of(root, files, step):
        measure(root, folder, files, asked)
        seconds, failed, modules = json.loads((folder / "measured").read_text())
        for name in failed:
            print(f"fails without any change, and is left out: {name}", file=sys.stderr)
        preload(modules, files)
    for change in chosen:
        began = time.monotonic()
        test = noticed(change, root, folder, covering(change, root, folder, seconds, given.budget) if seconds else {})
        took = time.monotonic() - began
        print(f"{'noticed' if test else 'SURVIVED':<9}{took:6.1f} s  {change.name}\n{'':19}{test}", file=sys.stderr)
        if test or not given.tests:
            results.add(change, test, step)
    return 0


class Results:
    """What noticed each change, a line of JSON each in a file that a stopped run leaves behind."""

    def __init__(self, path: Path, commit: str) -> None:
        self._path, self._commit = path, commit

    def _key(self, change: Change) -> list[Any]:
        digest = hashlib.sha256((ROOT / change.file).read_bytes()).hexdigest()[:16]
        return [change.file, digest, change.start, change.old, change.new]

    def add(self, change: Change, test: str, step: int) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([self._key(change), self._commit, step, test]) + "\n")

    def of(self, chosen: Sequence[Change], step: int = STEPS[-1]) -> list[str | None]:
        """The test that noticed each change, None where the tests of a step have not been run."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        known = {
            json.dumps(key): test
            for key, commit, last, test in map(json.loads, lines)
            if test or (commit == self._commit and last >= step)
        }
        return [known.get(json.dumps(self._key(change))) for change in chosen]


def explained() -> dict[tuple[str, str, str], str]:
    """Why a change can't be noticed, by its file, its line, and the line that it becomes."""
    entries = tomllib.loads((ROOT / "tests" / "survivors.toml").read_text())["survivor"]
    return {(entry["file"], entry["line"], entry["becomes"]): entry["why"] for entry in entries}


def table(rows: Sequence[tuple[Change, str]], why: Sequence[str | None]) -> str:
    """Counts by package, and what survived, as Markdown."""
    lines = ["| package | changes | noticed | explained | unnoticed |", "|---|---|---|---|---|"]
    packages = sorted({member(change.file) for change, _ in rows})
    for name in [*packages, "all"]:
        own = [
            (test, reason) for (each, test), reason in zip(rows, why, strict=True) if name in (member(each.file), "all")
        ]
        survived = [reason for test, reason in own if not test]
        counts = len(own), len(own) - len(survived), len(survived) - survived.count(None), survived.count(None)
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    for (each, test), reason in zip(rows, why, strict=True):
        if not test:
            place = f"{each.file}:{each.lines[0]}"
            lines += ["", f"- `{place}`: {reason or 'UNNOTICED'}", f"  `{each.line}`", f"  `{each.becomes}`"]
    return "\n".join(lines)


def main() -> int:
    """Try written and sampled changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="how many changes are sampled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="changes whose 'file:line: old -> new' holds this text")
    parser.add_argument("--part", default="", help="only changes of files whose path holds this text")
    parser.add_argument("--written", action="store_true", help="the written changes too")
    parser.add_argument("--results", type=Path, help="a file that a stopped run goes on from")
    parser.add_argument("--tests", nargs="*", default=[], help="test files that are run in place of those that cover")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of tests that a change is given")
    parser.add_argument("--steps", type=int, default=len(STEPS), help="how many of the steps are taken")
    parser.add_argument("--list", action="store_true", help="print the changes, and try none")
    given = parser.parse_args()
    chosen = sampled(given.count, given.seed, given.only) + (written(given.only) if given.written else [])
    chosen = [each for each in chosen if given.part in each.file]
    if given.list:
        print("\n".join(each.name for each in chosen))
        return 0
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1"}
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        results = Results(given.results or Path(folder) / "results", commit.strip())
        root = Path(folder) / "copy"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", root, "HEAD"], cwd=ROOT, check=True)
        try:
            files = [file for pattern in ("*", "plugins/*") for file in root.glob(f"{pattern}/pyproject.toml")]
            paths = [str(file.parent / "src") for file in files]
            sys.path[:0] = paths
            os.environ["PYTHONPATH"] = os.pathsep.join(paths)
            for step in STEPS[:1] if given.tests else STEPS[: given.steps]:
                left = [each for each, test in zip(chosen, results.of(chosen, step), strict=True) if test is None]
                for name in sorted({member(change.file) for change in left}):
                    part = [each for each in left if member(each.file) == name]
                    room = Path(tempfile.mkdtemp(dir=folder))
                    if forked(partial(try_member, part, root, room, results, step, given), 1e6) != 0:
                        raise SystemExit(f"the changes of {name} could not be tried")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", root], cwd=ROOT, check=True)
        rows = [(each, test or "") for each, test in zip(chosen, results.of(chosen), strict=True)]
    known = explained()
    why = [known.get((each.file, each.line, each.becomes)) for each, _ in rows]
    print(table(rows, why))
    unnoticed = [each for (each, test), reason in zip(rows, why, strict=True) if not test and reason is None]
    return int(len(unnoticed) > ALLOWED * len(rows) or any(each.written for each in unnoticed))


if __name__ == "__main__":
    sys.exit(main())
