"""One word for one thing: what the glossary replaced does not come back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
BANNED = {
    r"\bdoubt(s|ed|ful)?\b": "warning",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"(?<!power.)\blaws?\b": "distribution, or check",
    r"\bby heart\b": "memorise",
    # Names of checks, which files of users may hold, and the methods of file objects and of Optuna's studies stay.
    r"(?<!-)(?<!source\.)(?<!study\.)\b(told|tell(s|ing)?)\b": "report, print, show, separate, or say which",
    r"(?<!for word), in words\b": "nothing in its place",
}
"""Patterns and what to write. Changes of the past keep their words, and so does what maps old names to new ones."""
LEFT_ALONE = (
    "CHANGELOG.md",
    "docs/glossary.md",
    "tests/test_words.py",
)
TEXTS = (".py", ".md", ".json", ".j2", ".jinja", ".yaml", ".yml", ".toml", ".bib")


def texts() -> list[Path]:
    """The text files of the repository that Git knows."""
    # Git lists nothing of a folder that belongs to another user without this setting.
    command = ["git", "-c", "safe.directory=*", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [
        ROOT / name for name in listed if name.endswith(TEXTS) and name not in LEFT_ALONE and (ROOT / name).exists()
    ]


def found(text: str) -> list[str]:
    """The banned words of a text, with what to write instead."""
    # Names are words joined by underscores.
    plain = text.replace("_", " ").lower()
    return [
        f"{hit.group(0)!r}: write {instead}" for word, instead in BANNED.items() for hit in re.finditer(word, plain)
    ]


def test_no_old_word_comes_back() -> None:
    wrong = {str(path.relative_to(ROOT)): words for path in texts() if (words := found(path.read_text("utf-8")))}
    assert not wrong


def test_an_old_word_is_seen() -> None:
    assert found("what mends it, in words; the law of data; is_told; a file tells") == [
        "'mends': write fix",
        "'law': write distribution, or check",
        "'told': write report, print, show, separate, or say which",
        "'tells': write report, print, show, separate, or say which",
        "', in words': write nothing in its place",
    ]
    assert found("power laws recommend a flawless amendment; estimate-told; source.tell()") == []
