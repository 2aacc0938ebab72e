"""The scikit-learn face with toy estimators: what each attribute and method gives, and what is refused."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from pydantic import Field, model_validator
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from scorefold.config import Config, TrainingConfig
from scorefold.data import Condition, Dataset, as_dataset
from scorefold.diffusion import VE
from scorefold.errors import ConfigError, DataError, PluginError
from scorefold.interfaces import DataSource, Estimator, Loss, Progress, ScoreModel, TensorSource, Trainable
from scorefold.results import Estimate
from scorefold_toolkit.data.splits import units_text
from scorefold_toolkit.numerics import AGGREGATES
from scorefold_toolkit.sklearn import DimensionEstimator, InputError, NoSingleDimensionWarning, as_estimator


class Fixed(Estimator):
    """Gives these numbers at the points with these positions."""

    def __init__(self, pointwise: list[float] | None, index: list[int] | None = None) -> None:
        self.pointwise, self.index = pointwise, index

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        x = as_dataset(data).x
        if len(x) < 3:
            raise DataError(f"{len(x)} points were given; at least 3 are needed", hint="give more")
        diagnostics: dict[str, Any] = {"sigma": 0.25, "shape": tuple(x.shape), "dtype": x.dtype}
        if self.index is not None:
            diagnostics["index"] = torch.tensor(self.index)
        if self.pointwise is None:
            return Estimate("intrinsic dimension", float(x[:, 0].mean()), (0.0, 1.0), diagnostics=diagnostics)
        values = torch.tensor(self.pointwise, dtype=torch.float64)
        return Estimate(
            "intrinsic dimension",
            float(values.mean()),
            pointwise=values,
            spectrum=torch.ones(2, x[0].numel()),
            diagnostics=diagnostics,
        )


class Unsure(Estimator):
    """Has dimensions at points and no single one."""

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        pointwise = as_dataset(data).x[:, 0].double()
        return Estimate("intrinsic dimension", None, pointwise=pointwise, headline="1 to 3; no single dimension")


@pytest.mark.parametrize("comb", [None, "mean"])
def test_no_single_dimension_is_nan_with_a_warning(comb: str | None) -> None:
    estimator = as_estimator(Unsure(), comb=comb)
    with pytest.warns(NoSingleDimensionWarning, match="intrinsic dimension: 1 to 3; no single dimension"):
        estimator.fit(np.arange(8.0).reshape(4, 2))
    assert np.isnan(estimator.dimension_)
    assert estimator.interval_ is None
    assert estimator.dimension_pw_.tolist() == [0, 2, 4, 6]


class Drawn(Estimator):
    """One random number."""

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        return Estimate("intrinsic dimension", float(torch.rand((), generator=generator)))


class Learned(ScoreModel, Trainable):
    """A score -w x, whose training takes w from 1 to 0."""

    def __init__(self, data: DataSource) -> None:
        super().__init__(VE(0.01, 10.0), data.event_shape)
        self.weight = nn.Parameter(torch.ones(()))
        self.training_config = TrainingConfig(steps=40, warmup=1, learning_rate=0.1, ema=None, schedule="constant")

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        return -self.weight * x

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        return Loss(self.weight.square())


class Reading(Estimator):
    """The weight of the score that it was given."""

    def __init__(self, score: ScoreModel) -> None:
        self.weight = next(score.parameters())

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        return Estimate("intrinsic dimension", float(self.weight.detach()))


X = np.arange(20.0).reshape(5, 4)
LEARNED = TensorSource(torch.from_numpy(X))
VALUES = [1.0, 2.0, 2.2, 4.0, 9.0]


def test_attributes_and_methods() -> None:
    made = as_estimator(Fixed(VALUES))
    with pytest.raises(NotFittedError):
        made.transform()
    assert made.fit(X) is made
    assert made.dimension_ == made.transform() == made.transform(X) == made.fit_transform(X) == np.mean(VALUES)
    assert made.dimension_pw_.tolist() == VALUES
    assert made.interval_ is None
    assert made.spectra_.shape == (2, 4)
    assert (made.sigma_, made.n_features_in_) == (0.25, 4)
    assert made.estimate_.quantity == "intrinsic dimension"
    pointwise = made.transform_pw(X)
    assert isinstance(pointwise, np.ndarray)
    assert pointwise.tolist() == VALUES
    with pytest.raises(ValueError, match="features"):
        made.transform(X[:, :2])


@pytest.mark.parametrize(("comb", "value"), [("mean", 3.64), ("median", 2.2), ("mode", 2.0), ("max", 9.0)])
def test_points_are_combined(comb: str, value: float) -> None:
    assert set(AGGREGATES) == {"mean", "median", "mode", "max"}
    made = as_estimator(Fixed(VALUES), comb=comb).fit(X)
    assert made.dimension_ == pytest.approx(value)
    assert made.interval_ is not None
    assert made.interval_[0] <= value <= made.interval_[1]
    assert as_estimator(Fixed(VALUES)).fit(X, comb=comb).dimension_ == pytest.approx(value)


def test_points_that_are_left_out_are_nan() -> None:
    made = as_estimator(Fixed([3.0, 5.0], index=[4, 1]), comb="max").fit(X, smooth=True, n_neighbors=1)
    np.testing.assert_array_equal(made.dimension_pw_, [np.nan, 5, np.nan, np.nan, 3])
    assert made.dimension_ == 5
    np.testing.assert_array_equal(made.dimension_pw_smooth_[[1, 4]], [5, 3])


def test_smoothing_is_the_mean_with_the_neighbours() -> None:
    made = as_estimator(Fixed(VALUES)).fit(X, smooth=True, n_neighbors=1)
    assert made.dimension_pw_smooth_[0] == pytest.approx(1.5)
    assert made.dimension_pw_smooth_[4] == pytest.approx(6.5)
    assert as_estimator(Fixed(VALUES)).fit(X, smooth=True).dimension_pw_smooth_ == pytest.approx([np.mean(VALUES)] * 5)
    both = as_estimator(Fixed(VALUES)).fit_transform_pw(X, smooth=True)
    assert isinstance(both, tuple)
    assert [len(part) for part in both] == [5, 5]


def test_an_estimator_without_points_is_applied_to_neighbourhoods() -> None:
    """Of the first coordinates 0, 4, .., 16 the means over each point and its two nearest."""
    made = as_estimator(Fixed(None))
    assert not hasattr(made.fit(X), "dimension_pw_")
    pointwise = made.fit_pw(X, n_neighbors=3).transform_pw()
    assert isinstance(pointwise, np.ndarray)
    assert pointwise.tolist() == pytest.approx([4, 4, 8, 12, 12])
    assert (made.dimension_, made.interval_) == (8, (0, 1))


def test_a_second_fit_forgets_the_first() -> None:
    made = as_estimator(Fixed(VALUES)).fit(X, smooth=True)
    made.set_params(estimator=Fixed(None)).fit(X)
    assert not hasattr(made, "dimension_pw_")
    assert not hasattr(made, "dimension_pw_smooth_")
    assert not hasattr(made, "spectra_")


def test_events_have_the_shape_that_is_asked_for_and_their_dtype() -> None:
    images = as_estimator(Fixed(VALUES), event_shape=(1, 2, 2)).fit(X.astype(np.float32))
    assert images.estimate_.diagnostics["shape"] == (5, 1, 2, 2)
    assert images.estimate_.diagnostics["dtype"] == torch.float32
    assert as_estimator(Fixed(VALUES)).fit(X.astype(int)).estimate_.diagnostics["dtype"] == torch.float64
    with pytest.raises(InputError, match=r"4 features.*\(3,\) have 3"):
        as_estimator(Fixed(VALUES), event_shape=(3,)).fit(X)


def test_a_function_builds_the_estimator_from_the_data() -> None:
    shapes = []

    def build(data: DataSource) -> Estimator:
        shapes.append((data.event_shape, len(data.load("train")), data.event_scale.mean))
        return Fixed(VALUES)

    as_estimator(build).fit(X)
    assert shapes == [((4,), 5, 9.5)]


def test_a_score_is_trained_or_taken_as_it_is() -> None:
    trained = as_estimator(Reading, score_model=Learned, random_state=3).fit(X)
    assert abs(trained.dimension_) < 0.3
    assert isinstance(trained.score_model_, Learned)
    again = clone(trained).fit(X)
    assert again.dimension_ == trained.dimension_
    fitted = trained.score_model_
    with torch.no_grad():
        fitted.weight.fill_(7.0)
    assert as_estimator(Reading, score_model=fitted).fit(X).dimension_ == 7
    with pytest.raises(InputError, match="built already"):
        as_estimator(Fixed(VALUES), score_model=Learned).fit(X)


def test_random_states_decide() -> None:
    def drawn(state: Any) -> float:
        return as_estimator(Drawn(), random_state=state).fit(X).dimension_

    assert drawn(None) == drawn(None) == drawn(None)
    assert drawn(1) == drawn(1)
    assert len({drawn(None), drawn(1), drawn(2)}) == 3
    stream = np.random.RandomState(5)
    assert drawn(stream) != drawn(stream)


def test_it_is_cloned_set_and_pickled() -> None:
    made = as_estimator(Fixed(VALUES), comb="max", random_state=1).fit(X)
    assert set(made.get_params(False)) == {"estimator", "score_model", "comb", "event_shape", "random_state"}
    copy = clone(made)
    assert copy.comb == "max"
    assert not hasattr(copy, "dimension_")
    assert pickle.loads(pickle.dumps(made)).dimension_ == 9
    assert "DimensionEstimator" in repr(made)


class ScaledConfig(Config):
    factor: float = Field(1.0, gt=0)
    low: float = 0.0

    @model_validator(mode="after")
    def _order(self) -> ScaledConfig:
        if self.low > self.factor:
            raise ValueError(f"low is {self.low:g} and factor {self.factor:g}; low must be the smaller one")
        return self


class Scaled(Estimator):
    """A factor times the mean of the first coordinate."""

    def __init__(self, config: ScaledConfig) -> None:
        self.config = config

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        return Estimate("intrinsic dimension", self.config.factor * float(as_dataset(data).x[:, 0].mean()))


def brief(data: DataSource, steps: int = 40) -> ScoreModel:
    made = Learned(data)
    made.training_config = TrainingConfig(steps=steps, warmup=1, learning_rate=0.1, ema=None, schedule="constant")
    return made


def test_settings_inside_are_parameters() -> None:
    made = as_estimator(Scaled(ScaledConfig()))
    inside = {name: value for name, value in made.get_params().items() if "__" in name}
    assert inside == {"estimator__factor": 1.0, "estimator__low": 0.0}
    assert "estimator__factor" not in made.get_params(deep=False)
    first = made.estimator
    assert made.set_params(estimator__factor=2.0).fit(X).dimension_ == 16
    assert isinstance(first, Scaled)
    assert first.config.factor == 1, "the one that was given stays as it is"
    copy = clone(made)
    assert copy.get_params()["estimator__factor"] == 2
    assert pickle.loads(pickle.dumps(copy)).fit(X).dimension_ == 16
    assert made.set_params(estimator=Scaled(ScaledConfig()), estimator__low=0.5).get_params()["estimator__factor"] == 1


def test_keyword_arguments_of_functions_are_parameters() -> None:
    made = as_estimator(Reading, score_model=partial(brief, steps=30))
    assert made.get_params()["score_model__steps"] == 30
    made.set_params(score_model__steps=5).fit(X)
    assert isinstance(made.score_model_, Learned)
    assert made.score_model_.training_config.steps == 5
    assert clone(made).get_params()["score_model__steps"] == 5
    assert pickle.loads(pickle.dumps(clone(made))).fit(X).dimension_ == made.dimension_


def test_a_search_over_settings_inside() -> None:
    """Without y the factor whose dimensions differ least between folds wins; with y the one that comes nearest."""
    rows = np.arange(40.0).reshape(20, 2)[np.random.default_rng(0).permutation(20)]
    grid = {"estimator__factor": [0.1, 0.5, 2.0]}
    assert GridSearchCV(as_estimator(Scaled(ScaledConfig())), grid).fit(rows).best_params_ == {"estimator__factor": 0.1}
    found = GridSearchCV(as_estimator(Scaled(ScaledConfig())), grid).fit(rows, np.full(20, 9.5))
    assert found.best_params_ == {"estimator__factor": 0.5}
    assert found.best_score_ == pytest.approx(-0.5 * np.mean([abs(m - 19) for m in fold_means(rows)]))
    assert found.best_estimator_.dimension_ == pytest.approx(9.5)


def fold_means(rows: np.ndarray[Any, Any]) -> list[float]:
    """The mean first coordinates of what five folds leave."""
    return [float(np.delete(rows[:, 0], range(start, start + 4)).mean()) for start in range(0, 20, 4)]


def test_a_search_over_the_training_of_a_score_compares_losses() -> None:
    found = GridSearchCV(as_estimator(Reading, score_model=brief), {"score_model__steps": [0, 40]}, cv=2).fit(X)
    assert found.best_params_ == {"score_model__steps": 40}
    losses = found.cv_results_["mean_test_score"]
    assert losses[0] == -1, "the loss is the square of a weight that starts at 1"
    assert -0.1 < losses[1] < 0
    assert as_estimator(Reading, score_model=Learned(LEARNED)).fit(X).score(X) == 0, "a score that is used as it is"


def test_a_score_compares_dimensions() -> None:
    made = as_estimator(Fixed(None), comb=None).fit(X)
    assert made.score(X[:3]) == -4, "means of the first coordinate: 8, and 4 without the last two"
    assert made.score(X, [8, 8, 8, 9, 9]) == pytest.approx(-0.4)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        made.score(X, [8])
    with pytest.raises(NotFittedError):
        as_estimator(Fixed(None)).score(X)


def test_unknown_settings_and_values_are_refused() -> None:
    made = as_estimator(Scaled(ScaledConfig()), score_model=brief)
    for settings, message in (
        (
            {"estimator__facto": 1},
            "no setting 'facto'\n  did you mean estimator__factor. it has factor, low",
        ),
        ({"estimator__factor": -1}, "estimator__factor is -1: Input should be greater than 0"),
        ({"estimator__low": 2.0}, "low is 2 and factor 1; low must be the smaller one"),
        ({"score_model__step": 1}, "score_model has no setting 'step'\n  did you mean score_model__steps"),
        ({"comb__way": 1}, "comb__way was given, and comb has no settings inside it\n  give a function"),
        ({"estimatr__factor": 1}, "Invalid parameter 'estimatr'"),
    ):
        with pytest.raises(ValueError, match=message):
            made.set_params(**settings)
    assert made.get_params()["estimator__factor"] == 1
    with pytest.raises(InputError, match="estimator has no settings inside"):
        as_estimator(Reading(Learned(LEARNED))).set_params(estimator__factor=1)


def test_points_as_a_table() -> None:
    import pandas

    table = pandas.DataFrame(X, index=list("abcde"))
    made = as_estimator(Fixed(VALUES)).set_output(transform="pandas")
    found = made.fit_transform_pw(table, smooth=True, n_neighbors=1)
    assert found.columns.tolist() == ["dimension", "dimension_smooth"]
    assert found["dimension"].to_dict() == dict(zip("abcde", VALUES, strict=True))
    assert found.loc["a", "dimension_smooth"] == pytest.approx(1.5)
    assert clone(made).fit_transform_pw(X).index.tolist() == [0, 1, 2, 3, 4]
    assert made.transform(table) == np.mean(VALUES), "one number as ever"
    assert isinstance(made.set_output(transform="default").fit_transform_pw(table), np.ndarray)
    with sklearn.config_context(transform_output="pandas"):
        assert as_estimator(Fixed(VALUES)).fit_transform_pw(table).index.tolist() == list("abcde")
    with pytest.raises(InputError, match="'panda'; expected 'default' or 'pandas'"):
        made.set_output(transform="panda")


def test_faults_are_value_errors_in_words() -> None:
    with pytest.raises(InputError, match="no estimator"):
        DimensionEstimator().fit(X)
    with pytest.raises(InputError, match="at least 3 are needed\n  give more"):
        as_estimator(Fixed(None)).fit(X[:2])
    with pytest.raises(ValueError, match="minimum of 2"):
        as_estimator(Fixed(VALUES)).fit(X[:1])
    with pytest.raises(ValueError, match="NaN"):
        as_estimator(Fixed(VALUES)).fit(X * np.nan)
    with pytest.raises(InputError, match="'sum'; expected mean, median, mode, max"):
        as_estimator(Fixed(VALUES), comb="sum").fit(X)
    with pytest.raises(InputError, match="no dimension at single points"):
        as_estimator(Fixed(None), comb="max").fit(X)
    with pytest.raises(InputError, match="use fit_pw"):
        as_estimator(Fixed(None)).fit(X, smooth=True)
    with pytest.raises(InputError, match=r"estimator is 'mle'; expected one that is built.*\n.*as_estimator\('mle'\)"):
        DimensionEstimator("mle").fit(X)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="there is no 'estimator:mel'"):
        as_estimator("mel")
    with pytest.raises(
        InputError, match=r"of the kind 'data'; expected an estimator(.|\n)*sf.dimension\('data:sphere'\)"
    ):
        as_estimator("data:sphere")
    with pytest.raises(InputError, match="score:denoising is of the kind 'score'"):
        as_estimator("score:denoising")
    with pytest.raises(InputError, match="MLE needs at least 21 points"):
        as_estimator("mle").fit(X)
    with pytest.raises(InputError, match="gave a NoneType; expected an Estimator"):
        as_estimator(lambda data: None).fit(X)  # type: ignore[arg-type,return-value]
    assert issubclass(InputError, ValueError)


def test_a_name_comes_with_fields() -> None:
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).double()
    few = as_estimator("mle", n_neighbors=5)
    assert few.get_params()["estimator__n_neighbors"] == 5
    given = as_estimator("mle", metric="precomputed").fit(torch.cdist(x, x).numpy())
    assert given.dimension_ == pytest.approx(as_estimator("mle").fit(x.numpy()).dimension_, abs=1e-3)
    with pytest.raises(ConfigError, match="n_neighbours"):
        as_estimator("mle", n_neighbours=5)
    with pytest.raises(InputError, match="n_neighbors can be set by as_estimator where an estimator is given by its"):
        as_estimator(few.estimator, n_neighbors=5)


def test_numbers_of_bfloat16_are_read_as_float32() -> None:
    given = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert as_estimator("mle").fit(given).dimension_ == as_estimator("mle").fit(given.float().numpy()).dimension_


def test_scikit_learn_is_imported_by_nothing_else() -> None:
    imports = "import sys, scorefold.interfaces, scorefold.results, scorefold_toolkit.training"
    code = f"{imports}; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_without_scikit_learn_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['sklearn.base'] = None; import scorefold_toolkit.sklearn"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'scorefold-toolkit[sklearn]'" in outcome.stderr


def test_points_whose_distances_are_lost_in_rounding_are_reported() -> None:
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy() + 1e7
    with pytest.warns(UserWarning, match="lost in rounding"):
        found = as_estimator(Fixed(None)).fit(x.astype(np.float32))
    assert found.estimate_.diagnostics["warnings"][0].startswith("the coordinates reach 1e+07")
    assert "warnings" not in as_estimator(Fixed(None)).fit(x).estimate_.diagnostics


def test_columns_of_unlike_units_are_reported() -> None:
    noise = np.random.default_rng(0).random(400)
    line, codes = np.linspace(0, 1, 400), np.arange(400) % 3
    x = np.stack([line, 1e-6 * noise], 1)
    text = f"the dimension {units_text(torch.from_numpy(x))}. Put StandardScaler() before this step"
    with pytest.warns(UserWarning, match=re.escape(text)):
        found = DimensionEstimator(Fixed(None)).fit(x)
    assert found.estimate_.diagnostics["warnings"][0].startswith(text)
    assert "depends on the units of the columns: about 1.2 as they are, about 1.9 with each divided by its own" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_pipeline(StandardScaler(), DimensionEstimator(Fixed(None))).fit(x)
        DimensionEstimator(Fixed(None), event_shape=(1, 2)).fit(x)
        DimensionEstimator(Fixed(None)).fit(np.stack([line, 1e-6 * line], 1))
        DimensionEstimator(Fixed(None)).fit(np.stack([1e-3 * noise, codes], 1))  # codes have no unit
