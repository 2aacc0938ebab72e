"""Non-uniform diffusion with exact scores: the numbers of Batzolis et al. (2111.13606, 2207.09786) in closed form.

Distributions are Gaussian, so each sampler step is affine and moments propagate exactly: little here is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.diffusion import (
    VE,
    GeometricVE,
    IsotropicProcess,
    LinearLogSNR,
    PerComponent,
    ddim,
    dpm_solver_pp_2m,
    euler_maruyama,
    heun,
    predictor_corrector,
    samplers,
    time_grid,
)
from scorefold_toolkit.score_matching.losses import denoising_score_matching

F64 = torch.float64


def pair(rho: float) -> Tensor:
    return torch.tensor([[1.0, rho], [rho, 1.0]], dtype=F64)


def two_speeds(sigma_max_y: float) -> PerComponent:
    """(x, y) under VE with s_min .01, s_max 50 for x and ``sigma_max_y`` for y."""
    return PerComponent((2,), GeometricVE(0.01, torch.tensor([50.0, sigma_max_y], dtype=F64)))


def noised(sigma: Tensor, process: PerComponent, t: Tensor) -> Tensor:
    """Sigma + diag(scale^2) at times t (B,), (B, 2, 2)."""
    return sigma + torch.diag_embed(process.coefficients(t[:, None].expand(-1, 2), t)[1] ** 2)


def conditional(rho: float, scale_x: float, scale_y: float) -> tuple[float, float]:
    """(K, V) of p(x_t | y_t) for the unit pair of correlation rho."""
    gain = rho / (1 + scale_y**2)
    return gain, 1 - gain * rho + scale_x**2


@pytest.mark.parametrize(
    ("scale_y", "gain", "variance", "score", "noise", "loss", "error"),
    [
        (0.0, 0.900000, 0.440000, -1.250000, 0.0, 0.431818, 0.0),
        (0.1, 0.891089, 0.448020, -1.237569, 0.039559, 0.441989, 0.040683),
        (0.5, 0.720000, 0.602000, -1.063123, 0.357612, 0.584718, 0.611598),
    ],
)
def test_conditional_scores_of_a_joint_gaussian(scale_y, gain, variance, score, noise, loss, error) -> None:
    """CDE (0), CMDE (.1) and CDiffE (.5) at scale_x = .5, x_t = 1, y = .5: K, V, the score, the variance that y's noise
    adds to it, the smallest eps-loss, and the error of the score; the eps-loss by Monte Carlo too."""
    k, v = conditional(0.9, 0.5, scale_y)
    exact = 1 / conditional(0.9, 0.5, 0.0)[1]
    derived = [k, v, -(1 - k * 0.5) / v, scale_y**2 * k**2 / v**2, 1 - 0.25 / v, exact - 1 / v]
    assert derived == pytest.approx([gain, variance, score, noise, loss, error], abs=6e-7)
    joint = pair(0.9) + torch.diag(torch.tensor([0.25, scale_y**2], dtype=F64))
    assert -float(torch.linalg.solve(joint, torch.tensor([1.0, 0.5], dtype=F64))[0]) == pytest.approx(score, abs=6e-7)

    process, generator, count = VE(0.01, 50.0), torch.Generator().manual_seed(0), 100_000
    times = process.time_at(torch.full((count,), 0.5, dtype=F64))
    y = torch.randn(count, 1, generator=generator, dtype=F64)
    x = 0.9 * y + math.sqrt(1 - 0.81) * torch.randn(count, 1, generator=generator, dtype=F64)
    y_t = y + scale_y * torch.randn(count, 1, generator=generator, dtype=F64)
    options = {"condition": y_t, "times": times, "weighting": "sigma2", "generator": generator}
    losses = denoising_score_matching(lambda x, t, c: 0.5 * (x - k * c) / v, process, x, **options)
    assert float(losses.mean()) == pytest.approx(loss, abs=5 * float(losses.std()) / math.sqrt(count))


def test_joint_score_has_the_conditional_blocks() -> None:
    """The x-block of -(Sigma + diag(scale^2))^-1 z is -V^-1 (x - K y), for random symmetric positive definite Sigma."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=generator, dtype=F64)
    sigma, z = root @ root.T, torch.randn(5, generator=generator, dtype=F64)
    process = PerComponent((5,), [(slice(3), GeometricVE(0.01, 50.0)), (slice(3, 5), GeometricVE(0.01, 0.5))])
    scale = process.coefficients(z[None], torch.tensor([0.6], dtype=F64))[1][0]
    joint = -torch.linalg.solve(sigma + torch.diag(scale**2), z)[:3]
    k = sigma[:3, 3:] @ torch.linalg.inv(sigma[3:, 3:] + scale[3] ** 2 * torch.eye(2, dtype=F64))
    v = sigma[:3, :3] - k @ sigma[3:, :3] + scale[0] ** 2 * torch.eye(3, dtype=F64)
    torch.testing.assert_close(joint, -torch.linalg.solve(v, z[:3] - k @ z[3:]), rtol=1e-10, atol=1e-10)


