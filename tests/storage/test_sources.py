"""Blocks from whoever has them: in which order, and what hostile announcements cost."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from devnet.ipfs.daemon import DevIpfsDaemon
from profiling.recorder import PROFILE, Recorder
from profiling.records import read_profile
from protocol.canonical import sha256 as digest_of
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.errors import Misconfigured, Rejected, Unavailable
from protocol.types import Digest
from protocol.whereabouts import Gateway, Peer, PeerAddress, Place
from runtime.processes import free_port
from storage import announced
from storage import sources as sources_module
from storage.blocks import Store
from storage.dial import DialRules
from storage.gateway import EMPTY_CID
from storage.ipfs import ContentStore
from storage.sources import Sources
from tests.storage.content import content
from tests.storage.lying_proxy import LyingProxy
from tests.storage.web_server import Lie, WebServer
from tests.world import small_spec

DATA = [content(20_000 + number) for number in range(6)]
DIGESTS = [digest_of(each) for each in DATA]
CIDS = [raw_cid(each) for each in DIGESTS]
HELD = dict(zip(CIDS, DATA, strict=True))
LOCAL = DialRules(allow_private=True)
ID = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"


@dataclass(frozen=True)
class Announcer:
    who: str
    places: tuple[Place, ...]
    is_author: bool


class Net:
    """Web servers by name."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> "Net":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def server(self, lie: Lie = "", blocks: dict[str, bytes] = HELD) -> WebServer:
        server = self._stack.enter_context(WebServer(blocks))
        server.lie = lie
        return server


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as net:
        yield net


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "BESIDE_S", 0.2)


def by(who: str, *places: Place | WebServer, is_author: bool = True) -> Announcer:
    lines = tuple(each.gateway if isinstance(each, WebServer) else each for each in places)
    return Announcer(who, lines, is_author)


def leader(*places: Place | WebServer) -> Announcer:
    return by("leader", *places, is_author=False)


def knowing(*announcers: Announcer, own: Store | None = None) -> Sources:
    sources = Sources(own, LOCAL, timeout_s=1.0)
    sources.learn(announcers, 1)
    return sources


def read_all(sources: Sources, author: str = "") -> None:
    source = sources.of(author) if author else sources
    for digest, data in zip(DIGESTS, DATA, strict=True):
        assert source.get_block(digest, len(data)) == data


# ------------------------------------------------------------------------ who is asked


def test_the_own_store_is_asked_and_nobody_else(net: Net, daemon: DevIpfsDaemon) -> None:
    own, web = ContentStore(daemon.url), net.server()
    own.put_blocks(DATA)
    sources = knowing(leader(web), own=own)
    read_all(sources)
    assert web.asked == []
    assert sources.has(DIGESTS[0])
    sources.remove_blocks([DIGESTS[0]])
    assert not own.has(DIGESTS[0])
    assert sources.put_block(DATA[0]) == sources.put_blocks([DATA[0]])[0] == DIGESTS[0]
    assert own.has(DIGESTS[0])


def test_what_is_read_is_counted_for_the_phase_that_reads(
    net: Net, daemon: DevIpfsDaemon, tmp_path: Path
) -> None:
    own = ContentStore(daemon.url)
    own.put_blocks(DATA[:3])
    sources = knowing(leader(net.server()), own=own)
    with Recorder(tmp_path, "participant", "0xabc", small_spec()).phase("fetch model", 1) as span:
        for index, (digest, data) in enumerate(zip(DIGESTS, DATA, strict=True)):
            with span.layer(index % 3):
                assert sources.get_block(digest, len(data)) == data
    (phase,) = read_profile(tmp_path / PROFILE).phases
    assert phase.total.received == sum(map(len, DATA))
    assert [phase.layers[index].received for index in range(3)] == [
        len(DATA[index]) + len(DATA[index + 3]) for index in range(3)
    ]


