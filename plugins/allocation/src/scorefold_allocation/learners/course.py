"""The course of one training by episodes: when its learning rate falls, and when it ends before its last update."""

from __future__ import annotations

from scorefold_allocation.config.learners import EpisodesConfig
from scorefold_toolkit.training.optimiser import Plateau


class Course:
    """Effect of ``plateau`` and ``patience`` of a config on one seed.

    ``rate`` is the learning rate of the next update, ``ended`` whether there is none any more.

    >>> course = Course(EpisodesConfig(learning_rate=0.1, patience=2, validation={"every": 1}))
    >>> for update, loss in enumerate((3.0, 4.0, 5.0), start=1):
    ...     course.train(update, 9.0)
    ...     course.look(loss, watched=loss)
    >>> course.rate, course.ended
    (0.1, True)
    """

    def __init__(self, config: EpisodesConfig) -> None:
        self._config = config
        self._plateau = None if config.plateau is None else Plateau(config.plateau, [config.learning_rate])
        self._least = float("inf")
        self._gained = self._update = 0

    @property
    def rate(self) -> float:
        """The learning rate as it stands."""
        return self._config.learning_rate if self._plateau is None else self._plateau.rates[0]

    @property
    def ended(self) -> bool:
        """True if the rate has fallen once more than ``most_falls``, or ``patience`` updates were without a gain."""
        plateau, patience = self._config.plateau, self._config.patience
        most = None if plateau is None else plateau.most_falls
        return (self._plateau is not None and most is not None and self._plateau.drops > most) or (
            patience is not None and self._update - self._gained >= patience
        )

    @property
    def _by_training(self) -> bool:
        return self._config.plateau is not None and self._config.plateau.watch == "training"

    def train(self, update: int, loss: float) -> None:
        """Takes in the training loss of an update, counted from 1."""
        self._update = update
        if self._plateau is not None and self._by_training:
            self._plateau.take(loss)

    def look(self, held_out: float, watched: float) -> None:
        """Takes in the loss on validation tasks after the last update, and what the plateau watches of them, of which
        less is better."""
        if held_out < self._least:
            self._least, self._gained = held_out, self._update
        if self._plateau is not None and not self._by_training:
            self._plateau.take(watched)
