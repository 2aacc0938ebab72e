"""A plugin that does harm inside a stage: a table of attacks, each a function of what an estimator gets.

``estimator:attacker`` does what its config names, and then answers 1. No other stage and no cache may notice.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from scorefold import data as core_data
from scorefold import interfaces, results, seeds
from scorefold.config import Config
from scorefold.errors import DataError
from scorefold.interfaces import Estimator
from scorefold.plugin import Component, Port, hookimpl
from scorefold.results import Estimate

__plugin_api__ = "1.0"

Act = Callable[[Any], Any]


class AttackConfig(Config):
    attack: str


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield Component(
        "estimator",
        "attacker",
        "attacker:Attacker",
        "attacker:AttackConfig",
        "Does harm",
        requires=(Port("score", kind="score"),),
    )


@dataclass
class Answer:
    """What the estimator gives in place of an answer."""

    given: Any


class Attacker(Estimator):
    def __init__(self, config: AttackConfig, *, score: Any) -> None:
        self._model, self._attack = score, (ATTACKS | ENDING)[config.attack]

    def estimate(self, data: Any, *, generator: Any = None) -> Any:
        (folder,) = Path("runs/attacked").resolve().glob("*.partial")
        got = SimpleNamespace(data=data, score=self._model, folder=folder, cache=Path(".scorefold/cache").resolve())
        answer = self._attack(got)
        return answer.given if isinstance(answer, Answer) else Estimate("intrinsic dimension", 1.0)


def _set(holder: Any, name: str, value: Any) -> None:
    """Replace what others use, and say so."""
    setattr(holder, name, value)


def _other(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _zeros(*given: Any, **named: Any) -> Any:
    return torch.zeros(())


def _wrong(*given: Any, **named: Any) -> Any:
    return 25.0


def _memory(got: Any) -> None:
    """The images in memory that the data of all stages are mapped from."""
    for link in Path("/proc/self/fd").iterdir():
        try:
            if "scorefold-data" in os.readlink(link):
                with open(link, "r+b") as file:
                    size = file.seek(0, 2)
                    file.seek(size // 4)
                    file.write(bytes(size // 2))
        except OSError:
            continue


def _cut_memory(got: Any) -> None:
    for link in Path("/proc/self/fd").iterdir():
        try:
            if "scorefold-data" in os.readlink(link):
                os.truncate(link, 10)
        except OSError:
            continue


def _same_size_and_time(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file in place, and give it its times again."""
    about = file.stat()
    content = file.read_bytes()
    with file.open("r+b") as opened:
        opened.write(change(content))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def _weights(content: bytes) -> bytes:
    return content[:-8] + bytes(8)


def _later(act: Callable[[], Any]) -> None:
    """In a thread that outlives the stage."""

    def work() -> None:
        for _ in range(200):
            time.sleep(0.001)
            try:
                act()
            except Exception:
                continue

    threading.Thread(target=work, daemon=True).start()


def _scribble(got: Any) -> None:
    x = got.data.x
    _later(lambda: x.fill_(25.0))


class Liar(float):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "25.0"


