"""Masked rounds through the client: statuses, sums and events as the contract has them."""

from dataclasses import replace

import pytest
from eth_utils.crypto import keccak

import chain.events as ev
from chain.event_log import MissingLogs, check_complete
from chain.federation import Federation
from chain.history import History
from chain.records import Opening, Secrets
from contracts.enums import Privacy, Status, SubmissionState
from contracts.reverts import Reverted
from ethereum.wallet import Wallet
from protocol.commitment import PREFIX_BYTES, compute_masked_commitment, compute_members_hash
from protocol.reveal import Reveal
from protocol.types import Address, BasisPoints, Digest, RoundId, UnixTime
from protocol.verdict import FULL_SCORE, Verdict
from tests.chain.stage import (
    SALT,
    Stage,
    advance_to,
    digest,
    mine,
    reveal_values,
    undone,
    with_terms,
)

ONE = RoundId(1)
WINDOWS = {"seal_seconds": 100, "unmask_seconds": 200, "assist_seconds": 300}
BUNDLE, SILENT = 14, 15


@pytest.fixture
def stage(either_stage: Stage, wallets: tuple[Wallet, ...]) -> Stage:
    """A federation of which only sums are opened; three participants and three in a set."""
    return with_terms(
        either_stage.token,
        wallets,
        privacy=Privacy.MASKED,
        min_set=3,
        min_participants=3,
        unbonding_seconds=3_600,
        **WINDOWS,
    )


def ascending(stage: Stage) -> list[Federation]:
    return sorted(stage.participants, key=lambda each: each.sender.address.lower())


def addresses(stage: Stage) -> list[Address]:
    return [each.sender.address for each in ascending(stage)]


def key(who: Federation) -> bytes:
    return bytes([9]) + bytes.fromhex(who.sender.address[2:]).rjust(31, b"\1")


def own_seed(who: Federation) -> bytes:
    return keccak(b"own" + key(who))


def reveal_of(stage: Stage, who: Federation) -> Reveal:
    """Return what `who` reveals, with commitments to its own seed and two of pairs."""
    root, manifest, examples, _ = reveal_values(who)
    secrets = Digest(keccak(b"".join(commitments(who))))
    return Reveal(who.sender.address, root, manifest, examples, secrets)


def commitments(who: Federation) -> list[Digest]:
    return [Digest(keccak(seed)) for seed in (own_seed(who), b"\1" * 32, b"\2" * 32)]


def commit(stage: Stage, who: Federation) -> None:
    examples = reveal_values(who)[2]
    made = compute_masked_commitment(who.address, ONE, who.sender.address, key(who), examples, SALT)
    who.commit_masked(ONE, made, key(who))


def reveal(stage: Stage, who: Federation) -> None:
    shown = reveal_of(stage, who)
    assert shown.secrets is not None
    opening = Opening(shown.root, shown.manifest, shown.examples)
    who.reveal_masked(ONE, opening, key(who), SALT, shown.secrets)


def unmask(stage: Stage, who: Federation, sender: Federation | None = None) -> None:
    secrets = Secrets(reveal_of(stage, who), addresses(stage), commitments(who), [own_seed(who)])
    (sender or who).unmask(ONE, secrets, digest(40))


def verdicts(stage: Stage, *opened: Federation) -> list[Verdict]:
    made = []
    for who in ascending(stage):
        shown = reveal_of(stage, who)
        if who in opened:
            shown = replace(shown, seeds=(own_seed(who),))
        weight = min(shown.examples, stage.terms.seats.weight_cap)
        found = shown.digest[:PREFIX_BYTES]
        made.append(Verdict(who.sender.address, found, weight, FULL_SCORE, 0))
    return made


def openings(stage: Stage, *people: Federation) -> list[Opening]:
    shown = [replace(reveal_of(stage, who), seeds=(own_seed(who),)) for who in people]
    return [Opening(each.root, each.bound_manifest, each.examples) for each in shown]


def compare(stage: Stage) -> Status:
    """Return the status that the client derives, which is the contract's."""
    client, block = stage.sponsor.now(), stage.w3.eth.get_block("latest")
    number, at = int(block["number"]), UnixTime(block["timestamp"])
    derived = client.get_round(ONE).status_at(at, number, stage.terms, client.get_sum(ONE))
    assert derived is client.status(ONE, number)
    return derived


