"""The server: who may ask, what it answers, long questions, and what may never end it."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import Request, url2pathname, urlopen

import pytest
import uvicorn
from served_pages import TOKEN, served

from scorefold.stage import report
from scorefold_explore import command
from scorefold_explore.bundle import BUILT
from scorefold_explore.explored import Explored
from scorefold_explore.server import QuestionWorker, request_refusal


@dataclass(frozen=True)
class Server:
    port: int

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def question(self, what: str, **asked: Any) -> Any:
        return json.loads(self.ask("POST", f"/{TOKEN}/ask", {"what": what, "asked": asked})[2])


@pytest.fixture(scope="module")
def server(learned: Explored) -> Iterator[Server]:
    with served(learned) as address:
        yield Server(int(address.split(":")[2].partition("/")[0]))


def test_a_page_is_sent_with_a_strict_policy(server: Server) -> None:
    status, headers, body = server.ask("GET", f"/{TOKEN}/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert b"<script src=" in body
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/wrong/", {}),
        ("//", {}),
        (f"/{TOKEN}x/", {}),
        (f"/x/{TOKEN}/", {}),
        (f"/{TOKEN}/", {"Host": "evil.example"}),
        (f"/{TOKEN}/", {"Host": "127.0.0.1.evil.example:80"}),
        (f"/{TOKEN}/", {"Host": "127.0.0.1"}),
        (f"/{TOKEN}/", {"Origin": "http://evil.example"}),
        (f"/{TOKEN}/", {"Origin": "null"}),
        (f"/{TOKEN}/", {"Sec-Fetch-Site": "cross-site"}),
        (f"/{TOKEN}/", {"Sec-Fetch-Site": "same-site"}),
        (f"/{TOKEN}/still.html", {"Origin": "https://127.0.0.1"}),
    ],
)
def test_strangers_are_refused(server: Server, path: str, headers: dict[str, str]) -> None:
    status, found, body = server.ask("GET", path, None, **headers)
    assert status == 403
    assert body.startswith(b"refused: ")
    assert TOKEN.encode() not in body
    assert found["content-security-policy"]


def test_a_question_from_another_origin_is_refused(server: Server) -> None:
    question = {"what": "overview", "asked": {}}
    assert server.ask("POST", f"/{TOKEN}/ask", question, Origin="http://localhost:1")[0] == 403
    own = f"http://127.0.0.1:{server.port}"
    assert server.ask("POST", f"/{TOKEN}/ask", question, Origin=own, Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize(
    "name", ["../plugin.py", "..%2fplugin.py", "%2e%2e/plugin.py", "main.js", "digest.txt", "/etc/passwd"]
)
def test_no_file_but_those_of_the_page_is_sent(server: Server, name: str) -> None:
    assert server.ask("GET", f"/{TOKEN}/{name}")[0] in (403, 404)


def test_two_hosts_or_origins_in_one_request_are_refused() -> None:
    assert request_refusal({"host": "127.0.0.1:80, evil"}, "GET", "/t/", 80, "t") is not None
    assert request_refusal({"host": "localhost:80"}, "GET", "/t/", 80, "t") is None


@pytest.mark.parametrize(
    ("path", "method", "mode", "dest", "right"),
    [
        ("/t/", "GET", "navigate", "document", True),
        ("/t/", "GET", "navigate", "iframe", False),
        ("/t/", "GET", "no-cors", "script", False),
        ("/t/", "POST", "navigate", "document", False),
        ("/t/still.html", "GET", "navigate", "document", False),
        ("/t/jobs/1", "GET", "navigate", "document", False),
        ("//t/", "GET", "navigate", "document", False),
        ("/x/", "GET", "navigate", "document", False),
    ],
)
def test_a_person_comes_from_elsewhere_to_the_page_alone(
    path: str, method: str, mode: str, dest: str, right: bool
) -> None:
    asked = {"host": "127.0.0.1:80", "sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    assert (request_refusal(asked, method, path, 80, "t") is None) is right


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"what": "map", "asked": []}', b"[" * 100_000, b" " * 4_000_000])
def test_a_body_that_is_no_question_is_refused(server: Server, body: bytes) -> None:
    status, _, answer = server.ask("POST", f"/{TOKEN}/ask", body)
    assert status == 400
    assert "error" in json.loads(answer)


def _raw(server: Server, head: str, *parts: bytes) -> bytes:
    """The answer to a raw request, read until the server hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        with suppress(ConnectionError):  # a server that refuses a body closes before it is all sent
            for part in parts:
                connection.sendall(part)
        found = b""
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                found += part
    return found


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: Server) -> None:
    import psutil

    head = f"POST /{TOKEN}/ask HTTP/1.1\nHost: 127.0.0.1:{server.port}\n"
    # Of the first nothing is sent but its head: the answer waits for no body.
    assert _raw(server, f"{head}Content-Length: 300000000\n\n").startswith(b"HTTP/1.1 413 ")
    assert _raw(server, f"{head}Content-Length: 9{'9' * 30}\n\n").startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
    before = psutil.Process().memory_info().rss
    piece = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    answer = _raw(server, f"{head}Transfer-Encoding: chunked\n\n", *[piece] * 100)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"a question has at most 4194304 bytes" in answer
    assert psutil.Process().memory_info().rss - before < 60 * 2**20
    assert server.question("overview")["state"] == "done"


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 16, "-1", "1.0", "\u0663", "0x1", "1e3"])
def test_a_job_that_can_not_be_is_not_found(server: Server, number: str) -> None:
    for method in ("GET", "DELETE"):
        assert server.ask(method, f"/{TOKEN}/jobs/{quote(number)}")[0] == 404


