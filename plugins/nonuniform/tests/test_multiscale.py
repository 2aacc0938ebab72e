"""The multi-scale model: exact where its networks are, trained scale by scale in any order and anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.diffusion import SAMPLERS, time_grid
from scorefold.errors import ConfigError, DataError, ShapeError, TrainingError
from scorefold.interfaces import Network, TensorSource
from scorefold.testing.contract import stir
from scorefold.training import fit
from scorefold_nonuniform.bands import build_bands
from scorefold_nonuniform.config import MultiScaleConfig, NonUniformConfig
from scorefold_nonuniform.data_config import GaussianFieldConfig
from scorefold_nonuniform.fields import GaussianField, coefficient_moments, gaussian_score
from scorefold_nonuniform.multiscale import MultiScale
from scorefold_nonuniform.nonuniform import NonUniform
from scorefold_nonuniform.speeds import boundary_cost, noisiest
from scorefold_standard.network_config import MLPConfig
from scorefold_standard.networks.mlp import MLP

F64 = torch.float64
TRAINING = {"steps": 30, "batch_size": 32, "validate_every": 30, "log_every": 10, "warmup": 5}


def field(size: int = 8, points: int = 300) -> GaussianField:
    return GaussianField(GaussianFieldConfig(size=size, points=points, seed=0))


def network() -> MLP:
    return MLP(MLPConfig(width=16, blocks=1))


def model(source: Any = None, parts: list[MultiScale] | None = None, **settings: Any) -> MultiScale:
    torch.manual_seed(0)
    config = MultiScaleConfig.model_validate({"network": network(), "training": TRAINING, **settings})
    return MultiScale(config, data=source or field(), parts=parts or [])


class Exact(Network):
    """Builds the exact noise of a Gaussian field, from the image that the published networks see."""

    def __init__(self, source: GaussianField, levels: int) -> None:
        self.source, self.levels = source, levels
        self.bands = build_bands(MultiScaleConfig(bands={"name": "haar", "levels": levels}).bands, source.event_shape)
        self.bands.double()

    def build(self, in_shape: Any, out_shape: Any, *, time: bool = False, condition: Any = None) -> nn.Module:
        return ExactNoise(self, [self.bands.shape(i) for i in range(len(self.bands))].index(tuple(in_shape)))


class ExactNoise(nn.Module):
    def __init__(self, owner: Exact, scale: int) -> None:
        super().__init__()
        self.owner, self.scale = owner, scale
        self.process: Any = None

    def forward(self, image: Tensor, level: Tensor, condition: Any = None) -> Tensor:
        bands, scale, t = self.owner.bands, self.scale, (level + 10) / 20
        if bool((t == t[0]).all()):
            t = t[:1].expand(len(t))  # one matrix for all, as samplers ask for one time
        z = bands.put(bands.analyse(image, scale), scale, image.new_zeros(len(image), *bands.event_shape))
        score = gaussian_score(self.owner.source.law(), bands, self.process, scale)(z, t)
        noise = -score * self.process.coefficients(z, t)[1]
        return bands.synthesise(bands.take(noise, scale), scale)


def exact_model(size: int = 8, levels: int = 2, **settings: Any) -> tuple[MultiScale, GaussianField]:
    """The published construction with exact networks. The last scale has the size of the one before it."""
    source = field(size)
    networks = tuple(Exact(source, levels) for _ in range(levels + 1))
    built = model(source, bands={"name": "haar", "levels": levels}, construction="published", boundary="normal",
                  networks=networks, **settings).double()  # fmt: skip
    for scale, each in enumerate(built.networks):
        each.network.scale, each.network.process = scale, built.coefficients
    return built.eval(), source


def test_the_score_is_exact_on_every_scale_where_networks_are() -> None:
    """Views, images, levels and rotations: the published construction around exact networks is the exact score."""
    built, source = exact_model()
    x = source.load("test").x[:6].double()
    for t in (0.01, 1 / 3, 0.34, 0.6, 2 / 3, 0.7, 1.0):
        times = torch.full((6,), t, dtype=F64)
        scale = int(built.scale_at(times)[0])
        assert scale == [0.01 <= 1 / 3, t > 1 / 3, t > 2 / 3].count(True) - 1
        z = built.bands.transform(x)
        exact = gaussian_score(source.law(), built.bands, built.coefficients, scale)(z, times)
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
def test_samples_have_the_law_of_the_field(name: str) -> None:
    """Exact scores, drawn by the model's own ``sample`` in steps a scale: covariance to sampling error."""
    built, source = exact_model()
    steps = (40, 40, 40)
    generator = torch.Generator().manual_seed(0)
    x = built.sample(2500, steps=steps, sampler=name, generator=generator)
    _, sigma = coefficient_moments(source.law(), built.bands)
    found = torch.cov(built.bands.transform(x).flatten(1).T)
    # Sampling alone gives about 0.04; first-order steps add theirs.
    assert float((found - sigma).norm() / sigma.norm()) < 0.12
    variances = torch.stack([found.diagonal()[(built.bands.index == b).flatten()].mean() for b in range(3)])
    truth = torch.stack([sigma.diagonal()[(built.bands.index == b).flatten()].mean() for b in range(3)])
    torch.testing.assert_close(variances, truth, rtol=0.12, atol=0)


