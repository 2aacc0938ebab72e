"""The maps phi of pullback geometries by configuration, on events of any shape, and flows of zuko as maps."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError
from scorefold_pullback.maps.checkerboard import coupling_map, spline_map
from scorefold_pullback.maps.config import (
    CouplingMapConfig,
    GlowMapConfig,
    MapConfig,
    RegularMapConfig,
    SplineMapConfig,
    ZukoMapConfig,
)
from scorefold_pullback.maps.glow import glow_map, on_vectors
from scorefold_pullback.maps.regular import regular_image_map, regular_map
from scorefold_toolkit.libraries import library
from scorefold_toolkit.nn import Bijection

ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "elu": nn.ELU}
_SERVE = "MAF, NICE, NSF and RealNVP serve"


class ZukoMap(Bijection):
    """A lazy transformation of zuko, without context, on vectors (B, D)."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._through(self.transform(None), x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._through(self.transform(None).inv, z)

    def _through(self, transform: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[0] == 0:  # which zuko can't reshape
            return x.clone(), x.new_zeros(0)
        value, log_det = transform.call_and_ladj(x)
        return value, log_det


def zuko_map(config: ZukoMapConfig, features: int) -> Bijection:
    """The transformation of a new flow of zuko on vectors (B, features).

    Raises ``ConfigError`` where zuko is not installed, has no such flow, can't make it with these options, or inverts
    or differentiates it by an approximation.
    """
    flow = _class_of(config.flow)
    try:
        transform = flow(features, 0, activation=ACTIVATIONS[config.activation], **config.options).transform
        built = ZukoMap(transform)
        points = torch.linspace(-4, 4, 3 * features).reshape(3, features)
        with torch.no_grad():
            image, _ = built(points)
    except (TypeError, ValueError, AssertionError, RuntimeError, IndexError) as error:
        options = ", ".join(f"{name}: {value}" for name, value in config.options.items())
        raise ConfigError(
            f"zuko can't make {config.flow} of {features} features with options {{{options}}}: {error}",
            hint=f"options are the keywords of zuko.flows.{config.flow}",
        ) from error
    _check_serves(built, points, image, config.flow)
    return built


def _class_of(name: str) -> Any:
    with library("map: zuko", "scorefold-pullback[zuko]"):
        from zuko import flows
    known = {key: value for key, value in vars(flows).items() if isinstance(value, type)}
    names = [key for key, value in known.items() if issubclass(value, flows.Flow) and value is not flows.Flow]
    if name in names:
        return known[name]
    if name in known:
        raise ConfigError(f"{name} of zuko.flows is no flow with one transformation", hint=_SERVE)
    near = difflib.get_close_matches(name.upper(), [key.upper() for key in names], 1)
    meant = [key for key in names if key.upper() in near]
    raise ConfigError(
        f"zuko has no flow {name!r}; it has {', '.join(sorted(names))}",
        hint=f"did you mean {meant[0]}?" if meant else _SERVE,
    )


def _check_serves(built: ZukoMap, points: Tensor, image: Tensor, name: str) -> None:
    """Tries both directions: maps are inverted exactly, and differentiated forwards by ``torch.func``."""
    try:
        for direction, start in ((built, points), (built.inverse, image)):
            torch.func.jvp(direction, (start,), (torch.ones_like(start),))
    except RuntimeError as error:
        raise ConfigError(
            f"{name} of zuko can't be a map: torch.func can't differentiate it, since zuko finds its values or its "
            "inverse by search, quadrature or integration",
            hint=_SERVE,
        ) from error
    if not torch.allclose(built.inverse(image)[0], points, rtol=1e-2, atol=1e-2):
        raise ConfigError(
            f"{name} of zuko can't be a map: its inverse does not lead back, as of a flow on a part of space alone",
            hint=_SERVE,
        )


def build_map(config: MapConfig, event_shape: tuple[int, ...]) -> Bijection:
    """The map of a configuration on events (B, *E) to (B, *E), in torch's default dtype, by torch's own generator.

    Its log-determinants are (B,), or () where they are the same for all events. Events that are neither vectors nor,
    for a map of images, (C, H, W) are flattened. Raises ``ConfigError`` for events without coordinates, for glow on
    anything but images that can be halved ``levels`` times, and for zuko where it is not installed, has no such flow
    or has one that is no differentiable bijection.
    """
    shape = tuple(event_shape)
    if not shape or min(shape) < 1:
        raise ConfigError(f"a map on events of shape {shape} was asked for; expected at least one coordinate")
    if isinstance(config, GlowMapConfig):
        return glow_map(config, shape)
    if isinstance(config, CouplingMapConfig):
        return on_vectors(shape, lambda features: coupling_map(config, features))
    if isinstance(config, SplineMapConfig):
        return on_vectors(shape, lambda features: spline_map(config, features))
    if isinstance(config, RegularMapConfig):
        if len(shape) == 3:
            return regular_image_map(config, (shape[0], shape[1], shape[2]))
        return on_vectors(shape, lambda features: regular_map(config, features))
    return on_vectors(shape, lambda features: zuko_map(config, features))
