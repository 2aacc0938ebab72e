"""A component put to use: inputs that fit it, and what it answers. Checks common to all kinds are about these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import ConfigError
from scorefold.interfaces.capabilities import Encodes
from scorefold.interfaces.data import SPLITS
from scorefold_testing.contract import NotApplicableError, Subject
from scorefold_testing.exact import subspace
from scorefold_testing.verb import answers_in, plan_of_component
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Units

Inputs = Mapping[str, Tensor]
ROWS = 3
SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((6,), (4,)),
    ((2, 8, 8), (3, 8, 8)),
    ((1, 32, 32), (1, 32, 32)),
    ((2, 32), (3, 32)),
)
"""Shapes (in, out) in the order in which they are tried: networks need not serve vectors and images alike."""
POINTS = 64
MEASURED: tuple[tuple[tuple[int, ...], TensorSpec | None], ...] = (
    ((6,), None),
    ((1, 16, 16), None),
    ((6,), TensorSpec((2,))),
)
"""Shapes of events with their conditions, in the order in which metrics are started for them."""
HELD_OUT = 48
_CONDITION = "condition"


def draw_condition(spec: ConditionSpec | None, rows: int, subject: Subject, dtype: torch.dtype) -> Condition | None:
    """A condition of a spec with so many rows: normal numbers, or classes in turn."""
    if spec is None:
        return None
    if not isinstance(spec, TensorSpec):
        return {name: _draw_one(part, rows, subject, name, dtype) for name, part in spec.items()}
    return _draw_one(spec, rows, subject, "condition", dtype)


def _draw_one(spec: TensorSpec, rows: int, subject: Subject, name: str, dtype: torch.dtype) -> Tensor:
    if spec.classes is None:
        return subject.normal(rows, *spec.shape, purpose=name, dtype=dtype)
    count = rows * int(torch.Size(spec.shape).numel())
    return (torch.arange(count) % spec.classes).reshape(rows, *spec.shape)


def noised(model: Any, subject: Subject, rows: int = ROWS, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Events (rows, *E) of a score model as they stand at times (rows,) in the middle of its process."""
    process = model.process
    share = 0.2 + 0.6 * torch.rand(rows, generator=subject.generator("times"), dtype=torch.float64)
    t = (process.t_min + share * (process.t_max - process.t_min)).to(dtype)
    x0 = subject.points(rows, model.event_shape, model.event_scale).to(dtype)
    # A process with tensors in it computes in their dtype.
    return process.perturb(x0, t, subject.normal(*x0.shape, purpose="noise", dtype=dtype)).to(dtype), t


