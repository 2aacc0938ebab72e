"""Components of the installed plugins, by name. No plugin takes a name silently."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from scorefold.errors import PluginError
from scorefold.plugin import CORE_CAPABILITIES, CORE_KINDS, Capability, Component, Kind, Verb
from scorefold_registry.plugins.names import (
    Reference,
    did_you_mean,
    known_plugins,
    near_misses,
    normalise,
    not_installed,
    parse_reference,
    sentences,
)
from scorefold_registry.plugins.records import PluginRecord, Registered

CORE = "scorefold-core"


class Catalogue:
    """Kinds and components by name.

    ``plugins`` are the plugins that were found, and ``kinds`` the kinds of core and of plugins. ``components`` are all
    that are registered, in the order of their plugins. Verbs that plugins add to a kind stand in it, after its own.
    ``prefer`` maps a name (``kind:name``) to the distribution that the user prefers for it.
    """

    def __init__(self, records: Iterable[PluginRecord], prefer: Mapping[str, str] | None = None) -> None:
        records = list(records)
        self.plugins: tuple[PluginRecord, ...] = tuple(records)
        self._prefer = {name: normalise(distribution) for name, distribution in (prefer or {}).items()}
        self.kinds: dict[str, Kind] = {kind.name: kind for kind in CORE_KINDS}
        self.capabilities: dict[str, Capability] = {item.name: item for item in CORE_CAPABILITIES}
        self._add(records, "kind", self.kinds, lambda record: record.kinds)
        self._add(records, "capability", self.capabilities, lambda record: record.capabilities)
        for record in records:
            if record.components and (fault := self._fault(record)):
                record.fail("broken", fault, record.file)
        self._verbs: dict[tuple[str, str], list[PluginRecord]] = {}
        self._add_verbs(records)
        self._unused = [record for record in records if record.state in ("broken", "incompatible", "disabled")]
        self.components: list[Registered] = [
            Registered(component, record) for record in records for component in record.components
        ]
        self._claims: dict[str, list[Registered]] = {}
        for item in self.components:
            for name in (item.component.name, *item.component.aliases):
                self._claims.setdefault(f"{item.component.kind}:{name}", []).append(item)
        self._winners = {key: self._winner(key, claimants) for key, claimants in self._claims.items()}
        self._settle_states(records)

    def of_kind(self, kind: str | None = None) -> list[Registered]:
        """The components of a kind, or all. Raises ``PluginError`` for an unknown kind."""
        if kind is None:
            return list(self.components)
        self.kind(kind)
        return [item for item in self.components if item.component.kind == kind]

    def kind(self, name: str) -> Kind:
        """The kind of that name. Raises ``PluginError`` with near misses."""
        if name not in self.kinds:
            near = did_you_mean(name, self.kinds)
            if name == "model":
                near = "a model of a plugin is loaded, by {load: model:NAME} or sf.load('model:NAME')"
            known = f"the kinds are {', '.join(self.kinds)}"
            raise PluginError(f"there is no kind {name!r}", hint=sentences(near, known, self._without()))
        return self.kinds[name]

    def able(self, component: Component) -> list[Verb]:
        """The verbs that a component can do."""
        return [verb for verb in self.kind(component.kind).verbs if set(verb.needs) <= set(component.provides)]

    def verb(self, component: Component, name: str | None = None) -> Verb:
        """The verb of that name of a component's kind, or the default. Raises ``PluginError`` where there is none."""
        kind = self.kind(component.kind)
        verb, name = kind.verb(name), name or kind.default
        if verb is not None:
            return verb
        if contested := self.contested_verb(kind.name, name):
            raise PluginError(contested)
        for plugin in known_plugins() if name in kind.verb_names else ():
            if name in plugin.verbs:
                records = [item for item in self.plugins if normalise(item.distribution) == plugin.distribution]
                state, hint = "not installed", plugin.install
                if records and records[0].cause is None:
                    state = f"installed as {records[0].version}, without it"
                    hint = f"pip install --upgrade {plugin.distribution}"
                elif records:
                    state = f"out of use ({records[0].state}: {records[0].cause})"
                    hint = f"switch the plugin {plugin.name!r} on again"
                raise PluginError(
                    f"{component.id} has no verb {name!r}; it comes with {plugin.distribution}, which is {state}",
                    hint=hint,
                )
        able = [verb.name for verb in self.able(component)]
        near = did_you_mean(name, able) or (f"its verbs are {', '.join(able)}" if able else "")
        raise PluginError(f"{component.id} has no verb {name!r}", hint=sentences(near, self._without()))

    def verb_owner(self, kind: str, verb: str) -> PluginRecord | None:
        """The plugin that added a verb to a kind; None for the kind's own."""
        owners = self._verbs.get((kind, verb), [])
        return owners[0] if len(owners) == 1 else None

    def contested_verb(self, kind: str, verb: str) -> str:
        """Reason why a contested verb can't be used, and the line that settles it; empty for other verbs."""
        owners = self._verbs.get((kind, verb), [])
        if len(owners) < 2:
            return ""
        who = " and ".join(f"{record.distribution} (plugin {record.name!r})" for record in owners)
        line = f'prefer one in scorefold.toml: "verb:{kind}/{verb}" = "{owners[0].distribution}"'
        if len({normalise(record.distribution) for record in owners}) == 1:
            line = "deny one of the plugins"
        return f"the verb {verb!r} of the kind {kind!r} is added by {who}; {line}"

    def _missing(self, reference: Reference) -> tuple[str, str]:
        """Additions to a message and its hint if a plugin that is not installed offers a component."""
        for plugin in not_installed(self.plugins):
            if plugin.offers_what(reference):
                return f"; it comes with {plugin.distribution}, which is not installed", plugin.install
        return "", ""

    def _without(self) -> str:
        """Plugins out of use with reasons, since a missing name may be theirs."""
        at = {record.key: f" at {record.frame}" if record.frame else "" for record in self._unused}
        out = [f"{record.label} ({record.state}: {record.cause}{at[record.key]})" for record in self._unused]
        return f"out of use: {', '.join(out)}" if out else ""

    def resolve(self, text: str, *, any_revision: bool = False) -> Registered:
        """The component that ``text`` names.

        ``kind:name``, ``kind:name@revision``, an alias in place of the name, or ``distribution/kind:name``. The kind
        may be left out where only one component has the name. Raises ``PluginError`` for a name that is unknown (with
        near misses), claimed by several plugins, or of another revision than the installed one (unless
        ``any_revision``).
        """
        reference = parse_reference(text)
        if reference.kind is not None:
            self.kind(reference.kind)
        if reference.distribution is not None:
            found = self._of_distribution(reference)
        else:
            keys = self._keys(reference)
            if len(keys) > 1:
                raise PluginError(f"{text!r} may be any of {', '.join(keys)}", hint="write the kind too")
            if not keys:
                raise self._unknown(reference)
            winner = self._winners[keys[0]]
            if winner is None:
                raise self._ambiguous(keys[0])
            found = winner
        revision = reference.revision
        if not any_revision and revision is not None and revision != found.component.revision:
            raise PluginError(
                f"{text!r} asks for revision {revision} of {found.id}; "
                f"{found.distribution} {found.version} has revision {found.component.revision}",
                hint=f"write {found.component.versioned_id}, or install the version that has revision {revision}",
            )
        return found

    def pinned(self, item: Registered, *, whole: bool = False) -> str:
        """The name that means this component and this revision alone: ``kind:name@revision``.

        Its distribution stands before it where the bare name is another's or nobody's, and always with ``whole``, for
        what is read again where other plugins are installed.
        """
        bare = not whole and self._winners[item.id] is item
        return item.component.versioned_id if bare else f"{item.distribution}/{item.component.versioned_id}"

    def unused_preferences(self) -> list[str]:
        """Remarks on preferences that nothing answers to, which most often are spelling mistakes.

        A plugin that is out of use may be what is meant, so its distribution is known.
        """
        known = {normalise(record.distribution): record.distribution for record in self.plugins}
        names = [*self._claims, *(f"kind:{kind.name}" for record in self.plugins for kind in record.kinds)]
        names += [f"capability:{item.name}" for record in self.plugins for item in record.capabilities]
        names += [f"verb:{kind}/{verb.name}" for item in self.plugins for verb in item.verbs for kind in verb.kinds]
        notes = []
        for name, preferred in self._prefer.items():
            if preferred not in known:
                near = did_you_mean(preferred, known) or f"those with plugins: {', '.join(known.values())}"
                notes.append(f"[prefer] gives {name!r} to {preferred!r}, which brings no plugin here; {near}")
            elif name not in names and not self._unused:
                near = did_you_mean(name, names) or "a name is kind:name"
                notes.append(f"[prefer] gives away {name!r}, but nothing has this name; {near}")
        return notes

    def claimants(self, key: str) -> list[Registered]:
        """All components that claim the name ``kind:name``, as their name or as an alias."""
        return list(self._claims.get(key, ()))

    def _keys(self, reference: Reference) -> list[str]:
        if reference.kind is not None:
            return [reference.id] if reference.id in self._claims else []
        return [key for key in self._claims if key.partition(":")[2] == reference.name]

    def _of_distribution(self, reference: Reference) -> Registered:
        mine = [item for item in self.components if normalise(item.distribution) == reference.distribution]
        if not mine:
            names = dict.fromkeys(item.distribution for item in self.components)
            missing, install = self._missing(reference)
            raise PluginError(
                f"no distribution {reference.distribution!r} offers components here{missing}",
                hint=sentences(
                    install,
                    did_you_mean(str(reference.distribution), names),
                    f"those that do: {', '.join(names)}",
                    self._without(),
                ),
            )
        found = [
            item
            for item in mine
            if reference.name in (item.component.name, *item.component.aliases)
            and reference.kind in (None, item.component.kind)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise PluginError(
                f"{reference.name!r} of {reference.distribution} may be any of "
                f"{', '.join(f'{item.plugin}: {item.id}' for item in found)}",
                hint="write the kind too" if len({item.id for item in found}) > 1 else "deny one of the plugins",
            )
        ids = [item.id for item in mine]
        raise PluginError(
            f"{reference.distribution} offers no {reference.id!r}",
            hint=sentences(did_you_mean(reference.id, ids), f"it offers {', '.join(ids)}"),
        )

    def _unknown(self, reference: Reference) -> PluginError:
        missing, install = self._missing(reference)
        if missing:
            what = f"there is no {reference.id!r}" if reference.kind else f"no component is called {reference.name!r}"
            return PluginError(what + missing, hint=sentences(install, self._without()))
        if reference.kind is None:
            near = near_misses(reference.name, [key.partition(":")[2] for key in self._claims])
            keys = [key for key in self._claims if key.partition(":")[2] in near]
            hint = f"did you mean {' or '.join(keys)}?" if keys else ""
            return PluginError(
                f"no component is called {reference.name!r}",
                hint=sentences(
                    hint, f"a name is kind:name, and the kinds are {', '.join(self.kinds)}", self._without()
                ),
            )
        names = [key.partition(":")[2] for key in self._claims if key.startswith(f"{reference.kind}:")]
        near = near_misses(reference.name, names)
        elsewhere = [key for key in self._claims if key.partition(":")[2] == reference.name]
        suggestions = [f"{reference.kind}:{name}" for name in near] + elsewhere
        if suggestions:
            hint = f"did you mean {' or '.join(suggestions)}? 'scorefold plugins list' shows all components"
        elif names:
            hint = f"components of kind {reference.kind}: {', '.join(names)}"
        else:
            hint = f"no component of kind {reference.kind} is installed"
        return PluginError(f"there is no {reference.id!r}", hint=sentences(hint, self._without()))

    def _ambiguous(self, key: str) -> PluginError:
        claimants = self._claims[key]
        who = " and ".join(f"{item.distribution} {item.version} (plugin {item.plugin!r})" for item in claimants)
        first = claimants[0]
        return PluginError(
            f"{key!r} is claimed by {who}; neither is used until you prefer one{self._one_sided(claimants)}",
            hint=f'in scorefold.toml, under [prefer]: "{key}" = "{first.distribution}"; '
            f"or name one in full: {' or '.join(item.qualified for item in claimants)}",
        )

    @staticmethod
    def _one_sided(claimants: list[Registered]) -> str:
        for item in claimants:
            for other in claimants:
                if _asks(item, other):
                    return f" ({item.distribution} asks to override {other.distribution}, which does not yield to it)"
        return ""

    def _winner(self, key: str, claimants: list[Registered]) -> Registered | None:
        """Owner of a name: its only claimant, the user's preference, or an override to which both sides agree."""
        if len(claimants) == 1:
            return claimants[0]
        preferred = self._prefer.get(key)
        if preferred is not None:
            mine = [item for item in claimants if normalise(item.distribution) == preferred]
            return mine[0] if len(mine) == 1 else None
        here = [item for item in claimants if item.record.environment is None]
        if here and len(here) < len(claimants):
            # An environment changes no result: what is installed here keeps its name.
            return self._winner(key, here)
        winners = [
            item
            for item in claimants
            if all(other is item or (_asks(item, other) and _yields(other, item)) for other in claimants)
        ]
        return winners[0] if len(winners) == 1 else None

    def _settle_states(self, records: list[PluginRecord]) -> None:
        for item in self.components:
            winner = self._winners[item.id]
            if winner is None:
                item.state = "ambiguous"
            elif winner is not item:
                item.state = "shadowed"
        for record in records:
            mine = [item for item in self.components if item.record is record]
            ambiguous = [item.id for item in mine if item.state == "ambiguous"]
            shadowed = [item.id for item in mine if item.state == "shadowed"]
            if ambiguous:
                record.state = "ambiguous"
                record.cause = self._ambiguous(ambiguous[0]).message
            elif shadowed and len(shadowed) == len(mine):
                winner = self._winners[shadowed[0]]
                assert winner is not None
                record.state = "shadowed"
                record.cause = f"{', '.join(shadowed)} went to {winner.distribution}"

    def _add(
        self, records: list[PluginRecord], what: str, known: dict[str, Any], of: Callable[[PluginRecord], list[Any]]
    ) -> None:
        """Adds the plugins' kinds or capabilities to core's, which stay as they are. A name that two plugins declare
        is not used until the user prefers one of them."""
        declared: dict[str, list[PluginRecord]] = {}
        for record in records:
            for item in of(record):
                declared.setdefault(item.name, []).append(record)
        for name, owners in declared.items():
            # An environment changes nothing of what is installed here, and knows no more of a name than another one.
            owners = [record for record in owners if record.environment is None] or owners[:1]
            key = f"{what}:{name}"
            preferred = [record for record in owners if normalise(record.distribution) == self._prefer.get(key)]
            if name in known:
                for record in owners:
                    record.fail("broken", f"it declares the {what} {name!r}, which is {CORE}'s", record.file)
            elif len(owners) == 1 or len(preferred) == 1:
                # An owner that lost another of its own is not registered, and has none left.
                known.update({item.name: item for item in of((preferred or owners)[0]) if item.name == name})
            else:
                who = " and ".join(record.distribution for record in owners)
                line = f'prefer one in scorefold.toml, under [prefer]: "{key}" = "{owners[0].distribution}"'
                for record in owners:
                    record.fail("ambiguous", f"the {what} {name!r} is declared by {who}; {line}")

    def _add_verbs(self, records: list[PluginRecord]) -> None:
        """Gives kinds the verbs of plugins. A kind keeps its own; one that two give is nobody's until the user prefers
        one; one for a kind that is not installed waits for it."""
        given: dict[tuple[str, str], list[tuple[PluginRecord, Verb]]] = {}
        for record in records:
            mine = {kind.name: self._verbs_for(kind, record) for kind in self.kinds.values()}
            if fault := self._verb_fault(record, mine):
                record.fail("broken", fault, record.file)
                continue
            for kind, verbs in mine.items():
                for verb in verbs:
                    given.setdefault((kind, verb.name), []).append((record, verb))
        found: dict[str, list[Verb]] = {}
        for (kind, name), owners in given.items():
            preferred = self._prefer.get(f"verb:{kind}/{name}")
            chosen = [owner for owner in owners if normalise(owner[0].distribution) == preferred]
            owners = chosen if len(chosen) == 1 else owners
            self._verbs[kind, name] = [record for record, _ in owners]
            if why := self.contested_verb(kind, name):
                for record, _ in owners:
                    record.warn(why)
            else:
                verb = owners[0][1]
                found.setdefault(kind, []).append(replace(verb, gives=verb.gives or kind))
        for kind, verbs in found.items():
            own = self.kinds[kind]
            every = {verb.name: verb for verb in (*own.verbs, *verbs)}
            listed = {name: every[name] for name in own.verb_names if name in every}
            self.kinds[kind] = replace(own, verbs=tuple((listed | every).values()))

    @staticmethod
    def _verbs_for(kind: Kind, record: PluginRecord) -> list[Verb]:
        """The verbs that a plugin adds to a kind.

        A verb may name the kind. A verb without kinds is added to every kind that lists the verb's name.
        """
        named = [verb for verb in record.verbs if kind.name in verb.kinds]
        taken = {verb.name for verb in named}
        listed = [verb for verb in record.verbs if not verb.kinds and verb.name in kind.verb_names]
        return [*named, *(verb for verb in listed if verb.name not in taken)]

    def _verb_fault(self, record: PluginRecord, given: Mapping[str, list[Verb]]) -> str:
        """Fault of the verbs of a plugin; empty without a fault."""
        for kind, verbs in given.items():
            names = [verb.name for verb in verbs]
            for name in names:
                if names.count(name) > 1:
                    return f"it adds the verb {name!r} to the kind {kind!r} twice"
                if self.kinds[kind].verb(name) is not None:
                    return f"it adds the verb {name!r} to the kind {kind!r}, which has one of its own"
        for verb in record.verbs:
            words = [("needs", word) for word in verb.needs]
            words += [(f"needs of its port {port.name!r}", word) for port in verb.takes for word in port.needs]
            for says, word in words:
                if word not in self.capabilities:
                    near = did_you_mean(word, self.capabilities) or f"known: {', '.join(self.capabilities)}"
                    return sentences(f"the verb {verb.name!r} {says} {word!r}, which is unknown", near)
        return ""

    def _fault(self, record: PluginRecord) -> str | None:
        """Fault of a plugin's components, given all kinds; None without a fault."""
        seen: set[str] = set()
        verbs = [verb for kind in self.kinds.values() for verb in kind.verbs]
        verbs += [verb for other in self.plugins for verb in other.verbs]
        pluggable = {*self.kinds, *(verb.gives for verb in verbs)}
        for component in record.components:
            if component.id in seen:
                return f"it registers {component.id} twice"
            seen.add(component.id)
            words: list[tuple[str, str, Collection[str]]] = [("is of the kind", component.kind, self.kinds)]
            words += [
                ("takes a port of the kind", kind, pluggable) for port in component.requires for kind in port.kinds
            ]
            words += [(f"says that it {what}", word, self.capabilities) for what, word in _capabilities(component)]
            for says, word, known in words:
                if word not in known:
                    return sentences(
                        f"{component.id} {says} {word!r}, which is unknown",
                        did_you_mean(word, known) or f"known: {', '.join(known)}",
                    )
        return None


def _capabilities(component: Component) -> list[tuple[str, str]]:
    provided = [("provides", word) for word in component.provides]
    return provided + [("needs", word) for port in component.requires for word in port.needs]


def _asks(item: Registered, other: Registered) -> bool:
    """True if a component asks to replace another."""
    if item is other or item.component.overrides is None:
        return False
    asked = parse_reference(item.component.overrides)
    return (
        asked.distribution == normalise(other.distribution)
        and asked.name == other.component.name
        and asked.kind in (None, other.component.kind)
    )


def _yields(item: Registered, other: Registered) -> bool:
    """True if a component lets the other's distribution replace it."""
    return normalise(other.distribution) in {normalise(name) for name in item.component.yields_to}
