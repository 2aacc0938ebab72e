"""Two tests of a posterior by its draws: TARP, of all conditions at once, and LC2ST, of each condition."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.data import ConditionSpec
from scorefold.errors import ConfigError, DataError
from scorefold.seeds import derive_generator
from scorefold.stage import reported
from scorefold_toolkit.libraries import library
from scorefold_toolkit.metrics import tarp, uniformity
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Metric, Units
from scorefold_toolkit.nn import named_parts, named_specs
from scorefold_verbs.config import LC2STConfig, TARPConfig

WIDEST = 4096
"""The most numbers of an event and its condition together that a classifier is shown."""

_FEWEST = 16
_LEVEL = 0.05
_QUADRATIC = 40  # numbers whose squares and products are taken


class TARP(Metric):
    """Tests of accuracy with random points (Lemos et al. 2023): the expected coverage of balls around random points.

    Draws from the posterior have the coverage alpha at every alpha; draws that are too narrow, too wide or off the
    truth do not, and neither do draws that are right coordinate by coordinate and wrong together. Each of
    ``references`` points a truth is a test that the truths' places are uniform, by Kuiper; ``TARP p-value`` is the
    least of theirs times their number (Bonferroni), and the gap the largest distance of the coverage from alpha by
    that one. See ``scorefold_toolkit.metrics.tarp``.

    >>> from scorefold_registry import Host
    >>> measure = Host.discover().create("metric:tarp").start(Units(low=0.0, high=1.0), (2,), None)
    >>> points = torch.randn(51, 300, 2, generator=torch.Generator().manual_seed(0))
    >>> measure.add(EvaluationBatch(points[0], draws=0.6 * points[1:]))  # too narrow
    >>> measure.metrics()["TARP p-value"] < 0.001
    True
    """

    def __init__(self, config: TARPConfig) -> None:
        self.config = config

    def start(self, units: Units, event_shape: tuple[int, ...], condition_spec: ConditionSpec | None) -> Measure:
        return _RandomPoints(self.config, condition_spec)


class _Kept(Measure):
    """Draws (n, C, D), truths (C, D) and conditions (C, K) of all batches, classes as codes, on the CPU."""

    def __init__(self, spec: ConditionSpec | None) -> None:
        self.specs = named_specs(spec)
        self.spec = spec
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, batch: EvaluationBatch) -> None:
        shown = [batch.truth.new_zeros(len(batch.truth), 0)]
        for name, part in named_parts(self.spec, batch.condition).items():
            classes = self.specs[name].classes
            shown.append(part if classes is None else functional.one_hot(part.long(), classes))
        condition = torch.cat([part.flatten(1).double().cpu() for part in shown], 1)
        self._batches.append((batch.draws.flatten(2).double().cpu(), batch.truth.flatten(1).double().cpu(), condition))

    def kept(self) -> tuple[Tensor, Tensor, Tensor]:
        draws, truths, conditions = zip(*self._batches, strict=True)
        return torch.cat(draws, 1), torch.cat(truths), torch.cat(conditions)


class _RandomPoints(_Kept):
    def __init__(self, config: TARPConfig, spec: ConditionSpec | None) -> None:
        super().__init__(spec)
        self.config = config

    def places(self) -> Tensor:
        """The places of the truths by each random point, (R, C)."""
        draws, truths, conditions = self.kept()
        generator = derive_generator(self.config.seed, "tarp", "references")
        given = conditions if self.spec is not None else None
        return torch.stack([tarp(draws, truths, generator, given) for _ in range(self.config.references)])

    def metrics(self) -> dict[str, float]:
        places = self.places()
        values = [uniformity(row)[1] for row in places]
        worst = places[values.index(min(values))].sort().values
        share = torch.arange(1, len(worst) + 1, dtype=torch.float64) / len(worst)
        return {
            "TARP p-value": min(1.0, len(values) * min(values)),
            "TARP, largest gap of the expected coverage": float((share - worst).abs().max()),
        }

    def arrays(self) -> dict[str, Tensor]:
        return {"TARP places": self.places().T}

    def warnings(self) -> list[str]:
        found = self.metrics()["TARP p-value"]
        if found >= self.config.warns_below:
            return []
        return [
            f"by TARP the draws are not from the posterior of the truths (p = {found:.2g}): balls around random points "
            "hold other shares of the truths than of the draws"
        ]


class LC2ST(Metric):
    """The local classifier two-sample test (Linhart, Gramfort and Rodrigues 2023): is the posterior right at one
    condition?

    A classifier of scikit-learn learns to separate truths from draws, each beside its condition, on a random half of
    the conditions: logistic regression on numbers, squares and products, or of many numbers a network
    (``classifier``). At a condition of the other half its answers d for the draws alone are 1/2 where it can't, and
    the statistic is the mean of (d - 1/2)^2. The same with truth and draw exchanged at random in every pair gives the
    null: p = (1 + the number of exchanges whose statistic is no smaller) / (1 + exchanges), which for draws from the
    posterior is at most alpha with a probability of at most alpha. ``LC2ST p-value`` is the p of the mean statistic
    over conditions. Each condition's own p is in the arrays, and the share of them below 5 % in the metrics.

    >>> from scorefold.data import TensorSpec
    >>> from scorefold_registry import Host
    >>> spec, units = TensorSpec((1,)), Units(low=-1.0, high=1.0)
    >>> measure = Host.discover().create("metric:lc2st", {"exchanges": 19}).start(units, (1,), spec)
    >>> truth, noise, z = torch.randn(3, 200, 1, generator=torch.Generator().manual_seed(0))
    >>> measure.add(EvaluationBatch(truth, draws=truth[None] + 0.1 * z + 1, condition=truth + 0.1 * noise))  # off by 1
    >>> round(measure.metrics()["LC2ST p-value"], 2)
    0.05
    """

    def __init__(self, config: LC2STConfig) -> None:
        self.config = config

    def start(self, units: Units, event_shape: tuple[int, ...], condition_spec: ConditionSpec | None) -> Measure:
        if condition_spec is None:
            raise ConfigError(
                "LC2ST asks whether a posterior is right at a condition, and this model takes none",
                hint="take metric:tarp, or a conditional model",
            )
        with library("metric:lc2st", "scorefold-verbs[mixtures]"):
            import sklearn.neural_network  # noqa: F401
        columns = math.prod(event_shape) + sum(
            math.prod(one.shape) if one.classes is None else one.classes for one in named_specs(condition_spec).values()
        )
        if columns > WIDEST:
            raise ConfigError(
                f"an event and its condition have {columns} numbers; LC2ST takes {WIDEST} at most",
                hint="take metric:tarp, or smaller images",
            )
        return _Local(self.config, condition_spec)


class _Local(_Kept):
    def __init__(self, config: LC2STConfig, spec: ConditionSpec) -> None:
        super().__init__(spec)
        self.config = config
        self._found: tuple[Tensor, Tensor] | None = None

    def add(self, batch: EvaluationBatch) -> None:
        super().add(batch)
        self._found = None

    def metrics(self) -> dict[str, float]:
        statistics, null = self._tested()
        local = _p_values(statistics, null)
        return {
            "LC2ST p-value": float(_p_values(statistics.mean(0, keepdim=True), null.mean(1, keepdim=True))),
            "LC2ST statistic": float(statistics.mean()),
            "LC2ST conditions": len(statistics),
            "LC2ST, share of conditions below 5%": float((local <= _LEVEL).double().mean()),
        }

    def arrays(self) -> dict[str, Tensor]:
        statistics, null = self._tested()
        found = {"LC2ST p-values": _p_values(statistics, null), "LC2ST statistics": statistics}
        places = self._order()[-len(statistics) :]
        # Those that the classifier has learned from have none.
        empty = statistics.new_full((len(self.kept()[1]),), torch.nan)
        return {name: empty.index_copy(0, places, values) for name, values in found.items()}

    def _order(self) -> Tensor:
        """All conditions in random order (C,), since data may be sorted: the first half is learned from."""
        count = len(self.kept()[1])
        return torch.randperm(count, generator=derive_generator(self.config.seed, "lc2st", "halves"))

    def warnings(self) -> list[str]:
        value = self.metrics()["LC2ST p-value"]
        least = 1 / (1 + self.config.exchanges)
        if value > max(self.config.warns_below, least):
            return []
        return [
            f"by LC2ST the draws are not from the posterior of the truths (p = {value:.2g} of at least {least:.2g}): a "
            "classifier separates them at conditions that it has not learned from"
        ]

    def _tested(self) -> tuple[Tensor, Tensor]:
        """The statistic at the conditions of the second half, (C2,), and under exchanges, (H, C2)."""
        if self._found is None:
            draws, truths, conditions = self.kept()
            if len(truths) < _FEWEST:
                raise DataError(
                    f"LC2ST learns from half of the conditions, and got {len(truths)}; at least {_FEWEST} are needed",
                    hint="set options.conditions higher, or take a larger split",
                )
            order = self._order()
            self._found = local_statistics(draws[:, order], truths[order], conditions[order], self.config)
        return self._found


def local_statistics(draws: Tensor, truth: Tensor, condition: Tensor, config: LC2STConfig) -> tuple[Tensor, Tensor]:
    """The statistics of LC2ST for draws (n, C, D), truths (C, D) and conditions (C, K): (C2,) and their null (H, C2).

    The first half of the conditions is learned from; see ``LC2ST``.
    """
    half, generator = len(truth) // 2, derive_generator(config.seed, "lc2st", "exchanges")
    pairs = torch.stack([truth[:half], draws[0, :half]])  # of one condition each
    beside = condition[:half].expand(2, *condition[:half].shape)
    shown = torch.cat([pairs, beside], 2)
    mean, std = shown.flatten(0, 1).mean(0), shown.flatten(0, 1).std(0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    asked = torch.cat([draws[:, half:], condition[half:].expand(len(draws), *condition[half:].shape)], 2)
    asked = ((asked - mean) / std).flatten(0, 1)
    learned = ((shown - mean) / std).transpose(0, 1)  # (half, 2, columns)

    def statistic(exchanged: Tensor) -> Tensor:
        order = torch.stack([exchanged, ~exchanged], 1).long()
        x = learned.gather(1, order[..., None].expand_as(learned)).transpose(0, 1).flatten(0, 1)
        share = _classified(x, asked, config)
        found: Tensor = (share.unflatten(0, (len(draws), -1)) - 0.5).square().mean(0)
        return found

    flips = torch.rand(config.exchanges, half, generator=generator) < 0.5
    found = statistic(torch.zeros(half, dtype=torch.bool))
    null = [statistic(flip) for flip in reported(flips, len(flips), "exchanges of LC2ST")]
    return found, torch.stack(null)


def _classified(x: Tensor, asked: Tensor, config: LC2STConfig) -> Tensor:
    """The probability by a classifier that ``asked`` (M, K) are of the second half of x (N, K): (M,)."""
    with library("metric:lc2st", "scorefold-verbs[mixtures]"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures
    labels = [0] * (len(x) // 2) + [1] * (len(x) // 2)
    kind = config.classifier or ("quadratic" if x.shape[1] <= _QUADRATIC else "mlp")
    model: Any = make_pipeline(PolynomialFeatures(2, include_bias=False), LogisticRegression(max_iter=200))
    if kind == "mlp":
        model = MLPClassifier((config.width,) * 2, max_iter=config.iterations, random_state=config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as many passes under the null
        model.fit(x.numpy(), labels)
    share: Tensor = torch.tensor(model.predict_proba(asked.numpy())[:, 1], dtype=torch.float64)
    return share


def _p_values(statistics: Tensor, null: Tensor) -> Tensor:
    """(1 + how many of the null's H are no smaller) / (1 + H), (C,)."""
    found: Tensor = (1 + (null >= statistics).double().sum(0)) / (1 + len(null))
    return found
