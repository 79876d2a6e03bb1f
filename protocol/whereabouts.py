"""Where somebody's blocks can be read: the text of an announcement (docs/protocol.md §12).

    /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…           a peer, reached at an address
    /dns4/ann.example/udp/4001/quic-v1/p2p/12D3KooW…
    /p2p/12D3KooW…                                   a peer that keeps itself connected to others
    https://ann.example/blocks                       a trustless gateway

Whoever reads an announcement reads a stranger's wish: nothing here says that an address may be
dialled. `storage` decides that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, Literal

from protocol.errors import Misconfigured

MAX_ANNOUNCEMENT_BYTES: Final = 512
"""What the contract takes."""

MAX_LINES: Final = 4
"""How many lines of an announcement are read."""

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# The multihashes of peer IDs: SHA-256, and the public keys that are short enough to stand there
# themselves, Ed25519 and secp256k1.
_ID_HEADS: Final = (
    (bytes.fromhex("1220"), 32),
    (bytes.fromhex("002408011220"), 32),
    (bytes.fromhex("002508021221"), 33),
)

_PEER: Final = re.compile(
    r"(?:/(ip4|ip6|dns4|dns6)/([^/]+)/(tcp/\d{1,5}|udp/\d{1,5}/quic-v1))?/p2p/([^/]+)",
    re.A,
)
_GATEWAY: Final = re.compile(
    r"(https?)://(\[[^\]]*\]|[^/:]+)(?::(\d{1,5}))?((?:/[\w.~+-]+)*)/?", re.A
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

HostKind = Literal["ip4", "ip6", "dns4", "dns6"]
Transport = Literal["tcp", "udp/quic-v1"]


@dataclass(frozen=True)
class PeerAddress:
    """Where a peer can be dialled."""

    kind: HostKind
    host: str
    transport: Transport
    port: int

    def at(self, host: str) -> str:
        """Return the multiaddr of this address with an IP address in place of its host."""
        kind = "ip6" if ":" in host else "ip4"
        return self._multiaddr(kind, host)

    @property
    def multiaddr(self) -> str:
        """The address as it was announced, without the peer's ID."""
        return self._multiaddr(self.kind, self.host)

    def _multiaddr(self, kind: str, host: str) -> str:
        network, _, rest = self.transport.partition("/")
        return f"/{kind}/{host}/{network}/{self.port}" + (f"/{rest}" if rest else "")


@dataclass(frozen=True)
class Peer:
    """A peer of IPFS by its ID; without an address it is one that connects to others itself."""

    id: str
    address: PeerAddress | None = None

    @property
    def line(self) -> str:
        """The peer as it is announced."""
        return (self.address.multiaddr if self.address else "") + f"/p2p/{self.id}"


@dataclass(frozen=True)
class Gateway:
    """A trustless gateway, which returns the raw block of a CID at `path`/ipfs/CID.

    The network at large dials port 443 with TLS alone; others are for local networks.
    """

    scheme: Literal["https", "http"]
    host: str
    port: int
    path: str = ""

    @property
    def authority(self) -> str:
        """The host, with the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def line(self) -> str:
        """The gateway as it is announced."""
        return f"{self.scheme}://{self.authority}{self.path}"


Place = Peer | Gateway
"""One line of an announcement."""


def parse_place(line: str) -> Place:
    """Return the peer or gateway that one line names; Misconfigured when it names neither."""
    place: Place | None = None
    if match := _PEER.fullmatch(line):
        kind: HostKind | None = match[1]  # type: ignore[assignment]  # as the pattern says
        place = _peer(kind, match[2], match[3], match[4])
    elif match := _GATEWAY.fullmatch(line):
        scheme: Literal["https", "http"] = "https" if match[1] == "https" else "http"
        place = _gateway(scheme, match[2], match[3], match[4])
    if place is None:
        raise Misconfigured(
            f"{line[:120]!r} names no place: expected https://HOST/PATH, "
            "/dns4/HOST/tcp/PORT/p2p/ID or /p2p/ID"
        )
    return place


def parse_whereabouts(text: str) -> tuple[Place, ...]:
    """Return the places that an announcement names, in its order and each once, four at most.

    Whatever else it contains is left out: anybody may announce any bytes.
    """
    places: dict[Place, None] = {}
    for line in text[:MAX_ANNOUNCEMENT_BYTES].split("\n"):
        try:
            places[parse_place(line.strip(" \t\r"))] = None
        except Misconfigured:
            continue
    return tuple(places)[:MAX_LINES]


def write_whereabouts(places: Sequence[Place]) -> str:
    """Return the text that announces `places`; Misconfigured when it is more than fits."""
    text = "\n".join(place.line for place in places)
    if len(places) > MAX_LINES or len(text.encode()) > MAX_ANNOUNCEMENT_BYTES:
        raise Misconfigured(
            f"{len(places)} places in {len(text.encode())} bytes: at most {MAX_LINES} places and "
            f"{MAX_ANNOUNCEMENT_BYTES} bytes are announced"
        )
    return text


def _peer(kind: HostKind | None, host: str, transport: str, peer_id: str) -> Peer | None:
    if not _is_peer_id(peer_id):
        return None
    if kind is None:
        return Peer(peer_id)
    network, port = transport.removesuffix("/quic-v1").split("/")
    known = _ip(host, kind) if kind in ("ip4", "ip6") else _name(host)
    if known is None or not 0 < int(port) < 65_536:
        return None
    spoken: Transport = "tcp" if network == "tcp" else "udp/quic-v1"
    return Peer(peer_id, PeerAddress(kind, known, spoken, int(port)))


def _gateway(
    scheme: Literal["https", "http"], host: str, port: str | None, path: str
) -> Gateway | None:
    number = int(port) if port else _DEFAULT_PORTS[scheme]
    known = _ip(host[1:-1], "ip6") if host[0] == "[" else _ip(host, "ip4") or _name(host)
    # Dots are climbed by some servers and by others not: the same line would name two places.
    is_plain = not {".", ".."} & set(path.split("/"))
    if known is None or not is_plain or not 0 < number < 65_536:
        return None
    return Gateway(scheme, known, number, path)


def _ip(text: str, kind: str) -> str | None:
    """Return an IP address in its one spelling, None when it is none."""
    try:
        # A zone ("fe80::1%eth0") names one machine's interface and nothing on the network.
        return str(IPv4Address(text)) if kind == "ip4" else str(_without_zone(text))
    except AddressValueError:
        return None


def _without_zone(text: str) -> IPv6Address:
    if "%" in text:
        raise AddressValueError(f"{text!r} has a zone")
    return IPv6Address(text)


def _name(text: str) -> str | None:
    """Return a host name in small letters, None when it is none."""
    # Without the root's dot, which no certificate names.
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    # Resolvers read a last label of digits ("127.1", "0x7f.1") as an address in another spelling.
    is_number = re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]) is not None
    is_name = len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    return name if is_name and not is_number else None


def _is_peer_id(text: str) -> bool:
    """Whether `text` is a peer ID in base58, as IPFS writes it."""
    if not 46 <= len(text) <= 60 or any(letter not in _ALPHABET for letter in text):
        return False
    number = 0
    for letter in text:
        number = number * 58 + _ALPHABET.index(letter)
    zeros = len(text) - len(text.lstrip("1"))
    packed = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)
    return any(
        packed.startswith(head) and len(packed) == len(head) + size for head, size in _ID_HEADS
    )
