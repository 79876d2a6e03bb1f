"""Rules that a round's events must meet, and our verdicts compared with those proposed."""

from collections.abc import Iterator, Sequence
from typing import Final

from web3 import Web3
from web3.types import BlockData

from auditor.check_result import CheckResult
from chain.history import RoundHistory
from chain.records import Terms
from ethereum.rpc import plain_errors
from protocol.checks import ACCEPTED, Check
from protocol.commitment import (
    PREFIX_BYTES,
    compute_commitment,
    compute_masked_commitment,
    compute_seed,
)
from protocol.errors import Unavailable
from protocol.payout import compute_fee, compute_payouts
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId
from protocol.verdict import Verdict, compute_weight
from rounds.screen import Screened
from rounds.terms import disagreements

SEED_CLAIM: Final = "the seed follows from the blocks of its round"


def check_terms(terms: Terms, spec: Spec) -> CheckResult:
    """Check that the terms have the sizes and the grid that follow from the spec."""
    wrong = disagreements(terms, spec)
    layers, grid = len(spec.layers), spec.encoding.grid_bits
    detail = f"{layers} layers, {spec.leaf_count} leaves, grid {grid}"
    claim = "the contract's sizes and grid are those of the spec"
    return CheckResult("§10", None, claim, not wrong, "; ".join(wrong) or detail)


def check_seed(w3: Web3, federation: Address, history: RoundHistory) -> Iterator[CheckResult]:
    """Check that the seed follows from the blocks in which the round was opened and it was fixed.

    Nothing is to be checked where it was never fixed. The headers need no proof: the seed is their
    digest, so that no others lead to it. Where these do not, nobody in the federation is at fault,
    whose contract has computed it: the node then shows other headers than the contract saw, and
    the claim stays unchecked (docs/threat-model.md, "Endpoints").
    """
    if history.seeded is None:
        return
    round_id, blocks = history.round_id, (history.opened.opened_block, history.seeded.block_number)
    try:
        with plain_errors():
            opened, fixed = map(w3.eth.get_block, blocks)
        found = compute_seed(federation, round_id, Digest(bytes(opened["hash"])), prevrandao(fixed))
    except (Unavailable, KeyError) as error:
        detail = f"the node does not have a header: {error}"
        yield CheckResult("§8", round_id, SEED_CLAIM, None, detail)
        return
    passed: bool | None = True
    detail = f"seed {found.hex()}"
    if found != history.seeded.seed:
        passed = None
        detail = (
            f"the contract has seed {history.seeded.seed.hex()}, but the node's headers of blocks"
            f" {blocks[0]} and {blocks[1]} give {found.hex()}: ask another node"
        )
    yield CheckResult("§8", round_id, SEED_CLAIM, passed, detail)


def prevrandao(header: BlockData) -> int:
    """Return what PREVRANDAO gave in a block: its difficulty, where it has one (EIP-4399)."""
    return header.get("difficulty") or int.from_bytes(bytes(header["mixHash"]), "big")


def check_eligible(terms: Terms, history: RoundHistory) -> CheckResult:
    """Check that the seed drew everybody who committed, of those who were members in time."""
    strangers = [
        event.participant
        for event in history.committed
        if not history.asks(event.participant, terms.seats)
    ]
    claim = f"the seed drew all {len(history.committed)} participants that committed"
    return CheckResult("§8", history.round_id, claim, not strangers, ", ".join(strangers))


