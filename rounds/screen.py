"""Screens the updates of a round: fetch, verify, decide (docs/protocol.md §6).

The aggregator decides with it and the auditor decides again; both come to the same verdicts as
long as both can reach the same bytes, since every rule is in `protocol.screening`.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from profiling.recorder import current
from protocol.checks import ACCEPTED, Check
from protocol.errors import Rejected
from protocol.reveal import Reveal
from protocol.screening import duplicates, screen_update
from protocol.spec import Spec
from protocol.types import Address, BasisPoints, Digest
from protocol.verdict import FULL_SCORE, Verdict, compute_weight
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Subject, fetch_verified

Fetch = Callable[[ContentStore, Digest, Spec, Subject, Digest, LayerFolder], object]
"""As `storage.layers.fetch_verified`: the layers lie in the folder afterwards, or Rejected."""

_UPDATES_AT_ONCE: Final = 8  # a slow peer holds up one of these, not the others


@dataclass(frozen=True)
class Screened:
    """The decision on one reveal: its verdict, why it was rejected, where its layers lie."""

    reveal: Reveal
    verdict: Verdict
    reason: str
    folder: LayerFolder


def screen_reveals(
    store: ContentStore,
    spec: Spec,
    subject: Subject,
    reveals: Sequence[Reveal],
    model: LayerFolder,
    model_root: Digest,
    weight_cap: int,
    workspace: Path,
    report: Callable[[Screened], None] = lambda screened: None,
    fetch: Fetch = fetch_verified,
) -> list[Screened]:
    """Return one decision a reveal, in ascending order of participant.

    `reveals` are in the order of commitment. Layer files are left in `workspace`, one folder a
    participant. `report` hears of each decision as it is taken. `fetch` gets an update's layers.
    """

    outer = current()

    def decide(reveal: Reveal) -> Screened:
        folder = LayerFolder(workspace / reveal.participant)
        try:
            with outer.phase("verify: fetch"):
                fetch(store, reveal.manifest, spec, subject, reveal.root, folder)
            with outer.phase("verify: screen") as span:
                blocks = span.measured(folder.blocks)
                screen_update(spec, reveal.root, blocks, model.blocks, model_root)
        except Rejected as error:
            return _rejected(reveal, folder, error.check, error.reason)
        weight = compute_weight(reveal.examples, weight_cap)
        verdict = Verdict(reveal.participant, weight, FULL_SCORE, ACCEPTED)
        return Screened(reveal, verdict, "", folder)

    with ThreadPoolExecutor(_UPDATES_AT_ONCE) as pool:
        decisions = _without_copies(list(pool.map(decide, reveals)))
    for decision in decisions:
        report(decision)
    return sorted(decisions, key=lambda decision: int(decision.reveal.participant, 16))


def _without_copies(decisions: list[Screened]) -> list[Screened]:
    """Reject each update that somebody else committed to before (check 10)."""
    roots = [(d.reveal.participant, d.reveal.root) for d in decisions]
    copies: dict[Address, Address] = duplicates(roots)
    return [
        _rejected(
            d.reveal,
            d.folder,
            Check.NOT_DUPLICATE,
            f"the update is the one {copies[d.reveal.participant]} committed to before",
        )
        if d.verdict.is_accepted and d.reveal.participant in copies
        else d
        for d in decisions
    ]


def _rejected(reveal: Reveal, folder: LayerFolder, check: int, reason: str) -> Screened:
    verdict = Verdict(reveal.participant, weight=0, score=BasisPoints(0), reason=check)
    return Screened(reveal, verdict, reason, folder)
