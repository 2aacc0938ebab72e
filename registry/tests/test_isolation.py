"""What a plugin's code may not do to the process, wherever it runs: in a thread, in a folder that is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scorefold.errors import PluginError
from scorefold_registry.host import Host
from scorefold_registry.plugins.process_guard import isolated

Install = Callable[..., Path]


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """Python's own handler of Ctrl-C, which a test that runs in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def raises_by_itself() -> None:
    with pytest.raises(RuntimeError, match="it raised KeyboardInterrupt"), isolated(pytest.fail):
        raise KeyboardInterrupt


def test_in_a_thread_nobody_presses_ctrl_c() -> None:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(raises_by_itself).result()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler])
def test_who_handles_ctrl_c_does_so_afterwards(handler: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, handler)
    raises_by_itself()
    assert signal.getsignal(signal.SIGINT) is handler


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with isolated(pytest.fail):
        signal.raise_signal(signal.SIGINT)


def test_a_handler_that_the_code_sets_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with isolated(pytest.fail):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_is_no_fault_of_the_code() -> None:
    with pytest.raises(KeyboardInterrupt), isolated(pytest.fail):
        signal.raise_signal(signal.SIGINT)


def test_the_working_folder_is_changed_back_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    warnings: list[str] = []
    with isolated(warnings.append):
        os.chdir("/")
    assert Path.cwd() == tmp_path
    assert len(warnings) == 1
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    with isolated(pytest.fail):
        pass


@pytest.mark.parametrize("ending", ["", "\nraise KeyboardInterrupt"])
def test_what_a_plugin_imports_later_is_held_to_the_same(install: Install, ending: str) -> None:
    source = """
    @hookimpl
    def scorefold_components():
        yield Component("estimator", "moves", "fake_moves.impl:Moves", "scorefold.config:Config", "moves")
    """
    install("fake-moves", source, files={"impl.py": f"import os\nos.chdir('/'){ending}"})
    here, host = Path.cwd(), Host.discover()
    with pytest.raises(PluginError, match="no 'Moves'" if not ending else "it raised KeyboardInterrupt"):
        host.create("estimator:moves")
    assert Path.cwd() == here
    (moves,) = (record for record in host.plugins if record.distribution == "fake-moves")
    assert moves.warnings[0] == "it changes the working folder while it is imported, which was changed back"


def test_a_plugin_that_ends_the_process_is_broken_and_the_others_work(install: Install) -> None:
    end = os._exit
    install("fake-end", "import os\nos._exit(3)")
    host = Host.discover()
    assert os._exit is end
    (record,) = (item for item in host.plugins if item.distribution == "fake-end")
    assert record.state == "broken"
    assert "it called os._exit(3), which would have ended the command" in str(record.cause)
    assert host.catalogue.resolve("estimator:mle").state == "registered"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_a_plugin_forks_may_end() -> None:
    with isolated(pytest.fail):
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
