"""A type for each quantity, so that a round number is never passed as an amount.

Units and ranges: docs/protocol.md §1.
"""

from contextlib import suppress
from dataclasses import dataclass
from re import fullmatch
from typing import NewType

from eth_utils.address import is_checksum_address, to_checksum_address

from protocol.errors import Misconfigured

Digest = NewType("Digest", bytes)
"""32 bytes from SHA-256 or Keccak-256."""

Address = NewType("Address", str)
"""An Ethereum address: 0x and 40 hex digits, with the EIP-55 checksum in the letters' case."""

RoundId = NewType("RoundId", int)
"""The number of a round; the first is 1, and 0 stands for the model before any round."""

TokenUnits = NewType("TokenUnits", int)
"""An amount in the smallest unit of the federation's ERC-20."""

BasisPoints = NewType("BasisPoints", int)
"""Parts of 10,000."""

UnixTime = NewType("UnixTime", int)
"""Whole seconds since 1970-01-01 00:00 UTC."""


@dataclass(frozen=True)
class Unit:
    """The unit of a number that people set, as docs/settings.md and messages name it.

    Annotated[float, Unit("seconds")]
    """

    name: str


FULL_BASIS_POINTS = BasisPoints(10_000)

TOKEN_DECIMALS = 18
"""The decimals of every token that a federation may pay in; users see whole tokens."""


def parse_address(text: str) -> Address:
    """Return `text` as an `Address`; Misconfigured unless it is in EIP-55 form."""
    if not is_checksum_address(text):
        raise Misconfigured(f"{text!r} is not an address with EIP-55 capitals")
    return Address(text)


def read_address(text: str) -> Address:
    """Return an address that a person typed, in any case; else raise Misconfigured.

    With both capitals and small letters it must be in EIP-55 form: these tell a typing error.
    """
    digits = text[2:]
    has_one_case = digits in (digits.lower(), digits.upper())
    if text[:2].lower() == "0x" and len(digits) == 40 and has_one_case:
        with suppress(ValueError):
            return Address(to_checksum_address("0x" + digits.lower()))
    if is_checksum_address(text):
        return Address(text)
    if fullmatch(r"0[xX][0-9a-fA-F]{40}", text):
        raise Misconfigured(
            f"the address {text!r} has a wrong digit or capital: its capitals are a checksum, and"
            " it is taken in small letters without one"
        )
    raise Misconfigured(f"the address {text!r}: expected 0x and 40 hex digits")


def parse_digest(text: str) -> Digest:
    """Return the 32 bytes of 64 lower-case hex digits, with or without 0x; else Misconfigured."""
    digits = text.removeprefix("0x")
    # Not bytes.fromhex alone: it takes capitals and spaces, and a digest has one spelling.
    if len(digits) != 64 or any(digit not in "0123456789abcdef" for digit in digits):
        raise Misconfigured(f"{text!r} is not a digest: 64 lower-case hex digits were expected")
    return Digest(bytes.fromhex(digits))


def format_tokens(units: int) -> str:
    """Return an amount in token units as whole tokens, to two places."""
    return f"{units / 10**TOKEN_DECIMALS:,.2f}"
