"""An aggregator whose own Kubo is away while it screens."""

from pathlib import Path

from chain.events import Revealed
from contracts.enums import Status
from node.results import Outcome, round_results
from protocol.cid import raw_cid
from tests.real.by_hand import ONE, ByHand
from tests.real.founding import AGGREGATOR, PARTICIPANTS, read_log
from tests.real.network import Network


def test_an_aggregator_whose_own_kubo_was_away_accepts_all_the_same(tmp_path: Path) -> None:
    with Network(tmp_path, rounds=1, confirmations=0) as network:
        network.start(AGGREGATOR)
        everybody = [ByHand(network, name) for name in PARTICIPANTS]
        for step in (ByHand.join, ByHand.commit, ByHand.reveal):
            for each in everybody:
                step(each)
        network.until(lambda: wants_an_update(network), "the aggregator asks for no update")
        network.kubos[AGGREGATOR].kill()
        network.until(lambda: has_noticed(network), "the aggregator did not notice")
        for each in everybody:
            each.kubo.release()
        network.kubos[AGGREGATOR].start()
        network.until(lambda: network.status(ONE) is Status.FINALIZED, "round 1 does not end")
        client = network.founded.client()
        for name in PARTICIPANTS:
            (result,) = round_results(client, network.founded.wallet(name).address)
            assert result.outcome is Outcome.PAID, f"{name}: {result.reason}"


def wants_an_update(network: Network) -> bool:
    """Whether the aggregator's Kubo looks for a manifest that was revealed."""
    events = network.federation.read_events()
    revealed = {raw_cid(event.manifest) for event in events if isinstance(event, Revealed)}
    return not revealed.isdisjoint(network.kubos[AGGREGATOR].wants())


def has_noticed(network: Network) -> bool:
    """Whether the aggregator said that something is wrong with its store, or with the updates."""
    phases = {line["phase"] for line in read_log(network.log(AGGREGATOR))}
    return not phases.isdisjoint({"waiting", "waiting for the own store", "rejected", "proposed"})
