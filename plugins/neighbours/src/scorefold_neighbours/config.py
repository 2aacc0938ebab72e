"""Settings of the baseline estimators. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scorefold.config import Config

Level = Annotated[float, Field(gt=0, lt=1, description="Level of the interval")]
Limit = Annotated[int | None, Field(ge=2, description="Largest number of points, drawn at random; null for all")]
Sample = Annotated[
    Annotated[int, Field(ge=2)] | Literal["auto"] | None,
    Field(
        description="Largest number of points, drawn at random; auto: 100,000 up to 15 columns, where a tree finds "
        "neighbours, and 10,000 of more; null for all"
    ),
]
Halves = Annotated[
    int, Field(ge=0, multiple_of=2, description="Random halves of the points behind the interval; 0 for none")
]
Neighbours = Annotated[int, Field(ge=3, description="Nearest neighbours of each point")]
Metric = Annotated[
    Literal["euclidean", "angle", "periodic", "precomputed"],
    Field(
        description="euclidean; angle: between points as seen from 0, as in cosine similarity; periodic: coordinates "
        "repeat after their period; precomputed: row i holds the distances of point i from all points"
    ),
]
Period = Annotated[
    Annotated[float, Field(gt=0)] | tuple[Annotated[float, Field(ge=0)], ...] | None,
    Field(description="metric periodic: the period of all coordinates, or a list with one for each, 0 for none"),
]
MaxDimension = Annotated[int | None, Field(ge=1, description="Largest dimension considered; null for the ambient one")]
Combine = Annotated[
    Literal["mean", "median", "harmonic"], Field(description="How the estimates at the points become one")
]


class PCAConfig(Config):
    """Principal components of all points together."""

    rule: Literal["ratio", "gap", "fukunaga-olsen", "participation"] = Field(
        "ratio",
        description="ratio: fewest components that hold a share of the variance; gap: before the largest ratio of "
        "successive variances; fukunaga-olsen: variances above a share of the largest; participation: "
        "(sum v)^2 / sum v^2, not a whole number",
    )
    ratio: float = Field(0.95, gt=0, lt=1, description="rule ratio: share of the variance to hold")
    share: float = Field(0.05, gt=0, lt=1, description="rule fukunaga-olsen: share of the largest variance")
    resamples: int = Field(50, ge=0, description="Bootstrap resamples behind the interval; 0 for none")
    level: Level = 0.95
    limit: Limit = None


class PPCAConfig(Config):
    """The rank of a probabilistic PCA of all points together."""

    resamples: Halves = 20
    level: Level = 0.95
    limit: Limit = 10_000


class _DistanceConfig(Config):
    """Settings of a method that asks only how far points are apart, with fields ``metric`` and ``period``."""

    @model_validator(mode="after")
    def _period(self) -> Self:
        metric, period = getattr(self, "metric", "euclidean"), getattr(self, "period", None)
        if (metric == "periodic") != (period is not None):
            given = "no period" if period is None else f"period {period}"
            raise ValueError(f"metric: {metric} is given with {given}; metric: periodic takes one, others none")
        return self


class MLEConfig(_DistanceConfig):
    """Levina and Bickel's maximum likelihood, averaged over points as MacKay and Ghahramani propose (harmonic)."""

    n_neighbors: Neighbours = 20
    unbiased: bool = Field(False, description="Divide by k - 2 instead of k - 1")
    combine: Combine = "harmonic"
    resamples: Halves = 20
    level: Level = 0.95
    limit: Sample = "auto"
    metric: Metric = "euclidean"
    period: Period = None


class TwoNNConfig(_DistanceConfig):
    """The ratio of the distances to the second and the first neighbour."""

    method: Literal["linear", "mle"] = Field("linear", description="Fit of a line, or maximum likelihood")
    discard: float = Field(0.1, ge=0, lt=1, description="Share of the largest ratios that is left out")
    resamples: Halves = 20
    level: Level = 0.95
    limit: Sample = "auto"
    metric: Metric = "euclidean"
    period: Period = None


