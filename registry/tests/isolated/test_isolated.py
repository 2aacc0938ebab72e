"""Estimators and data sources in environments of their own, against the same plugin in this process."""

from __future__ import annotations

import json
import locale
import os
import pickle
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError, PluginError, SplitError
from scorefold.interfaces import TensorSource
from scorefold.results import Estimate
from scorefold.stage import showing
from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments.environment import Environment
from scorefold_registry.plugins.loading import load_target

Local = Callable[[], Host]

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _nothing_of_it_is_imported(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a module of the plugin in this process, but those that use it here too."""
    yield
    if "local" not in request.fixturenames:
        assert not {"toy_old", "clash"} & {name.partition(".")[0] for name in sys.modules}


def environment_of(host: Host, name: str) -> Environment:
    found: Environment = next(r.environment for r in host.plugins if r.distribution == name)
    return found


def group_exists(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facts(answer: Estimate) -> dict[str, Any]:
    """All of an answer but for the library that it was made with; tensors as lists."""
    found = vars(answer) | {"diagnostics": {k: v for k, v in answer.diagnostics.items() if k != "clash"}}
    return {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in (found | found.pop("diagnostics")).items()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_equal_to_the_bit(world: Any, local: Local, dtype: torch.dtype, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        answers, states = [], []
        for host, name in ((local(), "estimator:toy-mean"), (world.host(), "one/estimator:toy-mean")):
            estimator = host.create(name, {"scale": 0.3, "shift": {"by": 2}}, generator=generator(1))
            draws = generator()
            data = Dataset(X.to(dtype), label=torch.arange(40), truth={"dimension": 3})
            found = [estimator.estimate(data, generator=draws), estimator.point_estimate(X[:7], generator=draws)]
            answers.append([facts(each) for each in found])
            states.append(draws.get_state())
    finally:
        torch.set_num_threads(before)
    assert answers[0] == answers[1]
    assert torch.equal(states[0], states[1])


def test_the_default_precision_is_that_of_the_caller(world: Any, local: Local) -> None:
    before, values = torch.get_default_dtype(), []
    torch.set_default_dtype(torch.float64)
    try:
        for host, place in ((local(), ""), (world.host(), "one/")):
            square = host.create(f"{place}toy-shape:toy-square")
            sized = host.create(f"{place}estimator:toy-sized", shape=square, generator=generator(1))
            values.append(sized.estimate(X).value)
    finally:
        torch.set_default_dtype(before)
    assert values[0] == values[1] != torch.tensor(values[0]).float().item()


def test_data_are_equal_to_the_bit(world: Any, local: Local) -> None:
    sources = [
        host.create(f"{place}data:toy-points", {"points": 20}, generator=generator(2))
        for host, place in ((local(), ""), (world.host(), "one/"))
    ]
    here, there = sources
    for split in ("train", "test"):
        one, other = here.load(split), there.load(split)
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.label, other.label)
        assert torch.equal(one.index, other.index)
        assert one.truth == other.truth
    assert (here.event_shape, here.event_scale) == (there.event_shape, there.event_scale)
    assert list(there.label_names) == ["even", "odd"]
    assert here.data_warnings() == there.data_warnings()
    assert here.summary() == there.summary()
    assert here.fingerprint() is there.fingerprint() is None
    for source in sources:
        with pytest.raises(SplitError, match="these points have no 'validation'"):
            source.load("validation")


def test_each_environment_has_its_own_library(world: Any, local: Local) -> None:
    hosts = [(world.host(), "one/"), (world.hosts[0], "two/"), (local(), "")]
    versions = [host.create(f"{place}estimator:toy-mean").estimate(X).diagnostics["clash"] for host, place in hosts]
    assert versions == ["1.0", "2.0", "2.0"]
    assert len({environment_of(world.hosts[0], name).session().pid for name in ("one", "two")}) == 2


def test_what_a_plugin_raises_is_said_here(world: Any) -> None:
    host = world.host()
    mean = host.create("one/estimator:toy-mean")
    with pytest.raises(DataError, match="2 points were given") as caught:
        mean.estimate(X[:2])
    assert caught.value.hint == "give it more points"

    def do(what: str) -> Estimate:
        found: Estimate = host.create("one/estimator:toy-misdeed", {"do": what}).estimate(X)
        return found

    with pytest.raises(PluginError, match=r"estimator:toy-misdeed failed in plugin 'old' \(toy-old 1.0, environment "):
        do("raise")
    with pytest.raises(PluginError, match=r"impl.py:\d+ in estimate: KeyError: 'no such thing'") as broken:
        do("raise")
    assert 'raise KeyError("no such thing")' in broken.value.__notes__[0]
    with pytest.raises(PluginError, match="SystemExit: 4"):
        do("system-exit")
    with pytest.raises(PluginError, match="KeyboardInterrupt"):
        do("interrupt")
    with pytest.raises(PluginError, match="a value of the type object can't go to another process"):
        do("object")
    with pytest.warns(RuntimeWarning, match="mind this"):
        do("warn")
    assert do("strange") == 3
    assert do("path").value == 1
    seen: list[Any] = []
    with showing(lambda *what: seen.append(what)):
        mean.estimate(X)
    assert seen[-1] == (3, 3, "thirds")


def test_a_crash_costs_nothing_but_its_call(world: Any) -> None:
    host = world.host()
    points = host.create("one/data:toy-points", {"points": 20}, generator=generator(2))
    mean = host.create("one/estimator:toy-mean", generator=generator(1))
    before = facts(mean.estimate(X, generator=generator()))
    for what, words in (("segfault", "segmentation fault"), ("exit", "ended itself with status 3")):
        with pytest.raises(PluginError, match=f"{words} while it did 'estimate' of estimator:toy-misdeed"):
            host.create("one/estimator:toy-misdeed", {"do": what}).estimate(X)
        # Another worker takes over, and makes the object again from what it was made of.
        assert facts(mean.estimate(X, generator=generator())) == before
    assert points.load("train").x.shape == (10, 3)
    # One that ends between two calls is replaced, and nothing is left of it.
    session = environment_of(host, "one").session()
    pid = session.pid
    os.kill(pid, signal.SIGKILL)
    while session.alive:
        time.sleep(0.01)
    assert facts(mean.estimate(X, generator=generator())) == before
    limit = time.monotonic() + 10
    while group_exists(pid) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not group_exists(pid)


def test_memory_has_a_limit(world: Any) -> None:
    host = world.host(memory='"1GB"')
    with pytest.raises(PluginError, match=r"impl.py:\d+ in <listcomp>: .*(can't allocate|MemoryError)") as caught:
        host.create("one/estimator:toy-misdeed", {"do": "memory"}).estimate(X)
    assert "raise memory in [environments.one]" in str(caught.value.hint)
    assert host.create("one/estimator:toy-mean").estimate(X).quantity == "mean"
    # Without a limit, it is the first process that the system ends where memory runs out.
    pid = environment_of(host, "one").session().pid
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of addresses is Linux's")
def test_a_limit_of_the_system_is_an_error_with_the_line(world: Any) -> None:
    """As in a container with 2 GB more than the main process, where the system refuses memory to all processes."""
    import resource

    host = world.host()
    lines = Path("/proc/self/status").read_text().splitlines()
    size = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmSize"))
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * 10**9, before[1]))
    try:
        pid = environment_of(host, "one").session().pid
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    with pytest.raises(PluginError, match=r"impl.py:\d+ in <listcomp>: .*(can't allocate|MemoryError)"):
        host.create("one/estimator:toy-misdeed", {"do": "memory"}).estimate(X)
    assert host.create("one/estimator:toy-mean").estimate(X).quantity == "mean"
    assert environment_of(host, "one").session().pid == pid


def test_time_has_a_limit(world: Any) -> None:
    host = world.host(seconds="1")
    host.create("one/estimator:toy-mean").estimate(X)
    began = time.monotonic()
    with pytest.raises(PluginError, match="took longer than 1 seconds while it did 'estimate'"):
        host.create("one/estimator:toy-misdeed", {"do": "loop"}).estimate(X)
    assert time.monotonic() - began < 20


def test_what_a_plugin_patches_stays_where_it_is(world: Any) -> None:
    def here() -> list[Any]:
        settings = [warnings.filters[:], np.geterr(), locale.setlocale(locale.LC_ALL), signal.getsignal(signal.SIGINT)]
        modes = [torch.get_default_dtype(), torch.get_default_device(), torch.is_inference_mode_enabled()]
        return [os.getcwd(), torch.randn, torch.Tensor.__add__, *settings, *modes]

    host, before = world.host(), here()
    host.create("one/estimator:toy-misdeed", {"do": "patch"}).estimate(X)
    assert here() == before
    state = random.getstate()
    values = [host.create("one/estimator:toy-misdeed", {"do": "x"}).estimate(X).diagnostics for _ in range(2)]
    assert values[0]["random"] == values[1]["random"]
    assert random.getstate() == state


def test_configs_are_checked_as_they_are_here(world: Any, local: Local) -> None:
    wrong: list[dict[str, Any]] = [
        {"scale": -1},
        {"scael": 1},
        {"even": 3},
        {"even": "x"},
        {"shift": {"by": -2}},
        {"shift": {"bye": 2}},
        {"shift": 3},
        {"scale": "much", "even": 5},
    ]
    hosts = [(local(), ""), (world.host(), "one/")]
    for raw in wrong:
        said = []
        for host, place in hosts:
            with pytest.raises(ConfigError) as caught:
                host.create(f"{place}estimator:toy-mean", raw)
            said.append((caught.value.message, caught.value.hint, caught.value.code))
        assert said[0] == said[1], raw
    # What was asked once is kept: no worker starts for it again.
    host = world.host()
    with pytest.raises(ConfigError):
        host.create("one/estimator:toy-mean", {"even": 3})
    assert not environment_of(host, "one").runs


def test_ports_take_data_and_what_is_in_the_same_environment(world: Any) -> None:
    host = world.host()
    numbers = TensorSource({"train": Dataset(torch.ones(5, 2))})
    assert host.create("one/estimator:toy-port", reference=numbers).estimate(X).pointwise.tolist() == [1] * 5
    inner = host.create("one/estimator:toy-mean", {"scale": 2.0})
    answer = host.create("one/estimator:toy-port", reference=inner).estimate(X, generator=generator())
    assert facts(answer) == facts(inner.estimate(X, generator=generator()))
    other = host.create("two/data:toy-points")
    assert host.create("one/estimator:toy-port", reference=other).estimate(X).pointwise.shape == (25,)
    other = host.create("two/estimator:toy-mean")
    answer = host.create("one/estimator:toy-port", reference=other).estimate(X, generator=generator())
    assert facts(answer) == facts(other.estimate(X, generator=generator()))
    network = host.create("network:mlp")
    with pytest.raises(ConfigError, match="takes a component of kind"):
        host.create("one/estimator:toy-port", reference=network)
    with pytest.raises(PluginError, match="takes data, scores, flows, estimators, or a component of the env") as caught:
        host.create("one/estimator:toy-any", reference=network)
    assert caught.value.hint == "add the plugin of that component to the requirements of [environments.one]"


def test_kinds_of_a_plugin_and_networks_stay_in_its_environment(world: Any, local: Local) -> None:
    there, here = world.host(), local()
    shape = there.create("one/toy-shape:toy-square", {"side": 3.0})
    sized = there.create("one/estimator:toy-sized", shape=shape, generator=generator(1))
    square = here.create("toy-shape:toy-square", {"side": 3.0})
    same = here.create("estimator:toy-sized", shape=square, generator=generator(1))
    assert sized.estimate(X).value == same.estimate(X).value != 0
    assert sized.reads_neighbours
    assert not hasattr(sized, "event_shape")
    with pytest.raises(ConfigError, match="takes a component of kind toy-shape; this is a Tensor"):
        there.create("one/estimator:toy-sized", shape=X)
    wrong = "network:mlp of scorefold-standard is named in a config of the environment 'one'; it is not in it"
    with pytest.raises(ConfigError, match=wrong) as caught:
        there.create("one/estimator:toy-sized", {"network": "network:mlp"}, shape=shape)
    assert "add scorefold-standard to the requirements of [environments.one]" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="there is no 'network:toy-netwrok'"):
        there.create("one/estimator:toy-sized", {"network": "network:toy-netwrok"}, shape=shape)


def test_nobody_imports_an_isolated_plugin(world: Any) -> None:
    host = world.host()
    item = host.catalogue.resolve("one/estimator:toy-mean")
    with pytest.raises(PluginError, match=r"can't be imported here: plugin 'old' of toy-old 1.0 in the environment"):
        load_target(item, item.component.target)


def test_a_proxy_is_shown_and_not_pickled(world: Any) -> None:
    host = world.host()
    proxy = host.create("one/estimator:toy-mean", {"scale": 2.0})
    assert repr(proxy) == "<estimator:toy-mean scale=2.0; in environment one>"
    with pytest.raises(PluginError, match="can't be sent to another process"):
        pickle.dumps(proxy)
    assert not environment_of(host, "one").runs


def test_files_that_a_source_reads_are_watched(world: Any, tmp_path: Path) -> None:
    file = tmp_path / "numbers.txt"
    file.write_text("1 2 3 4")
    source = world.host().create("one/data:toy-file", {"path": str(file)})
    assert source.fingerprint() == "1 2 3 4"
    assert source.load("test").x.flatten().tolist() == [3, 4]
    file.write_text("5 6 7 8")
    assert source.fingerprint() == "5 6 7 8"


def test_what_is_installed_here_keeps_its_name(world: Any, local: Local, tmp_path: Path) -> None:
    local()
    host = world.host()
    assert host.catalogue.resolve("estimator:toy-mean").distribution == "toy-old"
    assert host.catalogue.resolve("one/estimator:toy-mean").record.environment.spec.name == "one"
    text = (world.root / "scorefold.toml").read_text()
    file = world.root / "preferring.toml"
    file.write_text(f'{text}[prefer]\n"estimator:toy-mean" = "two"\n')
    assert Host.discover(toml=file).catalogue.resolve("estimator:toy-mean").distribution == "two"
    denied = Host.discover(toml=world.root / "scorefold.toml", deny=["one"])
    assert [record.state for record in denied.plugins if record.distribution == "one"] == ["disabled"]


def test_between_two_environments_a_person_chooses(world: Any) -> None:
    with pytest.raises(PluginError, match=r"claimed by one 1.0 .* and two 1.0"):
        world.host().create("estimator:toy-mean")


@pytest.mark.parametrize("name", ["estimator:mle", "data:sphere", "flow:banana"])
def test_the_conformance_checks_hold_through_a_proxy(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "scorefold.toml").write_text(f'[environments.here]\ninterpreter = "{sys.executable}"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "install"]) == 0
    capsys.readouterr()
    assert main(["plugins", "check", f"here/{name}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["checks"]
    reasons = {each["check"]: each["detail"] for each in found if each["result"] == "skipped"}
    assert reasons["constructor"] == "it imports the plugin, which has an environment of its own"
    assert sum(each["result"] == "passed" for each in found) >= 18
    if name == "flow:banana":  # it takes no classes
        assert main(["plugins", "check", "here/flow:affine-coupling", "--only", "invertible-given-class"]) == 0
        assert "1 run, 1 passed" in capsys.readouterr().out


def test_the_checks_find_a_fault_through_a_proxy(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world.host()
    assert main(["plugins", "check", "one/flow:toy-flow", "--only", "flow-refuses-other-shapes"]) == 1
    assert "forward of another shape ended in PluginError" in capsys.readouterr().out
    assert main(["plugins", "check", "one/score:toy-trained"]) == 0


def test_threads_are_those_of_the_caller(world: Any) -> None:
    """A worker that runs already takes a changed number of threads."""
    proxy = world.host().create("one/estimator:toy-misdeed", {"do": "threads"})
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            assert proxy.estimate(X).value == count
    finally:
        torch.set_num_threads(before)