def test_clients_that_hang_up_print_nothing(server: Server, capfd: pytest.CaptureFixture[str], caplog: Any) -> None:
    head = f"POST /{TOKEN}/ask HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    question = b'{"what": "overview", "asked": {}}'
    for sent in (
        f"{head}Content-Length: 100\r\n\r\n{{".encode(),
        f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\n".encode(),
        f"{head}Content-Length: {len(question)}\r\n\r\n".encode() + question,
        head.encode(),
        b"",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0" * 100_000,
        head.replace("POST", "GET").encode() + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(sent)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert server.question("overview")["state"] == "done"
    assert server.question("point", point=3)["state"] == "done"
    assert capfd.readouterr() == ("", "")
    assert not [one for one in caplog.records if one.name.startswith("uvicorn")]


def test_the_browser_is_given_a_file_and_no_token(
    learned: Explored, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only this account reads the file. It leads to the page, and is removed when the page is loaded."""
    if not (BUILT / "explore.js").is_file():
        pytest.skip("the page is not built: it needs npm")
    seen: dict[str, Any] = {}
    done = threading.Event()

    def browse(address: str) -> None:
        file = Path(url2pathname(urlsplit(address).path))
        seen.update(address=address, file=file, mode=stat.S_IMODE(file.stat().st_mode))
        seen.update(folder=stat.S_IMODE(file.parent.stat().st_mode), text=file.read_text())
        target = re.findall(r'content="0; url=([^"]*)"', seen["text"])[0]
        asked = Request(target, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
        asked.add_header("Sec-Fetch-Dest", "document")
        with urlopen(asked) as answer:
            seen.update(page=answer.read(), token=target.split("/")[3], left=file.exists())
        done.set()

    class Served(uvicorn.Server):
        def run(self, sockets: Any = None) -> None:
            threading.Thread(target=lambda: (done.wait(20), setattr(self, "should_exit", True)), daemon=True).start()
            super().run(sockets)

    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.setattr("uvicorn.Server", Served)
    assert command._serve(learned, 0, True) == 0
    assert (seen["mode"], seen["folder"]) == (0o600, 0o700)
    assert seen["address"].startswith("file://")
    assert seen["token"] not in seen["address"]
    assert seen["token"] in capsys.readouterr().out
    assert b"Scorefold explore" in seen["page"]
    assert not seen["left"]
    assert not seen["file"].parent.exists()


def test_questions_are_answered_and_errors_are_for_people(server: Server) -> None:
    assert server.question("overview")["result"]["title"].startswith("learned/")
    assert server.question("map", name="pca")["state"] == "done"
    assert "there is no map" in server.question("map", name="x")["error"]["message"]
    assert server.question("map", name=3)["error"]["message"].startswith("map: name: Input should be a valid string")
    assert "expected 0 to" in server.question("point", point=10**9)["error"]["message"]


def test_large_answers_are_compressed(server: Server, learned: Explored, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    question = {"what": "pictures", "asked": {"points": [0] * 200}}
    monkeypatch.setattr("scorefold_explore.questions.shown", lambda explored, x: {"text": "a" * 200_000})
    _, headers, body = server.ask("POST", f"/{TOKEN}/ask", question, Accept_Encoding="gzip")
    assert headers["content-encoding"] == "gzip"
    assert len(body) < 10_000
    assert json.loads(gzip.decompress(body))["state"] == "done"


def test_a_long_question_shows_progress_and_can_be_stopped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(explored: Explored, name: str) -> dict[str, Any]:
        for step in range(10_000):
            report(step, 10_000, "steps")
            begun.set()
            go_on.wait(0.01)
        return {}

    monkeypatch.setattr("scorefold_explore.answers.colours.colour_answer", slow)
    facts = server.question("colour", name="label")
    assert facts["state"] in ("waiting", "running")
    assert begun.wait(5)
    # Another page asks meanwhile: quick questions are answered beside it, long ones wait.
    assert server.question("point", point=1)["state"] == "done"
    waiting = server.question("map", name="pca")
    assert waiting["state"] == "waiting"
    shown = json.loads(server.ask("GET", f"/{TOKEN}/jobs/{facts['job']}")[2])
    assert (shown["state"], shown["total"], shown["text"]) == ("running", 10_000, "steps")
    server.ask("DELETE", f"/{TOKEN}/jobs/{facts['job']}")
    ended = json.loads(server.ask("GET", f"/{TOKEN}/jobs/{facts['job']}")[2])
    assert ended["state"] == "stopped"
    assert json.loads(server.ask("GET", f"/{TOKEN}/jobs/{waiting['job']}")[2])["state"] == "done"
    assert server.ask("GET", f"/{TOKEN}/jobs/999999")[0] == 404


def test_a_model_that_raises_ends_no_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*asked: Any, **given: Any) -> None:
        raise RuntimeError("a model's own")

    monkeypatch.setattr("scorefold_explore.answers.points.point_answer", broken)
    monkeypatch.setattr("scorefold_explore.answers.maps.map_answer", broken)
    for what, asked in (("point", {"point": 1}), ("map", {"name": "pca"})):
        assert server.question(what, **asked)["error"]["message"] == "RuntimeError: a model's own"
    assert server.question("overview")["state"] == "done"


def test_a_job_that_waits_and_is_stopped_never_begins() -> None:
    worker, hold, ran = QuestionWorker(), threading.Event(), []
    first = worker.start(lambda: hold.wait(5))
    second = worker.start(lambda: ran.append(1))
    worker.stop(second)
    assert second.ended.is_set()
    hold.set()
    assert first.ended.wait(5)
    assert worker.start(lambda: 3).ended.wait(5)
    assert not ran
    worker.close()


def test_the_still_page_of_a_session_is_sent(server: Server) -> None:
    if not (BUILT / "explore.js").is_file():
        pytest.skip("the page is not built: it needs npm")
    server.question("point", point=2)
    status, headers, body = server.ask("GET", f"/{TOKEN}/still.html")
    assert status == 200
    assert "attachment" in headers["content-disposition"]
    assert b'point{\\"point\\":2}' in body


def test_the_help_of_the_command_ends_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):
        command._parser().parse_args(["--help"])
    lines = capsys.readouterr().out.partition("\nexamples:\n")[2].splitlines()
    assert len(lines) == 3
    assert all(line.startswith("  scorefold explore ") for line in lines)


def test_the_command_serves_from_the_moment_it_prints_the_address_until_ctrl_c(learned_folder: Path) -> None:
    if not (BUILT / "explore.js").is_file():
        pytest.skip("the page is not built: it needs npm")
    code = "import sys; from scorefold_explore.command import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(learned_folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with urlopen(address) as answer:
            assert b"Scorefold explore" in answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGINT)
    assert "Traceback" not in errors
