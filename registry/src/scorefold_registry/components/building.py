"""Components built: config and ports checked, inline components built, torch's global random state left alone."""

from __future__ import annotations

import inspect
import re
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from scorefold.config import Config, Use
from scorefold.data import Dataset, DataSpec
from scorefold.errors import ConfigError, PluginError, ScorefoldError
from scorefold.interfaces import Shown
from scorefold.interfaces.model import MADE_FROM
from scorefold.plugin import Port
from scorefold.seeds import derive_generator, derive_seed
from scorefold.stage import Executor
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import RawPath, config_error, config_problems, dotted
from scorefold_registry.components.parts import Part, read_config, with_installed
from scorefold_registry.components.ports import Inside, inline_fields
from scorefold_registry.plugins.loading import describe, load_target, own_frame
from scorefold_registry.plugins.names import did_you_mean, sentences, with_article
from scorefold_registry.plugins.records import Registered

_FIELDS, _LONGEST = 6, 40


def show_by_origin(obj: Any, name: str, config: BaseModel, ports: Mapping[str, Any]) -> None:
    """Have an object shown as ``<flow:affine-coupling layers=2, data=<data:digits ...>>``."""
    if not isinstance(obj, Shown):
        return
    plugged = {port: _part(value) for port, value in ports.items()}
    given = {field: _text(getattr(config, field)) for field in type(config).model_fields if _is_set(config, field)}
    few = [f"{key}={value}" for key, value in [*given.items(), *plugged.items()]]
    more = [f"{len(few) - _FIELDS} more"] if len(few) > _FIELDS else []
    vars(obj)[MADE_FROM] = " ".join([name, ", ".join(few[:_FIELDS] + more)]).strip()


def _is_set(config: BaseModel, field: str) -> bool:
    """True if a field is not as it is by default."""
    return bool(getattr(config, field) != type(config).model_fields[field].get_default(call_default_factory=True))


def _part(value: Any) -> str:
    """Component at a port."""
    if isinstance(value, list | tuple):
        return f"[{len(value)}]"
    origin = vars(value).get(MADE_FROM) if hasattr(value, "__dict__") else None
    return type(value).__name__ if origin is None else str(origin).partition(" ")[0]


def _text(value: Any) -> str:
    """A value of a config as a run file has it, and not longer than a few words."""
    if isinstance(value, Use):
        return value.use
    if isinstance(value, BaseModel):
        named = getattr(value, "name", None)
        set_here = [
            f"{field}: {_text(getattr(value, field))}" for field in type(value).model_fields if _is_set(value, field)
        ]
        text = str(named) if named is not None and len(set_here) < 2 else "{" + ", ".join(set_here) + "}"
    else:
        text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


_TAKEN = re.compile(r"attribute '(\w+)' already exists")
"""Error of torch for a module or parameter with the name of a class attribute."""


@dataclass(frozen=True)
class Placement:
    """Device of modules, the seed of their construction, and the executor for components that take an ``executor``."""

    seed: int | None = None
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    executor: Executor | None = None

    def inside(self, *names: str | int) -> Placement:
        """The same for a part, with a seed of its own."""
        seed = None if self.seed is None else derive_seed(self.seed, *names)
        return Placement(seed, self.device, self.dtype, self.executor)


@dataclass
class Made:
    """Provenance of an object: enough to make it again.

    ``ports`` holds the objects plugged in, ``inline`` the names of those that were built along with it; ``saved`` is
    the folder that holds its state, once there is one.
    """

    part: Part
    ports: Mapping[str, Any]
    inline: frozenset[str]
    place: Placement
    saved: Path | None = None

    @property
    def registered(self) -> Registered:
        return self.part.registered


@dataclass
class Memory:
    """Provenance of each living object. Objects are held weakly and compared by identity."""

    _made: dict[int, tuple[weakref.ref[Any], Made]] = field(default_factory=dict)

    def keep(self, obj: Any, made: Made) -> None:
        key = id(obj)
        self._made[key] = (weakref.ref(obj, lambda _: self._made.pop(key, None)), made)

    def __len__(self) -> int:
        return len(self._made)

    def of(self, obj: Any) -> Made | None:
        entry = self._made.get(id(obj))
        return entry[1] if entry is not None and entry[0]() is obj else None


