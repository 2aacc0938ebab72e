"""Writes what the repository's plugins offer, so that the registry can name a plugin that is not installed.

``make known`` after a plugin, a component or a verb is added; a test holds the file to the declarations.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from scorefold_registry.plugins.discovery import discover

ROOT = Path(__file__).parent.parent
FILE = ROOT / "registry/src/scorefold_registry/plugins/known.json"


def known() -> list[dict[str, Any]]:
    """One entry a plugin of the repository, in the order of their names."""
    files = [*sorted(ROOT.glob("plugins/*/pyproject.toml")), ROOT / "verbs/pyproject.toml"]
    projects = [tomllib.loads(file.read_text())["project"] for file in files]
    records = {record.distribution: record for record in discover(allow=[item["name"] for item in projects]).plugins}
    written = {entry["distribution"]: entry for entry in json.loads(FILE.read_text())}
    found = []
    for project in projects:
        record = records.get(project["name"])
        if record is None:  # one that is installed only where its build has what it needs
            found.append(written[project["name"]])
            continue
        found.append(
            {
                "name": record.name,
                "distribution": project["name"],
                "summary": project["description"],
                "offers": [f"{item.kind}:{name}" for item in record.components for name in (item.name, *item.aliases)],
                "verbs": sorted({verb.name for verb in record.verbs}),
                "commands": sorted(command.name for command in record.commands),
                "models": sorted(model.name for model in record.models),
            }
        )
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(known(), indent=1) + "\n")
