"""deepinv's physics as operators, and scores as its denoisers; skipped where deepinv is not installed."""

from __future__ import annotations

import builtins
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from scorefold.data import Condition, EventScale, TensorSpec
from scorefold.diffusion import VE, VP, PerComponent
from scorefold.diffusion.schedules import LinearVP
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel
from scorefold_toolkit.config.operators import OperatorConfig
from scorefold_toolkit.deepinv import as_denoiser
from scorefold_toolkit.operators import LinearOperator, Mask, build_operator


def operator(physics: str, shape: tuple[int, ...] = (1, 8, 8), seed: int = 0, **options: Any) -> LinearOperator:
    given = {"name": "deepinv", "physics": physics, "options": options, "seed": seed}
    found = build_operator(TypeAdapter(OperatorConfig).validate_python(given), shape)
    assert isinstance(found, LinearOperator)
    return found


class Uniform(ScoreModel):
    """The exact score of N(1, 4) in each coordinate, of events between -3 and 5."""

    def __init__(self, process: Any, **given: Any) -> None:
        super().__init__(process, (1, 2, 2), event_scale=EventScale(mean=1.0, std=2.0, low=-3.0, high=5.0), **given)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        signal, scale = self.process.coefficients(x, t)
        return -(x - signal) / (4 * signal**2 + scale**2)


def without_deepinv(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *given: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "deepinv":
            raise ImportError("No module named 'deepinv'")
        return imported(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)


def check_that_it_is_a_wiener_filter(process: Any) -> None:
    """With x in [0, 1] data are N(1/2, 1/16), and the denoiser is Wiener's filter."""
    denoiser = as_denoiser(Uniform(process).double())
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    for sigma in (0.1, torch.tensor([0.05, 0.2, 1.0], dtype=torch.float64)):
        level = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1, 1, 1)
        exact = 0.5 + (x - 0.5) * 0.0625 / (0.0625 + level**2)
        torch.testing.assert_close(denoiser(x, sigma), exact, rtol=1e-6, atol=1e-6)


def test_a_score_denoises_in_these_units_without_deepinv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deepinv", "deepinv.models", "deepinv.models.base"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(Denoiser=nn.Module))  # type: ignore[arg-type]
    check_that_it_is_a_wiener_filter(VE(0.01, 50.0))


def test_both_say_what_installs_deepinv(monkeypatch: pytest.MonkeyPatch) -> None:
    without_deepinv(monkeypatch)
    for call in (lambda: operator("Blur"), lambda: as_denoiser(Uniform(VP()))):
        with pytest.raises(ConfigError, match="deepinv") as caught:
            call()
        assert "pip install 'scorefold-toolkit[deepinv]'" in str(caught.value)


@pytest.mark.needs("deepinv")
class TestWithDeepinv:
    def test_inpainting_is_our_mask(self) -> None:
        hidden = operator("Inpainting", mask=0.5, seed=3)
        x = torch.randn(2, 1, 8, 8)
        keep = hidden(torch.ones(1, 1, 8, 8))[0, 0]
        assert 0 < float(keep.sum()) < 64
        ours = Mask(keep, (1, 8, 8))
        for name in ("__call__", "adjoint", "pseudo_inverse"):
            torch.testing.assert_close(getattr(hidden, name)(x), getattr(ours, name)(x))
        assert torch.equal(operator("Inpainting", mask=0.5, seed=3)(x), hidden(x))
        assert not torch.equal(operator("Inpainting", mask=0.5, seed=4)(x), hidden(x))

    @pytest.mark.parametrize(
        ("physics", "shape", "options"),
        [
            ("Blur", (1, 8, 8), {"filter": torch.ones(1, 1, 3, 3) / 9}),
            ("Downsampling", (1, 8, 8), {"filter": "bicubic", "factor": 2}),
            ("Decolorize", (3, 8, 8), {}),
            ("CompressedSensing", (1, 8, 8), {"m": 10}),
            ("Tomography", (1, 8, 8), {"angles": 6, "normalize": False}),
        ],
    )
    def test_adjoints_and_pseudo_inverses(self, physics: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
        found = operator(physics, shape, **options)
        x = torch.randn(2, *shape, dtype=torch.float64)
        y = found(x)
        v = torch.randn_like(y)
        assert y.dtype == torch.float64
        torch.testing.assert_close((y * v).sum(), (x * found.adjoint(v)).sum(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found(found.pseudo_inverse(y)), y, rtol=1e-3, atol=1e-3)
        assert found(x.float()).dtype == torch.float32

    @pytest.mark.parametrize(
        ("physics", "options", "words"),
        [
            ("Impainting", {}, "did you mean Inpainting"),
            ("Inpainting", {"msk": 1}, "Inpainting does not take"),
            ("MRI", {}, r"MRI does not take events of shape \(1, 8, 8\)"),
            ("Tomography", {}, "its options are angles"),
        ],
    )
    def test_wrong_physics_are_named(self, physics: str, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            operator(physics, **options)

    @pytest.mark.parametrize("process", [VP(), VE(0.01, 50.0)])
    def test_a_score_denoises_in_the_units_of_deepinv(self, process: Any) -> None:
        check_that_it_is_a_wiener_filter(process)

    def test_deepinv_solves_an_inverse_problem_with_our_score(self) -> None:
        """The prior step of DPS-like samplers: the posterior mean of a Gaussian by proximal steps is Wiener's."""
        import deepinv

        denoiser = as_denoiser(Uniform(VE(0.001, 50.0)))
        physics = deepinv.physics.Inpainting((1, 2, 2), mask=torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]))
        truth = torch.tensor([[[[0.9, 0.2], [0.4, 0.6]]]])
        solver = deepinv.sampling.DDRM(denoiser, sigmas=torch.linspace(1, 0.01, 40).numpy())
        physics.set_noise_model(deepinv.physics.GaussianNoise(0.01))
        found = solver(physics(truth), physics)
        assert found.shape == truth.shape
        kept = torch.tensor([[True, True], [False, True]])
        torch.testing.assert_close(found[0, 0][kept], truth[0, 0][kept], atol=0.1, rtol=0)

    def test_scores_without_one_noise_level_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="takes a condition"):
            as_denoiser(Uniform(VP(), condition_spec=TensorSpec((2,))))
        several = PerComponent((1, 2, 2), LinearVP(torch.full((1, 2, 1), 0.1), torch.full((1, 2, 1), 20.0)))
        with pytest.raises(ConfigError, match="has several at a time"):
            as_denoiser(Uniform(several))
        unbounded = Uniform(VP())
        unbounded.event_scale = EventScale()
        with pytest.raises(ConfigError, match="no bounds"):
            as_denoiser(unbounded)
