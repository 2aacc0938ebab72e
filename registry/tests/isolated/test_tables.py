"""What ``[environments.NAME]`` may say, what crosses a pipe, and configs rebuilt from data: no process is started."""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from pydantic import BaseModel, Field, ValidationError

from scorefold import diffusion
from scorefold.config import Config, Inline, TrainingConfig, Use
from scorefold.data import Dataset, EventScale, StreamedDataset, TensorSpec
from scorefold.errors import ArtefactError, ConfigError, PluginError
from scorefold.interfaces import TensorSource
from scorefold.plugin import Component
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold_registry.cli.commands.environments import add_environment
from scorefold_registry.components.fields import describe_fields
from scorefold_registry.components.messages import config_problems
from scorefold_registry.components.ports import inline_fields
from scorefold_registry.plugins.discovery import discover
from scorefold_registry.plugins.environments import wire
from scorefold_registry.plugins.environments.config_types import build_model, describe_model
from scorefold_registry.plugins.environments.described import FILE, FORMAT, files_state, write_description
from scorefold_registry.plugins.environments.environment import Environment, start_worker
from scorefold_registry.plugins.environments.spec import Spec, environments_in
from scorefold_registry.plugins.environments.store import VARIABLE, digest_of, folder_of
from scorefold_registry.plugins.environments.wire import Arena, Reader, WireError, Writer, read_line
from scorefold_registry.plugins.loading import contradicting
from scorefold_registry.plugins.records import PluginRecord, Registered
from scorefold_registry.plugins.settings import read_settings
from scorefold_registry.worker import answers


def specs(folder: Path, text: str) -> list[Spec]:
    file = folder / "scorefold.toml"
    file.write_text(text)
    return environments_in(read_settings(file))


def test_a_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "plugin").mkdir()
    (old,) = specs(
        tmp_path,
        """
        [environments.old-sklearn]
        requirements = ["scikit-learn==1.3.2", "./plugin"]
        lock = "env/lock.txt"
        memory = "1.5GB"
        seconds = 60
        pass = ["MY_DATA"]
        """,
    )
    assert old.requirements == ("scikit-learn==1.3.2", str(tmp_path / "plugin"))
    assert (old.folders, old.lock) == ([tmp_path / "plugin"], tmp_path / "env" / "lock.txt")
    assert (old.memory, old.seconds, old.passed) == (1_500_000_000, 60, ("MY_DATA",))
    assert old.install == "scorefold plugins install old-sklearn"


@pytest.mark.parametrize(
    ("lines", "line", "words", "hint"),
    [
        ('requirments = ["a"]', 3, "says 'requirments', which is not a field there", "did you mean 'requirements'?"),
        ('requirements = "a"', 3, "requirements is 'a'; expected a list", 'requirements = ["scikit-learn==1.3.2"]'),
        ('requirements = ["--pre"]', 3, "holds the option '--pre'", "PIP_ variables"),
        ('requirements = ["./none"]', 3, "names ./none, which is not there", "expected"),
        ('requirements = ["a"]\nmemory = "4"', 4, "memory is '4'; expected 100MB at least", 'memory = "4GB"'),
        ('requirements = ["a"]\nmemory = 4', 4, "memory is 4; expected 100MB at least, as text", 'memory = "4GB"'),
        ('requirements = ["a"]\nseconds = 0', 4, "seconds is 0; expected a number above 0", "seconds = 600"),
        ('requirements = ["a"]\ntorch = "my"', 4, "torch is 'my'; expected host or own", 'torch = "host"'),
        ('requirements = ["a"]\npython = "4"', 4, "python is '4'; expected a version", 'python = "3.12"'),
        ('requirements = ["a"]\nbuild = 1', 4, "build is 1; expected true or false", "build = true"),
        ('interpreter = "a"\nlock = "b"', 3, "has an interpreter", "remove one of them"),
        (
            'requirements = ["a"]\nsandbox = "docker"',
            4,
            "sandbox is 'docker'; expected bubblewrap",
            'sandbox = "bubblewrap"',
        ),
        ('requirements = ["a"]\nread = ["./none"]', 4, "read names ./none, which is not there", "expected"),
        ('requirements = ["a"]\nnetwork = true', 4, "opens a sandbox and has none", 'add sandbox = "bubblewrap"'),
        ("seconds = 3", 2, "says neither requirements nor lock nor interpreter", "requirements = "),
    ],
)
def test_a_fault_of_a_table_is_named_with_its_line(
    tmp_path: Path, lines: str, line: int, words: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        specs(tmp_path, f"\n[environments.old]\n{lines}\n")
    assert words in caught.value.message
    assert hint in str(caught.value.hint)
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "scorefold.toml"), line)


