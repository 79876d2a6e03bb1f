"""Answers leaf requests about the aggregator's own proposal (docs/protocol.md §11).

An unanswered request costs the bond, and anybody may make hundreds of them at once. So one
transaction posts many leaves, and several wait in the pool at a time. Open requests are read from
the chain each time. After a restart, or when somebody else has answered, the aggregator therefore
posts what is missing and nothing twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from chain.federation import Federation
from chain.leaf_requests import settle_unanswered
from chain.records import Leaf, LeafAnswer
from contracts.reverts import Reverted
from protocol.errors import CommonweightError, Rejected, Unavailable
from protocol.spec import Spec
from protocol.tree import is_proof_valid
from protocol.types import Digest, RoundId
from rounds.context import RoundContext
from runtime.events import LeafNotPosted, LeafPosted, LeafRequestSettled, Report
from storage.layers import LayerFolder

# A pool takes transactions of 131,072 bytes, and a byte costs up to 40 gas of 2^24.
_MOST_BYTES: Final = 60_000
_ABI_BYTES: Final = 256  # of an answer, beside values and proof: offsets, lengths, root and number
_AT_ONCE: Final = 4  # transactions in the pool


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
        answers = []
        for root, leaf in context.told.standing_requests:
            if root in held:
                opened = self._open(context.round_id, root, leaf, held[root])
                answers += [] if opened is None else [LeafAnswer(root, leaf, opened)]
        for answer in self._post(context.round_id, answers):
            del open_requests[answer.root, answer.index]
        # Also requests about a refuted proposal: settling them returns the challengers' deposits.
        for request, _ in settle_unanswered(self.federation, open_requests):
            self.report(
                LeafRequestSettled(
                    round=context.round_id, root=request.root.hex(), leaf=request.leaf
                )
            )
        self._seen, self._is_open = (context.round_id, head), bool(open_requests)

    def _post(self, round_id: RoundId, answers: Sequence[LeafAnswer]) -> Iterator[LeafAnswer]:
        """Post the answers, several transactions at a time, and yield those that were taken."""

        def send(batch: list[LeafAnswer]) -> list[LeafAnswer]:
            try:
                receipt = self.federation.post_leaves(batch)
            except Reverted as error:
                # One bad answer spoils its batch: a request may have become void or late meanwhile.
                if len(batch) > 1:
                    return [sent for answer in batch for sent in send([answer])]
                self._report_failure(round_id, batch[0].root, batch[0].index, error)
                return []
            except Unavailable as error:
                for answer in batch:
                    self._report_failure(round_id, answer.root, answer.index, error)
                return []
            for answer in batch:
                gas = receipt.gas_used // len(batch)
                self.report(
                    LeafPosted(round=round_id, root=answer.root.hex(), leaf=answer.index, gas=gas)
                )
            return batch

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for sent in pool.map(send, _batches(answers)):
                yield from sent

    def _open(self, round_id: RoundId, root: Digest, leaf: int, held: Held) -> Leaf | None:
        """Return the leaf with its proof; report a failure once and return None.

        The leaf comes from our own files, which are fetched again if they are damaged.
        """
        try:
            opened = self._prove(root, leaf, held.folder)
            if opened is None:
                held.fetch()
                opened = self._prove(root, leaf, held.folder)
            if opened is None:
                raise Unavailable(f"the files in {held.folder.path} are not what the root names")
        except (Unavailable, Rejected) as error:
            # Not raised: the other requests have deadlines too, and this one is tried again.
            self._report_failure(round_id, root, leaf, error)
            return None
        return opened

    def _report_failure(
        self, round_id: RoundId, root: Digest, leaf: int, error: CommonweightError
    ) -> None:
        if (root, leaf) not in self._failed:
            self.report(
                LeafNotPosted(round=round_id, root=root.hex(), leaf=leaf, reason=str(error))
            )
        self._failed.add((root, leaf))

    def _prove(self, root: Digest, leaf: int, folder: LayerFolder) -> Leaf | None:
        try:
            opened = Leaf(*folder.prove(self.spec, leaf))
        except (CommonweightError, OSError):
            return None
        # Checked here, since the contract would take the gas before it refuses a wrong leaf.
        return opened if is_proof_valid(root, opened.values, leaf, opened.proof) else None


def _batches(answers: Sequence[LeafAnswer]) -> Iterator[list[LeafAnswer]]:
    """Yield the answers in order, as many at a time as one transaction holds."""
    batch: list[LeafAnswer] = []
    size = 0
    for answer in answers:
        more = len(answer.leaf.values) + 32 * len(answer.leaf.proof) + _ABI_BYTES
        if batch and size + more > _MOST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(answer)
        size += more
    if batch:
        yield batch
