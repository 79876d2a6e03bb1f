"""An IPFS daemon that lies: an HTTP proxy in front of an honest one.

    with LyingProxy(daemon.url) as proxy:
        proxy.flip(cid)                       # that content comes back with one bit changed
        ContentStore(proxy.url).get_block(…)  # raises WrongBytes

Whatever has not been bent passes through unchanged. `asked` lists the commands as they came, and
`sent` what was uploaded with them.
"""

import http.client
import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from devnet.ipfs.uploads import open_body

DRIP_S = 0.05


class LyingProxy:
    """Bends the answers to commands whose argument is a chosen CID, and the names of uploads."""

    def __init__(self, upstream_url: str, host: str = "127.0.0.1") -> None:
        self._upstream = urlsplit(upstream_url).netloc
        self._lies: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._stopped = threading.Event()
        self._server = _Server(self, host)
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self.asked: list[str] = []
        self.sent: list[bytes] = []

    def flip(self, cid: str) -> None:
        """Change one bit in the middle."""
        self._lies[cid] = "flip"

    def truncate(self, cid: str) -> None:
        """End properly, in the middle."""
        self._lies[cid] = "truncate"

    def break_off(self, cid: str) -> None:
        """Cut the connection in the middle."""
        self._lies[cid] = "break_off"

    def drip(self, cid: str) -> None:
        """Send a byte every 50 ms."""
        self._lies[cid] = "drip"

    def drip_headers(self, cid: str) -> None:
        """Never come to the end of the headers."""
        self._lies[cid] = "drip_headers"

    def endless(self, cid: str) -> None:
        """Go on and on after the true content."""
        self._lies[cid] = "endless"

    def huge_chunk(self, cid: str) -> None:
        """Announce one HTTP chunk of a terabyte and keep sending it."""
        self._lies[cid] = "huge_chunk"

    def stall(self, cid: str) -> None:
        """Accept the request and say nothing."""
        self._lies[cid] = "stall"

    def lose(self, cid: str) -> None:
        """Say that the block cannot be found."""
        self._lies[cid] = "lose"

    def rename(self, cid: str, other: str) -> None:
        """Call content `other` when it is uploaded."""
        self._names[cid] = other

    def be_honest(self) -> None:
        """Forget all lies."""
        self._lies.clear()
        self._names.clear()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def lie_about(self, path: str) -> str:
        query = parse_qs(urlsplit(path).query)
        return next((self._lies[arg] for arg in query.get("arg", []) if arg in self._lies), "")

    def forward(
        self, path: str, body: bytes, content_type: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, content type and body of the honest daemon's answer."""
        self.asked.append(urlsplit(path).path.removeprefix("/api/v0/"))
        self.sent.append(body)
        connection = http.client.HTTPConnection(self._upstream, timeout=20)
        try:
            connection.request("POST", path, body, {"Content-Type": content_type})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        for cid, other in self._names.items():
            answer = answer.replace(cid.encode(), other.encode())
        kind = response.headers.get("Content-Type", "text/plain")
        return response.status, {"Content-Type": kind}, answer

    def pause(self) -> bool:
        """Wait a moment; tell whether to go on."""
        return not self._stopped.wait(DRIP_S)


def _bend(lie: str, data: bytes) -> bytes:
    half = len(data) // 2
    if lie == "flip":
        return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
    return data[:half] if lie in ("truncate", "break_off") else data


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: LyingProxy, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.proxy = proxy


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        incoming = open_body(self.headers, self.rfile)
        body = b"".join(iter(lambda: incoming.read(1 << 20), b""))
        kind = self.headers.get("Content-Type", "")
        status, headers, answer = self.server.proxy.forward(self.path, body, kind)
        lie = self.server.proxy.lie_about(self.path)
        if lie:
            self.close_connection = True
        if lie == "lose":
            status, answer = 500, b'{"Message":"ipld: could not find it","Code":0}'
        if lie in ("stall", "drip_headers"):
            self._never_answer(lie)
        elif lie == "huge_chunk":
            self._head(status, headers)
            self._write(itertools.chain((b"10000000000\r\n",), itertools.repeat(bytes(65_536))))
        else:
            self._head(status, headers)
            self._write(_chunked(self._pieces(lie, _bend(lie, answer))))
            self._write((b"",) if lie == "break_off" else (b"0\r\n\r\n",))

    def _pieces(self, lie: str, data: bytes) -> Iterator[bytes]:
        if lie == "drip":
            for position in range(len(data)):
                if not self.server.proxy.pause():
                    return
                yield data[position : position + 1]
            return
        if data:
            yield data
        if lie == "endless":
            yield from itertools.repeat(bytes(65_536))

    def _never_answer(self, lie: str) -> None:
        self._write((b"HTTP/1.1 200 OK\r\nX-Slow: ",) if lie == "drip_headers" else ())
        while self.server.proxy.pause():
            if lie == "drip_headers":
                self._write((b"x",))

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Transfer-Encoding": "chunked"}).items():
            self.send_header(name, value)
        self.end_headers()

    def _write(self, pieces: Any) -> None:
        for piece in pieces:
            try:
                self.wfile.write(piece)
            except OSError:  # the other side has had enough
                return

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _chunked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
