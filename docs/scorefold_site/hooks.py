"""The hooks in the order in which they are called, as a diagram and one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from scorefold import hookspecs
from scorefold_site.markdown import fence, page, prose

Step = str | tuple[str, ...]
"""A hook, or several of which one is called."""


@dataclass(frozen=True)
class Band:
    """A part of a process's life, and the hooks that are called in it, in order."""

    title: str
    note: str
    steps: tuple[Step, ...]
    repeats: bool = False


BANDS = (
    Band(
        "Plugins are listed",
        "once a process, of each plugin in turn",
        (
            "scorefold_components",
            "scorefold_kinds",
            "scorefold_capabilities",
            "scorefold_verbs",
            "scorefold_models",
            "scorefold_settings",
            "scorefold_commands",
        ),
    ),
    Band("A run begins", "its folder exists", ("scorefold_before_run", "scorefold_executor")),
    Band(
        "Each stage, in order",
        "none of them for a stage that is reused: scorefold_after_run gets its result",
        (
            "scorefold_before_stage",
            "scorefold_run_stage",
            "scorefold_on_metrics",
            ("scorefold_after_stage", "scorefold_on_stage_error"),
        ),
        repeats=True,
    ),
    Band("A run is complete", "its report is written in between", ("scorefold_report_sections", "scorefold_after_run")),
    Band("Or it ends early", "after a failure or Ctrl-C", ("scorefold_on_run_error",)),
    Band("Claims are wanted", "by plugins show, plugins doctor and reproduce", ("scorefold_claims",)),
)

_NOTES = {
    "scorefold_run_stage": "the first answer wins; ours is asked last",
    "scorefold_executor": "the first answer wins",
    "scorefold_on_metrics": "any number of times, within the stage",
    "scorefold_after_stage": "where it ended well",
    "scorefold_on_stage_error": "where it failed; the run ends",
}


def hooks() -> dict[str, Callable[..., Any]]:
    """The hook specifications of core, by name."""
    return {name: item for name, item in vars(hookspecs).items() if name.startswith("scorefold_")}


def is_first_result(hook: Callable[..., Any]) -> bool:
    """Whether the first answer that is not None ends the call."""
    return bool(hook.scorefold_spec["firstresult"])  # type: ignore[attr-defined]


def hook_page() -> str:
    """The diagram, then each hook with its arguments."""
    parts = [
        "# Hooks in order",
        "A plugin implements any of them, marked with `scorefold.plugin.hookimpl`, and names only the arguments that "
        "it needs. In which order plugins are called, and what happens when one fails, is said under "
        "[plugins](plugins.md#hooks).",
        diagram(),
    ]
    for band in BANDS:
        parts += [f"## {band.title}", f"{band.note[:1].upper()}{band.note[1:]}."]
        for name in (name for step in band.steps for name in ((step,) if isinstance(step, str) else step)):
            parts += _hook(name, hooks()[name])
    return page(*parts)


def _hook(name: str, hook: Callable[..., Any]) -> list[str]:
    signature = str(inspect.signature(hook)).replace("'", "")
    rule = "The first answer that is not `None` wins." if is_first_result(hook) else ""
    note = _NOTES.get(name, "")
    called = f"Called {note}." if note and not is_first_result(hook) else ""
    words = prose(" ".join((inspect.getdoc(hook) or "").split()))
    return [f"### {name}", fence(f"def {name}{signature}: ...", "python"), f"{words} {called}{rule}".strip()]


def diagram() -> str:
    """The bands from top to bottom, as HTML without an empty line in it, so that Markdown leaves it whole."""
    lines = ['<div class="hooks" role="img" aria-label="The hooks in the order in which they are called">']
    for band in BANDS:
        repeats = " hooks-repeats" if band.repeats else ""
        lines.append(f'<section class="hooks-band{repeats}">')
        lines.append(f'<p class="hooks-title"><b>{escape(band.title)}</b> <span>{escape(band.note)}</span></p>')
        lines.append("<ol>")
        for step in band.steps:
            either = (step,) if isinstance(step, str) else step
            fork = ' class="hooks-fork"' if len(either) > 1 else ""
            lines.append(f"<li{fork}>{''.join(_node(name) for name in either)}</li>")
        lines += ["</ol>", "</section>"]
    lines.append("</div>")
    return "\n".join(lines)


def _node(name: str) -> str:
    note = _NOTES.get(name, "")
    beside = f"<small>{escape(note)}</small>" if note else ""
    anchor = name.replace("_", "-")
    return f'<a href="#{anchor}"><code>{name}</code>{beside}</a>'
