"""Run files that are right are ordered; of those that are wrong, every fault is reported with its place."""
# ruff: noqa: E501 - one fault stands on one line

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold_registry.runfile.plan import Plan
from scorefold_registry.runfile.reader import RunFileError

RUN_FILE = (Path(__file__).parent / "tiny" / "run.yaml").read_text()

MakePlan = Callable[..., Plan]


def stages(text: str) -> str:
    return f"version: 1\nstages:\n{text}"


def place_of_mark(marked: str) -> list[int]:
    before = marked[: marked.index("§")]
    return [before.count("\n") + 1, len(before) - before.rfind("\n")]


def problem_of(plan: MakePlan, text: str, sets: tuple[str, ...] = ()) -> tuple[str, int | None, int | None]:
    """The only problem of a run file, with its hint, line and column."""
    with pytest.raises(RunFileError) as caught:
        plan(text, sets)
    assert len(caught.value.problems) == 1, str(caught.value)
    problem = caught.value.problems[0]
    return f"{problem.message} | {problem.hint}", problem.line, problem.column


def test_stages_are_ordered_by_need_and_otherwise_as_written(plan: MakePlan) -> None:
    made = plan(RUN_FILE)
    assert [stage.name for stage in made.stages] == ["data", "score", "dimension", "samples", "mean"]
    by_name = {stage.name: stage for stage in made.stages}
    assert by_name["dimension"].after == ("score", "data")
    assert by_name["samples"].source == "score"
    assert by_name["samples"].offer.kind == "data"
    assert (by_name["score"].line, by_name["score"].column) == (8, 16)
    # With nothing between them, the order is the file's.
    free = plan(stages("  b: {use: data:tiny}\n  a: {use: data:tiny}\n"))
    assert [stage.name for stage in free.stages] == ["b", "a"]


D = "  data: {use: data:tiny}\n"
S = "  score: {use: score:tiny, inputs: {data: data}}\n"

