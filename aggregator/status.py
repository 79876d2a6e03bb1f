"""An aggregator's state in plain words: what it does, what it earned, what is left to pay with."""

from collections.abc import Callable
from typing import Any

from chain.events import AggregatorSlashed, Finalized
from contracts.enums import AggregatorState
from protocol.types import format_tokens
from runtime.settings import RoleSettings
from runtime.status import describe_process, describe_round, open_federation, print_process


def aggregator_status(settings: RoleSettings) -> dict[str, Any]:
    """Return an aggregator's state as JSON values; amounts in token units."""
    federation, address = open_federation(settings)
    events = federation.history().events
    finalized = [e for e in events if isinstance(e, Finalized) and e.aggregator == address]
    lost = [e for e in events if isinstance(e, AggregatorSlashed) and e.aggregator == address]
    terms, newest = federation.terms(), federation.round_count()
    state = federation.aggregator_state(address)
    return {
        "aggregator": address,
        **describe_process(settings),
        "federation": federation.address,
        "state": state.name.lower(),
        "leads": federation.current_aggregator() == address,
        # The contract keeps a state, not an amount: whoever is bonded has posted the whole bond.
        "bond": terms.money.aggregator_bond if state is AggregatorState.BONDED else 0,
        "bond_lost": sum(e.amount for e in lost),
        "earned": sum(e.fee for e in finalized),
        "credit": federation.credit_of(address),
        "escrow": federation.escrow(),
        # Full rounds: one opens only when the price of all of its seats is in escrow.
        "rounds_paid_for": federation.escrow() // terms.round_cost if terms.round_cost else None,
        "rounds_left": terms.seats.rounds - newest,
        "active_participants": federation.active_count(),
        "settled": [e.round for e in finalized],
        "now": describe_round(federation, newest, None),
    }


def print_aggregator(status: dict[str, Any], line: Callable[[str], object]) -> None:
    """Print an aggregator's state through `line`, which prints one line."""
    leads = "leads" if status["leads"] else "stands by"
    line(f"aggregator   {status['aggregator']}, {status['state']}, {leads}")
    print_process(status, line)
    line(
        f"money        {format_tokens(status['earned'])} earned,"
        f" {format_tokens(status['credit'])} to withdraw;"
        f" {format_tokens(status['bond'])} bonded, {format_tokens(status['bond_lost'])} lost"
    )
    line(
        f"federation   {status['rounds_left']} rounds to come, escrow for"
        f" {status['rounds_paid_for']}; {status['active_participants']} participants"
    )
    line(f"settled      {', '.join(str(n) for n in status['settled']) or 'no round yet'}")
