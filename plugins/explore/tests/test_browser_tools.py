"""What the page offers beside its panels, in a real browser: selection, legend, address, scale, training, touch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from served_pages import go_to, pixels, wait_for_drawing

from scorefold_explore.command import open_place
from scorefold_explore.explored import Explored
from scorefold_explore.opening import open_run, put_beside
from scorefold_registry import Host

HOSTILE = "<img src=x onerror=window.hit=1>"


def drag(page: Any, corners: list[tuple[float, float]]) -> None:
    """Draw with the mouse on the map, through places that are shares of its width and height."""
    box = page.locator("#map").bounding_box()
    places = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def test_a_selection_is_drawn_tagged_saved_and_opened_again_by_its_address(
    opened: Any, learned: Explored, address: str
) -> None:
    page = opened(address)
    page.click("button[data-tool=lasso]")
    drag(page, [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.5, 0.5), (0.1, 0.9), (0.1, 0.1)])
    page.wait_for_selector("#selection-count:has-text('of 312 points')")
    count = int(page.inner_text("#selection-count").split()[0])
    assert 20 < count < 312
    page.select_option("#select-way", "narrows")
    page.select_option("#filter-by", "label")
    page.wait_for_selector("#filter-class:visible")
    page.select_option("#filter-class", "3")
    page.click("#filter")
    page.wait_for_function("was => parseInt(document.querySelector('#selection-count').textContent) < was", arg=count)
    page.fill("#tag", HOSTILE)
    page.click("#tag-on")
    page.wait_for_selector("#selection:has-text('tag <img')")
    tagged = len(learned.tags[HOSTILE])
    with page.expect_download() as download:
        page.click("#csv")
    rows = Path(download.value.path()).read_text().splitlines()
    assert download.value.suggested_filename == f"selection-{tagged}.csv"
    assert len(rows) == tagged + 1
    assert all(",3," in row for row in rows[1:])
    page.wait_for_function("() => location.hash.includes('selected=')")
    again = opened(page.url)
    again.wait_for_selector(f"#selection-count:has-text('{tagged} of 312 points')")
    again.fill("#go", "onerror")
    again.press("#go", "Enter")
    again.wait_for_selector(f"#go-said:has-text('{tagged} points with onerror in their name, label or tag')")
    again.click("#clear")
    assert again.inner_text("#selection-count").startswith("Nothing is selected")
    assert again.evaluate("window.hit") is None
    learned.tags.clear()


def test_a_click_on_the_legend_lights_a_class_and_the_address_keeps_it(opened: Any, address: str) -> None:
    page = opened(address)
    page.uncheck("#images")
    before = page.locator("#map").screenshot()
    page.click("#legend button:text-is('7')")
    assert page.get_attribute("#legend button:text-is('7')", "aria-pressed") == "true"
    page.wait_for_function("() => location.hash.includes('classes=7')")
    assert page.locator("#map").screenshot() != before
    again = opened(page.url)
    assert again.locator("#legend button[aria-pressed=true]").all_inner_texts() == ["7"]
    again.click("#legend button:text-is('All')")
    assert again.locator("#legend button[aria-pressed=true]").count() == 0


def test_two_maps_stand_beside_each_other(opened: Any, address: str, rows: list[int]) -> None:
    page = opened(address)
    page.click("#two")
    page.select_option("#second-name", "code:code")
    page.wait_for_selector("#second-axes:has-text('code of code')")
    assert "principal component 1" in page.inner_text("#axes")
    go_to(page, rows[3])
    page.wait_for_selector("#point figcaption")
    one, other = (page.locator(name).bounding_box() for name in ("#map", "#second"))
    assert (one["y"], one["width"]) == (other["y"], other["width"])
    assert other["x"] > one["x"] + one["width"]


def test_two_runs_begin_with_the_code_of_each(opened: Any, serve: Any, host: Host, learned_folder: Path) -> None:
    one, other = (open_run(host, learned_folder) for _ in range(2))
    put_beside(one, other)
    page = opened(serve(one))
    page.wait_for_function("() => document.querySelector('#second-name').value.endsWith(' (second run)')")
    first, second = (page.input_value(name) for name in ("#map-name", "#second-name"))
    assert second == f"{first} (second run)"


def test_images_stand_on_the_map_when_it_is_near(opened: Any, address: str) -> None:
    page = opened(address)
    above = "#map canvas >> nth=1"
    page.wait_for_function("() => document.querySelectorAll('#map canvas')[1].width > 300")
    page.uncheck("#images")
    wait_for_drawing(page)
    bare = pixels(page, above)
    page.check("#images")
    page.wait_for_function("was => document.querySelectorAll('#map canvas')[1].toDataURL() !== was", arg=bare)
    page.uncheck("#images")
    page.wait_for_function("was => document.querySelectorAll('#map canvas')[1].toDataURL() === was", arg=bare)


def test_columns_of_other_units_are_warned_of_and_scaled_on_the_page(
    opened: Any, serve: Any, host: Host, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3)) * [1000, 1, 1]
    table = tmp_path / "units.csv"
    table.write_text("pay,age,height\n" + "".join(f"{a},{b},{c}\n" for a, b, c in x))
    address = serve(open_place(host, str(table), {}))
    page = opened(address)
    page.wait_for_selector("#warnings:has-text('100% of the variance is in the column pay')")
    assert "(100% of" in page.inner_text("#axes")
    page.click("#warnings button")
    page.wait_for_selector("#axes:not(:has-text('(100% of'))")
    assert not page.is_visible("#warnings button")
    go_to(page, 4)
    page.wait_for_selector("#point:has-text('Distances in standard deviations of the columns')")
    page.wait_for_function("() => location.hash.includes('scale=columns')")
    again = opened(page.url)
    again.wait_for_selector("#axes:has-text('of the variance')")
    assert not again.is_visible("#warnings button"), "the address has the scale that answers the warning"


def test_what_is_missing_is_trained_by_a_click(
    opened: Any, serve: Any, host: Host, learned_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs/learned/now"
    shutil.copytree(learned_folder, folder)
    shutil.rmtree(folder / "geometry")
    address = serve(open_place(host, str(folder), {}))
    page = opened(address)
    page.set_default_timeout(300_000)
    go_to(page, 3 if "row 3" in page.content() else "sample 3")
    button = page.locator("#geodesic button.train")
    assert re.fullmatch(r"Train it: about \d+ s", button.inner_text())
    assert "nothing has to be trained" in page.inner_text("#geodesic")
    button.click()
    page.wait_for_selector("#training:has-text('stage')")
    assert button.is_disabled()
    reloaded = opened(address)
    reloaded.wait_for_selector("#training:has-text('Training goes on')")
    page.wait_for_selector("#training:has-text('Trained: geodesics. It is kept in')")
    go_to(page, "sample 5")
    page.wait_for_selector("#geodesic .strip canvas")
    assert page.locator("button.train").count() == 0


def test_a_finger_scrolls_the_page_and_two_fingers_zoom_the_map(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.set_default_timeout(60_000)
    page.wait_for_function("() => location.hash.includes('at=')")
    before = page.evaluate("new URLSearchParams(location.hash.slice(1)).get('at').split(',').map(Number)")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    assert box["height"] <= 0.5 * 800
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = context.new_cdp_session(page)

    def fingers(kind: str, *places: tuple[float, float]) -> None:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in places]})

    fingers("touchStart", (x - 30, y), (x + 30, y))
    for apart in (45, 60, 75, 90):
        fingers("touchMove", (x - apart, y), (x + apart, y))
    fingers("touchEnd")
    near = "new URLSearchParams(location.hash.slice(1)).get('at').split(',').map(Number)[2]"
    page.wait_for_function(f"was => {near} > 2.5 * was", arg=before[2])
    top = page.evaluate("scrollY")
    fingers("touchStart", (x, y))
    for up in range(10, 160, 10):
        fingers("touchMove", (x, y - up))
    fingers("touchEnd")
    page.wait_for_function("was => scrollY > was + 50", arg=top)
    context.close()