def test_the_likelihood_changes_its_dimension_from_scale_to_scale() -> None:
    """The piecewise flow with exact scores is the law of the field, noise at t_min and e^-10 at the boundaries
    apart."""
    built, source = exact_model(size=4, levels=1)
    x = source.load("test").x[:8].double()
    found = built.log_prob(x, rtol=1e-6, atol=1e-6)
    mean, sigma = coefficient_moments(source.law(), built.bands)
    start = torch.full((1,), built.process.t_min, dtype=F64)
    signal, scale = (part.expand(1, 1, 4, 4).flatten() for part in built.coefficients.coefficients(x[:1], start))
    noised = signal[:, None] * sigma * signal + torch.diag(scale**2)
    law = torch.distributions.MultivariateNormal(signal * mean, noised)
    torch.testing.assert_close(found, law.log_prob(built.bands.transform(x).flatten(1)), rtol=0, atol=5e-3)


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
        else NonUniform(NonUniformConfig.model_validate(settings), data=source)
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


def test_the_loss_is_the_analytic_optimum_where_networks_are_exact() -> None:
    """E ||eps-hat - eps||^2 = K - tr(D_s M), M the inverse covariance of the K active coefficients, at every scale."""
    built, source = exact_model(weighting="sigma2")
    x = source.load("train").x[:1].double().expand(6000, 1, 8, 8)
    law = source.law()
    draws = (
        law.mean
        + torch.randn(6000, 64, generator=torch.Generator().manual_seed(1), dtype=F64)
        @ (law.basis * law.variances.sqrt()).T
    )
    batch = Dataset(draws.reshape(x.shape))
    for phase, (low, high) in zip(built.phases(), [(1e-3, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)], strict=True):
        scale = built.phases().index(phase)
        active = (built.bands.index >= scale).flatten()
        sigma = coefficient_moments(law, built.bands)[1][active][:, active]
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


@pytest.mark.parametrize("matched", [True, False])
def test_the_cost_of_a_boundary_is_bounded(matched: bool) -> None:
    """Against the exact KL of the Gaussian field, correlations across bands and all; it falls like e^lam."""
    source, bands = field(), build_bands(MultiScaleConfig().bands, (1, 8, 8)).double()
    _, sigma = coefficient_moments(source.law(), bands)
    first = (bands.index == 0).flatten()
    energy, costs = sigma.diagonal()[first], []
    for lam in (-4.0, -6.0, -8.0, -10.0):
        levels = torch.tensor([lam, lam + 20 / 3, lam + 40 / 3], dtype=F64)[bands.index].flatten()
        signal, noise = torch.sigmoid(levels).sqrt(), torch.sigmoid(-levels)
        noised = signal[:, None] * sigma * signal + torch.diag(noise)
        prior = signal[first] ** 2 * energy + noise[first] if matched else torch.ones(int(first.sum()), dtype=F64)
        split = noised.clone()
        split[first], split[:, first] = 0, 0
        split[first, first] = prior
        difference = torch.linalg.solve(split, noised)
        kl = (difference.trace() - 64 - torch.linalg.slogdet(difference).logabsdet) / 2
        bound = boundary_cost(torch.tensor(lam, dtype=F64), energy, matched=matched)
        assert 0 < float(kl) <= float(bound)
        costs.append(float(bound))
    torch.testing.assert_close(torch.tensor(costs[2]) / costs[3], torch.tensor(math.e**2), rtol=0.05, atol=0)
    lam = noisiest(energy, 0.01, matched=matched)
    assert float(boundary_cost(torch.tensor(lam, dtype=F64), energy, matched=matched)) == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize("sets", ["noise", "ends"])
