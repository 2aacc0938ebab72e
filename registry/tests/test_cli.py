"""The command: commands found lazily, error messages or JSON, exit statuses, no traceback unless asked for."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold.errors import ConfigError, PluginError
from scorefold_registry.cli import main as cli
from scorefold_registry.cli.options import parser_of, parsers, wrapped

Install = Callable[..., Path]

COMMANDS = """
@hookimpl
def scorefold_commands(register):
    register("greet", "fake_one.impl:greet", "says hello")
    register("fail", "fake_one.impl:fail", "fails")
    register("gone", "fake_one.impl:gone", "is not there")
    register("plugins", "fake_one.impl:greet", "would hide a command of ours")
"""

IMPL = """
import signal
import threading
import weakref

from scorefold.errors import DataError

def greet(arguments):
    print("hello", *arguments)
    return 1

class Thing:
    pass

def fail(arguments):
    if arguments[0].startswith("ctrl-c-in"):
        thing = Thing()
        watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
        del thing
        threading.Event().wait(0 if arguments == ["ctrl-c-in-the-last-line"] else 5)
        return 0
    if arguments[0] == "ctrl-c":
        signal.raise_signal(signal.SIGINT)
    raise {
        "person": DataError("no such column", hint="the columns are a, b", file="x.csv", line=3, column=2),
        "mistake": ZeroDivisionError("division by zero"),
        "exit": SystemExit(7),
        "exit-text": SystemExit("in words"),
        "exit-well": SystemExit(),
    }[arguments[0]]
"""


@pytest.fixture
def commands(install: Install) -> None:
    install("fake-one", COMMANDS, files={"impl.py": IMPL})


Captured = pytest.CaptureFixture[str]


def made() -> list[argparse.ArgumentParser]:
    """The parsers of all commands of ours."""
    commands = {name: cli.own_command(name) for name in cli.COMMANDS}
    return list(parsers(commands).values())


def examples(parser: argparse.ArgumentParser) -> list[str]:
    """The command lines that a parser's help ends with."""
    return [line.strip() for line in (parser.epilog or "").splitlines() if line.startswith("  scorefold ")]


def test_help_lists_all_commands(commands: None, capsys: Captured) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in [*cli.COMMANDS, "greet"])
    assert "says hello (fake-one)" in text
    assert "would hide" not in text


def test_nothing_asked_is_an_error_with_help(capsys: Captured) -> None:
    assert cli.main([]) == 2
    assert "usage: scorefold" in capsys.readouterr().out


def test_version(capsys: Captured) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("scorefold 0.")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_its_module_and_help(name: str, capsys: Captured) -> None:
    assert cli.main([name, "--help"]) == 0
    assert f"usage: scorefold {name}" in capsys.readouterr().out


@pytest.mark.parametrize("line", [line for parser in made() for line in examples(parser)])
def test_examples_of_help_can_be_typed(line: str) -> None:
    command, *arguments = shlex.split(line)[1:]
    words = [command, arguments.pop(0)] if command == "plugins" else [command]
    run = cli.own_command(command)
    parser = parser_of(run, f"scorefold {' '.join(words)}", words[1:])
    parser.parse_args(arguments)


def test_every_command_has_examples() -> None:
    assert all(examples(parser) for parser in made())


def test_lines_wrap_at_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "  name: what it says, in more words than the terminal has room for in one line"
    assert wrapped(line, 8) == line
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "44")
    wanted = ["  name: what it says, in more words than the", "        terminal has room for in one line"]
    assert wrapped(line, 8).splitlines() == wanted


def test_a_plugins_command_gets_its_arguments_and_gives_the_status(commands: None, capsys: Captured) -> None:
    assert cli.main(["greet", "you", "--loud"]) == 1
    assert capsys.readouterr().out == "hello you --loud\n"


def test_a_plugin_replaces_no_command_of_ours(commands: None, capsys: Captured) -> None:
    assert cli.main(["plugins", "list", "--no-import"]) == 0
    assert "hello" not in capsys.readouterr().out


def test_two_plugins_with_one_command(commands: None, install: Install, capsys: Captured) -> None:
    install("fake-two", COMMANDS)
    assert cli.main(["greet"]) == 2
    error = capsys.readouterr().err
    assert "'greet' is a command of fake-one and fake-two" in error
    assert "--plugins=-two" in error
    assert cli.main(["--plugins=-two", "greet"]) == 1


