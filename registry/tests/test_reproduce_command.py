"""``scorefold reproduce``: what is measured, what decides the status, what a failure leaves, what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scorefold.plugin import Claim
from scorefold_registry import Host
from scorefold_registry.cli.main import main
from scorefold_registry.experiments.claims import within
from scorefold_registry.experiments.reproduce import Reproduction, select
from scorefold_registry.plugins.loading import code_digest

Install = Callable[..., Path]
Captured = pytest.CaptureFixture[str]

SCHEMA = json.loads(files("scorefold").joinpath("schemas/reproduce.json").read_text())

IMPL = """
from functools import cache
from pathlib import Path

def right(host, profile, seed):
    print("busy")
    return 10 + seed

def wrong(host, profile, seed):
    return -1

def no_number(host, profile, seed):
    return float("nan")

def no_data(host, profile, seed):
    return None

def fails(host, profile, seed):
    raise ValueError("no bread")

def words(host, profile, seed):
    return "eleven"

def counted(host, profile, seed):
    with Path("calls.txt").open("a") as file:
        file.write(f"{profile} {seed}\\n")
    return seed / 8

def scaled(host, profile, seed, *, by):
    return by * right(host, profile, seed)
@cache
def _steps(host):
    from scorefold_toolkit.training import fit
    data = host.create("data:sphere", {"points": 60, "dimension": 1, "ambient": 2})
    score = host.create("score:denoising", {"training": {"steps": 3, "batch_size": 8}}, data=data)
    return fit(score, data.load("train"), score.training_config).steps

def steps(host, profile, seed):
    return _steps(host)

def spends(host, profile, seed):
    import time
    end = time.process_time() + 0.15  # clock ticks of 10 ms may hide a part
    while time.process_time() < end:
        pass
    return len(host.components())
"""


def claims(*texts: str) -> str:
    """A plugin's source with claims ``name function role tolerance``, further arguments after a semicolon."""
    lines = []
    for text in texts:
        words, _, extra = text.partition(";")
        name, function, role, kind, bound = words.split()
        lines.append(
            f'    yield Claim({name!r}, "says {name}", "table 1", "fake_one.impl:{function}", {role!r}, '
            f"tolerance=({kind!r}, {bound}), {extra})"
        )
    return "\n".join(["@hookimpl", "def scorefold_claims():", *lines])


