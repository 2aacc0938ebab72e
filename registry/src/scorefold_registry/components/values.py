"""Values of stages, as safetensors and JSON, and back. Loading runs no code that a file names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from scorefold.artefacts import load_arrays, save_arrays, write_json
from scorefold.data import Condition, ConditionSpec, Dataset, EventScale
from scorefold.errors import ArtefactError, DataError, PluginError, ShapeError, SplitError
from scorefold.interfaces import DataSource, TensorSource
from scorefold.interfaces.data import SPLITS
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold_registry.components.stage_files import (
    VALUE_ARRAYS,
    VALUE_FILE,
    AllocationFacts,
    DataFacts,
    EstimateFacts,
    MappingFacts,
    PlainFacts,
    RowFacts,
    read_value,
)
from scorefold_registry.plugins.names import with_article

_SCALE = TypeAdapter(EventScale)
_CONDITIONS: TypeAdapter[ConditionSpec | None] = TypeAdapter(ConditionSpec | None)


def save_value(value: Any, component: Any, folder: Path) -> None:
    """Write a stage's value. The component itself is saved by the host, so here it is only named.

    Raises ``PluginError`` for a value of a type that can't be read back without running code.
    """
    facts, tensors = _encode(value, component)
    if tensors:
        save_arrays(folder / VALUE_ARRAYS, tensors)
    write_json(folder / VALUE_FILE, facts)


def load_value(folder: Path, component: Any) -> Any:
    """The value that ``save_value`` wrote; ``component`` is the object the host loaded from the same folder.

    Raises ``ArtefactError`` for what no ``save_value`` wrote.
    """
    facts = read_value(folder)
    tensors = load_arrays(folder / VALUE_ARRAYS) if (folder / VALUE_ARRAYS).exists() else {}
    if isinstance(facts, EstimateFacts):
        return _decode_estimate(facts, tensors)
    if isinstance(facts, AllocationFacts):
        return _decode_allocation(facts)
    if isinstance(facts, MappingFacts):
        return {**facts.json_, **tensors}
    if isinstance(facts, PlainFacts):
        return component if facts.type == "component" else None
    try:
        return _decode_data(facts, tensors)
    except (DataError, KeyError) as error:
        lacking = f"the array {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ArtefactError(f"{folder / VALUE_FILE} and the arrays beside it don't fit together: {lacking}") from error


def _encode(value: Any, component: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if value is component:
        return {"type": "component"}, {}
    if value is None:
        return {"type": "none"}, {}
    if isinstance(value, DataSource):
        return _encode_data(value)
    if isinstance(value, Estimate):
        plain = {name: item for name, item in value.diagnostics.items() if not isinstance(item, Tensor)}
        tensors = {f"diagnostics/{name}": item for name, item in value.diagnostics.items() if isinstance(item, Tensor)}
        for name in ("pointwise", "spectrum"):
            if getattr(value, name) is not None:
                tensors[name] = getattr(value, name)
        interval = None if value.interval is None else list(value.interval)
        answer = {"quantity": value.quantity, "value": value.value, "interval": interval, "level": value.level}
        answer |= {"headline": value.headline, "covers": value.covers}
        return {"type": "estimate", **answer, "diagnostics": plain}, tensors
    if isinstance(value, Allocation):
        return {"type": "allocation", **value.summary()}, {}
    if isinstance(value, Mapping):
        tensors = {name: item for name, item in value.items() if isinstance(item, Tensor)}
        return {"type": "mapping", "json": {n: item for n, item in value.items() if n not in tensors}}, tensors
    raise PluginError(
        f"a verb returned {with_article(type(value).__name__)}, which can't be kept",
        hint="give the component, a DataSource, an Estimate, an Allocation, or a mapping of numbers and tensors",
    )


_NAMED = 100_000
"""Rows up to which names are kept with data."""


def _encode_data(source: DataSource) -> tuple[dict[str, Any], dict[str, Tensor]]:
    splits: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for split in SPLITS:
        try:
            dataset = source.load(split)
        except SplitError:
            continue  # a source need not have every split
        truth = {name: item for name, item in dataset.truth.items() if not isinstance(item, Tensor)}
        splits[split] = {"truth": truth, "condition": isinstance(dataset.condition, Mapping)}
        parts: dict[str, Tensor | None] = {"x": dataset.tensor(), "label": dataset.label, "index": dataset.index}
        if isinstance(dataset.condition, Mapping):
            parts.update({f"condition/{name}": item for name, item in dataset.condition.items()})
        else:
            parts["condition"] = dataset.condition
        parts.update({f"truth/{name}": item for name, item in dataset.truth.items() if isinstance(item, Tensor)})
        tensors.update({f"{split}/{name}": item for name, item in parts.items() if item is not None})
    rows: int | list[str] | None = None if source.rows is None else len(source.rows)
    if source.rows is not None and len(source.rows) <= _NAMED and any(name != n for n, name in enumerate(source.rows)):
        rows = list(map(str, source.rows))
    facts = {"type": "data", "splits": splits, "event_scale": asdict(source.event_scale), "rows": rows}
    return {**facts, "condition_spec": _CONDITIONS.dump_python(source.condition_spec, mode="json")}, tensors


def _decode_data(facts: DataFacts, tensors: Mapping[str, Tensor]) -> TensorSource:
    splits: dict[str, Dataset] = {}
    for split, about in facts.splits.items():
        parts = {name.removeprefix(f"{split}/"): item for name, item in tensors.items() if name.startswith(f"{split}/")}
        named = {name.partition("/")[2]: item for name, item in parts.items() if name.startswith("condition/")}
        condition: Condition | None = named if about.condition else parts.get("condition")
        truth = {name.partition("/")[2]: item for name, item in parts.items() if name.startswith("truth/")}
        if parts["x"].dim() < 2:
            raise ShapeError(f"the points of {split!r} have the shape {tuple(parts['x'].shape)}")
        splits[split] = Dataset(
            x=parts["x"],
            condition=condition,
            label=parts.get("label"),
            index=parts.get("index"),
            truth={**about.truth, **truth},
        )
    try:
        conditions = _CONDITIONS.validate_python(facts.condition_spec)
        scale = _SCALE.validate_python(facts.event_scale)
    except ValidationError as error:
        what = "event_scale holds no units" if error.title == "EventScale" else "condition_spec describes no conditions"
        raise DataError(what) from None
    rows = range(facts.rows) if isinstance(facts.rows, int) else facts.rows
    source = TensorSource(splits, scale, conditions, rows=rows)
    check_units(source.event_scale, source.event_shape)
    return source


def check_units(scale: EventScale, event_shape: tuple[int, ...]) -> None:
    """Raises ``ShapeError`` for units of each coordinate that are not as many as the coordinates."""
    for one in (scale.shift, scale.factor, scale.centre):
        centred = one is scale.centre and len(event_shape) > 1  # which only vectors are, one coordinate at a time
        if isinstance(one, tuple) and (centred or len(one) != math.prod(event_shape)):
            raise ShapeError(f"there are units of {len(one)} coordinates for events of the shape {event_shape}")


def _decode_estimate(facts: EstimateFacts, tensors: Mapping[str, Tensor]) -> Estimate:
    diagnostics = {n.partition("/")[2]: item for n, item in tensors.items() if n.startswith("diagnostics/")}
    return Estimate(
        quantity=facts.quantity,
        value=facts.value,
        interval=facts.interval,
        level=facts.level,
        pointwise=tensors.get("pointwise"),
        spectrum=tensors.get("spectrum"),
        diagnostics={**facts.diagnostics, **diagnostics},
        headline=facts.headline,
        covers=facts.covers,
    )


def _decode_allocation(facts: AllocationFacts) -> Allocation:
    def plan(rows: list[RowFacts]) -> tuple[PlanRow, ...]:
        return tuple(PlanRow(**row.model_dump()) for row in rows)

    return Allocation(
        status=facts.status,
        plan=plan(facts.plan),
        leftover=facts.leftover,
        predicted_loss=facts.predicted_loss,
        interval=facts.interval,
        near_optimal=tuple(plan(rows) for rows in facts.near_optimal),
        curve=facts.curve,
        reason=facts.reason,
        remarks=tuple(facts.remarks),
        warnings=tuple(facts.warnings),
        diagnostics=facts.diagnostics,
    )
