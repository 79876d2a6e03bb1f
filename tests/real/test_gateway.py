"""A Kubo's own gateway: with NoFetch it shows what its daemon holds, without it is a proxy."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from protocol.errors import Misconfigured, Unavailable
from protocol.whereabouts import Gateway, parse_place
from storage.dial import DialRules
from storage.gateway import GatewayStore
from storage.ipfs import ContentStore
from storage.proof import prove_gateway, prove_store
from tests.real.kubo import Kubo


class Pair:
    """A Kubo with a gateway, connected to another that has blocks of its own."""

    def __init__(self, folder: Path, stack: ExitStack, *, fetches: bool) -> None:
        own, other = Kubo(folder / "own"), Kubo(folder / "other")
        line = own.open_gateway(fetches=fetches)
        for kubo in (own, other):
            stack.enter_context(kubo)
        self.store, self.other = ContentStore(own.url), ContentStore(other.url)
        self.store.connect_peer([f"{other.peer.address}/p2p/{other.peer.id}"])
        place = parse_place(line)
        assert isinstance(place, Gateway)
        self.gateway = GatewayStore(place, DialRules(allow_private=True))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_gateway_that_fetches_nothing(tmp_path: Path, stack: ExitStack) -> None:
    pair = Pair(tmp_path, stack, fetches=False)
    theirs = pair.other.put_block(b"another's")
    prove_store(pair.store, 10_000, pair.gateway)
    prove_gateway(pair.gateway, pair.store, [theirs])
    assert not pair.store.has(theirs)


def test_a_gateway_as_kubo_has_it_by_default(tmp_path: Path, stack: ExitStack) -> None:
    pair = Pair(tmp_path, stack, fetches=True)
    with pytest.raises(Unavailable, match=r"should say so\. Does it look for it elsewhere"):
        prove_gateway(pair.gateway, pair.store)  # it searches for what nobody has
    with pytest.raises(Misconfigured, match="anybody could fetch"):
        prove_gateway(pair.gateway, pair.store, [pair.other.put_block(b"another's")])