def revealed_by(stage: Stage, *people: Federation) -> None:
    stage.open()
    for who in stage.participants:
        commit(stage, who)
    assert compare(stage) is Status.REVEAL
    for who in people:
        reveal(stage, who)


def sealed(stage: Stage) -> None:
    revealed_by(stage, *stage.participants)
    stage.lead.seal_set(ONE, verdicts(stage))
    mine(stage.w3, 1)
    stage.outsider.fix_sketch(ONE)


def kinds(stage: Stage) -> set[type]:
    return {type(each) for each in stage.sponsor.read_events(round_id=ONE)}


def test_a_masked_round(stage: Stage) -> None:
    revealed_by(stage, *stage.participants)
    assert compare(stage) is Status.SEAL
    facts = stage.sponsor.get_round(ONE)
    assert facts.next_deadline == facts.reveal_deadline + WINDOWS["seal_seconds"]
    with undone(stage.w3):
        advance_to(stage.w3, facts.next_deadline)
        assert compare(stage) is Status.EXPIRED
    stage.lead.seal_set(ONE, verdicts(stage))
    assert compare(stage) is Status.UNMASK
    found = stage.sponsor.get_sum(ONE)
    assert (found.size, found.by_rank, found.by_order) == (3, 0b111, 0b111)
    assert found.members_hash == compute_members_hash(addresses(stage))
    at = UnixTime(stage.w3.eth.get_block(found.sealed_block)["timestamp"])
    assert found.unmask_deadline == at + WINDOWS["unmask_seconds"]
    assert found.assist_deadline == found.unmask_deadline + WINDOWS["assist_seconds"]
    mine(stage.w3, 1)
    stage.outsider.fix_sketch(ONE)
    for who in stage.participants:
        unmask(stage, who)
    assert compare(stage) is Status.PROPOSE
    given = verdicts(stage, *stage.participants)
    stage.lead.propose(ONE, digest(20), digest(21), given)
    assert compare(stage) is Status.CHALLENGE
    stage.participants[0].object_to(ONE)
    assert compare(stage) is Status.CHALLENGE
    with undone(stage.w3):
        stage.participants[1].object_to(ONE)
        assert compare(stage) is Status.VOID
    advance_to(stage.w3, stage.sponsor.get_round(ONE).challenge_deadline)
    assert compare(stage) is Status.SETTLEABLE
    stage.outsider.finalize(ONE, given)
    assert kinds(stage) >= {
        ev.KeyPublished,
        ev.SecretsBound,
        ev.SetSealed,
        ev.SketchFixed,
        ev.Unmasked,
        ev.Objected,
    }
    told = [e for e in stage.sponsor.read_events() if isinstance(e, ev.Unmasked)]
    assert {each.participant: each.own_seed for each in told} == {
        who.sender.address: own_seed(who) for who in stage.participants
    }
    assert all(each.sketch == digest(40) and each.seeds == () for each in told)


def test_a_silent_member_is_recovered(stage: Stage) -> None:
    sealed(stage)
    silent, second, third = ascending(stage)
    unmask(stage, second)
    unmask(stage, third)
    with pytest.raises(Reverted, match="round 1 is in Unmask, this call needs Assist"):
        unmask(stage, silent, sender=third)
    advance_to(stage.w3, stage.sponsor.get_sum(ONE).unmask_deadline)
    assert compare(stage) is Status.ASSIST
    second.assist(ONE, silent.sender.address, [b"\7" * 32])
    unmask(stage, silent, sender=third)
    assert compare(stage) is Status.PROPOSE
    who = silent.sender.address
    assert stage.sponsor.get_submission(ONE, who).state is SubmissionState.RECOVERED
    assert stage.sponsor.burned() == stage.terms.money.missed_reveal_penalty
    given = verdicts(stage, *stage.participants)
    with pytest.raises(Reverted, match=f"the verdict on {who} in round 1 does not fit"):
        stage.lead.propose(ONE, digest(20), digest(21), given)
    given[0] = replace(given[0], score=BasisPoints(0), reason=SILENT)
    stage.lead.propose(ONE, digest(20), digest(21), given)
    (told,) = (e for e in stage.sponsor.read_events() if isinstance(e, ev.Assisted))
    assert (told.silent, told.helper, told.shares) == (who, second.sender.address, (b"\7" * 32,))


