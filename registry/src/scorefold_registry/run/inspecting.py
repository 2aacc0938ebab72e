"""What a file of data holds, before any run file names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from scorefold.data_summary import DataSummary
from scorefold.interfaces import DataSource
from scorefold_registry.components.messages import config_error, config_problems
from scorefold_registry.components.parts import config_model
from scorefold_registry.plugins.loading import load_target
from scorefold_registry.run.applying import loader_of

if TYPE_CHECKING:
    from scorefold_registry.host import Host


def inspect_data(host: Host, data: Path, fields: Mapping[str, Any]) -> DataSummary:
    """The summary of files of points, which a pattern may name, or of images, with these fields of their loader.

    Raises ``DataError`` for a file that can't be read at all, and ``ConfigError`` for a field that does not fit.
    """
    name, field = loader_of(data)
    registered = host.catalogue.resolve(name)
    model = config_model(registered)
    raw = {**fields, field: str(data)}
    try:
        config = model.model_validate(raw)
    except ValidationError as error:
        raise config_error(f"the fields of {name}", config_problems(model, error, raw)) from None
    source: type[DataSource] = load_target(registered, registered.component.target)
    return source.inspect(config)
