"""Objects of another process, as the code of this one sees them: by the interfaces of core."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from scorefold.data import Dataset, DataSpec
from scorefold.errors import PluginError, ScorefoldError, SplitError
from scorefold.interfaces import DataSource, Estimator, Flow, Geometry, ScoreModel, TensorSource
from scorefold.interfaces.model import MADE_FROM
from scorefold.seeds import derive_seed
from scorefold_registry.plugins.environments.wire import leaves_of
from scorefold_registry.plugins.records import Registered

if TYPE_CHECKING:
    from scorefold_registry.plugins.environments.session import Session


class Remote:
    """One object of another process, which is asked by ``ask``: see ``objects.answer`` for the requests."""

    environment: Any
    state: dict[str, Tensor] | None = None
    """The tensors that a training or a saved state has given the object."""

    def ask(self, do: str, *, metrics: Any = None, **values: Any) -> Any:
        """The answer to a request about the object. ``metrics`` gets numbers on the way."""
        raise NotImplementedError

    def call(self, method: str, *given: Any, **named: Any) -> Any:
        """The answer of a method of an object that is no model. Raises what it raises there."""
        return self.ask("call", method=method, given=list(given), named=named)["answer"]


class IsolatedObject(Remote):
    """One object of a worker: made there when it is first called, and again where another worker has taken over."""

    def __init__(
        self, environment: Any, registered: Registered, config: Any, ports: Mapping[str, Any], place: Any
    ) -> None:
        self.environment, self.registered = environment, registered
        self._config, self._ports, self._place = config, dict(ports), place
        self.name: str = environment.next_name(self)
        self._calls = 0
        self._made_in: Session | None = None
        for port, value in self._plugged():
            if not isinstance(value, DataSource | DataSpec) and self._handle(value) is None:
                self._refuse(port, value)

    def _plugged(self) -> list[tuple[str, Any]]:
        """The ports with each object that is plugged into them."""
        lists = {port: value if isinstance(value, list) else [value] for port, value in self._ports.items()}
        return [(port, value) for port, values in lists.items() for value in values]

    def _refuse(self, port: str, value: Any) -> NoReturn:
        """Raises ``PluginError`` for what can't be plugged into an object in another process."""
        name = self.environment.spec.name
        raise PluginError(
            f"port {port!r} of {self.registered.qualified} takes data, scores, flows, estimators, or a component of "
            f"the environment {name!r}; {value!r:.100} is plugged into it",
            hint=f"add the plugin of that component to the requirements of [environments.{name}]",
        )

    def _is_neighbour(self, value: Any) -> bool:
        """True for an object of the same environment."""
        return isinstance(value, Proxy) and value._ask_remote().environment is self.environment

    def ask(self, do: str, *, metrics: Any = None, **values: Any) -> Any:
        """The answer to a request about the object, with a seed for draws from global generators."""
        if "method" in values:
            self._calls += 1
            values["seed"] = derive_seed(self._place.seed or 0, "isolated", values["method"], self._calls)
        return self._send(do, {"name": self.made(), **values}, metrics)

    def put_state(self, state: dict[str, Tensor]) -> None:
        """Has the object made again with these tensors when it is next called."""
        self.state, self._made_in = state, None

    def made(self) -> str:
        """The name of the object in the worker that runs, where it is made if it is not there."""
        session = self.environment.session()
        if self._made_in is not session:
            for _, value in self._plugged():
                if self._is_neighbour(value):
                    value._ask_remote().made()
            place, device = self._place, self.environment.spec.device or self._place.device
            values = {
                **{"name": self.name, "use": self.registered.component.versioned_id, "of": place.seed},
                **{"config": self._config, "ports": self._ports, "state": self.state},
                "device": None if device is None else str(device),
                "dtype": None if place.dtype is None else str(place.dtype).removeprefix("torch."),
            }
            self._send("create", values)
            self._made_in = session
            self.registered.mark_loaded()
        return self.name

    def _send(self, do: str, values: dict[str, Any], metrics: Any = None) -> Any:
        did = {"create": "built", "get": "read", "weights": "read", "points": "loaded"}.get(
            do
        ) or f"did {values['method']!r} of"
        what = f"it {did} {self.registered.id}"
        return self.environment.call(do, what, values, handle=self._handle, blame=self._blame, metrics=metrics)

    def _handle(self, value: Any) -> dict[str, Any] | None:
        if self._is_neighbour(value):
            return {"$": "object", "name": value._ask_remote().name}
        asked = isinstance(value, ScoreModel | Flow | Estimator)
        return self.environment.questions.offer(value) if asked else None  # type: ignore[no-any-return]

    def _blame(self, said: Mapping[str, Any]) -> ScorefoldError:
        """The error of an exception of the plugin's, with the line of its own code."""
        record, where = self.registered.record, f" at {said['frame']}" if said["frame"] else ""
        text = f"{said['type']}: {said['message']}" if said["message"] else str(said["type"])
        spec = self.environment.spec
        refused = spec.sandbox is not None and said["system"]
        hint = f"its sandbox hides files and the network; read and network in [environments.{spec.name}] show them"
        return PluginError(
            f"{self.registered.id} failed in plugin {record.name!r} ({record.brought_by} {record.version}, environment "
            f"{spec.name!r}){where}: {text}",
            hint=hint if refused else None,
        )


