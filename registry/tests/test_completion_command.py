"""``scorefold completion``: what bash completes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scorefold_registry.cli.main import main

ASK = """
source "$1"; shift
COMP_WORDS=(scorefold "$@"); COMP_CWORD=$#
_shtab_scorefold
echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["pl"], ["plugins"]),
        (["plugins", "ch"], ["check"]),
        (["run", "--fr"], ["--fresh"]),
        (["graph", "--format", "mer"], ["mermaid"]),
        (["run", "fil"], ["file.yaml"]),
        (["absent", "--fr"], []),
    ],
)
def test_bash_completes(
    typed: list[str], completed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "file.yaml").touch()
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", tmp_path / "script", *typed], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout.split(), done.stderr) == (completed, "")


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "ksh"]) == 2
    assert "invalid choice: 'ksh'" in capsys.readouterr().err
