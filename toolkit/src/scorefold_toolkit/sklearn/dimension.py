"""An estimator of intrinsic dimension with the methods and attributes of scikit-dimension's (Bac et al. 2021)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import clone
from sklearn.utils import TransformerTags, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

import scorefold
from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Estimator, Flow, Progress, ScoreModel, TensorSource, Trainable
from scorefold.results import Estimate
from scorefold.seeds import derive_generator, derive_seed
from scorefold.summary import MOST_COLUMNS, describe_column, is_code, is_identifier
from scorefold_toolkit.checks import answer_of
from scorefold_toolkit.data.splits import rounding_warning, units_text
from scorefold_toolkit.libraries import library
from scorefold_toolkit.nearest import nearest_neighbours
from scorefold_toolkit.numerics import AGGREGATES, bootstrap_interval
from scorefold_toolkit.sklearn.settings import InputError, SettingsInside
from scorefold_toolkit.training import fit
from scorefold_toolkit.training.distributed import OneProcess
from scorefold_toolkit.training.validation import validation_loss

_Model = TypeVar("_Model", ScoreModel, Flow)

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

EXPECTED_FAILED_CHECKS = dict.fromkeys(
    (
        "check_transformer_data_not_an_array",
        "check_transformer_general",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
    ),
    "transform gives the dimension, one number for all points, as scikit-dimension's does",
)
"""The checks of ``sklearn.utils.estimator_checks.check_estimator`` that are known to fail, with the reason."""

_UNEVEN = 10.0
"""The ratio of the columns' spreads up to which nothing is said of their units."""
_LOOKED_AT = 1000


class NoSingleDimensionWarning(UserWarning):
    """The data or the model support no single dimension: ``dimension_`` is nan, and the text says the range."""


def as_estimator(
    estimator: str | Estimator | Callable[..., Estimator],
    *,
    score_model: ScoreModel | Callable[[DataSource], ScoreModel] | None = None,
    comb: str | None = None,
    event_shape: tuple[int, ...] | None = None,
    random_state: Any = None,
    **config: Any,
) -> DimensionEstimator:
    """An estimator of ours as one of scikit-learn's.

    ``estimator`` is the name of a component (``mle``), one that is built, or a function that builds it: from the score
    where one is given, and from the data otherwise. ``config`` are fields of a component that is named. ``score_model``
    is a fitted score, which is used as it is, or a function that builds one for the data; one that can be trained is
    then trained on ``X`` by its own settings. What is inside either of them is set and searched over as
    ``estimator__n_neighbors``: see ``SettingsInside``. ``comb`` says how the dimensions at points give one (mean,
    median, mode, max); None leaves that to the estimator. Rows of ``X`` are events of shape ``event_shape``, by default
    vectors. ``random_state`` seeds the training and the estimate; None is seed 0. Raises ``PluginError`` for a name
    that no plugin has, ``ConfigError`` for wrong fields, and ``InputError`` for a name of another kind, and for fields
    without a name.

    >>> import scorefold as sf
    >>> sf.as_estimator("mle", n_neighbors=10).get_params()["estimator__n_neighbors"]
    10
    """
    if isinstance(estimator, str):
        use = estimator if ":" in estimator else f"estimator:{estimator}"
        host = scorefold.Host.discover()
        if (kind := host.catalogue.resolve(use).component.kind) != "estimator":
            hint = f"sf.dimension({use!r}) asks about data" if kind == "data" else "score_model= takes a score"
            raise InputError(f"{use} is of the kind {kind!r}; expected an estimator, such as 'mle'", hint=hint)
        estimator = host.create(use, config) if score_model is None else partial(_from_score, use, config)
    elif config:
        raise InputError(f"{', '.join(config)} can be set by as_estimator where an estimator is given by its name")
    return DimensionEstimator(
        estimator, score_model=score_model, comb=comb, event_shape=event_shape, random_state=random_state
    )


def _from_score(use: str, config: dict[str, Any], score: ScoreModel) -> Estimator:
    made: Estimator = scorefold.Host.discover().create(use, config, score=score)
    return made


