"""Jobs for other processes: what is sent, and errors that arrive as they were raised."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.errors import DataError, JobError, PluginError, ScorefoldError, WorkerError
from scorefold.stage import job_function, pack, perform, unpack


class SeveralError(ScorefoldError):
    """Made from something else than what it says, as errors of plugins may be."""

    def __init__(self, parts: tuple[str, ...]) -> None:
        super().__init__(" and ".join(parts), hint="fix both")
        self.parts = parts


@pytest.mark.parametrize(
    "error",
    [
        DataError("too few", hint="more", file="a.csv", line=2, column=3),
        SeveralError(("one", "two")),
        WorkerError("it ended", item=4, hint="memory"),
    ],
    ids=["plain", "another constructor", "keyword"],
)
def test_errors_of_ours_arrive_as_they_were_raised(error: ScorefoldError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.args == error.args
    assert arrived.__dict__ == error.__dict__
    assert arrived.as_json() == error.as_json()


def test_a_job_is_done_with_the_threads_it_asks_for_and_leaves_those_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting_job.py").write_text("import torch\ndef threads(item):\n    return torch.get_num_threads()\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = torch.get_num_threads()
    for asked, seen in ((before + 1, before + 1), (None, before)):
        assert unpack(perform("counting_job:threads", pack(0, "it"), threads=asked)) == seen
        assert torch.get_num_threads() == before
    with pytest.raises(TypeError):
        perform("operator:neg", pack("no", "it"), threads=before + 1)
    assert torch.get_num_threads() == before


def test_what_can_not_be_sent_is_named() -> None:
    with pytest.raises(JobError, match="item 3 can't be sent to another process") as caught:
        pack((number for number in range(3)), "item 3")
    assert "plain data" in str(caught.value.hint)
    with pytest.raises(JobError, match="the answer of builtins:memoryview can't be sent"):
        perform("builtins:memoryview", pack(b"abc", "it"), None)


def test_jobs_that_do_not_exist_are_named() -> None:
    for target in ("operator:no_such", "no_module_of_this_name:f", "operator"):
        with pytest.raises(PluginError, match=f"there is no job '{target}'"):
            job_function(target)


def test_an_error_that_can_not_be_sent_is_sent_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stubborn_job.py").write_text(
        "class Stubborn(Exception):\n"
        "    def __init__(self, what, why):\n"
        "        super().__init__(what)\n"
        "def fail(item):\n"
        "    raise Stubborn(item, 'because') if item != 'data' else ValueError('plain')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(JobError, match="stubborn_job:fail failed: Stubborn: no"):
            perform("stubborn_job:fail", pack("no", "it"), None)
        with pytest.raises(ValueError, match="plain"):
            perform("stubborn_job:fail", pack("data", "it"), None)
    finally:
        sys.modules.pop("stubborn_job", None)


def test_items_and_answers_are_copies() -> None:
    given: dict[str, Any] = {"x": torch.zeros(2)}
    copied = unpack(pack(given, "it"))
    copied["x"] += 1
    assert torch.equal(given["x"], torch.zeros(2))