@pytest.mark.parametrize("text", ["environments = 3", "[environments]\nold = 3", '[environments."Old One"]\na = 1'])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"environment"):
        specs(tmp_path, text)


def test_limits_are_no_part_of_the_digest(tmp_path: Path) -> None:
    same = [Spec("a", tmp_path, ("x",)), Spec("b", tmp_path, ("x",), seconds=3, memory=10**9, device="cpu")]
    assert digest_of(same[0]) == digest_of(same[1])
    others = [Spec("a", tmp_path, ("x==1",)), Spec("a", tmp_path, ("x",), torch="own"), Spec("a", tmp_path, build=True)]
    assert len({digest_of(spec) for spec in (same[0], *others)}) == 4


@pytest.mark.parametrize(
    ("hint", "made", "given"),
    [
        (
            "pip install --upgrade toy, or switch it off",
            "scorefold plugins install old --fresh, if needed with another version of toy in [environments.old], or "
            "switch it off",
            "/py -m pip install --upgrade toy, then scorefold plugins install old, or switch it off",
        ),
        (
            "at x.py:3; pip install 'toy[more, all]'",
            "at x.py:3; add 'toy[more, all]' to [environments.old], then scorefold plugins install old",
            "at x.py:3; /py -m pip install 'toy[more, all]', then scorefold plugins install old",
        ),
        *[(same, same, same) for same in ("pip install --upgrade scorefold-core", 'pip install "scorefold-core>=2"')],
        ("correct the code in its folder", "correct the code in its folder", "correct the code in its folder"),
    ],
)
def test_a_fix_is_for_the_environment(tmp_path: Path, hint: str, made: str, given: str) -> None:
    assert Spec("old", tmp_path, ("toy",)).own_fix(hint) == made
    assert Spec("old", tmp_path, interpreter=Path("/py")).own_fix(hint) == given


def test_an_environment_that_is_not_installed_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    specs(tmp_path, '[environments.old]\nrequirements = ["a"]\n')
    record = discover(toml=tmp_path / "scorefold.toml").plugins[-1]
    assert (record.state, record.fix) == ("broken", "scorefold plugins install old")
    assert record.cause == "its environment is not installed here: scorefold plugins install old"


