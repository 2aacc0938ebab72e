"""What the stages of a run hand on: kept in memory while it goes on, and read from their folders where it is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold_registry.components.manifest import has_state
from scorefold_registry.components.stage_files import STAGE_FILE
from scorefold_registry.run.stage_folder import load_stage

if TYPE_CHECKING:
    from scorefold_registry.host import Host


@dataclass
class StageValues:
    """By the names of stages, in the folder of a run: ``values`` that were handed on, and what was ``built``."""

    host: Host
    folder: Path
    device: str
    values: dict[str, Any] = field(default_factory=dict)
    built: dict[str, Any] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """What a stage handed on; read from its folder where it was reused."""
        if name not in self.values:
            loaded = load_stage(self.host, self.folder / name, self.device)
            self.values[name] = loaded.value
            if loaded.component is not None:
                self.built[name] = loaded.component
        return self.values[name]

    def component(self, name: str) -> Any:
        """A fresh copy of what a stage's verbs act on: its value where that is a component, or else its component."""
        loaded = load_stage(self.host, self.folder / name, self.device)
        gives, component = loaded.facts["gives"], loaded.facts["component"]
        return (
            loaded.component if gives != component.partition(":")[0] and loaded.component is not None else loaded.value
        )

    def copy(self, name: str) -> Any:
        """The value of a stage that is done, loaded anew. Raises ``KeyError`` for others."""
        folder = self.folder / name
        if not (folder / STAGE_FILE).is_file():
            raise KeyError(name)
        return load_stage(self.host, folder, "cpu").value

    def forget(self, names: Iterable[str]) -> None:
        """Have values that were changed in place read from their folders again."""
        for name in names:
            self.values.pop(name, None)
            self.built.pop(name, None)

    def saved_at(self, name: str, folder: Path) -> None:
        """Give the host the folder of the state of a stage's component, so that others can refer to it."""
        if name in self.built and has_state(folder):
            self.host.moved(self.built[name], folder)
