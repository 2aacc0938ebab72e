"""The auto-encoder as scikit-learn's: its own checks, a PCA where the flow is linear, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from scorefold.config import TrainingConfig
from scorefold.interfaces import DataSource, Flow
from scorefold_pullback.autoencoder.sklearn import RiemannianPCA
from scorefold_pullback.flows.config import LinearFlowConfig
from scorefold_pullback.flows.linear import LinearFlow
from scorefold_standard.config import AffineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow
from scorefold_toolkit.sklearn import InputError

MakeFlow = Callable[..., Flow]
MIXING = np.array([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, 0.3, 0.2]])
X = np.random.default_rng(0).standard_normal((300, 3)) @ MIXING + 1


def gaussian(data: DataSource) -> Flow:
    """The Gaussian with the mean and covariance of the points, in closed form: nothing is left to train."""
    x = data.load("train").x.double()
    covariance = (x - x.mean(0)).mT @ (x - x.mean(0)) / len(x)
    covariance += 1e-9 * (1 + float(covariance.trace())) * torch.eye(x.shape[1], dtype=torch.float64)
    config = LinearFlowConfig.model_validate({"covariance": covariance.tolist(), "mean": x.mean(0).tolist()})
    return LinearFlow(config, dtype=torch.float64)


def coupling(data: DataSource) -> Flow:
    config = AffineCouplingConfig(
        layers=1, hidden=(8,), base="diagonal-normal", training=TrainingConfig(steps=20, warmup=1)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CouplingFlow(config, data=data)


@pytest.mark.parametrize(
    "made", [RiemannianPCA(gaussian), RiemannianPCA(coupling, n_components=1)], ids=["gaussian", "coupling"]
)
def test_check_estimator(made: RiemannianPCA) -> None:
    results: list[dict[str, Any]] = check_estimator(made, on_fail=None, on_skip=None)
    assert not [(result["check_name"], result["exception"]) for result in results if result["status"] == "failed"]
    assert sum(result["status"] == "passed" for result in results) > 35


def test_of_a_linear_flow_it_is_a_pca() -> None:
    ours, theirs = RiemannianPCA(gaussian, n_components=2).fit(X), PCA(2).fit(X)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_ * 299 / 300, rtol=1e-6)
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-6)
    codes = ours.transform(X)
    np.testing.assert_allclose(np.abs(codes), np.abs(theirs.transform(X)), atol=1e-9)
    back = ours.inverse_transform(codes)
    np.testing.assert_allclose(back, theirs.inverse_transform(theirs.transform(X)), atol=1e-9)
    np.testing.assert_allclose(ours.residuals(X), np.linalg.norm(back - X, axis=1), atol=1e-9)
    assert ours.get_feature_names_out().tolist() == ["riemannianpca0", "riemannianpca1"]
    np.testing.assert_allclose(ours.fit_transform(X), codes)


def test_a_share_says_how_many() -> None:
    shares = 1 - np.cumsum(PCA().fit(X).explained_variance_ratio_)
    for share in (0.5, 0.1, 0.001, 0.0):
        assert RiemannianPCA(gaussian, unexplained=share).fit(X).n_components_ == 1 + int((shares[:2] > share).sum())
    assert RiemannianPCA(gaussian).fit(X).n_components_ == RiemannianPCA(gaussian, unexplained=0.1).fit(X).n_components_


def test_a_fitted_flow_is_used_as_it_is(make_flow: MakeFlow) -> None:
    banana = make_flow("banana")
    x = banana.sample(50, generator=torch.Generator().manual_seed(0)).detach().numpy()
    made = RiemannianPCA(banana).fit(x)
    assert made.flow_ is banana
    np.testing.assert_allclose(made.transform(x), x[:, 1:])
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_allclose(again.inverse_transform(x[:, 1:])[:, 0], x[:, 1] ** 2 / 9)
    np.testing.assert_allclose(made.transform(x.astype(np.float32)), x[:, 1:], rtol=1e-6)
    assert made.transform(x.astype(np.float32)).dtype == np.float64


def test_a_flow_that_trains_does_so_on_the_rows() -> None:
    made = RiemannianPCA(coupling, n_components=2, random_state=3)
    first, again = made.fit(X).transform(X), clone(made).fit(X).transform(X)
    np.testing.assert_array_equal(first, again)
    other = clone(made).set_params(random_state=4).fit(X).transform(X)
    assert not np.array_equal(first, other)
    assert np.ptp(made.explained_variance_) > 0
    line = make_pipeline(StandardScaler(), RiemannianPCA(gaussian, n_components=1))
    assert line.fit_transform(X).shape == (300, 1)


def layered(data: DataSource, steps: int = 20) -> Flow:
    config = AffineCouplingConfig(layers=2, hidden=(8,), training=TrainingConfig(steps=steps, warmup=1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CouplingFlow(config, data=data)


def test_its_score_is_the_likelihood_as_a_pcas_is() -> None:
    ours, theirs = RiemannianPCA(gaussian).fit(X), PCA().fit(X)
    difference = 1 - (X.shape[0] - 1) / X.shape[0]
    assert ours.score(X) == pytest.approx(theirs.score(X), abs=3 * difference)
    np.testing.assert_allclose(ours.score_samples(X).mean(), ours.score(X))
    with pytest.raises(NotFittedError):
        RiemannianPCA(gaussian).score(X)


def test_settings_of_its_flow_are_searched_over() -> None:
    made = RiemannianPCA(layered, n_components=1)
    assert made.get_params()["flow__steps"] == 20
    bent = np.random.default_rng(0).standard_normal((400, 2))
    bent[:, 1] = bent[:, 0] ** 2 + 0.3 * bent[:, 1]
    search = GridSearchCV(made, {"flow__steps": [0, 200]}, cv=2).fit(bent)
    assert search.best_params_ == {"flow__steps": 200}
    assert pickle.loads(pickle.dumps(clone(search.best_estimator_))).get_params()["flow__steps"] == 200
    with pytest.raises(InputError, match="flow has no setting 'step'\n  did you mean flow__steps"):
        made.set_params(flow__step=3)


def test_codes_as_a_table() -> None:
    import pandas

    table = pandas.DataFrame(X, columns=list("abc"), index=range(5, 305))
    codes = RiemannianPCA(gaussian, n_components=2).set_output(transform="pandas").fit_transform(table)
    assert codes.columns.tolist() == ["riemannianpca0", "riemannianpca1"]
    assert codes.index.tolist() == list(range(5, 305))


def test_images_as_rows() -> None:
    x = np.random.default_rng(1).standard_normal((40, 12))
    flow = RiemannianPCA(lambda data: identity(tuple(data.event_shape)), event_shape=(3, 2, 2), n_components=2).fit(x)
    assert flow.flow_.event_shape == (3, 2, 2)
    assert flow.inverse_transform(flow.transform(x)).shape == (40, 12)


def identity(shape: tuple[int, ...]) -> Flow:
    from scorefold_pullback.flows.config import IdentityConfig
    from scorefold_pullback.flows.linear import IdentityFlow

    return IdentityFlow(IdentityConfig(event_shape=shape))


def test_refusals(make_flow: MakeFlow) -> None:
    banana = make_flow("banana")
    with pytest.raises(NotFittedError):
        RiemannianPCA(banana).transform(X)
    for made, message in (
        (RiemannianPCA(), "no flow was given"),
        (RiemannianPCA(banana), r"X has events \(3,\); the flow takes events \(2,\)"),
        (RiemannianPCA(gaussian, n_components=4), "n_components is 4; the flow has 3 coordinates"),
        (RiemannianPCA(gaussian, n_components=0), "n_components is 0; expected a whole number, at least 1"),
        (RiemannianPCA(gaussian, unexplained=1.5), "unexplained is 1.5; expected a share from 0 to 1"),
        (RiemannianPCA("gaussian"), "flow is 'gaussian'; expected a fitted flow"),
        (RiemannianPCA(gaussian, unexplained=0.1, n_components=1), "expected one of them"),
        (RiemannianPCA(gaussian, event_shape=(2, 2)), r"X has 3 features; events of shape \(2, 2\) have 4"),
    ):
        with pytest.raises(ValueError, match=message):
            made.fit(X)
    unfitted = CouplingFlow(AffineCouplingConfig(layers=1, base="diagonal-normal"), data=identity((3,)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="flow is not fitted"):
        RiemannianPCA(unfitted).fit(X)
    made = RiemannianPCA(gaussian, n_components=2).fit(X)
    with pytest.raises(InputError, match="X has 3 coordinates; codes have 2"):
        made.inverse_transform(X)
    with pytest.raises(ValueError, match="NaN"):
        made.inverse_transform(np.full((1, 2), np.nan))
