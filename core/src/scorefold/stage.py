"""Objects that pass between the pipeline and the code of stages: contexts, outcomes, executors, and their jobs.

A verb of a plugin takes a component, its inputs, its options and a context, and gives an outcome:

>>> def count(component, inputs, options, context):
...     rows = len(inputs["data"].load(context.split or "train"))
...     return Outcome(rows, {"metrics": {"rows": rows}, "answer": {"quantity": "rows", "value": rows}})

Hooks see the run and its stages:

>>> run = RunInfo("digits", Path("runs/digits/now"), seed=0, config={})
>>> stage = StageInfo("score", "score:denoising@1", "fit", key="0f3a")
>>> f"{run.name}: {stage.name} is {stage.verb} of {stage.component}"
'digits: score is fit of score:denoising@1'

A figure of a training gets what was trained, and an executor runs jobs by the names of their functions:

>>> import torch
>>> Fitted(report=None, model=torch.nn.Linear(2, 2), events=torch.zeros(5, 2)).events.shape
torch.Size([5, 2])
>>> class Here(Executor):
...     def map(self, target, items, key):
...         module, _, name = target.partition(":")
...         return [getattr(__import__(module), name)(item) for item in items]
>>> Here().map("math:sqrt", [4.0, 9.0], "roots")
[2.0, 3.0]
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.errors import JobError, PluginError
from scorefold.seeds import derive_generator, derive_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from scorefold.config import Config
    from scorefold.data import Condition

Show = Callable[[int, int, str], None]
_show: ContextVar[Show] = ContextVar("show", default=lambda done, total, text: None)


@contextmanager
def showing(show: Show) -> Iterator[None]:
    """Within it ``report`` calls ``show(done, total, text)``; around a stage that is its progress bar."""
    before = _show.set(show)
    try:
        yield
    finally:
        _show.reset(before)


def report(done: int, total: int, text: str) -> None:
    """Say how much is done, from inside any code; nothing happens where nobody shows it."""
    _show.get()(done, total, text)


def reported(items: Iterable[Any], total: int, text: str, size: int = 1) -> Iterator[Any]:
    """The items of a loop, each ``size`` of ``total``, with a report after each; one from inside is a share of it."""
    outside, done = _show.get(), 0
    with showing(lambda step, steps, _: outside(done + min(size, total - done) * step // steps, total, text)):
        for item in items:
            yield item
            outside(done := min(total, done + size), total, text)


class Executor(ABC):
    """Runs the jobs inside a stage, or the runs of a sweep: in this process, in several, or on a cluster.

    Answers are the same bit by bit wherever a job is done: each is computed with as many threads as there would be in
    this process (``scorefold.stage`` has what that takes). ``parallel`` says that jobs run beside one another: where
    they don't, a caller may as well do the work itself, and show how it goes.
    """

    parallel: bool = True

    @abstractmethod
    def map(self, target: str, items: Iterable[Any], key: str) -> list[Any]:
        """``target`` (``module:function``) applied to each item, in order; ``key`` names the jobs in reports.

        Items and answers pass through pickle. Raises the error of the first job that fails, ``WorkerError`` where its
        worker ends, and ``JobError`` where an item or an answer can't be sent.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what was started; whoever asked for the executor calls this once, well or not."""


@dataclass(frozen=True)
class RunInfo:
    """A run: its name, its folder, its root seed and its resolved configuration.

    ``plugins`` holds the settings of each plugin that the run file names under ``plugins``, by the plugin's name.
    """

    name: str
    folder: Path
    seed: int
    config: Mapping[str, Any]
    plugins: Mapping[str, Config] = field(default_factory=dict)


@dataclass(frozen=True)
class StageInfo:
    """A stage of a run: its name, the component (``kind:name@revision``), the verb, and its place in the run file."""

    name: str
    component: str
    verb: str
    key: str
    config: Mapping[str, Any] = field(default_factory=dict)
    line: int | None = None
    column: int | None = None