def conditional_moments(rho: float, sigma_max_y: float | None, steps: int) -> tuple[float, float]:
    """(gain, variance) of x given y by the reverse-diffusion predictor with a fresh y_t at each step; None is CDE.

    As in the published code, ``steps`` noise levels are geometric from 50 to .01 and the last step goes from .01 to
    (nearly) 0 and returns its mean. The batch holds the responses of a step to x, to y, to the predictor's noise and to
    y_t's noise.
    """
    process = VE(1e-6, 50.0)
    scales = torch.logspace(math.log10(50.0), -2, steps, dtype=F64)
    times = process.time_at(torch.cat([scales, scales.new_tensor([1e-6])]))
    x, y, xi, eta = torch.eye(4, dtype=F64)[:, :, None]

    def score(x: Tensor, t: Tensor) -> Tensor:
        scale_x = float(process.noise_to_signal(t[:1]))
        share = math.log(scale_x / 0.01) / math.log(5000)
        scale_y = 0.0 if sigma_max_y is None else 0.01 * (sigma_max_y / 0.01) ** share
        k, v = conditional(rho, scale_x, scale_y)
        return -(x - k * (y + scale_y * eta)) / v

    gain, variance = 0.0, 50.0**2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "draw_normal", lambda shape, *, generator, like: xi)
        for k in range(steps):
            move, _ = predictor_corrector(score, process, x, times[k : k + 2], corrector_steps=0)
            on_x, on_y, on_xi, on_eta = move[:, 0].tolist()
            gain, variance = on_x * gain + on_y, on_x**2 * variance + on_xi**2 + on_eta**2
    return gain, variance


@pytest.mark.parametrize(
    ("sigma_max_y", "fine", "coarse", "limit"),
    [
        (None, (0.8999, 0.1915), (0.8999, 0.2072), (0.9, 0.19)),
        (1.0, (0.8911, 0.1954), (0.8908, 0.2117), (0.8912, 0.1938)),
        (50.0, (0.6255, 0.3145), (0.6134, 0.3515), (0.6266, 0.3109)),
    ],
    ids=["CDE", "CMDE", "CDiffE"],
)
def test_sampling_bias_of_conditional_estimators(sigma_max_y, fine, coarse, limit) -> None:
    """Even with exact scores CMDE and CDiffE are biased: the values at 1000 and 100 steps, and the continuous limit."""
    gain, variance = conditional_moments(0.9, sigma_max_y, 1000)
    assert (gain, variance) == pytest.approx(fine, abs=1e-4)
    assert abs(gain - limit[0]) < 0.003
    assert abs(variance - limit[1]) < 0.006
    assert conditional_moments(0.9, sigma_max_y, 100) == pytest.approx(coarse, abs=1e-4)