class DimensionEstimator(SettingsInside):
    """Estimator of ``as_estimator``, with its parameters.

    After ``fit``: ``dimension_``, nan with a ``NoSingleDimensionWarning`` where the data support no one number;
    ``interval_`` (low, high), or None; ``estimate_``, the whole ``Estimate``;
    ``n_features_in_``; where the estimator reads single points ``dimension_pw_`` (n,), nan at points that it left out;
    where there are any ``spectra_`` (m, D), ``sigma_`` and ``score_model_``; after ``smooth`` ``dimension_pw_smooth_``
    (n,).

    >>> from scorefold.data import as_dataset
    >>> class Rank(Estimator):
    ...     def estimate(self, data, *, generator=None):
    ...         return Estimate("intrinsic dimension", float(torch.linalg.matrix_rank(as_dataset(data).x)))
    >>> X = np.ones((6, 3)) * np.arange(6)[:, None]
    >>> DimensionEstimator(Rank()).fit(X).dimension_
    1.0
    """

    def __init__(
        self,
        estimator: Estimator | Callable[..., Estimator] | None = None,
        *,
        score_model: ScoreModel | Callable[[DataSource], ScoreModel] | None = None,
        comb: str | None = None,
        event_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.score_model = score_model
        self.comb = comb
        self.event_shape = event_shape
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any = None, *, smooth: bool = False, n_neighbors: int = 20, comb: str | None = None
    ) -> DimensionEstimator:
        """Estimates from ``X`` (n, features), n at least 2; ``y`` is not read. Returns itself.

        Gives a ``UserWarning`` where ``X`` lies so far from 0 that rounding hides how far neighbours are away, and
        where the spreads of columns differ more than tenfold and the dimension depends on their units.

        ``smooth`` also gives the mean over each point and its ``n_neighbors`` nearest ones; ``comb`` goes before the
        one given at construction. Raises ``InputError`` (a ``ValueError``) for data and parameters that don't fit.
        """
        points = self._checked(X)
        self._forget()
        answer = self._estimated(points)
        if answer.value is not None and (units := self._units(points)):
            warnings.warn(units, UserWarning, stacklevel=2)
            answer = answer.with_warnings([units])
        self.estimate_ = answer
        self.dimension_, self.interval_ = _value_or_nan(answer), answer.interval
        if answer.value is None:
            warnings.warn(answer.text(), NoSingleDimensionWarning, stacklevel=2)
        if answer.spectrum is not None:
            self.spectra_ = answer.spectrum.numpy()
        if "sigma" in answer.diagnostics:
            self.sigma_ = answer.diagnostics["sigma"]
        if answer.pointwise is not None:
            self.dimension_pw_ = _everywhere(answer, len(points))
        self._combine(comb or self.comb)
        if smooth:
            self._smooth(points, n_neighbors)
        return self

    def transform(self, X: Any = None) -> float:
        """The dimension found by ``fit``; ``X`` is only held to have as many features."""
        check_is_fitted(self, "dimension_")
        if X is not None:
            validate_data(self, X, reset=False)
        return self.dimension_

    def fit_transform(self, X: Any, y: Any = None, **settings: Any) -> float:
        """The dimension of ``X``; ``settings`` go to ``fit``."""
        return self.fit(X, y, **settings).dimension_

    def fit_pw(self, X: Any, y: Any = None, *, smooth: bool = False, n_neighbors: int = 100) -> DimensionEstimator:
        """As ``fit``, with ``dimension_pw_`` for every estimator: one that doesn't read single points is applied to
        each point's ``n_neighbors`` nearest ones, itself among them. Raises as ``fit``.
        """
        self.fit(X, y)
        points = self._checked(X)
        if not hasattr(self, "dimension_pw_"):
            _, near = nearest_neighbours(torch.from_numpy(points), min(n_neighbors, len(points)) - 1)
            self.dimension_pw_ = np.array(
                [_value_or_nan(self._estimated(points[[i, *rows]])) for i, rows in enumerate(near.tolist())]
            )
        if smooth:
            self._smooth(points, n_neighbors)
        return self

    def transform_pw(self, X: Any = None) -> Any:
        """The dimensions at the points (n,) found by ``fit_pw``, with the smoothed ones where these were asked for.

        One array or two, or a table: see ``set_output``.
        """
        check_is_fitted(self, "dimension_pw_")
        if X is not None:
            validate_data(self, X, reset=False)
        smooth = getattr(self, "dimension_pw_smooth_", None)
        wanted = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        if wanted != "pandas":
            return self.dimension_pw_ if smooth is None else (self.dimension_pw_, smooth)
        with library("a table of pandas", "scorefold-toolkit[sklearn]"):
            import pandas as pd
        columns = {"dimension": self.dimension_pw_} | ({} if smooth is None else {"dimension_smooth": smooth})
        return pd.DataFrame(columns, index=self._index)

    def fit_transform_pw(self, X: Any, y: Any = None, **settings: Any) -> Any:
        """The dimensions at the points of ``X``; ``settings`` go to ``fit_pw``."""
        return self.fit_pw(X, y, **settings).transform_pw()

    def score(self, X: Any, y: Any = None) -> float:
        """The score of the fit at other points ``X`` (n, features); the larger the better.

        Where the true dimensions ``y`` (n,) of the rows are given, minus the mean of ``abs(dimension_ - y)``. Otherwise
        where ``fit`` trained a score, minus its loss at ``X``; and else minus the difference between ``dimension_`` and
        the dimension that the same parameters give for ``X``: a dimension that changes with the points scores low.
        """
        check_is_fitted(self, "dimension_")
        points = validate_data(self, X, dtype=[np.float64, np.float32], reset=False, copy=True)
        if y is not None:
            known = column_or_1d(y, dtype=np.float64)
            check_consistent_length(points, known)
            return -float(np.abs(self.dimension_ - known).mean())
        score = getattr(self, "score_model_", None)
        if score is not self.score_model and isinstance(score, Trainable):
            return -_loss(score, dataset_of(points, self.event_shape))
        again: DimensionEstimator = clone(self).set_params(score_model=score)
        return -abs(self.dimension_ - float(again.fit(points).dimension_))

    def set_output(self, *, transform: str | None = None) -> DimensionEstimator:
        """Set the output of ``transform_pw`` and ``fit_transform_pw``: arrays (``default``), or a table (``pandas``).

        Its columns are ``dimension`` and, where it was smoothed, ``dimension_smooth``; it has the index of the table
        that ``fit`` was given. None changes nothing; ``transform`` gives a number all the same. Returns itself. Raises
        ``InputError`` for another word.
        """
        if transform not in (None, "default", "pandas"):
            raise InputError(f"transform is {transform!r}; expected 'default' or 'pandas'")
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags(preserves_dtype=[])
        return tags

    def _checked(self, X: Any) -> Array:
        """X as a new array (n, features). scikit-learn's own words for what is wrong with it, as ``ValueError``."""
        if isinstance(X, torch.Tensor):
            X = X.detach().cpu()
            X = X.float() if X.dtype == torch.bfloat16 else X  # numpy has no such numbers
        points: Array = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2, copy=True)
        self._index = X.index if hasattr(X, "iloc") else None
        shape = self.event_shape
        if shape is not None and int(np.prod(shape)) != points.shape[1]:
            raise InputError(f"X has {points.shape[1]} features; events of shape {tuple(shape)} have {np.prod(shape)}")
        return points

    def _forget(self) -> None:
        """Remove attributes of an earlier fit that this fit may not set."""
        for name in ("dimension_pw_", "dimension_pw_smooth_", "spectra_", "sigma_", "score_model_"):
            if hasattr(self, name):
                delattr(self, name)

    def _seed(self) -> int:
        return 0 if self.random_state is None else int(check_random_state(self.random_state).randint(2**31 - 1))

    def _estimated(self, points: Array) -> Estimate:
        dataset, seed = dataset_of(points, self.event_shape), self._seed()
        try:
            estimator = self._built(TensorSource({"train": dataset, "test": dataset}), seed)
            generator = derive_generator(seed, "estimate")
            answer = answer_of(estimator.estimate, Estimate, dataset, generator=generator)
        except DataError as error:
            raise InputError(error.message, hint=error.hint) from error
        rounded = rounding_warning(dataset.tensor())
        if rounded:
            warnings.warn(rounded, UserWarning, stacklevel=3)
        return answer.with_warnings([rounded] if rounded else [])

    def _units(self, points: Array) -> str:
        """The warning that the dimension depends on the units of the columns; empty where it does not."""
        if self.event_shape is not None or points.shape[1] > MOST_COLUMNS:
            return ""
        some = points[:: math.ceil(len(points) / _LOOKED_AT)]
        columns = [describe_column("", values) for values in some.T]
        spreads = [one.spread for one in columns if one.spread and not (is_code(one) or is_identifier(one))]
        text = units_text(torch.from_numpy(some)) if spreads and max(spreads) > _UNEVEN * min(spreads) else ""
        return text and f"the dimension {text}. Put StandardScaler() before this step, unless all columns have one unit"

    def _built(self, source: TensorSource, seed: int) -> Estimator:
        made, score = self.estimator, self.score_model
        for name, part in (("estimator", made), ("score_model", score)):
            if not (part is None or isinstance(part, Estimator) or callable(part)):
                raise InputError(
                    f"{name} is {part!r}; expected one that is built, or a function that builds it",
                    hint=f"as_estimator({part!r}) builds it" if isinstance(part, str) and name == "estimator" else None,
                )
        if made is None:
            raise InputError("no estimator was given", hint="as_estimator('mle'), or another by its name")
        if isinstance(made, Estimator):
            if score is not None:
                raise InputError(
                    f"{type(made).__name__} is built already and can't take the score",
                    hint="give a function that builds it from the score: lambda score: host.create(..., score=score)",
                )
            return made
        if score is not None and not isinstance(score, ScoreModel):
            score = trained_model(score(source), source.load("train"), derive_seed(seed, "training"))
        if score is not None:
            self.score_model_ = score
        built = made(source if score is None else score)
        if not isinstance(built, Estimator):
            raise InputError(f"the function {made!r} gave a {type(built).__name__}; expected an Estimator")
        return built

    def _combine(self, comb: str | None) -> None:
        """The dimensions at points as one, with its bootstrap over them, where ``comb`` asks for that."""
        if comb is None:
            return
        if comb not in AGGREGATES:
            raise InputError(f"comb is {comb!r}; expected {', '.join(AGGREGATES)}, or None")
        if not hasattr(self, "dimension_pw_"):
            raise InputError(
                f"comb is {comb!r}, and this estimator gives no dimension at single points",
                hint="leave comb out, or use an estimator that reads single points",
            )
        if self.estimate_.value is None:
            return
        values = torch.from_numpy(self.dimension_pw_)
        values = values[values.isfinite()]
        self.dimension_ = float(AGGREGATES[comb](values))
        generator = derive_generator(self._seed(), "comb")
        self.interval_ = bootstrap_interval(values, AGGREGATES[comb], self.estimate_.level, generator)

    def _smooth(self, points: Array, n_neighbors: int) -> None:
        if not hasattr(self, "dimension_pw_"):
            raise InputError("smooth is set, and this estimator gives no dimension at single points", hint="use fit_pw")
        _, near = nearest_neighbours(torch.from_numpy(points), min(n_neighbors, len(points) - 1))
        around = np.column_stack([np.arange(len(points)), near.numpy()])
        values = self.dimension_pw_[around]
        known = np.isfinite(values)
        count = np.maximum(known.sum(1), 1)
        mean = np.where(known, values, 0.0).sum(1) / count
        self.dimension_pw_smooth_ = np.where(known.any(1), mean, np.nan)


