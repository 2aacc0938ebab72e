"""The time-dependent Gaussian encoder q(z | x_t, t), and the data term of the evidence lower bound.

The data term compares the score given a code with the score of the added noise (Batzolis, Stanczuk and Schönlieb
2023), in errors of the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from scorefold.data import EventScale, TensorSpec
from scorefold.diffusion import DiffusionProcess, Isotropic
from scorefold.errors import ConfigError, ScorefoldError
from scorefold.interfaces import DataSource, Progress, ScoreModel, as_network
from scorefold.random import draw_normal, draw_uniform
from scorefold_scorevae.config import DiffusedLossConfig
from scorefold_toolkit.checks import check_trained
from scorefold_toolkit.config.common import LogNormalLevels
from scorefold_toolkit.rotated import Rotated
from scorefold_toolkit.score_matching.losses import draw_times, weighted_square
from scorefold_toolkit.score_matching.noise_levels import NoiseLevels


@dataclass(frozen=True)
class Diffused:
    """Events x (B, *E) at times t (B,), the noise (B, *E) that is in them."""

    x: Tensor
    t: Tensor
    noise: Tensor


def diffuse(
    process: DiffusionProcess, x0: Tensor, config: DiffusedLossConfig, generator: torch.Generator | None, spread: float
) -> Diffused:
    """Events x0 (B, *E) at one random time each, as the loss draws them (``config.times``, and for the weighting edm
    ``config.noise_levels`` beside ``spread``, the deviation of a coordinate)."""
    if config.weighting == "edm":
        levels = NoiseLevels(process, config.noise_levels or LogNormalLevels(), spread)
        t = levels.times(len(x0), like=x0, generator=generator)
    elif config.times == "log-snr":
        t = level_times(process, x0, generator)
    else:
        t = draw_times(process, len(x0), like=x0, generator=generator, stratified=True)
    noise = draw_normal(tuple(x0.shape), generator=generator, like=x0)
    return Diffused(process.perturb(x0, t, noise), t, noise)


def data_term(
    process: DiffusionProcess, point: Diffused, expected_noise: Tensor, config: DiffusedLossConfig, spread: float
) -> Tensor:
    """The data term of each event, (B,), from the noise (B, *E) that the model expects in it.

    - ``sigma2``: 1/2 ||eps-hat - eps||^2, summed over the event, its mean over uniform times.
    - ``edm``: the same, each square times 1 + r^2 with r the noise-to-signal ratio over ``spread``, its mean over
      log-normal levels: half the squared error of the event in units of spread^2 at high noise (Karras et al. 2022).
    - ``likelihood``: an unbiased draw of 1/2 int g^2 ||s - s*||^2 dt over [t_min, t_max]. With times uniform in the
      log-SNR lam it is 1/2 (lam_max - lam_min) ||eps-hat - eps||^2, since g^2 / scale^2 = -d lam / dt.
    """
    residual = expected_noise - point.noise
    if config.weighting == "edm":
        mean = weighted_square(process, residual, point.x, point.t, "edm", spread=spread)
        return mean * residual[0].numel() / 2
    square = weighted_square(process, residual, point.x, point.t, "sigma2") / 2
    if config.weighting == "sigma2":
        return square
    if config.times == "log-snr":
        return log_snr_range(process) * square
    length = process.t_max - process.t_min
    return length * weighted_square(process, residual, point.x, point.t, "likelihood")


def level_times(process: DiffusionProcess, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Times (B,) uniform in the log-SNR, spread evenly from one random offset, for events ``like`` (B, *E).

    Raises ``ConfigError`` for a process whose components have levels of their own.
    """
    if not isinstance(process, Isotropic):
        raise ConfigError(
            f"times uniform in the log-SNR need one level for all components; {type(process).__name__} has several",
            hint="times: stratified",
        )
    count = len(like)
    u = draw_uniform((1,), generator=generator, like=like).double()
    u = (u + torch.arange(count, device=like.device, dtype=torch.float64) / max(count, 1)) % 1
    high, low = _log_snr_ends(process)
    return process.time_at((-(low + (high - low) * u) / 2).exp()).clamp(process.t_min, process.t_max).to(like)


