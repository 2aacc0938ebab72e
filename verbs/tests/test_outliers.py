"""Scores of unusual points from models whose every density is known, and the verb that reports them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from verb_toys import Normal, Shifted, Source, checked, context

from scorefold.data import Condition, Dataset, TensorSpec
from scorefold.diffusion import VP
from scorefold.errors import DataError
from scorefold.interfaces import ScoreModel
from scorefold_verbs.config import LikelihoodOptions, OutlierOptions
from scorefold_verbs.figures import outlier_figures as draw
from scorefold_verbs.likelihoods import auroc, evaluate_likelihood, outlier_scores, outliers

SPEC = TensorSpec((), None)


class Knowing(Shifted):
    """A flow that knows its condition to be N(0, 1)."""

    def condition_log_prob(self, condition: Condition) -> Tensor | None:
        assert isinstance(condition, Tensor)
        return -0.5 * condition.square() - 0.5 * math.log(2 * math.pi)


def pairs(count: int, *, apart: float = 0.0, seed: int = 0) -> Dataset:
    """x = 1 + y + noise, and ``apart`` more."""
    noise = torch.Generator().manual_seed(seed)
    y = 3 * torch.randn(count, generator=noise)
    return Dataset(x=1 + y[:, None] + apart + torch.randn(count, 2, generator=noise), condition=y)


def test_auroc_is_the_chance_that_an_unusual_point_scores_above_a_usual_one() -> None:
    assert auroc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 1.0
    assert auroc(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])) == 0.0
    same = torch.randn(50, generator=torch.Generator().manual_seed(1))
    assert auroc(same, same) == 0.5
    assert auroc(torch.tensor([1.0, 1.0, 3.0]), torch.tensor([1.0, 2.0])) == pytest.approx((0.5 + 0.5 + 2) / 6)


def test_scores_by_hand() -> None:
    data = pairs(5)
    assert isinstance(data.condition, Tensor)
    found = outlier_scores(
        Knowing(spec=SPEC).double(),
        Dataset(data.x.double(), data.condition.double()),
        seed=0,
        options=OutlierOptions(others=2),
    )
    unit = 2 * math.log(2)

    def log_prob(y: Tensor) -> Tensor:
        return (-0.5 * (data.x - 1 - y[:, None]).square() - 0.5 * math.log(2 * math.pi)).double().sum(1)

    own, others = log_prob(data.condition), [log_prob(data.condition.roll(-shift)) for shift in (1, 2)]
    assert torch.allclose(found.cost, -own / unit, atol=1e-6)
    assert found.mismatch is not None
    assert torch.allclose(found.mismatch, (torch.stack(others).exp().mean(0).log() - own) / unit, atol=1e-5)
    assert found.condition_cost is not None
    assert torch.allclose(
        found.condition_cost, (0.5 * data.condition.square() + 0.5 * math.log(2 * math.pi)).double() / math.log(2)
    )


def test_the_verb_reports_how_well_each_score_works() -> None:
    usual, unusual = Source(test=pairs(200)), Source(test=pairs(200, apart=3.0, seed=1))
    outcome = outliers(Knowing(spec=SPEC), {"data": usual, "unusual": unusual}, OutlierOptions(), context())
    metrics = checked(outcome)
    assert metrics["AUROC by cost"] > 0.95
    assert 0.4 < metrics["AUROC by condition cost"] < 0.6  # the conditions of both are alike
    assert metrics["mean mismatch (bits a dimension)"] < 0
    of = ("cost", "mismatch", "condition cost", "above the limit")
    assert set(outcome.arrays) == {f"{who}{name}" for who in ("", "unusual ") for name in of}
    limit = outcome.result["metrics"]["limit of the cost (bits a dimension)"]
    for who in ("", "unusual "):
        above = outcome.arrays[f"{who}cost"] > limit
        assert torch.equal(outcome.arrays[f"{who}above the limit"], above.double())
    assert all(values.shape == (200,) for values in outcome.arrays.values())
    (figure,) = draw(outcome.drawn).values()
    assert [axes.get_xlabel().partition(";")[0].rstrip(")") for axes in figure.axes] == [
        "cost (bits a dimension",
        "mismatch (bits a dimension",
        "condition cost (bits",
    ]


def test_without_a_condition_there_is_the_cost_alone_for_flows_and_score_models() -> None:
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(2))
    for model in (Shifted(), Normal()):
        outcome = outliers(model, {"data": Source(test=Dataset(x))}, OutlierOptions(), context())
        assert list(outcome.arrays) == ["cost"]
        assert list(checked(outcome)) == ["mean cost (bits a dimension)"]
        assert len(draw(outcome.drawn)["outliers"].axes) == 1


class NormalImages(Normal):
    """N(0, 1) in each pixel of 2 x 2."""

    def __init__(self) -> None:
        ScoreModel.__init__(self, VP(), (1, 2, 2))


def test_the_images_that_cost_the_most_are_shown() -> None:
    """The cost of an image rises with its distance from 0; of two groups the unusual ones are shown."""
    sizes = torch.tensor([0.1, 3.0, 0.2, 2.0, 1.0, 0.3, 0.4, 0.5, 0.6])
    usual, unusual = (Source(test=Dataset(sizes.roll(by)[:, None, None, None].expand(9, 1, 2, 2))) for by in (0, 1))
    for given, first in (({"data": usual}, "1"), ({"data": usual, "unusual": unusual}, "2")):
        outcome = outliers(NormalImages(), given, OutlierOptions(), context())
        axes = draw(outcome.drawn)["costliest"].axes[0]
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert len(labels) == 8
        assert labels[0].split("\n")[0].endswith(first)
        assert [float(label.split("\n")[1]) for label in labels] == sorted(
            (float(label.split("\n")[1]) for label in labels), reverse=True
        )
        shown = torch.as_tensor(axes.images[0].get_array())[0, ::3]
        assert shown.diff().max() <= 0, "the costliest image is the brightest"


def test_what_is_far_beyond_the_usual_points_stands_in_the_last_bar() -> None:
    usual = torch.linspace(0, 1, 50)
    (axes,) = draw({"usual": {"cost": usual}, "unusual": {"cost": torch.tensor([0.5, 2.0, 1e7])}})["outliers"].axes
    assert axes.get_xlabel() == "cost (bits a dimension; the last bar: 3 and more)"
    assert axes.get_xlim()[1] < 4
    heights = [bar.get_height() for bar in axes.containers[1]]
    assert [place for place, height in enumerate(heights) if height > 0] == [6, 26, 39]


@pytest.mark.parametrize("seed", range(5))
def test_the_greatest_cost_stands_in_the_last_bar_and_the_limit_is_a_line(seed: int) -> None:
    costs = 3 + torch.randn(100, generator=torch.Generator().manual_seed(seed))
    (axes,) = draw({"usual": {"cost": costs}, "limit": {"cost": costs.max()}})["outliers"].axes
    assert axes.containers[0][-1].get_height() > 0
    assert axes.lines[0].get_xdata()[0] == float(costs.max())
    assert axes.get_ylabel() == "density"


@pytest.mark.parametrize(("count", "far", "named"), [(30, 30.0, True), (30, 2.0, False), (10, 30.0, False)])
def test_a_point_that_makes_the_interval_is_named(count: int, far: float, named: bool) -> None:
    data = pairs(count)
    x = torch.cat((data.x, torch.full((1, 2), far)))
    assert isinstance(data.condition, Tensor)
    points = Dataset(x, torch.cat((data.condition, torch.zeros(1))), index=torch.arange(count + 1))
    flow = Knowing(spec=SPEC)
    outcome = evaluate_likelihood(flow, {"data": Source(test=points)}, LikelihoodOptions(), context())
    assert ("warnings" in outcome.result) == named
    if named:
        (said,) = outcome.result["warnings"]
        others = -float(flow.log_prob(data.x, data.condition).detach().mean()) / 2
        assert said.startswith(f"row {count} alone has ")
        assert said.endswith(f"without it the {outcome.result['answer']['quantity']} is {others:.3g}")


class UnitSquare(Shifted):
    """A flow of the uniform distribution on [0, 1]^2, with density 0 outside."""

    def log_prob(self, x: Tensor, condition: Condition | None = None, **_: Any) -> Tensor:
        return torch.where(((x >= 0) & (x <= 1)).all(1), 0.0, -math.inf)


OUTSIDE = torch.cat((torch.full((198, 2), 0.5), torch.tensor([[0.5, 1.5]])))


def test_points_of_density_0_are_counted_and_the_means_are_of_the_others() -> None:
    source = Source(test=Dataset(OUTSIDE, index=torch.arange(199)))
    outcome = evaluate_likelihood(UnitSquare(), {"data": source}, LikelihoodOptions(), context())
    assert checked(outcome)["log-likelihood (nats)"] == 0
    answer = outcome.result["answer"]
    assert (answer["value"], answer["sure"]) == (0, "with caution")
    assert answer["verdict"].startswith(
        "The model has density 0 at 1 of 199 points. Without such points, held-out points"
    )
    assert answer["advice"].startswith("check the points of density 0")
    assert outcome.result["warnings"] == [
        "the model has density 0 at 1 of 199 points (row 198), outside its limits or far from its data: "
        "means are of the others"
    ]
    assert outcome.value["log_prob"].tolist() == [0.0] * 198 + [-math.inf]


def test_a_point_of_density_0_is_unlike_the_data() -> None:
    source = Source(test=Dataset(OUTSIDE, index=torch.arange(199)))
    outcome = outliers(UnitSquare(), {"data": source}, OutlierOptions(), context())
    assert checked(outcome)["mean cost (bits a dimension)"] == 0
    assert outcome.value["above the limit"].tolist() == [0.0] * 198 + [1.0]
    assert len(outcome.result["warnings"]) == 1
    assert (
        "1 of 199 points has density 0. Of the others, row 0 costs the most, 0 bits"
        in outcome.result["answer"]["verdict"]
    )
    assert draw(outcome.drawn)["outliers"].axes[0].patches


def test_points_of_density_0_count_for_the_limit() -> None:
    """1 of 198 fair points costs inf, so a new one has a chance above 1 % of it, and no finite cost is a limit."""
    source = Source(test=Dataset(OUTSIDE[1:], index=torch.arange(198)))
    outcome = outliers(UnitSquare(), {"data": source}, OutlierOptions(), context())
    assert "above the limit" not in outcome.value
    said = outcome.result["answer"]["verdict"]
    assert said.startswith("1 of 198 points has density 0. Of the others, row 0 costs the most, 0 bits")
    assert said.endswith("There are too few points for a limit, which needs 199.")
    many = {"data": Source(test=Dataset(OUTSIDE[-20:].flip(0).repeat(20, 1), index=torch.arange(400)))}
    said = outliers(UnitSquare(), many, OutlierOptions(), context()).result["answer"]["verdict"]
    assert said.endswith("There is no limit where more than 1% of points have density 0."), "more points do not help"


def test_points_that_are_all_of_density_0_have_no_mean_and_are_all_unlike_the_data() -> None:
    source = {"data": Source(test=Dataset(OUTSIDE[-1:].repeat(3, 1)))}
    for verb, options in ((evaluate_likelihood, LikelihoodOptions()), (outliers, OutlierOptions())):
        with pytest.raises(DataError, match="density 0 at all 3 points, such as row 0, row 1, row 2"):
            verb(UnitSquare(), source, options, context())  # type: ignore[operator]
    outcome = outliers(UnitSquare(), source, OutlierOptions(above=1.0), context())
    assert checked(outcome) == {"limit of the cost (bits a dimension)": 1.0, "share of points unlike the data": 1.0}
    assert draw(outcome.drawn)["outliers"].axes[0].get_xlabel() == "cost: density 0 at all points"
    assert outcome.result["answer"]["verdict"].startswith("The model has density 0 at 3 of 3 points. 3 of 3 cost more")
    mixed = outliers(
        UnitSquare(), {"data": Source(test=Dataset(OUTSIDE)), "unusual": source["data"]}, OutlierOptions(), context()
    )
    assert mixed.result["answer"]["verdict"].startswith(
        "The model has density 0 at 1 of 199 points that should be usual."
    )
    assert mixed.result["answer"]["sure"] == "with caution"
    usual = {"data": Source(test=Dataset(OUTSIDE[:198])), "unusual": source["data"]}
    assert checked(outliers(UnitSquare(), usual, OutlierOptions(), context()))["AUROC by cost"] == 1


def test_too_few_points_for_the_others_are_refused() -> None:
    with pytest.raises(DataError, match="the conditions of 8 others"):
        outliers(Shifted(spec=SPEC), {"data": Source(test=pairs(8))}, OutlierOptions(), context())
