"""The typed client: a whole round with everybody's money, every read and every refusal."""

from dataclasses import fields, replace
from typing import Any

import pytest
from web3 import Web3

from chain.authentic import IMPLEMENTATION
from chain.events import AggregatorReplaced, AggregatorSlashed, Evicted, Withdrawn
from chain.federation import Federation
from chain.invitation import sign_invitation
from chain.records import (
    Identity,
    Leaf,
    LeafAnswer,
    LeafRequest,
    Model,
    Money,
    OpenedLeaf,
    Opening,
    Participant,
    Round,
    Rules,
    Seats,
    Submission,
    Sum,
    Terms,
    Windows,
)
from chain.token import Erc20
from contracts.compiler import load_artifact
from contracts.enums import AggregatorState, Status, SubmissionState
from contracts.enums import Stage as RoundStage
from contracts.names import snake_case
from contracts.reverts import Reverted
from ethereum.wallet import Wallet
from protocol.commitment import compute_seed, compute_update_digest, is_eligible
from protocol.errors import Misconfigured, Unavailable
from protocol.payout import compute_fee, compute_payouts
from protocol.types import Address, BasisPoints, Digest, RoundId, TokenUnits, UnixTime
from protocol.verdict import Verdict, verdicts_hash
from tests.chain.stage import (
    ESCROW,
    PURSE,
    SALT,
    Stage,
    advance_to,
    digest,
    mine,
    now,
    reveal_values,
    undone,
    with_terms,
)

ONE = RoundId(1)
NEVER = UnixTime(0)
NOBODY = Participant(TokenUnits(0), NEVER, 0, RoundId(0), False)
ABI = load_artifact(IMPLEMENTATION)["abi"]
# fmt: off
RECORDS: tuple[Any, ...] = (
    Terms, Identity, Seats, Money, Windows, Rules, Round, Submission, Participant, Verdict, Opening,
    Leaf, OpenedLeaf, LeafAnswer, LeafRequest, Sum,
)
# The client makes these two of a Reveal, whose fields they have.
MADE = {"MaskedReveal", "Secrets"}
# fmt: on


@pytest.fixture
def stage(either_stage: Stage) -> Stage:
    """Both chains are held to the same."""
    return either_stage


def addresses(stage: Stage) -> list[Address]:
    clients = (stage.sponsor, stage.lead, stage.standby, *stage.participants, stage.outsider)
    return [each.sender.address for each in clients]


def assert_tokens_add_up(stage: Stage) -> None:
    """Tokens in = credited + escrowed + staked + bonded + deposited + burned, at all times."""
    federation = stage.sponsor
    owed = TokenUnits(federation.escrow() + federation.deposits() + federation.burned())
    for who in addresses(stage):
        owed = TokenUnits(owed + federation.credit_of(who) + federation.get_participant(who).stake)
        if federation.aggregator_state(who) == AggregatorState.BONDED:
            owed = TokenUnits(owed + stage.terms.money.aggregator_bond)
    assert stage.token.balance_of(federation.address) == owed


# ------------------------------------------------------------------------ a round