@pytest.mark.parametrize("boundary", ["matched", "normal"])
def test_a_budget_sets_noise_or_ends(sets: str, boundary: str) -> None:
    source = field()
    built = model(source, boundary=boundary, boundary_kl=0.3, budget_sets=sets)
    plain = model(source, boundary=boundary)
    built.prepare(source.load("train"), torch.Generator())
    z = torch.zeros(1, 1, 8, 8)
    ends = built.ends.tolist()
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(1)
    assert (ends == plain.ends.tolist()) == (sets == "noise")
    total = 0.0
    for band, end in enumerate(ends):
        lam = built.coefficients.levels(torch.tensor([end]))[0, band].double()
        energy = built.moments.variance + (0 if boundary == "matched" else built.moments.mean**2)
        total += float(boundary_cost(lam, energy[built.bands.index == band].double(), matched=boundary == "matched"))
    assert total <= 0.3 * (1 + 1e-4)
    if sets == "noise":
        assert total == pytest.approx(0.3, rel=1e-4)
    assert len(time_grid(built.process, 9)) == 10
    assert torch.isfinite(built.score(z, torch.tensor([0.5]))).all()


def test_matched_boundaries_have_the_data_s_moments() -> None:
    source = field()
    built = model(source)
    built.prepare(source.load("train"), torch.Generator())
    z0 = built.bands.transform(source.load("train").x)
    signal, scale = built.coefficients.coefficients(z0[:1], torch.ones(1))
    mean, deviation = built.coefficients.prior(z0)
    torch.testing.assert_close(mean, signal[0] * z0.mean(0))
    torch.testing.assert_close(deviation**2, signal[0] ** 2 * z0.var(0, correction=0) + scale[0] ** 2)


def trained(folder: Path | None = None, only: str | None = None, **settings: Any) -> MultiScale:
    source = field()
    built = model(source, **settings)
    fit(built, source.load("train"), built.training_config, seed=7, checkpoint_dir=folder, only=only)
    return built


def test_scales_train_to_the_same_weights_alone_and_together(tmp_path: Path) -> None:
    whole = trained()
    assert whole.trained == (0, 1, 2)
    for scale in (2, 0, 1):
        alone = trained(tmp_path, only=f"scale-{scale + 1}")
        assert alone.trained == (scale,)
        for name, value in alone.networks[scale].state_dict().items():
            assert torch.equal(value, whole.networks[scale].state_dict()[name]), name
    resumed = trained(tmp_path)  # from the checkpoints of the three
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    with pytest.raises(TrainingError, match="independent phases are scale-1, scale-2, scale-3"):
        trained(only="scale-9")


def test_parts_trained_apart_make_the_whole() -> None:
    """Each scale's steps are as in the whole: 30 over three scales are ten each, whichever are trained here."""
    whole = trained()
    parts = [trained(train=[scale]) for scale in (1, 2, 3)]
    joined = model(parts=parts)
    assert joined.trained == (0, 1, 2)
    assert joined.phases() == []
    for name, value in whole.state_dict().items():
        assert torch.equal(value, joined.state_dict()[name]), name
    rest = model(parts=parts[:1])
    assert [(phase.name, phase.steps) for phase in rest.phases()] == [("scale-2", 10), ("scale-3", 10)]
    fit(rest, field().load("train"), rest.training_config, seed=7)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


