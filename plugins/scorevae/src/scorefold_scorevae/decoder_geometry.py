"""The geometry of codes under any decoder, by lengths of decoded events, and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError, PluginError, ShapeError
from scorefold.interfaces import Encodes, Flow, ScoreModel
from scorefold.plotting import ACCENT, INK, WARM, empty_figure, tidy
from scorefold.stage import job_function
from scorefold_scorevae.config import DecoderGeometryConfig
from scorefold_toolkit.captions import captioned
from scorefold_toolkit.checks import check_module
from scorefold_toolkit.figures import as_images, labelled_grid, legend_below
from scorefold_toolkit.geodesics import Differences, GeodesicMetric, Geodesics, PullbackChord
from scorefold_toolkit.geodesics.geometry import SolvedGeometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_FLAT = 1e-12
_CHUNK = 1024
_SINGULAR = "some direction of the code changes nothing there: the decoder's metric is singular"


class DecoderGeometry(SolvedGeometry):
    """The metric J^T J of a decoder f at codes: a curve z(t) is as long as its image f(z(t)) in the space of events.

    f is the decoder of a model with codes, the inverse of a flow, or a function ``module:function``. What a decoder
    draws is held: a score model's start noise is one draw, the same for all codes. Derivatives of f are differences of
    fourth order in float64. Geodesics are solved and withheld as by any ``SolvedGeometry``.

    Points are codes (B, *latent_shape). Nothing can be differentiated. Raises ``ConfigError`` for a model without a
    decoder, for both or neither of model and function, and for a decoder that gives two events for one code.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> bent = host.create("geometry:decoder", model=host.create("flow:banana"))
    >>> a, b = torch.tensor([[0.0, -3.0]]), torch.tensor([[0.0, 3.0]])  # they decode to (1, -3) and (1, 3)
    >>> bent.distance(a, b).round(decimals=3)
    tensor([6.])
    """

    config: DecoderGeometryConfig
    remedy = "take codes nearer to one another, a smooth decoder (activation: silu), or set more solver.points"
    words = ("decoder", "the codes of this decoder are")

    def __init__(self, config: DecoderGeometryConfig, *, model: Any = None) -> None:
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
        decoder = _Decoder(model, config)
        super().__init__(config, decoder.shape)
        self.map = decoder

    def path_metric(self) -> GeodesicMetric:
        """J^T J, with paths measured by chords of events."""
        return PullbackChord(Differences(self.map.flat))

    def decoded(self, z: Tensor) -> Tensor:
        """The events (B, *F) that codes (B, *E) decode to."""
        (rows,) = self._rows(z=z)
        return self.map.events(rows.unflatten(1, self.event_shape)).to(z)

    def own_diagnosis(self, points: Tensor) -> tuple[dict[str, float], list[str]]:
        """Ratio of lengths of directions of the code: the median over points of the metric's condition, and a warning
        where some direction changes next to nothing.
        """
        share = self._condition(points[:64])
        flat = int((share < _FLAT).sum())
        text = f"at {flat} of {len(share)} points some direction of the code changes nothing: the metric is singular"
        return {"smallest_over_largest_stretch": float(share.sqrt().median())}, [text] if flat else []

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

    def _solve(self, a: Tensor, b: Tensor) -> Geodesics:
        """Pairs with a singular metric at an end are withheld: other paths are as short as theirs."""
        found = super()._solve(a, b)
        flat = (self._condition(torch.cat([a, b])) < _FLAT).reshape(2, -1).any(0)
        reasons = [_SINGULAR if bad else reason for bad, reason in zip(flat, found.reasons, strict=True)]
        return replace(found, reasons=reasons)

    def _condition(self, rows: Tensor) -> Tensor:
        """The least eigenvalue of J^T J over its largest, (R,)."""
        values = torch.linalg.eigvalsh(self.path_metric().matrix(rows)).clamp_min(0)
        share: Tensor = values[:, 0] / values[:, -1].clamp_min(1e-300)
        return share

    def _rows(self, **given: Tensor) -> list[Tensor]:
        rows = super()._rows(**given)
        if len(rows[0]):
            self.map.check_certain(rows[0][:1])
        return rows


class _Decoder(nn.Module):
    """A decoder as a function of codes (B, *E) alone, in float64 whatever the model's dtype is."""

    target: Callable[[Tensor], Any]

    def __init__(self, model: Any, config: DecoderGeometryConfig) -> None:
        super().__init__()
        self.model: Any = model
        self.options = dict(config.decoding)
        if config.target is not None:
            check_module(config.target.partition(":")[0])
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
        like = next(iter(double.values()), z)
        with torch.no_grad():
            found: Tensor = torch.func.functional_call(self, double, (z.to(like.device),))
        return found

    def flat(self, z: Tensor) -> Tensor:
        """Flattened codes (B, k) to flattened events (B, D), on the CPU. Raises ``ShapeError`` for another number of
        rows."""
        parts = []
        for part in z.split(_CHUNK):
            found = self.events(part.unflatten(1, self.shape))
            if len(found) != len(part):
                raise ShapeError(f"the decoder gave {len(found)} events for {len(part)} codes; expected as many")
            parts.append(found.flatten(1).cpu())
        return torch.cat(parts)

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


