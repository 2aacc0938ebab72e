"""The answer of an audit in sentences: whether the model copies, what else was found, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scorefold_audit.copying.equal import EqualPoints
from scorefold_audit.copying.spaces import GAPS, GAPS_OF_BOTH, TRAINING_GAPS
from scorefold_audit.verdicts import TESTS, samples_called


def answer_entries(
    judged: Sequence[Mapping[str, Any]],
    warnings: Sequence[str],
    listed: Sequence[Mapping[str, Any]] = (),
    unlike: str = "",
    equal: EqualPoints | None = None,
) -> dict[str, Any]:
    """Summary of the verdicts, as entries of a result's ``answer``: whether the model copies comes first, what else
    was found follows. The ``warnings`` are about the data, and ``listed`` are the lists of copies, as JSON.
    ``unlike`` says why samples can't be near to training points, where that is so. ``equal`` are samples that equal a
    training point where no held-out point does."""
    space = most_named(listed)
    most = next((one for one in listed if one["space"] == space), None)
    named = 0 if most is None else most["named"]
    found = [verdict for verdict in judged if verdict["found"]]
    names = list(dict.fromkeys(verdict["name"] for verdict in found))
    tested = next((verdict for verdict in judged if verdict["name"] == "copies"), None)
    if named and most is not None:  # the share of the list with the most copies
        tested = next((one for one in judged if one["name"] == "copies" and one["where"] == most["space"]), tested)
    gaps = [one for one in found if one["name"] == "copies" and one["where"] in (GAPS, TRAINING_GAPS, GAPS_OF_BOTH)]
    first = reported_copies(judged)
    copies = [first, *gaps] if first else gaps
    near = next((verdict for verdict in found if verdict["name"] == "memorisation"), None)
    advice = ""
    if copies:
        said = f"This model copies its training data. {'. '.join(map(_share, copies))}."
        said += "".join(_others(one, copies[0]) for one in listed if one["space"] == copies[0]["where"])
        said += _surest([one for one in listed if one["space"] in [each["where"] for each in copies]])
        advice = "look at the copies, then remove duplicates of the training data, train on more data or for less long"
    elif near is not None:
        pairs = f"In {near['value']:.1%} of pairs a sample is nearer to the training data than a held-out point"
        said = f"This model memorises its training data, though no sample is a clear copy. {pairs}."
        advice = "train on more data or for less long, and audit more samples"
    elif tested is not None and most is not None and named:
        are = "1 sample is" if named == 1 else f"{named:,} samples are"
        said = f"{are} listed as copies, though their share may be chance. {_share(tested)}.{_surest([most])}"
        advice = "look at the copies, and audit more samples"
        warnings = [*warnings, "the list of copies and the test of their share disagree"]
    elif tested is not None and equal is not None and len(equal.samples):
        k, of = len(equal.samples), f"{equal.searched:,}{' drawn' if equal.searched < equal.every else ''}"
        said = f"{k:,} {'samples equal' if k > 1 else 'sample equals'} a training point exactly. No held-out point "
        said += f"does, and none of {of} training points equals another one. {_share(tested)}."
        advice = "look at the equal pairs: equal rows of measurements are copies"
        warnings = [*warnings, "equal points are too few for the test of their share"]
    elif tested is not None and unlike:
        said = f"Whether this model copies can't be said: {unlike}."
        of = "held-out points of the kind and the time" if unlike.startswith("held-out") else "samples in the units"
        advice = f"give {of} of the training data"
    elif tested is not None and tested["interval"][0] > 0:
        said = f"This model may copy its training data. {_share(tested)}."
        advice = "look at the samples nearest to training points, and audit more samples"
        warnings = [*warnings, "the interval of the share and its test, which counts all tests of the audit, disagree"]
    elif tested is not None:
        said = f"No sign of copying. {_share(tested)}."
        if tested["smallest_found"] is not None:
            share = f"A share of near-exact copies of {tested['smallest_found']:.1%} or more"
            said += f" {share} would have been found in 8 of 10 such audits."
    else:
        said = "Whether this model copies was not tested."
        advice = "give held-out points that the model was not trained on"
    others = [TESTS[name] for name in names if name not in ("copies", "memorisation")]
    if others:
        said += f" Also found: {'; '.join(others)}."
    entries = {"verdict": said, "advice": advice, "caveats": list(warnings)}
    if said.startswith("Whether"):
        return {**entries, "value": None, "interval": None, "sure": "withheld"}
    shown = first or (tested if named and not copies else None)
    if shown and shown["where"] not in (GAPS, TRAINING_GAPS, GAPS_OF_BOTH):
        quantity = f"copied share of the samples ({shown['where']})"
        entries |= {"quantity": quantity, "value": shown["value"], "interval": list(shown["interval"])}
    return {**entries, "sure": "with caution" if warnings else "clear"}


def reported_copies(judged: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The verdict of copies among complete points that the answer is about; None where no copying was found.

    Of several spaces it is the first one with copies, or a later one with clearly more.
    """
    first: Mapping[str, Any] | None = None
    for one in judged:
        if one["name"] != "copies" or not one["found"] or one["where"] in (GAPS, TRAINING_GAPS, GAPS_OF_BOTH):
            continue
        if first is None or one["value"] > first["interval"][1]:
            first = one
    return first


