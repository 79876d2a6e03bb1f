"""Reading blocks from announced gateways: honest ones, hostile ones, and addresses not to dial."""

import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import sha256 as digest_of
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.errors import Rejected, Unavailable, WrongBytes
from protocol.whereabouts import Gateway, PeerAddress
from storage.dial import DialRules, Resolver, is_public
from storage.gateway import GatewayStore, Missing
from storage.http import Clock, TimeLimit
from tests.storage.content import content
from tests.storage.web_server import Lie, WebServer

SIZE = 300_000
DATA = content(SIZE)
BLOCK = digest_of(DATA)
LOCAL = DialRules(allow_private=True)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer({raw_cid(BLOCK): DATA}, path="/some/folder") as server:
        yield server


def reading(server: WebServer, rules: DialRules = LOCAL) -> GatewayStore:
    return GatewayStore(server.gateway, rules, timeout_s=0.6, slowest_bytes_per_s=10_000_000)


def fails(action: Callable[..., object], *arguments: object) -> Unavailable:
    """Return what is raised, which comes soon and in one line."""
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        action(*arguments)
    assert time.monotonic() - began < 5
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    return caught.value


def test_a_block_comes_by_its_cid(server: WebServer) -> None:
    store = reading(server)
    store.probe()
    assert store.get_block(BLOCK) == store.get_block(BLOCK, SIZE) == DATA
    path = f"/some/folder/ipfs/{raw_cid(BLOCK)}?format=raw"
    assert server.asked == ["/some/folder/ipfs/bafkqaaa?format=raw", path, path]
    assert {each["Accept"] for each in server.headers} == {"application/vnd.ipld.raw"}
    assert {each["Accept-Encoding"] for each in server.headers} == {"identity"}
    assert {each["Host"] for each in server.headers} == {server.gateway.authority}


def test_what_is_not_there_is_missing(server: WebServer) -> None:
    for lie in ("", "forbid"):
        server.lie = lie
        error = fails(reading(server).get_block, digest_of(b"other"))
        assert isinstance(error, Missing)
        assert server.gateway.line in str(error)


def test_a_size_that_is_not_the_blocks_is_its_authors_fault(server: WebServer) -> None:
    with pytest.raises(Rejected) as caught:
        reading(server).get_block(BLOCK, SIZE - 1)
    assert caught.value.check == Check.DIGESTS


@pytest.mark.parametrize("lie", ["flip", "endless", "huge_chunk", "page", "unpacked"])
def test_wrong_bytes_are_the_gateways_fault(server: WebServer, lie: Lie) -> None:
    server.lie = lie
    for size in (None, SIZE):
        assert isinstance(fails(reading(server).get_block, BLOCK, size), WrongBytes)


@pytest.mark.parametrize(
    "lie", ["truncate", "gigabyte", "drip", "drip_headers", "stall", "redirect", "refuse"]
)
def test_no_bytes_are_unavailable(server: WebServer, lie: Lie) -> None:
    server.lie = lie
    error = fails(reading(server).get_block, BLOCK, SIZE)
    assert not isinstance(error, WrongBytes | Missing)
    assert len(server.asked) == 1


@pytest.mark.parametrize("lie", ["gigabyte", "endless", "huge_chunk", "unpacked"])
def test_no_more_is_held_than_a_block(server: WebServer, lie: Lie) -> None:
    server.lie = lie
    tracemalloc.start()
    try:
        fails(reading(server).get_block, BLOCK, SIZE)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_gigabyte_that_says_so_is_not_read(server: WebServer) -> None:
    server.lie = "gigabyte"
    fails(reading(server).get_block, BLOCK, SIZE)
    # What the kernel's buffers on loopback took before the connection was closed.
    assert server.taken < 32_000_000


@pytest.mark.parametrize("lie", ["drip", "drip_headers", "stall"])
def test_the_deadline_ends_it(server: WebServer, lie: Lie) -> None:
    server.lie = lie
    store = GatewayStore(server.gateway, LOCAL)  # with its usual 30 s
    began = time.monotonic()
    fails(store.get_block, BLOCK, SIZE, began + 0.3)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("lie", ["page", "redirect", "refuse", "stall", "gigabyte", "endless"])
def test_what_is_no_gateway_does_not_answer_the_probe(server: WebServer, lie: Lie) -> None:
    server.lie = lie
    fails(reading(server).probe)
    assert len(server.asked) == 1


def test_the_environment_has_no_say(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert reading(server).get_block(BLOCK) == DATA
    assert "Authorization" not in server.headers[0]


# --------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::8.8.8.8",
        "::ffff:8.8.8.8",
        "::ffff:10.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:808:808::1",
        "3fff::1",
        "fc00::1",
        "fe80::1",
        "fec0::1",
        "ff0e::1",
    ],
)
def test_addresses_that_not_everybody_reaches_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "193.0.6.139", "2606:4700::1111", "2a00::1"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=6))
def test_nothing_that_carries_an_ipv4_address_is_public(address: object) -> None:
    if is_public(str(address)):
        assert str(address)[0] in "23"


def answers(*found: list[str]) -> Resolver:
    """Return a resolver that answers so, one list after the other."""
    left = list(found)
    return lambda host, family: left.pop(0)


@pytest.mark.parametrize(
    "gateway",
    [
        Gateway("http", "ann.example", 80),
        Gateway("https", "ann.example", 8443),
        Gateway("http", "ann.example", 443),
    ],
)
def test_only_https_on_its_port_is_dialled(gateway: Gateway) -> None:
    rules = DialRules(resolve=answers())  # not even resolved
    error = fails(GatewayStore(gateway, rules).probe)
    assert "by https on port 443 alone" in str(error)


