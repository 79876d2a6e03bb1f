"""Faults that are known and not mended yet, each with what must come out once it is.

The chaos of tests/real/stage.py keeps away from exactly these situations.
"""

from pathlib import Path
from typing import Any, Final

import pytest

from chain.records import Status
from node.history import Outcome, round_results
from node.participant import Participant
from protocol.quantities import RoundId
from storage.ipfs import ContentStore
from tests.real.checks import audit_failures
from tests.real.founding import AGGREGATOR, PARTICIPANTS, SPONSOR
from tests.real.network import Network
from tests.world import SyntheticTrainer

ONE: Final = RoundId(1)
*OTHERS, BY_HAND = PARTICIPANTS


class NotMended(AssertionError):
    """What a known fault leads to; any other failure of its test is news."""


class ByHand:
    """A participant that is led by the test, so that what it shows can be held back.

    Once its update is pinned, and before it is revealed, its Kubo is held still: from then on the
    aggregator waits for the update's bytes.
    """

    def __init__(self, network: Network, kubo: str, update: str) -> None:
        self.network = network
        self.kubo = network.kubos[kubo]
        self.participant = Participant(
            network.founded.client(BY_HAND),
            ContentStore(self.kubo.url),
            SyntheticTrainer(update, 20),
            network.folder / update,
            self._hear,
        )
        self.holds_back = True

    def take_part(self) -> None:
        """Commit and reveal in round 1, each in its phase."""
        self.network.until(lambda: self.network.status(ONE) is Status.COMMIT, "no round")
        self.participant.commit(ONE)
        self.network.until(lambda: self.network.status(ONE) is Status.REVEAL, "not all committed")
        self.participant.reveal(ONE)

    def _hear(self, phase: str, **facts: Any) -> None:
        if phase == "pinned" and self.holds_back:
            self.kubo.hold()


@pytest.mark.xfail(
    strict=True,
    raises=NotMended,
    reason="an aggregator whose own Kubo is down takes every update for unreachable",
)
def test_an_aggregator_whose_own_kubo_was_away_accepts_all_the_same(tmp_path: Path) -> None:
    with Network(tmp_path, rounds=1, confirmations=0) as network:
        network.start(AGGREGATOR, *OTHERS)
        held = ByHand(network, BY_HAND, "update")
        held.participant.federation.join()
        held.take_part()
        network.await_phase(AGGREGATOR, "screening", round=1)
        network.live(1.0)
        network.kubos[AGGREGATOR].kill()
        held.kubo.release()
        network.live(3.0)
        network.kubos[AGGREGATOR].start()
        network.until(lambda: network.status(ONE) is Status.FINALIZED, "round 1 does not end")
        client = network.founded.client()
        for name in PARTICIPANTS:
            (result,) = round_results(client, network.founded.wallet(name).address)
            if result.outcome is not Outcome.PAID:
                raise NotMended(f"{name}: {result.reason}")


@pytest.mark.xfail(
    strict=True,
    raises=NotMended,
    reason="a model is proposed over reveals that a reorganisation took away while it was made",
)
def test_a_proposal_rests_on_the_reveals_that_are_on_chain(tmp_path: Path) -> None:
    with Network(tmp_path, rounds=1, confirmations=0) as network:
        network.start(AGGREGATOR, *OTHERS)
        first = ByHand(network, BY_HAND, "update")
        first.participant.federation.join()
        first.take_part()
        network.await_phase(AGGREGATOR, "screening", round=1)
        seed = network.federation.get_round(ONE).seed
        network.geth.rewind(network.opened_at(ONE))
        assert network.federation.get_round(ONE).seed == seed
        # Everybody commits again, and one to something else.
        second = ByHand(network, SPONSOR, "another update")
        second.holds_back = False
        second.take_part()
        network.until(lambda: network.status(ONE) is Status.PROPOSE, "not all revealed again")
        first.kubo.release()
        network.until(lambda: network.status(ONE) is Status.FINALIZED, "round 1 does not end")
        if failures := [*audit_failures(network)]:
            raise NotMended(failures[0])