def test_cdiffe_meets_its_closed_form() -> None:
    """Gain (1 - sqrt(1 - rho^2)) / rho, variance (1 - rho^2) / (2 rho) ln((1 + rho) / (1 - rho)).

    At rho = .5 the variance is .0074 off after 1000 steps, an error of first order: it takes more for the same bound.
    """
    for rho, steps in ((0.5, 1500), (0.9, 1000)):
        gain, variance = conditional_moments(rho, 50.0, steps)
        assert abs(gain - (1 - math.sqrt(1 - rho**2)) / rho) < 0.003
        assert abs(variance - (1 - rho**2) / (2 * rho) * math.log((1 + rho) / (1 - rho))) < 0.006


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(N(0, p) || N(0, q))."""
    solved = torch.linalg.solve(q, p)
    return float(solved.trace() - len(p) - torch.logdet(solved)) / 2


def score_gap(process: PerComponent, p: Tensor, q: Tensor, weight: Callable[[Tensor], Tensor] | None = None) -> float:
    """1/2 int E_p v^T Lambda v dt, v = grad log p_t - grad log q_t, for centred Gaussians, by quadrature.

    Lambda is diagonal: ``weight`` of g^2 (B, 2), or g^2 itself.
    """
    t = torch.linspace(0, 1, 20001, dtype=F64)
    g_squared = process.dispersion(t[:, None].expand(-1, 2), t) ** 2
    squared = torch.diag_embed(g_squared if weight is None else weight(g_squared))
    noised_p, noised_q = noised(p, process, t), noised(q, process, t)
    gap = torch.linalg.inv(noised_q) - torch.linalg.inv(noised_p)
    rate = (squared @ gap @ noised_p @ gap).diagonal(dim1=1, dim2=2).sum(1) / 2
    return float(torch.trapezoid(rate, t))


ENDS = torch.tensor([0.0, 1.0], dtype=F64)


@pytest.mark.parametrize("sigma_max_y", [50.0, 1.0, 0.1])
def test_likelihood_weighting_is_the_divergence(sigma_max_y) -> None:
    """KL(p_0||q_0) - KL(p_T||q_T) = 1/2 int E ||G^T (grad log p_t - grad log q_t)||^2 dt for any two speeds: .09719.

    The integral is the excess of the likelihood-weighted loss of q's score over p's, which the losses must give too.
    """
    process, p, q = two_speeds(sigma_max_y), pair(0.9), pair(0.8)
    integral = score_gap(process, p, q)
    (first_p, last_p), (first_q, last_q) = noised(p, process, ENDS), noised(q, process, ENDS)
    assert divergence(first_p, first_q) - divergence(last_p, last_q) == pytest.approx(integral, abs=1e-6)
    assert integral == pytest.approx(0.09719, abs=1e-5)

    count = 200_000
    x0 = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=F64), p).sample((count,))

    def losses(sigma: Tensor) -> Tensor:
        return denoising_score_matching(
            lambda x, t, c: -torch.linalg.solve(noised(sigma, process, t), x),
            process,
            x0,
            predicts="score",
            stratified=True,
            generator=torch.Generator().manual_seed(1),
        )

    excess = losses(q) - losses(p)
    assert float(excess.mean()) == pytest.approx(integral, abs=5 * float(excess.std()) / math.sqrt(count))


@pytest.mark.parametrize(
    ("weight", "measured"),
    [
        (lambda g: g.flip(1), 0.1472),
        (lambda g: g.mean(1, keepdim=True).expand_as(g), 0.1222),
        (lambda g: g[:, :1].expand_as(g), 0.2388),
    ],
    ids=["swapped", "mean", "of x"],
)
def test_another_weighting_is_no_divergence(weight, measured) -> None:
    """With Lambda other than G G^T, one speed's weight for both or the two of them swapped, the identity breaks."""
    process, p, q = two_speeds(1.0), pair(0.9), pair(0.8)
    (first_p, last_p), (first_q, last_q) = noised(p, process, ENDS), noised(q, process, ENDS)
    exact = divergence(first_p, first_q) - divergence(last_p, last_q)
    integral = score_gap(process, p, q, weight)
    assert exact == pytest.approx(0.09719, abs=1e-5)
    assert integral == pytest.approx(measured, abs=1e-4)


def test_the_likelihood_bound() -> None:
    """For the score of independent components the divergence is below the bound, the integral plus KL(p_T||prior).

    With a prior this wide the two agree to 1e-6. In closed form both are .82994; the published .82978 and .82986, of a
    coarser integration, are within 2e-4.
    """
    process, p, q = two_speeds(50.0), pair(0.9), pair(0.0)
    (first_p, last_p), (first_q, _) = noised(p, process, ENDS), noised(q, process, ENDS)
    exact = math.log(1.0001**2 / (1.0001**2 - 0.81)) / 2
    bound = score_gap(process, p, q) + divergence(last_p, 2500 * torch.eye(2, dtype=F64))
    assert divergence(first_p, first_q) == pytest.approx(exact, abs=1e-9)
    assert exact < bound < exact + 1e-6
    assert exact == pytest.approx(0.82978, abs=2e-4)


# Multi-scale diffusion of a periodic Gaussian field: two Haar levels, three speeds.