def dataset_of(points: Array, event_shape: tuple[int, ...] | None = None) -> Dataset:
    """Rows (n, features) as a data set of events, by default vectors."""
    x = torch.from_numpy(points)
    x = x if event_shape is None else x.reshape(len(x), *event_shape)
    return Dataset(x, index=torch.arange(len(x)))


def trained_model(model: _Model, data: Dataset, seed: int = 0) -> _Model:
    """A model trained on data in its own dtype by its own settings; one that can't be trained as it is."""
    if isinstance(model, Trainable) and isinstance(model, nn.Module):
        fit(model, _for(model, data), model.training_config, seed=seed)
    return model


def _loss(model: Trainable, data: Dataset) -> float:
    """The mean loss of a trained model at points, as a validation computes it."""
    assert isinstance(model, nn.Module)
    progress = Progress(0, 1, model.phases()[-1].name)
    here = OneProcess(next(model.parameters()).device, "no")
    return validation_loss(model, _for(model, data), 256, progress=progress, seed=0, processes=here)


def _for(model: nn.Module, data: Dataset) -> Dataset:
    """Data in the dtype of a model."""
    return data.to(dtype=next((part.dtype for part in model.parameters() if part.is_floating_point()), None))


def _value_or_nan(answer: Estimate) -> float:
    return math.nan if answer.value is None else answer.value


def _everywhere(answer: Estimate, count: int) -> Array:
    """The dimensions at the points (count,), nan where the estimate covers no point."""
    assert answer.pointwise is not None
    values = np.full(count, np.nan)
    values[answer.diagnostics.get("index", slice(None))] = answer.pointwise.numpy()
    return values
