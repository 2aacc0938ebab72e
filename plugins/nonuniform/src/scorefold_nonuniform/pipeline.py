"""Multi-scale sampling as a pipeline of diffusers: a UNet2DModel a scale, saved and loaded as diffusers' own are.

For networks trained in diffusers' world; a ``score:multiscale`` runs in stock pipelines behind ``denoiser.ScoreUNet``.
Needs ``pip install scorefold-nonuniform[diffusers]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, DiffusionPipeline, ImagePipelineOutput, ModelMixin, UNet2DModel
from torch import Tensor, nn

from scorefold.errors import ConfigError, ShapeError
from scorefold_nonuniform.scheduler import NonUniformScheduler


class ScaleUNets(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A ``UNet2DModel`` for each scale, the finest first, as one model of diffusers.

    ``settings`` are theirs, those of ``UNet2DModel``. Raises ``ConfigError`` for none.
    """

    def __init__(self, settings: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        if not settings:
            raise ConfigError("no networks were given; expected the settings of one a scale, the finest first")
        self.register_to_config(settings=[dict(each) for each in settings])
        self.unets = nn.ModuleList(UNet2DModel.from_config(dict(each)) for each in settings)

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
    many as there are networks. Raises ``ConfigError`` and ``ShapeError`` where they do not fit.
    """

    model_cpu_offload_seq = "networks"

    def __init__(self, networks: ScaleUNets, scheduler: NonUniformScheduler) -> None:
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

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | None = None,
        num_inference_steps: int | Sequence[int] = 50,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Images as diffusers' pipelines return them: ``pil``, ``np`` or ``pt``, from [-1, 1] to [0, 1].

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
        image = (image / 2 + 0.5).clamp(0, 1)
        if output_type != "pt":
            image = image.cpu().permute(0, 2, 3, 1).float().numpy()
            if output_type == "pil":
                image = self.numpy_to_pil(image)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=image) if return_dict else (image,)

    def _answer(self, image: Tensor, timestep: Tensor) -> Tensor:
        """What the network at work answers, as an image of full size: 0 in the bands that have ended, which rest."""
        bands, scale = self.scheduler.bands, self.scheduler.scale_at(timestep)
        z = bands.transform(image)
        view = bands.synthesise(bands.take(z, scale), scale)
        answer = bands.analyse(self.networks(view, timestep, scale), scale)
        whole: Tensor = bands.transform.inverse(bands.put(answer, scale, torch.zeros_like(z)))
        return whole


def _shape(unet: nn.Module) -> tuple[int, ...]:
    config: Any = unet.config
    size = config.sample_size
    if size is None:
        raise ShapeError("a network has no sample_size; expected that of the images of its scale")
    height, width = (size, size) if isinstance(size, int) else size
    return config.in_channels, height, width