def haar(size: int, levels: int) -> list[Tensor]:
    """The bands d_1, ..., d_L, a_L of the orthonormal Haar transform, each (coefficients, size^2)."""
    signs = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=F64) / 2
    bands, coarse = [], torch.eye(size**2, dtype=F64)
    while levels:
        half = size // 2
        cells = torch.zeros(4, half, half, size, size, dtype=F64)
        for i in range(half):
            for j in range(half):
                cells[:, i, j, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = signs.reshape(4, 2, 2)
        step = cells.reshape(4, half**2, size**2)
        bands.append(step[1:].flatten(0, 1) @ coarse)
        coarse, size, levels = step[0] @ coarse, half, levels - 1
    return [*bands, coarse]


class Field:
    """The field in Haar coefficients: its covariance, its process, and the exact score of the active bands."""

    def __init__(self, size: int) -> None:
        bands = haar(size, 2)
        transform = torch.cat(bands)
        frequency = torch.fft.fftfreq(size, dtype=F64) * size
        power = (1 + frequency[:, None] ** 2 + frequency**2) ** -1.5
        kernel = torch.fft.ifft2(power).real / torch.fft.ifft2(power).real[0, 0]
        place = torch.arange(size**2)
        rows, columns = (place // size, place % size)
        pixels = kernel[(rows[:, None] - rows) % size, (columns[:, None] - columns) % size]
        self.sizes = [len(band) for band in bands]
        self.covariance = transform @ pixels @ transform.T
        blocks = [(slice(int(sum(self.sizes[:i])), int(sum(self.sizes[: i + 1])))) for i in range(3)]
        self.process = PerComponent(
            (size**2,), [(block, LinearLogSNR(t_end=(i + 1) / 3)) for i, block in enumerate(blocks)]
        )
        self.eye = torch.eye(size**2, dtype=F64)

    def score(self, finest: int) -> Callable[[Tensor, Tensor], Tensor]:
        """The exact score of the bands from ``finest`` on; the dropped ones stay as they are."""
        dropped = sum(self.sizes[:finest])

        def score(z: Tensor, t: Tensor) -> Tensor:
            signal, scale = (part[0, dropped:] for part in self.process.coefficients(z[:1], t[:1]))
            active = signal[:, None] * self.covariance[dropped:, dropped:] * signal + torch.diag(scale**2)
            return torch.cat([z[:, :dropped] * 0, -torch.linalg.solve(active, z[:, dropped:].T).T], dim=1)

        return score

    def pieces(self, steps: int) -> list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor]]:
        times = time_grid(self.process, 3 * steps)
        return [(self.score(2 - i), times[i * steps : (i + 1) * steps + 1]) for i in range(3)]

    def sample_deterministic(self, sampler, steps: int, keep_history: bool = True) -> Tensor:
        """The covariance of the output for noise N(0, I)."""
        z, state = self.eye, None
        for score, times in self.pieces(steps):
            z, state = sampler(score, self.process, z, times, state=state if keep_history else None)
        return z.T @ z

    def sample_euler_maruyama(self, steps: int, patch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
        """The covariance of the output, and the one where the noise is dropped at the end of every interval."""
        size, kept, dropped = len(self.eye), self.eye, self.eye
        zeros = torch.zeros_like(self.eye)
        patch.setattr(samplers, "draw_normal", lambda shape, *, generator, like: torch.cat([zeros, self.eye]))
        for score, times in self.pieces(steps):
            for k in range(steps):
                step, _ = euler_maruyama(score, self.process, torch.cat([self.eye, zeros]), times[k : k + 2])
                move, noise = step.split(size)
                variance = torch.diag(noise.diagonal() ** 2)
                kept = move.T @ kept @ move + variance
                dropped = move.T @ dropped @ move + variance * (k < steps - 1)
        return kept, dropped

    def error(self, covariance: Tensor) -> float:
        return float((covariance - self.covariance).norm() / self.covariance.norm())

    def band_ratios(self, covariance: Tensor) -> list[float]:
        parts = zip(covariance.diagonal().split(self.sizes), self.covariance.diagonal().split(self.sizes), strict=True)
        return [float(got.sum() / true.sum()) for got, true in parts]

    def divergence(self, covariance: Tensor) -> float:
        """KL(target || sample) with the target at t_min."""
        signal, scale = (part[0] for part in self.process.coefficients(self.eye[:1], self.eye.new_tensor([1e-3])))
        return divergence(signal[:, None] * self.covariance * signal + torch.diag(scale**2), covariance)


@pytest.fixture(scope="module")
def field16() -> Field:
    return Field(16)


@pytest.fixture(scope="module")
def field8() -> Field:
    return Field(8)


def test_the_field_is_the_published_one(field16) -> None:
    s = field16.covariance
    assert float(torch.linalg.cond(s)) == pytest.approx(1465, abs=1)
    variances = [float(part.mean()) for part in s.diagonal().split(field16.sizes)]
    assert variances == pytest.approx([0.269, 1.320, 8.809], abs=5e-4)
    assert float(s[:192, 192:].norm() / s.norm()) == pytest.approx(0.15, abs=5e-4)


@pytest.mark.parametrize(("lam_min", "expected"), [(-4, 0.0538), (-6, 5.5e-3), (-8, 6.7e-4), (-10, 8.0e-5)])
def test_information_lost_where_bands_are_dropped(field8, lam_min, expected) -> None:
    """The KL of taking d_1(T_1), d_2(T_2) and a_2(T_3) for independent N(0, I), which decays like e^lam_min."""
    ends = torch.cat([torch.full((size,), (i + 1) / 3, dtype=F64) for i, size in enumerate(field8.sizes)])
    process = PerComponent((64,), LinearLogSNR(lam_min=lam_min, t_end=ends))
    signal, scale = process.coefficients(field8.eye[:1], torch.tensor([1 / 3, 2 / 3, 1.0], dtype=F64))
    lost, dropped = 0.0, 0
    for i, size in enumerate(field8.sizes):
        active = signal[i, dropped:, None] * field8.covariance[dropped:, dropped:] * signal[i, dropped:]
        active = active + torch.diag(scale[i, dropped:] ** 2)
        rest = torch.block_diag(torch.eye(size, dtype=F64), active[size:, size:])
        lost, dropped = lost + divergence(active, rest), dropped + size
    assert lost == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("steps", "error"), [(16, 0.1039), (64, 0.0286), (256, 0.0088)])
