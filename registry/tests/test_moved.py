"""Modules that moved are named by the place that they have now."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from scorefold_registry.cli.main import main
from scorefold_registry.plugins.moved import MOVED, new_place


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_each_is_gone_and_stands_where_it_is_said_to(old: str, new: str) -> None:
    assert find_spec(new) is not None
    parent = old.rpartition(".")[0]
    assert find_spec(parent) is None or find_spec(old) is None


def test_what_stands_below_moved_with_it() -> None:
    assert new_place("scorefold.nn.coupling") == "scorefold_toolkit.nn.coupling"
    assert new_place("scorefold.data") is None


def test_a_plugin_written_for_the_old_place_is_shown_the_new_one(
    install: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    install("fake-old", "import scorefold.latent_codes")
    main(["plugins", "list"])
    assert "fix: import scorefold_verbs.latents.codes in place of scorefold.latent_codes" in capsys.readouterr().out
