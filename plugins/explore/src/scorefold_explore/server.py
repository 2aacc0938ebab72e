"""The server: it checks requests, passes questions on, and sends answers; one thread answers, and another trains."""

from __future__ import annotations

import gzip
import itertools
import json
import queue
import re
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from scorefold.artefacts import json_text
from scorefold.errors import ScorefoldError
from scorefold.stage import showing
from scorefold_explore import bundle
from scorefold_explore.explored import Explored
from scorefold_explore.questions import PageQuestion, checked_question

ASKED = ("host", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
"""The headers of a request that say where it comes from."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer: the page loads only from this server, and runs only its own scripts."""


def request_refusal(asked: Mapping[str, str | None], method: str, path: str, port: int, token: str) -> str | None:
    """The reason to refuse a request, or None. ``asked`` are its headers of ``ASKED``.

    The ``Host`` must be this machine by its own name, else a name that was bound anew to 127.0.0.1 could ask; the
    ``Origin``, where there is one, must be this page; and the path must begin with the token. What another site asks is
    refused, but for a person's way to the page itself: a link, or the file that opens the browser.
    """
    own = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
    origin, site = asked.get("origin"), asked.get("sec-fetch-site")
    if asked.get("host") not in own:
        return "the Host of the request is another one than this machine"
    if origin is not None and origin not in {f"http://{name}" for name in own}:
        return "the request comes from another origin"
    gone_to = (method, asked.get("sec-fetch-mode"), asked.get("sec-fetch-dest")) == ("GET", "navigate", "document")
    if site not in (None, "none", "same-origin") and not (gone_to and path == f"/{token}/"):
        return "the request comes from another site"
    given = path.lstrip("/").partition("/")[0]
    if not secrets.compare_digest(given.encode(), token.encode()):
        return "the token in the address is missing or wrong"
    return None


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of a header; of one that stands twice, both, which no check accepts."""
    found = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    return ", ".join(found) if found else None


LARGEST_BODY = 2**22
"""Bytes of a question: one with an image that was drawn is the largest."""
AT_ONCE = 0.15
"""Seconds that a question is waited for before the page has to ask how far it is."""
WAIT = 1.0
_NUMBER = re.compile(r"[0-9]{1,15}")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guarded:
    """Refuses what ``guard.refusal`` does, before anything else sees it."""

    def __init__(self, app: Any, port: int, token: str) -> None:
        self.app, self.port, self.token = app, port, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = {name: header(scope["headers"], name.encode()) for name in ASKED}
            why = request_refusal(asked, scope["method"], scope["path"], self.port, self.token)
            if why is not None:
                await Response(f"refused: {why}\n", 403, HEADERS, "text/plain")(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return  # web sockets are closed unanswered
        with suppress(ClientDisconnect):  # who hangs up in the middle of a question wants no answer
            await self.app(scope, receive, send)


def make_app(
    explored: Explored, port: int, token: str, opened: Callable[[], object] = lambda: None
) -> tuple[Guarded, QuestionWorker]:
    """The application for one page and the worker that answers it; ``opened`` is called when the page is asked for."""
    worker = QuestionWorker()
    asked: dict[str, Any] = {}

    async def ask(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            message = f"a question has at most {LARGEST_BODY} bytes"
            return _json(request, {"error": {"message": message}}, 413, connection="close")
        try:
            given = json.loads(body)
            if not isinstance(given, dict) or not isinstance(given.get("asked", {}), dict):
                raise ValueError
            question, arguments = checked_question(str(given.get("what")), given.get("asked", {}))
        except (ValueError, RecursionError):
            return _json(request, {"error": {"message": "a question is a JSON object of 'what' and 'asked'"}}, 400)
        except ScorefoldError as error:
            return _json(request, {"error": error.as_json()}, 400)
        remember = _remembers(asked, str(given["what"]), given.get("asked", {}), explored, question, arguments)
        if question.quick:
            return await _quick(request, remember)
        job = worker.start(remember, apart=question.apart)
        await run_sync(job.ended.wait, AT_ONCE)
        return _json(request, job.as_json())

    async def job(request: Request) -> Response:
        number = request.path_params["number"]
        # Python refuses to read thousands of digits, and no job has a number of more than a few.
        found = worker.find(int(number)) if _NUMBER.fullmatch(number) else None
        if found is None:
            return _json(request, {"error": {"message": "this question was forgotten; ask it again"}}, 404)
        if request.method == "DELETE":
            worker.stop(found)
        else:
            await run_sync(found.ended.wait, WAIT)
        return _json(request, found.as_json())

    async def still(request: Request) -> Response:
        page = await run_sync(lambda: bundle.still_page(explored.title, bundle.with_recipes(explored, dict(asked))))
        name = {"content-disposition": 'attachment; filename="explored.html"'}
        return Response(page, 200, {**HEADERS, **name}, "text/html")

    async def file(request: Request) -> Response:
        found = bundle.FILES.get(request.path_params.get("name", "index.html"))
        if found is None:
            return Response("there is no such file\n", 404, HEADERS, "text/plain")
        if found.media == "text/html":
            opened()
        return Response(found.read(), 200, HEADERS, found.media)

    routes = [
        Route("/{token}/", file),
        Route("/{token}/ask", ask, methods=["POST"]),
        Route("/{token}/jobs/{number}", job, methods=["GET", "DELETE"]),
        Route("/{token}/still.html", still),
        Route("/{token}/{name}", file),
    ]
    return Guarded(Starlette(routes=routes), port, token), worker


def _remembers(
    asked: dict[str, Any],
    what: str,
    given: dict[str, Any],
    explored: Explored,
    question: PageQuestion,
    arguments: Any,
) -> Callable[[], Any]:
    """Answers a question and keeps the answer, for the still page."""

    def ask() -> Any:
        result = question.answer(explored, arguments)
        if what not in bundle.NOT_KEPT:
            asked[bundle.question_key(what, given)] = result
            while len(asked) > bundle.MOST_KEPT:
                asked.pop(next(iter(asked)))
        return result

    return ask


async def _body(request: Request) -> bytes | None:
    """The body of a request; None, without reading on, where it has more than ``LARGEST_BODY`` bytes."""
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or len(stated) > 12 or int(stated) > LARGEST_BODY:
        return None
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > LARGEST_BODY:
            return None
    return bytes(found)


async def _quick(request: Request, ask: Callable[[], Any]) -> Response:
    try:
        result = await run_sync(ask)
    except ScorefoldError as error:
        return _json(request, {"state": "failed", "error": error.as_json()})
    except Exception as error:  # as in a job: the answer to this question, and no end of the server
        return _json(request, {"state": "failed", "error": {"message": f"{type(error).__name__}: {error}"}})
    return _json(request, {"state": "done", "result": result})


def _json(request: Request, value: Any, status: int = 200, **more: str) -> Response:
    body = json_text(value).encode()
    headers = {**HEADERS, **more}
    if len(body) > 100_000 and "gzip" in request.headers.get("accept-encoding", ""):
        with suppress(OSError):
            body = gzip.compress(body, 1)
            headers["content-encoding"] = "gzip"
    return Response(body, status, headers, "application/json")


KEPT = 200
"""Jobs that are remembered."""


class StoppedError(Exception):
    """Raised inside a job that was stopped, at the next report of its progress."""


@dataclass
class Job:
    """A question on its way: ``state`` is waiting, running, done, failed or stopped."""

    number: int
    ask: Callable[[], Any]
    state: str = "waiting"
    done: int = 0
    total: int = 0
    text: str = ""
    result: Any = None
    error: dict[str, Any] | None = None
    seconds: float = 0.0
    apart: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    def as_json(self) -> dict[str, Any]:
        """The job as JSON for the page, with the result if there is one."""
        facts = {"job": self.number, "state": self.state, "done": self.done, "total": self.total, "text": self.text}
        if self.state == "done":
            facts |= {"result": self.result, "seconds": self.seconds}
        return facts | ({} if self.error is None else {"error": self.error})


class QuestionWorker:
    """One thread that answers one question after another, and one beside it for what takes minutes."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count(1)
        self._queues: dict[bool, queue.SimpleQueue[Job | None]] = {}
        for apart in (False, True):
            waiting = self._queues[apart] = queue.SimpleQueue()
            threading.Thread(target=_work, args=(waiting,), name="explore", daemon=True).start()

    def start(self, ask: Callable[[], Any], apart: bool = False) -> Job:
        """Puts a question behind those that wait. Of those ``apart`` one runs at a time: another gets its answer."""
        going = [one for one in self._jobs.values() if one.apart and not one.ended.is_set()]
        if apart and going:
            return going[0]
        job = Job(next(self._numbers), ask, apart=apart)
        self._jobs[job.number] = job
        for number in [n for n, one in self._jobs.items() if one.ended.is_set()][:-KEPT]:
            del self._jobs[number]
        self._queues[apart].put(job)
        return job

    def find(self, number: int) -> Job | None:
        """A job that is remembered."""
        return self._jobs.get(number)

    def stop(self, job: Job) -> None:
        """Stops a job: one that waits never begins, one that runs ends at its next report."""
        job.stop.set()
        if job.state == "waiting":
            job.state = "stopped"
            job.ended.set()

    def close(self) -> None:
        """Stops everything; the threads end after the step that runs."""
        for job in list(self._jobs.values()):
            job.stop.set()
        for waiting in self._queues.values():
            waiting.put(None)


def _work(waiting: queue.SimpleQueue[Job | None]) -> None:
    while (job := waiting.get()) is not None:
        if not job.stop.is_set():
            _run(job)


def _run(job: Job) -> None:
    def show(done: int, total: int, text: str) -> None:
        job.done, job.total, job.text = done, total, text
        if job.stop.is_set():
            raise StoppedError

    job.state, began = "running", time.perf_counter()
    try:
        with showing(show):
            result = job.ask()
        job.seconds = time.perf_counter() - began
        job.result, job.state = result, "done"
    except StoppedError:
        job.state = "stopped"
    except ScorefoldError as error:
        job.error, job.state = error.as_json(), "failed"
    except Exception as error:  # what a model raises is the answer to this question, and ends no server
        message = f"{type(error).__name__}: {error}"
        job.error, job.state = {"message": message, "hint": "the model of this run raised it"}, "failed"
    finally:
        job.ended.set()
