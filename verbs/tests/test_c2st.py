"""C2ST: its protocol by hand, draws that are right and draws that are not, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPClassifier
from torch import Tensor

import scorefold as sf
from scorefold.data import Dataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Units
from scorefold_verbs.config import C2STConfig
from scorefold_verbs.metrics import C2ST, c2st, c2sts

UNITS = Units(low=-1.0, high=1.0)
SPEC = TensorSpec((1,))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measure_of(draws: int = 200) -> Measure:
    return C2ST(C2STConfig(draws=draws)).start(UNITS, (2,), SPEC)


def test_it_is_the_published_protocol() -> None:
    """Standardised by the reference, two layers of 10 D, five shuffled parts, the mean accuracy."""
    reference, draws = 3 + 5 * normal(150, 2), 2 + 7 * normal(150, 2, seed=1)
    mean = reference.mean(0)
    std = ((reference - mean).square().sum(0) / 149).sqrt()
    x = torch.cat([(reference - mean) / std, (draws - mean) / std]).numpy()
    y = torch.arange(300).ge(150).float().numpy()
    accuracies = []
    for train, test in KFold(5, shuffle=True, random_state=1).split(x):
        network = MLPClassifier((20, 20), max_iter=10_000, random_state=1).fit(x[train], y[train])
        accuracies.append((network.predict(x[test]) == y[test]).mean())
    # A third of a per cent is one of the 300 points, which rounding can tip.
    assert c2st(reference, draws) == pytest.approx(sum(accuracies) / 5, abs=0.01)


def test_networks_that_are_trained_together_are_those_trained_apart() -> None:
    """Of parts of unequal size too: 304 points are four of 61 and one of 60."""
    pairs = [(normal(152, 2, seed=k), (1 + k) * normal(152, 2, seed=9 + k)) for k in range(3)]
    apart = [c2st(*pair) for pair in pairs]
    assert c2sts(pairs) == pytest.approx(apart, abs=0.01)
    assert apart[0] < apart[2] - 0.05, "the wider, the easier"


def test_draws_of_the_posterior_are_not_separated_and_others_are() -> None:
    reference = normal(1000, 2)
    assert 0.42 < c2st(reference, normal(1000, 2, seed=1)) < 0.58
    assert c2st(reference, 5 + normal(1000, 2, seed=1)) > 0.98
    assert 0.6 < c2st(reference, 1 + normal(1000, 2, seed=1)) < 0.8, "the Bayes classifier is right in 0.76"


def test_each_condition_has_its_own_value_in_order() -> None:
    measure = measure_of()
    right, off = normal(3, 200, 2), normal(200, 3, 2, seed=1)
    off[:, 1] += 6
    measure.add(EvaluationBatch(torch.zeros(2, 2), off[:, :2], torch.zeros(2, 1), reference=right[:2]))
    measure.add(EvaluationBatch(torch.zeros(1, 2), off[:, 2:], torch.zeros(1, 1), reference=right[2:]))
    values = measure.arrays()["C2ST"]
    assert values[1] > 0.98 > 0.65 > max(values[0], values[2])
    assert measure.metrics()["C2ST"] == pytest.approx(float(values.mean()))
    assert measure.metrics()["C2ST, largest of all conditions"] == pytest.approx(float(values[1]))
    assert "200 draws a condition" in measure.warnings()[0]


def test_a_batch_keeps_its_reference_when_rows_are_taken() -> None:
    batch = EvaluationBatch(torch.zeros(3, 2), normal(4, 3, 2), torch.zeros(3, 1), reference=normal(3, 5, 2))
    taken = batch.take(torch.tensor([2, 0]), None).reference
    assert taken is not None
    assert torch.equal(taken, batch.reference[[2, 0]])


def test_what_it_can_not_compare_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes no condition"):
        C2ST(C2STConfig()).start(UNITS, (2,), None)
    with pytest.raises(DataError, match="this batch has none"):
        measure_of().add(EvaluationBatch(torch.zeros(1, 2), normal(60, 1, 2), torch.zeros(1, 1)))
    with pytest.raises(DataError, match="not finite"):
        c2st(normal(60, 2), torch.full((60, 2), torch.nan))
    with pytest.raises(DataError, match="60 draws were given with 50 reference draws"):
        c2st(normal(50, 2), normal(60, 2))
    few = EvaluationBatch(torch.zeros(1, 2), normal(49, 1, 2), torch.zeros(1, 1), reference=normal(1, 60, 2))
    with pytest.raises(DataError, match="at least 50 draws for each condition, and got 49"):
        measure_of().add(few)


def test_a_data_set_carries_reference_draws_by_row() -> None:
    data = Dataset(x=torch.zeros(4, 2), truth={"posterior": normal(4, 6, 2)})
    assert data.take(torch.tensor([3])).truth["posterior"].shape == (1, 6, 2)


def test_assess_refuses_data_without_reference_draws_before_it_draws(tmp_path: Path) -> None:
    ring = sf.load_data("data:posterior", points=200, folder=str(tmp_path), progress=False)
    flow = sf.fit("flow:affine-coupling", ring, layers=1, training={"steps": 1}, folder=str(tmp_path), progress=False)
    with pytest.raises(DataError, match="C2ST compares with reference draws of the posterior, and these data bring"):
        sf.assess(flow, ring, metrics=["metric:c2st"], folder=str(tmp_path), progress=False)
