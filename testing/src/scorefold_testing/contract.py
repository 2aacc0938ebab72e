"""Checks, their subjects and results, and failures: the found and the expected value, or the gap and the tolerance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from scorefold.data import Dataset
from scorefold.plugin import CORE_KINDS, Component
from scorefold.seeds import derive_generator, derive_seed


class ViolationError(AssertionError):
    """A check does not hold; the message says what was measured and what was allowed."""


class NotApplicableError(Exception):
    """A check says nothing about this component; the message says why."""


def require(holds: bool, found: str, expected: str) -> None:
    """Raises ``ViolationError`` with what was found and what was expected unless something holds."""
    if not holds:
        raise ViolationError(f"{found}; expected {expected}")


def require_within(what: str, gap: float, tolerance: float) -> str:
    """The gap as text; raises ``ViolationError`` unless it is a number up to the tolerance."""
    text = f"{what}: gap {gap:.2e}, tolerance {tolerance:.0e}"
    if not gap <= tolerance:
        raise ViolationError(text)
    return text


def require_shape(what: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raises ``ViolationError`` unless a value is a tensor of a shape."""
    require(isinstance(value, Tensor), f"{what} is a {type(value).__name__}", "a tensor")
    require(tuple(value.shape) == tuple(shape), f"{what} has shape {tuple(value.shape)}", str(tuple(shape)))


def require_close(what: str, got: Tensor, expected: Tensor, tolerance: float) -> str:
    """The gap max |got - expected| / (1 + max |expected|) as text; raises ``ViolationError`` above the tolerance."""
    require_shape(what, got, tuple(expected.shape))
    if expected.numel() == 0:
        return f"{what}: empty"
    got, expected = got.detach().double(), expected.detach().double()
    return require_within(what, float((got - expected).abs().max() / (1 + expected.abs().max())), tolerance)


def require_same(what: str, got: Tensor, expected: Tensor) -> None:
    """Raises ``ViolationError`` with the gap unless two tensors are equal to the last bit (NaN to NaN)."""
    require_shape(what, got, tuple(expected.shape))
    if got.dtype == expected.dtype and bool(((got == expected) | (got.isnan() & expected.isnan())).all()):
        return
    gap = float((got.double() - expected.double()).abs().nan_to_num(nan=float("inf")).max())
    differs = "differs" if got.dtype == expected.dtype else f"is {got.dtype} and not {expected.dtype}"
    raise ViolationError(f"{what} {differs}: gap {gap:.2e}, tolerance 0")


def require_refusal(what: str, errors: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any]) -> str:
    """The message with which a call was refused; raises ``ViolationError`` where it wasn't, or by another error."""
    names = " or ".join(error.__name__ for error in (errors if isinstance(errors, tuple) else (errors,)))
    names = "an error" if errors is Exception else names
    try:
        call()
    except errors as error:
        return str(error).partition("\n")[0]
    except (Exception, SystemExit) as error:
        raise ViolationError(f"{what} ended in {type(error).__name__}: {error}; expected {names}") from error
    raise ViolationError(f"{what} was accepted; expected {names}")


PASSED, FAILED, SKIPPED, EXPECTED = "passed", "failed", "skipped", "expected-failure"
VERB = "verb"
"""The kind under which a verb is checked; see ``scorefold_testing.verb``."""
OBSERVER = "observer"
"""The kind under which a plugin's hooks around runs are checked; see ``scorefold_testing.observer``."""
KIND = "kind"
"""The kind under which a kind of a plugin's own is checked; see ``scorefold_testing.verb``."""
PSEUDO = (VERB, OBSERVER, KIND)
CORE = tuple(kind.name for kind in CORE_KINDS)
OWN = "own"
"""The word for every kind that a plugin brings, in what a check is of."""
UNDIFFERENTIATED = ("score", "flow", "network", "data", "allocator")
"""The kinds whose components answer without gradients. Components of other kinds may differentiate inside."""

LEVELS = ("contract", "numerics", "determinism", "device", "artefact", "laziness", "documentation")
"""Levels of checks; each check has one level."""


