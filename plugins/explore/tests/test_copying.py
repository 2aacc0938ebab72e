"""Run files and Python that the page gives out: they say what they should, and they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from scorefold_explore.answers.maps import curve_between
from scorefold_explore.bundle import question_key, still_page, usual_answers, with_recipes
from scorefold_explore.explored import Explored
from scorefold_explore.opening import open_data
from scorefold_explore.questions import answer
from scorefold_registry import Host, run_file
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read

HOSTILE = "</script><img src=x onerror=alert(1)>"

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("map", {"name": "pca"}),
    ("map", {"name": "code:code"}),
    ("map", {"name": "chart:flow"}),
    ("colour", {"name": "dimension"}),
    ("colour", {"name": "isolation"}),
    ("colour", {"name": "likelihood:flow"}),
    ("colour", {"name": "reconstruction:code"}),
    ("geodesic", {"geometry": "geometry", "start": 3, "end": 9, "steps": 5}),
    ("decoded", {"coder": "code", "code": [0.5, 0, 0, 1]}),
    ("point", {"point": 3}),
    ("spectrum", {"score": "score", "point": 3}),
    ("samples", {"model": "score", "point": 3}),
    ("more", {}),
]


@pytest.mark.parametrize(("what", "asked"), ASKED, ids=[f"{what} {next(iter(a.values()), '')}" for what, a in ASKED])
def test_what_is_copied_can_be_run(
    host: Host, learned: Explored, tmp_path: Path, what: str, asked: dict[str, Any]
) -> None:
    found = answer(learned, "recipe", {"what": what, "asked": asked})
    if found["run_file"] is not None:
        (tmp_path / "run.yaml").write_text(found["run_file"])
        make_plan(host.catalogue, read(tmp_path / "run.yaml"))
    code = compile(found["python"], what, "exec")
    if what != "more":  # which trains
        exec(code, {})


def test_the_run_file_of_a_geodesic_gives_the_same_curve(host: Host, learned: Explored, tmp_path: Path) -> None:
    asked = {"geometry": "geometry", "start": 3, "end": 9, "steps": 5}
    (tmp_path / "run.yaml").write_text(answer(learned, "recipe", {"what": "geodesic", "asked": asked})["run_file"])
    result = run_file(host, tmp_path / "run.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    curve = result.value("between").load("test").x
    assert torch.allclose(curve, curve_between(learned, "geometry", 3, 9, 5)[0], atol=1e-5)


def test_python_that_is_copied_finds_rows_by_number_and_by_name(host: Host, learned: Explored, tmp_path: Path) -> None:
    lines = answer(learned, "recipe", {"what": "geodesic", "asked": {"geometry": "geometry", "start": 3, "end": 290}})
    found: dict[str, Any] = {}
    exec(lines["python"], found)
    assert torch.equal(torch.cat([found["x"], found["y"]]), learned.points[[3, 290]])
    assert f"[[{learned.groups[0].index[3]}, {learned.group_of(290).row(290)}]]" in lines["run_file"]
    names = [HOSTILE, "'\n\u202e", *map("patient {}".format, range(30))]
    table = pd.DataFrame(torch.randn(32, 2).numpy(), columns=["a", "b"]).assign(who=names)
    table.to_csv(tmp_path / "x.csv", index=False)
    explored = open_data(host, tmp_path / "x.csv", {"names": "who"})
    rows = torch.cat([group.index for group in explored.groups if group.index is not None])
    for point in torch.isin(rows, torch.tensor([0, 1, 9])).nonzero().flatten().tolist():
        exec(answer(explored, "recipe", {"what": "point", "asked": {"point": point}})["python"], found)
        assert torch.equal(found["x"][0], explored.points[point])


def test_a_still_page_holds_what_was_computed(learned: Explored) -> None:
    answers = usual_answers(learned, points=2)
    kinds = {key.partition("{")[0] for key in answers}
    assert kinds >= {"map", "colour", "point", "pictures", "geodesic", "code", "duplicates"}
    whole = with_recipes(learned, answers)
    assert question_key("overview", {}) in whole
    assert any(key.startswith("recipe{") for key in whole)


def test_a_key_is_the_same_whatever_the_order() -> None:
    assert question_key("a", {"x": 1, "b": [2.5]}) == 'a{"b":[2.5],"x":1}' == question_key("a", {"b": [2.5], "x": 1})


def test_no_text_ends_the_data_of_a_still_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from scorefold_explore import bundle

    for name in ("explore.js",):
        (tmp_path / name).write_text("'</script>'")
    script = bundle.PageFile(tmp_path / "explore.js", "text/javascript")
    monkeypatch.setattr(bundle, "check_built", lambda: None)
    monkeypatch.setitem(bundle.FILES, "explore.js", script)
    page = still_page(HOSTILE, {"map{}": HOSTILE}).decode()
    assert HOSTILE not in page
    assert page.count("</script>") == 2
    assert "script-src 'sha256-" in page
    assert "'unsafe" not in page
    assert 'src="' not in page
