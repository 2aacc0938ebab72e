"""Every family of schedulers against closed forms: what one answer says, and a Gaussian whose score is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import saved
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    SCMScheduler,
    ScoreSdeVeScheduler,
    UniPCMultistepScheduler,
)
from schedule_rates import check_rates
from torch import Tensor

from scorefold.diffusion import IsotropicProcess
from scorefold.diffusion.likelihood import probability_flow_log_prob
from scorefold.errors import ConfigError
from scorefold_checkpoints.config import DiffusersConfig
from scorefold_checkpoints.diffusers.score import DiffusersScore, family_of
from scorefold_checkpoints.parametrisations import Family, TrigFlow

C = 0.3
"""The deviation of the Gaussian data, about 0.7 in all coordinates."""
M = 0.7


def at(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def read(scheduler: Any, t: float, answer: float = 0.3, x: float = 1.0) -> dict[str, float]:
    """eps-hat, the datum and the score that one answer at x gives, at a time of the schedule."""
    family = family_of(scheduler)
    process = IsotropicProcess(family.schedule)
    events, times = at(x)[:, None], at(t)
    noise = family.expected_noise(lambda shown, time, _: torch.full_like(shown, answer), process, events, times, None)
    signal, scale = process.coefficients(events, times)
    return {
        "eps": float(noise),
        "x0": float((events - scale * noise) / signal),
        "score": float(process.score_from_noise(noise, events, times)),
    }


EXPECTED = [
    (DDPMScheduler(), 500.0, {"x0": 2.552361, "score": -0.312398}),
    (DDPMScheduler(prediction_type="v_prediction"), 500.0, {"eps": 1.043990, "x0": -0.009174, "score": -1.087134}),
    (DDPMScheduler(prediction_type="sample"), 500.0, {"eps": 0.954192}),
    (FlowMatchEulerDiscreteScheduler(), 0.3, {"eps": 1.21, "x0": 0.91, "score": -4.033333}),
]


@pytest.mark.parametrize(("scheduler", "t", "expected"), EXPECTED)
def test_one_answer_says_what_it_does(scheduler: Any, t: float, expected: dict[str, float]) -> None:
    """x = 1, F = 0.3; the product of linear alphas at timestep 500 is 0.0777967."""
    found = read(scheduler, t)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=2e-6)


def test_edm_corrects_the_best_linear_guess() -> None:
    """sigma = 2, sigma_data = 0.5, x = 1, F = 0.3."""
    schedule = family_of(EDMEulerScheduler()).schedule
    t = float(schedule.time_at(at(2.0)))
    expected = {"x0": 0.204345, "eps": 0.397828, "score": -0.198914}
    assert read(EDMEulerScheduler(), t) == pytest.approx(expected, abs=2e-6)
    other = read(EDMEulerScheduler(prediction_type="v_prediction"), t)
    assert other["x0"] == pytest.approx(2 * 0.25 / 4.25 - 0.204345, abs=2e-6)


def test_circles_and_the_score_itself() -> None:
    """SCM at 0.4 with data of deviation 1/2: sin(t) x / s + cos(t) F; ScoreSdeVe answers with the score."""
    found = read(SCMScheduler(), 0.4)
    assert found["eps"] == pytest.approx(2 * math.sin(0.4) + 0.3 * math.cos(0.4))
    assert found["x0"] == pytest.approx(math.cos(0.4) - 0.5 * math.sin(0.4) * 0.3)
    assert read(ScoreSdeVeScheduler(), 0.5)["score"] == pytest.approx(0.3)


def gaussian_answer(scheduler: Any) -> tuple[Family, Any]:
    """The family of a scheduler, and the exact answer of a network to data N(M, C^2), from what it is shown."""
    family, config = family_of(scheduler), scheduler.config
    name = type(scheduler).__name__

    def parts(a: Tensor, b: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """E[x_0 | x] and E[z | x] at x = a x_0 + b z."""
        gain = a * C**2 / (a**2 * C**2 + b**2)
        x0 = M + gain * (x - a * M)
        return x0, (x - a * x0) / b

    def answer(shown: Tensor, time: Tensor, _: Any) -> Tensor:
        one, time = torch.ones_like(time), time[:, None]
        if name == "ScoreSdeVeScheduler":
            return -parts(one[:, None], time, shown)[1] / time
        if name.startswith("EDM"):
            sigma, deviation = (4 * time).exp(), config.sigma_data
            spread = (sigma**2 + deviation**2).sqrt()
            x = shown * spread
            sign = -1.0 if config.prediction_type == "v_prediction" else 1.0
            x0 = parts(one[:, None], sigma, x)[0]
            return sign * (x0 - deviation**2 / spread**2 * x) * spread / (sigma * deviation)
        if name == "SCMScheduler":
            a, b = time.cos(), config.sigma_data * time.sin()
            x0, noise = parts(a, b, shown * config.sigma_data)
            return a * noise - time.sin() * x0 / config.sigma_data
        if config.get("prediction_type", "flow_prediction") == "flow_prediction":
            t = time / config.num_train_timesteps
            x0, noise = parts(1 - t, t, shown)
            return noise - x0
        alpha = scheduler.alphas_cumprod.double()[time.round().long()]
        x0, noise = parts(alpha.sqrt(), (1 - alpha).sqrt(), shown)
        kinds = {"epsilon": noise, "sample": x0, "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * x0}
        return kinds[config.prediction_type]

    return family, answer


FAMILIES = [
    (DDPMScheduler, {}),
    (DDIMScheduler, {"beta_schedule": "scaled_linear", "prediction_type": "sample"}),
    (DDIMScheduler, {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}),
    (DDIMScheduler, {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    (PNDMScheduler, {}),
    (DPMSolverMultistepScheduler, {}),
    (DPMSolverMultistepScheduler, {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}),
    (UniPCMultistepScheduler, {}),
    (EulerDiscreteScheduler, {}),
    (HeunDiscreteScheduler, {}),
    (LMSDiscreteScheduler, {}),
    (EDMEulerScheduler, {}),
    (EDMEulerScheduler, {"prediction_type": "v_prediction", "sigma_data": 1.0}),
    (EDMDPMSolverMultistepScheduler, {}),
    (ScoreSdeVeScheduler, {}),
    (FlowMatchEulerDiscreteScheduler, {}),
    (FlowMatchEulerDiscreteScheduler, {"shift": 3.0}),
    (FlowMatchHeunDiscreteScheduler, {"num_train_timesteps": 500}),
    (SCMScheduler, {}),
]


@pytest.mark.filterwarnings("ignore:__array__")  # diffusers' Heun, with a numpy newer than torch
@pytest.mark.parametrize(("kind", "settings"), FAMILIES)
def test_the_exact_answer_for_gaussian_data_gives_their_exact_score(kind: Any, settings: dict[str, Any]) -> None:
    family, answer = gaussian_answer(kind(**settings))
    process = IsotropicProcess(family.schedule)
    share = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    t = process.t_min + share * (process.t_max - process.t_min)
    t = t.round() if process.t_max > 10 else t
    x = torch.randn(25, 3, dtype=torch.float64)
    a, b = process.coefficients(x, t)
    noise = family.expected_noise(answer, process, x, t, None)
    exact = -(x - a * M) / (a**2 * C**2 + b**2)
    torch.testing.assert_close(process.score_from_noise(noise, x, t), exact, rtol=2e-5, atol=2e-5)


def test_the_likelihood_of_gaussian_data_is_exact_in_continuous_families() -> None:
    x = M + C * torch.randn(6, 2, dtype=torch.float64)
    exact = torch.distributions.Normal(M, C).log_prob(x).sum(1)
    for scheduler in (EDMEulerScheduler(), ScoreSdeVeScheduler(), FlowMatchEulerDiscreteScheduler(), SCMScheduler()):
        family, answer = gaussian_answer(scheduler)
        process = IsotropicProcess(family.schedule)

        def score(x: Tensor, t: Tensor, family: Any = family, answer: Any = answer, process: Any = process) -> Tensor:
            noise = family.expected_noise(answer, process, x, t, None)
            found: Tensor = process.score_from_noise(noise, x, t)
            return found

        found = probability_flow_log_prob(score, process, x)
        torch.testing.assert_close(found, exact, atol=0.03, rtol=0)


def test_rates_of_the_circle_are_those_of_its_kernel() -> None:
    check_rates(TrigFlow(0.5), torch.linspace(0.01, 1.5, 30, dtype=torch.float64))


def test_a_shift_moves_the_grid_and_no_score(tmp_path: Path) -> None:
    """t' = k t / (1 + (k - 1) t): odds times k. The state of a scheduler's step is one of ours at timestep / 1000."""
    for shift, expected in ((1.0, [1.0, 0.66700, 0.33400, 0.00100]), (3.0, [1.0, 0.8577, 0.6022, 0.0089])):
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(4)
        assert scheduler.sigmas.tolist() == pytest.approx([*expected, 0.0], abs=5e-5)
        torch.testing.assert_close(scheduler.timesteps / 1000, scheduler.sigmas[:-1])
        unet = saved(tmp_path / str(shift), scheduler)
        model = DiffusersScore(DiffusersConfig(path=tmp_path / str(shift)))
        x, step = torch.randn(1, *model.event_shape), scheduler.timesteps[1]
        with torch.no_grad():
            velocity = unet(x, step, return_dict=False)[0]
        t = scheduler.sigmas[1:2]
        torch.testing.assert_close(model.noise(x, t), x + (1 - t) * velocity, rtol=1e-4, atol=1e-5)
        moved = scheduler.step(velocity, step, x).prev_sample
        torch.testing.assert_close(moved, x + (scheduler.sigmas[2] - t) * velocity, rtol=1e-4, atol=1e-5)


def test_zero_terminal_snr_ends_one_step_earlier() -> None:
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert float(scheduler.alphas_cumprod[-1]) == 0
    assert family_of(scheduler).schedule.t_end == 998


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (LCMScheduler(), "distilled"),
        (FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "invert_sigmas: True"),
        (DPMSolverMultistepScheduler(use_flow_sigmas=True), "use_flow_sigmas: True"),
        (EulerDiscreteScheduler(timestep_type="continuous"), "timestep_type: continuous"),
    ],
)
def test_what_gives_no_score_is_refused_by_name(scheduler: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        family_of(scheduler)