def test_aggregators_come_first_and_other_authors_never(net: Net) -> None:
    servers = {name: net.server() for name in ("leader", "ann", "bob")}
    sources = knowing(
        leader(servers["leader"]), by("bob", servers["bob"]), by("ann", servers["ann"])
    )
    read_all(sources, "ann")
    assert servers["leader"].cids == [EMPTY_CID, *CIDS]
    servers["leader"].blocks = {EMPTY_CID: b""}
    read_all(sources, "ann")
    assert servers["leader"].cids[7:] == CIDS[:1]  # it was asked once more, then the other first
    assert servers["ann"].cids == [EMPTY_CID, *CIDS]
    assert servers["bob"].asked == []
    servers["ann"].blocks = {}
    with pytest.raises(Unavailable):
        sources.of("ann").get_block(DIGESTS[0])
    assert servers["bob"].asked == []
    read_all(sources)  # a model may be anywhere
    assert servers["bob"].cids == [EMPTY_CID, *CIDS]


def test_a_silent_source_is_not_waited_for(net: Net) -> None:
    silent, quick = net.server("stall"), net.server()
    sources = knowing(leader(silent), by("ann", quick))
    began = time.monotonic()
    read_all(sources, "ann")
    # Once 0.2 s, not for each block; and not the second that the silent one has.
    assert time.monotonic() - began < 0.9
    assert silent.cids == [EMPTY_CID]


def test_who_only_has_peers_or_nothing_is_no_source(net: Net) -> None:
    sources = knowing(by("ann", Peer(ID)), by("bob"))
    with pytest.raises(Unavailable, match=f"{CIDS[0]}: there is no source to ask"):
        sources.get_block(DIGESTS[0])
    with pytest.raises(Misconfigured, match="no store of its own"):
        sources.put_block(b"one")
    assert not sources.has(DIGESTS[0])


def test_the_own_announcement_is_not_read(net: Net) -> None:
    web = net.server()
    sources = Sources(None, LOCAL, itself="ann")
    sources.learn([by("ann", web)], 1)
    with pytest.raises(Unavailable, match="no source"):
        sources.get_block(DIGESTS[0])
    assert web.asked == []


def test_what_failed_is_named(net: Net, daemon: DevIpfsDaemon) -> None:
    web = net.server("refuse")
    sources = knowing(leader(web), own=ContentStore(daemon.url))
    with pytest.raises(Unavailable) as caught:
        sources.get_block(DIGESTS[0])
    assert daemon.url in str(caught.value)
    assert web.gateway.line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_own_store_that_is_down_costs_no_update(net: Net) -> None:
    own = ContentStore(f"http://127.0.0.1:{free_port()}", timeout_s=5)
    read_all(knowing(by("ann", net.server()), own=own), "ann")


