"""Result of a claim: its value for each seed, the comparison with the tolerance, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scorefold.errors import PluginError
from scorefold.plugin import Claim
from scorefold_registry.experiments.rows import mean
from scorefold_registry.plugins.records import PluginRecord


@dataclass(frozen=True)
class Measurement:
    """Measurement of one claim.

    ``values`` has one number for each seed, and is empty where the claim was skipped or failed; ``error`` says why it
    failed; ``kept`` is True where all of it was measured before.
    """

    record: PluginRecord
    claim: Claim
    profile: str
    seeds: tuple[int, ...]
    values: tuple[float, ...] = ()
    cpu_seconds: float = 0.0
    error: str | None = None
    kept: bool = False

    @property
    def name(self) -> str:
        """``PLUGIN/CLAIM``."""
        return f"{self.record.name}/{self.claim.name}"

    @property
    def skipped(self) -> bool:
        """True if its data or weights were not at hand."""
        return self.error is None and not self.values

    @property
    def holds(self) -> bool | None:
        """True if the value of every seed is within the tolerance; None for a claim that was skipped."""
        if self.skipped:
            return None
        return self.error is None and all(within(self.claim, value) for value in self.values)

    @property
    def verdict(self) -> str:
        """``holds`` or ``fails`` for a gate, ``measured`` for a report, which can't fail; ``error`` or ``skipped``."""
        if self.error is not None:
            return "error"
        if self.skipped:
            return "skipped"
        return "measured" if self.claim.role == "report" else "holds" if self.holds else "fails"

    @property
    def measured(self) -> float | None:
        """The mean over seeds."""
        return mean(self.values)

    def as_json(self) -> dict[str, Any]:
        """The entry of ``reproduce --json``."""
        claim = self.claim
        return {
            **self._claimed(),
            "role": claim.role,
            "profile": self.profile,
            "source": claim.source,
            "reference": claim.reference,
            "basis": None if claim.reference is None else claim.basis,
            "measured": self.measured,
            "unit": claim.unit,
            "within": self.holds,
            "seeds": list(self.seeds),
            "cpu_seconds": round(self.cpu_seconds, 2),
        }

    def _claimed(self) -> dict[str, Any]:
        kind, bound = self.claim.tolerance
        return {
            "plugin": self.record.name,
            "claim": self.claim.name,
            "statement": self.claim.statement,
            "tolerance": {"kind": kind, "value": bound},
            "verdict": self.verdict,
            "error": self.error,
        }

    def __str__(self) -> str:
        """Three lines: its name and verdict, what was claimed, what came out."""
        seconds = f"{self.cpu_seconds:.1f} CPU s{', measured before' if self.kept else ''}"
        start = f"{self.verdict}  {self.name}  ({self.claim.role}, {seconds})\n  {self.claim.statement}\n  "
        if self.error is not None:
            return start + self.error
        if self.skipped:
            return f"{start}it needs {self.claim.needs}"
        unit = f" {self.claim.unit}" if self.claim.unit else ""
        expected = f"; expected {expected_text(self.claim)}" if self.claim.role == "gate" else ""
        reference = "" if self.claim.reference is None else f"; {self.claim.basis} {self.claim.reference:g}"
        values = ", ".join(f"{value:.6g}" for value in self.values)
        return f"{start}measured {values}{unit}{expected}{reference} ({self.claim.source})"


@dataclass(frozen=True)
class NullMeasurement(Measurement):
    """A gate measured with models that were not trained: ``trainings`` were due, and took no step."""

    trainings: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``fails``, as it should; ``holds``, a gate that says nothing; ``structural``, one that says why it holds;
        ``untouched``, where nothing is trained; ``skipped``; ``error``, which says nothing either."""
        if self.error is not None or self.skipped:
            return "error" if self.error is not None else "skipped"
        if not self.trainings:
            return "untouched"
        return "fails" if not self.holds else "structural" if self.claim.structural else "holds"

    def as_json(self) -> dict[str, Any]:
        """The entry of ``reproduce --null --json``."""
        own = {"value": self.measured, "structural": self.claim.structural, "trainings": list(self.trainings)}
        return {**self._claimed(), **own}

    def __str__(self) -> str:
        start = f"{self.verdict:<11}{self.name}: "
        if self.error is not None:
            return start + self.error
        came = f"it needs {self.claim.needs}" if self.measured is None else f"{self.measured:.6g}"
        why = f" ({self.claim.structural})" if self.verdict == "structural" else ""
        return f"{start}{came}; expected {expected_text(self.claim)}{why}"


def expected_text(claim: Claim) -> str:
    """Expected value of a claim, as the end of a sentence."""
    kind, bound = claim.tolerance
    if kind == "range":
        return f"{bound[0]:g} to {bound[1]:g}"
    words = {
        "min": f"at least {bound:g}",
        "max": f"at most {bound:g}",
        "abs": f"the reference within {bound:g}",
        "rel": f"the reference within {100 * bound:g} %",
    }
    return words[kind]


def within(claim: Claim, value: float) -> bool:
    """True if a value is what a claim says. A value that is not a number never is.

    ``abs`` and ``rel`` compare with the reference, ``min`` and ``max`` are bounds that are themselves allowed,
    ``range`` is a pair of them. Raises ``PluginError`` for a tolerance that can't be compared with.
    """
    kind, bound = claim.tolerance
    try:
        low, high = _bounds(claim, kind, bound)
    except (TypeError, ValueError):
        raise PluginError(
            f"claim {claim.name!r} has tolerance {claim.tolerance!r}, which can't be compared with",
            hint="abs and rel take a number and need 'reference'; min and max take a number; range takes (low, high)",
        ) from None
    return low <= value <= high


def _bounds(claim: Claim, kind: str, bound: Any) -> tuple[float, float]:
    if kind == "range":
        low, high = bound
        return float(low), float(high)
    if kind == "min":
        return float(bound), float("inf")
    if kind == "max":
        return float("-inf"), float(bound)
    if claim.reference is None:
        raise ValueError("no reference")
    margin = float(bound) * (abs(claim.reference) if kind == "rel" else 1.0)
    return claim.reference - margin, claim.reference + margin


def holds(measurements: Sequence[Measurement]) -> bool:
    """True if what was asked holds: no gate fails, and of the gates, where there are any, not all were skipped."""
    gates = [item.holds for item in measurements if item.claim.role == "gate"]
    return False not in gates and (not gates or True in gates)
