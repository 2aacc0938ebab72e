"""The maps phi of pullback geometries: invertible networks on events of any shape, by configuration."""

from __future__ import annotations

from scorefold.errors import ConfigError
from scorefold_pullback.config.maps import (
    CouplingMapConfig,
    GlowMapConfig,
    MapConfig,
    RegularMapConfig,
    SplineMapConfig,
)
from scorefold_pullback.maps.checkerboard import coupling_map, spline_map
from scorefold_pullback.maps.glow import glow_map
from scorefold_pullback.maps.regular import regular_image_map, regular_map
from scorefold_pullback.maps.reshape import on_vectors
from scorefold_pullback.maps.zuko_flows import zuko_map
from scorefold_toolkit.nn import Bijection

__all__ = ["build_map"]


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
