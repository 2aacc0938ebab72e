"""Verdicts: tests corrected for how many there are, and sentences that say what was found and what could have been."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from scorefold_audit.copying.equal import ALL_BUT_ONE
from scorefold_audit.copying.spaces import (
    GAPS,
    GAPS_OF_BOTH,
    TRAINING_GAPS,
    Copying,
    Overlap,
    SpaceMatches,
)
from scorefold_audit.membership.losses import Gap, Membership
from scorefold_audit.quality.comparison import Permuted

POWER = 0.8
"""A smallest effect that could have been found is one that 8 of 10 such audits find."""

TESTS = {
    "copies": "single samples are copies of training points",
    "memorisation": "samples are nearer to training points than held-out points are",
    "membership": "the model's losses reveal which points it was trained on",
    "likelihood-gap": "training points are likelier than held-out points",
    "off-the-data": "samples lie where there are no data",
    "misses-data": "some data lie where there are no samples",
    "different": "samples and held-out points differ in distribution",
}
"""Findings of the tests, by name."""

FACTS = {
    "overlap": "held-out points are training points",
    "duplicates": "training points are near-duplicates of one another",
}
"""Findings without a test."""

NAMES = (*TESTS, *FACTS)
"""All that ``--fail-on`` takes."""


@dataclass(frozen=True)
class Finding:
    """A test before it is corrected.

    ``value`` is its effect, called ``effect``, with a 95 % ``interval`` where there is one and the value ``expected``
    of a model that is right; ``p`` its p-value; ``found`` and ``clear`` the sentences for either outcome;
    ``detectable(level)`` the smallest effect that the test would have found, as ``smallest`` says it.
    """

    name: str
    where: str
    effect: str
    value: float
    expected: float
    p: float
    found: str
    clear: str
    smallest: str
    detectable: Callable[[float], float | None]
    interval: tuple[float, float] | None = None


def judge(findings: Sequence[Finding], level: float) -> list[dict[str, Any]]:
    """The verdicts in the order of the findings, as JSON.

    By Holm's correction the chance that any of them is false is at most ``level``. The smallest effect is computed for
    the strictest step of the correction, so that it holds for any results of the other tests.
    """
    adjusted = holm([finding.p for finding in findings])
    verdicts = []
    for finding, p in zip(findings, adjusted, strict=True):
        found = p <= level
        smallest = finding.detectable(level / len(findings))
        text = f"{finding.found if found else finding.clear} ({_p_text(p)})"
        if not found:
            reach = (
                "no effect can be found with so few permutations"
                if smallest is None
                else finding.smallest.format(smallest)
            )
            text = f"{text}; {reach}"
        verdicts.append(
            {
                "name": finding.name,
                "where": finding.where,
                "found": found,
                "text": text,
                "effect": finding.effect,
                "value": finding.value,
                "interval": None if finding.interval is None else list(finding.interval),
                "expected": finding.expected,
                "p": finding.p,
                "p_adjusted": p,
                "smallest_found": smallest,
            }
        )
    return verdicts


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's procedure (1979): the chance of any false one at or below a level is that level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = highest
    return adjusted


def shift(deviation: float) -> Callable[[float], float]:
    """The distance from the expected value that a one-sided test at a level finds in 8 of 10 cases."""
    return lambda level: float(norm.isf(level) + norm.isf(1 - POWER)) * deviation


def _p_text(p: float) -> str:
    return "adjusted p < 0.0001" if p < 1e-4 else f"adjusted p = {p:.2g}"


def of_copies(found: SpaceMatches, compared: str = "") -> Finding:
    """Fisher's exact test of how many samples, against held-out points, are three times nearer to a training point
    than to the next one. ``compared`` says how many samples were compared, where these are not all."""
    rates = found.rates
    share, interval = rates.excess(), rates.interval()
    # The estimates may lie below 0, where no share can be: a sentence says 0 there.
    said = f"{max(0.0, share):.1%}"
    samples = samples_called(found.space)
    where = f"{found.space}; {compared}" if compared else found.space
    between = f"95% interval {max(0.0, interval[0]):.1%} to {max(0.0, interval[1]):.1%}, {where}"
    about = f"an estimated {said} of {samples} are near-exact copies ({between})"
    if len(found.named):
        above = found.held_out_above()
        second = "the neighbour of this point" if found.space in (TRAINING_GAPS, GAPS_OF_BOTH) else "the second nearest"
        others = "any held-out point is" if above == 1 else f"{100 * above:.4g}% of held-out points are"
        about = (
            f"{len(found.named)} of {rates.of_samples} {samples} are listed as copies: each is closer to its nearest "
            f"training point, relative to {second}, than {others}; {about}"
        )
    if found.space == ALL_BUT_ONE:
        equal = f"{rates.samples} of {rates.of_samples} samples equal a training point in all columns but one"
        about = f"{equal} ({rates.held_out} of {rates.of_held_out} held-out points do); {about.split('; ')[-1]}"
    return Finding(
        "copies",
        found.space,
        "copied share",
        share,
        0.0,
        found.p_copies(),
        about,
        f"no copying was found: the share of {samples} is {said} ({between})",
        "a share of near-exact copies of {:.1%} or more would have been found in 8 of 10 such audits",
        rates.detectable,
        interval,
    )


def of_closeness(found: Copying) -> Finding:
    """The rank test of Meehan et al. 2020: distances of samples and of held-out points to training points.

    Samples that are narrower than the data are near to all points. So they must also be nearer to training points than
    to held-out points, and nearer than training points are to each other. The p-value is the largest of these tests.
    """
    closeness, rates = found.closeness, found.rates
    m, h = rates.of_samples, rates.of_held_out
    said = (
        f"a sample is nearer to training points than a held-out point in {closeness.area:.1%} of pairs ({found.space})"
    )
    clear = "samples are no nearer to training points than held-out points are"
    if found.own is not None:
        clear = (
            f"samples are no nearer to training points than these are to each other ({found.own.closeness.area:.1%})"
        )
    reach = shift(rank_deviation(m, h))
    return Finding(
        "memorisation",
        found.space,
        "pairs in which the sample is nearer",
        closeness.area,
        0.5,
        found.p_memorised(),
        f"samples are too near to training points: {said}",
        f"{clear}: {said}",
        "{:.1%} or more would have been found in 8 of 10 such audits",
        lambda level: min(1.0, 0.5 + reach(level)),
        closeness.interval,
    )


def of_membership(found: Membership, count: int) -> Finding:
    """The rank test of losses of as many training as held-out points."""
    reach = shift(rank_deviation(count, count))
    said = f"a training point has less loss than a held-out point in {found.apart.area:.1%} of pairs"
    return Finding(
        "membership",
        "",
        "pairs in which the training point has less loss",
        found.apart.area,
        0.5,
        found.apart.p,
        f"the model knows its training points: {said}",
        f"losses give no training points away: {said}",
        "{:.1%} or more would have been found in 8 of 10 such audits",
        lambda level: min(1.0, 0.5 + reach(level)),
        found.apart.interval,
    )


def of_likelihoods(gap: Gap) -> Finding:
    """Welch's test of log-likelihoods."""
    error = (gap.interval[1] - gap.interval[0]) / (2 * 1.96)
    said = f"the log-likelihood of training points is higher by {gap.difference:.4g} nats"
    return Finding(
        "likelihood-gap",
        "",
        "difference of log-likelihoods (nats)",
        gap.difference,
        0.0,
        gap.p,
        f"the model fits its training points better than others: {said}",
        f"training points are no likelier than held-out points: {said}",
        "{:.3g} nats or more would have been found in 8 of 10 such audits",
        shift(error),
        gap.interval,
    )


