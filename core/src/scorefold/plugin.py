"""All that a plugin's ``plugin.py`` imports: declarations made of strings and small tuples.

Nothing here imports torch or pydantic, so listing every installed plugin stays cheap.

>>> count = Verb("count", takes=(Port("data", kind="data"),), gives="metrics", target="my.verbs:count")
>>> Kind("learner", "my.module:Learner", verbs=(count,), comparison=Comparison(("count",), best="largest")).default
'count'
>>> Capability("Stacks", "my.module:Stacks").name, Claim("two", "A plane is 2", "closed form", "my:two").role
('Stacks', 'gate')
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pluggy

from scorefold.errors import PluginError

PLUGIN_API = "1.0"
"""The version of the plugin contract. A plugin states the one it was written for as ``__plugin_api__``."""

ENTRY_POINT_GROUP = "scorefold.plugins"

RESERVED_PORTS = frozenset({"name", "config", "generator", "executor", "device", "dtype", "port_names"})

hookspec = pluggy.HookspecMarker("scorefold")
hookimpl = pluggy.HookimplMarker("scorefold")

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]*\Z")
_LONGEST_NAME = 60
_STANDARD = sys.stdlib_module_names
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z")


def _check_name(what: str, name: str) -> None:
    if not (isinstance(name, str) and _NAME.match(name)) or len(name) > _LONGEST_NAME:
        raise PluginError(
            f"{what} is called {name!r:.100}; a name is lower-case letters and digits, words joined by '-', "
            f"{_LONGEST_NAME} characters at most",
            hint=f"for example: {re.sub(r'[^a-z0-9]+', '-', str(name).lower()).strip('-') or 'my-name'}",
        )


def check_target(what: str, target: object) -> None:
    """Raises ``PluginError`` for anything but ``package.module:Name``."""
    if not (isinstance(target, str) and _TARGET.match(target)):
        raise PluginError(f"{what} is {target!r}; expected 'package.module:Name'")


def _complete(declaration: Any, *fields: str) -> None:
    """Put the package of the module that makes a declaration before targets that begin with a dot."""
    place = sys._getframe(3).f_globals
    package = str(place.get("__package__") or place["__name__"])
    for name in fields:
        if str(target := getattr(declaration, name)).startswith(".") and package.partition(".")[0] not in _STANDARD:
            object.__setattr__(declaration, name, f"{package}{target}".replace(".:", ":"))


@dataclass(frozen=True)
class Port:
    """One input of a constructor or a verb.

    ``kind`` is what may be plugged in, one kind or several; ``needs`` are the capabilities it must provide; ``many``
    takes a list; ``default`` is an inline component (``{"use": "kind:name", "config": {...}}``) used when nothing is
    plugged in. ``when`` names a capability: the port is then required only of components that provide it. ``whole`` on
    a data port says that the component reads the data itself, not only its shape and scale, so that loading a saved
    state rebuilds the source too; ``needs_density`` that it is made from the distribution of the data where the source
    knows it (``scorefold.interfaces.capabilities.KnowsDistribution``) and does something else where it doesn't, such as
    memorising the points, so that ``compare`` puts it on such data only where somebody chose it. ``installed`` on a
    port that takes a list plugs in, where nothing else is, every installed component of its kinds whose constructor has
    no port, with its default configuration; a constructor that takes ``port_names`` gets the components' names by port.
    ``passed_over`` on a port of a verb says that only constructors read what is plugged in.
    """

    name: str
    kind: str | tuple[str, ...]
    needs: tuple[str, ...] = ()
    optional: bool = False
    many: bool = False
    default: Mapping[str, Any] | None = None
    when: str = ""
    whole: bool = False
    needs_density: bool = False
    installed: bool = False
    passed_over: bool = False

    def __post_init__(self) -> None:
        if self.installed and not (self.many and self.optional):
            raise PluginError(f"port {self.name!r:.100} is installed=True; expected many=True and optional=True too")
        if self.name in (*RESERVED_PORTS,):
            reserved = ", ".join(sorted(RESERVED_PORTS))
            raise PluginError(f"a port is called {self.name!r}, which is reserved ({reserved})")
        if not (isinstance(self.name, str) and self.name.isascii() and self.name.isidentifier()):
            raise PluginError(
                f"a port is called {self.name!r:.100}; it names an argument of the constructor, and folders of states"
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,) if isinstance(self.kind, str) else tuple(self.kind)


@dataclass(frozen=True)
class Verb:
    """Action of a stage on a component of a kind.

    ``target`` is ``module:function``, called as ``function(component, inputs, options, context) -> Outcome`` (see
    ``scorefold.stage``); ``takes`` are its ports, ``gives`` the kind of what it hands on, empty for the component's
    own; ``options`` is the pydantic model of its settings; ``needs`` the capabilities that the component must provide;
    ``figures`` draws the outcome's value where the component declares no figures of its own. ``examples`` are stages as
    a run file has them, without ``do``, each done within five CPU seconds: ``use``, ``config``, ``inputs`` (inline
    components), ``options``.

    A verb that a plugin offers by the hook ``scorefold_verbs`` is for the kinds that it names in ``kinds``, or, where
    it names none, for those that list its name in ``verb_names``. One that stands in a ``Kind`` is that kind's.
    """

    name: str
    takes: tuple[Port, ...]
    gives: str
    target: str
    options: str | None = None
    needs: tuple[str, ...] = ()
    figures: str | None = None
    kinds: tuple[str, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        _complete(self, "target", "options", "figures")
        _check_name("a verb", self.name)
        check_target(f"the target of verb {self.name!r}", self.target)


@dataclass(frozen=True)
class Comparison:
    """Comparison of components on a case by ``scorefold compare``.

    ``verbs`` are done in this order, and the outcome of the last holds the number under ``answer`` (see
    ``scorefold.stage.Outcome``). ``best`` says which number is best: the one nearest to the ``truth``, the ``smallest``
    or the ``largest``. ``cases`` are those to compare on where the user names none, written as in a file of cases.
    """

    verbs: tuple[str, ...]
    best: str = "truth"
    cases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.verbs or self.best not in ("truth", "smallest", "largest"):
            raise PluginError(
                f"a comparison has the verbs {self.verbs!r} and best={self.best!r}; expected at least one verb, and "
                "truth, smallest or largest"
            )


@dataclass(frozen=True)
class Kind:
    """A kind of component: its interface (``module:Class``) and its verbs. The first verb is a stage's default.

    ``verb_names`` are the names of verbs in their order; those that are not among the kind's own ``verbs`` are given by
    plugins (the hook ``scorefold_verbs``). Those that are not listed come last. ``comparison`` says how the kind's
    components are compared; components of a kind without one can't be.
    """

    name: str
    interface: str
    verbs: tuple[Verb, ...] = ()
    summary: str = ""
    comparison: Comparison | None = None
    verb_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _complete(self, "interface")
        _check_name("a kind", self.name)
        for name in self.verb_names:
            _check_name(f"a verb of the kind {self.name!r}", name)
        check_target(f"the interface of kind {self.name!r}", self.interface)

    @property
    def default(self) -> str:
        """The name of the verb that a stage does where it names none; empty where the kind has none."""
        return next(iter((*self.verb_names, *(verb.name for verb in self.verbs))), "")

    def verb(self, name: str | None = None) -> Verb | None:
        """The verb of that name, or the default verb; None where there is none."""
        return next((verb for verb in self.verbs if verb.name == (name or self.default)), None)


@dataclass(frozen=True)
class Component:
    """One method that a plugin offers, by name. Strings and small tuples only: importing it must stay cheap.

    ``target`` is the class and ``config`` its pydantic model, both as ``module:Name``, or ``.module:Name`` in the
    package that declares it. ``requires`` are the ports of the constructor, ``provides`` the capabilities of the
    object. ``examples`` are mappings with optional keys ``config`` and ``inputs`` (inline components) that build
    within five CPU seconds. ``figures`` is ``module:function``, called with the value of the kind's first verb (of a
    training, a ``scorefold.stage.Fitted``), and returns ``{name: matplotlib Figure}``. ``inspect`` of data is a
    ``module:function`` of a config, with the answer of the class's ``inspect``, whose module needs no torch.

    A saved state of an older ``revision`` is handed to the target's class method ``migrate(state, from_revision)``,
    with ``state`` a mapping of ``config`` (a mapping) and ``tensors`` (by name), and comes back as this revision has
    it; without that method it is refused.

    ``known_failures`` are checks of the conformance kit that the method is known to fail, each with its reason; one
    that passes after all is a failure.

    ``ranges`` say over what the method is right, and the kit holds it to that: ``{"dimension": (1, 10)}`` for an
    estimator of dimensions from 1 to 10.

    ``any_threads`` says that the kind's first verb gives equal bits for any number of threads of torch, so that keys of
    its stages leave it out. The kit compares them.

    ``overrides`` names the ``distribution/name`` that this one asks to replace; it does so only where the other names
    this one's distribution in ``yields_to``. Otherwise the name is nobody's until the user prefers one.

    >>> data = Port("data", kind="data")
    >>> Component("estimator", "rank", "my.module:Rank", "my.config:RankConfig", "A rank", requires=(data,)).id
    'estimator:rank'
    """

    kind: str
    name: str
    target: str
    config: str
    summary: str
    revision: int = 1
    requires: tuple[Port, ...] = ()
    provides: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = field(default=({},))
    figures: str | None = None
    inspect: str | None = None
    cite: str | None = None
    known_failures: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    any_threads: bool = False
    overrides: str | None = None
    yields_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _complete(self, "target", "config", "figures", "inspect")
        _check_name("a component", self.name)
        for alias in self.aliases:
            _check_name(f"an alias of {self.name!r}", alias)
        check_target(f"the target of {self.kind}:{self.name}", self.target)
        check_target(f"the config of {self.kind}:{self.name}", self.config)
        if isinstance(self.revision, int) and self.revision < 1:
            raise PluginError(f"{self.kind}:{self.name} has revision {self.revision}; revisions count from 1")

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def versioned_id(self) -> str:
        return f"{self.kind}:{self.name}@{self.revision}"

    def port(self, name: str) -> Port | None:
        return next((port for port in self.requires if port.name == name), None)


@dataclass(frozen=True)
class Capability:
    """Ability of components of any kind: ``interface`` is the class that they then derive from, as ``module:Class``,
    and ``name`` the word for it in ``provides`` and ``needs``, which is the class's.

    ``comparison`` says how such components are compared; components of a capability without one can't be.
    """

    name: str
    interface: str
    summary: str = ""
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        _complete(self, "interface")
        if not (isinstance(self.name, str) and _CLASS.match(self.name)) or len(self.name) > _LONGEST_NAME:
            raise PluginError(f"a capability is called {self.name!r:.100}; expected a class's name, such as Trainable")
        check_target(f"the interface of capability {self.name!r}", self.interface)


@dataclass(frozen=True)
class Claim:
    """A result that the plugin says anyone can measure again.

    ``target`` is ``module:function``, called as ``function(host, profile, seed, **options)`` and returning the measured
    value (a number, or None where data or weights are not at hand). ``options`` hold text and numbers, so that one
    function measures the rows of a table. ``tolerance`` is ``(kind, value)`` with kind one of ``abs``,
    ``rel``, ``min``, ``max`` and ``range``; ``role`` is ``gate`` or ``report``, fixed before it is measured.
    ``reference`` is a number to compare with, which ``abs`` and ``rel`` need; its ``basis`` is ``published`` only where
    a paper prints it, ``derived`` for a closed form or a simulation, and ``earlier run`` for anybody's run. ``needs``
    says what is missing where there is no value, and where to get it (without it, no value is an error); ``structural``
    why a gate holds for a model that was not trained, such as a ratio of parameters.
    """

    name: str
    statement: str
    source: str
    target: str
    role: str = "gate"
    reference: float | None = None
    basis: str = "derived"
    needs: str = ""
    structural: str = ""
    tolerance: tuple[str, Any] = ("abs", 0.0)
    unit: str = ""
    profiles: tuple[str, ...] = ("smoke", "quick", "full")
    options: Mapping[str, str | float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _complete(self, "target")
        _check_name("a claim", self.name)
        check_target(f"the target of claim {self.name!r}", self.target)
        if not isinstance(self.options, Mapping) or not all(
            isinstance(name, str) and name.isidentifier() and isinstance(value, str | float | int)
            for name, value in self.options.items()
        ):
            raise PluginError(
                f"claim {self.name!r} has options {self.options!r}; expected a mapping of names to text and numbers"
            )
        for field_name, value, known in (
            ("role", self.role, ("gate", "report")),
            ("basis", self.basis, ("published", "derived", "earlier run")),
            ("tolerance", self.tolerance[0], ("abs", "rel", "min", "max", "range")),
        ):
            if value not in known:
                raise PluginError(f"claim {self.name!r} has {field_name} {value!r}; expected one of {', '.join(known)}")


@dataclass(frozen=True)
class Model:
    """A trained model that comes with a plugin: ``load: model:NAME`` in a run file.

    ``folder`` is relative to the plugin's module and as ``scorefold push`` wrote it, with the licences of weights and
    data on its card.

    >>> Model("rings", "models/rings", "A flow of two rings in the plane").name
    'rings'
    """

    name: str
    folder: str
    summary: str

    def __post_init__(self) -> None:
        _check_name("a model", self.name)


LATENT_VERBS = ("encode", "reconstruct", "generate", "interpolate", "traverse", "edit", "latents")
"""Verbs for latent codes, for any kind whose components may provide ``Encodes``."""

_MODEL_VERBS = ("fit", "sample", "evaluate", "outliers", "assess", *LATENT_VERBS)

_HELD_OUT = Comparison(verbs=("fit", "evaluate"), best="smallest")

CORE_CAPABILITIES: tuple[Capability, ...] = (
    Capability("Trainable", "scorefold.interfaces:Trainable", "It can be trained"),
    Capability(
        "Encodes",
        "scorefold.interfaces:Encodes",
        "It has latent codes",
        Comparison(verbs=("fit", "reconstruct"), best="smallest"),
    ),
    Capability("EncodesNoise", "scorefold.interfaces:EncodesNoise", "Decodes a code and noise to an event"),
    Capability("Transports", "scorefold.interfaces:Transports", "It has parallel transport"),
    Capability("ClosedFormGeodesics", "scorefold.interfaces:ClosedFormGeodesics", "Its geodesics need no solver"),
)


def _kind(name: str, interface: str, summary: str, verbs: tuple[str, ...], compared: Comparison | None = None) -> Kind:
    return Kind(name, f"scorefold.interfaces:{interface}", (), summary, compared, verbs)


_BUDGETS = {f"budget-{budget}": {"options": {"budget": budget}} for budget in (100, 1000, 10000)}
_PATHS = Comparison(verbs=("interpolate",), best="smallest")
_READ = Comparison(verbs=("estimate",))
_PLANS = Comparison(verbs=("allocate",), best="smallest", cases=_BUDGETS)

CORE_KINDS: tuple[Kind, ...] = (
    _kind("data", "DataSource", "A source of points, in disjoint splits", ("load",)),
    _kind("network", "Network", "A builder of networks, named inside a component's config", ()),
    _kind("score", "ScoreModel", "A model of the score of noised data", _MODEL_VERBS, _HELD_OUT),
    _kind("flow", "Flow", "An invertible map between data and a base distribution", _MODEL_VERBS, _HELD_OUT),
    _kind("geometry", "Geometry", "A Riemannian metric on events", ("build", "interpolate"), _PATHS),
    _kind("estimator", "Estimator", "A number about data, with its uncertainty", ("estimate", *LATENT_VERBS), _READ),
    _kind("allocator", "Allocator", "A plan for spending labels across tasks", ("allocate",), _PLANS),
)
