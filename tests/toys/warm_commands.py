"""The command, or a script, in processes of their own that start at once, forked from one that has imported what a
run imports.

That one has trained nothing: torch does not go on in what is forked from a process that has, where there are GPUs.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from scorefold_registry.cli.main import main

os.fsync = lambda file: None  # as in the process of the tests

# torch renews its pool of threads at the first call in what is forked, and two threads at once spoil that.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(torch.get_num_threads()))

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "warm_commands",
        "scorefold_registry.run.pipeline",
        "scorefold_verbs.fit",
        "scorefold_verbs.estimate",
        "scorefold_standard.scores",
        "scorefold_standard.coupling_flows",
        "matplotlib.backends.backend_agg",
        "matplotlib.backends.backend_svg",
        "mpl_toolkits.mplot3d",
        "torch.distributed.fsdp",
        "torch._dynamo",
        "sklearn.neighbors",
    ]
)


class Command:
    """One that was started, with what ``subprocess.Popen`` has of it."""

    def __init__(
        self, arguments: tuple[str, ...], folder: Path, variables: Mapping[str, str], script: Path | None = None
    ) -> None:
        """``scorefold`` with these arguments in a folder, or a Python file in its place, with these variables alone."""
        self._printed = [Path(tempfile.mkdtemp(dir=folder)) / name for name in ("out", "err")]
        self._process = FORKS.Process(target=_perform, args=(arguments, folder, self._printed, dict(variables), script))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        if self.returncode is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it printed on both streams, once it has ended. Raises ``TimeoutExpired``, as of a subprocess."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("scorefold", timeout or 0)
        out, err = (path.read_text() if path.exists() else "" for path in self._printed)
        return out, err


def _perform(
    arguments: tuple[str, ...], folder: Path, printed: list[Path], variables: dict[str, str], script: Path | None
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate(printed, start=1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = [str(script or "scorefold"), *arguments]
    if script is None:
        sys.exit(main())
    runpy.run_path(str(script), run_name="__main__")
