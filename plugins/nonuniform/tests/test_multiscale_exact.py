"""Multi-scale diffusion of Gaussian fields with exact scores: the numbers of section 6.2 and 6.3 of the notes.

Distributions are Gaussian and every step of core's samplers is affine, so what comes out has moments in closed form:
samplers move the basis vectors, and nothing is sampled. Samplers work on events, by ``Rotated``; core's own tests have
the same numbers in coefficients and with a Haar transform of their own.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torchdiffeq import odeint

from scorefold.diffusion import (
    LinearLogSNR,
    PerComponent,
    ddim,
    dpm_solver_pp_2m,
    euler_maruyama,
    heun,
    probability_flow_log_prob,
    samplers,
    time_grid,
)
from scorefold_nonuniform.bands.coefficients import build_bands
from scorefold_nonuniform.bands.speeds import boundary_cost
from scorefold_nonuniform.config import (
    BandsConfig,
    DCTBandsConfig,
    FourierBandsConfig,
    GaussianFieldConfig,
    HaarBandsConfig,
    WaveletBandsConfig,
)
from scorefold_nonuniform.gaussian_field import GaussianField, coefficient_moments, gaussian_score
from scorefold_toolkit.distributions import SubspaceGaussian
from scorefold_toolkit.rotated import CoefficientScore, Rotated

F64 = torch.float64
HAAR = HaarBandsConfig(levels=2)


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(N(0, p) || N(0, q))."""
    solved = torch.linalg.solve(q, p)
    return float(solved.trace() - len(p) - torch.logdet(solved)) / 2