def test_an_own_store_that_takes_connections_and_stays_silent_costs_no_update(net: Net) -> None:
    """As a daemon that hangs: the kernel still takes connections for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        own = ContentStore(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=20)
        began = time.monotonic()
        read_all(knowing(by("ann", net.server()), own=own), "ann")
        # The 0.2 s that it has before the next source, once, and nothing of its 20 s.
        assert 0.2 <= time.monotonic() - began < 2
        silent.settimeout(0.2)
        asked, _ = silent.accept()
        asked.close()
        with pytest.raises(TimeoutError):
            silent.accept()


def test_a_block_of_another_size_is_its_authors_fault_at_once(net: Net) -> None:
    sources = knowing(leader(net.server()), by("ann", net.server("stall")))
    with pytest.raises(Rejected) as caught:
        sources.get_block(DIGESTS[0], len(DATA[0]) + 1)
    assert caught.value.check == Check.DIGESTS


def test_the_deadline_ends_the_race(net: Net) -> None:
    sources = Sources(None, LOCAL)  # 30 s of patience with each
    sources.learn([by("ann", net.server("stall")), by("bob", net.server("drip"))], 1)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        sources.get_block(DIGESTS[0], deadline=began + 0.5)
    assert time.monotonic() - began < 2


class Deaf(ContentStore):
    """A store whose requests cannot be told when to end."""

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        threading.Event().wait(20)
        return DATA[0]


def test_a_deadline_holds_for_an_own_store_that_knows_none(daemon: DevIpfsDaemon) -> None:
    sources = Sources(Deaf(daemon.url), LOCAL)
    with pytest.raises(Unavailable, match="no source had it in time"):
        sources.get_block(DIGESTS[0], deadline=time.monotonic() + 0.2)


# --------------------------------------------------------------------- what lies cost


LIES: list[Lie] = [
    "flip",
    "truncate",
    "gigabyte",
    "endless",
    "drip",
    "stall",
    "redirect",
    "unpacked",
    "page",
    "refuse",
]


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_line_costs_three_requests_and_nobody_else_anything(
    net: Net, monkeypatch: pytest.MonkeyPatch, lie: Lie
) -> None:
    monkeypatch.setattr(announced, "_PAUSES_S", (0.0, 0.0))
    liar, honest = net.server(lie), net.server()
    sources = knowing(leader(liar), by("ann", honest))
    for _ in range(4):
        read_all(sources, "ann")
    for _ in range(6):  # also when it is the only one left to ask
        with pytest.raises(Unavailable):
            sources.of("bob").get_block(DIGESTS[0], len(DATA[0]))
    # A probe that is answered is one more.
    assert len(liar.asked) in (3, 4)
    assert honest.cids[:1] == [EMPTY_CID]
    sources.learn([leader(liar), by("ann", honest)], 2)
    with pytest.raises(Unavailable):
        sources.of("bob").get_block(DIGESTS[0], len(DATA[0]))
    assert len(liar.asked) in (4, 6)  # a new round


def test_who_does_not_answer_the_probe_is_asked_for_nothing(net: Net) -> None:
    """A victim's host, which never wanted any of this: few requests, none of them for content."""
    victim = net.server("page")
    attackers = [by(f"0x{number}", victim) for number in range(5)]
    sources = knowing(*attackers)
    with ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(sources.get_block, digest) for digest in DIGESTS * 10]
        assert all(isinstance(job.exception(), Unavailable) for job in jobs)
    assert set(victim.cids) == {EMPTY_CID}
    assert len(victim.asked) <= 3 * len(attackers)
    assert victim.most_at_once <= 2 * len(attackers)


def test_an_attacker_that_names_an_honest_gateway_spends_its_own_budget(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "_PAUSES_S", (0.0, 0.0))
    web = net.server("refuse")
    sources = knowing(by("attacker", web), by("ann", web))
    for _ in range(5):
        with pytest.raises(Unavailable):
            sources.of("attacker").get_block(DIGESTS[0])
    web.lie = ""
    read_all(sources, "ann")


def test_new_lines_every_minute_end_with_the_announcers_budget(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "_PAUSES_S", (0.0, 0.0))
    servers = [net.server("refuse") for _ in range(30)]
    sources = Sources(None, LOCAL, timeout_s=1.0)
    for server in servers:
        sources.learn([by("attacker", server)], 1)
        with pytest.raises(Unavailable):
            sources.get_block(DIGESTS[0])
    assert sum(len(server.asked) for server in servers) == 12


def test_a_gateway_without_the_blocks_is_left_alone_in_time(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "_MISSES", 10)
    empty = net.server(blocks={})
    sources = knowing(leader(empty))
    for number in range(50):
        with pytest.raises(Unavailable):
            sources.get_block(digest_of(b"%d" % number))
    assert len(empty.asked) == 11


def test_misses_are_no_failures(net: Net) -> None:
    web = net.server()
    sources = knowing(by("ann", web))
    for number in range(20):
        with pytest.raises(Unavailable):
            sources.get_block(digest_of(b"%d" % number))
    read_all(sources)


def test_an_outage_is_one_failure(net: Net) -> None:
    """All requests under way fail together when a gateway is restarted."""
    web = net.server()
    sources = knowing(by("ann", web))
    read_all(sources)
    web.lie, web.hold = "refuse", threading.Event()
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(sources.get_block, digest) for digest in DIGESTS[:2]]
        while web.open < 2:
            assert not any(job.done() for job in jobs)
        web.hold.set()
        assert all(isinstance(job.exception(), Unavailable) for job in jobs)
    web.lie, web.hold = "", None
    (line,) = sources._current
    assert line._failures == 1


