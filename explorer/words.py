"""Events as sentences, for the timeline of a round.

An event that has no sentence here is told by its name and its fields, so that a contract that says
more than this page knows of is still shown whole.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from chain import events as ev
from chain.events import FederationEvent
from protocol.types import Address, format_tokens

# The first of these that an event has is who acted.
_ACTORS: Final = (
    *("participant", "challenger", "responder", "aggregator", "previous", "who", "account"),
    *("funder", "sponsor", "helper"),
)
_PLACE: Final = frozenset({"block_number", "block_hash", "transaction_hash", "log_index", "round"})


@dataclass(frozen=True)
class Told:
    """An event in words: its name, who acted where somebody did, and what happened."""

    name: str
    who: Address | None
    text: str


def tell(event: FederationEvent) -> Told:
    """Return an event in words."""
    fields = {name: value for name, value in dict(event).items() if name not in _PLACE}
    actor = next((name for name in _ACTORS if name in fields), None)
    text = _sentence(event)
    if text is None:
        text = ", ".join(
            f"{name.replace('_', ' ')} {_shown(value)}"
            for name, value in fields.items()
            if name != actor
        )
    name = re.sub(r"(?<!^)(?=[A-Z])", " ", type(event).__name__).capitalize()
    return Told(name, fields[actor] if actor else None, text)


def short(text: str) -> str:
    """Return a long identifier by its ends: 0x5FbD…0aa3."""
    return text if len(text) <= 13 else f"{text[:6]}…{text[-4:]}"


def _sentence(event: FederationEvent) -> str | None:  # noqa: C901 - one case per event
    match event:
        case ev.RoundOpened():
            return f"opened the round: {event.active} seats can be drawn"
        case ev.SeedFixed():
            return f"the seed was fixed, and with it who is asked: {short('0x' + event.seed.hex())}"
        case ev.Committed():
            return "committed to an update that nobody else can see yet"
        case ev.Revealed():
            return f"revealed its update, of {event.examples:,} examples by its own word"
        case ev.Proposed():
            accepted = sum(verdict.is_accepted for verdict in event.verdicts)
            return (
                f"proposed model {short('0x' + event.root.hex())}:"
                f" {accepted} of {len(event.verdicts)} updates accepted"
            )
        case ev.Paid():
            return f"was credited {format_tokens(event.amount)} tokens for its update"
        case ev.Finalized():
            return (
                f"the model is settled: {format_tokens(event.paid)} tokens paid, of which"
                f" {format_tokens(event.fee)} are the aggregator's fee"
            )
        case ev.Abandoned():
            return "the round ended without a model"
        case ev.Penalized():
            taken = f"{format_tokens(event.amount)} tokens of its stake were burned"
            return f"committed and did not reveal: {taken}"
        case ev.AggregatorSlashed():
            return f"lost its bond of {format_tokens(event.amount)} tokens"
        case ev.AggregatorReplaced():
            return f"was replaced by {short(event.current)}"
        case ev.ProposalRefuted():
            return (
                f"proved the proposal of {short(event.aggregator)} wrong: it is void, and"
                f" {format_tokens(event.reward)} tokens of the bond are the challenger's"
            )
        case ev.LeafRequested():
            kind = "the proposed model" if event.is_model else "an accepted update"
            return f"requested leaf {event.leaf:,} of {kind}"
        case ev.LeafPosted():
            return f"posted leaf {event.leaf:,}, {len(event.values):,} bytes, with its proof"
        case ev.DepositReturned():
            return f"got the deposit for leaf {event.leaf:,} back"
    return None


def _shown(value: Any) -> str:
    """Return any field's value in a few characters."""
    if isinstance(value, bytes):
        return short("0x" + value.hex())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple | list):
        return f"of {len(value):,}"
    return short(str(value))
