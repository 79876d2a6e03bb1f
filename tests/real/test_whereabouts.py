"""Kubos that know nobody, without routing and bootstrap nodes, find each other by the chain."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.errors import Unavailable
from protocol.whereabouts import Peer, Place, parse_place
from storage.dial import DialRules
from storage.ipfs import ContentStore
from storage.sources import Sources
from tests.real.kubo import Kubo
from tests.storage.content import content

LOCAL = DialRules(allow_private=True)


@dataclass(frozen=True)
class Announcer:
    who: str
    places: tuple[Place, ...]
    is_author: bool


class Strangers:
    """A Kubo and its sources for each name, none of which knows another."""

    def __init__(self, folder: Path, stack: ExitStack, names: tuple[str, ...]) -> None:
        self.kubos = {name: Kubo(folder / name) for name in names}
        self.stack = stack

    def start(self) -> None:
        for kubo in self.kubos.values():
            self.stack.enter_context(kubo)
        self.sources = {
            name: Sources(ContentStore(kubo.url, timeout_s=20), LOCAL, itself=name)
            for name, kubo in self.kubos.items()
        }

    def place(self, name: str, *, has_address: bool) -> Peer:
        peer = self.kubos[name].peer
        place = parse_place(f"{peer.address if has_address else ''}/p2p/{peer.id}")
        assert isinstance(place, Peer)
        return place

    def learn(self, *reachable: str) -> None:
        """Let everybody learn where everybody is; who is not `reachable` says only its ID."""
        announced = [
            Announcer(name, (self.place(name, has_address=name in reachable),), name != "hub")
            for name in self.kubos
        ]
        for sources in self.sources.values():
            sources.learn(announced, 1)

    def reads(self, reader: str, author: str, number: int) -> bytes:
        """Put a new block at one, and read it at the other."""
        digest = self.sources[author].put_block(content(200_000 + number))
        return self.sources[reader].get_block(digest, 200_000 + number)


NAMES = ("hub", "ann", "bob", "cem", "dan")


@pytest.fixture
def strangers(tmp_path: Path) -> Iterator[Strangers]:
    with ExitStack() as stack:
        yield Strangers(tmp_path, stack, NAMES)


def test_who_is_told_nothing_finds_nothing(strangers: Strangers) -> None:
    strangers.start()
    reader = Sources(ContentStore(strangers.kubos["hub"].url, timeout_s=2), LOCAL)
    digest = strangers.sources["ann"].put_block(b"ann's")
    with pytest.raises(Unavailable, match=r"silent for 2 s|took longer"):
        reader.get_block(digest)


def test_all_find_the_hub_and_the_hub_all(strangers: Strangers) -> None:
    strangers.start()
    strangers.learn("hub")  # the others say only who they are
    for number, name in enumerate(NAMES[1:]):
        assert strangers.reads("hub", name, 2 * number) == content(200_000 + 2 * number)
        assert strangers.reads(name, "hub", 2 * number + 1) == content(200_001 + 2 * number)


def test_links_outlive_a_hub_that_keeps_few(strangers: Strangers) -> None:
    strangers.kubos["hub"].limit_connections(2)
    strangers.start()
    strangers.learn("hub")
    others = [strangers.kubos[name] for name in NAMES[1:]]
    strangers.kubos["hub"].await_peers(others)
    for number in range(8):  # each is asked in turn, past the grace period
        name = NAMES[1 + number % 4]
        assert strangers.reads("hub", name, number) == content(200_000 + number)
    strangers.kubos["hub"].await_peers(others)


def test_a_restarted_daemon_is_told_again(
    strangers: Strangers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sources._PEERING_AGAIN_S", 0.5)
    strangers.start()
    strangers.learn("hub")
    strangers.kubos["hub"].await_peers(strangers.kubos[name] for name in NAMES[1:])
    hub = strangers.kubos["hub"]
    hub.stop()
    hub.start()
    strangers.learn("hub")
    assert strangers.reads("hub", "ann", 1) == content(200_001)
    ann = strangers.kubos["ann"]
    ann.stop()
    ann.start()
    strangers.learn("hub")
    assert strangers.reads("hub", "ann", 2) == content(200_002)
    assert strangers.reads("ann", "hub", 3) == content(200_003)


def test_a_daemon_replaced_by_another_is_found_at_its_new_place(
    strangers: Strangers, tmp_path: Path
) -> None:
    strangers.start()
    strangers.learn("hub")
    assert strangers.reads("hub", "ann", 1) == content(200_001)
    old = strangers.kubos["ann"]
    old.kill()
    new = strangers.kubos["ann"] = old.successor(tmp_path / "ann-2")
    assert new.peer.id != old.peer.id
    strangers.stack.enter_context(new)
    own = ContentStore(new.url, timeout_s=20)
    strangers.sources["ann"] = Sources(own, LOCAL, itself="ann")
    strangers.learn("hub", "ann")
    assert strangers.reads("hub", "ann", 2) == content(200_002)


def test_a_connection_shows_that_the_id_is_the_peers_own(strangers: Strangers) -> None:
    strangers.start()
    hub, ann = (strangers.kubos[name].peer for name in ("hub", "ann"))
    store = ContentStore(strangers.kubos["bob"].url)
    with pytest.raises(Unavailable):
        store.connect_peer([f"/p2p/{hub.id}"])  # not connected, and nobody knows where it is
    with pytest.raises(Unavailable):
        store.connect_peer([f"{hub.address}/p2p/{ann.id}"])  # somebody else answers there
    store.connect_peer([f"{hub.address}/p2p/{hub.id}"])
    store.connect_peer([f"/p2p/{hub.id}"])


def test_a_daemon_forgets_whom_it_is_told_to_drop(strangers: Strangers) -> None:
    strangers.start()
    strangers.learn("hub")
    store, ann = ContentStore(strangers.kubos["hub"].url), strangers.kubos["ann"].peer.id
    strangers.kubos["hub"].await_peers([strangers.kubos["ann"]])
    store.drop_peer(ann)
    kept = strangers.kubos["hub"].ask("swarm/peering/ls")["Peers"]
    assert ann not in {each["ID"] for each in kept}
