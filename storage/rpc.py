"""Commands of the Kubo RPC.

ipfshttpclient sends one block a request and reads whatever a daemon sends (storage/http.py), and
its public interface can change neither. What it is still used for goes through here as well.
"""

import http.client
import re
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from protocol.errors import Misconfigured, Unavailable
from protocol.text import parse_json
from storage.http import BadStatus, Clock, Request, Server, TimeLimit, one_line, shorten

_MAX_ANSWER_BYTES: Final = 1024  # of one JSON object: a CID, a size, an error
_CONNECT_S: Final = 10.0
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
                f"{_without_secrets(text)!r} is not the address of an IPFS API: "
                "http://127.0.0.1:5001 or /ip4/127.0.0.1/tcp/5001 was expected, without user, "
                "password and path"
            )
        return cls(scheme, host, port)


def _without_secrets(text: str) -> str:
    """Return what may be printed of an address: passwords, keys and tokens may stand in it."""
    scheme, separator, rest = text.partition("://")
    # Whatever stands before an @ may be a password, which may hold any character.
    if any(letter in text for letter in "@?#"):
        return f"{scheme}://…" if separator else "…"
    # Providers put keys into paths.
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}/…" if path else text


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
        self._server = Server(urlsplit(api.url).netloc, self._dial)

    def ask(
        self,
        command: str,
        query: Query,
        limit: TimeLimit,
        upload: Upload | None = None,
        *,
        most: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the JSON objects of an answer of at most `most` bytes, one per line.

        None: as many as 1 KiB for each object that the request asks for.
        """
        if most is None:
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
            objects = [parse_json(line) for line in bytes(answer).splitlines() if line.strip()]
        except ValueError:
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
        request = Request("POST", f"/api/v0/{command}?{urlencode(query)}", body=upload)
        try:
            yield from self._server.stream(request, limit)
        except BadStatus as answer:
            raise Refused(
                f"IPFS daemon at {self._api.url}: {what}: HTTP {answer.status}: "
                f"{_message(answer.text)}{_hint(answer.status)}",
                service="storage",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"IPFS daemon at {self._api.url}: {what}: {shorten(one_line(error))}",
                service="storage",
            ) from None

    def _dial(self, clock: Clock) -> socket.socket:
        api = self._api
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
        text = str(parse_json(answer)["Message"])
    except (ValueError, KeyError, TypeError):
        text = answer.decode("utf-8", "replace")
    return shorten(one_line(text))


def _hint(status: int) -> str:
    # A gateway takes no POST; its port is usually 8080.
    is_other = status in (404, 405)
    return ": is this the RPC's port, usually 5001, and not a gateway's?" if is_other else ""
