"""Verbs that a plugin adds to kinds of others: found, used in a run, contested, faulty and gone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold_registry import run_file
from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.runfile.reader import RunFileError

Install = Callable[..., Path]

PLUGIN = """
from scorefold.plugin import Port, Verb

@hookimpl
def scorefold_verbs():
    yield Verb({name!r}, takes=(Port("data", kind="data"),), gives="metrics", target="{package}.verbs:count",
               options="{package}.verbs:Options", kinds={kinds!r}, needs={needs!r})
"""

VERBS = """
from scorefold.config import Config
from scorefold.stage import Outcome

class Options(Config):
    times: int = 1

def count(component, inputs, options, context):
    points = options.times * len(inputs["data"].load("train"))
    answer = {"quantity": "points", "value": float(points)}
    return Outcome({"points": points}, {"metrics": {"points": points}, "answer": answer})
"""

RUN = """version: 1
name: counted
stages:
  data: {use: data:sphere, config: {points: 100, fractions: [1, 0, 0]}}
  counted: {use: estimator:mle, do: count, inputs: {data: data}, options: {times: 3}}
"""


@pytest.fixture
def add(install: Install) -> Callable[..., Path]:
    """``add("fake-counter")`` installs a distribution with the verb ``count`` for estimators."""

    def make(
        distribution: str,
        name: str = "count",
        kinds: tuple[str, ...] = ("estimator",),
        needs: tuple[str, ...] = (),
        version: str = "1.0",
    ) -> Path:
        package = distribution.replace("-", "_")
        source = PLUGIN.format(name=name, kinds=kinds, needs=needs, package=package)
        return install(distribution, source, files={"verbs.py": VERBS}, version=version)

    return make


def record(host: Host, distribution: str = "fake-counter"):  # type: ignore[no-untyped-def]
    return next(item for item in host.plugins if item.distribution == distribution)


def test_a_stage_does_what_a_plugin_adds(add: Callable[..., Path]) -> None:
    add("fake-counter")
    Path("run.yaml").write_text(RUN)
    host = Host.discover()
    assert host.catalogue.kinds["estimator"].verbs[0].name == "estimate", "a kind's own verb stays the default"
    first = run_file(host, "run.yaml")
    assert first.stages[-1].metrics["points"] == 300
    assert [stage.reused for stage in run_file(host, "run.yaml").stages] == [True, True]


def test_the_version_of_the_plugin_is_part_of_the_key(add: Callable[..., Path], tmp_path: Path) -> None:
    add("fake-counter")
    Path("run.yaml").write_text(RUN)
    run_file(Host.discover(), "run.yaml")
    (metadata,) = (tmp_path / "site").glob("fake_counter-*/METADATA")
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.1"))
    assert [stage.reused for stage in run_file(Host.discover(), "run.yaml").stages] == [True, False]


def test_without_the_plugin_the_verb_is_unknown_and_nothing_is_left(install: Install) -> None:
    Path("run.yaml").write_text(RUN)
    with pytest.raises(RunFileError, match="estimator:mle has no verb 'count'"):
        run_file(Host.discover(), "run.yaml")


def test_it_is_listed_described_and_checked(add: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    add("fake-counter")
    assert main(["plugins", "show", "counter", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["plugins"]
    assert shown["verbs"] == [{"name": "count", "kinds": ["estimator"]}]
    assert main(["plugins", "show", "estimator:mle"]) == 0
    assert "count" in capsys.readouterr().out
    assert main(["schema"]) == 0
    assert '"count"' in Path(".scorefold/schema.json").read_text()
    del sys.modules["fake_counter.verbs"]
    (Path("..") / "site" / "fake_counter" / "verbs.py").write_text("def other(): ...\n")
    main(["plugins", "doctor", "--load"])
    said = capsys.readouterr().out
    assert "the verb 'count' of 'estimator'" in said


def test_a_verb_that_two_add_is_nobodys_until_one_is_preferred(add: Callable[..., Path]) -> None:
    add("fake-one")
    add("fake-two")
    Path("run.yaml").write_text(RUN)
    host = Host.discover()
    line = '"verb:estimator/count" = "fake-one"'
    assert any(line in warning for warning in record(host, "fake-two").warnings)
    with pytest.raises(RunFileError, match=r"is added by fake-one .* and fake-two") as refused:
        run_file(host, "run.yaml")
    assert line in str(refused.value)
    Path("scorefold.toml").write_text(f"[prefer]\n{line}")
    host = Host.discover()
    owner = host.catalogue.verb_owner("estimator", "count")
    assert owner is not None
    assert owner.distribution == "fake-one"
    assert not host.notes
    assert run_file(host, "run.yaml").stages[-1].metrics["points"] == 300


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"needs": ("Trainabel",)}, "needs 'Trainabel', which is unknown; did you mean 'Trainable'?"),
        ({"name": "Count it"}, "a verb is called 'Count it'"),
    ],
)
def test_faulty_verbs_break_their_plugin_alone(
    add: Callable[..., Path], options: dict[str, object], cause: str
) -> None:
    add("fake-counter", **options)
    host = Host.discover()
    broken = record(host)
    assert broken.state == "broken"
    assert cause in str(broken.cause)
    assert host.catalogue.kinds["estimator"].verb("estimate") is not None


def test_a_kind_keeps_a_verb_of_its_own(install: Install) -> None:
    verb = 'Verb("count", takes=(), gives="metrics", target="fake_both.verbs:count"{})'
    kind = f'Kind("toaster", interface="fake_both.verbs:Options", verbs=({verb.format("")},))'
    hook = "@hookimpl\ndef scorefold_{}():\n    {}\n"
    further = verb.format(', kinds=("toaster",)')
    source = hook.format("kinds", f"yield {kind}") + hook.format("verbs", f"yield {further}")
    install("fake-both", source, files={"verbs.py": VERBS})
    broken = record(Host.discover(), "fake-both")
    assert broken.state == "broken"
    assert "it adds the verb 'count' to the kind 'toaster', which has one of its own" in str(broken.cause)


def test_two_verbs_of_one_name_from_one_plugin_break_it(install: Install) -> None:
    source = PLUGIN.format(name="count", kinds=("estimator",), needs=(), package="fake_twice")
    install("fake-twice", source + source[source.index("    yield") :], files={"verbs.py": VERBS})
    broken = record(Host.discover(), "fake-twice")
    assert broken.state == "broken"
    assert "it adds the verb 'count' to the kind 'estimator' twice" in str(broken.cause)


def test_verbs_of_ours_have_no_right_of_their_own(add: Callable[..., Path]) -> None:
    """Another's ``estimate`` and ours are two claimants; without a preference neither is done."""
    add("fake-counter", name="estimate")
    Path("run.yaml").write_text(RUN.replace("do: count", "do: estimate"))
    with pytest.raises(RunFileError, match=r"is added by .*fake-counter"):
        run_file(Host.discover(), "run.yaml")
    Path("scorefold.toml").write_text('[prefer]\n"verb:estimator/estimate" = "fake-counter"')
    host = Host.discover()
    assert next(verb.name for verb in host.catalogue.kinds["estimator"].verbs) == "estimate"
    assert run_file(host, "run.yaml").stages[-1].metrics["points"] == 300


