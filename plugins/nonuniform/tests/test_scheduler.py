"""Our processes inside diffusers: the steps of core's samplers, diffusers' own where both can take them, its pipelines,
and what is saved."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DModel,
)
from torch import Tensor

from scorefold.data import TensorSpec
from scorefold.diffusion import (
    SAMPLERS,
    VE,
    VP,
    DiffusionProcess,
    GeometricVE,
    IsotropicProcess,
    LinearLogSNR,
    MatrixProcess,
    PerComponent,
    Rotated,
    time_grid,
)
from scorefold.diffusion.process import expand
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import ScoreModel
from scorefold_nonuniform.band_config import HaarBandsConfig
from scorefold_nonuniform.bands import build_bands
from scorefold_nonuniform.denoiser import Denoiser, ScoreUNet
from scorefold_nonuniform.scheduler import PREDICTIONS, NonUniformScheduler
from scorefold_standard.scores.diffusers import DiscreteVP

SHAPE = (2, 8, 8)
BANDED: dict[str, Any] = {"process": "log-snr", "bands": {"name": "haar", "levels": 2}, "event_shape": SHAPE}


class GaussianScore(ScoreModel):
    """The score of independent coordinates of mean 0.3 and deviation 0.6, in pixels; exact for processes of them."""

    def __init__(self, process: DiffusionProcess, spec: TensorSpec | None = None) -> None:
        super().__init__(process, SHAPE, spec)
        self.register_buffer("like", torch.zeros(()))

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t, condition)
        inner, turn, back = components(self.process)
        z, mean = turn(x), turn(torch.full_like(x, 0.3))
        signal, scale = inner.coefficients(z, t)
        answer: Tensor = back((signal * mean - z) / ((0.6 * signal) ** 2 + scale**2))
        return answer


def components(process: DiffusionProcess) -> tuple[Any, Any, Any]:
    """The process of independent components, the way to them, and the way back."""
    if isinstance(process, Rotated):
        return process.inner, process.transform, process.transform.inverse
    return process, lambda x: x, lambda x: x


def speeds() -> PerComponent:
    ends = torch.linspace(0.4, 1.0, 128, dtype=torch.float64).reshape(SHAPE)
    return PerComponent(SHAPE, LinearLogSNR(8.0, -8.0, ends.round(decimals=1)))


def banded() -> Rotated:
    bands = build_bands(HaarBandsConfig(), SHAPE).double()
    lam = torch.tensor([10.0, 9.0, 8.0], dtype=torch.float64)
    ends = torch.tensor([0.3, 0.6, 1.0], dtype=torch.float64)
    return Rotated(PerComponent(SHAPE, LinearLogSNR(lam, -lam, ends), blocks=bands.index), bands.transform)


PROCESSES = {"vp": VP, "ve": lambda: VE(0.01, 20.0), "speeds": speeds, "bands": banded}


def start(process: DiffusionProcess, count: int = 3) -> Tensor:
    like = torch.zeros((), dtype=torch.float64)
    return process.sample_prior((count, *SHAPE), generator=torch.Generator().manual_seed(0), like=like)


def driven(scheduler: NonUniformScheduler, network: Any, x: Tensor, steps: Any, **options: Any) -> Tensor:
    """As a pipeline drives a scheduler."""
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
    return x


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m", "euler-maruyama"])
def test_steps_are_those_of_our_samplers(name: str, sampler: str) -> None:
    process = PROCESSES[name]()
    model = GaussianScore(process).double()
    x = start(process)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    expected, _ = SAMPLERS[sampler](model.score, process, x, time_grid(process, 12), generator=generators[0])
    scheduler = NonUniformScheduler(process, sampler=sampler)
    network = ScoreUNet(model)
    found = driven(scheduler, lambda x, t: network(x, t).sample, x, 12, generator=generators[1])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert float((found - x).abs().mean()) > 0.1


def test_history_goes_on_from_scale_to_scale() -> None:
    """Started afresh at each scale, the second order is lost there and the answer is another."""
    process = banded()
    network = ScoreUNet(GaussianScore(process).double())
    x = start(process)
    scheduler = NonUniformScheduler(process)
    whole = driven(scheduler, lambda x, t: network(x, t).sample, x, [4, 4, 4])
    scheduler.set_timesteps([4, 4, 4])
    for index, t in enumerate(scheduler.timesteps):
        if index in (4, 8):
            scheduler._history = None
        x = scheduler.step(network(x, t).sample, t, x).prev_sample
    assert float((x - whole).abs().max()) > 1e-3


@pytest.mark.parametrize("name", PROCESSES)
def test_predictions_mean_the_same(name: str) -> None:
    """Epsilon, v and sample of one score lead to one sample, and the expected datum is that of the score."""
    process = PROCESSES[name]()
    model = GaussianScore(process).double()
    network = ScoreUNet(model)
    x = start(process)
    inner, turn, back = components(process)

    def answers(kind: str, scheduler: NonUniformScheduler) -> Any:
        def answer(x: Tensor, label: Tensor) -> Tensor:
            t = scheduler._time_of(label, x).expand(len(x))
            noise, datum = network(x, label).sample, model.denoise(x, t)
            if kind == "epsilon":
                return noise
            if kind == "sample":
                return datum
            signal, scale = inner.coefficients(turn(x), t)
            return back((signal * turn(noise) - scale * turn(datum)) / (signal**2 + scale**2).sqrt())

        return answer

    ends = {}
    for kind in PREDICTIONS:
        scheduler = NonUniformScheduler(process, prediction_type=kind, sampler="ddim")
        ends[kind] = driven(scheduler, answers(kind, scheduler), x, 9)
        scheduler.set_timesteps(9)
        t = scheduler.timesteps[0]
        taken = scheduler.step(answers(kind, scheduler)(x, t), t, x)
        expected = model.denoise(x, scheduler._time_of(t, x).expand(len(x)))
        torch.testing.assert_close(taken.pred_original_sample, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ends["sample"], ends["epsilon"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ends["v_prediction"], ends["epsilon"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_on_one_of_their_processes_we_take_their_steps(eta: float) -> None:
    """diffusers' DDIM over every timestep, with the same network and the same noise."""
    theirs = DDIMScheduler(num_train_timesteps=20, clip_sample=False, set_alpha_to_one=False)
    ours = NonUniformScheduler(
        IsotropicProcess(DiscreteVP(theirs.alphas_cumprod)), sampler="ddim", num_train_timesteps=20
    )
    unet = network(sample_size=8)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        draws = torch.Generator().manual_seed(2)
        mine = driven(ours, lambda x, t: unet(x, t).sample, x, 19, eta=eta, generator=draws)
        theirs.set_timesteps(20)
        draws = torch.Generator().manual_seed(2)
        # Their last step, from timestep 0, goes nowhere.
        for t in theirs.timesteps[:-1]:
            x = theirs.step(unet(x, t).sample, t, x, eta=eta, generator=draws).prev_sample
    torch.testing.assert_close(mine, x, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_our_second_order_steps_are_theirs() -> None:
    """DPM-Solver++(2M) on a grid that both have, up to the last step, where ours is of first order: it is more than
    twice as long as the one before."""
    theirs = DPMSolverMultistepScheduler(
        num_train_timesteps=101, lower_order_final=False, final_sigmas_type="sigma_min", timestep_spacing="linspace"
    )
    process = IsotropicProcess(DiscreteVP(theirs.alphas_cumprod))
    ours = NonUniformScheduler(process, num_train_timesteps=101)
    unet = network(sample_size=8)
    x = mine = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for each in (ours, theirs):
        each.set_timesteps(10)
    torch.testing.assert_close(ours.timesteps.round().long(), theirs.timesteps)
    with torch.no_grad():
        for t in theirs.timesteps[:-1]:
            x = theirs.step(unet(x, t).sample, t, x).prev_sample
            mine = ours.step(unet(mine, t).sample, t, mine).prev_sample
            torch.testing.assert_close(mine, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["ve", "speeds", "bands"])
def test_noisy_ddim_keeps_the_law(name: str) -> None:
    """Where all data are one point, a step from the law of x_t leads to that of x_t'; components at rest stay."""
    process = PROCESSES[name]()
    inner, turn, _ = components(process)
    scheduler = NonUniformScheduler(process, sampler="ddim", prediction_type="sample")
    scheduler.set_timesteps(8)
    datum = torch.full((1, *SHAPE), 0.3, dtype=torch.float64)
    draws = torch.Generator().manual_seed(0)
    for index in (0, 3, 6):
        t, t_next = scheduler._times[index : index + 1], scheduler._times[index + 1 : index + 2]
        noise = torch.randn(4000, *SHAPE, generator=draws, dtype=torch.float64)
        x = process.perturb(datum.expand(4000, *SHAPE), t.expand(4000), noise)
        label = scheduler.timesteps[index]
        z = turn(scheduler.step(datum.expand_as(x), label, x, eta=1.0, generator=draws).prev_sample)
        signal, scale = inner.coefficients(datum, t_next)
        off = (z - signal * turn(datum)) / scale
        assert float(off.mean(0).abs().max()) < 0.08
        assert float(off.std(0).sub(1).abs().max()) < 0.06
        rests = (expand(inner.log_snr(t), x) == expand(inner.log_snr(t_next), x)).expand(1, *SHAPE)[0]
        signal, scale = inner.coefficients(datum, t)
        before = (turn(x) - signal * turn(datum)) / scale
        assert float((before * off).mean(0)[~rests].max()) < 0.99
        torch.testing.assert_close(off[:, rests], before[:, rests], rtol=1e-6, atol=1e-6)


def test_noise_and_velocity_are_theirs() -> None:
    theirs = DDPMScheduler(num_train_timesteps=50)
    ours = NonUniformScheduler(IsotropicProcess(DiscreteVP(theirs.alphas_cumprod)), num_train_timesteps=50)
    x, noise = torch.randn(2, 4, *SHAPE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 7, 30, 49])
    torch.testing.assert_close(ours.add_noise(x, noise, t), theirs.add_noise(x, noise, t), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.get_velocity(x, noise, t), theirs.get_velocity(x, noise, t), rtol=1e-4, atol=1e-4)
    assert len(ours) == len(theirs)