def log_snr_range(process: DiffusionProcess) -> float:
    """lam_max - lam_min of a process with one noise level."""
    high, low = _log_snr_ends(process)
    return high - low


def _log_snr_ends(process: DiffusionProcess) -> tuple[float, float]:
    high, low = process.log_snr(torch.tensor([process.t_min, process.t_max], dtype=torch.float64)).tolist()
    return high, low


def warmed_up(share: float, progress: Progress, *, training: bool) -> float:
    """Share of a weight at a step, if it rises from 0 over a share of the training.

    All of it outside training, so that held-out losses can be compared.
    """
    rise = share * progress.total
    return min(1.0, (progress.step + 1) / rise) if training and rise > 0 else 1.0


def normal_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, e^log_variance) || N(0, I)) in nats of each coordinate, with the shape of the mean."""
    kl: Tensor = (mean**2 + log_variance.exp() - 1 - log_variance) / 2
    return kl


_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def leave_saddle(network: nn.Module) -> nn.Module:
    """Gives the layers of a network whose weights are all 0 torch's own random start, and returns the network.

    Layers are linear ones and convolutions. Networks that start as 0 suit what is added to something. As an encoder,
    one gives every event the code N(0, I): the code then says nothing, a decoder learns to ignore it, and an encoder
    whose decoder ignores it gets no gradient.
    """
    for layer in network.modules():
        if isinstance(layer, _LAYERS) and not layer.weight.any():
            layer.reset_parameters()
    return network


Posterior = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x (B, *E), t (B,)) -> mean and log-variance of the code, each (B, k)."""

_REACH = 10.0  # networks take noise levels of order -10 to 10


def built_encoder(network: object, event_shape: tuple[int, ...], latent: int) -> nn.Module:
    """The encoder's module, (B, *E) and a time level (B,) to (B, 2 latent), started off the objective's saddle point.

    Raises ``ConfigError`` for a network that is not built, that normalises over the batch, or gives another shape.
    """
    builder = as_network(network, "the encoder of score:scorevae")
    module = leave_saddle(builder.build(event_shape, (2 * latent,), time=True))
    refuse_batch_norm(module)
    module.eval()
    with torch.no_grad():
        answer = module(torch.zeros(2, *event_shape), torch.zeros(2))
    if tuple(answer.shape) != (2, 2 * latent):
        raise ConfigError(
            f"the encoder answers two events with shape {tuple(answer.shape)}; expected (2, {2 * latent}), mean and "
            "log-variance of the code",
            hint="encoder: {use: network:mlp}",
        )
    return module.train()