# § stands where the fault is reported.
FAULTS = {
    "unknown component": (D + "  m: {use: §estimator:tiny-men, inputs: {data: data}}\n", 'did you mean estimator:tiny-mean'),
    "unknown kind": (D + "  m: {use: §estimater:mle}\n", "did you mean 'estimator'"),
    "no such revision": ("  d: {use: §data:tiny@7}\n", 'revision'),
    "unknown field": ("  d: {use: data:tiny, config: {§pionts: 3}}\n", "did you mean 'points'"),
    "unknown field deep down": (D + "  s: {use: score:tiny, inputs: {data: data}, config: {training: {§stps: 4}}}\n", "did you mean 'steps'"),
    "unknown field of an inline component": (D + "  s: {use: score:tiny, inputs: {data: data}, config: {net: {use: network:tiny, config: {§wdth: 4}}}}\n", "did you mean 'width'"),
    "wrong type in an inline component": (D + "  s: {use: score:tiny, inputs: {data: data}, config: {net: {use: network:tiny, config: {width: §many}}}}\n", "'many' (text); expected a whole number"),
    "unknown inline component": (D + "  s: {use: score:tiny, inputs: {data: data}, config: {net: {use: §network:tniy}}}\n", 'network:tiny'),
    "inline component of another kind": (D + "  s: {use: score:tiny, inputs: {data: data}, config: {net: {use: §data:tiny}}}\n", 'network'),
    "wrong type": ("  d: {use: data:tiny, config: {points: §lots}}\n", 'expected a whole number'),
    "out of range": ("  d: {use: data:tiny, config: {points: §1}}\n", 'at least 3'),
    "a field that is missing": ("  §d: {use: data:array}\n", "'path' is missing"),
    "no such stage": (D + "  m: {use: estimator:tiny-mean, inputs: {data: §dta}}\n", "did you mean 'data'"),
    "a port of the wrong kind": (D + S + "  m: {use: estimator:tiny-mean, inputs: {data: §score}}\n", 'stages that fit: data'),
    "a port of the wrong kind that no stage fits": (D + "  m: {use: estimator:tiny-scored, inputs: {data: data, score: §data}}\n", 'add one that gives a score'),
    "an input that is missing": ("  §m: {use: estimator:tiny-mean}\n", "port 'data'"),
    "an input that is missing though there is a stage": (D + "  §m: {use: estimator:tiny-mean}\n", 'inputs: {data: data}'),
    "unknown port": (D + "  m: {use: estimator:tiny-mean, inputs: {data: data, §scroe: data}}\n", "did you mean 'score'"),
    "a capability that is missing": (D + S + "  c: {use: score, do: §traverse, inputs: {data: data}}\n", 'needs Encodes'),
    "a list for one": (D + "  m: {use: estimator:tiny-mean, inputs: {data: §[data, data]}}\n", 'takes one'),
    "a number for a stage": (D + "  m: {use: estimator:tiny-mean, inputs: {data: §3}}\n", 'expected a stage'),
    "a cycle": ("  a: {use: score:tiny, inputs: {data: §b}}\n  b: {use: a, do: sample}\n", 'a -> b -> a'),
    "a stage that needs itself": ("  a: {use: §a, do: fit}\n", 'a -> a'),
    "unknown verb": (D + S + "  x: {use: score, do: §smaple}\n", "did you mean 'sample'"),
    "a kind that is no stage": ("  n: {use: §network:tiny}\n", 'no stage of its own'),
    "a component without its kind": ("  d: {use: §tiny-mean}\n", 'did you mean estimator:tiny-mean'),
    "options of a verb that has none": ("  d: {use: data:tiny, §options: {n: 2}}\n", 'takes no options'),
    "unknown option": (D + S + "  x: {use: score, do: sample, options: {§stesp: 3}}\n", "did you mean 'steps'"),
    "option of the wrong type": (D + S + "  x: {use: score, do: sample, options: {n: §none}}\n", 'whole number'),
    "config beside a stage": (D + S + "  x: {use: score, do: sample, §config: {n: 3}}\n", "takes no 'config'"),
    "unknown split": (D + "  m: {use: estimator:tiny-mean, inputs: {data: data}, split: §tset}\n", "did you mean 'test'"),
    "a split for fit": (D + "  s: {use: score:tiny, inputs: {data: data}, §split: test}\n", 'train and validation'),
    "a split without data": ("  d: {use: data:tiny, §split: test}\n", 'reads no data'),
    "unknown field of a stage": ("  d: {use: data:tiny, §confg: {}}\n", "did you mean 'config'"),
    "a stage that is no mapping": ("  d: §data:tiny\n", '{use: data:tiny}'),
    "a stage without use": ("  §d: {config: {}}\n", "no 'use'"),
    "use of a wrong type": ("  d: {use: §[data:tiny]}\n", 'expected a name'),
    "inputs of a wrong type": ("  d: {use: data:tiny, inputs: §data}\n", 'expected a mapping'),
    "an inline config of a wrong type": (
        "  s: {use: score:tiny, inputs: {data: {use: data:tiny, config: §0}}}\n",
        'expected a mapping',
    ),
    "a bad stage name": ("  §'a/b': {use: data:tiny}\n", "can't name a stage"),
    "an inline input without use": (D + "  m: {use: estimator:tiny-mean, inputs: {data: §{config: {}}}}\n", "no 'use'"),
    "an inline input with a stray field": ("  m: {use: estimator:tiny-mean, inputs: {data: {use: data:tiny, §confg: {}}}}\n", "did you mean 'config'"),
    "an inline input with a bad config": ("  m: {use: estimator:tiny-mean, inputs: {data: {use: data:tiny, config: {points: §1}}}}\n", 'at least 3'),
    "an inline input two levels down": ("  m: {use: estimator:tiny-mean, inputs: {data: {use: data:paired, inputs: {data: {use: §data:tniy}}}}}\n", 'did you mean data:tiny'),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_reported_with_its_place_and_its_fix(plan: MakePlan, name: str) -> None:
    marked, expected = FAULTS[name]
    message, *found = problem_of(plan, stages(marked.replace("§", "")))
    assert expected in message
    assert found == place_of_mark(stages(marked))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("unknown component", "unknown-component"),
        ("unknown inline component", "unknown-component"),
        ("unknown field", "unknown-field"),
        ("wrong type in an inline component", "type"),
        ("out of range", "range"),
        ("no such stage", "unknown-stage"),
        ("a port of the wrong kind", "kind"),
        ("a capability that is missing", "capability"),
        ("an input that is missing", "missing-port"),
        ("a cycle", "cycle"),
    ],
)
def test_a_program_separates_faults_by_their_code(plan: MakePlan, name: str, code: str) -> None:
    with pytest.raises(RunFileError) as caught:
        plan(stages(FAULTS[name][0].replace("§", "")))
    assert [problem.code for problem in caught.value.problems] == [code]
    assert caught.value.as_json()["code"] == code


