"""A JSON-RPC server over HTTP that says what a test wants, for what no real node does when asked.

def answer(request: Request) -> Reply: ...

with scripted_node(answer) as node:
    connect(node.url)
"""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Request = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer. What `drips`, all or the body, comes one byte in a tenth of a second."""

    body: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    drips: Literal["", "all", "body"] = ""

    def to_bytes(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"Content-Length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Said", *(f"{n}: {v}" for n, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


def result(value: object) -> Reply:
    return Reply({"jsonrpc": "2.0", "id": 1, "result": value})


def refusal(code: int, message: str, **more: object) -> Reply:
    error = {"code": code, "message": message, **more}
    return Reply({"jsonrpc": "2.0", "id": 1, "error": error})


def forward(url: str, request: Request) -> Reply:
    """Return what another node answers."""
    asked = urllib.request.Request(
        url, json.dumps(request).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=60) as response:
        return Reply(json.loads(response.read()))


@dataclass
class ScriptedNode:
    """Where it is, what it was asked, and with which headers."""

    url: str
    asked: list[Request]
    headers: list[dict[str, str]]

    def methods(self) -> list[str]:
        return [request["method"] for request in self.asked]


@contextmanager
def scripted_node(answer: Callable[[Request], Reply]) -> Iterator[ScriptedNode]:
    """Yield a node that gives `answer` of each request."""
    asked: list[Request] = []
    headers: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(request)
            headers.append(dict(self.headers.items()))
            reply = answer(request)
            with suppress(OSError):  # the client may have given up
                head, end, body = reply.to_bytes().partition(b"\r\n\r\n")
                quick = b"" if reply.drips == "all" else head + end
                slow = b"" if not reply.drips else body if quick else head + end + body
                self.wfile.write(quick if slow else head + end + body)
                for byte in slow:
                    time.sleep(0.1)
                    self.wfile.write(bytes([byte]))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield ScriptedNode(f"http://127.0.0.1:{server.server_address[1]}", asked, headers)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
