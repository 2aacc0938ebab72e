"""Components of this plugin: a Dask cluster for the jobs of runs and sweeps that name it under ``plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scorefold.plugin import hookimpl

if TYPE_CHECKING:
    from scorefold.stage import Executor, RunInfo
    from scorefold_dask.config import DaskConfig

__plugin_api__ = "1.0"

_NAME = "dask"


@hookimpl
def scorefold_settings() -> str:
    return "scorefold_dask.config:DaskConfig"


@hookimpl
def scorefold_executor(run: RunInfo) -> Executor | None:
    if _NAME not in run.plugins:
        return None
    import torch

    from scorefold_dask.executor import DaskExecutor

    settings: DaskConfig = run.plugins[_NAME]  # type: ignore[assignment]
    return DaskExecutor(settings, torch.get_num_threads())