_GEODESICS, _TIMES, _ROWS, _GRID = 6, 65, 4, 60
_WIDTH = 2.5  # deviations of the codes, to either side


@captioned(
    {
        "geodesics": (
            "Geodesics between codes of the decoder, and straight lines. In dark regions a small step of the code "
            "changes the decoded event much."
        ),
        "decoded": "The events that are decoded along geodesics and along straight lines of codes.",
    }
)
@torch.no_grad()
def decoder_geometry_figures(space: DecoderGeometry) -> Mapping[str, Figure]:
    """Geodesics between codes of the model's own distribution, always the same ones, and straight lines of codes.

    In the plane they lie over the volume sqrt(det G), by its logarithm; of images each geodesic is a row above the
    straight line's. Geodesics that are withheld are left out, and counted in the title.
    """
    codes = space.typical_codes(2 * _GEODESICS, torch.Generator().manual_seed(0))
    start, end = codes.chunk(2)
    solved = space.solve(start, end)
    kept = (~solved.withheld).nonzero()[:, 0]
    lost = len(start) - len(kept)
    title = f"{len(kept)} geodesics between codes" + (f"; {lost} are withheld" if lost else "")
    if len(kept) == 0:
        return {}
    times = torch.linspace(0, 1, _TIMES, dtype=torch.float64)
    size = start[0].numel()
    paths = solved.take(kept).at(times).to(codes)
    lines = start[kept].flatten(1)[:, None].lerp(end[kept].flatten(1)[:, None], times.to(codes)[:, None])
    found = {}
    if size == 2:
        found["geodesics"] = _over_volume(space, paths, lines, title)
    few = torch.stack([paths, lines], 1).flatten(0, 1)[: 2 * _ROWS, :: (_TIMES - 1) // 8]
    images = as_images(space.decoded(few.flatten(0, 1).unflatten(1, space.event_shape)).cpu())
    if images is not None:
        names = ["geodesic", "straight"] * (len(few) // 2)
        grid = images.unflatten(0, few.shape[:2])
        found["decoded"] = labelled_grid(
            grid, names, [], "Between two codes: the geodesic, and the straight line", (None, None)
        )
    return found


def _over_volume(space: DecoderGeometry, paths: Tensor, lines: Tensor, title: str) -> Figure:
    seen = torch.cat([paths, lines]).flatten(0, 1)
    paths, lines = paths.cpu(), lines.cpu()
    low, high = seen.amin(0), seen.amax(0)
    edge = 0.1 * (high - low) + 1e-9
    across, up = (
        torch.linspace(float(a), float(b), _GRID).double() for a, b in zip(low - edge, high + edge, strict=True)
    )
    metric = space.metric(torch.cartesian_prod(across, up).to(seen)).double().cpu()
    volume = torch.linalg.slogdet(metric).logabsdet.div(2 * math.log(10)).reshape(_GRID, _GRID).T
    figure = empty_figure(6.2, 5.0)
    axes = figure.subplots()
    tidy(axes)
    picture = axes.pcolormesh(across.numpy(), up.numpy(), volume.numpy(), cmap="Blues", shading="nearest")
    figure.colorbar(picture, ax=axes, label="log10 of the volume sqrt(det G)")
    for number, (path, line) in enumerate(zip(paths, lines, strict=True)):
        names = ("geodesic", "straight line of codes") if number == 0 else ("_", "_")
        axes.plot(path[:, 0], path[:, 1], color=ACCENT, linewidth=1.6, label=names[0])
        axes.plot(line[:, 0], line[:, 1], color=WARM, linewidth=1, linestyle="--", label=names[1])
        axes.scatter(path[[0, -1], 0], path[[0, -1], 1], s=22, color=INK, zorder=4)
    axes.set(xlabel="unit 0", ylabel="unit 1")
    axes.set_title(title, fontsize=10, color=INK)
    legend_below(axes)
    return figure
