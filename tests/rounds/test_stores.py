"""Rounds in which everybody has a store of its own, and finds the others' from the chain alone."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from auditor.check_result import CheckResult
from auditor.replay import Audit
from contracts.enums import Status
from node.participant import Participant
from protocol.canonical import sha256
from protocol.cid import raw_cid
from protocol.errors import Unavailable
from protocol.types import RoundId
from rounds.whereabouts import learn_places
from runtime.processes import free_port
from storage.bucket import BucketStore
from storage.dial import DialRules
from storage.ipfs import ContentStore
from storage.sources import Sources
from tests.storage.test_bucket import web_server
from tests.storage.web_server import Lie, WebServer
from tests.world import World

pytestmark = pytest.mark.long

LOCAL = DialRules(allow_private=True)


class Scattered:
    """A world whose daemon only the sponsor has; the others have folders behind web servers."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.world, self.stack = world, stack
        for name, participant in world.participants.items():
            participant.store = self.store(name)
            self.announce(name)
        world.aggregator.store = self.store("aggregator")
        self.announce("aggregator")
        # What it founded was put into the daemon; it publishes that as well.
        founded = [path.read_bytes() for path in (world.folder / "ipfs").rglob("*.data")]
        shown = {raw_cid(sha256(block)): block for block in founded}
        self.sponsor = stack.enter_context(WebServer(shown))
        sponsor = world.client(world.sponsor.wallet)
        sponsor.announce(self.sponsor.gateway.line)
        learn_places(world.aggregator.store, world.client())  # as at its start

    def folder(self, name: str) -> Path:
        return self.world.folder / "www" / name

    def store(self, name: str) -> Sources:
        wallet = self.world.wallets.get(name, self.world.aggregator_wallet)
        own = BucketStore(str(self.folder(name) / "a"))
        own.put_block(b"")  # as `init` does when it proves the store
        return Sources(own, LOCAL, itself=wallet.address, timeout_s=2)

    def announce(self, name: str, line: str | None = None) -> None:
        wallet = self.world.wallets.get(name, self.world.aggregator_wallet)
        if line is None:
            line = self.stack.enter_context(web_server(self.folder(name))).line
        self.world.client(wallet).announce(line)

    def block(self, name: str) -> None:
        """Let a store take nothing any more, and have nothing."""
        folder = self.folder(name) / "a" / "ipfs"
        shutil.rmtree(folder, ignore_errors=True)
        folder.write_text("in the way")

    def unblock(self, name: str) -> None:
        """Mend a store."""
        (self.folder(name) / "a" / "ipfs").unlink()

    def audit(self) -> list[CheckResult]:
        """Audit from the chain and over HTTP alone."""
        folder = self.world.folder / f"audit-{len(list(self.world.folder.glob('audit-*')))}"
        store = Sources(None, LOCAL, timeout_s=2)
        return list(Audit(self.world.client(), store, folder).run())


@pytest.fixture
def scattered(tmp_path: Path) -> Iterator[Scattered]:
    with World(tmp_path) as world, ExitStack() as stack:
        yield Scattered(world, stack)


def test_rounds_are_paid_and_audited_over_plain_http(scattered: Scattered) -> None:
    world = scattered.world
    for _ in range(2):
        assert world.play() is Status.FINALIZED
    assert world.rejections() == {}
    assert all(world.told(RoundId(2)).paid_to(world.address_of(name)) for name in world.names)
    assert [check.line() for check in scattered.audit() if check.passed is not True] == []


def test_what_was_accepted_outlives_its_authors(scattered: Scattered) -> None:
    world = scattered.world
    assert world.play() is Status.FINALIZED
    for name in world.names:
        shutil.rmtree(scattered.folder(name))
    assert [check.line() for check in scattered.audit() if check.passed is not True] == []


def test_aggregators_keep_what_the_federation_was_founded_with(scattered: Scattered) -> None:
    world = scattered.world
    world.aggregator.keep_founding()
    scattered.sponsor.blocks.clear()
    world.aggregator.keep_founding()  # it is there by now
    assert "not kept" not in {each["phase"] for each in world.reports}
    assert world.play() is Status.FINALIZED
    assert [check.line() for check in scattered.audit() if check.passed is not True] == []


@pytest.mark.parametrize("lie", ["flip", "gigabyte", "stall"])
def test_a_seat_that_announces_lies_costs_no_honest_author_anything(
    scattered: Scattered, lie: Lie
) -> None:
    """One seat announces a liar, the host of a victim, and the web server of an honest author."""
    world = scattered.world
    with WebServer({}) as liar, WebServer({}) as victim:
        liar.lie, victim.lie = lie, "page"
        announced = world.client().history().announced
        honest = announced[world.address_of("bob")].whereabouts
        lines = (liar.gateway.line, victim.gateway.line, honest)
        scattered.announce("ann", "\n".join(lines))
        assert world.play() is Status.FINALIZED
        assert set(world.rejections()) <= {"ann"}
        told = world.told(RoundId(1))
        assert all(told.paid_to(world.address_of(name)) for name in ("bob", "cem"))
        assert [check.line() for check in scattered.audit() if check.passed is False] == []
        assert set(victim.cids) <= {"bafkqaaa"}
        readers = 5  # three participants, the aggregator, the audit
        assert len(victim.asked) <= 3 * readers


