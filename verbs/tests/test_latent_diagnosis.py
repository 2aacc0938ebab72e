"""What codes hold of data, against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from latent_toys import Linear, Warned, events
from pydantic import ValidationError
from torch.distributions import MultivariateNormal, kl_divergence
from verb_toys import Normal, Source, checked, context, rows

from scorefold.errors import ConfigError, DataError
from scorefold.plugin import LATENT_VERBS
from scorefold.stage import Outcome
from scorefold_registry.host import Host
from scorefold_verbs.config import (
    EditOptions,
    GenerateOptions,
    InterpolateCodesOptions,
    LatentsOptions,
    ReconstructOptions,
    TraverseOptions,
)
from scorefold_verbs.figures import latent_figures as draw
from scorefold_verbs.latents.diagnose import latents

SHAPE = (6,)
HELD = (0.9, 0.6, 0.05, 0.0)
"""Gains whose codes have variance 1 in all with deviations sqrt(1 - g^2)."""


def held(gains: tuple[float, ...] = HELD) -> Linear:
    return Linear(SHAPE, gains, [math.sqrt(1 - g**2) for g in gains])


def run(model: Any, source: Any, **options: Any) -> Outcome:
    outcome = latents(model, {"data": source}, LatentsOptions(**options), context(dtype=torch.float64))
    checked(outcome)
    return outcome


def test_the_divergence_of_each_unit_is_half_the_log_of_what_it_leaves() -> None:
    """For events N(0, I) and codes whose aggregate is N(0, I): KL = -log(s) in each unit, all of it information."""
    outcome = run(held(), events(SHAPE, test=20_000))
    metrics = outcome.result["metrics"]
    expected = [-0.5 * math.log(1 - g**2) for g in HELD]
    assert outcome.arrays["KL divergence"].tolist() == pytest.approx(expected, abs=0.02)
    assert metrics["KL divergence (nats)"] == pytest.approx(sum(expected), abs=0.03)
    assert metrics["active units"] == 2
    assert metrics["KL divergence of the aggregate posterior (nats)"] < 0.01
    assert metrics["information in the code, at most (nats)"] == pytest.approx(sum(expected), abs=0.03)
    assert metrics["effective dimension"] == pytest.approx(4, abs=0.01)
    assert outcome.arrays["variance of the means"].tolist() == pytest.approx([g**2 for g in HELD], abs=0.02)
    assert "warnings" not in outcome.result
    assert (metrics["points"], metrics["latent dimension"]) == (20_000, 4)
    assert metrics["largest KL divergence of a unit (nats)"] == float(outcome.arrays["KL divergence"].max())


def test_an_aggregate_far_from_the_prior_is_a_warning_and_no_information() -> None:
    """Codes of variance 4 in all: the total divergence is the information and the divergence of N(0, 4)."""
    model = Linear(SHAPE, (1.6, 1.2), (1.2, 1.6))
    outcome = run(model, events(SHAPE, test=20_000))
    metrics = outcome.result["metrics"]
    distribution = MultivariateNormal(torch.zeros(2).double(), 4 * torch.eye(2).double())
    apart = float(kl_divergence(distribution, MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())))
    assert metrics["KL divergence of the aggregate posterior (nats)"] == pytest.approx(apart, abs=0.05)
    information = sum(0.5 * math.log(4 / s**2) for s in (1.2, 1.6))
    assert metrics["information in the code, at most (nats)"] == pytest.approx(information, abs=0.05)
    (warning,) = outcome.result["warnings"]
    assert "codes: gaussian" in warning
    assert outcome.arrays["aggregate spectrum"].tolist() == pytest.approx([4.0, 4.0], rel=0.05)


def test_a_code_that_holds_nothing_has_collapsed() -> None:
    (warning,) = run(held((0.0, 0.0, 0.0)), events(SHAPE)).result["warnings"]
    assert warning.startswith("the code has collapsed: none of its 3 units is active")
    # A distribution of its own that is the same for all events holds nothing either, whatever its divergence.
    still = run(Linear(SHAPE, (0.0,), (0.5,)), events(SHAPE)).result
    assert still["metrics"]["KL divergence (nats)"] == pytest.approx(math.log(2) - 0.375)
    assert still["metrics"]["active units"] == 0
    assert still["warnings"][0].startswith("the code has collapsed")


def test_a_code_without_a_distribution_says_so_in_place_of_a_divergence() -> None:
    outcome = run(Linear(SHAPE, (1.0, 2.0), (0.0, 0.0)), events(SHAPE))
    assert outcome.result["note"].startswith("the code is a function of the event, drawn from no distribution")
    assert not any("KL" in name for name in outcome.result["metrics"])
    assert outcome.result["metrics"]["units that vary"] == 2
    assert "KL divergence" not in outcome.arrays
    mixed = run(Linear(SHAPE, (1.0, 2.0), (0.0, 0.5)), events(SHAPE))
    assert mixed.result["note"].startswith("1 of the 2 units are a function of the event")
    still = run(Linear(SHAPE, (0.0, 0.0), (0.0, 0.0)), events(SHAPE))
    assert still.result["warnings"] == ["the code is equal for all points: it contains no information about them"]


def test_the_component_has_its_say() -> None:
    outcome = run(Warned(SHAPE, (1.0,), (0.5,)), events(SHAPE, test=600), limit=550)
    assert outcome.result["diagnostics"] == {"asked of": 512}
    assert outcome.result["warnings"][-1] == "it was drawn up for a test"
    expected = torch.randn(3, generator=context().generator("diagnose"), dtype=torch.float64)
    assert torch.equal(outcome.arrays["drawn"], expected)
    assert Linear(SHAPE, (1.0,), (0.5,)).diagnose_codes(torch.zeros(1, 6), torch.Generator()) == ({}, (), {})


def test_diagnoses_that_cannot_be() -> None:
    with pytest.raises(DataError, match="at least 2 points"):
        run(held(), events(SHAPE), limit=1)
    with pytest.raises(ConfigError, match="Normal has no latent space: it can't show latents"):
        latents(Normal(), {"data": Source(test=rows(3))}, LatentsOptions(), context())


@pytest.mark.parametrize(
    ("gains", "deviations"),
    [((1.0,), (0.3,)), (HELD, (0.5,) * 4), ((1.0, 2.0), (0.0, 0.0)), ((0.5,) * 90, (0.5,) * 90)],
)
def test_codes_are_drawn(gains: tuple[float, ...], deviations: tuple[float, ...]) -> None:
    shape = (max(6, len(gains)),)
    outcome = run(Linear(shape, gains, deviations), events(shape))
    figures = draw(outcome.drawn)
    assert set(figures) == {"units", "codes"}
    bars = [bar.get_height() for bar in figures["units"].axes[0].patches]  # type: ignore[attr-defined]
    name = "KL divergence" if "KL divergence" in outcome.arrays else "variance of the means"
    assert bars == outcome.arrays[name].sort(descending=True).values[:60].tolist()
    for figure in figures.values():
        figure.draw_without_rendering()


# The verbs and their options.


def test_every_kind_that_may_encode_has_the_verbs_of_codes(host: Host) -> None:
    assert LATENT_VERBS == ("encode", "reconstruct", "generate", "interpolate", "traverse", "edit", "latents")
    kinds = host.catalogue.kinds
    for name in ("score", "flow", "estimator", "autoencoder"):
        for verb in LATENT_VERBS:
            found = kinds[name].verb(verb)
            assert found is not None
            if name in ("score", "flow") and verb in ("encode", "interpolate"):
                assert found.needs == ()  # any score and any flow, through its noise
            else:
                assert found == kinds["estimator"].verb(verb)
                assert found.needs == ("Encodes",)
    assert kinds["geometry"].verb("interpolate") != kinds["score"].verb("interpolate")


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (ReconstructOptions, {"draws": 0}, "greater than or equal to 1"),
        (ReconstructOptions, {"codes": "means"}, "'encoded' or 'drawn'"),
        (ReconstructOptions, {"features": "inception"}, "set both, or neither"),
        (ReconstructOptions, {"decoding": {"noise": 1}}, "decoding holds 'noise', which the verb sets by itself"),
        (GenerateOptions, {"decoding": {"generator": 1}}, "decoding holds 'generator'"),
        (GenerateOptions, {"codes": "normal"}, "'standard', 'gaussian' or 'mixture'"),
        (GenerateOptions, {"fitted": 1}, "greater than or equal to 2"),
        (InterpolateCodesOptions, {"times": 1}, "greater than or equal to 2"),
        (InterpolateCodesOptions, {"noise": "none"}, "'own', 'shared' or 'drawn'"),
        (TraverseOptions, {"width": 0}, "greater than 0"),
        (TraverseOptions, {"axes": "pca"}, "'units' or 'principal'"),
        (EditOptions, {}, "label\n  Field required"),
        (EditOptions, {"label": 1, "strengths": []}, "at least 1 item"),
        (EditOptions, {"label": 1, "strengths": [0.3, 0.3]}, "expected each once"),
        (EditOptions, {"label": -1}, "greater than or equal to 0"),
        (LatentsOptions, {"width": 1}, "not permitted"),
    ],
)
def test_options_that_make_no_sense_are_refused(model: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        model(**given)
