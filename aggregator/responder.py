"""Answers demands for leaves of the aggregator's own proposal (docs/protocol.md §11).

A demand that nobody answers in time costs the bond. Which ones are open is read from the chain each
time, so an aggregator that was restarted, or that somebody else answered for, posts what is missing
and nothing twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chain.events import FederationEvent
from chain.federation import Federation
from chain.leaf_requests import Demands, open_demands, settle_unanswered, since_proposal
from chain.records import Leaf
from chain.reverts import Reverted
from protocol.errors import CommonweightError, Rejected, Unavailable
from protocol.spec import Spec
from protocol.tree import is_proof_valid
from protocol.types import Digest, RoundId
from runtime.events import LeafNotPosted, LeafPosted, LeafRequestSettled, Report
from storage.layers import LayerFolder


@dataclass(frozen=True)
class Held:
    """Layer files that a demand may ask for; `fetch` gets them again where they are damaged."""

    folder: LayerFolder
    fetch: Callable[[], object]


class Responder:
    """Answers for one aggregator; `report` hears of each leaf posted and of each that is not."""

    def __init__(self, federation: Federation, spec: Spec, report: Report) -> None:
        self.federation = federation
        self.spec = spec
        self.report = report
        self._round = RoundId(0)
        self._first_block: int | None = None
        self._block = -1
        self._is_open = False
        self._failed: set[tuple[Digest, int]] = set()

    def respond(self, round_id: RoundId, held: Callable[[], Mapping[Digest, Held]]) -> None:
        """Post each leaf that is demanded of a round's proposal and ours to post; settle late ones.

        `held` is asked for what we have, by root, once there is a demand.
        """
        block = self.federation.w3.eth.block_number
        if (round_id, block) == (self._round, self._block) and not self._is_open:
            return
        events = self._events(round_id)
        demands, standing = open_demands(events), open_demands(since_proposal(events))
        ours = held() if standing else {}
        for root, leaf in standing:
            if root in ours and self._answer(round_id, root, leaf, ours[root]):
                del demands[root, leaf]
        self._settle(round_id, demands)
        self._block, self._is_open = block, bool(demands)

    def _answer(self, round_id: RoundId, root: Digest, leaf: int, held: Held) -> bool:
        """Post the leaf and return True; report once why not."""
        try:
            receipt = self.federation.post_leaf(root, leaf, self._open(root, leaf, held))
        except (Unavailable, Rejected, Reverted) as error:
            if (root, leaf) not in self._failed:
                self.report(
                    LeafNotPosted(round=round_id, root=root.hex(), leaf=leaf, reason=str(error))
                )
            self._failed.add((root, leaf))
            return False
        self.report(LeafPosted(round=round_id, root=root.hex(), leaf=leaf, gas=receipt.gas_used))
        return True

    def _open(self, root: Digest, leaf: int, held: Held) -> Leaf:
        """Return the leaf from our files; Unavailable when neither they nor IPFS have it."""
        opened = self._prove(root, leaf, held.folder)
        if opened is None:
            held.fetch()
            opened = self._prove(root, leaf, held.folder)
        if opened is None:
            raise Unavailable(f"the files in {held.folder.path} are not what the root names")
        return opened

    def _prove(self, root: Digest, leaf: int, folder: LayerFolder) -> Leaf | None:
        try:
            opened = Leaf(*folder.prove(self.spec, leaf))
        except (CommonweightError, OSError):
            return None
        return opened if is_proof_valid(root, opened.values, leaf, opened.proof) else None

    def _settle(self, round_id: RoundId, demands: Demands) -> None:
        for demand, _ in settle_unanswered(self.federation, demands):
            self.report(
                LeafRequestSettled(round=round_id, root=demand.root.hex(), leaf=demand.leaf)
            )

    def _events(self, round_id: RoundId) -> list[FederationEvent]:
        """Return the round's events, from the block in which it was opened once that is known."""
        if round_id != self._round:
            self._round, self._first_block = round_id, None
        events = self.federation.read_events(self._first_block, round_id=round_id)
        self._first_block = events[0].block_number if events else None
        return events