def test_private_addresses_are_not_dialled(server: WebServer) -> None:
    gateway = Gateway("https", "ann.example", 443)
    for private in (["127.0.0.1"], ["10.0.0.1", "::1"], []):
        rules = DialRules(resolve=answers(private))
        error = fails(GatewayStore(gateway, rules).probe)
        assert "where not everybody can reach it" in str(error)
    assert reading(server, DialRules()).gateway.port != 443
    fails(reading(server, DialRules()).probe)
    assert server.asked == []


def test_the_address_that_was_looked_at_is_the_one_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public at first and private the second time: there is no second time."""
    dialled: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], timeout: float) -> socket.socket:
        dialled.append(address)
        raise ConnectionRefusedError("refused here")

    monkeypatch.setattr(socket, "create_connection", refuse)
    rules = DialRules(resolve=answers(["127.0.0.1", "93.184.216.34"], ["127.0.0.1"]))
    store = GatewayStore(Gateway("https", "ann.example", 443), rules)
    assert "refused here" in str(fails(store.probe))
    assert "where not everybody" in str(fails(store.probe))
    assert dialled == [("93.184.216.34", 443)]


def test_a_resolver_that_hangs_is_cut_off() -> None:
    def hang(host: str, family: socket.AddressFamily) -> list[str]:
        time.sleep(5)
        return []

    clock = Clock(TimeLimit(0.2, 0.2))
    error = fails(DialRules(resolve=hang).addresses, "a.example", socket.AF_INET, clock)
    assert "no answer within 0.2 s" in str(error)


def test_a_name_that_is_none_is_not_found() -> None:
    for host in ("nobody.invalid", "a" * 64 + ".example"):
        error = fails(DialRules().addresses, host, socket.AF_INET, Clock(TimeLimit(5, 5)))
        assert "is not found" in str(error)


def test_a_peer_is_handed_on_by_its_address() -> None:
    address = PeerAddress("dns4", "ann.example", "udp/quic-v1", 4001)
    rules = DialRules(resolve=answers(["10.0.0.1", "93.184.216.34"]))
    assert rules.peer_addresses(address, 5) == ["/ip4/93.184.216.34/udp/4001/quic-v1"]
    literal = PeerAddress("ip4", "127.0.0.1", "tcp", 4001)
    assert LOCAL.peer_addresses(literal, 5) == ["/ip4/127.0.0.1/tcp/4001"]
    with pytest.raises(Unavailable):
        DialRules().peer_addresses(literal, 5)


# ------------------------------------------------------------------------- a proxy


class Tunnels(socketserver.ThreadingTCPServer):
    """An HTTP proxy that makes tunnels, to whatever it is asked for."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.answer = answer
        self.asked: list[str] = []

    def __enter__(self) -> "Tunnels":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


class _Tunnel(socketserver.StreamRequestHandler):
    server: Tunnels

    def handle(self) -> None:
        target = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(target)
        self.wfile.write(self.server.answer)
        if not self.server.answer.startswith(b"HTTP/1.1 200"):
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as onward:
            back = threading.Thread(target=self._copy, args=(onward, self.connection), daemon=True)
            back.start()
            self._copy(self.connection, onward)
            onward.shutdown(socket.SHUT_WR)
            back.join(5)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)


def test_a_proxy_of_the_settings_is_asked_for_the_address(server: WebServer) -> None:
    with Tunnels() as tunnels:
        rules = DialRules(allow_private=True, proxy=tunnels.server_address)  # type: ignore[arg-type]
        assert reading(server, rules).get_block(BLOCK) == DATA
        assert tunnels.asked == [f"127.0.0.1:{server.gateway.port}"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication"),
        (b"", "does not answer to CONNECT"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000, "does not answer to CONNECT"),
    ],
)
def test_a_proxy_that_refuses_is_named(server: WebServer, answer: bytes, words: str) -> None:
    with Tunnels(answer) as tunnels:
        rules = DialRules(allow_private=True, proxy=tunnels.server_address)  # type: ignore[arg-type]
        assert words in str(fails(reading(server, rules).probe))
    assert server.asked == []


# --------------------------------------------------------------------------- TLS


def certificate(folder: Path, name: str) -> Path:
    """Return a key and a certificate of its own that names `name`."""
    file = folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{name}"]
    subprocess.run(
        [*command, "-keyout", str(file), "-out", f"{file}.crt"], check=True, capture_output=True
    )
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


PROBE = """
import sys
from protocol.whereabouts import parse_place
from storage.dial import DialRules
from storage.gateway import GatewayStore
GatewayStore(parse_place(sys.argv[1]), DialRules(allow_private=True)).probe()
"""


def probe_trusting(authority: Path, line: str) -> str:
    """Probe a gateway in a process that trusts `authority`; return the last line it says."""
    # A process of its own: the certificates are read once.
    done = subprocess.run(
        [sys.executable, "-c", PROBE, line],
        env={**os.environ, "SSL_CERT_FILE": str(authority)},
        capture_output=True,
        text=True,
    )
    return done.stderr.strip().rpartition("\n")[2]


def test_tls_is_to_the_announced_name(tmp_path: Path) -> None:
    right, wrong = certificate(tmp_path, "127.0.0.1"), certificate(tmp_path, "127.0.0.2")
    with WebServer({}, certificate=right) as server:
        assert probe_trusting(Path(f"{right}.crt"), server.gateway.line) == ""
        assert "CERTIFICATE_VERIFY_FAILED" in str(fails(reading(server).probe))
    with WebServer({}, certificate=wrong) as server:
        said = probe_trusting(Path(f"{wrong}.crt"), server.gateway.line)
        assert "IP address mismatch" in said
        assert server.asked == []
