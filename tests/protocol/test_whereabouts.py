"""What is read of an announcement, and that nothing in one can do more than be ignored."""

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import Misconfigured
from protocol.whereabouts import (
    MAX_ANNOUNCEMENT_BYTES,
    Gateway,
    Peer,
    PeerAddress,
    Place,
    parse_place,
    parse_whereabouts,
    write_whereabouts,
)

LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data: bytes) -> str:
    number, text = int.from_bytes(data), ""
    while number:
        number, digit = divmod(number, 58)
        text = LETTERS[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def ed25519_id(name: str) -> str:
    return base58(bytes.fromhex("002408011220") + hashlib.sha256(name.encode()).digest())


def rsa_id(name: str) -> str:
    return base58(bytes.fromhex("1220") + hashlib.sha256(name.encode()).digest())


ANN = ed25519_id("ann")
# A real daemon's, and one of the bootstrap nodes that were well known.
REAL = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
RSA = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{1,5}){1,3}", fullmatch=True)
hosts = st.one_of(
    st.tuples(st.sampled_from(["dns4", "dns6"]), names),
    st.tuples(st.just("ip4"), st.ip_addresses(v=4).map(str)),
    st.tuples(st.just("ip6"), st.ip_addresses(v=6).map(str)),
)
ports = st.integers(1, 65_535)
ids = st.text(max_size=5).map(ed25519_id) | st.text(max_size=5).map(rsa_id)
addresses = st.builds(
    lambda host, transport, port: PeerAddress(host[0], host[1], transport, port),
    hosts,
    st.sampled_from(["tcp", "udp/quic-v1"]),
    ports,
)
paths = st.lists(st.from_regex(r"[a-zA-Z0-9_~+-]{1,8}", fullmatch=True), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
gateways = st.builds(
    Gateway,
    st.sampled_from(["https", "http"]),
    hosts.map(lambda host: host[1]),
    ports,
    paths,
)
places = st.builds(Peer, ids, st.none() | addresses) | gateways


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (f"/p2p/{REAL}", Peer(REAL)),
        (f"/p2p/{RSA}", Peer(RSA)),
        (
            f"/dns4/Ann.Example./tcp/4001/p2p/{REAL}",
            Peer(REAL, PeerAddress("dns4", "ann.example", "tcp", 4001)),
        ),
        (
            f"/ip6/2001:DB8:0:0::1/udp/4001/quic-v1/p2p/{REAL}",
            Peer(REAL, PeerAddress("ip6", "2001:db8::1", "udp/quic-v1", 4001)),
        ),
        ("https://ann.example", Gateway("https", "ann.example", 443)),
        ("https://ann.example:443/", Gateway("https", "ann.example", 443)),
        ("https://ann.example/a/b.c/", Gateway("https", "ann.example", 443, "/a/b.c")),
        ("https://192.0.2.7", Gateway("https", "192.0.2.7", 443)),
        ("https://[2001:db8::7]/x", Gateway("https", "2001:db8::7", 443, "/x")),
        ("http://10.0.0.5:8080", Gateway("http", "10.0.0.5", 8080)),
        ("http://localhost", Gateway("http", "localhost", 80)),
    ],
)
def test_what_is_understood(line: str, place: Place) -> None:
    assert parse_place(line) == place
    assert parse_whereabouts(f"junk\n  {line}\t\r\n") == (place,)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "/p2p/",
        f"/p2p/{REAL}x",
        f"/p2p/{REAL[:-1]}",
        f"/p2p/{REAL[:-1]}0",
        f"/p2p/{'1' * 52}",
        "/p2p/" + base58(bytes.fromhex("1221") + bytes(range(33))),
        f"/p2p/{REAL}/p2p-circuit",
        f"/dns/ann.example/tcp/4001/p2p/{REAL}",
        f"/dnsaddr/ann.example/p2p/{REAL}",
        f"/ip4/192.0.2.7/tcp/4001/ws/p2p/{REAL}",
        f"/ip4/192.0.2.7/tcp/0/p2p/{REAL}",
        f"/ip4/192.0.2.7/tcp/65536/p2p/{REAL}",
        f"/ip4/192.0.2.7/tcp/٤٠٠١/p2p/{REAL}",
        f"/ip4/192.0.2.7/udp/4001/p2p/{REAL}",
        f"/ip4/192.0.2.7/tcp/4001/quic-v1/p2p/{REAL}",
        f"/ip4/192.0.2/tcp/4001/p2p/{REAL}",
        f"/ip4/192.0.2.07/tcp/4001/p2p/{REAL}",
        f"/ip4/ann.example/tcp/4001/p2p/{REAL}",
        f"/ip6/fe80::1%eth0/tcp/4001/p2p/{REAL}",
        f"/dns4/127.1/tcp/4001/p2p/{REAL}",
        f"/dns4/0x7f.0x1/tcp/4001/p2p/{REAL}",
        f"/dns4//tcp/4001/p2p/{REAL}",
        "/ip4/192.0.2.7/tcp/4001",
        "https://",
        "https://ann.example?x=y",
        "https://ann.example/?",
        "https://ann.example/#x",
        "https://ann.example/a//b",
        "https://ann.example/../b",
        "https://ann.example/a/./b",
        "https://ann.example/%2e%2e/b",
        "https://ann.example/a b",
        "https://ann:secret@ann.example",
        "https://ann.example\\@victim.example",
        "https://ann.example:0",
        "https://ann.example:99999",
        "https://2130706433",
        "https://0x7f000001",
        "https://127.1",
        "https://[::1",
        "https://[fe80::1%1]",
        "https://[]",
        "https://-ann.example",
        "https://ann..example",
        "https://änn.example",
        "https://" + "a." * 130 + "example",
        "HTTPS://ann.example",
        "ftp://ann.example",
        "https://ann.example/\x1b[2J",
        f"/dns4/ann.example/tcp/4001/p2p/{REAL}\u2028https://x.example",
    ],
)
def test_what_is_not_understood_is_refused_where_it_is_typed_and_else_ignored(line: str) -> None:
    with pytest.raises(Misconfigured, match="names no place") as caught:
        parse_place(line)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert parse_whereabouts(f"{line}\n/p2p/{ANN}") == (Peer(ANN),)


