"""Flows that are trained for the geometry they give: near an isometry, with a variance for each latent coordinate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, DataSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource, Flow, Loss, Phase, Progress, Trainable
from scorefold.random import draw_normal
from scorefold_pullback.flows.config import AnisotropicConfig
from scorefold_pullback.flows.linear import principal_directions
from scorefold_pullback.flows.mixture import AnisotropicNormal, SharedMixture
from scorefold_pullback.flows.objective import (
    Isometry,
    code_penalty,
    drawn_counts,
    find_parts,
    hessian_penalty,
    isometry_penalty,
    unit_vectors,
    volume_penalty,
    with_cotangents,
)
from scorefold_pullback.maps.build import build_map
from scorefold_pullback.maps.checkerboard import can_push, push_tangents
from scorefold_toolkit.training.validation import LossReference, normal_reference

_FULL_UP_TO = 32


class AnisotropicFlow(Flow, Trainable):
    """phi(x) = s map(R (x - m) / s), z ~ N(0, diag(a)), with a rotation R, a centre m and one scale s that are fixed.

    R, m and s leave lengths and angles to the map: J is its Jacobian times a rotation, and latents, variances and the
    geometry have the units of the data. s is the standard deviation of ``event_scale`` and m its mean, until
    ``prepare`` sets R and m to principal axes. With ``whiten`` the layers act on coordinates divided by their widths W
    at the start: the map is W layers W^-1, which is the identity where the layers are. ``loss`` is E[-log p(x)] in nats
    an event, as of the flow's own density, plus the weighted penalties of ``objective``. With several ``modes``
    z ~ sum_k w_k N(c_k, diag(a)), whose w and c are learned too. Diepeveen, Batzolis et al., ICML 2025; of such a base
    their code has the form and no training.

    Raises ``ConfigError`` for data with conditions and for a start from principal axes of a map of images.

    >>> from scorefold_registry import Host
    >>> banana = {"use": "data:banana", "config": {"points": 200}}
    >>> coupling = {"name": "coupling", "layers": 2, "width": 16}
    >>> flow = Host.discover().create("flow:anisotropic", {"map": coupling}, data=banana)
    >>> x = torch.ones(1, 2)
    >>> torch.allclose(flow.inverse(flow(x)[0])[0], x, atol=1e-5)
    True
    """

    base: AnisotropicNormal | SharedMixture
    rotation: Tensor
    rotation_rest: Tensor
    widths: Tensor
    middle: Tensor

    def __init__(self, config: AnisotropicConfig, *, data: DataSource | DataSpec) -> None:
        if data.condition_spec is not None:
            raise ConfigError(
                "a geometry has no conditions, and these data do",
                hint="train this flow on data without, or use flow:affine-coupling for a conditional flow",
            )
        shape, scale = tuple(data.event_shape), data.event_scale
        placed = len(shape) == 3 and config.map.name in ("glow", "regular")
        if config.start == "pca" and placed:
            raise ConfigError(
                f"map {config.map.name} needs the order of the pixels, but start pca mixes them", hint="start: none"
            )
        self._principal = config.start != "none" and not placed
        spread = scale.std if config.standardise else 1.0
        normal = AnisotropicNormal(
            shape,
            start=spread**2 * (1 if config.variances == "fixed" else 1 - config.variance_floor),
            floor=0.0 if config.variances == "fixed" else config.variance_floor * scale.std**2,
            learned=config.variances == "learned",
        )
        several = config.modes > 1
        base = SharedMixture(normal, config.modes, unit=spread, learned=True) if several else normal
        super().__init__(shape, base, event_scale=scale)
        self.config = config
        self.training_config = config.training
        self.map = build_map(config.map, shape)
        self.spread = spread
        size = self.dimension
        middle = torch.zeros(size) + scale.middle(torch.zeros(size)) if config.standardise else torch.zeros(size)
        self.register_buffer("middle", middle)
        self.register_buffer("widths", torch.ones(size), persistent=config.whiten)
        self.register_buffer("rotation", torch.eye(size) if self._principal else torch.empty(0))
        # What rounding took from R, so that R is orthogonal to double precision in a flow that is made double later.
        self.register_buffer("rotation_rest", torch.zeros_like(self.rotation))

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(x)
        z, log_det = self.map(self._standard(x))
        return z * (self.spread * self.widths).reshape(z.shape[1:]), log_det.expand(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(z)
        rotated, log_det = self.map.inverse(z / (self.spread * self.widths).reshape(z.shape[1:]))
        centred = rotated.flatten(1) * self.widths
        centred = centred @ self._rotation() if self._principal else centred
        return (centred * self.spread + self.middle).reshape(z.shape), log_det.expand(len(z))

    @torch.no_grad()
    def prepare(self, dataset: Dataset, generator: torch.Generator) -> None:
        """The start from up to ``start_points`` points: principal axes, their variances, and what the map starts from.

        Layers that would start by normalising their input stay as they are under an isometry penalty, since they would
        start far from an isometry. A base of several modes starts from a fitted mixture, whose parts share a
        covariance, and the axes come from this covariance. Raises ``DataError`` for numbers that are not finite, points
        that are all the same, and fewer different points than modes.
        """
        order = torch.randperm(len(dataset), generator=generator, device=generator.device).cpu()
        batch = dataset.take(order[: self.config.start_points]).to(self.middle.device, self.middle.dtype)
        x = self.dequantise(batch.x, generator)
        _check_points(x)
        parts = find_parts(x.flatten(1), self.config.modes, generator) if self.config.modes > 1 else None
        if self._principal:
            flat = x.flatten(1).double()
            self._start_from_axes(flat, None if parts is None else parts.covariance(flat))
        if self.config.whiten:
            least = self.config.noise**2 + self.config.variance_floor * self.event_scale.std**2
            squares = self._standard(x).flatten(1).square().mean(0)
            self.widths.copy_((squares + least / self.spread**2).sqrt())
        if self.config.isometry_weight == 0:
            self.map.initialise(self._standard(x))
        if parts is not None and isinstance(self.base, SharedMixture):
            self.base.set_parts(parts.means(self(x)[0]), parts.weights)
        if self.config.variances != "fixed":
            z = self(x)[0]
            squares = z.square().mean(0) if parts is None else parts.squares(z)
            self._normal.set_variances(squares + self.config.noise**2)

    def parameter_groups(self, phase: Phase) -> Iterable[dict[str, Any]]:
        """The parameters of the map, and the parameters of the base at a rate of their own and without decay."""
        yield {"params": list(self.map.parameters())}
        rate = self.config.variance_speed * self.config.training.learning_rate
        yield {"params": list(self.base.parameters()), "lr": rate, "weight_decay": 0.0}

    def refuses(self, strategy: str) -> str | None:
        twice = self.config.hessian_weight or (self.config.isometry_weight and not can_push(self.map))
        if strategy == "compile" and twice:
            return "its penalties differentiate the map twice, which torch.compile cannot"
        return None

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        """The nats an event of a normal distribution of each coordinate; None for a loss that is mostly of codes."""
        if self.config.code_weight:
            return None
        found = normal_reference(points, bin_width=self.bin_width, noise=self.config.noise)
        return None if found is None else replace(found, value=self.dimension * found.value)

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        """The mean negative log-likelihood in nats an event and the weighted penalties, each a part of its own.

        Penalties are the same in all units of the data: the Hessian's is for lengths in multiples of s.
        """
        config = self.config
        x = self.dequantise(batch.x, generator)
        clean = x
        if config.noise:
            x = x + config.noise * draw_normal(tuple(x.shape), generator=generator, like=x)
        parts: dict[str, Tensor] = {}
        total = x.new_zeros(())
        if config.isometry_weight:
            kind = self.isometry
            directions = unit_vectors(kind, x, config.directions, generator)
            z, log_det, products = self.with_products(x, directions)
            parts["isometry"] = isometry_penalty(kind, directions, products)
            total = total + config.isometry_weight * parts["isometry"]
        else:
            z, log_det = self(x)
        if self.training and config.variances == "closed-form":
            self._normal.follow(z)
        parts["nll"] = -(self.base.log_prob(z) + log_det).mean()
        total = total + parts["nll"]
        if config.volume_weight:
            parts["volume"] = volume_penalty(config.volume, log_det)
            total = total + config.volume_weight * parts["volume"]
        if config.hessian_weight:
            parts["hessian"] = self.spread**4 * hessian_penalty(self, self.base, x, generator)
            total = total + config.hessian_weight * parts["hessian"]
        if config.code_weight:
            counts = drawn_counts(len(x), self.dimension, generator=generator, like=x)
            lost = code_penalty(self, clean, z, self._normal.variances, counts)
            parts["code"] = lost / self.event_scale.std**2
            total = total + config.code_weight * parts["code"]
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def with_products(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi(x) (B, *E), log |det J| (B,), and J q or J^T q (K, B, *E) for directions q, whichever is the faster.

        An isometry penalty may take either: see ``with_cotangents``.
        """
        if not can_push(self.map):
            return with_cotangents(self, x, directions)
        turned = directions.flatten(2) @ self._rotation().mT if self._principal else directions.flatten(2)
        turned = (turned / self.widths).reshape(directions.shape)
        z, log_det, products = push_tangents(self.map, self._standard(x), turned)
        widths = self.widths.reshape(x.shape[1:])
        return z * (self.spread * widths), log_det, products * widths

    @property
    def isometry(self) -> Isometry:
        """The penalty on lengths and angles that ``config.isometry`` comes to."""
        if self.config.isometry == "auto":
            return "full" if self.dimension <= _FULL_UP_TO else "sliced"
        return self.config.isometry

    @property
    def _normal(self) -> AnisotropicNormal:
        """The base's variances, as of one mode."""
        return self.base.normal if isinstance(self.base, SharedMixture) else self.base

    def _standard(self, x: Tensor) -> Tensor:
        """R (x - m) / s, (B, *E): what the map is given."""
        centred = (x.flatten(1) - self.middle) / self.spread
        turned = centred @ self._rotation().mT if self._principal else centred
        return (turned / self.widths).reshape(x.shape)

    def _start_from_axes(self, x: Tensor, covariance: Tensor | None) -> None:
        """R and m from points (N, D) in float64: rows of R are principal axes, widest first, of their covariance or
        another."""
        middle = x.mean(0)
        if covariance is None:
            covariance = (x - middle).mT @ (x - middle) / len(x)
        self.middle.copy_(middle)
        rotation = principal_directions(covariance)[1].mT
        self.rotation.copy_(rotation)
        self.rotation_rest.copy_(rotation - self.rotation)

    def _rotation(self) -> Tensor:
        """R (D, D), as exact as the dtype of the buffers allows."""
        return self.rotation + self.rotation_rest


def _check_points(x: Tensor) -> None:
    """Raises ``DataError`` for points (N, *E) that say nothing of where others lie."""
    wrong = int((~x.isfinite()).flatten(1).any(1).sum())
    if wrong:
        raise DataError(f"{wrong} of {len(x)} training points hold NaN or infinite numbers", hint="leave them out")
    if bool((x == x[:1]).all()):
        raise DataError(f"all training points are the same (there are {len(x)})", hint="give points that differ")
