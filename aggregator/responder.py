"""Answers leaf requests about the aggregator's own proposal (docs/protocol.md §11).

An unanswered request costs the bond. Open requests are read from the chain each time. After a
restart, or when somebody else has answered, the aggregator therefore posts what is missing and
nothing twice.
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
    """Layer files of which a leaf may be requested; `fetch` replaces damaged ones."""

    folder: LayerFolder
    fetch: Callable[[], object]


class Responder:
    """Answers leaf requests for one aggregator and reports every leaf, posted or not."""

    def __init__(self, federation: Federation, spec: Spec, report: Report) -> None:
        self.federation = federation
        self.spec = spec
        self.report = report
        self._seen = (RoundId(0), -1)
        self._is_open = False
        self._failed: set[tuple[Digest, int]] = set()

    def is_due(self, round_id: RoundId, head: int) -> bool:
        """Whether a request may have been made, or become overdue, since the last look."""
        # New requests come with a new block. Open ones become overdue by time alone: a chain that
        # mines only on demand may have no new block then.
        return self._is_open or (round_id, head) != self._seen

    def respond(self, context: RoundContext, held: Mapping[Digest, Held], head: int) -> None:
        """Post each leaf requested of our proposal; settle overdue requests.

        `held` are our layer files by root, `head` is the block that `context` was read at.
        """
        open_requests = dict(context.told.open_requests)
        for root, leaf in context.told.standing_requests:
            if root in held and self._answer(context.round_id, root, leaf, held[root]):
                del open_requests[root, leaf]
        # Also requests about a refuted proposal: settling them returns the challengers' deposits.
        for request, _ in settle_unanswered(self.federation, open_requests):
            self.report(
                LeafRequestSettled(
                    round=context.round_id, root=request.root.hex(), leaf=request.leaf
                )
            )
        self._seen, self._is_open = (context.round_id, head), bool(open_requests)

    def _answer(self, round_id: RoundId, root: Digest, leaf: int, held: Held) -> bool:
        """Post the leaf and return True; report a failure once and return False.

        The leaf comes from our own files, which are fetched again if they are damaged.
        """
        try:
            opened = self._prove(root, leaf, held.folder)
            if opened is None:
                held.fetch()
                opened = self._prove(root, leaf, held.folder)
            if opened is None:
                raise Unavailable(f"the files in {held.folder.path} are not what the root names")
            receipt = self.federation.post_leaf(root, leaf, opened)
        except (Unavailable, Rejected, Reverted) as error:
            # Not raised: the other requests have deadlines too, and this one is tried again.
            if (root, leaf) not in self._failed:
                self.report(
                    LeafNotPosted(round=round_id, root=root.hex(), leaf=leaf, reason=str(error))
                )
            self._failed.add((root, leaf))
            return False
        self.report(LeafPosted(round=round_id, root=root.hex(), leaf=leaf, gas=receipt.gas_used))
        return True

    def _prove(self, root: Digest, leaf: int, folder: LayerFolder) -> Leaf | None:
        try:
            opened = Leaf(*folder.prove(self.spec, leaf))
        except (CommonweightError, OSError):
            return None
        # Checked here, since the contract would take the gas before it refuses a wrong leaf.
        return opened if is_proof_valid(root, opened.values, leaf, opened.proof) else None
