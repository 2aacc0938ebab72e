"""Optimisers over a component's parameter groups, the learning rate, gradient clipping and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from scorefold.config import PlateauConfig, TrainingConfig
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Phase, Trainable

_OPTIMISERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


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


def build_optimiser(groups: Sequence[dict[str, Any]], config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser of ``config`` over parameter groups, each of which may set its own ``lr`` and other settings.

    SGD has momentum 0.9 unless a group says otherwise. Raises ``TrainingError`` for a setting that it does not know and
    for a parameter in two groups.
    """
    kind = _OPTIMISERS[config.optimiser]
    settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimiser == "sgd":
        settings["momentum"] = 0.9
    else:
        settings["betas"] = config.betas
    # torch has no fused SGD of weights that several processes divide.
    divided = any(hasattr(parameter, "to_local") for group in groups for parameter in group["params"])
    try:
        try:
            optimiser = kind(groups, **settings, fused=not (divided and config.optimiser == "sgd"))
        except RuntimeError:
            # Fused kernels serve floating-point parameters on some devices only; torch says so by this error.
            optimiser = kind(groups, **settings)
    except ValueError as error:
        raise TrainingError(f"the parameter groups can't be optimised: {error}") from error
    unknown = {name for group in groups for name in group} - {*optimiser.defaults, "params", "name"}
    if unknown:
        raise TrainingError(
            f"a parameter group sets {', '.join(sorted(unknown))}, which {type(optimiser).__name__} does not have",
            hint=f"it has {', '.join(sorted(optimiser.defaults))}",
        )
    return optimiser


def set_learning_rate(optimiser: torch.optim.Optimizer, peaks: Sequence[float], factor: float) -> None:
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


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors named ``<parameter>.<entry>``. The schedule sets the learning rates anew."""
    return {
        f"{position}.{name}": value
        for position, entries in optimiser.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Goes on from the tensors of ``optimiser_tensors``."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        position, name = key.split(".", 1)
        state.setdefault(int(position), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


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
    """Learning rates that fall together where a loss has stopped falling, by torch's ``ReduceLROnPlateau``.

    A loss is a gain where it is below the best one by ``gain`` times that one's absolute value: for losses above 0 as
    in torch, which would call a slightly higher loss a gain where losses are below 0. ``drops`` counts the falls.

    >>> plateau = Plateau(PlateauConfig(factor=0.5, patience=1, least=0.2), [1.0])
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):
    ...     plateau.take(loss)
    >>> plateau.rates, plateau.drops
    ([0.2], 3)
    """

    def __init__(self, config: PlateauConfig, rates: Sequence[float]) -> None:
        # Groups of their own: those of the optimiser hold rates of the warm-up, which must not count as falls.
        self._groups = torch.optim.SGD([{"params": [torch.zeros(())], "lr": rate} for rate in rates])
        self._scheduler = ReduceLROnPlateau(
            self._groups,
            factor=config.factor,
            patience=config.patience,
            threshold=0.0,
            threshold_mode="abs",
            min_lr=config.least,
            eps=0.0,
        )
        self._gain = config.gain
        self.drops = 0

    @property
    def rates(self) -> list[float]:
        """The learning rates as they stand, in their order."""
        return [group["lr"] for group in self._groups.param_groups]

    def take(self, loss: float) -> None:
        """Takes in a loss; one that is not finite is no gain."""
        before, best = self.rates, self._scheduler.best
        if math.isfinite(best):
            self._scheduler.threshold = self._gain * abs(best)
        self._scheduler.step(loss if math.isfinite(loss) else math.inf)
        self.drops += self.rates != before

    def facts(self) -> dict[str, Any]:
        """The state for a checkpoint, as JSON."""
        best, since = self._scheduler.best, self._scheduler.num_bad_epochs
        return {"best": best, "since": since, "rates": self.rates, "drops": self.drops}

    def load(self, facts: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._scheduler.best, self._scheduler.num_bad_epochs = float(facts["best"]), facts["since"]
        self.drops = facts["drops"]
        for group, rate in zip(self._groups.param_groups, facts["rates"], strict=True):
            group["lr"] = rate