class Builder:
    """Builds components of a catalogue and remembers what each was made from."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.memory = Memory()

    def build(self, registered: Registered, config: Any, ports: Mapping[str, Any], place: Placement) -> Any:
        """A component from its config (a mapping or a ``Config``) and its ports.

        A ``DataSpec`` may stand for data of which a component takes only the shape. Raises ``ConfigError`` for a
        config or ports that do not fit and ``PluginError`` for a plugin that does not keep its word.
        """
        return self.make(self._read(registered, config), ports, place)

    def make(self, part: Part, ports: Mapping[str, Any], place: Placement) -> Any:
        """A component from a part and its ports: the inputs of the part, with objects in place of names."""
        registered, component = part.registered, part.registered.component
        plugged = self._plug(part, ports, place)
        if (environment := registered.record.environment) is not None:
            config = part.config_json(Inside(self.catalogue, environment))
            interfaces = [self.interface(component.kind), *map(self.capability, component.provides)]
            obj = environment.create(registered, config, plugged, place, interfaces)
        else:
            obj = self._construct(registered, self._fill(part, plugged, place), plugged, place)
        self._check_made(registered, obj)
        if isinstance(obj, nn.Module):
            obj.to(device=place.device, dtype=place.dtype)
        inline = frozenset(name for name in plugged if _is_inline(ports.get(name, "")))
        self.memory.keep(obj, Made(part, plugged, inline, place))
        show_by_origin(obj, registered.id, part.config, plugged)
        return obj

    def make_inside(self, part: Part, outer: Mapping[str, Any], place: Placement) -> Any:
        """A component named inline. Ports it isn't given come from ``outer``, the ports of the component around it."""
        ports = {name: self._named(value, outer) for name, value in part.inputs.items()}
        for port in part.registered.component.requires:
            if port.default is None and port.name not in ports and port.name in outer:
                ports[port.name] = outer[port.name]
        return self.make(part, ports, place)

    def _read(self, registered: Registered, config: Any, inputs: Mapping[str, Any] | None = None) -> Part:
        """The part that a configuration describes. Raises ``ConfigError`` for one that is not valid."""
        read = read_config(self.catalogue, registered, config)
        part = read.part(self.catalogue, inputs or {})
        if part is None:
            raise config_error(f"the config of {registered.id}", read.problems)
        return part

    def part(self, value: Use | Mapping[str, Any] | str) -> Part:
        """The part that is named inline. Raises ``ConfigError`` and ``PluginError`` where something is wrong."""
        try:
            use = Use(use=value) if isinstance(value, str) else Use.model_validate(value)
        except ValidationError as error:
            raise config_error("a component named inline", config_problems(Use, error, value)) from None
        return self._read(self.catalogue.resolve(use.use), use.config, use.inputs)

    def _named(self, value: Any, outer: Mapping[str, Any]) -> Any:
        if isinstance(value, list):
            return [self._named(item, outer) for item in value]
        return outer.get(value, value) if isinstance(value, str) else value

    def _plug(self, part: Part, given: Mapping[str, Any], place: Placement) -> dict[str, Any]:
        """The ports as objects: inline components and defaults built, everything checked."""
        registered, component = part.registered, part.registered.component
        given = with_installed(self.catalogue, registered, given)
        names = [port.name for port in component.requires]
        for name in given:
            if name not in names:
                known = f"{registered.id} takes {', '.join(names)}" if names else f"{registered.id} takes no port"
                raise ConfigError(f"unknown port {name!r}", hint=sentences(did_you_mean(name, names), known))
        values: dict[str, Any] = {}
        for port in component.requires:
            value = given.get(port.name)
            if value is None and registered.record.environment is not None:
                continue  # defaults are built where the component is
            if value is None and port.default is not None:
                value = part.defaults.get(port.name, dict(port.default))
            if value is not None:
                values[port.name] = value
            elif not (port.optional or port.when):
                raise ConfigError(
                    f"nothing is plugged into port {port.name!r} of {registered.id}",
                    hint=f"it needs a component of kind {' or '.join(port.kinds)}",
                )
        objects = {name: value for name, value in values.items() if not _is_inline(value)}
        return {
            port.name: self._port_value(registered, port, values[port.name], objects, place.inside("port", port.name))
            for port in component.requires
            if port.name in values
        }

    def _port_value(
        self, registered: Registered, port: Port, value: Any, outer: Mapping[str, Any], place: Placement
    ) -> Any:
        """Object at a port, checked to fit. Inline components take their ports from ``outer``."""
        where = f"port {port.name!r} of {registered.id}"
        if port.many:
            if not isinstance(value, (list, tuple)):
                raise ConfigError(f"{where} takes a list; {_what(value)} is plugged into it")
            built = [self._built(item, outer, place.inside(index)) for index, item in enumerate(value)]
            for index, item in enumerate(built):
                self._check_fits(f"{where}, entry {index},", port.kinds, port.needs, item, whole=port.whole)
            return built
        value = self._built(value, outer, place)
        self._check_fits(where, port.kinds, port.needs, value, whole=port.whole)
        return value

    def _built(self, value: Any, outer: Mapping[str, Any], place: Placement) -> Any:
        if not _is_inline(value):
            return value
        return self.make_inside(value if isinstance(value, Part) else self.part(value), outer, place)

    def _check_fits(
        self, where: str, kinds: Sequence[str], needs: Sequence[str], value: Any, *, whole: bool = False
    ) -> None:
        """Raises ``ConfigError`` unless a value is of one of the kinds and has the capabilities."""
        interfaces = [self.interface(kind) for kind in kinds if kind in self.catalogue.kinds]
        if "data" in kinds and not whole:
            interfaces.append(DataSpec)
        if len(interfaces) >= len(kinds) and not isinstance(value, tuple(interfaces)):
            hint = None
            if "data" in kinds and isinstance(value, (torch.Tensor, Dataset)):
                hint = "tensors and data sets become a source with scorefold.interfaces.TensorSource"
            raise ConfigError(
                f"{where} takes a component of kind {' or '.join(kinds)}; this is {_what(value)}", hint=hint
            )
        missing = [need for need in needs if not isinstance(value, self.capability(need))]
        if missing:
            raise ConfigError(f"{where} needs {' and '.join(missing)}, which {_what(value)} does not provide")

    def interface(self, kind: str) -> type:
        """The class that components of a kind derive from."""
        return _interface(f"kind {kind!r}", self.catalogue.kind(kind).interface)

    def capability(self, name: str) -> type:
        """The class that components with a capability derive from."""
        return _interface(f"capability {name!r}", self.catalogue.capabilities[name].interface)

    def _fill(self, part: Part, ports: Mapping[str, Any], place: Placement) -> Config:
        """The config with its inline components built."""
        config = part.config
        for item in inline_fields(config):
            value = part.inline[item.path]
            if isinstance(value, Part):
                value = self.make_inside(value, ports, place.inside("config", dotted(item.path)))
            self._check_fits(dotted(item.path), (item.kind,), item.needs, value)
            config = _replaced(config, item.path, value)
        return config

    def _construct(self, registered: Registered, config: Config, ports: Mapping[str, Any], place: Placement) -> Any:
        target = load_target(registered, registered.component.target)
        registered.mark_loaded()
        wanted = inspect.signature(target).parameters
        names = {name: self._names(items) for name, items in ports.items() if isinstance(items, list)}
        try:
            for _ in range(2):  # an import may seed torch, once; a constructor does it again
                offered = {
                    "generator": None if place.seed is None else derive_generator(place.seed, "construction"),
                    "device": place.device,
                    "dtype": place.dtype,
                    "executor": place.executor,
                    "port_names": names,
                }
                extra = {name: value for name, value in offered.items() if name in wanted}
                with _seeded(place) as seeded_again:
                    made = target(config, **ports, **extra)
                    if not seeded_again():
                        return made
            raise PluginError(
                f"the constructor of {registered.id} seeds torch's generator, so its weights may be the same for every "
                f"seed of a run ({registered.record.label})",
                hint="delete the call, as torch draws from the run's seed there; or put it and its draws into "
                "`with torch.random.fork_rng():`",
            )
        except ScorefoldError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            frame = own_frame(error, {registered.record.package})
            taken = _TAKEN.match(str(error.args[0])) if isinstance(error, KeyError) and error.args else None
            reserved = (
                f"{taken[1]} is reserved, a method of torch.nn.Module: call the attribute otherwise" if taken else ""
            )
            raise PluginError(
                f"building {registered.id} failed: {describe(error)} ({registered.record.label})",
                hint=sentences(f"at {frame}" if frame else "", reserved) or None,
            ) from error

    def _names(self, items: Sequence[Any]) -> list[str]:
        """The names of what is plugged into a port, as components or else as types; a name used again is numbered."""
        made = [(item, self.memory.of(item)) for item in items]
        plain = [type(item).__name__ if known is None else known.registered.component.name for item, known in made]
        counts = [plain[:place].count(name) for place, name in enumerate(plain)]
        return [f"{name}-{count + 1}" if count else name for name, count in zip(plain, counts, strict=True)]

    def _check_made(self, registered: Registered, obj: Any) -> None:
        """Raises ``PluginError`` where the object isn't what its declaration says."""
        component = registered.component
        interface = self.interface(component.kind)
        if not isinstance(obj, interface):
            raise PluginError(
                f"{registered.id} is declared as {with_article(component.kind)}, but {component.target} is no "
                f"{interface.__name__} ({registered.record.label})"
            )
        for name, value in _attributes(obj).items():
            if owner := _method_of(name, obj, interface):
                raise PluginError(
                    f"{registered.id} sets self.{name} to {_what(value)}: {name} is reserved, a method of {owner} that "
                    f"others call ({registered.record.label})",
                    hint=f"call the attribute otherwise: self.{name}_ in {component.target}",
                )
        for name, declaration in self.catalogue.capabilities.items():
            declared = name in component.provides
            if not declared and declaration.interface.partition(":")[0] not in sys.modules:
                continue  # nothing can derive from what was never imported
            try:
                capability = self.capability(name)
            except PluginError:
                if declared:
                    raise
                continue  # its own plugin is at fault, and not this component
            if declared and not isinstance(obj, capability):
                raise PluginError(
                    f"{registered.id} says that it provides {name}, but {component.target} does not derive from it "
                    f"({registered.record.label})"
                )
            if not declared and isinstance(obj, capability):
                registered.record.warn(f"{registered.id} can do {name} but does not declare it in 'provides'")


