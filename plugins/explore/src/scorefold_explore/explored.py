"""The opened data: points with their properties, and the models that were trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, EventScale
from scorefold.errors import ConfigError
from scorefold.interfaces import Encodes, Flow, Geometry, ScoreModel

LARGEST = 100_000
"""Maximum of points on a page."""


@dataclass(frozen=True)
class Group:
    """Points that belong together, from number ``start`` of the page up to ``stop``: a split of the data, or samples.

    ``stage`` is the stage they come from. ``index`` (n,) holds the row of each in what the user gave, None for points
    that are no rows of it, and ``rows`` what the user calls every row there.
    """

    name: str
    start: int
    stop: int
    stage: str
    split: str | None = None
    index: Tensor | None = None
    rows: Sequence[object] | None = None

    @property
    def samples(self) -> bool:
        """True if a model made these points."""
        return self.split is None

    def row_names(self) -> list[int | str] | None:
        """Names of the rows of the points on the page: numbers, or texts such as paths."""
        if self.index is None or self.rows is None:
            return None
        named = [(row, self.rows[row]) for row in self.index.tolist()]
        return [row if name == row else _row_text(str(name)) for row, name in named]

    def row(self, point: int) -> int | str | None:
        """The row of one point as ``options.between`` takes it: its number, or its name where no other row has it."""
        if self.index is None or self.rows is None:
            return None
        row = int(self.index[point - self.start])
        name = self.rows[row]
        return name if isinstance(name, str) and self.rows.index(name) == row else row


def _row_text(name: str) -> str:
    return f"row {name}" if name.isdigit() else name


@dataclass(frozen=True)
class ExploredModel:
    """Model of a stage: ``name`` is the name of the stage, ``component`` is ``kind:name``."""

    name: str
    component: str
    value: Any


@dataclass(frozen=True)
class Known:
    """A number for each point (N,), NaN where there is none, and what it is."""

    values: Tensor
    text: str
    source: str


@dataclass
class Explored:
    """Everything a page is about.

    ``points`` (N, *E) are the points of all groups in order, in the units of models; ``scale`` converts the units.
    ``labels`` (N,) are -1 where there is none. ``known`` holds numbers of single points by name, ``models`` the models
    by their stage. ``notes`` are for the reader, ``missing`` maps what the page can't offer to what would add it.
    ``tags`` holds the points of each tag. ``host`` opens what is trained on the page, which is going on where
    ``training`` is true, and ``folders`` has the stages that don't stand in ``place``. ``second`` is a run beside it.
    """

    title: str
    place: Path
    state: str
    points: Tensor
    scale: EventScale
    groups: tuple[Group, ...]
    labels: Tensor | None = None
    label_names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    condition: Condition | None = None
    models: dict[str, ExploredModel] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    spectra: dict[int, tuple[str, Tensor]] = field(default_factory=dict)
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    stages: list[dict[str, str]] = field(default_factory=list)
    data_stage: str = "data"
    data_use: Mapping[str, Any] | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, set[int]] = field(default_factory=dict)
    training: bool = False
    second: Explored | None = None
    host: Any = None
    folders: dict[str, Path] = field(default_factory=dict)

    def folder_of(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.folders.get(stage, self.place / stage)

    def renew(self, opened: Explored, *, keep_title: bool) -> None:
        """Becomes what was opened anew, so that everybody who holds this object sees it. Answers that were kept stay
        where the points are the ones that they are about."""
        facts = {**vars(opened), "training": self.training, "tags": self.tags}
        if keep_title:
            facts["title"] = self.title
        if torch.equal(self.points, opened.points):
            facts["memory"] = self.memory
        vars(self).update(facts)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.points.shape[1:])

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Channels, height and width where points are images that can be shown, else None."""
        shape = self.event_shape
        if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 1:
            return shape[0], shape[1], shape[2]
        return None

    def of(self, kind: str) -> dict[str, ExploredModel]:
        """The models that can do something: ``geometry``, ``code``, ``flow``, ``score`` or ``conditional``."""
        return {name: model for name, model in self.models.items() if kind in self.abilities(model.value)}

    def abilities(self, value: Any) -> set[str]:
        """Abilities of a model for points of this shape."""
        if getattr(value, "event_shape", self.event_shape) != self.event_shape:
            return set()
        found = set()
        if isinstance(value, Geometry):
            found.add("geometry")
        if isinstance(value, Encodes):
            found.add("code")
        elif isinstance(value, Flow | ScoreModel):
            kind = "flow" if isinstance(value, Flow) else "score"
            found.add(kind if value.condition_spec is None else "conditional")
        return found

    def model(self, kind: str, name: str) -> Any:
        """A model by its stage. Raises ``ConfigError`` with those that there are."""
        able = self.of(kind)
        if name not in able:
            have = ", ".join(able) or "none"
            raise ConfigError(f"there is no {kind} {name!r:.60} here; expected one of: {have}")
        return able[name].value

    def check_point(self, point: int) -> int:
        """The number of a point. Raises ``ConfigError`` for one that is not there."""
        if not 0 <= point < len(self.points):
            raise ConfigError(f"point {point} was asked for; expected 0 to {len(self.points) - 1}")
        return point

    def group_of(self, point: int) -> Group:
        """The group that a point belongs to."""
        return next(group for group in self.groups if group.start <= point < group.stop)


def for_model(value: Any, x: Tensor) -> Tensor:
    """Events in the dtype, and on the device, of a model."""
    if isinstance(value, nn.Module):
        for tensor in (*value.parameters(), *value.buffers()):
            if tensor.is_floating_point():
                return x.to(device=tensor.device, dtype=tensor.dtype)
    return x


def generator_of(value: Any, seed: int) -> torch.Generator:
    """A seeded generator on a model's device."""
    return torch.Generator(for_model(value, torch.empty(0)).device).manual_seed(seed)
