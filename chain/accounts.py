"""Where a federation's tokens are, computed from its events alone (docs/protocol.md §9).

in = credited + escrowed + staked + bonded + deposited + withdrawn + burned
"""

from collections import Counter
from dataclasses import dataclass, field

from chain.events import (
    AggregatorSlashed,
    Bonded,
    DepositReturned,
    FederationEvent,
    Finalized,
    Funded,
    Joined,
    LeafPosted,
    LeafRequested,
    Paid,
    Penalized,
    ProposalRefuted,
    Refunded,
    StakeReleased,
    Unbonded,
    Withdrawn,
)
from protocol.types import Address


@dataclass
class Accounts:
    """Balances in token units; a leaf request takes `deposit`."""

    deposit: int = 0
    received: int = 0
    escrowed: int = 0
    staked: int = 0
    bonded: int = 0
    deposited: int = 0
    withdrawn: int = 0
    burned: int = 0
    credited: Counter[Address] = field(default_factory=Counter)

    @property
    def held(self) -> int:
        """What the contract should hold."""
        # What is burned stays in the contract, out of everybody's reach.
        locked = self.staked + self.bonded + self.deposited + self.burned
        return self.escrowed + locked + self.credited.total()

    def book(self, event: FederationEvent) -> None:  # noqa: C901 - one case per event
        """Book one event."""
        # Each case moves an amount from one account to another, or in or out, as the contract does.
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
                # The fee alone: `paid` includes the updates, which have Paid events of their own.
                self.escrowed -= event.fee
                self.credited[event.aggregator] += event.fee
            case Penalized():
                self.staked -= event.amount
                self.burned += event.amount
            case AggregatorSlashed():
                self.bonded -= event.amount
                self.burned += event.amount
            case ProposalRefuted():
                # AggregatorSlashed has booked the whole bond as burned just before.
                self.burned -= event.reward
                self.credited[event.challenger] += event.reward
            case LeafRequested():
                # Its event has no amount: every request takes the deposit of the terms.
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
