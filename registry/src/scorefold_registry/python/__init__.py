"""Stages of run files as functions, for Python and notebooks; users find them in ``scorefold``.

Each function does one stage and returns it as a ``Stage``. The stages that it needs are its arguments. The function
writes a run file with all of them and runs it. So checks, seeds, reuse, figures and numbers are the same as with
``scorefold run``. ``stage.run_file`` is the run file.

>>> import scorefold as sf
>>> points = sf.load_data("data:sphere", dimension=2, ambient=5, points=500, progress=False)
>>> dimension = sf.estimate("estimator:mle", points, progress=False)
>>> round(dimension.value.value)
2
"""

from scorefold_registry.run.os_process import settle_threads

settle_threads()  # before torch is imported

from scorefold_registry.python.questions import audit, dimension, geodesics  # noqa: E402
from scorefold_registry.python.stage import Stage  # noqa: E402
from scorefold_registry.python.stages import (  # noqa: E402
    allocate,
    assess,
    compare,
    do,
    estimate,
    evaluate,
    fit,
    interpolate,
    load,
    load_data,
    pull,
    push,
    run,
    sample,
    sweep,
)

__all__ = [
    "Stage",
    "allocate",
    "assess",
    "audit",
    "compare",
    "dimension",
    "do",
    "estimate",
    "evaluate",
    "fit",
    "geodesics",
    "interpolate",
    "load",
    "load_data",
    "pull",
    "push",
    "run",
    "sample",
    "sweep",
]
