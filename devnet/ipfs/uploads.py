"""Request bodies read as they arrive: HTTP chunks and multipart parts, in bounded memory.

`open_body` decodes the transfer coding (RFC 9112 §6, §7.1), `read_parts` the multipart/form-data
(RFC 2046 §5.1) in which the Kubo RPC takes files. Memory stays within a few hundred KiB, however
large the upload is.
"""

from collections.abc import Iterator
from email.message import Message
from http.client import parse_headers
from io import BytesIO
from typing import Final, Protocol
from urllib.parse import unquote

_READ_BYTES: Final = 262_144
_MAX_LINE: Final = 1024  # a chunk size or trailer line
_MAX_HEADERS: Final = 16_384  # of one part


class BadUpload(ValueError):
    """A request body breaks off, or differs from what its headers announce."""


class Readable(Protocol):
    """Anything that is read piece by piece: a request's body, one part of it."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""
        ...


class _Lines(Readable, Protocol):
    def readline(self, limit: int, /) -> bytes:
        """Return bytes up to the next line feed, at most `limit`."""


class _SizedBody:
    """A body of Content-Length bytes."""

    def __init__(self, stream: _Lines, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        if not data and size and self._left:
            raise BadUpload("the request body ends before its Content-Length")
        return data


class _ChunkedBody:
    """A body in HTTP chunks."""

    def __init__(self, stream: _Lines) -> None:
        self._stream = stream
        self._left = 0  # bytes of the current chunk
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, never of two chunks at once; none at the end."""
        if self._left == 0 and not self._ended:
            self._next_chunk()
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        if self._left and not data and size:
            raise BadUpload("the request body breaks off inside a chunk")
        if self._left == 0 and data and self._line():
            raise BadUpload("a chunk of the request body is longer than its size line says")
        return data

    def _next_chunk(self) -> None:
        # Extensions of a chunk follow its size after a semicolon. The digits are checked, since
        # int() also takes signs, spaces and underscores.
        digits = self._line().split(b";")[0].strip()
        try:
            if not digits or set(digits) - set(b"0123456789abcdefABCDEF"):
                raise ValueError
            self._left = int(digits, 16)
        except ValueError:
            raise BadUpload("the request body has a malformed chunk size") from None
        if self._left == 0:
            self._ended = True
            while self._line():  # trailers
                pass

    def _line(self) -> bytes:
        line = self._stream.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            raise BadUpload("the request body breaks off or has an overlong chunk line")
        return line.rstrip(b"\r\n")


def open_body(headers: Message, stream: _Lines) -> Readable:
    """Return the decoded body of a request; raise BadUpload when its framing is ambiguous."""
    coding, length = headers.get("Transfer-Encoding"), headers.get("Content-Length")
    if coding is not None:
        # Both headers at once are how requests are smuggled past a proxy (RFC 9112 §6.1).
        if coding.strip().lower() != "chunked" or length is not None:
            raise BadUpload("the request body must be chunked, or have a Content-Length")
        return _ChunkedBody(stream)
    if length is not None and not (length.isascii() and length.isdigit()):
        raise BadUpload("the request has a malformed Content-Length")
    return _SizedBody(stream, int(length or 0))


class Part:
    """One file of an upload: `name` as the sender gave it, the content through `read`."""

    def __init__(self, reader: "_PartsReader", headers: Message) -> None:
        self._reader = reader
        self.content_type = headers.get_content_type()
        name = headers.get_param("filename", "", "Content-Disposition")
        self.name = unquote(name) if isinstance(name, str) else ""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes of the content, none at its end."""
        return self._reader.read(size)


class _PartsReader:
    def __init__(self, body: Readable, boundary: bytes) -> None:
        self._body = body
        self._mark = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that the first boundary looks like the others

    def read(self, size: int) -> bytes:
        """Return content before the next boundary, none when it is reached."""
        while True:
            end = self._buffer.find(self._mark)
            # Without a boundary in sight, its beginning may still be the last bytes held.
            ready = end if end >= 0 else len(self._buffer) - len(self._mark) + 1
            if ready > 0 or end == 0:
                data = bytes(self._buffer[: min(size, ready)])
                del self._buffer[: len(data)]
                return data
            self._fill()

    def next_headers(self) -> Message | None:
        """Return the headers of the next part, or None after the last one."""
        while self.read(_READ_BYTES):
            pass
        # The boundary is at the beginning of the buffer; "--" after it ends the upload.
        after = len(self._mark)
        while len(self._buffer) < after + 2:
            self._fill()
        if self._buffer[after : after + 2] == b"--":
            return None
        while (end := self._buffer.find(b"\r\n\r\n", after)) < 0:
            if len(self._buffer) > _MAX_HEADERS:
                raise BadUpload("the headers of an uploaded part are too long")
            self._fill()
        block = bytes(self._buffer[after + 2 : end + 4])
        del self._buffer[: end + 4]
        return parse_headers(BytesIO(block))

    def _fill(self) -> None:
        data = self._body.read(_READ_BYTES)
        if not data:
            raise BadUpload("the upload ends before its closing boundary")
        self._buffer += data


def read_parts(headers: Message, body: Readable) -> Iterator[Part]:
    """Yield the parts of a multipart/form-data body, each to be read before the next."""
    boundary = headers.get_boundary()
    if headers.get_content_maintype() != "multipart" or not boundary:
        raise BadUpload("file argument is required: the body must be multipart/form-data")
    reader = _PartsReader(body, boundary.encode("latin-1"))
    while (part_headers := reader.next_headers()) is not None:
        yield Part(reader, part_headers)
