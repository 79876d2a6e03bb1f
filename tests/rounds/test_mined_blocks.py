"""Decisions rest on mined blocks: what waits in the pool moves nobody.

Each test holds a transaction in anvil's pool, lets a role look, and mines it.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from chain.events import Committed, FederationEvent, Proposed, RoundOpened, read_events
from chain.federation import Federation
from chain.phases import check_confirmations, has_ended, is_settled
from contracts.enums import Status, SubmissionState
from ethereum.rpc import connect
from ethereum.transactions import NotMined, Sender, SendingLimits
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address, RoundId
from tests.chain.stage import ask, now
from tests.ethereum.anvil import running_anvil
from tests.ethereum.relay import Request, relayed
from tests.rounds.test_roles import Ledger
from tests.world import World

ROUND = RoundId(1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_anvil() as url, World(tmp_path, rpc_url=url, rounds=2) as world:
        yield world


@pytest.fixture
def ledger(world: World) -> Ledger:
    return Ledger(world)


@contextmanager
def waiting(world: World, act: Callable[[], object]) -> Iterator[None]:
    """Hold the transaction that `act` sends in the pool during the block; then mine it."""
    ask(world.w3, "evm_setAutomine", False)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(act)
        while not senders_in_pool(world) and not sent.done():
            time.sleep(0.01)
        try:
            yield
        finally:
            ask(world.w3, "evm_mine")
            ask(world.w3, "evm_setAutomine", True)
        sent.result()


def senders_in_pool(world: World) -> set[Address]:
    waiting = ask(world.w3, "txpool_content")["pending"]
    return {Address(to_checksum_address(sender)) for sender in waiting}


def mine(world: World, blocks: int) -> None:
    ask(world.w3, "anvil_mine", hex(blocks))


def state(world: World, name: str) -> SubmissionState:
    return world.client().get_submission(ROUND, world.address_of(name)).state


@pytest.mark.parametrize("confirmations", [0, 2])
def test_a_commitment_in_the_pool_does_not_open_the_reveal_phase(
    ledger: Ledger, confirmations: int
) -> None:
    """Else its sender could read the reveal there, and replace it by a commitment to the same."""
    world = ledger.world
    ann = ledger.follower("ann", confirmations=confirmations)
    world.open_round()
    for name in ("ann", "bob"):
        ledger.followers[name].step()
    mine(world, 5)
    with waiting(world, ledger.followers["cem"].step):
        for _ in range(3):
            ann.step()
        assert senders_in_pool(world) == {world.address_of("cem")}
        assert state(world, "ann") is SubmissionState.COMMITTED
        assert world.client().status(ROUND) is Status.COMMIT
    assert world.client().status(ROUND) is Status.REVEAL
    ann.step()
    assert (state(world, "ann") is SubmissionState.REVEALED) == (confirmations == 0)
    mine(world, 2)
    ann.step()
    assert state(world, "ann") is SubmissionState.REVEALED


def test_a_commit_deadline_must_have_passed_in_a_mined_block(ledger: Ledger) -> None:
    """Not by the clock alone: a block with an earlier time could still hold a commitment."""
    world = ledger.world
    round_id = world.open_round()
    for name in ("ann", "bob"):
        ledger.followers[name].step()
    ask(world.w3, "evm_increaseTime", 601)
    assert world.client().status(round_id) is Status.REVEAL
    ann = ledger.followers["ann"]
    ann.step()
    assert state(world, "ann") is SubmissionState.COMMITTED
    ask(world.w3, "evm_mine")
    ann.step()
    assert state(world, "ann") is SubmissionState.REVEALED


def test_a_settlement_in_the_pool_ends_nobody_before_it_was_paid(tmp_path: Path) -> None:
    with running_anvil() as url, World(tmp_path, rpc_url=url, rounds=1) as world:
        ledger = Ledger(world)
        aggregator = ledger.leader.aggregator
        world.open_round()
        ledger.look()
        ledger.look()
        aggregator.propose(ROUND)
        world.travel(1)  # past the challenge window
        ann = ledger.followers["ann"]
        with waiting(world, lambda: aggregator.settle(ROUND)):
            assert senders_in_pool(world) == {world.aggregator_wallet.address}
            assert ann.step()
            assert not ledger.told("ann", "round over")
            assert not ledger.told("ann", "finished")
        assert not ann.step()
        told = ledger.told("ann", "round over")
        assert [line["outcome"] for line in told] == ["paid"]
        assert ledger.told("ann", "finished")[0]["paid"] == told[0]["paid"] > 0
        assert world.client().credit_of(world.address_of("ann")) == 0


def test_each_update_is_screened_once_when_all_reveals_are_mined(ledger: Ledger) -> None:
    world, leader = ledger.world, ledger.leader
    world.open_round()
    ledger.look()
    for name in ("ann", "bob"):
        ledger.followers[name].step()
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            assert senders_in_pool(world) == {world.address_of("cem")}
            ask(world.w3, "evm_mine")
            ask(world.w3, "evm_setAutomine", True)

    with waiting(world, ledger.followers["cem"].step):
        leader.service.pause = leader.aggregator.wait = look  # type: ignore[method-assign]
        assert leader.step()
    assert looks >= 3
    assert [line["updates"] for line in ledger.told("aggregator", "screening")] == [3]
    proposed = [e for e in world.client().read_events() if isinstance(e, Proposed)]
    assert [len(e.verdicts) for e in proposed] == [3]


def test_a_round_is_told_once_with_what_was_paid_on_blocks_of_a_second(tmp_path: Path) -> None:
    """State and logs are of one block, whatever is mined between the two questions."""
    alone = ("ann",)
    with running_anvil() as url, World(tmp_path, names=alone, rpc_url=url, rounds=1) as world:
        ask(world.w3, "evm_setIntervalMining", 1)
        ledger = Ledger(world)
        models: list[tuple[RoundId, bytes]] = []
        for follower in ledger.followers.values():
            follower._evaluate = lambda now, round_id: models.append(
                (round_id, now.current_model().root)
            )
        while ledger.leader.step():
            ledger.look()
        ledger.look()
        for name in world.names:
            told = ledger.told(name, "round over")
            assert [line["outcome"] for line in told] == ["paid"]
            assert told[0]["paid"] == ledger.results(name)[0].paid > 0
        assert models == [(ROUND, world.client().get_round(ROUND).model_root)]


def test_reads_of_now_are_of_one_block(world: World) -> None:
    before = world.client().now()
    world.open_round()
    assert (before.round_count(), before.status(ROUND)) == (0, Status.NONE)
    assert not [e for e in before.read_events() if isinstance(e, RoundOpened)]
    later = before.now()
    assert (later.round_count(), later.status(ROUND)) == (1, Status.COMMIT)
    assert [e for e in later.read_events() if isinstance(e, RoundOpened)]


def test_the_status_of_a_block_is_what_the_contract_derives(ledger: Ledger) -> None:
    """For every block of a round that was paid, one that nobody joined, and one that expired."""
    world = ledger.world
    federation = world.client()

    terms = federation.terms()

    def compare() -> set[Status]:
        seen = set()
        last = federation.w3.eth.block_number
        for block in range(world.deployment_block, last + 1):
            at: Any = federation.w3.eth.get_block(block)["timestamp"]
            for number in (1, 2, 3):
                facts = federation.get_round(RoundId(number), block=block)
                status = federation.status(RoundId(number), block=block)
                assert facts.status_at(at, block, terms) is status, (block, number)
                seen.add(status)
        return seen

    world.commit_and_reveal(world.open_round())
    world.aggregator.propose(ROUND)
    world.travel(1)
    ledger.leader.step()
    round_id = world.open_round()
    ledger.followers["ann"].step()
    for seconds in (599, 1, 1, 599, 1, 599, 1, 1):
        world.travel(seconds)
    assert federation.status(round_id) is Status.EXPIRED
    federation.now()
    assert compare() >= {
        Status.NONE,
        Status.SEED,
        Status.COMMIT,
        Status.REVEAL,
        Status.PROPOSE,
        Status.CHALLENGE,
        Status.SETTLEABLE,
        Status.FINALIZED,
        Status.EXPIRED,
    }


def test_depth_is_counted_from_headers_and_events_alone(ledger: Ledger) -> None:
    """A full node keeps the state of about 128 blocks; older state is never asked for."""
    world = ledger.world
    federation = world.client()
    world.open_round()
    for follower in ledger.followers.values():
        follower.step()
    committed = max(e.block_number for e in federation.read_events() if isinstance(e, Committed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Federation, "get_round", _of_recent_blocks(Federation.get_round, 100))
        mine(world, 199)
        assert not has_ended(federation.now(), ROUND, Status.COMMIT, 200)
        mine(world, 1)
        assert federation.now().block == committed + 200
        assert has_ended(federation.now(), ROUND, Status.COMMIT, 200)
        assert not has_ended(federation.now(), ROUND, Status.REVEAL, 0)
        ledger.follower("ann", confirmations=150).step()
    assert state(world, "ann") is SubmissionState.REVEALED


def _of_recent_blocks(read: Callable[..., Any], depth: int) -> Callable[..., Any]:
    def get_round(federation: Federation, round_id: RoundId, block: int | None = None) -> Any:
        asked = federation.block if block is None else block
        if asked is not None and asked < federation.w3.eth.block_number - depth:
            raise Unavailable("historical state is not available")
        return read(federation, round_id, block)

    return get_round


def test_confirmations_that_take_longer_than_the_phase_are_refused(tmp_path: Path) -> None:
    with running_anvil() as url, World(tmp_path, rpc_url=url) as world:
        for _ in range(9):
            world.travel(12)
        federation = world.client()
        check_confirmations(federation, 25, 600, "reveal")
        wanted = "26 take 312 s .* every 12 s, half of the reveal phase has 300 s: .* at most 25"
        with pytest.raises(Misconfigured, match=wanted):
            check_confirmations(federation, 26, 600, "reveal")


def test_a_node_without_a_pending_block_tells_the_latest_time(world: World) -> None:
    ask(world.w3, "evm_increaseTime", 100)
    latest = now(world.w3)
    assert world.client().next_time() >= latest + 100

    def refuse(request: Request) -> str | None:
        return "pending is not supported" if "pending" in request["params"] else None

    with relayed(world.rpc_url, refuse) as url:
        federation = Federation(connect(url), world.address)
        assert federation.next_time() == latest
        assert federation.status(ROUND) is Status.NONE
        assert not federation.is_over()


def test_a_commitment_that_is_stuck_is_overtaken_by_the_same(ledger: Ledger) -> None:
    """At "pending" it is committed already, and committing again would be refused for ever."""
    world = ledger.world
    world.open_round()
    wallet, limits = world.wallets["ann"], SendingLimits(receipt_seconds=0.5)
    ann = ledger.follower("ann")
    ann.participant.federation = Federation(
        world.w3, world.address, Sender(world.w3, wallet, limits)
    )
    ask(world.w3, "evm_setAutomine", False)
    offered = []
    for _ in range(2):
        with pytest.raises(NotMined):
            ann.step()
        waiting = ask(world.w3, "txpool_content")["pending"]
        ((_, by_nonce),) = waiting.items()
        ((nonce, transaction),) = by_nonce.items()
        offered.append((nonce, int(transaction["maxFeePerGas"], 16)))
    assert offered[0][0] == offered[1][0]
    assert offered[0][1] < offered[1][1]
    ask(world.w3, "evm_mine")
    assert state(world, "ann") is SubmissionState.COMMITTED


def test_nothing_is_decided_by_logs_that_lag_behind(ledger: Ledger) -> None:
    """A node whose index of logs is behind must not make a leader leave an update out."""
    world = ledger.world
    world.open_round()
    ledger.look()
    ledger.look()

    def lagging(*arguments: Any, **options: Any) -> list[FederationEvent]:
        events = read_events(*arguments, **options)
        return [e for e in events if e.block_number < world.w3.eth.block_number]

    aggregator = ledger.leader.aggregator
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chain.event_log.read_events", lagging)
        with pytest.raises(Unavailable, match=r"show 2 reveals .* counts 3"):
            aggregator.propose(ROUND)
        with pytest.raises(Unavailable, match="show 2 reveals"):
            has_ended(aggregator.federation.now(), ROUND, Status.REVEAL, 1)
    assert world.client().get_round(ROUND).proposals == 0
    aggregator.propose(ROUND)
    world.travel(1)
    aggregator.settle(ROUND)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chain.event_log.read_events", lagging)
        with pytest.raises(Unavailable, match="show 0 settlements in round 1"):
            ledger.followers["ann"].step()
    ledger.look()
    assert [line["outcome"] for line in ledger.told("ann", "round over")] == ["paid"]


def test_nobody_ends_before_the_last_settlement_is_as_deep_as_confirmations(
    tmp_path: Path,
) -> None:
    """A reorganisation that drops it finds everybody still there, and all is settled again."""
    with running_anvil() as url, World(tmp_path, rpc_url=url, rounds=1) as world:
        ledger = Ledger(world)
        ledger.followers = {name: ledger.follower(name, confirmations=3) for name in world.names}
        leader = ledger.restart_leader(confirmations=3)
        world.open_round()
        ledger.look()
        mine(world, 3)
        ledger.look()
        before = world.client().now().head
        leader.aggregator.propose(ROUND)
        world.travel(1)
        leader.aggregator.settle(ROUND)
        assert leader.step()
        for follower in ledger.followers.values():
            assert follower.step()
            assert follower.step()
        assert world.client().is_over()
        assert world.client().credit_of(world.address_of("ann")) == 0
        depth = world.client().now().head - before
        ask(world.w3, "anvil_reorg", depth, [])
        assert not world.client().is_over()
        assert leader.step()
        for follower in ledger.followers.values():
            while follower.step():
                mine(world, 1)
            assert world.client().credit_of(follower.participant.address) == 0
        while leader.step():
            mine(world, 1)
        assert not ledger.told("service", "waiting")
        assert len(ledger.told("ann", "finished")) == 1


def test_on_a_chain_that_stands_still_time_settles(ledger: Ledger) -> None:
    world = ledger.world
    for _ in range(2):
        assert ledger.leader.step()
    assert is_settled(world.client(), 0, 300)
    assert not is_settled(world.client(), 50, 300)
    ask(world.w3, "evm_increaseTime", 301)
    assert is_settled(world.client(), 50, 300)


def test_a_reveal_that_is_not_deep_proves_no_deep_end_of_commitments(ledger: Ledger) -> None:
    """Somebody who waits for no confirmations may reveal in the very block that ends the phase."""
    world = ledger.world
    world.open_round()
    for name in ("ann", "bob"):
        ledger.followers[name].step()
    mine(world, 10)
    world.travel(600)
    ledger.followers["bob"].step()
    assert state(world, "bob") is SubmissionState.REVEALED
    federation = world.client()
    assert has_ended(federation, ROUND, Status.COMMIT)
    assert not has_ended(federation, ROUND, Status.COMMIT, 2)
    ledger.follower("ann", confirmations=2).step()
    assert state(world, "ann") is SubmissionState.COMMITTED
    mine(world, 2)
    assert has_ended(federation, ROUND, Status.COMMIT, 2)


def test_without_commitments_no_reveal_is_awaited_once_none_can_come(ledger: Ledger) -> None:
    """By the clock alone a commitment may still be mined, and be revealed."""
    world = ledger.world
    world.open_round()
    ask(world.w3, "evm_increaseTime", 601)
    federation = world.client()
    assert federation.status(ROUND) is Status.PROPOSE
    assert not has_ended(federation, ROUND, Status.REVEAL)
    ask(world.w3, "evm_mine")
    assert has_ended(federation, ROUND, Status.REVEAL)
