"""The geometry of codes under any decoder: lengths are those of the events that codes decode to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError, DataError, PluginError, ShapeError
from scorefold.interfaces import Encodes, Flow, Geometry, ScoreModel
from scorefold.interfaces.geometry import barycentre_weights, check_times
from scorefold.jobs import job_function
from scorefold.stage import reported
from scorefold_scorevae.config.geometry import DecoderGeometryConfig
from scorefold_scorevae.geometry.solver import Derivatives, Solved, geodesic_between, shoot
from scorefold_toolkit.checks import equal_batches

_STEPS = 50
_FLAT = 1e-12


class DecoderGeometry(Geometry, nn.Module):
    """The metric J^T J of a decoder f at codes: the length of a curve z(t) is that of f(z(t)), seen as an event.

    f is the decoder of a model with codes, the inverse of a flow, or a function ``module:function``. What a decoder
    draws is held: a score model's start noise is one draw, the same for all codes. Geodesics, exponentials and
    logarithms are solved by numbers in float64 (see ``geometry.solver``), and answers come in the dtype of the codes.
    Where a geodesic is not found ``DataError`` says so, and no distance is given.

    Points are codes (B, *latent_shape). Nothing can be differentiated. Raises ``ConfigError`` for a model without a
    decoder, and for both or neither of model and function.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> bent = host.create("geometry:decoder", model=host.create("flow:banana"))
    >>> a, b = torch.tensor([[0.0, -3.0]]), torch.tensor([[0.0, 3.0]])  # they decode to (1, -3) and (1, 3)
    >>> bent.distance(a, b).round(decimals=3)
    tensor([6.])
    """

    def __init__(self, config: DecoderGeometryConfig, *, model: Any = None) -> None:
        super().__init__()
        if (model is None) == (config.target is None):
            what = "both a model and a function" if model is not None else "neither a model nor a function"
            raise ConfigError(
                f"the geometry of a decoder got {what}",
                hint="plug a model into the port model, or set target and dimension",
            )
        if not (model is None or isinstance(model, Flow | Encodes)):
            raise ConfigError(
                f"{type(model).__name__} decodes nothing: the geometry of a decoder needs a flow, or codes",
                hint="such as autoencoder:vae, score:scorevae or a flow",
            )
        if isinstance(model, Flow) and (model.condition_spec is not None or config.decoding):
            raise ConfigError(
                f"the geometry of a decoder takes a flow without conditions and without decoding options; "
                f"{type(model).__name__} has {'conditions' if model.condition_spec else 'decoding options'}"
            )
        self.config = config
        self.map = _Decoder(model, config)
        self.event_shape: tuple[int, ...] = self.map.shape

    def metric(self, x: Tensor) -> Tensor:
        """J^T J, (B, k, k)."""
        (x,) = self._rows(x=x)
        if len(x) == 0:
            size = math.prod(self.event_shape)
            return x.new_empty(0, size, size)
        jacobians = self._derivatives(x).jacobian(x.double().flatten(1))
        return (jacobians.mT @ jacobians).to(x)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """The code after unit time along the geodesic with velocity v, by dopri5: (B, *E)."""
        x, v = self._rows(x=x, v=v)
        if len(x) == 0:
            return x
        flat = x.double().flatten(1), v.double().flatten(1)
        return shoot(self._derivatives(x), *flat, self.config.tolerance).to(x).reshape(x.shape)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity at x of the geodesic to y, (B, *E). Raises ``DataError`` for geodesics that are not found."""
        x, y = self._rows(x=x, y=y)
        return self._along(x, y, np.zeros(1), velocities=True)[:, 0]

    def geodesic(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """The geodesics at times s (T,) in [0, 1], (B, T, *E). Raises as ``log``."""
        check_times(s)
        if s.numel() and not bool(((s >= 0) & (s <= 1)).all()):
            raise DataError(f"s goes from {float(s.min()):g} to {float(s.max()):g}; expected times from 0 to 1")
        x, y = self._rows(x=x, y=y)
        return self._along(x, y, s.double().cpu().numpy())

    def decoded(self, z: Tensor) -> Tensor:
        """The events (B, *F) that codes (B, *E) decode to."""
        (z,) = self._rows(z=z)
        return self.map.events(z.double()).to(z)

    def distance_matrix(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """All distances between x (B1, *E) and y (B2, *E), or between the points of x, each pair of these once."""
        if y is not None:
            return super().distance_matrix(x, y)
        rows, columns = torch.triu_indices(len(x), len(x), 1, device=x.device)
        found = x.new_zeros(len(x), len(x))
        if len(rows):
            found[rows, columns] = self.distance(x[rows], x[columns])
        return found + found.mT

    def mean(self, points: Tensor, weights: Tensor | None = None) -> Tensor:
        """The weighted barycentre of points (N, *E), (*E), by Karcher's iteration to the solver's tolerance. Raises
        ``DataError`` where it does not end, and as ``log``."""
        (points,) = self._rows(points=points)
        shares = barycentre_weights(points, weights).reshape(-1, *[1] * len(self.event_shape))
        mean = (shares * points).sum(0, keepdim=True)
        for _ in range(_STEPS):
            step = (shares * self.log(mean.expand_as(points), points)).sum(0, keepdim=True)
            mean = self.exp(mean, step)
            if float(step.norm()) <= 10 * self.config.tolerance * (1 + float(points.abs().max())):
                return mean[0]
        raise DataError(f"no barycentre was found in {_STEPS} steps", hint="take points nearer to one another")

    @torch.no_grad()
    def diagnose(self, points: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        """How far directions of the code differ in length: the median over points of the metric's condition, and a
        warning where some direction changes next to nothing."""
        values = torch.linalg.eigvalsh(self.metric(points[:64]).double()).clamp_min(0)
        share = values[:, 0] / values[:, -1].clamp_min(1e-300)
        flat = int((share < _FLAT).sum())
        numbers = {"smallest_over_largest_stretch": float(share.sqrt().median())}
        text = f"at {flat} of {len(share)} points some direction of the code changes nothing: the metric is singular"
        return numbers, [text] if flat else []

    def typical_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """n codes (n, *E) as training left them: of the model's own distribution, N(0, I) for a function."""
        model = self.map.model
        if isinstance(model, Flow):
            like = next(model.parameters(), torch.zeros(()))
            return model.base.sample((n, *self.event_shape), generator=generator, like=like)
        if model is None:
            return torch.randn(n, *self.event_shape, generator=generator)
        codes: Tensor = model.draw_codes(n, generator=generator)
        return codes

    def solve(self, x: Tensor, y: Tensor) -> list[Solved]:
        """The geodesic of each pair of codes (B, *E), with the reason where there is none."""
        x, y = self._rows(x=x, y=y)
        if len(x) == 0:
            return []
        derivatives, config = self._derivatives(x), self.config
        pairs = zip(x.double().flatten(1), y.double().flatten(1), strict=True)
        return [
            geodesic_between(derivatives, start, end, tolerance=config.tolerance, nodes=config.nodes)
            for start, end in reported(pairs, len(x), "geodesics")
        ]

    def _along(self, x: Tensor, y: Tensor, times: np.ndarray, *, velocities: bool = False) -> Tensor:
        """Codes, or velocities, at times of the geodesics between x and y (B, *E): (B, T, *E)."""
        solved = self.solve(x, y)
        lost = [found.why for found in solved if found.why]
        if lost:
            raise DataError(
                f"{len(lost)} of {len(solved)} geodesics were not found, and have no distance: {lost[0]}",
                hint="take codes nearer to one another, a smooth decoder (activation: silu), more nodes, or a higher "
                "tolerance",
            )
        size = x[:1].numel()
        part = slice(size, 2 * size) if velocities else slice(0, size)
        rows = [torch.from_numpy(found.path(times)[:, part]).to(x) for found in solved]
        paths = torch.stack(rows) if rows else x.new_empty(0, len(times), size)
        return paths.reshape(len(x), len(times), *self.event_shape)

    def _derivatives(self, x: Tensor) -> Derivatives:
        self.map.check_certain(x[:1].double().flatten(1))
        return Derivatives(self.map.flat)

    def _rows(self, **given: Tensor) -> list[Tensor]:
        """Batches of one length, a batch of 1 repeated. Raises ``ShapeError`` for others, ``DataError`` for NaN."""
        return equal_batches(self, "decoder", "the codes of this decoder are", self.event_shape, given)


class _Decoder(nn.Module):
    """A decoder as a function of codes (B, *E) alone, in float64 whatever the model's dtype is."""

    target: Callable[[Tensor], Any]

    def __init__(self, model: Any, config: DecoderGeometryConfig) -> None:
        super().__init__()
        self.model: Any = model
        self.options = dict(config.decoding)
        if config.target is not None:
            try:
                self.target = job_function(config.target)
            except PluginError as error:
                raise ConfigError(
                    f"target is {config.target!r}, and there is no such function: {error.__cause__}",
                    hint="write module:function, and put the module's folder on Python's path (PYTHONPATH)",
                ) from error
        self.shape = (config.dimension or 0,) if model is None else _code_shape(model)

    def forward(self, z: Tensor) -> Tensor:
        if self.model is None:
            return torch.as_tensor(self.target(z))
        if isinstance(self.model, Flow):
            return self.model.inverse(z)[0]
        given = {"generator": torch.Generator(z.device).manual_seed(0), **self._noise(z), **self.options}
        found: Tensor = self.model.decode(z, **given)
        return found

    def _noise(self, z: Tensor) -> dict[str, Tensor]:
        """The one draw that a score model starts from, whatever the code."""
        if not isinstance(self.model, ScoreModel):
            return {}
        generator, shape = torch.Generator(z.device).manual_seed(0), (1, *self.model.event_shape)
        return {"noise": self.model.process.sample_prior(shape, generator=generator, like=z)}

    def events(self, z: Tensor) -> Tensor:
        """Codes (B, *E) in float64 to events (B, *F)."""
        tensors = dict((*self.named_parameters(), *self.named_buffers()))
        double = {name: value.detach().double() for name, value in tensors.items() if value.is_floating_point()}
        with torch.no_grad():
            found: Tensor = torch.func.functional_call(self, double, (z,))
        return found

    def flat(self, z: Tensor) -> Tensor:
        """Flattened codes (B, k) to flattened events (B, D). Raises ``ShapeError`` for another number of rows."""
        found = self.events(z.unflatten(1, self.shape))
        if len(found) != len(z):
            raise ShapeError(f"the decoder gave {len(found)} events for {len(z)} codes; expected as many")
        return found.flatten(1)

    def check_certain(self, z: Tensor) -> None:
        """Raises ``ConfigError`` for a decoder that gives two events for one code (1, k)."""
        first, second = self.flat(z.repeat(2, 1))
        if not torch.allclose(first, second, rtol=1e-9, atol=1e-12):
            raise ConfigError(
                "the decoder draws: one code gives two events, and has no place among them",
                hint="decoding: {noise_scale: 0} for autoencoder:vae, {sampler: heun} for a score",
            )


def _code_shape(model: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = model.event_shape if isinstance(model, Flow) else model.latent_shape
    return tuple(shape)
