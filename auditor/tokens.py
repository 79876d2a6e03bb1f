"""Counts a federation's tokens (docs/protocol.md §9).

in = credited + escrowed + staked + bonded + deposited + withdrawn
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from auditor.check_result import Verified
from chain.events import (
    AggregatorSlashed,
    AvailabilityChallenged,
    Bonded,
    DepositReturned,
    FederationEvent,
    Finalized,
    Funded,
    Joined,
    LeafPosted,
    Paid,
    Penalized,
    ProposalRefuted,
    Refunded,
    StakeReleased,
    Unbonded,
    Withdrawn,
)
from chain.federation import Federation
from protocol.types import Address, TokenUnits


@dataclass
class Accounts:
    """Where every token unit is, told by the events alone; a demand takes `deposit`."""

    deposit: int = 0
    received: int = 0
    escrowed: int = 0
    staked: int = 0
    bonded: int = 0
    deposited: int = 0
    withdrawn: int = 0
    credited: Counter[Address] = field(default_factory=Counter)

    @property
    def held(self) -> int:
        """What the contract holds by these accounts."""
        locked = self.staked + self.bonded + self.deposited
        return self.escrowed + locked + self.credited.total()

    def process(self, event: FederationEvent) -> None:  # noqa: C901 - one case an event
        """Book one event."""
        match event:
            case Funded():
                self.received += event.amount
                self.escrowed += event.amount
            case Joined():
                self.received += event.amount
                self.staked += event.amount
            case Bonded():
                self.received += event.amount
                self.bonded += event.amount
            case Withdrawn():
                self.withdrawn += event.amount
                self.credited[event.account] -= event.amount
            case Paid():
                self.escrowed -= event.amount
                self.credited[event.participant] += event.amount
            case Finalized():
                self.escrowed -= event.fee
                self.credited[event.aggregator] += event.fee
            case Penalized():
                self.staked -= event.amount
                self.escrowed += event.amount
            case AggregatorSlashed():
                self.bonded -= event.amount
                self.escrowed += event.amount
            case ProposalRefuted():
                self.escrowed -= event.reward
                self.credited[event.challenger] += event.reward
            case AvailabilityChallenged():
                self.received += self.deposit
                self.deposited += self.deposit
            case LeafPosted():
                self.deposited -= self.deposit
                self.credited[event.responder] += self.deposit
            case DepositReturned():
                self.deposited -= self.deposit
                self.credited[event.challenger] += self.deposit
            case StakeReleased():
                self.staked -= event.amount
                self.credited[event.participant] += event.amount
            case Unbonded():
                self.bonded -= event.amount
                self.credited[event.aggregator] += event.amount
            case Refunded():
                self.escrowed -= event.amount
                self.credited[event.sponsor] += event.amount


def count_tokens(events: Iterable[FederationEvent], deposit: TokenUnits) -> Accounts:
    """Return where every token unit is after `events`; a demand takes `deposit`."""
    accounts = Accounts(deposit)
    for event in events:
        accounts.process(event)
    return accounts


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


def check_tokens(accounts: Accounts, holdings: Holdings) -> Iterator[Verified]:
    """Yield whether the events add up, and whether contract and token agree with them."""
    claim = "tokens in = credited + escrowed + staked + bonded + deposited + withdrawn"
    adds_up = accounts.received == accounts.held + accounts.withdrawn
    yield Verified("§9", None, claim, adds_up, f"{accounts.received:,} token units came in")
    claim = "the contract holds what its events say"
    detail = f"{holdings.balance:,} token units, {accounts.held:,} by the events"
    yield Verified("§9", None, claim, holdings.balance >= accounts.held, detail)
    claim = (
        f"escrow, deposits and the credit of {len(accounts.credited)} accounts are as the events"
        " say"
    )
    yield Verified("§9", None, claim, holdings.agree_with(accounts), "")
