"""Multi-scale sampling as a pipeline of diffusers: a UNet2DModel a scale, saved and loaded as diffusers' own are.

For networks trained in diffusers' world; a ``score:multiscale`` runs in stock pipelines behind ``ScoreUNet``, and in
k-diffusion behind its denoiser. Needs ``pip install scorefold-nonuniform[diffusers]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import ConfigMixin, DiffusionPipeline, ImagePipelineOutput, ModelMixin, UNet2DModel
from torch import Tensor, nn

from scorefold.data import Condition
from scorefold.diffusion.process import expand
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import ScoreModel
from scorefold_nonuniform.diffusers.scheduler import NonUniformScheduler
from scorefold_nonuniform.multiscale import MultiScaleScore


class Denoiser(nn.Module):
    """E[x_0 | x_0 + sigma z], a score model as k-diffusion calls it: ``denoiser(x, sigma)``.

    ``sigma`` is scale / signal: (B,), or (B, *E) where components, or coefficients of the process' transform, diffuse
    at several speeds. A process passes through one such vector per time, so that time is found from it. ``sigmas``
    returns the vectors of a grid of times. Inputs are x_t divided by the signal, component by component (Karras et al.
    2022, eq. 7).
    """

    def __init__(self, score: ScoreModel) -> None:
        super().__init__()
        self.score_model = score

    def sigmas(self, times: Tensor) -> Tensor:
        """sigma at times (S,): (S,), or (S, *E)."""
        return (-self.score_model.process.log_snr(times) / 2).exp()

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """Expected data (B, *E) from x (B, *E) at sigma.

        Raises ``ConfigError`` for a sigma that the process does not pass through.
        """
        process = self.score_model.process
        t = self.time_of(sigma)
        return self.score_model.denoise(process.marginal(x, t)[0], t, condition)

    def time_of(self, sigma: Tensor) -> Tensor:
        """The times (B,) at which the process has these sigmas, by bisection of their mean logarithm.

        Raises ``ShapeError`` and ``ConfigError`` for sigmas that it does not have.
        """
        process = self.score_model.process
        wanted = sigma.double().log()
        low = torch.full((len(sigma),), process.t_min, dtype=torch.float64, device=sigma.device)
        high = torch.full_like(low, process.t_max)
        for _ in range(60):
            middle = (low + high) / 2
            below = _mean(self.sigmas(middle).log()) < _mean(wanted)
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        t = ((low + high) / 2).to(sigma.dtype)
        found = self.sigmas(t)
        if sigma.dim() != 1 and found.shape != sigma.shape:
            raise ShapeError(f"sigma has shape {tuple(sigma.shape)}; expected (B,) or {tuple(found.shape)}")
        # Of a process of several speeds one number a time can't say which.
        if not torch.allclose(expand(found, sigma).log(), expand(sigma, found).log(), rtol=1e-3, atol=1e-3):
            raise ConfigError(
                "the process passes through no time with these noise levels of its components",
                hint="denoiser.sigmas(times) gives those that it has",
            )
        return t


class ScoreUNet(nn.Module):
    """A score model on images as diffusers' pipelines call a network, with the answer of prediction_type epsilon.

    Timesteps come from a ``NonUniformScheduler`` of the model's process with the same ``num_train_timesteps``.
    ``class_labels`` are the condition. Raises ``ShapeError`` for a model of other events than images (C, H, W).
    """

    def __init__(self, score: ScoreModel, num_train_timesteps: int = 1000) -> None:
        super().__init__()
        if len(score.event_shape) != 3:
            raise ShapeError(f"this model's events have shape {score.event_shape}; a pipeline draws images (C, H, W)")
        self.score_model = score
        channels, height, width = score.event_shape
        self.config = SimpleNamespace(in_channels=channels, out_channels=channels, sample_size=(height, width))
        self.unit = score.process.t_max / (num_train_timesteps - 1)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the model's numbers."""
        return self._like().dtype

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self._like().device

    def forward(
        self, sample: Tensor, timestep: Tensor | float, class_labels: Condition | None = None, return_dict: bool = True
    ) -> Any:
        """The expected noise (B, *E), as ``.sample`` of what is returned, or the first of a tuple."""
        process = self.score_model.process
        t = torch.as_tensor(timestep, dtype=torch.float64).reshape(-1) * self.unit
        times = t.clamp(process.t_min, process.t_max).to(sample).expand(len(sample))
        noise = self.score_model.noise(sample, times, class_labels)
        return SimpleNamespace(sample=noise) if return_dict else (noise,)

    def _like(self) -> Tensor:
        tensors = (*self.score_model.parameters(), *self.score_model.buffers())
        return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(()))


