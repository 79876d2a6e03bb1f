"""Which masked updates of a round are summed (docs/protocol.md §13).

What can be said of a masked update before it is opened: that its bytes are there and lead to its
root, and that its bundle is one for this round. Everything else is seen in the sum and in the
sketches (`rounds/sketched.py`). Aggregator and auditor run the same code.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from profiling.recorder import Span, current
from protocol.bundle import Bundle, contradicted
from protocol.checks import Check
from protocol.commitment import PREFIX_BYTES
from protocol.errors import Rejected
from protocol.reveal import Reveal
from protocol.screening import duplicates
from protocol.types import Address, BasisPoints
from protocol.verdict import Verdict
from rounds.blame import left_out
from rounds.bundles import read_bundle
from rounds.context import RoundContext
from rounds.rebuild import FETCHER, Fetcher
from rounds.screen import Screened, accepted, rejected

NOT_REVEALED = bytes(PREFIX_BYTES)
"""What a seal's verdict has in the digest's place for who committed and did not reveal."""


def choose_set(
    context: RoundContext,
    fetcher: Fetcher = FETCHER,
    report: Callable[[Screened], None] = lambda screened: None,
) -> list[Screened]:
    """Return one decision per reveal, in ascending order of participant.

    The accepted ones are the set. Where they are too few for a set, they are rejected as well, with
    the reason `TOO_FEW`: then nothing is opened. `report` is called with each decision.
    """
    span = current()  # the span belongs to this thread, not to those that screen
    # As at the seal, also when an auditor looks at it later, and the seeds are known.
    reveals = [replace(reveal, seeds=()) for reveal in context.reveals]
    with ThreadPoolExecutor(max(len(reveals), 1)) as pool:
        # 1. to 6. and 14. What concerns one update alone.
        found = list(pool.map(lambda each: _decide(context, fetcher, span, each), reveals))
    decisions = {decision.reveal.participant: decision for decision, _ in found}
    bundles = {
        decision.reveal.participant: bundle for decision, bundle in found if bundle is not None
    }
    # 16. Nobody is in it who has made another sum what honest updates cannot.
    for who, (check, reason) in left_out(context, fetcher).items():
        if who in bundles:
            decisions[who] = _without(decisions[who], check, reason)
            del bundles[who]
    # 10. Nobody committed to the same masked update earlier.
    for who, first in duplicates([(each.participant, each.root) for each in reveals]).items():
        if decisions[who].verdict.is_accepted:
            reason = f"the update is the one {first} committed to before"
            decisions[who] = _without(decisions[who], Check.DUPLICATE, reason)
            del bundles[who]
    # 14. The bundles agree with one another.
    committed = [event.participant for event in context.told.committed]
    for who, times in contradicted(bundles, committed).items():
        reason = f"its bundle contradicts those of others about {times} common seeds"
        decisions[who] = _without(decisions[who], Check.BUNDLE, reason)
    # 17. Together they hide one another.
    members = [decision for decision in decisions.values() if decision.verdict.is_accepted]
    least = least_set(context)
    if len(members) < least:
        reason = f"{len(members)} updates can be summed, {least} are asked for"
        for each in members:
            decisions[each.reveal.participant] = _without(each, Check.TOO_FEW, reason)
    ordered = sorted(decisions.values(), key=lambda each: int(each.reveal.participant, 16))
    for decision in ordered:
        report(decision)
    return ordered


def least_set(context: RoundContext) -> int:
    """Return how many updates a set has at least: `min_set`, and two thirds of those revealed."""
    return max(context.terms.rules.min_set, -(-2 * len(context.reveals) // 3))


def seal_verdicts(context: RoundContext, decisions: Sequence[Screened]) -> list[Verdict]:
    """Return what `sealSet` takes: a verdict on all that committed, ascending."""
    decided = {each.verdict.participant: each.verdict for each in decisions}
    return [decided.get(who) or _nothing_revealed(who) for who in context.told.committers]


def _decide(
    context: RoundContext, fetcher: Fetcher, span: Span, reveal: Reveal
) -> tuple[Screened, Bundle | None]:
    folder = context.update_folder(reveal.participant)
    try:
        with span.phase("verify: fetch"):
            folder = fetcher.fetch_update(context, reveal)
        with span.phase("verify: screen"):
            found = folder.root(context.spec)
            if found != reveal.root:
                reason = f"the layers hash to {found.hex()}, not to {reveal.root.hex()}"
                raise Rejected(Check.ROOT, reason)
            bundle = read_bundle(folder, reveal, context.told.committers)
    except Rejected as error:
        return rejected(reveal, folder, error.check, error.reason), None
    return accepted(context, reveal, folder), bundle


def _without(decision: Screened, check: Check, reason: str) -> Screened:
    return rejected(decision.reveal, decision.folder, check, reason)


def _nothing_revealed(participant: Address) -> Verdict:
    return Verdict(participant, NOT_REVEALED, weight=0, score=BasisPoints(0), reason=0)
