"""Settings of the sources of tasks. No torch here: run files are checked before it is imported."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from scorefold.config import Config
from scorefold_toolkit.config.common import Classes, ClassName, FilePath, Seed

Digit = Annotated[int, Field(ge=0, le=9)]
PooledTasks = Annotated[int, Field(ge=1, description="Tasks in each split, where it is read as ordinary data")]
PooledLabels = Annotated[int, Field(ge=1, description="Labels of each of these tasks")]
Ways = Annotated[int, Field(ge=2, description="Classes of a task")]


class TypeConfig(Config):
    """A type of task, and how many of the tasks are of it."""

    name: str = Field("task", min_length=1, description="What the type is called")
    share: float = Field(1.0, gt=0, description="Its part in the tasks, up to a common factor")


class LinearTypeConfig(TypeConfig):
    """A type of regression task: how far its weights spread and how noisy its labels are."""

    spread: float = Field(1.0, ge=0, description="nu, the root mean square distance of task weights from the centre")
    noise: float = Field(1.0, ge=0, description="sigma, the standard deviation of the label noise")


class NoisyTypeConfig(TypeConfig):
    """A type of classification task: how many of its labels are wrong, and how alike its classes are."""

    label_noise: float = Field(0.0, ge=0, lt=1, description="Chance that a label is another class of its task")
    redrawn: bool = Field(
        False, description="Draw wrong labels anew whenever a task is read, where they stay wrong otherwise"
    )
    classes: Literal["any", "within", "across"] = Field(
        "any", description="Classes of a task: any, within one of the source's superclasses, or not all within one"
    )


Kind = TypeVar("Kind", bound=TypeConfig)


def _named_apart(types: tuple[Kind, ...]) -> tuple[Kind, ...]:
    twice = [name for name, count in Counter(kind.name for kind in types).items() if count > 1]
    if twice:
        raise ValueError(f"{len(types)} types, and several are called {twice[0]!r}; give each a 'name' of its own")
    return types


Types = Annotated[
    tuple[Kind, ...],
    Field(min_length=1, description="The types of task, in turn by their shares"),
    AfterValidator(_named_apart),
]


class LinearTasksConfig(Config):
    """Linear regressions whose weights lie around a common centre."""

    dimension: int = Field(20, ge=1, description="p, the number of weights")
    distance: float = Field(1.0, ge=0, description="Length of the centre w0, which has p equal coordinates")
    types: Types[LinearTypeConfig] = (LinearTypeConfig(),)
    tasks: PooledTasks = 100
    labels: PooledLabels = 10
    seed: Seed = None


class SinusoidTasksConfig(Config):
    """Regressions of y = A sin(x + phase)."""

    amplitude: tuple[float, float] = Field((0.1, 5.0), description="A is uniform between these")
    phase: tuple[float, float] = Field((0.0, 3.141592653589793), description="The phase is uniform between these")
    inputs: tuple[float, float] = Field((-5.0, 5.0), description="x is uniform between these")
    noise: float = Field(0.0, ge=0, description="Standard deviation of the label noise")
    tasks: PooledTasks = 100
    labels: PooledLabels = 10
    seed: Seed = None

    @model_validator(mode="after")
    def _is_ordered(self) -> SinusoidTasksConfig:
        for name in ("amplitude", "phase", "inputs"):
            low, high = getattr(self, name)
            if low > high or (name == "inputs" and low == high):
                raise ValueError(f"{name} goes from {low:g} to {high:g}; expected the lower end first")
        return self


class ClassTasksConfig(Config):
    """Common settings of sources of few-shot classification."""

    ways: Ways = 5
    types: Types[NoisyTypeConfig] = (NoisyTypeConfig(),)


class FewShotConfig(ClassTasksConfig):
    """Few-shot tasks from the classes of any labelled data."""

    train: Classes | None = Field(
        None,
        description="Training classes, by number or by name; null takes those that are left, and where test is null "
        "too the first half of them",
    )
    validation: tuple[ClassName, ...] | Literal["train"] = Field(
        (), description="Validation classes; none for no such split, and 'train' for new tasks of the training classes"
    )
    test: Classes | None = Field(
        None, description="Test classes; null takes those that are left, and where train is null too their second half"
    )
    superclasses: dict[str, Classes] = Field(
        {}, description="Classes by superclass, for types of task with 'classes: within' or 'across'"
    )
    turned: bool = Field(
        False,
        description="Four classes from each, of square images turned by quarters: more tasks from few classes. The "
        "splits take the classes before they are turned, and hold the turned images in memory",
    )

    @property
    def turns(self) -> int:
        """The classes of a task source that each class of the data gives."""
        return 4 if self.turned else 1


class DigitRotationsConfig(ClassTasksConfig):
    """scikit-learn's digits turned by quarters: each digit gives four classes."""

    train: tuple[Digit, ...] = Field((0, 1, 2, 3), min_length=1, description="Digits whose turns are training classes")
    validation: tuple[Digit, ...] = Field((4, 5), description="Digits of the validation classes; none for no split")
    test: tuple[Digit, ...] = Field(
        (6, 7, 8, 9), min_length=1, description="Digits of the test classes; a 9 is a turned 6, so keep these together"
    )
    flatten: bool = Field(True, description="Events are vectors (64) instead of images (1, 8, 8)")

    @model_validator(mode="after")
    def _is_disjoint(self) -> DigitRotationsConfig:
        digits = [*self.train, *self.validation, *self.test]
        twice = sorted({digit for digit in digits if digits.count(digit) > 1})
        if twice:
            raise ValueError(f"{', '.join(map(str, twice))} stands twice; expected every digit in one split, once")
        for split in ("train", "validation", "test"):
            classes = 4 * len(getattr(self, split))
            if 0 < classes < self.ways:
                raise ValueError(f"{split} has {classes} classes and a task {self.ways}; add digits, or lower 'ways'")
        return self


class FewShotFoldersConfig(ClassTasksConfig):
    """Images in folders, split by class: as CIFAR-FS or as mini-ImageNet is published."""

    root: FilePath = Field(
        description="The folder: with a folder for each class (in it or in data/) and lists of class names, train.txt, "
        "val.txt, test.txt; or with train.csv, val.csv, test.csv of filename,label and the files in images/",
    )
    form: Literal["lists", "csv"] | None = Field(None, description="Which of the two; null looks at what there is")
    size: int | None = Field(None, ge=1, description="Height and width in pixels; null where all images have one size")
    grey: bool = Field(False, description="One grey channel instead of three colours")
    range: tuple[float, float] = Field((0.0, 1.0), description="Values of the smallest and the largest pixel")
    memory: float = Field(
        1024.0, ge=0, description="Largest size in MiB of a split kept in memory; larger ones are decoded as read"
    )

    @model_validator(mode="after")
    def _has_width(self) -> FewShotFoldersConfig:
        if self.range[0] >= self.range[1]:
            raise ValueError(f"the range is {self.range}; expected the lower end first")
        return self
