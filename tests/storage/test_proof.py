"""A store is shown to take an upload and to give it back, by the requests that an update takes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from devnet.ipfs.daemon import DevIpfsDaemon
from protocol.canonical import sha256
from protocol.cid import raw_cid
from protocol.errors import Misconfigured, Unavailable
from storage.blocks import MAX_BLOCK_BYTES
from storage.bucket import BucketStore
from storage.dial import DialRules
from storage.gateway import GatewayStore, Missing
from storage.ipfs import ContentStore
from storage.proof import prove_gateway, prove_store
from tests.storage.lying_proxy import LyingProxy
from tests.storage.test_bucket import web_server
from tests.storage.web_server import Lie, WebServer

SIZE = 2 * MAX_BLOCK_BYTES + 5


def blocks_in(daemon: DevIpfsDaemon) -> set[str]:
    found = ContentStore(daemon.url)._client.pin.ls()["Keys"].as_json()
    return set(found)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[tuple[BucketStore, GatewayStore]]:
    store = BucketStore(str(tmp_path / "www" / "a"))
    with web_server(tmp_path / "www") as address:
        yield store, GatewayStore(address, DialRules(allow_private=True), timeout_s=5)


def test_a_sound_store_is_left_as_it_was(daemon: DevIpfsDaemon, proxy: LyingProxy) -> None:
    assert prove_store(ContentStore(proxy.url), SIZE) > 0
    assert blocks_in(daemon) == set()
    assert sum(map(len, proxy.sent)) > SIZE  # all of it, in the form of an update
    assert prove_store(ContentStore(proxy.url), 0) > 0


def test_what_others_read_is_what_is_read_back(
    public: tuple[BucketStore, GatewayStore], tmp_path: Path
) -> None:
    store, gateway = public
    assert prove_store(store, SIZE, gateway) > 0
    assert [path.name for path in (tmp_path / "www" / "a" / "ipfs").iterdir()] == ["bafkqaaa"]
    with WebServer({}) as elsewhere:
        wrong = GatewayStore(elsewhere.gateway, DialRules(allow_private=True))
        with pytest.raises(Unavailable, match=elsewhere.gateway.line):
            prove_store(store, SIZE, wrong)
    assert [path.name for path in (tmp_path / "www" / "a" / "ipfs").iterdir()] == ["bafkqaaa"]


def test_a_store_that_limits_bodies_does_not_pass(
    daemon: DevIpfsDaemon, proxy: LyingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = proxy.forward

    def limited(path: str, body: bytes, kind: str) -> tuple[int, dict[str, str], bytes]:
        if len(body) > 1_500:
            return 413, {"Content-Type": "text/html"}, b"<h1>413 Request Entity Too Large</h1>"
        return forward(path, body, kind)

    monkeypatch.setattr(proxy, "forward", limited)
    store = ContentStore(proxy.url)
    assert prove_store(store, 1_000) > 0
    with pytest.raises(Unavailable, match="block/put: HTTP 413"):
        prove_store(store, 2_000)
    assert blocks_in(daemon) == set()


def test_a_store_that_loses_what_it_took_does_not_pass(
    proxy: LyingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ContentStore(proxy.url)
    monkeypatch.setattr(store, "_keep", lambda blocks: None)
    with pytest.raises(Unavailable, match="has lost what it took"):
        prove_store(store, 2_000)


LOCAL = DialRules(allow_private=True)
OTHERS = sha256(b"another's")


def test_a_gateway_of_what_the_store_holds(
    public: tuple[BucketStore, GatewayStore], tmp_path: Path
) -> None:
    store, gateway = public
    prove_store(store, 1)  # puts what a gateway is asked for at first
    # The same web server shows another role's store, below another path.
    other = BucketStore(str(tmp_path / "www" / "b"))
    assert other.put_block(b"another's") == OTHERS
    theirs = GatewayStore(replace(gateway.gateway, path="/b"), LOCAL)
    assert theirs.get_block(OTHERS) == b"another's"
    with pytest.raises(Missing):
        gateway.get_block(OTHERS)
    prove_gateway(gateway, store, [OTHERS])
    with pytest.raises(Misconfigured, match="does not hold"):  # the wrong prefix was announced
        prove_gateway(theirs, store, [OTHERS])
    store.put_block(b"another's")
    assert gateway.get_block(OTHERS) == b"another's"


def test_a_gateway_that_serves_what_others_hold(daemon: DevIpfsDaemon) -> None:
    store = ContentStore(daemon.url)
    with WebServer({raw_cid(OTHERS): b"another's"}) as server:
        gateway = GatewayStore(server.gateway, LOCAL)
        prove_gateway(gateway, store)  # it has nothing that nobody has
        with pytest.raises(Misconfigured, match=r"anybody could fetch.*NoFetch = true") as caught:
            prove_gateway(gateway, store, [OTHERS])
        assert str(caught.value).startswith(server.gateway.line)
        store.put_block(b"another's")
        prove_gateway(gateway, store, [OTHERS])


@pytest.mark.parametrize("lie", ["stall", "refuse"])
def test_a_gateway_that_looks_for_what_nobody_has(
    daemon: DevIpfsDaemon, monkeypatch: pytest.MonkeyPatch, lie: Lie
) -> None:
    monkeypatch.setattr("storage.proof._AT_ONCE_S", 0.5)
    store = ContentStore(daemon.url)
    with WebServer({}) as server:
        gateway = GatewayStore(server.gateway, LOCAL)
        monkeypatch.setattr(gateway, "probe", lambda: setattr(server, "lie", lie))
        with pytest.raises(Unavailable, match=r"should say so\. Does it look for it elsewhere"):
            prove_gateway(gateway, store)
