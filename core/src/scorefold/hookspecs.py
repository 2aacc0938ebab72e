"""The hooks of a plugin. Mark an implementation with ``scorefold.plugin.hookimpl``; implement any subset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scorefold.plugin import Capability, Claim, Component, Kind, Model, Verb, hookspec

if TYPE_CHECKING:
    from scorefold.stage import Executor, Outcome, RunInfo, StageInfo


# Registration: called once, while plugins are listed. Import nothing heavy.


@hookspec
def scorefold_components() -> Iterable[Component]:
    """The components that this plugin offers."""
    raise NotImplementedError


@hookspec
def scorefold_kinds() -> Iterable[Kind]:
    """New kinds of component, each with its interface and its verbs."""
    raise NotImplementedError


@hookspec
def scorefold_capabilities() -> Iterable[Capability]:
    """New capabilities, which components of any kind may provide and ports and verbs may need."""
    raise NotImplementedError


@hookspec
def scorefold_verbs() -> Iterable[Verb]:
    """New verbs for kinds that others declare, core's included: each names them in ``kinds``."""
    raise NotImplementedError


@hookspec
def scorefold_claims() -> Iterable[Claim]:
    """Results that ``scorefold reproduce`` can measure again."""
    raise NotImplementedError


@hookspec
def scorefold_models() -> Iterable[Model]:
    """Trained models that come with this plugin, as ``scorefold push`` wrote them."""
    raise NotImplementedError


@hookspec
def scorefold_commands(register: Callable[..., None]) -> None:
    """Add commands: ``register(name, target, summary)``, with target ``module:function`` called with the arguments."""


@hookspec
def scorefold_settings() -> str:
    """The plugin's own settings, ``module:Model``: a ``scorefold.config.Config`` with a default for every field. A run
    file gives them under ``plugins``, by the plugin's name; hooks find them in ``run.plugins``.
    """
    raise NotImplementedError


# Lifecycle: observers. One that fails is recorded in the run and never stops it or hides another.


@hookspec
def scorefold_before_run(run: RunInfo) -> None:
    """A run is about to start; its folder exists."""


@hookspec
def scorefold_before_stage(run: RunInfo, stage: StageInfo, inputs: Mapping[str, Any]) -> None:
    """A stage is about to run (not called when it is reused)."""


@hookspec
def scorefold_after_stage(run: RunInfo, stage: StageInfo, outputs: Outcome, seconds: float) -> None:
    """A stage has ended well; ``seconds`` is wall time."""


@hookspec
def scorefold_on_stage_error(run: RunInfo, stage: StageInfo, error: BaseException) -> None:
    """A stage has failed; the run ends after this."""


@hookspec
def scorefold_on_metrics(run: RunInfo, stage: StageInfo, step: int, metrics: Mapping[str, float]) -> None:
    """A stage has reported metrics, such as a training loss."""


@hookspec
def scorefold_after_run(run: RunInfo, result: Mapping[str, Any]) -> None:
    """A run has ended; ``result`` is what ``scorefold run --json`` prints."""


@hookspec
def scorefold_on_run_error(run: RunInfo, state: str, error: BaseException) -> None:
    """A run has ended early; ``state`` is ``failed`` or ``interrupted`` (by Ctrl-C), and the error says where."""


@hookspec
def scorefold_report_sections(run: RunInfo) -> Iterable[tuple[str, str]]:
    """Sections to add to ``report.html``: pairs of a title and HTML, of which text, tables, links and images stay."""
    raise NotImplementedError


# Execution: the first answer that is not None wins.


@hookspec(firstresult=True)
def scorefold_run_stage(run: RunInfo, stage: StageInfo, inputs: Mapping[str, Any]) -> Outcome | None:
    """Run a stage and return its outcome. The local default is the last to be asked; a profiler wraps it."""


@hookspec(firstresult=True)
def scorefold_executor(run: RunInfo) -> Executor | None:
    """The executor that serves the jobs inside a stage (a chunk of points, a grid cell) or the points of a sweep."""
