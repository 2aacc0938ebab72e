"""Verdicts of runs: what is said of a number, of its truth, and of several estimates together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from scorefold.artefacts import write_json
from scorefold_registry.run.verdicts import CAUTION, CLEAR, WITHHELD, Answer, answers, crossing, first_sentence

STAGE = {
    "distribution": "scorefold-tiny",
    "version": "0.1",
    "summary": "tiny",
    "verb": "estimate",
    "gives": "value",
    "source": None,
    "key": "k",
    "seed": 0,
    "computed": 0.0,
    "seconds": 0.0,
    "figure_failure": None,
}


class Folder:
    """A run's folder of estimates, as stages leave them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages: list[dict[str, Any]] = []

    def estimate(
        self,
        name: str,
        value: float | None,
        interval: tuple[float, float] | None = None,
        *,
        data: str = "data",
        component: str = "estimator:tiny",
        inputs: dict[str, Any] | None = None,
        headline: str = "",
        truth: float | None = None,
        covers: str = "",
        **diagnostics: Any,
    ) -> None:
        facts = {
            "type": "estimate",
            "quantity": "intrinsic dimension",
            "value": value,
            "interval": interval,
            "level": 0.95,
            "diagnostics": diagnostics,
            "headline": headline,
            "covers": covers,
        }
        place = self.folder / name
        place.mkdir()
        write_json(place / "value.json", facts)
        write_json(place / "result.json", {"metrics": {}})
        resolved = {"inputs": {"data": data, **(inputs or {})}}
        write_json(place / "stage.json", {**STAGE, "name": name, "component": f"{component}@1", "resolved": resolved})
        metrics = {} if truth is None else {"truth": truth}
        self.stages.append({"name": name, "component": f"{component}@1", "metrics": metrics})

    def answers(self) -> list[Answer]:
        return answers(self.folder, self.stages)


@pytest.fixture
def made(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("value", "interval", "truth", "said"),
    [
        (3.0, None, 2.0, "The true value is 2, so the answer is 1 too high."),
        (1.0, (0.5, 1.5), 2.0, "The true value is 2, so the answer is 1 too low."),
        (2.9, (2.5, 3.3), 3.0, "The true value, 3, is inside the interval."),
        (3.0, (3.0, 3.0), 3.0, "The true value is 3 too."),
    ],
)
def test_the_truth_stands_on_its_side(
    made: Folder, value: float, interval: tuple[float, float] | None, truth: float, said: str
) -> None:
    made.estimate("dimension", value, interval, truth=truth)
    (answer,) = made.answers()
    assert answer.verdict.endswith(said)
    assert (answer.number, answer.between) == (value, interval)


def test_warnings_make_an_answer_one_with_caution_and_are_listed_once(made: Folder) -> None:
    made.estimate("dimension", 3.0, warnings=["few points", "few points"], advice="take more", note="at sigma 1")
    (answer,) = made.answers()
    assert answer.sure == CAUTION
    assert answer.text().splitlines() == [
        "dimension: The intrinsic dimension is 3. Read it with caution.",
        "  at sigma 1",
        "  caution: few points",
        "  advice: take more",
    ]
    assert answer.as_json() == {
        "stage": "dimension",
        "component": "estimator:tiny",
        "quantity": "intrinsic dimension",
        "verdict": "The intrinsic dimension is 3.",
        "sure": "with caution",
        "value": 3.0,
        "interval": None,
        "warnings": ["few points"],
        "advice": "take more",
    }


def test_an_estimate_without_a_number_is_withheld(made: Folder) -> None:
    made.estimate("dimension", None, headline="1 to 42, depending on the scale; no single dimension", truth=5.0)
    (answer,) = made.answers()
    assert answer.sure == WITHHELD
    assert answer.verdict == (
        "Intrinsic dimension: 1 to 42, depending on the scale; no single dimension. The true value is 5."
    )


def test_an_upper_bound_is_called_so(made: Folder) -> None:
    made.estimate("dimension", 147.0, (141.0, 153.0), bound="upper")
    (answer,) = made.answers()
    assert answer.verdict == "The intrinsic dimension is at most 147 (95% interval 141 to 153)."


@pytest.mark.parametrize(
    ("value", "bound", "said"),
    [
        (8.0, "", "do not contradict each other: 8.0 (mle) lies below the upper bound 147 (dimension)."),
        (8.0, "upper", "disagree: the lowest is 8.0 (mle), the highest 147 (dimension)."),
        (160.0, "", "disagree: the lowest is 147 (dimension), the highest 160.0 (mle)."),
    ],
)
def test_an_upper_bound_contradicts_no_lower_estimate(made: Folder, value: float, bound: str, said: str) -> None:
    made.estimate("dimension", 147.0, (141.0, 153.0), bound="upper")
    made.estimate("mle", value, (value - 1, value + 1), bound=bound)
    assert said in made.answers()[0].verdict


