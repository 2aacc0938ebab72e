"""One cluster of two processes for the tests of a file that do it no harm, and jobs that its workers can import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scorefold_dask.config import DaskConfig
from scorefold_dask.executor import DaskExecutor

SUPPORT = str(Path(__file__).parent / "support")


@pytest.fixture(scope="session", autouse=True)
def _importable() -> Iterator[None]:
    """Worker processes start with this process's path."""
    sys.path.insert(0, SUPPORT)
    yield
    sys.path.remove(SUPPORT)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SCOREFOLD_PLUGINS", "SCOREFOLD_RUNS", "SCOREFOLD_CACHE", "SCOREFOLD_DEV_PLUGINS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def cluster(_importable: None) -> Iterator[DaskExecutor]:
    """Ended with its file: three idle processes would take a tenth of a core from all tests after it."""
    executor = DaskExecutor(DaskConfig(), threads=1)
    yield executor
    executor.close()
