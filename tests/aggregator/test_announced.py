"""What an aggregator must announce before it bonds, and what it finds that members announced."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aggregator.aggregator import Aggregator
from aggregator.announced import PlaceChecks
from aggregator.leader import open_aggregator
from aggregator.settings import AggregatorSettings
from chain.location import FederationLocation
from commonweight.cli import main
from contracts.enums import AggregatorState, Status
from protocol.canonical import sha256
from protocol.cid import raw_cid
from protocol.errors import Misconfigured, Unavailable
from runtime.events import Event
from runtime.metrics import Metrics
from runtime.settings import write_location, write_toml
from runtime.stores import StoreSettings
from storage.gateway import EMPTY_CID
from tests.ethereum.anvil import needs_anvil, running_anvil
from tests.passwords import write_password
from tests.storage.test_bucket import web_server
from tests.storage.web_server import WebServer
from tests.world import World, as_dict

PUBLIC_CHAIN = 4242  # by its id nobody's development chain


class Fetched(dict[str, bytes]):
    """The blocks that a gateway has of a folder, or else of others."""

    def __init__(self, folder: Path, others: dict[str, bytes]) -> None:
        super().__init__(others)
        self._folder = folder

    def get(self, cid: str, default: Any = None) -> Any:
        own = self._folder / cid
        return own.read_bytes() if own.exists() else super().get(cid, default)


class Listed:
    """An aggregator that the sponsor listed and that has not bonded, on a public chain."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.world, self.stack = world, stack
        self.folder = world.folder / "own"
        self.wallet = world.aggregator_wallet
        location = FederationLocation(
            address=world.address,
            chain_id=PUBLIC_CHAIN,
            deployment_block=world.deployment_block,
            rpc_url=world.rpc_url,
            ipfs_url=world.daemon.url,
        )
        self.folder.mkdir()
        # Without a daemon the founding is read from where the sponsor says that it is.
        founded = [path.read_bytes() for path in (world.folder / "ipfs").rglob("*.data")]
        shown = {raw_cid(sha256(block)): block for block in founded}
        sponsor = world.client(world.sponsor.wallet)
        sponsor.announce(stack.enter_context(WebServer(shown)).gateway.line)
        write_location(self.folder / "federation.json", location)
        self.wallet.save_keystore(self.folder / "wallet.json", "long enough", work_factor=2**12)
        write_password(self.folder / "password", "long enough\n")

    def settle(self, **store: Any) -> Path:
        """Write the settings, with this section [store]; return their file."""
        own = {"federation": "federation.json", "keystore": "wallet.json"}
        file = self.folder / "aggregator.toml"
        more = {"store": {"allow_private": True, **store}} if store else {}
        write_toml(file, {**own, "password_file": "password", **more})
        return file

    def open(self, *, dev: bool = False, **store: Any) -> Aggregator:
        settings = AggregatorSettings.load(self.settle(**store))
        return open_aggregator(settings, self.wallet, lambda event: None, dev=dev)

    def init(self, *options: str) -> str:
        """Return what `aggregator init` prints, the settings as they were written before."""
        command = ["aggregator", "init", "--yes", "--folder", str(self.folder), *options]
        return CliRunner().invoke(main, command).output

    def is_bonded(self) -> bool:
        state = self.world.client().aggregator_state(self.wallet.address)
        return state is AggregatorState.BONDED


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listed]:
    monkeypatch.setenv("COMMONWEIGHT_HOME", str(tmp_path))
    with ExitStack() as stack:
        url = stack.enter_context(running_anvil("--chain-id", str(PUBLIC_CHAIN)))
        yield Listed(stack.enter_context(World(tmp_path, rpc_url=url)), stack)


@needs_anvil
def test_no_bond_without_a_gateway_where_money_is_at_stake(listed: Listed) -> None:
    with pytest.raises(Misconfigured, match=r"no gateway is named.*docs/stores\.md") as caught:
        listed.open()
    assert "\n" not in str(caught.value)
    assert "MISSING  announces    no gateway is named" in listed.init()
    assert "MISSING  announces" not in listed.init("--dev")
    done = CliRunner().invoke(main, ["aggregator", "run", "--config", str(listed.settle())])
    assert done.exit_code == 1
    assert "no gateway is named" in done.output.strip().splitlines()[-1]
    assert not listed.is_bonded()
    listed.open(dev=True).bond()
    assert listed.is_bonded()
    listed.open()  # bonded already, it must go on


@needs_anvil
def test_the_bond_waits_for_a_gateway_that_shows_the_store(listed: Listed) -> None:
    own = listed.folder / "www" / "a"
    with WebServer({}) as elsewhere:  # a gateway, but not of this store
        aggregator = listed.open(bucket=str(own), public=elsewhere.gateway.line)
        with pytest.raises(Unavailable, match=elsewhere.gateway.line):
            aggregator.bond()
    with pytest.raises(Unavailable, match="refused"):  # nothing is there any more
        aggregator.bond()
    assert not listed.is_bonded()
    line = listed.stack.enter_context(web_server(own.parent)).line
    aggregator = listed.open(bucket=str(own), public=line)
    output, size = listed.init(), aggregator.spec.total_bytes("model")
    assert f"ok       gateway      {line} shows what this store holds, no more" in output
    assert f"{size:,} bytes written and read back" in output  # as much as it will publish
    aggregator.bond()
    assert listed.is_bonded()


