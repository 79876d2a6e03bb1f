"""Commands of the Kubo RPC over kept connections, under limits that hold against any daemon.

ipfshttpclient sends one block a request, reads an answer in pieces of whatever size the daemon
chooses (a Content-Length of 50 GB, or one HTTP chunk as large, is in memory whole before a byte of
it is counted), and bounds only the silence between two packets, so a dripping answer lasts forever.
Its public interface can change none of it. Here every read returns at most 256 KiB and ends with
the clock, in the headers as well as in the body.
"""

import http.client
import io
import json
import re
import secrets
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from protocol.errors import Misconfigured, Unavailable

_READ_BYTES: Final = 262_144
_MAX_ERROR_BYTES: Final = 4096  # a message of one line is wanted, not the daemon's log
_MAX_ANSWER_BYTES: Final = 1024  # of one JSON object: a CID, a size, an error
_CONNECT_S: Final = 10.0
_KEPT: Final = 8  # idle connections: as many updates are screened at once
_MULTIADDR: Final = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/(\d{1,5})(?:/(https?))?/?")

Query = Sequence[tuple[str, str]]
"""The options of a command and its arguments, which are all called `arg`."""


class ApiAddress(NamedTuple):
    """The address of a daemon's RPC, which `url` and `multiaddr` spell."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address in the form http://127.0.0.1:5001."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def multiaddr(self) -> str:
        """The address in the form /ip4/127.0.0.1/tcp/5001/http."""
        kind = "ip6" if ":" in self.host else "dns"
        if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", self.host):
            kind = "ip4"
        return f"/{kind}/{self.host}/tcp/{self.port}/{self.scheme}"

    @classmethod
    def parse(cls, text: str) -> "ApiAddress":
        """Return the address in a URL or a multiaddr; Misconfigured for anything else."""
        scheme, host, port, rest = "", "", 0, ""
        if match := _MULTIADDR.fullmatch(text):
            scheme, host, port = match[4] or "http", match[2], int(match[3])
        else:
            with suppress(ValueError):  # brackets or a port that are none
                url = urlsplit(text)
                default = 443 if url.scheme == "https" else 80
                # A path or user is refused instead of ignored: the daemon behind it is another.
                rest = url.path.rstrip("/") + url.query + url.fragment + (url.username or "")
                scheme, host, port = url.scheme, url.hostname or "", url.port or default
        if scheme not in ("http", "https") or not host or not 0 < port < 65_536 or rest:
            raise Misconfigured(
                f"{text!r} is not the address of an IPFS API: "
                "http://127.0.0.1:5001 or /ip4/127.0.0.1/tcp/5001 was expected"
            )
        return cls(scheme, host, port)


@dataclass(frozen=True)
class TimeLimit:
    """The longest silence of an answer and its longest duration, in seconds."""

    silence_s: float
    total_s: float


class _Clock:
    """The time left of one answer."""

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self._deadline = time.monotonic() + limit.total_s

    def left(self) -> float:
        """Return the seconds that the next wait may take; TimeoutError when time is up."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"took longer than {self._limit.total_s:.3g} s")
        return min(left, self._limit.silence_s)

    @contextmanager
    def timing(self, sock: socket.socket) -> Iterator[None]:
        """Bound one operation of the socket; TimeoutError says which limit was hit."""
        sock.settimeout(self.left())
        try:
            yield
        except TimeoutError:
            self.left()  # raises if it was the total that ran out
            raise TimeoutError(f"silent for {self._limit.silence_s:.3g} s") from None


class _TimedReader(io.RawIOBase):
    """Reads a socket; each wait is as long as the clock allows at most."""

    def __init__(self, sock: socket.socket, clock: _Clock) -> None:
        self._sock = sock
        self._clock = clock

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what arrives next."""
        with self._clock.timing(self._sock):
            return self._sock.recv_into(buffer)


class _TimedSocket:
    """The few methods of a socket that http.client uses, under the clock."""

    def __init__(self, sock: socket.socket, clock: _Clock) -> None:
        self._sock = sock
        self._clock = clock

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        with self._clock.timing(self._sock):
            self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the stream that http.client parses."""
        return io.BufferedReader(_TimedReader(self._sock, self._clock), _READ_BYTES)

    def close(self) -> None:
        """Leave the socket open: http.client closes early, while the answer is still read."""