def test_multiscale_ddim(field16, steps, error) -> None:
    covariance = field16.sample_deterministic(ddim, steps)
    assert field16.error(covariance) == pytest.approx(error, abs=5e-5)
    if steps == 64:
        assert field16.band_ratios(covariance) == pytest.approx([0.937, 0.963, 0.973], abs=6e-4)


@pytest.mark.parametrize(
    ("steps", "error", "error_dropped"), [(16, 0.0817, 0.1560), (64, 0.0222, 0.0421), (256, 0.0057, 0.0108)]
)
def test_multiscale_euler_maruyama(field16, steps, error, error_dropped, monkeypatch) -> None:
    """Only the last step of the run may drop its noise: dropping it at the end of each interval doubles the error."""
    kept, dropped = field16.sample_euler_maruyama(steps, monkeypatch)
    assert field16.error(kept) == pytest.approx(error, abs=5e-5)
    assert field16.error(dropped) == pytest.approx(error_dropped, abs=5e-5)
    if steps == 64:
        assert field16.band_ratios(kept) == pytest.approx([1.035, 1.017, 0.991], abs=6e-4)


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
    """KL(target || sample) for the 8 x 8 field, to the digits printed (Heun at 8 is .01065, printed .0107)."""
    assert field8.divergence(field8.sample_deterministic(sampler, steps)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("steps", "restarted", "kept"),
    [(8, 0.0613, 0.0519), (16, 0.0203, 0.0202), (32, 0.00176, 0.00176), (64, 0.00019, 0.00019)],
)
def test_divergences_of_the_bandwise_multistep_sampler(field8, steps, restarted, kept) -> None:
    """The printed KLs are reached with a history restarted for all bands at each scale, although the notes say kept.

    Keeping it, as the sampler does by its state, is more accurate: .0519 instead of .0613 at 8 steps a scale.
    """
    without = field8.divergence(field8.sample_deterministic(dpm_solver_pp_2m, steps, keep_history=False))
    with_history = field8.divergence(field8.sample_deterministic(dpm_solver_pp_2m, steps))
    assert without == pytest.approx(restarted, rel=0.02)
    assert with_history == pytest.approx(kept, rel=0.02)
    assert with_history < without


def test_uniform_diffusion_at_equal_network_calls(field8) -> None:
    """48 calls of one network on all bands: KL .180 (DDIM), .00045 (2M), better than the multi-scale 1.39 and .0203."""
    process = IsotropicProcess(LinearLogSNR())

    def score(z: Tensor, t: Tensor) -> Tensor:
        signal, scale = process.coefficients(z[:1], t[:1])
        return -torch.linalg.solve(signal**2 * field8.covariance + scale**2 * field8.eye, z.T).T

    for sampler, expected in ((ddim, 0.180), (dpm_solver_pp_2m, 0.00045)):
        z, _ = sampler(score, process, field8.eye, time_grid(process, 48))
        assert field8.divergence(z.T @ z) == pytest.approx(expected, rel=0.02)