def _attributes(obj: Any) -> dict[str, Any]:
    """Attributes that a constructor has set: parts and values, but no callables, such as wrapped methods."""
    values = {name: value for name, value in getattr(obj, "__dict__", {}).items() if not callable(value)}
    return {**values, **obj._modules} if isinstance(obj, nn.Module) else values


def _method_of(name: str, obj: Any, interface: type) -> str | None:
    """The class with a method of this name: torch's for modules, or the interface of the kind. None for a free name."""
    if isinstance(obj, nn.Module) and inspect.isfunction(getattr(nn.Module, name, None)):
        return "torch.nn.Module"
    return interface.__name__ if inspect.isfunction(getattr(interface, name, None)) else None


def _interface(what: str, target: str) -> type:
    module, _, name = target.partition(":")
    try:
        interface = getattr(import_module(module), name)
    except Exception as error:
        raise PluginError(f"the interface of {what} can't be imported: {describe(error)}") from error
    if not isinstance(interface, type):
        raise PluginError(
            f"the interface of {what} is {target}, {with_article(type(interface).__name__)}; expected a class"
        )
    return interface


def draw_seed(generator: torch.Generator | None) -> int | None:
    """A seed for one construction, drawn from the caller's generator."""
    if generator is None:
        return None
    return int(torch.randint(2**62, (), generator=generator, device=generator.device, dtype=torch.int64))


@contextmanager
def _seeded(place: Placement) -> Iterator[Callable[[], bool]]:
    """Seeds torch's global generators for a construction, and puts them back as they were.

    The function that it gives says whether somebody else seeded them since then.
    """
    seed = 0 if place.seed is None else derive_seed(place.seed, "initialisation")
    device = torch.device(place.device or "cpu")
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed, which would also reach devices that were not forked.
        torch.default_generator.manual_seed(seed)
        for index in devices:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield lambda: torch.default_generator.initial_seed() != seed


def _is_inline(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(_is_inline(item) for item in value)
    return isinstance(value, (Part, Use, Mapping, str))


def _what(value: Any) -> str:
    return with_article(type(value).__name__) if value is not None else "nothing"


def _replaced(container: Any, path: RawPath, value: Any) -> Any:
    """A copy of nested models, lists and mappings with one entry replaced."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(container, BaseModel):
        return container.model_copy(update={str(key): _replaced(getattr(container, str(key)), rest, value)})
    if isinstance(container, Mapping):
        return {**container, key: _replaced(container[key], rest, value)}
    assert isinstance(key, int)
    items = [_replaced(item, rest, value) if index == key else item for index, item in enumerate(container)]
    return type(container)(items)
