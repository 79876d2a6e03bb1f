"""A participant that a test leads step by step, on the network of tests/real/network.py."""

from typing import Final

from contracts.enums import Status
from node.participant import Participant
from protocol.types import RoundId
from runtime.events import Event, Pinned
from storage.ipfs import ContentStore
from tests.real.network import Network
from tests.world import SyntheticTrainer

ONE: Final = RoundId(1)


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
