"""JSON files held to a model, since anybody may have written them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from scorefold.artefacts import read_json
from scorefold.errors import ArtefactError
from scorefold_registry.components.messages import config_problems

Model = TypeVar("Model", bound=BaseModel)


def read_checked(path: Path, model: type[Model]) -> Model:
    """The value in a JSON file as its model has it. Raises ``ArtefactError`` saying what is not as it was written."""
    return checked(read_json(path), model, path)


def checked(raw: Any, model: type[Model], path: Path) -> Model:
    """A value that was read from a file, as its model has it; see ``read_checked``."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first, *more = config_problems(model, error, raw)
        others = f" ({len(more)} more things are wrong)" if more else ""
        raise ArtefactError(
            f"{path} is not as it was written: {first.message}{others}",
            hint="restore the folder from where it came, or make it again",
        ) from error