def test_a_command_whose_code_is_not_there(commands: None, capsys: Captured) -> None:
    assert cli.main(["gone"]) == 2
    assert "fake_one.impl has no 'gone' (plugin 'one' of fake-one 1.0)" in capsys.readouterr().err


def test_a_command_of_a_known_plugin_that_is_not_here(commands: None, capsys: Captured) -> None:
    assert cli.main(["--plugins=one", "explore", "runs"]) == 2
    error = capsys.readouterr().err
    assert "the command 'explore' comes with scorefold-explore" in error
    assert "pip install scorefold-explore" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plugin", "list"], "there is no command 'plugin'\n  did you mean 'plugins'?"),
        (["greeet"], "did you mean 'greet'?"),
        (["plugins", "lst"], "invalid choice: 'lst'"),
        (["plugins", "list", "--jsn"], "unrecognized arguments: --jsn\n  did you mean '--json'?"),
        (["plugins", "list", "--js"], "unrecognized arguments: --js"),
        (["compare", "estimator", "--on", "sphere"], "--on has another name now\n  write --data CASE,..."),
        (
            ["compare", "estimator", "--with=score=score:analytic"],
            "--with has another name now\n  write --plug PORT=USE",
        ),
        (
            ["apply", "stage", "--out", "a.npy", "--set", "n=3"],
            "--set has another name now\n  write --option NAME=VALUE",
        ),
        (["sweep", "run.yaml", "--over", "seed=0,1"], "--over has another name now\n  write --grid FIELD=VALUES"),
        (["plugins"], "the following arguments are required"),
        (["--plugins"], "--plugins needs a list"),
    ],
)
def test_a_wrong_command_line(commands: None, capsys: Captured, arguments: list[str], message: str) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