CURVE = [{"sigma": 0.03, "value": 42.0}, {"sigma": 0.3, "value": 10.0}, {"sigma": 3.0, "value": 1.0}]


def test_a_curve_and_a_number_are_compared_at_the_scale_where_they_meet(made: Folder) -> None:
    made.estimate("iddiff", None, headline="1 to 42", curve=CURVE, warnings=["no plateau"])
    made.estimate("mle", 10.0, (9.5, 10.5))
    compared, *others = made.answers()
    assert [answer.stage for answer in others] == ["iddiff", "mle"]
    assert (compared.stage, compared.sure, compared.number) == ("", WITHHELD, None)
    assert "iddiff gives no single number, mle gives 10.0." in compared.verdict
    assert compared.verdict.endswith("At sigma 0.3 iddiff reads 10.0, as mle does.")


@pytest.mark.parametrize(
    ("intervals", "sure", "said"),
    [
        ([(2.0, 4.0), (3.0, 5.0)], CLEAR, "agree: from 3.0 (first) to 4.0 (second)"),
        ([(2.9, 3.1), (3.9, 4.1)], CAUTION, "disagree: the lowest is 3.00 (first), the highest 4.00 (second)."),
        ([(2.9, 3.1), None], CAUTION, "disagree"),
        ([None, (3.0, 4.2)], CLEAR, "agree"),
    ],
)
def test_estimates_agree_where_their_intervals_overlap(
    made: Folder, intervals: list[tuple[float, float] | None], sure: str, said: str
) -> None:
    made.estimate("second", 4.0, intervals[1])
    made.estimate("first", 3.0, intervals[0])
    compared = made.answers()[0]
    assert compared.sure == sure
    assert compared.verdict.startswith("Two estimates of the intrinsic dimension ")
    assert said in compared.verdict


def test_spreads_over_points_are_called_so(made: Folder) -> None:
    made.estimate("second", 4.0, (2.0, 4.0), covers="points", truth=3.0)
    made.estimate("first", 3.0, (3.0, 5.0), covers="points")
    compared, one, _ = made.answers()
    assert compared.verdict.endswith("with spreads over points that overlap.")
    assert "is inside the spread." in made.answers()[2].verdict or "is inside the spread." in one.verdict


def test_two_of_three_that_overlap_do_not_make_three_agree(made: Folder) -> None:
    for name, low in (("a", 1.0), ("b", 1.8), ("c", 2.6)):
        made.estimate(name, low + 0.5, (low, low + 1))
    assert "Three estimates of the intrinsic dimension disagree: the lowest is 1.5 (a), the highest 3.1 (c)." in (
        made.answers()[0].verdict
    )


def test_estimates_of_other_data_and_repeats_are_not_compared(made: Folder) -> None:
    made.estimate("here", 3.0)
    made.estimate("there", 9.0, data="other")
    assert [answer.stage for answer in made.answers()] == ["here", "there"]
    made.estimate("again", 9.0)
    made.stages[0], made.stages[2] = made.stages[2], made.stages[0]
    made.estimate("over", 3.1, inputs={"repeats": ["here", "again"]})
    assert [answer.stage for answer in made.answers()] == ["there", "over"]


@pytest.mark.parametrize(
    ("trouser", "end"),
    [
        ([91, 117], " By label, the intrinsic dimension is highest for Shirt (200) and lowest for 1 (104)."),
        ([91, 170], ""),
        (None, ""),
    ],
)
def test_labels_are_ranked_where_their_intervals_do_not_overlap(made: Folder, trouser: Any, end: str) -> None:
    made.estimate("bound", 147.0, (141.0, 153.0))
    rows = [("Shirt", 6, 200.0, [167, 233]), (None, 1, 104.0, trouser), (None, 2, None, None)]
    by_label = [
        {
            "label": label,
            "name": name,
            "quantity": "intrinsic dimension",
            "value": value,
            "interval": ends,
            "points": 40,
        }
        for name, label, value, ends in rows
    ]
    write_json(made.folder / "bound" / "result.json", {"metrics": {}, "by_label": by_label})
    (found,) = answers(made.folder, made.stages)
    assert found.verdict == f"The intrinsic dimension is 147 (95% interval 141 to 153).{end}"
    assert found.headline() == "bound: The intrinsic dimension is 147 (95% interval 141 to 153)."