def test_a_round_from_joining_to_withdrawing(stage: Stage) -> None:  # noqa: PLR0915
    federation, terms = stage.sponsor, stage.terms
    opened = stage.open()
    assert opened.round_id == ONE == federation.round_count()
    assert stage.token.balance_of(federation.address) == ESCROW + 5_000 + 3 * 1_000
    assert federation.active_count() == 3
    assert federation.status(ONE) == Status.COMMIT

    commitments = {each.sender.address: stage.commit(each, ONE) for each in stage.participants}
    for who, commitment in commitments.items():
        assert federation.get_submission(ONE, who) == Submission(
            commitment[:30], list(commitments).index(who), SubmissionState.COMMITTED
        )
    assert federation.status(ONE) == Status.REVEAL

    for order, each in enumerate(stage.participants):
        root, manifest, examples, salt = reveal_values(each)
        each.reveal(ONE, root, manifest, examples, salt)
        assert federation.get_submission(ONE, each.sender.address) == Submission(
            compute_update_digest(root, manifest, examples)[:30], order, SubmissionState.REVEALED
        )
    assert federation.status(ONE) == Status.PROPOSE

    verdicts = stage.verdicts()
    weights = sum(each.weight for each in verdicts)
    rejected = verdicts[1] = replace(verdicts[1], weight=0, score=BasisPoints(0), reason=8)
    stage.lead.propose(ONE, digest(20), digest(21), verdicts)
    assert federation.status(ONE) == Status.CHALLENGE
    assert federation.current_model() == Model(digest(1), digest(2))
    facts = federation.get_round(ONE)
    block = stage.w3.eth.get_block(opened.event.opened_block)
    fixed = stage.w3.eth.get_block(opened.event.opened_block + 1)
    seed = compute_seed(
        federation.address, ONE, Digest(block["hash"]), int.from_bytes(fixed["mixHash"], "big")
    )
    assert facts == Round(
        UnixTime(fixed["timestamp"] + terms.windows.commit_seconds),
        UnixTime(fixed["timestamp"] + 1_200),
        facts.challenge_deadline,
        opened.event.opened_block,
        3,
        3,
        3,
        weights,
        RoundStage.PROPOSED,
        1,
        0,
        seed,
        digest(20),
        digest(21),
        verdicts_hash(verdicts),
    )
    assert facts.reveal_deadline == facts.commit_deadline + terms.windows.reveal_seconds

    advance_to(stage.w3, facts.challenge_deadline)
    assert federation.status(ONE) == Status.SETTLEABLE
    stage.outsider.finalize(ONE, verdicts)
    assert federation.status(ONE) == Status.FINALIZED
    assert federation.get_round(ONE).stage == RoundStage.FINALIZED
    assert federation.last_finalized_round() == ONE
    assert federation.current_model() == Model(digest(20), digest(21))
    assert federation.idle_since() == now(stage.w3)

    payouts = compute_payouts(terms.money.update_reward, terms.seats.weight_cap, verdicts)
    fee = compute_fee(terms.money.aggregator_fee, verdicts, weights)
    for each in stage.participants:
        who = each.sender.address
        due = payouts.get(who, TokenUnits(0))
        assert federation.credit_of(who) == due
        held = stage.token.balance_of(who)
        if who == rejected.participant:
            with pytest.raises(Reverted, match="nothing is credited"):
                each.withdraw()
        else:
            receipt = each.withdraw()
            (paid,) = each.events_in(receipt)
            assert isinstance(paid, Withdrawn)
            assert (paid.account, paid.amount) == (who, due)
        assert stage.token.balance_of(who) == held + due
        assert federation.credit_of(who) == 0
    assert federation.credit_of(stage.lead.sender.address) == fee > 0
    assert federation.escrow() == ESCROW - sum(payouts.values()) - fee
    assert_tokens_add_up(stage)


def test_penalty_leaving_and_stake(stage: Stage) -> None:
    stage.open()
    late, leaving, revealing = stage.participants
    who = late.sender.address
    stage.commit(late, ONE)
    stage.commit(revealing, ONE)
    leaving.leave()
    unlock_at = leaving.get_participant(leaving.sender.address).unlock_at
    assert unlock_at == now(stage.w3) + stage.terms.windows.unbonding_seconds
    assert late.active_count() == 2
    advance_to(stage.w3, late.get_round(ONE).commit_deadline)
    revealing.reveal(ONE, *reveal_values(revealing))
    advance_to(stage.w3, late.get_round(ONE).reveal_deadline)
    joined = late.get_participant(who).joined_block
    stage.outsider.penalize(ONE, who)
    assert late.get_submission(ONE, who).state == SubmissionState.PENALIZED
    assert late.get_participant(who) == Participant(TokenUnits(700), NEVER, joined, ONE, False)
    assert (late.escrow(), late.burned()) == (ESCROW, 300)
    advance_to(stage.w3, late.get_round(ONE).propose_deadline)
    stage.outsider.abandon(ONE)
    assert late.status(ONE) == Status.ABANDONED
    held = stage.token.balance_of(who)
    late.join()  # fills up what is missing, and no more
    assert stage.token.balance_of(who) == held - 300
    back = Participant(TokenUnits(1_000), NEVER, stage.w3.eth.block_number, RoundId(0), True)
    assert late.get_participant(who) == back
    advance_to(stage.w3, unlock_at)
    leaving.withdraw()
    assert stage.token.balance_of(leaving.sender.address) == PURSE
    assert_tokens_add_up(stage)


