"""Listing, inviting, closing, refunding: through the client, on a chain in this process."""

from collections.abc import Iterator

import pytest

from chain.invitation import Invitation
from contracts.enums import Status
from devnet.accounts import dev_keys
from devnet.tester import connect_tester
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.types import RoundId
from sponsor import manage
from tests.chain.stage import ESCROW, PURSE, Stage, advance_to, make_stage, mine, undone, with_terms
from tests.terms import factory_of

ONE = RoundId(1)


@pytest.fixture(scope="module")
def wallets() -> tuple[Wallet, ...]:
    return tuple(Wallet.from_key(key) for key in dev_keys()[:8])


@pytest.fixture(scope="module")
def _stage(wallets: tuple[Wallet, ...]) -> Stage:
    return make_stage(connect_tester(), wallets)


@pytest.fixture
def stage(_stage: Stage) -> Iterator[Stage]:
    with undone(_stage.w3):
        yield _stage


def test_federations_of_a_factory_are_listed(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    closed = with_terms(stage.token, wallets, by_invitation=True, rounds=7)
    closed.sponsor.close()
    stage.open()
    rows = manage.list_federations(factory_of(stage.sponsor.sender), 0)
    by_address = {row["federation"]: row for row in rows}
    first, second = by_address[stage.sponsor.address], by_address[closed.sponsor.address]
    assert (first["rounds_left"], first["participants"], first["over"]) == (2, 3, False)
    assert (second["rounds_left"], second["by_invitation"], second["over"]) == (7, True, True)
    assert first["update_reward"] == 300
    assert first["spec_cid"].startswith("bafkrei")


def test_an_invitation_goes_through_a_line(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    guarded = with_terms(stage.token, wallets, by_invitation=True)
    guest = guarded.participants[0]
    made = manage.invite(guarded.sponsor, wallets[0], guest.sender.address, 600)
    guest.join(Invitation.load(made.to_line()))
    assert guarded.sponsor.get_participant(guest.sender.address).active
    with pytest.raises(Misconfigured, match=f"{wallets[1].address} is not the sponsor"):
        manage.invite(guarded.sponsor, wallets[1], guest.sender.address, 600)
    with pytest.raises(Misconfigured, match="it asks for no invitation"):
        manage.invite(stage.sponsor, wallets[0], guest.sender.address, 600)


@pytest.mark.parametrize("line", ["", "{}", '{"participant": 1}', "[]", "no file of this name"])
def test_what_is_no_invitation_is_said_so(line: str) -> None:
    with pytest.raises(Misconfigured, match=r"the invitation .*"):
        Invitation.load(line)


def test_closing_and_the_refund(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    stage.sponsor.fund(ESCROW)
    with pytest.raises(Misconfigured, match="is not over: close it"):
        manage.refund(stage.sponsor)
    with pytest.raises(Misconfigured, match="is not the sponsor of"):
        manage.close(stage.outsider, wallets[6])
    manage.close(stage.sponsor, wallets[0])
    with pytest.raises(Misconfigured, match="is closed already"):
        manage.close(stage.sponsor, wallets[0])
    held = stage.token.balance_of(stage.sponsor.sender.address)
    assert manage.refund(stage.sponsor) == ESCROW
    assert stage.token.balance_of(stage.sponsor.sender.address) == held + ESCROW
    assert manage.refund(stage.sponsor) == 0


def test_the_open_round_runs_to_its_end_first(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    stage.open()
    manage.close(stage.sponsor, wallets[0])
    with pytest.raises(Misconfigured, match="wait for the open round's end"):
        manage.refund(stage.sponsor)
    # Nobody proposes and no standby is bonded: whoever asks for the refund abandons the round.
    stage.submit(ONE)
    advance_to(stage.w3, stage.sponsor.get_round(ONE).propose_deadline)
    assert manage.refund(stage.sponsor) == ESCROW
    assert stage.sponsor.status(ONE) is Status.ABANDONED
    assert stage.token.balance_of(stage.sponsor.sender.address) >= PURSE


def test_a_round_whose_seed_nobody_fixed_does_not_hold_the_escrow(
    stage: Stage, wallets: tuple[Wallet, ...]
) -> None:
    stage.sponsor.fund(ESCROW)
    stage.lead.bond()
    stage.participants[0].join()
    stage.lead.open_round()
    manage.close(stage.sponsor, wallets[0])
    mine(stage.w3, 257)
    assert manage.refund(stage.outsider) == ESCROW  # anybody may; the sponsor is credited
    assert stage.sponsor.credit_of(stage.sponsor.sender.address) == ESCROW
