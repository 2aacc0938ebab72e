"""Checks of what can be trained (``scorefold.interfaces.Trainable``), whatever the kind."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Loss, Progress
from scorefold_testing.answers import draw_condition
from scorefold_testing.contract import Check, Subject, check, require, require_same, require_shape
from scorefold_toolkit.training.phases import ordered_phases

BATCH = 16
STRATEGIES = ("distributed", "bf16", "fp16", "compile")
DESCENT = 1e-2
RATE = 1e-4
STEPS = 3


def _prepared(subject: Subject) -> tuple[Any, Dataset]:
    """A model in float32, prepared as training does it, with its data."""
    model = subject.build(dtype=torch.float32)
    require(isinstance(model, nn.Module), f"it is a {type(model).__name__}", "an nn.Module")
    data = _data(subject, model, torch.float32)
    model.prepare(data, subject.generator("prepare"))
    return model.train(), data


def _data(subject: Subject, model: Any, dtype: torch.dtype) -> Dataset:
    """The example's training data, or else normal draws that fit the model."""
    data = subject.data()
    if data is not None:
        return data.to(dtype=dtype)
    condition = draw_condition(model.condition_spec, BATCH, subject, dtype)
    return Dataset(subject.normal(BATCH, *model.event_shape, dtype=dtype), condition)


def _trainable(subject: Subject) -> tuple[Any, Dataset, Progress]:
    """A prepared model with a batch and the start of its first phase."""
    model, data = _prepared(subject)
    return model, data.take(torch.arange(min(BATCH, len(data)))), Progress(0, 10, model.phases()[0].name)


