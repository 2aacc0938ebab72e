"""scikit-learn's handwritten digits."""

from __future__ import annotations

import torch

from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold_standard.config.data import DigitsConfig
from scorefold_standard.data.units import Units, class_condition
from scorefold_toolkit.data.splits import measured_split, moments, pick, source_seed, split_positions


class Digits(DataSource):
    """1,797 digits as images (1, 8, 8), or vectors (64), with 17 grey levels; the label is the digit.

    ``index`` is the position in scikit-learn's array.

    >>> from scorefold_registry import Host
    >>> binary = Host.discover().create("data:digits", {"digits": [0, 1]})
    >>> binary.event_shape, binary.load("test").label.unique().tolist()
    ((1, 8, 8), [0, 1])
    """

    label_names = tuple(map(str, range(10)))

    def __init__(self, config: DigitsConfig, *, generator: torch.Generator | None = None) -> None:
        from sklearn.datasets import load_digits

        raw, target = load_digits(return_X_y=True)
        label = torch.from_numpy(target).long()
        index, self.rows = torch.arange(len(label)), range(len(label))
        if config.digits is not None:
            index = index[torch.isin(label, torch.tensor(config.digits, dtype=torch.long))]
        units = Units(*config.range, raw_high=16.0, levels=17)
        self.event_shape = (64,) if config.flatten else (1, 8, 8)
        x = units.apply(torch.from_numpy(raw)[index]).reshape(-1, *self.event_shape)
        condition, self.condition_spec = class_condition(config.condition == "label", label[index], 10)
        dataset = Dataset(x=x, condition=condition, label=label[index], index=index)
        positions = split_positions(len(x), config.fractions, source_seed(config.seed, generator), config.limit)
        self._splits = {name: dataset.take(position) for name, position in positions.items()}
        self.event_scale = units.scale(*moments(measured_split(self._splits).x))

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)
