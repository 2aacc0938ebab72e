"""Pictures of what sampling costs: each network's share of a run, and the ratio of two runs against the resolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold_nonuniform.cost import CostComparison, CostRow, pixel_proportional_speedup
from scorefold_toolkit.figures import legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def cost_figures(comparisons: Mapping[int, CostComparison]) -> Mapping[str, Figure]:
    """Both pictures of comparisons by resolution, the costs being those at the largest."""
    return {"cost": cost_per_scale(comparisons[max(comparisons)]), "speedup": speedup_by_resolution(comparisons)}


def cost_per_scale(comparison: CostComparison) -> Figure:
    """Multiply-accumulates of a step, of the uniform network and of each scale's; beside each bar its milliseconds."""
    rows = {"uniform": comparison.uniform, **{f"scale {k}": row for k, row in enumerate(comparison.scales, 1)}}
    figure, axes = new_figure(6.2, 0.5 * len(rows) + 1.4)
    places = range(len(rows))
    costs = [row.multiply_accumulates / 1e9 for row in rows.values()]
    bars = axes.barh(places, costs, color=[SOFT, *[ACCENT] * len(comparison.scales)])
    axes.bar_label(bars, [f" {1e3 * row.seconds:.3g} ms" for row in rows.values()], fontsize=9, color=INK)
    axes.set_yticks(places, [f"{name}, {_shape(row)}" for name, row in rows.items()])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel="GMAC a step", title=f"A step of each network: S = {comparison.measured:.2f} in measured time")
    return figure


def speedup_by_resolution(comparisons: Mapping[int, CostComparison]) -> Figure:
    """S against the resolution: by multiply-accumulates, with the overhead, measured, and S(n) of pixel-proportional
    networks."""
    sizes = sorted(comparisons)
    chosen = [comparisons[size] for size in sizes]
    figure, axes = new_figure(5.6, 4.0)
    axes.plot(
        sizes, [item.counted for item in chosen], color=INK, linestyle="--", label="counted in multiply-accumulates"
    )
    if any(item.overhead for item in chosen):
        axes.plot(sizes, [item.modelled for item in chosen], color=SOFT, label="counted, with the overhead of a step")
    axes.plot(sizes, [item.measured for item in chosen], color=ACCENT, marker="o", label="measured time")
    axes.plot(
        sizes,
        [pixel_proportional_speedup(len(item.scales)) for item in chosen],
        color=WARM,
        linestyle=":",
        label="if cost were proportional to pixels",
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel="pixels per side", ylabel="speed-up S", title="A multi-scale run costs S times less than a uniform one"
    )
    legend_below(axes)
    return figure


def _shape(row: CostRow) -> str:
    return " x ".join(map(str, row.event_shape))
