"""Reconstructions and generated events, held to real ones, on a linear code whose every answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from latent_toys import Linear, Noisy, events, normal
from lpips_weights import write_lpips
from torch import Tensor, nn
from verb_toys import Normal, Source, checked, context

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, EventScale, StreamedDataset
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import Loss, Progress, Trainable
from scorefold.stage import Outcome
from scorefold_toolkit.figures import samples
from scorefold_toolkit.metrics import LPIPS, energy_distance, frechet_distance, psnr, sharpness, ssim
from scorefold_verbs.config import GenerateOptions, ReconstructOptions
from scorefold_verbs.figures import reconstructions
from scorefold_verbs.fit import fit as verb_fit
from scorefold_verbs.latents.reconstruct import generate, quick_error, reconstruct

SHAPE, IMAGE = (6,), (1, 12, 12)
GAINS, DEVIATIONS = (1.0, 0.8, 0.5), (0.3, 0.6, 0.9)
BOUNDED = EventScale(low=-2.0, high=2.0, mean=0.0, std=1.0)


def linear(shape: tuple[int, ...] = SHAPE) -> Linear:
    return Linear(shape, GAINS, DEVIATIONS)


def run(verb: Any, model: Any, source: Any, options: Any, **given: Any) -> Outcome:
    inputs = {} if source is None else {"data": source}
    outcome: Outcome = verb(model, inputs, options, context(dtype=torch.float64, **given))
    checked(outcome)
    return outcome


def residual() -> float:
    """R, the variance of events given their code: s^2 / (g^2 + s^2) where there is a unit, 1 where there is none."""
    return 3 + sum(s**2 / (g**2 + s**2) for g, s in zip(GAINS, DEVIATIONS, strict=True))


# Reconstruction.


def test_draws_of_the_posterior_pay_twice_its_variance_and_their_mean_less() -> None:
    """One draw of x given z is off by 2 R in mean square, the mean of N independent draws by R (1 + 1/N).

    The last four of 8 draws have the opposite noise of the first. With k of them, the noise of 4 - k is left.
    """
    options = ReconstructOptions(codes="drawn", draws=8)
    outcome = run(reconstruct, linear(), events(SHAPE, test=4000), options)
    metrics = outcome.result["metrics"]
    assert metrics["root-mean-square distance"] == pytest.approx(math.sqrt(2 * residual()), rel=0.02)
    name = "root-mean-square distance of the mean of 8 draws"
    assert metrics[name] == pytest.approx(math.sqrt(residual()), rel=0.02)
    curve = outcome.arrays["root-mean-square distance by draws"]
    expected = [math.sqrt(residual() * (1 + min(n, 8 - n) / n**2)) for n in range(1, 9)]
    assert curve.tolist() == pytest.approx(expected, rel=0.03)
    assert "note" not in outcome.result
    assert outcome.result["answer"]["value"] == pytest.approx(math.sqrt(2 * residual() / 6), rel=0.02)


def test_numbers_are_those_of_the_events_themselves() -> None:
    """Everything that is measured, again from the arrays."""
    source = events(IMAGE, scale=BOUNDED, test=40, train=90)
    outcome = run(reconstruct, linear(IMAGE), source, ReconstructOptions(batch_size=7))
    x, back = source.load("test").x, outcome.arrays["reconstructions"]
    assert back.shape == x.shape
    metrics = outcome.result["metrics"]
    torch.testing.assert_close(outcome.arrays["L2"], (back - x).flatten(1).norm(dim=1))
    assert metrics["L2"] == pytest.approx(float(outcome.arrays["L2"].mean()))
    clipped = back.clamp(-2, 2)
    assert metrics["PSNR (dB)"] == pytest.approx(float(psnr(clipped, x, 4.0).mean()))
    assert metrics["SSIM"] == pytest.approx(float(ssim((clipped + 2) / 4, (x + 2) / 4).mean()))
    ratio = sharpness(clipped).mean() / sharpness(x).mean()
    assert metrics["sharpness relative to the originals"] == pytest.approx(float(ratio))
    pixels = run(reconstruct, linear(IMAGE), source, ReconstructOptions(features="pixels")).result
    name = "Frechet distance (pixels)"
    unit = (clipped.flatten(1) + 2) / 4, (x.flatten(1) + 2) / 4
    assert pixels["metrics"][name] == pytest.approx(frechet_distance(*unit))
    other = (source.load("train").x[:40].flatten(1) + 2) / 4
    floor = pixels["metrics"]["Frechet distance of other real events (pixels)"]
    assert floor == pytest.approx(frechet_distance(other, unit[1]))
    worse, few = pixels["warnings"][:2]
    assert "as far from the events as the mean" in worse
    assert "40 points of 144 features" in few


def test_the_relative_error_is_that_of_one_decoding() -> None:
    """As the verb has answered since it was there: the code's mean, decoded once by the stage's generator."""
    source, model = events(SHAPE), linear()
    x = source.load("test").x
    back = model.decode(model.encode(x), generator=context().generator("reconstruct"))
    expected = (back - x).norm() / (x - x.mean(0)).norm()
    outcome = run(reconstruct, model, source, ReconstructOptions())
    answer = outcome.result["answer"]
    assert (answer["quantity"], answer["value"]) == ("relative reconstruction error", pytest.approx(float(expected)))
    torch.testing.assert_close(outcome.arrays["reconstructions"], back)


@pytest.mark.parametrize(("offset", "warned"), [(0.0, False), (9.0, True)])
def test_reconstructions_worse_than_the_mean_are_reported(offset: float, warned: bool) -> None:
    class Off(Linear):
        def decode(self, z: Tensor, **options: Any) -> Tensor:
            return super().decode(z, **options) + offset

    outcome = run(reconstruct, Off(SHAPE, GAINS, DEVIATIONS), events(SHAPE, test=100), ReconstructOptions())
    found = [text for text in outcome.result.get("warnings", []) if "as far from the events as the mean" in text]
    assert bool(found) == warned


@pytest.mark.parametrize(
    ("offset", "warned"),
    [(0.0, ""), (9.0, "as far from the events as the mean"), (math.nan, "are not finite")],
)
def test_a_training_says_what_its_reconstructions_are_worth(offset: float, warned: str) -> None:
    class Trained(Linear, Trainable):
        training_config = TrainingConfig(steps=1, warmup=0)

        def decode(self, z: Tensor, **options: Any) -> Tensor:
            return super().decode(z, **options) + offset

        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            return Loss(self.weight.square())

    model = Trained(SHAPE, GAINS, DEVIATIONS)
    model.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
    data = events(SHAPE, train=100, test=100)
    outcome = verb_fit(model, {"data": data}, None, context(dtype=torch.float64))
    found = outcome.result.get("warnings", [])
    assert [warned in text for text in found] == ([True] if warned else [])
    given = outcome.result["metrics"].get("relative reconstruction error")
    assert given is None if math.isnan(offset) else (given < math.sqrt(2)) == (not warned)


def test_what_cannot_be_decoded_loses_no_training() -> None:
    class Undecoded(Linear):
        def decode(self, z: Tensor, **options: Any) -> Tensor:
            raise ConfigError("it needs a condition")

    model, x = Undecoded(SHAPE, GAINS, DEVIATIONS), torch.randn(8, *SHAPE, dtype=torch.float64)
    found = quick_error(model, x, torch.Generator().manual_seed(0))
    assert found == (None, ["reconstructions can't be measured: it needs a condition"])


def test_a_code_is_drawn_once_for_all_its_draws() -> None:
    sure = Linear(SHAPE, GAINS, DEVIATIONS)
    options = ReconstructOptions(codes="drawn", draws=3, decoding={"strength": 0.0})
    outcome = run(reconstruct, sure, events(SHAPE), options)
    curve = outcome.arrays["root-mean-square distance by draws"]
    torch.testing.assert_close(curve, curve[:1].expand(3))
    assert outcome.result["note"] == "the decoder is deterministic: all samples of a code are equal"
    assert set(reconstructions(outcome.drawn)) == {"reconstructions"}
    mean = run(reconstruct, sure, events(SHAPE), ReconstructOptions(decoding={"strength": 0.0}))
    assert float(curve[0]) > mean.result["metrics"]["root-mean-square distance"] + 0.05


def test_a_blurred_mean_is_seen_by_its_sharpness_and_its_frechet_distance() -> None:
    source = events(IMAGE, test=300, train=300)
    metrics = run(reconstruct, linear(IMAGE), source, ReconstructOptions(codes="drawn", draws=3)).result["metrics"]
    assert metrics["sharpness relative to the originals"] == pytest.approx(1.0, abs=0.05)
    # White noise: of 3 draws the third has the opposite noise of the first, so that a ninth of its power is left.
    assert metrics["sharpness of the mean of 3 draws relative to the originals"] == pytest.approx(1 / 9, abs=0.02)
    floor = metrics["Frechet distance of other real events (random-conv)"]
    assert metrics["Frechet distance (random-conv)"] < 3 * floor
    assert metrics["Frechet distance of the mean of 3 draws (random-conv)"] > 10 * floor


def test_without_another_split_the_floor_is_between_the_halves() -> None:
    held = events(SHAPE, test=41).load("test")
    metrics = run(reconstruct, linear(), Source(test=held), ReconstructOptions(batch_size=6)).result["metrics"]
    halves = [[], []]  # type: list[list[Tensor]]
    for batch in held.x.split(6):
        halves[0].append(batch[0::2])
        halves[1].append(batch[1::2])
    expected = frechet_distance(*(torch.cat(half) for half in halves))
    assert metrics["Frechet distance of other real events (coordinates)"] == pytest.approx(expected)
    assert metrics["Frechet points, other real events"] == 21


def test_the_training_split_is_held_to_the_test_split() -> None:
    source = events(SHAPE, test=60, train=50)
    outcome = run(reconstruct, linear(), source, ReconstructOptions(), split="train")
    test, train = source.load("test").x, source.load("train").x
    floor = outcome.result["metrics"]["Frechet distance of other real events (coordinates)"]
    assert floor == pytest.approx(frechet_distance(test[:50], train))
    assert outcome.result["metrics"]["points"] == 50


def test_lpips_of_images_from_its_files(tmp_path: Path) -> None:
    shape = (1, 32, 32)
    alexnet, heads = write_lpips(tmp_path)
    source = events(shape, scale=BOUNDED, test=3, train=3)
    options = ReconstructOptions(lpips={"alexnet": str(alexnet), "heads": str(heads)})  # type: ignore[arg-type]
    outcome = reconstruct(linear(shape).float(), {"data": source}, options, context(dtype=torch.float32))
    x = source.load("test").x.float()
    back = outcome.arrays["reconstructions"].clamp(-2, 2)
    expected = LPIPS(alexnet, heads)((back + 2) / 4, (x + 2) / 4).double()
    torch.testing.assert_close(outcome.arrays["LPIPS (AlexNet)"], expected)
    with pytest.raises(ConfigError, match="LPIPS compares images"):
        reconstruct(linear(), {"data": events(SHAPE)}, options, context())


def test_reconstructions_that_cannot_be() -> None:
    source = {"data": events(SHAPE)}
    with pytest.raises(ConfigError, match="features random-conv are of images"):
        reconstruct(linear(), source, ReconstructOptions(features="random-conv"), context())
    with pytest.raises(DataError, match="the decoded events are not finite"):
        reconstruct(linear(), source, ReconstructOptions(decoding={"strength": math.nan}), context())


def test_streamed_points_are_reconstructed_batch_by_batch() -> None:
    source = events(SHAPE)
    test = source.load("test")
    stream = StreamedDataset(x=test.x[:0], fetch=test.take, size=len(test))
    given = Source(test=stream, train=source.load("train"))
    options = ReconstructOptions(batch_size=7, decoding={"strength": 0.0})
    assert run(reconstruct, linear(), given, options).result == run(reconstruct, linear(), source, options).result


@pytest.mark.parametrize("shape", [(1,), SHAPE, (8, 8), IMAGE, (3, 12, 12)])
@pytest.mark.parametrize("draws", [1, 3])
def test_reconstructions_of_any_shape_are_drawn(shape: tuple[int, ...], draws: int) -> None:
    model = Linear(shape, (1.0,), (0.3,))
    figures = reconstructions(run(reconstruct, model, events(shape), ReconstructOptions(draws=draws)).drawn)
    assert set(figures) == ({"reconstructions"} if draws == 1 else {"reconstructions", "draws"})
    axes = figures["reconstructions"].axes[0]
    if len(shape) > 1:
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == (
            ["original", "decoded"] if draws == 1 else ["original", "draw 1", "draw 2", "draw 3", "mean of 3"]
        )
    else:
        assert len(axes.collections) == 2
    for figure in figures.values():
        figure.draw_without_rendering()


def test_what_another_component_makes_of_the_points_stands_beside() -> None:
    source, other = events(IMAGE), Linear(IMAGE, (0.2,), (0.3,))
    outcome = reconstruct(
        Linear(IMAGE, (1.0,), (0.3,)),
        {"data": source, "beside": other},
        ReconstructOptions(shown=3),
        context(dtype=torch.float64),
    )
    shown = outcome.drawn
    drawn = other.decode(other.encode(shown.originals), generator=context(dtype=torch.float64).generator("beside"))
    assert torch.equal(shown.beside, drawn)
    names = [label.get_text() for label in reconstructions(shown)["reconstructions"].axes[0].get_yticklabels()]
    assert names == ["original", "decoded", "other model"]
    plain = run(reconstruct, Linear(IMAGE, (1.0,), (0.3,)), source, ReconstructOptions(shown=3))
    assert outcome.result["answer"] == plain.result["answer"]


# Generation.


class Free(Linear):
    """A code that training held to no distribution."""

    def draw_codes(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return super(Linear, self).draw_codes(n, generator=generator)


def test_events_of_standard_codes_follow_the_distribution_of_the_decoder() -> None:
    outcome = run(generate, linear(), None, GenerateOptions(n=20_000))
    x, codes = outcome.arrays["generated"], outcome.arrays["codes"]
    torch.testing.assert_close(codes.T.cov(), torch.eye(3).double(), atol=0.05, rtol=0)
    weights = [g / (g**2 + s**2) for g, s in zip(GAINS, DEVIATIONS, strict=True)]
    left = [s**2 / (g**2 + s**2) for g, s in zip(GAINS, DEVIATIONS, strict=True)]
    expected = [w**2 + r for w, r in zip(weights, left, strict=True)] + [1.0] * 3
    assert x.var(0).tolist() == pytest.approx(expected, rel=0.05)
    assert torch.equal(outcome.value.load("test").x, x)
    assert outcome.result["metrics"]["events"] == 20_000


@pytest.mark.parametrize("codes", ["gaussian", "mixture"])
def test_events_of_codes_like_those_of_data_are_like_data(codes: Any) -> None:
    """The codes of normal events are N(0, g^2 + s^2), and what is decoded of such is N(0, I) again."""
    source = events(SHAPE, train=4000, test=2000)
    options = GenerateOptions(n=2000, codes=codes, components=2)
    outcome = run(generate, Free(SHAPE, GAINS, DEVIATIONS), source, options)
    spread = [g**2 + s**2 for g, s in zip(GAINS, DEVIATIONS, strict=True)]
    assert outcome.arrays["codes"].var(0).tolist() == pytest.approx(spread, rel=0.15)
    metrics = outcome.result["metrics"]
    assert (
        metrics["Frechet distance (coordinates)"] < 2 * metrics["Frechet distance of other real events (coordinates)"]
    )
    assert abs(metrics["energy distance"]) < 0.02
    of_others = metrics["energy distance of other real events"]
    answer = outcome.result["answer"]
    assert (answer["quantity"], answer["value"]) == ("energy distance", metrics["energy distance"])
    assert answer["baselines"] == {"other real events": of_others}


def test_distances_of_generated_events_are_over_equal_numbers() -> None:
    source = events(SHAPE, test=50, train=80)
    outcome = run(generate, linear(), source, GenerateOptions(n=70, batch_size=16))
    x, real, other = outcome.arrays["generated"][:50], source.load("test").x, source.load("train").x[:50]
    metrics = outcome.result["metrics"]
    assert metrics["Frechet distance (coordinates)"] == pytest.approx(frechet_distance(x, real))
    assert metrics["Frechet distance of other real events (coordinates)"] == pytest.approx(
        frechet_distance(other, real)
    )
    assert metrics["energy distance"] == pytest.approx(energy_distance(x, real))
    assert metrics["energy distance of other real events"] == pytest.approx(energy_distance(other, real))
    assert (metrics["events"], metrics["points"]) == (70, 50)


def test_generated_images_are_held_to_real_ones_by_features_and_sharpness() -> None:
    source = events(IMAGE, scale=BOUNDED, test=200, train=200)
    outcome = run(generate, linear(IMAGE), source, GenerateOptions(n=200, codes="gaussian"))
    metrics = outcome.result["metrics"]
    assert metrics["sharpness relative to the originals"] == pytest.approx(1.0, abs=0.2)
    assert outcome.result["answer"]["quantity"] == "Frechet distance (random-conv)"
    assert "energy distance" not in metrics
    assert float(outcome.drawn.amax()) <= 2.0
    assert float(outcome.arrays["generated"].amax()) > 2.0
    assert outcome.value.event_scale is BOUNDED
    (figure,) = samples(outcome.drawn).values()
    figure.draw_without_rendering()


def test_a_distribution_is_fitted_to_so_many_training_points_in_the_dtype_of_the_model() -> None:
    source = events(SHAPE, train=500)
    wide = run(generate, linear(), source, GenerateOptions(codes="gaussian", fitted=2))
    spread = torch.linalg.eigvalsh(wide.arrays["codes"].T.cov())
    assert wide.arrays["codes"].dtype == torch.float64
    # Two means and the distributions' own deviations: one direction may be wide.
    assert float(spread[1]) < 1.3
    single = generate(
        linear().float(), {"data": source}, GenerateOptions(codes="gaussian"), context(dtype=torch.float32)
    )
    assert single.arrays["generated"].dtype == torch.float32


def test_a_mixture_that_did_not_converge_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.mixture as mixture

    class Hasty(mixture.GaussianMixture):  # type: ignore[misc, name-defined]
        def __init__(self, n_components: int = 1, **settings: Any) -> None:
            super().__init__(n_components, **settings, max_iter=1, tol=1e-12)

    monkeypatch.setattr(mixture, "GaussianMixture", Hasty)
    outcome = run(generate, linear(), events(SHAPE), GenerateOptions(codes="mixture", components=3))
    assert outcome.result["warnings"][0].startswith("the fit of the mixture did not converge")


def test_generations_that_cannot_be() -> None:
    source = {"data": events(SHAPE)}
    with pytest.raises(ConfigError, match="has no distribution of codes") as caught:
        generate(Free(SHAPE, GAINS, DEVIATIONS), source, GenerateOptions(), context())
    assert "codes: gaussian" in str(caught.value)
    with pytest.raises(ConfigError, match="codes: mixture is fitted to the codes of data, and no data were given"):
        generate(linear(), {}, GenerateOptions(codes="mixture"), context())
    bare = Source(test=Dataset(normal(9, 6, seed=1)))
    with pytest.raises(SplitError, match="no train split"):
        generate(linear(), {"data": bare}, GenerateOptions(codes="gaussian"), context())
    with pytest.raises(ConfigError, match="Normal has no latent space: it can't generate"):
        generate(Normal(), {}, GenerateOptions(), context())
    with pytest.raises(DataError, match="not finite"):
        generate(linear(), {}, GenerateOptions(decoding={"strength": math.nan}), context())


def test_what_encodes_noise_is_measured_alike() -> None:
    noisy, plain = Noisy(SHAPE, GAINS, DEVIATIONS), linear()
    for verb, options in ((reconstruct, ReconstructOptions()), (generate, GenerateOptions())):
        assert run(verb, noisy, events(SHAPE), options).result == run(verb, plain, events(SHAPE), options).result
