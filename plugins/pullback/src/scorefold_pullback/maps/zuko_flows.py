"""The transformations of zuko's flows as maps: those that are smooth bijections of R^D, exact in both directions."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError
from scorefold_pullback.config.maps import ZukoMapConfig
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
            hint=f"options are those of zuko.flows.{config.flow}",
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
