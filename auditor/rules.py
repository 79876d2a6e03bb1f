"""Rules that a round's events must meet, and our verdicts compared with those proposed."""

from collections.abc import Iterator, Sequence

from auditor.check_result import CheckResult
from chain.history import RoundHistory
from chain.records import Terms
from protocol.checks import Check
from protocol.commitment import compute_commitment, is_eligible
from protocol.payout import compute_payouts
from protocol.types import Address, Digest, RoundId
from protocol.verdict import Verdict
from rounds.screen import Screened


def check_eligible(terms: Terms, history: RoundHistory) -> CheckResult:
    """Check that the seed drew everybody who committed."""
    seed, fraction = history.opened.seed, terms.sampling_fraction
    strangers = [
        e.participant for e in history.committed if not is_eligible(seed, e.participant, fraction)
    ]
    claim = f"the seed drew all {len(history.committed)} participants that committed"
    return CheckResult("§8", history.round_id, claim, not strangers, ", ".join(strangers))


def check_commitments(federation: Address, history: RoundHistory) -> Iterator[CheckResult]:
    """Check that each reveal opens its commitment."""
    # The contract has checked it, but these logs come from a node that may lie.
    committed = {e.participant: e.commitment for e in history.committed}
    for e in history.revealed:
        opened = compute_commitment(
            federation, e.round, e.participant, e.root, e.manifest, e.examples, e.salt
        )
        # The contract stores the first 31 bytes, so that a submission fits into one slot.
        is_same = opened[:31] == committed.get(e.participant, Digest(b""))[:31]
        claim = f"{e.participant} revealed what it committed to"
        yield CheckResult("§8", e.round, claim, is_same, f"update {e.root.hex()}")


def report_refuted(history: RoundHistory) -> Iterator[CheckResult]:
    """Yield each refuted proposal as a check that passed: the contract has settled it."""
    for event in history.refuted:
        claim = f"a proposal of {event.aggregator} was refuted and is void"
        detail = f"model {event.root.hex()}, by {event.challenger}"
        yield CheckResult("§11", history.round_id, claim, True, detail)


def check_verdicts(
    round_id: RoundId, proposed: Sequence[Verdict], screened: Sequence[Screened]
) -> Iterator[CheckResult]:
    """Check that each proposed verdict is the one that we come to.

    A verdict on bytes that are not available here stays unchecked.
    """
    unseen = unreachable(proposed, screened)
    ours: dict[Address, Screened] = {s.verdict.participant: s for s in screened}
    for verdict in proposed:
        mine = ours.get(verdict.participant)
        if mine is None:
            claim = f"{verdict.participant} has a verdict without a reveal"
            yield CheckResult("§6", round_id, claim, False, "")
            continue
        claim = f"{verdict.participant} was rightly {_said(verdict)}"
        if verdict.participant in unseen:
            yield CheckResult("§6", round_id, claim, None, mine.reason)
            continue
        detail = f"root {mine.reveal.root.hex()}" if mine.verdict.is_accepted else mine.reason
        if mine.verdict != verdict:
            detail = f"it should have been {_said(mine.verdict)}. {detail}"
        yield CheckResult("§6", round_id, claim, mine.verdict == verdict, detail)


def unreachable(proposed: Sequence[Verdict], screened: Sequence[Screened]) -> list[Address]:
    """Return whose update the proposal judged by its bytes, which are not available here."""
    ours = {s.verdict.participant for s in screened if s.verdict.reason == Check.REACHABLE}
    return [v.participant for v in proposed if v.participant in ours if v.reason != Check.REACHABLE]


def check_payouts(terms: Terms, history: RoundHistory) -> CheckResult:
    """Check that a finalized round paid what its verdicts call for."""
    assert history.proposed is not None
    assert history.finalized is not None
    expected = compute_payouts(terms.round_reward, history.proposed.verdicts)
    # No event is emitted for a share that rounds down to nothing.
    due = {who: amount for who, amount in expected.items() if amount}
    paid = {e.participant: e.amount for e in history.paid}
    shares = sum(v.weight * v.score for v in history.proposed.verdicts)
    fee = terms.aggregator_fee if shares else 0  # an empty round earns none
    is_right = paid == due and history.finalized.fee == fee
    claim = f"{len(paid)} participants were paid by weight, and the aggregator its fee"
    detail = f"{sum(paid.values()) + history.finalized.fee:,} token units"
    return CheckResult("§9", history.round_id, claim, is_right, detail)


def _said(verdict: Verdict) -> str:
    if verdict.is_accepted:
        return f"accepted with weight {verdict.weight} and score {verdict.score}"
    return f"rejected by check {verdict.reason}"
