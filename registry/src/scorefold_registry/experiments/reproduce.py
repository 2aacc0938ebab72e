"""The claims of plugins measured again: gates decide, reports say what came out, one failure never stops the rest."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scorefold.artefacts import read_json, write_json
from scorefold.config import UNTRAINED
from scorefold.errors import ConfigError, PluginError, ScorefoldError
from scorefold.plugin import Claim
from scorefold_registry.host import Host
from scorefold_registry.plugins.loading import describe, load_claim, own_frame
from scorefold_registry.plugins.names import did_you_mean, join_or, normalise, sentences
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.run.costs import cpu_seconds
from scorefold_registry.run.keys import code_digest, packages_of

PROFILES = ("smoke", "quick", "full")


@dataclass(frozen=True)
class Measurement:
    """What came out of one claim.

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
    def skipped(self) -> bool:
        """Whether its data or weights were not at hand."""
        return self.error is None and not self.values

    @property
    def holds(self) -> bool | None:
        """Whether the value of every seed is within the tolerance; None for a claim that was skipped."""
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
        return sum(self.values) / len(self.values) if self.values else None

    def as_json(self) -> dict[str, Any]:
        """The entry of ``reproduce --json``."""
        kind, bound = self.claim.tolerance
        return {
            "plugin": self.record.name,
            "claim": self.claim.name,
            "statement": self.claim.statement,
            "role": self.claim.role,
            "profile": self.profile,
            "source": self.claim.source,
            "reference": self.claim.reference,
            "basis": None if self.claim.reference is None else self.claim.basis,
            "measured": self.measured,
            "unit": self.claim.unit,
            "tolerance": {"kind": kind, "value": bound},
            "verdict": self.verdict,
            "within": self.holds,
            "seeds": list(self.seeds),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "error": self.error,
        }