def ranked(made: Folder, value: float | None, rows: list[tuple[float, float]], quantity: str = "") -> bool:
    """True if the verdict of an estimate of ``value`` ranks labels with these values and half widths."""
    made.stages.clear()
    shutil.rmtree(made.folder / "bound", ignore_errors=True)
    made.estimate("bound", value, headline="no plateau" if value is None else "")
    by_label = [
        {
            "label": place,
            "name": None,
            "quantity": quantity or "intrinsic dimension",
            "value": own,
            "interval": [own - half, own + half],
            "points": 40,
        }
        for place, (own, half) in enumerate(rows)
    ]
    write_json(made.folder / "bound" / "result.json", {"metrics": {}, "by_label": by_label})
    (found,) = answers(made.folder, made.stages)
    return "By label" in found.verdict


def test_of_many_labels_the_intervals_are_wider(made: Folder) -> None:
    """Of 20 labels there are 190 pairs: intervals are 1.32 times as wide."""
    others = [(5.0, 1.0)] * 18
    assert ranked(made, 5.0, [(4.0, 1.0), (6.01, 1.0)])
    assert not ranked(made, 5.0, [(4.0, 1.0), (6.6, 1.0), *others])
    assert ranked(made, 5.0, [(4.0, 1.0), (6.7, 1.0), *others])
    assert not ranked(made, 5.0, [(4.0, 1.0), (6.01, 1.0)], quantity="reach")
    assert not ranked(made, None, [(4.0, 1.0), (6.01, 1.0)]), "there is no answer to rank labels by"


def test_a_comparison_stands_above_its_parts(made: Folder) -> None:
    made.estimate("a", 2.0, (1.9, 2.1))
    made.estimate("other", 9.0, (8.0, 10.0), data="other")
    made.estimate("b", 2.05, (1.9, 2.2))
    found = made.answers()
    assert [answer.stage for answer in found] == ["", "a", "b", "other"]
    assert found[0].parts == ("a", "b")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("The dimension is 3. The true value is 3.", "The dimension is 3."),
        ("It is highest for St. Gallen (5.0). By chance.", "It is highest for St. Gallen (5.0)."),
        ("Closer than before (0.95 vs. 4.7). Read it with caution.", "Closer than before (0.95 vs. 4.7)."),
        ("No more", "No more"),
    ],
)
def test_the_first_sentence_ends_at_no_short_word(text: str, first: str) -> None:
    assert first_sentence(text) == (first, text.removeprefix(first).strip())


def test_a_headline_is_one_sentence_and_names_a_caution() -> None:
    answer = Answer("draws", "flow:caflow", "PSNR", "PSNR is 17.9 dB. Random points have 8.5 dB.", CAUTION)
    assert answer.headline() == "draws: PSNR is 17.9 dB (with caution)."


def test_an_estimate_that_checked_others_stands_for_them_and_for_the_comparison(made: Folder) -> None:
    """Estimates of other data, and those that its table lacks, follow."""
    made.estimate("unchecked", 6.0, component="estimator:mle")
    made.estimate("other", 7.0)
    made.estimate("elsewhere", 5.0, component="estimator:mle", data="more")
    made.estimate("checked", 8.0, component="estimator:calibrated", table=[{"estimator": "mle", "used": True}])
    assert [answer.stage for answer in made.answers()] == ["checked", "other", "elsewhere"]


def test_a_minor_answer_is_given_where_there_is_no_other(tmp_path: Path) -> None:
    stages = []
    for name, minor in (("score", True), ("samples", False)):
        (tmp_path / name).mkdir()
        answer = {"quantity": "q", "value": 1.0, "verdict": f"{name} is done.", "minor": minor}
        write_json(tmp_path / name / "result.json", {"metrics": {}, "answer": answer})
        write_json(tmp_path / name / "value.json", {"type": "none"})
        stages.append({"name": name, "component": "score:tiny@1", "metrics": {"steps": 600}})
    assert [answer.verdict for answer in answers(tmp_path, stages)] == ["samples is done."]
    assert [answer.verdict for answer in answers(tmp_path, stages[:1])] == ["score is done."]


@pytest.mark.parametrize(
    ("value", "at"), [(42.0, 0.03), (10.0, 0.3), (1.0, 3.0), (0.5, None), (50.0, None), (5.5, 0.3 * 10**0.5)]
)
def test_where_a_curve_passes_a_value(value: float, at: float | None) -> None:
    found = crossing([(row["sigma"], row["value"]) for row in CURVE], value)
    assert found is None if at is None else found == pytest.approx(at)


def test_a_level_curve_passes_nothing() -> None:
    assert crossing([(0.1, 3.0), (1.0, 3.0)], 3.0) is None
    assert crossing([], 3.0) is None
