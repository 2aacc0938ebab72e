"""A page that is served from a thread of the tests."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scorefold_explore.explored import Explored

TOKEN = "token-of-the-test"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]


@contextmanager
def served(explored: Explored) -> Iterator[str]:
    """The address of a page about something that is open."""
    import uvicorn

    from scorefold_explore.command import server_config
    from scorefold_explore.server import make_app

    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        app, worker = make_app(explored, port, TOKEN)
        serving = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=lambda: serving.run(sockets=[listening]), daemon=True)
        thread.start()
        while not serving.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/{TOKEN}/"
        serving.should_exit = True
        thread.join(10)
        worker.close()


def go_to(page: Any, row: int | str) -> None:
    page.fill("#go", str(row))
    page.press("#go", "Enter")


def pixels(page: Any, selector: str) -> Any:
    """The bytes that a canvas shows."""
    return page.eval_on_selector(selector, "one => one.toDataURL()")


def wait_for_drawing(page: Any) -> None:
    """Wait for two frames: the map draws a change in the frame after it."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