def check_commitments(federation: Address, history: RoundHistory) -> Iterator[CheckResult]:
    """Check that each reveal opens its commitment."""
    # The contract has checked it, but these logs come from a node that may lie.
    committed = {e.participant: e.commitment for e in history.committed}
    for e in history.revealed:
        who, key = e.participant, history.masking.keys.get(e.participant)
        if key is None:
            opened = compute_commitment(
                federation, e.round, who, e.root, e.manifest, e.examples, e.salt
            )
        else:
            opened = compute_masked_commitment(federation, e.round, who, key, e.examples, e.salt)
        # The contract keeps so many bytes, so that a submission fits into one slot.
        kept = committed.get(e.participant, Digest(b""))[:PREFIX_BYTES]
        claim = f"{e.participant} revealed what it committed to"
        detail = f"update {e.root.hex()}"
        yield CheckResult("§8", e.round, claim, opened[:PREFIX_BYTES] == kept, detail)


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

    A verdict on bytes that are not available here stays unchecked, and so does one of check 1 about
    bytes that are: whoever judged may have found them missing (docs/protocol.md §6).
    """
    ours: dict[Address, Screened] = {s.verdict.participant: s for s in screened}
    for verdict in proposed:
        mine = ours.get(verdict.participant)
        if mine is None:
            claim = f"{verdict.participant} has a verdict without a reveal"
            yield CheckResult("§6", round_id, claim, False, "")
        else:
            claim = f"{verdict.participant} was rightly {_said(verdict)}"
            yield compare_verdict(round_id, claim, verdict, mine)


def compare_verdict(round_id: RoundId, claim: str, verdict: Verdict, mine: Screened) -> CheckResult:
    """Return the check of one verdict against ours."""
    found = mine.verdict
    # 1. What is said of bytes that only one of us has.
    if found.reason == Check.REACHABLE != verdict.reason:
        return CheckResult("§6", round_id, claim, None, mine.reason)
    if verdict.reason == Check.REACHABLE != found.reason:
        has_form = verdict.score == 0 and verdict.revealed == found.revealed
        has_form &= verdict.weight in (0, found.weight if found.is_averaged else 0)
        if has_form:
            detail = f"the bytes are available, it would have been {_said(found)}"
            return CheckResult("§6", round_id, claim, None, detail, seen_differently=True)
    # 2. What check 12 could not compare may have decided it.
    may_be_similar = found == verdict or verdict.reason == Check.SIMILAR
    if mine.not_compared and found.reason == ACCEPTED and may_be_similar:
        missing, *more = mine.not_compared
        others = f", and {len(more)} more" if more else ""
        detail = f"check 12 cannot compare it with {missing}{others}"
        return CheckResult("§6", round_id, claim, None, detail)
    # 3. Everything else follows from bytes and chain alone.
    detail = f"root {mine.reveal.root.hex()}" if found.is_accepted else ""
    detail = ": ".join(filter(None, (detail, mine.reason)))
    if found != verdict:
        detail = f"it should have been {_said(found)}. {detail}"
    return CheckResult("§6", round_id, claim, found == verdict, detail)


def check_payouts(terms: Terms, history: RoundHistory) -> CheckResult:
    """Check that a finalized round paid what its verdicts call for."""
    assert history.proposed is not None
    assert history.finalized is not None
    money, weight_cap = terms.money, terms.seats.weight_cap
    verdicts = history.proposed.verdicts
    expected = compute_payouts(money.update_reward, weight_cap, verdicts)
    # No event is emitted for a price that rounds down to nothing.
    due = {who: amount for who, amount in expected.items() if amount}
    paid = {e.participant: e.amount for e in history.paid}
    revealed = sum(compute_weight(event.examples, weight_cap) for event in history.revealed)
    fee = compute_fee(money.aggregator_fee, verdicts, revealed)
    is_right = paid == due and history.finalized.fee == fee
    claim = f"{len(paid)} participants were paid the price of their weight, the aggregator its fee"
    detail = f"{sum(paid.values()) + history.finalized.fee:,} token units"
    return CheckResult("§9", history.round_id, claim, is_right, detail)


def _said(verdict: Verdict) -> str:
    if verdict.is_accepted:
        return f"accepted with weight {verdict.weight} and score {verdict.score}"
    if verdict.is_averaged:
        return f"summed with weight {verdict.weight}, and unpaid by check {verdict.reason}"
    return f"rejected by check {verdict.reason}"
