"""C2ST: how well a classifier separates draws of a posterior from reference draws, by the protocol of sbibm."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import ConditionSpec
from scorefold.errors import ConfigError, DataError
from scorefold.stage import reported
from scorefold_toolkit.libraries import library
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Metric, Units
from scorefold_verbs.config.metrics import C2STConfig

PUBLISHED = 10_000
"""Draws on each side in the published tables."""

_PARTS = 5


class C2ST(Metric):
    """The classifier two-sample test of Lueckmann et al. (2021): the accuracy by which a network separates draws from
    reference draws, in [0, 1]. Draws of the right posterior have 0.5 up to chance, draws that are easily separated 1.

    The reference is the truth ``posterior`` (N, n', *E) of the data, as ``data:sbibm`` gives it. ``C2ST`` is the mean
    over conditions; each condition's own stands in the arrays. Needs scikit-learn. Raises ``ConfigError`` for a model
    without conditions, and ``DataError`` where the data bring no reference draws.

    >>> from scorefold.data import TensorSpec
    >>> from scorefold_registry import Host
    >>> units, spec = Units(low=-1.0, high=1.0), TensorSpec((1,))
    >>> measure = Host.discover().create("metric:c2st", {"draws": 200}).start(units, (2,), spec)
    >>> a, b = torch.randn(2, 200, 1, 2, generator=torch.Generator().manual_seed(0))
    >>> measure.add(EvaluationBatch(a[0], a + 6, torch.zeros(1, 1), reference=b.transpose(0, 1)))  # far off
    >>> measure.metrics()["C2ST"] > 0.99
    True
    """

    reads_reference = True

    def __init__(self, config: C2STConfig) -> None:
        self.config = config

    def start(self, units: Units, event_shape: tuple[int, ...], condition_spec: ConditionSpec | None) -> Measure:
        if condition_spec is None:
            raise ConfigError(
                "C2ST compares draws given a condition with reference draws, and this model takes no condition",
                hint="take a conditional model, or the energy distance, which needs no metric",
            )
        with library("metric:c2st", "scorefold-verbs[mixtures]"):
            import sklearn.neural_network  # noqa: F401
        return _Separated(self.config)


class _Separated(Measure):
    def __init__(self, config: C2STConfig) -> None:
        self.config = config
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._found: list[float] = []

    def add(self, batch: EvaluationBatch) -> None:
        if batch.reference is None:
            raise DataError("C2ST compares with reference draws of the posterior, and this batch has none")
        draws = batch.draws.transpose(0, 1).flatten(2).float().cpu()
        self._pairs += zip(batch.reference.flatten(2).float().cpu(), draws, strict=True)

    def metrics(self) -> dict[str, float]:
        values = self._accuracies()
        return {"C2ST": sum(values) / len(values), "C2ST, largest of all conditions": max(values)}

    def arrays(self) -> dict[str, Tensor]:
        return {"C2ST": torch.tensor(self._accuracies(), dtype=torch.float64)}

    def warnings(self) -> list[str]:
        fewest = min(len(kept(draws, self.config)) for _, draws in self._pairs)
        if fewest == PUBLISHED:
            return []
        return [f"C2ST compares {fewest:,} draws a condition; published values are of {PUBLISHED:,} and are larger"]

    def _accuracies(self) -> list[float]:
        for reference, draws in reported(self._pairs[len(self._found) :], len(self._pairs), "conditions of C2ST"):
            self._found.append(c2st(reference, kept(draws, self.config), self.config.seed))
        return self._found


def kept(draws: Tensor, config: C2STConfig) -> Tensor:
    """The first draws (n, D) that lie within the prior, as many as are compared. Raises ``DataError`` for fewer than
    50."""
    if config.within is not None:
        low, high = config.within
        draws = draws[((draws >= low) & (draws <= high)).all(1)]
    draws = draws[: config.draws]
    if len(draws) < 50:
        raise DataError(
            f"{len(draws)} draws of a condition are left; C2ST needs at least 50",
            hint="ask for more draws (n: 12000), or widen 'within'",
        )
    return draws


def c2st(reference: Tensor, draws: Tensor, seed: int = 1) -> float:
    """The accuracy of a network that separates ``draws`` (n, D) from as many of the ``reference`` (m, D), in [0, 1].

    Both are standardised by the reference. The network has two hidden layers of 10 D units; the accuracy is the mean of
    five parts, each classified by a network that learned from the other four (Lueckmann et al. 2021, appendix). Raises
    ``DataError`` for numbers that are not finite and for fewer reference draws than draws.
    """
    with library("metric:c2st", "scorefold-verbs[mixtures]"):
        from sklearn.model_selection import KFold, cross_val_score
        from sklearn.neural_network import MLPClassifier
    if len(reference) < len(draws):
        raise DataError(f"{len(draws)} draws were given with {len(reference)} reference draws; expected as many")
    reference = reference[: len(draws)]
    if not bool(draws.isfinite().all() & reference.isfinite().all()):
        raise DataError("draws or reference draws are not finite; C2ST has no value")
    mean, std = reference.mean(0), reference.std(0)
    shown = ((torch.cat([reference, draws]) - mean) / std).numpy()
    labels = torch.cat([torch.zeros(len(reference)), torch.ones(len(draws))]).numpy()
    width = 10 * reference.shape[1]
    network = MLPClassifier((width, width), max_iter=10_000, random_state=seed)
    parts = KFold(_PARTS, shuffle=True, random_state=seed)
    return float(cross_val_score(network, shown, labels, cv=parts, scoring="accuracy").mean())
