"""What a role reports, in the words of the demo's plain lines."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.filesize import decimal

from explorer.words import short
from protocol.types import format_tokens
from runtime.events import (
    AggregationError,
    Announcing,
    DataRead,
    DeployingContract,
    Evaluated,
    Event,
    Joined,
    SetSealed,
    TriedOut,
)

Names = Mapping[str, str]
"""Participants' names by address, which only this machine knows."""


def describe(event: Event, names: Names) -> str:
    """Return an event's facts as a person reads them, without its phase and round."""
    said = _SENTENCES.get(type(event))
    if said is not None:
        return said(event)
    parts = (_part(name, value, names) for name, value in event.facts().items())
    return ", ".join(part for part in parts if part)


def _part(name: str, value: Any, names: Names) -> str:
    if value in ("", None) or name in _LEFT_OUT:
        return ""
    if name in _FACTS:
        return _FACTS[name](value)
    shown = str(value)
    if _IDENTIFIER.fullmatch(shown):
        shown = names.get(shown, short(shown))
    # A reason is a sentence, and a participant its name.
    return shown if name in _SPEAKS_FOR_ITSELF else f"{name.replace('_', ' ')} {shown}"


def _data(event: DataRead) -> str:
    kept = f"{event.training} examples to train on"
    less = {
        "dropped": sum(event.dropped.values()),
        "twice": event.duplicates,
        "in the held-out set": event.in_held_out,
        "kept back to validate": event.validation,
        "cut": event.truncated,
        "too long": event.left_out,
        "repaired": event.repaired,
    }
    return ", ".join([kept, *(f"{count} {what}" for what, count in less.items() if count)])


def _needs(event: Announcing) -> str:
    return f"{decimal(event.disk_bytes)} of disk, {decimal(event.memory_bytes)} of memory"


def _tried(event: TriedOut) -> str:
    return (
        f"a step of 2^-{event.grid} suits, loss {event.loss_before:.4f} to {event.loss_after:.4f}"
    )


_IDENTIFIER: Final = re.compile(r"(0x)?[0-9a-fA-F]{40,}")
_LEFT_OUT: Final = frozenset({"round", "check", "run", "weight", "advice"})
_SPEAKS_FOR_ITSELF: Final = frozenset(
    {"reason", "participant", "silent", "name", "source", "answer", "phase_now"}
)
_FACTS: Final[dict[str, Callable[[Any], str]]] = {
    "gas": lambda gas: f"{gas:,} gas",
    "bytes": decimal,
    "amount": lambda units: f"{format_tokens(units)} tokens",
    "paid": lambda units: f"{format_tokens(units)} tokens",
    "loss": lambda loss: f"loss {loss:.4f}",
    "examples": lambda count: f"{count} examples",
    "updates": lambda count: f"{count} updates",
    "score": lambda points: f"{points / 100:.1f}% of the price",
    "checks": lambda count: f"{count} checks",
    "failed": lambda count: f"{count} failed" if count else "all passed",
}
_SENTENCES: Final[dict[type[Event], Callable[[Any], str]]] = {
    AggregationError: lambda event: f"A and B apart miss BA by {event.total:.1%}",
    Announcing: _needs,
    DataRead: _data,
    DeployingContract: lambda event: f"for {event.layers} layers, {decimal(event.bytes)} an update",
    Evaluated: lambda event: f"held-out loss {event.loss:.4f}",
    Joined: lambda event: event.name or short(event.participant),
    SetSealed: lambda event: f"{event.members} of {event.revealed} updates, {event.gas:,} gas",
    TriedOut: _tried,
}