class LPCAConfig(Config):
    """Principal components within the neighbourhood of each point."""

    n_neighbors: Neighbours = 50
    rule: Literal["FO", "maxgap", "ratio", "participation_ratio", "Kaiser", "broken_stick"] = Field(
        "FO", description="Rule that counts components, by its name in scikit-dimension"
    )
    share: float = Field(
        0.05, gt=0, lt=1, description="rule FO: share of the largest variance; rule ratio: share left out"
    )
    combine: Combine = "mean"
    resamples: Halves = 10
    level: Level = 0.95
    limit: Limit = 5000


class _TwoDistancesConfig(_DistanceConfig):
    """The distances to two neighbours, one nearer than the other."""

    near: int
    far: int
    resamples: Halves = 20
    level: Level = 0.95

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.near >= self.far:
            raise ValueError(f"near is {self.near} and far {self.far}; near must be below far")
        return self


class CorrIntConfig(_TwoDistancesConfig):
    """The slope of the correlation integral between two radii."""

    near: int = Field(10, ge=1, description="The smaller radius: median distance to this neighbour")
    far: int = Field(20, ge=2, description="The larger radius: median distance to this neighbour")
    limit: Limit = 5000
    metric: Metric = "euclidean"
    period: Period = None


class DANCoConfig(Config):
    """Norms and angles of neighbours compared with norms and angles in balls of each dimension."""

    version: Literal["DANCoFit", "DANCo"] = Field(
        "DANCoFit", description="DANCoFit compares with a table (20 to 5000 points); DANCo simulates the balls"
    )
    n_neighbors: Neighbours = 10
    max_dimension: Annotated[
        int | None, Field(ge=1, le=100, description="Largest dimension; null for the ambient one or 100")
    ] = None
    resamples: Halves = 20
    level: Level = 0.95
    limit: Limit = 5000

    @model_validator(mode="after")
    def _table(self) -> DANCoConfig:
        if self.version == "DANCoFit" and self.n_neighbors != 10:
            raise ValueError("the table of DANCoFit is for n_neighbors: 10; use version: DANCo for others")
        if self.version == "DANCoFit" and (self.limit is None or self.limit > 5000):
            raise ValueError("the table of DANCoFit ends at 5000 points; set a limit of at most 5000")
        return self


class FisherSConfig(Config):
    """Separability of single points from the others by hyperplanes."""

    condition: float = Field(
        10.0, gt=1, description="Components below 1 / condition of the largest variance are left out"
    )
    resamples: Halves = 20
    level: Level = 0.95
    limit: Limit = 5000


class ESSConfig(Config):
    """Skewness of simplices within neighbourhoods."""

    n_neighbors: Neighbours = 30
    version: Literal["a", "b"] = Field("a", description="a: volumes of simplices; b: their projections")
    combine: Combine = "mean"
    resamples: Halves = 6
    level: Level = 0.95
    limit: Limit = 300


class _LocalConfig(Config):
    """An estimate at every point, from its neighbours."""

    n_neighbors: Neighbours = 20
    combine: Combine = "mean"
    resamples: Halves = 20
    level: Level = 0.95


class TLEConfig(_LocalConfig):
    """Maximum likelihood that also uses the distances between neighbours."""

    limit: Limit = 5000


class MADAConfig(_DistanceConfig, _LocalConfig):
    """Growth of the neighbour distance from half the neighbours to all of them."""

    limit: Limit = 5000
    metric: Metric = "euclidean"
    period: Period = None


class MOMConfig(_DistanceConfig, _LocalConfig):
    """Moments of the neighbour distances."""

    n_neighbors: Neighbours = 50
    limit: Sample = "auto"
    metric: Metric = "euclidean"
    period: Period = None


class KNNConfig(_DistanceConfig):
    """Growth of the total edge length of the neighbour graph with the number of points; a whole number."""

    n_neighbors: int = Field(5, ge=1, description="Nearest neighbours of each point")
    repeats: int = Field(10, ge=1, description="Random samples of each size")
    sizes: int = Field(8, ge=2, description="Number of sample sizes, from a twentieth to a quarter of the points")
    resamples: Halves = 20
    level: Level = 0.95
    limit: Limit = 3000
    metric: Metric = "euclidean"
    period: Period = None


class MiNDMLConfig(_DistanceConfig):
    """The ratio of the distances to the first and the last neighbour."""

    n_neighbors: Neighbours = 20
    version: Literal["MLk", "MLi"] = Field("MLk", description="MLk: any number; MLi: whole numbers")
    max_dimension: MaxDimension = None
    resamples: Halves = 20
    level: Level = 0.95
    limit: Sample = "auto"
    metric: Metric = "euclidean"
    period: Period = None