def test_late_aggregator_is_replaced_and_slashed(stage: Stage) -> None:
    stage.standby.bond()
    stage.open()
    stage.submit(ONE)
    advance_to(stage.w3, stage.sponsor.get_round(ONE).propose_deadline)
    assert stage.sponsor.status(ONE) == Status.EXPIRED
    slashed, replaced = stage.outsider.events_in(stage.outsider.replace_aggregator())
    lead, standby = stage.lead.sender.address, stage.standby.sender.address
    assert isinstance(slashed, AggregatorSlashed)
    assert (slashed.round, slashed.aggregator, slashed.amount) == (1, lead, 5_000)
    assert isinstance(replaced, AggregatorReplaced)
    assert (replaced.previous, replaced.current) == (lead, standby)
    assert stage.sponsor.current_aggregator() == standby
    assert stage.sponsor.current_aggregator_index() == 1
    assert stage.sponsor.aggregator_state(lead) == AggregatorState.SLASHED
    assert (stage.sponsor.escrow(), stage.sponsor.burned()) == (ESCROW, 5_000)
    stage.standby.propose(ONE, digest(20), digest(21), stage.verdicts())
    assert_tokens_add_up(stage)


def test_end_gives_bond_and_escrow_back(stage: Stage) -> None:
    stage.sponsor.fund(ESCROW)
    stage.lead.bond()
    assert not stage.sponsor.is_over()
    stage.sponsor.close()
    assert stage.sponsor.is_closed()
    assert stage.sponsor.is_over()
    stage.lead.unbond()
    stage.outsider.refund()
    assert stage.sponsor.credit_of(stage.sponsor.sponsor()) == ESCROW
    assert stage.sponsor.credit_of(stage.lead.sender.address) == 5_000
    assert stage.sponsor.escrow() == 0
    assert_tokens_add_up(stage)


# -------------------------------------------------------------------------- reads


def test_reads_are_pinned_to_a_block(stage: Stage) -> None:
    federation, first = stage.sponsor, stage.participants[0]
    who, before = first.sender.address, stage.w3.eth.block_number
    assert federation.terms() == stage.terms
    assert federation.sponsor() == federation.sender.address
    assert federation.aggregators() == (
        stage.lead.sender.address,
        stage.standby.sender.address,
    )
    stage.open()
    stage.commit(first, ONE)
    then: dict[str, Any] = {"block": before}
    assert federation.round_count(**then) == 0
    assert federation.last_finalized_round(**then) == 0
    assert federation.active_count(**then) == 0
    assert federation.escrow(**then) == 0
    assert federation.credit_of(who, **then) == 0
    assert federation.aggregators(**then) == federation.aggregators()
    assert federation.aggregator_state(stage.lead.sender.address, **then) == AggregatorState.LISTED
    assert federation.current_aggregator(**then) == stage.lead.sender.address
    assert federation.current_aggregator_index(**then) == 0
    assert federation.current_model(**then) == Model(digest(1), digest(2))
    assert federation.get_round(ONE, **then).opened_block == 0
    assert federation.get_submission(ONE, who, **then) == Submission(
        bytes(30), 0, SubmissionState.NONE
    )
    assert federation.get_participant(who, **then) == NOBODY
    assert federation.bonded_count(**then) == 0
    assert federation.is_closed(**then) is False
    assert federation.burned(**then) == 0
    assert federation.status(ONE, **then) == Status.NONE
    assert federation.is_over(**then) is False
    assert federation.idle_since(**then) <= federation.idle_since()
    assert stage.token.balance_of(who, **then) == PURSE
    assert stage.token.allowance(who, federation.address, **then) == PURSE
    assert stage.token.total_supply(**then) == 10 * PURSE
    assert (stage.token.symbol(), stage.token.decimals()) == ("CWD", 18)


