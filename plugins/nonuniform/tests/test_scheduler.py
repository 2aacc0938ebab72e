"""Our processes as a scheduler of diffusers: the steps of our samplers, and theirs where both can take them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
)
from scheduler_toys import (
    BANDED,
    PROCESSES,
    SHAPE,
    GaussianScore,
    banded,
    components,
    driven,
    network,
    start,
)
from torch import Tensor

from scorefold.diffusion import SAMPLERS, GeometricVE, IsotropicProcess, LinearLogSNR, PerComponent, time_grid
from scorefold.diffusion.process import expand
from scorefold.errors import ConfigError
from scorefold_checkpoints.parametrisations import DiscreteVP
from scorefold_nonuniform.bands.coefficients import build_bands
from scorefold_nonuniform.config import HaarBandsConfig
from scorefold_nonuniform.diffusers.pipeline import ScoreUNet
from scorefold_nonuniform.diffusers.scheduler import PREDICTIONS, NonUniformScheduler
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.rotated import Rotated


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
    """Epsilon, v and sample of one score lead to one sample, and the expected datum is the score's."""
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
def test_noisy_ddim_keeps_the_distribution(name: str) -> None:
    """A step leads from the distribution of x_t to the distribution of x_t' where all data are one point; components
    at rest stay."""
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


def test_the_noise_to_start_from() -> None:
    assert NonUniformScheduler("vp").init_noise_sigma == 1
    assert NonUniformScheduler({"name": "ve", "sigma_max": 30.0}).init_noise_sigma == 30
    scales = torch.full(SHAPE, 5.0)
    scales[0] = 20.0
    exploding = PerComponent(SHAPE, GeometricVE(torch.full(SHAPE, 0.01), scales))
    assert torch.equal(NonUniformScheduler(exploding).init_noise_sigma, scales)
    turned = Rotated(exploding, build_bands(HaarBandsConfig(), SHAPE).transform)
    scheduler = NonUniformScheduler(turned)
    with pytest.raises(ConfigError, match="no multiple of white noise") as refused:
        _ = scheduler.init_noise_sigma
    assert "sample_prior" in str(refused.value.hint)
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


def test_the_scale_at_work_is_how_many_ends_lie_before_a_timestep() -> None:
    """Ends at 0.3 and 0.6 of 999 timesteps; an end belongs to the stretch below it."""
    scheduler = NonUniformScheduler(
        process="log-snr", bands={"name": "haar", "levels": 2}, event_shape=SHAPE, ends=[0.3, 0.6, 1.0]
    )
    labels = [0.0, 299.0, 999 * 0.3, 300.0, 999 * 0.6, 600.0, 999.0]
    assert [scheduler.scale_at(label) for label in labels] == [0, 0, 0, 1, 1, 2, 2]
