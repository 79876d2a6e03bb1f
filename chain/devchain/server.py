"""The HTTP endpoint of a dev chain: JSON-RPC by POST, on loopback unless told otherwise.

A web page that a developer happens to visit must not reach the chain: a request with an Origin
that is neither on this machine nor a browser extension (a wallet) is refused.
"""

import re
import socket
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any

from chain.devchain.node import DEFAULT_CHAIN_ID, Node
from chain.devchain.rpc import answer
from protocol.errors import Misconfigured

MAX_BODY_BYTES = 5_000_000
IDLE_SECONDS = 60.0  # a kept-alive connection that says nothing is closed after this long
# py-evm raises Python's recursion limit to 100,000, so that deeply nested JSON or contract calls
# would run over an ordinary thread's stack, and take the process with it, before they are stopped.
STACK_BYTES = 256 * 2**20  # reserved, not used, memory
_LOCAL_ORIGIN = re.compile(
    r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?|(chrome|moz|safari-web)-extension://[\w-]+"
)


class DevChain:
    """A dev chain and its endpoint; use it as a context manager, or start and stop it.

    With a journal the chain of that file goes on; without one it is new and forgotten at the end.
    """

    def __init__(
        self,
        journal: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        chain_id: int = DEFAULT_CHAIN_ID,
    ) -> None:
        """Name the journal and the address; port 0 takes a free one."""
        self._journal = journal
        self._host = host
        self._port = port
        self._chain_id = chain_id
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL of the endpoint. Raises Misconfigured while the chain is not started."""
        if self._server is None:
            raise Misconfigured("the dev chain is not started: call start() first")
        return f"http://{self._host}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Replay the journal and begin to serve; returns once requests are answered.

        Raises Misconfigured when the journal or the port cannot be used.
        """
        if self._server is not None:
            return
        node = Node(self._journal, self._chain_id)
        try:
            self._server = _Server((self._host, self._port), node)
        except OSError as error:
            node.close()
            reason = error.strerror or str(error)
            raise Misconfigured(
                f"the dev chain cannot listen on {self._host}:{self._port}: {reason}"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.daemon = True
        self._thread.start()

    def stop(self) -> None:
        """Stop serving. A transaction being mined is kept, though its sender may not be told."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        with self._server.node.lock:
            self._server.node.close()
        self._server = self._thread = None

    def __enter__(self) -> "DevChain":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False  # kept-alive connections would hold it up; the lock guards the journal
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], node: Node) -> None:
        self.node = node
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        usual = threading.stack_size(STACK_BYTES)
        super().process_request(request, client_address)
        threading.stack_size(usual)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._connections):
            self.shutdown_request(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "devchain"
    sys_version = ""
    timeout = IDLE_SECONDS
    wbufsize = -1  # head and body leave in one packet; apart, the second would wait for an ACK
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        length = self.headers["Content-Length"] or ""
        if not length.isdecimal():
            self._refuse(411, "Content-Length is needed")
            return
        if int(length) > MAX_BODY_BYTES:
            self._discard(int(length))
            self._refuse(413, f"a request holds at most {MAX_BODY_BYTES} bytes")
            return
        body = self.rfile.read(int(length))
        if not self._is_origin_allowed():
            self._refuse(403, "requests from other origins are refused")
        elif len(body) == int(length):
            self._send(200, answer(self.server.node, body), "application/json")
        else:
            self.close_connection = True  # the client went away in the middle

    def do_OPTIONS(self) -> None:
        """Answer the question a browser asks before it posts JSON."""
        if self._is_origin_allowed():
            self._send(204, b"", None)
        else:
            self._refuse(403, "requests from other origins are refused")

    def handle_expect_100(self) -> bool:
        """Tell a client that waits for leave to send its body to go on."""
        is_ready = super().handle_expect_100()
        self.wfile.flush()
        return is_ready

    def do_GET(self) -> None:
        self._refuse(405, "this is an Ethereum JSON-RPC endpoint: use POST")

    def _is_origin_allowed(self) -> bool:
        origin = self.headers["Origin"]
        return origin is None or _LOCAL_ORIGIN.fullmatch(origin) is not None

    def _discard(self, size: int) -> None:
        """Read on for a while: a client that is still sending would not see our answer."""
        left = min(size, 10 * MAX_BODY_BYTES)
        while left > 0 and (chunk := self.rfile.read(min(left, 65_536))):
            left -= len(chunk)

    def _refuse(self, status: int, reason: str) -> None:
        self.close_connection = True
        self._send(status, reason.encode() + b"\n", "text/plain")

    def _send(self, status: int, body: bytes, content_type: str | None) -> None:
        self.send_response(status)
        if content_type is not None:
            self.send_header("Content-Type", content_type)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if self.headers["Origin"] is not None and status < 300:
            self.send_header("Access-Control-Allow-Origin", self.headers["Origin"])
            self.send_header("Access-Control-Allow-Headers", "content-type")
            self.send_header("Access-Control-Allow-Methods", "POST")
            self.send_header("Vary", "Origin")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: a line a request would bury what matters."""
