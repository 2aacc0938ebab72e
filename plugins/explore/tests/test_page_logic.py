"""The page's own functions, called in a browser that is given its modules from disk."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from scorefold_explore.bundle import PAGE

ADDRESS = "http://page.test/"


@pytest.fixture(scope="module")
def module(browser: Any) -> Iterator[Any]:
    """Calls an expression of JavaScript in which ``m`` is a module of the page."""

    def send(route: Any) -> None:
        name = route.request.url.removeprefix(ADDRESS) or "index.html"
        file = PAGE / name
        if name == "explore.js" or not file.is_file():
            route.fulfill(status=200, body="", content_type="text/javascript")
        else:
            route.fulfill(path=file, content_type=mimetypes.guess_type(name)[0])

    page = browser.new_page()
    page.route("**/*", send)
    page.goto(ADDRESS)
    yield lambda name, call: page.evaluate(f"import('/{name}.js').then((m) => {call})")
    page.close()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 7.7, [0, 2, 4, 6]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.3, 0.31, [-0.2, 0, 0.2]),
        (1200, 5300, [2000, 3000, 4000, 5000]),
        (0, 2e-5, [0, 5e-6, 1e-5, 1.5e-5, 2e-5]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(module: Any, low: float, high: float, expected: list[float]) -> None:
    assert module("charts", f"m.ticks({low}, {high})") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.02, 30, [0.1, 1, 10]),
        (27, 14000, [100, 1000, 10000]),
        (0.5, 4, [0.5, 1, 2]),
        (1.104, 2.766, [1.5, 2, 2.5]),
        (1e-9, 1e9, [1e-9, 1e-5, 1e-1, 1e3, 1e7]),
    ],
)
def test_ticks_of_a_log_scale_are_powers(module: Any, low: float, high: float, expected: list[float]) -> None:
    assert module("charts", f"m.logTicks({low}, {high})") == pytest.approx(expected)


def test_a_chart_names_its_axes(module: Any) -> None:
    chart = (
        "m.lines([{name: 'a', x: [1, 10, 100], y: [3, 2, NaN]}], {x: 'scale', y: 'dimension', logX: true}).outerHTML"
    )
    found = module("charts", chart)
    assert "rotate(-90)" in found
    assert ">dimension<" in found
    assert ">scale<" in found
    assert "NaN" not in found.split("polyline")[1]


@pytest.mark.parametrize("numbers", [[], [0], [3, 4, 5, 9], [0, 1, 2], [35, 36, 37, 1295, 1296, 99_999]])
def test_a_selection_goes_through_the_address(module: Any, numbers: list[int]) -> None:
    assert module("address", f"m.unpacked(m.packed({numbers}), 100000)") == numbers


def test_an_address_says_what_is_shown_and_nothing_that_does_not_fit(module: Any) -> None:
    page = (
        "{maps: [{name: 'pca'}, {name: 'code:a b'}], colours: [{name: 'label'}],"
        " scales: [{name: 'own'}, {name: 'columns'}], points: 50}"
    )
    state = (
        "{map: 'code:a b', colour: 'label', scale: 'columns', view: [0.123456789, -2, 30], ends: [7, null],"
        " classes: [1, 2], selection: [4, 5, 6]}"
    )
    assert module("address", f"m.read(m.written({state}), {page})") == {
        "map": "code:a b",
        "colour": "label",
        "scale": "columns",
        "view": [0.12346, -2, 30],
        "ends": [7, None],
        "classes": [1, 2],
        "selection": [4, 5, 6],
    }
    wrong = "map=<b>&colour=x&scale=feet&at=1,NaN,2&points=50,-1&selected=zz-1.1e.0-99999999.__proto__&classes=x"
    assert module("address", f"m.read({wrong!r}, {page})") == {
        "map": None,
        "colour": None,
        "scale": None,
        "view": None,
        "ends": [None, None],
        "classes": [33],
        "selection": [],
    }
    long = "Array.from({length: 40000}, (_, i) => 2 * i)"
    text = module("address", f"m.written({{...{state}, selection: {long}}})")
    assert "selected" not in text


def test_a_polygon_holds_the_points_inside_it(module: Any) -> None:
    points = "new Float32Array([0, 0, 2, 2, 5, 5, 9, 1, 5, 1])"
    arrow = "[[-1, -1], [10, -1], [10, 10], [5, 3], [-1, 10]]"
    assert module("polygon", f"m.inside({points}, {arrow}, null)") == [0, 1, 3, 4]
    assert module("polygon", f"m.inside({points}, {arrow}, new Uint8Array([0, 1, 0, 0, 1]))") == [0, 3]


@pytest.mark.parametrize(
    ("way", "expected"),
    [("replaces", [2, 9]), ("adds", [1, 2, 3, 9]), ("removes", [1, 3]), ("narrows", [2])],
)
def test_a_new_choice_is_combined_with_the_old_one(module: Any, way: str, expected: list[int]) -> None:
    assert module("selection", f"m.combined([1, 2, 3], [9, 2, 2], '{way}')") == expected


def test_points_are_chosen_by_a_class_or_a_range(module: Any) -> None:
    values = "new Float32Array([0, 1, NaN, 2, 1])"
    assert module("selection", f"m.matching({values}, {{classes: ['a', 'b', 'c']}}, {{chosen: 1}})") == [1, 4]
    assert module("selection", f"m.matching({values}, {{}}, {{low: 1, high: null}})") == [1, 3, 4]
    assert module("selection", f"m.matching({values}, {{}}, {{low: null, high: 0.5}})") == [0]


def test_points_are_found_by_name_label_and_tag(module: Any) -> None:
    asked = (
        "{count: 4, called: (p) => ['cats/1.png', 'cats/2.png', 'dogs/1.png', 'row 7'][p],"
        " labels: {classes: ['Tabby', 'other'], numbers: [1, 1, 0, NaN]}, tags: {odd: [3]}}"
    )
    assert module("search", f"m.found('CATS', {asked})") == [0, 1]
    assert module("search", f"m.found('tab', {asked})") == [2]
    assert module("search", f"m.found('odd', {asked})") == [3]
    assert module("search", f"m.found('<b>', {asked})") == []


def test_times_are_said_as_people_say_them(module: Any) -> None:
    said = module("training", "[3, 48, 90, 120, 599, 640, 3600].map(m.duration)")
    assert said == ["5 s", "50 s", "1 min 30 s", "2 min", "10 min", "11 min", "60 min"]
    assert module("training", "m.secondsOf({trained: ['flow', 'score'], rest: 20}, 0.5)") == 80


def test_no_two_of_sixty_classes_look_the_same(module: Any) -> None:
    bytes_of = "Uint8Array.from({length: 64}, (_, i) => i)"
    values = f"btoa(String.fromCharCode(...new Uint8Array(Float32Array.from({bytes_of}).buffer)))"
    call = (
        f"(() => {{ const one = m.colouring({{values: {values}, classes: ['x']}});"
        " return Array.from({length: 64}, (_, i) => [...one.bytes.slice(4 * i, 4 * i + 3), one.shapes[i]].join()); })()"
    )
    looks = module("colours", call)
    assert len(set(looks)) == 64
    # Two neighbours on the list, which are often close on the map, differ in both cues.
    assert all(a.split(",")[3] != b.split(",")[3] for a, b in pairwise(looks))