class TestErrors:
    def test_for_people_in_words(self, commands: None, capsys: Captured) -> None:
        assert cli.main(["fail", "person"]) == 2
        captured = capsys.readouterr()
        assert captured.err == "error: x.csv:3:2: no such column\n  the columns are a, b\n"
        assert captured.out == ""

    def test_for_programs_as_json(self, commands: None, capsys: Captured) -> None:
        assert cli.main(["fail", "person", "--json"]) == 2
        captured = capsys.readouterr()
        error = json.loads(captured.out)["error"]
        assert (error["code"], error["message"], error["file"], error["line"], error["column"]) == (
            "data",
            "no such column",
            "x.csv",
            3,
            2,
        )
        assert captured.err == ""

    def test_a_wrong_command_line_as_json(self, capsys: Captured) -> None:
        assert cli.main(["plugins", "list", "--json", "--colour"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"

    @pytest.mark.parametrize("extra", [[], ["--json"]])
    def test_a_mistake_of_ours_is_one_message(self, commands: None, capsys: Captured, extra: list[str]) -> None:
        assert cli.main(["fail", "mistake", *extra]) == 2
        captured = capsys.readouterr()
        text = captured.out + captured.err
        assert "ZeroDivisionError: division by zero" in text
        assert "--debug" in text
        assert "Traceback" not in text

    @pytest.mark.parametrize(("what", "error"), [("person", ConfigError.__base__), ("mistake", PluginError)])
    def test_debug_shows_the_traceback(self, commands: None, what: str, error: type[Exception]) -> None:
        with pytest.raises(error):
            cli.main(["fail", what, "--debug"])

    def test_ctrl_c_is_one_line(self, commands: None, capsys: Captured) -> None:
        for way in ("ctrl-c", "ctrl-c-in-a-callback", "ctrl-c-in-the-last-line"):
            assert cli.main(["fail", way]) == 130
            assert capsys.readouterr().err == "interrupted\n"

    @pytest.mark.parametrize(("what", "status"), [("exit", 7), ("exit-well", 0)])
    def test_an_exit_keeps_its_status(self, commands: None, what: str, status: int) -> None:
        assert cli.main(["fail", what]) == status

    def test_an_exit_in_words_says_them(self, commands: None, capsys: Captured) -> None:
        assert cli.main(["fail", "exit-text"]) == 2
        assert "in words" in capsys.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, unbuffered: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "scorefold_registry.cli", "plugins", "list"],
        cwd=tmp_path,
        env={"PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == cli.PIPE_CLOSED


def test_a_reader_of_errors_that_goes_away_is_no_fault_of_what_was_asked(tmp_path: Path) -> None:
    """The status is not 1, which would say that something was tried and does not hold."""
    command = [sys.executable, "-m", "scorefold_registry.cli", "plugins", "show", "nobody"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.close()
    assert process.returncode == cli.PIPE_CLOSED


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("more", ["", " --json"])
def test_a_stream_that_was_closed_before_is_no_error(tmp_path: Path, closed: str, more: str) -> None:
    """As daemons and some schedulers start processes."""
    scorefold = f"{shlex.quote(sys.executable)} -m scorefold_registry.cli"
    command = f"{scorefold} runs list{more} {closed}; echo status $? >status"
    said = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (tmp_path / "status").read_text() == "status 0\n"
    assert said.stderr == ""
    assert bool(said.stdout) is (closed == "2>&-")


class TestPluginsOption:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["--plugins", "one", "plugins", "list", "--json"],
            ["plugins", "list", "--json", "--plugins=one"],
        ],
    )
    def test_goes_before_the_environment(
        self, commands: None, capsys: Captured, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
    ) -> None:
        monkeypatch.setenv("SCOREFOLD_PLUGINS", "standard")
        assert cli.main(arguments) == 0
        plugins = json.loads(capsys.readouterr().out)["plugins"]
        assert [item["name"] for item in plugins if item["state"] == "registered"] == ["one"]
        assert os.environ["SCOREFOLD_PLUGINS"] == "standard"

    def test_leaves_the_environment_as_it_was(self, commands: None) -> None:
        assert cli.main(["--plugins=-one", "plugins", "list"]) == 0
        assert not {"SCOREFOLD_PLUGINS", "SCOREFOLD_PLUGINS_OPTION"} & os.environ.keys()

    def test_what_follows_two_dashes_is_the_commands_own(self, commands: None, capsys: Captured) -> None:
        assert cli.main(["greet", "--", "--plugins", "--debug"]) == 1
        assert capsys.readouterr().out == "hello -- --plugins --debug\n"


class TestAnswers:
    """With ``--json`` standard output holds the answer alone."""

    LOUD = "import os, sys\nprint('loud')\nos.write(1, b'raw')\nos.system('echo child')"

    def test_whatever_plugins_print_goes_to_standard_error(self, install: Install) -> None:
        folder = install("fake-loud", self.LOUD)
        command = [sys.executable, "-m", "scorefold_registry.cli", "plugins", "list"]
        environment = {**os.environ, "PYTHONPATH": str(folder.parent)}
        said = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
        names = [plugin["name"] for plugin in json.loads(said.stdout)["plugins"]]
        assert "loud" in names
        assert sorted(said.stderr.replace("raw", "raw\n").split()) == ["child", "loud", "raw"]
        # People see it where it is printed.
        plain = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "child" in plain.stdout
        # An error is printed when standard output is the process's own again.
        wrong = [sys.executable, "-m", "scorefold_registry.cli", "plugins", "show", "nothing", "--json"]
        failed = subprocess.run(wrong, env=environment, capture_output=True, text=True)
        assert (failed.returncode, json.loads(failed.stdout)["error"]["code"]) == (2, "plugin")

    def test_an_answer_is_printed_whatever_it_is_made_of(self) -> None:
        """A lone surrogate is what a file name has that is no text."""
        script = """
import sys
from scorefold_registry.cli.options import only_answers, print_answer
with only_answers():
    print("noise")
    print_answer("a\\udcffb")
print("after")
"""
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert (said.stdout, said.stderr) == ("a\\udcffb\nafter\n", "noise\n")

    def test_errors_are_answers_too_and_the_next_command_prints_as_before(
        self, install: Install, capsys: Captured
    ) -> None:
        install("fake-loud", "print('loud')")
        assert cli.main(["plugins", "show", "nothing", "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "plugin"
        assert cli.main(["plugins", "list"]) == 0
        assert "loud  fake-loud 1.0" in capsys.readouterr().out


def test_a_working_folder_that_was_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert cli.main(["plugins", "list"]) == 2
    assert "the working folder was removed\n  change to a folder that exists: cd FOLDER" in capsys.readouterr().err
