"""All pages about one federation as files: what `audit run --report FOLDER` writes.

    write_pages(following, audit, folder)

They are the explorer's pages, rendered once: index.html, round-3.html, participant-0x….html,
model-3.html and audit.html, each with its twin in JSON. A page is one file that loads nothing, with
dates in place of "4 minutes ago"; links lead from file to file.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from auditor.findings import Findings
from chain.history import History
from explorer.audit_facts import audit_facts
from explorer.audits import FederationAudit, RoundAudit
from explorer.facts import Subject
from explorer.federation_facts import federation_facts
from explorer.following import Following
from explorer.model_facts import model_after, model_facts
from explorer.pages import render_still
from explorer.participant_facts import participant_facts
from explorer.round_facts import round_facts
from protocol.types import Address, RoundId
from storage.files import write_atomically

_FIRST_VIEW_S: Final = 60.0
_DOCUMENT_S: Final = 10.0
_TIMES_S: Final = 120.0  # for the times of all blocks with an event, each asked for once
# What templates write in an attribute. Text of strangers has its quotes escaped, and cannot match.
_LINK: Final = re.compile(r'(href|src)="(/[^"]*)"')


def audit_of(findings: Findings) -> FederationAudit:
    """Return what `auditor.findings.collect` collected, as pages have it."""
    made_at = findings.made_at.timestamp()
    rounds = {
        found.history.round_id: RoundAudit(
            found.history, found.checks, findings.block, made_at, found.from_cache
        )
        for found in findings.rounds
    }
    return FederationAudit(
        standing="done",
        general=tuple(check for check in findings.checks if check.round_id is None),
        rounds=rounds,
        block=findings.block,
        made_at=made_at,
        done=len(rounds),
        planned=len(rounds),
    )


def write_pages(following: Following, audit: FederationAudit, folder: Path) -> int:
    """Write all pages about a federation that is followed, and return how many.

    Raises Unavailable when the node or the store does not answer, and OSError for the disk.
    """
    view = following.view(_FIRST_VIEW_S)
    following.times.of(view.history.events, _TIMES_S)
    following.await_documents(_DOCUMENT_S)
    subject = Subject(following, view, audit, following.spec())
    count = 0
    for path, template, facts in _pages(subject):
        text = render_still(template, {**facts, "path": path, "version": None})
        name = folder / file_of(path)
        text = _LINK.sub(lambda found: f'{found[1]}="{file_of(found[2])}"', text)
        write_atomically(name, text.encode())
        write_atomically(name.with_suffix(".json"), json.dumps(facts).encode())
        count += 1
    return count


def _pages(subject: Subject) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield path, template and facts of each page, with whole tables."""
    view = subject.view
    numbers = list(view.history.rounds)
    here, most = f"/federations/{view.address}", len(numbers) + 1
    yield here, "federation.html", federation_facts(subject, most=most)
    yield f"{here}/audit", "audit.html", audit_facts(subject, is_enabled=True, most=most)
    for number in numbers:
        yield f"{here}/rounds/{number}", "round.html", round_facts(subject, number)
    for number in (RoundId(0), *numbers):
        if model_after(subject, number) is not None:
            facts = model_facts(subject, number, can_export=False)
            yield f"{here}/models/{number}", "model.html", facts
    for who in accounts_in(view.history, view.sponsor, *view.aggregators):
        facts = participant_facts(subject, who, most=most)
        yield f"{here}/participants/{who}", "participant.html", facts


def accounts_in(history: History, *others: Address) -> list[Address]:
    """Return all accounts that pages link to: whoever an event names, and `others`."""
    found = set(others)
    for event in history.events:
        for name, value in event:
            if isinstance(value, str) and name != "whereabouts":
                found.add(Address(value))
    return sorted(found)


def file_of(path: str) -> str:
    """Return the name of the file of a page, given its path on the server."""
    ending = ".json" if path.endswith(".json") else ".html"
    parts = path.removesuffix(".json").partition("?")[0].strip("/").split("/")[2:]
    kinds = {"rounds": "round", "participants": "participant", "models": "model"}
    if not parts:
        return f"index{ending}"
    return "-".join([kinds.get(parts[0], parts[0]), *parts[1:]]) + ending