def inputs_of(obj: Any, subject: Subject, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Tensors to use an object of a kind with."""
    kind = subject.component.kind
    if kind == "score":
        x, t = noised(obj, subject, dtype=dtype)
        return {"x": x, "t": t, **_flat(draw_condition(obj.condition_spec, ROWS, subject, dtype))}
    if kind == "flow":
        x = subject.points(ROWS, obj.event_shape, obj.event_scale).to(dtype)
        condition = _flat(draw_condition(obj.condition_spec, ROWS, subject, dtype))
        return {"x": x, "z": subject.normal(*x.shape, purpose="z", dtype=dtype), **condition}
    if kind == "geometry":
        points = subject.points(2 * ROWS, obj.event_shape).to(dtype)
        return {"x": points[:ROWS], "y": points[ROWS:], "v": 0.1 * subject.normal(*points[:ROWS].shape, dtype=dtype)}
    if kind == "estimator":
        data = subject.data()
        points = subspace().points(POINTS, subject.generator("points")) if data is None else data.tensor(POINTS)
        return {"data": points.to(dtype)}
    if kind == "network":
        into, _, _ = built_network(obj, subject.seed)
        return {"x": subject.normal(ROWS, *into, dtype=dtype), "t": torch.linspace(-9, 8, ROWS, dtype=dtype)}
    if kind == "metric":
        _, shape, spec = started(obj)
        batch = batch_to_measure(subject, shape, spec, dtype)
        return {"truth": batch.truth, "draws": batch.draws, **_flat(batch.condition)}
    if kind in ("data", "allocator"):
        return {}
    if isinstance(obj, Encodes):
        return {"x": _events(obj, subject).to(dtype)}
    if "Potential" in subject.component.provides:
        shape = (3,) if obj.event_shape is None else obj.event_shape
        return {
            "x": subject.normal(ROWS, *shape, dtype=dtype),
            "v": subject.normal(ROWS, *shape, purpose="v", dtype=dtype),
        }
    raise NotApplicableError(f"the kit knows no use of a {kind} that it could compare")


def knows(subject: Subject, obj: Any) -> bool:
    """True if the kit can put an object of the component to use by itself."""
    component = subject.component
    return component.kind in _ANSWERS or isinstance(obj, Encodes) or "Potential" in component.provides


def _events(obj: Any, subject: Subject) -> Tensor:
    return subject.points(ROWS, obj.event_shape, getattr(obj, "event_scale", None))


def built_network(
    builder: Any, seed: int, *, time: bool = True, condition: ConditionSpec | None = None
) -> tuple[tuple[int, ...], tuple[int, ...], Any]:
    """(in, out, network) of the first shape that a builder serves, initialised from a seed.

    Raises ``ConfigError``, the builder's own, where it serves none of them.
    """
    refused: ConfigError | None = None
    for into, out in SHAPES:
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                return into, out, builder.build(into, out, time=time, condition=condition)
        except ConfigError as error:
            refused = error
    assert refused is not None
    raise refused


def _flat(condition: Condition | None) -> dict[str, Tensor]:
    """A condition as inputs by name."""
    if condition is None or isinstance(condition, Tensor):
        return {} if condition is None else {_CONDITION: condition}
    return {f"{_CONDITION} {name}": value for name, value in condition.items()}


def _condition(inputs: Inputs) -> Condition | None:
    """The condition among inputs."""
    parts = {name.removeprefix(f"{_CONDITION} "): v for name, v in inputs.items() if name.startswith(_CONDITION)}
    return parts.get(_CONDITION, parts or None)


def answers_of(kind: str, obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    """Answers of an object of a kind to inputs, by name; without a generator there are no random answers.

    A network may be given built, or as its builder. What encodes is of any kind. Gradients are on or off as they were.
    """
    known = _ANSWERS.get(kind, _encodes if isinstance(obj, Encodes) else _potential)
    return {name: value.detach() for name, value in known(obj, inputs, generator).items()}


def _score(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    condition = _condition(inputs)
    answers = {"score": obj.score(inputs["x"], inputs["t"], condition)}
    if generator is not None:
        answers["sample"] = obj.sample(2, condition, steps=3, generator=generator)
    return answers


def _flow(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    condition = _condition(inputs)
    z, log_det = obj(inputs["x"], condition)
    x, inverse_log_det = obj.inverse(inputs["z"], condition)
    answers = {"z": z, "log_det": log_det, "x": x, "inverse_log_det": inverse_log_det}
    answers["log_prob"] = obj.log_prob(inputs["x"], condition)
    if generator is not None:
        answers["sample"] = obj.sample(2, condition, generator=generator)
    return answers


def _geometry(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    x, y, v = inputs["x"], inputs["y"], inputs["v"]
    return {"metric": obj.metric(x), "exp": obj.exp(x, v), "log": obj.log(x, y), "distance": obj.distance(x, y)}


def _estimator(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    found = obj.estimate(inputs["data"], generator=generator)
    numbers = () if found.value is None else (found.value, *(found.interval or ()))
    answers = {"value": torch.tensor(numbers, dtype=torch.float64)}
    return answers if found.pointwise is None else {**answers, "pointwise": found.pointwise}


def _allocator(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    found = obj.allocate(1000, generator=generator)
    rows = [number for row in found.plan for number in (row.tasks, row.support, row.query)]
    return {"plan": torch.tensor([found.leftover, *rows], dtype=torch.float64)}


def _data(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    return {split: obj.load(split).tensor(50) for split in SPLITS}


def _network(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    network = obj
    if not isinstance(obj, nn.Module):
        seed = 0 if generator is None else generator.initial_seed()
        network = built_network(obj, seed)[2].to(inputs["x"].device, inputs["x"].dtype).eval()
    return {"answer": network(inputs["x"], inputs["t"])}


def _encodes(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    mean, std = obj.encode_distribution(inputs["x"])
    answers = {"code": obj.encode(inputs["x"]), "mean": mean, "std": std}
    if generator is not None:
        answers["sample"] = obj.decode(mean, generator=generator)
    return answers


def _potential(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    x = inputs["x"]
    gradient = obj.grad(x)
    inverse, product = obj.grad_inverse(gradient), obj.hessian_product(x, inputs["v"])
    return {"value": obj.value(x), "grad": gradient, "grad_inverse": inverse, "hessian_product": product}


def started(metric: Any) -> tuple[Measure, tuple[int, ...], TensorSpec | None]:
    """A measure of vectors or else of images, without conditions or else with one, and what it was started for."""
    if metric.reads_reference:
        raise NotApplicableError("it compares with reference draws of a posterior, and the kit's points have none")
    for shape, spec in MEASURED:
        try:
            return metric.start(Units(0.0, 1.0), shape, spec), shape, spec
        except ConfigError:
            continue
    raise NotApplicableError("it takes neither vectors nor images, with conditions or without")


def batch_to_measure(
    subject: Subject, shape: tuple[int, ...], spec: TensorSpec | None, dtype: torch.dtype = torch.float64
) -> EvaluationBatch:
    """Held-out points and two samples for each, of one distribution between 0 and 1, with a condition where asked."""
    x = torch.sigmoid(subject.normal(3 * HELD_OUT, *shape)).to(dtype)
    samples = x[HELD_OUT:].reshape(2, HELD_OUT, *shape)
    return EvaluationBatch(x[:HELD_OUT].clone(), samples, draw_condition(spec, HELD_OUT, subject, dtype))


def _metric(obj: Any, inputs: Inputs, generator: torch.Generator | None) -> dict[str, Tensor]:
    measure, _, _ = started(obj)
    measure.add(EvaluationBatch(inputs["truth"], inputs["draws"], _condition(inputs)))
    found = measure.metrics()
    return {"numbers": torch.tensor([found[name] for name in sorted(found)], dtype=torch.float64)}


_ANSWERS: Mapping[str, Callable[[Any, Inputs, torch.Generator | None], dict[str, Tensor]]] = {
    "score": _score,
    "flow": _flow,
    "geometry": _geometry,
    "estimator": _estimator,
    "allocator": _allocator,
    "data": _data,
    "network": _network,
    "metric": _metric,
}


def use(subject: Subject, obj: Any = None) -> dict[str, Tensor]:
    """Answers of an object, by name; without an object the example is built.

    Raises ``NotApplicableError`` where the kit knows no use of it.
    """
    obj = subject.build() if obj is None else obj
    if knows(subject, obj):
        return answers_of(subject.component.kind, obj, inputs_of(obj, subject), subject.generator("use"))
    return answers_in(plan_of_component(subject), subject.host, obj)