def within(claim: Claim, value: float) -> bool:
    """Whether a value is what a claim says. A value that is not a number never is.

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
    """Whether what was asked holds: no gate fails, and of the gates, where there are any, not all were skipped."""
    gates = [item.holds for item in measurements if item.claim.role == "gate"]
    return False not in gates and (not gates or True in gates)


def select(
    plugins: Sequence[PluginRecord], names: Sequence[str], only: Sequence[str], profile: str
) -> list[tuple[PluginRecord, Claim]]:
    """The claims to measure: of the named plugins or all, those named in ``only`` or all of the profile.

    Raises ``ConfigError`` with near misses for a name that nothing has, ``PluginError`` for a plugin that can't be
    used, and ``ConfigError`` where nothing is left to measure.
    """
    chosen = [record for name in names for record in _named(plugins, name)] if names else list(plugins)
    pairs = [(record, claim) for record in dict.fromkeys(chosen) for claim in record.claims]
    known = [claim.name for _, claim in pairs]
    for name in only:
        if name not in known:
            claims = f"the claims are {', '.join(known)}" if known else "there is no claim"
            raise ConfigError(f"no claim is called {name!r}", hint=sentences(did_you_mean(name, known), claims))
    pairs = [(record, claim) for record, claim in pairs if not only or claim.name in only]
    if not pairs:
        owners = [record.name for record in plugins if record.claims]
        hint = f"these have claims: {', '.join(owners)}" if owners else None
        raise ConfigError("none of these plugins makes a claim", hint=hint)
    fitting = [(record, claim) for record, claim in pairs if profile in claim.profiles]
    if not fitting:
        others = [each for each in PROFILES if any(each in claim.profiles for _, claim in pairs)]
        raise ConfigError(
            f"none of these claims can be measured in the profile {profile!r}",
            hint=f"try --profile {join_or(others).replace(chr(39), '')}" if others else None,
        )
    return fitting


def _named(plugins: Sequence[PluginRecord], name: str) -> list[PluginRecord]:
    found = [
        record
        for record in plugins
        if name in (record.name, record.key) or normalise(name) == normalise(record.distribution)
    ]
    if not found:
        known = list(dict.fromkeys([record.name for record in plugins]))
        hint = sentences(did_you_mean(name, known), f"the plugins are {', '.join(known)}")
        raise ConfigError(f"no plugin is called {name!r}", hint=hint)
    for record in found:
        if not record.claims and record.cause is not None:
            raise PluginError(f"the {record.label} is {record.state}: {record.cause}", hint="scorefold plugins doctor")
    return found


def measure(
    host: Host,
    pairs: Sequence[tuple[PluginRecord, Claim]],
    profile: str,
    seeds: Sequence[int],
    keep: Path | None = None,
) -> Iterator[Measurement]:
    """Each claim measured, as they come. What fails is a measurement too.

    With ``keep``, a folder, each seed's value is kept there and taken from there when nothing that it depends on has
    changed, so that an interrupted reproduction goes on where it was.
    """
    for record, claim in pairs:
        yield _measure(host, record, claim, profile, tuple(seeds), keep)


def _measure(
    host: Host, record: PluginRecord, claim: Claim, profile: str, seeds: tuple[int, ...], keep: Path | None
) -> Measurement:
    values: list[float] = []
    seconds, kept = 0.0, 0
    for seed in seeds:
        started = cpu_seconds()
        file = None if keep is None else keep / f"{_key(host, record, claim, profile, seed)}.json"
        known = None if file is None else _kept(file)
        if known is not None:
            values.append(known[0])
            seconds += known[1]
            kept += 1
            continue
        try:
            within(claim, 0.0)  # A tolerance that can't be compared with is found before an hour is spent.
            value = _value(host, record, claim, profile, seed)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            said = error.message if isinstance(error, ScorefoldError) else describe(error)
            frame = own_frame(error, {record.package})
            failure = f"{said} (at {frame})" if frame else said
            return Measurement(record, claim, profile, seeds, (), seconds + cpu_seconds() - started, failure)
        spent = cpu_seconds() - started
        seconds += spent
        if value is None:
            return Measurement(record, claim, profile, seeds, (), seconds)
        if file is not None:
            write_json(file, {"value": value, "cpu_seconds": spent})
        values.append(value)
    return Measurement(record, claim, profile, seeds, tuple(values), seconds, kept=kept == len(seeds))


@dataclass(frozen=True)
class NullMeasurement:
    """A gate measured with models that were not trained: ``trainings`` were due, and took no step."""

    record: PluginRecord
    claim: Claim
    trainings: tuple[str, ...]
    value: float | None
    error: str | None = None

    @property
    def verdict(self) -> str:
        """``fails``, as it should; ``holds``, a gate that says nothing; ``structural``, one that says why it holds;
        ``untouched``, where nothing is trained; ``skipped``; ``error``, which says nothing either."""
        if self.error is not None:
            return "error"
        if self.value is None:
            return "skipped"
        if not self.trainings:
            return "untouched"
        if not within(self.claim, self.value):
            return "fails"
        return "structural" if self.claim.structural else "holds"

    def as_json(self) -> dict[str, Any]:
        """The entry of ``reproduce --null --json``."""
        kind, bound = self.claim.tolerance
        return {
            "plugin": self.record.name,
            "claim": self.claim.name,
            "statement": self.claim.statement,
            "value": self.value,
            "tolerance": {"kind": kind, "value": bound},
            "verdict": self.verdict,
            "structural": self.claim.structural,
            "trainings": list(self.trainings),
            "error": self.error,
        }


def measure_null(
    host: Host, pairs: Sequence[tuple[PluginRecord, Claim]], profile: str, seed: int = 0
) -> Iterator[NullMeasurement]:
    """Each gate with every training cut to no step, as they come; what is kept from one claim to the next is dropped,
    so that each says which trainings it needs."""
    for record, claim in pairs:
        if claim.role != "gate":
            continue
        _forget(record.package)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "trainings.txt"
            os.environ[UNTRAINED] = str(log)
            value, failure = None, None
            try:
                value = _value(host, record, claim, profile, seed)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                failure = error.message if isinstance(error, ScorefoldError) else describe(error)
            finally:
                del os.environ[UNTRAINED]
            trainings = tuple(log.read_text().split()) if log.exists() else ()
        _forget(record.package)
        yield NullMeasurement(record, claim, trainings, value, failure)


def _forget(package: str) -> None:
    """Empty the caches of a package's functions."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package:
            for each in list(vars(module).values()):
                if hasattr(each, "cache_clear"):
                    each.cache_clear()


def _value(host: Host, record: PluginRecord, claim: Claim, profile: str, seed: int) -> float | None:
    """One measurement. What a claim prints goes to standard error, away from the results."""
    function = load_claim(record, claim)
    with redirect_stdout(sys.stderr):
        found = function(host, profile, seed, **claim.options)
    if found is None:
        return None
    try:
        return float(found)
    except (TypeError, ValueError):
        raise PluginError(f"it returned {found!r}; expected a number, or None where data are not at hand") from None


def _kept(file: Path) -> tuple[float, float] | None:
    """A value measured before, with its CPU seconds; None where there is none, or it can't be read."""
    try:
        data = read_json(file)
        return float(data["value"]), float(data["cpu_seconds"])
    except (ScorefoldError, OSError, ValueError, KeyError, TypeError):
        return None


def _key(host: Host, record: PluginRecord, claim: Claim, profile: str, seed: int) -> str:
    """What a value depends on: the claim, the seed, and the code of core and of every plugin, since it may use any."""
    records = [item for item in host.plugins if item.components or item.claims or item.verbs]
    packages = packages_of([f"{item.package}:" for item in records], [item.distribution for item in records])
    facts = [record.key, claim.name, claim.target, profile, seed, torch.__version__, torch.get_num_threads()]
    code = [code_digest(package) for package in packages]
    return hashlib.sha256(json.dumps([*facts, *code]).encode()).hexdigest()[:32]
