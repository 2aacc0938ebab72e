"""Stages that load what an earlier run made: handed on as it is, by reference, and separated from what is no state."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.artefacts import digest_file, load_state, save_state
from scorefold.errors import ArtefactError
from scorefold_registry import sweep
from scorefold_registry.host import Host
from scorefold_registry.run.applying import apply_stage
from scorefold_registry.run.result import RunResult
from scorefold_registry.runfile.citations import methods
from scorefold_registry.runfile.plan import Plan
from scorefold_registry.runfile.reader import RunFileError

Run = Callable[..., RunResult]
MakePlan = Callable[..., Plan]


HEAD = "version: 1\nname: again\nseed: 3\nruntime: {device: cpu, threads: 1}\nstages:\n"
AGAIN = (
    HEAD
    + """  prior: {load: FOLDER}
  data: {use: data:tiny}
  dimension: {use: estimator:tiny-scored, inputs: {score: prior, data: data}}
  samples: {use: prior, do: sample, options: {n: 8, steps: 5}}
  more: {use: prior, do: fit, inputs: {data: data}}
"""
)


@pytest.fixture
def earlier(finished: RunResult, tmp_path: Path) -> Path:
    """The folder of an earlier run, for this test to change."""
    folder = tmp_path / "runs" / "tiny" / "earlier"
    shutil.copytree(finished.folder, folder)
    return folder


def again(folder: Path | str) -> str:
    return AGAIN.replace("FOLDER", str(folder))


def reused(result: RunResult) -> dict[str, bool]:
    return {stage.name: stage.reused for stage in result.stages}


def state_of(host: Host, folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = host.load(folder).state_dict()
    return state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_was_trained_is_handed_on_as_it_is(run: Run, host: Host, earlier: Path, finished: RunResult) -> None:
    result = run(again("runs/tiny/earlier/score"))
    was = state_of(host, earlier / "score")
    assert same(result.value("prior").state_dict(), was)
    assert result.value("dimension").value == finished.value("dimension").value
    assert result.value("samples").load("test").x.shape == (8, 2)
    # What is trained further is a copy.
    assert not same(state_of(host, result.folder / "more"), was)
    assert same(state_of(host, result.folder / "prior"), was)


def test_the_run_says_where_it_came_from_and_holds_no_copy(run: Run, host: Host, earlier: Path) -> None:
    result = run(again(earlier / "score"))
    folder = result.folder / "prior"
    digest = digest_file(earlier / "score" / "manifest.json")
    assert sorted(item.name for item in folder.iterdir()) == [
        "reference.json",
        "result.json",
        "stage.json",
        "value.json",
    ]
    reference = json.loads((folder / "reference.json").read_text())
    assert reference["digest"] == digest
    assert (folder / reference["state"]).resolve() == (earlier / "score").resolve()
    facts = json.loads((folder / "result.json").read_text())
    assert (facts["loaded"], facts["digest"]) == (str(earlier / "score"), digest)
    port = json.loads((result.folder / "dimension" / "manifest.json").read_text())["ports"]["score"]
    assert port == {"state": "../prior", "digest": digest, "copy": False}
    loaded = host.builder.memory.of(host.load(result.folder / "dimension"))
    assert loaded is not None
    assert same(loaded.ports["score"].state_dict(), state_of(host, earlier / "score"))
    assert not list((earlier.parents[2] / ".scorefold" / "cache").glob("unfinished/*"))


def test_what_depends_on_it_is_reused_while_it_is_unchanged(run: Run, host: Host, earlier: Path) -> None:
    rest = {"data": True, "dimension": True, "samples": True, "more": True}
    run(again(earlier / "score"))
    assert reused(run(again(earlier / "score"))) == {"prior": False, **rest}
    # The same state elsewhere, and runs elsewhere: what was kept is right there too.
    host.save(host.load(earlier / "score"), earlier.parent / "kept" / "score", bundle=True)
    shutil.copytree(earlier / "score", earlier.parent / "moved")
    moved = run(again(earlier.parent / "moved"), runs="deeper/down/here")
    assert reused(moved) == {"prior": False, **rest}
    shutil.rmtree(earlier / "score")
    assert host.load(moved.folder / "dimension") is not None
    assert not reused(run(again(earlier.parent / "moved"), fresh=True))["dimension"]


def test_a_sweep_loads_it_at_every_point(host: Host, write: Callable[..., Path], earlier: Path) -> None:
    swept = sweep(host, write(again("runs/tiny/earlier/score")), {"stages.samples.options.n": [2, 3]})
    assert [(row.error, row.reused, row.stages) for row in swept.rows] == [(None, 0, 5), (None, 3, 5)]


def test_another_state_is_computed_with(run: Run, earlier: Path) -> None:
    run(again(earlier / "score"))
    other = run(sets=["stages.score.config.training.steps=21"])
    found = reused(run(again(other.folder / "score")))
    assert found == {"prior": False, "data": True, "dimension": False, "samples": False, "more": False}


def test_a_loaded_stage_can_itself_be_loaded_and_applied(run: Run, host: Host, earlier: Path, tmp_path: Path) -> None:
    first = run(again(earlier / "score"))
    second = run(again(first.folder / "prior"))
    assert all(reused(second)[name] for name in ("dimension", "samples", "more"))
    reference = json.loads((second.folder / "prior" / "reference.json").read_text())
    assert (second.folder / "prior" / reference["state"]).resolve() == (earlier / "score").resolve()
    apply_stage(host, second.folder / "prior", verb="sample", data=None, out=tmp_path / "x.npy", options=["n=3"])
    assert (tmp_path / "x.npy").is_file()


def test_data_and_folders_that_save_wrote_are_loaded_too(run: Run, host: Host, earlier: Path) -> None:
    host.save(host.load(earlier / "score"), earlier.parent / "alone")
    text = HEAD + "  data: {load: runs/tiny/earlier/data}\n  score: {load: runs/tiny/alone}\n"
    text += "  k: {use: estimator:tiny-scored, inputs: {score: score, data: data}}\n"
    assert set(run(text).stages[2].metrics) >= {"truth", "error"}


def test_the_path_starts_at_the_run_file_and_can_be_set(run: Run, host: Host, earlier: Path) -> None:
    result = run(again("nowhere"), sets=["stages.prior.load=runs/tiny/earlier/score"])
    assert (result.folder / "resolved.yaml").read_text().count(str(earlier / "score")) == 1
    with pytest.raises(RunFileError, match=r"in --set stages.prior.load=gone: there is no folder"):
        run(again("runs/tiny/earlier/score"), sets=["stages.prior.load=gone"])


def test_every_command_knows_it(say: Callable[..., Any], write: Callable[..., Path], earlier: Path) -> None:
    file = str(write(again("runs/tiny/earlier/score")))
    stage = {"name": "prior", "component": "score:tiny@1", "verb": "load", "gives": "score", "after": []}
    assert stage in say("validate", file, "--json").json["stages"]
    assert stage in say("graph", file, "--json").json["stages"]
    assert "prior: score:tiny, load" in say("graph", file).out
    assert "score:tiny" in say("cite", file, "--json").json["without"]
    printed = say("run", file, "--json").json
    assert {**printed["stages"][0], "seconds": 0} == {
        "name": "prior",
        "component": "score:tiny@1",
        "reused": False,
        "seconds": 0,
        "metrics": {},
    }
    (listed,) = [entry for entry in say("runs", "list", "--json").json["runs"] if entry["name"] == "again"]
    assert "prior" in listed["stages"]
    folder = Path(printed["run"])
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events if event.get("stage") == "prior"] == ["stage-started", "stage-ended"]
    report = (folder / "report.html").read_text()
    assert f"<code>{earlier / 'score'}</code>" in report
    assert '<span class="tag reused">loaded</span>' in report


def test_what_a_state_is_made_of_is_cited(plan: MakePlan, host: Host, earlier: Path) -> None:
    made = plan(HEAD + "  k: {load: runs/tiny/earlier/dimension}\n")
    assert [item.id for item in methods(host.catalogue, made)] == [
        "estimator:tiny-scored",
        "score:tiny",
        "network:tiny",
    ]


def test_checking_reads_the_manifest_alone(
    launch: Callable[..., subprocess.Popen[str]], write: Callable[..., Path], earlier: Path
) -> None:
    (earlier / "score" / "state.safetensors").unlink()
    code = (
        "import sys; from scorefold_registry.cli.main import main; status = main(); "
        "print(sorted(set(sys.modules) & {'torch', 'numpy', 'matplotlib'})); sys.exit(status)"
    )
    process = launch("validate", str(write(again("runs/tiny/earlier/score"))), code=code)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines()[-1]) == (0, "[]"), err


MIXED = "stage 'prior' loads a saved state and takes no "
# § stands where the fault is reported.
FORMS = {
    "a component": ("{load: here/score, §use: score:tiny}", MIXED + "'use'"),
    "a configuration": ("{load: here/score, §config: {}}", MIXED + "'config'"),
    "inputs": ("{load: here/score, §inputs: {}}", MIXED + "'inputs'"),
    "a verb": ("{load: here/score, §do: sample}", MIXED + "'do'"),
    "options": ("{load: here/score, §options: {}}", MIXED + "'options'"),
    "a split": ("{load: here/score, §split: test}", MIXED + "'split'"),
    "no folder": ("{load: §3}", "'load' is a whole number; expected a folder"),
    "an empty name": ('{load: §""}', "'load' is empty; expected a folder"),
    "a missing folder": ("{load: §here/scroe}", "the stages of"),
    "nowhere": ("{load: §gone/altogether}", "a relative path starts at the folder of the run file"),
    "a name that no folder has": (f"{{load: §{'x' * 999}}}", "can't be read as a folder"),
    "an estimate's samples": ("{load: §here/samples}", "holds the result of a stage (data), and no component"),
    "a checkpoint": ("{load: §checkpoint}", "read by {use: score:diffusers, config: {path:"),
    "a whole run": ("{load: §here}", "is no saved state: it has no manifest.json"),
}


@pytest.mark.parametrize(("written", "said"), FORMS.values(), ids=FORMS)
def test_what_can_not_be_loaded_is_shown_with_its_place(plan: MakePlan, earlier: Path, written: str, said: str) -> None:
    scheduler = earlier.parents[2] / "checkpoint" / "scheduler"
    scheduler.mkdir(parents=True)
    (scheduler / "scheduler_config.json").write_text("{}")
    text = HEAD + f"  prior: {written}\n".replace("here", "runs/tiny/earlier")
    problem = refused(plan, text.replace("§", ""))
    assert said in problem.message + f" | {problem.hint}"
    line = text.splitlines().index(f"  prior: {written}".replace("here", "runs/tiny/earlier"))
    assert (problem.line, problem.column) == (line + 1, text.splitlines()[line].index("§") + 1)


def refused(plan: MakePlan, text: str) -> Any:
    with pytest.raises(RunFileError) as caught:
        plan(text)
    (problem,) = caught.value.problems
    return problem


def rewrite(folder: Path, **changed: Any) -> None:
    tensors, facts = load_state(folder)
    save_state(folder, tensors, {**facts, **changed})


PRIOR = HEAD + "  prior: {load: runs/tiny/earlier/score}\n"
STALE = {
    "a component that no longer is": (
        {"component": "score:tint@1"},
        "offers no 'score:tint'",
        "pip install scorefold-tiny==0.1",
    ),
    "a plugin that is not installed": ({"distribution": "other"}, "other", "pip install other==0.1"),
    "a later revision": (
        {"component": "score:tiny@7"},
        "installed is revision 1, which is older",
        "scorefold-tiny==0.1",
    ),
    "another format": ({"format": 7}, "is of format 7", "host.save wrote"),
    "other numbers": ({"dtype": "float64"}, "this state is in float64", "runtime: {dtype: float64}"),
    "a manifest of nothing": ({"ports": 3}, "was changed after it was written", "run the stage again"),
}


@pytest.mark.parametrize(("changed", "message", "hint"), STALE.values(), ids=STALE)
def test_a_state_that_does_not_fit_what_is_installed(
    plan: MakePlan, earlier: Path, changed: dict[str, Any], message: str, hint: str
) -> None:
    rewrite(earlier / "score", **changed)
    problem = refused(plan, PRIOR)
    assert message in problem.message
    assert hint in problem.hint
    assert (problem.line, problem.column) == (6, 17)


def test_a_port_that_is_another_now_or_gone(plan: MakePlan, earlier: Path) -> None:
    text = HEAD + "  k: {load: runs/tiny/earlier/dimension}\n"
    rewrite(earlier / "score", seed=5)
    problem = refused(plan, text)
    assert "port 'score' of" in problem.message
    assert "which has changed since" in problem.message
    assert (problem.line, problem.column) == (6, 13)
    shutil.rmtree(earlier / "score")
    assert "which is not there" in refused(plan, text).message


def test_references_that_lead_in_a_circle(plan: MakePlan, earlier: Path) -> None:
    folder = earlier / "round"
    folder.mkdir()
    (folder / "reference.json").write_text('{"state": "../round", "digest": ""}')
    text = HEAD + "  k: {load: runs/tiny/earlier/round}\n"
    assert "too deep to follow" in refused(plan, text).message
    (folder / "reference.json").write_text("{}")
    assert "does not say where its state stands" in refused(plan, text).message


def test_inputs_are_held_to_its_kind(plan: MakePlan, earlier: Path) -> None:
    text = PRIOR + "  m: {use: estimator:tiny-mean, inputs: {data: prior}}\n"
    problem = refused(plan, text)
    assert "score" in problem.message
    assert (problem.line, problem.column) == (7, text.splitlines()[6].index("prior") + 1)
    assert "has no verb" in refused(plan, PRIOR + "  m: {use: prior, do: embed}\n").message
    text = PRIOR + "  data: {use: data:tiny}\n  m: {use: prior, do: reconstruct, inputs: {data: data}}\n"
    assert refused(plan, text).code == "capability"


def test_a_tampered_state_is_refused_with_its_place(run: Run, earlier: Path) -> None:
    text = again("runs/tiny/earlier/score")
    run(text)
    file = earlier / "score" / "state.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtefactError, match="changed, truncated or copied alone") as caught:
        run(text)
    assert (caught.value.line, caught.value.column) == (6, 17)


def test_an_older_revision_is_taken_over_or_refused(
    run: Run, host: Host, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = host.catalogue.resolve("score:tiny")
    monkeypatch.setattr(found, "component", replace(found.component, revision=2))
    with pytest.raises(ArtefactError, match="installed is revision 2, which can't take over") as caught:
        run(PRIOR)
    assert (caught.value.line, caught.value.column, caught.value.hint) == (6, 17, "pip install scorefold-tiny==0.1")
    take_over = staticmethod(lambda state, revision: state)
    monkeypatch.setattr("scorefold_tiny.parts.Model.migrate", take_over, raising=False)
    assert run(PRIOR).stages[0].component == "score:tiny@2"