@dataclass
class StageContext:
    """Context that a verb gets with its component, inputs and options.

    ``seed_root`` and ``stage`` give the seeds; ``split`` is the split the user chose, or None for the verb's own;
    ``checkpoint_dir`` is a folder that survives an interruption; ``metrics(step, values)`` reports numbers;
    ``progress`` is what ``report`` calls; ``warn(text)`` shows a warning at once. ``together(target, item)`` has other
    processes of torchrun do ``module:function`` while its block runs here, or is None; ``parallel`` is how they train.

    >>> StageContext("score", seed_root=7).seed("noise") == derive_seed(7, "score", "noise")
    True
    """

    stage: str
    seed_root: int = 0
    split: str | None = None
    device: torch.device | str = "cpu"
    dtype: torch.dtype | None = None
    precision: str = "no"
    parallel: str = "ddp"
    together: Callable[[str, Any], AbstractContextManager[None]] | None = None
    checkpoint_dir: Path | None = None
    executor: Executor | None = None
    metrics: Callable[[int, Mapping[str, float]], None] = lambda step, values: None
    progress: Show = lambda done, total, text: None
    warn: Callable[[str], None] = lambda text: None

    def seed(self, purpose: str) -> int:
        """The seed of one purpose in this stage."""
        return derive_seed(self.seed_root, self.stage, purpose)

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator for one purpose in this stage."""
        return derive_generator(self.seed_root, self.stage, purpose, device=device)


@dataclass(frozen=True)
class Fitted:
    """A trained component, for figures: its ``report`` (of ``fit``), the ``model``, and some of its ``events`` (n, *E)
    with their ``condition`` where the data have one. What figures draw of a training that was none is ``{}``."""

    report: Any
    model: Any
    events: Tensor
    condition: Condition | None = None


@dataclass
class Outcome:
    """Outcome of a verb.

    ``value`` is handed to later stages; ``result`` is JSON for ``result.json`` (its ``metrics`` entry, a flat mapping
    of names to numbers, is shown in the report and in ``run --json``); ``arrays`` go to ``arrays.safetensors`` and
    ``texts`` (by file name, such as ``curve.csv``) to files beside it; ``shown`` is what the figures draw, where it
    isn't the value (the history of a training, not the model).

    The result's ``answer`` entry, which ``scorefold compare`` reads, is the one number that the stage is about: a
    mapping of ``quantity`` (what it is, with its unit), ``value`` (None where there is none) and, where they are known,
    ``interval`` (95 %), ``truth`` and ``reading``, what to compare it with in a few words: the stage's sentence. Its
    ``warnings`` entry lists warnings, a sentence each, about what the stage did, for report and terminal.
    """

    value: Any
    result: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    shown: Any = None

    @property
    def drawn(self) -> Any:
        """Argument of figure functions."""
        return self.value if self.shown is None else self.shown


def job_function(target: str) -> Callable[[Any], Any]:
    """The function that ``module:function`` names. Raises ``PluginError`` for one that does not exist."""
    module, _, name = target.partition(":")
    try:
        function: Callable[[Any], Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"there is no job {target!r}: {error}", hint="name a function as module:function") from error
    return function


def pack(value: Any, what: str) -> bytes:
    """A value as it is sent; ``what`` names it in the ``JobError`` raised for one that can't be pickled. Tensors are
    copied: sharing their memory, as torch's own queues do, would tie it to the process that made them.
    """
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        hint = "jobs take and return plain data, tensors and objects of importable classes"
        raise JobError(f"{what} can't be sent to another process: {error}", hint=hint) from error


def unpack(packed: bytes) -> Any:
    """Unpack an object that a process of this program packed."""
    return pickle.loads(packed)


def perform(target: str, packed: bytes, threads: int | None) -> bytes:
    """Do one job in a worker: ``target`` on a packed item, with so many torch threads (None leaves them); packed.
    Raises the job's own error, or a ``JobError`` with its words where the error itself can't be sent.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return pack(job_function(target)(unpack(packed)), f"the answer of {target}")
    except Exception as error:
        try:
            unpack(pickle.dumps(error))
        except Exception:
            raise JobError(f"{target} failed: {type(error).__name__}: {error}") from None
        raise
    finally:
        torch.set_num_threads(before)
