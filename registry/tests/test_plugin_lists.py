"""Which plugins are used at all: the lists of the caller, of the environment and of settings files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from discovered import record

from scorefold.errors import ConfigError
from scorefold_registry.plugins.discovery import discover

Install = Callable[..., Path]

Source = Callable[..., str]


class TestLists:
    """Which plugins may be used, and who says so."""

    @pytest.fixture(autouse=True)
    def _three(self, install: Install, component: Source) -> None:
        for name in "abc":
            install(f"fake-{name}", f"import builtins\nbuiltins.imported.append({name!r})\n" + component("score", name))

    @pytest.fixture
    def imported(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The plugins whose code has run."""
        import builtins

        names: list[str] = []
        monkeypatch.setattr(builtins, "imported", names, raising=False)
        return names

    @pytest.mark.parametrize("entry", ["b", "fake-b", "Fake_B", "fake-b/b", "Fake.B/b"])
    def test_a_plugin_is_named_in_any_of_these_ways(self, imported: list[str], entry: str) -> None:
        discover(allow=[entry])
        assert imported == ["b"]

    def test_denied_plugins_are_not_imported(self, imported: list[str]) -> None:
        found = discover(deny=["b"])
        assert imported == ["a", "c"]
        assert (record(found, "fake-b").state, record(found, "fake-b").components) == ("disabled", [])
        assert record(found, "fake-b").cause == "switched off by the caller of discover"

    def test_deny_goes_before_allow(self, imported: list[str]) -> None:
        discover(allow=["a", "b"], deny=["b"])
        assert imported == ["a"]

    def test_the_environment_allows_and_denies(self, imported: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCOREFOLD_PLUGINS", "a, c")
        found = discover()
        assert imported == ["a", "c"]
        assert record(found, "fake-b").cause == "switched off by SCOREFOLD_PLUGINS"

    def test_a_minus_sign_denies(self, imported: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCOREFOLD_PLUGINS", "-a,-fake-c")
        discover()
        assert imported == ["b"]

    def test_the_option_is_named_where_it_was_what_said_so(
        self, imported: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SCOREFOLD_PLUGINS", "-b")
        monkeypatch.setenv("SCOREFOLD_PLUGINS_OPTION", "-b")
        off = record(discover(), "fake-b")
        assert (off.cause, off.fix) == (
            "switched off by --plugins",
            "to use it again, take -b out of --plugins",
        )
        # Somebody who starts another process may set the variable again.
        monkeypatch.setenv("SCOREFOLD_PLUGINS", "a")
        off = record(discover(), "fake-b")
        assert (off.cause, off.fix) == (
            "switched off by SCOREFOLD_PLUGINS",
            "to use it again, add b to SCOREFOLD_PLUGINS",
        )

    def test_precedence_caller_environment_file(self, imported: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        Path("scorefold.toml").write_text('plugins = ["a"]')
        assert record(discover(), "fake-a").state == "registered"
        assert imported == ["a"]
        monkeypatch.setenv("SCOREFOLD_PLUGINS", "b")
        discover()
        assert imported == ["a", "b"]
        discover(allow=["c"])
        assert imported == ["a", "b", "c"]

    def test_the_nearest_file_upward_counts(self, imported: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        Path("scorefold.toml").write_text('plugins = ["a"]')
        inner = Path("inner/deeper")
        inner.mkdir(parents=True)
        monkeypatch.chdir(inner)
        found = discover()
        assert imported == ["a"]
        assert (record(found, "fake-b").cause or "").endswith("work/scorefold.toml")
        Path("../scorefold.toml").write_text('plugins = ["b"]')
        discover()
        assert imported == ["a", "b"]

    def test_no_import_runs_no_plugin_code(self, imported: list[str]) -> None:
        found = discover(import_plugins=False)
        assert imported == []
        assert record(found, "fake-a").state == "found"

    def test_an_entry_that_names_nothing_is_noted(self, monkeypatch: pytest.MonkeyPatch, imported: list[str]) -> None:
        monkeypatch.setenv("SCOREFOLD_PLUGINS", "fake-aa,a")
        (note,) = discover().notes
        assert note.startswith(
            "SCOREFOLD_PLUGINS names 'fake-aa', but no installed plugin has this name; did you mean "
        )
        assert "'fake-a'" in note


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plugins = 'a'", "expected a list of names"),
        ("plugins = [1]", "expected a list of names"),
        ("prefer = ['a']", "expected a table"),
        ("plugins = [", "this is not TOML"),
    ],
)
def test_a_wrong_settings_file_is_named(install: Install, text: str, message: str) -> None:
    Path("scorefold.toml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        discover()
    assert (caught.value.file or "").endswith("scorefold.toml")


def test_a_settings_file_that_is_named_must_be_there(install: Install) -> None:
    with pytest.raises(ConfigError, match="there is no settings file"):
        discover(toml=Path("elsewhere.toml"))
