"""Every error of the federation, provoked through the client where a caller can, and decoded."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from chain.factory import Factory
from contracts.compiler import artifact_names, load_artifact
from contracts.enums import AggregatorState, Status, SubmissionState
from contracts.revert_texts import TEXTS
from contracts.reverts import UNKNOWN, Reverted, decode_revert
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.types import Address, RoundId, TokenUnits
from protocol.verdict import Verdict
from tests.chain.stage import (
    SALT,
    Stage,
    advance_to,
    digest,
    make_terms,
    now,
    reveal_values,
    with_terms,
)
from tests.terms import factory_of

ONE = RoundId(1)
CONTRACTS = artifact_names()
NOBODY = Address("0x" + "00" * 20)


@pytest.fixture
def stage(either_stage: Stage) -> Stage:
    """Both chains are held to the same."""
    return either_stage


def refused(call: Callable[[], object]) -> Reverted:
    with pytest.raises(Reverted) as caught:
        call()
    return caught.value


def check(error: Reverted, name: str, text: str, **arguments: Any) -> None:
    assert error.name == name
    assert error.arguments == arguments
    assert str(error) == text


def utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# ------------------------------------------------------------------------- participants


def test_already_joined_and_full(stage: Stage) -> None:
    stage.open()
    first = stage.participants[0]
    who = first.sender.address
    check(refused(first.join), "AlreadyJoined", f"{who} takes part already", participant=who)
    check(
        refused(stage.outsider.join),
        "FederationFull",
        "all 3 seats are taken",
        max_participants=3,
    )


def test_leaving(stage: Stage) -> None:
    first = stage.participants[0]
    who = first.sender.address
    check(refused(first.leave), "NotJoined", f"{who} has no seat", participant=who)
    first.join()
    first.leave()
    unlock_at = first.get_participant(who).unlock_at
    check(
        refused(first.leave),
        "AlreadyLeaving",
        f"{who} is leaving already, its stake is free at {utc(unlock_at)}",
        participant=who,
        unlock_at=unlock_at,
    )


def test_committing(stage: Stage) -> None:
    first = stage.participants[0]
    who = first.sender.address
    check(
        refused(lambda: first.commit(ONE, digest(1))),
        "WrongStatus",
        "round 1 is in None, this call needs Commit",
        round=1,
        required=Status.COMMIT,
        actual=Status.NONE,
    )
    stage.open()
    outsider = stage.outsider.sender.address
    check(
        refused(lambda: stage.outsider.commit(ONE, digest(1))),
        "NotActive",
        f"{outsider} may not commit to round 1: it is not active, or joined later",
        round=1,
        participant=outsider,
    )
    check(
        refused(lambda: first.commit(ONE, bytes(32))),  # type: ignore[arg-type]
        "ZeroDigest",
        "a digest is zero, one that names something was expected",
    )
    stage.commit(first, ONE)
    check(
        refused(lambda: first.commit(ONE, digest(1))),
        "WrongSubmissionState",
        f"the submission of {who} to round 1 is Committed, this call needs None",
        round=1,
        participant=who,
        required=SubmissionState.NONE,
        actual=SubmissionState.COMMITTED,
    )


def test_not_eligible(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    rare = with_terms(stage.token, wallets, round_target=1)
    rare.open()
    drawn = {p: rare.sponsor.is_eligible(ONE, p.sender.address) for p in rare.participants}
    left_out = [participant for participant, is_drawn in drawn.items() if not is_drawn]
    if not left_out:  # one chance in 27
        pytest.skip("the seed drew everybody")
    who = left_out[0].sender.address
    check(
        refused(lambda: left_out[0].commit(ONE, digest(1))),
        "NotEligible",
        f"the seed of round 1 did not draw {who}",
        round=1,
        participant=who,
    )


def test_a_full_round(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    small = with_terms(stage.token, wallets, round_seats=1)
    small.open()
    small.commit(small.participants[0], ONE)
    check(
        refused(lambda: small.commit(small.participants[1], ONE)),
        "RoundFull",
        "round 1 has all of its 1 commitments",
        round=1,
        round_seats=1,
    )


def test_revealing(stage: Stage) -> None:
    stage.open()
    first = stage.participants[0]
    committed = stage.commit(first, ONE)
    advance_to(stage.w3, first.get_round(ONE).commit_deadline)
    root, manifest, examples, salt = reveal_values(first)
    error = refused(lambda: first.reveal(ONE, root, manifest, examples + 1, salt))
    assert error.name == "CommitmentMismatch"
    assert error.arguments["committed"] == committed[:30]
    assert error.arguments["revealed"] != committed[:30]
    assert f"0x{committed[:30].hex()} was committed to" in str(error)
    check(
        refused(lambda: first.reveal(ONE, root, manifest, 0, SALT)),
        "NoExamples",
        "an update counts at least one example, 0 was given",
    )


def test_nothing_to_withdraw(stage: Stage) -> None:
    who = stage.outsider.sender.address
    check(
        refused(stage.outsider.withdraw),
        "NothingToWithdraw",
        f"nothing is credited to {who}",
        account=who,
    )


# --------------------------------------------------------------------------- aggregator


def test_opening(stage: Stage) -> None:
    lead, standby = stage.lead.sender.address, stage.standby.sender.address
    check(
        refused(stage.standby.open_round),
        "NotAggregator",
        f"{standby} is not the aggregator, {lead} is",
        caller=standby,
        aggregator=lead,
    )
    check(
        refused(stage.lead.open_round),
        "WrongAggregatorState",
        f"the aggregator {lead} is Listed, this call needs Bonded",
        aggregator=lead,
        required=AggregatorState.BONDED,
        actual=AggregatorState.LISTED,
    )
    stage.lead.bond()
    check(
        refused(stage.lead.open_round),
        "TooFewParticipants",
        "0 participants are active, a round needs 1",
        active=0,
        required=1,
    )
    stage.participants[0].join()
    check(
        refused(stage.lead.open_round),
        "EscrowTooLow",
        "the escrow holds 0 token units, a full round costs 950",
        escrow=0,
        required=950,
    )
    stage.open()
    check(
        refused(stage.lead.open_round),
        "RoundStillOpen",
        "round 1 has not ended: it is in Commit",
        round=1,
        actual=Status.COMMIT,
    )


def test_end_of_the_federation(stage: Stage) -> None:
    stage.lead.bond()
    closes_at, lead = stage.terms.windows.closes_at, stage.lead.sender.address
    check(
        refused(stage.lead.unbond),
        "LeadMustStay",
        f"{lead} leads: its bond stays until the federation is over or another one leads",
        aggregator=lead,
    )
    check(
        refused(stage.outsider.refund),
        "FederationNotOver",
        f"the federation is not over: 0 rounds were opened, more may be until {utc(closes_at)}",
        round_count=0,
        closes_at=closes_at,
    )
    caller, sponsor = stage.outsider.sender.address, stage.sponsor.sender.address
    check(
        refused(stage.outsider.close),
        "NotSponsor",
        f"{caller} is not the sponsor, {sponsor} is",
        caller=caller,
        sponsor=sponsor,
    )
    stage.sponsor.close()
    check(
        refused(stage.sponsor.close),
        "AlreadyClosed",
        "the sponsor has closed the federation already",
    )
    check(
        refused(stage.lead.open_round),
        "FederationOver",
        f"no further round may be opened: 0 were, the end is {utc(closes_at)}, closed by the"
        " sponsor: yes",
        round_count=0,
        closes_at=closes_at,
        is_closed=True,
    )
    check(refused(stage.sponsor.refund), "ZeroAmount", "the amount is 0")


def test_verdicts(stage: Stage) -> None:
    stage.open()
    stage.submit(ONE)
    good = stage.verdicts()
    root, manifest = digest(20), digest(21)

    def propose(verdicts: list[Verdict]) -> Reverted:
        return refused(lambda: stage.lead.propose(ONE, root, manifest, verdicts))

    check(
        propose(good[:2]),
        "VerdictCount",
        "2 verdicts were given for 3 revealed updates",
        given=2,
        revealed=3,
    )
    first, second = good[0].participant, good[1].participant
    check(
        propose([good[1], good[0], good[2]]),
        "VerdictOrder",
        f"verdicts go up by participant, each once: {first} stands after {second}",
        previous=second,
        participant=first,
    )
    error = propose([replace(good[0], weight=101), *good[1:]])
    assert error.name == "InvalidVerdict"
    assert error.arguments == {"participant": first, "weight": 101, "score": 10_000, "reason": 0}
    mixed = replace(good[0], revealed=good[1].revealed)
    check(
        propose([mixed, *good[1:]]),
        "RevealMismatch",
        f"what was given of {first} hashes to 0x{mixed.revealed.hex()},"
        f" 0x{good[0].revealed.hex()} was revealed",
        participant=first,
        given=mixed.revealed,
        revealed=good[0].revealed,
    )
    assert str(error).startswith(f"the verdict on {first} has weight 101, score 10000 and reason 0")
    check(
        propose([replace(each, weight=0, score=0, reason=8) for each in good]),  # type: ignore[arg-type]
        "ModelMustStay",
        "no update is accepted, so the model stays"
        f" 0x{digest(1).hex()}: 0x{root.hex()} was proposed",
        root=root,
        current_root=digest(1),
    )


def test_finalizing_other_verdicts(stage: Stage) -> None:
    round_id, verdicts = stage.propose()
    check(
        refused(lambda: stage.outsider.finalize(round_id, verdicts)),
        "WrongStatus",
        "round 1 is in Challenge, this call needs Settleable",
        round=1,
        required=Status.SETTLEABLE,
        actual=Status.CHALLENGE,
    )
    settled = stage.sponsor.get_round(round_id)
    advance_to(stage.w3, settled.challenge_deadline)
    error = refused(lambda: stage.outsider.finalize(round_id, verdicts[:2]))
    assert error.name == "VerdictsMismatch"
    assert error.arguments["proposed"] == settled.verdicts_hash
    assert f"0x{settled.verdicts_hash.hex()} was proposed" in str(error)


def test_replacing(stage: Stage) -> None:
    check(
        refused(stage.outsider.replace_aggregator),
        "NoStandby",
        "no bonded standby is left to take over",
    )
    stage.standby.bond()
    idle_since = stage.sponsor.idle_since()
    error = refused(stage.outsider.replace_aggregator)
    assert error.name == "AggregatorNotLate"
    deadline = idle_since + stage.terms.windows.propose_seconds
    assert error.arguments["deadline"] == deadline
    assert now(stage.w3) <= error.arguments["timestamp"] < deadline
    assert str(error).endswith(f", its deadline is {utc(deadline)}")


def test_abandoning_while_a_standby_can_propose(stage: Stage) -> None:
    stage.standby.bond()
    stage.open()
    stage.submit(ONE)
    advance_to(stage.w3, stage.sponsor.get_round(ONE).propose_deadline)
    standby = stage.standby.sender.address
    check(
        refused(lambda: stage.outsider.abandon(ONE)),
        "StandbyAvailable",
        f"the standby {standby} can still propose this round",
        standby=standby,
    )


# ----------------------------------------------------------------------------- founding


def test_founding(wallets: tuple[Wallet, ...], stage: Stage) -> None:
    w3 = stage.w3
    factory: Factory = factory_of(Sender(w3, wallets[0]))
    lead = wallets[1].address

    def deploy(aggregators: list[Address], **changes: Any) -> Reverted:
        terms = make_terms(w3, stage.token.address, **changes)
        return refused(lambda: factory.create(terms, aggregators))

    before = w3.eth.block_number
    check(
        deploy([lead], tree_depth=5),
        "InvalidTerm",
        "the term treeDepth may not be 5",
        term="treeDepth",
        value=5,
    )
    check(
        deploy([]), "InvalidTerm", "the term aggregators may not be 0", term="aggregators", value=0
    )
    for wrong in (lead, NOBODY):
        check(
            deploy([lead, wrong]),
            "InvalidAggregator",
            f"{wrong} cannot be an aggregator: it is zero or listed twice",
            aggregator=wrong,
        )
    assert w3.eth.block_number == before


# -------------------------------------------------------------------------------- token


def test_token_errors(stage: Stage) -> None:
    who = stage.outsider.sender.address
    check(
        refused(lambda: stage.outsider.token.transfer(stage.token.address, TokenUnits(2_000_000))),
        "ERC20InsufficientBalance",
        f"{who} holds 1,000,000 token units, 2,000,000 are needed",
        sender=who,
        balance=1_000_000,
        needed=2_000_000,
    )
    error = refused(lambda: stage.outsider.token.approve(NOBODY, TokenUnits(1)))
    check(error, "ERC20InvalidSpender", f"{NOBODY} cannot be approved", spender=NOBODY)


# ----------------------------------------------------------------------------- decoding


def test_every_error_has_words() -> None:
    for artifact in CONTRACTS:
        declared = {e["name"] for e in load_artifact(artifact)["abi"] if e["type"] == "error"}
        assert declared <= set(TEXTS)


def entries() -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for artifact in CONTRACTS:
        found |= {e["name"]: e for e in load_artifact(artifact)["abi"] if e["type"] == "error"}
    return list(found.values())


SAMPLES: dict[str, Any] = {
    "address": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "bytes30": b"\xab" * 30,
    "bool": True,
    "bytes32": b"\xcd" * 32,
    "uint256": 1_234,
    "uint32": 77,
    "uint16": 55,
    "uint8": 2,
    "enum IFederation.Privacy": 1,
}


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry["name"])
def test_every_declared_error_is_decoded(entry: dict[str, Any]) -> None:
    types = [field["type"] for field in entry["inputs"]]
    values = [
        b"rounds".ljust(32, b"\0")
        if field["name"] == "term"
        else SAMPLES.get(field["internalType"], SAMPLES[field["type"]])
        for field in entry["inputs"]
    ]
    selector = keccak(text=f"{entry['name']}({','.join(types)})")[:4]
    error = decode_revert(selector + encode(types, values))
    assert error.name == entry["name"]
    assert len(error.arguments) == len(types)
    text = str(error)
    assert "\n" not in text
    for field, value in zip(entry["inputs"], error.arguments.values(), strict=True):
        if field["type"] == "address":
            assert SAMPLES["address"] in text
        elif field["type"].startswith("bytes"):
            assert ("rounds" if field["name"] == "term" else value.hex()) in text
        elif field["type"] == "bool":
            assert "yes" in text
        elif "enum" in field["internalType"]:
            assert value.name.capitalize() in text
        else:
            assert any(form in text for form in (str(value), f"{value:,}", utc(value)))


def test_strings_and_panics() -> None:
    told = decode_revert(keccak(text="Error(string)")[:4] + encode(["string"], ["no way"]))
    assert (told.name, told.arguments, str(told)) == ("Error", {"message": "no way"}, "no way")
    for code, words in {0x11: "arithmetic left its range", 0x99: "for an unknown reason"}.items():
        panic = decode_revert(keccak(text="Panic(uint256)")[:4] + encode(["uint256"], [code]))
        assert panic.name == "Panic"
        assert panic.arguments == {"code": code, "reason": words}
        assert str(panic) == f"the contract panicked: {words} (code {code:#04x})"


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_one_line(data: bytes) -> None:
    assert "\n" not in str(decode_revert(data))


@given(st.sampled_from(entries()), st.binary(max_size=100))
def test_malformed_errors_are_said_so(entry: dict[str, Any], data: bytes) -> None:
    types = [field["type"] for field in entry["inputs"]]
    selector = keccak(text=f"{entry['name']}({','.join(types)})")[:4]
    error = decode_revert(selector + data)
    assert error.name in (entry["name"], UNKNOWN)
    if len(data) < 32 * len(types):
        assert str(error) == f"the contract reverted with a malformed {entry['name']}"


def test_unknown_errors() -> None:
    nothing = decode_revert(b"")
    assert (nothing.name, nothing.arguments) == (UNKNOWN, {})
    assert str(nothing) == "the contract reverted without saying why"
    unknown = decode_revert(b"\x01\x02\x03\x04\x05")
    assert (unknown.name, unknown.arguments) == (UNKNOWN, {"data": "0x0102030405"})
    assert "0x0102030405" in str(unknown)
