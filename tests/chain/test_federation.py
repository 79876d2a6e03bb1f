"""The typed client: a whole round with everybody's money, every read and every refusal."""

from dataclasses import fields
from typing import Any

import pytest
from eth_utils.crypto import keccak
from web3 import Web3

import chain.federation
from chain.deploy import deploy_federation
from chain.events import AggregatorReplaced, AggregatorSlashed, Withdrawn
from chain.federation import Federation
from chain.records import AvailabilityRequest, Leaf, Model, Participant, Round, Submission, Terms
from chain.token import Erc20
from contracts.compiler import load_artifact
from contracts.enums import AggregatorState, Outcome, Status, SubmissionState
from contracts.names import snake_case
from contracts.reverts import Reverted
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.commitment import compute_update_digest, is_eligible
from protocol.errors import Misconfigured
from protocol.payout import compute_payouts
from protocol.types import Address, BasisPoints, RoundId, TokenUnits
from protocol.verdict import Verdict, verdicts_hash
from tests.chain.stage import (
    ESCROW,
    PURSE,
    SALT,
    Stage,
    advance_to,
    digest,
    make_terms,
    now,
    reveal_values,
    with_terms,
)

ONE = RoundId(1)
ABI = load_artifact("Federation")["abi"]


@pytest.fixture
def stage(either_stage: Stage) -> Stage:
    """Both chains are held to the same."""
    return either_stage


def addresses(stage: Stage) -> list[Address]:
    clients = (stage.sponsor, stage.lead, stage.standby, *stage.participants, stage.outsider)
    return [each.sender.address for each in clients]


def assert_tokens_add_up(stage: Stage) -> None:
    """Tokens in = credited + escrowed + staked + bonded + deposited, whatever has happened."""
    federation = stage.sponsor
    owed = TokenUnits(federation.escrow() + federation.deposits())
    for who in addresses(stage):
        owed = TokenUnits(owed + federation.credit_of(who) + federation.get_participant(who).stake)
        if federation.aggregator_state(who) == AggregatorState.BONDED:
            owed = TokenUnits(owed + stage.terms.aggregator_bond)
    assert stage.token.balance_of(federation.address) == owed


# ------------------------------------------------------------------------ a round


def test_a_round_from_joining_to_withdrawing(stage: Stage) -> None:
    federation, terms = stage.sponsor, stage.terms
    opened = stage.open()
    assert opened.round_id == ONE == federation.round_count()
    assert stage.token.balance_of(federation.address) == ESCROW + 5_000 + 3 * 1_000
    assert federation.active_count() == 3
    assert federation.status(ONE) == Status.COMMIT

    commitments = {each.sender.address: stage.commit(each, ONE) for each in stage.participants}
    for who, commitment in commitments.items():
        assert federation.get_submission(ONE, who) == Submission(
            commitment[:31], SubmissionState.COMMITTED
        )
    assert federation.status(ONE) == Status.REVEAL

    for each in stage.participants:
        root, manifest, examples, salt = reveal_values(each)
        each.reveal(ONE, root, manifest, examples, salt)
        assert federation.get_submission(ONE, each.sender.address) == Submission(
            compute_update_digest(root, manifest, examples)[:31], SubmissionState.REVEALED
        )
    assert federation.status(ONE) == Status.PROPOSE

    verdicts = stage.verdicts([5, 7, 11])
    rejected = verdicts[1] = Verdict(verdicts[1].participant, 0, BasisPoints(0), 8)
    stage.lead.propose(ONE, digest(20), digest(21), verdicts)
    assert federation.status(ONE) == Status.CHALLENGE
    assert federation.current_model() == Model(digest(1), digest(2))
    facts = federation.get_round(ONE)
    assert facts == Round(
        opened.event.commit_deadline,
        opened.event.reveal_deadline,
        opened.event.propose_deadline,
        facts.challenge_deadline,
        3,
        3,
        3,
        Outcome.OPEN,
        0,
        1,
        opened.event.seed,
        digest(20),
        digest(21),
        verdicts_hash(verdicts),
    )
    assert facts.reveal_deadline == facts.commit_deadline + terms.reveal_seconds

    advance_to(stage.w3, facts.challenge_deadline)
    assert federation.status(ONE) == Status.SETTLEABLE
    stage.outsider.finalize(ONE, verdicts)
    assert federation.status(ONE) == Status.FINALIZED
    assert federation.get_round(ONE).outcome == Outcome.FINALIZED
    assert federation.last_finalized_round() == ONE
    assert federation.current_model() == Model(digest(20), digest(21))
    assert federation.idle_since() == now(stage.w3)

    payouts = compute_payouts(terms.round_reward, verdicts)
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
    assert federation.credit_of(stage.lead.sender.address) == terms.aggregator_fee
    assert federation.escrow() == ESCROW - sum(payouts.values()) - terms.aggregator_fee
    assert_tokens_add_up(stage)


