"""Whoever owns the code that failed is named: a runner, a wrapper, an executor or an observer, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold.errors import PluginError
from scorefold_registry.host import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.result import RunResult

SHORT = """version: 1
name: short
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  mean: {use: estimator:tiny-mean, inputs: {data: data}}
"""

Culprit = Callable[..., RunResult]


@pytest.fixture
def culprit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[str], Path]) -> Culprit:
    """Runs a file beside a plugin called culprit that has this code."""

    def make(code: str, run: str = SHORT) -> RunResult:
        file = tmp_path / f"culprit_{tmp_path.name}.py"
        file.write_text(
            "from scorefold.plugin import hookimpl\nfrom scorefold.stage import Outcome\n"
            f'__plugin_api__ = "1.0"\n{code}\n'
        )
        monkeypatch.setenv("SCOREFOLD_DEV_PLUGINS", str(file))
        return run_file(Host.discover(), write(run))

    return make


RUN_STAGE = "@hookimpl\ndef scorefold_run_stage(stage):\n    {}"
WRAPPER = "@hookimpl(wrapper=True)\ndef scorefold_run_stage(stage):\n    {}"

FAILS = {
    RUN_STAGE.format("return 3"): "scorefold_run_stage of plugin 'culprit-.*' returned an int; expected an Outcome",
    RUN_STAGE.format("return Outcome(None, result=3)"): "with the result 3; expected a mapping of names to JSON",
    RUN_STAGE.format("return Outcome(None, arrays={'a': 3})"): r"with the arrays \{'a': 3\}; expected a mapping",
    RUN_STAGE.format("return Outcome(None, texts=['a'])"): r"with the texts \['a'\]; expected a mapping of the names",
    RUN_STAGE.format("return Outcome(None, {'metrics': 3})"): "with the metrics 3; expected a mapping of names to",
    RUN_STAGE.format("return Outcome(None, {'warnings': 'late'})"): "with the warnings 'late'; expected a list",
    RUN_STAGE.format("raise ValueError('no')"): "failed in plugin 'culprit-.* in scorefold_run_stage: ValueError: no",
    RUN_STAGE.format("raise KeyboardInterrupt"): "failed in plugin 'culprit-.*: KeyboardInterrupt",
    RUN_STAGE.format("raise SystemExit(0)"): "failed in plugin 'culprit-.*: SystemExit: 0",
    WRAPPER.format("yield\n    yield"): "failed in plugin 'culprit-.*has second yield",
    WRAPPER.format("yield\n    return 3"): "of plugin 'culprit-.*' returned an int; expected an Outcome",
    WRAPPER.format("yield\n    raise ValueError('late')"): "failed in plugin 'culprit-.*: ValueError: late",
    WRAPPER.format("if False: yield"): "failed in plugin 'culprit-.*did not yield",
    "@hookimpl\ndef scorefold_executor(run):\n    return 'x'": "of plugin 'culprit-.*' returned a str; expected an",
    "@hookimpl\ndef scorefold_executor(run):\n    raise KeyboardInterrupt": "of plugin 'culprit-[^ ]*' failed: Keyb",
}


@pytest.mark.parametrize("code", FAILS)
def test_the_plugin_that_does_a_stage_is_named(culprit: Culprit, code: str) -> None:
    with pytest.raises(PluginError, match=FAILS[code]):
        culprit(code)


OBSERVED = {
    "@hookimpl\ndef scorefold_report_sections(run):\n    return 3": "an int is not a pair of a title",
    "@hookimpl\ndef scorefold_report_sections(run):\n    return [3]": "an int is not a pair of a title",
    "@hookimpl\ndef scorefold_report_sections(run):\n    return 'html'": "a str is not a pair of a title",
    "@hookimpl\ndef scorefold_report_sections(run):\n    yield ('title', 3)": "a tuple is not a pair of a title",
    "@hookimpl\ndef scorefold_before_run(run):\n    raise KeyboardInterrupt": "failed: KeyboardInterrupt",
    "@hookimpl\ndef scorefold_after_stage(stage):\n    raise SystemExit(0)": "failed in stage 'data': SystemExit: 0",
    "class Odd(Exception):\n    def __str__(self): raise ValueError\n@hookimpl\ndef scorefold_after_run(run):\n"
    "    raise Odd": "failed: Odd",
}


@pytest.mark.parametrize("code", OBSERVED)
def test_an_observer_that_gives_junk_stops_nothing(culprit: Culprit, code: str) -> None:
    result = culprit(code)
    assert result.report.exists()
    (failure,) = result.failures
    assert "culprit" in failure.plugin
    assert OBSERVED[code] in failure.text()


BESIDE = """
from scorefold.config import Config
from scorefold.interfaces import Estimator

class Nothing(Config):
    pass

class Bad(Estimator):
    def __init__(self, config):
        pass

    def estimate(self, data, *, generator=None):
        raise {}
"""


@pytest.mark.parametrize("error", ["KeyError('seen')", "KeyboardInterrupt", "SystemExit(0)"])
def test_a_component_beside_the_file_of_its_plugin_is_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, culprit: Culprit, error: str
) -> None:
    """The verb that called it is not, and nobody has pressed Ctrl-C."""
    parts = f"parts_{tmp_path.name}"
    (tmp_path / f"{parts}.py").write_text(BESIDE.format(error))
    monkeypatch.syspath_prepend(tmp_path)
    component = (
        "from scorefold.plugin import Component\n@hookimpl\ndef scorefold_components():\n"
        f"    yield Component('estimator', 'bad', '{parts}:Bad', config='{parts}:Nothing', summary='Fails')"
    )
    with pytest.raises(PluginError, match=rf"failed in plugin 'culprit.*{parts}.py:13 in estimate: {error[:8]}"):
        culprit(component, SHORT.replace("tiny-mean", "bad"))
