"""What a role's own daemon is told about the others' before they look into it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devnet.ipfs.daemon import DevIpfsDaemon
from protocol.whereabouts import Peer
from rounds.whereabouts import meet_peers
from storage.bucket import BucketStore
from storage.sources import Sources
from tests.storage.test_sources import HERE, ID, LOCAL, Peering, leader
from tests.world import World

TOLD = {ID: [f"/ip4/127.0.0.1/tcp/4001/p2p/{ID}"]}


class Restarted:
    """A daemon that was told of a peer, has been restarted, and knows nobody any more."""

    def __init__(self, daemon: DevIpfsDaemon) -> None:
        self.own = Peering(daemon)
        self.sources = Sources(self.own, LOCAL)  # type: ignore[arg-type]
        self.sources.learn([leader(Peer(ID, HERE))], 1)
        assert self.own.is_told(TOLD)
        self.own.kept.clear()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DevIpfsDaemon]:
    daemon = DevIpfsDaemon(tmp_path / "ipfs")
    daemon.start()
    yield daemon
    daemon.stop()


def test_a_daemon_is_told_at_once_and_not_after_half_a_minute(daemon: DevIpfsDaemon) -> None:
    restarted = Restarted(daemon)
    restarted.sources.get_block(restarted.sources.put_block(b"one"))
    time.sleep(0.5)
    assert restarted.own.kept == {}  # it was told a moment ago
    meet_peers(restarted.sources)
    assert restarted.own.is_told(TOLD)


def test_whoever_has_no_daemon_or_no_others_meets_nobody(
    daemon: DevIpfsDaemon, tmp_path: Path
) -> None:
    own, bucket = Peering(daemon), BucketStore(str(tmp_path / "www"))
    for store in (own, bucket, Sources(bucket, LOCAL), Sources(None, LOCAL)):
        meet_peers(store)  # type: ignore[arg-type]
    assert own.kept == {}


def test_a_participant_meets_its_peers_before_it_reveals(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        hub = Peer(ID, HERE)
        world.client(world.aggregator_wallet).announce(hub.line)
        own, ann = Peering(world.daemon), world.participants["ann"]
        ann.store = Sources(own, LOCAL)  # type: ignore[arg-type]
        round_id = world.open_round()
        world.ask("commit", round_id)
        assert own.is_told(TOLD)
        own.kept.clear()  # the daemon is restarted
        ann.reveal(round_id)
        assert own.is_told(TOLD)