COMPONENT = {
    **{"kind": "data", "name": "x", "target": "a:B", "config": "a:C", "summary": "", "revision": 1, "requires": []},
    **{"provides": [], "aliases": [], "examples": [{}], "figures": None, "cite": None, "known_failures": {}},
    **{"ranges": {}, "overrides": None, "yields_to": []},
}
PLUGIN = {
    **{"name": "old", "distribution": "toy", "version": "1.0", "value": "a.plugin", "cause": None, "frame": None},
    **{"fix": None, "warnings": [], "folder": "", "code": "0", "kinds": [], "capabilities": []},
}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda said: said | {"plugins": 3}, "is no description of this release"),
        (lambda said: said | {"plugins": [{}]}, "its description is not as it has to be: KeyError"),
        (lambda said: said | {"plugins": [{**PLUGIN, "components": [{"declares": {}}]}]}, "KeyError"),
    ],
)
def test_a_description_that_no_worker_gives_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, cause: str
) -> None:
    spec = described(tmp_path, monkeypatch)
    said = change({"format": FORMAT, "plugins": [{**PLUGIN, "components": [{"declares": COMPONENT}]}]})
    (folder_of(spec) / FILE).write_text(json.dumps(said))
    record = discover(toml=tmp_path / "scorefold.toml", import_plugins=False).plugins[-1]
    assert record.state == "broken"
    assert cause in str(record.cause)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"name": "../x"}, "a component is called '../x'"),
        ({"target": "os:system()"}, "expected 'package.module:Name'"),
        ({"summary": 3}, "summary=3; expected text"),
        ({"revision": -1}, "revisions count from 1"),
    ],
)
def test_a_description_by_foreign_code_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], cause: str
) -> None:
    spec = described(tmp_path, monkeypatch)
    write_description(spec, component({}, **change))
    record = discover(toml=tmp_path / "scorefold.toml", import_plugins=False).plugins[-1]
    assert record.state == "broken"
    assert cause in str(record.cause)


