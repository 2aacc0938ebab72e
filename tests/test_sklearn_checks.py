"""scikit-learn's own checks, on every estimator of ours; scores and flows are trained by ``fit``."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import skdim.id
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from scorefold.interfaces import DataSource, Estimator, ScoreModel
from scorefold_neighbours.config import MLEConfig
from scorefold_registry import Host
from scorefold_toolkit.sklearn import EXPECTED_FAILED_CHECKS, DimensionEstimator, InputError, as_estimator

HOST = Host.discover()


def small_score(data: DataSource) -> ScoreModel:
    network = {"use": "network:mlp", "config": {"width": 8, "blocks": 1}}
    config = {"network": network, "training": {"steps": 3, "warmup": 1}}
    score: ScoreModel = HOST.create("score:denoising", config, data=data)
    return score


def of_score(score: ScoreModel, *, name: str, config: dict[str, Any]) -> Estimator:
    made: Estimator = HOST.create(f"estimator:{name}", config, score=score)
    return made


def lidl(data: DataSource) -> Estimator:
    training = {"steps": 3, "warmup": 1}
    flow = HOST.create("flow:affine-coupling", {"layers": 2, "hidden": [8], "training": training}, data=data)
    made: Estimator = HOST.create("estimator:lidl", {"levels": [0.05, 0.2]}, flow=flow, data=data)
    return made


ON_POINTS: dict[str, dict[str, Any]] = {
    "pca": {},
    "ppca": {},
    "mle": {"n_neighbors": 5},
    "ess": {"n_neighbors": 5},
    "tle": {"n_neighbors": 5},
    "mada": {"n_neighbors": 5},
    "mom": {"n_neighbors": 5},
    "lpca": {"n_neighbors": 5},
    "twonn": {},
    "corrint": {"near": 2, "far": 5},
    "danco": {"version": "DANCo", "n_neighbors": 3, "max_dimension": 4},
    "fishers": {},
    "knn": {"n_neighbors": 3},
    "mind-ml": {"n_neighbors": 3},
    "gride": {},
    "log-log": {},
    "geomle": {"near": 4, "far": 7},
    "ph": {},
    "i3d": {"step": 0.01},
}
ON_SCORES: dict[str, dict[str, Any]] = {
    "iddiff": {"resamples": 2, "levels": 3},
    "flipd": {"sweep": []},
    "denoising-loss": {"sweep": [], "draws": 2},
    "cascade": {"levels": 3, "draws": 2},
    "spectral-lanczos": {},
}
ESTIMATORS = (*ON_POINTS, *ON_SCORES, "lidl")
TOO_FEW = dict.fromkeys(
    ("check_n_features_in_after_fitting", "check_estimators_nan_inf", "check_fit2d_1feature"),
    "the method needs 18 or 20 points, and the check has 10 or 15",
)
DECLARED = dict.fromkeys(("danco", "geomle", "i3d", "knn", "ph"), TOO_FEW)


def made(name: str, comb: str | None = None) -> DimensionEstimator:
    if name in ON_POINTS:
        return as_estimator(HOST.create(f"estimator:{name}", {"resamples": 2} | ON_POINTS[name]), comb=comb)
    if name == "lidl":
        return as_estimator(lidl, random_state=3)
    build = partial(of_score, name=name, config=ON_SCORES[name])
    return as_estimator(build, score_model=small_score, comb=comb)


def test_every_estimator_of_ours_is_among_them() -> None:
    ours = {
        component.name
        for plugin in HOST.plugins
        if plugin.name in ("neighbours", "iddiff")
        for component in plugin.components
        if component.kind == "estimator"
    }
    assert ours == {*ESTIMATORS, "calibrated"}, "the calibrated one runs the others, for minutes a check"


@pytest.mark.filterwarnings("ignore::scorefold_toolkit.sklearn.NoSingleDimensionWarning")
@pytest.mark.parametrize(
    ("name", "comb"), [*((name, None) for name in ESTIMATORS), ("mle", "mode"), ("denoising-loss", "median")]
)
def test_check_estimator(name: str, comb: str | None) -> None:
    declared = EXPECTED_FAILED_CHECKS | DECLARED.get(name, {})
    results: list[dict[str, Any]] = check_estimator(
        made(name, comb), expected_failed_checks=declared, on_fail=None, on_skip=None
    )
    failed = [(result["check_name"], result["exception"]) for result in results if result["status"] == "failed"]
    assert not failed
    expected = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert expected == set(declared), "each of them does fail"
    assert sum(result["status"] == "passed" for result in results) > 35


def test_it_stands_where_scikit_dimensions_own_stands() -> None:
    """One method through both: the same pointwise numbers, and the same mean of them."""
    X = np.random.default_rng(0).standard_normal((200, 4))
    X = np.concatenate([X, X @ np.ones((4, 2))], axis=1)  # flat, so that no answer ends at the number of columns
    theirs = skdim.id.MOM().fit(X, n_neighbors=10)
    config = {"n_neighbors": 10, "resamples": 0}
    ours = as_estimator(HOST.create("estimator:mom", config)).fit(X)
    np.testing.assert_allclose(ours.dimension_pw_, theirs.dimension_pw_)
    assert ours.transform() == pytest.approx(theirs.transform())
    smooth = [model.fit(X, smooth=True, n_neighbors=10).dimension_pw_smooth_ for model in (ours, theirs)]
    np.testing.assert_allclose(smooth[0], smooth[1])


def test_settings_of_our_estimators_are_searched_over() -> None:
    """Few neighbours are noisy and too many see the curvature of the sphere: a search finds those between."""
    X = HOST.create("data:sphere", {"dimension": 3, "ambient": 8, "points": 1000}).load("train").x.numpy()
    mle = as_estimator(HOST.create("estimator:mle", {"resamples": 0}))
    search = GridSearchCV(mle, {"estimator__n_neighbors": [3, 30, 400]}).fit(X, np.full(len(X), 3))
    assert search.best_params_ == {"estimator__n_neighbors": 30}
    again = pickle.loads(pickle.dumps(clone(search.best_estimator_))).fit(X)
    assert again.get_params()["estimator__n_neighbors"] == 30
    assert again.dimension_ == search.best_estimator_.dimension_
    listed = {name for name in mle.get_params() if "__" in name}
    assert listed == {f"estimator__{name}" for name in MLEConfig.model_fields}
    assert search.best_estimator_.set_output(transform="pandas").transform_pw().shape == (800, 1)


def test_what_was_built_with_more_than_a_config_has_no_settings() -> None:
    sphere = HOST.create("data:sphere", {"points": 100})
    flipd = HOST.create("estimator:flipd", score=HOST.create("score:analytic", data=sphere))
    for built in (flipd, HOST.create("estimator:calibrated")):
        assert not [name for name in as_estimator(built).get_params() if "__" in name]
        with pytest.raises(InputError, match="no settings inside"):
            as_estimator(built).set_params(estimator__points=5)


def test_it_ends_a_pipeline_and_is_searched_over() -> None:
    X = np.random.default_rng(0).standard_normal((100, 3))
    mle = as_estimator(HOST.create("estimator:mle", {"resamples": 0}))
    line = make_pipeline(FunctionTransformer(lambda x: x[:, :2]), mle)
    assert line.fit_transform(X) == pytest.approx(2, abs=0.4)
    found = [mle.set_params(**settings).fit(X).dimension_ for settings in ParameterGrid({"comb": ["mean", "max"]})]
    assert found[1] > found[0]
