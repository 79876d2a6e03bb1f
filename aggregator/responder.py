"""Answers leaf requests about the aggregator's own proposal (docs/protocol.md §11).

A request that nobody answers in time costs the bond. Which ones are open is read from the chain
each time, so an aggregator that was restarted, or that somebody else answered for, posts what is
missing and nothing twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chain.federation import Federation
from chain.leaf_requests import settle_unanswered
from chain.records import Leaf
from contracts.reverts import Reverted
from protocol.errors import CommonweightError, Rejected, Unavailable
from protocol.spec import Spec
from protocol.tree import is_proof_valid
from protocol.types import Digest, RoundId
from rounds.context import RoundContext
from runtime.events import LeafNotPosted, LeafPosted, LeafRequestSettled, Report
from storage.layers import LayerFolder


@dataclass(frozen=True)
class Held:
    """Layer files of which a leaf may be requested; `fetch` gets damaged ones again."""

    folder: LayerFolder
    fetch: Callable[[], object]


class Responder:
    """Answers for one aggregator; `report` hears of each leaf posted and of each that is not."""

    def __init__(self, federation: Federation, spec: Spec, report: Report) -> None:
        self.federation = federation
        self.spec = spec
        self.report = report
        self._seen = (RoundId(0), -1)
        self._is_open = False
        self._failed: set[tuple[Digest, int]] = set()

    def is_due(self, round_id: RoundId, head: int) -> bool:
        """Whether anything can have changed since the last look: a new block, or time passed."""
        return self._is_open or (round_id, head) != self._seen

    def respond(self, context: RoundContext, held: Mapping[Digest, Held], head: int) -> None:
        """Post each leaf that is requested of our proposal; settle requests that are late.

        `held` is what we have, by root; `head` the block that `context` is of.
        """
        open_requests = dict(context.told.open_requests)
        for root, leaf in context.told.standing_requests:
            if root in held and self._answer(context.round_id, root, leaf, held[root]):
                del open_requests[root, leaf]
        for request, _ in settle_unanswered(self.federation, open_requests):
            self.report(
                LeafRequestSettled(
                    round=context.round_id, root=request.root.hex(), leaf=request.leaf
                )
            )
        self._seen, self._is_open = (context.round_id, head), bool(open_requests)

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
