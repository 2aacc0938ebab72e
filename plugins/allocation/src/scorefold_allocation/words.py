"""What a recommendation says beside its plan: what else would do, and what the present choice loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def remarks(near: Sequence[float], share: float, regret: Mapping[str, float] | None) -> tuple[str, ...]:
    """Sentences for the near-optimal labels per task (low, high), which lose ``share`` or less, and for the regret of
    the present labels per task, relative to the least loss."""
    low, high = (f"{size:,.0f}" for size in near)
    sizes = f"{low} labels" if low == high else f"Between {low} and {high} labels"
    said = [f"{sizes} per task would be within {share:.0%} of the least loss."]
    if regret is not None:
        size, median, ends = regret["labels_per_task"], regret["median"], (regret["low"], regret["high"])
        between = "" if ends[0] == ends[1] else f" ({ends[0]:.1%} to {ends[1]:.1%})"
        said.append(f"The present {size:,.0f} labels per task would lose {median:.1%}{between}.")
    return tuple(said)
