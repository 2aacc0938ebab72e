"""Score models and flows in another process: evaluated, differentiated once and sampled."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Condition, Dataset
from scorefold.errors import PluginError
from scorefold.interfaces import Flow, ScoreModel
from scorefold.plugin import CORE_CAPABILITIES
from scorefold_registry.plugins.environments.objects import Many, mode_of
from scorefold_registry.plugins.environments.proxies import IsolatedSource, Proxy, Remote, fact, proxy_class, whole
from scorefold_registry.plugins.environments.wire import leaves_of, with_leaves

Ask = Callable[..., Many]


class _Map(torch.autograd.Function):
    """A map of rows in a worker, whose first derivatives in both modes, and batched, are one message each.

    With a mode, the products of its Jacobian with ``count`` cotangents (``vjp``) or tangents (``jvp``). They are linear
    in these vectors, so a backward pass to the vectors is such a product too. One to the leaves has second derivatives
    of the map, and is refused.
    """

    @staticmethod
    def forward(ask: Ask, mode: str, wanted: Sequence[bool], count: int, *tensors: Tensor) -> Many:
        return ask(tensors[count:], mode, wanted, tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Many) -> None:
        ctx.asked = inputs[:4]
        ctx.save_for_backward(*inputs[4:])
        ctx.save_for_forward(*inputs[4:])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        ask, mode, wanted, count = ctx.asked
        leaves = ctx.needs_input_grad[4 + count :]
        if mode and any(leaves):
            _refuse_second()
        other, asked = ("jvp", wanted) if mode == "vjp" else ("vjp", wanted if mode else leaves)
        found = iter(_mapped(ask, other, asked, len(cotangents), *cotangents, *ctx.saved_tensors[count:]))
        if mode:
            return (*[None] * 4, *found, *[None] * len(leaves))
        return (*[None] * 4, *(next(found) if each else None for each in leaves))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Many:
        if ctx.asked[1]:
            _refuse_second()
        wanted = tuple(each is not None for each in tangents[4:])
        given = [each for each in tangents[4:] if each is not None]
        return _mapped(ctx.asked[0], "jvp", wanted, len(given), *given, *ctx.saved_tensors)

    @staticmethod
    def vmap(
        info: Any, dims: Sequence[int | None], ask: Ask, mode: str, wanted: Sequence[bool], count: int, *tensors: Tensor
    ) -> Any:
        folded, rows = _folded(info.batch_size, dims[4:], tensors)
        found = [each.unflatten(0, (info.batch_size, rows)) for each in _mapped(ask, mode, wanted, count, *folded)]
        if mode == "vjp":  # a leaf of one row was given to all rows
            leaves = zip(tensors[count:], dims[4 + count :], strict=True)
            sizes = [_size(*pair) for pair, each in zip(leaves, wanted, strict=True) if each]
            found = [
                each.sum(1, keepdim=True) if size < rows else each for each, size in zip(found, sizes, strict=True)
            ]
        return tuple(found), (0,) * len(found)


def _refuse_second() -> NoReturn:
    raise PluginError(
        "second derivatives of a model in an environment of its own are not available",
        hint="install its plugin in this environment",
    )


_mapped: Callable[..., Many] = _Map.apply


def _size(tensor: Tensor, dim: int | None) -> int:
    """Rows of a tensor, apart from the dimension that is mapped over."""
    return len(tensor) if dim is None else tensor.movedim(dim, 0).shape[1]


def _folded(count: int, dims: Sequence[int | None], tensors: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """Tensors whose mapped dimension is part of their rows, and the number of rows that each had."""
    rows = max(_size(tensor, dim) for tensor, dim in zip(tensors, dims, strict=True))
    found = []
    for tensor, dim in zip(tensors, dims, strict=True):
        each = tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        found.append(each.expand(count, rows, *each.shape[2:]).reshape(count * rows, *each.shape[2:]))
    return found, rows


class _Model(Proxy, nn.Module):
    """The common part of score models and flows. They have no parameters: these are in the other process."""

    _place: Tensor
    _split: bool
    _names: ClassVar[tuple[str, ...]] = ("event_shape", "condition_spec", "event_scale", "remarks")

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_place", torch.empty(()), persistent=False)
        self._split = False

    def _here(self, value: Any) -> Any:
        if isinstance(value, nn.Module):
            return value.to(self._place)  # type: ignore[call-overload]
        return value.to(self._place.device) if isinstance(value, Tensor) else value

    def _apply(self, *given: Any, **named: Any) -> Any:
        vars(self).pop("_fetched", None)
        return super()._apply(*given, **named)  # type: ignore[no-untyped-call]

    def _rows(self, method: str, *given: Any, name: Callable[[], str] | None = None) -> Any:
        """The answer of a map of rows, which can be differentiated once."""

        def ask(leaves: Sequence[Tensor], mode: str, wanted: Sequence[bool], vectors: Sequence[Tensor]) -> Many:
            values: dict[str, Any] = {"given": with_leaves(given, list(leaves)), "vectors": list(vectors)}
            values |= {"method": method, "mode": mode_of(self), "derivative": mode, "wanted": list(wanted)}
            values["split"] = self._split
            found = self._ask_remote().ask("rows", **values, **({} if name is None else {"name": name()}))
            if mode == "vjp":
                shapes = [tuple(leaf.shape) for leaf, each in zip(leaves, wanted, strict=True) if each]
            else:
                rows = max(map(len, leaves))
                shapes = [(rows, *leaves[0].shape[1:]), (rows,)]
                shapes = shapes[1:] if method.endswith("log_prob") else shapes[: 2 if isinstance(self, Flow) else 1]
            self._check_shapes(method, found if isinstance(found, tuple) else (found,), shapes)
            if other := [each.dtype for each in found if each.dtype != self._place.dtype]:
                raise PluginError(f"{self!r} answered {method!r} in {other[0]}; expected {self._place.dtype}")
            return tuple(map(self._here, found))

        found = _mapped(ask, "", (), 0, *leaves_of(given))
        return found[0] if len(found) == 1 else found

    def _whole(self, method: str, *given: Any, **named: Any) -> Any:
        values = {"method": method, "given": list(given), "named": named, "mode": mode_of(self)}
        found = self._ask_remote().ask("call", **values)
        if found["points"]:
            self._evaluated(torch.empty(found["points"], 0))
        return self._here(found["answer"])

    def _evaluated(self, x: Tensor) -> None:
        """Counts events at which the model was evaluated there: ``evaluations`` counts the rows of x (B, 0)."""

    call_rows = whole("call_rows", ScoreModel.call_rows)

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
        """The tensors that a training or a saved state has given the model; nothing for one as it was made."""
        return dict(self._ask_remote().state or {})

    def load_state_dict(self, state_dict: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        """Has the worker put tensors into the model, when it is next called."""
        if state_dict:
            self._ask_remote().put_state({name: tensor.detach().cpu() for name, tensor in state_dict.items()})
            vars(self).pop("_fetched", None)
        return [], []

    def weights(self) -> tuple[dict[str, Tensor], list[str]]:
        """The model's tensors as they are in the other process, and the names of those that a training changes."""
        found = self._ask_remote().ask("weights", mode=mode_of(self))
        return found["tensors"], found["trained"]

    @property
    def training_config(self) -> TrainingConfig:
        """The settings of the training."""
        text = self._ask_remote().call("training_config.model_dump_json")
        return TrainingConfig.model_validate_json(text)

    def phases(self) -> tuple[()]:
        """No phases: the training is done in the worker, and not divided here."""
        return ()

    def train_in_worker(
        self, target: str, train: Dataset, config: TrainingConfig, *, metrics: Any = None, **settings: Any
    ) -> dict[str, Any]:
        """Trains the model by the function ``target`` in the worker, and takes its weights over; its report as JSON.

        ``settings`` are named arguments of the function, and ``metrics`` gets numbers on the way. A training that was
        interrupted goes on from its checkpoint where it is asked for again.
        """
        remote, folder = self._ask_remote(), settings.pop("checkpoint_dir", None)
        if folder is not None:
            remote.environment.let_write(Path(folder).absolute())
        values: dict[str, Any] = {
            "config": config.model_dump_json(),
            "checkpoint_dir": None if folder is None else str(folder),
        }
        values |= {"method": "fit", "mode": mode_of(self), "target": target, "train": train, "settings": settings}
        found = remote.ask("fit", metrics=metrics, **values)
        remote.state = found["state"]
        vars(self).pop("_fetched", None)
        self.eval()
        said: dict[str, Any] = json.loads(found["report"].numpy().tobytes())
        return said


