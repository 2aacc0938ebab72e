"""Fields and settings that the configs of several plugins share: of data, of drawing, of geodesics. No torch here.

Distribution of the noise levels of denoising score matching, and weights of its errors. No torch here.

A noise level is given as u = ln(sigma / s): sigma is the noise-to-signal ratio scale / signal, and s the standard
deviation of the data's coordinates about the mean that the model subtracts. One setting serves data of any units.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from scorefold.config import Config


def _not_empty(value: Any) -> Any:
    if value == "":
        raise ValueError("the path is empty; expected a file or a folder")
    return value


FilePath = Annotated[Path, BeforeValidator(_not_empty, json_schema_input_type=Path)]
"""A file or folder, or files by a pattern. In a run file a relative one starts at the file, as any ``Path`` does."""

ClassName = Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)]
"""A class of labelled data: its number, or its name where the source has names."""


def _shares(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if not (min(value) >= 0 and abs(sum(value) - 1) <= 1e-6):  # so put, NaN is refused too
        raise ValueError(f"the fractions are {value}; expected three of at least 0 that sum to 1")
    return value


def once_each(value: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Raises ``ValueError`` where a class is named twice."""
    twice = [each for number, each in enumerate(value) if each in value[:number]]
    if twice:
        raise ValueError(f"{twice[0]!r} is listed twice; expected every class once")
    return value


Classes = Annotated[
    tuple[ClassName, ...],
    Field(min_length=1),
    AfterValidator(once_each),
]
KeptClasses = Annotated[
    Classes | None,
    Field(
        description="Only points of these classes, by number or by name; labels and conditions keep the source's "
        "numbers, and 'limit' counts what is kept; null for all"
    ),
]
Fractions = Annotated[
    tuple[float, float, float],
    AfterValidator(_shares),
    Field(description="Shares of the points for training, validation and test"),
]
Seed = Annotated[
    int | None, Field(ge=0, description="Seed of random numbers here; null derives it from the run's root seed")
]
Points = Annotated[int, Field(ge=1, description="Points over all splits")]
Noise = Annotated[
    float,
    Field(ge=0, description="Standard deviation of Gaussian noise added to every coordinate, in units of the data"),
]
Ambient = Annotated[int | None, Field(ge=1, description="Coordinates of a point; null for the fewest that will do")]
Isometry = Annotated[
    int | None,
    Field(
        ge=0,
        lt=2**63,
        description="Seed of the isometry into the ambient space as published code draws it, 0 there; null draws "
        "another by 'seed'",
    ),
]
Tangents = Annotated[
    bool, Field(description="Also give orthonormal tangent bases, truth 'tangent' (N, ambient, dimension)")
]

End = float | None


