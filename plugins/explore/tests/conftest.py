"""Two small runs of digits, opened once: one with a flow, a geometry, a code and a score, one with conditions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from scorefold_registry import Host, run_file

if TYPE_CHECKING:
    from scorefold_explore.explored import Explored


class LeftOut(pytest.Module):
    """A file of tests where the plugin is not installed, which it is where npm can build its page."""

    def collect(self) -> NoReturn:
        pytest.skip("scorefold-explore is not installed, because there is no npm", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if find_spec("scorefold_explore") else LeftOut.from_parent(parent, path=module_path)


LEARNED = """
version: 1
name: learned
stages:
  data: {use: data:digits, config: {limit: 300}}
  flow: {use: flow:anisotropic, inputs: {data: data}, config: {map: {name: coupling, layers: 2}, training: {steps: 5}}}
  geometry: {use: geometry:pullback, inputs: {flow: flow}}
  code:
    use: autoencoder:vae
    inputs: {data: data}
    config:
      latent: 4
      encoder: &small {use: network:mlp, config: {width: 16, blocks: 1}}
      decoder: *small
      training: {steps: 3}
  score: {use: score:analytic, inputs: {data: data}, config: {gaussian: true, process: {name: vp}}}
  samples: {use: score, do: sample, options: {n: 12, steps: 5}}
  dimension: {use: estimator:mle, inputs: {data: data}}
  unusual: {use: flow, do: outliers, inputs: {data: data}}
"""

HOLES = """
version: 1
name: holes
stages:
  digits: {use: data:digits, config: {limit: 120}}
  holes:
    use: data:paired
    inputs: {data: digits}
    config: {operator: {name: mask, region: square, each: true}, mask: true}
  coarse: {use: data:paired, inputs: {data: digits}, config: {operator: {name: box-downsample, factor: 2}}}
  score:
    use: score:conditional
    inputs: {data: holes}
    config:
      estimator: cde
      clean: [mask]
      network: {use: network:mlp, config: {width: 16, blocks: 1}}
      training: {steps: 3}
"""


@pytest.fixture(scope="session")
def host() -> Host:
    return Host.discover()


def ran(host: Host, folder: Path, text: str) -> Path:
    """The folder of a run of a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.yaml").write_text(text)
    return run_file(host, folder / "run.yaml", runs=folder / "runs", cache=folder / "cache").folder


@pytest.fixture(scope="session")
def learned_folder(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(host, tmp_path_factory.mktemp("learned"), LEARNED)


@pytest.fixture(scope="session")
def learned(host: Host, learned_folder: Path) -> Explored:
    from scorefold_explore.opening import open_run

    return open_run(host, learned_folder)


@pytest.fixture(scope="session")
def holes(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Explored:
    from scorefold_explore.opening import open_run

    return open_run(host, ran(host, tmp_path_factory.mktemp("holes"), HOLES))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from served_pages import CHROMIUM, FLAGS

    from scorefold_explore.bundle import BUILT

    if CHROMIUM is None:
        pytest.skip("no Chromium is found: apt install chromium")
    if not (BUILT / "explore.js").is_file():
        pytest.skip("the page is not built: it needs npm, then python plugins/explore/hatch_build.py")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(learned: Explored) -> Iterator[str]:
    from served_pages import served

    with served(learned) as found:
        yield found


@pytest.fixture
def serve() -> Iterator[Any]:
    """Serves what it is given until the test has ended, and returns the address."""
    from served_pages import served

    with ExitStack() as running:
        yield lambda explored: running.enter_context(served(explored))


@pytest.fixture
def opened(browser: Any, serve: Any) -> Iterator[Any]:
    """Opens pages, holds each to no error and no request to anywhere else, and closes them before their server."""
    contexts: list[Any] = []
    said: list[str] = []

    def open_page(address: str, **given: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **given)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
        base = address.rpartition("/")[0]
        page.on("request", lambda one: None if one.url.startswith((base, "data:", "blob:")) else said.append(one.url))
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        return page

    open_page.said = said  # type: ignore[attr-defined]
    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="module")
def rows(learned: Explored) -> list[int]:
    """The rows of the digits that the training points of the page are."""
    index = learned.groups[0].index
    assert index is not None
    found: list[int] = index.tolist()
    return found