class GRIDEConfig(_TwoDistancesConfig):
    """The ratio of the distances to two neighbours further away than TwoNN's."""

    near: int = Field(2, ge=1, description="The nearer neighbour")
    far: int = Field(4, ge=2, description="The further neighbour")
    limit: Sample = "auto"
    metric: Metric = "euclidean"
    period: Period = None


class LogLogConfig(_TwoDistancesConfig):
    """The logarithm of the logarithm of the ratio of the distances to two neighbours."""

    near: int = Field(1, ge=1, description="The nearer neighbour")
    far: int = Field(2, ge=2, description="The further neighbour")
    limit: Sample = "auto"
    metric: Metric = "euclidean"
    period: Period = None


class GeoMLEConfig(Config):
    """Maximum likelihood in growing neighbourhoods of bootstrapped points, continued to a radius of 0."""

    near: int = Field(10, ge=3, description="Neighbours of the smallest neighbourhood")
    far: int = Field(40, ge=5, description="Neighbours of the largest neighbourhood")
    bootstraps: int = Field(20, ge=2, description="Draws of the points with replacement")
    penalty: Literal["scaled", "published"] = Field(
        "scaled",
        description="What the penalty of slopes is of: radii over their mean, or, as published, radii in the units of "
        "the data, whose answer changes with the units",
    )
    combine: Combine = "mean"
    resamples: Halves = 10
    level: Level = 0.95
    limit: Limit = 5000

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.far < self.near + 2:
            raise ValueError(f"near is {self.near} and far {self.far}; a parabola needs far: {self.near + 2} or more")
        return self


class PHConfig(_DistanceConfig):
    """Growth of the length of minimum spanning trees with the number of points."""

    power: float = Field(1.0, gt=0, description="Power of the edge lengths")
    sizes: int = Field(20, ge=2, description="Number of sample sizes, from half the points to all")
    repeats: int = Field(2, ge=1, description="Random samples of each size")
    resamples: Halves = 6
    level: Level = 0.95
    limit: Limit = 1000
    metric: Metric = "euclidean"
    period: Period = None


class I3DConfig(Config):
    """Growth of the number of points with the radius on a lattice, for counts, bits and categories."""

    distance: Literal["city-block", "hamming"] = Field(
        "city-block",
        description="city-block: counts, by the sum of differences; hamming: bits and categories, by the number of "
        "coordinates that differ",
    )
    step: float = Field(gt=0, description="Unit of the values, to which they are rounded: 1 for counts and bits")
    n_neighbors: int = Field(20, ge=1, description="Mean number of points within the larger radius, if far is null")
    near: Annotated[int, Field(ge=0)] | None = Field(
        None, description="The smaller radius, in steps; null: where half as many points are within it"
    )
    far: Annotated[int, Field(ge=1)] | None = Field(None, description="The larger radius, in steps")
    resamples: Halves = 10
    level: Level = 0.95
    limit: Limit = 2000

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.near is not None and self.far is not None and self.near >= self.far:
            raise ValueError(f"near is {self.near} and far {self.far}; near must be below far")
        return self


class CalibratedConfig(Config):
    """Every estimator checked and corrected on surrogate data of known dimension."""

    candidates: int = Field(
        240,
        ge=40,
        description="Candidates for surrogate data sets, from which the surrogates are chosen; three times as many are "
        "made again where they lead to no answer",
    )
    surrogates: int = Field(
        24, ge=12, description="Surrogate data sets that every estimator reads: those that look most like the data"
    )
    points: int = Field(1000, ge=50, description="Largest number of points, drawn at random, of data and surrogates")
    subsample: dict[str, Annotated[int, Field(ge=30)]] = Field(
        {"lpca": 200, "ess": 60, "geomle": 300, "ph": 200},
        description="Points that slow estimators are given, by their names; the same number of data and surrogates",
    )
    tolerance: float = Field(
        0.4,
        gt=0,
        le=1,
        description="Largest relative error of the answer on surrogates; an estimator may have twice this error",
    )
    level: Level = 0.95
