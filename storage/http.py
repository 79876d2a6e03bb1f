"""HTTP/1.1 over kept connections, under limits that hold against any server.

The usual clients read an answer in pieces of whatever size the server chooses (a Content-Length of
50 GB, or one HTTP chunk as large, is in memory whole before a byte of it is counted), and bound
only the silence between two packets, so a dripping answer lasts forever. They also follow
redirects, unpack what is compressed, and take proxies and passwords from the environment. Here
every read returns at most 256 KiB and ends with the clock, in the headers as well as in the body,
and nothing is followed, unpacked or looked up.
"""

import http.client
import io
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

READ_BYTES: Final = 262_144
"""The largest piece of an answer."""

_MAX_ERROR_BYTES: Final = 4096  # a message of one line is wanted, not the server's log
_KEPT: Final = 8  # idle connections: as many updates are screened at once


@dataclass(frozen=True)
class TimeLimit:
    """The longest silence of an answer and its longest duration, in seconds."""

    silence_s: float
    total_s: float


class Clock:
    """The time left of one answer, from the moment that it is made."""

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

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
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

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        self._sock = sock
        self._clock = clock

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        with self._clock.timing(self._sock):
            self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the stream that http.client parses."""
        return io.BufferedReader(_TimedReader(self._sock, self._clock), READ_BYTES)

    def close(self) -> None:
        """Leave the socket open: http.client closes early, while the answer is still read."""


class Body(Protocol):
    """What a request sends; it can be sent again."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the body, a part at a time."""

    def headers(self) -> dict[str, str]:
        """Return the headers that describe the body."""


@dataclass(frozen=True)
class Request:
    """One request; the path has its query."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None


class BadStatus(Exception):
    """The server answered with a status other than 200; `text` is how its answer begins."""

    def __init__(self, status: int, text: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.text = status, text


class Server:
    """One server. Any number of threads may share it, each on a connection of its own.

    `authority` is what it is called in requests; `dial` returns a new connection to it. Every
    method raises what `dial` raises, OSError and HTTPException where a request fails, and
    BadStatus.
    """

    def __init__(self, authority: str, dial: Callable[[Clock], socket.socket]) -> None:
        self._authority, self._dial = authority, dial
        self._idle: deque[socket.socket] = deque(maxlen=_KEPT)

    def stream(
        self, request: Request, limit: TimeLimit, most: int | None = None
    ) -> Iterator[bytes]:
        """Yield the answer in pieces of at most 256 KiB, as they arrive.

        With `most`, an answer that says that it is longer is not read at all.
        """
        clock, sock = Clock(limit), None
        try:
            sock, response = self._open(request, clock)
            if response.status != 200:
                raise BadStatus(response.status, response.read(_MAX_ERROR_BYTES))
            if most is not None and (response.length or 0) > most:
                raise http.client.HTTPException(f"more than {most:,} bytes")
            while data := response.read1(READ_BYTES):
                yield data
            if response.length:  # read1 ends in silence where Content-Length promised more
                raise http.client.IncompleteRead(b"", response.length)
            if not response.will_close:
                self._idle.append(sock)
                sock = None
        finally:
            if sock is not None:  # the rest of an answer may still be in it
                sock.close()

    def _open(
        self, request: Request, clock: Clock
    ) -> tuple[socket.socket, http.client.HTTPResponse]:
        """Send a request; return its connection and the answer, its headers read."""
        # A server may close what it has kept idle, which shows only when it is used. Once more
        # then, on a new connection: every request made here may be carried out twice.
        try:
            kept = self._idle.pop()
        except IndexError:
            pass
        else:
            with suppress(ConnectionError, http.client.BadStatusLine):
                return kept, self._exchange(kept, request, clock)
        sock = self._dial(clock)
        return sock, self._exchange(sock, request, clock)

    def _exchange(
        self, sock: socket.socket, request: Request, clock: Clock
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("unused")  # it is connected already
        # Under http.client, so that the status line and the headers are on the clock as well.
        connection.sock = _TimedSocket(sock, clock)
        headers = {"Host": self._authority, **request.headers}
        try:
            # A server that refuses an upload answers and closes before it has read it: hear it out.
            with suppress(BrokenPipeError):
                if request.body is None:
                    connection.request(request.method, request.path, headers=headers)
                else:
                    headers |= request.body.headers()
                    connection.request(request.method, request.path, request.body.pieces(), headers)
            return connection.getresponse()
        except BaseException:
            sock.close()
            raise


def open_tunnel(sock: socket.socket, target: str, clock: Clock) -> None:
    """Let the proxy at the other end of `sock` connect on to `target`, HOST:PORT; else OSError."""
    timed = _TimedSocket(sock, clock)
    timed.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    # Unbuffered: what follows the headers is not the proxy's any more.
    answer = bytearray()
    reader = _TimedReader(sock, clock)
    while not answer.endswith(b"\r\n\r\n"):
        byte = reader.read(1)
        if not byte or len(answer) > _MAX_ERROR_BYTES:
            raise ConnectionError(f"the proxy does not answer to CONNECT {target}")
        answer += byte
    status = bytes(answer).split(b" ", 2)[1:2]
    if status != [b"200"]:
        first = one_line(answer.split(b"\r\n")[0].decode("utf-8", "replace"))
        raise ConnectionError(f"the proxy refuses CONNECT {target}: {shorten(first)}")


def one_line(error: object) -> str:
    """Return what an error or a stranger says, in one line of printable text."""
    text = str(error) if isinstance(error, str | Exception) else repr(error)
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(kept.split()) or ("" if isinstance(error, str) else type(error).__name__)


def shorten(text: str, most: int = 200) -> str:
    """Return `text` with what is too much left out in its middle: a cause stands at the end."""
    if len(text) <= most:
        return text
    kept = most // 4
    return f"{text[:kept]} … {text[kept + 3 - most :]}"
