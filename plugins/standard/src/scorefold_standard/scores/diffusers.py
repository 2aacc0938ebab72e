"""A published diffusers model on disk as a score model: its network, and the exact diffusion of its scheduler.

The discrete schedule of Ho et al. (2020) becomes a continuous one by interpolating its log-SNR linearly between the
integers: t is the timestep itself, from 0 to T - 1, and at integers signal^2 is ``alphas_cumprod`` exactly. Events
are images in [-1, 1], as published pipelines are trained on, or in [0, 1] for variance-exploding ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, EventScale, TensorSpec
from scorefold.diffusion import VE, IsotropicProcess, Schedule
from scorefold.errors import ArtefactError, ConfigError
from scorefold.interfaces import ScoreModel
from scorefold_standard.config.scores import DiffusersConfig
from scorefold_toolkit.libraries import library

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_PREDICTIONS = ("epsilon", "sample", "v_prediction")
_PLAIN_OPTIONS = {"timestep_type": "discrete", "use_flow_sigmas": False}


class DiscreteVP(Schedule):
    """signal^2 = alphas_cumprod at integer t, log-SNR linear in t between; scale^2 = 1 - signal^2.

    ``alphas_cumprod`` (T,) falls strictly and lies within (0, 1); a schedule that ends in pure noise has no log-SNR
    there and raises ``ConfigError``.
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        super().__init__()
        alpha = alphas_cumprod.double()
        if not bool(((alpha > 0) & (alpha < 1)).all()) or not bool((alpha[1:] < alpha[:-1]).all()) or len(alpha) < 2:
            raise ConfigError(
                "the scheduler's alphas_cumprod does not fall strictly within (0, 1): its log-SNR is not finite",
                hint="schedules rescaled to zero terminal SNR have no score at their last step",
            )
        # A plain tensor, not a buffer: it belongs to the folder's scheduler, not to the model's weights.
        self.table = torch.log(alpha) - torch.log1p(-alpha)
        self.t_min, self.t_end, self.prior_scale = 0.0, float(len(alpha) - 1), 1.0

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_snr = self._interpolate(t)[0]
        return torch.sigmoid(log_snr).sqrt().to(t.dtype), torch.sigmoid(-log_snr).sqrt().to(t.dtype)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_snr, slope = self._interpolate(t)
        beta = -torch.sigmoid(-log_snr) * slope
        return (-beta / 2).to(t.dtype), beta.sqrt().to(t.dtype)

    def log_snr(self, t: Tensor) -> Tensor:
        return self._interpolate(t)[0].to(t.dtype)

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        table = self.table.to(noise_to_signal.device)
        log_snr = -2 * noise_to_signal.double().log()
        left = (torch.searchsorted(-table, -log_snr, right=True) - 1).clamp(0, len(table) - 2)
        t = left + (log_snr - table[left]) / (table[left + 1] - table[left])
        return t.to(noise_to_signal.dtype)

    def _interpolate(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """log-SNR and its slope at t, in float64."""
        table = self.table.to(t.device)
        left = t.floor().long().clamp(0, len(table) - 2)
        weight = t.double() - left
        return table[left] * (1 - weight) + table[left + 1] * weight, table[left + 1] - table[left]


class DiffusersScore(ScoreModel):
    """The score of a ``UNet2DModel`` with its scheduler from a local folder.

    Schedulers with ``alphas_cumprod`` (DDPM, DDIM, PNDM, DPM-Solver, Euler and the like) and the prediction types
    epsilon, sample and v_prediction give a VP process in the timestep; ``ScoreSdeVeScheduler`` gives VE on [0, 1],
    whose network answers with the score. A network that also predicts variances is read at its first half.
    Class-conditional networks take the label as their condition. Raises ``ConfigError`` and ``ArtefactError`` for
    folders that are not such a model.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> path = str(files("scorefold_standard") / "samples/diffusers")  # a U-Net of a few kilobytes
    >>> Host.discover().create("score:diffusers", {"path": path}).event_shape
    (1, 8, 8)
    """

    def __init__(self, config: DiffusersConfig) -> None:
        folder, scheduler_folder = find_folders(config.path, config.scheduler)
        unet = _load_unet(folder)
        scheduler = _load_scheduler(scheduler_folder)
        exploding = type(scheduler).__name__ == "ScoreSdeVeScheduler"
        super().__init__(
            VE(scheduler.config.sigma_min, scheduler.config.sigma_max) if exploding else _discrete_process(scheduler),
            _event_shape(unet, folder),
            _class_spec(unet),
            EventScale(low=0.0 if exploding else -1.0, high=1.0),
        )
        self.unet = unet.eval()
        self.prediction = "score" if exploding else str(scheduler.config.prediction_type)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        if self.prediction == "score":
            return self._answer(x, self.process.coefficients(x, t)[1].reshape(-1), condition)
        return self.process.score_from_noise(self.noise(x, t, condition), x, t)

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        if self.prediction == "score":
            return self.process.noise_from_score(self.score(x, t, condition), x, t)
        answer = self._answer(x, t, condition)
        signal, scale = self.process.coefficients(x, t)
        if self.prediction == "sample":
            return (x - signal * answer) / scale
        return answer if self.prediction == "epsilon" else scale * x + signal * answer

    def _answer(self, x: Tensor, timestep: Tensor, condition: Condition | None) -> Tensor:
        if self.condition_spec is not None and not isinstance(condition, Tensor):
            raise ConfigError("this network was trained on labelled images; pass the labels (B,) as its condition")
        if len(x) == 0:
            return torch.empty_like(x)
        answer: Tensor = self.unet(x, timestep, class_labels=condition, return_dict=False)[0]
        return answer[:, : self.event_shape[0]]


def find_folders(path: Path, scheduler: Path | None) -> tuple[Path, Path]:
    """The folders of the network and of the scheduler. Raises ``ConfigError`` where one is missing, saying what it
    lacks."""
    layout = "a diffusers pipeline (unet/ and scheduler/) or a UNet2DModel (config.json and its weights)"
    if not path.is_dir():
        raise ConfigError(f"there is no folder {path}; expected {layout}", hint="download the model's folder first")
    unet = next((folder for folder in (path / "unet", path) if (folder / "config.json").is_file()), None)
    if unet is None:
        raise ConfigError(f"{path} holds neither unet/config.json nor config.json; expected {layout}")
    if not any(unet.glob("diffusion_pytorch_model*.safetensors*")):
        pickled = (unet / "diffusion_pytorch_model.bin").is_file()
        raise ConfigError(
            f"{unet} holds no {_WEIGHTS}"
            + (", only a pickle, which could run code when it is loaded" if pickled else ""),
            hint="save it again with save_pretrained(folder, safe_serialization=True)",
        )
    places = [scheduler] if scheduler is not None else [path / "scheduler", path, path.parent / "scheduler"]
    place = next((folder for folder in places if (folder / "scheduler_config.json").is_file()), None)
    if place is None:
        raise ConfigError(
            f"there is no scheduler_config.json in {' or '.join(map(str, places))}",
            hint="set scheduler: to the folder that holds it",
        )
    return unet, place


def _load_unet(folder: Path) -> nn.Module:
    name = _class_name(folder / "config.json")
    if name != "UNet2DModel":
        raise ConfigError(f"{folder} holds a {name}; expected a UNet2DModel, a network on images without text")
    with library("score:diffusers", "scorefold-standard[images]"):
        from diffusers import UNet2DModel  # five seconds to import, so only where one is loaded

    try:
        model, info = UNet2DModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # the constructor of a network raises anything for settings it was not made for
        raise ArtefactError(f"the network in {folder} can't be loaded: {error}") from error
    # diffusers only warns of these, and draws the weights that are missing.
    for what, names in (("lacks", info["missing_keys"]), ("has no use for", info["unexpected_keys"])):
        if names:
            raise ArtefactError(
                f"the network in {folder} {what} the weights {', '.join(sorted(names)[:3])}"
                + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
                hint="its config.json and its weights are not of one model: download both again",
            )
    loaded: nn.Module = model
    return loaded


def _load_scheduler(folder: Path) -> Any:
    name = _class_name(folder / "scheduler_config.json")
    with library("score:diffusers", "scorefold-standard[images]"):
        import diffusers
    kind: Any = getattr(diffusers, name, object)
    is_scheduler = isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)
    if not is_scheduler:
        raise ConfigError(
            f"{folder} names the scheduler {name!r}, which diffusers {diffusers.__version__} doesn't have"
        )
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as above
        raise ArtefactError(f"the scheduler in {folder} can't be loaded: {error}") from error


