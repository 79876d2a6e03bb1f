"""The sponsor's invitation of a participant: EIP-712 typed data, signed outside the chain.

    invitation = sign_invitation(wallet, chain_id, federation, participant, expiry)
    invitation.to_line()        # {"participant": "0x…", "expiry": 1790000000, "signature": "0x…"}

A federation `by_invitation` admits whom its sponsor has invited (contracts/src/federation).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.text import parse_json
from protocol.types import Address, UnixTime, parse_address

_TYPES: Final = {
    "Invitation": [{"name": "participant", "type": "address"}, {"name": "expiry", "type": "uint40"}]
}
_MOST_BYTES: Final = 4096  # of a line: a contract's signature may be longer than a key's 65 bytes


@dataclass(frozen=True)
class Invitation:
    """The sponsor's word that `participant` may join until `expiry`."""

    participant: Address
    expiry: UnixTime
    signature: bytes

    def to_line(self) -> str:
        """Return the invitation as one line of JSON."""
        fields = {
            "participant": self.participant,
            "expiry": self.expiry,
            "signature": "0x" + self.signature.hex(),
        }
        return json.dumps(fields)

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the invitation in a line; a one-line Misconfigured when it holds none."""
        try:
            fields = parse_json(line)
            participant, expiry, signature = (
                fields[name] for name in ("participant", "expiry", "signature")
            )
            if type(expiry) is not int or not 0 <= expiry < 2**40:
                raise ValueError("expiry")
            return cls(
                parse_address(participant),
                UnixTime(expiry),
                bytes.fromhex(signature.removeprefix("0x")),
            )
        except (ValueError, KeyError, TypeError, AttributeError, Misconfigured) as error:
            raise Misconfigured(
                "the invitation is not a line that `commonweight federation invite` printed"
            ) from error

    @classmethod
    def load(cls, given: str) -> Self:
        """Return the invitation that `given` is, or that the file of this name holds."""
        if given.lstrip().startswith("{"):
            return cls.parse(given)
        try:
            with Path(given).open(encoding="utf-8") as file:
                return cls.parse(file.read(_MOST_BYTES))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise Misconfigured(f"the invitation {given} cannot be read: {reason}") from error


def sign_invitation(
    wallet: Wallet, chain_id: int, federation: Address, participant: Address, expiry: UnixTime
) -> Invitation:
    """Return the invitation, signed with the sponsor's wallet; only this federation takes it."""
    domain: dict[str, Any] = {
        "name": "Commonweight",
        "version": "2",
        "chainId": chain_id,
        "verifyingContract": federation,
    }
    message = {"participant": participant, "expiry": expiry}
    return Invitation(participant, expiry, wallet.sign_typed_data(domain, _TYPES, message))
