"""Conditions as what networks take: one vector, or one stack of channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import DataError, ShapeError


def named_specs(spec: ConditionSpec | None) -> dict[str, TensorSpec]:
    """The parts of a condition by name; a single tensor has the name ''."""
    if spec is None:
        return {}
    return {"": spec} if isinstance(spec, TensorSpec) else dict(spec)


def named_parts(spec: ConditionSpec | None, condition: Condition | None) -> dict[str, Tensor]:
    """The tensors of a condition by name, in the order of the specification, each (B, *shape).

    Raises ``ShapeError`` where a condition is missing, uncalled for, or of other names, shapes, classes or numbers
    of rows.
    """
    specs = named_specs(spec)
    if not specs:
        if condition is not None:
            raise ShapeError("a condition was given to a model that takes none", hint="leave the condition out")
        return {}
    if condition is None:
        raise ShapeError(f"a condition is missing: this model takes {_describe(specs)}")
    parts = dict(condition) if isinstance(condition, Mapping) else {"": condition}
    if parts.keys() != specs.keys():
        given = ", ".join(name or "one unnamed tensor" for name in parts)
        raise ShapeError(f"the condition has {given}; this model takes {_describe(specs)}")
    for name, one in specs.items():
        if tuple(parts[name].shape[1:]) != one.shape:
            raise ShapeError(
                f"the condition{' ' + name if name else ''} has shape {tuple(parts[name].shape)}; "
                f"expected (B{''.join(f', {size}' for size in one.shape)})",
                hint="give the condition of the training data: the same columns, or observations of the same operator",
            )
        if one.classes is not None and parts[name].is_floating_point():
            raise ShapeError(f"the condition{' ' + name if name else ''} must hold integer classes")
    rows = {value.shape[0] for value in parts.values()}
    if len(rows) > 1:
        raise ShapeError(f"the parts of the condition have different numbers of rows: {sorted(rows)}")
    return {name: parts[name] for name in specs}


def check_condition_finite(condition: object) -> None:
    """Raises ``DataError`` with the place of the first number of a condition (C, ...) that is not finite."""
    parts = condition if isinstance(condition, Mapping) else {"": condition}
    for name, value in parts.items():
        if not isinstance(value, Tensor) or value.is_meta or bool(value.isfinite().all()):
            continue
        row, *place = (~value.isfinite()).nonzero()[0].tolist()
        at = f" at position {tuple(place) if len(place) > 1 else place[0]}" if place else ""
        raise DataError(
            f"the condition{' ' + name if name else ''} is {float(value[(row, *place)])} in row {row}{at} (from 0); "
            "expected finite numbers",
            hint="leave the row out, or hide missing numbers by a mask and set them to 0",
        )


def _describe(specs: Mapping[str, TensorSpec]) -> str:
    texts = []
    for name, spec in specs.items():
        what = f"(B{''.join(f', {size}' for size in spec.shape)})"
        classes = "" if spec.classes is None else f" of {spec.classes} classes"
        texts.append(f"{name} {what}{classes}".strip())
    return "; ".join(texts)


def as_vector(value: Tensor, spec: TensorSpec, like: Tensor) -> Tensor:
    """One part of a condition as (B, width) in the dtype of ``like``: numbers flattened, classes as one-hot codes.

    A class outside 0 to ``classes`` - 1 gives a code of zeros, which serves as "no condition".
    """
    if spec.classes is not None:
        codes = value[..., None] == torch.arange(spec.classes, device=value.device)
        value = codes.to(like.dtype)
    return value.reshape(value.shape[0], vector_width(spec)).to(like.dtype)


def vector_width(spec: TensorSpec) -> int:
    """Number of columns of ``as_vector``."""
    return math.prod(spec.shape) * (spec.classes or 1)


class ConditionVector(nn.Module):
    """A condition as one vector (B, width), its parts side by side; None for a model without one.

    >>> from scorefold.data import TensorSpec
    >>> one_hot = ConditionVector(TensorSpec((), classes=3))
    >>> one_hot.width, one_hot(torch.tensor([0, 2]), like=torch.zeros(2, 1))
    (3, tensor([[1., 0., 0.],
            [0., 0., 1.]]))
    """

    def __init__(self, spec: ConditionSpec | None) -> None:
        super().__init__()
        self.spec = spec
        self.width = sum(vector_width(one) for one in named_specs(spec).values())

    def forward(self, condition: Condition | None, like: Tensor) -> Tensor | None:
        """(B, width) on the device and in the dtype of ``like``. Raises ``ShapeError`` where the condition does not
        fit."""
        parts = named_parts(self.spec, condition)
        specs = named_specs(self.spec)
        vectors = [as_vector(value, specs[name], like) for name, value in parts.items()]
        return torch.cat(vectors, 1) if vectors else None


class ConditionRange(nn.Module):
    """The range of the numbers of a condition over the training points, for ``far_conditions``.

    Each number has a range of its own. One range serves an image, since a pixel may be black in all training points and
    not in others, and other parts of so many numbers that fair points would be outside. Before ``prepare``, and in
    states saved without it, no range is known. Classes have none.

    >>> from scorefold.data import TensorSpec
    >>> known = ConditionRange(TensorSpec((2,)))
    >>> known.prepare(torch.tensor([[1.0, 200.0], [2.0, 300.0], [3.0, 400.0]]))
    >>> known.outside(torch.tensor([[3.0, 200.0], [3.0, 4000.0]]))
    tensor([False,  True])
    """

    def __init__(self, spec: ConditionSpec | None) -> None:
        super().__init__()
        self.spec = spec
        parts = enumerate(named_specs(spec).items())
        self.ranges = {name: place for place, (name, one) in parts if one.classes is None}
        for name, place in self.ranges.items():
            shape = named_specs(spec)[name].shape
            self.register_buffer(f"low_{place}", torch.ones(shape))
            self.register_buffer(f"high_{place}", torch.zeros(shape))  # below low: not known
            self.register_buffer(f"far_{place}", torch.zeros(2, *shape))
            self.register_buffer(f"points_{place}", torch.zeros(()))

    @torch.no_grad()
    def prepare(self, condition: Condition | None) -> None:
        """Takes the range of the training points (N, *shape). Raises ``ShapeError`` where the condition does not fit.

        One range serves all numbers of a part if more than 1 in 50 of every second point are outside the ranges of the
        others.
        """
        parts = named_parts(self.spec, condition)
        for name, place in self.ranges.items():
            low, high, far, points = (self.get_buffer(f"{kind}_{place}") for kind in ("low", "high", "far", "points"))
            given = _rows(parts[name], low)
            if not given.numel():
                continue
            shared = _is_image(named_specs(self.spec)[name])
            if not shared and len(given) > 1:
                beyond = _beyond(given[1::2], *given[::2].aminmax(dim=0)).any(0).any(1)
                shared = int(beyond.sum()) > _STRICT * len(beyond)
            ends = torch.stack([-given, given])
            if shared:
                ends = ends.amax(2, keepdim=True)
            top = ends.topk(min(_TAIL, len(given)), 1).values
            most = top[:, 0]
            reach = most + (_TAILS * (most - top[:, -1])).maximum(most.sum(0))
            low.copy_((-most[0]).expand(low.numel()).reshape(low.shape))
            high.copy_(most[1].expand(low.numel()).reshape(low.shape))
            far.copy_(reach.expand(2, low.numel()).reshape(far.shape))
            points.fill_(len(given))

    def outside(self, condition: Condition) -> Tensor:
        """Conditions outside the range of the training points by more than chance, (C,).

        Two kinds count. Some have a number farther outside than the whole range, and than 5 times the distance between
        the first and the tenth of the training points at this end. Others have a number more than a tenth of the range
        outside, at an end where this happens to so many that fair conditions have a chance below 0.001.
        """
        parts = named_parts(self.spec, condition)
        found = torch.zeros(len(next(iter(parts.values()))), dtype=torch.bool)
        ends = 2 * sum(self.get_buffer(f"low_{place}").numel() for place in self.ranges.values())
        for name, place in self.ranges.items():
            low, high, far, points = (self.get_buffer(f"{kind}_{place}") for kind in ("low", "high", "far", "points"))
            given, far = _rows(parts[name], low), far.reshape(2, low.numel())
            beyond = _beyond(given, low.flatten(), high.flatten()).cpu()
            systematic = _chance(beyond.sum(1), len(given), float(points)) * ends < _LEVEL
            distant = torch.stack([-given > far[0], given > far[1]]).cpu()
            found |= (beyond & (distant | systematic[:, None])).any(0).any(1)
        return found

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name, value in self.named_buffers():  # saved before conditions had scales, ranges or logarithms
            unknown = torch.ones_like(value) if name.startswith(("std_", "low_")) else torch.zeros_like(value)
            if name.startswith("low_") and f"{prefix}points_{name[4:]}" not in state_dict:
                state_dict[f"{prefix}{name}"] = unknown
                state_dict[f"{prefix}high_{name[4:]}"] = torch.zeros_like(value)
            state_dict.setdefault(f"{prefix}{name}", unknown)
        super()._load_from_state_dict(state_dict, prefix, *rest)


_MARGIN, _STRICT, _LEVEL = 0.1, 0.02, 1e-3
_TAIL, _TAILS = 10, 5.0


def _rows(given: Tensor, like: Tensor) -> Tensor:
    """A part (N, *shape) as rows (N, D) of the kind of ``like`` (*shape)."""
    return given.to(like).reshape(len(given), like.numel())


def _beyond(given: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Numbers of ``given`` (N, D) below and above their range (D,) and its margin, (2, N, D)."""
    reach = _MARGIN * (high - low)
    return torch.stack([given < low - reach, given > high + reach]) & (low <= high)


