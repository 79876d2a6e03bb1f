"""The content store against a daemon that lies: nothing wrong gets through, nothing hangs."""

import io
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.cid import raw_cid
from protocol.errors import Unavailable, WrongBytes
from storage.ipfs import ContentStore, Contradiction
from storage.unixfs import compute_cid
from tests.storage.content import content, write
from tests.storage.lying_proxy import LyingProxy

SIZE = 300_000
SECOND = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
Lie = Callable[[LyingProxy, str], None]


class Case:
    """A file and a block in the honest daemon, and a store that reads them through the proxy."""

    def __init__(self, folder: Path, proxy: LyingProxy, honest: ContentStore) -> None:
        self.folder = folder
        self.proxy = proxy
        self.cid, self.digest = write(folder / "in", SIZE)
        honest.add_file(folder / "in")
        self.block = honest.put_block(content(1000))
        self.store = ContentStore(proxy.url, timeout_s=0.6, slowest_bytes_per_s=10_000_000)

    def fetch(self) -> None:
        self.store.fetch_file(self.cid, SIZE, self.digest, self.folder / "out")

    def get(self) -> bytes:
        return self.store.get_block(self.block)

    def both_raise(self, lie: Lie) -> list[Unavailable]:
        """Tell both lies; return what was raised for file and block."""
        lie(self.proxy, self.cid)
        lie(self.proxy, raw_cid(self.block))
        before = sorted(os.listdir(self.folder))
        began, errors = time.monotonic(), []
        for ask in (self.fetch, self.get):
            with pytest.raises(Unavailable) as caught:
                ask()
            errors.append(caught.value)
        assert time.monotonic() - began < 5
        assert sorted(os.listdir(self.folder)) == before
        assert not any(isinstance(error, Contradiction) for error in errors)
        for error, cid in zip(errors, (self.cid, raw_cid(self.block)), strict=True):
            assert cid in str(error)
            assert self.proxy.url in str(error)
            assert "\n" not in str(error)
        return errors


@pytest.fixture
def case(tmp_path: Path, proxy: LyingProxy, store: ContentStore) -> Case:
    return Case(tmp_path, proxy, store)


def test_an_honest_proxy_changes_nothing(case: Case) -> None:
    case.fetch()
    assert (case.folder / "out").read_bytes() == content(SIZE)
    assert case.get() == content(1000)
    assert case.proxy.asked == ["cat", "block/get"]


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
        case.fetch()
    assert 0.5 < time.monotonic() - began < 2


def test_the_truth_is_taken_again_after_a_lie(case: Case) -> None:
    case.both_raise(LyingProxy.flip)
    case.proxy.be_honest()
    case.fetch()
    assert case.get() == content(1000)


def test_a_lie_about_a_wrong_size_is_not_called_a_contradiction(case: Case) -> None:
    # The root block, by which a contradiction would be proved, is bent as well: nothing is proved.
    case.proxy.flip(case.cid)
    with pytest.raises(WrongBytes) as caught:
        case.store.fetch_file(case.cid, SIZE + 1, case.digest, case.folder / "out")
    assert not isinstance(caught.value, Contradiction)


def test_a_name_that_is_not_ours_is_refused(case: Case) -> None:
    case.proxy.rename(case.cid, SECOND)
    with pytest.raises(WrongBytes, match=SECOND):
        case.store.add_file(case.folder / "in")
    case.proxy.rename(raw_cid(case.block), "nonsense")
    with pytest.raises(WrongBytes, match="'nonsense'"):
        case.store.put_block(content(1000))


def test_an_answer_before_the_end_of_the_upload_is_refused(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hear_one_chunk(chunks: Iterator[bytes], **options: object) -> str:
        return compute_cid(io.BytesIO(next(chunks)))

    # What a daemon can do by answering early: name what it has, of which we know no more ourselves.
    monkeypatch.setattr(case.store._client, "add_bytes", hear_one_chunk)
    with pytest.raises(Unavailable, match="cut it short"):
        case.store.add_file(case.folder / "in")


def test_the_daemon_is_not_told_where_a_file_lies(case: Case) -> None:
    case.store.add_file(case.folder / "in")
    sent = case.proxy.sent[-1]
    assert content(1000) in sent
    assert str(case.folder).encode() not in sent
    assert b"Abspath" not in sent


def test_a_pin_is_not_taken_for_lost_when_the_answer_is(case: Case) -> None:
    assert case.store.is_pinned(case.cid)
    case.proxy.lose(case.cid)
    with pytest.raises(Unavailable, match="could not find"):
        case.store.is_pinned(case.cid)