def _mean(value: Tensor) -> Tensor:
    return value.flatten(1).mean(1) if value.dim() > 1 else value


_TIMESTEPS = 1001
"""With as many, a timestep is 1000 t for t from 0 to 1, as networks of the published construction take it."""


class ScaleUNets(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A ``UNet2DModel`` for each scale, the finest first, as one model of diffusers.

    ``settings`` hold the keywords of ``UNet2DModel`` for each network. Raises ``ConfigError`` for no settings.
    """

    def __init__(self, settings: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        if not settings:
            raise ConfigError("no networks were given; expected the settings of one a scale, the finest first")
        # Private entries name the values that are diffusers' defaults, and would undo those that were set later.
        plain = [{key: value for key, value in each.items() if not key.startswith("_")} for each in settings]
        self.register_to_config(settings=plain)
        self.unets = nn.ModuleList(UNet2DModel.from_config(dict(each)) for each in plain)

    @classmethod
    def of(cls, unets: Sequence[UNet2DModel]) -> ScaleUNets:
        """The networks themselves, with their weights."""
        whole: ScaleUNets = cls([dict(unet.config) for unet in unets])
        whole.unets = nn.ModuleList(unets)
        return whole

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes (C, H, W) of the images that the networks take."""
        return [_shape(unet) for unet in self.unets]

    def forward(self, sample: Tensor, timestep: Tensor | float, scale: int) -> Tensor:
        """The answer of a scale's network for images of its own size, of their shape."""
        answer: Tensor = self.unets[scale](sample, timestep, return_dict=False)[0]
        return answer


class MultiScalePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Draws images from the coarsest band to the finest, each scale's network in its own stretch of time.

    The scheduler is a ``NonUniformScheduler`` with bands that have an image at every scale (haar, wavelet, dct), as
    many as there are networks. Samples from ``low`` to ``high`` become images. Raises ``ConfigError`` and
    ``ShapeError`` where they do not fit.
    """

    model_cpu_offload_seq = "networks"

    def __init__(
        self, networks: ScaleUNets, scheduler: NonUniformScheduler, low: float = -1.0, high: float = 1.0
    ) -> None:
        super().__init__()
        bands, shapes = scheduler.bands, networks.shapes
        if bands is None:
            raise ConfigError(
                "the scheduler's config names no bands, so there are no scales",
                hint=f"NonUniformScheduler('log-snr', bands={{'name': 'haar', 'levels': {len(shapes) - 1}}}, "
                f"event_shape={shapes[0]})",
            )
        if len(scheduler.process.breakpoints) + 1 != len(bands):
            raise ConfigError("bands that end together leave a scale no time", hint="give increasing ends")
        expected = [bands.shape(scale) for scale in range(len(bands))]
        if shapes != expected:
            raise ShapeError(f"the networks take images of shapes {shapes}; the scheduler's scales have {expected}")
        self.register_modules(networks=networks, scheduler=scheduler)
        self.register_to_config(low=low, high=high)

    @classmethod
    def of_score(cls, score: MultiScaleScore, **settings: Any) -> MultiScalePipeline:
        """A ``score:multiscale`` as a pipeline that diffusers saves and loads without us training anything again.

        Its construction is ``published`` and its networks are ``network:unet``, whose UNet2DModels are shared;
        ``settings`` are the scheduler's (``sampler``, ``spacing``, ``clip_sample``). Raises ``ConfigError`` for other
        models: ``denoiser.ScoreUNet`` takes any.
        """
        if score.config.construction != "published" or score.condition_spec is not None:
            raise ConfigError(
                "diffusers' networks take one number, the timestep; the networks of this model take more",
                hint="set construction: published, without a condition, or use denoiser.ScoreUNet(score)",
            )
        scheduler = NonUniformScheduler(
            score.config.process.model_dump(),
            bands=score.config.bands.model_dump(),
            event_shape=score.event_shape,
            ends=score.config.ends,
            num_train_timesteps=_TIMESTEPS,
            **settings,
        )
        unets = [_unet_of(each.network, score.bands.shape(scale)) for scale, each in enumerate(score.networks)]
        scale = score.event_scale
        low, high = (-1.0, 1.0) if scale.low is None or scale.high is None else (scale.low, scale.high)
        return cls(ScaleUNets.of(unets).eval(), scheduler, low, high)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | None = None,
        num_inference_steps: int | Sequence[int] = 50,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Images in [0, 1] as diffusers' pipelines return them: ``pil``, ``np`` or ``pt``.

        ``num_inference_steps`` is their number, or one for each scale, the coarsest first.
        """
        shape = (batch_size, *self.networks.shapes[0])
        image = self.scheduler.sample_prior(
            shape, generator=generator, device=self._execution_device, dtype=self.networks.dtype
        )
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.progress_bar(self.scheduler.timesteps):
            answer = self._answer(image, t)
            image = self.scheduler.step(answer, t, image, generator=generator).prev_sample
        low, high = self.config.low, self.config.high
        image = ((image - low) / (high - low)).clamp(0, 1)
        if output_type != "pt":
            image = image.cpu().permute(0, 2, 3, 1).float().numpy()
            if output_type == "pil":
                image = self.numpy_to_pil(image)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=image) if return_dict else (image,)

    def _answer(self, image: Tensor, timestep: Tensor) -> Tensor:
        """The answer of the current network, as an image of full size; 0 in the bands that have ended."""
        bands, scale = self.scheduler.bands, self.scheduler.scale_at(timestep)
        z = bands.transform(image)
        view = bands.synthesise(bands.take(z, scale), scale)
        answer = bands.analyse(self.networks(view, timestep, scale), scale)
        whole: Tensor = bands.transform.inverse(bands.put(answer, scale, torch.zeros_like(z)))
        return whole


