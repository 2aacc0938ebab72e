"""Tables of many runs: what stands under a name, what is bold, and what a narrow terminal gets."""

from __future__ import annotations

import io
import re

import pytest

from scorefold.plugin import Comparison
from scorefold_registry.experiments.rows import CaseRow, over_seeds
from scorefold_registry.experiments.table import Table, compared_line, compared_reasons, compared_table, print_table

TRUTH = Comparison(verbs=("estimate",))
ROWS = [
    CaseRow("estimator:a", "sphere", 2.0, 2.0, (1.9, 2.1), 1.0, 12345, "dimension", 0.0, uses=("score:exact",)),
    CaseRow("estimator:b", "sphere", 2.0, 2.5, None, 2.0, None, "dimension", 0.5),
    CaseRow("estimator:a", "curve", 1.0, error="too few points"),
    CaseRow("estimator:b", "curve", 1.0, 1.0, None, 2.0, None, "dimension", 0.0),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(table: Table, stream: io.StringIO) -> list[str]:
    print_table(table, stream)
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()


def test_a_component_is_a_line_with_what_it_cost() -> None:
    head, rule, first, second = printed(compared_table(ROWS, TRUTH, short=True), io.StringIO())
    assert re.split(r"  +", head) == ["component", "sphere (2)", "curve (1)", "mean error", "CPU s", "network calls"]
    assert set(rule) == {"─"}
    assert re.split(r"  +", first) == ["a (score:exact)", "2.00", "–", "0.0 % (1 of 2)", "1.0", "12,345"]
    assert re.split(r"  +", second) == ["b", "2.5", "1", "12.5 %", "4.0", "–"]
    assert compared_reasons(ROWS) == ["estimator:a on curve: too few points"]


def test_the_nearest_to_the_truth_is_best_and_an_empty_cell_has_its_reason() -> None:
    first, second = compared_table(ROWS, TRUTH).lines
    assert [cell.best for cell in first[:3]] == [False, True, False]
    assert [cell.best for cell in second[:3]] == [False, False, True]
    assert (first[0].text, first[1].below, first[2].reason) == ("estimator:a", "1.90 to 2.10", "too few points")


def test_simpler_answers_stand_under_the_value_of_a_row_and_are_means_over_seeds() -> None:
    rows = [
        CaseRow("geometry:a", "digits", value=1.0, interval=(0.9, 1.1), baselines={"straight": value, "denoised": 0.5})
        for value in (1.0, 2.0)
    ]
    joined = over_seeds(rows, 2)
    assert joined.baselines == {"straight": 1.5, "denoised": 0.5}
    assert compared_table([joined], TRUTH).lines[0][1].below == "1 to 1; straight 1.5; denoised 0.5"
    assert compared_line(rows[0]).endswith("1.00 (0.90 to 1.10); straight 1; denoised 0.5")


def test_costs_are_a_table_of_their_own_where_a_terminal_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    table = compared_table(ROWS, TRUTH, short=True)
    monkeypatch.setenv("TERM", "xterm")  # one that is dumb has 80 columns
    monkeypatch.setenv("COLUMNS", "50")
    narrow = printed(table, Terminal())
    monkeypatch.setenv("COLUMNS", "150")
    wide = printed(table, Terminal())
    assert sum("component" in line for line in narrow) == 2
    assert sum("component" in line for line in wide) == 1
    assert max(map(len, narrow)) <= 50
