"""The files of a finished stage and of a run's state, held to what they may say. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, FiniteFloat, ValidationError, model_validator

from scorefold.artefacts import read_json
from scorefold.errors import ArtefactError
from scorefold_registry.components.messages import config_problems

Model = TypeVar("Model", bound=BaseModel)


def read_checked(path: Path, model: type[Model]) -> Model:
    """The value in a JSON file as its model has it. Raises ``ArtefactError`` saying what is not as it was written."""
    return validated(read_json(path), model, path)


def validated(raw: Any, model: type[Model], path: Path) -> Model:
    """A value that was read from a file, as its model has it; see ``read_checked``."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first, *more = config_problems(model, error, raw)
        others = f" ({len(more)} more things are wrong)" if more else ""
        raise ArtefactError(
            f"{path} was changed after it was written: {first.message}{others}",
            hint="restore the folder from its source, or run the stage again",
        ) from error


STAGE_FILE = "stage.json"
RESULT_FILE = "result.json"
VALUE_FILE = "value.json"
VALUE_ARRAYS = "value.safetensors"
PORTS = "ports"
"""The folder in a state's folder that holds what is plugged into it."""

Time = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
"""Seconds, or seconds since 1970, that a calendar can show."""


class _StageFacts(BaseModel, extra="allow"):
    name: str
    component: str
    distribution: str
    version: str
    summary: str
    verb: str
    gives: str
    source: str | None
    key: str
    seed: int
    resolved: dict[str, Any]
    computed: Time
    seconds: Time
    figure_failure: str | None
    cpu_seconds: Time | None = None
    peak_memory: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    network_calls: Annotated[int, Field(ge=0)] | None = None


class _Resolved(BaseModel, extra="allow"):
    inputs: dict[str, Any] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)


class _Result(BaseModel, extra="allow"):
    metrics: dict[str, Any]


class EstimateFacts(BaseModel):
    """An estimate without its arrays, as ``value.json`` holds it."""

    type: Literal["estimate"]
    quantity: str
    value: FiniteFloat | None
    interval: tuple[FiniteFloat, FiniteFloat] | None
    level: float = Field(gt=0, lt=1)
    diagnostics: dict[str, Any]
    headline: str = ""
    covers: str = ""

    @model_validator(mode="after")
    def _fits(self) -> EstimateFacts:
        if self.value is None and (self.interval is not None or not self.headline):
            raise ValueError("an estimate without a value; expected a headline, and no interval")
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise ValueError("an interval from high to low; expected its lower end first")
        return self


class AnswerFacts(BaseModel):
    """Answer of a stage in ``result.json``. ``reading`` is a reference for the number. ``verdict`` takes the place of
    the sentence that is made of all these; ``sure`` says how sure it is, where warnings don't; ``advice`` what to do
    next; ``caveats`` what is printed in the place of the stage's warnings. A ``minor`` answer is printed only where no
    other stage answers.
    """

    quantity: str
    value: float | None = None
    interval: tuple[float, float] | None = None
    truth: float | None = None
    reading: str = ""
    verdict: str = ""
    sure: Literal["", "clear", "with caution", "withheld"] = ""
    advice: str = ""
    caveats: list[str] | None = None
    minor: bool = False


class RowFacts(BaseModel, extra="forbid"):
    """A row of a plan of labels."""

    task_type: str
    tasks: int
    support: int
    query: int


class AllocationFacts(BaseModel):
    """A plan of labels, as ``value.json`` holds it."""

    type: Literal["allocation"]
    status: str
    plan: list[RowFacts]
    leftover: int
    predicted_loss: float | None
    interval: tuple[float, float] | None
    near_optimal: list[list[RowFacts]]
    curve: dict[str, Any]
    reason: str = ""
    remarks: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    diagnostics: dict[str, Any] = Field(default_factory=dict)


class SplitFacts(BaseModel):
    """Facts about a split in addition to its arrays; ``condition``: whether the condition has named parts."""

    truth: dict[str, Any]
    condition: bool


class DataFacts(BaseModel):
    """Data without their arrays, as ``value.json`` holds them."""

    type: Literal["data"]
    splits: dict[str, SplitFacts]
    event_scale: dict[str, float | tuple[float, ...] | None]
    condition_spec: dict[str, Any] | None = None
    rows: int | list[str] | None = None
    """Number of rows of the source of the points, or the names of the points."""


class MappingFacts(BaseModel):
    """A mapping of numbers and words, as ``value.json`` holds it."""

    type: Literal["mapping"]
    json_: dict[str, Any] = Field(alias="json")


class PlainFacts(BaseModel):
    """No value, or the component itself."""

    type: Literal["component", "none"]


ValueFacts = EstimateFacts | AllocationFacts | DataFacts | MappingFacts | PlainFacts


class _Value(BaseModel):
    value: Annotated[ValueFacts, Field(discriminator="type")]


def read_stage(folder: Path) -> Mapping[str, Any]:
    """Component and settings of a stage. Like all readers here, raises ``ArtefactError`` if its folder lacks them."""
    path = folder / STAGE_FILE
    facts = read_checked(path, _StageFacts).model_dump()
    validated(facts["resolved"], _Resolved, path)
    return facts


def read_result(folder: Path) -> Mapping[str, Any]:
    """Result of a stage: its metrics, and other output of its verb."""
    return read_checked(folder / RESULT_FILE, _Result).model_dump()


def read_answer(folder: Path) -> AnswerFacts | None:
    """The answer in a stage's result; None where there is none, or one of another form."""
    try:
        return AnswerFacts.model_validate(read_result(folder).get("answer"))
    except ValidationError:
        return None


def read_value(folder: Path) -> ValueFacts:
    """A stage's value without its arrays."""
    path = folder / VALUE_FILE
    return validated({"value": read_json(path)}, _Value, path).value


def stages_near(folder: Path) -> str:
    """A hint for a folder that was to be a stage: the stages beside or inside it."""
    around = folder if folder.is_dir() else folder.parent
    stages = sorted(item.parent.name for item in around.glob(f"*/{STAGE_FILE}")) if around.is_dir() else []
    return (
        f"the stages of {around} are {', '.join(stages)}"
        if stages
        else "name a folder such as runs/NAME/TIME-HASH/STAGE"
    )
