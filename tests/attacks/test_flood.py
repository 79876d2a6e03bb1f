"""A flood of leaf requests: answered in time, at the cost of who sent it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chain.events import LeafPosted, LeafRequested
from chain.token import Erc20
from contracts.enums import AggregatorState, Status
from protocol.types import TokenUnits
from tests.chain.stage import ask, now
from tests.disputes.lies import BOND, DEPOSIT, propose
from tests.disputes.test_availability import request_model, request_update
from tests.ethereum.anvil import running_anvil
from tests.world import World

REQUESTS = 45
BLOCK_SECONDS = 12
RESPONSE = 600  # the least that `federation create` accepts
WINDOW = 3_600


def test_45_leaf_requests_on_blocks_of_12_seconds(tmp_path: Path) -> None:
    """One transaction a block: the first deadline is five blocks after the last request.

    An answer a leaf would need 45 blocks, and lose the bond.
    """
    terms: dict[str, Any] = {"challenge_seconds": WINDOW, "response_seconds": RESPONSE}
    with running_anvil() as url, World(tmp_path, rpc_url=url, **terms) as world:
        round_id = propose(world)
        attacker, lead = world.auditor.address, world.aggregator_wallet.address
        held = world.token.balance_of(attacker)
        # Allowed beforehand: an approval before each would halve the flood.
        token = Erc20(world.w3, world.token.address, world.auditor)
        token.approve(world.address, TokenUnits(REQUESTS * DEPOSIT))
        ask(world.w3, "anvil_setBlockTimestampInterval", BLOCK_SECONDS)
        leaves = world.spec.leaf_count
        for leaf in range(leaves):
            request_model(world, round_id, leaf)
        for place in range(REQUESTS - leaves):
            request_update(world, round_id, place // 3, world.names[place % 3])
        requested = [e for e in world.client().read_events() if isinstance(e, LeafRequested)]
        assert len(requested) == REQUESTS
        first, last = requested[0].deadline, requested[-1].deadline
        assert last - first == (REQUESTS - 1) * BLOCK_SECONDS
        assert now(world.w3) + REQUESTS * BLOCK_SECONDS > first

        world.aggregator.respond(round_id)

        posted = [e for e in world.client().read_events() if isinstance(e, LeafPosted)]
        assert {(e.root, e.leaf) for e in posted} == {(e.root, e.leaf) for e in requested}
        assert world.client().aggregator_state(lead) is AggregatorState.BONDED
        # Every deposit went to the lead: more than the half bond that there was to win.
        assert world.client().credit_of(attacker) == 0
        assert held - world.token.balance_of(attacker) == REQUESTS * DEPOSIT > BOND // 2
        assert world.client().credit_of(lead) == REQUESTS * DEPOSIT
        assert gas_of(world, posted) < gas_of(world, requested)
        ask(world.w3, "anvil_removeBlockTimestampInterval")
        world.travel(WINDOW)
        assert world.settle(round_id) is Status.FINALIZED


def gas_of(world: World, events: Sequence[LeafPosted | LeafRequested]) -> int:
    """Return the gas that the transactions of some events took."""
    hashes = {"0x" + event.transaction_hash.hex() for event in events}
    receipts = [ask(world.w3, "eth_getTransactionReceipt", each) for each in hashes]
    return sum(int(each["gasUsed"], 16) for each in receipts)
