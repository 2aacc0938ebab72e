"""The course of one training by episodes: when its learning rate falls, and when it ends before its last update."""

from __future__ import annotations

from scorefold_allocation.config.learners import EpisodesConfig
from scorefold_toolkit.training.schedule import Plateau


class Course:
    """What ``plateau`` and ``patience`` of a config make of the losses of one seed.

    ``rate`` is the learning rate of the next update, ``ended`` whether there is none any more.

    >>> course = Course(EpisodesConfig(learning_rate=0.1, patience=2))
    >>> for update, loss in enumerate((3.0, 4.0, 5.0), start=1):
    ...     course.take(update, training=9.0, held_out=loss, watched=loss)
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
        """Whether the rate has fallen once more than ``most_falls``, or ``patience`` updates were without a gain."""
        plateau, patience = self._config.plateau, self._config.patience
        most = None if plateau is None else plateau.most_falls
        return (self._plateau is not None and most is not None and self._plateau.drops > most) or (
            patience is not None and self._update - self._gained >= patience
        )

    def take(self, update: int, training: float, held_out: float | None = None, watched: float | None = None) -> None:
        """Takes in the training loss of an update, counted from 1; and after a look at validation tasks their loss,
        and what the plateau watches of them, of which less is better."""
        self._update = update
        if held_out is not None and held_out < self._least:
            self._least, self._gained = held_out, update
        if self._config.plateau is not None and self._config.plateau.watch == "training":
            watched = training
        if self._plateau is not None and watched is not None:
            self._plateau.take(watched)
