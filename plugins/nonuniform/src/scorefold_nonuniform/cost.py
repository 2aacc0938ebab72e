"""The cost of sampling, counted and measured: a network's step, a run of several networks, and the ratio of two runs.

A uniform model calls one network N times; a multi-scale model shares the N steps among n networks, of which all but one
see smaller images (Batzolis et al. 2022). With c_i the cost of a step of network i and o what a step costs besides,

    S = n (c_1^uniform + o) / (sum_i c_i + n o)

is how many times less the multi-scale run costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from scorefold.data import Condition, ConditionSpec, TensorSpec, map_condition
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel
from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold_nonuniform.bands.network_input import spec_at, spec_with_levels
from scorefold_nonuniform.multiscale import MultiScaleScore
from scorefold_toolkit.figures import legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Scale:
    """A network that takes ``steps`` steps of a run on events of a shape.

    ``network`` is called as ``network(x (B, *event_shape), t (B,))``, with a third argument where it takes a
    ``condition``, which is zeros; of a ``ScoreModel`` its ``score`` is called. Raises ``ConfigError`` for fewer than
    one step.
    """

    network: nn.Module
    event_shape: tuple[int, ...]
    steps: int = 1
    condition: ConditionSpec | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"a scale takes {self.steps} steps; expected 1 or more")

    @property
    def parameters(self) -> int:
        """The network's parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def multiply_accumulates(self) -> int:
        """The multiply-accumulates of a step on one event: of convolutions, products of matrices and attention."""
        # Counting needs shapes alone; score models look at values, so they take the step.
        if isinstance(self.network, ScoreModel):
            return _counted(self.call(1))
        tensors = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
        shown = tuple(
            each.to("meta") if isinstance(each, Tensor) else map_condition(each, _shape) for each in self._inputs(1)
        )
        return _counted(lambda: functional_call(self.network, shapes, shown))

    def call(self, batch: int) -> Callable[[], Any]:
        """A step on a batch, always of the same inputs."""
        inputs = self._inputs(batch)
        step = self.network.score if isinstance(self.network, ScoreModel) else self.network
        return lambda: step(*inputs)

    def _inputs(self, batch: int) -> tuple[Any, ...]:
        tensors = (*self.network.parameters(), *self.network.buffers())
        like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(()))
        x = torch.randn(batch, *self.event_shape, generator=torch.Generator().manual_seed(0)).to(like)
        time = 0.0
        if isinstance(self.network, ScoreModel):
            time = (self.network.process.t_min + self.network.process.t_max) / 2
        return x, like.new_full((batch,), time), *_zeros(self.condition, batch, like)


@dataclass(frozen=True)
class CostRow:
    """The cost of one network of a run: of a step on one event, counted and in seconds, and the number of its steps."""

    event_shape: tuple[int, ...]
    parameters: int
    multiply_accumulates: int
    seconds: float
    steps: int


@dataclass(frozen=True)
class CostComparison:
    """A uniform and a multi-scale run beside each other; ``overhead`` is o in multiply-accumulates a step."""

    uniform: CostRow
    scales: tuple[CostRow, ...]
    overhead: float = 0.0

    @property
    def counted(self) -> float:
        """S by multiply-accumulates alone, o = 0."""
        return self._ratio([row.multiply_accumulates for row in (self.uniform, *self.scales)])

    @property
    def modelled(self) -> float:
        """S by multiply-accumulates and the overhead."""
        return self._ratio([row.multiply_accumulates for row in (self.uniform, *self.scales)], self.overhead)

    @property
    def measured(self) -> float:
        """S by measured time."""
        return self._ratio([row.seconds for row in (self.uniform, *self.scales)])

    @property
    def size_ratio(self) -> float:
        """The parameters of all networks of the multi-scale run divided by the parameters of the uniform run."""
        return sum(row.parameters for row in self.scales) / self.uniform.parameters

    def table(self) -> str:
        """A line a network, and the three ratios."""
        lines = [f"{'network':>16} {'steps':>6} {'parameters, M':>14} {'GMAC a step':>12} {'ms a step':>10}"]
        for name, row in (("uniform", self.uniform), *((f"scale {k}", row) for k, row in enumerate(self.scales, 1))):
            label = f"{name} {'x'.join(map(str, row.event_shape))}"
            lines.append(
                f"{label:>16} {row.steps:>6} {row.parameters / 1e6:>14.2f} {row.multiply_accumulates / 1e9:>12.3f} "
                f"{1e3 * row.seconds:>10.2f}"
            )
        lines.append(
            f"S: {self.measured:.2f} measured, {self.counted:.2f} by multiply-accumulates, {self.modelled:.2f} with "
            f"{self.overhead / 1e9:.3f} GMAC more a step"
        )
        return "\n".join(lines)

    def _ratio(self, costs: Sequence[float], overhead: float = 0.0) -> float:
        scales = run_cost(costs[1:], [row.steps for row in self.scales], overhead)
        return run_cost(costs[:1], [self.uniform.steps], overhead) / scales


