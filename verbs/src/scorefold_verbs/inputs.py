"""Common parts of verbs: the points and the conditions they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import DataSource, Flow, ScoreModel, TensorSource
from scorefold.interfaces.data import SPLITS
from scorefold.seeds import derive_generator
from scorefold.stage import StageContext
from scorefold_toolkit.data.splits import row_name, row_text
from scorefold_toolkit.drawing import condition_of, refuse_codes
from scorefold_verbs.config import InterpolateOptions

Inputs = Mapping[str, Any]


def on_device(context: StageContext, dataset: Dataset) -> Dataset:
    """A data set where the stage computes, in its dtype."""
    return dataset.to(device=context.device, dtype=context.dtype)


def points_of(source: DataSource, limit: int | None, context: StageContext) -> Dataset:
    """The first points of the stage's split, all without a limit. Raises ``DataError`` where there are none."""
    split = context.split or "test"
    dataset = on_device(context, source.load(split))
    if len(dataset) == 0:
        raise SplitError(
            f"the {split} split has no points", hint="choose another split, or give it a share of the points"
        )
    # Taking decodes streamed points: all of them stay a stream.
    return dataset if limit is None or limit >= len(dataset) else dataset.take(torch.arange(limit))


def conditions_of(
    component: ScoreModel | Flow, source: DataSource | None, count: int, context: StageContext
) -> tuple[Condition | None, Tensor | None, int]:
    """The conditions of the first points of the stage's split, in the order of the file, with the rows of these points
    where the data count them, and the number of all points. None for a model that takes none.

    Raises ``ConfigError`` where a condition is needed and there is none.
    """
    if component.condition_spec is None:
        return None, None, 0
    refuse_codes(component)
    if source is None:
        raise ConfigError(
            "this model was trained with conditions, and no data were given to take conditions from",
            hint="add 'data: <a data stage>' to the stage's inputs",
        )
    points = points_of(source, None, context)
    order = torch.arange(len(points)) if points.index is None else points.index.cpu().argsort(stable=True)
    first = points.take(order[:count])
    rows = None if points.index is None or first.index is None else first.index.cpu()
    return condition_of(component, first), rows, len(points)


def choice(context: StageContext, purpose: str) -> torch.Generator:
    """A generator for choosing among points: the same in every stage of a run, so that stages beside each other, such
    as a method and its baseline, are about the same points."""
    return derive_generator(context.seed_root, "choice", purpose)


def drawn_pairs(count: int, pairs: int, context: StageContext) -> Tensor:
    """Positions of points, drawn without replacement: the first of each pair, then the second of each, (2 pairs,).

    Raises ``DataError`` for fewer points than the pairs need.
    """
    if count < 2 * pairs:
        raise DataError(
            f"{pairs} pairs need {2 * pairs} points; the split has {count}",
            hint=f"set options.pairs to at most {count // 2}"
            if count > 1
            else "give more points, or a larger share to this split, such as fractions: [0.5, 0, 0.5]",
        )
    return torch.randperm(count, generator=choice(context, "pairs"))[: 2 * pairs]


def ends_of(points: Dataset, source: DataSource, options: InterpolateOptions, context: StageContext) -> Dataset:
    """The ends of paths, the first of each pair, then the second of each (2 pairs): the rows that the options name, of
    any split, or points of a split as ``drawn_pairs``. Raises ``DataError`` for a row that is not there, and
    ``ConfigError`` where no pair has two different points."""
    if options.between is None:
        return points.take(drawn_pairs(len(points), options.pairs, context))
    named = [pair[side] for side in (0, 1) for pair in options.between]
    if not named:
        raise DataError("between names no pair", hint="name pairs of rows, or leave it out to draw some")
    ends = named_points(points, source, named, "between", context)
    if torch.equal(*ends.x.chunk(2)):
        given = ", ".join(f"[{first}, {last}]" for first, last in options.between[:3])
        raise ConfigError(
            f"between names {given}; expected a pair of two different points, since equal points have no path between "
            "them",
            hint="name two different rows of the data in options.between",
        )
    return ends


def named_points(
    points: Dataset, source: DataSource, named: Sequence[int | str], option: str, context: StageContext
) -> Dataset:
    """The points of rows that an option names by numbers or names, of any split; where the source doesn't count its
    rows, by their places among ``points``. Raises ``DataError`` for a row that is not there."""
    every = range(len(points)) if source.rows is None or points.index is None else source.rows
    rows = [_row(each, every, option) for each in named]
    if source.rows is None or points.index is None:
        return points.take(torch.tensor(rows))
    found: dict[int, Dataset] = {}
    for split in dict.fromkeys((context.split or "test", *SPLITS)):
        with suppress(SplitError):
            part = source.load(split)
            index = [] if part.index is None else part.index.tolist()
            places = {row: place for place, row in enumerate(index)}
            for row in rows:
                if row in places and row not in found:
                    found[row] = on_device(context, part.take(torch.tensor([places[row]])))
    for row in rows:
        if row not in found:
            raise DataError(
                f"{option} names {row_text(source.rows, row)}, which was left out when the data were read",
                hint=f"name another row, or leave {option} out",
            )
    return Dataset(torch.cat([found[row].x for row in rows]), index=torch.tensor(rows))


