"""The parts of a score given a code over time, how well the encoder knows its code there, and what it bounds.

The objective asks an encoder of Gaussian data for reverse water-filling. A direction of variance lam whose code leaves
the variance kappa costs ln(lam / kappa) / 2 nats, and a data term that falls with kappa. The best kappa, where it is
below lam, is the same for all directions. The sigma2 weighting has a largest beta: from there on no direction is worth
its code, however wide it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.diffusion import DiffusionProcess, Isotropic, time_grid
from scorefold.errors import ConfigError
from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, tidy
from scorefold.random import draw_normal
from scorefold_scorevae.decoder_geometry import _WIDTH
from scorefold_scorevae.scorevae.encoder import level_times, log_snr_range, normal_kl
from scorefold_toolkit.captions import captioned
from scorefold_toolkit.figures import as_images, labelled_grid, training

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_NODES = 4000
_RESIDUALS = torch.logspace(-6, 6, 1201, dtype=torch.float64)


def marginal_gain(process: DiffusionProcess, residual: Tensor) -> Tensor:
    """f(kappa) = E_t [a^2 s^2 kappa / (a^2 kappa + s^2)^2] over uniform times, for residual variances kappa (n,): (n,).

    It is twice kappa times the slope of the data term in kappa, which the code's price balances where f = beta. a and s
    are the signal and the scale of a process with one noise level, kappa is in units of the events squared.
    """
    times = time_grid(process, _NODES, "log-snr")
    signal, scale = (value.flatten() for value in process.coefficients(times[:, None], times))
    ratio = (signal**2 * residual.double()[:, None]) / scale**2
    values = ratio / (1 + ratio) ** 2
    integral: Tensor = torch.trapezoid(values.flip(1), times.flip(0)) / (process.t_max - process.t_min)
    return integral


def collapse_weight(process: DiffusionProcess) -> float | None:
    """The beta from which on the best code of any Gaussian data says nothing, for the sigma2 weighting.

    None for a process whose components have noise levels of their own.
    """
    if not isinstance(process, Isotropic):
        return None
    return float(marginal_gain(process, _RESIDUALS).max())


def best_residual(process: DiffusionProcess, beta: float) -> float | None:
    """kappa, the variance that the best code leaves of every coded direction: the smaller root of f(kappa) = beta.

    None where no code is worth its price, beta at or above ``collapse_weight``. Bisection, to 1e-6 of the value.
    """
    gains = marginal_gain(process, _RESIDUALS)
    top = int(gains.argmax())
    if beta >= float(gains[top]):
        return None
    low, high = -12.0, float(_RESIDUALS[top].log10())
    for _ in range(40):
        middle = (low + high) / 2
        above = float(marginal_gain(process, torch.tensor([10**middle]))[0]) > beta
        low, high = (low, middle) if above else (middle, high)
    return float(10 ** ((low + high) / 2))


_TIMES = 9
_LEVEL = 0.9
_QUANTILE = 1.6448536269514722  # of the standard normal, at (1 + _LEVEL) / 2
_TOO_FAR = 0.1
_SILENT = 0.05  # nats


@dataclass(frozen=True)
class OverTime:
    """At ``times`` (T,): the root-mean-square ``sizes`` (T,) of each part of eps-hat by name; the data term's integrand
    ``data`` (T,), 1/2 ||eps-hat - eps||^2; and ``coverage`` (T,), how often the code lies in the central 90 % interval
    of q(z | x_t, t), unit by unit."""

    times: Tensor
    sizes: Mapping[str, Tensor]
    data: Tensor
    coverage: Tensor


@torch.no_grad()
def over_time(model: Any, x0: Tensor, generator: torch.Generator | None, count: int = _TIMES) -> OverTime:
    """Events x0 (N, *E) noised at ``count`` times evenly spread in the log-SNR, each with one draw of its code."""
    mean, std = model.encode_distribution(x0)
    z = mean + std * draw_normal(tuple(mean.shape), generator=generator, like=mean)
    # A grid takes a step at least between two ends of components: there may be more ends than times asked for.
    grid = time_grid(model.process, max(count - 1, len(model.process.breakpoints) + 1), "log-snr").flip(0).to(x0)
    times = grid[torch.linspace(0, len(grid) - 1, count).round().long()]
    rows: list[dict[str, Tensor]] = []
    covered, data = [], []
    for time in times:
        t = time.expand(len(x0))
        noise = draw_normal(tuple(x0.shape), generator=generator, like=x0)
        x = model.process.perturb(x0, t, noise)
        parts = model.parts(x, t, z)
        rows.append({name: part.square().mean().sqrt() for name, part in parts.items()})
        data.append((sum(parts.values()) - noise).flatten(1).square().sum(1).mean() / 2)
        there, log_variance = model.posterior(x, t)
        covered.append(((z - there).abs() <= _QUANTILE * (log_variance / 2).exp()).to(x).mean())
    sizes = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return OverTime(times, sizes, torch.stack(data), torch.stack(covered))


@torch.no_grad()
def evidence_bound(model: Any, x: Tensor, generator: torch.Generator | None, draws: int) -> Tensor:
    """A lower bound of ln p(x) in nats for x (B, *E): (B,), the mean over ``draws`` of code, time and noise.

    E ln p(x | z) - KL(q(z | x) || N(0, I)), with ln p(x | z) bounded by the diffusion's own evidence bound (Kingma et
    al. 2021): minus the data term with the likelihood weighting, minus the divergence of x at t_max from the prior,
    plus the log-density of x by N(x_t / signal, (scale / signal)^2) at t_min. Raises ``ConfigError`` for fewer than
    one draw, and for processes whose components have noise levels of their own.
    """
    if draws < 1:
        raise ConfigError(f"{draws} draws were asked for; expected at least 1")
    if not isinstance(model.process, Isotropic):
        raise ConfigError(
            f"the evidence bound needs one noise level for all components; {type(model.process).__name__} has several"
        )
    if len(x) == 0:
        return x.new_zeros(0)
    process: Any = model.process
    size = x[:1].numel()
    mean, std = model.encode_distribution(x)
    kl = normal_kl(mean, 2 * std.log()).sum(1)
    ends = x.new_tensor([process.t_min, process.t_max])
    (first, last_signal), (start, last_scale) = (
        value.flatten().tolist() for value in process.coefficients(x[:1].expand(2, *x.shape[1:]), ends)
    )
    likelihood = -size / 2 * (math.log(2 * math.pi) + 2 * math.log(start / first) + 1)
    entropy = size / 2 * (math.log(2 * math.pi) + 2 * math.log(last_scale) + 1)
    # Every event's times are spread evenly over its draws.
    repeated = x.repeat(draws, *[1] * (x.dim() - 1))
    mean, std = mean.repeat(draws, 1), std.repeat(draws, 1)
    z = mean + std * draw_normal(tuple(mean.shape), generator=generator, like=mean)
    t = level_times(process, repeated, generator)
    noise, far = (draw_normal(tuple(repeated.shape), generator=generator, like=x) for _ in range(2))
    error = model.noise(process.perturb(repeated, t, noise), t, z) - noise
    data = log_snr_range(process) * error.flatten(1).square().sum(1) / 2
    end = process.prior_log_prob(last_signal * repeated + last_scale * far)
    bound: Tensor = (end - data).unflatten(0, (draws, len(x))).mean(0) + entropy + likelihood - kl
    return bound


def diagnose(
    model: Any, x: Tensor, generator: torch.Generator
) -> tuple[dict[str, float], list[str], dict[str, Tensor]]:
    """Numbers, warnings and arrays over time for events x (N, *E): what ``diagnose_codes`` gives."""
    seen = over_time(model, x, generator)
    warnings = []
    numbers = {f"coverage at t = {t:.3g}": float(c) for t, c in zip(seen.times.tolist(), seen.coverage, strict=True)}
    if isinstance(model.process, Isotropic) and len(x):
        bound = float(evidence_bound(model, x, generator, 4).mean())
        if math.isfinite(bound):
            numbers["evidence lower bound (nats)"] = bound
            numbers["evidence lower bound (bits a dimension)"] = -bound / (x[0].numel() * math.log(2))
        else:
            warnings.append(
                "the evidence lower bound is not finite: the encoder's variances have left the range of numbers"
            )
    worst = int((seen.coverage - _LEVEL).abs().argmax())
    if abs(float(seen.coverage[worst]) - _LEVEL) > _TOO_FAR:
        warnings.append(
            f"at t = {float(seen.times[worst]):.3g} the encoder's 90 % intervals hold {seen.coverage[worst]:.0%} of "
            "the codes: q(z | x_t, t) is not the distribution of the code there; train for longer, or repair the "
            "score by score:scorevae-plus"
        )
    arrays = {"times": seen.times, "coverage": seen.coverage, "data term": seen.data}
    arrays |= {f"size of the {name}": size for name, size in seen.sizes.items()}
    return numbers, warnings, arrays


@torch.no_grad()
def silent_code_warnings(model: Any, x: Tensor, beta: float, weighting: str) -> Sequence[str]:
    """Warnings about a trained encoder by events x (N, *E): a code that says nothing, and why."""
    if not len(x):
        return ()
    mean, std = model.encode_distribution(x)
    kl = float(normal_kl(mean, 2 * std.log()).sum(1).mean())
    if kl > _SILENT:
        return ()
    limit = {"sigma2": collapse_weight(model.process), "likelihood": 1.0}.get(weighting)
    said = f"the code says nothing of its event: its KL divergence is {kl:.2g} nats"
    if limit is not None and beta >= limit:
        return (
            f"{said}. beta is {beta:g}, and from {limit:.3g} on the best code of any Gaussian data is none: set beta "
            "below that",
        )
    return (f"{said}; set a smaller beta, let it rise for longer (beta_warmup), or train with another seed",)


_COLOURS = {"prior": SOFT, "encoder": ACCENT, "corrector": WARM}
_SHOWN = 9
_UNITS = 4


@captioned(
    {
        "score-over-time": (
            "Above: the parts of the expected noise over time. Below: how often the encoder's interval contains "
            "the code, 90% if it is right."
        ),
        "reconstructions": (
            "Events, draws for their codes, the mean of eight draws, and what code and noise together give back."
        ),
        "traversals": "Each row changes one unit of the code and keeps the others.",
    }
)
@torch.no_grad()
def scorevae_figures(drawn: Any) -> Mapping[str, Figure]:
    """The losses of a ``Fitted`` auto-encoder, its score over time and, of images, reconstructions and traversals."""
    found = dict(training(drawn))
    model = getattr(drawn, "model", None)
    if model is None or not len(drawn.events):
        return found
    generator = torch.Generator(drawn.events.device).manual_seed(0)
    events = drawn.events
    if hasattr(model, "parts"):
        found["score-over-time"] = score_parts_figure(over_time(model, events, generator, 17))
    if as_images(events[:1]) is not None:
        found["reconstructions"] = reconstruction_figure(model, events[:_SHOWN], generator)
        found["traversals"] = traversal_figure(model, events, generator)
    return found


def score_parts_figure(seen: OverTime) -> Figure:
    """Above, the size of each part of the expected noise over time; below, how often the encoder's interval holds the
    code."""
    figure = empty_figure(6.4, 5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    times = seen.times.cpu().numpy()
    for name, size in seen.sizes.items():
        above.plot(times, size.cpu().numpy(), color=_COLOURS.get(name, INK), label=name, linewidth=1.8)
    above.set(ylabel="root mean square of the noise", title="What the expected noise given the code is made of")
    above.legend(frameon=False, fontsize=9)
    below.axhline(0.9, color=INK, linestyle=":", linewidth=0.8)
    below.plot(times, seen.coverage.cpu().numpy(), color=ACCENT, marker="o", markersize=3)
    below.set(ylim=(0, 1.02), xlabel="t (data to noise)", ylabel="codes in their\n90 % interval")
    for axes in (above, below):
        tidy(axes)
    return figure


@torch.no_grad()
def reconstruction_figure(model: Any, events: Tensor, generator: torch.Generator) -> Figure:
    """Rows of images: originals, a draw given the code, the mean of eight draws, and from code and noise together."""
    z = model.encode(events)
    draws = torch.stack([model.decode(z, generator=generator) for _ in range(8)])
    back = model.decode(z, noise=model.encode_noise(events, z, sampler="heun"), sampler="heun")
    names = ["original", "one draw", "mean of 8", "code and noise"]
    return _grid(torch.stack([events, draws[0], draws.mean(0), back]), names, model)


@torch.no_grad()
def traversal_figure(model: Any, events: Tensor, generator: torch.Generator) -> Figure:
    """A row for each of the most informative units, which alone changes along it, from the first image's noise."""
    mean, std = model.encode_distribution(events)
    kl = normal_kl(mean, 2 * std.clamp_min(1e-6).log()).mean(0)
    units = kl.argsort(descending=True)[:_UNITS]
    steps = torch.linspace(-_WIDTH, _WIDTH, _SHOWN, dtype=mean.dtype, device=mean.device)
    z = mean[:1].repeat(len(units) * _SHOWN, 1)
    for row, unit in enumerate(units):
        z[row * _SHOWN : (row + 1) * _SHOWN, unit] = mean[:, unit].mean() + steps * mean[:, unit].std()
    rows = model.decode(z, noise=model.encode_noise(events[:1], mean[:1], sampler="heun"), sampler="heun")
    return _grid(rows.unflatten(0, (-1, _SHOWN)), [f"unit {unit}" for unit in units.tolist()], model)


def _grid(rows: Tensor, names: list[str], model: Any) -> Figure:
    """Rows of images (R, n, *E) with their names."""
    images = as_images(rows.flatten(0, 1))
    assert images is not None
    bounds = (model.event_scale.low, model.event_scale.high)
    return labelled_grid(images.cpu().unflatten(0, rows.shape[:2]), names, [], "", bounds)