HEADS = {
    "no version": ("§stages: {d: {use: data:tiny}}\n", 'version: 1'),
    "another version": ("version: §2\nstages: {d: {use: data:tiny}}\n", 'version 2 is not supported'),
    "unknown top-level key": ("version: 1\n§staegs: {}\nstages: {d: {use: data:tiny}}\n", "did you mean 'stages'"),
    "no stages": ("§version: 1\n", 'stages: missing'),
    "empty stages": ("version: 1\nstages: §{}\n", 'stages: empty'),
    "stages as a list": ("version: 1\nstages: §[a]\n", 'stages: a list'),
    "an empty file": ("§", 'empty'),
    "only a comment": ("§# nothing\n", 'empty'),
    "a list at the top": ("§- a\n", 'a run file is a mapping; this is a list'),
    "a bad seed": ("version: 1\nseed: §-1\nstages: {d: {use: data:tiny}}\n", 'seed'),
    "a bad name": ("version: 1\nname: §a/b\nstages: {d: {use: data:tiny}}\n", "can't name a run"),
    "a name that climbs": ("version: 1\nname: §..\nstages: {d: {use: data:tiny}}\n", "can't name a run"),
    "a bad device": ("version: 1\nruntime: {device: §gpu}\nstages: {d: {use: data:tiny}}\n", 'cuda:N'),
    "no events in a call": ("version: 1\nruntime: {batch_size: §0}\nstages: {d: {use: data:tiny}}\n", 'batch_size'),
    "an unknown runtime field": ("version: 1\nruntime: {§thraeds: 1}\nstages: {d: {use: data:tiny}}\n", "'threads'"),
    "runtime of a wrong type": ("version: 1\nruntime: §cpu\nstages: {d: {use: data:tiny}}\n", 'expected a mapping'),
    "a stage twice": ("version: 1\nstages:\n  d: {use: data:tiny}\n  §d: {use: data:tiny}\n", 'given twice'),
    "broken YAML": ("version: 1\nstages: {d: {use: data:tiny}\n§", 'broken YAML'),
    "a tab": ("version: 1\nstages:\n§\td: {use: data:tiny}\n", 'a tab'),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_faults_of_the_whole_file(plan: MakePlan, name: str) -> None:
    marked, expected = HEADS[name]
    message, *found = problem_of(plan, marked.replace("§", ""))
    assert expected in message
    assert found == place_of_mark(marked)


def test_everything_is_reported_in_one_go_by_line(plan: MakePlan) -> None:
    text = stages(
        "  data: {use: data:tiny, config: {points: 1}}\n"
        "  score: {use: score:tiny, inputs: {data: dat}, config: {training: {steps: -1}, net: {use: network:tiny, "
        "config: {width: 0}}}}\n"
        "  mean: {use: estimator:tiny-mean, inputs: {data: score}, do: estmate}\n"
        "  a: {use: b, do: fit}\n"
        "  b: {use: a, do: fit}\n"
        "  data: {use: data:tiny}\n"
    )
    with pytest.raises(RunFileError) as caught:
        plan(text)
    places = [(problem.line, problem.column) for problem in caught.value.problems]
    assert places == sorted(places)
    assert [line for line, _ in places] == [3, 4, 4, 4, 5, 6, 8]
    assert all(problem.file == "run.yaml" for problem in caught.value.problems)
    assert str(caught.value).count("run.yaml:") == 7


def test_a_fault_hides_no_fault_that_only_follows_from_it(plan: MakePlan) -> None:
    # 'score' can't be built, but that is no fault of 'mean' or 'dimension'.
    text = stages(
        D
        + "  score: {use: score:tny, inputs: {data: data}}\n  dimension: {use: estimator:tiny-scored, inputs: {score: score, data: data}}\n"
    )
    assert problem_of(plan, text)[1] == 4


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("y, x", "the condition of these data is [y, x]; the model was trained on [x, y] | condition: [x, y]"),
        ("x, z", "the condition of these data is [x, z]; the model was trained on [x, y] | condition: [x, y], with"),
        ("x, y", ""),
    ],
)
def test_conditions_have_the_names_that_they_had_in_training(plan: MakePlan, named: str, expected: str) -> None:
    text = stages(
        "  data: {use: data:array, config: {path: a.csv, condition: [x, y]}}\n"
        "  flow: {use: flow:affine-coupling, inputs: {data: data}}\n"
        f"  seen: {{use: data:array, config: {{path: b.csv, condition: [{named}]}}}}\n"
        "  draws: {use: flow, do: sample, inputs: {data: seen}}\n"
    )
    assert (problem_of(plan, text)[0] if expected else str(bool(plan(text)))).startswith(expected)
    assert plan(text.replace("b.csv", "b.npz").replace(named, "seen"))
    # A model without conditions reads none of these columns.
    config = "unconditional: true, process: {name: ve}, network: {use: network:mlp}"
    free = text.replace("flow: {use: flow:affine-coupling,", f"flow: {{use: score:denoising, config: {{{config}}},")
    assert plan(free.replace(named, "z"))
    assert plan(text.replace("flow:affine-coupling", "score:analytic").replace(named, "z"))