def encoded(network: nn.Module, shown: Tensor, level: Tensor, *, recompute: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the code, each (B, k), from what the network is shown.

    Attention runs without fused kernels, which have no second derivative. With ``recompute`` the activations are
    computed again in the backward pass.
    """

    def answered() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # inside, so that it holds where activations are computed again
            output: Tensor = network(shown, level)
        return output

    again = recompute and torch.is_grad_enabled()
    answer = checkpoint(answered, use_reentrant=False) if again else answered()
    mean, log_variance = answer.chunk(2, dim=1)
    return mean, log_variance


def standardised_events(process: DiffusionProcess, scale: EventScale, x: Tensor, t: Tensor) -> Tensor:
    """x_t (B, *E) at t (B,), centred and brought to unit size by the data's mean and deviation, signal and scale.

    Of a process by bands each band is, and the event of these bands is what comes back.
    """
    if isinstance(process, Rotated):
        apart, middle = process.transform(x), process.transform(torch.zeros_like(x[:1]) + scale.middle(x))
        signal, noise = process.inner.coefficients(apart, t)
        return process.transform.inverse((apart - signal * middle) / ((signal * scale.std) ** 2 + noise**2).sqrt())
    signal, noise = process.coefficients(x, t)
    return (x - signal * scale.middle(x)) / ((signal * scale.std) ** 2 + noise**2).sqrt()


def corrector_noise(network: nn.Module, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor, weighting: str) -> Tensor:
    """The noise (B, *E) that a corrector adds to what a model expects at x (B, *E), t (B,) and z (B, k).

    With the weighting ``edm`` what the network sees and what it answers are multiplied by the data's share of the
    deviation of x_t. It then sees the best linear guess of the event, and at high noise answers with a change of the
    event, both in units of its deviation (Karras et al. 2022, eq. 7). The answer is the noise itself otherwise.
    """
    t = t.clamp_min(model.process.t_min)
    shown, level = standardised_events(model.process, model.event_scale, x, t), time_level(model.process, t)
    if weighting != "edm":
        answer: Tensor = network(shown, level, z)
        return answer
    signal, noise = model.process.coefficients(x, t)
    signal = signal * model.event_scale.std
    share = signal / (signal**2 + noise**2).sqrt()
    answer = share * network(share * shown, level, z)
    return answer


def time_level(process: DiffusionProcess, t: Tensor, time: str = "log-snr") -> Tensor:
    """Input of a network for t (B,): log(scale / signal), or with ``linear`` -10 at t_min to 10 at t_max."""
    if time == "linear":
        share = (t - process.t_min) / (process.t_max - process.t_min)
        return _REACH * (2 * share - 1)
    log_snr = process.log_snr(t)
    # A process with a speed a component has a level a component; networks take one.
    return -0.5 * (log_snr if log_snr.dim() == 1 else log_snr.flatten(1).mean(1))


def log_density_slope(mean: Tensor, log_variance: Tensor, z: Tensor, *, logdet: bool) -> tuple[Tensor, Tensor]:
    """The derivatives of ln q(z) = -1/2 sum (z - mean)^2 e^-lv + lv with respect to mean and lv, each (B, k).

    Without ``logdet`` the term -1/2 lv is left out of ln q, as in the authors' code: lv depends on x_t, so that is not
    a density's gradient.
    """
    deviation = (z - mean) * (-log_variance).exp()
    by_log_variance = (z - mean) * deviation / 2
    return deviation, by_log_variance - 0.5 if logdet else by_log_variance


def density_gradient(posterior: Posterior, x: Tensor, t: Tensor, z: Tensor, *, logdet: bool) -> Tensor:
    """grad_x ln q(z | x, t), (B, *E).

    Where gradients are on it can be differentiated by the weights, by z and, where x asks for it, by x.
    """
    wanted = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        x, t, z = (value.clone() if value.is_inference() else value for value in (x, t, z))
        point = x if x.requires_grad else x.detach().requires_grad_()
        code = posterior(point, t)
        mean, log_variance = code
        pairs = zip(code, log_density_slope(mean, log_variance, z, logdet=logdet), strict=True)
        follows = [(value, slope) for value, slope in pairs if value.requires_grad]
        if not follows:
            return torch.zeros_like(x)
        values, slopes = zip(*follows, strict=True)
        (gradient,) = torch.autograd.grad(values, point, slopes, create_graph=wanted, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def refuse_batch_norm(network: nn.Module) -> None:
    """Raises ``ConfigError`` for a network that normalises over the batch: a row's gradient would depend on others."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"the encoder has a {type(module).__name__} ({name}), which mixes the events of a batch: the gradient "
                "of one event's density would depend on the others",
                hint="use GroupNorm or LayerNorm",
            )


_USER = "score:scorevae"
_UNITS = 2.0  # deviations of prior and data that differ by more are no sampling error


def check_encoder_prior(prior: ScoreModel, data: DataSource, prior_class: int | None) -> None:
    """Raises ``ConfigError`` for a prior that can't be called, that is not trained, that is in half precision, or whose
    events are not the data's."""
    check_trained(prior, "prior", _USER)
    _check_precision(prior)
    _check_condition(prior, prior_class)
    check_data(prior, data, "prior")
    process = prior.process.inner if isinstance(prior.process, Rotated) else prior.process
    like = _zero(process, prior.event_shape)
    if not isinstance(process.coefficients(like, like.new_full((1,), process.t_max))[0], Tensor):
        raise ConfigError(
            f"the prior diffuses by a {type(process).__name__}, which couples the components of an event; the "
            "encoder needs one signal and one scale a component, or a band",
            hint="a process of any family can be used, with speeds by component or block too, and one by bands",
        )


