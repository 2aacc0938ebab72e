"""What flow:caflow costs: draws for one condition, memory by depth and way of recomputing, layouts of a network.

The conditions that the encoder sees for k draws are counted. What a forward pass keeps in memory, and the highest of a
training step, are beside weights and their gradients. Sides take turns in every round; ratios to the first are taken
within a round, and medians are printed.

Exit status 1 where a condition is encoded more than once for its draws.

Run: python benchmarks/caflow_costs.py [--rounds 15] [--only draws|memory|layouts] [--json]
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from _turns import Row, finish, parse_options, race
from torch import Tensor
from torch.profiler import profile

from scorefold.data import DataSpec, TensorSpec
from scorefold_caflow.config import CAFLOWConfig, EncoderConfig, StepsConfig
from scorefold_caflow.flow.model import ImageFlow
from scorefold_caflow.flow.parts import TwoEncoders
from scorefold_caflow.layers import channels_last
from scorefold_toolkit.nn import ConvConditioner

IMAGE = (1, 16, 16)
DRAWS = (1, 8, 32)
DEPTHS, TIMED = (1, 2, 4, 8), 4


def conditional_flow(steps: int, recompute: str = "no") -> ImageFlow:
    """flow:caflow of images given images, with so many steps a block, moved off its start."""
    torch.manual_seed(0)
    encoder, translation = EncoderConfig(steps=steps, hidden=32), StepsConfig(steps=steps, hidden=32)
    config = CAFLOWConfig.model_validate(
        {"scales": 3, "encoder": encoder, "translation": translation, "recompute": recompute}
    )
    data: Any = DataSpec(IMAGE, condition_spec=TensorSpec(IMAGE))
    flow = ImageFlow(config, data=data)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return flow


def draws(*, rounds: int) -> tuple[list[Row], list[str]]:
    """What k draws for one condition cost, and how many conditions are encoded for them."""
    flow = conditional_flow(4).eval()
    assert isinstance(flow.parts, TwoEncoders)
    assert flow.parts.condition_encoder is not None
    y = torch.randn(1, *IMAGE, generator=torch.Generator().manual_seed(1))
    flow.sample(max(DRAWS), y)  # the first call of this size measures how many draws fit into memory
    encoded: list[int] = []
    hook = flow.parts.condition_encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(len(inputs[0])))
    with torch.no_grad():
        for k in DRAWS:
            flow.sample(k, y)
    hook.remove()
    turns: dict[str, Callable[[], object]] = {"encoding alone": lambda: flow.parts.given(y, None)}
    turns |= {f"{k} draws": lambda k=k: flow.sample(k, y) for k in DRAWS}  # type: ignore[misc]
    with torch.no_grad():
        rows = race(turns, rounds=rounds)
    failures = [] if encoded == [1] * len(DRAWS) else [f"{DRAWS} draws for one condition encoded {encoded} of them"]
    return [{"case": "flow:caflow, 1 x 16 x 16, 3 scales of 4 steps, one condition", **row} for row in rows], failures


def allocated(run: Callable[[], object]) -> tuple[int, int]:
    """The bytes that a call has taken and not given back: at its end, its result being alive, and at the highest."""
    with profile(profile_memory=True) as profiler:
        kept = run()

    def allocations(events: Sequence[Any]) -> Iterator[tuple[int, int]]:
        for event in events:
            if event.tag.name == "Allocation":
                yield event.start_time_ns, event.extra_fields.alloc_size
            yield from allocations(event.children)

    found = allocations(profiler.profiler.kineto_results.experimental_event_tree())
    running = list(itertools.accumulate(size for _, size in sorted(found, key=lambda pair: pair[0])))
    del kept
    return running[-1], max(running)


def memory(*, rounds: int) -> tuple[list[Row], list[str]]:
    """What a forward pass keeps, and the highest of forward and backward, beside weights and their gradients; by
    ``recompute`` and steps a block, for some also the time."""
    x, y = torch.randn(2, 32, *IMAGE, generator=torch.Generator().manual_seed(1)).unbind()
    rows = []
    for steps in DEPTHS:
        flows = {way: conditional_flow(steps, way).train() for way in ("no", "checkpoint", "inverse")}

        def loss(flow: ImageFlow) -> Tensor:
            return -flow.log_prob(x, y).mean()

        def turn(flow: ImageFlow) -> None:
            flow.zero_grad(set_to_none=False)
            loss(flow).backward()

        turns: dict[str, Callable[[], object]] = {way: functools.partial(turn, flow) for way, flow in flows.items()}
        for run in turns.values():
            run()  # the gradients are there from now on
        timed = race(turns, rounds=rounds) if steps == TIMED else [{"side": way} for way in turns]
        for row in timed:
            kept, _ = allocated(functools.partial(loss, flows[row["side"]]))
            _, highest = allocated(turns[row["side"]])
            case = f"flow:caflow, 1 x 16 x 16, 3 scales of {steps} steps, batch 32, forward and backward"
            rows.append({"case": case, **row, "kept_bytes": kept, "highest_bytes": highest})
    return rows, []


def layouts(*, rounds: int) -> tuple[list[Row], list[str]]:
    """A coupling's network, forward and backward, with channels last in memory (as image flows have it) and first."""
    rows = []
    for channels, size, hidden, batch in ((4, 4, 32, 128), (12, 8, 32, 64), (12, 16, 64, 32), (12, 32, 64, 8)):
        network = ConvConditioner(channels // 2, channels, hidden)
        first = torch.randn(batch, channels, size, size, requires_grad=True)
        last = channels_last(first.detach()).requires_grad_()

        def turn(x: Tensor, network: ConvConditioner = network) -> None:
            network(x.chunk(2, 1)[0]).square().sum().backward()

        turns: dict[str, Callable[[], object]] = {}
        turns |= {"channels last": functools.partial(turn, last), "channels first": functools.partial(turn, first)}
        case = f"a network of {channels // 2} to {channels} channels, width {hidden}, {size} x {size}, batch {batch}"
        rows += [{"case": case, **row} for row in race(turns, rounds=rounds)]
    return rows, []


def show(rows: Sequence[Row]) -> None:
    for case, group in itertools.groupby(rows, lambda row: row["case"]):
        print(f"\n{case}")
        for row in group:
            text = f"  {row['side']:16}"
            if "cpu_ms" in row:
                low, high = row["quartiles"]
                text += f"{row['cpu_ms']:>9.2f} CPU ms, {row['wall_ms']:.2f} wall ms, "
                text += f"{row['ratio']:.2f} times the first ({low:.2f} to {high:.2f})"
            if "kept_bytes" in row:
                text += f"{row['kept_bytes'] / 1e6:>9.1f} MB kept, {row['highest_bytes'] / 1e6:.1f} MB at the highest"
            print(text, flush=True)


def main() -> int:
    options = parse_options(__doc__, only="run the parts whose name holds this text")
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    failures: list[str] = []
    for name, part in {"draws": draws, "memory": memory, "layouts": layouts}.items():
        if options.only in name:
            found, failed = part(rounds=options.rounds)
            rows, failures = rows + found, failures + failed
            if not options.json:
                show(found)
    return finish(rows, failures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
