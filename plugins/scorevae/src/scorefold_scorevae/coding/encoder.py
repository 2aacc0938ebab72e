"""The time-dependent Gaussian encoder q(z | x_t, t), where it starts, and the gradient of its log-density in x_t."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from scorefold.data import EventScale
from scorefold.diffusion import DiffusionProcess
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel, as_network
from scorefold_toolkit.rotated import Rotated

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