def learn(model: Any, subject: Subject) -> tuple[Dataset, Progress]:
    """Trains a model for some steps of each phase; gives the last batch, and where training has come to."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    data = _data(subject, model, dtype)
    model.prepare(data, subject.generator("prepare"))
    model.train()
    batch = data.take(torch.arange(min(BATCH, len(data))))
    for phase in model.phases():
        groups = [list(group["params"]) for group in model.parameter_groups(phase)]
        optimiser = torch.optim.SGD([p for group in groups for p in group if p.requires_grad], lr=RATE)
        for step in range(STEPS):
            progress = Progress(step, STEPS, phase.name)
            optimiser.zero_grad()
            model.loss(batch, progress=progress, generator=subject.generator(f"loss {step}")).value.backward()
            optimiser.step()
    return batch, progress


@check("learned-state", level="artefact", capability="Trainable", gradients=True)
def learned_state(subject: Subject) -> str:
    """``prepare`` and ``loss`` change only parameters and buffers: a training that continues from them elsewhere has
    the same loss.
    """
    model = subject.build(dtype=torch.float32)
    batch, progress = learn(model, subject)
    other = subject.build(dtype=torch.float32)
    other.prepare(_data(subject, other, torch.float32), subject.generator("prepare"))
    other.train().load_state_dict(model.state_dict())
    here, there = (
        each.loss(batch, progress=progress, generator=subject.generator("loss")).value.detach()
        for each in (model, other)
    )
    require_same("the loss of a training that goes on from the state", there, here)
    return f"loss {float(here):.4g}"


@check("loss-trains", level="numerics", capability="Trainable", gradients=True)
def loss_trains(subject: Subject) -> str:
    """The loss is a finite scalar whose gradient reaches the parameters; its parts are scalars without gradients."""
    model, batch, progress = _trainable(subject)
    config = model.training_config
    require(isinstance(config, TrainingConfig), f"training_config is a {type(config).__name__}", "a TrainingConfig")
    loss = model.loss(batch, progress=progress, generator=subject.generator("loss"))
    require(isinstance(loss, Loss), f"loss gives a {type(loss).__name__}", "a Loss")
    require_shape("the loss", loss.value, ())
    value = float(loss.value.detach())
    require(math.isfinite(value), f"the loss is {value}", "a finite number")
    wrong = [name for name, part in loss.parts.items() if part.dim() > 0 or part.requires_grad]
    require(not wrong, f"parts of the loss with a shape or a gradient: {', '.join(wrong)}", "scalars without gradients")
    require(loss.value.requires_grad, "the loss has no gradient", "one")
    loss.value.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    most = max((float(gradient.abs().max()) for gradient in gradients), default=0.0)
    require(0 < most < math.inf, f"the largest gradient of a parameter is {most:.3g}", "a finite number above 0")
    return f"loss {value:.4g}, gradients of {len(gradients)} parameters"


@check("loss-follows-generator", level="determinism", capability="Trainable", gradients=True)
def loss_follows_generator(subject: Subject) -> str:
    """Prepared and asked twice with generators of one seed, it has the same state and the same loss."""
    states, losses = [], []
    for _ in range(2):
        model, batch, progress = _trainable(subject)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        losses.append(model.loss(batch, progress=progress, generator=subject.generator("loss")).value.detach())
    for name, value in states[0].items():
        require_same(f"{name}, prepared twice from one seed,", states[1][name], value)
    require_same("the loss, asked twice from one seed,", losses[1], losses[0])
    return f"twice {float(losses[0]):.6g}"


@check("loss-falls", level="numerics", capability="Trainable", gradients=True)
def loss_falls(subject: Subject) -> str:
    """A small step against the gradient lowers the loss of the same batch and draws."""
    model, batch, progress = _trainable(subject)

    def loss() -> Tensor:
        found: Tensor = model.loss(batch, progress=progress, generator=subject.generator("loss")).value
        return found

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = loss()
    gradients = torch.autograd.grad(before, parameters, allow_unused=True)
    length = math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.sub_(DESCENT * gradient / length)
    change = float(loss().detach() - before.detach())
    require(change < 0, f"after a step against its gradient the loss has changed by {change:.3g}", "less than 0")
    return f"changed by {change:.3g}, to first order {-DESCENT * length:.3g}"


@check("loss-validates", level="contract", capability="Trainable")
def loss_validates(subject: Subject) -> str:
    """The loss can be had in evaluation mode and without gradients, as validation asks for it, and changes nothing."""
    model, batch, progress = _trainable(subject)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        value = model.loss(batch, progress=progress, generator=subject.generator("loss")).value
    require(bool(value.isfinite()), f"without gradients the loss is {float(value)}", "a finite number")
    for name, after in model.state_dict().items():
        require_same(f"{name}, after validation,", after, before[name])
    return f"loss {float(value):.4g}"


@check("phases-cover", level="contract", capability="Trainable")
def phases_cover(subject: Subject) -> str:
    """Phases have different names that a folder may have, and come after one another. Each has something to train.

    Their groups train every parameter that requires gradients, except the parameters of components that are plugged in.
    """
    model, _ = _prepared(subject)
    phases = list(model.phases())
    names = [phase.name for phase in phases]
    require(bool(phases), f"there are {len(phases)} phases", "one or more")
    require(len(set(names)) == len(names), f"the phases are called {', '.join(names)}", "a name of its own for each")
    for index, phase in enumerate(phases):
        known = phase.after is None or phase.after in names[:index]
        require(known, f"phase {phase.name!r} comes after {phase.after!r}", "an earlier phase, or None")
    try:
        ordered_phases(phases)
    except TrainingError as error:
        require(False, str(error), "phases that fit takes")
    trained: set[int] = set()
    for phase in phases:
        grouped = [id(p) for group in model.parameter_groups(phase) for p in group["params"]]
        require(bool(grouped), f"phase {phase.name!r} has {len(grouped)} parameters to train", "one or more")
        twice = len(grouped) - len(set(grouped))
        require(twice == 0, f"{twice} parameters stand twice in the groups of phase {phase.name!r}", "0")
        inside = {id(p) for module in phase.modules for p in module.parameters()}
        outside = len(set(grouped) - inside)
        require(outside == 0, f"the groups of phase {phase.name!r} hold {outside} parameters of other modules", "0")
        trained |= set(grouped)
    plugged = [getattr(model, port.name, None) for port in subject.component.requires]
    trained |= {id(p) for part in plugged if isinstance(part, nn.Module) for p in part.parameters()}
    missed = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in trained]
    require(not missed, f"parameters that no phase trains: {', '.join(missed)}", "none")
    return f"phases {', '.join(names)}"


@check("strategies-told", level="contract", capability="Trainable")
def strategies_reported(subject: Subject) -> str:
    """For each strategy of training it says None, or why it can't be trained so."""
    model = subject.build()
    answers = {strategy: model.refuses(strategy) for strategy in STRATEGIES}
    for strategy, reason in answers.items():
        fits = reason is None or (isinstance(reason, str) and bool(reason.strip()))
        require(fits, f"of {strategy} it says {reason!r}", "None, or a reason")
    return ", ".join(strategy for strategy, reason in answers.items() if reason is None) or "refuses all"


CHECKS: tuple[Check, ...] = (
    learned_state,
    loss_trains,
    loss_falls,
    loss_follows_generator,
    loss_validates,
    phases_cover,
    strategies_reported,
)
