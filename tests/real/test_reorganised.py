"""A reorganisation while a model is made: what is proposed rests on what is on chain by then."""

from pathlib import Path

from chain.events import Proposed, Revealed, SeedFixed
from contracts.enums import AggregatorState, Status
from node.results import Outcome, round_results
from tests.real.by_hand import ONE, ByHand
from tests.real.checks import audit_failures
from tests.real.founding import AGGREGATOR, PARTICIPANTS, SPONSOR
from tests.real.network import Network

*OTHERS, BY_HAND = PARTICIPANTS


def test_a_proposal_rests_on_the_reveals_that_are_on_chain(tmp_path: Path) -> None:
    with Network(tmp_path, rounds=1, confirmations=0) as network:
        network.start(AGGREGATOR, *OTHERS)
        first = ByHand(network, BY_HAND)
        second = ByHand(network, BY_HAND, kubo=SPONSOR, holds_back=False)
        for step in (ByHand.join, ByHand.commit, ByHand.reveal):
            step(first)
        network.await_phase(AGGREGATOR, "screening", round=1)
        seed = network.federation.get_round(ONE).seed
        lost = revealed(network)
        network.geth.rewind(seed_fixed_at(network))
        assert network.federation.get_round(ONE).seed == seed
        # Everybody commits again, and one to something else.
        for step in (ByHand.commit, ByHand.reveal):
            step(second)
        network.until(lambda: network.status(ONE) is Status.PROPOSE, "not all revealed again")
        first.kubo.release()
        network.until(lambda: network.status(ONE) is Status.FINALIZED, "round 1 does not end")
        assert revealed(network) != lost
        assert [*audit_failures(network)] == []
        client = network.founded.client()
        for name in PARTICIPANTS:
            (result,) = round_results(client, network.founded.wallet(name).address)
            assert result.outcome is Outcome.PAID, f"{name}: {result.reason}"
        lead = network.founded.wallet(AGGREGATOR).address
        assert client.aggregator_state(lead) is not AggregatorState.SLASHED
        assert sum(isinstance(event, Proposed) for event in client.read_events()) == 1


def revealed(network: Network) -> set[bytes]:
    """Return the roots that stand revealed."""
    events = network.federation.read_events(round_id=ONE)
    return {event.root for event in events if isinstance(event, Revealed)}


def seed_fixed_at(network: Network) -> int:
    """Return the block in which the round's seats were drawn."""
    events = network.federation.read_events(round_id=ONE)
    return next(each.block_number for each in events if isinstance(each, SeedFixed))
