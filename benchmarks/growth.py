"""What an estimate takes as its table grows: time, memory and the exponent of each doubling, up to 10 million rows.

    python benchmarks/growth.py [--rows N] [--only NAME] [--json]

Points of a sphere of dimension 5 in 8 columns, float32, in npy files of an eighth, a quarter, a half and all of --rows,
which ``data:array`` streams (``memory: 0``). Every figure is of a process of its own: CPU and wall time of opening the
table and of the estimate, and the peak of its memory, of which ``nothing`` has the imports. Estimators have their
default settings, so ``mle`` and ``twonn`` read a sample of 100,000 points; ``iddiff`` reads 10,000 points with the
exact score of the sphere; ``twonn, every point`` has ``limit: null`` and no interval, and only the smallest tables.
``exponent`` is log2 of the ratio of CPU times, opening included, to half as many rows. Exit status 1 where a ratio is
above 2.5: twice as many rows may take twice the time, and a quarter more for the noise of a busy machine.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _turns import Row, finish

MOST_RATIO = 2.5
BLOCK = 2**18
SPHERE: dict[str, Any] = {"dimension": 5, "ambient": 8, "seed": 0}
CASES: dict[str, tuple[str, dict[str, Any]] | None] = {
    "nothing": None,
    "pca": ("estimator:pca", {}),
    "twonn": ("estimator:twonn", {}),
    "mle": ("estimator:mle", {}),
    "iddiff": ("estimator:iddiff", {"points": 10_000}),
    "twonn, every point": ("estimator:twonn", {"limit": None, "resamples": 0}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--only", default="", help="one of " + ", ".join(CASES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "FILE", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, path, size = options.one
        print(json.dumps(write(path, int(size)) if name == "write" else measured(name, path)))
        return 0
    sizes = [options.rows // 8, options.rows // 4, options.rows // 2, options.rows]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = Path(folder) / "points.npy"
            in_its_own_process("write", path, size)
            for name in CASES if not options.only else ["nothing", options.only]:
                if size <= sizes[1] or name != "twonn, every point":
                    rows.append({"case": name, "rows": size, **in_its_own_process(name, path, size)})
                    show(rows)
    return finish(rows, too_steep(rows), as_json=options.json)


def in_its_own_process(name: str, path: Path, size: int) -> Row:
    """What a case gives. Linux counts the memory of whoever starts a process as its own, so this one imports little."""
    command = [sys.executable, __file__, "--one", name, str(path), str(size)]
    found: Row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def write(path: str, size: int) -> Row:
    """Write a file of ``size`` points on the sphere that ``data:sphere`` has with these settings."""
    import torch

    sphere = host().create("data:sphere", {**SPHERE, "points": 10}).distribution()
    generator = torch.Generator().manual_seed(1)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(size, SPHERE["ambient"]))
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        directions = torch.randn(count, SPHERE["dimension"] + 1, generator=generator, dtype=torch.float64)
        points = sphere.centre + sphere.radius * torch.nn.functional.normalize(directions, dim=1) @ sphere.basis.T
        file[start : start + count] = points.numpy()
    file.flush()
    return {}


def measured(name: str, path: str) -> Row:
    """The row of one case: what this process took to open the table and to estimate, and the most memory it held."""

    torch.set_num_threads(1)
    case, made = CASES[name], host()
    cpu, wall = time.process_time(), time.perf_counter()
    row: Row = {"value": None, "note": "", "opening_cpu_s": 0.0}
    if case is not None:
        estimator, config = case
        inputs = {}
        if estimator == "estimator:iddiff":
            inputs["score"] = made.create("score:analytic", data=made.create("data:sphere", {**SPHERE, "points": 10}))
        table = made.create("data:array", {"path": path, "memory": 0, "fractions": (0, 0, 1)}).load("test")
        row["opening_cpu_s"] = time.process_time() - cpu
        found = made.create(estimator, config, **inputs).estimate(table)
        row |= {"value": found.value, "note": found.diagnostics.get("note", "")}
    row |= {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    # Kilobytes everywhere but on macOS, which counts bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return row | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}


def host() -> Any:
    from scorefold_registry import Host

    return Host.discover()


def ratio(rows: list[Row], row: Row) -> float | None:
    """The CPU time of a row divided by the time for half as many points, where these were measured."""
    half = [
        one for one in rows if one["case"] == row["case"] and one["rows"] == row["rows"] // 2 and one["cpu_s"] > 0.5
    ]
    return row["cpu_s"] / half[0]["cpu_s"] if half else None


def show(rows: list[Row]) -> None:
    row, grown = rows[-1], ratio(rows, rows[-1])
    exponent = "" if grown is None else f"exponent {math.log2(grown):5.2f}"
    print(
        f"{row['rows']:>12,} {row['case']:20} wall {row['wall_s']:7.1f} s   CPU {row['cpu_s']:7.1f} s, opening "
        f"{row['opening_cpu_s']:5.1f} s   peak {row['peak_mb']:6.0f} MB   {exponent:14} {row['value']} {row['note']}",
        file=sys.stderr,
        flush=True,
    )


def too_steep(rows: list[Row]) -> list[str]:
    grown = [(row, ratio(rows, row)) for row in rows]
    return [
        f"{row['case']}: {row['rows']:,} rows take {times:.2f} times what half of them take (limit {MOST_RATIO})"
        for row, times in grown
        if times is not None and times > MOST_RATIO
    ]


if __name__ == "__main__":
    sys.exit(main())
