"""Sources of tasks: what their tasks follow, nesting, splits without common classes, refusals."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from scorefold.data import Dataset, EventScale, StreamedDataset
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import TensorSource
from scorefold.interfaces.data import SPLITS
from scorefold_allocation.data.batch import TARGET, BatchedTasks, TaskSource, batch_of, types_in_turn
from scorefold_allocation.data.classes import DigitRotations, chosen_classes
from scorefold_allocation.data.config import (
    DigitRotationsConfig,
    FewShotConfig,
    FewShotFoldersConfig,
    LinearTasksConfig,
    LinearTypeConfig,
    NoisyTypeConfig,
    SinusoidTasksConfig,
)
from scorefold_allocation.data.folders import FewShotFolders
from scorefold_allocation.data.labelled import FewShot
from scorefold_allocation.data.regression import LinearTasks, SinusoidTasks

SAMPLES = Path(__file__).parent.parent / "src/scorefold_allocation/samples/few-shot"
TYPES = (LinearTypeConfig(name="easy", noise=0.1, share=3), LinearTypeConfig(name="hard", spread=2.0, noise=2.0))
NOISY = (NoisyTypeConfig(name="easy"), NoisyTypeConfig(name="hard", label_noise=0.4))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(**settings: Any) -> LinearTasks:
    return LinearTasks(LinearTasksConfig(**settings))


def labelled(classes: int = 6, each: int = 12, streamed: bool = False, names: Any = None) -> TensorSource:
    """Points whose two coordinates are their class and their index, the classes in turn, in three splits."""
    count = classes * each
    index = torch.arange(count)
    x = torch.stack([index % classes, index], 1).float()
    whole = Dataset(x, condition=torch.zeros(count), label=index % classes, index=index)

    def part(start: int, end: int) -> Dataset:
        rows = whole.take(torch.arange(start, end))
        return StreamedDataset(x=x[:0], fetch=rows.take, size=len(rows)) if streamed else rows

    ends = (0, count // 2, 2 * count // 3, count)
    splits = {split: part(*ends[i : i + 2]) for i, split in enumerate(SPLITS)}
    source = TensorSource(splits, EventScale(low=0.0, high=float(count)))
    source.label_names = names
    return source


def few_shot(data: TensorSource | None = None, **config: Any) -> FewShot:
    return FewShot(FewShotConfig(**{"ways": 2, **config}), data=data or labelled())


@pytest.fixture(
    params=["linear", "sinusoid", "digits", "folders", "lazy", "labelled", "streamed"],
)
def source(request: pytest.FixtureRequest) -> BatchedTasks[Any]:
    made: dict[str, BatchedTasks[Any]] = {
        "linear": linear(dimension=3, types=TYPES),
        "sinusoid": SinusoidTasks(SinusoidTasksConfig(noise=0.3)),
        "digits": DigitRotations(DigitRotationsConfig(types=NOISY)),
        "folders": FewShotFolders(FewShotFoldersConfig(root=str(SAMPLES), ways=2, types=NOISY)),
        "labelled": few_shot(types=NOISY),
        "streamed": few_shot(labelled(streamed=True)),
        "lazy": FewShotFolders(FewShotFoldersConfig(root=str(SAMPLES), ways=2, memory=0.0)),
    }
    return made[request.param]


@pytest.mark.parametrize("streamed", [False, True])
def test_classes_of_any_labelled_data_are_divided(streamed: bool) -> None:
    source = few_shot(labelled(streamed=streamed, names=list("abcdef")), validation=("f", 1), test=(0, "c"))
    expected = {"train": {3, 4}, "validation": {1, 5}, "test": {0, 2}}
    for split, numbers in expected.items():
        data = source.load(split)
        points = data.take(torch.arange(len(data)))
        assert len(points) == 24  # 12 of each class, out of all the splits of the source
        assert set(points.label.tolist()) == numbers  # type: ignore[union-attr]
        assert torch.equal(points.x[:, 1].long(), points.index)
        assert torch.equal(points.x[:, 0].long(), points.label)
        assert points.condition is None
        x, y = source.batch(5, 6, generator(), split).tensors()
        assert set(x[..., 0].flatten().tolist()) == numbers
        for task, target in zip(x, y, strict=True):
            assert len({(int(a), int(b)) for a, b in zip(task[:, 0], target, strict=True)}) == 2
    train = source.load("train")
    assert source.event_scale.mean == pytest.approx(float(train.take(torch.arange(24)).x.mean()))
    assert source.event_scale.high == 72
    assert source.condition_spec is None


def test_classes_are_divided_in_halves_where_nothing_is_said() -> None:
    source = few_shot()
    assert set(source.load("train").label.tolist()) == {0, 1, 2}  # type: ignore[union-attr]
    assert set(source.load("test").label.tolist()) == {3, 4, 5}  # type: ignore[union-attr]
    with pytest.raises(SplitError):
        source.load("validation")
    rest = few_shot(test=(1, 4))
    assert set(rest.load("train").label.tolist()) == {0, 2, 3, 5}  # type: ignore[union-attr]


def test_a_fingerprint_follows_points_and_classes() -> None:
    first = few_shot().fingerprint()
    assert few_shot().fingerprint() == first
    assert few_shot(test=(0, 1)).fingerprint() != first
    assert few_shot(labelled(each=15)).fingerprint() != first


def test_classes_that_can_not_be_divided_are_refused() -> None:
    for config, said in (
        ({"train": (0, 9)}, "there is no class 9; expected one of 0, 1, 2, 3, 4, 5"),
        ({"train": (0, 1), "test": (1, 2)}, r"class 1 \(1\) stands in train and in test"),
        ({"ways": 4}, "train has 3 classes and a task 4; the data have 6"),
        ({"validation": (3,)}, "validation has 1 classes and a task 2"),
    ):
        with pytest.raises(ConfigError, match=said):
            few_shot(**config)
    with pytest.raises(DataError, match="drawn from classes, and TensorSource has no labels"):
        few_shot(TensorSource(torch.zeros(8, 2)))
    with pytest.raises(ValidationError, match="is listed twice"):
        FewShotConfig(train=(0, 0))


def test_few_tasks_and_labels_are_the_first_of_many(source: BatchedTasks[Any]) -> None:
    for split in ("train", "test"):
        x, y = source.batch(7, 8, generator(), split).tensors()
        fewer, targets = source.batch(3, 5, generator(), split).tensors()
        assert torch.equal(fewer, x[:3, :5])
        assert torch.equal(targets, y[:3, :5])


def test_tasks_as_data_sets_are_those_of_the_batch(source: BatchedTasks[Any]) -> None:
    x, y = source.batch(3, 5, generator()).tensors()
    for number, pair in enumerate(source.tasks(3, 2, 3, generator())):
        assert torch.equal(torch.cat([part.x for part in pair]), x[number])
        target = [part.truth[TARGET] if y.is_floating_point() else part.label for part in pair]
        assert torch.equal(torch.cat(target), y[number])
        assert [len(part) for part in pair] == [2, 3]


def test_any_source_of_tasks_becomes_a_batch(source: BatchedTasks[Any]) -> None:
    class Foreign(TaskSource):
        def tasks(self, *arguments: Any) -> Any:
            return source.tasks(*arguments)

    for found, made in zip(
        batch_of(Foreign(), 3, 2, 3, generator()).tensors(), source.batch(3, 5, generator()).tensors(), strict=True
    ):
        assert torch.equal(found, made)


def test_a_source_goes_to_other_processes(source: BatchedTasks[Any]) -> None:
    sent = pickle.loads(pickle.dumps(source))
    for found, made in zip(
        sent.batch(3, 5, generator()).tensors(), source.batch(3, 5, generator()).tensors(), strict=True
    ):
        assert torch.equal(found, made)


def test_splits_have_other_tasks_and_a_generator_goes_on(source: BatchedTasks[Any]) -> None:
    drawn = generator()
    batches = [source.batch(3, 4, drawn), source.batch(3, 4, drawn), source.batch(3, 4, generator(), "test")]
    x = [batch.tensors()[0] for batch in batches]
    assert not torch.equal(x[0], x[1])
    assert not torch.equal(x[0], x[2])


def test_no_tasks_no_labels_and_no_such_split_are_refused(source: BatchedTasks[Any]) -> None:
    for arguments in ((0, 4), (2, 0), (2, 4, "holiday")):
        with pytest.raises(DataError):
            source.batch(*arguments[:2], generator(), *arguments[2:])


def test_linear_tasks_have_the_moments_of_mixed_linear_regression() -> None:
    """E y^2 = |w0|^2 + nu^2 + sigma^2; products within a task give |w0|^2 + nu^2, across tasks |w0|^2."""
    kind = LinearTypeConfig(spread=0.7, noise=0.5)
    x, y = linear(dimension=6, distance=1.5, types=(kind,)).batch(20_000, 2, generator()).tensors()
    same = (y[:, 0] * y[:, 1] * (x[:, 0] * x[:, 1]).sum(-1)).mean()
    across = (y[1:, 0] * y[:-1, 1] * (x[1:, 0] * x[:-1, 1]).sum(-1)).mean()
    assert abs(float(y.square().mean()) - (1.5**2 + 0.7**2 + 0.5**2)) < 0.06
    assert abs(float(same) - (1.5**2 + 0.7**2)) < 0.25
    assert abs(float(across) - 1.5**2) < 0.25
    assert float(x.mean().abs()) < 0.01
    assert abs(float(x.std()) - 1) < 0.01


def test_a_task_without_noise_is_linear() -> None:
    x, y = linear(dimension=3, types=(LinearTypeConfig(noise=0.0),)).batch(5, 9, generator()).tensors()
    weights = torch.linalg.lstsq(x, y[..., None]).solution
    torch.testing.assert_close((x @ weights)[..., 0], y, rtol=0, atol=1e-12)
    assert float(torch.cdist(weights[..., 0], weights[..., 0])[0, 1:].min()) > 0.1


def test_types_take_turns_by_their_shares() -> None:
    kinds = types_in_turn(TYPES, 400)
    for m in (4, 20, 100, 400):
        assert abs(float((kinds[:m] == 1).double().mean()) - 0.25) <= 1.5 / m
    source = linear(dimension=2, types=TYPES)
    x, y = source.only("hard").batch(400, 50, generator()).tensors()
    residual = y[..., None] - x @ torch.linalg.lstsq(x, y[..., None]).solution
    assert abs(float(residual.square().sum() / (400 * 48)) - 4.0) < 0.2
    assert len(source.types) == 2
    with pytest.raises(DataError, match="no type of task called 'odd'"):
        source.only("odd")


def test_tasks_of_types_drawn_apart_are_other_tasks() -> None:
    """A mixture draws each type by ``only``: its tasks must not be tasks of the other type with other noise."""
    for source in (linear(dimension=3, types=TYPES), DigitRotations(DigitRotationsConfig(types=NOISY))):
        easy, hard = (source.only(name).batch(3, 5, generator()).tensors()[0] for name in ("easy", "hard"))
        assert not any(torch.equal(one, other) for one, other in zip(easy, hard, strict=True))


def test_types_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="2 types, and several are called 'task'; give each a 'name' of its own"):
        LinearTasksConfig(types=({"noise": 0.1}, {"noise": 2.0}))


def test_sinusoids_are_sinusoids() -> None:
    source = SinusoidTasks(SinusoidTasksConfig())
    x, y = source.batch(200, 400, generator()).tensors()
    basis = torch.cat([torch.sin(x), torch.cos(x)], -1)
    parts = torch.linalg.lstsq(basis, y[..., None]).solution
    torch.testing.assert_close((basis @ parts)[..., 0], y, rtol=0, atol=1e-10)
    amplitude = parts[..., 0].norm(dim=1)
    assert 0.1 <= float(amplitude.min()) < 0.6 < 4.5 < float(amplitude.max()) <= 5.0
    assert float(parts[:, 1, 0].min()) > 0, "the phase is between 0 and pi"
    assert -5 <= float(x.min()) < -4.9 < 4.9 < float(x.max()) <= 5


def test_classes_of_a_task_take_turns_and_give_no_image_twice() -> None:
    source = DigitRotations(DigitRotationsConfig())
    batch = source.batch(6, 13, generator())
    known = source.load("train").label
    assert known is not None
    for rows, target in zip(batch.index, batch.target, strict=True):
        assert torch.equal(target, torch.arange(13) % 5)
        assert len(rows.unique()) == 13
        for number in range(5):
            assert len(known[rows[target == number]].unique()) == 1
        assert len(known[rows].unique()) == 5


def test_splits_share_no_class() -> None:
    for source in (
        DigitRotations(DigitRotationsConfig()),
        FewShotFolders(FewShotFoldersConfig(root=str(SAMPLES), ways=2)),
    ):
        classes = []
        for split in SPLITS:
            label = source.load(split).take(torch.arange(len(source.load(split)))).label
            assert label is not None
            classes.append(set(label.tolist()))
        assert not classes[0] & classes[1] | classes[0] & classes[2] | classes[1] & classes[2]


def test_a_turned_digit_is_the_digit_turned() -> None:
    points = DigitRotations(DigitRotationsConfig(flatten=False)).load("train")
    assert points.label is not None
    images, turn = points.x.reshape(-1, 4, 8, 8), points.label.reshape(-1, 4) % 4
    assert torch.equal(turn, torch.arange(4).expand_as(turn))
    assert torch.equal(images[:, 1], torch.rot90(images[:, 0], 1, (1, 2)))


def test_noisy_labels_are_wrong_as_often_as_asked_and_stay() -> None:
    source = DigitRotations(DigitRotationsConfig(types=NOISY))
    hard = source.only("hard").batch(400, 25, generator())
    wrong = hard.target != torch.arange(25) % 5
    assert abs(float(wrong.double().mean()) - 0.4) < 0.02
    share = torch.bincount(((hard.target - torch.arange(25)) % 5)[wrong], minlength=5) / wrong.sum()
    assert float((share[1:] - 0.25).abs().max()) < 0.03
    assert torch.equal(source.only("hard").batch(400, 25, generator()).target, hard.target)
    assert torch.equal(source.only("easy").batch(3, 25, generator()).target, (torch.arange(25) % 5).expand(3, 25))


def test_redrawn_labels_are_wrong_anew_at_each_reading() -> None:
    kinds = (NoisyTypeConfig(name="easy"), NoisyTypeConfig(name="hard", label_noise=0.4, redrawn=True))
    source = DigitRotations(DigitRotationsConfig(types=kinds))
    batch = source.batch(400, 25, generator())
    right = torch.arange(25) % 5
    readings = torch.stack([batch.tensors()[1] for _ in range(6)])
    wrong = (readings != right).double().mean(-1)
    hard = types_in_turn(kinds, 400) == 1
    assert float(wrong[:, ~hard].max()) == 0
    assert abs(float(wrong[:, hard].mean()) - 0.4) < 0.01
    # Of two readings 0.4 of the labels are wrong in each, so 0.16 in both; of six every label is right in some.
    both = (readings[0] != right) & (readings[1] != right)
    assert abs(float(both[hard].double().mean()) - 0.16) < 0.02
    chosen = torch.tensor([int(hard.nonzero()[0])])
    one = torch.stack([batch.tensors(chosen, torch.arange(25)[None])[1] for _ in range(300)])[:, 0]
    assert float(((one != right).double().mean(0) - 0.4).abs().max()) < 0.12
    # Another seed reads other labels; the same one, the same, as data sets too.
    again = source.batch(400, 25, generator())
    assert torch.equal(again.tensors()[1], readings[0])
    assert not torch.equal(source.batch(400, 25, generator(1)).tensors()[1], readings[0])
    pairs = source.only("hard").batch(3, 25, generator()).datasets(10)
    labels = torch.stack([torch.cat([part.label for part in pair if part.label is not None]) for pair in pairs])
    assert torch.equal(labels, source.only("hard").batch(3, 25, generator()).tensors()[1])
    assert bool((labels != right).any())


SUPERCLASSES = {"low": (0, 1, 2), "high": (3, 4, 5, 6), "few": (7,)}


def test_hard_tasks_stay_within_a_superclass_and_easy_ones_do_not() -> None:
    kinds = (NoisyTypeConfig(name="easy", classes="across"), NoisyTypeConfig(name="hard", classes="within"))
    source = few_shot(
        labelled(classes=12), ways=2, types=kinds, train=tuple(range(9)), test=(9, 10, 11), superclasses=SUPERCLASSES
    )
    owner = {number: name for name, numbers in SUPERCLASSES.items() for number in numbers}
    counts: dict[tuple[int, ...], int] = {}
    for kind in ("easy", "hard"):
        x = source.only(kind).batch(1800, 4, generator()).tensors()[0][..., 0].long()
        for task in x.tolist():
            one, other = task[:2]
            assert one != other
            alike = owner.get(one, "none") == owner.get(other, "other")
            assert alike == (kind == "hard")
            pair = tuple(sorted((one, other)))
            counts[pair] = counts.get(pair, 0) + 1
    # 3 + 6 pairs within, 36 - 9 across, all alike often. Classes 7 and 8 are alone, 8 in no superclass.
    within = [count for (one, other), count in counts.items() if owner.get(one, "none") == owner.get(other, "other")]
    across = [count for (one, other), count in counts.items() if owner.get(one, "none") != owner.get(other, "other")]
    assert (len(within), len(across)) == (9, 27)
    assert max(abs(count - 200) for count in within) < 60
    assert max(abs(count - 1800 / 27) for count in across) < 35
    with pytest.raises(DataError, match="type hard have 2 classes within superclasses, and there are none: 3 classes"):
        source.only("hard").batch(2, 4, generator(), "test")
    whole = {"all": tuple(range(6)), "rest": (6, 7, 8)}
    alone = few_shot(labelled(classes=9), types=kinds, train=tuple(range(6)), test=(6, 7, 8), superclasses=whole)
    with pytest.raises(DataError, match=r"2 classes across superclasses, and there are none: 6 classes, in .* of 6"):
        alone.only("easy").batch(2, 4, generator())
    with pytest.raises(DataError, match="in superclasses of none"):
        DigitRotations(DigitRotationsConfig(types=kinds)).only("hard").batch(2, 5, generator())


def test_superclasses_by_name_and_those_that_share_a_class() -> None:
    kinds = (NoisyTypeConfig(classes="within"),)
    named = labelled(names=list("abcdef"))
    source = few_shot(named, types=kinds, train=tuple("abcd"), superclasses={"one": ("a", "c"), "two": ("b", "d")})
    pairs = {tuple(sorted(task[:2])) for task in source.batch(30, 4, generator()).tensors()[0][..., 0].tolist()}
    assert pairs == {(0.0, 2.0), (1.0, 3.0)}
    with pytest.raises(ConfigError, match=r"class 2 \(c\) stands in the superclasses one and two; expected it in one"):
        few_shot(named, superclasses={"one": ("a", "c"), "two": ("c", "d")})
    with pytest.raises(ConfigError, match="there is no class 'cc'"):
        few_shot(named, superclasses={"one": ("a", "cc")})


def test_validation_tasks_may_be_of_the_training_classes() -> None:
    source = few_shot(validation="train", train=(0, 1, 2))
    assert source.fingerprint() != few_shot(train=(0, 1, 2)).fingerprint()
    train, held_out = (source.load(split) for split in ("train", "validation"))
    assert torch.equal(train.x, held_out.x)
    tasks, others = (source.batch(6, 4, generator(), split).index for split in ("train", "validation"))
    assert not torch.equal(tasks, others)
    assert set(source.load("test").label.tolist()) == {3, 4, 5}  # type: ignore[union-attr]


def test_more_labels_than_a_class_has_are_refused() -> None:
    source = FewShotFolders(FewShotFoldersConfig(root=str(SAMPLES), ways=2))
    with pytest.raises(DataError, match="take up to 5 of a class; a class of the train split has 4"):
        source.batch(2, 9, generator())
    with pytest.raises(DataError, match="a task has 5 classes; the train split has 2"):
        FewShotFolders(FewShotFoldersConfig(root=str(SAMPLES))).batch(2, 5, generator())
    with pytest.raises(SplitError):
        DigitRotations(DigitRotationsConfig(validation=())).batch(2, 5, generator(), "validation")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train": (0, 1, 2), "test": (2, 3)}, "2 stands twice"),
        ({"validation": (5,)}, "validation has 4 classes and a task 5"),
    ],
)
def test_digits_in_two_splits_and_too_few_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DigitRotationsConfig(**settings)


def test_pooled_tasks_are_ordinary_data() -> None:
    source = linear(dimension=3, tasks=4, labels=6, seed=1)
    points = source.load("train")
    assert points.x.shape == (24, 3)
    assert points.take(torch.tensor([7])).truth["task"].tolist() == [1]
    assert not torch.equal(points.x, source.load("test").x)
    spread = points.x.double().var(0, correction=0).mean().sqrt()
    assert math.isclose(source.event_scale.std, float(spread), rel_tol=1e-6)


def test_a_task_without_targets_is_refused() -> None:
    class Bare(TaskSource):
        def tasks(self, m: int, support: int, query: int, *rest: Any) -> Any:
            part = Dataset(x=torch.zeros(2, 1), label=torch.zeros(2, dtype=torch.long))
            return iter([(part, replace(part, label=None) if self.bare else part)] * self.count)

        def __init__(self, bare: bool, count: int) -> None:
            self.bare, self.count = bare, count

    with pytest.raises(DataError, match="neither labels nor targets"):
        batch_of(Bare(True, 2), 2, 2, 2, generator())
    for count, m, support, said in (
        (1, 2, 2, r"2 tasks of 2 \+ 2 labels were asked for; the source gave 1, of 2 \+ 2"),
        (0, 2, 2, "the source gave 0, of no labels"),
        (2, 2, 3, r"2 tasks of 3 \+ 1 labels were asked for; the source gave 2, of 2 \+ 2"),
    ):
        with pytest.raises(DataError, match=said):
            batch_of(Bare(False, count), m, support, 4 - support, generator())


def test_classes_of_one_large_superclass_are_drawn() -> None:
    kind = NoisyTypeConfig(name="hard", classes="within")
    superclass = torch.tensor([0] * 100 + [1] * 100)
    chosen = chosen_classes(kind, superclass, 20, torch.Generator().manual_seed(0))
    assert len(chosen.unique()) == 20
    assert len(superclass[chosen].unique()) == 1
    with pytest.raises(DataError, match="5 classes across superclasses, and there are none"):
        chosen_classes(kind.model_copy(update={"classes": "across"}), torch.full((9,), -1), 5, torch.Generator())
