"""Components that live in a worker, as the host's own code sees them: objects of core's interfaces, geometries
included."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from scorefold.data import Dataset, DataSpec
from scorefold.errors import PluginError, ScorefoldError
from scorefold.interfaces import DataSource, Estimator, Flow, Geometry, ScoreModel
from scorefold.interfaces.model import MADE_FROM
from scorefold.results import Estimate
from scorefold.seeds import derive_seed
from scorefold.summary import DataSummary
from scorefold_registry.plugins.environments.wire import leaves_of
from scorefold_registry.plugins.records import Registered

if TYPE_CHECKING:
    from scorefold_registry.plugins.environments.session import Session


class Remote:
    """One object of a worker: made there when it is first called, and again where another worker has taken over."""

    def __init__(
        self, environment: Any, registered: Registered, config: Any, ports: Mapping[str, Any], place: Any
    ) -> None:
        self.environment, self.registered = environment, registered
        self._config, self._ports, self._place = config, dict(ports), place
        self._name: str = environment.next_name(self)
        self._calls = 0
        self.state: dict[str, Tensor] | None = None
        """The tensors that a training or a saved state has given the object."""
        self._made_in: Session | None = None
        for port, value in self._ports.items():
            for item in value if isinstance(value, list) else [value]:
                self._check_crosses(port, item)

    def _check_crosses(self, port: str, value: Any) -> None:
        """Raises ``PluginError`` for what can't be plugged into an object in another process."""
        other = remote_of(value)
        if isinstance(value, DataSource | DataSpec | ScoreModel | Flow | Estimator):
            return
        if other and other.environment is self.environment:
            return
        name = self.environment.spec.name
        raise PluginError(
            f"port {port!r} of {self.registered.qualified} takes data, scores, flows, estimators, or a component of "
            f"the environment {name!r}; {value!r:.100} is plugged into it",
            hint=f"add the plugin of that component to the requirements of [environments.{name}]",
        )

    def call(self, method: str, *given: Any, **named: Any) -> Any:
        """The answer of a method of the object. Raises what it raises there; see ``Session.call``."""
        return self.ask("call", method, {}, given=list(given), named=named)

    def ask(self, do: str, method: str, plain: Mapping[str, Any], *, metrics: Any = None, **values: Any) -> Any:
        """The answer to a request about a method of the object. ``metrics`` gets numbers on the way."""
        self._calls += 1
        seed = derive_seed(self._place.seed or 0, "isolated", method, self._calls)
        plain = {"name": self._object(), "method": method, "seed": seed, **plain}
        return self._ask(do, f"it did {method!r} of {self._id}", plain, metrics=metrics, **values)

    def put_state(self, state: dict[str, Tensor]) -> None:
        """Has the object made again with these tensors when it is next called."""
        self.state, self._made_in = state, None

    def points(self) -> dict[str, Any]:
        """A data source as its points, with their summary."""
        found: dict[str, Any] = self._ask("points", f"it loaded {self._id}", {"name": self._object()})
        return found

    def get(self, names: Sequence[str]) -> dict[str, Any]:
        """Attributes of the object, those that it has."""
        plain = {"name": self._object(), "names": list(names)}
        found: dict[str, Any] = self._ask("get", f"it read {self._id}", plain)
        return found

    @property
    def _id(self) -> str:
        return self.registered.id

    def _ask(self, do: str, what: str, plain: Mapping[str, Any], *, metrics: Any = None, **values: Any) -> Any:
        return self.environment.call(
            do, what, plain=plain, handle=self._handle, blame=self._blame, values=values, metrics=metrics
        )

    def _object(self) -> str:
        """The name of the object in the worker that runs."""
        session = self.environment.session()
        if self._made_in is not session:
            for value in self._ports.values():
                for item in value if isinstance(value, list) else [value]:
                    other = remote_of(item)
                    if other is not None and other.environment is self.environment:
                        other._object()
            place = self._place
            device = self.environment.spec.device or place.device
            plain = {
                "name": self._name,
                "use": self.registered.component.versioned_id,
                "place": {
                    "seed": place.seed,
                    "device": None if device is None else str(device),
                    "dtype": None if place.dtype is None else str(place.dtype).removeprefix("torch."),
                },
            }
            self._ask("create", f"it built {self._id}", plain, config=self._config, ports=self._ports, state=self.state)
            self._made_in = session
            self.registered.mark_loaded()
        return self._name

    def _handle(self, value: Any) -> dict[str, Any] | None:
        other = remote_of(value)
        if other is not None and other.environment is self.environment:
            return {"$": "object", "name": other._name}
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
            f"{self._id} failed in plugin {record.name!r} ({record.brought_by} {record.version}, environment "
            f"{spec.name!r}){where}: {text}",
            hint=hint if refused else None,
        )


def remote_of(value: Any) -> Remote | None:
    """The object of a worker that a proxy stands for; None for any other object."""
    ask = vars(value).get("_ask_remote") if isinstance(value, Proxy) else None
    return None if ask is None else ask()  # type: ignore[no-any-return]


class Proxy:
    """Base of all proxies: the object they stand for, a line that shows them, and no way into another process.

    A function gives the object, and not an attribute: the copies that a run hands out share functions.
    """

    _ask_remote: Callable[[], Remote]
    _overrides: frozenset[str]

    def __repr__(self) -> str:
        origin = vars(self).get(MADE_FROM, type(self).__name__)
        return f"<{origin}; in environment {self._ask_remote().environment.spec.name}>"

    def _check_derivatives(self, method: str, *given: Any) -> None:
        """Raises ``PluginError`` where a derivative of a method that runs in the worker would be lost."""
        if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves_of(given)):
            raise PluginError(
                f"{self!r} gives no derivatives of {method!r}", hint="install its plugin in this environment"
            )

    def __reduce__(self) -> NoReturn:
        raise PluginError(
            f"{self!r} can't be sent to another process: it is in one of its own", hint="runtime: {workers: 1}"
        )


