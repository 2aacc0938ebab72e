"""Laws of capabilities (``scorefold.interfaces.capabilities``), whatever the kind."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.interfaces.capabilities import Loss, Progress
from scorefold.testing.answers import ROWS, draw_condition
from scorefold.testing.contract import Law, Subject, law, require, require_close, require_shape

BATCH = 16


def _trainable(subject: Subject) -> tuple[Any, Dataset, Progress]:
    """A model in float32, prepared as training does it, with a batch and the start of its first phase."""
    model = subject.build(dtype=torch.float32)
    data = subject.data()
    if data is None:
        x = subject.normal(BATCH, *model.event_shape, dtype=torch.float32)
        data = Dataset(x=x, condition=draw_condition(model.condition_spec, BATCH, subject, torch.float32))
    model.prepare(data, subject.generator("prepare"))
    phase = model.phases()[0]
    return model.train(), data.take(torch.arange(min(BATCH, len(data)))), Progress(0, 10, phase.name)


@law("loss-trains", capability="Trainable")
def loss_trains(subject: Subject) -> str:
    """The loss is a finite scalar whose gradient reaches the parameters; its parts are scalars without gradients."""
    model, batch, progress = _trainable(subject)
    require(isinstance(model, nn.Module), f"a Trainable is an nn.Module; this is a {type(model).__name__}")
    require(isinstance(model.training_config, TrainingConfig), "training_config is no TrainingConfig")
    loss = model.loss(batch, progress=progress, generator=subject.generator("loss"))
    require(isinstance(loss, Loss), f"loss gives a {type(loss).__name__}; expected a Loss")
    require_shape("the loss", loss.value, ())
    value = float(loss.value.detach())
    require(math.isfinite(value), f"the loss is {value}")
    wrong = [name for name, part in loss.parts.items() if part.dim() > 0 or part.requires_grad]
    require(not wrong, f"parts of the loss that are no scalars without gradients: {', '.join(wrong)}")
    require(loss.value.requires_grad, "the loss has no gradient")
    loss.value.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    require(any(bool(g.abs().sum() > 0) for g in gradients), "the gradient of the loss reaches no parameter")
    require(all(bool(g.isfinite().all()) for g in gradients), "the gradient of the loss is not finite")
    return f"loss {value:.4g}, gradients of {len(gradients)} parameters"


@law("loss-follows-generator", capability="Trainable")
def loss_follows_generator(subject: Subject) -> str:
    """Generators of one seed give the same loss."""
    model, batch, progress = _trainable(subject)
    values = [model.loss(batch, progress=progress, generator=subject.generator("loss")).value for _ in range(2)]
    first, second = (float(value.detach()) for value in values)
    require(first == second, f"two losses from one seed are {first} and {second}")
    return f"twice {first:.6g}"


@law("loss-validates", capability="Trainable")
def loss_validates(subject: Subject) -> str:
    """The loss can be had in evaluation mode and without gradients, as validation asks for it, and changes nothing."""
    model, batch, progress = _trainable(subject)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        value = model.loss(batch, progress=progress, generator=subject.generator("loss")).value
    require(bool(value.isfinite()), f"the loss is {float(value)}")
    changed = [name for name, after in model.state_dict().items() if not torch.equal(after, before[name])]
    require(not changed, f"it changed {', '.join(changed)}")
    return f"loss {float(value):.4g}"


@law("phases-cover", capability="Trainable")
def phases_cover(subject: Subject) -> str:
    """Phases have names of their own, come after one another, and their groups train every parameter that asks."""
    model, _, _ = _trainable(subject)
    phases = list(model.phases())
    names = [phase.name for phase in phases]
    require(bool(phases), "there is no phase")
    require(len(set(names)) == len(names), f"two phases share a name: {', '.join(names)}")
    for index, phase in enumerate(phases):
        known = phase.after is None or phase.after in names[:index]
        require(known, f"phase {phase.name!r} comes after {phase.after!r}, which is no earlier phase")
    trained: set[int] = set()
    for phase in phases:
        grouped = [id(p) for group in model.parameter_groups(phase) for p in group["params"]]
        require(len(set(grouped)) == len(grouped), f"a parameter stands twice in the groups of phase {phase.name!r}")
        inside = {id(p) for module in phase.modules for p in module.parameters()}
        require(set(grouped) <= inside, f"the groups of phase {phase.name!r} hold parameters outside its modules")
        trained |= set(grouped)
    missed = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in trained]
    require(not missed, f"parameters that no phase trains: {', '.join(missed)}")
    return f"phases {', '.join(names)}"


@law("encodes-shapes", capability="Encodes")
def encodes_shapes(subject: Subject) -> str:
    """encode gives (B, *latent_shape), decode (B, *E), encode_distribution a mean and a standard deviation >= 0."""
    obj = subject.stirred()
    x = subject.points(ROWS, obj.event_shape, getattr(obj, "event_scale", None))
    with torch.no_grad():
        z = obj.encode(x)
        require_shape("encode", z, (ROWS, *obj.latent_shape))
        require_shape("decode", obj.decode(z, generator=subject.generator("decode")), tuple(x.shape))
        mean, std = obj.encode_distribution(x)
    require_shape("the mean of the code", mean, tuple(z.shape))
    require_shape("the standard deviation of the code", std, tuple(z.shape))
    require(bool((std >= 0).all()), f"a standard deviation is {float(std.min()):.3g}")
    return f"codes {tuple(obj.latent_shape)}"


@law("potential-derivatives", capability="Potential")
def potential_derivatives(subject: Subject) -> str:
    """grad and hessian_product are the derivatives of value by autograd, and grad_inverse inverts grad."""
    obj = subject.stirred()
    x = subject.normal(ROWS, *obj.event_shape).requires_grad_()
    v = subject.normal(*x.shape, purpose="v")
    require_shape("value", obj.value(x), (ROWS,))
    (gradient,) = torch.autograd.grad(obj.value(x).sum(), x, create_graph=True)
    (product,) = torch.autograd.grad((gradient * v).sum(), x)
    point: Tensor = x.detach()
    texts = [
        require_close("grad", obj.grad(point), gradient, 1e-7),
        require_close("hessian_product", obj.hessian_product(point, v), product, 1e-7),
        require_close("grad_inverse of grad", obj.grad_inverse(obj.grad(point)), point, 1e-6),
    ]
    return "; ".join(texts)


@law("tasks-as-asked", capability="TaskSource")
def tasks_as_asked(subject: Subject) -> str:
    """tasks gives so many pairs of a support and a query set of the sizes asked for, the same for one seed."""
    obj = subject.build()
    first, second = (list(obj.tasks(4, 3, 2, subject.generator("tasks"))) for _ in range(2))
    sizes = [(len(support), len(query)) for support, query in first]
    require(sizes == [(3, 2)] * 4, f"4 tasks of 3 and 2 examples were asked for; they have {sizes}")
    same = all(
        torch.equal(a.tensor(), b.tensor())
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )
    require(same, "tasks drawn twice from one seed differ")
    return "4 tasks of 3 and 2 examples"


LAWS: tuple[Law, ...] = (
    loss_trains,
    loss_follows_generator,
    loss_validates,
    phases_cover,
    encodes_shapes,
    potential_derivatives,
    tasks_as_asked,
)