class Setting:
    """A field of n x n pixels, its bands, each with a linear log-SNR on [eps, (i + 1) / n], and exact scores."""

    def __init__(self, size: int, config: BandsConfig = HAAR, *, lam_min: float = -10.0) -> None:
        self.distribution = GaussianField(GaussianFieldConfig(size=size, points=10)).distribution()
        self.bands = build_bands(config, (1, size, size)).double()
        ends = torch.arange(1, len(self.bands) + 1, dtype=F64) / len(self.bands)
        schedule = LinearLogSNR(lam_min=lam_min, t_end=ends)
        self.inner = PerComponent(self.bands.event_shape, schedule, blocks=self.bands.index)
        self.process = Rotated(self.inner, self.bands.transform)
        self.size = size**2
        self.eye = torch.eye(self.size, dtype=F64)
        self.pixels = self.distribution.basis @ self.distribution.variances.diag() @ self.distribution.basis.mT

    def images(self, rows: Tensor) -> Tensor:
        return rows.reshape(-1, *self.bands.event_shape)

    def score(self, scale: int, distribution: SubspaceGaussian | None = None) -> CoefficientScore:
        return CoefficientScore(
            gaussian_score(distribution or self.distribution, self.bands, self.inner, scale), self.bands.transform
        )

    def pieces(self, steps: int, distribution: SubspaceGaussian | None = None) -> list[tuple[CoefficientScore, Tensor]]:
        """The score and the times of each scale, the coarsest first."""
        count = len(self.bands)
        times = time_grid(self.process, count * steps)
        return [(self.score(count - 1 - i, distribution), times[i * steps : (i + 1) * steps + 1]) for i in range(count)]

    def deterministic(
        self, sampler, steps: int, *, keep_history: bool = True, distribution: SubspaceGaussian | None = None
    ) -> Tensor:
        """The covariance of the images that come out, for noise N(0, 1)."""
        x, state = self.images(self.eye), None
        for score, times in self.pieces(steps, distribution):
            x, state = sampler(score, self.process, x, times, state=state if keep_history else None)
        rows = x.flatten(1)
        return rows.T @ rows

    def euler_maruyama(self, steps: int, patch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
        """The covariance of the images, and the one where the noise is dropped at the end of every interval."""
        kept, dropped, zeros = self.eye, self.eye, torch.zeros_like(self.eye)
        noise = self.images(torch.cat([zeros, self.eye]))
        patch.setattr(samplers, "draw_normal", lambda shape, *, generator, like: noise)
        start = self.images(torch.cat([self.eye, zeros]))
        for score, times in self.pieces(steps):
            for k in range(steps):
                step, _ = euler_maruyama(score, self.process, start, times[k : k + 2])
                move, spread = step.flatten(1).split(self.size)
                added = spread.T @ spread
                kept = move.T @ kept @ move + added
                dropped = move.T @ dropped @ move + added * (k < steps - 1)
        return kept, dropped

    def error(self, covariance: Tensor) -> float:
        return float((covariance - self.pixels).norm() / self.pixels.norm())

    def in_bands(self, covariance: Tensor) -> Tensor:
        w = self.bands.transform(self.images(self.eye)).flatten(1).T
        return w @ covariance @ w.T

    def trace_ratios(self, covariance: Tensor) -> list[float]:
        got, true = (self.in_bands(matrix).diagonal() for matrix in (covariance, self.pixels))
        index = self.bands.index.flatten()
        return [float(got[index == band].sum() / true[index == band].sum()) for band in range(len(self.bands))]

    def noised(self, t: float) -> Tensor:
        """The covariance of all coefficients at a time."""
        signal, scale = self.inner.coefficients(self.images(self.eye[:1]), torch.tensor([t], dtype=F64))
        signal, scale = signal.flatten(), scale.flatten()
        covariance = coefficient_moments(self.distribution, self.bands)[1]
        return signal[:, None] * covariance * signal + torch.diag(scale**2)

    def divergence(self, covariance: Tensor) -> float:
        """KL(target || sample) with the target at t_min."""
        return divergence(self.noised(1e-3), self.in_bands(covariance))

    def boundary(self, *, matched: bool = False) -> list[float]:
        """The KL of taking each band for independent of the coarser ones when it ends, and for N(0, 1) or (matched) for
        independent coefficients of their own variances."""
        lost, index = [], self.bands.index.flatten()
        for band in range(len(self.bands)):
            active, last = index >= band, index == band
            true = self.noised((band + 1) / len(self.bands))
            taken = true.clone()
            taken[last], taken[:, last] = 0.0, 0.0
            taken = taken + torch.diag(last.double() * (true.diagonal() if matched else 1.0))
            lost.append(divergence(true[active][:, active], taken[active][:, active]))
        return lost


@pytest.fixture(scope="module")
def field16() -> Setting:
    return Setting(16)


@pytest.fixture(scope="module")
def field8() -> Setting:
    return Setting(8)


def test_the_field_is_that_of_the_notes(field16) -> None:
    """Condition number 1465, mean variances of d1, d2, a2, and 15 % of the norm between d1 and the rest."""
    _, covariance = coefficient_moments(field16.distribution, field16.bands)
    assert float(torch.linalg.cond(covariance)) == pytest.approx(1465, abs=1)
    index = field16.bands.index.flatten()
    means = [float(covariance.diagonal()[index == band].mean()) for band in range(3)]
    assert means == pytest.approx([0.269, 1.320, 8.809], abs=5e-4)
    assert float(covariance[index == 0][:, index > 0].norm() / covariance.norm()) == pytest.approx(0.15, abs=5e-4)
    signal, _ = field16.inner.coefficients(field16.images(field16.eye[:1]), torch.ones(1, dtype=F64))
    # sqrt(sigmoid(-10)); the notes print e^-5, .0067379.
    torch.testing.assert_close(signal, torch.full_like(signal, 0.00673779), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("steps", "error", "error_dropped"), [(16, 0.0817, 0.1560), (64, 0.0222, 0.0421)])
def test_euler_maruyama(field16, steps, error, error_dropped, monkeypatch) -> None:
    """Error of the covariance, to the digits printed; noise dropped at the end of every interval doubles it.

    Core's tests go on to 256 steps.
    """
    kept, dropped = field16.euler_maruyama(steps, monkeypatch)
    assert field16.error(kept) == pytest.approx(error, abs=5e-5)
    assert field16.error(dropped) == pytest.approx(error_dropped, abs=5e-5)
    if steps == 64:
        assert field16.trace_ratios(kept) == pytest.approx([1.035, 1.017, 0.991], abs=6e-4)


@pytest.mark.parametrize(("steps", "error"), [(16, 0.1039), (64, 0.0286), (256, 0.0088)])
def test_ddim(field16, steps, error) -> None:
    covariance = field16.deterministic(ddim, steps)
    assert field16.error(covariance) == pytest.approx(error, abs=5e-5)
    if steps == 64:
        assert field16.trace_ratios(covariance) == pytest.approx([0.937, 0.963, 0.973], abs=6e-4)


def test_scores_must_see_bands_together(field16) -> None:
    """A score that takes bands for independent samples another distribution: its error does not fall with the steps."""
    _, covariance = coefficient_moments(field16.distribution, field16.bands)
    index = field16.bands.index.flatten()
    variances, axes = torch.linalg.eigh(covariance * (index[:, None] == index))
    basis = field16.bands.transform.inverse(field16.images(axes.T)).flatten(1).T
    apart = SubspaceGaussian(torch.zeros_like(variances), basis, variances)
    errors = [field16.error(field16.deterministic(ddim, steps, distribution=apart)) for steps in (16, 64)]
    blocks = float((covariance * (index[:, None] != index)).norm() / covariance.norm())
    assert blocks == pytest.approx(0.355, abs=5e-4)
    assert errors == pytest.approx([blocks, blocks], rel=0.05)  # .1039 and .0286 with the exact score


@pytest.mark.parametrize(
    ("sampler", "steps", "expected"),
    [
        (ddim, 16, 1.39),
        (ddim, 32, 0.330),
        (ddim, 64, 0.0805),
        (ddim, 128, 0.0199),
        (heun, 8, 0.0107),
        (heun, 16, 0.00025),
        (heun, 32, 0.00014),
    ],
)
def test_divergences_of_one_step_samplers(field8, sampler, steps, expected) -> None:
    """KL(target || sample) of the 8 x 8 field (Heun at 8 steps is .01065, printed .0107)."""
    assert field8.divergence(field8.deterministic(sampler, steps)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("steps", "restarted", "kept"),
    [(8, 0.0613, 0.0519), (16, 0.0203, 0.0202), (32, 0.00176, 0.00176), (64, 0.00019, 0.00019)],
)
def test_divergences_of_the_multistep_sampler(field8, steps, restarted, kept) -> None:
    """The printed numbers belong to a history that all bands lose at each scale. Core keeps the history of bands that
    go on, and a band that enters starts at first order: it is nearer, most at few steps."""
    without = field8.divergence(field8.deterministic(dpm_solver_pp_2m, steps, keep_history=False))
    with_history = field8.divergence(field8.deterministic(dpm_solver_pp_2m, steps))
    assert without == pytest.approx(restarted, rel=0.02)
    assert with_history == pytest.approx(kept, rel=0.02)
    assert with_history < without


@pytest.mark.parametrize(("sampler", "multi", "uniform"), [(ddim, 1.39, 0.180), (dpm_solver_pp_2m, 0.0203, 0.00045)])
def test_uniform_diffusion_is_nearer_at_equal_calls(field8, sampler, multi, uniform) -> None:
    """48 network calls: each fine band of the multi-scale process has but a third of the steps."""
    same = LinearLogSNR(t_end=torch.ones(1, dtype=F64))
    process = PerComponent(field8.bands.event_shape, same, blocks=torch.zeros_like(field8.bands.index))
    rotated = Rotated(process, field8.bands.transform)
    score = CoefficientScore(gaussian_score(field8.distribution, field8.bands, process), field8.bands.transform)
    x, _ = sampler(score, rotated, field8.images(field8.eye), time_grid(rotated, 48))
    rows = x.flatten(1)
    assert field8.divergence(rows.T @ rows) == pytest.approx(uniform, rel=0.02)
    assert field8.divergence(field8.deterministic(sampler, 16, keep_history=False)) == pytest.approx(multi, rel=0.02)


@pytest.mark.parametrize(
    ("lam_min", "lost", "error"),
    [(-4, 0.0538, 0.143), (-6, 5.5e-3, 0.027), (-8, 6.7e-4, 0.0071), (-10, 8.0e-5, 0.0037)],
)
def test_what_boundaries_lose(lam_min, lost, error) -> None:
    """Nats lost where bands are replaced by N(0, 1), nearly all at d1, and the error that DDIM keeps at 800 steps."""
    setting = Setting(8, lam_min=lam_min)
    costs = setting.boundary()
    assert sum(costs) == pytest.approx(lost, rel=0.02)
    assert max(costs) == costs[0] or lam_min > -6
    assert setting.error(setting.deterministic(ddim, 800)) == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("lam_min", [-1.0, -4.0, -8.0])
@pytest.mark.parametrize("matched", [True, False])
def test_the_bound_on_what_boundaries_lose(lam_min, matched) -> None:
    """It holds at every band, for any distribution; for this field the sum over bands is 4 to 17 times what is lost."""
    setting = Setting(8, lam_min=lam_min)
    variances, index = (
        coefficient_moments(setting.distribution, setting.bands)[1].diagonal(),
        setting.bands.index.flatten(),
    )
    exact = setting.boundary(matched=matched)
    bound = [
        float(boundary_cost(torch.tensor(lam_min, dtype=F64), variances[index == band], matched=matched))
        for band in range(3)
    ]
    assert all(0 < lost < most for lost, most in zip(exact, bound, strict=True))
    assert 3 < sum(bound) / sum(exact) < 17
    if matched:
        assert all(less < more for less, more in zip(exact, setting.boundary(), strict=True))


@pytest.mark.parametrize(
    "config",
    [WaveletBandsConfig(wavelet="db2", levels=2), DCTBandsConfig(levels=2), FourierBandsConfig(rings=3)],
    ids=lambda config: config.name,
)
def test_other_transforms_sample_the_same_field(config) -> None:
    """The distribution is reached in any bands: second order in the steps, down to what boundaries lose."""
    setting = Setting(8, config)
    floor = sum(setting.boundary())
    coarse, fine = (setting.divergence(setting.deterministic(heun, steps)) for steps in (16, 64))
    assert fine < coarse
    assert fine < 3 * floor + 1e-5
    assert floor < 3e-4


def test_bands_of_a_stationary_field_are_independent_in_fourier(field8) -> None:
    """Where coefficients are independent each band may be sampled by itself: rings lose nothing to a diagonal score."""
    setting = Setting(8, FourierBandsConfig(rings=3))
    _, covariance = coefficient_moments(setting.distribution, setting.bands)
    torch.testing.assert_close(covariance, covariance.diagonal().diag())


def flow_matrices(setting: Setting) -> list[Tensor]:
    """The linear map that the multi-scale probability flow makes of coefficients on each interval, the first first.

    dz/dt = f - 1/2 g^2 s for the active bands, the others standing still; by an adaptive solver, with the score's
    matrix written out.
    """
    covariance, index = coefficient_moments(setting.distribution, setting.bands)[1], setting.bands.index.flatten()
    like = setting.images(setting.eye[:1])
    intervals = pairwise((1e-3, *setting.inner.breakpoints, 1.0))

    def over(scale: int, start: float, end: float) -> Tensor:
        active = index >= scale

        def velocity(t: Tensor, z: Tensor) -> Tensor:
            times = t.reshape(1).clamp_min(start * (1 + 4e-6))  # at the start itself a band that ended still runs
            signal, noise = (part.flatten()[active] for part in setting.inner.coefficients(like, times))
            rate = setting.inner.drift(torch.ones_like(like), times).flatten()[active]
            squared = setting.inner.dispersion(like, times).flatten()[active] ** 2
            marginal = signal[:, None] * covariance[active][:, active] * signal + torch.diag(noise**2)
            out = torch.zeros_like(z)
            out[active] = rate[:, None] * z[active] + squared[:, None] / 2 * torch.linalg.solve(marginal, z[active])
            return out

        span = torch.tensor([start, end], dtype=F64)
        path: Tensor = odeint(velocity, setting.eye, span, rtol=1e-8, atol=1e-10, options={"step_t": span[1:]})
        return path[-1]

    return [over(scale, start, end) for scale, (start, end) in enumerate(intervals)]


@pytest.mark.parametrize("lam_min", [-4.0, -10.0])
def test_likelihood_of_the_multiscale_model(lam_min) -> None:
    """The piecewise probability flow gives log N(x; 0, P) with P = (A^T A)^-1, the distribution that the flow makes of
    noise.

    At log-SNR -4 that distribution is .05 nats from the data's: the likelihood is the model's, and not the data's.
    """
    setting = Setting(4, HaarBandsConfig(levels=1), lam_min=lam_min)
    ends = (*setting.inner.breakpoints, 1.0)
    scores = [gaussian_score(setting.distribution, setting.bands, setting.inner, scale) for scale in range(2)]

    def score(z: Tensor, t: Tensor) -> Tensor:
        return scores[sum(float(t[0]) > end for end in ends[:-1])](z, t)

    x = setting.images(torch.randn(4, 16, dtype=F64) @ torch.linalg.cholesky(setting.pixels).T)
    found = probability_flow_log_prob(
        CoefficientScore(score, setting.bands.transform), setting.process, x, rtol=1e-7, atol=1e-7
    )
    first, second = flow_matrices(setting)
    a = second @ first
    z = setting.bands.transform(x).flatten(1)
    constant = 16 / 2 * math.log(2 * math.pi)
    model = -((z @ a.T) ** 2).sum(1) / 2 + torch.linalg.slogdet(a).logabsdet - constant
    torch.testing.assert_close(found, model, rtol=0, atol=1e-5)
    inverse = torch.linalg.inv(a.T @ a)
    assert divergence(setting.noised(1e-3), inverse) == pytest.approx(sum(setting.boundary()), rel=0.35)
    pixels = setting.deterministic(heun, 200)
    torch.testing.assert_close(setting.in_bands(pixels), inverse, rtol=0, atol=2e-3)


def test_dimensions_change_as_bands_leave() -> None:
    """The same likelihood piece by piece with the dropped band taken out: interval 1 on all, plus log N(d1; 0, 1), then
    interval 2 on the coarse image alone, plus log N(a1; 0, 1), plus the divergences of both."""
    setting = Setting(4, HaarBandsConfig(levels=1))
    bands, (first, second) = setting.bands, flow_matrices(setting)
    x = setting.images(torch.randn(3, 16, dtype=F64) @ torch.linalg.cholesky(setting.pixels).T)
    z = bands.transform(x)
    index = bands.index.flatten()
    halfway, a = (z.flatten(1) @ first.T).reshape(z.shape), second @ first
    normal = torch.distributions.Normal(torch.zeros((), dtype=F64), torch.ones((), dtype=F64))
    fine = normal.log_prob(halfway.flatten(1)[:, index == 0]).sum(1)
    # The coarse image's own flow, as a process of its dimension, continues from where the first interval left it.
    covariance = coefficient_moments(setting.distribution, bands)[1][index == 1][:, index == 1]
    schedule = LinearLogSNR()
    rest = PerComponent(bands.shape(1), [(torch.ones(bands.shape(1), dtype=torch.bool), schedule)], t_min=0.5)

    def score(v: Tensor, t: Tensor) -> Tensor:
        signal, noise = schedule.signal_scale(t[:1])
        marginal = signal**2 * covariance + noise**2 * torch.eye(4, dtype=F64)
        return -torch.linalg.solve(marginal, v.flatten(1).T).T.reshape(v.shape)

    coarse = probability_flow_log_prob(score, rest, bands.take(halfway, 1), rtol=1e-7, atol=1e-7)
    pieced = torch.linalg.slogdet(first).logabsdet + fine + coarse
    whole = -((z.flatten(1) @ a.T) ** 2).sum(1) / 2 + torch.linalg.slogdet(a).logabsdet - 8 * math.log(2 * math.pi)
    torch.testing.assert_close(pieced, whole, rtol=0, atol=1e-5)
