"""Settings of the learners and of their verb. No torch here: run files are checked before it is imported."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scorefold.config import Config, PlateauConfig

Count = Annotated[int, Field(ge=1)]


class StackedMLPConfig(Config):
    """A multi-layer perceptron with ReLU; events of any shape are flattened."""

    name: Literal["mlp"] = "mlp"
    widths: tuple[Count, ...] = Field((40, 40), description="Units of each hidden layer")


class StackedConvConfig(Config):
    """Blocks of 3 x 3 convolution, normalisation by the batch's own statistics, ReLU and max-pooling by 2.

    Pooling stops where a side is 1. Support and query sets are normalised apart, each task by itself.
    """

    name: Literal["conv"] = "conv"
    channels: int = Field(32, ge=1, description="Channels of every block")
    blocks: int = Field(4, ge=1, le=8, description="Blocks")
    mean: tuple[float, ...] = Field((), description="What is taken off each channel of an image; none for nothing")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field((), description="What each channel is divided by then")

    @model_validator(mode="after")
    def _has_both(self) -> StackedConvConfig:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std {len(self.std)}; expected as many")
        return self


NetworkConfig = Annotated[StackedMLPConfig | StackedConvConfig, Field(discriminator="name")]


class NewTasksConfig(Config):
    """The new tasks that a trained learner is tested on, and how it adapts to them."""

    tasks: int = Field(200, ge=1, description="Tasks of the split test")
    support: Count | Literal["tied"] = Field(
        20, description="Labels to adapt with; tied: as many as the training tasks have support labels"
    )
    query: int = Field(50, ge=1, description="Labels that the loss or accuracy on a task is measured on")


class AdaptedTasksConfig(NewTasksConfig):
    """The same for learners that adapt by gradient steps."""

    steps: int | None = Field(None, ge=0, description="Gradient steps of the adaptation; null: as many as in training")
    rate: float | None = Field(None, description="Their learning rate; null: the learning rate of training")


class ValidationConfig(Config):
    """Held-out tasks of the split validation, on which the weights to keep are chosen."""

    tasks: int = Field(60, ge=0, description="Tasks, of the sizes of the new tasks; 0 keeps the last weights")
    every: int = Field(50, ge=1, description="Updates between two looks at them")


class LinearLearnerConfig(Config):
    """One-step MAML on linear regression, solved exactly."""

    rate: float = Field(0.4, description="alpha, the learning rate of the inner step on half the mean squared error")
    new_tasks: AdaptedTasksConfig = Field(AdaptedTasksConfig(), description="The tasks it is tested on")


class EpisodesPlateauConfig(PlateauConfig):
    """A learning rate that falls where nothing is gained; a check is a look at validation tasks, or an update."""

    watch: Literal["loss", "accuracy", "training"] = Field(
        "loss",
        description="What is to gain: the loss or the accuracy on validation tasks, at each look at them; or the "
        "training loss, at each update",
    )
    most_falls: int | None = Field(None, ge=0, description="A fall beyond these ends the training; null: none does")


class EpisodesConfig(Config):
    """Common settings of learners that train a network by episodes. Training is as long for any allocation, unless
    ``plateau`` or ``patience`` ends it earlier.
    """

    network: NetworkConfig = Field(StackedMLPConfig(), description="The network")
    updates: int = Field(2000, ge=0, description="Most updates of the weights, the same number for every allocation")
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate of Adam")
    plateau: EpisodesPlateauConfig | None = Field(None, description="Falls of the learning rate; null: it stays")
    patience: int | None = Field(
        None, ge=1, description="Updates without a lower loss on validation tasks that end a training; null: none do"
    )
    tasks_per_update: int | None = Field(25, ge=1, description="Most tasks in an update, drawn anew; null for all")
    labels_per_update: int | None = Field(
        None, ge=2, description="Most labels of a task in an update, support and query, drawn anew; null for all"
    )
    split: Literal["fixed", "reshuffled"] = Field(
        "reshuffled",
        description="Whether a task's labels keep their part, support or query, or are dealt anew at every update, "
        "whatever their classes",
    )
    validation: ValidationConfig = Field(ValidationConfig(), description="The tasks that choose the weights to keep")
    measure: Literal["loss", "accuracy"] = Field(
        "loss",
        description="What is reported of new tasks: the mean squared error of numbers, or the cross-entropy of "
        "classes; or the share of classes that are right",
    )
    types_alone: tuple[str, ...] = Field(
        (), description="Types of task that are tested on by themselves too, as many new tasks of each"
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="Precision of weights and data")

    @model_validator(mode="after")
    def _can_end(self) -> EpisodesConfig:
        plateau = self.plateau
        if plateau is None or plateau.most_falls is None:
            return self
        rate = self.learning_rate * plateau.factor**plateau.most_falls
        if rate <= plateau.least:
            raise ValueError(
                f"{plateau.most_falls} falls from {self.learning_rate:g} come to {rate:g}; expected more than "
                f"plateau.least, {plateau.least:g}, or there is no further fall that ends the training"
            )
        return self

    @model_validator(mode="after")
    def _looks_first(self) -> EpisodesConfig:
        if self.patience is not None and self.validation.tasks and self.patience < self.validation.every:
            raise ValueError(
                f"patience is {self.patience}, and validation tasks are looked at every {self.validation.every} "
                "updates; expected a patience of as many at least"
            )
        return self

    @property
    def has_course(self) -> bool:
        """True if the learning rate and the end of a training depend on how it goes."""
        return self.plateau is not None or self.patience is not None


class ANILConfig(EpisodesConfig):
    """Adaptation by gradient steps of the last layer alone; the rest of the network is shared by all tasks."""

    order: Literal["second", "first"] = Field(
        "second", description="Differentiate through the inner steps, or take the gradient where they end"
    )
    steps: int = Field(1, ge=1, description="Inner gradient steps in training")
    rate: float = Field(0.01, description="Inner learning rate, on the mean squared error or cross-entropy")
    new_tasks: AdaptedTasksConfig = Field(AdaptedTasksConfig(), description="The tasks it is tested on")


class MAMLConfig(ANILConfig):
    """Adaptation of all weights by gradient steps."""


class PrototypesConfig(EpisodesConfig):
    """Classification by the nearest mean of a class in an embedding."""

    network: NetworkConfig = Field(
        StackedMLPConfig(widths=(64,)), description="The embedding, with 'dimension' outputs"
    )
    dimension: int = Field(64, ge=1, description="Coordinates of the embedding")
    measure: Literal["loss", "accuracy"] = Field(
        "accuracy",
        description="What is reported of new tasks; the loss is infinite where the support labels of one lack a class",
    )
    new_tasks: NewTasksConfig = Field(NewTasksConfig(), description="The tasks it is tested on")


class CallableLearnerConfig(Config):
    """A function of yours, which trains and tests."""

    target: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function, called as function(source, cells, seed, **options); it gives one number a cell, "
        "or a scorefold_allocation.learners.interface.Losses",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Further arguments, by name")
    measure: Literal["loss", "accuracy"] = Field("loss", description="What the numbers are")


class AllocationCellConfig(Config):
    """An allocation to try."""

    tasks: int = Field(ge=1, description="Training tasks")
    support: int = Field(ge=1, description="Support labels of each, of all classes together")
    query: int = Field(ge=1, description="Query labels of each")


class EvaluateOptions(Config):
    """Allocations to try, and their seeds."""

    cells: Annotated[tuple[AllocationCellConfig, ...], Field(min_length=1)] | None = Field(
        None, description="The allocations; null for three of 400 labels, or for 'mixtures'"
    )
    mixtures: tuple[Annotated[dict[str, AllocationCellConfig], Field(min_length=1)], ...] = Field(
        (), description="Allocations by type of task, in place of 'cells': the name of each type, and its tasks"
    )
    seeds: int = Field(3, ge=1, description="Trainings of each, from other weights on other tasks")

    @model_validator(mode="after")
    def _has_one(self) -> EvaluateOptions:
        if self.mixtures and self.cells is not None:
            raise ValueError(f"{len(self.cells)} cells and {len(self.mixtures)} mixtures; expected one of them")
        return self
