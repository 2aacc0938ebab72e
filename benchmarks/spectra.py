"""What the spectrum of the scores around one point costs: the published way, singular values alone, and ours.

Every side gets the same K = 4 D rows of float32 noise and expected noise, tangent in a tenth of the directions.
``svd`` is the published code: ``torch.linalg.svd`` of the centred K x D matrix with its default of full matrices,
which builds a K x K factor. ``svdvals`` asks for the values alone. ``gram`` is the estimator's rule ``reference``
and ``projector`` its default rule, both from Gram matrices summed in float64 as the scores come. Sides take turns
in every round, so that a busy machine slows all alike; a ratio is to ``gram``, within a round, and medians are
printed. CPU time is the process's, at one thread. ``error`` is the largest difference of singular values from those
in float64, over the largest; ``k`` is the dimension read.

Run: python benchmarks/spectra.py [--rounds 5] [--ambient 64 100 784] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from scorefold_iddiff.rules import projector_rule, reference_rule
from scorefold_iddiff.spectra import Moments, projector_eigenvalues, singular_values


def centred(rows: Tensor) -> Tensor:
    scaled: Tensor = (rows - rows.mean(0)) / len(rows) ** 0.5
    return scaled


def published(noise: Tensor, response: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svd(centred(response)).S
    return values


def values_alone(noise: Tensor, response: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(centred(response))
    return values


def moments(noise: Tensor, response: Tensor, *, projector: bool) -> Moments:
    sums = Moments.zeros(1, noise.shape[1], noise.device, projector=projector, singular=not projector)
    sums.add(noise[None], response[None])
    return sums


def gram(noise: Tensor, response: Tensor) -> Tensor:
    return singular_values(moments(noise, response, projector=False), centred=True)[0]


def projector(noise: Tensor, response: Tensor) -> Tensor:
    return projector_eigenvalues(moments(noise, response, projector=True))[0]


SIDES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "svd": published,
    "svdvals": values_alone,
    "gram": gram,
    "projector": projector,
}


def rows_of(ambient: int) -> tuple[Tensor, Tensor]:
    """Noise and the expected noise of a flat manifold of dimension D / 10, with a little of the noise left in
    it."""
    generator = torch.Generator().manual_seed(ambient)
    noise = torch.randn(4 * ambient, ambient, generator=generator)
    tangent = torch.linalg.qr(torch.randn(ambient, ambient // 10, generator=generator)).Q
    return noise, noise - 0.98 * (noise @ tangent) @ tangent.T


def measure(ambient: int, rounds: int) -> list[dict[str, float | int | str]]:
    noise, response = rows_of(ambient)
    exact = torch.linalg.svdvals(centred(response.double()))
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    found = {}
    for number in range(rounds + 1):
        for name, side in SIDES.items():
            start = time.process_time()
            found[name] = side(noise, response)
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    table = []
    for name, times in seconds.items():
        ratios = [own / ours for own, ours in zip(times, seconds["gram"], strict=True)]
        rule = projector_rule if name == "projector" else reference_rule
        row: dict[str, float | int | str] = {
            "ambient": ambient,
            "rows": len(noise),
            "side": name,
            "cpu_ms": 1000 * statistics.median(times),
            "ratio_to_gram": statistics.median(ratios),
            "dimension": int(rule(found[name])[0]),
        }
        if name != "projector":
            row["error"] = float((found[name].double() - exact).abs().max() / exact.max())
        table.append(row)
    return table


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Time the spectrum of the scores around one point")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ambient", type=int, nargs="+", default=[64, 100, 784])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [row for ambient in options.ambient for row in measure(ambient, options.rounds)]
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'D':>5} {'K':>6}  {'side':<10} {'CPU ms':>9} {'to gram':>8} {'error':>8} {'k':>4}")
    for row in rows:
        error = f"{row['error']:.0e}" if "error" in row else ""
        print(
            f"{row['ambient']:>5} {row['rows']:>6}  {row['side']:<10} {row['cpu_ms']:>9.2f} "
            f"{row['ratio_to_gram']:>7.2f}x {error:>8} {row['dimension']:>4}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
