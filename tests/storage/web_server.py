"""A web server on loopback that has blocks under /ipfs/CID, and tells lies on request.

    with WebServer({cid: b"block"}) as server:
        server.lie = "drip"
        GatewayStore(server.gateway, DialRules(allow_private=True)).get_block(…)

`asked` lists the paths as they came, `most_at_once` how many requests were in progress together,
and `taken` how many bytes the kernel took of all answers.
"""

import gzip
import itertools
import ssl
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self

from protocol.whereabouts import Gateway
from storage.gateway import EMPTY_CID

Lie = Literal[
    "",
    "flip",
    "truncate",
    "endless",
    "gigabyte",
    "huge_chunk",
    "drip",
    "drip_headers",
    "stall",
    "redirect",
    "unpacked",
    "page",
    "refuse",
    "forbid",
]
DRIP_S = 0.05
_BOMB = gzip.compress(bytes(100_000_000), 1)


class WebServer:
    """Serves `blocks` by their CIDs, below `path`."""

    def __init__(
        self, blocks: dict[str, bytes], path: str = "", certificate: Path | None = None
    ) -> None:
        self.blocks = {EMPTY_CID: b"", **blocks}
        self.path = path
        self.lie: Lie = ""
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.taken = 0
        self.most_at_once = 0
        self.open = 0
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.hold: threading.Event | None = None
        self._server = _Server(self)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        port = self._server.server_address[1]
        scheme: Literal["https", "http"] = "https" if certificate is not None else "http"
        self.gateway = Gateway(scheme, "127.0.0.1", port, path)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def cids(self) -> list[str]:
        """The CIDs that were asked for, in order."""
        return [path.removeprefix(f"{self.path}/ipfs/").partition("?")[0] for path in self.asked]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, web: WebServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.web = web

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: that the other side hangs up, or refuses the certificate, is the point."""


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        web = self.server.web
        with web.lock:
            web.asked.append(self.path)
            web.headers.append(dict(self.headers))
            web.open += 1
            web.most_at_once = max(web.most_at_once, web.open)
        try:
            if web.hold is not None:
                web.hold.wait(20)
            self._answer(web)
        finally:
            with web.lock:
                web.open -= 1

    def _answer(self, web: WebServer) -> None:
        lie, data = web.lie, web.blocks.get(self._cid())
        if lie:
            self.close_connection = True
        fixed: dict[Lie, tuple[int, bytes, dict[str, str]]] = {
            "page": (200, b"<h1>It works!</h1>", {}),
            "refuse": (503, b"no\x1b[2J\n" * 10_000, {}),
            "forbid": (403, b"<Error>AccessDenied</Error>", {}),
            "redirect": (302, b"", {"Location": web.gateway.line + "/ipfs/elsewhere"}),
            "unpacked": (200, _BOMB, {"Content-Encoding": "gzip"}),
        }
        if lie in fixed:
            self._send(*fixed[lie])
        elif lie in ("stall", "drip_headers"):
            self._never_answer(lie)
        elif data is None:
            self._send(404, b"not here")
        elif lie == "gigabyte":
            self._head(200, {"Content-Length": str(1 << 30)})
            self._write(itertools.repeat(bytes(1 << 16), 1 << 14))
        elif lie in ("endless", "huge_chunk", "drip"):
            self._send_chunks(lie, data)
        else:
            self._send_bent(lie, data)

    def _send_bent(self, lie: str, data: bytes) -> None:
        if lie == "flip" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self._head(200, {"Content-Length": str(len(data))})
        self._write([data[: len(data) // 2] if lie == "truncate" else data])

    def _cid(self) -> str:
        return self.path.removeprefix(f"{self.server.web.path}/ipfs/").partition("?")[0]

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, {"Content-Length": str(len(data)), **(headers or {})})
        self._write([data])

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_chunks(self, lie: str, data: bytes) -> None:
        self._head(200, {"Transfer-Encoding": "chunked"})
        if lie == "huge_chunk":
            self._write(itertools.chain((b"10000000000\r\n",), itertools.repeat(bytes(65_536))))
        elif lie == "drip":
            self._write(_chunked(self._slowly(data)))
        else:
            self._write(_chunked(itertools.chain((data,), itertools.repeat(bytes(65_536)))))

    def _slowly(self, data: bytes) -> Iterator[bytes]:
        for position in range(len(data)):
            if self.server.web.stopped.wait(DRIP_S):
                return
            yield data[position : position + 1]

    def _never_answer(self, lie: str) -> None:
        self._write((b"HTTP/1.1 200 OK\r\nX-Slow: ",) if lie == "drip_headers" else ())
        while not self.server.web.stopped.wait(DRIP_S):
            if lie == "drip_headers" and not self._write((b"x",)):
                return

    def _write(self, pieces: Iterable[bytes]) -> bool:
        for piece in pieces:
            try:
                self.wfile.write(piece)
            except OSError:  # the other side has had enough
                return False
            with self.server.web.lock:
                self.server.web.taken += len(piece)
        return True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _chunked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in filter(None, pieces):  # an empty chunk is the last one
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
