"""Optimisers over a component's own parameter groups, fused where torch has it, and gradient clipping."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
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
