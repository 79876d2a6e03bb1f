"""The content store against a daemon that lies, dawdles or floods."""

import gzip
import time
import tracemalloc
from collections.abc import Callable

import pytest

from devnet.ipfs.daemon import DevIpfsDaemon
from protocol.cid import raw_cid
from protocol.errors import Unavailable, WrongBytes
from protocol.types import Digest
from storage.ipfs import ContentStore
from tests.storage.content import content
from tests.storage.lying_proxy import LyingProxy

SIZE = 300_000
SECOND = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
Lie = Callable[[LyingProxy, str], None]


class Case:
    """A block in the honest daemon, and a store that reads it through the proxy."""

    def __init__(self, proxy: LyingProxy, honest: ContentStore) -> None:
        self.proxy = proxy
        self.block = honest.put_block(content(SIZE))
        self.cid = raw_cid(self.block)
        self.store = ContentStore(proxy.url, timeout_s=0.6, slowest_bytes_per_s=10_000_000)

    def get(self) -> bytes:
        return self.store.get_block(self.block, SIZE)

    def both_raise(self, lie: Lie) -> list[Unavailable]:
        """Tell the lie; return what was raised with the size known and with it unknown."""
        lie(self.proxy, self.cid)
        began, errors = time.monotonic(), []
        for size in (SIZE, None):
            with pytest.raises(Unavailable) as caught:
                self.store.get_block(self.block, size)
            errors.append(caught.value)
            assert self.cid in str(caught.value)
            assert self.proxy.url in str(caught.value)
            assert "\n" not in str(caught.value)
        assert time.monotonic() - began < 5
        return errors


@pytest.fixture
def case(proxy: LyingProxy, daemon: DevIpfsDaemon) -> Case:
    return Case(proxy, ContentStore(daemon.url))


def test_an_honest_proxy_changes_nothing(case: Case) -> None:
    assert case.get() == content(SIZE)
    assert case.store.put_blocks([b"one", b"two"])
    assert case.proxy.asked == ["block/get", "block/put", "pin/add", "block/stat", "block/stat"]


@pytest.mark.parametrize("lie", [LyingProxy.flip, LyingProxy.truncate, LyingProxy.endless])
def test_wrong_bytes_are_the_daemons_fault(case: Case, lie: Lie) -> None:
    for error in case.both_raise(lie):
        assert isinstance(error, WrongBytes)


@pytest.mark.parametrize(
    "lie", [LyingProxy.break_off, LyingProxy.drip, LyingProxy.stall, LyingProxy.lose]
)
def test_no_bytes_are_unavailable(case: Case, lie: Lie) -> None:
    for error in case.both_raise(lie):
        assert not isinstance(error, WrongBytes)


def test_headers_without_end_are_unavailable(case: Case) -> None:
    for error in case.both_raise(LyingProxy.drip_headers):
        assert "took longer than" in str(error)


def test_one_chunk_of_a_terabyte_is_not_held(case: Case) -> None:
    tracemalloc.start()
    try:
        for error in case.both_raise(LyingProxy.huge_chunk):
            assert isinstance(error, WrongBytes)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_drip_is_cut_off_by_the_total_time(case: Case) -> None:
    case.proxy.drip(case.cid)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="took longer than"):
        case.get()
    assert 0.5 < time.monotonic() - began < 2


def test_a_drip_is_cut_off_by_the_deadline(case: Case) -> None:
    case.proxy.drip(case.cid)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="took longer than"):
        case.store.get_block(case.block, SIZE, deadline=began + 0.2)
    assert time.monotonic() - began < 0.5


def test_the_truth_is_taken_again_after_a_lie(case: Case) -> None:
    case.both_raise(LyingProxy.flip)
    case.proxy.be_honest()
    assert case.get() == content(SIZE)


def test_a_name_that_is_not_ours_is_refused(case: Case) -> None:
    case.proxy.rename(case.cid, SECOND)
    with pytest.raises(WrongBytes, match=SECOND):
        case.store.put_blocks([b"beside it", content(SIZE)])
    case.proxy.rename(case.cid, "nonsense")
    with pytest.raises(WrongBytes, match="'nonsense'"):
        case.store.put_block(content(SIZE))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"Key":"%s"}\n', "1 of 2 stored"),
        (b"", "0 of 2 stored"),
        (b"[1]\n", "not JSON"),
        (b"[" * 2000, "not JSON"),
        (b"x" * 100_000, "more than"),
    ],
)
def test_an_answer_to_an_upload_names_every_block(
    case: Case, monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str
) -> None:
    answer = answer.replace(b"%s", case.cid.encode())
    headers = {"Content-Type": "text/plain"}
    monkeypatch.setattr(case.proxy, "forward", lambda path, body, kind: (200, headers, answer))
    with pytest.raises(Unavailable, match=said) as caught:
        case.store.put_blocks([content(SIZE), b"two"])
    assert "\n" not in str(caught.value)


