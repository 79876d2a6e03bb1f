"""An audit as one page of HTML: to be read, printed and kept.

    path.write_text(render(findings))

The page is auditor/templates/audit.html. It quotes manifests and daemons of strangers, so every
value is escaped: non-printable characters by `printable`, then markup by Jinja's autoescape. Only
the template itself is markup, and no value is marked safe.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor.findings import Findings, RoundFinding, token_totals
from chain.events import Revealed
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.text import printable
from protocol.types import Address
from protocol.verdict import FULL_SCORE, Verdict


@dataclass(frozen=True)
class ParticipantRow:
    """What one participant did in a round, and was paid in token units."""

    address: Address
    was_asked: bool
    has_committed: bool
    revealed: Revealed | None
    verdict: Verdict | None
    paid: int


def render(findings: Findings) -> str:
    """Return the page."""
    credited = findings.accounts.credited
    return _TEMPLATE.render(
        audit=findings,
        made_at=findings.made_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        totals=token_totals(findings.accounts),
        # In the order in which the contract compares addresses, whatever case they are written in.
        credited=[(who, credited[who]) for who in sorted(credited, key=_number) if credited[who]],
        check_names={check.value: check.name.lower().replace("_", " ") for check in Check},
        full_score=FULL_SCORE,
    )


def participant_rows(found: RoundFinding) -> Iterator[ParticipantRow]:
    """Yield a row for everybody who was asked, or who committed without being asked."""
    history = found.history
    committed = {event.participant for event in history.committed}
    revealed = {event.participant: event for event in history.revealed}
    paid = {event.participant: event.amount for event in history.paid}
    verdicts = {v.participant: v for v in (history.proposed.verdicts if history.proposed else ())}
    # As in the average, docs/protocol.md §7: ascending by the address as a number.
    for who in sorted(found.asked | committed, key=_number):
        yield ParticipantRow(
            address=who,
            was_asked=who in found.asked,
            has_committed=who in committed,
            revealed=revealed.get(who),
            verdict=verdicts.get(who),
            paid=paid.get(who, 0),
        )


def _number(address: Address) -> int:
    return int(address, 16)


def _finalize(value: object) -> object:
    """Escape what is not printable in a value; autoescape then escapes its markup."""
    # Markup comes from the template's own macros, whose values were escaped inside them.
    return value if isinstance(value, Markup) else printable(str(value))


# StrictUndefined: a name misspelt in the template is an error, not an empty cell of an audit.
_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("auditor"),
    autoescape=True,
    finalize=_finalize,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(
    thousands="{:,}".format,
    cid=raw_cid,
    participants=lambda found: list(participant_rows(found)),
    kind_of=lambda event: type(event).__name__,
)
_TEMPLATE: Final = _ENVIRONMENT.get_template("audit.html")
