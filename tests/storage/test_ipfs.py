"""The content store against an honest daemon."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devnet.ipfs.daemon import DevIpfsDaemon
from protocol.cid import raw_cid
from protocol.errors import Misconfigured, Unavailable, WrongBytes
from protocol.types import Digest
from storage.download import ApiAddress
from storage.ipfs import MAX_BLOCK_BYTES, ContentStore, Contradiction
from tests.storage.content import content, write

MISSING = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
same_daemon = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@same_daemon
@given(data=st.binary(max_size=2000))
def test_a_block_comes_back_by_its_sha256(store: ContentStore, data: bytes) -> None:
    digest = store.put_block(data)
    assert digest == sha256(data).digest()
    assert store.get_block(digest) == data


def test_a_block_of_one_mib_is_the_largest(store: ContentStore) -> None:
    assert store.get_block(store.put_block(bytes(MAX_BLOCK_BYTES))) == bytes(MAX_BLOCK_BYTES)
    with pytest.raises(Misconfigured, match="at most 1048576"):
        store.put_block(bytes(MAX_BLOCK_BYTES + 1))


def test_a_block_longer_than_allowed_is_not_taken(store: ContentStore) -> None:
    digest = store.put_block(bytes(100))
    assert len(store.get_block(digest, max_bytes=100)) == 100
    with pytest.raises(WrongBytes, match="more than 99 bytes"):
        store.get_block(digest, max_bytes=99)


def test_a_block_that_nobody_has_is_unavailable(store: ContentStore) -> None:
    # Some daemons say so at once, others go on looking for a peer that has it.
    words = r"block/get bafkrei\w+: (HTTP 500: .*could not find|silent for)"
    with pytest.raises(Unavailable, match=words):
        store.get_block(Digest(bytes(32)))


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 3_000_000])
def test_a_file_comes_back_whole(store: ContentStore, tmp_path: Path, size: int) -> None:
    cid, digest = write(tmp_path / "in", size)
    assert store.add_file(tmp_path / "in") == cid
    assert store.is_pinned(cid)
    target = tmp_path / "out"
    target.write_bytes(b"what was here before")
    store.fetch_file(cid, size, digest, target)
    assert target.read_bytes() == content(size)
    assert target.stat().st_mode & 0o777 == 0o644


def fetch_wrongly(
    store: ContentStore, folder: Path, cid: str, size: int, digest: Digest
) -> Contradiction:
    """Fetch with a wrong size or digest; check that nothing was left behind."""
    target = folder / "target"
    target.write_bytes(b"old")
    before = sorted(os.listdir(folder))
    with pytest.raises(Contradiction) as caught:
        store.fetch_file(cid, size, digest, target)
    assert target.read_bytes() == b"old"
    assert sorted(os.listdir(folder)) == before
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("size", [1000, 600_000])
def test_a_cid_that_cannot_be_that_content_is_a_contradiction(
    store: ContentStore, tmp_path: Path, size: int
) -> None:
    cid, digest = write(tmp_path / "in", size)
    store.add_file(tmp_path / "in")
    wrong = fetch_wrongly(store, tmp_path, cid, size, Digest(bytes(32)))
    assert f"sha256 {digest.hex()} instead of {'00' * 32}" in str(wrong)
    for other in (size - 1, size + 1, 0, 10 * size):
        wrong = fetch_wrongly(store, tmp_path, cid, other, digest)
        assert f"{cid}: the CID names {size} bytes, {other} were expected" in str(wrong)


def test_a_missing_file_is_unavailable_and_leaves_nothing(
    store: ContentStore, tmp_path: Path
) -> None:
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(Unavailable, match=r"could not find|silent for|took longer") as caught:
        store.fetch_file(raw_cid(Digest(bytes(32))), 10, Digest(bytes(32)), tmp_path / "out")
    assert not isinstance(caught.value, WrongBytes)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("cid", ["", "nonsense", "../etc", MISSING.upper(), "Qm" + "x" * 44])
def test_only_cids_of_the_protocol_are_taken(store: ContentStore, tmp_path: Path, cid: str) -> None:
    with pytest.raises(Misconfigured):
        store.fetch_file(cid, 1, Digest(bytes(32)), tmp_path / "out")
    with pytest.raises(Misconfigured):
        store.is_pinned(cid)
    with pytest.raises(Misconfigured):
        store.unpin(cid)


def test_paths_that_cannot_be_used_are_the_operators_to_fix(
    store: ContentStore, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*absent: No such file"):
        store.add_file(tmp_path / "absent")
    with pytest.raises(Misconfigured, match=r"cannot write .*: No such file"):
        store.fetch_file(MISSING, 1, Digest(bytes(32)), tmp_path / "no" / "folder")


def test_pins_are_told_and_removed_once(store: ContentStore, tmp_path: Path) -> None:
    cid, _ = write(tmp_path / "in", 300_000)
    assert not store.is_pinned(cid)
    store.unpin(cid)  # nothing to do
    store.add_file(tmp_path / "in")
    assert store.is_pinned(cid)
    store.unpin(cid)
    assert not store.is_pinned(cid)
    store.unpin(cid)


def test_the_same_cid_without_a_daemon(tmp_path: Path) -> None:
    cid, _ = write(tmp_path / "in", 300_000)
    with (tmp_path / "in").open("rb") as file:
        assert ContentStore.compute_cid(file) == cid


def test_threads_may_share_a_store(store: ContentStore, tmp_path: Path) -> None:
    def round_trip(number: int) -> None:
        cid, digest = write(tmp_path / f"in-{number}", 270_000 + number)
        assert store.add_file(tmp_path / f"in-{number}") == cid
        store.fetch_file(cid, 270_000 + number, digest, tmp_path / f"out-{number}")
        assert store.get_block(store.put_block(b"%d" % number)) == b"%d" % number

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(round_trip, range(16)))


def test_threads_may_fetch_to_one_target(store: ContentStore, tmp_path: Path) -> None:
    cid, digest = write(tmp_path / "in", 500_000)
    store.add_file(tmp_path / "in")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.fetch_file(cid, 500_000, digest, tmp_path / "x"), range(8)))
    assert (tmp_path / "x").read_bytes() == content(500_000)


def test_an_absent_daemon_is_told_at_once(daemon: DevIpfsDaemon, tmp_path: Path) -> None:
    store = ContentStore(daemon.url, timeout_s=10)
    (tmp_path / "in").write_bytes(b"x")
    daemon.stop()
    began = time.monotonic()
    for ask in (
        store.id,
        lambda: store.put_block(b"x"),
        lambda: store.get_block(Digest(bytes(32))),
        lambda: store.add_file(tmp_path / "in"),
        lambda: store.is_pinned(MISSING),
        lambda: store.unpin(MISSING),
        lambda: store.fetch_file(MISSING, 1, Digest(bytes(32)), tmp_path / "out"),
    ):
        with pytest.raises(Unavailable) as caught:
            ask()
        assert str(caught.value) == f"no IPFS daemon answers at {daemon.url}: is it running?"
    assert time.monotonic() - began < 3


def test_something_else_on_the_port_is_unavailable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        store = ContentStore(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)
        for ask in (store.id, lambda: store.get_block(Digest(bytes(32)))):
            with pytest.raises(Unavailable, match="silent for"):
                ask()


def test_it_tells_the_peer_id(store: ContentStore) -> None:
    assert store.id().startswith("12D3KooW")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
        ("http://127.0.0.1:5001/", "http://127.0.0.1:5001"),
        ("/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001"),
        ("/ip4/127.0.0.1/tcp/5001/http", "http://127.0.0.1:5001"),
        ("/dns/ipfs/tcp/5001/https", "https://ipfs:5001"),
        ("/ip6/::1/tcp/5001", "http://[::1]:5001"),
        ("http://[::1]:5001", "http://[::1]:5001"),
        ("https://ipfs.example", "https://ipfs.example:443"),
    ],
)
def test_addresses_come_as_url_or_multiaddr(text: str, url: str) -> None:
    assert ContentStore(text).api_url == url
    assert ApiAddress.parse(ApiAddress.parse(text).multiaddr).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:5001",
        "localhost",
        "ftp://127.0.0.1:5001",
        "http://",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:5001/api/v0",
        "http://user:secret@127.0.0.1:5001",
        "/ip4/127.0.0.1/udp/5001",
        "/ip4/127.0.0.1/tcp/5001/p2p/12D3KooW",
        "/ip4/999.0.0.1/tcp/5001",
        "http://[::1:5001",
    ],
)
def test_other_addresses_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(Misconfigured, match="is not the address of an IPFS API"):
        ContentStore(text)


def test_ipv6_works_end_to_end(tmp_path: Path) -> None:
    try:
        daemon = DevIpfsDaemon(tmp_path / "repo", host="::1")
        daemon.start()
    except Misconfigured:
        pytest.skip("this machine has no IPv6 loopback")
    try:
        store = ContentStore(daemon.url)
        assert store.get_block(store.put_block(b"x")) == b"x"
    finally:
        daemon.stop()
