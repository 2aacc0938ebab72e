"""Our diffusion processes as a scheduler of diffusers: signal and scale may differ from component to component.

diffusers' own schedulers have one sigma a step. This one has a signal and a scale for each component, or for each
coefficient of an orthonormal transform, and takes its steps by the samplers of ``scorefold.diffusion``, so that a
component whose time has run out stands still and multistep history goes on from scale to scale. Needs
``pip install scorefold-nonuniform[diffusers]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.utils import BaseOutput
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from scorefold.config import ProcessConfig
from scorefold.diffusion import (
    DiffusionProcess,
    IsotropicProcess,
    Orthonormal,
    PerComponent,
    Sampler,
    build_schedule,
    ddim,
    dpm_solver_pp_2m,
    euler_maruyama,
    predictor_corrector,
    time_grid,
)
from scorefold.errors import ConfigError
from scorefold.random import draw_normal
from scorefold_nonuniform.bands.coefficients import Bands, build_bands
from scorefold_nonuniform.bands.speeds import banded_process
from scorefold_nonuniform.config import BandedConfig, BandsConfig
from scorefold_toolkit.rotated import Rotated


def _ancestral(*arguments: Any, **options: Any) -> tuple[Tensor, Any]:
    """Predictor steps alone."""
    return predictor_corrector(*arguments, **{**options, "corrector_steps": 0})


STEPS: Mapping[str, Sampler] = MappingProxyType(
    {
        "ddim": ddim,
        "dpmpp-2m": dpm_solver_pp_2m,
        "euler-maruyama": euler_maruyama,
        "ancestral": _ancestral,
    }
)
"""Samplers that call the network once a step, by the name that a scheduler's config has for them."""

PREDICTIONS = ("epsilon", "v_prediction", "sample")
_FROM_DATA = ("pca", "learned")


@dataclass
class NonUniformSchedulerOutput(BaseOutput):  # type: ignore[misc]
    """x at the next time, and the datum that the network expects, both (B, *E)."""

    prev_sample: Tensor
    pred_original_sample: Tensor


class NonUniformScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """A process of ours as diffusers drives a scheduler: ``set_timesteps``, then a network's call and ``step`` a time.

    ``process`` is an isotropic process, ``PerComponent`` or ``Rotated`` (then it is not part of what ``save_config``
    writes, and ``from_config`` must be given it again), or what a run file has under ``process:``, such as
    ``{"name": "vp"}``. With ``bands`` and ``event_shape`` the bands of that transform run through the described
    process, each until one of ``ends`` (i / n by default), its log-SNRs being relative to data of this ``deviation``.

    Timesteps are diffusers': from 0 to ``num_train_timesteps`` - 1, in proportion to the time of the process, and may
    lie between the integers. ``prediction_type`` is what the network answers with, in pixels: ``epsilon``, ``sample``,
    or ``v_prediction``, (a z - b x_0) / sqrt(a^2 + b^2) with each component's own signal a and scale b. ``sampler`` is
    one of ``ddim``, ``dpmpp-2m``, ``euler-maruyama`` and ``ancestral``; ``clip_sample`` holds expected data to
    [-``clip_sample_range``, ``clip_sample_range``]. ``sigma_data`` lets ``scale_model_input`` give inputs unit size.

    Raises ``ConfigError`` for settings that do not fit, and for processes that couple components of no known transform.
    """

    order = 1

    def __init__(
        self,
        process: DiffusionProcess | Mapping[str, Any] | str | None = None,
        bands: Mapping[str, Any] | str | None = None,
        event_shape: Sequence[int] | None = None,
        ends: Sequence[float] | None = None,
        deviation: float = 1.0,
        num_train_timesteps: int = 1000,
        prediction_type: str = "epsilon",
        sampler: str = "dpmpp-2m",
        spacing: str = "uniform",
        sigma_data: float | None = None,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
    ) -> None:
        _check_choice("prediction_type", prediction_type, PREDICTIONS)
        _check_choice("sampler", sampler, tuple(STEPS))
        if num_train_timesteps < 2:
            raise ConfigError(f"num_train_timesteps is {num_train_timesteps}; expected 2 or more")
        described = not isinstance(process, DiffusionProcess)
        self.register_to_config(
            process=_plain(process) if described else None,
            bands=_plain(bands) if described else None,
            event_shape=None if event_shape is None else list(event_shape),
            ends=None if ends is None else list(ends),
            deviation=deviation,
            num_train_timesteps=num_train_timesteps,
            prediction_type=prediction_type,
            sampler=sampler,
            spacing=spacing,
            sigma_data=sigma_data,
            clip_sample=clip_sample,
            clip_sample_range=clip_sample_range,
        )
        self.bands: Bands | None = None
        if isinstance(process, DiffusionProcess):
            self.process = process
        else:
            self.process, self.bands = described_process(process, bands, event_shape, ends, deviation)
        self._described = described
        self.components, self._transform = _components(self.process)
        self._unit = (num_train_timesteps - 1) / self.process.t_max
        self.num_inference_steps: int | None = None
        self._times = torch.empty(0, dtype=torch.float64)
        self.timesteps = torch.arange(num_train_timesteps, dtype=torch.float64).flip(0)
        self._history: Any = None
        self._next: int | None = None

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    @property
    def init_noise_sigma(self) -> float | Tensor:
        """The factor that makes standard normal draws draws from the prior: a number, or (*E).

        Raises ``ConfigError`` where a prior by bands has a mean, or is independent in coefficients and not in pixels.
        The mean of an isotropic process for data, a small share of its noise, is left out. ``sample_prior`` draws from
        any prior as it is.
        """
        if isinstance(self.components, IsotropicProcess):
            return self.components.prior_scale
        mean, deviation = self.components.prior(torch.zeros(()))
        if bool((mean == 0).all()):
            if bool((deviation == deviation.flatten()[0]).all()):
                return float(deviation.flatten()[0])
            if self._transform is None:
                return deviation
        raise ConfigError(
            "this process starts from noise that is no multiple of white noise, which init_noise_sigma can't say",
            hint="scheduler.sample_prior(shape, generator=...)",
        )

    def sample_prior(
        self,
        shape: Sequence[int],
        *,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Draws (B, *E) to start from."""
        like = self._ready(torch.empty((), device=device, dtype=dtype))
        return self.process.sample_prior(tuple(shape), generator=generator, like=like).to(dtype)

    def set_timesteps(self, num_inference_steps: int | Sequence[int], device: Any = None) -> None:
        """The times of a run, with the times at which components end among them.

        ``num_inference_steps`` is their number, or one for each interval between such ends, the noisiest first. Raises
        ``ConfigError`` for too few.
        """
        self._times = time_grid(self.process, num_inference_steps, self.config.spacing)
        self.num_inference_steps = len(self._times) - 1
        precision = torch.float32 if torch.device(device or "cpu").type == "mps" else torch.float64
        self.timesteps = (self._times[:-1] * self._unit).to(device, precision)
        self._labels: list[float] = self.timesteps.tolist()
        self._history, self._next = None, None

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        """The network's input for a sample (B, *E): the sample, or with ``sigma_data`` s its coefficients over
        sqrt(a^2 s^2 + b^2), of unit size for every component."""
        deviation = self.config.sigma_data
        if deviation is None or timestep is None:
            return sample
        x = self._ready(sample)
        z, (signal, scale) = self._coefficients(x, self._time_of(timestep, x))
        return self._to_events(z / ((signal * deviation) ** 2 + scale**2).sqrt()).to(sample.dtype)

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> NonUniformSchedulerOutput | tuple[Tensor, Tensor]:
        """One step of the sampler from a sample (B, *E) at one of ``timesteps``, with the network's answer there.

        ``eta`` is the noise of DDIM (Song, Meng and Ermon 2021, eq. 16): 0 for no noise, 1 for the posterior's noise.
        An answer with twice the channels holds variances too, which are ignored. Noise is always computed from clipped
        data, for any value of ``use_clipped_model_output``. Raises ``ConfigError`` for a time that is not on the grid,
        and for an ``eta`` with another sampler.
        """
        if eta != 0 and self.config.sampler != "ddim":
            raise ConfigError(
                f"eta is {eta:g}, and the sampler {self.config.sampler!r} has none", hint="sampler='ddim'"
            )
        index = self._index_of(timestep)
        if self._next != index:
            self._history = None
        x = self._ready(sample)
        z, denoised, score = self._read(model_output.to(x.dtype), x, self._times[index].to(x).expand(1))
        times, draws = self._times[index : index + 2], _one(generator)
        if eta == 0:
            take = STEPS[self.config.sampler]
            z, self._history = take(lambda z, t: score, self.components, z, times, generator=draws, state=self._history)
        else:
            xi = self._to_coefficients(draw_normal(tuple(x.shape), generator=draws, like=x))
            z = self._noisy_ddim(denoised, score, times, eta, xi)
        self._next = index + 1
        following, original = (self._to_events(each).to(sample.dtype) for each in (z, denoised))
        if not return_dict:
            return following, original
        return NonUniformSchedulerOutput(prev_sample=following, pred_original_sample=original)

    def scale_at(self, timestep: Tensor | float) -> int:
        """The scale of a timestep, 0 the finest: the number of breakpoints of the process before it.

        The end of a stretch of time belongs to it, since the step from there goes down.
        """
        time = float(timestep) / self._unit
        return sum(time > end * (1 + 1e-6) for end in self.process.breakpoints)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t for data (B, *E), white noise (B, *E) and timesteps (B,)."""
        x0 = self._ready(original_samples)
        noised = self.process.perturb(x0, self._time_of(timesteps, x0), noise.to(x0.dtype))
        return noised.to(original_samples.dtype)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The answer of a network of ``v_prediction`` for data ``sample``: (a z - b x_0) / sqrt(a^2 + b^2)."""
        x = self._ready(sample)
        x0, (signal, scale) = self._coefficients(x, self._time_of(timesteps, x))
        velocity = (signal * self._to_coefficients(noise.to(x.dtype)) - scale * x0) / (signal**2 + scale**2).sqrt()
        return self._to_events(velocity).to(sample.dtype)

    def _read(self, output: Tensor, sample: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The coefficients of a sample, and x0-hat and the score from the network's answer, of coefficients too."""
        if output.dim() > 1 and output.shape[1] == 2 * sample.shape[1]:
            output = output[:, : sample.shape[1]]
        z, (signal, scale) = self._coefficients(sample, t)
        answer = self._to_coefficients(output)
        noise = answer
        match self.config.prediction_type:
            case "epsilon":
                denoised = (z - scale * answer) / signal
            case "sample":
                denoised = answer
            case _:
                square = signal**2 + scale**2
                denoised = (signal * z - scale * square.sqrt() * answer) / square
        if self.config.clip_sample:
            bound = self.config.clip_sample_range
            denoised = self._to_coefficients(self._to_events(denoised).clamp(-bound, bound))
        if self.config.clip_sample or self.config.prediction_type != "epsilon":
            noise = (z - signal * denoised) / scale
        return z, denoised, -noise / scale

    def _noisy_ddim(self, denoised: Tensor, score: Tensor, times: Tensor, eta: float, xi: Tensor) -> Tensor:
        """x' = a' x0-hat + sqrt(b'^2 - s^2) eps-hat + s xi with s = eta (b' / b) q, of coefficients (B, *E).

        q^2 is the variance of the way from the second of the ``times`` to the first: a component at rest has s = 0.
        """
        precision = torch.float32 if xi.device.type == "mps" else torch.float64
        t, t_next = times.to(xi.device, precision).split(1)
        scale = self.components.coefficients(xi, t)[1]
        signal_next, scale_next = self.components.coefficients(xi, t_next)
        q = self.components.transition(xi, t_next, t)[1]
        assert isinstance(q, Tensor)
        spread = eta * scale_next / scale * q
        noise = -scale * score
        following = signal_next * denoised + (scale_next**2 - spread**2).sqrt() * noise + spread * xi
        return following.to(xi.dtype)

    def _ready(self, x: Tensor) -> Tensor:
        """x in single precision at least, with the process where it is; one that we made has its precision too."""
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        for module in (self.process, *([] if self.bands is None else [self.bands])):
            own = next((buffer for buffer in module.buffers() if buffer.is_floating_point()), x)
            if own.device != x.device or (self._described and own.dtype != x.dtype):
                module.to(device=x.device, dtype=x.dtype if self._described else None)
        return x

    def _coefficients(self, x: Tensor, t: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The coefficients of x (B, *E), and their (signal, scale) at t."""
        z = self._to_coefficients(x)
        return z, self.components.coefficients(z, t)

    def _to_coefficients(self, x: Tensor) -> Tensor:
        if self._transform is None:
            return x
        z: Tensor = self._transform(x)
        return z

    def _to_events(self, z: Tensor) -> Tensor:
        return z if self._transform is None else self._transform.inverse(z)

    def _time_of(self, timestep: Tensor | float, like: Tensor) -> Tensor:
        """The times of the process at timesteps, (B,) or (1,)."""
        times = torch.as_tensor(timestep, dtype=torch.float64, device="cpu").reshape(-1) / self._unit
        return times.clamp(self.process.t_min, self.process.t_max).to(like)

    def _index_of(self, timestep: Tensor | float) -> int:
        if self.num_inference_steps is None:
            raise ConfigError("a step was asked for before the timesteps were set", hint="scheduler.set_timesteps(50)")
        wanted = float(timestep)
        if self._next is not None and self._next < len(self._labels) and self._labels[self._next] == wanted:
            return self._next
        distance = (torch.tensor(self._labels, dtype=torch.float64) - wanted).abs()
        index = int(distance.argmin())
        # Pipelines may hand timesteps on in half precision.
        if float(distance[index]) > 1e-3 * len(self):
            raise ConfigError(
                f"there is no timestep {wanted:g} on this grid, from {self._labels[0]:g} to {self._labels[-1]:g}",
                hint="take them from scheduler.timesteps, in their order",
            )
        return index


def described_process(
    process: Mapping[str, Any] | str | None,
    bands: Mapping[str, Any] | str | None,
    event_shape: Sequence[int] | None,
    ends: Sequence[float] | None,
    deviation: float,
) -> tuple[DiffusionProcess, Bands | None]:
    """The process of a scheduler's config and its bands: the described one, or one whose bands run through it.

    Raises ``ConfigError`` for a description that says too little or does not fit.
    """
    if process is None:
        raise ConfigError(
            "no process was given, and this config holds none: processes made in Python are not written to it",
            hint="NonUniformScheduler.from_config(config, process=...), or describe it: process={'name': 'vp'}",
        )
    try:
        if bands is None:
            if ends is not None:
                raise ConfigError("ends were given without bands to end", hint="give bands and event_shape too")
            return IsotropicProcess(build_schedule(TypeAdapter(ProcessConfig).validate_python(process))), None
        chosen: Any = TypeAdapter(BandsConfig).validate_python(bands)
        config = BandedConfig.model_validate({"bands": bands, "process": process, "ends": ends})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"the process or its bands: {first['msg']} (at {'.'.join(map(str, first['loc']))})",
            hint="write them as in a run file: process={'name': 'log-snr'}, bands={'name': 'haar', 'levels': 2}",
        ) from error
    if event_shape is None:
        raise ConfigError("bands were given without event_shape", hint="event_shape=(3, 32, 32)")
    if chosen.name in _FROM_DATA:
        raise ConfigError(
            f"the bands {chosen.name!r} are made from data, which a config does not hold",
            hint="give the process of the score that learned them: process=score.process",
        )
    built = build_bands(chosen, event_shape)
    return banded_process(config, built, deviation=deviation), built


def _components(process: DiffusionProcess) -> tuple[PerComponent | IsotropicProcess, Orthonormal | None]:
    """The process whose components are independent, and the transform that leads there, or None."""
    inner, transform = (process.inner, process.transform) if isinstance(process, Rotated) else (process, None)
    if not isinstance(inner, PerComponent | IsotropicProcess):
        raise ConfigError(
            f"{type(inner).__name__} couples its components; this scheduler takes those that diffuse one by one",
            hint="an isotropic process, PerComponent, or Rotated of one of them",
        )
    return inner, transform


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; expected {', '.join(choices)}")


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _one(generator: Any) -> torch.Generator | None:
    if isinstance(generator, list):
        raise ConfigError(
            f"a list of {len(generator)} generators was given; steps draw a batch from one",
            hint="generator=torch.Generator().manual_seed(0)",
        )
    single: torch.Generator | None = generator
    return single
