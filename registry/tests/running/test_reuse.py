"""What is reused and what isn't: the key of a stage holds all that changes its result, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scorefold.errors import ArtefactError, PluginError
from scorefold_registry.run import keys
from scorefold_registry.run.result import RunResult

SHORT = """version: 1
name: short
runtime: {device: cpu, threads: 1}
stages:
  data: {use: data:tiny}
  mean: {use: estimator:tiny-mean, inputs: {data: data}}
"""

Run = Callable[..., RunResult]


def reused(result: RunResult) -> dict[str, bool]:
    return {stage.name: stage.reused for stage in result.stages}


def test_an_unchanged_run_is_reused_and_says_the_same(run: Run) -> None:
    first, second = run(), run()
    assert not any(reused(first).values())
    assert all(reused(second).values())
    assert [stage.metrics for stage in first.stages] == [stage.metrics for stage in second.stages]
    assert first.folder != second.folder
    assert torch.equal(second.value("dimension").pointwise, first.value("dimension").pointwise)


def test_a_change_reaches_what_depends_on_it_and_nothing_else(run: Run) -> None:
    run()
    changed = run(sets=["stages.score.config.training.steps=21"])
    assert reused(changed) == {"data": True, "score": False, "dimension": False, "samples": False, "mean": False}
    changed = run(sets=["stages.samples.options.n=9"])
    assert reused(changed) == {"data": True, "score": True, "dimension": True, "samples": False, "mean": False}
    # What is computed from reused stages is what a fresh run computes.
    alone = run(sets=["stages.samples.options.n=9"], cache="elsewhere")
    assert [stage.metrics for stage in alone.stages[2:]] == [stage.metrics for stage in changed.stages[2:]]


def test_adding_a_stage_changes_no_other(run: Run) -> None:
    first = run(SHORT)
    second = run(SHORT.replace("stages:\n", "stages:\n  before: {use: data:tiny}\n"))
    assert reused(second) == {"before": False, "data": True, "mean": True}
    assert second.stages[2].metrics == first.stages[1].metrics


@pytest.mark.parametrize("option", ["runtime.dtype=float64", "runtime.precision=bf16"])
def test_how_it_is_computed_is_part_of_the_key(run: Run, option: str) -> None:
    run(SHORT)
    assert not any(reused(run(SHORT, sets=[option])).values())


def test_threads_are_part_of_the_keys_of_all_but_those_that_declare_otherwise(run: Run) -> None:
    run(SHORT)
    assert reused(run(SHORT, sets=["runtime.threads=2"])) == {"data": True, "mean": False}


def test_seed_version_and_code_are_part_of_the_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(SHORT)
    assert not any(reused(run(SHORT, seed=1)).values())
    assert all(reused(run(SHORT)).values())
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0")
        assert not any(reused(run(SHORT)).values())
    with monkeypatch.context() as patch:
        digest = keys.code_digest("scorefold_tiny")
        patch.setattr(keys, "code_digest", lambda package: digest[::-1] if package == "scorefold_tiny" else "same")
        assert not any(reused(run(SHORT)).values())


def test_the_code_digest_sees_every_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "digested"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    keys.code_digest.cache_clear()
    before = keys.code_digest("digested")
    (package / "inner" / "__init__.py").write_text("a = 2\n")
    keys.code_digest.cache_clear()
    assert keys.code_digest("digested") != before
    with pytest.raises(PluginError, match="can't be found"):
        keys.code_digest("no_such_package_anywhere")


def test_the_files_that_data_read_are_part_of_the_key(run: Run) -> None:
    Path("shift.txt").write_text("1.0")
    text = SHORT.replace("data:tiny}", "data:tiny, config: {path: shift.txt}}")
    inline = SHORT.replace("  data: {use: data:tiny}\n", "").replace(
        "{data: data}", "{data: {use: data:tiny, config: {path: shift.txt}}}"
    )
    run(text)
    run(inline)
    assert all(reused(run(text)).values())
    assert all(reused(run(inline)).values())
    Path("shift.txt").write_text("2.0")
    assert not any(reused(run(text)).values())
    assert not any(reused(run(inline)).values())


def test_fresh_computes_everything_anew(run: Run) -> None:
    first = run(SHORT)
    again = run(SHORT, fresh=True)
    assert not any(reused(again).values())
    assert again.stages[1].metrics == first.stages[1].metrics


def test_a_damaged_copy_in_the_cache_is_made_again(run: Run) -> None:
    first = run()
    for state in Path(".scorefold/cache").glob("*/state.safetensors"):
        state.write_bytes(state.read_bytes()[:-1] + b"x")
    second = run()
    assert not reused(second)["score"]
    assert reused(second)["samples"]
    assert [stage.metrics for stage in second.stages[2:]] == [stage.metrics for stage in first.stages[2:]]
    assert all(reused(run()).values())


@pytest.mark.parametrize("where", ["entry", "digest"])
def test_what_stands_where_a_stage_is_kept_is_replaced(run: Run, where: str) -> None:
    """A file in the place of a kept stage, or a folder in the place of its digest."""
    run()
    for kept in [path for path in Path(".scorefold/cache").iterdir() if len(path.name) == 40]:
        digest = kept.parent / "digests" / kept.name
        if where == "entry":
            shutil.rmtree(kept)
            kept.write_text("no folder")
        else:
            digest.unlink()
            digest.mkdir()
    assert not any(stage.reused for stage in run().stages)
    assert all(stage.reused for stage in run().stages)


def test_a_lock_that_cannot_be_held_is_no_fault_of_a_plugin(run: Run) -> None:
    run()
    locks = sorted(Path(".scorefold/cache/locks").iterdir())
    for lock in locks:
        lock.unlink()
        lock.mkdir()
    with pytest.raises(ArtefactError, match=r"the lock .* can't be held: it is a folder") as refused:
        run()
    assert "remove" in str(refused.value)
    assert "plugin" not in str(refused.value)


def test_the_libraries_that_its_code_builds_on_are_part_of_the_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(SHORT)
    known = keys.libraries("scorefold-core")
    assert known["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert keys.libraries("scorefold-standard")["scikit-learn"][0].isdigit()
    assert keys.libraries("no-such-distribution-anywhere") == {}
    monkeypatch.setattr("scorefold_registry.run.keys.libraries", lambda name: {**known, "einops": "0.0"})
    assert not any(reused(run(SHORT)).values())


def test_what_stands_at_the_paths_of_a_configuration_is_part_of_the_key(run: Run) -> None:
    Path("table").mkdir()
    Path("table/a").write_text("1")
    text = SHORT + (
        "  score: {use: score:tiny, inputs: {data: data}, "
        "config: {net: {use: network:tiny, config: {table: table/a}}}}\n"
        "  other: {use: estimator:tiny-mean, inputs: {data: data}, config: {table: table}}\n"
    )
    run(text)
    assert all(reused(run(text)).values())
    Path("table/a").write_text("2")
    assert reused(run(text)) == {"data": True, "mean": True, "score": False, "other": False}


def test_data_named_inline_are_drawn_from_the_root_seed(run: Run) -> None:
    text = "version: 1\nstages:\n  mean: {use: estimator:tiny-mean, inputs: {data: {use: data:tiny}}}\n"
    first, same, other = (run(text, seed=seed, fresh=True).stages[0].metrics for seed in (0, 0, 1))
    assert first == same
    assert first != other