def run_cost(costs: Sequence[float], steps: Sequence[int], overhead: float = 0.0) -> float:
    """The cost of a run, sum_i N_i (c_i + o)."""
    return sum(count * (cost + overhead) for cost, count in zip(costs, steps, strict=True))


def speedup(uniform: float, scales: Sequence[float], overhead: float = 0.0) -> float:
    """S = n (c_1 + o) / (sum_i c_i + n o): what a multi-scale run with as many steps on every scale saves."""
    return len(scales) * (uniform + overhead) / (sum(scales) + len(scales) * overhead)


def pixel_proportional_speedup(scales: int) -> float:
    """S(n) = (3 n / 4) / (1 - 4^-n), for n networks whose costs are proportional to their pixels and o = 0."""
    return 0.75 * scales / (1 - 4.0**-scales)


def resolution_scales(size: int, coarsest: int = 16) -> tuple[int, ...]:
    """The sizes of images that the networks of a multi-scale model see, size, size / 2 ... coarsest.

    Raises ``ConfigError`` unless size is coarsest times a power of 2.
    """
    sizes = [size]
    while sizes[-1] > coarsest and sizes[-1] % 2 == 0:
        sizes.append(sizes[-1] // 2)
    if sizes[-1] != coarsest:
        raise ConfigError(f"images of {size} pixels can't be halved to {coarsest}")
    return tuple(sizes)


def fit_overhead(counts: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """(seconds a multiply-accumulate, o in multiply-accumulates) of the line through steps of one network.

    ``counts`` and ``seconds`` measure a step at each of two resolutions or more; with more the line is fitted by least
    squares. Raises ``ConfigError`` for fewer than two different counts, and where time does not grow with them.
    """
    if len(set(counts)) < 2:
        raise ConfigError("an overhead is fitted to steps at two resolutions or more", hint="give two different counts")
    x, y = torch.tensor(counts, dtype=torch.float64), torch.tensor(seconds, dtype=torch.float64)
    rate = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    if rate <= 0:
        raise ConfigError(f"steps of {list(counts)} multiply-accumulates took {list(seconds)} seconds: no line rises")
    return rate, float(y.mean() - rate * x.mean()) / rate


def measure_seconds(calls: Sequence[Callable[[], Any]], *, repeats: int = 3, device: str = "cpu") -> list[float]:
    """Seconds that each call takes, the least of ``repeats`` rounds in which all take turns, after one that is not
    counted.

    On the CPU they are the process' CPU time on one torch thread, which other work on the machine changes least; on an
    accelerator wall time between synchronisations. Raises ``ConfigError`` for fewer than one round.
    """
    if repeats < 1:
        raise ConfigError(f"{repeats} rounds were asked for; expected 1 or more, and 3 for a figure to quote")
    found = [float("inf")] * len(calls)
    with torch.no_grad(), _one_thread():
        for call in calls:
            call()
        for _ in range(repeats):
            for number, call in enumerate(calls):
                found[number] = min(found[number], _timed(call, device))
    return found


def measure_overhead(scales: Sequence[Scale], *, batch: int = 1, repeats: int = 3) -> float:
    """o in multiply-accumulates a step on one event, fitted to steps of one network at two resolutions or more.

    Raises as ``fit_overhead``.
    """
    calls = [scale.call(batch) for scale in scales]
    seconds = measure_seconds(calls, repeats=repeats, device=_device_of(scales[0].network))
    return fit_overhead([scale.multiply_accumulates for scale in scales], [spent / batch for spent in seconds])[1]


def compare_cost(
    uniform: Scale, scales: Sequence[Scale], *, batch: int = 1, repeats: int = 3, overhead: float = 0.0
) -> CostComparison:
    """A uniform and a multi-scale run, counted and measured in turns; ``overhead`` is o in multiply-accumulates a step.

    Weights need not be trained. Networks run in evaluation mode and are left as they were.
    """
    every = (uniform, *scales)
    modes = [scale.network.training for scale in every]
    for scale in every:
        scale.network.eval()
    try:
        seconds = measure_seconds(
            [scale.call(batch) for scale in every], repeats=repeats, device=_device_of(uniform.network)
        )
        rows = [
            CostRow(scale.event_shape, scale.parameters, scale.multiply_accumulates, spent / batch, scale.steps)
            for scale, spent in zip(every, seconds, strict=True)
        ]
    finally:
        for scale, mode in zip(every, modes, strict=True):
            scale.network.train(mode)
    return CostComparison(rows[0], tuple(rows[1:]), overhead)


def count_ratio(uniform: Scale, scales: Sequence[Scale]) -> float:
    """S by multiply-accumulates alone: networks may be on the device ``meta``, where they take no memory."""
    cost = run_cost([scale.multiply_accumulates for scale in scales], [scale.steps for scale in scales])
    return uniform.steps * uniform.multiply_accumulates / cost


def scales_of(model: MultiScaleScore, steps: int | Sequence[int] = 1) -> list[Scale]:
    """The networks of a ``score:multiscale``, the finest first; ``steps`` of all of them or of each."""
    count = len(model.bands)
    each = [steps] * count if isinstance(steps, int) else list(steps)
    found = []
    for number, network in enumerate(model.networks):
        shape = model.bands.shape(number)
        spec = spec_at(model.condition_spec, model.event_shape, shape)
        if model.config.construction == "ours":
            spec = spec_with_levels(spec, count - number)
        inner = network.network
        assert isinstance(inner, nn.Module)
        found.append(Scale(inner, shape, each[number], spec))
    return found


def sampling_seconds(
    models: Sequence[ScoreModel],
    steps: int,
    *,
    batch: int = 1,
    repeats: int = 3,
) -> list[float]:
    """Seconds an event of whole runs of ``sample``, in turns: networks, the sampler ddim, transforms and all."""

    def run(model: ScoreModel) -> Callable[[], Any]:
        return lambda: model.sample(
            batch, steps=steps, sampler="ddim", to_zero=False, generator=torch.Generator().manual_seed(0)
        )

    seconds = measure_seconds([run(model) for model in models], repeats=repeats, device=_device_of(models[0]))
    return [spent / batch for spent in seconds]


def _counted(call: Callable[[], Any]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


def _zeros(spec: ConditionSpec | None, batch: int, like: Tensor) -> tuple[Condition, ...]:
    """A condition of zeros, or nothing."""

    def part(one: TensorSpec) -> Tensor:
        kind = like.dtype if one.classes is None else torch.long
        return torch.zeros(batch, *one.shape, dtype=kind, device=like.device)

    if spec is None:
        return ()
    return (part(spec) if isinstance(spec, TensorSpec) else {name: part(one) for name, one in spec.items()},)


def _shape(tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def _device_of(network: nn.Module) -> str:
    return next((parameter.device.type for parameter in network.parameters()), "cpu")


def _timed(call: Callable[[], Any], device: str) -> float:
    if device == "cpu":
        started = time.process_time()
        call()
        return time.process_time() - started
    synchronise = getattr(torch, device).synchronize
    synchronise()
    started = time.perf_counter()
    call()
    synchronise()
    return time.perf_counter() - started


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
    axes.set_yticks(places, [f"{name}, {_size(row)}" for name, row in rows.items()])
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


def _size(row: CostRow) -> str:
    return " x ".join(map(str, row.event_shape))
