"""How many threads torch has where nobody says so, and how they wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorefold_registry.run.os_process import SPINS, settle_threads

WAIT = {"GOMP_SPINCOUNT": SPINS}


@pytest.mark.parametrize(
    ("files", "cores", "expected"),
    [
        ({}, 8, {}),
        ({"cpu.max": "max 100000"}, 8, {}),
        ({"cpu.max": "400000 100000"}, 8, {"OMP_NUM_THREADS": "4"}),
        ({"cpu.max": "400000 100000"}, 4, {}),
        ({"cpu.max": "250000 100000"}, 4, {"OMP_NUM_THREADS": "2"}),
        ({"cpu.max": "50000 100000"}, 2, {"OMP_NUM_THREADS": "1"}),
        ({"cpu.max": "broken"}, 8, {}),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8, {}),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 8, {"OMP_NUM_THREADS": "2"}),
    ],
)
def test_a_container_has_the_threads_of_its_quota(
    files: dict[str, str], cores: int, expected: dict[str, str], tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    variables: dict[str, str] = {}
    settle_threads(variables, tmp_path, cores)
    assert variables == WAIT | expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_NUM_THREADS": "1"}),
        ({"GOMP_SPINCOUNT": "7"}, {"OMP_NUM_THREADS": "1"}),
        ({"OMP_NUM_THREADS": "3"}, WAIT),
    ],
)
def test_what_the_user_says_stays(given: dict[str, str], expected: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000")
    variables = dict(given)
    settle_threads(variables, tmp_path, 8)
    assert variables == given | expected