def test_noise_of_bands_is_in_their_coefficients() -> None:
    process = banded()
    scheduler = NonUniformScheduler(process)
    x, noise = torch.randn(2, 2, *SHAPE, dtype=torch.float64)
    label = torch.tensor([0.3 * 999, 0.5 * 999])
    z = process.transform(scheduler.add_noise(x, noise, label))
    finest = process.inner.index == 0
    at_end = LinearLogSNR(10.0, -10.0, 0.3).signal_scale(torch.tensor(0.3, dtype=torch.float64))
    expected = at_end[0] * process.transform(x) + at_end[1] * process.transform(noise)
    torch.testing.assert_close(z[:, finest], expected[:, finest], rtol=1e-6, atol=1e-6)
    assert float((z - expected)[:, ~finest].abs().max()) > 0.1
    velocity = process.transform(scheduler.get_velocity(x, noise, label))
    turned = at_end[0] * process.transform(noise) - at_end[1] * process.transform(x)
    torch.testing.assert_close(velocity[:, finest], turned[:, finest], rtol=1e-6, atol=1e-6)


def network(**changes: Any) -> UNet2DModel:
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "sample_size": (8, 8),
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "add_attention": False,
    }
    return UNet2DModel(**{**settings, **changes}).eval()


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


SCHEDULERS: dict[str, dict[str, Any]] = {
    "uniform": {"process": {"name": "vp"}},
    "haar": {**BANDED, "event_shape": (3, 8, 8), "ends": [0.3, 0.7, 1.0], "deviation": 0.5},
    "fourier": {"process": "cosine", "bands": "fourier", "event_shape": (3, 8, 8), "clip_sample": True},
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m", "ancestral"])
def test_stock_pipelines_run_with_our_scheduler(name: str, sampler: str) -> None:
    scheduler = NonUniformScheduler(**SCHEDULERS[name], sampler=sampler)
    assert scheduler.init_noise_sigma == 1
    pipeline = quiet(DDPMPipeline(unet=network(), scheduler=scheduler))
    first, again = (
        pipeline(2, torch.Generator().manual_seed(0), num_inference_steps=7, output_type="pt").images for _ in range(2)
    )
    assert first.shape == (2, 3, 8, 8)
    assert torch.equal(first, again)
    assert float(first.std()) > 0
    picture = pipeline(1, torch.Generator().manual_seed(0), num_inference_steps=3).images[0]
    assert picture.size == (8, 8)


def test_their_ddim_pipeline_takes_our_scheduler_once_it_is_built() -> None:
    """Its constructor turns any scheduler into its own, so ours is set afterwards."""
    pipeline = quiet(DDIMPipeline(unet=network(), scheduler=DDIMScheduler()))
    pipeline.scheduler = NonUniformScheduler(**SCHEDULERS["haar"], sampler="ddim")
    images = pipeline(2, torch.Generator().manual_seed(0), num_inference_steps=6, output_type="pt").images
    other = quiet(DDPMPipeline(unet=network(), scheduler=NonUniformScheduler(**SCHEDULERS["haar"], sampler="ddim")))
    expected = other(2, torch.Generator().manual_seed(0), num_inference_steps=6, output_type="pt").images
    assert torch.equal(images, expected)
    noisy = pipeline(2, torch.Generator().manual_seed(0), eta=0.5, num_inference_steps=6, output_type="pt").images
    assert not torch.equal(noisy, images)
    pipeline.scheduler = NonUniformScheduler("vp")
    with pytest.raises(ConfigError, match=r"eta is 0\.5, and the sampler 'dpmpp-2m' has none"):
        pipeline(1, eta=0.5, num_inference_steps=6)


@pytest.mark.parametrize("name", ["vp", "speeds", "bands"])
def test_a_score_of_ours_is_a_network_of_their_pipelines(name: str) -> None:
    """It gives the images that our sampler draws from the same noise."""
    process = PROCESSES[name]()
    model = GaussianScore(process).double()
    scheduler = NonUniformScheduler(process, num_train_timesteps=200)
    pipeline = quiet(DDPMPipeline(unet=ScoreUNet(model, 200), scheduler=scheduler))
    images = pipeline(3, torch.Generator().manual_seed(5), num_inference_steps=10, output_type="pt").images
    noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected, _ = SAMPLERS["dpmpp-2m"](model.score, process, noise, time_grid(process, 10))
    torch.testing.assert_close(images, (expected / 2 + 0.5).clamp(0, 1), rtol=1e-8, atol=1e-8)
    assert (pipeline.unet.dtype, pipeline.unet.device.type) == (torch.float64, "cpu")


def test_equal_speeds_are_the_uniform_process() -> None:
    """One speed for all bands of a transform gives the samples of the isotropic process."""
    one = PerComponent(SHAPE, LinearLogSNR(10.0, -10.0))
    turned = Rotated(PerComponent(SHAPE, LinearLogSNR(10.0, -10.0)), build_bands(HaarBandsConfig(), SHAPE).transform)
    uniform = IsotropicProcess(LinearLogSNR(10.0, -10.0))
    x = start(uniform).float()
    unet = network(in_channels=2, out_channels=2)
    ends = []
    with torch.no_grad():
        for process in (uniform, one, turned):
            ends.append(driven(NonUniformScheduler(process), lambda x, t: unet(x, t).sample, x, 8))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ends[2], ends[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_is_described_is_saved(name: str, tmp_path: Path) -> None:
    scheduler = NonUniformScheduler(**SCHEDULERS[name], sampler="ddim", prediction_type="v_prediction")
    scheduler.save_pretrained(tmp_path)
    loaded = NonUniformScheduler.from_pretrained(tmp_path)
    assert {k: v for k, v in loaded.config.items() if k[0] != "_"} == {
        k: v for k, v in scheduler.config.items() if k[0] != "_"
    }
    x = torch.randn(2, 3, 8, 8)
    for each in (scheduler, loaded):
        each.set_timesteps(6)
    assert torch.equal(loaded.timesteps, scheduler.timesteps)
    taken = [each.step(x / 2, each.timesteps[0], x).prev_sample for each in (scheduler, loaded)]
    assert torch.equal(*taken)
    faster = NonUniformScheduler.from_config(loaded.config, sampler="dpmpp-2m")
    assert (faster.config.sampler, faster.config.prediction_type) == ("dpmpp-2m", "v_prediction")


def test_a_process_made_in_python_is_given_again(tmp_path: Path) -> None:
    scheduler = NonUniformScheduler(speeds(), num_train_timesteps=77)
    assert "speeds" not in repr(scheduler)
    scheduler.save_config(tmp_path)
    config = NonUniformScheduler.load_config(tmp_path)
    with pytest.raises(ConfigError, match="this config holds none") as told:
        NonUniformScheduler.from_config(config)
    assert "from_config(config, process=...)" in str(told.value.hint)
    assert len(NonUniformScheduler.from_config(config, process=speeds())) == 77


def test_a_pipeline_is_saved_with_our_scheduler(tmp_path: Path) -> None:
    pipeline = quiet(DDPMPipeline(unet=network(), scheduler=NonUniformScheduler(**SCHEDULERS["fourier"])))
    pipeline.save_pretrained(tmp_path)
    loaded = quiet(DDPMPipeline.from_pretrained(tmp_path))
    assert isinstance(loaded.scheduler, NonUniformScheduler)
    images = [
        each(1, torch.Generator().manual_seed(0), num_inference_steps=5, output_type="pt").images
        for each in (pipeline, loaded)
    ]
    # The same weights at other addresses give other last digits.
    torch.testing.assert_close(*images, rtol=0, atol=1e-3)


def test_the_noise_to_start_from() -> None:
    assert NonUniformScheduler("vp").init_noise_sigma == 1
    assert NonUniformScheduler({"name": "ve", "sigma_max": 30.0}).init_noise_sigma == 30
    scales = torch.full(SHAPE, 5.0)
    scales[0] = 20.0
    exploding = PerComponent(SHAPE, GeometricVE(torch.full(SHAPE, 0.01), scales))
    assert torch.equal(NonUniformScheduler(exploding).init_noise_sigma, scales)
    turned = Rotated(exploding, build_bands(HaarBandsConfig(), SHAPE).transform)
    scheduler = NonUniformScheduler(turned)
    with pytest.raises(ConfigError, match="no multiple of white noise") as told:
        _ = scheduler.init_noise_sigma
    assert "sample_prior" in str(told.value.hint)
    drawn = scheduler.sample_prior((2000, *SHAPE), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned.transform(drawn).std(0), scales, rtol=0.1, atol=0)


def test_inputs_can_be_given_unit_size() -> None:
    scheduler = NonUniformScheduler(banded(), sigma_data=0.6)
    x0 = 0.6 * torch.randn(4000, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(4000, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for label in (10.0, 290.0, 800.0):
        shown = scheduler.scale_model_input(scheduler.add_noise(x0, noise, torch.tensor([label])), label)
        assert float(shown.std(0).sub(1).abs().max()) < 0.06
    assert torch.equal(NonUniformScheduler("vp").scale_model_input(x0, 5.0), x0)


def test_expected_data_are_clipped_in_pixels() -> None:
    scheduler = NonUniformScheduler(**BANDED, clip_sample=True, clip_sample_range=0.5, sampler="ddim")
    scheduler.set_timesteps(6)
    x = 3 * torch.randn(2, *SHAPE)
    original = scheduler.step(torch.zeros_like(x), scheduler.timesteps[4], x).pred_original_sample
    assert float(original.abs().max()) == pytest.approx(0.5)


def test_half_precision_and_learned_variances() -> None:
    scheduler = NonUniformScheduler(**BANDED)
    scheduler.set_timesteps(6)
    x, answer = torch.randn(2, *SHAPE), torch.randn(2, 4, 8, 8)
    t = scheduler.timesteps[0]
    half = scheduler.step(answer.half(), t.half(), x.half()).prev_sample
    assert half.dtype == torch.float16
    scheduler.set_timesteps(6)
    whole = scheduler.step(answer[:, :2], t, x, return_dict=False)
    torch.testing.assert_close(half.float(), whole[0], rtol=1e-2, atol=1e-2)
    assert len(whole) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no process was given"),
        ({"process": "vp", "sampler": "heun"}, "sampler is 'heun'"),
        ({"process": "vp", "prediction_type": "score"}, "prediction_type is 'score'"),
        ({"process": "vp", "num_train_timesteps": 1}, "num_train_timesteps is 1"),
        ({"process": "vpp"}, "the process or its bands"),
        ({"process": "vp", "ends": [0.5, 1]}, "ends were given without bands"),
        ({"process": "log-snr", "bands": "haar"}, "without event_shape"),
        ({"process": "log-snr", "bands": "pca", "event_shape": (9,)}, "made from data"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NonUniformScheduler(**settings)


def test_what_a_step_refuses() -> None:
    scheduler = NonUniformScheduler("vp", sampler="ancestral")
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ConfigError, match="before the timesteps were set"):
        scheduler.step(x, 3.0, x)
    scheduler.set_timesteps(5)
    with pytest.raises(ConfigError, match="no timestep 500 on this grid"):
        scheduler.step(x, 500.0, x)
    with pytest.raises(ConfigError, match="a list of 1 generators"):
        scheduler.step(x, scheduler.timesteps[0], x, generator=[torch.Generator()])
    pair = torch.eye(2, dtype=torch.float64)
    with pytest.raises(ConfigError, match="couples its components"):
        NonUniformScheduler(MatrixProcess(-pair, pair))


@pytest.mark.parametrize("name", PROCESSES)
def test_a_denoiser_is_the_expected_datum(name: str) -> None:
    """Of N(0.3, 0.6^2) coordinates with noise sigma: (0.36 x + 0.3 sigma^2) / (0.36 + sigma^2), in coefficients."""
    process = PROCESSES[name]()
    denoiser = Denoiser(GaussianScore(process).double())
    times = torch.tensor([0.05, 0.2, 0.5, 0.9], dtype=torch.float64)
    sigma = denoiser.sigmas(times)
    _, turn, back = components(process)
    x = torch.randn(4, *SHAPE, dtype=torch.float64)
    square = sigma.reshape(4, *[1] * 3) ** 2 if sigma.dim() == 1 else sigma**2
    mean = turn(torch.full_like(x, 0.3))
    expected = back((0.36 * turn(x) + square * mean) / (0.36 + square))
    torch.testing.assert_close(denoiser(x, sigma), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(denoiser.time_of(sigma), times, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PROCESSES)
def test_eulers_method_of_k_diffusion_is_our_ddim(name: str) -> None:
    """x' = x + (sigma' - sigma) (x - D(x, sigma)) / sigma, with a sigma for each component."""
    process = PROCESSES[name]()
    inner, turn, back = components(process)
    model = GaussianScore(process).double()
    denoiser, times = Denoiser(model), time_grid(process, 14)
    start_signal = inner.coefficients(torch.zeros(1, *SHAPE), times[:1])[0]
    end_signal = inner.coefficients(torch.zeros(1, *SHAPE), times[-1:])[0]
    noise = start(process)
    z = turn(noise) / start_signal
    for sigma, following in pairwise(denoiser.sigmas(times)):
        expected = turn(denoiser(back(z), sigma.expand(len(z), *sigma.shape)))
        z = z + (following - sigma) * (z - expected) / sigma
    ours, _ = SAMPLERS["ddim"](model.score, process, noise, times)
    torch.testing.assert_close(back(end_signal * z), ours, rtol=1e-6, atol=1e-6)


def test_a_denoiser_refuses_noise_that_its_process_has_not() -> None:
    denoiser = Denoiser(GaussianScore(speeds()).double())
    sigma = denoiser.sigmas(torch.tensor([0.3], dtype=torch.float64))
    with pytest.raises(ConfigError, match="passes through no time"):
        denoiser(torch.zeros(1, *SHAPE, dtype=torch.float64), sigma.flip(-1))
    with pytest.raises(ShapeError, match="sigma has shape"):
        denoiser.time_of(sigma[:, :1])
    model = GaussianScore(VP())
    model.event_shape = (4,)
    with pytest.raises(ShapeError, match="a pipeline draws images"):
        ScoreUNet(model)