@pytest.mark.parametrize(
    "other",
    [
        {"network": MLP(MLPConfig(width=16, blocks=2))},
        {"network": MLP(MLPConfig(width=8, blocks=1))},
        {"network": MLP(MLPConfig(width=16, blocks=1, activation="relu"))},
        {"source": field(16)},
    ],
)
def test_a_part_with_other_networks_or_events_is_refused(other: dict[str, Any]) -> None:
    part = trained(train=[2], training={**TRAINING, "steps": 6})
    with pytest.raises(ConfigError, match="the part that trained scale 2 has another network there, or other events"):
        model(parts=[part], **other)


def test_parts_keep_the_moments_that_they_were_trained_with() -> None:
    """A budget sets ends by them, so that the same data change nothing, and other data are refused."""
    settings: dict[str, Any] = {"boundary_kl": 0.3, "budget_sets": "ends", "training": {**TRAINING, "steps": 6}}
    joined = model(parts=[trained(train=[1, 3], **settings)], **settings)
    before = {name: value.clone() for name, value in joined.state_dict().items()}
    fit(joined, field().load("train"), joined.training_config)
    for name, value in joined.state_dict().items():
        assert name.startswith("networks.1.") or torch.equal(value, before[name]), name
    other = GaussianField(GaussianFieldConfig(size=8, points=300, seed=1))
    with pytest.raises(DataError, match="the parts were trained on other data"):
        fit(joined, other.load("train"), joined.training_config)


def test_parts_of_other_data_do_not_make_a_model() -> None:
    part = trained(train=[1])
    other = model(source := GaussianField(GaussianFieldConfig(size=8, points=300, seed=1)), train=[2])
    fit(other, source.load("train"), other.training_config)
    with pytest.raises(ConfigError, match="the parts were trained on different data"):
        model(parts=[part, other])
    near = trained(train=[2])
    near.moments.variance.mul_(1 + 1e-6)  # what another machine's rounding leaves
    assert model(parts=[part, near]).trained == (0, 1)


def test_a_part_answers_for_its_own_scales_alone() -> None:
    part = trained(train=[2]).eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.isfinite(part.score(x, torch.full((2,), 0.5))).all()
    with pytest.raises(ConfigError, match="scale 1 of this model was not trained; trained are 2"):
        part.score(x, torch.full((2,), 0.1))


def test_an_image_as_the_condition_shrinks_with_the_scale() -> None:
    spec = DataSpec((1, 8, 8), EventScale(), TensorSpec((1, 8, 8)))
    built = model(spec)
    shapes = [dict(each.network.spec)["condition"].shape for each in built.networks]
    assert shapes == [(1, 8, 8), (1, 4, 4), (1, 2, 2)]
    x, condition = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    assert built.score(x, torch.tensor([0.1, 0.5, 0.9]), condition).shape == x.shape
    assert built.sample(2, condition, steps=6).shape == (2, 3, 1, 8, 8)


def conditional(kind: str, spec: Any, **settings: Any) -> Any:
    if kind == "multiscale":
        return model(DataSpec((8, 8), EventScale(), spec), **settings).eval()
    config = NonUniformConfig.model_validate({"network": network(), **settings})
    return NonUniform(config, data=DataSpec((8, 8), EventScale(), spec)).eval()