def _class_name(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8")).get("_class_name"))
    except (ValueError, AttributeError) as error:
        raise ArtefactError(f"{file} is not the JSON that diffusers writes: {error}") from error


def _discrete_process(scheduler: Any) -> IsotropicProcess:
    name = type(scheduler).__name__
    alphas_cumprod = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(alphas_cumprod, Tensor):
        raise ConfigError(
            f"the scheduler is a {name}, which has no alphas_cumprod: its diffusion is not the variance-preserving one "
            "that an exact map of timesteps needs",
            hint="schedulers of the DDPM family and ScoreSdeVeScheduler can be read",
        )
    prediction = scheduler.config.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        raise ConfigError(f"the scheduler's prediction_type is {prediction!r}; expected {', '.join(_PREDICTIONS)}")
    for option, plain in _PLAIN_OPTIONS.items():
        value = scheduler.config.get(option, plain)
        if value != plain:
            raise ConfigError(
                f"the scheduler has {option}: {value}, with which the network is shown something else than the "
                "timestep of alphas_cumprod",
                hint="schedulers of the DDPM family and ScoreSdeVeScheduler can be read",
            )
    return IsotropicProcess(DiscreteVP(alphas_cumprod))


def _event_shape(unet: Any, folder: Path) -> tuple[int, ...]:
    size = unet.config.sample_size
    if size is None:
        raise ConfigError(f"{folder / 'config.json'} has no sample_size, so the shape of an image is not known")
    if not isinstance(size, int) and not (isinstance(size, list | tuple) and len(size) == 2):
        raise ConfigError(f"{folder / 'config.json'} has sample_size {size!r}; expected one number or two")
    height, width = (size, size) if isinstance(size, int) else size
    channels, answers = unet.config.in_channels, unet.config.out_channels
    if answers not in (channels, 2 * channels):
        raise ConfigError(
            f"the network takes {channels} channels and gives {answers}; expected as many, or twice as many"
        )
    return (channels, height, width)


def _class_spec(unet: Any) -> TensorSpec | None:
    classes = unet.config.num_class_embeds
    if unet.config.class_embed_type is not None:
        raise ConfigError(f"the network embeds its condition by {unet.config.class_embed_type!r}; classes can be read")
    return None if classes is None else TensorSpec((), classes)
