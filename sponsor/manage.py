"""What a sponsor does with a federation of its own: list, invite, announce, close, refund."""

import time
from typing import Any

from chain.factory import Factory
from chain.federation import Federation
from chain.invitation import Invitation, sign_invitation
from chain.phases import void_round
from contracts.enums import Status
from contracts.reverts import Reverted
from ethereum.wallet import Wallet
from protocol.cid import raw_cid
from protocol.errors import Misconfigured
from protocol.types import Address, RoundId, TokenUnits, UnixTime


def list_federations(factory: Factory, from_block: int) -> list[dict[str, Any]]:
    """Return a row for each federation of a factory, oldest first; amounts in token units."""
    rows = []
    for founded in factory.federations(from_block):
        federation = Federation(
            factory.w3, founded.federation, deployment_block=founded.block
        ).now()
        terms, opened = federation.terms(), federation.round_count()
        rows.append(
            {
                "federation": founded.federation,
                "sponsor": founded.sponsor,
                "block": founded.block,
                "spec_cid": raw_cid(founded.spec_digest),
                "update_reward": terms.money.update_reward,
                "participant_stake": terms.money.participant_stake,
                "participants": federation.active_count(),
                "by_invitation": terms.seats.by_invitation,
                "rounds_left": terms.seats.rounds - opened,
                "over": federation.is_over(),
            }
        )
    return rows


def invite(
    federation: Federation, wallet: Wallet, participant: Address, seconds: int
) -> Invitation:
    """Return an invitation that holds for so many seconds from now; nothing is sent.

    Raises Misconfigured when the wallet is not the sponsor's, no invitation is asked for, or no
    round is opened any more.
    """
    if not federation.terms().seats.by_invitation:
        raise Misconfigured(f"anybody may join {federation.address}: it asks for no invitation")
    _require_sponsor(federation, wallet)
    # The contract would take the guest's stake all the same.
    if federation.is_closed() or federation.is_over():
        raise Misconfigured(f"{federation.address} opens no further round: nobody can be invited")
    # A chain to try things on may be ahead of this machine's clock, and then its time counts.
    now = max(int(time.time()), federation.next_time())
    expiry = UnixTime(now + seconds)
    return sign_invitation(wallet, federation.chain_id, federation.address, participant, expiry)


def announce(federation: Federation, wallet: Wallet, whereabouts: str) -> None:
    """Say where the sponsor's blocks are; Misconfigured when the wallet is another's."""
    _require_sponsor(federation, wallet)
    federation.announce(whereabouts)


def close(federation: Federation, wallet: Wallet) -> None:
    """Open no further rounds; the open one runs to its end. Raises Misconfigured if closed."""
    _require_sponsor(federation, wallet)
    if federation.is_closed():
        raise Misconfigured(f"{federation.address} is closed already")
    federation.close()


def refund(federation: Federation) -> TokenUnits:
    """Credit the remaining escrow to the sponsor, and pay it out when it is the wallet's.

    Returns what was credited. A round that can only be abandoned is abandoned first.
    """
    _abandon_what_is_stuck(federation)
    if not federation.is_over():
        raise Misconfigured(
            f"{federation.address} is not over: close it with `commonweight federation close`, and"
            " wait for the open round's end"
        )
    amount = federation.escrow()
    if amount:
        federation.refund()
    me = federation.sender.address
    if me == federation.sponsor() and federation.credit_of(me):
        federation.withdraw()
    return amount


def _abandon_what_is_stuck(federation: Federation) -> None:
    """Abandon the open round when nobody can bring it to another end."""
    newest = federation.round_count()
    if not newest:
        return
    status = federation.status(newest)
    if status is Status.VOID:
        void_round(federation, RoundId(newest))
    if status in (Status.UNSEEDED, Status.EXPIRED):
        try:
            federation.abandon(RoundId(newest))
        except Reverted as error:
            if error.name != "StandbyAvailable":  # the standby ends it
                raise


def _require_sponsor(federation: Federation, wallet: Wallet) -> None:
    sponsor = federation.sponsor()
    if wallet.address != sponsor:
        raise Misconfigured(
            f"{wallet.address} is not the sponsor of {federation.address}: {sponsor} is"
        )
