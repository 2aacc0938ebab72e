"""A finished stage as an object in Python: its value, its answer, its figures, and the run file that repeats it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scorefold.artefacts import json_text
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource
from scorefold_registry.components.stage_files import read_result
from scorefold_registry.run.progress import number_text
from scorefold_registry.run.report import figures_of
from scorefold_registry.run.result import RunResult
from scorefold_registry.run.stage_folder import DPI
from scorefold_registry.run.verdicts import Answer, answers, stage_warnings
from scorefold_registry.runfile.reader import VERSION, near
from scorefold_registry.runfile.yaml_reader import yaml_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from scorefold_registry.host import Host


@dataclass(frozen=True)
class RunSetting:
    """Common setting of all stages of a run: the host, the root seed, the ``runtime`` of the run file, and the
    ``folder`` with runs, cache and data.
    """

    host: Host
    folder: Path
    seed: int
    runtime: Mapping[str, Any]

    def run_file(self, stages: Mapping[str, Any]) -> str:
        """The run file of these stages, as text."""
        head: dict[str, Any] = {"version": VERSION, "name": "python", "seed": self.seed}
        if self.runtime:
            head["runtime"] = self.runtime
        # What JSON can hold and YAML's writer does not know: numpy's numbers, tuples, paths.
        return yaml_text(json.loads(json_text(_plain({**head, "stages": dict(stages)}))))


def _plain(value: Any) -> Any:
    """A value with arrays as lists, and text and numbers of classes of their own as what they are."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value


@dataclass(frozen=True, eq=False)
class Stage:
    """A stage that was done, or reused, from Python.

    ``value`` is what it gives: a model, a data source, an estimate. ``specs`` are the stages of a run file that lead to
    it, its own last; ``run`` is the run that did it. ``notes`` say how data were read that nobody settled.
    """

    name: str
    run: RunResult
    setting: RunSetting
    specs: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...] = ()

    @cached_property
    def value(self) -> Any:
        return self.run.value(self.name)

    @property
    def samples(self) -> Tensor:
        """Samples (N, *E) of ``sample`` and other data of the split test, in their order and in the units of the file.

        Raises ``ConfigError`` for a stage that gives no data.
        """
        if not isinstance(self.value, DataSource):
            raise ConfigError(f"stage {self.name!r} gives no samples", hint=f"draw them: sf.sample({self.name}, n=100)")
        return self.value.event_scale.to_raw(self.value.load("test").tensor())

    @property
    def folder(self) -> Path:
        """Folder with its result, arrays and figures."""
        return self.run.folder / self.name

    @property
    def result(self) -> Mapping[str, Any]:
        """Content of ``result.json``: metrics, the answer, warnings."""
        return read_result(self.folder)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Numbers by name."""
        found: Mapping[str, Any] = self.result["metrics"]
        return found

    @property
    def warnings(self) -> list[str]:
        """Warnings of this stage and of its answer, a sentence each."""
        own = [text for _, text in stage_warnings(self.run.folder, self._facts())]
        return list(dict.fromkeys([*self.answer.warnings, *own]))

    @property
    def answer(self) -> Answer:
        """Answer of the stage: the verdict, its certainty, its caveats and the next step."""
        return answers(self.run.folder, self._facts())[0]

    @property
    def verdict(self) -> str:
        """The answer in plain sentences, as ``scorefold run`` and the report print it, with whether to read it with
        caution."""
        return self.answer.said()

    @property
    def run_file(self) -> str:
        """The run file that repeats it: ``scorefold run`` gives the same numbers."""
        return self.setting.run_file(self.specs)

    def plot(self, name: str | None = None, ax: Axes | None = None) -> Figure:
        """One of its figures by name, or the first, as a picture in ``ax`` or in a figure of its own.

        Raises ``ConfigError`` where there is none.
        """
        from matplotlib.figure import Figure
        from matplotlib.image import imread

        drawn = {path.stem: path for path in sorted((self.folder / "figures").glob("*.png"))}
        if not drawn:
            raise ConfigError(f"stage {self.name!r} has no figures", hint="its numbers are in 'metrics' and 'value'")
        if name is not None and name not in drawn:
            raise ConfigError(f"stage {self.name!r} has no figure {name!r}", hint=near(name, list(drawn)))
        image = imread(drawn[name or next(iter(drawn))])
        if ax is None:
            ax = Figure(figsize=(image.shape[1] / DPI, image.shape[0] / DPI), dpi=DPI).add_axes((0, 0, 1, 1))
        ax.imshow(image)
        ax.set_axis_off()
        return ax.get_figure(root=True)  # type: ignore[return-value]

    def __copy__(self) -> Stage:
        return self

    def __reduce__(self) -> NoReturn:
        raise ConfigError(
            f"stage {self.name!r} can't be pickled or copied deeply: it holds the host and its plugins",
            hint="pickle its value (stage.value); or give folder=... to the first call, and load it elsewhere by "
            f"sf.load({str(self.folder)!r})",
        )

    def __repr__(self) -> str:
        if not self.folder.is_dir():
            return f"stage {self.name!r}: {self._component}, whose folder is gone"
        found = self.answer
        lines = [*self.notes, found.said(), *(line for _, line in found.details())]
        lines += [f"caution: {text}" for text in self.warnings if not any(text in line for line in lines)]
        return "\n".join([f"stage {self.name!r}: {self._component}", *(f"  {line}" for line in lines)])

    def _repr_html_(self) -> str:
        """HTML for a notebook: the answer, the metrics and the figures."""
        if not self.folder.is_dir():
            return f"<pre>{escape(repr(self))}</pre>"
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(number_text(value))}</td></tr>"
            for name, value in self.metrics.items()
        )
        pictures = "".join(
            f"<figure><img src='{figure['source']}' alt='{escape(figure['title'])}' style='max-width:100%'>"
            f"<figcaption>{escape(figure['caption'])}</figcaption></figure>"
            for figure in figures_of(self.folder)
        )
        return f"<pre>{escape(repr(self))}</pre><table>{rows}</table>{pictures}"

    @property
    def _component(self) -> str:
        return str(self._facts()[0]["component"]).partition("@")[0]

    def _facts(self) -> list[dict[str, Any]]:
        return [stage for stage in self.run.as_json()["stages"] if stage["name"] == self.name]
