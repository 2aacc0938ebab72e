"""The model card: a README.md whose YAML header the Hub reads, from what a run knows of a stage."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scorefold.artefacts import json_text
from scorefold.errors import ConfigError, PluginError
from scorefold.plugin import Claim
from scorefold_registry.components.manifest import UNKNOWN
from scorefold_registry.components.stage_files import STAGE_FILE, read_result, read_stage
from scorefold_registry.experiments.claims import expected_text
from scorefold_registry.plugins.records import Registered
from scorefold_registry.runfile.citations import citation
from scorefold_registry.runfile.yaml_reader import yaml_text

_OF_THE_MACHINE = ("seconds", "CPU seconds")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{1,60}")


@dataclass(frozen=True)
class Card:
    """Content of a stage's card: ``stage`` is its folder in a run, ``methods`` the components of its state, its own
    first, ``stages`` those that lead to it as the run file has them, and ``notes`` what a reader must know.
    """

    stage: Path
    name: str
    licence: str
    data_licence: str | None
    methods: Sequence[Registered]
    stages: Mapping[str, Any]
    events: tuple[int, ...] | None
    notes: Sequence[str]

    def text(self) -> str:
        """The card as Markdown with its header."""
        own = self.methods[0]
        measured = list(self._measured())
        header = {**self._header(), "model-index": [{"name": self.name, "results": _results(measured)}]}
        if not measured:
            del header["model-index"]
        parts = [
            f"---\n{yaml_text(header)}---\n\n# {self.name}",
            f"`{own.id}`: {own.component.summary}. {self._made()}",
            _USE.format(folder=self.name, kind=own.component.kind, verb=_verb(own)),
            "\n".join(["## Data", "", *(_data(name, spec) for name, spec in self._data().items())]),
            _table("## Measured", ["verb", "data", "number", "value"], _rows(measured)),
            self._claims(),
            self._cited(),
            "\n".join(["## Licence", "", *self._licences()]),
            "\n".join(["## Notes", "", *(f"- {note}" for note in self.notes)]) if self.notes else "",
            f"It is the stage `{self._facts['name']}` of `run.yaml`; `scorefold run` computes it again where its data "
            "are.",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _made(self) -> str:
        """Origin of the state: the plugin, the seed of the stage, and its CPU time if known."""
        own, cpu = self.methods[0], self._facts.get("cpu_seconds")
        took = "" if cpu is None else f", in {cpu:.0f} CPU seconds"
        return f"Made with Scorefold ({own.distribution} {own.version}), seed {self._facts['seed']}{took}."

    def _licences(self) -> Iterator[str]:
        yield f"`{self.licence}`" if self.licence != UNKNOWN else "These weights have no licence."
        if self.data_licence is not None:
            yield f"The data that they were trained on: `{self.data_licence}`."

    @cached_property
    def _facts(self) -> Mapping[str, Any]:
        return read_stage(self.stage)

    def _header(self) -> dict[str, Any]:
        component = self.methods[0].component
        header: dict[str, Any] = {"license": self.licence, "library_name": "scorefold"}
        if self.data_licence is not None:
            header["data_license"] = self.data_licence
        if component.kind in ("score", "flow") and self.events is not None and len(self.events) == 3:
            header["pipeline_tag"] = "unconditional-image-generation"
        return {**header, "tags": ["scorefold", component.kind, component.name]}

    def _data(self) -> dict[str, Mapping[str, Any]]:
        """The stages of data that lead to it."""
        return {name: spec for name, spec in self.stages.items() if str(spec.get("use", "")).startswith("data:")}

    def _measured(self) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, float]]]:
        """(verb, split, data, numbers) of the stage and of every stage of its run that asks something of it."""
        own = self._facts["name"]
        for file in sorted(self.stage.parent.glob(f"*/{STAGE_FILE}")):
            facts = read_stage(file.parent)
            if own not in (facts["name"], facts["source"]):
                continue
            resolved = facts["resolved"]
            on = resolved.get("inputs", {}).get("data")
            numbers = {
                name: float(value)
                for name, value in read_result(file.parent)["metrics"].items()
                if name not in _OF_THE_MACHINE and isinstance(value, int | float) and math.isfinite(value)
            }
            if numbers:
                data = self.stages.get(on, {}) if isinstance(on, str) else {}
                split = resolved.get("split") or ("train" if facts["verb"] == "fit" else "test")
                yield facts["verb"], str(split), {"name": on, **data}, numbers

    def _claims(self) -> str:
        """Gates among the plugin's claims."""
        record = self.methods[0].record
        claims: list[Claim] = [claim for claim in record.claims if claim.role == "gate"]
        if not claims:
            return ""
        rows = [[claim.name, claim.statement, expected_text(claim), claim.source] for claim in claims]
        about = f"Of the method, not of these weights. `scorefold reproduce {record.name}` measures them again."
        return _table("## Claims", ["claim", "statement", "expected", "source"], rows, about)

    def _cited(self) -> str:
        entries: dict[str, str] = {}
        for item in self.methods:
            try:
                entries.update(citation(item))
            except PluginError:  # `scorefold plugins doctor` reports it
                continue
        return "\n".join(["## Citation", "", "```bibtex", *entries.values(), "```"]) if entries else ""


_USE = """## Use

```yaml
stages:
  model: {{load: {folder}}}   # after: scorefold pull REPOSITORY {folder}
```

`scorefold pull` checks that the folder holds nothing but numbers and JSON, and that its plugins are installed.
From Python: `scorefold.pull("REPOSITORY")` gives the stage{verb}."""


def _verb(own: Registered) -> str:
    return ", and `sample(model, n=16)` samples of it" if own.component.kind in ("score", "flow") else ""


def check_licence(text: str) -> str:
    """The licence as the Hub writes it. Raises ``ConfigError`` for what is no identifier.

    >>> check_licence("cc-by-4.0")
    'cc-by-4.0'
    """
    if not _LICENCE.fullmatch(text):
        raise ConfigError(
            f"the licence is {text!r:.80}; expected an identifier as the Hub has them",
            hint="for example mit, apache-2.0, cc-by-4.0 or cc-by-nc-4.0",
        )
    return text


def _data(name: str, spec: Mapping[str, Any]) -> str:
    given = {key: value for key, value in spec.get("config", {}).items() if value is not None}
    return f"- `{name}`: `{spec['use'].partition('@')[0]}`, `{json_text(given)}`"


def _results(measured: Sequence[tuple[str, str, Mapping[str, Any], Mapping[str, float]]]) -> list[dict[str, Any]]:
    """The results of a model-index."""
    return [
        {
            "task": {"type": "other", "name": verb},
            "dataset": {
                "type": str(data.get("use", "other")).partition("@")[0].partition(":")[2] or "other",
                "name": str(data["name"] or "none"),
                "split": split,
            },
            "metrics": [{"type": name, "name": name, "value": value} for name, value in numbers.items()],
        }
        for verb, split, data, numbers in measured
    ]


def _rows(measured: Sequence[tuple[str, str, Mapping[str, Any], Mapping[str, float]]]) -> list[list[str]]:
    return [
        [verb, f"{data['name'] or ''} {split}".strip(), name, f"{value:.6g}"]
        for verb, split, data, numbers in measured
        for name, value in numbers.items()
    ]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], about: str = "") -> str:
    if not rows:
        return ""
    # A cell that ends early, or a line that breaks, would be another row's.
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows]
    lines = [title, "", *([about, ""] if about else []), f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells)])
