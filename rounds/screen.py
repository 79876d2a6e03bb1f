"""Screens the updates of a round: fetch, verify, compare, decide (docs/protocol.md §6).

Aggregator and auditor run the same code and reach the same verdicts as long as both reach the same
bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Final

from profiling.recorder import Span, current
from protocol.checks import ACCEPTED, Check
from protocol.commitment import PREFIX_BYTES
from protocol.errors import Rejected, Unavailable
from protocol.reveal import Reveal
from protocol.screening import duplicates, screen_update
from protocol.similarity import SIMILAR
from protocol.types import Address, BasisPoints
from protocol.verdict import FULL_SCORE, Verdict, compute_weight
from rounds.context import RoundContext
from rounds.prune import ROUNDS_COMPARED
from rounds.rebuild import FETCHER, Fetcher, fetch_accepted, obtain_model
from rounds.similar import Movement, compare_updates
from storage.layers import LayerFolder

Reasons = Mapping[Address, int]
"""The reason code of each participant's verdict in a proposal."""

_NONE: Final[Reasons] = MappingProxyType({})


@dataclass(frozen=True)
class Screened:
    """The decision on one reveal: its verdict, the reason for a rejection, its layers' folder.

    `not_compared` says what check 12 could not compare an accepted update with, one line each.
    """

    reveal: Reveal
    verdict: Verdict
    reason: str
    folder: LayerFolder
    not_compared: tuple[str, ...] = ()

    @property
    def has_root(self) -> bool:
        """Whether the folder holds the bytes that were revealed: it passed checks 1 to 6."""
        reason = self.verdict.reason
        # What was sealed has passed them; a reason in its verdict is about its sketch.
        return reason == ACCEPTED or reason > Check.ROOT or self.verdict.is_averaged

    @property
    def is_sound(self) -> bool:
        """Whether they are an update: it passed checks 1 to 7."""
        return self.verdict.reason == ACCEPTED or self.verdict.reason > Check.RANGE


def screen(
    context: RoundContext,
    fetcher: Fetcher = FETCHER,
    report: Callable[[Screened], None] = lambda screened: None,
    proposed: Reasons = _NONE,
) -> list[Screened]:
    """Return one decision per reveal, in ascending order of participant.

    An update's reason code is the number of the first check that fails. `report` is called with
    each decision. An auditor passes the reasons that were `proposed`: what the proposal could not
    reach, or found broken, check 12 compared nothing with. The fetcher's budget bounds the time
    that others can take.
    """
    span = current()  # the span belongs to this thread, not to those that screen
    reveals = context.reveals
    # All at once, and what came before the round along with them: however many peers are silent,
    # together they take the time of one.
    with ThreadPoolExecutor(len(reveals) + 1) as pool:
        fetching = pool.submit(fetch_older, context, fetcher)
        # 1. to 9. and 11. What concerns one update alone.
        decisions = list(pool.map(lambda each: _decide(context, fetcher, span, each), reveals))
        older = fetching.result()
    # 10. Nobody committed to the same update earlier. A commitment hides the root, so the copy is
    # the later one, also when the first update was rejected or is unavailable.
    copies = duplicates([(reveal.participant, reveal.root) for reveal in reveals])
    for index, decision in enumerate(decisions):
        first = copies.get(decision.reveal.participant)
        if first is not None and decision.verdict.reason in (ACCEPTED, Check.WEAK):
            reason = f"the update is the one {first} committed to before"
            decisions[index] = rejected(decision.reveal, decision.folder, Check.DUPLICATE, reason)
    # 12. It resembles nothing that was there before it.
    with span.phase("verify: compare"):
        decisions = list(_compare(context, older, decisions, proposed))
    for decision in decisions:
        report(decision)
    return sorted(decisions, key=lambda decision: int(decision.reveal.participant, 16))


def _decide(context: RoundContext, fetcher: Fetcher, span: Span, reveal: Reveal) -> Screened:
    """Run the checks that concern one update alone: 1 to 9 and 11."""
    folder = context.update_folder(reveal.participant)
    try:
        # 1. The bytes are reachable. 2. to 4. The manifest is well-formed, of this round and spec,
        # and has the spec's layers. 5. Each block is what the manifest says.
        with span.phase("verify: fetch"):
            folder = fetcher.fetch_update(context, reveal)
        # 6. The layers hash to the root on the chain. 7. Values and padding are in range. 8. The
        # update is not too long, 9. not zero, 11. not too short.
        with span.phase("verify: screen") as screening:
            blocks = screening.measured(folder.blocks)
            screen_update(context.spec, reveal.root, blocks, context.round_id)
    except Rejected as error:
        return rejected(reveal, folder, error.check, error.reason)
    return accepted(context, reveal, folder)


