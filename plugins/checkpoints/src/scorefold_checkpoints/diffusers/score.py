"""A published diffusers model as a score model: its network, and the exact diffusion of its scheduler.

Schedulers are diffusions: one function a family, each with its own time and its own answer. A scheduler's grid, its
shift and its solver are of sampling alone: they move times and change no score.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from scorefold.data import Condition, DataSpec, EventScale
from scorefold.diffusion import EDM, GeometricVE, IsotropicProcess
from scorefold.errors import ArtefactError, ConfigError, ShapeError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold_checkpoints.config import DiffusersConfig
from scorefold_checkpoints.diffusers import networks
from scorefold_checkpoints.diffusers.files import (
    Source,
    autoencoder_folder,
    find_source,
    network_folder,
    read_diffusers_json,
    scheduler_folder,
    weight_files,
    weights_digest,
)
from scorefold_checkpoints.diffusers.latent import REMARK, DecodesLatents, LatentAutoencoder
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


class DiffusersScore(ScoreModel, DecodesLatents):
    """The score of a network of diffusers with its scheduler, of images or of latents (``space: latent``).

    Events are images in [-1, 1], as published pipelines are trained on, or in [0, 1] for ``ScoreSdeVeScheduler``; or
    latents in the units that the network sees. ``data`` give the mean and the deviation of what the model was trained
    on, which a checkpoint does not say; noise levels in units of the data count in it. A network that also predicts
    variances is read at its first half. Networks of classes take the label as their condition. In half precision the
    network alone computes in it. Raises ``ConfigError`` and ``ArtefactError`` for what is not such a model, and
    ``ShapeError`` for data of another shape.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> path = str(files("scorefold_checkpoints") / "samples/diffusers")  # a U-Net of a few kilobytes
    >>> Host.discover().create("score:diffusers", {"path": path}).event_shape
    (1, 8, 8)
    """

    def __init__(self, config: DiffusersConfig, *, data: DataSource | DataSpec | None = None) -> None:
        source = find_source(config.path, config.revision, config.download, config.variant)
        folder = network_folder(source)
        family = family_of(load_scheduler(scheduler_folder(source, config.scheduler)))
        autoencoder = _autoencoder(source, config)
        _check_digest(source, config)
        network = networks.load_network(folder, source, config.variant, config.precision)
        shape = networks.network_event_shape(network, folder)
        spec, null = networks.class_spec(network)
        bounded = len(shape) == 3 and autoencoder is None
        scale = family.scale if bounded else EventScale() if autoencoder is None else autoencoder.units()
        if data is not None:
            scale = _measured(scale, shape, data, source)
        super().__init__(IsotropicProcess(family.schedule), shape, spec, scale)
        self.network, self.family, self.autoencoder = network, family, autoencoder
        self.low_precision = None if config.precision == "float32" else getattr(torch, config.precision)
        self.null_class = null if config.null_class is None else config.null_class
        self.label_rows = 0 if spec is None or spec.classes is None else spec.classes + (null is not None)
        if self.null_class is not None and self.null_class >= self.label_rows:
            raise ConfigError(f"null_class is {self.null_class}; this network has {self.label_rows} classes, from 0 on")
        self.divergence_mode = "reverse" if networks.attends(network) else "forward"
        self.remarks = (REMARK,) if autoencoder is not None else ()
        if config.download and config.revision is None:
            commit = source.folder.name
            self.remarks += (f"{source.name} was downloaded at the commit {commit}: set revision: {commit} to pin it",)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        return self.process.score_from_noise(self.noise(x, t, condition), x, t)

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        return self.family.expected_noise(self._answer, self.process, x, t, condition)

    def decode(self, z: Tensor) -> Tensor:
        if self.autoencoder is None:
            raise ConfigError("this model's events are images, and there is nothing to decode", hint="space: latent")
        z = z.to(self._reference())
        self.check_events(z)
        return self.autoencoder.decode(z)

    def _answer(self, shown: Tensor, time: Tensor, condition: Condition | None) -> Tensor:
        if self.condition_spec is not None and condition is None and self.null_class is not None:
            condition = torch.full((len(shown),), self.null_class, device=shown.device)
        if self.condition_spec is not None and not isinstance(condition, Tensor):
            raise ConfigError(
                "this network was trained on labelled images; pass the labels (B,) as its condition",
                hint="null_class: the class that stands for none, where the network was trained with one",
            )
        return networks.call_network(
            self.network, shown, time, condition if isinstance(condition, Tensor) else None, self.label_rows
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves to a device, and to a dtype all but a network in half precision."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.low_precision is not None:
            self.network.to(self.low_precision)
        return self

    def _reference(self, default: Tensor | None = None) -> Tensor:
        """Events are in float32 where the network is in half precision."""
        own = super()._reference(default)
        return own if own.dtype in (torch.float32, torch.float64) else own.new_empty((), dtype=torch.float32)


def _autoencoder(source: Source, config: DiffusersConfig) -> LatentAutoencoder | None:
    if config.space == "latent":
        return LatentAutoencoder(source, config.variant, config.precision)
    if folder := autoencoder_folder(source):
        raise ConfigError(
            f"{source.name} is a model of latents, not of pixels: it has an autoencoder, {folder.name}/",
            hint="set space: latent; data:latents encodes images for it, and data:decoded shows its samples",
        )
    return None


def _measured(scale: EventScale, shape: tuple[int, ...], data: DataSource | DataSpec, source: Source) -> EventScale:
    """A scale with the mean and the deviation of data. Raises ``ShapeError`` for events of another shape, and
    ``ConfigError`` for other bounds."""
    if tuple(data.event_shape) != shape:
        raise ShapeError(f"events of the data have {tuple(data.event_shape)}; {source.name} is a model of {shape}")
    own, given = (scale.low, scale.high), (data.event_scale.low, data.event_scale.high)
    if scale.bounded and given != own:
        raise ConfigError(
            f"events of the data lie between {given[0]} and {given[1]}; {source.name} is a model of images between "
            f"{own[0]} and {own[1]}",
            hint=f"bring them there, such as range: [{own[0]:g}, {own[1]:g}] of data:digits and data:images",
        )
    return replace(scale, mean=data.event_scale.mean, std=data.event_scale.std)


def _check_digest(source: Source, config: DiffusersConfig) -> None:
    """Raises ``ArtefactError`` for other weights than those whose digest the settings have."""
    if config.digest is None:
        return
    found = weights_digest(weight_files(network_folder(source), source, config.variant))
    if found != config.digest:
        raise ArtefactError(
            f"the weights of {source.name} have the SHA-256 {found}; expected {config.digest}",
            hint=source.again or "restore the file, or leave digest out to take these weights",
        )
