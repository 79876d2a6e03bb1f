"""Upload bodies, cut at every awkward place."""

from email.message import Message
from io import BytesIO
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.ipfs.uploads import BadUpload, Readable, open_body, read_parts

BOUNDARY = b"XyZ"
# Pieces that look like the beginning of a boundary, so that lookalikes turn up in the content.
TRICKY = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"X", b"\r\n--X", b"\r\n--Xy", b"abc"]),
    max_size=20,
).map(b"".join)
FILES = st.lists(
    st.tuples(st.text("ab /ü", max_size=5), TRICKY | st.binary(max_size=50)), max_size=4
)


class Trickle:
    """Returns at most three bytes a read."""

    def __init__(self, data: bytes) -> None:
        self._stream = BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, 3))


def read_all(stream: Readable, piece: int) -> bytes:
    return b"".join(iter(lambda: stream.read(piece), b""))


def headers(**values: str) -> Message:
    message = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


def encode_parts(files: list[tuple[str, bytes]]) -> bytes:
    body = b""
    for name, data in files:
        disposition = f'form-data; name="file"; filename="{quote(name, safe="")}"'
        body += b"--" + BOUNDARY + b"\r\nContent-Disposition: " + disposition.encode()
        body += b"\r\nContent-Type: application/octet-stream\r\n\r\n" + data + b"\r\n"
    return body + b"--" + BOUNDARY + b"--\r\n"


MULTIPART = headers(Content_Type='multipart/form-data; boundary="XyZ"')


@given(FILES, st.integers(1, 9), st.booleans())
def test_parts_come_out_as_they_went_in(
    files: list[tuple[str, bytes]], piece: int, trickle: bool
) -> None:
    body = encode_parts(files)
    stream = Trickle(body) if trickle else BytesIO(body)
    assert [(part.name, read_all(part, piece)) for part in read_parts(MULTIPART, stream)] == files


def test_a_part_that_nobody_reads_is_skipped() -> None:
    body = encode_parts([("a", b"first" * 100), ("b", b"second")])
    assert [part.name for part in read_parts(MULTIPART, BytesIO(body))] == ["a", "b"]


@given(st.integers(0, 120))
def test_a_body_that_breaks_off_is_refused(kept: int) -> None:
    body = encode_parts([("a", b"content")])
    with pytest.raises(BadUpload):
        list(read_parts(MULTIPART, BytesIO(body[: min(kept, len(body) - 5)])))


def test_endless_part_headers_are_refused() -> None:
    body = b"--XyZ\r\n" + b"A: b\r\n" * 100_000
    with pytest.raises(BadUpload, match="too long"):
        list(read_parts(MULTIPART, BytesIO(body)))


def test_a_body_that_is_not_multipart_is_refused() -> None:
    with pytest.raises(BadUpload, match="multipart/form-data"):
        list(read_parts(headers(Content_Type="text/plain"), BytesIO(b"x")))


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 50))
def test_chunks_of_http_are_joined(chunks: list[bytes], piece: int) -> None:
    coded = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    stream = BytesIO(coded + b"0\r\nTrailer: x\r\n\r\nnext request")
    body = open_body(headers(Transfer_Encoding="chunked"), stream)
    assert read_all(body, piece) == b"".join(chunks)
    assert stream.read() == b"next request"


@pytest.mark.parametrize(
    "coded", [b"", b"zz\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", b"2\r\nhello\r\n", b"5"]
)
def test_malformed_chunks_are_refused(coded: bytes) -> None:
    body = open_body(headers(Transfer_Encoding="chunked"), BytesIO(coded))
    with pytest.raises(BadUpload):
        read_all(body, 10)


@pytest.mark.parametrize(
    "framing",
    [
        {"Transfer_Encoding": "chunked", "Content_Length": "5"},
        {"Transfer_Encoding": "gzip"},
        {"Content_Length": "-1"},
        {"Content_Length": "+5"},
    ],
)
def test_unclear_framing_is_refused(framing: dict[str, str]) -> None:
    with pytest.raises(BadUpload):
        open_body(headers(**framing), BytesIO(b"hello"))


def test_a_sized_body_ends_where_it_says() -> None:
    stream = BytesIO(b"hellonext")
    body = open_body(headers(Content_Length="5"), stream)
    assert (body.read(100), body.read(100), stream.read()) == (b"hello", b"", b"next")


def test_a_sized_body_that_breaks_off_is_refused() -> None:
    body = open_body(headers(Content_Length="50"), BytesIO(b"hello"))
    body.read(10)
    with pytest.raises(BadUpload, match="Content-Length"):
        body.read(10)
