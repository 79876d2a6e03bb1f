"""Counts a federation's tokens (docs/protocol.md §9).

in = credited + escrowed + staked + bonded + deposited + withdrawn + burned
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from auditor.check_result import CheckResult
from chain.accounts import Accounts
from chain.federation import Federation
from protocol.types import Address


@dataclass(frozen=True)
class Holdings:
    """Balances at one block according to the contract and the token, in token units."""

    block: int
    balance: int
    escrow: int
    deposits: int
    burned: int
    credited: Mapping[Address, int]

    def agree_with(self, accounts: Accounts) -> bool:
        """Whether the contract's own numbers are those of its events."""
        # The contract's code was compared with ours, which emits all that it books. So numbers that
        # differ do not show a theft: they show that the node is missing events.
        told = (accounts.escrowed, accounts.deposited, accounts.burned, dict(accounts.credited))
        return (self.escrow, self.deposits, self.burned, self.credited) == told


def read_holdings(federation: Federation, accounts: Accounts, block: int) -> Holdings:
    """Return the balances at `block`, with the credit of every account that the events name.

    Raises Unavailable when the node no longer has the state of `block`.
    """
    return Holdings(
        block,
        federation.token.balance_of(federation.address, block),
        federation.escrow(block),
        federation.deposits(block),
        federation.burned(block),
        {account: federation.credit_of(account, block) for account in accounts.credited},
    )


def check_tokens(accounts: Accounts, holdings: Holdings) -> Iterator[CheckResult]:
    """Check that the events add up, and that contract and token agree with them."""
    claim = "tokens in = credited + escrowed + staked + bonded + deposited + withdrawn + burned"
    adds_up = accounts.received == accounts.held + accounts.withdrawn
    yield CheckResult("§9", None, claim, adds_up, f"{accounts.received:,} token units came in")
    # At least: tokens that somebody sends to the contract directly stay there for ever.
    claim = "the contract holds what its events say"
    detail = f"{holdings.balance:,} token units, {accounts.held:,} by the events"
    yield CheckResult("§9", None, claim, holdings.balance >= accounts.held, detail)
    claim = (
        f"escrow, deposits, what was burned and the credit of {len(accounts.credited)} accounts are"
        " as the events say"
    )
    yield CheckResult("§9", None, claim, holdings.agree_with(accounts), "")