@dataclass(frozen=True)
class Upload:
    """Blocks as the parts of one multipart body, which can be sent again."""

    blocks: Sequence[bytes]
    # Drawn anew each time: whoever knew it could hide the end of a part in a block.
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    def pieces(self) -> Iterator[bytes]:
        """Yield the body, a part at a time."""
        for number, block in enumerate(self.blocks):
            yield b"".join((self._opening(number), block, b"\r\n"))
        yield f"--{self.boundary}--\r\n".encode()

    def headers(self) -> dict[str, str]:
        """Return the headers that describe the body."""
        size = sum(len(self._opening(i)) + len(block) + 2 for i, block in enumerate(self.blocks))
        return {
            "Content-Type": f"multipart/form-data; boundary={self.boundary}",
            "Content-Length": str(size + len(self.boundary) + 6),
        }

    def _opening(self, number: int) -> bytes:
        disposition = f'form-data; name="file"; filename="{number}"'
        return (
            f"--{self.boundary}\r\nContent-Disposition: {disposition}\r\n"
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()


class Refused(Unavailable):
    """The daemon answered with an error."""


class Rpc:
    """The RPC of one daemon. Any number of threads may share it, each on a connection of its own.

    Every method raises Unavailable when the daemon cannot be reached, breaks off or exceeds a
    limit, and Refused when it answers with an error.
    """

    def __init__(self, api: ApiAddress) -> None:
        self._api = api
        self._idle: deque[socket.socket] = deque(maxlen=_KEPT)

    def ask(
        self, command: str, query: Query, limit: TimeLimit, upload: Upload | None = None
    ) -> list[dict[str, Any]]:
        """Return the JSON objects of an answer, one per line and at most 1 KiB each."""
        most = _MAX_ANSWER_BYTES * (1 + len(query) + len(upload.blocks if upload else ()))
        answer = bytearray()
        for piece in self.stream(command, query, limit, upload):
            answer += piece
            if len(answer) > most:
                raise Unavailable(
                    f"IPFS daemon at {self._api.url}: {command}: more than {most} bytes",
                    service="storage",
                )
        try:
            objects = [json.loads(line) for line in answer.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            objects = [None]
        if not all(isinstance(each, dict) for each in objects):
            raise Unavailable(
                f"IPFS daemon at {self._api.url}: {command}: the answer is not JSON",
                service="storage",
            )
        return objects

    def stream(
        self, command: str, query: Query, limit: TimeLimit, upload: Upload | None = None
    ) -> Iterator[bytes]:
        """Yield the answer to one command in pieces of at most 256 KiB, as they arrive."""
        what = f"{command} {dict(query).get('arg', '')}".strip()
        path, clock, sock = f"/api/v0/{command}?{urlencode(query)}", _Clock(limit), None
        try:
            sock, response = self._open(path, upload, clock)
            if response.status != 200:
                text = _message(response.read(_MAX_ERROR_BYTES))
                raise Refused(
                    f"IPFS daemon at {self._api.url}: {what}: HTTP {response.status}: {text}",
                    service="storage",
                )
            while data := response.read1(_READ_BYTES):
                yield data
            if response.length:  # read1 ends in silence where Content-Length promised more
                raise http.client.IncompleteRead(b"", response.length)
            if not response.will_close:
                self._idle.append(sock)
                sock = None
        except (OSError, http.client.HTTPException) as error:
            found = " ".join(str(error).split())[:200] or type(error).__name__
            raise Unavailable(
                f"IPFS daemon at {self._api.url}: {what}: {found}", service="storage"
            ) from None
        finally:
            if sock is not None:  # the rest of an answer may still be in it
                sock.close()

    def _open(
        self, path: str, upload: Upload | None, clock: _Clock
    ) -> tuple[socket.socket, http.client.HTTPResponse]:
        """Send a request; return its connection and the answer, its headers read."""
        # A daemon may close what it has kept idle, which shows only when it is used. Once more
        # then, on a new connection: every command used here may be carried out twice.
        try:
            kept = self._idle.pop()
        except IndexError:
            pass
        else:
            with suppress(ConnectionError, http.client.BadStatusLine):
                return kept, _exchange(self._api, kept, path, upload, clock)
        sock = _connect(self._api, clock)
        return sock, _exchange(self._api, sock, path, upload, clock)


def _exchange(
    api: ApiAddress, sock: socket.socket, path: str, upload: Upload | None, clock: _Clock
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(api.host, api.port)
    # Under http.client, so that the status line and the headers are on the clock as well.
    connection.sock = _TimedSocket(sock, clock)
    try:
        # A daemon that refuses an upload answers and closes before it has read it: hear it out.
        with suppress(BrokenPipeError):
            if upload is None:
                connection.request("POST", path)
            else:
                connection.request("POST", path, upload.pieces(), upload.headers())
        return connection.getresponse()
    except BaseException:
        sock.close()
        raise


def _connect(api: ApiAddress, clock: _Clock) -> socket.socket:
    kind = http.client.HTTPSConnection if api.scheme == "https" else http.client.HTTPConnection
    connection = kind(api.host, api.port, timeout=min(clock.left(), _CONNECT_S))
    try:
        connection.connect()
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError)
        why = "is it running?" if refused else error.strerror or str(error)
        raise Unavailable(
            f"no IPFS daemon answers at {api.url}: {why}", service="storage"
        ) from None
    return connection.sock


def _message(answer: bytes) -> str:
    try:
        text = json.loads(answer)["Message"]
    except (ValueError, KeyError, TypeError):
        text = answer.decode("utf-8", "replace")
    return " ".join(str(text).split())[:200]