def _chance(count: Tensor, conditions: int, points: float) -> Tensor:
    """The probability that so many of some fair conditions exceed all training points: they have the highest ranks."""
    count = count.double()
    logs = [torch.lgamma(1.0 + n - drop) for n in (conditions, conditions + points) for drop in (count, 0 * count)]
    return (logs[1] - logs[0] - logs[3] + logs[2]).exp()


class ConditionScale(ConditionRange):
    """The numbers of a condition, each centred and of unit deviation over the training points (z-scores).

    A number that is positive in all training points, and whose logarithms have less than half of its kurtosis, is shown
    by its logarithm: counts and intensities of many orders of magnitude. Below the least of the training points its
    logarithm is theirs. Classes and images pass as they are. Before ``prepare``, and in states saved without scales,
    all numbers do.

    >>> from scorefold.data import TensorSpec
    >>> scale = ConditionScale(TensorSpec((2,)))
    >>> scale.prepare(torch.tensor([[1.0, 200.0], [3.0, 400.0]]))
    >>> scale(torch.tensor([[3.0, 200.0]]))
    tensor([[ 1., -1.]])
    """

    def __init__(self, spec: ConditionSpec | None) -> None:
        super().__init__(spec)
        specs = named_specs(spec)
        self.places = {name: place for name, place in self.ranges.items() if not _is_image(specs[name])}
        for name, place in self.places.items():
            self.register_buffer(f"mean_{place}", torch.zeros(specs[name].shape))
            self.register_buffer(f"std_{place}", torch.ones(specs[name].shape))
            self.register_buffer(f"least_{place}", torch.zeros(specs[name].shape))  # 0: shown as it is

    @torch.no_grad()
    def prepare(self, condition: Condition | None) -> None:
        """Takes ranges, means and deviations of the training points (N, *shape), and chooses logarithms; a number that
        never changes is only centred.

        Raises ``ShapeError`` where the condition does not fit."""
        super().prepare(condition)
        parts = named_parts(self.spec, condition)
        for name, place in self.places.items():
            given = parts[name].double()
            if not len(given):
                continue
            least = given.amin(0)
            kurtosis, of_logs = (_kurtosis(each) for each in (given, given.clamp(min=least.clamp(min=_TINY)).log()))
            least = least.where((least >= _TINY) & (of_logs < kurtosis / 2), 0.0)
            self.get_buffer(f"least_{place}").copy_(least)
            std, mean = torch.std_mean(_logs(given, least), 0, correction=0)
            self.get_buffer(f"mean_{place}").copy_(mean)
            self.get_buffer(f"std_{place}").copy_(std.where(std > 0, 1.0))

    def forward(self, condition: Condition | None) -> Condition | None:
        """The condition in z-scores. Raises ``ShapeError`` where it does not fit."""
        if not self.places or condition is None:
            return condition
        parts = named_parts(self.spec, condition)
        for name, place in self.places.items():
            mean, std, least = (self.get_buffer(f"{kind}_{place}") for kind in ("mean", "std", "least"))
            parts[name] = (_logs(parts[name].to(mean), least) - mean) / std
        return parts[""] if isinstance(condition, Tensor) else parts


