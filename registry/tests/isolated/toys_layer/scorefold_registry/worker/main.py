"""A worker that misbehaves as a request says: it crashes, hangs, prints without end and breaks the protocol."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any


def main(facts: Mapping[str, Any]) -> None:
    requests, answers, leash = facts["descriptors"][:3]
    subprocess.Popen(["/bin/sh", "-c", "read line; kill -9 0"], stdin=leash)
    os.close(leash)

    def say(message: Any) -> None:
        os.write(answers, message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")

    say({"hello": 1})
    with open(requests, "rb") as lines:
        for line in lines:
            message = json.loads(line)
            if message["do"] == "bye":
                return
            if message["do"] == "cancel":
                continue
            if message["do"] in ("ask", "deaf"):
                say({"id": message["id"], "ask": "call"})
                time.sleep(600 if message["do"] == "deaf" else 0)
                next(lines)
            act(message["do"], message["id"], say, answers)
            cpu = {"cpu": 2.5, "backwards": -1.0}.get(message["do"])
            say({"id": message["id"], "done": None, "generators": [], "cpu": cpu})


def act(do: str, number: int, say: Any, answers: int) -> None:
    if do == "segfault":
        ctypes.string_at(0)
    elif do == "abort":
        os.abort()
    elif do == "exit":
        os._exit(3)
    elif do == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "hang":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(600)
    elif do == "print":
        sys.stdout.write("x" * 10_000_000)
        sys.stderr.write("y" * 10_000_000)
        sys.stdout.flush()
    elif do == "child":
        subprocess.Popen(["/bin/sleep", "600"])
    elif do == "words":
        print("the last words of a worker", flush=True)
        os._exit(7)
    elif do == "half":
        say(b'{"id": ')
        os._exit(0)
    elif do == "closes":
        os.close(answers)
        time.sleep(600)
    elif do == "long":
        say(b"[" + b"1," * 2**20)
    elif do == "twice":
        say(b'{"id": 1, "id": 2}\n')
    elif do == "nan":
        say(b'{"id": 1, "done": NaN}\n')
    elif do == "other":
        say({"id": number + 5, "done": None, "generators": []})
    elif do == "nonsense":
        say({"id": number, "unheard": 1})
    elif do == "progress":
        say({"id": number, "progress": [1, 2, "half\u001b[2J"]})
        say({"id": number, "warning": {"text": "mind this", "category": "RuntimeWarning", "file": "a.py", "line": 3}})
    elif do == "remarks":
        say(b'{"id": 1, "progress": [1e999, 2, ""]}\n')
    elif do == "metrics":
        say({"id": number, "metrics": [5, {"loss": 0.5, "validation": "nan"}]})
    elif do == "beyond":
        tensor = {"$": "tensor", "dtype": "float32", "shape": [2**20], "at": 0}
        say({"id": number, "done": tensor, "generators": []})
    elif do == "error":
        said = {"type": "DataError", "code": "data", "message": "too few points", "hint": "give more"}
        said |= {"frame": None, "memory": False, "cancelled": False, "traceback": "line 1"}
        say({"id": number, "error": said})
    elif do == "variables":
        names = sorted(os.environ)
        items = [name for name in names if name.startswith("SECRET")]
        say({"id": number, "done": items, "generators": []})