@pytest.mark.parametrize("kind", ["multiscale", "nonuniform"])
def test_a_condition_may_be_of_another_precision_or_whole_numbers(kind: str) -> None:
    built = conditional(kind, {"mask": TensorSpec((8, 8)), "class": TensorSpec((), 10)})
    mask, label, draws = torch.rand(3, 8, 8) > 0.5, torch.tensor([1, 2, 9]), []
    for given in (mask.float(), mask.double(), mask.long(), mask):
        generator = torch.Generator().manual_seed(0)
        draws.append(built.sample(2, {"mask": given, "class": label}, steps=6, generator=generator))
    assert all(torch.equal(x, draws[0]) for x in draws)
    assert draws[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize("kind", ["multiscale", "nonuniform"])
def test_a_condition_that_does_not_fit_is_refused_in_its_own_words(kind: str) -> None:
    built, label = conditional(kind, TensorSpec((), 10)), torch.tensor([1, 2])
    with pytest.raises(ConfigError, match="trained with a condition and got none"):
        built.sample(1, steps=6)
    with pytest.raises(ShapeError, match=r"the condition has shape \(2, 1\); expected \(B\)"):
        built.sample(1, label[:, None], steps=6)
    with pytest.raises(ConfigError, match="guidance needs that too"):
        built.sample(1, label, guidance=2.0, steps=6)
    with pytest.raises(ShapeError, match="a condition was given to a model that takes none"):
        conditional(kind, None).sample(1, label, steps=6)


@pytest.mark.parametrize("kind", ["multiscale", "nonuniform"])
def test_guidance_mixes_in_the_score_without_the_condition(kind: str) -> None:
    """Trained with conditions left out, it has the null condition's score, and guidance is the mixture of the two."""
    spec = {"mask": TensorSpec((8, 8)), "class": TensorSpec((), 3)}
    built = conditional(kind, spec, condition_dropout=0.5)
    stir(built, torch.Generator().manual_seed(1))
    x, t = torch.randn(4, 8, 8), torch.full((4,), 0.2)
    given = {"mask": torch.rand(4, 8, 8), "class": torch.tensor([0, 1, 2, 0])}
    null = {"mask": torch.zeros(4, 8, 8), "class": torch.full((4,), 3)}
    with_it, without = built.score(x, t, given), built.score(x, t, None)
    torch.testing.assert_close(without, built.score(x, t, null))
    assert not torch.allclose(with_it, without)
    torch.testing.assert_close(built.bind(given, guidance=3.0)(x, t), 3 * with_it - 2 * without, rtol=1e-4, atol=1e-4)
    seen = []
    network = built.networks[0].network if kind == "multiscale" else built.network
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[2]["class"]))
    progress: Any = type("At", (), {"phase": "scale-1"})
    batch = Dataset(x, given).take(torch.arange(4).repeat(50))
    built.loss(batch, progress=progress, generator=torch.Generator().manual_seed(0))
    assert 70 < int((seen[0] == 3).sum()) < 130


def test_noise_relative_to_the_data_is_so_in_either_construction() -> None:
    source = DataSpec((1, 8, 8), EventScale(std=0.1))
    relative = {"name": "ve", "relative": True, "sigma_min": 0.01, "sigma_max": 2.0}
    for settings in ({}, {"construction": "published", "boundary": "normal"}):
        _, scale = model(source, process=relative, **settings).coefficients.block_coefficients(torch.ones(1))
        torch.testing.assert_close(scale, torch.full((1, 3), 2.0 * 0.1 * 8))


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
    built.sample(2, steps=(5, 3, 2), sampler="ddim")  # from the coarsest
    assert calls == [2, 3, 5]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: model(ends=[0.5, 1.0]), "there are 2 ends, 0.5, 1, and 3 bands"),
        (lambda: model(ends=[0.5, 0.5, 1.0]), "between two equal ends has no time"),
        (lambda: model(networks=(network(),)), "there are 1 networks and 3 scales"),
        (lambda: model(train=[4]), "train names scale 4; there are 3"),
        (lambda: model(scale_steps=[5, 5]), "scale_steps has 2 numbers; there are 3 scales"),
        (lambda: model(network={"use": "network:mlp"}), "which is not built"),
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


def test_a_band_that_never_changes_is_refused() -> None:
    built = model()
    with pytest.raises(DataError, match="the band d1 is the same in all 20 training points"):
        built.prepare(Dataset(torch.randn(20, 1, 1, 1).expand(20, 1, 8, 8).contiguous()), torch.Generator())


def test_a_band_of_nothing_but_rounding_is_refused() -> None:
    """20 points have 19 principal axes; the others are 0 to rounding."""
    built = model(bands={"name": "pca", "groups": 3})
    with pytest.raises(DataError, match="the band g1 is the same in all 20 training points"):
        built.prepare(Dataset(torch.randn(20, 1, 8, 8)), torch.Generator())


def test_a_budget_that_leaves_nothing_to_learn_is_refused() -> None:
    source = field()
    built = model(source, boundary_kl=1e6)
    with pytest.raises(ConfigError, match="lower boundary_kl"):
        built.prepare(source.load("train"), torch.Generator())