_TINY = torch.finfo(torch.float32).tiny


def _logs(given: Tensor, least: Tensor) -> Tensor:
    """Numbers (N, *shape), by their logarithms where the least (*shape) is above 0."""
    return given.where(least <= 0, given.maximum(least.clamp(min=_TINY)).log())


def _kurtosis(x: Tensor) -> Tensor:
    """The fourth moment over the squared variance, of numbers (N, *shape), over the points: 3 for a normal
    distribution."""
    squares = (x - x.mean(0)).square()
    return squares.square().mean(0) / squares.mean(0).square()


@torch.no_grad()
def far_conditions(model: nn.Module, condition: Condition | None) -> str:
    """The warning that some conditions (C, ...) lie outside the range of those that a model was trained on; empty where
    none does, and for models that keep no ``ConditionRange`` and have no method ``outside`` as it has.

    >>> from scorefold.data import TensorSpec
    >>> model = nn.Module()
    >>> model.known = ConditionRange(TensorSpec((2,)))
    >>> model.known.prepare(torch.tensor([[1.0, 200.0], [2.0, 300.0], [3.0, 400.0]]))
    >>> far_conditions(model, torch.tensor([[3.0, 200.0], [3.0, 4000.0]]))[:57]
    '1 of 2 conditions lies outside the range of the training '
    """
    known: Any = next((part for part in model.children() if isinstance(part, ConditionRange)), model)
    if condition is None or not hasattr(known, "outside"):
        return ""
    outside = known.outside(condition)
    count = int(outside.sum())
    if not count:
        return ""
    lie = "lies" if count == 1 else "lie"
    return (
        f"{count:,} of {len(outside):,} conditions {lie} outside the range of the training data: samples may be wrong "
        "and too narrow there. Check the units"
    )


