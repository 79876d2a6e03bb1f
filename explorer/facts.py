"""What every page says of a federation beside its subject, and where figures come from.

The functions of explorer/*_facts.py return JSON values: a page is drawn from the very object that
its JSON twin is. Amounts are in token units, times in Unix seconds, digests in hex.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chain.events import FederationEvent
from chain.history import RoundHistory
from chain.records import Model
from explorer.audits import FederationAudit, RoundAudit
from explorer.following import Following, View
from explorer.words import tell
from protocol.cid import raw_cid
from protocol.spec import Spec
from protocol.types import Address

Origin = Literal["chain", "recomputed", "differs", "claimed"]
ORIGINS: Final[Mapping[Origin, tuple[str, str]]] = {
    "chain": (
        "by the chain",
        "what the contract and its events say, as this machine's Ethereum node shows them",
    ),
    "recomputed": (
        "recomputed here",
        "this machine came to the same figure, from the chain and the bytes in the store",
    ),
    "differs": (
        "differs here",
        "this machine came to another figure, or could not come to one: see the audit",
    ),
    "claimed": ("only claimed", "somebody says so, and nobody can check it"),
}
"""Where a figure comes from: a few words, and what they mean."""


@dataclass(frozen=True)
class Subject:
    """All that pages of one federation are made of."""

    following: Following
    view: View
    audit: FederationAudit
    spec: Spec | None

    def name_of(self, who: Address) -> str | None:
        """Return this machine's own name for an account, None where it has none."""
        return self.following.notes.names.get(who)

    def person(self, who: Address) -> dict[str, Any]:
        """Return an account with this machine's name for it."""
        return {"address": who, "name": self.name_of(who)}


def head(subject: Subject) -> dict[str, Any]:
    """Return what is at the head of each page."""
    view = subject.view
    return {
        "federation": view.address,
        "chain_id": view.now.chain_id,
        "block": view.block,
        "time": view.clock,
        "here": time.time(),
        "trouble": view.trouble,
        "symbol": view.symbol,
        "state": state_of(view),
        "phase": dict(view.phase),
        "rounds_opened": len(view.history.rounds),
        "rounds": view.terms.seats.rounds,
        "base_model": subject.spec.base_model.name if subject.spec else None,
    }


def state_of(view: View) -> str:
    """Return whether a federation is open, closed by its sponsor, or over."""
    return "over" if view.is_over else "closed" if view.is_closed else "open"


def model_as_json(model: Model, round_id: int) -> dict[str, Any]:
    """Return a model as the chain names it, after round `round_id`."""
    return {"round": round_id, "root": model.root.hex(), "cid": raw_cid(model.manifest)}


def origin_of(audited: RoundAudit | None) -> Origin:
    """Return where the figures of a round come from."""
    # Before there is a proposal, nothing that an audit recomputes is shown.
    if audited is None or not (audited.told.proposed or audited.told.ended):
        return "chain"
    return "recomputed" if audited.result == "passed" else "differs"


def deadlines(told: RoundHistory) -> dict[str, int]:
    """Return the deadlines that a round's events have named, by phase; a later event's counts."""
    return {
        name.removesuffix("_deadline"): value
        for event in told.events
        for name, value in dict(event).items()
        if name.endswith("_deadline") and value
    }


def timeline(
    subject: Subject, events: Sequence[FederationEvent], *, join_payments: bool = False
) -> list[dict[str, Any]]:
    """Return events in chain order as rows, with their times as far as these are known.

    `join_payments` makes one row of all payments of a transaction.
    """
    times = subject.following.times.of(events)
    rows: list[dict[str, Any]] = []
    for event in events:
        told, transaction = tell(event), "0x" + event.transaction_hash.hex()
        last = rows[-1] if rows else {}
        same = (last.get("event"), last.get("transaction")) == (told.name, transaction)
        if join_payments and told.name == "Paid" and same:
            last["count"] += 1
            last["amount"] += getattr(event, "amount", 0)
            continue
        rows.append(
            {
                "event": told.name,
                "who": None if told.who is None else subject.person(told.who),
                "text": told.text,
                "count": 1,
                "amount": getattr(event, "amount", 0),
                "block": event.block_number,
                "time": times.get(event.block_number),
                "transaction": transaction,
            }
        )
    return rows
