"""Faults that are known and not mended yet, each with what must come out once it is.

The chaos of tests/real/stage.py keeps away from exactly these situations.
"""

from pathlib import Path
from typing import Final

import pytest

from chain.events import Revealed
from contracts.enums import Status
from node.participant import Participant
from node.results import Outcome, round_results
from protocol.cid import raw_cid
from protocol.types import RoundId
from runtime.events import Event, Pinned
from storage.ipfs import ContentStore
from tests.real.checks import audit_failures
from tests.real.founding import AGGREGATOR, PARTICIPANTS, SPONSOR, read_log
from tests.real.network import Network
from tests.world import SyntheticTrainer

ONE: Final = RoundId(1)
*OTHERS, BY_HAND = PARTICIPANTS


class NotMended(AssertionError):
    """What a known fault leads to; any other failure of its test is news."""


class ByHand:
    """A participant that is led by the test, so that what it shows can be held back.

    Where it `holds_back`, its Kubo is held still once its update is pinned and before it is
    revealed: from then on the aggregator waits for the update's bytes.
    """

    def __init__(
        self, network: Network, name: str, *, kubo: str = "", holds_back: bool = True
    ) -> None:
        self.network = network
        self.kubo = network.kubos[kubo or name]
        update = f"{name} by {kubo or name}"
        self.participant = Participant(
            network.founded.client(name),
            ContentStore(self.kubo.url),
            SyntheticTrainer(update, 20),
            network.folder / update,
            self._hear,
        )
        self._holds_back = holds_back

    def join(self) -> None:
        self.participant.federation.join()

    def commit(self) -> None:
        """Commit in round 1, once that is open."""
        self.network.until(lambda: self.network.status(ONE) is Status.COMMIT, "no round")
        self.participant.commit(ONE)

    def reveal(self) -> None:
        """Reveal in round 1, once all have committed."""
        self.network.until(lambda: self.network.status(ONE) is Status.REVEAL, "not all committed")
        self.participant.reveal(ONE)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Pinned) and self._holds_back:
            self.kubo.hold()


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


@pytest.mark.xfail(
    strict=True,
    raises=NotMended,
    reason="a model is proposed over reveals that a reorganisation took away while it was made",
)
def test_a_proposal_rests_on_the_reveals_that_are_on_chain(tmp_path: Path) -> None:
    with Network(tmp_path, rounds=1, confirmations=0) as network:
        network.start(AGGREGATOR, *OTHERS)
        first = ByHand(network, BY_HAND)
        for step in (ByHand.join, ByHand.commit, ByHand.reveal):
            step(first)
        network.await_phase(AGGREGATOR, "screening", round=1)
        seed = network.federation.get_round(ONE).seed
        network.geth.rewind(network.opened_at(ONE))
        assert network.federation.get_round(ONE).seed == seed
        # Everybody commits again, and one to something else.
        second = ByHand(network, BY_HAND, kubo=SPONSOR, holds_back=False)
        for step in (ByHand.commit, ByHand.reveal):
            step(second)
        network.until(lambda: network.status(ONE) is Status.PROPOSE, "not all revealed again")
        first.kubo.release()
        network.until(lambda: network.status(ONE) is Status.FINALIZED, "round 1 does not end")
        if failures := [*audit_failures(network)]:
            raise NotMended(failures[0])
