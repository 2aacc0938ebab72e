"""A prior, an encoder or an option that does not fit is refused: the error has the cause and the line that fixes it."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from vae_gaussians import GaussianScore, auto_encoder, real
from vae_networks import NETWORKS, Built, Smooth, neural_prior

from scorefold.config import TrainingConfig, Use
from scorefold.data import Condition, ConditionSpec, Dataset, DataSpec, EventScale, TensorSpec
from scorefold.diffusion import LinearVP, PerComponent
from scorefold.errors import ConfigError, ScorefoldError, ShapeError, TrainingError
from scorefold.interfaces import Progress, ScoreModel
from scorefold_scorevae.config import ScoreVAEConfig, ScoreVAEPlusConfig
from scorefold_scorevae.scorevae.encoder import _check_units
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_scorevae.scorevae.plus import ScoreVAEPlus
from scorefold_standard.config import DenoisingConfig, MLPConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.scores import Denoising
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.training import fit

NETWORK = MLP(MLPConfig(width=8, blocks=1))


class Standard(ScoreModel):
    """The score of N(0, I), which is -x at every time of a variance-preserving process."""

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        return -x


def build(prior: ScoreModel, data: DataSpec | None = None, **config: Any) -> ScoreVAE:
    settings: dict[str, Any] = {"latent": 2, "encoder": NETWORK, **config}
    spec = data or DataSpec(prior.event_shape, prior.event_scale)
    return ScoreVAE(ScoreVAEConfig(**settings), prior=prior, data=spec)  # type: ignore[arg-type]


def denoising(spec: ConditionSpec | None = None, **config: Any) -> Denoising:
    data = DataSpec((3,), EventScale(), spec)
    return Denoising(DenoisingConfig(network=NETWORK, process="vp", **config), data=data)  # type: ignore[arg-type]


@pytest.fixture
def model() -> ScoreVAE:
    return auto_encoder(GaussianScore(torch.zeros(3).double(), torch.eye(3).double()), 2)


def refused(match: str, kind: type[ScorefoldError] = ConfigError) -> Any:
    return pytest.raises(kind, match=match)


def test_events_of_another_shape() -> None:
    with refused(r"the prior's events have shape \(3,\), the data's \(1, 8, 8\)\n.*train both on the same data"):
        build(neural_prior(), DataSpec((1, 8, 8)))


def test_images_of_another_range() -> None:
    prior = Standard(GaussianScore(real([0.0]), real([[1.0]])).process, (3,), None, EventScale(low=-1.0, high=1.0))
    with refused(r"the prior's events lie in \[-1, 1\], the data in \[0, 1\]\n.*range: \[-1, 1\]"):
        build(prior, DataSpec((3,), EventScale(low=0.0, high=1.0)))


@pytest.mark.parametrize("scale", [EventScale(std=16.0), EventScale(mean=7.0), EventScale(std=0.1)], ids=str)
def test_data_of_other_units(scale: EventScale) -> None:
    said = r"the prior was made for events of mean 0 and deviation 1; the data have mean .* and deviation .*\n.*units"
    with refused(said):
        build(neural_prior(), DataSpec((3,), scale))


def test_units_that_differ_as_two_samples_do() -> None:
    build(neural_prior(), DataSpec((3,), EventScale(mean=0.1, std=1.2)))
    _check_units(EventScale(std=1000.0), EventScale(mean=1900.0, std=1000.0), "prior")
    with refused("the prior was made for events of mean 0 and deviation 1e.*03"):
        _check_units(EventScale(std=1000.0), EventScale(mean=2100.0, std=1000.0), "prior")


def test_a_process_that_couples_components() -> None:
    process = MatrixProcess(-torch.eye(3), torch.eye(3))
    with refused(
        "the prior diffuses by a MatrixProcess, which couples the components of an event.*\n.*speeds by component"
    ):
        build(Standard(process, (3,)))


def test_times_by_log_snr_for_several_speeds() -> None:
    prior = Standard(PerComponent((3,), LinearVP()), (3,))
    model = build(prior, weighting="likelihood", times="log-snr")
    batch, progress = Dataset(x=torch.zeros(4, 3)), Progress(0, 1, "encoder")
    with refused("need one level for all components; PerComponent has several\n.*times: stratified"):
        model.loss(batch, progress=progress, generator=torch.Generator())


def test_an_unfitted_prior() -> None:
    said = "prior, a Denoising, was never trained, and score:scorevae would take it as it was built\n.*inputs.prior"
    with refused(said):
        build(denoising())
    build(denoising().eval())


def test_an_unfitted_code() -> None:
    code = build(neural_prior())
    with refused("code, a ScoreVAE, was never trained, and score:scorevae-plus would take it as it was built"):
        ScoreVAEPlus(ScoreVAEPlusConfig(network=NETWORK), code=code)
    with refused("the code of score:scorevae-plus is a Denoising; expected a trained score:scorevae\n.*inputs.code"):
        ScoreVAEPlus(ScoreVAEPlusConfig(network=NETWORK), code=neural_prior())


def test_a_prior_that_needs_a_condition() -> None:
    prior = denoising(TensorSpec((2,))).eval()
    with refused("a Denoising, takes a condition and can't be called without: .*\n.*condition_dropout above 0"):
        build(prior)
    build(denoising(TensorSpec((2,)), condition_dropout=0.1).eval())


def test_the_class_of_a_prior() -> None:
    prior = denoising(TensorSpec((), classes=10)).eval()
    with refused("takes a condition and can't be called without.*\n.*prior_class: 0 gives it that class"):
        build(prior)
    with refused("prior_class is 10, and the prior, a Denoising, knows the classes 0 to 9"):
        build(prior, prior_class=10)
    with refused("prior_class is 1, and the prior, a Denoising, takes no class\n.*prior_class: null"):
        build(denoising().eval(), prior_class=1)
    build(prior, prior_class=9)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.SyncBatchNorm], ids=lambda kind: kind.__name__)
def test_batch_norm_in_the_encoder(kind: type[nn.Module]) -> None:
    class Normalised(Smooth):
        def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
            super().__init__(in_shape, out_shape)
            self.body = nn.Sequential(nn.Linear(5, 5), kind(5))

    said = (
        rf"the encoder has a {kind.__name__} \(body.1\), which mixes the events of a batch.*\n.*GroupNorm or LayerNorm"
    )
    with refused(said):
        build(neural_prior(), encoder=Built(Normalised))


def test_an_encoder_that_is_not_built() -> None:
    with refused("the encoder of score:scorevae is Use.*network:mlp.*, which has not been built\n.*Host.create"):
        build(neural_prior(), encoder=Use(use="network:mlp"))


@pytest.mark.parametrize("strategy", ["bf16", "compile"])
def test_strategies_of_training(strategy: str) -> None:
    model = auto_encoder(neural_prior(), 2, encoder=NETWORKS["tanh"])
    training = TrainingConfig(steps=2, compile=strategy == "compile")
    with refused(re.escape(REASONS[strategy]), TrainingError):
        fit(model, torch.zeros(8, 3).double(), training, precision="no" if strategy == "compile" else strategy)


REASONS = {
    "bf16": "the gradient of the encoder's density needs full precision; prior_precision: bf16",
    "fp16": "the gradient of the encoder's density needs full precision; prior_precision: bf16",
    "compile": "its loss holds a gradient, and torch.compile differentiates once only",
}


def test_the_reasons_against_strategies() -> None:
    """float16 is refused on a CPU before the model is asked."""
    code = build(neural_prior()).eval()
    for strategy, reason in REASONS.items():
        assert reason in str(code.refuses(strategy))
    assert code.refuses("distributed") is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"latent": 0}, "greater than or equal to 1"),
        ({"beta": -0.1}, "greater than or equal to 0"),
        ({"beta_warmup": 1.5}, "less than or equal to 1"),
        ({"times": "log-snr"}, "times: log-snr is importance sampling for weighting: likelihood; set both, or neither"),
        ({"weighting": "simple"}, "'sigma2', 'edm' or 'likelihood'"),
        ({"weighting": "edm", "times": "log-snr"}, "times: log-snr is importance sampling for weighting: likelihood"),
        ({"encoder_time": "raw"}, "'log-snr' or 'linear'"),
        ({"prior_precision": "fp16"}, "'no' or 'bf16'"),
        ({"decoding": {"steps": 0}}, "greater than or equal to 1"),
        ({"decoding": {"guidance": -1.0}}, "greater than or equal to 0"),
        ({"decoding": {"sampler": "heum"}}, "'heun'"),
        ({"logdet": True, "log_det": False}, "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_settings_out_of_range(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ScoreVAEConfig(**{"latent": 2, **config})


Z = torch.zeros(2, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampler": "huen"}, "there is no sampler 'huen'.*\n.*did you mean heun"),
        ({"spacing": "karas"}, "spacing 'karas' was asked for.*\n.*did you mean karras"),
        ({"steps": 0}, "0 steps were asked for"),
        ({"guidance": -1.0}, "guidance is -1.0; expected a number from 0 on, or a function of t"),
        ({"guidance": math.nan}, "guidance is nan; expected a number from 0 on"),
        ({"guidance": math.inf}, "guidance is inf; expected a number from 0 on"),
        ({"guidance": "strong"}, "guidance is 'strong'; expected a number from 0 on"),
        ({"guidance_interval": (0.5, 2.0)}, r"guidance_interval is \[0.5, 2.0\]; expected \[low, high\] within"),
        ({"guidance_interval": (0.5, 0.1)}, r"guidance_interval is \[0.5, 0.1\]; expected \[low, high\] within"),
        ({"temperature": 0.7}, "ScoreVAE knows no sampling option temperature\n.*guidance and guidance_interval"),
    ],
    ids=str,
)
def test_options_of_decode(model: ScoreVAE, options: dict[str, Any], said: str) -> None:
    with refused(said):
        model.decode(Z, **options)
    with refused("decode with sampler: heun" if "sampler" in options else said):
        model.encode_noise(torch.zeros(2, 3).double(), Z, **options)


def test_noise_is_encoded_by_heun_only(model: ScoreVAE) -> None:
    with refused("noise is encoded by heun, and the sampler 'ddim' was asked for\n.*decode with sampler: heun"):
        model.encode_noise(torch.zeros(2, 3).double(), Z, sampler="ddim")


def test_codes_and_noises_of_other_shapes(model: ScoreVAE) -> None:
    x = torch.zeros(2, 3).double()
    for wrong in (torch.zeros(2, 3).double(), torch.zeros(2).double(), torch.zeros(2, 2, 1).double()):
        for call in (model.decode, lambda z: model.encode_noise(x, z), lambda z: model.score(x, real([0.5]), z)):
            with refused(r"codes of shape \(2.*\) were given; this model's are \(B, 2\)", ShapeError):
                call(wrong)
    with refused(r"x has shape \(2, 4\); this model takes \(B, 3\)", ShapeError):
        model.decode(Z, noise=torch.zeros(2, 4).double())
    with refused("2 codes were given with 3 events; expected as many, or one of either", ShapeError):
        model.decode(Z, noise=torch.zeros(3, 3).double())
    with refused(r"codes \(B, 2\) are a tensor; named tensors were given", ShapeError):
        model.bind({"code": Z})
    with refused(r"x is torch.float32 on cpu; this model is torch.float64", ShapeError):
        model.encode(torch.zeros(2, 3))
