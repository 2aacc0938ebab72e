"""The claims of plugins measured again: gates decide, reports say what came out, one failure never stops the rest."""

from __future__ import annotations

import copy
import fnmatch
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scorefold.config import UNTRAINED, Config
from scorefold.data import Dataset
from scorefold.errors import ConfigError, PluginError, ScorefoldError
from scorefold.interfaces import DataSource
from scorefold.plugin import Claim
from scorefold_registry.experiments.claims import Measurement, NullMeasurement, within
from scorefold_registry.experiments.engine import Experiment, TaskResult, as_ours
from scorefold_registry.host import Host
from scorefold_registry.plugins.loading import code_digest, load_claim, own_frame
from scorefold_registry.plugins.names import did_you_mean, join_or, normalise, sentences
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.run.executor import LocalExecutor
from scorefold_registry.run.keys import packages_of
from scorefold_registry.run.progress import Silent

PROFILES = {
    "smoke": "minutes of CPU per plugin (default)",
    "quick": "seconds to an hour and a half",
    "real": "data that you have, under three quarters of an hour",
    "long": "longer runs than quick, with settings of no paper",
    "full": "a paper's own setting",
}


_LISTED = 12
"""The most claims that an error names."""

Pair = tuple[PluginRecord, Claim]


def select(
    plugins: Sequence[PluginRecord], names: Sequence[str], only: Sequence[str], profile: str
) -> list[tuple[PluginRecord, Claim]]:
    """The claims to measure: of the named plugins or all, those named in ``only``, which may hold ``*``, or all of the
    profile.

    Raises ``ConfigError`` with near misses for a name that nothing has, ``PluginError`` for a plugin that can't be
    used, and ``ConfigError`` where nothing is left to measure.
    """
    pairs = [(record, claim) for record in chosen_plugins(plugins, names) for claim in record.claims]
    known = [claim.name for _, claim in pairs]
    chosen = {name: fnmatch.filter(known, name) for name in only}
    for name, found in chosen.items():
        if not found:
            raise ConfigError(f"no claim is called {name!r}", hint=sentences(did_you_mean(name, known), _listed(known)))
    asked = {each for found in chosen.values() for each in found}
    pairs = [(record, claim) for record, claim in pairs if not only or claim.name in asked]
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


def _listed(known: Sequence[str]) -> str:
    """The first claims by name, and how many others there are."""
    if len(known) <= _LISTED:
        return f"the claims are {', '.join(known)}" if known else "there is no claim"
    first = f"the claims are {', '.join(known[:_LISTED])} and {len(known) - _LISTED} others"
    return f"{first}; --only '{known[0].partition('-')[0]}-*' takes several"


def chosen_plugins(plugins: Sequence[PluginRecord], names: Sequence[str]) -> list[PluginRecord]:
    """The named plugins, or all. Raises ``ConfigError`` and ``PluginError`` as ``select`` does."""
    found = [record for name in names for record in _named(plugins, name)] if names else plugins
    return list(dict.fromkeys(found))


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


@dataclass
class Reproduction(Experiment[Pair, float, Measurement]):
    """Claims as the engine measures them.

    With ``keep``, a folder, each seed's value is kept there and taken from there when nothing that it depends on has
    changed, so that an interrupted reproduction goes on where it was. ``host.device`` and ``host.precision`` say where
    claims compute and what they train with.
    """

    host: Host
    tasks: Sequence[Pair]
    profile: str
    seeds: Sequence[int] = (0,)
    keep: Path | None = None

    def label(self, task: Pair) -> str:
        return f"{task[0].name}/{task[1].name}"

    def kept_in(self, task: Pair, seed: int) -> Path | None:
        return None if self.keep is None else self.keep / f"{_key(self.host, *task, self.profile, seed)}.json"

    def run(self, task: Pair, seed: int, shown: Silent | None) -> float | None:
        within(task[1], 0.0)  # A tolerance that can't be compared with is found before an hour is spent.
        return _value(self.host, *task, self.profile, seed)

    def reason(self, task: Pair, error: BaseException) -> ScorefoldError:
        frame = own_frame(error, {task[0].package})
        return ScorefoldError(as_ours(error).message + (f" (at {frame})" if frame else ""))

    def row(self, task: Pair, answers: Sequence[TaskResult[float]]) -> Measurement:
        values = [answer.value for answer in answers if answer.value is not None]
        error = answers[-1].error
        return Measurement(
            *task,
            self.profile,
            tuple(self.seeds),
            tuple(values) if len(values) == len(self.seeds) else (),
            sum(answer.cpu_seconds for answer in answers),
            None if error is None else error.message,
            kept=all(answer.kept for answer in answers),
        )


