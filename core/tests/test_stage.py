"""Reports of how much is done: from deep inside a computation to whoever shows it."""

from __future__ import annotations

import torch

from scorefold.config import EDMConfig
from scorefold.diffusion import time_grid
from scorefold.diffusion.processes import IsotropicProcess, build_schedule
from scorefold.diffusion.samplers import SAMPLERS
from scorefold.stage import report, reported, showing

Seen = list[tuple[int, int, str]]


def test_nothing_happens_where_nobody_shows_it() -> None:
    report(1, 2, "halves")
    assert list(reported("ab", 2, "letters")) == ["a", "b"]


def test_a_loop_reports_its_rounds() -> None:
    seen: Seen = []
    with showing(lambda *at: seen.append(at)):
        assert list(reported(range(5), 9, "points", size=2)) == list(range(5))
    assert seen == [(2, 9, "points"), (4, 9, "points"), (6, 9, "points"), (8, 9, "points"), (9, 9, "points")]


def test_what_is_reported_inside_is_a_share_of_the_round() -> None:
    seen: Seen = []
    with showing(lambda *at: seen.append(at)):
        for _ in reported(range(2), 20, "batches", size=10):
            for _ in reported(range(5), 5, "steps"):
                pass
        report(1, 1, "afterwards")
    assert [done for done, total, text in seen if text == "batches"] == [2, 4, 6, 8, 10, 10, 12, 14, 16, 18, 20, 20]
    assert seen[-1] == (1, 1, "afterwards")
    with showing(lambda *at: seen.append(at)):
        for _ in reported(range(2), 15, "uneven", size=10):
            report(1, 2, "steps")
    assert [done for done, total, text in seen if text == "uneven"] == [5, 10, 12, 15], "the last batch is smaller"


def test_a_loop_that_is_left_early_no_longer_counts() -> None:
    seen: Seen = []
    with showing(lambda *at: seen.append(at)):
        for item in reported(range(3), 3, "rounds"):
            if item == 1:
                break
        report(7, 8, "after")
    assert seen == [(1, 3, "rounds"), (7, 8, "after")]


def test_every_sampler_reports_its_steps() -> None:
    process = IsotropicProcess(build_schedule(EDMConfig()))
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    for name, sampler in SAMPLERS.items():
        seen: Seen = []
        with showing(lambda *at, seen=seen: seen.append(at)):  # type: ignore[misc]
            sampler(lambda x, t: -x, process, x, time_grid(process, 6))
        assert [(done, total) for done, total, _ in seen][:5] == [(n, 6) for n in range(1, 6)], name