def _map(interface: type, name: str) -> Any:
    """A method that is a map of rows."""
    function = getattr(interface, name)
    signature = inspect.signature(function)

    def call(self: Any, *given: Any, **named: Any) -> Any:
        return self._rows(name, *signature.bind(self, *given, **named).args[1:])

    call.__name__, call.__doc__ = name, function.__doc__
    return call


class IsolatedScore(_Model, ScoreModel):
    """A score model in another process."""

    evaluating: ClassVar[tuple[str, ...]] = (*ScoreModel.evaluating, "_evaluated")  # type: ignore[assignment]
    _names: ClassVar[tuple[str, ...]] = (*_Model._names, "divergence_mode", "process")
    score, noise, denoise = (_map(ScoreModel, name) for name in ScoreModel.evaluating)

    def in_calls(self, score: Any, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """``score(x, t, condition)`` in one message, which the worker does in calls of a bounded size."""
        if getattr(score, "__self__", None) is not self:
            return super().in_calls(score, x, t, condition)
        self._split = True
        try:
            return score(x, t, condition)  # type: ignore[no-any-return]
        finally:
            self._split = False

    def bind(self, condition: Condition | None = None, *, generator: Any = None, **options: Any) -> Any:
        """The score with its condition fixed; one that the plugin binds in its own way is bound there."""
        if "bind" not in self._overrides:
            return super().bind(condition, generator=generator, **options)
        remote, kept = self._ask_remote(), None if generator is None else generator.clone_state()
        found = _Bound(remote, {"condition": condition, "generator": generator, **options}, mode_of(self))
        found.name()
        found.named["generator"] = kept  # a worker that takes over draws the same numbers
        return lambda x, t: self._rows("", x, t, name=found.name)

    def sample(self, n: int, condition: Any = None, *, sampler: Any = None, **options: Any) -> Tensor:
        """Samples drawn in the worker; by a loop here where ``sampler`` is a function."""
        if sampler is not None and not isinstance(sampler, str):
            return super().sample(n, condition, sampler=sampler, **options)
        return self._verb("sample", n, condition, sampler=sampler, **options)  # type: ignore[no-any-return]

    def log_prob(self, x: Tensor, condition: Any = None, **options: Any) -> Tensor:
        """The log-density at x (B, *E) in nats, computed in the worker: (B,)."""
        return self._verb("log_prob", x.detach(), condition, **options)  # type: ignore[no-any-return]


class _Bound:
    """A bound score in a worker, bound again where another worker has taken over."""

    def __init__(self, remote: Remote, named: dict[str, Any], mode: tuple[str, bool]) -> None:
        self.named, self._remote, self._mode = named, remote, mode
        self._name: str = remote.environment.next_name(self)
        self._made_in: Any = None

    def name(self) -> str:
        """The name of the function in the worker that runs."""
        session = self._remote.environment.session()
        if self._made_in is not session:
            values = {"method": "bind", "given": [], "named": self.named, "mode": self._mode}
            self._remote.ask("call", **values, keep=self._name)
            self._made_in = session
        return self._name


class _Base:
    """The base distribution of a flow in another process."""

    def __init__(self, flow: IsolatedFlow) -> None:
        self._flow = flow

    @property
    def centre(self) -> Any:
        return self._flow._fact("base.centre")

    def log_prob(self, z: Tensor) -> Tensor:
        return self._flow._rows("base.log_prob", z)  # type: ignore[no-any-return]

    def sample(self, shape: Any, *, generator: Any, like: Tensor) -> Tensor:
        return self._flow._verb("base.sample", tuple(shape), generator=generator, like=like)  # type: ignore[no-any-return]


class IsolatedFlow(_Model, Flow):
    """A flow in another process."""

    evaluating: ClassVar[tuple[str, ...]] = (*Flow.evaluating, "_evaluated")  # type: ignore[assignment]
    _names: ClassVar[tuple[str, ...]] = (*_Model._names, "latent_shapes")
    forward, inverse = (_map(Flow, name) for name in Flow.evaluating)
    base = property(_Base)  # type: ignore[assignment]
    sample, invert_draws, condition_log_prob = (
        whole(name, getattr(Flow, name)) for name in ("sample", "invert_draws", "condition_log_prob")
    )

    def log_prob(self, x: Tensor, condition: Any = None, generator: Any = None) -> Tensor:
        """The log-density at x (B, *E) in nats, computed in the worker: (B,)."""
        if generator is not None or not (torch.is_grad_enabled() and x.requires_grad):
            return self._verb("log_prob", x, condition, generator)  # type: ignore[no-any-return]
        return self._rows("log_prob", x, condition)  # type: ignore[no-any-return]


for _class in (IsolatedScore, IsolatedFlow):
    for _name in _class._names:
        setattr(_class, _name, fact(_name))


_BASES: dict[str, type] = {"data": IsolatedSource, "score": IsolatedScore, "flow": IsolatedFlow}


def proxy_of(remote: Remote, kind: str, interfaces: Iterable[type], overrides: Iterable[str]) -> Any:
    """A proxy of an object, of the interfaces of its kind and its capabilities. ``remote`` asks the object."""
    proxy = proxy_class(_BASES.get(kind, Proxy), tuple(dict.fromkeys(interfaces)))()
    proxy._ask_remote = lambda: remote
    proxy._overrides = frozenset(overrides)
    return proxy


CORE_INTERFACES: dict[str, type] = {item.name: resolve_name(item.interface) for item in CORE_CAPABILITIES}
"""The classes of core's capabilities, by their names."""
