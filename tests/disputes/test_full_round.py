"""A round of 64 updates, the most there can be, played, proposed and disputed as any other."""

from collections.abc import Iterator
from typing import Any

import pytest

from auditor.disputes import challenge_open
from chain.events import AggregatorSlashed, FederationEvent
from contracts.enums import Status
from tests.chain.stage import ask
from tests.disputes.lies import (
    CHALLENGED,
    TERMS,
    WINDOW,
    assert_slashed,
    auditing,
    propose,
)
from tests.world import TOKEN, World

pytestmark = pytest.mark.long

MAX_ROUND_SEATS = 64
FULL: dict[str, Any] = {
    "max_participants": MAX_ROUND_SEATS,
    "round_target": MAX_ROUND_SEATS,
    "round_seats": MAX_ROUND_SEATS,
    "rounds": 2,
}
# Nodes take no transaction of more than 131,072 bytes, and none above 2^24 gas (EIP-7825).
MOST_BYTES, MOST_GAS = 120_000, 16_000_000


def assert_fits(world: World, event: FederationEvent) -> None:
    """The transaction that made `event` is one that every node would have taken."""
    transaction = "0x" + event.transaction_hash.hex()
    raw = ask(world.w3, "eth_getRawTransactionByHash", transaction)
    assert len(bytes.fromhex(raw.removeprefix("0x"))) <= MOST_BYTES
    receipt = ask(world.w3, "eth_getTransactionReceipt", transaction)
    assert int(receipt["gasUsed"], 16) <= MOST_GAS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    names = tuple(f"participant-{index}" for index in range(MAX_ROUND_SEATS))
    with World(tmp_path_factory.mktemp("full"), names=names, **TERMS, **FULL) as world:
        world.stand_by()
        yield world


def test_an_honest_round_of_64_is_settled(world: World) -> None:
    round_id = propose(world)
    assert_fits(world, world.proposal(round_id))
    world.travel(WINDOW)
    assert world.settle(round_id) is Status.FINALIZED
    federation = world.client()
    cap, price = federation.terms().seats.weight_cap, 20 * TOKEN + 1
    for index, name in enumerate(world.names):
        weight = min(10 * (1 + index), cap)
        assert federation.credit_of(world.address_of(name)) == price * weight // cap
    assert [line.line() for line in world.audit() if not line.passed] == []


def test_a_lying_round_of_64_is_refuted(world: World) -> None:
    round_id = CHALLENGED["off by one"](world)
    (line,) = challenge_open(auditing(world))
    assert "leaf 8 is not what 64 updates make of it" in line
    assert_slashed(world)
    slashed = next(
        event
        for event in world.client().read_events()
        if isinstance(event, AggregatorSlashed) and event.round == round_id
    )
    assert_fits(world, slashed)
    standby = world.stand_by()
    standby.propose(round_id)
    world.travel(WINDOW)
    standby.settle(round_id)
    assert world.client().status(round_id) is Status.FINALIZED
    assert [line.line() for line in world.audit() if not line.passed] == []
