"""Metrics of ``assess``: C2ST by the protocol of sbibm, and precision, recall, density and coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from scorefold.data import ConditionSpec
from scorefold.errors import ConfigError, DataError
from scorefold.stage import reported
from scorefold_toolkit.metrics.distances import neighbour_measures
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Metric, Units
from scorefold_verbs.config import C2STConfig, NeighboursConfig

PUBLISHED = 10_000
"""Draws on each side in the published tables."""

_PARTS = 5
_FEWEST = 50
_TOGETHER = 10
"""Conditions whose networks are trained together."""


class C2ST(Metric):
    """The classifier two-sample test of Lueckmann et al. (2021): the accuracy by which a network separates draws from
    reference draws, in [0, 1]. Draws of the right posterior have 0.5 up to chance, draws that are easily separated 1.

    The reference is the truth ``posterior`` (N, n', *E) of the data, as ``data:sbibm`` gives it. ``C2ST`` is the mean
    over conditions; each condition's own stands in the arrays. Raises ``ConfigError`` for a model without conditions,
    and ``DataError`` where the data bring no reference draws.

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
        return _C2ST(self.config)


class _C2ST(Measure):
    def __init__(self, config: C2STConfig) -> None:
        self.config = config
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._found: list[float] = []

    def add(self, batch: EvaluationBatch) -> None:
        if batch.reference is None:
            raise DataError("C2ST compares with reference draws of the posterior, and this batch has none")
        draws = batch.draws[: self.config.draws].transpose(0, 1).flatten(2).float().cpu()
        if draws.shape[1] < _FEWEST:
            raise DataError(
                f"C2ST compares at least {_FEWEST} draws for each condition, and got {draws.shape[1]}",
                hint="ask for more draws (n of assess)",
            )
        self._pairs += zip(batch.reference.flatten(2).float().cpu(), draws, strict=True)

    def metrics(self) -> dict[str, float]:
        values = self._accuracies()
        return {"C2ST": sum(values) / len(values), "C2ST, largest of all conditions": max(values)}

    def arrays(self) -> dict[str, Tensor]:
        return {"C2ST": torch.tensor(self._accuracies(), dtype=torch.float64)}

    def warnings(self) -> list[str]:
        fewest = min(len(draws) for _, draws in self._pairs)
        if fewest == PUBLISHED:
            return []
        return [f"C2ST compares {fewest:,} draws a condition; published values are of {PUBLISHED:,} and are larger"]

    def _accuracies(self) -> list[float]:
        pairs = self._pairs[len(self._found) :]
        groups = [pairs[start : start + _TOGETHER] for start in range(0, len(pairs), _TOGETHER)]
        for group in reported(groups, len(groups), "groups of conditions of C2ST"):
            self._found += c2sts(group, self.config.seed)
        return self._found


def c2st(reference: Tensor, draws: Tensor, seed: int = 1) -> float:
    """The accuracy of a network that separates ``draws`` (n, D) from as many of the ``reference`` (m, D), in [0, 1].

    Both are standardised by the reference. The network has two hidden layers of 10 D units; the accuracy is the mean of
    five parts, each classified by a network that learned from the other four (Lueckmann et al. 2021, appendix). Raises
    ``DataError`` for numbers that are not finite and for fewer reference draws than draws.
    """
    return c2sts([(reference, draws)], seed)[0]


def c2sts(pairs: Sequence[tuple[Tensor, Tensor]], seed: int = 1) -> list[float]:
    """``c2st`` of pairs of reference (m, D) and draws (n, D), all of one n, whose networks are trained together."""
    shown = torch.stack([_standardised(reference, draws) for reference, draws in pairs])
    count = shown.shape[1]
    labels = torch.arange(count) >= count // 2
    order = np.arange(count)
    np.random.RandomState(seed).shuffle(order)
    parts = [torch.from_numpy(part) for part in np.array_split(order, _PARTS)]
    rest = [torch.cat([other for other in parts if other is not part]).sort().values for part in parts]
    # Parts of one size: networks of a stack see as many points.
    accuracies = torch.empty(_PARTS, len(pairs))
    for size in {len(part) for part in parts}:
        own = [number for number, part in enumerate(parts) if len(part) == size]
        train, test = (torch.stack([rows[number] for number in own]) for rows in (rest, parts))
        network = _Networks(shown[:, train].flatten(0, 1), labels[train].repeat(len(pairs), 1), seed)
        said = network.classify(shown[:, test].flatten(0, 1)).unflatten(0, (len(pairs), len(own)))
        accuracies[own] = (said == labels[test]).float().mean(2).T
    return [float(value) for value in accuracies.double().mean(0)]


def _standardised(reference: Tensor, draws: Tensor) -> Tensor:
    """Reference, then draws, (2 n, D)."""
    if len(reference) < len(draws):
        raise DataError(f"{len(draws)} draws were given with {len(reference)} reference draws; expected as many")
    reference = reference[: len(draws)]
    if not bool(draws.isfinite().all() & reference.isfinite().all()):
        raise DataError("draws or reference draws are not finite; C2ST has no value")
    return (torch.cat([reference, draws]) - reference.mean(0)) / reference.std(0)


class _Networks:
    """Networks D - 10 D - 10 D - 1 with ReLU on x (M, n, D) and labels (M, n), one for each of M, trained as
    scikit-learn's ``MLPClassifier(max_iter=10000)`` of the published protocol is by default.

    That is Adam with batches of 200 and a penalty of 1e-4 until the loss of ten passes in a row is not 1e-4 below the
    best. Weights and batches come from the seed as there, and all networks of a stack share them.
    """

    _BATCH, _RATE, _PENALTY, _BETAS, _TOLERANCE, _PATIENCE, _PASSES = 200, 1e-3, 1e-4, (0.9, 0.999), 1e-4, 10, 10_000

    def __init__(self, x: Tensor, labels: Tensor, seed: int) -> None:
        random = np.random.RandomState(seed)
        features, width = x.shape[2], 10 * x.shape[2]
        self.sizes = [(features, width), (width, width), (width, 1)]
        values = []
        for rows, columns in self.sizes:
            bound = (6 / (rows + columns)) ** 0.5
            values += [random.uniform(-bound, bound, rows * columns), random.uniform(-bound, bound, columns)]
        start = torch.from_numpy(np.concatenate(values)).float()
        self.weights = start.repeat(len(x), 1)
        self._train(x, labels.float(), random)

    def classify(self, x: Tensor) -> Tensor:
        """True for label 1, (M, n)."""
        return self._outputs(self._layers(self.weights), x)[-1][..., 0] > 0

    def _layers(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Matrices (M, rows, columns) and shifts (M, 1, columns), views of a row of numbers for each network."""
        layers, at = [], 0
        for rows, columns in self.sizes:
            matrix, shift = flat[:, at : (at := at + rows * columns)], flat[:, at : (at := at + columns)]
            layers.append((matrix.unflatten(1, (rows, columns)), shift[:, None]))
        return layers

    def _outputs(self, layers: list[tuple[Tensor, Tensor]], x: Tensor) -> list[Tensor]:
        """Input, hidden layers and log-odds."""
        found = [x]
        for matrix, shift in layers:
            z = torch.baddbmm(shift, found[-1], matrix)
            found.append(z if matrix.shape[2] == 1 else z.relu_())
        return found

    def _train(self, x: Tensor, labels: Tensor, random: np.random.RandomState) -> None:
        left = torch.arange(len(x))
        weights = self.weights.clone()
        first, second, gradient = (torch.zeros_like(weights) for _ in range(3))
        best, waited = torch.full((len(x),), torch.inf), torch.zeros(len(x))
        order, step = np.arange(x.shape[1]), 0
        for _ in range(self._PASSES):
            order = order[random.permutation(len(order))]
            rows = torch.from_numpy(order)
            x_now, labels_now = x[:, rows], labels[:, rows, None]
            layers, slopes = self._layers(weights), self._layers(gradient)
            total = torch.zeros(len(weights))
            for some, truth in zip(x_now.split(self._BATCH, 1), labels_now.split(self._BATCH, 1), strict=True):
                total += self._gradient(layers, slopes, some, truth)
                step += 1
                a, b = self._BETAS
                first.lerp_(gradient, 1 - a)
                second.mul_(b).addcmul_(gradient, gradient, value=1 - b)
                rate = self._RATE * (1 - b**step) ** 0.5 / (1 - a**step)
                weights.addcdiv_(first, second.sqrt().add_(1e-8), value=-rate)
            loss = total / x.shape[1]
            waited = torch.where(loss > best - self._TOLERANCE, waited + 1, 0)
            best = torch.minimum(best, loss)
            done = waited > self._PATIENCE
            if not done.any():
                continue
            self.weights[left[done]] = weights[done]
            if done.all():
                return
            x, labels, left, best, waited = (one[~done] for one in (x, labels, left, best, waited))
            weights, first, second, gradient = (one[~done] for one in (weights, first, second, gradient))
        self.weights[left] = weights

    def _gradient(
        self, layers: list[tuple[Tensor, Tensor]], slopes: list[tuple[Tensor, Tensor]], x: Tensor, truth: Tensor
    ) -> Tensor:
        """Write the gradient of a batch to ``slopes``, and return its summed loss, (M,)."""
        outputs = self._outputs(layers, x)
        odds, count = outputs[-1], x.shape[1]
        loss = (functional.softplus(odds) - truth * odds).sum((1, 2))
        error = (odds.sigmoid() - truth) / count
        for number in (2, 1, 0):
            matrix, (to_matrix, to_shift) = layers[number][0], slopes[number]
            torch.baddbmm(matrix, outputs[number].mT, error, beta=self._PENALTY / count, out=to_matrix)
            torch.sum(error, 1, keepdim=True, out=to_shift)
            loss += self._PENALTY / 2 * torch.linalg.vector_norm(matrix, dim=(1, 2)).square()
            if number:
                error = (error @ matrix.mT).mul_(outputs[number] > 0)
        return loss


MOST = 10_000
"""The most points of each set that distances are taken between."""


class Neighbours(Metric):
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), of coordinates.

    A ball around a point reaches to its k-th nearest neighbour in its own set. Precision is the share of samples in a
    ball of a held-out point, recall the share of held-out points in a ball of a sample; density the mean number of
    balls of held-out points that a sample lies in, over k; coverage the share of held-out points with a sample in their
    ball. Samples of the right distribution have density 1, and coverage 1 - prod_{i<k} (n - 1 - i) / (2 n - 1 - i)
    with n points in each set; the other two depend on the distribution. The first sample for each point counts.

    >>> from scorefold_registry import Host
    >>> measure = Host.discover().create("metric:neighbours").start(Units(low=0.0, high=1.0), (2,), None)
    >>> truth, samples = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(0))
    >>> measure.add(EvaluationBatch(truth, draws=samples[None]))
    >>> {name: round(value, 1) for name, value in measure.metrics().items()}
    {'precision': 1.0, 'recall': 1.0, 'density': 1.0, 'coverage': 1.0}
    """

    def __init__(self, config: NeighboursConfig) -> None:
        self.config = config

    def start(self, units: Units, event_shape: tuple[int, ...], condition_spec: ConditionSpec | None) -> Measure:
        return _Balls(self.config.precision_neighbours, self.config.density_neighbours)


class _Balls(Measure):
    def __init__(self, precision_neighbours: int, density_neighbours: int) -> None:
        self.first, self.second = precision_neighbours, density_neighbours
        self._truths: list[Tensor] = []
        self._samples: list[Tensor] = []

    def add(self, batch: EvaluationBatch) -> None:
        self._truths.append(batch.truth.flatten(1).double().cpu())
        self._samples.append(batch.draws[0].flatten(1).double().cpu())

    def metrics(self) -> dict[str, float]:
        truths, samples = torch.cat(self._truths)[:MOST], torch.cat(self._samples)[:MOST]
        most = max(self.first, self.second)
        if len(truths) <= most:
            raise DataError(
                f"{len(truths)} held-out points have no {most} neighbours each",
                hint="take more of them (options: conditions), or fewer neighbours",
            )
        within = torch.cdist(truths, truths), torch.cdist(samples, samples)
        return neighbour_measures(torch.cdist(samples, truths), *within, self.first, self.second)