@given(st.lists(places, max_size=4, unique=True))
def test_what_is_written_is_read(some: list[Place]) -> None:
    try:
        text = write_whereabouts(some)
    except Misconfigured:
        assert sum(len(place.line) + 1 for place in some) > MAX_ANNOUNCEMENT_BYTES
        return
    assert parse_whereabouts(text) == tuple(some)


@given(places)
def test_a_line_has_one_spelling(place: Place) -> None:
    assert parse_place(place.line) == place
    assert parse_place(place.line).line == place.line


@given(st.binary(max_size=512), st.lists(places, max_size=3))
@example(b"\0" * 512, [])
@example(b"\n" * 512, [])
def test_hostile_bytes_are_no_error(junk: bytes, some: list[Place]) -> None:
    text = "\n".join(place.line for place in some) + junk.decode("utf-8", "replace")
    found = parse_whereabouts(text)
    assert len(found) <= 4
    # What is understood can be shown on a terminal and handed to anybody: plain ASCII.
    assert all(place.line.isascii() and place.line.isprintable() for place in found)


@given(st.text(alphabet="/htps:.[]%@?#\\-_12aAfip4dn \t\r\n\0é", max_size=80))
def test_lines_close_to_right_ones_are_no_error(text: str) -> None:
    for place in parse_whereabouts(text):
        assert parse_place(place.line) == place


def test_the_first_four_count_and_each_once() -> None:
    lines = [f"https://{letter}.example" for letter in "abcdef"]
    found = parse_whereabouts("\n".join([lines[0], *lines]))
    assert [place.line for place in found] == lines[:4]


def test_no_more_is_written_than_fits() -> None:
    with pytest.raises(Misconfigured, match="5 places"):
        write_whereabouts([Gateway("https", f"{name}.example", 443) for name in "abcde"])
    long = [Gateway("https", "ann.example", 443, "/" + "a" * 200 + str(n)) for n in range(3)]
    with pytest.raises(Misconfigured, match="at most 4 places and 512 bytes"):
        write_whereabouts(long)


def test_a_peers_address_takes_an_ip_address_for_its_name() -> None:
    address = PeerAddress("dns4", "ann.example", "tcp", 4001)
    assert address.at("192.0.2.7") == "/ip4/192.0.2.7/tcp/4001"
    quic = PeerAddress("dns6", "ann.example", "udp/quic-v1", 4001)
    assert quic.at("2001:db8::1") == "/ip6/2001:db8::1/udp/4001/quic-v1"
