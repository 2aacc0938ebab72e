"""The multi-scale model is exact where its networks are, and refuses what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from multiscale_toys import F64, exact_model, field, model, network, trained

from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.diffusion import SAMPLERS, time_grid
from scorefold.errors import ConfigError
from scorefold.interfaces import Progress, TensorSource
from scorefold_nonuniform.bands.coefficients import build_bands
from scorefold_nonuniform.config import MultiScaleConfig, NonUniformConfig
from scorefold_nonuniform.gaussian_field import coefficient_moments, gaussian_score
from scorefold_nonuniform.nonuniform import NonUniformScore
from scorefold_toolkit.training import fit


def test_the_score_is_exact_on_every_scale_where_networks_are() -> None:
    """Views, images, levels and rotations: the published construction around exact networks is the exact score."""
    built, source = exact_model()
    x = source.load("test").x[:6].double()
    for t in (0.01, 1 / 3, 0.34, 0.6, 2 / 3, 0.7, 1.0):
        times = torch.full((6,), t, dtype=F64)
        scale = int(built.scale_at(times)[0])
        assert scale == [0.01 <= 1 / 3, t > 1 / 3, t > 2 / 3].count(True) - 1
        z = built.bands.transform(x)
        exact = gaussian_score(source.distribution(), built.bands, built.coefficients, scale)(z, times)
        found = built.bands.transform(built.score(x, times))
        active = built.bands.index >= scale
        torch.testing.assert_close(found[:, active], exact[:, active])
        torch.testing.assert_close(found[:, ~active], -z[:, ~active])  # dropped bands are standard normal


def test_rows_of_a_batch_may_be_on_different_scales() -> None:
    built = model().double().eval()
    x = torch.randn(5, 1, 8, 8, dtype=F64)
    t = torch.tensor([0.9, 0.1, 0.5, 0.2, 1 / 3], dtype=F64)
    together = built.score(x, t)
    alone = torch.cat([built.score(x[i : i + 1], t[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone)
    assert built.scale_at(t).tolist() == [2, 0, 1, 0, 0]


@pytest.mark.parametrize("name", ["dpmpp-2m", "euler-maruyama"])
def test_samples_have_the_distribution_of_the_field(name: str) -> None:
    """Exact scores, drawn by the model's own ``sample`` in steps a scale: covariance to sampling error."""
    built, source = exact_model()
    steps = (40, 40, 40)
    generator = torch.Generator().manual_seed(0)
    x = built.sample(2500, steps=steps, sampler=name, generator=generator)
    _, sigma = coefficient_moments(source.distribution(), built.bands)
    found = torch.cov(built.bands.transform(x).flatten(1).T)
    # Sampling alone gives about 0.04; first-order steps add theirs.
    assert float((found - sigma).norm() / sigma.norm()) < 0.12
    variances = torch.stack([found.diagonal()[(built.bands.index == b).flatten()].mean() for b in range(3)])
    truth = torch.stack([sigma.diagonal()[(built.bands.index == b).flatten()].mean() for b in range(3)])
    torch.testing.assert_close(variances, truth, rtol=0.12, atol=0)


def test_the_likelihood_changes_its_dimension_from_scale_to_scale() -> None:
    """The piecewise flow with exact scores is the distribution of the field, noise at t_min and e^-10 at the boundaries
    apart."""
    built, source = exact_model(size=4, levels=1)
    x = source.load("test").x[:8].double()
    found = built.log_prob(x, rtol=1e-6, atol=1e-6)
    mean, sigma = coefficient_moments(source.distribution(), built.bands)
    start = torch.full((1,), built.process.t_min, dtype=F64)
    signal, scale = (part.expand(1, 1, 4, 4).flatten() for part in built.coefficients.coefficients(x[:1], start))
    noised = signal[:, None] * sigma * signal + torch.diag(scale**2)
    distribution = torch.distributions.MultivariateNormal(signal * mean, noised)
    torch.testing.assert_close(found, distribution.log_prob(built.bands.transform(x).flatten(1)), rtol=0, atol=5e-3)