class ConditionMap(nn.Module):
    """A condition as channels (B, width, H, W) beside an image; (B, width, 1, 1) where no part is an image itself.

    Parts of three dimensions are images: they are brought to H x W by the nearest pixel. All others are flattened
    and the same at every pixel.

    >>> from scorefold.data import TensorSpec
    >>> beside = ConditionMap({"class": TensorSpec((), classes=3), "image": TensorSpec((1, 4, 4))}, size=(4, 4))
    >>> beside({"class": torch.tensor([1]), "image": torch.zeros(1, 1, 4, 4)}, like=torch.zeros(1, 1, 4, 4)).shape
    torch.Size([1, 4, 4, 4])
    """

    def __init__(self, spec: ConditionSpec | None, size: tuple[int, int]) -> None:
        super().__init__()
        self.spec = spec
        self.size = size
        specs = named_specs(spec).values()
        self.spatial = any(_is_image(one) for one in specs)
        self.width = sum(one.shape[0] if _is_image(one) else vector_width(one) for one in specs)

    def forward(self, condition: Condition | None, like: Tensor) -> Tensor | None:
        """The channels on the device and in the dtype of ``like``. Raises ``ShapeError`` where the condition does
        not fit."""
        parts = named_parts(self.spec, condition)
        specs = named_specs(self.spec)
        maps = []
        for name, value in parts.items():
            if _is_image(specs[name]):
                maps.append(functional.interpolate(value.to(like.dtype), self.size, mode="nearest"))
            else:
                vector = as_vector(value, specs[name], like)[:, :, None, None]
                maps.append(vector.expand(-1, -1, *self.size) if self.spatial else vector)
        return torch.cat(maps, 1) if maps else None


def _is_image(spec: TensorSpec) -> bool:
    return len(spec.shape) == 3 and spec.classes is None


def with_null_class(spec: ConditionSpec) -> ConditionSpec:
    """The spec with one more class in each condition of classes, which stands for no condition."""
    if isinstance(spec, TensorSpec):
        return spec if spec.classes is None else TensorSpec(spec.shape, spec.classes + 1)
    return {
        name: part if part.classes is None else TensorSpec(part.shape, part.classes + 1) for name, part in spec.items()
    }


def null_condition(spec: ConditionSpec, x: Tensor) -> Condition:
    """No condition for each row of x: the class after the last, or zeros."""

    def absent(part: TensorSpec) -> Tensor:
        shape = (len(x), *part.shape)
        if part.classes is None:
            return x.new_zeros(shape)
        return torch.full(shape, part.classes, dtype=torch.long, device=x.device)

    return absent(spec) if isinstance(spec, TensorSpec) else {name: absent(part) for name, part in spec.items()}


def drop_condition(condition: Condition, spec: ConditionSpec, share: float, generator: torch.Generator) -> Condition:
    """A condition with each row replaced by the null condition with probability ``share``, as guidance needs."""
    parts = named_parts(spec, condition)
    first = next(iter(parts.values()))
    drop = (torch.rand(len(first), generator=generator, device=generator.device) < share).to(first.device)
    null = null_condition(spec, torch.zeros(len(first), device=first.device))
    absent = {"": null} if isinstance(null, Tensor) else null
    mixed = {
        name: torch.where(drop.reshape(-1, *[1] * (given.dim() - 1)), absent[name].to(given), given)
        for name, given in parts.items()
    }
    return mixed[""] if isinstance(condition, Tensor) else mixed