def test_a_refused_upload_says_why(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Content-Type": "application/json"}
    full = (500, headers, b'{"Message":"the disk\\nis full","Code":0,"Type":"error"}')
    monkeypatch.setattr(case.proxy, "forward", lambda path, body, kind: full)
    with pytest.raises(Unavailable, match="block/put: HTTP 500: the disk is full"):
        case.store.put_blocks([content(SIZE)] * 9)


def test_the_end_of_a_message_is_kept(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "open /data/" + "ipfs/" * 60 + "blocks/.temp/batch-1: no space left on device"
    headers = {"Content-Type": "application/json"}
    full = (500, headers, b'{"Message":"%s","Code":0,"Type":"error"}' % long.encode())
    monkeypatch.setattr(case.proxy, "forward", lambda path, body, kind: full)
    for action in (case.get, lambda: case.store.put_block(b"one"), case.store.id):
        with pytest.raises(Unavailable, match=r"open /data/.*: no space left on device$") as caught:
            action()
        assert len(str(caught.value)) < 400


def test_a_gateways_port_is_told_from_the_rpcs(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    other = (404, {"Content-Type": "text/plain"}, b"404 page not found")
    monkeypatch.setattr(case.proxy, "forward", lambda path, body, kind: other)
    with pytest.raises(Unavailable, match=r"usually 5001, and not a gateway's\?"):
        case.get()


def test_a_block_is_not_taken_for_lost_when_the_answer_is(case: Case) -> None:
    assert case.store.has(case.block)
    for lie in (LyingProxy.stall, LyingProxy.break_off):
        lie(case.proxy, case.cid)
        with pytest.raises(Unavailable):
            case.store.has(case.block)


def test_a_daemon_that_pins_nothing_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.proxy.lose(case.cid)
    with pytest.raises(Unavailable, match="removes blocks as soon as it has stored them"):
        case.store.put_block(content(SIZE))
    case.proxy.be_honest()
    monkeypatch.setattr(case.store, "has", lambda digest: True)
    case.proxy.break_off(case.cid)
    with pytest.raises(Unavailable, match="pin/add"):
        case.store.put_block(content(SIZE))


@pytest.mark.parametrize("lie", [LyingProxy.endless, LyingProxy.huge_chunk])
def test_no_command_holds_more_than_its_answer_may_have(case: Case, lie: Lie) -> None:
    lie(case.proxy, case.cid)
    tracemalloc.start()
    try:
        with pytest.raises(Unavailable, match="pin/add: more than 1048576 bytes"):
            case.store.put_block(content(SIZE))
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("lie", [LyingProxy.drip, LyingProxy.drip_headers])
def test_no_command_waits_for_a_drip(case: Case, lie: Lie) -> None:
    lie(case.proxy, case.cid)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"pin/add .*took longer than"):
        case.store.put_block(content(SIZE))
    assert time.monotonic() - began < 3


def test_no_command_follows_a_redirect(
    case: Case, daemon: DevIpfsDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LyingProxy(daemon.url) as other:
        headers = {"Content-Type": "text/plain", "Location": f"{other.url}/api/v0/id"}
        for status in (302, 307):
            there = (status, headers, b"")
            monkeypatch.setattr(case.proxy, "forward", lambda path, body, kind: there)  # noqa: B023
            for action in (case.store.id, case.store.version, case.get):
                with pytest.raises(Unavailable, match=f"HTTP {status}"):
                    action()
        assert other.asked == []


def test_nothing_is_unpacked(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(b'{"ID": "' + b"x" * 100_000_000 + b'"}', 1)
    answer = (200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, packed)
    monkeypatch.setattr(case.proxy, "forward", lambda path, body, kind: answer)
    tracemalloc.start()
    try:
        for action in (case.store.id, case.store.version):
            with pytest.raises(Unavailable, match=r"not JSON|more than"):
                action()
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("answer", [b'"text"', b"7", b"[]", b"{}", b"", b"{}{}", b"[" * 100_000])
def test_an_answer_of_another_form_is_unavailable(
    case: Case, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    monkeypatch.setattr(case.proxy, "forward", lambda path, body, kind: (200, headers, answer))
    for action in (case.store.id, case.store.version):
        with pytest.raises(Unavailable) as caught:
            action()
        assert str(caught.value).isprintable()
        assert case.proxy.url in str(caught.value)


def test_a_missing_block_is_asked_for_once(case: Case) -> None:
    with pytest.raises(Unavailable):
        case.store.get_block(Digest(bytes(32)))
    assert case.proxy.asked == ["block/get"]
