"""Transfers of ether and tokens to wallets of a devnet, from the first of its accounts."""

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from chain.federation import connect_federation
from chain.location import FederationLocation
from chain.token import Erc20
from devnet import roles
from devnet.accounts import CHAIN_ID
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address, TokenUnits
from runtime.home import federation_file

_UNITS: Final = 10**18  # of an ether, and of a dev token


def read_amount(text: str) -> int:
    """Return an amount of ether or tokens in wei or token units; else raise Misconfigured."""
    try:
        amount = Decimal(text) * _UNITS
    except InvalidOperation:
        amount = Decimal("NaN")  # refused below, with the other numbers that are none
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise Misconfigured(f"the amount {text!r}: expected a number such as 2.5, not negative")
    return int(amount)


def fund(
    rpc_url: str, to: Address, wei: int, tokens: int, federation: Path | None
) -> dict[str, Decimal]:
    """Send ether and tokens, and return the wallet's balance of those sent, by name.

    The tokens are those of `federation` (a file or a run's folder), else of the newest run, which
    must be on the chain at `rpc_url`. Raises Misconfigured when it is not, or when dev account 0
    does not hold enough.
    """
    sponsor = roles.connect_sponsor(rpc_url, CHAIN_ID)
    held = {}
    if tokens:
        # The devnet may have come back at another port than the federation's file says.
        location = FederationLocation.load(federation_file(federation))
        location = location.model_copy(update={"rpc_url": rpc_url})
        try:
            token = connect_federation(location).token
        except (Misconfigured, Unavailable) as error:
            raise Misconfigured(
                f"the federation {location.address} is not on the devnet's chain: {error}"
            ) from error
        # Asked first: the token's own refusal would be a revert without a figure.
        owned = token.balance_of(sponsor.address)
        if owned < tokens:
            raise Misconfigured(
                f"dev account 0 holds {Decimal(owned) / _UNITS:,f} of the federation's tokens,"
                f" not the {Decimal(tokens) / _UNITS:,f} to be sent"
            )
        Erc20(sponsor.w3, token.address, sponsor).transfer(to, TokenUnits(tokens))
        held["tokens"] = Decimal(token.balance_of(to)) / _UNITS
    if wei:
        sponsor.send(to, b"", wei)
        balance = sponsor.w3.eth.get_balance(sponsor.w3.to_checksum_address(to))
        held["ether"] = Decimal(balance) / _UNITS
    return held
