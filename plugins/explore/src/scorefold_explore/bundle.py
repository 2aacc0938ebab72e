"""The files of the page as they stand in the package, and the still page: one HTML file that opens from disk."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scorefold.artefacts import json_text
from scorefold.errors import ScorefoldError
from scorefold.stage import reported
from scorefold_explore.explored import Explored
from scorefold_explore.questions import answer

PAGE = Path(__file__).parent / "page"
BUILT = PAGE / "built"


@dataclass(frozen=True)
class PageFile:
    """A file that the server sends, and its media type."""

    path: Path
    media: str

    def read(self) -> bytes:
        """Its content. Raises ``ScorefoldError`` where the page was not built."""
        return self._content

    @cached_property
    def _content(self) -> bytes:
        check_built()
        return self.path.read_bytes()


FILES = {
    "index.html": PageFile(PAGE / "index.html", "text/html"),
    "style.css": PageFile(PAGE / "style.css", "text/css"),
    "explore.js": PageFile(BUILT / "explore.js", "text/javascript"),
    "licences.txt": PageFile(BUILT / "licences.txt", "text/plain"),
}
"""All files that the server sends."""


def check_built() -> None:
    """Raises ``ScorefoldError`` where the bundle is missing: in a checkout whose page was never built."""
    if not (BUILT / "explore.js").is_file():
        raise ScorefoldError(
            "the page of scorefold explore is not built",
            hint="in a checkout, with Node and npm: pip install ./plugins/explore (a published wheel has it)",
        )


NOT_KEPT = frozenset({"overview", "recipe", "train", "tag", "export"})
MOST_KEPT = 4000
PICTURES = 500
"""Points of a still page whose images are in it."""


def question_key(what: str, given: Mapping[str, Any]) -> str:
    """A question as text, the same whatever the order of its arguments; the page's own code makes the same."""
    return what + json.dumps(given, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def usual_answers(explored: Explored, points: int = 12) -> dict[str, Any]:
    """Content of a still page that the command makes without questions: maps and ready colours, the images of some
    points, and for a few pairs and points what lies between and around them. What a model can't answer is left out.
    """
    found: dict[str, Any] = {}
    overview = answer(explored, "overview", {})

    def ask(what: str, **given: Any) -> Any:
        try:
            found[question_key(what, given)] = answer(explored, what, given)
        except ScorefoldError:
            return None
        return found[question_key(what, given)]

    for one in overview["maps"]:
        if one["name"] != "umap":
            ask("map", name=one["name"])
    for one in overview["colours"]:
        if one["ready"] or one["name"] in ("dimension", "isolation"):
            ask("colour", name=one["name"])
    ask("duplicates")
    count = len(explored.points)
    rows = sorted({int(one * count / PICTURES) for one in range(PICTURES)} & set(range(count)))
    chosen = rows[:: max(1, len(rows) // points)][:points]
    map_name = overview["maps"][0]["name"]
    for row in reported(chosen, len(chosen), "points of the still page"):
        ask("point", point=row)
        for model in overview["models"]["code"]:
            ask("code", coder=model["name"], point=row)
    for model in overview["models"]["geometry"]:
        if model["component"] == "geometry:euclidean":
            continue  # every geodesic stands next to its straight line
        for start, end in zip(chosen[::2], chosen[1::2], strict=False):
            ask("geodesic", geometry=model["name"], start=start, end=end, steps=20, map=map_name)
    near = {
        one["point"]
        for what, value in found.items()
        if what.startswith("point")
        for one in (*value["neighbours"], *value["samples"])
    }
    for row in sorted({*rows, *near}):
        ask("pictures", points=[row])
    return found


def with_recipes(explored: Explored, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers with what can be copied of each, and with the overview, which a page begins with."""
    found = {question_key("overview", {}): answer(explored, "overview", {}), **answers}
    asked = [(key.partition("{")[0], json.loads("{" + key.partition("{")[2])) for key in answers]
    for what, given in [*asked, ("more", {})]:
        recipe = {"what": what, "asked": given}
        with suppress(ScorefoldError):
            found[question_key("recipe", recipe)] = answer(explored, "recipe", recipe)
    return found


def still_page(title: str, answers: Mapping[str, Any]) -> bytes:
    """One HTML file: markup, style, script and answers.

    The policy in it names the script by its digest, so that nothing else runs, and no address may be loaded. Raises
    ``ScorefoldError`` where the page was not built.
    """
    check_built()
    markup = FILES["index.html"].read().decode()
    script = FILES["explore.js"].read().decode().replace("</script", "<\\/script")
    style = FILES["style.css"].read().decode()
    data = _embedded({"title": title, "answers": answers})
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    page = (
        markup.replace('<link rel="stylesheet" href="style.css">', f"<style>{style}</style>")
        .replace("<!-- policy -->", f'<meta http-equiv="Content-Security-Policy" content="{policy}">')
        .replace("<!-- answers -->", f'<script type="application/json" id="answers">{data}</script>')
    )
    # The script goes in last, so that nothing is replaced inside it.
    head, _, tail = page.partition('<script src="explore.js" defer></script>')
    return (head + tail.replace("</body>", f"<script>{script}</script>\n</body>")).encode()


def _embedded(value: Any) -> str:
    """JSON that no text in it can end early: no < is left."""
    return json_text(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
