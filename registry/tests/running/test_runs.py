"""The folders of runs: each run has one of its own, and who leaves takes his lock with him."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from scorefold_registry.run.folders import Cache, final_name, link_latest, new_run


def locks(area: Path) -> list[str]:
    return sorted(path.name for path in area.glob(".*.lock"))


def test_runs_of_one_second_have_folders_and_locks_of_their_own(tmp_path: Path) -> None:
    with new_run(tmp_path, "now") as first, new_run(tmp_path, "now") as second:
        assert (first.name, second.name) == ("now.partial", "now-2.partial")
        assert locks(tmp_path) == [".now-2.lock", ".now.lock"]
        first.rename(final_name(first))
        with new_run(tmp_path, "now") as third:
            assert third.name == "now-3.partial"
    assert locks(tmp_path) == []


@pytest.mark.parametrize("taken", ["now", "now.partial"])
def test_a_name_that_is_taken_is_left_as_it_is(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).mkdir()
    with new_run(tmp_path, "now") as folder:
        assert folder.name == "now-2.partial"
        assert locks(tmp_path) == [".now-2.lock"]


def test_a_run_that_has_its_lock_and_no_folder_yet_keeps_its_name(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".now.lock"), new_run(tmp_path, "now") as folder:
        assert folder.name == "now-2.partial"
        assert locks(tmp_path) == [".now-2.lock", ".now.lock"]


def test_a_run_that_fails_takes_its_lock_with_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_run(tmp_path, "now"):
        raise ZeroDivisionError
    assert locks(tmp_path) == []


def test_a_folder_called_latest_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for name in ("one", "latest"):
        (tmp_path / name).mkdir()
    (tmp_path / "latest" / "mine").touch()
    link_latest(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one"]
    assert (tmp_path / "latest" / "mine").exists()


def test_pruning_takes_the_locks_of_what_is_gone_and_no_other(run: Callable[..., object]) -> None:
    run()
    cache = Cache(Path(".scorefold/cache").absolute())
    keys = [path.name for path in cache.folder.iterdir() if len(path.name) == 40]
    assert all(cache.lock_file(key).is_file() for key in keys)
    assert cache.prune(1)[0] == 0
    assert all(cache.lock_file(key).is_file() for key in keys), "what is used is kept, with its lock"
    with cache.lock("0" * 40):
        assert cache.prune(0)[0] == len(keys)
        assert [path.stem for path in (cache.folder / "locks").iterdir()] == ["0" * 40], "a lock that is held stays"
