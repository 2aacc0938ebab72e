"""Answers beside scikit-dimension 0.5's, and where they differ, why."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold_neighbours import config as configs
from scorefold_neighbours.estimators import danco, formulas
from scorefold_neighbours.estimators.estimator import NeighbourEstimator, _sizes
from scorefold_neighbours.estimators.points import estimate_generator
from scorefold_toolkit.nearest import Cloud

with warnings.catch_warnings():  # its import switches all warnings off
    import skdim

Array = np.ndarray
SETS = ((200, 3, 8), (150, 5, 30), (120, 2, 3))
"""Numbers of points, dimensions and columns."""

SEED = int(torch.randint(0, 2**31 - 1, (), generator=estimate_generator(None)))
"""What an estimator seeds its method with, where it is given no generator."""


def sphere(count: int, dimension: int, columns: int) -> Tensor:
    """Points near a sphere that is turned into the columns, in the order in which an estimator reads them."""
    rng = np.random.default_rng(count)
    z = rng.standard_normal((count, dimension + 1))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    turned = z @ np.linalg.qr(rng.standard_normal((columns, columns)))[0][: dimension + 1]
    return torch.unique(torch.from_numpy(turned + 0.02 * rng.standard_normal((count, columns))), dim=0)


def local(name: str, k: int, **settings: Any) -> Callable[[Array], Array]:
    return lambda x: getattr(skdim.id, name)(**settings).fit(x, n_neighbors=k).dimension_pw_


def patched(rule: str, k: int = 20) -> Callable[[Array], Array]:
    return lambda x: skdim.id.lPCA(ver=rule, alphaRatio=0.95).fit_transform_pw(x, n_neighbors=k)


def whole(name: str, **settings: Any) -> Callable[[Array], float]:
    return lambda x: float(getattr(skdim.id, name)(**settings).fit(x).dimension_)


RULES = ("FO", "maxgap", "ratio", "participation_ratio", "Kaiser", "broken_stick")
PAIRS: list[tuple[Any, Callable[[Array], Any]]] = [
    (configs.MLEConfig(), local("MLE", 20)),
    (configs.MLEConfig(unbiased=True), local("MLE", 20, unbiased=True)),
    (configs.TwoNNConfig(), whole("TwoNN")),
    (configs.TwoNNConfig(method="mle", discard=0.37), whole("TwoNN", method="mle", discard_fraction=0.37)),
    *((configs.LPCAConfig.model_validate({"rule": rule, "n_neighbors": 20}), patched(rule)) for rule in RULES),
    (configs.CorrIntConfig(near=5, far=12), whole("CorrInt", k1=5, k2=12)),
    (configs.FisherSConfig(), whole("FisherS")),
    (configs.FisherSConfig(condition=100), whole("FisherS", conditional_number=100)),
    (configs.ESSConfig(n_neighbors=12), local("ESS", 12)),
    (configs.ESSConfig(n_neighbors=12, version="b"), local("ESS", 12, ver="b")),
    (configs.TLEConfig(), local("TLE", 20)),
    (configs.MADAConfig(), local("MADA", 20)),
    (configs.MADAConfig(n_neighbors=11), local("MADA", 11)),
    (configs.MOMConfig(), local("MOM", 50)),
    (
        configs.KNNConfig(),
        lambda x: float(skdim.id.KNN(5, _sizes(configs.KNNConfig(), len(x)), 10, 1, SEED).fit(x).dimension_),
    ),
    (configs.MiNDMLConfig(), lambda x: float(skdim.id.MiND_ML(20, x.shape[1]).fit(x).dimension_)),
    (configs.MiNDMLConfig(version="MLi"), lambda x: float(skdim.id.MiND_ML(20, x.shape[1], "MLi").fit(x).dimension_)),
    (configs.GRIDEConfig(), whole("GRIDE", n1=2, n2=4)),
    (configs.GRIDEConfig(near=3, far=9), whole("GRIDE", n1=3, n2=9)),
    (configs.PHConfig(sizes=4), whole("PH", nsteps=4, subsamples=2, random_state=SEED)),
    (configs.PHConfig(sizes=4, power=0.5), whole("PH", alpha=0.5, nsteps=4, subsamples=2, random_state=SEED)),
]


@pytest.mark.parametrize(("count", "dimension", "columns"), SETS)
@pytest.mark.parametrize(("config", "theirs"), PAIRS, ids=lambda value: type(value).__name__)
def test_answers_are_theirs(
    config: Any, theirs: Callable[[Array], Any], count: int, dimension: int, columns: int
) -> None:
    x = sphere(count, dimension, columns)
    found = NeighbourEstimator(config.model_copy(update={"resamples": 0})).point_estimate(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs(x.numpy())
    if found.pointwise is None:
        assert found.value == pytest.approx(expected, rel=1e-6)
    else:
        np.testing.assert_allclose(found.pointwise, expected, rtol=1e-6)


def test_a_pair_at_the_radius_is_never_counted() -> None:
    """Of an odd number of points the median is a pair's distance. Rounding decides whether theirs counts it."""
    x = sphere(121, 2, 3)
    config = configs.CorrIntConfig(resamples=0)
    found, theirs = NeighbourEstimator(config).point_estimate(x).number(), whole("CorrInt")(x.numpy())
    assert found == pytest.approx(theirs, rel=2 / 121)
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1).values
    radii = [float(apart[:, k].median()) for k in (10, 20)]
    small, large = (float((apart[:, 1:] < radius * (1 - 1e-9)).sum()) for radius in radii)
    assert found == pytest.approx(np.log(large / small) / np.log(radii[1] / radii[0]), rel=1e-12)