def test_two_requests_are_in_flight(net: Net) -> None:
    first, second = net.server(), net.server()
    sources = knowing(by("ann", first, second))
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(sources.get_block, DIGESTS * 4)) == DATA * 4
    assert max(first.most_at_once, second.most_at_once) <= 2


def test_private_addresses_are_not_dialled_for_strangers(net: Net) -> None:
    web = net.server()
    sources = Sources(None, DialRules(), timeout_s=1.0)
    sources.learn([leader(web), by("ann", Gateway("https", "localhost", 443))], 1)
    with pytest.raises(Unavailable):
        sources.get_block(DIGESTS[0])
    assert web.asked == []


# ----------------------------------------------------------------------------- peers


class Peering:
    """A store that writes down whom it is to stay connected to."""

    def __init__(self, daemon: DevIpfsDaemon) -> None:
        self._store = ContentStore(daemon.url)
        self.kept: dict[str, list[str]] = {}
        self.changed = threading.Condition()

    def keep_peer(self, addresses: list[str]) -> None:
        with self.changed:
            self.kept[addresses[0].rpartition("/")[2]] = addresses
            self.changed.notify_all()

    def connect_peer(self, addresses: list[str]) -> None:
        self._store.connect_peer(addresses)

    def drop_peer(self, peer_id: str) -> None:
        with self.changed:
            self.kept.pop(peer_id)
            self.changed.notify_all()

    def is_told(self, wanted: dict[str, list[str]]) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.kept == wanted, 10)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


OTHER = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
HERE = PeerAddress("ip4", "127.0.0.1", "tcp", 4001)
NAMED = PeerAddress("dns4", "localhost", "udp/quic-v1", 4002)


def test_peers_are_handed_on_by_address_and_dropped_when_they_are_gone(
    daemon: DevIpfsDaemon,
) -> None:
    own = Peering(daemon)
    sources = Sources(own, LOCAL)  # type: ignore[arg-type]
    sources.learn([leader(Peer(ID, HERE), Peer(ID, NAMED)), by("ann", Peer(OTHER))], 1)
    both = [f"/ip4/127.0.0.1/tcp/4001/p2p/{ID}", f"/ip4/127.0.0.1/udp/4002/quic-v1/p2p/{ID}"]
    assert own.is_told({ID: both, OTHER: [f"/p2p/{OTHER}"]})
    sources.learn([by("ann", Peer(OTHER))], 1)
    assert own.is_told({OTHER: [f"/p2p/{OTHER}"]})


def test_private_addresses_and_other_authors_are_not_peered_with(daemon: DevIpfsDaemon) -> None:
    own = Peering(daemon)
    sources = Sources(own, DialRules(), peers_with_authors=False)  # type: ignore[arg-type]
    public = PeerAddress("ip4", "8.8.8.8", "tcp", 4001)
    sources.learn([leader(Peer(ID, HERE), Peer(ID, public)), by("ann", Peer(OTHER, public))], 1)
    assert own.is_told({ID: [f"/ip4/8.8.8.8/tcp/4001/p2p/{ID}"]})


def test_a_daemon_that_knows_no_peering_is_no_failure(proxy: LyingProxy) -> None:
    own = ContentStore(proxy.url)
    sources = knowing(leader(Peer(ID, HERE)), own=own)
    assert sources.get_block(sources.put_block(b"one")) == b"one"


def test_sources_are_a_store(daemon: DevIpfsDaemon, tmp_path: Path) -> None:
    store: Store = Sources(ContentStore(daemon.url), LOCAL)
    assert store.get_block(store.put_block(b"one")) == b"one"
    with pytest.raises(Unavailable):
        store.get_block(Digest(bytes(32)))


class Broken(ContentStore):
    """A store with a fault of its program."""

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        raise ZeroDivisionError("a fault of ours")


def test_a_fault_of_the_program_is_raised_and_not_waited_for(daemon: DevIpfsDaemon) -> None:
    with pytest.raises(ZeroDivisionError):
        Sources(Broken(daemon.url), LOCAL).get_block(DIGESTS[0])
