"""Reported parts of a run: its configuration as flat fields, its numbers, its figures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scorefold.artefacts import json_text, read_json
from scorefold.stage import RunInfo

PARTIAL = ".partial"


def final_folder(folder: Path) -> Path:
    """The folder of a run once it is complete; while it goes on its name ends with ``.partial``."""
    return folder.with_name(folder.name.removesuffix(PARTIAL))


def tracked_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved configuration without the settings of plugins: they change no result."""
    plain: dict[str, Any] = json.loads(json_text(config))
    return {name: value for name, value in plain.items() if name != "plugins"}


def facts(run: RunInfo) -> dict[str, str]:
    """Facts about every run: its folder, seed and command, the device, and the versions."""
    environment = read_json(run.folder / "environment.json")
    versions = {
        "python": environment["python"],
        **environment["versions"],
        **environment["scorefold"],
        **{plugin["distribution"]: plugin["version"] for plugin in environment["plugins"]},
    }
    return {
        "scorefold.run_folder": str(run.folder),
        "scorefold.seed": str(run.seed),
        "scorefold.command": without_password(read_json(run.folder / "status.json")["command"]),
        "scorefold.device": environment["device"],
        **{f"scorefold.version.{name}": str(version) for name, version in versions.items()},
    }


def flat_fields(config: Any, path: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """The fields of a configuration by dotted path; a list of plain values is one field, written as JSON."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            yield from flat_fields(value, f"{path}.{name}" if path else str(name))
    elif isinstance(config, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in config):
        for place, item in enumerate(config):
            yield from flat_fields(item, f"{path}.{place}")
    elif isinstance(config, (bool, int, float, str)):
        yield path, config
    else:
        yield path, json.dumps(config, default=str)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are numbers: a stage may also report words or null."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def curve_name(stage: str, metric: str) -> str:
    """Name of a metric that a stage reports while it runs."""
    return f"{stage}/{metric}"


def final_name(stage: str, metric: str) -> str:
    """Name of a final metric of a stage, distinct from the names of its curves."""
    return f"final/{stage}/{metric}"


def figures(folder: Path) -> list[Path]:
    """The figures in a stage's folder, as PNG files."""
    return sorted((folder / "figures").glob("*.png"))


def without_password(text: str) -> str:
    """The text with the user and the password left out of every address in it."""
    return re.sub(r"(?<=://)[^/\s@]+@", "", text)


def safe_name(name: str) -> str:
    """A name that every place takes: letters, digits, ``_``, ``-`` and ``.``, at most 100 of them."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:100]