class SilentError(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class LoopedError(Exception):
    def __init__(self) -> None:
        super().__init__("looped")
        self.__cause__ = self


def _raise(error: BaseException) -> Act:
    def act(got: Any) -> Any:
        raise error

    return act


def _recursion(got: Any) -> Any:
    return _recursion(got)


def _cyclic() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["itself"] = found
    return found


def _pointwise(value: Any) -> Act:
    return lambda got: Answer(Estimate("intrinsic dimension", 1.0, pointwise=value))


def _said(**diagnostics: Any) -> Act:
    return lambda got: Answer(Estimate("intrinsic dimension", 1.0, diagnostics=diagnostics))


def _forged(got: Any) -> Any:
    """Code that says it stands in another plugin."""
    source = "def act():\n    raise ValueError('not mine')\n"
    space: dict[str, Any] = {"__name__": "scorefold_tiny.parts"}
    exec(compile(source, sys.modules["scorefold_tiny.parts"].__file__ or "", "exec"), space)
    space["act"]()


def _wrong_call(got: Any) -> Any:
    """An error in the code of another plugin, by an argument that it can't use."""
    got.score.score(torch.zeros(3, 7), torch.zeros(3))


DATA: dict[str, Act] = {
    "x by .data": lambda got: got.data.x.data.fill_(25.0),
    "x by ctypes": lambda got: ctypes.memset(got.data.x.data_ptr(), 1, 8 * len(got.data.x)),
    "x sorted through numpy": lambda got: got.data.x.numpy().sort(axis=0),
    "x as bytes": lambda got: got.data.x.view(torch.uint8).random_(),
    "x of no bytes": lambda got: got.data.x.untyped_storage().resize_(0),
    "x of another storage": lambda got: got.data.x.set_(torch.zeros(7, 7)),
    "x swapped": lambda got: torch.utils.swap_tensors(got.data.x, torch.zeros(3)),
    "x with gradients": lambda got: got.data.x.requires_grad_(True),
    "x in shared memory": lambda got: got.data.x.share_memory_(),
    "x transposed": lambda got: got.data.x.t_(),
    "x of another class": lambda got: setattr(got.data.x, "__class__", nn.Parameter),
    "another x": lambda got: object.__setattr__(got.data, "x", torch.zeros(3, 3)),
    "other fields": lambda got: vars(got.data).update(index=torch.zeros(20), label=torch.ones(20), condition=3),
    "no fields": lambda got: vars(got.data).clear(),
    "index": lambda got: got.data.index.copy_(got.data.index.flip(0)),
    "truth": lambda got: got.data.truth.update(dimension=25),
    "truth of another class": lambda got: object.__setattr__(got.data, "truth", _cyclic()),
    "images in memory": _memory,
    "images in memory cut": _cut_memory,
    "x in a thread, later": _scribble,
}
"""On its data."""

MODEL: dict[str, Act] = {
    "weights set": lambda got: [
        p.set_(torch.zeros_like(p)) for p in list(got.score.parameters()) if p.data is not None
    ],
    "weights by ctypes": lambda got: [ctypes.memset(p.data_ptr(), 0, 4) for p in got.score.parameters()],
    "a hook": lambda got: got.score.net.register_forward_hook(lambda module, given, out: 2 * out),
    "a hook before": lambda got: got.score.net.register_forward_pre_hook(lambda module, given: (0 * given[0],)),
    "a parameter more": lambda got: got.score.register_parameter("more", nn.Parameter(torch.zeros(3))),
    "a buffer more": lambda got: got.score.register_buffer("more", torch.zeros(3)),
    "no gradients": lambda got: got.score.requires_grad_(False),
    "gradients": lambda got: got.score.score(torch.ones(3, 2), torch.ones(3)).sum().backward(),
    "the process": lambda got: vars(got.score.process).update(sigma_max=50.0, _sigma_max=50.0),
    "the network's class": lambda got: setattr(got.score.net, "__class__", nn.Identity),
    "its process": lambda got: object.__setattr__(got.score, "process", None),
    "its shape": lambda got: object.__setattr__(got.score, "event_shape", (3,)),
}
"""On its model."""

PATCHES: dict[str, Act] = {
    "another plugin's estimator": lambda got: _set(_other("scorefold_tiny.parts", "Mean"), "estimate", _wrong),
    "another plugin's network": lambda got: _set(_other("scorefold_tiny.parts", "Net"), "build", _zeros),
    "another plugin's score": lambda got: _set(
        _other("scorefold_tiny.parts", "Model"), "score", lambda s, x, t, c=None: x
    ),
    "another plugin's class": lambda got: _set(sys.modules["scorefold_tiny.parts"], "Mean", Attacker),
    "another plugin's constructor": lambda got: _set(
        _other("scorefold_tiny.parts", "Mean"), "__init__", lambda self, config: setattr(self, "_scale", 25.0)
    ),
    "a base class of core": lambda got: _set(interfaces.DataSource, "splits", _wrong),
    "a data set of core": lambda got: _set(core_data.Dataset, "tensor", lambda self: torch.zeros(3, 3)),
    "an estimate of core": lambda got: _set(
        results.Estimate, "__init__", lambda self, *given, **named: vars(self).update(value=25.0)
    ),
    "seeds of core": lambda got: _set(seeds, "derive_seed", lambda *given: 0),
    "a verb": lambda got: _set(sys.modules["scorefold_verbs.estimate"], "estimate", _wrong),
    "how stages are written": lambda got: _set(sys.modules["scorefold_registry.run.execution"], "write_stage", _wrong),
    "code of a function": lambda got: _set(
        _other("scorefold_tiny.parts", "Mean").estimate,
        "__code__",
        (lambda self, data, *, generator=None: 25.0).__code__,
    ),
    "defaults of a function": lambda got: _set(
        _other("scorefold.seeds", "derive_generator"), "__kwdefaults__", {"device": "meta"}
    ),
    "torch's mean": lambda got: _set(torch.Tensor, "mean", _wrong),
    "torch's linear": lambda got: _set(nn.Linear, "forward", lambda self, x: 0 * x),
    "torch's functions": lambda got: _set(torch, "randn", _zeros),
    "torch's linear function": lambda got: _set(nn.functional, "linear", lambda x, w, b=None: x @ w.T * 0),
    "numpy's functions": lambda got: _set(np, "mean", _wrong),
    "float": lambda got: _set(builtins, "float", _wrong),
    "json": lambda got: _set(json, "loads", _wrong),
    "hooks of all modules": lambda got: nn.modules.module.register_module_forward_hook(
        lambda module, given, out: 2 * out
    ),
    "what a class of core inherits": lambda got: _set(interfaces.Estimator, "__init_subclass__", classmethod(_wrong)),
}
"""On what other code is made of."""

PROCESS: dict[str, Act] = {
    "seeds": lambda got: (torch.manual_seed(0), np.random.seed(0), random.seed(0)),
    "threads": lambda got: torch.set_num_threads(3),
    "anomalies": lambda got: torch.autograd.set_detect_anomaly(True),
    "mkldnn": lambda got: _set(torch.backends.mkldnn, "enabled", False),
    "recursion": lambda got: sys.setrecursionlimit(len_of_stack() + 40),
    "umask": lambda got: os.umask(0o777),
    "the environment": lambda got: os.environ.clear(),
    "where temporary files go": lambda got: (
        _set(tempfile, "tempdir", "/nowhere"),
        os.environ.update(TMPDIR="/nowhere"),
    ),
    "the home": lambda got: os.environ.update(HOME="/nowhere", SCOREFOLD_CACHE="/nowhere", SCOREFOLD_RUNS="/nowhere"),
    "the path": lambda got: sys.path.clear(),
    "importing": lambda got: (sys.meta_path.clear(), sys.path_hooks.clear(), importlib.invalidate_caches()),
    "modules": lambda got: [sys.modules.pop(name) for name in list(sys.modules) if name.startswith("scorefold_tiny")],
    "another module": lambda got: sys.modules.update({"scorefold_tiny.parts": sys.modules["attacker"]}),
    "no standard output": lambda got: (_set(sys, "stdout", None), _set(sys, "stderr", None)),
    "closed standard output": lambda got: _set(sys, "stdout", _closed()),
    "Ctrl-C": lambda got: signal.signal(signal.SIGINT, signal.SIG_IGN),
    "an alarm": lambda got: (signal.signal(signal.SIGALRM, _rings), signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)),
    "a trace": lambda got: sys.settrace(lambda *given: 1 / 0),
    "a profile": lambda got: sys.setprofile(lambda *given: None),
    "warnings are errors": lambda got: warnings.filterwarnings("error", category=UserWarning),
    "the folder is gone": lambda got: (Path("gone").mkdir(), os.chdir("gone"), os.rmdir("../gone")),
}
"""On the process."""