def test_penalty_leaving_and_stake(stage: Stage) -> None:
    stage.open()
    late, leaving, _ = stage.participants
    who = late.sender.address
    stage.commit(late, ONE)
    leaving.leave()
    unlock_at = leaving.get_participant(leaving.sender.address).unlock_at
    assert unlock_at == now(stage.w3) + stage.terms.unbonding_seconds
    assert late.active_count() == 2
    advance_to(stage.w3, late.get_round(ONE).reveal_deadline)
    stage.outsider.penalize(ONE, who)
    assert late.get_submission(ONE, who).state == SubmissionState.PENALIZED
    assert late.get_participant(who) == Participant(TokenUnits(700), 0, 0, False)  # type: ignore[arg-type]
    assert late.escrow() == ESCROW + 300
    stage.outsider.abandon(ONE)
    assert late.status(ONE) == Status.ABANDONED
    held = stage.token.balance_of(who)
    late.join()  # fills up what is missing, and no more
    assert stage.token.balance_of(who) == held - 300
    assert late.get_participant(who) == Participant(TokenUnits(1_000), 0, 1, True)  # type: ignore[arg-type]
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
    assert stage.sponsor.escrow() == ESCROW + 5_000
    stage.standby.propose(ONE, digest(20), digest(21), stage.verdicts())
    assert_tokens_add_up(stage)


def test_end_gives_bond_and_escrow_back(stage: Stage) -> None:
    stage.sponsor.fund(ESCROW)
    stage.lead.bond()
    assert not stage.sponsor.is_over()
    stage.close()
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
    assert federation.get_round(ONE, **then).commit_deadline == 0
    assert federation.get_submission(ONE, who, **then) == Submission(
        bytes(31), SubmissionState.NONE
    )
    assert federation.get_participant(who, **then) == Participant(0, 0, 0, False)  # type: ignore[arg-type]
    assert federation.status(ONE, **then) == Status.NONE
    assert federation.is_over(**then) is False
    assert federation.idle_since(**then) <= federation.idle_since()
    assert stage.token.balance_of(who, **then) == PURSE
    assert stage.token.allowance(who, federation.address, **then) == PURSE
    assert stage.token.total_supply(**then) == 10 * PURSE
    assert (stage.token.symbol(), stage.token.decimals()) == ("CWD", 18)


def test_eligibility_is_the_protocols(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    half = with_terms(stage.token, wallets, sampling_fraction=5_000)
    half.sponsor.fund(ESCROW)
    half.lead.bond()
    half.participants[0].join()
    seed = half.lead.open_round().event.seed
    for who in [*addresses(half), *(Wallet.create().address for _ in range(8))]:
        asked = half.sponsor.is_eligible(ONE, who)
        assert asked == is_eligible(seed, who, BasisPoints(5_000))


def test_every_function_has_a_method() -> None:
    for entry in ABI:
        if entry["type"] == "function":
            assert callable(getattr(Federation, snake_case(entry["name"])))


def test_records_are_the_contracts_structs() -> None:
    kinds = (Terms, Round, Submission, Participant, Verdict, Leaf, AvailabilityRequest)
    records = {each.__name__: each for each in kinds}
    seen = {}
    for entry in ABI:
        for field in [*entry.get("inputs", []), *entry.get("outputs", [])]:
            if field["type"].startswith("tuple"):
                name = field["internalType"].removesuffix("[]").rpartition(".")[2]
                seen[name] = [snake_case(each["name"]) for each in field["components"]]
    # Its record holds a Reveal, which says whose it is too.
    assert seen.pop("OpenedUpdate") == ["root", "manifest", "examples", "leaf"]
    assert {name: [each.name for each in fields(kind)] for name, kind in records.items()} == seen


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
    wrong = [Verdict(stage.outsider.sender.address, 1, score, 0)]
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
    with pytest.raises(Misconfigured, match="does not fit its interface"):
        Erc20(stage.w3, stage.lead.sender.address).symbol()


def test_look_alike_is_refused(
    stage: Stage, wallets: tuple[Wallet, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One other byte of code, with the same interface and the same answers."""
    genuine = load_artifact("Federation")
    error = keccak(text="NotEligible(uint256,address)")[:4].hex()
    assert error in genuine["bytecode"]
    forged = {**genuine, "bytecode": genuine["bytecode"].replace(error, "00" * 4)}
    monkeypatch.setattr("chain.deploy.load_artifact", lambda _: forged)
    terms = make_terms(stage.w3, stage.token.address)
    with pytest.raises(Misconfigured, match="is not a federation of this version"):
        deploy_federation(Sender(stage.w3, wallets[0]), terms, [wallets[1].address])
    monkeypatch.setattr(chain.federation, "_check_code", lambda *_: None)
    accepted = deploy_federation(Sender(stage.w3, wallets[0]), terms, [wallets[1].address])
    assert accepted.terms() == terms


def test_deployment_block(stage: Stage) -> None:
    block = stage.sponsor.deployment_block
    address = Web3.to_checksum_address(stage.sponsor.address)
    assert stage.w3.eth.get_code(address, block)
    assert not stage.w3.eth.get_code(address, block - 1)
    with pytest.raises(Misconfigured, match="not there at that block"):
        stage.sponsor.round_count(block=block - 1)
