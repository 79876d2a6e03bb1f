"""The content store against an honest daemon."""

import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devnet.ipfs.daemon import DevIpfsDaemon
from protocol.canonical import sha256 as digest_of
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.errors import Misconfigured, Rejected, Unavailable, WrongBytes
from protocol.types import Digest
from storage import blocks as storage_blocks
from storage.blocks import MAX_BLOCK_BYTES
from storage.ipfs import ContentStore
from storage.rpc import ApiAddress
from tests.storage.content import content

NOWHERE = Digest(bytes(32))
same_daemon = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def count_sent(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which the number of blocks of each upload from now on is added."""
    sent: list[int] = []
    send = store._send

    def count(blocks: dict[Digest, bytes]) -> None:
        sent.append(len(blocks))
        send(blocks)

    monkeypatch.setattr(store, "_send", count)
    return sent


def pins_of(store: ContentStore) -> dict[str, Any]:
    """Every pin in the daemon, by CID."""
    found: dict[str, Any] = store._client.pin.ls()["Keys"].as_json()
    return found


@same_daemon
@given(blocks=st.lists(st.binary(max_size=2000), max_size=5))
def test_blocks_come_back_by_their_sha256(store: ContentStore, blocks: list[bytes]) -> None:
    digests = store.put_blocks(blocks)
    assert digests == [digest_of(block) for block in blocks]
    for digest, block in zip(digests, blocks, strict=True):
        assert store.get_block(digest) == block
        assert store.get_block(digest, size=len(block)) == block


def test_the_environment_has_no_say(
    daemon: DevIpfsDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading and writing go the same way, whatever proxies and passwords other programs use."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    store = ContentStore(daemon.url, timeout_s=10)
    assert store.get_block(store.put_block(b"one")) == b"one"
    assert store.id()


def test_a_block_of_one_mib_is_the_largest(store: ContentStore) -> None:
    largest = content(MAX_BLOCK_BYTES)
    assert store.get_block(store.put_block(largest), size=MAX_BLOCK_BYTES) == largest
    with pytest.raises(Misconfigured, match="at most 1048576"):
        store.put_block(bytes(MAX_BLOCK_BYTES + 1))


def test_many_blocks_are_put_in_few_requests_and_stay(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = count_sent(store, monkeypatch)
    blocks = [content(1000 + number) for number in range(300)]
    digests = store.put_blocks(iter(blocks))
    assert sent == [120, 120, 60]
    assert {raw_cid(digest) for digest in digests} <= pins_of(store).keys()
    assert [store.get_block(digest, 1000 + n) for n, digest in enumerate(digests)] == blocks


def test_no_more_than_a_batch_is_held(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    monkeypatch.setattr(
        store, "_keep", lambda batch: held.append(sum(len(data) for data in batch.values()))
    )
    store.put_blocks(content(MAX_BLOCK_BYTES - number) for number in range(40))
    assert len(held) == 3
    assert max(held) <= 16 << 20


def test_what_is_not_pinned_goes_before_what_is(store: ContentStore) -> None:
    kept, shown = store.put_block(b"kept"), store.put_blocks([b"shown", b"kept"], pinned=False)[0]
    assert store.has(shown)
    assert raw_cid(shown) not in pins_of(store)
    store.remove_blocks([kept, shown], also_pinned=False)
    assert (store.has(kept), store.has(shown)) == (True, False)


def test_the_same_block_twice_is_one_block(store: ContentStore) -> None:
    first, second, other = store.put_blocks([b"same", b"same", b"other"])
    assert first == second != other
    assert store.put_block(b"same") == first


def test_a_block_of_another_size_is_its_authors_fault(store: ContentStore) -> None:
    digest = store.put_block(content(100))
    for size in (0, 99, 101, MAX_BLOCK_BYTES):
        with pytest.raises(Rejected, match=f"100 bytes, {size:,} were expected") as caught:
            store.get_block(digest, size)
        assert caught.value.check == Check.DIGESTS


def test_a_block_larger_than_any_is_cut_off(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.put_block(content(100_000))
    monkeypatch.setattr(storage_blocks, "MAX_PASSED_BYTES", 99_999)
    with pytest.raises(WrongBytes, match="more than 99999 bytes"):
        store.get_block(digest, 1000)
    monkeypatch.setattr(storage_blocks, "MAX_BLOCK_BYTES", 99_999)
    with pytest.raises(WrongBytes, match="more than 99999 bytes"):
        store.get_block(digest)


def test_a_block_that_nobody_has_is_unavailable(store: ContentStore) -> None:
    # Some daemons say so at once, others go on looking for a peer that has it.
    words = r"block/get bafkrei\w+: (HTTP 500: .*could not find|silent for|took longer)"
    with pytest.raises(Unavailable, match=words):
        store.get_block(NOWHERE)
    assert not store.has(NOWHERE)


def test_a_block_must_come_by_its_deadline(store: ContentStore) -> None:
    digest = store.put_block(b"late")
    assert store.get_block(digest, deadline=time.monotonic() + 10) == b"late"
    with pytest.raises(Unavailable, match="took longer than 0 s"):
        store.get_block(digest, deadline=time.monotonic() - 1)


def test_removed_blocks_are_gone_and_the_others_stay(store: ContentStore) -> None:
    kept, *dropped = store.put_blocks([b"kept", b"dropped", b"dropped too"])
    assert all(map(store.has, (kept, *dropped)))
    store.remove_blocks([*dropped, NOWHERE])
    assert store.has(kept)
    assert raw_cid(kept) in pins_of(store)
    assert not any(map(store.has, dropped))
    assert not {raw_cid(digest) for digest in dropped} & pins_of(store).keys()
    store.remove_blocks(dropped)  # nothing to do
    store.remove_blocks([])


def test_what_an_operator_pinned_stays(store: ContentStore) -> None:
    digest = store.put_block(b"precious")
    store._client.pin.rm(raw_cid(digest))
    store._client.pin.add(raw_cid(digest))  # as a DAG, as `ipfs pin add` does
    assert store.put_blocks([b"precious", b"beside it"])[0] == digest
    store.remove_blocks([digest, digest_of(b"beside it")])
    assert store.get_block(digest) == b"precious"
    assert pins_of(store)[raw_cid(digest)]["Type"] == "recursive"
    assert not store.has(digest_of(b"beside it"))


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_garbage_collection_takes_is_put_again(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    blocks = [b"taken %d %d" % (times, number) for number in range(3)]
    collect_after_put(store, monkeypatch, digest_of(blocks[1]), times)
    digests = store.put_blocks(blocks)
    assert all(map(store.has, digests))
    assert {raw_cid(digest) for digest in digests} <= pins_of(store).keys()


def test_a_daemon_that_keeps_nothing_is_unavailable(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect_after_put(store, monkeypatch, digest_of(b"kept by nobody"), times=100)
    with pytest.raises(Unavailable, match="removes blocks as soon as it has stored them"):
        store.put_block(b"kept by nobody")


def collect_after_put(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch, digest: Digest, times: int
) -> None:
    """Take a block between put and pin, as a garbage collection does."""
    send, left = store._send, [times]

    def send_and_collect(blocks: dict[Digest, bytes]) -> None:
        send(blocks)
        if left[0]:
            left[0] -= 1
            query = [("arg", raw_cid(digest)), ("force", "true")]
            (answer,) = store._rpc.ask("block/rm", query, store._limit(0))
            assert not answer.get("Error")

    monkeypatch.setattr(store, "_send", send_and_collect)


def test_threads_may_share_a_store(store: ContentStore) -> None:
    def round_trip(number: int) -> None:
        blocks = [content(270_000 + number), b"%d" % number]
        digests = store.put_blocks(blocks)
        assert [store.get_block(digest) for digest in digests] == blocks

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(round_trip, range(16)))


def test_connections_are_kept(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    connect = socket.create_connection

    def count(*args: Any, **options: Any) -> socket.socket:
        opened.append("connection")
        return connect(*args, **options)

    digest = store.put_block(b"kept")
    monkeypatch.setattr(socket, "create_connection", count)
    for _ in range(20):
        assert store.get_block(digest) == b"kept"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.get_block, [digest] * 40))
    assert len(opened) <= 3


def test_a_connection_that_was_closed_meanwhile_is_replaced(
    daemon: DevIpfsDaemon,
) -> None:
    store = ContentStore(daemon.url, timeout_s=10)
    digest = store.put_block(b"x")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.get_block, [digest] * 20))
    daemon.stop()
    daemon.start()
    for _ in range(6):
        assert store.get_block(digest) == b"x"
    assert store.put_block(b"x") == digest


def calls(store: ContentStore) -> list[Callable[[], object]]:
    return [
        store.id,
        store.version,
        lambda: store.put_block(b"x"),
        lambda: store.get_block(NOWHERE),
        lambda: store.has(NOWHERE),
        lambda: store.remove_blocks([NOWHERE]),
    ]


def test_an_absent_daemon_is_told_at_once(daemon: DevIpfsDaemon) -> None:
    store = ContentStore(daemon.url, timeout_s=10)
    daemon.stop()
    began = time.monotonic()
    for ask in calls(store):
        with pytest.raises(Unavailable) as caught:
            ask()
        assert str(caught.value) == f"no IPFS daemon answers at {daemon.url}: is it running?"
    assert time.monotonic() - began < 3


def test_something_else_on_the_port_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        store = ContentStore(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)
        for ask in calls(store):
            with pytest.raises(Unavailable, match=r"silent for|took longer"):
                ask()


def test_it_tells_the_peer_id_and_the_version(store: ContentStore) -> None:
    assert store.id().startswith("12D3KooW")
    assert re.match(r"\d+\.\d+\.", store.version())


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


@pytest.mark.parametrize(
    "text",
    [
        "http://ann:secret@127.0.0.1:5001",
        "https://ann:secret@ipfs.example/prefix",
        "https://ann:not/secret@ipfs.example",
        "https://ann:@secret@ipfs.example",
        "ann:secret@127.0.0.1:5001",
        "https://ipfs.example/key/secret",
        "https://ipfs.example/p@secret",
        "https://ipfs.example?token=secret",
        "https://ipfs.example/#secret",
    ],
)
def test_a_secret_in_an_address_is_not_repeated(text: str) -> None:
    with pytest.raises(Misconfigured, match="without user, password and path") as caught:
        ContentStore(text)
    said = str(caught.value)
    assert "secret" not in said
    assert "\n" not in said