def white(deviations: tuple[float, ...], count: int = 4000) -> TensorSource:
    """Events (1, 4, 4) whose Haar bands are independent, white, and of these deviations about a common mean."""
    bands = build_bands(MultiScaleConfig(bands={"name": "haar", "levels": 1}).bands, (1, 4, 4)).double()
    z = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    x = 0.5 + bands.transform.inverse(z * torch.tensor(deviations, dtype=F64)[bands.index])
    return TensorSource({"train": Dataset(x), "test": Dataset(x[:50])})


@pytest.mark.parametrize("kind", ["multiscale", "nonuniform"])
def test_an_untrained_model_is_the_best_linear_guess_band_by_band(kind: str) -> None:
    """Networks begin at 0, and what they correct is exact for white bands: so is the likelihood."""
    source, settings = white((0.1, 0.7)), {"bands": {"name": "haar", "levels": 1}, "network": network()}
    built: Any = (
        model(source, **settings)
        if kind == "multiscale"
        else NonUniformScore(NonUniformConfig.model_validate(settings), data=source)
    )
    built = built.double().eval()
    built.prepare(source.load("train"), torch.Generator())
    x = source.load("test").x
    z = built.bands.transform(x)
    deviation = built.moments.deviations[built.bands.index]
    start = torch.full((1,), built.process.t_min, dtype=F64)
    signal, scale = built.coefficients.coefficients(z[:1], start)
    spread = ((signal * deviation) ** 2 + scale**2).sqrt()
    exact = torch.distributions.Normal(signal * built.moments.mean, spread).log_prob(z).flatten(1).sum(1)
    found = built.log_prob(x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02)


def test_a_band_that_never_changes_has_a_millionth_of_the_largest_deviation() -> None:
    source = white((0.0, 700.0))
    settings = NonUniformConfig.model_validate({"bands": {"name": "haar", "levels": 1}, "network": network()})
    built = NonUniformScore(settings, data=source).double()
    built.prepare(source.load("train"), torch.Generator())
    still, changing = sorted(built.moments.deviations.tolist())
    assert changing == pytest.approx(700, rel=0.05)
    assert still == pytest.approx(1e-6 * changing)


def test_the_loss_is_the_analytic_optimum_where_networks_are_exact() -> None:
    """E ||eps-hat - eps||^2 = K - tr(D_s M), M the inverse covariance of the K active coefficients, at every scale."""
    built, source = exact_model(weighting="sigma2")
    x = source.load("train").x[:1].double().expand(6000, 1, 8, 8)
    distribution = source.distribution()
    draws = (
        distribution.mean
        + torch.randn(6000, 64, generator=torch.Generator().manual_seed(1), dtype=F64)
        @ (distribution.basis * distribution.variances.sqrt()).T
    )
    batch = Dataset(draws.reshape(x.shape))
    for phase, (low, high) in zip(built.phases(), [(1e-3, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)], strict=True):
        scale = built.phases().index(phase)
        active = (built.bands.index >= scale).flatten()
        sigma = coefficient_moments(distribution, built.bands)[1][active][:, active]
        t = torch.linspace(low, high, 200, dtype=F64)
        signal, noise = (
            v.expand(200, 1, 8, 8).flatten(1)[:, active]
            for v in built.coefficients.coefficients(torch.zeros(200, 1, 8, 8, dtype=F64), t)
        )
        noised = signal[:, :, None] * sigma * signal[:, None] + torch.diag_embed(noise**2)
        inverse = torch.linalg.inv(noised)
        optimum = int(active.sum()) - (noise**2 * inverse.diagonal(dim1=1, dim2=2)).sum(1)
        progress: Any = type("At", (), {"phase": phase.name})
        found = built.loss(batch, progress=progress, generator=torch.Generator().manual_seed(2)).value
        assert float(found) == pytest.approx(float(optimum.mean()), rel=0.03)


