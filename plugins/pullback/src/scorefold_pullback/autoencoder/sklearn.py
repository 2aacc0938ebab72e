"""The Riemannian auto-encoder as a transformer of scikit-learn's, to stand where a PCA stood.

Needs scikit-learn 1.6 or later. It has no partial fits, sample weights, sparse input or whitening.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ScorefoldError
from scorefold.interfaces import DataSource, Flow, TensorSource
from scorefold_pullback.autoencoder.estimator import RiemannianAutoencoder
from scorefold_pullback.autoencoder.latent_axes import position_of
from scorefold_pullback.config import RiemannianAutoencoderConfig
from scorefold_toolkit.sklearn import InputError, SettingsInside, trained_model

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


class RiemannianPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SettingsInside):  # type: ignore[misc]
    """The coordinates of a flow that hold nearly all of its variance, as a PCA's components are of a linear map.

    ``flow`` is a fitted flow, which is used as it is, or a function that builds one for data (a ``DataSource``); one
    that can be trained is then trained on ``X`` by its own settings whenever ``fit`` is called. Keyword arguments of
    that function are set and searched over as ``flow__layers``. ``unexplained`` is the share of the variance that may
    be left, 0.1 where neither it nor ``n_components`` is given. Rows of ``X`` are events of shape ``event_shape``, by
    default vectors. ``random_state`` seeds the training; None is seed 0.

    After ``fit``: ``n_components_``; ``explained_variance_`` and ``explained_variance_ratio_`` (n_components_,), of the
    flow's base, widest first; ``flow_``; ``autoencoder_``; ``n_features_in_``.
    """

    def __init__(
        self,
        flow: Flow | Callable[[DataSource], Flow] | None = None,
        *,
        unexplained: float | None = None,
        n_components: int | None = None,
        event_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
    ) -> None:
        self.flow = flow
        self.unexplained = unexplained
        self.n_components = n_components
        self.event_shape = event_shape
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> RiemannianPCA:
        """Trains a flow on ``X`` (n, features), n at least 2, where there is one to train; ``y`` is not read.

        Raises ``InputError`` (a ``ValueError``) for data and parameters that don't fit. Returns itself.
        """
        x = self._events(validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2, copy=True))
        try:
            config = self._config()
            flow = self._fitted(x)
            if self.n_components is not None and self.n_components > flow.dimension:
                raise InputError(f"n_components is {self.n_components}; the flow has {flow.dimension} coordinates")
            autoencoder = RiemannianAutoencoder(config, flow=flow)
            autoencoder.check_fitted()
        except ScorefoldError as error:
            raise InputError(error.message, hint=error.hint) from error
        variances = autoencoder.axes.variances.cpu().numpy()
        self.flow_, self.autoencoder_ = flow, autoencoder
        self.n_components_ = autoencoder.dimension
        self.explained_variance_ = variances[: self.n_components_]
        self.explained_variance_ratio_ = self.explained_variance_ / variances.sum()
        return self

    def transform(self, X: Any) -> Array:
        """The codes (n, n_components_) of ``X`` (n, features), in the dtype of the flow."""
        return self._applied(RiemannianAutoencoder.encode, self._new(X))

    def inverse_transform(self, X: Any) -> Array:
        """The rows (n, features) of codes ``X`` (n, n_components_)."""
        check_is_fitted(self, "autoencoder_")
        codes = check_array(X, dtype=[np.float64, np.float32])
        if codes.shape[1] != self.n_components_:
            raise InputError(f"X has {codes.shape[1]} coordinates; codes have {self.n_components_}")
        return self._applied(RiemannianAutoencoder.decode, torch.as_tensor(codes))

    def residuals(self, X: Any) -> Array:
        """The distance (n,) of each row from its reconstruction: large for outliers."""
        return self._applied(RiemannianAutoencoder.residuals, self._new(X))

    def score_samples(self, X: Any) -> Array:
        """The log-density (n,) of each row under the flow, in nats."""
        check_is_fitted(self, "autoencoder_")
        return self._applied(lambda autoencoder, x: self.flow_.log_prob(x), self._new(X))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of ``score_samples``, as a PCA's ``score`` is under its normal distribution; ``y`` is not read."""
        return float(self.score_samples(X).mean())

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _new(self, X: Any) -> Tensor:
        check_is_fitted(self, "autoencoder_")
        return self._events(validate_data(self, X, dtype=[np.float64, np.float32], reset=False, copy=True))

    @torch.no_grad()
    def _applied(self, function: Callable[[RiemannianAutoencoder, Tensor], Tensor], x: Tensor) -> Array:
        place = position_of(self.flow_)
        answer = function(self.autoencoder_, x.to(place.device, place.dtype)).cpu()
        rows: Array = answer.flatten(1).numpy() if answer.dim() > 1 else answer.numpy()
        return rows

    def _events(self, points: Array) -> Tensor:
        shape = (points.shape[1],) if self.event_shape is None else tuple(self.event_shape)
        if int(np.prod(shape)) != points.shape[1]:
            raise InputError(f"X has {points.shape[1]} features; events of shape {shape} have {np.prod(shape)}")
        return torch.from_numpy(points).reshape(len(points), *shape)

    def _config(self) -> RiemannianAutoencoderConfig:
        if self.unexplained is not None and self.n_components is not None:
            raise InputError(
                f"unexplained is {self.unexplained} and n_components is {self.n_components}; expected one of them"
            )
        try:
            return RiemannianAutoencoderConfig(unexplained=self.unexplained, dimension=self.n_components)
        except ValidationError:
            if self.n_components is None:
                raise InputError(f"unexplained is {self.unexplained!r}; expected a share from 0 to 1") from None
            raise InputError(f"n_components is {self.n_components!r}; expected a whole number, at least 1") from None

    def _fitted(self, x: Tensor) -> Flow:
        """The flow that was given, or one that is built for events (n, *E) and trained on them."""
        flow = self.flow
        if flow is None:
            raise InputError("no flow was given", hint="RiemannianPCA(flow), with a fitted flow or a function of data")
        if not isinstance(flow, Flow):
            if not callable(flow):
                raise InputError(f"flow is {flow!r}; expected a fitted flow, or a function that builds one for data")
            dataset = Dataset(x, index=torch.arange(len(x)))
            built = flow(TensorSource({"train": dataset, "test": dataset}))
            flow = trained_model(built, dataset, self._seed())
        if flow.event_shape != tuple(x.shape[1:]):
            raise InputError(f"X has events {tuple(x.shape[1:])}; the flow takes events {flow.event_shape}")
        return flow

    def _seed(self) -> int:
        return 0 if self.random_state is None else int(check_random_state(self.random_state).randint(2**31 - 1))
