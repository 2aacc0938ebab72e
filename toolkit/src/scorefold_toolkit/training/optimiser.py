"""Optimisers over a component's parameter groups, the learning rate, gradient clipping and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from scorefold.config import PlateauConfig, TrainingConfig
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Phase, Trainable


class Optimiser:
    """Parameters in groups and their state, moved by a function of torch's.

    The classes of ``torch.optim`` import torch's compiler when they are made, which takes 1.3 CPU seconds. Their
    functions do not, and give equal weights to the bit. ``groups`` are parameters, or mappings with ``params`` and
    settings of their own; ``settings`` hold for all groups. ``fused`` asks for one kernel for all parameters, and
    is left out where torch has none for them. Raises ``ValueError`` for settings out of their range and for a parameter
    that is given twice.
    """

    defaults: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self, groups: Iterable[Tensor] | Sequence[dict[str, Any]], *, fused: bool = True, **settings: Any
    ) -> None:
        listed: list[Any] = list(groups)
        listed = [{"params": listed}] if listed and isinstance(listed[0], Tensor) else listed
        self.defaults = {**self.defaults, **settings}
        self.param_groups: list[dict[str, Any]] = [{**self.defaults, **group} for group in listed]
        self._state: dict[Tensor, dict[str, Tensor]] = {}
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        if len({id(parameter) for parameter in parameters}) < len(parameters):
            raise ValueError("some parameters appear in more than one parameter group, or twice in one")
        for group in self.param_groups:
            numbers = {name: group[name] for name in ("lr", "eps", "weight_decay", "momentum") if name in group}
            if min(numbers.values()) < 0 or not all(0 <= beta < 1 for beta in group.get("betas", ())):
                raise ValueError(f"settings out of their range: {numbers | {'betas': group.get('betas', ())}}")
        self._fused = fused and all(_fuses(self, kind) for kind in {(p.device, p.dtype) for p in parameters})

    def step(self) -> None:
        """Move all parameters that have a gradient."""
        with torch.no_grad():
            for group in self.param_groups:
                moved = [parameter for parameter in group["params"] if parameter.grad is not None]
                if moved:
                    self._move(group, moved, [parameter.grad for parameter in moved])

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter by name, empty before its first step."""
        return self._state.setdefault(parameter, {})

    def _move(self, group: Mapping[str, Any], moved: list[Tensor], slopes: list[Tensor]) -> None:
        raise NotImplementedError