def of_precision(permuted: Permuted, space: str) -> Finding:
    """Too few samples among held-out points: the model is too wide, or blurred."""
    return _low(
        permuted,
        "off-the-data",
        space,
        "precision",
        f"samples lie off the data, like samples of a model that is too wide: {permuted.value:.1%} are among held-out "
        f"points, where {permuted.mean:.1%} are expected ({space})",
        f"samples lie where data do: {permuted.value:.1%} are among held-out points, and {permuted.mean:.1%} are "
        f"expected ({space})",
    )


def of_recall(permuted: Permuted, space: str) -> Finding:
    """Too few held-out points among samples: modes are missing, or samples repeat."""
    return _low(
        permuted,
        "misses-data",
        space,
        "recall",
        f"parts of the data are missing, or samples repeat: {permuted.value:.1%} of held-out points are among samples, "
        f"where {permuted.mean:.1%} are expected ({space})",
        f"no part of the data is missing: {permuted.value:.1%} of held-out points are among samples, and "
        f"{permuted.mean:.1%} are expected ({space})",
    )


def _low(permuted: Permuted, name: str, space: str, effect: str, found: str, clear: str) -> Finding:
    reach = shift(permuted.deviation)
    return Finding(
        name,
        space,
        effect,
        permuted.value,
        permuted.mean,
        permuted.p_low,
        found,
        clear,
        "{:.1%} or less would have been found in 8 of 10 such audits",
        lambda level: max(0.0, permuted.mean - reach(level)) if level >= permuted.least_p else None,
    )


def of_kernel(permuted: Permuted, space: str) -> Finding:
    """The kernel distance, over permutations."""
    reach = shift(permuted.deviation)
    said = f"the kernel distance is {permuted.value:.3g} ({space})"
    return Finding(
        "different",
        space,
        "kernel distance",
        permuted.value,
        0.0,
        permuted.p_high,
        f"samples and held-out points differ in distribution: {said}",
        f"no difference in distribution was found: {said}",
        "{:.3g} or more would have been found in 8 of 10 such audits",
        lambda level: reach(level) if level >= permuted.least_p else None,
    )


def rank_deviation(m: int, h: int) -> float:
    """The standard deviation of the area under the ROC curve of m and h points of one distribution."""
    return math.sqrt((m + h + 1) / (12 * m * h))


def overlap_facts(overlap: Overlap) -> list[dict[str, Any]]:
    """Findings without a test, in the form of verdicts."""
    shared, of = int(overlap.rows.sum()), len(overlap.rows)
    rows = {
        "overlap": (overlap.leaked, shared, of, "held-out points are near-duplicates of training points"),
        "duplicates": (
            overlap.duplicated,
            overlap.duplicates,
            overlap.searched,
            "training points have a near-duplicate among the others",
        ),
    }
    empty = {"where": "", "interval": None, "expected": None, "p": None, "p_adjusted": None, "smallest_found": None}
    return [
        {
            "name": name,
            "found": found,
            "text": f"{count} of {of} {what}",
            "effect": "share",
            "value": count / of,
            **empty,
        }
        for name, (found, count, of, what) in rows.items()
    ]


def samples_called(space: str) -> str:
    """The samples of a space in sentences."""
    return "samples with missing values" if space in (GAPS, GAPS_OF_BOTH) else "samples"
