"""Estimators of intrinsic dimension beside scikit-dimension's and torchid's: seconds and answers, in one process.

    python benchmarks/neighbours.py                        2,500 and 25,000 points in 10 columns
    python benchmarks/neighbours.py --points 2500 --only mle,ess --rounds 5
    python benchmarks/neighbours.py --plane --points 2000 10000 --columns 20

Points lie on a 5-sphere that is turned into the columns; with ``--plane``, on a plane of 5 dimensions with noise of
0.01, as in torchid's own benchmark. The sides take turns on one thread, after a round that is not counted. The medians
of CPU and wall seconds are printed, with the ratios to ours. torchid takes part where it is installed (Python 3.13),
with float32 points as in its own benchmark. The settings are ours where the sides have them.
What holds all its distances, or has a table up to 5,000 points, is not run on more: it is printed as a dash.
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
from torch import Tensor

try:
    import faiss
    from torchid import estimators as torchid
except ImportError:
    torchid = None

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

TORCHID: dict[str, Callable[[Any, Tensor], Any]] = {
    "mle": lambda of, x: of.MLE().fit(x, n_neighbors=20),
    "twonn": lambda of, x: of.TwoNN().fit(x),
    "corrint": lambda of, x: of.CorrInt().fit(x),
    "danco": lambda of, x: of.DANCo(fractal=False, random_state=0).fit(x),
    "fishers": lambda of, x: of.FisherS().fit(x),
    "ess": lambda of, x: of.ESS(random_state=0, n_neighbors=30).fit(x),
    "tle": lambda of, x: of.TLE().fit(x),
    "mada": lambda of, x: of.MADA().fit(x),
    "mom": lambda of, x: of.MOM().fit(x),
    "knn": lambda of, x: of.KNN(k=5, ps=_sizes(configs.KNNConfig(), len(x)), M=10, gamma=1).fit(x),
    "mind-ml": lambda of, x: of.MiND_ML(k=20, D=x.shape[1]).fit(x),
}
"""Calls of torchid, by its module of estimators and points. Its local PCA is of all points at once, and is left out."""

Spent = tuple[float, float, float]
"""CPU seconds, wall seconds, and the answer."""


def sphere(count: int, columns: int, seed: int) -> X:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found: X = x @ np.linalg.qr(rng.standard_normal((columns, columns)))[0][:6]
    return found


def plane(count: int, columns: int, seed: int) -> X:
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((columns, columns)))[0][:5]
    found: X = rng.standard_normal((count, 5)) @ axes + 0.01 * rng.standard_normal((count, columns))
    return found


def timed(work: Callable[[], float]) -> Spent:
    cpu, wall = time.process_time(), time.perf_counter()
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        found = work()
    return time.process_time() - cpu, time.perf_counter() - wall, found


def compared(name: str, x: X, rounds: int, skipped: bool) -> dict[str, Spent]:
    """The median CPU and wall seconds of each side, and its answer."""
    config, theirs = THEIRS[name]
    ours = NeighbourEstimator(config.model_copy(update={"limit": None, "resamples": 0}))
    sides: dict[str, Callable[[], float]] = {"ours": lambda: ours.point_estimate(torch.from_numpy(x)).number()}
    if not skipped:
        sides["skdim"] = lambda: theirs(x)
    if torchid is not None and name in TORCHID:
        single = torch.from_numpy(x).float()
        sides["torchid"] = lambda: float(TORCHID[name](torchid, single).dimension_)
    found: dict[str, list[Spent]] = {side: [] for side in sides}
    for _ in range(rounds + 1):
        for side, work in sides.items():
            found[side].append(timed(work))
    middle = statistics.median
    return {
        side: (middle(one[0] for one in each[1:]), middle(one[1] for one in each[1:]), each[-1][2])
        for side, each in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, nargs="*", default=[2500, 25_000])
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--plane", action="store_true", help="the points of torchid's benchmark")
    parser.add_argument("--only", default=",".join(THEIRS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if torchid is not None:
        faiss.omp_set_num_threads(1)
    sides = ["ours", "skdim", *(["torchid"] if torchid is not None else [])]
    heads = "".join(f"{side + ' CPU s':>14}{'wall s':>9}{'ratio':>7}" for side in sides)
    print(f"{'estimator':10}{'points':>8}{heads}   answers")
    for count in sorted(options.points):
        x = (plane if options.plane else sphere)(count, options.columns, 0)
        for name in options.only.split(","):
            skipped = count > MOST and name in ALL_PAIRS
            if skipped and name in OURS_TOO:
                continue
            found = compared(name, x, options.rounds, skipped)
            mine = found["ours"][0]
            cells = [
                f"{found[side][0]:14.3f}{found[side][1]:9.3f}{found[side][0] / mine:7.1f}"
                if side in found
                else f"{'-':>14}{'-':>9}{'-':>7}"
                for side in sides
            ]
            said = ", ".join(f"{answer:.6g}" for _, _, answer in found.values())
            print(f"{name:10}{count:8,}{''.join(cells)}   {said}", flush=True)


if __name__ == "__main__":
    main()