def len_of_stack() -> int:
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1  # type: ignore[assignment]
    return count


def _closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def _rings(*given: Any) -> None:
    raise ValueError("the alarm of the attacker")


FILES: dict[str, Act] = {
    "weights, times as before": lambda got: _same_size_and_time(next(got.folder.glob("score/*.safetensors")), _weights),
    "a result, times as before": lambda got: _same_size_and_time(
        got.folder / "data/result.json", lambda text: text.replace(b"2", b"7").replace(b"3", b"8")
    ),
    "weights in the cache": lambda got: [
        _same_size_and_time(file, _weights) for file in got.cache.glob("*/*.safetensors")
    ],
    "weights here and in the cache": lambda got: [
        _same_size_and_time(file, _weights)
        for file in (*got.folder.glob("score/*.safetensors"), *got.cache.glob("*/*.safetensors"))
    ],
    "a file more": lambda got: (got.folder / "data/more.json").write_text("{}"),
    "a stage that is to come": lambda got: (got.folder / "mean").mkdir(),
    "a file where a stage is to come": lambda got: (got.folder / "mean").write_text(""),
    "a link for a stage": lambda got: (
        (got.folder / "score").rename(got.folder / "moved"),
        (got.folder / "score").symlink_to(got.folder / "moved"),
    ),
    "no rights": lambda got: [file.chmod(0) for file in got.folder.glob("data/*.json")],
    "no cache": lambda got: shutil.rmtree(got.cache),
    "no digests": lambda got: shutil.rmtree(got.cache / "digests"),
    "results of other keys": lambda got: _swapped(got.cache),
    "no story": lambda got: (got.folder / "events.jsonl").unlink(),
    "no state": lambda got: (got.folder / "status.json").write_text("[]"),
    "no run": lambda got: shutil.rmtree(got.folder),
}
"""On files."""


def _swapped(cache: Path) -> None:
    one, other = sorted(path for path in cache.iterdir() if len(path.name) == 40)[:2]
    one.rename(cache / "spare")
    other.rename(one)
    (cache / "spare").rename(other)


