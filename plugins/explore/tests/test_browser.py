"""The page in a real browser: every interaction, by pointer and by keyboard, and what may go wrong."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served_pages import go_to, pixels, served

from scorefold.stage import report
from scorefold_explore.command import open_place, redirect_file, run
from scorefold_explore.explored import Explored
from scorefold_registry import Host

HOSTILE = "<img src=x onerror=window.hit=1>"


def test_two_points_have_a_geodesic_next_to_the_straight_line(opened: Any, address: str, rows: list[int]) -> None:
    page = opened(address)
    go_to(page, rows[3])
    page.wait_for_selector(f"#point figcaption:text-is('row {rows[3]}')")
    go_to(page, rows[9])
    page.wait_for_selector("#geodesic .strip >> nth=1")
    assert page.locator("#geodesic .strip").nth(0).locator("canvas").count() == 20
    before = pixels(page, "#geodesic .pair canvas")
    page.fill("#along", "19")
    assert pixels(page, "#geodesic .pair canvas") != before
    assert "computed in" in page.inner_text("#geodesic .facts")
    page.click("#geodesic button:text-is('Copy…')")
    page.wait_for_selector("#recipe pre")
    assert f"between: [[{rows[3]}, {rows[9]}]]" in page.inner_text("#recipe pre >> nth=0")
    assert "space.geodesic(x, y" in page.inner_text("#recipe pre >> nth=1")
    page.click("#recipe-close")
    ends = page.locator("#geodesic input.point")
    assert [end.input_value() for end in ends.all()] == [f"row {rows[3]}", f"row {rows[9]}"]
    ends.nth(1).fill("sample 5")
    ends.nth(1).press("Enter")
    page.wait_for_function("before => document.querySelector('#geodesic canvas').toDataURL() !== before", arg=before)
    ends.nth(0).fill("sample 12")
    ends.nth(0).press("Enter")
    page.wait_for_selector("#geodesic .problem:has-text('sample 12 is not on this page')")


def test_the_pointer_shows_images_and_picks_points(opened: Any, address: str) -> None:
    page = opened(address)
    box = page.locator("#map").bounding_box()
    spots = [
        (box["x"] + box["width"] * a / 12, box["y"] + box["height"] * b / 12) for a in range(3, 10) for b in (5, 6, 7)
    ]
    hit = None
    for x, y in spots:
        page.mouse.move(x, y)
        if page.is_visible("#card"):
            hit = x, y
            break
    assert hit is not None, "no point under twenty spots in the middle of the map"
    page.wait_for_selector("#card canvas")
    assert re.match(r"(row|sample) \d+\n", page.inner_text("#card"))
    page.mouse.click(*hit)
    page.wait_for_selector("#point .thumbs canvas")
    chosen = page.inner_text("#point figcaption")
    page.click("#point .thumbs button >> nth=0")
    page.wait_for_function(f"() => document.querySelector('#point figcaption').textContent !== '{chosen}'")
    page.mouse.wheel(0, -400)


def test_a_code_that_is_dragged_is_decoded(opened: Any, address: str, rows: list[int]) -> None:
    page = opened(address)
    go_to(page, rows[3])
    page.wait_for_selector("#code figcaption:has-text('decoded in')")
    before = pixels(page, "#code .pair canvas >> nth=1")
    slider = page.locator("#code input[type=range]").first
    slider.fill(slider.get_attribute("max"))
    page.wait_for_function(
        "before => document.querySelectorAll('#code .pair canvas')[1].toDataURL() !== before", arg=before
    )


def test_a_mask_that_is_painted_gives_samples_with_their_spread(opened: Any, address: str, rows: list[int]) -> None:
    page = opened(address)
    go_to(page, rows[5])
    canvas = page.locator("#condition canvas").first
    canvas.wait_for()
    before = pixels(page, "#condition canvas >> nth=0")
    canvas.focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft", " "):
        page.keyboard.press(key)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 5, steps=4)
    page.mouse.up()
    assert pixels(page, "#condition canvas >> nth=0") != before
    page.fill("#condition input[aria-label=steps]", "5")
    page.click("#sample")
    page.wait_for_selector("#samples canvas >> nth=7")
    assert "standard deviation" in page.inner_text("#condition")


def test_a_point_has_its_spectrum_and_the_map_its_colours(opened: Any, address: str, rows: list[int]) -> None:
    page = opened(address)
    go_to(page, rows[4])
    page.wait_for_selector("#point svg >> nth=1")
    page.click("text=Spectrum by score")
    page.wait_for_selector("#point figcaption:has-text('eigenvalues of the denoiser')")
    for name, text in (
        ("dimension", "local dimension"),
        ("likelihood:flow", "log-likelihood"),
        ("reconstruction:code", "error"),
    ):
        page.select_option("#colour-name", name)
        page.wait_for_selector("#legend canvas")
        page.hover("#fit")
        assert text in page.locator("#colour-name option:checked").inner_text()
    for name, part in (("code:code", "code"), ("chart:flow", "flow")):
        page.select_option("#map-name", name)
        page.wait_for_function(f"() => document.querySelector('#axes').textContent.includes('{part}')")
    page.click("text=Find points that are equal")
    page.wait_for_selector("text=no point repeats another one")


def test_the_keyboard_is_enough(opened: Any, address: str) -> None:
    page = opened(address, color_scheme="dark", reduced_motion="reduce")
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => /^(row|sample) /.test(document.querySelector('#map-said').textContent)")
    page.keyboard.press("Enter")
    page.wait_for_selector("#point figcaption")
    for key in ("ArrowUp", "ArrowUp", "Enter", "+", "-", "0", "Escape"):
        page.keyboard.press(key)
    page.wait_for_selector("#geodesic .strip canvas")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, paper.strip("rgb()").split(","))) < 60, "dark mode"
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper


def test_at_200_percent_nothing_is_cut_off(opened: Any, address: str, rows: list[int]) -> None:
    page = opened(address)
    page.set_viewport_size({"width": 640, "height": 450})
    go_to(page, rows[3])
    page.wait_for_selector("#point svg")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_two_pages_at_once_have_answers_of_their_own(opened: Any, address: str, rows: list[int]) -> None:
    first, second = opened(address), opened(address)
    go_to(first, rows[3])
    go_to(second, rows[8])
    first.wait_for_selector(f"#point figcaption:text-is('row {rows[3]}')")
    second.wait_for_selector(f"#point figcaption:text-is('row {rows[8]}')")


def test_a_long_answer_shows_progress_and_stops(opened: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def slow(explored: Explored, name: str) -> None:
        try:
            for step in range(2000):
                report(step, 2000, "steps")
                threading.Event().wait(0.01)
        finally:
            stopped.set()

    page = opened(address)
    monkeypatch.setattr("scorefold_explore.answers.colours.colour_answer", slow)
    page.select_option("#colour-name", "isolation")
    page.wait_for_selector("#status:has-text('steps')")
    page.click("#stop")
    page.wait_for_selector("#status", state="hidden")
    assert stopped.wait(5)
    assert page.input_value("#colour-name") == "label"


def test_a_point_of_the_data_is_shown_and_found_by_its_row(opened: Any, serve: Any, host: Host, tmp_path: Path) -> None:
    x = np.random.default_rng(0).permutation(80).reshape(40, 2).astype(float)
    x[7, 1], x[30] = np.nan, x[11]
    np.save(tmp_path / "x.npy", x)
    address = serve(open_place(host, str(tmp_path / "x.npy"), {"missing": "drop", "duplicates": "keep"}))
    page = opened(address)
    for row in (11, 38):
        go_to(page, row)
        page.wait_for_selector(f"#point figcaption:text-is('row {row}')")
        assert [float(cell) for cell in page.locator("#point td").all_inner_texts()] == x[row].tolist()
        assert page.input_value("#go") == f"row {row}"
    go_to(page, 7)
    page.wait_for_selector("#go-said:has-text('7 is not on this page — it has 39 rows from 0 to 39')")
    page.click("text=Find points that are equal")
    page.click("#about button:text-is('row 30')")
    page.wait_for_selector("#point figcaption:text-is('row 30')")
    assert page.inner_text("#point .thumbs button >> nth=0") == "row 11: 0"
    for place in range(24):
        (tmp_path / f"images/{place % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), color=10 * place).save(tmp_path / f"images/{place % 2}/{place:02d}.png")
    address = serve(open_place(host, str(tmp_path / "images"), {"grey": True, "range": [0, 255]}))
    page = opened(address)
    go_to(page, "1/07.png")
    page.wait_for_selector("#point figcaption:text-is('1/07.png')")
    shade = "document.querySelector('#point canvas').getContext('2d').getImageData(0, 0, 1, 1).data[0]"
    assert page.evaluate(shade) == 70
    nearest = page.locator("#point .thumbs button")
    assert {nearest.nth(one).get_attribute("title")[:8] for one in (0, 1)} == {"0/06.png", "0/08.png"}
    go_to(page, "2/1.png")
    page.wait_for_selector("#go-said:has-text('2/1.png is not on this page — it has 24 rows, such as')")


def test_names_are_text_and_never_markup(opened: Any, serve: Any, host: Host, tmp_path: Path) -> None:
    table = tmp_path / "<b>bold.csv"
    rows = "".join(f"{i % 7},{i % 5},{i % 3}\n" for i in range(60))
    table.write_text(f'"{HOSTILE}","</script>","\u202ereversed"\n{rows}', encoding="utf-8")
    explored = open_place(host, str(table), {})
    explored.notes.append(HOSTILE)
    explored.label_names = (HOSTILE,)
    address = serve(explored)
    page = opened(address)
    go_to(page, 3)
    page.wait_for_selector("#point table")
    assert HOSTILE in page.inner_text("#point")
    assert HOSTILE in page.inner_text("#about")
    page.click("text=A run file for more…")
    page.wait_for_selector("#recipe pre")
    assert page.evaluate("[window.hit, document.querySelectorAll('img, b').length]") == [None, 0]


def test_the_file_that_a_browser_is_given_leads_to_the_page(browser: Any, address: str) -> None:
    page = browser.new_page()
    with redirect_file(address) as file:
        page.goto(file.as_uri())
        page.wait_for_url(address)
        page.wait_for_selector("body[data-ready]")
    page.close()


def test_a_server_that_ends_is_said(opened: Any, learned: Explored, rows: list[int]) -> None:
    with served(learned) as address:
        page = opened(address)
    go_to(page, rows[3])
    page.wait_for_selector("#lost:has-text('The server has ended')")
    page.wait_for_selector("#point .problem")
    opened.said[:] = [line for line in opened.said if "ERR_CONNECTION" not in line]


def test_a_browser_without_webgl_is_shown_the_rest(opened: Any, browser: Any, address: str, rows: list[int]) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(
        "HTMLCanvasElement.prototype.getContext = (get => function (kind, ...rest) {"
        " return kind === 'webgl2' ? null : get.call(this, kind, ...rest); })(HTMLCanvasElement.prototype.getContext)"
    )
    page.goto(address)
    page.wait_for_selector("#map:has-text('no WebGL 2')")
    go_to(page, rows[3])
    page.wait_for_selector(f"#geodesic, #point figcaption:text-is('row {rows[3]}')")
    context.close()


def test_a_still_page_opens_from_disk_and_asks_nobody(
    opened: Any, learned_folder: Path, tmp_path: Path, rows: list[int]
) -> None:
    file = tmp_path / "page.html"
    assert run([str(learned_folder), "--export", str(file)]) == 0
    page = opened(file.as_uri())
    assert page.inner_text("#kept .thumbs >> nth=0 >> button >> nth=0") == f"row {rows[0]}"
    page.click("#kept .thumbs >> nth=0 >> button >> nth=0")
    page.wait_for_selector("#point .thumbs canvas")
    page.click("#kept .thumbs >> nth=1 >> button >> nth=0")
    page.wait_for_selector("#geodesic .strip canvas")
    page.click("#geodesic button:text-is('Copy…')")
    page.wait_for_selector("#recipe pre")
    page.click("#recipe-close")
    go_to(page, rows[1])
    page.wait_for_selector("#point .problem:has-text('not in the still page')")
