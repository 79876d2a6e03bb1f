"""Counts a federation's tokens (docs/protocol.md §9).

in = credited + escrowed + staked + bonded + deposited + withdrawn
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from auditor.check_result import CheckResult
from chain.accounts import Accounts
from chain.federation import Federation
from protocol.types import Address


@dataclass(frozen=True)
class Holdings:
    """What the contract and the token say at one block, in token units."""

    block: int
    balance: int
    escrow: int
    deposits: int
    credited: Mapping[Address, int]

    def agree_with(self, accounts: Accounts) -> bool:
        """Whether the contract's own numbers are those of its events.

        Its code is this version's, which books what it emits: when they differ, events are missing.
        """
        told = (accounts.escrowed, accounts.deposited, dict(accounts.credited))
        return (self.escrow, self.deposits, self.credited) == told


def read_holdings(federation: Federation, accounts: Accounts, block: int) -> Holdings:
    """Return what is held at `block`; the credit of those accounts that events name.

    Unavailable when the node no longer has the state of `block`.
    """
    return Holdings(
        block,
        federation.token.balance_of(federation.address, block),
        federation.escrow(block),
        federation.deposits(block),
        {account: federation.credit_of(account, block) for account in accounts.credited},
    )


def check_tokens(accounts: Accounts, holdings: Holdings) -> Iterator[CheckResult]:
    """Yield whether the events add up, and whether contract and token agree with them."""
    claim = "tokens in = credited + escrowed + staked + bonded + deposited + withdrawn"
    adds_up = accounts.received == accounts.held + accounts.withdrawn
    yield CheckResult("§9", None, claim, adds_up, f"{accounts.received:,} token units came in")
    claim = "the contract holds what its events say"
    detail = f"{holdings.balance:,} token units, {accounts.held:,} by the events"
    yield CheckResult("§9", None, claim, holdings.balance >= accounts.held, detail)
    claim = (
        f"escrow, deposits and the credit of {len(accounts.credited)} accounts are as the events"
        " say"
    )
    yield CheckResult("§9", None, claim, holdings.agree_with(accounts), "")
