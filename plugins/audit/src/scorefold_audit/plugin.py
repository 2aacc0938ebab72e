"""Components of this plugin: the verb ``audit``, its section of the report, and claims about what it finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.plugin import Claim, Port, Verb, hookimpl
from scorefold_toolkit.claims import read_claims

if TYPE_CHECKING:
    from scorefold.stage import RunInfo

__plugin_api__ = "1.0"

_GROUPS = {"use": "data:gaussian-mixture", "config": {"points": 200, "fractions": [0.5, 0, 0.5]}}
_ANALYTIC: Mapping[str, Any] = {"use": "score:analytic", "config": {"points": True}, "inputs": {"data": _GROUPS}}
_QUICK = {
    "n": 60,
    "steps": 8,
    "permutations": 99,
    "quality_points": 60,
    "membership_points": 60,
    "dimension_points": 20,
}


@hookimpl
def scorefold_verbs() -> Iterable[Verb]:
    yield Verb(
        "audit",
        takes=(
            Port("data", kind="data"),
            Port("held_out", kind="data", optional=True),
            Port("points", kind="data", optional=True),
            Port("estimator", kind="estimator", optional=True, default={"use": "estimator:mle"}),
            Port("calibration", kind="metric", optional=True),
        ),
        gives="metrics",
        target=".audit:audit",
        options=".config:AuditOptions",
        figures=".figures:audit_figures",
        kinds=("score", "flow", "data"),
        examples=({**_ANALYTIC, "options": _QUICK},),
    )


@hookimpl
def scorefold_report_sections(run: RunInfo) -> Iterable[tuple[str, str]]:
    if any(_audits(stage) for stage in run.config.get("stages", {}).values()):
        from scorefold_audit.section import sections

        yield from sections(run)


def _audits(stage: object) -> bool:
    return isinstance(stage, Mapping) and stage.get("do") == "audit"


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    return read_claims(Path(__file__).parent)