def test_a_participant_whose_store_takes_nothing_does_not_commit(scattered: Scattered) -> None:
    world = scattered.world
    scattered.block("ann")
    round_id = world.open_round()
    with pytest.raises(Unavailable, match=str(scattered.folder("ann"))):
        world.participants["ann"].commit(round_id)
    assert world.told(round_id).committed == []
    # Put right in time, nothing is lost.
    scattered.unblock("ann")
    world.ask("commit", round_id)
    world.ask("reveal", round_id)
    assert world.settle(round_id) is Status.FINALIZED
    assert world.rejections() == {}


@pytest.mark.parametrize("is_mended", [True, False])
def test_a_store_that_fails_between_commitment_and_reveal(
    scattered: Scattered, is_mended: bool
) -> None:
    """Mended before the reveal's deadline nothing is lost; after it the penalty, and no more."""
    world = scattered.world
    round_id = world.open_round()
    world.ask("commit", round_id)
    stake = world.client().get_participant(world.address_of("ann")).stake
    scattered.block("ann")
    with pytest.raises(Unavailable, match=str(scattered.folder("ann"))):
        world.participants["ann"].reveal(round_id)
    if is_mended:
        scattered.unblock("ann")
        world.participants["ann"].reveal(round_id)
    for name in ("bob", "cem"):
        world.participants[name].reveal(round_id)
    if not is_mended:
        windows = world.client().terms().windows
        world.travel(windows.commit_seconds + windows.reveal_seconds)
    assert world.settle(round_id) is Status.FINALIZED
    assert world.rejections() == {}
    told, terms = world.told(round_id), world.client().terms().money
    paid = {name for name in world.names if told.paid_to(world.address_of(name))}
    assert paid == ({"ann", "bob", "cem"} if is_mended else {"bob", "cem"})
    lost = stake - world.client().get_participant(world.address_of("ann")).stake
    assert lost == (0 if is_mended else terms.missed_reveal_penalty)


def test_an_author_who_is_gone_after_the_reveal_loses_the_pay_and_no_stake(
    scattered: Scattered,
) -> None:
    world = scattered.world
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    shutil.rmtree(scattered.folder("ann"))
    stake = world.client().get_participant(world.address_of("ann")).stake
    assert world.settle(round_id) is Status.FINALIZED
    assert {name: check for name, (check, _) in world.rejections().items()} == {"ann": 1}
    assert world.client().get_participant(world.address_of("ann")).stake == stake
    told = world.told(round_id)
    assert all(told.paid_to(world.address_of(name)) for name in ("bob", "cem"))


def test_what_the_lead_loses_after_its_proposal_is_read_from_authors_and_computed(
    scattered: Scattered,
) -> None:
    world = scattered.world
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    world.aggregator.propose(round_id)
    shown = scattered.folder("aggregator") / "a" / "ipfs"
    shutil.rmtree(shown)
    world.aggregator.respond(round_id)  # in the challenge window it puts back what it proposed
    assert len(list(shown.iterdir())) > len(world.names)
    assert world.settle(round_id) is Status.FINALIZED
    shutil.rmtree(shown)
    assert [check.line() for check in scattered.audit() if check.failed] == []
    for participant in world.participants.values():  # who starts now has no model on disk
        shutil.rmtree(participant.state / world.address / "models", ignore_errors=True)
    assert world.play() is Status.FINALIZED
    assert world.rejections() == {}
    assert all(world.told(RoundId(2)).paid_to(world.address_of(name)) for name in world.names)


def test_an_auditor_whose_own_store_is_down_reads_what_was_announced(scattered: Scattered) -> None:
    world = scattered.world
    assert world.play() is Status.FINALIZED
    down = ContentStore(f"http://127.0.0.1:{free_port()}", timeout_s=1)
    found = list(
        Audit(world.client(), Sources(down, LOCAL, timeout_s=2), world.folder / "first").run()
    )
    assert [check.line() for check in found if check.passed is not True] == []
    # Nobody's store answers: nothing was shown to be false.
    found = list(Audit(world.client(), down, world.folder / "second").run())
    assert [check.line() for check in found if check.failed] == []
    assert any(check.unchecked for check in found)


def test_nobody_starts_before_the_founding_can_be_read(scattered: Scattered) -> None:
    world = scattered.world
    shown = dict(scattered.sponsor.blocks)
    scattered.sponsor.blocks.clear()
    before = world.participants["ann"]
    for store in (before.store, world.aggregator.store):
        with pytest.raises(Unavailable):
            Participant(before.federation, store, before.trainer, before.state)
    scattered.sponsor.blocks.update(shown)
    learn_places(before.store, world.client())  # another round would begin anew as well
    world.participants["ann"] = Participant(
        before.federation, scattered.store("ann"), before.trainer, before.state
    )
    assert world.play() is Status.FINALIZED
