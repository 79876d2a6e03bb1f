"""Screens the updates of a round: fetch, verify, decide (docs/protocol.md §6).

Aggregator and auditor run the same code and reach the same verdicts as long as both reach the same
bytes.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from profiling.recorder import current
from protocol.checks import ACCEPTED, Check
from protocol.errors import Rejected
from protocol.reveal import Reveal
from protocol.screening import duplicates, screen_update
from protocol.types import Address, BasisPoints
from protocol.verdict import FULL_SCORE, Verdict, compute_weight
from rounds.context import RoundContext
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Published, fetch_update

Fetch = Callable[[ContentStore, Published, LayerFolder], object]
"""Like `storage.layers.fetch_update`: writes the layers to the folder, or raises Rejected."""

_UPDATES_AT_ONCE: Final = 8  # a slow peer holds up one of these, not the others


@dataclass(frozen=True)
class Screened:
    """The decision on one reveal: its verdict, the reason for a rejection, its layers' folder."""

    reveal: Reveal
    verdict: Verdict
    reason: str
    folder: LayerFolder


def screen(
    context: RoundContext,
    model: LayerFolder,
    report: Callable[[Screened], None] = lambda screened: None,
    fetch: Fetch = fetch_update,
) -> list[Screened]:
    """Return one decision per reveal, in ascending order of participant.

    An update's reason code is the number of the first check that fails. `model` is the one that
    participants started from. `report` is called with each decision, `fetch` gets an update's
    layers.
    """
    span = current()  # the span belongs to this thread, not to those that screen

    def decide(reveal: Reveal) -> Screened:
        """Run checks 1 to 9, which concern one update alone."""
        folder = context.update_folder(reveal.participant)
        try:
            # 1. The bytes are reachable. 2. to 4. The manifest is well-formed, of this round and
            # spec, and has the spec's layers. 5. Each layer file is what the manifest says.
            with span.phase("verify: fetch"):
                fetch(context.store, context.update(reveal), folder)
            # 6. The layers hash to the root on the chain. 7. Values and padding are in range.
            # 8. The update is near enough to the model, 9. and not the model itself.
            with span.phase("verify: screen") as screening:
                blocks = screening.measured(folder.blocks)
                screen_update(context.spec, reveal.root, blocks, model.blocks, context.model.root)
        except Rejected as error:
            return _rejected(reveal, folder, error.check, error.reason)
        weight = compute_weight(reveal.examples, context.terms.weight_cap)
        verdict = Verdict(reveal.participant, weight, FULL_SCORE, ACCEPTED)
        return Screened(reveal, verdict, "", folder)

    reveals = context.reveals
    with ThreadPoolExecutor(_UPDATES_AT_ONCE) as pool:
        decisions = list(pool.map(decide, reveals))
    # 10. Nobody committed to the same update earlier. A commitment hides the root, so the copy is
    # the later one, also when the first update was rejected or is unavailable.
    copies: dict[Address, Address] = duplicates([(r.participant, r.root) for r in reveals])
    for index, decision in enumerate(decisions):
        first = copies.get(decision.reveal.participant)
        if decision.verdict.is_accepted and first is not None:
            reason = f"the update is the one {first} committed to before"
            decisions[index] = _rejected(
                decision.reveal, decision.folder, Check.NOT_DUPLICATE, reason
            )
    for decision in decisions:
        report(decision)
    return sorted(decisions, key=lambda decision: int(decision.reveal.participant, 16))


def _rejected(reveal: Reveal, folder: LayerFolder, check: int, reason: str) -> Screened:
    verdict = Verdict(reveal.participant, weight=0, score=BasisPoints(0), reason=check)
    return Screened(reveal, verdict, reason, folder)
