"""Claims from a table: single ones, groups of rows, defaults and words, and where a bad table is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorefold.errors import PluginError
from scorefold.plugin import Claim
from scorefold_toolkit.claims import read_claims

SINGLE = '[exact]\nstatement = "It holds"\nsource = "closed form"\ntarget = "exact:error"\ntolerance = ["max", 0]\n'
GROUP = """
gates = ["sphere-3"]

[defaults]
profiles = ["quick", "full"]
source = "ours"

[words.data]
sphere = "the sphere"
squares = {words = "squares", low = 9, high = 11}

[words.fact]
share = {name = "{data}-share", target = "trained:share"}

[first]
statement = "No row"
target = "trained:first"

[both]
name = "{data}-{k:g}"
statement = "{k} on {data_words}{what}"
target = "trained:both"
options = {data = "{data}", k = "{k}", over = "{over}"}
columns = ["data", "k", "what", "over", "tolerance"]
rows = [
    ["sphere", 3.0, ", exactly", "", ["abs", 0.0]],
    ["sphere", 2, " {as it is}", "largest"],
]

[joined]
name = "{fact_name}"
statement = "{data_words}"
target = "{fact_target}"
tolerance = ["range", ["{data_low}", "{data_high}"]]
columns = ["data", "fact", "reference"]
rows = [["squares", "share", 10.5]]
"""


def claims(folder: Path, text: str) -> list[Claim]:
    package = folder / "scorefold_mine"
    (package / "claims").mkdir(parents=True)
    (package / "claims/table.toml").write_text(text)
    return list(read_claims(package))


def test_a_table_is_a_claim_by_its_name(tmp_path: Path) -> None:
    target = "scorefold_mine.claims.exact:error"
    assert claims(tmp_path, SINGLE) == [
        Claim("exact", "It holds", "closed form", target=target, tolerance=("max", 0), role="report"),
    ]


def test_each_row_of_a_group_is_a_claim(tmp_path: Path) -> None:
    usual = {"source": "ours", "role": "report", "profiles": ("quick", "full")}
    first, exact, largest, joined = claims(tmp_path, GROUP)
    both = "scorefold_mine.claims.trained:both"
    assert first == Claim("first", "No row", target="scorefold_mine.claims.trained:first", **usual)
    assert exact == Claim(
        "sphere-3",
        "3.0 on the sphere, exactly",
        target=both,
        options={"data": "sphere", "k": 3.0},
        **{**usual, "role": "gate"},
    )
    assert largest.options == {"data": "sphere", "k": 2, "over": "largest"}
    assert (largest.name, largest.statement, largest.role) == ("sphere-2", "2 on the sphere {as it is}", "report")
    assert joined == Claim(
        "squares-share",
        "squares",
        target="scorefold_mine.claims.trained:share",
        reference=10.5,
        tolerance=("range", (9, 11)),
        **usual,
    )


BAD = {
    "a gate that is no claim": ('gates = ["exakt"]\n' + SINGLE, "gates names 'exakt', and there is no such claim"),
    "a gate twice": (
        'gates = ["exact", "exact"]\n' + SINGLE,
        "gates names 'exact', and there is no such claim, or it is",
    ),
    "gates in one text": ('gates = "exact"\n' + SINGLE, "gates is 'exact'; expected the names of claims, in a list"),
    "a role": (SINGLE + 'role = "gate"\n', "[exact]: a claim has no 'role'; it has basis, name, needs"),
    "no TOML": ("[exact", "can't be read: Expected"),
    "unknown field": (SINGLE + "refrence = 1\n", "[exact]: a claim has no 'refrence'; it has basis, name, needs"),
    "no target": ('[exact]\nstatement = "s"\nsource = "s"\n', "[exact]: it says no target"),
    "no source": ('[exact]\nstatement = "s"\ntarget = "a:b"\n', "[exact]: it says no source"),
    "unknown column": (
        '[all]\nname = "{dta}"\ntarget = "a:b"\ncolumns = ["data"]\nrows = [["x"]]\n',
        "[all], row 1: nothing is called 'dta'; the columns are data",
    ),
    "too many cells": (
        '[all]\nname = "{data}"\ntarget = "a:b"\ncolumns = ["data"]\nrows = [["x", 1]]\n',
        "[all], row 1: 2 cells; expected one for each of data",
    ),
    "array of tables": ('[[claim]]\nname = "exact"\n', "claim is not a table; expected [name-of-the-claim], or"),
    "bad name": (
        '[all]\nname = "{data}"\ntarget = "a:b"\nstatement = "s"\nsource = "s"\ncolumns = ["data"]\nrows = [["A B"]]\n',
        "[all], row 1: a claim is called 'A B'",
    ),
    "bad tolerance": (
        SINGLE.replace('"max"', '"most"'),
        "[exact]: claim 'exact' has tolerance 'most'; expected one of abs",
    ),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_a_bad_table_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PluginError) as refused:
        claims(tmp_path, text)
    assert str(tmp_path / "scorefold_mine/claims/table.toml") in refused.value.message
    assert said in refused.value.message


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"table\.toml can't be read"):
        list(read_claims(tmp_path))