def test_a_round_without_all_secrets_is_void(stage: Stage) -> None:
    sealed(stage)
    silent, second, third = ascending(stage)
    unmask(stage, second)
    unmask(stage, third)
    advance_to(stage.w3, stage.sponsor.get_sum(ONE).assist_deadline)
    assert compare(stage) is Status.VOID
    stage.outsider.void_round(ONE, addresses(stage), openings(stage, second, third))
    assert compare(stage) is Status.ABANDONED
    cap = stage.terms.seats.weight_cap
    for who in (second, third):
        half = stage.terms.money.update_reward * min(reveal_values(who)[2], cap) // (2 * cap)
        assert stage.sponsor.credit_of(who.sender.address) == half
    stage.outsider.penalize(ONE, silent.sender.address)
    assert ev.Voided in kinds(stage)


def test_a_round_of_too_few_ends(stage: Stage) -> None:
    stage.open()
    for who in stage.participants[:2]:
        commit(stage, who)
    advance_to(stage.w3, stage.sponsor.get_round(ONE).commit_deadline)
    assert compare(stage) is Status.SEAL  # two would reveal what no sum may open
    with pytest.raises(Reverted, match="round 1 is in Seal, this call needs Reveal"):
        reveal(stage, stage.participants[0])
    stage.outsider.abandon(ONE)
    assert compare(stage) is Status.ABANDONED


def test_each_privacy_has_its_calls(either_stage: Stage, stage: Stage) -> None:
    stage.open()
    with pytest.raises(Reverted, match="updates are Masked in this federation"):
        stage.participants[0].commit(ONE, digest(1))
    weak = b"\xed" + b"\xff" * 31  # p, as it may be published
    with pytest.raises(Reverted, match=f"the public key 0x{weak.hex()} has a small order"):
        stage.participants[0].commit_masked(ONE, digest(1), weak)
    either_stage.open()
    with pytest.raises(Reverted, match="updates are Clear in this federation"):
        either_stage.participants[0].commit_masked(ONE, digest(1), key(stage.participants[0]))


def test_who_refused_a_sum_accounts_for_its_masks(stage: Stage) -> None:
    sealed(stage)
    for who in stage.participants:
        unmask(stage, who)
    stage.lead.propose(ONE, digest(20), digest(21), verdicts(stage, *stage.participants))
    first, second, third = ascending(stage)
    first.object_to(ONE)
    with pytest.raises(Reverted, match="round 1 is in Challenge, this call needs Void"):
        first.post_streams(ONE, digest(50))
    second.object_to(ONE)
    first.post_streams(ONE, digest(50))
    everybody = openings(stage, first, second, third)
    stage.outsider.void_round(ONE, addresses(stage), everybody)
    third.post_streams(ONE, digest(51))
    first.post_streams(ONE, digest(52))
    told = stage.sponsor.history().round(ONE)
    assert told.is_refused
    assert [(e.participant, e.streams) for e in told.masking.streams] == [
        (first.sender.address, digest(50)),
        (third.sender.address, digest(51)),
        (first.sender.address, digest(52)),
    ]
    with pytest.raises(Reverted):
        stage.outsider.post_streams(ONE, digest(53))


COUNTED = (
    ev.KeyPublished,
    ev.SecretsBound,
    ev.SetSealed,
    ev.SketchFixed,
    ev.Unmasked,
    ev.Objected,
)


def test_no_counted_log_of_a_sum_can_be_left_out(stage: Stage) -> None:
    """A sum over the wrong set, or of fewer secrets, is none."""
    sealed(stage)
    for who in stage.participants:
        unmask(stage, who)
    stage.lead.propose(ONE, digest(20), digest(21), verdicts(stage, *stage.participants))
    stage.participants[0].object_to(ONE)
    told, block = stage.sponsor.read_events(), stage.w3.eth.block_number
    deposit = stage.terms.money.availability_deposit
    check_complete(History.fold(told, deposit), stage.sponsor, block)
    for event in told:
        if isinstance(event, COUNTED):
            fewer = [each for each in told if each is not event]
            with pytest.raises(MissingLogs, match=f"not have all logs of block {block}"):
                check_complete(History.fold(fewer, deposit), stage.sponsor, block)