def test_eligibility_is_the_protocols(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    few = with_terms(stage.token, wallets, round_target=1)
    few.open()
    seed = few.sponsor.get_round(ONE).seed
    for who in [*addresses(few), *(Wallet.create().address for _ in range(8))]:
        asked = few.sponsor.is_eligible(ONE, who)
        assert asked == is_eligible(seed, who, 3, 1)
    told = few.sponsor.history().round(ONE)
    for each in few.participants:
        who = each.sender.address
        assert told.asks(who, few.terms.seats) == few.sponsor.is_eligible(ONE, who)
    assert not told.asks(few.outsider.sender.address, few.terms.seats)


def test_status_is_the_contracts(stage: Stage) -> None:
    """The client derives the status from the facts, as the contract does from its storage."""
    seen = set()

    def compare() -> Status:
        client, block = stage.sponsor.now(), stage.w3.eth.get_block("latest")
        number, at = int(block["number"]), UnixTime(block["timestamp"])
        derived = client.get_round(ONE).status_at(at, number, stage.terms)
        assert derived is client.status(ONE, number)
        seen.add(derived)
        return derived

    assert compare() is Status.NONE
    stage.sponsor.fund(ESCROW)
    stage.lead.bond()
    for each in stage.participants:
        each.join()
    stage.lead.open_round()
    assert compare() is Status.SEED
    with undone(stage.w3):
        mine(stage.w3, 257)
        assert compare() is Status.UNSEEDED
        stage.outsider.abandon(ONE)
        assert compare() is Status.ABANDONED
    stage.outsider.fix_seed(ONE)
    assert compare() is Status.COMMIT
    for each in stage.participants:
        stage.commit(each, ONE)
    assert compare() is Status.REVEAL
    for each in stage.participants:
        each.reveal(ONE, *reveal_values(each))
    assert compare() is Status.PROPOSE
    with undone(stage.w3):
        advance_to(stage.w3, stage.sponsor.get_round(ONE).propose_deadline)
        assert compare() is Status.EXPIRED
    stage.lead.propose(ONE, digest(20), digest(21), stage.verdicts())
    assert compare() is Status.CHALLENGE
    advance_to(stage.w3, stage.sponsor.get_round(ONE).challenge_deadline)
    assert compare() is Status.SETTLEABLE
    stage.outsider.finalize(ONE, stage.verdicts())
    assert compare() is Status.FINALIZED
    # tests/chain/test_masked.py sees the others.
    assert seen == set(Status) - {Status.SEAL, Status.UNMASK, Status.ASSIST, Status.VOID}


def test_the_seed_is_fixed_in_a_later_block(stage: Stage) -> None:
    stage.sponsor.fund(ESCROW)
    stage.lead.bond()
    stage.participants[0].join()
    opened = stage.lead.open_round()
    assert stage.sponsor.status(ONE) is Status.SEED
    assert opened.event.active == 1
    stage.outsider.fix_seed(ONE)
    with pytest.raises(Reverted, match="round 1 is in Commit, this call needs Seed"):
        stage.lead.fix_seed(ONE)


def test_an_invitation_admits_one_participant(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    closed = with_terms(stage.token, wallets, by_invitation=True)
    guest, other = closed.participants[0], closed.participants[1]
    who, chain_id = guest.sender.address, closed.sponsor.chain_id
    expiry = UnixTime(now(stage.w3) + 600)
    made = sign_invitation(wallets[0], chain_id, closed.sponsor.address, who, expiry)
    assert type(made).parse(made.to_line()) == made
    elsewhere = sign_invitation(wallets[0], chain_id, stage.sponsor.address, who, expiry)
    forged = sign_invitation(wallets[1], chain_id, closed.sponsor.address, who, expiry)
    for wrong in (elsewhere, forged):
        with pytest.raises(Reverted, match=f"the sponsor signed no invitation of {who} until"):
            guest.join(wrong)
    with pytest.raises(Reverted, match="the sponsor signed no invitation of"):
        other.join(made)
    with pytest.raises(Reverted, match="the invitation ended at"):
        guest.join()
    guest.join(made)
    assert closed.sponsor.get_participant(who).active


def play_with_one(stage: Stage, round_id: RoundId) -> None:
    """Play a round in which only the first participant takes part."""
    first = stage.participants[0]
    stage.open()
    stage.commit(first, round_id)
    advance_to(stage.w3, stage.sponsor.get_round(round_id).commit_deadline)
    first.reveal(round_id, *reveal_values(first))
    (verdict,) = [v for v in stage.verdicts() if v.participant == first.sender.address]
    stage.lead.propose(round_id, digest(20), digest(21), [verdict])
    advance_to(stage.w3, stage.sponsor.get_round(round_id).challenge_deadline)
    stage.outsider.finalize(round_id, [verdict])


def test_a_seat_that_missed_rounds_can_be_freed(stage: Stage) -> None:
    rounds, seats = [ONE, RoundId(2)], stage.terms.seats
    active, squatter = (each.sender.address for each in stage.participants[:2])
    play_with_one(stage, ONE)
    assert stage.sponsor.history().missed_rounds(squatter, seats) == [ONE]
    with pytest.raises(Reverted, match="1 missed rounds were named, 2 were expected"):
        stage.outsider.evict(squatter, [ONE])
    play_with_one(stage, RoundId(2))
    history = stage.sponsor.history()
    assert history.missed_rounds(active, seats) == []
    assert history.missed_rounds(squatter, seats) == rounds
    assert history.missed_rounds(stage.outsider.sender.address, seats) == []
    with pytest.raises(Reverted, match="missed rounds go up, each after the seat's last"):
        stage.outsider.evict(active, rounds)
    (event,) = stage.outsider.events_in(stage.outsider.evict(squatter, rounds))
    assert isinstance(event, Evicted)
    assert event.unlock_at == stage.sponsor.get_participant(squatter).unlock_at
    assert squatter not in stage.sponsor.history().active


def test_every_function_has_a_method() -> None:
    for entry in ABI:
        if entry["type"] == "function":
            # `object` is a name of Python's.
            name = {"object": "object_to"}.get(entry["name"], snake_case(entry["name"]))
            assert callable(getattr(Federation, name))


def test_records_are_the_contracts_structs() -> None:
    records = {each.__name__: each for each in RECORDS}
    seen = {}
    pending = [f for entry in ABI for f in [*entry.get("inputs", []), *entry.get("outputs", [])]]
    while pending:
        field = pending.pop()
        if field["type"].startswith("tuple"):
            name = field["internalType"].removesuffix("[]").rpartition(".")[2]
            seen[name] = [snake_case(each["name"]) for each in field["components"]]
            pending += field["components"]
    for name in MADE:
        assert seen.pop(name)
    # An opened leaf of a masked update carries its reveal along, which is sent in another form.
    own = {
        name: [each.name for each in fields(kind) if each.name != "reveal"]
        for name, kind in records.items()
    }
    assert own == seen


# ------------------------------------------------------------------------ approvals


def test_payments_approve_exactly_what_is_missing(stage: Stage) -> None:
    outsider = stage.outsider
    who, federation = outsider.sender.address, outsider.address
    outsider.fund(TokenUnits(70))
    assert stage.token.allowance(who, federation) == 0
    outsider.approve_exactly(TokenUnits(500))
    outsider.fund(TokenUnits(100))  # is covered, so nothing is approved
    assert stage.token.allowance(who, federation) == 400
    outsider.join()
    assert stage.token.allowance(who, federation) == 0
    assert stage.token.balance_of(who) == PURSE - 70 - 100 - 1_000
    assert outsider.escrow() == 170


def test_payments_in_vain_approve_nothing(stage: Stage) -> None:
    outsider = stage.outsider
    before = stage.w3.eth.block_number
    with pytest.raises(Reverted, match="is Unlisted, this call needs Listed"):
        outsider.bond()
    with pytest.raises(Reverted, match="the amount is 0"):
        outsider.fund(TokenUnits(0))
    with pytest.raises(Misconfigured, match=r"holds 1,000,000 units .* fund takes 1,000,001"):
        outsider.fund(TokenUnits(PURSE + 1))
    assert stage.w3.eth.block_number == before


# ------------------------------------------------------------------------- refusals


def test_reading_needs_no_wallet_and_writing_does(stage: Stage) -> None:
    reader = Federation(stage.w3, stage.sponsor.address)
    assert reader.terms() == stage.terms
    for call in (reader.leave, reader.join, lambda: reader.token.approve(reader.address, PURSE)):
        with pytest.raises(Misconfigured, match=r"was opened for reading: .* needs a wallet"):
            call()


def test_values_of_the_wrong_form_are_not_sent(stage: Stage) -> None:
    before = stage.w3.eth.block_number
    with pytest.raises(Misconfigured, match=r"commit does not take \(1, 31 bytes\)"):
        stage.outsider.commit(ONE, bytes(31))  # type: ignore[arg-type]
    with pytest.raises(Misconfigured, match="reveal does not take") as caught:
        stage.outsider.reveal(ONE, digest(1), digest(2), 2**32, SALT)
    assert repr(SALT) not in str(caught.value)
    with pytest.raises(Misconfigured, match="getRound does not take"):
        stage.outsider.status(RoundId(-1))
    score = BasisPoints(2**16)
    wrong = [Verdict(stage.outsider.sender.address, bytes(30), 1, score, 0)]
    with pytest.raises(Misconfigured, match="propose does not take"):
        stage.lead.propose(ONE, digest(1), digest(2), wrong)
    assert stage.w3.eth.block_number == before


def test_no_contract_at_the_address(w3: Web3, wallets: tuple[Wallet, ...]) -> None:
    with pytest.raises(Misconfigured, match=f"there is no contract at {wallets[0].address}"):
        Federation(w3, wallets[0].address)
    with pytest.raises(Misconfigured, match="EIP-55"):
        Federation(w3, Address(wallets[0].address.lower()))


def test_another_contract_at_the_address(stage: Stage) -> None:
    with pytest.raises(Misconfigured, match="is not a federation of this version"):
        Federation(stage.w3, stage.token.address)
    with pytest.raises(Unavailable, match="does not fit its interface"):
        Erc20(stage.w3, stage.lead.sender.address).symbol()