def most_named(listed: Sequence[Mapping[str, Any]]) -> str:
    """The space whose list names the most copies, the first of several; empty for no lists."""
    most = max(listed, key=lambda one: one["named"], default=None)
    return "" if most is None else str(most["space"])


def of_nothing(withheld: Sequence[Mapping[str, str]], warnings: Sequence[str]) -> dict[str, Any]:
    """Entries of a result's ``answer`` where copies could not be tested, with the reason."""
    reason = next(
        (row["reason"] for row in withheld if row["part"].startswith("copies (")), "too few points were given"
    )
    return {
        "quantity": "copied share of the samples",
        "value": None,
        "interval": None,
        "verdict": f"Whether this model copies was not tested: {reason}.",
        "sure": "withheld",
        "advice": "give more points; where a table has repeated rows, remove them before it is split",
        "caveats": list(warnings),
    }


def of_equal_points(equal: EqualPoints, count: int, warnings: Sequence[str]) -> dict[str, Any]:
    """Entries of a result's ``answer`` without held-out points: how many of ``count`` samples equal a training point,
    and how many training points equal another one."""
    k = len(equal.samples)
    of = f"{equal.searched:,}" + (" drawn" if equal.searched < equal.every else "")
    if k:
        said = f"{k:,} of {count:,} samples equal{'s' if k == 1 else ''} a training point exactly"
        said += f"; {equal.repeated:,} of {of} training points equal another one."
        said += " Without held-out points nothing says how many would be equal by chance."
    else:
        said = f"None of the {count:,} samples equals a training point exactly."
        said += " Whether near-copies are among them can't be tested without held-out points."
    return {
        "quantity": "share of samples that equal a training point",
        "value": k / count,
        "interval": None,
        "verdict": said,
        "sure": "with caution",
        "advice": "add points that the model was not trained on: --held-out FILE, or inputs: {held_out: STAGE}",
        "caveats": list(warnings),
    }


def _others(listed: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """The sentence that more samples are listed than the share of near-exact copies allows; empty where it is so."""
    if listed["named"] <= verdict["interval"][1] * listed["samples"]:
        return ""
    wrong = f"at most {listed['false_share']:.0%} of them wrongly"
    return f" {listed['named']:,} of {listed['samples']:,} are listed as copies, near-exact or not, {wrong}."


def _surest(listed: Sequence[Mapping[str, Any]]) -> str:
    """The sentence that names up to three copies of the first list that names any."""
    rows = [row for one in listed if one["named"] for row in one["nearest"] if row["named"]][:3]
    if not rows:
        return ""
    pairs = [f"{_of_samples(row)} (a copy of {row['training_name']} of the training data)" for row in rows]
    first = ", ".join(pairs[:-1])
    names = f"{first} and {pairs[-1]}" if first else pairs[-1]
    return f" The surest {'is' if len(rows) == 1 else 'are'} {names}."


def _of_samples(row: Mapping[str, Any]) -> str:
    name: str = row["sample_name"]
    return name if name.startswith("sample ") else f"{name} of the samples"


def _share(verdict: Mapping[str, Any]) -> str:
    low, high = verdict["interval"]
    share = (
        f"An estimated {max(0.0, verdict['value']):.1%} of its {samples_called(verdict['where'])} are near-exact copies"
    )
    return f"{share} (95% interval {max(0.0, low):.1%} to {max(0.0, high):.1%}, {verdict['where']})"
