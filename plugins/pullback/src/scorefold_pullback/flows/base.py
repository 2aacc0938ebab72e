"""The base distribution of an anisotropic flow: a normal distribution with a variance for each latent coordinate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scorefold.random import draw_normal
from scorefold_toolkit.nn import Quadratic


class AnisotropicNormal(nn.Module, Quadratic):
    """N(0, diag(a)) with a = floor + exp(log_variances), on latents of one event shape.

    Where ``learned`` the log-variances are parameters. Otherwise they are a buffer that ``follow`` draws towards the
    mean of z^2, the likeliest variances for the latents as they are. The floor keeps noise-free data, whose likelihood
    has no bound, from variances of 0.
    """

    event_shape: tuple[int, ...]
    log_variances: Tensor

    def __init__(self, event_shape: tuple[int, ...], *, start: float, floor: float, learned: bool) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.floor = floor
        log_variances = torch.full(self.event_shape, math.log(start))
        if learned:
            self.log_variances = nn.Parameter(log_variances)
        else:
            self.register_buffer("log_variances", log_variances)

    @property
    def centre(self) -> float:
        """The mean."""
        return 0.0

    @property
    def variances(self) -> Tensor:
        """a, (*E)."""
        return self.floor + self.log_variances.exp()

    @torch.no_grad()
    def set_variances(self, variances: Tensor) -> None:
        """Starts from variances (*E); those at the floor or below start a little above it."""
        above = (variances - self.floor).clamp_min(1e-3 * self.floor + torch.finfo(torch.float32).tiny)
        self.log_variances.copy_(above.log())

    @torch.no_grad()
    def follow(self, z: Tensor, share: float = 0.05) -> None:
        """Moves the variances a ``share`` of the way to the mean squares of latents z (B, *E)."""
        self.set_variances(torch.lerp(self.variances, z.detach().square().mean(0), share))

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z (B, *E): (B,)."""
        variances = self.variances
        constant = 0.5 * variances.log().sum() + 0.5 * math.log(2 * math.pi) * variances.numel()
        return -0.5 * (z.square() / variances).flatten(1).sum(1) - constant

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""
        return self.unwhiten(draw_normal(shape, generator=generator, like=like))

    def whiten(self, z: Tensor) -> Tensor:
        return z * self.variances.rsqrt()

    def unwhiten(self, w: Tensor) -> Tensor:
        return w * self.variances.sqrt()

    def grad(self, x: Tensor) -> Tensor:
        return x / self.variances

    def grad_inverse(self, y: Tensor) -> Tensor:
        return y * self.variances

    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        return v / self.variances