@torch.no_grad()
def _unet_of(network: Any, shape: tuple[int, ...]) -> UNet2DModel:
    """The UNet2DModel inside a network, which must answer as the network does at the timestep 1000 t.

    Raises ``ConfigError`` for a network that is no such thing.
    """
    unet = getattr(network, "unet", None)
    halved = 2 ** (len(unet.config.block_out_channels) - 1) if isinstance(unet, UNet2DModel) else 1
    if isinstance(unet, UNet2DModel) and all(size % halved == 0 for size in shape[1:]):
        image, t = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(unet.conv_in.weight), 0.3
        own = network(image, image.new_full((2,), 20 * t - 10), None)
        if torch.allclose(unet(image, (_TIMESTEPS - 1) * t, return_dict=False)[0], own, rtol=1e-3, atol=1e-4):
            unet.register_to_config(sample_size=list(shape[1:]))
            return unet
    raise ConfigError(
        f"the network of images of shape {shape} ({type(network).__name__}) is no UNet2DModel of theirs",
        hint="use network:unet, and sizes that its levels halve evenly, or denoiser.ScoreUNet(score)",
    )


def _shape(unet: nn.Module) -> tuple[int, ...]:
    config: Any = unet.config
    size = config.sample_size
    if size is None:
        raise ShapeError("a network has no sample_size; expected the size of the images of its scale")
    height, width = (size, size) if isinstance(size, int) else size
    return config.in_channels, height, width
