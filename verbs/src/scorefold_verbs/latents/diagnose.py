"""The verb ``latents``: what the code of a component holds of data, unit by unit and on the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource
from scorefold.stage import Outcome, StageContext
from scorefold_toolkit.drawing import device_of
from scorefold_verbs.config import LatentsOptions
from scorefold_verbs.inputs import Inputs, points_of
from scorefold_verbs.latents.codes import LARGEST, CodeDistributions, code_distributions, encoder_of

_ACTIVE = 0.01
_FAR = 0.1
_ASKED = 512  # how many points the component itself is asked about


@dataclass(frozen=True)
class LatentsShown:
    """Content of the figures: the distributions of the codes of points, their KL divergence of each unit (k,) where
    there is one, which units are active (k,), and the variances of the aggregate posterior (k,), widest first, where
    they were computed.
    """

    distributions: CodeDistributions
    kl: Tensor | None
    active: Tensor
    spectrum: Tensor | None


@torch.no_grad()
def latents(component: Any, inputs: Inputs, options: LatentsOptions, context: StageContext) -> Outcome:
    """Diagnosis of the codes of held-out points.

    KL divergences are of q(z|x) from N(0, I), in nats, the mean over points: in the sum, and of each unit. A unit is
    active where the variance of its mean over points, and its divergence, are both above 0.01 (Burda, Grosse and
    Salakhutdinov 2016). The aggregate posterior, the distribution of the codes of all points, is held to N(0, I) by the
    divergence of the normal distribution with its moments; what is left of the total is no less than the information
    that a code has of its point. A code without a distribution, which is a function of its point, has no finite
    divergence: its variances are reported instead. The component may have more to say: see ``Encodes.diagnose_codes``.

    Raises ``ConfigError`` for a component without a latent space, ``DataError`` for fewer than two points.
    """
    encoder = encoder_of(component, "show latents")
    source: DataSource = inputs["data"]
    dataset = points_of(source, options.limit, context)
    distributions = code_distributions(encoder, dataset, options.batch_size, context)
    units = distributions.mean.shape[1]
    spread = distributions.spread()
    distribution = distributions.aggregate() if units <= LARGEST else None
    metrics: dict[str, Any] = {"points": len(dataset), "latent dimension": units}
    result: dict[str, Any] = {"metrics": metrics}
    arrays: dict[str, Tensor] = {"variance of the means": spread}
    warnings: list[str] = []
    kl: Tensor | None = None
    if distributions.deterministic:
        active = spread > 0
        result["note"] = _note(distributions)
        metrics["units that vary"] = int(active.sum())
        if not bool(active.any()):
            warnings.append("the code is equal for all points: it contains no information about them")
    else:
        kl = distributions.kl().mean(0)
        active = (spread > _ACTIVE) & (kl > _ACTIVE)
        total = float(kl.sum())
        metrics |= {
            "KL divergence (nats)": total,
            "active units": int(active.sum()),
            "largest KL divergence of a unit (nats)": float(kl.max()),
            "least KL divergence of a unit (nats)": float(kl.min()),
        }
        arrays["KL divergence"] = kl
        warnings += _collapsed(int(active.sum()), units, total)
    spectrum = None
    if distribution is not None:
        spectrum = torch.linalg.eigvalsh(distribution.covariance).flip(0).clamp_min(0)
        arrays |= {
            "aggregate mean": distribution.mean,
            "aggregate covariance": distribution.covariance,
            "aggregate spectrum": spectrum,
        }
        if float(spectrum.sum()) > 0:
            metrics["effective dimension"] = float(spectrum.sum().square() / spectrum.square().sum())
        apart = distribution.kl()
        if kl is not None and math.isfinite(apart):
            metrics["KL divergence of the aggregate posterior (nats)"] = apart
            metrics["information in the code, at most (nats)"] = float(kl.sum()) - apart
            if apart > _FAR * units:
                warnings.append(
                    f"the codes of the data do not follow N(0, I): a normal distribution with their moments is "
                    f"{apart:.3g} nats away ({apart / units:.2g} per unit); generate with codes: gaussian or mixture"
                )
    numbers, further, more = encoder.diagnose_codes(
        dataset.tensor(_ASKED), context.generator("diagnose", device=device_of(component))
    )
    if numbers:
        result["diagnostics"] = dict(numbers)
    if warnings or further:
        result["warnings"] = [*warnings, *further]
    arrays |= {name: array.detach().cpu() for name, array in more.items()}
    return Outcome(dict(metrics), result, arrays, shown=LatentsShown(distributions, kl, active, spectrum))


def _note(distributions: CodeDistributions) -> str:
    """Reason why there is no divergence."""
    fixed = int((distributions.std <= 0).any(0).sum())
    units = distributions.mean.shape[1]
    which = "the code is" if fixed == units else f"{fixed} of the {units} units are"
    return f"{which} a function of the event, drawn from no distribution, so there is no KL divergence from N(0, I)"


def _collapsed(active: int, units: int, total: float) -> list[str]:
    if active:
        return []
    return [
        f"the code has collapsed: none of its {units} units is active, and its KL divergence is {total:.2g} nats. It "
        "holds nothing of its event, and decodes to unconditional draws; train with a smaller weight "
        "on the divergence, or let that weight rise from 0"
    ]
