"""What the claims of trained models measure: 1 for the exact score and the field itself, and not for what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold_nonuniform.bands.coefficients import build_bands
from scorefold_nonuniform.bands.speeds import banded_process
from scorefold_nonuniform.claims import learned as claims_learned
from scorefold_nonuniform.config import GaussianFieldConfig, MultiScaleConfig
from scorefold_nonuniform.gaussian_field import GaussianField, gaussian_score

F64 = torch.float64
FIELD = GaussianField(GaussianFieldConfig(size=8, points=300, seed=0))
BANDS = build_bands(MultiScaleConfig().bands, FIELD.event_shape).double()
PROCESS = banded_process(MultiScaleConfig(), BANDS, deviation=1.0).double()


class Exact:
    """A trained multi-scale model of the field, but for what ``spoil`` does to its score and ``mix`` to its samples."""

    def __init__(self, spoil: float = 1.0, mix: Callable[[Tensor], Tensor] = lambda z: z) -> None:
        self.bands, self.coefficients = BANDS, PROCESS.inner
        self.spoil, self.mix = spoil, mix

    def float(self) -> None:
        """Stays as it is."""

    def cpu(self) -> None:
        """Stays where it is."""

    def to(self, device: torch.device) -> None:
        """Stays where it is."""

    def parameters(self) -> Iterator[Tensor]:
        """One number, which says where it is."""
        return iter([torch.zeros(1)])

    def coefficient_score(self, z: Tensor, t: Tensor) -> Tensor:
        z, t = z.double(), t.double()
        scale = sum(bool(t[-2] > end) for end in self.coefficients.breakpoints)
        return self.spoil * gaussian_score(FIELD.distribution(), BANDS, self.coefficients, scale)(z, t)

    def sample(self, n: int, *, generator: torch.Generator, **options: Any) -> Tensor:
        distribution = FIELD.distribution()
        x = (
            distribution.mean
            + torch.randn(n, 64, generator=generator, dtype=F64)
            @ (distribution.basis * distribution.variances.sqrt()).mT
        )
        return self.bands.transform.inverse(self.mix(self.bands.transform(x.reshape(n, 1, 8, 8))))


def measured(monkeypatch: pytest.MonkeyPatch, model: Exact) -> dict[str, list[float]]:
    found = claims_learned.TrainedScore(model, FIELD, 0.0)
    monkeypatch.setattr(claims_learned, "field_model", lambda *_: found)
    claims: Any = claims_learned
    return {
        "loss": [claims.field_loss(None, "quick", 0, scale) for scale in (1, 2, 3)],
        "variance": [claims.field_variance(None, "quick", 0, band) for band in (1, 2, 3)],
        "correlation": [claims.field_correlation(None, "quick", 0)],
    }


def test_the_exact_model_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(monkeypatch, Exact())
    assert found["loss"] == pytest.approx([1, 1, 1], abs=1e-3)
    assert found["variance"] == pytest.approx([1, 1, 1], abs=0.05)
    assert found["correlation"] == pytest.approx([1], abs=0.05)


def test_what_is_wrong_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def shuffled(z: Tensor) -> Tensor:
        """The finest band of another event, at twice its size."""
        return torch.where(BANDS.index == 0, 2 * z.roll(1, 0), z)

    found = measured(monkeypatch, Exact(spoil=0.5, mix=shuffled))
    assert min(found["loss"]) > 1.05
    assert found["variance"] == pytest.approx([4, 1, 1], rel=0.05)
    assert found["correlation"] == pytest.approx([0], abs=0.05)
