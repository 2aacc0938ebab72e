"""Questions of the page, by name: their checked arguments, and the functions that answer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from scorefold.errors import ConfigError
from scorefold_explore import recipes
from scorefold_explore.answers import colours, conditions, maps, neighbours, points, scales
from scorefold_explore.answers.colours import shown
from scorefold_explore.explored import LARGEST, Explored
from scorefold_explore.training import missing, session

_Point = Annotated[int, Field(ge=0)]


class _Asked(BaseModel, extra="forbid"):
    """The arguments of a question."""


class Nothing(_Asked):
    """No arguments."""


class Named(_Asked):
    name: str


class OfPoint(_Asked):
    point: _Point
    scale: str = "own"


class Pictures(_Asked):
    points: list[_Point] = Field(max_length=200)


class Between(_Asked):
    geometry: str
    start: _Point
    end: _Point
    steps: int = 20
    map: str = "pca"
    rough: bool = False


class OfCode(_Asked):
    coder: str
    point: _Point


class Decoded(_Asked):
    coder: str
    code: list[float] = Field(max_length=100_000)
    seed: int = Field(0, ge=0, lt=2**63)
    map: str = "pca"


class OfScore(_Asked):
    score: str
    point: _Point


class Conditioned(_Asked):
    model: str
    point: _Point


class Sampled(Conditioned):
    n: int = 8
    steps: int = 30
    seed: int = Field(0, ge=0, lt=2**63)
    mask: list[float] | None = None
    images: dict[str, list[float]] = Field(default_factory=dict)
    label: int | None = None


class Train(_Asked):
    answer: str = missing.EVERYTHING
    minutes: float = Field(0.5, gt=0, le=60)
    scale: str = "own"


class Tagged(_Asked):
    tag: str = Field(min_length=1, max_length=60)
    points: list[_Point] = Field(max_length=LARGEST)
    on: bool = True


class Exported(_Asked):
    points: list[_Point] = Field(min_length=1, max_length=LARGEST)
    form: Literal["csv", "json"] = "csv"


class RecipeQuery(_Asked):
    what: str
    asked: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class PageQuestion:
    """``arguments`` are checked before ``answer`` is called; a ``quick`` one is answered at once, beside the worker,
    and one ``apart`` by a worker that holds up no other."""

    arguments: type[_Asked]
    answer: Callable[[Explored, Any], Any]
    quick: bool = False
    apart: bool = False


def overview(explored: Explored) -> dict[str, Any]:
    """Summary of what is open: names of its points, and questions that it can answer."""
    return {
        "title": explored.title,
        "state": explored.state,
        "points": len(explored.points),
        "event_shape": list(explored.event_shape),
        "image": explored.image,
        "columns": list(explored.columns),
        "groups": [
            {
                "name": group.name,
                "start": group.start,
                "stop": group.stop,
                "samples": group.samples,
                "origin": group.name if group.samples else group.stage,
                "rows": group.row_names(),
            }
            for group in explored.groups
        ],
        "label_names": list(explored.label_names),
        "maps": maps.map_names(explored),
        "colours": colours.colour_names(explored),
        "models": {
            kind: [{"name": name, "component": model.component} for name, model in explored.of(kind).items()]
            for kind in ("geometry", "code", "score", "flow", "conditional")
        },
        "sketches": [name for name, model in explored.of("geometry").items() if maps.sketches(model.value)],
        "conditions": {
            name: conditions.condition_parts(explored, name)
            for name in {**explored.of("conditional"), **explored.of("score")}
        },
        "curves": explored.curves,
        "notes": explored.notes,
        "missing": explored.missing,
        "scales": scales.scale_names(explored),
        "warnings": scales.warnings(explored),
        "units": {one["name"]: scales.units(explored, one["name"]) for one in scales.scale_names(explored)},
        "training": missing.plans(explored),
        "trains": explored.training,
        "second": explored.second is not None,
        "tags": {name: sorted(points) for name, points in explored.tags.items()},
        "stages": explored.stages,
    }


def duplicate_groups(explored: Explored) -> dict[str, Any]:
    """Points that are equal in every coordinate, as groups of their numbers."""
    found = neighbours.duplicate_points(explored)
    return {"groups": found, "points": sum(len(group) - 1 for group in found)}


QUESTIONS: dict[str, PageQuestion] = {
    "overview": PageQuestion(Nothing, lambda explored, asked: overview(explored), quick=True),
    "map": PageQuestion(Named, lambda explored, asked: maps.map_answer(explored, asked.name)),
    "colour": PageQuestion(Named, lambda explored, asked: colours.colour_answer(explored, asked.name)),
    "pictures": PageQuestion(
        Pictures,
        lambda explored, asked: shown(explored, explored.points[[explored.check_point(one) for one in asked.points]]),
        quick=True,
    ),
    "point": PageQuestion(
        OfPoint, lambda explored, asked: points.point_answer(explored, asked.point, scale=asked.scale), quick=True
    ),
    "spectrum": PageQuestion(OfScore, lambda explored, asked: points.by_score(explored, asked.score, asked.point)),
    "geodesic": PageQuestion(
        Between,
        lambda explored, asked: maps.path_answer(
            explored, asked.geometry, asked.start, asked.end, asked.steps, asked.map, asked.rough
        ),
    ),
    "code": PageQuestion(OfCode, lambda explored, asked: maps.code_of(explored, asked.coder, asked.point)),
    "decoded": PageQuestion(
        Decoded, lambda explored, asked: maps.decoded_code(explored, asked.coder, asked.code, asked.seed, asked.map)
    ),
    "condition": PageQuestion(
        Conditioned, lambda explored, asked: conditions.shown_condition(explored, asked.model, asked.point), quick=True
    ),
    "samples": PageQuestion(
        Sampled,
        lambda explored, asked: conditions.samples_answer(
            explored, asked.model, asked.point, **asked.model_dump(exclude={"model", "point"})
        ),
    ),
    "duplicates": PageQuestion(Nothing, lambda explored, asked: duplicate_groups(explored)),
    "tag": PageQuestion(
        Tagged, lambda explored, asked: points.tag(explored, asked.tag, asked.points, asked.on), quick=True
    ),
    "export": PageQuestion(Exported, lambda explored, asked: points.exported(explored, asked.points, asked.form)),
    "train": PageQuestion(
        Train,
        lambda explored, asked: session.train_missing(explored, asked.answer, asked.minutes, asked.scale),
        apart=True,
    ),
    "recipe": PageQuestion(
        RecipeQuery, lambda explored, asked: recipes.recipe(explored, asked.what, asked.asked), quick=True
    ),
}


def checked_question(what: str, given: Mapping[str, Any]) -> tuple[PageQuestion, _Asked]:
    """A question with its arguments. Raises ``ConfigError`` for one that there is not, and arguments that don't fit."""
    question = QUESTIONS.get(what)
    if question is None:
        raise ConfigError(f"there is no question {what!r:.60}; expected one of: {', '.join(QUESTIONS)}")
    try:
        return question, question.arguments.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "arguments"
        raise ConfigError(f"{what}: {place}: {first['msg']}") from None


def answer(explored: Explored, what: str, given: Mapping[str, Any]) -> Any:
    """The answer to a question, as JSON. Raises ``ConfigError`` as ``checked_question`` and its function do."""
    question, asked = checked_question(what, given)
    return question.answer(explored, asked)