def remote_attribute(name: str) -> property:
    """A property that asks the worker for an attribute of the object."""

    def get(self: Any) -> Any:
        found = self._ask_remote().get([name])
        if name not in found:
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        return found[name]

    return property(get)


class IsolatedSource(Proxy, DataSource):
    """A data source in a worker. Its points cross once, all splits together, when they are first asked for."""

    def _points(self) -> dict[str, Any]:
        found: dict[str, Any] | None = vars(self).get("_fetched")
        if found is None:
            found = vars(self)["_fetched"] = self._ask_remote().points()
        return found

    def load(self, split: str) -> Dataset:
        """The points of a split, as the source in the worker gives them."""
        source: DataSource = self._points()["source"]
        if split in source._splits:  # type: ignore[attr-defined]
            return source.load(split)
        # The source's own words say why there is none.
        found: Dataset = self._ask_remote().call("load", split)
        return found

    def fingerprint(self) -> str | None:
        """The digest of the files that are read, asked for anew each time; None where the class has none to give."""
        if "fingerprint" not in self._overrides:
            return None
        found: str | None = self._ask_remote().call("fingerprint")
        return found

    def data_warnings(self) -> tuple[str, ...]:
        """The warnings of the data."""
        return tuple(self._points()["source"].data_warnings())

    def summary(self) -> DataSummary:
        """Summary of the data from the source in the worker."""
        found: DataSummary = self._points()["summary"]
        return found


def _of_points(name: str) -> property:
    return property(lambda self: getattr(self._points()["source"], name))


for _name in ("event_shape", "event_scale", "condition_spec", "label_names", "rows"):
    setattr(IsolatedSource, _name, _of_points(_name))


class IsolatedEstimator(Proxy, Estimator):
    """An estimator in a worker: each estimate is one message."""

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The estimate from data (N, *E), made in the worker."""
        return self._estimate("estimate", data, generator)

    def point_estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The estimate without its interval, made in the worker."""
        return self._estimate("point_estimate", data, generator)

    def _estimate(self, method: str, data: Tensor | Dataset, generator: torch.Generator | None) -> Estimate:
        found = self._ask_remote().call(method, data, generator=generator)
        # Whoever called knows what to say of an answer that is no estimate.
        return found  # type: ignore[no-any-return]


for _name in ("reads_neighbours", "event_shape", "event_scale"):
    setattr(IsolatedEstimator, _name, remote_attribute(_name))


class IsolatedGeometry(Proxy, Geometry):
    """A geometry in a worker."""

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of points."""
        if "_shape" not in vars(self):
            vars(self)["_shape"] = tuple(self._ask_remote().get(["event_shape"])["event_shape"])
        found: tuple[int, ...] = vars(self)["_shape"]
        return found

    def metric(self, x: Tensor) -> Tensor:
        """The metric at x (B, *E), computed in the worker: (B, D, D)."""
        size = math.prod(x.shape[1:])
        return self._there("metric", (len(x), size, size), x)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """The end of the geodesic from x with velocity v, computed in the worker: (B, *E)."""
        return self._there("exp", (max(len(x), len(v)), *x.shape[1:]), x, v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity at x of the geodesic to y, computed in the worker: (B, *E)."""
        return self._there("log", (max(len(x), len(y)), *x.shape[1:]), x, y)

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """Inner products of v and w at x: (B,)."""
        return self._own("inner", (max(len(x), len(v), len(w)),), x, v, w)

    def norm(self, x: Tensor, v: Tensor) -> Tensor:
        """Lengths of v at x: (B,)."""
        return self._own("norm", (max(len(x), len(v)),), x, v)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances of x and y: (B,)."""
        return self._own("distance", (max(len(x), len(y)),), x, y)

    def distance_matrix(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Distances of all x to all y: (B, C)."""
        return self._own("distance_matrix", (len(x), len(x if y is None else y)), x, y)

    def geodesic(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """Points of geodesics at times s (T,): (B, T, *E)."""
        return self._own("geodesic", (max(len(x), len(y)), len(s), *x.shape[1:]), x, y, s)

    def mean(self, points: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean of points (N, *E)."""
        return self._own("mean", points.shape[1:], points, weights)

    def diagnose(self, points: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        """Numbers about answers for points, and warnings."""
        if "diagnose" not in self._overrides:
            return super().diagnose(points)
        found: tuple[Mapping[str, float], Sequence[str]] = self._ask_remote().call("diagnose", points)
        return found

    def _own(self, method: str, shape: Sequence[int], *given: Tensor | None) -> Tensor:
        """The answer of a method that the plugin may have itself; core's where it has none."""
        if method in self._overrides:
            return self._there(method, shape, *given)
        found: Tensor = getattr(super(), method)(*given)
        return found

    def _there(self, method: str, shape: Sequence[int], *given: Tensor | None) -> Tensor:
        """The answer of the worker. Raises ``PluginError`` where a derivative of it would be lost, and for an answer of
        another shape."""
        self._check_derivatives(method, *given)
        found = self._ask_remote().call(method, *given)
        if not isinstance(found, Tensor) or tuple(found.shape) != tuple(shape):
            said = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise PluginError(f"{self!r} answered {method!r} with {said}; expected {tuple(shape)}")
        like = next(each for each in given if each is not None)
        return found.to(like.device)
