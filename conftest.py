"""Seeds, threads and warnings for every test, in one place."""

from __future__ import annotations

import gc
import os
import signal
import time

# One thread each, because tests run side by side; `make portable` also runs them with two.
os.environ.update(
    dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), os.environ.get("SCOREFOLD_TEST_THREADS", "1")
    )
)
# Threads of tests that take several sleep until there is work: by default they spin, for up to half of a test's time.
# Small letters, because libgomp compares the word by the locale's rules, and a Turkish i has another capital.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A shell that starts the tests in the background has Ctrl-C ignored, also by what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import multiprocessing
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.diffusion.divergence import forward_rules

# What several test files of a folder share stands in its folder toys: test modules themselves are no package.
MEMBERS = ("", "*/", "plugins/*/")
sys.path[:0] = sorted(str(toys) for member in MEMBERS for toys in Path(__file__).parent.glob(f"{member}tests/**/toys"))

THREADS = int(os.environ["OMP_NUM_THREADS"])
torch.set_num_threads(THREADS)

forward_rules()  # a test that uses forward mode itself would get torch's warning

# No test is there to survive a power cut, and a run waits for the disk as long as it computes.
os.fsync = lambda file: None

pytest_plugins = ["scorefold_testing.summary", "scorefold_testing.fixtures"]

HEAVY = Path(__file__).parent / "tests" / "heavy.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--until", type=float, help="skip the tests that are left at this time of time.time (make quick)")
    parser.addoption("--bridges", action="store_true", help="fail tests whose libraries are missing (make bridges)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of the files of tests, ``make bridges`` imports those that hold a mark ``needs``: others use other libraries."""
    tests = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return (
        tests and config.getoption("--bridges") and "mark.needs(" not in collection_path.read_text(encoding="utf-8")
    ) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that took long when ``make costs`` measured them are heavy."""
    heavy = set(HEAVY.read_text(encoding="utf-8").splitlines())
    for item in items:
        if item.nodeid in heavy:
            item.add_marker("heavy")


def pytest_collection_finish() -> None:
    """The collector need not go through what is imported again and again, which takes a sixth of the time."""
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    until = item.config.getoption("--until")
    if until is not None and time.time() > until:
        pytest.skip("the time of this run is over")
    modules = (module for mark in item.iter_markers("needs") for module in mark.args)
    if missing := [module for module in modules if find_spec(module) is None]:
        stop = pytest.fail if item.config.getoption("--bridges") else pytest.skip
        stop(f"{', '.join(missing)} is not installed")


# For every kind of device that is not there torch.manual_seed keeps a traceback of each call, a millisecond in all.
SEED = torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed


SEED_OF_TESTS = int(os.environ.get("SCOREFOLD_TEST_SEED", "0"))
"""Another one shows which bounds are too tight; some tests describe the data of one seed (CONTRIBUTING.md)."""


@pytest.fixture(autouse=True)
def _fixed_seed() -> Iterator[None]:
    """Every test starts from one seed, and leaves the number of threads, by which later tests' last bits differ."""
    SEED(SEED_OF_TESTS)
    yield
    if (left := torch.get_num_threads()) != THREADS:
        torch.set_num_threads(THREADS)
        pytest.fail(f"the test leaves {left} torch threads, where it found {THREADS}")


@pytest.fixture(scope="session", autouse=True)
def _writable_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The current folder is none of the checkout, which may be read-only, and stays as it is."""
    os.chdir(tmp_path_factory.mktemp("current"))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED_OF_TESTS)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures of stages: they are most of what a small run costs, and have tests of their own."""
    monkeypatch.setattr("scorefold_registry.run.stage_folder._draw", lambda host, planned, outcome, folder: None)


@pytest.fixture(scope="module")
def warm_workers() -> Iterator[None]:
    """Worker processes are forked from one that has imported what jobs import, so that none has to."""
    from warm_commands import FORKS

    plain = multiprocessing.get_context

    def forking(method: str | None = None) -> Any:
        return FORKS if method == "spawn" else plain(method)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multiprocessing.get_context", forking)
        yield
