"""The schedulers of diffusers as diffusions: one function a family, each with its own time and its own answer.

A scheduler's grid, its shift and its solver are of sampling alone: they move times and change no score.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from scorefold.data import EventScale
from scorefold.diffusion import EDM, GeometricVE
from scorefold.errors import ArtefactError, ConfigError
from scorefold_checkpoints.diffusers.files import read_diffusers_json
from scorefold_checkpoints.parametrisations import (
    DiscreteVP,
    Family,
    TrigFlow,
    from_edm,
    from_epsilon,
    from_score,
    from_trigflow,
    from_v,
    from_velocity,
    from_x0,
)
from scorefold_toolkit.libraries import library
from scorefold_toolkit.score_matching.losses import Rectified

_CAN_BE_READ = "schedulers of DDPM's family, of EDM, of flow matching, ScoreSdeVe and SCM can be read"
_ANSWERS = {"epsilon": from_epsilon, "sample": from_x0, "v_prediction": from_v}
_JUMPS = ("LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler", "FlowMatchLCMScheduler")
"""Of distilled networks, which answer with the end of a path and not with an expected datum."""


def load_scheduler(folder: Path) -> Any:
    """The scheduler that a folder's scheduler_config.json describes. Raises ``ConfigError`` for one that diffusers
    does not have, ``ArtefactError`` where it can't be built."""
    name = str(read_diffusers_json(folder / "scheduler_config.json").get("_class_name"))
    with library("score:diffusers", "scorefold-checkpoints[diffusers]"):
        import diffusers
    kind: Any = getattr(diffusers, name, object)
    scheduler = isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)
    if not scheduler:
        raise ConfigError(
            f"{folder} names the scheduler {name!r}, which diffusers {diffusers.__version__} doesn't have",
            hint=_CAN_BE_READ,
        )
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as of networks
        raise ArtefactError(f"the scheduler in {folder} can't be loaded: {error}") from error


def family_of(scheduler: Any) -> Family:
    """The diffusion of a scheduler. Raises ``ConfigError`` for schedulers of other models, naming the setting."""
    name, config = type(scheduler).__name__, scheduler.config
    if name in _JUMPS:
        raise ConfigError(
            f"the scheduler is a {name}: its network was distilled to jump to the end of a path and gives no score",
            hint="take the model that it was distilled from",
        )
    if name == "ScoreSdeVeScheduler":
        return exploding(config)
    if name in ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"):
        return edm_family(config)
    if name == "SCMScheduler":
        return trigflow(config)
    flows = config.get("use_flow_sigmas", False) and config.get("prediction_type") == "flow_prediction"
    if name.startswith("FlowMatch") or flows:
        return flow_matching(config)
    if isinstance(getattr(scheduler, "alphas_cumprod", None), Tensor):
        return discrete(scheduler)
    raise ConfigError(
        f"the scheduler is a {name}, which has no alphas_cumprod: its diffusion is not known here", hint=_CAN_BE_READ
    )


def discrete(scheduler: Any) -> Family:
    """Signal^2 = alphas_cumprod, and the network is given the timestep: DDPM, DDIM, PNDM, DPM-Solver, UniPC; Euler,
    Heun and LMS too, which keep x / signal as their state and show the network x."""
    prediction = _one_of(scheduler.config, "prediction_type", tuple(_ANSWERS), "epsilon")
    _one_of(scheduler.config, "timestep_type", ("discrete",), "discrete")
    if scheduler.config.get("use_flow_sigmas", False):
        raise ConfigError(
            f"the scheduler has use_flow_sigmas: True with prediction_type: {prediction}; expected flow_prediction"
        )
    return Family(DiscreteVP(scheduler.alphas_cumprod), _ANSWERS[prediction])


def exploding(config: Any) -> Family:
    """Signal 1 and scale sigma, which the network is given; it answers with the score (Song et al. 2021)."""
    schedule = GeometricVE(config.sigma_min, config.sigma_max)
    return Family(schedule, from_score, time=lambda t, sigma: sigma, scale=EventScale(low=0.0, high=1.0))


def edm_family(config: Any) -> Family:
    """Signal 1 and scale sigma; the network sees x / sqrt(sigma^2 + s^2) and ln(sigma) / 4 (Karras et al. 2022)."""
    deviation = float(config.sigma_data)
    sign = {"epsilon": 1.0, "v_prediction": -1.0}[
        _one_of(config, "prediction_type", ("epsilon", "v_prediction"), "epsilon")
    ]
    return Family(
        EDM(config.sigma_min, config.sigma_max, config.rho),
        from_edm(deviation, sign),
        time=lambda t, sigma: sigma.log() / 4,
        shown=lambda x, b: x / (b**2 + deviation**2).sqrt(),
    )


def flow_matching(config: Any) -> Family:
    """Signal 1 - t and scale t; the network is given the timestep, t times their number (Liu et al. 2023)."""
    if config.get("invert_sigmas", False):
        raise ConfigError(
            "the scheduler has invert_sigmas: True, whose times run from noise to data", hint=_CAN_BE_READ
        )
    steps = config.num_train_timesteps
    return Family(Rectified(t_min=1 / steps, t_end=1 - 1 / steps), from_velocity, time=lambda t, sigma: steps * t)


def trigflow(config: Any) -> Family:
    """Signal cos t and scale s sin t; the network sees x / s and the angle t (Lu and Song 2025)."""
    _one_of(config, "prediction_type", ("trigflow",), "trigflow")
    deviation = float(config.sigma_data)
    return Family(TrigFlow(deviation), from_trigflow(deviation), shown=lambda x, b: x / deviation)


def _one_of(config: Any, setting: str, expected: tuple[str, ...], default: str) -> str:
    given = config.get(setting, default)
    if given not in expected:
        raise ConfigError(f"the scheduler has {setting}: {given}; expected {' or '.join(expected)}", hint=_CAN_BE_READ)
    return str(given)
