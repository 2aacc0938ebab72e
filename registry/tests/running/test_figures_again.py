"""Figures that could not be drawn, when their stage is reused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scorefold_registry.run.result import RunResult

pytestmark = pytest.mark.usefixtures("drawn")

SHORT = """version: 1
name: short
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  mean: {use: estimator:tiny-mean, inputs: {data: data}}
"""

Run = Callable[..., RunResult]


def test_figures_that_failed_once_are_drawn_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(shown: object) -> object:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("scorefold_tiny.parts.figures", full_disk)
        first = run(SHORT)
    assert "no space left" in first.failures[0].error
    assert not list(first.folder.glob("mean/figures/*"))
    second = run(SHORT)
    assert all(stage.reused for stage in second.stages)
    assert second.failures == ()
    assert list(second.folder.glob("mean/figures/*.png"))
    # They are kept with the stage.
    with monkeypatch.context() as broken:
        broken.setattr("scorefold_tiny.parts.figures", full_disk)
        assert list(run(SHORT).folder.glob("mean/figures/*.png"))


def test_figures_of_what_is_not_kept_name_the_way_to_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("scorefold_toolkit.figures.training", lambda shown: 1 / 0)
        run()
    (failure,) = run().failures
    assert "ZeroDivisionError" in failure.error
    assert failure.error.endswith("with --fresh the stage is computed again, and they are drawn")
