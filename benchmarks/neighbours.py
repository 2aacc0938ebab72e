"""Estimators of intrinsic dimension beside scikit-dimension's: CPU seconds and answers, in one process, in turns.

    python benchmarks/neighbours.py                        2,500 and 25,000 points in 10 columns
    python benchmarks/neighbours.py --points 2500 --only mle,ess --rounds 5

Points lie on a 5-sphere that is turned into the columns. Ours and theirs are timed by turns, one thread each, after a
round that is not counted. The medians of the CPU seconds are printed with their ratio. scikit-dimension has the
settings of ours. What holds all its distances, or has a table up to 5,000 points, is not run on more: it is printed as
a dash.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import skdim.id
import torch

from scorefold_neighbours import config as configs
from scorefold_neighbours.estimators.estimator import NeighbourEstimator, _sizes

X = np.ndarray


def _local(name: str, k: int) -> Callable[[X], float]:
    return lambda x: float(np.nanmean(getattr(skdim.id, name)().fit(x, n_neighbors=k).dimension_pw_))


THEIRS: dict[str, tuple[Any, Callable[[X], float]]] = {
    "mle": (configs.MLEConfig(), lambda x: float(skdim.id.MLE().fit(x, n_neighbors=20).dimension_)),
    "twonn": (configs.TwoNNConfig(), lambda x: float(skdim.id.TwoNN().fit(x).dimension_)),
    "lpca": (configs.LPCAConfig(), lambda x: float(skdim.id.lPCA().fit_transform_pw(x, n_neighbors=50).mean())),
    "corrint": (configs.CorrIntConfig(), lambda x: float(skdim.id.CorrInt().fit(x).dimension_)),
    "danco": (configs.DANCoConfig(), lambda x: float(skdim.id.DANCo(ver="DANCoFit").fit(x).dimension_)),
    "fishers": (configs.FisherSConfig(), lambda x: float(skdim.id.FisherS().fit(x).dimension_)),
    "ess": (configs.ESSConfig(), lambda x: float(skdim.id.ESS(random_state=0).fit(x, n_neighbors=30).dimension_)),
    "tle": (configs.TLEConfig(), _local("TLE", 20)),
    "mada": (configs.MADAConfig(), _local("MADA", 20)),
    "mom": (configs.MOMConfig(), _local("MOM", 50)),
    "knn": (
        configs.KNNConfig(),
        lambda x: float(
            skdim.id.KNN(k=5, ps=_sizes(configs.KNNConfig(), len(x)), M=10, gamma=1, random_state=0).fit(x).dimension_
        ),
    ),
    "mind-ml": (configs.MiNDMLConfig(), lambda x: float(skdim.id.MiND_ML(k=20, D=x.shape[1]).fit(x).dimension_)),
    "gride": (configs.GRIDEConfig(), lambda x: float(skdim.id.GRIDE(n1=2, n2=4).fit(x).dimension_)),
    "ph": (
        configs.PHConfig(),
        lambda x: float(skdim.id.PH(nsteps=20, subsamples=2, random_state=0).fit(x).dimension_),
    ),
}
ALL_PAIRS = {"corrint", "danco", "fishers", "mada", "knn", "ph"}
"""Methods for which scikit-dimension holds all distances, or has a table."""

OURS_TOO = {"danco", "ph", "knn"}
"""Of these, ours that holds as much."""

MOST = 5000


def sphere(count: int, columns: int, seed: int) -> X:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found: X = x @ np.linalg.qr(rng.standard_normal((columns, columns)))[0][:6]
    return found


def timed(work: Callable[[], float]) -> tuple[float, float]:
    start = time.process_time()
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        found = work()
    return time.process_time() - start, found


def compared(name: str, x: X, rounds: int, skipped: bool) -> dict[str, tuple[float, float]]:
    """The median CPU seconds and the answer of each side."""
    config, theirs = THEIRS[name]
    ours = NeighbourEstimator(config.model_copy(update={"limit": None, "resamples": 0}))
    sides = {"ours": lambda: ours.point_estimate(torch.from_numpy(x)).number(), "theirs": lambda: theirs(x)}
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides if side == "ours" or not skipped}
    for _ in range(rounds + 1):
        for side, each in found.items():
            each.append(timed(sides[side]))
    return {side: (statistics.median(spent for spent, _ in each[1:]), each[-1][1]) for side, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, nargs="*", default=[2500, 25_000])
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--only", default=",".join(THEIRS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'estimator':10}{'points':>8}{'ours':>10}{'theirs':>10}{'ratio':>8}   answers")
    for count in sorted(options.points):
        x = sphere(count, options.columns, 0)
        for name in options.only.split(","):
            skipped = count > MOST and name in ALL_PAIRS
            if skipped and name in OURS_TOO:
                continue
            found = compared(name, x, options.rounds, skipped)
            mine, (other, _) = found["ours"][0], found.get("theirs", (float("nan"), 0))
            words = f"{'-':>10}{'-':>8}" if skipped else f"{other:10.3f}{other / mine:8.1f}"
            said = ", ".join(f"{answer:.6g}" for _, answer in found.values())
            print(f"{name:10}{count:8,}{mine:10.3f}{words}   {said}", flush=True)


if __name__ == "__main__":
    main()