class Host(Protocol):
    """Host for the kit, which makes, saves and loads components by name. The registry's ``Host`` is one.

    >>> from scorefold_registry import Host as Registry
    >>> host: Host = Registry.discover()
    >>> "estimator:mle" in [item.id for item in host.components()]
    True
    """

    def interface(self, kind: str) -> type:
        """The class that components of a kind derive from."""

    def capabilities(self) -> Mapping[str, type]:
        """The classes that components with each capability derive from, by its name."""

    def create(
        self,
        name: str,
        config: Any = None,
        *,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **ports: Any,
    ) -> Any:
        """A component, built from its config and its ports (objects or inline components)."""

    def save(self, obj: Any, path: Path | str, bundle: bool = False) -> None:
        """The state of an object in a folder, with its ports' states where ``bundle`` is set."""

    def load(self, path: Path | str, device: Any = None) -> Any:
        """The object whose state a folder holds."""

    def components(self, kind: str | None = None) -> Iterable[Any]:
        """Installed components: each item has ``component``, and may have ``record.value``, the module that declares
        it.
        """


@dataclass(frozen=True)
class CheckResult:
    """A check tried on a component: ``result`` is passed, failed, skipped or expected-failure, ``detail`` why.

    ``check`` is the check's name, with ``[N]`` after it for an example other than the first, ``level`` the check's own.

    >>> print(CheckResult("estimator:rank", "interval-holds-value", "numerics", "failed", "2.5 is above 2.4"))
    estimator:rank interval-holds-value: 2.5 is above 2.4
    """

    component: str
    check: str
    level: str
    result: str
    detail: str

    def __str__(self) -> str:
        return f"{self.component} {self.check}: {self.detail}"

    def as_json(self) -> dict[str, str]:
        """The entry of ``plugins check --json``."""
        return asdict(self)


@dataclass(frozen=True)
class Subject:
    """A component with one of its examples, as a check sees it.

    ``name`` is what the host resolves; ``seed`` the check's own seed, derived from the root seed, the component, the
    example and the check; ``plugin`` the module its declaration stands in, where that is known; ``origin`` is
    ``module:function`` giving a host in another process, or None where checks on fresh processes can't be tried;
    ``accelerator`` is the device that checks of accelerators use, None for this machine's accelerator.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> mle = host.catalogue.resolve("estimator:mle").component
    >>> subject = Subject(mle, host, "estimator:mle", example={"config": {"n_neighbors": 5}})
    >>> subject.build().config.n_neighbors
    5
    """

    component: Component
    host: Host
    name: str
    example: Mapping[str, Any]
    seed: int = 0
    plugin: str | None = None
    origin: str | None = None
    accelerator: str | None = None

    def generator(self, purpose: str = "") -> torch.Generator:
        """A generator for one purpose, the same at every call."""
        return derive_generator(self.seed, purpose)

    def normal(self, *shape: int, purpose: str = "normal", dtype: torch.dtype = torch.float64) -> Tensor:
        """Standard normal draws of a shape, the same at every call for a purpose."""
        return torch.randn(shape, generator=self.generator(purpose), dtype=torch.float64).to(dtype)

    def build(
        self,
        *,
        dtype: torch.dtype | None = torch.float64,
        device: str | None = None,
        config: Mapping[str, Any] | None = None,
        ports: Mapping[str, Any] | None = None,
    ) -> Any:
        """The example built, in float64; ``config`` adds to the example's, ``ports`` replace ports of it."""
        settings = {**self.example.get("config", {}), **(config or {})}
        plugged = {**self.example.get("inputs", {}), **(ports or {})}
        generator = self.generator("build")
        return self.host.create(self.name, settings, generator=generator, device=device, dtype=dtype, **plugged)

    def stirred(self, **options: Any) -> Any:
        """The example built, in evaluation mode and with its trained parameters moved off their start.

        A start is often special (an identity, an output of 0), and checks that hold there only would be worth little.
        """
        obj = self.build(**options)
        if isinstance(obj, nn.Module):
            stir(obj, self.generator("stir"))
            obj.eval()
        return obj

    def data(self) -> Dataset | None:
        """The training split of the first data source in the example's ports, at any depth; None without one."""
        ports = {port.name: port.default for port in self.component.requires if port.default is not None}
        use = _first_data({**ports, **self.example.get("inputs", {})})
        if use is None:
            return None
        source = self.host.create(use["use"], use.get("config"), **use.get("inputs", {}))
        found: Dataset = source.load("train")
        return found

    def points(self, rows: int, shape: tuple[int, ...], scale: Any = None) -> Tensor:
        """Events (rows, *shape) in float64: of the example's data where there are any, else normal draws."""
        data = self.data()
        if data is not None and data.event_shape == shape and len(data) >= rows:
            return data.tensor(rows).double()
        draws = self.normal(rows, *shape, purpose="points")
        return draws if scale is None else scale.mean + scale.std * draws

    @property
    def target(self) -> Any:
        """The class that the component names."""
        return resolve(self.component.target)

    @property
    def config_model(self) -> Any:
        """The config model that the component names."""
        return resolve(self.component.config)