ANSWERS: dict[str, Act] = {
    "a text": lambda got: Answer("twenty-five"),
    "a tensor": lambda got: Answer(torch.ones(3)),
    "nothing": lambda got: Answer(None),
    "a value that is a tensor": lambda got: Answer(Estimate("intrinsic dimension", torch.ones(2))),
    "a value that lies": lambda got: Answer(Estimate("intrinsic dimension", Liar(1.0))),
    "points of another number": _pointwise(torch.ones(3)),
    "points of two dimensions": _pointwise(torch.ones(20, 2)),
    "points that are text": _pointwise("many"),
    "points of complex numbers": _pointwise(torch.ones(20, dtype=torch.complex64)),
    "a cycle": _said(note=_cyclic()),
    "what is no JSON": _said(note=object(), other={3: {4}}),
    "half a letter": _said(note="\ud800", warnings=["\udce9"]),
    "warnings that are no texts": _said(warnings=[3, None]),
    "a warning without end": _said(warnings=["x" * 1_000_000]),
    "a warning that acts on the terminal": _said(warnings=["\x1b]0;title\x07\x1b[2J"]),
    "another quantity": lambda got: Answer(Estimate("\n\x1b[2Jplugin 'tiny' failed", 1.0)),
    "no finite number": lambda got: Answer(Estimate("intrinsic dimension", float("nan"), (float("inf"), -1.0))),
}
"""By what it answers."""

ERRORS: dict[str, Act] = {
    "whose text raises": _raise(SilentError()),
    "that causes itself": _raise(LoopedError()),
    "without end": _recursion,
    "as by Ctrl-C": _raise(KeyboardInterrupt()),
    "as at the end": _raise(SystemExit(0)),
    "of a generator": _raise(GeneratorExit()),
    "of an iterator": _raise(StopIteration(3)),
    "of many": _raise(BaseExceptionGroup("many", [KeyboardInterrupt(), ValueError("one")])),
    "as if memory were short": _raise(MemoryError("plugin 'tiny'")),
    "as if the disk were full": _raise(OSError(28, "No space left on device", "/a/file")),
    "in the name of another": _raise(DataError("stage 'mean' failed in plugin 'tiny'", file="a.py", line=3)),
    "of a megabyte": _raise(ValueError("x" * 1_000_000)),
    "that acts on the terminal": _raise(ValueError("\x1b]0;title\x07\x1b[2J")),
    "in forged code": _forged,
    "in another plugin's code": _wrong_call,
    "in the process": lambda got: os._exit(0),
    "in place of an answer": lambda got: Answer(ValueError("no")),
}
"""By errors."""

_ENDING = {
    "data: x of no bytes",
    "data: x swapped",
    "data: no fields",
    "model: weights set",
    "model: weights by ctypes",
    "model: a parameter more",
    "model: a buffer more",
    "patch: a data set of core",
    "patch: an estimate of core",
    "patch: torch's mean",
    "patch: float",
    "process: a trace",
    "process: an alarm",
    "files: weights here and in the cache",
    "files: no run",
    "process: another module",
    "answer: a text",
    "answer: a tensor",
    "answer: nothing",
    "answer: a value that is a tensor",
    "answer: points that are text",
    "answer: a cycle",
    "answer: what is no JSON",
}
"""These end their stage, as all errors do."""

ALONE = {
    "files: weights in the cache",
    "files: no cache",
    "files: no digests",
    "files: results of other keys",
}
"""After these nothing is left to put files back from."""

_ALL: dict[str, Act] = {
    f"{what}: {name}": act
    for what, table in (
        ("data", DATA),
        ("model", MODEL),
        ("patch", PATCHES),
        ("process", PROCESS),
        ("files", FILES),
        ("answer", ANSWERS),
        ("error", ERRORS),
    )
    for name, act in table.items()
}


def observer(hook: str) -> Any:
    """A plugin whose hook does what needs no stage, all of it each time that it is called."""
    chosen = [
        act
        for name, act in _ALL.items()
        if name.startswith(("patch", "process", "files")) and name not in _ENDING | ALONE
    ]

    def attack(run: Any) -> None:
        for act in chosen:
            with suppress(Exception):  # what another attack has left over
                act(SimpleNamespace(folder=run.folder, cache=Path(".scorefold/cache").resolve()))

    return SimpleNamespace(**{hook: hookimpl(attack)})


ENDING = {name: act for name, act in _ALL.items() if name in _ENDING or name.startswith("error")}
ATTACKS = {name: act for name, act in _ALL.items() if name not in ENDING}
