"""What the spectrum of the scores around one point costs, without and with the calls of a network.

Spectra: every side reads a flat manifold of dimension D / 10 off float32 noise and expected noise. ``svd`` is the
published code, K = 4 D rows: ``torch.linalg.svd`` of the centred K x D matrix with its default of full matrices, which
builds a K x K factor. ``svdvals`` asks for the values alone, and ``gram`` is our rule ``reference``, both on the same
rows. ``pairs``, the estimator's default, and ``simplex`` are the rule ``projector`` on designs of 2 D and D + 1 rows.
``error`` is the largest difference of singular values from those in float64, over the largest.

End to end: the 10-sphere, its exact score, and beside every call one of a network, whose time counts and whose answer
does not: an MLP at D = 100 and a U-Net on 32 x 32 images. ``published`` draws 4 D noises and takes the SVD; the others
are designs of our default rule. ``calls`` are evaluations of the score at a point, ``fewer`` how many times fewer.

Sides take turns in every round, each a number of times in a row where that is short, so that a busy machine slows all
alike; a ratio is to the published way, within a round, and medians are printed. CPU time is the process's, at one
thread. Exit status 1 where a limit does not hold: both designs at least 6.5, 8.5 and 11 times faster at D = 100, 784
and 3,072, the simplex with 3.9 times fewer calls, the range finder with 25 times fewer at D = 1,024, and all at the
true dimension.

Run: python benchmarks/spectra.py [--rounds 5] [--ambient 100 784 3072] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.interfaces import ScoreModel
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.pointwise.noise_designs import design, noises
from scorefold_iddiff.pointwise.probe import ProbedPoints, ScoreProbe
from scorefold_iddiff.pointwise.readings import SpectrumReader, spectrum_of
from scorefold_iddiff.pointwise.spectra import (
    ResponseMoments,
    projector,
    projector_rule,
    reference_rule,
    response_gram,
    slope,
)
from scorefold_registry import Host

LIMITS = {100: 6.5, 784: 8.5, 3072: 11.0}
OURS = ("pairs", "simplex")
SIMPLEX_CALLS, RANGE_CALLS = 3.9, 25.0
Row = dict[str, Any]


def centred(rows: Tensor) -> Tensor:
    scaled: Tensor = (rows - rows.mean(0)) / len(rows) ** 0.5
    return scaled


def published(noise: Tensor, response: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svd(centred(response)).S
    return values


def values_alone(noise: Tensor, response: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(centred(response))
    return values


@cache
def zeros(*shape: int) -> Tensor:
    return torch.zeros(1, *shape)


def moments(name: str, noise: Tensor, response: Tensor, *, whole: bool) -> ResponseMoments:
    chosen = design(name, noise.shape[1], None)  # type: ignore[arg-type]
    sums = ResponseMoments.zeros(1, chosen, noise.device, projector=whole, singular=not whole)
    if chosen.paired:  # half the difference and half the sum of the two responses, which is 0 here
        sums.add(noise[None], response[None], zeros(*noise.shape))
    else:
        sums.add(noise[None], response[None])
    return sums


def gram(noise: Tensor, response: Tensor) -> Tensor:
    return spectrum_of(response_gram(moments("iid", noise, response, whole=False), centred=True), "centred")[0]


def by_projector(name: str, noise: Tensor, response: Tensor) -> Tensor:
    fitted = projector(slope(moments(name, noise, response, whole=True)))
    return spectrum_of(fitted.to(noise.dtype), "projector")[0]


SIDES: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "svd": ("iid", published),
    "svdvals": ("iid", values_alone),
    "gram": ("iid", gram),
    "pairs": ("pairs", partial(by_projector, "pairs")),
    "simplex": ("simplex", partial(by_projector, "simplex")),
}


def rows_of(name: str, ambient: int) -> tuple[Tensor, Tensor]:
    """Noise and the expected noise of a flat manifold of dimension D / 10, with a little of the noise left in it; of
    pairs, one of each and half the difference."""
    generator = torch.Generator().manual_seed(ambient)
    tangent = torch.linalg.qr(torch.randn(ambient, ambient // 10, generator=generator)).Q
    chosen = design(name, ambient, None)  # type: ignore[arg-type]
    noise = torch.cat([*noises(chosen, torch.zeros(1, dtype=torch.long), 0, torch.empty(()), 10**6)], 1)[0]
    return noise, noise - 0.98 * (noise @ tangent) @ tangent.T


def measure(ambient: int, rounds: int) -> list[Row]:
    rounds, repeats = (rounds if ambient < 1000 else 1), max(1, 3000 // ambient)
    rows = {name: rows_of(name, ambient) for name in ("iid", "pairs", "simplex")}
    exact = spectrum_of(centred(rows["iid"][1].double()).mT @ centred(rows["iid"][1].double()), "centred")
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    found = {}
    for number in range(rounds + 1):
        for name, (noise, side) in SIDES.items():
            if ambient >= 1000 and not number:
                continue  # the first round warms up, which half a minute has no need of
            start = time.process_time()
            for _ in range(repeats):
                found[name] = side(*rows[noise])
            if number:
                seconds[name].append((time.process_time() - start) / repeats)
    table = []
    for name, times in seconds.items():
        ratios = [own / ours for own, ours in zip(seconds["svd"], times, strict=True)]
        fitted = name in ("pairs", "simplex")
        rule = projector_rule if fitted else reference_rule
        row: Row = {
            "ambient": ambient,
            "side": name,
            "calls": design(SIDES[name][0], ambient, None).count,  # type: ignore[arg-type]
            "cpu_ms": 1000 * statistics.median(times),
            "faster": statistics.median(ratios),
            "dimension": int(rule(found[name])[0]),
            "truth": ambient // 10,
        }
        if not fitted:
            row["error"] = float((found[name].double() - exact).abs().max() / exact.max())
        table.append(row)
    return table


class Beside(nn.Module):
    """An exact score whose calls also run a network, whose answer is not used."""

    def __init__(self, score: ScoreModel, network: nn.Module) -> None:
        super().__init__()
        self.process, self.event_shape, self.condition_spec = score.process, score.event_shape, None
        self.check_events, self.exact, self.network, self.calls = score.check_events, score, network, 0

    def noise(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        self.calls += len(x)
        self.network(x, t)
        return self.exact.noise(x, t)


def case(host: Host, name: str) -> tuple[Beside, Tensor]:
    """A score with its network beside it, and two points of its 10-sphere."""
    shape: tuple[int, ...] = (100,) if name == "mlp" else (1, 32, 32)
    ambient = torch.Size(shape).numel()
    data = host.create("data:sphere", {"dimension": 10, "ambient": ambient, "points": 100})
    score = host.create("score:analytic", {"process": {"name": "ve", "sigma_min": 1e-3}}, data=data)
    score.event_shape = shape
    sizes: Row = {"width": 512, "blocks": 3} if name == "mlp" else {"channels": [16, 32]}
    network = host.create(f"network:{name}", sizes).build(shape, shape, time=True, condition=None)
    return Beside(score, network.eval()), data.load("test").tensor()[:2].reshape(-1, *shape)


def read_published(score: Beside, x: Tensor) -> int:
    """The published way at one point: 4 D noises, batches of them, a full SVD, the largest gap."""
    probe = ScoreProbe(score)  # type: ignore[arg-type]
    ambient = x.numel()
    noise = torch.randn(1, 4 * ambient, ambient, generator=torch.Generator().manual_seed(0))
    with probe.evaluating():
        expected = probe.expected_noise(ProbedPoints(x[None], None, torch.zeros(1)), 0.01, 256)
        return int(reference_rule(published(noise[0], expected(torch.zeros(1, dtype=torch.long), noise)[0]))[0])


def read_ours(name: str, score: Beside, x: Tensor) -> int:
    """Our default rule at one point, by a design."""
    probe = ScoreProbe(score)  # type: ignore[arg-type]
    config = NormalBundleConfig.model_validate({"design": name, "batch": 256})
    with probe.evaluating():
        points = ProbedPoints(x[None], None, torch.zeros(1, dtype=torch.long))
        return int(SpectrumReader(config, probe, x.numel(), 0).read(points, 0.01).dimensions)


WAYS: dict[str, Callable[[Beside, Tensor], int]] = {
    "published": read_published,
    **{name: partial(read_ours, name) for name in ("pairs", "simplex", "range-finder")},
}


def end_to_end(host: Host, network: str, rounds: int) -> list[Row]:
    score, x = case(host, network)
    read_ours("range-finder", score, x[0])
    table: list[Row] = []
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(rounds if network == "mlp" else 1):
        for name, way in WAYS.items():
            score.calls, start = 0, time.process_time()
            dimension = way(score, x[number % len(x)])
            seconds[name].append(time.process_time() - start)
            if not number:
                table.append({"network": network, "ambient": x[0].numel(), "side": name, "calls": score.calls})
                table[-1] |= {"dimension": dimension, "truth": 10}
    for row in table:
        row["cpu_ms"] = 1000 * statistics.median(seconds[row["side"]])
        ratios = [theirs / own for theirs, own in zip(seconds["published"], seconds[row["side"]], strict=True)]
        row |= {"faster": statistics.median(ratios), "fewer": table[0]["calls"] / row["calls"]}
    return table


def broken(rows: Sequence[Row]) -> list[str]:
    """The limits that don't hold."""
    found = [
        f"{row['side']} reads {row['dimension']}, not {row['truth']}"
        for row in rows
        if row["dimension"] != row["truth"]
    ]
    for row in rows:
        least = LIMITS.get(row["ambient"]) if row["side"] in OURS and "network" not in row else None
        if least is not None and row["faster"] < least:
            found.append(f"at D = {row['ambient']} {row['side']} is {row['faster']:.1f} times faster, not {least}")
        fewer = {"simplex": SIMPLEX_CALLS, "range-finder": RANGE_CALLS if row["ambient"] == 1024 else 0.0}
        if "fewer" in row and row["fewer"] < fewer.get(row["side"], 0.0):
            found.append(f"{row['side']} has {row['fewer']:.1f} times fewer calls, not {fewer[row['side']]}")
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Time the spectrum of the scores around one point")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ambient", type=int, nargs="+", default=list(LIMITS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    host = Host.discover()
    rows = [row for ambient in options.ambient for row in measure(ambient, options.rounds)]
    rows += [row for network in ("mlp", "unet") for row in end_to_end(host, network, options.rounds)]
    if options.json:
        print(json.dumps(rows))
    else:
        heads = f"{'side':<12} {'calls':>6} {'CPU ms':>10} {'faster':>8} {'fewer':>7} {'error':>8} {'k':>4}"
        print(f"{'':<5} {'D':>5}  {heads}")
        for row in rows:
            error = f"{row['error']:.0e}" if "error" in row else ""
            fewer = f"{row['fewer']:.1f}x" if "fewer" in row else ""
            print(
                f"{row.get('network', ''):<5} {row['ambient']:>5}  {row['side']:<12} {row['calls']:>6} "
                f"{row['cpu_ms']:>10.2f} {row['faster']:>7.1f}x {fewer:>7} {error:>8} {row['dimension']:>4}"
            )
    failures = broken(rows)
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