@needs_anvil
def test_no_bond_behind_a_gateway_that_fetches_for_everybody(listed: Listed) -> None:
    """As Kubo's own without NoFetch: it has what the sponsor has, whoever asks."""
    own, founded = listed.folder / "www" / "a", listed.world.client().terms().identity
    server = listed.stack.enter_context(WebServer({}))
    elsewhere = listed.world.store.get_block(founded.initial_model_manifest)
    server.blocks = Fetched(own / "ipfs", {raw_cid(founded.initial_model_manifest): elsewhere})
    aggregator = listed.open(bucket=str(own), public=server.gateway.line)
    # An aggregator takes the founding into its store when it starts, unless somebody else has it.
    aggregator.store.remove_blocks([founded.initial_model_manifest])
    with pytest.raises(Misconfigured, match=r"serves a block that .* does not hold.*NoFetch"):
        aggregator.bond()
    assert not listed.is_bonded()
    assert "MISSING  gateway" in listed.init()


# ------------------------------------------------------------------- members


class Asking:
    """The checks of an aggregator whose members announce what a test lets them."""

    def __init__(self, world: World, **store: Any) -> None:
        self.world = world
        self.said: list[dict[str, Any]] = []
        self.metrics = Metrics()
        world.aggregator.report = self._report
        self.checks = PlaceChecks(world.aggregator, StoreSettings(**store))

    def _report(self, event: Event) -> None:
        self.said.append(as_dict(event))
        self.metrics.report(event)

    def announce(self, name: str, *lines: str) -> None:
        self.world.client(self.world.wallets[name]).announce("\n".join(lines))

    def look(self) -> float:
        """Look; return the seconds until the aggregator can go on."""
        began = time.monotonic()
        self.checks.look(self.world.client().now())
        return time.monotonic() - began

    def until_done(self) -> list[dict[str, Any]]:
        for thread in self.checks._threads:
            thread.join(30)
            assert not thread.is_alive()
        return self.said

    def counted(self, answers: str) -> float | None:
        name = "commonweight_announced_places_total"
        return self.metrics.registry.get_sample_value(name, {"answers": answers})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def test_what_members_announced_is_asked_once_and_told(world: World) -> None:
    with WebServer({}) as answers, WebServer({}) as page:
        page.lie = "page"
        asking = Asking(world, allow_private=True)
        asking.announce("ann", answers.gateway.line, page.gateway.line)
        asking.look()
        fine, wrong = asking.until_done()
        ann, now = world.address_of("ann"), fine.pop("seconds")
        line = answers.gateway.line
        assert fine == {"phase": "announced place answers", "member": ann, "place": line}
        assert 0 <= now < 20
        assert wrong["place"] == page.gateway.line
        assert "is no gateway" in wrong["reason"]
        assert (asking.counted("yes"), asking.counted("no")) == (1, 1)
        asking.look()
        assert len(asking.until_done()) == 2  # nothing new was announced
        asking.announce("ann", answers.gateway.line)
        asking.look()
        assert len(asking.until_done()) == 3
        assert answers.cids == [EMPTY_CID] * 2


def test_the_contract_is_asked_only_after_an_announcement(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WebServer({}) as answers:
        asking, line = Asking(world, allow_private=True), answers.gateway.line
        world.client(world.aggregator_wallet).announce(line)  # its own is none to ask about
        asking.announce("ann", line)
        asking.look()
        asking.until_done()
        assert "eth_call" not in requests_of_a_look(asking, monkeypatch)
        asking.announce("bob", line)
        assert "eth_call" in requests_of_a_look(asking, monkeypatch)
        members = [each["member"] for each in asking.until_done()]
        assert members == [world.address_of("ann"), world.address_of("bob")]


def requests_of_a_look(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Look, and return what the node was asked that a look at the history does not ask."""
    now, asked = asking.world.client().now(), list[str]()
    now.history()
    manager = asking.world.w3.manager
    request = manager.request_blocking

    def counting(method: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(method)
        return request(method, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(manager, "request_blocking", counting)
        asking.checks.look(now)
    return asked


def test_nobody_waits_for_a_place_that_never_answers(world: World) -> None:
    release = threading.Event()
    with WebServer({}) as stalls:
        stalls.hold = release
        asking = Asking(world, allow_private=True)
        for name in world.names:
            asking.announce(name, stalls.gateway.line, f"{stalls.gateway.line}/b")
        assert asking.look() < 5
        assert asking.look() < 5  # while the first is still under way
        assert world.play() is Status.FINALIZED
        assert len(stalls.asked) <= len(world.names)
        release.set()
        asking.until_done()


def test_addresses_that_not_everybody_can_reach_are_not_dialled(world: World) -> None:
    with WebServer({}) as inside:
        asking = Asking(world)
        asking.announce("ann", f"https://127.0.0.1/{inside.gateway.port}", inside.gateway.line)
        asking.look()
        private, plain = (each["reason"] for each in asking.until_done())
        assert "where not everybody can reach it" in private
        assert "https on port 443 alone" in plain
        assert inside.asked == []