@dataclass
class NullReproduction(Reproduction):
    """Claims with every training cut to no step; what is kept from one claim to the next is dropped, so that each says
    which trainings it needs."""

    trainings: tuple[str, ...] = ()
    """Those that the last claim needed."""

    def run(self, task: Pair, seed: int, shown: Silent | None) -> float | None:
        _forget(task[0].package)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "trainings.txt"
            os.environ[UNTRAINED] = str(log)
            try:
                return super().run(task, seed, shown)
            finally:
                del os.environ[UNTRAINED]
                self.trainings = tuple(log.read_text().split()) if log.exists() else ()
                _forget(task[0].package)

    def row(self, task: Pair, answers: Sequence[TaskResult[float]]) -> NullMeasurement:
        return NullMeasurement(**vars(super().row(task, answers)), trainings=self.trainings)


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
    if found is None and claim.needs:
        return None
    try:
        return float(found)
    except (TypeError, ValueError):
        expected = "a number, or None where needs of its claim says what is missing"
        raise PluginError(f"it returned {found!r}; expected {expected}") from None


def _key(host: Host, record: PluginRecord, claim: Claim, profile: str, seed: int) -> str:
    """Key of a value: the claim, the seed, and the code of core and of every plugin, since it may use any."""
    records = [item for item in host.plugins if item.components or item.claims or item.verbs]
    packages = packages_of([f"{item.package}:" for item in records], [item.distribution for item in records])
    place = [host.device.partition(":")[0], host.precision]
    # A digest of code sees a changed function, and not a table of claims, which names the function and its options.
    measured = [record.key, claim.name, claim.target, sorted(claim.options.items())]
    facts = [*measured, profile, seed, *place, torch.__version__, torch.get_num_threads()]
    code = [code_digest(package) for package in packages]
    return hashlib.sha256(json.dumps([*facts, *code]).encode()).hexdigest()[:32]


_PLAIN = "_scorefold_plain"


class PlacedHost(Host):
    """The components of another host, built on a device; sources that are asked for points give them there.

    What is plugged into a port is the source itself: a component reads points where it always does. ``precision`` is
    what claims train with.

    >>> import torch
    >>> host = PlacedHost(Host.discover(), "meta", "no")
    >>> host.create("data:sphere", {"points": 20}).load("test").x.device
    device(type='meta')
    """

    def __init__(self, host: Host, device: str, precision: str) -> None:
        assert host.builder is not None  # made now, so that both have the same one and know what each was made from
        vars(self).update(vars(host))
        self.device, self.precision = device, precision

    def create(
        self,
        name: str,
        config: Mapping[str, Any] | Config | None = None,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **ports: Any,
    ) -> Any:
        """See ``Host.create``; without a ``device`` it is the host's."""
        plain = {port: _plain(value) for port, value in ports.items()}
        made = super().create(name, config, generator=generator, device=device or self.device, dtype=dtype, **plain)
        return _placed(made, self.device) if isinstance(made, DataSource) else made

    @contextmanager
    def working(self, workers: int) -> Iterator[None]:
        """Give components that share jobs out so many processes."""
        around, executor = self.executor, LocalExecutor(workers, torch.get_num_threads())
        self.executor = executor
        try:
            yield
        finally:
            self.executor = around
            executor.close()


def _placed(source: DataSource, device: str) -> DataSource:
    """A copy of a source whose points are loaded to a device."""

    def load(split: str) -> Dataset:
        return source.load(split).to(device)

    placed = copy.copy(source)
    vars(placed).update({"load": load, _PLAIN: source})
    return placed


def _plain(value: Any) -> Any:
    """A port's value with the sources themselves in place of placed ones."""
    return [_plain(item) for item in value] if isinstance(value, list) else getattr(value, _PLAIN, value)
