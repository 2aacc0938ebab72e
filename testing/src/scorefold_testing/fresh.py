"""A process that knows nothing of this one: it loads saved states and uses them, one after another.

It starts once and serves every component, because importing torch costs more than all that is asked of it.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.artefacts import load_arrays, save_arrays
from scorefold_testing.answers import answers_of
from scorefold_testing.contract import ViolationError
from scorefold_testing.process import started_in
from scorefold_testing.verb import StageCall, answers_in


def fresh_answers(
    origin: str, state: Path, kind: str, inputs: Mapping[str, Tensor], seed: int, plan: StageCall | None = None
) -> dict[str, Tensor]:
    """Answers of a saved object to inputs, or in a planned stage, after loading it in a fresh process.

    ``origin`` is ``module:function`` giving the host there; the answers are drawn from a generator of ``seed``. Raises
    ``ViolationError`` where loading or using it fails there.
    """
    process = _process(origin)
    given, found = state.with_name("inputs.safetensors"), state.with_name("answers.safetensors")
    save_arrays(given, {name: value.contiguous() for name, value in inputs.items()})
    request = {"state": str(state), "kind": kind, "inputs": str(given), "answers": str(found), "seed": seed}
    dtype = str(torch.get_default_dtype()).removeprefix("torch.")
    shared = {"threads": torch.get_num_threads(), "dtype": dtype, "gradients": torch.is_grad_enabled()}
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({**request, **shared, "plan": None if plan is None else asdict(plan)}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        _end_all()
        raise ViolationError("the fresh process ended before it answered; expected an answer")
    answer = json.loads(line)
    if "error" in answer:
        raise ViolationError(f"in a fresh process it ended in {answer['error']}; expected an answer")
    return load_arrays(found)


_RUNNING: dict[tuple[str, ...], subprocess.Popen[str]] = {}
"""The process that runs, by the origin of its host, its folder and the paths it imports from."""


def _process(origin: str) -> subprocess.Popen[str]:
    """The process that serves this origin on today's paths; one for other paths ends."""
    paths = [path for path in sys.path if path]
    key = (origin, started_in(), *paths)
    if key not in _RUNNING:
        _end_all()
        code = f"import sys; sys.path[:0] = {paths!r}; from scorefold_testing.fresh import serve; serve({origin!r})"
        _RUNNING[key] = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=started_in(),
        )
    return _RUNNING[key]


@atexit.register
def _end_all() -> None:
    while _RUNNING:
        _end(_RUNNING.popitem()[1])


def _end(process: subprocess.Popen[str]) -> None:
    """The process ends by itself when nothing more can be asked of it."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.wait()


def serve(origin: str) -> None:
    """Answers requests, one JSON object a line, until there are no more."""
    # What a component prints must not stand among the answers.
    replies, sys.stdout = sys.stdout, sys.stderr
    host = _host(origin)
    for line in sys.stdin:
        try:
            _answer(host, json.loads(line))
            reply = {}
        except (Exception, SystemExit) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def _host(origin: str) -> Any:
    module, _, path = origin.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found()


def _answer(host: Any, request: Mapping[str, Any]) -> None:
    torch.set_num_threads(request["threads"])
    torch.set_grad_enabled(request["gradients"])
    torch.set_default_dtype(getattr(torch, request["dtype"]))
    obj = host.load(request["state"])
    if isinstance(obj, torch.nn.Module):
        obj.eval()
    generator = torch.Generator().manual_seed(request["seed"])
    # Copied, because tensors of a file may lie in memory as no others do, and kernels round by alignment.
    inputs = {name: value.clone() for name, value in load_arrays(Path(request["inputs"])).items()}
    if request["plan"] is None:
        answers = answers_of(request["kind"], obj, inputs, generator)
    else:
        answers = answers_in(StageCall(**request["plan"]), host, obj)
    save_arrays(Path(request["answers"]), {name: value.contiguous() for name, value in answers.items()})
