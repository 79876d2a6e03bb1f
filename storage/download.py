"""One streamed answer of the Kubo RPC, under limits that hold against any daemon.

ipfshttpclient streams as well (`cat(cid, stream=True)`), but in pieces of whatever size the daemon
chooses: a Content-Length of 50 GB, or one HTTP chunk as large, is read into memory whole before a
byte of it is counted. Its timeout bounds the silence between two packets, so a dripping answer
lasts forever. Its public interface can change neither. Here every read returns at most 256 KiB
and ends with the clock, in the headers as well as in the body.
"""

import http.client
import io
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from protocol.errors import Misconfigured, Unavailable

_READ_BYTES: Final = 262_144
_MAX_ERROR_BYTES: Final = 4096  # a message of one line is wanted, not the daemon's log
_CONNECT_S: Final = 10.0
_MULTIADDR: Final = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/(\d{1,5})(?:/(https?))?/?")


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


def post_stream(
    api: ApiAddress, command: str, query: dict[str, str], limit: TimeLimit
) -> Iterator[bytes]:
    """Yield the answer to one RPC command in pieces of at most 256 KiB, as they arrive.

    Raises Unavailable when the daemon cannot be reached, refuses, breaks off or exceeds `limit`.
    """
    what = f"{command} {query.get('arg', '')}".strip()
    clock = _Clock(limit)
    with closing(_connect(api, clock)) as connection, closing(connection.sock) as sock:
        # Under http.client, so that the status line and the headers are on the clock as well.
        connection.sock = _TimedSocket(sock, clock)
        try:
            connection.request("POST", f"/api/v0/{command}?{urlencode(query)}")
            response = connection.getresponse()
            if response.status != 200:
                answer = response.read(_MAX_ERROR_BYTES)
                raise http.client.HTTPException(f"HTTP {response.status}: {_message(answer)}")
            while data := response.read1(_READ_BYTES):
                yield data
            if response.length:  # read1 ends in silence where Content-Length promised more
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException) as error:
            found = " ".join(str(error).split())[:200] or type(error).__name__
            raise Unavailable(
                f"IPFS daemon at {api.url}: {what}: {found}", service="storage"
            ) from None


def _connect(api: ApiAddress, clock: _Clock) -> http.client.HTTPConnection:
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
    return connection


def _message(answer: bytes) -> str:
    try:
        text = json.loads(answer)["Message"]
    except (ValueError, KeyError, TypeError):
        text = answer.decode("utf-8", "replace")
    return " ".join(str(text).split())[:200]