class Proxy:
    """Base of all proxies: the object they stand for, a line that shows them, and no way into another process.

    A function gives the object, and not an attribute: the copies that a run hands out share functions. A proxy of an
    object without a class of its own here has the methods that ``proxy_class`` adds, each of which is one message.
    """

    _ask_remote: Callable[[], Any]
    _overrides: frozenset[str]
    elsewhere: ClassVar[bool] = True
    _names: ClassVar[tuple[str, ...]] = ()
    """Attributes that are fetched in one message."""

    def __init__(self) -> None:
        if isinstance(self, nn.Module):
            nn.Module.__init__(self)

    def __repr__(self) -> str:
        origin = vars(self).get(MADE_FROM, type(self).__name__)
        return f"<{origin}; in environment {self._ask_remote().environment.spec.name}>"

    def _fact(self, name: str) -> Any:
        """An attribute of the object, which is fetched once."""
        found: dict[str, Any] = vars(self).setdefault("_fetched", {})
        if name not in found:
            names = self._names if name in self._names else (name,)
            found |= {key: self._here(value) for key, value in self._ask_remote().ask("get", names=list(names)).items()}
        if name not in found:
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        return found[name]

    def _here(self, value: Any) -> Any:
        """An answer on the device of the caller."""
        return value

    def _verb(self, method: str, *given: Any, **named: Any) -> Any:
        """The answer of a method that runs in the other process as a whole. Raises ``PluginError`` where a derivative
        of it would be lost, and for an answer of another shape than the interface demands."""
        leaves = leaves_of([*given, *named.values()])
        if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves):
            raise PluginError(
                f"{self!r} gives no derivatives of {method!r}", hint="install its plugin in this environment"
            )
        return self._whole(method, *given, **named)

    def _whole(self, method: str, *given: Any, **named: Any) -> Any:
        found = self._ask_remote().call(method, *given, **named)
        if isinstance(self, Geometry) and method in _SHAPES:
            self._check_shapes(method, (found,), [_SHAPES[method](*given, **named)])
        leaves = leaves_of([*given, *named.values()])
        return found.to(leaves[0].device) if leaves and isinstance(found, Tensor) else found

    def _check_shapes(self, method: str, found: tuple[Any, ...], shapes: Sequence[Sequence[int]]) -> None:
        """Raises ``PluginError`` for an answer that is no tensors of these shapes."""
        said = [tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__ for each in found]
        if said != list(map(tuple, shapes)):
            raise PluginError(f"{self!r} answered {method!r} with {said}; expected {list(map(tuple, shapes))}")

    def __reduce__(self) -> NoReturn:
        raise PluginError(
            f"{self!r} can't be sent to another process: it is in one of its own", hint="runtime: {workers: 1}"
        )


def _rows(*given: Tensor) -> int:
    return max(map(len, given))


_SHAPES: dict[str, Callable[..., Sequence[int]]] = {
    "metric": lambda x: (len(x), *[math.prod(x.shape[1:])] * 2),
    "exp": lambda x, v: (_rows(x, v), *x.shape[1:]),
    "log": lambda x, y: (_rows(x, y), *x.shape[1:]),
    "inner": lambda x, v, w: (_rows(x, v, w),),
    "norm": lambda x, v: (_rows(x, v),),
    "distance": lambda x, y: (_rows(x, y),),
    "distance_matrix": lambda x, y=None: (len(x), len(x if y is None else y)),
    "geodesic": lambda x, y, s: (_rows(x, y), len(s), *x.shape[1:]),
    "mean": lambda points, weights=None: points.shape[1:],
}
"""The shapes of a geometry's answers."""


_OF_ANY = ("event_shape", "event_scale")
"""Attributes that a component of any kind may have."""


@cache
def proxy_class(base: type, interfaces: tuple[type, ...]) -> type:
    """The class of proxies with these interfaces: what the base lacks is asked of the other process."""
    added = [each for each in interfaces if not issubclass(base, each)]
    methods: dict[str, Any] = {}
    for interface in added:
        names = (*_OF_ANY, *getattr(interface, "__annotations__", ()))
        members = dict.fromkeys(names) | dict(inspect.getmembers(interface))
        for name, value in members.items():
            if not (name.startswith("_") or hasattr(base, name) or hasattr(nn.Module, name)):
                methods[name] = whole(name, value) if inspect.isfunction(value) else fact(name)
    return type(base.__name__, (base, *added), methods) if added else base


def whole(name: str, function: Callable[..., Any]) -> Any:
    """A method that runs in the other process as a whole."""

    def call(self: Any, *given: Any, **named: Any) -> Any:
        return self._verb(name, *given, **named)

    call.__name__, call.__doc__ = name, function.__doc__
    return call


def fact(name: str) -> Any:
    """A property that has an attribute of the object."""
    return property(lambda self: self._fact(name))


class IsolatedSource(Proxy, DataSource):
    """A data source in a worker. Its points cross once, all splits together, when they are first asked for."""

    @cached_property
    def _points(self) -> TensorSource:
        return self._ask_remote().ask("points")  # type: ignore[no-any-return]

    def load(self, split: str) -> Dataset:
        """The points of a split, as the source in the worker gives them."""
        with suppress(SplitError):
            return self._points.load(split)
        return self._ask_remote().call("load", split)  # type: ignore[no-any-return]  # it says why there is none

    def fingerprint(self) -> str | None:
        """The digest of the files that are read, asked for anew each time; None where the class has none to give."""
        found: str | None = self._ask_remote().call("fingerprint") if "fingerprint" in self._overrides else None
        return found

    def data_warnings(self) -> tuple[str, ...]:
        """The warnings of the data."""
        return self._points.data_warnings()

    summary = whole("summary", DataSource.summary)


def _of_points(name: str) -> Any:
    return property(lambda self: getattr(self._points, name))


for _name in ("event_shape", "event_scale", "condition_spec", "label_names", "rows"):
    setattr(IsolatedSource, _name, _of_points(_name))