def _ends(value: Any) -> Any:
    """Pairs of ends, with None for an infinite one; raises ``ValueError`` where they are no pairs or the first is not
    the lower."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{value} was given; {_EXPECTED_ENDS}")
    if any(isinstance(each, list | tuple) for each in value):
        return [_pair(each, value) for each in value]
    return _pair(value, value)


_EXPECTED_ENDS = "expected two ends, such as [-1, 1], or two per coordinate; null is no end"


def _pair(pair: Any, value: Any) -> list[Any]:
    ends = list(pair) if isinstance(pair, list | tuple) else []
    if len(ends) == 2:
        ends = [None if each == none else each for each, none in zip(ends, (-math.inf, math.inf), strict=True)]
    known = [each for each in ends if each is not None]
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in known)
    if len(ends) != 2 or not numbers or not all(-math.inf < each < math.inf for each in known):
        raise ValueError(f"{value} was given; {_EXPECTED_ENDS}")
    if len(known) == 2 and known[0] >= known[1]:
        raise ValueError(f"the ends {ends} were given; expected the lower one first")
    return ends


Limits = Annotated[
    tuple[End, End] | Annotated[tuple[tuple[End, End], ...], Field(min_length=1)], BeforeValidator(_ends)
]
"""Two ends, or two for each coordinate, in the units of the file. Null and infinite ends are none."""

FRACTIONS = (0.8, 0.1, 0.1)
"""The shares where nothing is said."""


_RESERVED = ("n", "condition", "steps", "sampler", "spacing", "to_zero", "guidance", "within", "generator")


class DrawingOptions(Config):
    """Options of sampling."""

    steps: (
        Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None
    ) = Field(
        None,
        description="Steps of the sampler (score models): a number, shared out over the process' intervals, or a list "
        "with a number for each interval, from noise to data; null is what the model takes, as "
        "many as need 36 network calls for most",
    )
    sampler: Literal["edm", "heun", "dpmpp-2m", "ddim", "euler-maruyama", "predictor-corrector"] | None = Field(
        None,
        description="Sampler (score models); null is the model's default, edm for most, dpmpp-2m for models by bands",
    )
    spacing: Literal["karras", "log-snr", "uniform"] | None = Field(
        None,
        description="Spacing of the sampler's times (score models); null is the model's default, karras for most",
    )
    to_zero: bool | None = Field(
        None,
        description="Whether a last call takes away the noise that is left at the smallest time (score models); null "
        "is what the model does, true for most",
    )
    guidance: float = Field(1.0, ge=0, description="Weight of the conditional score against the unconditional one")
    temperature: Annotated[float, Field(ge=0)] | tuple[Annotated[float, Field(ge=0)], ...] = Field(
        1.0, description="Scale of the base's deviations (flows): one number, or one for each of the flow's latents"
    )
    within: Limits | None = Field(
        None,
        description="Limits of events in the units of the file, such as the ends of a uniform prior: [low, high], or "
        "such a pair for each coordinate, with null for no end. Events outside are drawn again",
    )
    sampling: dict[str, Any] = Field(
        default_factory=dict,
        description="Further sampling options of the model, by the names that its 'bind' or 'sample' knows, such as "
        "condition_noise (score models)",
    )

    @field_validator("sampling")
    @classmethod
    def _further(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in _RESERVED:
                raise ValueError(f"sampling holds {name!r}; write {name} next to sampling, not in it")
        return value


Start = Literal["straight", "noise", "graph"]


class _Numbers(Config):
    """Settings without yes and no: ``noise: true`` would be 1."""

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise ValueError(f"{name} is {str(value).lower()}; expected a number or a name, not yes or no")
        return values


class SolverConfig(_Numbers):
    """Settings of the solver of geodesics."""

    points: int = Field(32, ge=16, le=512, multiple_of=4, description="Steps of the finest grid, a multiple of 4")
    starts: tuple[Start, ...] = Field(
        (),
        description="Starts besides the straight line, which is always tried: noise (the path through the noise of the "
        "two ends) and graph (the shortest path over neighbours among the training points)",
    )
    tolerance: float = Field(
        1e-6, ge=1e-14, le=1e-2, description="Share of the energy that is still to gain, at most, for a length"
    )
    steps: int = Field(100, ge=1, description="Most steps of the solver on each grid")
    richardson: bool = Field(True, description="Extrapolate lengths from the two finest grids")


class SolvedConfig(_Numbers):
    """Settings that every solved geometry has."""

    solver: SolverConfig = Field(SolverConfig(), description="Settings of the solver")
    thorough: bool = Field(
        False,
        description="Whether the diagnosis also solves geodesics backwards, around triangles and at other settings, "
        "and looks for saddles, better known paths and copies: some ten times as long",
    )


class LogNormalLevels(Config):
    """u is normal (Karras et al. 2022, table 1): most levels lie where images take shape.

    The published P_mean of data with the deviation sigma_data is ``mean`` = P_mean - ln sigma_data.
    """

    name: Literal["lognormal"] = "lognormal"
    mean: float = Field(-0.507, description="Mean of u; -1.2 at sigma_data 0.5 is -0.507")
    std: float = Field(1.2, gt=0, description="Standard deviation of u")


class LogitNormalLevels(Config):
    """The time sigma / (1 + sigma) of flow matching is logit-normal (Esser et al. 2024), so that u is normal too."""

    name: Literal["logit-normal"] = "logit-normal"
    mean: float = Field(0.0, description="Mean of the logit, which is u")
    std: float = Field(1.0, gt=0, description="Standard deviation of the logit, which is u")


class _Range(Config):
    low: float | None = Field(None, gt=0, description="Least sigma / s; null for the least of the process")
    high: float | None = Field(None, gt=0, description="Greatest sigma / s; null for the greatest of the process")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; expected low below high")
        return self


class LogUniformLevels(_Range):
    """u is uniform: every decade of noise gets the same share."""

    name: Literal["loguniform"] = "loguniform"


class CosineLevels(Config):
    """sigma / s = tan(pi U / 2) with U uniform (Nichol and Dhariwal 2021)."""

    name: Literal["cosine"] = "cosine"


class TimeLevels(Config):
    """The time of the process is uniform, whatever noise it has then (Song et al. 2021)."""

    name: Literal["time"] = "time"


class MixtureLevels(_Range):
    """Log-normal levels with a share of log-uniform ones, so that a short training sees high and low noise too."""

    name: Literal["mixture"] = "mixture"
    share: float = Field(0.5, gt=0, lt=1, description="Share of the log-uniform levels, from low to high")
    mean: float = Field(-0.507, description="Mean of u for the log-normal levels")
    std: float = Field(1.2, gt=0, description="Standard deviation of u for the log-normal levels")


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Levels = Annotated[
    LogNormalLevels | LogitNormalLevels | LogUniformLevels | CosineLevels | TimeLevels | MixtureLevels,
    Field(discriminator="name"),
]
_LevelsName = Literal["lognormal", "logit-normal", "loguniform", "cosine", "time", "mixture"]
LevelsConfig = Annotated[_Levels, BeforeValidator(_named, json_schema_input_type=_Levels | _LevelsName)]
"""Noise levels in a run file: ``noise_levels: {name: lognormal, mean: -0.5}``, or just ``noise_levels: cosine``."""

WeightingName = Literal["edm", "simple", "sigma2", "likelihood", "flow", "min-snr", "soft-min-snr", "p2", "uncertainty"]
_GAMMA = {"min-snr": 5.0, "soft-min-snr": 4.0, "p2": 0.5}


class WeightingConfig(Config):
    """Weights of squared errors of the expected noise at r = sigma / s; SNR = 1 / r^2.

    The factor is 1 + r^2 for ``edm``, which is an even weight on what a preconditioned network gives, and on a
    predicted velocity of variance-preserving noise (Karras et al. 2022, table 1); 1 for ``simple`` (Ho et al. 2020);
    (1 + r)^2 for ``flow``, the velocity of flow matching; min(1, gamma r^2) for ``min-snr`` (Hang et al. 2023);
    1 / (1 + SNR / gamma) for ``soft-min-snr``, which is sigmoid(ln gamma - ln SNR); (1 + SNR)^-gamma for ``p2`` (Choi
    et al. 2022). ``uncertainty`` divides the loss of ``edm`` by its own expectation at the level, which is learned, so
    that every level pulls alike (Karras et al. 2024).

    Each is a mean over coordinates. ``sigma2`` is the sum of ``simple``, and ``likelihood`` the sum that bounds the
    negative log-likelihood, g(t)^2 / 2 times the squared error of the score, however levels are drawn (Song et al.
    2021).
    """

    name: WeightingName = Field("edm", description="The weighting")
    gamma: float | None = Field(
        None,
        gt=0,
        description="min-snr, soft-min-snr: the SNR beyond which weights end; p2: the power. Null is 5, 4, 0.5",
    )

    @property
    def strength(self) -> float:
        """gamma, or its default; 1 for a weighting without one."""
        return _GAMMA.get(self.name, 1.0) if self.gamma is None else self.gamma

    @property
    def sums(self) -> bool:
        """True if squares are summed over coordinates; otherwise their mean is taken."""
        return self.name in ("sigma2", "likelihood")

    @model_validator(mode="after")
    def _gamma_fits(self) -> Self:
        if self.gamma is not None and self.name not in _GAMMA:
            raise ValueError(f"gamma means nothing for {self.name}; it is for {', '.join(_GAMMA)}")
        return self


AnyWeighting = Annotated[
    WeightingConfig, BeforeValidator(_named, json_schema_input_type=WeightingConfig | WeightingName)
]
"""A weighting in a run file: ``weighting: {name: min-snr, gamma: 5}``, or just ``weighting: edm``."""


class DenoisingLossConfig(Config):
    """The denoising loss of a score model: which noise levels it sees, and how errors at them weigh."""

    noise_levels: LevelsConfig | None = Field(
        None,
        description="How noise levels are drawn, by name or with settings. Null depends on the weighting. For edm and "
        "uncertainty it is a mixture, a quarter of it over all noise of the process (lognormal if the prediction is "
        "eps). For others it is uniform in time",
    )
    weighting: AnyWeighting = Field(
        WeightingConfig(),
        description="How errors weigh, by name or with settings: edm for samples; simple favours low noise; likelihood "
        "bounds the log-likelihood",
    )

    @property
    def levels(self) -> _Levels:
        """The distribution of noise levels."""
        if self.noise_levels is not None:
            return self.noise_levels
        if self.weighting.name not in ("edm", "uncertainty"):
            return TimeLevels()
        # A network that gives the noise errs there by as much as the noise, which these weigh by its square.
        return LogNormalLevels() if getattr(self, "prediction", "edm") == "eps" else MixtureLevels(share=0.25)