def codes_of(codes: Tensor, points: Dataset, source: DataSource) -> TensorSource:
    """Codes (N, *E) of points as data that know the rows of the points."""
    index = None if points.index is None else points.index.cpu()
    return TensorSource({"test": Dataset(codes, index=index)}, rows=source.rows)


def codes_arrays(codes: Tensor, points: Dataset) -> dict[str, Tensor]:
    """Codes (n, *E) as arrays of a result, with the rows (n,) of their points where the data count these."""
    return {"codes": codes} | ({} if points.index is None else {"rows": points.index.cpu()})


def pair_rows(ends: Dataset) -> dict[str, Tensor]:
    """The rows (pairs, 2) that paths go between, where the data count their points, as an array of a result."""
    return {} if ends.index is None else {"rows": ends.index.cpu().reshape(2, -1).T.contiguous()}


def _row(given: int | str, rows: Sequence[object], option: str) -> int:
    """The number of a row that is given by it or by its name."""
    names = list(map(str, rows)) if isinstance(given, str) else []
    if (count := names.count(str(given))) == 1:
        return names.index(str(given))
    if count > 1:
        same = ", ".join(str(row) for row, name in enumerate(names) if name == given)
        raise DataError(f"{option} names {given!r}, which {count} rows are called", hint=f"give a number: {same}")
    if isinstance(given, str) or given >= len(rows):
        raise DataError(
            f"{option} names row {given!r}; the data have the rows 0 to {len(rows) - 1}"
            + (f", the first of them {row_text(rows, 0)}" if row_name(rows, 0) else ""),
            hint=f"name rows of these in options.{option}, or leave it out",
        )
    return given


def nearness(middles: Tensor, held_out: Tensor, source: DataSource) -> Tensor | None:
    """Distance of the middles of paths (B, *E) from the nearest training point, relative to held-out points.

    (B,): around 1 for a path that stays among the data, more for one that leaves them. None where there is no
    training split, or the held-out points (N, *E) are training points.
    """
    try:
        known = source.load("train").tensor(limit=10_000).to(middles).flatten(1)
    except SplitError:
        return None
    usual = torch.cdist(held_out.flatten(1), known).amin(1).mean() if len(known) else torch.zeros(())
    return torch.cdist(middles.flatten(1), known).amin(1) / usual if float(usual) > 0 else None


FEWEST = 10
"""The fewest points that a label has an answer for."""


def groups_of(label: Tensor, names: Sequence[str] | None) -> tuple[dict[int, Tensor], list[str]]:
    """The positions of the points of each label, for labels of at least ``FEWEST`` points, in order; and a warning that
    names each label that is left out."""
    groups: dict[int, Tensor] = {}
    left_out = []
    for number in label.unique().tolist():
        rows = (label == number).nonzero()[:, 0]
        if len(rows) >= FEWEST:
            groups[number] = rows
        else:
            left_out.append(left_out_for(number, names, f"{len(rows)} points, fewer than {FEWEST}"))
    return groups, left_out


def left_out_for(number: int, names: Sequence[str] | None, reason: str) -> str:
    """The warning that a label has no answer, and why."""
    return f"label {label_text(number, name_of(number, names))} is left out: {reason}"


def row_of(
    number: int,
    names: Sequence[str] | None,
    points: int,
    quantity: str,
    value: float | None,
    interval: Sequence[float] | None,
) -> dict[str, Any]:
    """The answer for one label, as JSON."""
    return {
        "label": number,
        "name": name_of(number, names),
        "points": points,
        "quantity": quantity,
        "value": value,
        "interval": None if interval is None else list(interval),
    }


def name_of(number: int, names: Sequence[str] | None) -> str | None:
    """Name of a label, if its source has one and it is not the number."""
    name = names[number] if names is not None and 0 <= number < len(names) else None
    return None if name == str(number) else name


def label_text(number: int, name: str | None) -> str:
    """``7 (Sneaker)``, or ``7`` for a label without a name."""
    return str(number) if name is None else f"{number} ({name})"


def with_labels(
    result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], left_out: Sequence[str]
) -> dict[str, Any]:
    """A result with the answers for labels, and with what was left out among its warnings."""
    warnings = [*result.get("warnings", ()), *left_out]
    return {**result, "by_label": list(rows), **({"warnings": warnings} if warnings else {})}
