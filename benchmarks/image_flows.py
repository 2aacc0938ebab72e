"""What a multi-scale Glow of images costs beside the libraries that people use.

Every side is the same flow with as many parameters (see ``_glow_sides``). A training step is a batch, the loss, its
gradient and a step of fused Adam. Sides take turns in every round, in an order drawn anew; ratios to Scorefold are
taken within a round, and medians are printed. Before that every side's map is undone (``round trip``, the largest error
in units of the data), and the peers' densities are held to ours with our weights in them (``apart``, nats a dimension).

Exit status 1 where a peer is faster than Scorefold in training or sampling (LIMITS, ratios of CPU time) or a check
fails. TARGETS are printed beside. A peer that isn't installed counts as a failure.

Run: python benchmarks/image_flows.py [--rounds 15] [--only TEXT] [--json]
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence

import torch
from _glow_sides import PEERS, Case, Side, checks, images, sides_of
from _turns import Row, finish, parse_options, race

LIMITS = {"train": 1.0, "sample": 1.0}
"""How many times Scorefold's CPU time the faster peer must take at least."""
TARGETS = {"train": 1.2, "sample": 1.4}
ROUND_TRIP, APART = 1e-4, 1e-5
CASES = (Case((1, 8, 8), 2, 4, 32, 128), Case((3, 16, 16), 3, 4, 32, 64), Case((3, 32, 32), 3, 4, 64, 32))


def trainer(case: Case, side: Side) -> Callable[[], object]:
    """A training step, of a copy of the side's flow."""
    module = copy.deepcopy(side.module).train()
    x = images(case, 16 * case.batch)
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(2)

    def step() -> None:
        batch = x[torch.randint(len(x), (case.batch,), generator=generator)]
        optimiser.zero_grad()
        (-side.log_prob(module, batch).mean()).backward()
        optimiser.step()

    return step


def sampler(case: Case, side: Side) -> Callable[[], object]:
    module = copy.deepcopy(side.module).eval()

    def draw() -> None:
        with torch.no_grad():
            side.sample(module, case.batch)

    return draw


def measure(case: Case, *, rounds: int) -> tuple[list[Row], list[str]]:
    """Rows of a case, and what fails in it."""
    sides = sides_of(case)
    checked = checks(case, sides)
    rows: list[Row] = []
    failures = [f"{case}: {name} is not installed" for name in PEERS if name not in sides]
    for name, row in checked.items():
        if row["round_trip"] > ROUND_TRIP or row["apart"] > APART:
            failures.append(f"{case}: {name} has a round trip of {row['round_trip']:.0e}, is {row['apart']:.0e} apart")
    counts = {side.parameters for side in sides.values()}
    if len(counts) > 1:
        failures.append(f"{case}: the sides have {sorted(counts)} parameters")
    makers: dict[str, Callable[[Case, Side], Callable[[], object]]] = {"train": trainer, "sample": sampler}
    for task, maker in makers.items():
        for row in race({name: maker(case, side) for name, side in sides.items()}, rounds=rounds):
            name = row["side"]
            rows.append({"case": str(case), "task": task, **row, **checked[name], "parameters": sides[name].parameters})
            if name != "scorefold" and row["ratio"] < LIMITS[task]:
                failures.append(
                    f"{case}, {task}: {name} takes {row['ratio']:.2f} times our time, expected {LIMITS[task]}"
                )
    return rows, failures


def show(rows: Sequence[Row]) -> None:
    print(f"\n{rows[0]['case']}, {rows[0]['parameters']:,} parameters")
    print(f"  {'':20}{'CPU ms':>9}{'wall ms':>9}{'ratio':>7}  {'quartiles':14}{'round trip':>11}{'apart':>9}")
    for row in rows:
        low, high = row["quartiles"]
        print(
            f"  {row['task']:8}{row['side']:12}{row['cpu_ms']:>9.2f}{row['wall_ms']:>9.2f}{row['ratio']:>7.2f}"
            f"  {low:.2f} to {high:.2f}  {row['round_trip']:>11.0e}{row['apart']:>9.0e}"
        )
    for task, target in TARGETS.items():
        peers = [row["ratio"] for row in rows if row["task"] == task and row["side"] != "scorefold"]
        if peers:
            print(f"  {task}: the faster peer takes {min(peers):.2f} times our time (target {target})", flush=True)


def main() -> int:
    options = parse_options(__doc__, only="run the cases whose name holds this text, such as 8 x 8")
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    failures: list[str] = []
    for case in CASES:
        if options.only in str(case):
            part, failed = measure(case, rounds=options.rounds)
            rows, failures = rows + part, failures + failed
            if not options.json:
                show(part)
    return finish(rows, failures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
