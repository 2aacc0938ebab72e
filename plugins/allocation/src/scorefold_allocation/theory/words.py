"""What a recommendation says beside its plan: what else would do, and what the present choice loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scorefold_allocation.search.trials import Trials

_LISTED = 8  # trials in a sentence


def remarks(
    near: Sequence[float], share: float, regret: Mapping[str, float] | None, *, fewer: float | None = None
) -> tuple[str, ...]:
    """Sentences for the near-optimal labels per task (low, high), which lose ``share`` or less, and no more than the
    share ``fewer`` of the budget is worth, where that is known; and for the regret of the present labels per task,
    relative to the least loss."""
    low, high = (f"{size:,.0f}" for size in near)
    sizes = f"{low} labels" if low == high else f"Between {low} and {high} labels"
    also = "" if fewer is None else f" and as good as the best size with {fewer:.0%} less of the budget"
    said = [f"{sizes} per task would be within {share:.0%} of the least loss{also}."]
    if regret is not None:
        size, median, ends = regret["labels_per_task"], regret["median"], (regret["low"], regret["high"])
        between = "" if ends[0] == ends[1] else f" ({ends[0]:.1%} to {ends[1]:.1%})"
        said.append(f"The present {size:,.0f} labels per task would lose {median:.1%}{between}.")
    return tuple(said)


def paid_for(trials: Trials) -> tuple[str, ...]:
    """What a pilot that is refused has tried, the first few trials one by one; nothing where nothing was."""
    rows = list(zip(*trials.table().values(), strict=True))
    if not rows:
        return ()
    listed = "; ".join(
        f"{tasks} tasks of {support + query} labels: {trials.measure} {'not known' if test is None else f'{test:.4g}'}"
        for tasks, support, query, _, test, *_ in rows[:_LISTED]
    )
    more = f"; and {len(rows) - _LISTED} more" if len(rows) > _LISTED else ""
    return (f"Tried until then ({trials.label_runs:,} labels over all trainings): {listed}{more}.",)
