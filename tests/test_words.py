"""One word for one thing, as the glossary has it, and short sentences on the pages that most people read."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BANNED = {
    "doubt": (r"\bdoubt(s|ed|ful)?\b", "warning"),
    "mend": (r"\bmend(s|ed|ing)?\b", "fix"),
    "law": (r"(?<!power.)\blaws?\b", "distribution, or check"),
    "by heart": (r"\bby heart\b", "memorise"),
    # Names of checks, which files of users may hold, and the methods of file objects and of Optuna's studies stay.
    "told": (r"(?<!-)\btold\b", "report, print, show, separate, or say which"),
    "tell": (r"(?<!-)(?<!source\.)(?<!study\.)\btell(s|ing)?\b", "report, print, show, separate, or say which"),
    ", in words": (r"(?<!for word), in words\b", "nothing in its place"),
}
"""Letters that are quick to look for, the pattern around them, and what to write.

Changes of the past keep their words, and so does what maps old names to new ones.
"""
LEFT_ALONE = (
    "CHANGELOG.md",
    "docs/glossary.md",
    "tests/test_words.py",
)
TEXTS = (".py", ".md", ".json", ".j2", ".jinja", ".yaml", ".yml", ".toml", ".bib")


PLAIN = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md"),
    *sorted(f"docs/{page.name}" for page in ROOT.glob("docs/*.md")),
    *sorted(f"docs/evidence/{page.name}" for page in ROOT.glob("docs/evidence/*.md")),
    *sorted(f"plugins/{page.parent.name}/README.md" for page in ROOT.glob("plugins/*/README.md")),
    "verbs/README.md",
)
"""Pages whose sentences have at most 25 words and one colon."""


ASKED = ("What", "How", "Whether", "Where", "Which", "Who", "Why", "That", "When", "If", "As")
"""Words that begin a question or a clause. A docstring begins with a noun or a verb."""


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
        f"{hit.group(0)!r}: write {instead}"
        for letters, (pattern, instead) in BANNED.items()
        if letters in plain
        for hit in re.finditer(pattern, plain)
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


SOURCES = sorted(
    str(folder.relative_to(ROOT)) for pattern in ("*/src", "plugins/*/src") for folder in ROOT.glob(pattern)
)
"""The folders of our code."""


def prose(page: str) -> list[str]:
    """The paragraphs, list items, headings and table cells of a Markdown page, without code, figures and quotations."""
    page = re.sub(r"^ *```.*?^ *```.*?$", "", page, flags=re.MULTILINE | re.DOTALL)
    page = re.sub(
        r"^(?: {4,}(?![-*] ).*\n)+(?=\n|\Z)|^>.*$|<!--.*?-->|!\[[^\]]*\]\([^)]*\)", "", page, flags=re.MULTILINE
    )
    page = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"(`+|\$)[^`$]+\1", "CODE", page))
    items = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) |^#+ |^\||\|$|\| |; (?=[^\n]*\|$)", page, flags=re.MULTILINE)
    return [" ".join(item.split()) for item in items if item and item.strip()]


def long_sentences(page: str) -> list[str]:
    """The sentences of a page with more than 25 words, or with two colons."""
    sentences = [part for item in prose(page) for part in re.split(r"(?<=[.!?])[*_)\"]*\s+(?=[*_(\"]*[A-Z0-9])", item)]
    return [
        text
        for text in sentences
        if sum(bool(re.search(r"\w", word)) for word in text.split()) > 25 or len(re.findall(r":(?=\s)", text)) > 1
    ]


@pytest.mark.parametrize("name", PLAIN)
def test_a_page_has_no_long_sentence(name: str) -> None:
    assert not long_sentences((ROOT / name).read_text("utf-8"))


def test_a_long_sentence_is_seen() -> None:
    words = " ".join(["one"] * 24)
    assert long_sentences(f"Short. A {words} end. Short.\n\n- {words}") == [f"A {words} end."]
    assert long_sentences("Two: colons: here.") == ["Two: colons: here."]
    assert not long_sentences(
        f"```\n{words} {words}\n```\n\n> {words} {words}\n\n    {words} {words}\n\n{words} `a b c d`."
    )
    assert not long_sentences(f"| {words} | {words} |\n- {words}\n- {words}\n")


def long_messages(code: str) -> list[str]:
    """The texts of errors, settings, help and the like with a sentence of more than 25 words. A field counts as one."""
    tree, found = ast.parse(code), []
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | docs:
            text = node.value
        else:
            continue
        if "\n" not in text and any(len(part.split()) > 25 for part in re.split(r"(?<=[.;:])\s", text)):
            found.append(text)
    return found


@pytest.mark.parametrize("folder", SOURCES)
def test_a_message_has_no_long_sentence(folder: str) -> None:
    texts = [text for file in sorted((ROOT / folder).rglob("*.py")) for text in long_messages(file.read_text("utf-8"))]
    assert texts == []


def test_a_long_message_is_seen() -> None:
    words = " ".join(["one"] * 24)
    assert long_messages(f'"""{words} {words}"""\nx = "{words} {{x}}"\n') == []
    assert long_messages(f"x = 'A {words} end'\ny = f'{{x}} {words} and {{x}}: short'") == [
        f"A {words} end",
        f"X {words} and X: short",
    ]


UNNAMED = re.compile(r"\b(?:that|those)\b\W+\bof\b|\bthe ones? (?:of|in|at|for|from)\b", re.IGNORECASE)
"""Words that stand for a noun of another sentence. The noun itself is easier to read."""


TESTS = sorted(
    str(folder.relative_to(ROOT))
    for pattern in ("tests", "*/tests", "plugins/*/tests")
    for folder in ROOT.glob(pattern)
)
"""The folders of our tests."""


@pytest.mark.parametrize(
    "folder", [*SOURCES, *TESTS, ".ci", "benchmarks", "examples", "plugins/models/make", "templates/src"]
)
def test_sources_repeat_the_noun(folder: str) -> None:
    kinds = (".py", ".toml", ".yaml", ".jinja")
    files = (file for file in sorted((ROOT / folder).rglob("*")) if file.suffix in kinds and file != Path(__file__))
    names = [str(file.relative_to(ROOT)) for file in files]
    found = {name: hits for name in names if (hits := UNNAMED.findall((ROOT / name).read_text("utf-8")))}
    assert found == {}, "repeat the noun: 'the score of y', not 'that of y'"


def test_a_missing_noun_is_seen() -> None:
    code = '"""The score is that of y,\nand those\nof x."""\n# That\n# of z.\nx = "as that "\n"of the one of y"\n'
    assert len(UNNAMED.findall(code)) == 5
    assert not UNNAMED.findall("points that often move; those that fit; one of them; the one that is nearest")


def docstrings(code: str) -> list[str]:
    """The texts that follow a module's head, a definition or an assignment."""
    return [
        statement.value.value.strip()
        for node in ast.walk(ast.parse(code))
        for statement in (node.body if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else [])
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    ]


def begin_as_asked(folder: Path) -> list[str]:
    """The first words of a folder's docstrings that begin with a word of ``ASKED``."""
    found = [text for file in sorted(folder.rglob("*.py")) for text in docstrings(file.read_text("utf-8"))]
    return [text[:60] for text in found if text.split(maxsplit=1)[0] in ASKED]


@pytest.mark.parametrize("folder", ["core", "plugins/explore", "registry", "templates", "testing"])
def test_docstrings_begin_with_a_noun_or_a_verb(folder: str) -> None:
    assert begin_as_asked(ROOT / folder / "src") == []


def test_few_docstrings_of_plugins_begin_with_a_question() -> None:
    folders = [ROOT / "toolkit", ROOT / "verbs", *(file.parent for file in ROOT.glob("plugins/*/pyproject.toml"))]
    assert len([text for folder in folders for text in begin_as_asked(folder / "src")]) <= 75, "75 of some 4,500"


def test_a_docstring_that_asks_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('"""What it is."""\nx = 1\n"""How many."""\ndef f():\n    """Return x."""\n')
    assert begin_as_asked(tmp_path) == ["What it is.", "How many."]