def test_mind_finds_the_maximum_where_their_search_steps_to_0() -> None:
    """Their line search may try dimension 0, where their likelihood is one number, and then ends where it began."""
    stuck = 0
    for seed in range(12):
        draws = torch.Generator().manual_seed(seed)
        x = torch.unique(torch.rand(20, 2, generator=draws, dtype=torch.float64), dim=0)
        distances = Cloud(x).neighbours(11)[0]
        config = configs.MiNDMLConfig(n_neighbors=10, max_dimension=9)
        found = formulas.mind_ml(config, distances, 9)
        theirs = float(skdim.id.MiND_ML(10, 9).fit(x.numpy()).dimension_)
        logs = (distances[:, 0] / distances[:, -1]).log()
        at = [formulas._log_likelihood(logs, 10, d) for d in (theirs, found - 1e-3, found, found + 1e-3)]
        assert max(at) == at[2] or found == pytest.approx(theirs, rel=1e-6)
        assert theirs == pytest.approx(found, rel=1e-6) or theirs.is_integer()
        stuck += theirs.is_integer()
    assert stuck > 0


def test_tight_answers_do_not_depend_on_units_and_theirs_do() -> None:
    """Theirs leaves out measurements below 1e-4 in the units of the data, ours those below 1e-4 of the radius."""
    x = sphere(100, 3, 5)
    estimator = NeighbourEstimator(configs.TLEConfig(resamples=0))
    one, small = (estimator.point_estimate(x * unit).number() for unit in (1.0, 1e-6))
    assert small == pytest.approx(one, rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not bool((local("TLE", 20)(1e-6 * x.numpy()) > 0).any())


def test_ess_takes_every_pair_of_many_neighbours() -> None:
    """Theirs takes 5,000 of the 5,460 pairs of 105 neighbours at random."""
    x = sphere(140, 3, 5)
    ours = NeighbourEstimator(configs.ESSConfig(n_neighbors=105, resamples=0)).point_estimate(x).pointwise
    assert ours is not None
    theirs = [skdim.id.ESS(random_state=seed).fit(x.numpy()[:106], n_neighbors=105) for seed in range(1)]
    first = NeighbourEstimator(configs.ESSConfig(n_neighbors=105, resamples=0)).point_estimate(x[:106]).pointwise
    assert first is not None
    np.testing.assert_allclose(first, theirs[0].dimension_pw_, rtol=0.02)
    assert not np.allclose(first, theirs[0].dimension_pw_, rtol=1e-6)


@pytest.mark.parametrize(("count", "dimension", "columns"), [(200, 3, 8), (150, 8, 12)])
def test_danco_is_theirs_beside_the_same_balls(count: int, dimension: int, columns: int) -> None:
    x = sphere(count, dimension, columns)
    config = configs.DANCoConfig(version="DANCo", resamples=0)
    known = danco.simulated_statistics(count, 10, columns, SEED)
    cells = [dict(zip(("dhat", "mu_nu", "mu_tau"), map(float, row), strict=True)) for row in known]
    theirs = skdim.id.DANCo(calibration_data={"k": 10, "N": count, "maxdim": columns, "calibration_data": cells})
    expected = theirs.fit(x.numpy()).dimension_
    assert NeighbourEstimator(config).point_estimate(x).value == pytest.approx(expected, rel=1e-6)


def test_the_table_of_balls_is_that_of_theirs_where_their_search_does_not_step_to_0() -> None:
    from skdim.id import _DANCo

    table = np.load(_DANCo._FIT_TABLE)
    for count in (40, 200, 1000):
        place = list(table["cardinalities"]).index(count)
        ours = danco.of_balls(count, 100)
        for dimension in (3, 5, 10, 25, 60, 100):
            theirs = [table[name][dimension - 1, place] for name in ("dhat", "mu_nu", "mu_tau")]
            np.testing.assert_allclose(ours[dimension - 1], theirs, rtol=0.03, atol=0.03)