def test_a_verb_for_no_kind_is_given_to_those_that_list_its_name(add: Callable[..., Path], install: Install) -> None:
    add("fake-counter", kinds=())
    assert record(Host.discover()).state == "registered"
    kind = 'Kind("toaster", interface="fake_counter.verbs:Options", verb_names=("count", "fit"))'
    install("fake-kitchen", f"@hookimpl\ndef scorefold_kinds():\n    yield {kind}\n")
    found = Host.discover().catalogue.kinds["toaster"].verbs
    assert [(verb.name, verb.gives) for verb in found] == [("count", "metrics"), ("fit", "toaster")]


def test_without_the_plugin_of_our_verbs_nothing_runs_and_the_error_says_so(
    add: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("fake-counter")
    Path("run.yaml").write_text(RUN)
    monkeypatch.setenv("SCOREFOLD_PLUGINS", "-verbs")
    with pytest.raises(RunFileError) as refused:
        run_file(Host.discover(), "run.yaml")
    said = "data:sphere has no verb 'load'; it comes with scorefold-verbs, which is out of use (disabled"
    assert said in str(refused.value)
    assert "switch the plugin 'verbs' on again" in str(refused.value)
    assert "'count'" not in str(refused.value), "a verb that an installed plugin adds is there"


def test_a_verb_waits_for_a_kind_that_is_not_installed(add: Callable[..., Path]) -> None:
    add("fake-counter", kinds=("toaster", "estimator"))
    host = Host.discover()
    assert record(host).state == "registered"
    assert host.catalogue.kinds["estimator"].verb("count") is not None


def test_a_verb_is_for_components_that_provide_what_it_needs(add: Callable[..., Path]) -> None:
    add("fake-counter", needs=("Encodes",))
    Path("run.yaml").write_text(RUN)
    with pytest.raises(RunFileError, match="count"):
        run_file(Host.discover(), "run.yaml")
