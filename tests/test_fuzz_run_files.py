"""Two thousand run files that someone broke: each gives a plan, or problems with their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from broken_run_files import Settings, read_again, right_texts, try_broken, watched_host

from scorefold_registry.host import Host
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read

COUNT = 2000


@pytest.fixture(scope="module")
def host() -> Host:
    return watched_host()


@pytest.fixture(scope="module")
def texts(host: Host) -> Sequence[str]:
    return right_texts(host)


def test_the_files_to_break_are_right(host: Host, texts: Sequence[str], tmp_path: Path) -> None:
    for text in texts:
        (tmp_path / "run.yaml").write_text(text)
        plan = make_plan(host.catalogue, read(tmp_path / "run.yaml"))
        assert read_again(host, plan, tmp_path / "again.yaml") == plan.as_json(host.catalogue)
    assert len(plan.stages) > 30
    assert plan.plugins["watcher"] == Settings(port=8080, tags={"a": [1.0, 2.5]})


@pytest.mark.parametrize("part", range(4))
def test_a_broken_file_is_refused_in_words(
    host: Host, texts: Sequence[str], cases: Callable[[int], Iterator[Random]], tmp_path: Path, part: int
) -> None:
    path, sentinel = tmp_path / "run.yaml", tmp_path / "ran"
    tried = valid = 0
    for random in cases(COUNT // 4):
        tried += 1
        valid += try_broken(host, texts, random, path, sentinel, again=valid % 5 == 0)
    # Some changes do no harm, and most do.
    assert tried == 1 or 0.02 < valid / tried < 0.4