@dataclass(frozen=True)
class Check:
    """A check by name, of some kinds (none named: all) and of components with a capability (none named: any).

    ``level`` is one of ``LEVELS``. ``run`` tries it on a subject: it returns what it measured, raises
    ``ViolationError`` where the check is broken and ``NotApplicableError`` where it has nothing to say. Checks that are
    tried ``once`` are about the declaration, the others about each example. Checks of all kinds are tried on verbs only
    with ``verbs``. Checks that differentiate have ``gradients``; the others run with gradients on or off.

    >>> check = Check("is-even", "contract", lambda subject: "", kinds=("estimator",))
    >>> check.name, check.capability, check.once
    ('is-even', None, False)
    """

    name: str
    level: str
    run: Callable[[Subject], str]
    kinds: tuple[str, ...] = ()
    capability: str | None = None
    once: bool = False
    verbs: bool = False
    gradients: bool = False

    def governs(self, component: Component) -> bool:
        """True if a component is under this check by its kind and what it says that it provides."""
        if component.kind in PSEUDO and (not self.kinds or OWN in self.kinds):
            return self.verbs and component.kind == VERB
        mine = component.kind in self.kinds or (component.kind not in CORE and OWN in self.kinds)
        if self.kinds and not mine:
            return False
        return self.capability is None or self.capability in component.provides

    def seed(self, root: int, component: Component, example: int) -> int:
        """The check's own seed."""
        return derive_seed(root, component.id, example, self.name)


def check(name: str, *kinds: str, level: str, **more: Any) -> Callable[[Callable[[Subject], str]], Check]:
    """Makes a function a check: ``@check("metric-spd", "geometry", level="numerics")``; ``more`` are its fields."""
    return lambda run: Check(name, level, run, kinds, **more)


def stir(module: nn.Module, generator: torch.Generator) -> None:
    """Moves every trained parameter by normal draws of standard deviation 0.1.

    A model in a process of its own, which has ``elsewhere``, gives its tensors and takes them back.
    """
    away: Any = module if getattr(module, "elsewhere", False) else None
    tensors, trained = ({}, []) if away is None else away.weights()
    parameters = [*module.parameters(), *(tensors[name].requires_grad_() for name in trained)]
    with torch.no_grad():
        for parameter in parameters:
            if parameter.requires_grad and parameter.is_floating_point():
                draws = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.1 * draws.to(parameter.dtype))
    if away is not None:
        away.load_state_dict(tensors)


def resolve(target: str) -> Any:
    """The object that ``module:Name`` names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _first_data(inputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for value in inputs.values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            use: Any = {"use": item} if isinstance(item, str) else item
            if not isinstance(use, Mapping):
                continue
            if str(use.get("use", "")).rpartition("/")[2].startswith("data:"):
                return dict(use)
            found = _first_data(use.get("inputs", {}))
            if found is not None:
                return found
    return None
