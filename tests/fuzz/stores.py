"""Recorded answers of an IPFS daemon and of a gateway, mutated, before the clients of stores.

As in tests/fuzz/answers.py: each reading is first played on the real server, whose answers are
recorded, and then on a server that repeats them but for one. It changes JSON, bytes, headers and
the way in which the end of an answer is told, and hangs up after each.
"""

import json
import random
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import urlsplit

from chain.announcements import Announcement
from devnet.ipfs.uploads import open_body
from protocol.canonical import sha256 as digest_of
from protocol.cid import raw_cid
from protocol.types import Address
from protocol.whereabouts import Gateway
from storage.dial import DialRules
from storage.gateway import GatewayStore
from storage.ipfs import ContentStore
from storage.sources import Sources
from tests.fuzz.mutate import mutate_bytes, mutate_value, to_json
from tests.storage.web_server import WebServer
from tests.world import World

_BLOCKS: Final = (b"a block", bytes(3_000))
_SILENT_S: Final = 5.0
_DOWN: Final = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """One answer: the first line and the headers but for its length, and the body."""

    head: bytes
    body: bytes

    def as_sent(self, random: random.Random) -> bytes:
        """Return the bytes of the answer, its end told in one of the three ways of HTTP."""
        match random.randrange(3):
            case 0:
                return b"%sContent-Length: %d\r\n\r\n%s" % (self.head, len(self.body), self.body)
            case 1:
                chunk = b"%x\r\n%s\r\n" % (len(self.body), self.body) if self.body else b""
                return b"%sTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % (self.head, chunk)
            case _:
                return b"%s\r\n%s" % (self.head, self.body)

    def changed(self, random: random.Random) -> bytes:
        """Return the bytes of the answer with a change in its values, its body, or anywhere."""
        kind = random.randrange(3)
        if kind == 0 and self.body.startswith((b"{", b"[")):
            values = [json.loads(line) for line in self.body.splitlines()]
            changed = mutate_value(random, values)
            lines = changed if isinstance(changed, list) else [changed]
            body = b"".join(to_json(line) + b"\n" for line in lines)
            return Answer(self.head, body).as_sent(random)
        if kind == 1:
            return Answer(self.head, mutate_bytes(random, self.body)).as_sent(random)
        return mutate_bytes(random, self.as_sent(random))


Asked = list[tuple[str, Answer]]
"""Paths without their queries and what they were answered with, in order."""


class Repeater:
    """A server on loopback that records the answers of another, and later repeats them but one."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self._is_recording = False
        self._recorded: Asked = []
        self._random = random.Random(0)
        self._number = self._changed = -1

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yield the server's URL."""
        repeater = self

        class Handler(_Handler):
            answer = staticmethod(repeater.answer)

        with _Server(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()

    def record(self, read: Callable[[], object]) -> Asked:
        """Return the answers of a reading that went well."""
        self._is_recording, self._recorded = True, []
        read()
        self._is_recording = False
        return self._recorded

    def repeat(self, recorded: Asked, random: random.Random) -> None:
        """Repeat `recorded` from now on, with a change in one answer."""
        self._recorded, self._random = recorded, random
        self._number, self._changed = -1, random.randrange(len(recorded))

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        """Return the bytes that answer a request."""
        name = urlsplit(path).path
        if self._is_recording:
            self._recorded.append((name, self._ask(method, path, headers, body)))
            return self._recorded[-1][1].as_sent(self._random)
        self._number += 1
        found = self._find(name)
        if found is None:  # a changed answer may lead to other questions
            return _DOWN
        is_changed = self._number == self._changed
        return found.changed(self._random) if is_changed else found.as_sent(self._random)

    def _find(self, name: str) -> Answer | None:
        if self._number < len(self._recorded) and self._recorded[self._number][0] == name:
            return self._recorded[self._number][1]
        return next((answer for asked, answer in self._recorded if asked == name), None)

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        connection = HTTPConnection(self._upstream, timeout=20)
        try:
            sent = {k: v for k, v in headers.items() if k in ("Content-Type", "Accept")}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            told = [f"HTTP/1.1 {response.status} {response.reason}"]
            told += [
                f"{name}: {value}"
                for name, value in response.getheaders()
                if name not in ("Content-Length", "Transfer-Encoding", "Connection")
            ]
            return Answer("".join(line + "\r\n" for line in told).encode(), response.read())
        finally:
            connection.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up has seen enough."""


class _Handler(BaseHTTPRequestHandler):
    answer: Callable[[str, str, dict[str, str], bytes], bytes]

    def do_GET(self) -> None:
        self._send(b"")

    def do_POST(self) -> None:
        incoming = open_body(self.headers, self.rfile)
        self._send(b"".join(iter(lambda: incoming.read(1 << 20), b"")))

    def _send(self, body: bytes) -> None:
        self.wfile.write(self.answer(self.command, self.path, dict(self.headers), body))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass(frozen=True)
class Reading:
    """Something that reads a store, and what it is answered."""

    server: Repeater
    read: Callable[[], object]
    recorded: Asked

    def play(self, random: random.Random) -> None:
        """Read with one answer changed; raises what the reading raises."""
        self.server.repeat(self.recorded, random)
        began = time.monotonic()
        try:
            self.read()
        finally:
            # A server that hangs up is never waited for, on however busy a machine.
            took = time.monotonic() - began
            assert took < _SILENT_S, f"waited {took:.1f} s"


@contextmanager
def recorded_stores(world: World) -> Iterator[dict[str, Reading]]:
    """Yield what reads a store, by name; the servers that repeat the answers run meanwhile."""
    blocks = {raw_cid(digest_of(block)): block for block in _BLOCKS}
    with ExitStack() as stack:
        web = stack.enter_context(WebServer(blocks, path="/folder"))
        found = {}
        for upstream, readings in (
            (world.daemon.url, _of_a_daemon),
            (web.gateway.line, _of_a_gateway),
        ):
            server = Repeater(upstream)
            url = stack.enter_context(server.running())
            for name, read in readings(url).items():
                found[name] = Reading(server, read, server.record(read))
        yield found


def _of_a_daemon(url: str) -> dict[str, Callable[[], object]]:
    store = ContentStore(url, _SILENT_S)
    one, other = [digest_of(block) for block in _BLOCKS], digest_of(b"not there")
    return {
        "put": lambda: store.put_blocks(_BLOCKS),
        "get": lambda: store.get_block(one[0]),
        "get a size": lambda: store.get_block(one[1], len(_BLOCKS[1])),
        "has": lambda: (store.has(one[0]), store.has(other)),
        "remove": lambda: store.remove_blocks([*one, other]),
        "daemon": lambda: (store.id(), store.version()),
    }


def _of_a_gateway(url: str) -> dict[str, Callable[[], object]]:
    port = urlsplit(url).port
    assert port is not None
    gateway = Gateway("http", "127.0.0.1", port, "/folder")

    rules = DialRules(allow_private=True)
    store = GatewayStore(gateway, rules, _SILENT_S)

    def announced() -> bytes:
        sources = Sources(None, rules, timeout_s=_SILENT_S)
        sources.learn([Announcement(Address("0x" + "0" * 40), "sponsor", 1, (gateway,))], 1)
        return sources.get_block(digest_of(_BLOCKS[1]), len(_BLOCKS[1]))

    return {
        "gateway": lambda: store.get_block(digest_of(_BLOCKS[0])),
        "probe": store.probe,
        "announced gateway": announced,
    }