class Adam(Optimiser):
    """Adam (Kingma and Ba 2015), as ``torch.optim.Adam``.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> optimiser = Adam([weight], lr=0.1)
    >>> weight.square().sum().backward()
    >>> optimiser.step()
    >>> weight.detach().round(decimals=3)
    tensor([0.9000, 0.9000])
    """

    defaults = MappingProxyType({"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False})
    _function: Callable[..., None] = staticmethod(adam)

    def _move(self, group: Mapping[str, Any], moved: list[Tensor], slopes: list[Tensor]) -> None:
        states = [self._begun(parameter, group["amsgrad"]) for parameter in moved]
        self._function(
            moved,
            slopes,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else [],
            [state["step"] for state in states],
            fused=self._fused or None,
            has_complex=any(parameter.is_complex() for parameter in moved),
            amsgrad=group["amsgrad"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _begun(self, parameter: Tensor, amsgrad: bool) -> dict[str, Tensor]:
        state = self.state_of(parameter)
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device if self._fused else "cpu")
            for name in ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if amsgrad else [])):
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as ``torch.optim.AdamW``.

    >>> AdamW([torch.ones(2, requires_grad=True)], weight_decay=0.1).param_groups[0]["weight_decay"]
    0.1
    """

    _function = staticmethod(adamw)


class SGD(Optimiser):
    """Gradient descent with momentum, as ``torch.optim.SGD``.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> optimiser = SGD([weight], lr=0.1)
    >>> weight.square().sum().backward()
    >>> optimiser.step()
    >>> weight.detach().round(decimals=3)
    tensor([0.8000, 0.8000])
    """

    defaults = MappingProxyType({"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False})

    def _move(self, group: Mapping[str, Any], moved: list[Tensor], slopes: list[Tensor]) -> None:
        buffers = [self.state_of(parameter).get("momentum_buffer") for parameter in moved]
        settings = {name: group[name] for name in SGD.defaults}
        sgd(moved, slopes, buffers, fused=self._fused or None, maximize=False, **settings)
        if group["momentum"]:
            for parameter, buffer in zip(moved, buffers, strict=True):
                if buffer is not None:
                    self.state_of(parameter)["momentum_buffer"] = buffer


def _fuses(optimiser: Optimiser, kind: tuple[torch.device, torch.dtype]) -> bool:
    """True if torch has a fused kernel for parameters on a device and in a dtype: it says so by an error."""
    optimiser._fused = True
    probe = torch.zeros(1, device=kind[0], dtype=kind[1])
    try:
        optimiser._move({**optimiser.defaults, "lr": 0.0}, [probe], [probe.clone()])
    except RuntimeError:
        return False
    finally:
        optimiser._state.pop(probe, None)
    return True


_OPTIMISERS: Mapping[str, type[Optimiser]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}


def trained_groups(model: Trainable, phase: Phase) -> list[dict[str, Any]]:
    """The component's parameter groups for a phase, without what it has frozen and without empty groups.

    Raises ``TrainingError`` for a group without ``params`` and for a parameter that is not the model's own, which no
    checkpoint would hold.
    """
    assert isinstance(model, nn.Module)
    own = {id(parameter) for parameter in model.parameters()}
    groups = []
    for group in model.parameter_groups(phase):
        if "params" not in group:
            raise TrainingError(
                f"a parameter group of phase {phase.name!r} has no 'params' (it has {', '.join(group)})"
            )
        given = [group["params"]] if isinstance(group["params"], Tensor) else group["params"]
        parameters = [parameter for parameter in given if parameter.requires_grad]
        if any(id(parameter) not in own for parameter in parameters):
            raise TrainingError(
                f"a parameter group of phase {phase.name!r} holds a parameter that {type(model).__name__} does not own",
                hint="make the module it comes from a submodule of the component",
            )
        if parameters:
            groups.append({**group, "params": parameters})
    return groups


def build_optimiser(groups: Sequence[dict[str, Any]], config: TrainingConfig, *, scaled: bool = False) -> Any:
    """The optimiser of ``config`` over parameter groups, each of which may set its own ``lr`` and other settings.

    SGD has momentum 0.9 unless a group says otherwise. Losses that are ``scaled`` for float16 get the class of
    ``torch.optim``, which leaves out steps without a word from the device. Raises ``TrainingError`` for a setting that
    it does not know and for a parameter in two groups.
    """
    kind = _OPTIMISERS[config.optimiser]
    settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimiser == "sgd":
        settings["momentum"] = 0.9
    else:
        settings["betas"] = config.betas
    # torch has no fused SGD of weights that several processes divide.
    divided = any(hasattr(parameter, "to_local") for group in groups for parameter in group["params"])
    unknown = {name for group in groups for name in group} - {*kind.defaults, "params", "name"}
    if unknown:
        raise TrainingError(
            f"a parameter group sets {', '.join(sorted(unknown))}, which {kind.__name__} does not have",
            hint=f"it has {', '.join(sorted(kind.defaults))}",
        )
    made: Callable[..., Any] = getattr(torch.optim, kind.__name__) if scaled else kind
    try:
        return made(groups, **settings, fused=not (divided and config.optimiser == "sgd"))
    except ValueError as error:
        raise TrainingError(f"the parameter groups can't be optimised: {error}") from error


def set_learning_rate(optimiser: Any, peaks: Sequence[float], factor: float) -> None:
    """Sets every group's learning rate to ``factor`` times its peak."""
    for group, peak in zip(optimiser.param_groups, peaks, strict=True):
        group["lr"] = peak * factor


def clip_gradients(
    parameters: Sequence[nn.Parameter], limit: float, total: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Scales all gradients so that their joint Euclidean norm is at most ``limit``; no value leaves the device.

    ``total`` sums over processes that have a part of each gradient.
    """
    gradients = here([parameter.grad for parameter in parameters if parameter.grad is not None])
    if not gradients:
        return
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if total is not None:
        norm = total(norm.square()).sqrt()
    torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp_(max=1.0))


def here(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The memory of tensors in this process: of those that several processes divide, its part."""
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]


def optimiser_tensors(optimiser: Any) -> dict[str, Tensor]:
    """The optimiser's state as tensors named ``<parameter>.<entry>``. The schedule sets the learning rates anew."""
    return {
        f"{position}.{name}": value
        for position, parameter in enumerate(_parameters(optimiser))
        for name, value in _state(optimiser, parameter).items()
        if isinstance(value, Tensor)
    }


def load_optimiser(optimiser: Any, tensors: Mapping[str, Tensor]) -> None:
    """Goes on from the tensors of ``optimiser_tensors``, which are on the devices of their parameters."""
    parameters = _parameters(optimiser)
    for key, value in tensors.items():
        position, name = key.split(".", 1)
        _state(optimiser, parameters[int(position)])[name] = value


def _parameters(optimiser: Any) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _state(optimiser: Any, parameter: Tensor) -> dict[str, Tensor]:
    """The state of a parameter, in an optimiser of ours or of torch's."""
    return optimiser.state_of(parameter) if isinstance(optimiser, Optimiser) else optimiser.state[parameter]


class AveragedWeights:
    """The moving average of some parameters: average <- decay average + (1 - decay) parameter after every step.

    The decay starts at 1/10 and rises to ``decay`` as (1 + step) / (10 + step), so that a short run isn't held to where
    it started. ``averages`` are in the order of the parameters, on their devices and in their dtypes.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._weights = [parameter.detach() for parameter in parameters]
        self.averages = [weight.clone() for weight in self._weights]

    def update(self, step: int) -> None:
        """Takes in the parameters as they stand after ``step``, counting from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(here(self.averages), here(self._weights), 1 - decay)

    def load(self, averages: Sequence[Tensor]) -> None:
        """Goes on from averages that were saved."""
        torch._foreach_copy_(here(self.averages), here(averages))

    def apply(self) -> None:
        """Puts the averages in the place of the parameters."""
        torch._foreach_copy_(here(self._weights), here(self.averages))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in the place of the parameters, for a while."""
        kept = [weight.clone() for weight in here(self._weights)]
        self.apply()
        try:
            yield
        finally:
            torch._foreach_copy_(here(self._weights), kept)


def warmup_steps(total: int, warmup: int) -> int:
    """The length of the warm-up: as asked for, but at most half of the phase, so that a short run still learns."""
    return min(warmup, total // 2)


def learning_rate_factor(step: int, total: int, warmup: int, schedule: str, drops: Sequence[int] = ()) -> float:
    """The factor in (0, 1] on every group's peak learning rate at ``step`` of ``total``, counting from 0.

    Rises linearly to 1 over the warm-up. After it, ``cosine`` falls as (1 + cos(pi u)) / 2 with u the part of the rest
    that is done (Loshchilov and Hutter 2017, eq. 5, without restarts); ``constant`` stays at 1. From each step of
    ``drops`` on it is a tenth of that.
    """
    dropped = 0.1 ** sum(step >= drop for drop in drops)
    rise = warmup_steps(total, warmup)
    if step < rise:
        return dropped * (step + 1) / rise
    if schedule == "constant":
        return dropped
    return dropped * (1 + math.cos(math.pi * (step - rise) / (total - rise))) / 2


class Plateau:
    """Learning rates that fall together where a loss has stopped falling, as by torch's ``ReduceLROnPlateau``.

    A loss is a gain where it is below the best one by ``gain`` times that one's absolute value: for losses above 0 as
    in torch, which would call a slightly higher loss a gain where losses are below 0. ``drops`` counts the falls.

    >>> plateau = Plateau(PlateauConfig(factor=0.5, patience=1, least=0.2), [1.0])
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):
    ...     plateau.take(loss)
    >>> plateau.rates, plateau.drops
    ([0.2], 3)
    """

    def __init__(self, config: PlateauConfig, rates: Sequence[float]) -> None:
        # A copy of the rates: the warm-up changes the optimiser's rates, and its changes must not count as falls.
        self.rates = list(rates)
        self.drops = 0
        self._config, self._best, self._since = config, math.inf, 0

    def take(self, loss: float) -> None:
        """Takes in a loss; one that is not finite is no gain."""
        least = self._best - self._config.gain * abs(self._best) if math.isfinite(self._best) else self._best
        gained = math.isfinite(loss) and loss < least
        self._best, self._since = (loss, 0) if gained else (self._best, self._since + 1)
        if self._since > self._config.patience:
            before, self._since = self.rates, 0
            self.rates = [
                max(rate * self._config.factor, self._config.least) if rate > self._config.least else rate
                for rate in before
            ]
            self.drops += self.rates != before

    def facts(self) -> dict[str, Any]:
        """The state for a checkpoint, as JSON."""
        return {"best": self._best, "since": self._since, "rates": list(self.rates), "drops": self.drops}

    def load(self, facts: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._best, self._since = float(facts["best"]), facts["since"]
        self.rates, self.drops = list(facts["rates"]), facts["drops"]