@dataclass(frozen=True)
class Older:
    """What check 12 compares with from before a round, and what of it is missing, in lines."""

    names: list[str]
    updates: list[LayerFolder]
    movement: Movement | None
    missing: list[str]


def fetch_older(context: RoundContext, fetcher: Fetcher) -> Older:
    """Fetch what check 12 compares with: kept files first, and all that can be had."""
    names, updates, missing = _earlier_updates(context, fetcher)
    movement = None
    try:
        movement = last_movement(context, fetcher)
    except (Unavailable, Rejected) as error:
        missing.append(f"the last movement of the model: {error}")
    return Older(names, updates, movement, missing)


def _compare(
    context: RoundContext, before: Older, decisions: Sequence[Screened], proposed: Reasons
) -> Iterator[Screened]:
    """Yield the decisions, given in the order of the commitments, after check 12."""
    sound = [decision for decision in decisions if decision.is_sound]
    if not any(decision.verdict.is_accepted for decision in sound):
        yield from decisions
        return
    # 1. All at once: each update's bytes are read once.
    folders = [decision.folder for decision in sound]
    found = compare_updates(context.spec, folders, before.updates, before.movement)
    row = 0
    for index, decision in enumerate(decisions):
        if decision.is_sound:
            row += 1
        if not decision.verdict.is_accepted:
            yield decision
            continue
        # 2. The most similar of everything that is older than the update.
        mine = row - 1
        older = [
            (found.among[mine][place], f"the update of {other.reveal.participant} in this round")
            for place, other in enumerate(sound[:mine])
            if proposed.get(other.reveal.participant) != Check.REACHABLE
        ]
        older += zip(found.earlier[mine], before.names, strict=True)
        older.append((found.movement[mine], "the last movement of the model"))
        most, what = max(older, key=lambda each: each[0])
        if most >= SIMILAR:
            reason = f"its similarity to {what} is {most:,}, {SIMILAR:,} is too much"
            yield rejected(decision.reveal, decision.folder, Check.SIMILAR, reason)
            continue
        unseen = [*before.missing, *_unseen(decisions[:index], proposed)]
        yield replace(decision, not_compared=tuple(unseen))


def _earlier_updates(
    context: RoundContext, fetcher: Fetcher
) -> tuple[list[str], list[LayerFolder], list[str]]:
    """Return names and files of the averaged updates of the rounds before, and what is missing."""
    names, folders, missing = [], [], []
    for earlier in islice(context.finalized_before(), ROUNDS_COMPARED):
        fetched = fetch_accepted(earlier, fetcher)
        for (reveal, _), found in zip(earlier.averaged, fetched, strict=True):
            if isinstance(found, Unavailable):
                missing.append(f"round {earlier.round_id}: {found}")
            else:
                names.append(f"the update of {reveal.participant} in round {earlier.round_id}")
                folders.append(found)
    return names, folders, missing


def last_movement(context: RoundContext, fetcher: Fetcher) -> Movement | None:
    """Return the models around the last round that changed the model; None when none did.

    Raises as `obtain_model`.
    """
    changed = context.last_change()
    if changed is None:
        return None
    return Movement(obtain_model(changed, fetcher), obtain_model(context, fetcher))


def _unseen(before: Sequence[Screened], proposed: Reasons) -> Iterator[str]:
    """Yield whose update of this round is unavailable here, though the proposal had it."""
    for other in before:
        who, reason = other.reveal.participant, other.verdict.reason
        had_it = who in proposed and not Check.REACHABLE <= proposed[who] <= Check.RANGE
        if reason == Check.REACHABLE and had_it:
            yield f"the update of {who} in this round: {other.reason}"


def accepted(context: RoundContext, reveal: Reveal, folder: LayerFolder) -> Screened:
    """Return the decision that an update passes every check."""
    weight = compute_weight(reveal.examples, context.terms.seats.weight_cap)
    verdict = Verdict(reveal.participant, revealed_digest(reveal), weight, FULL_SCORE, ACCEPTED)
    return Screened(reveal, verdict, "", folder)


def rejected(reveal: Reveal, folder: LayerFolder, check: int, reason: str) -> Screened:
    """Return the decision that an update fails a check, for a reason in words."""
    revealed = revealed_digest(reveal)
    verdict = Verdict(reveal.participant, revealed, weight=0, score=BasisPoints(0), reason=check)
    return Screened(reveal, verdict, reason, folder)


def revealed_digest(reveal: Reveal) -> bytes:
    """Return the first 30 bytes of a reveal's update digest, as the contract keeps them (§8)."""
    return reveal.digest[:PREFIX_BYTES]
