"""Checks of a masked round: what was sealed, drawn and opened (docs/protocol.md §13).

The place of the sum in the model is checked with the average, and what follows from sketches with
the verdicts: both as in a clear round.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from web3 import Web3

from auditor.check_result import CheckResult
from auditor.rules import compare_verdict, prevrandao
from chain.history import RoundHistory
from chain.records import Terms
from ethereum.rpc import plain_errors
from protocol.bundle import commit
from protocol.checks import Check
from protocol.errors import CommonweightError, Unavailable
from protocol.payout import compute_half_price
from protocol.sketches import compute_sketch_seed
from protocol.types import Digest
from protocol.verdict import compute_weight
from rounds.blame import blame
from rounds.bundles import fetch_bundle
from rounds.context import RoundContext
from rounds.rebuild import Fetcher, obtain_sum
from rounds.screen import Screened, rejected
from rounds.seal import NOT_REVEALED
from rounds.sketched import judge_sum

DRAW_CLAIM: Final = "the sketches' vectors follow from the blocks of the seal and of the draw"

_SEED_BLOCKS: Final = 256


def judge_masked(
    context: RoundContext, fetched: Sequence[Screened], fetcher: Fetcher
) -> list[Screened]:
    """Return our decision on each reveal of a masked round, by the sketches of the set.

    Where the sum cannot be had, no member of the set can be judged: as if it were unreachable.
    """
    try:
        return judge_sum(context, obtain_sum(context, fetcher), fetcher).decisions
    except Unavailable as error:
        reason = f"without the sum nothing is known of it: {error}"
    members = set(context.told.masking.members)
    here = {decision.reveal.participant: decision for decision in fetched}
    return [
        rejected(reveal, here[reveal.participant].folder, Check.REACHABLE, reason)
        if reveal.participant in members
        else here[reveal.participant]
        for reveal in sorted(context.reveals, key=lambda each: int(each.participant, 16))
    ]


def check_seal(context: RoundContext, decisions: Sequence[Screened]) -> Iterator[CheckResult]:
    """Check that the set was sealed as we would have sealed it."""
    sealed = context.told.masking.sealed
    assert sealed is not None
    ours = {decision.reveal.participant: decision for decision in decisions}
    for verdict in sealed.verdicts:
        mine = ours.get(verdict.participant)
        if mine is None:
            claim = f"{verdict.participant} committed and revealed nothing"
            is_right = verdict.revealed == NOT_REVEALED
            yield CheckResult("§13", context.round_id, claim, is_right, "")
        elif mine.verdict.reason == Check.TOO_FEW != verdict.reason and verdict.is_averaged:
            # The contract has counted: a set that stands is large enough. So what is missing of it
            # is missing here.
            claim = f"{verdict.participant} was rightly sealed into the set"
            detail = f"not enough updates of the set are available here: {mine.reason}"
            yield CheckResult("§13", context.round_id, claim, None, detail)
        else:
            where = "into" if verdict.is_averaged else "outside"
            claim = f"{verdict.participant} was rightly sealed {where} the set"
            found = compare_verdict(context.round_id, claim, verdict, mine)
            yield replace(found, section="§13")


def check_draw(w3: Web3, told: RoundHistory) -> Iterator[CheckResult]:
    """Check that the sketches' vectors follow from the blocks of the seal and of the draw."""
    sealed, drawn = told.masking.sealed, told.masking.drawn
    if sealed is None or drawn is None:
        return
    last = drawn.block_number - 1
    hashed = (
        sealed.block_number if drawn.block_number - sealed.block_number <= _SEED_BLOCKS else last
    )
    try:
        with plain_errors():
            first, second = w3.eth.get_block(hashed), w3.eth.get_block(drawn.block_number)
        found = compute_sketch_seed(Digest(bytes(first["hash"])), prevrandao(second))
    except (Unavailable, KeyError) as error:
        detail = f"the node does not have a header: {error}"
        yield CheckResult("§13", told.round_id, DRAW_CLAIM, None, detail)
        return
    # As with the round's seed: the contract computed it, so that other headers are the node's.
    is_same = found == drawn.sketch_seed
    detail = found.hex() if is_same else "the node's headers give another one: ask another node"
    yield CheckResult("§13", told.round_id, DRAW_CLAIM, True if is_same else None, detail)


def check_opened(context: RoundContext, fetcher: Fetcher) -> Iterator[CheckResult]:
    """Check that every secret that was opened is the one committed to, and no other was."""
    told = context.told
    for reveal in told.summed:
        if not reveal.seeds:
            continue
        claim = f"the opened secrets of {reveal.participant} are those it committed to"
        try:
            bundle = fetch_bundle(context, reveal, fetcher)
        except CommonweightError as error:
            # The contract has checked them; without the bundle nobody else can.
            yield CheckResult.refused("§13", context.round_id, claim, error)
            continue
        expected = [bundle.commitments[0], *map(bundle.commitment_of_pair, told.outside)]
        is_right = [commit(seed) for seed in reveal.seeds] == expected
        detail = f"{len(reveal.seeds)} of {len(bundle.commitments)} secrets"
        yield CheckResult("§13", context.round_id, claim, is_right, detail)


def check_blame(context: RoundContext, fetcher: Fetcher) -> CheckResult:
    """Say who of a refused set is to blame, by what its members published afterwards.

    Nothing of the round depends on it; who is named is left out of later sets, which is checked
    with these.
    """
    newest = max((told.block_number for told in context.told.masking.streams), default=0)
    reasons = blame(context, newest, fetcher)
    unknown = [why for check, why in reasons.values() if check is Check.REACHABLE]
    claim = "what the refused set accounts for tells who is to blame"
    detail = "; ".join(f"{who}: {why}" for who, (_, why) in reasons.items()) or "nobody is"
    return CheckResult("§13", context.round_id, claim, None if unknown else True, detail)


def check_half_prices(terms: Terms, told: RoundHistory) -> CheckResult:
    """Check that a voided round paid half the price to who posted its secrets itself."""
    money, cap = terms.money, terms.seats.weight_cap
    expected = {
        reveal.participant: compute_half_price(
            money.update_reward, cap, compute_weight(reveal.examples, cap)
        )
        for reveal in told.unmasked_themselves
    }
    due = {who: amount for who, amount in expected.items() if amount}
    paid = {event.participant: event.amount for event in told.paid}
    claim = f"{len(due)} members of the set were paid half the price"
    return CheckResult("§9", told.round_id, claim, paid == due, f"{sum(paid.values()):,} units")
