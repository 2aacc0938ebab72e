"""Distribution of the noise levels of denoising score matching, and weights of its errors. No torch here.

A noise level is given as u = ln(sigma / s): sigma is the noise-to-signal ratio scale / signal, and s the standard
deviation of the data's coordinates about the mean that the model subtracts. One setting serves data of any units.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from scorefold.config import Config


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
        description="How noise levels are drawn, by name or with settings. Null is a mixture, a quarter of it over all "
        "noise of the process, for the weightings edm and uncertainty (lognormal where the prediction is eps), and "
        "uniform in its time for the others",
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
