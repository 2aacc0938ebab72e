"""The maps phi of pullback geometries: invertible networks on events of any shape, by configuration."""

from __future__ import annotations

from scorefold.errors import ConfigError
from scorefold.nn import Bijection
from scorefold_pullback.map_config import CouplingMapConfig, MapConfig
from scorefold_pullback.maps.checkerboard import coupling_map, spline_map
from scorefold_pullback.maps.reshape import on_vectors

__all__ = ["build_map"]


def build_map(config: MapConfig, event_shape: tuple[int, ...]) -> Bijection:
    """The map of a configuration on events (B, *E) to (B, *E), in torch's default dtype, by torch's own generator.

    Its log-determinants are (B,), or () where they are the same for all events. Raises ``ConfigError`` for an event
    without coordinates.
    """
    shape = tuple(event_shape)
    if not shape or min(shape) < 1:
        raise ConfigError(f"a map on events of shape {shape} was asked for; expected at least one coordinate")
    if isinstance(config, CouplingMapConfig):
        return on_vectors(shape, lambda features: coupling_map(config, features))
    return on_vectors(shape, lambda features: spline_map(config, features))
