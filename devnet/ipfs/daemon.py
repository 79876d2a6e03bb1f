"""A dev IPFS daemon: the part of the Kubo RPC that Commonweight needs, on one machine, no peers.

    python -m devnet.ipfs.daemon --repo DIR --port 5001

For tests, demos and development where Kubo is not installed. It answers POST under /api/v0 like
Kubo (`devnet.ipfs.commands`). Since there is no password, it refuses requests that a web page of
another site could have sent, as Kubo does.
"""

import argparse
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from devnet.ipfs.blocks import BlockRepo
from devnet.ipfs.commands import COMMANDS, CommandError, Request
from devnet.ipfs.uploads import BadUpload, Readable, open_body, read_parts
from protocol.errors import CommonweightError, Misconfigured

_API: Final = "/api/v0/"
_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_IDLE_S: Final = 120.0
_STOP_S: Final = 5.0
_MAX_UNREAD: Final = 64 * 1024 * 1024  # read and dropped so that a refusal reaches its sender

_log = logging.getLogger(__name__)


class _Server(ThreadingHTTPServer):
    """Serves each connection in a thread; `end_connections` ends them all."""

    daemon_threads = True  # a connection that idles must not keep the process alive
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], repo: BlockRepo) -> None:
        if ":" in address[0]:  # the family is read when the socket is made, in the line after
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)
        self.repo = repo
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note the connection, and serve it in a thread of its own."""
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close the connection, and wake `end_connections`."""
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error of a connection."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):  # the other side hung up or fell silent
            _log.debug("connection from %s: %s", client_address, error)
        else:
            _log.exception("connection from %s", client_address)

    def end_connections(self) -> None:
        """Cut every open connection and wait for its thread, at most _STOP_S seconds."""
        # server_close does not wait for daemon threads; one that still writes a block would do so
        # in a folder that another daemon may have locked by then.
        with self._changed:
            for connection in self._open:
                with suppress(OSError):  # already gone
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, timeout=_STOP_S)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    wbufsize = 65_536  # headers and a short body leave in one packet
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Run a command of the RPC."""
        url = urlsplit(self.path)
        command = url.path.removeprefix(_API)
        if not _is_origin_allowed(self.headers):
            self._refuse(403, "403 - Forbidden")
        elif not url.path.startswith(_API) or command not in COMMANDS:
            self._refuse(404, "404 page not found")
        else:
            self._run(command, parse_qs(url.query, keep_blank_values=True))

    def do_GET(self) -> None:
        """Refuse: Kubo's RPC takes POST alone."""
        if urlsplit(self.path).path.startswith(_API):
            self._refuse(405, "405 - Method Not Allowed", {"Allow": "POST"})
        else:
            self._refuse(404, "404 page not found")

    do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_GET  # noqa: N815

    def _run(self, command: str, query: dict[str, list[str]]) -> None:
        try:
            body = open_body(self.headers, self.rfile)
        except BadUpload as error:
            self._error(error, 400)
            return
        try:
            reply = COMMANDS[command](
                self.server.repo, Request(query, read_parts(self.headers, body))
            )
        except (CommonweightError, CommandError, BadUpload) as error:
            # The sender reads no reply before it has sent its body.
            status = 400 if isinstance(error, BadUpload) else getattr(error, "status", 500)
            self._drop(body)
            self._error(error, status)
            return
        self._drop(body)
        if reply.content is None:
            self._send(200, reply.body(), {"Content-Type": "application/json"})
        else:
            self._send(200, reply.content, {"Content-Type": "text/plain"})

    def _drop(self, body: Readable) -> None:
        """Read the rest of the request, so that the next one on this connection starts after it."""
        unread = 0
        try:
            while unread < _MAX_UNREAD and (data := body.read(65_536)):
                unread += len(data)
        except BadUpload:
            unread = _MAX_UNREAD
        if unread >= _MAX_UNREAD:
            self.close_connection = True

    def _error(self, error: Exception, status: int) -> None:
        answer = {"Message": str(error), "Code": 1 if status == 400 else 0, "Type": "error"}
        self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        # The body was not read: the connection cannot serve another request.
        self.close_connection = True
        self._send(status, f"{text}\n".encode(), {"Content-Type": "text/plain"} | (headers or {}))

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, headers | {"Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def version_string(self) -> str:
        """Return the Server header, which would else name Python's version."""
        return "commonweight-dev-ipfs"

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request at level DEBUG, instead of on stderr."""
        _log.debug(format, *args)


def _is_origin_allowed(headers: Message) -> bool:
    """Return whether no foreign web page can have sent this request, by Kubo's own rules."""
    source = headers.get("Origin") or headers.get("Referer")
    if source is None:
        # A browser names its origin on every POST: without one the request is suspicious.
        return not headers.get("User-Agent", "").startswith("Mozilla")
    try:
        return urlsplit(source).hostname in _LOCAL_HOSTS
    except ValueError:  # not a URL
        return False


class DevIpfsDaemon:
    """A dev IPFS daemon in this process, with a folder of its own.

        with DevIpfsDaemon(folder) as daemon:
            store = ContentStore(daemon.url)

    Port 0 means a free one. Raises Misconfigured when the folder or the port cannot be used.
    """

    def __init__(self, repo: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self._folder = repo
        self._address = (host, port)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start serving; the daemon answers as soon as this returns."""
        repo = BlockRepo(self._folder)
        host, port = self._address
        try:
            self._server = _Server(self._address, repo)
        except OSError as error:
            repo.close()
            reason = error.strerror or str(error)
            raise Misconfigured(f"cannot listen on {host} port {port}: {reason}") from None
        # A restart keeps the port, so that the URL stays valid.
        self._address = (host, self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, cut open connections, and release folder and port; may be called twice."""
        if self._server is None or self._thread is None:
            return
        # First nobody new, then those who are connected, then the socket, and the lock last: the
        # folder is free once nothing can write to it any more.
        self._server.shutdown()
        self._thread.join()
        self._server.end_connections()
        self._server.server_close()
        self._server.repo.close()
        self._server = self._thread = None

    @property
    def url(self) -> str:
        """The daemon's URL, such as http://127.0.0.1:5001."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def repo(self) -> BlockRepo:
        """The blocks and pins; tests damage a block by writing to `repo.block_path(digest)`."""
        if self._server is None:
            raise Misconfigured("the dev IPFS daemon is not running")
        return self._server.repo

    def __enter__(self) -> "DevIpfsDaemon":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code; print the URL once ready."""
    parser = argparse.ArgumentParser(
        prog="python -m devnet.ipfs.daemon", description="Serve the Kubo RPC from a local folder."
    )
    parser.add_argument("--repo", type=Path, required=True, help="folder of blocks and pins")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port", type=int, default=5001, help="port to listen on; 0 for a free one"
    )
    args = parser.parse_args(argv)
    stopped = threading.Event()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopped.set())
    try:
        with DevIpfsDaemon(args.repo, args.host, args.port) as daemon:
            print(daemon.url, flush=True)
            stopped.wait()
    except CommonweightError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