@pytest.fixture
def make(install: Install, capsys: Captured) -> Callable[..., dict[str, Any]]:
    """Install a plugin with claims; ``ask(status, *arguments)`` is what ``reproduce --json one`` gives."""

    def ask(status: int, *arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["reproduce", "one", "--json", *arguments]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        jsonschema.validate(found, SCHEMA)
        assert found["holds"] == (status == 0)
        return found

    def installed(*texts: str) -> Callable[..., dict[str, Any]]:
        install("fake-one", claims(*texts), files={"impl.py": IMPL})
        return ask

    return installed


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("tolerance", "published", "inside", "outside"),
    [
        (("abs", 0.5), 11.0, (10.5, 11.5), (10.4, 11.6)),
        (("rel", 0.1), -20.0, (-22.0, -18.0), (-22.1, -17.9)),
        (("min", 0.95), None, (0.95, 7.0), (0.94,)),
        (("max", 0.0), None, (0.0, -3.0), (0.1,)),
        (("range", (1, 2)), None, (1.0, 2.0), (0.9, 2.1)),
    ],
)
def test_tolerances(
    tolerance: tuple[str, Any], published: float | None, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    claim = Claim("it", "says", "table 1", "a:b", tolerance=tolerance, reference=published)
    assert all(within(claim, value) for value in inside)
    assert not any(within(claim, value) for value in (*outside, float("nan")))


def test_a_claim_that_holds(make: Callable[..., Any]) -> None:
    (found,) = make("ten right gate abs 0.5 ; reference=10.0, unit='dimensions'")(0)["claims"]
    seconds = found.pop("cpu_seconds")
    assert 0 <= seconds < 5
    assert found == {
        "plugin": "one",
        "claim": "ten",
        "statement": "says ten",
        "role": "gate",
        "profile": "smoke",
        "source": "table 1",
        "reference": 10.0,
        "basis": "derived",
        "measured": 10.0,
        "unit": "dimensions",
        "tolerance": {"kind": "abs", "value": 0.5},
        "verdict": "holds",
        "within": True,
        "seeds": [0],
        "error": None,
    }


def test_one_function_measures_several_claims_by_their_options(make: Callable[..., Any]) -> None:
    rows = [f"x{by} scaled gate range ({10 * by},{10 * by}) ; options={{'by':{by}}}" for by in (2, 3)]
    assert [claim["measured"] for claim in make(*rows)(0)["claims"]] == [20.0, 30.0]


def test_only_gates_decide(make: Callable[..., Any]) -> None:
    ask = make("good right gate min 5", "bad wrong report min 5", "worse wrong gate min 5")
    found = ask(0, "--only", "good", "--only", "bad")
    assert [(claim["claim"], claim["verdict"]) for claim in found["claims"]] == [("good", "holds"), ("bad", "measured")]
    assert [claim["claim"] for claim in ask(1, "--only", "*o*")["claims"]] == ["good", "worse"]
    assert [claim["verdict"] for claim in ask(1)["claims"]] == ["holds", "measured", "fails"]
    assert [claim["within"] for claim in ask(1)["claims"]] == [True, False, False]
    ask(0, "--only", "bad")


def test_an_error_names_the_first_of_many_claims(make: Callable[..., Any], capsys: Captured) -> None:
    make(*(f"row-{k} right gate min 5" for k in range(30)))
    assert main(["reproduce", "one", "--only", "column"]) == 2
    assert "row-11 and 18 others; --only 'row-*' takes several" in capsys.readouterr().err


def test_every_seed_must_hold(make: Callable[..., Any]) -> None:
    ask = make("ten right gate max 11")
    (found,) = ask(0, "--seeds", "2")["claims"]
    assert (found["measured"], found["seeds"]) == (10.5, [0, 1])
    (found,) = ask(1, "--seeds", "3")["claims"]
    assert (found["measured"], found["verdict"]) == (11.0, "fails")


def test_one_failure_never_stops_the_rest(make: Callable[..., Any]) -> None:
    ask = make(
        "a fails gate min 0",
        "b words gate min 0",
        "c missing gate min 0",
        "d right gate abs 1",
        "e right gate range 3",
        "f no_number gate min 0",
        "g right gate min 0",
        "h no_data gate min 0",
    )
    found = {claim["claim"]: claim for claim in ask(1)["claims"]}
    assert found["a"]["error"].startswith("ValueError: no bread (at ")
    assert found["a"]["error"].endswith("fake_one/impl.py:19 in fails)")
    expected = "expected a number, or None where needs of its claim says what is missing"
    assert found["b"]["error"] == f"it returned 'eleven'; {expected}"
    assert found["h"]["error"] == f"it returned None; {expected}"
    assert "fake_one.impl has no 'missing'" in found["c"]["error"]
    assert "which can't be compared with" in found["d"]["error"]
    assert "which can't be compared with" in found["e"]["error"]
    assert (found["f"]["measured"], found["f"]["error"]) == ("NaN", None)
    assert [claim["verdict"] for claim in found.values()] == ["error"] * 5 + ["fails", "holds", "error"]
    assert [claim["within"] for claim in found.values()] == [False] * 6 + [True, False]


def test_what_is_skipped_never_counts_as_held(make: Callable[..., Any]) -> None:
    gone, aside = "gone no_data gate min 0; needs='bread'", "aside no_data report min 0; needs='bread'"
    ask = make("there right gate min 0", gone, aside)
    found = ask(0)["claims"]
    assert [(claim["verdict"], claim["within"], claim["measured"]) for claim in found] == [
        ("holds", True, 10.0),
        ("skipped", None, None),
        ("skipped", None, None),
    ]
    ask(1, "--only", "gone")
    ask(0, "--only", "aside")


def test_cpu_time_is_measured_and_the_host_handed_over(make: Callable[..., Any]) -> None:
    (found,) = make("spent spends gate min 30")(0)["claims"]
    assert 0.1 <= found["cpu_seconds"] < 2


def test_text_says_each_claim_and_the_whole(install: Install, capsys: Captured) -> None:
    source = claims(
        "ten right gate abs 0.5 ; reference=10.0, unit='dimensions'",
        "gone no_data gate min 0 ; needs='bread: the baker has it'",
        "off wrong report range (1,2) ; reference=1.5, basis='published'",
        "worse fails gate rel 0.1; reference=1.0",
    )
    install("fake-one", source, files={"impl.py": IMPL})
    assert main(["reproduce", "fake-one"]) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith("holds  one/ten  (gate, ")
    measured = "  measured 10 dimensions; expected the reference within 0.5; derived 10 (table 1)"
    assert lines[1:3] == ["  says ten", measured]
    assert lines[3].startswith("skipped  one/gone  (gate, ")
    assert lines[5] == "  it needs bread: the baker has it"
    assert lines[6].startswith("measured  one/off  (report, ")
    assert lines[8] == "  measured -1; published 1.5 (table 1)"
    assert lines[9].startswith("error  one/worse  (gate, ")
    assert lines[-1] == "does not hold; 3 gates: 1 hold, 1 fail, 1 skipped; 1 report"
    assert captured.err == "busy\n"
    assert main(["reproduce", "fake-one", "--only", "off"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "measured; 1 report", "nothing there could have failed"


def test_the_last_line_says_which_reports_gave_no_value(install: Install, capsys: Captured) -> None:
    source = claims("ten right report min 0", "gone no_data report min 0; needs='bread'", "worse fails report min 0")
    install("fake-one", source, files={"impl.py": IMPL})
    assert main(["reproduce", "fake-one"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "measured; 3 reports: 1 skipped, 1 error"
    assert main(["reproduce", "fake-one", "--only", "gone"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "not measured; 1 report: 1 skipped"


def test_profiles(make: Callable[..., Any]) -> None:
    ask = make("long right gate min 0; profiles=('quick', 'full')", "short right gate min 0; profiles=('smoke',)")
    assert [claim["claim"] for claim in ask(0)["claims"]] == ["short"]
    (found,) = ask(0, "--profile", "full")["claims"]
    assert (found["claim"], found["profile"]) == ("long", "full")


def test_an_interrupted_reproduction_goes_on(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ask = make("it counted gate min 0")
    calls = Path("calls.txt")
    first = ask(0, "--profile", "quick", "--seeds", "2")["claims"]
    assert ask(0, "--profile", "quick", "--seeds", "3")["claims"][0]["measured"] == 0.125
    assert calls.read_text().split("\n")[:-1] == ["quick 0", "quick 1", "quick 2"]
    assert ask(0, "--profile", "quick", "--seeds", "2")["claims"] == first
    ask(0, "--profile", "full")
    ask(0, "--profile", "quick", "--fresh")
    assert calls.read_text().split("\n")[3:-1] == ["full 0", "quick 0"]
    for file in Path(".scorefold/claims").iterdir():
        file.write_text("{")
    ask(0, "--profile", "full")
    assert calls.read_text().split("\n")[5:-1] == ["full 0"]


def test_a_value_is_kept_for_the_function_and_the_options_of_its_claim(install: Install, tmp_path: Path) -> None:
    file = install("fake-one", claims("it scaled gate min 0 ; options={'by':2}"), files={"impl.py": IMPL}) / "impl.py"
    host = Host.discover()
    (pair,) = select(host.plugins, ["one"], [], "quick")
    store = Reproduction(host, [pair], "quick", keep=tmp_path)
    code_digest.cache_clear()  # another test's plugin of this name has one

    def kept(**changes: Any) -> Path | None:
        return store.kept_in((pair[0], replace(pair[1], **changes)), 0)

    first = kept()
    assert kept(statement="says it better", tolerance=("min", 1.0)) == first
    changed = {first, kept(options={"by": 3}), kept(target="fake_one.impl:counted"), kept(name="that")}
    assert len(changed) == 4
    file.write_text(IMPL.replace("10 + seed", "11 + seed"))
    code_digest.cache_clear()
    assert kept() not in changed


def test_the_smoke_profile_measures_every_time(make: Callable[..., Any]) -> None:
    ask = make("it counted gate min 0")
    ask(0)
    ask(0)
    assert Path("calls.txt").read_text() == "smoke 0\nsmoke 0\n"
    assert not Path(".scorefold").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["onne"], "no plugin is called 'onne'\n  did you mean 'one'?"),
        (["one", "--only", "tenn"], "no claim is called 'tenn'\n  did you mean 'ten'? the claims are ten, long"),
        (
            ["one", "--only", "long"],
            "none of these claims can be measured in the profile 'smoke'\n  try --profile full",
        ),
        (["two"], "none of these plugins makes a claim\n  these have claims: one"),
        (["three"], "the plugin 'three' of fake-three 1.0 is broken: ZeroDivisionError"),
        (["one", "--seeds", "0"], "'0' is not a whole number from 1"),
        (["one", "--profile", "fast"], "invalid choice: 'fast'"),
    ],
)
def test_what_cannot_be_asked_is_said(install: Install, capsys: Captured, arguments: list[str], message: str) -> None:
    source = claims("ten right gate min 0", "long right gate min 0; profiles=('full',)")
    install("fake-one", source, files={"impl.py": IMPL})
    install("fake-two", "")
    install("fake-three", "1 / 0")
    assert main(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_gate_that_holds_for_an_untrained_model_is_found(install: Install, capsys: Captured) -> None:
    source = claims(
        "real steps gate min 3",
        "empty steps gate min 0",
        "size steps gate max 5 ; structural='a bound'",
        "closed right gate min 5",
        "aside steps report min 0",
    )
    install("fake-one", source, files={"impl.py": IMPL})
    assert main(["reproduce", "one"]) == 0
    capsys.readouterr()
    assert main(["reproduce", "one", "--null", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {item["claim"]: item["verdict"] for item in found["claims"]} == {
        "real": "fails",
        "empty": "holds",
        "size": "structural",
        "closed": "untouched",
    }
    assert [item["value"] for item in found["claims"]] == [0.0, 0.0, 0.0, 10.0]
    assert found["claims"][0]["trainings"] == ["Denoising"]
    assert main(["reproduce", "one", "--null", "--only", "real", "--only", "size"]) == 0
    assert "0 of 2 gates of trained models hold for untrained ones" in capsys.readouterr().out
    assert main(["reproduce", "one", "--only", "real"]) == 0, "trainings take their steps again"


def test_claims_build_on_the_device_with_the_precision_that_is_given(
    install: Install, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device ``meta`` stands for an accelerator: a score and points are made there, and nothing can be computed."""
    from scorefold_registry.cli.commands import experiments
    from scorefold_registry.run import environment

    where = """
def where(host, profile, seed):
    data = host.create("data:sphere", {"points": 60, "dimension": 1, "ambient": 2})
    score = host.create("score:denoising", data=data)
    inside = host.create("data:union", {}, parts=[data, data])
    places = [data.load("test").x.device, next(score.parameters()).device, inside.load("test").x.device]
    assert {place.type for place in places} == {host.device}, places
    return ("no", "bf16", "fp16").index(host.precision)
"""
    install("fake-one", claims("where where report abs 0; reference=0.0"), files={"impl.py": where})
    monkeypatch.setattr(environment, "set_up_device", lambda device: device)
    for device, precision, expected in (("cpu", "bf16", 1), ("meta", "fp16", 2)):
        given = ["one", "--json", "--device", device, "--precision", precision, "--workers", "2"]
        assert experiments.reproduce_command(given) == 0
        assert json.loads(capsys.readouterr().out)["claims"][0]["measured"] == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--device", "tpu"), "expected auto, cpu, cuda, cuda:N, mps or simulated"),
        (("--device", "cuda:99"), "the device cuda:99 is not available"),
        (("--precision", "fp16"), "needs a GPU"),
    ],
)
def test_a_place_that_is_not_here(
    make: Callable[..., Any], capsys: Captured, arguments: tuple[str, ...], said: str
) -> None:
    make("right right gate abs 0; reference=10.0")
    assert main(["reproduce", "one", *arguments]) == 2
    assert said in capsys.readouterr().err