def test_the_state_of_one_module_leaves_its_neighbours_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are all packages of an environment where a plugin is a module without a package."""
    module = tmp_path / "toy_single.py"
    module.write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    assert answers._folder("toy_single") == str(module)
    before = files_state([str(module)])
    (tmp_path / "other.py").touch()
    assert files_state([str(module)]) == before
    module.write_text("x = 22")
    assert files_state([str(module)]) != before


def described(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    monkeypatch.setenv(VARIABLE, str(folder / "cache"))
    (spec,) = specs(folder, '[environments.old]\nrequirements = ["a"]\n')
    folder_of(spec).mkdir(parents=True)
    return spec


def component(said: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return said | {"plugins": [{**PLUGIN, "components": [{"declares": {**COMPONENT, **changes}}]}]}


def test_a_sound_description_offers_its_components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    (spec,) = specs(tmp_path, '[environments.old]\nrequirements = ["a"]\n')
    folder_of(spec).mkdir(parents=True)
    write_description(spec, {"plugins": [{**PLUGIN, "components": [{"declares": COMPONENT}]}]})
    record = discover(toml=tmp_path / "scorefold.toml").plugins[-1]
    assert record.state == "registered"
    assert [item.id for item in record.components] == ["data:x"]


def test_a_device_is_part_of_keys_and_limits_are_not(tmp_path: Path) -> None:
    record = PluginRecord("x", "old", "1", "x.plugin")
    registered = Registered(Component("data", "x", ".x:X", ".x:C", "X"), record)

    def facts(**fields: Any) -> dict[str, Any]:
        environment = Environment(Spec("old", tmp_path / "scorefold.toml", ("x",), **fields))
        environment.description = {"digest": "d", "torch": "2", "plugins": [{"value": "x.plugin", "code": "c"}]}
        return environment.key_facts(registered)

    plain = {"distributions": "d", "torch": "2", "code": "c"}
    assert facts() == facts(seconds=5.0, memory=10**9, passed=("A",)) == plain
    assert facts(device="cuda:1") == facts(device="cuda") == {**plain, "device": "cuda"}


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena()
    yield made
    made.close()


def crossed(arena: Arena, value: Any) -> Any:
    line = Writer(arena).line({"id": 1}, {"value": value})
    other = Arena(arena.descriptor)
    return Reader(other).value(read_line(line)["value"])


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            3,
            -2.5,
            1e300,
            math.inf,
            -math.inf,
            math.nan,
            "text \u2028 with \n",
            [1, (2, [None])],
            {"a": {}},
        ),
        {"$": "a key of ours"},
        torch.arange(6.0).reshape(2, 3).t(),
        torch.zeros(0, 4),
        torch.tensor(2, dtype=torch.int8),
        torch.tensor([True, False]),
        torch.ones(3, dtype=torch.bfloat16),
        [torch.rand(5), {"x": torch.rand(2, dtype=torch.float64)}],
    ],
)
def test_values_come_back_as_they_were(arena: Arena, value: Any) -> None:
    assert equal(value, crossed(arena, value))


@pytest.mark.skipif(not hasattr(mmap, "MADV_REMOVE"), reason="this system gives no memory back")
def test_the_memory_of_a_large_message_is_given_back(arena: Arena) -> None:
    arena.put([torch.ones(2**25)])
    assert 512 * os.fstat(arena.descriptor).st_blocks > 2**26
    arena.release()
    assert 512 * os.fstat(arena.descriptor).st_blocks < 2**20
    assert crossed(arena, torch.arange(5)).tolist() == [0, 1, 2, 3, 4]


def test_tensors_cross_where_there_are_no_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    made = Arena()
    try:
        assert torch.equal(crossed(made, torch.arange(5)), torch.arange(5))
    finally:
        made.close()


def test_windows_is_an_error_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec("old", tmp_path / "scorefold.toml", interpreter=tmp_path / "python.exe")
    with monkeypatch.context() as patched:
        patched.setattr(os, "name", "nt")
        with pytest.raises(PluginError, match="needs Linux or macOS") as caught:
            start_worker(spec)
    assert caught.value.hint == "install the plugin in this environment, or use WSL"


def test_records_come_back_as_they_were(arena: Arena) -> None:
    allocation = Allocation("optimal", (PlanRow("a", 1, 2, 3),), 4, interval=(0.5, 1.5), near_optimal=((),))
    assert crossed(arena, allocation) == allocation
    data = Dataset(torch.rand(4, 2), {"a": torch.rand(4, 1)}, torch.arange(4), torch.arange(4), {"dimension": 2})
    there = crossed(arena, data)
    assert equal(vars(data), vars(there))
    estimate = Estimate("x", np.float64(2.5), (1, 4), pointwise=torch.rand(3), diagnostics={"a": [np.int64(3)]})
    assert crossed(arena, estimate).diagnostics == {"a": [3]}
    source = TensorSource(
        {"train": data}, EventScale(mean=3.0), {"a": TensorSpec((1,))}, warnings=["w"], rows=["a", "b"]
    )
    there = crossed(arena, source)
    assert (there.event_scale, there.condition_spec) == (source.event_scale, source.condition_spec)
    assert (there.data_warnings(), there.rows) == (("w",), ["a", "b"])
    assert equal(vars(there.load("train")), vars(data))
    streamed = StreamedDataset(torch.empty(0, 1), fetch=lambda index: Dataset(index[:, None].float()), size=5)
    assert crossed(arena, streamed).x.flatten().tolist() == [0, 1, 2, 3, 4]


def test_generators_go_there_and_back(arena: Arena) -> None:
    generator = torch.Generator().manual_seed(3)
    there = crossed(arena, generator)
    assert torch.equal(torch.randn(3, generator=there), torch.randn(3, generator=generator))


@pytest.mark.parametrize("value", [object(), {1: 2}, torch.ones(2).to_sparse(), torch.ones(2, dtype=torch.complex64)])
def test_what_does_not_cross_is_named(arena: Arena, value: Any) -> None:
    with pytest.raises(WireError, match=r"can't go to another process"):
        crossed(arena, value)


def test_messages_have_a_size(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WireError, match="bytes beside its tensors"):
        crossed(arena, "x" * 2**20)
    monkeypatch.setattr(wire, "LARGEST", 1000)
    with pytest.raises(WireError, match="GB are the maximum"):
        crossed(arena, torch.ones(1000))
    endless = StreamedDataset(torch.empty(0, 1), fetch=lambda index: pytest.fail("it was read"), size=10**9)
    with pytest.raises(WireError, match="GB are the maximum"):
        crossed(arena, endless)


@pytest.mark.parametrize(
    "said",
    [
        {"$": "tensor", "dtype": "float32", "shape": [4], "at": 2**20},
        {"$": "tensor", "dtype": "float32", "shape": [-1], "at": 0},
        {"$": "tensor", "dtype": "float32", "shape": [2**31, 2**31], "at": 0},
        {"$": "tensor", "dtype": "object", "shape": [1], "at": 0},
        {"$": "tensor", "dtype": "float32", "shape": [1], "at": 1},
        {"$": "tensor", "dtype": "float32", "shape": [True], "at": 0},
        {"$": "Estimate", "fields": {"quantity": "x"}},
        {"$": "Estimate", "fields": {"quantity": "x", "value": "much"}},
        {"$": "os.system", "fields": {}},
        {"$": "object", "name": "o1"},
        {"$": "number", "is": "3"},
        {"no": "kind"},
    ],
)
def test_what_no_writer_writes_is_refused(arena: Arena, said: Any) -> None:
    arena.put([torch.ones(16)])
    with pytest.raises(WireError):
        Reader(arena).value(said)


def test_what_no_arena_holds_is_refused(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    arena.put([torch.ones(250)])
    monkeypatch.setattr(wire, "LARGEST", 2000)
    said = {"$": "tensor", "dtype": "float32", "shape": [250], "at": 0}
    assert len(Reader(arena).value([said, said])) == 2
    with pytest.raises(WireError, match="GB are the maximum"):
        Reader(arena).value([said, said, said])
    with pytest.raises(WireError, match="beyond what was written"):
        Reader(arena).value(said | {"shape": [1000]})
    monkeypatch.setattr(wire, "LARGEST", 2**60)
    os.ftruncate(arena.descriptor, 2**55)  # more than a process can map
    with pytest.raises(WireError, match="Cannot allocate memory"):
        Reader(Arena(arena.descriptor)).value(said)


class Inner(BaseModel):
    width: int = Field(4, ge=1, description="Width")


class Sample(Config):
    """A sample."""

    count: int = Field(20, ge=1, le=50, description="Count")
    rate: Annotated[float, Field(gt=0)] | None = None
    mode: Literal["fast", "exact"] = "fast"
    names: list[str] = Field(default_factory=list, max_length=3)
    pair: tuple[int, float] = (1, 2.0)
    more: tuple[int, ...] = ()
    table: dict[str, int] = Field(default_factory=dict)
    place: Path | None = None
    inner: Inner = Inner()
    part: Inline("network") = Use(use="network:mlp")  # type: ignore[valid-type]
    training: TrainingConfig = TrainingConfig(steps=10)
    anything: Any = None
    needed: str = Field(description="It has to be given")


def test_a_config_is_rebuilt_from_data() -> None:
    said = json.loads(json.dumps(describe_model(Sample)))
    assert not said["checked"]
    rebuilt = build_model(said, lambda raw: pytest.fail("nothing is to be checked there"))
    assert describe_fields(rebuilt) == describe_fields(Sample)
    good = {"needed": "x", "rate": 2, "pair": [3, 4], "inner": {"width": 9}, "place": "a/b", "part": "network:other"}
    one, other = Sample.model_validate(good), rebuilt.model_validate(good)
    assert one.model_dump() == other.model_dump()
    assert [item.path for item in inline_fields(one)] == [item.path for item in inline_fields(other)] == [("part",)]
    for wrong in (
        *({}, {"count": 0}, {"count": 51}, {"count": 1.5}, {"rate": -1}, {"rate": math.nan}, {"mode": "slow"}),
        *({"names": ["a"] * 4}, {"names": "a"}, {"pair": [1]}, {"more": ["x"]}, {"table": {"a": "b"}}, {"unknown": 1}),
        *({"inner": {"width": 0}}, {"training": {"steps": -1}}, {"place": 3}),
    ):
        raw = {"needed": "x", **wrong} if wrong else {}
        assert problems(Sample, raw) == problems(rebuilt, raw) != []


def problems(model: type[Config], raw: dict[str, Any]) -> list[Any]:
    try:
        model.model_validate(raw)
    except ValidationError as error:
        return config_problems(model, error, raw)
    return []


class Tree(Config):
    name: str = "leaf"
    parts: tuple[Tree, ...] = ()


def test_a_config_that_holds_itself_is_rebuilt() -> None:
    said = describe_model(Tree)
    built = build_model(said, lambda value: value)
    tree = built.model_validate({"name": "root", "parts": [{"parts": [{}]}]})
    assert tree.model_dump() == Tree.model_validate(tree.model_dump()).model_dump()
    with pytest.raises(ValidationError, match=r"parts.0.parts.0.name"):
        built.model_validate({"parts": [{"parts": [{"name": []}]}]})
    call = "__import__('os').getcwd()"
    said = {"name": call, "checked": False, "models": {call: said["models"]["Tree"]}}
    said["models"][call]["fields"]["parts"]["type"]["of"] = [{"model": call}]
    with pytest.raises(PluginError, match="can't be the name of a model that holds itself"):
        build_model(said, lambda value: value)


@pytest.mark.parametrize("change", [{"name": "none"}, {"models": {}}, {"models": {"Sample": {"fields": {"a": {}}}}}])
def test_a_config_that_is_not_described_as_it_has_to_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match="its config is not described as it has to be"):
        build_model({**describe_model(Sample), **change}, lambda raw: raw)


@pytest.mark.parametrize(
    ("one", "other", "met"),
    [
        ("numpy<2", "numpy>=2", False),
        ("numpy<2", "numpy>=1.26.4", True),
        ("numpy~=1.3", "numpy>=1.4", True),
        ("numpy<2", "numpy>1.0", True),
        ("numpy==1.3.2", "numpy!=1.3.2", False),
        ("numpy==1.3.*", "numpy>=1.4", False),
        ("numpy", "numpy<1", True),
        ("numpy<2", "scipy>=2", True),
    ],
)
def test_requirements_that_contradict_each_other_are_seen(one: str, other: str, met: bool) -> None:
    assert (contradicting(one, [other]) is None) is met


@pytest.mark.parametrize(
    "process",
    [
        diffusion.VE(0.1, 10.0),
        diffusion.IsotropicProcess(diffusion.LinearVP(), mean=torch.ones(2)),
        diffusion.PerComponent((2,), [([0], diffusion.GeometricVE(0.01, 1.0)), ([1], diffusion.EDM())]),
    ],
    ids=["ve", "vp", "blocks"],
)
def test_processes_come_back_as_they_were(arena: Arena, process: diffusion.DiffusionProcess) -> None:
    found = crossed(arena, process)
    x, t = torch.ones(3, 2), torch.tensor([0.2, 0.5, 0.9])
    assert type(found) is type(process)
    assert (found.t_min, found.t_max) == (process.t_min, process.t_max)
    for one, other in zip(process.coefficients(x, t), found.coefficients(x, t), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(process.prior_log_prob(x), found.prior_log_prob(x))


@pytest.mark.parametrize("field", ["signal_scale", "_buffers", "forward"])
def test_a_process_with_a_field_for_a_method_is_refused(arena: Arena, field: str) -> None:
    said = {"$": "process", "name": "EDM", "fields": {"$": "mapping", "items": {field: 1.0}}}
    with pytest.raises(WireError, match=f"a process has the field '{field}'"):
        Reader(arena).value(said)


def test_a_table_that_cannot_be_written_is_an_error_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder that is read-only; the settings stay as they are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scorefold.toml").write_text("[prefer]\n")

    def refuse(self: Path, target: Any) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ArtefactError, match=r"scorefold.toml can't be written: Read-only file system"):
        add_environment(["numpy", "--isolated", "--name", "x"])
    assert (tmp_path / "scorefold.toml").read_text() == "[prefer]\n"