def check_data(model: ScoreModel, data: DataSource, name: str) -> None:
    """Raises ``ConfigError`` where data are not in the shape and units of the events of a model called ``name``."""
    if tuple(model.event_shape) != tuple(data.event_shape):
        raise ConfigError(
            f"the {name}'s events have shape {tuple(model.event_shape)}, the data's {tuple(data.event_shape)}",
            hint=f"train both on the same data, or change size, grey or flatten of the data to the {name}'s",
        )
    _check_units(model.event_scale, data.event_scale, name)


def _check_precision(prior: ScoreModel) -> None:
    dtype = prior._reference().dtype
    if dtype in (torch.float16, torch.bfloat16):
        raise ConfigError(
            f"the prior's weights are {dtype}, and the gradient of the encoder's density needs full precision",
            hint="give it prior.float(), and set prior_precision: bf16 to train by it in half precision",
        )


def _zero(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """One event of zeros where a module's numbers are, in their dtype."""
    numbers = (value for value in (*module.parameters(), *module.buffers()) if value.is_floating_point())
    return next(numbers, torch.zeros(())).new_zeros((1, *shape))


def _check_condition(prior: ScoreModel, prior_class: int | None) -> None:
    spec = prior.condition_spec
    named = f"the prior, a {type(prior).__name__},"
    if spec is None:
        if prior_class is not None:
            raise ConfigError(f"prior_class is {prior_class}, and {named} takes no class", hint="prior_class: null")
        return
    classes = spec.classes if isinstance(spec, TensorSpec) and spec.shape == () else None
    if prior_class is not None:
        if classes is None or prior_class >= classes:
            expected = "takes no class" if classes is None else f"knows the classes 0 to {classes - 1}"
            raise ConfigError(f"prior_class is {prior_class}, and {named} {expected}")
        return
    x = _zero(prior, prior.event_shape)
    try:
        with torch.no_grad():
            prior.score(x, x.new_full((1,), prior.process.t_max))
    except ScorefoldError as error:
        raise ConfigError(
            f"{named} takes a condition and can't be called without: {error.message}",
            hint="prior_class: 0 gives it that class"
            if classes is not None
            else "train it on data without a condition, or with condition_dropout above 0",
        ) from error


def _check_units(prior: EventScale, data: EventScale, name: str) -> None:
    """Raises ``ConfigError`` where bounds differ, or where a model without bounds saw data of another size."""
    known = [(bound, getattr(prior, bound), getattr(data, bound)) for bound in ("low", "high")]
    bounded = all(value is not None for _, *pair in known for value in pair)
    if bounded and any(abs(a - b) > 1e-6 for _, a, b in known):
        raise ConfigError(
            f"the {name}'s events lie in [{prior.low:g}, {prior.high:g}], the data in [{data.low:g}, {data.high:g}]",
            hint=f"give the data the {name}'s units: range: [{prior.low:g}, {prior.high:g}] of image sources",
        )
    shift = abs(prior.mean - data.mean)
    ratio = prior.std / data.std if data.std > 0 else float("inf")
    if not bounded and (not 1 / _UNITS <= ratio <= _UNITS or shift > _UNITS * max(prior.std, data.std)):
        raise ConfigError(
            f"the {name} was made for events of mean {prior.mean:.3g} and deviation {prior.std:.3g}; the data have "
            f"mean {data.mean:.3g} and deviation {data.std:.3g}",
            hint=f"bring the data to the units that the {name} was trained in",
        )


def prior_condition(prior_class: int | None, x: Tensor) -> Tensor | None:
    """The class that the prior is given for each event of x, (B,), or None."""
    if prior_class is None:
        return None
    return torch.full((len(x),), prior_class, dtype=torch.long, device=x.device)