def test_an_inline_component_may_say_nothing_after_its_keys(plan: MakePlan) -> None:
    score = "{use: score:tiny, config: , inputs: {data: {use: data:tiny, config: null, inputs: null}}}"
    assert [stage.name for stage in plan(stages(f"  s: {score}\n")).stages] == ["s"]


def test_swapping_estimators_is_one_word(plan: MakePlan) -> None:
    text = stages(D + S + "  m: {use: estimator:tiny-scored, inputs: {score: score, data: data}}\n")
    for text_now in (text, text.replace("tiny-scored", "tiny-mean")):
        assert plan(text_now).stages[-1].name == "m"


def test_set_goes_the_same_way(plan: MakePlan) -> None:
    sets = ("stages.score.config.training.steps=7", "runtime.threads=1", "stages.score.config.net={use: network:tiny}")
    score = plan(RUN_FILE, sets).stages[1]
    assert score.config is not None
    assert score.config.model_dump()["training"]["steps"] == 7


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("stages.score.config.training.stps=7", "did you mean 'steps'"),
        ("stages.score.config.training.steps=many", "expected a whole number"),
        ("stages.mean.use=estimator:tiny-men", "did you mean estimator:tiny-mean"),
        ("stages.mean.inputs.data=score", "stages that fit"),
        ("stages.score.config.training.steps=[1", "broken YAML"),
        ("stages.score.use.kind=x", "stages.score.use is text"),
        ("stages.score", "expected a path"),
        ("=3", "expected a path"),
        ("nmae=x", "did you mean 'name'"),
        ("stages.scores.config.training.steps=7", "stage 'scores' has no 'use' | did you mean 'score'?"),
    ],
)
def test_a_bad_set_names_itself(plan: MakePlan, option: str, expected: str) -> None:
    message, line, _ = problem_of(plan, RUN_FILE, (option,))
    assert f"--set {option}" in message
    assert expected in message
    assert line is None


def test_set_reaches_into_lists(plan: MakePlan) -> None:
    text = stages(D + "  g: {use: geometry:tiny-many, inputs: {parts: [data, data]}}\n")
    message, _, _ = problem_of(plan, text, ("stages.g.inputs.parts.1=dta",))
    assert "did you mean 'data'" in message
    message, _, _ = problem_of(plan, text, ("stages.g.inputs.parts.2=data",))
    assert "has no entry '2'" in message


def test_validating_imports_no_torch(launch: Callable[..., subprocess.Popen[str]], write: Callable[..., Path]) -> None:
    write()
    code = (
        "import sys; from scorefold_registry.cli.main import main; status = main(['validate', 'run.yaml']); "
        "print(sorted(set(sys.modules) & {'torch', 'numpy', 'matplotlib'})); sys.exit(status)"
    )
    process = launch(code=code)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "run.yaml: valid, 5 stages\n[]\n", "")


def test_an_error_lists_some_names_and_counts_the_rest(plan: Callable[..., Plan]) -> None:
    stages = "".join(f"  s{number}: {{use: data:tiny}}\n" for number in range(499))
    with pytest.raises(RunFileError, match="there is no stage 'nope'") as refused:
        plan(f"version: 1\nname: many\nstages:\n{stages}  d: {{use: estimator:tiny-mean, inputs: {{data: nope}}}}\n")
    assert "s28, s29 and 469 more" in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("field", ["stages.data.config.uri", "stages.data.config.points", "stages.data.use", "seed"])
@pytest.mark.parametrize("password", ["secret", "sec@ret", "sec/ret"])
def test_an_error_repeats_no_password(plan: Callable[..., Plan], field: str, password: str) -> None:
    text = "version: 1\nname: one\nstages:\n  data: {use: data:tiny}\n"
    with pytest.raises(RunFileError) as refused:
        plan(text, sets=[f"{field}=http://me:{password}@host/place"])
    assert f"{field}=http://host/place" in str(refused.value)
    assert "me:" not in str(refused.value)
    assert "ret" not in str(refused.value).replace("expected", "")