def test_sampling_in_coefficients_is_sampling_of_events() -> None:
    """``bind`` gives samplers the score of coefficients; the same function of events gives the same samples."""
    built = model().double().eval()
    times, x = time_grid(built.process, 12), torch.randn(3, 1, 8, 8, dtype=F64)
    for sampler in SAMPLERS.values():
        fast, _ = sampler(built.bind(), built.process, x, times, generator=torch.Generator().manual_seed(1))
        slow, _ = sampler(built.score, built.process, x, times, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(fast, slow, rtol=1e-8, atol=1e-8)


def test_networks_of_coarse_scales_are_the_only_ones_called_there() -> None:
    built, calls = model().eval(), [0, 0, 0]
    for scale, each in enumerate(built.networks):
        each.register_forward_hook(lambda *_, scale=scale: calls.__setitem__(scale, calls[scale] + 1))
    built.sample(2, steps=(5, 3, 2), sampler="ddim")  # from the coarsest, and one more to zero noise
    assert calls == [3, 3, 5]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: model(ends=[0.5, 1.0]), "there are 2 ends, 0.5, 1, and 3 bands"),
        (lambda: model(ends=[0.5, 0.5, 1.0]), "between two equal ends has no time"),
        (lambda: model(networks=(network(),)), "there are 1 networks and 3 scales"),
        (lambda: model(train=[4]), "train names scale 4; there are 3"),
        (lambda: model(scale_steps=[5, 5]), "scale_steps has 2 numbers; there are 3 scales"),
        (lambda: model(network={"use": "network:mlp"}), "which has not been built"),
        (lambda: model(DataSpec((1, 6, 6))), "multiples of 4"),
        (lambda: model(DataSpec((5,))), "images"),
        (lambda: model(ends=[0.001, 0.5, 1.0]), "first band ends at 0.001, and the process begins at t_min = 0.001"),
        (lambda: model(DataSpec((1, 8, 8), EventScale(std=0.0))), "their deviation is 0"),
        (lambda: model(bands="learned"), "use score:nonuniform|learned axes change"),
        (lambda: model(parts=[model()]), "a part was plugged in that is not trained"),
        (lambda: model(parts=[trained(train=[1]), trained(train=[1, 2])]), "scale 1 was trained by two parts"),
        (lambda: model(train=[1, 2], parts=[trained(train=[1])]), "train names scale 1, which a part has trained"),
        (lambda: model(boundary="normal", parts=[trained(train=[1])]), "no score:multiscale of this configuration"),
        (lambda: model(DataSpec((1, 8, 8), EventScale(), {"levels": TensorSpec((3,))})), "called 'levels'"),
    ],
)
def test_what_does_not_fit_is_refused(build: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"construction": "published"}, "boundary: normal and no boundary_kl"),
        ({"boundary_kl": 0.1, "process": "vp"}, "boundary_kl needs process: log-snr, and this one is vp"),
        ({"train": []}, "at least, and each once"),
        ({"train": [1, 1]}, "each once"),
        ({"ends": [0.7, 0.2, 1.0]}, "do not decrease"),
        ({"ends": [0.2, 0.7]}, "the last of them 1"),
        ({"bands": "harr"}, "haar"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MultiScaleConfig.model_validate(settings)


@pytest.mark.parametrize("config", [MultiScaleConfig, NonUniformConfig])
def test_models_by_bands_weigh_the_noise_of_uniform_times_alike(config: Any) -> None:
    """The lognormal levels of images, the default elsewhere, gave 2.7 times the Frechet distance on Fashion-MNIST."""
    assert config().weighting.name == "simple"
    assert config().levels.name == "time"


def test_each_scale_has_a_reference_of_its_loss() -> None:
    """It is the loss where the scale's network answers 0, whatever the others do."""
    lines = list[str]()
    built = model(network=network())
    report = fit(
        built, field().load("train"), built.training_config, progress=lambda done, total, text: lines.append(text)
    )
    assert {line.partition(":")[0] for line in lines if " of " in line} == {"scale-1", "scale-2", "scale-3"}
    data = field().load("test")

    def own() -> float:
        draws = torch.Generator().manual_seed(3)
        return float(built.loss(data, progress=Progress(0, 1, "scale-2"), generator=draws).value.detach())

    built.eval()
    found = built.loss_reference(data, own, "scale-2")
    with torch.no_grad():
        for parameter in built.networks[1].parameters():
            parameter.zero_()
    assert found is not None
    assert found.value == pytest.approx(own(), rel=1e-6)
    assert report.reference is not None
